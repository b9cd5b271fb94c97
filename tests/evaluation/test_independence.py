"""Probes of independence: blind to what is not there, sure of what is, and a level of chance that is chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from kit import tiny
from mfd_cli.core.predictor import Predictor
from mfd_cli.core.probes import PROBES, independence
from mfd_cli.dataset.bins import unpack_bits
from mfd_cli.dataset.folder import Dataset
from mfd_cli.evaluation.evaluate import evaluate
from mfd_cli.evaluation.independence import (
    contributions,
    nearest_neighbour,
    untrained_weights,
    weight_leakage,
)
from mfd_cli.runs.at_work import bin_latents
from mfd_cli.runs.folder import Run

RNG = np.random.default_rng(0)


def rows_of(latents: dict[str, np.ndarray]) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(row["measure"], row["probe"], row["from"]): row for row in independence(latents)}


def test_independent_groups_of_unequal_size_show_nothing() -> None:
    found = rows_of({"biological": RNG.normal(size=(1800, 6)), "technical": RNG.normal(size=(1800, 3))})
    for probe in PROBES:
        for source in ("biological", "technical"):
            row = found["r2", probe, source]
            assert row["value"] < 0.03 and abs(row["value"] - row["chance"]) < 0.1
    accuracy = found["accuracy", "shuffled pairs", "biological"]
    assert accuracy["low"] < 0.53 and abs(accuracy["value"] - 0.5) < 0.06
    assert found["canonical correlation", "first", "biological"]["value"] < 0.12


def test_a_curve_is_seen_by_the_probes_that_can_bend() -> None:
    x = RNG.normal(size=(2400, 2))
    found = rows_of({"biological": x, "technical": (x**2)[:, :1] + 0.1 * RNG.normal(size=(2400, 1))})
    assert found["r2", "linear", "biological"]["value"] < 0.1
    assert found["r2", "forest", "biological"]["value"] > 0.6 < found["r2", "perceptron", "biological"]["value"]
    assert found["r2", "forest", "technical"]["value"] < 0.4  # the sign is lost
    row = found["accuracy", "shuffled pairs", "biological"]
    assert row["low"] > 0.7 and row["low"] <= row["value"] <= row["high"]


def test_copies_and_the_best_predicted_dimension() -> None:
    x = RNG.normal(size=(900, 4))
    y = np.column_stack([x @ RNG.normal(size=4), RNG.normal(size=900)])
    found = rows_of({"a": x, "b": y})
    row = found["r2", "linear", "a"]
    assert row["worst"] > 0.99 and row["value"] == pytest.approx(0.5, abs=0.05)
    assert found["canonical correlation", "first", "a"]["value"] > 0.99


def test_chance_keeps_what_is_smooth_along_the_genome() -> None:
    """Two unrelated slow waves: their probes do better than nothing, and so does chance."""
    t = np.linspace(0, 1, 1500)[:, None]
    slow = {"a": np.sin(9 * t), "b": np.cos(7 * t + 1)}
    row = rows_of(slow)["canonical correlation", "first", "a"]
    assert row["chance"] > 0.2


def test_contributions_leave_out_what_no_weight_uses() -> None:
    latents = RNG.normal(size=(400, 5))
    weights = np.zeros((7, 5))
    weights[:, 1] = RNG.normal(size=7)
    parts = contributions(latents, weights)
    assert parts.shape == (400, 1)
    assert abs(np.corrcoef(parts[:, 0], latents[:, 1])[0, 1]) == pytest.approx(1)


def test_a_component_counts_by_the_variance_that_it_contributes() -> None:
    """Both groups share one cause, 4 % of the variance of the logits of each: that is what can be predicted, not half of it."""
    common, one, other = RNG.normal(size=(3, 3000, 1))
    small = np.sqrt(0.04 / 0.96)
    groups = {"a": np.hstack([one, common]), "b": np.hstack([other, common])}
    weights = np.array([[1, 0], [-1, 0], [0, small], [0, -small]])
    parts = {group: contributions(latents, weights) for group, latents in groups.items()}
    assert [part.shape[1] for part in parts.values()] == [2, 2]
    for weighed, expected in ((True, 0.04), (False, 0.5)):
        rows = {row["probe"]: row for row in independence(parts, weighed=weighed) if row["measure"] == "r2"}
        assert rows["linear"]["value"] == pytest.approx(expected, abs=0.02)
        assert rows["linear"]["worst"] == pytest.approx(small**2 if weighed else 1, abs=0.02)
        if weighed:
            assert rows["forest"]["value"] == pytest.approx(expected, abs=0.03)


def test_a_component_that_hardly_moves_a_logit_is_left_out() -> None:
    latents = RNG.normal(size=(2000, 2))
    for size, components in ((0.01, 1), (0.2, 2)):  # 1e-4 and 4 % of the first one's variance
        assert contributions(latents, np.array([[1, 0], [0, size]])).shape[1] == components


def test_nearest_neighbours_by_hand() -> None:
    assert nearest_neighbour(np.array([[0.0], [1], [10], [12]])).tolist() == [1, 0, 3, 2]


def test_what_weights_tell_is_beyond_what_the_table_gives(trained: tuple[Run, Dataset]) -> None:
    """Weights that tell the assay, beside networks that do not and networks that do so without having seen any data."""
    run, _ = trained
    group_of = {name: factor.group for name, factor in run.model.factors.items()}
    assay = np.array([row["Assay"] == "CUT&RUN" for row in run.model.rows], float)
    target = np.array([row["Target"] == "CTCF" for row in run.model.rows], float)
    leaky = np.column_stack([5 * target, 3 * assay])
    other_way = np.column_stack(
        [5 * target, 3 * (np.arange(len(target)) // 2 % 2)]
    )  # neighbours of the other assay too

    def row_of(untrained: list[np.ndarray]) -> dict[str, Any]:
        found = weight_leakage(run, {"biological": leaky}, [{"biological": each} for each in untrained], group_of)
        return {row["factor"]: row for row in found}["assay"]

    beside_its_like, mixed = row_of([leaky, leaky]), row_of([leaky, other_way])
    assert beside_its_like["accuracy"] == mixed["accuracy"] == 1 and mixed["within"] == "target"
    assert beside_its_like["excess"] == beside_its_like["untrained_sd"] == 0
    alone = row_of([other_way, other_way])["untrained"]
    assert alone < 1 and mixed["untrained"] == pytest.approx((1 + alone) / 2)
    assert mixed["excess"] == pytest.approx((1 - alone) / 2)
    assert mixed["untrained_sd"] == pytest.approx((1 - alone) / np.sqrt(2))


def test_an_untrained_network_has_no_excess(trained: tuple[Run, Dataset]) -> None:
    run, _ = trained
    state = torch.random.get_rng_state()
    networks = untrained_weights(run, 3)
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's numbers change
    assert [set(network) for network in networks] == [set(run.model.groups)] * 3
    assert not np.allclose(networks[0]["technical"], networks[1]["technical"])
    assert np.array_equal(untrained_weights(run, 1)[0]["technical"], networks[0]["technical"])
    assert networks[0]["technical"].shape == Predictor(run.model).head.groups["technical"].shape
    group_of = {name: factor.group for name, factor in run.model.factors.items()}
    rows = weight_leakage(run, networks[0], [networks[0], networks[0]], group_of)
    assert rows and all(row["excess"] == 0 for row in rows)


def test_evaluate_reports_independence_and_baselines(trained: tuple[Run, Dataset], tmp_path: Any) -> None:
    run, dataset = trained
    result = evaluate(run, dataset, beside={"itself": run}, kmer=True, output=tmp_path / "evaluation")
    assert {row["of"] for row in result.probes} == {"latents", "contributions"}
    assert {row["baseline"] for row in result.baselines} >= {"average", "nearest", "same target", "itself", "k-mers"}
    for row in result.baselines:
        if row["baseline"] == "itself":
            own = next(track for track in result.tracks if track["track"] == row["track"])
            assert row["auroc"] == own["auroc"] or row["pearson"] == own["pearson"]
    bins = dataset.split("test")
    labels, logits = (
        unpack_bits(bins.peaks, 8),
        Predictor(run.model).head.logits(bin_latents(run, dataset, bins))[:, :8],
    )
    both = [b for b in range(len(labels)) if 0 < labels[b].sum() < 8]
    expected = np.mean([roc_auc_score(labels[b], logits[b]) for b in both])
    assert result.summary["within_bin"]["auroc"] == pytest.approx(expected, abs=1e-6)
    names = {path.name for path in (tmp_path / "evaluation").iterdir()}
    assert {"baselines.tsv", "independence.tsv", "weights.tsv", "independence.png"} <= names
    assert evaluate(run, dataset, probes=False).probes == []
    twin = tiny.model(9, model={"head": "free"})
    assert twin.groups == ("free",)
