"""All variants of a file are tested, block by block, and written as they come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from mfd_cli.base.arrays import Doubles
from mfd_cli.base.progress import Progress
from mfd_cli.base.threads import in_background
from mfd_cli.contig.core import association as core
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


def scan(folder: Path, job: Job, study: ssf.Study, progress: Progress | None) -> Found:
    """Test all variants, write those of the first run as they come, and return what is known of all."""
    variants, first = job.genotypes.variants, job.runs[0].traits
    count, traits = len(variants), job.regression.traits.shape[1]
    pcs = ssf.trait_names(first.stop)
    unfit = ssf.unfit(variants)
    fits_in = np.array([not why for why in unfit])
    reason = np.zeros(count, np.int64)
    chance, chi_square = (np.full((count, traits), np.nan, np.float32) for _ in range(2))
    least = np.full((count, len(job.runs)), np.nan)
    tables = [folder / f"{name}{ssf.SUFFIX}" for name in pcs]
    each = pa.list_(pa.float32(), len(pcs))
    per_pc = pa.schema(dict.fromkeys(("beta", "standard_error", "neg_log_10_p"), each))
    with (
        ssf.SsfTables(tables) as summaries,
        ParquetRows(folder / "minp.parquet", MINP) as minp,
        ParquetRows(folder / "per-pc.parquet", per_pc, indexed=0) as by_pc,
        in_background() as later,  # text and its packing take longer than the regressions
    ):
        for rows, dosages in job.genotypes.blocks(None, job.rows, job.settings.memory):
            fits = job.regression.fit(dosages)
            reason[rows], chance[rows], chi_square[rows] = fits.reason, fits.neg_log_10_p, fits.chi_square
            for number, run in enumerate(job.runs):
                least[rows, number] = core.least_p(fits.neg_log_10_p[:, run.traits])[0]
            good = np.flatnonzero(fits.reason == core.TESTED)
            best, which = core.least_p(fits.neg_log_10_p[good, first])
            tested = variants.take(rows[good])
            minp.write(
                {
                    "chromosome": tested.chromosome,
                    "position": tested.position,
                    "variant": tested.name,
                    "effect_allele": tested.effect_allele,
                    "other_allele": tested.other_allele,
                    "frequency": fits.frequency[good],
                    "n": fits.calls[good],
                    "pc": [pcs[index] for index in which],
                    "neg_log_10_p": best,
                }
            )
            columns = fits.beta[good, first], fits.standard_error[good, first], fits.neg_log_10_p[good, first]
            by_pc.write({name: _lists(values, each) for name, values in zip(per_pc.names, columns)})
            whole = fits_in[rows[good]]
            beta, error, p = (values[whole] for values in columns)
            kept = good[whole]
            later(summaries.write, variants.take(rows[kept]), beta, error, fits.frequency[kept], p, fits.calls[kept])
            if progress:
                progress("testing variants", int(rows[-1]) + 1, count)
    for name, path in zip(pcs, tables):
        trait = f"{name} of the image features {job.runs[0].name}, residuals as normal scores"
        ssf.write_metadata(path, trait, study, summaries.sorted)
    return Found(reason, unfit, chance, chi_square, least)


def _lists(values: Doubles, kind: pa.DataType) -> pa.Array:
    """Rows of numbers (variants, k) as an Arrow column of lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32).reshape(-1)), type=kind)
