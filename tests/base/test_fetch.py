"""Fetching from a server on the loopback that drops connections, ignores ranges, and changes what it serves."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from kit.harm import in_process, in_subprocess
from kit.web import Web, own_inputs, web
from mfd_cli.base import remote_streams
from mfd_cli.base.errors import ConfigError, InputError, InputErrors, MfdError, OutputError
from mfd_cli.base.fetch import ATTEMPTS, FetchSummary, Remote, fetch, plan_fetch
from mfd_cli.base.fetched import entry_of, fetched, inputs_folder

DATA = bytes(range(256)) * 4096
"""What is served: 1 MiB."""


@pytest.fixture
def server() -> Iterator[Web]:
    with web() as running:
        yield running


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return own_inputs(tmp_path / "inputs", monkeypatch)


def got(*urls: str, **options: Any) -> FetchSummary:
    return fetch([Remote(url) for url in urls], pause=0.001, **options)


def content(url: str) -> bytes | None:
    found = fetched(url)
    return found.path.read_bytes() if found is not None else None


def left(folder: Path) -> list[str]:
    """What lies in the folder for parts."""
    return sorted(path.suffix for path in (folder / "partial").glob("*")) if folder.is_dir() else []


def test_a_file_is_fetched_once_and_lies_under_its_digest(server: Web, folder: Path) -> None:
    url, other = server.put("/a/genome.fa.gz", DATA), server.put("/b/signal.bw", DATA)
    first = got(url, url)
    file = folder / "files" / hashlib.sha256(DATA).hexdigest() / "genome.fa.gz"
    assert [name for name, _ in first.fetched] == [url] and file.read_bytes() == DATA and left(folder) == []
    again = got(url)
    assert (
        not again.fetched and [name for name, _ in again.present] == [url] and len(server.reads("/a/genome.fa.gz")) == 1
    )
    got(other)
    assert sorted(path.name for path in file.parent.iterdir()) == ["genome.fa.gz", "signal.bw"]
    assert file.stat().st_nlink == 2  # one content takes room once
    file.write_bytes(DATA[:-1])
    assert content(url) is None and got(url).fetched and content(url) == DATA
    server.put("/a/genome.fa.gz", b"another version")
    assert got(url, again=True).fetched and content(url) == b"another version"


def test_a_connection_that_drops_is_gone_on_with(server: Web, folder: Path) -> None:
    url = server.put("/a.bw", DATA, drop=200_000)
    seen = list[tuple[str, int, int]]()
    got(url, progress=lambda *told: seen.append(told))
    assert content(url) == DATA and left(folder) == []
    assert server.reads("/a.bw")[:3] == ["", "bytes=199999-", "bytes=399998-"]  # each begins where the last one ended
    assert seen[-1] == ("fetching, MB", 1, 2) and all(done <= total for _, done, total in seen)


@pytest.mark.parametrize(
    "options", [{"ranges": False}, {"tagged": False}, {"sized": False}, {"sized": False, "ranges": False}]
)
def test_servers_that_can_or_tell_less(options: dict[str, bool], server: Web) -> None:
    url = server.put("/a.bw", DATA, **options)
    got(url)
    assert content(url) == DATA


def test_it_follows_where_a_portal_leads(server: Web) -> None:
    store = server.put("/store/1234.bw", DATA, drop=300_000)
    url = server.put("/files/E/@@download/E.bw", b"", status=307, to=f"{store}?X-Amz-Signature=1")
    got(url)
    found = fetched(url)
    assert content(url) == DATA and found is not None and found.path.name == "E.bw" and fetched(store) is None
    assert server.reads("/store/1234.bw")[:2] == ["", "bytes=299999-"]


def test_without_ranges_a_drop_begins_again_and_is_given_up(server: Web, folder: Path) -> None:
    url = server.put("/a.bw", DATA, drop=200_000, ranges=False)
    with pytest.raises(
        InputError, match=f"{url}: given up after {ATTEMPTS} attempts: the connection ended early"
    ) as told:
        got(url)
    assert told.value.hint and len(server.reads("/a.bw")) == ATTEMPTS and content(url) is None
    assert left(folder) == [".json", ".part"]
    server.pages["/a.bw"].drop = None
    got(url)
    assert content(url) == DATA


def test_without_a_size_a_short_answer_is_not_taken_for_the_file(server: Web) -> None:
    """A server that tells no size closes where the file ends, or where it breaks off: only the md5 can tell."""
    url = server.put("/a.bw", DATA, drop=100_000, sized=False, ranges=False)
    with pytest.raises(InputError, match="its md5 is"):
        fetch([Remote(url, hashlib.md5(DATA).hexdigest())])


def test_a_changed_file_is_read_from_its_beginning(server: Web, folder: Path) -> None:
    url = server.put("/a.bw", DATA, sized=False)
    with pytest.raises(OutputError, match=r"more than the limit of 0\.5 MB came"):
        got(url, limit=500_000)
    (part,) = (folder / "partial").glob("*.part")
    have = part.stat().st_size
    assert 0 < have < len(DATA) and DATA.startswith(part.read_bytes())
    new = DATA[::-1]
    server.put("/a.bw", new)
    server.requests.clear()
    got(url)
    assert content(url) == new and server.reads("/a.bw") == [f"bytes={have - 1}-", ""]


def test_a_file_that_became_shorter_is_read_from_its_beginning(server: Web) -> None:
    url = server.put("/a.bw", DATA, sized=False)
    with pytest.raises(OutputError):
        got(url, limit=500_000)
    server.put("/a.bw", b"short")
    got(url)
    assert content(url) == b"short"


def test_killed_and_gone_on_with(server: Web, folder: Path) -> None:
    hold = threading.Event()
    url = server.put("/a.bw", DATA, drop=700_000, wait=hold)
    running = subprocess.Popen([sys.executable, "-m", "mfd_cli", "fetch-inputs", url, "-q"])
    until = time.monotonic() + 60
    while not any(path.stat().st_size == 700_000 for path in folder.glob("partial/*.part")):
        assert time.monotonic() < until and running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL and content(url) is None and not list(folder.glob("files/*/*"))
    hold.set()
    server.put("/a.bw", DATA)
    server.requests.clear()
    summary = got(url, limit=len(DATA) - 700_000)  # only the rest is still to come
    assert content(url) == DATA and server.reads("/a.bw") == ["bytes=699999-"] and left(folder) == []
    assert [file.bytes for _, file in summary.fetched] == [len(DATA)]


def test_of_two_at_once_the_second_is_told_so(server: Web, folder: Path) -> None:
    hold = threading.Event()
    url, other = server.put("/a.bw", DATA, drop=1000, wait=hold), server.put("/b.bw", b"another")
    first = threading.Thread(target=got, args=(url,))
    first.start()
    until = time.monotonic() + 20
    while not any(path.stat().st_size for path in folder.glob("partial/*.part")):
        assert time.monotonic() < until
        time.sleep(0.01)
    with pytest.raises(InputError, match=f"{url}: is being fetched by another mfd"):
        got(url, other)
    assert content(other) == b"another"  # which is fetched all the same
    hold.set()
    first.join()
    assert content(url) == DATA and [name for name, _ in got(url, other).present] == [url, other]


def test_a_limit_is_kept_before_the_first_byte(server: Web, folder: Path) -> None:
    urls = [server.put(f"/{name}.bw", DATA) for name in "ab"]
    with pytest.raises(OutputError, match=r"2\.1 MB are to be fetched, more than the limit of 2\.0 MB"):
        got(*urls, limit=2_000_000)
    assert not server.reads("/a.bw") and not folder.exists()
    with pytest.raises(OutputError, match=r"1,000,000\.0 MB"):  # of a table: no server is asked
        fetch([Remote(server.put("/c.bw", DATA), bytes=10**12)], limit=10**9)
    with pytest.raises(OutputError, match="the disk has"):
        fetch([Remote(urls[0], bytes=10**18)])
    assert not server.reads("/c.bw")
    got(*urls, limit=2 * len(DATA))
    assert content(urls[1]) == DATA


def test_a_wrong_md5_is_told_and_the_file_removed(server: Web, folder: Path) -> None:
    url, good = server.put("/a.bw", DATA), server.put("/b.bw", b"another")
    md5 = hashlib.md5(DATA).hexdigest()
    with pytest.raises(InputError, match=f"{url}: its md5 is {md5}, and the table tells {'0' * 32}; it was removed"):
        fetch([Remote(url, "0" * 32), Remote(good, hashlib.md5(b"another").hexdigest())])
    assert (
        content(url) is None
        and content(good) == b"another"
        and left(folder) == []
        and len(list(folder.glob("files/*"))) == 1
    )
    fetch([Remote(url, md5)])
    server.put("/a.bw", DATA + b"more")
    new = hashlib.md5(DATA + b"more").hexdigest()
    assert fetch([Remote(url, new)]).fetched and content(url) == DATA + b"more"  # the table knows of a newer one


def test_what_is_not_there_is_told_in_a_sentence_each(server: Web) -> None:
    good = server.put("/a.bw", DATA)
    faults = {
        server.put("/gone.bw", b"", status=404): "no such file (404)",
        server.put("/private.bw", b"", status=403): "it may not be read (403)",
        server.put("/login.bw", b"", status=401): "it wants a name and a password (401)",
        server.put("/teapot.bw", b"", status=418): "the server answers 418",
        server.put("/busy.bw", b"", status=503): f"given up after {ATTEMPTS} attempts: the server answers 503",
        "http://127.0.0.1:1/a.bw": f"given up after {ATTEMPTS} attempts: the host takes no connection",
        "http://nowhere.invalid/a.bw": "no such host is known, or there is no network",
        server.address.replace("http", "https") + "/a.bw": "no safe connection",
    }
    with pytest.raises(InputErrors) as told:
        got(*faults, good)
    lines = str(told.value).splitlines()
    assert len(lines) == len(faults) and content(good) == DATA
    for line, (url, message) in zip(lines, faults.items()):
        assert line.startswith(f"{url}: {message}")
    assert len(server.reads("/gone.bw")) == 1  # what will not change is not asked for again


@pytest.mark.parametrize("url", ["a.bed", "ftp://x.org/a.bed", "file:///etc/passwd", "memory://a", "C:/a.bed"])
def test_other_urls_are_not_fetched(url: str) -> None:
    with pytest.raises(InputError, match="is no URL that can be fetched"):
        got(url)


def test_an_object_store_is_read_from_where_it_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsspec's file system of the memory stands for one of s3."""

    class Store(MemoryFileSystem):
        protocol = "s3"
        store: dict[str, Any] = {}  # noqa: RUF012

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return str(super()._strip_protocol(path.replace("s3://", "memory://")))

        def info(self, path: str, **options: Any) -> dict[str, Any]:
            found: dict[str, Any] = super().info(path, **options)
            return {**found, "ETag": hashlib.md5(self.cat_file(path)).hexdigest()}

    fsspec.register_implementation("s3", Store, clobber=True)
    monkeypatch.setattr(remote_streams, "PIECE", 100_000)
    places = list[int]()
    opened = Store._open
    monkeypatch.setattr(Store, "_open", lambda *a, **k: Noted(opened(*a, **k), places))
    try:
        Store().pipe_file("s3://bucket/a.bw", DATA)
        with pytest.raises(OutputError):
            fetch([Remote("s3://bucket/a.bw", bytes=1)], limit=250_000)  # the table told too little
        got("s3://bucket/a.bw")
        assert content("s3://bucket/a.bw") == DATA and places == [0, 299_999]
        with pytest.raises(InputError, match=r"s3://bucket/b\.bw: no such file"):
            got("s3://bucket/b.bw")
    finally:
        fsspec.register_implementation("s3", "s3fs.S3FileSystem", clobber=True)


