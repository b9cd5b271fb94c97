"""Fine-tuning: probes are scikit-learn's, intervals are of families, test labels teach nothing; and every mistake is told."""

from __future__ import annotations

import csv
import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy.special import expit, softmax
from sklearn import metrics
from sklearn.linear_model import LogisticRegression, Ridge

from kit import cohorts
from kit.harm import in_process, snapshot
from mfd_cli.base.errors import ConfigError
from mfd_cli.contig.config import ContigProject, load_contig
from mfd_cli.contig.core.family_draws import family_draws
from mfd_cli.contig.data.cohort import Cohort, open_cohort
from mfd_cli.contig.data.labels import read_labels
from mfd_cli.contig.finetune.finetune import finetune
from mfd_cli.contig.finetune.full import outputs_of, tune
from mfd_cli.contig.finetune.logistic import binary, multinomial
from mfd_cli.contig.finetune.probe import STRENGTHS, fit_probe
from mfd_cli.contig.finetune.target import Target, targets_of, task_of
from mfd_cli.contig.finetune.tasks import TASKS
from mfd_cli.contig.finetune.units import subset, units_of
from mfd_cli.contig.prepare import prepare
from mfd_cli.contig.run import ContigRun, load_run
from mfd_cli.contig.seen import controls_of, see
from mfd_cli.contig.train import train
from mfd_cli.engine.store import load_tensors

