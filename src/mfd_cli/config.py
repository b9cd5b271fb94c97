"""The typed configuration tree: what `mfd.toml` may say, and the presets.

Every node is frozen. A misspelt key is answered with the nearest right one. Paths in the file are relative to it.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mfd_cli.errors import ConfigError
from mfd_cli.files import check_input

_LARGEST = 1 << 20
"""Bytes of mfd.toml."""
_LONG_KEY = re.compile(r"(?<![^\s=,\[{])(?:[^\s.=,#\[\]{}]++[ \t]*+\.[ \t]*+){100}")
"""A key of so many names, over which tomllib would take for ever."""
_MOST = (1 << 31) - 1
"""Nothing is counted further."""
Count = Annotated[int, Field(ge=1, le=_MOST)]
Share = Annotated[float, Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]


class Node(BaseModel):
    """One branch of the tree: frozen, no unknown keys, no infinite numbers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), validate_default=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """`epochs = true` would otherwise be one epoch."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("Input should not be true or false")
        return value


class DataConfig(Node):
    """Where things are."""

    fasta: Text | None = Field(None, description="reference genome: FASTA, plain, gzip or bgzip")
    metadata: Text | None = Field(None, description="table of tracks, one row per file, tab-separated with a header")
    dataset: Text = Field("dataset", description="dataset folder that preprocess writes")
    run: Text = Field("run", description="run folder that train writes")


class TracksConfig(Node):
    """Which columns of the metadata table say what."""

    id: Text = Field("File accession", description="column with a unique name per track")
    path: Text = Field("File path", description="column with the file of each track, relative to the table")
    kind: Text | None = Field(None, description="column saying peaks or signal; without it the file name decides")
    assayed: Text | None = Field(None, description="column with a BED of where the track was measured")
    strand: Text | None = Field(None, description="column with the strand (+ or -) of stranded signal tracks")
    counts: Text | None = Field(None, description="column that says counts for signal tracks with a Poisson loss")
    control: Text | None = Field(None, description="column whose non-empty value marks a control experiment")
    experiment: tuple[Text, ...] = Field(
        ("Experiment accession", "Library accession"),
        description="columns naming the experiment and the library; tracks that share one are held out together",
    )


class BinsConfig(Node):
    """Which bins are kept and when a peak labels one."""

    size: Literal[128] = Field(128, description="bin size in bp; the backbones predict 128-bp bins")
    min_overlap: int = Field(64, ge=1, le=128, description="bp of overlap that make a peak label a bin")
    min_tracks: int = Field(1, ge=1, description="tracks with a peak that a bin needs to be kept as a peak bin")
    background: Literal["all"] | Annotated[float, Field(ge=0)] = Field(
        1.0, description='bins without any peak, matched for GC: a number per peak bin, or "all"'
    )
    regions: Text | None = Field(None, description="BED: only bins wholly inside are used")
    exclude: Text | None = Field(None, description="BED (blacklist): bins that touch it are left out")
    max_unknown: float = Field(0.5, ge=0, le=1, description="largest share of N in a bin")


class SplitConfig(Node):
    """Which contigs are kept for validation and test."""

    test: tuple[Text, ...] = Field((), description="contigs of the test split")
    validation: tuple[Text, ...] | Annotated[float, Field(gt=0, lt=0.5)] = Field(
        0.1, description="contigs of the validation split, or the share of the remaining bins in blocks"
    )
    guard: int | None = Field(
        None, ge=0, le=_MOST, description="bp kept free between splits; default: the model's window"
    )


FactorType = Literal["category", "multilabel", "number", "year"]
Encode = Literal["multihot", "embed", "linear", "rescale", "rescale-each"]


class FactorConfig(Node):
    """One metadata column that the model knows."""

    column: Text = Field(description="column of the metadata table")
    group: Text = Field(description="group (subspace) of the latent that the factor drives")
    role: Literal["direct", "interact", "both"] = Field("interact", description="how its code becomes weights")
    type: FactorType = Field("category", description="what its values are")
    encode: Encode | None = Field(None, description="default: rescale-each for direct, linear or multihot otherwise")
    dim: Count | None = Field(None, description="width of the embed and linear encodings")
    missing: Literal["level", "error"] = Field("level", description="an empty value is a level of its own, or an error")


class ModelConfig(Node):
    """The network. What is not given comes from the preset."""

    preset: Literal["small", "paper-1152", "wide-2176", "default"] = "default"
    backbone: Literal["dilated"] | None = Field(None, description="the convolutional network")
    width: Count | None = Field(None, description="channels of the last tower block (C), even")
    window: Count | None = Field(None, description="bp that the model reads: 128 x an odd number")
    kmer: Annotated[int, Field(ge=1, le=3)] | None = Field(None, description="order of the one-hot input")
    latent: Count | None = Field(None, description="size of the latent (K); default 2 x width")
    groups: dict[str, Share] | None = Field(
        None, description="share of the latent per group, e.g. {biological = 0.75, technical = 0.25}"
    )
    hidden: Count | None = Field(None, description="half the hidden width of the metadata networks (h)")
    head: Literal["conditioned", "free"] = "conditioned"
    gain: bool = Field(False, description="learn a signal-to-noise gain per track and group")
    centre: Literal["tracks", "levels"] = Field("tracks", description="what the centring of the weights averages over")


PenaltyName = Literal["covariance", "covariance-l1", "projections", "discriminator", "predictor", "distance"]


class PenaltyConfig(Node):
    """One independence penalty."""

    weight: float = Field(
        0.0, ge=0, description="0 switches it off; in units of the loss of a model that knows only track frequencies"
    )
    start: float = Field(0.0, ge=0, le=1, description="share of training before the weight begins to rise from 0")
    warmup: float = Field(0.2, ge=0, le=1, description="share of training over which it rises")
    published: bool = Field(False, description="the paper's own form: sums over dimensions, no chance subtracted")


DEFAULT_PENALTIES: dict[PenaltyName, PenaltyConfig] = {"distance": PenaltyConfig(weight=0.4)}
"""What the truth benchmark (examples/bench_truth.py) measures best."""


class ObjectiveConfig(Node):
    """What is minimised."""

    signal_weight: float = Field(0.1, ge=0, description="weight of a signal track's loss beside a peak track's")
    penalties: dict[PenaltyName, PenaltyConfig] = Field(
        default_factory=lambda: dict(DEFAULT_PENALTIES),
        description="independence penalties, which add up; naming one replaces the default, {} is none",
    )
    adversary_lr: float = Field(1e-3, gt=0, description="learning rate of the adversary")
    adversary_hidden: Count = Field(256, description="width of the adversary's three hidden layers")
    adversary_steps: Count = Field(1, description="adversary steps per model step")


class TrainConfig(Node):
    """How it is minimised."""

    epochs: Count = 20
    batch_size: Count = 128
    lr: float = Field(4e-3, gt=0, description="peak learning rate (AdamW, one cycle)")
    weight_decay: float = Field(
        0.03, ge=0, description="of weight matrices, per step and relative to the learning rate"
    )
    precision: Literal["auto", "float32", "bf16"] = Field("auto", description="auto: bf16 on CUDA, float32 on a CPU")
    memory: Literal["auto", "device", "host"] = Field(
        "auto", description="where genome and labels are kept; host: a thread gathers the next batches"
    )
    seed: int = Field(1, ge=0, lt=1 << 63)
    shift: int = Field(3, ge=0, le=63, description="largest random shift of a training window, bp")
    reverse_complement: bool = True
    deterministic: bool = Field(
        False, description="only operations that give the same bits each time; resumed with the same number of threads"
    )
    max_minutes: float | None = Field(None, gt=0, description="stop after this many minutes")
    max_windows: int | None = Field(None, ge=1, description="stop after this many training windows")
    patience: Count = Field(5, description="validations without improvement before training stops")
    windows_per_validation: int | None = Field(None, ge=1, description="default: once per epoch")
    validation_bins: Count = Field(20_000, description="at most this many bins are used for each validation")
    held_out: tuple[str | dict[str, str], ...] = Field(
        (),
        description='kept out of training: ids of tracks, or levels together, e.g. {target = "CTCF", assay = "ATAC-seq"}',
    )


def _factor_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
        raise ValueError("the name of a factor is letters, digits, - and _, starting with a letter")
    return name


class Config(Node):
    """The whole of mfd.toml."""

    data: DataConfig = DataConfig()
    tracks: TracksConfig = TracksConfig()
    bins: BinsConfig = BinsConfig()
    split: SplitConfig = SplitConfig()
    factors: dict[Annotated[str, AfterValidator(_factor_name)], FactorConfig] = Field(default_factory=dict)
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _check(self) -> Config:
        groups = set(self.resolved_model().groups)
        for name, factor in self.factors.items():
            if factor.group not in groups:
                near = nearest(factor.group, groups)
                raise ValueError(f"factors.{name}.group is {factor.group!r}, not one of {sorted(groups)}{near}")
            meant = difflib.get_close_matches(factor.group.lower(), list(DEFAULT_GROUPS), n=1, cutoff=_SLIP)
            if meant and factor.group not in {*meant, *(self.model.groups or ())}:
                raise ValueError(f"factors.{name}.group is {factor.group!r}; did you mean {meant[0]}?")
        return self

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, in the one canonical order: that of the configuration."""
        return tuple(self.resolved_model().groups)

    def resolved_model(self) -> ResolvedModel:
        """The model's settings with the preset's values filled in, checked against each other."""
        return resolve_model(self.model, [factor.group for factor in self.factors.values()])


