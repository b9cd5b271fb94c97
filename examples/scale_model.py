"""How long a data set takes on several devices, from what a unit of each work costs here.

    python examples/scale_model.py PROJECT --save costs.json
    python examples/scale_model.py costs.json --bins 2.4e7 --tracks 2106 --variants 4e6 --devices 8

PROJECT is a folder with mfd.toml, a dataset and a run. Short runs of each command, of growing size, say what it costs to start,
and what a unit costs more: a megabyte of track files, a training window, a bin and its outputs, a variant, a substitution. A
device is a core (processor seconds of one thread, so that other programs on the machine do not count), or with --gpus 1 a GPU
(seconds by the clock, of an idle machine). The calculation then is

    seconds = start + (start of a worker, with several devices) + units x cost / devices

and memory is that of the largest run, and a byte for each base that the genome has more. What is not in it: disks that are
slower for several readers, and the wait for the last piece of a work. Training on n devices is taken to be n times as fast.
Costs of training, variants and substitutions are those of a network with PROJECT's tracks: for many more tracks, measure a
project that has them.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.optimize import nnls

from mfd_cli.dataset.folder import Dataset, open_dataset
from mfd_cli.genome.grid import BIN
from mfd_cli.runs.folder import load_run, run_folders
from mfd_cli.settings.config import TrainConfig
from mfd_cli.settings.project import load_project
from mfd_cli.training.length import BINS, MOST_EPOCHS
from mfd_cli.training.plan import WITHOUT_GRADIENT
from mfd_cli.training.validate import MOST_WINDOWS
from mfd_cli.variants.random_substitutions import draw
from spent import Spent, spent

SUBSTITUTIONS = 3 * BIN
"""Of a bin."""
SECONDS = 10.0
"""What the longest run of a command takes more than the shortest, at least, where there is so much to do."""


@dataclass(frozen=True)
class Cost:
    """What one command costs: seconds to start, seconds and bytes on disk of a unit, seconds and bytes of a unit's output
    (where the command has one for each track), and bytes of memory. `largest` is how many units the largest run had."""

    start: float
    unit: float
    output: float
    disk: float
    output_disk: float
    memory: float
    largest: float

    def seconds(self, units: float, outputs: float = 0, devices: int = 1, worker: float = 0.0) -> float:
        """Return how long so many units take, each with so many outputs, on devices whose workers take so long to start."""
        return self.start + worker * (devices > 1) + units * (self.unit + outputs * self.output) / devices

    def bytes_on_disk(self, units: float, outputs: float = 0) -> float:
        """Return how large the result is."""
        return units * (self.disk + outputs * self.output_disk)


@dataclass(frozen=True)
class Costs:
    """What is measured: a cost for each command, and the seconds that a worker takes to start. `genome_bins`, `tracks`,
    `megabytes` of track files and `shares` (of the bins: those that train, and that validate) are the project's."""

    commands: Mapping[str, Cost]
    worker: float
    gpus: int
    genome_bins: int
    tracks: int
    megabytes: float
    shares: tuple[float, float]


@dataclass(frozen=True)
class Place:
    """The project that is measured, and a folder for what that makes."""

    project: Path
    temporary: Path
    gpus: int = 0

    def took(self, *words: str) -> Spent:
        """Run a command, with one thread on the CPU, and return what it took."""
        threads = () if self.gpus else ("--threads", "1")
        return spent([*words, *threads, "-q"], self.project, self.temporary)

    def seconds(self, took: Spent) -> float:
        """Return the seconds that count: of the processor, or with a GPU by the clock."""
        return took.wall if self.gpus else took.cpu

    @property
    def device(self) -> tuple[str, ...]:
        """The words that say where a network runs."""
        return "--gpus", str(self.gpus)

    @property
    def run(self) -> Path:
        """The project's run, the first of several seeds."""
        return run_folders(load_project(self.project / "mfd.toml").run)[0].absolute()

    @property
    def dataset(self) -> Dataset:
        """The project's dataset."""
        return open_dataset(load_project(self.project / "mfd.toml").dataset)


