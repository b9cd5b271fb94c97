"""Two workers against one on this machine: `python examples/bench_scale.py PROJECT [--turns 3] [--only predict embed ...]`.

PROJECT has a dataset and a run. The ways of doing one and the same work take turns: one process with one thread, one process
with two threads, two workers with one thread each, two shards side by side that are gathered, and two workers of a Ray cluster
where ray is installed. Told are medians of seconds by the clock, of processor seconds, and the memory of the largest process.
Whatever the way, results must have the same bytes (with one thread). An empty job, one bin, says what each way costs by
itself. Seconds by the clock mean something on a machine that does nothing else: the load is told beside them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from mfd_cli.dataset.folder import open_dataset
from mfd_cli.genome.grid import BIN
from mfd_cli.settings.project import load_project
from mfd_cli.variants.random_substitutions import draw
from spent import Spent, spent

CPU = ("--gpus", "0", "-q")
ONE, TWO = ("--threads", "1"), ("--threads", "2")
VARIANTS, SATURATED, REGION = 8_000, 1024, 400
"""Variants that are scored, bins whose substitutions are scored, and bp from one embedded region to the next."""
BACKGROUND = "run/background"


@dataclass(frozen=True)
class Bench:
    """A copy of a project, what the commands read, and where their results go."""

    project: Path
    temporary: Path

    def run(self, words: Sequence[str], name: str = "one") -> Spent:
        """Run a command on the CPU and return what it took."""
        folder = self.temporary / name
        folder.mkdir(exist_ok=True)
        return spent([*words, *CPU], self.project, folder)


Way = Callable[[Bench, Sequence[str], str], Spent]
"""Does the work of a command whose result has the given name."""


def one_thread(bench: Bench, words: Sequence[str], result: str) -> Spent:
    return bench.run([*words, *ONE])


def two_threads(bench: Bench, words: Sequence[str], result: str) -> Spent:
    return bench.run([*words, *TWO])


def two_workers(bench: Bench, words: Sequence[str], result: str) -> Spent:
    return bench.run([*words, *ONE, "--workers", "2"])


def two_shards(bench: Bench, words: Sequence[str], result: str) -> Spent:
    """Two commands at the same time, and the one that gathers."""
    started = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        shards = list(pool.map(lambda i: bench.run([*words, *ONE, "--shard", f"{i}/2"], f"shard-{i}"), (1, 2)))
    if result == BACKGROUND:  # its name says with what it was made
        (parts,) = (bench.project / BACKGROUND).glob(".*.parts")
        result = f"{BACKGROUND}/{parts.name[1:].removesuffix('.parts')}"
    gathered = spent(["gather", result, "-q"], bench.project, bench.temporary / "one")
    each = [*shards, gathered]
    return Spent(time.monotonic() - started, sum(one.cpu for one in each), max(one.memory for one in each))


def two_of_ray(bench: Bench, words: Sequence[str], result: str) -> Spent:
    """Workers are the cluster's processes: what they use of processors and memory is not seen here."""
    took = bench.run([*words, *ONE, "--engine", "ray", "--workers", "2", "--address", os.environ["BENCH_RAY"]])
    return Spent(took.wall, float("nan"), 0)


WAYS: dict[str, Way] = {
    "one process, 1 thread": one_thread,
    "one process, 2 threads": two_threads,
    "--workers 2": two_workers,
    "--shard 1/2 and 2/2": two_shards,
    "--engine ray --workers 2": two_of_ray,
}
ALONE = "one process, 1 thread"


