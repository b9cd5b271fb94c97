"""The shell of the commands that score variants: score-variants, background."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from mfd_cli.base.errors import ConfigError
from mfd_cli.cli.completion import words
from mfd_cli.cli.help import WithExamples
from mfd_cli.cli.shared import (
    BatchSize,
    ConfigFile,
    DatasetFolder,
    DryRun,
    Fasta,
    Fixed,
    Force,
    H5adFile,
    Json,
    Quiet,
    RegionsFile,
    RunFolder,
    Seed,
    Sets,
    Threads,
    Tracks,
    fields_of,
    note_sole_levels,
    note_trunk,
    one_of,
    opened,
    parse_named_file,
    say_json,
)
from mfd_cli.cli.workplace import Address, AllGpus, EngineName, Shard, Workers, threads_of, workplace_of

if TYPE_CHECKING:
    from mfd_cli.genome.sequence import Genome
    from mfd_cli.variants.effects import ScoreSettings
    from mfd_cli.variants.options import ScoreOptions

Placed = Annotated[
    str,
    typer.Option(
        "--placement",
        help="centred: each variant in the middle of its bin; grid: bins are shared.",
        autocompletion=words("centred", "grid"),
    ),
]
Precise = Annotated[
    str,
    typer.Option("--precision", help="float32, tf32 (GPU) or bf16.", autocompletion=words("float32", "tf32", "bf16")),
]
Ensemble = Annotated[
    bool, typer.Option("--ensemble", help="Average over all seeds of the run (mfd train --seeds), with their spread.")
]


INDEXES = ("auto", "tbi", "csi", "none")


class IndexAlone(WithExamples):
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
    h5ad: H5adFile = None,
    per_track: Annotated[bool, typer.Option("--per-track", help="Every track's change in the table.")] = False,
    regions: Annotated[
        list[str] | None, typer.Option("-r", "--regions", help="Only records in chr1:1001-2000, chr2; repeatable.")
    ] = None,
    regions_file: RegionsFile = None,
    tracks: Tracks = None,
    fix: Fixed = None,
    ensemble: Ensemble = False,
    check_ref: Annotated[
        str,
        typer.Option(
            "--check-ref",
            help="A wrong REF: skip (stop above 5 %), error (stop), warn (never stop).",
            autocompletion=words("skip", "error", "warn"),
        ),
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
    decimals: Annotated[
        int | None,
        typer.Option(
            "--decimals", min=1, max=6, help="Of numbers, with --saturate [default: 4 in text, all in Parquet]."
        ),
    ] = None,
    fields_only: Annotated[
        bool, typer.Option("--fields-only", help="With --saturate: only the VCF's fields in the Parquet table.")
    ] = False,
    workers: Workers = None,
    engine: EngineName = "local",
    address: Address = "auto",
    shard: Shard = None,
    config: ConfigFile = None,
    sets: Sets = None,
    fasta: Fasta = None,
    dataset: DatasetFolder = None,
    run: RunFolder = None,
    gpus: AllGpus = None,
    threads: Threads = None,
    batch_size: BatchSize = 256,
    force: Force = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score variants: writes IN.mfd.vcf.gz and its index, IN.mfd.parquet and IN.mfd.skipped.tsv."""
    if (source is None) == (saturate is None):
        raise ConfigError("give either a file of variants or --saturate REGION")
    if source is None and dry_run:
        raise ConfigError("--dry-run goes with a file of variants")
    if sample is not None and not phased:
        raise ConfigError("--sample goes with --phased")
    if saturate is not None:
        _refuse_beside_saturate(context)
        if output is not None and table is not None:
            raise ConfigError("--saturate writes one file", hint="name it with -o or with --table")
    elif decimals is not None or fields_only:
        option = "--decimals" if decimals is not None else "--fields-only"
        raise ConfigError(f"{option} goes with --saturate, not with a file of variants")
    from mfd_cli.cli.console import Display
    from mfd_cli.formats.h5ad import check_h5ad
    from mfd_cli.formats.tables import parquet_name
    from mfd_cli.variants.options import ScoreOptions, goes_to_standard_output
    from mfd_cli.variants.plan import plan_scores
    from mfd_cli.variants.saturate import saturate as saturate_region
    from mfd_cli.variants.score import write_scores
    from mfd_cli.variants.scorer import Scorer
    from mfd_cli.variants.sites import SiteOptions

    if as_json and source is not None and goes_to_standard_output(source, output):
        raise ConfigError("--json and the VCF would both go to standard output", hint="-o FILE is where the VCF goes")
    settings = _settings(placement, precision, tracks, fix)
    workplace, gpus = workplace_of(context, workers, engine, address, shard, gpus)
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
        h5ad=h5ad,
        force=force,
    )
    check_h5ad(h5ad)
    annotations = Annotations(gtf, elements_of(bed or ()), regions, regions_file)
    model = opened(config, sets, dataset, run, threads_of(workplace, threads), gpus, ensemble)
    note_sole_levels(model.run, settings.fixes, quiet)
    note_trunk(model.run, quiet)
    genome, remark = model.genome(fasta)
    summary: Summary
    with Display(quiet) as display:
        if saturate is None:
            options = annotations.add_to(options, genome, remark)
            scorer = Scorer(model.runs, model.device, batch_size, settings)
            if dry_run:
                summary = plan_scores(scorer, genome, str(source), options, display)
            else:
                summary = write_scores(scorer, genome, str(source), options, workplace, display)
        else:
            summary = saturate_region(
                model.runs,
                genome,
                saturate,
                SiteOptions(parquet_name(table) if table else output, per_track, fields_only, decimals, remark, force),
                settings=settings,
                device=model.device,
                batch_size=batch_size,
                workplace=workplace,
                progress=display,
            )
    _note_summary(summary.warnings, [] if as_json else summary.lines())
    if as_json:
        say_json(fields_of(summary))


