"""The true change of a variant whose motif acts on other bins, against the whole contig scored twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mfd_cli.genome.sequence import encode
from mfd_cli.simulate.causes import genome_causes
from mfd_cli.simulate.options import SIZES, SimulateOptions
from mfd_cli.simulate.planted import planted_motifs
from mfd_cli.simulate.planted_variants import make_variants
from mfd_cli.simulate.true_parts import true_parts
from mfd_cli.simulate.world import make_world

OPTIONS = SimulateOptions(
    correlation=0.0, overlap=0.0, distance=400, interaction=0.5, technique_interaction=0.3, residual=0.3
)


@pytest.mark.slow
def test_every_bin_that_a_variant_reaches_has_its_true_change() -> None:
    scale = replace(SIZES["tiny"], bins_per_contig=400, variants=24)
    world = make_world(scale, OPTIONS, np.random.default_rng(1))
    variants = make_variants(world.genome, world.tracks, scale, OPTIONS, np.random.default_rng(1))
    assert {variant["kind"] for variant in variants} == {"biological", "technical", "shared", "none"}
    elsewhere = 0
    for variant in variants:
        codes, start = world.genome[variant["chrom"]], variant["pos"] - 1
        end = start + len(variant["ref"])
        changed = np.concatenate([codes[:start], encode(variant["alt"]), codes[end:]])
        changed = np.concatenate([changed, np.zeros(len(codes) - len(changed), np.uint8)])
        before, after = (
            true_parts(genome_causes({"": some}, planted_motifs(), OPTIONS.distance), world.tracks, OPTIONS).total()
            for some in (codes, changed)
        )
        difference = after - before
        for step in range(-4, 5):
            row = difference[start // 128 + step]
            told = variant[f"true_total_bin{step:+d}"] if step else variant["true_total"]
            assert told == pytest.approx(row[np.abs(row).argmax()], abs=1e-5)
            elsewhere += bool(step and abs(told) > 0.3)
        if len(variant["ref"]) == len(variant["alt"]):  # a deletion moves all that is behind it
            assert np.abs(np.delete(difference, np.arange(-4, 5) + start // 128, 0)).max() == 0
    assert elsewhere > 10
