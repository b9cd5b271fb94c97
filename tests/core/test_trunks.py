"""Trunks of other packages as backbones: their numbers are the package's own, whatever else is read with a bin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kit import trunks
from mfd_cli.base.errors import ConfigError
from mfd_cli.core.incremental import Seen
from mfd_cli.core.onehot import one_hot
from mfd_cli.core.stretches import blocks_of
from mfd_cli.core.trunk_pass import TrunkPass
from mfd_cli.core.trunks import TRUNKS, TrunkBackbone
from mfd_cli.genome.grid import BIN, off_line, on_line

WINDOW, BLOCK, LATENT = 9 * BIN, 4, 6
LENGTH = WINDOW + (BLOCK - 1) * BIN
CPU = torch.device("cpu")


def backbone_of(kind: str, model: Any, architecture: dict[str, Any]) -> TrunkBackbone:
    """A backbone with the weights of a package's model."""
    backbone = TrunkBackbone(kind, architecture, WINDOW, BLOCK, LATENT).eval()
    backbone.trunk.load_state_dict(TRUNKS[kind].trunk_of(model).state_dict())
    return backbone


def bases(count: int = 2, length: int = LENGTH) -> torch.Tensor:
    torch.manual_seed(3)
    return torch.randint(0, 5, (count, length), dtype=torch.uint8)