@contextmanager
def ray_cluster() -> Iterator[bool]:
    """Start a Ray cluster of this machine's two cores, if ray is installed, and end it; tell whether there is one."""
    if importlib.util.find_spec("ray") is None:
        yield False
        return
    address = "127.0.0.1:26379"
    words = ["--head", "--block", "--port=26379", "--num-cpus=2", "--include-dashboard=false"]
    started = [sys.executable, "-m", "ray.scripts.scripts", "start", *words, "--object-store-memory=80000000"]
    head = subprocess.Popen(started, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.environ["BENCH_RAY"] = address
    time.sleep(20)
    try:
        yield head.poll() is None
    finally:
        head.terminate()
        head.wait(60)


def lines_of(bench: Bench, number: int, saturated: int) -> dict[str, tuple[list[str], str]]:
    """Return the words of each command, and the name of its result, after writing what they read."""
    genome = open_dataset(load_project(bench.project / "mfd.toml").dataset).genome
    variants = draw(genome, number, np.random.default_rng(0))
    order = {name: number for number, name in enumerate(genome.lengths)}
    head = [f"##contig=<ID={name},length={length}>" for name, length in genome.lengths.items()]
    rows = [
        f"{each.contig}\t{each.position}\t.\t{each.ref}\t{each.alt}\t.\t.\t."
        for each in sorted(variants, key=lambda variant: (order[variant.contig], variant.position))
    ]
    names = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"
    (bench.project / "bench.vcf").write_text("\n".join(["##fileformat=VCFv4.2", *head, names, *rows]) + "\n")
    regions = [
        f"{name}\t{start}\t{start + BIN}\n"
        for name, length in genome.lengths.items()
        for start in range(0, length - BIN, REGION)
    ]
    (bench.project / "bench.bed").write_text("".join(regions))
    contig = max(genome.lengths, key=lambda name: genome.lengths[name])
    end = min(saturated, genome.lengths[contig] // BIN) * BIN
    return {
        "predict": (["predict", "-r", "all", "-o", "OUT"], "OUT"),
        "embed": (["embed", "bench.bed", "-o", "OUT.parquet"], "OUT.parquet"),
        "score-variants": (["score-variants", "bench.vcf", "-o", "OUT.vcf.gz"], "OUT.vcf.gz"),
        "saturate": (["score-variants", "--saturate", f"{contig}:1-{end}", "-o", "OUT.parquet"], "OUT.parquet"),
        "background": (["background", "-n", str(number)], BACKGROUND),
        "one bin": (["predict", "-r", f"{contig}:1-{BIN}", "--no-bigwig", "-o", "OUT"], "OUT"),
    }


def results(project: Path) -> Iterator[Path]:
    """Yield what a command has made."""
    yield from project.glob("OUT*")
    yield from (project / "run").glob("background*")


def digest(project: Path) -> str:
    """Return one digest of all that a command has made."""
    files = sorted(path for made in results(project) for path in (made.rglob("*") if made.is_dir() else [made]))
    return sha256(b"".join(path.read_bytes() for path in files if path.is_file())).hexdigest()


def clear(project: Path) -> None:
    for made in list(results(project)):
        shutil.rmtree(made) if made.is_dir() else made.unlink()


def main() -> None:
    """Let the ways take turns with each command, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("project", type=Path)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="commands")
    parser.add_argument("--variants", type=int, default=VARIANTS)
    parser.add_argument("--saturated", type=int, default=SATURATED, help="bins")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    told = []
    with TemporaryDirectory(prefix="mfd-bench-") as temporary, ray_cluster() as ray:
        shutil.copytree(options.project, Path(temporary) / "project")
        bench = Bench(Path(temporary) / "project", Path(temporary))
        print("| work | way | seconds | times as fast | processor seconds | MiB of the largest process |")
        print("|---|---|---|---|---|---|", flush=True)
        for name, (words, result) in lines_of(bench, options.variants, options.saturated).items():
            if options.only and name not in options.only:
                continue
            ways = {way: run for way, run in WAYS.items() if ray or run is not two_of_ray}
            told += compared(bench, name, words, result, ways, options.turns)
    print("load of the machine (1, 5, 15 minutes): " + ", ".join(f"{load:.1f}" for load in os.getloadavg()))
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")


def compared(
    bench: Bench, name: str, words: Sequence[str], result: str, ways: dict[str, Way], turns: int
) -> list[dict[str, object]]:
    """Do one command's work in all ways, in turns; print a row for each way, and return what each took."""
    took: dict[str, list[Spent]] = {way: [] for way in ways}
    made: dict[str, str] = {}
    for _ in range(turns):
        for way, run in ways.items():
            took[way].append(run(bench, words, result))
            made[way] = digest(bench.project)
            clear(bench.project)
    same = {made[way] for way in ways if ways[way] is not two_threads}
    assert len(same) == 1, f"{name}: the ways do not agree"
    for way, each in took.items():
        ratios = [one.wall / own.wall for one, own in zip(took[ALONE], each)]
        seconds, cpu, memory = median(s.wall for s in each), median(s.cpu for s in each), max(s.memory for s in each)
        fast = f"{median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"
        seen = f"{cpu:.1f} | {memory / 2**20:,.0f}" if memory else "|"
        print(f"| {name} | {way} | {seconds:.1f} | {fast} | {seen} |", flush=True)
    return [{"work": name, "way": way, "took": [asdict(one) for one in each]} for way, each in took.items()]


if __name__ == "__main__":
    main()
