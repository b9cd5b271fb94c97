"""What a user of score-variants asked for besides the scores, and where the results go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mfd_cli.base.errors import OutputError, VariantError
from mfd_cli.base.urls import name_of
from mfd_cli.formats.h5ad import check_h5ad
from mfd_cli.formats.tables import parquet_name
from mfd_cli.genome.genes import Elements, Genes
from mfd_cli.genome.intervals import Interval

CheckRef = Literal["skip", "error", "warn"]
Index = Literal["auto", "tbi", "csi", "none"]
OutputType = Literal["v", "z", "b", "u"]
SUFFIX_OF_TYPE: dict[OutputType, str] = {"v": ".vcf", "z": ".vcf.gz", "b": ".bcf", "u": ".bcf"}
"""The suffix of an output that is not named."""
TYPE_OF_SUFFIX: dict[tuple[str, ...], OutputType] = {(".vcf",): "v", (".vcf.gz", ".vcf.bgz"): "z", (".bcf",): "b"}
"""The format of an output that is named and whose format is not given."""


@dataclass(frozen=True)
class ScoreOptions:
    """How records are read and results are written; what scores depend on is in ScoreSettings.

    `output` is a .vcf, .vcf.gz or .bcf file (default: IN.mfd.vcf.gz in the current folder), or `-`; with `output_type`, as in
    bcftools (v, z, b, u), it may have any name. `check_ref`: what a reference allele that is not in the genome does.
    `regions`: only records that overlap them. `phased`: neighbours on a haplotype of `sample` are one change. `h5ad`: where an
    AnnData file of each track's change goes, if anywhere. To standard output, table and list of skipped alleles are written
    where they are named only.
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
    h5ad: Path | None = None
    force: bool = False

    @property
    def every_track(self) -> bool:
        """Whether each track's change is wanted, in the table or in the AnnData file."""
        return self.per_track or self.h5ad is not None

    def with_files(
        self, regions: tuple[Interval, ...], genes: Genes | None, elements: tuple[Elements, ...], genome_note: str
    ) -> ScoreOptions:
        """Return the options with what was read from files."""
        return replace(self, regions=regions, genes=genes, elements=elements, genome_note=genome_note)


@dataclass(frozen=True)
class ScoreFiles:
    """Where the results of a scoring go; None: to standard output (the VCF) or not written."""

    vcf: Path | None
    table: Path | None
    skipped: Path | None
    kind: OutputType
    h5ad: Path | None = None

    @property
    def indexes(self) -> list[Path]:
        """Return every index that could lie beside the VCF."""
        return [Path(f"{self.vcf}.{kind}") for kind in ("tbi", "csi")] if self.vcf is not None else []

    def files(self) -> list[Path]:
        """Return all files that are, or could be, written."""
        return [path for path in (self.vcf, self.table, self.skipped, self.h5ad, *self.indexes) if path is not None]


def output_places(source: str | Path, options: ScoreOptions) -> ScoreFiles:
    """Return where the VCF, the table and the list of skipped alleles go, and in which format the VCF is.

    The format is `output_type` where it is given, as in bcftools, and the name may then be any; otherwise the name's suffix
    says it. Raises VariantError for a suffix that says nothing, and for an index that the format cannot have; OutputError for
    a table that is not called Parquet, or an AnnData file of another name; ConfigError where none can be written.
    """
    output, kind = options.output, options.output_type
    h5ad = check_h5ad(options.h5ad)
    if options.table is not None:
        parquet_name(options.table)
    if goes_to_standard_output(source, output):
        _check_index_of_type(options.index, kind or "v", piped=True)
        return distinct(ScoreFiles(None, options.table, options.skipped, kind or "v", h5ad))
    if output is None:
        name = "stdin" if str(source) == "-" else name_of(source)
        output = f"{_stem(name)}.mfd{SUFFIX_OF_TYPE[kind or 'z']}"
    vcf = Path(output)
    kind = kind or _type_by_name(vcf)
    _check_index_of_type(options.index, kind, piped=False)
    stem = _stem(vcf.name)
    table, skipped = vcf.with_name(f"{stem}.parquet"), vcf.with_name(f"{stem}.skipped.tsv")
    return distinct(ScoreFiles(vcf, options.table or table, options.skipped or skipped, kind, h5ad))


def goes_to_standard_output(source: str | Path, output: str | Path | None) -> bool:
    """Return whether the VCF goes to standard output: asked for, or by default where the variants come from standard input."""
    return str(output) == "-" or (output is None and str(source) == "-")


def _type_by_name(vcf: Path) -> OutputType:
    """Return the format that a file's suffix stands for; VariantError where it stands for none.

    bcftools writes plain VCF under an unknown suffix. Here a slip of the hand (`-o scores.parquet`) is told instead.
    """
    name = vcf.name.lower()
    for suffixes, kind in TYPE_OF_SUFFIX.items():
        if name.endswith(suffixes):
            return kind
    raise VariantError(
        f"the output is {str(vcf)!r}; its name must end in .vcf, .vcf.gz or .bcf",
        hint="-O v, z, b or u says the format of a file of any name",
    )


def _check_index_of_type(index: Index, kind: OutputType, *, piped: bool) -> None:
    """Raise VariantError where an index is asked for by name and the output cannot have it."""
    if index in ("tbi", "csi") and (piped or kind in ("v", "u") or (kind == "b" and index == "tbi")):
        raise VariantError(
            f"a {index} index cannot be written for this output",
            hint="compressed files have one: -O z, or -O b and csi",
        )


def distinct(places: ScoreFiles) -> ScoreFiles:
    """Return the files as they are. Raises OutputError where two results would go into one file."""
    files = [path.absolute() for path in places.files()]
    twice = next((path for path in files if files.count(path) > 1), None)
    if twice is not None:
        raise OutputError("is named for two different results", path=twice)
    return places


def _stem(name: str) -> str:
    """Return a file's name without the suffixes of VCF and BCF; a name without any stays whole."""
    stem = name
    for suffix in (".gz", ".bgz", ".vcf", ".bcf"):
        if stem.lower().endswith(suffix):
            stem = stem[: -len(suffix)]
    return stem or name
