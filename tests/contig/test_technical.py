"""Technical factors from the manifest to the results: read, stored, trained apart, exact when resumed, refused where faulty."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from kit import cohorts
from kit.harm import in_process, snapshot
from mfd_cli.base.errors import ConfigError, ImageError, MetadataError
from mfd_cli.contig import train as training
from mfd_cli.contig.config import ContigProject, load_contig
from mfd_cli.contig.data.cohort import open_cohort
from mfd_cli.contig.data.persons import SPLITS
from mfd_cli.contig.embed import embed
from mfd_cli.contig.factor_report import LookedAt, confound_lines, factor_lines, level_rows
from mfd_cli.contig.gwas.image_covariates import both, image_covariates
from mfd_cli.contig.gwas.slices import slice_sentence
from mfd_cli.contig.prepare import check, prepare
from mfd_cli.contig.retrieve import retrieve
from mfd_cli.contig.run import load_run
from mfd_cli.contig.run_gwas import run_gwas
from mfd_cli.contig.seen import as_features, controls_of, see
from mfd_cli.contig.train import train
from mfd_cli.contig.trainer import set_up
from mfd_cli.core.metadata import MISSING
from mfd_cli.engine.loop import Interrupted
from mfd_cli.engine.store import load_tensors

CPU = torch.device("cpu")
SMALL = ("train.epochs=3", "train.batch_size=50")
QUIET = ["--gpus", "0", "--threads", "1", "-q"]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def with_columns(project: ContigProject, **columns: Callable[[int], str]) -> None:
    """Add columns to the image manifest, whose cells are a function of the row."""
    path = project.folder / "images.tsv"
    header, *rows = path.read_text().splitlines()
    made = ["\t".join([row, *(cell(number) for cell in columns.values())]) for number, row in enumerate(rows)]
    path.write_text("\n".join(["\t".join([header, *columns]), *made]) + "\n")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> ContigProject:
    """A trained project with the camera as a factor; read only."""
    return cohorts.sliced(tmp_path_factory.mktemp("sliced") / "p")


# -- the manifest and the cohort -------------------------------------------------------------------------------------------


def test_every_image_has_what_the_manifest_says_of_it(tmp_path: Path) -> None:
    project = cohorts.planted(tmp_path / "p")
    dates, depths = ["2019-05-01", "NA", "7/2021", "2019"], ["1.5", "", "3", "-2e1"]
    with_columns(project, day=lambda n: dates[n % 4], depth=lambda n: depths[n % 4])
    columns = ("camera.column=camera", "year.column=day", "year.type=year", "depth.column=depth", "depth.type=number")
    chosen = load_contig(project.file, [f"factors.{each}" for each in columns])
    prepare(chosen)
    cohort = open_cohort(chosen.cohort)
    assert cohort.factors == {"camera": "category", "year": "year", "depth": "number"}
    rows = rows_of(project.folder / "images.tsv")
    place = {row["path"]: number for number, row in enumerate(rows)}
    count = 0
    for split in SPLITS:
        images = cohort.share(split).images
        for number, name in enumerate(images.name):
            where = place[name]
            assert images.factors["camera"][number] == rows[where]["camera"]
            assert images.factors["year"][number] == ["2019", MISSING, "2021", "2019"][where % 4]
            assert images.factors["depth"][number] == ["1.5", MISSING, "3", "-2e1"][where % 4]
            count += 1
    assert count > 780
    report = rows_of(project.folder / "cohort-report" / "images.tsv")
    assert all(row["factor.camera"] == rows[place[row["image"]]]["camera"] for row in report)
    levels = rows_of(project.folder / "cohort-report" / "factors.tsv")
    assert {row["factor"] for row in levels} == {"camera", "year"}  # a number has no levels
    assert sum(int(row["images"]) for row in levels if row["factor"] == "year") == 800
    assert sum(int(row["faulty"]) for row in levels if row["factor"] == "camera") == 800 - count
    train(load_contig(project.file, [*(f"factors.{each}" for each in columns), *SMALL]), gpus=0)
    run = load_run(project.run)
    assert run.factors["year"].levels == [MISSING, "2019", "2021"]
    assert {name: head.out_features for name, head in run.model.factors.items()} == {
        "of_camera": 3,
        "of_year": 3,
        "of_depth": 1,
    }


def test_a_cohort_without_factors_has_no_trace_of_them(tmp_path: Path) -> None:
    project = cohorts.prepared(tmp_path / "p", *SMALL)
    manifest = json.loads((project.cohort / "manifest.json").read_text())
    assert "factors" not in manifest and not (project.folder / "cohort-report" / "factors.tsv").exists()
    train(project, gpus=0)
    assert not [n for n in load_tensors(project.run / "model.safetensors", "") if n.startswith(("norm", "factors"))]
    assert load_run(project.run).model.slices == {"biological": slice(0, 128)}


# -- what is told ----------------------------------------------------------------------------------------------------------


def images_of(**columns: list[str]) -> list[LookedAt]:
    names = list(columns)
    return [LookedAt(dict(zip(names, cells)), True) for cells in zip(*columns.values())]


def sections(**types: str) -> Any:
    from mfd_cli.contig.config import FactorSection

    return {name: FactorSection(column=name, type=kind) for name, kind in types.items()}  # type: ignore[arg-type]


def test_factors_that_nothing_tells_apart_are_told_in_the_words_of_check_design() -> None:
    camera = ["A"] * 40 + ["B"] * 40 + ["C"] * 10 + ["D"] * 10
    centre = ["N"] * 40 + ["E"] * 40 + ["S"] * 20
    told = confound_lines(images_of(camera=camera, centre=centre), sections(camera="category", centre="category"))
    assert told == ["camera and centre cannot be told apart on 80 of 100 images"]
    rng = np.random.default_rng(0)
    free = [str(level) for level in rng.integers(0, 3, 100)]
    assert confound_lines(images_of(camera=camera, free=free), sections(camera="category", free="category")) == []
    depth = [str(n) for n in range(100)]
    (line,) = confound_lines(images_of(centre=centre, depth=depth), sections(centre="category", depth="number"))
    assert line.startswith("centre and depth go together on 100 images (correlation ratio 0.9")
    mixed = [one if number % 5 else "other" for number, one in enumerate(centre)]
    (line,) = confound_lines(images_of(centre=centre, mixed=mixed), sections(centre="category", mixed="category"))
    assert line.startswith("centre and mixed go together on 100 images (Cramer's V 0.")


def test_the_level_that_loses_most_is_told() -> None:
    images = [LookedAt({"camera": "A"}, number >= 1) for number in range(100)]
    images += [LookedAt({"camera": "B"}, number >= 20) for number in range(100)]
    factors = sections(camera="category")
    rows = level_rows(images, factors)
    assert [(row["level"], row["faulty"], row["share_faulty"]) for row in rows] == [("A", 1, 0.01), ("B", 20, 0.2)]
    (line,) = factor_lines(rows, images, factors)
    assert line == (
        "camera, images of each level: A 100, B 100; camera B loses most: 20 of 100 pictures are faulty (20%; of all 10%)"
    )


def test_check_and_prepare_tell_the_same(tmp_path: Path) -> None:
    project = cohorts.planted(tmp_path / "p")
    letters = [row["camera"] for row in rows_of(project.folder / "images.tsv")]
    with_columns(project, centre=lambda n: {"A": "N", "B": "E", "C": "S"}[letters[n]])
    chosen = load_contig(project.file, ["factors.camera.column=camera", "factors.centre.column=centre"])
    shown = check(chosen).lines()
    assert "camera and centre cannot be told apart on 800 of 800 images" in shown
    assert [line for line in prepare(chosen).lines() if line.startswith("camera")] == [
        line for line in shown if line.startswith("camera")
    ]


# -- training --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [3, 8])
def test_a_training_with_factors_and_an_adversary_goes_on_exactly(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    penalties = (
        "objective.penalties={predictor={weight=0.3}, projections={weight=0.2}}"  # both have a state of their own
    )
    more = (*SMALL, penalties, "objective.adversary_hidden=16", "data.run=other")
    whole, cut = (cohorts.sliced(tmp_path / name, *more) for name in ("whole", "cut"))
    train(whole, gpus=0)
    before, taken = training.learn, []

    def learn(trainer: Any, batch: Any) -> None:
        before(trainer, batch)
        taken.append(trainer.step)
        if len(taken) == after:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(training, "learn", learn)
    with pytest.raises(Interrupted):
        train(cut, gpus=0)
    train(cut, gpus=0, resume=True)
    one, two = (load_tensors(each.run / "model.safetensors", "") for each in (whole, cut))
    assert set(one) == set(two) and all(torch.equal(one[name], two[name]) for name in one)
    curves = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in (each.run / "metrics.jsonl").open()]
        for each in (whole, cut)
    ]
    assert curves[0] == curves[1] and all(line["technical loss"] > 0 for line in curves[0])


def test_what_is_not_weighed_changes_nothing(tmp_path: Path) -> None:
    """Without penalty and weight the technical slice is there, and nothing teaches it."""
    nothing = ("objective.technical_weight=0", "objective.penalties={}")
    project = cohorts.sliced(tmp_path / "p", *SMALL, *nothing, "data.run=other", "train.weight_decay=0")
    train(project, gpus=0)
    trained, fresh = load_run(project.run).model, set_up(project.config, open_cohort(project.cohort), CPU).model
    assert torch.equal(trained.factors["of_camera"].weight, fresh.factors["of_camera"].weight)
    assert not torch.equal(trained.heads["snps"][0].weight, fresh.heads["snps"][0].weight)
    none = cohorts.sliced(tmp_path / "q", *SMALL, "model.technical=0", "data.run=other")
    train(none, gpus=0)
    assert load_run(none.run).model.slices == {"biological": slice(0, 128)} and load_run(none.run).factors


def test_a_run_keeps_the_vocabulary_of_its_training_images(project: ContigProject, tmp_path: Path) -> None:
    run, random = load_run(project.run), load_run(project.run / "control-random")
    assert run.factors["camera"].levels == ["A", "B", "C"] == random.factors["camera"].levels
    assert run.model.slices == {"biological": slice(0, 96), "technical": slice(96, 128)}
    copy = Path(shutil.copytree(project.folder, tmp_path / "p"))
    assert "  slices: 96 biological, 32 technical\n" in in_process(["info", "contig-run"], copy).said
    assert in_process(["verify", "contig-run"], copy).code == 0


# -- results -----------------------------------------------------------------------------------------------------------------


def test_features_are_written_slice_by_slice(project: ContigProject, tmp_path: Path) -> None:
    run, cohort = load_run(project.run), open_cohort(project.cohort)
    features = see(run, cohort, "test", CPU).features
    for part, names in {
        "biological": ["biological"],
        "technical": ["technical"],
        "all": ["biological", "technical"],
    }.items():
        report = embed(run, cohort, tmp_path / f"{part}.parquet", splits=["test"], part=part)
        table = pq.read_table(tmp_path / f"{part}.parquet")
        columns = [name for name in table.column_names if name.split(".")[0] in ("biological", "technical")]
        assert list(dict.fromkeys(name.split(".")[0] for name in columns)) == names and report.features == len(columns)
        where = {"biological": slice(0, 96), "technical": slice(96, 128), "all": slice(0, 128)}[part]
        assert np.array_equal(np.stack([table[name].to_numpy() for name in columns], 1), features[:, where])


def test_a_gwas_puts_the_slices_side_by_side(project: ContigProject, tmp_path: Path) -> None:
    run, cohort = load_run(project.run), open_cohort(project.cohort)
    result = run_gwas(project, run, cohort, tmp_path / "out", beside=controls_of(run), workers=1)
    assert [row["run"] for row in result.beside] == ["contig", "contig technical", "random"]
    alone = run_gwas(project, run, cohort, tmp_path / "technical", part="technical", workers=1)
    assert [row["run"] for row in alone.beside] == ["contig technical", "contig"]
    assert {row["run"]: row["loci"] for row in alone.beside} == {
        row["run"]: row["loci"] for row in result.beside if row["run"] != "random"
    }
    rows = rows_of(tmp_path / "out" / "slices.tsv")
    found = {
        slice_name: sum(row["found_by"] in (slice_name, "both") for row in rows) for slice_name in run.model.slices
    }
    assert found == {"biological": len(result.loci), "technical": len(alone.loci)} and rows
    assert (
        "of them both): a locus that the technical slice alone finds goes with how pictures were made (camera)"
        in (tmp_path / "out" / "report.html").read_text()
    )
    p1 = -np.log10(project.config.gwas.p1)
    for row in rows:
        strong = {name for name in run.model.slices if float(row[f"neg_log_10_p_{name}"]) >= p1}
        assert strong == ({"biological", "technical"} if row["found_by"] == "both" else {row["found_by"]})
    seen = see(run, cohort, "test", CPU)
    assert as_features(run, seen, "technical").matrix.shape[1] == 32


def test_which_slice_found_what_is_said_in_words() -> None:
    slices = {"contig": "biological", "contig technical": "technical"}
    assert slice_sentence([], slices, ["camera"]) == "neither the biological nor the technical slice found a locus"
    rows = [{"found_by": name} for name in ("both", "biological", "biological", "technical")]
    said = slice_sentence(rows, slices, ["camera", "date"])
    assert said.startswith("of 4 loci, the biological slice 3 and the technical slice 2 (1 of them both)")
    assert "(camera, date)" in said


def test_images_become_covariates_by_hand() -> None:
    persons, owner = ("P1", "P2", "P3"), np.array([0, 0, 1, 2, 2])
    cells = {"camera": ("A", "B", "C", "C", "C"), "depth": ("1", "2", MISSING, "5", MISSING)}
    found = image_covariates(persons, owner, cells, {"camera": "category", "depth": "number"})
    assert found.names == ("camera=B", "camera=C", "depth") and list(found.row_of) == ["P1", "P3"]
    assert found.values.tolist() == [[0.5, 0, 1.5], [0, 1, 5]]
    other = image_covariates(persons, owner, {"eye": ("L", "R", "L", "L", "R")}, {"eye": "category"})
    joined = both(found, other)
    assert joined is not None and joined.names == ("camera=B", "camera=C", "depth", "eye=R")
    assert joined.of(("P3", "P1")).tolist() == [[0, 1, 5, 0.5], [0.5, 0, 1.5, 0.5]]
    assert both(None, None) is None and both(found, None) is found is both(None, found)


def test_the_cameras_of_images_are_covariates_where_that_is_asked(project: ContigProject, tmp_path: Path) -> None:
    adjusted = load_contig(project.file, ['gwas.factors=["camera"]'])
    run, cohort = load_run(project.run), open_cohort(project.cohort)
    for name, of in (("plain", project), ("adjusted", adjusted)):
        run_gwas(of, run, cohort, tmp_path / name, workers=1)
        meta = (tmp_path / name / "PC01.ssf.tsv.gz-meta.yaml").read_text()
        assert ('"camera=B"' in meta and '"camera=C"' in meta) == (name == "adjusted")
    tables = [pq.read_table(tmp_path / name / "per-pc.parquet")["beta"].to_pylist() for name in ("plain", "adjusted")]
    assert tables[0] != tables[1]


def test_retrieval_says_what_probes_find(project: ContigProject, tmp_path: Path) -> None:
    run, cohort = load_run(project.run), open_cohort(project.cohort)
    report = retrieve(run, cohort, tmp_path / "out")
    rows = rows_of(tmp_path / "out" / "independence.tsv")
    assert len(rows) == 8 + 2 * 3 and {row["factor"] for row in rows} == {"", "camera"}
    assert {row["from"] for row in rows if row["factor"]} == {"biological", "technical"}
    assert all(float(row["low"]) <= float(row["value"]) <= float(row["high"]) for row in rows)
    assert (tmp_path / "out" / "independence.png").stat().st_size > 1000
    assert any(
        line.startswith("camera from the technical slice, balanced accuracy: linear 0.") for line in report.lines()
    )
    retrieve(run, cohort, tmp_path / "again")
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "again")


# -- what is refused -----------------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[list[str], str]] = {
    "a column that is not there": (
        ["check", "--set", "factors.camera.column=camra"],
        "images.tsv:1: has no column 'camra', which factors.camera names; did you mean camera?",
    ),
    "a text as number": (
        ["prepare", "--force", "--set", "factors.camera.type=number"], "images.tsv:2: factors.camera: no number in ",
    ),
    "a text as year": (["check", "--set", "factors.camera.type=year"], "images.tsv:2: factors.camera: no year in "),
    "a type that is none": (["check", "--set", "factors.camera.type=colour"], "factors.camera.type"),
    "a group that is none": (["check", "--set", "factors.camera.group=biological"], "factors.camera.group"),
    "a name that is none": (["check", "--set", "factors.all.column=camera"], "no factor can be called 'all'"),
    "a share that is too large": (["train", "--set", "model.technical=0.95"], "model.technical"),
    "a penalty that is none": (["train", "--set", "objective.penalties.distanz.weight=1"], "objective.penalties.distanz"),
    "a factor that the cohort lacks": (
        ["train", "--force", "--set", "factors.centre.column=eye"],
        "the cohort has the technical factors camera (category), and the settings camera (category), centre (category)",
    ),
    "another type than the cohort's": (["train", "--force", "--set", "factors.camera.type=year"], "camera (year)"),
    "a covariate that is no factor": (
        ["gwas", "-o", "new", "--set", 'gwas.factors=["camra"]'],
        "gwas.factors names 'camra', which is no factor; did you mean camera?",
    ),
    "a covariate that the cohort lacks": (
        ["gwas", "-o", "new", "--set", "factors.side.column=eye", "--set", 'gwas.factors=["side"]'],
        "gwas.factors names 'side', which the cohort cohort does not have",
    ),
    "a part that is none": (["embed", "-o", "new.parquet", "--part", "techn"], "--part is 'techn', not one of biological,"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD))
def test_a_mistake_is_one_plain_line(name: str, project: ContigProject) -> None:
    words, says = BAD[name]
    before = snapshot(project.folder)
    done = in_process(["contig", *words, "-q"], project.folder)
    assert done.code == 2 and says in done.told and "Traceback" not in done.told, done.told
    assert done.told.count("mfd: error:") == 1 and snapshot(project.folder) == before


def test_a_slice_that_is_not_there_is_told(tmp_path: Path) -> None:
    project = cohorts.trained(tmp_path / "p")
    before = snapshot(project.folder)
    for words in (["embed", "-o", "new.parquet"], ["gwas", "-o", "new"]):
        done = in_process(["contig", *words, "--part", "technical", *QUIET], project.folder)
        assert (
            done.code == 2
            and "contig-run has no technical slice: it was trained without technical factors" in done.told
        )
    assert snapshot(project.folder) == before
    plain = retrieve(load_run(project.run), open_cohort(project.cohort), tmp_path / "out")
    assert plain.independence == [] and not (tmp_path / "out" / "independence.tsv").exists()


def test_a_factor_that_is_the_same_everywhere_is_told(tmp_path: Path) -> None:
    project = cohorts.planted(tmp_path / "p")
    with_columns(project, same=lambda n: "one", five=lambda n: "5.0", none=lambda n: "")
    for settings, says in (
        (["factors.same.column=same"], "factors.same is one in all training images: there is nothing to tell apart"),
        (["factors.five.column=five", "factors.five.type=number"], "factors.five is 5 in all training images"),
        (["factors.none.column=none", "factors.none.type=number"], "factor none has no number in any training row"),
    ):
        with pytest.raises(MetadataError, match=says):
            prepare(load_contig(project.file, settings))
    assert not project.cohort.exists()


def test_cells_that_mean_missing_are_those_of_the_settings(tmp_path: Path) -> None:
    project = cohorts.planted(tmp_path / "p")
    with_columns(project, depth=lambda n: ["1", "2", "-9"][n % 3])
    chosen = ["factors.depth.column=depth", "factors.depth.type=number", 'persons.missing=["", "-9"]']
    prepare(load_contig(project.file, chosen))
    texts = open_cohort(project.cohort).share("test").images.factors["depth"]
    assert set(texts) == {"1", "2", MISSING}
    with_columns(project, deep=lambda n: "inf" if n == 5 else "1")
    with pytest.raises(ImageError, match=r"images\.tsv:7: factors\.deep: no finite number in 'inf'"):
        check(load_contig(project.file, ["factors.deep.column=deep", "factors.deep.type=number"]))


def test_another_vocabulary_is_no_run(project: ContigProject, tmp_path: Path) -> None:
    """A description whose factors are not those of its configuration, as if it had been put together from two."""
    from mfd_cli.base.errors import RunError
    from mfd_cli.base.stored_json import DIGEST, digest_of

    folder = Path(shutil.copytree(project.run, tmp_path / "run"))
    stored = json.loads((folder / "model.json").read_text())
    for factors in ({}, {"camera": {"type": "category"}}, {"camera": {"vocabulary": 3, "mean": [0.5]}}):
        changed = {name: value for name, value in stored.items() if name != DIGEST} | {"factors": factors}
        (folder / "model.json").write_text(json.dumps({**changed, DIGEST: digest_of(changed)}))
        with pytest.raises(RunError, match="describes no model"):
            load_run(folder)


def test_an_error_about_the_cohort_says_what_to_do(project: ContigProject) -> None:
    other = load_contig(project.file, ["factors.more.column=eye"])
    with pytest.raises(ConfigError) as raised:
        set_up(other.config, open_cohort(project.cohort), CPU)
    assert raised.value.hint == "run mfd contig prepare again"
