"""The model: parameter counts of the paper's backbone, the parts of a logit, what metadata may and may not change."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kit import tiny, trunks
from mfd_cli.base.errors import ConfigError
from mfd_cli.core.backbones import BACKBONES, ChannelNorm, DilatedBackbone, max_pool, one_row_a_bin, tower_widths
from mfd_cli.core.head import START, ConditionedHead, metadata_network
from mfd_cli.core.onehot import kmers, one_hot, other_strand
from mfd_cli.core.trunks import TRUNKS
from mfd_cli.engine.processes import GlobalBatchNorm


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("width", "order", "latent", "expected"),
    [(768, 1, 1536, 17_775_837), (768, 2, 1536, 17_844_957), (120, 2, 240, 447_854), (30, 2, 60, 30_637)],
)
def test_backbone_has_the_published_number_of_parameters(width: int, order: int, latent: int, expected: int) -> None:
    assert count(DilatedBackbone(width, 2176, order, latent)) == expected


def test_stages_have_the_published_numbers_of_parameters() -> None:
    backbone = DilatedBackbone(768, 2176, 1, 1536)
    assert count(backbone.stem) == 23_424
    assert count(backbone.stem_residual) == 148_224
    assert count(backbone.tower) == 9_548_773
    assert count(backbone.tower_residual) == 2_149_496
    assert count(backbone.dilated) + count(backbone.dilated_pointwise) == 2 * 2_362_368
    assert count(backbone.pointwise) == 1_181_184


def test_metadata_networks_have_the_published_numbers_of_parameters() -> None:
    d_in, d = 120, 96
    assert count(metadata_network(d_in, 2 * d, d)) == 2 * d_in * d + 6 * d * d + 5 * d
    h, out = 128, 109
    assert count(metadata_network(d_in, 2 * h, out)) == 2 * h * d_in + 4 * h * h + 4 * h + 2 * h * out + out


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (768, [384, 431, 483, 543, 609, 684, 768]),
        (120, [60, 67, 75, 84, 95, 106, 120]),
        (30, [15, 16, 18, 21, 23, 26, 30]),
    ],
)
def test_tower_widths(width: int, expected: list[int]) -> None:
    assert tower_widths(width, 6) == expected


@pytest.mark.parametrize("name", list(BACKBONES))
@pytest.mark.parametrize("window", [128, 384, 1152, 2176])
def test_backbones_give_one_position_whatever_the_window(name: str, window: int) -> None:
    shape: dict[str, object] = {"backbone": name, "width": 8, "window": window, "kmer": 1, "latent": 12, "filters": 0}
    if name in TRUNKS:
        pytest.importorskip(TRUNKS[name].package, reason=f"the extra {name} is not installed")
        numbers = {"enformer": trunks.SMALL_ENFORMER, "borzoi": trunks.SMALL_BORZOI}[name]
        shape |= {"block": 1, "architecture": numbers}
    backbone = BACKBONES[name](tiny.config(model=shape).resolved_model())
    assert backbone(torch.rand(3, 4, window)).shape == (3, 12, 1)


@pytest.mark.parametrize(("width", "window"), [(7, 1152), (8, 1000), (8, 1024)])
def test_impossible_shapes_are_refused(width: int, window: int) -> None:
    with pytest.raises(ConfigError):
        DilatedBackbone(width, window, 1, 12)


@pytest.mark.parametrize("length", [2, 7, 8])
def test_max_pool_is_torchs_with_the_same_gradient(length: int) -> None:
    x = torch.randn(2, 3, length, dtype=torch.float64, requires_grad=True)
    assert torch.equal(max_pool(x), nn.functional.max_pool1d(x, 2))
    assert torch.autograd.gradcheck(max_pool, (x,))


def test_the_kept_position_reads_the_bin_at_the_centre() -> None:
    """A change far from the centre cannot reach the output; one in the bin does, at its first and at its last base."""
    torch.manual_seed(0)
    backbone = DilatedBackbone(8, 2176, 1, 4).eval()
    codes = tiny.windows(1, 2176, seed=3)
    codes[:] = codes.clamp(max=3)

    def latent_with(position: int) -> torch.Tensor:
        changed = codes.clone()
        changed[0, position] = (changed[0, position] + 1) % 4
        return backbone(one_hot(changed))

    before = backbone(one_hot(codes))
    left = (2176 - 1926) // 2
    for outside in (0, left - 1, 2176 - left):
        assert torch.equal(latent_with(outside), before)
    for inside in (1024, 1151):
        assert not torch.equal(latent_with(inside), before)


def test_kmers_in_lexicographic_order_and_empty_where_a_base_is_unknown() -> None:
    codes = torch.tensor([[0, 1, 2, 4, 3, 3]], dtype=torch.uint8)  # ACGNTT
    pairs = kmers(one_hot(codes), 2)[0]  # (16, 5)
    assert pairs.shape == (16, 5)
    assert pairs[:, 0].nonzero().tolist() == [[1]]  # AC
    assert pairs[:, 1].nonzero().tolist() == [[6]]  # CG
    assert pairs[:, 2].sum() == 0 and pairs[:, 3].sum() == 0
    assert pairs[:, 4].nonzero().tolist() == [[15]]  # TT


@pytest.mark.parametrize("order", [1, 2, 3])
def test_reverse_complement_twice_is_the_identity_and_commutes_with_kmers(order: int) -> None:
    codes = tiny.windows(4, 50)
    assert torch.equal(other_strand(other_strand(codes)), codes)
    forward, reverse = kmers(one_hot(codes), order), kmers(one_hot(other_strand(codes)), order)
    places = torch.arange(4**order)
    digits = [(places // 4**power) % 4 for power in range(order)]  # least significant (last base) first
    flipped = sum((3 - digit) * 4 ** (order - 1 - power) for power, digit in enumerate(digits))
    assert torch.equal(reverse, forward[:, flipped].flip(2))


def test_an_unknown_base_stays_unknown_on_the_other_strand() -> None:
    codes = torch.tensor([[0, 1, 2, 3, 4], [4, 4, 0, 0, 1]], dtype=torch.uint8)
    assert other_strand(codes).tolist() == [[4, 0, 1, 2, 3], [2, 3, 3, 4, 4]]
    assert other_strand(codes).dtype == torch.uint8


# -- the head ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sections", [{}, {"model": {"gain": True}}, {"model": {"head": "free"}}, {"model": {"centre": "levels"}}]
)
def test_parts_add_up_to_the_logits(sections: dict[str, object]) -> None:
    model = tiny.model(**sections).double().eval()
    if model.settings.gain:
        nn.init.normal_(model.head.gain)  # type: ignore[arg-type]
    codes = tiny.windows(5, model.window)
    latent = model.norm(one_row_a_bin(model.backbone(kmers(one_hot(codes, torch.float64), model.settings.kmer))))
    weights = model.head.weights()
    logits = weights.bias + latent @ weights.matrix().T
    assert torch.allclose(model.parts(latent).total(), logits, atol=1e-12)


def test_slices_are_disjoint_and_cover_the_latent_in_the_order_of_the_configuration() -> None:
    groups = {"technical": 1, "biological": 2, "quality": 1}
    model = tiny.model(model={"groups": groups})
    assert list(model.slices) == ["technical", "biological", "quality"]
    covered = [i for place in model.slices.values() for i in range(place.start, place.stop)]
    assert covered == list(range(16))


def test_weights_are_centred_over_the_training_tracks_only() -> None:
    trained = [True] * 6 + [False] * 2
    model = tiny.model(trained=trained)
    for group in model.groups:
        weights = model.head.weights().groups[group]
        assert weights[:6].mean(0).abs().max() < 1e-6
        assert weights.mean(0).abs().max() > 1e-4


def test_every_level_weighs_the_same_when_asked() -> None:
    model = tiny.model(tracks=7, model={"centre": "levels"})
    weights = model.track_weights(["biological"])
    targets = model.metadata.membership("target", model.rows)
    tissues = model.metadata.membership("tissue", model.rows)
    assert weights.sum() == pytest.approx(1)
    # One factor alone: each of its two levels gets half.
    one = tiny.model(tracks=7, factors={"target": tiny.FACTORS["target"]})
    assert (one.track_weights(["biological"]) @ targets).tolist() == pytest.approx([0.5, 0.5])
    assert (weights @ tissues).sum() == pytest.approx(1)


def test_equal_metadata_gives_equal_weights_and_technical_metadata_leaves_the_biological_part_alone() -> None:
    model = tiny.model(tracks=16)
    head = model.head
    assert isinstance(head, ConditionedHead)
    rows = [dict(tiny.rows(1)[0]), dict(tiny.rows(1)[0]), {**tiny.rows(1)[0], "Assay": "CUT&RUN", "Lab": "B"}]
    codes = {name: torch.from_numpy(matrix) for name, matrix in model.metadata.encode(rows).items()}
    bio = head.group_weights("biological", {name: codes[name] for name in head.factors_of["biological"]})
    tech = head.group_weights("technical", {name: codes[name] for name in head.factors_of["technical"]})
    # Rows of one product may round differently by their place, on some processors.
    assert torch.allclose(bio[0], bio[1], atol=1e-7) and torch.allclose(tech[0], tech[1], atol=1e-7)
    assert torch.allclose(bio[0], bio[2], atol=1e-7)
    assert not torch.allclose(tech[0], tech[2])


def test_direct_columns_come_first_and_belong_to_their_level() -> None:
    """With a direct factor, latent k of the group is used only by the tracks that carry level k (before centring)."""
    model = tiny.model(factors={**tiny.FACTORS, "assay": {**tiny.FACTORS["assay"], "role": "direct"}})
    head = model.head
    assert isinstance(head, ConditionedHead)
    raw = head.network("technical")(head.track_codes("technical"))[:, :2]
    member = model.metadata.membership("assay", model.rows)
    assert np.array_equal(raw.detach().numpy() != 0, member)


@pytest.mark.parametrize("head", ["conditioned", "free"])
def test_both_heads_start_at_the_same_size(head: str) -> None:
    """The varying part of the logit starts at START times that of torch's linear layer, sqrt(1/3)."""
    model = tiny.model(tracks=64, model={"latent": 128, "head": head})
    size = model.head.weights().matrix().pow(2).sum(1).mean().sqrt().item()
    assert 0.6 < size / (START * math.sqrt(1 / 3)) < 1.8


