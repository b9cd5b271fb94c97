"""The rivals of ContIG: the same network and schedule, what each is told, exact resume, and what none of them can do."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from kit import cohorts
from kit.harm import in_process, snapshot
from mfd_cli.base.errors import ConfigError, TableError
from mfd_cli.contig import train as training
from mfd_cli.contig.batches import PairedSplit, training_batches
from mfd_cli.contig.config import ContigProject, ContrastSection, load_contig, only_modalities
from mfd_cli.contig.core.views import nt_xent
from mfd_cli.contig.data.cohort import open_cohort
from mfd_cli.contig.embed import embed
from mfd_cli.contig.explain import explain
from mfd_cli.contig.learn import learn
from mfd_cli.contig.objectives.eyes import other_eyes
from mfd_cli.contig.objectives.objectives import OBJECTIVES
from mfd_cli.contig.prepare import prepare
from mfd_cli.contig.retrieve import retrieve
from mfd_cli.contig.run import CONTROLS, VIEWS, load_run
from mfd_cli.contig.run_gwas import run_gwas
from mfd_cli.contig.seen import controls_of
from mfd_cli.contig.skill import skill_of
from mfd_cli.contig.train import train
from mfd_cli.contig.trainer import set_up
from mfd_cli.contig.training_labels import training_labels
from mfd_cli.engine.loop import Interrupted
from mfd_cli.engine.store import load_tensors

SMALL = ("train.epochs=3", "train.batch_size=50")
RIVALS = ("simclr", "simclr-eyes", "supervised")
CPU = torch.device("cpu")
QUIET = ["--gpus", "0", "--threads", "1", "-q"]


def of_kind(project: ContigProject, kind: str, *settings: str) -> ContigProject:
    return load_contig(project.file, [*SMALL, f"objective.kind={kind}", *settings])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(folder / "model.safetensors", "")


def same(one: Path, two: Path) -> bool:
    first, second = weights(one), weights(two)
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


def rewritten(project: ContigProject, change: Any) -> None:
    """Change the cells of labels.tsv: a function of the row's number and its cells."""
    file = project.folder / "labels.tsv"
    header, *rows = [line.split("\t") for line in file.read_text().splitlines()]
    file.write_text(
        "\n".join("\t".join(row) for row in [header, *(change(n, row) for n, row in enumerate(rows))]) + "\n"
    )


def test_every_kind_that_can_be_set_is_there() -> None:
    kinds = get_args(ContrastSection.model_fields["kind"].annotation)
    assert tuple(OBJECTIVES) == kinds and set(CONTROLS) - {"random", "shuffled"} <= set(kinds)


# -- what each is trained with -------------------------------------------------------------------------------------------


def test_rivals_begin_with_the_same_network_and_have_no_genetic_side(tmp_path: Path) -> None:
    project = cohorts.prepared(tmp_path / "p")
    cohort = open_cohort(project.cohort)
    trunks = []
    for kind in OBJECTIVES:
        own = of_kind(project, kind)
        model = set_up(own.config, cohort, CPU, labels=training_labels(own, cohort, "")).model
        trunks.append(model.trunk.state_dict())
        assert bool(len(model.encoders)) == bool(len(model.log_temperature)) == (kind == "contig")
    assert all(torch.equal(trunks[0][name], other[name]) for other in trunks[1:] for name in trunks[0])


