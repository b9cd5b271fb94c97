"""`mfd view`: one HTML file with a genome browser and what mfd wrote about some regions.

open     every path is a scored VCF, a folder of `mfd predict`, a folder of `mfd explain`, or a run
choose   the regions that are named, or what the inputs say is strongest; only these, with a flank, are in the page
gather   the tracks of every input, the genes, the bases
write    the page, whole
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mfd_cli.base.errors import ConfigError, GenomeError, InputError, OutputError
from mfd_cli.base.files import check_output, whole_file
from mfd_cli.base.words import counted
from mfd_cli.dataset.folder import open_dataset
from mfd_cli.engine.checkpoint import DESCRIPTION
from mfd_cli.formats.bed import parse_regions
from mfd_cli.formats.fasta import read_fasta
from mfd_cli.formats.gene_files import read_elements, read_gtf
from mfd_cli.genome.intervals import Interval
from mfd_cli.genome.sequence import Genome
from mfd_cli.runs.choose_genome import choose_genome, digest_of_dataset, genome_of_dataset
from mfd_cli.runs.folder import load_run, run_folders
from mfd_cli.settings.project import Project
from mfd_cli.view.explanation_folder import ExplanationFolder, open_explanation
from mfd_cli.view.igv import igv_script
from mfd_cli.view.of_run import of_run
from mfd_cli.view.page import MARGIN, write_page
from mfd_cli.view.prediction_folder import PredictionFolder, open_predictions
from mfd_cli.view.scored_vcf import STRONGEST_BY, ScoredVcf, open_scored
from mfd_cli.view.shown import Source, Table, Track, covered, elements_track, genes_track, merged, written

MOST_BASES = 2_000_000
"""Bases that a page holds, at most: browsers open a page of some megabytes at once, and no one reads more regions."""
MOST_TRACKS = 150
"""Tracks of a page, at most: each is a canvas."""
MORE = "--write-regions FILE.bed writes the places, for which mfd predict -R and mfd explain -R make numbers"
SHOWN = "a scored VCF, a folder of mfd predict, a folder of mfd explain, or a run"


@dataclass(frozen=True)
class Wanted:
    """What of the inputs is shown. Named `regions` (and those of a BED file) take the place of what is strongest."""

    regions: Sequence[str] = ()
    regions_file: Path | None = None
    variants: int = 20
    """The strongest variants of each VCF."""
    by: str = STRONGEST_BY
    """The field by whose size a variant is strong."""
    top: int = 5
    """Bins of each direction of an explanation, of each output of a prediction."""
    tracks: str | None = None
    """A query: which tracks of a run."""
    flank: int = 1000
    """Bases that the page holds on both sides of a place."""
    gtf: Path | None = None
    elements: Mapping[str, Path] = field(default_factory=dict)
    write_regions: Path | None = None
    """A BED file to write, with what a click on each row shows."""


@dataclass(frozen=True)
class ViewSummary:
    """What a page shows, and where it lies."""

    path: Path
    rows: int
    regions: int
    bases: int
    tracks: int
    places_with_numbers: Mapping[str, int]
    """At how many of the places each folder of predictions or of an explanation has numbers."""
    silent: Sequence[str]
    """Files and folders that have nothing to list in the regions that were named."""
    regions_file: Path | None

    def lines(self) -> list[str]:
        """Return the summary as lines for the terminal."""
        size, counts = self.path.stat().st_size / 1e6, self.places_with_numbers
        places, regions = counted(self.rows, "place"), counted(self.regions, "region")
        return [
            f"{places} in {regions} ({self.bases:,} bp), {counted(self.tracks, 'track')}",
            *(f"{name} lists nothing in the regions that were named" for name in self.silent),
            *(f"{name} has numbers at {count:,} of {places}" for name, count in counts.items()),
            *([MORE] if any(count < self.rows for count in counts.values()) and self.regions_file is None else []),
            *([f"wrote {self.regions_file}"] if self.regions_file is not None else []),
            f"wrote {self.path} ({size:.1f} MB)",
        ]


def view(
    paths: Sequence[Path],
    output: Path,
    *,
    project: Project,
    fasta: Path | None = None,
    wanted: Wanted | None = None,
    device: str = "cpu",
    force: bool = False,
) -> ViewSummary:
    """Write one HTML file with what these paths hold about some regions; without a path, the project's run.

    The genome is that of `fasta`, else the one of the project's dataset or FASTA file; without one there are no bases.
    Raises ConfigError where there is nothing to show or too much, and where igv.js is not installed; InputError for a path
    that is none of the four; GenomeError for a contig that the genome lacks.
    """
    wanted = wanted or Wanted()
    check_output(html_name(output), force)
    if wanted.write_regions is not None:
        check_output(bed_name(wanted.write_regions), force)
    if not paths and not project.run.exists():
        raise ConfigError("there is nothing to show: no path is named, and there is no run here", hint=f"name {SHOWN}")
    igv_script()  # before the long work
    known = genome_of(project, fasta)
    sources = [opened_source(path, project, fasta, known, wanted, device) for path in paths or (project.run,)]
    genome = known or unknown_genome(sources)
    named = list(parse_regions(wanted.regions, wanted.regions_file, genome)) if _names_regions(wanted) else []
    tables, silent = chosen_tables(dict(zip(map(str, paths or (project.run,)), sources)), named)
    regions = merged([place for table in tables for place in on_genome(table, genome)], wanted.flank, genome.lengths)
    bases = sum(region.end - region.start for region in regions)
    if bases > MOST_BASES:
        raise ConfigError(
            f"{bases:,} bases are too many for one page, {MOST_BASES:,} can be shown",
            hint="fewer or shorter regions, or a smaller --flank",
        )
    tracks = features_of(wanted, genome, regions)
    places, with_numbers = [place for table in tables for place in table.places], dict[str, int]()
    for path, source in zip(paths or (project.run,), sources):
        own = source.tracks(regions)
        tracks += own
        if isinstance(source, PredictionFolder | ExplanationFolder):
            with_numbers[str(path)] = covered(places, own)
    if len(tracks) > MOST_TRACKS:
        raise ConfigError(
            f"{len(tracks)} tracks are too many for one page, {MOST_TRACKS} can be shown",
            hint="mfd predict --tracks writes fewer; of a run --tracks shows fewer",
        )
    names = ", ".join(path.name for path in paths) or project.run.name
    rows = len(places)
    if wanted.write_regions is not None:
        around = merged(places, min(wanted.flank, MARGIN), genome.lengths)
        with whole_file(wanted.write_regions) as file:
            file.write_text("".join(f"{one.contig}\t{one.start}\t{one.end}\n" for one in around), "utf-8")
    write_page(
        output,
        title="Regions of interest",
        lead=f"{counted(rows, 'place')} of {names}.",
        footer=names,
        genome=known,
        lengths=genome.lengths,
        regions=regions,
        tables=tables,
        tracks=tracks,
        flank=wanted.flank,
    )
    return ViewSummary(output, rows, len(regions), bases, len(tracks), with_numbers, silent, wanted.write_regions)


def html_name(path: Path) -> Path:
    """Return the path, if it may be the name of a page; OutputError where its name says that it is something else, such as one
    of the inputs, or where it is a folder."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise OutputError("an HTML page is written, whose name must end in .html", path=path, hint="-o view.html")
    if path.is_dir():
        raise OutputError("is a folder; a page is a file", path=path)
    return path


