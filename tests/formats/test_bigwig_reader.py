"""bigWig read without a library, against pyBigWig, and with every byte damaged in turn."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pyBigWig
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit import harm
from mfd_cli.base.errors import MfdError, SignalError
from mfd_cli.formats import bigwig_reader as bigwig
from mfd_cli.formats.bigwig_reader import check_bigwig, open_bigwig
from mfd_cli.formats.bin_means import bin_means

LENGTHS = {"chr1": 9000, "chr2": 1300, "chr3": 50}


def write(path: Path, kind: str, seed: int, count: int = 300) -> Path:
    """A bigWig of one kind of section, with gaps, runs shorter and longer than bins, NaN, and nothing on chr3."""
    rng = np.random.default_rng(seed)
    file = pyBigWig.open(str(path), "w")
    file.addHeader(list(LENGTHS.items()), maxZooms=2)
    for name in ("chr1", "chr2"):
        edges = np.unique(rng.integers(0, LENGTHS[name], 2 * min(count, LENGTHS[name] // 40)))
        starts, ends = edges[:-1:2], edges[1::2]
        values = rng.normal(size=len(starts)).round(3)
        values[rng.random(len(values)) < 0.1] = np.nan
        if kind == "bedgraph":
            file.addEntries([name] * len(starts), starts.tolist(), ends=ends.tolist(), values=values.tolist())
        elif kind == "variable":
            apart = starts[np.concatenate([[True], np.diff(starts) >= 7])]
            apart = apart[apart + 7 <= LENGTHS[name]]
            file.addEntries(name, apart.tolist(), values=values[: len(apart)].tolist(), span=7)
        else:
            file.addEntries(name, 3, values=values.tolist(), span=4, step=5)
    file.close()
    return path


def plain(path: Path) -> np.ndarray:
    """Bin means from pyBigWig's values, base by base."""
    means = []
    with pyBigWig.open(str(path)) as file:
        for name, length in LENGTHS.items():
            values = np.array(file.values(name, 0, length), np.float64) if length > 100 else np.full(length, np.nan)
            bins = np.nan_to_num(values)[: length // 128 * 128].reshape(-1, 128).mean(1)
            means.append(bins if (~np.isnan(values)).any() else np.full(len(bins), np.nan))
    return np.concatenate(means)


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(["bedgraph", "variable", "fixed"]),
    seed=st.integers(0, 10**6),
    group=st.sampled_from([1, 1 << 20]),
)
def test_means_are_those_of_pybigwig(
    tmp_path_factory: pytest.TempPathFactory, kind: str, seed: int, group: int
) -> None:
    path = write(tmp_path_factory.mktemp("bw") / "a.bw", kind, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bigwig, "_GROUP", group)
        assert np.allclose(bin_means(path, LENGTHS), plain(path), atol=1e-6, equal_nan=True)


@pytest.mark.filterwarnings("error")
def test_the_largest_values_of_float32_keep_their_mean(tmp_path: Path) -> None:
    """The sum over a bin is far beyond float32, the mean is not: it is summed in float64, and stored as float32."""
    largest = float(np.finfo(np.float32).max)
    with pyBigWig.open(str(tmp_path / "a.bw"), "w") as file:
        file.addHeader([("chr1", 9000)])
        file.addEntries(
            ["chr1"] * 4, [0, 600, 1280, 2000], ends=[512, 664, 1920, 2100], values=[largest, 3e38, 3e38, 1.0]
        )
    means = bin_means(tmp_path / "a.bw", {"chr1": 9000})
    assert means.dtype == np.float32 and np.isfinite(means).all()
    assert means[:4].tolist() == [largest] * 4 and np.allclose(means[10:15], 3e38)
    assert np.isclose(means[4], 3e38 * 40 / 128) and np.isclose(means[5], 3e38 * 24 / 128)


