"""bigWig signal to bin means.

The mean of a bin is over all its 128 bases, those without data counting as zero ("mean0" of the UCSC tools): bigWig
files of coverage leave zeros out. A contig on which the file has no data at all was not measured: NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mfd_cli.base.arrays import Doubles, Floats
from mfd_cli.base.errors import GenomeError, SignalError
from mfd_cli.formats.bigwig_reader import BigWig, Values, open_bigwig
from mfd_cli.genome.grid import BIN, SHIFT, expand
from mfd_cli.genome.sequence import match_contigs


def bin_means(path: Path, lengths: Mapping[str, int]) -> Floats:
    """Mean signal of every bin of a genome, (bins,) float32, uncovered bases as zero; NaN on contigs without data.

    Raises GenomeError where no contig is shared or a contig has another length, SignalError for a damaged file or an
    infinite value.
    """
    signal = open_bigwig(path)
    with signal.file:
        mapping = _named_alike(signal, lengths)
        for ours, theirs in mapping.items():
            if signal.contigs[theirs] != lengths[ours]:
                raise GenomeError(
                    f"has {signal.contigs[theirs]:,} bp for {theirs}, the genome {lengths[ours]:,}",
                    path=path,
                    hint="the file belongs to another assembly",
                )
        means = [_contig_means(signal, mapping.get(name), length // BIN) for name, length in lengths.items()]
    result = np.concatenate(means) if means else np.zeros(0, np.float32)
    if len(result) and np.isnan(result).all():
        raise SignalError("has no values on any contig of the genome", path=path)
    return result


def _named_alike(signal: BigWig, lengths: Mapping[str, int]) -> dict[str, str]:
    """The file's name of each of the genome's contigs that it has. GenomeError where it has one under two names."""
    found: dict[str, str] = {}
    for theirs, ours in match_contigs(signal.contigs, lengths, str(signal.path)).items():
        if ours in found:
            raise GenomeError(f"has both {found[ours]} and {theirs}, which are the same contig", path=signal.path)
        found[ours] = theirs
    return found


def _contig_means(signal: BigWig, name: str | None, bins: int) -> Floats:
    sums, any_data = np.zeros(bins), False
    for values in signal.values(name) if name is not None else ():
        any_data = True
        _add(sums, values)
    return (sums / BIN).astype(np.float32) if any_data else np.full(bins, np.nan, np.float32)


def _add(sums: Doubles, values: Values) -> None:
    """Add each run's value times the bases that it shares with each bin."""
    start, end, value = values
    first, last = start >> SHIFT, end - 1 >> SHIFT
    low, count = int(first[0]), int(last[-1] - first[0]) + 1
    bases = end - start
    wide = np.flatnonzero(last != first)  # those that go on in later bins: here, only what lies in the first
    bases[wide] = (first[wide] + 1 << SHIFT) - start[wide]
    whole = np.bincount(first - low, value * bases, count)
    if len(wide):
        begun, ended, of_wide = first[wide], last[wide], value[wide]
        whole += np.bincount(ended - low, of_wide * (end[wide] - (ended << SHIFT)), count)
        long = np.flatnonzero(ended > begun + 1)  # and these fill whole bins on the way
        places = expand(begun[long] + 1, ended[long] - 1)
        whole += np.bincount(places - low, np.repeat(of_wide[long], (ended - begun - 1)[long]) * BIN, count)
    fits = min(count, len(sums) - low)  # the last bases of a contig may make no whole bin
    if fits > 0:
        sums[low : low + fits] += whole[:fits]
