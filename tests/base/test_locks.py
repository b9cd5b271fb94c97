"""Locks and leases: one writer of a result, and temporary files that are removed only when their process is gone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mfd_cli.base import locks
from mfd_cli.base.errors import OutputError
from mfd_cli.base.files import check_output, whole_file, whole_files, whole_folder
from mfd_cli.base.locks import claim, claims, mark_of_process, orphans

APART = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
"""A process that sees only its own, as in a container; the host name stays."""


def can_be_apart() -> bool:
    return bool(shutil.which("unshare")) and not subprocess.run([*APART, "true"], capture_output=True).returncode


WRITER = """
import os, subprocess, sys, time
from pathlib import Path
from mfd_cli.base import locks
if os.getpid() == 1:  # the first of its namespace; go on as one whose number nobody has in another
    for _ in range(40):
        subprocess.run(["true"])
    if os.fork():
        os.wait()
        sys.exit()
from mfd_cli.base.files import whole_folder
locks.BEAT = float(sys.argv[2])
with whole_folder(Path(sys.argv[1])) as folder:
    (folder / "half").touch()
    print(folder.name, flush=True)
    time.sleep(60)
"""
TIDIER = """
import sys
from pathlib import Path
from mfd_cli.base.locks import claim, claims
with claims():
    claim(Path(sys.argv[1]))
"""


def started(path: Path, beat: float, apart: bool = True) -> tuple[subprocess.Popen[str], Path]:
    """A process that builds a folder for a minute, and the temporary folder."""
    words = [*(APART if apart else []), sys.executable, "-c", WRITER, str(path), str(beat)]
    writer = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    return writer, path.with_name(writer.stdout.readline().strip())


def tidied(path: Path, apart: bool = True) -> None:
    """What another process does that is about to write the same."""
    subprocess.run([*(APART if apart else []), sys.executable, "-c", TIDIER, str(path)], check=True)


def aged(path: Path, seconds: float) -> None:
    """As if nobody had renewed its lease for so long."""
    os.utime(path, (time.time() - seconds,) * 2)


def ended(writer: subprocess.Popen[str]) -> None:
    writer.kill()
    writer.communicate()


@pytest.mark.skipif(not can_be_apart(), reason="no namespaces of processes can be made here")
def test_containers_with_one_host_name_leave_each_other_alone(tmp_path: Path) -> None:
    writer, temporary = started(tmp_path / "out", 60.0)
    try:
        tidied(tmp_path / "out")
        assert (temporary / "half").exists(), "the files of a live run were removed"
        tidied(tmp_path / "out", apart=False)
        assert (temporary / "half").exists(), "the files of a live run were removed"
    finally:
        ended(writer)
    tidied(tmp_path / "out")
    assert temporary.exists(), "nobody can know yet that its process is gone"
    aged(temporary, locks.LEASE + 5)
    tidied(tmp_path / "out")
    assert not temporary.exists()


@pytest.mark.skipif(not can_be_apart(), reason="no namespaces of processes can be made here")
def test_a_live_process_renews_its_lease(tmp_path: Path) -> None:
    writer, temporary = started(tmp_path / "out", 0.05)
    try:
        aged(temporary, 2 * locks.LEASE)
        for _ in range(200):
            if time.time() - temporary.stat().st_mtime < locks.LEASE:
                break
            time.sleep(0.05)
        tidied(tmp_path / "out")
        assert (temporary / "half").exists()
    finally:
        ended(writer)


def test_what_a_killed_process_left_is_removed_at_once(tmp_path: Path) -> None:
    writer, temporary = started(tmp_path / "out", 60.0, apart=False)
    tidied(tmp_path / "out", apart=False)
    assert temporary.exists()
    writer.kill()
    while Path(f"/proc/{writer.pid}").exists() and "Z" not in Path(f"/proc/{writer.pid}/stat").read_text():
        time.sleep(0.01)
    tidied(tmp_path / "out", apart=False)  # before anybody has asked how it ended: what is left of it is no process
    assert not temporary.exists()
    ended(writer)


def test_a_process_with_the_number_of_a_dead_one_is_another(tmp_path: Path) -> None:
    mine = mark_of_process()
    where, pid, start = mine.split("-")
    (tmp_path / f".out.tmp-{mine}").mkdir()
    (tmp_path / f".out.tmp-{where}-{pid}-{int(start) - 1}").mkdir()
    assert [path.name for path, _, _ in orphans(tmp_path)] == [f".out.tmp-{where}-{pid}-{int(start) - 1}"]


def test_a_lease_is_renewed_while_a_result_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT", 0.02)

    def renewed(path: Path) -> bool:
        aged(path, 1000)
        for _ in range(200):
            if time.time() - path.stat().st_mtime < 500:
                return True
            time.sleep(0.02)
        return False

    with whole_file(tmp_path / "file") as temporary:
        temporary.touch()
        assert renewed(temporary)
    with whole_folder(tmp_path / "folder") as temporary:
        assert renewed(temporary)
    with whole_files(tmp_path / "one", tmp_path / "two") as places:
        assert all(renewed(place.parent) for place in places)


def test_two_with_temporary_folders_of_their_own_see_each_other(tmp_path: Path) -> None:
    """As two containers do, or two machines: only the folder of the result is shared."""
    script = TIDIER + '    print("held", flush=True)\n    sys.stdin.read()\n'
    (tmp_path / "other").mkdir()
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "out")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path / "other")},
    )
    assert other.stdout is not None and other.stdout.readline() == b"held\n"
    with claims(), pytest.raises(OutputError, match=f"is being written by another mfd \\(process {other.pid}\\)"):
        claim(tmp_path / "out")
    other.communicate()
    with claims():
        claim(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_claim_leaves_nothing_in_folders_that_were_not_there(tmp_path: Path) -> None:
    with claims():
        check_output(tmp_path / "a/b/out.txt", force=False)
    assert list(tmp_path.iterdir()) == []
    with claims():
        check_output(tmp_path / "a/b/out.txt", force=False)
        with whole_file(tmp_path / "a/b/out.txt") as temporary:
            temporary.write_text("x")
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["out.txt"]


@pytest.mark.skipif(not can_be_apart(), reason="no file system can be mounted here")
def test_where_nothing_can_be_written_the_lock_is_elsewhere(tmp_path: Path) -> None:
    """A read-only folder, which even root cannot write: the error is about that, and two still see each other."""
    script = (
        "import subprocess, sys, tempfile; from pathlib import Path\n"
        "from mfd_cli.base.files import check_output; from mfd_cli.base.locks import claims\n"
        "place = Path(sys.argv[1]); subprocess.run(['mount', '-t', 'tmpfs', '-o', 'ro', 'none', place], check=True)\n"
        "with claims():\n"
        "    try: check_output(place / 'out', False)\n"
        "    except Exception as error: print(error)\n"
        "    print(len(list(Path(tempfile.gettempdir()).glob('mfd-*/*'))))\n"
    )
    words = ["unshare", "--mount", sys.executable, "-c", script, str(tmp_path / "place")]
    (tmp_path / "place").mkdir()
    (tmp_path / "tmp").mkdir()
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, env={**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    )
    assert re.fullmatch(r".*/out: cannot be written \(permission denied\)\n1\n", done.stdout)
    assert not list(tmp_path.glob("tmp/mfd-*/*"))
