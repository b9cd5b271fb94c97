"""All variants of a file are tested, block by block, and written as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from mfd_cli.base.arrays import Doubles, Ints
from mfd_cli.base.progress import Progress
from mfd_cli.base.threads import in_background, usable_cores
from mfd_cli.contig.core import association as core
from mfd_cli.contig.data.plink import Variants
from mfd_cli.contig.gwas import ssf
from mfd_cli.contig.gwas.job import Found, Job
from mfd_cli.formats.tables import ParquetRows

MINP = pa.schema(
    {
        "chromosome": pa.string(), "position": pa.int64(), "variant": pa.string(), "effect_allele": pa.string(),
        "other_allele": pa.string(), "frequency": pa.float64(), "n": pa.int64(), "pc": pa.string(),
        "neg_log_10_p": pa.float64(),
    }
)  # fmt: skip
PER_PC = ("beta", "standard_error", "neg_log_10_p")
MOST_WORKERS = 4
"""Each holds a block, and one more is read ahead."""


def scan(folder: Path, job: Job, study: ssf.Study, workers: int | None, progress: Progress | None) -> Found:
    """Test all variants, write those of the first run as they come, and return what is known of all.

    `workers` threads test a block each (default: one for each core that may be used, 4 at most).
    """
    variants, count = job.genotypes.variants, len(job.genotypes.variants)
    traits, pcs = job.regression.traits.shape[1], ssf.trait_names(job.runs[0].traits.stop)
    unfit = ssf.unfit(variants)
    fits_in = np.array([not why for why in unfit])
    reason = np.zeros(count, np.int64)
    chance, chi_square = (np.full((count, traits), np.nan, np.float32) for _ in range(2))
    least = np.full((count, len(job.runs)), np.nan)
    each = pa.list_(pa.float32(), len(pcs))
    tables = [folder / f"{name}{ssf.SUFFIX}" for name in pcs]
    with (
        ssf.SsfTables(tables) as summaries,
        ParquetRows(folder / "minp.parquet", MINP) as minp,
        ParquetRows(folder / "per-pc.parquet", pa.schema(dict.fromkeys(PER_PC, each)), indexed=0) as per_pc,
        in_background() as later,  # text and its packing take longer than the regressions
    ):
        for rows, fits in fitted(job, min(workers or usable_cores(), MOST_WORKERS)):
            reason[rows], chance[rows], chi_square[rows] = fits.reason, fits.neg_log_10_p, fits.chi_square
            for number, run in enumerate(job.runs):
                least[rows, number] = core.least_p(fits.neg_log_10_p[:, run.traits])[0]
            good = np.flatnonzero(fits.reason == core.TESTED)
            one = fits.of(good, job.runs[0].traits)
            minp.write(_least_columns(variants.take(rows[good]), one, pcs))
            per_pc.write({name: _lists(getattr(one, name), each) for name in PER_PC})
            kept = good[fits_in[rows[good]]]
            later(summaries.write, variants.take(rows[kept]), fits.of(kept, job.runs[0].traits))
            if progress:
                progress("testing variants", int(rows[-1]) + 1, count)
    for name, path in zip(pcs, tables):
        trait = f"{name} of the image features {job.runs[0].name}, residuals as normal scores"
        ssf.write_metadata(path, trait, study, summaries.sorted)
    return Found(reason, unfit, chance, chi_square, least)


def fitted(job: Job, workers: int) -> Iterator[tuple[Ints, core.Fits]]:
    """Yield the rows and the regressions of all variants, block by block and in order; each worker has a block of its own.

    BLAS uses one thread in each: several of them waiting for each other take longer than one. So the numbers do not depend on
    how many cores there are.
    """
    waiting: deque[tuple[Ints, Future[core.Fits]]] = deque()
    with threadpool_limits(1), ThreadPoolExecutor(workers) as pool:
        for rows, dosages in job.genotypes.blocks(None, job.rows, job.settings.memory):
            waiting.append((rows, pool.submit(job.regression.fit, dosages)))
            if len(waiting) > workers:
                rows, fits = waiting.popleft()
                yield rows, fits.result()
        for rows, fits in waiting:
            yield rows, fits.result()


def _least_columns(tested: Variants, fits: core.Fits, pcs: Sequence[str]) -> dict[str, Any]:
    """The columns of minp.parquet."""
    best, which = core.least_p(fits.neg_log_10_p)
    return {
        "chromosome": tested.chromosome,
        "position": tested.position,
        "variant": tested.name,
        "effect_allele": tested.effect_allele,
        "other_allele": tested.other_allele,
        "frequency": fits.frequency,
        "n": fits.calls,
        "pc": [pcs[index] for index in which],
        "neg_log_10_p": best,
    }


def _lists(values: Doubles, kind: pa.DataType) -> pa.Array:
    """Rows of numbers (variants, k) as an Arrow column of lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32).reshape(-1)), type=kind)
