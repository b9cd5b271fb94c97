"""Projects of every kind, through the real commands: signals alone, peaks alone, one track, one contig, short contigs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pyBigWig
import pytest

from kit.harm import CONTIGS, METADATA, good_project, in_process
from kit.places import SHARED
from mfd_cli.dataset.folder import open_dataset

TRAIN = ["train", "-q", "--gpus", "0", "--threads", "1", "--set", "train.epochs=2"]
PREPROCESS = ["preprocess", "-q", "--threads", "1"]


def run(folder: Path, *words: str) -> str:
    """What a command that works says, on standard output and standard error."""
    done = in_process(words, folder)
    assert done.code == 0, done.told
    return done.said + done.told


def refused(folder: Path, *words: str) -> str:
    """What a command says that refuses its input: exit code 2, no traceback."""
    done = in_process(words, folder)
    assert done.code == 2 and done.told.startswith("mfd: error: "), done.told
    return done.told


def write_table(folder: Path, rows: list[tuple[str, ...]]) -> None:
    (folder / "metadata.tsv").write_text("\n".join("\t".join(row) for row in rows) + "\n")


def write_signal(path: Path, lengths: dict[str, int] = CONTIGS, seed: int = 0) -> None:
    """A bigWig of 50 bp steps."""
    rng = np.random.default_rng(seed)
    with pyBigWig.open(str(path), "w") as file:
        file.addHeader(list(lengths.items()))
        for name, length in lengths.items():
            starts = list(range(0, length - 50, 50))
            values = [float(value) for value in rng.gamma(1, 2, len(starts)).round(3)]
            file.addEntries([name] * len(starts), starts, ends=[start + 50 for start in starts], values=values)


def settings_changed(folder: Path, old: str, new: str) -> None:
    file = folder / "mfd.toml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def signals_only(folder: Path, count: int = 4) -> None:
    """The good project with bigWigs alone; targets and assays cross."""
    good_project(folder)
    header, rows = METADATA[0], list[tuple[str, ...]]()
    for number in range(count):
        write_signal(folder / f"tracks/s{number}.bw", seed=number)
        target, assay = ("CTCF", "GATA1")[number % 2], ("ChIP-seq", "CUT&RUN")[number // 2 % 2]
        rows.append((f"S{number}", f"tracks/s{number}.bw", target, assay, "A", "2015"))
    write_table(folder, [header, *rows])


# -- signals alone -----------------------------------------------------------------------------------------------------


def test_bigwigs_alone_take_all_usable_bins(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    signals_only(folder)
    usable = sum(length // 128 for length in CONTIGS.values())
    run(folder, *PREPROCESS)
    dataset = open_dataset(folder / "dataset")
    assert sum(len(dataset.split(name)) for name in ("train", "validation", "test")) == usable
    run(folder, *TRAIN)


def test_every_command_reads_a_model_of_bigwigs_alone(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    signals_only(folder)
    run(folder, "init", "--fasta", "genome.fa", "--metadata", "metadata.tsv", "-o", "proposed.toml")
    for words in (["check-design"], PREPROCESS, TRAIN, ["verify"]):
        run(folder, *words)
    said = run(folder, "info")
    assert "signal tracks: 4" in said and "positive" not in said
    run(folder, "evaluate", "-q", "--no-probes")
    tables = {file.name: file for file in folder.glob("run/evaluation-test/*.tsv")}
    rated = read_rows(tables["tracks.tsv"])
    assert len(rated) == 4 and all(np.isfinite(float(row["pearson"])) for row in rated)
    run(folder, "score-variants", "input.vcf", "-q", "--per-track", "-o", "scored.vcf.gz")
    scores = pq.read_table(folder / "scored.parquet").to_pydict()
    # Of signals that follow nothing, a mixed head's factors may explain nothing; the parts of a conditioned head always move.
    assert all(np.isfinite(scores[column]).all() for column in ("MFD_BIO", "MFD_TECH", "MFD_RESIDUAL"))
    run(folder, *TRAIN, "--head", "conditioned", "--run", "conditioned")
    run(folder, "score-variants", "input.vcf", "-q", "--run", "conditioned", "-o", "other.vcf.gz")
    parts = pq.read_table(folder / "other.parquet").to_pydict()
    columns = {column: parts[column] for column in ("MFD_BIO", "MFD_TECH")}
    columns |= {column: scores[column] for column in (f"track.S{number}" for number in range(4))}
    for column, found in columns.items():
        values = np.array(found, float)
        assert np.isfinite(values).all() and len(np.unique(values)) > len(values) // 2, column
    moved = np.array([scores[f"track.S{number}"] for number in range(4)], float)
    top = [abs(moved[:, row]).argmax() for row in range(moved.shape[1])]
    assert scores["MFD_TRACK"] == [f"S{number}" for number in top]
    run(folder, "explain", "-q", "--factor", "all")
    run(folder, "predict", "-q", "-r", "chr2:1-6400")
    with pyBigWig.open(str(next((folder / "predictions").glob("*S0*.bw")))) as file:
        assert file.intervals("chr2", 0, 6400)
    (folder / "regions.bed").write_text("chr2\t0\t6400\n")
    run(folder, "embed", "-q", "regions.bed")
    assert "nothing is judged: " in run(folder, "qc", "-q")


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table that mfd wrote."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_held_out_tracks_decide_about_nothing(tmp_path: Path) -> None:
    """The bins, the splits and the labels of all tracks are the same bytes, whoever is held out."""
    folder = tmp_path / "p"
    good_project(folder)
    run(folder, *PREPROCESS)
    files = sorted(path for path in folder.glob("dataset/**/*.arrow"))
    before = [path.read_bytes() for path in files]
    settings_changed(folder, "epochs = 1\n", 'epochs = 1\nheld_out = ["T1", "T2", "T3", "T4"]\n')
    run(folder, *PREPROCESS, "--force")
    assert len(before) > 4 and [path.read_bytes() for path in files] == before


def test_what_the_list_names_and_another_table_lacks_is_told_and_refused_by_training_alone(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    good_project(folder)
    settings_changed(folder, "epochs = 1\n", 'epochs = 1\nheld_out = [{target = "CTFC"}]\n')
    for words in (["--dry-run"], ["-q"]):
        done = in_process(["preprocess", *words], folder)
        assert done.code == 0 and "target has no level 'CTFC'; did you mean CTCF?" in done.told, done.told
    assert "has no level 'CTFC'" in refused(folder, *TRAIN)


# -- what was left out is said -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["regions", "exclude"])
def test_unknown_contigs_of_a_bed_of_bins_are_counted(tmp_path: Path, key: str) -> None:
    folder = tmp_path / "p"
    good_project(folder)
    (folder / "b.bed").write_text(
        "1\t0\t30000\nchr2\t0\t9000\nchr10\t0\t9000\nchrZ\t0\t10\nchrZ\t20\t30\nalt_1\t0\t9\n"
    )
    settings_changed(folder, "[bins]\n", f'[bins]\n{key} = "b.bed"\n')
    expected = f"bins.{key}: 3 of 6 lines are on contigs that the genome lacks (chrZ, alt_1); they were left out"
    expected += ", the first is line 4 of b.bed"
    assert expected in run(folder, "preprocess", "--dry-run")
    assert expected in run(folder, *PREPROCESS)
    (folder / "b.bed").write_text("chrZ\t0\t10\nalt_1\t0\t9\n")
    assert "no contig of b.bed is in the genome (chrZ, alt_1 against" in refused(
        folder, *PREPROCESS, "--force"
    ).replace(f"{folder}/", "")


def test_contigs_of_tracks_that_are_renamed_or_unknown_are_told(tmp_path: Path) -> None:
    """With the file, and the line where something was left out; a file with the genome's names gives no such remark."""
    folder = tmp_path / "p"
    good_project(folder)
    assert "named otherwise" not in run(folder, *PREPROCESS)
    path = folder / "tracks/three.bed"
    lines = path.read_text().replace("chr", "").splitlines()
    path.write_text("\n".join([*lines, "scaffold_9\t5\t300", "1\t900\t1000", "scaffold_9\t5\t300"]) + "\n")
    said = run(folder, *PREPROCESS, "--force")
    name = lines[0].split("\t")[0]
    expected = f"in 1 track file: {name} in tracks/three.bed was taken for chr{name}"
    assert f"contigs are named otherwise than in the genome {expected}" in said
    where = f"tracks/three.bed:{len(lines) + 1}"
    assert f"intervals on contigs that the genome lacks: 2 (scaffold_9), the first in {where}" in said


