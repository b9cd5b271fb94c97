"""What a simulated project has besides SNPs: polygenic scores, rare variants, measurements, and who is missing in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np

from mfd_cli.base.arrays import Bools, Doubles
from mfd_cli.contig.data.plink import write_plink
from mfd_cli.contig.simulate.lesions import spots_of
from mfd_cli.contig.simulate.options import CohortOptions, Scale
from mfd_cli.contig.simulate.people import Born
from mfd_cli.contig.simulate.rare import CLASSES, Exome, exome_of
from mfd_cli.contig.simulate.scores import planted_scores, truth_of, write_scores
from mfd_cli.formats.tables import write_tsv

FILE_OF = {"snps": "genotypes", "pgs": "genotypes", "burden": "exome", "table": "measurements"}
"""The file that each modality is of, and with which it is missing."""
NOISE = 5
"""Columns of noise of the table."""
BLANK = 0.02
"""Share of the cells of the measurements that are empty."""
SECTIONS = {
    "snps": '[modalities.snps]\nkind = "snps"\n\n',
    "pgs": '[modalities.pgs]\nkind = "pgs"\nscores = ["scores/*.txt.gz"]\n\n',
    "burden": '[modalities.burden]\nkind = "burden"\nfile = "exome.bed"\nannotation = "annotation.txt"\nsets = "sets.txt"\n'
    'masks = "masks.txt"\n\n',
    "table": f'[modalities.table]\nkind = "table"\nfile = "measurements.tsv"\nnoise = {NOISE}\n\n',
}


@dataclass(frozen=True)
class More:
    """What is drawn besides SNPs: `has` says who (persons,) is in each file, `spots` (eyes, ...) are the lesions."""

    has: Mapping[str, Bools]
    exome: Exome | None
    spots: Doubles | None


def more_of(scale: Scale, options: CohortOptions, people: Born, rng: np.random.Generator) -> More:
    """Draw rare variants and lesions, where they are asked for, and who is missing in which file; nobody is in none."""
    files = list(dict.fromkeys(FILE_OF[kind] for kind in options.modalities))
    has = {name: np.ones(scale.persons, bool) for name in {"genotypes": 0, **dict.fromkeys(files)}}
    exome = exome_of(scale, options, rng) if "burden" in options.modalities else None
    spots = spots_of(exome.lesions, rng) if exome is not None else None
    if options.absent and len(files) > 1:
        there = rng.random((len(files), scale.persons)) >= options.absent
        there[0] |= ~there.any(0)
        has |= dict(zip(files, there))
    return More(has, exome, spots)


def sections_of(options: CohortOptions) -> str:
    """Return the sections of contig.toml about modalities."""
    return "".join(text for kind, text in SECTIONS.items() if kind in options.modalities)


def write_more(
    folder: Path, more: More, people: Born, ids: Sequence[str], options: CohortOptions, rng: np.random.Generator
) -> None:
    """Write the files of the modalities besides SNPs, and what is true of them into `truth`."""
    if "pgs" in options.modalities:
        scores = planted_scores(people, rng)
        write_scores(folder / "scores", people, scores)
        write_tsv(folder / "truth" / "scores.tsv", truth_of(scores, people, more.has["genotypes"]))
    if more.exome is not None:
        _write_exome(folder, more.exome, people, ids, more.has["exome"], options, rng)
    if "table" in options.modalities:
        _write_measurements(folder / "measurements.tsv", people, ids, more.has["measurements"], rng)
    if options.absent:
        rows = [
            {"person": person, **{name: "yes" if who[row] else "no" for name, who in more.has.items()}}
            for row, person in enumerate(ids)
        ]
        write_tsv(folder / "truth" / "present.tsv", rows)


def _write_exome(
    folder: Path,
    exome: Exome,
    people: Born,
    ids: Sequence[str],
    who: Bools,
    options: CohortOptions,
    rng: np.random.Generator,
) -> None:
    """Write rare variants as PLINK files, the tables that say what they are, and which genes make lesions."""
    calls = exome.copies.astype(np.int8)
    calls[rng.random(calls.shape) < options.missing] = -1
    persons, families = list(compress(ids, who)), list(compress(people.families, who))
    write_plink(folder / "exome.bed", persons, families, exome.variants, calls[:, who])
    names = exome.variants.name
    lines = zip(names, (exome.names[one] for one in exome.gene.tolist()), exome.classes)
    (folder / "annotation.txt").write_text("".join(f"{' '.join(line)}\n" for line in lines), "utf-8")
    sets, rows = [], []
    for number, gene in enumerate(exome.names):
        own = np.flatnonzero(exome.gene == number).tolist()
        chromosome, position = exome.variants.chromosome[own[0]], int(exome.variants.position[own[0]])
        sets.append(f"{gene} {chromosome} {position} {','.join(names[row] for row in own)}\n")
        causal = "yes" if exome.causal[number] else "no"
        facts = {"gene": gene, "chromosome": chromosome, "position": position, "causal": causal}
        rows.append({**facts, "effect": float(exome.effects[number])})
    (folder / "sets.txt").write_text("".join(sets), "utf-8")
    (folder / "masks.txt").write_text(f"LoF {CLASSES[0]}\ndamaging {CLASSES[0]},{CLASSES[1]}\n", "utf-8")
    write_tsv(folder / "truth" / "genes.tsv", rows)
    lesions = [{"person": person, "lesions": value} for person, value in zip(ids, exome.lesions.tolist())]
    write_tsv(folder / "truth" / "lesions.tsv", lesions)


def _write_measurements(path: Path, people: Born, ids: Sequence[str], who: Bools, rng: np.random.Generator) -> None:
    """Write age and sex, which move the latents, and height and smoking, which do not; some cells are empty."""
    count = len(ids)
    columns = {
        "age": people.age.tolist(),
        "sex": [("female", "male")[sex] for sex in people.sex.tolist()],
        "height": rng.normal(170, 9, count).round(1).tolist(),
        "smoker": [("no", "yes")[one] for one in rng.integers(0, 2, count).tolist()],
    }
    blank = rng.random((count, len(columns))) < BLANK
    rows = [
        {"person": ids[row]}
        | {name: None if blank[row, number] else cells[row] for number, (name, cells) in enumerate(columns.items())}
        for row in np.flatnonzero(who).tolist()
    ]
    write_tsv(path, rows)
