"""Training: it learns the planted motif, it can be repeated and resumed to the bit, it keeps what it must not touch."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kit import tiny
from mfd_cli.base.errors import ConfigError, DatasetError, MfdError, OutputError, RunError
from mfd_cli.core.losses import SignalScale
from mfd_cli.core.unseen import fill_held_out
from mfd_cli.dataset.bins import pack_bits, unpack_bits
from mfd_cli.dataset.folder import Dataset, open_dataset
from mfd_cli.engine.loop import Interrupted
from mfd_cli.runs.batches import GenomeOnDevice, LabelledBins
from mfd_cli.runs.draws import Tiling
from mfd_cli.runs.folder import Run, load_last, load_run
from mfd_cli.training import step as steps
from mfd_cli.training import train as training
from mfd_cli.training.setup import Trainer, build, parameter_groups, start_bias
from mfd_cli.training.validate import figures, predict_bins


def curve(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return dict(run.model.state_dict())


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_the_planted_motif(trained: tuple[Run, Dataset]) -> None:
    run, _ = trained
    assert run.about["validation"]["auroc_mean"] > 0.8
    assert run.about["trained_on"] == ["chr1"]


@pytest.mark.parametrize("penalty", ["covariance", "predictor"])
def test_same_seed_same_curve_and_weights(tmp_path: Path, penalty: str) -> None:
    settings = {"objective": {"penalties": {penalty: {"weight": 0.1}}}}
    runs = []
    for name in ("a", "b"):
        tiny.dataset(tmp_path / name / "dataset")
        runs.append(training.train(tiny.project(tmp_path / name, **settings), gpus=0))
    assert same(weights(runs[0]), weights(runs[1]))
    assert curve(tmp_path / "a") == curve(tmp_path / "b")
    assert all(f"train_{penalty}" in line for line in curve(tmp_path / "a"))


@pytest.mark.parametrize("stop_at", [1, 8, 11])
def test_stopped_and_resumed_is_bit_identical(tmp_path: Path, stop_at: int) -> None:
    settings = {"objective": {"penalties": {"predictor": {"weight": 0.1}}}, "model": {"gain": True}}
    whole, cut = tiny.project(tmp_path / "whole", **settings), tiny.project(tmp_path / "cut", **settings)
    for project in (whole, cut):
        tiny.dataset(project.dataset)
    straight = training.train(whole, gpus=0)

    def terminate(what: str, done: int, total: int) -> None:
        if done == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted) as caught:
        training.train(cut, gpus=0, progress=terminate)
    assert caught.value.exit_code == 143
    state = load_last(cut.run)
    assert state is not None and state[1]["step"] == stop_at
    resumed = training.train(cut, gpus=0, resume=True)
    assert same(weights(straight), weights(resumed))
    assert curve(tmp_path / "whole") == curve(tmp_path / "cut")


def test_held_out_tracks_take_no_part(tmp_path: Path) -> None:
    """Their labels have no influence on any number of the model: another label, the same bytes."""
    world = tiny.dataset(tmp_path / "dataset")
    project = tiny.project(tmp_path, train={"held_out": ["P3"]}, model={"gain": True})
    run = training.train(project, gpus=0)
    assert run.model.trained.tolist() == [True] * 3 + [False] + [True] * 5
    assert run.model.head.weights().matrix()[3].abs().sum() > 0
    start = start_bias(world)
    assert run.model.head.bias[3].item() != start[3]
    bins, scale = world.split("train"), SignalScale.fit(world.split("train").signal)
    trainer = build(project.config, world, bins, run.model.trained, torch.device("cpu"))
    genome = GenomeOnDevice(world, trainer.model.window, trainer.model.left, torch.device("cpu"))
    logits = []
    for flipped in (False, True):
        labels = unpack_bits(bins.peaks, 8)
        labels[:, 3] ^= flipped
        data = LabelledBins(
            genome,
            replace(bins, rows_of_peaks=pack_bits(labels), row=np.arange(len(bins), dtype=np.int32)),
            world,
            scale,
            torch.device("cpu"),
        )
        again = build(project.config, world, bins, run.model.trained, torch.device("cpu"))
        steps.learn(again, data.batch(*next(steps.draws(again, data.tiling))), data.counts)
        logits.append(again.model.state_dict())
        assert again.model.head.bias.grad[3] == 0 and (again.model.head.bias.grad[:3] != 0).all()
        assert (again.model.head.gain.grad[:, 3] == 0).all() and (again.model.head.gain.grad[:, 0] != 0).all()
    assert same(*logits)


def test_the_bias_of_a_held_out_track_comes_from_similar_ones(tmp_path: Path) -> None:
    model = tiny.model(8, trained=[True] * 7 + [False])
    with torch.no_grad():  # a bias that is a sum over levels, as far as ridge regression can tell
        model.head.bias[:] = torch.tensor([2.0 * (row["Target"] == "CTCF") - 3 for row in model.rows])
        model.head.bias[7] = 50.0
    fill_held_out(model, ["peaks"] * 8)
    assert model.rows[7]["Target"] == "GATA1"
    assert model.head.bias[7].item() == pytest.approx(-3, abs=0.35)
    assert model.head.bias[:7].tolist() == [2.0 * (row["Target"] == "CTCF") - 3 for row in model.rows[:7]]
    alone = tiny.model(8, trained=[True] * 7 + [False])
    fill_held_out(alone, ["peaks"] * 7 + ["signal"])  # no training track of its kind: nothing to learn from
    assert alone.head.bias[7].item() == -2


def test_the_adversary_and_the_model_keep_out_of_each_others_way(tmp_path: Path) -> None:
    world = tiny.dataset(tmp_path / "dataset")
    config = tiny.config(objective={"penalties": {"predictor": {"weight": 1.0, "warmup": 0.0}}})
    trainer = build(config, world, world.split("train"), np.ones(9, bool), torch.device("cpu"))
    latents = {g: torch.randn(32, n, requires_grad=True) for g, n in trainer.model.settings.groups.items()}
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    steps.teach_adversary(trainer, latents)
    assert same(before, dict(trainer.model.state_dict()))
    assert all(value.grad is None for value in latents.values())
    adversary = {name: value.clone() for name, value in trainer.penalties.named_parameters()}
    trainer.penalties.requires_grad_(False)
    trainer.penalties["predictor"](latents).backward()
    assert all(value.grad is not None for value in latents.values())
    trainer.optimiser.step()
    assert all(torch.equal(value, adversary[name]) for name, value in trainer.penalties.named_parameters())
    mains = {id(p) for group in trainer.optimiser.param_groups for p in group["params"]}
    assert mains.isdisjoint(id(p) for p in trainer.penalties.parameters())


def test_the_free_twin_starts_from_the_same_backbone(tmp_path: Path) -> None:
    world = tiny.dataset(tmp_path / "dataset")
    built = [
        build(tiny.config(model={"head": head}), world, world.split("train"), np.ones(9, bool), torch.device("cpu"))
        for head in ("conditioned", "free")
    ]
    assert same(dict(built[0].model.backbone.state_dict()), dict(built[1].model.backbone.state_dict()))


def test_biases_start_at_the_log_odds_of_each_track(tiny_dataset: Dataset) -> None:
    bias = start_bias(tiny_dataset)
    labels = tiny.labels(tiny_dataset.genome, "chr1", 8)[: len(tiny_dataset.split("train"))]
    assert 1 / (1 + np.exp(-bias[:8])) == pytest.approx((labels.sum(0) + 0.5) / (len(labels) + 1), rel=1e-4)
    assert bias[8] == 0


def test_best_weights_are_those_of_the_best_validation(tmp_path: Path) -> None:
    tiny.dataset(tmp_path / "dataset")
    run = training.train(tiny.project(tmp_path, train={"epochs": 4, "lr": 0.05}), gpus=0)
    lines = curve(tmp_path)
    best = max(range(len(lines)), key=lambda i: (lines[i]["skill"], -i))
    assert run.about["step"] == lines[best]["step"]
    world, cpu = open_dataset(tmp_path / "dataset"), torch.device("cpu")
    genome = GenomeOnDevice(world, run.model.window, run.model.left, cpu)
    data = LabelledBins(genome, world.split("validation"), world, run.signal_scale, cpu)
    again = figures(predict_bins(run.model, data, 0.1, torch.ones(9)))
    assert again["skill"] == pytest.approx(lines[best]["skill"], abs=1e-6)


def test_training_stops_early(tmp_path: Path) -> None:
    tiny.dataset(tmp_path / "dataset")
    settings = {"epochs": 30, "patience": 1, "lr": 1e-9}
    training.train(tiny.project(tmp_path, train=settings), gpus=0)
    assert len(curve(tmp_path)) < 30


def begun(folder: Path) -> tuple[Trainer, LabelledBins]:
    """A trainer before its first step, and its training bins."""
    world = tiny.dataset(folder / "dataset")
    bins, cpu = world.split("train"), torch.device("cpu")
    trainer = build(tiny.config(), world, bins, np.ones(9, bool), cpu)
    genome = GenomeOnDevice(world, trainer.model.window, trainer.model.left, cpu, 3)
    return trainer, LabelledBins(genome, bins, world, SignalScale.fit(bins.signal), cpu)


def test_not_finite_stops_before_the_optimiser(tmp_path: Path) -> None:
    trainer, data = begun(tmp_path)
    with torch.no_grad():
        trainer.model.head.bias[2] = torch.nan
    before = {name: value.clone() for name, value in trainer.model.named_parameters() if "bias" not in name}
    with pytest.raises(RunError, match="the loss of tracks P2 is not finite at step 0"):
        steps.learn(trainer, data.batch(*next(steps.draws(trainer, data.tiling))), data.counts)
    assert all(torch.equal(before[n], p) for n, p in trainer.model.named_parameters() if n in before)


def test_a_gradient_that_is_not_finite_leaves_the_weights_alone(tmp_path: Path) -> None:
    """The loss is finite, one gradient is not: the optimiser does not take the step, and the next one says so."""
    trainer, data = begun(tmp_path)
    batches = steps.draws(trainer, data.tiling)
    steps.learn(trainer, data.batch(*next(batches)), data.counts)
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    spoil = next(trainer.model.parameters()).register_hook(lambda gradient: gradient * torch.inf)
    steps.learn(trainer, data.batch(*next(batches)), data.counts)
    spoil.remove()
    assert all(torch.equal(before[name], value) for name, value in trainer.model.named_parameters())
    with pytest.raises(RunError, match=r"the gradient of backbone[a-z0-9_.]+ is not finite at step 1"):
        steps.learn(trainer, data.batch(*next(batches)), data.counts)


def test_a_training_that_diverges_names_the_batch_and_the_tracks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = tiny.dataset(tmp_path / "dataset")
    ours, bins = steps.prediction_loss, world.split("train")
    calls = iter(range(9))

    def spoilt(*given: object) -> tuple[torch.Tensor, torch.Tensor]:
        loss, per_track = ours(*given)
        worse = torch.tensor([1.0, torch.inf, 1, torch.nan, 1, 1, 1, 1, 1]) if next(calls) == 2 else torch.ones(9)
        return loss * worse.sum(), per_track * worse

    monkeypatch.setattr(steps, "prediction_loss", spoilt)
    with pytest.raises(
        RunError, match="loss of tracks P1, P3 is not finite at step 2, in the batch of the bins at"
    ) as caught:
        training.train(tiny.project(tmp_path), gpus=0)
    trainer, _ = begun(tmp_path / "again")
    first = [*steps.draws(trainer, Tiling.of(bins))][2].rows[0, 0]
    assert f"the bins at {world.contigs[bins.contig[first]]}:{bins.start[first] + 1}, " in str(caught.value)


def test_deterministic_training_gives_the_same_bits_and_keeps_its_threads(tmp_path: Path) -> None:
    tiny.dataset(tmp_path / "dataset")
    project = tiny.project(tmp_path, train={"deterministic": True})
    first = weights(training.train(project, gpus=0))
    again = weights(training.train(project, gpus=0, force=True))
    assert same(first, again) and not torch.are_deterministic_algorithms_enabled()
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        with pytest.raises(ConfigError, match=f"started with {before} threads, now there are {before + 1}"):
            training.train(project, gpus=0, resume=True)
    finally:
        torch.set_num_threads(before)


def test_an_existing_run_is_not_overwritten(trained: tuple[Run, Dataset]) -> None:
    run, _ = trained
    project = tiny.project(run.path.parent)
    with pytest.raises(OutputError, match="holds a run already"):
        training.train(project, gpus=0)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"train": {"held_out": ["P33"]}}, "did you mean P3"),
        ({"factors": {}}, "at least one factor"),
        ({"factors": {"x": {"column": "Tisue", "group": "biological"}}}, "did you mean Tissue"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, sections: dict[str, object], message: str) -> None:
    tiny.dataset(tmp_path / "dataset")
    with pytest.raises(MfdError, match=message):
        training.train(tiny.project(tmp_path, **sections), gpus=0)
    assert not (tmp_path / "run").exists()


def test_a_damaged_dataset_is_found_before_the_first_step(tmp_path: Path) -> None:
    tiny.dataset(tmp_path / "dataset")
    for name in ("genome.arrow", "tracks.arrow", "shards/train-00000.arrow"):
        file = tmp_path / "dataset" / name
        good = file.read_bytes()
        bad = bytearray(good)
        bad[len(bad) // 2] ^= 1
        file.write_bytes(bad)
        with pytest.raises(DatasetError, match="is damaged"):
            training.train(tiny.project(tmp_path), gpus=0)
        file.write_bytes(good)


def test_a_damaged_run_is_found(tmp_path: Path) -> None:
    tiny.dataset(tmp_path / "dataset")
    training.train(tiny.project(tmp_path), gpus=0)
    file = tmp_path / "run" / "model.safetensors"
    bad = bytearray(file.read_bytes())
    bad[-5] ^= 1
    file.write_bytes(bad)
    with pytest.raises(RunError, match="is damaged"):
        load_run(tmp_path / "run")


def test_a_reloaded_model_gives_the_same_bits(trained: tuple[Run, Dataset]) -> None:
    run, _ = trained
    codes = tiny.windows(4, run.model.window)
    again = load_run(run.path)
    assert torch.equal(again.model(codes).logits, run.model(codes).logits)
    assert again.tracks == run.tracks and again.config == run.config and dict(again.about) == dict(run.about)


@pytest.mark.gpu
@pytest.mark.parametrize("memory", ["device", "host"])
def test_training_on_a_gpu_learns_too(tmp_path: Path, memory: str) -> None:
    tiny.dataset(tmp_path / "dataset")
    settings = {"epochs": 40, "batch_size": 32, "lr": 0.01, "memory": memory}
    run = training.train(tiny.project(tmp_path, train=settings), gpus=1)
    assert run.about["validation"]["auroc_mean"] > 0.8


def test_resume_never_removes_a_model(tmp_path: Path) -> None:
    import shutil

    tiny.dataset(tmp_path / "dataset")
    training.train(tiny.project(tmp_path), gpus=0, resume=True)  # nothing to resume: a start
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "run" / "last")
    with pytest.raises(OutputError, match="holds a run already"):
        training.train(tiny.project(tmp_path), gpus=0, resume=True)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_penalties_are_weighed_in_units_of_what_frequencies_alone_lose(tmp_path: Path) -> None:
    world = tiny.dataset(tmp_path / "dataset")
    settings = {"weight": 0.5, "start": 0.25, "warmup": 0.5}
    config = tiny.config(
        objective={"penalties": {"covariance": settings, "predictor": {**settings, "published": True}}}
    )
    trained = np.array([True] * 7 + [False, True])
    trainer = build(config, world, world.split("train"), trained, torch.device("cpu"))
    labels = tiny.labels(world.genome, "chr1", 8)[: len(world.split("train"))]
    share = (labels.sum(0) + 0.5) / (len(labels) + 1)
    entropy = -share * np.log(share) - (1 - share) * np.log(1 - share)
    assert trainer.prior_loss == pytest.approx((entropy[:7].sum() + 0.5 * 0.1) / 8, rel=1e-4)
    trainer.total_steps = 100
    found = []
    for trainer.step in (0, 24, 25, 50, 75, 99):
        found.append(steps.penalty_weight(trainer, "covariance") / trainer.prior_loss)
    assert found == pytest.approx([0, 0, 0, 0.25, 0.5, 0.5])
    assert steps.penalty_weight(trainer, "predictor") == 0.5


def test_what_decays(tmp_path: Path) -> None:
    """Matrices of the backbone and of a free head; no metadata network, no bias, no scale."""
    for head in ("conditioned", "free"):
        model = tiny.model(model={"head": head})
        decaying, others = (
            {id(p) for p in group["params"]}
            for group in parameter_groups(model, tiny.config(train={"weight_decay": 0.5}))
        )
        names = {name for name, p in model.named_parameters() if id(p) in decaying}
        assert len(decaying) + len(others) == len(list(model.parameters())) and not decaying & others
        assert any(name.startswith("backbone") for name in names)
        assert not any(name.startswith("head.networks") or name.endswith("bias") for name in names)
        assert ("head.weight" in names) == (head == "free")
