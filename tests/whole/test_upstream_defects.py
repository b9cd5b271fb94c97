"""The 23 defects of the method's research code: for each the test that holds here, or why it cannot occur.

The table is read by the test below it: a test that is named and does not exist fails.
"""

from __future__ import annotations

import ast
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from kit import tiny
from kit.places import SOURCE, TESTS
from mfd_cli.base.errors import ConfigError
from mfd_cli.dataset.folder import Dataset
from mfd_cli.evaluation.evaluate import evaluate
from mfd_cli.training.train import train

DEFECTS: dict[int, tuple[str, list[str]]] = {
    1: (
        "one predictor served both directions: here one network per direction, whatever the sizes",
        ["test_penalties::test_the_adversary_learns_a_copy_with_unequal_sizes_and_both_networks_get_gradients"],
    ),
    2: (
        "slices of the latent in one order, batches in another: here named slices in the order of the configuration",
        ["test_model::test_slices_are_disjoint_and_cover_the_latent_in_the_order_of_the_configuration"],
    ),
    3: ("multihot was refused: it is an encoding", ["test_model::test_every_encoding_in_every_role_learns"]),
    4: (
        "rescale built a matrix on the CPU: here an element-wise product with a parameter, which moves with the model",
        ["test_model::test_every_encoding_in_every_role_learns", "test_upstream_defects::test_rescale_makes_no_matrix"],
    ),
    5: (
        "a missing number made the column NaN",
        ["test_metadata::test_a_missing_number_is_the_mean_with_an_indicator_and_poisons_nothing"],
    ),
    6: ("years forgot their vocabulary", ["test_metadata::test_year_is_read_out_of_a_date_and_keeps_its_vocabulary"]),
    7: (
        "batch norm with a learned scale: here without, so that penalties cannot be cheated by shrinking",
        ["test_upstream_defects::test_the_latent_has_no_learned_scale"],
    ),
    8: (
        "a plot of principal components had its labels swapped: there is no such plot here; groups are reached by name",
        [],
    ),
    9: (
        "AUROC was a mean over chunks: here exact, over all bins",
        ["test_metrics::test_as_scikit_learn", "test_evaluate::test_metrics_are_those_of_scikit_learn_on_both_strands"],
    ),
    10: ("the training AUROC was dead code: there is none here; validation measures the averaged model", []),
    11: (
        "left-out tracks: masked loss by index, the right accession for every number, a track never in its own baseline, "
        "baselines from whatever factors there are",
        [
            "test_losses::test_unmeasured_cells_and_held_out_tracks_have_no_gradient",
            "test_train::test_held_out_tracks_take_no_part",
            "test_impute::test_every_number_belongs_to_its_experiment_whatever_the_order",
            "test_impute::test_a_baseline_never_holds_the_track_itself",
        ],
    ),
    12: (
        "the free head needed metadata, broke in evaluation, lost a batch of one",
        ["test_upstream_defects::test_the_free_head_needs_no_metadata_and_evaluates"],
    ),
    13: (
        "an output pooling that was never used: no such setting here, and a window that leaves more than one position is "
        "cropped by construction",
        ["test_model::test_backbones_give_one_position_whatever_the_window"],
    ),
    14: ("a crop of 0 gave an empty tensor", ["test_upstream_defects::test_a_window_of_one_bin_crops_nothing"]),
    15: (
        "kernel sizes that were ignored: they are not settings here, and an unknown key is an error",
        [
            "test_config::test_errors_name_key_line_and_nearest",
            "test_model::test_stages_have_the_published_numbers_of_parameters",
        ],
    ),
    16: ("the latent predictor's target could collapse: it is not offered", []),
    17: ("the labels encoder kept unused weights: it is not offered", []),
    18: (
        "the order of modules depended on the hash seed",
        ["test_upstream_defects::test_the_first_weights_do_not_depend_on_the_hash_seed"],
    ),
    19: (
        "validation could run augmented: here shift and strand are arguments of a batch, and validation gives none",
        ["test_upstream_defects::test_validation_is_not_augmented"],
    ),
    20: (
        "workers shared random streams: here a batch is a function of seed, epoch and number, and there are no workers",
        ["test_batches::test_an_epoch_is_a_function_of_seed_and_number"],
    ),
    21: (
        "shares of variance on probabilities without a bias: here on logits",
        ["test_evaluate::test_shares_of_variance_sum_to_one_and_match_the_definition"],
    ),
    22: (
        "a setting that was never read: an unknown key is an error",
        ["test_config::test_errors_name_key_line_and_nearest"],
    ),
    23: (
        "an account at a logging service was mandatory: nothing here goes to the network",
        ["test_upstream_defects::test_nothing_imports_a_network_client"],
    ),
}


