"""`mfd doctor`: what it says of this machine, and of machines on which something is missing."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest
import torch

from kit.harm import in_process
from kit.places import ROOT
from mfd_cli import __version__
from mfd_cli.engine import doctor
from mfd_cli.engine.doctor import EXTRAS, LEAST_PYTHON, NEEDED, Device, Graphics, examine_package

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_packages_are_those_of_pyproject() -> None:
    floors = dict(each.split(">=") for each in PROJECT["dependencies"])
    assert {name: floor for name, (_, floor) in NEEDED.items()} == floors
    assert PROJECT["requires-python"] == f">={'.'.join(map(str, LEAST_PYTHON))}"
    assert set(EXTRAS) == set(PROJECT["optional-dependencies"])
    for name, (packages, _) in EXTRAS.items():
        assert set(packages) <= {each.split(">=")[0] for each in PROJECT["optional-dependencies"][name]}


def test_a_machine_with_everything(tmp_path: Path) -> None:
    done = in_process(["doctor"], tmp_path)
    lines = done.said.splitlines()
    assert done.code == 0 and lines[-1] == "everything that mfd needs is there"
    assert lines[0] == f"mfd: {__version__}" and f"torch: {torch.__version__}" in lines
    assert f"torch uses {torch.backends.cpu.get_cpu_capability()}" in done.said
    assert f"this folder: {tmp_path}: writable" in done.said
    assert all(f"extra {name}: " in done.said for name in EXTRAS)
    assert not list(tmp_path.iterdir())


def test_json_holds_the_same(tmp_path: Path) -> None:
    found = json.loads(in_process(["doctor", "--json"], tmp_path).said)
    assert found["healthy"] and found["faults"] == []
    assert {each["name"] for each in found["packages"]} == set(NEEDED)
    assert found["processor"]["usable_cores"] >= 1 and found["temporary"]["free"] > 0


def test_a_package_that_is_missing_old_or_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shattered.py").write_text("raise OSError('libshattered.so: cannot open\\nshared object file')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert examine_package("no-such-package", "x", "1").fault == "is not installed"
    assert "is too old: at least 9999 is needed" in examine_package("numpy", "numpy", "9999").fault
    assert examine_package("numpy", "shattered", "1.0").fault.endswith(
        "cannot be imported (OSError: libshattered.so: cannot open shared object file)"
    )


def test_what_is_missing_stands_in_the_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.NEEDED, "no-such-package", ("no_such", "1.0"))
    done = in_process(["doctor"], tmp_path)
    expected = "no-such-package is not installed; pip install --upgrade no-such-package"
    assert done.code == 1 and done.said.splitlines()[-1].endswith(expected)
    done = in_process(["doctor", "--json"], tmp_path)
    assert done.code == 1 and json.loads(done.said)["faults"] == ["no-such-package is not installed"]


def test_it_answers_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    """In a process of its own: a broken torch must not keep the report from being printed."""
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so is missing')\n")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['mfd', 'doctor']; "
    script += "from mfd_cli.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "GPU: none: torch does not work" in done.stdout
    assert "(ImportError: libtorch.so is missing); pip install --upgrade torch" in done.stdout.splitlines()[-1]


def test_without_a_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_usable() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", none_usable)
    monkeypatch.setenv("TMPDIR", "/nowhere")
    done = in_process(["doctor"], tmp_path)
    assert done.code == 1 and "the temporary folder /nowhere is not usable; set TMPDIR" in done.said.splitlines()[-1]


def test_gpus_in_words() -> None:
    gib = 1 << 30
    there = Graphics((Device("GeForce", 8 * gib, 6 * gib),), "CUDA 12.8", "")
    assert there.line() == "GeForce, 8.0 GiB, 6.0 GiB free (torch is built for CUDA 12.8)"
    driver = Graphics((), "CUDA 12.8", "Found no NVIDIA driver on your system")
    assert driver.line() == "none: torch is built for CUDA 12.8, but Found no NVIDIA driver on your system"


@pytest.mark.parametrize("build", ["12.8", None])
def test_why_there_is_no_gpu(build: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> None:
        raise RuntimeError("Found no NVIDIA driver on your system. Please check\nthat you have a GPU")

    monkeypatch.setattr(torch.version, "cuda", build)
    monkeypatch.setattr(torch.cuda, "init", no_driver)
    found = doctor.examine_graphics()
    assert not found.devices and found.build == (f"CUDA {build}" if build else None)
    assert found.why_none.startswith("Found no NVIDIA driver" if build else "torch is built for the CPU alone")


@pytest.mark.gpu
def test_a_gpu_is_found() -> None:
    found = doctor.examine_graphics()
    assert (
        found.devices[0].name == torch.cuda.get_device_name(0) and found.devices[0].memory > found.devices[0].free > 0
    )
