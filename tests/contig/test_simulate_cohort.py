"""The planted cohort: its truth is as declared, and the same seed gives the same bytes."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest

from kit.harm import snapshot
from mfd_cli.base.errors import ConfigError, OutputError
from mfd_cli.contig.simulate.fundus import Eyes, drawn, moved_pixels, painted
from mfd_cli.contig.simulate.options import SIZES, CohortOptions
from mfd_cli.contig.simulate.people import BLOCK, born
from mfd_cli.contig.simulate.simulate import simulate


def test_genes_explain_what_they_are_said_to() -> None:
    people = born(SIZES["small"], CohortOptions(h2=0.49), np.random.default_rng(1))
    for number, rows in enumerate(people.causal):
        dosage = people.copies[rows].T.astype(float)
        columns = np.column_stack([dosage, people.age, people.sex, np.ones(len(dosage))])
        latent = people.latents[:, number]
        rest = latent - columns @ np.linalg.lstsq(columns, latent, rcond=None)[0]
        assert abs(rest.var() - 0.41) < 0.03  # 1 - 0.49 - 0.1
        alone = np.corrcoef(dosage[:, 0], latent)[0, 1] ** 2
        assert abs(alone - 0.245) < 0.04
        assert abs(latent.std() - 1) < 0.05


def test_blocks_are_linked_and_siblings_share_half() -> None:
    people = born(SIZES["small"], CohortOptions(), np.random.default_rng(2))
    copies = people.copies.astype(float)
    r = np.corrcoef(copies)
    same = np.arange(len(r)) // BLOCK
    within = r[(same[:, None] == same[None, :]) & ~np.eye(len(r), dtype=bool)]
    across = r[same[:, None] != same[None, :]]
    assert within.mean() > 0.3 and abs(across.mean()) < 0.01
    standard = (copies - copies.mean(1, keepdims=True)) / copies.std(1, keepdims=True)
    first, second = standard[:, 0 : 2 * 600 : 2], standard[:, 1 : 2 * 600 : 2]
    assert abs((first * second).mean() - 0.5) < 0.05
    assert len(set(people.families)) == 8_000 - 600


def test_causes_lie_where_they_may() -> None:
    people = born(SIZES["small"], CohortOptions(), np.random.default_rng(3))
    chromosomes = np.array(people.variants.chromosome, int)[people.causal]
    assert chromosomes.max() <= 6 and len(np.unique(people.causal // BLOCK)) == 6
    assert not born(SIZES["tiny"], CohortOptions(null=True), np.random.default_rng(3)).effects.any()


def test_pictures_show_the_latents_and_right_eyes_are_mirrored() -> None:
    rng = np.random.default_rng(4)
    latents = np.zeros((2, 3))
    left, right = drawn(Eyes(latents, np.array([False, True]), np.array([0, 0])), 32, 0.0, rng)
    assert np.array_equal(left, right[:, ::-1])
    masks = moved_pixels(32)
    for number in range(3):
        change = np.zeros((1, 3))
        change[0, number] = 1.0
        moved = np.abs(painted(change, 32) - painted(-change, 32))[0].max(2) > 0.04
        assert np.array_equal(moved, masks[number] > 0) and 0.02 < masks[number].mean() < 0.6


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        simulate(tmp_path / name, size="tiny", seed=7)
    simulate(tmp_path / "other", size="tiny", seed=8)
    one, two, other = (snapshot(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two and one != other
    with (tmp_path / "one" / "images.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == 800 and {row["eye"] for row in rows} == {"left", "right"}
    assert hashlib.sha256((tmp_path / "one" / rows[0]["path"]).read_bytes()).hexdigest()


def test_what_cannot_be_simulated_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="size is 'smal'; did you mean small"):
        simulate(tmp_path / "a", size="smal")
    with pytest.raises(ConfigError, match=r"h2 is 0\.95"):
        CohortOptions(h2=0.95)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError):
        simulate(tmp_path / "b")