@torch.inference_mode()
def test_an_enformer_has_the_embeddings_of_its_package() -> None:
    model, codes = trunks.enformer(), bases()
    margin = (WINDOW // BIN - 1) // 2
    whole = model(one_hot(codes).transpose(1, 2), return_only_embeddings=True, target_length=-1)
    backbone = backbone_of("enformer", trunks.enformer(), trunks.SMALL_ENFORMER)
    expected = whole[:, margin:-margin].transpose(1, 2)
    assert (
        torch.allclose(backbone.trunk(one_hot(codes), margin), expected, atol=1e-5) and expected.std(-1).mean() > 0.01
    )
    assert torch.allclose(backbone(one_hot(codes)), backbone.project(expected), atol=1e-5)


@torch.inference_mode()
def test_a_borzoi_has_the_embeddings_of_its_package_averaged_over_bins() -> None:
    model, codes = trunks.borzoi(), bases(1)
    margin = (WINDOW // BIN - 1) // 2
    backbone = backbone_of("borzoi", trunks.borzoi(), trunks.SMALL_BORZOI)
    backbone.trunk(one_hot(bases(1, 20 * BIN)), margin)  # of another length: the package would keep its positions
    model.crop.target_length = 4 * BLOCK
    for layer in model.transformer:
        layer[0].fn[1].positions = None
    whole = model.final_joined_convs(model.get_embs_after_crop(one_hot(codes)))
    expected = torch.stack([whole[..., 4 * i : 4 * i + 4].mean(-1) for i in range(BLOCK)], -1)
    assert (
        torch.allclose(backbone.trunk(one_hot(codes), margin), expected, atol=1e-4) and expected.std(-1).mean() > 0.01
    )


def test_what_is_held_keeps_every_byte_and_the_projection_learns() -> None:
    backbone = backbone_of("enformer", trunks.enformer(), trunks.SMALL_ENFORMER).train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    assert backbone.hold(True)
    backbone(one_hot(bases())).square().sum().backward()
    assert all(weight.grad is None for weight in backbone.trunk.parameters())
    assert backbone.project.weight.grad is not None
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    backbone.train().hold(False)
    backbone(one_hot(bases())).square().sum().backward()
    assert all(weight.grad is not None for weight in backbone.trunk.stem.parameters())
    assert not torch.equal(
        backbone.state_dict()["trunk.stem.1.fn.0.running_mean"], before["trunk.stem.1.fn.0.running_mean"]
    )


@torch.inference_mode()
def test_substitutions_have_the_latents_of_whole_blocks() -> None:
    backbone = backbone_of("enformer", trunks.enformer(), trunks.SMALL_ENFORMER)
    norm = torch.nn.BatchNorm1d(LATENT, affine=False).eval()
    norm.running_mean, norm.running_var = torch.randn(LATENT), 0.5 + torch.rand(LATENT)
    trunk_pass, codes = TrunkPass(backbone, norm, torch.float32, CPU), bases()
    plain = norm(backbone(one_hot(codes)).transpose(1, 2).flatten(0, 1))
    reference = trunk_pass.reference(codes, 0, LENGTH - 1)
    assert reference.bins == BLOCK and torch.allclose(reference.latents, plain, atol=1e-5)
    row, position, base = torch.tensor([0, 1, 1]), torch.tensor([10, 700, LENGTH - 1]), torch.tensor([2, 0, 3])
    changed = codes[row].scatter(1, position[:, None], base[:, None].to(torch.uint8))
    expected = norm(backbone(one_hot(changed)).transpose(1, 2).flatten(0, 1)).view(3, BLOCK, LATENT)
    found = trunk_pass.alternates(
        reference, row, position, base, Seen(torch.tensor([2, 0, 1, 1]), torch.tensor([3, 0, 1, 2]))
    )
    assert torch.allclose(found, expected[[2, 0, 1, 1], [3, 0, 1, 2]], atol=1e-5)
    assert (found[2] - plain.view(2, BLOCK, LATENT)[1, 1]).abs().max() > 1e-3  # the change is seen


def test_blocks_by_hand() -> None:
    starts = on_line(np.array([0, 0, 1, 0, 1]), np.array([0, 5 * BIN, 3 * BIN, -60, 7 * BIN]))
    (blocks,) = blocks_of(starts, 4)
    contig, first = off_line(blocks.firsts)
    places = {
        int(index): (int(contig[owner]), int(first[owner]), int(place))
        for owner, place, index in zip(blocks.owner, blocks.place, blocks.index)
    }
    assert places == {0: (0, 0, 0), 1: (0, 4 * BIN, 1), 2: (1, 0, 3), 3: (0, -60 - 3 * BIN, 3), 4: (1, 4 * BIN, 3)}
    assert (np.diff(blocks.owner) >= 0).all() and not list(blocks_of(starts[:0], 4))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-64, 300 * BIN)), min_size=1, max_size=30, unique=True),
    st.integers(2, 40),
    st.data(),
)
def test_a_bin_lies_in_the_same_place_of_the_same_block_whatever_else_is_asked_for(
    bins: list[tuple[int, int]], size: int, data: st.DataObject
) -> None:
    starts = on_line(*(np.array(values) for values in zip(*bins)))
    few = np.array(data.draw(st.lists(st.sampled_from(range(len(bins))), min_size=1, unique=True)))

    def places(chosen: np.ndarray) -> dict[int, tuple[int, int]]:
        (blocks,) = blocks_of(chosen, size)
        firsts = blocks.firsts[blocks.owner]
        assert np.array_equal(firsts + blocks.place * BIN, chosen[blocks.index])
        assert sorted(blocks.index) == list(range(len(chosen))) and len(np.unique(blocks.firsts)) == len(blocks.firsts)
        return {int(chosen[i]): (int(f), int(p)) for i, f, p in zip(blocks.index, firsts, blocks.place)}

    every = places(starts)
    assert all(every[start] == place for start, place in places(starts[few]).items())


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"dim": 48, "heads": 5}, "makes no network of the trunk's numbers"),
        ({"dim": 1 << 20}, "dim of the trunk is 1048576, more than 65,536"),
        ({**trunks.SMALL_ENFORMER, "num_downsamples": 5}, "its output has a position every 32 bp, and bins have 128"),
    ],
)
def test_numbers_that_make_no_network_are_told(architecture: dict[str, Any], message: str) -> None:
    pytest.importorskip("enformer_pytorch", reason="the extra enformer is not installed")
    with pytest.raises(ConfigError, match=message):
        TrunkBackbone("enformer", architecture, WINDOW, BLOCK, LATENT)(one_hot(bases()))


def test_a_package_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRUNKS, "enformer", TRUNKS["enformer"]._replace(package="enformer_of_nobody"))
    with pytest.raises(ConfigError, match="the package enformer-of-nobody is not installed") as told:
        TrunkBackbone("enformer", trunks.SMALL_ENFORMER, WINDOW, BLOCK, LATENT)
    assert told.value.hint == "pip install 'mfd-cli[enformer]'"
