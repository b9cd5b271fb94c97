"""`mfd qc`: does each track's data agree with its metadata? Swapped, mislabelled and failed experiments, with evidence.

For every peak track the labels on held-out bins are compared with what a head predicts for the track's own row of the metadata
table, and for rows with another level of one factor. The head is fitted anew without the track (the tracks are held out in
folds), so a wrong row cannot have been learnt from the track itself. The other level is proposed and chosen on every second
stretch of the bins and measured on the stretches between. The gain in log-likelihood comes with its standard error over these
stretches, and p is of Student's t. A head that was fitted to other tracks is never exact, so a gain must also be a tenth of all
that the better level explains.

    qc/tracks.tsv     one row per track and factor: told level, the level that fits best, gain, its share, z, q, verdict
       failed.tsv     tracks that no row predicts
       summary.json
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import expit, log_expit
from scipy.stats import false_discovery_control
from scipy.stats import t as student

from mfd_cli.base.arrays import Bools, Doubles, Floats, Ints
from mfd_cli.base.errors import ConfigError, DatasetError, nearest
from mfd_cli.base.files import check_output, whole_folder, write_json
from mfd_cli.base.progress import Progress
from mfd_cli.base.stored_json import without_nan
from mfd_cli.core.metadata import LevelEncoder, level_cell
from mfd_cli.core.metrics import auroc_auprc
from mfd_cli.core.refit import RefittedHead, refit_head
from mfd_cli.core.stretches import STRETCH
from mfd_cli.dataset.bins import Bins
from mfd_cli.dataset.folder import Dataset
from mfd_cli.enrichment.models import Likelihood, newton
from mfd_cli.formats.tables import write_tsv
from mfd_cli.runs.at_work import bin_latents, check_same_tracks, labels_of
from mfd_cli.runs.draws import thinned_in_stretches
from mfd_cli.runs.folder import Run

MOST_BINS = 12_000
FOLDS = 5
STEPS = 600
"""In which a head is fitted: seconds, and enough for its predictions to settle."""
TURNS = 3
"""How often all is judged; from the second time on without the tracks that disagreed before, which would mislead the head."""
BLOCKS = 80
"""Stretches of bins: every second one chooses, and the others are the units of the standard error."""
FEWEST_IN_BLOCK = 5
"""Bins that a stretch has at least: a likelihood of fewer is one of chance."""
TRIED = 8
"""Levels whose likelihood is computed, of those that correlate best on the bins that choose."""
LEAST_SHARE = 0.1
"""Share of what the better level explains that must be its gain: less is within the error of a head fitted to other tracks."""
FEWEST_TRACKS = 3
"""Other tracks that a level needs: of fewer, a head does not know what the level means."""
FEWEST_POSITIVES = 10
RIDGE = 1e-3
"""Of a standardised score's slope, in log-likelihood: a thousandth of what one bin can tell."""
FAILED = 0.55
"""AUROC below which nothing of a track is predicted."""
AGREES, OTHER, ALONE, SILENT = (
    "agrees",
    "other level fits better",
    "too few other tracks of this level",
    "not predicted at all",
)
COLUMNS = (
    "track", "factor", "told", "best", "gain", "share", "z", "q", "auroc_told", "auroc_best", "swapped_with", "verdict",
)  # fmt: skip
"""Of tracks.tsv, which has them where no track is judged too."""
SHOWN = 20
"""Tracks that are named in the terminal."""
SECOND = "fits better too, but less than by another factor"


@dataclass(frozen=True)
class QcSummary:
    """Rows per track and factor, tracks that nothing predicts, and the averages."""

    folder: Path
    rows: Sequence[Mapping[str, Any]]
    failed: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]

    def lines(self) -> list[str]:
        """Return the result in words, the clearest disagreements first."""
        if self.summary["why_none"]:
            return [f"nothing is judged: {self.summary['why_none']}", f"wrote {self.folder}"]
        flagged = [row for row in self.rows if row["verdict"] == OTHER]
        clearest = sorted(flagged, key=lambda row: -row["z"])[:SHOWN]
        return [
            f"{self.summary['judged']:,} pairs of track and factor judged, {self.summary['alone']:,} not (fewer than "
            f"{FEWEST_TRACKS} other tracks have the level): {len(flagged)} disagree with their metadata; "
            f"{len(self.failed)} tracks are not predicted at all",
            *map(disagreement, clearest),
            f"wrote {self.folder}",
        ]


