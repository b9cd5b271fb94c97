"""Projects of unusual shapes: one track, one signal, factors of one group alone, levels that nobody has.

All are cut from one small planted project (twelve peak tracks and two signals of three targets), so that their tables and their
mfd.toml differ in what the name of the shape says and in nothing else.
"""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kit.harm import in_process

TARGET, FORMAT, ASSAY = "Experiment target", "File format", "Assay"


@dataclass(frozen=True)
class Shape:
    """`keep` says which rows stay, given their cells by column; `toml` changes the text of mfd.toml; `column` adds one."""

    keep: Callable[[dict[str, str]], bool] = lambda row: True
    toml: Callable[[str], str] = lambda text: text
    column: Callable[[int], str] | None = None


def without(*factors: str) -> Callable[[str], str]:
    """Leave these factors out of mfd.toml."""
    return lambda text: re.sub(rf"(?m)^({'|'.join(factors)}) = .*\n", "", text)


def with_factor(line: str) -> Callable[[str], str]:
    """Add a factor to mfd.toml."""
    return lambda text: text.replace("[factors]\n", f"[factors]\n{line}\n")


def held_out(what: str) -> Callable[[str], str]:
    """Hold tracks out of training."""
    return lambda text: text.replace("[train]\n", f"[train]\nheld_out = [{what}]\n")


NARROW = "--set model.width=8 --set model.filters=4 --set model.window=384"
"""Settings of a network that is trained in a moment."""


def of_peaks(row: dict[str, str]) -> bool:
    return row[FORMAT] != "bigWig"


def named(*ids: str) -> Callable[[dict[str, str]], bool]:
    return lambda row: row["File accession"] in ids


SHAPES: dict[str, Shape] = {
    "as it comes": Shape(),
    "biological alone": Shape(toml=without("assay", "lab", "year")),
    "technical alone": Shape(toml=without("target", "biosample")),
    "one factor": Shape(toml=without("biosample", "assay", "lab", "year")),
    "one track": Shape(keep=named("SIMFF001PKS")),
    "two tracks": Shape(keep=named("SIMFF001PKS", "SIMFF009PKS")),
    "two of one target": Shape(keep=named("SIMFF001PKS", "SIMFF002PKS"), toml=without("biosample", "assay", "year")),
    "a peak track and a signal": Shape(keep=named("SIMFF001PKS", "SIMFF001SIG")),
    "one level left": Shape(keep=of_peaks, toml=held_out('{assay = "CUT&RUN"}')),
    "one target left": Shape(
        keep=lambda row: of_peaks(row) and row[TARGET] != "RAP1", toml=held_out('{target = "REB1"}')
    ),
    "a number without gaps": Shape(
        column=str, toml=with_factor('reads = {column = "Extra", group = "technical", type = "number"}')
    ),
    "a number that does not vary": Shape(
        column=lambda number: "7", toml=with_factor('reads = {column = "Extra", group = "technical", type = "number"}')
    ),
    "an empty column": Shape(
        column=lambda number: "", toml=with_factor('batch = {column = "Extra", group = "technical"}')
    ),
}


def planted(folder: Path) -> Path:
    """The project that all shapes are cut from, with nothing held out."""
    done = in_process(["simulate", "--size", "tiny", "p", "-q"], folder)
    assert done.code == 0, done.told
    toml = folder / "p" / "mfd.toml"
    toml.write_text(re.sub(r"(?m)^held_out.*\n", "", toml.read_text()))
    return folder / "p"


def project_of(shape: Shape, source: Path, folder: Path) -> Path:
    """A copy of the planted project with the shape's table and mfd.toml, preprocessed and trained for an epoch."""
    place = folder / "p"
    shutil.copytree(source, place)
    table, toml = place / "metadata.tsv", place / "mfd.toml"
    columns, *rows = [line.split("\t") for line in table.read_text().splitlines()]
    rows = [row for row in rows if shape.keep(dict(zip(columns, row)))]
    if shape.column:
        columns = [*columns, "Extra"]
        rows = [[*row, shape.column(number)] for number, row in enumerate(rows, start=1)]
    table.write_text("".join("\t".join(cells) + "\n" for cells in [columns, *rows]))
    toml.write_text(shape.toml(toml.read_text()))
    for words in ("preprocess -q", f"train --set train.epochs=1 --threads 1 -q {NARROW}"):
        done = in_process(words.split(), place)
        assert done.code == 0, done.told
    return place


def factors_of(place: Path) -> list[str]:
    """The factors of a project, in the order of its mfd.toml."""
    return list(tomllib.loads((place / "mfd.toml").read_text())["factors"])


def tracks_of(place: Path) -> list[str]:
    """The tracks of a project, in the order of its table."""
    return [line.split("\t")[0] for line in (place / "metadata.tsv").read_text().splitlines()[1:]]


NOT_A_NUMBER = re.compile(r"(?i)(?<![\w/.])[-+]?nan(?![\w/.])")
"""A NaN that is printed as if it were a number; not a word or a path that has these letters."""


def said_by(words: str, place: Path) -> str:
    """What a command says that ends well; it prints no NaN, nor writes one into a table or a page."""
    outcome = in_process([*words.split(), "-q", "--threads", "1"], place)
    assert outcome.code == 0, outcome.told
    assert not NOT_A_NUMBER.search(outcome.said), outcome.said
    for file in place.rglob("*"):
        if file.suffix in (".tsv", ".json", ".html") and "truth" not in file.parts:
            text = re.sub(r"(?s)<script>.*?</script>|data:image/png;base64,[^\"]*", "", file.read_text("utf-8"))
            found = NOT_A_NUMBER.search(text)
            assert not found, (file, text[max(found.start() - 200, 0) : found.end() + 20])
    return outcome.said
