"""What is given to others: a wheel and an sdist with all that is needed, the same bytes each time, and a wheel that runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from kit.places import ROOT


def sources() -> list[str]:
    """The files that a package is made from: those that git knows, or would."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    names = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    return [name for name in names if name.startswith(("src/", ".ci/")) or "/" not in name]


def built(folder: Path) -> dict[str, bytes]:
    """Build the project in a copy of its files, so that nothing of a working folder comes along."""
    source = folder / "source"
    for name in sources():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, str(source / ".ci/dist.py"), str(folder / "dist")],
        check=True,
        capture_output=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1767225600"},
    )
    return {path.name: path.read_bytes() for path in (folder / "dist").iterdir()}


@pytest.mark.slow
def test_wheel_and_sdist_are_complete_repeatable_and_run(tmp_path: Path) -> None:
    pytest.importorskip("build")
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first, second = built(tmp_path / "one"), built(tmp_path / "two")
    assert first == second and len(first) == 2
    wheel = next((tmp_path / "one/dist").glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        console = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert {name.removeprefix("src/") for name in sources() if name.startswith("src/")} <= names
    assert "mfd = mfd_cli.cli.app:main" in console and any(name.endswith("licenses/LICENSE") for name in names)
    with tarfile.open(next((tmp_path / "one/dist").glob("*.tar.gz"))) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "src/mfd_cli/cli/app.py"} <= packed
    program = installed(wheel, tmp_path)
    place = subprocess.run(
        [program.parent / "python", "-c", "import mfd_cli; print(mfd_cli.__file__)"],
        cwd=tmp_path, env=ALONE, capture_output=True, text=True,
    )  # fmt: skip
    assert place.stdout.startswith(str(program.parents[1])), place.stderr
    for words in (["--version"], ["simulate", "planted", "--size", "tiny", "-q"]):
        done = subprocess.run([program, *words], cwd=tmp_path, env=ALONE, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "planted/truth/causes.json").is_file()


ALONE = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("PIP_")}
"""The environment without a path to the sources, and without what says where pip looks."""


def installed(wheel: Path, folder: Path) -> Path:
    """Install a wheel as a user does, by its name, from an index in a folder (PEP 503); return the `mfd` that was installed.

    The environment is a fresh one that finds all other packages where the tests find them.
    """
    index = folder / "simple" / "mfd-cli"
    index.mkdir(parents=True)
    (index / wheel.name).write_bytes(wheel.read_bytes())
    (index / "index.html").write_text(
        f'<!DOCTYPE html><html><body><a href="{wheel.name}">{wheel.name}</a></body></html>'
    )
    venv.create(folder / "fresh", with_pip=False)
    python = folder / "fresh/bin/python"
    (home,) = (folder / "fresh").glob("lib/python3*/site-packages")
    (home / "others.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("site-packages")))
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"),
            *("--no-cache-dir", "--ignore-installed", "--index-url", index.parent.as_uri(), "mfd-cli"),
        ],
        check=True,
        env={**ALONE, "PIP_CONFIG_FILE": os.devnull},
    )
    return folder / "fresh/bin/mfd"


def test_dependencies_have_floors_and_the_constraints_meet_them() -> None:
    """Every dependency says its lowest version, and the versions that we test with are above it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and line[0] != "#"
    )
    known = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    for dependency in wanted:
        name, _, floor = dependency.partition(">=")
        assert floor, f"{dependency} has no floor"
        pin = known.get(name.lower().replace("_", "-"))
        assert pin is not None, f"constraints.txt does not pin {name}"
        numbers = [
            tuple(int(part) for part in text.split("+")[0].split(".") if part.isdigit()) for text in (floor, pin)
        ]
        assert numbers[0] <= numbers[1], f"{name}: {pin} is below {floor}"
