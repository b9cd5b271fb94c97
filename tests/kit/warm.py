"""`mfd` in a process of its own without the two seconds that importing torch takes: the process is a fork of one that has it.

It is a process as any other: its own arguments, folder, environment, standard streams and signals, and an end that a shell
would see. Only the imports are not its own. A test that is about them, about memory, or about how the program is started has to
start it itself. tests/whole/test_cli.py starts every command so; with MFD_SOAK (`make soak`) nothing here is a fork.

This file is the server too: `python warm.py NUMBER` serves the socket of that number.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


class Started:
    """A process that runs. The server waits for it, and says how it ended; one at a time."""

    def __init__(self, server: socket.socket, words: Sequence[str], folder: Path, stdin: str) -> None:
        self.server, self.words = server, list(words)
        self.streams: list[IO[bytes]] = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115
        self.streams[0].write(stdin.encode())
        self.streams[0].seek(0)
        request = {"words": self.words, "folder": str(folder), "environment": {**os.environ, **ENVIRONMENT}}
        ask(server, json.dumps(request).encode(), [stream.fileno() for stream in self.streams])
        self.pid = number_from(server)
        self.returncode: int | None = None

    def wait(self, timeout: float) -> int:
        """Return how it ended, as subprocess does: a negative number is a signal. One that hangs is killed."""
        if self.returncode is None:
            self.server.settimeout(timeout)
            try:
                self.returncode = number_from(self.server)
            except TimeoutError:
                self.server.settimeout(None)
                os.kill(self.pid, signal.SIGKILL)
                self.returncode = number_from(self.server)
                raise subprocess.TimeoutExpired(self.words, timeout) from None
            finally:
                self.server.settimeout(None)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the process; one that has ended is left alone."""
        self.server.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            self.returncode = number_from(self.server)
        self.server.setblocking(True)
        if self.returncode is None:
            os.kill(self.pid, number)

    def communicate(self, timeout: float = 300) -> tuple[bytes, bytes]:
        """Wait for its end; return what it wrote to standard output and to standard error."""
        self.wait(timeout)
        said = []
        for stream in self.streams[1:]:
            stream.seek(0)
            said.append(stream.read())
        for stream in self.streams:
            stream.close()
        return said[0], said[1]


def ask(server: socket.socket, request: bytes, streams: Sequence[int]) -> None:
    """Send a request, and the standard streams of the process that is to be."""
    socket.send_fds(server, [len(request).to_bytes(4, "little")], streams)
    server.sendall(request)


def asked(connection: socket.socket) -> tuple[bytes, list[int]]:
    """Return a request and its streams, as `ask` sends them; an empty one where the other side has closed the connection."""
    head, numbers, _, _ = socket.recv_fds(connection, 4, 3)
    return received(connection, int.from_bytes(head, "little")) if len(head) == 4 else b"", list(numbers)


def number_from(connection: socket.socket) -> int:
    """Return the next number that the other side sends."""
    raw = received(connection, 8)
    if len(raw) < 8:
        raise RuntimeError("the server of warm processes is gone")
    return int.from_bytes(raw, "little", signed=True)


def received(connection: socket.socket, size: int) -> bytes:
    """Return so many bytes; fewer where the other side has closed the connection."""
    raw = b""
    while len(raw) < size and (piece := connection.recv(size - len(raw))):
        raw += piece
    return raw


@cache
def server() -> socket.socket:
    """Return the connection to the server, which is started once and ends with this process."""
    ours, its = socket.socketpair()
    words = [sys.executable, __file__, str(its.fileno())]
    process = subprocess.Popen(words, pass_fds=[its.fileno()], env={**os.environ, **ENVIRONMENT})
    its.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def start(words: Sequence[str], folder: Path, stdin: str = "") -> Started | subprocess.Popen[bytes]:
    """Start `python words` in a folder: a script and its arguments, or `-m` and a module."""
    if "MFD_SOAK" not in os.environ:
        return Started(server(), words, folder, stdin)
    with tempfile.TemporaryFile() as given:
        given.write(stdin.encode())
        given.seek(0)
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env={**os.environ, **ENVIRONMENT},
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


