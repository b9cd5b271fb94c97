"""`mfd simulate`: a project with planted causes, so that disentanglement can be measured, not believed.

FOLDER/genome.fa, metadata.tsv, tracks/, input.vcf, mfd.toml     what a user would have
       truth/                                                    every cause, its logit, and what each variant breaks
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyBigWig
from scipy.stats import rankdata

from mfd_cli.base.arrays import Bools, Bytes, Doubles
from mfd_cli.base.errors import ConfigError, nearest
from mfd_cli.base.files import check_output, whole_folder
from mfd_cli.base.progress import Progress
from mfd_cli.formats.motif_files import write_meme
from mfd_cli.formats.tables import write_parquet, write_tsv
from mfd_cli.genome.grid import BIN
from mfd_cli.genome.sequence import decode
from mfd_cli.simulate import planted
from mfd_cli.simulate.built_in_motifs import built_in
from mfd_cli.simulate.planted import SIZES, Parts, SimulateOptions, Size


@dataclass(frozen=True)
class World:
    """All that is true: the genome and what was put into it, the experiments, their logits and their peaks.

    `rows` has one experiment per track, `bias` (tracks,) what is added to the sum of the `parts`, `peaks`
    (bins, tracks) the bins that are called. `held_out` lists the combinations of levels kept out of
    training, `hidden` marks the tracks of a batch that no column names.
    """

    options: SimulateOptions
    genome: Mapping[str, Bytes]
    instances: Sequence[Mapping[str, Any]]
    rows: Sequence[Mapping[str, str]]
    held_out: Sequence[Mapping[str, str]]
    hidden: Bools | None
    parts: Parts
    bias: Doubles
    peaks: Bools
    test_contigs: int

    @property
    def trained(self) -> Bools:
        """(tracks,) Which tracks are not held out."""
        return np.array(
            [not any(combination.items() <= row.items() for combination in self.held_out) for row in self.rows]
        )

    @property
    def logits(self) -> Doubles:
        """(bins, tracks) The true logits: the sum of the parts and the bias."""
        return self.parts.total() + self.bias

    def ceiling(self) -> list[float]:
        """Return the AUROC of the true logit on the test split, the last contigs, per track."""
        last = sum(len(codes) // BIN for codes in list(self.genome.values())[-self.test_contigs :])
        logits, peaks = self.logits[-last:], self.peaks[-last:]
        return [auroc(logits[:, i], peaks[:, i]) for i in range(len(self.rows))]


@dataclass(frozen=True)
class SimulateReport:
    """What was written. `ceilings` are the AUROCs of the true logits on the test contig per track, `ceiling` their mean."""

    folder: Path
    tracks: int
    signals: int
    bins: int
    variants: int
    prevalence: float
    ceiling: float
    ceilings: Mapping[str, float]
    held_out: Sequence[Mapping[str, str]]

    def lines(self) -> list[str]:
        """Return a few lines for a person."""
        known = [value for value in self.ceilings.values() if value == value] or [float("nan")]
        return [
            f"{self.tracks} peak tracks and {self.signals} signal tracks on {self.bins:,} bins; {self.prevalence:.1%} "
            "of bins have a peak, on average",
            f"AUROC of the true logits on the test contig: {self.ceiling:.3f}, by track {min(known):.3f} to "
            f"{max(known):.3f} (no model can beat this but by luck)",
            f"{self.variants} variants in input.vcf; combinations held out of training: "
            + ", ".join(" / ".join(combination.values()) for combination in self.held_out),
            f"project: {self.folder}   (cd there, then mfd preprocess)",
        ]


def simulate(
    output: Path,
    *,
    size: str = "tiny",
    seed: int = 1,
    options: SimulateOptions | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> SimulateReport:
    """Write a planted project, whole. The same size, seed and options give the same bytes.

    Raises ConfigError for an unknown size, OutputError where a folder is in the way and `force` is not set.
    """
    if size not in SIZES:
        raise ConfigError(f"size is {size!r}{nearest(size, list(SIZES))}")
    check_output(output, force)
    scale = SIZES[size]
    options = (options or SimulateOptions()).resolved(scale)
    rng = np.random.default_rng([seed, list(SIZES).index(size)])
    say = progress or (lambda what, done, total: None)
    say("planting", 0, 3)
    world = make_world(scale, options, rng)
    say("planting", 1, 3)
    training = [row for row, used in zip(world.rows, world.trained) if used]
    hidden = None if world.hidden is None else world.hidden[world.trained]
    variants = planted.make_variants(world.genome, training, hidden, scale, rng, options.saturating)
    say("planting", 2, 3)
    with whole_folder(output) as folder:
        write_genome(folder / "genome.fa", world.genome)
        table = write_tracks(folder, world, rng)
        write_tsv(folder / "metadata.tsv", table)
        write_vcf(folder / "input.vcf", world.genome, variants)
        (folder / "mfd.toml").write_text(configuration(size, world), "utf-8")
        ceilings = write_truth(folder / "truth", world, table, variants)
    say("planting", 3, 3)
    bins, tracks = world.peaks.shape
    return SimulateReport(
        output,
        tracks,
        len(table) - tracks,
        bins,
        len(variants),
        float(world.peaks.mean()),
        float(np.nanmean(list(ceilings.values()))),
        ceilings,
        world.held_out,
    )


def make_world(scale: Size, options: SimulateOptions, rng: np.random.Generator) -> World:
    """Plant a genome, design the experiments, and draw every track's peaks from its true logits."""
    genome, instances = planted.plant_genome(scale, options, rng)
    rows, held_out = design(scale, options, rng)
    hidden = rng.random(len(rows)) < 0.5 if options.hidden_batch else None
    codes = np.concatenate([bases.reshape(-1, BIN) for bases in genome.values()])
    parts = planted.true_parts(planted.find_causes(codes), rows, hidden, options.saturating)
    shallow = 2 * options.depth * rng.random(len(rows)) if options.depth else 0.0
    bias = planted.PREVALENCE_LOGIT + rng.normal(0, 0.15, len(rows)) - shallow
    peaks = rng.random((len(codes), len(rows))) < 1 / (1 + np.exp(-(parts.total() + bias)))
    return World(options, genome, instances, rows, held_out, hidden, parts, bias, peaks, scale.test_contigs)


