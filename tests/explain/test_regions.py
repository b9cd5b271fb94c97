"""`mfd explain -R`: all of the regions is explained, within their contigs, and what is not is listed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyBigWig
import pytest

from kit.harm import CONTIGS, in_process, trained_project
from mfd_cli.base.errors import MfdError
from mfd_cli.explain.regions import MOST_TILES, own_positions, tiles_of
from mfd_cli.explain.results import Region

CPU = ("--gpus", "0", "--threads", "1", "-q")
BED = """# a header
chr1\t1000\t1300\tthree bins
chr1\t3\t50
chr2\t19990\t20000
chrUn\t5\t500
chr1\t1000\t1300\tagain
chrUn\t7\t700
chrX\t7\t700
chr1\t70\t70
"""
TOLD = (
    "Regions of r.bed: 4, explained in 5 bins of 128 bp. Lines left out: 3 on contigs that the genome lacks "
    "(chrUn, chrX; the first is line 5), 1 without bases (start equal to end)."
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("regions") / "p"
    trained_project(folder)
    return folder


@pytest.mark.parametrize(
    ("what", "folder"),
    [
        (("--factor", "target"), "target"),
        (("--latent", "latent.0", "--latent", "latent.1"), "latents"),
        (("--track", "T1"), "T1"),
    ],
)
def test_regions_are_covered_and_stay_on_their_contigs(
    project: Path, tmp_path: Path, what: tuple[str, ...], folder: str
) -> None:
    (tmp_path / "r.bed").write_text(BED)
    done = in_process(["explain", *what, "-R", str(tmp_path / "r.bed"), "--force", *CPU], project)
    assert done.code == 0 and TOLD in done.said.splitlines(), done
    page = (project / "explain" / folder / "report.html").read_text("utf-8")
    assert TOLD in page
    rows = pd.read_csv(project / "explain" / folder / "regions.tsv", sep="\t")
    for _, of_level in rows.groupby("level"):
        places = list(zip(of_level["contig"], of_level["start"], of_level["end"]))
        assert places == [
            ("chr1", 958, 1086), ("chr1", 1086, 1214), ("chr1", 1214, 1342), ("chr1", 0, 128), ("chr2", 19872, 20000),
        ]  # fmt: skip
        assert np.isfinite(of_level["score"]).all() and of_level["score"].nunique() >= 3  # of six digits
    for path in (project / "explain" / folder).glob("*.bw"):
        with pyBigWig.open(str(path)) as file:
            assert len(file.values("chr1", 958, 1342)) == 384
            assert np.isfinite(file.values("chr1", 958, 1342)).all()


@pytest.mark.parametrize(
    ("bed", "message"),
    [
        ("chr1\t0\t40000\n" * 20, rf"covers 6,\d\d\d bins of 128 bp: {MOST_TILES:,} at most"),
        ("chr1\t39000\t40001\n", "ends beyond the contig"),
        ("chr1\t5\t5\n", "holds no interval"),
        ("Q\t5\t50\n", "no contig"),
    ],
)
def test_regions_that_cannot_be_explained_are_refused(project: Path, tmp_path: Path, bed: str, message: str) -> None:
    (tmp_path / "r.bed").write_text(bed)
    done = in_process(["explain", "--factor", "assay", "-R", str(tmp_path / "r.bed"), *CPU], project)
    assert done.code == 2 and "r.bed" in done.told and "Traceback" not in done.told
    assert not (project / "explain/assay").exists()
    with pytest.raises(MfdError, match=message):
        tiles_of(tmp_path / "r.bed", CONTIGS)


def test_a_contig_shorter_than_a_bin_is_its_own_region(tmp_path: Path) -> None:
    (tmp_path / "r.bed").write_text("s\t10\t90\n")
    assert tiles_of(tmp_path / "r.bed", {"s": 100}).bins == [("s", 0)]
    assert Region("s", 0, 100, 1.0, np.zeros(384, np.uint8)).end == 100


def test_no_base_belongs_to_two_windows() -> None:
    """Two neighbouring bins and a far one: each base of a bin is its own, the flanks are the first window's."""
    codes = np.zeros(384, np.uint8)
    regions = [Region("a", start, 9999, 0.0, codes) for start in (1000, 1128, 5000)] + [
        Region("b", 1000, 9999, 0.0, codes)
    ]
    own = own_positions(regions, 128)
    assert own[2].all() and own[3].all()
    # The first window is 872 to 1256: of these 1128 to 1256 lie in the second bin. The second window is 1000 to 1384.
    assert own[0].tolist() == [True] * 256 + [False] * 128
    assert own[1].tolist() == [False] * 128 + [True] * 256
    places = np.concatenate([np.arange(r.start - 128, r.start + 256)[o] for r, o in zip(regions[:3], own)])
    assert len(places) == len(np.unique(places)) == 896  # 872 to 1384, and 4872 to 5256
