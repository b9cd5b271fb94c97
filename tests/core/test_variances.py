"""Variance components: against statsmodels' mixed model, against simulation, and against the formulae written out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.linalg import helmert
from scipy.stats import multivariate_normal
from statsmodels.regression.mixed_linear_model import MixedLM

from mfd_cli.core.variances import (
    Components,
    averaged_variances,
    learn_variances,
    projection,
    restricted_likelihood,
)


def alike(levels: np.ndarray) -> torch.Tensor:
    """1 where two tracks share a level."""
    return torch.from_numpy((levels[:, None] == levels[None]).astype(float))


def silent(kernels: list[torch.Tensor], variances: list[float]) -> Components:
    tracks = len(kernels[0])
    stacked = torch.stack([*kernels, torch.eye(tracks, dtype=torch.float64)])
    return Components(stacked, torch.tensor(variances).double(), torch.zeros(tracks).double())


def to_the_end(weights: torch.Tensor, columns: float, start: Components, *, shrunk: bool = False) -> Components:
    """Iterations without a stop: the rule that ends them early is for training."""
    for _ in range(900):
        start = learn_variances(weights, columns, start, 1, shrunk)
    return start


def test_variances_and_predictions_are_those_of_statsmodels() -> None:
    rng = np.random.default_rng(3)
    groups = rng.integers(0, 9, 80)
    values = 1.5 + rng.normal(0, 1.2, 9)[groups] + rng.normal(0, 0.7, 80)
    theirs = MixedLM.from_formula("y ~ 1", pd.DataFrame({"y": values}), groups=groups).fit(reml=True)
    weights = torch.from_numpy(values)[:, None]
    ours = to_the_end(weights, 1, silent([alike(groups)], [1.0, 1.0]))
    assert float(ours.variances[0]) == pytest.approx(float(theirs.cov_re.iloc[0, 0]), rel=1e-3)
    assert float(ours.variances[1]) == pytest.approx(float(theirs.scale), rel=1e-3)
    predicted = ours.variances[0] * ours.kernels[0] @ ours.projection() @ weights
    expected = [float(theirs.random_effects[group].iloc[0]) for group in groups]
    assert predicted[:, 0].numpy() == pytest.approx(np.array(expected), abs=2e-3)
    assert float(ours.applied(weights)[1][0]) == pytest.approx(float(theirs.fe_params.iloc[0]), abs=1e-3)


@pytest.mark.slow
def test_variances_come_back_from_weights_that_have_them() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (np.arange(240) % 40), (np.arange(240) // 40)
    kernels = [alike(a), alike(b)]
    weights = torch.randn(1, 400, generator=generator).double().expand(240, -1).clone()
    for levels, variance in ((a, 0.5), (b, 0.1)):
        drawn = torch.randn(levels.max() + 1, 400, generator=generator).double() * variance**0.5
        weights += drawn[torch.from_numpy(levels)]
    weights += torch.randn(240, 400, generator=generator).double() * 0.02**0.5
    found = to_the_end(weights, 400, silent(kernels, [1.0, 1.0, 1.0])).variances
    assert found.numpy() == pytest.approx(np.array([0.5, 0.1, 0.02]), rel=0.05)


def test_no_iteration_lowers_the_likelihood() -> None:
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(30, 5, generator=generator).double()
    now = silent([alike(np.arange(30) % 6), alike(np.arange(30) // 10)], [2.0, 0.1, 0.5])
    now = Components(now.kernels, now.variances, torch.rand(30, generator=generator).double())
    before = restricted_likelihood(weights @ weights.T, 5, now)
    for _ in range(50):
        now = learn_variances(weights, 5, now, 1)
        after = restricted_likelihood(weights @ weights.T, 5, now)
        assert after >= before - 1e-9
        before = after


def test_shrunk_weights_give_the_variances_of_what_the_data_say() -> None:
    """What the data alone say has noise; the best guess under the prior is shrunk: both lead to the same variances."""
    generator = torch.Generator().manual_seed(2)
    levels, columns, noise = np.arange(60) % 12, 2000, torch.full((60,), 0.3).double()
    effects = torch.randn(12, columns, generator=generator).double() * 0.4**0.5
    weights = effects[torch.from_numpy(levels)] + torch.randn(60, columns, generator=generator).double() * 0.1**0.5
    seen = weights + torch.randn(60, columns, generator=generator).double() * 0.3**0.5
    start = silent([alike(levels)], [1.0, 1.0])
    from_data = to_the_end(seen, columns, Components(start.kernels, start.variances, noise))
    # Under the right prior the guess is (F + P)^-1 F of what is seen, and learning from it stays where it is.
    prior = Components(start.kernels, from_data.variances, torch.zeros(60).double()).projection()
    guess = torch.linalg.solve(torch.diag(1 / noise) + prior, seen / noise[:, None])
    again = to_the_end(guess, columns, Components(start.kernels, from_data.variances, noise), shrunk=True)
    assert again.variances.numpy() == pytest.approx(from_data.variances.numpy(), rel=1e-6)
    assert from_data.variances.numpy() == pytest.approx(np.array([0.4, 0.1]), rel=0.1)


def test_the_projection_takes_out_the_mean_and_inverts_the_rest() -> None:
    generator = torch.Generator().manual_seed(4)
    root = torch.randn(7, 7, generator=generator).double()
    covariance = root @ root.T + torch.eye(7).double()
    matrix = projection(covariance)
    assert torch.allclose(matrix @ torch.ones(7).double(), torch.zeros(7).double(), atol=1e-12)
    assert torch.allclose(matrix @ covariance @ matrix, matrix, atol=1e-12)


def test_weights_that_are_less_than_their_noise_have_next_to_no_variance() -> None:
    generator = torch.Generator().manual_seed(5)
    weights = torch.randn(20, 6, generator=generator).double() * 1e-4
    start = silent([alike(np.arange(20) % 4)], [0.5, 0.5])
    found = learn_variances(weights, 6, Components(start.kernels, start.variances, torch.ones(20).double()), 300)
    assert ((found.variances > 0) & (found.variances < 1e-3)).all()
    assert torch.isfinite(Components(found.kernels, found.variances, torch.zeros(20).double()).projection()).all()


def test_what_a_projection_makes_of_weights_is_found_without_forming_it() -> None:
    generator = torch.Generator().manual_seed(6)
    weights = torch.randn(15, 4, generator=generator).double()
    noise = torch.rand(15, generator=generator).double()
    start = silent([alike(np.arange(15) % 4)], [0.7, 0.3])
    components = Components(start.kernels, start.variances, noise)
    applied, mean = components.applied(weights)
    assert torch.allclose(applied, components.projection() @ weights, atol=1e-12)
    inverse = torch.linalg.inv(components.covariance())
    assert torch.allclose(mean, (inverse.sum(0) @ weights) / inverse.sum(), atol=1e-12)


# -- which terms there are ---------------------------------------------------------------------------------------------


def six_levels(column: torch.Tensor, noise: float = 1e-3) -> Components:
    """24 tracks of six targets in four labs."""
    start = silent([alike(np.arange(24) % 6), alike(np.arange(24) // 6)], [1 / 3] * 3)
    return Components(start.kernels, start.variances, torch.full((24,), noise).double())


def test_several_guesses_at_once_are_those_one_by_one() -> None:
    generator = torch.Generator().manual_seed(7)
    weights = torch.randn(24, 2, generator=generator).double()
    start = six_levels(weights)
    guesses = torch.tensor([[0.5, 0.2, 0.3], [0.4, 0, 0.6], [0, 0, 1]]).double()
    together = learn_variances(weights, 2, Components(start.kernels, guesses, start.noise), 7)
    likelihoods = restricted_likelihood(weights @ weights.T, 2, together)
    for guess, found, likelihood in zip(guesses, together.variances, likelihoods):
        there = guess > 0
        own = Components(start.kernels[there], guess[there], start.noise)
        alone = learn_variances(weights, 2, own, 7)
        assert torch.allclose(found[there], alone.variances, atol=2e-3) and (found[~there] == 0).all()
        assert float(likelihood) == pytest.approx(float(restricted_likelihood(weights @ weights.T, 2, alone)), abs=2e-3)


@pytest.mark.parametrize(("term", "levels"), [(0, np.arange(24) % 6), (1, np.arange(24) // 6)])
def test_a_column_that_one_factor_explains_has_the_variance_of_that_factor(term: int, levels: np.ndarray) -> None:
    generator = torch.Generator().manual_seed(term)
    column = torch.randn(6, generator=generator).double()[torch.from_numpy(levels)]
    found = averaged_variances(column, six_levels(column), 200)
    assert found[term] > 0.9 * found.sum()


def test_what_one_track_alone_has_is_its_own() -> None:
    """All terms together give its target and its lab a share, which its neighbours would then be said to have too."""
    column = torch.zeros(24).double()
    column[5] = 1
    start = six_levels(column)
    averaged = averaged_variances(column, start, 200)
    together = learn_variances(column[:, None], 1, start, 200).variances
    assert averaged[2] > 0.95 * averaged.sum()
    assert averaged[2] / averaged.sum() >= together[2] / together.sum()


def test_the_average_is_over_how_likely_each_guess_is() -> None:
    """Written out, with statsmodels' variances for a factor with a residual and scipy's density."""
    rng = np.random.default_rng(9)
    labs = np.arange(24) // 6
    column = torch.from_numpy(rng.normal(size=4)[labs] * 0.7 + rng.normal(size=24))
    kernels = torch.stack([alike(labs), torch.eye(24).double()])
    start = Components(kernels, torch.full((2,), 0.5).double(), torch.full((24,), 1e-9).double())
    model = MixedLM.from_formula("y ~ 1", pd.DataFrame({"y": column.numpy()}), groups=labs).fit(reml=True)
    with_lab = torch.tensor([float(model.cov_re.iloc[0, 0]), float(model.scale)]).double()
    alone = torch.tensor([0.0, float(column.var())]).double()
    contrasts = helmert(24)  # the density of the restricted likelihood is that of contrasts

    def density(variances: torch.Tensor) -> float:
        covariance = contrasts @ torch.einsum("k,kij->ij", variances, kernels).numpy() @ contrasts.T
        return float(multivariate_normal(cov=covariance).logpdf(contrasts @ column.numpy()))

    gain = density(with_lab) - density(alone)
    likely = np.exp([gain - 2, -1])  # two terms for 2, one for 1
    expected = (likely[0] * with_lab + likely[1] * alone) / likely.sum()
    assert averaged_variances(column, start, 3000).numpy() == pytest.approx(expected.numpy(), rel=0.02)