def trained_step(multiple: int, kind: type[ChannelNorm] = ChannelNorm) -> dict[str, torch.Tensor]:
    """Output, gradients, running statistics and a step of AdamW of a small network with channels filled up like this."""
    torch.manual_seed(3)
    backbone = DilatedBackbone(10, 384, 1, 6).double().train()
    backbone.multiple = multiple
    for module in backbone.modules():
        if type(module) is ChannelNorm:
            module.__class__ = kind
    out = backbone(torch.randn(5, 4, 384, dtype=torch.float64))
    out.pow(2).sum().backward()
    found = {"out": out.detach()} | {f"gradient {name}": p.grad for name, p in backbone.named_parameters()}
    torch.optim.AdamW(backbone.parameters(), lr=0.01).step()
    return found | dict(backbone.state_dict())


def test_channels_filled_up_for_tensor_cores_are_invisible(tmp_path: Path) -> None:
    """Same numbers, gradients, statistics and shapes, for one process and for the batch norm of several."""
    expected = trained_step(1)
    found = [trained_step(8)]
    torch.distributed.init_process_group("gloo", (tmp_path / "meeting").as_uri(), rank=0, world_size=1)
    try:
        found += [trained_step(1, GlobalBatchNorm), trained_step(8, GlobalBatchNorm)]
    finally:
        torch.distributed.destroy_process_group()
    for other in found:
        assert other.keys() == expected.keys()
        for name, value in expected.items():
            assert other[name].shape == value.shape, name
            assert torch.allclose(other[name], value, rtol=1e-6, atol=1e-8), name


