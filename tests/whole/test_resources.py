"""Where there is too little: disk, memory, permission, home, network. One line and exit code 2, or it simply works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from kit import harm, warm
from kit.places import TESTS
from mfd_cli.base.errors import OutputError
from mfd_cli.cli import ending as cli_ending
from mfd_cli.cli.ending import as_known


def own_disk() -> bool:
    """Whether a small disk of our own can be mounted here."""
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run(["unshare", "-rmn", "sh", "-c", "mount -t tmpfs -o size=1m none /mnt"], capture_output=True)
    return done.returncode == 0


DISK = pytest.mark.skipif(not own_disk(), reason="no disk can be mounted here without being root")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resources") / "template"
    harm.trained_project(folder)
    return folder


APART = str(TESTS / "kit" / "apart.py")


SCORE = "score-variants -q --gpus 0 --threads 1 input.vcf -o OUT/out"
SATURATE = "score-variants -q --gpus 0 --threads 1 --saturate chr2:1001-3000 -o OUT/out"
EMBED = "embed -q --gpus 0 --threads 1 chr1:1001-3000 -o OUT/out.parquet --h5ad OUT/out.h5ad"
FULL = {
    "preprocess": (24, "preprocess -q --threads 1 --dataset OUT/dataset"),
    "train": (24, "train -q --gpus 0 --threads 1 --run OUT/run"),
    "explain": (24, "explain -q --gpus 0 --threads 1 --factor assay -o OUT/assay"),
    "predict": (24, "predict -q --gpus 0 --threads 1 -r all -o OUT/predictions"),
    **{f"score-variants, {size} kB": (size, f"{SCORE}.vcf.gz") for size in (4, 8, 12, 16, 20)},
    **{f"embed, {size} kB": (size, EMBED) for size in (8, 24, 60, 200) if find_spec("anndata")},
    **{f"score-variants, BCF, {size} kB": (size, f"{SCORE}.bcf") for size in (4, 8, 12, 16, 20, 24)},
    **{f"saturate, TSV, {size} kB": (size, f"{SATURATE}.tsv.gz") for size in (4, 8, 40, 140, 160)},
    **{f"saturate, BCF, {size} kB": (size, f"{SATURATE}.bcf") for size in (40, 800)},
}
"""What is run, and the size of the disk. Scores take little, and fail at another file with each size."""


@DISK
@pytest.mark.parametrize(
    "name", list(FULL) if harm.SOAK else ["preprocess", "train", "predict", "score-variants, 8 kB"]
)
def test_a_full_disk(name: str, template: Path, tmp_path: Path) -> None:
    """Results go to a small disk: one line, nothing left but locks and marks; the inputs are elsewhere."""
    (tmp_path / "OUT").mkdir()
    project, (size, words) = shutil.copytree(template, tmp_path / "p"), FULL[name]
    out = tmp_path / "OUT"
    mount, files = f"mount -t tmpfs -o size={size}k none {out}", f"find {out} -type f -size +1"
    done = warm.run([APART, mount, files, *words.replace("OUT", str(out)).split()], project)
    assert done.returncode == 2, done.stderr
    last = [line for line in done.stderr.splitlines() if not line.startswith("hint")][-1]
    assert last.startswith("mfd: error: ") and "no space left" in last
    assert ".parts" in done.stdout or not [line for line in done.stdout.splitlines() if "/OUT/" in line]


@DISK
def test_without_network_home_or_writable_inputs(template: Path, tmp_path: Path) -> None:
    """The project lies on a disk that cannot be written; there is no HOME and no network."""
    project = shutil.copytree(template, tmp_path / "p")
    (out := tmp_path / "out").mkdir()
    sealed = f"mount --bind -o ro {project} {project} && mount -o remount,bind,ro {project} {project} && ! touch {project}/here"
    lines = {
        "preprocess": f"preprocess -q --threads 1 --dataset {out}/dataset",
        "score-variants": f"score-variants -q --gpus 0 input.vcf -o {out}/a.vcf.gz",
        "explain": f"explain -q --gpus 0 --factor assay --top 2 -o {out}/assay",
    }
    for name, line in lines.items():
        words = [APART, sealed, ":", *line.split()]
        if name == "explain":  # matplotlib looks for a home when it is imported
            done = subprocess.run([sys.executable, *words], cwd=project, capture_output=True, text=True, timeout=120)
        else:
            done = warm.run(words, project)
        assert done.returncode == 0, f"{name}: {done.returncode} {done.stderr}"
    assert (out / "a.vcf.gz").stat().st_size > 0 and (out / "assay/report.html").is_file()
    done = warm.run([APART, sealed, ":", "score-variants", "-q", "--gpus", "0", "input.vcf"], project)
    assert done.returncode == 2, f"{done.returncode} {done.stderr}"
    assert "cannot be written" in done.stderr and "Traceback" not in done.stderr


def test_too_little_memory_is_one_line(template: Path, tmp_path: Path) -> None:
    """2 GB of addresses more than Python and this build of torch start with: what is too much for them is told in a line."""
    project = shutil.copytree(template, tmp_path / "p")
    script = (
        "import mfd_cli.training.train; import resource, sys; from mfd_cli.cli import app as cli\n"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmPeak')).split()[1]\n"
        "resource.setrlimit(resource.RLIMIT_AS, ((int(peak) + 2_000_000) * 1024,) * 2)\n"
        "sys.argv[0] = 'mfd'; cli.main()"
    )
    words = "train -q --gpus 0 --threads 1 --force"
    wide = "--set model.width=4096 --set model.latent=8192 --set model.hidden=8192"
    done = subprocess.run(
        [sys.executable, "-c", script, *words.split(), *wide.split()],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 2, done.stderr[-500:]
    assert "mfd: error: there is not enough memory" in done.stderr and "Traceback" not in done.stderr


def test_what_a_lack_is_known_by(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    import torch

    with pytest.raises(MemoryError) as caught:
        np.zeros(1 << 50)
    assert "not enough memory" in str(as_known(caught.value))
    with pytest.raises(RuntimeError) as other:
        torch.zeros(1 << 55)
    assert "not enough memory" in str(as_known(other.value))
    assert isinstance(as_known(OSError(28, "No space left on device", "x")), OutputError)
    assert as_known(SystemError("error return without exception set")) is None
    monkeypatch.setattr(cli_ending, "_is_scarce", lambda: True)
    assert "not enough memory" in str(as_known(SystemError("error return without exception set")))
    assert as_known(KeyError("x")) is None and as_known(OSError(5, "input/output error")) is None
