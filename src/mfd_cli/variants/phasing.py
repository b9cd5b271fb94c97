"""Alleles that one haplotype carries close together: found from phased genotypes, scored as one change with `--phased`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mfd_cli.base.errors import VariantError, few
from mfd_cli.formats.vcf_reader import Record
from mfd_cli.genome.alleles import LONGEST, Variant, merged
from mfd_cli.genome.sequence import Genome

FIRST_SAMPLE = 9
"""Column of the first sample in a VCF."""


@dataclass(frozen=True)
class Carried:
    """An allele (its number among those of the chunk) on a haplotype; haplotypes of different phase sets are different."""

    allele: int
    haplotype: tuple[int, bytes]


@dataclass(frozen=True)
class Group:
    """Alleles (their numbers) that are scored together, and the haplotype (1, 2, ...) that carries them."""

    members: tuple[int, ...]
    haplotype: int


def sample_column(header: bytes, name: str | None, path: str) -> int:
    """Return the column of a sample; of the only one where no name is given. VariantError where that is not clear."""
    samples = [cell.decode("utf-8", "replace") for cell in header.split(b"\t")[FIRST_SAMPLE:]]
    if not samples:
        raise VariantError("has no samples, so no phased genotypes", path=path, hint="score without --phased")
    if name is None and len(samples) > 1:
        raise VariantError(
            f"has {len(samples)} samples: one haplotype has to be chosen", path=path, hint=f"--sample {samples[0]}"
        )
    if name is not None and name not in samples:
        raise VariantError(f"has no sample {name!r}", path=path, hint=f"samples are {few(samples)}")
    return FIRST_SAMPLE + (samples.index(name) if name is not None else 0)


EVERY_SET = b"*"
"""Phase set of a homozygous or haploid call: it lies on its haplotype in every phase set."""


def haplotypes_of(record: Record, column: int) -> Iterator[tuple[int, tuple[int, bytes]]]:
    """Yield (alternate allele from 0 on, haplotype) of a sample, where its genotype is phased, homozygous or haploid."""
    cells = record.cells
    if column >= len(cells):
        return
    keys, values = cells[FIRST_SAMPLE - 1].split(b":"), cells[column].split(b":")
    if not keys or keys[0] != b"GT":
        return
    genotype = values[0]
    calls = genotype.replace(b"|", b"/").split(b"/")
    if b"/" in genotype and len(set(calls)) > 1:
        return  # heterozygous and not phased: which haplotype is not known
    column_of_set = keys.index(b"PS") if b"PS" in keys else len(values)
    phase_set = values[column_of_set] if column_of_set < len(values) else b""  # fields at the end may be left out
    if len(set(calls)) == 1:
        phase_set = EVERY_SET
    for haplotype, call in enumerate(calls, start=1):
        if call.isdigit() and int(call) > 0:
            yield int(call) - 1, (haplotype, phase_set)


def carried_by(records: Sequence[tuple[Record, int]], column: int) -> dict[tuple[int, bytes], list[int]]:
    """Return for each haplotype the alleles that it carries, by number; `records` are (record, which alternate allele)."""
    number_of = {(record.line, alt): number for number, (record, alt) in enumerate(records)}
    result: dict[tuple[int, bytes], list[int]] = {}
    for record in {record.line: record for record, _ in records}.values():
        for alt, haplotype in haplotypes_of(record, column):
            if (record.line, alt) in number_of:
                result.setdefault(haplotype, []).append(number_of[record.line, alt])
    names = {name for _, name in result} - {EVERY_SET} or {b""}
    for key in [key for key in result if key[1] == EVERY_SET]:
        everywhere = result.pop(key)
        for name in names:
            result.setdefault((key[0], name), []).extend(everywhere)
    return result


def neighbours(variants: Sequence[Variant], carried: Sequence[int], within: int) -> set[int]:
    """Return those of the alleles of a haplotype that have the next one at most `within` bp away."""
    own = sorted(carried, key=lambda i: (variants[i].contig, variants[i].start))
    return {
        one
        for one, other in pairwise(own)
        if variants[one].contig == variants[other].contig and variants[other].start - variants[one].end <= within
    }


def groups_of(variants: Sequence[Variant], carried: dict[tuple[int, bytes], list[int]]) -> dict[int, Group]:
    """Return the group of every allele that has company: neighbours on a haplotype within LONGEST bp from first to last.

    An allele that both haplotypes carry, with different company, goes with the larger; of two alike, with the first.
    """
    result: dict[int, Group] = {}
    for (haplotype, _), numbers in sorted(carried.items()):
        for members in runs_of(variants, numbers):
            for number in members:
                if number not in result or len(members) > len(result[number].members):
                    result[number] = Group(tuple(members), haplotype)
    return result


def runs_of(variants: Sequence[Variant], numbers: Sequence[int]) -> Iterator[list[int]]:
    """Yield runs of two and more alleles that fit into LONGEST bp and do not overlap."""
    run: list[int] = []
    for number in sorted(numbers, key=lambda i: (variants[i].contig, variants[i].start, variants[i].end)):
        if run and not _joins(variants[run[0]], variants[run[-1]], variants[number]):
            if len(run) > 1:
                yield run
            run = []
        run.append(number)
    if len(run) > 1:
        yield run


def _joins(first: Variant, last: Variant, new: Variant) -> bool:
    """Return whether an allele can join a run from `first` to `last`."""
    return new.contig == first.contig and new.start >= last.end and new.end - first.start <= LONGEST


def together(
    written: Sequence[Variant], variants: Sequence[Variant], groups: dict[int, Group], genome: Genome
) -> tuple[list[Variant], dict[int, Group]]:
    """Return what is scored for each allele, the change of its whole group or its own; and the groups that could be formed.

    `written` are the alleles where the file has them, `variants` the same normalised. A group whose haplotype would be longer
    than LONGEST is given up; one that changes nothing in all is an allele of no bases.
    """
    joined: dict[tuple[int, ...], Variant | None] = {}
    for group in groups.values():
        if group.members not in joined:
            whole = merged([written[i] for i in group.members], genome)
            fits = max(len(whole.ref), len(whole.alt)) <= LONGEST
            joined[group.members] = whole.normalised(genome) if fits else None
    formed = {number: group for number, group in groups.items() if joined[group.members] is not None}
    scored = [joined[formed[i].members] if i in formed else own for i, own in enumerate(variants)]
    return [variant for variant in scored if variant is not None], formed
