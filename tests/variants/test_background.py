"""Backgrounds: random substitutions as they should be, quantiles and p-values counted by hand, settings kept apart."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfd_cli.base.errors import OutputError, RunError, VariantError
from mfd_cli.dataset.folder import Dataset
from mfd_cli.genome.alleles import Variant
from mfd_cli.genome.sequence import CODES, Genome
from mfd_cli.runs.folder import Run
from mfd_cli.variants.background import Background, background, find_background
from mfd_cli.variants.effects import ScoreSettings
from mfd_cli.variants.options import ScoreOptions
from mfd_cli.variants.random_substitutions import contexts, draw, draw_like, spectrum
from mfd_cli.variants.score import score_variants
from mfd_cli.variants.scorer import Scorer

VCF = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


@pytest.fixture
def copied(trained: tuple[Run, Dataset], tmp_path: Path) -> tuple[Run, Dataset]:
    """The trained run in a folder of its own, to be written to."""
    run, dataset = trained
    shutil.copytree(run.path, tmp_path / "run")
    return dataclasses.replace(run, path=tmp_path / "run"), dataset


def vcf(path: Path, genome: Genome, positions: range) -> Path:
    lines = []
    for position in positions:
        ref = genome.bases("chr2", position - 1, position)
        lines.append(f"chr2\t{position}\t.\t{ref}\t{'ACGT'['ACGT'.index(ref) - 1]}\t.\t.\t.\n")
    path.write_text(VCF + "".join(lines))
    return path


def test_random_substitutions_are_different_known_and_everywhere() -> None:
    codes = np.frombuffer(b"ACGT" * 500 + b"N" * 500, np.uint8)
    genome = Genome({"one": codes, "two": codes[:1000]})
    found = draw(genome, 600, np.random.default_rng(1))
    assert len({(v.contig, v.position) for v in found}) == 600
    assert all(genome.bases(v.contig, v.start, v.end) == v.ref != v.alt for v in found)
    assert 80 < sum(v.contig == "two" for v in found) < 220
    assert found == draw(genome, 600, np.random.default_rng(1)) == sorted(found, key=lambda v: (v.contig, v.position))


def test_contexts_are_folded_to_the_strand_of_the_pyrimidine() -> None:
    """A[C>T]G and its complement C[G>A]T are one context; next to an unknown base there is none."""
    genome = Genome({"c": np.frombuffer(b"ACGNCGT", np.uint8)})
    (one,) = contexts(genome, "c", np.array([1]), np.array([3]))  # ACG, C to T
    (other,) = contexts(genome, "c", np.array([5]), np.array([0]))  # CGT, G to A
    assert one == other == (0 * 16 + 1 * 4 + 2) * 4 + 3
    assert contexts(genome, "c", np.array([2]), np.array([0])).tolist() == [-1]


def test_matched_substitutions_have_the_spectrum_of_the_file() -> None:
    rng = np.random.default_rng(2)
    genome = Genome({"c": np.frombuffer(b"ACGT", np.uint8)[rng.integers(0, 4, 60_000)]})
    text = genome.bases("c", 0, 60_000)
    places = [i for i in range(1, 59_000) if text[i : i + 2] == "CG"][:300]
    own = [Variant("c", i + 1, "C", "T") for i in places] + [
        Variant("c", i + 1, text[i], "ACGT"["ACGT".index(text[i]) - 1]) for i in range(100, 200)
    ]
    wanted = spectrum(own, genome)
    found = draw_like(wanted, genome, 800, rng)
    have = spectrum(found, genome)
    assert len(found) == 800 and sum(wanted.values()) == 400
    assert all(abs(have[code] - 2 * wanted[code]) <= 1 for code in set(have) | set(wanted))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(-10, 10))
def test_quantiles_and_p_values_are_counts(sizes: list[int], value: int) -> None:
    one = Background("x", {"F": np.sort(np.array(sizes, np.float32))})
    size = abs(value)
    (quantile,), (p,) = (
        one.quantiles("F", np.array([value], np.float32)),
        one.p_values("F", np.array([value], np.float32)),
    )
    below, same = sum(s < size for s in sizes), sum(s == size for s in sizes)
    assert quantile == pytest.approx((below + same / 2) / len(sizes), abs=1e-6)
    assert p == pytest.approx((1 + sum(s >= size for s in sizes)) / (1 + len(sizes)), abs=1e-6)
    assert p >= one.smallest_p - 1e-7


def test_scores_get_quantiles_from_a_background_of_the_same_settings(
    copied: tuple[Run, Dataset], tmp_path: Path
) -> None:
    run, dataset = copied
    genome = dataset.genome
    told = background(Scorer(run), genome, genome.digest(), run.path, count=300, seed=3)
    assert told.variants == 300 and told.path.parent == run.path / "background" and "99 %" in told.lines()[1]
    kept = pq.read_table(told.path).to_pydict()
    source = vcf(tmp_path / "a.vcf", genome, range(3000, 3400, 20))
    summary = score_variants(run, genome, source, ScoreOptions(tmp_path / "o.vcf"))
    table = pq.read_table(tmp_path / "o.parquet").to_pydict()
    for field, name in (("MFD_MAX_DLOGIT", "MFD_BG_QUANTILE"), ("MFD_DEBIASED", "MFD_BG_DEBIASED")):
        size, value = np.abs(kept[field]), np.abs(table[field])
        assert np.allclose(table[name], [(size < v).mean() for v in value], atol=1 / 300)
        assert np.allclose(table[f"p.{field}"], [(1 + (size >= v).sum()) / 301 for v in value], atol=1e-6)
    assert "quantile.MFD_BIO" in table and any("300 background variants" in line for line in summary.lines())
    text = (tmp_path / "o.vcf").read_text()
    assert (
        'background="random substitutions, 300 variants, ' in text
        and "MFD_BG_QUANTILE=0." in text
        and "ID=MFD_BG_DEBIASED" in text
    )
    grid = ScoreSettings("grid")
    other = score_variants(run, genome, source, ScoreOptions(tmp_path / "p.vcf"), settings=grid)
    assert any("other settings" in line for line in other.warnings)
    assert "MFD_BG_QUANTILE" not in pq.read_table(tmp_path / "p.parquet").column_names
    with pytest.raises(OutputError, match="exists already"):
        background(Scorer(run), genome, genome.digest(), run.path, count=300)


def test_a_file_as_background_and_its_contexts(copied: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = copied
    genome = dataset.genome
    source = vcf(tmp_path / "common.vcf", genome, range(2000, 2000 + 7 * 400, 7))
    told = background(Scorer(run), genome, genome.digest(), run.path, source=source, count=150)
    places = pq.read_table(told.path)["position"].to_pylist()
    assert len(places) == 150 and places[0] == 2000 and places[-1] == 2000 + 7 * 399
    matched = background(Scorer(run), genome, genome.digest(), run.path, match=source, count=120, force=True)
    assert "contexts of common.vcf" in matched.lines()[0] and matched.variants == 120
    with pytest.raises(VariantError, match="5 background variants are too few"):
        few = vcf(tmp_path / "few.vcf", genome, range(2000, 2005))
        background(Scorer(run), genome, genome.digest(), run.path, source=few, force=True)


def test_repeated_records_count_once_and_another_assembly_is_refused(
    copied: tuple[Run, Dataset], tmp_path: Path
) -> None:
    run, dataset = copied
    genome = dataset.genome
    source = vcf(tmp_path / "a.vcf", genome, range(2000, 2060))
    header, lines = (
        source.read_text().rpartition("INFO\n")[0] + "INFO\n",
        source.read_text().splitlines(keepends=True)[2:],
    )
    source.write_text(header + "".join(lines * 3))
    with pytest.raises(VariantError, match="60 background variants are too few"):
        background(Scorer(run), genome, genome.digest(), run.path, source=source)
    swapped = [line.split("\t") for line in lines]
    source.write_text(header + "".join("\t".join([*c[:3], c[4], c[3], *c[5:]]) for c in swapped))
    with pytest.raises(VariantError, match="60 of 60 reference alleles"):
        background(Scorer(run), genome, genome.digest(), run.path, match=source)


def test_a_damaged_background_is_said(copied: tuple[Run, Dataset]) -> None:
    run, dataset = copied
    told = background(Scorer(run), dataset.genome, "digest", run.path, count=100)
    whole = told.path.read_bytes()
    told.path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="is damaged"):
        find_background(run.path, Scorer(run), "digest")


def test_positions_next_to_unknown_bases_are_fine() -> None:
    genome = Genome({"c": np.frombuffer(b"NNANN" * 100, np.uint8)})
    found = draw(genome, 50, np.random.default_rng(0))
    assert len(found) == 50 and all(CODES[ord(v.ref)] == 0 for v in found)
