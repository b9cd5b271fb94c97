"""The folder that `mfd evaluate` wrote, read again: its summary, and its tables as rows with numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mfd_cli.base.errors import InputError, RunError
from mfd_cli.evaluation.comparison import COMPARED, baseline_means
from mfd_cli.evaluation.track_scores import FIT, RANKING
from mfd_cli.formats.tables import read_tsv
from mfd_cli.runs.folder import Run

AGAIN = "mfd evaluate writes it again"
LEVEL_SCORES = ("auroc", "auprc", "prevalence", "pearson")
"""What is shown of a level."""
PART_NUMBERS = ("reliability", "error", "deviation")
PNG = b"\x89PNG\r\n\x1a\n"
"""How every PNG file begins."""


@dataclass(frozen=True)
class EvaluationFolder:
    """An evaluation of a run: `tracks` in the order of the model's outputs, `levels` factor by factor, `baselines` by baseline
    and track, `parts` by part and track. A list is empty where the evaluation had nothing to say."""

    path: Path
    summary: Mapping[str, Any]
    tracks: Sequence[Mapping[str, Any]]
    levels: Sequence[Mapping[str, Any]]
    baselines: Sequence[Mapping[str, Any]]
    parts: Sequence[Mapping[str, Any]]

    def track_rows(self, run: Run) -> list[dict[str, Any]]:
        """Return a row per track: its levels and scores, without the shares of its logit and what repeats other columns."""
        left_out = ("bins", "auprc_over_prevalence", "spearman")
        names = ("track", "kind", "trained", *run.model.metadata.encoders, "positives", *RANKING, *FIT)
        rows = [{name: row[name] for name in names if name not in left_out} for row in self.tracks]
        return without_empty([{**row, "trained": "yes" if row["trained"] else "no"} for row in rows])

    def part_rows(self, run: Run) -> list[dict[str, Any]]:
        """Return a row per part and track, the least reliable first: how far to trust it, and the track's levels."""
        names = [name for name in run.model.metadata.encoders if name not in PART_NUMBERS]
        levels = {row["track"]: {name: row[name] for name in names} for row in self.tracks}
        own = ("track", "part", *PART_NUMBERS)
        rows = [{**{name: row[name] for name in own}, **levels[row["track"]]} for row in self.parts]
        return sorted(rows, key=lambda row: (np.isnan(row["reliability"]), row["reliability"]))

    def level_rows(self, run: Run) -> dict[str, list[dict[str, Any]]]:
        """Return factor -> a row per level that has tracks: its scores, and the strongest baseline beside the model.

        The strongest baseline of a level is that with the highest mean over the level's training tracks, of AUROC, or of
        Pearson's correlation where no peak track of the level is rated; the model's mean is over the same tracks.
        """
        metadata, result = run.model.metadata, dict[str, list[dict[str, Any]]]()
        for factor in metadata.encoders:
            own = [row for row in self.levels if row["factor"] == factor]
            member = metadata.membership(factor, run.model.rows)
            if len(own) != member.shape[1]:
                raise RunError(f"has not the levels of {factor}", path=self.path / "levels.tsv", hint=AGAIN)
            rows = [self._level_row(row, member[:, index]) for index, row in enumerate(own) if row["tracks"]]
            result[factor] = without_empty(rows)
        return result

    def _level_row(self, level: Mapping[str, Any], member: Collection[bool]) -> dict[str, Any]:
        """The row of a level that has some tracks (tracks,)."""
        tracks = [row for row, inside in zip(self.tracks, member) if inside]
        names = {row["track"] for row in tracks}
        baselines = [row for row in self.baselines if row["track"] in names]
        means = baseline_means(tracks, baselines).get("training_tracks", {})
        scores = {name: level[name] for name in LEVEL_SCORES}
        return {"level": level["level"], "tracks": int(level["tracks"]), **scores, **strongest(means)}


def strongest(means: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Return the name of the strongest baseline, its mean score, and the model's on the same tracks.

    `means` are those of `baseline_means` for one set of tracks. The score is AUROC, or Pearson's correlation where no baseline
    has an AUROC; None and NaN where there is no baseline.
    """
    for score in ("auroc", "pearson"):
        known = {name: row for name, row in means.items() if not np.isnan(row.get(score, np.nan))}
        if known:
            name = max(known, key=lambda each: known[each][score])
            return {"strongest": name, "its_score": known[name][score], "model_score": known[name][f"model_{score}"]}
    return {"strongest": None, "its_score": np.nan, "model_score": np.nan}


def without_empty(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows without the columns in which none of them has a value; NaN and None are none."""
    kept = [name for name in (rows[0] if rows else ()) if any(_is_there(row[name]) for row in rows)]
    return [{name: row[name] for name in kept} for row in rows]


def _is_there(value: Any) -> bool:
    return value is not None and value == value  # NaN is not itself


def read_evaluation(path: Path, summary: Mapping[str, Any], run: Run) -> EvaluationFolder:
    """Read the tables of an evaluation of a run; `summary` is its summary.json, which says what must be there.

    Raises RunError where a table is missing, damaged, or of other tracks than the run has.
    """
    counts, numbers = ("bins", "positives"), (*RANKING, *FIT)
    columns = ("track", "kind", "trained", *run.model.metadata.encoders, *counts, *numbers)
    tracks = _rows(path / "tracks.tsv", columns, (*counts, *numbers))
    if [row["track"] for row in tracks] != [track.id for track in run.tracks]:
        raise RunError("has other tracks than the run", path=path / "tracks.tsv", hint=AGAIN)
    for row in tracks:
        row["trained"] = row["trained"] == "True"
        row |= {name: int(row[name]) for name in counts if row[name].is_integer()}  # a signal has no positives
    counted = ("tracks", *LEVEL_SCORES)
    levels = _rows(path / "levels.tsv", ("factor", "level", *counted), counted) if run.model.metadata.encoders else []
    compared = (*COMPARED, "pearson")
    columns = ("track", "kind", "baseline", *compared)
    baselines = _rows(path / "baselines.tsv", columns, compared) if summary.get("baselines") else []
    parts = _rows(path / "parts.tsv", ("track", "part", *PART_NUMBERS), PART_NUMBERS) if summary.get("parts") else []
    known = {track.id for track in run.tracks}
    for name, rows in (("baselines.tsv", baselines), ("parts.tsv", parts)):
        if strange := [row["track"] for row in rows if row["track"] not in known]:
            raise RunError(f"names {strange[0][:60]!r}, no track of the run", path=path / name, hint=AGAIN)
    return EvaluationFolder(path, summary, tracks, levels, baselines, parts)


def _rows(path: Path, columns: Sequence[str], numbers: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a table; RunError, which says how to make it again, where it is not as it was written."""
    try:
        return read_tsv(path, columns, numbers)
    except InputError as error:
        raise RunError(error.message, path=error.path, line=error.line, hint=AGAIN) from error


def check_picture(path: Path) -> None:
    """Raise RunError where a picture of an evaluation is missing or no PNG."""
    if not path.is_file() or path.read_bytes()[: len(PNG)] != PNG:
        raise RunError("is missing, or is no PNG picture", path=path, hint=AGAIN)
