"""The inference pass against the network it was made from: whole windows, and windows with one base exchanged."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mfd_cli.core.backbones import DilatedBackbone, one_row_a_bin
from mfd_cli.core.incremental import CentrePass
from mfd_cli.core.onehot import kmers, one_hot

SHAPES = [(8, 128, 1), (8, 384, 2), (6, 640, 1), (8, 1152, 3), (4, 2176, 2)]


def network(width: int, window: int, order: int, dtype: torch.dtype) -> tuple[DilatedBackbone, nn.BatchNorm1d]:
    """A network whose norms do something; large weights, so that a base in the middle matters."""
    torch.manual_seed(width + window)
    backbone, norm = (
        DilatedBackbone(width, window, order, 12, filters=5).to(dtype),
        nn.BatchNorm1d(12, affine=False).to(dtype),
    )
    move_norms([*backbone.modules(), norm])
    return backbone.eval(), norm.eval()


def move_norms(modules: Iterable[nn.Module]) -> None:
    """Give every batch norm statistics that do something, and its weights if it has any."""
    for module in modules:
        if isinstance(module, nn.BatchNorm1d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.02, 0.1)
            if module.weight is not None:
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.normal_(0, 0.3)


def plain(backbone: DilatedBackbone, norm: nn.BatchNorm1d, codes: Tensor, order: int, dtype: torch.dtype) -> Tensor:
    latents: Tensor = norm(one_row_a_bin(backbone(kmers(one_hot(codes, dtype), order))))
    return latents


def assert_equal(found: Tensor, expected: Tensor, backbone: DilatedBackbone) -> None:
    """Up to the rounding of float64: each of both sums up n products a layer, with an error of n units in the last place."""
    terms = sum(module.weight[0].numel() for module in backbone.modules() if isinstance(module, nn.Conv1d))
    bound = 2 * terms * torch.finfo(torch.float64).eps
    assert bound < 2e-12 and (found - expected).abs().max() < bound * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize(("width", "window", "order"), SHAPES)
@torch.inference_mode()
def test_whole_windows(width: int, window: int, order: int) -> None:
    backbone, norm = network(width, window, order, torch.float64)
    codes = torch.randint(0, 5, (6, window + order - 1), dtype=torch.uint8)
    found = CentrePass(backbone, norm, window, order, torch.float64).latents(codes)
    assert_equal(found, plain(backbone, norm, codes, order, torch.float64), backbone)


@pytest.mark.parametrize(("width", "window", "order"), SHAPES)
@pytest.mark.parametrize("where", ["middle", "bin", "window"])
@torch.inference_mode()
def test_substitutions_equal_full_passes(width: int, window: int, order: int, where: str) -> None:
    """At one place, anywhere in the bin, and anywhere in the window up to its edges, in windows with unknown bases."""
    backbone, norm = network(width, window, order, torch.float64)
    last = window + order - 2
    middle = window // 2
    first, last = {"middle": (middle, middle), "bin": (middle - 64, middle + 63), "window": (0, last)}[where]
    codes = torch.randint(0, 5, (4, window + order - 1), dtype=torch.uint8)
    centre = CentrePass(backbone, norm, window, order, torch.float64)
    reference = centre.reference(codes, first, last)
    count = 80
    row, position = torch.randint(0, 4, (count,)), torch.randint(first, last + 1, (count,))
    position[:2] = torch.tensor([first, last])
    base = torch.randint(0, 4, (count,))
    changed = codes[row].scatter(1, position[:, None], base[:, None].to(torch.uint8))
    expected = plain(backbone, norm, changed, order, torch.float64)
    assert_equal(centre.alternates(reference, row, position, base), expected, backbone)
    if window >= 2176:  # what is cut off is what nothing reads
        assert centre.window_extent.spans[0].low > 0 and centre.window_extent.spans[0].high < window // 2
    if where == "middle":  # and the substitutions were no dead letter
        assert (expected - reference.latents[row]).abs().max() > 1e-4


@torch.inference_mode()
def test_channels_filled_up_for_tensor_cores_change_nothing() -> None:
    backbone, norm = network(10, 384, 1, torch.float64)
    codes = torch.randint(0, 5, (4, 384), dtype=torch.uint8)
    expected = plain(backbone, norm, codes, 1, torch.float64)
    backbone.multiple = 8
    centre = CentrePass(backbone, norm, 384, 1, torch.float64)
    assert centre.tower[0].weight.shape[:2] == (8, 8)
    assert_equal(centre.latents(codes), expected, backbone)
    at, base = torch.tensor([200]), torch.tensor([2])
    changed = codes[:1].scatter(1, at[:, None], base[:, None].to(torch.uint8))
    found = centre.alternates(centre.reference(codes, 190, 210), torch.tensor([0]), at, base)
    assert_equal(found, plain(backbone, norm, changed, 1, torch.float64), backbone)


@settings(max_examples=25, deadline=None)
@example(4, 746, 0, 193922210)  # the rounding is 1.05e-13 of the largest latent
@given(st.integers(0, 4), st.integers(0, 2175), st.integers(0, 3), st.integers(0, 2**30))
def test_any_single_substitution(shape: int, position: int, base: int, seed: int) -> None:
    width, window, order = SHAPES[shape]
    position %= window + order - 1
    with torch.inference_mode():
        backbone, norm = network(width, window, order, torch.float64)
        draw = torch.Generator().manual_seed(seed)
        codes = torch.randint(0, 5, (1, window + order - 1), dtype=torch.uint8, generator=draw)
        centre = CentrePass(backbone, norm, window, order, torch.float64)
        reference, changed = centre.reference(codes, position, position), codes.clone()
        changed[0, position] = base
        found = centre.alternates(reference, torch.tensor([0]), torch.tensor([position]), torch.tensor([base]))
        assert_equal(found, plain(backbone, norm, changed, order, torch.float64), backbone)


@torch.inference_mode()
def test_half_precision_is_close() -> None:
    backbone, norm = network(16, 384, 1, torch.float32)
    codes = torch.randint(0, 4, (64, 384), dtype=torch.uint8)
    exact, half = (CentrePass(backbone, norm, 384, 1, kind).latents(codes) for kind in (torch.float32, torch.bfloat16))
    assert half.dtype == torch.float32
    assert torch.corrcoef(torch.stack([exact.flatten(), half.flatten()]))[0, 1] > 0.999
