"""The shell of the commands about variants: score-variants, background, enrich."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from mfd_cli.base.errors import ConfigError
from mfd_cli.cli.shared import (
    BatchSize,
    ConfigFile,
    DatasetFolder,
    DryRun,
    Fasta,
    Force,
    Gpus,
    Json,
    Quiet,
    RunFolder,
    Seed,
    Sets,
    Threads,
    gpus_or_default,
    load,
    one_of,
    open_runs,
    parse_named_file,
    say_all,
    say_json,
)

if TYPE_CHECKING:
    import torch

    from mfd_cli.genome.sequence import Genome
    from mfd_cli.runs.folder import Run
    from mfd_cli.variants.effects import ScoreSettings
    from mfd_cli.variants.options import ScoreOptions

Placed = Annotated[
    str, typer.Option("--placement", help="centred: each variant in the middle of its bin; grid: bins are shared.")
]
Precise = Annotated[str, typer.Option("--precision", help="float32, tf32 (GPU) or bf16.")]
Tracks = Annotated[
    str | None,
    typer.Option("--tracks", metavar="QUERY", help="Only tracks such as 'target == \"CTCF\" and biosample ~ liver'."),
]
Fixed = Annotated[
    list[str] | None,
    typer.Option("--fix", metavar="A=B", help="FACTOR=LEVEL, FACTOR=average or GROUP=average; repeatable."),
]
Ensemble = Annotated[
    bool, typer.Option("--ensemble", help="Average over all seeds of the run (mfd train --seeds), with their spread.")
]


INDEXES = ("auto", "tbi", "csi", "none")


class IndexAlone(TyperCommand):
    """A command whose `-W` may stand alone, as in bcftools: `-W`, `-W=tbi`, `--write-index=csi`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line, with the format after a `-W` that stands alone."""
        words = list[str]()
        for word, following in zip_longest(args, args[1:]):
            words += ["-W", word[3:]] if word.startswith("-W=") else [word]
            if word in ("-W", "--write-index") and following not in INDEXES:
                words.append("auto")
        return super().parse_args(ctx, words)


def score_variants_command(
    context: typer.Context,
    source: Annotated[str | None, typer.Argument(metavar="IN", help="VCF, VCF.gz or BCF; - is standard input.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="[default: IN.mfd.vcf.gz]")] = None,
    output_type: Annotated[
        str | None,
        typer.Option(
            "-O",
            "--output-type",
            help="v: VCF, z: VCF.gz, b: BCF, u: uncompressed BCF [default: by the name, which must then end in "
            ".vcf, .vcf.gz or .bcf].",
        ),
    ] = None,
    index: Annotated[
        str, typer.Option("-W", "--write-index", metavar="[FORMAT]", help="auto, tbi, csi or none.")
    ] = "auto",
    table: Annotated[Path | None, typer.Option("--table", help="[default: IN.mfd.parquet]")] = None,
    skipped: Annotated[
        Path | None, typer.Option("--skipped", help="[default: IN.mfd.skipped.tsv; none where the VCF goes to stdout]")
    ] = None,
    per_track: Annotated[bool, typer.Option("--per-track", help="Every track's change in the table.")] = False,
    regions: Annotated[
        list[str] | None, typer.Option("-r", "--regions", help="Only records in chr1:1001-2000, chr2; repeatable.")
    ] = None,
    regions_file: Annotated[Path | None, typer.Option("-R", "--regions-file", help="The same from a BED file.")] = None,
    tracks: Tracks = None,
    fix: Fixed = None,
    ensemble: Ensemble = False,
    check_ref: Annotated[
        str, typer.Option("--check-ref", help="A wrong REF: skip (stop above 5 %), error (stop), warn (never stop).")
    ] = "skip",
    phased: Annotated[bool, typer.Option("--phased", help="Score neighbours on one haplotype as one change.")] = False,
    sample: Annotated[str | None, typer.Option("--sample", help="With --phased: whose haplotypes.")] = None,
    gtf: Annotated[Path | None, typer.Option("--gtf", help="Genes (GTF or GFF3), for the table.")] = None,
    bed: Annotated[
        list[str] | None, typer.Option("--bed", metavar="NAME=FILE", help="Elements, for the table; repeatable.")
    ] = None,
    placement: Placed = "centred",
    precision: Precise = "float32",
    saturate: Annotated[
        str | None, typer.Option("--saturate", help="No IN: all substitutions of chr1:1001-2000, of chr1, of all.")
    ] = None,
    shard: Annotated[str, typer.Option("--shard", help="With --saturate: part i of n.")] = "1/1",
    config: ConfigFile = None,
    sets: Sets = None,
    fasta: Fasta = None,
    dataset: DatasetFolder = None,
    run: RunFolder = None,
    gpus: Gpus = None,
    threads: Threads = None,
    batch_size: BatchSize = 256,
    force: Force = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
) -> None:
    """Score variants: writes IN.mfd.vcf.gz and its index, IN.mfd.parquet and IN.mfd.skipped.tsv."""
    if (source is None) == (saturate is None):
        raise ConfigError("give either a file of variants or --saturate REGION")
    if source is not None and shard != "1/1":
        raise ConfigError("--shard goes with --saturate", hint="-r takes a part of a file")
    if source is None and dry_run:
        raise ConfigError("--dry-run goes with a file of variants")
    if sample is not None and not phased:
        raise ConfigError("--sample goes with --phased")
    models = Models(config, sets, fasta, dataset, run, threads, gpus, batch_size, ensemble)
    settings = _settings(placement, precision, tracks, fix)
    if saturate is not None:
        _refuse_beside_saturate(context)
        _saturate(models, settings, saturate, shard, output, table, per_track, force, quiet)
        return
    from mfd_cli.variants.options import ScoreOptions

    options = ScoreOptions(
        output,
        one_of("-O", output_type, ("v", "z", "b", "u")) if output_type else None,
        one_of("-W", index, INDEXES),
        table,
        skipped,
        per_track,
        one_of("--check-ref", check_ref, ("skip", "error", "warn")),
        (),
        phased,
        sample,
        force=force,
    )
    _score_file(models, settings, str(source), options, Annotations(gtf, bed, regions, regions_file), dry_run, quiet)


@dataclass(frozen=True)
class Models:
    """The options that say which trained models are used, with which genome, and on what."""

    config: Path | None
    sets: list[str] | None
    fasta: Path | None
    dataset: Path | None
    run: Path | None
    threads: int | None
    gpus: int | None
    batch_size: int
    ensemble: bool

    def open(self) -> tuple[list[Run], Genome, str, torch.device]:
        """Read the runs and the genome; the text is a remark where the genome is not the one that the model was trained on."""
        from mfd_cli.core.device import device_of
        from mfd_cli.runs.choose_genome import choose_genome

        project = load(self.config, self.sets, {"data.dataset": self.dataset, "data.run": self.run})
        runs = open_runs(project, self.threads, self.ensemble)
        genome, remark = choose_genome(project, runs[0], self.fasta)
        return runs, genome, remark, device_of(gpus_or_default(self.gpus))


@dataclass(frozen=True)
class Annotations:
    """The options that name files of genes, elements and regions, which are read on the genome that the models have."""

    gtf: Path | None
    bed: list[str] | None
    regions: list[str] | None
    regions_file: Path | None

    def elements(self) -> list[tuple[str, Path]]:
        """Return the names and files of --bed. ConfigError where one is not NAME=FILE, or two have one name."""
        named = [parse_named_file(text) for text in self.bed or []]
        if len({name for name, _ in named}) < len(named):
            raise ConfigError("--bed: two files have the same name", hint="--bed peaks=a.bed --bed enhancers=b.bed")
        return named

    def add_to(self, options: ScoreOptions, genome: Genome, remark: str) -> ScoreOptions:
        """Read the files and return the options with what is in them."""
        from mfd_cli.formats.bed import parse_regions
        from mfd_cli.formats.gene_files import read_elements, read_gtf

        some = self.regions is not None or self.regions_file is not None
        return options.with_files(
            parse_regions(self.regions or [], self.regions_file, genome) if some else (),
            read_gtf(self.gtf, genome) if self.gtf else None,
            tuple(read_elements(name, path, genome) for name, path in self.elements()),
            remark,
        )


def _score_file(
    models: Models,
    settings: ScoreSettings,
    source: str,
    options: ScoreOptions,
    annotations: Annotations,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Score the records of a file, or say what that would do."""
    from mfd_cli.cli.console import Display
    from mfd_cli.variants.plan import plan_scores
    from mfd_cli.variants.score import score_variants

    annotations.elements()  # a mistake in --bed is told before models are read
    runs, genome, remark, device = models.open()
    options = annotations.add_to(options, genome, remark)
    with Display(quiet) as display:
        summary = (plan_scores if dry_run else score_variants)(
            runs,
            genome,
            source,
            options,
            settings=settings,
            device=device,
            batch_size=models.batch_size,
            progress=display,
        )
    _note_summary(summary.warnings, summary.lines())


