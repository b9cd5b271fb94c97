"""Parts of one result on disk, each whole, named by what it depends on: work that was interrupted goes on from them, and work
that was shared among machines is put together from them.

    .RESULT.parts/NAME.part            columns of one piece, behind their sha256
                  plan.json            what all parts depend on, and the command that makes the result: of shared work
                  shard-3-of-8.json    the parts of one shard, with their digests, when all of them are made

NAME is a digest of the plan (model, genome, settings, versions ...) and of the piece, so a part that was made with another
model has another name; what was torn or changed does not agree with its own sha256, and is made again.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mfd_cli.base.errors import OutputError, few
from mfd_cli.base.files import MARK, mark_folder, whole_file, write_json

Columns = dict[str, Any]
"""What a piece becomes: arrays of one length, by name."""
DIGEST_BYTES = 32
"""Length of the sha256 at the start of a part."""
PLAN = "plan.json"
MAKERS = ("version of torch", "version of numpy", "kind of device", "number of threads")
"""Entries of a plan that say by what a part is made: those of all parts agree, but the command that gathers them may differ."""
PATIENCE = 60.0
"""Seconds that a shared disk gets to show a part that was made elsewhere."""
POLL = 0.2
"""Seconds between two looks at it."""


def parts_folder(result: Path) -> Path:
    """Return the folder of a result's parts, beside it."""
    return result.with_name(f".{result.name}.parts")


@dataclass
class Parts:
    """The parts of one result, whose plan is a mapping of names to plain values."""

    folder: Path
    plan: Mapping[str, Any]
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        self.digest = hashlib.sha256(json.dumps(self.plan, sort_keys=True).encode()).hexdigest()

    def file(self, key: str) -> Path:
        """Return the file of the piece that depends on `key` besides the plan."""
        name = hashlib.sha256("\n".join([self.digest, key]).encode()).hexdigest()
        return self.folder / f"{name}.part"

    def read(self, key: str) -> Columns | None:
        """Return the columns of a part; None where it is not there, or is not what was written."""
        return read_part(self.file(key))

    def digest_of(self, key: str) -> str | None:
        """Return the digest of a part that is there, as it was written."""
        raw = read_checked(self.file(key))
        return raw[:DIGEST_BYTES].hex() if raw is not None else None

    def write(self, key: str, columns: Mapping[str, Any]) -> str:
        """Write a part, whole, and return its digest."""
        mark_folder(self.folder)
        return write_part(self.file(key), columns)

    def expect(self, key: str, digest: str, patience: float = PATIENCE) -> Columns:
        """Return the columns of a part that another process made, as soon as the disk shows it with the digest that it told.

        A shared disk may show a file late, or an older state of it. OutputError where it does not appear within `patience` s.
        """
        end = time.monotonic() + patience
        while True:
            raw = read_checked(self.file(key))
            if raw is not None and raw[:DIGEST_BYTES].hex() == digest:
                return columns_of(raw)
            if time.monotonic() > end:
                raise OutputError(
                    f"was made elsewhere, but this machine has not seen it as it was made for {patience:.0f} s",
                    path=self.file(key),
                    hint="all machines must see one folder of results; the same command goes on from the parts that are there",
                )
            time.sleep(POLL)

    def remove(self) -> None:
        """Remove the parts: the result is complete, or never will be."""
        if (self.folder / MARK).is_file():
            shutil.rmtree(self.folder, ignore_errors=True)

    # -- shared work ---------------------------------------------------------------------------------------------------

    def begin(self, command: Mapping[str, Any]) -> None:
        """Say in the folder what its parts depend on and which command makes the result of them.

        Raises OutputError where the parts that are there were made with another plan, saying what differs.
        """
        mark_folder(self.folder)
        self.check_plan()
        if not (self.folder / PLAN).exists():
            write_json(self.folder / PLAN, {"plan": dict(self.plan), "command": dict(command)})

    def check_plan(self) -> None:
        """Raise OutputError where the plan that stands in the folder is another one, saying what differs."""
        stored = read_plan(self.folder)
        if stored is None:
            return
        now = json.loads(json.dumps(self.plan))
        other = [name for name in stored["plan"] | now if stored["plan"].get(name) != now.get(name)]
        if other:
            was, is_now = (in_words(plan.get(other[0])) for plan in (stored["plan"], now))
            raise OutputError(
                f"holds parts that were made with another {' and '.join(other)} ({other[0]}: {was}, now {is_now})",
                path=self.folder,
                hint="make all parts with the same model, genome and options; or remove this folder and begin again",
            )

    def finish_shard(self, shard: tuple[int, int], made: Mapping[str, str]) -> None:
        """Say that all parts of a shard, name to digest, are made."""
        number, shards = shard
        write_json(self.folder / f"shard-{number}-of-{shards}.json", made)

    def told(self) -> dict[str, str]:
        """Return the digests of the parts of all finished shards, by name."""
        told: dict[str, str] = {}
        for file in sorted(self.folder.glob("shard-*-of-*.json")):
            told |= json.loads(file.read_text("utf-8"))
        return told

    def unfinished_shards(self) -> str:
        """Return, in words, which shards have not finished; empty where all have, or nobody knows of any."""
        found = [re.fullmatch(r"shard-(\d+)-of-(\d+)\.json", file.name) for file in self.folder.glob("shard-*.json")]
        done = [(int(match[1]), int(match[2])) for match in found if match]
        counts = {shards for _, shards in done}
        if len(counts) != 1:
            return "no shard has finished" if not counts else ""
        (shards,) = counts
        left = sorted(set(range(1, shards + 1)) - {number for number, _ in done})
        shown = ", ".join(map(str, left[:20])) + (", ..." if len(left) > 20 else "")
        return f"of {shards} shards, these have not finished: {shown}" if left else ""


