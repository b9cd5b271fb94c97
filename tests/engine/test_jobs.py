"""Work in pieces: the same parts in the same order, whoever makes them, and nothing lost when one fails."""

from __future__ import annotations

import json
import multiprocessing
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kit.toy_job import Squares, pieces
from mfd_cli.base.errors import OutputError, RunError
from mfd_cli.base.locks import claims
from mfd_cli.engine import jobs
from mfd_cli.engine import parts as parts_module
from mfd_cli.engine.jobs import HERE, Piece, ShardMade, ShardSummary, WorkerLost, Workplace, at_work
from mfd_cli.engine.local import local_processes
from mfd_cli.engine.parts import Parts, parts_folder

TWO = Workplace(start=local_processes(["cpu", "cpu"]))
GATHER = Workplace(gather=True)


def result(job: Squares, place: Path | None, workplace: Workplace = HERE, of: list[Piece] | None = None) -> list[Any]:
    """What the work comes to: each item's name, and its columns as plain lists."""
    with at_work(job, job.here, place, workplace) as work:
        made = work.parts_of((piece.name, piece) for piece in of or pieces())
        return [(name, {key: np.asarray(values).tolist() for key, values in columns.items()}) for name, columns in made]


def shard(job: Squares, place: Path, number: int, shards: int, workplace: Workplace = HERE) -> ShardSummary:
    with at_work(job, job.here, place, replace(workplace, shard=(number, shards), command={"words": ["x"]})) as work:
        with pytest.raises(ShardMade) as made:
            work.make_shard(place, pieces())
        return made.value.summary


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_module.Parts.expect, "__defaults__", (2.0,))


def made_parts(place: Path) -> set[str]:
    return {path.name for path in parts_folder(place).glob("*.part")}


def test_all_ways_come_to_the_same(tmp_path: Path) -> None:
    job, place = Squares(), tmp_path / "out"
    here = result(job, place)
    assert [name for name, _ in here] == [piece.name for piece in pieces()]
    assert here[4][1]["power"] == [144, 169, 196] and here[0][1]["name"] == ["n0", "n1", "n2"]
    assert result(job, place, TWO) == here == result(job, None, TWO) == result(job, None)
    order = [1, 2, 3]
    random.Random(5).shuffle(order)
    told = [shard(job, place, number, 3, TWO if number == 2 else HERE) for number in order]
    assert sorted((summary.shard[0], summary.parts, summary.pieces) for summary in told) == [
        (1, 3, 7),
        (2, 2, 7),
        (3, 2, 7),
    ]
    assert result(job, place, GATHER) == here
    assert list(tmp_path.iterdir()) == []  # neither parts nor anything else stays


def test_parts_that_took_a_while_are_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "WORTH", 0.0)
    job, place, whole = Squares(), tmp_path / "out", result(Squares(), None)

    def interrupted() -> Iterator[tuple[str, Piece]]:
        for number, piece in enumerate(pieces()):
            if number == 4:
                raise KeyboardInterrupt
            yield piece.name, piece

    with pytest.raises(KeyboardInterrupt), at_work(job, job.here, place) as work:
        list(work.parts_of(interrupted()))
    assert len(made_parts(place)) == 4
    torn = parts_folder(place) / min(made_parts(place))
    torn.write_bytes(torn.read_bytes()[:-3])
    with at_work(job, job.here, place) as work:
        assert len(list(work.parts_of((piece, piece) for piece in pieces()))) == 7
        assert (work.reused, work.reused_rows) == (3, 9)
    assert whole == result(job, place) and not parts_folder(place).exists()


@pytest.mark.parametrize("workplace", [HERE, TWO], ids=["here", "two"])
def test_a_faulty_piece_is_an_error_as_anywhere(tmp_path: Path, workplace: Workplace) -> None:
    job, place = Squares(worker="error"), tmp_path / "out"
    with pytest.raises(RunError, match="thirteen") as raised, at_work(job, job.elsewhere, place, workplace) as work:
        list(work.parts_of((piece, piece) for piece in pieces()))
    assert raised.value.hint == "another number" and list(tmp_path.iterdir()) == []


def test_a_worker_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be opened here"):
        result(Squares(worker="no start"), tmp_path / "out", TWO)


def test_a_killed_worker_is_told_with_its_piece_and_the_work_goes_on(tmp_path: Path) -> None:
    job, place = Squares(worker="killed", note=tmp_path / "note"), tmp_path / "out"
    with pytest.raises(WorkerLost, match=r"for want of memory, while these were made: .*numbers 12-14") as raised:
        result(job, place, TWO)
    assert "the same command goes on" in str(raised.value.hint) and made_parts(place)
    before = made_parts(place)
    with at_work(job, job.here, place, TWO) as work:
        assert len(list(work.parts_of((piece, piece) for piece in pieces()))) == 7 and work.reused == len(before)
    assert not multiprocessing.active_children()


