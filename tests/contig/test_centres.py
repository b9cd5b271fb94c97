"""Worlds whose centres differ: structure that inflates a GWAS, cameras that go with it, and worlds without as they were."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kit.harm import in_process, snapshot
from mfd_cli.base.errors import ConfigError
from mfd_cli.contig.config import GwasSection, load_contig
from mfd_cli.contig.data.plink import open_plink, write_plink
from mfd_cli.contig.gwas.gwas import gwas
from mfd_cli.contig.gwas.inputs import Features
from mfd_cli.contig.simulate.centres import CENTRES, centres_of, tied_cameras
from mfd_cli.contig.simulate.options import SIZES, CohortOptions, Scale
from mfd_cli.contig.simulate.people import Born, born
from mfd_cli.contig.simulate.simulate import simulate

TABLES = (
    "covariates.tsv",
    "families.tsv",
    "genotypes.bed",
    "genotypes.bim",
    "genotypes.fam",
    "images.tsv",
)


def structured(scale: Scale, seed: int, **options: float) -> Born:
    generators = (np.random.default_rng([seed, number]) for number in range(2))
    return born(scale, CohortOptions(**options), *generators)  # type: ignore[arg-type]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_a_world_without_centres_is_what_it_was_before_there_were_any(tmp_path: Path) -> None:
    """The digest, and the mean of the pictures, were taken before this part of the simulator was written."""
    simulate(tmp_path / "p", size="tiny", seed=7)
    simulate(tmp_path / "q", size="tiny", seed=7, options=CohortOptions(confounding=0.0, structure=0.0))
    assert snapshot(tmp_path / "p") == snapshot(tmp_path / "q")
    whole = hashlib.sha256(b"".join((tmp_path / "p" / name).read_bytes() for name in TABLES))
    assert whole.hexdigest() == "96ed73dda3b1f9689d7801f15af56eeb595bb8d639f4c4dc4fba61548c8d54f7"
    first = sorted((tmp_path / "p" / "images").iterdir())[:200]
    assert np.mean([np.asarray(Image.open(path)).mean() for path in first]) == pytest.approx(
        68.89612630208333, abs=1e-3
    )
    assert not (tmp_path / "p" / "truth" / "centres.tsv").exists()


def test_populations_differ_by_the_fst_that_is_asked_for() -> None:
    people = structured(Scale(6000, 300, 2000, 10, 16), 1, structure=0.05)
    assert people.structure is not None
    population = people.structure.population
    assert (population[:600:2] == population[1:600:2]).all() and np.bincount(population).min() > 1800
    one, other = (people.copies[:, population == number] / 2 for number in (0, 1))
    p, q, n, m = one.mean(1), other.mean(1), 2 * one.shape[1], 2 * other.shape[1]
    # Hudson's estimator, as a ratio of averages (Bhatia et al. 2013).
    between = (p - q) ** 2 - p * (1 - p) / (n - 1) - q * (1 - q) / (m - 1)
    assert between.sum() / (p * (1 - q) + q * (1 - p)).sum() == pytest.approx(0.05, abs=0.005)


def test_a_latent_differs_between_populations_and_keeps_its_size() -> None:
    people = structured(Scale(6000, 300, 50, 10, 16), 2, structure=0.1, null=True)
    assert people.structure is not None
    means = np.array([people.latents[people.structure.population == number].mean(0) for number in range(len(CENTRES))])
    shift = np.sqrt((1 - 0.1) / 2 * 3 / 2)  # half of what age and sex leave, over populations at -1, 0 and 1
    assert means[:, 2] == pytest.approx([-shift, 0, shift], abs=0.07)
    assert np.abs(means[:, :2]).max() < 0.07 and people.latents.std(0) == pytest.approx([1, 1, 1], abs=0.05)


def test_cameras_go_with_the_centre_as_often_as_asked() -> None:
    people = structured(SIZES["small"], 3)
    centre = centres_of(people.latents, None)
    assert np.bincount(centre) == pytest.approx([2667, 2666, 2667], abs=1)
    assert people.latents[centre == 0, 0].max() <= people.latents[centre == 1, 0].min()
    for share in (0.0, 0.6, 1.0):
        camera = tied_cameras(centre, share, np.random.default_rng(0))
        assert (camera == centre).mean() == pytest.approx(share + (1 - share) / 3, abs=0.02)


def test_a_structured_project_says_what_is_true_of_it(tmp_path: Path) -> None:
    done = in_process(["contig", "simulate", "p", "--structure", "0.1", "--seed", "3", "-q"], tmp_path)
    assert done.code == 0, done.told
    folder = tmp_path / "p"
    truth = {row["person"]: row for row in rows_of(folder / "truth" / "centres.tsv")}
    images = rows_of(folder / "images.tsv")
    assert len(truth) == 400 and set(images[0]) == {"person", "path", "eye", "camera", "centre"}
    assert all(
        (row["centre"], row["camera"]) == (truth[row["person"]]["centre"], truth[row["person"]]["camera"])
        for row in images
    )
    text = (folder / "truth" / "truth.json").read_text()
    assert '"structure": 0.1' in text and '"confounding": 0.8' in text
    assert load_contig(folder / "contig.toml").config.factors["camera"].column == "camera"
    simulate(tmp_path / "q", size="tiny", seed=3, options=CohortOptions(structure=0.1))
    assert snapshot(folder) == snapshot(tmp_path / "q")


def test_what_no_world_can_be_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"structure is 0\.6; it must be between 0 and 0.5"):
        CohortOptions(structure=0.6)
    done = in_process(["contig", "simulate", "p", "--confounding", "1.5"], tmp_path)
    assert done.code == 2 and "confounding is 1.5; it must be between 0 and 1" in done.told
    assert not (tmp_path / "p").exists()


def test_structure_inflates_a_gwas_and_genetic_components_take_it_out(tmp_path: Path) -> None:
    """Of a true latent that no SNP moves, so that no training decides it; its world is drawn, and the same everywhere."""
    people = structured(Scale(1000, 0, 500, 10, 16), 2, structure=0.1, null=True)
    ids = tuple(f"P{number}" for number in range(1000))
    write_plink(tmp_path / "g.bed", list(ids), people.families, people.variants, people.copies.astype(np.int8))
    latent = Features("truth", ids, people.latents[:, 2:3], people.families, np.ones(1000, np.int64))
    lambdas = {}
    for count in (0, 2):
        settings = GwasSection(genetic_pcs=count, covariates=())
        out = tmp_path / str(count)
        lambdas[count] = gwas(latent, open_plink(tmp_path / "g.bed"), None, settings, out, workers=1).lambdas[0]
    assert lambdas[0] > 5 and 0.8 < lambdas[2] < 1.2