@dataclass(frozen=True)
class Sample:
    """One run: what it took, for how many units with how many outputs each, and how many bytes its result has."""

    units: float
    outputs: int
    took: Spent
    disk: int


Runs = Callable[[Place, int], Sample]
"""Runs a command on about so many units; on fewer where there are not as many."""


# -- one run of each command -------------------------------------------------------------------------------------------


def preprocess(place: Place, rows: int) -> Sample:
    """The first rows of the table; a unit is a megabyte of their files."""
    columns = load_project(place.project / "mfd.toml").config
    assert columns.data.metadata is not None, "the table is named in mfd.toml"
    table = place.project / columns.data.metadata
    with table.open(newline="") as file:
        reader = csv.DictReader(file, delimiter="\t")
        names, chosen = list(reader.fieldnames or ()), [row for _, row in zip(range(rows), reader)]
    files = [(table.parent / row[columns.tracks.path]).absolute() for row in chosen]
    some, made = place.temporary / "metadata.tsv", place.temporary / "dataset"
    with some.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, columns.tracks.path: str(path)} for row, path in zip(chosen, files))
    # What is held out of training may not be among the first rows.
    took = place.took("preprocess", "--metadata", str(some), "--dataset", str(made), "--set", "train.held_out=[]")
    return Sample(sum(path.stat().st_size for path in files) / 1e6, 0, took, removed(made))


def train(place: Place, windows: int) -> Sample:
    """So many windows, and one validation at their end."""
    made = place.temporary / "run"
    lengths = ("--set", f"train.max_windows={windows}", "--set", f"train.windows_per_validation={windows}")
    took = place.took("train", *lengths, "--set", "train.epochs=1000000", "--run", str(made), *place.device)
    return Sample(windows, 0, took, removed(made))


