"""The typed configuration tree of `contig.toml`. Every node is frozen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from mfd_cli.base.errors import ConfigError, nearest
from mfd_cli.settings.config import DEFAULT_PENALTIES, PenaltyConfig, PenaltyName
from mfd_cli.settings.names import factor_name
from mfd_cli.settings.node import MOST, Count, Node, Text
from mfd_cli.settings.parse import parse_settings
from mfd_cli.settings.project import read_settings

FILE = "contig.toml"


class DataSection(Node):
    """Where things are."""

    images: Text = Field(
        "images.tsv", description="image manifest: a table with the columns person, path and eye, tab-separated"
    )
    genotypes: Text | None = Field(
        None, description="PLINK .bed, with its .bim and .fam beside it, or VCF or BCF", examples=["genotypes.bed"]
    )
    dosage: Literal["GT", "DS"] = Field("GT", description="which field of a VCF: calls, or dosages that were imputed")
    covariates: Text | None = Field(
        None, description="table with a row per person and numeric columns", examples=["covariates.tsv"]
    )
    assembly: Text | None = Field(None, description="genome assembly of the genotypes", examples=["GRCh38"])
    cohort: Text = Field("cohort", description="cohort folder that prepare writes")
    run: Text = Field("contig-run", description="run folder that train writes")


class PersonsSection(Node):
    """Who is who."""

    id: Literal["iid", "fid_iid"] = Field("iid", description="which ids of the genotype files name a person")
    families: Text | None = Field(
        None,
        description="table with the columns person and family: relatives, whom no split divides",
        examples=["f.tsv"],
    )
    missing: tuple[str, ...] = Field(("", ".", "NA", "NaN", "nan"), description="what means missing in tables")


class ImagesSection(Node):
    """How pictures are read."""

    size: int = Field(64, ge=16, le=128, multiple_of=16, description="side of the stored picture, px")
    crop: Literal["circle", "square", "none"] = Field(
        "circle", description="circle: the field of view, where one is seen; square: the centre; none: stretched"
    )
    eyes: Literal["both", "left", "right"] = Field("both", description="which eyes are used")
    mirror: Literal["right", "left", "none"] = Field(
        "right", description="eyes of this side are flipped, so that all look the same way"
    )
    most: Annotated[int, Field(ge=1, le=1000)] = Field(
        4, description="images kept per person and eye: the sharpest, then by name"
    )
    on_fault: Literal["skip", "error"] = Field(
        "skip", description="of pictures that cannot be read: skip lists them, up to 5 % of all"
    )


class ModalitySection(Node):
    """One kind of genetic data, and what reads it."""

    kind: Literal["snps", "pgs", "burden", "table"] = Field(
        description="snps: dosages of variants; pgs: polygenic scores; burden: rare variants per gene; table: any numbers"
    )
    file: Text | None = Field(
        None,
        description="default: data.genotypes, for kind table data.covariates; a ready table of burdens is named here",
        examples=["genotypes.bed"],
    )
    encoder: Literal["none", "linear", "h1", "h12"] = Field(
        "linear", description="linear: dropout and one layer; none, h1, h12: so many hidden layers and a head"
    )
    hidden: Annotated[int, Field(ge=1, le=16384)] = Field(256, description="width of the hidden layers")
    dropout: float = Field(0.5, ge=0, le=0.95, description="share of the inputs that a step goes without")
    decay: float = Field(3.0, ge=0, description="weight decay of the encoder and its head")
    weight: float = Field(1.0, ge=0, description="weight beside other modalities")
    maf: float = Field(0.01, ge=0, le=0.5, description="least frequency of the rarer allele in training persons")
    max_missing: float = Field(0.1, ge=0, le=1, description="largest share of missing calls in training persons")
    every: Count = Field(1, description="keep each n-th of the variants that are left")
    scores: tuple[Text, ...] = Field(
        (), description="pgs: scoring files of the PGS Catalog, also as patterns", examples=[["scores/*.txt.gz"]]
    )
    ambiguous: Literal["drop", "frequency", "keep"] = Field(
        "drop", description="pgs: variants A/T and C/G; frequency: kept where frequencies tell the strand"
    )
    min_matched: float = Field(0.5, ge=0, le=1, description="pgs: least share of a score's variants that are genotyped")
    annotation: Text | None = Field(
        None, description="burden: lines of variant, gene and class", examples=["annotation.txt"]
    )
    sets: Text | None = Field(
        None, description="burden: lines of gene, chromosome, position and its variants", examples=["sets.txt"]
    )
    masks: Text | None = Field(
        None, description="burden: lines of a name and the classes that count", examples=["masks.txt"]
    )
    build: Literal["max", "sum", "weighted"] = Field(
        "max", description="burden: the largest count of rare alleles, their sum, or that with weights"
    )
    weights: Text | None = Field(
        None, description="burden: FILE:COLUMN, a weight of each variant", examples=["scores.parquet:MFD_DEBIASED"]
    )
    max_maf: float = Field(0.01, gt=0, le=0.5, description="burden: largest frequency of an allele that counts as rare")
    min_carriers: Annotated[int, Field(ge=1)] = Field(
        5, description="burden: fewest training persons with a rare allele"
    )
    columns: tuple[Text, ...] = Field(
        ("*",), description="table, and a table of burdens: its columns, also as patterns"
    )
    noise: Annotated[int, Field(ge=0, le=100)] = Field(
        0, description="table: columns of uniform noise that are added: what is attributed to them is chance"
    )

    @model_validator(mode="after")
    def _check(self) -> ModalitySection:
        for name, kinds in OWNERS.items():
            changed = getattr(self, name) != type(self).model_fields[name].default
            if changed and self.kind not in kinds:
                raise ValueError(f"{name} is a setting of kind {' or '.join(kinds)}, not of {self.kind}")
        if self.kind == "pgs" and not self.scores:
            raise ValueError('kind pgs needs scores, such as scores = ["scores/*.txt.gz"]')
        sets = [name for name in ("annotation", "sets", "masks") if getattr(self, name)]
        if self.kind == "burden" and len(sets) not in (0, 3):
            raise ValueError(
                f"burden: annotation, sets and masks belong together, and {' and '.join(sets)} alone is given"
            )
        if self.kind == "burden" and not sets and not self.file:
            raise ValueError("kind burden needs annotation, sets and masks, or file, a ready table")
        if self.kind == "burden" and (self.build == "weighted") != bool(self.weights):
            raise ValueError('burden: build = "weighted" and weights = "FILE:COLUMN" belong together')
        return self


OWNERS = {
    **dict.fromkeys(("maf", "max_missing", "every"), ("snps",)),
    **dict.fromkeys(("scores", "ambiguous", "min_matched"), ("pgs",)),
    **dict.fromkeys(("annotation", "sets", "masks", "build", "weights", "max_maf", "min_carriers"), ("burden",)),
    "columns": ("table", "burden"),
    "noise": ("table",),
}
"""Which kinds of modality a setting belongs to; the others are of all."""


class FactorSection(Node):
    """A technical fact of every image, such as its camera: a column of the image manifest."""

    column: Text = Field(description="column of the image manifest", examples=["camera"])
    type: Literal["category", "year", "number"] = Field("category", description="what its values are")
    group: Literal["technical"] = Field("technical", description="slice of the feature that the factor is told from")


class SplitSection(Node):
    """Which persons are kept for validation and test: whole families."""

    fractions: tuple[float, float, float] = Field(
        (0.7, 0.1, 0.2), description="shares of persons for training, validation and test"
    )
    column: Text | None = Field(
        None, description="column of the manifest that says train, validation or test instead", examples=["split"]
    )
    seed: int = Field(1, ge=0, le=MOST, description="of the draw of families")

    @model_validator(mode="after")
    def _check(self) -> SplitSection:
        if min(self.fractions) <= 0 or abs(sum(self.fractions) - 1) > 1e-6:
            raise ValueError(f"split.fractions is {list(self.fractions)}: three positive numbers that add up to 1")
        return self


class NetworkSection(Node):
    """The image network and its heads."""

    image: Literal["small"] = Field("small", description="small: four convolutions of stride 2")
    width: Annotated[int, Field(ge=4, le=1024)] = Field(32, description="channels of the first convolution")
    features: Annotated[int, Field(ge=8, le=4096)] = Field(128, description="size of an image's feature")
    technical: float = Field(
        0.25, ge=0, le=0.9, description="share of the feature for technique; without factors there is no such slice"
    )
    head: Annotated[int, Field(ge=8, le=4096)] = Field(128, description="hidden width of the image heads")
    projection: Annotated[int, Field(ge=2, le=1024)] = Field(64, description="size of what is compared")


class PenaltySection(PenaltyConfig):
    """One independence penalty between the biological and the technical slice of the feature."""

    weight: float = Field(0.0, ge=0, description="0 switches it off; in units of the loss of guessing who is who")


class ContrastSection(Node):
    """What is minimised: own and other persons told apart, in both directions; or what that is compared with."""

    kind: Literal["contig", "simclr", "simclr-eyes", "supervised"] = Field(
        "contig",
        description="contig: images and genetic data; simclr: two changes of one image; simclr-eyes: the two eyes of a "
        "person; supervised: columns of a table",
    )
    alpha: float = Field(0.75, ge=0, le=1, description="share of the loss that seeks genetic data for an image")
    temperature: float = Field(1.0, gt=0, description="at the start; 0.1, not learnt, is the published one")
    learn_temperature: bool = Field(True, description="learn one temperature per modality")
    least_temperature: float = Field(0.01, gt=0, description="a learnt one does not fall below")
    join: Literal["outer", "inner"] = Field(
        "outer", description="who is trained on: outer: persons with any modality; inner: with all of them"
    )
    technical_weight: float = Field(
        0.05,
        ge=0,
        description="of telling the factors from the technical slice, in units of the loss of guessing who is who",
    )
    penalties: dict[PenaltyName, PenaltySection] = Field(
        default_factory=lambda: {name: PenaltySection(**each.model_dump()) for name, each in DEFAULT_PENALTIES.items()},
        description="what keeps the slices apart where there are factors; naming one replaces the default, {} is none",
    )
    adversary_lr: float = Field(1e-3, gt=0, description="learning rate of a penalty that learns (an adversary)")
    adversary_hidden: Count = Field(256, description="width of the adversary's three hidden layers")
    adversary_steps: Count = Field(1, description="adversary steps per model step")
    view_temperature: float = Field(0.2, gt=0, description="of simclr and simclr-eyes, fixed")
    labels: Text | None = Field(
        None,
        description="for supervised: table with the column person or image, and what is to be learnt",
        examples=["labels.tsv"],
    )
    label_columns: tuple[Text, ...] = Field(
        ("*",), description="columns of that table, numbers or words; * stands for all"
    )

    @property
    def genetic(self) -> bool:
        """Whether genetic data are a side of what is learnt."""
        return self.kind == "contig"


class AugmentSection(Node):
    """How a training picture is changed, anew each time."""

    rotate: float = Field(15.0, ge=0, le=180, description="largest rotation, degrees")
    shift: float = Field(0.06, ge=0, le=0.5, description="largest shift, share of the side")
    scale: float = Field(0.1, ge=0, le=0.5, description="largest change of size")
    brightness: float = Field(0.2, ge=0, le=1, description="sd of the change of brightness")
    contrast: float = Field(0.2, ge=0, le=1, description="sd of the change of contrast")
    colour: float = Field(0.2, ge=0, le=1, description="sd of the gain of each colour")


class TrainSection(Node):
    """How it is minimised."""

    epochs: Count = Field(12, description="how often every training person is used")
    batch_size: Annotated[int, Field(ge=4, le=65536)] = Field(256, description="persons in a step")
    lr: float = Field(4e-3, gt=0, description="peak learning rate (AdamW, one cycle)")
    weight_decay: float = Field(0.05, ge=0, description="of the image network and its heads")
    patience: Count = Field(5, description="validations without improvement before training stops")
    validation_persons: Annotated[int, Field(ge=2)] = Field(4000, description="at most so many are validated on")
    seed: int = Field(1, ge=0, lt=1 << 63, description="of everything that is random")
    max_minutes: float | None = Field(None, gt=0, description="stop after this many minutes", examples=[60])
    augment: AugmentSection = AugmentSection()


class GwasSection(Node):
    """Associations of variants with what an image network sees."""

    pcs: Annotated[int, Field(ge=1, le=100)] = Field(10, description="principal components of the features, at most")
    covariates: tuple[Text, ...] = Field(
        ("sex", "age"), description="columns of the covariates; text ones become 0/1 columns"
    )
    factors: tuple[Text, ...] = Field(
        (),
        description="factors of the images that are covariates too: a person's share of each level, or the mean number",
        examples=[["camera"]],
    )
    genetic_pcs: Annotated[int, Field(ge=0, le=40)] = Field(
        15, description="principal components of the genotypes as covariates; 0 where the covariates hold them"
    )
    maf: float = Field(0.01, ge=0, le=0.5, description="least frequency of the rarer allele among those tested")
    max_missing: float = Field(0.1, ge=0, le=1, description="largest share of missing calls among those tested")
    least_persons: Annotated[int, Field(ge=10)] = Field(200, description="fewer are refused")
    p1: float = Field(5e-8, gt=0, le=1, description="P of a locus")
    p2: float = Field(1e-7, gt=0, le=1, description="P of its other members")
    r2: float = Field(0.1, ge=0, le=1, description="correlation, squared, that makes members of a locus")
    kb: float = Field(150, ge=1, le=1e5, description="how far they may lie from its strongest variant, kb")
    memory: Annotated[int, Field(ge=1, le=65536)] = Field(64, description="MiB of genotypes in a block")
    ancestry: tuple[Text, ...] = Field(("NR",), description="of the persons, for GWAS-SSF")
    technology: tuple[Text, ...] = Field(("NR",), description="of the genotyping, for GWAS-SSF")

    @model_validator(mode="after")
    def _check(self) -> GwasSection:
        if self.p2 < self.p1:
            raise ValueError(f"gwas.p2 is {self.p2:g}, below gwas.p1 ({self.p1:g})")
        return self


class ExplainSection(Node):
    """Integrated gradients."""

    steps: Annotated[int, Field(ge=8, le=4096)] = Field(64, description="points of the path, at first")
    most_steps: Annotated[int, Field(ge=8, le=4096)] = Field(1024, description="points of the path, at most")
    tolerance: float = Field(0.01, gt=0, lt=1, description="share by which a sum may miss what it adds up to")
    reference: Annotated[int, Field(ge=16, le=100000)] = Field(
        1000, description="other persons' images that an alignment is compared with"
    )


class FinetuneSection(Node):
    """What a trained network is worth for a label that somebody gave."""

    epochs: Count = Field(30, description="passes over the labelled training images, with full")
    head_epochs: Annotated[int, Field(ge=0)] = Field(3, description="of these at first, in which the head learns alone")
    lr: float = Field(1e-3, gt=0, description="learning rate of the head (AdamW)")
    trunk_lr: float = Field(1e-4, gt=0, description="learning rate of the image network")
    batch_size: Annotated[int, Field(ge=1, le=65536)] = Field(64, description="images in a step")
    bootstrap: Annotated[int, Field(ge=0, le=100000)] = Field(
        2000, description="draws of families for an interval; 0: no intervals"
    )
    draws: Count = Field(3, description="draws of training persons for each fraction below 1")


class ContigConfig(Node):
    """The whole of contig.toml."""

    data: DataSection = DataSection()
    persons: PersonsSection = PersonsSection()
    images: ImagesSection = ImagesSection()
    modalities: dict[str, ModalitySection] = Field(default_factory=dict)
    factors: dict[Annotated[str, AfterValidator(factor_name)], FactorSection] = Field(default_factory=dict)
    split: SplitSection = SplitSection()
    model: NetworkSection = NetworkSection()
    objective: ContrastSection = ContrastSection()
    train: TrainSection = TrainSection()
    gwas: GwasSection = GwasSection()
    explain: ExplainSection = ExplainSection()
    finetune: FinetuneSection = FinetuneSection()

    @field_validator("modalities")
    @classmethod
    def _by_name(cls, value: dict[str, ModalitySection]) -> dict[str, ModalitySection]:
        """Sort the modalities: in which order they are written changes nothing, to the bit."""
        return dict(sorted(value.items()))

    @model_validator(mode="after")
    def _check(self) -> ContigConfig:
        for name in self.gwas.factors:
            if name not in self.factors:
                raise ValueError(f"gwas.factors names {name!r}, which is no factor{nearest(name, self.factors)}")
        return self

    @property
    def technical_features(self) -> int:
        """How many of the features, the last ones, are the technical slice: none where there are no factors."""
        return round(self.model.technical * self.model.features) if self.factors else 0


class ContigProject(Node):
    """A configuration and the folder that its paths are relative to."""

    config: ContigConfig
    folder: Path
    file: Path | None = None
    options: dict[str, str] = Field(default_factory=dict)

    def path(self, value: str) -> Path:
        """Return a path of the configuration as seen from the current folder."""
        return self.folder / value

    @property
    def cohort(self) -> Path:
        """The cohort folder, as seen from the current folder."""
        return self.path(self.config.data.cohort)

    @property
    def run(self) -> Path:
        """The run folder, as seen from the current folder."""
        return self.path(self.config.data.run)


def only_modalities(project: ContigProject, names: Sequence[str]) -> ContigProject:
    """Return a project with these of its modalities alone. ConfigError for one that it has not."""
    known = project.config.modalities
    for name in names:
        if name not in known:
            raise ConfigError(f"--modalities names {name!r}, which the project has not{nearest(name, known)}")
    chosen = {name: modality for name, modality in known.items() if name in names}
    return project.model_copy(update={"config": project.config.model_copy(update={"modalities": chosen})})


def load_contig(
    file: str | Path | None = None, overrides: tuple[str, ...] | list[str] = (), flags: dict[str, Any] | None = None
) -> ContigProject:
    """Read `contig.toml` (default: the one in the current folder), then what the command line sets, as `load_project` does."""
    read = read_settings(file, FILE, overrides, flags, hint="mfd contig simulate writes a project")
    config = parse_settings(ContigConfig, read.tree, read.path, read.lines, read.options)
    return ContigProject(config=config, folder=read.path.parent, file=read.file, options=read.options)
