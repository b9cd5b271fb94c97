"""What `mfd preprocess` says when it is done, in words for the terminal and in numbers for the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mfd_cli.base.errors import few
from mfd_cli.base.notebook import Told
from mfd_cli.dataset.choose_bins import ChosenBins, UnknownContigs
from mfd_cli.dataset.inputs import Inputs
from mfd_cli.dataset.manifest import SPLITS
from mfd_cli.dataset.parse_tracks import Parsed
from mfd_cli.experiments.sources import controls_sentence
from mfd_cli.experiments.track import Track

NO_TEST = "no bins to test on (split.test = 0.1 keeps a share): mfd evaluate needs --split validation"


@dataclass(frozen=True, repr=False)
class PreprocessSummary(Told):
    """What preprocess did, for the terminal (`lines`) and the manifest (`to_json`).

    `tracks` counts them by kind and `bins` by split, `with_data` those in which a track has a peak or a signal was measured;
    `dropped` counts bins that were left out, by reason; `positives` has the minimum, median and maximum over the peak tracks
    of training bins with a peak, `empty_tracks` the ids of those with none; `lost_peaks` of `peaks` lie in the incomplete
    last bin of a contig, `empty_intervals` had no bases; `ignored_contigs` (of the tracks) and `unknown_contigs` (of the
    BED files that settings name) count intervals on contigs that the genome lacks, `first_ignored` is the file and the line of
    the first one among the tracks; `renamed_contigs` has, for each track file that names contigs otherwise than the genome,
    the first one with the genome's name; `controls` are the ids of rows that are no tracks.
    """

    tracks: Mapping[str, int]
    bins: Mapping[str, int]
    with_data: Mapping[str, int]
    dropped: Mapping[str, int]
    positives: Mapping[str, int]
    empty_tracks: Sequence[str]
    contigs: int
    ignored_contigs: Mapping[str, int]
    first_ignored: str
    renamed_contigs: Mapping[str, Mapping[str, str]]
    unknown_contigs: Mapping[str, UnknownContigs]
    lost_peaks: int
    empty_intervals: int
    peaks: int
    controls: Sequence[str]
    control_column: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the same as plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return a few lines for a person."""
        return [
            f"tracks: {self.tracks['peaks']:,} with peaks, {self.tracks['signal']:,} with signal",
            *controls_sentence(self.controls, self.control_column),
            "bins: " + ", ".join(f"{count:,} {split}" for split, count in self.bins.items()),
            f"with a peak of any track or a signal: {', '.join(f'{n:,} {split}' for split, n in self.with_data.items())}",
            *([] if self.bins["test"] else [NO_TEST]),
            "bins left out: " + (", ".join(f"{n:,} {why}" for why, n in self.dropped.items() if n) or "none"),
            *unknown_contig_sentences(self.unknown_contigs),
            f"contigs: {self.contigs:,}",
            *self._renamed_lines(),
            *self._peak_lines(),
        ]

    def _renamed_lines(self) -> list[str]:
        for file, names in self.renamed_contigs.items():  # the first one is an example
            theirs, ours = next(iter(names.items()))
            files = f"{len(self.renamed_contigs):,} track file{'s' if len(self.renamed_contigs) > 1 else ''}"
            return [
                f"contigs are named otherwise than in the genome in {files}: {theirs} in {file} was taken for {ours}"
            ]
        return []

    def _peak_lines(self) -> list[str]:
        lines = []
        if self.positives:
            lines.append(
                "training bins with a peak, per track: "
                + ", ".join(f"{what} {count:,}" for what, count in self.positives.items())
            )
        if self.empty_tracks:
            lines.append(
                f"tracks without a training bin with a peak: {len(self.empty_tracks)} ({few(self.empty_tracks)})"
            )
        if self.ignored_contigs:
            count, names = sum(self.ignored_contigs.values()), few(self.ignored_contigs)
            lines.append(
                f"intervals on contigs that the genome lacks: {count:,} ({names}), the first in {self.first_ignored}"
            )
        if self.lost_peaks:
            lines.append(f"peaks in the incomplete last bin of a contig: {self.lost_peaks:,} of {self.peaks:,}")
        if self.empty_intervals:
            lines.append(f"intervals without bases (start equal to end), left out: {self.empty_intervals:,}")
        return lines


def unknown_contig_sentences(unknown: Mapping[str, UnknownContigs]) -> list[str]:
    """Return a sentence for each BED that a setting names and of which lines were left out, for want of their contigs."""
    return [
        f"{setting}: {sum(file.lines.values()):,} of {file.of:,} lines are on contigs that the genome lacks "
        f"({few(file.lines)}); they were left out, the first is line {file.first:,} of {file.file}"
        for setting, file in unknown.items()
        if file.lines
    ]


def summarise(
    inputs: Inputs,
    parsed: Sequence[Parsed],
    chosen: ChosenBins,
    with_data: Mapping[str, int],
    tracks: Sequence[Track],
) -> PreprocessSummary:
    """Count what was made of the inputs; `with_data` counts the bins of each split that have data, `tracks` are the rows of
    tracks.arrow."""
    positives = sorted(track.positives for track in tracks if track.kind == "peaks")
    spread = {"minimum": 0, "median": len(positives) // 2, "maximum": -1} if positives else {}
    ignored: dict[str, int] = {}
    for track in parsed:
        for name, count in track.ignored.items():
            ignored[name] = ignored.get(name, 0) + count
    first_ignored = next(
        (f"{source.name}:{track.ignored_line}" for source, track in zip(inputs.sources, parsed) if track.ignored), ""
    )
    return PreprocessSummary(
        tracks={"peaks": len(inputs.of_kind("peaks")), "signal": len(inputs.of_kind("signal"))},
        bins={name: len(chosen.of(name)) for name in SPLITS},
        with_data=with_data,
        dropped=chosen.dropped,
        positives={name: positives[place] for name, place in spread.items()},
        empty_tracks=[track.id for track in tracks if track.kind == "peaks" and not track.positives],
        contigs=len(inputs.genome.sequences),
        ignored_contigs=ignored,
        first_ignored=first_ignored,
        renamed_contigs={source.name: track.renamed for source, track in zip(inputs.sources, parsed) if track.renamed},
        unknown_contigs=inputs.usable.unknown_contigs,
        lost_peaks=sum(track.lost for track in parsed),
        empty_intervals=sum(track.empty for track in parsed),
        peaks=sum(track.peaks for track in parsed),
        controls=inputs.controls,
        control_column=inputs.project.config.tracks.control,
    )
