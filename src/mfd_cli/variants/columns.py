"""The columns of the table of scores for one chunk: where an allele is, what it changes, and what lies there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfd_cli.genome.alleles import Variant
from mfd_cli.genome.sequence import Genome
from mfd_cli.variants.background import Background
from mfd_cli.variants.effects import ScoreSettings
from mfd_cli.variants.options import ScoreOptions
from mfd_cli.variants.parts import ScoreParts
from mfd_cli.variants.phasing import FIRST_SAMPLE, Group, carried_by, groups_of, neighbours, together
from mfd_cli.variants.records import Allele
from mfd_cli.variants.scorer import Scorer
from mfd_cli.variants.summary import ScoreSummary

COMPARED_ALLELES = 256
"""Alleles that are scored in float32 too where another precision is asked for, to say how far the scores agree."""
FEW_SAMPLES = 8
"""Samples whose haplotypes are looked at for variants that lie close together."""


@dataclass
class ChunkScorer:
    """Scores the alleles of one chunk after the other. `sample` is the column of the VCF whose haplotypes count; None without
    --phased. What was phased or could have been is counted in `summary`."""

    scorer: Scorer
    genome: Genome
    options: ScoreOptions
    background: Background | None
    sample: int | None
    parts: ScoreParts
    summary: ScoreSummary

    def columns(self, alleles: Sequence[Allele]) -> dict[str, Any]:
        """Return the table's columns, one value per allele; all alleles have to be such as can be scored."""
        own = [allele.variant for allele in alleles if allele.variant is not None]
        written = [allele.written for allele in alleles if allele.written is not None]
        variants, groups = together(written, own, self._groups(alleles, written), self.genome)
        self.summary.phased += len(groups)
        records = [allele.record for allele in alleles]
        keys = [variant.key(self.genome) for variant in own]
        columns: dict[str, Any] = {
            "line": [record.line for record in records],
            "contig": [record.contig for record in records],
            "position": [record.position for record in records],
            "id": [record.cells[2].decode("utf-8", "replace") for record in records],
            "ref": [record.ref for record in records],
            "alt": [allele.record.alts[allele.number] for allele in alleles],
            "key": keys,
            **self.parts.columns(
                variants, lambda: self.scorer.columns(variants, self.genome, self.options.every_track)
            ),
        }
        if self.background is not None:
            columns |= self.background.columns(columns)
        if self.options.phased:
            columns["phased_with"] = [_company(i, groups, keys) for i in range(len(own))]
            columns["haplotype"] = [groups[i].haplotype if i in groups else None for i in range(len(own))]
        return columns | self._annotations(own)

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
