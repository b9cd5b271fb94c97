"""Every command on every shape of project: it works and says something sane, or it refuses in words.

A project of bigWigs alone once crashed under three thousand green tests. kit/shapes.py has the table of shapes; a shape that a
user brings and that breaks something becomes one entry there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pyBigWig
import pytest
from matplotlib.figure import Figure
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.neural_network import MLPRegressor

from kit import shapes
from kit.harm import SOAK, Outcome, in_process
from kit.shapes import SHAPES, Shape
from kit.sketch import AS_EVER, DOTS, sketched
from mfd_cli.core.probes import PROBES

CPU = ("--gpus", "0", "--threads", "1")
Check = Callable[[Shape, Path, Outcome], None]


def sections(shape: Shape) -> set[str]:
    """The groups that the project declares."""
    return set(re.findall(r'group = "([a-z]+)"', " ".join(shape.factors.values())))


def finite(values: Any) -> bool:
    return bool(np.isfinite(np.asarray(values, float)).all())


# -- what a command must have left -------------------------------------------------------------------------------------


def dataset_is_there(shape: Shape, folder: Path, done: Outcome) -> None:
    manifest = json.loads((folder / "dataset/manifest.json").read_text())
    bins = {split: sum(shard["bins"] for shard in manifest["splits"][split]["shards"]) for split in manifest["splits"]}
    assert bins["train"] > 50, bins
    assert f"tracks: {shape.peaks} with peaks" in done.said


def run_is_there(shape: Shape, folder: Path, done: Outcome) -> None:
    lines = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    assert lines and all(finite(line["loss"]) for line in lines)


def evaluation_is_sane(shape: Shape, folder: Path, done: Outcome) -> None:
    json.loads(done.said, parse_constant=lambda word: pytest.fail(f"{word} in JSON"))
    (table,) = (folder / "run").glob("evaluation-*/tracks.tsv")
    rows = pd.read_csv(table, sep="\t", keep_default_na=False, na_values=[""])
    assert len(rows) == len(shape.rows)
    trained = rows[rows["trained"].astype(str).str.lower() == "true"]
    figures = pd.to_numeric(trained["auroc"].where(trained["kind"] == "peaks", trained["pearson"]))
    notes = " ".join(json.loads(done.said)["notes"])
    without = trained["track"][figures.isna()]
    assert all(track in notes for track in without), "every training track has its own figure, or a note says why not"
    assert finite(figures.dropna())
    shares = trained[[name for name in rows if name.startswith("share_")]].apply(pd.to_numeric)
    assert {f"share_{group}" for group in sections(shape)} <= set(shares) and finite(shares)
    assert np.allclose(shares.sum(axis=1), 1, atol=2e-3)


def scores_are_sane(shape: Shape, folder: Path, done: Outcome) -> None:
    table = pq.read_table(folder / "input.mfd.parquet").to_pandas()
    records = [line for line in (folder / "input.vcf").read_text().splitlines() if not line.startswith("#")]
    skipped = (folder / "input.mfd.skipped.tsv").read_text().splitlines()[1:]
    assert len(table) == len(records) and table["MFD_SHARED"].notna().sum() == len(records) - len(skipped)
    scored = table[table["MFD_SHARED"].notna()]
    assert len(scored) and finite(scored["MFD_MAX_DLOGIT"]) and finite(scored["MFD_SHARED"])
    for group, name in (("biological", "MFD_BIO"), ("technical", "MFD_TECH")):
        if group in sections(shape):
            assert finite(scored[name]) and (scored[name] >= 0).all()
        else:
            assert name not in table or (scored[name].fillna(0) == 0).all()


def explanation_is_sane(shape: Shape, folder: Path, done: Outcome) -> None:
    for page in (folder / "explain").glob("*/report.html"):
        assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", page.read_text()), re.IGNORECASE), page
    assert "nan" not in done.said.lower()
    for table in (folder / "explain").glob("*/latents.tsv"):
        columns = table.read_text("utf-8").split("\n")[0].split("\t")
        assert len(columns) == 2 + len((table.parent / "levels.tsv").read_text("utf-8").splitlines()) - 1, table


def parts_are_sane(shape: Shape, folder: Path, done: Outcome) -> None:
    explanation_is_sane(shape, folder, done)
    rows = pd.read_csv(folder / "explain/all/factors.tsv", sep="\t", keep_default_na=False)
    share = dict(zip(rows["part"], pd.to_numeric(rows["share"])))
    assert finite(list(share.values()))
    kinds = dict(zip(rows["part"], rows["kind"]))
    assert sum(v for k, v in share.items() if kinds[k] != "group") == pytest.approx(1, abs=1e-3)


def predictions_are_sane(shape: Shape, folder: Path, done: Outcome) -> None:
    written = sorted((folder / "predictions").rglob("*.bigWig")) + sorted((folder / "predictions").rglob("*.bw"))
    assert written
    for path in written:
        with pyBigWig.open(str(path)) as file:
            assert file.header()["nBasesCovered"] > 0 and finite([file.header()["minVal"], file.header()["maxVal"]])


def latents_are_sane(shape: Shape, folder: Path, done: Outcome) -> None:
    table = pq.read_table(folder / "latents.parquet").to_pandas()
    columns = [name for name in table if re.fullmatch(r"[a-z]+\.[0-9]+", name)]
    assert len(columns) == 16 and finite(table[columns])


def is_json(shape: Shape, folder: Path, done: Outcome) -> None:
    json.loads(done.said)


def anything(shape: Shape, folder: Path, done: Outcome) -> None:
    """The command has said what it did by its exit code."""


def first_level(shape: Shape) -> str:
    """FACTOR=LEVEL of the first factor of the project, as an experiment to predict."""
    factor = next(iter(shape.factors))
    column = re.search(r'column = "([^"]+)"', shape.factors[factor])
    assert column is not None
    return f"{factor}={shape.rows[0][column[1]]}"


def commands(shape: Shape) -> dict[str, tuple[tuple[str, ...], Check]]:
    """Name, words and check of everything that is done with a project, in the order in which a user would."""
    factor, contig = next(iter(shape.factors)), next(iter(shape.contigs))
    split = ("--split", "test" if "test" in shape.split else "validation")
    region = f"{contig}:1-4000"
    return {
        "init": (("init", "--fasta", "genome.fa", "--metadata", "metadata.tsv", "-o", "other.toml"), anything),
        "check-design": (("check-design", "-o", "design"), anything),
        "preprocess": (("preprocess", "--threads", "1"), dataset_is_there),
        "train": (("train", *CPU), run_is_there),
        "evaluate": (("evaluate", *split, "--json", "--kmer", *CPU), evaluation_is_sane),
        "score-variants": (("score-variants", "input.vcf", *CPU), scores_are_sane),
        "background": (("background", "-n", "100", *CPU), anything),
        "enrich": (("enrich", "input.mfd.parquet", "--labels", "labels.tsv"), anything),
        "explain": (("explain", "--factor", factor, "--top", "3", *CPU), explanation_is_sane),
        "explain all": (("explain", "--factor", "all", *CPU), parts_are_sane),
        "explain latent": (("explain", "--latent", "latent.0", "--top", "1", *CPU), explanation_is_sane),
        "explain track": (("explain", "--track", "T0", "--part", "total", "--top", "1", *CPU), explanation_is_sane),
        "predict": (("predict", "-r", region, *CPU), predictions_are_sane),
        "predict experiment": (
            ("predict", "-r", region, "--experiment", first_level(shape), "-o", "predictions/new", *CPU),
            predictions_are_sane,
        ),
        "impute": (("impute", *split, "--json", *CPU), is_json),
        "embed": (("embed", "regions.bed", *CPU), latents_are_sane),
        "qc": (("qc", *CPU), anything),
        "info": (("info", "--json"), is_json),
        "verify": (("verify",), anything),
    }


@pytest.fixture
def coarse_pictures(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two shapes in three, pictures are made but not drawn, since drawing is most of what these commands take. They are
    laid out as ever with the odd names, with one track and with many, whose pictures are the oddest; and the odd names, whose
    letters an SVG has to escape, are drawn as SVG too. MFD_SOAK draws them all so."""
    letters = shape.name == "odd names" or SOAK
    laid_out = shape.name in ("one track", "three groups") or letters
    drawn = SHAPES.index(shape) % 3 == 0

    def saved(figure: Figure, path: Path, dpi: int = 0, **options: Any) -> None:
        if letters or (laid_out and path.suffix == ".png"):
            AS_EVER(figure, path, dpi=DOTS, **options)
        elif drawn and path.suffix == ".png":
            sketched(figure, path, **options)
        else:
            path.touch()

    monkeypatch.setattr(Figure, "savefig", saved)


