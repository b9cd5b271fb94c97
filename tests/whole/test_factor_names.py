"""A factor is a column of many tables: no name of a factor is that of another column of theirs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kit import shapes
from kit.harm import good_project, in_process
from kit.shapes import FACTORS, SHAPES, Shape
from mfd_cli.settings.names import OTHER_COLUMNS, wrong_factor_name

CPU = ("-q", "--gpus", "0", "--threads", "1")
HELD_OUT = next(shape for shape in SHAPES if shape.name == "a held-out level")
COMMANDS = (
    ("preprocess", "-q", "--threads", "1"),
    ("train", *CPU),
    ("evaluate", "--no-probes", *CPU),
    ("impute", *CPU),
    ("explain", "--factor", "all", "--factor", "lab", *CPU),
    ("predict", "-r", "chr1:1-3000", "--no-bigwig", *CPU),
)


def test_every_other_column_of_a_table_with_factors_is_refused_as_a_name(tmp_path: Path) -> None:
    """The list in settings/config.py is what the tables have, no less and no more, but for what queries know."""
    shapes.make(HELD_OUT, tmp_path / "p")
    for words in COMMANDS:
        done = in_process(words, tmp_path / "p")
        assert done.code == 0, done.told
    headers = [path.read_text("utf-8").split("\n")[0].split("\t") for path in (tmp_path / "p").rglob("*.tsv")]
    with_factors = [header for header in headers if set(FACTORS) <= set(header)]
    assert len(with_factors) == 5, "tracks of evaluate and of explain (twice), experiments, outputs"
    others = {name for header in with_factors for name in header} - set(FACTORS)
    assert all(wrong_factor_name(name) for name in others)
    assert {name for name in others if not name.startswith("share_")} | {"id"} == OTHER_COLUMNS


@pytest.mark.parametrize("name", ["kind", "track", "Support", "share_lab"])
def test_such_a_name_is_refused_before_anything_is_made(tmp_path: Path, name: str) -> None:
    shape = Shape("odd", HELD_OUT.rows, FACTORS | {name: '{column = "Lab", group = "technical"}'})
    shapes.make(shape, tmp_path / "p")
    done = in_process(COMMANDS[0], tmp_path / "p")
    assert done.code == 2 and not (tmp_path / "p/dataset").exists()
    line = next(n for n, text in enumerate(shapes.toml(shape).splitlines(), start=1) if text.startswith(f"{name} ="))
    assert f"mfd.toml:{line}: " in done.told and f"no factor can be called '{name}'" in done.told


def test_init_proposes_no_such_name(tmp_path: Path) -> None:
    rows = [
        row | {"Support": "ab"[i % 2], "10x kit": "xy"[i % 2], "Bins": "pq"[i % 2]}
        for i, row in enumerate(HELD_OUT.rows)
    ]
    shapes.make(Shape("odd", rows), tmp_path / "p")
    done = in_process(
        ["init", "--fasta", "genome.fa", "--metadata", "metadata.tsv", "-o", "other.toml"], tmp_path / "p"
    )
    assert done.code == 0, done.told
    proposed = re.findall(r"# \[factors\.(.*)\]", (tmp_path / "p/other.toml").read_text())
    assert {"my_support", "my_10x_kit", "my_bins"} <= set(proposed)
    assert not any(wrong_factor_name(name) for name in proposed)


def test_a_factor_called_like_a_group_is_refused(tmp_path: Path) -> None:
    """`--fix technical=average` could mean the group or the factor."""
    folder = tmp_path / "p"
    good_project(folder)
    toml = (folder / "mfd.toml").read_text().replace("[factors.assay]", "[factors.technical]")
    (folder / "mfd.toml").write_text(toml)
    done = in_process(["preprocess", "--threads", "1", "-q"], folder)
    assert done.code == 2 and "factors.technical: a group is called 'technical' too" in done.told
    assert not (folder / "dataset").exists()
