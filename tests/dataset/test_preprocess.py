"""Preprocess: files to the dataset folder, whole, the same bytes every time, and one line for every faulty input."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyBigWig
import pytest

from mfd_cli.base.errors import ConfigError, GenomeError, InputErrors, MetadataError, MfdError, OutputError, RegionError
from mfd_cli.dataset.bins import unpack_bits
from mfd_cli.dataset.folder import Dataset, open_dataset
from mfd_cli.dataset.preprocess import preprocess
from mfd_cli.formats.metadata_table import read_table
from mfd_cli.settings.project import Project, load_project

LENGTHS = {"chr1": 6400, "chr2": 3200, "chr3": 3300}


def world(folder: Path) -> Project:
    """Three contigs, two peak tracks, two signal tracks (one measured on chr1 only), one assayed BED."""
    rng = np.random.default_rng(0)
    (folder / "tracks").mkdir(parents=True)
    text = ""
    for name, length in LENGTHS.items():
        bases = "".join("ACGT"[i] for i in rng.integers(0, 4, length))
        if name == "chr1":
            bases = bases[:1280] + "N" * 128 + bases[1408:].lower()
        text += f">{name} a comment\n" + "\n".join(bases[i : i + 60] for i in range(0, length, 60)) + "\n"
    (folder / "genome.fa").write_text(text)
    (folder / "tracks" / "a.bed").write_text("track name=x\n1\t0\t128\n1\t300\t301\tx\t5\t+\nchr2\t1000\t1300\n")
    peaks = "chr1\t640\t900\tp\t0\t.\t1\t-1\t-1\t100\nchr3\t100\t500\tp\t0\t.\t1\t-1\t-1\t100\n"
    (folder / "tracks" / "b.narrowPeak.gz").write_bytes(gzip.compress(peaks.encode(), mtime=0))
    (folder / "tracks" / "b.assayed.bed").write_text("chr1\t0\t3200\nchr2\t0\t3200\nchr3\t0\t3300\n")
    for name, contigs in (("s", list(LENGTHS)), ("t", ["chr1"])):
        file = pyBigWig.open(str(folder / "tracks" / f"{name}.bw"), "w")
        file.addHeader([(c, LENGTHS[c]) for c in contigs])
        for contig in contigs:
            file.addEntries([contig, contig], [0, 192], ends=[64, 256], values=[2.0, 6.0])
        file.close()
    (folder / "metadata.tsv").write_text(
        "File accession\tFile path\tAssay\tAssayed\n"
        "S\ttracks/s.bw\tMNase\t\nA\ttracks/a.bed\tChIP\t\nB\ttracks/b.narrowPeak.gz\tATAC\ttracks/b.assayed.bed\n"
        "T\ttracks/t.bw\tMNase\t\n"
    )
    (folder / "mfd.toml").write_text(
        '[data]\nfasta = "genome.fa"\nmetadata = "metadata.tsv"\n[tracks]\nassayed = "Assayed"\n'
        '[split]\ntest = ["3"]\nvalidation = ["chr2"]\nguard = 0\n'
        '[factors.assay]\ncolumn = "Assay"\ngroup = "technical"\n'
    )
    return load_project(folder / "mfd.toml")


def changed(project: Project, **flags: object) -> Project:
    return load_project(project.file, (), {name.replace("__", "."): value for name, value in flags.items()})


def made(project: Project, **options: object) -> Dataset:
    preprocess(project, threads=1, force=True, **options)  # type: ignore[arg-type]
    return open_dataset(project.dataset)


def test_bins_labels_signals_and_masks(tmp_path: Path) -> None:
    dataset = made(world(tmp_path))
    assert [track.id for track in dataset.tracks] == ["A", "B", "S", "T"]  # peaks first
    train, validation, test = (dataset.split(name) for name in ("train", "validation", "test"))
    assert len(train) == 49 and 1280 not in train.start  # 50 bins, one of them unknown
    assert len(validation) == 25 and len(test) == 25
    peaks = unpack_bits(train.peaks, 2)
    assert train.start[peaks[:, 0]].tolist() == [0, 256]
    assert train.start[peaks[:, 1]].tolist() == [640, 768]
    assert test.start[unpack_bits(test.peaks, 2)[:, 1]].tolist() == [
        128,
        256,
        384,
    ]  # 28 bp in the first bin, 116 in the last
    assert train.signal[:3, 0].tolist() == [1.0, 3.0, 0.0]  # half of the bases of a bin, the others zero
    assert np.isnan(test.signal[:, 1]).all() and not np.isnan(train.signal).any()
    known = train.measured(np.arange(2))
    assert known is not None and test.measured(np.arange(2)) is not None
    assert known[:, 0].all() and (known[:, 1] == (train.start + 128 <= 3200)).all()
    by_id = {track.id: track for track in dataset.tracks}
    assert by_id["T"].assayed == ("chr1",) and by_id["S"].assayed is None
    assert by_id["A"].positives == 2 and by_id["A"].measured == 49 and by_id["B"].measured == 24
    assert by_id["T"].measured == 49 and by_id["A"].metadata["Assay"] == "ChIP"
    assert by_id["S"].mean_signal == pytest.approx(4 / 49)
    assert dataset.genome.bases("chr1", 1400, 1412) == "N" * 8 + dataset.genome.bases("chr1", 1408, 1412)


def test_signal_means_are_those_of_pybigwig(tmp_path: Path) -> None:
    dataset = made(world(tmp_path))
    bins = dataset.split("validation")
    with pyBigWig.open(str(tmp_path / "tracks" / "s.bw")) as file:
        told = [file.stats("chr2", int(s), int(s) + 128, type="sum", exact=True)[0] or 0.0 for s in bins.start]
    assert bins.signal[:, 0].tolist() == pytest.approx([value / 128 for value in told])


def test_the_same_bytes_whatever_the_number_of_workers_and_where(tmp_path: Path) -> None:
    digests = []
    for name, threads in (("one", 1), ("two", 2)):
        project = world(tmp_path / name)
        preprocess(project, threads=threads)
        files = sorted(path for path in project.dataset.rglob("*") if path.is_file())
        digests.append([(p.relative_to(project.dataset), hashlib.sha256(p.read_bytes()).hexdigest()) for p in files])
        assert not list((tmp_path / name).glob(".dataset*"))
    assert digests[0] == digests[1]


def test_bins_without_a_peak_take_no_room_and_are_there(tmp_path: Path) -> None:
    """Every bin of the genome is in one run, with its state; of peak tracks only bins with a peak are rows of a shard."""
    project = world(tmp_path)
    table = (tmp_path / "metadata.tsv").read_text().splitlines(keepends=True)
    (tmp_path / "metadata.tsv").write_text("".join(line for line in table if ".bw" not in line))
    (tmp_path / "x.bed").write_text("chr2\t127\t129\n")
    dataset = made(changed(project, bins__exclude=tmp_path / "x.bed", split__guard=0))
    stored = {name: split["with_data"] for name, split in dataset.manifest["splits"].items()}
    assert stored == {"train": 4, "validation": 2, "test": 3}
    assert {name: len(dataset.split(name)) for name in stored} == {"train": 49, "validation": 23, "test": 25}
    rows = pa.ipc.open_file(dataset.path / "bins.arrow").read_all().to_pylist()
    assert {row["contig"]: row["end"] for row in rows} == {"chr1": 6400, "chr2": 3200, "chr3": 25 * 128}
    assert [row["start"] for row in rows if row["state"] == "unknown"] == [1280]
    assert [(row["start"], row["end"]) for row in rows if row["state"] == "excluded"] == [(0, 256)]
    for name in stored:
        bins = dataset.split(name)
        assert (unpack_bits(bins.peaks, 2).any(1) == (bins.row >= 0)).all() and bins.signal.shape == (len(bins), 0)
        assert (bins.occupied(np.array([True, True])) == (bins.row >= 0)).all()
        assert not bins.occupied(np.array([False, False])).any()
    assert dataset.split("train").thinned(7).start.tolist() == dataset.split("train").start[::8].tolist()


def test_exclude_regions_and_guard(tmp_path: Path) -> None:
    project = world(tmp_path)
    (tmp_path / "x.bed").write_text("chr1\t127\t129\n")
    (tmp_path / "r.bed").write_text("chr1\t0\t1000\nchr2\t0\t3200\nchr3\t0\t3200\n")
    assert made(changed(project, bins__exclude=tmp_path / "x.bed")).split("train").start[:2].tolist() == [256, 384]
    assert made(changed(project, bins__regions=tmp_path / "r.bed")).split("train").start.tolist() == list(
        range(0, 896, 128)
    )
    with pyBigWig.open(str(tmp_path / "m.bw"), "w") as file:  # chr3 is not in it
        file.addHeader([("chr1", 6400), ("chr2", 3200)])
        file.addEntries(["chr1", "chr1", "chr2"], [0, 128, 0], ends=[96, 192, 3200], values=[1.0, 1.0, 1.0])
    mappable = made(changed(project, bins__mappability=tmp_path / "m.bw", bins__min_mappability=0.6, split__test=()))
    assert mappable.split("train").start.tolist() == [0]  # of the second bin half can be mapped
    assert len(mappable.split("validation")) == 25
    assert "m.bw" in [Path(one["name"]).name for one in mappable.manifest["inputs"]]
    blocks = made(changed(project, split__validation=0.2, split__guard=256))
    train, held = blocks.split("train"), blocks.split("validation")
    for contig, start in zip(held.contig, held.start):
        assert (np.abs(train.start[train.contig == contig] - start) >= 256).all()


def test_every_contig_is_tested_in_one_fold(tmp_path: Path) -> None:
    project, seen = world(tmp_path), []
    for fold in (1, 2, 3):
        dataset = made(changed(project, split__test=(), split__validation=0.2, split__folds=3, split__fold=fold))
        seen.append({dataset.contigs[c] for c in dataset.split("test").contig.tolist()})
        assert not seen[-1] & {dataset.contigs[c] for c in dataset.split("train").contig.tolist()}
    assert seen == [{"chr1"}, {"chr3"}, {"chr2"}]  # the longest contig first
    tested = []
    for fold in (1, 2, 3, 4):  # more folds than contigs: stretches
        bins = made(changed(project, split__test=(), split__validation=0.1, split__folds=4, split__fold=fold)).split(
            "test"
        )
        tested += list(zip(bins.contig.tolist(), bins.start.tolist()))
    assert len(tested) == len(set(tested)) > 80
    with pytest.raises(ConfigError, match="must not name it too"):
        changed(project, split__folds=3)
    with pytest.raises(ConfigError, match=r"split\.fold is 4, but split\.folds is 3"):
        changed(project, split__test=(), split__folds=3, split__fold=4)


def test_an_interrupted_run_is_taken_up(tmp_path: Path) -> None:
    project = world(tmp_path)

    def stop(what: str, done: int, total: int) -> None:
        if what == "writing shards":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        preprocess(project, threads=1, progress=stop)
    assert not project.dataset.exists()
    work = tmp_path / ".dataset.parts"
    before = {path: path.stat().st_mtime_ns for path in work.glob("*.npy")}
    assert len(before) == 4
    (tmp_path / "tracks" / "a.bed").write_text("chr1\t0\t256\n")  # this one has to be read again
    with pytest.raises(KeyboardInterrupt):
        preprocess(project, threads=1, progress=stop)
    changed_files = [path.name for path, when in before.items() if path.stat().st_mtime_ns != when]
    assert changed_files == ["000000.npy"]
    assert made(project).tracks[0].positives == 2
    assert not work.exists()


@pytest.mark.parametrize(
    ("file", "text", "error", "message"),
    [
        ("tracks/a.bed", "chr1\t5\n", RegionError, "a.bed:1: has 2 columns"),
        ("tracks/a.bed", "chr1\t90\t80\n", RegionError, "a.bed:1: end 80 is before start 90"),
        ("tracks/a.bed", "chr1\t1_0\t80\n", RegionError, "start is not a whole number"),
        ("tracks/a.bed", "chr1\t10\t99999\n", RegionError, "a.bed:1: chr1:10-99999 ends beyond the contig"),
        ("tracks/a.bed", "scaffold\t10\t99\n", GenomeError, "no contig of .*a.bed is in the genome"),
        ("tracks/a.bed", "", RegionError, "a.bed: is empty"),
        ("tracks/s.bw", "text that is long enough to hold a header" * 2, MfdError, "is not a bigWig"),
        ("genome.fa", ">chr1\nACGT1\n", GenomeError, "genome.fa:2: '1' is not a base"),
        ("genome.fa", ">chr1\nAC\n>chr1\nAC\n", GenomeError, "genome.fa:3: contig 'chr1' is there twice"),
        ("genome.fa", "@read\nACGT\n+\n!!!!\n", GenomeError, "is FASTQ"),
        ("genome.fa.fai", "chr1\t6400\t0\t60\t61\n", GenomeError, "does not agree with its index"),
        (
            "metadata.tsv",
            "File accession\tFile path\tAssay\tAssayed\nA\n",
            MetadataError,
            "metadata.tsv:2: has 1 cells",
        ),
        (
            "metadata.tsv",
            "accession\tFile path\tAssay\tAssayed\nA\tb\tc\td\n",
            MetadataError,
            "no column 'File accession'",
        ),
        (
            "metadata.tsv",
            "File accession\tFile path\tAssay\tAssayed\nA\tx.txt\tc\t\n",
            MetadataError,
            ":2: the file name",
        ),
    ],
)
def test_broken_input_is_one_clear_error_and_leaves_nothing(
    tmp_path: Path, file: str, text: str, error: type[MfdError], message: str
) -> None:
    project = world(tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(error, match=message.replace("(", r"\(")):
        preprocess(project, threads=1)
    assert not project.dataset.exists()
    assert not list(tmp_path.glob(".dataset.tmp*"))


def test_all_faulty_inputs_are_told_together(tmp_path: Path) -> None:
    project = world(tmp_path)
    (tmp_path / "tracks" / "a.bed").unlink()
    (tmp_path / "tracks" / "t.bw").write_bytes((tmp_path / "tracks" / "t.bw").read_bytes()[:-2])
    with pytest.raises(InputErrors) as caught:
        preprocess(project, threads=1)
    assert "a.bed: no such file" in str(caught.value) and "t.bw: was cut short" in str(caught.value)


def test_a_cut_gzip_is_found(tmp_path: Path) -> None:
    project = world(tmp_path)
    path = tmp_path / "tracks" / "b.narrowPeak.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(RegionError, match="damaged or was cut short"):
        preprocess(project, threads=1)


def test_every_damaged_byte_of_a_bigwig_header_is_survived(tmp_path: Path) -> None:
    """Whatever the byte, the answer is a dataset or an error of ours; the process lives (pyBigWig alone would not)."""
    from mfd_cli.formats.bin_means import bin_means

    world(tmp_path)
    good = (tmp_path / "tracks" / "t.bw").read_bytes()
    for position in (0, 4, 6, 8, 9, 24):
        bad = bytearray(good)
        bad[position] ^= 0xFF
        (tmp_path / "bad.bw").write_bytes(bad)
        with pytest.raises(MfdError):
            bin_means(tmp_path / "bad.bw", LENGTHS)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"split__test": ["chr33"]}, "did you mean chr3"),
        ({"split__test": ["chr2"]}, "chr2 is in test and in validation"),
        ({"split__test": ["chr1", "chr3"]}, "no bin is left for training"),
        ({"data__fasta": Path("missing.fa")}, "no such file"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, flags: dict[str, object], message: str) -> None:
    project = world(tmp_path)
    with pytest.raises(MfdError, match=message):
        preprocess(changed(project, **flags), threads=1)


def test_a_quoted_table_is_the_same_table(tmp_path: Path) -> None:
    """As R's write.table and spreadsheets write it; and packed."""
    project = world(tmp_path)
    table, path = read_table(tmp_path / "metadata.tsv"), tmp_path / "quoted.tsv.gz"
    rows = [table.columns, *(tuple(row.values()) for row in table.rows)]
    text = "\n".join("\t".join(f'"{cell}"' for cell in row) for row in rows)
    path.write_bytes(gzip.compress(text.replace("ATAC", '5"" ATAC').encode()))
    quoted = read_table(path)
    assert quoted.columns == table.columns and quoted.rows[2]["Assay"] == '5" ATAC'
    assert [row["File path"] for row in quoted.rows] == [row["File path"] for row in table.rows]
    preprocess(changed(project, data__metadata=path), threads=1)


