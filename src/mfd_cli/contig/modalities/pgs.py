"""Kind `pgs`: polygenic scores, computed from the genotypes by scoring files of the PGS Catalog."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfd_cli.base.arrays import Bools, Doubles, Ints
from mfd_cli.base.errors import InputError, InputErrors, MfdError
from mfd_cli.contig.config import ModalitySection
from mfd_cli.contig.data.pgs_catalog import ScoreFile, read_score
from mfd_cli.contig.data.pgs_match import Index, Matched, match
from mfd_cli.contig.data.plink import PlinkFile
from mfd_cli.contig.modalities.snps import dosage_statistics
from mfd_cli.contig.modalities.source import Chosen, Opening, autosomal, chosen_numbers

SCORE_FACTS = (
    "modality", "score", "file", "variants", "matched", "flipped", "ambiguous", "repeated", "missing", "weight_matched", "kept",
)  # fmt: skip
"""The columns of scores.tsv. `missing` are the variants that the genotypes lack, `weight_matched` is a share of |weight|."""


@dataclass(frozen=True)
class PgsSource:
    """Polygenic scores, and the genotypes that they are computed from."""

    name: str
    modality: ModalitySection
    file: PlinkFile
    persons: tuple[str, ...]
    absent: Bools
    scores: Sequence[ScoreFile]

    @property
    def path(self) -> Path:
        """The genotype file."""
        return self.file.path

    def files(self) -> list[Path]:
        """Return the genotype file and the scoring files."""
        return [self.file.path, *(score.path for score in self.scores)]

    def choose(self, training: Ints) -> Chosen:
        """Compute the scores of all persons; a missing call counts as the mean of training persons.

        Scores of which too few variants are genotyped are left out. InputError where none is left.
        """
        wanted = autosomal(self.file)
        frequency = np.full(len(wanted), np.nan)
        if self.modality.ambiguous == "frequency":
            frequency = dosage_statistics(self.file, training)[0] / 2
        index = Index(self.file.variants, wanted)
        matched = [match(score, index, self.modality.ambiguous, frequency) for score in self.scores]
        enough = [one.share >= self.modality.min_matched and len(one.rows) > 0 for one in matched]
        facts = [self._facts(score, one, good) for score, one, good in zip(self.scores, matched, enough)]
        why = f"with fewer than {self.modality.min_matched:.0%} of the variants genotyped"
        if not any(enough):
            first = facts[0]
            raise InputError(
                f"modalities.{self.name}: all {len(facts)} scores are {why}; {first['score']}: {first['matched']:,} of "
                f"{first['variants']:,}",
                path=self.path,
                hint="data.assembly, where it is that of the scores, matches by position; else rsIDs are compared",
            )
        kept = [one for one, good in zip(matched, enough) if good]
        names = [score.name for score, good in zip(self.scores, enough) if good]
        values = scores_of(self.file, kept, training)
        return chosen_numbers(
            self.name,
            "pgs",
            names,
            values,
            self.absent,
            training,
            self.path,
            left_out={why: len(facts) - len(kept)},
            facts=facts,
        )

    def _facts(self, score: ScoreFile, one: Matched, kept: bool) -> dict[str, object]:
        """The row of scores.tsv of a score."""
        used = len(one.rows)
        cells = (
            self.name, score.name, score.path.name, one.variants, used, one.flipped, one.ambiguous, one.repeated,
            one.variants - used - one.ambiguous - one.repeated, one.weight_matched, "yes" if kept else "no",
        )  # fmt: skip
        return dict(zip(SCORE_FACTS, cells))


def open_pgs(opening: Opening, name: str, modality: ModalitySection) -> PgsSource:
    """Open the genotypes of a modality of kind pgs, and read its scoring files. Several faults are told together."""
    genotyped = opening.genotyped(name, modality)
    scores, faults = list[ScoreFile](), list[MfdError]()
    for path in opening.files_of(modality.scores, f"modalities.{name}.scores"):
        try:
            scores.append(read_score(path, opening.project.config.data.assembly))
        except MfdError as error:
            faults.append(error)
    first: dict[str, Path] = {}
    for score in scores:
        if first.setdefault(score.name, score.path) != score.path:
            faults.append(InputError(f"is score {score.name}, as {first[score.name]} is", path=score.path))
    if faults:
        raise faults[0] if len(faults) == 1 else InputErrors(faults)
    return PgsSource(name, modality, genotyped.file, genotyped.persons, genotyped.absent, scores)


def scores_of(file: PlinkFile, matched: Sequence[Matched], training: Ints) -> Doubles:
    """Return scores (persons of the file, scores): what the copies of each variant add, summed.

    Any three numbers for 0, 1 and 2 copies are a start, a slope and a bend, f0 + b d + c max(d - 1, 0); so that all scores are
    two products of matrices. A missing call counts as the training mean of d, and of the bend.
    """
    rows = np.unique(np.concatenate([one.rows for one in matched]))
    slope, bend = np.zeros((2, len(matched), len(rows)))
    start = np.array([one.terms[:, 0].sum() for one in matched])
    for number, one in enumerate(matched):
        places = np.searchsorted(rows, one.rows)
        zero, first, second = one.terms.T
        slope[number, places] = first - zero
        bend[number, places] = second - 2 * first + zero
    values, low = np.zeros((len(matched), len(file.persons))), 0
    for some, dosages in file.blocks(rows):
        part = slice(low, low + len(some))
        values += slope[:, part] @ _filled(dosages.astype(np.float64), dosages < 0, training)
        if bend[:, part].any():
            bent = np.maximum(dosages.astype(np.float64) - 1, 0)
            values += bend[:, part] @ _filled(bent, dosages < 0, training)
        low += len(some)
    return values.T + start


def _filled(values: Doubles, missing: Bools, training: Ints) -> Doubles:
    """Values (variants, persons) with the mean of training persons where they are missing."""
    known = ~missing[:, training]
    mean = np.where(known, values[:, training], 0).sum(1) / np.maximum(known.sum(1), 1)
    return np.where(missing, mean[:, None], values)
