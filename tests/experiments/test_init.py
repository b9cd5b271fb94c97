"""mfd init and check-design: ENCODE's tables, the yeast table, a plain one; what is refused and how it is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kit.harm import in_process
from kit.places import SHARED
from mfd_cli.base.errors import ConfigError, MetadataError, OutputError
from mfd_cli.core.inseparable import inseparable_sets
from mfd_cli.experiments.check_design import check_design
from mfd_cli.experiments.confounds import worst_confounds
from mfd_cli.experiments.encode_portal import choose_files, is_encode, read_any_table, with_local_files
from mfd_cli.experiments.init import KNOWN, control_remarks, init_project, propose_split, strand_remarks
from mfd_cli.settings.config import FactorConfig
from mfd_cli.settings.project import load_project

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the developers' data are not here")


def plain_table(folder: Path, rows: int = 12) -> Path:
    lines = ["track\tfile\tassay\ttissue\tlab\tcolour\tnotes\tempty"]
    for i in range(rows):
        lab, colour = ("A", "B")[i % 2], ("red", "blue", "green")[i % 3]
        lines.append(f"t{i}\tt{i}.bed\t{('x', 'y')[i % 2]}\t{('p', 'q')[i // 2 % 2]}\t{lab}\t{colour}\tnote {i}\t")
        (folder / f"t{i}.bed").write_text("chr1\t0\t200\n")
    path = folder / "table.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def fasta(folder: Path, contigs: int = 4) -> Path:
    path = folder / "g.fa"
    path.write_text("".join(f">chr{i}\n{'ACGT' * 300 * (6 - i)}\n" for i in range(1, contigs + 1)))
    return path


def encode_row(accession: str, **values: str) -> dict[str, str]:
    row = {
        "File accession": accession,
        "File format": "bed narrowPeak",
        "Output type": "peaks",
        "Experiment accession": "E1",
        "Assembly": "hg19",
        "File Status": "released",
        "Biological replicate(s)": "1",
        "Assay": "ChIP-seq",
        "Experiment target": "CTCF-human",
        "Lab": "L",
    }
    return {**row, **values}


def encode_table(folder: Path, rows: list[dict[str, str]]) -> Path:
    path = folder / "metadata.tsv"
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_plain_table(tmp_path: Path) -> None:
    report = init_project(fasta(tmp_path), plain_table(tmp_path), tmp_path / "mfd.toml")
    project = load_project(tmp_path / "mfd.toml")
    assert (project.config.tracks.id, project.config.tracks.path) == ("track", "file")
    assert {name: f.group for name, f in project.config.factors.items()} == {
        "biosample": "biological",
        "assay": "technical",
        "lab": "technical",
    }
    assert report.columns["empty"] == "empty" and report.columns["notes"] == "different on every track"
    assert (
        "add it if it matters" in report.columns["colour"]
        and "# [factors.colour]" in (tmp_path / "mfd.toml").read_text()
    )
    assert any("assay and lab cannot be told apart on 12 of 12 tracks" in line for line in report.lines())
    with pytest.raises(OutputError):
        init_project(fasta(tmp_path), tmp_path / "table.tsv", tmp_path / "mfd.toml")


def test_the_group_of_a_column_of_ones_own_is_left_to_the_user(tmp_path: Path) -> None:
    """Taken as it stands, the comment is no project: a group has to be chosen."""
    init_project(fasta(tmp_path), plain_table(tmp_path), tmp_path / "mfd.toml")
    text = (tmp_path / "mfd.toml").read_text()
    own = text[text.index("# [factors.colour]") :]
    assert "# group = " in own and 'group = "' not in own
    uncommented = own.replace("# [", "[").replace("# column", "column").replace("# group", "group")
    (tmp_path / "mfd.toml").write_text(text.replace(own, uncommented))
    with pytest.raises(ConfigError):
        load_project(tmp_path / "mfd.toml")
    (tmp_path / "mfd.toml").write_text(text.replace(own, uncommented.replace("group = ", 'group = "technical"')))
    assert load_project(tmp_path / "mfd.toml").config.factors["colour"].group == "technical"


def test_the_known_columns_are_those_of_the_documentation() -> None:
    page = (Path(__file__).parents[2] / "docs/metadata-table.md").read_text("utf-8")
    table = [line for line in page.splitlines() if re.match(r"\| `\w+` \| (biological|technical) \|", line)]
    assert table == [
        f"| `{name}` | {group} | {kind} | {', '.join(names)} |" for name, (group, kind, _, names) in KNOWN.items()
    ]


def test_files_are_chosen_and_the_others_named(tmp_path: Path) -> None:
    rows = [
        encode_row("F1", **{"Output type": "optimal IDR thresholded peaks", "Biological replicate(s)": "1, 2"}),
        encode_row("F2"),
        encode_row("F3", Assembly="GRCh38"),
        encode_row("F4", **{"File Status": "archived", "Experiment accession": "E2"}),
        encode_row("F5", **{"File format": "bigBed narrowPeak"}),
        encode_row("F6", **{"File format": "bigWig", "Output type": "fold change over control"}),
        encode_row("F7", **{"File format": "bigWig", "Output type": "signal p-value"}),
        encode_row("F8", **{"File format": "fastq", "Output type": "reads", "Assembly": ""}),
        encode_row("F9", **{"Experiment accession": "E3", "Experiment target": "GATA1-human", "Lab": "M"}),
    ]
    table = read_any_table(encode_table(tmp_path, rows))
    assert is_encode(table)
    choice = choose_files(table, None)
    assert [row["File accession"] for row in choice.rows] == ["F1", "F6", "F9"]
    assert choice.assembly == "hg19"
    reasons = dict(choice.left_out)
    assert reasons["F3"] == "assembly GRCh38" and reasons["F4"] == "status archived"
    assert "bigBed" in reasons["F5"] and "preferred" in reasons["F2"] and "fastq" in reasons["F8"]
    with pytest.raises(MetadataError, match=r"none of the 3 files that were chosen is beside the table \(F1, F6, F9"):
        with_local_files(choice, table)
    (tmp_path / "sub").mkdir()
    for name in ("F1.bed.gz", "sub/F9.bed.gz"):
        (tmp_path / name).write_bytes(b"x")
    found = with_local_files(choice, table)
    assert [(r["File path"], r["Kind"]) for r in found.rows] == [("F1.bed.gz", "peaks"), ("sub/F9.bed.gz", "peaks")]
    assert ("F6", "its file is not here") in found.left_out
    init_project(fasta(tmp_path), tmp_path / "metadata.tsv", tmp_path / "mfd.toml")
    project = load_project(tmp_path / "mfd.toml")
    assert project.config.data.metadata == "metadata.mfd.tsv" and project.config.tracks.kind == "Kind"
    assert set(project.config.factors) == {"target", "lab"}


def test_only_released_files_are_taken(tmp_path: Path) -> None:
    """A table like ENCODE's: every other status is left out and listed, with the accessions."""
    statuses = ("released", "in progress", "archived", "revoked", "content error", "deleted", "", "Released")
    rows = [
        encode_row(f"F{i}", **{"File Status": status, "Experiment accession": f"E{i}", "Lab": f"L{i}"})
        for i, status in enumerate(statuses)
    ]
    encode_table(tmp_path, rows)
    for i in range(len(rows)):
        (tmp_path / f"F{i}.bed.gz").write_bytes(b"x")
    fasta(tmp_path)
    done = in_process(["init", "--fasta", "g.fa", "--metadata", "metadata.tsv"], tmp_path)
    assert done.code == 0, done.told
    assert "2 tracks, assembly hg19" in done.said
    for i, status in enumerate((*statuses[1:6], "not given"), start=1):
        assert f"left out: 1 row, status {status} (F{i})" in done.said
    assert [row["File accession"] for row in read_any_table(tmp_path / "metadata.mfd.tsv").rows] == ["F0", "F7"]


