"""Words of the command line that a user may write in more than one way, and where results go that are not named."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kit.harm import Outcome, in_process, snapshot, trained_project
from mfd_cli.formats.fasta import read_fasta

CPU = ["--gpus", "0", "--threads", "1", "-q"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words") / "p"
    trained_project(folder)
    (folder / "r.bed").write_text("chr1\t1000\t1100\tone peak\t5\nchr2\t5000\t5300\n")
    return folder


@pytest.fixture
def here(project: Path, tmp_path: Path) -> Path:
    """An empty folder to work in, from which the project is reached with -c."""
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def mfd(project: Path, folder: Path, *words: str) -> Outcome:
    return in_process([*words, "-c", str(project / "mfd.toml"), *CPU], folder)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# -- -W, as in bcftools ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "indexes"),
    [
        (["-W", "IN"], {"tbi"}),
        (["IN", "-W"], {"tbi"}),
        (["--write-index", "IN"], {"tbi"}),
        (["-W=csi", "IN"], {"csi"}),
        (["--write-index=csi", "IN"], {"csi"}),
        (["-W", "csi", "IN"], {"csi"}),
        (["-Wnone", "IN"], set()),
        (["IN", "-W", "-O", "b"], {"csi"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_index_can_be_asked_for_as_in_bcftools(
    project: Path, here: Path, words: list[str], indexes: set[str]
) -> None:
    source = str(project / "input.vcf")
    done = mfd(project, here, "score-variants", *[source if word == "IN" else word for word in words])
    assert done.code == 0, done.told
    assert {name.rpartition(".")[2] for name in names_in(here)} & {"tbi", "csi"} == indexes


def test_another_format_of_index_is_refused(project: Path, here: Path) -> None:
    done = mfd(project, here, "score-variants", str(project / "input.vcf"), "-W=bai")
    assert done.code == 2 and "-W is 'bai', not one of auto, tbi, csi, none" in done.told


# -- inputs ------------------------------------------------------------------------------------------------------------


def test_a_pipe_is_read_as_standard_input(project: Path, here: Path) -> None:
    os.mkfifo(here / "pipe.vcf")
    for words in (["score-variants", "pipe.vcf"], ["background", "pipe.vcf"]):
        done = mfd(project, here, *words)
        assert done.code == 2 and "pipe.vcf: is not a regular file" in done.told
        assert "hint: standard input is read with -" in done.told
    assert names_in(here) == {"pipe.vcf"}


def test_what_gvcfs_call_any_other_allele_is_listed_as_that(project: Path, here: Path) -> None:
    lines = (project / "input.vcf").read_text().splitlines()
    alts = ("<*>", "<NON_REF>", "*")
    changed = ["\t".join([*line.split("\t")[:4], alt, *line.split("\t")[5:]]) for line, alt in zip(lines[-3:], alts)]
    (here / "g.vcf").write_text("\n".join([*lines[:-3], *changed]) + "\n")
    assert mfd(project, here, "score-variants", "g.vcf").code == 0
    reasons = [line.split("\t")[-1] for line in (here / "g.mfd.skipped.tsv").read_text().splitlines()[1:]]
    assert reasons == [
        "any other allele (<*>), as gVCFs have it",
        "any other allele (<NON_REF>), as gVCFs have it",
        "allele lost to an overlapping deletion (*)",
    ]


def embedded(folder: Path) -> dict[str, list[object]]:
    table = pq.read_table(folder / "latents.parquet").to_pydict()
    return {name: table[name] for name in ("line", "contig", "start", "end", "name", "latent.0")}


def test_regions_come_from_a_file_standard_input_or_the_command_line(
    project: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert mfd(project, here, "embed", str(project / "r.bed")).code == 0
    of_file = embedded(here)
    assert of_file["name"] == ["one peak", ""] and of_file["start"] == [1000, 5000]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((project / "r.bed").read_bytes())))
    assert mfd(project, here, "embed", "-", "--force").code == 0
    assert embedded(here) == of_file
    assert mfd(project, here, "embed", "chr1:1,001-1,100", "--force").code == 0
    of_region = embedded(here)
    assert of_region["name"] == ["chr1:1,001-1,100"] and of_region["latent.0"] == of_file["latent.0"][:1]
    assert mfd(project, here, "embed", "1:1001-1100", "--force").code == 0
    assert embedded(here)["contig"] == ["chr1"]


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ("chr7:1-100", "'chr7:1-100' is no region of the genome"),
        ("chr1:90000-90001", "region 'chr1:90000-90001' is not on chr1"),
        ("https://x.org/a.bed", "https://x.org/a.bed: is a URL"),
        ("nothing.bed", "nothing.bed: no such file"),
    ],
)
def test_regions_that_are_none(project: Path, here: Path, regions: str, message: str) -> None:
    done = mfd(project, here, "embed", regions)
    assert done.code == 2 and message in done.told and not names_in(here)


def test_broken_standard_input_is_called_that(project: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, message in (
        (b"chr1\t1\t2\nchr1\t5\tx\n", "standard input:2: end is not"),
        (b"", "standard input: is empty"),
    ):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        done = mfd(project, here, "embed", "-")
        assert done.code == 2 and done.told.startswith(f"mfd: error: {message}") and not names_in(here)


def test_each_block_of_bed12_is_an_interval(project: Path, here: Path) -> None:
    (here / "genes.bed").write_text("chr1\t1000\t2000\tgene\t0\t+\t1000\t2000\t0\t2\t100,300\t0,700\n")
    (here / "exons.bed").write_text("chr1\t1000\t1100\tgene\nchr1\t1700\t2000\tgene\n")
    results = []
    for name in ("genes.bed", "exons.bed"):
        assert mfd(project, here, "embed", name, "--force").code == 0
        results.append(embedded(here) | {"line": None})
    assert results[0] == results[1]
    assert mfd(project, here, "predict", "-R", "genes.bed", "--no-bigwig").code == 0
    assert pq.read_table(here / "predictions/predictions.parquet")["start"].to_pylist() == [896, 1024, 1664, 1792, 1920]


# -- outputs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["score-variants", "IN", "--table", "t.csv"],
        ["score-variants", "--saturate", "chr1:1001-1010", "--table", "t.csv"],
        ["embed", "BED", "-o", "t.csv"],
    ],
    ids=" ".join,
)
def test_a_table_is_called_what_it_is(project: Path, here: Path, words: list[str]) -> None:
    files = {"IN": str(project / "input.vcf"), "BED": str(project / "r.bed")}
    done = mfd(project, here, *[files.get(word, word) for word in words])
    assert done.code == 2 and "t.csv: a Parquet file is written, whose name must end in .parquet" in done.told
    assert "hint: pandas.read_parquet reads it" in done.told and not names_in(here)


def test_results_that_are_not_named_go_to_the_current_folder_or_into_the_run(project: Path, here: Path) -> None:
    """One rule: what is measured of the model lies in its run; everything else where the command is called."""
    before = snapshot(project)
    vcf, bed = str(project / "input.vcf"), str(project / "r.bed")
    for words in (
        ["score-variants", vcf],
        ["score-variants", "--saturate", "chr1:1001-1003"],
        ["predict", "-r", "chr1:1-2000", "--no-bigwig"],
        ["embed", bed],
        ["explain", "--factor", "assay", "--top", "3"],
        ["explain", "--factor", "all"],
        ["evaluate"],
        ["background", "-n", "100"],
    ):
        done = mfd(project, here, *words)
        assert done.code == 0, done.told
    (here / "rows.tsv").write_text("Target\tAssay\nCTCF\tChIP-seq\n")
    assert mfd(project, here, "impute", "--metadata", "rows.tsv").code == 0
    assert names_in(here) == {
        "input.mfd.vcf.gz", "input.mfd.vcf.gz.tbi", "input.mfd.parquet", "input.mfd.skipped.tsv",
        "saturate.chr1_1001-1003.parquet", "predictions", "latents.parquet", "explain", "impute", "rows.tsv",
    }  # fmt: skip
    assert names_in(here / "explain") - {".mfd-folder"} == {"assay", "all"}
    made = set(snapshot(project)) - set(before)
    assert {"/".join(Path(name).parts[:2]) for name in made} == {"run/background", "run/evaluation-test"}


def test_a_table_names_the_genome_that_was_used(project: Path, here: Path) -> None:
    other = here / "other.fa"
    other.write_text((project / "genome.fa").read_text() + ">more\nACGTACGT\n")
    digests = {None: read_fasta(project / "genome.fa").digest(), other: read_fasta(other).digest()}
    for fasta, digest in digests.items():
        words = ["--fasta", str(fasta)] if fasta else []
        for name, command in (
            ("o", [str(project / "input.vcf"), "-o", "o.vcf"]),
            ("s", ["--saturate", "chr1:1001-1003"]),
        ):
            output = ["-o", "s.parquet"] if name == "s" else []
            assert mfd(project, here, "score-variants", *command, *output, *words, "--force").code == 0
            assert pq.read_schema(here / f"{name}.parquet").metadata[b"mfd_genome"].decode() == digest


def test_a_slip_in_the_name_of_a_file_is_answered_with_the_nearest(project: Path, here: Path) -> None:
    """Only where the path was typed, and something beside it is called much the same."""
    done = mfd(project, project, "score-variants", "inptu.vcf", "-o", str(here / "x.vcf"))
    assert done.code == 2 and "inptu.vcf: no such file\nhint: did you mean input.vcf?" in done.told
    other = mfd(project, here, "score-variants", str(project / "imput.vcf"), "-o", "x.vcf")
    assert f"hint: did you mean {project / 'input.vcf'}?" in other.told
    assert "did you mean" not in mfd(project, project, "score-variants", "mine.vcf", "-o", "x.vcf").told