NOTHING_TO_SATURATION = (
    "output_type", "index", "skipped", "regions", "regions_file", "check_ref", "phased", "gtf", "bed", "placement",
)  # fmt: skip
"""Parameters of score-variants that have no meaning for --saturate: there are no records, and the placement is `grid`."""


def _refuse_beside_saturate(context: typer.Context) -> None:
    """Raise ConfigError for the first option that was given and that --saturate would have to ignore."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in NOTHING_TO_SATURATION and source is not None and source.name != "DEFAULT":
            raise ConfigError(
                f"{parameter.opts[0]} goes with a file of variants, not with --saturate",
                hint="--saturate scores every substitution of a region, in grid placement, into a Parquet table",
            )


def _saturate(
    models: Models,
    settings: ScoreSettings,
    region: str,
    shard: str,
    output: Path | None,
    table: Path | None,
    per_track: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Score every substitution of a region into a Parquet table, which -o or --table names."""
    from mfd_cli.cli.console import Display
    from mfd_cli.variants.saturate import parse_shard, saturate

    part = parse_shard(shard)
    if output is not None and table is not None:
        raise ConfigError("--saturate writes one file", hint="name it with -o or with --table")
    runs, genome, _, device = models.open()
    with Display(quiet) as display:
        summary = saturate(
            runs,
            genome,
            region,
            table or output,
            settings=settings,
            shard=part,
            per_track=per_track,
            device=device,
            batch_size=models.batch_size,
            force=force,
            progress=display,
        )
    _note_summary(summary.warnings, summary.lines())