@pytest.fixture
def small_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """How well the probes of evaluate fit is told by evaluation/test_independence.py."""
    monkeypatch.setitem(PROBES, "forest", lambda seed: ExtraTreesRegressor(3, min_samples_leaf=5, random_state=seed))
    monkeypatch.setitem(PROBES, "perceptron", lambda seed: MLPRegressor(hidden_layer_sizes=(8,), max_iter=3))


@pytest.mark.parametrize("shape", [s for s in SHAPES if SOAK or not s.within], ids=lambda shape: shape.name)
def test_every_command(shape: Shape, tmp_path: Path, coarse_pictures: None, small_probes: None) -> None:
    folder = tmp_path / "project"
    shapes.make(shape, folder)
    holes = []
    for name, (words, check) in commands(shape).items():
        done = in_process(words, folder)
        expected = refusals(shape)
        try:
            assert "Traceback" not in done.told and "Warning" not in done.told, "a traceback or a library's warning"
            if name in expected:
                assert done.code == 2 and expected[name] in done.told, f"should be refused with {expected[name]!r}"
            else:
                assert done.code == 0, f"exit {done.code}"
                check(shape, folder, done)
        except (AssertionError, KeyError, ValueError, OSError) as error:
            holes.append(f"mfd {' '.join(words)}\n    {type(error).__name__}: {error}\n    {done.told[-600:]}")
            if name in ("preprocess", "train"):
                break
    assert not holes, "\n".join(holes)


def refusals(shape: Shape) -> dict[str, str]:
    """Commands that have nothing to work on here, and words of the line that says so."""
    refused = dict(shape.refused)
    if "held_out" not in shape.train:
        refused["impute"] = "no track was held out"
    if shape.peaks > 1:
        refused["qc"] = (
            "has too few bins that were not trained on"  # signals alone, or one track, are not judged: no error
        )
    return refused


def test_the_table_has_every_kind() -> None:
    """Names are unique, and the table holds what the project once broke on."""
    names = [shape.name for shape in SHAPES]
    assert len(names) == len(set(names)) >= 24
    assert any(not shape.peaks for shape in SHAPES) and any(len(shape.rows) == 1 for shape in SHAPES)
    every_time = {shape.name for shape in SHAPES if not shape.within}
    assert all(set(shape.within) <= every_time for shape in SHAPES)
