"""The whole method on planted causes: motifs that are a target's, G+C that is a lab's (method, correctness test 7)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from kit import tiny
from kit.harm import SOAK
from mfd_cli.core.predictor import Predictor
from mfd_cli.dataset.bins import unpack_bits
from mfd_cli.dataset.folder import Dataset
from mfd_cli.explain.factor import explain
from mfd_cli.explain.results import Look
from mfd_cli.formats.motif_files import write_meme
from mfd_cli.genome.sequence import Genome, encode
from mfd_cli.runs.at_work import bin_latents
from mfd_cli.runs.folder import Run
from mfd_cli.training.train import train

LAB_SIGN = {"A": 1.0, "B": -1.0, "": 0.0}
HELD = {"target": "GATA1", "lab": "B"}
# Thresholds, and beside each what ten seeds gave (mean and standard deviation): no seed may come near one.
ACCURATE = 0.75  # 0.837, 0.003
NOT_BEHIND = 0.05  # -0.007, 0.016
LESS_LEAKAGE = 0.35  # -0.92, 0.05 (four seeds, on two kinds of kernels; at a weight of 0.4 it is -0.26 to -0.85)
BIOLOGY_FOLLOWED = 0.5  # 0.958, 0.027
TECHNIQUE_FOLLOWED = 0.7  # 0.963, 0.009
BETTER_THAN_SAME_TARGET = 0.2  # 0.419, 0.012


def world() -> Genome:
    """Random bases whose G+C changes from bin to bin, with the tiny world's motifs in one bin of four."""
    rng = np.random.default_rng(5)
    contigs = {}
    for name, bins in (("chr1", 1600), ("chr2", 800)):
        bases = np.concatenate(
            [
                rng.choice(np.frombuffer(b"ACGT", np.uint8), 128, p=np.array([1 - gc, gc, gc, 1 - gc]) / 2)
                for gc in rng.uniform(0.25, 0.75, bins)
            ]
        )
        for b in np.flatnonzero(rng.random(bins) < 0.25):
            motif = np.frombuffer(list(tiny.MOTIFS.values())[rng.integers(2)].encode(), np.uint8)
            start = b * 128 + int(rng.integers(128 - len(motif)))
            bases[start : start + len(motif)] = motif
        contigs[name] = bases
    return Genome(contigs, "planted.fa")


def called(genome: Genome, contig: str, tracks: int) -> np.ndarray:
    """A peak is likely where the target's motif is, and by the lab more or less so with the bin's G+C."""
    text = genome.sequences[contig].tobytes().decode()
    bins = [text[low : low + 128] for low in range(0, len(text) - 127, 128)]
    gc = np.array([(b.count("G") + b.count("C")) / 128 for b in bins])
    gc = (gc - gc.mean()) / gc.std()
    rng = np.random.default_rng(len(bins))
    result = np.zeros((len(bins), tracks), bool)
    for i, row in enumerate(tiny.rows(tracks)):
        motif = np.array([tiny.MOTIFS[row["Target"]] in b for b in bins])
        logit = -2.5 + 4 * motif + 2 * LAB_SIGN[row["Lab"]] * gc
        result[:, i] = rng.random(len(bins)) < 1 / (1 + np.exp(-logit))
    return result


class Measured:
    """A run on the planted world and what it says of the test contig."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self.dataset: Dataset = tiny.dataset(folder / "dataset", 12, 0, world=world(), called=called)
        settings = {"epochs": 20, "batch_size": 64, "lr": 0.01, "held_out": [HELD]}
        model = {"window": 128, "width": 16, "latent": 24, "filters": 16, **sections.pop("model", {})}
        self.run: Run = train(tiny.project(folder, train=settings, model=model, **sections), gpus=0)
        bins = self.dataset.split("test")
        self.labels = unpack_bits(bins.peaks, 12)
        self.latents = bin_latents(self.run, self.dataset, bins)
        self.head = Predictor(self.run.model).head
        self.logits = self.head.logits(self.latents)
        self.trained = self.run.model.trained

    def auroc(self, scores: np.ndarray, tracks: np.ndarray) -> float:
        return float(np.mean([roc_auc_score(self.labels[:, i], scores[:, i]) for i in np.flatnonzero(tracks)]))

    def leakage(self) -> float:
        """R2, on the second half of the bins, of the technical latents predicted linearly from the biological ones."""
        one, other = (self.latents[:, self.head.slices[group]] for group in ("biological", "technical"))
        half = len(one) // 2
        guess = Ridge(1.0).fit(one[:half], other[:half]).predict(one[half:])
        truth = other[half:]
        return float(1 - ((guess - truth) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum())


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Measured]:
    free = {"free": Measured(tmp_path_factory.mktemp("free"), model={"head": "free"})} if SOAK else {}
    return free | {
        "none": Measured(tmp_path_factory.mktemp("none"), objective={"penalties": {}}),
        "penalty": Measured(tmp_path_factory.mktemp("penalty"), objective={"penalties": {"distance": {"weight": 2.0}}}),
    }


@pytest.mark.slow
def test_a_penalty_lowers_what_one_group_tells_of_the_other_and_costs_no_accuracy(runs: dict[str, Measured]) -> None:
    aurocs = {name: run.auroc(run.logits, run.trained) for name, run in runs.items()}
    assert aurocs["penalty"] > ACCURATE
    assert not SOAK or aurocs["penalty"] > aurocs["free"] - NOT_BEHIND
    assert runs["penalty"].leakage() < runs["none"].leakage() - LESS_LEAKAGE


@pytest.mark.slow
def test_each_part_follows_its_own_cause(runs: dict[str, Measured]) -> None:
    """With two targets, what all tracks share is the mean of both motifs, so a target's own part is the difference."""
    biological, technical = causes_followed(runs["penalty"])
    assert min(biological) > BIOLOGY_FOLLOWED and min(technical) > TECHNIQUE_FOLLOWED


