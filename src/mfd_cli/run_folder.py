"""The run folder: the one place that knows what a checkpoint looks like. No pickle is ever written or read.

run/model.safetensors   best weights
    model.json          format version, configuration, vocabularies, tracks, digests: all that is needed to use it
    metrics.jsonl       one line per validation
    last/               everything needed to resume exactly: state.safetensors and state.json
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mfd_cli.config import Config, ResolvedModel, parse_config
from mfd_cli.core.losses import SignalScale
from mfd_cli.core.metadata import MetadataEncoder
from mfd_cli.core.model import MfdModel
from mfd_cli.data.dataset import Track
from mfd_cli.errors import RunError
from mfd_cli.files import read_versioned, sha256_of, whole_file, whole_files, write_json
from mfd_cli.roles import strand_partners

FORMAT, VERSION = "mfd-run", 1
WEIGHTS, DESCRIPTION, METRICS, LAST = "model.safetensors", "model.json", "metrics.jsonl", "last"


@dataclass(frozen=True)
class Run:
    """A trained model and what is known of it. `tracks` are in the order of the model's outputs: peaks, then signals.

    `about` holds genome_digest, dataset_digest, contigs {name: length}, trained_on (contigs), and training's summary.
    """

    path: Path
    config: Config
    model: MfdModel = field(repr=False)
    tracks: tuple[Track, ...]
    signal_scale: SignalScale
    about: Mapping[str, Any]

    @property
    def peak_tracks(self) -> int:
        """How many outputs are peak tracks; they come first."""
        return sum(track.kind == "peaks" for track in self.tracks)

    @property
    def digest(self) -> str:
        """Names this model: sha256 of its weights."""
        return str(self.about["weights_sha256"])


def save_run(run: Run) -> None:
    """Write model.json, which holds the digest of the weights, and model.safetensors. Both are complete before either gets its
    name; where a kill comes between the two, `finish_publishing` goes on."""
    run.path.mkdir(parents=True, exist_ok=True)
    with whole_files(run.path / DESCRIPTION, run.path / WEIGHTS) as (description, weights):
        save_tensors(weights, dict(run.model.state_dict()))
        stored = {
            "format": FORMAT, "version": VERSION, "configuration": run.config.model_dump(mode="json"),
            "model": run.model.settings.model_dump(mode="json"), "metadata": run.model.metadata.to_json(),
            "tracks": [asdict(track) for track in run.tracks], "trained": run.model.trained.tolist(),
            "signal_scale": run.signal_scale.to_json(),
            "about": {**run.about, "weights_sha256": sha256_of(weights)},
        }  # fmt: skip
        write_json(description, stored)


def load_run(path: Path) -> Run:
    """Open a run folder. RunError where it is missing, damaged or of another version."""
    stored = read_description(path)
    weights = path / WEIGHTS
    with contextlib.suppress(OSError):
        finish_publishing(path)
    if not weights.is_file():
        raise RunError("is missing", path=weights, hint=_AGAIN)
    if sha256_of(weights) != stored["about"]["weights_sha256"]:
        raise RunError("is damaged: its sha256 is not the one in model.json", path=weights, hint=_AGAIN)
    config = parse_config(stored["configuration"])
    tracks = tuple(
        Track(**{**track, "assayed": tuple(track["assayed"]) if track["assayed"] else None})
        for track in stored["tracks"]
    )
    model = MfdModel(
        ResolvedModel.model_validate(stored["model"]), MetadataEncoder.from_json(stored["metadata"]), config.factors,
        [track.metadata for track in tracks], np.array(stored["trained"], bool), np.zeros(len(tracks), np.float32),
    )  # fmt: skip
    model.load_state_dict(load_tensors(weights))
    model.stranded = bool((strand_partners(tracks, config) != np.arange(len(tracks))).any())
    return Run(path, config, model.eval(), tracks, SignalScale.from_json(stored["signal_scale"]), stored["about"])


def finish_publishing(path: Path) -> None:
    """Give new weights their name where their description has its already: a kill came between the two."""
    description = path / DESCRIPTION
    waiting = sorted(path.glob(f".{WEIGHTS}.tmp-*/{WEIGHTS}"))
    if not waiting or not description.is_file():
        return
    wanted = read_description(path)["about"]["weights_sha256"]
    for file in waiting:
        if sha256_of(file) == wanted:
            file.replace(path / WEIGHTS)


def run_folders(path: Path) -> list[Path]:
    """The run folders at a place: itself, or those of several seeds (`seed-N`) in it."""
    if (path / DESCRIPTION).is_file():
        return [path]
    seeds = [folder for folder in path.glob("seed-*") if (folder / DESCRIPTION).is_file()]
    return sorted(seeds, key=lambda folder: (len(folder.name), folder.name)) or [path]


_AGAIN = "run mfd train again"


def read_description(path: Path) -> dict[str, Any]:
    """model.json of a run folder, checked for format and version."""
    file = path / DESCRIPTION
    if not file.is_file():
        raise RunError("there is no trained model here (no model.json)", path=path, hint="run mfd train first")
    return read_versioned(file, FORMAT, VERSION, RunError, _AGAIN)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file, whole."""
    with whole_file(path) as temporary:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, temporary)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file."""
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise RunError("is not a safetensors file", path=path, hint=_AGAIN) from error


def save_last(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """The state to resume from. The description is written last and names the digest of its tensors.

    Tensors carry the step in their file name, so that a kill between the two writes leaves the older pair intact.
    """
    folder = path / LAST
    file = folder / f"state-{state['step']}.safetensors"
    save_tensors(file, tensors)
    write_json(folder / "state.json", {**state, "file": file.name, "sha256": sha256_of(file)})
    for old in folder.glob("state-*.safetensors"):
        if old != file:
            old.unlink()


def load_last(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What `save_last` wrote, or None where nothing can be resumed; RunError where it is damaged."""
    description = path / LAST / "state.json"
    if not description.is_file():
        return None
    try:
        state = json.loads(description.read_text("utf-8"))
        file = path / LAST / state["file"]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError("is damaged", path=description, hint="train without --resume") from error
    if not file.is_file() or sha256_of(file) != state["sha256"]:
        raise RunError("is damaged: its sha256 is not the one in state.json", path=file, hint="train without --resume")
    return load_tensors(file), state
