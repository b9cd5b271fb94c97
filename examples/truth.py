"""Comparing a model with the planted truth of `mfd simulate`: used by the demo and by bench_truth.py.

Parts are centred over the training tracks by the same operator in the model and in the truth.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from mfd_cli.base.long_array import LongArray
from mfd_cli.core.decompose import decompose
from mfd_cli.core.mixed_head import MixedHead
from mfd_cli.core.motif_match import match_motifs
from mfd_cli.core.predictor import Head, Predictor
from mfd_cli.core.probes import along_the_genome, predictability, thin
from mfd_cli.core.shares import covariance_of, variance_shares, whole_latent
from mfd_cli.dataset.bins import Bins, unpack_bits
from mfd_cli.dataset.folder import Dataset
from mfd_cli.evaluation.independence import contributions
from mfd_cli.evaluation.part_errors import means_of_parts, part_errors
from mfd_cli.evaluation.regressed_twin import regressed_twin
from mfd_cli.explain.results import LIKELY
from mfd_cli.formats.motif_files import read_motifs
from mfd_cli.runs.at_work import bin_latents, latents_of_axes
from mfd_cli.runs.folder import Run

Floats = NDArray[np.float32]
LEAST_RELIABILITY = 0.05
"""The reliability that leakage is divided by where a part follows its own truth less than this: so leakage stays finite."""


@dataclass(frozen=True)
class Truth:
    """What is true of the test bins: each (bins, peak tracks)."""

    logits: Floats
    biological: Floats
    technical: Floats
    labels: NDArray[np.bool_]


def read_truth(folder: Path, run: Run, dataset: Dataset) -> Truth:
    """The true logits, parts and labels of the test bins, for the model's peak tracks in its order."""
    bins = dataset.split("test")
    table = pq.read_table(folder / "truth/bins.parquet")
    place = {key: i for i, key in enumerate(zip(table["contig"].to_pylist(), table["start"].to_pylist()))}
    rows = [place[dataset.contigs[c], s] for c, s in zip(bins.contig.tolist(), bins.start.tolist())]
    names = [track.id for track in run.tracks[: run.peak_tracks]]

    def of(what: str) -> Floats:
        return np.stack([table[f"{what}.{name}"].to_numpy()[rows] for name in names], 1)

    labels = unpack_bits(bins.peaks, run.peak_tracks)
    return Truth(of("logit"), of("biological"), of("technical"), labels)


def correlations(a: Floats, b: Floats) -> Floats:
    """Pearson r of matching columns (bins, tracks); 0 where one is constant."""
    a, b = a - a.mean(0), b - b.mean(0)
    size = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.where(size > 0, (a * b).sum(0) / np.where(size > 0, size, 1), 0)


def mean_auroc(scores: Floats, labels: NDArray[np.bool_]) -> float:
    return float(np.mean([roc_auc_score(labels[:, i], scores[:, i]) for i in range(labels.shape[1])]))


def compare(folder: Path, run: Run, dataset: Dataset, latents: Floats | None = None) -> dict[str, float]:
    """How close a model comes to the planted truth on the test bins.

    auroc, auprc, auroc_truth: means over training tracks. total_r: mean Pearson r of their logits with the true ones.
    What `parts_beside_truth` says of the biological and the technical part, and the mean share of each factor. zero_shot,
    zero_shot_truth: AUROC on held-out tracks, beside the mean of the predictions for training tracks of the same target and
    of the same assay.
    """
    truth, predictor = read_truth(folder, run, dataset), Predictor(run.model)
    latents = bin_latents(run, dataset, dataset.split("test")) if latents is None else latents
    head, peaks = predictor.head, run.peak_tracks
    seen = run.model.trained[:peaks]
    logits = head.logits(latents)[:, :peaks]
    result = {
        "auroc": mean_auroc(logits[:, seen], truth.labels[:, seen]),
        "auroc_truth": mean_auroc(truth.logits[:, seen], truth.labels[:, seen]),
        "auprc": float(
            np.mean([average_precision_score(truth.labels[:, i], logits[:, i]) for i in np.flatnonzero(seen)])
        ),
        "total_r": float(correlations(logits, truth.logits)[seen].mean()),
    }
    if {"biological", "technical"} <= set(head.groups):
        bio, tech = (head.group_part(group, latents)[:, :peaks] for group in ("biological", "technical"))
        result |= parts_beside_truth(bio[:, seen], tech[:, seen], truth, seen)
        result |= forests(bio[:, seen], tech[:, seen], truth, seen)
        result |= {f"share.{name}": share for name, share in factor_shares(run, predictor, latents).items()}
    result |= coverage(run, head, dataset.split("test"), latents, truth)
    if not seen.all() and run.model.has_parts:
        result |= zero_shot(run, logits, truth, seen)
    return result


