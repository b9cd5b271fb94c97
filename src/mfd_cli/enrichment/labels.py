"""A table of labels for variants, and the join to scores: by what a variant is, never by the order of rows.

A variant is the same whichever of `chr1` and `1` its contig is called and however many bases its alleles share. Whatever
cannot be joined is counted, so that rows and labels cannot drift apart in silence.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from mfd_cli.base.arrays import Bools, Ints
from mfd_cli.base.errors import MetadataError, few
from mfd_cli.base.files import check_input
from mfd_cli.enrichment.models import Sets, sets_of
from mfd_cli.formats.text import read_lines
from mfd_cli.genome.alleles import Variant
from mfd_cli.genome.sequence import aliases

COLUMNS = {
    "contig": ("chrom", "contig", "chromosome", "chr"), "position": ("pos", "position"),
    "ref": ("ref",), "alt": ("alt",), "key": ("key",), "id": ("id", "variant_id", "varid"),
}  # fmt: skip
"""What the columns that name a variant may be called, in any case; a # before the first is dropped."""
WHERE = ("contig", "position", "ref", "alt")
NO_LABEL = ("", ".", "na", "n/a", "nan", "null")
"""What a cell without a label, a set or an id holds, in lower case."""
POSITIVE = ("1", "1.0", "true", "yes", "positive", "pos", "rare", "case", "causal", "pathogenic")
"""Labels that are taken for the positive class without being asked, in any case, if the other one is not among them."""
_KEY = r"^(?P<contig>.+):(?P<position>[0-9]{1,18}):(?P<ref>[A-Za-z*-]*)>(?P<alt>[A-Za-z*-]*)$"
FEWEST = 2
"""Variants of a class, and sets, without which nothing can be compared."""


@dataclass(frozen=True)
class Labels:
    """The labels of distinct variants: `names` (variants,) are keys, or ids where `by` is `id`; `positive` (variants,).

    In a matched design `members` (m,) are numbers of variants and `sets` (m,) those of their sets, one entry per variant
    and set. `counts` says what was left out.
    """

    path: Path
    column: str
    classes: tuple[str, str]
    by: str
    names: pa.Array
    positive: Bools
    members: Ints | None
    sets: Ints | None
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Joined:
    """Scored variants with a label: `rows` (n,) of the scores, ascending; `positive` (n,); the design's places are in 0..n."""

    rows: Ints
    positive: Bools
    sets: Sets | None
    counts: Mapping[str, int]


# -- reading -----------------------------------------------------------------------------------------------------------


def read_labels(
    path: Path, label_column: str | None = None, positive: str | None = None, match_column: str | None = None
) -> Labels:
    """Read a tab-separated table (plain or gzip) with a header, columns that name a variant, and one with two labels.

    Raises MetadataError with the line where the table is broken, and where it does not say which column or which class is
    meant.
    """
    line, header = read_header(check_input(path, MetadataError))
    named = naming_columns(header, path, line)
    for name in (label_column, match_column):
        if name is not None and name not in header:
            raise MetadataError(f"has no column {name!r}", path=path, line=line, hint=f"it has {few(header)}")
    column = label_column or next((name for name in header if name.lower() == "label"), None)
    wanted = [column, *named.values(), *([match_column] if match_column else [])] if column else header
    table = read_columns(path, line, header, list(dict.fromkeys(wanted)))
    if column is None:
        column = two_valued(table, path, [*named.values(), match_column])
    classes = classes_of(table[column], positive, column, path)
    return distinct_labels(table, path, line, column, classes, named, match_column)


