"""`mfd background`: what scores look like for variants that are nothing special, so that a score can be called large.

    run/background/DIGEST.parquet    one row per background variant: where it is, and its scores

The file's name is the digest of everything the scores depend on (models, genome, settings): variants are compared with a
background only if it was scored like them. Backgrounds are a VCF of common variants, or random substitutions; those can be
drawn with the trinucleotide contexts of a given VCF, since mutation rates differ a hundredfold between contexts.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mfd_cli.base.arrays import Floats, Ints
from mfd_cli.base.errors import RunError, VariantError
from mfd_cli.base.files import check_output, sha256_of, whole_file
from mfd_cli.base.progress import Progress
from mfd_cli.formats.vcf_reader import open_variants
from mfd_cli.genome.alleles import MISMATCH, Variant
from mfd_cli.genome.grid import evenly
from mfd_cli.genome.sequence import CODES, UNKNOWN, Genome
from mfd_cli.variants.effects import Scorer
from mfd_cli.variants.records import CHUNK, MOST_MISMATCHES, alleles_of

FOLDER = "background"
FEWEST_VARIANTS = 100
"""With fewer, the smallest p-value would be above 0.01."""
DRAWN_PER_WANTED, DRAWN_MORE = 4, 100
"""Random substitutions that one round draws: some fall on unknown bases, on places that are taken, or in other contexts."""
LARGE = 0.99
"""The quantile that a summary tells, so that a user sees what counts as large."""
QUANTILE_FIELDS = {"MFD_MAX_DLOGIT": "MFD_BG_QUANTILE", "MFD_DEBIASED": "MFD_BG_DEBIASED"}
"""Score -> the INFO field with its quantile."""
ROUNDS = 400
"""Draws of random positions before rare contexts are given up."""


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


@dataclass(frozen=True)
class BackgroundSummary:
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
    force: bool = False,
    progress: Progress | None = None,
) -> BackgroundSummary:
    """Score a background set and store it in the run folder.

    `source` is a VCF of common variants (at most `count` of its records, evenly spread, if there are more); otherwise `count`
    random substitutions, with the contexts of the substitutions in `match` if that is given. VariantError for fewer than 100.
    """
    path = folder / FOLDER / f"{settings_digest(scorer, genome_digest)}.parquet"
    check_output(path, force)
    rng, missing = np.random.default_rng(seed), 0
    if source is not None:
        known = known_variants(source, genome)
        variants, origin = [known[i] for i in evenly(len(known), count)], f"variants of {Path(source).name}"
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
    columns = scored(variants, scorer, genome, progress)
    metadata = {"mfd_settings": json.dumps(asdict(scorer.settings)), "mfd_source": origin, "mfd_genome": genome_digest}
    with whole_file(path) as temporary:
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), temporary)
    largest = {name: float(np.quantile(np.abs(columns[name]), LARGE)) for name in scorer.fields}
    return BackgroundSummary(path, len(variants), origin, missing, largest)


def scored(
    variants: Sequence[Variant], scorer: Scorer, genome: Genome, progress: Progress | None
) -> dict[str, NDArray[Any]]:
    """Return the columns of the background file: where each variant is, and every numeric field."""
    pieces = []
    for low in range(0, len(variants), CHUNK):
        chunk = variants[low : low + CHUNK]
        columns = scorer.columns(chunk, genome)
        pieces.append({name: columns[name] for name in scorer.fields})
        if progress:
            progress("scoring background variants", low + len(chunk), len(variants))
    where: dict[str, Any] = {
        "contig": [v.contig for v in variants],
        "position": [v.position for v in variants],
        "ref": [v.ref for v in variants],
        "alt": [v.alt for v in variants],
    }
    return where | {name: np.concatenate([piece[name] for piece in pieces]) for name in scorer.fields}


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


# -- random substitutions ----------------------------------------------------------------------------------------------


class Candidates(NamedTuple):
    """Random substitutions in random order, each (n,): contig number, 0-based place, codes of both bases, context or -1."""

    contig: Ints
    place: Ints
    ref: Ints
    alt: Ints
    context: Ints


def candidates(genome: Genome, count: int, rng: np.random.Generator) -> Candidates:
    """Return at most `count` random substitutions of known bases, all places of the genome being equally likely.

    The first and last base of a contig, which have no context, are left out.
    """
    names, lengths = list(genome.lengths), np.array(list(genome.lengths.values()))
    pieces = []
    for number, share in enumerate(rng.multinomial(count, lengths / lengths.sum()).tolist()):
        if share and lengths[number] > 2:
            places = rng.integers(1, lengths[number] - 1, share)
            ref = CODES[genome.sequences[names[number]][places]].astype(np.int64)
            alt = (ref + rng.integers(1, 4, share)) % 4
            pieces.append((np.full(share, number), places, ref, alt, contexts(genome, names[number], places, alt)))
    columns = [np.concatenate(column) for column in zip(*pieces)] if pieces else [np.zeros(0, np.int64)] * 5
    order = rng.permutation(len(columns[0]))
    order = order[columns[2][order] != UNKNOWN]
    return Candidates(*(column[order] for column in columns))


def draw(genome: Genome, count: int, rng: np.random.Generator) -> list[Variant]:
    """Return `count` random substitutions of known bases at different places; fewer where the genome is too small."""
    return _accepted(genome, count, rng, None)


def draw_like(counts: Counter[int], genome: Genome, count: int, rng: np.random.Generator) -> list[Variant]:
    """Return `count` random substitutions with contexts as frequent as in `counts`; fewer where the genome lacks one.

    Shares are rounded by largest remainder, so that they add up to `count`.
    """
    total = sum(counts.values())
    if not total:
        return []
    exact = {code: count * number / total for code, number in counts.items()}
    wanted = Counter({code: int(share) for code, share in exact.items()})
    for code, _ in sorted(exact.items(), key=lambda item: int(item[1]) - item[1])[: count - sum(wanted.values())]:
        wanted[code] += 1
    return _accepted(genome, count, rng, wanted)


def _accepted(genome: Genome, count: int, rng: np.random.Generator, wanted: Counter[int] | None) -> list[Variant]:
    """Return candidates at different places until there are `count`, or until each context has as many as `wanted`."""
    names, accepted = list(genome.lengths), dict[tuple[int, int], Variant]()
    for _ in range(ROUNDS):
        drawn = candidates(genome, DRAWN_PER_WANTED * count + DRAWN_MORE, rng)
        missing = None if wanted is None else [code for code, number in wanted.items() if number > 0]
        useful = slice(None) if missing is None else np.isin(drawn.context, missing)
        for contig, start, ref, alt, code in zip(*(column[useful].tolist() for column in drawn)):
            if (contig, start) in accepted or len(accepted) == count or (wanted is not None and wanted[code] <= 0):
                continue
            if wanted is not None:
                wanted[code] -= 1
            accepted[contig, start] = Variant(names[contig], start + 1, "ACGT"[ref], "ACGT"[alt])
        if len(accepted) == count:
            break
    return _in_order(list(accepted.values()), genome)


def _in_order(variants: Sequence[Variant], genome: Genome) -> list[Variant]:
    """Return the variants in the order of the genome."""
    order = {name: i for i, name in enumerate(genome.sequences)}
    return sorted(variants, key=lambda v: (order[v.contig], v.position, v.alt))


def contexts(genome: Genome, contig: str, places: Ints, alt: Ints) -> Ints:
    """Return (places,) the context of substitutions as trinucleotide (0 to 63) x 4 + new base; -1 at and next to unknown bases.

    A mutation is seen from either strand, so all are read on the strand where the middle base is C or T: 96 contexts.
    """
    bases = genome.sequences[contig]
    three = np.stack([CODES[bases[places + step]] for step in (-1, 0, 1)]).astype(np.int64)
    known = (three != UNKNOWN).all(0)
    purine = (three[1] == 0) | (three[1] == 2)  # A or G: read on the other strand
    folded = np.where(purine, 3 - three[::-1], three)
    other = np.where(purine, 3 - alt, alt)
    code = (folded[0] * 16 + folded[1] * 4 + folded[2]) * 4 + other
    return np.where(known, code, -1)


def spectrum(variants: Sequence[Variant], genome: Genome) -> Counter[int]:
    """Count the substitutions of one base in each context."""
    counts: Counter[int] = Counter()
    single = [v for v in variants if len(v.ref) == len(v.alt) == 1 and 0 < v.start < genome.lengths[v.contig] - 1]
    for contig in dict.fromkeys(v.contig for v in single):
        own = [v for v in single if v.contig == contig]
        places, alts = np.array([v.start for v in own]), np.array(["ACGT".index(v.alt) for v in own])
        counts.update(contexts(genome, contig, places, alts).tolist())
    counts.pop(-1, None)
    return counts
