"""The house: which room may import from which, and what must never be called.

`ROOMS` is the plan; docs/extending.md says in words what each room is. A new room is one line here.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import pytest

import mfd_cli
from kit.places import EXAMPLES, SOURCE

FOUNDATION = {"base"}
VALUES = FOUNDATION | {"settings", "genome"}
READING = VALUES | {"formats"}
TABLES = READING | {"core", "report"}
TRAINED = TABLES | {"experiments", "dataset", "engine", "runs"}

ROOMS: dict[str, set[str]] = {
    "base": set(),
    "settings": FOUNDATION,
    "genome": FOUNDATION,
    "report": FOUNDATION,
    "core": VALUES,
    "formats": VALUES,
    "engine": VALUES | {"core"},
    "experiments": TABLES,
    "enrichment": READING,
    "simulate": READING,
    "dataset": READING | {"core", "engine", "experiments"},
    "runs": READING | {"core", "engine", "experiments", "dataset"},
    "evaluation": TRAINED | {"enrichment"},
    "explain": TRAINED,
    "variants": TRAINED,
    "predictions": TRAINED,
    "training": TRAINED | {"evaluation"},
    "view": TRAINED | {"predictions"},
    "contig": {"base", "settings", "formats", "report", "core", "engine"},
}
ROOMS["cli"] = set(ROOMS)
"""Which rooms each room may import from, besides itself."""

HEAVY = ("torch", "pyarrow", "pysam", "pyBigWig", "scipy", "sklearn", "matplotlib", "safetensors")
"""Libraries that take long to load: `mfd --help` answers without them."""
LIGHT = ("base", "settings", "cli")
"""Rooms that do not load those when they are imported."""


def module_of(file: Path) -> str:
    """The dotted name of a file, without `mfd_cli`: variants.score, or a room alone for its __init__."""
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(file): file for file in sorted(SOURCE.rglob("*.py")) if file.parent != SOURCE}
IN_ROOMS = [pytest.param(file, id=module) for module, file in FILES.items()]
TREES = {module: ast.parse(file.read_text("utf-8")) for module, file in FILES.items()}


def imported(tree: ast.Module, when_loaded: bool = False) -> set[str]:
    """Everything that a file imports, as dotted names; with `when_loaded` only what its own import brings along."""
    found: set[str] = set()
    for node in tree.body if when_loaded else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def graph() -> dict[str, set[str]]:
    """Module to the modules of the project that it imports, wherever in the file."""
    own = {f"mfd_cli.{module}": module for module in FILES if module not in ROOMS}
    return {module: {own[name] for name in imported(tree) if name in own} - {module} for module, tree in TREES.items()}


def test_the_plan_is_a_stack() -> None:
    """No room may, through any others, import from itself."""
    above = dict(ROOMS)
    while above:
        ground = {room for room, below in above.items() if not below & set(above)}
        assert ground, f"a circle of rooms among {sorted(above)}"
        above = {room: below for room, below in above.items() if room not in ground}


def test_every_file_is_in_a_room() -> None:
    assert {module.partition(".")[0] for module in FILES} == set(ROOMS)
    assert {file.name for file in SOURCE.glob("*.py")} == {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room: str) -> None:
    wrong = [
        f"{module} imports {other}"
        for module, others in graph().items()
        for other in sorted(others)
        if module.startswith(f"{room}.") and other.partition(".")[0] not in ROOMS[room] | {room}
    ]
    assert not wrong


def test_there_is_no_circle_of_files() -> None:
    above = graph()
    while above:
        ground = {module for module, below in above.items() if not below & set(above)}
        assert ground, f"a circle among {sorted(above)}"
        above = {module: below for module, below in above.items() if module not in ground}


def test_a_circle_is_found() -> None:
    """The test before this one can fail: the plan with one arrow turned round has a circle."""
    edges = defaultdict(set, {module: set(below) for module, below in graph().items()})
    edges["base.errors"].add("cli.app")
    left = dict(edges)
    while ground := {module for module, below in left.items() if not below & set(left)}:
        left = {module: below for module, below in left.items() if module not in ground}
    assert "base.errors" in left and "cli.app" in left


@pytest.mark.parametrize("file", [f for m, f in FILES.items() if m.startswith("core.")], ids=lambda file: file.stem)
def test_core_opens_no_file(file: Path) -> None:
    assert not imported(ast.parse(file.read_text())) & {"pyarrow", "pysam", "pyBigWig", "pathlib", "io", "gzip", "os"}
    assert "open(" not in file.read_text()


@pytest.mark.parametrize(
    "file", [f for m, f in FILES.items() if m.split(".")[0] in ("formats", "genome")], ids=lambda file: file.stem
)
def test_readers_and_values_do_without_torch(file: Path) -> None:
    assert "torch" not in imported(ast.parse(file.read_text()))


@pytest.mark.parametrize("file", [f for m, f in FILES.items() if m.startswith("genome.")], ids=lambda file: file.stem)
def test_values_open_no_file(file: Path) -> None:
    assert not re.search(r"(?<![\w.])open\(|read_text|read_bytes", file.read_text())


@pytest.mark.parametrize("file", [f for m, f in FILES.items() if not m.startswith("cli.")], ids=lambda file: file.stem)
def test_only_the_shell_knows_the_terminal(file: Path) -> None:
    assert not imported(ast.parse(file.read_text())) & {"typer", "rich"}
    assert not re.search(r"^\s*print\(", file.read_text(), re.MULTILINE)


@pytest.mark.parametrize("file", [f for m, f in FILES.items() if m.split(".")[0] in LIGHT], ids=lambda file: file.stem)
def test_the_shell_is_light(file: Path) -> None:
    names = imported(ast.parse(file.read_text()), when_loaded=True)
    if file.stem != "arrays":  # which names array types, and is itself imported by heavy rooms only
        assert not any(name.split(".")[0] in HEAVY for name in names)


def test_the_door_opens_and_is_light() -> None:
    """Every public name is what its home says, none is a module's; the package alone loads nothing of weight."""
    for public in mfd_cli.__all__:
        assert getattr(mfd_cli, public).__name__ == public
        assert not (SOURCE / f"{public}.py").exists() and not (SOURCE / public).exists()
    assert set(mfd_cli.__all__) <= set(dir(mfd_cli))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        mfd_cli.nonsense  # noqa: B018
    script = f"import sys, mfd_cli; mfd_cli.load_project; print(*({set(HEAVY)!r} & {{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("file", IN_ROOMS)