class ResolvedModel(Node):
    """The network with nothing left open: what a checkpoint stores."""

    backbone: str
    width: int
    window: int
    kmer: int
    latent: int
    groups: dict[str, int]
    hidden: int
    head: Literal["conditioned", "free"]
    gain: bool
    centre: Literal["tracks", "levels"]


PRESETS: dict[str, dict[str, Any]] = {
    "small": {"backbone": "dilated", "width": 32, "window": 384, "kmer": 1, "hidden": 32},
    "paper-1152": {"backbone": "dilated", "width": 120, "window": 1152, "kmer": 2, "hidden": 128},
    "wide-2176": {"backbone": "dilated", "width": 768, "window": 2176, "kmer": 2, "hidden": 256},
    "default": {"backbone": "dilated", "width": 64, "window": 1152, "kmer": 1, "hidden": 64},
}
DEFAULT_GROUPS = {"biological": 0.75, "technical": 0.25}
_SLIP = 0.85
"""How much alike (difflib) the name of one's own group and a default one may be: a slip would make a group of its own."""


def resolve_model(model: ModelConfig, factor_groups: Sequence[str] = ()) -> ResolvedModel:
    """Fill in the preset and turn the shares of the groups into latent counts that sum to K.

    The shares are relative: {biological = 3, technical = 1} and {biological = 0.75, technical = 0.25} are the same.
    Raises ValueError (shown as a ConfigError) where the numbers cannot work.
    """
    filled = {**PRESETS[model.preset], **{k: v for k, v in model.model_dump().items() if v is not None}}
    width, window = filled["width"], filled["window"]
    if width % 2 or width < 4:
        raise ValueError(f"model.width is {width}; it must be even and at least 4")
    if window % 128 or (window // 128) % 2 == 0:
        low = max(window // 256 * 256 + 128, 128)
        raise ValueError(f"model.window is {window}; it must be 128 x an odd number, such as {low} or {low + 256}")
    latent = filled.get("latent") or 2 * width
    extra = [group for group in dict.fromkeys(factor_groups) if group not in DEFAULT_GROUPS]
    shares = model.groups or {**DEFAULT_GROUPS, **dict.fromkeys(extra, 0.25)}
    if latent < len(shares):
        raise ValueError(f"model.latent is {latent}, fewer than the {len(shares)} groups")
    return ResolvedModel(
        backbone=filled["backbone"], width=width, window=window, kmer=filled["kmer"], latent=latent,
        groups=_counts(shares, latent), hidden=filled["hidden"], head=model.head, gain=model.gain, centre=model.centre,
    )  # fmt: skip


def _counts(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """Whole numbers of at least 1 that sum to `total`, proportional to the shares (largest remainders)."""
    spare = total - len(shares)
    exact = {name: spare * share / sum(shares.values()) for name, share in shares.items()}
    counts = {name: 1 + int(value) for name, value in exact.items()}
    by_remainder = sorted(shares, key=lambda name: int(exact[name]) - exact[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


class Project(Node):
    """A configuration and the folder that its paths are relative to."""

    config: Config
    folder: Path
    file: Path | None = None

    def path(self, value: str) -> Path:
        """A path of the configuration as seen from the current folder."""
        return located(self.folder, value)

    @property
    def dataset(self) -> Path:
        return self.path(self.config.data.dataset)

    @property
    def run(self) -> Path:
        return self.path(self.config.data.run)


def located(folder: Path, name: str) -> Path:
    """A path that is relative to a folder. A URL stays as it is, so that `check_input` can say what it is."""
    return Path(name) if re.match("[A-Za-z][A-Za-z0-9+.-]+:", name) else folder / name


@contextmanager
def errors_name(project: Project) -> Iterator[None]:
    """Where a setting does not fit the data, the error names the project's file."""
    try:
        yield
    except ConfigError as error:
        error.path = error.path or project.file
        raise


def load_project(
    file: Path | None = None, overrides: Sequence[str] = (), flags: Mapping[str, Any] | None = None
) -> Project:
    """Read `mfd.toml` (default: the one in the current folder), then apply `--set a.b=c` and flags, in that order.

    `flags` maps dotted names to values; those that are None are ignored. Paths given as flags are relative to the
    current folder, those in the file to the file. Raises ConfigError with the file, the line and the nearest key.
    """
    path = file or Path("mfd.toml")
    tree: dict[str, Any] = {}
    lines: list[str] = []
    if os.path.lexists(path):
        text = _read_text(path)
        tree, lines = _read_toml(text, path), text.split("\n")
    elif file is not None:
        raise ConfigError("no such configuration file", path=path, hint="mfd init writes one")
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {override}: expected KEY=VALUE", hint="for example --set train.epochs=5")
        _put(tree, key.strip(), _toml_value(text.strip()))
    for key, value in (flags or {}).items():
        if value is not None:
            _put(tree, key, str(value.absolute()) if isinstance(value, Path) else value)
    return Project(config=_validate(tree, path, lines), folder=path.parent, file=path if path.is_file() else None)


def parse_config(tree: Mapping[str, Any]) -> Config:
    """A configuration from plain values, as stored in a manifest or a model; ConfigError where it is not one."""
    return _validate(dict(tree), Path("configuration"), [])


def _read_text(path: Path) -> str:
    size = check_input(path, ConfigError).stat().st_size
    if size > _LARGEST:
        raise ConfigError(f"is too large for a file of settings ({size:,} bytes)", path=path)
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError("is not UTF-8 text", path=path) from error


def _read_toml(text: str, path: Path) -> dict[str, Any]:
    if long := _LONG_KEY.search(text):
        before = text.count("\n", 0, long.start())
        raise ConfigError("is no file of settings: a key has more than 100 names", path=path, line=before + 1)
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ConfigError("is not TOML: too many brackets in each other", path=path) from error
    except ValueError as error:  # not always a TOMLDecodeError: a number may have too many digits
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else None
        raise ConfigError(f"is not TOML: {str(error).split(' (at')[0]}", path=path, line=line) from error


def _toml_value(text: str) -> Any:
    """The value of KEY=VALUE: TOML where it parses (numbers, lists, true), otherwise the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _put(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {dotted}: {parent} is a value, not a section")
        tree = child
    tree[last] = value


def _validate(tree: dict[str, Any], path: Path, lines: Sequence[str]) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        keys, message, missing = _fault(error, tree)
        raise ConfigError(message, path=path, line=_line_of(keys[:-1] if missing else keys, lines)) from error


_PLAINER = {
    "model_type": "Input should be a section", "dict_type": "Input should be a section",
    "tuple_type": 'Input should be a list, such as ["a", "b"]', "string_too_short": "Input should not be empty",
}  # fmt: skip
"""What pydantic says, by type, in the words of TOML."""


def _fault(error: ValidationError, tree: Mapping[str, Any]) -> tuple[list[str], str, bool]:
    """The keys that an error is about, what is wrong with them in words, and whether the last of them is missing."""
    found = [(_keys_of(each, tree), each) for each in error.errors()]
    # A misspelt key also leaves the right one missing: the misspelling is what the user can see.
    keys, first = next((pair for pair in found if pair[1]["type"] == "extra_forbidden"), found[0])
    kind, dotted, missing = first["type"], ".".join(keys)[:120], first["type"] == "missing"
    if kind == "extra_forbidden":
        return keys, f"unknown key {dotted}{nearest(keys[-1], _known_keys(keys[:-1]))}", missing
    if kind == "literal_error" and first["loc"][-1] == "[key]":
        return keys, f"unknown key {dotted}{nearest(keys[-1], get_args(PenaltyName))}", missing
    alternatives = [_PLAINER.get(e["type"], e["msg"].removeprefix("Value error, ")) for own, e in found if own == keys]
    others = [alternative.removeprefix("Input should ") for alternative in alternatives[1:]]
    message = " or ".join(dict.fromkeys([alternatives[0], *others]))
    if not keys:  # found by Config's own check, whose message begins with the key
        return message.split(" ")[0].rstrip(":").split("."), message, missing
    value = first.get("input")
    shown = "" if isinstance(value, (dict, Config)) else f" ({json.dumps(value, default=str)[:80]})"
    return keys, f"{dotted}: {message}{shown}", missing


def _keys_of(error: Any, tree: Any) -> list[str]:
    """The keys of the file that lead to an error: without places in lists, and without pydantic's names of alternatives."""
    keys = []
    for part in error["loc"]:
        if isinstance(tree, Mapping) and part in tree:
            keys.append(str(part))
            tree = tree[part]
        elif isinstance(tree, Sequence) and isinstance(part, int):
            tree = tree[part]
    return [*keys, str(error["loc"][-1])] if error["type"] == "missing" else keys


def _known_keys(parents: Sequence[str]) -> list[str]:
    """The keys that may stand under a dotted name."""
    node: type[BaseModel] = Config
    for index, parent in enumerate(parents):
        field = node.model_fields.get(parent)
        if field is None:
            return list(node.model_fields)
        for candidate in (field.annotation, *get_args(field.annotation)):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                node = candidate
        if get_args(field.annotation) and index + 1 < len(parents):
            return list(node.model_fields)
    return list(node.model_fields)


def _line_of(keys: Sequence[str], lines: Sequence[str]) -> int | None:
    """The line of a key in the file: the last line that assigns it inside its section, or the section's header."""
    section, best = list[str](), None
    for number, line in enumerate(lines, start=1):
        if header := re.match(r"\s*\[+([^\]]+)\]", line):
            section = _parts(header[1])
            if section == keys:
                return number
        elif assigned := re.match(r"\s*([^=#\[\]]+)=", line):
            whole = [*section, *_parts(assigned[1])]
            if whole == keys[: len(whole)]:
                best = number
    return best


def _parts(dotted: str) -> list[str]:
    """`factors."my lab"` as its parts."""
    return [part.strip().strip("\"'") for part in dotted.split(".")]


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the nearest known word, whatever its case, or some of them, as the end of an error message."""
    words = {name.lower(): name for name in sorted(known)}  # of `Target` and `target` the latter
    match = difflib.get_close_matches(word[:200].lower(), list(words), n=1, cutoff=0.5)
    if match:
        return f"; did you mean {words[match[0]]}?"
    some = sorted(words.values())
    return f"; known: {', '.join(some[:_SHOWN])}{', ...' if len(some) > _SHOWN else ''}" if some else ""


_SHOWN = 20
"""Known words in an error message."""