CPU = torch.device("cpu")
QUIET = ["--gpus", "0", "--threads", "1", "-q"]
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> ContigProject:
    """A trained project, with more labels than the simulator writes; read only."""
    project = cohorts.trained(tmp_path_factory.mktemp("finetune") / "p")
    with (project.folder / "labels.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    lines = ["person\tradius\tgrade\tword\tlarge\ttilted"]
    for number, row in enumerate(rows):
        radius, angle = float(row["disc_radius"]), float(row["disc_angle"])
        word = "NA" if number % 7 == 0 else ("far" if radius > 0.4 else "near" if radius < -0.4 else "between")
        tilted = "" if number % 5 == 0 else str(int(angle > 0))
        lines.append(f"{row['person']}\t{3 * radius + 10}\t{row['grade']}\t{word}\t{int(radius > 0)}\t{tilted}")
    (project.folder / "labels.tsv").write_text("\n".join(lines) + "\n")
    return load_contig(project.file, ["finetune.bootstrap=200", "finetune.epochs=2", "finetune.head_epochs=1"])


@pytest.fixture(scope="module")
def run(project: ContigProject) -> ContigRun:
    return load_run(project.run)


@pytest.fixture(scope="module")
def cohort(project: ContigProject) -> Cohort:
    return open_cohort(project.cohort)


def target_of(project: ContigProject, cohort: Cohort, task: str, *columns: str) -> Target:
    table = read_labels(project.folder / "labels.tsv", columns)
    units = {split: units_of(table, cohort.share(split), cohort.people, split) for split in SPLITS}
    return targets_of(table, task_of(table, task), units)[0]


def features_of(run: ContigRun, cohort: Cohort, target: Target) -> dict[str, np.ndarray]:
    return {split: target.units[split].features(see(run, cohort, split, CPU).features) for split in SPLITS}


def standardised(features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    mean, sd = features["train"].mean(0), features["train"].std(0)
    return {split: (values - mean) / np.where(sd > 1e-8, sd, 1) for split, values in features.items()}


def everybody(target: Target) -> np.ndarray:
    return np.ones(len(target.units["train"]), bool)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


# -- who is asked --------------------------------------------------------------------------------------------------------


def test_a_person_is_the_mean_of_the_images(project: ContigProject, run: ContigRun, cohort: Cohort) -> None:
    target = target_of(project, cohort, "auto", "word")
    seen = see(run, cohort, "test", CPU)
    units = target.units["test"]
    means = dict(zip(seen.persons(), seen.of_persons()))
    assert 0 < len(units) < len(means)  # every seventh has no word
    assert np.allclose(units.features(seen.features), [means[name] for name in units.names], atol=1e-6)


def test_smaller_shares_are_parts_of_larger_ones(project: ContigProject, cohort: Cohort) -> None:
    units = target_of(project, cohort, "ordinal", "grade").units["train"]
    for draw in (1, 2):
        parts = [subset(units, share, 1, draw) for share in (0.001, 0.05, 0.2, 1.0)]
        assert [int(part.sum()) for part in parts] == [2, 10, 40, 200]
        assert all((larger | ~smaller).all() for smaller, larger in pairwise(parts))
    assert (subset(units, 0.2, 1, 1) != subset(units, 0.2, 1, 2)).any()


# -- probes --------------------------------------------------------------------------------------------------------------


def test_an_ordinal_probe_is_a_logistic_regression_for_each_border(
    project: ContigProject, run: ContigRun, cohort: Cohort
) -> None:
    target = target_of(project, cohort, "ordinal", "grade")
    features = features_of(run, cohort, target)
    standard, grades = standardised(features), {split: target.values[split][:, 0] for split in SPLITS}
    losses, logits = [], []
    for strength in STRENGTHS:
        models = [
            LogisticRegression(C=1 / strength, max_iter=1000).fit(standard["train"], grades["train"] > k)
            for k in range(4)
        ]
        chance = np.stack([model.predict_proba(standard["validation"])[:, 1] for model in models], 1)
        above = grades["validation"][:, None] > np.arange(4)
        losses.append(-np.log(np.where(above, chance, 1 - chance)).sum(1).mean())
        logits.append(np.stack([model.decision_function(standard["test"]) for model in models], 1))
    probe = fit_probe(features, target, everybody(target))
    best = int(np.argmin(losses))
    assert probe.strength == STRENGTHS[best] and probe.validation == pytest.approx(losses[best], rel=1e-5)
    assert np.allclose(probe.outputs(features["test"]), logits[best], atol=1e-5)
    found = TASKS["ordinal"].measures(logits[best], target.values["test"], target, np.ones((1, len(grades["test"]))))
    decided = (logits[best] > 0).sum(1)
    kappa = metrics.cohen_kappa_score(grades["test"], decided, weights="quadratic", labels=range(5))
    assert found["quadratic kappa"][0] == pytest.approx(kappa, abs=1e-12)


def test_the_loss_of_a_grade_by_hand() -> None:
    """Grade 1 of 0 to 3 is above the first border, and below the two others."""
    logits = torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64)
    wanted = -np.log(expit(0.5)) - np.log(1 - expit(-1.0)) - np.log(1 - expit(2.0))
    assert float(TASKS["ordinal"].loss(logits, torch.tensor([[1.0]]))[0]) == pytest.approx(wanted, abs=1e-12)


def test_a_probe_of_words_has_scikit_learns_measures(project: ContigProject, run: ContigRun, cohort: Cohort) -> None:
    target = target_of(project, cohort, "auto", "word")
    assert target.task == "classification" and target.levels == ("between", "far", "near")
    features = features_of(run, cohort, target)
    probe = fit_probe(features, target, everybody(target))
    standard, truth = standardised(features), target.values["test"][:, 0].astype(int)
    model = LogisticRegression(C=1 / probe.strength, max_iter=1000).fit(standard["train"], target.values["train"][:, 0])
    chance = model.predict_proba(standard["test"])
    outputs = probe.outputs(features["test"])
    assert np.allclose(softmax(outputs, 1), chance, atol=1e-6)
    found = TASKS["classification"].measures(outputs, target.values["test"], target, np.ones((1, len(truth))))
    wanted = {
        "auroc": metrics.roc_auc_score(truth, chance, multi_class="ovr"),
        "auprc": metrics.average_precision_score(np.eye(3)[truth], chance),
        "balanced accuracy": metrics.balanced_accuracy_score(truth, chance.argmax(1)),
        "log loss": metrics.log_loss(truth, chance),
        **{f"auroc {level}": metrics.roc_auc_score(truth == k, chance[:, k]) for k, level in enumerate(target.levels)},
    }
    assert {name: value[0] for name, value in found.items()} == pytest.approx(wanted, abs=1e-5)


def test_a_probe_of_numbers_is_ridge_regression(project: ContigProject, run: ContigRun, cohort: Cohort) -> None:
    target = target_of(project, cohort, "auto", "radius")
    features = features_of(run, cohort, target)
    probe = fit_probe(features, target, everybody(target))
    standard, values = standardised(features), {split: target.values[split][:, 0] for split in SPLITS}
    errors = [
        (
            (
                Ridge(alpha=a).fit(standard["train"], values["train"]).predict(standard["validation"])
                - values["validation"]
            )
            ** 2
        ).mean()
        for a in STRENGTHS
    ]
    assert probe.strength == STRENGTHS[int(np.argmin(errors))] and probe.validation == pytest.approx(min(errors) / 2)
    said = Ridge(alpha=probe.strength).fit(standard["train"], values["train"]).predict(standard["test"])
    found = TASKS["regression"].measures(
        probe.outputs(features["test"]), target.values["test"], target, np.ones((1, len(said)))
    )
    own = [target.mean + target.sd * each for each in (values["test"], said)]  # in the label's own unit
    assert 9 < target.mean < 11 and 2.5 < target.sd < 3.5
    assert found["r2"][0] == pytest.approx(metrics.r2_score(*own), abs=1e-8)
    assert found["mae"][0] == pytest.approx(metrics.mean_absolute_error(*own), abs=1e-8)


def test_answers_of_several_questions_are_counted_where_they_are_known(
    project: ContigProject, run: ContigRun, cohort: Cohort
) -> None:
    target = target_of(project, cohort, "multilabel", "large", "tilted")
    features = features_of(run, cohort, target)
    probe = fit_probe(features, target, everybody(target))
    outputs, values = probe.outputs(features["test"]), target.values["test"]
    known = ~np.isnan(values)
    assert known[:, 0].all() and not known[:, 1].all()
    found = TASKS["multilabel"].measures(outputs, values, target, np.ones((1, len(values))))
    each = [metrics.roc_auc_score(values[known[:, k], k], outputs[known[:, k], k]) for k in range(2)]
    assert found["auroc macro"][0] == pytest.approx(np.mean(each)) and found["auroc tilted"][0] == pytest.approx(
        each[1]
    )
    assert found["auroc micro"][0] == pytest.approx(metrics.roc_auc_score(values[known], expit(outputs)[known]))
    assert found["auprc micro"][0] == pytest.approx(
        metrics.average_precision_score(values[known], expit(outputs)[known])
    )


def test_answers_that_are_all_the_same_leave_the_odds() -> None:
    features = np.random.default_rng(1).normal(size=(4, 3))
    weight, bias = binary(features, np.ones(4, int), 1.0)
    assert not weight.any() and expit(bias[0]) == pytest.approx(4.5 / 5)
    weight, bias = multinomial(features, np.array([2, 2, 2, 2]), 4, 1.0)
    assert not weight.any() and softmax(bias)[2] == pytest.approx(1 / (1 + 3 * 0.5 / 4.5))
    weight, bias = multinomial(features, np.array([0, 2, 0, 2]), 3, 1.0)
    plain = LogisticRegression(C=1.0, max_iter=1000).fit(features, [0, 2, 0, 2])
    logits = features @ weight.T + bias
    assert np.allclose(logits[:, 2] - logits[:, 0], plain.decision_function(features)) and not weight[1].any()


# -- intervals -------------------------------------------------------------------------------------------------------------


def test_intervals_are_of_families_and_differences_of_the_same_ones(
    project: ContigProject, run: ContigRun, cohort: Cohort, tmp_path: Path
) -> None:
    beside = {**controls_of(run), "twin": run}
    labels = project.folder / "labels.tsv"
    report = finetune(project, run, cohort, labels, tmp_path / "out", columns=["radius"], beside=beside)
    rows = {(row["run"], row["measure"]): row for row in report.rows}
    said = pq.read_table(tmp_path / "out" / "predictions.parquet").to_pylist()
    places = {name: place for place, name in enumerate(cohort.people.persons)}
    of = {name: [row for row in said if row["run"] == name] for name in ("contig", "random")}
    family = np.array([cohort.people.family[places[row["person"]]] for row in of["contig"]])
    drawn = family_draws(family, 200, project.config.train.seed)

    def r2(rows: list[dict[str, Any]], weights: np.ndarray) -> float:
        truth, guess = (np.array([float(row[name]) for row in rows]) for name in ("truth", "predicted"))
        return float(metrics.r2_score(truth, guess, sample_weight=weights))

    each = {name: np.array([r2(mine, weights) for weights in drawn]) for name, mine in of.items()}
    for name, values in (("contig", each["contig"]), ("contig - random", each["contig"] - each["random"])):
        row = rows[name, "r2"]
        assert [row["low"], row["high"]] == pytest.approx(np.percentile(values, (2.5, 97.5)), abs=1e-4)
    twin = rows["contig - twin", "r2"]
    assert twin["value"] == twin["low"] == twin["high"] == 0
    assert rows["contig", "r2"]["persons"] == len({row["person"] for row in of["contig"]})


def test_without_draws_there_are_no_intervals(
    project: ContigProject, run: ContigRun, cohort: Cohort, tmp_path: Path
) -> None:
    plain = load_contig(project.file, ["finetune.bootstrap=0"])
    labels = project.folder / "labels.tsv"
    report = finetune(plain, run, cohort, labels, tmp_path / "out", columns=["radius"])
    assert all(row["low"] is None and row["high"] is None for row in report.rows)
    assert all(row["low"] == row["high"] == "" for row in rows_of(tmp_path / "out" / "metrics.tsv"))


# -- what must not leak ------------------------------------------------------------------------------------------------------


def test_labels_of_test_persons_teach_nothing(
    project: ContigProject, run: ContigRun, cohort: Cohort, tmp_path: Path
) -> None:
    labels = project.folder / "labels.tsv"
    tested = {cohort.people.persons[place] for place in cohort.people.of("test").tolist()}
    header, *rows = [line.split("\t") for line in labels.read_text().splitlines()]
    other = tmp_path / "labels.tsv"
    changed = [[row[0], "0.5", *row[2:]] if row[0] in tested and n % 3 else row for n, row in enumerate(rows)]
    other.write_text("\n".join("\t".join(row) for row in [header, *changed]) + "\n")
    for mode in ("probe", "full"):
        made = []
        for name, table in (("one", labels), ("two", other)):
            output = tmp_path / mode / name
            output.parent.mkdir(exist_ok=True)
            report = finetune(project, run, cohort, table, output, columns=["radius"], mode=mode)
            made.append(((output / "model.radius.safetensors").read_bytes(), report.value("contig", "r2")))
        assert made[0][0] == made[1][0] and made[0][1] != made[1][1]


def test_persons_that_were_trained_on_are_refused(project: ContigProject, run: ContigRun, tmp_path: Path) -> None:
    other = load_contig(project.file, ["split.seed=2", f"data.cohort={tmp_path / 'other'}"])
    prepare(other)
    cohort, labels = open_cohort(other.cohort), project.folder / "labels.tsv"
    with pytest.raises(ConfigError, match=r"of these persons are among those that .* was trained on"):
        finetune(project, run, cohort, labels, tmp_path / "out", columns=["radius"])
    assert not (tmp_path / "out").exists()
    allowed = finetune(project, run, cohort, labels, tmp_path / "out", columns=["radius"], allow_trained=True)
    assert allowed.value("contig", "r2") < 1


def test_a_label_that_is_known_already_is_named(project: ContigProject, cohort: Cohort, tmp_path: Path) -> None:
    told = load_contig(
        project.file,
        ["objective.kind=supervised", 'objective.label_columns=["radius"]', 'gwas.covariates=["grade"]', "train.epochs=1",
         f"data.run={tmp_path / 'told'}"],
    )  # fmt: skip
    train(told, gpus=0)
    labels = project.folder / "labels.tsv"
    report = finetune(told, load_run(told.run), cohort, labels, tmp_path / "out", columns=["radius", "grade"])
    assert [text.split(":")[0] for text in report.warnings] == [
        "the label radius is what the run was trained to tell",
        "the label grade is a covariate of this project (gwas.covariates)",
    ]
    assert json.loads((tmp_path / "out" / "model.json").read_text())["warnings"] == report.warnings


# -- full ------------------------------------------------------------------------------------------------------------------


def test_the_head_learns_alone_and_then_everything_does(project: ContigProject, run: ContigRun, cohort: Cohort) -> None:
    target = target_of(project, cohort, "ordinal", "grade")
    features = features_of(run, cohort, target)["train"]
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    tuned = {}
    for name, settings in {
        "head": ["finetune.epochs=2", "finetune.head_epochs=2"],
        "all": ["finetune.epochs=3", "finetune.head_epochs=1"],
        "again": ["finetune.epochs=3", "finetune.head_epochs=1"],
    }.items():
        config = load_contig(project.file, settings).config
        tuned[name] = tune(run, slice(None), target, everybody(target), features, config, CPU)
    assert all(torch.equal(value, run.model.state_dict()[name]) for name, value in before.items())  # a copy learns
    head, whole, again = (tuned[name].model.network.state_dict() for name in ("head", "all", "again"))
    assert all(torch.equal(value, before[name]) for name, value in head.items())
    assert tuned["head"].model.head.weight.abs().max() > 0
    assert tuned["all"].epoch > 1 and any(
        not torch.equal(whole[name], before[name]) for name in whole if "trunk" in name
    )
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    for each in tuned.values():
        outputs = outputs_of(each.model, target.units["validation"], CPU)
        loss = TASKS["ordinal"].loss(torch.from_numpy(outputs), torch.from_numpy(target.values["validation"])).mean()
        assert float(loss) == pytest.approx(each.validation, abs=1e-9)


def test_with_a_head_alone_a_person_is_the_mean_of_the_images_too(
    project: ContigProject, run: ContigRun, cohort: Cohort
) -> None:
    target = target_of(project, cohort, "auto", "radius")
    features = features_of(run, cohort, target)
    config = load_contig(project.file, ["finetune.epochs=1", "finetune.head_epochs=1"]).config
    model = tune(run, slice(None), target, everybody(target), features["train"], config, CPU).model
    with torch.no_grad():
        of_means = model.head((torch.from_numpy(features["test"]).float() - model.mean) / model.sd)
    assert np.allclose(outputs_of(model, target.units["test"], CPU), of_means.numpy(), atol=1e-4)


# -- the command -------------------------------------------------------------------------------------------------------------


def test_the_command_as_it_is_typed(project: ContigProject, run: ContigRun) -> None:
    words = ["contig", "finetune", "labels.tsv", "--set", "finetune.bootstrap=50", *QUIET]
    grade = ["--column", "grade", "--task", "ordinal", "--fraction", "0.1,1", "--beside", "twin"]
    folder = project.folder
    shutil.copytree(folder / "contig-run", folder / "twin")
    done = in_process([*words, *grade], folder)
    out = folder / "finetune" / "grade"
    assert done.code == 0 and "contig, grade: quadratic kappa " in done.said, done.told
    assert out.stat().st_mode & 0o077 == 0
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        "metrics.tsv", "predictions.parquet", "model.json", "model.grade.safetensors", "curve.png",
    }  # fmt: skip
    rows = rows_of(out / "metrics.tsv")
    assert {(row["fraction"], row["draw"], row["labelled"]) for row in rows} == {
        ("0.1", "1", "20"), ("0.1", "2", "20"), ("0.1", "3", "20"), ("1", "1", "200"),
    }  # fmt: skip
    names = ["contig", "random", "shuffled", "twin"]
    assert {row["run"] for row in rows} == {*names, *(f"contig - {name}" for name in names[1:])}
    about = json.loads((out / "model.json").read_text())
    assert about["run"] == run.digest and about["targets"][0]["levels"] == ["0", "1", "2", "3", "4"]
    again = in_process([*words, *grade, "--force"], folder)
    assert again.code == 0 and rows_of(out / "metrics.tsv") == rows
    done = in_process([*words, "--column", "word", "--mode", "full", "--set", "finetune.epochs=1", "--json"], folder)
    assert done.code == 0 and json.loads(done.said)["task"] == "classification", done.told
    done = in_process([*words, "--column", "large", "--column", "tilted", "--task", "multilabel", "-o", "both"], folder)
    assert done.code == 0 and (folder / "both" / "model.multilabel.safetensors").exists(), done.told


