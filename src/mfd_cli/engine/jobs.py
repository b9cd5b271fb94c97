"""Long work in pieces: by whom each is done, and where, makes no difference to a byte of the result.

A command that reads a long file or a genome cuts it into pieces (a chunk of records, a run of bins). What a piece becomes,
its *part*, depends on the piece and on a *plan*: model, genome, settings, versions. The command describes the work as a `Job`,
which is small and can be sent anywhere, and takes the parts in order from `Work.parts_of`. Three ways to have them made:

    in this process, one after the other; the same code with nothing in between (`--workers 1`)
    by an engine: processes of this machine (local.py), or actors of a Ray cluster (on_ray.py)
    by other commands: `--shard i/n` makes every n-th part and ends; `mfd gather` takes parts that are made

An engine says how workers start and how a piece is handed over, and nothing else.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn, Protocol, TypeVar

from mfd_cli.base.errors import Ended, MfdError, OutputError, few
from mfd_cli.base.files import check_free, check_output
from mfd_cli.base.locks import claim
from mfd_cli.base.notebook import Told
from mfd_cli.engine.parts import Columns, Parts, parts_folder, plan_to_gather

WORTH = 1.0
"""Seconds that a piece must take in this process for its part to be kept."""
T = TypeVar("T")


class Job(Protocol):
    """Says how parts are made: plain values that can be pickled, whatever they stand for being opened by who makes a part."""

    @property
    def plan(self) -> Mapping[str, Any]:
        """Return what every part depends on besides its piece, as plain values by name."""

    def start(self, device: str) -> Callable[[Any], Columns]:
        """Open what all pieces shard, once for each worker, and return the function that makes a piece's part."""


@dataclass(frozen=True)
class Piece:
    """One piece of work: `what` is sent to who makes its part, `key` is all that the part depends on besides the plan, `name`
    is for people, and `size` is how many rows of the result it becomes."""

    what: Any
    key: str
    name: str
    size: int = 1


class Engine(Protocol):
    """Workers that make parts. Each piece that is submitted becomes a part on disk; its digest is the result."""

    at_once: int
    """Pieces that are submitted before the first one is waited for: all workers are busy, and memory stays flat."""

    def submit(self, piece: Piece) -> Future[str]:
        """Hand a piece to a worker that is free, and return what will be the digest of its part."""


Start = Callable[[Job, Parts], AbstractContextManager[Engine]]
"""Starts the workers of an engine, for as long as its context lasts."""


@dataclass(frozen=True)
class Workplace:
    """Where the parts of a command are made: by `start`'s workers, or in this process where that is None.

    `shard` (i, n): make every n-th part, from the i-th on, and no result (see `ShardMade`). `gather`: take parts that are
    made, make none.
    `command`: what makes the result of the parts, written beside them (see `Parts.begin`).
    """

    start: Start | None = None
    shard: tuple[int, int] | None = None
    gather: bool = False
    command: Mapping[str, Any] = field(default_factory=dict)

    def check_result(self, path: Path, force: bool) -> Path:
        """Return where the result goes, claimed, if it may be written; a shard is claimed instead of the result, which shards
        have in common. Raises OutputError as `check_output` does."""
        if self.shard is None:
            return check_output(path, force)
        number, shards = self.shard
        claim(parts_folder(path) / f"shard-{number}-of-{shards}.json")
        return check_free(path, force)


HERE = Workplace()
"""In this process."""


@dataclass(frozen=True, repr=False)
class ShardSummary(Told):
    """What one of several shards has come to: parts, and no result yet."""

    result: Path
    shard: tuple[int, int]
    parts: int
    reused: int
    pieces: int
    seconds: float
    warnings: Sequence[str] = ()

    def lines(self) -> list[str]:
        """Return the summary as lines for the terminal."""
        number, shards = self.shard
        reused = f", of which {self.reused:,} were there already" if self.reused else ""
        return [
            *(f"warning: {warning}" for warning in self.warnings),
            f"shard {number} of {shards}: {self.parts:,} of {self.pieces:,} parts made{reused}",
            f"when all shards have finished: mfd gather {self.result}",
        ]


class ShardMade(Ended):
    """The end of a command that makes one shard of the work: the parts are there, a result is not.

    It is raised in place of what the function would return; `mfd` prints the summary and ends well.
    """