def _note_summary(warnings: Iterable[str], lines: Iterable[str]) -> None:
    """Say on stderr what was done, since stdout may be the VCF itself."""
    from mfd_cli.cli.console import note, warn

    for text in warnings:
        warn(text)
    for line in lines:
        note(line)


def background_command(
    source: Annotated[
        str | None,
        typer.Argument(metavar="[IN]", help="VCF or BCF of common variants [default: random substitutions]."),
    ] = None,
    count: Annotated[int, typer.Option("-n", "--number", min=100, help="How many variants.")] = 20_000,
    match: Annotated[
        str | None,
        typer.Option("--match", help="Draw them with the trinucleotide contexts of this VCF's substitutions."),
    ] = None,
    tracks: Tracks = None,
    fix: Fixed = None,
    ensemble: Ensemble = False,
    placement: Placed = "centred",
    precision: Precise = "float32",
    config: ConfigFile = None,
    sets: Sets = None,
    fasta: Fasta = None,
    dataset: DatasetFolder = None,
    run: RunFolder = None,
    seed: Seed = None,
    gpus: Gpus = None,
    threads: Threads = None,
    batch_size: BatchSize = 256,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Score a background set, so that score-variants with the same options can give quantiles and p-values."""
    from mfd_cli.cli.console import Display
    from mfd_cli.variants.background import background
    from mfd_cli.variants.effects import Scorer

    if source is not None and match is not None:
        raise ConfigError("--match goes with random substitutions, not with a file of variants")
    settings = _settings(placement, precision, tracks, fix)
    models = Models(config, sets, fasta, dataset, run, threads, gpus, batch_size, ensemble)
    runs, genome, _, device = models.open()
    with Display(quiet) as display:
        scorer = Scorer(runs, device, batch_size, settings)
        summary = background(
            scorer,
            genome,
            genome.digest(),
            runs[0].path.parent if ensemble else runs[0].path,
            source=source,
            count=count,
            match=match,
            seed=seed or 0,
            force=force,
            progress=display,
        )
    _note_summary((), summary.lines())


def enrich_command(
    scores: Annotated[Path, typer.Argument(metavar="SCORES", help="Parquet table of score-variants.")],
    labels: Annotated[Path, typer.Option("--labels", help="Table of variants: chrom, pos, ref, alt, label.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")] = Path("enrichment"),
    label_column: Annotated[
        str | None, typer.Option("--label-column", help="[default: label, or the only one with two values]")
    ] = None,
    positive: Annotated[
        str | None, typer.Option("--positive", help="Label of the positive class [default: 1, true, rare ...]")
    ] = None,
    match_column: Annotated[
        str | None, typer.Option("--match-column", help="Id of each variant's set, in a matched design.")
    ] = None,
    features: Annotated[
        list[str] | None, typer.Option("--features", metavar="PATTERN", help="Such as 'level.*'; repeatable.")
    ] = None,
    direction: Annotated[
        str, typer.Option("--direction", help="both: scores have a sign; absolute: only their size counts.")
    ] = "both",
    fdr: Annotated[float, typer.Option("--fdr", help="False discovery rate of what is called enriched.")] = 0.05,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Tell which scores differ between two classes of variants: writes features.tsv, quantiles.tsv, selected.parquet, ..."""
    from mfd_cli.cli.console import Display, warn
    from mfd_cli.enrichment.enrich import DIRECTIONS, enrich

    with Display(quiet) as display:
        result = enrich(
            scores,
            labels,
            output,
            label_column=label_column,
            positive=positive,
            match_column=match_column,
            features=features,
            direction=one_of("--direction", direction, DIRECTIONS),
            fdr=fdr,
            force=force,
            progress=display,
        )
    for text in [] if quiet else result.warnings:
        warn(text)
    if as_json:
        say_json(result.summary)
    else:
        say_all(result.lines())


def _settings(placement: str, precision: str, tracks: str | None, fix: list[str] | None) -> ScoreSettings:
    """Return what scores depend on. ConfigError for an unknown word, or a query that cannot be read."""
    from mfd_cli.runs.query import parse_query
    from mfd_cli.variants.effects import ScoreSettings

    if tracks is not None:
        tracks = str(parse_query(tracks))  # the same question in other words is the same setting
    return ScoreSettings(
        one_of("--placement", placement, ("centred", "grid")),
        one_of("--precision", precision, ("float32", "tf32", "bf16")),
        tracks,
        tuple(fix or ()),
    )
