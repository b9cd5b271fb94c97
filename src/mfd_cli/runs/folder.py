"""The run folder: the one place that knows what describes a trained model of tracks; engine/checkpoint.py has its files.

run/model.json          format version, configuration, vocabularies, tracks, digests: all that is needed to use it
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mfd_cli.base.errors import MfdError, RunError
from mfd_cli.base.notebook import facts_table, one_line
from mfd_cli.base.stored_json import read_stored
from mfd_cli.base.urls import without_secrets
from mfd_cli.core.backbones import BACKBONES
from mfd_cli.core.losses import SignalScale
from mfd_cli.core.metadata import MetadataEncoder
from mfd_cli.core.model import MfdModel
from mfd_cli.core.motif_filters import KERNEL
from mfd_cli.engine import checkpoint
from mfd_cli.engine.checkpoint import DESCRIPTION, agreeing, finish_publishing, publish_model, runs_of_seeds
from mfd_cli.engine.store import check_tensors, load_tensors
from mfd_cli.experiments.strands import strand_partners
from mfd_cli.experiments.track import Track, in_kinds, tracks_of
from mfd_cli.runs.description import Description, State
from mfd_cli.settings.config import Config
from mfd_cli.settings.network import ResolvedModel
from mfd_cli.settings.parse import parse_config

FORMAT, VERSION = "mfd-run", 2
SHOWN_OF_DIGEST = 12
"""Letters of a digest that tell models apart for a reader."""


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
        settings = self.model.settings
        return {
            "tracks": in_kinds([track.kind for track in self.tracks]),
            "head": settings.head,
            "latents": f"{settings.latent}, which all groups share"
            if self.config.groups_share_latents
            else ", ".join(f"{size} {group}" for group, size in settings.groups.items()),
            "model": self.digest[:SHOWN_OF_DIGEST],
        }


def save_run(run: Run) -> None:
    """Write model.json, which holds the digest of the weights, and model.safetensors.

    Both are complete before either gets its name; where a kill comes between the two renames, `finish_publishing` goes on.
    """
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
        "about": dict(run.about),
    }
    publish_model(run.path, dict(run.model.state_dict()), stored)


def load_run(path: str | Path) -> Run:
    """Open a run folder; its model is in evaluation mode. RunError where it is missing, damaged or of another version."""
    path = Path(path)
    with contextlib.suppress(OSError):
        finish_publishing(path, read_description)
    stored, weights = agreeing(path, read_description, _AGAIN)
    tensors = load_tensors(weights, _AGAIN)
    try:
        run = _described(path, stored, sum(tensor.numel() for tensor in tensors.values()))
    except (MfdError, ValueError, ArithmeticError) as error:
        reason = error.message if isinstance(error, MfdError) else str(error)
        raise RunError(f"describes no model: {reason[:300]}", path=path / DESCRIPTION, hint=_AGAIN) from error
    check_tensors(tensors, run.model.state_dict(), weights, _AGAIN)
    run.model.load_state_dict(tensors)
    return run


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


def run_folders(path: Path) -> list[Path]:
    """Return the run folders at a path: itself, or those of several seeds (`seed-N`) in it, in the order of the seeds."""
    return [path] if (path / DESCRIPTION).is_file() else runs_of_seeds(path) or [path]


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


def load_last(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read the state to go on from: tensors and state.json; None where nothing can be resumed. RunError where it is damaged."""
    return checkpoint.load_last(path, State, START_ANEW)


START_ANEW = "mfd train --force starts anew"