def test_labels_of_images_are_asked_of_images(
    project: ContigProject, run: ContigRun, cohort: Cohort, tmp_path: Path
) -> None:
    lines = ["image\tside"]
    for split in SPLITS:
        images = cohort.share(split).images
        lines += [f"{name}\t{eye}" for name, eye in zip(images.name, images.eye)]
    (tmp_path / "sides.tsv").write_text("\n".join(lines) + "\n")
    finetune(project, run, cohort, tmp_path / "sides.tsv", tmp_path / "out")
    said = pq.read_table(tmp_path / "out" / "predictions.parquet")
    assert said["image"].to_pylist() == list(cohort.share("test").images.name)
    assert said["truth"].to_pylist() == list(cohort.share("test").images.eye)


def test_answers_that_no_training_person_has_are_told(
    project: ContigProject, run: ContigRun, cohort: Cohort, tmp_path: Path
) -> None:
    tested = [cohort.people.persons[place] for place in cohort.people.of("test").tolist()]
    lines = (project.folder / "labels.tsv").read_text().splitlines()
    cells = [line.split("\t")[0] + "\t" + line.split("\t")[2] for line in lines]
    cells = [f"{cell.split(chr(9))[0]}\t9" if cell.split("\t")[0] in tested[:3] else cell for cell in cells]
    (tmp_path / "l.tsv").write_text("\n".join(cells) + "\n")
    report = finetune(project, run, cohort, tmp_path / "l.tsv", tmp_path / "out", task="ordinal")
    assert report.warnings == ["3 test persons are left out: no training person has their grade"]


