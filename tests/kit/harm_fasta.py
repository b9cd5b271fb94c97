"""FASTA: the genome of `mfd preprocess`, and the index beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from kit.harm import CONTIGS, Change, Kind, any_file, any_text, bytes_changed, line_changed, wrapped


def swapped(old: bytes, new: bytes) -> Callable[[Path], None]:
    """Other bytes in place of the first of these."""
    return bytes_changed(lambda text: text.replace(old, new, 1))


def added(more: bytes) -> Callable[[Path], None]:
    """Something behind the end."""
    return bytes_changed(lambda text: text + more)


def instead(text: bytes) -> Callable[[Path], None]:
    """Another file altogether."""
    return bytes_changed(lambda _: text)


def beside(suffix: str, text: bytes) -> Callable[[Path], None]:
    """Another file beside this one, its name with a suffix."""
    return lambda path: (path.with_name(path.name + suffix).write_bytes(text), None)[1]


def index(**lengths: int) -> bytes:
    """A .fai that tells these lengths besides the right ones."""
    text, at = "", 0
    for name, length in {**CONTIGS, **lengths}.items():
        at += len(name) + 2
        text += f"{name}\t{length}\t{at}\t60\t61\n"
        at += length + -(-length // 60)
    return text.encode()


def contigs(text: bytes) -> list[bytes]:
    """The parts of a FASTA, each with its header."""
    return [b">" + part for part in text.split(b">")[1:]]


def rewrapped(width: int) -> Callable[[Path], None]:
    """Lines of another length."""

    def change(text: bytes) -> bytes:
        parts = [part.decode().split("\n", 1) for part in contigs(text)]
        return "".join(f"{head}\n{wrapped(body.replace(chr(10), ''), width)}" for head, body in parts).encode()

    return bytes_changed(change)


def letter(shown: str) -> tuple[Callable[[Path], None], str]:
    """A letter within the first line of sequence, and what must be said of it."""
    return line_changed(
        1, lambda line: line[:30] + shown + line[30:]
    ), rf"genome\.fa:2: '{'[*]' if shown == '*' else shown}"


def headers() -> Iterator[Change]:
    """Names of contigs."""
    yield Change(
        "a header without a name", swapped(b">chr2\n", b">\n"), says=r"genome\.fa:\d+: a header line has no name"
    )
    yield Change("a blank before a name", swapped(b">chr2", b"> chr2"), says="no name right after the >")
    yield Change("a tab before a name", swapped(b">chr2", b">\tchr2"), says="no name right after the >")
    yield Change("a name twice", swapped(b">chr2", b">chr1"), says="contig 'chr1' is there twice")
    yield Change("the whole file twice", bytes_changed(lambda text: text * 2), says="contig 'chr1' is there twice")
    yield Change("an escape code in a name", swapped(b">chr2", b">chr2\x1b[31m"), says="is not a contig name")
    yield Change("a NUL byte in a name", swapped(b">chr2", b">ch\0r2"), says="byte .* is zero")
    yield Change("a Ctrl-A behind a name", swapped(b">chr2", b">chr2\x01gi|5"), says="is not a contig name")
    yield Change("an accent in a name", swapped(b">chr2", ">chr2é".encode()), says="is not a contig name")
    yield Change("full-width letters in a name", swapped(b">chr2", ">ｃｈｒ2".encode()), says="is not a contig name")
    yield Change("a no-break space in a name", swapped(b">chr2", ">chr2\u00a0x".encode()), says="is not a contig name")
    yield Change("a header of 64 MiB", swapped(b">chr2", b">chr2 " + b"x" * (64 << 20)), says="a line has more than")
    yield Change("sequence behind the name", swapped(b">chr2\n", b">chr2"), says="reach|beyond|chr2")
    yield Change("a description with blanks", swapped(b">chr2", b">chr2 dna:chromosome GRCh38:2:1:20000:1 REF"), "read")
    yield Change("a description with tabs", swapped(b">chr2", b">chr2\tLN:20000\tAS:GRCh38"), "read")
    yield Change("a description with other letters", swapped(b">chr2", ">chr2 Höhle — 染色体".encode()), "read")
    yield Change("a description in Latin-1", swapped(b">chr2", b">chr2 H\xf6hle"), "read")
    yield Change("a description with an escape code", swapped(b">chr2", b">chr2 \x1b[31mred"), "read")
    yield Change("a description of 1 MiB", swapped(b">chr2", b">chr2 " + b"x" * (1 << 20)), "read")
    yield Change("a description with >", swapped(b">chr2", b">chr2 > chr3 >"), "read")
    yield Change("names without chr", bytes_changed(lambda text: text.replace(b">chr", b">")), "read")
    yield Change(
        "a name of another kind besides", added(b">HLA-A*01:01:01:01\nACGT\n>gi|5|ref|NC_1.1|\nACGT\n"), "read"
    )
    yield Change("a name of 10,000 letters besides", added(b">" + b"x" * 10_000 + b"\nACGT\n"), "read")
    yield Change(
        "names of another source", bytes_changed(lambda text: text.replace(b">chr", b">NC_0000")), says="NC_0000"
    )
    yield Change(
        "names in upper case", bytes_changed(lambda text: text.replace(b">chr", b">CHR")), says="which the genome lacks"
    )


def sequence() -> Iterator[Change]:
    """Bases, and what is none."""
    for name, shown in {
        "a digit": "7",
        "a dash": "-",
        "a star": "*",
        "an exclamation mark": "!",
        "a dot": "[.]",
        "a > within": ">",
        "a blank within": " ",
        "a letter of RNA": "U",
        "an X": "X",
        "a quote": '"',
        "a lower-case e": "e",
    }.items():
        make, says = letter(shown.strip("[]"))
        yield Change(f"{name} in a line", make, says=says.replace("'.'", "'[.]'"))
    yield Change("RNA", bytes_changed(lambda text: text.replace(b"T", b"U")), says=r"genome\.fa:2: 'U' is not a base")
    yield Change(
        "protein",
        instead(b">chr1 P01308\nMALWMRLLPLLALLALWGPDPAAAFVNQHLCGSHLVEALYLVCGERGFFYTPKT\n"),
        says=r"genome\.fa:2: 'L' is not a base",
    )
    yield Change(
        "an alignment", bytes_changed(lambda text: text.replace(b"\n", b"--\n")), says="is not a base|contig name"
    )
    yield Change("FASTQ", instead(b"@chr1\nACGT\n+\nIIII\n"), says="is FASTQ, not FASTA")
    yield Change("FASTQ behind", added(b"@read\nACGT\n+\nIIII\n"), says="'@' is not a base")
    yield Change(
        "numbered lines as in GenBank", line_changed(1, lambda line: f"        1 {line}"), says="' ' is not a base"
    )
    yield Change("a tab behind a line", line_changed(1, lambda line: line + "\t"), says=r"genome\.fa:2: ")
    yield Change("a comment with ;", line_changed(1, lambda line: f"; comment\n{line}"), says=r"genome\.fa:2: ';'")
    yield Change(
        "full-width letters", line_changed(1, lambda line: line + "Ａ".encode().decode("latin-1")), says=":2: "
    )
    yield Change(
        "the mark of a conflict", line_changed(5, lambda line: f"<<<<<<< HEAD\n{line}"), says=r"genome\.fa:6: '<'"
    )
    yield Change(
        "sequence before the first header", bytes_changed(lambda text: b"ACGT\n" + text), says=r"genome\.fa:1: "
    )
    yield Change("a comment before the first header", bytes_changed(lambda text: b"# hg38\n" + text), says="'# hg38'")
    yield Change("no header at all", swapped(b">chr1\n", b""), says=r"genome\.fa:1: .* before the first header")
    yield Change("lower case", bytes_changed(lambda text: text.lower()), "read")
    yield Change("some lower case", line_changed(1, str.lower), "read")
    yield Change("all letters of IUPAC", line_changed(1, lambda line: "RYSWKMBDHVNryswkmbdhvn" + line[22:]), "read")
    yield Change(
        "a run of N",
        bytes_changed(lambda text: text[:7] + text[7:6107].translate(bytes.maketrans(b"ACGT", b"NNNN")) + text[6107:]),
        "read",
    )
    yield Change("blank lines at the end", added(b"\n\n\n"), "read")
    yield Change("blank lines at the start", bytes_changed(lambda text: b"\n\n" + text), "read")
    yield Change("blank lines within", bytes_changed(lambda text: text.replace(b"\n>", b"\n\n>")), "read")
    yield Change("blank lines within a contig", line_changed(3, lambda line: f"\n\n{line}\n"), "read")
    yield Change("Windows line ends here and there", line_changed(3, lambda line: line + "\r"), "read")
    yield Change("lines of 50", rewrapped(50), "read")
    yield Change("one base a line", rewrapped(1), "read")
    yield Change("a contig a line", rewrapped(1 << 20), "read")
    yield Change("a contig of 64 MiB on one line besides", added(b">big\n" + b"N" * (64 << 20) + b"\n"), "read")


def genomes() -> Iterator[Change]:
    """Contigs, and whether they are those of the tracks."""
    yield Change("an empty contig at the end", added(b">chr11\n"), says=r"contig 'chr11' is empty")
    yield Change(
        "an empty contig within", swapped(b">chr2", b">chr3\n\n>chr2"), says=r"genome\.fa:\d+: contig 'chr3' is empty"
    )
    yield Change(
        "headers only",
        bytes_changed(lambda text: b"".join(p[: p.index(b"\n") + 1] for p in contigs(text))),
        says="contig 'chr1' is empty",
    )
    yield Change("line ends only", instead(b"\n" * 5000), says="holds no contig")
    yield Change("cut in the middle", bytes_changed(lambda text: text[: len(text) // 2]), says="which the genome lacks")
    yield Change(
        "cut within the last header",
        bytes_changed(lambda text: text[: text.index(b">chr10") + 4]),
        says="'chr' is empty",
    )
    yield Change(
        "cut before the last line", bytes_changed(lambda text: text[: text.rindex(b"\n", 0, -1)]), says="chr10"
    )
    yield Change("cut by ten bases", bytes_changed(lambda text: text[:-11] + b"\n"), says="chr10")
    yield Change("one base less in the middle", line_changed(1, lambda line: line[1:]), says="chr1")
    yield Change("one base more", line_changed(1, lambda line: line + "A"), says="chr1")
    yield Change(
        "two names swapped",
        bytes_changed(
            lambda text: text.replace(b">chr1\n", b">x\n").replace(b">chr2\n", b">chr1\n").replace(b">x\n", b">chr2\n")
        ),
        says="chr1",
    )
    yield Change(
        "the test contig is missing", bytes_changed(lambda text: contigs(text)[0] + contigs(text)[2]), says="chr2"
    )
    yield Change("only other contigs", instead(b">scaffold_1\n" + b"ACGT" * 500 + b"\n"), says="which the genome lacks")
    yield Change("other order of contigs", bytes_changed(lambda text: b"".join(contigs(text)[::-1])), "read")
    yield Change("a contig of one base besides", added(b">chrM\nA\n"), "read")
    yield Change("a contig besides", added(b">chr3\n" + b"ACGTTGCA" * 500 + b"\n"), "read")
    yield Change("20,000 contigs besides", added(b"".join(b">s%d\nACGTACGTAC\n" % i for i in range(20_000))), "read")


def others() -> Iterator[Change]:
    """Files of other kinds under this name."""
    yield Change("2bit", instead(bytes.fromhex("4327411a") + bytes(60)))
    yield Change("bzip2", instead(b"BZh91AY&SY" + b"\x8a\x01\xfe" * 50))
    yield Change("xz", instead(b"\xfd7zXZ\x00" + b"\x8a\x01\xfe" * 50))
    yield Change("zstd", instead(b"\x28\xb5\x2f\xfd" + b"\x8a\x01\xfe" * 50))
    yield Change("GenBank", instead(b"LOCUS       NC_000001  40 bp\nORIGIN\n        1 acgtacgtac\n//\n"), says="'LOCUS")
    yield Change("VCF", instead(b"##fileformat=VCFv4.2\n#CHROM\tPOS\nchr1\t5\n"), says=r"genome\.fa:1: ")
    yield Change("BED", instead(b"chr1\t5\t9\n"), says=r"genome\.fa:1: ")
    yield Change("its own index", instead(index()), says=r"genome\.fa:1: ")
    yield Change("a path", instead(b"C:\\genomes\\hg38.fa\n"), says=r"genome\.fa:1: ")
    yield Change("a message of a server", instead(b'{"error": "not found"}\n'), says=r"genome\.fa:1: ")


def indexes() -> Iterator[Change]:
    """A .fai is checked, and never read from: only the sequence itself is."""
    stale = "does not agree with its index"
    yield Change("the right index", beside(".fai", index()), "read")
    yield Change("an index in other order", beside(".fai", b"".join(index().splitlines(True)[::-1])), "read")
    yield Change("an index with wrong offsets", beside(".fai", index().replace(b"\t60\t61", b"\t70\t99")), "read")
    yield Change("an index with Windows line ends", beside(".fai", index().replace(b"\n", b"\r\n")), "read")
    yield Change("an index of another length", beside(".fai", index(chr2=20_001)), says=stale)
    yield Change("an index with one more contig", beside(".fai", index(chr3=500)), says=rf"{stale}.*chr3: missing")
    yield Change("an index with one contig less", beside(".fai", b"".join(index().splitlines(True)[:2])), says=stale)
    yield Change("an index of another genome", beside(".fai", b"I\t230218\t3\t60\t61\n"), says=stale)
    yield Change("an empty index", beside(".fai", b""), says=stale)
    yield Change("a cut index", beside(".fai", index()[:-30]), says="index")
    yield Change("an index of random bytes", beside(".fai", bytes(range(256))))
    yield Change(
        "an index with superscript digits",
        beside(".fai", index().replace(b"\t20000", "\t2²".encode())),
        says=r"genome\.fa\.fai:2: is not a FASTA index",
    )
    yield Change(
        "an index with a huge number",
        beside(".fai", index().replace(b"\t20000", b"\t" + b"9" * 5000)),
        says=r"genome\.fa\.fai:2: is not a FASTA index",
    )
    # What is no file is no index. These two would make samtools hang or fail.
    yield Change("a pipe for an index", lambda path: os.mkfifo(path.with_name(path.name + ".fai")), "read")
    yield Change("a folder for an index", lambda path: path.with_name(path.name + ".fai").mkdir(), "read")
    yield Change("rubbish as .gzi", beside(".gzi", b"rubbish"), "read")


CHANGES = [*any_file(), *any_text(), *headers(), *sequence(), *genomes(), *others(), *indexes()]

# Where a genome is right in itself and not that of the tracks, the error names a track, and the genome for what it is.
KINDS = [
    Kind(
        "fasta",
        "genome.fa",
        ("preprocess", "-q", "--threads", "1"),
        ("dataset",),
        CHANGES,
        names=r"genome\.fa|(in )?the genome",
    )
]
