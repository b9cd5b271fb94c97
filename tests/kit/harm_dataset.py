"""The dataset folder, as `mfd evaluate` opens it: manifest.json, and the files beside it.

`edited` and its kin rewrite every digest, as someone would who makes a dataset with a tool of their own: then what the files
say has to be looked at.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kit.harm import Change, Kind, any_file, bytes_changed, flipped, replaced
from mfd_cli.base.stored_json import DIGEST, write_stored

Tree = dict[str, Any]
Make = Callable[[Path], None]
TEST = "shards/test-00000.arrow"


def edited(how: Callable[[Tree], object], digest: bool = True) -> Make:
    """A JSON file of ours whose entries are changed in place, with the digest of what it says then."""

    def change(path: Path) -> None:
        tree = json.loads(path.read_text())
        before = tree.pop(DIGEST)
        how(tree)
        path.unlink()
        if digest:
            write_stored(path, tree)
        else:
            path.write_text(json.dumps({**tree, DIGEST: before}))

    return change


def put(value: object, *keys: str | int) -> Callable[[Tree], None]:
    """Another value at a place in a tree."""

    def change(tree: Tree) -> None:
        node: Any = tree
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value

    return change


def without(*keys: str | int) -> Callable[[Tree], None]:
    def change(tree: Tree) -> None:
        node: Any = tree
        for key in keys[:-1]:
            node = node[key]
        del node[keys[-1]]

    return change


def raw_text(old: str, new: str) -> Make:
    """Another text in the file, without its digest."""

    def change(path: Path) -> None:
        lines = [line for line in path.read_text().splitlines() if f'"{DIGEST}"' not in line]
        text = "\n".join(lines).rstrip("}\n ").rstrip(",") + "\n}\n"
        assert old in text and json.loads(text)
        path.write_text(text.replace(old, new, 1))

    return change


def beside(name: str, make: Make) -> Make:
    """A change of another file of the folder."""
    return lambda path: make(path.parent / name)


def described(path: Path, name: str) -> None:
    """Rewrite size and digest of a file in the manifest."""

    def change(tree: Tree) -> None:
        raw = (path.parent / name).read_bytes()
        entries = [shard for split in tree["splits"].values() for shard in split["shards"]]
        found = tree["files"].get(name) or next(shard for shard in entries if f"shards/{shard['file']}" == name)
        found |= {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}

    edited(change)(path)


def table(name: str, how: Callable[[pa.Table], pa.Table], write: Callable[..., Any] = pa.ipc.new_file) -> Make:
    """Another table in a file of the dataset, with the right digest."""

    def change(path: Path) -> None:
        with pa.OSFile(str(path.parent / name)) as source:
            changed = how(pa.ipc.open_file(source).read_all())
        with pa.OSFile(str(path.parent / name), "wb") as sink, write(sink, changed.schema) as writer:
            writer.write_table(changed)
        described(path, name)

    return change


def bytes_of(name: str, how: Callable[[bytes], bytes]) -> Make:
    """Other bytes in a file of the dataset, with the right digest."""

    def change(path: Path) -> None:
        bytes_changed(how)(path.parent / name)
        described(path, name)

    return change


def parquet(path: Path) -> None:
    """The test shard as a Parquet file."""
    file = path.parent / TEST
    pq.write_table(pa.table({"start": pa.ipc.open_file(file.read_bytes()).read_all()["start"]}), file)
    described(path, TEST)


def column(name: str, how: Callable[[pa.ChunkedArray], Any]) -> Callable[[pa.Table], pa.Table]:
    """Another column in the place of one."""
    return lambda t: t.set_column(t.column_names.index(name), name, how(t[name]))


def numbers(how: Callable[[np.ndarray], np.ndarray]) -> Callable[[pa.ChunkedArray], pa.Array]:
    return lambda column: pa.array(how(column.to_numpy().copy()))


def starts(how: Callable[[np.ndarray], np.ndarray]) -> Make:
    return table(TEST, column("start", numbers(how)))


def at(place: int, value: int) -> Callable[[np.ndarray], np.ndarray]:
    """One number of an array changed."""

    def change(values: np.ndarray) -> np.ndarray:
        values[place] = value
        return values

    return change


def contig_codes(how: Callable[[np.ndarray], np.ndarray], names: list[str] | None = None) -> Callable[[Any], Any]:
    def change(column: pa.ChunkedArray) -> pa.Array:
        array = column.chunk(0)
        codes = pa.array(how(array.indices.to_numpy().copy()), pa.int32())
        return pa.DictionaryArray.from_arrays(codes, pa.array(names or array.dictionary.to_pylist()), safe=False)

    return change


def every_file() -> list[Change]:
    """Each file of the folder missing, cut, damaged or another thing."""
    result = []
    for name in ("genome.arrow", "tracks.arrow", TEST, "shards/train-00000.arrow"):
        short = Path(name).name
        result += [
            Change(f"{short} is missing", beside(name, Path.unlink), says=short),
            Change(f"{short} is empty", beside(name, bytes_changed(lambda _: b"")), says=short),
            Change(f"{short} is a folder", beside(name, lambda p: replaced(p, Path.mkdir)), says=short),
            Change(f"{short} is a pipe", beside(name, lambda p: replaced(p, os.mkfifo)), says=short),
            Change(
                f"{short} is cut in the middle",
                beside(name, bytes_changed(lambda raw: raw[: len(raw) // 2])),
                says=short,
            ),
            Change(f"{short} is cut by one byte", beside(name, bytes_changed(lambda raw: raw[:-1])), says=short),
            Change(
                f"{short} is cut, and its digest right",
                bytes_of(name, lambda raw: raw[: len(raw) // 2]),
                "either" if "train" in name else "refused",
            ),  # evaluate does not read the training split
            Change(
                f"{short} is random, and its digest right",
                bytes_of(name, lambda raw: np.random.default_rng(0).bytes(len(raw))),
                "either" if "train" in name else "refused",
            ),
            *(
                Change(
                    f"{short} has a bit flipped at {share} %",
                    beside(name, bytes_changed(lambda raw, s=share: flipped(raw, len(raw) * s // 100))),
                    says=short,
                )
                for share in (1, 30, 60, 99)
            ),
        ]
    return result


def manifest() -> list[Change]:
    """What manifest.json says."""
    shard = ("splits", "test", "shards", 0)
    here = "manifest.json"
    return [
        *(
            Change(f"without {key}", edited(without(*key.split("."))), says=here)
            for key in (
                "format",
                "version",
                "genome_digest",
                "contigs",
                "splits",
                "splits.test",
                "splits.train.bins",
                "splits.train.with_data",
                "splits.train.shards",
                "files",
                "inputs",
                "summary",
            )
        ),
        Change("without genome.arrow", edited(without("files", "genome.arrow")), says=here),
        Change("without tracks.arrow", edited(without("files", "tracks.arrow")), says=here),
        Change("without bins.arrow", edited(without("files", "bins.arrow")), says=here),
        Change("a shard without a digest", edited(without(*shard, "sha256")), says=here),
        Change("a shard without a size", edited(without(*shard, "bytes")), says=here),
        Change("a shard without a name", edited(without(*shard, "file")), says=here),
        Change("without its digest", edited(lambda tree: None), "read"),
        Change("of another format", edited(put("mfd-run", "format")), says="is mfd-run version 2"),
        Change("of version 99", edited(put(99, "version")), says="version 99"),
        Change("of version 1.0", edited(put("1", "version"))),
        Change("of version true", edited(put(True, "version"))),
        Change("of a format of a megabyte", edited(put("x" * (1 << 20), "format"))),
        Change("of a format with escape codes", edited(put("\x1b[31mred", "format"))),
        Change("a list", bytes_changed(lambda _: b"[1, 2]"), says=here),
        Change("a number", bytes_changed(lambda _: b"17"), says=here),
        Change("null", bytes_changed(lambda _: b"null"), says=here),
        Change("an empty object", bytes_changed(lambda _: b"{}"), says=here),
        Change("cut in the middle", bytes_changed(lambda raw: raw[: len(raw) // 2]), says="is not JSON"),
        Change("cut by two bytes", bytes_changed(lambda raw: raw[:-2]), says="is not JSON"),
        Change("twice", bytes_changed(lambda raw: raw + raw), says="is not JSON"),
        Change(
            "deeply nested", bytes_changed(lambda _: b'{"a":' * 100_000 + b"1" + b"}" * 100_000), says="is not JSON"
        ),
        Change("gzip", bytes_changed(gzip.compress), says="is not JSON"),
        Change("UTF-16", bytes_changed(lambda raw: raw.decode().encode("utf-16")), says="is not JSON"),
        Change(
            "a byte that is not UTF-8",
            bytes_changed(lambda raw: raw.replace(b'"chr1"', b'"chr\xff"', 1)),
            says="is not JSON",
        ),
        Change("NaN", raw_text('"bins": 156', '"bins": NaN'), says="is not JSON"),
        Change("infinity", raw_text('"bins": 156', '"bins": -Infinity'), says="is not JSON"),
        Change("1e999", raw_text('"bins": 156', '"bins": 1e999'), says="damaged"),
        Change("a number of 5000 digits", raw_text('"bins": 156', '"bins": ' + "9" * 5000), says="is not JSON"),
        Change("Windows line ends", bytes_changed(lambda raw: raw.replace(b"\n", b"\r\n")), "read"),
        Change(
            "on one line", lambda path: (path.write_text(json.dumps(json.loads(path.read_text()))), None)[1], "read"
        ),
        *(
            Change(
                f"a bit flipped in {word}",
                bytes_changed(lambda raw, w=word: flipped(raw, raw.index(w.encode()) + 2, 0)),
            )
            for word in ('"min_overlap"', '"column"', '"Target"', "312", '"genome_digest"', '"sha256"', '"summary"')
        ),
        Change(
            "another value and the old digest",
            edited(put("x", "configuration", "data", "run"), digest=False),
            says="damaged",
        ),
        Change("another digest of the test shard", edited(put("0" * 64, *shard, "sha256")), says="test-00000"),
        Change("a digest that is none", edited(put("abc", *shard, "sha256")), says=here),
        Change("a digest of a newline more", edited(put("0" * 64 + "\n", *shard, "sha256")), says=here),
        Change("a digest that is a number", edited(put(7, *shard, "sha256")), says=here),
        Change("another size", edited(put(17, *shard, "bytes")), says="test-00000"),
        Change("a size below zero", edited(put(-1, *shard, "bytes")), says=here),
        Change("a size of 10^30", edited(put(10**30, *shard, "bytes")), says=here),
        Change("a size as text", edited(put("4018", *shard, "bytes")), says=here),
        Change(
            "other numbers of bins",
            edited(lambda tree: [put(155, "splits", "test", "with_data")(tree), put(155, *shard, "bins")(tree)]),
            says="test-00000.*155 bins",
        ),
        Change(
            "other numbers of bins altogether",
            edited(put(155, "splits", "test", "bins")),
            says="155 bins, 156 of them with data, its shards 156",
        ),
        Change("more bins than there are", edited(put(157, "splits", "test", "bins")), says="has 156 test bins"),
        Change("bins below zero", edited(put(-156, *shard, "bins")), says=here),
        Change(
            "a shard twice",
            edited(
                lambda tree: [
                    tree["splits"]["test"].update(shards=tree["splits"]["test"]["shards"] * 2),
                    put(312, "splits", "test", "bins")(tree),
                    put(312, "splits", "test", "with_data")(tree),
                ]
            ),
            says="twice",
        ),
        Change(
            "a shard of two splits",
            edited(lambda tree: tree["splits"].update(test=tree["splits"]["train"])),
            says="twice",
        ),
        Change("shards that are no list", edited(put({}, "splits", "test", "shards")), says=here),
        Change(
            "no test bins",
            edited(put({"bins": 0, "with_data": 0, "shards": []}, "splits", "test")),
            says="has 156 test bins, manifest.json 0",
        ),
        *(
            Change(f"a shard at {name[:20]!r}", edited(put(name, *shard, "file")), says=here)
            for name in (
                "../genome.arrow",
                "/etc/passwd",
                "a/b.arrow",
                "",
                ".",
                "..",
                "x\0y",
                "test.arrow\n",
                "~/x",
                "\u202e",
            )
        ),
        Change("a shard of a long name", edited(put("a" * 5000, *shard, "file"))),
        Change(
            "a file that nobody asks for", edited(put({"bytes": 1, "sha256": "x"}, "files", "../genome.fa")), "read"
        ),
        Change("contigs in another order", edited(lambda tree: tree["contigs"].reverse()), says="other contigs"),
        Change("a contig that is longer", edited(put(40_001, "contigs", 0, "length")), says="other contigs"),
        Change("a contig of another name", edited(put("1", "contigs", 0, "name")), says="other contigs"),
        Change("no contigs", edited(put([], "contigs")), says=here),
        Change("a genome digest that is none", edited(put("b421", "genome_digest")), says=here),
        # It is compared with that of a model where a genome is chosen, and by mfd verify, which has the time.
        Change("another genome digest", edited(put("0" * 64, "genome_digest")), "either"),
        Change("an entry of another mfd", edited(put({"a": 1}, "comment")), "read"),
        Change("another file in the folder", beside("notes.txt", lambda p: (p.write_text("mine"), None)[1]), "read"),
        Change(
            "a file of another dataset",
            beside("shards/train-00001.arrow", lambda p: (p.write_text("x"), None)[1]),
            "read",
        ),
        Change("the folder is a file", lambda path: (shutil.rmtree(path.parent), path.parent.write_text("x"), None)[2]),
        Change(
            "the folder is empty",
            lambda path: (shutil.rmtree(path.parent), path.parent.mkdir(), None)[2],
            says="no dataset here",
        ),
        Change(
            "the folder is a run",
            lambda path: (shutil.rmtree(path.parent), shutil.copytree(path.parent.parent / "run", path.parent), None)[
                2
            ],
            says="no dataset here",
        ),
    ]


def shards() -> list[Change]:
    """What stands in the test shard, its digest being right."""
    peaks = column("peaks", lambda c: pa.array([x.as_py() * 2 for x in c], pa.binary(2)))
    signal = column("signal", lambda c: pa.array([[*x.as_py(), 1.0] for x in c], pa.list_(pa.float32(), 2)))
    names = ["chr1", "chr2", "chr10"]
    return [
        Change(
            "a shard as an Arrow stream", table(TEST, lambda t: t, pa.ipc.new_stream), says="test-00000.*not an Arrow"
        ),
        Change("a shard as Parquet", parquet, says="test-00000"),
        Change("a shard in two batches", table(TEST, lambda t: pa.concat_tables([t[:50], t[50:]])), says="test-00000"),
        *(
            Change(
                f"a shard without {name}",
                table(TEST, lambda t, n=name: t.drop_columns([n])),
                says=f"test-00000.*{name}",
            )
            for name in ("contig", "start", "peaks", "signal")
        ),
        Change("a shard with a column more", table(TEST, lambda t: t.append_column("mine", t["start"])), "read"),
        Change("a shard with fewer bins", table(TEST, lambda t: t[:100].combine_chunks()), says="156 bins"),
        Change("a shard without bins", table(TEST, lambda t: t[:0]), says="156 bins"),
        Change(
            "a shard with more bins", table(TEST, lambda t: pa.concat_tables([t, t]).combine_chunks()), says="156 bins"
        ),
        Change("peaks of more tracks", table(TEST, peaks), says="test-00000.*peaks"),
        Change("signals of more tracks", table(TEST, signal), says="test-00000.*signal"),
        Change("starts as text", table(TEST, column("start", lambda c: c.cast(pa.string()))), says="test-00000.*start"),
        Change(
            "starts as float", table(TEST, column("start", lambda c: c.cast(pa.float64()))), says="test-00000.*start"
        ),
        Change(
            "missing starts",
            table(TEST, column("start", lambda c: pa.array([None, *c.to_pylist()[1:]]))),
            says="missing values",
        ),
        Change("starts between bins", starts(lambda v: v + 1), says="chr2:1"),
        Change("a start below zero", starts(at(0, -128)), says="chr2:-128"),
        Change("a start beyond the contig", starts(at(-1, 128 * 10**9)), says="not of its split"),
        Change("a start in the last half bin", starts(at(-1, 19_968)), says="chr2:19968"),
        Change("a start of 2^63 - 1", starts(at(-1, (1 << 63) - 1)), says="not of its split"),
        Change("starts not in order", starts(lambda v: v[::-1].copy()), says="out of order"),
        Change("a start twice", starts(at(1, 0)), says="out of order"),
        Change("a contig out of range", table(TEST, column("contig", contig_codes(at(0, 77)))), says="test-00000"),
        Change("a contig below zero", table(TEST, column("contig", contig_codes(at(0, -1)))), says="test-00000"),
        Change(
            "contigs of another genome",
            table(TEST, column("contig", contig_codes(lambda v: v, ["1", "2", "10"]))),
            says="other contigs",
        ),
        Change(
            "contigs in another order of names",
            table(TEST, column("contig", contig_codes(lambda v: v, names[::-1]))),
            says="other contigs",
        ),
        Change(
            "contigs as text", table(TEST, column("contig", lambda c: c.cast(pa.string()))), says="test-00000.*contig"
        ),
    ]


def runs() -> list[Change]:
    """What stands in bins.arrow, its digest being right."""
    here = "bins.arrow"

    def numbers(name: str, how: Callable[[np.ndarray], np.ndarray]) -> Make:
        return table(here, column(name, lambda c: pa.array(how(c.to_numpy().copy()))))

    return [
        Change("runs as an Arrow stream", table(here, lambda t: t, pa.ipc.new_stream), says=here),
        Change("no runs", table(here, lambda t: t[:0]), says="has no bins"),
        Change("a run fewer", table(here, lambda t: t[:-1]), says="every bin of the genome once"),
        Change(
            "a run twice", table(here, lambda t: pa.concat_tables([t, t[-1:]])), says="every bin of the genome once"
        ),
        *(
            Change(f"runs without {name}", table(here, lambda t, n=name: t.drop_columns([n])), says=f"{here}.*{name}")
            for name in ("contig", "start", "end", "state")
        ),
        Change("a run that begins in a bin", numbers("start", at(0, 1)), says="every bin of the genome once"),
        Change("a run that ends before it begins", numbers("end", at(0, -128)), says="every bin of the genome once"),
        Change("a run beyond its contig", numbers("end", at(0, 128 * 10**9)), says="every bin of the genome once"),
        Change(
            "another state",
            table(
                here,
                column(
                    "state",
                    lambda c: pa.DictionaryArray.from_arrays(c.combine_chunks().indices, pa.array(["x"] * 8)),
                ),
            ),
            says="other states",
        ),
        Change(
            "masks of more tracks",
            table(
                here,
                lambda t: t.append_column(
                    "measured",
                    pa.DictionaryArray.from_arrays(
                        pa.array([0] * len(t), pa.int32()), pa.array([b"abc"], pa.binary(3))
                    ),
                ),
            ),
            says=f"{here}.*measured",
        ),
        Change("a column more", table(here, lambda t: t.append_column("mine", t["start"])), "read"),
    ]


def tracks_and_genome() -> list[Change]:
    """What stands in tracks.arrow and genome.arrow, their digests being right."""

    def tracks(how: Callable[[pa.Table], pa.Table]) -> Make:
        return table("tracks.arrow", how)

    def cell(name: str, value: object, row: int = 0) -> Make:
        return tracks(
            column(name, lambda c: pa.array([value if i == row else v for i, v in enumerate(c.to_pylist())], c.type))
        )

    def genome(how: Callable[[pa.Table], pa.Table]) -> Make:
        return table("genome.arrow", how)

    here = "tracks.arrow"
    return [
        Change("other tracks than the model's", cell("id", "T9"), says="that the dataset lacks: "),
        Change("tracks in another order", tracks(lambda t: t.take([1, 0, 2, 3, 4])), says="in another order, from "),
        Change("a track fewer", tracks(lambda t: t[1:]), says="has 1 track that the dataset lacks: "),
        Change("a signal that is peaks", cell("kind", "peaks", 4)),
        Change("no tracks", tracks(lambda t: t[:0]), says=here),
        Change("a track twice", cell("id", "T2"), says="'T2' is there twice"),
        Change("a track without an id", cell("id", ""), says=here),
        Change("a missing id", cell("id", None), says=here),
        Change("a kind that is none", cell("kind", "both"), says=here),
        Change("positives below zero", cell("positives", -5), says=here),
        Change("measured bins below zero", cell("measured", -5), says=here),
        Change("a mean signal of NaN", cell("mean_signal", float("nan")), says=here),
        Change("a mean signal of infinity", cell("mean_signal", float("inf"), 4), says=here),
        Change("a missing cell of the table", cell("metadata.Target", None), says=here),
        Change("tracks without ids", tracks(lambda t: t.drop_columns(["id"])), says=here),
        Change("ids that are numbers", tracks(column("id", lambda c: pa.array(range(len(c))))), says=here),
        Change("tracks as an Arrow stream", table("tracks.arrow", lambda t: t, pa.ipc.new_stream), says=here),
        # What the model was trained with stands in the model, so evaluate does not need the table.
        Change("without a column of the table", tracks(lambda t: t.drop_columns(["metadata.Lab"])), "read"),
        Change("genome as an Arrow stream", table("genome.arrow", lambda t: t, pa.ipc.new_stream), says="genome.arrow"),
        Change("genome without a contig", genome(lambda t: t[:2]), says="other contigs"),
        Change("genome with a contig twice", genome(lambda t: pa.concat_tables([t, t[:1]])), says="genome.arrow"),
        Change(
            "genome with a wrong length",
            genome(column("length", lambda c: pa.array([40_001, 20_000, 12_000]))),
            says="genome.arrow",
        ),
        Change(
            "genome with a shorter contig",
            genome(column("sequence", lambda c: pa.array([v.as_py()[:-1] for v in c], pa.large_binary()))),
            says="genome.arrow",
        ),
        Change(
            "genome as text",
            genome(column("sequence", lambda c: pa.array([v.as_py().decode() for v in c]))),
            says="genome.arrow",
        ),
        Change(
            "genome without sequences",
            genome(column("sequence", lambda c: pa.array([None] * 3, pa.large_binary()))),
            says="genome.arrow",
        ),
    ]


CHANGES = [*any_file(), *manifest(), *every_file(), *shards(), *runs(), *tracks_and_genome()]

KINDS = [
    Kind(
        "dataset",
        "dataset/manifest.json",
        ("evaluate", "-q", "--gpus", "0", "--threads", "1"),
        ("run/evaluation-test",),
        CHANGES,
        trained=True,
        names="dataset",
    )
]
