"""What is known beforehand about the yeast tracks, and whether the model finds it. Run bench_yeast.py into FOLDER first.

    python examples/yeast_truths.py FOLDER zero-shot     one assay of half of the targets measured by two is held out
    python examples/yeast_truths.py FOLDER forkhead      Fkh1/Fkh2: antibody on deletions, tagged strains, two callers
    python examples/yeast_truths.py FOLDER spike         a G+C bias is added to half of the tracks; is it found and undone?
    python examples/yeast_truths.py FOLDER motifs --motif-file JASPAR    does a factor's own motif move its own tracks?

Each prints what it measured and writes FOLDER/NAME.json. What is trained already is not trained again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor

from mfd_cli.core.decompose import decompose
from mfd_cli.core.metrics import auroc_auprc
from mfd_cli.core.onehot import one_hot
from mfd_cli.core.predictor import Predictor
from mfd_cli.dataset.bins import Bins, unpack_bits
from mfd_cli.dataset.folder import Dataset, open_dataset
from mfd_cli.experiments.track import Track
from mfd_cli.formats.motif_files import read_motifs
from mfd_cli.genome.motifs import Motif
from mfd_cli.runs.at_work import bin_latents
from mfd_cli.runs.folder import Run, load_run
from truth import regressed

FEWEST_INTERVALS, FEWEST_PEAKS = 50, 5
"""Of a track, for the zero-shot; and on the test contig, for the motifs."""
MATCHING = 0.01
"""Share of bins where a motif matches best that count as having it."""
LEAST_BITS = 9
FORKHEAD = re.compile("[AG]TAAA[CT]A|T[AG]TTTA[CT]")
"""The core of the forkhead motif, on either strand."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", choices=["zero-shot", "forkhead", "spike", "motifs"])
    parser.add_argument("--windows", type=int, default=256_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dose", type=float, default=0.5, help="added peaks per peak of a spiked track")
    parser.add_argument("--motif-file", type=Path, help="JASPAR or MEME file, for motifs")
    parser.add_argument("--run", default="run", help="run folder, for motifs")
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    found = {"zero-shot": zero_shot, "forkhead": forkhead, "spike": spike, "motifs": motifs}[options.what](
        folder, options
    )
    (folder / f"{options.what}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def train(folder: Path, run: str, options: argparse.Namespace, *settings: str) -> Run:
    """A run of the project in `folder`; one that was interrupted goes on, one that is finished stays as it is."""
    words = [
        "mfd",
        "train",
        "-q",
        "--gpus",
        "0",
        "--threads",
        str(options.threads),
        "--run",
        run,
        "--resume",
        "--force",
    ]
    sets = [word for setting in (f"train.max_windows={options.windows}", *settings) for word in ("--set", setting)]
    subprocess.run([*words, *sets], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return load_run(folder / run)


def aurocs(scores: NDArray[np.float32], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Per column; NaN where it is undefined."""
    return auroc_auprc(torch.from_numpy(np.ascontiguousarray(scores)), torch.from_numpy(labels))[0].numpy()


# -- motifs put in -----------------------------------------------------------------------------------------------------


def motifs(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Whether a target's own motif moves its own tracks more than the others: in the labels, and in the model.

    In test bins alone. `data`: the log odds of a peak in the 1 % of bins where the motif matches best, own tracks less others.
    `seen`: the same of the logits, their mean there less that in the other bins. `put_in`: the change of the logits where an
    instance of the motif is put into the middle of 300 bins. Ranks are the share of other tracks that are below the own ones.
    """
    dataset, run = open_dataset(folder / "dataset", verify=False), load_run(folder / options.run)
    predictor, decomposition, rng = Predictor(run.model), decompose(run.model), np.random.default_rng(0)
    bins = dataset.split("test")
    truth = unpack_bits(bins.peaks, run.peak_tracks)
    logits = predictor.head.logits(bin_latents(run, dataset, bins))[:, : run.peak_tracks]
    texts = one_hot(torch.from_numpy(np.stack([codes_of(dataset, bins, i, 0, 128) for i in range(len(bins))])))
    chosen = rng.choice(len(bins), min(300, len(bins)), replace=False)
    windows = np.stack([codes_of(dataset, bins, i, -predictor.left, predictor.window) for i in chosen])
    before, rows = predictor.latents(windows), []
    rated = truth.sum(0) >= FEWEST_PEAKS
    known = {name.upper(): motif for name, motif in read_motifs(options.motif_file).items()}
    for level in decomposition.levels["target"]:
        motif, own = known.get(level.upper()), decomposition.tracks_of("target", level)[: run.peak_tracks] & rated
        if motif is None or motif.information < LEAST_BITS or not own.any():
            continue
        match = best_match(texts, motif)
        best = match >= np.quantile(match, 1 - MATCHING)
        put_in = predictor.latents(with_motif(windows, motif, predictor.left, rng)) - before
        changes = {
            "data": log_odds(truth, best),
            "seen": logits[best].mean(0) - logits[~best].mean(0),
            "put_in": (predictor.head.matrix() @ put_in.mean(0))[: run.peak_tracks],
        }
        row: dict[str, Any] = {"target": level, "tracks": int(own.sum())}
        for name, change in changes.items():
            others = change[rated & ~own]
            row |= {name: float(change[own].mean() - others.mean()), f"{name}_own": float(change[own].mean())}
            row[f"{name}_rank"] = float((others < change[own].mean()).mean())
        rows.append(row)
    rows.sort(key=lambda row: -float(row["put_in_rank"]))
    table = {name: np.array([row[name] for row in rows]) for name in rows[0] if name != "target"}
    result: dict[str, Any] = {"targets": rows, "rated_tracks": int(rated.sum())}
    for name in ("data", "seen", "put_in"):
        result[name] = {
            "median_of_own": float(np.median(table[f"{name}_own"])),
            "median_of_own_less_others": float(np.median(table[name])),
            "mean_rank": float(table[f"{name}_rank"].mean()),
            "rank_above_0.9": float((table[f"{name}_rank"] > 0.9).mean()),
        }
        if name != "data":
            slope = float(np.polyfit(table["data"], table[name], 1)[0])
            result[name] |= {
                "slope_on_data": slope,
                "r_with_data": float(np.corrcoef(table["data"], table[name])[0, 1]),
            }
    return result


def codes_of(dataset: Dataset, bins: Bins, i: int, offset: int, length: int) -> NDArray[np.uint8]:
    """The base codes of `length` bp that begin `offset` bp from where bin `i` does."""
    start = int(bins.start[i]) + offset
    return dataset.genome.codes(dataset.contigs[bins.contig[i]], start, start + length)


def best_match(bases: Tensor, motif: Motif) -> NDArray[np.float32]:
    """The log odds, in bits, of a motif's best place in each sequence (sequences, 4, length), on either strand."""
    forward = torch.from_numpy(motif.log_odds.T.copy()).float()
    scores = torch.nn.functional.conv1d(bases, torch.stack([forward, forward.flip(0, 1)]))
    return scores.amax((1, 2)).numpy()


def log_odds(labels: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The log odds ratio of a peak in the chosen bins against the others, per track, with half a bin added to each cell."""
    inside, outside = labels[chosen], labels[~chosen]
    odds = [(part.sum(0) + 0.5) / ((~part).sum(0) + 0.5) for part in (inside, outside)]
    return np.log(odds[0] / odds[1])


def with_motif(windows: NDArray[np.uint8], motif: Motif, left: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The windows with a clear instance of a motif in the middle of the bin, on a random strand."""
    sharp = motif.probabilities**2
    sharp /= sharp.sum(1, keepdims=True)
    changed, begin = windows.copy(), left + 64 - len(sharp) // 2
    for row in changed:
        instance = np.array([rng.choice(4, p=column) for column in sharp], np.uint8)
        row[begin : begin + len(sharp)] = instance if rng.random() < 0.5 else 3 - instance[::-1]
    return changed


# -- one assay held out ------------------------------------------------------------------------------------------------


def zero_shot(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train without one assay of every second target that ChIP-exo and ChIP-chip both measured; predict it."""
    tracks = open_dataset(folder / "dataset", verify=False).peak_tracks
    by_target: dict[str, set[str]] = {}
    for track in tracks:
        if int(track.metadata["n_intervals"]) >= FEWEST_INTERVALS and track.metadata["Experiment target"]:
            by_target.setdefault(track.metadata["Experiment target"], set()).add(track.metadata["Assay"])
    both = sorted(target for target, assays in by_target.items() if {"ChIP-exo", "ChIP-chip"} <= assays)
    held = [(target, ("ChIP-exo", "ChIP-chip")[i % 2]) for i, target in enumerate(both[::2])]
    items = ", ".join(f'{{target = "{target}", assay = "{assay}"}}' for target, assay in held)
    train(folder, "zero-shot", options, f"train.held_out=[{items}]")
    words = ["mfd", "impute", "-q", "--run", "zero-shot", "-o", "zero-shot/impute", "--force", "--json"]
    told = subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout
    return {"targets_with_both": len(both), "held_out": held, **json.loads(told)}


# -- forkhead ----------------------------------------------------------------------------------------------------------


def forkhead(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Whether the forkhead motif is in the biological part of the Fkh tracks, and gone in the double deletion; and
    whether the difference of two callers on one library is predicted, and by which part."""
    dataset, run = open_dataset(folder / "dataset", verify=False), load_run(folder / "run")
    bins = dataset.split("test")
    predictor, latents = Predictor(run.model), bin_latents(run, dataset, bins)
    labels = unpack_bits(bins.peaks, run.peak_tracks)
    motif = np.array([FORKHEAD.search(text) is not None for text in sequences(dataset, bins)])[:, None]
    parts = {"total": predictor.head.logits(latents)}
    parts |= {group: predictor.head.group_part(group, latents) for group in run.model.groups}
    rows = []
    for i, track in enumerate(run.tracks[: run.peak_tracks]):
        if "Fkh" in track.metadata["Experiment target"]:
            names = ("Experiment target", "Assay", "Antibody", "Biosample genetic modifications", "Peak caller")
            rows.append(
                {
                    "track": track.id,
                    **{name: track.metadata[name] for name in names},
                    "motif_in_peaks": float(motif[labels[:, i], 0].mean()) if labels[:, i].any() else None,
                    **{f"contrast_{name}": contrast(values[:, i], motif[:, 0]) for name, values in parts.items()},
                }
            )
    pairs = [("BAR_Fkh1_GEM", "BAR_Fkh1_log_MACE"), ("BAR_Fkh2_GEM", "BAR_Fkh2_log_MACE")]
    return {
        "bins": len(bins),
        "bins_with_motif": int(motif.sum()),
        "motif_in_all_bins": float(motif.mean()),
        "tracks": rows,
        "callers": [callers(run, labels, parts, *pair) for pair in pairs],
    }


def contrast(values: NDArray[np.float32], motif: NDArray[np.bool_]) -> float:
    """Mean over bins with the motif less the mean over the others, on the logit scale."""
    return float(values[motif].mean() - values[~motif].mean())


def callers(
    run: Run, labels: NDArray[np.bool_], parts: Mapping[str, NDArray[np.float32]], one: str, other: str
) -> dict[str, Any]:
    """AUROC at telling bins that only one caller reports from those that only the other does, by each part's difference."""
    place = {track.id: i for i, track in enumerate(run.tracks)}
    a, b = place[one], place[other]
    differ = labels[:, a] != labels[:, b]
    result: dict[str, Any] = {
        "one": one,
        "other": other,
        "both": int((labels[:, a] & labels[:, b]).sum()),
        "only_one": int((labels[:, a] & ~labels[:, b]).sum()),
        "only_other": int((~labels[:, a] & labels[:, b]).sum()),
    }
    for name, values in parts.items():
        change = (values[:, a] - values[:, b])[differ]
        told = aurocs(change[:, None], labels[differ, a][:, None])[0]
        result[name] = {"auroc": None if np.isnan(told) else float(told), "sd_of_difference": float(change.std())}
    return result


def sequences(dataset: Dataset, bins: Bins) -> list[str]:
    """The bases of every bin."""
    return [
        dataset.genome.bases(dataset.contigs[contig], int(start), int(start) + 128)
        for contig, start in zip(bins.contig, bins.start)
    ]


# -- spike-in ----------------------------------------------------------------------------------------------------------


HEADS = {
    "conditioned": ["model.head=conditioned"],
    "mixed, joint": ["model.head=mixed", "model.subspaces=joint"],
    "free head": ["model.head=free"],
}
"""Settings of the heads that are told of the spiked half; the free head by a regression of its weights."""


def spike(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Add peaks at G+C-rich bins to a random half of the tracks, name the half in a column, train on that, and compare.

    On the test contig, for the spiked tracks and their original labels: AUROC and AUPRC of the biased prediction, of the one
    with the technical part set aside, and of the model that was trained on the originals; for each head. And the slope on G+C
    (logits per standard deviation) by which spiked tracks differ from others, through each part.
    """
    original = open_dataset(folder / "dataset", verify=False)
    base = folder / f"spike-{options.dose:g}"
    if not (base / "dataset").exists():
        make_spiked(folder, base, original, options.dose)
    dataset = open_dataset(base / "dataset", verify=False)
    bins = dataset.split("test")
    assert np.array_equal(bins.start, original.split("test").start)
    truth = unpack_bits(original.split("test").peaks, len(original.peak_tracks))
    gc = np.array([(text.count("G") + text.count("C")) / 128 for text in sequences(dataset, bins)])
    gc = (gc - gc.mean()) / gc.std()
    result: dict[str, Any] = {"dose": options.dose}
    for name, settings in HEADS.items():
        stem = name.replace(", ", "-").replace(" ", "-")
        run, plain = train(base, f"run-{stem}", options, *settings), train(folder, f"plain-{stem}", options, *settings)
        with_parts = {name: run}
        if not run.model.has_parts:
            with_parts = {
                f"twin + regression{words}": regressed(run, dataset, bool(words)) for words in ("", " along axes")
            }
        own = Predictor(plain.model).head.logits(bin_latents(plain, original, bins))
        for what, told in with_parts.items():
            result[what] = spike_undone(told, dataset, truth, gc, own)
    return result


def spike_undone(
    run: Run, dataset: Dataset, truth: NDArray[np.bool_], gc: NDArray[Any], own: NDArray[np.float32]
) -> dict[str, Any]:
    """What `spike` says of one run: its spiked tracks beside their original labels `truth` (bins, peak tracks), with the logits
    `own` (bins, tracks) of a run that was trained on those, and how its parts rise with the bins' G+C, `gc` (bins,)."""
    peaks, bins = run.peak_tracks, dataset.split("test")
    spiked = np.array([track.metadata["Batch"] == "spiked" for track in run.tracks[:peaks]])
    rated = spiked & (truth.sum(0) >= 5)
    latents, head = bin_latents(run, dataset, bins), Predictor(run.model).head
    logits = head.logits(latents)[:, :peaks]
    parts = {group: head.group_part(group, latents)[:, :peaks] for group in head.groups}
    scores = {
        "biased": logits,
        "technical set aside": logits - parts["technical"],
        "trained on the originals": own[:, :peaks],
    }
    return {
        "tracks": int(rated.sum()),
        "slope": {
            group: float(gc @ (part[:, spiked].mean(1) - part[:, ~spiked].mean(1)) / len(gc))
            for group, part in parts.items()
        },
        "auroc": {what: float(np.nanmean(aurocs(score, truth)[rated])) for what, score in scores.items()},
        "auprc": {
            what: float(np.mean([average_precision_score(truth[:, i], score[:, i]) for i in np.flatnonzero(rated)]))
            for what, score in scores.items()
        },
    }


def make_spiked(source: Path, base: Path, original: Dataset, dose: float) -> None:
    """The project with spiked BED files, a column Batch, and a technical factor that reads it."""
    rng, tracks = np.random.default_rng(1), original.peak_tracks
    chosen = rng.random(len(tracks)) < 0.5
    (base / "tracks").mkdir(parents=True, exist_ok=True)
    contig, start, labels, weight = [], [], [], []
    for name in ("train", "validation", "test"):
        bins = original.split(name)
        contig.append(bins.contig)
        start.append(bins.start)
        labels.append(unpack_bits(bins.peaks, len(tracks)))
        gc = np.array([(text.count("G") + text.count("C")) / 128 for text in sequences(original, bins)])
        weight.append(np.exp((gc - gc.mean()) / gc.std() * 1.5))
    where, first, peaks, odds = (np.concatenate(values) for values in (contig, start, labels, weight))
    for i, track in enumerate(tracks):
        mine = peaks[:, i].copy()
        if chosen[i] and mine.any():
            added = round(dose * mine.sum())
            mine[rng.choice(len(mine), added, replace=False, p=odds / odds.sum())] = True
        lines = [f"{original.contigs[where[j]]}\t{first[j]}\t{first[j] + 128}\n" for j in np.flatnonzero(mine)]
        with gzip.open(base / "tracks" / f"{track.id}.bed.gz", "wt") as file:
            file.writelines(lines or [f"{original.contigs[0]}\t0\t1\n"])
    write_metadata(base / "metadata.tsv", tracks, chosen)
    settings = (source / "mfd.toml").read_text()
    settings = re.sub('metadata = ".*"', 'metadata = "metadata.tsv"', settings)
    settings = settings.replace("[train]", '[factors.batch]\ncolumn = "Batch"\ngroup = "technical"\n\n[train]', 1)
    (base / "mfd.toml").write_text(settings)
    subprocess.run(["mfd", "preprocess", "-q"], cwd=base, check=True, stdout=subprocess.DEVNULL)


def write_metadata(path: Path, tracks: Sequence[Track], chosen: NDArray[np.bool_]) -> None:
    """The peak tracks' rows with the column Batch."""
    columns = [*tracks[0].metadata, "Batch"]
    lines = ["\t".join(columns)]
    for track, spiked in zip(tracks, chosen):
        row = {**track.metadata, "File path": f"tracks/{track.id}.bed.gz", "Batch": "spiked" if spiked else "plain"}
        lines.append("\t".join(row[column] for column in columns))
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