BAD = {
    "no table": (["nowhere.tsv"], "nowhere.tsv: no such file"),
    "a column that is none": (
        ["labels.tsv", "--column", "grede"],
        "no column 'grede' in labels.tsv; did you mean grade?",
    ),
    "a task that is none": (["labels.tsv", "--task", "ordinel"], "--task is 'ordinel'"),
    "a mode that is none": (["labels.tsv", "--mode", "probes"], "--mode is 'probes'"),
    "words and numbers": (["labels.tsv"], "has columns of words (word) and of numbers"),
    "words as grades": (["labels.tsv", "--column", "word", "--task", "ordinal"], "ordinal needs grades as numbers"),
    "grades as yes and no": (["labels.tsv", "--column", "grade", "--task", "multilabel"], "multilabel needs 0 and 1"),
    "numbers as classes": (["labels.tsv", "--column", "radius", "--task", "classification"], "has at most 50"),
    "a share that is none": (["labels.tsv", "--column", "grade", "--fraction", "0.1,2"], "--fraction has 2"),
    "a share that is no number": (
        ["labels.tsv", "--column", "grade", "--fraction", "all"],
        "'all', which is no number",
    ),
    "a share twice": (["labels.tsv", "--column", "grade", "--fraction", "1,1"], "or one twice"),
    "no ids": (["contig.toml"], "contig.toml"),
    "others": (["others.tsv"], "no train person of the cohort ("),
    "a person twice": (["twice.tsv"], "twice.tsv:3: has the person of line 2 again"),
    "no number": (["typo.tsv"], "typo.tsv:4: column x: '1,5' is no number"),
    "no label": (["ids.tsv"], "has one column only"),
    "an output in the way": (["labels.tsv", "--column", "grade", "-o", "images"], "images"),
    "a run that is none": (["labels.tsv", "--column", "grade", "--run", "nowhere"], "there is no trained model here"),
}


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory, project: ContigProject) -> Path:
    """A project with tables of labels that are none."""
    folder = cohorts.trained(tmp_path_factory.mktemp("harmed") / "p").folder
    (folder / "labels.tsv").write_text((project.folder / "labels.tsv").read_text())
    (folder / "others.tsv").write_text("person\tx\nnobody\t1\nanother\t2\n")
    (folder / "twice.tsv").write_text("person\tx\nP00001\t1\nP00001\t2\n")
    (folder / "typo.tsv").write_text("person\tx\nP00001\t1\nP00002\t2\nP00003\t1,5\n")
    (folder / "ids.tsv").write_text("person\nP00001\n")
    return folder


