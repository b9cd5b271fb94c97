"""Persons who lack a modality: nothing that is computed sees them there, and who has everything loses nothing."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kit import cohorts
from mfd_cli.base.errors import ConfigError
from mfd_cli.contig import train as training
from mfd_cli.contig.batches import Batch, PairedSplit, batch_of, fixed_images
from mfd_cli.contig.config import ContigProject, load_contig, only_modalities
from mfd_cli.contig.data.cohort import Cohort, Stack, open_cohort
from mfd_cli.contig.data.plink import open_plink, write_plink
from mfd_cli.contig.learn import learn
from mfd_cli.contig.prepare import prepare
from mfd_cli.contig.run import load_run
from mfd_cli.contig.skill import skill_of
from mfd_cli.contig.train import train
from mfd_cli.contig.trainer import Trainer, set_up
from mfd_cli.contig.validate import mean_over_families, weighed
from mfd_cli.engine.loop import Interrupted
from mfd_cli.engine.store import load_tensors

CPU = torch.device("cpu")
SMALL = ("train.epochs=2", "train.batch_size=50")
HIDDEN = tuple(f"modalities.{name}.encoder=h1" for name in ("snps", "pgs", "burden", "table"))
"""Encoders with a batch norm: it would see an absent row if anything did."""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> ContigProject:
    """A prepared project with four modalities, some of them missing; read only."""
    return cohorts.prepared_many(tmp_path_factory.mktemp("many") / "p", *SMALL, *HIDDEN)


@pytest.fixture(scope="module")
def cohort(many: ContigProject) -> Cohort:
    return open_cohort(many.cohort)


def trainer_of(project: ContigProject) -> Trainer:
    return set_up(project.config, open_cohort(project.cohort), CPU)


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Weights, buffers of norms, and the gradients of the last step."""
    gradients = {f"gradient of {n}": p.grad for n, p in trainer.model.named_parameters() if p.grad is not None}
    return {**trainer.model.state_dict(), **gradients}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return set(one) == set(two) and all(torch.equal(one[name], two[name]) for name in one)


def with_other_absent_rows(people: PairedSplit, seed: int) -> PairedSplit:
    """The same split, with any bytes and numbers in the rows of those who lack a modality."""
    rng = np.random.default_rng(seed)
    codes = {}
    for name, stack in people.share.codes.items():
        whole, absent = stack.take(np.arange(len(stack))), ~people.share.has[name]
        if whole.dtype == np.uint8:
            whole[absent] = rng.integers(0, 256, (int(absent.sum()), whole.shape[1]))
        else:
            whole[absent] = rng.normal(0, 1e6, (int(absent.sum()), whole.shape[1]))
        assert absent.any()
        codes[name] = Stack([whole], whole.shape[1], whole.dtype)
    return replace(people, share=replace(people.share, codes=codes))


def one_step(project: ContigProject, persons: np.ndarray, seed: int | None = None) -> Trainer:
    """A trainer after a step on these persons of the training split, with the rows of those absent changed by a seed."""
    trainer = trainer_of(project)
    people = trainer.training if seed is None else with_other_absent_rows(trainer.training, seed)
    learn(trainer, batch_of(people, persons, fixed_images(project.config, people)[persons]))
    return trainer


def test_what_absent_rows_hold_changes_no_bit(many: ContigProject) -> None:
    """Of the loss, of any gradient, of the weights after a step, and of what the norms have seen."""
    persons = np.arange(0, 60)
    one, two, three = (one_step(many, persons, seed) for seed in (None, 1, 2))
    assert one.sums == two.sums == three.sums
    assert same(state(one), state(two)) and same(state(one), state(three))
    assert any("running_mean" in name for name in state(one))


