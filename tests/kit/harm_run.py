"""The run folder: model.json and model.safetensors as `mfd score-variants` opens them, last/ as `mfd train --resume` does.

`edited` and `weights` rewrite every digest, as someone would who makes a run with a tool of their own.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from kit.harm import Change, Kind, any_file, bytes_changed, flipped, replaced
from kit.harm_dataset import Make, Tree, beside, edited, put, raw_text, without

Tensors = dict[str, torch.Tensor]
WEIGHTS, STATE = "model.safetensors", "state-9.safetensors"


def stated(path: Path, name: str) -> None:
    """Rewrite the digest of a file of tensors in the description that names it."""
    keys = ("about", "weights_sha256") if name == WEIGHTS else ("sha256",)
    edited(put(hashlib.sha256((path.parent / name).read_bytes()).hexdigest(), *keys))(path)


def bytes_of(name: str, how: Callable[[bytes], bytes]) -> Make:
    """Other bytes in a file of tensors, with the right digest."""

    def change(path: Path) -> None:
        bytes_changed(how)(path.parent / name)
        stated(path, name)

    return change


def tensors(how: Callable[[Tensors], object], name: str = WEIGHTS) -> Make:
    """Tensors changed in place in a file, with the right digest."""

    def change(path: Path) -> None:
        found = load_file(path.parent / name)
        how(found)
        save_file(found, path.parent / name)
        stated(path, name)

    return change


def first(found: Tensors, dimensions: int = 2) -> str:
    """The name of the first tensor of so many dimensions."""
    return next(name for name in sorted(found) if found[name].ndim == dimensions and found[name].is_floating_point())


def filled(value: float) -> Callable[[Tensors], None]:
    return lambda found: found[first(found)].view(-1)[3:4].fill_(value) and None


def swapped(how: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors], None]:
    return lambda found: found.update({first(found): how(found[first(found)]).contiguous()})


class Harm:
    """A pickle that leaves a file behind when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pickle-was-run",)


