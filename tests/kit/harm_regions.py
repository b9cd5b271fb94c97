"""BED and narrowPeak: the peaks of `mfd preprocess`. The first three columns are read, whatever stands in the others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from kit.harm import CONTIGS, Change, Kind, any_file, any_text, bytes_changed, cell_changed, line_changed

START, END = 1, 2
"""Columns."""


def each_line(how: Callable[[str], str]) -> Callable[[Path], None]:
    """A change of every line, without its end."""
    return bytes_changed(lambda text: "".join(how(line) + "\n" for line in text.decode().splitlines()).encode())


def each_row(how: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    """A change of the cells of every line."""
    return each_line(lambda line: "\t".join(how(line.split("\t"))))


def before(text: str) -> Callable[[Path], None]:
    """Something before the first line."""
    return bytes_changed(lambda old: text.encode() + old)


def behind(text: str) -> Callable[[Path], None]:
    """Something behind the last line."""
    return bytes_changed(lambda old: old + text.encode())


def instead(text: bytes) -> Callable[[Path], None]:
    """Another file altogether."""
    return bytes_changed(lambda _: text)


def utf8(text: str) -> str:
    """Text as line_changed writes it: a letter a byte."""
    return text.encode().decode("latin-1")


def numbers() -> Iterator[Change]:
    """What stands where a place should."""
    wrong = {
        "+100": "",
        "1_000": "",
        "1e3": "",
        "1E+05": "",
        "100.0": "",
        "100.": "",
        "0x64": "",
        "12,345": "",
        "1'000": "",
        "": "an empty cell",
        "abc": "",
        "NA": "",
        "nan": "",
        "inf": "",
        "None": "",
        "true": "",
        '"100"': "",
        "100;": "",
        "=100": "",
        "--5": "",
        "#REF!": "",
        utf8("١٠٠"): "Arabic digits",
        utf8("１００"): "full-width digits",
        utf8("1²"): "a superscript",
        utf8("100\u00a0"): "a no-break space",
        utf8("−100"): "a minus sign of typography",
        "\x1b[31m100": "an escape code",
        "1" * 5000 + "x": "5,000 digits and a letter",
    }
    for text, name in wrong.items():
        yield Change(f"start is {name or text}", cell_changed(3, START, text), says=":4: start is not a whole number")
    for text, name in {"abc": "", "1e3": "", "": "an empty cell", utf8("９９９９"): "full-width"}.items():
        yield Change(f"end is {name or text}", cell_changed(3, END, text), says=":4: end is not a whole number")
    # Columns may be separated by blanks, too: a blank beside a number is a part of what separates, one within it ends a column.
    yield Change("start is a blank before", cell_changed(3, START, " 100"), "read")
    yield Change("start is a blank behind", cell_changed(3, START, "100 "), "read")
    yield Change("start is 1 0", cell_changed(3, START, "1 0"), says=":4: end 0 is before start 1")
    yield Change("end is 5 000", cell_changed(3, END, "5 000"), says=r":4: end 5 is before start \d+")
    for column, what in (START, "start"), (END, "end"):
        yield Change(f"{what} is negative", cell_changed(3, column, "-5"), says=rf":4: {what} is negative \('-5'\)")
        for name, number in {"2^64": 1 << 64, "-2^63 as if unsigned": 1 << 63, "4,301 digits": 10**4300 - 1}.items():
            # Python's int() itself refuses more than 4,300 digits.
            text = "9" * 4301 if number > 1 << 64 else str(number)
            yield Change(f"{what} is {name}", cell_changed(3, column, text), says=rf":4: {what} is too large")
    for name, number in {"2^31": 1 << 31, "2^32 + 100": (1 << 32) + 100}.items():
        yield Change(
            f"end is {name}", cell_changed(3, END, str(number)), says=r":4: chr1:\d+-\d+ ends beyond the contig"
        )
        yield Change(f"start is {name}", cell_changed(3, START, str(number)), says=r":4: end \d+ is before start")
    yield Change("leading zeros", each_row(lambda c: [c[0], f"{int(c[1]):08}", f"{int(c[2]):010}", *c[3:]]), "read")
    yield Change("many leading zeros", each_row(lambda c: [c[0], f"{int(c[1]):040}", *c[2:]]), "read")


def places() -> Iterator[Change]:
    """Intervals that are none, and those of another genome."""
    yield Change(
        "end before start", each_row(lambda c: [c[0], c[2], c[1], *c[3:]]), says=r":1: end \d+ is before start"
    )
    yield Change(
        "end before start in one row",
        line_changed(5, lambda line: "chr1\t300\t200"),
        says=":6: end 200 is before start 300",
    )
    # As the specification allows: a place between two bases, which can label nothing and is counted.
    yield Change("end is start", line_changed(5, lambda line: "chr1\t300\t300"), "read")
    yield Change("end is start everywhere", each_row(lambda c: [c[0], c[1], c[1], *c[3:]]), says="holds no interval")
    yield Change(
        "end beyond the contig", line_changed(5, lambda line: "chr1\t39990\t40001"), says=":6: chr1:39990-40001 ends"
    )
    yield Change(
        "all beyond the contig", each_row(lambda c: [c[0], c[1] + "000", c[2] + "000", *c[3:]]), says="ends beyond"
    )
    yield Change(
        "contigs of another genome", each_row(lambda c: ["NC_" + c[0], *c[1:]]), says="no contig of .* in the genome"
    )
    yield Change(
        "contigs in upper case", each_row(lambda c: [c[0].upper(), *c[1:]]), says="no contig of .* in the genome"
    )
    yield Change("contigs of 100,000 letters", each_row(lambda c: ["x" * 100_000, *c[1:]]), says="no contig of")
    yield Change("a contig without a name", cell_changed(2, 0, ""), says=":3: '' is not a contig name")
    yield Change(
        "a blank before the contig", line_changed(2, lambda line: " " + line), says=":3: ' chr1' is not a contig name"
    )
    yield Change("an accent in the contig", cell_changed(2, 0, utf8("chré")), says=":3: 'chré' is not a contig name")
    yield Change("a quoted contig", cell_changed(2, 0, '"chr 1"'), says=":3: start is not a whole number")
    yield Change("contigs without chr", each_row(lambda c: [c[0][3:], *c[1:]]), "read")
    yield Change("both names of a contig", cell_changed(2, 0, "1"), "read")
    yield Change("one row on another contig", cell_changed(2, 0, "chrUn_KI270302v1"), "read")
    yield Change("a contig that begins like a header", cell_changed(2, 0, "tracks_1"), "read")
    yield Change("a row of another length on such a contig", cell_changed(2, 0, "browser1"), "read")
    yield Change("a whole contig", behind(f"chr1\t0\t{CONTIGS['chr1']}\n"), "read")
    yield Change("a single base", behind("chr1\t39999\t40000\n"), "read")
    yield Change("rows twice", bytes_changed(lambda text: text * 2), "read")
    yield Change(
        "unsorted", bytes_changed(lambda text: b"".join(sorted(text.splitlines(True), key=lambda x: x[::-1]))), "read"
    )
    yield Change("one row", bytes_changed(lambda text: text.splitlines(True)[0]), "read")
    yield Change("200,000 rows", bytes_changed(lambda text: text * (200_000 // text.count(b"\n"))), "read")
    yield Change(
        "rows on the test contig only",
        bytes_changed(lambda text: b"".join(line for line in text.splitlines(True) if line.startswith(b"chr2"))),
        "read",
    )


def columns() -> Iterator[Change]:
    """What stands between columns, how many there are, and what is in those that are not read."""
    yield Change("one column", each_row(lambda c: c[:1]), says=":1: has one column, not three or more")
    yield Change("two columns", each_row(lambda c: c[:2]), says=":1: has 2 columns, not three or more")
    yield Change("two columns in one row", line_changed(4, lambda line: "chr1\t5"), says=":5: has 2 columns")
    yield Change("three columns", each_row(lambda c: c[:3]), "read")
    yield Change("four columns", each_row(lambda c: c[:4]), "read")
    yield Change("twelve columns", each_row(lambda c: [*c[:5], "+", c[1], c[2], "0", "1", "10,", "0,"]), "read")
    yield Change("one row has fewer columns", line_changed(4, lambda line: "chr1\t5\t90"), "read")
    yield Change("tabs behind", each_line(lambda line: line + "\t\t"), "read")
    yield Change("blanks behind", each_line(lambda line: line + "  "), "read")
    yield Change("blanks between", each_row(lambda c: [" ".join(c)]), "read")  # as the specification allows
    yield Change("several blanks between", each_row(lambda c: ["   ".join(c)]), "read")
    yield Change("blanks between in one row", line_changed(4, lambda line: line.replace("\t", " ")), "read")
    yield Change("blanks and tabs in one row", line_changed(4, lambda line: "chr1 5 90\tx"), "read")
    yield Change("blanks and tabs in all rows", each_row(lambda c: [f"{c[0]}    {c[1]}", f" {c[2]} ", *c[3:]]), "read")
    yield Change("a last line of one tab", behind("\t"), "read")
    yield Change("form feeds between", line_changed(4, lambda line: "chr1\f5\f90"), says=":5: ")
    yield Change("commas between", each_row(lambda c: [",".join(c)]), says=":1: has one column")
    yield Change("semicolons between", each_row(lambda c: [";".join(c)]), says=":1: has one column")
    yield Change("as regions", each_row(lambda c: [f"{c[0]}:{c[1]}-{c[2]}"]), says=":1: has one column")
    yield Change("row numbers of R", each_row(lambda c: ["1", *c]), says=":1: start is not a whole number .'chr1'")
    yield Change("quotes around all", each_row(lambda c: [f'"{cell}"' for cell in c]), says=":1: ")
    yield Change(
        "a carriage return within a line", line_changed(4, lambda line: line + "\rchr1\t5\t9"), says="carriage return"
    )
    yield Change("a NUL byte behind the third column", line_changed(4, lambda line: line + "\0"), says="is zero")
    for name, text in {
        "a quote": '"',
        "markup": "[/nope]",
        "a formula": "=HYPERLINK(1)",
        "an escape code": "\x1b[31m",
        "Latin-1": "H\xf6hle",
        "1 MiB": "x" * (1 << 20),
        "nothing": "",
        "a percent sign": "%s%n",
        "a web page": "<script>alert(1)</script>",
    }.items():
        yield Change(f"a name with {name}", cell_changed(1, 3, text), "read")
    for text in ("-5", "1001", "abc", "nan", ""):
        yield Change(f"a score of {text or 'nothing'}", cell_changed(1, 4, text), "read")


def lines() -> Iterator[Change]:
    """Lines that are no intervals, and ends."""
    yield Change("comments", before("# made by us\n#chrom\tstart\tend\n"), "read")
    yield Change("a comment without its end", behind("# the end"), "read")
    yield Change("comments within", line_changed(4, lambda line: f"# {line}"), "read")
    yield Change("a track line", before('track type=bed name="one" description="1 2"\n'), "read")
    yield Change("a track line with tabs", before("track\tname=one\n"), "read")
    yield Change("browser lines", before("browser position chr1:1-100\nbrowser hide all\n"), "read")
    yield Change("blank lines", bytes_changed(lambda text: b"\n\n" + text.replace(b"\n", b"\n\n")), "read")
    yield Change("lines of blanks", behind("   \n\t\t\t\n"), "read")
    yield Change("Windows line ends here and there", line_changed(4, lambda line: line + "\r"), "read")
    yield Change("a header without #", before("chrom\tstart\tend\tname\tscore\n"), says=":1: start is not .*'start'")
    yield Change("a header within", line_changed(4, lambda line: f"chrom\tstart\tend\n{line}"), says=":5: start is not")
    yield Change("comments only", each_line(lambda line: "#" + line), says="holds no interval")
    yield Change("a track line only", instead(b"track name=x\n"), says="holds no interval")
    yield Change("line ends only", instead(b"\n" * 5000), says="holds no interval")
    yield Change("the mark of a conflict", line_changed(4, lambda line: f"<<<<<<< HEAD\n{line}"), says=":5: ")
    yield Change(
        "cut within a number", bytes_changed(lambda text: text[: text.rindex(b"\tpeak") - 1]), says="cut short"
    )
    yield Change(
        "cut behind the third column", bytes_changed(lambda text: text[: text.rindex(b"\tpeak")]), says="cut short"
    )
    yield Change(
        "cut within the second column", bytes_changed(lambda text: text[: text.rindex(b"chr10") + 7]), says=":90: "
    )
    yield Change("cut within a name", bytes_changed(lambda text: text[: text.rindex(b"peak") + 3]), says="cut short")
    # The numbers are whole, and nobody could tell.
    yield Change("cut within the last cell", bytes_changed(lambda text: text[:-2]), "read")
    yield Change("cut behind a line", bytes_changed(lambda text: text[: text.rindex(b"\n", 0, -1) + 1]), "read")


def others() -> Iterator[Change]:
    """Files of other kinds under this name."""
    yield Change(
        "GFF", instead(b"##gff-version 3\nchr1\tRefSeq\tgene\t100\t900\t.\t+\t.\tID=g\n"), says=":2: start is not"
    )
    yield Change(
        "VCF", instead(b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\nchr1\t100\t.\tA\tC\t.\t.\t.\n"), says=":3: end is not"
    )
    yield Change("SAM", instead(b"@HD\tVN:1.6\nr1\t0\tchr1\t100\t60\t4M\t*\t0\t0\tACGT\tIIII\n"), says=":1: ")
    yield Change("bedGraph of signal", each_row(lambda c: [*c[:3], "0.25"]), "read")  # it is a BED of three columns
    yield Change(
        "the table of MACS",
        instead(b"# Command line: callpeak\n\nchr\tstart\tend\tlength\nchr1\t10\t90\t81\n"),
        says=":3: start is not",
    )
    yield Change("FASTA", instead(b">chr1\nACGTACGT\n"), says=":1: has one column")
    yield Change("bigBed", instead(bytes.fromhex("ebf28987") + bytes(200)))
    yield Change("a message of a server", instead(b'{"error": "not found"}\n'), says=":1: ")


def narrowpeak() -> Iterator[Change]:
    """Columns 5 to 10 of narrowPeak are not read, so nothing that stands there can do harm."""
    yield Change("nine columns", each_row(lambda c: c[:9]), "read")
    yield Change("eleven columns", each_row(lambda c: [*c, "x"]), "read")
    for name, column, text in (
        ("a strand of x", 5, "x"),
        ("a strand that is empty", 5, ""),
        ("a signal that is no number", 6, "abc"),
        ("a signal of NaN", 6, "nan"),
        ("an infinite signal", 6, "inf"),
        ("a negative signal", 6, "-7.5"),
        ("a p value of -1", 7, "-1"),
        ("a q value that is no number", 8, "."),
        ("a summit of -1", 9, "-1"),
        ("a summit of -5", 9, "-5"),
        ("a summit outside", 9, "99999"),
        ("a summit that is no number", 9, "x"),
        ("a summit of 2^64", 9, str(1 << 64)),
    ):
        yield Change(name, cell_changed(1, column, text), "read")


CHANGES = [*any_file(), *any_text(), *numbers(), *places(), *columns(), *lines(), *others()]
WORDS = ("preprocess", "-q", "--threads", "1")

KINDS = [
    Kind("bed", "tracks/three.bed", WORDS, ("dataset",), CHANGES, names=re.escape("tracks/three.bed")),
    Kind("narrowpeak", "tracks/one.narrowPeak", WORDS, ("dataset",), [*CHANGES, *narrowpeak()]),
]
