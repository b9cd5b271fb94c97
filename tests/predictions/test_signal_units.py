"""Totals of signals are means, not medians: what `mfd predict` writes has the mean of what was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyBigWig
import pytest
import torch

from kit import shapes
from kit.harm import in_process
from kit.shapes import Shape, tracks
from mfd_cli.core.predictor import Predictor
from mfd_cli.dataset.folder import open_dataset
from mfd_cli.runs.folder import load_run

SKEWED = Shape("skewed signals", tracks(0, 3), signal=lambda rng, count: rng.lognormal(0, 1.2, count))
COUNTS = next(shape for shape in shapes.SHAPES if shape.name == "counts alone")
STRANDED = next(shape for shape in shapes.SHAPES if shape.name == "a stranded pair alone")


@pytest.mark.parametrize("shape", [SKEWED, COUNTS, STRANDED], ids=lambda shape: shape.name)
def test_totals_have_the_mean_of_the_signal(tmp_path: Path, shape: Shape) -> None:
    folder = tmp_path / "p"
    shapes.make(shape, folder)
    cpu = ["--gpus", "0", "--threads", "1", "-q"]
    for words in (["preprocess", "--threads", "1"], ["train", *cpu], ["predict", "-r", "chr3", *cpu]):
        done = in_process(words, folder)
        assert done.code == 0, done.told
    run, bins = load_run(folder / "run"), open_dataset(folder / "dataset").split("validation")
    assert set(bins.contig.tolist()) == {2}  # chr3
    medians = run.signal_scale.median(run.signal_scale.expected(torch.from_numpy(latent_logits(folder)))).numpy()
    for number, track in enumerate(run.tracks):
        (path,) = (folder / "predictions").rglob(f"*{track.id}*.bw")
        with pyBigWig.open(str(path)) as file:
            written = np.array([file.values("chr3", int(start), int(start) + 1)[0] for start in bins.start])
        ratio = run.signal_scale.ratio[number]
        assert written == pytest.approx(medians[:, number] * ratio, rel=2e-3)
        if shape is COUNTS:
            assert ratio == 1
        else:
            # The ratio is that of the forward strand's predictions, and what is written averages both strands.
            assert written.mean() == pytest.approx(bins.signal[:, number].mean(), rel=0.1) and ratio > 1.02


def latent_logits(folder: Path) -> np.ndarray:
    """(bins, tracks) logits of the validation bins, both strands averaged."""
    run, dataset = load_run(folder / "run"), open_dataset(folder / "dataset")
    predictor, bins = Predictor(run.model, "cpu"), dataset.split("validation")
    starts = bins.start - predictor.left
    codes = np.stack([dataset.genome.codes("chr3", int(start), int(start) + predictor.window) for start in starts])
    return predictor.head.logits(predictor.latents(codes)).astype(np.float32)
