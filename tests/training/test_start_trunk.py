"""`model.trunk`: a training on another package's trunk, from its checkpoint to predictions, scores and explanations."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from kit import tiny, trunks
from kit.harm import Outcome, in_process
from kit.needed import needs
from mfd_cli.core.predictor import Predictor
from mfd_cli.core.trunks import TrunkBackbone
from mfd_cli.engine.loop import Interrupted
from mfd_cli.genome.alleles import Variant
from mfd_cli.genome.grid import BIN
from mfd_cli.runs.folder import load_run
from mfd_cli.settings.project import Project, load_project
from mfd_cli.training import train as training
from mfd_cli.variants.changes import LatentChanges

pytestmark = needs("enformer_pytorch", "enformer")

CPU = ["--gpus", "0", "--threads", "1"]
TOML = (
    tiny.TOML.split("[train]")[0].split("[model]")[0]
    + """
[model]
backbone = "enformer"
trunk = "weights"
window = 640
block = 4
latent = 12
hidden = 8

[train]
epochs = 1
batch_size = 32
"""
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the checkpoint of an Enformer and a run on it."""
    folder = tiny.written_project(tmp_path_factory.mktemp("trunk"), TOML)
    trunks.saved(trunks.enformer(), folder / "weights")
    done = trained(folder)
    assert "from weights: the trunk of enformer, " in done.told
    assert "they stay as they are, and a projection of them learns (train.thaw)" in done.told
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "p"))


def trained(folder: Path, *words: str) -> Outcome:
    done = in_process(["train", *CPU, *words], folder)
    assert done.code == 0 and "Traceback" not in done.told, done.told
    return done


def backbone_of(run: Path) -> TrunkBackbone:
    backbone = load_run(run).model.backbone
    assert isinstance(backbone, TrunkBackbone)
    return backbone


def test_the_trunk_of_the_run_is_that_of_the_checkpoint_and_the_projection_has_learnt(made: Path) -> None:
    trunk, package = backbone_of(made / "run").trunk, trunks.enformer()
    codes = tiny.windows(2, 640 + 3 * BIN)
    bases = torch.nn.functional.one_hot(codes.long().clamp(max=3), 4).float()
    with torch.inference_mode():
        expected = package(bases, return_only_embeddings=True, target_length=4)
        assert torch.allclose(trunk(bases.transpose(1, 2), 2).transpose(1, 2), expected, atol=1e-5)
    curve = [json.loads(line) for line in (made / "run" / "metrics.jsonl").read_text().splitlines()]
    assert curve[-1]["train_loss"] < 1 and len(curve) >= 1


def test_what_the_run_says_of_itself(made: Path) -> None:
    card = in_process(["info", "--card"], made).said
    assert "The network is the trunk of enformer, a mixed head" in card
    assert "The training started from the weights of weights (sha256" in card and "which stayed as it was." in card
    assert "started from: trunk weights, weights_sha256" in in_process(["info"], made).said
    source = load_run(made / "run").about["source"]
    assert source["shape"]["architecture"]["dim"] == 48 and len(source["weights_sha256"]) == 64


def test_a_bin_has_one_latent_in_all_that_reads_it(made: Path) -> None:
    """Predicted alone or among others, and as the reference of a variant of one base or several in grid placement."""
    run, genome = load_run(made / "run"), tiny.genome()
    predictor = Predictor(run.model)
    cut = predictor.cutter(genome, "chr1")
    starts = np.arange(0, 60) * BIN
    every = predictor.latents_at(starts, cut)
    few = np.array([41, 3, 6])
    assert np.allclose(predictor.latents_at(starts[few], cut), every[few], atol=1e-5)
    changes, at = LatentChanges(predictor, "grid"), 41 * BIN + 60
    ref = genome.bases("chr1", at, at + 2)
    other = "".join("ACGT"[("ACGT".index(base) + 1) % 4] for base in ref)
    variants = [Variant("chr1", at, ref[0], other[0]), Variant("chr1", at, ref, other)]
    reference, change = changes.of(variants, genome)
    assert np.allclose(reference, every[[41, 41]], atol=1e-5)
    codes = genome.codes("chr1", 40 * BIN - predictor.left, 40 * BIN - predictor.left + predictor.length(4))
    for variant, found in zip(variants, change):
        changed, first = codes.copy(), variant.start - 40 * BIN + predictor.left
        changed[first : first + len(variant.alt)] = ["ACGT".index(base) for base in variant.alt]
        expected = predictor.latents(changed[None])[1] - every[41]
        assert np.allclose(found, expected, atol=1e-4) and np.abs(found).max() > 1e-4