def test_nothing_unsafe_is_called(file: Path) -> None:
    text = file.read_text()
    assert not re.search(
        r"import pickle|pickle\.|torch\.load(?!\([^)]*weights_only=True)|yaml\.load"
        r"|shell=True|os\.system|(?<![\w.])eval\(|(?<![\w.])exec\(",
        text,
    )


def test_formats_on_disk_have_one_home() -> None:
    """Only engine/store knows safetensors, only engine/checkpoint what a run folder is made of, only formats/arrow_files how
    Arrow is read, and only dataset/folder and contig/data/cohort_files what is in their files."""
    for module, file in FILES.items():
        text = file.read_text()
        assert "safetensors" not in imported(TREES[module]) or module == "engine.store", module
        assert "ipc.open_file" not in text or module == "formats.arrow_files", module
        assert "read_arrow" not in text or module in (
            "formats.arrow_files",
            "dataset.folder",
            "contig.data.cohort_files",
        ), module
        # Other packages call a checkpoint so too: one is read where a training starts from their trunk.
        assert '"model.safetensors"' not in text or module in ("engine.checkpoint", "training.start_trunk"), module


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_examples_import_what_is_there(file: Path) -> None:
    """A benchmark is run by nobody's test: a name that moved would be missed."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mfd_cli"):
            home = import_module(node.module or "")
            for alias in node.names:
                assert hasattr(home, alias.name) or import_module(f"{node.module}.{alias.name}")