def read_plan(folder: Path) -> dict[str, Any] | None:
    """Return what `Parts.begin` wrote; None where there is nothing. OutputError where it cannot be read."""
    file = folder / PLAN
    try:
        stored = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise OutputError("is damaged", path=file, hint="remove its folder and make the parts again") from None
    if not isinstance(stored, dict) or not all(isinstance(stored.get(name), dict) for name in ("plan", "command")):
        raise OutputError("is no plan of parts", path=file, hint="remove its folder and make the parts again")
    return stored


def in_words(value: Any) -> str:
    """Return an entry of a plan in a few words; of digests the beginning.

    >>> in_words(["9d1a3852" * 8, "5ed8"])
    '9d1a38529d1a, 5ed8'
    """
    texts = [str(each) for each in (value if isinstance(value, list) else [value])]
    return few([text[:12] if re.fullmatch("[0-9a-f]{64}", text) else text for text in texts], 3)


def plan_to_gather(folder: Path, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plan of the parts in a folder as far as it says by what they were made, and `plan` for everything else: parts
    that GPUs made may be gathered where there is none."""
    stored = (read_plan(folder) or {"plan": {}})["plan"]
    return {name: stored.get(name, value) if name in MAKERS else value for name, value in plan.items()}


def write_part(file: Path, columns: Mapping[str, Any]) -> str:
    """Write the columns of a piece, whole, behind their digest, which is returned."""
    sink = pa.BufferOutputStream()
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    raw = sink.getvalue().to_pybytes()
    digest = hashlib.sha256(raw)
    with whole_file(file) as temporary:
        temporary.write_bytes(digest.digest() + raw)
    return digest.hexdigest()


def read_part(file: Path) -> Columns | None:
    """Return what `write_part` wrote; None where there is nothing, or something else."""
    raw = read_checked(file)
    return columns_of(raw) if raw is not None else None


def read_checked(file: Path) -> bytes | None:
    """Return the bytes of a part that agrees with the digest at its start; None where there is none, or another one."""
    try:
        raw = file.read_bytes()
    except OSError:
        return None
    return raw if hashlib.sha256(raw[DIGEST_BYTES:]).digest() == raw[:DIGEST_BYTES] else None


def columns_of(raw: bytes) -> Columns:
    """Return the columns in the bytes of a part."""
    table = pa.ipc.open_stream(raw[DIGEST_BYTES:]).read_all()
    return {
        name: np.array(column.to_pylist()) if pa.types.is_string(column.type) else column.to_numpy()
        for name, column in zip(table.column_names, table.columns)
    }
