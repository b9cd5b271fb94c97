"""Rare alleles counted per gene and mask: by hand, with weights, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mfd_cli.base.errors import ConfigError, InputError
from mfd_cli.contig.config import ModalitySection
from mfd_cli.contig.data.burden_sets import read_plan
from mfd_cli.contig.data.plink import PlinkFile, Variants, open_plink, write_plink
from mfd_cli.contig.data.variant_weights import file_and_column, read_weights
from mfd_cli.contig.modalities.burden import BurdenSource
from mfd_cli.contig.modalities.source import Chosen

CALLS = np.array([  # four variants of GENE1, two of GENE2; ten persons
    [1, 0, 0, 0, 2, 0, 0, 0, 0, -1],
    [1, 0, 0, 1, 0, 0, 0, 0, 0, -1],
    [2, 2, 2, 2, 2, 2, 2, 1, 2, -1],  # here the other allele is the rare one
    [1, 1, 1, 1, 1, 1, 0, 0, 0, 0],  # too common
    [0, 0, 0, 0, 0, 1, 1, 0, 0, 0],
    [0, 0, 0, 0, 0, 1, 0, 0, 0, 0],
], np.int8)  # fmt: skip
ANNOTATION = "v1 GENE1 LoF\nv2 GENE1 missense\nv3 GENE1 missense\nv4 GENE1 LoF\nv5 GENE2 LoF\nv6 GENE2 quiet\n"
SETS = "GENE1 1 1000 v1,v2,v3,v4\nGENE2 2 5000 v5,v6,v9\n"
MASKS = "strict LoF\nwide LoF,missense\n"
TRAINING = np.arange(10)


@pytest.fixture
def file(tmp_path: Path) -> PlinkFile:
    chromosome = ("1", "1", "1", "1", "2", "2")
    names = tuple(f"v{number}" for number in range(1, 7))
    those = Variants(chromosome, names, np.arange(1, 7, dtype=np.int64) * 10, ("A",) * 6, ("G",) * 6)
    ids = [f"P{number}" for number in range(10)]
    write_plink(tmp_path / "e.bed", ids, ids, those, CALLS)
    for name, text in (("annotation", ANNOTATION), ("sets", SETS), ("masks", MASKS)):
        (tmp_path / name).write_text(text)
    return open_plink(tmp_path / "e.bed")


def chosen(file: PlinkFile, training: np.ndarray = TRAINING, weights: str = "", **settings: object) -> Chosen:
    folder = file.path.parent
    plan = read_plan(folder / "annotation", folder / "sets", folder / "masks")
    values = {"kind": "burden", "annotation": "a", "sets": "s", "masks": "m", "max_maf": 0.25, "min_carriers": 1}
    if weights:
        settings = {**settings, "weights": weights, "build": "weighted"}
    modality = ModalitySection.model_validate(values | settings)
    table = read_weights(folder / weights.split(":")[0], weights.split(":")[1]) if weights else None
    absent = np.zeros(10, bool)
    source = BurdenSource("burden", modality, file, file.persons, absent, plan, table, ())
    return source.choose(training)


def raw(found: Chosen) -> np.ndarray:
    """The burdens before they were standardised; what was missing is the mean."""
    return found.values(np.arange(10)) * found.columns.sd + found.columns.mean


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        ("max", [[1, 0, 0, 0, 2, 0, 0, 0, 0], [1, 0, 0, 1, 2, 0, 0, 1, 0]]),
        ("sum", [[1, 0, 0, 0, 2, 0, 0, 0, 0], [2, 0, 0, 1, 2, 0, 0, 1, 0]]),
    ],
)
def test_burdens_by_hand(file: PlinkFile, build: str, expected: list[list[int]]) -> None:
    """Of the last person every call that counts in GENE1 is missing: so is the burden, which becomes the mean."""
    found = chosen(file, build=build)
    assert found.columns.variants.name == ("GENE1.strict", "GENE1.wide", "GENE2.strict", "GENE2.wide")
    assert found.columns.variants.chromosome == ("1", "1", "2", "2")
    assert found.columns.variants.position.tolist() == [1000, 1000, 5000, 5000]
    values = raw(found)
    assert np.allclose(values[:9, :2], np.array(expected).T, atol=1e-6)
    assert np.allclose(values[9, :2], np.mean(expected, 1), atol=1e-6)
    assert np.allclose(values[:, 2], [0, 0, 0, 0, 0, 1, 1, 0, 0, 0], atol=1e-6)
    assert found.columns.missing.tolist() == pytest.approx([0.1, 0.1, 0, 0])


def test_weights_by_name_and_by_place(file: PlinkFile) -> None:
    folder = file.path.parent
    (folder / "w.tsv").write_text("variant\tW\nv1\t2\nv2\t-1\nv3\t0.5\nv5\t1\n")
    found = chosen(file, weights="w.tsv:W")
    assert np.allclose(raw(found)[:9, 1], [1, 0, 0, -1, 4, 0, 0, 0.5, 0], atol=1e-6)
    table = {"contig": ["chr1", "1", "1", "2"], "position": [10, 20, 30, 50], "ref": ["G", "A", "G", "A"]}
    pq.write_table(pa.table({**table, "alt": ["A", "G", "A", "G"], "W": [2.0, -1.0, 0.5, 1.0]}), folder / "w.parquet")
    again = chosen(file, weights="w.parquet:W")
    assert np.array_equal(raw(again), raw(found))
    (folder / "few.tsv").write_text("variant\tW\nv1\t2\n")
    assert chosen(file, weights="few.tsv:W").left_out == {"without a variant that has a weight": 2}


def test_what_is_rare_and_who_carries_it_is_that_of_training_persons(file: PlinkFile) -> None:
    """With the first five in training v5 has no carrier there; and v1, of which they have three in ten, is not rare."""
    found = chosen(file, training=np.arange(5))
    assert found.columns.variants.name == ("GENE1.wide",)
    assert found.left_out == {
        "without a genotyped variant rarer than 0.25": 1, "with fewer than 1 carriers in training persons": 2,
    }  # fmt: skip
    with pytest.raises(InputError, match=r"modalities\.burden: no burden is left \(4 with fewer than 9 carriers"):
        chosen(file, min_carriers=9)


BAD = {
    "a line with too few words": (
        "annotation",
        "v1 GENE1\n",
        r"annotation:1: has 2 words, and a line has 3: variant, gene",
    ),
    "a class twice": ("annotation", "v1 G LoF\nv1 G mis\n", r"annotation:2: v1 has another class in G"),
    "a position that is none": ("sets", "GENE1 1 x v1\n", r"sets:1: position is 'x', no whole number"),
    "a gene twice": ("sets", "G 1 1 v1\nG 1 1 v2\n", r"sets:2: has the gene G again"),
    "a mask twice": ("masks", "a LoF\na LoF\n", r"masks:2: has the mask a again"),
    "a class that nobody has": ("masks", "a LOF\n", r"masks:1: class 'LOF' is that of no variant; did you mean LoF\?"),
    "nothing": ("masks", "\n\n", r"masks: has no line"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_a_faulty_table_is_told_with_its_line(file: PlinkFile, name: str) -> None:
    which, text, says = BAD[name]
    (file.path.parent / which).write_text(text)
    with pytest.raises(InputError, match=says):
        chosen(file)


def test_weights_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "w.tsv").write_text("variant\tscore\nv1\tx\n")
    with pytest.raises(InputError, match=r"has no column 'scor'; did you mean score\?"):
        read_weights(tmp_path / "w.tsv", "scor")
    with pytest.raises(InputError, match=r"w\.tsv:2: score is 'x', no number"):
        read_weights(tmp_path / "w.tsv", "score")
    (tmp_path / "w.tsv").write_text("name\tscore\nv1\t1\n")
    with pytest.raises(InputError, match="has neither the columns contig, position, ref, alt nor variant"):
        read_weights(tmp_path / "w.tsv", "score")
    (tmp_path / "w.parquet").write_text("no")
    with pytest.raises(InputError, match="is no Parquet file"):
        read_weights(tmp_path / "w.parquet", "score")
    assert file_and_column("C:/a.tsv:W", "s") == ("C:/a.tsv", "W")
    with pytest.raises(ConfigError, match=r's is "a\.tsv", not FILE:COLUMN'):
        file_and_column("a.tsv", "s")