def disagreement(row: Mapping[str, Any]) -> str:
    """Return a sentence on a track whose data fit another level better."""
    swapped = f", swapped with {row['swapped_with']}" if row["swapped_with"] else ""
    return (
        f"  {row['track']}: {row['factor']} is told to be {row['told']}, its data fit {row['best']} better "
        f"(z {row['z']:.1f}, q {row['q']:.1g}{swapped})"
    )


def qc(
    run: Run,
    dataset: Dataset,
    output: Path,
    *,
    factors: Sequence[str] = (),
    fdr: float = 0.01,
    steps: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    force: bool = False,
    progress: Progress | None = None,
) -> QcSummary:
    """Judge every peak track's levels of some factors (default: all but numbers) and write the folder. `steps`
    (default STEPS) are those in which each head is fitted.

    ConfigError for a free head or an unknown factor, DatasetError where there are no bins to measure on.
    """
    check_output(output, force)
    check_same_tracks(run, dataset)
    chosen = factors_of(run, factors)
    trained = run.model.trained[: run.peak_tracks]
    rows, judged, bins, why = [], 0, 0, why_none(trained, chosen)
    if not why:
        fit, measure = thinned_in_stretches(dataset.split("train"), MOST_BINS, STRETCH), held_out_bins(dataset)
        x, z = (bin_latents(run, dataset, part, device, batch_size, progress) for part in (fit, measure))
        y, t = (labels_of(run, part).numpy() for part in (fit, measure))
        enough = np.flatnonzero(trained & ((t == 1).sum(0) >= FEWEST_POSITIVES))
        evidence = Evidence(run, chosen, x, y, z, t, np.random.default_rng(seed).permutation(enough))
        rows = judged_in_turns(evidence, steps or STEPS, seed, fdr, progress)
        judged, bins = len(enough), len(z)
        why = "" if rows else f"no training track has a peak in {FEWEST_POSITIVES} of the bins that it is judged by"
    failed = silent_tracks(rows)
    verdicts = Counter(row["verdict"] for row in rows)
    summary = {
        "tracks": judged,
        "judged": len(rows) - verdicts[ALONE],
        "alone": verdicts[ALONE],
        "flagged": verdicts[OTHER],
        "failed": len(failed),
        "fdr": fdr,
        "bins": bins,
        "factors": list(chosen),
        "why_none": why,
    }
    with whole_folder(output) as folder:
        write_tsv(folder / "tracks.tsv", [{k: v for k, v in row.items() if k != "p"} for row in rows], COLUMNS)
        write_tsv(folder / "failed.tsv", failed, ["track", "auroc"])
        write_json(folder / "summary.json", without_nan(summary))
    return QcSummary(output, rows, failed, summary)


@dataclass(frozen=True)
class Evidence:
    """What tracks are judged by: a head is fitted on training bins and compared with labels on others.

    `fit_latents` (bins, latent) and `fit_labels` (bins, peak tracks), 0/1 or NaN, are of training bins; `latents` and `labels`
    of bins that were not trained on. `order` are the indices of the tracks to judge, in the order in which folds take them.
    """

    run: Run
    factors: Sequence[str]
    fit_latents: Floats
    fit_labels: Floats
    latents: Floats
    labels: Floats
    order: Ints

    @property
    def metadata(self) -> list[dict[str, str]]:
        """The metadata rows of the peak tracks."""
        return [dict(track.metadata) for track in self.run.tracks[: self.run.peak_tracks]]


