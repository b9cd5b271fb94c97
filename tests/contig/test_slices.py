"""The slices of a feature: the loss of factors and its gradients, heads that read one slice, and probes of what is there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, r2_score
from torch import Tensor

from mfd_cli.contig.config import ContigConfig
from mfd_cli.contig.core.contrast import contrast
from mfd_cli.contig.core.networks import ContigModel
from mfd_cli.contig.core.slices import Factor, factor_loss, level_weights, mean_factor_loss, slices_of
from mfd_cli.contig.slice_probes import factor_rows, family_layout, probed_slices
from mfd_cli.contig.technical import Technical
from mfd_cli.core.apart import adversary_optimiser, built_penalties
from mfd_cli.core.probes import PROBES

NAN = float("nan")


def model_of(technical: int = 4, factors: dict[str, int] | None = None) -> ContigModel:
    torch.manual_seed(0)
    own = {"camera": 3, "age": 1} if factors is None else factors
    return ContigModel("small", 4, 12, 8, 5, {"snps": ("linear", 7, 8)}, 1.0, technical, own)


# -- the loss ------------------------------------------------------------------------------------------------------------


def test_every_level_weighs_the_same() -> None:
    """Six training images of one level and two of the other: an error on the rare one counts three times."""
    training = torch.tensor([0.0] * 6 + [1.0] * 2 + [NAN])
    weight = level_weights(training, 2)
    assert weight.tolist() == pytest.approx([1 / 6, 1 / 2])
    logits = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0], [5.0, 5.0]])
    target = torch.tensor([0.0, 1.0, 1.0, NAN])
    errors = [np.log(1 + np.exp(-1)), np.log(1 + np.exp(-2)), np.log(1 + np.exp(2))]
    by_hand = (errors[0] / 6 + errors[1] / 2 + errors[2] / 2) / (1 / 6 + 1 / 2 + 1 / 2) / np.log(2)
    assert float(factor_loss(logits, Factor(target, weight))) == pytest.approx(by_hand, rel=1e-6)


def test_guessing_costs_one_and_no_value_costs_nothing() -> None:
    rng = np.random.default_rng(0)
    target = torch.from_numpy(rng.integers(0, 5, 300).astype(np.float32))
    guess = factor_loss(torch.full((300, 5), 0.3), Factor(target, level_weights(target, 5)))
    assert float(guess) == pytest.approx(1, rel=1e-6)
    number = torch.from_numpy(rng.standard_normal(400).astype(np.float32))
    number = (number - number.mean()) / number.std(correction=0)
    assert float(factor_loss(torch.zeros(400, 1), Factor(number, None))) == pytest.approx(1, rel=1e-5)
    logits = torch.ones(3, 5, requires_grad=True)
    nothing = factor_loss(logits, Factor(torch.full((3,), NAN), level_weights(target, 5)))
    nothing.backward()
    assert float(nothing.detach()) == 0 and logits.grad is not None and not logits.grad.any()


def distance_correlation(a: Tensor, b: Tensor) -> Tensor:
    """The bias-corrected squared distance correlation (Szekely and Rizzo 2013), entry by entry as it is defined."""
    count, centred = len(a), []
    for x in (a, b):
        x = (x - x.mean(0)) / x.std(0)
        d = torch.stack([torch.stack([(p - q).square().sum() for q in x]) for p in x])
        off = ~torch.eye(count, dtype=torch.bool)
        d = torch.where(off, d.clamp_min(1e-30).sqrt(), torch.zeros_like(d))
        u = d - d.sum(1, keepdim=True) / (count - 2) - d.sum(0) / (count - 2) + d.sum() / ((count - 1) * (count - 2))
        centred.append(torch.where(off, u, torch.zeros_like(u)))
    one, other = centred
    return (one * other).sum() / ((one**2).sum() * (other**2).sum()).sqrt()


def test_gradients_are_those_of_the_formulas_in_double_precision() -> None:
    """All that technique adds to a step: factors with levels and numbers, some missing, and the distance penalty."""
    rng = np.random.default_rng(1)
    config = ContigConfig.model_validate(
        {
            "factors": {"camera": {"column": "a"}, "age": {"column": "b", "type": "number"}},
            "objective": {"technical_weight": 0.3, "penalties": {"distance": {"weight": 0.7, "warmup": 0.5}}},
        }
    )
    camera = torch.from_numpy(np.where(rng.random(16) < 0.2, NAN, rng.integers(0, 3, 16)).astype(np.float32))
    age = torch.from_numpy(np.where(rng.random(16) < 0.2, NAN, rng.standard_normal(16)).astype(np.float32))
    factors = {"camera": Factor(camera, level_weights(camera, 3)), "age": Factor(age, None)}
    penalties = built_penalties(config.objective.penalties, {"biological": 8, "technical": 4}, 8)
    model = model_of()
    technical = Technical(config, factors, penalties, adversary_optimiser(penalties, 1e-3, torch.device("cpu")))
    images = torch.from_numpy(rng.permutation(16)[:10])
    chance, when = torch.tensor(2.5, dtype=torch.float64), (2, 10)  # of a warm-up of five steps, two are over
    ours = torch.from_numpy(rng.standard_normal((10, 12)).astype(np.float32)).requires_grad_(True)
    value = technical.loss(model, ours, images, chance, when)
    value.backward()
    theirs = ours.detach().double().requires_grad_(True)
    part = theirs[:, 8:]
    head = {
        name: (layer.weight.detach().double(), layer.bias.detach().double()) for name, layer in model.factors.items()
    }
    c, a = camera[images], age[images]
    known = ~c.isnan()
    logits = part[known] @ head["of_camera"][0].T + head["of_camera"][1]
    weight = torch.stack([1 / (camera == level).sum().double() for level in range(3)])[c[known].long()]
    entropy = -logits.log_softmax(1)[torch.arange(len(logits)), c[known].long()]
    guess = part @ head["of_age"][0].T + head["of_age"][1]
    square = (guess[:, 0][~a.isnan()] - a[~a.isnan()].double()).square().mean()
    of_factors = ((weight * entropy).sum() / weight.sum() / np.log(3) + square) / 2
    expected = 2.5 * (0.3 * of_factors + 0.7 * 2 / 5 * distance_correlation(theirs[:, :8], part))
    expected.backward()
    assert float(value.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert ours.grad is not None and theirs.grad is not None
    assert torch.allclose(ours.grad.double(), theirs.grad, rtol=1e-3, atol=1e-5)


# -- who reads what --------------------------------------------------------------------------------------------------------


def test_each_head_reads_its_slice_alone() -> None:
    model = model_of()
    assert model.slices == {"biological": slice(0, 8), "technical": slice(8, 12)}
    feature = torch.randn(6, 12)
    z, told = model.image_projection("snps", feature), model.factor_logits(feature)
    other = feature.clone()
    other[:, 8:] = torch.randn(6, 4)
    assert torch.equal(model.image_projection("snps", other), z)
    assert not torch.equal(model.factor_logits(other)["camera"], told["camera"])
    other = feature.clone()
    other[:, :8] = torch.randn(6, 8)
    assert all(torch.equal(logits, told[name]) for name, logits in model.factor_logits(other).items())
    assert not torch.equal(model.image_projection("snps", other), z)


def test_no_gradient_of_a_loss_reaches_the_other_slice() -> None:
    model = model_of()
    feature = torch.randn(6, 12, requires_grad=True)
    u = model.person_projection("snps", torch.randn(6, 7))
    loss = contrast(
        model.image_projection("snps", feature), u, torch.arange(6), torch.arange(6), torch.tensor(1.0), 0.75
    )
    (gradient,) = torch.autograd.grad(loss.loss, feature)
    assert gradient[:, :8].any() and not gradient[:, 8:].any()
    target = torch.tensor([0.0, 1, 2, 0, 1, 2])
    factors = {"camera": Factor(target, level_weights(target, 3)), "age": Factor(target - 1, None)}
    (gradient,) = torch.autograd.grad(mean_factor_loss(model.factor_logits(feature), factors), feature)
    assert gradient[:, 8:].any() and not gradient[:, :8].any()


def test_the_norm_has_no_scale_and_is_there_only_with_a_slice() -> None:
    plain, sliced = model_of(0, {}), model_of()
    assert not [name for name in plain.state_dict() if name.startswith(("norm", "factors"))]
    assert not list(sliced.norm.parameters())
    pictures = torch.randn(40, 3, 16, 16)
    h = sliced.train().feature(pictures)
    assert torch.allclose(h.mean(0), torch.zeros(12), atol=1e-5)
    assert torch.allclose(h.std(0, correction=0), torch.ones(12), atol=1e-2)
    assert slices_of(12, 0) == {"biological": slice(0, 12)}


def test_a_factor_may_be_called_as_a_method_of_torch() -> None:
    model = model_of(4, {"type": 2, "train": 3, "half": 1})
    assert {name: logits.shape[1] for name, logits in model.factor_logits(torch.randn(2, 12)).items()} == {
        "type": 2,
        "train": 3,
        "half": 1,
    }


# -- probes --------------------------------------------------------------------------------------------------------------


@given(some.lists(some.integers(0, 30), min_size=2, max_size=200), some.integers(0, 5))
def test_no_family_is_divided_between_fitting_and_measuring(family: list[int], seed: int) -> None:
    family_of = np.array(family)
    order, layout = family_layout(family_of, seed)
    assert sorted(order.tolist()) == list(range(len(family)))
    fitted, measured = set(family_of[order[layout.fitted]].tolist()), set(family_of[order[layout.measured]].tolist())
    assert not fitted & measured
    rest = order[layout.measured]
    assert sorted(np.concatenate([rest[each] for each in layout.stretches]).tolist() if len(rest) else []) == sorted(
        rest.tolist()
    )
    assert all(len(set(family_of[rest[each]].tolist())) == 1 for each in layout.stretches)
    largest = int(np.bincount(family_of).max())
    assert abs(len(order[layout.fitted]) - len(family) * 2 / 3) <= largest
    assert np.array_equal(order, family_layout(family_of, seed)[0])


def planted(images: int = 1500) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Slices of which the technical one alone knows the level, two images a family."""
    rng = np.random.default_rng(2)
    level = rng.integers(0, 3, images).astype(np.float64)
    family = np.arange(images) // 2
    technical = np.eye(3)[level.astype(int)] * 2 + rng.normal(size=(images, 3))
    biological = rng.normal(size=(images, 5))
    return {"biological": biological.astype(np.float32), "technical": technical.astype(np.float32)}, level, family


