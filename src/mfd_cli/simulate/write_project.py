"""The files of a planted project that a user would have: FASTA, tracks with their table, a VCF, mfd.toml."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyBigWig
from scipy.special import ndtri

from mfd_cli.base.arrays import Bools, Bytes, Doubles
from mfd_cli.genome.grid import BIN
from mfd_cli.genome.sequence import decode
from mfd_cli.simulate.world import World


def write_track_files(folder: Path, world: World, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Write track files to `folder / tracks`, and return the rows of the metadata table in ENCODE's columns.

    They are peak sets in the order of the world's experiments, then the signals of the first and the last experiment.
    """
    (folder / "tracks").mkdir()
    rows, logits = world.tracks.rows, world.logits
    wrong = (rng.random(len(rows)) < world.options.mislabelled) & world.trained
    table = []
    for index, row in enumerate(rows):
        accession = f"SIMFF{index + 1:03d}PKS"
        write_peaks(folder / "tracks" / f"{accession}.narrowPeak.gz", world.genome, world.peaks[:, index], rng)
        labels = dict(row)
        if wrong[index]:
            labels["target"] = wrong_target(world, row)
        table.append(metadata_row(accession, f"SIMSR{index + 1:03d}EXP", "bed narrowPeak", "peaks", labels, rng))
    for index in (0, len(rows) - 1):
        accession, experiment = f"SIMFF{index + 1:03d}SIG", table[index]["Experiment accession"]
        noise = signal_noise(world, index, rng)
        write_signal(folder / "tracks" / f"{accession}.bigWig", world.genome, logits[:, index], noise)
        labels = {**rows[index], "target": table[index]["Experiment target"]}
        table.append(metadata_row(accession, experiment, "bigWig", "fold change over control", labels, rng))
    return table


def wrong_target(world: World, row: Mapping[str, str]) -> str:
    """Return the next target, passing over those that would make the row one of a held-out combination."""
    targets = list(dict.fromkeys(other["target"] for other in world.tracks.rows))
    own = targets.index(row["target"])
    for target in targets[own + 1 :] + targets[:own]:
        if not any(combination.items() <= {**row, "target": target}.items() for combination in world.held_out):
            return target
    return row["target"]


def metadata_row(
    accession: str, experiment: str, file_format: str, output: str, row: Mapping[str, str], rng: np.random.Generator
) -> dict[str, Any]:
    """Return one row of the metadata table, in ENCODE's columns."""
    suffix = "bigWig" if file_format == "bigWig" else "narrowPeak.gz"
    date = f"{row['year']}-{int(rng.integers(1, 13)):02d}-{int(rng.integers(1, 29)):02d}"
    return {
        "File accession": accession,
        "File path": f"tracks/{accession}.{suffix}",
        "File format": file_format,
        "Output type": output,
        "File assembly": "planted",
        "Experiment accession": experiment,
        "Assay": row["assay"],
        "Experiment target": row["target"],
        "Biosample term name": row["biosample"],
        "Library lab": row["lab"],
        "Experiment date released": date,
        **({"Batch": row["batch"]} if "batch" in row else {}),
    }


