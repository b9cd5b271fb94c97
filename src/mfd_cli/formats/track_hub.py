"""A track hub for the UCSC browser, beside the bigWigs that it shows: hub.txt, genomes.txt, ASSEMBLY/trackDb.txt."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mfd_cli.base.errors import ConfigError

FIRST_SHOWN = 10
"""Tracks that the browser shows at first."""
SHORT, LONG = 17, 76
"""Letters of a label that the browser shows."""
ASSEMBLIES = {
    ("chr1", 248956422): "hg38", ("chr1", 249250621): "hg19", ("chr1", 248387328): "hs1", ("chr1", 195154279): "mm39",
    ("chr1", 195471971): "mm10", ("chrI", 230218): "sacCer3", ("chrI", 15072434): "ce11", ("chr2L", 23513712): "dm6",
    ("chr1", 59578282): "danRer11",
}  # fmt: skip
"""UCSC's name of a genome, by one of its chromosomes and its length."""


def known_assembly(lengths: Mapping[str, int]) -> str | None:
    """Return UCSC's name of a genome that can be told by its contigs, which must have UCSC's names; None of any other."""
    return next((name for (contig, length), name in ASSEMBLIES.items() if lengths.get(contig) == length), None)


def check_assembly(name: str) -> None:
    """Raise ConfigError for what cannot be the name of a genome: it becomes a word in a file and the name of a folder."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*(\.[0-9]+)?", name):
        raise ConfigError(
            f"--hub-genome {name!r} is no name of a genome", hint="UCSC's name, such as hg38 or GCF_000146045.2"
        )


def write_hub(
    folder: Path, names: Sequence[str], files: Sequence[str], probabilities: Sequence[bool], assembly: str
) -> None:
    """Write `folder`/hub for bigWigs `folder`/FILE.bw. Serve the whole folder from any web server, and give UCSC hub.txt."""
    of_assembly = folder / "hub" / assembly
    of_assembly.mkdir(parents=True)
    head = [
        "hub mfd",
        "shortLabel mfd predictions",
        "longLabel Predictions by mfd",
        "genomesFile genomes.txt",
        "email nobody@localhost",
    ]
    (folder / "hub" / "hub.txt").write_text("\n".join(head) + "\n", "ascii")
    (folder / "hub" / "genomes.txt").write_text(f"genome {assembly}\ntrackDb {assembly}/trackDb.txt\n", "ascii")
    short, long = short_names(names, SHORT), short_names(names, LONG)
    stanzas = [
        f"track mfd_{number + 1}\nbigDataUrl ../../{file}.bw\nshortLabel {short[number]}\nlongLabel {long[number]}\n"
        f"type bigWig\n{'viewLimits 0:1' if probabilities[number] else 'autoScale on'}\n"
        f"visibility {'full' if number < FIRST_SHOWN else 'hide'}"
        for number, file in enumerate(files)
    ]
    (of_assembly / "trackDb.txt").write_text("\n\n".join(stanzas) + "\n", "ascii")


def short_names(names: Sequence[str], most: int) -> list[str]:
    """Return names in at most so many printable letters, each once: those that would be cut the same end in a number."""
    times: dict[str, int] = {}
    result = []
    for name in names:
        clean = re.sub(r"[^ -~]", "_", name)
        text = clean[:most]
        number = times[text] = times.get(text, 0) + 1
        if number > 1:
            text = f"{text[: most - len(str(number)) - 1]} {number}"
        result.append(text)
    return result
