"""What lies near a variant: the nearest start of a gene, the genes and the elements of BED files that it falls in.

Variants are given by `start` (0-based) and `end` (excluded). An insertion between two bases (start == end) counts as the
two bases it stands between, for overlaps and for distances, as in bedtools: one at the very edge of an element is within.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mfd_cli.data.fasta import read_lines
from mfd_cli.data.gff import Feature, read_features
from mfd_cli.data.regions import read_intervals
from mfd_cli.data.sequence import Genome, aliases, match_contigs
from mfd_cli.errors import ConfigError, RegionError
from mfd_cli.files import check_input

Ints = NDArray[np.int64]

_SPAN = 1 << 40
"""Position p of contig i is the number i * _SPAN + p, so that one sorted array holds all contigs."""
_CHUNK = 1 << 16
"""Variants that are annotated together; what they overlap is held in memory at once."""
_FAR = 1 << 60


@dataclass(frozen=True)
class Elements:
    """Named intervals, which may overlap: `contig` (n,) index into `contigs`, `label` (n,) into `names`, which is sorted.

    `start` and `end` are (n,) int64; `name` is what the set of elements is called.
    """

    name: str
    contigs: tuple[str, ...]
    names: tuple[str, ...]
    contig: Ints
    start: Ints
    end: Ints
    label: Ints

    def __len__(self) -> int:
        return len(self.start)

    def annotate(self, contigs: Sequence[str], starts: Ints, ends: Ints) -> list[str]:
        """For each variant the names of the elements it overlaps, in alphabetical order with commas; empty for none."""
        low, high = _keys(self.contigs, contigs, starts, ends)
        parts = [self._texts(low[at : at + _CHUNK], high[at : at + _CHUNK]) for at in range(0, len(low), _CHUNK)]
        return [text for part in parts for text in part]

    def _texts(self, low: Ints, high: Ints) -> list[str]:
        """Names per query [low, high) in keys."""
        row, label = self._hits(low, high)
        texts = np.full(len(low), "", object)
        pairs = np.unique(row * len(self.names) + label)  # by query, then by name; each name once
        row, label = pairs // max(len(self.names), 1), pairs % max(len(self.names), 1)
        first = np.flatnonzero(np.diff(row, prepend=-1))
        texts[row[first]] = np.array(self.names, object)[label[first]]
        bounds = np.append(first, len(row))
        for group in np.flatnonzero(np.diff(bounds) > 1).tolist():
            chosen = label[bounds[group] : bounds[group + 1]].tolist()
            texts[row[bounds[group]]] = ",".join(self.names[i] for i in chosen)
        return list(texts)

    def _hits(self, low: Ints, high: Ints) -> tuple[Ints, Ints]:
        """All pairs of a query [low, high) and the label of an interval it overlaps."""
        rows, labels = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for longest, start, end, label in self._classes:
            row, index = _flat(np.searchsorted(start, low - longest, "right"), np.searchsorted(start, high, "left"))
            over = end[index] > low[row]
            rows.append(row[over])
            labels.append(label[index[over]])
        return np.concatenate(rows), np.concatenate(labels)

    @cached_property
    def _classes(self) -> list[tuple[int, Ints, Ints, Ints]]:
        """The intervals in classes of similar length: the longest length, then start, end (keys) and label by start.

        In a class all that overlaps a query starts within `longest` bp before it, and little else does. One sorted list for
        all would need the longest interval of the genome for this, and a search through all that it reaches over.
        """
        length = self.end - self.start
        kind = np.frexp(length.astype(np.float64))[1] // 2  # a factor of four each
        found = []
        for one in np.unique(kind):
            chosen = np.flatnonzero(kind == one)
            chosen = chosen[np.lexsort((self.start[chosen], self.contig[chosen]))]
            base = self.contig[chosen] * _SPAN
            found.append(
                (int(length[chosen].max()), base + self.start[chosen], base + self.end[chosen], self.label[chosen])
            )
        return found


class _Sites(NamedTuple):
    """Distinct start sites by position: key, rank of the gene's name, and 1 or -1 for the strand."""

    key: Ints
    rank: Ints
    sign: Ints


