"""A training that starts from a trunk of another package: its checkpoint is read, as that package saves it, and put into the
backbone.

A folder holds config.json, and model.safetensors or pytorch_model.bin. Of the latter, a pickle, tensors alone are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from mfd_cli.base.errors import ConfigError, few
from mfd_cli.base.files import sha256_of
from mfd_cli.core.model import MfdModel
from mfd_cli.core.trunks import TRUNKS, Trunk, TrunkBackbone
from mfd_cli.engine.store import load_tensors
from mfd_cli.experiments.track import Track

NUMBERS, SAFE, PICKLED = "config.json", "model.safetensors", "pytorch_model.bin"
ASK = "model.trunk names a folder as the package's save_pretrained writes it"


@dataclass(frozen=True)
class TakenTrunk:
    """What a model was begun with: which trunk, how many weights it has."""

    path: str
    name: str
    weights: int
    thaw: float

    def lines(self) -> list[str]:
        """Return it in words, one fact a line."""
        how_long = {
            0.0: "they learn from the first step on",
            1.0: "they stay as they are, and a projection of them learns",
        }
        held = how_long.get(self.thaw, f"they stay as they are for {self.thaw:.0%} of the training")
        return [f"from {self.path}: the trunk of {self.name}, {self.weights:,} weights; {held} (train.thaw)"]


@dataclass(frozen=True)
class StartFromTrunk:
    """The trunk that a training starts from. `path` is how its folder was named, `file` holds its weights."""

    kind: str
    path: str
    file: Path
    architecture: Mapping[str, bool | int | float]
    thaw: float

    @property
    def shape(self) -> dict[str, Any]:
        """What of the network no setting says."""
        return {"architecture": dict(self.architecture)}

    @cached_property
    def source(self) -> dict[str, Any]:
        """What the new run's description and its state say of it."""
        return {"path": self.path, "weights_sha256": sha256_of(self.file), "shape": self.shape}

    def put_into(self, model: MfdModel, tracks: Sequence[Track]) -> TakenTrunk:
        """Set the trunk of a model on the CPU to the checkpoint's weights, and return what was taken."""
        backbone = model.backbone
        assert isinstance(backbone, TrunkBackbone)
        of_package = TRUNKS[self.kind].built(self.architecture)
        put_weights(of_package, weights_of(self.file), TRUNKS[self.kind], self.file)
        backbone.trunk.load_state_dict(TRUNKS[self.kind].trunk_of(of_package).state_dict())
        return TakenTrunk(self.path, self.kind, sum(p.numel() for p in backbone.trunk.parameters()), self.thaw)


def trunk_to_start_from(folder: Path, path: str, kind: str, thaw: float) -> StartFromTrunk:
    """Return the trunk in a folder, named `path`, of a `kind` of trunk. ConfigError where there is none."""
    numbers, files = folder / NUMBERS, [folder / SAFE, folder / PICKLED]
    try:
        stored = json.loads(numbers.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError("cannot be read as the numbers of a trunk", path=numbers, hint=ASK) from error
    if not isinstance(stored, dict):
        raise ConfigError("is not a JSON object", path=numbers, hint=ASK)
    if (told := stored.get("model_type", kind)) != kind:
        raise ConfigError(f"is of a model of type {told!r}, and model.backbone is {kind}", path=numbers)
    if not any(file.is_file() for file in files):
        raise ConfigError(f"holds no weights, neither {SAFE} nor {PICKLED}", path=folder, hint=ASK)
    known = {name: stored[name] for name in TRUNKS[kind].numbers if name in stored}
    if odd := [name for name, value in known.items() if not isinstance(value, bool | int | float)]:
        raise ConfigError(f"{odd[0]} is {known[odd[0]]!r}, not a number", path=numbers)
    return StartFromTrunk(kind, path, next(file for file in files if file.is_file()), known, thaw)


def weights_of(file: Path) -> Mapping[str, Tensor]:
    """Read the tensors of a checkpoint. RunError or ConfigError where it holds something else."""
    if file.name == SAFE:
        return load_tensors(file, ASK)
    try:
        read = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError) as error:
        raise ConfigError("cannot be read as weights", path=file, hint=ASK) from error
    if not isinstance(read, dict) or not all(isinstance(value, Tensor) for value in read.values()):
        raise ConfigError("holds something else than tensors by name", path=file, hint=ASK)
    return read


def put_weights(model: nn.Module, weights: Mapping[str, Tensor], kind: Trunk, file: Path) -> None:
    """Set a package's model to the weights of its checkpoint, heads left out. ConfigError where they are not its own.

    A tensor may have several names in the model, of which a checkpoint needs one.
    """
    own = model.state_dict()
    wanted = {name: value for name, value in own.items() if not name.startswith(kind.heads)}
    given = {name: value for name, value in weights.items() if not name.startswith(kind.heads)}
    there = {wanted[name].data_ptr() for name in given if name in wanted}
    missing = [name for name, value in wanted.items() if name not in given and value.data_ptr() not in there]
    if odd := [name for name in given if name not in wanted]:
        raise ConfigError(f"has tensors that {NUMBERS} says nothing of: {few(odd)}", path=file, hint=ASK)
    if missing:
        raise ConfigError(f"lacks tensors: {few(missing)}", path=file, hint=ASK)
    if other := [name for name, value in given.items() if value.shape != wanted[name].shape]:
        shapes = f"{list(given[other[0]].shape)}, and by {NUMBERS} {list(wanted[other[0]].shape)}"
        raise ConfigError(f"{other[0]} is {shapes}", path=file, hint=ASK)
    with torch.no_grad():
        for name, value in given.items():
            wanted[name].copy_(value)