@dataclass
class Work:
    """A job at work. `here` makes a part in this process; `reused` counts the parts that were there already, and `reused_rows`
    what they become."""

    here: Callable[[Any], Columns]
    parts: Parts
    workplace: Workplace
    engine: Engine | None
    keeps: bool
    reused: int = 0
    reused_rows: int = 0

    def parts_of(self, items: Iterable[tuple[T, Piece]]) -> Iterator[tuple[T, Columns]]:
        """Yield each item with the columns of its piece, in the order of the items.

        OutputError where parts are to be gathered and some are missing: they are named.
        """
        if self.workplace.gather:
            yield from self._gathered(items)
        elif self.engine is None:
            yield from ((item, self._made_here(piece)) for item, piece in items)
        else:
            yield from ((item, self.parts.expect(piece.key, digest)) for item, piece, digest in self._digests(items))

    def make_shard(self, result: Path, pieces: Iterable[Piece], warnings: Sequence[str] = ()) -> NoReturn:
        """Make the parts of this command's shard, say in their folder that they are made, and raise ShardMade.

        `warnings` may grow while pieces are taken.
        """
        assert self.workplace.shard is not None, "this is the whole work"
        started, count = time.monotonic(), 0
        number, shards = self.workplace.shard
        self.parts.begin(self.workplace.command)

        def own() -> Iterator[tuple[None, Piece]]:
            nonlocal count
            for count, piece in enumerate(pieces, start=1):
                if (count - number) % shards == 0:
                    yield None, piece

        made = {self.parts.file(piece.key).name: digest for _, piece, digest in self._digests(own())}
        self.parts.finish_shard(self.workplace.shard, made)
        seconds = round(time.monotonic() - started, 3)
        summary = ShardSummary(result, self.workplace.shard, len(made), self.reused, count, seconds, tuple(warnings))
        raise ShardMade(summary)

    def _made_here(self, piece: Piece) -> Columns:
        """Return a piece's columns: those of an interrupted run, or new ones, which are kept if they took a while."""
        stored = self.parts.read(piece.key) if self.keeps else None
        if stored is not None:
            self._reuse(piece)
            return stored
        started = time.monotonic()
        columns = self.here(piece.what)
        if self.keeps and time.monotonic() - started >= WORTH:
            self.parts.write(piece.key, columns)
        return columns

    def _reuse(self, piece: Piece) -> None:
        """Count a part that was there already."""
        self.reused += 1
        self.reused_rows += piece.size

    def _digests(self, items: Iterable[tuple[T, Piece]]) -> Iterator[tuple[T, Piece, str]]:
        """Yield each item with its piece and the digest of the part, which is on disk, in order, while workers are at later
        ones."""
        waiting = deque[tuple[T, Piece, Future[str]]]()
        for item, piece in items:
            digest = self.parts.digest_of(piece.key)
            if digest is not None:
                self._reuse(piece)
            if digest is None and self.engine is not None:
                future = self.engine.submit(piece)
            else:
                future = Future()
                future.set_result(digest or self.parts.write(piece.key, self.here(piece.what)))
            waiting.append((item, piece, future))
            if len(waiting) >= (self.engine.at_once if self.engine is not None else 1):
                first, its_piece, future = waiting.popleft()
                yield first, its_piece, future.result()
        for item, piece, future in waiting:
            yield item, piece, future.result()

    def _gathered(self, items: Iterable[tuple[T, Piece]]) -> Iterator[tuple[T, Columns]]:
        """Yield each item with columns that were made before. OutputError, after a look at all items, names the missing."""
        told, missing = self.parts.told(), list[str]()
        for item, piece in items:
            digest = told.get(self.parts.file(piece.key).name)
            columns = self.parts.expect(piece.key, digest) if digest else self.parts.read(piece.key)
            if columns is None:
                missing.append(piece.name)
            elif not missing:
                yield item, columns
        if missing:
            shards = self.parts.unfinished_shards()
            raise OutputError(
                f"{len(missing):,} parts are missing: {few(missing)}" + (f" ({shards})" if shards else ""),
                path=self.parts.folder,
                hint="run the --shard commands that have not finished, then mfd gather again",
            )


@contextmanager
def at_work(
    job: Job,
    here: Callable[[Any], Columns],
    result: Path | None,
    workplace: Workplace = HERE,
    keeps: bool = True,
) -> Iterator[Work]:
    """Start a job's workers, for as long as the context lasts. Parts lie beside `result`; where that is None (a pipe) nothing
    is kept, and what workers make lies in a temporary folder. Without `keeps` the parts of this process are not kept either.

    The parts are removed when the block ends well, and where the same command would end in the same error; a shard's stay.
    """
    with nullcontext() if result is not None else TemporaryDirectory(prefix="mfd-") as temporary:
        folder = parts_folder(result) if result is not None else Path(str(temporary)) / "parts"
        parts = Parts(folder, job.plan if not workplace.gather else plan_to_gather(folder, job.plan))
        if workplace.gather:
            parts.check_plan()
        keeps = keeps and result is not None
        try:
            with workplace.start(job, parts) if workplace.start and not workplace.gather else nullcontext() as engine:
                yield Work(here, parts, workplace, engine, keeps)
        except WorkerLost:
            raise
        except MfdError:
            if not workplace.gather and workplace.shard is None:
                parts.remove()
            raise
        if workplace.shard is None:
            parts.remove()


class WorkerLost(MfdError):
    """A worker ended without a result, as one does that takes too much memory; what is made stays."""