@pytest.mark.parametrize("kind", RIVALS)
def test_a_rival_is_trained_resumed_and_known(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = (cohorts.prepared(tmp_path / name) for name in ("whole", "cut"))
    run = train(of_kind(whole, kind), gpus=0)
    assert run.name == kind and not run.inputs and not run.variants and run.persons
    assert [column.name for column in run.labels] == (
        ["disc_radius", "disc_angle", "vessel_curvature"] if kind == "supervised" else []
    )
    lines = [json.loads(line) for line in (whole.run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12] and "temperature snps" not in lines[0]
    before, taken = training.learn, []

    def learn(trainer: Any, batch: Any) -> None:
        before(trainer, batch)
        taken.append(trainer.step)
        if len(taken) == 6:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(training, "learn", learn)
    with pytest.raises(Interrupted):
        train(of_kind(cut, kind), gpus=0)
    train(of_kind(cut, kind), gpus=0, resume=True)
    assert same(whole.run, cut.run) and (whole.run / "model.json").read_bytes() == (cut.run / "model.json").read_bytes()
    with pytest.raises(ConfigError, match=rf'objective\.kind was "{kind}" and is "contig" now'):
        train(load_contig(cut.file, list(SMALL)), gpus=0, resume=True)


def test_the_two_changes_of_a_picture_differ_and_are_those_of_the_step(tmp_path: Path) -> None:
    project = of_kind(cohorts.prepared(tmp_path / "p"), "simclr")
    trainer = set_up(project.config, open_cohort(project.cohort), CPU)
    pictures = torch.from_numpy(trainer.training.share.pictures(np.arange(8)))
    one, other, again = (training_step(trainer, pictures, number) for number in (0, 1, 1))
    assert torch.equal(other, again) and not torch.allclose(one, other, atol=0.1)
    trainer.step = 1
    assert not torch.allclose(training_step(trainer, pictures, 1), other, atol=0.1)


def training_step(trainer: Any, pictures: torch.Tensor, again: int) -> torch.Tensor:
    from mfd_cli.contig.step import changed_pictures

    return changed_pictures(trainer, pictures, again)


def test_the_other_eye_is_of_the_same_person(tmp_path: Path) -> None:
    project = cohorts.prepared(tmp_path / "p")
    people = PairedSplit.of(open_cohort(project.cohort), "train")
    images = people.share.images
    partner, known = other_eyes(people, np.full(len(images.owner), 0.99))
    assert 0.97 < known.mean() < 1  # some pictures were cut short, and are not there
    alone = np.bincount(images.owner)[images.owner] == 1
    assert (known == ~alone).all()
    assert (images.owner[partner[known]] == images.owner[known]).all()
    eyes = np.array(images.eye)
    assert (eyes[partner[known]] != eyes[known]).all()


def test_the_skill_of_eyes_is_that_of_the_loss(tmp_path: Path) -> None:
    """Validation persons as one batch, by hand: each person's eyes as they are."""
    project = of_kind(cohorts.prepared(tmp_path / "p"), "simclr-eyes", "train.batch_size=4096")
    trainer = set_up(project.config, open_cohort(project.cohort), CPU)
    share, model = trainer.validation.share, trainer.average
    rows = [own for own in share.images_of() if len(own) == 2]
    with torch.no_grad():
        z = [
            model.image_projection(
                VIEWS, model.feature(model.standardised(torch.from_numpy(share.pictures(np.array(own)))))
            )
            for own in zip(*rows)
        ]
    kept = [number for number, own in enumerate(share.images_of()) if len(own) == 2]
    found = nt_xent(z[0], z[1], torch.from_numpy(share.family[kept]), 0.2)
    assert skill_of(trainer)[0] == pytest.approx(float((found.chance - found.loss).mean()), abs=1e-5)


def test_labels_of_test_persons_change_no_byte_and_those_of_training_persons_do(tmp_path: Path) -> None:
    projects = [cohorts.prepared(tmp_path / name) for name in ("plain", "test", "train")]
    people = open_cohort(projects[0].cohort).people
    for project, split in zip(projects[1:], ("test", "train")):
        names = {people.persons[place] for place in people.of(split).tolist()}
        rewritten(project, lambda n, row, names=names: [row[0], "9.5", *row[2:]] if row[0] in names and n % 2 else row)
    for project in projects:
        train(of_kind(project, "supervised"), gpus=0)
    assert same(projects[0].run, projects[1].run) and not same(projects[0].run, projects[2].run)


def test_labels_that_changed_are_told_when_a_training_goes_on(tmp_path: Path) -> None:
    project = of_kind(cohorts.prepared(tmp_path / "p"), "supervised")
    train(project, gpus=0)
    rewritten(project, lambda n, row: [row[0], "0.5", *row[2:]] if n == 3 else row)
    with pytest.raises(ConfigError, match=r"labels\.sha256 was"):
        train(of_kind(project, "supervised", "train.epochs=4"), gpus=0, resume=True)


def test_shuffled_labels_are_others_labels(tmp_path: Path) -> None:
    project = of_kind(cohorts.prepared(tmp_path / "p"), "supervised")
    cohort = open_cohort(project.cohort)
    own, permuted = (training_labels(project, cohort, control) for control in ("", "shuffled"))
    assert own is not None and permuted is not None
    owner = cohort.share("train").images.owner
    for labels in (own, permuted):  # the images of a person say the same
        assert (labels.training[1:][owner[1:] == owner[:-1]] == labels.training[:-1][owner[1:] == owner[:-1]]).all()
    first = np.searchsorted(owner, np.arange(owner[-1] + 1))
    assert sorted(own.training[first, 0].tolist()) == sorted(permuted.training[first, 0].tolist())
    assert (own.training != permuted.training).mean() > 0.9


def test_labels_are_told_of_images_too_and_missing_ones_are_passed_over(tmp_path: Path) -> None:
    project = cohorts.prepared(tmp_path / "p")
    share = open_cohort(project.cohort).share("train")
    lines = ["image\tperson\tword\tnumber"]
    for split in ("train", "validation"):
        share = open_cohort(project.cohort).share(split)
        lines += [
            f"{name}\tignored\t{('left', 'right', '')[number % 3]}\t{number if number % 2 else 'NA'}"
            for number, name in enumerate(share.images.name)
        ]
    (project.folder / "labels.tsv").write_text("\n".join(lines) + "\n")
    project = of_kind(project, "supervised", 'objective.label_columns=["*"]')
    labels = training_labels(project, open_cohort(project.cohort), "")
    assert labels is not None and [column.name for column in labels.columns] == ["word", "number"]
    assert labels.columns[0].levels == ("left", "right") and labels.columns[0].shares == pytest.approx(
        (0.5, 0.5), abs=0.01
    )
    assert np.isnan(labels.training[:, 0]).mean() == pytest.approx(1 / 3, abs=0.01)
    known = labels.training[:, 1][~np.isnan(labels.training[:, 1])]
    assert known.mean() == pytest.approx(0, abs=1e-6) and known.std() == pytest.approx(1, abs=1e-6)
    assert load_run(train(project, gpus=0).path).labels == labels.columns


# -- controls, and what a rival cannot do --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run and all controls, made as they are typed; read only."""
    project = cohorts.prepared(tmp_path_factory.mktemp("rivals") / "p")
    words = ["contig", "train", "--epochs", "1", "--controls", "random,shuffled,simclr,simclr-eyes", *QUIET]
    done = in_process(words, project.folder)
    assert done.code == 0, done.told
    assert "contig-run/control-simclr-eyes: skill " in done.said
    return project.folder


def test_rivals_stand_beside_a_run_where_they_can(beside: Path, tmp_path: Path) -> None:
    project = load_contig(beside / "contig.toml")
    run, cohort = load_run(project.run), open_cohort(project.cohort)
    others = controls_of(run)
    assert list(others) == ["random", "shuffled", "simclr", "simclr-eyes"]
    assert [one.name for one in others.values()] == list(others) and others["simclr"].config.objective.kind == "simclr"
    found = retrieve(run, cohort, tmp_path / "retrieve", beside=others)
    assert {row["run"] for row in found.rows} == {"contig", "random", "shuffled"}
    assert "simclr, simclr-eyes: not here, since pictures alone were learnt from" in found.lines()
    explain(run, cohort, tmp_path / "explain", beside=others)
    tested = run_gwas(project, run, cohort, tmp_path / "gwas", beside=others, workers=1)
    assert [row["run"] for row in tested.beside] == ["contig", *others]


def test_what_a_rival_cannot_do_is_told(beside: Path, tmp_path: Path) -> None:
    rival = load_run(beside / "contig-run" / "control-simclr")
    cohort = open_cohort(beside / "cohort")
    for call, what in (
        (lambda: retrieve(rival, cohort, tmp_path / "out"), "retrieve"),
        (lambda: explain(rival, cohort, tmp_path / "out"), "attribute"),
        (lambda: embed(rival, cohort, tmp_path / "out.parquet", projections=True), "project"),
    ):
        with pytest.raises(ConfigError, match=f"which knows no genetic data: there is nothing to {what}"):
            call()
    assert not list(tmp_path.iterdir())
    assert embed(rival, cohort, tmp_path / "out.parquet", splits=("test",)).rows > 100


def test_rivals_are_typed_shown_and_verified(beside: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(beside, tmp_path / "p"))
    words = ["contig", "train", "--objective", "supervised", "--run", "told", "--epochs", "1", "--controls", "shuffled"]
    done = in_process([*words, *QUIET], folder)
    assert done.code == 0 and "told/control-shuffled: skill " in done.said, done.told
    said = in_process(["info", "told"], folder).said
    assert "  objective: supervised\n" in said and "  labels: disc_radius, disc_angle, vessel_curvature\n" in said
    assert "  objective: simclr\n  control: simclr\n" in in_process(["info", "contig-run/control-simclr"], folder).said
    assert in_process(["verify", "told"], folder).said == "told: every file of the run is as it was written\n"
    for words in (["retrieve"], ["explain"]):
        done = in_process(["contig", *words, "--run", "told", "-o", "new", *QUIET], folder)
        assert done.code == 2 and "told: was trained with objective.kind = 'supervised'" in done.told
    done = in_process(["contig", "gwas", "--run", "told", "--beside", "contig-run", *QUIET], folder)
    assert done.code == 0 and (folder / "gwas" / "report.html").exists(), done.told
    model = folder / "told" / "model.json"
    model.write_text(model.read_text().replace("disc_radius", "disc_sadius", 1))
    assert in_process(["verify", "told"], folder).code == 2


BAD = {
    "an objective that is none": (["--objective", "simcrl"], "simcrl"),
    "a control that is the objective": (
        ["--objective", "simclr", "--controls", "simclr"],
        "is what objective.kind says",
    ),
    "pairs that are none": (["--objective", "simclr", "--controls", "shuffled"], "which has no pairs of pictures"),
    "no labels": (["--objective", "supervised", "--set", "objective.labels=none"], "none: no such file"),
    "a column that is none": (
        ["--objective", "supervised", "--set", 'objective.label_columns=["disc_radios"]'],
        "no column 'disc_radios' in labels.tsv; did you mean disc_radius?",
    ),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_mistake_is_told_before_anything_is_trained(name: str, tmp_path: Path) -> None:
    words, says = BAD[name]
    folder = cohorts.prepared(tmp_path / "p").folder
    before = snapshot(folder)
    done = in_process(["contig", "train", *words, *QUIET], folder)
    assert done.code == 2 and says in done.told and "Traceback" not in done.told, done.told
    assert done.told.count("mfd: error:") == 1 and snapshot(folder) == before


def test_eyes_that_are_not_known_are_told_before_the_run_is_trained(tmp_path: Path) -> None:
    project = cohorts.planted(tmp_path / "p")
    lines = (project.folder / "images.tsv").read_text().replace("\tleft\t", "\t\t").splitlines()
    (project.folder / "images.tsv").write_text("\n".join(lines) + "\n")
    prepare(project)
    done = in_process(["contig", "train", "--controls", "simclr-eyes", *QUIET], project.folder)
    assert done.code == 2 and "0 of the 200 train persons have an image of each eye" in done.told, done.told
    assert not project.run.exists()


LABELS = {
    "nobody": ("person\tx\nnobody\t1\n", TableError, "is in the column person"),
    "no ids": ("who\tx\nnobody\t1\n", TableError, "has no column image or person"),
    "all the same": ("person\tx\n{}", TableError, "column x: the 200 training persons that have it all have the same"),
    "names": ("person\tx\n{}", TableError, "different words: a label has at most 50"),
    "no labels": ("person\tx\n{}", TableError, "column x: no training person has it"),
}


@pytest.mark.parametrize("name", list(LABELS))
def test_labels_that_teach_nothing_are_told(name: str, tmp_path: Path) -> None:
    text, error, says = LABELS[name]
    project = of_kind(cohorts.prepared(tmp_path / "p"), "supervised", 'objective.label_columns=["*"]')
    persons = open_cohort(project.cohort).people.persons
    cell = {"all the same": "1", "names": "{}", "no labels": "NA"}.get(name, "")
    rows = "".join(f"{person}\t{cell.format(person)}\n" for person in persons)
    (project.folder / "labels.tsv").write_text(text.format(rows))
    with pytest.raises(error, match=says):
        train(project, gpus=0)
    assert not project.run.exists()


def test_who_lacks_the_modalities_of_a_run_has_labels_all_the_same(tmp_path: Path) -> None:
    """A rival needs no genetic data: everybody's pictures count, and each image has the labels of its own person."""
    project = only_modalities(of_kind(cohorts.prepared_many(tmp_path / "p"), "supervised"), ["snps"])
    cohort = open_cohort(project.cohort)
    labels = training_labels(project, cohort, "")
    assert labels is not None
    trainer = set_up(project.config, cohort, torch.device("cpu"), labels=labels)
    for split, people, values in (
        ("train", trainer.training, labels.training),
        ("validation", trainer.validation, labels.validation),
    ):
        share = cohort.share(split)
        assert not share.joined(("snps",), "outer").all(), "some lack them"
        assert len(values) == len(people.share.images.owner) == len(share.images.owner)
        assert np.array_equal(people.share.persons[people.share.images.owner], share.persons[share.images.owner])


@pytest.mark.parametrize("kind", RIVALS)
def test_a_rival_keeps_technique_apart_as_the_model_does(kind: str, tmp_path: Path) -> None:
    """Its head reads the biological slice alone, and a step tells the factors from the technical one."""
    project = of_kind(cohorts.sliced(tmp_path / "p"), kind)
    cohort = open_cohort(project.cohort)
    trainer = set_up(project.config, cohort, torch.device("cpu"), labels=training_labels(project, cohort, ""))
    (batch,) = [batch for batch, _ in zip(training_batches(project.config, trainer.training, 0, 1), range(1))]
    trainer.model.train()
    aim = OBJECTIVES[kind].loss(trainer, batch)
    aim.feature.retain_grad()
    aim.loss.backward()
    assert aim.feature.grad is not None and len(aim.feature) == len(aim.images)
    places = trainer.model.slices
    assert aim.feature.grad[:, places["biological"]].any() and not aim.feature.grad[:, places["technical"]].any()
    before = {name: value.clone() for name, value in trainer.model.factors.state_dict().items()}
    learn(trainer, batch)
    assert trainer.sums["technical"] > 0
    assert all(not torch.equal(before[name], value) for name, value in trainer.model.factors.state_dict().items())