def test_a_file_is_one_track(tmp_path: Path) -> None:
    project = world(tmp_path)
    path = tmp_path / "metadata.tsv"
    path.write_text(path.read_text().replace("tracks/t.bw", "./tracks/s.bw"))
    with pytest.raises(MetadataError, match=r"metadata.tsv:5: file './tracks/s.bw' is on line 2 already"):
        preprocess(project, threads=1)


def test_a_dataset_is_not_overwritten_unasked(tmp_path: Path) -> None:
    project = world(tmp_path)
    preprocess(project, threads=1)
    with pytest.raises(OutputError, match="exists already"):
        preprocess(project, threads=1)
    shutil.rmtree(project.dataset)
    with pytest.raises(ConfigError, match="no metadata table"):
        preprocess(
            Project(config=project.config.model_copy(update={"data": type(project.config.data)()}), folder=tmp_path)
        )


def test_plain_gzip_crlf_and_bgzip_genomes_are_one_genome(tmp_path: Path) -> None:
    import pysam

    from mfd_cli.formats.fasta import read_fasta

    world(tmp_path)
    plain = (tmp_path / "genome.fa").read_bytes()
    (tmp_path / "crlf.fa").write_bytes(plain.replace(b"\n", b"\r\n"))
    (tmp_path / "g.fa.gz").write_bytes(gzip.compress(plain))
    pysam.tabix_compress(str(tmp_path / "genome.fa"), str(tmp_path / "b.fa.gz"))
    digests = {read_fasta(tmp_path / name).digest() for name in ("genome.fa", "crlf.fa", "g.fa.gz", "b.fa.gz")}
    assert len(digests) == 1


def test_too_long_a_name_for_temporary_files_is_told(tmp_path: Path) -> None:
    """A socket's name has 107 letters at most; it is no want of memory."""
    project, long = world(tmp_path), tmp_path / ("t" * 100)
    long.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "mfd_cli", "preprocess", "-q", "--dataset", "other"],
        cwd=project.dataset.parent,
        env={**os.environ, "TMPDIR": str(long)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "temporary files has too long a name" in done.stderr, done.stderr