class Summary(Protocol):
    """What a command about variants ends with."""

    @property
    def warnings(self) -> Sequence[str]:
        """Return what the user should know of the results."""

    def lines(self) -> list[str]:
        """Return what was done, as lines for the terminal."""


@dataclass(frozen=True)
class Annotations:
    """The options that name files of genes, elements and regions, which are read on the genome that the models have."""

    gtf: Path | None
    elements: dict[str, Path]
    regions: list[str] | None
    regions_file: Path | None

    def add_to(self, options: ScoreOptions, genome: Genome, remark: str) -> ScoreOptions:
        """Read the files and return the options with what is in them."""
        from mfd_cli.formats.bed import parse_regions
        from mfd_cli.formats.gene_files import read_elements, read_gtf

        restricted = self.regions is not None or self.regions_file is not None
        return options.with_files(
            parse_regions(self.regions or [], self.regions_file, genome) if restricted else (),
            read_gtf(self.gtf, genome) if self.gtf else None,
            tuple(read_elements(name, path, genome) for name, path in self.elements.items()),
            remark,
        )


def elements_of(texts: Sequence[str]) -> dict[str, Path]:
    """Return the files of --bed by their names. ConfigError where one is not NAME=FILE, or two have one name."""
    named = [parse_named_file(text) for text in texts]
    if len(dict(named)) < len(named):
        raise ConfigError("--bed: two files have the same name", hint="--bed peaks=a.bed --bed enhancers=b.bed")
    return dict(named)


NOTHING_TO_SATURATION = (
    "output_type", "index", "skipped", "h5ad", "regions", "regions_file", "check_ref", "phased", "gtf", "bed", "placement",
)  # fmt: skip
"""Parameters of score-variants that have no meaning for --saturate: there are no records, and the placement is `grid`."""


def _refuse_beside_saturate(context: typer.Context) -> None:
    """Raise ConfigError for the first option that was given and that --saturate would have to ignore."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in NOTHING_TO_SATURATION and source is not None and source.name != "DEFAULT":
            raise ConfigError(
                f"{parameter.opts[0]} goes with a file of variants, not with --saturate",
                hint="--saturate scores every substitution of a region, in grid placement; the name after -o says the format",
            )


def _note_summary(warnings: Iterable[str], lines: Iterable[str]) -> None:
    """Say on stderr what was done, since stdout may be the VCF itself."""
    from mfd_cli.cli.console import note, warn

    for text in warnings:
        warn(text)
    for line in lines:
        note(line)


def background_command(
    context: typer.Context,
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
    workers: Workers = None,
    engine: EngineName = "local",
    address: Address = "auto",
    shard: Shard = None,
    config: ConfigFile = None,
    sets: Sets = None,
    fasta: Fasta = None,
    dataset: DatasetFolder = None,
    run: RunFolder = None,
    seed: Seed = None,
    gpus: AllGpus = None,
    threads: Threads = None,
    batch_size: BatchSize = 256,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score a background set, so that score-variants with the same options can give quantiles and p-values."""
    from mfd_cli.cli.console import Display
    from mfd_cli.variants.background import background
    from mfd_cli.variants.scorer import Scorer

    if source is not None and match is not None:
        raise ConfigError("--match goes with random substitutions, not with a file of variants")
    settings = _settings(placement, precision, tracks, fix)
    workplace, gpus = workplace_of(context, workers, engine, address, shard, gpus)
    model = opened(config, sets, dataset, run, threads_of(workplace, threads), gpus, ensemble)
    note_sole_levels(model.run, settings.fixes, quiet)
    note_trunk(model.run, quiet)
    genome, _ = model.genome(fasta)
    with Display(quiet) as display:
        scorer = Scorer(model.runs, model.device, batch_size, settings)
        summary = background(
            scorer,
            genome,
            genome.digest(),
            model.run.path.parent if ensemble else model.run.path,
            source=source,
            count=count,
            match=match,
            seed=seed or 0,
            workplace=workplace,
            force=force,
            progress=display,
        )
    if as_json:
        say_json(fields_of(summary))
    else:
        _note_summary((), summary.lines())


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
