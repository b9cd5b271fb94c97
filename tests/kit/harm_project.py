"""mfd.toml: the settings of a project."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from kit.harm import Change, Kind, any_file, any_text, bytes_changed


def told(old: str, new: str) -> Callable[[Path], None]:
    """Another text in place of one that is there."""

    def change(path: Path) -> None:
        text = path.read_text()
        assert old in text, old
        path.write_text(text.replace(old, new, 1))

    return change


def added(section: str, line: str) -> Callable[[Path], None]:
    """One more line right under a section's header, which is added where there is none."""

    def change(path: Path) -> None:
        text = path.read_text()
        head = f"[{section}]\n"
        path.write_text(text.replace(head, f"{head}{line}\n", 1) if head in text else f"{text}\n{head}{line}\n")

    return change


def whole(text: str) -> Callable[[Path], None]:
    """All of another file."""
    return bytes_changed(lambda _: text.encode())


def toml_changes() -> Iterator[Change]:
    yield from syntax()
    yield from unusual()
    yield from keys()
    yield from values()
    yield from misfits()


def syntax() -> Iterator[Change]:
    yield Change("an open section", told("[data]", "[data"), says=":1: is not TOML")
    yield Change("an open string", told('"genome.fa"', '"genome.fa'), says=":2: is not TOML")
    yield Change("an open list", told('["chr2"]', '["chr2"'), says=r":\d+: is not TOML")
    yield Change("no quotes", told('"genome.fa"', "genome.fa"), says=":2: is not TOML")
    yield Change("no value", told('"genome.fa"', ""), says=":2: is not TOML")
    yield Change("a colon for an equals sign", told("fasta =", "fasta:"), says=":2: is not TOML")
    yield Change("YAML", whole("data:\n  fasta: genome.fa\n"), says=":1: is not TOML")
    yield Change("JSON", whole('{"data": {"fasta": "genome.fa"}}\n'), says=":1: is not TOML")
    yield Change("a backslash of Windows", told('"genome.fa"', '"C:\\genome.fa"'), says=":2: is not TOML")
    yield Change("a key twice", added("data", 'metadata = "x.tsv"'), says=r":\d+: is not TOML")
    yield Change("a section twice", bytes_changed(lambda text: text + b"\n[train]\n"), says=r":\d+: is not TOML")
    yield Change("a date that is none", added("train", "seed = 2020-13-45"), says=r":\d+: is not TOML")
    yield Change("a key that is not ASCII", added("train", "gr\u00f6\u00dfe = 1"), says=r":\d+: is not TOML")
    yield Change("a number of 5,000 digits", added("train", f"seed = {'9' * 5000}"), says="is not TOML|train.seed")
    yield Change(
        "10,000 lists in each other", added("train", f"seed = {'[' * 10_000}{']' * 10_000}"), says="is not TOML"
    )
    yield Change("10,000 names in a key", added("train", f"{'a.' * 10_000}a = 1"), says=r":\d+: .*100 names")
    names = '"a" . ' * 100_000
    yield Change("100,000 names in a section's name", told("[train]", f"[{names}a]"), says="100 names")
    yield Change("Latin-1", bytes_changed(lambda text: b"# M\xfcller\n" + text), says="is not UTF-8")


