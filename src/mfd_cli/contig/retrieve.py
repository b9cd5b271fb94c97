"""`mfd contig retrieve`: whether a person's genetic data are found by the picture, and the picture by the data.

retrieve/retrieval.tsv     every measure of every run, modality and direction, with its interval and what guessing gives
         ranks.parquet     the rank of each person's right partner
         ranks.png         how many are found among the first so many
         independence.tsv  and .png: what probes find of one slice of the feature in the other, and of technical factors
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mfd_cli.base.arrays import Doubles, Ints
from mfd_cli.base.errors import ConfigError
from mfd_cli.base.files import check_output, whole_folder
from mfd_cli.base.notebook import Told
from mfd_cli.base.progress import Progress
from mfd_cli.contig.batches import fixed_images
from mfd_cli.contig.core.family_draws import family_draws
from mfd_cli.contig.core.ranks import Ranks, chances, measures, ranks
from mfd_cli.contig.data.cohort import Cohort
from mfd_cli.contig.data.image_factors import targets_of
from mfd_cli.contig.genetic_side import check_genetic, with_genetic_side
from mfd_cli.contig.over_all import similarities
from mfd_cli.contig.run import ContigRun
from mfd_cli.contig.seen import SeenSplit, see_new
from mfd_cli.contig.slice_probes import COLUMNS as COLUMNS_OF_PROBES
from mfd_cli.contig.slice_probes import draw_probes, probe_lines, probed_slices
from mfd_cli.core.metadata import NumberEncoder
from mfd_cli.formats.tables import write_parquet, write_tsv

RESAMPLED = 1000
"""Draws of families for an interval."""
DIRECTIONS = ("image to person", "person to image")
COLUMNS = ("run", "modality", "direction", "persons", "candidates", "measure", "value", "low", "high", "chance")


@dataclass(frozen=True, repr=False)
class RetrieveReport(Told):
    """What was found; `rows` are those of retrieval.tsv."""

    output: Path
    rows: list[dict[str, Any]]
    split: str
    learned: bool
    independence: list[dict[str, Any]] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    """Runs beside it that have no genetic side."""

    def value(self, run: str, measure: str, modality: str | None = None, direction: str = DIRECTIONS[0]) -> float:
        """Return a measure of a run; of the first modality where none is named."""
        rows = [
            row
            for row in self.rows
            if row["run"] == run and row["measure"] == measure and row["direction"] == direction
        ]
        return float(next(row["value"] for row in rows if modality in (None, row["modality"])))

    def lines(self) -> list[str]:
        """Return a line for each run and modality, from image to person."""
        lines = []
        for row in self.rows:
            if row["measure"] == "auc" and row["direction"] == DIRECTIONS[0]:
                of = {"modality": row["modality"]}
                rank, skill = (self.value(row["run"], name, **of) for name in ("median rank", "skill"))
                lines.append(
                    f"{row['run']}, {row['modality']}: AUC {row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f}; "
                    f"chance 0.5), median rank {rank:,.0f} of {row['candidates']:,}, skill {skill:.3f} nats"
                )
        if self.without:
            lines.append(f"{', '.join(self.without)}: not here, since pictures alone were learnt from")
        return [*lines, *probe_lines(self.independence), f"wrote {self.output}"]


@torch.no_grad()
def retrieve(
    run: ContigRun,
    cohort: Cohort,
    output: Path,
    *,
    split: str = "test",
    join: str = "outer",
    beside: Mapping[str, ContigRun] | None = None,
    allow_trained: bool = False,
    device: torch.device | str = "cpu",
    force: bool = False,
    progress: Progress | None = None,
) -> RetrieveReport:
    """Rank, for each person of a split, the right partner among all of the split, and write a folder of tables.

    One image a person, drawn once; per modality, among those who have it, and over all; with `join` `inner` among persons who
    have every modality. Intervals are percentiles over resampled families. Raises ConfigError where the run was trained on
    these persons, unless `allow_trained`, or has no genetic side, OutputError where a folder is in the way.
    """
    check_genetic(run, "retrieve")
    check_output(output, force)
    compared, without = with_genetic_side(beside or {})
    device = torch.device(device)
    rows: list[dict[str, Any]] = []
    each: list[dict[str, Any]] = []
    probes: list[dict[str, Any]] = []
    for name, one in {run.name: run, **compared}.items():
        seen = see_new(one, cohort, split, allow_trained, device, progress)
        if one is run and cohort.factors:
            probes = probes_of(run, seen, progress)
        images, names = fixed_images(one.config, seen.people), seen.persons()
        who = seen.share.joined(tuple(one.inputs), join)
        if not who.any():
            raise ConfigError(f"no {split} person has {'all' if join == 'inner' else 'any'} of {', '.join(one.inputs)}")
        for modality, persons, table in similarities(one, seen, images, who, device):
            family = seen.share.family[persons]
            for direction, similarity in zip(DIRECTIONS, (table, table.T)):
                found = ranks(similarity, family)
                facts = {"run": name, "modality": modality, "direction": direction}
                rows += [{**facts, **row} for row in rows_of(found, family, one.config.train.seed)]
                each += [
                    {**facts, "person": names[place], "rank": rank, "candidates": count}
                    for place, rank, count in zip(persons.tolist(), found.rank.tolist(), found.candidates.tolist())
                ]
    with whole_folder(output) as folder:
        folder.chmod(0o700)
        write_tsv(folder / "retrieval.tsv", rows, COLUMNS)
        write_parquet(folder / "ranks.parquet", each)
        _draw(folder / "ranks.png", each)
        if probes:
            write_tsv(folder / "independence.tsv", probes, COLUMNS_OF_PROBES)
            draw_probes(folder / "independence", probes)
    return RetrieveReport(output, rows, split, run.learned, probes, without)


def probes_of(run: ContigRun, seen: SeenSplit, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Return what fresh probes find of the slices of a run's features in each other, and of technical factors in each."""
    if progress:
        progress("probing the slices", 0, 1)
    slices = {name: seen.features[:, place] for name, place in run.model.slices.items()}
    images = seen.share.images
    known = {name: encoder for name, encoder in run.factors.items() if name in images.factors}
    targets = {name: targets_of(encoder, images.factors[name]) for name, encoder in known.items()}
    numbers = frozenset(name for name, encoder in known.items() if isinstance(encoder, NumberEncoder))
    rows = probed_slices(slices, targets, numbers, seen.share.family[images.owner], run.config.train.seed)
    if progress:
        progress("probing the slices", 1, 1)
    return rows


