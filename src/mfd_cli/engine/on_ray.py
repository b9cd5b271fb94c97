"""Actors of a Ray cluster, each with the model at work. Ray finds machines and starts actors anew where one was lost; what is
made lies on the disk that all machines share, and nothing goes through Ray but pieces and digests."""

from __future__ import annotations

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
TRIES = 3
"""How often a piece is tried again after its actor was lost: one that takes more memory than there is must end some time."""


class RayActors:
    """Actors that make parts; a piece goes to the one that has the fewest."""

    def __init__(self, ray: ModuleType, actors: list[Any]) -> None:
        self.ray, self.actors, self.at_once = ray, actors, AHEAD * len(actors)
        self.waiting = [0] * len(actors)
        self.under_way: dict[int, str] = {}
        self.count = 0

    def submit(self, piece: Piece) -> Future[str]:
        """Hand a piece to an actor. What is returned raises WorkerLost where its actor was lost again and again."""
        result: Future[str] = Future()
        self.count += 1
        number, actor = self.count, self.waiting.index(min(self.waiting))
        self.waiting[actor] += 1
        self.under_way[number] = piece.name

        def finish(future: Future[str]) -> None:
            self.waiting[actor] -= 1
            error = future.exception()
            if error is None:
                del self.under_way[number]
                result.set_result(future.result())
            else:
                result.set_exception(self.as_ours(error))

        self.actors[actor].make.remote(piece).future().add_done_callback(finish)
        return result

    def as_ours(self, error: BaseException) -> BaseException:
        """Return what an actor raised, as it raised it; WorkerLost where it was lost."""
        if isinstance(error, self.ray.exceptions.RayTaskError):
            return error.cause if isinstance(error.cause, Exception) else error
        return WorkerLost(
            f"workers of the cluster were lost, perhaps for want of memory, while these were made: "
            f"{few(self.under_way.values())}",
            hint="the parts that were made are kept: the same command goes on from them; fewer --workers take less memory",
        )


def ray_actors(address: str, workers: int | None, gpus: bool) -> Start:
    """Return what starts actors on a cluster: `workers` of them, or one for each core (each GPU with `gpus`) that it has.

    ConfigError where ray is not installed, or the cluster is not there.
    """

    @contextmanager
    def start(job: Job, parts: Parts) -> Iterator[RayActors]:
        ray = imported_ray()
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
            options = {"num_cpus": 1, "num_gpus": int(gpus), "max_restarts": -1, "max_task_retries": TRIES}
            maker = ray.remote(**options)(PartMaker)
            folder = parts.folder.absolute()
            yield RayActors(ray, [maker.remote(job, folder, "cuda" if gpus else "cpu") for _ in range(count)])
        finally:
            ray.shutdown()

    return start


def imported_ray() -> ModuleType:
    """Return the package ray. ConfigError where it is not installed."""
    try:
        return import_module("ray")
    except ImportError:
        raise ConfigError("--engine ray needs the package ray", hint="pip install 'mfd-cli[ray]'") from None
