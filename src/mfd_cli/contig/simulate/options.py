"""How large a simulated cohort is, and how hard."""

from __future__ import annotations

from dataclasses import dataclass

from mfd_cli.base.errors import ConfigError, nearest


@dataclass(frozen=True)
class Scale:
    """Persons, of whom twice `pairs` are siblings; SNPs, in blocks of five; chromosomes; side of a picture (px)."""

    persons: int
    pairs: int
    snps: int
    chromosomes: int
    side: int


SIZES = {
    "tiny": Scale(400, 30, 50, 10, 16),
    "small": Scale(8_000, 600, 400, 10, 32),
    "medium": Scale(20_000, 1_500, 5_000, 22, 64),
}
KINDS = ("snps", "pgs", "burden", "table")
"""The modalities that a simulated project can have, which are called as their kinds are."""


TIED = 0.8
"""Share of persons whose camera is that of their centre, in a world with structure."""


@dataclass(frozen=True)
class CohortOptions:
    """Share of a latent's variance that genes explain; how strong nuisances of the picture are; without genetic effects."""

    h2: float = 0.49
    nuisance: float = 1.0
    null: bool = False
    faulty: float = 0.005
    """Share of pictures that were cut short."""
    missing: float = 0.01
    """Share of calls that are missing."""
    modalities: tuple[str, ...] = ("snps",)
    """What the project has of KINDS; with burden the pictures have lesions."""
    absent: float = 0.0
    """Share of persons who are missing in each file of genotypes or measurements."""
    confounding: float | None = None
    """Share of persons whose camera is that of their centre; by default 0, or `TIED` in a world with structure."""
    structure: float = 0.0
    """F_ST between the populations that come to the centres; 0: all are of one population."""

    def __post_init__(self) -> None:
        bounds = (
            ("h2", self.h2, 0, 0.9),
            ("nuisance", self.nuisance, 0, 10),
            ("missing", self.absent, 0, 0.9),
            ("confounding", self.tied, 0, 1),
            ("structure", self.structure, 0, 0.5),
        )
        for name, value, low, high in bounds:
            if not low <= value <= high:
                raise ConfigError(f"{name} is {value}; it must be between {low} and {high}")
        for kind in self.modalities:
            if kind not in KINDS:
                raise ConfigError(f"modalities: there is no {kind!r}{nearest(kind, KINDS)}")
        if not self.modalities:
            raise ConfigError("modalities: none is named", hint=f"there are {', '.join(KINDS)}")

    @property
    def tied(self) -> float:
        """The share of persons whose camera is that of their centre."""
        if self.confounding is not None:
            return self.confounding
        return TIED if self.structure else 0.0

    @property
    def has_centres(self) -> bool:
        """Whether there are centres at all."""
        return bool(self.tied or self.structure)


def kinds_of(size: str) -> tuple[str, ...]:
    """Return the modalities that a project of a size has where none are named."""
    return KINDS if size == "medium" else KINDS[:1]
