"""The house: which way imports go, and what must never be called."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mfd_cli

SOURCE = Path(__file__).parents[1] / "src" / "mfd_cli"
FILES = sorted(SOURCE.rglob("*.py"))
HEAVY = ("torch", "pyarrow", "pysam", "pyBigWig", "scipy", "sklearn", "matplotlib", "safetensors")


def imports(file: Path, top_level_only: bool = False) -> set[str]:
    """Modules a file imports, as dotted names."""
    tree = ast.parse(file.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def name(file: Path) -> str:
    return str(file.relative_to(SOURCE))


@pytest.mark.parametrize("file", [f for f in FILES if f.parent.name == "core"], ids=name)
def test_core_meets_tensors_only(file: Path) -> None:
    used = imports(file)
    assert not any(module.startswith("mfd_cli.data") for module in used), "core and data meet in the verbs"
    assert not used & {"pyarrow", "pysam", "pyBigWig", "pathlib", "io", "gzip", "os"}
    assert "open(" not in file.read_text()


@pytest.mark.parametrize("file", [f for f in FILES if f.parent.name == "data" and f.stem != "batches"], ids=name)
def test_data_never_imports_torch_or_core(file: Path) -> None:
    used = imports(file)
    assert "torch" not in used
    assert not any(module.startswith("mfd_cli.core") for module in used)


NOT_SHELL = [f for f in FILES if not f.stem.startswith("cli") and f.stem not in ("console", "__main__")]


@pytest.mark.parametrize("file", NOT_SHELL, ids=name)
def test_only_the_shell_knows_the_terminal(file: Path) -> None:
    used = imports(file)
    assert not used & {"typer", "rich", "mfd_cli.cli", "mfd_cli.console"}
    assert not re.search(r"^\s*print\(", file.read_text(), re.MULTILINE)


def test_the_shell_is_light() -> None:
    for file in (
        "cli.py",
        "cli_shared.py",
        "cli_variants.py",
        "cli_explain.py",
        "cli_ending.py",
        "claims.py",
        "cli_predictions.py",
        "console.py",
        "config.py",
        "parse_config.py",
        "project.py",
        "errors.py",
        "files.py",
    ):
        assert not any(module.split(".")[0] in HEAVY for module in imports(SOURCE / file, top_level_only=True)), file


def test_the_door_opens_and_is_light() -> None:
    """Every public name is what its home says, none is a module's; the package alone loads nothing of weight."""
    for public in mfd_cli.__all__:
        assert getattr(mfd_cli, public).__name__ == public
        assert not (SOURCE / f"{public}.py").exists()
    assert set(mfd_cli.__all__) <= set(dir(mfd_cli))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        mfd_cli.nonsense  # noqa: B018
    script = f"import sys, mfd_cli; mfd_cli.load_project; print(*({set(HEAVY)!r} & {{m.split('.')[0] for m in sys.modules}}))"
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == ""
    )


@pytest.mark.parametrize("file", FILES, ids=name)
def test_nothing_unsafe_is_called(file: Path) -> None:
    text = file.read_text()
    assert not re.search(
        r"import pickle|pickle\.|torch\.load|yaml\.load|shell=True|os\.system|(?<![\w.])eval\(|(?<![\w.])exec\(", text
    )


def test_only_run_folder_knows_checkpoints_and_only_dataset_knows_shards() -> None:
    for file in FILES:
        text = file.read_text()
        assert "safetensors" not in text or file.stem in ("run_folder", "cli"), file
        assert "ipc.open_file" not in text or file.stem == "dataset", file
