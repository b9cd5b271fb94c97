"""The regression of all traits at once is least squares, variant by variant: by hand, by statsmodels, by plink2."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as some

from kit.genetic_world import linked_dosages, variants_of
from mfd_cli.contig.core import association as core
from mfd_cli.contig.data.plink import write_plink


def made(persons: int = 300, count: int = 40, traits: int = 3, inner: int = 4, missing: float = 0.02, seed: int = 1):
    """Dosages, covariates (persons, inner) and traits (persons, traits), some of which go with a variant."""
    rng = np.random.default_rng(seed)
    dosages = linked_dosages(persons, count, rng, missing=missing)
    covariates = rng.standard_normal((persons, inner))
    covariates[:, 0] = rng.integers(0, 2, persons)
    y = rng.standard_normal((persons, traits)) + covariates[:, :1] + 0.3 * np.maximum(dosages[3], 0)[:, None]
    return dosages, covariates, y


def fit(dosages: np.ndarray, covariates: np.ndarray, traits: np.ndarray, **limits: float) -> core.Fits:
    return core.Regression(core.orthonormal(covariates)[0], traits, **limits).fit(dosages)


# -- regression --------------------------------------------------------------------------------------------------------


def test_a_line_through_four_persons_by_hand() -> None:
    """g = 0 1 1 2, y = 0 2 1 4: mean 1 and 7/4; Sgg = 2, Sgy = 4, Syy = 35/4; beta 2, rest 3/4, se^2 = 3/4 / 2 / 2."""
    fits = fit(np.array([[0, 1, 1, 2]], np.int8), np.zeros((4, 0)), np.array([[0.0], [2], [1], [4]]))
    assert fits.beta[0, 0] == pytest.approx(2, abs=1e-14)
    assert fits.standard_error[0, 0] == pytest.approx(np.sqrt(3 / 16), abs=1e-14)
    t = 2 / np.sqrt(3 / 16)
    assert fits.neg_log_10_p[0, 0] == pytest.approx(-np.log10(1 - t / np.sqrt(2 + t * t)))  # Student's t of two degrees
    assert fits.calls[0] == 4 and fits.frequency[0] == 0.5


def test_a_missing_call_is_a_person_less() -> None:
    dosages = np.array([[0, 1, 1, 2, -1]], np.int8)
    y = np.array([[0.0], [2], [1], [4], [99]])
    fits = fit(dosages, np.zeros((5, 0)), y)
    assert fits.beta[0, 0] == pytest.approx(2, abs=1e-12)
    assert fits.standard_error[0, 0] == pytest.approx(np.sqrt(3 / 16), abs=1e-12)
    assert fits.calls[0] == 4 and fits.frequency[0] == 0.5


@pytest.mark.parametrize("missing", [0.0, 0.02, 0.3])
def test_statsmodels_gives_the_same(missing: float) -> None:
    ols = pytest.importorskip("statsmodels.api").OLS
    dosages, covariates, traits = made(missing=missing)
    fits = fit(dosages, covariates, traits)
    for row, variant in enumerate(dosages):
        known = variant >= 0
        design = np.column_stack([np.ones(known.sum()), covariates[known], variant[known]])
        for trait in range(traits.shape[1]):
            other = ols(traits[known, trait], design).fit()
            assert fits.beta[row, trait] == pytest.approx(other.params[-1], rel=1e-9, abs=1e-9 * other.bse[-1])
            assert fits.standard_error[row, trait] == pytest.approx(other.bse[-1], rel=1e-9)
            assert fits.neg_log_10_p[row, trait] == pytest.approx(-np.log10(other.pvalues[-1]), rel=1e-8, abs=1e-9)
        assert fits.calls[row] == known.sum()
        assert fits.frequency[row] == variant[known].mean() / 2


@pytest.mark.skipif(not shutil.which("plink2"), reason="no plink2")
def test_plink2_gives_the_same(tmp_path: Path) -> None:
    """plink2 prints six digits: beta and se to 2e-5 of se, with covariates and 2 % of the calls missing."""
    dosages, covariates, traits = made(persons=600, count=60)
    ids = [f"p{number}" for number in range(600)]
    variants = variants_of(60)
    write_plink(tmp_path / "g.bed", ids, ["0"] * 600, variants, dosages)
    for name, columns, letter in (("covariates", covariates, "C"), ("traits", traits, "Y")):
        head = "\t".join(["#IID", *(f"{letter}{index}" for index in range(columns.shape[1]))])
        rows = ("\t".join([person, *map(repr, values)]) for person, values in zip(ids, columns.tolist()))
        (tmp_path / name).write_text("\n".join([head, *rows]) + "\n")
    command = "plink2 --bfile g --pheno traits --covar covariates --glm hide-covar --threads 1 --out o"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    fits = fit(dosages, covariates, traits)
    for trait in range(traits.shape[1]):
        lines = [line.split("\t") for line in (tmp_path / f"o.Y{trait}.glm.linear").read_text().splitlines()]
        at = {name: place for place, name in enumerate(lines[0])}
        assert len(lines) == 61
        for row, cells in enumerate(lines[1:]):
            sign = 1 if cells[at["A1"]] == variants.effect_allele[row] else -1
            error = fits.standard_error[row, trait]
            assert abs(sign * float(cells[at["BETA"]]) - fits.beta[row, trait]) < 2e-5 * error
            assert abs(float(cells[at["SE"]]) - error) < 2e-5 * error
            assert int(cells[at["OBS_CT"]]) == fits.calls[row]
            assert float(cells[at["P"]]) == pytest.approx(10 ** -fits.neg_log_10_p[row, trait], rel=1e-4)


def test_traits_are_independent_of_each_other_and_blocks_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    dosages, covariates, traits = made()
    together = fit(dosages, covariates, traits)
    alone = fit(dosages[7:9], covariates, traits[:, 1:2])
    assert np.allclose(together.beta[7:9, 1:2], alone.beta, rtol=1e-12)
    monkeypatch.setattr(core, "CHUNK_BYTES", 8 * 300 * 3)
    monkeypatch.setattr(core, "CHUNK_PERSONS", 7)
    chunked = fit(dosages, covariates, traits)
    assert np.allclose(together.standard_error, chunked.standard_error, rtol=1e-12)
    assert np.array_equal(together.calls, chunked.calls)


@given(some.integers(0, 1000), some.floats(-50, 50), some.floats(0.01, 100))
@settings(max_examples=25, deadline=None)
def test_what_may_not_matter_does_not(seed: int, shift: float, scale: float) -> None:
    """Covariates added to the traits, other units of the covariates, another order of persons, the other allele counted."""
    dosages, covariates, traits = made(persons=80, count=5, missing=0.05, seed=seed)
    plain = fit(dosages, covariates, traits)
    order = np.random.default_rng(seed).permutation(80)
    moved = fit(dosages[:, order], scale * covariates[order] + shift, traits[order] + shift * covariates[order, 1:2])
    assert np.allclose(plain.beta, moved.beta, rtol=1e-6, atol=1e-7)
    assert np.allclose(plain.standard_error, moved.standard_error, rtol=1e-6)
    other = fit(np.where(dosages < 0, -1, 2 - dosages).astype(np.int8), covariates, traits)
    assert np.allclose(plain.beta, -other.beta, rtol=1e-8, atol=1e-10)
    assert np.allclose(plain.frequency, 1 - other.frequency)


def test_untestable_variants_say_why() -> None:
    rng = np.random.default_rng(5)
    sex = rng.integers(0, 2, 100)
    usual = rng.integers(0, 3, 100)
    few = usual.copy()
    few[:20] = -1
    rare = np.zeros(100, int)
    rare[3] = 1
    alone = np.where(sex == 1, -1, usual)  # the covariate is the same for all who have a call
    dosages = np.array(
        [usual, np.ones(100), np.full(100, -1), few, rare, sex, 2 * sex, alone, np.where(few < 0, -1, 0)]
    )
    fits = fit(
        dosages.astype(np.int8), sex[:, None].astype(float), rng.standard_normal((100, 2)), maf=0.01, max_missing=0.6
    )
    told = [core.REASONS[code] for code in fits.reason]
    assert told == ["", "monomorphic", "missing", "", "maf", "collinear", "collinear", "collinear", "monomorphic"]
    assert np.array_equal(np.isnan(fits.beta[:, 0]), fits.reason != core.TESTED)
    assert np.array_equal(np.isnan(fits.neg_log_10_p[:, 1]), fits.reason != core.TESTED)
    strict = fit(dosages.astype(np.int8), sex[:, None].astype(float), rng.standard_normal((100, 1)), max_missing=0.1)
    assert core.REASONS[strict.reason[3]] == "missing"


@pytest.mark.parametrize("persons", [5, 50, 1000])
def test_a_trait_that_is_a_variant_has_a_finite_p(persons: int) -> None:
    """What rounding leaves of such a trait may be less than nothing."""
    for seed in range(20):
        dosages = linked_dosages(persons, 3, np.random.default_rng(seed))
        fits = fit(dosages, np.zeros((persons, 0)), dosages.T.astype(float))
        same = np.arange(3)[fits.reason == core.TESTED]
        assert np.allclose(fits.beta[same, same], 1)
        assert np.isfinite(fits.neg_log_10_p[same, same]).all() and (fits.neg_log_10_p[same, same] > persons / 2).all()


# -- probabilities -----------------------------------------------------------------------------------------------------


def log_10_p(t: float, freedom: int) -> float:
    """-log10 of the two-sided P: the density of t, and the integral of what it falls to from there, in 20 digits."""
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.dps = 20
    t, n = mpmath.mpf(t), mpmath.mpf(freedom)

    def falls(u):
        return mpmath.exp(-(n + 1) / 2 * (mpmath.log1p((t + u) ** 2 / n) - mpmath.log1p(t**2 / n)))

    steep = max(t * (n + 1) / (n + t**2), mpmath.mpf(1) / 3)
    integral = mpmath.quad(falls, [0, 1 / steep, 5 / steep, 30 / steep, mpmath.inf])
    density = mpmath.loggamma((n + 1) / 2) - mpmath.loggamma(n / 2) - mpmath.log(n * mpmath.pi) / 2
    density -= (n + 1) / 2 * mpmath.log1p(t**2 / n)
    return float(-(density + mpmath.log(2 * integral)) / mpmath.log(10))


@pytest.mark.parametrize("freedom", [1, 30, 1000, 5_000_000])
def test_p_is_that_of_t_at_any_size(freedom: int) -> None:
    t = np.array([1e-9, 1.0, 5.0, 35.0, 40.0, 5000.0])
    found = core.neg_log_10_p(t, np.full(len(t), freedom))
    assert found == pytest.approx([log_10_p(one, freedom) for one in t.tolist()], rel=2e-9, abs=1e-9)


@given(some.floats(0, 1e6), some.integers(1, 10**7))
@settings(deadline=None)
def test_p_falls_as_t_grows(t: float, freedom: int) -> None:
    values = core.neg_log_10_p(np.array([t, -t, t * 1.01]), np.array([freedom] * 3))
    assert (
        np.isfinite(values).all() and (values >= 0).all() and values[0] == values[1] and values[2] >= values[0] - 1e-9
    )


def test_p_of_nothing_known_is_not_known() -> None:
    assert np.isnan(core.neg_log_10_p(np.array([[np.nan, 1.0]]), np.array([[10, 10]]))).tolist() == [[True, False]]


def test_least_p_is_times_the_number_of_traits() -> None:
    least, which = core.least_p(np.array([[3.0, 1, 2, 0], [0.1, 0.2, 0, 0], [np.nan] * 4]))
    assert least[0] == pytest.approx(3 - np.log10(4)) and least[1] == 0 and np.isnan(least[2])
    assert which.tolist() == [0, 1, -1]


def test_lambda_is_the_median_over_that_of_chance() -> None:
    chi = scipy.stats.chi2(1).ppf((np.arange(101) + 0.5) / 101)
    both = np.stack([chi, 1.3 * chi], axis=1)
    both = np.concatenate([both, np.full((1, 2), np.nan)])
    assert np.allclose(core.genomic_control(both), [1, 1.3])
    assert abs(core.MEDIAN_CHI_SQUARE - 0.4549) < 1e-4
    assert np.isnan(core.genomic_control(np.full((3, 2), np.nan))).all()


# -- traits ------------------------------------------------------------------------------------------------------------


def test_normal_scores_are_blom_s() -> None:
    scores = core.inverse_normal(np.array([[10.0], [-3], [10], [99]]))
    expected = scipy.stats.norm.ppf((np.array([2.5, 1, 2.5, 4]) - 0.375) / 4.25)
    assert np.allclose(scores[:, 0], expected)


def test_components_are_those_of_the_centred_features() -> None:
    rng = np.random.default_rng(1)
    features = rng.standard_normal((50, 2)) @ rng.standard_normal((2, 6)) + 100
    found = core.principal_components(features, 4)
    assert found.shape == (50, 2)  # no more than there is
    centred = features - features.mean(axis=0)
    assert np.allclose(np.square(found).sum(axis=0), np.linalg.svd(centred, compute_uv=False)[:2] ** 2)
    assert np.allclose(found, core.principal_components(features + 5, 4))
    assert abs(found[:, 0] @ found[:, 1]) < 1e-8


def test_a_basis_leaves_out_what_adds_nothing() -> None:
    rng = np.random.default_rng(1)
    one, two = rng.standard_normal((2, 30))
    basis, idle = core.orthonormal(np.stack([one, np.full(30, 7.0), two, 3 * one - two + 1e6], axis=1))
    assert idle.tolist() == [1, 3] and basis.shape == (30, 3)
    assert np.allclose(basis.T @ basis, np.eye(3), atol=1e-14)
    assert np.allclose(basis @ (basis.T @ one), one)


# -- genetic components ------------------------------------------------------------------------------------------------


def test_pruned_variants_do_not_correlate() -> None:
    dosages = linked_dosages(2000, 100, np.random.default_rng(3), missing=0.01)
    code = np.arange(100) // 50
    pruner = core.Pruner(0.1)
    starts = range(0, 100, 30)
    kept = np.concatenate([at + pruner.keep(dosages[at : at + 30], code[at : at + 30]) for at in starts])
    assert 20 <= len(kept) < 60 and 0 in kept
    scaled = core.standardised(dosages, *core.moments(dosages))
    r2 = np.square(np.corrcoef(scaled))
    same = code[:, None] == code[None]
    inside = r2[np.ix_(kept, kept)] * same[np.ix_(kept, kept)]
    assert np.triu(inside, 1).max() < 0.1
    for row in np.setdiff1d(np.arange(100), kept):  # and none is left out without reason
        assert r2[row, kept[(kept < row) & same[row, kept]]].max() >= 0.0999


def test_genetic_components_are_those_of_a_singular_value_decomposition() -> None:
    """Two populations and a cline: the leading axes, also of persons who are only projected."""
    rng = np.random.default_rng(8)
    place = np.stack([np.repeat([-1.0, 1.0], 150), rng.uniform(-1, 1, 300)], axis=1)
    frequency = 0.5 + place @ rng.uniform(-0.12, 0.12, (2, 800))
    dosages = rng.binomial(2, frequency).T.astype(np.int8)
    dosages[rng.random(dosages.shape) < 0.01] = -1
    fitted = rng.random(300) < 0.7
    scores = core.genetic_components(lambda: (dosages[start : start + 333] for start in (0, 333, 666)), fitted, 2)
    x = core.standardised(dosages, *core.moments(dosages[:, fitted]))
    left, _, _ = np.linalg.svd(x[:, fitted], full_matrices=False)
    expected = x.T @ left[:, :2]
    expected *= np.sign((expected * scores).sum(axis=0))
    assert np.allclose(scores, expected, atol=1e-3 * np.abs(expected).max())
    assert abs(np.corrcoef(scores[~fitted, 0], place[~fitted, 0])[0, 1]) > 0.95