def bed_name(path: Path) -> Path:
    """Return the path, if it may be the name of a BED file that is written; OutputError where its name says otherwise."""
    if path.suffix.lower() != ".bed":
        raise OutputError("a BED file is written, whose name must end in .bed", path=path)
    return path


def _names_regions(wanted: Wanted) -> bool:
    return bool(wanted.regions) or wanted.regions_file is not None


def genome_of(project: Project, fasta: Path | None) -> Genome | None:
    """Return the genome that is named, else the dataset's, else that of the project's FASTA file; None without any."""
    if fasta is not None:
        return read_fasta(fasta)
    if digest_of_dataset(project.dataset) is not None:
        return genome_of_dataset(project.dataset)
    return read_fasta(project.path(project.config.data.fasta)) if project.config.data.fasta is not None else None


def unknown_genome(sources: Sequence[Source]) -> Genome:
    """Return a genome of unknown bases with the contigs of the first input."""
    unknown = np.frombuffer(b"N", np.uint8)
    return Genome({name: np.broadcast_to(unknown, length) for name, length in sources[0].lengths.items()})


def opened_source(
    path: Path, project: Project, fasta: Path | None, genome: Genome | None, wanted: Wanted, device: str
) -> Source:
    """Open a path as what it is. InputError where it is nothing that is shown; GenomeError where its contigs are of other
    lengths than the genome's."""
    source: Source
    if (path / "predictions.parquet").is_file():
        source = open_predictions(path, wanted.top)
    elif (path / "attributions.arrow").is_file():
        source = open_explanation(path, wanted.top)
    elif path.is_dir() and (first := run_folders(path)[0]) and (first / DESCRIPTION).is_file():
        run = load_run(first)
        own, remark = choose_genome(project, run, fasta)
        # Of another genome than the run's, which the remark tells, the dataset knows nothing.
        known = digest_of_dataset(project.dataset) is not None and not remark
        dataset = open_dataset(project.dataset) if known else None
        source = of_run(run, own, dataset, wanted.tracks, wanted.top, device)
    elif path.is_dir():
        raise InputError("holds nothing that is shown", path=path, hint=f"name {SHOWN}")
    else:
        source = open_scored(path, wanted.by, wanted.variants, genome.lengths if genome is not None else {})
    for contig, length in (genome.lengths if genome is not None else {}).items():
        if source.lengths.get(contig, length) != length:
            message = f"has a contig {contig} of {source.lengths[contig]:,} bp; in the genome it has {length:,} bp"
            raise GenomeError(message, path=path, hint="--fasta FILE names the genome that it was made with")
    return source