def run(words: Sequence[str], folder: Path, stdin: str = "", timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run `python words` to its end, as subprocess.run does with its output captured as text."""
    started = start(words, folder, stdin)
    try:
        said, told = (text.decode("utf-8", "replace") for text in started.communicate(timeout=timeout))
    except subprocess.TimeoutExpired:
        started.send_signal(signal.SIGKILL)
        raise
    assert started.returncode is not None
    return subprocess.CompletedProcess(list(words), started.returncode, said, told)


CLIENT = """#!{python} -SE
import json, os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({place!r})
words = ["-m", "mfd_cli", *sys.argv[1:]]
text = json.dumps({{"words": words, "folder": os.getcwd(), "environment": dict(os.environ)}}).encode()
socket.send_fds(connection, [len(text).to_bytes(4, "little")], [0, 1, 2])
connection.sendall(text)
code = int.from_bytes(connection.recv(8), "little", signed=True)
sys.exit(code if code >= 0 else 128 - code)
"""


@contextlib.contextmanager
def program(path: Path) -> Iterator[None]:
    """Write a program `mfd` that others may start, one at a time, for as long as the block lasts."""
    if "MFD_SOAK" in os.environ:
        path.write_text(f'#!/bin/sh\nexec {sys.executable} -m mfd_cli "$@"\n')
        path.chmod(0o755)
        yield
        return
    with tempfile.TemporaryDirectory(prefix="mfd-") as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place := f"{folder}/socket")
        listener.listen()
        path.write_text(CLIENT.format(python=sys.executable, place=place))
        path.chmod(0o755)
        passing = threading.Thread(target=pass_on, args=(listener, server()), daemon=True)
        passing.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        passing.join()


def pass_on(listener: socket.socket, server: socket.socket) -> None:
    """Hand requests of programs to the server, and tell each how its process ended, until nobody listens any more."""
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client:
            text, streams = asked(client)
            ask(server, text, streams)
            for number in streams:
                os.close(number)
            number_from(server)  # which process it is
            client.sendall(number_from(server).to_bytes(8, "little", signed=True))


# -- the server --------------------------------------------------------------------------------------------------------


def load() -> None:
    """Import what commands import, themselves included."""
    import mfd_cli

    for module in pkgutil.walk_packages(mfd_cli.__path__, "mfd_cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in ("pandas", "torch._dynamo"):  # pyarrow and torch's optimisers ask for them when they are first used
        importlib.import_module(name)


def serve(connection: socket.socket) -> dict[str, Any] | None:
    """Fork for every request. Return the request in each of the forks, and None in the server at its end."""
    while True:
        text, numbers = asked(connection)
        if not text:
            return None
        request: dict[str, Any] = json.loads(text)
        child = os.fork()
        if not child:
            for number, given in enumerate(numbers):
                os.dup2(given, number)
            os.closerange(3, max(numbers) + 1)
            connection.detach()
            return request
        for given in numbers:
            os.close(given)
        connection.sendall(child.to_bytes(8, "little", signed=True))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.sendall(code.to_bytes(8, "little", signed=True))


def become(words: Sequence[str], folder: str, environment: Mapping[str, str]) -> None:
    """Run a program in this process, as Python does that has just been started, and end the process with its exit code."""
    code = 0
    try:
        run_program(words, folder, environment)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking apart what is loaded would take half a second


def run_program(words: Sequence[str], folder: str, environment: Mapping[str, str]) -> None:
    """Run a script with its arguments, or `-m` and a module, in a folder."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None  # which another environment may place elsewhere
    if words[0] == "-m":
        sys.argv = list(words[1:])
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(words)
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file: no module of the program's is there
    load()
    runpy.run_path(str(Path(__file__).with_name("sketch.py")))["sketch"]()  # as in the process that asks
    gc.freeze()  # what is loaded is the same in all forks
    wanted = serve(socket.socket(fileno=int(sys.argv[1])))
    if wanted is not None:
        become(**wanted)
