"""URLs as text: what is one, what is shown of it, and which of them lead to one file. And what was fetched, found by them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mfd_cli.base.errors import ConfigError, InputError
from mfd_cli.base.fetch import bytes_of
from mfd_cli.base.fetched import entry_of, fetched, inputs_folder
from mfd_cli.base.files import check_input
from mfd_cli.base.urls import has_secret, is_url, key_of, name_of, shown, without_secrets, written


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("https://x.org/a.bed", "https://x.org/a.bed"),
        ("https://me:hidden@x.org/a.bed", "https://x.org/a.bed"),
        ("https://me:hid/den@x.org/a.bed", "https://me:hid/den@x.org/a.bed"),  # no host is called me:hid
        ("https://me:hid?#den@x.org/a.bed", "https://x.org/a.bed"),
        ("https://x.org/a.bed?X-Amz-Signature=hidden&b=1", "https://x.org/a.bed?..."),
        ("https://x.org/a.bed#hidden", "https://x.org/a.bed"),
        ("https://www.encodeproject.org/files/E/@@download/E.bed.gz", None),
        ("s3://bucket/a b.bw", None),
        ("file:///a/b@c?d", None),
    ],
)
def test_what_is_shown_holds_no_secret(url: str, plain: str | None) -> None:
    assert shown(url) == (plain or url) and is_url(url)
    assert str(InputError("is wrong", path=url)).startswith(plain or url)
    assert written(Path(url)) == url or "//" in url.partition("://")[2]


def test_secrets_are_taken_out_of_texts_and_trees() -> None:
    told = without_secrets(
        {"a": ["get https://me:pw@x.org/y now"], "b": 1, "c": ("https://x.org/z z?Token=1",), "d": "EFO:1"}
    )
    assert told == {"a": ["get https://x.org/y now"], "b": 1, "c": ["https://x.org/z z?..."], "d": "EFO:1"}
    assert without_secrets("https://x.org/?file=3") == "https://x.org/?file=3" and not has_secret(
        "https://x.org/a@b?c=d"
    )


def test_a_key_is_one_file_however_its_url_is_signed() -> None:
    signed = "https://b.s3.amazonaws.com/a.bw?versionId=3&X-Amz-Date={}&X-Amz-Signature={}"
    assert key_of(signed.format(1, "aa")) == key_of(signed.format(2, "bb"))
    plain = ["https://x.org/a", "http://x.org/a", "s3://x.org/a", "https://x.org/A", "https://y.org/a"]
    queries = [f"https://x.org/a?{query}" for query in ("id=1", "id=2", "key=1", "key=2")]
    others = [signed.format(1, "aa"), signed.format(1, "aa").replace("=3", "=4"), *plain, *queries]
    assert len({key_of(url) for url in others}) == len(others)
    assert key_of("HTTPS://X.org//a") == key_of(Path("https://me:pw@x.org/a")) == key_of("https://x.org/a#part")


@pytest.mark.parametrize(
    ("url", "name"),
    [("https://x.org", "input"), ("https://x.org/..", "input"), ("https://x.org/.a", "a"), ("s3://b/-x.bw", "x.bw"),
     ("https://x.org/a/?b=c.bed", "a"), ("https://x.org/" + "n" * 500 + ".bed.gz", "n" * 113 + ".bed.gz")],
)  # fmt: skip
def test_names_of_files(url: str, name: str) -> None:
    assert name_of(url) == name


@pytest.mark.parametrize("size", ["", "GB", "-1", "1e9", "1 PB", "5 apples", "١GB"])
def test_what_is_no_size(size: str) -> None:
    with pytest.raises(ConfigError, match="is no size"):
        bytes_of(size)


def test_the_folder_of_fetched_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MFD_INPUTS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert inputs_folder() == tmp_path / ".cache/mfd/inputs"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert inputs_folder() == tmp_path / "c/mfd/inputs"
    monkeypatch.setenv("MFD_INPUTS", "/shared/inputs")
    assert inputs_folder() == Path("/shared/inputs")


def test_an_entry_that_leads_elsewhere_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MFD_INPUTS", str(tmp_path))
    url, digest = "https://x.org/a.bed", "0" * 64
    entry, file = entry_of(url, tmp_path), tmp_path / "files" / digest / "a.bed"
    good = {"name": "a.bed", "sha256": digest, "md5": "1" * 32, "bytes": 3}
    for folder in (entry.parent, file.parent):
        folder.mkdir(parents=True)
    file.write_bytes(b"abc")
    entry.write_text(json.dumps(good))
    assert check_input(Path(url)) == file and fetched("ftp://x.org/a.bed") is None
    (tmp_path / "files/a.bed").write_bytes(b"abc")
    for wrong in ({"name": "../a.bed"}, {"sha256": ".."}, {"bytes": 4}, {"bytes": None}, {"sha256": 5}, {"name": 5}):
        entry.write_text(json.dumps({**good, **wrong}))
        assert fetched(url) is None
    for text in ("", "[]", "5", "{", '{"name": "a.bed"}'):
        entry.write_text(text)
        with pytest.raises(InputError, match=r"https://x\.org/a\.bed: is a URL, and has not been fetched"):
            check_input(Path(url))
