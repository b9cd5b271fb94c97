"""Scores, backgrounds, predictions and latents of projects that are right and unusual, each through the commands."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.special import expit

from kit.harm import good_project, in_process, snapshot
from kit.odd import ODD, TRACKS, odd_project, signals_alone, write_factors, write_table
from mfd_cli.base.errors import ConfigError
from mfd_cli.settings.names import SHORT_GROUPS
from mfd_cli.settings.parse import parse_config
from mfd_cli.variants import vcf_fields

CPU = ["--gpus", "0", "--threads", "1", "-q"]
SET_ASIDE = ["--set", 'model.technical=["batch"]']


def run(project: Path, *words: str, folder: Path | None = None) -> None:
    done = in_process([*words, *CPU], folder or project)
    assert done.code == 0 and "Traceback" not in done.told, f"{words}: {done.told}"


@pytest.mark.parametrize("name", [*ODD, "signals alone"])
def test_every_command_about_variants_and_regions_works(tmp_path: Path, name: str) -> None:
    project = tmp_path / f"odd, {name}"  # a folder with spaces
    signals_alone(project) if name == "signals alone" else odd_project(project, ODD[name])
    (project / "r.bed").write_text("chr1\t1000\t2000\nchr2\t700\t900\n")
    inputs = snapshot(project)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    config = ["-c", str(project / "mfd.toml")]
    run(project, "background", "-n", "150", *config, folder=elsewhere)
    source = str(project / "input.vcf")
    run(project, "score-variants", source, "--per-track", *config, folder=elsewhere)
    run(project, "predict", "-r", "chr1:1001-3000", "-o", "predicted", *config, folder=elsewhere)
    run(project, "embed", str(project / "r.bed"), *config, folder=elsewhere)
    assert {key: value for key, value in snapshot(project).items() if key in inputs} == inputs

    scores = pq.read_table(elsewhere / "input.mfd.parquet").to_pydict()
    assert len(scores["line"]) >= 10 and len(set(scores)) == len(scores)
    numbers = np.array(
        [scores[key] for key in scores if key.startswith(("MFD_MAX", "MFD_SHARED", "MFD_DEB", "track."))]
    )
    assert np.isfinite(numbers).all() and np.abs(numbers).max() > 0
    assert all(0 <= value <= 1 for value in scores["MFD_BG_QUANTILE"])
    ids = [key.removeprefix("track.") for key in scores if key.startswith("track.")]
    assert set(scores["MFD_TRACK"]) <= set(ids)
    # The most affected track's change is that of the field; the probabilities belong to peaks alone.
    for row, track in enumerate(scores["MFD_TRACK"]):
        assert scores["MFD_MAX_DLOGIT"][row] == pytest.approx(scores[f"track.{track}"][row], abs=1e-6)
    assert all(np.isnan(value) == (name == "signals alone") for value in scores["ref_probability"])

    with (elsewhere / "predicted/outputs.tsv").open(encoding="utf-8", newline="") as file:
        outputs = list(csv.DictReader(file, delimiter="\t"))
    assert [row["output"] for row in outputs] == ids
    assert all((elsewhere / "predicted" / row["file"]).is_file() for row in outputs)
    assert pq.read_table(elsewhere / "latents.parquet").num_rows == 2


def test_a_level_called_average_is_a_level(tmp_path: Path) -> None:
    odd_project(tmp_path / "p", ODD["levels average and all"])
    run(tmp_path / "p", "predict", "-r", "chr1:1001-3000", "-o", "p1", "--no-bigwig", "--experiment", "target=average")
    assert "target=average" in pq.read_table(tmp_path / "p/p1/predictions.parquet").column_names


@pytest.mark.parametrize("name", ["bio", "TECH", "max-dlogit", "flags", "shared"])
def test_a_group_whose_field_would_be_there_twice_is_refused(tmp_path: Path, name: str) -> None:
    good_project(tmp_path / "p")
    write_factors(tmp_path / "p", target="biological", assay="technical", lab=name)
    done = in_process(["preprocess", "-q"], tmp_path / "p")
    assert done.code == 2 and "model.groups: no group can be called" in done.told and repr(name) in done.told
    assert not (tmp_path / "p/dataset").exists()


def test_no_field_of_ours_can_be_a_group(tmp_path: Path) -> None:
    for field in [
        *vcf_fields.DESCRIPTIONS,
        *vcf_fields.OTHER_FIELDS,
        *(f"MFD_{short}" for short in SHORT_GROUPS.values()),
    ]:
        with pytest.raises(ConfigError, match="no group can be called"):
            parse_config({"factors": {"lab": {"column": "Lab", "group": field.removeprefix("MFD_").lower()}}})


def test_a_setting_says_which_groups_are_technical(tmp_path: Path) -> None:
    """With model.technical, `batch` is set aside everywhere as a group called `technical` would be."""
    project = tmp_path / "p"
    good_project(project)
    write_factors(project, target="biological", assay="batch", lab="batch")
    toml = project / "mfd.toml"
    toml.write_text(toml.read_text().replace("[model]", '[model]\ntechnical = ["batch"]'))
    done = in_process(["preprocess", "-q", "--threads", "1"], project)
    assert done.code == 0, done.told
    # So fast that every part is something; with a head that has no residual, so that they are all.
    run(project, "train", "--head", "conditioned", "--set", "train.lr=0.1", "--epochs", "2")
    run(project, "score-variants", "input.vcf", "-o", "o.vcf", "--per-track")
    scores = pq.read_table(project / "o.parquet").to_pydict()
    bio, batch, debiased, shared = (np.array(scores[f"MFD_{name}"]) for name in ("BIO", "BATCH", "DEBIASED", "SHARED"))
    assert (batch > 0).all() and (bio > 0).all()
    # What is left is the shared and the biological part: the root mean square of a sum lies between these.
    assert (debiased <= (np.abs(shared) + bio) * 1.001).all()
    assert (debiased >= np.abs(np.abs(shared) - bio) * 0.999).all()

    run(project, "score-variants", "input.vcf", "-o", "average.vcf", "--fix", "technical=average")
    run(project, "score-variants", "input.vcf", "-o", "batch.vcf", "--fix", "batch=average")
    one, other = (pq.read_table(project / f"{name}.parquet").to_pydict() for name in ("average", "batch"))
    assert one == other and one["MFD_BATCH"] != scores["MFD_BATCH"]

    parts = [word for part in ("debiased", "batch", "total") for word in ("--part", part)]
    run(project, "predict", "-r", "chr1:1001-3000", "-o", "predicted", "--no-bigwig", "--tracks", "id == T1", *parts)
    table = pq.read_table(project / "predicted/predictions.parquet").to_pydict()
    logit = np.add(table["T1.debiased"], table["T1.batch"])
    assert np.allclose(expit(logit), table["T1"], atol=1e-5) and np.ptp(table["T1.batch"]) > 0
    run(project, "explain", "--track", "T1", "--part", "debiased", "--top", "3")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('["bacth"]', "model.technical: there is no group 'bacth'; did you mean batch?"),
        ('["batch"]', "model.technical leaves out the group 'technical', which has factors"),
    ],
)
def test_technical_groups_that_cannot_be(tmp_path: Path, setting: str, message: str) -> None:
    good_project(tmp_path / "p")
    write_factors(tmp_path / "p", target="biological", assay="technical", lab="batch")
    done = in_process(["preprocess", "-q", "--set", f"model.technical={setting}"], tmp_path / "p")
    assert done.code == 2 and message in done.told


def test_a_group_that_is_technical_by_name_alone_gets_a_remark(tmp_path: Path) -> None:
    good_project(tmp_path / "p")
    write_factors(tmp_path / "p", target="biological", assay="batch")
    for words, remark in ((["preprocess"], False), (["train"], True), (["train", "--force", *SET_ASIDE], False)):
        done = in_process([*words, "--threads", "1", *(["--gpus", "0"] if "train" in words else [])], tmp_path / "p")
        assert done.code == 0, done.told
        assert ("the group 'batch' is not set aside as technical" in done.told) == remark
    refused = in_process(["score-variants", "input.vcf", "--fix", "donor=average", *CPU], tmp_path / "p")
    assert refused.code == 2 and "there is no factor or group 'donor'" in refused.told


def test_a_group_without_factors_has_no_average(tmp_path: Path) -> None:
    odd_project(tmp_path / "p", ODD["only biological"])
    done = in_process(["score-variants", "input.vcf", "--fix", "technical=average", *CPU], tmp_path / "p")
    assert done.code == 2 and "no factor is in the group 'technical'" in done.told
    assert not (tmp_path / "p/input.mfd.vcf.gz").exists()


def test_an_average_is_flagged_where_biology_and_technique_coincide(tmp_path: Path) -> None:
    """CTCF under two assays, GATA1 under one: nothing tells what that assay does to GATA1."""

    def one_assay_for_gata1(folder: Path) -> None:
        write_table(folder, [(*row[:3], "ChIP-seq" if row[2] == "GATA1" else row[3], *row[4:]) for row in TRACKS])

    odd_project(tmp_path / "p", one_assay_for_gata1)
    words = ["score-variants", "input.vcf", "--fix", "technical=average"]
    for target, flagged in (("CTCF", {False}), ("GATA1", {True})):
        run(tmp_path / "p", *words, "-o", f"{target}.vcf", "--tracks", f"target == {target}")
        flags = pq.read_table(tmp_path / f"p/{target}.parquet")["MFD_FLAGS"].to_pylist()
        assert {"extrapolated" in flag for flag in flags} == flagged


def several_labels(folder: Path) -> None:
    """A factor with several labels in a cell, and a number, in place of lab and year."""
    write_table(folder, [(*row[:4], tags, row[5]) for row, tags in zip(TRACKS, ("a", "a,b", "b", "", "c"))])
    write_factors(folder, target="biological", lab="technical", year="technical")
    toml = (folder / "mfd.toml").read_text().replace('"Lab"', '"Lab"\ntype = "multilabel"')
    (folder / "mfd.toml").write_text(toml.replace('"Year"', '"Year"\ntype = "number"'), "utf-8")


def test_levels_that_are_not_there_are_refused_by_the_option_that_names_them(tmp_path: Path) -> None:
    project = tmp_path / "p"
    odd_project(project, several_labels)
    run(project, "score-variants", "input.vcf", "-o", "ab.vcf", "--fix", "lab=a, b", "--fix", "year=2017.5")
    region = ["predict", "-r", "chr1:1001-3000", "-o", "o", *CPU]
    for words, message in (
        (
            ["score-variants", "input.vcf", "--fix", "lab=a,zzz", *CPU],
            "--fix 'lab=a,zzz': lab has no level 'zzz'; known",
        ),
        (
            ["score-variants", "input.vcf", "--fix", "lab=A", *CPU],
            "--fix 'lab=A': lab has no level 'A'; did you mean a?",
        ),
        (["score-variants", "input.vcf", "--fix", "year=x", *CPU], "--fix 'year=x': factor year is a number"),
        ([*region, "--experiment", "lab=a,zzz"], "--experiment 'lab=a,zzz': lab has no level 'zzz'; known"),
        (
            [*region, "--experiment", "target=ctcf"],
            "--experiment 'target=ctcf': target has no level 'ctcf'; did you mean",
        ),
        (
            [*region, "--experiment", "targt=CTCF"],
            "--experiment 'targt=CTCF': there is no factor 'targt'; did you mean",
        ),
        (
            [*region, "--experiment", "technical=average"],
            "--experiment 'technical=average': there is no factor 'technical'",
        ),
        ([*region, "--experiment", "target"], "--experiment 'target': expected FACTOR=LEVEL"),
        ([*region, "--experiment", "target=average"], "--experiment 'target=average': expected a level"),
        ([*region, "--experiment", "lab=a", "--experiment", "lab=b"], "--experiment 'lab=b': lab is named twice"),
    ):
        done = in_process(words, project)
        assert done.code == 2 and message in done.told, done.told
        assert "--fix" not in done.told or "--fix" in words
    assert not (project / "o").exists() and not (project / "input.mfd.vcf.gz").exists()