# -- the experiments ---------------------------------------------------------------------------------------------------


def design(
    scale: Size, options: SimulateOptions, rng: np.random.Generator
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the experiments, as factor levels per track, and the combinations of levels that are held out of training.

    Each lab prefers an assay and each year a lab, as in real tables; the last target is mostly measured by one assay. A
    combination is held out only where each two of its levels are still seen together.
    """
    targets, tissues = list(planted.TARGETS)[: scale.targets], list(planted.TISSUES)[: scale.tissues]
    labs, years, assays = list(planted.LABS), list(planted.YEARS), list(planted.ASSAYS)
    made = [
        {"target": t, "biosample": s, "assay": a}
        for t in targets
        for s in tissues
        for a in assays
        if not (t == targets[-1] and len(tissues) > 2 and a == assays[-1] and s != tissues[0])
    ]
    held_out: list[dict[str, str]] = []
    for index in rng.permutation(len(made)):
        left = [c for c in made if c not in held_out and c != made[index]]
        if len(held_out) < max(1, len(made) // 9) and every_pair_seen(made[index], left):
            held_out.append(made[index])
    rows = []
    for combination in made:
        usual = options.complete_confounding or rng.random() < 0.6
        first = assays.index(combination["assay"]) if usual else int(rng.integers(len(labs)))
        for replicate in range(1 if options.complete_confounding else scale.replicates):
            lab = labs[(first + replicate) % len(labs)]
            usual = options.complete_confounding or rng.random() < 0.5
            year = years[labs.index(lab) if usual else int(rng.integers(len(years)))]
            rows.append({**combination, "lab": lab, "year": year})
    return rows, [combination for combination in made if combination in held_out]


def every_pair_seen(combination: Mapping[str, str], others: Sequence[Mapping[str, str]]) -> bool:
    """Return whether each two levels of a combination are together in some other one as well."""
    pairs = combinations(combination.items(), 2)
    return all(any(other[f] == a and other[g] == b for other in others) for (f, a), (g, b) in pairs)


def write_tracks(folder: Path, world: World, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Write track files to `folder / tracks`, and return the rows of the metadata table in ENCODE's columns.

    They are peak sets in the order of the world's experiments, then the signals of the first and the last experiment.
    """
    (folder / "tracks").mkdir()
    rows, logits = world.rows, world.logits
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
        write_signal(folder / "tracks" / f"{accession}.bigWig", world.genome, logits[:, index], rng)
        labels = {**rows[index], "target": table[index]["Experiment target"]}
        table.append(metadata_row(accession, experiment, "bigWig", "fold change over control", labels, rng))
    return table


def wrong_target(world: World, row: Mapping[str, str]) -> str:
    """Return the next target, passing over those that would make the row one of a held-out combination."""
    targets = list(dict.fromkeys(other["target"] for other in world.rows))
    place = targets.index(row["target"])
    for target in targets[place + 1 :] + targets[:place]:
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
    }