def read_header(path: Path) -> tuple[int, list[str]]:
    """Return line number and names of the header, the first line that does not begin with ##; MetadataError for none."""
    for number, line in read_lines(path, MetadataError):
        if line.startswith(b"##"):
            continue
        try:
            names = [name.strip() for name in line.decode("utf-8").removeprefix("#").split("\t")]
        except UnicodeDecodeError as error:
            raise MetadataError("is not UTF-8 text", path=path, line=number) from error
        if len(names) < 2:
            raise MetadataError(
                f"has one column only ({names[0][:40]!r})", path=path, line=number, hint="columns are separated by tabs"
            )
        for name in names:
            if not name or names.count(name) > 1:
                what = f"has the column {name[:40]!r} twice" if name else "has a column without a name"
                raise MetadataError(what, path=path, line=number)
        return number, names
    raise MetadataError("has no header", path=path)


def naming_columns(header: Sequence[str], path: Path, line: int) -> dict[str, str]:
    """Return the columns that say which variant a row is about: contig, position, ref and alt; else the key; else the id.

    They are {what: name in the header}; MetadataError where there is none of these.
    """
    column_of = {}
    for what, names in COLUMNS.items():
        matching = [name for name in header if name.lower() in names]
        if matching:
            column_of[what] = min(matching, key=lambda name: names.index(name.lower()))
    for wanted in (WHERE, ("key",), ("id",)):
        if all(what in column_of for what in wanted):
            return {what: column_of[what] for what in wanted}
    raise MetadataError(
        f"has no columns that name a variant ({few(header)})",
        path=path,
        line=line,
        hint="chrom, pos, ref and alt are needed, or key as in the scores (chr7:101:A>G), or id",
    )


def read_columns(path: Path, line: int, header: Sequence[str], wanted: Sequence[str]) -> pa.Table:
    """Return columns of the table below its header, as text without spaces around it; blank lines are skipped."""
    packed = path.open("rb").read(2) == b"\x1f\x8b"
    reading = pcsv.ReadOptions(column_names=list(header), skip_rows=line)
    parsing = pcsv.ParseOptions(delimiter="\t", quote_char=False, double_quote=False)
    converting = pcsv.ConvertOptions(
        column_types=dict.fromkeys(header, pa.string()), include_columns=list(wanted), strings_can_be_null=False
    )
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as stream:
            table = pcsv.read_csv(stream, reading, parsing, converting)
    except (pa.ArrowException, OSError, EOFError) as error:
        raise unreadable_line(path, line, len(header), error) from error
    if not table.num_rows:
        raise MetadataError("has a header but no rows", path=path)
    columns = [pc.utf8_trim_whitespace(column).combine_chunks() for column in table.columns]
    return pa.table(columns, names=table.column_names)


def unreadable_line(path: Path, header: int, cells: int, cause: Exception) -> MetadataError:
    """Return the error for the first line below the header (line `header`) that cannot be read as so many cells."""
    for number, line in read_lines(path, MetadataError):
        if number <= header or not line:
            continue
        try:
            count = line.decode("utf-8").count("\t") + 1
        except UnicodeDecodeError:
            return MetadataError("is not UTF-8 text", path=path, line=number)
        if count != cells:
            return MetadataError(f"has {count} cells where the header has {cells}", path=path, line=number)
    reason = " ".join(str(cause).split())[:200]
    return MetadataError("has a header but no rows" if "Empty" in reason else f"cannot be read ({reason})", path=path)


def line_of(path: Path, header: int, row: int) -> int:
    """Return the line of the file (1-based) that a row (0-based) below the header came from."""
    numbers = (number for number, line in read_lines(path, MetadataError) if number > header and line)
    return next(number for place, number in enumerate(numbers) if place == row)


def two_valued(table: pa.Table, path: Path, others: Sequence[str | None]) -> str:
    """Return the only column with two values that is none of the `others`; MetadataError where there is none or a choice."""
    names = [name for name in table.column_names if name not in others]
    binary = [name for name in names if len(values_of(table[name])) == 2]
    if len(binary) == 1:
        return str(binary[0])
    message = (
        f"several columns have two values ({few(binary)})" if binary else f"no column has two values ({few(names)})"
    )
    raise MetadataError(message, path=path, hint="--label-column NAME says which one holds the labels")