def write_peaks(path: Path, genome: Mapping[str, Bytes], labels: Bools, rng: np.random.Generator) -> None:
    """Write narrowPeak: every run of positive bins is a peak, each end moved at random.

    At most 60 bp outwards and 30 bp inwards: the bins that a peak overlaps by 64 bp or more are exactly those of its run.
    """
    lines, first = [], 0
    for name, codes in genome.items():
        bins = len(codes) // BIN
        steps = np.diff(np.concatenate([[0], labels[first : first + bins].astype(np.int8), [0]]))
        first += bins
        starts, ends = np.flatnonzero(steps == 1) * BIN, np.flatnonzero(steps == -1) * BIN
        left, right = rng.integers(-60, 61, len(starts)), rng.integers(-60, 61, len(ends))
        starts = np.maximum(starts + np.where(left > 0, left // 2, left), 0)
        ends = np.minimum(ends + np.where(right < 0, -(-right // 2), right), len(codes))
        for number, (start, end) in enumerate(zip(starts, ends), start=1):
            lines.append(f"{name}\t{start}\t{end}\t{name}_{number}\t1000\t.\t10\t-1\t-1\t{(end - start) // 2}\n")
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        file.write("".join(lines).encode("ascii"))


def signal_noise(world: World, index: int, rng: np.random.Generator) -> Doubles:
    """Return (bins,) normal noise of a track's signal: that of its peaks where a world's noise is not independent."""
    noise = rng.normal(0, 1, len(world.noise))
    dependent = world.options.spread or world.options.overdispersion
    return -ndtri(world.noise[:, index]) if dependent else noise


def write_signal(path: Path, genome: Mapping[str, Bytes], logits: Doubles, noise: Doubles) -> None:
    """Write bigWig: a log-normal signal around the logit, one value per bin."""
    values = np.exp(0.5 * logits + 0.3 * noise + 2)
    file = pyBigWig.open(str(path), "w")
    file.addHeader([(name, len(codes)) for name, codes in genome.items()], maxZooms=0)
    first = 0
    for name, codes in genome.items():
        bins = len(codes) // BIN
        file.addEntries(name, 0, values=values[first : first + bins].astype(float).tolist(), span=BIN, step=BIN)
        first += bins
    file.close()


def write_fasta(path: Path, genome: Mapping[str, Bytes]) -> None:
    """Write FASTA with lines of 80 bases."""
    with path.open("w", encoding="ascii") as file:
        for name, codes in genome.items():
            text = decode(codes)
            file.write(f">{name}\n")
            file.writelines(text[low : low + 80] + "\n" for low in range(0, len(text), 80))


def write_vcf(path: Path, genome: Mapping[str, Bytes], variants: Sequence[Mapping[str, Any]]) -> None:
    """Write VCF 4.2; the last single-base variant is given a second alternate allele."""
    lines = ["##fileformat=VCFv4.2", "##source=mfd simulate"]
    lines += [f"##contig=<ID={name},length={len(codes)}>" for name, codes in genome.items()]
    lines.append('##INFO=<ID=TRUTH,Number=1,Type=String,Description="What the first alternate allele breaks">')
    lines.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO")
    substitutions = [number for number, variant in enumerate(variants) if len(variant["ref"]) == 1]
    for number, variant in enumerate(variants):
        ref, alt = variant["ref"], variant["alt"]
        if number in substitutions[-1:]:
            alt += "," + next(base for base in "ACGT" if base not in (ref, alt))
        where = f"{variant['chrom']}\t{variant['pos']}\tsim{number + 1}"
        lines.append(f"{where}\t{ref}\t{alt}\t.\tPASS\tTRUTH={variant['kind']}")
    path.write_text("\n".join(lines) + "\n", "ascii")


def model_and_training(size: str) -> tuple[str, str]:
    """Return the lines of [model] and the first lines of [train]: tiny worlds are trained for a minute, by a small network."""
    return ('preset = "small"\n', "epochs = 4\nbatch_size = 32\n") if size == "tiny" else ('preset = "default"\n', "")


def configuration(size: str, world: World) -> str:
    """Return the text of the project's mfd.toml."""
    contigs, tests = list(world.genome), world.test_contigs
    held_out = ["{" + ", ".join(f'{k} = "{v}"' for k, v in levels.items()) + "}" for levels in world.held_out]
    batch = "" if world.options.batch == "none" else 'batch = {column = "Batch", group = "technical"}\n'
    model, train = model_and_training(size)
    return f"""# A planted project: its causes are known, see truth/.
[data]
fasta = "genome.fa"
metadata = "metadata.tsv"

[split]
test = {json.dumps(contigs[-tests:])}
validation = ["{contigs[-tests - 1]}"]

[factors]
target = {{column = "Experiment target", group = "biological"}}
biosample = {{column = "Biosample term name", group = "biological"}}
assay = {{column = "Assay", group = "technical"}}
lab = {{column = "Library lab", group = "technical"}}
year = {{column = "Experiment date released", group = "technical", type = "year"}}
{batch}
[model]
{model}
[train]
{train}held_out = [{", ".join(held_out)}]
"""
