"""The run folder of `mfd contig`: a trained image encoder and what is known of it; engine/checkpoint.py has its files.

contig-run/model.json     settings, encoders and sizes, the variants with their statistics, the cohort's digest, the validation,
                          and whether anything was learnt that holds for new persons
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from mfd_cli.base.errors import ConfigError, MfdError, RunError
from mfd_cli.base.notebook import one_line
from mfd_cli.base.stored_json import Natural, Sha256, Stored, read_stored
from mfd_cli.contig.config import ContigConfig
from mfd_cli.contig.core.networks import ContigModel, projection_head
from mfd_cli.contig.data.cohort import Cohort
from mfd_cli.contig.data.image_factors import FactorEncoder
from mfd_cli.contig.data.labels import LabelColumn
from mfd_cli.contig.technical import outputs_of
from mfd_cli.core.metadata import ENCODERS
from mfd_cli.engine.checkpoint import DESCRIPTION, agreeing, finish_publishing, publish_model
from mfd_cli.engine.store import check_tensors, load_tensors
from mfd_cli.settings.parse import parse_settings

FORMAT, VERSION = "mfd-contig-run", 1
AGAIN = "run mfd contig train again"
GO_ON = "mfd contig train --resume goes on with it"
CONTROLS = ("random", "shuffled", "simclr", "simclr-eyes")
"""What is trained beside a model with the knowledge taken out: an untrained network; one whose pairs are permuted; and rivals
that learn from pictures alone."""
VIEWS, LABELS = "views", "labels"
"""The image heads of objectives without a genetic side."""


class StoredAbout(Stored):
    """What a description says of the training."""

    weights_sha256: Sha256
    cohort_digest: Sha256
    control: str
    step: Natural
    skill: Annotated[list[float], Field(min_length=2, max_length=2)]
    learned: bool
    unfinished: bool = False


class StoredLabel(Stored):
    """What a description says of a column of labels."""

    name: str
    levels: list[str]
    shares: list[Annotated[float, Field(gt=0, le=1)]]
    mean: float
    sd: Annotated[float, Field(gt=0)]


class Description(Stored):
    """What model.json must hold."""

    configuration: dict[str, Any]
    inputs: dict[str, Natural]
    variants: dict[str, list[str]]
    persons: list[str]
    salt: str
    about: StoredAbout
    factors: dict[str, dict[str, Any]] = Field(default_factory=dict)
    labels: list[StoredLabel] = Field(default_factory=list)


class State(Stored):
    """What last/state.json must hold."""

    step: Natural
    total_steps: Natural
    seconds: Annotated[float, Field(ge=0)]
    sums: dict[str, float]
    best: Annotated[list[float | None], Field(min_length=4, max_length=4)]
    threads: Annotated[int, Field(ge=1)]
    plan: dict[str, Any]
    cohort: Sha256
    file: Annotated[str, Field(pattern=r"^state-[0-9]{1,20}\.[a-z]{1,20}$")]  # a name, not a path to elsewhere
    sha256: Sha256


@dataclass(frozen=True)
class ContigRun:
    """A trained image encoder. `inputs` counts the inputs of each modality, `variants` names them; `persons` are salted digests
    of those it was trained on. A supervised one says what its `labels` are; without a genetic side there are no inputs."""

    path: Path
    config: ContigConfig
    model: ContigModel = field(repr=False)
    inputs: Mapping[str, int]
    variants: Mapping[str, list[str]]
    persons: frozenset[str]
    salt: str
    about: Mapping[str, Any]
    factors: Mapping[str, FactorEncoder] = field(default_factory=dict)
    """How technical factors of images become numbers, as its training images had them."""
    labels: tuple[LabelColumn, ...] = ()

    @property
    def digest(self) -> str:
        """Names the model: sha256 of its weights."""
        return str(self.about["weights_sha256"])

    @property
    def control(self) -> str:
        """Which control this is; empty for a model."""
        return str(self.about["control"])

    @property
    def learned(self) -> bool:
        """Whether the skill on validation persons was above 0 by two standard errors."""
        return bool(self.about["learned"])

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.control or self.config.objective.kind

    def knew(self, person: str) -> bool:
        """Return whether the model was trained on this person."""
        return salted(self.salt, person) in self.persons

    def __repr__(self) -> str:
        return one_line(self, f"{str(self.path)!r}: {self.name}, skill {self.about['skill'][0]:.3f} nats")


def built(
    config: ContigConfig,
    inputs: Mapping[str, int],
    factors: Mapping[str, FactorEncoder] | None = None,
    labels: Sequence[LabelColumn] = (),
) -> ContigModel:
    """Return a network with random weights for so many inputs of each modality or for these labels, and these technical
    factors."""
    net = config.model
    encoders = {
        name: (config.modalities[name].encoder, count, config.modalities[name].hidden) for name, count in inputs.items()
    }
    start = config.objective.temperature
    technical = config.technical_features
    outputs = outputs_of(factors or {}) if technical else {}
    model = ContigModel(
        net.image, net.width, net.features, net.head, net.projection, encoders, start, technical, outputs
    )
    biological = net.features - technical
    if config.objective.kind in ("simclr", "simclr-eyes"):
        model.heads[VIEWS] = projection_head(biological, net.head, net.projection)
    elif config.objective.kind == "supervised":
        model.heads[LABELS] = nn.Linear(biological, sum(column.outputs for column in labels))
    return model


def inputs_of(config: ContigConfig, cohort: Cohort) -> dict[str, int]:
    """Return how many inputs each modality has; nothing where the objective has no genetic side."""
    return {name: len(columns) for name, columns in cohort.columns.items()} if config.objective.genetic else {}


def salted(salt: str, person: str) -> str:
    """Return a digest that tells whether a person is the same, and not who it is."""
    return hashlib.sha256(f"{salt}\n{person}".encode()).hexdigest()[:32]


def named_inputs(cohort: Cohort) -> dict[str, list[str]]:
    """Return what names the inputs of each modality; see `ModalityColumns.labels`."""
    return {name: columns.labels() for name, columns in cohort.columns.items()}


def save_run(run: ContigRun) -> None:
    """Write model.json and the weights, whole; for their owner alone, since they are made of personal data."""
    run.path.mkdir(parents=True, exist_ok=True)
    run.path.chmod(0o700)
    description = {
        "format": FORMAT,
        "version": VERSION,
        "configuration": run.config.model_dump(mode="json"),
        "inputs": dict(run.inputs),
        "variants": dict(run.variants),
        "persons": sorted(run.persons),
        "salt": run.salt,
        "about": dict(run.about),
    }
    if run.factors:
        description["factors"] = {name: encoder.to_json() for name, encoder in run.factors.items()}
    if run.labels:
        description["labels"] = [asdict(column) for column in run.labels]
    publish_model(run.path, dict(run.model.state_dict()), description)


def load_run(path: Path) -> ContigRun:
    """Open a run folder; its model is in evaluation mode. RunError where it is missing, damaged or of another version."""
    with contextlib.suppress(OSError):
        finish_publishing(path, read_description)
    stored, weights = agreeing(path, read_description, AGAIN)
    tensors = load_tensors(weights, AGAIN)
    try:
        config = parse_settings(ContigConfig, stored["configuration"])
        if set(stored["inputs"]) != set(config.modalities if config.objective.genetic else ()):
            raise RunError("inputs: are not the modalities of the configuration")
        labels = tuple(_label(column) for column in stored.get("labels", ()))
        if sum(stored["inputs"].values()) > sum(tensor.numel() for tensor in tensors.values()):
            raise RunError("inputs: are more than its weights")
        factors = factors_from(config, stored.get("factors", {}))
        model = built(config, stored["inputs"], factors, labels)
    except (MfdError, ValueError, ArithmeticError, LookupError, TypeError) as error:
        reason = error.message if isinstance(error, MfdError) else str(error)
        raise RunError(f"describes no model: {reason[:300]}", path=path / DESCRIPTION, hint=AGAIN) from error
    check_tensors(tensors, model.state_dict(), weights, AGAIN)
    model.load_state_dict(tensors)
    return ContigRun(
        path,
        config,
        model.eval(),
        stored["inputs"],
        stored["variants"],
        frozenset(stored["persons"]),
        stored["salt"],
        stored["about"],
        factors,
        labels,
    )


def factors_from(config: ContigConfig, stored: Mapping[str, Any]) -> dict[str, FactorEncoder]:
    """Return the encoders of technical factors as a description has them. RunError where they are not the configuration's."""
    if set(stored) != set(config.factors):
        raise RunError("factors: are not those of the configuration")
    return {name: ENCODERS[config.factors[name].type].from_json(name, stored[name]) for name in config.factors}