def values_of(column: pa.ChunkedArray) -> list[str]:
    """Return the distinct texts of a column, sorted, missing ones left out."""
    return sorted(value for value in pc.unique(column).to_pylist() if value.lower() not in NO_LABEL)


def classes_of(column: pa.ChunkedArray, positive: str | None, name: str, path: Path) -> tuple[str, str]:
    """Return the positive and the negative label of a column; MetadataError where it has not two, or it is not plain which."""
    values = values_of(column)
    if len(values) != 2:
        many = f"{len(values)} values ({few(values)})" if values else "no values"
        raise MetadataError(
            f"the column {name!r} has {many}, where two classes are needed",
            path=path,
            hint="leave the rows of other classes out, or give them no label",
        )
    guess = [value for value in values if value.lower() in POSITIVE]
    chosen = positive if positive is not None else guess[0] if len(guess) == 1 else ""
    if chosen not in values:
        which = f"{positive!r} is not a label" if positive is not None else "it is not plain which label is positive"
        raise MetadataError(
            f"the column {name!r} has the labels {values[0]!r} and {values[1]!r}: {which}",
            path=path,
            hint="--positive VALUE names the positive class",
        )
    return chosen, next(value for value in values if value != chosen)


def distinct_labels(
    table: pa.Table,
    path: Path,
    line: int,
    column: str,
    classes: tuple[str, str],
    named: Mapping[str, str],
    match_column: str | None,
) -> Labels:
    """Return the distinct variants with one label each; those that are labelled both ways are left out and counted."""
    counts = {"table_rows": table.num_rows}
    known = pc.is_in(table[column], pa.array(classes))
    names = names_of(table, named, path, line)
    usable = pc.and_(known, pc.is_valid(names)).to_numpy()
    counts["without_label"] = table.num_rows - int(pc.sum(known).as_py())
    counts["without_name"] = int((known.to_numpy() & ~usable).sum())
    encoded = names.filter(pa.array(usable)).dictionary_encode()
    number = encoded.indices.to_numpy().astype(np.int64)
    one = pc.equal(table[column], classes[0]).to_numpy()[usable]
    rows, ones = (np.bincount(number, weights, len(encoded.dictionary)) for weights in (None, one))
    both = (ones > 0) & (ones < rows)
    counts["labelled_both_ways"] = int(rows[both].sum())
    texts = table[match_column].filter(pa.array(usable)) if match_column else None
    members, sets, repeated = memberships(number, texts, both)
    counts["repeated"] = int(rows[~both].sum() - (~both).sum()) if texts is None else repeated
    if texts is not None:
        counts["without_set"] = int((~both[number]).sum()) - repeated - len(members)
    renumbered = np.where(both, -1, np.cumsum(~both) - 1)  # without those that are labelled both ways
    distinct = encoded.dictionary.filter(pa.array(~both))
    by = "id" if "id" in named else ", ".join(named.values())
    return Labels(
        path,
        column,
        classes,
        by,
        distinct,
        (ones > 0)[~both],
        renumbered[members] if match_column else None,
        sets,
        counts,
    )


def memberships(number: Ints, texts: pa.ChunkedArray | None, excluded: Bools) -> tuple[Ints, Ints, int]:
    """Return distinct pairs of a variant and its set, as two columns of numbers, and how many rows repeat one.

    `number` (rows,) is each row's variant, `texts` (rows,) its set, `excluded` (variants,) which variants have no label.
    """
    if texts is None:
        return number[:0], number[:0], 0
    in_a_set = np.array([text.lower() not in NO_LABEL for text in texts.to_pylist()], bool) & ~excluded[number]
    encoded = texts.filter(pa.array(in_a_set)).combine_chunks().dictionary_encode()
    # Sets are numbered by their names in order, so that the order of the rows does not matter.
    place = (
        np.argsort(np.argsort(np.array(encoded.dictionary.to_pylist(), object))) if len(encoded) else np.zeros(0, int)
    )
    sets = place[encoded.indices.to_numpy()].astype(np.int64)
    pairs = np.unique(np.stack([sets, number[in_a_set]]), axis=1)
    return pairs[1], pairs[0], len(sets) - pairs.shape[1]


