"""The inputs of `mfd preprocess`, read and looked at before the long work: the table, the genome, the settings, every file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from mfd_cli.base.errors import MetadataError
from mfd_cli.core.metadata import fit_metadata
from mfd_cli.dataset.choose_bins import UsableBins, contig_splits, usable_bins
from mfd_cli.experiments.held_out import held_out_tracks
from mfd_cli.experiments.sources import Source, check_sources, not_given, read_sources
from mfd_cli.experiments.strands import count_tracks, strand_partners
from mfd_cli.experiments.track import Track
from mfd_cli.formats.fasta import read_fasta
from mfd_cli.genome.grid import BinGrid
from mfd_cli.genome.sequence import Genome
from mfd_cli.settings.project import Project


@dataclass(frozen=True)
class Inputs:
    """The inputs of a project, in which nothing wrong was found: the genome is read, the tracks' files are there.

    `sources` are the tracks, peaks first, without the `controls` (their ids), which the table marks as no tracks; `held_out`
    are the ids of tracks that have no say in anything that training sees.
    """

    project: Project
    sources: Sequence[Source]
    controls: Sequence[str]
    genome: Genome
    grid: BinGrid
    held_out: Set[str]
    split_of: Mapping[str, str]
    usable: UsableBins

    def of_kind(self, kind: str) -> list[int]:
        """Return the indices of the sources that are `peaks`, or `signal`."""
        return [index for index, source in enumerate(self.sources) if source.kind == kind]

    def files(self) -> list[str]:
        """Return the files that mfd.toml names, tracks apart, as they are named there."""
        config = self.project.config
        optional = (config.bins.regions, config.bins.exclude, config.bins.mappability)
        return [str(config.data.fasta), str(config.data.metadata), *(name for name in optional if name)]


def check_inputs(project: Project) -> Inputs:
    """Find everything that can be found wrong before the tracks are read.

    Raises InputErrors naming every track's file that is missing or broken, MetadataError for the table, GenomeError for the
    FASTA, ConfigError for settings that do not fit them.
    """
    table, genome = read_sources(project), read_genome(project)
    sources = table.tracks
    held_out = held_out_tracks(project.config, {source.id: source.row for source in sources})
    check_metadata(project, sources, held_out)
    check_sources(sources)
    grid, split_of = BinGrid(genome.lengths), contig_splits(project.config, genome)
    usable = usable_bins(project, genome, grid)
    return Inputs(project, sources, table.controls, genome, grid, held_out, split_of, usable)


def read_genome(project: Project) -> Genome:
    """Read the project's FASTA; ConfigError where no setting names one."""
    if project.config.data.fasta is None:
        raise not_given(project, "genome", "set data.fasta in mfd.toml, or --fasta FILE")
    return read_fasta(project.path(project.config.data.fasta))


def check_metadata(project: Project, sources: Sequence[Source], held_out: Set[str]) -> None:
    """Do once, and throw away, what training will do with the table: what it would refuse is refused before the long work.

    Encodes the factors of the training tracks, pairs the strands, reads which signals are counts. Raises MetadataError.
    """
    config, tracks = project.config, [Track(source.id, source.kind, source.row) for source in sources]
    try:
        fit_metadata([track.metadata for track in tracks if track.id not in held_out], config.factors)
        strand_partners(tracks, config)
        count_tracks(tracks, config)
    except MetadataError as error:
        error.path = metadata_path(project)
        raise


def metadata_path(project: Project) -> Path:
    """Return where the project's metadata table is."""
    return project.path(str(project.config.data.metadata))
