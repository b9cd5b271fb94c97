"""`mfd impute`: predictions for experiments that were held out or never done, with their support and, where there is
truth, their scores beside those of predictions made from other tracks.

    impute/experiments.tsv      one row per experiment: levels, support, what is most like it, how sure it is, scores
           baselines.tsv        the same scores of every baseline, and what each needs to be known (label_baselines.py)
           predictions.parquet  contig, start and one column per experiment (probability, or signal on the log scale)
           summary.json         means over experiments with truth
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from mfd_cli.base.errors import MetadataError
from mfd_cli.base.files import check_output, existing_parent, whole_folder, write_json
from mfd_cli.base.progress import Progress
from mfd_cli.base.stored_json import without_nan
from mfd_cli.core.metadata import Unseen
from mfd_cli.core.predictor import Predictor
from mfd_cli.core.unseen import head_of_rows
from mfd_cli.dataset.bins import Bins
from mfd_cli.dataset.folder import Dataset
from mfd_cli.evaluation.baselines import from_other_tracks, share_a_level
from mfd_cli.evaluation.evaluate import bins_to_measure
from mfd_cli.evaluation.experiment_errors import experiment_errors
from mfd_cli.evaluation.label_baselines import NEEDS, label_baselines
from mfd_cli.evaluation.linear import Prediction, Scores
from mfd_cli.evaluation.track_scores import rated, scores_of
from mfd_cli.experiments.sources import kind_of
from mfd_cli.experiments.track import Kind
from mfd_cli.formats.metadata_table import read_table
from mfd_cli.formats.tables import write_tsv
from mfd_cli.runs.at_work import check_same_tracks, kept_latents
from mfd_cli.runs.folder import Run
from mfd_cli.runs.new_experiment import experiment_kind
from mfd_cli.runs.support import Backing

Row = Mapping[str, str]


@dataclass(frozen=True)
class Experiment:
    """One that is wanted. `track` is its place among the model's outputs where the dataset has data of it, else None."""

    id: str
    kind: str
    row: Row
    track: int | None = None

    def has_data_in(self, run: Run) -> bool:
        """Return whether it is a track of the run, of its kind, so that the prediction can be compared with data."""
        return self.track is not None and run.tracks[self.track].kind == self.kind


@dataclass(frozen=True)
class Imputation:
    """Rows per experiment and per experiment and baseline, and the averages over those with truth."""

    experiments: Sequence[Mapping[str, Any]]
    baselines: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]

    def lines(self) -> list[str]:
        """Return what is said at the end: each baseline beside the model, and which labels of others beat the model."""
        found = self.summary.get("baselines", {})
        lines = [
            f"{name}: AUROC {row['auroc']:.3f}, model {row['model_auroc']:.3f}; AUPRC {row['auprc']:.3f}, "
            f"model {row['model_auprc']:.3f} ({row['experiments']} experiments)"
            + (f"; needs {row['needs']}" if row["needs"] == NEEDS else "")
            for name, row in found.items()
        ]
        for key, title in (("auroc", "AUROC"), ("auprc", "AUPRC")):
            ahead = {
                name: row[key]
                for name, row in found.items()
                if row["needs"] == NEEDS and row[key] > row[f"model_{key}"]
            }
            if ahead:
                best = max(ahead, key=lambda name: ahead[name])
                lines.append(
                    f"the model is beaten in {title} by {NEEDS}: {ahead[best]:.3f} ({best}) against "
                    f"{found[best][f'model_{key}']:.3f}; where such labels exist, use them"
                )
        return lines


