"""What an explanation is made of: directions in the latent, what was found for each, and what the pages show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mfd_cli.base.arrays import Bools, Bytes, Doubles, Floats, Ints
from mfd_cli.base.notebook import Told
from mfd_cli.core.attribute import Method
from mfd_cli.core.decompose import Decomposition
from mfd_cli.core.motif_match import Match
from mfd_cli.core.seqlets import FoundMotif
from mfd_cli.genome.grid import BIN
from mfd_cli.runs.folder import Run

LIKELY = 0.05
"""E-value below which a known motif is said to match."""


@dataclass(frozen=True)
class Look:
    """What is looked at on DNA, how, and what it is compared with."""

    regions: Path | None = None
    """BED file; None: the strongest bins of each direction."""
    top: int = 20
    """Regions per direction where no BED file is given."""
    method: Method = "input-x-gradient"
    motifs: Path | None = None
    """JASPAR or MEME file of known motifs."""
    modisco: bool = False
    """Also run TF-MoDISco (the extra `motifs`)."""
    gtf: Path | None = None
    """Genes to draw beside the contributions."""
    profiles: Mapping[str, Path] = field(default_factory=dict)
    """bigWigs that the fingerprint looks at too, by name: mappability, conservation."""


@dataclass(frozen=True)
class Direction:
    """The score <weights, latent[subspace]>; `tracks` (tracks,) are those whose data are shown beside it."""

    name: str
    weights: Floats
    subspace: slice
    tracks: Bools

    def scores(self, latents: Floats) -> Floats:
        """Return the score (bins,) of latents (bins, latent)."""
        result: Floats = latents[:, self.subspace] @ self.weights
        return result


@dataclass(frozen=True)
class Gene:
    """A gene as it is drawn: 0-based start, end, + or - or another sign, name."""

    start: int
    end: int
    strand: str
    name: str


@dataclass(frozen=True)
class Surroundings:
    """A stretch [low, high) of a contig. Per labelled bin (n,): `start`, and the share with a peak (or the mean signal where
    there are only signals) of some tracks, `own`, and of the others; NaN where none was measured."""

    contig: str
    low: int
    high: int
    start: Ints
    own: Doubles
    others: Doubles
    what: str
    genes: Sequence[Gene]


@dataclass(frozen=True)
class Region:
    """A window that is explained: where its bin starts, the length of the contig, the direction's score, the base codes
    (window,), which are those of unknown bases beyond the contig."""

    contig: str
    start: int
    contig_length: int
    score: float
    codes: Bytes

    @property
    def end(self) -> int:
        """Where the bin ends; on a contig shorter than a bin, the contig's end."""
        return min(self.start + BIN, self.contig_length)


@dataclass(frozen=True)
class OnDna:
    """What was found for one direction. `hypothetical` is (regions, 4, window), `contributions` (regions, window).

    The regions of a BED file are in its order, the same for all directions; `strongest_first` is how they are shown.
    """

    name: str
    regions: Sequence[Region]
    hypothetical: Floats
    contributions: Floats
    motifs: Sequence[FoundMotif]
    matches: Sequence[Match | None]
    """For every motif the known one that fits best, likely or not; None where no known motifs were given."""
    error: Floats
    """Of integrated gradients, per region: how far the contributions are from adding up; NaN for other methods."""
    around: Surroundings | None
    """What the data say around the strongest region."""

    @property
    def strongest_first(self) -> list[int]:
        """The numbers of the regions, those with the largest scores first."""
        return sorted(range(len(self.regions)), key=lambda number: -self.regions[number].score)

    @property
    def motif(self) -> FoundMotif | None:
        """The first motif, that of the strongest stretches."""
        return self.motifs[0] if self.motifs else None

    @property
    def match(self) -> Match | None:
        """The known motif that the first one is; None where none is likely."""
        best = self.matches[0] if self.matches else None
        return best if best is not None and best.e_value < LIKELY else None


@dataclass(frozen=True)
class Explanation:
    """Everything that tables, pictures and the page are made from."""

    run: Run
    factor: str
    group: str
    decomposition: Decomposition
    levels: Sequence[Mapping[str, Any]]
    tracks: Sequence[Mapping[str, Any]]
    agreement: Sequence[Mapping[str, Any]]
    shown: Sequence[OnDna]
    fingerprint: Sequence[Mapping[str, Any]]
    bins: int
    split: str

    @property
    def level_names(self) -> list[str]:
        """Levels that some training track has, in the order of the table."""
        return [str(row["level"]) for row in self.levels]


@dataclass(frozen=True)
class Directions:
    """Everything that the page is made from."""

    run: Run
    subject: str
    rows: Sequence[dict[str, Any]]
    shown: Sequence[OnDna]
    fingerprint: Sequence[dict[str, Any]]
    bins: int
    split: str


@dataclass(frozen=True)
class Overview:
    """`factors`: one row per part with its share and interval; `tracks`: one row per training track."""

    run: Run
    decomposition: Decomposition
    factors: Sequence[Mapping[str, Any]]
    tracks: Sequence[Mapping[str, Any]]
    bins: int
    split: str


@dataclass(frozen=True, repr=False)
class ExplainSummary(Told):
    """Where the results are, and the sentences that the report begins with; `warning` where the model is near chance."""

    folder: Path
    subject: str
    sentences: Sequence[str]
    warning: str | None = None

    def lines(self) -> list[str]:
        """Return the sentences and the page as lines for the terminal."""
        warnings = [f"warning: {self.warning}"] if self.warning else []
        return [*warnings, *self.sentences, f"report: {self.folder / 'report.html'}"]
