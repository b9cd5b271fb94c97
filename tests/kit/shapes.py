"""Shapes of projects: small, right, and each of another kind. What they have in common is that somebody has such data.

A `Shape` says which tracks there are, how the table describes them and what mfd.toml says; `make` writes the project. A command
that has no meaning on a shape is named in `refused`, with words that its message must hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyBigWig

from kit.harm import COLUMNS, wrapped

Row = dict[str, str]
CONTIGS = {"chr1": 24_000, "chr2": 28_000, "chr3": 8_000}
GROUPS = {
    "Target": "biological",
    "Tissue": "biological",
    "Assay": "technical",
    "Lab": "technical",
}


@dataclass(frozen=True)
class Shape:
    """One kind of project. `rows` are those of the metadata table; a row whose File ends in .bw is a signal."""

    name: str
    rows: Sequence[Row]
    factors: Mapping[str, str] = field(default_factory=lambda: FACTORS)
    """Factor to its TOML."""
    contigs: Mapping[str, int] = field(default_factory=lambda: CONTIGS)
    split: str = 'test = ["chr2"]\nvalidation = ["chr3"]'
    more: str = ""
    """Further lines of mfd.toml."""
    model: str = ""
    """Further lines of its section [model]."""
    train: str = ""
    """Further lines of its section [train]."""
    letters: Callable[[str], str] = str
    """What becomes of the genome's letters."""
    signal: Callable[[np.random.Generator, int], np.ndarray] = lambda rng, count: rng.gamma(1, 2, count)
    refused: Mapping[str, str] = field(default_factory=dict)
    """Command to words of the message with which it is refused."""
    within: Sequence[str] = ()
    """Other shapes that together have what is odd here: `make test` runs those, `make soak` this one too."""

    @property
    def peaks(self) -> int:
        """How many tracks are peak sets."""
        return sum(not row["File"].endswith(".bw") for row in self.rows)


FACTORS = {name.lower(): f'{{column = "{name}", group = "{group}"}}' for name, group in GROUPS.items()}


