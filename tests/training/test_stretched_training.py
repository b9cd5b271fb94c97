"""`mfd train` on stretches of many bins, through the command: it repeats, goes on, or is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from kit import tiny
from kit.harm import Outcome, in_process
from mfd_cli.core.losses import SignalScale
from mfd_cli.core.stretches import STRETCH
from mfd_cli.dataset.folder import open_dataset
from mfd_cli.runs.at_work import bin_latents
from mfd_cli.runs.batches import GenomeOnDevice, LabelledBins
from mfd_cli.runs.draws import Tiling
from mfd_cli.runs.folder import load_run
from mfd_cli.training import setup
from mfd_cli.training.setup import build, pace_of, stretch_of
from mfd_cli.training.step import draws, learn, seen_by_penalties

WORDS = ("train", "-q", "--gpus", "0", "--threads", "1", "--set", "model.window=2176", "--set", "train.stretch=4")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world, with bins that some track was not measured in, and a run on stretches of four bins."""
    folder = tiny.written_project(tmp_path_factory.mktemp("stretched") / "p", holes=True)
    done = trained(folder)
    assert done.code == 0, done.told
    return folder


def trained(folder: Path, *words: str) -> Outcome:
    return in_process((*WORDS, *words), folder)


def curve(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def test_a_step_has_as_many_bins_and_the_loss_is_finite(project: Path) -> None:
    lines = curve(project / "run")
    config = load_run(project / "run").config
    assert config.train.stretch == 4
    size = config.train.batch_size // 4 * 4
    assert all(line["windows"] == line["step"] * size for line in lines)
    assert all(np.isfinite(value) for line in lines for value in line.values())


def test_the_same_seed_gives_the_same_curve_and_a_resumed_one_goes_on(project: Path) -> None:
    assert trained(project, "--run", "again").code == 0
    assert curve(project / "again") == curve(project / "run")
    assert trained(project, "--run", "parts", "--epochs", "1").code == 0
    steps = [line["step"] for line in curve(project / "parts")]
    assert trained(project, "--run", "parts", "--resume").code == 0
    assert [line["step"] for line in curve(project / "parts")][: len(steps)] == steps
    assert curve(project / "parts")[-1]["step"] == curve(project / "run")[-1]["step"]


def test_bins_have_the_latents_of_single_windows(project: Path) -> None:
    """What training saw in a stretch is what scoring sees in a window."""
    run, dataset = load_run(project / "run"), open_dataset(project / "dataset")
    bins = dataset.split("test")
    together = bin_latents(run, dataset, bins)
    alone = np.concatenate([bin_latents(run, dataset, bins.taken(np.array([i]))) for i in range(0, len(bins), 7)])
    assert np.allclose(together[::7], alone, atol=1e-5 * np.abs(alone).max()) and together.std(0).max() > 0


def test_a_window_that_sees_its_padding_is_refused(project: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(project, tmp_path / "p")
    done = in_process((*WORDS, "--run", "short", "--set", "model.window=1152"), folder)
    assert done.code == 2 and not (folder / "short").exists()
    assert done.told.splitlines() == [
        "mfd: error: train.stretch is 4, and a window of 1,152 bp ends before what its bin depends on does",
        "hint: set model.window to 2176 or more, or train.stretch to 1",
    ]


def test_a_training_drawn_by_peaks_repeats_and_is_resumed(project: Path) -> None:
    words = ("--set", "train.draw=peaks")
    assert trained(project, *words, "--run", "drawn").code == 0
    assert trained(project, *words, "--run", "drawn-again").code == 0
    assert curve(project / "drawn") == curve(project / "drawn-again") != curve(project / "run")
    assert all(np.isfinite(value) for line in curve(project / "drawn") for value in line.values())


def test_stretches_are_the_default_where_they_give_the_same_numbers(project: Path) -> None:
    """A window that ends before what its bin depends on does is read one by one; 32 bins are read together otherwise."""
    wide = tiny.config(model={"window": 2176}, train={"batch_size": 128})
    assert stretch_of(wide) == STRETCH == 32
    assert pace_of(wide, Tiling(np.zeros(999, np.int32), np.arange(999), 32)).bins == 128
    assert pace_of(wide, Tiling(np.zeros(999, np.int32), np.arange(999))).bins == 128
    assert stretch_of(tiny.config(model={"window": 1152})) == 1
    assert stretch_of(tiny.config(model={"window": 2176}, train={"stretch": 3})) == 3
    assert stretch_of(tiny.config()) == 1


def test_penalties_see_some_of_the_bins(project: Path) -> None:
    """Drawn anew each step, the same ones again when a step is repeated; all where there are no more."""
    config = tiny.config(model={"window": 2176}, train={"batch_size": 64}, objective={"bins": 24})
    dataset = open_dataset(project / "dataset")
    trainer = build(config, dataset, dataset.split("train"), np.ones(9, bool), torch.device("cpu"))
    chosen = seen_by_penalties(trainer, 64)
    assert chosen is not None and len(chosen.unique()) == 24 and chosen.max() < 64
    assert torch.equal(chosen, seen_by_penalties(trainer, 64))
    trainer.step += 1
    assert not torch.equal(chosen, seen_by_penalties(trainer, 64))
    assert seen_by_penalties(trainer, 24) is None
    told = trained(project, "--run", "no", "--head", "conditioned", "--set", "objective.bins=2").told
    assert "objective.bins is 2: the penalty distance needs at least 4 bins" in told


def test_a_compiled_network_is_one_graph_with_the_same_numbers(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced whole, without a break; what makes kernels of the graph is torch's own, and takes minutes."""
    monkeypatch.setattr(setup, "COMPILER", "aot_eager")
    dataset, bins = open_dataset(project / "dataset"), open_dataset(project / "dataset").split("train")
    losses, gradients = [], []
    for compiled in (False, True):
        config = tiny.config(model={"window": 2176}, train={"batch_size": 64, "compile": compiled})
        trainer = build(config, dataset, bins, np.ones(9, bool), torch.device("cpu"))
        genome = GenomeOnDevice(dataset, 2176, trainer.model.left, torch.device("cpu"), 3, STRETCH)
        scale = SignalScale.fit(bins.rows_of_signal)
        data = LabelledBins(genome, bins, dataset, scale, torch.device("cpu"), stretch=STRETCH)
        learn(trainer, data.batch(*next(draws(trainer, data.tiling))), data.counts)
        losses.append(float(trainer.sums["loss"]))
        gradients.append([parameter.grad for parameter in trainer.model.parameters()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-3 * one.abs().max().item() + 1e-7)