# -- names of variants -------------------------------------------------------------------------------------------------


def names_of(table: pa.Table, named: Mapping[str, str], path: Path, line: int) -> pa.Array:
    """Return the key of each row's variant, or its id; null where a row names none. MetadataError for a wrong position."""
    if "id" in named:
        return ids(table[named["id"]].combine_chunks())
    if "key" in named:
        return keys_of(table[named["key"]].combine_chunks())
    contig, text, ref, alt = (table[named[what]].combine_chunks() for what in WHERE)
    wrong = pc.invert(pc.match_substring_regex(text, "^0*[1-9][0-9]{0,17}$"))
    if pc.any(wrong).as_py():
        row = pc.index(wrong, True).as_py()
        raise MetadataError(
            f"the position {text[row].as_py()[:40]!r} is not a whole number of 1 or more",
            path=path,
            line=line_of(path, line, row),
            hint="positions are 1-based, as in VCF",
        )
    return keys(contig, text.cast(pa.int64()), ref, alt)


def keys_of(texts: pa.Array) -> pa.Array:
    """Return `keys` of texts such as chr7:101:A>G; null where a text is none."""
    parts = pc.extract_regex(texts, _KEY)
    contig, text, ref, alt = (pc.struct_field(parts, what) for what in WHERE)
    return keys(contig, text.cast(pa.int64()), ref, alt)


def ids(names: pa.Array) -> pa.Array:
    """Return ids as they are, null for those that are missing."""
    missing = pc.is_in(pc.utf8_lower(names), pa.array(NO_LABEL))
    return pc.if_else(missing, pa.scalar(None, pa.string()), names)


def keys(contig: pa.Array, position: pa.Array, ref: pa.Array, alt: pa.Array) -> pa.Array:
    """Return one text per variant, the same for all ways to write it: alleles trimmed, contigs without `chr`."""
    encoded = contig.dictionary_encode()
    plain = pa.array([min(aliases(name)) for name in encoded.dictionary.to_pylist()], pa.string())
    ref, alt = (pc.replace_substring(pc.utf8_upper(allele), "-", "") for allele in (ref, alt))
    single = pc.and_(pc.equal(pc.binary_length(ref), 1), pc.equal(pc.binary_length(alt), 1))
    longer = pc.invert(pc.and_(single, pc.not_equal(ref, alt))).fill_null(False)
    if pc.any(longer).as_py():
        values = (column.filter(longer).to_pylist() for column in (position, ref, alt))
        trimmed = [Variant("", *cells).trimmed() for cells in zip(*values)]
        position = pc.replace_with_mask(position, longer, pa.array([v.position for v in trimmed], pa.int64()))
        ref = pc.replace_with_mask(ref, longer, pa.array([v.ref for v in trimmed], pa.string()))
        alt = pc.replace_with_mask(alt, longer, pa.array([v.alt for v in trimmed], pa.string()))
    return pc.binary_join_element_wise(plain.take(encoded.indices), position.cast(pa.string()), ref, alt, ":")


# -- joining -----------------------------------------------------------------------------------------------------------


