"""AnnData files, read back by anndata: pieces that make a whole, names that cannot be, rows that are none."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kit.harm import in_process
from kit.needed import Later, needs
from kit.places import SOURCE
from mfd_cli.base.errors import ConfigError, OutputError
from mfd_cli.formats import h5ad
from mfd_cli.formats.h5ad import H5adRows, check_h5ad

pytestmark = needs("anndata", "h5ad")
anndata = Later("anndata")

HOSTILE = [
    "Lab",
    "lab",
    "a/b",
    "a_b",
    "/labs/x/",
    "",
    " ",
    ".",
    "..",
    "_index",
    "index",
    "__categories",
    "é <b>",
    "x" * 300,
]
"""Names that a column of a metadata table can have."""


def written(path: Path, rows: int, names: list[str], obs: list[str], at_once: int = 3) -> Any:
    """An AnnData file of some rows, its matrix 0, 1, 2 ..., read back."""
    matrix = np.arange(rows * len(names), dtype=np.float32).reshape(rows, len(names))
    var = pa.Table.from_arrays([pa.array([f"{name}{i}" for i in range(len(names))]) for name in obs], obs)
    schema = pa.schema([(name, pa.string()) for name in obs])
    with H5adRows(path, schema, names, var, {"version": "1"}) as file:
        for low in range(0, rows, at_once):
            part = range(low, min(low + at_once, rows))
            columns = {name: [f"{name}{number % 2}" for number in part] for name in obs}
            file.write([f"r{number % 4}" for number in part], matrix[low : part.stop], columns)
    return anndata.read_h5ad(path)


def test_pieces_make_a_whole_and_each_row_has_a_name_of_its_own(tmp_path: Path) -> None:
    read = written(tmp_path / "a.h5ad", 7, ["t", "u", "t"], ["x"])
    assert read.X.dtype == np.float32 and read.X.tolist() == np.arange(21).reshape(7, 3).tolist()
    assert list(read.obs_names) == ["r0", "r1", "r2", "r3", "r0-2", "r1-2", "r2-2"]
    assert list(read.var_names) == ["t", "u", "t-2"] and list(read.var["x"]) == ["x0", "x1", "x2"]
    assert list(read.obs["x"].astype(str)) == [f"x{number % 2}" for number in range(7)]
    assert read.obs["x"].dtype == "category" and read.uns["mfd"]["version"] == "1"
    again = written(tmp_path / "b.h5ad", 7, ["t", "u", "t"], ["x"], at_once=7)
    assert (again.X == read.X).all() and again.obs.equals(read.obs)
    written(tmp_path / "c.h5ad", 7, ["t", "u", "t"], ["x"])
    assert (tmp_path / "c.h5ad").read_bytes() == (tmp_path / "a.h5ad").read_bytes()


def test_no_rows(tmp_path: Path) -> None:
    read = written(tmp_path / "a.h5ad", 0, ["t", "u"], ["x"])
    assert read.shape == (0, 2) and list(read.obs.columns) == ["x"] and list(read.var_names) == ["t", "u"]


def test_names_that_cannot_be(tmp_path: Path) -> None:
    """Every column is there, under its own name or under one that is told, and can be written again by anndata."""
    read = written(tmp_path / "a.h5ad", 4, ["/", "_index", ""], HOSTILE)
    told = json.loads(read.uns["mfd"]["renamed"])
    for table, renamed in ((read.obs, told["obs"]), (read.var, told["var"])):
        assert [renamed.get(name, name) for name in table.columns] == HOSTILE
        for name in table.columns:
            assert list(table[name].astype(str))[1] == f"{renamed.get(name, name)}1"
        assert set(renamed.values()) == {"a/b", "a_b", "/labs/x/", "", ".", "..", "_index"}
    assert list(read.var_names) == ["/", "_index", ""]


CRASH = """
import resource, signal, sys
from pathlib import Path
import numpy as np, pyarrow as pa
from mfd_cli.formats.h5ad import H5adRows

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
rows = 40_000
try:
    var = pa.table({"x": ["y"] * 4})
    with H5adRows(Path(sys.argv[2]), pa.schema([("n", pa.int64())]), list("abcd"), var, {}) as file:
        for _ in range(3):
            file.write(["r"] * rows, np.ones((rows, 4), np.float32), {"n": list(range(rows))})
except OSError as error:
    print(error.strerror)
"""
"""Writes a file of 2 MB of numbers and more where none may be larger than the first argument, in bytes."""


@pytest.mark.parametrize("most", [100, 5000, 900_000, 1_930_000])
def test_a_write_that_fails_is_an_error_and_no_crash(most: int, tmp_path: Path) -> None:
    """HDF5 itself would end the program with a segmentation fault."""
    words = [sys.executable, "-c", CRASH, str(most), str(tmp_path / "a.h5ad")]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(SOURCE.parent)})
    assert (done.returncode, done.stdout.strip()) == (0, os.strerror(errno.EFBIG)), done.stderr


def test_a_file_is_called_what_it_is(tmp_path: Path) -> None:
    assert check_h5ad(tmp_path / "A.H5AD") == tmp_path / "A.H5AD" and check_h5ad(None) is None
    with pytest.raises(OutputError, match=r"whose name must end in \.h5ad"):
        check_h5ad(tmp_path / "a.h5")


@pytest.mark.parametrize("words", [["embed", "chr1:1-100"], ["score-variants", "input.vcf"]], ids=" ".join)
def test_without_the_extra(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is opened: there is no project here."""
    monkeypatch.setattr(h5ad, "find_spec", lambda name: None)
    done = in_process([*words, "--h5ad", "x.h5ad"], tmp_path)
    assert done.code == 2 and "--h5ad needs anndata, which is not installed" in done.told
    assert "hint: pip install 'mfd-cli[h5ad]'" in done.told and not list(tmp_path.iterdir())
    with pytest.raises(ConfigError):
        check_h5ad(tmp_path / "x.h5ad")
