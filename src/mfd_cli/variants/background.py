"""`mfd background`: what scores look like for variants that are nothing special, so that a score can be called large.

    run/background/DIGEST.parquet    one row per background variant: where it is, and its scores

The file's name is the digest of everything the scores depend on (models, genome, settings): variants are compared with a
background only if it was scored like them. Backgrounds are a VCF of common variants, or random substitutions; those can be
drawn with the trinucleotide contexts of a given VCF, since mutation rates differ a hundredfold between contexts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mfd_cli.base.arrays import Floats
from mfd_cli.base.errors import RunError, VariantError
from mfd_cli.base.files import sha256_of, whole_file
from mfd_cli.base.notebook import Told
from mfd_cli.base.progress import Progress
from mfd_cli.base.urls import name_of
from mfd_cli.engine.jobs import HERE, Piece, Workplace, at_work
from mfd_cli.engine.parts import Columns
from mfd_cli.formats.vcf_reader import open_variants
from mfd_cli.genome.alleles import MISMATCH, Variant
from mfd_cli.genome.grid import evenly
from mfd_cli.genome.sequence import Genome
from mfd_cli.variants.random_substitutions import draw, draw_like, spectrum
from mfd_cli.variants.records import CHUNK, MOST_MISMATCHES, alleles_of
from mfd_cli.variants.score_job import score_job, scored_variants
from mfd_cli.variants.scorer import Scorer

FOLDER = "background"
FEWEST_VARIANTS = 100
"""With fewer, the smallest p-value would be above 0.01."""
LARGE = 0.99
"""The quantile that a summary tells, so that a user sees what counts as large."""
QUANTILE_FIELDS = {"MFD_MAX_DLOGIT": "MFD_BG_QUANTILE", "MFD_DEBIASED": "MFD_BG_DEBIASED"}
"""Score -> the INFO field with its quantile."""


@dataclass(frozen=True)
class Background:
    """Scores of variants that are nothing special, to compare others with.

    `sizes`: their absolute scores per field, sorted. `digest` is of the file, `source` says in words what they are.
    """

    digest: str
    sizes: Mapping[str, Floats]
    source: str = ""

    def __str__(self) -> str:
        return f"{self.source}, {self.count} variants, {self.digest}"

    @property
    def count(self) -> int:
        """Return how many variants there are."""
        return len(next(iter(self.sizes.values())))

    @property
    def smallest_p(self) -> float:
        """Return the smallest p-value that a background of this size can give."""
        return 1 / (self.count + 1)

    def quantiles(self, field: str, values: Floats) -> Floats:
        """Return the share of background variants whose score is smaller in size, (alleles,); ties count half."""
        sizes = self.sizes[field]
        below, up_to = (np.searchsorted(sizes, np.abs(values), side) for side in ("left", "right"))
        return ((below + up_to) / (2 * len(sizes))).astype(np.float32)

    def p_values(self, field: str, values: Floats) -> Floats:
        """Return one-sided empirical p (alleles,): (1 + background variants at least as large) / (1 + background variants).

        The variant itself counts among them, so that no p is 0 (Phipson and Smyth 2010).
        """
        sizes = self.sizes[field]
        above = len(sizes) - np.searchsorted(sizes, np.abs(values), "left")
        return ((1 + above) / (1 + len(sizes))).astype(np.float32)

    def columns(self, scores: Mapping[str, Any]) -> dict[str, Floats]:
        """Return quantile and p-value columns for columns of scores."""
        result = {}
        for field in self.sizes:
            name = QUANTILE_FIELDS.get(field, f"quantile.{field}")
            result[name] = self.quantiles(field, scores[field])
            result[f"p.{field}"] = self.p_values(field, scores[field])
        return result

    @property
    def column_names(self) -> list[str]:
        """Return the names of `columns`, in order."""
        return [
            name for field in self.sizes for name in (QUANTILE_FIELDS.get(field, f"quantile.{field}"), f"p.{field}")
        ]


@dataclass(frozen=True, repr=False)
class BackgroundSummary(Told):
    """What was scored, and where it lies."""

    path: Path
    variants: int
    source: str
    missing: int
    largest: Mapping[str, float]

    def lines(self) -> list[str]:
        """Return the summary as lines for the terminal."""
        short = f"; {self.missing:,} more could not be drawn (rare contexts)" if self.missing else ""
        return [
            f"{self.variants:,} background variants ({self.source}){short}; smallest p-value {1 / (self.variants + 1):.2g}",
            *(f"{name}: 99 % are below {value:.4g}" for name, value in self.largest.items()),
            f"wrote {self.path}; mfd score-variants uses it from now on",
        ]


def settings_digest(scorer: Scorer, genome_digest: str) -> str:
    """Return a digest that names everything that scores depend on besides the variant."""
    basis = {"models": [run.digest for run in scorer.runs], "genome": genome_digest, **asdict(scorer.settings)}
    return hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()[:16]


def find_background(folder: Path, scorer: Scorer, genome_digest: str) -> tuple[Background | None, str]:
    """Return the background that was scored with the same settings, if there is one, and a remark if there are others only."""
    digest = settings_digest(scorer, genome_digest)
    path = folder / FOLDER / f"{digest}.parquet"
    if path.is_file():
        return read_background(path, scorer.fields), ""
    if any((folder / FOLDER).glob("*.parquet")):
        return None, "there is a background, but it was scored with other settings or another genome: no quantiles"
    return None, ""


def read_background(path: Path, fields: Sequence[str]) -> Background:
    """Read a background file. RunError where it is damaged or empty."""
    try:
        table = pq.read_table(path, columns=list(fields))
        sizes = {name: np.sort(np.abs(table[name].to_numpy())) for name in fields}
        source = (table.schema.metadata or {}).get(b"mfd_source", b"").decode("utf-8", "replace")
    except (pa.ArrowException, OSError, KeyError) as error:
        raise RunError("is damaged", path=path, hint="mfd background --force makes it again") from error
    if not len(table):
        raise RunError("is empty", path=path, hint="mfd background --force makes it again")
    return Background(sha256_of(path)[:16], sizes, source)


def background(
    scorer: Scorer,
    genome: Genome,
    genome_digest: str,
    folder: Path,
    *,
    source: str | Path | None = None,
    count: int = 20_000,
    match: str | Path | None = None,
    seed: int = 0,
    workplace: Workplace = HERE,
    force: bool = False,
    progress: Progress | None = None,
) -> BackgroundSummary:
    """Score a background set and store it in the run folder. `workplace` says where pieces of it are scored.

    `source` is a VCF of common variants (at most `count` of its records, evenly spread, if there are more); otherwise `count`
    random substitutions, with the contexts of the substitutions in `match` if that is given. VariantError for fewer than 100.
    """
    path = folder / FOLDER / f"{settings_digest(scorer, genome_digest)}.parquet"
    workplace.check_result(path, force)
    rng, missing = np.random.default_rng(seed), 0
    if source is not None:
        known = known_variants(source, genome)
        variants, origin = [known[i] for i in evenly(len(known), count)], f"variants of {name_of(source)}"
    elif match is not None:
        variants = draw_like(spectrum(known_variants(match, genome), genome), genome, count, rng)
        missing, origin = count - len(variants), f"random substitutions in the contexts of {Path(match).name}"
    else:
        variants, origin = draw(genome, count, rng), "random substitutions"
    if len(variants) < FEWEST_VARIANTS:
        raise VariantError(
            f"{len(variants)} background variants are too few, {FEWEST_VARIANTS} are needed",
            path=source or match or genome.source,
        )
    pieces = pieces_of(variants)
    with at_work(
        score_job(scorer, genome, False), partial(scored_variants, scorer, genome, False), path, workplace
    ) as work:
        if workplace.shard is not None:
            work.make_shard(path, pieces)
        columns = columns_of(variants, scorer.fields, work.parts_of((piece, piece) for piece in pieces), progress)
    metadata = {"mfd_settings": json.dumps(asdict(scorer.settings)), "mfd_source": origin, "mfd_genome": genome_digest}
    with whole_file(path) as temporary:
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), temporary)
    largest = {name: float(np.quantile(np.abs(columns[name]), LARGE)) for name in scorer.fields}
    return BackgroundSummary(path, len(variants), origin, missing, largest)


def pieces_of(variants: Sequence[Variant]) -> list[Piece]:
    """Return background variants in pieces of CHUNK."""
    pieces = []
    for low in range(0, len(variants), CHUNK):
        own = variants[low : low + CHUNK]
        pieces.append(
            Piece(own, "\n".join(map(str, own)), f"background variants {low + 1:,}-{low + len(own):,}", len(own))
        )
    return pieces


def columns_of(
    variants: Sequence[Variant],
    fields: Sequence[str],
    scored: Iterable[tuple[Piece, Columns]],
    progress: Progress | None,
) -> dict[str, NDArray[Any]]:
    """Return the columns of the background file: where each variant is, and every numeric field."""
    scores, done = [], 0
    for piece, columns in scored:
        scores.append({name: columns[name] for name in fields})
        done += piece.size
        if progress:
            progress("scoring background variants", done, len(variants))
    where: dict[str, Any] = {
        "contig": [v.contig for v in variants],
        "position": [v.position for v in variants],
        "ref": [v.ref for v in variants],
        "alt": [v.alt for v in variants],
    }
    return where | {name: np.concatenate([columns[name] for columns in scores]) for name in fields}


def known_variants(source: str | Path, genome: Genome) -> list[Variant]:
    """Return the different alleles of a file that can be scored, normalised. VariantError where the file belongs to another
    assembly."""
    distinct: dict[Variant, None] = {}  # a set that keeps the order
    wrong = 0
    with open_variants(source) as variants:
        for record in variants.records:
            for allele in alleles_of(record, genome):
                wrong += allele.reason is not None and allele.reason.startswith(MISMATCH)
                if allele.variant is not None:
                    distinct[allele.variant] = None
    if wrong > MOST_MISMATCHES * (wrong + len(distinct)):
        raise VariantError(
            f"{wrong:,} of {wrong + len(distinct):,} reference alleles are not in the genome",
            path=source,
            hint="the file belongs to another assembly",
        )
    return list(distinct)
