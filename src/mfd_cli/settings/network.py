"""The network in `mfd.toml`: its section, the presets, and how the two become numbers with nothing left open."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from mfd_cli.base.errors import nearest
from mfd_cli.settings.names import BIOLOGICAL, TECHNICAL
from mfd_cli.settings.node import Count, Node, Share, Text

DEFAULT_GROUPS = {BIOLOGICAL: 0.75, TECHNICAL: 0.25}


class ModelConfig(Node):
    """The network. What is not given comes from the preset."""

    preset: Literal["small", "paper-1152", "wide-2176", "default"] = Field(
        "default", description="a network by name; what is set below goes before it"
    )
    backbone: Literal["dilated", "enformer", "borzoi"] | None = Field(
        None,
        description="dilated: our convolutional network; enformer, borzoi: the trunk of such a model, see model.trunk",
        examples=["dilated"],
    )
    trunk: Text | None = Field(
        None,
        description="folder with the config.json and the weights of an Enformer or a Borzoi, as its package saves them",
        examples=["enformer"],
    )
    architecture: dict[str, bool | int | float] | None = Field(
        None, description="numbers of a trunk's network; they are taken from its config.json", examples=[{"depth": 11}]
    )
    block: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        None,
        description="bins that a trunk reads in one pass; default: as many as it was trained with",
        examples=[128],
    )
    width: Count | None = Field(None, description="channels of the last tower block (C), even", examples=[64])
    window: Count | None = Field(None, description="bp that the model reads: 128 x an odd number", examples=[1152])
    kmer: Annotated[int, Field(ge=1, le=3)] | None = Field(None, description="order of the one-hot input", examples=[2])
    latent: Count | None = Field(None, description="size of the latent (K); default 2 x width", examples=[128])
    filters: Annotated[int, Field(ge=0, le=4096)] | None = Field(
        None,
        description="motif filters of 19 bp, whose best match in a bin on either strand goes straight to the latents; 0: none",
        examples=[128],
    )
    groups: dict[str, Share] | None = Field(
        None,
        description="share of the latent per group; default: 0.75 biological, 0.25 technical, 0.25 for any other",
        examples=[{"biological": 0.6, "technical": 0.4}],
    )
    hidden: Count | None = Field(None, description="half the hidden width of the metadata networks (h)", examples=[64])
    head: Literal["mixed", "conditioned", "free"] = Field(
        "mixed",
        description="mixed: free output weights with a prior made from the metadata; conditioned: weights made from the "
        "metadata; free: free ones, which know no groups",
    )
    subspaces: Literal["joint", "disjoint"] = Field(
        "joint",
        description="of a mixed head: all factors act on all latents, or each group's on latents of its own",
    )
    technical: tuple[Text, ...] | None = Field(
        None,
        description="groups that are technique, not biology; default: the group called technical",
        examples=[["technical"]],
    )
    gain: bool = Field(False, description="learn a signal-to-noise gain per track and group")
    centre: Literal["tracks", "levels"] = Field("tracks", description="what the centring of the weights averages over")


class ResolvedModel(Node):
    """The network with nothing left open: what a checkpoint stores."""

    backbone: str
    width: int
    window: int
    kmer: int
    latent: int
    filters: int = 0
    block: int = 1
    architecture: dict[str, bool | int | float] = Field(default_factory=dict)
    groups: dict[str, int]
    technical: list[str] = Field(default_factory=lambda: [TECHNICAL])
    hidden: int
    head: Literal["mixed", "conditioned", "free"]
    subspaces: Literal["joint", "disjoint"] = "joint"
    gain: bool
    centre: Literal["tracks", "levels"]


PRESETS: dict[str, dict[str, Any]] = {
    "small": {"backbone": "dilated", "width": 32, "window": 2176, "kmer": 1, "hidden": 32, "filters": 32},
    "paper-1152": {"backbone": "dilated", "width": 120, "window": 1152, "kmer": 2, "hidden": 128, "filters": 0},
    "wide-2176": {"backbone": "dilated", "width": 768, "window": 2176, "kmer": 2, "hidden": 256, "filters": 0},
    "default": {"backbone": "dilated", "width": 64, "window": 2176, "kmer": 1, "hidden": 64, "filters": 128},
}
TRUNK_SHAPES: dict[str, dict[str, Any]] = {
    "enformer": {"window": 82_048, "block": 896, "kmer": 1, "filters": 0},
    "borzoi": {"window": 327_808, "block": 1536, "kmer": 1, "filters": 0},
}
"""How trunks were trained by those who made them: a block and its margins are 196,608 and 524,288 bp."""


def resolve_model(model: ModelConfig, factor_groups: Sequence[str] = ()) -> ResolvedModel:
    """Fill in the preset and turn the shares of the groups into latent counts that sum to K.

    The shares are relative: {biological = 3, technical = 1} and {biological = 0.75, technical = 0.25} are the same.
    Raises ValueError (shown as a ConfigError) where the numbers cannot work.
    """
    own = {name: value for name, value in model.model_dump().items() if value is not None}
    filled = {**PRESETS[model.preset], **TRUNK_SHAPES.get(model.backbone or "", {}), **own}
    width, window = filled["width"], filled["window"]
    _check_trunk(model, filled)
    if width % 2 or width < 4:
        raise ValueError(f"model.width is {width}; it must be even and at least 4")
    if window % 128 or (window // 128) % 2 == 0:
        low = max(window // 256 * 256 + 128, 128)
        raise ValueError(f"model.window is {window}; it must be 128 x an odd number, such as {low} or {low + 256}")
    latent = filled.get("latent") or 2 * width
    extra = [group for group in dict.fromkeys(factor_groups) if group not in DEFAULT_GROUPS]
    shares = model.groups or {**DEFAULT_GROUPS, **dict.fromkeys(extra, 0.25)}
    if latent < len(shares):
        raise ValueError(f"model.latent is {latent}, fewer than the {len(shares)} groups")
    return ResolvedModel(
        backbone=filled["backbone"],
        width=width,
        window=window,
        kmer=filled["kmer"],
        latent=latent,
        filters=filled["filters"],
        block=filled.get("block", 1),
        architecture=filled.get("architecture", {}),
        groups=_latent_counts(shares, latent),
        technical=_technical_groups(model, list(shares), factor_groups),
        hidden=filled["hidden"],
        head=model.head,
        subspaces=model.subspaces,
        gain=model.gain,
        centre=model.centre,
    )


def _check_trunk(model: ModelConfig, filled: Mapping[str, Any]) -> None:
    """ValueError where settings of another package's network are set without one, or such a network cannot have what is set."""
    of_trunk = filled["backbone"] in TRUNK_SHAPES
    if not of_trunk and (name := next((n for n in ("trunk", "architecture", "block") if getattr(model, n)), None)):
        raise ValueError(f'model.{name} is set, and model.backbone is not "enformer" or "borzoi"')
    for name, value in (("kmer", 1), ("filters", 0)):
        if of_trunk and filled[name] != value:
            raise ValueError(
                f"model.{name} is {filled[name]}; with model.backbone {filled['backbone']} it must be {value}"
            )


def _latent_counts(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """Return whole numbers of at least 1 that sum to `total`, proportional to the shares (largest remainders)."""
    spare = total - len(shares)
    exact = {name: spare * share / sum(shares.values()) for name, share in shares.items()}
    counts = {name: 1 + int(value) for name, value in exact.items()}
    by_remainder = sorted(shares, key=lambda name: int(exact[name]) - exact[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def _technical_groups(model: ModelConfig, groups: Collection[str], factor_groups: Collection[str]) -> list[str]:
    """Return which groups are technical, in the order of the groups. ValueError for a group that is not there, and where the
    group called technical has factors and is left out: a word cannot mean two things."""
    if model.technical is None:
        return [group for group in groups if group == TECHNICAL]
    for name in model.technical:
        if name not in groups:
            raise ValueError(f"model.technical: there is no group {name!r}{nearest(name, groups)}")
    if TECHNICAL in factor_groups and TECHNICAL not in model.technical:
        raise ValueError(
            f"model.technical leaves out the group {TECHNICAL!r}, which has factors: name it too, or rename it"
        )
    return [group for group in groups if group in model.technical]