def impute(
    run: Run,
    dataset: Dataset,
    *,
    metadata: Path | None = None,
    kind: Kind | None = None,
    unseen: Unseen = "error",
    split: str = "test",
    output: Path | None = None,
    force: bool = False,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Imputation:
    """Predict experiments on the bins of one split, both strands averaged.

    `metadata` is a table with the columns of the model's factors, one row per experiment; a row whose id is a track of the
    dataset is scored against it, and a row that says nothing of its kind is of `kind` (see `experiment_kind`). Without a
    table, all held-out tracks. Raises MetadataError where a column is absent, a
    level is unknown (with `unseen` "mean" it counts as the average level) or the combination is impossible.
    """
    if output is not None:
        check_output(output, force)
    bins = bins_to_measure(dataset, split)
    check_same_tracks(run, dataset)
    wanted = held_out(run) if metadata is None else read_experiments(run, metadata, unseen, kind)
    rows, kinds = [item.row for item in wanted], [item.kind for item in wanted]
    known = Backing(run.model.metadata, run.model.rows, run.model.trained)
    backing = [known.of(row) for row in rows]
    for item, (backed, reason) in zip(wanted, backing):
        if backed == "impossible" and item.track is None:  # what was measured is possible
            raise MetadataError(f"experiment {item.id!r} is impossible: {reason}", path=metadata)
    head = head_of_rows(run.model, rows, [track.kind for track in run.tracks], kinds)
    folder = Path(tempfile.gettempdir()) if output is None else existing_parent(output)
    with kept_latents(run, dataset, bins, folder, device, batch_size, progress) as latents:
        prediction = Prediction(latents, head.matrix(), head.bias)
        own = Predictor(run.model, device).head
        experiments = [
            {
                "experiment": item.id,
                "kind": item.kind,
                "support": backed,
                "why": reason,
                **run.model.metadata.level_cells(row),
                "most_like": ", ".join(most_like(run, row)),
                **sure,
                **scores,
            }
            for item, row, (backed, reason), sure, scores in zip(
                wanted,
                rows,
                backing,
                experiment_errors(run, rows, head, latents),
                score(run, bins, wanted, prediction),
            )
        ]
        baselines = baseline_scores(run, bins, wanted, Prediction(latents, own.matrix(), own.bias), prediction)
        result = Imputation(experiments, baselines, without_nan(summarise(experiments, baselines)))
        if output is not None:
            with whole_folder(output) as built:
                write_tsv(built / "experiments.tsv", experiments)
                if baselines:
                    write_tsv(built / "baselines.tsv", baselines)
                write_predictions(built / "predictions.parquet", dataset, bins, wanted, prediction)
                write_json(built / "summary.json", result.summary)
    return result


# -- which experiments -------------------------------------------------------------------------------------------------


def held_out(run: Run) -> list[Experiment]:
    """Return the tracks that were kept out of training; MetadataError where there is none."""
    chosen = np.flatnonzero(~run.model.trained).tolist()
    if not chosen:
        raise MetadataError(
            "no track was held out of training", hint="--metadata FILE names experiments; or set train.held_out"
        )
    return [Experiment(run.tracks[i].id, run.tracks[i].kind, run.tracks[i].metadata, i) for i in chosen]


def read_experiments(run: Run, path: Path, unseen: Unseen = "error", kind: Kind | None = None) -> list[Experiment]:
    """Return the rows of a metadata table. The id column may be absent: then they are called row 1, row 2 ...

    A row's kind is what the column of kinds or the name of its file says, else that of the model's track of this name, else
    `kind`.
    """
    table, columns = read_table(path), run.config.tracks
    for factor, column in run.model.metadata.columns.items():
        if column not in table.columns:
            raise MetadataError(f"has no column {column!r}, which the factor {factor} needs", path=path, line=1)
    place = {track.id: i for i, track in enumerate(run.tracks)}
    experiments = []
    for number, (row, line) in enumerate(zip(table.rows, table.lines), start=1):
        try:
            run.model.metadata.encode([row], unseen=unseen)
        except MetadataError as error:
            raise MetadataError(error.message, path=path, line=line, hint=error.hint) from error
        name = row.get(columns.id, "") or f"row {number}"
        file = row.get(columns.path, "")
        cell = row.get(columns.kind, "") if columns.kind else ""
        if cell or file:
            own = kind_of(cell, file, path, line)
        else:
            own = run.tracks[place[name]].kind if name in place else experiment_kind(run, kind)
        experiments.append(Experiment(name, own, row, place.get(name)))
    names = [item.id for item in experiments]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise MetadataError(f"names the experiment {twice!r} twice", path=path)
    if not experiments:
        raise MetadataError("has no rows", path=path)
    return experiments


def most_like(run: Run, row: Row, most: int = 3) -> list[str]:
    """Return the ids of the training tracks that share the most factors with a row, at most `most`."""
    metadata, rows = run.model.metadata, [*run.model.rows, row]
    shared = sum(share_a_level(metadata.membership(name, rows))[-1, :-1].astype(int) for name in metadata.encoders)
    count = np.where(run.model.trained, shared, -1)
    return [run.tracks[i].id for i in np.argsort(-count, kind="stable")[:most]]


# -- how well ----------------------------------------------------------------------------------------------------------

SEQUENCE = "sequence and a trained model"
"""What baselines made of the model's own predictions need."""
SCORES = ("positives", "prevalence", "auroc", "auroc_occupied", "auprc", "pearson", "spearman", "deviance_explained")


def score(run: Run, bins: Bins, wanted: Sequence[Experiment], prediction: Scores) -> list[dict[str, Any]]:
    """Return the metrics of a prediction, one column per experiment; NaN where there are no data to compare it with."""
    result = [{**dict.fromkeys(SCORES, np.nan), "bins": len(bins)} for _ in wanted]
    chosen = [place for place, item in enumerate(wanted) if item.has_data_in(run)]
    tracks = np.array([wanted[place].track for place in chosen], np.int64)
    for column, row in scores_of(run, bins, prediction.of(np.array(chosen, np.int64)), tracks):
        result[chosen[column]] |= {name: row[name] for name in SCORES}
    return result


def baseline_scores(
    run: Run, bins: Bins, wanted: Sequence[Experiment], own: Prediction, prediction: Prediction
) -> list[dict[str, Any]]:
    """Return one row per experiment with data and baseline: means of the model's predictions for other tracks, and labels.

    `own` has a column per track of the run, `prediction` one per experiment.
    """
    chosen = [i for i, item in enumerate(wanted) if item.has_data_in(run)]
    if not chosen:
        return []
    result = []

    def add(name: str, needs: str, items: Sequence[Experiment], theirs: Scores) -> None:
        """Add the rows of one baseline, which has a column for each of these experiments."""
        scored = score(run, bins, items, theirs)
        for place in np.flatnonzero(~np.isnan(theirs.bias)).tolist():
            kept = {key: scored[place][key] for key in ("auroc", "auroc_occupied", "auprc", "pearson")}
            result.append({"experiment": items[place].id, "baseline": name, "needs": needs, **kept})

    items = [wanted[i] for i in chosen]
    kinds = [track.kind for track in run.tracks] + [item.kind for item in items]
    rows = [*run.model.rows, *(item.row for item in items)]
    known = np.concatenate([run.model.trained, np.zeros(len(items), bool)])
    # A track that took part in training must not stand in its own baseline, though it is scored as if it had not.
    same = {item.track: len(run.tracks) + place for place, item in enumerate(items) if item.track is not None}
    added = prediction.of(np.array(chosen))
    both = Prediction(own.inputs, np.concatenate([own.weights, added.weights]), np.concatenate([own.bias, added.bias]))
    columns = len(run.tracks) + np.arange(len(items))
    for name, mean in from_other_tracks(both, run.model.metadata, rows, known, kinds, same):
        add(name, SEQUENCE, items, mean.of(columns))
    peaks = [item for item in items if item.kind == "peaks"]
    if peaks:
        for name, labels in label_baselines(run, bins, [item.row for item in peaks], [item.track for item in peaks]):
            add(name, NEEDS, peaks, labels)
    return result


def summarise(experiments: Sequence[Mapping[str, Any]], baselines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return means over the peak experiments with enough positives, of the model and of each baseline (where there is one)."""
    own = {row["experiment"]: row for row in experiments if rated(row)}
    result: dict[str, Any] = {"experiments": len(experiments), "scored": len(own)}
    if own:
        result["model"] = {key: float(np.mean([row[key] for row in own.values()])) for key in ("auroc", "auprc")}
    for name in dict.fromkeys(row["baseline"] for row in baselines):
        rows = [row for row in baselines if row["baseline"] == name and row["experiment"] in own]
        if rows:
            models = [own[row["experiment"]] for row in rows]
            result.setdefault("baselines", {})[name] = {
                "experiments": len(rows),
                "needs": rows[0]["needs"],
                **{key: float(np.mean([row[key] for row in rows])) for key in ("auroc", "auprc")},
                **{f"model_{key}": float(np.mean([row[key] for row in models])) for key in ("auroc", "auprc")},
            }
    return result


def write_predictions(
    path: Path, dataset: Dataset, bins: Bins, wanted: Sequence[Experiment], prediction: Prediction
) -> None:
    """Write one row per bin: contig, start, and a column per experiment: a probability, or a signal on the model's scale."""
    columns = [("contig", pa.string()), ("start", pa.int64()), *((item.id, pa.float32()) for item in wanted)]
    names = pa.array(dataset.contigs)
    with pq.ParquetWriter(path, pa.schema(columns)) as writer:
        for part, block in prediction.inputs.blocks():
            logits = torch.from_numpy(block @ prediction.weights.T + prediction.bias)
            cells = [
                (torch.sigmoid(logits[:, i]) if item.kind == "peaks" else logits[:, i]).numpy()
                for i, item in enumerate(wanted)
            ]
            places = [names.take(pa.array(bins.contig[part])), bins.start[part]]
            writer.write_table(pa.table([*places, *cells], schema=writer.schema))