def test_own_gradients_reach_each_level_and_the_mean_takes_none() -> None:
    """The gradient of a level's vector is that of its own tracks: a loss on one track moves one target only."""
    model = tiny.model(factors={"target": tiny.FACTORS["target"]})
    head = model.head
    assert isinstance(head, ConditionedHead)
    head.weights().groups["biological"][0].sum().backward()
    gradient = head.network("biological").linear.weight.grad
    assert gradient is not None
    assert (gradient.abs().sum(0) > 0).tolist() == [True, False]


def test_a_group_too_small_for_its_direct_factors_is_refused() -> None:
    factors = {**tiny.FACTORS, "target": {**tiny.FACTORS["target"], "role": "direct"}}
    with pytest.raises(ConfigError, match=r"group biological has 1 latents.*need 2"):
        tiny.model(factors=factors, model={"groups": {"biological": 0.001, "technical": 1}})


def test_either_role_may_be_empty_and_a_group_may_have_no_factor() -> None:
    only_direct = {name: {**factor, "role": "direct"} for name, factor in tiny.FACTORS.items()}
    for factors in (only_direct, {"target": tiny.FACTORS["target"]}):
        model = tiny.model(factors=factors, model={"groups": {"biological": 1, "technical": 1}})
        logits = model.eval()(tiny.windows(2, model.window)).logits
        assert logits.shape == (2, 8) and torch.isfinite(logits).all()


@pytest.mark.parametrize("encode", ["multihot", "embed", "linear", "rescale", "rescale-each"])
@pytest.mark.parametrize("role", ["direct", "interact", "both"])
def test_every_encoding_in_every_role_learns(encode: str, role: str) -> None:
    model = tiny.model(factors={**tiny.FACTORS, "assay": {**tiny.FACTORS["assay"], "role": role, "encode": encode}})
    model(tiny.windows(4, model.window)).logits.pow(2).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_factor_names_that_are_attributes_of_modules() -> None:
    factors = {"type": tiny.FACTORS["target"], "keys": tiny.FACTORS["lab"], "forward": tiny.FACTORS["assay"]}
    model = tiny.model(factors=factors)
    assert model.head.weights().matrix().shape == (8, 16)