def causes_followed(run: Measured) -> tuple[list[float], list[float]]:
    """Correlation of each track's biological part with its motif less the other target's, and of its technical part, where
    the lab has a preference, with G+C as the lab likes it."""
    text = run.dataset.genome.sequences["chr2"].tobytes().decode()
    bins = [text[low : low + 128] for low in range(0, len(text) - 127, 128)]
    gc = np.array([(b.count("G") + b.count("C")) / 128 for b in bins])
    present = {target: np.array([motif in b for b in bins], float) for target, motif in tiny.MOTIFS.items()}
    (one, other), (biological, technical) = present, (run.head.group_part(g, run.latents) for g in run.head.groups)
    followed: tuple[list[float], list[float]] = ([], [])
    for i, row in enumerate(tiny.rows(12)):
        contrast = (present[one] - present[other]) * (1 if row["Target"] == one else -1)
        followed[0].append(float(np.corrcoef(biological[:, i], contrast)[0, 1]))
        if LAB_SIGN[row["Lab"]]:
            followed[1].append(LAB_SIGN[row["Lab"]] * float(np.corrcoef(technical[:, i], gc)[0, 1]))
    return followed


@pytest.mark.slow
def test_imputation_beats_the_mean_of_the_same_target(runs: dict[str, Measured]) -> None:
    run, rows = runs["penalty"], tiny.rows(12)
    unseen = ~run.trained
    assert [rows[i]["Target"] + rows[i]["Lab"] for i in np.flatnonzero(unseen)] == ["GATA1B"] * int(unseen.sum())
    same = [i for i in np.flatnonzero(run.trained) if rows[i]["Target"] == "GATA1"]
    mean = np.repeat(run.logits[:, same].mean(1)[:, None], 12, 1)
    assert run.auroc(run.logits, unseen) > run.auroc(mean, unseen) + BETTER_THAN_SAME_TARGET


@pytest.mark.slow
def test_the_motifs_of_the_targets_are_those_planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among both planted motifs and twenty with their columns shuffled, the one that fits a level best is its own.

    A mixed head, whose weights learn at one pace: ten seeds all find both, at E values below 0.0007. Of twelve trainings with
    a conditioned head and without motif filters, three missed one target.
    """
    motifs = {"CTCF": "ATCACGTGACTA", "GATA1": "GGCCGCTAATAG"}
    monkeypatch.setattr(tiny, "MOTIFS", motifs)
    measured = Measured(tmp_path, model={"width": 32, "latent": 32, "filters": 32, "head": "mixed"})
    rng = np.random.default_rng(0)
    planted = {target: np.eye(4)[encode(motif)] for target, motif in motifs.items()}
    known = planted | {f"{name}.{i}": rng.permutation(table) for name, table in planted.items() for i in range(10)}
    write_meme(tmp_path / "known.meme", {name: table.T for name, table in known.items()})
    look = Look(motifs=tmp_path / "known.meme", top=40)
    explain(measured.run, measured.dataset, "target", tmp_path / "out", look=look)
    rows = [line.split("\t") for line in (tmp_path / "out/motifs.tsv").read_text().splitlines()]
    found = [dict(zip(rows[0], row)) for row in rows[1:]]
    assert {row["level"]: row["known_motif"] for row in found} == {name: name for name in planted}
    assert all(float(row["e_value"]) < 0.05 for row in found)
