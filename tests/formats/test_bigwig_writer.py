"""bigWigs that we write: every value, every summary and every zoom level as pyBigWig and our own reader see them."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pyBigWig
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfd_cli.base.errors import OutputError
from mfd_cli.base.files import whole_file
from mfd_cli.formats.bigwig_reader import check_bigwig, open_bigwig
from mfd_cli.formats.bigwig_writer import BigWigs, contig_tree


def written(path: Path, lengths: dict[str, int], data: dict[str, tuple[np.ndarray, np.ndarray]], span: int) -> Path:
    with BigWigs([path], lengths) as files:
        for contig, (starts, values) in data.items():
            files.write(contig, starts, values[:, None], span)
    return path


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any bins of any contigs, dense or scattered: the same values by pyBigWig and by our reader, exact sums at every zoom."""
    span = data.draw(st.sampled_from([1, 7, 128]), "span")
    names = data.draw(st.lists(st.text("abcXYZ019_.", min_size=1, max_size=9), min_size=1, max_size=6, unique=True))
    lengths = {name: data.draw(st.integers(1, 400)) * span + data.draw(st.integers(0, span - 1)) for name in names}
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    told = {}
    for name, length in lengths.items():
        starts = np.flatnonzero(rng.random(length // span) < rng.choice([0.0, 0.1, 0.9, 1.0])) * span
        told[name] = (starts, rng.normal(0, 10 ** rng.uniform(-3, 3), len(starts)).astype(np.float32))
    path = written(tmp_path_factory.mktemp("bw") / "x.bw", lengths, told, span)
    assert check_bigwig(path) == lengths
    ours = open_bigwig(path)
    with pyBigWig.open(str(path)) as file, ours.file:
        assert file.chroms() == lengths
        everything = np.concatenate([values for _, values in told.values()]).astype(float)
        assert file.header()["nBasesCovered"] == span * len(everything)
        assert file.header()["sumData"] == pytest.approx(everything.sum() * span, rel=1e-9, abs=1)  # told as an integer
        for name, (starts, values) in told.items():
            found = file.values(name, 0, lengths[name], numpy=True)
            wanted = np.full(lengths[name], np.nan, np.float32)
            for start, value in zip(starts, values):
                wanted[start : start + span] = value
            assert np.array_equal(found, wanted, equal_nan=True)
            if len(starts):
                for what in ("mean", "min", "max", "coverage"):
                    exact = file.stats(name, type=what, exact=True)[0]
                    assert file.stats(name, type=what)[0] == pytest.approx(exact, rel=1e-4, abs=1e-4)
            mine = [(int(s), int(e), float(v)) for piece in ours.values(name) for s, e, v in zip(*piece)]
            expanded = np.full(lengths[name], np.nan, np.float32)
            for start, end, value in mine:
                expanded[start:end] = value
            assert np.array_equal(expanded, wanted, equal_nan=True)


def test_zoomed_out_means_are_those_of_the_values(tmp_path: Path) -> None:
    """Where pyBigWig's own files show zeros (records that fill its buffer, and the last one): here every window is right."""
    rng = np.random.default_rng(0)
    lengths = {"chr2": 3_000_000, "chr10": 2_000_000, "chr1": 700}
    told = {
        name: (np.arange(0, length - 127, 128), rng.normal(-3, 1, length // 128)) for name, length in lengths.items()
    }
    path = written(tmp_path / "x.bw", lengths, told, 128)
    with pyBigWig.open(str(path)) as file:
        assert file.header()["nLevels"] >= 5
        for name, length in lengths.items():
            for count in (1, 3, 40):
                ends = np.linspace(0, length // 128 * 128, count + 1).astype(int)
                about = file.stats(name, 0, int(ends[-1]), nBins=count)
                exact = file.stats(name, 0, int(ends[-1]), nBins=count, exact=True)
                assert np.allclose(about, exact, atol=0.15) and all(value < -2 for value in about)


def test_several_files_and_values_that_are_none(tmp_path: Path) -> None:
    paths = [tmp_path / "a.bw", tmp_path / "b.bw"]
    values = np.array([[1, np.nan], [2, 5], [np.inf, 6]])
    with BigWigs(paths, {"c": 1000}) as files:
        files.write("c", np.array([0, 128, 256]), values, 128)
    with pyBigWig.open(str(paths[0])) as one, pyBigWig.open(str(paths[1])) as other:
        assert one.intervals("c") == ((0, 128, 1.0), (128, 256, 2.0))
        assert other.intervals("c") == ((128, 256, 5.0), (256, 384, 6.0))


def test_disorder_is_refused(tmp_path: Path) -> None:
    one = np.ones((1, 1))
    with BigWigs([tmp_path / "x.bw"], {"a": 300, "b": 300}) as files:
        files.write("b", np.array([128]), one, 128)
        for contig, start in (("a", 0), ("b", 0), ("b", 100), ("b", 256), ("b", -1)):
            with pytest.raises(ValueError, match="not in order, or not within it"):
                files.write(contig, np.array([start]), one, 128)


def test_an_empty_one_opens(tmp_path: Path) -> None:
    path = written(tmp_path / "x.bw", {"a": 300}, {}, 128)
    assert check_bigwig(path) == {"a": 300}
    with pyBigWig.open(str(path)) as file:
        assert file.chroms() == {"a": 300} and file.header()["nBasesCovered"] == 0


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """Where pyBigWig dies of SIGSEGV."""

    class Full:
        def __getattr__(self, name: str) -> object:
            def full(*_: object) -> None:
                raise OSError(errno.ENOSPC, "No space left on device")

            return full

    with pytest.raises(OutputError, match="no space left"), whole_file(tmp_path / "x.bw") as place:
        with BigWigs([place], {"a": 1_000_000}) as files:
            real = files.files[0].stream
            files.files[0].stream = Full()  # type: ignore[assignment]
            try:
                files.write("a", np.arange(0, 128_000, 128), np.ones((1000, 1)), 128)
            finally:
                files.files[0].stream = real
    assert list(tmp_path.iterdir()) == []


def test_many_contigs_have_a_tree_of_several_levels(tmp_path: Path) -> None:
    lengths = {f"scaffold_{number * 7 % 70_001}": 200 + number for number in range(70_000)}
    with BigWigs([tmp_path / "x.bw"], lengths) as files:
        for name in list(lengths)[::700]:
            files.write(name, np.array([0]), np.array([[float(lengths[name])]]), 128)
    with pyBigWig.open(str(tmp_path / "x.bw")) as file:
        assert file.chroms() == lengths
        assert all(file.values(name, 5, 6) == [float(lengths[name])] for name in list(lengths)[::700])
    assert check_bigwig(tmp_path / "x.bw") == lengths
    assert contig_tree({}, 0)


@pytest.mark.filterwarnings("error")
def test_squares_that_float32_cannot_hold_are_cut_at_its_largest(tmp_path: Path) -> None:
    """Zoom records keep sums and sums of squares in float32; values do, too, and come back as they were."""
    path, starts = tmp_path / "a.bw", np.arange(0, 9000, 10)
    with BigWigs([path], {"chr1": 9000}) as file:
        file.write("chr1", starts, np.full((len(starts), 1), 3e38), 10)
    with pyBigWig.open(str(path)) as file:
        assert np.allclose(file.stats("chr1", 0, 9000, type="max"), 3e38)
        assert np.isfinite(file.stats("chr1", 0, 9000, type="sum", nBins=2)).all()
