"""Motif files: JASPAR and MEME in, MEME out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from mfd_cli.base.errors import InputError
from mfd_cli.base.files import check_input, whole_file
from mfd_cli.genome.motifs import Motif

SITES = 20.0
"""Instances behind a matrix of probabilities that does not say how many, as in the MEME suite."""


def read_jaspar(path: Path) -> list[Motif]:
    """Read the matrices of a JASPAR file (`>ID NAME`, then rows A, C, G, T), named by NAME.

    InputError, with the line of its header, where a matrix is not complete, or where there is none.
    """
    lines = check_input(path).read_text("utf-8", "replace").splitlines()
    headers = [number for number, line in enumerate(lines) if line.startswith(">")]
    if not headers or any(line.strip() for line in lines[: headers[0]]):
        raise InputError("does not begin with a matrix", path=path, line=1, hint="JASPAR: >ID NAME, then A [ 1 2 ... ]")
    return [_jaspar_matrix(lines[low:high], path, low + 1) for low, high in zip(headers, [*headers[1:], len(lines)])]


def _jaspar_matrix(lines: list[str], path: Path, line: int) -> Motif:
    header = lines[0].removeprefix(">").split()
    rows = [re.fullmatch(r"\s*([ACGT])\s*\[?([0-9.\s]*)\]?\s*", text) for text in lines[1:] if text.strip()]
    try:
        counts = {row[1]: [float(number) for number in row[2].split()] for row in rows if row}
    except ValueError:
        counts = {}
    if not header or not all(rows) or len(rows) != 4 or list(counts) != list("ACGT") or not counts["A"]:
        raise InputError(f"matrix {lines[0][1:41]!r} does not have the four rows A, C, G, T", path=path, line=line)
    if len({len(row) for row in counts.values()}) != 1 or not np.array(list(counts.values())).sum(0).all():
        raise InputError(
            f"matrix {lines[0][1:41]!r} has rows of several lengths, or an empty column", path=path, line=line
        )
    return Motif(header[-1], np.array([counts[base] for base in "ACGT"]).T)


def read_meme(path: Path) -> list[Motif]:
    """Read the matrices of a file in MEME's minimal format: `MOTIF ID NAME`, `letter-probability matrix:`, rows of A, C, G, T.

    Probabilities become counts with the file's `nsites` (20 where it says none). InputError, with its line, for a matrix that
    is not one.
    """
    lines = check_input(path).read_text("utf-8", "replace").splitlines()
    motifs: list[Motif] = []
    name, at = "", 0
    while at < len(lines):
        words = lines[at].split()
        if words[:1] == ["MOTIF"]:
            name = words[-1] if len(words) > 1 else ""
        elif words[:2] == ["letter-probability", "matrix:"]:
            rows = list(takewhile(_is_row, lines[at + 1 :]))
            sites = re.search(r"nsites=\s*([0-9.]+)", lines[at])
            motifs.append(_meme_matrix(name, rows, float(sites[1]) if sites else SITES, path, at + 1))
            name, at = "", at + len(rows)
        at += 1
    if not motifs:
        raise InputError("holds no letter-probability matrix", path=path, hint="MEME's minimal format, or JASPAR's")
    return motifs


def _is_row(text: str) -> bool:
    return bool(re.fullmatch(r"\s*[0-9.eE+-]+(\s+[0-9.eE+-]+)*\s*", text))


def _meme_matrix(name: str, rows: list[str], sites: float, path: Path, line: int) -> Motif:
    try:
        table = np.array([[float(cell) for cell in row.split()] for row in rows])
    except ValueError:
        table = np.zeros((0, 0))
    if not name or table.ndim != 2 or table.shape[1:] != (4,):
        raise InputError(f"matrix {name[:40]!r} does not have four columns A, C, G, T and a name", path=path, line=line)
    if not np.isfinite(table).all() or (table < 0).any() or (np.abs(table.sum(1) - 1) > 0.05).any():
        raise InputError(f"matrix {name[:40]!r} has rows that are no probabilities", path=path, line=line)
    return Motif(name, table * max(sites, 1.0))


def read_motifs(path: Path) -> dict[str, Motif]:
    """Read the matrices of a JASPAR or MEME file by name; a name that is there twice gets a number."""
    with check_input(path).open("rb") as file:
        first = file.read(4096).lstrip()
    motifs: dict[str, Motif] = {}
    for motif in read_jaspar(path) if first.startswith(b">") else read_meme(path):
        number = 2
        name = motif.name
        while name in motifs:
            name, number = f"{motif.name}.{number}", number + 1
        motifs[name] = Motif(name, motif.counts)
    return motifs


def write_meme(path: Path, motifs: Mapping[str, Any]) -> None:
    """Write base frequencies (4, width) per name as a MEME motif file."""
    lines = ["MEME version 4", "", "ALPHABET= ACGT", "", "strands: + -", ""]
    for name, frequency in motifs.items():
        columns = frequency.T + 1e-6  # no base is impossible: programs take logarithms of these
        lines += [f"MOTIF {name}", f"letter-probability matrix: alength= 4 w= {len(columns)}"]
        lines += [" ".join(f"{value:.6f}" for value in column / column.sum()) for column in columns]
        lines.append("")
    with whole_file(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", "ascii")