def torch_file(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def zipped(size: int) -> bytes:
    """A deflated archive of so many zero bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(size))
    return file.getvalue()


def headed(length: int) -> Callable[[bytes], bytes]:
    """Another length of the header of a safetensors file."""
    return lambda raw: struct.pack("<Q", length) + raw[8:]


def zero_link(path: Path) -> None:
    replaced(path, lambda p: p.symlink_to("/dev/zero"))


def bit_of(word: bytes, further: int) -> Make:
    """A bit flipped behind a word."""
    return bytes_changed(lambda raw: flipped(raw, raw.index(word) + further, 0))


def safetensors_files(name: str) -> list[Change]:
    """A file of tensors that is missing, damaged or another one."""
    damaged = "its sha256 is not"
    return [
        Change(f"{name} is missing", beside(name, Path.unlink), says=name),
        Change(f"{name} is empty", beside(name, bytes_changed(lambda _: b"")), says=name),
        Change(f"{name} is a folder", beside(name, lambda p: replaced(p, Path.mkdir)), says=name),
        Change(f"{name} is a pipe", beside(name, lambda p: replaced(p, os.mkfifo)), says=name),
        Change(f"{name} is a link to /dev/zero", beside(name, zero_link), says=name),
        *(
            Change(
                f"{name} is cut at {share} %",
                beside(name, bytes_changed(lambda raw, s=share: raw[: len(raw) * s // 100])),
                says=damaged,
            )
            for share in (1, 50, 99)
        ),
        *(
            Change(
                f"{name} has a bit flipped at {share} %",
                beside(name, bytes_changed(lambda raw, s=share: flipped(raw, len(raw) * s // 100))),
                says=damaged,
            )
            for share in (0, 1, 40, 70, 99)
        ),
        Change(f"{name} has a byte more", beside(name, bytes_changed(lambda raw: raw + b"\0")), says=damaged),
        Change(
            f"{name} is cut, and its digest right",
            bytes_of(name, lambda raw: raw[: len(raw) // 2]),
            says="not a safetensors",
        ),
        Change(
            f"{name} is random, and its digest right",
            bytes_of(name, lambda raw: np.random.default_rng(0).bytes(len(raw))),
        ),
        Change(f"{name} has a header of 2^63 bytes", bytes_of(name, headed(1 << 63)), says="not a safetensors"),
        Change(f"{name} has a header of 100 MB", bytes_of(name, headed(100_000_000)), says="not a safetensors"),
        Change(f"{name} has a header of no bytes", bytes_of(name, headed(0)), says="not a safetensors"),
        Change(f"{name} has tensors behind its end", bytes_of(name, lambda raw: raw[:-400]), says="not a safetensors"),
        Change(f"{name} is a pickle", bytes_of(name, lambda _: pickle.dumps(Harm())), says="not a safetensors"),
        Change(
            f"{name} is a file of torch.save", bytes_of(name, lambda _: torch_file(Harm())), says="not a safetensors"
        ),
        Change(
            f"{name} is a ZIP of 64 MiB in 64 kB", bytes_of(name, lambda _: zipped(64 << 20)), says="not a safetensors"
        ),
        Change(f"{name} lacks a tensor", tensors(lambda t: t.pop(first(t)), name), says="lacks the tensor"),
        Change(
            f"{name} has a tensor more",
            tensors(lambda t: t.update(mine=torch.zeros(3)), name),
            says="unknown tensor mine",
        ),
        Change(f"{name} has no tensors", tensors(lambda t: t.clear(), name), says="lacks the tensor|larger than its"),
        Change(
            f"{name} has a tensor of another shape", tensors(swapped(lambda t: t[:-1]), name), says="is torch.float32 "
        ),
        Change(
            f"{name} has a tensor turned over",
            tensors(swapped(lambda t: torch.cat([t, t]).T), name),
            says="is torch.float32 ",
        ),
        Change(f"{name} has a tensor of no numbers", tensors(swapped(lambda t: t[:0]), name), says="is torch.float32 "),
        Change(
            f"{name} has a tensor in half precision",
            tensors(swapped(lambda t: t.half()), name),
            says="is torch.float16",
        ),
        Change(
            f"{name} has a tensor in double precision",
            tensors(swapped(lambda t: t.double()), name),
            says="is torch.float64",
        ),
        Change(
            f"{name} has a tensor of whole numbers", tensors(swapped(lambda t: t.long()), name), says="is torch.int64"
        ),
        Change(f"{name} has a weight of NaN", tensors(filled(float("nan")), name), says="not finite"),
        Change(f"{name} has a weight of infinity", tensors(filled(float("-inf")), name), says="not finite"),
        Change(f"{name} has other weights, and their digest", tensors(swapped(lambda t: t * 1.01), name), "read"),
    ]


def json_files(name: str) -> list[Change]:
    """A JSON file that is damaged, and some that are only laid out in another way."""
    return [
        Change("a list", bytes_changed(lambda _: b"[1, 2]"), says=name),
        Change("null", bytes_changed(lambda _: b"null"), says=name),
        Change("an empty object", bytes_changed(lambda _: b"{}"), says=name),
        Change("cut in the middle", bytes_changed(lambda raw: raw[: len(raw) // 2]), says="is not JSON"),
        Change("cut by two bytes", bytes_changed(lambda raw: raw[:-2]), says="is not JSON"),
        Change("deeply nested", bytes_changed(lambda _: b"[" * 100_000), says="is not JSON"),
        Change("gzip", bytes_changed(gzip.compress), says="is not JSON"),
        Change("UTF-16", bytes_changed(lambda raw: raw.decode().encode("utf-16")), says="is not JSON"),
        Change("NaN", raw_text('"weight": 0.4', '"weight": NaN'), says="is not JSON"),
        Change("a bit flipped in a number", bit_of(b'"weight": 0.4', 12), says="damaged"),
        Change("a bit flipped in a level", bit_of(b"biological", 3), says="damaged"),
        Change("another value and the old digest", edited(put(2, *SEED[name]), digest=False), says="damaged"),
        Change("Windows line ends", bytes_changed(lambda raw: raw.replace(b"\n", b"\r\n")), "read"),
        Change(
            "on one line", lambda path: (path.write_text(json.dumps(json.loads(path.read_text()))), None)[1], "read"
        ),
        Change("an entry of another mfd", edited(put("x", "comment")), "read"),
    ]


SEED = {"model.json": ("configuration", "train", "seed"), "state.json": ("plan", "train", "seed")}


def description() -> list[Change]:
    """What model.json says, its digest being right."""
    here = "model.json"
    top = ("format", "version", "configuration", "model", "metadata", "tracks", "trained", "signal_scale", "about")

    def said(name: str, value: object, *keys: str | int, says: str = here) -> Change:
        return Change(name, edited(put(value, *keys)), says=says)

    def tree(name: str, how: Callable[[Tree], object], says: str = here) -> Change:
        return Change(name, edited(how), says=says)

    def harmless(name: str, how: Callable[[Tree], object]) -> Change:
        return Change(name, edited(how), "read")

    return [
        *(tree(f"without {key}", without(key)) for key in top),
        *(said(f"{key} as text", "text", key) for key in top),
        *(said(f"{key} as a list", [1], key) for key in top),
        *(said(f"{key} as null", None, key) for key in top),
        said("of another format", "mfd-dataset", "format", says="is mfd-dataset version 2"),
        said("of version 99", 99, "version", says="version 99"),
        said("of version -1", -1, "version", says="version -1"),
        # Of the configuration and the network.
        said("an unknown setting", 1, "configuration", "mine", says="model.json.*unknown key mine"),
        said("a setting out of range", -1, "configuration", "train", "epochs", says="model.json.*train.epochs"),
        said("another width", 16, "model", "width", says="model.width"),
        said("another window", 384, "model", "window", says="model.window"),
        *(
            said(f"a {name} of {value}", value, "model", name)
            for name in ("width", "window", "latent", "hidden", "kmer")
            for value in (-128, 0, 1 << 20, 10**30, 1.5, "8")
        ),
        tree(
            "a window that is huge, in both places",
            lambda t: [
                put(128 * (2**33 + 1), "model", "window")(t),
                put(128 * (2**33 + 1), "configuration", "model", "window")(t),
            ],
            says="model.json.*window",
        ),
        tree(
            "a width that is huge, in both places",
            lambda t: [put(100_000, "model", "width")(t), put(100_000, "configuration", "model", "width")(t)],
            says="larger than its weights",
        ),
        said("a backbone that is not known", "../../etc/passwd", "model", "backbone"),
        said("another head", "free", "model", "head"),
        said(
            "groups that do not fill the latent", {"biological": 11, "technical": 4}, "model", "groups", says="groups"
        ),
        harmless("groups of other sizes on the same latent", put({"biological": 8, "technical": 8}, "model", "groups")),
        said("groups of other names", {"bio": 12, "technical": 4}, "model", "groups", says="groups"),
        said("a group below zero", {"biological": 20, "technical": -4}, "model", "groups", says="groups"),
        said("no groups", {}, "model", "groups"),
        # Of the metadata.
        tree("a factor fewer", without("metadata", "assay"), says="factors"),
        tree("a factor more", lambda t: put(t["metadata"]["assay"], "metadata", "lab")(t), says="factors"),
        said("a factor of another column", "Lab", "metadata", "target", "column", says="factors"),
        said("a factor of another type", "year", "metadata", "target", "type", says="factors"),
        said("a type that is not known", "os.system", "metadata", "target", "type"),
        said("a level of another name", ["CTCF", "GATA2"], "metadata", "target", "vocabulary", says="GATA1"),
        said("a level twice", ["CTCF", "CTCF"], "metadata", "target", "vocabulary", says="twice"),
        said("a level fewer", ["CTCF"], "metadata", "target", "vocabulary"),
        said("a level that is a number", ["CTCF", 1], "metadata", "target", "vocabulary"),
        harmless(
            "a level more, which no track has",
            lambda t: [
                t["metadata"]["target"]["vocabulary"].append("JUN"),
                t["metadata"]["target"]["mean"].append(0.0),
            ],
        ),
        said("means of other length", [1.0], "metadata", "target", "mean"),
        said("means that are text", ["a", "b"], "metadata", "target", "mean"),
        # Of the tracks.
        said("no tracks", [], "tracks"),
        tree("a track fewer", without("tracks", 0)),
        tree("a track more", lambda t: t["tracks"].insert(0, {**t["tracks"][0], "id": "T0"})),
        tree(
            "a track more, everywhere",
            lambda t: [t["tracks"].insert(0, {**t["tracks"][0], "id": "T0"}), t["trained"].append(True)],
            says="model.safetensors",
        ),
        tree("a track twice", lambda t: put(t["tracks"][0], "tracks", 1)(t), says="twice"),
        tree("signals before peaks", lambda t: t["tracks"].reverse(), says="signals stand before peaks"),
        said("a track without its metadata", {}, "tracks", 0, "metadata", says="model.json"),
        said("a track of an unknown level", "JUN", "tracks", 0, "metadata", "Target", says="JUN"),
        said("a track of a kind that is none", "both", "tracks", 0, "kind"),
        said("a track whose id is a number", 7, "tracks", 0, "id"),
        said("positives below zero", -7, "tracks", 0, "positives"),
        said("tracks that are text", ["T1"] * 5, "tracks"),
        said("trained: one too few", [True] * 4, "trained", says="trained"),
        said("trained: none", [False] * 5, "trained", says="trained"),
        said("trained: numbers", [1] * 5, "trained", says="trained"),
        # Of the scale of signals.
        said("a scale of no signals", [], "signal_scale", "floor", says="signal_scale"),
        said("a scale of two signals", [1.0, 2.0], "signal_scale", "mean", says="signal_scale"),
        said("a scale of 0", [0.0], "signal_scale", "sd", says="signal_scale"),
        said("a ratio of 0", [0.0], "signal_scale", "ratio", says="signal_scale"),
        said("two ratios of one signal", [1.0, 2.0], "signal_scale", "ratio", says="signal_scale"),
        said("a floor below zero", [-1.0], "signal_scale", "floor", says="signal_scale"),
        Change("a scale of 1e999", raw_text('"floor": [\n   0', '"floor": [\n   1e999, 0'), says="damaged"),
        # Of what it was made from.
        said("no digest of the weights", None, "about", "weights_sha256"),
        said("another digest of the weights", "0" * 64, "about", "weights_sha256", says="model.safetensors"),
        said("another genome", "0" * 64, "about", "genome_digest", says="not the genome that the model was trained on"),
        tree("without a genome", without("about", "genome_digest")),
        said("contigs as a list", ["chr1"], "about", "contigs"),
        said("windows as text", "288", "about", "windows"),
        Change("without its digest", edited(lambda tree: None), "read"),
        # Not needed to score.
        Change("without metrics.jsonl", beside("metrics.jsonl", Path.unlink), "read"),
        Change(
            "metrics.jsonl is random", beside("metrics.jsonl", lambda p: (p.write_bytes(b"\xff" * 99), None)[1]), "read"
        ),
        Change("the state to resume from is damaged", beside("last/state.json", bytes_changed(lambda _: b"{")), "read"),
        Change("another file in the folder", beside("notes.txt", lambda p: (p.write_text("mine"), None)[1]), "read"),
    ]


def state() -> list[Change]:
    """What last/state.json says, its digest being right."""
    here = "state.json"
    keys = ("step", "total_steps", "seconds", "sums", "best", "threads", "plan", "file", "sha256")

    def said(name: str, value: object, *keys: str | int, says: str = here) -> Change:
        return Change(name, edited(put(value, *keys)), says=says)

    return [
        *(Change(f"without {key}", edited(without(key)), says=here) for key in keys),
        *(said(f"{key} as null", None, key) for key in keys),
        *(said(f"{key} as a list", ["a"], key) for key in keys),
        said("a step below zero", -1, "step"),
        said("a step beyond the last", 10, "step"),
        said("other steps in all", 18, "total_steps", says="the dataset has changed"),
        said("seconds below zero", -1.0, "seconds"),
        said("a best of two numbers", [0.4, 9], "best"),
        said("a best of text", ["0.4", 9, 0], "best"),
        said("a best without a step", [0.4, None, 0], "best"),
        said("a best at half a step", [0.4, 8.5, 0], "best"),
        said("no threads", 0, "threads"),
        said("another plan", {}, "plan", says="other settings: "),
        said("another seed", 2, "plan", "train", "seed", says="other settings: "),
        *(
            said(f"a file at {name[:20]!r}", name, "file")
            for name in ("../model.safetensors", "/etc/passwd", "", WEIGHTS, "state-9.safetensors\n", "state-9/..")
        ),
        said("a file that is not there", "state-8.safetensors", "file", says="state-8.safetensors"),
        said("another digest of the tensors", "0" * 64, "sha256", says="its sha256 is not"),
        said("a digest that is none", "abc", "sha256"),
        Change(
            "the configuration has another seed",
            lambda path: (
                (path.parents[2] / "mfd.toml").write_text((path.parents[2] / "mfd.toml").read_text() + "seed = 5\n")
                and None
            ),
            says="other settings: ",
        ),
        Change("a best of nothing", edited(put([None, 0, 0], "best")), "read"),
        Change("started with other threads", edited(put(64, "threads")), "read"),
        Change(
            "moments of a parameter that is not there",
            tensors(lambda t: t.update({"optimiser/999.exp_avg": torch.zeros(3)}), STATE),
            says="unknown tensor optimiser/999",
        ),
        Change(
            "tensors of another model",
            tensors(lambda t: [t.pop(n) for n in list(t) if n.startswith("average/")], STATE),
            says="lacks the tensor average",
        ),
        # There is nothing to resume, but a run is in the way.
        Change(
            "an older state beside it",
            beside("state-8.safetensors", lambda p: (p.write_bytes(b"old"), None)[1]),
            "read",
        ),
    ]


CPU = ("-q", "--gpus", "0", "--threads", "1")
KINDS = [
    Kind(
        "run",
        "run/model.json",
        ("score-variants", "input.vcf", *CPU),
        ("input.mfd.vcf.gz", "input.mfd.parquet", "input.mfd.skipped.tsv"),
        [*any_file(), *json_files("model.json"), *description(), *safetensors_files(WEIGHTS)],
        trained=True,
        names=r"run\b|genome",
    ),
    Kind(
        "resume",
        "run/last/state.json",
        ("train", "--resume", *CPU),
        (),
        [*any_file(), *json_files("state.json"), *state(), *safetensors_files(STATE)],
        trained=True,
        names=r"run\b",
    ),
]