def _label(stored: Mapping[str, Any]) -> LabelColumn:
    """A column of labels as a description says it."""
    return LabelColumn(stored["name"], tuple(stored["levels"]), tuple(stored["shares"]), stored["mean"], stored["sd"])


def read_description(path: Path) -> dict[str, Any]:
    """Read model.json of a run folder, checked. RunError where it is none."""
    file = path / DESCRIPTION
    if not file.exists():
        raise RunError(
            f"there is no trained model here (no {DESCRIPTION})", path=path, hint="run mfd contig train first"
        )
    return read_stored(file, Description, RunError, AGAIN, (FORMAT, VERSION))


def check_fit(run: ContigRun, cohort: Cohort) -> None:
    """Raise ConfigError where the inputs of a cohort are not those that a run was trained with."""
    for name, variants in run.variants.items():
        if name not in cohort.columns or cohort.columns[name].labels() != variants:
            what = "variants" if ":" in "".join(variants[:1]) else "columns"
            raise ConfigError(
                f"the cohort {cohort.path} has other {what} of {name} than {run.path} was trained with",
                hint="a run is used with the cohort that it was trained on; mfd contig train makes one for this cohort",
            )


def new_persons(run: ContigRun, persons: Iterable[str], allow_trained: bool) -> None:
    """Raise ConfigError where a run was trained on one of these persons, and that is not allowed."""
    known = sum(run.knew(person) for person in persons)
    if known and not allow_trained:
        raise ConfigError(
            f"{known:,} of these persons are among those that {run.path} was trained on: what is found in them says nothing of "
            "others",
            hint="use the test split; --allow-trained goes on, and says so in the results",
        )


def to_device(run: ContigRun, device: torch.device) -> ContigModel:
    """Return the model on a device, in evaluation mode."""
    return run.model.to(device).eval()
