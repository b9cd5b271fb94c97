"""`mfd contig prepare`: from pictures and genotypes to a cohort folder, and `mfd contig check`, which writes nothing.

cohort/            for training, see contig/data/cohort_files.py
cohort-report/     images.tsv, which pictures are used and why others are not; columns.tsv, the inputs of each modality;
                   scores.tsv, what was found of each polygenic score; patterns.tsv, how many persons have which modalities;
                   factors.tsv, images of each level of a technical factor, and how many of them are faulty
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mfd_cli.base.arrays import Bytes, Doubles, Floats, Ints
from mfd_cli.base.errors import ImageError
from mfd_cli.base.files import check_output, sha256_of, whole_folder
from mfd_cli.base.notebook import Told
from mfd_cli.base.progress import Progress
from mfd_cli.base.threads import usable_cores
from mfd_cli.contig.config import ContigProject
from mfd_cli.contig.data.cohort_files import (
    FACTOR,
    PersonRow,
    write_columns,
    write_manifest,
    write_persons,
    write_shard,
)
from mfd_cli.contig.data.manifest import ImageRow
from mfd_cli.contig.data.modality_columns import width_of
from mfd_cli.contig.data.persons import SPLITS, People
from mfd_cli.contig.data.pictures import Faulty, Picture, read_picture
from mfd_cli.contig.factor_report import LEVEL_COLUMNS, LookedAt, factor_lines, level_rows
from mfd_cli.contig.inputs import MOST_FAULTY, Inputs, choose_inputs, open_inputs, rows_having
from mfd_cli.contig.modalities.patterns import PATTERNS, patterns_of
from mfd_cli.contig.modalities.pgs import SCORE_FACTS
from mfd_cli.contig.modalities.source import Chosen
from mfd_cli.formats.tables import write_tsv

SHARD = 256 << 20
"""Bytes of a shard, about."""
TOGETHER = 256
"""Persons whose pictures are read together."""
REPORT = "cohort-report"
COUNTED = {"snps": "variants", "pgs": "scores", "burden": "burdens", "table": "columns"}
"""What the inputs of each kind of modality are."""


@dataclass(frozen=True, repr=False)
class CohortReport(Told):
    """What a cohort has, or would have."""

    persons: dict[str, int]
    families: int
    images: int
    faulty: dict[str, int]
    circles: int
    variants: dict[str, int]
    left_out: dict[str, int]
    folder: Path | None
    kinds: dict[str, str]
    patterns: list[dict[str, Any]]
    factors: Sequence[str] = ()
    """What is told of technical factors."""

    def lines(self) -> list[str]:
        """Return a few lines for a person."""
        split = ", ".join(f"{count:,} {name}" for name, count in self.persons.items())
        lines = [
            f"{sum(self.persons.values()):,} persons of {self.families:,} families ({split}), {self.images:,} images",
            ", ".join(f"{name}: {count:,} {COUNTED[self.kinds[name]]}" for name, count in self.variants.items()),
            *(
                f"{row['persons']:,} persons have {row['modalities']}"
                for row in self.patterns
                if len(self.patterns) > 1
            ),
            f"a round field of view was found in {self.circles:,} images" if self.circles else "",
            *(f"left out: {count:,} {reason}" for reason, count in self.left_out.items()),
            *(f"left out: {count:,} images, {reason}" for reason, count in self.faulty.items()),
            *self.factors,
            f"cohort: {self.folder}   (mfd contig train)" if self.folder else "",
        ]
        return [line for line in lines if line]


@dataclass(frozen=True)
class Seen:
    """An image that was read: its picture, or why it is faulty."""

    row: ImageRow
    picture: Picture | None
    reason: str = ""


def check(project: ContigProject, *, images: int | None = None, progress: Progress | None = None) -> CohortReport:
    """Read all inputs, and of the pictures `images`, evenly spaced (default: all), and return what a cohort would have.

    Nothing is written. Raises InputError, ConfigError and their like for what `prepare` would refuse.
    """
    inputs = open_inputs(project)
    chosen = choose_inputs(inputs)
    rows = [row for own in inputs.rows for row in own]
    if images is not None and images < len(rows):
        rows = [rows[index] for index in np.linspace(0, len(rows) - 1, images).round().astype(int).tolist()]
    seen: list[Seen] = []
    for low in range(0, len(rows), TOGETHER):
        seen += _read(project, rows[low : low + TOGETHER])
        if progress:
            progress("reading pictures", len(seen), len(rows))
    faulty = Counter(each.reason for each in seen if each.picture is None)
    _check_faults(project, inputs, dict(faulty), len(rows))
    circles = sum(each.picture is not None and each.picture.circle for each in seen)
    looked_at = [LookedAt(each.row.factors, each.picture is not None) for each in seen]
    factors = project.config.factors
    told = factor_lines(level_rows(looked_at, factors), looked_at, factors)
    return replace(_report(inputs, chosen, sum(map(len, inputs.rows)), dict(faulty), circles, None), factors=told)


def prepare(project: ContigProject, *, force: bool = False, progress: Progress | None = None) -> CohortReport:
    """Write the cohort folder of a project and its report, whole. The same inputs give the same bytes.

    Statistics (frequencies, means, colours) are of training persons alone. Raises InputError, ConfigError and their like for
    faulty inputs, OutputError where a folder is in the way and `force` is not set.
    """
    inputs, factors = open_inputs(project), project.config.factors
    output, report = project.cohort, project.cohort.with_name(REPORT)
    for path in (output, report):
        check_output(path, force)
    chosen = choose_inputs(inputs)
    with whole_folder(report) as about, whole_folder(output) as folder:
        for each in (folder, about):  # personal data: for their owner alone
            each.chmod(0o700)
        writing = _Writing(project, inputs, chosen, folder, progress)
        shards = {split: writing.split(split) for split in SPLITS}
        people = inputs.people
        has = {name: rows >= 0 for name, rows in writing.rows.items()}
        write_persons(folder / "persons.arrow", people, writing.images, has)
        write_columns(folder / "columns.arrow", {name: each.columns for name, each in chosen.items()})
        mean, scale = writing.colours()
        levels = level_rows(writing.looked_at, factors)
        whole = _report(inputs, chosen, int(writing.images.sum()), dict(writing.faulty), writing.circles, output)
        write_manifest(
            folder,
            {
                "configuration": project.config.model_dump(
                    mode="json", include={"persons", "images", "modalities", "split"}
                ),
                "inputs": _inputs(inputs),
                "size": project.config.images.size,
                "pixel_mean": mean.tolist(),
                "pixel_scale": scale.tolist(),
                "modalities": {
                    name: {"kind": each.columns.kind, "columns": len(each.columns), "packed": each.columns.packed}
                    for name, each in chosen.items()
                },
                "splits": shards,
                "summary": {"persons": whole.persons, "images": whole.images, "faulty": whole.faulty},
                **({"factors": {name: each.type for name, each in factors.items()}} if factors else {}),
            },
        )
        write_tsv(about / "images.tsv", writing.table, (*IMAGE_COLUMNS, *(f"{FACTOR}{name}" for name in factors)))
        write_tsv(about / "columns.tsv", _column_rows(chosen), COLUMN_FACTS)
        write_tsv(about / "patterns.tsv", whole.patterns, PATTERNS)
        scores = [row for each in chosen.values() for row in each.facts]
        if scores:
            write_tsv(about / "scores.tsv", scores, SCORE_FACTS)
        if factors:
            write_tsv(about / "factors.tsv", levels, LEVEL_COLUMNS)
    return replace(whole, factors=factor_lines(levels, writing.looked_at, factors))


IMAGE_COLUMNS = (
    "image",
    "person",
    "eye",
    "kept",
    "reason",
    "side",
    "circle",
    "field",
    "brightness",
    "saturated",
    "sharpness",
)
"""What images.tsv of the report says of each image."""
COLUMN_FACTS = ("modality", "column", "mean", "sd", "missing")
"""What columns.tsv says of each input: mean, sd and share of missing values, of training persons."""


def _column_rows(chosen: dict[str, Chosen]) -> list[dict[str, Any]]:
    """The rows of columns.tsv."""
    return [
        dict(zip(COLUMN_FACTS, (name, *cells)))
        for name, each in chosen.items()
        for cells in zip(
            each.columns.variants.name,
            each.columns.mean.tolist(),
            each.columns.sd.tolist(),
            each.columns.missing.tolist(),
        )
    ]


class _Writing:
    """The shards of a cohort on their way, and what is learnt of the pictures meanwhile."""

    def __init__(
        self,
        project: ContigProject,
        inputs: Inputs,
        chosen: dict[str, Chosen],
        folder: Path,
        progress: Progress | None,
    ) -> None:
        self.project, self.inputs, self.chosen, self.folder, self.progress = project, inputs, chosen, folder, progress
        self.images = np.zeros(len(inputs.people.persons), np.int64)
        self.faulty: Counter[str] = Counter()
        self.circles, self.done, self.total = 0, 0, sum(map(len, inputs.rows))
        self.table: list[dict[str, Any]] = []
        self.looked_at: list[LookedAt] = []
        self.sums, self.squares, self.pixels = np.zeros(3), np.zeros(3), 0
        self.rows = {name: rows_having(inputs, name, each) for name, each in chosen.items()}
        (folder / "shards").mkdir()

    def split(self, split: str) -> dict[str, Any]:
        """Write the shards of a split and return what the manifest says of them."""
        size = self.project.config.images.size
        modalities = {name: each.columns for name, each in self.chosen.items()}
        width = sum(width_of(each) * (1 if each.packed else 4) for each in modalities.values())
        most = max(SHARD // (2 * 3 * size**2 + width), 1)
        persons, shards = self.inputs.people.of(split), []
        for number, low in enumerate(range(0, len(persons), most)):
            rows = list(self._rows(persons[low : low + most], split == "train"))
            file = f"{split}-{number:05}.arrow"
            write_shard(self.folder / "shards" / file, rows, size, modalities, list(self.project.config.factors))
            shards.append({"file": file, "persons": len(rows)})
        return {"persons": sum(shard["persons"] for shard in shards), "shards": shards}

    def colours(self) -> tuple[Doubles, Doubles]:
        """Return the mean and the sd of each colour (0 to 1) over the pixels of training images."""
        mean = self.sums / max(self.pixels, 1)
        return mean, np.sqrt(np.maximum(self.squares / max(self.pixels, 1) - mean**2, 1e-6))

    def _rows(self, persons: Ints, training: bool) -> Iterator[PersonRow]:
        """What a shard holds of some people; those of whom no picture can be used are left out."""
        codes = {name: self._values(name, persons) for name in self.chosen}
        for low in range(0, len(persons), TOGETHER):
            some = persons[low : low + TOGETHER]
            seen = iter(_read(self.project, [row for place in some for row in self.inputs.rows[place]]))
            for offset, place in enumerate(some.tolist()):
                kept = self._kept([next(seen) for _ in self.inputs.rows[place]], training)
                self.images[place] = len(kept)
                if kept:
                    of_person = {name: values[low + offset] for name, values in codes.items()}
                    known = {row.image: row.factors for row in self.inputs.rows[place]}
                    yield PersonRow(place, kept, of_person, [known[image] for image, _, _ in kept])
            if self.progress:
                self.progress("reading pictures", self.done, self.total)

    def _values(self, name: str, persons: Ints) -> list[Bytes | Floats | None]:
        """What a shard holds of a modality for each of some people, None for those who lack it."""
        rows = self.rows[name][persons]
        values = iter(self.chosen[name].values(rows[rows >= 0]))
        return [next(values) if row >= 0 else None for row in rows.tolist()]

    def _kept(self, seen: list[Seen], training: bool) -> list[tuple[str, str, bytes]]:
        """The images of a person that are used: of each eye the sharpest, then by name. The others are counted."""
        self.done += len(seen)
        good = [each for each in seen if each.picture is not None]
        ranked = sorted(good, key=lambda each: (each.row.eye, -_picture(each).sharpness, each.row.image))
        taken, used = Counter[str](), []
        for each in ranked:
            taken[each.row.eye] += 1
            if taken[each.row.eye] <= self.project.config.images.most:
                used.append(each)
        names = {each.row.image for each in used}
        for each in seen:
            reason = each.reason or ("" if each.row.image in names else "sharper ones of the same eye are used")
            self._note(each, reason)
        used.sort(key=lambda each: each.row.image)
        if training:
            for each in used:
                values = _picture(each).pixels.reshape(3, -1) / 255.0
                self.sums += values.sum(1)
                self.squares += (values**2).sum(1)
                self.pixels += values.shape[1]
        return [(each.row.image, each.row.eye, _picture(each).pixels.tobytes()) for each in used]

    def _note(self, each: Seen, reason: str) -> None:
        """Put an image into the report."""
        picture = each.picture
        facts: dict[str, Any] = {"image": each.row.image, "person": each.row.person, "eye": each.row.eye}
        facts |= {"kept": "no" if reason else "yes", "reason": reason}
        facts |= {f"{FACTOR}{name}": text for name, text in each.row.factors.items()}
        if picture is not None:
            self.circles += picture.circle
            names = ("side", "field", "brightness", "saturated", "sharpness")
            facts |= {name: getattr(picture, name) for name in names} | {"circle": "yes" if picture.circle else "no"}
        if reason:
            self.faulty[reason] += 1
            if picture is None:
                broken = sum(count for why, count in self.faulty.items() if not why.startswith("sharper"))
                _check_fault(self.project, self.inputs, each, broken, self.total)
        self.table.append(facts)
        self.looked_at.append(LookedAt(each.row.factors, picture is not None))


def _picture(seen: Seen) -> Picture:
    """The picture of an image that was read without a fault."""
    assert seen.picture is not None
    return seen.picture


def _read(project: ContigProject, rows: list[ImageRow]) -> Iterator[Seen]:
    """Read pictures, several at once, in their order."""
    settings = project.config.images

    def one(row: ImageRow) -> Seen:
        try:
            return Seen(row, read_picture(row.path, settings, row.eye))
        except Faulty as fault:
            return Seen(row, None, str(fault))

    with ThreadPoolExecutor(min(usable_cores(), os.cpu_count() or 1)) as pool:
        yield from pool.map(one, rows)


def _check_fault(project: ContigProject, inputs: Inputs, seen: Seen, faulty: int, images: int) -> None:
    """ImageError where a faulty picture may not be skipped, or too many are faulty."""
    if project.config.images.on_fault == "error":
        raise ImageError(seen.reason, path=seen.row.path, hint='images.on_fault = "skip" leaves faulty pictures out')
    if faulty > max(MOST_FAULTY * images, 1):
        raise ImageError(
            f"more than {MOST_FAULTY:.0%} of {images:,} pictures are faulty; line {seen.row.line}: {seen.reason}",
            path=inputs.manifest,
            hint="mfd contig check lists the reasons",
        )


def _check_faults(project: ContigProject, inputs: Inputs, faulty: dict[str, int], images: int) -> None:
    """ImageError where more pictures are faulty than `prepare` would take, with all reasons."""
    count = sum(faulty.values())
    strict = project.config.images.on_fault == "error"
    if count and (strict or count > max(MOST_FAULTY * images, 1)):
        reasons = "; ".join(f"{number:,} {reason}" for reason, number in faulty.items())
        raise ImageError(f"{count:,} of {images:,} pictures are faulty: {reasons}", path=inputs.manifest)


def _report(
    inputs: Inputs,
    chosen: dict[str, Chosen],
    images: int,
    faulty: dict[str, int],
    circles: int,
    folder: Path | None,
) -> CohortReport:
    """What is told of a cohort."""
    people: People = inputs.people
    return CohortReport(
        {split: len(people.of(split)) for split in SPLITS},
        len(np.unique(people.family)),
        images,
        faulty,
        circles,
        {name: len(each.columns) for name, each in chosen.items()},
        inputs.left_out
        | {
            f"{COUNTED[each.columns.kind]} of {name}, {why}": count
            for name, each in chosen.items()
            for why, count in each.left_out.items()
        },
        folder,
        {name: each.columns.kind for name, each in chosen.items()},
        patterns_of({name: rows_having(inputs, name, each) >= 0 for name, each in chosen.items()}, people),
    )


def _inputs(inputs: Inputs) -> list[dict[str, Any]]:
    """The files that a cohort was made of, with their digests; of the pictures the manifest alone."""
    files = [("images", inputs.manifest)]
    files += [(name, path) for name, source in inputs.sources.items() for path in source.files()]
    return [
        {"what": what, "name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for what, path in files
    ]
