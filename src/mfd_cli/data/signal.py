"""bigWig signal to bin means.

The mean of a bin is over all its 128 bases, those without data counting as zero ("mean0" of the UCSC tools): bigWig
files of coverage leave zeros out. A contig on which the file has no data at all was not measured: NaN.

pyBigWig crashes on damaged files, so `check_bigwig` reads the header and the list of contigs first, and the reading is
done in worker processes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mfd_cli.data.sequence import match_contigs
from mfd_cli.data.tracks import BIN
from mfd_cli.errors import GenomeError, SignalError
from mfd_cli.files import check_input

_MAGIC = 0x888FFC26
_TREE_MAGIC = 0x78CA8C91
_INDEX_MAGIC = 0x2468ACE0
_CHUNK = 8192 * BIN
"""Bases read at once: about 1 Mb."""


def check_bigwig(path: Path) -> dict[str, int]:
    """Contig names and lengths of a bigWig, read without any library. SignalError where the file is damaged."""
    check_input(path, SignalError)
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(64)
        if len(header) < 64:
            raise SignalError(f"is too short to be a bigWig ({size} bytes)", path=path)
        magic, version, zooms, tree, data, index = struct.unpack("<IHHQQQ", header[:32])
        if magic == int.from_bytes(_MAGIC.to_bytes(4, "little"), "big"):
            raise SignalError("is a big-endian bigWig, which is not supported", path=path)
        if magic != _MAGIC:
            raise SignalError("is not a bigWig file", path=path)
        if not (1 <= version <= 4 and zooms <= 64 and 64 <= tree < size and 64 <= data < size and 64 <= index < size):
            raise SignalError("has a damaged header, or was cut short", path=path)
        file.seek(size - 4)
        if struct.unpack("<I", file.read(4))[0] != _MAGIC:
            raise SignalError("was cut short (its closing mark is missing)", path=path)
        file.seek(index)
        if struct.unpack("<I", file.read(4))[0] != _INDEX_MAGIC:
            raise SignalError("has a damaged index", path=path)
        file.seek(tree)
        return _contigs(file.read(min(size - tree, 1 << 26)), tree, path)


def _contigs(raw: bytes, base: int, path: Path) -> dict[str, int]:
    """Walk the tree of contigs, trusting nothing."""
    damaged = SignalError("has a damaged list of contigs", path=path)
    try:
        magic, _, key, value, count = struct.unpack_from("<IIIIQ", raw)
        if magic != _TREE_MAGIC or not 1 <= key <= 255 or value != 8 or count == 0:
            raise damaged
        found: dict[int, tuple[str, int]] = {}
        nodes, seen = [(32, 0)], set[int]()
        while nodes:
            at, depth = nodes.pop()
            if at in seen or depth > 8:
                raise damaged
            seen.add(at)
            leaf, _, items = struct.unpack_from("<BBH", raw, at)
            if leaf not in (0, 1) or items == 0:
                raise damaged
            for item in range(items):
                place = at + 4 + item * (key + 8)
                if leaf:
                    name = raw[place : place + key].rstrip(b"\0").decode("ascii")
                    number, length = struct.unpack_from("<II", raw, place + key)
                    if number in found or number >= count or not name:
                        raise damaged
                    found[number] = (name, length)
                else:
                    nodes.append((struct.unpack_from("<Q", raw, place + key)[0] - base, depth + 1))
    except (struct.error, UnicodeDecodeError) as error:
        raise damaged from error
    contigs = {name: length for _, (name, length) in sorted(found.items())}
    if len(found) != count or len(contigs) != count:
        raise damaged
    return contigs


def bin_means(path: Path, lengths: Mapping[str, int]) -> NDArray[np.float32]:
    """Mean signal of every bin of a genome, (bins,) float32, uncovered bases as zero; NaN on contigs without data.

    Raises GenomeError where no contig is shared or a contig has another length, SignalError for a damaged file or an
    infinite value.
    """
    import pyBigWig

    contigs = check_bigwig(path)
    mapping = {ours: theirs for theirs, ours in match_contigs(contigs, lengths, str(path)).items()}
    for ours, theirs in mapping.items():
        if contigs[theirs] != lengths[ours]:
            raise GenomeError(
                f"has {contigs[theirs]:,} bp for {theirs}, the genome {lengths[ours]:,}",
                path=path, hint="the file belongs to another assembly",
            )  # fmt: skip
    try:
        file = pyBigWig.open(str(path))
    except RuntimeError as error:
        raise SignalError("cannot be opened as a bigWig", path=path) from error
    try:
        covered = file.header()["nBasesCovered"]
        means = [_contig_means(file, mapping.get(name), length, path) for name, length in lengths.items()]
    except RuntimeError as error:
        raise SignalError("is damaged: its values cannot be read", path=path) from error
    finally:
        file.close()
    result = np.concatenate(means) if means else np.zeros(0, np.float32)
    if covered and np.isnan(result).all():
        raise SignalError("says that it has data, but none can be read", path=path)
    return result


def _contig_means(file: object, name: str | None, length: int, path: Path) -> NDArray[np.float32]:
    means = np.full(length // BIN, np.nan, np.float32)
    if name is None:
        return means
    any_data = False
    for low in range(0, len(means) * BIN, _CHUNK):
        high = min(low + _CHUNK, len(means) * BIN)
        values = file.values(name, low, high, numpy=True)  # type: ignore[attr-defined]
        wrong = np.flatnonzero(np.isinf(values))
        if len(wrong):
            raise SignalError(f"has an infinite value at {name}:{low + wrong[0]}", path=path)
        known = ~np.isnan(values)
        any_data |= bool(known.any())
        sums = np.where(known, values, 0).reshape(-1, BIN).sum(1, dtype=np.float64)
        means[low // BIN : high // BIN] = sums / BIN
    if not any_data:
        means[:] = np.nan
    return means
