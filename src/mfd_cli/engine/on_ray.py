"""Actors of a Ray cluster, each with the model at work. Ray finds machines; where an actor is lost, another one is started.
What is made lies on the disk that all machines share, and nothing goes through Ray but pieces and digests."""

from __future__ import annotations

import atexit
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType
from typing import Any

from mfd_cli.base.errors import ConfigError, few
from mfd_cli.engine.jobs import Job, Piece, Start, WorkerLost
from mfd_cli.engine.parts import Parts
from mfd_cli.engine.workers import PartMaker

AHEAD = 2
"""Pieces under way or waiting, for each actor, so that none has to wait for the next."""
ANSWER = 10.0
"""Seconds that a cluster has to answer."""
LAST_ANSWERS = 10.0
"""Seconds that actors which are ended have to say so, and that Ray then has to shut down."""
TRIES = 3
"""How often a piece is tried again where its actor is lost: one that takes more memory than there is must end some time."""


@dataclass
class Order:
    """A piece that is to be made, its number, how often it may be tried again, and what will be the digest of its part."""

    piece: Piece
    number: int
    tries: int
    result: Future[str]


class RayActors:
    """Actors that make parts. A piece goes to the one that has the fewest, among those that have begun; where that is lost, to
    another, and a new actor is started. One that the cluster has no room for never begins, and gets no piece."""

    def __init__(self, ray: ModuleType, start: Callable[[], Any], count: int) -> None:
        self.ray, self.start, self.at_once = ray, start, AHEAD * count
        self.under_way: dict[int, str] = {}
        self.actors: list[Any] = []
        self.starting: set[Any] = set()
        self.waiting: dict[Any, int] = {}  # actors that have begun: how many pieces each has
        self.backlog: deque[Order] = deque()
        self.asked: set[Future[Any]] = set()
        self.lock, self.closing, self.count, self.most_actors = threading.RLock(), False, 0, (1 + TRIES) * count
        for _ in range(count):
            self._hire()

    def submit(self, piece: Piece) -> Future[str]:
        """Hand a piece to an actor. What is returned raises WorkerLost where one actor after the other was lost over it."""
        with self.lock:
            self.count += 1
            order = Order(piece, self.count, TRIES, Future())
            self.under_way[order.number] = piece.name
            self._place(order)
        return order.result

    def close(self) -> None:
        """End the actors and wait for the answers: while Ray shuts down, which waits for them too, none may ask for more."""
        with self.lock:
            self.closing = True
            for actor in self.actors:
                self.ray.kill(actor)
        wait(list(self.asked), LAST_ANSWERS)

    def _hire(self) -> None:
        """Start an actor, unless many have been lost already; it gets pieces when it has begun."""
        if self.closing or len(self.actors) >= self.most_actors:
            return
        actor = self.start()
        self.actors.append(actor)
        self.starting.add(actor)
        self._ask(actor.ready.remote(), lambda answer: self._begun(actor, answer.exception()))

    def _ask(self, reference: Any, then: Callable[[Future[Any]], None]) -> None:
        """Have `then` called with the answer when it comes."""
        asked = reference.future()
        self.asked.add(asked)

        def answered(answer: Future[Any]) -> None:
            with self.lock:
                self.asked.discard(answer)
                then(answer)

        asked.add_done_callback(answered)

    def _begun(self, actor: Any, error: BaseException | None) -> None:
        """Give an actor that has begun what waits."""
        self.starting.discard(actor)
        if error is not None:
            self._give_up(error)
            return
        self.waiting[actor] = 0
        while self.backlog:
            self._place(self.backlog.popleft())

    def _place(self, order: Order) -> None:
        """Hand a piece to the actor that has the fewest, or keep it until one has begun."""
        if not self.waiting:
            self.backlog.append(order)
            return
        actor = min(self.waiting, key=lambda each: self.waiting[each])
        self.waiting[actor] += 1
        self._ask(actor.make.remote(order.piece), lambda answer: self._made(actor, order, answer))

    def _made(self, actor: Any, order: Order, answer: Future[str]) -> None:
        """Take the digest of a part; where the actor was lost, hand the piece to another."""
        error = answer.exception()
        if error is None:
            if actor in self.waiting:
                self.waiting[actor] -= 1
            self.under_way.pop(order.number, None)
            order.result.set_result(answer.result())
        elif not isinstance(error, self.ray.exceptions.RayActorError) or self.closing:
            order.result.set_exception(self.as_ours(error))
        else:
            if self.waiting.pop(actor, None) is not None:
                self._hire()
            if order.tries:
                self._place(replace(order, tries=order.tries - 1))
            else:
                order.result.set_exception(self.as_ours(error))
            self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        """Fail what waits where no actor is left, nor one that may begin."""
        while self.backlog and not self.waiting and not self.starting:
            self.backlog.popleft().result.set_exception(self.as_ours(error))

    def as_ours(self, error: BaseException) -> BaseException:
        """Return what an actor raised, as it raised it; ConfigError where it could not begin, WorkerLost where it was lost."""
        if isinstance(error, self.ray.exceptions.RayTaskError):
            return error.cause if isinstance(error.cause, Exception) else error
        if _creation(error):
            why = [line.strip() for line in str(error).splitlines() if line.strip()]
            return ConfigError(
                f"a worker of the cluster could not begin ({why[-1][:120]})",
                hint="each machine of the cluster needs the same mfd-cli, and sees the same folders under the same names",
            )
        return WorkerLost(
            f"workers of the cluster were lost, perhaps for want of memory, while these were made: "
            f"{few(self.under_way.values())}",
            hint="the parts that were made are kept: the same command goes on from them; fewer --workers take less memory",
        )


