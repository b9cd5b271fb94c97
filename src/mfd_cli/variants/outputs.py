"""The files that scores go to: the annotated VCF and its index, the Parquet table, the AnnData file, the skipped alleles."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from mfd_cli.base.errors import ConfigError, OutputError, VariantError
from mfd_cli.base.files import whole_files
from mfd_cli.engine.jobs import HERE, Workplace
from mfd_cli.formats.tables import ParquetRows, TsvRows
from mfd_cli.formats.vcf_reader import Record
from mfd_cli.formats.vcf_writer import VcfWriter
from mfd_cli.genome.sequence import Genome
from mfd_cli.variants.h5ad_scores import H5adScores
from mfd_cli.variants.options import Index, ScoreFiles, ScoreOptions, output_places
from mfd_cli.variants.records import SKIP_COLUMNS, Allele, skip_row
from mfd_cli.variants.scorer import Scorer
from mfd_cli.variants.summary import ScoreSummary
from mfd_cli.variants.vcf_fields import info_columns, info_of

LONGEST_OF_TBI = 1 << 29
"""Contigs of this length (bp) and more need a .csi index."""


def free_places(source: str | Path, options: ScoreOptions, workplace: Workplace = HERE) -> ScoreFiles:
    """Return where the outputs go. OutputError where something is in the way, or it is the input; ConfigError for shares of
    what goes to standard output."""
    files = output_places(source, options)
    if files.vcf is None and (workplace.shard is not None or workplace.gather):
        raise ConfigError("--shard goes with an output file, beside which its parts lie", hint="-o FILE")
    for path in files.files():
        workplace.check_result(path, options.force)
        if path.exists() and Path(source).exists() and path.samefile(source):
            raise OutputError("is the input itself", path=path, hint="-o FILE writes to another file")
    return files


@dataclass(frozen=True)
class ScoreOutputs:
    """Open files of one scoring; each chunk goes to all of them."""

    scorer: Scorer
    vcf: VcfWriter
    table: ParquetRows
    skipped: TsvRows
    h5ad: H5adScores

    def write(self, alleles: Sequence[Allele], records: Sequence[Record], columns: Mapping[str, Any]) -> None:
        """Write a chunk: `columns` are those of the alleles that were scored, in order."""
        scored = (allele for allele in alleles if allele.reason is None)
        row_of = {(allele.record.line, allele.number): row for row, allele in enumerate(scored)}
        infos = info_columns(columns, self.scorer)
        for record in records:
            rows = [row_of.get((record.line, number)) for number in range(len(record.alts))]
            self.vcf.write(record, info_of(rows, infos) if any(row is not None for row in rows) else {})
        self.table.write(columns)
        self.h5ad.write(columns)
        self.skipped.write(skip_row(allele) for allele in alleles if allele.reason is not None)


@contextmanager
def score_outputs(
    files: ScoreFiles,
    scorer: Scorer,
    genome: Genome,
    schema: pa.Schema,
    own: Collection[str],
    index: Index,
    summary: ScoreSummary,
) -> Iterator[ScoreOutputs]:
    """Open the outputs; `own` are the INFO fields that records of the input lose. When the block ends well the VCF is indexed
    and all files get their names together, else none does."""
    paths = files.files()
    with whole_files(*paths) as temporary:
        at = dict(zip(paths, temporary))
        vcf = at[files.vcf] if files.vcf is not None else None
        writer = VcfWriter(vcf, files.kind, own)
        table = ParquetRows(at[files.table] if files.table is not None else None, schema)
        skipped = TsvRows(at[files.skipped] if files.skipped is not None else Path(os.devnull), SKIP_COLUMNS)
        h5ad = H5adScores(at[files.h5ad] if files.h5ad is not None else None, scorer.panel, schema)
        with writer, table, h5ad.rows, skipped as skips:
            yield ScoreOutputs(scorer, writer, table, skips, h5ad)
        if vcf is not None and files.kind in ("z", "b"):
            indexes = {path.suffix[1:]: at[path] for path in files.indexes}
            summary.warnings += write_index(writer, vcf, indexes, index, files.kind, genome)
        summary.outputs = [path for path in paths if at[path].exists()]
        for path in files.indexes:
            path.unlink(missing_ok=True)  # an older output's index must never lie beside the new output


def write_index(
    writer: VcfWriter, vcf: Path, indexes: Mapping[str, Path], wanted: Index, kind: str, genome: Genome
) -> list[str]:
    """Index the compressed output into one of the files `indexes` (tbi, csi), or return why there is none, as a warning.

    Raises VariantError where an index that was asked for by name cannot be.
    """
    if wanted == "none":
        return []
    problem = "" if writer.sorted else "the input is not sorted by position (bcftools sort makes it so)"
    long = max(genome.lengths.values(), default=0) >= LONGEST_OF_TBI
    tried = [wanted] if wanted != "auto" else ["csi"] if long or kind == "b" else ["tbi", "csi"]
    if not problem and not any(writer.index(vcf, indexes[suffix]) for suffix in tried):
        problem = "a record lies beyond what an index can hold"
    if problem and wanted != "auto":
        raise VariantError(f"the output cannot have a {wanted} index: {problem}")
    return [f"the output has no index: {problem}"] if problem else []
