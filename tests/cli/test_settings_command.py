"""`mfd settings`: every key with type, default, meaning and an example that works."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from kit.harm import good_project, in_process
from mfd_cli.settings.config import Config
from mfd_cli.settings.project import load_project


def listed(folder: Path, *words: str) -> list[dict[str, Any]]:
    done = in_process(["settings", *words, "--json"], folder)
    assert done.code == 0, done.told
    rows: list[dict[str, Any]] = json.loads(done.said)
    return rows


def test_every_key_has_a_meaning_a_type_and_an_example(tmp_path: Path) -> None:
    rows = listed(tmp_path)
    assert all(row["meaning"] and row["values"] and row["example"] not in ("", "required") for row in rows)
    names = {row["name"] for row in rows}
    for section, node in Config().model_dump().items():
        assert section == "factors" or {f"{section}.{key}" for key in node} <= names
    assert {"factors.NAME.column", "objective.penalties.NAME.weight"} <= names


def test_every_example_is_a_setting_that_works(tmp_path: Path) -> None:
    good_project(tmp_path / "p")
    file = tmp_path / "p/mfd.toml"
    for block in in_process(["settings"], tmp_path).said.split("    --set ")[1:]:
        (override,) = shlex.split(block.splitlines()[0])
        key, _, value = override.partition("=")
        trunk = ["model.backbone=enformer", "model.filters=0"]
        with_it = key in ("model.trunk", "model.architecture", "model.block")
        config = load_project(file, [*(trunk if with_it else []), override]).config
        node: Any = config.model_dump()
        for part in key.split("."):
            node = node[part]
        assert node not in (None, ()), key
        assert value.startswith(("[", "{")) or str(node).lower() == value.strip('"').lower() or float(value) == node


def test_a_table_a_key_and_what_is_neither(tmp_path: Path) -> None:
    assert [row["name"] for row in listed(tmp_path, "split")] == [
        f"split.{key}" for key in ("test", "validation", "guard", "folds", "fold")
    ]
    assert [row["default"] for row in listed(tmp_path, "train.lr")] == ["0.004"]
    done = in_process(["settings", "train.lrr"], tmp_path)
    assert done.code == 2 and "there is no setting 'train.lrr'; did you mean train.lr?" in done.told


def test_what_init_writes_names_the_command(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    good_project(folder)
    words = ["init", "--fasta", "genome.fa", "--metadata", "metadata.tsv", "-o", "other.toml"]
    assert in_process(words, folder).code == 0
    assert "mfd settings prints every key" in (folder / "other.toml").read_text()
