"""The mixed head: kernels from metadata, parts that add up, the density of the prior, its limits, held-out tracks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from kit import tiny
from mfd_cli.core import mixed_head
from mfd_cli.core.metadata import MetadataEncoder, fit_metadata
from mfd_cli.core.mixed_head import MixedHead
from mfd_cli.core.part_variances import Alike, part_variances
from mfd_cli.core.terms import factor_kernel, term_kernel, terms_of
from mfd_cli.core.unseen import head_of_rows
from mfd_cli.settings.config import FactorConfig
from mfd_cli.settings.names import RESIDUAL

FACTORS = {
    "target": FactorConfig(column="t", group="biological"),
    "tissue": FactorConfig(column="s", group="biological"),
    "assay": FactorConfig(column="a", group="technical"),
    "depth": FactorConfig(column="d", group="technical", type="number"),
}
ROWS = [
    {"t": t, "s": s, "a": a, "d": str(len(t + s) * 3 + ord(a) % 5 + ord(t))}
    for t in "ABCDE"
    for s in "xyz"
    for a in "pq"
]
TRAINED = np.array([i % 7 != 2 for i in range(len(ROWS))])
TRAINING_ROWS = [row for row, used in zip(ROWS, TRAINED) if used]
GROUPS = {"biological": 6, "technical": 2}


def encoder() -> MetadataEncoder:
    return fit_metadata(ROWS, FACTORS, TRAINED.tolist())


def kernels_of(rows: list[dict[str, str]], others: list[dict[str, str]] = TRAINING_ROWS) -> dict[str, np.ndarray]:
    metadata = encoder()
    terms = terms_of(FACTORS, metadata, TRAINING_ROWS)
    return {term.name: term_kernel(metadata, term, rows, others) for term in terms}


def head_of(joint: bool) -> MixedHead:
    """A head with weights that tell targets apart, and assays a little."""
    torch.manual_seed(5)
    terms = terms_of(FACTORS, encoder(), TRAINING_ROWS)
    centre = {group: TRAINED / TRAINED.sum() for group in GROUPS}
    head = MixedHead(GROUPS, joint, terms, kernels_of(ROWS, ROWS), centre, torch.zeros(len(ROWS)), TRAINED)
    target, assay = (torch.tensor([ord(row[column]) for row in ROWS]) for column in "ta")
    weights = 0.1 * torch.randn(len(ROWS), 8) + torch.randn(8)
    weights += torch.randn(128, 8)[target] + 0.3 * torch.randn(128, 8)[assay]
    with torch.no_grad():
        head.weight.copy_(weights)
        latent = torch.randn(4096, 8) @ (torch.eye(8) + 0.2 * torch.randn(8, 8))
        head.follow_data(torch.full((len(ROWS),), 800.0), latent, 0.0)
    return head


def some_latents(size: int = 8) -> Tensor:
    """Latents in which things come and go by themselves, mixed up."""
    generator = torch.Generator().manual_seed(11)
    there = torch.rand(2000, size, generator=generator) < 0.1
    sources = there * torch.rand(2000, size, generator=generator)
    return sources @ torch.linalg.qr(torch.randn(size, size, generator=generator))[0]


# -- terms and kernels -------------------------------------------------------------------------------------------------


def test_a_category_is_like_its_own_level_alone_and_an_unseen_level_like_nothing() -> None:
    kernel = factor_kernel(encoder(), "tissue", [{"s": "x"}, {"s": "new"}], [{"s": "x"}, {"s": "y"}])
    assert kernel.tolist() == [[1, 0], [0, 0]]


def test_a_number_is_like_its_neighbours_and_a_missing_one_like_missing_ones() -> None:
    rows = [{"v": v} for v in ("1", "2", "3", "")]
    metadata = fit_metadata(rows, {"v": FactorConfig(column="v", group="technical", type="number")})
    scaled = (np.array([1, 2, 3]) - 2) / np.std([1, 2, 3])
    expected = (np.outer(scaled, scaled) + np.exp(-((scaled[:, None] - scaled[None]) ** 2) / 2)) / 2
    kernel = factor_kernel(metadata, "v", rows, rows)
    assert kernel[:3, :3] == pytest.approx(expected, abs=1e-6)
    assert kernel[3].tolist() == [0, 0, 0, 1]


def test_years_are_numbers() -> None:
    rows = [{"y": y} for y in ("2014-02-01", "2018", "2022-12-31", "NA")]
    metadata = fit_metadata(rows, {"y": FactorConfig(column="y", group="technical", type="year")})
    kernel = factor_kernel(metadata, "y", rows, [*rows, {"y": "2020"}])
    scaled = np.array([-4, 0, 4, 2]) / np.sqrt(32 / 3)
    expected = (np.outer(scaled[:3], scaled) + np.exp(-((scaled[:3, None] - scaled[None]) ** 2) / 2)) / 2
    assert kernel[:3, [0, 1, 2, 4]] == pytest.approx(expected)
    assert kernel[3].tolist() == [0, 0, 0, 1, 0]


def test_several_levels_in_a_cell_count_as_many_as_are_shared() -> None:
    rows = [{"o": cell} for cell in ("liver,gut", "gut", "brain")]
    metadata = fit_metadata(rows, {"o": FactorConfig(column="o", group="biological", type="multilabel")})
    assert factor_kernel(metadata, "o", rows, rows).tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_products_are_within_groups_and_only_where_they_say_more_than_a_factor_or_a_track() -> None:
    names = [term.name for term in terms_of(FACTORS, encoder(), TRAINING_ROWS)]
    assert names[:5] == ["target", "tissue", "assay", "depth", "target x tissue"]
    assert "target x assay" not in names
    rows = [
        {"t": t, "s": s, "a": a, "d": "1"} for t, s, a in ("Axp", "Byp", "Cxq", "Dyq")
    ]  # tissue and assay follow from target
    factors = {name: FACTORS[name] for name in ("target", "tissue", "assay")}
    assert [term.name for term in terms_of(factors, fit_metadata(rows, factors), rows)] == ["target", "tissue", "assay"]


def test_products_between_groups_are_the_residuals_and_those_that_say_the_same_are_one() -> None:
    terms = terms_of(FACTORS, encoder(), TRAINING_ROWS, between=True)
    across = [term for term in terms if term.group == RESIDUAL]
    assert terms[-len(across) :] == across
    assert [term.name for term in across] == ["target x assay", "target x depth", "tissue x assay", "tissue x depth"]
    rows = [{"t": t, "s": "x", "a": a, "d": d} for t in "AB" for a, d in ("p1", "q2") for _ in range(2)]
    factors = {name: FACTORS[name] for name in ("target", "assay")} | {
        "lab": FactorConfig(column="d", group="technical")  # it follows from the assay
    }
    names = [term.name for term in terms_of(factors, fit_metadata(rows, factors), rows, between=True)]
    assert names == ["target", "assay", "lab", "target x assay"]


def test_a_factor_in_which_no_track_differs_is_no_term() -> None:
    rows = [{"t": t, "s": "x"} for t in "AABB"]
    factors = {name: FACTORS[name] for name in ("target", "tissue")}
    assert [term.name for term in terms_of(factors, fit_metadata(rows, factors), rows)] == ["target"]


# -- what two groups do together ---------------------------------------------------------------------------------------


def with_products_between(sizes: tuple[float, float, float], seed: int = 2) -> tuple[MixedHead, dict[str, Tensor]]:
    """A head of 40 tracks, two of each target and assay, whose weights are drawn: what targets, assays and both together do, of
    such sizes, and what each track has of its own. Its axes are learnt from latents that come and go by themselves."""
    rows = [{"t": t, "s": "x", "a": a, "d": "1"} for t in "ABCDE" for a in "pqrs" for _ in range(2)]
    factors = {name: FACTORS[name] for name in ("target", "assay")}
    metadata, everyone = fit_metadata(rows, factors), np.ones(len(rows), bool)
    terms = terms_of(factors, metadata, rows, between=True)
    kernels = {term.name: term_kernel(metadata, term, rows, rows) for term in terms}
    centre = dict.fromkeys(GROUPS, everyone / len(rows))
    head = MixedHead(GROUPS, True, terms, kernels, centre, torch.zeros(len(rows)), everyone)
    generator = torch.Generator().manual_seed(seed)
    there = torch.rand(2000, 8, generator=generator) < 0.1
    latents = there * torch.rand(2000, 8, generator=generator)
    # Each thing that comes and goes is of one kind: the first three of targets, then of assays, then of both together.
    kinds = {"target": range(3), "assay": range(3, 5), "target x assay": range(5, 8)}
    drawn = {}
    for (name, places), size in zip(kinds.items(), sizes):
        root = torch.linalg.cholesky(torch.from_numpy(kernels[name]).float() + 1e-6 * torch.eye(len(rows)))
        of_kind = torch.zeros(len(rows), 8)
        of_kind[:, list(places)] = size * (root @ torch.randn(len(rows), len(places), generator=generator))
        drawn[name] = of_kind
    drawn[RESIDUAL] = 0.1 * torch.randn(len(rows), 8, generator=generator)
    with torch.no_grad():
        head.weight.copy_(sum(drawn.values()))
        head.follow_data(torch.full((len(rows),), 1e6), latents - latents.mean(0), 0.0)
    head.learn_variances(300, shrunk=False)
    head.learn_axes(latents - latents.mean(0))
    return head, drawn


def near(found: Tensor, true: Tensor) -> float:
    """The correlation of two parts of weights, each about its mean over tracks."""
    pair = torch.stack([(values - values.mean(0)).flatten() for values in (found.double(), true.double())])
    return float(torch.corrcoef(pair)[0, 1])


def test_what_both_do_together_goes_to_neither() -> None:
    head, drawn = with_products_between((1.0, 0.7, 0.8))
    groups, terms = head.weights().groups, head.term_weights()
    together = torch.stack(list(groups.values())).sum(0) + head.weights().shared
    assert torch.allclose(together, head.weight, atol=1e-5)
    assert near(groups["biological"], drawn["target"]) > 0.9 and near(groups["technical"], drawn["assay"]) > 0.9
    assert near(terms["target x assay"], drawn["target x assay"]) > 0.9
    # And little of it is said to be of targets.
    assert near(groups["biological"], drawn["target x assay"]) < 0.3


def test_where_there_is_nothing_together_next_to_nothing_is_found() -> None:
    """Tracks have much of their own, which a product that few tracks share looks like."""
    head, _ = with_products_between((1.0, 0.7, 0.0))
    with torch.no_grad():
        head.weight += 0.8 * torch.randn(40, 8, generator=torch.Generator().manual_seed(4))
    head.learn_variances(300, shrunk=False)
    there = torch.rand(2000, 8, generator=torch.Generator().manual_seed(5)) < 0.1
    head.learn_axes(there.float() - there.float().mean(0))
    sizes = {name: float(part.pow(2).mean()) for name, part in head.term_weights().items()}
    assert sizes["target x assay"] < 0.1 * sizes["target"]


def test_an_experiment_of_a_known_combination_has_what_both_do_together() -> None:
    """Another experiment of target A and assay p, and one of an assay that nobody used."""
    head, _ = with_products_between((1.0, 0.7, 0.8))
    like_first = {name: kernel[:1].numpy() for name, kernel in head.kernels.items()}
    known = head.group_weights(1, like_first)
    assert torch.allclose(known["biological"], head.weights().groups["biological"][:1], atol=1e-5)
    assert torch.allclose(known[RESIDUAL], head.term_weights()["target x assay"][:1], atol=1e-5)
    unseen = {name: kernel * ("assay" not in name) for name, kernel in like_first.items()}
    assert head.group_weights(1, unseen)[RESIDUAL].abs().max() < 1e-6


# -- the head ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("joint", [False, True])
def test_the_parts_add_up_to_the_trained_weights(joint: bool) -> None:
    head = head_of(joint)
    for _ in range(3):
        trained = torch.from_numpy(TRAINED)
        assert (head.weights().matrix() - head.matrix())[trained].abs().max() < 1e-5
        for group, values in head.weights().groups.items():
            middle = values[trained].mean(0) if group != RESIDUAL else values[trained].sum(0)
            assert middle.abs().max() < 1e-5
        head.learn_variances()
        head.learn_axes(some_latents())


def test_the_prior_is_the_density_of_a_linear_mixed_model() -> None:
    """Its gradient is that of the log density of the whitened weights with the mean row integrated out under a flat prior."""
    head = head_of(True).double()
    head.learn_variances()
    rows, space = torch.from_numpy(TRAINED), head.spaces[0]
    (ours,) = torch.autograd.grad(head.prior(), head.weight)
    weights = head.weight.detach().clone().requires_grad_(True)
    values, vectors = torch.linalg.eigh(head.latent_covariance(space))
    whitened = weights[rows] @ (vectors * values.sqrt()) @ vectors.T
    flat = head.components(space).covariance() + 1e6  # a mean row with a variance of a million, for a flat one
    density = MultivariateNormal(torch.zeros(len(flat)).double(), flat).log_prob(whitened.T).sum()
    (theirs,) = torch.autograd.grad(-density, weights)
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))
    assert (ours[~rows] == 0).all()  # held-out tracks take no part


def test_its_limits_are_the_free_head_and_weights_made_of_metadata_alone() -> None:
    head, trained = head_of(True), torch.from_numpy(TRAINED)
    space = head.spaces[0]
    head.variances(space).copy_(torch.tensor([1e-9] * len(space.terms) + [1e6]))
    head.derive()
    assert head.prior() < 1e-2  # no prior worth the name
    free = head.weights()
    assert torch.allclose(
        free.groups[RESIDUAL][trained], (head.weight - head.weight[trained].mean(0))[trained], atol=1e-4
    )
    head.variances(space).copy_(torch.tensor([1.0] * len(space.terms) + [1e-6]))
    head.derive()
    with_residual = float(head.prior().detach())
    with torch.no_grad():
        head.weight -= head.weights().groups[RESIDUAL]
    assert head.weights().groups[RESIDUAL].abs().max() < 1e-3
    assert float(head.prior().detach()) < 1e-3 * with_residual


@pytest.mark.parametrize("joint", [False, True])
def test_tracks_that_do_not_train_have_the_weights_that_their_metadata_say(joint: bool) -> None:
    head = head_of(joint)
    head.learn_variances()
    head.learn_axes(some_latents())
    before = head.weight.detach().clone()
    head.fill_held_out()
    held = torch.from_numpy(~TRAINED)
    assert torch.equal(head.weight[~held], before[~held])
    others = [ROWS[i] for i in np.flatnonzero(~TRAINED)]
    parts, anew = head.weights(), head.group_weights(len(others), kernels_of(others))
    for group, values in anew.items():
        assert torch.allclose(values, parts.groups[group][held], atol=1e-4)
    assert torch.allclose(head.weight[held], parts.matrix()[held], atol=1e-5)
    assert (parts.groups[RESIDUAL][held] == 0).all()


def test_variances_say_which_factor_tells_tracks_apart() -> None:
    head = head_of(True)
    head.learn_variances()
    found = dict(zip([term.name for term in head.terms], head.variances(head.spaces[0]).tolist()))
    assert found["target"] > 5 * found["assay"] > 0
    assert found["tissue"] < 0.05 * found["assay"]


def test_a_loaded_head_derives_the_same_parts() -> None:
    head = head_of(False)
    head.learn_variances()
    head.learn_axes(some_latents())
    other = head_of(False)
    other.load_state_dict(head.state_dict())
    for group, values in head.weights().groups.items():
        assert torch.equal(values, other.weights().groups[group])
    assert torch.equal(head.prior(), other.prior())


# -- how well parts are known ------------------------------------------------------------------------------------------


def test_intervals_contain_the_truth_as_often_as_they_say() -> None:
    """Weights drawn from the model with noise, parts predicted from them: 90 % intervals hold 90 % of the true parts."""
    head, generator = head_of(True), torch.Generator().manual_seed(8)
    space, tracks = head.spaces[0], len(ROWS)
    inside: dict[str, list[Tensor]] = {group: [] for group in (*GROUPS, RESIDUAL)}
    with torch.no_grad():
        head.covariance.copy_(torch.eye(8))
        head.curvature.fill_(4.0)  # the noise of a weight has a variance of 1 / 4
        head.variances(space).copy_(torch.tensor([0.5, 0.2, 0.3, 0.1, 0.2, 0.1][: len(space.terms)] + [0.1]))
        head.axes(space).copy_(torch.eye(8))  # every latent is an axis, all with the same variances
        head.get_buffer("duals_latent").copy_(torch.eye(8))
        head.axis_variances(space).copy_(head.variances(space)[:, None].expand(-1, 8))
        head.derive()
        for _ in range(60):
            parts = dict.fromkeys(inside, torch.zeros(tracks, 8))
            for term, variance in zip([*space.terms, None], head.variances(space)):
                kernel = torch.eye(tracks) if term is None else head.kernels[term.name].float()
                values, vectors = torch.linalg.eigh(variance * kernel)
                drawn = vectors * values.clamp_min(0).sqrt() @ torch.randn(tracks, 8, generator=generator)
                group = RESIDUAL if term is None else term.group
                parts[group] = parts[group] + drawn
            seen = (
                sum(parts.values())
                + torch.randn(tracks, 8, generator=generator) / 2
                + torch.randn(1, 8, generator=generator)
            )
            rows = torch.from_numpy(TRAINED)
            noise, precision = head.noise(), head.components(space).projection()
            shrunk = torch.linalg.solve(torch.diag(1 / noise) + precision, seen[rows].double() / noise[:, None])
            head.weight[rows] = shrunk.float()
            found = head.weights().groups
            for group, truth in parts.items():
                relative = truth if group == RESIDUAL else truth - truth[rows].mean(0)
                variance = part_variances(head, {group: [group]}).variances[group][0]
                deviation = torch.from_numpy(variance).sqrt().T
                inside[group].append(((found[group] - relative).abs() <= 1.645 * deviation).float()[rows])
    for group, hits in inside.items():
        assert 0.88 < float(torch.stack(hits).mean()) < 0.92, group


def test_deviations_grow_with_the_change_of_the_latent() -> None:
    head = head_of(False)
    head.learn_variances()
    head.learn_axes(some_latents())
    change = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    known = part_variances(head, {"technical": ["technical"]})
    once, twice = known.deviations("technical", change), known.deviations("technical", 2 * change)
    assert np.allclose(2 * once, twice) and (once[:, TRAINED] > 0).all()
    elsewhere = change.copy()
    elsewhere[:, head.slices["technical"]] = 0
    assert (known.deviations("technical", elsewhere) == 0).all()  # a group acts in its own subspace alone


def test_variances_of_means_of_experiments_are_those_of_a_conditional_normal() -> None:
    """Along one axis, against the textbook's conditional distribution of everything at once, the mean row with a wide prior.

    The outputs: a track itself, an experiment that nobody did, and the mean of three.
    """
    head = head_of(True)
    head.learn_variances()
    head.learn_axes(some_latents())
    space, rows = head.spaces[0], torch.from_numpy(np.flatnonzero(TRAINED))
    new = [{"t": t, "s": "x", "a": a, "d": "7"} for t, a in (("A", "q"), ("B", "p"), ("E", "p"))]
    everyone = [*ROWS, *new]
    shares = np.zeros((3, len(everyone)))
    shares[0, 4] = shares[1, len(ROWS)] = 1
    shares[2, [len(ROWS), len(ROWS) + 2, 9]] = 0.25, 0.5, 0.25
    kernels, across = kernels_of(everyone, everyone), kernels_of(everyone)
    own = {name: torch.from_numpy(np.diag(shares @ kernel @ shares.T).copy()) for name, kernel in kernels.items()}
    cross = {name: torch.from_numpy(shares @ kernel) for name, kernel in across.items()}
    alike = Alike(own, cross, torch.tensor([4, -1, -1]))
    parts = {"technical": ["technical"], "both": ["biological", "technical"], RESIDUAL: [RESIDUAL]}
    found = part_variances(head, parts, alike)
    axis, wide = 1, 1e6
    variance = dict(zip([*(term.name for term in space.terms), RESIDUAL], head.axis_variances(space)[:, axis].tolist()))
    of_tracks = np.eye(len(everyone))[rows]
    residual = variance[RESIDUAL] * np.eye(len(everyone))
    seen = sum(variance[name] * kernel for name, kernel in kernels.items()) + residual
    observed = of_tracks @ seen @ of_tracks.T + np.diag(head.noise().numpy()) + wide
    for part, groups in parts.items():
        if part == RESIDUAL:  # of nobody's experiments it is that of a new track
            covariance, relative = residual, shares * [[1], [0], [0]]
        else:
            covariance, relative = np.zeros_like(residual), shares - mean_row(everyone)
            for term in (term for term in space.terms if term.group in groups):
                covariance = covariance + variance[term.name] * kernels[term.name]
        between = relative @ covariance @ of_tracks.T
        expected = np.diag(relative @ covariance @ relative.T - between @ np.linalg.solve(observed, between.T)).copy()
        if part == RESIDUAL:
            expected[1:] = variance[RESIDUAL]
        assert np.allclose(found.variances[part][0][axis], expected, rtol=1e-4), part


def mean_row(everyone: list[dict[str, str]]) -> np.ndarray:
    """The mean of the training tracks, as shares (1, rows)."""
    return np.append(TRAINED / TRAINED.sum(), np.zeros(len(everyone) - len(ROWS)))[None]


def world_of_motifs(own: float) -> tuple[MixedHead, Tensor, Tensor, Tensor]:
    """A head, its latents, and the technical and residual weights that are true.

    Two targets share each of four motifs, one of them with each assay, which has a preference; by `own`, every fifth track
    has something of its own. The latents are what comes and goes by itself, mixed up.
    """
    rows = [{"t": t, "a": "p" if t in "ABCD" else "q"} for t in "ABCDEFGH" for _ in range(4)]
    factors = {name: FACTORS[name] for name in ("target", "assay")}
    trained, metadata = np.ones(len(rows), bool), fit_metadata(rows, factors)
    terms = terms_of(factors, metadata, rows)
    kernels = {term.name: term_kernel(metadata, term, rows, rows) for term in terms}
    generator = torch.Generator().manual_seed(3)
    peculiar = torch.arange(0, len(rows), 5)
    size = 5 + len(peculiar)
    weights, technical, residual = (torch.zeros(len(rows), size) for _ in range(3))
    weights[torch.arange(len(rows)), torch.tensor([(ord(row["t"]) - 65) % 4 for row in rows])] = 1
    technical[:, 4] = torch.tensor([0.35 if row["a"] == "p" else -0.35 for row in rows])
    residual[peculiar, torch.arange(5, size)] = own
    turn = torch.linalg.qr(torch.randn(size, size, generator=generator))[0]  # no latent is an axis
    there = torch.rand(20_000, size, generator=generator) < 0.05
    sources = there * (0.5 + torch.rand(20_000, size, generator=generator))
    latents = ((sources - sources.mean(0)) / sources.std(0)) @ turn
    groups, centre = {"biological": size - 4, "technical": 4}, {group: trained / len(rows) for group in GROUPS}
    head = MixedHead(groups, True, terms, kernels, centre, torch.zeros(len(rows)), trained)
    with torch.no_grad():
        noise = 0.02 * torch.randn(len(rows), size, generator=generator)
        head.weight.copy_((weights + technical + residual + noise) @ turn)
        head.follow_data(torch.full((len(rows),), 2000.0), latents, 0.0)
    head.learn_variances(300)
    return head, latents, technical @ turn, (residual - residual.mean(0)) @ turn


def test_axes_keep_apart_what_one_variance_for_all_would_split() -> None:
    """An assay's preference is in another axis than the motifs of the targets that are nested in it."""
    head, latents, technical, _ = world_of_motifs(own=0.0)

    def lost() -> float:
        return float((head.weights().groups["technical"] - technical).norm() / technical.norm())

    textbook = lost()
    head.learn_axes(latents)
    assert lost() < 0.1 < 0.3 < textbook


