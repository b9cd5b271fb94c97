"""MFD_*_SD: how sure the split behind a score is, of mixed heads alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pysam
import pytest
import torch

from kit import tiny
from mfd_cli.core.mixed_head import MixedHead
from mfd_cli.core.part_variances import part_variances
from mfd_cli.core.predictor import Predictor
from mfd_cli.dataset.folder import Dataset
from mfd_cli.genome.alleles import Variant
from mfd_cli.runs.folder import Run
from mfd_cli.runs.panel import panel_of, panel_variances
from mfd_cli.variants.effects import ScoreSettings
from mfd_cli.variants.options import ScoreOptions
from mfd_cli.variants.score import score_variants
from mfd_cli.variants.scorer import Scorer

ERRORS = ["MFD_BIO_SD", "MFD_TECH_SD", "MFD_RESIDUAL_SD", "MFD_DEBIASED_SD"]
PLACES = (5037, 5222, 5407)


def some_variants(dataset: Dataset) -> list[Variant]:
    bases = [dataset.genome.bases("chr2", place - 1, place) for place in PLACES]
    return [Variant("chr2", place, ref, "C" if ref != "C" else "T") for place, ref in zip(PLACES, bases)]


@pytest.fixture(scope="module")
def mixed(trained: tuple[Run, Dataset]) -> Run:
    """The tiny run with a mixed head whose variances and axes are learnt from its weights."""
    run = dataclasses.replace(trained[0], model=tiny.model(9, seed=3, model={"head": "mixed"}))
    head = run.model.head
    assert isinstance(head, MixedHead)
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(2)))
        head.curvature.fill_(50.0)
    head.learn_variances()
    head.learn_axes(torch.randn(500, head.weight.shape[1], generator=torch.Generator().manual_seed(4)))
    return run


def test_they_are_root_mean_squares_of_the_tracks_deviations(mixed: Run, trained: tuple[Run, Dataset]) -> None:
    variants, genome = some_variants(trained[1]), trained[1].genome
    scorer = Scorer(mixed)
    columns, effects = scorer.columns(variants, genome), scorer.members[0].effects(variants, genome)
    assert scorer.error_fields == ERRORS and set(scorer.info_fields) <= set(columns)
    known = part_variances(mixed.model.head, {"technical": ["technical"]})
    change = scorer.members[0].changes.of(variants, genome)[1]
    deviations = known.deviations("technical", change)
    assert np.allclose(effects.deviations["technical"], deviations) and (deviations > 0).all()
    weights = panel_of(mixed, Predictor(mixed.model).head).weights(mixed, ["technical"])
    assert np.allclose(columns["MFD_TECH_SD"], np.sqrt(deviations**2 @ weights), rtol=1e-5)
    left = part_variances(mixed.model.head, {"left": ["shared", "biological", "residual"]}).deviations("left", change)
    assert np.allclose(columns["MFD_DEBIASED_SD"], np.sqrt(left**2 @ scorer.debiased_weights), rtol=1e-5)


def test_only_a_mixed_head_knows_them(trained: tuple[Run, Dataset]) -> None:
    for head in ("conditioned", "free"):
        run = dataclasses.replace(trained[0], model=tiny.model(9, model={"head": head}))
        scorer = Scorer(run)
        assert not scorer.error_fields and not any("_SD" in name for name in scorer.column_names)


def test_of_several_models_they_are_root_mean_squares(mixed: Run, trained: tuple[Run, Dataset]) -> None:
    variants, genome = some_variants(trained[1]), trained[1].genome
    other = dataclasses.replace(mixed, model=tiny.model(9, seed=8, model={"head": "mixed"}))
    of_members = [member.effects(variants, genome) for member in Scorer([mixed, other]).members]
    both = Scorer([mixed, other]).columns(variants, genome)
    squares = np.mean([np.square(effects.deviations["biological"]) for effects in of_members], axis=0)
    weights = Scorer(mixed).group_weights["biological"]
    assert np.allclose(both["MFD_BIO_SD"], np.sqrt(squares @ weights), rtol=1e-4)


def test_a_level_that_all_have_leaves_less_doubt_than_each_its_own(mixed: Run, trained: tuple[Run, Dataset]) -> None:
    """With one assay fixed all tracks have one technical part; the average over conditions lies nearer to the mean still."""
    variants, genome = some_variants(trained[1]), trained[1].genome
    plain = Scorer(mixed).columns(variants, genome)["MFD_TECH_SD"]
    averaged = ScoreSettings(fixes=("technical=average",))
    assert (Scorer(mixed, settings=averaged).columns(variants, genome)["MFD_TECH_SD"] < plain).all()


def test_tracks_fixed_at_their_own_levels_have_their_own_deviations(mixed: Run) -> None:
    head = Predictor(mixed.model).head
    assay = mixed.model.rows[0]["Assay"]
    own, fixed = (panel_of(mixed, head, "id == P0", fixes) for fixes in ((), (f"assay={assay}",)))
    change = np.random.default_rng(3).normal(size=(5, mixed.model.settings.latent)).astype(np.float32)
    parts = {"technical": ["technical"], "biological": ["biological"]}
    one, two = (panel_variances(mixed, panel, parts) for panel in (own, fixed))
    for part in parts:
        assert np.allclose(one.deviations(part, change), two.deviations(part, change), rtol=1e-4)


def test_the_vcf_has_them_and_no_older_ones(mixed: Run, trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    dataset, lines = (
        trained[1],
        ["##fileformat=VCFv4.2", "##contig=<ID=chr2>", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"],
    )
    for variant in some_variants(dataset):
        lines.append(f"chr2\t{variant.end}\t.\t{variant.ref}\t{variant.alt}\t.\t.\tDP=7;MFD_BIO_SD=9")
    (tmp_path / "a.vcf").write_text("\n".join(lines) + "\n")
    score_variants(mixed, dataset.genome, tmp_path / "a.vcf", ScoreOptions(tmp_path / "o.vcf"))
    table = pq.read_table(tmp_path / "o.parquet").to_pydict()
    with pysam.VariantFile(str(tmp_path / "o.vcf")) as file:
        assert set(ERRORS) <= set(file.header.info)
        for row, record in enumerate(file):
            for name in ERRORS:
                assert record.info[name] == pytest.approx((table[name][row],), rel=1e-5)
    conditioned = dataclasses.replace(mixed, model=tiny.model(9, model={"head": "conditioned"}))
    score_variants(conditioned, dataset.genome, tmp_path / "o.vcf", ScoreOptions(tmp_path / "p.vcf"))
    assert "_SD" not in (tmp_path / "p.vcf").read_text() and "DP=7" in (tmp_path / "p.vcf").read_text()
