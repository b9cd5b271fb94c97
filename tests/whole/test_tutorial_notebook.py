"""examples/tutorial.ipynb: it runs from its first cell to its last, and is the same as the text beside it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from kit.needed import Later, needs
from kit.places import EXAMPLES, SOURCE

pytestmark = [needs("jupytext"), needs("nbclient"), needs("ipykernel")]
jupytext, nbclient = Later("jupytext"), Later("nbclient")

NOTEBOOK, TEXT = EXAMPLES / "tutorial.ipynb", EXAMPLES / "tutorial.py"


def test_notebook_and_text_hold_the_same_cells_and_no_output() -> None:
    """After a change of one of them: `jupytext --sync examples/tutorial.py`."""
    notebook, text = jupytext.read(NOTEBOOK), jupytext.read(TEXT)
    assert [(c.cell_type, c.source) for c in notebook.cells] == [(c.cell_type, c.source) for c in text.cells]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 10 and all(not cell.outputs and cell.execution_count is None for cell in code)
    assert notebook.metadata["jupytext"] == {"formats": "ipynb,py:percent"}


def shown(cell: Any, kind: str) -> str:
    """What a cell shows in a format, and what it has written if the format is text/plain."""
    parts = [output.get("text", "") for output in cell.outputs if kind == "text/plain"]
    return "".join([*parts, *(output.data[kind] for output in cell.outputs if kind in output.get("data", {}))])


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own, with nothing of this user's Jupyter, and in the order of its cells."""
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    monkeypatch.setenv("PYTHONPATH", str(SOURCE.parent))
    # A shell line of the notebook calls `mfd`, which need not be installed where the tests run.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mfd").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mfd_cli "$@"\n')
    (tmp_path / "bin" / "mfd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    notebook = jupytext.read(NOTEBOOK)
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    code = {cell.source: cell for cell in notebook.cells if cell.cell_type == "code"}
    assert [cell.execution_count for cell in code.values()] == list(range(1, len(code) + 1))
    assert "12 peaks, 2 signal" in shown(code[next(text for text in code if text.endswith("\nrun"))], "text/html")
    assert "run: planted/run" in shown(code["!mfd info {project.run}"], "text/plain")
    sums = next(cell for text, cell in code.items() if text.startswith("bins = "))
    assert float(shown(sums, "text/plain").removeprefix("np.float32(").rstrip(")")) < 1e-4
    assert sum(bool(shown(cell, "image/png")) for cell in code.values()) == 2
    assert sum("<table" in shown(cell, "text/html") for cell in code.values()) == 7
    assert (tmp_path / "planted/explain/target/report.html").is_file()