def test_intervals_without_bases_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    good_project(folder)
    before = run(folder, *PREPROCESS)
    path = folder / "tracks/three.bed"
    path.write_text(path.read_text() + "chr1\t700\t700\tnothing\t0\nchr1\t0\t0\tnothing\t0\n")
    said = run(folder, *PREPROCESS, "--force")
    assert "without bases" not in before
    assert "intervals without bases (start equal to end), left out: 2" in said


# -- columns that mfd.toml names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["counts", "strand", "control", "assayed", "kind", "experiment"])
def test_a_column_that_the_table_lacks(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "p"
    good_project(folder)
    value = '["Assai"]' if what == "experiment" else '"Assai"'
    settings_changed(folder, "[tracks]\n", f"[tracks]\n{what} = {value}\n")
    for words in (PREPROCESS, ["check-design"]):
        told = refused(folder, *words)
        assert f"metadata.tsv:1: has no column 'Assai', which tracks.{what} names; did you mean Assay?" in told
    assert not (folder / "dataset").exists()


def test_controls_are_no_tracks(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    good_project(folder)
    marks = ("Control", "", "yes", "no", "", "")
    write_table(folder, [(*row, mark) for row, mark in zip(METADATA, marks)])
    (folder / "tracks/two.narrowPeak").unlink()  # nothing is asked of a control
    settings_changed(folder, "[tracks]\n", '[tracks]\ncontrol = "Control"\n')
    expected = "left out as controls (column 'Control'): 1 track (T2)"
    assert expected in run(folder, "check-design")
    assert expected in run(folder, *PREPROCESS)
    assert [track.id for track in open_dataset(folder / "dataset").tracks] == ["T1", "T3", "T4", "T5"]
    write_table(folder, [(*row, mark) for row, mark in zip(METADATA, ("Control", *["x"] * 5))])
    assert "every track is marked as a control" in refused(folder, *PREPROCESS, "--force")


# -- strands and counts are looked at before the long work -------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "cells", "message"),
    [
        ("strand", ("+", ""), "has a strand but no partner on the other strand"),
        ("strand", ("+", "+"), "are the same strand of one experiment"),
        ("strand", ("up", ""), "neither + nor -"),
        ("strand", ("+", "-"), "no factor reads the column 'Mark'"),
        ("counts", ("perhaps", ""), "neither counts nor log-normal"),
    ],
)
def test_what_training_would_refuse_is_refused_by_preprocess(
    tmp_path: Path, setting: str, cells: tuple[str, str], message: str
) -> None:
    folder = tmp_path / "p"
    signals_only(folder, 2)
    lines = (folder / "metadata.tsv").read_text().splitlines()
    table = [(*line.split("\t")[:3], "ChIP-seq", "A", "2015") for line in lines[1:]]
    same = [(*row[:2], "CTCF", *row[3:], cell) for row, cell in zip(table, cells)]
    write_table(folder, [(*METADATA[0], "Mark"), *same])
    settings_changed(folder, "[tracks]\n", f'[tracks]\n{setting} = "Mark"\n')
    # The other heads give each strand weights of its own.
    settings_changed(folder, "[model]\n", '[model]\nhead = "conditioned"\n')
    told = refused(folder, *PREPROCESS)
    assert message in told and "metadata.tsv" in told
    assert not (folder / "dataset").exists()


# -- few tracks, few contigs, short contigs ----------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [("T1", "T2", "T3", "T4"), ("T1",), ("T5",), ("T1", "T2"), ("T1", "T3"), ("T1", "T5")])
def test_few_tracks(tmp_path: Path, kept: tuple[str, ...]) -> None:
    """Peaks alone, one track, two, two of one target, one of each kind."""
    folder = tmp_path / "p"
    good_project(folder)
    write_table(folder, [METADATA[0], *(row for row in METADATA[1:] if row[0] in kept)])
    run(folder, *PREPROCESS)
    run(folder, *TRAIN)


@pytest.mark.parametrize("number", [1, 2])
def test_init_proposes_a_split_that_works_for_few_contigs(tmp_path: Path, number: int) -> None:
    folder = tmp_path / "p"
    good_project(folder)
    names = list(CONTIGS)[:number]
    records = (folder / "genome.fa").read_text().split(">")[1:]
    (folder / "genome.fa").write_text("".join(f">{record.lower()}" for record in records[:number]))  # soft-masked
    for file in ("one.narrowPeak", "two.narrowPeak", "three.bed", "four.bed"):
        lines = (folder / "tracks" / file).read_text().splitlines(keepends=True)
        (folder / "tracks" / file).write_text("".join(line for line in lines if line.split("\t")[0] in names))
    write_signal(folder / "tracks/five.bw", {name: CONTIGS[name] for name in names})
    run(folder, "init", "--fasta", "genome.fa", "--metadata", "metadata.tsv", "--force")
    shape = {"preset": "small", "width": 8, "filters": 4, "window": 128}
    small = [f"--set=model.{key}={value}" for key, value in shape.items()]
    said = run(folder, *PREPROCESS, *small)
    assert "no bins to test on" not in said
    plan = run(folder, "preprocess", "--dry-run", *small, "--dataset", "other")
    shares = "10% test, 10% validation" if number == 1 else "10% validation"
    assert f"of the contigs for training, in blocks: {shares}" in plan
    run(folder, *TRAIN, *small)
    run(folder, "evaluate", "-q", "--no-probes")
    dataset = open_dataset(folder / "dataset")
    sizes = [len(dataset.split(split)) for split in ("train", "validation", "test")]
    assert min(sizes) > 20 and sizes[0] == max(sizes)
    fold = ["--set", "split.folds=5", "--set", "split.validation=0.1"]  # as docs/metadata-table.md has it
    tested = []
    for part in range(1, 6):
        run(folder, *PREPROCESS, *small, *fold, "--set", f"split.fold={part}", "--dataset", f"fold{part}")
        bins = open_dataset(folder / f"fold{part}").split("test")
        tested += list(zip(bins.contig.tolist(), bins.start.tolist()))
    assert len(tested) == len(set(tested)) == sum(CONTIGS[name] // 128 for name in names)  # each bin in one fold
    if number == 1:
        told = refused(folder, *PREPROCESS, *small, "--force", "--set", 'split.test=["chr1"]')
        assert "no bin is left for training" in told and "all contigs" in told
        assert "split.test = 0.1, split.validation = 0.1" in told
        told = refused(folder, *PREPROCESS, *small, "--force", "--set", 'split.test=["chr9"]')
        assert "split.test names 'chr9', which the genome lacks" in told and "split.validation = 0.1" in told
        assert "error: --set split.test=" in told and "mfd.toml" not in told  # the file is not to blame


def test_contigs_shorter_than_the_window(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    good_project(folder)
    settings_changed(folder, "window = 128\n", "window = 1152\n")
    with (folder / "genome.fa").open("a") as file:
        file.write(f">short\n{'acgt' * 75}\n>shorter\n{'ACGT' * 20}\n")
    run(folder, *PREPROCESS)
    assert open_dataset(folder / "dataset").contigs == (*CONTIGS, "short", "shorter")
    run(folder, *TRAIN)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the developers' data are not here")
def test_the_real_human_tracks(tmp_path: Path) -> None:
    """109 peak sets on a megabase of one contig: what init proposes can be preprocessed and trained on."""
    human = SHARED / "human_chr20_1Mb_hs37d5"
    said = run(tmp_path, "init", "--fasta", str(human / "z.fa"), "--metadata", str(human / "metadata.tsv"))
    assert "109 tracks" in said and "no factor is technical" in said
    said = run(tmp_path, *PREPROCESS)
    assert "tracks: 109 with peaks" in said and "780 validation, 780 test" in said
    shape = {"preset": "small", "width": 8, "filters": 4, "window": 384}
    small = [f"--set=model.{key}={value}" for key, value in shape.items()]
    run(tmp_path, *TRAIN, "--set", "train.epochs=1", *small)
