"""How many threads a command takes: what the user or the scheduler allows, not what the machine has."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mfd_cli.base import threads
from mfd_cli.base.threads import usable_cores


@pytest.mark.parametrize(("wished", "expected"), [("3", 3), ("2,1", 2), (" 4 ", 4)])
def test_what_the_environment_says(monkeypatch: pytest.MonkeyPatch, wished: str, expected: int) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", wished)
    assert usable_cores() == expected


@pytest.mark.parametrize("wished", ["", "0", "many"])
def test_what_says_nothing_is_passed_over(monkeypatch: pytest.MonkeyPatch, wished: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", wished)
    assert usable_cores() == len(os.sched_getaffinity(0))


def test_a_process_that_may_use_one_core_uses_one() -> None:
    script = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); os.environ.pop('OMP_NUM_THREADS', None);"
        "from mfd_cli.base.threads import usable_cores; print(usable_cores())"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "1\n"


def test_how_threads_wait_is_the_users_if_he_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    threads.sleep_soon()
    assert os.environ["GOMP_SPINCOUNT"] == threads.SPINS
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    threads.sleep_soon()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    threads.sleep_soon()
    assert "GOMP_SPINCOUNT" not in os.environ
