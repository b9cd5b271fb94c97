"""Quality control: the track whose metadata are wrong is found, with the level that is right, and the others are left alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

from kit import tiny
from mfd_cli.base.errors import ConfigError, DatasetError
from mfd_cli.core.metadata import fit_metadata
from mfd_cli.core.model import MfdModel
from mfd_cli.dataset.bins import Bins, pack_bits, unpack_bits
from mfd_cli.dataset.folder import Dataset
from mfd_cli.evaluation import qc as module
from mfd_cli.evaluation.qc import ALONE, BLOCKS, OTHER, SECOND, compare, fitted_line, log_likelihood, qc, settle
from mfd_cli.experiments.track import Track
from mfd_cli.runs.folder import Run


def told_otherwise(run: Run, changes: dict[str, dict[str, str]]) -> Run:
    """The run as if the metadata table said something else of some tracks."""
    tracks = tuple(dataclasses.replace(t, metadata={**t.metadata, **changes.get(t.id, {})}) for t in run.tracks)
    return dataclasses.replace(run, tracks=tracks)


COUNT, BINS, STEPS = 40, 3000, 200
TARGETS, TISSUES = ("CTCF", "GATA1", "REST", "MYC"), ("liver", "brain")


@pytest.fixture
def planted(trained: tuple[Run, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Run, Dataset]:
    """Forty tracks whose labels follow from random latents: strongly the target, weakly assay and tissue, nothing the lab."""
    rng = np.random.default_rng(2)
    rows = [{**row, "Target": TARGETS[i % 4], "Tissue": TISSUES[i // 4 % 2]} for i, row in enumerate(tiny.rows(COUNT))]
    factors = tiny.config().factors
    model = MfdModel(
        tiny.config().resolved_model(),
        fit_metadata(rows, factors),
        factors,
        rows,
        np.ones(COUNT, bool),
        np.zeros(COUNT, np.float32),
    )
    effects = {}
    for column, size, group in (
        ("Target", 1.4, "biological"),
        ("Tissue", 0.3, "biological"),
        ("Assay", 0.5, "technical"),
        ("Lab", 0.0, "technical"),
    ):
        mask = np.zeros(16)
        mask[model.slices[group]] = size
        effects[column] = {level: mask * rng.normal(size=16) for level in sorted({row[column] for row in rows})}
    weights = np.stack([sum(effects[c][row[c]] for c in effects) for row in rows])
    bins, latents, at = {}, {}, 0
    for split in ("train", "test"):
        z = rng.normal(size=(BINS, 16)).astype(np.float32)
        labels = rng.random((BINS, COUNT)) < 1 / (1 + np.exp(3 - z @ weights.T))
        where = np.arange(at, at + BINS) * 128
        bins[split] = Bins(
            np.zeros(BINS, np.int32),
            where,
            np.arange(BINS, dtype=np.int32),
            pack_bits(labels),
            np.zeros((BINS, 0), np.float32),
        )
        latents[at] = z
        at += BINS
    tracks = tuple(Track(f"P{i}", "peaks", row) for i, row in enumerate(rows))
    run = dataclasses.replace(trained[0], model=model, tracks=tracks)

    class World:
        path = tmp_path
        peak_tracks, signal_tracks = tracks, ()

        def split(self, name: str) -> Bins:
            return bins[name]

    monkeypatch.setattr(module, "bin_latents", lambda run, dataset, some, *_: latents[int(some.start[0]) // 128])
    return run, World()  # type: ignore[return-value]


@pytest.mark.slow
def test_mislabelled_tracks_are_found_and_no_other(planted: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, world = planted
    clean = qc(run, world, tmp_path / "clean", steps=STEPS)
    assert not [row for row in clean.rows if row["verdict"] == OTHER] and clean.failed == []
    wrong = told_otherwise(run, {"P4": {"Target": "GATA1"}, "P5": {"Target": "CTCF"}, "P30": {"Target": "MYC"}})
    found = qc(wrong, world, tmp_path / "wrong", steps=STEPS)
    flagged = {
        (row["track"], row["factor"]): (row["told"], row["best"]) for row in found.rows if row["verdict"] == OTHER
    }
    assert flagged == {
        ("P4", "target"): ("GATA1", "CTCF"),
        ("P5", "target"): ("CTCF", "GATA1"),
        ("P30", "target"): ("MYC", "REST"),
    }
    partners = {row["track"]: row["swapped_with"] for row in found.rows if row["verdict"] == OTHER}
    assert partners == {"P4": "P5", "P5": "P4", "P30": ""}
    assert "P30: target is told to be MYC, its data fit REST better" in "\n".join(found.lines())
    table = (tmp_path / "wrong/tracks.tsv").read_text().splitlines()
    assert len(table) == 1 + COUNT * 4 and found.summary["flagged"] == 3


def test_a_level_that_no_other_track_has_cannot_be_judged(planted: tuple[Run, Dataset], tmp_path: Path) -> None:
    """And judged twice, all tracks are judged alike."""
    run, world = planted
    lonely = told_otherwise(run, {"P2": {"Target": "LONELY"}})
    found = qc(lonely, world, tmp_path / "qc", factors=["target"], steps=STEPS // 8)
    assert qc(lonely, world, tmp_path / "again", factors=["target"], steps=STEPS // 8).rows == found.rows
    assert [row["verdict"] for row in found.rows if row["track"] == "P2"] == [ALONE]
    assert found.summary["alone"] == 1 and found.summary["factors"] == ["target"]


def test_a_track_of_noise_is_not_predicted(planted: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, world = planted
    rng = np.random.default_rng(5)
    for split in ("train", "test"):
        bins = world.split(split)
        labels = unpack_bits(bins.peaks, COUNT)
        labels[:, 7] = rng.random(BINS) < 0.1
        bins.rows_of_peaks[:] = pack_bits(labels)
    found = qc(run, world, tmp_path / "qc", steps=STEPS)
    assert [row["track"] for row in found.failed] == ["P7"]
    assert "1 tracks are not predicted at all" in found.lines()[0]


def test_what_cannot_be_done_is_said(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    with pytest.raises(ConfigError, match="did you mean target"):
        qc(run, dataset, tmp_path / "qc", factors=["targe"])
    with pytest.raises(DatasetError, match="too few bins"):
        qc(run, dataset, tmp_path / "qc")
    free = dataclasses.replace(run, model=tiny.model(9, model={"head": "free"}))
    with pytest.raises(ConfigError, match=r"head knows the metadata"):
        qc(free, dataset, tmp_path / "qc")
    assert not (tmp_path / "qc").exists()


def test_the_likelihood_is_that_of_a_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=4000).astype(np.float32) * 3 + 1
    y = (rng.random(4000) < 1 / (1 + np.exp(5 - x))).astype(np.float32)
    fitted = LogisticRegression(C=1e6).fit(x[:, None], y).predict_log_proba(x[:, None])
    assert np.allclose(log_likelihood(x, y, fitted_line(x, y)), fitted[np.arange(4000), y.astype(int)], atol=1e-3)
    upside_down = log_likelihood(-x, y, fitted_line(-x, y))  # does not explain anything: as the mean does
    share = y.mean()
    assert np.allclose(upside_down, np.where(y == 1, np.log(share), np.log(1 - share)), atol=1e-5)
    nothing = fitted_line(x, np.zeros(4000, np.float32))  # no peak at all: there is no slope to fit
    assert nothing.slope == 0 and nothing.offset < -10


@pytest.mark.parametrize("levels", [8, 200])
def test_a_gain_over_levels_that_are_no_better_is_as_rare_as_its_p(levels: int) -> None:
    """Every level tells as much as the track's own, and each has its luck: the luckiest must not be measured where it was."""
    rng, count = np.random.default_rng(levels), 300
    p = []
    for _ in range(count):
        cause = rng.normal(size=10 * BLOCKS)
        y = (rng.random(len(cause)) < 1 / (1 + np.exp(2.5 - cause))).astype(np.float32)
        logits = (cause[:, None] + rng.normal(size=(len(cause), 1 + levels))).astype(np.float32)
        p.append(compare(logits[:, 0], logits[:, 1:], [str(i) for i in range(levels)], y)["p"])
    for rate in (0.05, 0.2):
        assert np.sum(np.array(p) < rate) <= stats.binom.ppf(0.999, count, rate)


