"""`mfd embed --h5ad`: latents as AnnData, the same numbers as in the table, and what is known of rows and columns."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import mfd_cli
from kit import tiny
from kit.harm import in_process
from kit.needed import Later, needs
from mfd_cli.base.errors import RegionError
from mfd_cli.dataset.folder import Dataset
from mfd_cli.predictions import embed as module
from mfd_cli.predictions.embed import embed, latent_names
from mfd_cli.runs.folder import Run

pytestmark = needs("anndata", "h5ad")
anndata = Later("anndata")

BED = "chr2\t1000\t1100\tone\nchr2\t1000\t1100\tone\n2\t5000\t5300\t<b>\nchr1\t0\t1\n"


def test_the_file_holds_the_table(
    trained: tuple[Run, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, dataset = trained
    (tmp_path / "r.bed").write_text(BED)
    monkeypatch.setattr(module, "REGIONS_AT_ONCE", 3)
    summary = embed(
        run, dataset.genome, tmp_path / "r.bed", tmp_path / "l.parquet", h5ad=tmp_path / "l.h5ad", aggregate="max"
    )
    assert summary.lines()[1:] == [f"wrote {tmp_path / 'l.parquet'}", f"wrote {tmp_path / 'l.h5ad'}"]
    table, read = pq.read_table(tmp_path / "l.parquet"), anndata.read_h5ad(tmp_path / "l.h5ad")
    names = latent_names(run)
    assert (np.stack([table[name].to_numpy() for name in names], axis=1) == read.X).all() and read.X.std() > 0
    assert list(read.obs_names) == ["chr2:1001-1100", "chr2:1001-1100-2", "chr2:5001-5300", "chr1:1-1"]
    for name in ("line", "contig", "start", "end", "name", "gc"):
        assert read.obs[name].tolist() == table[name].to_pylist()
    assert list(read.var_names) == names and read.var["latent"].tolist() == list(range(len(names)))
    about = read.uns["mfd"]
    assert (about["model"], about["genome"]) == (run.digest, dataset.genome.digest())
    assert (about["version"], about["aggregate"], about["renamed"]) == (
        mfd_cli.__version__,
        "max",
        '{"var": {}, "obs": {}}',
    )


def test_each_latent_says_which_groups_act_on_it(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    embed(run, dataset.genome, "chr2:1001-1100", tmp_path / "l.parquet", h5ad=tmp_path / "l.h5ad")
    var = anndata.read_h5ad(tmp_path / "l.h5ad").var
    for group, place in run.model.slices.items():
        acting = var["groups"].astype(str).str.split(",").map(lambda groups, group=group: group in groups)
        assert acting.to_numpy().nonzero()[0].tolist() == list(range(place.start, place.stop))


def test_both_files_or_none(trained: tuple[Run, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, dataset = trained
    (tmp_path / "r.bed").write_text(BED)
    monkeypatch.setattr(module, "REGIONS_AT_ONCE", 3)
    whole, turns = module.embedded, iter(range(9))

    def failing(*words: object) -> object:
        if next(turns):
            raise RegionError("the second time")
        return whole(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "embedded", failing)
    with pytest.raises(RegionError, match="the second time"):
        embed(run, dataset.genome, tmp_path / "r.bed", tmp_path / "l.parquet", h5ad=tmp_path / "l.h5ad")
    assert [path.name for path in tmp_path.iterdir()] == ["r.bed"]


def test_through_the_command(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    folder = shutil.copytree(trained[0].path.parent, tmp_path / "p")
    (folder / "mfd.toml").write_text(tiny.TOML)
    words = ["embed", "chr1:1001-2000", "--h5ad", "l.h5ad", "--gpus", "0", "--threads", "1", "-q"]
    done = in_process([*words, "--json"], folder)
    assert done.code == 0, done.told
    assert json.loads(done.said)["h5ad"] == "l.h5ad" and anndata.read_h5ad(folder / "l.h5ad").n_obs == 1
    done = in_process([*words, "-o", "other.parquet"], folder)
    assert done.code == 2 and "l.h5ad: exists already" in done.told and not (folder / "other.parquet").exists()
    done = in_process([*words[:2], "--h5ad", "l.h5", *words[4:]], folder)
    assert done.code == 2 and "l.h5: an AnnData file is written, whose name must end in .h5ad" in done.told
