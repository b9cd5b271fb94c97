"""Tiny checkpoints of other packages' networks with random weights, as their own `save_pretrained` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

SMALL_ENFORMER = {"dim": 48, "depth": 1, "heads": 2, "num_downsamples": 7, "dim_divisible_by": 4, "attn_dim_key": 8}
SMALL_BORZOI = {"dim": 32, "depth": 1, "heads": 2, "attn_dim_key": 8, "attn_dim_value": 16}


def enformer(seed: int = 0, **of_config: Any) -> Any:
    """An Enformer whose batch norms have seen something and whose attention says something, with one output head."""
    package = pytest.importorskip("enformer_pytorch", reason="the extra enformer is not installed")
    torch.manual_seed(seed)
    config = package.EnformerConfig(**{**SMALL_ENFORMER, "output_heads": {"human": 3}, **of_config})
    return unlike_a_new_one(
        package.Enformer(config), lambda model, bases: model(bases, return_only_embeddings=True, target_length=-1)
    )


def borzoi(seed: int = 0) -> Any:
    """A Borzoi of the package's own widths, with a small transformer."""
    package = pytest.importorskip("borzoi_pytorch", reason="the extra borzoi is not installed")
    torch.manual_seed(seed)
    from borzoi_pytorch.config_borzoi import BorzoiConfig

    def read(model: Any, bases: torch.Tensor) -> None:
        model.crop.target_length = 4 * 16
        model.final_joined_convs(model.get_embs_after_crop(bases.transpose(1, 2)))

    return unlike_a_new_one(package.Borzoi(BorzoiConfig(**SMALL_BORZOI)), read)


def unlike_a_new_one(model: Any, read: Any) -> Any:
    """Give biases numbers of their own and batch norms the averages of random bases that are `read`, so that bins differ."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("bias"):
                value.copy_(0.1 * torch.randn(value.shape))
            elif name.endswith("to_out.weight"):  # zero in a new Enformer: attention would not matter
                value.copy_(0.2 * torch.randn(value.shape))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.momentum = 1.0
        read(model.train(), torch.nn.functional.one_hot(torch.randint(0, 4, (4, 16 * 128)), 4).float())
    return model.eval()


def saved(model: Any, folder: Path) -> Path:
    """The folder with the model's checkpoint. An Enformer shares tensors between names: its package saves a pickle."""
    model.save_pretrained(folder, safe_serialization=type(model).__name__ == "Borzoi")
    return folder
