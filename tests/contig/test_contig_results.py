"""What a trained encoder is asked: features, retrieval, attributions, associations; and every command as it is typed."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from captum.attr import IntegratedGradients

from kit import cohorts
from kit.harm import Outcome, in_process, snapshot
from mfd_cli.base.errors import ConfigError
from mfd_cli.contig.batches import fixed_images
from mfd_cli.contig.config import ContigProject, load_contig
from mfd_cli.contig.data.cohort import Cohort, open_cohort
from mfd_cli.contig.explain import _Alignment, attribute, blocks_of, explain
from mfd_cli.contig.prepare import prepare
from mfd_cli.contig.retrieve import retrieve
from mfd_cli.contig.run import ContigRun, load_run
from mfd_cli.contig.run_gwas import run_gwas
from mfd_cli.contig.seen import as_features, controls_of, projected, see
from mfd_cli.core.path_gradients import mean_along_path

CPU = torch.device("cpu")
QUIET = ["--gpus", "0", "--threads", "1", "-q"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> ContigProject:
    """A trained project; read only."""
    return cohorts.trained(tmp_path_factory.mktemp("results") / "p")


@pytest.fixture(scope="module")
def run(project: ContigProject) -> ContigRun:
    return load_run(project.run)


@pytest.fixture(scope="module")
def cohort(project: ContigProject) -> Cohort:
    return open_cohort(project.cohort)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


# -- features ------------------------------------------------------------------------------------------------------------


def test_features_are_those_of_the_network_and_means_over_images(run: ContigRun, cohort: Cohort) -> None:
    seen = see(run, cohort, "test", CPU)
    share = seen.share
    with torch.no_grad():
        pictures = run.model.standardised(torch.from_numpy(share.pictures(np.array([0, 7]))))
        assert np.allclose(run.model.feature(pictures).numpy(), seen.features[[0, 7]], atol=1e-5)
    means = seen.of_persons()
    for place in (0, 3):
        assert np.allclose(means[place], seen.features[share.images.owner == place].mean(0), atol=1e-6)
    features = as_features(run, seen)
    assert features.persons == seen.persons() and features.images.sum() == len(share.images.owner)
    z, u = projected(run, seen, "snps", fixed_images(run.config, seen.people), CPU)
    assert torch.allclose(z.norm(dim=1), torch.ones(len(z))) and torch.allclose(u.norm(dim=1), torch.ones(len(u)))


# -- retrieval -------------------------------------------------------------------------------------------------------------


def test_retrieval_is_that_of_the_similarities(run: ContigRun, cohort: Cohort, tmp_path: Path) -> None:
    beside = controls_of(run)
    report = retrieve(run, cohort, tmp_path / "out", beside=beside)
    seen = see(run, cohort, "test", CPU)
    with torch.no_grad():
        z, u = projected(run, seen, "snps", fixed_images(run.config, seen.people), CPU)
    table, family = (z @ u.T).numpy(), seen.share.family
    auc = []
    for row in range(len(table)):
        strangers = family != family[row]
        auc.append(
            (table[row, strangers] < table[row, row]).mean() + 0.5 * (table[row, strangers] == table[row, row]).mean()
        )
    assert report.value("contig", "auc") == pytest.approx(np.mean(auc), abs=1e-6)
    rows = rows_of(tmp_path / "out" / "retrieval.tsv")
    assert {row["run"] for row in rows} == {"contig", "random", "shuffled"} and len(rows) == 3 * 2 * 7
    assert all(float(row["low"]) <= float(row["value"]) <= float(row["high"]) for row in rows)
    ranks = pq.read_table(tmp_path / "out" / "ranks.parquet")
    assert len(ranks) == 3 * 2 * len(table) and min(ranks["rank"].to_pylist()) >= 1
    assert (tmp_path / "out" / "ranks.png").stat().st_size > 1000
    again = retrieve(run, cohort, tmp_path / "again", beside=beside)
    assert again.rows == report.rows and snapshot(tmp_path / "out") == snapshot(tmp_path / "again")


def test_persons_that_were_trained_on_are_refused(run: ContigRun, cohort: Cohort, tmp_path: Path) -> None:
    """By who they are, not by the name of the split."""
    for verb in (retrieve, explain):
        with pytest.raises(ConfigError, match=r"of these persons are among those that .* was trained on"):
            verb(run, cohort, tmp_path / "out", split="train")
    assert not (tmp_path / "out").exists()
    allowed = retrieve(run, cohort, tmp_path / "out", split="train", allow_trained=True)
    assert 0 < allowed.value("contig", "auc") < 1


def test_a_cohort_with_other_variants_is_refused(project: ContigProject, run: ContigRun, tmp_path: Path) -> None:
    other = load_contig(project.file, ["modalities.snps.every=2", f"data.cohort={tmp_path / 'other'}"])
    prepare(other)
    with pytest.raises(ConfigError, match="has other variants of snps than"):
        see(run, open_cohort(other.cohort), "test", CPU)


# -- attributions ----------------------------------------------------------------------------------------------------------


def test_attributions_are_captums(run: ContigRun, cohort: Cohort) -> None:
    seen = see(run, cohort, "test", CPU)
    images = fixed_images(run.config, seen.people)[:6]
    with torch.no_grad():
        z = run.model.image_projection("snps", torch.from_numpy(seen.features[images]))
    inputs = torch.from_numpy(cohort.dosages(seen.share, "snps", np.arange(6)))
    stranger = torch.from_numpy(seen.share.family[:6][:, None] != seen.share.family[:6][None, :])
    alignment = _Alignment(run.model, "snps", z, z, stranger, 0.01)
    ours = mean_along_path(alignment.gradient, torch.zeros_like(inputs), inputs, 40) * inputs
    for row in range(6):
        one = _Alignment(run.model, "snps", z[row : row + 1], z, stranger[row : row + 1], 0.01)
        theirs = IntegratedGradients(one.of).attribute(inputs[row : row + 1], method="riemann_middle", n_steps=40)
        assert torch.allclose(ours[row], theirs[0].float(), atol=1e-5)


def test_attributions_add_up(run: ContigRun, cohort: Cohort, tmp_path: Path) -> None:
    seen = see(run, cohort, "test", CPU)
    each = attribute(run, seen, "snps", CPU)
    missed = np.abs(each.values.sum(1) - each.difference)
    assert each.complete >= 0.95 and each.steps == 64
    assert (missed <= 0.01 * np.maximum(np.abs(each.difference), 0.1)).mean() == each.complete
    report = explain(run, cohort, tmp_path / "out", beside=controls_of(run))
    assert not report.warnings
    rows = rows_of(tmp_path / "out" / "attribution.tsv")
    assert len(rows) == 50 and sorted(int(row["rank"]) for row in rows) == list(range(1, 51))
    assert all(float(row["control"]) >= 0 for row in rows)
    table = pa.ipc.open_file(str(tmp_path / "out" / "attributions.arrow")).read_all()
    assert table["person"].to_pylist() == list(seen.persons())
    assert np.allclose(np.array(table["snps"].to_pylist()), each.values)
    (modality,) = rows_of(tmp_path / "out" / "modalities.tsv")
    assert float(modality["share"]) == 1 and int(modality["features"]) == 50
    assert (tmp_path / "out" / "attribution.png").stat().st_size > 1000


def test_attributions_that_do_not_add_up_are_told(run: ContigRun, cohort: Cohort) -> None:
    strict = run.config.model_copy(
        update={"explain": run.config.explain.model_copy(update={"tolerance": 1e-9, "most_steps": 128})}
    )
    seen = see(run, cohort, "test", CPU)
    each = attribute(ContigRun(**{**vars(run), "config": strict}), seen, "snps", CPU)
    assert each.steps == 128 and each.complete < 0.95


def test_blocks_are_led_by_the_strongest() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 500))
    inputs = np.stack([a, a + 0.3 * rng.normal(size=500), b, rng.normal(size=500), -a], 1).astype(np.float32)
    assert blocks_of(inputs, np.array([2, 1, 0, 4, 3])).tolist() == [2, 2, 1, 3, 2]


# -- associations ----------------------------------------------------------------------------------------------------------


def test_a_gwas_stands_beside_its_controls(
    project: ContigProject, run: ContigRun, cohort: Cohort, tmp_path: Path
) -> None:
    result = run_gwas(project, run, cohort, tmp_path / "out", beside=controls_of(run), workers=1)
    assert [row["run"] for row in result.beside] == ["contig", "random", "shuffled"]
    people = cohort.people
    test = {people.persons[place] for place in people.of("test").tolist()}
    tested = {line.split("\t")[1] for line in (tmp_path / "out" / "persons.txt").read_text().splitlines()[1:]}
    families = dict(zip(people.persons, people.family.tolist()))
    assert tested <= test and len({families[person] for person in tested}) == len(tested) == result.persons
    meta = (tmp_path / "out" / "PC01.ssf.tsv.gz-meta.yaml").read_text()
    assert f"sample_size: {result.persons}" in meta


# -- the command line --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Outcome]]:
    """Every command once, in order, in a folder of its own."""
    folder = tmp_path_factory.mktemp("story")
    done = {"simulate": in_process(["contig", "simulate", "p", "-q"], folder)}
    lines = {
        "check": ["check", "--images", "50", "-q"],
        "prepare": ["prepare", "-q"],
        "train": ["train", "--epochs", "2", "--controls", "random,shuffled", *QUIET],
        "embed": ["embed", "--by", "person", "--projections", *QUIET],
        "retrieve": ["retrieve", *QUIET],
        "explain": ["explain", *QUIET],
        "gwas": ["gwas", *QUIET],
    }
    for name, words in lines.items():
        done[name] = in_process(["contig", *words], folder / "p")
    return folder / "p", done


def test_every_command_works_as_it_is_shown(story: tuple[Path, dict[str, Outcome]]) -> None:
    folder, done = story
    assert {name: outcome.code for name, outcome in done.items()} == dict.fromkeys(done, 0), done
    made = (
        "cohort",
        "cohort-report",
        "contig-run",
        "features.parquet",
        "retrieve",
        "explain/contig",
        "gwas/report.html",
    )
    assert all((folder / name).exists() for name in made)
    assert "contig, snps: AUC 0." in done["retrieve"].said and "random, snps: AUC 0." in done["retrieve"].said
    assert "loci" in done["gwas"].said and "contig-run/control-shuffled: skill " in done["train"].said
    table = pq.read_table(folder / "features.parquet")
    assert table.column_names[:3] == ["person", "split", "biological.0"] and table.column_names[-1] == "z.snps.63"
    assert "learnt nothing that holds for new persons" in done["train"].told  # 200 persons, two epochs


def test_a_network_that_learnt_nothing_is_told_wherever_it_is_used(story: tuple[Path, dict[str, Outcome]]) -> None:
    folder, _ = story
    words = [word for word in QUIET if word != "-q"]
    done = in_process(["contig", "embed", "-o", "again.parquet", *words], folder)
    assert done.code == 0 and "learnt nothing that holds for new persons: the skill" in done.told


def test_a_training_that_is_finished_goes_on_only_where_more_is_asked(
    story: tuple[Path, dict[str, Outcome]], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(story[0], tmp_path / "p"))
    before = snapshot(folder / "contig-run")
    again = in_process(["contig", "train", "--epochs", "2", "--controls", "shuffled", "--resume", *QUIET], folder)
    assert again.code == 0 and again.said == "".join(
        line for line in story[1]["train"].said.splitlines(keepends=True) if "random" not in line
    )
    assert snapshot(folder / "contig-run") == before
    more = in_process(["contig", "train", "--epochs", "3", "--resume", *QUIET], folder)
    assert more.code == 0 and len((folder / "contig-run/metrics.jsonl").read_text().splitlines()) == 3


def test_results_as_json(story: tuple[Path, dict[str, Outcome]]) -> None:
    folder, _ = story
    found = json.loads(in_process(["contig", "retrieve", "-o", "other", "--json", *QUIET], folder).said)
    assert found["split"] == "test" and {"auc", "skill"} <= {row["measure"] for row in found["rows"]}
    found = json.loads(in_process(["contig", "check", "--images", "10", "--json", "-q"], folder).said)
    assert sum(found["persons"].values()) == 400


def test_info_and_verify_know_cohorts_and_runs(story: tuple[Path, dict[str, Outcome]], tmp_path: Path) -> None:
    folder, _ = story
    said = in_process(["info", "cohort"], folder).said
    assert said.startswith("cohort: a cohort\n") and "  variants: 50 snps\n" in said
    assert "  control: shuffled\n" in in_process(["info", "contig-run/control-shuffled"], folder).said
    assert json.loads(in_process(["info", "contig-run", "--json"], folder).said)["learned"] is False
    for name, what in (("cohort", "cohort"), ("contig-run", "run")):
        assert in_process(["verify", name], folder).said == f"{name}: every file of the {what} is as it was written\n"
    copy = shutil.copytree(folder / "cohort", tmp_path / "cohort")
    (copy / "persons.arrow").write_bytes((copy / "persons.arrow").read_bytes()[:-1])
    done = in_process(["verify", "cohort"], tmp_path)
    assert done.code == 2 and "persons.arrow: is missing or was cut short" in done.told


def test_the_help_lists_the_commands_in_full() -> None:
    said = in_process(["contig", "--help"], Path.cwd()).said.split("\nCommands:\n")[1]
    assert "..." not in said and said.index("  simulate ") < said.index("  prepare ") < said.index("  gwas ")


BAD = {
    "no project": (["prepare"], "elsewhere", "there is no modality"),
    "a control that is none": (
        ["train", "--controls", "rand"],
        "p",
        "--controls is 'rand', not one of random, shuffled",
    ),
    "a split that is none": (
        ["retrieve", "--split", "tset"],
        "p",
        "--split is 'tset', not one of train, validation, test",
    ),
    "a file that is no Parquet": (["embed", "-o", "a.csv"], "p", "whose name must end in .parquet"),
    "persons that were trained on": (["explain", "--split", "train", "-o", "new"], "p", "--allow-trained goes on"),
    "a setting that is none": (["check", "--set", "images.sise=3"], "p", "unknown key images.sise; did you mean size?"),
    "genotypes that are missing": (["gwas", "--genotypes", "a.bed", "-o", "new"], "p", "a.bed: no such file"),
    "too few persons": (["gwas", "--set", "gwas.least_persons=4000", "-o", "new"], "p", "4,000"),
    "a run that is none": (["retrieve", "--run", "nowhere", "-o", "new"], "p", "there is no trained model here"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_mistake_is_one_plain_line(name: str, story: tuple[Path, dict[str, Outcome]], tmp_path: Path) -> None:
    words, where, says = BAD[name]
    folder = story[0] if where == "p" else tmp_path
    before = snapshot(folder)
    done = in_process(["contig", *words, *(["-q"] if words[0] != "simulate" else [])], folder)
    assert done.code == 2 and says in done.told and "Traceback" not in done.told, done.told
    assert done.told.count("mfd: error:") == 1 and snapshot(folder) == before
