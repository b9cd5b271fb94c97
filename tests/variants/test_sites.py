"""The file of every substitution in each of its formats, as others read it: bcftools, tabix, readers of VCF and Parquet."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pysam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.harm import in_process, snapshot, trained_project
from mfd_cli.dataset.folder import Dataset
from mfd_cli.formats.fixed_point import largest_error
from mfd_cli.formats.tabix_writer import TabixWriter
from mfd_cli.genome.sequence import Genome
from mfd_cli.runs.folder import Run
from mfd_cli.variants import outputs
from mfd_cli.variants.saturate import Stretch, bins_of, cut, pieces_of, saturate
from mfd_cli.variants.sites import DECIMALS, SiteOptions

CPU = ["--gpus", "0", "--threads", "1", "-q"]
SATURATE = ["score-variants", "--saturate", "chr2:1001-1300", *CPU]
TEXTS = ("s.tsv.gz", "s.vcf", "s.vcf.gz", "s.bcf")
INDEX = {"s.tsv.gz": ".tbi", "s.vcf.gz": ".tbi", "s.bcf": ".csi"}
needs_bcftools = pytest.mark.skipif(shutil.which("bcftools") is None, reason="bcftools is not installed")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was trained for a moment: its scores are small."""
    folder = tmp_path_factory.mktemp("sites") / "p"
    trained_project(folder)
    return folder