@pytest.mark.parametrize("number", range(1, 24))
def test_each_defect_has_its_tests_or_its_reason(number: int) -> None:
    reason, tests = DEFECTS[number]
    assert len(reason) > 20
    for name in tests:
        file, _, function = name.partition("::")
        tree = ast.parse(next(TESTS.rglob(f"{file}.py")).read_text("utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name
    assert tests or "is not offered" in reason or "there is no" in reason


def test_rescale_makes_no_matrix() -> None:
    from mfd_cli.core.head import Rescale

    for columns in (1, 5):
        scale = Rescale(columns)
        assert [tuple(p.shape) for p in scale.parameters()] == [(columns,)]
        x = torch.randn(3, 5)
        assert torch.equal(scale(x), x * scale.scale)


def test_the_latent_has_no_learned_scale() -> None:
    model = tiny.model()
    assert model.norm.weight is None and model.norm.bias is None
    model.train()
    latent = model.latent(tiny.windows(256, model.window))
    assert torch.allclose(latent.std(0, correction=0), torch.ones(latent.shape[1]), atol=0.05)


def test_the_free_head_needs_no_metadata_and_evaluates(tmp_path: Path) -> None:
    world: Dataset = tiny.dataset(tmp_path / "dataset")
    run = train(tiny.project(tmp_path, factors={}, model={"head": "free"}), gpus=0)
    assert len(evaluate(run, world).tracks) == 9
    assert run.model(tiny.windows(1, run.model.window)).logits.shape == (1, 9)
    with pytest.raises(ConfigError, match="at least one factor"):
        train(tiny.project(tmp_path, factors={}), gpus=0, force=True)


def test_a_window_of_one_bin_crops_nothing() -> None:
    model = tiny.model(model={"window": 128})
    assert model.eval()(tiny.windows(3, model.window)).logits.shape == (3, 8)


def test_the_first_weights_do_not_depend_on_the_hash_seed() -> None:
    script = (
        "import hashlib; from kit import tiny; m = tiny.model();"
        "print(hashlib.sha256(b''.join(n.encode() + v.numpy().tobytes() for n, v in m.state_dict().items())).hexdigest())"
    )
    found = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(TESTS)}
        result = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        found.add(result.stdout.strip())
    assert len(found) == 1 and len(found.pop()) == hashlib.sha256().digest_size * 2


def test_validation_is_not_augmented(tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from mfd_cli.core.losses import SignalScale
    from mfd_cli.runs.batches import GenomeOnDevice, LabelledBins

    bins, model, cpu = tiny_dataset.split("validation"), tiny.model(), torch.device("cpu")
    genome = GenomeOnDevice(tiny_dataset, model.window, model.left, cpu)
    data = LabelledBins(genome, bins, tiny_dataset, SignalScale.fit(bins.signal), cpu)
    given: list[Any] = []
    batch = data.batch
    monkeypatch.setattr(data, "batch", lambda *arguments: given.append(arguments) or batch(*arguments))
    first, second = (torch.cat([b.codes for b in data.in_order(64)]) for _ in range(2))
    assert torch.equal(first, second) and all(len(arguments) == 1 for arguments in given)


def test_nothing_imports_a_network_client() -> None:
    """Only the module that `mfd fetch-inputs` reads with may, and it has no other client than fsspec; and the engine for Ray
    clusters asks whether somebody answers at the address that the user gave."""
    banned = {"wandb", "requests", "urllib", "urllib3", "http", "socket", "httpx", "aiohttp", "fsspec"}
    streams = SOURCE / "base" / "remote_streams.py"
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            allowed = {streams: {"fsspec", "aiohttp"}, SOURCE / "engine" / "on_ray.py": {"socket"}}.get(file, set())
            assert not banned & {name.split(".")[0] for name in names} - allowed, file
