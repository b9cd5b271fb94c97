"""How large a simulated cohort is, and how hard."""

from __future__ import annotations

from dataclasses import dataclass

from mfd_cli.base.errors import ConfigError


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
}


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

    def __post_init__(self) -> None:
        for name, value, low, high in (("h2", self.h2, 0, 0.9), ("nuisance", self.nuisance, 0, 10)):
            if not low <= value <= high:
                raise ConfigError(f"{name} is {value}; it must be between {low} and {high}")
