"""Anything given to the smaller parsers: they return, or raise what a user can mend; never anything else."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit import harm
from mfd_cli.base.errors import MfdError
from mfd_cli.cli.shared import parse_named_file
from mfd_cli.formats.bed import parse_regions
from mfd_cli.formats.gene_files import read_elements, read_gtf
from mfd_cli.formats.motif_files import read_motifs
from mfd_cli.formats.track_hub import check_assembly
from mfd_cli.genome.sequence import Genome, encode
from mfd_cli.runs.query import parse_query

GENOME = Genome({"chr1": np.frombuffer(b"ACGT" * 100, np.uint8), "chr2": np.frombuffer(b"GGCC" * 50, np.uint8)})
FUZZED = settings(
    max_examples=150 * harm.FUZZED, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def soup(*tokens: str) -> st.SearchStrategy[bytes]:
    """Tokens of a format in any order, and anything else."""
    words = st.one_of(st.sampled_from(tokens), st.text(max_size=4), st.integers().map(str))
    return st.one_of(
        st.binary(max_size=80),
        st.lists(words, max_size=40).map(lambda found: "".join(found).encode("utf-8", "replace")),
    )


GTF = soup(
    "chr1",
    "\t",
    "\t",
    "\t",
    "\n",
    "gene",
    "transcript",
    "exon",
    "+",
    "-",
    ".",
    '; gene_id "a"',
    "ID=x;Parent=y",
    "##gff-version 3",
    "#",
)
MOTIFS = soup(
    ">MA1 x\n",
    "A [",
    "C [",
    "G [",
    "T [",
    "]",
    "\n",
    " 1 2 3",
    "MOTIF a b\n",
    "letter-probability matrix: w= 2",
    "\n0.25 0.25 0.25 0.25\n",
    "nsites= 20",
    "1 0 0 0\n",
    "1e999 ",
)
WORDS = ["assay", "==", "!=", "~", "<", ">", "in", "(", ")", ",", "and", "or", "not", "has", '"', "'", "id", "1"]
QUERY = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=3)), max_size=14).map(" ".join)


def harmless(read: object, *arguments: object) -> None:
    """Call it; an error that a user can mend is an answer, and its text is one printable line."""
    try:
        read(*arguments)  # type: ignore[operator]
    except MfdError as error:
        assert str(error)


@FUZZED
@given(raw=GTF, packed=st.booleans())
def test_any_annotation(tmp_path: Path, raw: bytes, packed: bool) -> None:
    path = tmp_path / "genes.gtf"
    path.write_bytes(gzip.compress(raw, 1) if packed else raw)
    harmless(read_gtf, path, GENOME)
    harmless(read_elements, "x", path, GENOME)


@FUZZED
@given(raw=MOTIFS)
def test_any_motif_file(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "motifs.txt"
    path.write_bytes(raw)
    try:
        found = read_motifs(path)
    except MfdError:
        return
    for motif in found.values():
        assert np.isfinite(motif.probabilities).all() and np.allclose(motif.probabilities.sum(1), 1)


@FUZZED
@given(text=QUERY)
def test_any_query(text: str) -> None:
    harmless(parse_query, text)


@FUZZED
@given(text=st.one_of(st.text(max_size=30), st.from_regex(r"chr[12](:[0-9,-]{0,12})?", fullmatch=True)))
def test_any_region_name_or_file(text: str) -> None:
    harmless(parse_regions, [text], None, GENOME)
    harmless(parse_named_file, text)
    harmless(check_assembly, text)


def test_the_genome_is_what_it_seems() -> None:
    assert encode("ACGT").tolist() == [0, 1, 2, 3] and GENOME.lengths == {"chr1": 400, "chr2": 200}