def chosen_tables(sources: Mapping[str, Source], named: Sequence[Interval]) -> tuple[list[Table], list[str]]:
    """Return the tables of the page: the named regions and what is strong in them, or what is strong anywhere; and which of
    the sources, by name, have nothing there.

    Predictions and runs say where they are highest only where nothing else says what is of interest.
    """
    tables, silent = list[Table](), list[str]()
    if named:
        rows = [{"region": written(place)} for place in named]
        tables.append(Table("Regions", "The regions that were named.", rows, named))
    pointing = {name: one for name, one in sources.items() if isinstance(one, ScoredVcf | ExplanationFolder)}
    for name, source in (pointing or ({} if named else sources)).items():
        own = [table for table in source.tables(named) if table.rows]
        tables += own
        silent += [] if own else [name]
    if not tables:
        raise ConfigError("there is nothing to show in these files", hint="-r chr1:1001-2000 names a region")
    return tables, silent


def on_genome(table: Table, genome: Genome) -> Sequence[Interval]:
    """Return the places of a table. GenomeError where one is not on the genome."""
    for place in table.places:
        if place.end > genome.lengths.get(place.contig, 0):
            raise GenomeError(f"{place} is not on the genome", hint="the inputs are of different genomes")
        if ":" in place.contig:
            raise GenomeError(f"{place.contig}: igv.js shows no contig with a colon in its name")
    return table.places


def features_of(wanted: Wanted, genome: Genome, regions: Sequence[Interval]) -> list[Track]:
    """Return the genes and elements of the files that are named, in the regions."""
    tracks = list[Track]()
    if wanted.gtf is not None:
        tracks.append(genes_track(read_gtf(wanted.gtf, genome), wanted.gtf, regions))
    for name, path in wanted.elements.items():
        tracks.append(elements_track(read_elements(name, path, genome), regions))
    return tracks
