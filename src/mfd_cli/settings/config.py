"""The typed configuration tree: what `mfd.toml` may say, and the presets. Every node is frozen."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from mfd_cli.base.errors import nearest
from mfd_cli.settings.names import BIOLOGICAL, TECHNICAL, TECHNICAL_BY_NAME, check_group_names, factor_name

_MOST = (1 << 31) - 1
"""Nothing is counted further: no training comes near, and a slip of the keyboard is told."""
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
        """Refuse true and false as numbers: `epochs = true` would otherwise be one epoch."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError("Input should not be true or false")
        return value


class DataConfig(Node):
    """Where things are."""

    fasta: Text | None = Field(
        None, description="reference genome: FASTA, plain, gzip or bgzip; a file or a URL", examples=["genome.fa.gz"]
    )
    metadata: Text | None = Field(
        None, description="table of tracks, one row per file, tab-separated with a header", examples=["metadata.tsv"]
    )
    dataset: Text = Field("dataset", description="dataset folder that preprocess writes")
    run: Text = Field("run", description="run folder that train writes")
    start_from: Text | None = Field(
        None, description="run folder whose backbone, and what else fits, a training starts from", examples=["first"]
    )


class TracksConfig(Node):
    """Which columns of the metadata table say what."""

    id: Text = Field("File accession", description="column with a unique name per track")
    path: Text = Field("File path", description="column with the file of each track, relative to the table, or its URL")
    kind: Text | None = Field(
        None, description="column saying peaks or signal; without it the file name decides", examples=["Kind"]
    )
    assayed: Text | None = Field(
        None, description="column with a BED of where the track was measured", examples=["Assayed"]
    )
    strand: Text | None = Field(
        None, description="column with the strand (+ or -) of stranded signal tracks", examples=["Strand"]
    )
    counts: Text | None = Field(
        None, description="column that says counts for signal tracks with a Poisson loss", examples=["Scale"]
    )
    control: Text | None = Field(
        None,
        description="column that marks control experiments, which are left out (empty, no, false or 0: is none)",
        examples=["Control"],
    )
    experiment: tuple[Text, ...] = Field(
        ("Experiment accession", "Library accession"),
        description="columns naming the experiment and the library; tracks that share one are held out together",
    )


class BinsConfig(Node):
    """Which bins may be used and when a peak labels one."""

    size: Literal[128] = Field(128, description="bin size in bp; the backbones predict 128-bp bins")
    min_overlap: int = Field(64, ge=1, le=128, description="bp of overlap that make a peak label a bin")
    regions: Text | None = Field(None, description="BED: only bins wholly inside are used", examples=["regions.bed"])
    exclude: Text | None = Field(
        None, description="BED (blacklist): bins that touch it are left out", examples=["blacklist.bed"]
    )
    max_unknown: float = Field(0.5, ge=0, le=1, description="largest share of N in a bin")
    mappability: Text | None = Field(
        None,
        description="bigWig of the share of reads that a base's neighbourhood can map",
        examples=["mappability.bigWig"],
    )
    min_mappability: float = Field(
        0.5, ge=0, le=1, description="bins with a smaller mean, or of which the file says nothing, are left out"
    )


Kept = tuple[Text, ...] | Annotated[float, Field(gt=0, lt=0.5)]


class SplitConfig(Node):
    """Which contigs, or shares of the genome, are kept for validation and test."""

    test: Kept = Field(
        (),
        description="contigs of the test split, or the share of the bins of unnamed contigs, in blocks",
        examples=[["chr8", "chr9"]],
    )
    validation: Kept = Field(
        0.1, description="contigs of the validation split, or the share of the bins of unnamed contigs, in blocks"
    )
    guard: int | None = Field(
        None,
        ge=0,
        le=_MOST,
        description="bp kept free between splits; default: the model's window and the random shifts",
        examples=[2000],
    )
    folds: int | None = Field(
        None,
        ge=2,
        le=100,
        description="deal the contigs into so many folds of like size; fewer contigs are cut into so many stretches",
        examples=[5],
    )
    fold: Count = Field(1, description="the fold that is the test split")


FactorType = Literal["category", "multilabel", "number", "year"]
Encode = Literal["multihot", "embed", "linear", "rescale", "rescale-each"]


class FactorConfig(Node):
    """One metadata column that the model knows."""

    column: Text = Field(description="column of the metadata table", examples=["Assay"])
    group: Text = Field(description="group (subspace) of the latent that the factor drives", examples=["technical"])
    role: Literal["direct", "interact", "both"] = Field("interact", description="how its code becomes weights")
    type: FactorType = Field("category", description="what its values are")
    encode: Encode | None = Field(
        None, description="default: rescale-each for direct, linear or multihot otherwise", examples=["embed"]
    )
    dim: Count | None = Field(None, description="width of the embed and linear encodings", examples=[8])
    missing: Literal["level", "error"] = Field(
        "level", description="a missing value is a level of its own, or an error"
    )


