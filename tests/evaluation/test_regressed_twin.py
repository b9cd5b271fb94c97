"""The free twin with a regression: it predicts training tracks as before, and says something of held-out ones."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from kit import tiny
from kit.harm import in_process
from mfd_cli.base.errors import ConfigError
from mfd_cli.base.long_array import LongArray
from mfd_cli.core.mixed_head import MixedHead
from mfd_cli.core.predictor import Predictor
from mfd_cli.dataset.folder import open_dataset
from mfd_cli.evaluation.regressed_twin import regressed_twin
from mfd_cli.runs.at_work import bin_latents
from mfd_cli.runs.folder import load_run
from mfd_cli.settings.names import RESIDUAL


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world with P3 held out, a model and its twin."""
    folder = tiny.written_project(tmp_path_factory.mktemp("regressed"))
    for words in (["--run", "run"], ["--run", "twin", "--head", "free"]):
        held = ["--set", 'train.held_out=["P3"]', "--gpus", "0", "--threads", "1", "-q"]
        assert in_process(["train", *words, *held], folder).code == 0
    return folder


def test_training_tracks_are_predicted_as_before_and_parts_add_up(project: Path) -> None:
    run, dataset = load_run(project / "twin"), open_dataset(project / "dataset")
    latents = bin_latents(run, dataset, dataset.split("validation"))
    found = regressed_twin(run, LongArray.of(latents))
    before, after = Predictor(run.model).head.logits(latents), Predictor(found.model).head.logits(latents)
    trained = run.model.trained
    assert np.abs(before - after)[:, trained].max() < 1e-4
    assert isinstance(found.model.head, MixedHead)
    assert torch.equal(found.model.backbone.state_dict()["stem.weight"], run.model.backbone.state_dict()["stem.weight"])
    parts = found.model.parts(torch.from_numpy(latents))
    assert np.abs(parts.total().detach().numpy() - after).max() < 1e-4
    along = regressed_twin(run, LongArray.of(latents), axes=True).model.head
    assert isinstance(along, MixedHead) and along.axes(along.spaces[0]).any()
    assert not found.model.head.axes(found.model.head.spaces[0]).any()
    own = found.model.head.term_weights()
    between = [term.name for term in found.model.head.terms if term.group == RESIDUAL]
    assert between and not any(own[name].any() for name in between) and own["target"].any()
    assert torch.allclose(along.weights().matrix()[trained], found.model.head.weights().matrix()[trained], atol=1e-4)
    with pytest.raises(ConfigError, match="free head"):
        regressed_twin(load_run(project / "run"), LongArray.of(latents))


def test_evaluate_puts_it_beside_the_model_on_held_out_tracks(project: Path) -> None:
    done = in_process(["evaluate", "--beside", "twin", "--no-probes", "-q", "-o", "evaluated"], project)
    assert done.code == 0, done.told
    with (project / "evaluated/baselines.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    tracks = {name: {row["track"] for row in rows if row["baseline"] == name} for name in ("twin", "twin + regression")}
    assert "P3" not in tracks["twin"] and len(tracks["twin"]) > 1
    assert tracks["twin + regression"] == {"P3"}
