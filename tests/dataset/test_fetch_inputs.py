"""`mfd fetch-inputs`: a project whose genome, table and tracks are URLs, ENCODE's tables, and commands that fetch nothing."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from kit.harm import METADATA, TOML, good_project, in_process, snapshot
from kit.web import Web, own_inputs, web
from mfd_cli.base.errors import MetadataError
from mfd_cli.base.fetch import Remote
from mfd_cli.dataset.remote_inputs import chosen_inputs, remote_inputs
from mfd_cli.experiments.sources import read_sources
from mfd_cli.settings.project import load_project

PREPROCESS = ["preprocess", "-q", "--threads", "1"]
CPU = ["--gpus", "0", "--threads", "1", "-q"]


@pytest.fixture
def server() -> Iterator[Web]:
    with web() as running:
        yield running


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return own_inputs(tmp_path / "inputs", monkeypatch)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A good project whose table tells the md5 of each file, and a blacklist."""
    folder = tmp_path / "local"
    good_project(folder)
    (folder / "blacklist.bed").write_text("chr1\t0\t3000\n")
    sums = [hashlib.md5((folder / row[1]).read_bytes()).hexdigest() for row in METADATA[1:]]
    rows = [(*row, md5) for row, md5 in zip(METADATA, ["md5sum", *sums])]
    (folder / "metadata.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    (folder / "mfd.toml").write_text(TOML.replace("[bins]\n", '[bins]\nexclude = "blacklist.bed"\n'))
    return folder


@pytest.fixture
def remote(local: Path, server: Web, tmp_path: Path) -> Path:
    """The same project, of which all but mfd.toml is on the server."""
    for path in ("genome.fa", "blacklist.bed", *(row[1] for row in METADATA[1:])):
        server.put(f"/{path}", (local / path).read_bytes())
    table = (local / "metadata.tsv").read_text().replace("\ttracks/", f"\t{server.address}/tracks/")
    server.put("/metadata.tsv", table.encode())
    folder = tmp_path / "remote"
    folder.mkdir()
    text = (local / "mfd.toml").read_text()
    for name in ("genome.fa", "metadata.tsv", "blacklist.bed"):
        text = text.replace(f'"{name}"', f'"{server.address}/{name}"')
    (folder / "mfd.toml").write_text(text)
    return folder


def test_a_remote_project_gives_the_dataset_of_the_local_one(
    local: Path, remote: Path, server: Web, cache: Path
) -> None:
    for words in (PREPROCESS, ["check-design"], ["preprocess", "--dry-run"]):
        done = in_process(words, remote)
        assert (
            done.code == 2
            and "is a URL, and has not been fetched" in done.told
            and "hint: mfd fetch-inputs" in done.told
        )
    assert not server.requests and not (remote / "dataset").exists() and not cache.exists()
    plan = in_process(["fetch-inputs", "--dry-run"], remote)
    assert plan.code == 0 and f"would fetch {server.address}/metadata.tsv" in plan.said and not cache.exists()

    done = in_process(["fetch-inputs"], remote)
    assert done.code == 0 and "fetched: 8 files" in done.said and "fetching, MB" in done.told, done.told
    plan = in_process(["fetch-inputs", "--dry-run"], remote)
    assert "to fetch: 0 files, 0.0 MB; there already: 8 files" in plan.said
    server.requests.clear()
    for folder in (local, remote):
        made = in_process(PREPROCESS, folder)
        assert made.code == 0, made.told
    assert in_process(["check-design"], remote).code == 0 and in_process(["fetch-inputs", "-q"], remote).code == 0
    assert not server.requests

    ours, theirs = snapshot(local / "dataset"), snapshot(remote / "dataset")
    named = {"manifest.json", "tracks.arrow"}  # which say how the table names the files
    assert {name for name in ours if ours[name] != theirs.get(name)} <= named and set(ours) == set(theirs)
    columns = [pa.ipc.open_file(folder / "dataset/tracks.arrow").read_all() for folder in (local, remote)]
    assert columns[0].drop_columns(["metadata.File path"]) == columns[1].drop_columns(["metadata.File path"])
    manifests = [(folder / "dataset/manifest.json").read_text() for folder in (local, remote)]
    inputs = [json.loads(text.replace(f"{server.address}/", ""))["inputs"] for text in manifests]
    assert [row for row in inputs[0] if row["name"] != "metadata.tsv"] == [
        row for row in inputs[1] if row["name"] != "metadata.tsv"
    ]


def test_secrets_reach_neither_dataset_nor_run(remote: Path, server: Web, cache: Path) -> None:
    table = server.pages["/metadata.tsv"]
    lines = [line.split("\t") for line in table.content.decode().splitlines()]
    for cells in lines[1:]:
        cells[1] = cells[1].replace("//", "//me:HIDDEN@") + "?token=HIDDEN"
    table.content = "".join("\t".join(cells) + "\n" for cells in lines).encode()
    text = (remote / "mfd.toml").read_text()
    (remote / "mfd.toml").write_text(text.replace('fa"', 'fa?sig=HIDDEN"').replace("//", "//me:HIDDEN@"))
    for words in (
        ["fetch-inputs"],
        PREPROCESS,
        ["train", *CPU],
        ["info", "run"],
    ):
        done = in_process(words, remote)
        assert done.code == 0 and "HIDDEN" not in done.told + done.said, done.told
    folders = [cache, remote / "dataset", remote / "run"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    table_itself = next(path for path in files if path.name == "metadata.tsv")
    assert [path for path in files if b"HIDDEN" in path.read_bytes()] == [table_itself]
    assert f"{server.address}/tracks/one.narrowPeak?..." in (remote / "dataset/manifest.json").read_text()
    (remote / "mfd.toml").write_text((remote / "mfd.toml").read_text().replace("genome.fa", "gone.fa"))
    done = in_process([*PREPROCESS, "--force"], remote)
    assert done.code == 2 and "gone.fa?...: is a URL" in done.told and "HIDDEN" not in done.told


def test_options_name_urls_too(local: Path, server: Web) -> None:
    genome, variants = (server.put(f"/{name}", (local / name).read_bytes()) for name in ("genome.fa", "input.vcf"))
    for words in ([*PREPROCESS, "--fasta", genome], ["score-variants", f"{variants}?token=HIDDEN", *CPU]):
        if words[0] == "score-variants":
            assert in_process(["train", *CPU], local).code == 0
        done = in_process(words, local)
        assert done.code == 2 and ": is a URL, and has not been fetched" in done.told and "HIDDEN" not in done.told
        url = next(word for word in words if word.startswith("http"))
        assert in_process(["fetch-inputs", "-q", url], local).code == 0
        done = in_process(words, local)
        assert done.code == 0, done.told
    assert (local / "input.mfd.vcf.gz").is_file() and not list(local.glob("*HIDDEN*"))
    local_file = in_process(["score-variants", "input.vcf", "-o", "same.vcf.gz", *CPU], local)
    assert local_file.code == 0
    assert (local / "same.vcf.gz").read_bytes() == (local / "input.mfd.vcf.gz").read_bytes()


def test_one_content_under_two_urls_is_two_tracks(remote: Path, server: Web) -> None:
    server.put("/copies/three.bed", server.pages["/tracks/three.bed"].content)
    table = server.pages["/metadata.tsv"]
    four = next(line for line in table.content.decode().splitlines() if line.startswith("T4")).split("\t")
    copy = [*four[:1], f"{server.address}/copies/three.bed", *four[2:-1], ""]
    table.content = table.content.replace("\t".join(four).encode(), "\t".join(copy).encode())
    assert in_process(["fetch-inputs", "-q"], remote).code == 0
    sources = {source.id: source for source in read_sources(load_project(remote / "mfd.toml")).tracks}
    assert sources["T3"].path == sources["T4"].path and sources["T3"].name != sources["T4"].name


def test_controls_are_not_fetched_and_assayed_regions_are(tmp_path: Path) -> None:
    rows = [
        ("File accession", "File path", "Control", "Assayed", "md5sum", "Size"),
        ("A", "https://x.org/a.bed", "", "s3://b/a.bed", "A" * 32, "12"),
        ("B", "https://x.org/b.bed", "yes", "", "", ""),
        ("C", "c.bed", "", "", "", "x"),
    ]
    (tmp_path / "metadata.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    settings = 'control = "Control"\nassayed = "Assayed"\n'
    (tmp_path / "mfd.toml").write_text(
        f'[data]\nmetadata = "metadata.tsv"\nfasta = "gs://b/g.fa"\n[tracks]\n{settings}'
    )
    wanted = remote_inputs(load_project(tmp_path / "mfd.toml"))
    assert wanted == [Remote("gs://b/g.fa"), Remote("https://x.org/a.bed", "a" * 32, 12), Remote("s3://b/a.bed")]


def test_a_track_file_with_another_md5_than_the_table_tells(local: Path) -> None:
    """All such files are told together, before anything is made of them, with what was found and what the table tells."""
    assert "md5 sums to compare with those in the table: 5" in in_process(["preprocess", "--dry-run"], local).said
    first, second = (METADATA[number][1] for number in (1, 3))
    table = (local / "metadata.tsv").read_text()
    told = [hashlib.md5((local / name).read_bytes()).hexdigest() for name in (first, second)]
    for name in (first, second):  # both are good files all the same
        (local / name).write_bytes((local / name).read_bytes() + b"chr1\t20\t300\n")
    found = [hashlib.md5((local / name).read_bytes()).hexdigest() for name in (first, second)]
    outcome = in_process(PREPROCESS, local)
    assert outcome.code == 2 and not (local / "dataset").exists()
    for name, line, wanted, md5 in zip((first, second), (2, 4), told, found):
        assert f"{name}: its md5 is {md5}, and line {line} of the metadata table tells {wanted}" in outcome.told
    assert "empty the cell" in outcome.told
    for wanted, cell in zip(told, ("", "NA")):
        table = table.replace(wanted, cell)
    (local / "metadata.tsv").write_text(table)
    assert in_process(PREPROCESS, local).code == 0
    assert in_process([*PREPROCESS, "--force"], local).code == 0
    (local / "metadata.tsv").write_text(table.replace("\tNA\n", "\t123\n"))
    outcome = in_process(["check-design"], local)
    assert outcome.code == 2 and "metadata.tsv:4: '123' is no md5" in outcome.told


# -- from ENCODE's table -----------------------------------------------------------------------------------------------


def encode_table(folder: Path, server: Web, **changes: str) -> tuple[Path, list[str]]:
    """A table as the portal gives it, of two experiments and a file that is not chosen; and the URLs of those that are."""
    files = {"ENCFF001": b"chr1\t100\t400\n", "ENCFF002": b"chr1\t900\t1200\n", "ENCFF003": b"chr1\t5\t50\n"}
    header = ("File accession", "File format", "Output type", "Experiment accession", "File assembly", "File Status",
              "Assay", "Experiment target", "Lab", "Size", "md5sum", "File download URL")  # fmt: skip
    lines, urls = ["\t".join(header)], []
    for number, (name, content) in enumerate(files.items()):
        urls.append(server.put(f"/files/{name}/@@download/{name}.bed", content))
        status, md5 = ("archived" if number == 2 else "released"), hashlib.md5(content).hexdigest()
        cells = [name, "bed narrowPeak", "peaks", f"E{number}", "hg19", status, "ChIP-seq", f"T{number}", "L"]
        lines.append("\t".join([*cells, str(len(content)), changes.get("md5", md5), changes.get("url", urls[-1])]))
    path = folder / "metadata.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path, urls[:2]


def test_what_init_chooses_is_fetched_and_found_by_init(tmp_path: Path, server: Web) -> None:
    tmp_path = tmp_path / "p"
    tmp_path.mkdir()
    _, urls = encode_table(tmp_path, server)
    (tmp_path / "g.fa").write_text("".join(f">chr{i}\n{'ACGT' * 2000}\n" for i in range(1, 5)))
    init = ["init", "--fasta", "g.fa", "--metadata", "metadata.tsv"]
    done = in_process(init, tmp_path)
    assert done.code == 2 and "hint: mfd fetch-inputs --from-metadata metadata.tsv fetches them" in done.told
    done = in_process(["fetch-inputs", "--from-metadata", "metadata.tsv", "--limit", "1kB"], tmp_path)
    assert done.code == 0 and all(f"fetched {url}" in done.said for url in urls), done.told
    # Its sizes are in the table, so that the server is asked for the files alone.
    assert sorted(server.requests) == [("GET", url.removeprefix(server.address), "") for url in urls]
    done = in_process(init, tmp_path)
    assert done.code == 0, done.told
    sources = read_sources(load_project(tmp_path / "mfd.toml")).tracks
    assert [source.name for source in sources] == urls and all(source.kind == "peaks" for source in sources)
    assert sources[0].path.read_bytes() == b"chr1\t100\t400\n"
    # A file beside the table goes before one that was fetched.
    (tmp_path / "ENCFF001.bed").write_text("chr1\t100\t400\n")
    assert in_process([*init, "--force"], tmp_path).code == 0
    assert [source.name for source in read_sources(load_project(tmp_path / "mfd.toml")).tracks] == [
        "ENCFF001.bed",
        urls[1],
    ]


def test_the_md5_of_a_packed_file_is_not_that_of_the_unpacked_one(tmp_path: Path, server: Web) -> None:
    encode_table(tmp_path, server, url="https://x.org/ENCFF.bed.gz")
    (tmp_path / "g.fa").write_text("".join(f">chr{i}\n{'ACGT' * 2000}\n" for i in range(1, 5)))
    (tmp_path / "ENCFF001.bed").write_text("chr1\t100\t400\n")
    (tmp_path / "ENCFF002.bed.gz").write_bytes(b"chr1\t100\t400\n")
    assert in_process(["init", "--fasta", "g.fa", "--metadata", "metadata.tsv"], tmp_path).code == 0
    sources = {source.name: source.md5 for source in read_sources(load_project(tmp_path / "mfd.toml")).tracks}
    assert sources == {"ENCFF001.bed": None, "ENCFF002.bed.gz": hashlib.md5(b"chr1\t900\t1200\n").hexdigest()}


def test_what_a_table_tells_wrong(tmp_path: Path, server: Web) -> None:
    table, urls = encode_table(tmp_path, server, md5="0" * 32)
    done = in_process(["fetch-inputs", "--from-metadata", "metadata.tsv", "--json"], tmp_path)
    errors = json.loads(done.told.splitlines()[-1])["errors"]
    assert done.code == 2 and [error["path"] for error in errors] == urls and "0" * 32 in errors[0]["message"]
    encode_table(tmp_path, server, md5="none of it")
    with pytest.raises(MetadataError, match=r"metadata\.tsv:2: 'none of it' is no md5"):
        chosen_inputs(table)
    encode_table(tmp_path, server, url="")
    with pytest.raises(MetadataError, match="tells no URL"):
        chosen_inputs(table)
    encode_table(tmp_path, server, url="/files/E/@@download/E.bed")  # as in the portal's report
    assert chosen_inputs(table)[0].url == "https://www.encodeproject.org/files/E/@@download/E.bed"
    with pytest.raises(MetadataError, match="of GRCh38"):
        chosen_inputs(table, "GRCh38")


# -- the command -------------------------------------------------------------------------------------------------------


def test_a_folder_of_ones_own(tmp_path: Path, server: Web, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = server.put("/r.bed", b"chr1\t1\t2\n")
    done = in_process(["fetch-inputs", url, "--cache", "shared"], tmp_path)
    assert done.code == 0 and f"MFD_INPUTS={tmp_path / 'shared'}" in done.said and not cache.exists()
    assert len(server.reads("/r.bed")) == 1
    monkeypatch.setenv("MFD_INPUTS", str(tmp_path / "shared"))
    again = json.loads(in_process(["fetch-inputs", url, "--json"], tmp_path).said)
    assert not again["fetched"] and again["present"][0]["sha256"] == hashlib.sha256(b"chr1\t1\t2\n").hexdigest()
    assert in_process(["fetch-inputs", url, "--force"], tmp_path).code == 0 and len(server.reads("/r.bed")) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "there is no mfd.toml here that names inputs"),
        (["tracks/a.bed"], "tracks/a.bed: is no URL that can be fetched"),
        (["https://x.org/a", "--limit", "much"], "--limit 'much' is no size"),
        (["--from-metadata", "nowhere.tsv"], "nowhere.tsv: no such file"),
    ],
)
def test_what_cannot_be_done_is_told(words: list[str], message: str, tmp_path: Path) -> None:
    done = in_process(["fetch-inputs", *words], tmp_path)
    assert done.code == 2 and message in done.told and not list(tmp_path.iterdir())


def test_a_project_without_urls_has_nothing_to_fetch(local: Path, cache: Path) -> None:
    done = in_process(["fetch-inputs"], local)
    assert (
        done.code == 0 and done.said == "no input is named by a URL: there is nothing to fetch\n" and not cache.exists()
    )
    shutil.rmtree(local / "tracks")  # whether the local files are there is not its business
    assert in_process(["fetch-inputs"], local).code == 0
