"""Bad input, one named change to a good file at a time, and what must come of it.

A `Kind` is a sort of file in a small good project, the command that reads it, and its changes. A change either is refused (exit
code 2, one plain line per fault that names the file, nothing left behind, inputs as they were), or it is unusual and valid, and
read. test_bad_inputs.py runs all of them; harm_*.py hold the kinds.
"""

from __future__ import annotations

import atexit
import contextlib
import gzip
import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyBigWig
import pysam

from kit import warm

Expected = Literal["refused", "read", "either"]
LONGEST = 700
"""Letters of a line of an error message."""
SOAK = "MFD_SOAK" in os.environ
"""Whether `make soak` runs the tests: every moment of a crash, every bad input in a process of its own."""
FUZZED = 20 if SOAK else 1
"""How many times as many examples of hypothesis are tried as in `make test`."""
LIMIT = 60
"""Seconds until a command counts as hanging."""


@dataclass(frozen=True)
class Change:
    """`make` changes the good file at a path in place, or what the path is. `says` is a pattern in the message."""

    name: str
    make: Callable[[Path], None]
    expected: Expected = "refused"
    says: str = ""


@dataclass(frozen=True)
class Kind:
    """`file` is what is changed, relative to the project; `words` the command; `outputs` what it writes; `good` makes the
    project from the shared one (which is copied first). `names` is a pattern that a message must hold: the file."""

    name: str
    file: str
    words: Sequence[str]
    outputs: Sequence[str]
    changes: Sequence[Change]
    trained: bool = False
    names: str = ""

    @property
    def pattern(self) -> str:
        return self.names or re.escape(Path(self.file).name)


@dataclass(frozen=True)
class Outcome:
    """What a command did: its exit code, and what it said on standard error and on standard output."""

    code: int
    told: str
    said: str


# -- the good project --------------------------------------------------------------------------------------------------

COLUMNS = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")
CONTIGS = {"chr1": 40_000, "chr2": 20_000, "chr10": 12_000}
TOML = """[data]
fasta = "genome.fa"
metadata = "metadata.tsv"

[tracks]
id = "File accession"
path = "File path"

[bins]
max_unknown = 0.5

[split]
test = ["chr2"]
validation = ["chr10"]

[factors.target]
column = "Target"
group = "biological"

[factors.assay]
column = "Assay"
group = "technical"

[model]
preset = "small"
width = 8
filters = 4
window = 128
latent = 16
hidden = 8

[train]
epochs = 1
batch_size = 32
"""
METADATA = [
    ("File accession", "File path", "Target", "Assay", "Lab", "Year"),
    ("T1", "tracks/one.narrowPeak", "CTCF", "ChIP-seq", "A", "2015"),
    ("T2", "tracks/two.narrowPeak", "GATA1", "ChIP-seq", "B", "2016"),
    ("T3", "tracks/three.bed", "CTCF", "CUT&RUN", "A", "2017"),
    ("T4", "tracks/four.bed", "GATA1", "CUT&RUN", "B", "2018"),
    ("T5", "tracks/five.bw", "CTCF", "CUT&RUN", "B", "2018"),
]


def good_project(folder: Path) -> None:
    """FASTA, four peak tracks, a bigWig, a table, an mfd.toml, a VCF; everything small and right."""
    shutil.copytree(good_template(), folder, dirs_exist_ok=True)