class ModelConfig(Node):
    """The network. What is not given comes from the preset."""

    preset: Literal["small", "paper-1152", "wide-2176", "default"] = Field(
        "default", description="a network by name; what is set below goes before it"
    )
    backbone: Literal["dilated", "enformer", "borzoi"] | None = Field(
        None,
        description="dilated: our convolutional network; enformer, borzoi: the trunk of such a model, see model.trunk",
        examples=["dilated"],
    )
    trunk: Text | None = Field(
        None,
        description="folder with the config.json and the weights of an Enformer or a Borzoi, as its package saves them",
        examples=["enformer"],
    )
    architecture: dict[str, bool | int | float] | None = Field(
        None, description="numbers of a trunk's network; they are taken from its config.json", examples=[{"depth": 11}]
    )
    block: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        None,
        description="bins that a trunk reads in one pass; default: as many as it was trained with",
        examples=[128],
    )
    width: Count | None = Field(None, description="channels of the last tower block (C), even", examples=[64])
    window: Count | None = Field(None, description="bp that the model reads: 128 x an odd number", examples=[1152])
    kmer: Annotated[int, Field(ge=1, le=3)] | None = Field(None, description="order of the one-hot input", examples=[2])
    latent: Count | None = Field(None, description="size of the latent (K); default 2 x width", examples=[128])
    filters: Annotated[int, Field(ge=0, le=4096)] | None = Field(
        None,
        description="motif filters of 19 bp, whose best match in a bin on either strand goes straight to the latents; 0: none",
        examples=[128],
    )
    groups: dict[str, Share] | None = Field(
        None,
        description="share of the latent per group; default: 0.75 biological, 0.25 technical, 0.25 for any other",
        examples=[{"biological": 0.6, "technical": 0.4}],
    )
    hidden: Count | None = Field(None, description="half the hidden width of the metadata networks (h)", examples=[64])
    head: Literal["mixed", "conditioned", "free"] = Field(
        "mixed",
        description="mixed: free output weights with a prior made from the metadata; conditioned: weights made from the "
        "metadata; free: free ones, which know no groups",
    )
    subspaces: Literal["joint", "disjoint"] = Field(
        "joint",
        description="of a mixed head: all factors act on all latents, or each group's on latents of its own",
    )
    technical: tuple[Text, ...] | None = Field(
        None,
        description="groups that are technique, not biology; default: the group called technical",
        examples=[["technical"]],
    )
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
    bins: Count = Field(
        128,
        description="bins of each batch, drawn at random, that the penalties and the adversary see; all where it has fewer",
    )
    adversary_lr: float = Field(1e-3, gt=0, description="learning rate of the adversary")
    adversary_hidden: Count = Field(256, description="width of the adversary's three hidden layers")
    adversary_steps: Count = Field(1, description="adversary steps per model step")


