"""`mfd enrich`: which scores tell two classes of variants apart, such as rare from common, or causal from matched ones.

Every feature (a numeric column of the scores) is ranked, fitted and cut, see enrichment/features.py; what a cut selects is
compared with what it leaves. Variants are independent between blocks of the genome only, see enrichment/blocks.py.
"""

from __future__ import annotations

import fnmatch
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfd_cli import __version__
from mfd_cli.base.errors import ConfigError, OutputError, few
from mfd_cli.base.files import check_output, whole_folder, write_json
from mfd_cli.base.progress import Progress
from mfd_cli.enrichment import models
from mfd_cli.enrichment.blocks import BLOCK_SIZE, Blocks, blocks_by_distance, blocks_of_intervals, remarks
from mfd_cli.enrichment.contexts import Contexts, contexts_of
from mfd_cli.enrichment.features import (
    Direction,
    EnrichSettings,
    Row,
    compare,
    design_of,
    measured,
    with_exact_cut,
)
from mfd_cli.enrichment.labels import Joined, join, read_labels, summary_of
from mfd_cli.enrichment.score_table import ScoreTable
from mfd_cli.enrichment.selected import by_feature, enriched, write_selected
from mfd_cli.formats.bed import read_intervals
from mfd_cli.formats.fasta import read_fasta
from mfd_cli.formats.tables import write_tsv

QUANTILES = (0.0001, 0.001, 0.01, 0.1, 0.9, 0.99, 0.999, 0.9999)
FORMAT, VERSION = "variant-enrichment", 2
MANY_UNMATCHED = 0.05
"""Share of the labelled variants from which those that are not scored are worth a warning."""
HEADLINES = 5
"""Features that are shown at the end."""


@dataclass(frozen=True)
class EnrichResult:
    """One row per feature, and what was counted."""

    output: Path
    rows: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]
    seconds: float

    @property
    def warnings(self) -> Sequence[str]:
        """What a reader of the tables should know, in sentences."""
        return list(self.summary["warnings"])

    def lines(self) -> list[str]:
        """Return what was counted, and the features that rank the classes best, in words."""
        labels, found, blocks = self.summary["labels"], self.summary["found"], self.summary["blocks"]
        sets = f", {labels['sets']:,} sets" if "sets" in labels else ""
        best = sorted(self.rows, key=lambda row: -strength(row))[:HEADLINES]
        return [
            f"{labels['variants']:,} labelled variants: {labels['positive']:,} {labels['positive_label']}, "
            f"{labels['negative']:,} {labels['negative_label']}{sets}; {labels['not_scored']:,} of the table are not scored",
            f"{len(self.rows):,} features: {self._ranking():,} rank the classes, {found['quantile_features']:,} are enriched "
            f"at a cut (q < {self.summary['settings']['fdr']:g}); {found['selected_variants']:,} variants selected by cuts "
            f"that the other half of the blocks chose ({self.seconds:.1f} s)",
            f"standard errors and p are over {blocks['count']:,} blocks ({blocks['made_of']})",
            *map(headline, best),
            f"wrote {self.output}",
        ]

    def _ranking(self) -> int:
        """Return how many features rank the classes, by their sign or by their size."""
        fdr = self.summary["settings"]["fdr"]
        return sum(row["auroc_q"] < fdr or row.get("auroc_absolute_q", math.nan) < fdr for row in self.rows)


def headline(row: Mapping[str, Any]) -> str:
    """Return one line on a feature: its AUROC, and for a signed one that of its size, the larger one first.

    A score that falls where the classes differ has a signed AUROC near 0 though its size tells them apart.
    """

    def written(name: str, what: str) -> str:
        return f"AUROC{what} {row[name]:.4f} (standard error {row[f'{name}_se']:.4f})"

    if row["score"] == "absolute":
        return f"{row['feature']}: {written('auroc', ' of the size')}"
    if row["auroc"] == row["auroc_absolute"] or math.isnan(row["auroc"]):
        return f"{row['feature']}: {written('auroc', '')}"
    both = [written("auroc_absolute", " of the size"), written("auroc", " of the signed score")]
    return f"{row['feature']}: {', '.join(both if row['auroc_absolute'] > row['auroc'] else both[::-1])}"


