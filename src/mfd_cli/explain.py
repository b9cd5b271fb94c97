"""`mfd explain --factor F`: what a factor contributes, in numbers that add up, on DNA letters, in pictures.

explain/FACTOR/levels.tsv           one row per level: tracks, strength, share of variance, confounds in words
        latents.tsv                 direction of every level over the latents of the factor's group
        fingerprint.tsv             which 4-mers, G+C and CpG each level's score goes with
        tracks.tsv                  share of each track's logit variance per factor; shares sum to one
        regions.tsv                 the regions shown, and whether contributions add up (integrated gradients)
        attributions.arrow          region x level: hypothetical contributions (4, window), channel-major
        LEVEL.bw, modisco/LEVEL.*   actual contributions as bigWig; a pair that modisco-lite reads
        motifs.tsv, motifs.meme     the aggregate motif of each level
        *.png, *.svg, report.html   pictures, and one page that opens with no network
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mfd_cli.config import nearest
from mfd_cli.core.attribute import Method, actual, attribute, convergence_error, scores_of
from mfd_cli.core.decompose import Decomposition, decompose
from mfd_cli.core.predict import Predictor, variance_shares, whole_latent
from mfd_cli.core.seqlets import AggregateMotif, aggregate_motif
from mfd_cli.data.dataset import Bins, Dataset
from mfd_cli.data.regions import read_intervals
from mfd_cli.data.sequence import gc_share
from mfd_cli.errors import ConfigError, DatasetError
from mfd_cli.evaluate import bin_latents, check_same_tracks
from mfd_cli.export import write_attributions, write_bigwig, write_meme, write_tsv
from mfd_cli.files import check_output, whole_folder
from mfd_cli.fingerprint import composition, fingerprint
from mfd_cli.run_folder import Run

Progress = Callable[[str, int, int], None]
Floats = NDArray[np.float32]
MOST_BINS = 20_000
MOST_LEVELS = 12
MOST_PRINTED = 5_000
CONFOUNDED = 0.8
REGION_COLUMNS = ("level", "contig", "start", "end", "score", "sum_of_contributions", "convergence_error")
BIN = 128


@dataclass(frozen=True)
class Region:
    """A window that is explained: where its bin lies and how strongly the level speaks there."""

    contig: str
    start: int
    score: float
    codes: NDArray[np.uint8]


@dataclass(frozen=True)
class LevelResult:
    """What was found for one shown level. `hypothetical` is (regions, 4, window), `contributions` (regions, window)."""

    name: str
    regions: Sequence[Region]
    hypothetical: Floats
    contributions: Floats
    motif: AggregateMotif | None
    error: Floats
    """Of integrated gradients, per region: how far the contributions are from adding up; NaN for other methods."""


@dataclass(frozen=True)
class ExplainSummary:
    """Where the results are, and the sentences that the report begins with."""

    folder: Path
    factor: str
    sentences: Sequence[str]

    def lines(self) -> list[str]:
        return [*self.sentences, f"report: {self.folder / 'report.html'}"]


@dataclass(frozen=True)
class Explanation:
    """Everything that tables, pictures and the page are made from."""

    run: Run
    factor: str
    group: str
    decomposition: Decomposition
    levels: Sequence[Mapping[str, Any]]
    tracks: Sequence[Mapping[str, Any]]
    shown: Sequence[LevelResult]
    fingerprint: Sequence[Mapping[str, Any]]
    bins: int
    split: str

    @property
    def level_names(self) -> list[str]:
        """Levels that some training track has, in the order of the table."""
        return [str(row["level"]) for row in self.levels]


def explain(
    run: Run, dataset: Dataset, factor: str, output: Path, *, regions: Path | None = None, top: int = 20,
    method: Method = "input-x-gradient", device: torch.device | str = "cpu", batch_size: int = 256,
    force: bool = False, progress: Progress | None = None,
) -> ExplainSummary:  # fmt: skip
    """Explain one factor of a trained model and write the folder `output`, whole.

    Regions are those of a BED file, or the `top` strongest test bins of each level. Raises ConfigError for a factor that
    the model does not know.
    """
    check_output(output, force)
    check_same_tracks(run, dataset)
    if factor not in run.model.metadata.encoders:
        known = list(run.model.metadata.encoders)
        raise ConfigError(f"the model has no factor {factor!r}{nearest(factor, known)}")
    decomposition = decompose(run.model)
    split, bins = bins_to_look_at(dataset)
    latents = bin_latents(run, dataset, bins, device, batch_size, progress)
    predictor = Predictor(run.model, device, batch_size)
    tracks = track_rows(run, predictor, decomposition, latents)
    levels = level_rows(run, dataset, predictor, decomposition, factor, bins, latents, tracks)
    shown = explain_levels(
        run, dataset, decomposition, factor, levels, bins, latents, regions, top, method, device, progress
    )
    group = decomposition.group_of[factor]
    prints = fingerprints(dataset, bins, latents[:, predictor.slices[group]], decomposition, factor, levels)
    result = Explanation(run, factor, group, decomposition, levels, tracks, shown, prints, len(bins), split)
    sentences = summary_sentences(result)
    with whole_folder(output) as folder:
        write_tables(folder, result, dataset)
        from mfd_cli.report.page import write_report
        from mfd_cli.report.pictures import draw_pictures

        pictures = draw_pictures(folder, result)
        write_report(folder / "report.html", result, sentences, pictures)
    return ExplainSummary(output, factor, sentences)


def bins_to_look_at(dataset: Dataset) -> tuple[str, Bins]:
    """The test bins (validation, or training ones, where there are none), at most MOST_BINS evenly spaced."""
    for split in ("test", "validation", "train"):
        bins = dataset.split(split)
        if len(bins):
            index = np.linspace(0, len(bins) - 1, min(MOST_BINS, len(bins))).round().astype(np.int64)
            return split, Bins(bins.contig[index], bins.start[index], bins.peaks[index], bins.signal[index])
    raise DatasetError("has no bins", path=dataset.path)


def fingerprints(
    dataset: Dataset, bins: Bins, latents: Floats, decomposition: Decomposition, factor: str,
    levels: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:  # fmt: skip
    """Which composition the levels with the most tracks prefer, over at most MOST_PRINTED bins."""
    chosen = np.linspace(0, len(bins) - 1, min(MOST_PRINTED, len(bins))).round().astype(np.int64)
    places = [(dataset.contigs[c], int(s)) for c, s in zip(bins.contig[chosen].tolist(), bins.start[chosen].tolist())]
    names, values = composition(dataset.genome, places)
    shown = [str(row["level"]) for row in levels[:MOST_LEVELS]]
    return fingerprint(
        {level: latents[chosen] @ decomposition.direction(factor, level) for level in shown}, names, values
    )


# -- tables ------------------------------------------------------------------------------------------------------------


def track_rows(run: Run, predictor: Predictor, decomposition: Decomposition, latents: Floats) -> list[dict[str, Any]]:
    """Per training track: its levels, and the share of its logit variance of the shared part and of every factor."""
    head, size = predictor.head, latents.shape[1]
    parts = {"shared": np.broadcast_to(head.shared, (len(head.bias), size))}
    for name, weights in decomposition.factors.items():
        parts[name] = whole_latent(weights, head.slices[decomposition.group_of[name]], size)
    shares = variance_shares(latents, head.matrix(), parts)
    rows = []
    for index in np.flatnonzero(run.model.trained):
        track = run.tracks[index]
        levels = {name: track.metadata.get(column, "") for name, column in run.model.metadata.columns.items()}
        rows.append(
            {
                "track": track.id,
                "kind": track.kind,
                **levels,
                **{f"share_{n}": float(v[index]) for n, v in shares.items()},
            }
        )
    return rows


def level_rows(
    run: Run, dataset: Dataset, predictor: Predictor, decomposition: Decomposition, factor: str, bins: Bins,
    latents: Floats, tracks: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:  # fmt: skip
    """Per level with a training track: strength of its direction on real bins, G+C, confounds.

    Where exactly the same tracks have a level of another factor, the credit of the two cannot be told apart: there is no
    share of the one, only the joint share of both.
    """
    gc = gc_content(dataset, bins)
    place = predictor.slices[decomposition.group_of[factor]]
    trained = np.flatnonzero(decomposition.trained)
    shares = {row["track"]: row for row in tracks}
    rows = []
    for level in decomposition.levels[factor]:
        members = decomposition.tracks_of(factor, level)
        if not members.any():
            continue
        direction = decomposition.direction(factor, level)
        score = latents[:, place] @ direction
        twins = same_tracks(decomposition, factor, members)
        mine = [shares[run.tracks[i].id] for i in trained if members[i]]
        own = float(np.mean([row[f"share_{factor}"] for row in mine]))
        joint = float(np.mean([sum(row[f"share_{name}"] for name in (factor, *twins)) for row in mine]))
        rows.append(
            {
                "level": level, "tracks": int(members.sum()), "norm": float(np.linalg.norm(direction)),
                "logit_sd": float(score.std()), "share_of_variance": np.nan if twins else own,
                "cannot_be_told_from": ", ".join(f"{name} = {level}" for name, level in twins.items()),
                "joint_share": joint,
                "gc_correlation": float(np.corrcoef(score, gc)[0, 1]) if score.std() > 0 and gc.std() > 0 else np.nan,
                "confounded_with": strongest_confound(decomposition, factor, members),
                "sampling_error": decomposition.errors[factor],
            }
        )  # fmt: skip
    return sorted(rows, key=lambda row: (-row["tracks"], row["level"]))


def same_tracks(decomposition: Decomposition, factor: str, members: NDArray[np.bool_]) -> dict[str, str]:
    """Levels of other factors that exactly the same training tracks have, as {factor: level}."""
    trained = decomposition.trained
    if members[trained].all():
        return {}  # a level that every track has is in the shared part
    return {
        other: level
        for other, levels in decomposition.levels.items() if other != factor
        for index, level in enumerate(levels)
        if np.array_equal(decomposition.members[other][trained, index], members[trained])
    }  # fmt: skip


def strongest_confound(decomposition: Decomposition, factor: str, members: NDArray[np.bool_]) -> str:
    """In words, the level of another factor that this level's tracks share and others do not; empty where none is."""
    best, sentence = 0.0, ""
    rest = decomposition.trained & ~members
    for other, levels in decomposition.levels.items():
        if other == factor:
            continue
        for index, level in enumerate(levels):
            column = decomposition.members[other][:, index]
            inside = column[members].mean()
            outside = column[rest].mean() if rest.any() else 1.0
            if inside >= CONFOUNDED and inside - outside > max(best, 0.3):
                best = inside - outside
                apart = "the two cannot be told apart" if inside == 1 and outside == 0 else "hard to tell apart"
                sentence = f"{inside:.0%} of its tracks are {other} = {level}, {outside:.0%} of the others: {apart}"
    return sentence


