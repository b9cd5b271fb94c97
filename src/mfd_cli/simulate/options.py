"""How large a planted world is, and which of the model's assumptions it breaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from mfd_cli.base.errors import ConfigError, nearest


@dataclass(frozen=True)
class Size:
    """How large a planted world is."""

    contigs: int
    bins_per_contig: int
    targets: int
    tissues: int
    variants: int
    replicates: int = 1
    """Labs that measure each combination of target, tissue and assay."""
    repeated: int = 0
    """Combinations, the first ones, that one lab more measures."""
    test_contigs: int = 1
    correlation: float = 0.0
    overlap: float = 0.0


SIZES = {
    "tiny": Size(contigs=4, bins_per_contig=400, targets=3, tissues=2, variants=40),
    "small": Size(contigs=6, bins_per_contig=4000, targets=6, tissues=3, variants=400),
    "medium": Size(
        contigs=12,
        bins_per_contig=8000,
        targets=6,
        tissues=3,
        variants=1000,
        replicates=2,
        test_contigs=2,
        correlation=0.3,
        overlap=0.2,
    ),
    "apart": Size(contigs=6, bins_per_contig=4000, targets=6, tissues=3, variants=400, repeated=4),
}
"""The benchmark, medium, has causes that overlap and coincide unless its options say otherwise. apart has 38 peak tracks."""
BATCHES = ("none", "nested", "crossed", "confounded")
FURTHEST = 500
"""Most bases between a bin and a motif that acts on it."""


def _new(default: Any) -> Any:
    """Return the field of an option that came later: a world that does not use it has the files it had before there was one."""
    return field(default=default, metadata={"new": True})


@dataclass(frozen=True)
class SimulateOptions:
    """Ways to break the model's assumptions; by default none is broken."""

    correlation: float | None = None
    """Probability that a bin with a target's motif also gets the first assay's cutting motif: causes that coincide.
    None: what the size says."""
    overlap: float | None = None
    """Probability that another target's motif overlaps the end of a target's motif. None: what the size says."""
    saturating: bool = False
    """Accessibility and motifs saturate: the biological part is squashed, not a sum of its causes."""
    depth: float = 0.0
    """Depth-dependent peak calling: the shallowest tracks lose up to twice this from every logit."""
    hidden_batch: bool = False
    """Half of the tracks have a preference that no column names."""
    mislabelled: float = 0.0
    """Share of the tracks whose target column is wrong."""
    complete_confounding: bool = False
    """Every assay was done by one lab in one year: nothing can tell the three apart."""
    interaction: float = _new(0.0)
    """Share of a target's effect that depends on the tissue: it belongs to the motif of a partner, another in each tissue."""
    technique_interaction: float = _new(0.0)
    """How much more a target's motif counts under one assay and less under the other; at 1 double and nothing, at most."""
    residual: float = _new(0.0)
    """Standard deviation of a track's own weight for each motif, which no column explains."""
    batch: str = _new("none")
    """A column of batches: nested in the target, crossed with everything, or mostly confounded with the assay."""
    batch_dose: float = _new(1.0)
    """Change of the logit per standard deviation of G+C in one half of the batches; the other half has its negative."""
    distance: int = _new(0)
    """Bases from a bin beyond which a motif no longer acts on it; on the way there its effect falls linearly."""
    spread: float = _new(0.0)
    """Correlation of the noise of neighbouring bins, so that peaks span bins."""
    overdispersion: float = _new(0.0)
    """Correlation of the noise of two tracks in a bin, so that the number of tracks with a peak varies more."""
    shared_letters: float = _new(0.0)
    """Share of each assay's motif that is replaced by the beginning of a target's motif."""
    gc_correlated: float = _new(0.0)
    """How much more motifs stand where there is more G+C: change of the log chance per standard deviation."""

    def __post_init__(self) -> None:
        for name, most in MOST.items():
            value = getattr(self, name) or 0
            if not 0 <= value <= most:
                raise ConfigError(f"{name} is {value}; it must be between 0 and {most}")
        if self.batch not in BATCHES:
            raise ConfigError(f"batch is {self.batch!r}{nearest(self.batch, BATCHES)}")
        if self.batch == "none" and self.batch_dose != 1:
            raise ConfigError(
                f"batch_dose is {self.batch_dose}, but there is no batch", hint="batch may be nested or crossed"
            )

    def resolved(self, size: Size) -> SimulateOptions:
        """Return these options with what is None taken from the size."""
        from_size = {name: getattr(size, name) for name in ("correlation", "overlap") if getattr(self, name) is None}
        return replace(self, **from_size)

    def stated(self) -> dict[str, Any]:
        """Return the options as truth/causes.json has them: those that came later only where they are used."""
        unused = {
            option.name for option in fields(self) if option.metadata and getattr(self, option.name) == option.default
        }
        return {name: value for name, value in asdict(self).items() if name not in unused}


MOST = {
    **dict.fromkeys(("correlation", "overlap", "depth", "mislabelled", "interaction", "technique_interaction"), 1),
    **dict.fromkeys(("spread", "overdispersion", "shared_letters", "gc_correlated"), 1),
    **dict.fromkeys(("residual", "batch_dose"), 10),
    "distance": FURTHEST,
}
"""The largest value of each option that is a number; the smallest is 0."""
WORLDS = {"apart": SimulateOptions(interaction=1.0, shared_letters=0.5, gc_correlated=0.7)}
"""Worlds by name, whose size has the same name. apart is kept apart: no setting of the program is chosen on it."""


def world_options(world: str | None, changes: Mapping[str, Any]) -> SimulateOptions:
    """Return the options of a world by name (None: nothing is broken) with those `changes` that are not None.

    Raises ConfigError for an unknown world or a value out of its range.
    """
    if world is not None and world not in WORLDS:
        raise ConfigError(f"world is {world!r}{nearest(world, list(WORLDS))}")
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(WORLDS[world] if world is not None else SimulateOptions(), **given)
