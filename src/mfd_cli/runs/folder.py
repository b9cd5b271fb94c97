"""The run folder: the one place that knows what a checkpoint looks like. No pickle is ever written or read.

run/model.safetensors   best weights
    model.json          format version, configuration, vocabularies, tracks, digests: all that is needed to use it
    metrics.jsonl       one line per validation (runs/curve.py); curves.png beside it shows them (training/record.py)
    last/               everything needed to resume exactly: state.safetensors and state.json
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mfd_cli.base.errors import MfdError, RunError
from mfd_cli.base.files import sha256_of, whole_files
from mfd_cli.base.locks import orphans
from mfd_cli.base.notebook import facts_table, one_line
from mfd_cli.base.stored_json import read_stored, write_stored
from mfd_cli.base.urls import without_secrets
from mfd_cli.core.backbones import BACKBONES
from mfd_cli.core.losses import SignalScale
from mfd_cli.core.metadata import MetadataEncoder
from mfd_cli.core.model import MfdModel
from mfd_cli.core.motif_filters import KERNEL
from mfd_cli.engine.store import check_tensors, load_tensors, save_tensors
from mfd_cli.experiments.strands import strand_partners
from mfd_cli.experiments.track import Track, in_kinds, tracks_of
from mfd_cli.runs.description import Description, State
from mfd_cli.settings.config import Config
from mfd_cli.settings.network import ResolvedModel
from mfd_cli.settings.parse import parse_config

FORMAT, VERSION = "mfd-run", 2
WEIGHTS, DESCRIPTION, METRICS, LAST = "model.safetensors", "model.json", "metrics.jsonl", "last"
STATE = "state.json"
"""In the folder LAST: the description of the state to resume from."""
SHOWN_OF_DIGEST = 12
"""Letters of a digest that tell models apart for a reader."""
TURNS = 20
"""How often a reader looks again for weights that are being replaced, a tenth of a second apart."""


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
    def unfinished(self) -> bool:
        """Whether the training goes on, or was interrupted: the weights are the best so far, and the parts of a mixed head are
        not found yet."""
        return bool(self.about.get("unfinished"))

    @property
    def digest(self) -> str:
        """Names this model: sha256 of its weights."""
        return str(self.about["weights_sha256"])

    def __repr__(self) -> str:
        return one_line(
            self, f"{str(self.path)!r}: " + ", ".join(f"{name} {text}" for name, text in self._facts().items())
        )

    def _repr_html_(self) -> str:
        factors = ", ".join(f"{name} ({factor.group})" for name, factor in self.config.factors.items())
        more = {"factors": factors, "trained on": ", ".join(map(str, self.about["trained_on"]))}
        return facts_table(f"Run {self.path}", self._facts() | more)

    def _facts(self) -> dict[str, str]:
        """Return what a line has room for."""
        return {
            "tracks": in_kinds([track.kind for track in self.tracks]),
            "head": self.model.settings.head,
            "latents": ", ".join(f"{size} {group}" for group, size in self.model.settings.groups.items()),
            "model": self.digest[:SHOWN_OF_DIGEST],
        }


def save_run(run: Run) -> None:
    """Write model.json, which holds the digest of the weights, and model.safetensors.

    Both are complete before either gets its name; where a kill comes between the two renames, `finish_publishing` goes on.
    """
    run.path.mkdir(parents=True, exist_ok=True)
    with whole_files(run.path / DESCRIPTION, run.path / WEIGHTS) as (description, weights):
        save_tensors(weights, dict(run.model.state_dict()))
        stored = {
            "format": FORMAT,
            "version": VERSION,
            "configuration": without_secrets(run.config.model_dump(mode="json")),
            "model": run.model.settings.model_dump(mode="json"),
            "metadata": run.model.metadata.to_json(),
            "tracks": [asdict(track) for track in run.tracks],
            "trained": run.model.trained.tolist(),
            **({"added": run.model.added.tolist()} if run.model.added.any() else {}),
            "signal_scale": run.signal_scale.to_json(),
            "about": {**run.about, "weights_sha256": sha256_of(weights)},
        }
        write_stored(description, stored)


def load_run(path: str | Path) -> Run:
    """Open a run folder; its model is in evaluation mode. RunError where it is missing, damaged or of another version."""
    path = Path(path)
    with contextlib.suppress(OSError):
        finish_publishing(path)
    stored, weights = _agreeing(path)
    tensors = load_tensors(weights, _AGAIN)
    try:
        run = _described(path, stored, sum(tensor.numel() for tensor in tensors.values()))
    except (MfdError, ValueError, ArithmeticError) as error:
        reason = error.message if isinstance(error, MfdError) else str(error)
        raise RunError(f"describes no model: {reason[:300]}", path=path / DESCRIPTION, hint=_AGAIN) from error
    check_tensors(tensors, run.model.state_dict(), weights, _AGAIN)
    run.model.load_state_dict(tensors)
    return run


def _agreeing(path: Path) -> tuple[dict[str, Any], Path]:
    """model.json and the weights that it names. A training that goes on replaces the two one after the other: a reader that
    comes between waits for the second."""
    weights = path / WEIGHTS
    for turn in range(TURNS):
        stored = read_description(path)
        if weights.is_file() and sha256_of(weights) == stored["about"]["weights_sha256"]:
            return stored, weights
        if not list(path.glob(f".{WEIGHTS}.tmp-*")) or turn == TURNS - 1:
            break
        time.sleep(0.1)
    problem = "is damaged: its sha256 is not the one in model.json" if weights.is_file() else "is missing"
    raise RunError(problem, path=weights, hint=_AGAIN)


def _described(path: Path, stored: Mapping[str, Any], numbers: int) -> Run:
    """The run that model.json describes, with random weights. An error where its entries do not fit each other, or a network
    of more than so many numbers."""
    config, settings = parse_config(stored["configuration"]), ResolvedModel.model_validate(stored["model"])
    check_settings(settings, config, numbers)
    tracks, metadata = tracks_of(stored["tracks"]), MetadataEncoder.from_json(stored["metadata"])
    factors = {name: (factor.column, factor.type) for name, factor in config.factors.items()}
    if {name: (metadata.columns[name], encoder.type) for name, encoder in metadata.encoders.items()} != factors:
        raise RunError("metadata: are not the factors of the configuration")
    trained = np.array(stored["trained"], bool)
    metadata.encode([track.metadata for track, used in zip(tracks, trained) if used])  # all their levels are known
    model = MfdModel(
        settings,
        metadata,
        config.factors,
        [track.metadata for track in tracks],
        trained,
        np.zeros(len(tracks), np.float32),
        np.array(stored.get("added") or [False] * len(tracks), bool),
    )
    model.stranded = bool((strand_partners(tracks, config) != np.arange(len(tracks))).any())
    return Run(path, config, model.eval(), tracks, SignalScale.from_json(stored["signal_scale"]), stored["about"])


def check_settings(settings: ResolvedModel, config: Config, numbers: int) -> None:
    """Raise RunError where a network is not that of a configuration, or has more weights than `numbers`.

    It is asked before the network takes memory: a damaged description must not fill the machine.
    """
    configured = config.model.model_dump(exclude={"preset", "groups", "technical", "trunk"}, exclude_none=True)
    stored = settings.model_dump()
    other = [name for name, value in configured.items() if stored[name] != value]
    if other:
        raise RunError(f"model.{other[0]}: is {stored[other[0]]}, in the configuration {configured[other[0]]}")
    if not (settings.backbone in BACKBONES and 1 <= settings.kmer <= 3 and settings.window <= _LARGEST_WINDOW):
        raise RunError("model: has a backbone, kmer or window that is not known")
    sizes, used = list(settings.groups.values()), {factor.group for factor in config.factors.values()}
    if not used <= set(settings.groups) or min(sizes) < 1 or sum(sizes) != settings.latent:
        raise RunError("model.groups: are not those of the factors, or do not fill the latent")
    width, hidden = settings.width, max([settings.hidden, *(factor.dim or 0 for factor in config.factors.values())])
    layers = (
        3 * width * width,
        width * settings.latent,
        settings.filters * (KERNEL * 4**settings.kmer + settings.latent),
        4 * hidden * hidden if settings.head == "conditioned" else 0,
    )
    if min(width, settings.hidden) < 1 or settings.filters < 0 or max(layers) > numbers:
        raise RunError("model: is larger than its weights")
    # Layers of a trunk have more weights than inputs: a deep one must not be built first.
    if settings.architecture.get("depth", 0) * settings.architecture.get("dim", 1) > numbers:
        raise RunError("model.architecture: is larger than its weights")


_LARGEST_WINDOW = 1 << 20


def finish_publishing(path: Path) -> None:
    """Give new weights their name where their description has its already: a kill came between the two."""
    if not (path / DESCRIPTION).is_file():
        return
    waiting = [
        folder / WEIGHTS for folder, name, _ in orphans(path) if name == WEIGHTS and (folder / WEIGHTS).is_file()
    ]
    wanted = read_description(path)["about"]["weights_sha256"] if waiting else ""
    for file in waiting:
        if sha256_of(file) == wanted:
            file.replace(path / WEIGHTS)


def run_folders(path: Path) -> list[Path]:
    """Return the run folders at a path: itself, or those of several seeds (`seed-N`) in it, in the order of the seeds."""
    return [path] if (path / DESCRIPTION).is_file() else runs_of_seeds(path) or [path]


def runs_of_seeds(path: Path) -> list[Path]:
    """Return the run folders of several seeds (`seed-N`) inside a folder, in the order of the seeds."""
    seeds = [folder for folder in path.glob("seed-*") if (folder / DESCRIPTION).is_file()]
    return sorted(seeds, key=lambda folder: (len(folder.name), folder.name))


def shortest_names(paths: Iterable[Path]) -> dict[str, Path]:
    """Return folders by name, each once: the last part of its path, and as many before it as tell it from the others."""
    parts = {path.resolve().parts: path for path in paths}
    names = {}
    for own, path in parts.items():
        others = [other for other in parts if other != own]
        length = next((n for n in range(1, len(own)) if all(other[-n:] != own[-n:] for other in others)), len(own))
        names["/".join(own[-length:])] = path
    return names


GO_ON = "mfd train --resume goes on with it"
"""What to do about a training that has not finished."""
_AGAIN = "run mfd train again"


def read_description(path: Path) -> dict[str, Any]:
    """Read model.json of a run folder, checked for format, version, and the type of its entries; RunError where it is none."""
    file = path / DESCRIPTION
    if not file.exists():
        raise RunError("there is no trained model here (no model.json)", path=path, hint="run mfd train first")
    return read_stored(file, Description, RunError, _AGAIN, (FORMAT, VERSION))


def save_last(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write the state to resume from. The description is written last and names the digest of its tensors.

    Tensors carry the step in their file name, so that a kill between the two writes leaves the older pair intact; also at
    step 0, where the older pair may be the first one of a run that is replaced (`state-00`).
    """
    folder = path / LAST
    file = folder / f"state-{state['step']}.safetensors"
    if state["step"] == 0 and file.name in _text_of(folder / STATE):
        file = folder / "state-00.safetensors"
    save_tensors(file, tensors)
    write_stored(folder / STATE, {**state, "file": file.name, "sha256": sha256_of(file)})
    for old in folder.glob("state-*.safetensors"):
        if old != file:
            old.unlink()


def _text_of(file: Path) -> str:
    """The text of a file that may be missing or damaged."""
    try:
        return file.read_text("utf-8", errors="replace")
    except OSError:
        return ""


def load_last(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read what `save_last` wrote: tensors and state.json; None where nothing can be resumed. RunError where it is damaged."""
    description = path / LAST / STATE
    if not description.exists():
        return None
    state = read_stored(description, State, RunError, START_ANEW)
    file = path / LAST / state["file"]
    if not file.is_file():
        raise RunError("is missing", path=file, hint=START_ANEW)
    if sha256_of(file) != state["sha256"]:
        raise RunError("is damaged: its sha256 is not the one in state.json", path=file, hint=START_ANEW)
    return load_tensors(file, START_ANEW), state


START_ANEW = "mfd train --force starts anew"