@cache
def templates() -> Path:
    """A folder for what is made once and copied; it goes with this process."""
    folder = Path(tempfile.mkdtemp(prefix="mfd-templates-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@cache
def good_template() -> Path:
    """The good project that all others are copies of."""
    make_good_project(templates() / "good")
    return templates() / "good"


def make_good_project(folder: Path) -> None:
    """Write the files of the good project."""
    rng = np.random.default_rng(7)
    (folder / "tracks").mkdir(parents=True)
    sequences = {name: "".join(rng.choice(list("ACGT"), length)) for name, length in CONTIGS.items()}
    (folder / "genome.fa").write_text("".join(f">{name}\n{wrapped(text)}" for name, text in sequences.items()))
    for number, name in enumerate(("one.narrowPeak", "two.narrowPeak", "three.bed", "four.bed")):
        lines = []
        for contig, length in CONTIGS.items():
            for start in sorted(rng.choice(length - 400, length // 800, replace=False).tolist()):
                end = start + int(rng.integers(100, 300))
                cells = [contig, str(start), str(end), f"peak{len(lines)}", "500"]
                if number < 2:
                    cells += [".", "7.5", "3.25", "-1", str((end - start) // 2)]
                lines.append("\t".join(cells))
        (folder / "tracks" / name).write_text("\n".join(lines) + "\n")
    with pyBigWig.open(str(folder / "tracks/five.bw"), "w") as file:
        file.addHeader(list(CONTIGS.items()))
        for name, length in CONTIGS.items():
            starts = list(range(0, length - 50, 50))
            values = [float(value) for value in rng.gamma(1, 2, len(starts)).round(3)]
            file.addEntries([name] * len(starts), starts, ends=[start + 50 for start in starts], values=values)
    (folder / "metadata.tsv").write_text("\n".join("\t".join(row) for row in METADATA) + "\n")
    (folder / "mfd.toml").write_text(TOML)
    lines = [
        "##fileformat=VCFv4.2",
        *(f"##contig=<ID={name},length={length}>" for name, length in CONTIGS.items()),
        '##INFO=<ID=AF,Number=A,Type=Float,Description="frequency">',
        "\t".join(COLUMNS),
    ]
    for number, (contig, text) in enumerate(sequences.items()):
        for place in range(700 + number, len(text) - 700, len(text) // 6):
            ref = text[place]
            alt = "ACGT"[("ACGT".index(ref) + 1) % 4]
            lines.append(f"{contig}\t{place + 1}\trs{len(lines)}\t{ref}\t{alt}\t50\tPASS\tAF=0.25")
    (folder / "input.vcf").write_text("\n".join(lines) + "\n")


def wrapped(text: str, width: int = 60) -> str:
    """FASTA lines."""
    return "".join(text[low : low + width] + "\n" for low in range(0, len(text), width))


def trained_project(folder: Path) -> None:
    """The same, preprocessed and trained for a moment."""
    shutil.copytree(trained_template(), folder, dirs_exist_ok=True)


@cache
def trained_template() -> Path:
    """The trained project that all others are copies of."""
    folder = templates() / "trained"
    good_project(folder)
    for words in (["preprocess", "-q", "--threads", "1"], ["train", "-q", "--gpus", "0", "--threads", "1"]):
        done = in_process(words, folder)
        assert done.code == 0, done.told
    return folder


def new_dataset(folder: Path) -> None:
    """A dataset of one more track, `new-dataset`, beside a project's own."""
    lines = (folder / "metadata.tsv").read_text().splitlines()
    (folder / "new.tsv").write_text(f"{lines[0]}\n{lines[1].replace('T1', 'T9', 1)}\n")
    words = ["preprocess", "-q", "--threads", "1", "--metadata", "new.tsv", "--dataset", "new-dataset"]
    done = in_process(words, folder)
    assert done.code == 0, done.told


# -- running a command -------------------------------------------------------------------------------------------------


class Hangs(BaseException):
    """A command took longer than LIMIT."""


@cache
def command() -> Any:
    """The command line, made once: that takes as long as many a command."""
    import typer.main

    from mfd_cli.cli import app as cli

    return typer.main.get_command(cli.app)


def in_process(words: Sequence[str], folder: Path) -> Outcome:
    """`mfd words` inside this process, as the console script runs it, in a folder."""
    from mfd_cli.cli import app as cli

    def late(*_: object) -> None:
        raise Hangs(" ".join(words))

    told, raw = io.StringIO(), io.BytesIO()
    said = io.TextIOWrapper(raw, "utf-8")
    before = {
        number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGALRM)
    }
    arguments, place, app = sys.argv, Path.cwd(), cli.app
    cli.app = command()  # type: ignore[assignment]
    sys.argv = ["mfd", *words]
    os.chdir(folder)
    signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(said):
            try:
                cli.main()
                code = 0
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.argv, cli.app = arguments, app
        os.chdir(place)
    said.flush()
    return Outcome(code, told.getvalue(), raw.getvalue().decode("utf-8", "replace"))


def in_subprocess(words: Sequence[str], folder: Path) -> Outcome:
    """The same in a process of its own."""
    done = warm.run(["-m", "mfd_cli", *words], folder, timeout=LIMIT * 2)
    return Outcome(done.returncode, done.stderr, done.stdout)


def snapshot(folder: Path) -> dict[str, str]:
    """What lies in a folder: every path, and the digest of every regular file."""
    found = {}
    for path in sorted(folder.rglob("*")):
        regular = path.is_file() and not path.is_symlink()
        found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest() if regular else "-"
    return found


def tried(
    kind: Kind, change: Change, template: Path, folder: Path, run: Callable[[Sequence[str], Path], Outcome]
) -> str:
    """What is wrong with how a command takes a change; empty where all is as it must be."""
    shutil.copytree(template, folder, symlinks=True)
    for output in kind.outputs:  # of the template
        shutil.rmtree(folder / output) if (folder / output).is_dir() else (folder / output).unlink(missing_ok=True)
    change.make(folder / kind.file)
    before = snapshot(folder)
    try:
        outcome = run(kind.words, folder)
    except (Hangs, subprocess.TimeoutExpired):
        return "hangs"
    after = snapshot(folder)
    changed = [name for name, digest in before.items() if after.get(name) != digest]
    if changed:
        return f"inputs were changed: {changed}"
    wrong = complaint(outcome, kind, change)
    if wrong:
        return wrong
    if outcome.code == 2 and (left := sorted(set(after) - set(before))):
        return f"left behind: {left[:5]}"
    if outcome.code == 0 and not all((folder / output).exists() for output in kind.outputs):
        return "exit code 0, but the outputs are not there"
    return ""


def complaint(outcome: Outcome, kind: Kind, change: Change) -> str:
    """What is wrong with an exit code and a message."""
    told = outcome.told
    if "Traceback" in told:
        return f"traceback: {told[-600:]}"
    wanted = {"refused": (2,), "read": (0,), "either": (0, 2)}[change.expected]
    if outcome.code not in wanted:
        return f"exit code {outcome.code}, not {wanted}: {told[-600:]}"
    if outcome.code == 0:
        return ""
    lines = [line for line in told.splitlines() if line]
    errors = [line for line in lines if line.startswith("mfd: error: ")]
    if not errors or (lines[-1] not in errors and not lines[-1].startswith("hint: ")):
        return f"does not end in an error: {told[-600:]}"
    for line in errors:
        if len(line) > LONGEST:
            return f"{len(line)} letters in one line: {line[:200]}"
        if not line.isprintable():
            return f"control characters in {line!r}"
    if not any(re.search(kind.pattern, line) for line in errors):
        return f"does not name the file ({kind.pattern}): {told[-600:]}"
    if not re.search(change.says, told):
        return f"does not say {change.says!r}: {told[-600:]}"
    return ""


# -- changes to any file -----------------------------------------------------------------------------------------------


def bytes_changed(how: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """A change of a file's bytes."""
    return lambda path: (path.write_bytes(how(path.read_bytes())), None)[1]


def line_changed(number: int, how: Callable[[str], str]) -> Callable[[Path], None]:
    """A change of one line of a text file, counted from 0 (-1: the last one); without its line end."""

    def change(text: bytes) -> bytes:
        lines = text.decode("latin-1").split("\n")[:-1]
        lines[number] = how(lines[number])
        return ("\n".join(lines) + "\n").encode("latin-1")

    return bytes_changed(change)


def cell_changed(number: int, column: int, value: str) -> Callable[[Path], None]:
    """Another value in one cell of a tab-separated line."""

    def change(line: str) -> str:
        cells = line.split("\t")
        cells[column] = value
        return "\t".join(cells)

    return line_changed(number, change)


def replaced(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def bgzipped(text: bytes, folder: Path) -> bytes:
    """As bgzip writes it."""
    place = folder / "bgzip.tmp"
    with pysam.BGZFile(str(place), "wb", None) as file:
        file.write(text)
    packed = place.read_bytes()
    place.unlink()
    return packed


END_OF_BGZF = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def any_file() -> Iterator[Change]:
    """What can be wrong with a path, whatever the file is."""
    yield Change("missing", lambda path: path.unlink(), says="no such file|is missing|no ")
    yield Change("empty", bytes_changed(lambda _: b""))
    yield Change("a folder", lambda path: replaced(path, lambda p: p.mkdir()))
    yield Change("a pipe", lambda path: replaced(path, lambda p: os.mkfifo(p)))
    yield Change("a link to itself", lambda path: replaced(path, lambda p: p.symlink_to(p.name)))
    yield Change("a link to nothing", lambda path: replaced(path, lambda p: p.symlink_to("nowhere")))
    yield Change("a link to /dev/null", lambda path: replaced(path, lambda p: p.symlink_to("/dev/null")))
    yield Change("a link to /dev/zero", lambda path: replaced(path, lambda p: p.symlink_to("/dev/zero")))
    yield Change("a link to /dev/full", lambda path: replaced(path, lambda p: p.symlink_to("/dev/full")))
    yield Change("random bytes", bytes_changed(lambda text: np.random.default_rng(0).bytes(len(text))))
    yield Change("only zero bytes", bytes_changed(lambda text: bytes(len(text))))
    yield Change("only 0xff", bytes_changed(lambda text: b"\xff" * len(text)))
    yield Change("a web page", bytes_changed(lambda _: b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n"))
    yield Change("a PDF", bytes_changed(lambda _: b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<</Type/Catalog>>\nendobj\n"))
    yield Change("a PNG", bytes_changed(lambda _: b"\x89PNG\r\n\x1a\n" + bytes(range(256))))
    yield Change("a ZIP", bytes_changed(lambda _: b"PK\x03\x04" + bytes(60)))
    yield Change(
        "a pointer of git-lfs",
        bytes_changed(
            lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n"
        ),
    )


def any_text(packed: Expected = "read", header: int = 0) -> Iterator[Change]:
    """What can be wrong with a text file, and what is unusual and right. `packed`: whether it may be compressed; `header`: the
    first line that holds data."""
    yield Change("Windows line ends", bytes_changed(lambda text: text.replace(b"\n", b"\r\n")), "read")
    yield Change("no end of the last line", bytes_changed(lambda text: text.rstrip(b"\n")), "read")
    yield Change("UTF-8 mark at the start", bytes_changed(lambda text: b"\xef\xbb\xbf" + text), "read")
    yield Change("old Macintosh line ends", bytes_changed(lambda text: text.replace(b"\n", b"\r")))
    yield Change("UTF-16", bytes_changed(lambda text: text.decode("latin-1").encode("utf-16")))
    yield Change("UTF-16 without a mark", bytes_changed(lambda text: text.decode("latin-1").encode("utf-16-le")))
    yield Change("UTF-32", bytes_changed(lambda text: text.decode("latin-1").encode("utf-32")))
    yield Change("a NUL byte in the middle of a line", line_changed(header, lambda line: line[:3] + "\0" + line[4:]))
    yield Change("NUL bytes behind the end", bytes_changed(lambda text: text + bytes(512)))
    yield Change("a line of 64 MiB", bytes_changed(lambda text: text + b"A" * (64 << 20) + b"\n"))
    yield Change("a line of 64 MiB without end", bytes_changed(lambda text: text + b"\t" * (64 << 20)))
    yield Change("an escape code in a line", line_changed(header, lambda line: "\x1b[31m" + line))
    yield Change(
        "the second half is random",
        bytes_changed(lambda text: text[: len(text) // 2] + np.random.default_rng(1).bytes(len(text) // 2)),
    )
    yield Change("gzip", bytes_changed(lambda text: gzip.compress(text, mtime=0)), packed)
    yield Change(
        "gzip in two members",
        bytes_changed(
            lambda text: gzip.compress(text[: len(text) // 2], mtime=0) + gzip.compress(text[len(text) // 2 :], mtime=0)
        ),
        packed,
    )
    yield Change("bgzip", lambda path: (path.write_bytes(bgzipped(path.read_bytes(), path.parent)), None)[1], packed)
    yield Change(
        "bgzip without its end mark",
        lambda path: (path.write_bytes(bgzipped(path.read_bytes(), path.parent).removesuffix(END_OF_BGZF)), None)[1],
    )
    yield Change("gzip cut in the middle", bytes_changed(lambda text: gzip.compress(text)[: len(text) // 8]))
    yield Change("gzip cut by one byte", bytes_changed(lambda text: gzip.compress(text)[:-1]))
    yield Change(
        "gzip with a wrong checksum",
        bytes_changed(lambda text: gzip.compress(text)[:-8] + b"\0\0\0\0" + gzip.compress(text)[-4:]),
    )
    yield Change("gzip of nothing", bytes_changed(lambda _: gzip.compress(b"")))
    yield Change("gzip with a damaged byte", bytes_changed(lambda text: flipped(gzip.compress(text), 40)))
    yield Change("gzip and then rubbish", bytes_changed(lambda text: gzip.compress(text) + b"rubbish"))
    yield Change("a bomb of 256 MiB of line ends", lambda path: bomb(path, b"\n"))
    yield Change("a bomb of 256 MiB of one letter", lambda path: bomb(path, b"A"))
    yield Change("gzip within gzip", bytes_changed(lambda text: gzip.compress(gzip.compress(text))))


def flipped(raw: bytes, place: int, bit: int = 4) -> bytes:
    """One bit of a file changed."""
    place %= len(raw)
    return raw[:place] + bytes([raw[place] ^ 1 << bit]) + raw[place + 1 :]


def bomb(path: Path, byte: bytes) -> None:
    """256 MiB in a quarter of a megabyte or so."""
    path.write_bytes(packed_bomb(byte))


@cache
def packed_bomb(byte: bytes) -> bytes:
    """256 MiB of one letter, compressed. Packing takes longer than what comes of it."""
    return gzip.compress(byte * (256 << 20), 1, mtime=0)
