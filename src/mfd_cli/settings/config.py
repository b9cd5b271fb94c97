"""The typed configuration tree: what `mfd.toml` may say. Every node is frozen."""

from __future__ import annotations

import difflib
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from mfd_cli.base.errors import nearest
from mfd_cli.settings.names import TECHNICAL_BY_NAME, check_group_names, factor_name
from mfd_cli.settings.network import DEFAULT_GROUPS, TRUNK_SHAPES, ModelConfig, ResolvedModel, resolve_model
from mfd_cli.settings.node import MOST, Count, Node, Text


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
        le=MOST,
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


_SLIP = 0.85
"""How much alike (difflib) the name of one's own group and a default one may be: a slip would make a group of its own."""


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

    @property
    def groups_share_latents(self) -> bool:
        """Whether several groups have weights of their own on the same latents."""
        return self.model.head == "mixed" and len(self.groups) > 1 and not self.has_subspaces

    @property
    def latent_words(self) -> str:
        """How many latents there are, and whose they are."""
        model = self.resolved_model()
        if self.has_subspaces:
            return f"{model.latent} latents ({', '.join(f'{size} {group}' for group, size in model.groups.items())})"
        return f"{model.latent} latents{', which all groups share' if self.groups_share_latents else ''}"

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