def test_no_worker_outlives_an_interruption(tmp_path: Path) -> None:
    job = Squares()
    with pytest.raises(KeyboardInterrupt), at_work(job, job.here, tmp_path / "out", TWO) as work:
        next(work.parts_of((piece, piece) for piece in pieces()))
        raise KeyboardInterrupt
    assert not multiprocessing.active_children()


# -- shards ------------------------------------------------------------------------------------------------------------


def test_missing_parts_are_named(tmp_path: Path) -> None:
    job, place = Squares(), tmp_path / "out"
    shard(job, place, 1, 3)
    shard(job, place, 3, 3)
    with pytest.raises(OutputError, match=r"2 parts are missing: numbers 3-5, numbers 12-14 \(of 3 .* finished: 2\)"):
        result(job, place, GATHER)
    assert len(made_parts(place)) == 5  # nothing is lost
    shard(job, place, 2, 3)
    assert result(job, place, GATHER) == result(job, None)


def test_an_interrupted_shard_goes_on(tmp_path: Path) -> None:
    job, place = Squares(), tmp_path / "out"
    assert shard(job, place, 1, 2).reused == 0
    (parts_folder(place) / min(made_parts(place))).unlink()
    again = shard(job, place, 1, 2)
    assert (again.parts, again.reused) == (4, 3)


def test_parts_of_another_model_are_refused(tmp_path: Path) -> None:
    place = tmp_path / "out"
    shard(Squares(), place, 1, 2)
    for act in (lambda: shard(Squares(power=3), place, 2, 2), lambda: result(Squares(power=3), place, GATHER)):
        with pytest.raises(OutputError, match=r"another power \(power: 2, now 3\)"):
            act()
    assert len(made_parts(place)) == 4


def test_what_parts_were_made_by_need_not_be_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that GPUs made are gathered where there is none."""
    place, here = tmp_path / "out", result(Squares(), None)
    shard(Squares(), place, 1, 1)
    monkeypatch.setattr(Squares, "plan", property(lambda self: {"power": self.power, "number of threads": 8}))
    with pytest.raises(OutputError, match=r"another number of threads \(number of threads: 1, now 8\)"):
        shard(Squares(), place, 1, 1)
    assert result(Squares(), place, GATHER) == here


def test_a_damaged_plan_is_told(tmp_path: Path) -> None:
    place = tmp_path / "out"
    shard(Squares(), place, 1, 2)
    for text, says in (("{", "is damaged"), (json.dumps({"plan": 3}), "is no plan of parts")):
        (parts_folder(place) / "plan.json").write_text(text)
        with pytest.raises(OutputError, match=says):
            result(Squares(), place, GATHER)


def test_one_shard_is_made_once_at_a_time(tmp_path: Path) -> None:
    place, first = tmp_path / "out", replace(HERE, shard=(1, 2))
    with claims():
        assert first.check_result(place, False) == place
        assert replace(HERE, shard=(2, 2)).check_result(place, False) == place
        script = (
            "from mfd_cli.base.locks import claim, claims; from pathlib import Path; import sys\n"
            "with claims(): claim(Path(sys.argv[1]))"
        )
        wanted = str(parts_folder(place) / "shard-1-of-2.json")
        done = subprocess.run([sys.executable, "-c", script, wanted], capture_output=True, text=True)
        assert "is being written by another mfd" in done.stderr
    place.write_text("there")
    with pytest.raises(OutputError, match="exists already"):
        first.check_result(place, False)


# -- disks that are slow -----------------------------------------------------------------------------------------------


def later(seconds: float, act: Callable[[], object]) -> None:
    def wait() -> None:
        time.sleep(seconds)
        act()

    threading.Thread(target=wait).start()


def test_a_part_that_a_disk_shows_late_is_waited_for(tmp_path: Path) -> None:
    made, seen = Parts(tmp_path / "a", {"x": 1}), Parts(tmp_path / "b", {"x": 1})
    seen.folder.mkdir()
    digest = made.write("k", {"n": np.arange(3)})
    raw = made.file("k").read_bytes()
    seen.write("k", {"n": np.arange(4)})  # an older state, whole in itself
    later(0.1, lambda: seen.file("k").write_bytes(raw[:40]))
    later(0.4, lambda: seen.file("k").write_bytes(raw))
    assert seen.expect("k", digest)["n"].tolist() == [0, 1, 2]
    with pytest.raises(OutputError, match="this machine has not seen it") as raised:
        seen.expect("other", digest, 0.1)
    assert raised.value.path == seen.file("other")
