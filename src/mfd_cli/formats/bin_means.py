"""bigWig signal to bin means.

The mean of a bin is over all its 128 bases, those without data counting as zero ("mean0" of the UCSC tools): bigWig
files of coverage leave zeros out. A contig on which the file has no data at all was not measured: NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mfd_cli.base.arrays import Doubles, Floats
from mfd_cli.base.errors import GenomeError, SignalError, few
from mfd_cli.formats.bigwig_reader import BigWig, Values, open_bigwig
from mfd_cli.genome.grid import BIN, SHIFT, expand
from mfd_cli.genome.sequence import match_contigs

_ANOTHER = "the file belongs to another assembly"


def bin_means(path: Path, lengths: Mapping[str, int]) -> Floats:
    """Return the mean signal of every bin of a genome, (bins,) float32, uncovered bases as zero; NaN on contigs without data.

    Raises GenomeError where no contig is shared or a contig has another length, SignalError for a damaged file, an infinite
    value, or values on none of the genome's contigs.
    """
    return bin_means_and_names(path, lengths)[0]


def bin_means_and_names(path: Path, lengths: Mapping[str, int]) -> tuple[Floats, dict[str, str]]:
    """Return what `bin_means` does, and the file's name of each of the genome's contigs that it has. Raises what it raises."""
    signal = open_bigwig(path)
    with signal.file:
        mapping = _names_in_file(signal, lengths)
        for ours, theirs in mapping.items():
            if signal.contigs[theirs] != lengths[ours]:
                raise GenomeError(
                    f"has {signal.contigs[theirs]:,} bp for {theirs}, the genome {lengths[ours]:,}",
                    path=path,
                    hint=_ANOTHER,
                )
        means = [_contig_means(signal, mapping.get(name), length // BIN) for name, length in lengths.items()]
        result = np.concatenate(means) if means else np.zeros(0, np.float32)
        if len(result) and np.isnan(result).all():
            raise _measured_nowhere(signal, lengths)
    return result, mapping


def _names_in_file(signal: BigWig, lengths: Mapping[str, int]) -> dict[str, str]:
    """Return the file's name of each of the genome's contigs that it has. GenomeError where it has one under two names."""
    names: dict[str, str] = {}
    for theirs, ours in match_contigs(signal.contigs, lengths, str(signal.path)).items():
        if ours in names:
            raise GenomeError(f"has both {names[ours]} and {theirs}, which are the same contig", path=signal.path)
        names[ours] = theirs
    return names


def _measured_nowhere(signal: BigWig, lengths: Mapping[str, int]) -> SignalError:
    """Return the error for a file of which no value lies in a bin: a header may list contigs on which there is nothing."""
    with_values = set(signal.blocks["first"].tolist())
    names = [name for name, number in signal.numbers.items() if number in with_values]
    against = f" ({few(names)} against {few(sorted(lengths))})" if names else ""
    return SignalError(f"has no values on any contig of the genome{against}", path=signal.path, hint=_ANOTHER)


def _contig_means(signal: BigWig, name: str | None, bins: int) -> Floats:
    """Return the means of a contig's bins, (bins,); NaN where the file lacks the contig (None) or has no values on it."""
    sums, any_data = np.zeros(bins), False
    for values in signal.values(name) if name is not None else ():
        any_data = True
        _add(sums, values)
    # A mean of float32 values is one itself, however large they are: only their sum is not.
    return (sums / BIN).astype(np.float32) if any_data else np.full(bins, np.nan, np.float32)


def _add(sums: Doubles, values: Values) -> None:
    """Add each run's value times the bases that it shares with each bin.

    A run has up to three parts: what lies in its first bin, the bins that it fills, and what lies in its last.
    """
    start, end, value = values.start, values.end, values.value.astype(np.float64)  # 128 times 3e38 is beyond float32
    first, last = start >> SHIFT, end - 1 >> SHIFT
    low, count = int(first[0]), int(last[-1] - first[0]) + 1
    bases_in_first = end - start
    wide = np.flatnonzero(last != first)
    bases_in_first[wide] = (first[wide] + 1 << SHIFT) - start[wide]
    added = np.bincount(first - low, value * bases_in_first, count)
    if len(wide):
        wide_first, wide_last, wide_value = first[wide], last[wide], value[wide]
        added += np.bincount(wide_last - low, wide_value * (end[wide] - (wide_last << SHIFT)), count)
        long = np.flatnonzero(wide_last > wide_first + 1)
        filled = expand(wide_first[long] + 1, wide_last[long] - 1)
        times = (wide_last - wide_first - 1)[long]
        added += np.bincount(filled - low, np.repeat(wide_value[long], times) * BIN, count)
    fits = min(count, len(sums) - low)  # the last bases of a contig may make no whole bin
    if fits > 0:
        sums[low : low + fits] += added[:fits]
