"""What scoring a file comes to, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mfd_cli.base.notebook import Told


@dataclass(repr=False)
class ScoreSummary(Told):
    """What was scored and what was not. Counts are of alleles but for `records`; `seconds` is the time that all of it took.

    `skipped` counts by reason, `flagged` by flag; `phased` were scored together with others of their haplotype, `close` have
    another one nearby and were not; `resumed` were taken over from a run that was interrupted. `background` and
    `renamed` say what they were compared with, and that their contigs are named otherwise than in the genome.
    """

    outputs: list[Path] = field(default_factory=list)
    records: int = 0
    alleles: int = 0
    scored: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    background: str = ""
    renamed: str = ""
    flagged: dict[str, int] = field(default_factory=dict)
    phased: int = 0
    close: int = 0
    resumed: int = 0
    seconds: float = 0.0

    def words_for_skipped(self) -> str:
        """Say how many alleles are not scored, and why."""
        reasons = ", ".join(
            f"{count:,} {why}" for why, count in sorted(self.skipped.items(), key=lambda pair: -pair[1])
        )
        return f"{self.alleles - self.scored:,} not scored{f' ({reasons})' if reasons else ''}"

    def lines(self) -> list[str]:
        """Return the summary as lines for the terminal."""
        rate = self.scored / self.seconds if self.seconds else 0
        remarks = [f"{count:,} {name}" for name, count in sorted(self.flagged.items())]
        remarks += [f"{self.phased:,} scored together with others of their haplotype"] if self.phased else []
        remarks += [f"{self.resumed:,} taken over from a run that was interrupted"] if self.resumed else []
        return [
            f"{self.records:,} records, {self.alleles:,} alternate alleles: {self.scored:,} scored "
            f"({rate:,.0f}/s), {self.words_for_skipped()}",
            *([f"of the scored: {', '.join(remarks)}"] if remarks else []),
            *([self.renamed] if self.renamed else []),
            *([self.background] if self.background else []),
            *(f"wrote {path}" for path in self.outputs),
        ]

    def count_flags(self, cells: list[str]) -> None:
        """Add the flags of scored alleles, each cell being a dot or flags joined by &."""
        for flag in (flag for cell in cells if cell != "." for flag in cell.split("&")):
            self.flagged[flag] = self.flagged.get(flag, 0) + 1