def regressed(run: Run, dataset: Dataset, axes: bool = False) -> Run:
    """The run of a free head with the parts that a regression of its weights on the metadata finds, by the bins that a mixed
    head's axes are learnt from.

    By the textbook, one variance for each term; with `axes` as a mixed head finds its parts.
    """
    return regressed_twin(run, LongArray.of(latents_of_axes(run, dataset)), axes)


def of_true_logits(folder: Path, run: Run, dataset: Dataset) -> dict[str, float]:
    """What is found in the true logits of the test bins, as if the twin `run` had learnt them without an error: what the
    table and a linear mixed model can tell at most. The same figures as `parts_beside_truth` and `forests`."""
    own, count = regressed(run, dataset).model.head, run.peak_tracks
    assert isinstance(own, MixedHead)
    truth, seen = read_truth(folder, run, dataset), run.model.trained[:count]
    logits = truth.logits - truth.logits.mean(0)
    latents, size, weights = np.linalg.svd(logits[:, seen] / np.sqrt(len(logits)), full_matrices=False)
    kept = int((size > size[0] / 1000).sum())
    latents = (latents[:, :kept] * np.sqrt(len(logits))).astype(np.float32)
    kernels = {name: kernel.numpy()[:count, :count] for name, kernel in own.kernels.items()}
    groups = {"biological": kept // 2, "technical": kept - kept // 2}
    centre = {group: own.centre[group].numpy()[:count] / own.centre[group].numpy()[:count].sum() for group in groups}
    head = MixedHead(groups, True, own.terms, kernels, centre, torch.zeros(count), seen)
    with torch.no_grad():
        head.weight.zero_()[torch.from_numpy(seen)] = torch.from_numpy(weights[:kept].T * size[:kept]).float()
        head.get_buffer("curvature").fill_(1e6)
    head.learn_variances(300, shrunk=False)
    head.learn_axes(torch.from_numpy(latents))
    found = {group: (latents @ part.detach().numpy().T)[:, seen] for group, part in head.weights().groups.items()}
    parts = found["biological"], found["technical"], truth, seen
    return parts_beside_truth(*parts) | forests(*parts)


def coverage(run: Run, head: Head, bins: Bins, latents: Floats, truth: Truth) -> dict[str, float]:
    """How often the true part of a training track's logit lies within the 90 % that `mfd evaluate` says, over bins and tracks,
    and the correlation with the truth that it says a part has. Nothing for a head that is not mixed.

    Parts have no origin: each is compared about its mean over bins.
    """
    seen, result = run.model.trained[: run.peak_tracks], {}
    rows = part_errors(run, head, LongArray.of(latents), bins)
    said = {part: row["reliability"] for part, row in means_of_parts(run, rows).items()}
    for group, true in (("biological", truth.biological), ("technical", truth.technical)):
        error = np.array([row["error"] for row in rows if row["part"] == group])
        if len(error):
            found = head.group_part(group, latents - latents.mean(0))[:, : len(seen)]
            inside = np.abs(found - (true - true.mean(0))) <= 1.645 * error
            result |= {f"coverage_{group}": float(inside[:, seen].mean()), f"said_{group}": said[group]}
    return result


def factor_shares(run: Run, predictor: Predictor, latents: Floats) -> dict[str, float]:
    """Mean over training tracks of the share of logit variance that each factor has."""
    found, head, size = decompose(run.model), predictor.head, latents.shape[1]
    parts = {name: whole_latent(found.factors[name], head.slices[found.group_of[name]], size) for name in found.factors}
    shares = variance_shares(covariance_of(LongArray.of(latents)), head.matrix(), parts)
    return {name: float(values[run.model.trained].mean()) for name, values in shares.items()}


def parts_beside_truth(bio: Floats, tech: Floats, truth: Truth, seen: NDArray[np.bool_]) -> dict[str, float]:
    """Return how two parts (bins, seen tracks) of the logits compare with the true ones, whatever method they come from.

    biological_r, technical_r: mean over tracks of the reliability, Pearson's r of a part with its own truth. leakage_mean,
    leakage_max: over tracks and both directions, see `leakage`.
    """
    true_bio, true_tech = truth.biological[:, seen], truth.technical[:, seen]
    leaks = np.concatenate([leakage(bio, true_bio, true_tech), leakage(tech, true_tech, true_bio)])
    return {
        "biological_r": float(correlations(bio, true_bio).mean()),
        "technical_r": float(correlations(tech, true_tech).mean()),
        "leakage_mean": float(leaks.mean()),
        "leakage_max": float(leaks.max()),
    }


def forests(bio: Floats, tech: Floats, truth: Truth, seen: NDArray[np.bool_]) -> dict[str, float]:
    """What a forest of trees predicts of one group's part (bins, tracks) from the other's, as R2, and the same of the true
    parts: `forest_technical` is of the technical part from the biological one. `forest_excess` is the larger of what the
    model's parts have more than the true ones."""
    found: dict[str, float] = {}
    pairs = {"": (bio, tech), "_truth": (truth.biological[:, seen], truth.technical[:, seen])}
    for ending, parts in pairs.items():
        one, two = (thin(contributions(part, np.eye(part.shape[1])), True) for part in parts)
        layout = along_the_genome(len(one))
        found[f"forest_technical{ending}"] = predictability("forest", one, two, 0, layout)["value"]
        found[f"forest_biological{ending}"] = predictability("forest", two, one, 0, layout)["value"]
    of = ("forest_technical", "forest_biological")
    return found | {"forest_excess": max(found[name] - found[f"{name}_truth"] for name in of)}


def leakage(part: Floats, own: Floats, other: Floats) -> Floats:
    """Return (tracks,) how much of the other true part a part carries, corrected for its noise; all (bins, tracks).

    The correlation of the part with the other truth is divided by its reliability, its correlation with its own truth:
    noise lowers both alike, so that an estimate does not leak less because it is worse. What the true parts have in common
    is subtracted, so that the truth itself has 0, and of the difference it is the size that counts: a part that leaks the
    wrong way round on one track does not make up for another.
    """
    reliability = np.maximum(correlations(part, own), LEAST_RELIABILITY)
    return np.abs(correlations(part, other) / reliability - correlations(own, other))


def zero_shot(run: Run, logits: Floats, truth: Truth, seen: NDArray[np.bool_]) -> dict[str, float]:
    """AUROC on held-out tracks: the model, the truth, and means of the model's predictions for similar training tracks."""
    unseen = np.flatnonzero(~seen)
    rows = [track.metadata for track in run.tracks[: run.peak_tracks]]
    result = {
        "zero_shot": mean_auroc(logits[:, unseen], truth.labels[:, unseen]),
        "zero_shot_truth": mean_auroc(truth.logits[:, unseen], truth.labels[:, unseen]),
    }
    for name, column in (("same_target", "Experiment target"), ("same_assay", "Assay")):
        like = [[s and row[column] == rows[i][column] for s, row in zip(seen, rows)] for i in unseen]
        guess = np.stack([logits[:, np.array(chosen)].mean(1) for chosen in like], 1)
        result[f"zero_shot_{name}"] = mean_auroc(guess, truth.labels[:, unseen])
    return result


def compare_variants(folder: Path, scores: Path) -> dict[str, float]:
    """How the scores of the planted variants agree with what they break.

    variants: AUROC of telling variants of biological motifs from those of technical ones by MFD_BIO / MFD_TECH;
    variants_any: of telling those that break a motif from those that do not, by |MFD_MAX_DLOGIT|; variants_shared: of telling
    those of the shared motif from those of other motifs by |MFD_SHARED| / (MFD_BIO + MFD_TECH); variants_total_r: Pearson r of
    MFD_MAX_DLOGIT with the true change of the track that truly changes most; and the median size of MFD_SHARED.
    """
    with (folder / "truth/variants.tsv").open() as file:
        truth = {(r["chrom"], r["pos"], r["ref"], r["alt"]): r for r in csv.DictReader(file, delimiter="\t")}
    scored = pq.read_table(scores).to_pylist()
    pairs = [(s, truth.get((s["contig"], str(s["position"]), s["ref"], s["alt"]))) for s in scored]
    known = [(s, t) for s, t in pairs if t is not None]
    kinds = np.array([t["kind"] for _, t in known])
    score = {
        name: np.array([s[name] for s, _ in known], float)
        for name in scored[0]
        if name.startswith("MFD_") and isinstance(scored[0][name], float)
    }
    size, hit = np.abs(score["MFD_MAX_DLOGIT"]), np.isin(kinds, ["biological", "technical", "shared"])
    total = np.array([float(t["true_total"]) for _, t in known])
    result = {
        "variants_any": float(roc_auc_score(hit, size)),
        "variants_total_r": float(np.corrcoef(score["MFD_MAX_DLOGIT"], total)[0, 1]),
    }
    if "MFD_BIO" in score:
        bio, tech, shared = score["MFD_BIO"] + 1e-9, score["MFD_TECH"] + 1e-9, np.abs(score["MFD_SHARED"])
        both = np.isin(kinds, ["biological", "technical"])
        result |= {
            "variants": float(roc_auc_score(kinds[both] == "biological", np.log(bio / tech)[both])),
            "variants_shared": float(roc_auc_score(kinds[hit] == "shared", (shared / (bio + tech))[hit])),
            "shared_size_on_shared": float(np.median(shared[kinds == "shared"])),
            "shared_size_elsewhere": float(np.median(shared[kinds != "shared"])),
        }
    return result


def compare_motifs(folder: Path, factor: str, seed: int = 0) -> dict[str, int]:
    """Of the levels of `factor` that a planted motif drives (`mfd explain --motifs truth/motifs.meme`): how many there are,
    for how many the known motif that fits the model's best is the planted one with E < 0.05, and how many of them reach
    that with all twelve planted motifs' columns shuffled."""
    table = f"{factor}s"
    planted: dict[str, str] = json.loads((folder / "truth/causes.json").read_text())[table]
    known = read_motifs(folder / "truth/motifs.meme")
    rng = np.random.default_rng(seed)
    shuffled = {name: rng.permutation(motif.probabilities) for name, motif in known.items()}
    found = read_motifs(folder / "explain" / factor / "motifs.meme")
    rows = list(csv.DictReader((folder / "explain" / factor / "motifs.tsv").open(), delimiter="\t"))
    rows = [row for row in rows if row["found_by"] == "aggregate" and row["level"] in planted]
    right = [row["known_motif"] == planted[row["level"]] and float(row["e_value"]) < LIKELY for row in rows]
    chance = [match_motifs(found[row["motif"]].probabilities.T, shuffled)[0].e_value < LIKELY for row in rows]
    return {"levels": len(rows), "right": sum(right), "shuffled": sum(chance)}