class TrainConfig(Node):
    """How it is minimised."""

    epochs: Count | None = Field(
        None,
        description="how often every training bin is used; default: as often as makes 1.5 million bins, but at most 20 times, "
        "or as often as makes 300,000 bins and at most 60 times",
        examples=[20],
    )
    batch_size: Count = Field(128, description="bins in a step, all processes together")
    stretch: int | None = Field(
        None,
        ge=1,
        le=256,
        description="neighbouring bins read in one pass; default: 32 with a model.window of 2176 or more, which more than 1 "
        "takes, else 1, a window a bin",
        examples=[16],
    )
    draw: Literal["uniform", "peaks"] = Field(
        "uniform",
        description="uniform: every training bin once an epoch; peaks: half of what is drawn, by the peaks of training "
        "tracks, with the weight in the loss",
    )
    lr: float = Field(4e-3, gt=0, description="peak learning rate (AdamW, one cycle)")
    weight_decay: float = Field(
        0.03, ge=0, description="of weight matrices, per step and relative to the learning rate"
    )
    dropout: float = Field(
        0.2, ge=0, lt=1, description="share of the motif filters that each bin goes without in a step of training"
    )
    words: float = Field(
        0.75,
        ge=0,
        le=1,
        description="share of the motif filters that start as a word that the peaks of some training tracks are rich in; the "
        "others start at random",
    )
    precision: Literal["auto", "float32", "bf16"] = Field("auto", description="auto: bf16 on CUDA, float32 on a CPU")
    compile: bool = Field(
        False,
        description="let torch compile the network first, which takes minutes and pays for wide networks on a GPU",
    )
    memory: Literal["auto", "device", "host"] = Field(
        "auto", description="where genome and labels are kept; host: a thread gathers the next batches"
    )
    seed: int = Field(1, ge=0, lt=1 << 63, description="of everything that is random")
    shift: int = Field(3, ge=0, le=63, description="largest random shift of a training window, bp")
    reverse_complement: bool = Field(True, description="read half of the training windows on the other strand")
    deterministic: bool = Field(
        False, description="only operations that give the same bits each time; resumed with the same number of threads"
    )
    max_minutes: float | None = Field(None, gt=0, description="stop after this many minutes", examples=[60])
    max_windows: int | None = Field(
        None, ge=1, description="stop after this many training windows", examples=[1_000_000]
    )
    thaw: float | None = Field(
        None,
        ge=0,
        le=1,
        description="of a training that starts from another run or from a trunk, the share during which the backbone stays as "
        "it was; 1: throughout; default: 1 with a trunk, whose projection learns, else 0",
        examples=[0.3],
    )
    patience: Count = Field(5, description="validations without improvement before training stops")
    windows_per_validation: int | None = Field(
        None,
        ge=1,
        description="training windows from one validation to the next; default: an epoch, or 250,000 where it has more",
        examples=[100_000],
    )
    tensorboard: bool = Field(
        False, description="write what metrics.jsonl has to the folder tensorboard of the run too; needs that extra"
    )
    validation_bins: Count = Field(20_000, description="at most this many bins are used for each validation")
    held_out: tuple[str | dict[str, str], ...] = Field(
        (),
        description="kept out of training: ids of tracks, or levels that occur together",
        examples=[["ENCFF001ABC", {"target": "CTCF", "assay": "ATAC-seq"}]],
    )


DEFAULT_GROUPS = {BIOLOGICAL: 0.75, TECHNICAL: 0.25}


def _technical_groups(model: ModelConfig, groups: Collection[str], factor_groups: Collection[str]) -> list[str]:
    """Return which groups are technical, in the order of the groups. ValueError for a group that is not there, and where the
    group called technical has factors and is left out: a word cannot mean two things."""
    if model.technical is None:
        return [group for group in groups if group == TECHNICAL]
    for name in model.technical:
        if name not in groups:
            raise ValueError(f"model.technical: there is no group {name!r}{nearest(name, groups)}")
    if TECHNICAL in factor_groups and TECHNICAL not in model.technical:
        raise ValueError(
            f"model.technical leaves out the group {TECHNICAL!r}, which has factors: name it too, or rename it"
        )
    return [group for group in groups if group in model.technical]


