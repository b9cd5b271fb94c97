"""`mfd contig simulate`: a project with pictures, genotypes and a planted truth, in the formats that users have.

FOLDER/contig.toml, images.tsv, images/, genotypes.bed .bim .fam, covariates.tsv, families.tsv, labels.tsv
       truth/truth.json, causal.tsv, latents.tsv, masks.npy; of a world with centres also centres.tsv
With more modalities also scores/, exome.bed .bim .fam, annotation.txt, sets.txt, masks.txt, measurements.tsv, and their truth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mfd_cli.base.arrays import Bools, Ints
from mfd_cli.base.errors import ConfigError, nearest
from mfd_cli.base.files import check_output, whole_folder, write_json
from mfd_cli.base.notebook import Told
from mfd_cli.base.progress import Progress
from mfd_cli.contig.data.plink import write_plink
from mfd_cli.contig.simulate.centres import CENTRES, centres_of, facts_of, tied_cameras, write_centres
from mfd_cli.contig.simulate.fundus import CAMERAS, cameras, drawn, eyes_of, moved_pixels
from mfd_cli.contig.simulate.labels import COLUMNS, write_labels
from mfd_cli.contig.simulate.more import More, more_of, sections_of, write_more
from mfd_cli.contig.simulate.options import SIZES, CohortOptions, Scale, kinds_of
from mfd_cli.contig.simulate.people import BLOCK, LATENTS, Born, born
from mfd_cli.formats.tables import write_tsv

FRACTIONS = {"tiny": (0.5, 0.25, 0.25), "small": (0.6, 0.1, 0.3), "medium": (0.6, 0.1, 0.3)}
"""Shares of persons for training, validation and test: many for test, which gives a GWAS its power."""
AT_ONCE = 128
"""Persons whose pictures are drawn together."""


@dataclass(frozen=True, repr=False)
class SimulatedCohort(Told):
    """What was written."""

    folder: Path
    persons: int
    images: int
    snps: int
    causal: tuple[str, ...]
    modalities: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return a few lines for a person."""
        return [
            f"{self.persons:,} persons, {self.images:,} pictures of their eyes, {self.snps:,} SNPs",
            *([f"modalities: {', '.join(self.modalities)}"] if len(self.modalities) > 1 else []),
            f"causal SNPs: {', '.join(self.causal) or 'none'}",
            f"project: {self.folder}   (cd there, then mfd contig prepare)",
        ]


def simulate(
    output: Path,
    *,
    size: str = "tiny",
    seed: int = 1,
    options: CohortOptions | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> SimulatedCohort:
    """Write a planted project, whole. The same size, seed and options give the same bytes.

    ConfigError for an unknown size, OutputError where a folder is in the way and `force` is not set.
    """
    if size not in SIZES:
        raise ConfigError(f"size is {size!r}{nearest(size, list(SIZES))}")
    check_output(output, force)
    scale, options = SIZES[size], options or CohortOptions(modalities=kinds_of(size))
    rng, further, of_centres = (
        np.random.default_rng([seed, list(SIZES).index(size), number]) for number in (21, 22, 23)
    )
    people = born(scale, options, rng, of_centres)
    centre = centres_of(people.latents, people.structure) if options.has_centres else None
    camera = None if centre is None else tied_cameras(centre, options.tied, of_centres)
    ids = [f"P{number:05}" for number in rng.permutation(scale.persons)]  # siblings are not neighbours by name
    with whole_folder(output) as folder:
        more = more_of(scale, options, people, further)
        rows = list(_write_images(folder, people, ids, scale, options, camera, rng, progress, more))
        if centre is not None:
            for number, row in enumerate(rows):
                row["centre"] = CENTRES[centre[number // 2]]
        write_tsv(folder / "images.tsv", rows)
        _write_tables(folder, people, ids, options, rng, more.has["genotypes"])
        write_labels(folder / "labels.tsv", ids, people.latents, seed)
        (folder / "contig.toml").write_text(_configuration(size, scale, options), "utf-8")
        _write_truth(folder / "truth", people, ids, scale, options, seed)
        write_more(folder, more, people, ids, options, further)
        if centre is not None and camera is not None:
            write_centres(folder / "truth" / "centres.tsv", ids, centre, camera)
    causal = () if options.null else tuple(people.variants.name[row] for row in people.causal.ravel())
    return SimulatedCohort(output, scale.persons, len(rows), scale.snps, causal, options.modalities)


def _write_images(
    folder: Path,
    people: Born,
    ids: list[str],
    scale: Scale,
    options: CohortOptions,
    camera: Ints | None,
    rng: np.random.Generator,
    progress: Progress | None,
    more: More,
) -> Iterator[dict[str, str]]:
    """Write two pictures of each person, some of them cut short, and yield their lines of the manifest. `camera` (persons,) is
    that of each person; None: any."""
    (folder / "images").mkdir()
    for low in range(0, len(ids), AT_ONCE):
        some = ids[low : low + AT_ONCE]
        drawn_cameras = cameras(len(some), rng)
        own = drawn_cameras if camera is None else camera[low : low + AT_ONCE]
        eyes = eyes_of(people.latents[low : low + AT_ONCE], own, rng)
        if more.spots is not None:
            eyes = replace(eyes, spots=more.spots[2 * low : 2 * (low + AT_ONCE)])
        pictures = drawn(eyes, scale.side, options.nuisance, rng)
        cut = rng.random(len(pictures)) < options.faulty
        for number, pixels in enumerate(pictures):
            person, eye = some[number // 2], "right" if eyes.right[number] else "left"
            path = folder / "images" / f"{person}_{eye}.png"
            Image.fromarray(pixels).save(path, compress_level=1)
            if cut[number]:
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            made_by = CAMERAS[eyes.camera[number]]
            yield {"person": person, "path": f"images/{path.name}", "eye": eye, "camera": made_by}
        if progress:
            progress("drawing eyes", low + len(some), len(ids))


def _write_tables(
    folder: Path, people: Born, ids: list[str], options: CohortOptions, rng: np.random.Generator, genotyped: Bools
) -> None:
    """Write genotypes of some persons (persons,), some calls missing, and the tables of covariates and families."""
    dosages = people.copies.astype(np.int8)
    dosages[rng.random(dosages.shape) < options.missing] = -1
    write_plink(
        folder / "genotypes.bed",
        list(compress(ids, genotyped)),
        list(compress(people.families, genotyped)),
        people.variants,
        dosages[:, genotyped],
    )
    words = ("female", "male")
    facts = [
        {"person": person, "sex": words[sex], "age": age}
        for person, sex, age in zip(ids, people.sex.tolist(), people.age.tolist())
    ]
    write_tsv(folder / "covariates.tsv", facts)
    write_tsv(folder / "families.tsv", [{"person": p, "family": family} for p, family in zip(ids, people.families)])


def _configuration(size: str, scale: Scale, options: CohortOptions) -> str:
    """The text of contig.toml."""
    factors = '[factors.camera]\ncolumn = "camera"\n\n' if options.has_centres else ""
    fractions = ", ".join(map(str, FRACTIONS[size]))
    labels = ", ".join(f'"{name}"' for name in COLUMNS)
    return f"""# A simulated cohort: mfd contig prepare, train, retrieve, explain and gwas work here without further flags.

[data]
images = "images.tsv"
genotypes = "genotypes.bed"
covariates = "covariates.tsv"

[persons]
families = "families.tsv"

[images]
size = {scale.side}
crop = "none"

{sections_of(options)}{factors}[split]
fractions = [{fractions}]

[objective]
labels = "labels.tsv"
label_columns = [{labels}]

[gwas]
covariates = ["sex", "age"]
genetic_pcs = 0
least_persons = 50
p1 = {0.05 / scale.snps:.3g}
p2 = {0.05 / scale.snps:.3g}
"""


def _write_truth(folder: Path, people: Born, ids: list[str], scale: Scale, options: CohortOptions, seed: int) -> None:
    """Write what is true: causal SNPs, latents of every person, and the pixels that each latent moves."""
    folder.mkdir()
    facts: dict[str, Any] = {
        "seed": seed,
        "h2": options.h2,
        "nuisance": options.nuisance,
        "null": options.null,
        "block": BLOCK,
    }
    facts |= facts_of(options)
    write_json(folder / "truth.json", facts)
    causal = [
        {
            "latent": latent,
            "variant": people.variants.name[row],
            "chromosome": people.variants.chromosome[row],
            "position": int(people.variants.position[row]),
            "effect": effect,
        }
        for latent, rows, effects in zip(LATENTS, people.causal.tolist(), people.effects.tolist())
        for row, effect in zip(rows, effects)
    ]
    write_tsv(folder / "causal.tsv", causal)
    write_tsv(
        folder / "latents.tsv",
        [{"person": person, **dict(zip(COLUMNS, row))} for person, row in zip(ids, people.latents.tolist())],
    )
    np.save(folder / "masks.npy", moved_pixels(scale.side))