def test_a_row_that_is_there_does_change_it(many: ContigProject) -> None:
    """The test before this one can fail."""
    trainer = trainer_of(many)
    people = trainer.training
    persons = np.arange(0, 60)
    batch = batch_of(people, persons, fixed_images(many.config, people)[persons])
    batch.inputs["pgs"][0] += 1
    learn(trainer, batch)
    assert not same(state(trainer), state(one_step(many, persons)))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_batch_of_which_hardly_anybody_has_a_modality(many: ContigProject, cohort: Cohort, count: int) -> None:
    """With nobody, and with one person, it adds 0, and its norm sees nothing."""
    share = trainer_of(many).training.share
    lacking, having = np.flatnonzero(~share.has["burden"])[:20], np.flatnonzero(share.has["burden"])[:count]
    if count == 2:
        assert share.family[having[0]] != share.family[having[1]]
    before, after = trainer_of(many), one_step(many, np.concatenate([lacking, having]))
    norm = "encoders.burden.hidden.0.2.running_mean"
    seen = not torch.equal(before.model.state_dict()[norm], after.model.state_dict()[norm])
    moved = dict(after.model.named_parameters())["encoders.burden.hidden.0.0.weight"].grad is not None
    assert seen == moved == (count == 2)
    assert np.isfinite(after.sums["loss"]) and after.sums["loss"] > 0


def test_a_batch_of_which_nobody_can_be_told_from_anybody(many: ContigProject) -> None:
    """Two persons without a modality in common: the loss is 0, and nothing crashes."""
    share = trainer_of(many).training.share
    alone = {name: np.flatnonzero(who & (sum(share.has.values()) == 1)) for name, who in share.has.items()}
    after = one_step(many, np.array([alone["burden"][0], alone["table"][0]]))
    assert after.sums["loss"] == 0 and after.sums["chance"] == 0


def test_the_loss_is_the_weighted_mean_over_modalities(many: ContigProject) -> None:
    """Each alone, on those who have it, as the definition says; weights are those of all configured modalities."""
    from mfd_cli.contig.core.contrast import contrast

    settings = ["modalities.snps.weight=2", "train.augment.rotate=0", "train.augment.shift=0", "train.augment.scale=0"]
    settings += [f"train.augment.{name}=0" for name in ("brightness", "contrast", "colour")]
    settings += [f"modalities.{name}.dropout=0" for name in ("snps", "pgs", "burden", "table")]
    project = load_contig(many.file, [*SMALL, *settings])
    trainer, persons = trainer_of(project), np.arange(40)
    people = trainer.training
    model = trainer.model.train()
    images = fixed_images(project.config, people)[persons]
    with torch.no_grad():
        feature = model.feature(model.standardised(torch.from_numpy(people.share.pictures(images))))
        total = 0.0
        for name, modality in project.config.modalities.items():
            rows = np.flatnonzero(people.share.has[name][persons])
            inputs = torch.from_numpy(people.cohort.inputs(people.share, name, persons[rows]))
            z, u = model.image_projection(name, feature[rows]), model.person_projection(name, inputs)
            family = torch.from_numpy(people.share.family[persons[rows]])
            one = contrast(z, u, torch.arange(len(rows)), family, torch.tensor(1.0), 0.75)
            total += modality.weight * float(one.loss)
    assert one_step(project, persons).sums["loss"] == pytest.approx(total / 5, rel=1e-5)


def test_inner_is_outer_where_nothing_is_missing(tmp_path: Path) -> None:
    project = cohorts.prepared(tmp_path / "p", *SMALL)
    for join in ("outer", "inner"):
        train(load_contig(project.file, [*SMALL, f"objective.join={join}", f"data.run={join}"]), gpus=0)
    outer, inner = (load_tensors(project.folder / join / "model.safetensors", "") for join in ("outer", "inner"))
    assert same(outer, inner)