def join(labels: Labels, batches: Iterable[pa.RecordBatch]) -> Joined:
    """Find the labelled variants among scores that come in batches, with contig, position, ref, alt and key, or id.

    The key may be another spelling of the same variant (in a repeat, moved to the left); a label finds either.
    A variant that is scored twice counts once, where it comes first; an id that several scores share names none of them.
    Raises MetadataError where fewer than two of a class, or no complete set, are found.
    """
    numbers, rows, begin, example = list[Ints](), list[Ints](), 0, ""
    for batch in batches:
        names = spellings(batch, labels.by)
        example = example or str(names[0][0])
        number = np.full(batch.num_rows, -1)  # of each row's variant among the labels; -1: it has none
        for spelling in names[::-1]:
            by_spelling = pc.index_in(spelling, value_set=labels.names, skip_nulls=True).fill_null(-1).to_numpy()
            number = np.where(by_spelling >= 0, by_spelling, number)
        labelled = np.flatnonzero(number >= 0)
        numbers, rows, begin = [*numbers, number[labelled]], [*rows, begin + labelled], begin + len(number)
    variants, first, times = np.unique(np.concatenate(numbers), return_index=True, return_counts=True)
    unique = times == 1 if labels.by == "id" else times > 0
    counts = {
        "scores": begin,
        "scores_repeated": int((times - 1).sum()) if labels.by != "id" else 0,
        "ambiguous_ids": int((~unique).sum()),
        "not_scored": len(labels.names) - len(variants),
    }
    if not len(variants):
        raise MetadataError(
            f"none of its {len(labels.names):,} variants is among the scores (for example {labels.names[0]} against {example})"
            if len(labels.names)
            else "no row has both a label and a variant",
            path=labels.path,
            hint="is it the same assembly? positions are 1-based; contigs may lack chr",
        )
    return arranged(labels, variants[unique], np.concatenate(rows)[first[unique]], counts)


def spellings(batch: pa.RecordBatch, by: str) -> list[pa.Array]:
    """Return the names (rows,) that rows of the scores go by, the one to be preferred first."""
    if by == "id":
        return [ids(batch["id"])]
    as_written = keys(*(batch[what] for what in WHERE))
    return [as_written, keys_of(batch["key"])] if "key" in batch.schema.names else [as_written]


def arranged(labels: Labels, variants: Ints, rows: Ints, counts: dict[str, int]) -> Joined:
    """Return the joined variants in the order of the scores, with what of the design is left.

    `variants` (n,) are numbers among the labels, `rows` (n,) those of the scores. MetadataError where fewer than two of a
    class, or no complete set, are left.
    """
    order = np.argsort(rows)
    rows, variants = rows[order], variants[order]
    positive = labels.positive[variants]
    counts |= {"variants": len(rows), "positive": int(positive.sum()), "negative": int((~positive).sum())}
    if min(counts["positive"], counts["negative"]) < FEWEST:
        one, other = labels.classes
        raise MetadataError(
            f"{counts['positive']:,} scored variants are {one!r} and {counts['negative']:,} are {other!r}; at least "
            f"{FEWEST} of each are needed",
            path=labels.path,
        )
    if labels.members is None or labels.sets is None:
        return Joined(rows, positive, None, counts)
    place = np.full(len(labels.names), -1)
    place[variants] = np.arange(len(variants))
    members = place[labels.members]
    whole = sets_of(members[members >= 0], positive[members[members >= 0]], labels.sets[members >= 0])
    sets = whole.only(np.ones(len(whole.members), bool))
    total = len(np.unique(labels.sets))
    counts |= {
        "sets": len(sets),
        "sets_incomplete": total - len(sets),
        "in_several_sets": int((np.bincount(sets.members) > 1).sum()) if len(sets) else 0,
    }
    if len(sets) < FEWEST:
        raise MetadataError(
            f"{len(sets)} of {total:,} sets have a scored variant of each class; at least {FEWEST} are needed",
            path=labels.path,
            hint="--match-column names the column with the id of each variant's set",
        )
    return Joined(rows, positive, sets, counts)


def summary_of(labels: Labels, joined: Joined) -> dict[str, Any]:
    """Return what was joined and what was not, for summary.json."""
    one, other = labels.classes
    return {
        "file": labels.path.name,
        "column": labels.column,
        "positive_label": one,
        "negative_label": other,
        "joined_by": labels.by,
        **labels.counts,
        **joined.counts,
    }
