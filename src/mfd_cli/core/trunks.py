"""Networks of other people as backbones: the trunk of an Enformer (Avsec et al. 2021) or of a Borzoi (Linder et al. 2025),
built by the package that has it (enformer-pytorch, borzoi-pytorch), under the contract of core/backbones.py.

The trunk makes features of a stretch of DNA, and a projection, which is ours, makes latents of them. Attention reaches as far
as the stretch does, so what a bin is found to be depends on where in the stretch it lies. The genome is therefore read
in blocks that lie still: `block` bins from a multiple of `block` bins on, with a margin on either side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from mfd_cli.base.errors import ConfigError
from mfd_cli.genome.grid import BIN

Architecture = Mapping[str, bool | int | float]
"""The numbers of a trunk's config.json."""
LARGEST = 1 << 16
"""What no number of an architecture exceeds: a damaged file must not have a network built for hours."""


class TrunkBackbone(nn.Module):
    """A trunk and a projection: one-hot bases (batch, 4, (block + 2 x margin) x 128) to (batch, latent, block).

    It takes stretches of other lengths as well, and gives other numbers then. While `held` the trunk stays as it was, running
    averages of its norms included, and no gradient goes through it; the projection learns.
    """

    sees_padding, filters, order = True, 0, 1

    def __init__(self, name: str, architecture: Architecture, window: int, block: int, latent: int) -> None:
        super().__init__()
        self.margin, self.block, self.held = (window // BIN - 1) // 2, block, False
        kind = TRUNKS[name]
        self.trunk = kind.trunk_of(kind.built(architecture))
        # What a trunk makes has been through its last activation; a bias would go under in the norm of the latents.
        self.project = nn.Conv1d(self.trunk.features, latent, 1, bias=False)

    def hold(self, held: bool) -> bool:
        """Hold the trunk as it is, or let it learn; return whether anything still learns: the projection does."""
        self.held = held
        if held:
            self.trunk.eval()
        return True

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """One-hot bases (batch, 4, (bins + 2 x margin) x 128) to (batch, latent, bins). There are no filters to be `kept`."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.held):
            features = self.trunk(x, self.margin)
        return cast(Tensor, self.project(features))


class EnformerTrunk(nn.Module):
    """All of an Enformer before its output heads, which makes 2 x dim features."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        steps = cast(nn.Sequential, model.trunk)
        # The package's sequence: to channels first, stem, tower, to channels last, transformer, crop, last pointwise block.
        self.stem, self.tower, self.transformer = steps[1], steps[2], steps[4]
        self.pointwise, self.features = steps[6], 2 * int(model.dim)

    def forward(self, x: Tensor, margin: int) -> Tensor:
        """One-hot bases (batch, 4, length) to features (batch, features, length / 128 - 2 x margin)."""
        x = self.transformer(self.tower(self.stem(x)).transpose(1, 2))
        return cast(Tensor, self.pointwise(x[:, margin : x.shape[1] - margin]).transpose(1, 2))


class BorzoiTrunk(nn.Module):
    """All of a Borzoi before its output heads, which makes 1,920 features of each 32 bp; those of a bin are averaged."""

    features = 1920

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        # The package's own crop leaves a fixed number of positions; heads are not asked.
        self.model.crop = self.model.human_head = self.model.mouse_head = nn.Identity()

    def forward(self, x: Tensor, margin: int) -> Tensor:
        """One-hot bases (batch, 4, length) to features (batch, 1920, length / 128 - 2 x margin)."""
        for module in self.model.transformer.modules():
            if hasattr(module, "positions"):  # the package keeps those of the first length and device that it ever saw
                module.positions = None
        x, edge = self.model.get_embs_after_crop(x), 4 * margin
        x = self.model.final_joined_convs(x[..., edge : x.shape[-1] - edge])
        return x.unflatten(-1, (-1, 4)).mean(-1)


def enformer(architecture: Architecture) -> Any:
    """Return an Enformer of the package, with random weights and without output heads."""
    from enformer_pytorch import Enformer
    from enformer_pytorch.config_enformer import EnformerConfig

    if (stride := 2 ** int(architecture.get("num_downsamples", 7))) != BIN:
        raise ValueError(f"its output has a position every {stride} bp, and bins have {BIN}")
    return Enformer(EnformerConfig(**{**architecture, "output_heads": {}}))


def borzoi(architecture: Architecture) -> Any:
    """Return a Borzoi of the package, with random weights."""
    from borzoi_pytorch import Borzoi
    from borzoi_pytorch.config_borzoi import BorzoiConfig

    return Borzoi(BorzoiConfig(**{**architecture, "flashed": False}))


class Trunk(NamedTuple):
    """A kind of trunk: the package that has it, the extra that installs it, what makes the package's model, and what takes the
    trunk out of it. `numbers` are the entries of its config.json that make the network, `heads` what the names of weights that
    are not of the trunk begin with."""

    package: str
    extra: str
    model: Callable[[Architecture], Any]
    trunk_of: type[EnformerTrunk] | type[BorzoiTrunk]
    numbers: tuple[str, ...]
    heads: tuple[str, ...]

    def built(self, architecture: Architecture) -> Any:
        """Return the package's model with random weights. ConfigError where the package is missing or cannot make it."""
        if find_spec(self.package) is None:
            raise ConfigError(
                f"the package {self.package.replace('_', '-')} is not installed, and the backbone is one of its networks",
                hint=f"pip install 'mfd-cli[{self.extra}]'",
            )
        if large := [name for name, value in architecture.items() if value > LARGEST]:
            raise ConfigError(f"{large[0]} of the trunk is {architecture[large[0]]}, more than {LARGEST:,}")
        try:
            made = self.model(architecture)
            if any(not weights.numel() for weights in made.parameters()):
                raise ValueError("a layer has no channels")
            return made
        except (ValueError, TypeError, AssertionError, ArithmeticError, RuntimeError) as error:
            raise ConfigError(
                f"{self.package.replace('_', '-')} makes no network of the trunk's numbers: {error}"
            ) from error


TRUNKS: dict[str, Trunk] = {
    "enformer": Trunk(
        "enformer_pytorch",
        "enformer",
        enformer,
        EnformerTrunk,
        ("attn_dim_key", "attn_dropout", "depth", "dim", "dim_divisible_by", "dropout_rate", "heads", "num_downsamples")
        + ("pos_dropout", "use_tf_gamma"),
        ("_heads.",),
    ),
    "borzoi": Trunk(
        "borzoi_pytorch",
        "borzoi",
        borzoi,
        BorzoiTrunk,
        ("attn_dim_key", "attn_dim_value", "attn_dropout", "depth", "dim", "dropout_rate", "heads", "pos_dropout"),
        ("human_head.", "mouse_head."),
    ),
}
