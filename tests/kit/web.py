"""A web server on the loopback that does what servers do to long downloads: drop connections, ignore ranges, change files."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Page:
    """What a path holds. `drop` ends each connection after so many bytes; `ranges`, `sized` and `tagged` are what the server
    can do and tell; `status` is its answer instead, and `to` where that leads; `wait` holds the rest back after `drop`."""

    content: bytes
    ranges: bool = True
    sized: bool = True
    tagged: bool = True
    drop: int | None = None
    status: int = 200
    to: str = ""
    wait: threading.Event | None = None


@dataclass
class Web:
    """A server that runs: its pages by path, and every request so far as (method, path, range)."""

    address: str
    pages: dict[str, Page] = field(default_factory=dict)
    requests: list[tuple[str, str, str]] = field(default_factory=list)

    def put(self, path: str, content: bytes, **options: Any) -> str:
        """Put a page, and return its URL."""
        self.pages[path] = Page(content, **options)
        return f"{self.address}{path}"

    def reads(self, path: str) -> list[str]:
        """Return the ranges that a path was read with, empty for the whole file."""
        return [part for method, asked, part in self.requests if method == "GET" and asked == path]


@contextmanager
def web() -> Iterator[Web]:
    """Run a server inside the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(body=True)

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def answer(self, body: bool) -> None:
            path, asked = self.path.partition("?")[0], self.headers.get("Range", "")
            running.requests.append((self.command, path, asked))
            page = running.pages.get(path, Page(b"", status=404))
            if page.status != 200:
                self.send_response(page.status)
                if page.to:
                    self.send_header("Location", page.to)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int(match[1]) if page.ranges and (match := re.match(r"bytes=(\d+)-", asked)) else 0
            content, whole = page.content[start:], len(page.content)
            if start >= whole and start:
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
            if page.tagged:
                self.send_header("ETag", f'"{hashlib.md5(page.content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content))) if page.sized else None
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            if not body:
                return
            with suppress(OSError):
                self.wfile.write(content[: page.drop])
                if page.wait is not None:
                    page.wait.wait(20)
                    self.wfile.write(content[page.drop :] if page.drop is not None else b"")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    running = Web(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()


def own_inputs(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Make a test's folder of fetched inputs the one that is looked in, and leave proxies aside."""
    patch.setenv("MFD_INPUTS", str(folder))
    for name in ("NO_PROXY", "no_proxy"):
        patch.setenv(name, "127.0.0.1")
    return folder
