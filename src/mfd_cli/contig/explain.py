"""`mfd contig explain`: which variants make a person's genetic data fit that person's picture.

Integrated gradients (Sundararajan et al., ICML 2017) of a person's alignment, from the mean of training persons to the person's
own dosages. What adds up is checked, and told.

explain/contig/attribution.tsv      every input: mean |attribution|, its error, sign, rank and block, and if it is above noise
               modalities.tsv       every modality: its share of all |attribution|, of persons who have all
               attributions.arrow   every person's attributions, with how far they miss what they add up to
               attribution.png      along the genome, the control's mirrored below
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from mfd_cli.base.arrays import Doubles, Floats, Ints
from mfd_cli.base.files import check_output, whole_folder
from mfd_cli.base.notebook import Told
from mfd_cli.base.progress import Progress
from mfd_cli.contig.batches import fixed_images
from mfd_cli.contig.core.networks import ContigModel
from mfd_cli.contig.data.cohort import Cohort
from mfd_cli.contig.data.modality_columns import ModalityColumns
from mfd_cli.contig.data.wide_table import noise_names
from mfd_cli.contig.genetic_side import check_genetic
from mfd_cli.contig.modality_shares import MODALITIES, shares_of
from mfd_cli.contig.run import ContigRun
from mfd_cli.contig.seen import SeenSplit, having, see_new
from mfd_cli.core.path_gradients import mean_along_path
from mfd_cli.formats.arrow_files import fixed_floats, write_arrow
from mfd_cli.formats.tables import write_tsv

AT_ONCE = 512
"""Persons whose gradients are computed together."""
ENOUGH = 0.95
"""Share of persons whose attributions must add up."""
LEAST = 0.1
"""Below this difference (nats) a miss is compared with it: a share of nearly nothing says nothing."""
LINKED = 0.2
"""Squared correlation with the strongest variant of a block from which on a variant belongs to it."""
COLUMNS = (
    "modality", "feature", "chromosome", "position", "effect_allele", "other_allele", "mean_abs", "se", "mean_signed", "rank",
    "block", "control", "above_noise",
)  # fmt: skip
LINES = 5
"""Inputs that are told at the end."""
NORMAL_95 = 1.96
"""Standard errors above its mean: the 95 % bound of a column of noise."""


@dataclass(frozen=True)
class Attributed:
    """Attributions (persons, inputs) of one modality in nats, the difference that each person's should add up to (persons,),
    the steps that were taken, and the share of persons whose do. `rows` are the persons, those of the split who have it."""

    values: Floats
    difference: Doubles
    steps: int
    complete: float
    rows: Ints


@dataclass(frozen=True, repr=False)
class ExplainReport(Told):
    """What was written; `rows` are those of attribution.tsv."""

    output: Path
    rows: list[dict[str, Any]]
    modalities: list[dict[str, Any]]
    persons: int
    warnings: list[str]

    def lines(self) -> list[str]:
        """Return the strongest inputs, the share of each modality, and what was written."""
        first = sorted(self.rows, key=lambda row: -row["mean_abs"])[:LINES]
        variants = all(row["effect_allele"] for row in self.rows)
        shares = [
            f"{row['modality']}: {row['share']:.0%} of all attribution ({row['low']:.0%} to {row['high']:.0%})"
            for row in self.modalities
            if len(self.modalities) > 1 and row["share"] is not None
        ]
        return [
            f"alignments of {self.persons:,} persons; the strongest {'variants' if variants else 'inputs'}:",
            *(
                f"{number:>3}. {name_of(row)}: {row['mean_abs']:.4f} nats a person"
                for number, row in enumerate(first, start=1)
            ),
            *shares,
            f"wrote {self.output}",
        ]


def name_of(row: Mapping[str, Any]) -> str:
    """Return what a row of attribution.tsv is about: a variant and where it lies, or a modality and its column."""
    if not row["effect_allele"]:
        return f"{row['modality']}: {row['feature']}"
    return f"{row['feature']} ({row['chromosome']}:{row['position']:,} {row['effect_allele']})"


def explain(
    run: ContigRun,
    cohort: Cohort,
    output: Path,
    *,
    split: str = "test",
    beside: Mapping[str, ContigRun] | None = None,
    allow_trained: bool = False,
    device: torch.device | str = "cpu",
    force: bool = False,
    progress: Progress | None = None,
) -> ExplainReport:
    """Attribute the alignments of a split's persons to their inputs, and write a folder of tables.

    The control `shuffled` among `beside` is explained in the same way: what stands out of it is noise. Raises ConfigError where
    the run was trained on these persons, unless `allow_trained`, or has no genetic side, OutputError where a folder is in the
    way.
    """
    check_genetic(run, "attribute")
    check_output(output, force)
    device = torch.device(device)
    runs = {run.name: run} | {name: one for name, one in (beside or {}).items() if name == "shuffled"}
    found: dict[str, dict[str, Attributed]] = {}
    seen_by: dict[str, SeenSplit] = {}
    for name, one in runs.items():
        seen_by[name] = see_new(one, cohort, split, allow_trained, device, progress)
        found[name] = {modality: attribute(one, seen_by[name], modality, device, progress) for modality in one.inputs}
    own, seen = found[run.name], seen_by[run.name]
    control = found.get("shuffled", {})
    rows = [row for name, each in own.items() for row in _rows(name, cohort, seen, each, control.get(name))]
    _mark_noise(rows, run)
    of_each = {
        name: (each.rows, np.abs(each.values).sum(1, dtype=np.float64), each.values.sum(1, dtype=np.float64))
        for name, each in own.items()
    }
    shares = shares_of(of_each, seen.share.family, run.config.train.seed)
    modalities = [_modality_row(name, each, shares[name]) for name, each in own.items()]
    warnings = [
        f"{name}: the attributions of {1 - each.complete:.0%} of the persons miss what they add up to by more than "
        f"{run.config.explain.tolerance:.0%} after {each.steps:,} steps"
        for name, each in own.items()
        if each.complete < ENOUGH
    ]
    with whole_folder(output) as folder:
        folder.chmod(0o700)
        write_tsv(folder / "attribution.tsv", rows, COLUMNS)
        write_tsv(folder / "modalities.tsv", modalities, MODALITIES)
        _write_attributions(folder / "attributions.arrow", seen, own)
        _draw(folder / "attribution.png", rows, run.name)
    return ExplainReport(output, rows, modalities, len(seen.people), warnings)


def attribute(
    run: ContigRun, seen: SeenSplit, name: str, device: torch.device, progress: Progress | None = None
) -> Attributed:
    """Return what each input of a modality contributes to the alignment of each person of a split who has it.

    A(v) = s_own(v) - ln(exp s_own(v) + sum over others r of exp s_r(v)) with s_r(v) = <z_r, u(v)> / temperature and so many
    images of persons of other families as `explain.reference` says. From 0, the mean of training persons, to the person's v.
    """
    config, model = run.config, run.model.to(device).eval()
    settings, rows = config.explain, having(seen, name)
    count = len(rows)
    images = fixed_images(config, seen.people)
    with torch.no_grad():
        every = model.image_projection(name, torch.from_numpy(seen.features[images]).to(device))
    drawn = np.random.default_rng([config.train.seed, 1]).permutation(len(seen.people))
    reference = np.sort(drawn[: settings.reference])
    z, others = every[torch.from_numpy(rows)], every[torch.from_numpy(reference)]
    inputs = torch.from_numpy(seen.people.cohort.inputs(seen.share, name, rows)).to(device)
    family, steps = seen.share.family, settings.steps
    while True:
        values, difference = np.empty(inputs.shape, np.float32), np.empty(count)
        for low in range(0, count, AT_ONCE):
            some = slice(low, low + AT_ONCE)
            stranger = torch.from_numpy(family[rows[some]][:, None] != family[reference][None, :]).to(device)
            alignment = _Alignment(model, name, z[some], others, stranger, config.objective.least_temperature)
            values[some], difference[some] = _path(alignment, inputs[some], steps)
            if progress:
                progress(f"attributing {name} ({run.name}, {steps} steps)", min(low + AT_ONCE, count), count)
        missed = np.abs(values.sum(1, dtype=np.float64) - difference)
        complete = float((missed <= settings.tolerance * np.maximum(np.abs(difference), LEAST)).mean())
        if complete >= ENOUGH or 2 * steps > settings.most_steps:
            return Attributed(values, difference, steps, complete, rows)
        steps *= 2


@dataclass(frozen=True)
class _Alignment:
    """The alignment of persons with their images `z` (persons, size), among those of others (others, size) that are of another
    family (persons, others)."""

    model: ContigModel
    name: str
    z: Tensor
    others: Tensor
    stranger: Tensor
    least: float

    def of(self, inputs: Tensor) -> Tensor:
        """Alignments (persons,) in nats of standardised inputs (persons, variants)."""
        u, temperature = self.model.person_projection(self.name, inputs), self.model.temperature(self.name, self.least)
        own = (self.z * u).sum(1) / temperature
        among = torch.where(self.stranger, u @ self.others.T / temperature, -torch.inf)
        return own - torch.logsumexp(torch.cat([own[:, None], among], 1), 1)

    def gradient(self, inputs: Tensor) -> Tensor:
        """The gradient of each person's alignment (persons, variants); rows do not touch each other."""
        inputs = inputs.detach().requires_grad_(True)
        return torch.autograd.grad(self.of(inputs).sum(), inputs)[0]