def test_a_factor_is_found_where_it_is_and_not_where_it_is_not() -> None:
    slices, level, family = planted()
    rows = {
        (row["from"], row["probe"]): row for row in probed_slices(slices, {"camera": level}, frozenset(), family, 0)
    }
    for probe in PROBES:
        there, absent = rows["technical", probe], rows["biological", probe]
        assert there["low"] > 0.7 > 0.45 > there["chance"] and there["low"] <= there["value"] <= there["high"]
        assert absent["low"] < 1 / 3 + 0.02 and abs(absent["value"] - 1 / 3) < 0.08
    between = [row for row in probed_slices(slices, {}, frozenset(), family, 0) if row["measure"] == "r2"]
    assert between and all(row["value"] < 0.05 for row in between)


def test_the_linear_probe_is_that_of_scikit_learn() -> None:
    slices, level, family = planted(400)
    level[:7], level[7:40] = np.nan, 2.0
    level[40:43] = 5.0  # three images of a level: nothing is said of it
    (row, *_) = factor_rows("camera", "technical", slices["technical"], level, False, family, 3)
    known = np.flatnonzero(~np.isnan(level) & (level != 5.0))
    order, layout = family_layout(family[np.flatnonzero(~np.isnan(level))], 3)
    rows = np.flatnonzero(~np.isnan(level))[order]
    rows = rows[level[rows] != 5.0]
    order, layout = family_layout(family[rows], 3)
    rows = rows[order]
    assert sorted(rows.tolist()) == known.tolist()
    x = slices["technical"][rows].astype(np.float64)
    x = (x - x.mean(0)) / x.std(0)
    probe = LogisticRegression(class_weight="balanced", max_iter=1000).fit(x[layout.fitted], level[rows[layout.fitted]])
    expected = balanced_accuracy_score(level[rows[layout.measured]], probe.predict(x[layout.measured]))
    assert row["value"] == pytest.approx(expected, abs=1e-9)


def test_a_number_is_told_by_its_share_of_variance() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(900, 4)).astype(np.float32)
    number = 50 + 3 * x[:, 0] + rng.normal(size=900)  # nine tenths of it
    rows = {row["probe"]: row for row in factor_rows("age", "all", x, number, True, np.arange(900), 0)}
    assert rows["linear"]["measure"] == "r2" and rows["linear"]["value"] == pytest.approx(0.9, abs=0.03)
    assert abs(rows["linear"]["chance"]) < 0.05
    order, layout = family_layout(np.arange(900), 0)
    inputs = ((x - x.mean(0)) / x.std(0))[order].astype(np.float64)
    guess = (
        PROBES["linear"](0).fit(inputs[layout.fitted], number[order][layout.fitted]).predict(inputs[layout.measured])
    )
    assert rows["linear"]["value"] == pytest.approx(r2_score(number[order][layout.measured], guess), abs=0.01)


def test_too_few_images_say_nothing() -> None:
    slices, level, family = planted(40)
    assert probed_slices(slices, {"camera": level}, frozenset(), family, 0) == []
    assert factor_rows("camera", "technical", slices["technical"], np.full(40, np.nan), False, family, 0) == []
