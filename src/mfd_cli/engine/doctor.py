"""`mfd doctor`: what this machine offers the program, and whether all that it needs is there and works.

Nothing here raises where something is missing: that is what the report is for.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from mfd_cli.base.threads import usable_cores

NEEDED = {
    "torch": ("torch", "2.6"),
    "typer": ("typer", "0.15"),
    "pysam": ("pysam", "0.22"),
    "pyBigWig": ("pyBigWig", "0.3.23"),
    "numpy": ("numpy", "1.26"),
    "pyarrow": ("pyarrow", "17"),
    "rich": ("rich", "13.7"),
    "pydantic": ("pydantic", "2.9"),
    "safetensors": ("safetensors", "0.4.5"),
    "scipy": ("scipy", "1.13"),
    "scikit-learn": ("sklearn", "1.5"),
    "matplotlib": ("matplotlib", "3.9"),
    "filelock": ("filelock", "3.16"),
    "jinja2": ("jinja2", "3.1"),
    "pillow": ("PIL", "10.4"),
    "threadpoolctl": ("threadpoolctl", "3.5"),
}
"""Packages without which the program does not work: the module that is imported, and the lowest version (pyproject.toml)."""

EXTRAS = {
    "motifs": (("modisco-lite",), "TF-MoDISco motifs: mfd explain --modisco"),
    "fast": (("isal",), "faster reading of bigWig files"),
    "view": (("igv-notebook",), "the genome browser of a page: mfd view"),
    "h5ad": (("anndata",), "AnnData files of latents and scores: --h5ad"),
    "tensorboard": (("tensorboard",), "curves in TensorBoard while a training goes on: train.tensorboard"),
    "ray": (("ray",), "workers of a cluster: --engine ray"),
    "enformer": (("enformer-pytorch",), "the trunk of an Enformer as backbone: model.backbone"),
    "borzoi": (("borzoi-pytorch",), "the trunk of a Borzoi as backbone: model.backbone"),
    "remote": (("fsspec", "aiohttp", "s3fs", "gcsfs"), "inputs by URL: mfd fetch-inputs"),
    "docs": (("mkdocs-material",), "the pages of the documentation: make docs"),
    "bench": (("pyranges", "pandas"), "what make bench compares with"),
    "dev": (("pytest", "hypothesis", "ruff", "mypy", "statsmodels", "captum"), "tests and lint, for work on mfd"),
}
"""Optional extras, `pip install 'mfd-cli[NAME]'`: packages that show that one is installed, and what it is for."""

GIB = 1 << 30
LEAST_PYTHON = (3, 11)


@dataclass(frozen=True)
class Package:
    """A package that is needed: its version (None where it is not installed), and what is wrong with it ("" for nothing)."""

    name: str
    version: str | None
    fault: str


@dataclass(frozen=True)
class Extra:
    """An optional extra: what it is for, and the packages of it that are not there (none: it is installed)."""

    name: str
    purpose: str
    missing: Sequence[str]


@dataclass(frozen=True)
class Device:
    """A GPU: its name, and its memory and what is free of it in bytes."""

    name: str
    memory: int
    free: int


@dataclass(frozen=True)
class Graphics:
    """The GPUs that torch can use, the CUDA or ROCm that it is built for (None: neither), and why there is none ("")."""

    devices: Sequence[Device]
    build: str | None
    why_none: str

    def line(self) -> str:
        """Return the GPUs in words, or why there is none."""
        built = f"torch is built for {self.build}" if self.build else "torch is built for the CPU alone"
        if not self.devices:
            return f"none: {self.why_none}" if self.build is None else f"none: {built}, but {self.why_none}"
        shown = (f"{d.name}, {d.memory / GIB:.1f} GiB, {d.free / GIB:.1f} GiB free" for d in self.devices)
        return f"{'; '.join(shown)} ({built})"


@dataclass(frozen=True)
class Processor:
    """Cores of the machine, those that this process may use (OMP_NUM_THREADS counts), the instruction set that torch's
    kernels use ("" where torch does not work), the machine's memory and what is free of it in bytes (None: unknown)."""

    machine: str
    cores: int
    usable_cores: int
    instructions: str
    memory: int | None
    free_memory: int | None

    def lines(self) -> list[str]:
        """Return threads and memory in words."""
        kernels = f"; torch uses {self.instructions}" if self.instructions else ""
        lines = [f"{self.usable_cores} threads on {self.cores} cores ({self.machine}){kernels}"]
        if self.memory is not None and self.free_memory is not None:
            lines.append(f"{self.free_memory / GIB:.1f} GiB free of {self.memory / GIB:.1f} GiB")
        return lines


@dataclass(frozen=True)
class Place:
    """A folder that is written to: its path, the free bytes of its disk, and what is wrong with it ("" for nothing)."""

    path: str
    free: int
    fault: str

    def line(self) -> str:
        """Return the place in words."""
        return f"{self.path}: {self.fault or f'writable, {self.free / GIB:.1f} GiB free'}"


