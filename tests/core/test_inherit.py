"""What a model takes from another: rows of any head, and metadata networks by group, factor and level."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from kit import tiny
from mfd_cli.core.head import ConditionedHead
from mfd_cli.core.inherit import inherit_backbone, inherit_networks, inherit_rows, level_pairs
from mfd_cli.core.metadata import fit_metadata
from mfd_cli.core.model import MfdModel

EVERY = [(place, place) for place in range(8)]
ENCODED = {
    "target": {"column": "Target", "group": "biological"},
    "tissue": {"column": "Tissue", "group": "biological", "encode": "linear", "dim": 3},
    "assay": {"column": "Assay", "group": "technical", "role": "both"},
    "lab": {"column": "Lab", "group": "technical", "encode": "embed", "dim": 2},
}


def model_of(rows: Sequence[dict[str, str]], seed: int, **sections: object) -> MfdModel:
    """A random model of these tracks, with weights that a training could have left."""
    settings, used = tiny.config(**sections), np.ones(len(rows), bool)
    metadata = fit_metadata(rows, settings.factors)
    torch.manual_seed(seed)
    model = MfdModel(settings.resolved_model(), metadata, settings.factors, rows, used, np.zeros(len(rows), np.float32))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("factors", [tiny.FACTORS, ENCODED], ids=["plain", "encoded"])
def test_tracks_of_known_levels_have_the_weights_that_they_had(factors: dict[str, object]) -> None:
    """Also beside tracks of new levels, which change the mean, the widths and the places of columns."""
    source = model_of(tiny.rows(8), 1, factors=factors)
    new = [{"Target": "AAA", "Tissue": "kidney", "Assay": "ChIP-seq", "Lab": "AA"} for _ in range(2)]
    model = model_of([*tiny.rows(8), *new], 2, factors=factors)
    assert inherit_networks(model, source, EVERY) == ["biological", "technical"]
    ours, theirs = model.head.matrix().detach(), source.head.matrix().detach()
    assert torch.allclose(ours[:8], theirs, atol=1e-5)
    assert torch.equal(model.head.bias[:8], source.head.bias)
    assert not torch.equal(model.head.bias[8:], source.head.bias[:2])


def test_of_the_same_levels_a_head_is_a_copy() -> None:
    source, model = (model_of(tiny.rows(8), seed) for seed in (1, 2))
    inherit_networks(model, source, EVERY)
    ours, theirs = model.head.state_dict(), source.head.state_dict()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)


def test_a_group_whose_latents_are_driven_directly_by_other_levels_is_new() -> None:
    """The level of a latent cannot be exchanged: the backbone was trained for it."""
    source = model_of(tiny.rows(8), 1)
    other = [{**row, "Assay": "DNase-seq" if row["Assay"] == "CUT&RUN" else row["Assay"]} for row in tiny.rows(8)]
    model = model_of(other, 2)
    before = {name: value.clone() for name, value in model.head.state_dict().items() if "E_technical" in name}
    assert inherit_networks(model, source, EVERY) == ["biological"]
    assert all(torch.equal(model.head.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    "change", [{"model": {"hidden": 4}}, {"model": {"groups": {"biological": 1, "technical": 1}}}], ids=str
)
def test_networks_of_another_width_or_other_latents_are_not_taken(change: dict[str, object]) -> None:
    source, model = model_of(tiny.rows(8), 1), model_of(tiny.rows(8), 2, **change)
    assert inherit_networks(model, source, EVERY) == []


@pytest.mark.parametrize("head", ["mixed", "free"])
@pytest.mark.parametrize("other", ["mixed", "free", "conditioned"])
def test_rows_are_taken_from_any_head(head: str, other: str) -> None:
    source, model = model_of(tiny.rows(8), 1, model={"head": other}), model_of(tiny.rows(8), 2, model={"head": head})
    before = model.head.matrix().detach().clone()
    assert inherit_rows(model, source, [(0, 5), (3, 1)])
    after, theirs = model.head.matrix().detach(), source.head.matrix().detach()
    assert torch.equal(after[[0, 3]], theirs[[5, 1]]) and torch.equal(after[[1, 2, 4]], before[[1, 2, 4]])
    assert torch.equal(model.head.bias[[0, 3]], source.head.bias[[5, 1]])


def test_a_conditioned_head_has_no_rows_and_takes_no_networks_of_another_head() -> None:
    model = model_of(tiny.rows(8), 2)
    assert isinstance(model.head, ConditionedHead)
    for other in ("mixed", "free"):
        source = model_of(tiny.rows(8), 1, model={"head": other})
        assert not inherit_rows(model, source, EVERY) and inherit_networks(model, source, EVERY) == []


def test_numbers_mean_the_same_where_they_are_standardised_alike() -> None:
    def rows(scale: int) -> list[dict[str, str]]:
        return [{**row, "Age": str(scale * number)} for number, row in enumerate(tiny.rows(8))]

    factors = {**tiny.FACTORS, "age": {"column": "Age", "group": "biological", "type": "number"}}
    one, same, other = (model_of(rows(scale), 1, factors=factors).metadata for scale in (1, 1, 2))
    assert level_pairs(one, same, "age") == [(0, 0), (1, 1)] and level_pairs(one, other, "age") == []


def test_the_backbone_comes_with_its_running_averages() -> None:
    source, model = model_of(tiny.rows(8), 1), model_of(tiny.rows(8), 2)
    source.train()
    source(tiny.windows(8, source.window))
    inherit_backbone(model, source)
    codes = tiny.windows(4, model.window)
    assert torch.equal(model.eval().latent(codes), source.eval().latent(codes))
