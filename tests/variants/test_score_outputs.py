"""What scores are written to and read from: bcftools' formats and indexes, regions, the policy on REF, genes, elements."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pysam
import pytest
import torch

from kit import tiny
from mfd_cli.base.errors import GenomeError, OutputError, RunError, VariantError
from mfd_cli.dataset.folder import Dataset
from mfd_cli.formats.bed import parse_regions
from mfd_cli.formats.gene_files import read_elements, read_gtf
from mfd_cli.genome.alleles import why_not
from mfd_cli.genome.intervals import Interval
from mfd_cli.genome.sequence import Genome
from mfd_cli.runs.folder import Run
from mfd_cli.variants.options import ScoreOptions
from mfd_cli.variants.score import score_variants
from mfd_cli.variants.scorer import Scorer

HEADER = "##fileformat=VCFv4.2\n##contig=<ID=chr2,length=30000>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
HAS_BCFTOOLS = shutil.which("bcftools") is not None


def write(
    path: Path, dataset: Dataset, positions: list[int], header: str = HEADER, wrong: tuple[int, ...] = ()
) -> Path:
    lines = []
    for position in positions:
        ref = dataset.genome.bases("chr2", position - 1, position)
        alt = "ACGT"["ACGT".index(ref) - 1]
        ref, alt = (alt, ref) if position in wrong else (ref, alt)
        lines.append(f"chr2\t{position}\tv{position}\t{ref}\t{alt}\t50\tPASS\t.\n")
    path.write_text(header + "".join(lines))
    return path


def bcftools(*words: object) -> str:
    return subprocess.run(["bcftools", *map(str, words)], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("kind", "name", "index"), [("v", "o.vcf", ""), ("z", "o.vcf.gz", "tbi"), ("b", "o.bcf", "csi"), ("u", "o.bcf", "")]
)
def test_every_format_holds_the_same(
    trained: tuple[Run, Dataset], tmp_path: Path, kind: str, name: str, index: str
) -> None:
    run, dataset = trained
    source = write(tmp_path / "a.vcf", dataset, [500, 700, 900])
    options = ScoreOptions(tmp_path / name, output_type=kind)  # type: ignore[arg-type]
    summary = score_variants(run, dataset.genome, source, options)
    assert [path.name for path in summary.outputs if path.suffix in (".tbi", ".csi")] == (
        [f"{name}.{index}"] if index else []
    )
    score_variants(run, dataset.genome, source, ScoreOptions(tmp_path / "plain.vcf"))
    with pysam.VariantFile(str(tmp_path / name)) as made, pysam.VariantFile(str(tmp_path / "plain.vcf")) as plain:
        one, other = ([(r.pos, r.id, round(r.info["MFD_BIO"][0], 5)) for r in file] for file in (made, plain))
    assert one == other and len(one) == 3
    magic = (tmp_path / name).read_bytes()[:18]
    assert magic[:2] == (b"##" if kind == "v" else b"\x1f\x8b") and (kind == "v" or magic[12:14] == b"BC")


def test_the_type_wins_over_the_name_and_gives_one(
    trained: tuple[Run, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, dataset = trained
    monkeypatch.chdir(tmp_path)
    source = write(tmp_path / "a.vcf", dataset, [500])
    score_variants(run, dataset.genome, source, ScoreOptions("x.vcf", output_type="z"))
    assert (tmp_path / "x.vcf").read_bytes()[:2] == b"\x1f\x8b" and (tmp_path / "x.vcf.tbi").exists()
    summary = score_variants(run, dataset.genome, source, ScoreOptions(output_type="b"))
    assert [path.name for path in summary.outputs] == [
        "a.mfd.bcf",
        "a.mfd.parquet",
        "a.mfd.skipped.tsv",
        "a.mfd.bcf.csi",
    ]


@pytest.mark.parametrize(
    ("name", "index", "made"),
    [("o.vcf.gz", "csi", "o.vcf.gz.csi"), ("o.vcf.gz", "none", None), ("o.bcf", "csi", "o.bcf.csi")],
)
def test_the_index_that_is_asked_for(
    trained: tuple[Run, Dataset], tmp_path: Path, name: str, index: str, made: str | None
) -> None:
    run, dataset = trained
    options = ScoreOptions(tmp_path / name, index=index)  # type: ignore[arg-type]
    score_variants(run, dataset.genome, write(tmp_path / "a.vcf", dataset, [500, 900]), options)
    assert [p.name for p in tmp_path.iterdir() if p.suffix in (".tbi", ".csi")] == ([made] if made else [])


@pytest.mark.parametrize(("name", "index"), [("o.vcf", "tbi"), ("o.bcf", "tbi"), ("-", "csi"), ("o.vcf.gz", "tbi")])
def test_an_index_that_cannot_be_is_an_error_and_leaves_nothing(
    trained: tuple[Run, Dataset], tmp_path: Path, name: str, index: str
) -> None:
    run, dataset = trained
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    source = write(tmp_path / "in" / "a.vcf", dataset, [900, 500])  # unsorted
    output = name if name == "-" else tmp_path / "out" / name
    with pytest.raises(VariantError, match="index"):
        score_variants(run, dataset.genome, source, ScoreOptions(output, index=index))  # type: ignore[arg-type]
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.skipif(not HAS_BCFTOOLS, reason="bcftools is not installed")
def test_records_that_bcf_cannot_hold_say_so(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    source = write(tmp_path / "a.vcf", dataset, [500])
    source.write_text(source.read_text().replace("\tPASS\t.\n", "\tPASS\tUNHEARD=1\n"))
    score_variants(run, dataset.genome, source, ScoreOptions(tmp_path / "o.vcf.gz"))
    (tmp_path / "out").mkdir()
    with pytest.raises(VariantError, match="cannot be written as BCF"):
        score_variants(run, dataset.genome, source, ScoreOptions(tmp_path / "out" / "o.bcf"))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.skipif(not HAS_BCFTOOLS, reason="bcftools is not installed")
@pytest.mark.parametrize("region", ["chr2:500-700", "chr2:510", "chr2", "chr2:1-499,chr2:900-1000", "2:700-700"])
def test_regions_are_those_of_bcftools(trained: tuple[Run, Dataset], tmp_path: Path, region: str) -> None:
    run, dataset = trained
    source = write(tmp_path / "a.vcf", dataset, [400, 500, 600, 700, 900, 999])
    base = dataset.genome.bases("chr2", 504, 514)
    text = source.read_text().splitlines(keepends=True)
    text.insert(5, f"chr2\t505\tv505\t{base}\t{base[0]}\t50\tPASS\t.\n")  # a deletion that reaches to 514
    source.write_text("".join(text))
    chosen = parse_regions([region], None, dataset.genome)
    summary = score_variants(run, dataset.genome, source, ScoreOptions(tmp_path / "o.vcf", regions=chosen))
    spans = ",".join(f"chr2:{r.start + 1}-{r.end}" for r in chosen)
    packed = tmp_path / "a.vcf.gz"
    pysam.tabix_compress(str(source), str(packed))
    pysam.tabix_index(str(packed), preset="vcf")
    expected = bcftools("query", "-r", spans, "-f", "%ID\n", packed).split()
    found = [line.split("\t")[2] for line in (tmp_path / "o.vcf").read_text().splitlines() if line[0] != "#"]
    assert found == expected and summary.records == len(expected)


def test_regions_from_a_file_and_regions_that_are_none(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    genome = trained[1].genome
    (tmp_path / "r.bed").write_text("2\t499\t600\nchr2\t550\t900\nchr1\t0\t5\n")
    regions = parse_regions([], tmp_path / "r.bed", genome)
    run, dataset = trained
    source = write(tmp_path / "a.vcf", dataset, [499, 500, 900, 901])
    summary = score_variants(run, genome, source, ScoreOptions(tmp_path / "o.vcf", regions=regions))
    assert summary.records == 2
    assert (
        parse_regions(["chr2:29000-99999999", "chr2:29000-"], None, genome) == (Interval("chr2", 28_999, 30_000),) * 2
    )
    (tmp_path / "none.bed").write_text("#nothing\n")
    for texts, file in (
        (["chr7:1-5"], None),
        (["chr2:9-5"], None),
        (["chr2:30001-"], None),
        ([""], None),
        ([","], None),
        ([], tmp_path / "none.bed"),
    ):
        with pytest.raises(GenomeError):
            parse_regions(texts, file, genome)


# -- the reference allele ----------------------------------------------------------------------------------------------


def test_the_policy_on_reference_alleles(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    few = write(tmp_path / "few.vcf", dataset, list(range(500, 1500, 20)), wrong=(520,))
    many = write(tmp_path / "many.vcf", dataset, list(range(500, 1500, 20)), wrong=tuple(range(500, 700, 20)))
    assert score_variants(run, dataset.genome, few, ScoreOptions(tmp_path / "a.vcf")).skipped == {
        "reference mismatch": 1
    }
    told = (tmp_path / "a.skipped.tsv").read_text().splitlines()[1]
    ref = dataset.genome.bases("chr2", 519, 520)
    assert f"the genome has {ref} (ALT {ref})" in told and "REF is" in told
    with pytest.raises(VariantError, match=r"few.vcf:5: REF is"):
        score_variants(run, dataset.genome, few, ScoreOptions(tmp_path / "b.vcf", check_ref="error"))
    with pytest.raises(VariantError, match="10 of 50 reference alleles") as error:
        score_variants(run, dataset.genome, many, ScoreOptions(tmp_path / "b.vcf"))
    assert "--check-ref warn" in str(error.value.hint)
    some = write(tmp_path / "some.vcf", dataset, [500, 520, 540], wrong=(520, 540))
    with pytest.raises(VariantError, match="2 of 3 reference alleles"):
        score_variants(run, dataset.genome, some, ScoreOptions(tmp_path / "b.vcf"))
    half = write(tmp_path / "half.vcf", dataset, [500, 520], wrong=(520,))
    assert score_variants(run, dataset.genome, half, ScoreOptions(tmp_path / "c.vcf")).scored == 1
    summary = score_variants(run, dataset.genome, many, ScoreOptions(tmp_path / "b.vcf", check_ref="warn"))
    assert summary.scored == 40 and any("another assembly" in line for line in summary.warnings)


def test_contigs_of_another_length(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    header = HEADER.replace("<ID=chr2,length=30000>", '<ID=2,assembly="a,b",length=31000,md5=0>')
    source = write(tmp_path / "a.vcf", dataset, [500], header)
    summary = score_variants(run, dataset.genome, source, ScoreOptions(tmp_path / "o.vcf"))
    assert summary.warnings == ["the header says that 2 has 31,000 bp, in the genome it has 30,000"]
    with pytest.raises(VariantError, match="2 has 31,000 bp"):
        score_variants(run, dataset.genome, source, ScoreOptions(tmp_path / "p.vcf", check_ref="error"))


def test_a_file_beyond_the_contigs_is_of_another_assembly(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    lines = "".join(f"chr2\t{position}\t.\tA\tC\t.\t.\t.\n" for position in range(40_000, 40_030))
    (tmp_path / "a.vcf").write_text(HEADER + lines)
    with pytest.raises(VariantError, match=r"30 of 30 reference alleles are not in the genome .*not within the contig"):
        score_variants(trained[0], trained[1].genome, tmp_path / "a.vcf", ScoreOptions(tmp_path / "o.vcf"))


def test_letters_of_iupac_must_be_able_to_be_the_genomes_base() -> None:
    genome = Genome({"c": np.frombuffer(b"ACGTN", np.uint8)})
    assert why_not(1, "R", "T", genome, "c") is None and str(why_not(1, "Y", "T", genome, "c")).startswith("REF is Y")
    assert why_not(5, "A", "C", genome, "c") == "the genome does not know the reference bases (N)"
    assert why_not(1, "ACGTN", "ACTTN", genome, "c") == "the alternate allele is not of A, C, G, T"


def test_a_file_that_calls_contigs_otherwise_keeps_its_names(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    source = write(tmp_path / "a.vcf", dataset, [500], HEADER.replace("##contig=<ID=chr2,length=30000>\n", ""))
    source.write_text(source.read_text().replace("\nchr2", "\n2"))
    summary = score_variants(run, dataset.genome, source, ScoreOptions(tmp_path / "o.bcf"))
    assert "contigs are named otherwise than in the genome: 2 was taken for chr2" in summary.lines()
    with pysam.VariantFile(str(tmp_path / "o.bcf")) as file:
        assert list(file.header.contigs) == ["1", "2"] and [record.contig for record in file] == ["2"]


def test_other_peoples_fields_are_kept(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    source = write(tmp_path / "a.vcf", trained[1], [500])
    source.write_text(source.read_text().replace("PASS\t.", "PASS\tMFD_THEIRS=1;MFD_BIO=9"))
    score_variants(trained[0], trained[1].genome, source, ScoreOptions(tmp_path / "o.vcf"))
    info = (tmp_path / "o.vcf").read_text().splitlines()[-1].split("\t")[7]
    assert info.startswith("MFD_THEIRS=1;MFD_MAX_DLOGIT=") and "MFD_BIO=9" not in info


def test_two_results_never_go_into_one_file(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    source = write(tmp_path / "a.vcf", trained[1], [500])
    for place in ("o.vcf.gz", "o.parquet", "o.vcf.gz.tbi"):
        options = ScoreOptions(tmp_path / "o.vcf.gz", skipped=tmp_path / place, force=True)
        with pytest.raises(OutputError, match="two different results"):
            score_variants(trained[0], trained[1].genome, source, options)
    assert [path.name for path in tmp_path.iterdir()] == ["a.vcf"]


def test_to_standard_output_only_what_is_named_is_written(
    trained: tuple[Run, Dataset],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write(tmp_path / "a.vcf", trained[1], [500, 600], wrong=(600,))
    for options in (ScoreOptions("-"), ScoreOptions("-", skipped=Path("s.tsv"), table=Path("t.parquet"))):
        score_variants(trained[0], trained[1].genome, source, options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.vcf", "s.tsv", "t.parquet"]
    assert len((tmp_path / "s.tsv").read_text().splitlines()) == 2


def test_masked_and_ambiguous_reference_letters(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    """Lower case is upper case; an N or R in REF is what the genome has there."""
    run, dataset = trained
    genome = dataset.genome
    at = next(p for p in range(600, 700) if genome.bases("chr2", p - 1, p) == "G")
    alt = "ACGT"["ACGT".index("G") - 1]
    scores = []
    for number, ref in enumerate(("G", "g", "N", "R")):  # R: A or G
        (tmp_path / "a.vcf").write_text(HEADER + f"chr2\t{at}\t.\t{ref}\t{alt}\t.\t.\t.\n")
        score_variants(run, genome, tmp_path / "a.vcf", ScoreOptions(tmp_path / f"o{number}.vcf"))
        scores.append(pq.read_table(tmp_path / f"o{number}.parquet")["MFD_BIO"][0].as_py())
    assert len(set(scores)) == 1


# -- genes, elements, several models -----------------------------------------------------------------------------------


def test_genes_and_elements_are_in_the_table(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    genome = dataset.genome
    (tmp_path / "g.gtf").write_text('chr2\tx\tgene\t601\t900\t.\t-\t.\tgene_id "G1"; gene_name "ABC1";\n')
    (tmp_path / "e.bed").write_text("2\t690\t710\tpeak7\n")
    options = ScoreOptions(
        tmp_path / "o.vcf",
        genes=read_gtf(tmp_path / "g.gtf", genome),
        elements=(read_elements("peaks", tmp_path / "e.bed", genome),),
    )
    score_variants(run, genome, write(tmp_path / "a.vcf", dataset, [500, 700, 950]), options)
    table = pq.read_table(tmp_path / "o.parquet").to_pydict()
    assert table["gene"] == ["ABC1"] * 3 and table["within_gene"] == ["", "ABC1", ""]
    assert table["tss_distance"] == [400, 200, -50]  # the gene reads to the left from 900
    assert table["in.peaks"] == ["", "peak7", ""]


def test_several_models_are_averaged_and_their_spread_told(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    torch.manual_seed(9)
    other = dataclasses.replace(run, model=tiny.model(9, seed=5), about={**run.about, "weights_sha256": "1"})
    source = write(tmp_path / "a.vcf", dataset, [500, 700, 900])
    tables = []
    for number, runs in enumerate(([run], [other], [run, other])):
        score_variants(runs, dataset.genome, source, ScoreOptions(tmp_path / f"{number}.vcf", per_track=True))
        tables.append(pq.read_table(tmp_path / f"{number}.parquet").to_pydict())
    one, two, both = tables
    for name in ("track.P0", "track.P5", "MFD_SHARED", "level.target=CTCF"):
        assert np.allclose(both[name], np.mean([one[name], two[name]], axis=0), atol=1e-5), name
    for name in ("MFD_BIO", "MFD_SHARED"):
        assert np.allclose(both[f"spread.{name}"], np.std([one[name], two[name]], axis=0, ddof=1), atol=1e-5)
    for row, track in enumerate(both["MFD_TRACK"]):  # of the largest change: in the track that is reported
        values = [one[f"track.{track}"][row], two[f"track.{track}"][row]]
        assert both["spread.MFD_MAX_DLOGIT"][row] == pytest.approx(np.std(values, ddof=1), abs=1e-5)
    assert "spread.MFD_BIO" not in one
    assert f'model="{run.digest},1"' in (tmp_path / "2.vcf").read_text()
    fewer = dataclasses.replace(run, tracks=run.tracks[:-1], path=tmp_path / "fewer")
    with pytest.raises(RunError, match="has other tracks"):
        Scorer([run, fewer])


def test_one_part_alone_in_probabilities(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    """Counterfactuals of the method, D.4: the top track's probability when only one part of the latent changes."""
    run, dataset = trained
    score_variants(run, dataset.genome, write(tmp_path / "a.vcf", dataset, [500]), ScoreOptions(tmp_path / "o.vcf"))
    (row,) = pq.read_table(tmp_path / "o.parquet").to_pylist()

    def logit(p: float) -> float:
        return float(np.log(p / (1 - p)))

    start = logit(row["ref_probability"])
    parts = [logit(row[f"alt_probability.{part}"]) - start for part in ("shared", "biological", "technical")]
    assert sum(parts) == pytest.approx(row["MFD_MAX_DLOGIT"], abs=1e-4)
    assert parts[0] == pytest.approx(row["MFD_SHARED"], abs=1e-4)
