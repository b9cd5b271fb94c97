"""`mfd simulate`: a project with planted causes, so that disentanglement can be measured, not believed.

FOLDER/genome.fa, metadata.tsv, tracks/, input.vcf, mfd.toml     what a user would have
       truth/                                                    every cause, its logit, and what each variant breaks
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyBigWig
from numpy.typing import NDArray
from scipy.stats import rankdata

from mfd_cli import planted
from mfd_cli.config import nearest
from mfd_cli.data.motifs import Motif, built_in
from mfd_cli.data.sequence import Bytes, decode, encode, reverse_complement
from mfd_cli.errors import ConfigError
from mfd_cli.export import write_parquet, write_tsv
from mfd_cli.files import check_output, whole_folder
from mfd_cli.planted import BIN, Floats, Parts

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Size:
    """How large a planted world is."""

    contigs: int
    bins_per_contig: int
    targets: int
    tissues: int
    variants: int


SIZES = {
    "tiny": Size(contigs=4, bins_per_contig=400, targets=3, tissues=2, variants=40),
    "small": Size(contigs=6, bins_per_contig=4000, targets=6, tissues=3, variants=400),
    "medium": Size(contigs=12, bins_per_contig=8000, targets=6, tissues=3, variants=2000),
}


@dataclass(frozen=True)
class SimulateOptions:
    """Ways to break the model's assumptions; by default none is broken."""

    correlation: float = 0.0
    """Probability that a bin with a target's motif also gets the first assay's cutting motif: causes that coincide."""
    overlap: float = 0.0
    """Probability that another target's motif overlaps the end of a target's motif."""
    saturating: bool = False
    """Accessibility and motifs saturate: the biological part is squashed, not a sum of its causes."""
    depth: float = 0.0
    """Depth-dependent peak calling: the shallowest tracks lose up to twice this from every logit."""
    hidden_batch: bool = False
    """Half of the tracks have a preference that no column names."""
    mislabelled: float = 0.0
    """Share of the tracks whose target column is wrong."""
    complete_confounding: bool = False
    """Every assay was done by one lab in one year: nothing can tell the three apart."""

    def __post_init__(self) -> None:
        for name in ("correlation", "overlap", "depth", "mislabelled"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be between 0 and 1")


@dataclass(frozen=True)
class SimulateReport:
    """What was written."""

    folder: Path
    tracks: int
    signals: int
    bins: int
    variants: int
    prevalence: float
    ceiling: float
    held_out: Sequence[str]

    def lines(self) -> list[str]:
        return [
            f"{self.tracks} peak tracks and {self.signals} signal tracks on {self.bins:,} bins; {self.prevalence:.1%} "
            "of bins have a peak, on average",
            f"AUROC of the true logits on the test contig: {self.ceiling:.3f} (no model can beat this but by luck)",
            f"{self.variants} variants in input.vcf; combinations that nobody measured: {', '.join(self.held_out)}",
            f"project: {self.folder}   (cd there, then mfd preprocess)",
        ]


def simulate(
    output: Path, *, size: str = "tiny", seed: int = 1, options: SimulateOptions | None = None, force: bool = False,
    progress: Progress | None = None,
) -> SimulateReport:  # fmt: skip
    """Write a planted project, whole. The same size, seed and options give the same bytes."""
    if size not in SIZES:
        raise ConfigError(f"size is {size!r}{nearest(size, list(SIZES))}")
    check_output(output, force)
    scale, options = SIZES[size], options or SimulateOptions()
    rng = np.random.default_rng([seed, list(SIZES).index(size)])
    say = progress or (lambda what, done, total: None)
    say("planting", 0, 4)
    genome, planted_rows = plant_genome(scale, options, rng)
    rows, held_out = design(scale, options, rng)
    hidden = rng.random(len(rows)) < 0.5 if options.hidden_batch else None
    say("planting", 1, 4)
    codes = np.concatenate([bases.reshape(-1, BIN) for bases in genome.values()])
    parts = planted.true_parts(planted.find_causes(codes), rows, hidden, options.saturating)
    shallow = 2 * options.depth * rng.random(len(rows)) if options.depth else 0.0
    logits = parts.total() + planted.PREVALENCE_LOGIT + rng.normal(0, 0.15, len(rows)) - shallow
    peaks = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    say("planting", 2, 4)
    test = np.repeat(np.arange(scale.contigs), scale.bins_per_contig) == scale.contigs - 1
    ceiling = [auroc(logits[test, i], peaks[test, i]) for i in range(len(rows))]
    variants = make_variants(genome, rows, hidden, scale, rng, options.saturating)
    say("planting", 3, 4)
    with whole_folder(output) as folder:
        write_genome(folder / "genome.fa", genome)
        table = write_tracks(folder, genome, rows, peaks, logits, rng, options)
        write_tsv(folder / "metadata.tsv", table)
        write_vcf(folder / "input.vcf", genome, variants)
        (folder / "mfd.toml").write_text(configuration(size, list(genome)), "utf-8")
        write_truth(
            folder / "truth", genome, parts, logits, rows, table, variants, planted_rows, ceiling, held_out, options
        )
    say("planting", 4, 4)
    return SimulateReport(
        output, len(rows), len(table) - len(rows), len(codes), len(variants), float(peaks.mean()),
        float(np.nanmean(ceiling)), held_out,
    )  # fmt: skip


# -- the genome --------------------------------------------------------------------------------------------------------


def plant_genome(
    scale: Size, options: SimulateOptions, rng: np.random.Generator
) -> tuple[dict[str, Bytes], list[dict[str, Any]]]:
    """Contigs of base codes with a smooth G+C landscape, and the motif instances that were put in."""
    motifs, genome, instances = built_in(), {}, []
    used = [m for m in motifs if m not in planted.TARGETS.values()] + list(planted.TARGETS.values())[: scale.targets]
    first_assay = next(iter(planted.ASSAYS.values()))
    for number in range(1, scale.contigs + 1):
        name = f"chr{number}"
        gc = landscape(scale.bins_per_contig * BIN, rng)
        strong = rng.random(len(gc)) < gc
        codes = np.where(strong, rng.integers(1, 3, len(gc)), rng.integers(0, 2, len(gc)) * 3).astype(np.uint8)
        for bin_index in range(scale.bins_per_contig):
            chosen = [name for name in used if rng.random() < 0.06]
            targets = set(chosen) & set(planted.TARGETS.values())
            if targets and first_assay not in chosen and rng.random() < options.correlation:
                chosen.append(first_assay)
            slots = rng.permutation(6)
            placed = []
            for motif, slot in zip((motifs[m] for m in chosen), slots):
                placed.append((motif.name, int(slot) * 21 + int(rng.integers(0, 21 - len(motif.counts)))))
                instances.append(plant(codes, name, bin_index * BIN + placed[-1][1], motif, rng))
            if options.overlap:
                for motif_name, offset in overlapping(placed, used, options.overlap, rng):
                    instances.append(plant(codes, name, bin_index * BIN + offset, motifs[motif_name], rng))
        genome[name] = codes
    return genome, instances


def plant(codes: Bytes, contig: str, start: int, motif: Motif, rng: np.random.Generator) -> dict[str, Any]:
    """Put a drawn instance of a motif into a contig, on a random strand; where it is, for truth/motifs.tsv."""
    drawn = np.array([rng.choice(4, p=row) for row in motif.probabilities], np.uint8)
    strand = "+-"[rng.integers(2)]
    codes[start : start + len(drawn)] = drawn if strand == "+" else reverse_complement(drawn)
    return {"contig": contig, "start": start, "end": start + len(drawn), "strand": strand, "motif": motif.name}


def overlapping(
    placed: Sequence[tuple[str, int]], used: Sequence[str], share: float, rng: np.random.Generator
) -> list[tuple[str, int]]:
    """For some of the targets' motifs in a bin, another target's motif that begins on its last three bases."""
    motifs, extra = built_in(), []
    targets = [name for name in used if name in planted.TARGETS.values()]
    for name, offset in placed:
        others = [target for target in targets if target != name]
        if name in targets and others and rng.random() < share:
            second, start = str(rng.choice(others)), offset + len(motifs[name].counts) - 3
            if start + len(motifs[second].counts) <= BIN:
                extra.append((second, start))
    return extra


def landscape(length: int, rng: np.random.Generator, step: int = 2048) -> Floats:
    """Probability of G or C at every base: a bounded random walk with a knot every 2 kb."""
    knots = 0.42 + 0.08 * rng.normal(size=length // step + 2)
    result: Floats = np.interp(np.arange(length), np.arange(len(knots)) * step, np.clip(knots, 0.25, 0.65))
    return result


def write_genome(path: Path, genome: Mapping[str, Bytes]) -> None:
    """FASTA with lines of 80 bases."""
    with path.open("w", encoding="ascii") as file:
        for name, codes in genome.items():
            text = decode(codes)
            file.write(f">{name}\n")
            file.writelines(text[low : low + 80] + "\n" for low in range(0, len(text), 80))


# -- the experiments ---------------------------------------------------------------------------------------------------


def design(scale: Size, options: SimulateOptions, rng: np.random.Generator) -> tuple[list[dict[str, str]], list[str]]:
    """Which experiments were done: factor levels per track, and the combinations that nobody measured.

    Each lab prefers an assay and each year a lab, as in real tables; not every lab did every assay.
    """
    targets, tissues = list(planted.TARGETS)[: scale.targets], list(planted.TISSUES)[: scale.tissues]
    labs, years, assays = list(planted.LABS), list(planted.YEARS), list(planted.ASSAYS)
    combinations = [(t, s, a) for t in targets for s in tissues for a in assays]
    left_out = {tuple(combinations[i]) for i in rng.choice(len(combinations), max(1, len(combinations) // 9), False)}
    rows = []
    for target, tissue, assay in combinations:
        if (target, tissue, assay) in left_out:
            continue
        number = assays.index(assay)
        usual = options.complete_confounding or rng.random() < 0.6
        lab = labs[number if usual else int(rng.integers(len(labs)))]
        usual = options.complete_confounding or rng.random() < 0.5
        year = years[labs.index(lab) if usual else int(rng.integers(len(years)))]
        rows.append({"target": target, "tissue": tissue, "assay": assay, "lab": lab, "year": year})
    return rows, [" / ".join(combination) for combination in sorted(left_out)]


def write_tracks(
    folder: Path, genome: Mapping[str, Bytes], rows: Sequence[Mapping[str, str]], peaks: NDArray[np.bool_],
    logits: Floats, rng: np.random.Generator, options: SimulateOptions,
) -> list[dict[str, Any]]:  # fmt: skip
    """Track files in `folder / tracks`, and the rows of the metadata table in ENCODE's columns."""
    (folder / "tracks").mkdir()
    wrong = rng.random(len(rows)) < options.mislabelled
    targets = list(dict.fromkeys(row["target"] for row in rows))
    table = []
    for index, row in enumerate(rows):
        accession = f"SIMFF{index + 1:03d}PKS"
        write_peaks(folder / "tracks" / f"{accession}.narrowPeak.gz", genome, peaks[:, index], rng)
        told = dict(row)
        if wrong[index]:
            told["target"] = targets[(targets.index(row["target"]) + 1) % len(targets)]
        table.append(metadata_row(accession, f"SIMSR{index + 1:03d}EXP", "bed narrowPeak", "peaks", told, rng))
    for number in range(2):
        index = number * (len(rows) - 1)
        accession = f"SIMFF{index + 1:03d}SIG"
        write_signal(folder / "tracks" / f"{accession}.bigWig", genome, logits[:, index], rng)
        told = {**rows[index], "target": table[index]["Experiment target"]}
        table.append(
            metadata_row(
                accession, table[index]["Experiment accession"], "bigWig", "fold change over control", told, rng
            )
        )
    return table


def metadata_row(
    accession: str, experiment: str, file_format: str, output: str, row: Mapping[str, str], rng: np.random.Generator
) -> dict[str, Any]:
    """One row of the metadata table."""
    suffix = "bigWig" if file_format == "bigWig" else "narrowPeak.gz"
    date = f"{row['year']}-{int(rng.integers(1, 13)):02d}-{int(rng.integers(1, 29)):02d}"
    return {
        "File accession": accession, "File path": f"tracks/{accession}.{suffix}", "File format": file_format,
        "Output type": output, "File assembly": "planted", "Experiment accession": experiment, "Assay": row["assay"],
        "Experiment target": row["target"], "Biosample term name": row["tissue"], "Library lab": row["lab"],
        "Experiment date released": date,
    }  # fmt: skip


def write_peaks(path: Path, genome: Mapping[str, Bytes], labels: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """narrowPeak: every run of positive bins is a peak, its ends moved by at most 60 bp: the same bins are labelled."""
    lines, offset = [], 0
    for name, codes in genome.items():
        bins = len(codes) // BIN
        here = np.concatenate([[0], labels[offset : offset + bins].astype(np.int8), [0]])
        offset += bins
        starts, ends = np.flatnonzero(np.diff(here) == 1) * BIN, np.flatnonzero(np.diff(here) == -1) * BIN
        starts = np.maximum(starts + rng.integers(-60, 61, len(starts)), 0)
        ends = np.minimum(ends + rng.integers(-60, 61, len(ends)), len(codes))
        for number, (start, end) in enumerate(zip(starts, ends), start=1):
            lines.append(f"{name}\t{start}\t{end}\t{name}_{number}\t1000\t.\t10\t-1\t-1\t{(end - start) // 2}\n")
    with path.open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        file.write("".join(lines).encode("ascii"))


def write_signal(path: Path, genome: Mapping[str, Bytes], logits: Floats, rng: np.random.Generator) -> None:
    """bigWig: a log-normal signal around the logit, one value per bin."""
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


# -- variants ----------------------------------------------------------------------------------------------------------


def make_variants(
    genome: Mapping[str, Bytes], rows: Sequence[Mapping[str, str]], hidden: NDArray[np.bool_] | None, scale: Size,
    rng: np.random.Generator, saturating: bool = False,
) -> list[dict[str, Any]]:  # fmt: skip
    """Variants that break biological, technical or shared motifs, or nothing; with their true changes, in order."""
    motifs = built_in()
    kinds = {
        "biological": [planted.TARGETS[r] for r in dict.fromkeys(row["target"] for row in rows)],
        "technical": list(planted.ASSAYS.values()), "shared": [planted.SHARED], "none": [""],
    }  # fmt: skip
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for kind, names in kinds.items():
        wanted = scale.variants // 4
        for _ in range(wanted * 50):
            if sum(v["kind"] == kind for v in found.values()) >= wanted:
                break
            contig = str(rng.choice(list(genome)))
            codes = genome[contig]
            start = int(rng.integers(2, len(codes) // BIN - 2)) * BIN
            window = codes[start : start + BIN]
            motif_name = str(rng.choice(names))
            place = int(rng.integers(40, 88))
            if motif_name:
                motif = motifs[motif_name]
                forward, reverse = motif.scan(window)
                best = int(np.maximum(forward, reverse).argmax())
                if max(forward[best], reverse[best]) < 0.8 * motif.log_odds.max(1).sum():
                    continue
                weights = motif.log_odds if forward[best] >= reverse[best] else motif.log_odds[::-1, ::-1]
                inner = int((weights.max(1) - weights.min(1)).argmax())
                place = best + inner
            draft = _alleles(window, place, rng)
            effect = true_change(codes, start + place, *draft, rows, hidden, saturating)
            size = {name: effect[name] for name in ("biological", "technical", "shared")}
            if kind == "none" and max(size.values()) > 0.15:
                continue
            if kind != "none" and (size[kind] < 0.5 or size[kind] < 3 * max(v for k, v in size.items() if k != kind)):
                continue
            if any(abs(start + place - at) < 4 for name, at in found if name == contig):
                continue
            found[contig, start + place] = {
                "chrom": contig, "pos": start + place + 1, "ref": draft[0], "alt": draft[1], "kind": kind,
                "motif": motif_name, **{f"true_{name}": round(value, 6) for name, value in effect.items()},
            }  # fmt: skip
    return sorted(found.values(), key=lambda v: (list(genome).index(v["chrom"]), v["pos"]))


def _alleles(window: Bytes, place: int, rng: np.random.Generator) -> tuple[str, str]:
    """A substitution at a place of a window, or (one in ten) a deletion of three bases after it."""
    base = int(window[place])
    if rng.random() < 0.1 and place + 4 < len(window):
        return decode(window[place : place + 4]), decode(window[place : place + 1])
    return "ACGT"[base], "ACGT"[(base + int(rng.integers(1, 4))) % 4]


def true_change(
    codes: Bytes, position: int, ref: str, alt: str, rows: Sequence[Mapping[str, str]],
    hidden: NDArray[np.bool_] | None, saturating: bool = False,
) -> dict[str, float]:  # fmt: skip
    """Alternate minus reference in the bin that holds the variant: root mean square over tracks of each centred part.

    `shared` is signed in the logit but its size is given here; `total` is the largest change of any track, signed.
    """
    start = position // BIN * BIN
    reference = codes[start : start + BIN]
    changed = np.concatenate([codes[start:position], encode(alt), codes[position + len(ref) : start + 2 * BIN]])[:BIN]
    causes = planted.find_causes(np.stack([reference, changed]))
    parts = planted.true_parts(causes, rows, hidden, saturating)
    both, whole = parts.centred(), parts.total()
    raw = {name: np.diff(getattr(parts, name), axis=0)[0] for name in ("shared", "biological", "technical")}
    total = np.diff(whole, axis=0)[0]
    return {
        **{name: float(np.sqrt((change**2).mean())) for name, change in raw.items()},
        **{f"centred_{n}": float(np.sqrt((np.diff(getattr(both, n), axis=0)[0] ** 2).mean())) for n in raw},
        "total": float(total[np.abs(total).argmax()]),
    }  # fmt: skip


def write_vcf(path: Path, genome: Mapping[str, Bytes], variants: Sequence[Mapping[str, Any]]) -> None:
    """VCF 4.2; the last single-base variant is given a second alternate allele."""
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


def configuration(size: str, contigs: Sequence[str]) -> str:
    """The project's mfd.toml."""
    train = {"tiny": (4, 32), "small": (20, 64), "medium": (20, 128)}[size]
    return f"""# A planted project: its causes are known, see truth/.
[data]
fasta = "genome.fa"
metadata = "metadata.tsv"

[bins]
background = "all"

[split]
test = ["{contigs[-1]}"]
validation = ["{contigs[-2]}"]

[factors]
target = {{column = "Experiment target", group = "biological"}}
biosample = {{column = "Biosample term name", group = "biological"}}
assay = {{column = "Assay", group = "technical"}}
lab = {{column = "Library lab", group = "technical"}}
year = {{column = "Experiment date released", group = "technical", type = "year"}}

[model]
preset = "small"

[train]
epochs = {train[0]}
batch_size = {train[1]}
"""


def write_truth(
    folder: Path, genome: Mapping[str, Bytes], parts: Parts, logits: Floats, rows: Sequence[Mapping[str, str]],
    table: Sequence[Mapping[str, Any]], variants: Sequence[Mapping[str, Any]], instances: Sequence[Mapping[str, Any]],
    ceiling: Sequence[float], held_out: Sequence[str], options: SimulateOptions,
) -> None:  # fmt: skip
    """truth/: logits and centred parts per bin (parts.npz), causes.json, motifs.tsv, variants.tsv, tracks.parquet."""
    folder.mkdir()
    centred = parts.centred()
    np.savez(
        folder / "parts.npz", logits=logits.astype(np.float32), shared=centred.shared[:, 0].astype(np.float32),
        biological=centred.biological.astype(np.float32), technical=centred.technical.astype(np.float32),
        contigs=np.array(list(genome)), bins_per_contig=np.array([len(codes) // BIN for codes in genome.values()]),
    )  # fmt: skip
    names = [row["File accession"] for row in table[: len(rows)]]
    causes = {
        "effects": planted.EFFECTS, "targets": planted.TARGETS, "tissues": planted.TISSUES, "assays": planted.ASSAYS,
        "labs": planted.LABS, "years": planted.YEARS, "shared": planted.SHARED, "options": asdict(options),
        "held_out_combinations": list(held_out), "ceiling_auroc": dict(zip(names, ceiling)),
    }  # fmt: skip
    (folder / "causes.json").write_text(json.dumps(causes, indent=1) + "\n", "utf-8")
    write_tsv(folder / "motifs.tsv", instances)
    write_tsv(folder / "variants.tsv", variants)
    write_parquet(folder / "tracks.parquet", [{"track": name, **row} for name, row in zip(names, rows)])


def auroc(scores: Floats, labels: NDArray[np.bool_]) -> float:
    """Area under the ROC curve by ranks; NaN without positives or negatives."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    return float((rankdata(scores)[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))
