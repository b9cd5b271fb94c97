"""What variant scores look like where something is known: `python examples/bench_variants.py indels PROJECT`, or `... sets`.

indels PROJECT               planted project with a run: insertions that make a motif against the substitutions that make it,
                             and insertions and deletions of what stands there already, with and without compensation
sets TABLE --bed NAME=FILE   scored table: variants inside elements against outside
sets TABLE --af VCF          the same table: rare variants against common ones, by the VCF's INFO/AF
"""

from __future__ import annotations

import argparse
import gzip
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from mfd_cli.dataset.folder import open_dataset
from mfd_cli.genome.alleles import Variant
from mfd_cli.genome.sequence import Genome, encode
from mfd_cli.runs.folder import load_run, run_folders
from mfd_cli.simulate.built_in_motifs import built_in
from mfd_cli.simulate.planted import TARGETS
from mfd_cli.variants.effects import Member, ScoreSettings

FIELDS = ("MFD_MAX_DLOGIT", "MFD_SHARED", "MFD_BIO", "MFD_TECH", "MFD_DEBIASED")


def indels(project: Path, number: int = 300, seed: int = 1) -> None:
    """Print how insertions compare with substitutions, and how large neutral indels are beside them."""
    run, genome = load_run(run_folders(project / "run")[0]), open_dataset(project / "dataset").genome
    member, rng = Member(run, "cpu", 64, ScoreSettings()), np.random.default_rng(seed)
    contig = list(genome.sequences)[-1]
    places = rng.integers(2000, genome.lengths[contig] - 2000, number).tolist()
    motifs = [built_in()[name].consensus for name in TARGETS.values()]
    made = [(at, motifs[i % len(motifs)]) for i, at in enumerate(places)]
    inserted = changes(member, [Variant(contig, at + 1, "", motif) for at, motif in made], genome)
    substituted = changes(member, [replacing(genome, contig, at, motif) for at, motif in made], genome)
    most = np.abs(substituted).argmax(1)
    x, y = substituted[np.arange(number), most], inserted[np.arange(number), most]
    told = f"r = {np.corrcoef(x, y)[0, 1]:.3f}, slope {x @ y / (x @ x):.3f}"
    print(
        f"a motif inserted against the same motif substituted: {told}, "
        f"median size {np.median(np.abs(y)):.2f} and {np.median(np.abs(x)):.2f}"
    )
    for size in (1, 3, 8, 20):
        neutral = [doubled(genome, contig, at, size, at % 2 == 0) for at in places]
        ours, plain = changes(member, neutral, genome), np.stack([left_anchored(member, v, genome) for v in neutral])
        largest = [np.median(np.abs(values).max(1)) for values in (ours, plain)]
        print(
            f"{size} bp more or less of the same: median of the largest change {largest[0]:.3f}; one window each, left edges "
            f"together: {largest[1]:.3f}"
        )


def changes(member: Member, variants: list[Variant], genome: Genome) -> NDArray[np.float32]:
    """Change of every peak track's logit, (variants, tracks)."""
    return member.effects([v.normalised(genome) for v in variants], genome).total()[:, member.panel.peaks]


def replacing(genome: Genome, contig: str, at: int, motif: str) -> Variant:
    """A motif in place of as many bases around a place."""
    start = at - len(motif) // 2
    return Variant(contig, start + 1, genome.bases(contig, start, start + len(motif)), motif)


def doubled(genome: Genome, contig: str, at: int, size: int, more: bool) -> Variant:
    """The bases at a place once more, or away."""
    here = genome.bases(contig, at, at + size)
    return Variant(contig, at + 1, "" if more else here, here if more else "")


def left_anchored(member: Member, variant: Variant, genome: Genome) -> NDArray[np.float32]:
    """The change between two windows that begin at the same base: what a tool without compensation says."""
    width, centre = member.predictor.window, member.changes.centre
    start = variant.start - centre
    codes = genome.codes(variant.contig, start, start + width + len(variant.ref))
    other = np.concatenate([codes[:centre], encode(variant.alt), codes[centre + len(variant.ref) :]])
    change = np.diff(member.predictor.latents(np.stack([codes[:width], other[:width]])), axis=0)
    head = member.panel.head
    found: NDArray[np.float32] = (change @ head.matrix().T)[0, member.panel.peaks]
    return found


def sets(table: Path, beds: list[str], af: Path | None) -> None:
    """Print the median size of every score in two sets of variants, and the AUROC between them."""
    columns = pq.read_table(table).to_pydict()
    inside = {text.partition("=")[0]: in_bed(columns, Path(text.partition("=")[2])) for text in beds}
    for name, chosen in inside.items():
        compare(f"inside {name}", "outside", columns, chosen, ~chosen)
    if af is not None:
        frequency = frequencies(af, columns)
        compare("AF below 0.5 %", "AF above 5 %", columns, frequency < 0.005, frequency > 0.05)
        for name, chosen in inside.items():
            compare(
                f"AF below 0.5 %, in {name}",
                "AF above 5 %",
                columns,
                chosen & (frequency < 0.005),
                chosen & (frequency > 0.05),
            )


def compare(one: str, other: str, columns: dict[str, list[object]], a: NDArray[np.bool_], b: NDArray[np.bool_]) -> None:
    print(f"{one} ({a.sum():,}) against {other} ({b.sum():,}):")
    for field in FIELDS:
        size = np.abs(np.array(columns[field], float))
        rank = roc_auc_score(np.r_[np.ones(a.sum()), np.zeros(b.sum())], np.r_[size[a], size[b]])
        print(f"  {field:<16} median {np.median(size[a]):.4f} and {np.median(size[b]):.4f}, AUROC {rank:.3f}")


def in_bed(columns: dict[str, list[object]], path: Path) -> NDArray[np.bool_]:
    """Which positions lie in the intervals of a BED file."""
    spans: dict[str, list[tuple[int, int]]] = {}
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        for line in file:
            cells = line.split("\t")
            spans.setdefault(cells[0], []).append((int(cells[1]), int(cells[2])))
    covered = {}
    for contig, pieces in spans.items():
        covered[contig] = np.zeros(max(end for _, end in pieces) + 1, bool)
        for start, end in pieces:
            covered[contig][start:end] = True
    pairs = zip(columns["contig"], columns["position"])
    return np.array([c in covered and int(p) <= len(covered[c]) and covered[c][int(p) - 1] for c, p in pairs])  # type: ignore[call-overload, index]


def frequencies(path: Path, columns: dict[str, list[object]]) -> NDArray[np.float64]:
    """INFO/AF of every scored allele."""
    found = {}
    with gzip.open(path, "rt") as file:
        for line in file:
            told = None if line.startswith("#") else re.search(r"(?:^|;|\t)AF=([^;\t\n]+)", line)
            if told:
                cells = line.split("\t", 5)
                for alt, value in zip(cells[4].split(","), told[1].split(",")):
                    found[cells[0], int(cells[1]), cells[3], alt] = float(value)
    keys = zip(*(columns[name] for name in ("contig", "position", "ref", "alt")))
    return np.array([found.get(key, np.nan) for key in keys])  # type: ignore[call-overload]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["indels", "sets"])
    parser.add_argument("place", type=Path)
    parser.add_argument("--bed", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--af", type=Path)
    given = parser.parse_args()
    if given.what == "indels":
        indels(given.place)
    else:
        sets(given.place, given.bed, given.af)


if __name__ == "__main__":
    main()
