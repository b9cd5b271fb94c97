"""The metadata table of `mfd preprocess`: one row per track."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from kit.harm import Change, Kind, any_file, any_text, bytes_changed

ID, FILE, TARGET, ASSAY, LAB, YEAR = range(6)


def lines_changed(how: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    """A change of the list of all lines."""
    return bytes_changed(lambda text: ("\n".join(how(text.decode().split("\n")[:-1])) + "\n").encode())


def line_changed(number: int, how: Callable[[str], str]) -> Callable[[Path], None]:
    """A change of one line, in any letters."""
    return lines_changed(lambda lines: [how(line) if i == number else line for i, line in enumerate(lines)])


def cell_changed(number: int, column: int, value: str) -> Callable[[Path], None]:
    """Another value in one cell."""
    return line_changed(
        number, lambda line: "\t".join(value if i == column else cell for i, cell in enumerate(line.split("\t")))
    )


def settings_too(change: Callable[[Path], None], old: str, new: str) -> Callable[[Path], None]:
    """The same with a change of mfd.toml, which says what a column is."""

    def both(path: Path) -> None:
        change(path)
        settings = path.with_name("mfd.toml")
        assert old in settings.read_text()
        settings.write_text(settings.read_text().replace(old, new))

    return both


def nothing(path: Path) -> None:
    """The table stays as it is."""


def column_added(name: str, values: list[str]) -> Callable[[Path], None]:
    return lines_changed(lambda lines: [f"{line}\t{cell}" for line, cell in zip(lines, [name, *values])])


def absolute(path: Path) -> None:
    cell_changed(1, FILE, str(path.parent.absolute() / "tracks/one.narrowPeak"))(path)


def text_changed(old: str, new: str) -> Callable[[Path], None]:
    return bytes_changed(lambda text: text.replace(old.encode(), new.encode()))


def quoted(line: str) -> str:
    """As R and spreadsheets write it."""
    return "\t".join(f'"{cell}"' for cell in line.split("\t"))


def metadata_changes() -> Iterator[Change]:
    yield from header_changes()
    yield from row_changes()
    yield from file_changes()
    yield from value_changes()
    yield from typed_changes()


def header_changes() -> Iterator[Change]:
    yield Change("no header", lines_changed(lambda x: x[1:]), says=":1: .*File accession")
    yield Change("only a header", lines_changed(lambda x: x[:1]), says="no rows")
    yield Change("a blank line before the header", lines_changed(lambda x: ["", *x]), says=":1: has no header")
    yield Change("a comment before the header", lines_changed(lambda x: ["# my tracks", *x]), says=":1: ")
    yield Change("a column without a name", cell_changed(0, LAB, ""), says=":1: column 5 has no name")
    yield Change(
        "a tab at the end of every line", lines_changed(lambda x: [f"{line}\t" for line in x]), says="column 7"
    )
    yield Change("a column twice", cell_changed(0, LAB, "Assay"), says=":1: .*'Assay' twice")
    yield Change("a column twice but for a space", cell_changed(0, LAB, "Assay "), says=":1: .*'Assay' twice")
    yield Change("no id column", cell_changed(0, ID, "Accession"), says=":1: .*'File accession', which tracks.id")
    yield Change("no path column", cell_changed(0, FILE, "Where"), says=":1: .*'File path', which tracks.path names")
    yield Change("no column of a factor", cell_changed(0, TARGET, "Targt"), says="factors.target.*did you mean Targt")
    yield Change("columns in lower case", line_changed(0, str.lower), says="did you mean file accession")
    yield Change(
        "row names of R",
        lines_changed(lambda x: [x[0], *(f"{i}\t{r}" for i, r in enumerate(x[1:]))]),
        says=":2: has 7 cells where the header has 6",
    )
    yield Change(
        "an index of pandas",
        lines_changed(lambda x: [f"{i or ''}\t{r}" for i, r in enumerate(x)]),
        says=":1: column 1 has no name",
    )
    yield Change(
        "columns in another order", lines_changed(lambda x: ["\t".join(r.split("\t")[::-1]) for r in x]), "read"
    )
    yield Change(
        "1,000 more columns",
        lines_changed(
            lambda x: [
                "\t".join([row, *(f"{'c' if not i else 'v'}{n}" for n in range(1000))]) for i, row in enumerate(x)
            ]
        ),
        "read",
    )


def row_changes() -> Iterator[Change]:
    yield Change("commas for tabs", text_changed("\t", ","), says=":1: .*one column")
    yield Change("semicolons for tabs", text_changed("\t", ";"), says=":1: .*one column")
    yield Change("spaces for tabs", text_changed("\t", "  "), says=":1: .*one column")
    yield Change("a cell too few", line_changed(2, lambda x: x.rpartition("\t")[0]), says=":3: has 5 cells")
    yield Change("a cell too many", line_changed(2, lambda x: x + "\tx"), says=":3: has 7 cells")
    yield Change("a tab in quotes", cell_changed(2, LAB, '"A\tB"'), says=":3: has 7 cells")
    yield Change("a line end in quotes", cell_changed(2, LAB, '"A\nB"'), says=":3: has 5 cells")
    yield Change("a line end in an id", cell_changed(2, ID, "T\n2"), says=":3: has 1 cell")
    yield Change("the last line is cut", bytes_changed(lambda text: text[:-12]), says=":6: has 4 cells")
    yield Change("blank lines between rows", lines_changed(lambda x: [*x[:3], "", "\t\t\t\t\t", *x[3:]]), "read")
    yield Change("everything in quotes", lines_changed(lambda x: [quoted(line) for line in x]), "read")
    yield Change("one value in quotes", cell_changed(2, TARGET, '"GATA1"'), "read")
    yield Change("one quote", cell_changed(2, LAB, '5" plate'), "read")
    yield Change("spaces around cells", text_changed("\t", " \t "), "read")
    yield Change("a non-breaking space behind a value", text_changed("CTCF", "CTCF\u00a0"), "read")
    yield Change(
        "a non-breaking space in a column's name",
        text_changed("File accession", "File\u00a0accession"),
        says=":1: .*'File accession'",
    )
    yield Change(
        "a Latin-1 value", bytes_changed(lambda text: text.replace(b"GATA1", b"M\xfcller")), says=":3: is not UTF-8"
    )
    yield Change("rows in another order", lines_changed(lambda x: [x[0], *x[:0:-1]]), "read")
    yield Change("one row", lines_changed(lambda x: x[:2]), "read")


def file_changes() -> Iterator[Change]:
    yield Change("an empty id", cell_changed(2, ID, ""), says=":3: has no id")
    yield Change("an id of spaces", cell_changed(2, ID, "  "), says=":3: has no id")
    yield Change("an id twice", cell_changed(2, ID, "T1"), says=":3: .*'T1' is on line 2")
    yield Change("an escape code in an id", cell_changed(2, ID, "T\x1b[31m2"), says=":3: ")
    yield Change("ids that differ in case", cell_changed(2, ID, "t1"), "read")
    for name in ("a/b", "../../etc/passwd", "T 2", "T\u00e9\u4e2d", "=cmd()", "[/nope]", "-q", "."):
        yield Change(f"the id is {name!r}", cell_changed(2, ID, name), "read")
    yield Change("an empty path", cell_changed(2, FILE, ""), says=":3: has no file")
    yield Change(
        "a file that is not there", cell_changed(2, FILE, "tracks/nowhere.bed"), says="nowhere.bed: no such file"
    )
    yield Change(
        "two files that are not there",
        lines_changed(lambda x: [line.replace("two", "nowhere").replace("five", "nowhere") for line in x]),
        says="(?s)nowhere.narrowPeak: no such file.*nowhere.bw: no such file",
    )
    yield Change("a file twice", cell_changed(2, FILE, "tracks/one.narrowPeak"), says=":3: .*one.narrowPeak.* line 2")
    yield Change(
        "a file twice, told in two ways",
        cell_changed(2, FILE, "./tracks/../tracks/one.narrowPeak"),
        says=":3: .*one.narrowPeak.* line 2",
    )
    yield Change("an absolute path", absolute, "read")
    yield Change("a path with ..", cell_changed(1, FILE, "tracks/../tracks/one.narrowPeak"), "read")
    yield Change("a path in the home folder", cell_changed(1, FILE, "~/nowhere.bed"), says="nowhere.bed: no such file")
    yield Change("a path of Windows", cell_changed(1, FILE, "tracks\\nowhere.bed"), says="nowhere.bed: no such file")
    yield Change("a path to a folder", cell_changed(1, FILE, "tracks/nowhere.bed/.."), says="nowhere|neither")
    yield Change(
        "a URL",
        cell_changed(1, FILE, "https://nowhere.org/x.bed.gz"),
        says="error: https://nowhere.org/x.bed.gz: is a URL",
    )
    yield Change("a URL of a cloud", cell_changed(1, FILE, "s3://nowhere/x.bw"), says="is a URL")
    yield Change("another sort of file", cell_changed(1, FILE, "tracks/one.fastq"), says=":2: .*one.fastq.*neither")
    yield Change("no ending", cell_changed(1, FILE, "tracks/one"), says=":2: .*neither")
    yield Change("a path of 10,000 letters", cell_changed(1, FILE, "x" * 10_000 + ".bed"), says=":2: ")
    yield Change(
        "a file name of 300 letters", cell_changed(1, FILE, "nowhere" + "x" * 300 + ".bed"), says="name too long"
    )


def value_changes() -> Iterator[Change]:
    for value in (
        "[/nope]",
        "[bold]x[/bold]",
        "<script>alert(1)</script>",
        "\x1b[31mred",
        "=1+1",
        "@SUM(A1)",
        "-",
        "NA",
        "NaN",
        "None",
        "null",
        "TRUE",
        "0",
        "1e5",
        "gata1",
        "\u03b2-catenin",
        "\u4e2d\u6587",
        "\u202eabc",
        "a,b,c",
        "a;b",
        "a|b",
        "{}",
        "%s",
        "'; DROP TABLE",
        "../x",
        "(missing)",
        "x" * 10_000,
        "",
    ):
        shown = f"{value[:20]!r}" if value else "empty"
        yield Change(f"a value is {shown}", cell_changed(2, TARGET, value), "read")
    yield Change("levels in another case", cell_changed(2, ASSAY, "chip-seq"), "read")
    yield Change("years as dates", text_changed("2016", "2016-03-01"), "read")


def typed_changes() -> Iterator[Change]:
    """What mfd.toml says of a column, and what is in it."""
    year = '[factors.year]\ncolumn = "Year"\ngroup = "technical"\ntype = "%s"\n%s\n[model]'
    yield Change(
        "a number that is none",
        settings_too(cell_changed(2, YEAR, "old"), "[model]", year % ("number", "")),
        says=":3: track 'T2': no number in 'old', for factors.year",
    )
    yield Change(
        "an infinite number",
        settings_too(cell_changed(2, YEAR, "inf"), "[model]", year % ("number", "")),
        says=":3: track 'T2': no finite number in 'inf', for factors.year",
    )
    yield Change(
        "a missing number", settings_too(cell_changed(2, YEAR, "NA"), "[model]", year % ("number", "")), "read"
    )
    yield Change(
        "a year that is none",
        settings_too(cell_changed(2, YEAR, "early"), "[model]", year % ("year", "")),
        says=":3: track 'T2': no year in 'early', for factors.year",
    )
    yield Change(
        "a missing value that must not be",
        settings_too(cell_changed(2, YEAR, ""), "[model]", year % ("category", 'missing = "error"')),
        says=":3: track 'T2': has no value in the column 'Year', for factors.year",
    )
    kind = ('id = "File accession"', 'id = "File accession"\nkind = "Lab"')
    yield Change("a kind that is none", settings_too(nothing, *kind), says=":2: the kind 'a'")
    assayed = ('id = "File accession"', 'id = "File accession"\nassayed = "Lab"')
    yield Change(
        "an assayed file that is not there",
        settings_too(text_changed("\tA\t", "\tnowhere.bed\t"), *assayed),
        says="nowhere.bed: no such file",
    )


CHANGES = [*any_file(), *any_text(header=1), *metadata_changes()]

KINDS = [
    # A faulty track file is told by its own name.
    Kind(
        "metadata",
        "metadata.tsv",
        ("preprocess", "-q", "--threads", "1"),
        ("dataset",),
        CHANGES,
        names=r"metadata\.tsv|nowhere",
    ),
]