@pytest.mark.parametrize("name", list(BAD))
def test_a_mistake_is_one_plain_line(name: str, harmed: Path) -> None:
    words, says = BAD[name]
    before = snapshot(harmed)
    done = in_process(["contig", "finetune", *words, *QUIET], harmed)
    assert done.code == 2 and says in done.told and "Traceback" not in done.told, done.told
    assert done.told.count("mfd: error:") == 1 and snapshot(harmed) == before


def test_labels_are_learnt_from_a_part_of_the_features(tmp_path: Path) -> None:
    """The probe, or the head, reads so many features as the part has; a run without the slice is refused."""
    short = ("finetune.epochs=2", "finetune.head_epochs=1", "finetune.bootstrap=10")
    project = cohorts.sliced(tmp_path / "p", *short)
    run, cohort = load_run(project.run), open_cohort(project.cohort)
    labels = tmp_path / "l.tsv"
    rng = np.random.default_rng(3)
    labels.write_text("person\tlength\n" + "".join(f"{who}\t{rng.normal():.3f}\n" for who in cohort.people.persons))
    sizes = {"biological": 0, "technical": 0, "all": run.model.features}
    sizes |= {name: place.stop - place.start for name, place in run.model.slices.items()}
    for mode in ("probe", "full"):
        for part, size in sizes.items():
            output = tmp_path / f"{mode}-{part}"
            finetune(project, run, cohort, labels, output, mode=mode, part=part)
            tensors = load_tensors(output / "model.length.safetensors", "")
            weight = tensors["weight" if mode == "probe" else "head.weight"]
            assert weight.shape == (1, size) and json.loads((output / "model.json").read_text())["part"] == part
    plain = cohorts.trained(tmp_path / "q")
    with pytest.raises(ConfigError, match="has no technical slice"):
        finetune(plain, load_run(plain.run), open_cohort(plain.cohort), labels, tmp_path / "no", part="technical")
