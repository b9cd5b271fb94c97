"""Actors of a Ray cluster, each with the model at work. Ray finds machines and starts actors anew where one was lost; what is
made lies on the disk that all machines share, and nothing goes through Ray but pieces and digests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
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
TRIES = 3
"""How often a piece is tried again where its actor is lost: one that takes more memory than there is must end some time."""


class RayActors:
    """Actors that make parts; a piece goes to the one that has the fewest, and to another where that one is lost."""

    def __init__(self, ray: ModuleType, actors: list[Any]) -> None:
        self.ray, self.actors, self.at_once = ray, actors, AHEAD * len(actors)
        self.waiting = [0] * len(actors)
        self.lost: set[int] = set()
        self.under_way: dict[int, str] = {}
        self.count = 0

    def submit(self, piece: Piece) -> Future[str]:
        """Hand a piece to an actor. What is returned raises WorkerLost where one actor after the other was lost over it."""
        result: Future[str] = Future()
        self.count += 1
        self.under_way[self.count] = piece.name
        self._try(piece, self.count, TRIES, result)
        return result

    def _try(self, piece: Piece, number: int, tries: int, result: Future[str]) -> None:
        """Hand a piece to an actor, and to another one up to `tries` times where that is lost."""
        if len(self.lost) == len(self.actors):
            self.lost.clear()  # Ray starts actors anew where there is room
        actor = min(set(range(len(self.actors))) - self.lost, key=lambda each: self.waiting[each])
        self.waiting[actor] += 1

        def finish(future: Future[str]) -> None:
            self.waiting[actor] -= 1
            error = future.exception()
            if error is None:
                self.under_way.pop(number, None)
                result.set_result(future.result())
            elif isinstance(error, self.ray.exceptions.RayActorError) and not _creation(error) and tries:
                self.lost.add(actor)
                self._try(piece, number, tries - 1, result)
            else:
                result.set_exception(self.as_ours(error))

        self.actors[actor].make.remote(piece).future().add_done_callback(finish)

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
            options = {"num_cpus": 1, "num_gpus": int(gpus), "max_restarts": -1}
            maker = ray.remote(**options)(PartMaker)
            folder = parts.folder.absolute()
            yield RayActors(ray, [maker.remote(job, folder, "cuda" if gpus else "cpu") for _ in range(count)])
        finally:
            ray.shutdown()

    return start


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
