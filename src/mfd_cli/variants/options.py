"""What a user of score-variants asked for besides the scores, and where the results go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mfd_cli.base.errors import OutputError, VariantError
from mfd_cli.genome.genes import Elements, Genes
from mfd_cli.genome.intervals import Interval

CheckRef = Literal["skip", "error", "warn"]
Index = Literal["auto", "tbi", "csi", "none"]
OutputType = Literal["v", "z", "b", "u"]
SUFFIXES: dict[OutputType, str] = {"v": ".vcf", "z": ".vcf.gz", "b": ".bcf", "u": ".bcf"}


@dataclass(frozen=True)
class ScoreOptions:
    """How records are read and results are written; what scores depend on is in ScoreSettings.

    `output` is a .vcf, .vcf.gz or .bcf file (default: IN.mfd.vcf.gz in the current folder), or `-`; `output_type` as in
    bcftools (v, z, b, u) wins over the name. `check_ref`: what a reference allele that is not in the genome does. `regions`:
    only records that overlap them. `phased`: neighbours on a haplotype of `sample` are one change. To standard output, table
    and list of skipped alleles are written where they are named only.
    """

    output: Path | str | None = None
    output_type: OutputType | None = None
    index: Index = "auto"
    table: Path | None = None
    skipped: Path | None = None
    per_track: bool = False
    check_ref: CheckRef = "skip"
    regions: tuple[Interval, ...] = ()
    phased: bool = False
    sample: str | None = None
    genes: Genes | None = None
    elements: tuple[Elements, ...] = ()
    genome_note: str = ""
    force: bool = False

    def with_files(
        self, regions: tuple[Interval, ...], genes: Genes | None, elements: tuple[Elements, ...], genome_note: str
    ) -> ScoreOptions:
        """The same with what was read from files."""
        return replace(self, regions=regions, genes=genes, elements=elements, genome_note=genome_note)


@dataclass(frozen=True)
class ScoreFiles:
    """Where the results go; None: to standard output (the VCF) or not written."""

    vcf: Path | None
    table: Path | None
    skipped: Path | None
    kind: OutputType

    @property
    def indexes(self) -> list[Path]:
        """Every index that could lie beside the VCF."""
        return [Path(f"{self.vcf}.{kind}") for kind in ("tbi", "csi")] if self.vcf is not None else []

    def files(self) -> list[Path]:
        return [path for path in (self.vcf, self.table, self.skipped, *self.indexes) if path is not None]


def output_places(source: str | Path, options: ScoreOptions) -> ScoreFiles:
    """Where the VCF, the table and the list of skipped alleles go, and in which format the VCF is."""
    output, kind = options.output, options.output_type
    piped = str(output) == "-" or (output is None and str(source) == "-")
    name = "stdin" if str(source) == "-" else Path(source).name
    vcf = Path(f"{_stem(name)}.mfd{SUFFIXES[kind or 'z']}") if output is None or piped else Path(output)
    if not vcf.name.endswith((".vcf", ".vcf.gz", ".vcf.bgz", ".bcf")):
        raise VariantError(f"the output is {str(vcf)!r}; its name must end in .vcf, .vcf.gz or .bcf")
    skipped, rows = vcf.with_name(f"{_stem(vcf.name)}.skipped.tsv"), vcf.with_name(f"{_stem(vcf.name)}.parquet")
    if piped:
        kind = kind or "v"
    else:
        by_name: OutputType = "b" if vcf.name.endswith(".bcf") else "z" if vcf.name.endswith("gz") else "v"
        kind = kind or by_name
    if options.index in ("tbi", "csi") and (piped or kind in ("v", "u") or (kind == "b" and options.index == "tbi")):
        raise VariantError(
            f"a {options.index} index cannot be written for this output",
            hint="compressed files have one: -O z, or -O b and csi",
        )
    if piped:
        return distinct(ScoreFiles(None, options.table, options.skipped, kind))
    return distinct(ScoreFiles(vcf, options.table or rows, options.skipped or skipped, kind))


def distinct(places: ScoreFiles) -> ScoreFiles:
    """The same; OutputError where two results would go into one file."""
    files = [path.absolute() for path in places.files()]
    twice = next((path for path in files if files.count(path) > 1), None)
    if twice is not None:
        raise OutputError("is named for two different results", path=twice)
    return places


def _stem(name: str) -> str:
    for suffix in (".gz", ".bgz", ".vcf", ".bcf"):
        name = name.removesuffix(suffix)
    return name
