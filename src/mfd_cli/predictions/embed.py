"""`mfd embed`: regions as latents with names, for whatever is to be learnt from them.

One row per interval of a BED file: line, contig, start, end, name, gc, and `GROUP.0`, `GROUP.1` ... for the subspace of every
group, or `latent.0`, `latent.1` ... where all groups act on the whole latent. An AnnData file has the same: a row per interval,
a column per latent, with the groups that act on it. The latent of an interval is the mean (or the largest value, sign kept)
over the 128-bp bins that cover it, which are centred on it; an interval of 128 bp or less is one bin. Both strands averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from mfd_cli import __version__
from mfd_cli.base.arrays import Floats, Ints
from mfd_cli.base.errors import RegionError
from mfd_cli.base.files import whole_files
from mfd_cli.base.notebook import Told
from mfd_cli.base.progress import Progress
from mfd_cli.core.predictor import Predictor
from mfd_cli.engine.jobs import HERE, Piece, Workplace, at_work
from mfd_cli.engine.parts import Columns
from mfd_cli.formats.bed import read_intervals, read_names
from mfd_cli.formats.h5ad import H5adRows, check_h5ad
from mfd_cli.formats.tables import ParquetRows, parquet_name
from mfd_cli.formats.text import standard_input_as_file
from mfd_cli.genome.grid import covering_bins
from mfd_cli.genome.intervals import is_region, parse_region
from mfd_cli.genome.sequence import Genome, gc_share, match_contigs
from mfd_cli.runs.folder import Run
from mfd_cli.runs.sources import Sources

Aggregate = Literal["mean", "max"]
WHERE = [
    ("line", pa.int64()),
    ("contig", pa.string()),
    ("start", pa.int64()),
    ("end", pa.int64()),
    ("name", pa.string()),
    ("gc", pa.float32()),
]
"""The columns that say what an interval is, with their types."""
REGIONS_AT_ONCE = 1024
"""Intervals whose windows are held in memory together."""


@dataclass(frozen=True, repr=False)
class EmbedSummary(Told):
    """What was written."""

    path: Path
    regions: int
    left_out: int
    latents: int
    h5ad: Path | None = None

    def lines(self) -> list[str]:
        """Return the summary as lines for the terminal."""
        left_out = f"; {self.left_out:,} on contigs that the genome lacks left out" if self.left_out else ""
        files = [path for path in (self.path, self.h5ad) if path is not None]
        return [
            f"{self.regions:,} regions, {self.latents} latents each{left_out}",
            *(f"wrote {file}" for file in files),
        ]


@dataclass(frozen=True)
class EmbeddedRegions:
    """Intervals on the genome in the order of the file: contig names, starts, ends, lines, and names (empty for none)."""

    contig: list[str]
    start: Ints
    end: Ints
    line: Ints
    name: list[str]

    def columns(self, part: slice) -> dict[str, Any]:
        """Return where some of the intervals are, and what they are called, as columns."""
        return {
            "line": self.line[part],
            "contig": self.contig[part],
            "start": self.start[part],
            "end": self.end[part],
            "name": self.name[part],
        }

    def pieces(self) -> list[Piece]:
        """Return the intervals as pieces of work: contigs, starts and ends of some of them."""
        pieces = []
        for low in range(0, len(self.contig), REGIONS_AT_ONCE):
            part = slice(low, low + REGIONS_AT_ONCE)
            own = self.contig[part], self.start[part].tolist(), self.end[part].tolist()
            key = "\n".join(f"{contig}:{start}-{end}" for contig, start, end in zip(*own))
            lines = self.line[part]
            pieces.append(Piece(own, key, f"lines {lines[0]}-{lines[-1]}", len(lines)))
        return pieces


@dataclass(frozen=True)
class EmbedJob:
    """Latents of regions as work in pieces."""

    sources: Sources
    aggregate: Aggregate
    device: str
    batch_size: int

    @property
    def plan(self) -> Mapping[str, Any]:
        """Return what latents depend on besides the regions."""
        return self.sources.plan(self.device, **{"aggregate": self.aggregate, "batch size": self.batch_size})

    def start(self, device: str) -> Callable[[Any], Columns]:
        """Open model and genome and return what embeds a piece."""
        runs, genome = self.sources.open()
        return partial(embedded, Predictor(runs[0].model, device, self.batch_size), genome, self.aggregate)


def embed(
    run: Run,
    genome: Genome,
    regions: Path | str,
    output: Path,
    *,
    aggregate: Aggregate = "mean",
    h5ad: Path | None = None,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    workplace: Workplace = HERE,
    force: bool = False,
    progress: Progress | None = None,
) -> EmbedSummary:
    """Write the latents of the intervals of a BED file, of standard input (`-`), or of one region such as `chr1:1001-2000`.

    They go to the Parquet file `output` and, where it is named, to the AnnData file `h5ad` too. `workplace` says where they are
    made. RegionError where an interval is broken or ends beyond its contig.
    """
    files = [path for path in (parquet_name(output), check_h5ad(h5ad)) if path is not None]
    for path in files:
        workplace.check_result(path, force)
    chosen, left_out = embedded_regions(regions, genome)
    pieces = chosen.pieces()
    predictor = Predictor(run.model, device, batch_size)
    names = latent_names(run)
    about = {"mfd_model": run.digest, "aggregate": aggregate}
    schema = pa.schema([*WHERE, *((name, pa.float32()) for name in names)], metadata=about)
    job = EmbedJob(Sources.of(run, genome), aggregate, str(device), batch_size)
    with at_work(job, partial(embedded, predictor, genome, aggregate), output, workplace) as work:
        if workplace.shard is not None:
            work.make_shard(output, pieces)
        with (
            whole_files(*files) as temporary,
            ParquetRows(temporary[0], schema, 4) as table,
            latents_file(temporary[1] if h5ad is not None else None, run, genome, aggregate) as matrix,
        ):
            done = 0
            for piece, made in work.parts_of((piece, piece) for piece in pieces):
                part = slice(done, done + piece.size)
                done += piece.size
                rows = chosen.columns(part) | {"gc": made["gc"]}
                latents = [made[str(number)] for number in range(len(names))]
                table.write(rows | dict(zip(names, latents)))
                matrix.write(shown_regions(rows), np.stack(latents, axis=1), rows)
                if progress:
                    progress("embedding regions", done, len(chosen.contig))
    return EmbedSummary(output, len(chosen.contig), left_out, len(names), h5ad)


def latent_names(run: Run) -> list[str]:
    """Return the names of the latents, in their order."""
    return [run.model.latent_name(number) for number in range(run.model.settings.latent)]


def latents_file(path: Path | None, run: Run, genome: Genome, aggregate: Aggregate) -> H5adRows:
    """Open the AnnData file of latents, or nothing where `path` is None; each latent's number and the groups that act on it are
    told of its column."""
    names, model = latent_names(run), run.model
    acting = [
        ",".join(group for group, place in model.slices.items() if place.start <= number < place.stop)
        for number in range(len(names))
    ]
    var = pa.table({"latent": pa.array(range(len(names)), pa.int64()), "groups": pa.array(acting, pa.string())})
    digest = genome.digest() if path is not None else ""
    about = {"version": __version__, "model": run.digest, "genome": digest, "aggregate": aggregate}
    return H5adRows(path, pa.schema(WHERE), names, var, about)


def shown_regions(rows: Mapping[str, Any]) -> list[str]:
    """Return the intervals of some rows as a user writes them: `chr1:1001-2000`."""
    return [f"{contig}:{start + 1}-{end}" for contig, start, end in zip(rows["contig"], rows["start"], rows["end"])]


def embedded_regions(source: Path | str, genome: Genome) -> tuple[EmbeddedRegions, int]:
    """Return the intervals of a BED file, of standard input or of a region, and how many lie on contigs that the genome lacks.

    Raises RegionError where one ends beyond its contig, or none is left, and GenomeError for a region that is not on it.
    """
    text = str(source)
    if text == "-":
        with standard_input_as_file(RegionError) as path:
            return regions_of_bed(path, genome)
    if not Path(text).exists() and is_region(text, genome):
        region = parse_region(text, genome)
        start, end, line = (np.array([number], np.int64) for number in (region.start, region.end, 1))
        return EmbeddedRegions([region.contig], start, end, line, [text]), 0
    return regions_of_bed(Path(text), genome)


def regions_of_bed(path: Path, genome: Genome) -> tuple[EmbeddedRegions, int]:
    """Return the same of a BED file."""
    bed = read_intervals(path)
    mapping = match_contigs(bed.names, genome.sequences, str(path))
    names = [mapping.get(name) for name in bed.names]
    on_genome = np.array([names[i] is not None for i in bed.contig.tolist()], bool)
    contig = [str(names[i]) for i in bed.contig[on_genome].tolist()]
    line = bed.line[on_genome]
    regions = EmbeddedRegions(contig, bed.start[on_genome], bed.end[on_genome], line, read_names(path, line))
    if not contig:
        raise RegionError("holds no interval", path=path)
    for name, end, line in zip(contig, regions.end.tolist(), regions.line.tolist()):
        if end > genome.lengths[name]:
            raise RegionError(
                f"ends beyond {name}, which has {genome.lengths[name]:,} bp ({end})", path=path, line=line
            )
    return regions, int((~on_genome).sum())


def latents_on_contigs(predictor: Predictor, genome: Genome, contigs: NDArray[np.str_], starts: Ints) -> Floats:
    """Return the latents (bins, latent) of bins on contigs of these names, (bins,) each."""
    latents = np.empty((len(starts), predictor.latent), np.float32)
    for contig in dict.fromkeys(contigs.tolist()):
        here = np.flatnonzero(contigs == contig)
        latents[here] = predictor.latents_at(starts[here], predictor.cutter(genome, contig))
    return latents


def embedded(
    predictor: Predictor, genome: Genome, aggregate: Aggregate, regions: tuple[list[str], list[int], list[int]]
) -> Columns:
    """Return the GC share and the latents, by number, of intervals (contigs, starts, ends), a column each."""
    contigs, starts, ends = regions
    bins, owner = list[int](), list[int]()
    for number, (start, end) in enumerate(zip(starts, ends)):
        covered = list(covering_bins(start, end))
        bins += covered
        owner += [number] * len(covered)
    latents = latents_on_contigs(predictor, genome, np.array(contigs)[owner], np.array(bins))
    latents = pooled_latents(latents, np.array(owner), len(contigs), aggregate)
    gc = [gc_share(genome.codes(contig, start, end)) for contig, start, end in zip(contigs, starts, ends)]
    columns = {str(number): np.ascontiguousarray(latents[:, number]) for number in range(latents.shape[1])}
    return {"gc": np.array(gc, np.float32)} | columns


def pooled_latents(latents: Floats, owner: Ints, count: int, aggregate: Aggregate) -> Floats:
    """Return the latents of bins (bins, latent) as latents of the intervals that own them (count, latent).

    `owner` (bins,) is in ascending order. `max` takes the value that is farthest from zero, with its sign.
    """
    edges = np.searchsorted(owner, np.arange(count))
    if aggregate == "mean":
        sums = np.add.reduceat(latents, edges, axis=0)
        return (sums / np.bincount(owner, minlength=count)[:, None]).astype(np.float32)
    high, low = np.maximum.reduceat(latents, edges, axis=0), np.minimum.reduceat(latents, edges, axis=0)
    result: Floats = np.where(high >= -low, high, low)
    return result