@dataclass(frozen=True)
class Health:
    """All that `mfd doctor` found. The present folder may be read-only: results can go elsewhere, so it breaks nothing."""

    versions: Mapping[str, str]
    packages: Sequence[Package]
    graphics: Graphics
    processor: Processor
    temporary: Place
    here: Place
    extras: Sequence[Extra]
    faults: Sequence[str]

    @property
    def verdict(self) -> str:
        """The last line: everything is there, or what is missing and how to get it."""
        broken = [package.name for package in self.packages if package.fault]
        if not self.faults:
            return "everything that mfd needs is there"
        mend = f"; pip install --upgrade {' '.join(broken)}" if broken else ""
        return f"not all that mfd needs is there: {'; '.join(self.faults)}{mend}"

    def to_json(self) -> dict[str, Any]:
        """Return the same as plain values; sizes are in bytes."""
        return {"healthy": not self.faults, **asdict(self), "verdict": self.verdict}

    def lines(self) -> list[str]:
        """Return the report in words; the verdict comes last."""
        return [
            *(f"{name}: {version}" for name, version in self.versions.items()),
            *(f"{each.name}: {each.fault or each.version}" for each in self.packages),
            f"GPU: {self.graphics.line()}",
            *(f"{what}: {line}" for what, line in zip(("CPU", "memory"), self.processor.lines())),
            f"temporary folder: {self.temporary.line()}",
            f"this folder: {self.here.line()}",
            *(f"extra {each.name}: {_state_of(each)} ({each.purpose})" for each in self.extras),
            self.verdict,
        ]


def examine() -> Health:
    """Look at versions, GPUs, cores, memory, disks and packages. Every needed package is imported: that takes seconds."""
    from mfd_cli import __version__

    packages = [examine_package(name, module, floor) for name, (module, floor) in NEEDED.items()]
    torch_works = not next(package.fault for package in packages if package.name == "torch")
    temporary, here = examine_temporary(), examine_place(Path.cwd())
    extras = [Extra(name, purpose, _not_installed(members)) for name, (members, purpose) in EXTRAS.items()]
    faults = [f"{package.name} {package.fault}" for package in packages if package.fault]
    faults += [f"the temporary folder {temporary.path} {temporary.fault}"] if temporary.fault else []
    if sys.version_info < LEAST_PYTHON:
        faults.append(f"Python {platform.python_version()} is below {'.'.join(map(str, LEAST_PYTHON))}")
    return Health(
        versions={"mfd": __version__, "Python": platform.python_version(), "system": platform.platform()},
        packages=packages,
        graphics=examine_graphics() if torch_works else Graphics((), None, "torch does not work"),
        processor=examine_processor(torch_works),
        temporary=temporary,
        here=here,
        extras=extras,
        faults=faults,
    )


def examine_package(name: str, module: str, floor: str) -> Package:
    """Return a package with what is wrong with it: it is not installed, too old, or cannot be imported."""
    version = _version_of(name)
    if version is None:
        return Package(name, None, "is not installed")
    if _numbers(version) < _numbers(floor):
        return Package(name, version, f"{version} is too old: at least {floor} is needed")
    try:
        import_module(module)
    except Exception as error:  # a broken installation may raise anything
        reason = " ".join(str(error).split())[:200]
        return Package(name, version, f"{version} cannot be imported ({type(error).__name__}: {reason})")
    return Package(name, version, "")


def examine_graphics() -> Graphics:
    """Return the GPUs that torch can use, or why it can use none."""
    import torch

    hip = getattr(torch.version, "hip", None)
    build = f"ROCm {hip}" if hip else f"CUDA {torch.version.cuda}" if torch.version.cuda else None
    if build is None:
        return Graphics((), None, "torch is built for the CPU alone; a GPU needs its CUDA build")
    try:
        torch.cuda.init()
        devices = [_device(number) for number in range(torch.cuda.device_count())]
    except (RuntimeError, AssertionError) as error:  # no driver, one that is too old, a GPU in another's hands
        return Graphics((), build, str(error).splitlines()[0].rstrip("."))
    return Graphics(devices, build, "" if devices else "there is no GPU that this process may use")


def examine_processor(torch_works: bool) -> Processor:
    """Return cores, threads, instruction set and memory of this machine."""
    instructions = ""
    if torch_works:
        import torch

        instructions = torch.backends.cpu.get_cpu_capability()
    memory = _memory()
    cores = os.cpu_count() or 1
    free, total = memory.get("MemAvailable"), memory.get("MemTotal")
    return Processor(platform.machine(), cores, usable_cores(), instructions, total, free)


def examine_temporary() -> Place:
    """Return the folder for temporary files, which Python looks for among several."""
    try:
        return examine_place(Path(tempfile.gettempdir()))
    except FileNotFoundError:
        return Place(os.environ.get("TMPDIR", "/tmp"), 0, "is not usable; set TMPDIR to a folder that is")


def examine_place(folder: Path) -> Place:
    """Return a folder with the free space of its disk, and whether a file can be written there."""
    free = shutil.disk_usage(folder).free
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"mfd")
    except OSError as error:
        return Place(str(folder), free, f"is not writable ({error.strerror})")
    return Place(str(folder), free, "")


def _device(number: int) -> Device:
    """Return a GPU by its number."""
    import torch

    free, memory = torch.cuda.mem_get_info(number)
    return Device(torch.cuda.get_device_name(number), memory, free)


def _memory() -> dict[str, int]:
    """Return the entries of /proc/meminfo in bytes; none where there is no such file."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split()[:2] for line in lines)
    return {name.rstrip(":"): int(kibibytes) << 10 for name, kibibytes in pairs}


def _state_of(extra: Extra) -> str:
    if not extra.missing:
        return "installed"
    return f"not installed, pip install 'mfd-cli[{extra.name}]'"


def _not_installed(packages: Sequence[str]) -> list[str]:
    """Return those of the packages that are not installed."""
    return [name for name in packages if _version_of(name) is None]


def _version_of(package: str) -> str | None:
    """Return the version of an installed package; None where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: 2.6.0+cpu is (2, 6, 0)."""
    parts = version.split("+")[0].split(".")
    return tuple(int(part) for part in parts if part.isdigit())