def test_inner_trains_on_persons_with_everything_and_outer_on_all(many: ContigProject, cohort: Cohort) -> None:
    share = cohort.share("train")
    complete = np.stack(list(share.has.values())).all(0)
    assert 0 < complete.sum() < len(complete)
    for join, expected in (("outer", share.persons), ("inner", share.persons[complete])):
        project = load_contig(many.file, [*SMALL, f"objective.join={join}"])
        assert trainer_of(project).training.share.persons.tolist() == expected.tolist()
    inner = PairedSplit.of(cohort, "train", join="inner").share
    whole = np.flatnonzero(complete)
    for name in cohort.columns:
        assert np.array_equal(cohort.inputs(inner, name, np.arange(len(whole))), cohort.inputs(share, name, whole))
    images = [share.images.name[row] for place in whole.tolist() for row in share.images_of()[place].tolist()]
    assert list(inner.images.name) == images
    rows = np.array([share.images.name.index(name) for name in images[:9]])
    assert np.array_equal(inner.pictures(np.arange(9)), share.pictures(rows))


def test_shuffled_pairs_are_of_persons_with_the_same_modalities(cohort: Cohort) -> None:
    permuted = PairedSplit.of(cohort, "train", 1, "outer")
    assert sorted(permuted.row.tolist()) == list(range(len(permuted)))
    for who in permuted.share.has.values():
        assert np.array_equal(who, who[permuted.row])
    assert (permuted.row != np.arange(len(permuted))).mean() > 0.8


def test_the_order_in_which_modalities_are_written_changes_no_bit(tmp_path: Path) -> None:
    one, two = (cohorts.prepared_many(tmp_path / name, *SMALL) for name in ("one", "two"))
    text = two.file.read_text() if two.file else ""
    sections = text.split("\n\n")
    where = [number for number, section in enumerate(sections) if section.startswith("[modalities.")]
    turned = [sections[number] for number in reversed(where)]
    for number, section in zip(where, turned):
        sections[number] = section
    (two.folder / "contig.toml").write_text("\n\n".join(sections))
    other = load_contig(two.folder / "contig.toml", list(SMALL))
    for project in (one, other):
        train(project, gpus=0)
    tensors = [load_tensors(project.run / "model.safetensors", "") for project in (one, other)]
    assert len(where) == 4 and same(*tensors)


def test_a_run_of_some_modalities_is_that_of_a_cohort_of_them(tmp_path: Path) -> None:
    """`--modalities` in training, and in preparing: the same persons, columns and weights."""
    project = cohorts.prepared_many(tmp_path / "p", *SMALL)
    names = ("snps", "table")
    some = only_modalities(project, names)
    train(some, gpus=0)
    alone = only_modalities(load_contig(project.file, [*SMALL, "data.cohort=few", "data.run=alone"]), names)
    prepare(alone, force=True)
    of_few = open_cohort(alone.cohort)
    assert set(of_few.columns) == set(names)
    assert load_run(project.run).inputs == {name: len(each) for name, each in of_few.columns.items()}
    # The split is dealt among those who are there: of a cohort without the others it is another one.
    with pytest.raises(ConfigError, match=r"--modalities names 'snp', which the project has not; did you mean snps\?"):
        only_modalities(project, ["snp"])
    with pytest.raises(ConfigError, match="the cohort has the modalities snps, table, not burden, pgs, snps, table"):
        train(load_contig(project.file, ["data.cohort=few", "data.run=more"]), gpus=0)