def unusual() -> Iterator[Change]:
    yield Change("comments", bytes_changed(lambda text: b"# mine \xe2\x9c\x93\n" + text + b"# end"), "read")
    # TOML 1.0 lets a section be opened in one way only.
    yield Change(
        "dotted keys, and their section",
        told('[data]\nfasta = "genome.fa"\n', 'data.fasta = "genome.fa"\n[data]\n'),
        says=":2: is not TOML",
    )
    yield Change(
        "dotted keys",
        told(
            '[data]\nfasta = "genome.fa"\nmetadata = "metadata.tsv"\n',
            'data.fasta = "genome.fa"\ndata.metadata = "metadata.tsv"\n',
        ),
        "read",
    )
    yield Change(
        "a section in one line",
        bytes_changed(
            lambda text: (
                b'split = {test = ["chr2"], validation = ["chr10"]}\n'
                + text.replace(b'[split]\ntest = ["chr2"]\nvalidation = ["chr10"]\n', b"")
            )
        ),
        "read",
    )
    yield Change("quoted keys", told("fasta =", '"fasta" ='), "read")
    yield Change("single quotes", told('"genome.fa"', "'genome.fa'"), "read")
    yield Change("a string of several lines", told('"genome.fa"', '"""\ngenome.fa"""'), "read")
    yield Change("a list of several lines", told('["chr2"]', '[\n  "chr2", # ours\n]'), "read")
    yield Change("spaces", told("fasta =", "   fasta   ="), "read")
    yield Change("an underscore in a number", added("train", "max_windows = 1_000_000"), "read")
    yield Change("a number with an exponent", added("train", "max_windows = 1e6"), "read")
    yield Change(
        "sections in another order",
        bytes_changed(
            lambda text: b"\n[".join([b"[train]\nepochs = 1\nbatch_size = 32\n", text.split(b"\n[train]")[0][1:]])
        ),
        "read",
    )
    yield Change("an empty section", bytes_changed(lambda text: text + b"\n[objective]\n"), "read")
    yield Change("a contig without chr", told('["chr2"]', '["2"]'), "read")
    yield Change("a contig twice", told('["chr2"]', '["chr2", "chr2"]'), "read")
    yield Change(
        "no factors",
        bytes_changed(lambda text: text[: text.index(b"[factors")] + text[text.index(b"[model]") :]),
        "read",
    )
    yield Change("a group of one's own", told('group = "biological"', 'group = "individual"'), "read")
    yield Change("no penalty", bytes_changed(lambda text: text + b"\n[objective]\npenalties = {}\n"), "read")


def keys() -> Iterator[Change]:
    yield Change("only a comment", whole("# nothing yet\n"), says="no (metadata|genome)")
    yield Change("no [data]", whole("[train]\nepochs = 1\n"), says="no (metadata|genome)")
    yield Change("no genome", told('fasta = "genome.fa"\n', ""), says="no genome")
    yield Change("no metadata", told('metadata = "metadata.tsv"\n', ""), says="no metadata")
    yield Change("a misspelt section", told("[train]", "[trian]"), says=r":\d+: unknown key trian; did you mean train")
    yield Change("a misspelt key", told("epochs", "epoch"), says=r":\d+: unknown key train.epoch; did you mean epochs")
    yield Change("an upper-case key", told("fasta", "FASTA"), says=":2: unknown key data.FASTA; did you mean fasta")
    yield Change(
        "a key of another section", told("[data]\n", "[data]\nepochs = 3\n"), says=":2: unknown key data.epochs"
    )
    yield Change("a misspelt key of a factor", told("column", "colunm"), says=":17: .*colunm; did you mean column")
    yield Change("an unknown key of nobody", whole("x = 1\n"), says=":1: unknown key x")
    yield Change("a section that nobody knows", told("[split]", "[bins.x]\n[split]"), says=":12: unknown key bins.x")
    yield Change("an empty key", added("train", '"" = 1'), says="unknown key train")
    yield Change("a key in markup", added("train", '"[/nope]" = 1'), says=r"unknown key train\.\[/nope\]")
    yield Change("an escape code in a key", added("train", '"\\u001b[31m" = 1'), says="unknown key train")
    yield Change("a factor without a column", told('column = "Target"\n', ""), says=":16: factors.target.column")
    yield Change("a factor without a group", told('group = "biological"\n', ""), says=":16: factors.target.group")
    yield Change(
        "a factor with a name of its own kind", told("[factors.target]", '[factors."Zell Typ"]'), says=":16: .*Zell Typ"
    )
    yield Change("a factor without a name", told("[factors.target]", '[factors.""]'), says="factor")
    yield Change(
        "an unknown penalty",
        added("objective.penalties.distnace", "weight = 1"),
        says=r":\d+: .*distnace; did you mean distance",
    )
    yield Change(
        "a value for a section",
        told('[data]\nfasta = "genome.fa"\nmetadata = "metadata.tsv"\n', 'data = "x"\n'),
        says=":1: data: .*section",
    )
    yield Change("a list of sections", told("[train]", "[[train]]"), says=r":\d+: train: .*section")
    yield Change("a section for a value", added("train.epochs", "x = 1"), says="train.epochs|is not TOML")
    yield Change(
        "a value for the factors",
        bytes_changed(lambda text: b"factors = 3\n" + text[: text.index(b"[factors")] + text[text.index(b"[model]") :]),
        says=":1: factors: .*section",
    )