@dataclass(frozen=True)
class Genes:
    """Genes and their transcription start sites (TSS), on the contigs of a genome.

    Per gene (n,): `names`, `contig` (index into `contigs`), `strand` (+ - . ?), `start` and `end`. Per transcript (m,): `tss`
    (0-based position of its first base) and `tss_gene` (index of its gene). A gene without a strand is taken as on +.
    """

    contigs: tuple[str, ...]
    names: tuple[str, ...]
    strand: tuple[str, ...]
    contig: Ints
    start: Ints
    end: Ints
    tss: Ints
    tss_gene: Ints

    def __len__(self) -> int:
        return len(self.names)

    def nearest(self, contig: str, start: int, end: int) -> tuple[str, int] | None:
        """Name and signed distance of the gene with the nearest TSS, see `annotate`; None on a contig without genes."""
        found = self.annotate([contig], np.array([start]), np.array([end]))
        name, distance = found["gene"][0], found["tss_distance"][0]
        return None if name is None else (name, distance)

    def annotate(self, contigs: Sequence[str], starts: Ints, ends: Ints) -> dict[str, list[Any]]:
        """Columns for variants: `gene`, `tss_distance`, `within_gene`.

        gene: the one with the nearest TSS; of several equally near the alphabetically first one. tss_distance: bp from that TSS
        to the nearest base of the variant, negative upstream of the TSS as the gene is read, 0 where the TSS base is in the
        variant. Both are None on contigs without genes. within_gene: names of the genes whose body overlaps the variant,
        in alphabetical order with commas.
        """
        gene, distance = self._nearest(*_keys(self.contigs, contigs, starts, ends))
        known = self._sorted_names
        return {
            "gene": [known[i] if i >= 0 else None for i in gene.tolist()],
            "tss_distance": [d if i >= 0 else None for i, d in zip(gene.tolist(), distance.tolist())],
            "within_gene": self.bodies.annotate(contigs, starts, ends),
        }

    @cached_property
    def bodies(self) -> Elements:
        """The genes as intervals from their first to their last base."""
        names = self._sorted_names
        return Elements("within_gene", self.contigs, names, self.contig, self.start, self.end, self._ranks)

    @cached_property
    def _sorted_names(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.names)))

    @cached_property
    def _ranks(self) -> Ints:
        """Place of each gene's name in alphabetical order."""
        rank = {name: i for i, name in enumerate(self._sorted_names)}
        return np.array([rank[name] for name in self.names], np.int64)

    @cached_property
    def _sites(self) -> _Sites:
        gene = self.tss_gene
        key, rank = self.contig[gene] * _SPAN + self.tss, self._ranks[gene]
        sign = np.where(np.array(self.strand, object)[gene] == "-", -1, 1)
        order = np.lexsort((rank, key))
        first = order[
            np.flatnonzero(np.diff(key[order], prepend=-1))
        ]  # of genes that start at one base the first by name
        return _Sites(key[first], rank[first], sign[first])

    def _nearest(self, low: Ints, high: Ints) -> tuple[Ints, Ints]:
        """Rank of the nearest site's gene and its signed distance per query [low, high); rank -1 where there is none."""
        sites = self._sites
        if not len(sites.key):
            return np.full(len(low), -1), np.zeros(len(low), np.int64)
        after_left, right = np.searchsorted(sites.key, low, "left"), np.searchsorted(sites.key, high, "left")
        left, last = np.maximum(after_left - 1, 0), np.minimum(right, len(sites.key) - 1)
        has_left = (after_left > 0) & _same_contig(sites.key[left], high)
        has_right = (right < len(sites.key)) & _same_contig(sites.key[last], high)
        to_left = np.where(has_left, low - sites.key[left], _FAR)
        to_right = np.where(has_right, sites.key[last] - high + 1, _FAR)
        go_left = (to_left < to_right) | ((to_left == to_right) & (sites.rank[left] <= sites.rank[last]))
        chosen = np.where(go_left, left, last)
        distance = np.where(go_left, to_left, -to_right) * sites.sign[chosen]
        rank = np.where(has_left | has_right, sites.rank[chosen], -1)
        inside = np.flatnonzero(right > after_left)
        rank[inside] = _lowest(sites.rank, after_left[inside], right[inside])
        distance[inside] = 0
        return rank, distance