def judged_in_turns(
    evidence: Evidence, steps: int, seed: int, fdr: float, progress: Progress | None
) -> list[dict[str, Any]]:
    """Return one row per track and factor, after at most TURNS turns.

    A wrong row misleads the head by which other tracks are judged. So all is judged again without the tracks that disagreed,
    until the same ones disagree.
    """
    run, rows = evidence.run, list[dict[str, Any]]()
    suspects = np.zeros(run.peak_tracks, bool)
    for turn in range(TURNS):
        rows = judged_in_folds(evidence, suspects, steps, seed, turn, progress)
        settle(rows, fdr)
        wrong = {row["track"] for row in rows if row["verdict"] == OTHER}
        before, suspects = suspects, np.array([track.id in wrong for track in run.tracks[: run.peak_tracks]])
        if np.array_equal(before, suspects):
            break
    return rows


def judged_in_folds(
    evidence: Evidence, suspects: Bools, steps: int, seed: int, turn: int, progress: Progress | None
) -> list[dict[str, Any]]:
    """Return one row per track and factor; the head that judges a track was fitted without it and without `suspects`."""
    run, metadata, rows = evidence.run, evidence.metadata, list[dict[str, Any]]()
    for fold in range(FOLDS):
        held = evidence.order[fold::FOLDS]
        fitted = run.model.trained[: run.peak_tracks] & ~suspects
        fitted[held] = False
        if not len(held) or not fitted.any():
            continue
        head = refit_head(
            run.model, metadata, evidence.fit_latents, evidence.fit_labels, fitted, steps=steps, seed=seed + fold
        )
        for track in sorted(held.tolist()):
            rows += judge(evidence, head, metadata, fitted, track)
        if progress:
            progress("judging tracks", turn * FOLDS + fold + 1, TURNS * FOLDS)
    return rows