def test_axes_leave_to_a_track_what_is_its_own() -> None:
    head, latents, _, residual = world_of_motifs(own=0.7)

    def lost() -> float:
        found = head.weights().groups[RESIDUAL]
        return float((found - found.mean(0) - residual).norm() / residual.norm())

    textbook = lost()
    head.learn_axes(latents)
    assert lost() < 0.5 * textbook


def test_along_axes_latents_vary_by_one_as_they_are_read() -> None:
    """And not as they do in training, where motif filters are left out."""
    head, latents = head_of(True), some_latents() + 3
    head.get_buffer("covariance").copy_(7 * torch.eye(8))
    head.learn_axes(latents)
    duals = head.get_buffer("duals_latent")
    seen = (latents @ duals[duals.any(1)].T).double().numpy()
    assert seen.shape[1] > 1 and np.allclose(np.cov(seen.T, bias=True), np.eye(seen.shape[1]), atol=1e-4)


def test_without_latents_there_are_no_axes() -> None:
    head = head_of(True)
    head.learn_variances()
    head.learn_axes(some_latents())
    for none in (torch.zeros(0, 8), torch.ones(1, 8), torch.ones(50, 8)):  # or latents that do not vary
        head.learn_axes(none)
    assert not head.axes(head.spaces[0]).any() and not head.get_buffer("duals_latent").any()
    assert torch.allclose(head.weights().matrix()[TRAINED], head.weight[TRAINED], atol=1e-5)