def _same_contig(site: Ints, high: Ints) -> NDArray[np.bool_]:
    """Whether sites lie on the contig of queries that end at `high`; only the start may be before a contig's first base."""
    same: NDArray[np.bool_] = site // _SPAN == (high - 1) // _SPAN
    return same


def _keys(known: Sequence[str], contigs: Sequence[str], starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
    """First and last base (excluded) of variants as keys, below zero for contigs that are not known."""
    place = {name: i for i, name in enumerate(known)}
    base = np.array([place.get(name, -1) for name in contigs], np.int64) * _SPAN
    starts, ends = np.asarray(starts, np.int64), np.asarray(ends, np.int64)
    insertion = (starts == ends).astype(np.int64)
    return base + starts - insertion, base + ends + insertion


def _flat(low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """All i in [low, high) of every row, one after the other: their rows, and the i."""
    count = high - low
    row = np.repeat(np.arange(len(count)), count)
    return row, np.arange(len(row)) + np.repeat(low - (np.cumsum(count) - count), count)


def _lowest(values: Ints, low: Ints, high: Ints) -> Ints:
    """The smallest of values[low:high] per row; no range is empty."""
    result = values[low]
    for at in range(0, len(low), _CHUNK):
        one = slice(at, at + _CHUNK)
        _, index = _flat(low[one], high[one])
        count = (high - low)[one]
        result[one] = np.minimum.reduceat(values[index], np.cumsum(count) - count)
    return result


def read_gtf(path: Path, genome: Genome) -> Genes:
    """The genes of a GTF or GFF3 file that lie on the genome's contigs; what is on other contigs is left out.

    Start sites are those of all transcripts, or of the gene where it has none. Genes without a row of their own are made from
    their transcripts, and in a file without either from exons and CDS. RegionError with the line where the file is
    broken or reaches beyond a contig; GenomeError where no contig is shared.
    """
    check_input(path, RegionError)
    features = list(read_features(path, ("gene", "transcript", "region")))
    chromosomes = [feature for feature in features if feature.kind == "region"]
    features = [feature for feature in features if feature.kind != "region"]
    features = features or _transcripts_of(read_features(path, ("part",)))
    if not features:
        raise RegionError(
            "holds no gene", path=path, hint="a GTF or GFF3 with gene, transcript, exon or CDS rows is needed"
        )
    mapping = _contigs(features, chromosomes, path, genome)
    return _assembled(_on_genome(features, mapping, path, genome))


def _transcripts_of(parts: Iterable[Feature]) -> list[Feature]:
    """Transcripts from their exons and CDS."""
    found: dict[tuple[str, ...], Feature] = {}
    for part in parts:
        key = (part.contig, part.strand, part.transcript, *part.genes)
        before = found.get(key, part)
        start, end = min(before.start, part.start), max(before.end, part.end)
        # The line of the part that ends last, which is the one to show if it lies beyond the contig.
        line = part.line if part.end > before.end else before.line
        found[key] = before._replace(kind="transcript", start=start, end=end, line=line)
    return list(found.values())


def _contigs(features: list[Feature], chromosomes: list[Feature], path: Path, genome: Genome) -> dict[str, str]:
    """The genome's name per contig of the file.

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
    """The features on the genome's contigs, by its names; RegionError where one ends beyond the contig."""
    lengths = genome.lengths
    for feature in features:
        contig = mapping.get(feature.contig)
        if contig is None:
            continue
        if feature.end > lengths[contig]:
            raise RegionError(
                f"end {feature.end} is beyond the contig {feature.contig} ({lengths[contig]:,} bp)",
                path=path, line=feature.line, hint="the file belongs to another assembly",
            )  # fmt: skip
        yield feature._replace(contig=contig)


def _assembled(features: Iterable[Feature]) -> Genes:
    """Genes with their start sites. A gene is told by contig, strand and id: UCSC gives copies of a gene one id."""
    features = list(features)
    genes = [feature for feature in features if feature.kind == "gene"]
    transcripts = [feature for feature in features if feature.kind == "transcript"]
    names = {gene.genes[0]: gene.name for gene in genes}
    # In GFF3 a transcript may be part of another (a miRNA of its primary transcript): it starts no gene.
    inner = {transcript.transcript for transcript in transcripts} - {"", *names}
    place = {_key(gene, gene.genes[0]): i for i, gene in reversed(list(enumerate(genes)))}
    sites = list[tuple[int, int]]()
    for transcript in transcripts:
        for one in transcript.genes:
            if one in inner and one != transcript.transcript:
                continue
            at = place.setdefault(_key(transcript, one), len(genes))
            if at == len(genes):
                genes.append(transcript._replace(name=names.get(one, transcript.name)))
            if genes[at].kind == "transcript":  # this gene has no row: it is what its transcripts cover
                genes[at] = _joined(genes[at], transcript)
            sites.append((_tss(transcript), at))
    started = {at for _, at in sites}
    sites += [(_tss(gene), at) for at, gene in enumerate(genes) if at not in started]
    return _columns(genes, sites)


def _key(feature: Feature, gene: str) -> tuple[str, str, str]:
    return feature.contig, feature.strand, gene


def _joined(gene: Feature, other: Feature) -> Feature:
    return gene._replace(start=min(gene.start, other.start), end=max(gene.end, other.end))


def _tss(feature: Feature) -> int:
    """The base that is read first."""
    return feature.end - 1 if feature.strand == "-" else feature.start


def _columns(genes: list[Feature], sites: list[tuple[int, int]]) -> Genes:
    contigs = tuple(dict.fromkeys(gene.contig for gene in genes))
    place = {name: i for i, name in enumerate(contigs)}
    rows = np.array([(place[gene.contig], gene.start, gene.end) for gene in genes], np.int64).reshape(-1, 3)
    tss = np.array(sites, np.int64).reshape(-1, 2)
    return Genes(
        contigs, tuple(gene.name for gene in genes), tuple(gene.strand for gene in genes),
        rows[:, 0], rows[:, 1], rows[:, 2], tss[:, 0], tss[:, 1],
    )  # fmt: skip


def read_elements(name: str, path: Path, genome: Genome) -> Elements:
    """The intervals of a BED file on the genome's contigs, named by column 4, or "yes" where that is missing or a dot.

    RegionError with the line where the file is broken or reaches beyond a contig; GenomeError where no contig is shared.
    """
    intervals = read_intervals(path)
    intervals.on(genome.lengths)  # says what lies beyond a contig, with its line
    mapping = match_contigs(intervals.names, genome.sequences, str(path))
    contigs = tuple(dict.fromkeys(mapping.values()))
    index = {old: contigs.index(new) for old, new in mapping.items()}
    contig = np.array([index.get(old, -1) for old in intervals.names], np.int64)[intervals.contig]
    on = contig >= 0
    texts = _fourth_column(path, intervals.line[on])
    names = tuple(sorted(set(texts)))
    rank = {text: i for i, text in enumerate(names)}
    label = np.array([rank[text] for text in texts], np.int64)
    return Elements(name, contigs, names, contig[on], intervals.start[on], intervals.end[on], label)


def _fourth_column(path: Path, lines: Ints) -> list[str]:
    """The fourth cell of the lines with these numbers, which ascend."""
    wanted, found = iter(lines.tolist()), list[str]()
    next_line = next(wanted, None)
    for number, line in read_lines(path, RegionError):
        if number == next_line:
            cells = line.split(b"\t", 4) if b"\t" in line else line.split(None, 4)
            text = cells[3].decode("utf-8", "replace").strip() if len(cells) > 3 else ""
            found.append("yes" if text in ("", ".") else text)
            next_line = next(wanted, None)
    return found


def parse_named_file(text: str) -> tuple[str, Path]:
    """The two halves of NAME=FILE. ConfigError where it is something else.

    >>> parse_named_file("enhancers=cCRE.bed")
    ('enhancers', PosixPath('cCRE.bed'))
    """
    found = re.fullmatch(r"([A-Za-z][A-Za-z0-9_.-]*)=(.+)", text, re.DOTALL)
    if found is None:
        raise ConfigError(
            f"{text!r} is not NAME=FILE",
            hint="for example enhancers=enhancers.bed; a name is a letter, then letters, digits and _ . -",
        )
    return found[1], Path(found[2])