def test_nothing_of_the_bins_that_measure_is_used_to_choose() -> None:
    rng = np.random.default_rng(1)
    y = (rng.random(40 * BLOCKS) < 0.1).astype(np.float32)
    told, names = rng.normal(size=len(y)).astype(np.float32), [str(i) for i in range(200)]
    others = rng.normal(size=(len(y), 200)).astype(np.float32)
    measuring = np.arange(len(y)) * BLOCKS // len(y) % 2 == 1
    before = compare(told, others, names, y)
    others[measuring, 17] += 9 * y[measuring]  # the best by far, on bins that have no say
    assert compare(told, others, names, y) == before and before["best"] != "17"
    others[:, 3] += 2 * y
    found = compare(told, others, names, y)
    assert found["best"] == "3" and found["z"] > 5 and found["auroc_best"] > 0.85


def test_of_a_track_the_factor_that_gains_most_is_the_wrong_one() -> None:
    def row(track: str, factor: str, p: float, gain: float) -> dict[str, object]:
        return {
            "track": track,
            "factor": factor,
            "told": "a",
            "best": "b",
            "p": p,
            "q": 1.0,
            "gain": gain,
            "share": 0.5,
            "z": gain,
            "verdict": "agrees",
            "swapped_with": "",
        }

    rows = [row("T", "target", 1e-9, 50.0), row("T", "lab", 1e-6, 20.0), row("U", "target", 0.4, 1.0)]
    settle(rows, 0.01)
    assert [r["verdict"] for r in rows] == [OTHER, SECOND, "agrees"]