def test_what_test_persons_have_changes_no_byte_of_the_weights(tmp_path: Path) -> None:
    """In any file: calls of both genotype files, also so many missing that a row is absent, and cells of the table."""
    one, two = (cohorts.planted_many(tmp_path / name, *SMALL) for name in ("one", "two"))
    prepare(one)
    before = open_cohort(one.cohort)
    tested = {before.people.persons[place] for place in before.people.of("test").tolist()}
    for name in ("genotypes.bed", "exome.bed"):
        file = open_plink(two.folder / name)
        calls = np.concatenate([block for _, block in file.blocks()])
        own = np.array([person in tested for person in file.persons])
        calls[:, own] = np.array([-1, 2, 1, 0])[calls[:, own]]
        write_plink(two.folder / name, file.persons, file.families, file.variants, calls.astype(np.int8))
    table = two.folder / "measurements.tsv"
    header, *lines = table.read_text().splitlines()
    changed = [f"{line.split(chr(9))[0]}\t99\t\t\tyes" if line.split("\t")[0] in tested else line for line in lines]
    table.write_text("\n".join([header, *changed]) + "\n")
    prepare(two)
    after = open_cohort(two.cohort)
    assert after.share("test").has["snps"].sum() < before.share("test").has["snps"].sum()
    for project in (one, two):
        train(project, gpus=0)
    assert same(*(load_tensors(project.run / "model.safetensors", "") for project in (one, two)))


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In batches so small that some have nobody to learn a modality from."""
    small = ("train.epochs=1", "train.batch_size=5")
    whole, cut = (cohorts.prepared_many(tmp_path / name, *small, *HIDDEN) for name in ("whole", "cut"))
    train(whole, gpus=0)
    before, taken = training.learn, list[int]()

    def stopping(trainer: Trainer, batch: Batch) -> None:
        before(trainer, batch)
        taken.append(trainer.step)
        if len(taken) == 11:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(training, "learn", stopping)
    with pytest.raises(Interrupted):
        train(cut, gpus=0)
    train(cut, gpus=0, resume=True)
    tensors = [load_tensors(project.run / "model.safetensors", "") for project in (whole, cut)]
    assert len(taken) == 40 and same(*tensors)


def test_skills_are_weighed_as_the_loss_is() -> None:
    rng = np.random.default_rng(0)
    skills = rng.normal(size=(200, 2))
    whole = weighed(skills, np.array([3.0, 1.0]))
    assert np.allclose(whole, 0.75 * skills[:, 0] + 0.25 * skills[:, 1])
    skills[:80, 1] = np.nan
    some = weighed(skills, np.array([3.0, 1.0]))
    expected = 0.75 * skills[:, 0].mean() + 0.25 * skills[80:, 1].mean()
    assert some.mean() == pytest.approx(expected)
    mean, error = mean_over_families(some, np.arange(200))
    # The error of a weighted mean of two means, over resampled persons.
    drawn = rng.integers(0, 200, (4000, 200))
    means = [0.75 * skills[row, 0].mean() + 0.25 * np.nanmean(skills[row, 1]) for row in drawn]
    assert mean == pytest.approx(expected) and error == pytest.approx(np.std(means), rel=0.06)
    nobody = np.column_stack([skills[:, 0], np.full(200, np.nan)])
    assert weighed(nobody, np.array([1.0, 1.0])).mean() == pytest.approx(skills[:, 0].mean() / 2)


def test_validation_is_of_those_who_have_a_modality(many: ContigProject) -> None:
    """The skill of an encoder that nobody in validation can use is 0 there."""
    trainer = trainer_of(many)
    skill, error = skill_of(trainer)
    assert abs(skill) < 0.5 and 0 < error < 0.5
    nobody = {name: np.zeros(len(who), bool) for name, who in trainer.validation.share.has.items()}
    trainer.validation = replace(trainer.validation, share=replace(trainer.validation.share, has=nobody))
    assert skill_of(trainer) == (0.0, 0.0)


def test_too_few_persons_are_told(tmp_path: Path) -> None:
    project = cohorts.planted_many(tmp_path / "p")
    persons = [line.split("\t")[0] for line in (project.folder / "measurements.tsv").read_text().splitlines()[1:]]
    exome = {line.split()[1] for line in (project.folder / "exome.fam").read_text().splitlines()}
    apart = [person for person in persons if person not in exome]
    table = (project.folder / "measurements.tsv").read_text().splitlines()
    (project.folder / "measurements.tsv").write_text(
        "\n".join([table[0], *(line for line in table[1:] if line.split("\t")[0] in apart)]) + "\n"
    )
    prepare(project)
    inner = load_contig(project.file, ["objective.join=inner"])
    with pytest.raises(ConfigError, match=r"0 training persons have all of burden, pgs, snps, table"):
        train(inner, gpus=0)
