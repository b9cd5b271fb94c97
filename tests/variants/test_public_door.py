"""What a notebook needs to score variants comes through the public door, and nothing else has to be imported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from mfd_cli import ScoreOptions, Scorer, ScoreSettings, Variant, score_variants
from mfd_cli.dataset.folder import Dataset
from mfd_cli.runs.folder import Run


def test_the_door_suffices_to_score_a_variant_and_a_file(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    ref = dataset.genome.bases("chr2", 4999, 5000)
    variant = Variant("chr2", 5000, ref, "ACGT"["ACGT".index(ref) - 1])
    settings = ScoreSettings(fixes=("technical=average",))
    scored = Scorer(run, settings=settings).columns([variant], dataset.genome)
    source = tmp_path / "one.vcf"
    source.write_text(
        "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        f"chr2\t5000\t.\t{variant.ref}\t{variant.alt}\t.\t.\t.\n"
    )
    options = ScoreOptions(tmp_path / "out.vcf.gz", table=tmp_path / "out.parquet")
    score_variants(run, dataset.genome, source, options, settings=settings)
    table = pq.read_table(tmp_path / "out.parquet")
    assert np.allclose(table["MFD_MAX_DLOGIT"].to_numpy(), scored["MFD_MAX_DLOGIT"])
    assert np.allclose(table["MFD_DEBIASED"].to_numpy(), scored["MFD_DEBIASED"])