def _path(alignment: _Alignment, inputs: Tensor, steps: int) -> tuple[Floats, Doubles]:
    """Attributions (persons, variants), and the difference of alignments (persons,) that they should add up to."""
    start = torch.zeros_like(inputs)
    values = mean_along_path(alignment.gradient, start, inputs, steps) * inputs
    with torch.no_grad():
        difference = (alignment.of(inputs) - alignment.of(start)).double()
    return values.cpu().numpy(), difference.cpu().numpy()


def _rows(
    name: str, cohort: Cohort, seen: SeenSplit, each: Attributed, control: Attributed | None
) -> list[dict[str, Any]]:
    """The rows of attribution.tsv of a modality."""
    columns: ModalityColumns = cohort.columns[name]
    strength = np.abs(each.values).mean(0)
    error = np.abs(each.values).std(0) / np.sqrt(len(each.values))
    order = np.argsort(-strength, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    variant = columns.kind == "snps"
    blocks = blocks_of(cohort.inputs(seen.share, name, each.rows), order) if variant else rank
    variants, signed = columns.variants, each.values.mean(0)
    beside = [None] * len(order) if control is None else np.abs(control.values).mean(0).tolist()
    return [
        {
            "modality": name,
            "feature": variants.name[place],
            "chromosome": variants.chromosome[place],
            "position": int(variants.position[place]) or None,
            "effect_allele": variants.effect_allele[place],
            "other_allele": variants.other_allele[place],
            "mean_abs": float(strength[place]),
            "se": float(error[place]),
            "mean_signed": float(signed[place]),
            "rank": int(rank[place]),
            "block": int(blocks[place]),
            "control": beside[place],
        }
        for place in range(len(order))
    ]


def blocks_of(inputs: Floats, order: Ints) -> Ints:
    """Return the block of each variant (variants,), from 1: the strongest variant that is left takes all that are linked to it.

    `inputs` (persons, variants) are standardised dosages, `order` the variants from the strongest on.
    """
    centred = inputs.astype(np.float64) - inputs.mean(0, dtype=np.float64)
    length = np.sqrt((centred**2).sum(0))
    unit = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    block, number = np.zeros(len(order), np.int64), 0
    for place in order.tolist():
        if block[place]:
            continue
        number += 1
        linked = (unit.T @ unit[:, place]) ** 2 > LINKED
        block[linked & (block == 0)] = number
        block[place] = number
    return block


def _mark_noise(rows: list[dict[str, Any]], run: ContigRun) -> None:
    """Say of every input whether it is above the 95 % bound of the largest column of noise; nothing where there is none."""
    noise = {
        (name, column) for name, modality in run.config.modalities.items() for column in noise_names(modality.noise)
    }
    bounds = [row["mean_abs"] + NORMAL_95 * row["se"] for row in rows if (row["modality"], row["feature"]) in noise]
    for row in rows:
        row["above_noise"] = None if not bounds else "yes" if row["mean_abs"] > max(bounds) else "no"


def _modality_row(name: str, each: Attributed, share: Mapping[str, Any]) -> dict[str, Any]:
    """The row of modalities.tsv: sums favour wide modalities, so that the mean per feature stands beside."""
    count = each.values.shape[1]
    facts = {"modality": name, "features": count, **share}
    total = facts["sum_abs"]
    facts["mean_abs_per_feature"] = None if total is None else total / count
    return facts | {"steps": each.steps, "persons_that_add_up": each.complete}


def _write_attributions(path: Path, seen: SeenSplit, own: Mapping[str, Attributed]) -> None:
    """Write the attributions of every person; nothing of a modality that a person lacks."""
    columns: dict[str, pa.Array] = {"person": pa.array(seen.persons(), pa.string())}
    count = len(seen.people)
    for name, each in own.items():
        values, error = np.zeros((count, each.values.shape[1]), np.float32), np.zeros(count)
        lacking = np.ones(count, bool)
        values[each.rows], lacking[each.rows] = each.values, False
        error[each.rows] = each.values.sum(1, dtype=np.float64) - each.difference
        columns[name] = fixed_floats(values, lacking)
        columns[f"{name}.error"] = pa.array(error, mask=lacking)
    write_arrow(path, pa.table(columns))


def _draw(path: Path, rows: list[dict[str, Any]], name: str) -> None:
    """Draw the attributions along the genome."""
    from mfd_cli.contig.attribution_picture import draw_attribution

    draw_attribution(path, rows, name)
