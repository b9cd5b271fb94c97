"""Predictions along the genome and latents of regions: the model's own numbers, in files that others read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pyBigWig
import pytest
import torch

from mfd_cli.base.errors import ConfigError, OutputError, RegionError
from mfd_cli.base.files import names_of_files
from mfd_cli.core.predictor import Predictor
from mfd_cli.core.unseen import head_of_rows
from mfd_cli.dataset.folder import Dataset
from mfd_cli.formats.track_hub import check_assembly, known_assembly, short_names
from mfd_cli.genome.grid import covering_bins
from mfd_cli.genome.intervals import Interval
from mfd_cli.predictions.embed import embed, latent_names, pooled_latents
from mfd_cli.predictions.predict import grid, predict
from mfd_cli.runs.at_work import bin_latents
from mfd_cli.runs.folder import Run
from mfd_cli.runs.new_experiment import experiment_panel, parse_experiment

HERE = (Interval("chr2", 1000, 3000), Interval("chr2", 2900, 3200), Interval("chr1", 500, 600))


def test_predictions_are_the_models_in_table_and_bigwig(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    summary = predict(run, dataset.genome, HERE, tmp_path / "p", hub_genome="hg38")
    table = pq.read_table(tmp_path / "p/predictions.parquet").to_pydict()
    assert summary.bins == len(table["start"]) == 2 + 18 and summary.outputs == 9
    assert table["contig"] == ["chr1"] * 2 + ["chr2"] * 18 and table["start"][2] == 896 and table["end"][-1] == 3200
    bins = dataset.split("test")
    chosen = [bins.start.tolist().index(start) for start in table["start"][2:]]
    logits = Predictor(run.model).head.logits(bin_latents(run, dataset, bins))[chosen]
    expected = 1 / (1 + np.exp(-logits[:, 3]))
    assert np.allclose(table["P3"][2:], expected, atol=1e-5)
    signal = run.signal_scale.inverse(run.signal_scale.expected(torch.from_numpy(logits[:, 8:])))[:, 0]
    assert np.allclose(table["S0"][2:], signal.numpy(), rtol=1e-4)
    with pyBigWig.open(str(tmp_path / "p/P3.bw")) as file:
        assert file.chroms() == dataset.genome.lengths
        found = file.intervals("chr2")
        assert [(low, high) for low, high, _ in found] == list(zip(table["start"][2:], table["end"][2:]))
        assert np.allclose([value for _, _, value in found], table["P3"][2:], atol=1e-6)
    track_db = (tmp_path / "p/hub/hg38/trackDb.txt").read_text()
    assert track_db.count("type bigWig") == 9 and (tmp_path / "p/hub/hg38" / "../../P0.bw").exists()
    rows = [line.split("\t") for line in (tmp_path / "p/outputs.tsv").read_text().splitlines()]
    assert rows[1][:5] == ["P0", "P0.bw", "total", "probability of a peak", "measured"] and rows[9][3] == "mean signal"
    with pytest.raises(OutputError, match="exists already"):
        predict(run, dataset.genome, HERE, tmp_path / "p")


def test_parts_add_up_to_the_total(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    parts = ("total", "shared", "biological", "technical", "debiased")
    predict(run, dataset.genome, HERE[:1], tmp_path / "p", tracks="id == P1", parts=parts, bigwig=False)
    table = pq.read_table(tmp_path / "p/predictions.parquet").to_pydict()
    logit = np.log(np.array(table["P1"]) / (1 - np.array(table["P1"])))
    assert np.allclose(np.add(table["P1.debiased"], table["P1.technical"]), logit, atol=1e-4)
    bias = Predictor(run.model).head.bias[1]
    assert np.allclose(np.add(table["P1.shared"], table["P1.biological"]) + bias, table["P1.debiased"], atol=1e-5)
    assert not list((tmp_path / "p").glob("*.bw"))
    with pytest.raises(ConfigError, match="the model has total, shared, debiased, biological, technical"):
        predict(run, dataset.genome, HERE, tmp_path / "q", parts=("nothing",))


def test_an_experiment_that_nobody_did(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    levels = parse_experiment(run, ["target=CTCF", "tissue=brain", "assay=CUT&RUN", "lab=A"])
    panel = experiment_panel(run, levels)
    columns = run.model.metadata.columns
    row = {columns[name]: level for name, level in levels.items()}
    expected = head_of_rows(run.model, [row], [t.kind for t in run.tracks], ["peaks"])
    for group, weights in expected.groups.items():
        assert np.allclose(panel.head.groups[group], weights, atol=1e-6)
    assert panel.head.bias[0] == pytest.approx(expected.bias[0], abs=1e-6)
    told = predict(run, dataset.genome, HERE[:1], tmp_path / "p", experiment=levels)
    assert "support of target=CTCF,tissue=brain,assay=CUT&RUN,lab=A:" in told.lines()[0]
    assert next(iter((tmp_path / "p").glob("*.bw"))).name == "target=CTCF,tissue=brain,assay=CUT_RUN,lab=A.bw"
    # What is not told is the mean over what was used.
    some = experiment_panel(run, {"target": "CTCF"})
    used = {tuple(r[columns[n]] for n in ("tissue", "assay", "lab")) for r in run.model.rows}
    rows = [
        dict(zip((columns[n] for n in ("tissue", "assay", "lab")), u)) | {columns["target"]: "CTCF"}
        for u in sorted(used)
    ]
    each = head_of_rows(run.model, rows, [t.kind for t in run.tracks], ["peaks"] * len(rows))
    assert np.allclose(some.head.groups["technical"][0], each.groups["technical"].mean(0), atol=1e-5)
    for wrong in (["target=NOPE"], ["target=CTCF", "target=GATA1"], ["technical=average"]):
        with pytest.raises(ConfigError):
            parse_experiment(run, wrong)


def test_bins_of_regions(trained: tuple[Run, Dataset]) -> None:
    genome = trained[1].genome
    (piece,) = grid([Interval("chr1", 127, 129), Interval("chr1", 600, 640)], genome)
    contig, starts = piece.what
    assert contig == "chr1" and starts.tolist() == [0, 128, 512]
    whole = [piece.what[1] for piece in grid([Interval("chr2", 0, 30_000)], genome)]
    assert np.concatenate(whole).tolist() == list(range(0, 30_000 // 128 * 128, 128))
    names = ["a b", "a/b", "x=y,z", "..", "é", "A b", "a_b_2"]
    assert names_of_files(names) == ["a_b", "a_b_2", "x=y,z", "unnamed", "unnamed_2", "A_b_3", "a_b_2_2"]


# -- latents of regions ------------------------------------------------------------------------------------------------


def test_latents_have_names_and_are_means_over_bins(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    (tmp_path / "r.bed").write_text("chr2\t1000\t1100\nchr9\t5\t9\n2\t5000\t5300\tan element\n")
    summary = embed(run, dataset.genome, tmp_path / "r.bed", tmp_path / "l.parquet")
    table = pq.read_table(tmp_path / "l.parquet").to_pydict()
    assert (summary.regions, summary.left_out, summary.latents) == (2, 1, run.model.settings.latent)
    assert table["line"] == [1, 3] and list(table)[6:] == latent_names(run) and "technical.0" in table
    assert table["name"] == ["", "an element"]
    predictor = Predictor(run.model)
    for row, (start, end) in enumerate(((1000, 1100), (5000, 5300))):
        at = list(covering_bins(start, end))
        codes = [dataset.genome.codes("chr2", s - predictor.left, s - predictor.left + predictor.window) for s in at]
        expected = predictor.latents(np.stack(codes)).mean(0)
        assert np.allclose([table[name][row] for name in latent_names(run)], expected, atol=1e-5)
        bases = dataset.genome.bases("chr2", start, end)
        assert table["gc"][row] == pytest.approx((bases.count("G") + bases.count("C")) / (end - start))
    (tmp_path / "bad.bed").write_text("chr2\t29000\t31000\n")
    with pytest.raises(RegionError, match=r"bad.bed:1: ends beyond chr2"):
        embed(run, dataset.genome, tmp_path / "bad.bed", tmp_path / "m.parquet")
    assert not (tmp_path / "m.parquet").exists()


def test_bins_are_centred_on_the_interval() -> None:
    assert list(covering_bins(1000, 1100)) == [986] and list(covering_bins(0, 128)) == [0]
    assert list(covering_bins(1000, 1300)) == [958, 1086, 1214]
    latents = np.array([[1.0, -5], [2, 1], [-3, 4]], np.float32)
    assert pooled_latents(latents, np.array([0, 0, 1]), 2, "mean").tolist() == [[1.5, -2], [-3, 4]]
    assert pooled_latents(latents, np.array([0, 0, 1]), 2, "max").tolist() == [[2, -5], [-3, 4]]


def test_hubs_are_named_after_the_genome_or_not_written() -> None:
    assert known_assembly({"chrI": 230218, "chrII": 813184}) == "sacCer3"
    assert known_assembly({"1": 248956422}) is None  # UCSC would not know the contig
    for wrong in ("a b", "../zz", "", "hg38/x", ".."):
        with pytest.raises(ConfigError, match="no name of a genome"):
            check_assembly(wrong)
    check_assembly("GCF_000146045.2")
    long = ["assay=CUT&RUN,target=x", "assay=CUT&RUN,target=y", "é"]
    assert short_names(long, 17) == ["assay=CUT&RUN,tar", "assay=CUT&RUN,t 2", "_"]
