"""What a GWAS gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]
HEADLINES = 5
"""Loci that are shown at the end."""


@dataclass(frozen=True)
class GwasResult:
    """The loci, lambda of each component, what stands beside, and what was counted."""

    output: Path
    name: str
    loci: Sequence[Row]
    lambdas: Sequence[float]
    beside: Sequence[Row]
    persons: int
    tested: int
    skipped: Mapping[str, int]
    warnings: Sequence[str]
    seconds: float = 0.0
    slices: Sequence[Row] = ()
    slice_sentence: str = ""
    """Which slice of the features found which locus, and in words how many."""

    def lines(self) -> list[str]:
        """Return what was tested and found, in words."""
        skipped = ", ".join(f"{count:,} {reason}" for reason, count in self.skipped.items())
        return [
            f"{self.tested:,} variants tested on {self.persons:,} persons and {len(self.lambdas)} components"
            f"{f'; not tested: {skipped}' if skipped else ''} ({self.seconds:.1f} s)",
            f"lambda {min(self.lambdas):.2f} to {max(self.lambdas):.2f}"
            if self.tested
            else "no variant could be tested",
            f"{len(self.loci):,} {'locus' if len(self.loci) == 1 else 'loci'}",
            *(
                f"{row['chromosome']}:{row['start']}-{row['end']}: {row['variant']}, {row['pc']}, "
                f"-log10 P {row['neg_log_10_p']:.1f}"
                for row in self.loci[:HEADLINES]
            ),
            *(
                f"beside {row['run']}: {row['loci']} loci, mean chi-square {row['chi_square']:.0f} at {row['regions']} regions"
                for row in self.beside
                if row["regions"]
            ),
            *([self.slice_sentence] if self.slice_sentence else []),
            f"wrote {self.output}",
        ]