def values() -> Iterator[Change]:
    for value in (
        '"three"',
        "[3]",
        "{}",
        "true",
        "nan",
        "inf",
        "0",
        "-1",
        "1.5",
        "1" + "0" * 30,
        "2020-01-01",
        '""',
        "0x7fffffffff",
    ):
        yield Change(f"epochs = {value[:12]}", told("epochs = 1", f"epochs = {value}"), says=r":\d+: train.epochs")
    for value in ("nan", "inf", "-inf", "-0.1", "0", '"fast"', "true"):
        yield Change(f"lr = {value}", added("train", f"lr = {value}"), says=r":\d+: train.lr")
    for value in ("-1", "1" + "0" * 30, "0.5"):
        yield Change(f"seed = {value[:12]}", added("train", f"seed = {value}"), says=r":\d+: train.seed")
    for value in ("3", "true", '""', '["genome.fa"]', "2020-01-01"):
        yield Change(f"fasta = {value}", told('"genome.fa"', value), says=":2: data.fasta")
    for value in ('"chr2"', "3", '[["chr2"]]', "[2]", '{chr2 = "x"}', '[""]'):
        yield Change(f"test = {value}", told('["chr2"]', value), says="split.test")
    for value in ('"chr10"', "0", "0.5", "0.7", "nan", "-0.1", "true", "[10]"):
        yield Change(f"validation = {value}", told('["chr10"]', value), says=r":\d+: split.validation")
    for value in ('"some"', "-1", "nan", "inf", "true"):
        yield Change(f"max_unknown = {value}", told("0.5", value), says=r":\d+: bins.max_unknown")
    for value in ('"all"', '"peak"', "1", "true", "[]"):
        yield Change(f"draw = {value}", added("train", f"draw = {value}"), says=r":\d+: train.draw")
    yield Change("a bin of 200 bp", added("bins", "size = 200"), says=r":\d+: bins.size.*200")
    yield Change("an overlap of 0", added("bins", "min_overlap = 0"), says=r":\d+: bins.min_overlap")
    yield Change("an unknown role", added("factors.target", 'role = "direkt"'), says=":17: factors.target.role.*direkt")
    yield Change(
        "an unknown type", added("factors.target", 'type = "catgory"'), says=":17: factors.target.type.*catgory"
    )
    yield Change("an unknown encoding", added("factors.target", 'encode = "onehot"'), says=":17: factors.target.encode")
    yield Change("a group misspelt", told('"biological"', '"biologcal"'), says=":18: .*did you mean biological")
    yield Change("a group in upper case", told('"technical"', '"Technical"'), says=":22: .*did you mean technical")
    yield Change(
        "a group that the model lacks",
        added("model", "groups = {biological = 1, other = 1}"),
        says="factors.assay.group is 'technical'",
    )
    yield Change("a group of no share", added("model", "groups = {biological = 1, technical = 0}"), says="model.groups")
    yield Change("an unknown preset", told('"small"', '"smal"'), says=r":\d+: model.preset.*smal")
    yield Change(
        "a window that is not whole bins", told("window = 128", "window = 100"), says=r":\d+: model.window is 100"
    )
    yield Change("a window of an even number of bins", told("window = 128", "window = 256"), says=r":\d+: model.window")
    yield Change(
        "a window as long as the earth", told("window = 128", f"window = {128 * (2**40 + 1)}"), says="model.window"
    )
    yield Change("an odd width", told("width = 8", "width = 7"), says=r":\d+: model.width is 7")
    yield Change("fewer latents than groups", told("latent = 16", "latent = 1"), says=r":\d+: model.latent is 1")
    yield Change(
        "a negative penalty", added("objective.penalties.distance", "weight = -1"), says=r":\d+: .*distance.weight"
    )
    yield Change(
        "a penalty that is no number", added("objective.penalties.distance", "weight = nan"), says="distance.weight"
    )
    yield Change(
        "a penalty that starts after the end", added("objective.penalties.distance", "start = 2"), says="start"
    )