def test_no_warning_of_huge_values_reaches_the_user(tmp_path: Path) -> None:
    harm.good_project(tmp_path / "p")
    with pyBigWig.open(str(tmp_path / "p/tracks/five.bw"), "w") as file:
        file.addHeader(list(harm.CONTIGS.items()))
        for name, length in harm.CONTIGS.items():
            file.addEntries([name], [0], ends=[length], values=[3e38])
    done = harm.in_subprocess(["preprocess", "-q", "--threads", "1"], tmp_path / "p")
    assert (done.code, done.told) == (0, "")


def test_many_blocks_and_an_index_of_several_levels(tmp_path: Path) -> None:
    path, length = tmp_path / "a.bw", 3_000_000
    file = pyBigWig.open(str(path), "w")
    file.addHeader([("chr1", length)])
    values = np.random.default_rng(0).gamma(1, 2, length // 2)
    file.addEntries("chr1", 0, values=values.tolist(), span=1, step=2)
    file.close()
    whole = np.zeros(length)
    whole[::2] = values.astype(np.float32)
    assert np.allclose(
        bin_means(path, {"chr1": length}), whole[: length // 128 * 128].reshape(-1, 128).mean(1), rtol=1e-5
    )
    signal = open_bigwig(path)
    with signal.file:
        assert sum(len(piece.start) for piece in signal.values("chr1")) == length // 2


@pytest.mark.parametrize(("start", "end"), [(0, 1), (5_000, 5_001), (12_345, 30_000), (59_000, 60_000)])
def test_the_blocks_of_a_stretch_hold_what_the_contig_has_there(start: int, end: int, tmp_path: Path) -> None:
    path = tmp_path / "many.bw"
    with pyBigWig.open(str(path), "w") as file:
        file.addHeader([("chr0", 500), ("chr1", 60_000)])
        file.addEntries("chr1", 0, values=np.arange(60_000, dtype=np.float64), span=1, step=1)
    signal = open_bigwig(path)
    with signal.file:
        pieces = list(signal.values("chr1", start, end))
        assert sum(len(piece.start) for piece in signal.values("chr1")) == 60_000
    found = {int(s): float(v) for piece in pieces for s, v in zip(piece.start, piece.value)}
    assert set(range(start, end)) <= set(found) and all(found[place] == place for place in found)
    assert len(found) < (end - start) + 10_000


def test_every_damaged_byte_is_an_error_or_other_numbers(tmp_path: Path) -> None:
    """Never a crash, never an error that is not ours."""
    good = write(tmp_path / "good.bw", "bedgraph", 1, 60).read_bytes()
    bad, told = tmp_path / "bad.bw", 0
    for position in range(len(good)):
        changed = bytearray(good)
        changed[position] ^= 0xFF
        bad.write_bytes(changed)
        try:
            bin_means(bad, LENGTHS)
        except MfdError as error:
            told += 1
            assert str(error)
    assert told > len(good) // 3
    for length in range(0, len(good), 37):
        bad.write_bytes(good[:length])
        with pytest.raises(SignalError):
            bin_means(bad, LENGTHS)


def test_isal_reads_the_same_numbers_and_refuses_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isal = pytest.importorskip("isal.isal_zlib")
    good = write(tmp_path / "good.bw", "bedgraph", 1, 60).read_bytes()
    bad, refused = tmp_path / "bad.bw", 0

    def outcome(inflater: object) -> str:
        monkeypatch.setattr(bigwig, "_inflater", inflater)
        try:
            return bin_means(bad, LENGTHS).tobytes().hex()
        except MfdError as error:
            return str(error)

    for position in [None, *range(len(good))]:
        changed = bytearray(good)
        if position is not None:
            changed[position] ^= 0xFF
        bad.write_bytes(changed)
        ours = outcome(zlib)
        assert outcome(isal) == ours
        refused += "damaged block of values" in ours
    assert refused > 100


def test_values_that_overlap_or_leave_the_contig_are_told(tmp_path: Path) -> None:
    good = write(tmp_path / "good.bw", "bedgraph", 1)
    assert check_bigwig(good) == LENGTHS
    signal = open_bigwig(good)
    signal.contigs["chr1"] = 100
    with signal.file, pytest.raises(SignalError, match="beyond the end of the contig at chr1:101-123"):
        list(signal.values("chr1"))
