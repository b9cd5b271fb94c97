"""Alleles: which can be scored, one spelling for all, and the windows in which both haplotypes are seen."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfd_cli.genome.alleles import MOVED, Slide, Variant, indel_windows, merged, slide, substituted, why_not
from mfd_cli.genome.sequence import Genome, decode

BASES = "".join("ACGT"[i] for i in np.random.default_rng(3).integers(0, 4, 200))
GENOME = Genome({"chr1": np.frombuffer(BASES.encode(), np.uint8)})
dna = st.text(alphabet="ACGT", min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("ref", "alt", "reason"),
    [
        (BASES[9], ".", "no alternate allele"),
        (BASES[9], "*", "overlapping deletion"),
        (BASES[9], "<*>", "any other allele (<*>)"),
        (BASES[9], "<NON_REF>", "any other allele (<NON_REF>)"),
        (BASES[9], "<DEL>", "symbolic"),
        (BASES[9], "A]chr2:5]", "breakend"),
        (BASES[9], ".A", "breakend"),
        (BASES[9], "N", "not of A, C, G, T"),
        ("<X>", "A", "not a sequence"),
        (BASES[9], BASES[9].lower(), "both alleles are the same"),
        (BASES[9], BASES[9] + "A" * 200, "longer than 128 bp"),
        ("ACGT"["ACGT".index(BASES[9]) - 1], BASES[9], "REF is"),
    ],
)
def test_reasons(ref: str, alt: str, reason: str) -> None:
    found = why_not(10, ref, alt, GENOME, "chr1")
    assert found is not None and reason in found


def test_contigs_and_ends() -> None:
    assert why_not(10, "A", "C", GENOME, None) == "the genome has no such contig"
    for position in (0, 201):
        assert why_not(position, "A", "C", GENOME, "chr1") == "not within the contig"
    assert why_not(10, BASES[9].lower(), "ACGTACGT", GENOME, "chr1") is None
    assert why_not(10, "N", BASES[9], GENOME, "chr1") == "both alleles are the same"


@given(prefix=dna, ref=dna, alt=dna, suffix=dna)
def test_trimming_keeps_the_haplotype_and_shares_no_end(prefix: str, ref: str, alt: str, suffix: str) -> None:
    full = Variant("c", 11, prefix + ref + suffix, prefix + alt + suffix)
    small = full.trimmed()
    before = small.position - full.position
    after = len(full.ref) - before - len(small.ref)
    assert full.ref[:before] + small.ref + full.ref[len(full.ref) - after :] == full.ref
    assert full.ref[:before] + small.alt + full.ref[len(full.ref) - after :] == full.alt
    if small.ref and small.alt:
        assert small.ref[0] != small.alt[0] and small.ref[-1] != small.alt[-1]


# -- one spelling for all ----------------------------------------------------------------------------------------------


def world_of_repeats(seed: int, length: int = 400) -> Genome:
    """A contig made of short tandem repeats and little else."""
    rng, pieces = np.random.default_rng(seed), []
    while sum(map(len, pieces)) < length:
        unit = "".join(rng.choice(list("ACGT"), int(rng.integers(1, 5))))
        pieces.append(unit * int(rng.integers(1, 7)))
    return Genome({"c": np.frombuffer("".join(pieces)[:length].encode(), np.uint8)})


def applied(variant: Variant, genome: Genome) -> str:
    """The whole contig with the variant in it."""
    bases = genome.bases("c", 0, genome.lengths["c"])
    assert bases[variant.start : variant.end] == variant.ref
    return bases[: variant.start] + variant.alt + bases[variant.end :]


def random_indel(genome: Genome, rng: np.random.Generator) -> Variant:
    """An insertion or deletion, often of what stands there already."""
    at, size = int(rng.integers(20, 360)), int(rng.integers(1, 9))
    here = genome.bases("c", at, at + size)
    if rng.random() < 0.5:
        return Variant("c", at + 1, here, "")
    return Variant("c", at + 1, "", here if rng.random() < 0.7 else "".join(rng.choice(list("ACGT"), size)))


@given(st.integers(0, 10**6))
def test_every_spelling_has_one_normal_form_and_one_set_of_windows(seed: int) -> None:
    genome, rng = world_of_repeats(seed), np.random.default_rng(seed)
    variant = random_indel(genome, rng)
    left, right = slide(variant, genome)
    whole = applied(variant, genome)
    expected = variant.normalised(genome)
    reference = indel_windows(expected, genome, 128, 64)
    for by in range(-left, right + 1):
        other = variant.moved(by)
        assert applied(other, genome) == whole
        anchor, after = genome.bases("c", other.start - 3, other.start), genome.bases("c", other.end, other.end + 2)
        padded = Variant("c", other.start - 2, anchor + other.ref + after, anchor + other.alt + after)
        assert padded.normalised(genome) == expected and padded.key(genome) == variant.key(genome)
        found = indel_windows(other, genome, 128, 64)
        assert np.array_equal(found.ref, reference.ref) and np.array_equal(found.alt, reference.alt)
    for beyond in (-left - 1, right + 1):  # no further: there it would be another variant
        if 20 < variant.start + beyond < 370:
            moved = variant.moved(beyond)
            bases = genome.bases("c", 0, genome.lengths["c"])
            assert moved.ref != bases[moved.start : moved.end] or applied(moved, genome) != whole


@pytest.mark.skipif(not shutil.which("bcftools"), reason="bcftools is not installed")
def test_keys_are_what_bcftools_norm_writes(tmp_path: Path) -> None:
    genome, rng = world_of_repeats(5, 2000), np.random.default_rng(5)
    fasta = tmp_path / "c.fa"
    fasta.write_text(">c\n" + genome.bases("c", 0, 2000) + "\n")
    lines, keys = [], []
    for number in range(600):
        at, size = int(rng.integers(1, 1900)), int(rng.integers(1, 12))
        ref = genome.bases("c", at - 1, at - 1 + size)
        middle = (
            genome.bases("c", at, at + int(rng.integers(0, 9)))
            if rng.random() < 0.6
            else "".join(rng.choice(list("ACGT"), 3))
        )
        alt = (ref[0] + middle + ref[int(rng.integers(1, size + 1)) :]) or ref[0]
        if alt == ref:
            continue
        lines.append(f"c\t{at}\tv{number}\t{ref}\t{alt}\t.\t.\t.")
        keys.append(Variant("c", at, ref, alt).key(genome))
    source = tmp_path / "a.vcf"
    header = "##fileformat=VCFv4.2\n##contig=<ID=c,length=2000>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    source.write_text(header + "\n".join(lines) + "\n")
    words = ["bcftools", "norm", "-f", str(fasta), str(source)]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    cells = [line.split("\t") for line in told.splitlines() if not line.startswith("#")]
    theirs = {c[2]: f"{c[0]}:{c[1]}:{c[3]}>{c[4]}" for c in cells}
    assert len(theirs) == len(lines) > 400
    ours = {line.split("\t")[2]: key for line, key in zip(lines, keys)}
    assert ours == theirs
    assert (
        sum(key != f"c:{line.split()[1]}:{line.split()[3]}>{line.split()[4]}" for key, line in zip(keys, lines)) > 200
    )


def test_slide_by_hand() -> None:
    genome = Genome({"c": np.frombuffer(b"GATATATNATG", np.uint8)})
    assert slide(Variant("c", 4, "AT", ""), genome) == Slide(2, 2)  # the middle of ATATAT
    assert slide(Variant("c", 8, "", "AT"), genome) == Slide(6, 0)  # an unknown base stops it
    assert slide(Variant("c", 2, "A", "C"), genome) == slide(Variant("c", 2, "AT", "C"), genome) == Slide(0, 0)
    assert Variant("c", 8, "", "AT").key(genome) == "c:1:G>GAT"
    assert Variant("c", 1, "G", "").key(genome) == "c:1:GA>A"  # nothing stands before the first base


# -- windows -----------------------------------------------------------------------------------------------------------


def test_windows_of_a_substitution() -> None:
    codes = GENOME.codes("chr1", 79, 119)
    alt = "ACGT"["ACGT".index(BASES[99]) - 1] + "A"
    changed = decode(substituted(codes, Variant("chr1", 100, BASES[99:101], alt), 79))
    assert changed == BASES[79:99] + alt + BASES[101:119]


def plain_insertion() -> tuple[Variant, int]:
    """Three bases in a place where they cannot slide, and that place (0-based)."""
    at = next(i for i in range(100, 140) if slide(Variant("chr1", i + 1, "", "GGG"), GENOME) == (0, 0))
    return Variant("chr1", at + 1, "", "GGG"), at


def test_windows_of_an_insertion_lie_as_those_of_its_reference() -> None:
    variant, at = plain_insertion()
    found = indel_windows(variant, GENOME, 40, 20)
    alternate = BASES[:at] + "GGG" + BASES[at:]
    expected_ref, expected_alt = [], []
    for moved in MOVED:
        low = at - 20 + moved
        expected_ref += [BASES[low + by : low + by + 40] for by in (-3, 0, 3)]
        expected_alt += [alternate[low : low + 40], alternate[low + 3 : low + 43]]
    assert [decode(window) for window in found.ref] == expected_ref
    assert [decode(window) for window in found.alt] == expected_alt
    assert sum(found.ref_weights) == pytest.approx(1) and sum(found.alt_weights) == pytest.approx(1)


def test_the_way_back_exchanges_the_windows() -> None:
    """A deletion on the haplotype that has the insertion is the insertion backwards."""
    variant, at = plain_insertion()
    there = Genome({"chr1": np.frombuffer((BASES[:at] + "GGG" + BASES[at:]).encode(), np.uint8)})
    one, other = (
        indel_windows(variant, GENOME, 40, 20),
        indel_windows(Variant("chr1", at + 1, "GGG", ""), there, 40, 20),
    )
    assert np.array_equal(one.ref, other.alt) and np.array_equal(one.alt, other.ref)
    assert one.ref_weights == other.alt_weights and one.alt_weights == other.ref_weights


@given(position=st.integers(1, 195), length=st.integers(0, 5), alt=st.text(alphabet="ACGT", max_size=128))
def test_windows_have_their_width_everywhere(position: int, length: int, alt: str) -> None:
    ref = BASES[position - 1 : position - 1 + length]
    if len(ref) != len(alt):
        found = indel_windows(Variant("chr1", position, ref, alt).trimmed(), GENOME, 40, 20)
        assert found.ref.shape[1] == found.alt.shape[1] == 40
        assert len(found.ref) == len(found.ref_weights) and len(found.alt) == len(found.alt_weights)


def test_variants_of_a_haplotype_become_one() -> None:
    first, second = (
        Variant("chr1", 50, BASES[49], "A" if BASES[49] != "A" else "C"),
        Variant("chr1", 54, BASES[53:55], ""),
    )
    whole = merged([first, second], GENOME)
    expected = BASES[:49] + first.alt + BASES[50:53] + BASES[55:]
    assert BASES[: whole.start] + whole.alt + BASES[whole.end :] == expected
    one, two = (Variant("chr1", p, BASES[p - 1], "ACGT"["ACGT".index(BASES[p - 1]) - 1]) for p in (60, 61))
    assert merged([one, two], GENOME) == Variant("chr1", 60, BASES[59:61], one.alt + two.alt)
