"""The inputs of `mfd preprocess`, read and looked at before the long work: the table, the genome, the settings, every file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

from mfd_cli.dataset.choose_bins import UsableBins, contig_splits, usable_bins
from mfd_cli.experiments.check_table import check_table
from mfd_cli.experiments.sources import Source, check_sources, not_given, read_sources
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


def check_inputs(project: Project, warn: Callable[[str], None] | None = None) -> Inputs:
    """Find everything that can be found wrong before the tracks are read. `warn` is told what of train.held_out names no track
    of this table, which is an error where nobody is told.

    Raises InputErrors naming every track's file that is missing or broken, MetadataError for the table, GenomeError for the
    FASTA, ConfigError for settings that do not fit them.
    """
    table, genome = read_sources(project), read_genome(project)
    sources = table.tracks
    # What is said with this very command is meant for this table.
    held_out = check_table(project.config, table, None if "train.held_out" in project.options else warn)
    check_sources(sources)
    grid, split_of = BinGrid(genome.lengths), contig_splits(project.config, genome)
    usable = usable_bins(project, genome, grid)
    return Inputs(project, sources, table.controls, genome, grid, held_out, split_of, usable)


def read_genome(project: Project) -> Genome:
    """Read the project's FASTA; ConfigError where no setting names one."""
    if project.config.data.fasta is None:
        raise not_given(project, "genome", "set data.fasta in mfd.toml, or --fasta FILE")
    return read_fasta(project.path(project.config.data.fasta))
