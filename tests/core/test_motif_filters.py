"""Motif filters: the best match in a bin on either strand, its gradient, and what a substitution changes of it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mfd_cli.core.backbones import DilatedBackbone
from mfd_cli.core.incremental import CentrePass
from mfd_cli.core.motif_filters import KERNEL, REACH, best_matches, on_other_strand
from mfd_cli.core.onehot import kmers, one_hot, other_strand
from mfd_cli.genome.grid import BIN

FILTERS = 6


def columns(rng: np.random.Generator, bins: int, order: int = 1, rows: int = 2, unknown: float = 0.0) -> torch.Tensor:
    """One-hot k-mers that `best_matches` takes for so many bins, some of them of unknown bases."""
    length = bins * BIN + 2 * REACH + order - 1
    codes = np.where(rng.random((rows, length)) < unknown, 4, rng.integers(0, 4, (rows, length)))
    return kmers(one_hot(torch.from_numpy(codes.astype(np.uint8))), order)


def slowly(x: np.ndarray, weight: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The best match by definition: every position, both strands, one after another."""
    bins = (x.shape[2] - 2 * REACH) // BIN
    result = np.full((len(x), len(weight), bins), -np.inf)
    for position in range(bins * BIN):
        read = x[:, :, position : position + KERNEL]
        for filters in (weight, other):
            score = np.einsum("bcp,fcp->bf", read, filters)
            result[:, :, position // BIN] = np.maximum(result[:, :, position // BIN], score)
    return result


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("learning", [False, True])
def test_the_best_match_is_that_of_every_position_and_strand(order, learning):
    rng = np.random.default_rng(order)
    torch.manual_seed(order)
    x, weight = columns(rng, 3, order, unknown=0.1), torch.randn(FILTERS, 4**order, KERNEL, requires_grad=learning)
    expected = slowly(x.numpy(), weight.detach().numpy(), on_other_strand(weight.detach(), order).numpy())
    np.testing.assert_allclose(best_matches(x, weight, order).detach(), expected, rtol=3e-5, atol=1e-5)


@pytest.mark.parametrize("order", [1, 2, 3])
@given(seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_the_other_strand_has_the_same_matches(order, seed):
    rng = np.random.default_rng(seed)
    codes = torch.from_numpy(rng.integers(0, 5, (2, KERNEL + order - 1)).astype(np.uint8))
    weight = torch.from_numpy(rng.normal(size=(FILTERS, 4**order, KERNEL)))
    here, there = (kmers(one_hot(c, torch.float64), order) for c in (codes, other_strand(codes)))
    scores = torch.einsum("bcp,fcp->bf", there, weight)
    torch.testing.assert_close(torch.einsum("bcp,fcp->bf", here, on_other_strand(weight, order)), scores)


def test_gradients_are_those_of_the_whole_computation():
    # In float64 autograd through convolution and maximum, without places that were found beforehand, is the truth.
    rng = np.random.default_rng(1)
    torch.manual_seed(1)
    x = columns(rng, 2).requires_grad_()
    weight = torch.randn(FILTERS, 4, KERNEL, requires_grad=True)
    share = torch.randn(2, FILTERS, 2)
    (best_matches(x, weight, 1) * share).sum().backward()
    of_x, of_weight = x.grad, weight.grad
    again, filters = x.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    scores = torch.nn.functional.conv1d(again, torch.cat([filters, filters.flip(1, 2)]))
    best = scores.unflatten(1, (2, -1)).amax(1).unflatten(2, (-1, BIN)).amax(3)
    (best * share).sum().backward()
    torch.testing.assert_close(of_weight, filters.grad.float(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(of_x, again.grad.float(), rtol=1e-4, atol=1e-5)


def test_in_half_precision_the_match_is_still_that_of_its_bases():
    rng = np.random.default_rng(2)
    torch.manual_seed(2)
    x, weight = columns(rng, 4), torch.randn(FILTERS, 4, KERNEL, requires_grad=True)
    exact = best_matches(x, weight, 1)
    with torch.autocast("cpu", torch.bfloat16):
        rough = best_matches(x, weight, 1)
    assert rough.dtype == torch.float32
    # Another place may have been taken, but only one that scores nearly as well.
    assert ((exact - rough) >= -1e-4).all() and ((exact - rough) < 0.05 * exact.abs() + 0.2).all()


def backbone(order: int, filters: int) -> DilatedBackbone:
    torch.manual_seed(3)
    made = DilatedBackbone(8, 640, order, 12, filters)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.normal_(module.weight, 1, 0.1)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    return made.eval()


@pytest.mark.parametrize("order", [1, 2])
def test_every_substitution_of_a_window_scores_as_the_whole_pass_does(order):
    rng, made = np.random.default_rng(4), backbone(order, FILTERS)
    norm = torch.nn.BatchNorm1d(12, affine=False).eval()
    codes = torch.from_numpy(rng.integers(0, 4, (2, 640 + order - 1)).astype(np.uint8))
    fast = CentrePass(made, norm, 640, order, torch.float32)
    reference = fast.reference(codes, 0, codes.shape[1] - 1)
    position = torch.arange(codes.shape[1])
    for row in range(2):
        base = (codes[row] + 1) % 4
        changed = codes[row].repeat(len(position), 1)
        changed[position, position] = base
        with torch.no_grad():
            wanted = norm(made(kmers(one_hot(changed), order))[:, :, 0])
        scored = fast.alternates(reference, torch.full_like(position, row), position, base)
        torch.testing.assert_close(scored, wanted, rtol=1e-4, atol=1e-5)


def test_one_filter_can_carry_a_motif_to_the_latents():
    # By construction: the filter that spells the motif, and nothing else, moves the latents.
    made = backbone(1, 1)
    motif = torch.from_numpy(np.random.default_rng(5).integers(0, 4, KERNEL).astype(np.uint8))
    with torch.no_grad():
        made.motifs.weight.copy_(one_hot(motif[None]))
    window = torch.zeros(1, 640, dtype=torch.uint8)
    put_in = window.clone()
    put_in[0, 310 : 310 + KERNEL] = other_strand(motif)
    with torch.no_grad():
        matches = [made.matches(one_hot(codes)).item() for codes in (window, put_in)]
    assert matches[1] == KERNEL and matches[0] <= max(torch.bincount(motif.int(), minlength=4)[[0, 3]])


def test_an_edge_without_margin_reads_as_if_nothing_were_there():
    made = DilatedBackbone(8, 128, 1, 12, FILTERS).eval()
    x = one_hot(torch.from_numpy(np.random.default_rng(6).integers(0, 4, (1, 128)).astype(np.uint8)))
    with torch.no_grad():
        padded = best_matches(torch.nn.functional.pad(x, (REACH, REACH)), made.motifs.weight, 1)
        torch.testing.assert_close(made.matches(x), padded)
