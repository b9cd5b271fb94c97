"""Genes and elements near a variant: readers of GTF, GFF3 and BED in several flavours, and answers as bedtools gives them."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pysam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfd_cli.base.errors import ConfigError, GenomeError, MfdError, RegionError
from mfd_cli.cli.shared import parse_named_file
from mfd_cli.formats.gene_files import read_elements, read_gtf
from mfd_cli.formats.gff import attributes
from mfd_cli.genome import genes as annotation
from mfd_cli.genome.genes import Elements, Genes
from mfd_cli.genome.sequence import Genome

GENOME = Genome({name: np.full(length, ord("A"), np.uint8) for name, length in (("chr1", 1000), ("chr2", 500))})
Variants = list[tuple[str, int, int]]


def row(contig: str, feature: str, start: int, end: int, strand: str, text: str) -> str:
    return f"{contig}\tsource\t{feature}\t{start}\t{end}\t.\t{strand}\t.\t{text}\n"


def read(folder: Path, *rows: str, genome: Genome = GENOME, name: str = "genes.gtf") -> Genes:
    path = folder / name
    path.write_text("".join(rows))
    return read_gtf(path, genome)


def told(genes: Genes) -> list[tuple[str, str, str, int, int, list[int]]]:
    """Name, contig, strand, start, end and start sites of every gene."""
    return [
        (
            genes.names[i],
            genes.contigs[genes.contig[i]],
            genes.strand[i],
            int(genes.start[i]),
            int(genes.end[i]),
            sorted(genes.tss[genes.tss_gene == i].tolist()),
        )
        for i in range(len(genes))
    ]


# One gene on each strand, A with two isoforms, as five sources write it.
TWO_GENES = [("A", "chr1", "+", 100, 300, [100, 149]), ("B", "chr2", "-", 50, 200, [199])]


def test_ensembl_gtf(tmp_path: Path) -> None:
    genes = read(
        tmp_path,
        "#!genome-build GRCh38\n",
        row("1", "gene", 101, 300, "+", 'gene_id "ENSG1"; gene_version "5"; gene_name "A"; gene_biotype "lncRNA";'),
        row("1", "transcript", 101, 300, "+", 'gene_id "ENSG1"; transcript_id "ENST1"; gene_name "A"; tag "basic";'),
        row("1", "exon", 101, 120, "+", 'gene_id "ENSG1"; transcript_id "ENST1"; exon_number "1";'),
        row("1", "transcript", 150, 300, "+", 'gene_id "ENSG1"; transcript_id "ENST2"; gene_name "A"; tag "a; b";'),
        row("1", "five_prime_utr", 150, 160, "+", "anything"),
        row("2", "gene", 51, 200, "-", 'gene_id "B"; gene_source "havana";'),
        row("2", "transcript", 51, 200, "-", 'gene_id "B"; transcript_id "ENST3";'),
    )
    assert told(genes) == TWO_GENES


def test_gencode_gff3(tmp_path: Path) -> None:
    genes = read(
        tmp_path,
        "##gff-version 3\n",
        row("chr1", "gene", 101, 300, "+", "ID=ENSG1.5;gene_id=ENSG1.5;gene_type=lncRNA;gene_name=A"),
        row("chr1", "transcript", 101, 300, "+", "ID=T1;Parent=ENSG1.5;gene_id=ENSG1.5;gene_name=A;tag=basic,TAGENE"),
        row("chr1", "transcript", 150, 280, "+", "ID=T2;Parent=ENSG1.5;gene_id=ENSG1.5;gene_name=A"),
        row("chr1", "exon", 150, 280, "+", "ID=exon:1;Parent=T2;gene_id=ENSG1.5"),
        row("chr2", "gene", 51, 200, "-", "ID=ENSG2;gene_id=ENSG2;gene_name=B"),
    )
    assert told(genes) == TWO_GENES


def test_ensembl_gff3(tmp_path: Path) -> None:
    genes = read(
        tmp_path,
        "##gff-version 3\n",
        row("1", "chromosome", 1, 1000, ".", "ID=chromosome:1;Alias=CM000663.2,chr1"),
        row("1", "ncRNA_gene", 101, 300, "+", "ID=gene:ENSG1;Name=A;biotype=lncRNA;gene_id=ENSG1;version=5"),
        row("1", "lnc_RNA", 101, 300, "+", "ID=transcript:ENST1;Parent=gene:ENSG1;Name=A-201"),
        row("1", "lnc_RNA", 150, 280, "+", "ID=transcript:ENST2;Parent=gene:ENSG1;Name=A-202"),
        "###\n",
        row("2", "pseudogene", 51, 200, "-", "ID=gene:ENSG2;gene_id=B"),
        row("2", "pseudogenic_transcript", 51, 200, "-", "ID=transcript:ENST3;Parent=gene:ENSG2"),
        row("2", "exon", 51, 200, "-", "Parent=transcript:ENST3"),
    )
    assert told(genes) == TWO_GENES


REFSEQ = [
    row("NC_1.11", "region", 1, 1000, "+", "ID=NC_1.11:1..1000;Name=1;chromosome=1;gbkey=Src;genome=chromosome"),
    row("NC_1.11", "gene", 101, 300, "+", "ID=gene-A;Dbxref=GeneID:1,HGNC:1;Name=A;gbkey=Gene;gene=A;locus_tag=x"),
    row("NC_1.11", "mRNA", 101, 300, "+", "ID=rna-1;Parent=gene-A;Name=NM_1.1;gene=A;product=a%3Bb"),
    row("NC_1.11", "primary_transcript", 150, 280, "+", "ID=rna-2;Parent=gene-A;gene=A"),
    row("NC_1.11", "miRNA", 160, 180, "+", "ID=rna-3;Parent=rna-2;gene=A"),
    row("NT_7.1", "region", 1, 50, "+", "ID=NT_7.1:1..50;chromosome=2;gbkey=Src;genome=genomic"),
    row("NT_7.1", "gene", 1, 40, "+", "ID=gene-U;Name=U"),
    row("NC_2.1", "region", 1, 500, "+", "ID=NC_2.1:1..500;Name=2;chromosome=2;gbkey=Src;genome=chromosome"),
    row("NC_2.1", "gene", 51, 200, "-", "ID=gene-B;Name=B;gene=B"),
    row("NC_2.1", "tRNA", 51, 200, "-", "ID=rna-4;Parent=gene-B"),
]


def test_refseq_gff3_goes_by_chromosome_where_the_genome_does(tmp_path: Path) -> None:
    assert told(read(tmp_path, *REFSEQ)) == TWO_GENES  # the miRNA inside a transcript is no start site
    bases = GENOME.sequences["chr1"]
    by_accession = read(tmp_path, *REFSEQ, genome=Genome({"NC_1.11": bases, "chr2": bases[:499]}))
    assert told(by_accession) == [("A", "NC_1.11", "+", 100, 300, [100, 149])]  # chr2 has another length


def test_refseq_gtf(tmp_path: Path) -> None:
    genes = read(
        tmp_path,
        row(
            "chr1", "gene", 101, 300, "+", 'gene_id "A"; transcript_id ""; db_xref "GeneID:1"; gene "A"; pseudo "true";'
        ),
        row(
            "chr1",
            "transcript",
            101,
            300,
            "+",
            'gene_id "A"; transcript_id "NM_1.1"; note "the \\"first\\"; one"; gene "A";',
        ),
        row("chr1", "transcript", 150, 300, "+", 'gene_id "A"; transcript_id "A"; gene "A"; '),
        row("chr2", "gene", 51, 200, "-", 'gene_id "B_1"; transcript_id ""; gene "B";'),
    )
    assert told(genes) == TWO_GENES


def test_sgd_gff_ends_at_the_sequence(tmp_path: Path) -> None:
    genes = read(
        tmp_path,
        "##gff-version 3\n",
        row("chr1", "chromosome", 1, 1000, ".", "ID=chr1;dbxref=NCBI:BK006935.2;Name=chr1"),
        row("chr1", "gene", 101, 300, "+", "ID=YAL1W;Name=YAL1W;gene=A;Alias=A,AA;Note=Putative%20protein;odd note"),
        row("chr1", "CDS", 101, 300, "+", "Parent=YAL1W_id1,YAL1W_id2;Name=YAL1W_CDS"),
        row("chr1", "mRNA", 101, 300, "+", "ID=YAL1W_id1;Name=YAL1W_id1;Parent=YAL1W"),
        row("chr1", "mRNA", 150, 300, "+", "ID=YAL1W_id2;Name=YAL1W_id2;Parent=YAL1W"),
        row("chr2", "tRNA_gene", 51, 200, "-", 'ID=tA;Name="B"'),
        "##FASTA\n>chr1\nACGT\n",
    )
    assert told(genes) == TWO_GENES


def test_genes_without_rows_are_made_from_transcripts(tmp_path: Path) -> None:
    genes = read(
        tmp_path,
        "track name=genes\n",
        row("chr1", "transcript", 101, 200, "+", 'gene_id "A"; transcript_id "A"; '),
        row("chr1", "transcript", 150, 300, "+", 'gene_id "A"; transcript_id "A_dup1"; '),
        row("chr1", "exon", 150, 400, "+", 'gene_id "A"; transcript_id "A_dup1"; '),
        row("chr2", "transcript", 51, 200, "-", 'gene_id "x"; gene_name "B"; transcript_id "NR_2"; '),
        row("chr2", "transcript", 51, 200, "+", 'gene_id "x"; gene_name "C"; transcript_id "NR_2"; '),
    )
    assert told(genes) == [*TWO_GENES, ("C", "chr2", "+", 50, 200, [50])]


def test_genes_without_transcripts_are_made_from_exons(tmp_path: Path) -> None:
    genes = read(
        tmp_path,
        row("chr1", "exon", 101, 120, "+", 'gene_id "A"; transcript_id "t1";'),
        row("chr1", "exon", 290, 300, "+", 'gene_id "A"; transcript_id "t1";'),
        row("chr1", "exon", 150, 160, "+", 'gene_id "A"; transcript_id "t2";'),
        row("chr2", "CDS", 51, 80, "-", "ID=cds-1;Parent=B"),
        row("chr2", "CDS", 180, 200, "-", "ID=cds-1;Parent=B"),
    )
    assert told(genes) == TWO_GENES


def test_transcripts_of_a_gene_on_the_other_strand_keep_its_name(tmp_path: Path) -> None:
    genes = read(
        tmp_path,
        row("chr1", "gene", 101, 300, "-", "ID=FB1;Name=mod"),
        row("chr1", "mRNA", 101, 300, "-", "ID=FB1-RA;Parent=FB1;Name=mod-RA"),
        row("chr1", "mRNA", 201, 250, "+", "ID=FB1-RB;Parent=FB1;Name=mod-RB"),
    )
    assert told(genes) == [("mod", "chr1", "-", 100, 300, [299]), ("mod", "chr1", "+", 200, 250, [200])]


@pytest.mark.parametrize("how", ["gzip", "bgzip", "CRLF"])
def test_packed_files(tmp_path: Path, how: str) -> None:
    path, text = tmp_path / "genes.gff.gz", "".join(REFSEQ).encode()
    if how == "bgzip":
        with pysam.BGZFile(str(path), "w") as file:
            file.write(text)
    else:
        path.write_bytes(gzip.compress(text) if how == "gzip" else text.replace(b"\n", b"\r\n"))
    assert told(read_gtf(path, GENOME)) == TWO_GENES


GOOD = 'gene_id "A";'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1 source gene 1 5 . + . x\n", "has 1 columns, not nine"),
        (row("chr1", "exon", 1, 5, "+", GOOD).replace("\tsource", ""), "has 8 columns, not nine"),
        (row("chr1", "gene", 1, 5, "+", GOOD + "\tx"), "has 10 columns, not nine"),
        (row("chr1", "gene", 1, 5, "+", GOOD).replace("\t1\t", "\t1.0\t"), "start is not a whole number ('1.0')"),
        (row("chr1", "gene", 1, 5, "+", GOOD).replace("\t5\t", "\t\t"), "end is not a whole number ('')"),
        (row("chr1", "gene", -1, 5, "+", GOOD), "start is not a whole number ('-1')"),
        (row("chr1", "gene", 0, 5, "+", GOOD), "start is 0; the first base is 1 in GTF and GFF3"),
        (row("chr1", "gene", 6, 5, "+", GOOD), "end 5 is before start 6"),
        (row("chr1", "gene", 6, 1001, "+", GOOD), "end 1001 is beyond the contig chr1 (1,000 bp)"),
        (row("1", "transcript", 6, 1001, "+", GOOD), "end 1001 is beyond the contig 1 (1,000 bp)"),
        (row("chr1", "gene", 1, 5, "x", GOOD), "the strand is 'x', not one of + - . ?"),
        (row(" ", "gene", 1, 5, "+", GOOD), "the contig has no name"),
        (
            row("chr1", "gene", 1, 5, "+", 'gene_id "A; gene_name "B";'),
            """attributes are neither GTF (key "value";) nor GFF3 (key=value;): 'gene_id "A; gene_name "B";'""",
        ),
        (
            row("chr1", "gene", 1, 5, "+", "g1"),
            "attributes are neither GTF (key \"value\";) nor GFF3 (key=value;): 'g1'",
        ),
        (
            row("chr1", "gene", 1, 5, "+", "biotype=x"),
            "the gene has no gene_name, gene, Name, gene_id, locus_tag or ID",
        ),
        (
            row("chr1", "lnc_RNA", 1, 5, "+", "."),
            "the lnc_RNA has no gene_name, gene, gene_id, locus_tag, Parent, ID or Name",
        ),
    ],
)
def test_a_broken_line_is_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RegionError) as caught:
        read(tmp_path, "#comment\n", "\n", row("chr2", "gene", 1, 5, "+", 'gene_id "Z";'), text)
    assert str(caught.value) == f"{tmp_path / 'genes.gtf'}:4: {message}"
    assert caught.value.hint


def test_an_exon_beyond_the_contig_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(RegionError, match=r"genes.gtf:2: end 1001 is beyond"):
        read(tmp_path, row("chr1", "exon", 1, 5, "+", GOOD), row("chr1", "exon", 10, 1001, "+", GOOD))


def test_files_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(RegionError, match="holds no gene"):
        read(tmp_path, "##gff-version 3\n", row("chr1", "enhancer", 1, 5, "+", "ID=x"))
    with pytest.raises(GenomeError, match=r"no contig of .*genes.gtf is in the genome \(NC_9.1 against chr1, chr2\)"):
        read(tmp_path, row("NC_9.1", "gene", 1, 5, "+", GOOD))
    with pytest.raises(RegionError, match="no such file"):
        read_gtf(tmp_path / "none.gtf", GENOME)


@given(st.text(alphabet="gene_id =;\"\\,%3B'A", max_size=30))
def test_any_attributes_are_read_or_refused(text: str) -> None:
    try:
        found = attributes(text)
    except ValueError:
        return
    assert all(values and all(values) for values in found.values())


# Distances, by hand. F is read to the right from base 100, R to the left from base 99 (0-based).


@pytest.mark.parametrize(
    ("start", "end", "plus", "minus"),
    [
        (100, 101, 0, -1),  # the base of F's site, one to the right of R's
        (99, 100, -1, 0),
        (90, 95, -6, 5),
        (90, 120, 0, 0),
        (105, 106, 5, -6),
        (101, 120, 1, -2),
        (100, 100, 0, 0),  # an insertion between bases 99 and 100 is at both
        (101, 101, 0, -1),
        (98, 98, -2, 1),
        (0, 0, -100, 99),
    ],
)
def test_distances_on_both_strands(tmp_path: Path, start: int, end: int, plus: int, minus: int) -> None:
    forward = read(tmp_path, row("chr1", "gene", 101, 300, "+", "ID=F"))
    backward = read(tmp_path, row("chr1", "gene", 11, 100, "-", "ID=R"))
    assert forward.nearest("chr1", start, end) == ("F", plus)
    assert backward.nearest("chr1", start, end) == ("R", minus)


def test_ties_go_by_name_and_contigs_without_genes_have_none(tmp_path: Path) -> None:
    genes = read(
        tmp_path,
        row("chr1", "gene", 101, 110, "+", "ID=z"),
        row("chr1", "gene", 91, 111, "-", "ID=y"),
        row("chr1", "gene", 121, 130, ".", "ID=m"),
        row("chr1", "gene", 121, 130, "?", "ID=n"),
    )
    assert genes.nearest("chr1", 105, 106) == ("y", 5)  # 5 from z, 5 from y: upstream is to its right
    assert genes.nearest("chr1", 115, 116) == ("m", -5)  # 5 from y and m; m and n at one base, no strand is read as +
    assert genes.nearest("chr1", 0, 1000) == ("m", 0)  # all sites within
    assert genes.nearest("chr2", 5, 6) is None
    found = genes.annotate(["chr2", "chr1", "chrX"], np.array([5, 95, 5]), np.array([6, 111, 6]))
    assert found == {"gene": [None, "y", None], "tss_distance": [None, 0, None], "within_gene": ["", "y,z", ""]}


# Brute force on random genes and variants.

CONTIGS = ("c1", "c2", "c3")
span = st.tuples(st.sampled_from(CONTIGS[:2]), st.integers(0, 60), st.integers(1, 40))
variants = st.lists(st.tuples(st.sampled_from(CONTIGS), st.integers(0, 60), st.integers(0, 8)), max_size=12).map(
    lambda rows: [(contig, start, start + length) for contig, start, length in rows]
)


def columns(some: Variants) -> tuple[list[str], Any, Any]:
    return [v[0] for v in some], np.array([v[1] for v in some], np.int64), np.array([v[2] for v in some], np.int64)


def widened(start: int, end: int) -> tuple[int, int]:
    return (start - 1, end + 1) if start == end else (start, end)


def overlapping(names: list[str], spans: list[tuple[str, int, int]], variant: tuple[str, int, int]) -> str:
    start, end = widened(variant[1], variant[2])
    hits = {n for n, (c, s, length) in zip(names, spans) if c == variant[0] and s < end and s + length > start}
    return ",".join(sorted(hits))


def brute_nearest(genes: Genes, variant: tuple[str, int, int]) -> set[tuple[str | None, int | None]]:
    """The right answers: one, or two where two sites of one name are equally near."""
    start, end = widened(variant[1], variant[2])
    found = []
    for site, gene in zip(genes.tss.tolist(), genes.tss_gene.tolist()):
        if genes.contigs[genes.contig[gene]] == variant[0]:
            away = start - site if site < start else min(end - 1 - site, 0)
            found.append((abs(away), genes.names[gene], -away if genes.strand[gene] == "-" else away))
    best = min(found, default=None)
    return {(None, None)} if best is None else {(name, signed) for d, name, signed in found if (d, name) == best[:2]}


@given(st.lists(st.tuples(span, st.sampled_from("+-.")), min_size=1, max_size=10), st.data())
def test_genes_against_brute_force(rows: list[tuple[tuple[str, int, int], str]], data: st.DataObject) -> None:
    spans = [one for one, _ in rows]
    names = [data.draw(st.sampled_from("abcdefg")) for _ in rows]
    sites = data.draw(st.lists(st.tuples(st.integers(0, len(rows) - 1), st.integers(0, 39)), min_size=1, max_size=15))
    genes = Genes(
        CONTIGS[:2],
        tuple(names),
        tuple(strand for _, strand in rows),
        np.array([CONTIGS.index(c) for c, _, _ in spans]),
        np.array([s for _, s, _ in spans]),
        np.array([s + length for _, s, length in spans]),
        np.array([spans[g][1] + min(at, spans[g][2] - 1) for g, at in sites]),
        np.array([g for g, _ in sites]),
    )
    some = data.draw(variants)
    found = genes.annotate(*columns(some))
    assert found["within_gene"] == [overlapping(names, spans, variant) for variant in some]
    for variant, name, distance in zip(some, found["gene"], found["tss_distance"]):
        assert (name, distance) in brute_nearest(genes, variant)


lengths = st.one_of(st.integers(1, 5), st.integers(1, 70))  # nested ones too
elements_spans = st.lists(st.tuples(st.sampled_from(CONTIGS[:2]), st.integers(0, 60), lengths), max_size=20)


@given(elements_spans, variants, st.data())
def test_elements_against_brute_force(spans: list[tuple[str, int, int]], some: Variants, data: st.DataObject) -> None:
    names = tuple("abcd")
    label = [data.draw(st.integers(0, 3)) for _ in spans]
    elements = Elements(
        "e",
        CONTIGS[:2],
        names,
        np.array([CONTIGS.index(c) for c, _, _ in spans], np.int64),
        np.array([s for _, s, _ in spans], np.int64),
        np.array([s + n for _, s, n in spans], np.int64),
        np.array(label, np.int64),
    )
    expected = [overlapping([names[i] for i in label], spans, variant) for variant in some]
    assert elements.annotate(*columns(some)) == expected


def test_chunks_are_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    start = rng.integers(0, 1000, 50)
    elements = Elements("e", ("c",), tuple("abcde"), np.zeros(50, np.int64), start, start + 30, rng.integers(0, 5, 50))
    places = ["c"] * 100, np.arange(0, 1000, 10), np.arange(5, 1005, 10)
    whole = elements.annotate(*places)
    monkeypatch.setattr(annotation, "_TOGETHER", 7)
    assert elements.annotate(*places) == whole


# BED files of elements.


def test_elements_are_named_by_column_four(tmp_path: Path) -> None:
    bed = tmp_path / "e.bed"
    bed.write_text(
        "track name=x\n1\t10\t20\tE1\t0\n#x\n1\t0\t100\tE2\nchr1\t12\t14\tE1\nchrUn\t5\t9\tE9\n2\t5\t10\n2\t5\t6\t.\n"
    )
    elements = read_elements("enhancers", bed, GENOME)
    assert elements.name == "enhancers" and len(elements) == 5
    some = [("chr1", 13, 14), ("chr1", 20, 21), ("chr1", 20, 20), ("chr1", 100, 101), ("chr2", 5, 6), ("chrUn", 5, 6)]
    assert elements.annotate(*columns(some)) == ["E1,E2", "E2", "E1,E2", "", "yes", ""]


def test_elements_without_names_say_yes(tmp_path: Path) -> None:
    bed = tmp_path / "e.bed"
    bed.write_text("chr1 5 9\nchr1 7 12\n")
    assert read_elements("e", bed, GENOME).annotate(*columns([("chr1", 8, 9), ("chr1", 12, 13)])) == ["yes", ""]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("chr1\t5\t9\nchr1\t9\t5\n", RegionError, "e.bed:2: end 5 is before start 9"),
        ("chr1\t5\t9\n1\t900\t1001\tx\n", RegionError, "e.bed:2: 1:900-1001 ends beyond the contig"),
        ("chrX\t5\t9\n", GenomeError, "no contig of .*e.bed is in the genome"),
    ],
)
def test_broken_elements_are_told(tmp_path: Path, text: str, error: type[MfdError], message: str) -> None:
    bed = tmp_path / "e.bed"
    bed.write_text(text)
    with pytest.raises(error, match=message):
        read_elements("e", bed, GENOME)


def test_a_bed_of_comments_has_no_elements(tmp_path: Path) -> None:
    bed = tmp_path / "e.bed"
    bed.write_text("#nothing\n")
    assert read_elements("e", bed, GENOME).annotate(*columns([("chr1", 1, 2)])) == [""]


def test_named_files() -> None:
    assert parse_named_file("H3K27ac_1.x-y=/a/b=c.bed") == ("H3K27ac_1.x-y", Path("/a/b=c.bed"))
    for text in ("enhancers.bed", "=e.bed", "e=", "1e=e.bed", "e e=e.bed", "é=e.bed", ""):
        with pytest.raises(ConfigError, match="is not NAME=FILE") as caught:
            parse_named_file(text)
        assert "enhancers=enhancers.bed" in str(caught.value.hint)


# bedtools, where it is installed.

needs_bedtools = pytest.mark.skipif(shutil.which("bedtools") is None, reason="bedtools is not installed")


def bedtools(*words: str | Path) -> list[list[str]]:
    done = subprocess.run(["bedtools", *map(str, words)], check=True, capture_output=True, text=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


def random_spans(rng: np.random.Generator, count: int, longest: float) -> list[tuple[str, int, int]]:
    """Intervals of two contigs, sorted, of lengths from 1 to 10**longest."""
    size = (10 ** rng.uniform(0, longest, count)).astype(int)
    starts = rng.integers(0, 50_000, count)
    rows = zip(rng.choice(["chr1", "chr2"], count).tolist(), starts.tolist(), (starts + size).tolist())
    return sorted(rows)


def random_variants(rng: np.random.Generator) -> Variants:
    """Sorted variants, a quarter of them insertions (which bedtools takes as two bases only away from base 0)."""
    starts = rng.integers(1, 50_000, 600)
    ends = starts + np.maximum(rng.integers(-3, 12, 600), 0)
    return sorted(zip(rng.choice(["chr1", "chr2"], 600).tolist(), starts.tolist(), ends.tolist()))


def write_bed(path: Path, rows: list[tuple[Any, ...]]) -> Path:
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    return path


BIG = Genome({name: np.full(200_000, ord("A"), np.uint8) for name in ("chr1", "chr2")})


@needs_bedtools
@pytest.mark.parametrize("seed", range(3))
def test_elements_as_bedtools_has_them(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    some = random_variants(rng)
    rows = [(*one, f"e{rng.integers(0, 40)}") for one in random_spans(rng, 400, 4)]
    bed, query = write_bed(tmp_path / "e.bed", rows), write_bed(tmp_path / "v.bed", some)
    lines = bedtools("map", "-a", query, "-b", bed, "-c", "4", "-o", "distinct")
    found = read_elements("e", bed, BIG).annotate(*columns(some))
    assert found == [line[3].replace(".", "") for line in lines]
    hit = {tuple(line[:3]) for line in bedtools("intersect", "-u", "-a", query, "-b", bed)}
    assert [bool(text) for text in found] == [tuple(map(str, variant)) in hit for variant in some]


@needs_bedtools
@pytest.mark.parametrize("seed", range(3))
def test_genes_as_bedtools_has_them(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    some = random_variants(rng)
    spans = random_spans(rng, 80, 3.5)
    strands = rng.choice(["+", "-"], len(spans)).tolist()
    gtf = tmp_path / "genes.gtf"
    gtf.write_text(
        "".join(
            row(c, "gene", s + 1, e, strand, f'gene_id "g{i:03}";')
            for i, ((c, s, e), strand) in enumerate(zip(spans, strands))
        )
    )
    sites = [
        (c, *((e - 1, e) if strand == "-" else (s, s + 1)), f"g{i:03}", 0, strand)
        for i, ((c, s, e), strand) in enumerate(zip(spans, strands))
    ]
    site_bed, query = write_bed(tmp_path / "tss.bed", sorted(sites)), write_bed(tmp_path / "v.bed", some)
    best: dict[tuple[str, ...], tuple[str, int]] = {}
    for line in bedtools("closest", "-a", query, "-b", site_bed, "-D", "b", "-t", "all"):
        one = line[6], int(line[9])
        best[tuple(line[:3])] = min(best.get(tuple(line[:3]), one), one)
    found = read_gtf(gtf, BIG).annotate(*columns(some))
    expected = [best[tuple(map(str, variant))] for variant in some]
    assert list(zip(found["gene"], found["tss_distance"])) == expected
    bodies = write_bed(tmp_path / "g.bed", [(c, s, e, f"g{i:03}") for i, (c, s, e) in enumerate(spans)])
    lines = bedtools("map", "-a", query, "-b", bodies, "-c", "4", "-o", "distinct")
    assert found["within_gene"] == [line[3].replace(".", "") for line in lines]


def test_names_of_elements_stand_in_column_four_however_columns_are_separated(tmp_path: Path) -> None:
    rows = {
        "chr1\t5\t9\tone name\t0": "one name",
        "chr1\t 15\t19\ttwo": "two",
        "chr1    25\t29\tthree\t7": "three",
        "chr1 35 39 four 7": "four",
        "chr1\t45    49\t.": "yes",
        "chr1 55\t59": "yes",
    }
    (tmp_path / "e.bed").write_text("\n".join(rows) + "\n")
    elements = read_elements("e", tmp_path / "e.bed", Genome({"chr1": np.frombuffer(b"A" * 100, np.uint8)}))
    starts = elements.start.tolist()
    assert starts == [5, 15, 25, 35, 45, 55]
    assert [elements.names[i] for i in elements.label.tolist()] == list(rows.values())