def strength(row: Mapping[str, Any]) -> float:
    """Return how far a feature ranks the classes, by its sign or its size: from 0 to 0.5, -1 where nothing is known."""
    away = [abs(row[name] - 0.5) for name in ("auroc", "auroc_absolute") if not math.isnan(row.get(name, math.nan))]
    return max(away, default=-1.0)


def enrich(
    scores: Path,
    labels: Path,
    output: Path,
    *,
    label_column: str | None = None,
    positive: str | None = None,
    match_column: str | None = None,
    features: Sequence[str] | None = None,
    quantiles: Sequence[float] = QUANTILES,
    direction: Direction = "both",
    fdr: float = 0.05,
    blocks: Path | None = None,
    block_size: int | None = None,
    fasta: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> EnrichResult:
    """Compare the scores of two classes of variants, feature by feature, and write a folder of tables.

    `scores` is the Parquet table of `mfd score-variants`, `labels` a table with a header (see labels.py),
    `features` are patterns such as `level.*`. Standard errors and p are over blocks of the genome: those of the BED file
    `blocks`, or of `block_size` bp (default: BLOCK_SIZE). With the genome in `fasta`, variants are compared within
    trinucleotide changes too. Raises InputError, MetadataError, RegionError and GenomeError where files cannot be read or
    joined, ConfigError for both kinds of blocks.
    """
    started = time.monotonic()
    settings = EnrichSettings(tuple(sorted(set(quantiles))), direction, fdr)
    if blocks is not None and block_size is not None:
        raise ConfigError("blocks come from a file or have a size, not both")
    check_folder(output, force, [path for path in (scores, labels, blocks, fasta) if path])
    table = ScoreTable(scores)
    names = chosen(table.features, features, scores)
    intervals = read_intervals(blocks) if blocks else None
    known = read_labels(labels, label_column, positive, match_column)
    joined = join(known, table.batches(table.naming(known.by)))
    places = table.places(joined.rows)
    in_blocks = (
        blocks_of_intervals(places, intervals) if intervals else blocks_by_distance(places, block_size or BLOCK_SIZE)
    )
    contexts = contexts_of(places, *table.alleles(joined.rows), read_fasta(fasta)) if fasta else None
    design = design_of(joined, in_blocks, contexts)
    rows, cuts, half_cuts = measured(table, names, design, settings, progress)
    with whole_folder(output) as folder:
        write_tsv(folder / "features.tsv", rows)
        write_tsv(folder / "quantiles.tsv", [with_exact_cut(row) for row in cuts])
        compared = compare(table, design, settings)
        write_tsv(folder / "raw_vs_debiased.tsv", compared, None if compared else ("feature", "score"))
        selected, checked = write_selected(
            folder / "selected.parquet", table, design, known.classes, half_cuts, settings, progress
        )
        exact = [with_exact_cut(row) for row in checked]
        write_tsv(folder / "selected_cuts.tsv", exact, None if exact else ("feature", "score", "half"))
        about = summary_of(known, joined)
        summary = summarise(table, about, joined, in_blocks, contexts, settings, rows, cuts, selected, len(checked))
        write_json(folder / "summary.json", summary)
    return EnrichResult(output, rows, summary, time.monotonic() - started)


def check_folder(output: Path, force: bool, inputs: Iterable[Path]) -> None:
    """Raise OutputError where the folder may not be written, or where replacing it would remove an input."""
    check_output(output, force)
    if output.exists() and not output.is_dir():
        raise OutputError("is a file; the tables are written to a folder", path=output)
    for path in inputs:
        if output.exists() and path.exists() and output.resolve() in path.resolve().parents:
            raise OutputError(f"holds the input {path.name}, which would be replaced", path=output)


def chosen(features: Sequence[str], patterns: Sequence[str] | None, path: Path) -> list[str]:
    """Return the features that a pattern fits (all without patterns), in the order of the file. ConfigError for one of none."""
    if patterns is None:
        return list(features)
    for pattern in patterns:
        if not fnmatch.filter(features, pattern):
            raise ConfigError(f"no feature of {path.name} is called {pattern!r}", hint=f"there are {few(features)}")
    return [name for name in features if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


# -- summary -----------------------------------------------------------------------------------------------------------


def summarise(
    table: ScoreTable,
    labels: Row,
    joined: Joined,
    blocks: Blocks,
    contexts: Contexts | None,
    settings: EnrichSettings,
    rows: Sequence[Row],
    cuts: Sequence[Row],
    selected: int,
    selecting: int,
) -> Row:
    """Return what summary.json holds: what was read, joined, set and found, and what to be wary of."""
    families = [name for name in rows[0] if name.endswith("_q")]
    found: Row = {family.removesuffix("_q"): sum(row[family] < settings.fdr for row in rows) for family in families}
    found |= {
        "quantile_tests": sum(row["q"] < settings.fdr for row in cuts),
        "quantile_features": len(by_feature(enriched(cuts, settings.fdr))),
        "selecting_cuts": selecting,
        "selected_variants": selected,
    }
    return {
        "format": FORMAT,
        "version": VERSION,
        "mfd_version": __version__,
        "scores": table.about,
        "labels": labels,
        "blocks": {"count": blocks.count, "made_of": blocks.made_of, "outside": blocks.outside},
        **({"contexts": {"count": len(contexts.names), "variants_without": contexts.without}} if contexts else {}),
        "settings": {"quantiles": settings.quantiles, "direction": settings.direction, "fdr": settings.fdr},
        "features": len(rows),
        "found": found,
        "warnings": [*warnings_of(table, labels, joined, rows), *remarks(blocks), *left_without(contexts)],
    }


def warnings_of(table: ScoreTable, labels: Row, joined: Joined, rows: Sequence[Row]) -> list[str]:
    """Return what a reader of the tables should know, in sentences."""
    total, missing = labels["variants"] + labels["not_scored"], labels["not_scored"]
    warnings = []
    if missing > MANY_UNMATCHED * total:
        warnings.append(f"{missing:,} of {total:,} labelled variants are not among the scores")
    of_counts = {
        "labelled_both_ways": "rows were left out because their variants are labelled both ways",
        "repeated": "rows of the table repeat another one",
        "without_label": "rows have no label",
        "without_name": "rows name no variant",
        "without_set": "rows belong to no set and count in unmatched numbers only",
        "scores_repeated": "rows of the scores repeat a variant; the first one counts",
        "ambiguous_ids": "ids were left out because several scores have them",
        "sets_incomplete": "sets lack a scored variant of one class and were left out",
        "in_several_sets": "variants are in several sets, which are treated as independent",
    }
    warnings += [f"{labels[name]:,} {text}" for name, text in of_counts.items() if labels.get(name)]
    if joined.sets is not None:
        warnings.append("quantile tables, AUROC and the plain logistic model ignore the matching")
        large = int((joined.sets.rarer > models.MOST_CASES).sum())
        if large:
            warnings.append(
                f"{large:,} sets have more than {models.MOST_CASES} of both classes: no conditional model was fitted"
            )
    if table.half:
        warnings.append(f"{len(table.half)} columns are float16: effects smaller than its steps are tied")
    incomplete = sum(row["n_missing"] > 0 for row in rows)
    if incomplete:
        warnings.append(f"{incomplete:,} features lack the score of some variants (n_missing)")
    return warnings


def left_without(contexts: Contexts | None) -> list[str]:
    """Return the sentence on variants without a trinucleotide change, where there are any."""
    if contexts is None or not contexts.without:
        return []
    return [
        f"{contexts.without:,} variants are no substitution of one base between known ones: they have no part in the AUROC "
        "within contexts"
    ]