def silent_tracks(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the tracks that nothing predicts, each once, with the AUROC of their own row."""
    aurocs = {row["track"]: row["auroc_told"] for row in rows if row["verdict"] == SILENT}
    return [{"track": track, "auroc": auroc} for track, auroc in aurocs.items()]


def why_none(trained: Bools, factors: Sequence[str]) -> str:
    """Return why no track can be judged, in words; empty where some can. `trained` (peak tracks,)."""
    if not len(trained):
        return "there are signal tracks alone, and it is peaks that are judged"
    if not factors:
        return "the model has no factor with levels"
    if trained.sum() < 2:
        return "a track is judged by a head that is fitted to others, and there is one training track with peaks"
    return ""


def factors_of(run: Run, wanted: Sequence[str]) -> list[str]:
    """Return the factors to judge: those named, or all that have levels. ConfigError for a free head or another name."""
    if not run.model.has_parts:
        raise ConfigError("qc needs a model whose head knows the metadata", hint="train without --head free")
    known = [name for name, encoder in run.model.metadata.encoders.items() if isinstance(encoder, LevelEncoder)]
    for name in wanted:
        if name not in known:
            raise ConfigError(f"the model has no factor {name!r} with levels{nearest(name, known)}")
    return list(wanted) or known


def held_out_bins(dataset: Dataset) -> Bins:
    """Return the test bins, or validation ones where there are too few; DatasetError where both are."""
    for split in ("test", "validation"):
        bins = dataset.split(split)
        if len(bins) >= FEWEST_IN_BLOCK * BLOCKS:
            return thinned_in_stretches(bins, MOST_BINS, STRETCH)
    raise DatasetError(
        "has too few bins that were not trained on",
        path=dataset.path,
        hint="set split.test: more contigs, or a larger share",
    )


# -- one track ---------------------------------------------------------------------------------------------------------


def judge(
    evidence: Evidence, head: RefittedHead, metadata: Sequence[Mapping[str, str]], fitted: Bools, track: int
) -> list[dict[str, Any]]:
    """Return one row per factor: the level in the table against every other level that enough fitted tracks have.

    `metadata` are the rows of the peak tracks, `fitted` (peak tracks,) those that the head was fitted to, `track` the index of
    the one to judge.
    """
    run, labels = evidence.run, evidence.labels[:, track]
    known = ~np.isnan(labels)
    latents, y, own = evidence.latents[known], labels[known], metadata[track]
    own_logits = latents @ head.weights([own])[0]
    auroc = auroc_of(own_logits, y)
    rows = []
    for factor in evidence.factors:
        column, encoder = run.model.metadata.columns[factor], run.model.metadata.encoders[factor]
        tracks_with = Counter(level_cell(encoder, row[column]) for row, used in zip(metadata, fitted) if used)
        level = level_cell(encoder, own[column])
        row = undecided_row(run.tracks[track].id, factor, level, auroc)
        others = [name for name in sorted(tracks_with) if name != level and tracks_with[name] >= FEWEST_TRACKS]
        if tracks_with[level] < FEWEST_TRACKS:
            row["verdict"] = ALONE
        elif others:
            logits = latents @ head.weights([{**own, column: name} for name in others]).T
            row |= compare(own_logits, logits, others, y)
        rows.append(row)
    best = np.nanmax([auroc, *(row["auroc_best"] for row in rows)])  # NaN where no bin that measures has a peak
    for row in rows:
        row["verdict"] = SILENT if best < FAILED and row["verdict"] != ALONE else row["verdict"]
    return rows


def undecided_row(track: str, factor: str, level: str, auroc: float) -> dict[str, Any]:
    """Return the row of a track and factor before other levels are tried: its own level fits best, with this AUROC."""
    return {
        "track": track,
        "factor": factor,
        "told": level,
        "best": level,
        "gain": 0.0,
        "share": 0.0,
        "z": 0.0,
        "p": 1.0,
        "q": 1.0,
        "auroc_told": auroc,
        "auroc_best": auroc,
        "swapped_with": "",
        "verdict": AGREES,
    }


def auroc_of(logits: Floats, y: Floats) -> float:
    """Return the AUROC of logits (bins,) against 0/1 labels (bins,)."""
    return float(auroc_auprc(torch.from_numpy(logits[:, None].copy()), torch.from_numpy(y[:, None]))[0][0])


def compare(own: Floats, others: Floats, names: Sequence[str], y: Floats) -> dict[str, Any]:
    """Return the best other level and what it gains over the track's own, on bins that had no part in choosing it.

    `own` (bins,) and `others` (bins, levels) are logits, `names` the other levels, `y` (bins,) the labels, in the order of the
    genome. Every second stretch of the bins proposes levels, chooses among them and fits lines; the stretches between measure.
    The halves do not change places: whether both chose the same level says how large both gains are, so that the two
    gains depend on each other, and their sum is beyond chance too often.
    """
    stretch = np.arange(len(y)) * BLOCKS // len(y)
    choosing = stretch % 2 == 0
    level, line = best_level(others[choosing], y[choosing])
    measured, scores = y[~choosing], others[~choosing, level]
    there = log_likelihood(scores, measured, line)
    told = log_likelihood(own[~choosing], measured, fitted_line(own[choosing], y[choosing]))
    nothing = per_bin(np.full(len(measured), log_odds(y[choosing])), measured)
    gains = np.bincount(stretch[~choosing], there - told, BLOCKS)[1::2]
    gain, explained, error = float(gains.sum()), float((there - nothing).sum()), float(gains.std(ddof=1))
    z = gain / error / np.sqrt(len(gains)) if error > 0 else 0.0
    return {
        "best": names[level],
        "gain": gain,
        "z": float(z),
        "share": gain / explained if explained > 0 else 0.0,
        "p": float(student.sf(z, len(gains) - 1)),  # of a mean over so few stretches the error is not exactly known
        "auroc_best": auroc_of(scores, measured),
    }


def best_level(others: Floats, y: Floats) -> tuple[int, Line]:
    """Return the number of the level whose logits (bins, levels) explain the labels (bins,) best, and its fitted line."""
    spread = others.std(0) + 1e-9
    tried = np.argsort(-((y - y.mean()) @ others) / spread, kind="stable")[:TRIED].tolist()
    lines = {level: fitted_line(others[:, level], y) for level in tried}
    best = max(tried, key=lambda level: float(log_likelihood(others[:, level], y, lines[level]).sum()))
    return best, lines[best]


class Line(NamedTuple):
    """Offset and slope from a score to the logit of a peak."""

    offset: float
    slope: float


def log_odds(y: Floats) -> float:
    """Return the log-odds of the share of 1 among labels (bins,), finite where all are alike."""
    share = float(np.clip(y.mean(), 1e-6, 1 - 1e-6))
    return float(np.log(share / (1 - share)))


def fitted_line(scores: Floats, y: Floats) -> Line:
    """Return the line from a score (bins,) to the logit of 0/1 labels (bins,) of greatest likelihood, with no slope below 0.

    A track's own depth and threshold are no evidence for or against a level. A little ridge on the slope of the standardised
    score keeps it finite where the score separates the labels.
    """
    mean, spread = float(scores.mean(dtype=np.float64)), float(scores.std(dtype=np.float64)) + 1e-9
    x = (scores.astype(np.float64) - mean) / spread
    nothing = np.array([log_odds(y), 0.0])

    def likelihood(at: Doubles) -> Likelihood:
        """The penalised log-likelihood at (offset, slope)."""
        linear = at[1] * x + at[0]
        p = expit(linear)
        weight, residual = p * (1 - p), y - p
        log = float(per_bin(linear, y).sum()) - RIDGE * at[1] ** 2 / 2
        gradient = np.array([residual.sum(), residual @ x - RIDGE * at[1]])
        mixed = weight @ x
        return Likelihood(log, gradient, np.array([[weight.sum(), mixed], [mixed, weight @ x**2 + RIDGE]]))

    # Labels that are all alike have no line; a level whose prediction is upside down does not explain the track.
    (offset, slope), _, _ = newton(likelihood, nothing) if y.min() < y.max() else (nothing, None, None)
    if slope < 0:
        offset, slope = nothing
    return Line(float(offset - slope * mean / spread), float(slope / spread))


def log_likelihood(scores: Floats, y: Floats, line: Line) -> Doubles:
    """Return (bins,) log-likelihoods of 0/1 labels given scores (bins,) and the line from these to logits."""
    return per_bin(line.slope * scores.astype(np.float64) + line.offset, y)


def per_bin(logits: Doubles, y: Floats) -> Doubles:
    """Return (bins,) log-likelihoods of 0/1 labels given logits (bins,)."""
    return np.asarray(np.where(y == 1, log_expit(logits), log_expit(-logits)))


def disagrees(row: Mapping[str, Any], fdr: float) -> bool:
    """Return whether another level fits better, beyond chance and by more than heads differ."""
    return bool(row["q"] < fdr and row["gain"] > 0 and row["share"] >= LEAST_SHARE)


def settle(rows: list[dict[str, Any]], fdr: float) -> None:
    """Fill in q-values over all judged rows, verdicts, and pairs of tracks that name each other's level.

    Of a track's factors the one that gains most by another level is the one that disagrees: under a wrong target, say, other
    tissues may fit better too.
    """
    judged = [row for row in rows if row["verdict"] == AGREES]
    if judged:
        for row, q in zip(judged, false_discovery_control(np.array([row["p"] for row in judged]))):
            row["q"] = float(q)
    most: dict[str, dict[str, Any]] = {}
    for row in judged:
        if disagrees(row, fdr) and row["gain"] > most.get(row["track"], {"gain": 0.0})["gain"]:
            most[row["track"]] = row
    for row in judged:
        if disagrees(row, fdr):
            row["verdict"] = OTHER if most[row["track"]] is row else SECOND
    flagged = list(most.values())
    for row in flagged:
        partners = [
            other["track"]
            for other in flagged
            if other["factor"] == row["factor"] and other["told"] == row["best"] and other["best"] == row["told"]
        ]
        row["swapped_with"] = partners[0] if len(partners) == 1 else ""
