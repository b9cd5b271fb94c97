"""VCF, bgzipped VCF and BCF out: records pass through byte for byte but for our entries in INFO.

Text is written here because pysam formats every field anew and refuses tags that a header does not define; compression, BCF and
the index are htslib's.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import pysam
import pysam.bcftools

from mfd_cli.base.errors import VariantError
from mfd_cli.base.files import check_space
from mfd_cli.formats.vcf_reader import Record, quiet_htslib, split_info


class VcfWriter:
    """Annotated VCF in a file or on standard output (None). `kind` as in bcftools: v text, z BGZF, b BCF, u BCF uncompressed.

    A record is its own bytes with our entries in INFO (of BCF, what htslib makes of that text); `sorted` tells whether the
    records came in order, `own` are the INFO entries that are replaced. A BCF is complete when the block ends.
    """

    def __init__(self, path: Path | None, kind: Literal["v", "z", "b", "u"] = "v", own: Collection[str] = ()) -> None:
        self.path, self.kind, self.sorted, self.own = path, kind, True, {name.encode() for name in own}
        self.last: tuple[str, int] = ("", 0)
        self.finished: set[str] = set()
        self.scratch: tempfile.TemporaryDirectory[str] | None = None
        self.stream: Any
        if kind in ("b", "u"):
            self.scratch = tempfile.TemporaryDirectory(dir=None if path is None else path.parent)
            self.text = Path(self.scratch.name, "records.vcf")
            self.stream = self.text.open("wb")
        elif kind == "z":
            self.stream = pysam.BGZFile("-" if path is None else str(path), "wb", None)
        else:
            self.stream = sys.stdout.buffer if path is None else path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.path is None and self.kind == "v":
            self.stream.flush()
            return
        if self.path is None and kind is not None:  # a reader must not take what was cut for the whole: no end mark
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        self._do(self.stream.close)
        if self.scratch is not None:
            with self.scratch:
                if kind is None:
                    self._convert(Path(self.scratch.name, "records.bcf"))

    def _do(self, action: Callable[..., object], *arguments: object) -> None:
        """Write or close. OutputError where htslib, whose failures have no number, has met a full disk."""
        try:
            action(*arguments)
        except OSError as error:
            if error.errno is None and self.path is not None:
                check_space(self.path, error)
            raise

    def _convert(self, made: Path) -> None:
        """Convert the text to BCF. VariantError where a record is no valid VCF, which text can carry and BCF cannot."""
        quiet_htslib()
        try:
            pysam.bcftools.view("--no-version", f"-O{self.kind}", "-o", str(made), str(self.text), catch_stdout=False)
        except pysam.SamtoolsError as error:
            check_space(made, error)
            raise VariantError(
                "the records cannot be written as BCF: a tag, filter or contig in them is not defined in the header",
                hint="-O z keeps every record as it is",
            ) from error
        if self.path is not None:
            made.replace(self.path)
            return
        with made.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()

    def write_header(self, lines: Sequence[bytes]) -> None:
        """Write the header lines, which come without line ends."""
        self._do(self.stream.write, b"\n".join(lines) + b"\n")

    def write_lines(self, lines: bytes) -> None:
        """Write records that are lines already, in the order of the genome."""
        self._do(self.stream.write, lines)

    def write(self, record: Record, info: Mapping[str, str]) -> None:
        """Write a record with these entries added to INFO, in place of older ones of ours."""
        others = [entry for entry in split_info(record.cells[7]) if entry.partition(b"=")[0] not in self.own]
        ours = [f"{name}={value}".encode() for name, value in info.items()]
        cells = [*record.cells[:7], b";".join([*others, *ours]) or b".", *record.cells[8:]]
        self._do(self.stream.write, b"\t".join(cells) + b"\n")
        contig, position = self.last
        if record.contig != contig:
            self.sorted &= record.contig not in self.finished
            self.finished.add(contig)
        elif record.position < position:
            self.sorted = False
        self.last = (record.contig, record.position)

    def index(self, path: Path, index: Path) -> bool:
        """Write an index (.tbi, or .csi for BCF and very long contigs) of the closed file; False where it cannot hold it.

        A .tbi ends at 2^29 bp, a .csi at 2^31, and a record may claim any position.
        """
        quiet_htslib()
        kind = "-c" if index.suffix == ".csi" else "-t"
        try:
            pysam.bcftools.index("-f", kind, "-o", str(index), str(path))
        except pysam.SamtoolsError as error:
            check_space(index, error)
            index.unlink(missing_ok=True)
            return False
        return True