def gc_content(dataset: Dataset, bins: Bins) -> NDArray[np.float64]:
    """Share of G and C in every bin."""
    pairs = zip(bins.contig.tolist(), bins.start.tolist())
    return np.array([gc_share(dataset.genome.codes(dataset.contigs[c], s, s + BIN)) for c, s in pairs])


def write_tables(folder: Path, result: Explanation, dataset: Dataset) -> None:
    """Every file but pictures and the page."""
    write_tsv(folder / "levels.tsv", result.levels)
    directions = {name: result.decomposition.direction(result.factor, name) for name in result.level_names}
    place = result.run.model.slices[result.group]
    rows = []
    for index in range(place.stop - place.start):
        weights = {name: float(direction[index]) for name, direction in directions.items()}
        strongest = max(weights, key=lambda name: abs(weights[name]))
        rows.append({"latent": f"{result.group}.{index}", "strongest_level": strongest, **weights})
    write_tsv(folder / "latents.tsv", rows)
    write_tsv(folder / "tracks.tsv", result.tracks)
    write_tsv(folder / "fingerprint.tsv", result.fingerprint)
    write_attributions(folder / "attributions.arrow", result.shown, result.factor)
    (folder / "modisco").mkdir()
    for level in result.shown:
        if not level.regions:
            continue
        name = safe_name(level.name)
        codes = np.stack([region.codes for region in level.regions])
        onehot = (codes[:, None] == np.arange(4)[None, :, None]).astype(np.int8)
        np.savez(folder / "modisco" / f"{name}.sequences.npz", onehot)
        np.savez(folder / "modisco" / f"{name}.attributions.npz", level.hypothetical)
        left = result.run.model.left
        pieces = [(r.contig, r.start - left, level.contributions[i]) for i, r in enumerate(level.regions)]
        write_bigwig(folder / f"{name}.bw", dataset.genome.lengths, pieces)
    regions = [
        {"level": level.name, "contig": region.contig, "start": region.start, "end": region.start + BIN, "score": region.score,
         "sum_of_contributions": float(level.contributions[i].sum()), "convergence_error": float(level.error[i])}
        for level in result.shown for i, region in enumerate(level.regions)
    ]  # fmt: skip
    write_tsv(folder / "regions.tsv", regions, REGION_COLUMNS)
    motifs = {level.name: level.motif for level in result.shown if level.motif is not None}
    write_meme(folder / "motifs.meme", {safe_name(name): motif.frequency for name, motif in motifs.items()})
    write_tsv(
        folder / "motifs.tsv",
        [
            {"level": n, "kmer": m.kmer, "stretches": m.count, "of": m.total, "enrichment": float(m.enrichment)}
            for n, m in motifs.items()
        ],
        ["level", "kmer", "stretches", "of", "enrichment"],
    )


