"""Training an encoder: the same curve each time, exact resume, controls, what it must not see, and what is refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kit import cohorts
from kit.harm import snapshot
from mfd_cli.base.errors import ConfigError, OutputError, RunError
from mfd_cli.contig import step as steps
from mfd_cli.contig import train as training
from mfd_cli.contig.batches import PairedSplit, fixed_batches, kept_inputs, training_batches
from mfd_cli.contig.config import ContigProject, load_contig
from mfd_cli.contig.core.augment import Change, changed
from mfd_cli.contig.data.cohort import open_cohort
from mfd_cli.contig.prepare import prepare
from mfd_cli.contig.run import load_run
from mfd_cli.contig.train import train, trained_to_its_end
from mfd_cli.contig.trainer import set_up
from mfd_cli.contig.validate import mean_over_families
from mfd_cli.engine.loop import Interrupted
from mfd_cli.engine.store import load_tensors

SMALL = ("train.epochs=3", "train.batch_size=50")


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(folder / "model.safetensors", "")


def same(one: Path, two: Path) -> bool:
    first, second = tensors(one), tensors(two)
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


def test_the_same_seed_gives_the_same_run_and_a_curve(tmp_path: Path) -> None:
    one, two = (cohorts.prepared(tmp_path / name, *SMALL) for name in ("one", "two"))
    for project in (one, two):
        train(project, gpus=0)
    assert same(one.run, two.run)
    assert (one.run / "model.json").read_bytes() == (two.run / "model.json").read_bytes()
    lines = [json.loads(line) for line in (one.run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12] and [line["persons"] for line in lines] == [200, 400, 600]
    assert one.run.stat().st_mode & 0o077 == 0 and not load_run(one.run).about.get("unfinished")
    other = load_contig(one.file, [*SMALL, "train.seed=2", "data.run=other"])
    train(other, gpus=0)
    assert not same(one.run, other.run)


@pytest.mark.parametrize("after", [1, 5, 8])
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = (cohorts.prepared(tmp_path / name, *SMALL) for name in ("whole", "cut"))
    train(whole, gpus=0)
    before, taken = training.learn, []

    def learn(trainer: Any, batch: Any) -> None:
        before(trainer, batch)
        taken.append(trainer.step)
        if len(taken) == after:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(training, "learn", learn)
    with pytest.raises(Interrupted, match="interrupted; the state is saved") as stopped:
        train(cut, gpus=0)
    assert stopped.value.exit_code == 143 and stopped.value.hint == "mfd contig train --resume goes on from here"
    assert taken == list(range(1, after + 1)) and trained_to_its_end(cut, "") is None
    train(cut, gpus=0, resume=True)
    assert same(whole.run, cut.run) and trained_to_its_end(cut, "") is not None
    skills = [
        [json.loads(line)["validation skill"] for line in (project.run / "metrics.jsonl").read_text().splitlines()]
        for project in (whole, cut)
    ]
    assert skills[0] == skills[1]


def test_what_test_persons_look_like_changes_no_byte_of_the_weights(tmp_path: Path) -> None:
    """Nor do their genes: statistics, images and dosages are of training persons; validation persons choose the epoch."""
    one, two = (cohorts.planted(tmp_path / name) for name in ("one", "two"))
    prepare(one)
    cohort = open_cohort(one.cohort)
    tested = {cohort.people.persons[place] for place in cohort.people.of("test").tolist()}
    bed = two.folder / "genotypes.bed"
    raw = np.frombuffer(bed.read_bytes(), np.uint8).copy()
    persons = [line.split()[1] for line in (two.folder / "genotypes.fam").read_text().splitlines()]
    calls = raw[3:].reshape(50, -1)
    for number, person in enumerate(persons):
        if person in tested:
            calls[:, number // 4] ^= np.uint8(2 << 2 * (number % 4))
            (two.folder / "images" / f"{person}_left.png").write_bytes(
                (two.folder / "images" / f"{person}_right.png").read_bytes()
            )
    bed.write_bytes(raw.tobytes())
    prepare(two)
    assert open_cohort(two.cohort).digest != cohort.digest
    for project in (one, two):
        train(load_contig(project.file, list(SMALL)), gpus=0)
    assert same(one.run, two.run)


def test_controls_have_the_knowledge_taken_out(tmp_path: Path) -> None:
    project = cohorts.trained(tmp_path / "p")
    run = load_run(project.run)
    random, shuffled = (load_run(project.run / f"control-{name}") for name in ("random", "shuffled"))
    assert (run.name, random.name, shuffled.name) == ("contig", "random", "shuffled")
    assert not random.learned and not shuffled.learned and not random.persons and shuffled.persons == run.persons
    fresh = set_up(run.config, open_cohort(project.cohort), torch.device("cpu")).model
    for name, weights in random.model.named_parameters():
        assert torch.equal(weights, dict(fresh.named_parameters())[name])
    assert not torch.equal(random.model.trunk.norms[0].running_mean, fresh.trunk.norms[0].running_mean)
    own, permuted = (
        PairedSplit.of(open_cohort(project.cohort), "train"),
        PairedSplit.of(open_cohort(project.cohort), "train", 1),
    )
    assert own.row.tolist() == list(range(len(own))) and sorted(permuted.row.tolist()) == own.row.tolist()
    assert (permuted.row != own.row).mean() > 0.9


def test_who_was_trained_on_is_known_and_nobody_can_read_who(tmp_path: Path) -> None:
    project = cohorts.trained(tmp_path / "p")
    run, people = load_run(project.run), open_cohort(project.cohort).people
    knew = {split: np.mean([run.knew(people.persons[n]) for n in people.of(split)]) for split in ("train", "test")}
    assert knew == {"train": 1.0, "test": 0.0}
    text = (project.run / "model.json").read_text()
    assert not any(person in text for person in people.persons)


def test_batches_are_a_function_of_seed_and_step(tmp_path: Path) -> None:
    project = cohorts.prepared(tmp_path / "p", *SMALL)
    people = PairedSplit.of(open_cohort(project.cohort), "train")
    whole = list(training_batches(project.config, people, 0, 12))
    rest = list(training_batches(project.config, people, 6, 12))
    assert len(whole) == 12 and len(rest) == 6
    for one, two in zip(whole[6:], rest):
        assert torch.equal(one.pictures, two.pictures) and torch.equal(one.inputs["snps"], two.inputs["snps"])
    families = torch.cat([batch.family for batch in whole[:4]])
    assert sorted(families.tolist()) == sorted(people.share.family.tolist())  # an epoch has everybody once
    fixed = [list(fixed_batches(project.config, people, 100)) for _ in range(2)]
    assert sum(len(persons) for persons, _ in fixed[0]) == 100
    assert all(torch.equal(a[1].pictures, b[1].pictures) for a, b in zip(*fixed))
    kept = [kept_inputs(project.config, step, "snps", 0, (40, 50)) for step in (3, 3, 4)]
    assert all(each is not None for each in kept)
    assert torch.equal(kept[0], kept[1]) and not torch.equal(kept[0], kept[2])  # type: ignore[arg-type]
    assert set(kept[0].unique().tolist()) == {0.0, 2.0} and abs(float(kept[0].mean()) - 1) < 0.1  # type: ignore[union-attr]


def test_pictures_are_changed_within_bounds() -> None:
    pictures = torch.rand(64, 3, 16, 16)
    nothing = Change(0, 0, 0, 0, 0, 0)
    assert torch.allclose(changed(pictures, nothing, np.random.default_rng(0)), pictures, atol=1e-5)
    shifted = changed(pictures, Change(0, 0, 0, 0.5, 0, 0), np.random.default_rng(0)) - pictures
    spread = shifted.flatten(1)
    assert float(spread.std(1).max()) < 1e-5 and 0.3 < float(spread.mean(1).std()) < 0.7
    turned = changed(pictures, Change(180, 0, 0, 0, 0, 0), np.random.default_rng(1))
    assert not torch.allclose(turned, pictures, atol=0.1)
    again = changed(pictures, Change(180, 0, 0, 0, 0, 0), np.random.default_rng(1))
    assert torch.equal(turned, again)


def test_the_standard_error_counts_families_as_one() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=400)
    mean, error = mean_over_families(values, np.arange(400))
    assert mean == pytest.approx(values.mean()) and error == pytest.approx(values.std(ddof=1) / 20, rel=1e-9)
    twice = mean_over_families(np.repeat(values, 2), np.repeat(np.arange(400), 2))
    assert twice == (pytest.approx(mean), pytest.approx(error))


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = cohorts.prepared(tmp_path / "p", *SMALL)
    before = steps.contrast

    def spoilt(*given: Any) -> Any:
        found = before(*given)
        return found._replace(loss=found.loss * float("nan"))

    monkeypatch.setattr(steps, "contrast", spoilt)
    with pytest.raises(RunError, match="the loss is not finite at step 0"):
        train(project, gpus=0)


@pytest.fixture
def begun(tmp_path: Path) -> ContigProject:
    project = cohorts.prepared(tmp_path / "p", *SMALL)
    train(project, gpus=0)
    return project


def test_what_is_in_the_way_is_told(begun: ContigProject) -> None:
    with pytest.raises(OutputError, match="holds a run already"):
        train(begun, gpus=0)
    other = load_contig(begun.file, [*SMALL, "train.lr=1e-3", "model.width=16"])
    with pytest.raises(ConfigError, match=r"model\.width was 32 and is 16 now; train\.lr was 0\.004 and is 0\.001 now"):
        train(other, gpus=0, resume=True)
    longer = load_contig(begun.file, ["train.epochs=4", "train.batch_size=50"])
    assert train(longer, gpus=0, resume=True).about["step"] in (4, 8, 12, 16)
    with pytest.raises(ConfigError, match="is at step 16, beyond the 8 steps"):
        train(load_contig(begun.file, ["train.epochs=2", "train.batch_size=50"]), gpus=0, resume=True)
    named = load_contig(begun.file, [*SMALL, 'modalities.more.kind="snps"', "data.run=more"])
    with pytest.raises(ConfigError, match="the cohort has the modalities snps, not more, snps"):
        train(named, gpus=0)


def test_a_damaged_run_is_told(begun: ContigProject) -> None:
    before = snapshot(begun.run)
    for name, says in (("model.safetensors", "is damaged: its sha256"), ("model.json", "is not JSON text|is damaged")):
        file = begun.run / name
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 2] ^= 0xFF
        kept = file.read_bytes()
        file.write_bytes(raw)
        with pytest.raises(RunError, match=says):
            load_run(begun.run)
        file.write_bytes(kept)
    assert snapshot(begun.run) == before
    with pytest.raises(RunError, match="there is no trained model here"):
        load_run(begun.folder)


@pytest.mark.parametrize("encoder", ["none", "linear", "h1", "h12"])
def test_every_encoder_learns(encoder: str, tmp_path: Path) -> None:
    """On persons that it is trained on: the loss falls well below guessing."""
    settings = (f"modalities.snps.encoder={encoder}", "modalities.snps.dropout=0", "modalities.snps.decay=0")
    project = cohorts.prepared(tmp_path / "p", "train.epochs=12", "train.batch_size=50", "train.patience=99", *settings)
    train(project, gpus=0)
    lines = [json.loads(line) for line in (project.run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["training skill"] > lines[0]["training skill"] + 0.05