def test_the_report_format_has_its_header_on_line_2(tmp_path: Path) -> None:
    path = tmp_path / "r.tsv"
    path.write_text(
        "2023-06-12 16:07:53.361847\thttps://www.encodeproject.org/report/\nAccession\tFile Format\nX\tbam\n"
    )
    table = read_any_table(path)
    assert table.columns == ("Accession", "File Format") and table.lines == (3,)
    with pytest.raises(MetadataError, match=r"no released peak or signal file \(it lists 1 bam\)"):
        choose_files(table, None)


@needs_shared
def test_the_real_tables(tmp_path: Path) -> None:
    folder = SHARED / "encode_metadata"
    table = read_any_table(folder / "encode_H1_metadata.tsv")
    for assembly, count in (("hg19", 14), ("GRCh38", 14)):
        choice = choose_files(table, assembly)
        experiments = {row["Experiment accession"] for row in choice.rows}
        assert 0 < len(experiments) <= 7 and len(choice.rows) <= count
        assert len(choice.rows) + len(choice.left_out) == 186
    with pytest.raises(MetadataError, match="100 bam"):
        choose_files(read_any_table(folder / "encode_100_TF_ChIP_hg38.txt"), None)
    with pytest.raises(MetadataError, match=":1: the first line does not look like a header"):
        read_any_table(folder / "encode_tagged_lines_3443.tsv")