def misfits() -> Iterator[Change]:
    """Settings that are right by themselves and do not fit the files."""
    yield Change("a genome that is not there", told("genome.fa", "nowhere.fa"), says="nowhere.fa: no such file")
    yield Change("a table that is not there", told("metadata.tsv", "nowhere.tsv"), says="nowhere.tsv: no such file")
    yield Change(
        "a genome on the network",
        told("genome.fa", "https://nowhere.org/genome.fa"),
        says="error: https://nowhere.org/genome.fa: is a URL",
    )
    yield Change("the table for the genome", told('"genome.fa"', '"metadata.tsv"'), says="metadata.tsv:1: ")
    yield Change("the genome for the table", told('"metadata.tsv"', '"genome.fa"'), says="genome.fa:1: ")
    yield Change("a dataset without a name", added("data", 'dataset = ""'), says="data.dataset")
    yield Change("a dataset in the folder of the tracks", added("data", 'dataset = "tracks"'), says="tracks: ")
    yield Change("the project for the dataset", added("data", 'dataset = "."'))
    yield Change("a dataset in a folder of its own", added("data", 'dataset = "dataset/one"'), "read")
    yield Change("a column that is not there", told('"Target"', '"Taget"'), says="factors.target.*did you mean Target")
    yield Change("a column without a name", told('"Target"', '""'), says=":17: factors.target.column")
    yield Change(
        "an id column that is not there", told('"File accession"', '"File acession"'), says="tracks.id.*accession"
    )
    yield Change("a test contig that is not there", told('["chr2"]', '["chr99"]'), says="split.test.*'chr99'")
    yield Change(
        "a contig in test and validation", told('["chr10"]', '["chr2"]'), says="chr2 is in test and in validation"
    )
    yield Change("nothing to train on", told('["chr2"]', '["chr2", "chr1"]'), says="no bin is left for training")
    # Whole contigs are held out here, so that nothing lies near a border.
    yield Change("a guard of a whole contig", added("split", "guard = 2_000_000_000"), "read")
    yield Change(
        "regions that are not there", added("bins", 'regions = "nowhere.bed"'), says="nowhere.bed: no such file"
    )
    yield Change(
        "an exclusion that is not there", added("bins", 'exclude = "nowhere.bed"'), says="nowhere.bed: no such"
    )
    yield Change(
        "mappability that is not there", added("bins", 'mappability = "nowhere.bw"'), says="nowhere.bw: no such"
    )
    yield Change("mappability that is no bigWig", added("bins", 'mappability = "mfd.toml"'), says="mfd.toml: .*bigWig")
    yield Change("mappability above 1", added("bins", "min_mappability = 1.5"), says="less than or equal to 1")
    yield Change("folds beside a named test split", added("split", "folds = 2"), says="must not name it too")
    yield Change("a fold without folds", added("split", "fold = 2"), says="split.fold is 2")
    yield Change("one fold", added("split", "folds = 1"), says="greater than or equal to 2")
    yield Change(
        "more folds than contigs", told('test = ["chr2"]', "folds = 99"), says="more than the 3 contigs of the genome"
    )
    yield Change("a held-out track that is not there", added("train", 'held_out = ["T9"]'), "read")
    yield Change("a held-out level that is not there", added("train", 'held_out = [{target = "CTFC"}]'), "read")
    yield Change(
        "a held-out factor that is not there",
        added("train", 'held_out = [{targt = "CTCF"}]'),
        says="did you mean target",
    )
    yield Change(
        "all tracks held out", added("train", 'held_out = ["T1", "T2", "T3", "T4", "T5"]'), says="train.held_out"
    )


CHANGES = [*any_file(), *any_text(packed="refused"), *toml_changes()]

KINDS = [
    # What a setting names is told by its own name.
    Kind(
        "toml",
        "mfd.toml",
        ("preprocess", "-q", "--threads", "1"),
        ("dataset",),
        CHANGES,
        names=r"mfd\.toml|metadata\.tsv|nowhere|tracks:|genome\.fa|error: \.:",
    ),
]
