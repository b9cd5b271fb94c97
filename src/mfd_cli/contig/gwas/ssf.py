"""GWAS-SSF 1.0, the GWAS Catalog's format of summary statistics: a gzipped table for each trait, and a YAML file beside it."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TextIO

from mfd_cli import __version__
from mfd_cli.base.files import digests_of
from mfd_cli.contig.core.association import Fits
from mfd_cli.contig.data.plink import Variants
from mfd_cli.contig.gwas.chromosomes import number_of

MANDATORY = (
    "chromosome", "base_pair_location", "effect_allele", "other_allele", "beta", "standard_error",
    "effect_allele_frequency", "neg_log_10_p_value",
)  # fmt: skip
OPTIONAL = ("rsid", "n")
"""A PLINK file does not say which allele is the reference's: there is no `variant_id`, which is made of it."""
ABSENT = "#NA"
SUFFIX, META = ".ssf.tsv.gz", "-meta.yaml"
COMPRESSION = 2
"""The next levels take twice to five times as long, for a tenth less."""
_BASES = re.compile("[ACGTacgt]+")
_RSID = re.compile("rs[0-9]+")


def unfit(variants: Variants) -> list[str]:
    """Return for each variant why GWAS-SSF cannot hold it, or nothing: chromosome, position or alleles."""
    numbers = {name: number_of(name) for name in set(variants.chromosome)}
    positions = variants.position.tolist()
    result = []
    for row, (effect, other) in enumerate(zip(variants.effect_allele, variants.other_allele)):
        if numbers[variants.chromosome[row]] is None:
            result.append("chromosome is not one of 1 to 22, X, Y, MT")
        elif positions[row] < 1:
            result.append("position is 0")
        elif not (_BASES.fullmatch(effect) and _BASES.fullmatch(other)):
            result.append("alleles are not A, C, G, T")
        else:
            result.append("")
    return result


@dataclass(frozen=True)
class Study:
    """What the metadata of every table of a study says."""

    assembly: str | None
    persons: int
    ancestry: Sequence[str]
    technology: Sequence[str]
    covariates: Sequence[str]
    maf: float
    date: str


class SsfTables:
    """The tables of several traits, written side by side in pieces; the same numbers give the same bytes."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self.sorted, self.last = True, (0, 0)
        self.streams: list[TextIO] = []
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        for path in self.paths:
            raw = self.stack.enter_context(path.open("wb"))
            # Neither a time nor a name in the header.
            packed = gzip.GzipFile(filename="", mode="wb", compresslevel=COMPRESSION, fileobj=raw, mtime=0)
            stream = self.stack.enter_context(_text(self.stack.enter_context(packed)))
            stream.write("\t".join([*MANDATORY, *OPTIONAL]) + "\n")
            self.streams.append(stream)
        return self

    def __exit__(self, *error: Any) -> None:
        self.stack.__exit__(*error)

    def write(self, variants: Variants, fits: Fits) -> None:
        """Add variants that the format can hold, and their regressions."""
        numbers = [number_of(name) or 0 for name in variants.chromosome]
        places = list(zip(numbers, variants.position.tolist()))
        if places:
            self.sorted &= [self.last, *places] == sorted([self.last, *places])
            self.last = places[-1]
        heads = [
            f"{number}\t{position}\t{effect.upper()}\t{other.upper()}\t"
            for (number, position), effect, other in zip(places, variants.effect_allele, variants.other_allele)
        ]
        middles = [f"\t{value:.6g}\t" for value in fits.frequency.tolist()]
        ends = [
            f"\t{name if _RSID.fullmatch(name) else ABSENT}\t{count}\n"
            for name, count in zip(variants.name, fits.calls.tolist())
        ]
        for trait, stream in enumerate(self.streams):
            effects, errors, chances = (
                values[:, trait].tolist() for values in (fits.beta, fits.standard_error, fits.neg_log_10_p)
            )
            stream.writelines(
                f"{head}{effect:.8g}\t{error:.8g}{middle}{chance:.8g}{end}"
                for head, effect, error, middle, chance, end in zip(heads, effects, errors, middles, chances, ends)
            )


def _text(packed: gzip.GzipFile) -> TextIO:
    return io.TextIOWrapper(packed, encoding="utf-8", newline="\n")


def write_metadata(path: Path, trait: str, study: Study, in_order: bool) -> None:
    """Write the YAML file beside a complete table. Its date is all that differs between equal runs."""
    about: dict[str, Any] = {
        "date_metadata_last_modified": study.date,
        "trait_description": [trait],
        "genome_assembly": study.assembly or "NR",
        "coordinate_system": "1-based",
        "genotyping_technology": list(study.technology),
        "samples": [{"sample_size": study.persons, "sample_ancestry": list(study.ancestry)}],
        "data_file_name": path.name,
        "file_type": "GWAS-SSF v1.0",
        "data_file_md5sum": digests_of(path)[1],
        "analysis_software": f"mfd {__version__}, linear regression",
        "adjusted_covariates": list(study.covariates),
        "minor_allele_freq_lower_limit": study.maf,
        "is_harmonised": False,
        "is_sorted": in_order,
    }
    path.with_name(path.name + META).write_text("".join(_yaml(about)), "utf-8")


def _yaml(values: Mapping[str, Any]) -> list[str]:
    """Lines of YAML: plain values are written as JSON, which YAML reads, the date without quotes."""
    lines = []
    for key, value in values.items():
        if key == "samples":
            first, *others = (f"{name}: {json.dumps(item)}" for name, item in value[0].items())
            lines += [f"{key}:\n", f"  - {first}\n", *(f"    {text}\n" for text in others)]
        elif isinstance(value, list) and value:
            lines += [f"{key}:\n", *(f"  - {json.dumps(item)}\n" for item in value)]
        elif key == "date_metadata_last_modified":
            lines.append(f"{key}: {value}\n")
        else:
            lines.append(f"{key}: {json.dumps(value)}\n")
    return lines


def trait_names(count: int) -> list[str]:
    """Return the names of so many traits.

    >>> trait_names(2)
    ['PC01', 'PC02']
    """
    width = max(len(str(count)), 2)
    return [f"PC{number:0{width}d}" for number in range(1, count + 1)]