class NoCredentialsError(Exception):
    """As botocore calls it."""


class EndpointConnectionError(Exception):
    """As botocore calls it."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError("Access Denied"), r"^s3://bucket/a\.bw: it may not be read \(403\)"),
        (OSError("(NoSuchBucket) when calling"), r"^s3://bucket/a\.bw: no such file \(404\)"),
        (NoCredentialsError(), "FSSPEC_S3_ANON=true reads what is public"),
        (EndpointConnectionError("https://me:HIDDEN@s3"), "given up after 5 attempts: the store takes no connection"),
        (TimeoutError(), "given up after 5 attempts: nothing came for 60 s"),
        (
            RuntimeError("https://me:HIDDEN@s3/a went wrong"),
            r"cannot be read \(RuntimeError: https://s3/a went wrong\)",
        ),
    ],
)
def test_what_stores_raise_is_told_in_a_sentence(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def info(self, url: str) -> None:
            raise error

    monkeypatch.setattr(remote_streams, "_file_system", lambda url: Broken())
    with pytest.raises(InputError, match=message) as told:
        got("s3://bucket/a.bw")
    assert "HIDDEN" not in str(told.value)


class Noted:
    """A file that notes where reading begins."""

    def __init__(self, file: Any, places: list[int]) -> None:
        self.file, self.places = file, places

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def seek(self, place: int) -> None:
        self.places.append(place)
        self.file.seek(place)


def test_without_the_extra_it_is_named(server: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.put("/a.bw", DATA)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(ConfigError, match="needs packages that are not installed") as told:
        got(url)
    assert told.value.hint == "pip install 'mfd-cli[remote]'" and not server.requests


def test_a_disk_that_takes_no_more_is_no_fault_of_the_connection(server: Web, folder: Path) -> None:
    url = server.put("/a.bw", DATA)
    words = [sys.executable, "-m", "mfd_cli", "fetch-inputs", url, "-q"]
    done = subprocess.run(["bash", "-c", 'ulimit -f 200; exec "$@"', "bash", *words], capture_output=True, text=True)
    assert done.returncode == 2 and "cannot be written (File too large)" in done.stderr, done.stderr
    assert len(server.reads("/a.bw")) == 1 and content(url) is None
    got(url)
    assert content(url) == DATA


def test_a_file_where_the_folder_should_be_is_told(server: Web, folder: Path) -> None:
    url = server.put("/a.bw", DATA)
    folder.write_text("a file where a folder should be")
    with pytest.raises(MfdError) as told:
        got(url)
    assert str(folder) in str(told.value)


def test_secrets_are_neither_shown_nor_stored(server: Web, folder: Path) -> None:
    plain = server.put("/a.bw", DATA)
    url = plain.replace("//", "//me:HIDDEN@") + "?X-Amz-Signature=HIDDEN2&token=HIDDEN3"
    missing = url.replace("a.bw", "b.bw")
    debugged = in_subprocess(["--debug", "fetch-inputs", missing], folder.parent)
    assert debugged.code == 1 and "Traceback" in debugged.told and "HIDDEN" not in debugged.told
    done = in_process(["fetch-inputs", url, missing], folder.parent)
    assert done.code == 2 and f"{plain.replace('a.bw', 'b.bw')}?...: no such file (404)" in done.told
    assert content(url) == DATA and content(url.replace("HIDDEN2", "OTHER")) == DATA
    shown = in_process(["fetch-inputs", url, "--json"], folder.parent)
    assert json.loads(shown.said)["present"][0]["url"] == f"{plain}?..."
    stored = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"HIDDEN" not in stored and "HIDDEN" not in done.told + done.said + shown.said
    assert entry_of(url, inputs_folder()).is_file()


def test_a_plan_reads_and_writes_nothing(server: Web, folder: Path) -> None:
    urls = [server.put("/a.bw", DATA), server.put("/b.bw", b"another"), server.put("/c.bw", DATA, sized=False)]
    got(urls[1])
    server.requests.clear()
    plan = plan_fetch([Remote(url) for url in urls])
    assert plan.missing == [(urls[0], len(DATA)), (urls[2], None)] and plan.present == [urls[1]]
    assert "to fetch: 2 files, 1.0 MB without 1 of unknown size; there already: 1 file" in plan.lines()
    assert server.reads("/a.bw") == [] and len(list(folder.glob("files/*"))) == 1
    assert os.listdir(folder / "partial") == []
