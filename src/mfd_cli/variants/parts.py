"""Scores of chunks that took a while, kept beside the output until it is complete: a run that was killed goes on from them.

A part is found by what its scores depend on: models, genome, settings, device, threads and the variants themselves. It begins
with the sha256 of the rest, so that what was torn or changed is not taken over but scored again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mfd_cli import __version__
from mfd_cli.base.files import MARK, mark_folder, whole_file
from mfd_cli.genome.alleles import Variant
from mfd_cli.variants.scorer import Scorer

WORTH = 1.0
"""Seconds that a chunk must take for its scores to be kept."""
DIGEST_BYTES = 32
"""Length of the sha256 at the start of a part."""


class ScoreParts:
    """The parts of one output in the folder `.OUTPUT.parts`; nothing is kept where `output` is None. `taken` counts the
    variants whose scores came from an earlier run."""

    def __init__(self, output: Path | None, plan: str) -> None:
        self.folder = None if output is None else output.with_name(f".{output.name}.parts")
        self.plan, self.taken = plan, 0

    def columns(self, variants: Sequence[Variant], score: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the columns of these variants: those of an earlier run, or what `score` makes."""
        if self.folder is None or not variants:
            return score()
        key = "\n".join([self.plan, *map(str, variants)])
        file = self.folder / hashlib.sha256(key.encode()).hexdigest()
        stored = read_part(file)
        if stored is not None:
            self.taken += len(variants)
            return stored
        started = time.monotonic()
        columns = score()
        if time.monotonic() - started >= WORTH:
            mark_folder(self.folder)
            write_part(file, columns)
        return columns

    def remove(self) -> None:
        """Remove the parts: the output is complete, or never will be."""
        if self.folder is not None and (self.folder / MARK).is_file():
            shutil.rmtree(self.folder, ignore_errors=True)


def write_part(file: Path, columns: dict[str, Any]) -> None:
    """Write the columns of a chunk, whole, behind their digest."""
    sink = pa.BufferOutputStream()
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    raw = sink.getvalue().to_pybytes()
    with whole_file(file) as temporary:
        temporary.write_bytes(hashlib.sha256(raw).digest() + raw)


def read_part(file: Path) -> dict[str, Any] | None:
    """Return what `write_part` wrote; None where there is nothing, or something else."""
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        return None
    if hashlib.sha256(raw[DIGEST_BYTES:]).digest() != raw[:DIGEST_BYTES]:
        return None
    table = pa.ipc.open_stream(raw[DIGEST_BYTES:]).read_all()
    return {
        name: np.array(column.to_pylist()) if pa.types.is_string(column.type) else column.to_numpy()
        for name, column in zip(table.column_names, table.columns)
    }


def parts_key(scorer: Scorer, genome_digest: str, per_track: bool) -> str:
    """Return everything that scores depend on besides the variants, as text.

    Threads, device and batch size are among it: sums of floats depend on their order, and a resumed run writes the same bytes.
    """
    import torch

    settings = scorer.settings
    return json.dumps(
        [
            __version__,
            torch.__version__,
            [run.digest for run in scorer.runs],
            genome_digest,
            settings.placement,
            settings.precision,
            settings.tracks,
            list(settings.fixes),
            per_track,
            str(scorer.device),
            scorer.batch_size,
            torch.get_num_threads(),
        ]
    )