def rows_of(found: Ranks, family: Ints, seed: int) -> list[dict[str, Any]]:
    """Return every measure with its value, 95 % interval over families, and what guessing gives."""
    guess, of_each = chances(found), measures(found)
    persons, candidates = len(family), round(float(found.candidates.mean()))
    weights = family_draws(family, RESAMPLED, seed)
    rows: list[dict[str, Any]] = []
    for name, values in of_each.items():
        low, high = np.quantile(weights @ values / weights.sum(1), (0.025, 0.975))
        rows.append({"measure": name, "value": float(values.mean()), "low": float(low), "high": float(high)})
    ranked = found.rank
    medians = [_weighted_median(ranked, row) for row in weights]
    low, high = np.quantile(medians, (0.025, 0.975))
    rows.append({"measure": "median rank", "value": float(np.median(ranked)), "low": float(low), "high": float(high)})
    return [{"persons": persons, "candidates": candidates, **row, "chance": guess[row["measure"]]} for row in rows]


def _weighted_median(values: Doubles, weights: Doubles) -> float:
    """The value below which half of the weight lies."""
    order = np.argsort(values)
    sums = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(sums, sums[-1] / 2)])


def _draw(path: Path, each: list[dict[str, Any]]) -> None:
    """Draw which share of persons is found among the first so many, for every run, and what guessing gives."""
    from mfd_cli.contig.rank_picture import draw_ranks

    draw_ranks(path, [row for row in each if row["direction"] == DIRECTIONS[0]])
