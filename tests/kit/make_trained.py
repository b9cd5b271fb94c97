"""Make tests/fixtures/trained: the run that the fixture `trained` hands out, trained once and kept.

    python tests/kit/make_trained.py

Where a training of forty epochs ends differs between processors, because rounding grows from step to step; what tests say of a
trained model must not. So its weights are part of the checkout. Make it anew when what a run folder holds has changed (the
tests then say so), and look at what it prints: the tests need a model that has learnt its motifs.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from kit import tiny
from kit.places import FIXTURES
from mfd_cli.evaluation.evaluate import evaluate
from mfd_cli.training.train import train

KEPT = ("model.safetensors", "model.json", "metrics.jsonl")


def main() -> None:
    """Train on the tiny world, and copy what is needed to use the model."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world = tiny.dataset(folder / "dataset")
        run = train(tiny.project(folder, train={"epochs": 40, "batch_size": 32, "lr": 0.01}), gpus=0)
        target = FIXTURES / "trained"
        target.mkdir(parents=True, exist_ok=True)
        for file in KEPT:
            shutil.copyfile(run.path / file, target / file)
        summary = evaluate(run, world, probes=False).summary["training_tracks"]
    print(f"AUROC {summary['auroc']:.3f}, Pearson {summary['pearson']:.3f}")


if __name__ == "__main__":
    main()