def safe_name(level: str) -> str:
    """A level as a file name: letters, digits, dot, dash; the rest becomes an underscore."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", level).strip("._")[:60] or "level"


# -- on DNA ------------------------------------------------------------------------------------------------------------


def explain_levels(
    run: Run, dataset: Dataset, decomposition: Decomposition, factor: str, levels: Sequence[Mapping[str, Any]],
    bins: Bins, latents: Floats, regions: Path | None, top: int, method: Method, device: torch.device | str,
    progress: Progress | None,
) -> list[LevelResult]:  # fmt: skip
    """Attributions of the levels with the most tracks (at most MOST_LEVELS) on their regions."""
    place = run.model.slices[decomposition.group_of[factor]]
    chosen = [str(row["level"]) for row in levels[:MOST_LEVELS]]
    given = None if regions is None else given_regions(run, dataset, regions)
    results = []
    for number, level in enumerate(chosen):
        direction = decomposition.direction(factor, level)
        if given is not None:
            found = given
        else:
            found = strongest_regions(run, dataset, bins, latents[:, place] @ direction, top)
        codes = np.stack([region.codes for region in found])
        hypothetical = attribute(run.model, codes, direction, place, method=method, device=device)
        contributions = actual(hypothetical, codes)
        motif = aggregate_motif(contributions, codes)
        error = np.full(len(found), np.nan, np.float32)
        if method == "integrated-gradients":
            error = convergence_error(contributions, *scores_of(run.model, codes, direction, place))
        results.append(LevelResult(level, found, hypothetical, contributions, motif, error))
        if progress:
            progress("explaining levels", number + 1, len(chosen))
    return results


def strongest_regions(run: Run, dataset: Dataset, bins: Bins, score: Floats, top: int) -> list[Region]:
    """The bins where a level's score is largest, at least a window apart on one contig."""
    taken: list[Region] = []
    for index in np.argsort(-score, kind="stable"):
        contig, start = dataset.contigs[bins.contig[index]], int(bins.start[index])
        if all(r.contig != contig or abs(r.start - start) >= run.model.window for r in taken):
            taken.append(region_at(run, dataset, contig, start, float(score[index])))
        if len(taken) == top:
            break
    return taken