def test_every_command_reads_a_trunk(project: Path) -> None:
    for words in (
        ["evaluate"],
        ["predict", "-r", "chr2:1-12800", "-o", "predictions"],
        ["score-variants", "--saturate", "chr2:6001-6004", "-o", "s.parquet"],
        ["explain", "--factor", "assay"],
    ):
        done = in_process([*words, "--gpus", "0", "--threads", "1"], project)
        assert done.code == 0 and "Traceback" not in done.told, done.told
        assert ("every variant takes whole passes" in done.told) == (words[0] == "score-variants")


def test_an_interrupted_training_goes_on_as_if_it_had_not_been(project: Path) -> None:
    """While the trunk learns, the dropout of its package draws the same numbers again; its folder is not asked again."""

    def one(run: str) -> Project:
        return load_project(project / "mfd.toml", ["train.thaw=0", f"data.run={run}"])

    def terminate(what: str, done: int, total: int) -> None:
        if done == total // 2 + 1:
            os.kill(os.getpid(), signal.SIGTERM)

    whole = training.train(one("whole"), gpus=0).model.state_dict()
    with pytest.raises(Interrupted):
        training.train(one("parts"), gpus=0, progress=terminate)
    shutil.rmtree(project / "weights")
    parts = training.train(one("parts"), gpus=0, resume=True).model.state_dict()
    first = load_run(project / "run").model.state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert not torch.equal(whole["backbone.trunk.stem.0.weight"], first["backbone.trunk.stem.0.weight"])


def test_a_run_on_a_trunk_is_a_start_for_another(project: Path) -> None:
    text = (project / "mfd.toml").read_text().replace('trunk = "weights"\n', "")
    (project / "mfd.toml").write_text(text)
    done = trained(project, "--from", "run", "--run", "second")
    assert "from run: the backbone and the norm of its latents" in done.told
    ours, theirs = (backbone_of(project / name).trunk.state_dict() for name in ("second", "run"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "train.stretch=8"], "train.stretch is 8, and model.block 4"),
        (["--set", "model.kmer=2"], "model.kmer is 2; with model.backbone enformer it must be 1"),
        (["--set", "model.filters=8"], "model.filters is 8; with model.backbone enformer it must be 0"),
        (["--set", "model.backbone=dilated"], 'model.trunk is set, and model.backbone is not "enformer" or "borzoi"'),
        (["--set", "model.backbone=borzoi"], "is of a model of type 'enformer', and model.backbone is borzoi"),
        (["--set", "model.trunk=nowhere"], "nowhere/config.json: cannot be read as the numbers of a trunk"),
        (["--set", "train.compile=true"], "train.compile is for our own network"),
        (["--from", "run"], "only one can be taken"),
    ],
)
def test_what_cannot_be_is_one_line(project: Path, words: list[str], message: str) -> None:
    done = in_process(["train", *CPU, "--run", "other", *words], project)
    assert done.code == 2 and message in done.told and not (project / "other").exists(), done.told


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("cut", "pytorch_model.bin: cannot be read as weights"),
        ("gone", "weights: holds no weights, neither model.safetensors nor pytorch_model.bin"),
        ("another depth", "lacks tensors: "),
        ("another width", "by config.json"),
        ("a word", "config.json: dim is '48', not a number"),
        ("a pickle that runs something", "cannot be read as weights"),
    ],
)
def test_a_checkpoint_that_is_none_is_one_line(project: Path, harm: str, message: str) -> None:
    weights, config = project / "weights" / "pytorch_model.bin", project / "weights" / "config.json"
    numbers = json.loads(config.read_text())
    if harm == "cut":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif harm == "gone":
        weights.unlink()
    elif harm == "a pickle that runs something":
        torch.save({"stem.0.weight": Path("evil")}, weights)
    else:
        numbers |= {"another depth": {"depth": 2}, "another width": {"dim": 96}, "a word": {"dim": "48"}}[harm]
        config.write_text(json.dumps(numbers))
    done = in_process(["train", *CPU, "--run", "other"], project)
    assert done.code == 2 and message in done.told and not (project / "other").exists(), done.told
