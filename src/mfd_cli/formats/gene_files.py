"""Genes from GTF and GFF3, named elements from BED, on the contigs of a genome."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from mfd_cli.base.errors import RegionError
from mfd_cli.base.files import check_input
from mfd_cli.formats.bed import read_intervals, read_names
from mfd_cli.formats.gff import Feature, read_features
from mfd_cli.genome.genes import Elements, Genes
from mfd_cli.genome.sequence import Genome, aliases, match_contigs


def read_gtf(path: Path, genome: Genome) -> Genes:
    """Read the genes of a GTF or GFF3 file that lie on the genome's contigs; what is on other contigs is left out.

    Start sites are those of all transcripts, or of the gene where it has none. Genes without a row of their own are made from
    their transcripts, and in a file without either from exons and CDS. RegionError with the line where the file is
    broken or reaches beyond a contig; GenomeError where no contig is shared.
    """
    path = check_input(path, RegionError)
    features = list(read_features(path, ("gene", "transcript", "region")))
    chromosomes = [feature for feature in features if feature.kind == "region"]
    features = [feature for feature in features if feature.kind != "region"]
    features = features or _transcripts_of(read_features(path, ("part",)))
    if not features:
        raise RegionError(
            "holds no gene", path=path, hint="a GTF or GFF3 with gene, transcript, exon or CDS rows is needed"
        )
    mapping = _contigs_of_genome(features, chromosomes, path, genome)
    return _assembled(_on_genome(features, mapping, path, genome))


def _transcripts_of(parts: Iterable[Feature]) -> list[Feature]:
    """Return transcripts made from their exons and CDS."""
    transcripts: dict[tuple[str, ...], Feature] = {}
    for part in parts:
        key = (part.contig, part.strand, part.transcript, *part.genes)
        before = transcripts.get(key, part)
        start, end = min(before.start, part.start), max(before.end, part.end)
        # The line of the part that ends last, which is the one to show if it lies beyond the contig.
        line = part.line if part.end > before.end else before.line
        transcripts[key] = before._replace(kind="transcript", start=start, end=end, line=line)
    return list(transcripts.values())


def _contigs_of_genome(
    features: list[Feature], chromosomes: list[Feature], path: Path, genome: Genome
) -> dict[str, str]:
    """Return the genome's name per contig of the file.

    An accession of RefSeq goes by the chromosome that its `region` row tells, if that has the same length in the genome.
    """
    called = dict.fromkeys(feature.contig for feature in features)
    names = {name: name for name in called}
    for whole in chromosomes:
        if whole.contig in names and not _genome_name(whole.contig, genome):
            name = _genome_name(whole.chromosome, genome)
            if name and len(genome.sequences[name]) == whole.end:
                names[whole.contig] = name
    mapping = match_contigs(names.values(), genome.sequences, str(path))
    return {name: mapping[other] for name, other in names.items() if other in mapping}


def _genome_name(contig: str, genome: Genome) -> str:
    return next((alias for alias in aliases(contig) if alias in genome.sequences), "")


def _on_genome(features: list[Feature], mapping: dict[str, str], path: Path, genome: Genome) -> Iterator[Feature]:
    """Yield the features on the genome's contigs, by its names. RegionError where one ends beyond the contig."""
    lengths = genome.lengths
    for feature in features:
        contig = mapping.get(feature.contig)
        if contig is None:
            continue
        if feature.end > lengths[contig]:
            raise RegionError(
                f"end {feature.end} is beyond the contig {feature.contig} ({lengths[contig]:,} bp)",
                path=path,
                line=feature.line,
                hint="the file belongs to another assembly",
            )
        yield feature._replace(contig=contig)


def _assembled(features: Iterable[Feature]) -> Genes:
    """Return genes with their start sites. Contig, strand and id make a gene: UCSC gives copies of a gene one id."""
    features = list(features)
    genes = [feature for feature in features if feature.kind == "gene"]
    transcripts = [feature for feature in features if feature.kind == "transcript"]
    names = {gene.genes[0]: gene.name for gene in genes}
    # In GFF3 a transcript may be part of another (a miRNA of its primary transcript): it starts no gene.
    inner = {transcript.transcript for transcript in transcripts} - {"", *names}
    index_of = {_key(gene, gene.genes[0]): i for i, gene in reversed(list(enumerate(genes)))}
    sites = list[tuple[int, int]]()
    for transcript in transcripts:
        for one in transcript.genes:
            if one in inner and one != transcript.transcript:
                continue
            at = index_of.setdefault(_key(transcript, one), len(genes))
            if at == len(genes):
                genes.append(transcript._replace(name=names.get(one, transcript.name)))
            if genes[at].kind == "transcript":  # this gene has no row: it is what its transcripts cover
                genes[at] = _extended(genes[at], transcript)
            sites.append((_tss(transcript), at))
    started = {at for _, at in sites}
    sites += [(_tss(gene), at) for at, gene in enumerate(genes) if at not in started]
    return _columns(genes, sites)


def _key(feature: Feature, gene: str) -> tuple[str, str, str]:
    return feature.contig, feature.strand, gene


def _extended(gene: Feature, other: Feature) -> Feature:
    return gene._replace(start=min(gene.start, other.start), end=max(gene.end, other.end))


def _tss(feature: Feature) -> int:
    """Return the position of the base that is read first."""
    return feature.end - 1 if feature.strand == "-" else feature.start


def _columns(genes: list[Feature], sites: list[tuple[int, int]]) -> Genes:
    contigs = tuple(dict.fromkeys(gene.contig for gene in genes))
    index_of = {name: i for i, name in enumerate(contigs)}
    rows = np.array([(index_of[gene.contig], gene.start, gene.end) for gene in genes], np.int64).reshape(-1, 3)
    tss = np.array(sites, np.int64).reshape(-1, 2)
    return Genes(
        contigs,
        tuple(gene.name for gene in genes),
        tuple(gene.strand for gene in genes),
        rows[:, 0],
        rows[:, 1],
        rows[:, 2],
        tss[:, 0],
        tss[:, 1],
    )


def read_elements(name: str, path: Path, genome: Genome) -> Elements:
    """Read the intervals of a BED file on the genome's contigs, named by column 4, or "yes" where that is missing or a dot.

    RegionError with the line where the file is broken or reaches beyond a contig; GenomeError where no contig is shared.
    """
    intervals = read_intervals(path)
    intervals.on(genome.lengths)  # says what lies beyond a contig, with its line
    mapping = match_contigs(intervals.names, genome.sequences, str(path))
    contigs = tuple(dict.fromkeys(mapping.values()))
    index = {old: contigs.index(new) for old, new in mapping.items()}
    contig = np.array([index.get(old, -1) for old in intervals.names], np.int64)[intervals.contig]
    on = contig >= 0
    texts = [text or "yes" for text in read_names(path, intervals.line[on])]
    names = tuple(sorted(set(texts)))
    rank = {text: i for i, text in enumerate(names)}
    label = np.array([rank[text] for text in texts], np.int64)
    return Elements(name, contigs, names, contig[on], intervals.start[on], intervals.end[on], label)
