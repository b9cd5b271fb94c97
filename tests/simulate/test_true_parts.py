"""The parts of the true logit, computed by hand on bins that each hold one cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mfd_cli.simulate import planted
from mfd_cli.simulate.built_in_motifs import built_in
from mfd_cli.simulate.causes import Causes
from mfd_cli.simulate.options import SIZES, WORLDS, SimulateOptions
from mfd_cli.simulate.planted import ASSAYS, EFFECTS, LABS, TARGETS, TISSUES, planted_motifs
from mfd_cli.simulate.planted_genome import MEAN_GC, MOST_CHANCE, MOTIF_CHANCE, SPREAD_OF_GC, motif_chances
from mfd_cli.simulate.true_parts import OWN_COMPOSITION, Tracks, own_weights, true_parts
from mfd_cli.simulate.world import World, make_world

Numbers = NDArray[np.float64]
NAMES = list(built_in())
ONE_EACH = Causes(
    dict(zip(NAMES, np.eye(len(NAMES) + 2)[:, : len(NAMES)].T)), *np.eye(len(NAMES) + 2)[:, len(NAMES) :].T
)
"""Each motif is present in one bin, in their order; the last but one has G+C, the last has A/T runs."""
ALL_ON: dict[str, Any] = {
    "interaction": 0.7,
    "technique_interaction": 0.5,
    "residual": 0.5,
    "batch": "nested",
    "batch_dose": 0.7,
    "distance": 500,
    "spread": 0.7,
    "overdispersion": 0.3,
    "shared_letters": 0.5,
    "gc_correlated": 0.7,
}


def every_experiment(targets: int = 6, tissues: int = 3) -> list[dict[str, str]]:
    """A whole factorial design of targets, tissues and assays, in that order; one lab, one year without an effect."""
    levels = product(list(TARGETS)[:targets], list(TISSUES)[:tissues], ASSAYS)
    return [{"target": t, "biosample": s, "assay": a, "lab": "Lab West", "year": "2018"} for t, s, a in levels]


def where_target_motifs_are(part: Numbers) -> Numbers:
    """(6, tracks): the bins that each hold the motif of one target."""
    return part[[NAMES.index(motif) for motif in TARGETS.values()]]


def small_world(options: Mapping[str, Any], size: str = "tiny", bins: int = 100) -> World:
    scale = replace(SIZES[size], bins_per_contig=bins)
    return make_world(scale, SimulateOptions(**options).resolved(scale), np.random.default_rng(1))


def additive_share(part: Numbers, shape: Sequence[int]) -> float:
    """Share of the variance over tracks that a sum of a target's and a tissue's effect explains; (bins, tracks)."""
    cells = part.reshape(len(part), *shape).mean(3)
    cells = cells - cells.mean((1, 2), keepdims=True)
    explained = cells.mean(1, keepdims=True) + cells.mean(2, keepdims=True)
    return float((explained**2).sum() / (cells**2).sum())


@pytest.mark.parametrize(("targets", "tissues", "share"), [(6, 3, 0.2), (3, 2, 0.25)])
def test_with_full_interaction_an_additive_model_explains_the_share_that_follows_from_the_design(
    targets: int, tissues: int, share: float
) -> None:
    """Of `targets` motifs a target is bound at `tissues`, equally often: (1 / tissues - 1 / targets) / (1 - 1 / targets)."""
    tracks = Tracks(every_experiment(targets, tissues))
    for interaction, expected in ((0.0, 1.0), (1.0, share)):
        part = true_parts(ONE_EACH, tracks, SimulateOptions(interaction=interaction)).biological
        weights = where_target_motifs_are(part)
        assert additive_share(weights, (targets, tissues, 2)) == pytest.approx(expected)
        # The effect goes to another motif and keeps its size, whatever the share.
        assert np.allclose(weights.sum(0), EFFECTS["target"])
    half = where_target_motifs_are(true_parts(ONE_EACH, tracks, SimulateOptions(interaction=0.25)).biological)
    brain = 2  # the first target in the second tissue: REB1's sites
    assert half[:2, brain].tolist() == [0.75 * EFFECTS["target"], 0.25 * EFFECTS["target"]]
    assert half[0, 0] == EFFECTS["target"]  # in the first tissue it is its own partner


def test_every_target_has_another_partner_in_each_tissue_and_every_partner_one_target() -> None:
    targets = list(TARGETS)
    for target in targets:
        assert len({planted.partner(target, tissue, targets) for tissue in TISSUES}) == len(TISSUES)
    for tissue in TISSUES:
        assert {planted.partner(target, tissue, targets) for target in targets} == set(targets)


@pytest.mark.parametrize(("targets", "tissues"), [(6, 3), (3, 2)])
def test_what_target_and_assay_do_together_is_a_part_of_its_own_that_neither_has_on_average(
    targets: int, tissues: int
) -> None:
    rows = every_experiment(targets, tissues)
    plain = true_parts(ONE_EACH, Tracks(rows))
    parts = true_parts(ONE_EACH, Tracks(rows), SimulateOptions(technique_interaction=1.0))
    assert plain.joint is None and parts.joint is not None
    assert np.array_equal(parts.biological, plain.biological) and np.array_equal(parts.technical, plain.technical)
    assert np.allclose(parts.total() - plain.total(), parts.joint)
    signs = planted.assay_signs(list(TARGETS)[:targets])
    for index, row in enumerate(rows):
        own = NAMES.index(TARGETS[row["target"]])
        counted = parts.biological[own, index] + parts.joint[own, index]
        assert counted == pytest.approx(EFFECTS["target"] * (1 + signs[row["target"], row["assay"]]))
        assert -1e-9 <= counted <= 2 * EFFECTS["target"] + 1e-9
    table = np.array(list(signs.values())).reshape(targets, 2)
    assert np.allclose(table.sum(0), 0) and np.allclose(table.sum(1), 0) and np.abs(table).max() == 1


def test_a_tracks_own_weights_are_its_residual() -> None:
    rows = every_experiment()
    own = own_weights(len(rows), len(NAMES), 2.0, np.random.default_rng(1))
    parts = true_parts(ONE_EACH, Tracks(rows, own=own))
    assert parts.residual is not None and np.allclose(parts.residual, own.T)
    assert np.allclose(parts.total() - true_parts(ONE_EACH, Tracks(rows)).total(), own.T)
    many = own_weights(5000, len(NAMES), 2.0, np.random.default_rng(1))
    assert many[:, :-2].std() == pytest.approx(2.0, rel=0.02)
    assert many[:, -2:].std() == pytest.approx(2.0 * OWN_COMPOSITION, rel=0.03)


def test_a_batch_is_a_slope_on_gc_in_the_technical_part() -> None:
    rows = [{**row, "batch": f"batch {1 + i % 2}", "lab": "Lab North"} for i, row in enumerate(every_experiment())]
    parts = true_parts(ONE_EACH, Tracks(rows), SimulateOptions(batch="crossed", batch_dose=0.7))
    slopes = parts.technical[len(NAMES)]
    lab = EFFECTS["lab"] * LABS["Lab North"]
    assert np.allclose(slopes[::2], lab + 0.7) and np.allclose(slopes[1::2], lab - 0.7)


def test_parts_add_up_and_are_centred_over_the_training_tracks_with_everything_on() -> None:
    world = small_world(ALL_ON)
    centred = world.parts.centred(world.trained)
    assert set(centred.every()) == {"shared", "biological", "technical", "joint", "residual"}
    assert np.allclose(sum(centred.every().values()) + world.bias, world.logits)
    for part in centred.differing().values():
        assert np.abs(part[:, world.trained].mean(1)).max() < 1e-9 and part.std() > 0.1


MOVED = {
    "interaction": {"biological"},
    "technique_interaction": {"joint"},
    "residual": {"residual"},
    "batch": {"technical"},
    "spread": {"noise"},
    "overdispersion": {"noise"},
}
"""What an option changes that leaves the genome alone."""


@pytest.mark.parametrize("name", MOVED)
def test_an_option_changes_nothing_but_what_it_says(name: str) -> None:
    def all_of(world: World) -> dict[str, Any]:
        rows = [{**row, "batch": ""} for row in world.tracks.rows]
        return {**world.genome, **world.parts.every(), "bias": world.bias, "noise": world.noise, "rows": rows}

    plain, other = all_of(small_world({})), all_of(small_world({name: ALL_ON[name]}))
    assert {key for key in other if not np.array_equal(plain.get(key), other[key])} == MOVED[name]


# -- what stands in the genome ---------------------------------------------------------------------------------------


def test_shared_letters_are_the_first_columns_of_a_targets_motif() -> None:
    plain, half = planted_motifs(), planted_motifs(0.5)
    for assay, target in (("MCM1", "ABF1"), ("PDR3", "REB1")):
        taken = len(plain[assay].counts) // 2
        assert half[assay].consensus == plain[assay].consensus[:-taken] + plain[target].consensus[:taken]
        assert len(half[assay].counts) == len(plain[assay].counts)
    assert all(np.array_equal(half[name].counts, plain[name].counts) for name in plain if name not in ("MCM1", "PDR3"))
    assert all(np.array_equal(plain[name].counts, motif.counts) for name, motif in built_in().items())


def test_motifs_follow_gc_as_far_as_told() -> None:
    gc = MEAN_GC + SPREAD_OF_GC * np.array([-1.0, 0, 1, 3])
    chances = motif_chances(gc, SimulateOptions(gc_correlated=1.0))
    assert np.allclose(chances, [MOTIF_CHANCE / np.e, MOTIF_CHANCE, MOTIF_CHANCE * np.e, MOST_CHANCE])
    assert np.allclose(motif_chances(gc, SimulateOptions()), MOTIF_CHANCE)
    assert np.allclose(motif_chances(gc, SimulateOptions(distance=384)), MOTIF_CHANCE / 4)
    correlation = {}
    for follows in (0.0, 1.0):
        world = small_world({"gc_correlated": follows}, bins=800)
        counts = dict.fromkeys(product(world.genome, range(800)), 0)
        for instance in world.instances:
            counts[instance["contig"], instance["start"] // 128] += 1
        correlation[follows] = np.corrcoef(list(counts.values()), world.causes.gc)[0, 1]
    assert abs(correlation[0.0]) < 0.15 and correlation[1.0] > 0.3


def test_the_cause_of_a_motif_names_the_pairs_that_are_bound_there() -> None:
    targets, tissues = list(TARGETS), list(TISSUES)
    causes = planted.causes_by_motif(SimulateOptions(), targets, tissues)
    assert causes["REB1"] == ("biological", "target=REB1") and causes["MCM1"] == ("technical", "assay=ChIP-seq")
    whole = planted.causes_by_motif(SimulateOptions(interaction=1.0), targets, tissues)["REB1"][1]
    assert set(whole.split(", ")) == {
        "target=REB1 & biosample=liver",
        "target=ABF1 & biosample=brain",
        "target=BAS1 & biosample=heart",
    }
    half = planted.causes_by_motif(SimulateOptions(interaction=0.5), targets, tissues)["REB1"][1]
    assert half == f"target=REB1, {whole}"


def test_the_world_apart_has_38_tracks_and_interacts_fully() -> None:
    scale = replace(SIZES["apart"], bins_per_contig=20)
    world = make_world(scale, WORLDS["apart"].resolved(scale), np.random.default_rng(1))
    assert len(world.tracks.rows) == 38 and world.options.interaction == 1
    assert world.options.shared_letters > 0 and world.options.gc_correlated > 0
    twice = [(row["target"], row["biosample"], row["assay"]) for row in world.tracks.rows]
    assert len(twice) - len(set(twice)) == scale.repeated
