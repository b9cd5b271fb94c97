"""Factors in which all training tracks are alike: they contribute exactly nothing, and the commands say so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from kit import shapes
from kit.harm import in_process
from kit.shapes import SHAPES
from mfd_cli.core.decompose import decompose
from mfd_cli.runs.folder import load_run

CPU = ("--gpus", "0", "--threads", "1")
IN_VAIN = {
    "lab": "lab has one level (A) in all training tracks: it contributes nothing",
    "reads": "reads has one level (0.1) in all training tracks: it contributes nothing",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained project in which assays vary and neither the lab nor the number of reads does."""
    folder = tmp_path_factory.mktemp("one level") / "p"
    shapes.make(next(shape for shape in SHAPES if shape.name == "one level beside two"), folder)
    assert in_process(["preprocess", "-q", "--threads", "1"], folder).code == 0
    done = in_process(["train", *CPU], folder)
    assert done.code == 0, done.told
    for words in IN_VAIN.values():
        assert done.told.splitlines().count(words) == 1, done.told
    return folder


def said(project: Path, *words: str) -> tuple[str, list[str]]:
    """What a command prints, and the lines of its remarks."""
    done = in_process([*words], project)
    assert done.code == 0, done.told
    return done.said, done.told.splitlines()


def test_it_weighs_exactly_nothing(project: Path) -> None:
    model = load_run(project / "run").model
    parts = decompose(model).factors
    assert set(model.metadata.sole_levels()) == set(IN_VAIN)
    assert all((parts[name] == 0).all() for name in IN_VAIN) and (parts["assay"] != 0).any()
    assert np.allclose(sum(parts[name] for name in ("assay", "lab", "reads")), parts["assay"], atol=0)


def test_info_and_explain_say_so(project: Path) -> None:
    factors = json.loads(said(project, "info", "run", "--json")[0])["factors"]
    assert factors["lab"] == {"type": "category", "levels": 1, "only_level": "A"}
    assert factors["reads"]["only_level"] == "0.1" and factors["assay"]["levels"] == 2
    told = said(project, "info", "run")[0]
    assert "lab has one level (A) and contributes nothing" in told and "assay 2 levels" in told
    overview = said(project, "explain", "--factor", "all", *CPU)[0]
    for name, words in IN_VAIN.items():
        assert f"{words}." in overview
        assert f"The factor {words}." in said(project, "explain", "--factor", name, "--top", "2", *CPU)[0]
    shares = {
        row.split("\t")[0]: row.split("\t")[4] for row in (project / "explain/all/factors.tsv").read_text().splitlines()
    }
    assert float(shares["lab"]) == float(shares["reads"]) == 0


def predicted(project: Path, *experiment: str) -> np.ndarray:
    """The probabilities of an experiment that nobody did, by its factor levels."""
    levels = [word for level in experiment for word in ("--experiment", level)]
    words = ("predict", "-r", "chr1:1-3000", "--no-bigwig", "-o", "predicted", "--force", *levels, *CPU)
    _, remarks = said(project, *words)
    for name, text in IN_VAIN.items():
        assert remarks.count(text) == any(level.startswith(f"{name}=") for level in experiment)
    table = pq.read_table(project / "predicted/predictions.parquet")
    return np.asarray(table.column(table.num_columns - 1))


def test_another_value_of_a_constant_number_changes_no_prediction(project: Path) -> None:
    """Nothing is known of it: a spread of rounding errors once made it a probability of 1.0."""
    as_measured = predicted(project, "assay=ChIP-seq", "lab=A", "reads=0.1")
    assert (predicted(project, "assay=ChIP-seq", "lab=A", "reads=0.2") == as_measured).all()
    assert (predicted(project, "assay=ChIP-seq", "reads=1e6") == as_measured).all()
    assert (as_measured < 0.99).all()


def test_a_fixed_level_that_all_tracks_have_changes_no_score(project: Path) -> None:
    tables = []
    for fix in ((), ("--fix", "lab=A"), ("--fix", "reads=7")):
        _, remarks = said(project, "score-variants", "input.vcf", "-o", "o.vcf", "--force", *fix, *CPU)
        tables.append(pq.read_table(project / "o.parquet").to_pandas())
        for name, text in IN_VAIN.items():
            assert remarks.count(text) == any(word.startswith(name) for word in fix)
    numbers = [name for name in tables[0] if name.startswith(("MFD_MAX", "MFD_BIO", "MFD_TECH", "MFD_SHARED"))]
    assert len(numbers) == 6
    for table in tables[1:]:
        assert np.allclose(table[numbers], tables[0][numbers], atol=1e-6)
    of_level = [name for name in tables[0] if name.startswith(("level.lab", "level.reads"))]
    assert len(of_level) == 2 and (tables[0][of_level] == 0).all().all()
    assert (
        said(project, "score-variants", "input.vcf", "-o", "q.vcf", "--fix", "lab=A", "-q", *CPU)[1].count(
            IN_VAIN["lab"]
        )
        == 0
    )
