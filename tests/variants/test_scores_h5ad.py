"""`mfd score-variants --h5ad`: each track's change as AnnData, beside the numbers of the Parquet table."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mfd_cli
from kit import tiny
from kit.harm import in_process
from kit.needed import Later, needs
from mfd_cli.base.errors import VariantError
from mfd_cli.dataset.folder import Dataset
from mfd_cli.runs.folder import Run
from mfd_cli.variants import records
from mfd_cli.variants.effects import ScoreSettings
from mfd_cli.variants.h5ad_scores import H5adScores
from mfd_cli.variants.options import ScoreOptions
from mfd_cli.variants.score import score_variants
from mfd_cli.variants.scorer import Scorer

pytestmark = needs("anndata", "h5ad")
anndata = Later("anndata")

HEADER = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def write_vcf(path: Path, dataset: Dataset, positions: list[int]) -> Path:
    lines = []
    for position in positions:
        ref = dataset.genome.bases("chr2", position - 1, position)
        lines.append(f"chr2\t{position}\tv{position}\t{ref}\t{'ACGT'['ACGT'.index(ref) - 1]}\t.\t.\t.\n")
    path.write_text(HEADER + "".join(lines) + f"chr2\t{positions[-1] + 1}\t.\tA\t<DEL>\t.\t.\t.\n")
    return path


@pytest.mark.parametrize("per_track", [True, False])
def test_the_file_holds_each_tracks_change(
    per_track: bool, trained: tuple[Run, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, dataset = trained
    monkeypatch.setattr(records, "CHUNK", 2)
    source = write_vcf(tmp_path / "a.vcf", dataset, [500, 700, 700, 900, 1200])
    options = ScoreOptions(tmp_path / "o.vcf.gz", per_track=per_track, h5ad=tmp_path / "o.h5ad")
    settings = ScoreSettings(tracks="kind == peaks", fixes=("assay=ChIP-seq",))
    summary = score_variants(run, dataset.genome, source, options, settings=settings)
    assert tmp_path / "o.h5ad" in summary.outputs and summary.scored == 5
    table, read = pq.read_table(tmp_path / "o.parquet"), anndata.read_h5ad(tmp_path / "o.h5ad")
    scorer = Scorer(run, settings=settings)
    tracks = scorer.panel.ids.tolist()
    assert list(read.var_names) == tracks and read.shape == (5, len(tracks)) and len(tracks) < len(run.tracks)
    of_tracks = [name for name in table.column_names if name.startswith("track.")]
    assert of_tracks == [f"track.{name}" for name in tracks] * per_track
    for name in of_tracks:
        assert (read.X[:, tracks.index(name.removeprefix("track."))] == table[name].to_numpy()).all()
    top = [read.X[row, tracks.index(name)] for row, name in enumerate(table["MFD_TRACK"].to_pylist())]
    assert np.allclose(top, table["MFD_MAX_DLOGIT"].to_numpy(), atol=1e-6) and np.abs(top).max() > 0
    others = [name for name in table.column_names if name not in of_tracks]
    renamed = json.loads(read.uns["mfd"]["renamed"])["obs"]
    assert [renamed.get(name, name) for name in read.obs.columns] == others
    for name, column in read.obs.items():
        expected = table[renamed.get(name, name)].to_pylist()
        assert np.array_equal(column.tolist(), expected, equal_nan=column.dtype.kind == "f")
    keys = table["key"].to_pylist()
    assert list(read.obs_names) == [*keys[:2], f"{keys[2]}-2", *keys[3:]]
    assert set(read.var["kind"].astype(str)) == {"peaks"} and set(read.var["Assay"].astype(str)) == {"ChIP-seq"}
    assert read.var["Target"].tolist() == [row["Target"] for row in scorer.panel.rows]
    about = read.uns["mfd"]
    assert (about["model"], about["genome"]) == (run.digest, dataset.genome.digest())
    assert about["version"] == mfd_cli.__version__ and json.loads(about["settings"])["fix"] == ["assay=ChIP-seq"]


def test_metadata_with_names_of_our_own_and_names_that_cannot_be(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    panel = Scorer(trained[0]).panel
    rows = [
        {"kind": f"k{i}", "Lab/Name": f"/labs/{i}/", "_index": str(i), "support": ""} for i in range(len(panel.rows))
    ]
    schema = pa.schema([("key", pa.string()), ("level.lab=/labs/1/", pa.float32())], metadata={"mfd_version": "1"})
    file = H5adScores(tmp_path / "a.h5ad", dataclasses.replace(panel, rows=rows), schema)
    with file.rows:
        changes = {f"track.{name}": np.zeros(1, np.float32) for name in panel.ids}
        file.write({"key": ["x"], "level.lab=/labs/1/": [0.5], **changes})
    read = anndata.read_h5ad(tmp_path / "a.h5ad")
    assert list(read.var.columns) == ["kind", "support", "kind-2", "Lab_Name", "_index_", "support-2"]
    assert read.var["Lab_Name"].tolist()[:2] == ["/labs/0/", "/labs/1/"] and read.var["kind-2"].tolist()[1] == "k1"
    assert read.obs["level.lab=_labs_1_"].tolist() == [0.5]
    assert json.loads(read.uns["mfd"]["renamed"]) == {
        "var": {"kind-2": "kind", "Lab_Name": "Lab/Name", "_index_": "_index", "support-2": "support"},
        "obs": {"level.lab=_labs_1_": "level.lab=/labs/1/"},
    }


def test_where_no_allele_is_scored(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    (tmp_path / "a.vcf").write_text(HEADER + "chr2\t100\t.\tA\t<DEL>\t.\t.\t.\n")
    score_variants(run, dataset.genome, tmp_path / "a.vcf", ScoreOptions(tmp_path / "o.vcf", h5ad=tmp_path / "o.h5ad"))
    read = anndata.read_h5ad(tmp_path / "o.h5ad")
    assert read.shape == (0, len(run.tracks)) and "MFD_FLAGS" in read.obs


def test_a_broken_record_leaves_none(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    source = write_vcf(tmp_path / "a.vcf", dataset, [500, 700])
    source.write_text(source.read_text() + "chr2\tx\t.\tA\tC\t.\t.\t.\n")
    with pytest.raises(VariantError, match=r"a.vcf:6"):
        score_variants(run, dataset.genome, source, ScoreOptions(tmp_path / "o.vcf", h5ad=tmp_path / "o.h5ad"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.vcf"]


def test_through_the_command(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    folder = shutil.copytree(trained[0].path.parent, tmp_path / "p")
    (folder / "mfd.toml").write_text(tiny.TOML)
    write_vcf(folder / "input.vcf", trained[1], [500, 700])
    words = ["score-variants", "input.vcf", "-q", "--gpus", "0", "--threads", "1"]
    done = in_process([*words, "--h5ad", "scores.h5ad", "--dry-run"], folder)
    assert done.code == 0 and "would write scores.h5ad" in done.told and not (folder / "scores.h5ad").exists()
    done = in_process([*words, "-o", "-", "--h5ad", "scores.h5ad"], folder)
    assert done.code == 0, done.told
    scored = [line for line in done.said.splitlines() if "MFD_MAX_DLOGIT=" in line and line[0] != "#"]
    assert anndata.read_h5ad(folder / "scores.h5ad").n_obs == len(scored) == 2
    done = in_process([*words, "--h5ad", "scores.parquet"], folder)
    assert done.code == 2 and "scores.parquet: an AnnData file is written" in done.told