def given_regions(run: Run, dataset: Dataset, path: Path) -> list[Region]:
    """The windows around the middles of the intervals of a BED file."""
    intervals = read_intervals(path)
    if not len(intervals):
        raise ConfigError(f"{path}: holds no interval")
    found = []
    for contig, (starts, ends) in intervals.on(dataset.genome.lengths).items():
        for start, end in zip(starts, ends):
            found.append(region_at(run, dataset, contig, int(start + end) // 2 - BIN // 2, float("nan")))
    return found


def region_at(run: Run, dataset: Dataset, contig: str, start: int, score: float) -> Region:
    """The window around the bin that starts at `start`."""
    begin = start - run.model.left
    return Region(contig, start, score, dataset.genome.codes(contig, begin, begin + run.model.window))


# -- words -------------------------------------------------------------------------------------------------------------


def credit(row: Mapping[str, Any]) -> str:
    """A level's share of logit variance in words, or the joint one where it cannot be told from another's."""
    if row["cannot_be_told_from"]:
        return f"cannot be told apart from {row['cannot_be_told_from']}, jointly {row['joint_share']:.1%} of logit variance"
    return f"{row['share_of_variance']:.1%} of their logit variance"


def summary_sentences(result: Explanation) -> list[str]:
    """What the report says first."""
    share = np.mean([row[f"share_{result.factor}"] for row in result.tracks])
    rows = [
        f"The factor {result.factor} ({result.group}) carries {share:.1%} of the variance of a track's logit, on "
        f"average over {len(result.tracks)} tracks and {result.bins:,} {result.split} bins."
    ]
    motifs = {level.name: level.motif for level in result.shown}
    for row in result.levels[:MOST_LEVELS]:
        text = f"{row['level']}: {row['tracks']} tracks, {credit(row)}, G+C correlation {row['gc_correlation']:+.2f}"
        motif = motifs.get(str(row["level"]))
        if motif is not None:
            text += f", strongest sequence {motif.kmer} (in {motif.count} of {motif.total} stretches)"
        rows.append(text + (f". Beware: {row['confounded_with']}." if row["confounded_with"] else "."))
    return rows
