"""Projects that are right and unusual: one group of factors, signals alone, one track, levels named like words of ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from kit import tiny
from kit.harm import COLUMNS, METADATA, TOML, good_project, in_process
from mfd_cli.genome.sequence import Genome

FACTORS = TOML[TOML.index("[factors.target]") : TOML.index("[model]")]
HEADER, TRACKS = METADATA[0], METADATA[1:]
Rows = Sequence[Sequence[str]]


def write_table(folder: Path, rows: Rows, header: Sequence[str] = HEADER) -> None:
    """Replace the metadata table."""
    (folder / "metadata.tsv").write_text("\n".join("\t".join(row) for row in [header, *rows]) + "\n", "utf-8")


def write_factors(folder: Path, **groups: str) -> None:
    """Replace the factors of mfd.toml: factor -> group; the column of a factor has its name with a capital."""
    text = "".join(
        f'[factors.{name}]\ncolumn = "{name.title()}"\ngroup = "{group}"\n\n' for name, group in groups.items()
    )
    (folder / "mfd.toml").write_text(TOML.replace(FACTORS, text), "utf-8")


def only_biological(folder: Path) -> None:
    write_factors(folder, target="biological", lab="biological")


def only_technical(folder: Path) -> None:
    write_factors(folder, assay="technical", lab="technical")


def one_group_of_another_name(folder: Path) -> None:
    write_factors(folder, target="context", assay="context")


def three_groups(folder: Path) -> None:
    write_factors(folder, target="biological", assay="technical", lab="laboratory")


def one_track(folder: Path) -> None:
    write_table(folder, TRACKS[:1])


def one_assay_and_one_lab(folder: Path) -> None:
    write_factors(folder, target="biological", assay="technical", lab="technical")
    write_table(folder, [(*row[:3], "ChIP-seq", "A", row[5]) for row in TRACKS])


def peaks_alone(folder: Path) -> None:
    write_table(folder, [row for row in TRACKS if not row[1].endswith(".bw")])


def renamed_levels(*names: str) -> Callable[[Path], None]:
    """Levels of target and assay by other names, in turn."""

    def change(folder: Path) -> None:
        rows = [
            (*row[:2], names[number % len(names)], names[-1 - number // 2 % len(names)], *row[4:])
            for number, row in enumerate(TRACKS)
        ]
        write_table(folder, rows)

    return change


ODD: dict[str, Callable[[Path], None]] = {
    "only biological": only_biological,
    "only technical": only_technical,
    "one group": one_group_of_another_name,
    "three groups": three_groups,
    "one track": one_track,
    "one assay and one lab": one_assay_and_one_lab,
    "peaks alone": peaks_alone,
    "levels average and all": renamed_levels("average", "all"),
    "levels NA and None": renamed_levels("NA", "None"),
    "unicode levels": renamed_levels("Müller-Zelle", "胎盘", "a b=c;d,e"),
}


def odd_project(folder: Path, change: Callable[[Path], None]) -> None:
    """Make a good project, change it, preprocess and train it for a moment."""
    good_project(folder)
    change(folder)
    for words in (["preprocess", "-q", "--threads", "1"], TRAIN):
        done = in_process(words, folder)
        assert done.code == 0, done.told


TRAIN = ["train", "-q", "--gpus", "0", "--threads", "1"]


def signals_alone(folder: Path) -> None:
    """Train on two signal tracks of the tiny world and none with peaks; its contigs are chr1 and chr2."""
    folder.mkdir(parents=True)
    dataset = tiny.dataset(folder / "dataset", tracks=0, signals=2)
    sections = ['[data]\nfasta = "genome.fa"\nmetadata = "metadata.tsv"']
    for name, factor in tiny.FACTORS.items():
        sections.append(f'[factors.{name}]\ncolumn = "{factor["column"]}"\ngroup = "{factor["group"]}"')
    sections.append(TOML[TOML.index("[model]") :])
    (folder / "mfd.toml").write_text("\n\n".join(sections), "utf-8")
    write_variants(folder / "input.vcf", dataset.genome)
    done = in_process(TRAIN, folder)
    assert done.code == 0, done.told


def write_variants(path: Path, genome: Genome) -> None:
    """Write a VCF of five substitutions on each contig."""
    lines = ["##fileformat=VCFv4.2", "\t".join(COLUMNS)]
    for contig in genome.lengths:
        for position in range(1001, 6001, 1000):
            ref = genome.bases(contig, position - 1, position)
            lines.append(f"{contig}\t{position}\t.\t{ref}\t{'ACGT'['ACGT'.index(ref) - 1]}\t.\t.\t.")
    path.write_text("\n".join(lines) + "\n")