@pytest.fixture(scope="module")
def made(trained: tuple[Run, Dataset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the substitutions of 300 bases in each format, s.*, scored by a model that has learnt something."""
    folder = tmp_path_factory.mktemp("made")
    for name in ("s.parquet", *TEXTS):
        saturate(trained[0], trained[1].genome, "chr2:1001-1300", SiteOptions(folder / name))
    return folder


def parquet_rows(folder: Path) -> dict[tuple[str, int, str, str], dict[str, object]]:
    """The rows of the Parquet table, by what is substituted."""
    rows = pq.read_table(folder / "s.parquet").to_pylist()
    return {(row["contig"], row["position"], row["ref"], row["alt"]): row for row in rows}


def fields_of(folder: Path) -> list[str]:
    """The fields that all formats have."""
    return [name for name in pq.read_schema(folder / "s.parquet").names if name.startswith("MFD_")]


def text_of(path: Path) -> str:
    return (gzip.open(path, "rt") if path.suffix == ".gz" else path.open()).read()


def told(folder: Path, name: str) -> dict[tuple[str, int, str, str], dict[str, str | float]]:
    """What a file in text says of each substitution: words, and numbers as they are written."""
    if name.endswith(".tsv.gz"):
        lines = [line.split("\t") for line in text_of(folder / name).splitlines() if not line.startswith("##")]
        assert lines[0][:4] == ["#Chrom", "Pos", "Ref", "Alt"]
        return {(c, int(p), r, a): dict(zip(lines[0][4:], cells)) for c, p, r, a, *cells in lines[1:]}
    with pysam.VariantFile(str(folder / name)) as file:
        return {
            (one.chrom, one.pos, one.ref, one.alts[0]): {key: value[0] for key, value in one.info.items()}
            for one in file
        }


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_says_what_the_parquet_table_says_to_the_stated_error(made: Path, name: str) -> None:
    exact, texts = parquet_rows(made), told(made, name)
    assert list(texts) == list(exact) and len(exact) == 900  # the same order, too
    seen = set()
    for place, row in texts.items():
        assert set(row) == set(fields_of(made))
        for field, value in row.items():
            if field in ("MFD_TRACK", "MFD_FLAGS"):
                assert value == exact[place][field] or (value is None and exact[place][field] == ".")
            else:
                assert abs(float(value) - exact[place][field]) <= largest_error(DECIMALS) * 1.001
                seen.add(round(exact[place][field], 3))
    assert len(seen) > 20  # they are not all alike
    assert f"##mfd_rounding=<decimals={DECIMALS},largest_error=5e-05>" in header_of(made / name)


def header_of(path: Path) -> list[str]:
    if path.suffix == ".bcf":
        return str(pysam.VariantFile(str(path)).header).splitlines()
    return [line for line in text_of(path).splitlines() if line.startswith("#")]


def test_the_header_is_that_of_an_annotated_vcf(project: Path, tmp_path: Path) -> None:
    words = ["score-variants", "input.vcf", "--placement", "grid", "-o", str(tmp_path / "a.vcf"), *CPU]
    assert in_process(words, project).code == 0
    annotated = [line for line in header_of(tmp_path / "a.vcf") if line.startswith(("##INFO=<ID=MFD_", "##mfd_"))]
    assert {line.split("=")[0] for line in annotated} >= {"##INFO", "##mfd_model", "##mfd_scoring"}
    for name in TEXTS:
        assert in_process([*SATURATE, "-o", str(tmp_path / name)], project).code == 0
        lines = header_of(tmp_path / name)
        assert [line for line in lines if line in annotated] == annotated
        assert sum(line.startswith("##contig=<ID=chr") for line in lines) == (0 if name == "s.tsv.gz" else 3)
        assert not any(line.startswith("##mfd_genome=") for line in lines)


def test_the_name_of_another_genome_stands_in_the_header(project: Path, tmp_path: Path) -> None:
    (tmp_path / "other.fa").write_text((project / "genome.fa").read_text() + ">more\nACGTACGT\n")
    words = ["score-variants", "--saturate", "more", "--fasta", str(tmp_path / "other.fa"), *CPU]
    assert in_process([*words, "-o", str(tmp_path / "o.tsv.gz")], project).code == 0
    assert any(line.startswith("##mfd_genome=") for line in header_of(tmp_path / "o.tsv.gz"))


@pytest.mark.parametrize("name", INDEX)
def test_a_region_is_found_by_the_index(made: Path, name: str) -> None:
    beside = {path.name for path in made.glob(f"{name}*")}
    assert beside == {name, f"{name}{INDEX[name]}"}
    if name.endswith(".tsv.gz"):
        with pysam.TabixFile(str(made / name)) as table:
            found = [tuple(row.split("\t")[:2]) for row in table.fetch("chr2", 1100, 1102)]
            assert table.contigs == ["chr2"] and table.header[-1].startswith("#Chrom\tPos\tRef\tAlt\tMFD_")
    else:
        with pysam.VariantFile(str(made / name)) as file:
            found = [(one.chrom, str(one.pos)) for one in file.fetch("chr2", 1100, 1102)]
    assert found == [("chr2", str(position)) for position in (1101, 1102) for _ in range(3)]


@needs_bcftools
@pytest.mark.parametrize("source", INDEX)
def test_bcftools_annotate_puts_the_right_numbers_into_a_vcf(made: Path, tmp_path: Path, source: str) -> None:
    """The lines of docs/variants.md: records of one and of several alleles, which are split first, and an insertion."""
    exact = parquet_rows(made)
    places = sorted({place[:3] for place in exact})[::7]
    records, expected = [], []
    for number, (contig, position, ref) in enumerate(places):
        alts = [alt for alt in "TGCA" if alt != ref][: 1 + number % 3]
        expected += [exact[contig, position, ref, alt]["MFD_DEBIASED"] for alt in alts]
        records.append(f"{contig}\t{position}\t.\t{ref}\t{','.join(alts)}\t.\t.\t.\n")
    records.append(f"{contig}\t{position}\t.\t{ref}\t{ref}{ref}\t.\t.\t.\n")
    header = "##fileformat=VCFv4.2\n##contig=<ID=chr2>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (tmp_path / "in.vcf").write_text(header + "".join(records))
    bcftools(tmp_path, "norm", "-m", "-any", "-O", "z", "-o", "one_each.vcf.gz", "in.vcf")
    bcftools(tmp_path, "index", "one_each.vcf.gz")
    columns = ["-c", "INFO"]
    if source == "s.tsv.gz":
        (tmp_path / "fields.txt").write_text(
            "".join(f"{line}\n" for line in header_of(made / source) if "##INFO" in line)
        )
        names = header_of(made / source)[-1].split("\t")[
            4 : 1 + header_of(made / source)[-1].split("\t").index("MFD_DEBIASED")
        ]
        columns = ["-h", "fields.txt", "-c", ",".join(["CHROM,POS,REF,ALT", *(f"INFO/{name}" for name in names)])]
    bcftools(tmp_path, "annotate", "-a", str(made / source), *columns, "-o", "out.vcf", "one_each.vcf.gz")
    with pysam.VariantFile(str(tmp_path / "out.vcf")) as file:
        told_of = {(one.pos, one.alts[0]): one.info.get("MFD_DEBIASED", [None])[0] for one in file}
    assert told_of.pop((position, f"{ref}{ref}")) is None
    in_order = [(int(r.split("\t")[1]), alt) for r in records[:-1] for alt in r.split("\t")[4].split(",")]
    assert [told_of[place] for place in in_order] == pytest.approx(expected, abs=largest_error(DECIMALS) * 1.01)
    assert len(told_of) == len(expected) and np.ptp(expected) > 100 * largest_error(DECIMALS)


def bcftools(folder: Path, *words: str) -> None:
    """Run bcftools in a folder."""
    done = subprocess.run(["bcftools", *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["s.tsv.gz", "s.vcf.gz"])
def test_long_contigs_have_an_index_that_can_hold_them(
    made: Path, trained: tuple[Run, Dataset], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "LONGEST_OF_TBI", 1000)
    for kind in ("", ".tbi"):
        Path(f"{tmp_path / name}{kind}").write_bytes(b"an older file, and its index")
    saturate(trained[0], trained[1].genome, "chr2:1001-1300", SiteOptions(tmp_path / name, force=True))
    assert {path.name for path in tmp_path.iterdir()} == {name, f"{name}.csi"}
    assert (tmp_path / name).read_bytes() == (made / name).read_bytes()


def test_an_index_of_positions_beyond_what_a_tbi_can_hold(tmp_path: Path) -> None:
    path, far = tmp_path / "t.tsv.gz", (1 << 29) + 5
    with TabixWriter(path) as writer:
        writer.write_header([b"#Chrom\tPos\tX"])
        writer.write_lines(b"".join(b"c\t%d\t%d\n" % (position, position) for position in (far, far + 1)))
    tbi, csi = (Path(f"{path}.{kind}") for kind in ("tbi", "csi"))
    assert not writer.index(path, tbi) and not tbi.exists()
    assert writer.index(path, csi) and csi.exists()
    with pysam.TabixFile(str(path), index=str(csi)) as table:
        assert list(table.fetch("c", far, far + 1)) == [f"c\t{far + 1}\t{far + 1}"]


# -- Parquet -----------------------------------------------------------------------------------------------------------


def test_decimals_and_fields_of_the_parquet_table(project: Path, tmp_path: Path) -> None:
    words = ["--decimals", "3", "--fields-only"]
    for name, more in (("whole.parquet", []), ("small.parquet", words)):
        assert in_process([*SATURATE, *more, "-o", str(tmp_path / name)], project).code == 0
    whole, small = pq.read_table(tmp_path / "whole.parquet"), pq.read_table(tmp_path / "small.parquet")
    fields = [name for name in whole.schema.names if name.startswith("MFD_")]
    assert small.schema.names == ["contig", "position", "ref", "alt", *fields]
    assert set(whole.schema.names) - set(small.schema.names) >= {"ref_probability", "alt_probability.shared"}
    for name in small.schema.names:
        if name in ("contig", "position", "ref", "alt", "MFD_TRACK", "MFD_FLAGS"):
            assert small[name].equals(whole[name])
        else:
            exact, own = whole[name].to_numpy().astype(np.float64), small[name].to_numpy()
            assert own.dtype == np.float32 and np.array_equal(own, np.round(exact, 3).astype(np.float32))


def test_numbers_as_they_are_are_stored_byte_by_byte_and_rounded_ones_by_a_dictionary(
    made: Path, trained: tuple[Run, Dataset], tmp_path: Path
) -> None:
    saturate(trained[0], trained[1].genome, "chr2:1001-1300", SiteOptions(tmp_path / "s.parquet", decimals=3))
    for path, encoding in ((made / "s.parquet", "BYTE_STREAM_SPLIT"), (tmp_path / "s.parquet", "RLE_DICTIONARY")):
        group = pq.ParquetFile(path).metadata.row_group(0)
        numbers = [group.column(i) for i in range(6, group.num_columns)]
        assert all(encoding in column.encodings for column in numbers)


def test_the_table_of_fields_can_have_tracks_too(project: Path, tmp_path: Path) -> None:
    words = [*SATURATE, "--fields-only", "--per-track", "-o", str(tmp_path / "s.parquet")]
    assert in_process(words, project).code == 0
    names = pq.read_schema(tmp_path / "s.parquet").names
    assert [name for name in names if not name.startswith(("MFD_", "track."))] == ["contig", "position", "ref", "alt"]
    assert "track.T1" in names


# -- the genome --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["n.tsv.gz", "n.vcf.gz", "n.parquet"])
def test_unknown_bases_and_empty_contigs_are_left_out(trained: tuple[Run, Dataset], tmp_path: Path, name: str) -> None:
    """More unknown bases than a piece has, a contig of nothing else, and one without any base."""
    run, dataset = trained
    bases = np.frombuffer(dataset.genome.bases("chr2", 0, 300).encode(), np.uint8)
    unknown = np.full(128 * 300, ord("N"), np.uint8)
    genome = Genome({"a": np.concatenate([bases, unknown, bases]), "b": unknown, "c": unknown[:0], "d": bases})
    summary = saturate(run, genome, "all", SiteOptions(tmp_path / name))
    assert (summary.positions, summary.unknown) == (900, 2 * 128 * 300) and not summary.warnings
    if name == "n.parquet":
        contigs, positions = (pq.read_table(tmp_path / name)[column].to_pylist() for column in ("contig", "position"))
    else:
        lines = [line.split("\t") for line in text_of(tmp_path / name).splitlines() if not line.startswith("#")]
        contigs, positions = [line[0] for line in lines], [int(line[1]) for line in lines]
    assert contigs == ["a"] * 1800 + ["d"] * 900
    after = 300 + len(unknown)
    assert positions[::3] == [*range(1, 301), *range(after + 1, after + 301), *range(1, 301)]


@given(st.integers(0, 700), st.integers(1, 900))
def test_bins_are_counted_as_they_are_cut(start: int, length: int) -> None:
    whole = Stretch("c", start, start + length)
    bins = list(cut(whole))
    assert len(bins) == bins_of(whole) and sum(one.end - one.start for one in bins) == length
    assert [one.start for one in bins] == [start, *(one.end for one in bins[:-1])]
    assert all(one.end % 128 == 0 for one in bins[:-1]) and all(one.end > one.start for one in bins)


def test_pieces_of_a_genome_are_cut_when_they_are_asked_for() -> None:
    """A list of the bins of a thousand human genomes would not fit into memory."""
    first, second = islice(pieces_of([Stretch("c", 0, 3 << 40)], 256), 2)
    assert len(first.what) == 256 and first.name == "c:1-32,768" and second.what[0].start == 32_768


# -- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.gz", "t", "t.vcf.bz2"])
def test_a_name_that_stands_for_no_format_is_refused(project: Path, name: str) -> None:
    before = snapshot(project)
    done = in_process([*SATURATE, "-o", name], project)
    assert done.code == 2 and f"{name}: the name of a file of every substitution says its format" in done.told
    assert "hint: it may end in .parquet, .pq, .tsv.gz, .tsv.bgz, .vcf, .vcf.gz, .vcf.bgz, .bcf" in done.told
    assert snapshot(project) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-o", "-"], "--saturate writes a file, and not to standard output"),
        (["-o", "t.vcf.gz", "--per-track"], "t.vcf.gz has no columns of single tracks"),
        (["-o", "old.tsv.gz"], "old.tsv.gz.tbi: exists already"),
        (["--table", "t.tsv.gz"], "t.tsv.gz: a Parquet file is written, whose name must end in .parquet"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_written_is_told(project: Path, words: list[str], says: str) -> None:
    (project / "old.tsv.gz.tbi").write_bytes(b"an index")
    before = snapshot(project)
    done = in_process([*SATURATE, *words], project)
    assert done.code == 2 and says in done.told
    assert snapshot(project) == before


@pytest.mark.parametrize("option", [["--decimals", "3"], ["--fields-only"]], ids=" ".join)
def test_options_of_saturation_are_not_ignored_beside_a_file(project: Path, option: list[str]) -> None:
    done = in_process(["score-variants", "input.vcf", "-o", "o.vcf", *option, *CPU], project)
    assert done.code == 2 and f"{option[0]} goes with --saturate, not with a file of variants" in done.told
    assert not (project / "o.vcf").exists()