def write_peaks(path: Path, genome: Mapping[str, Bytes], labels: Bools, rng: np.random.Generator) -> None:
    """Write narrowPeak: every run of positive bins is a peak, each end moved at random.

    At most 60 bp outwards and 30 bp inwards: the bins that a peak overlaps by 64 bp or more are exactly those of its run.
    """
    lines, offset = [], 0
    for name, codes in genome.items():
        bins = len(codes) // BIN
        here = np.concatenate([[0], labels[offset : offset + bins].astype(np.int8), [0]])
        offset += bins
        starts, ends = np.flatnonzero(np.diff(here) == 1) * BIN, np.flatnonzero(np.diff(here) == -1) * BIN
        left, right = rng.integers(-60, 61, len(starts)), rng.integers(-60, 61, len(ends))
        starts = np.maximum(starts + np.where(left > 0, left // 2, left), 0)
        ends = np.minimum(ends + np.where(right < 0, -(-right // 2), right), len(codes))
        for number, (start, end) in enumerate(zip(starts, ends), start=1):
            lines.append(f"{name}\t{start}\t{end}\t{name}_{number}\t1000\t.\t10\t-1\t-1\t{(end - start) // 2}\n")
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        file.write("".join(lines).encode("ascii"))


def write_signal(path: Path, genome: Mapping[str, Bytes], logits: Doubles, rng: np.random.Generator) -> None:
    """Write bigWig: a log-normal signal around the logit, one value per bin."""
    values = np.exp(0.5 * logits + rng.normal(0, 0.3, len(logits)) + 2)
    file = pyBigWig.open(str(path), "w")
    file.addHeader([(name, len(codes)) for name, codes in genome.items()], maxZooms=0)
    offset = 0
    for name, codes in genome.items():
        bins = len(codes) // BIN
        here = values[offset : offset + bins]
        offset += bins
        file.addEntries(name, 0, values=here.astype(float).tolist(), span=BIN, step=BIN)
    file.close()


# -- genome and variants -----------------------------------------------------------------------------------------------


def write_genome(path: Path, genome: Mapping[str, Bytes]) -> None:
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
    singles = [i for i, v in enumerate(variants) if len(v["ref"]) == 1]
    for index, v in enumerate(variants):
        alt = v["alt"]
        if singles and index == singles[-1]:
            alt += "," + next(base for base in "ACGT" if base not in (v["ref"], v["alt"]))
        lines.append(f"{v['chrom']}\t{v['pos']}\tsim{index + 1}\t{v['ref']}\t{alt}\t.\tPASS\tTRUTH={v['kind']}")
    path.write_text("\n".join(lines) + "\n", "ascii")


# -- the project and the truth -----------------------------------------------------------------------------------------


def configuration(size: str, world: World) -> str:
    """Return the text of the project's mfd.toml."""
    contigs = list(world.genome)
    tests = SIZES[size].test_contigs
    held_out = ["{" + ", ".join(f'{k} = "{v}"' for k, v in levels.items()) + "}" for levels in world.held_out]
    train = {"tiny": (4, 32), "small": (20, 64), "medium": (10, 128)}[size]
    # Causes act within their bin, so the model reads no more than that; there is a filter for every motif on both strands.
    model = "" if size == "tiny" else "width = 64\nwindow = 128\n"
    return f"""# A planted project: its causes are known, see truth/.
[data]
fasta = "genome.fa"
metadata = "metadata.tsv"

[bins]
background = "all"

[split]
test = {json.dumps(contigs[-tests:])}
validation = ["{contigs[-tests - 1]}"]

[factors]
target = {{column = "Experiment target", group = "biological"}}
biosample = {{column = "Biosample term name", group = "biological"}}
assay = {{column = "Assay", group = "technical"}}
lab = {{column = "Library lab", group = "technical"}}
year = {{column = "Experiment date released", group = "technical", type = "year"}}

[model]
preset = "small"
{model}
[train]
epochs = {train[0]}
batch_size = {train[1]}
held_out = [{", ".join(held_out)}]
"""


def write_truth(
    folder: Path, world: World, table: Sequence[Mapping[str, Any]], variants: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Write truth/: causes, bins, tracks, motifs and variants. Return the ceiling of each track."""
    folder.mkdir()
    names = [str(row["File accession"]) for row in table[: len(world.rows)]]
    ceilings = dict(zip(names, world.ceiling()))
    defined = {name: None if np.isnan(value) else value for name, value in ceilings.items()}
    causes = {
        "effects": planted.EFFECTS,
        "targets": planted.TARGETS,
        "tissues": planted.TISSUES,
        "assays": planted.ASSAYS,
        "labs": planted.LABS,
        "years": planted.YEARS,
        "shared": planted.SHARED,
        "options": asdict(world.options),
        "held_out_combinations": list(world.held_out),
        "ceiling_auroc": defined,
    }
    (folder / "causes.json").write_text(json.dumps(causes, indent=1, allow_nan=False) + "\n", "utf-8")
    write_true_bins(folder / "bins.parquet", world, names)
    write_parquet(folder / "tracks.parquet", true_tracks(world, table))
    # Not write_tsv: it would quote a lone - as a spreadsheet's formula.
    lines = ["\t".join(world.instances[0]), *("\t".join(map(str, row.values())) for row in world.instances)]
    (folder / "motifs.tsv").write_text("\n".join(lines) + "\n", "ascii")
    write_meme(folder / "motifs.meme", {name: motif.probabilities.T for name, motif in built_in().items()})
    write_tsv(folder / "variants.tsv", variants)
    return ceilings


def write_true_bins(path: Path, world: World, names: Sequence[str]) -> None:
    """Write a table of bins: contig, start (0-based), shared, and per track peak.ID, logit.ID, biological.ID and technical.ID.

    The parts are centred over the training tracks as in the model's decomposition, so for every track (bias: tracks.parquet)
    logit = bias + shared + biological + technical.
    """
    counts = [len(codes) // BIN for codes in world.genome.values()]
    centred = world.parts.centred(world.trained)
    columns: dict[str, Any] = {
        "contig": np.repeat(list(world.genome), counts),
        "start": np.concatenate([np.arange(count) * BIN for count in counts]),
        "shared": centred.shared[:, 0].astype(np.float32),
    }
    for what, values in (
        ("peak", world.peaks),
        ("logit", world.logits.astype(np.float32)),
        ("biological", centred.biological.astype(np.float32)),
        ("technical", centred.technical.astype(np.float32)),
    ):
        columns |= {f"{what}.{name}": np.ascontiguousarray(values[:, i]) for i, name in enumerate(names)}
    pq.write_table(pa.table(columns), path)


def true_tracks(world: World, table: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return per track its true levels, the target that the metadata table names, its signal file, its hidden batch."""
    tracks = len(world.rows)
    signals = {row["Experiment accession"]: row["File accession"] for row in table[tracks:]}
    return [
        {
            "track": told_row["File accession"],
            "trained": bool(world.trained[i]),
            **row,
            "told_target": told_row["Experiment target"],
            "signal": signals.get(told_row["Experiment accession"], ""),
            "bias": float(world.bias[i]),
            "hidden_batch": bool(world.hidden is not None and world.hidden[i]),
            "prevalence": float(world.peaks[:, i].mean()),
        }
        for i, (row, told_row) in enumerate(zip(world.rows, table[:tracks]))
    ]


def auroc(scores: Doubles, labels: Bools) -> float:
    """Return the area under the ROC curve by ranks; NaN without positives or negatives."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    return float((rankdata(scores)[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))