def _creation(error: BaseException) -> bool:
    """Return whether an actor was lost because it could not begin."""
    return "creation task" in str(error)


def ray_actors(address: str, workers: int | None, gpus: bool) -> Start:
    """Return what starts actors on a cluster: `workers` of them, or one for each core (each GPU with `gpus`) that it has.

    ConfigError where ray is not installed, or the cluster is not there.
    """

    @contextmanager
    def start(job: Job, parts: Parts) -> Iterator[RayActors]:
        ray = imported_ray()
        check_address(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"there is no Ray cluster at {address} ({str(error).splitlines()[0][:120]})",
                hint="ray start --head starts one; --address HOST:PORT names it",
            ) from error
        try:
            resource = "GPU" if gpus else "CPU"
            count = workers or int(ray.cluster_resources().get(resource, 0))
            if not count:
                raise ConfigError(f"the Ray cluster has no {resource}", hint="ray status shows what it has")
            options = {"num_cpus": 1, "num_gpus": int(gpus), "max_restarts": 0}
            maker = ray.remote(**options)(PartMaker)
            folder = parts.folder.absolute()
            device = "cuda" if gpus else "cpu"
            actors = RayActors(ray, lambda: maker.remote(job, folder, device), count)
            try:
                yield actors
            finally:
                actors.close()
        finally:
            shut_down(ray)

    return start


def shut_down(ray: ModuleType) -> None:
    """Leave the cluster. After the loss of a machine Ray may wait for answers that never come: then it is left to itself, since
    all parts are on disk."""
    leaving = threading.Thread(target=ray.shutdown, daemon=True)
    leaving.start()
    leaving.join(LAST_ANSWERS)
    if leaving.is_alive():
        atexit.unregister(ray.shutdown)


def check_address(address: str) -> None:
    """Raise ConfigError where nobody answers at HOST:PORT: Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.removeprefix("ray://"), int(port)), ANSWER).close()
    except (OSError, OverflowError) as problem:
        raise ConfigError(
            f"there is no Ray cluster at {address} ({problem})", hint="ray start --head starts one and says its address"
        ) from None


def imported_ray() -> ModuleType:
    """Return the package ray. ConfigError where it is not installed."""
    try:
        return import_module("ray")
    except ImportError:
        raise ConfigError("--engine ray needs the package ray", hint="pip install 'mfd-cli[ray]'") from None
