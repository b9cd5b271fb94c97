"""The columns of the table of scores for one chunk: where an allele is, what it changes, and what lies there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfd_cli.engine.jobs import Piece
from mfd_cli.formats.vcf_reader import Record
from mfd_cli.genome.alleles import Variant
from mfd_cli.genome.sequence import Genome
from mfd_cli.variants.background import Background
from mfd_cli.variants.effects import ScoreSettings
from mfd_cli.variants.options import ScoreOptions
from mfd_cli.variants.phasing import FIRST_SAMPLE, Group, carried_by, groups_of, neighbours, together
from mfd_cli.variants.records import Allele
from mfd_cli.variants.scorer import Scorer
from mfd_cli.variants.summary import ScoreSummary

COMPARED_ALLELES = 256
"""Alleles that are scored in float32 too where another precision is asked for, to say how far the scores agree."""
FEW_SAMPLES = 8
"""Samples whose haplotypes are looked at for variants that lie close together."""


@dataclass(frozen=True)
class Chunk:
    """Records, all their alleles, and of those that are scored what is needed around their scores: `own` variants one by one,
    `variants` as they are scored, and the groups in which some are scored together."""

    records: Sequence[Record]
    alleles: Sequence[Allele]
    scored: Sequence[Allele]
    own: Sequence[Variant]
    variants: Sequence[Variant]
    groups: Mapping[int, Group]

    def piece(self) -> Piece:
        """Return what is to be scored."""
        lines = [record.line for record in self.records]
        name = f"lines {lines[0]}-{lines[-1]}" if lines else "no lines"
        return Piece(self.variants, "\n".join(map(str, self.variants)), name, len(self.variants))


@dataclass
class ChunkTable:
    """Makes the table's columns of one chunk after the other. `sample` is the column of the VCF whose haplotypes count; None
    without --phased. What was phased or could have been is counted in `summary`."""

    scorer: Scorer
    genome: Genome
    options: ScoreOptions
    background: Background | None
    sample: int | None
    summary: ScoreSummary

    def chunk(self, records: Sequence[Record], alleles: Sequence[Allele]) -> Chunk:
        """Return a chunk of records with what is to be scored of it."""
        scored = [allele for allele in alleles if allele.reason is None]
        own = [allele.variant for allele in scored if allele.variant is not None]
        written = [allele.written for allele in scored if allele.written is not None]
        variants, groups = together(written, own, self._groups(scored, written), self.genome)
        self.summary.phased += len(groups)
        return Chunk(records, alleles, scored, own, variants, groups)

    def columns(self, chunk: Chunk, scores: Mapping[str, Any]) -> dict[str, Any]:
        """Return the table's columns, one value per allele, around the scores of a chunk."""
        records = [allele.record for allele in chunk.scored]
        keys = [variant.key(self.genome) for variant in chunk.own]
        columns: dict[str, Any] = {
            "line": [record.line for record in records],
            "contig": [record.contig for record in records],
            "position": [record.position for record in records],
            "id": [record.cells[2].decode("utf-8", "replace") for record in records],
            "ref": [record.ref for record in records],
            "alt": [allele.record.alts[allele.number] for allele in chunk.scored],
            "key": keys,
            **scores,
        }
        if self.background is not None:
            columns |= self.background.columns(columns)
        if self.options.phased:
            groups, count = chunk.groups, len(chunk.own)
            columns["phased_with"] = [_company(i, groups, keys) for i in range(count)]
            columns["haplotype"] = [groups[i].haplotype if i in groups else None for i in range(count)]
        return columns | self._annotations(chunk.own)

    def agreement(self, alleles: Sequence[Allele], columns: Mapping[str, Any]) -> list[str]:
        """Say how far scores in less than float32 agree with those in float32, on the first alleles; nothing for float32."""
        settings = self.scorer.settings
        if settings.precision == "float32" or self.options.phased:
            return []
        first = [allele.variant for allele in alleles if allele.variant is not None][:COMPARED_ALLELES]
        full = ScoreSettings(settings.placement, "float32", settings.tracks, settings.fixes)
        exact = Scorer(self.scorer.runs, self.scorer.device, self.scorer.batch_size, full)
        rough, fine = columns["MFD_MAX_DLOGIT"][: len(first)], exact.columns(first, self.genome)["MFD_MAX_DLOGIT"]
        varies = len(first) > 2 and rough.std() * fine.std() > 0  # else there is no correlation
        correlation = f", r = {np.corrcoef(rough, fine)[0, 1]:.4f}" if varies else ""
        return [
            f"scored in {settings.precision}; on the first {len(first)} alleles MFD_MAX_DLOGIT differs from float32 by at "
            f"most {np.abs(rough - fine).max():.2g}{correlation}"
        ]

    def _groups(self, alleles: Sequence[Allele], variants: Sequence[Variant]) -> dict[int, Group]:
        """Return the alleles that are scored together with --phased; otherwise none, but close neighbours are counted."""
        carriers = [(allele.record, allele.number) for allele in alleles]
        if self.sample is not None:
            return groups_of(variants, carried_by(carriers, self.sample))
        last = min(len(carriers[0][0].cells), FIRST_SAMPLE + FEW_SAMPLES) if carriers else FIRST_SAMPLE
        near = self.scorer.members[0].predictor.window // 2
        close = [
            neighbours(variants, own, near)
            for sample in range(FIRST_SAMPLE, last)
            for own in carried_by(carriers, sample).values()
        ]
        self.summary.close += len(set().union(*close))
        return {}

    def _annotations(self, variants: Sequence[Variant]) -> dict[str, Any]:
        """Return the columns about genes and elements at the variants."""
        contigs = [variant.contig for variant in variants]
        starts, ends = (np.array([getattr(v, name) for v in variants], np.int64) for name in ("start", "end"))
        columns: dict[str, Any] = {}
        if self.options.genes is not None:
            columns |= self.options.genes.annotate(contigs, starts, ends)
        for elements in self.options.elements:
            columns[f"in.{elements.name}"] = elements.annotate(contigs, starts, ends)
        return columns


def _company(number: int, groups: Mapping[int, Group], keys: Sequence[str]) -> str:
    """Return the keys of the alleles that one was scored together with, joined by commas."""
    return ",".join(keys[i] for i in groups[number].members if i != number) if number in groups else ""