@needs_shared
def test_the_yeast_table(tmp_path: Path) -> None:
    yeast = SHARED / "yeast_sacCer3_tracks"
    report = init_project(yeast / "genome.fa.gz", yeast / "metadata.tsv", tmp_path / "mfd.toml")
    groups = {name: factor.group for name, factor in report.factors.items()}
    assert groups["target"] == groups["treatment"] == "biological"
    assert groups["assay"] == groups["lab"] == groups["year"] == groups["caller"] == "technical"
    assert report.factors["year"].type == "year" and report.factors["target"].role == "interact"
    apart = "lab and year cannot be told apart on 509 of 536 tracks (with caller: 499; with biosample and caller: 381)"
    assert f"{apart}; caller is nested within biosample" in report.remarks
    design = check_design(load_project(tmp_path / "mfd.toml"), output=tmp_path / "design")
    assert design.tracks == 536 and (tmp_path / "design" / "design.svg").is_file()


def test_splits_of_large_small_and_single_genomes() -> None:
    assert propose_split({f"chr{i}": 150_000_000 for i in range(1, 23)}) == (["chr9", "chr10"], 0.05)
    test, validation = propose_split({"a": 500, "b": 100, "c": 80, "d": 300, "chrM": 90})
    assert (test, validation) == (["b"], ["c"])
    assert propose_split({"only": 1000}) == (0.1, 0.1)


def test_sets_that_cannot_be_told_apart_by_hand() -> None:
    a, b = list("xxyyzz"), list("ppqqqr")
    factors = {n: FactorConfig(column=n, group="technical") for n in ("assay", "lab", "year")}
    levels = {"assay": a, "lab": [x.upper() for x in a], "year": b}
    sets = inseparable_sets(levels, factors)
    assert sets[0] == (("assay", "lab"), 6) and (("assay", "lab", "year"), 2) in sets
    rows = [dict(zip(("assay", "lab", "year"), values)) for values in zip(a, levels["lab"], b)]
    assert worst_confounds(rows, factors) == ["assay and lab cannot be told apart on 6 of 6 tracks"]


def test_remarks_on_controls_and_strands_say_what_to_write() -> None:
    columns = ["File path", "Target", "Strand of DNA", "Strand"]
    cells = [
        ("a.bigWig", "CTCF", "x", "+"),
        ("b.bw", "IgG", "x", "-"),
        ("c.bed", "CTCF", "x", "+"),
        ("d.bw", "CTCF", "x", "."),
    ]
    rows = tuple(dict(zip(columns, row)) for row in cells)
    (strand,) = strand_remarks(rows, columns)
    assert strand.startswith("2 signal tracks") and 'write strand = "Strand" below [tracks] in mfd.toml' in strand
    assert strand_remarks(rows[2:], columns) == []  # the strand of peaks is not used
    (control,) = control_remarks(rows, columns)
    assert control.startswith("1 tracks look") and 'write control = "Control" below [tracks] in mfd.toml' in control


def test_where_nothing_is_there_init_is_named(tmp_path: Path) -> None:
    done = in_process(["train", "--gpus", "0", "--threads", "1"], tmp_path)
    assert done.code == 2 and "hint: there is no mfd.toml here either: mfd init --fasta" in done.told
