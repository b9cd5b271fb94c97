"""`mfd simulate`: a project with planted causes, so that disentanglement can be measured, not believed.

FOLDER/genome.fa, metadata.tsv, tracks/, input.vcf, mfd.toml     what a user would have
       truth/                                                    every cause, its logit, and what each variant breaks
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfd_cli.base.errors import ConfigError, nearest
from mfd_cli.base.files import check_output, whole_folder
from mfd_cli.base.notebook import Told
from mfd_cli.base.progress import Progress
from mfd_cli.formats.tables import write_tsv
from mfd_cli.simulate.options import SIZES, SimulateOptions
from mfd_cli.simulate.planted_variants import make_variants
from mfd_cli.simulate.world import make_world
from mfd_cli.simulate.write_project import configuration, write_fasta, write_track_files, write_vcf
from mfd_cli.simulate.write_truth import write_truth


@dataclass(frozen=True, repr=False)
class SimulateReport(Told):
    """What was written. `ceilings` are the AUROCs of the true logits on the test contig per track, `ceiling` their mean."""

    folder: Path
    tracks: int
    signals: int
    bins: int
    variants: int
    prevalence: float
    ceiling: float
    ceilings: Mapping[str, float]
    held_out: Sequence[Mapping[str, str]]

    def lines(self) -> list[str]:
        """Return a few lines for a person."""
        known = [value for value in self.ceilings.values() if value == value] or [float("nan")]
        return [
            f"{self.tracks} peak tracks and {self.signals} signal tracks on {self.bins:,} bins; {self.prevalence:.1%} "
            "of bins have a peak, on average",
            f"AUROC of the true logits on the test contig, mean over all peak tracks: {self.ceiling:.3f}, by "
            f"track {min(known):.3f} to {max(known):.3f} (no model can beat this but by luck)",
            f"{self.variants} variants in input.vcf; combinations held out of training: "
            + ", ".join(" / ".join(combination.values()) for combination in self.held_out),
            f"project: {self.folder}   (cd there, then mfd preprocess)",
        ]


def simulate(
    output: Path,
    *,
    size: str = "tiny",
    seed: int = 1,
    options: SimulateOptions | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> SimulateReport:
    """Write a planted project, whole. The same size, seed and options give the same bytes.

    Raises ConfigError for an unknown size, OutputError where a folder is in the way and `force` is not set.
    """
    if size not in SIZES:
        raise ConfigError(f"size is {size!r}{nearest(size, list(SIZES))}")
    check_output(output, force)
    scale = SIZES[size]
    options = (options or SimulateOptions()).resolved(scale)
    rng = np.random.default_rng([seed, list(SIZES).index(size)])
    say = progress or (lambda what, done, total: None)
    say("planting", 0, 3)
    world = make_world(scale, options, rng)
    say("planting", 1, 3)
    variants = make_variants(world.genome, world.tracks.only(world.trained), scale, options, rng)
    say("planting", 2, 3)
    with whole_folder(output) as folder:
        write_fasta(folder / "genome.fa", world.genome)
        table = write_track_files(folder, world, rng)
        write_tsv(folder / "metadata.tsv", table)
        write_vcf(folder / "input.vcf", world.genome, variants)
        (folder / "mfd.toml").write_text(configuration(size, world), "utf-8")
        ceilings = write_truth(folder / "truth", world, table, variants)
    say("planting", 3, 3)
    bins, tracks = world.peaks.shape
    return SimulateReport(
        output,
        tracks,
        len(table) - tracks,
        bins,
        len(variants),
        float(world.peaks.mean()),
        float(np.nanmean(list(ceilings.values()))),
        ceilings,
        world.held_out,
    )
