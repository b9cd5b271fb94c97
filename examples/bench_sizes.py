"""What happens where there is a lot: `python examples/bench_sizes.py FOLDER [--only contigs tracks records genome]`.

A tiny planted project is made larger in one way at a time: 100,000 contigs; 10,000 tracks; VCFs of 10,000 and 1,000,000 lines;
and, where asked for, 2,106 files of 100,000 peaks on 200 Mb, which take 8 GB of disk. `--scale 0.1` makes that genome, and the
peaks of each file, a tenth of it.
Every command that meets it is run; its time and the memory of its largest process are told, and written to FOLDER/sizes.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv_writer

from mfd_cli.formats.fasta import read_fasta

CONTIGS, CONTIG_BP, TRACKS, RECORDS = 100_000, 600, 10_000, (10_000, 1_000_000)
PEAK_TRACKS, PEAKS, PEAK_BP, PEAK_CONTIGS = 2106, 100_000, 200_000_000, 8
Row = dict[str, str | float]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(WORLDS), default=["contigs", "tracks", "records"])
    parser.add_argument("--scale", type=float, default=1.0, help="how large the world `genome` is, of what it can be")
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for name in options.only:
        shutil.rmtree(folder / name, ignore_errors=True)
        mfd(folder, "simulate", name, "--size", "tiny", "-q")
        for row in WORLDS[name](folder / name, options.scale):
            print(f"{row['world']}, {row['command']}: {row['seconds']:.1f} s, {row['mebibytes']:,.0f} MiB", flush=True)
            rows.append(row)
        shutil.rmtree(folder / name)
    (folder / "sizes.json").write_text(json.dumps(rows, indent=1) + "\n")


def mfd(folder: Path, *words: str) -> tuple[float, float]:
    """Run a command; its seconds, and the largest resident memory, in MiB, of its processes."""
    read, write = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if not child:  # a process in between, whose only child is the command: its children's usage is the command's
        done = subprocess.run([sys.executable, "-m", "mfd_cli", *words], cwd=folder, stdout=subprocess.DEVNULL)
        os.write(write, f"{done.returncode} {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    code, memory = os.read(read, 100).split()
    os.close(read)
    os.close(write)
    if int(code):
        sys.exit(f"mfd {' '.join(words)} failed")
    return time.monotonic() - started, int(memory) / 1024


def measured(world: str, folder: Path, *commands: tuple[str, ...]) -> Iterator[Row]:
    for words in commands:
        seconds, memory = mfd(folder, *words)
        yield {"world": world, "command": words[0], "seconds": round(seconds, 1), "mebibytes": round(memory)}


SHORT = ("train", "-q", "--gpus", "0", "--set", "train.max_windows=5000")
SCORE = ("score-variants", "input.vcf", "-q", "--gpus", "0")
TEN_STEPS = ("train", "-q", "--gpus", "0", "--set", "train.max_windows=2560", "--set", "train.batch_size=256")
EVALUATE = ("evaluate", "-q", "--gpus", "0")
CONTIG = ("predict", "-q", "--gpus", "0", "-r", "chr1", "--no-bigwig")
ASSAY = ("explain", "--factor", "assay", "-q", "--gpus", "0")


def contigs(folder: Path, scale: float) -> Iterator[Row]:
    """Unplaced scaffolds, as of a draft assembly."""
    rng = np.random.default_rng(0)
    with (folder / "genome.fa").open("a") as file:
        for number in range(CONTIGS):
            file.write(f">scaffold_{number}\n{rng.choice(LETTERS, CONTIG_BP).tobytes().decode()}\n")
    yield from measured(f"{CONTIGS:,} contigs", folder, ("preprocess", "-q"), SHORT, SCORE, ASSAY)


def tracks(folder: Path, scale: float) -> Iterator[Row]:
    """Copies of the planted tracks under other names."""
    with (folder / "metadata.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    peaks = [row for row in rows if ".narrowPeak" in row["File path"]]
    with (folder / "metadata.tsv").open("a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        for number in range(TRACKS - len(rows)):
            like = peaks[number % len(peaks)]
            name, told = f"COPY{number:06d}", Path(like["File path"])
            copy = told.with_name(told.name.replace(like["File accession"], name))
            shutil.copy(folder / told, folder / copy)
            row = {**like, "File accession": name, "File path": str(copy)}
            writer.writerow(row)
    yield from measured(f"{TRACKS:,} tracks", folder, ("check-design",), ("preprocess", "-q"), SHORT, SCORE, ASSAY)


def records(folder: Path, scale: float) -> Iterator[Row]:
    """Substitutions all over the genome."""
    yield from measured("records", folder, ("preprocess", "-q"), SHORT)
    genome = read_fasta(folder / "genome.fa")
    rng = np.random.default_rng(0)
    for count in RECORDS:
        name, bases = next(iter(genome.sequences.items()))
        places = np.sort(rng.integers(0, len(bases), count))
        with (folder / "input.vcf").open("w") as file:
            file.write(f"##fileformat=VCFv4.2\n##contig=<ID={name}>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
            for place in places.tolist():
                ref = chr(bases[place])
                file.write(f"{name}\t{place + 1}\t.\t{ref}\t{'CGTA'['ACGT'.index(ref)]}\t.\t.\t.\n")
        yield from measured(f"{count:,} records", folder, (*SCORE, "--force"))


def genome(folder: Path, scale: float) -> Iterator[Row]:
    """The number of tracks of the paper, each with as many peaks as a good experiment has, through every step."""
    rng, length, count = np.random.default_rng(0), int(PEAK_BP * scale) // PEAK_CONTIGS, int(PEAKS * scale)
    names = [f"chr{number + 1}" for number in range(PEAK_CONTIGS)]
    with (folder / "genome.fa").open("wb") as file:
        for name in names:
            file.write(f">{name}\n".encode() + rng.choice(LETTERS, length).tobytes() + b"\n")
    lines = ["File accession\tFile path\tAssay\tTarget"]
    shutil.rmtree(folder / "tracks")
    (folder / "tracks").mkdir()
    options = csv_writer.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    for number in range(PEAK_TRACKS):
        starts = np.sort(rng.integers(0, length * PEAK_CONTIGS - 1000, count))
        start = np.minimum(starts % length, length - 1000)
        order = np.lexsort((start, starts // length))
        start, contig = start[order], (starts // length)[order]
        other = [[value] * count for value in ("p", "0", ".", "1", "-1", "-1", "100")]
        rows = [pa.array(names).take(pa.array(contig)), start, start + rng.integers(150, 600, count), *other]
        file = f"tracks/{number:04d}.narrowPeak"
        csv_writer.write_csv(pa.table(rows, [str(i) for i in range(len(rows))]), folder / file, options)
        lines.append(f"T{number:04d}\t{file}\tassay{number % 5}\ttarget{number // 5 % 300}")
    (folder / "metadata.tsv").write_text("\n".join(lines) + "\n")
    (folder / "mfd.toml").write_text(
        '[data]\nfasta = "genome.fa"\nmetadata = "metadata.tsv"\n[split]\ntest = ["chr1"]\n'
        'validation = ["chr2"]\n[factors.assay]\ncolumn = "Assay"\n'
        'group = "technical"\n[factors.target]\ncolumn = "Target"\ngroup = "biological"\n'
    )
    world = f"{PEAK_TRACKS:,} tracks of {count:,} peaks on {length * PEAK_CONTIGS / 1e6:g} Mb"
    yield from measured(world, folder, ("preprocess", "-q"), TEN_STEPS, EVALUATE, CONTIG)


LETTERS = np.frombuffer(b"ACGT", np.uint8)
WORLDS: dict[str, Callable[[Path, float], Iterator[Row]]] = {
    "contigs": contigs,
    "tracks": tracks,
    "records": records,
    "genome": genome,
}

if __name__ == "__main__":
    main()