def predict(place: Place, bins: int, few: bool = False) -> Sample:
    """The first bins of the genome: all parts of all tracks, so that outputs are many, or one track."""
    run = load_run(place.run)
    regions, made, left = place.temporary / "regions.bed", place.temporary / "predictions", bins
    lines = []
    for contig, length in place.dataset.genome.lengths.items():
        own = min(left, length // BIN)
        lines += [f"{contig}\t0\t{own * BIN}\n"] if own else []
        left -= own
    regions.write_text("".join(lines))
    parts = ("total", "shared", "debiased", *run.model.settings.groups)
    some = ("--tracks", f'id == "{run.tracks[0].id}"') if few else [word for part in parts for word in ("--part", part)]
    took = place.took("predict", "-R", str(regions), *some, "-o", str(made), "--run", str(place.run), *place.device)
    return Sample(bins - left, 1 if few else len(parts) * len(run.tracks), took, removed(made))


def score(place: Place, variants: int) -> Sample:
    """Random substitutions of the genome."""
    genome = place.dataset.genome
    drawn = draw(genome, variants, np.random.default_rng(0))
    order = {name: number for number, name in enumerate(genome.lengths)}
    source, made = place.temporary / "input.vcf", place.temporary / "scored"
    made.mkdir()
    lines = [f"##contig=<ID={name},length={length}>\n" for name, length in genome.lengths.items()]
    lines += ["#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"]
    for each in sorted(drawn, key=lambda variant: (order[variant.contig], variant.position)):
        lines.append(f"{each.contig}\t{each.position}\t.\t{each.ref}\t{each.alt}\t.\t.\t.\n")
    source.write_text("".join(["##fileformat=VCFv4.2\n", *lines]))
    words = ("-o", str(made / "scored.vcf.gz"), "--run", str(place.run), *place.device)
    took = place.took("score-variants", str(source), *words)
    return Sample(len(drawn), 0, took, removed(made))


def saturate(place: Place, bins: int) -> Sample:
    """All substitutions of the first bins of the longest contig."""
    lengths = place.dataset.genome.lengths
    contig = max(lengths, key=lambda name: lengths[name])
    end, made = min(bins, lengths[contig] // BIN) * BIN, place.temporary / "saturated.parquet"
    words = ("-o", str(made), "--run", str(place.run), *place.device)
    took = place.took("score-variants", "--saturate", f"{contig}:1-{end}", *words)
    return Sample(3 * end, 0, took, removed(made))


def removed(made: Path) -> int:
    """Remove a result and return how many bytes it had."""
    files = [path for path in made.rglob("*") if path.is_file()] if made.is_dir() else [made]
    size = sum(path.stat().st_size for path in files)
    shutil.rmtree(made) if made.is_dir() else made.unlink()
    return size


COMMANDS: dict[str, tuple[Runs, int]] = {
    "preprocess": (preprocess, 2),
    "train": (train, 512),
    "predict": (predict, 256),
    "score": (score, 200),
    "saturate": (saturate, 16),
}
"""What runs a command, and how much its smallest run does."""


# -- costs -------------------------------------------------------------------------------------------------------------


def measured(place: Place, name: str, seconds: float = SECONDS) -> Cost:
    """Run a command on more and more, four times as much each time, until that takes so much longer than the least."""
    run, least = COMMANDS[name]
    samples = [run(place, least)]
    for size in (least * 4**power for power in count(1)):
        sample = run(place, size)
        if sample.units <= samples[-1].units:
            break
        samples.append(sample)
        if place.seconds(sample.took) - place.seconds(samples[0].took) >= seconds:
            break
    if name == "predict":  # the difference is small where tracks are few
        largest = int(samples[-1].units)
        samples += [predict(place, largest, few=few) for few in (True, False, True)]
    return fitted(samples, place.seconds)


def fitted(samples: Sequence[Sample], seconds: Callable[[Spent], float]) -> Cost:
    """Return the costs that explain several runs best, none of them below 0."""
    table = np.array([[1.0, each.units, each.units * each.outputs] for each in samples])
    table = table if table[:, 2].any() else table[:, :2]
    scale = table.max(0)
    weights = 1 / np.array([seconds(each.took) for each in samples])  # errors are shares of what is measured
    costs = nnls(table / scale * weights[:, None], np.ones(len(samples)))[0] / scale
    sizes = nnls(table / scale, np.array([float(each.disk) for each in samples]))[0] / scale
    start, unit, output = [*costs.tolist(), 0.0][:3]
    _, disk, output_disk = [*sizes.tolist(), 0.0][:3]
    memory, largest = max(each.took.memory for each in samples), max(each.units for each in samples)
    return Cost(start, unit, output, disk, output_disk, memory, largest)


def start_of_worker(place: Place) -> float:
    """Return how long a worker takes to start: what one bin costs more where a worker predicts it."""
    contig, made = next(iter(place.dataset.genome.lengths)), place.temporary / "predictions"
    words = ("predict", "-r", f"{contig}:1-{BIN}", "--no-bigwig", "-o", str(made), "--run", str(place.run))
    alone, by_worker = list[float](), list[float]()
    for _ in range(3):
        for found, more in ((alone, ()), (by_worker, ("--workers", "2"))):
            found.append(place.seconds(place.took(*words, *place.device, *more)))
            removed(made)
    return max(float(np.median(by_worker) - np.median(alone)), 0.0)


def all_costs(project: Path, gpus: int, temporary: Path, seconds: float) -> Costs:
    """Measure everything, and say so as it goes on."""
    place = Place(project, temporary, gpus)
    commands = {}
    for name in COMMANDS:
        commands[name] = cost = measured(place, name, seconds)
        print(f"{name}: {cost.start:.1f} s to start, {cost.largest:,.0f} {UNITS[name]} measured", file=sys.stderr)
    dataset = place.dataset
    bins = sum(length // BIN for length in dataset.genome.lengths.values())
    _, _, *files = (each["bytes"] for each in dataset.manifest["inputs"])  # behind the genome and the table
    shares = [dataset.manifest["splits"][split]["bins"] / bins for split in ("train", "validation")]
    return Costs(
        commands,
        start_of_worker(place) if not gpus else 0.0,
        gpus,
        bins,
        len(dataset.tracks),
        sum(files) / 1e6,
        (shares[0], shares[1]),
    )


# -- what a data set takes ---------------------------------------------------------------------------------------------

UNITS = {
    "preprocess": "MB of tracks",
    "train": "windows",
    "predict": "bins",
    "score": "variants",
    "saturate": "substitutions",
}


def wanted(options: argparse.Namespace, costs: Costs) -> Iterator[tuple[str, float, float]]:
    """Yield each command with its units, and the outputs of each unit."""
    larger = options.bins / costs.genome_bins
    yield "preprocess", options.megabytes or costs.megabytes * larger * options.tracks / costs.tracks, 0
    train_bins, validation_bins = (share * options.bins for share in costs.shares)
    windows = options.windows or max(train_bins, min(BINS, MOST_EPOCHS * train_bins))
    validations = windows / min(max(train_bins, 1), MOST_WINDOWS)
    validated = min(validation_bins, TrainConfig().validation_bins)
    yield "train", windows + WITHOUT_GRADIENT * validated * validations, 0
    yield "predict", options.bins, options.tracks
    yield "score", options.variants, 0
    yield "saturate", options.saturate * SUBSTITUTIONS, 0


def table(options: argparse.Namespace, costs: Costs) -> Iterator[str]:
    """Yield the lines of the answer."""
    devices = f"{options.devices} {'GPU' if costs.gpus else 'core'}{'s' * (options.devices > 1)}"
    yield f"{options.bins:,.0f} bins, {options.tracks:,} tracks, on {devices} as fast as the one that was measured"
    yield f"{'command':<12}{'':>4}{'':<28}{'hours':>9}{'disk, GB':>11}{'memory of a worker, GB':>25}"
    for name, units, outputs in wanted(options, costs):
        cost = costs.commands[name]
        hours = cost.seconds(units, outputs, options.devices, costs.worker) / 3600
        memory = cost.memory + BIN * max(options.bins - costs.genome_bins, 0)
        what = f"{units:,.0f} {UNITS[name]}"
        disk = "" if name in FIXED else f"{cost.bytes_on_disk(units, outputs) / 1e9:,.3g}"
        yield f"{name:<12}{what:>32}{hours:>9,.3g}{disk:>11}{memory / 1e9:>25,.1f}"
    yield f"a worker takes {costs.worker:.1f} s to start"
    if not costs.tracks / 2 <= options.tracks <= costs.tracks * 2:
        yield f"this was measured with {costs.tracks:,} tracks: train, score and saturate take longer with more, and what"
        yield f"predict takes for {options.tracks:,} is uncertain; measure a project that has about as many"


FIXED = ("train",)
"""Commands whose result is not larger for more units."""


def main() -> None:
    """Measure, or read what was measured; then calculate."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path, nargs="?", default=Path(), help="project, or a file of costs")
    parser.add_argument("--gpus", type=int, choices=(0, 1), default=0)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of the longest run of each command")
    parser.add_argument("--save", type=Path, help="file for the costs")
    for name, text in (("bins", "bins of the genome"), ("variants", "to score"), ("saturate", "bins to saturate")):
        parser.add_argument(f"--{name}", type=float, help=text)
    parser.add_argument("--tracks", type=int)
    parser.add_argument("--windows", type=float, help="of a training; default: what mfd train chooses")
    parser.add_argument(
        "--megabytes", type=float, help="of track files; default: as many a track and bin as the project has"
    )
    parser.add_argument("--devices", type=int, default=1)
    options = parser.parse_args()
    if options.source.is_file():
        stored = json.loads(options.source.read_text())
        commands = {name: Cost(**cost) for name, cost in stored.pop("commands").items()}
        costs = Costs(commands, **stored)
    else:
        with TemporaryDirectory(prefix="mfd-scale-") as temporary:
            costs = all_costs(options.source.absolute(), options.gpus, Path(temporary), options.seconds)
    if options.save:
        options.save.write_text(json.dumps(asdict(costs), indent=1) + "\n")
    options.bins = options.bins or float(costs.genome_bins)
    options.tracks = options.tracks or costs.tracks
    options.variants = 1e6 if options.variants is None else options.variants
    options.saturate = options.bins if options.saturate is None else options.saturate
    print("\n".join(table(options, costs)))


if __name__ == "__main__":
    main()