def tracks(peaks: int, signals: int = 0) -> list[Row]:
    """Rows of a table in which targets, tissues, assays and labs cross."""
    return [
        {
            "ID": f"T{i}",
            "File": f"tracks/T{i}.{'bed' if i < peaks else 'bw'}",
            "Target": ("CTCF", "GATA1")[i % 2],
            "Tissue": ("liver", "brain")[i // 2 % 2],
            "Assay": ("ChIP-seq", "CUT&RUN")[(i // 4 + i) % 2],
            "Lab": ("A", "B", "C")[i % 3],
        }
        for i in range(peaks + signals)
    ]


def told(rows: Sequence[Row], **columns: Sequence[str]) -> list[Row]:
    """The same rows with further, or other, columns."""
    return [row | {name: values[i] for name, values in columns.items()} for i, row in enumerate(rows)]


def only(*names: str) -> dict[str, str]:
    """Some of the usual factors."""
    return {name: FACTORS[name] for name in names}


def make(shape: Shape, folder: Path) -> None:
    """Write FASTA, tracks, table, mfd.toml, a VCF, regions and labels of variants."""
    rng = np.random.default_rng(11)
    (folder / "tracks").mkdir(parents=True)
    genome = {name: "".join(rng.choice(list("ACGT"), length)) for name, length in shape.contigs.items()}
    text = "".join(f">{name}\n{wrapped(shape.letters(letters))}" for name, letters in genome.items())
    (folder / "genome.fa").write_text(text)
    for row in shape.rows:
        path = folder / row["File"]
        if path.suffix == ".bw":
            write_signal(path, shape, rng)
        elif not path.exists():
            write_peaks(path, shape, rng)
    lines = ["\t".join(shape.rows[0]), *("\t".join(row.values()) for row in shape.rows)]
    (folder / "metadata.tsv").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "mfd.toml").write_text(toml(shape), "utf-8")
    write_variants(folder, genome)
    first, length = next(iter(shape.contigs.items()))
    (folder / "regions.bed").write_text(f"{first}\t{length // 2}\t{length // 2 + 300}\n")


def toml(shape: Shape) -> str:
    """The project file."""
    factors = "\n".join(f"{name} = {entry}" for name, entry in shape.factors.items())
    return f"""[data]
fasta = "genome.fa"
metadata = "metadata.tsv"

[tracks]
id = "ID"
path = "File"
{shape.more}

[bins]
max_unknown = 0.5

[split]
{shape.split}

[factors]
{factors}

[model]
preset = "small"
width = 8
filters = 4
window = 128
latent = 16
hidden = 8
{shape.model}

[train]
epochs = 1
batch_size = 32
{shape.train}
"""


def write_peaks(path: Path, shape: Shape, rng: np.random.Generator) -> None:
    """Peaks of 100 to 300 bp on every contig that has room for them."""
    lines = []
    for contig, length in shape.contigs.items():
        for start in sorted(rng.choice(max(length - 300, 0), max(length - 300, 0) // 600, replace=False).tolist()):
            lines.append(f"{contig}\t{start}\t{start + int(rng.integers(100, 300))}\n")
    path.write_text("".join(lines))


def write_signal(path: Path, shape: Shape, rng: np.random.Generator) -> None:
    """A value for every 40 bp."""
    with pyBigWig.open(str(path), "w") as file:
        file.addHeader(list(shape.contigs.items()))
        for contig, length in shape.contigs.items():
            starts = list(range(0, length - 40, 40))
            values = shape.signal(rng, len(starts)).round(3).tolist()
            file.addEntries([contig] * len(starts), starts, ends=[start + 40 for start in starts], values=values)


def write_variants(folder: Path, genome: Mapping[str, str]) -> None:
    """input.vcf: twelve substitutions, an insertion and a deletion a contig; labels.tsv tells two classes of them apart."""
    lines = ["##fileformat=VCFv4.2", *(f"##contig=<ID={n},length={len(g)}>" for n, g in genome.items())]
    lines.append("\t".join(COLUMNS))
    labels = ["chrom\tpos\tref\talt\tlabel"]
    for contig, letters in genome.items():
        step = max((len(letters) - 20) // 14, 1)
        for number, at in enumerate(range(10, len(letters) - 10, step)[:14]):
            ref = letters[at : at + (3 if number == 13 else 1)]
            alt = ref[0] if number == 13 else ref + "GATA" if number == 12 else "ACGT"["ACGT".index(ref) - 1]
            lines.append(f"{contig}\t{at + 1}\tv{len(lines)}\t{ref}\t{alt}\t.\t.\t.")
            labels.append(f"{contig}\t{at + 1}\t{ref}\t{alt}\t{number % 2}")
    (folder / "input.vcf").write_text("\n".join(lines) + "\n")
    (folder / "labels.tsv").write_text("\n".join(labels) + "\n")


PEAKS = tracks(8)
NO_GENOME_SPLIT = "validation = 0.25"
SHAPES = [
    Shape("peaks and signals", tracks(6, 2)),
    Shape("peaks only", PEAKS, within=["a year", "several labels"]),
    Shape("signals only", tracks(0, 4)),
    Shape("one track", tracks(1)),
    Shape("one signal", tracks(0, 1)),
    Shape("two tracks", tracks(2)),
    Shape("two tracks of one target", told(tracks(2), Target=("CTCF", "CTCF")), within=["two tracks", "one track"]),
    Shape("a peak track and a signal", tracks(1, 1)),
    Shape("an empty column", told(PEAKS, Lab=[""] * 8)),
    Shape("biological factors alone", PEAKS, only("target", "tissue")),
    Shape("technical factors alone", PEAKS, only("assay", "lab")),
    Shape("one factor", PEAKS, only("target")),
    Shape("one assay, one lab", told(PEAKS, Assay=["ChIP-seq"] * 8, Lab=["A"] * 8)),
    Shape(
        "three groups",
        told(PEAKS, Sex=["f", "m"] * 4),
        FACTORS | {"sex": '{column = "Sex", group = "donor"}'},
    ),
    Shape(
        "a technical group of another name",
        PEAKS,
        only("target", "tissue")
        | {name: f'{{column = "{name.title()}", group = "batch"}}' for name in ("assay", "lab")},
        model='technical = ["batch"]',
    ),
    Shape(
        "counts",
        told(tracks(4, 3), Scale=["", "", "", "", "counts", "counts", ""]),
        more='counts = "Scale"',
        signal=lambda rng, count: rng.poisson(3, count).astype(float),
    ),
    Shape(
        "counts alone",
        told(tracks(0, 4), Scale=["counts"] * 4),
        more='counts = "Scale"',
        signal=lambda rng, count: rng.poisson(3, count).astype(float),
        within=["counts", "signals only"],
    ),
    Shape(
        "a stranded pair alone",
        told(tracks(0, 2), Strand=["+", "-"], Experiment=["E1", "E1"], Target=["CTCF"] * 2, Assay=["RNA-seq"] * 2),
        only("target") | {"strand": '{column = "Strand", group = "technical"}'},
        more='strand = "Strand"\nexperiment = ["Experiment"]',
    ),
    Shape("signals that do not vary", tracks(2, 2), signal=lambda rng, count: np.full(count, 2.0)),
    Shape(
        "a stranded pair",
        told(
            tracks(4, 2),
            Strand=["", "", "", "", "+", "-"],
            Experiment=["E1", "E2", "E3", "E4", "E5", "E5"],
            Target=["CTCF", "GATA1", "CTCF", "GATA1", "", ""],
            Tissue=["liver"] * 6,
            Assay=["ChIP-seq", "CUT&RUN"] * 2 + ["RNA-seq"] * 2,
            Lab=["A", "B", "C"] * 2,
        ),
        only("target", "assay") | {"strand": '{column = "Strand", group = "technical"}'},
        more='strand = "Strand"\nexperiment = ["Experiment"]',
    ),
    Shape(
        "a number with gaps",
        told(PEAKS, Reads=["36", "", "50", "75", "", "100", "36", "50"]),
        FACTORS | {"reads": '{column = "Reads", group = "technical", type = "number"}'},
        within=["missing values"],
    ),
    Shape(
        "a number without gaps",
        told(PEAKS, Reads=["36", "40", "50", "75", "75", "100", "36", "50"]),
        FACTORS | {"reads": '{column = "Reads", group = "technical", type = "number"}'},
        within=["a year"],
    ),
    Shape(
        "a constant number",
        told(PEAKS, Reads=["36"] * 8),
        FACTORS | {"reads": '{column = "Reads", group = "technical", type = "number"}'},
        within=["one level beside two"],
    ),
    Shape(
        "one level beside two",
        told(PEAKS, Lab=["A"] * 8, Reads=["0.1"] * 8),
        FACTORS | {"reads": '{column = "Reads", group = "technical", type = "number"}'},
    ),
    Shape(
        "a constant number with gaps",
        told(PEAKS, Reads=["0.1", "", "0.1", "0.1", "", "0.1", "", "0.1"]),
        FACTORS | {"reads": '{column = "Reads", group = "technical", type = "number"}'},
    ),
    Shape(
        "a year",
        told(PEAKS, Date=[f"20{10 + i}-05-01" for i in range(8)]),
        FACTORS | {"year": '{column = "Date", group = "technical", type = "year"}'},
    ),
    Shape(
        "several labels",
        told(PEAKS, Tags=["a", "a,b", "b", "", "c", "a,c", "b", "a"]),
        FACTORS | {"tags": '{column = "Tags", group = "technical", type = "multilabel"}'},
    ),
    Shape(
        "missing values",
        told(
            PEAKS, Target=["CTCF", "NA", "GATA1", ""] * 2, Reads=["36", "", "NA", "75", "(missing)", "n/a", "36", "50"]
        ),
        FACTORS | {"reads": '{column = "Reads", group = "technical", type = "number"}'},
    ),
    Shape("one contig", PEAKS, contigs={"chrI": 40_000}, split=NO_GENOME_SPLIT),
    Shape("one contig, shares of it", PEAKS, contigs={"chrI": 60_000}, split="test = 0.1\nvalidation = 0.1"),
    Shape(
        "lower case, and contigs shorter than the window",
        PEAKS,
        letters=str.lower,
        contigs=CONTIGS | {"s1": 90, "s2": 128, "s3": 300},
    ),
    Shape("a held-out level", told(PEAKS, Lab=["A", "B"] * 4), train='held_out = [{lab = "B", target = "GATA1"}]'),
    Shape("a held-out level that leaves one", PEAKS, train='held_out = [{assay = "CUT&RUN"}]'),
    Shape("a held-out target that leaves one", PEAKS, train='held_out = [{target = "GATA1"}]'),
    Shape(
        "odd names",
        told(
            PEAKS,
            Target=["average", "all", "latent", "strongest_level"] * 2,
            Tissue=["NA", "None", "größe", "a b"] * 2,
            Assay=["ChIP-seq", "shared", "total", "debiased"] * 2,
        ),
    ),
]
