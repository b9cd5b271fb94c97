"""How far an experiment may lie from its prediction: less where its levels were measured, and as often as it says."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from kit import tiny
from mfd_cli.base.long_array import LongArray
from mfd_cli.core.mixed_head import MixedHead
from mfd_cli.core.unseen import head_of_rows
from mfd_cli.dataset.folder import Dataset
from mfd_cli.evaluation.experiment_errors import experiment_errors
from mfd_cli.runs.folder import Run

TRACKS, LATENT = 24, 16
KNOWN = {"Target": "CTCF", "Tissue": "liver", "Assay": "ChIP-seq", "Lab": "A"}


def mixed(trained: tuple[Run, Dataset], held: list[bool] | None = None, seed: int = 0) -> Run:
    used = held or [True] * TRACKS
    model = tiny.model(TRACKS, used, seed=seed, model={"head": "mixed", "subspaces": "joint"})
    return dataclasses.replace(trained[0], model=model, tracks=tuple(trained[0].tracks[0] for _ in range(TRACKS)))


def errors_of(run: Run, rows: list[dict[str, str]], latents: np.ndarray) -> list[dict[str, float]]:
    head = head_of_rows(run.model, rows, ["peaks"] * TRACKS, ["peaks"] * len(rows))
    return experiment_errors(run, rows, head, LongArray.of(latents.astype(np.float32)))


def test_levels_that_nobody_measured_are_less_sure(trained: tuple[Run, Dataset]) -> None:
    run, rng = mixed(trained), np.random.default_rng(0)
    head = run.model.head
    assert isinstance(head, MixedHead)
    with torch.no_grad():
        of_target = rng.normal(size=(2, LATENT))[[number % 2 for number in range(TRACKS)]]
        head.weight.copy_(torch.from_numpy(of_target + 0.1 * rng.normal(size=(TRACKS, LATENT))))
        head.curvature.fill_(100.0)
    head.learn_variances()
    latents = rng.normal(size=(300, LATENT))
    head.learn_axes(torch.from_numpy(latents))
    known, unseen = errors_of(run, [KNOWN, KNOWN | {"Target": "NOBODY"}], latents)
    assert 0 < known["error"] < unseen["error"] and unseen["deviation"] < known["deviation"]
    assert known["reliability"] == pytest.approx(known["deviation"] / np.hypot(known["deviation"], known["error"]))


def test_errors_are_as_large_as_they_say(trained: tuple[Run, Dataset]) -> None:
    """Weights drawn from the head's own model: held-out tracks lie from their predictions as far as is said, on average."""
    held = [number % 6 != 1 for number in range(TRACKS)]
    run, rng = mixed(trained, held), np.random.default_rng(3)
    head = run.model.head
    assert isinstance(head, MixedHead)
    space = head.spaces[0]
    latents = rng.normal(size=(200, LATENT))
    variances = torch.tensor([*np.resize([0.5, 0.3, 0.4, 0.2, 0.3, 0.2, 0.3], len(space.terms)), 0.15])
    with torch.no_grad():
        head.covariance.copy_(torch.eye(LATENT))
        head.curvature.fill_(1e4)
        head.variances(space).copy_(variances)
        head.axes(space).copy_(torch.eye(LATENT))
        head.get_buffer("duals_latent").copy_(torch.eye(LATENT))
        head.axis_variances(space).copy_(variances[:, None].expand(-1, LATENT))
    rows, missing = tiny.rows(TRACKS), [number for number, used in enumerate(held) if not used]
    said, found = [], []
    for _ in range(40):
        weights = rng.normal(size=(1, LATENT)) + np.sqrt(float(variances[-1])) * rng.normal(size=(TRACKS, LATENT))
        for term, variance in zip(space.terms, variances.tolist()):
            values, vectors = np.linalg.eigh(variance * head.kernels[term.name].numpy())
            weights += vectors * np.sqrt(values.clip(0)) @ rng.normal(size=(TRACKS, LATENT))
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(weights))
        head.derive()
        asked = [rows[number] for number in missing]
        expected = head_of_rows(run.model, asked, ["peaks"] * TRACKS, ["peaks"] * len(asked)).matrix()
        moved = latents - latents.mean(0)
        found.append(np.square((expected - weights[missing]) @ moved.T).mean())
        said.append(np.mean([row["error"] ** 2 for row in errors_of(run, asked, latents)]))
    assert np.mean(found) == pytest.approx(np.mean(said), rel=0.15)


def test_other_heads_say_nothing(trained: tuple[Run, Dataset]) -> None:
    model = tiny.model(TRACKS, model={"head": "conditioned"})
    run = dataclasses.replace(trained[0], model=model)
    assert errors_of(run, [KNOWN], np.random.default_rng(1).normal(size=(50, LATENT))) == [{}]