def test_of_many_tracks_axes_have_the_variances_of_all_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    head = head_of(True)
    head.learn_variances()
    head.learn_axes(some_latents())
    few = head.axis_variances(head.spaces[0]).clone()
    monkeypatch.setattr(mixed_head, "AVERAGED", 2)
    head.learn_axes(some_latents())
    many = head.axis_variances(head.spaces[0])
    assert not torch.equal(few, many) and (many > 0).all()
    assert torch.allclose(few.sum(0), many.sum(0), rtol=0.5)


def test_where_no_column_says_anything_rows_have_parts_of_nothing() -> None:
    """A model of one track, or whose factors do not vary: experiments that nobody did have rows of zeros, not no rows."""
    model = tiny.model(1, model={"head": "mixed"})
    assert isinstance(model.head, MixedHead) and model.head.terms == ()
    weights = head_of_rows(model, tiny.rows(3), ["peaks"], ["peaks"] * 3)
    assert {len(part) for part in weights.groups.values()} == {3}
    assert np.allclose(weights.matrix(), np.tile(weights.shared, (3, 1)))


def test_a_wide_latent_has_axes_too() -> None:
    """Of 1,100 latents that vary alike none holds a thousandth of what they all do."""
    latent, tracks = 1100, np.ones(len(ROWS), bool)
    kernels = {"target": kernels_of(ROWS, ROWS)["target"]}
    terms = [term for term in terms_of(FACTORS, encoder(), ROWS) if term.name == "target"]
    centre = {"biological": tracks / len(ROWS)}
    torch.manual_seed(7)
    head = MixedHead({"biological": latent}, True, terms, kernels, centre, torch.zeros(len(ROWS)), tracks)
    target = torch.tensor([ord(row["t"]) for row in ROWS])
    with torch.no_grad():
        head.weight.copy_(torch.randn(128, latent)[target] + 0.1 * torch.randn(len(ROWS), latent))
        head.get_buffer("curvature").fill_(800.0)
    latents = some_latents(latent)
    head.learn_variances()
    head.learn_axes(latents)
    (space,) = head.spaces
    learnt = head.axes(space).clone()
    head.learn_axes(latents)
    assert torch.equal(head.axes(space), learnt)  # whatever axes there were
    assert head.axes(space).any(0).sum() >= len(set(target.tolist())) - 1
    assert torch.allclose(head.weights().matrix(), head.weight, atol=1e-4)
