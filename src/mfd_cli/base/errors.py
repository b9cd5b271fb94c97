"""The errors a user can mend, drawn as a tree.

    MfdError                    anything the user can mend: one plain line, exit code 2
    ├── ConfigError             mfd.toml, --set, a flag
    ├── InputError              a file that cannot be read as what it should be
    │   ├── GenomeError         FASTA, contigs, coordinates
    │   ├── RegionError         BED, narrowPeak, broadPeak
    │   ├── SignalError         bigWig
    │   ├── MetadataError       the table of tracks
    │   ├── VariantError        VCF and BCF
    │   ├── GenotypeError       PLINK .bed, .bim and .fam
    │   ├── TableError          a table with a row per person
    │   └── ImageError          pictures and their manifest
    ├── DatasetError            the dataset folder
    ├── CohortError             the cohort folder
    ├── RunError                the run folder
    └── OutputError             something is in the way of writing

Everything else that is raised is a bug of ours: exit code 1. Only `Ended` is no error.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from mfd_cli.base.urls import is_url, shown


class MfdError(Exception):
    """What is wrong, where, and what to do about it.

    `str(error)` is `PATH:LINE: message` with the parts that are known; `hint` is a sentence of advice or None. A URL loses its
    secrets.
    """

    def __init__(
        self, message: str, *, path: str | Path | None = None, line: int | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = shown(path) if path is not None and is_url(path) else path
        self.line = line
        self.hint = hint

    def __str__(self) -> str:
        if self.path is None:
            return self.message
        where = f"{os.fspath(self.path)}:{self.line}" if self.line is not None else os.fspath(self.path)
        return f"{where}: {self.message}"


class ConfigError(MfdError):
    """A setting is unknown, out of range or contradicts another."""


class InputError(MfdError):
    """A file cannot be read as what it should be."""


class GenomeError(InputError):
    """A FASTA file, a contig or a coordinate is wrong."""


class RegionError(InputError):
    """A BED-like line is wrong."""


class SignalError(InputError):
    """A bigWig file is wrong."""


class MetadataError(InputError):
    """The table of tracks is wrong."""


class VariantError(InputError):
    """A VCF or BCF file is wrong."""


class GenotypeError(InputError):
    """A PLINK file is wrong: .bed, .bim or .fam."""


class TableError(InputError):
    """A table with a row per person is wrong."""


class ImageError(InputError):
    """A picture, or the manifest of pictures, is wrong."""


class DatasetError(MfdError):
    """The dataset folder is missing, damaged or of another version."""


class CohortError(MfdError):
    """The cohort folder is missing, damaged or of another version."""


class RunError(MfdError):
    """The run folder is missing, damaged or of another version."""


class OutputError(MfdError):
    """Something is in the way of writing a result."""


class InputErrors(InputError):
    """Several faulty inputs, reported together: one line each."""

    def __init__(self, errors: list[MfdError]) -> None:
        super().__init__(f"{len(errors)} inputs are faulty")
        self.errors = errors

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the end of an error message: `; did you mean X?` with the nearest known word, whatever its case, or else the
    known words."""
    import difflib  # here: it takes long to load, and most commands make no mistake

    words = {name.lower(): name for name in sorted(known)}  # of `Target` and `target` the latter
    match = difflib.get_close_matches(word[:200].lower(), list(words), n=1, cutoff=0.5)
    if match:
        return f"; did you mean {words[match[0]]}?"
    return f"; known: {few(sorted(words.values()), 20)}" if words else ""


class Ended(Exception):
    """A command has ended well without its result, as one that makes a share of the work does: `summary` says what it made."""

    def __init__(self, summary: Any) -> None:
        super().__init__(*summary.lines())
        self.summary = summary


def few(names: Iterable[str], most: int = 5) -> str:
    """Return the first of these names, each cut to 60 characters: `a, b, ...`."""
    first = [name[:60] for name in islice(names, most + 1)]
    return ", ".join([*first[:most], *(["..."] if len(first) > most else [])])