class Config(Node):
    """The whole of mfd.toml."""

    data: DataConfig = DataConfig()
    tracks: TracksConfig = TracksConfig()
    bins: BinsConfig = BinsConfig()
    split: SplitConfig = SplitConfig()
    factors: dict[Annotated[str, AfterValidator(factor_name)], FactorConfig] = Field(default_factory=dict)
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _check(self) -> Config:
        groups = set(self.resolved_model().groups)
        for name, factor in self.factors.items():
            if name in groups:
                raise ValueError(
                    f"factors.{name}: a group is called {name!r} too, and --fix {name}=average could mean either; "
                    "rename the factor"
                )
            if factor.group not in groups:
                near = nearest(factor.group, groups)
                raise ValueError(f"factors.{name}.group is {factor.group!r}, not one of {sorted(groups)}{near}")
            meant = difflib.get_close_matches(factor.group.lower(), list(DEFAULT_GROUPS), n=1, cutoff=_SLIP)
            if meant and factor.group not in {*meant, *(self.model.groups or ())}:
                raise ValueError(f"factors.{name}.group is {factor.group!r}; did you mean {meant[0]}?")
        check_group_names(self.groups)
        if self.split.folds is not None and self.split.test:
            raise ValueError("split.folds chooses the test split; split.test must not name it too")
        if self.split.fold > (self.split.folds or 1):
            raise ValueError(f"split.fold is {self.split.fold}, but split.folds is {self.split.folds or 'not set'}")
        return self

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, in the one canonical order: that of the configuration."""
        return tuple(self.resolved_model().groups)

    @property
    def has_subspaces(self) -> bool:
        """Whether groups have latents of their own, which penalties keep apart."""
        of_groups = self.model.head == "conditioned" or (
            self.model.head == "mixed" and self.model.subspaces == "disjoint"
        )
        return of_groups and len(self.groups) > 1

    def resolved_model(self) -> ResolvedModel:
        """Return the model's settings with the preset's values filled in, checked against each other."""
        return resolve_model(self.model, [factor.group for factor in self.factors.values()])

    @property
    def thaw(self) -> float:
        """The share of a training during which what was taken from elsewhere stays as it was."""
        given = self.train.thaw
        return given if given is not None else float(self.resolved_model().backbone in TRUNK_SHAPES)

    @property
    def technical_by_name(self) -> list[str]:
        """Return the groups with factors that are not technical, though their names say that they are."""
        technical, used = self.resolved_model().technical, dict.fromkeys(f.group for f in self.factors.values())
        return [name for name in used if name not in technical and TECHNICAL_BY_NAME.match(name)]


class ResolvedModel(Node):
    """The network with nothing left open: what a checkpoint stores."""

    backbone: str
    width: int
    window: int
    kmer: int
    latent: int
    filters: int = 0
    block: int = 1
    architecture: dict[str, bool | int | float] = Field(default_factory=dict)
    groups: dict[str, int]
    technical: list[str] = Field(default_factory=lambda: [TECHNICAL])
    hidden: int
    head: Literal["mixed", "conditioned", "free"]
    subspaces: Literal["joint", "disjoint"] = "joint"
    gain: bool
    centre: Literal["tracks", "levels"]


PRESETS: dict[str, dict[str, Any]] = {
    "small": {"backbone": "dilated", "width": 32, "window": 2176, "kmer": 1, "hidden": 32, "filters": 32},
    "paper-1152": {"backbone": "dilated", "width": 120, "window": 1152, "kmer": 2, "hidden": 128, "filters": 0},
    "wide-2176": {"backbone": "dilated", "width": 768, "window": 2176, "kmer": 2, "hidden": 256, "filters": 0},
    "default": {"backbone": "dilated", "width": 64, "window": 2176, "kmer": 1, "hidden": 64, "filters": 128},
}
TRUNK_SHAPES: dict[str, dict[str, Any]] = {
    "enformer": {"window": 82_048, "block": 896, "kmer": 1, "filters": 0},
    "borzoi": {"window": 327_808, "block": 1536, "kmer": 1, "filters": 0},
}
"""How trunks were trained by those who made them: a block and its margins are 196,608 and 524,288 bp."""
_SLIP = 0.85
"""How much alike (difflib) the name of one's own group and a default one may be: a slip would make a group of its own."""


def resolve_model(model: ModelConfig, factor_groups: Sequence[str] = ()) -> ResolvedModel:
    """Fill in the preset and turn the shares of the groups into latent counts that sum to K.

    The shares are relative: {biological = 3, technical = 1} and {biological = 0.75, technical = 0.25} are the same.
    Raises ValueError (shown as a ConfigError) where the numbers cannot work.
    """
    own = {name: value for name, value in model.model_dump().items() if value is not None}
    filled = {**PRESETS[model.preset], **TRUNK_SHAPES.get(model.backbone or "", {}), **own}
    width, window = filled["width"], filled["window"]
    _check_trunk(model, filled)
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
        backbone=filled["backbone"],
        width=width,
        window=window,
        kmer=filled["kmer"],
        latent=latent,
        filters=filled["filters"],
        block=filled.get("block", 1),
        architecture=filled.get("architecture", {}),
        groups=_latent_counts(shares, latent),
        technical=_technical_groups(model, list(shares), factor_groups),
        hidden=filled["hidden"],
        head=model.head,
        subspaces=model.subspaces,
        gain=model.gain,
        centre=model.centre,
    )


def _check_trunk(model: ModelConfig, filled: Mapping[str, Any]) -> None:
    """ValueError where settings of another package's network are set without one, or such a network cannot have what is set."""
    of_trunk = filled["backbone"] in TRUNK_SHAPES
    if not of_trunk and (name := next((n for n in ("trunk", "architecture", "block") if getattr(model, n)), None)):
        raise ValueError(f'model.{name} is set, and model.backbone is not "enformer" or "borzoi"')
    for name, value in (("kmer", 1), ("filters", 0)):
        if of_trunk and filled[name] != value:
            raise ValueError(
                f"model.{name} is {filled[name]}; with model.backbone {filled['backbone']} it must be {value}"
            )


def _latent_counts(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """Return whole numbers of at least 1 that sum to `total`, proportional to the shares (largest remainders)."""
    spare = total - len(shares)
    exact = {name: spare * share / sum(shares.values()) for name, share in shares.items()}
    counts = {name: 1 + int(value) for name, value in exact.items()}
    by_remainder = sorted(shares, key=lambda name: int(exact[name]) - exact[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts
