"""`mfd view`: the page fetches nothing, has the numbers of the files and works in Chromium; bad input leaves no page."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyBigWig
import pysam
import pytest

from kit import harm
from mfd_cli.dataset.folder import Dataset, open_dataset
from mfd_cli.runs.folder import Run
from mfd_cli.view import igv

BROWSER = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
CONTIG, FIRST, LAST = "chr2", 2000, 9000


def vcf_of(dataset: Dataset, renamed: str = "chr") -> str:
    """Substitutions on chr2, one every 500 bp, with a field that igv.js could not decode, and a harmful id."""
    genome = dataset.genome
    lines = ["##fileformat=VCFv4.2", '##INFO=<ID=AF,Number=1,Type=String,Description="share">']
    lines += [f"##contig=<ID={name.replace('chr', renamed)},length={n}>" for name, n in genome.lengths.items()]
    lines.append("\t".join(harm.COLUMNS))
    for number, place in enumerate(range(FIRST, LAST, 500)):
        ref = genome.bases(CONTIG, place, place + 1)
        alt = "ACGT"[("ACGT".index(ref) + 1) % 4]
        name = '<img/src=x/onerror="window.stolen=1">' if number == 3 else f"rs{number}"
        if number == 5:
            alt = f"{alt},{ref}{15 * 'G'}"  # two alleles, one of them long
        lines.append(f"{CONTIG.replace('chr', renamed)}\t{place + 1}\t{name}\t{ref}\t{alt}\t50\tPASS\tAF=5%")
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def project(trained: tuple[Run, Dataset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run and its dataset, a scored VCF, predictions and an explanation; read only."""
    if find_spec(igv.PACKAGE) is None:
        pytest.skip("the extra view is not installed")
    folder = tmp_path_factory.mktemp("viewed")
    run, dataset = trained
    shutil.copytree(run.path, folder / "run")
    shutil.copytree(dataset.path, folder / "dataset")
    (folder / "input.vcf").write_text(vcf_of(dataset))
    (folder / "genes.gtf").write_text(f'{CONTIG}\tx\tgene\t2101\t2900\t.\t-\t.\tgene_id "G1"; gene_name "GENE1";\n')
    (folder / "regions.bed").write_text(f"{CONTIG}\t4000\t4300\n{CONTIG}\t4100\t4600\n")
    for words in (
        "score-variants input.vcf -q --gpus 0",
        f"predict -r {CONTIG}:1-10000 --part total --part shared --part technical --gpus 0 -q --tracks id==P0",
        "explain --factor target --level CTCF --top 2 --gpus 0 -q",
    ):
        done = harm.in_process(words.split(), folder)
        assert done.code == 0, done.told
    return folder


ALL = ("input.mfd.vcf.gz", "predictions", "explain/target", "run")


def page_of(project: Path, output: Path, *words: str) -> str:
    """The page of a call that succeeds."""
    done = harm.in_process(["view", *words, "-o", str(output)], project)
    assert done.code == 0, done.told
    return output.read_text("utf-8")


def shown_in(page: str) -> Any:
    """The JSON of a page."""
    match = re.search(r'<script type="application/json" id="shown">(.*?)</script>', page)
    assert match is not None
    return json.loads(match[1])


def numbers_of(track: Any) -> dict[tuple[str, int], tuple[int, float]]:
    """(contig, start) -> (end, value) of a track of numbers."""
    found = {}
    for runs in track["runs"]:
        for i, value in enumerate(np.frombuffer(base64.b64decode(runs["values"]), "<f4").tolist()):
            start = runs["first"] + i * runs["step"]
            found[runs["contig"], start] = (start + runs["step"], value)
    return found


def named(shown: Any, name: str) -> Any:
    return next(track for track in shown["tracks"] if track["name"] == name)


class Rows(HTMLParser):
    """The cells of every row of a page's tables, and every address that it names."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if name in ("src", "href", "data", "action") and value]
        self.inside = tag in ("td", "th")
        if tag == "tr":
            self.rows.append([])
        elif self.inside:
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.inside = False


# -- what is in the page -----------------------------------------------------------------------------------------------


def test_the_page_fetches_nothing_and_is_small(project: Path, tmp_path: Path) -> None:
    page = page_of(project, tmp_path / "view.html", *ALL, "--gtf", "genes.gtf")
    assert all(address.startswith("data:") for address in Rows(page).addresses)
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])  # type: ignore[index]
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe-inline'; img-src data:" in policy
    assert "unsafe-inline" not in policy.split(";")[1] and policy.endswith("connect-src data:")
    assert len(page) < 3_000_000


@pytest.mark.parametrize("field", ["MFD_MAX_DLOGIT", "MFD_DEBIASED"])
def test_variants_are_those_of_the_file(field: str, project: Path, tmp_path: Path) -> None:
    page = page_of(project, tmp_path / "view.html", "input.mfd.vcf.gz", "--variants", "5", "--by", field)
    with pysam.VariantFile(str(project / "input.mfd.vcf.gz")) as file:
        records = list(file)
    alleles = [(record, number) for record in records for number in range(len(record.alts))]
    alleles.sort(key=lambda one: -abs(one[0].info[field][one[1]]))
    header, *rows = Rows(page).rows
    assert header[:2] == ["variant", field] and len(rows) == 5
    for row, (record, number) in zip(rows, alleles):
        alt = record.alts[number]
        shown_alt = alt if len(alt) == 1 else f"{alt[:4]}...{alt[-4:]} (16 bp)"
        assert row[0] == f"{record.chrom}:{record.pos} {record.ref}>{shown_alt}" and row[-1] == record.id
        for name, text in zip(header[1:-1], row[1:-1]):
            value = record.info[name][number]
            assert text == (value or ".") if isinstance(value, str | None) else np.float32(text) == np.float32(value)
    shown = shown_in(page)
    first = alleles[0][0]
    assert shown["tables"][0][0] == [CONTIG, first.pos - 1, first.pos] and shown["first"] == 0
    text = base64.b64decode(named(shown, "input.mfd.vcf.gz")["vcf"]).decode()
    inside = {tuple(line.split("\t")[:2]) for line in text.splitlines() if line[0] != "#"}
    near = [r for r in records if any(abs(r.pos - other.pos) <= 1000 for other, _ in alleles[:5])]
    assert inside == {(record.chrom, str(record.pos)) for record in near} and "AF=" not in text


def test_a_page_opens_where_most_tracks_show_something(project: Path, tmp_path: Path) -> None:
    """Variants come first in the tables, and nothing was explained at them: the first place with contributions is shown."""
    shown = shown_in(page_of(project, tmp_path / "v.html", "input.mfd.vcf.gz", "explain/target"))
    places = [place for table in shown["tables"] for place in table]
    tracks = [numbers_of(track) for track in shown["tracks"] if track["kind"] == "numbers"]

    def filled(place: list[Any]) -> int:
        contig, start, end = place
        return sum(
            any(value and one == contig and first < end and last > start for (one, first), (last, value) in own.items())
            for own in tracks
        )

    counts = [filled(place) for place in places]
    assert shown["first"] == counts.index(max(counts)) >= len(shown["tables"][0]) > 0 < max(counts) > counts[0]


@pytest.mark.parametrize("folder", ["predictions", "explain/target"])
def test_numbers_are_those_of_the_bigwigs(folder: str, project: Path, tmp_path: Path) -> None:
    page = page_of(project, tmp_path / "view.html", folder, "--flank", "300")
    shown = shown_in(page)
    tracks = [track for track in shown["tracks"] if track["kind"] == "numbers"]
    assert len(tracks) == len(list((project / folder).glob("*.bw")))
    for track in tracks:
        with pyBigWig.open(str(project / folder / f"{track['name']}.bw")) as file:
            for (contig, start), (end, value) in numbers_of(track).items():
                assert set(file.values(contig, start, end)) == {value}
            of_page = sum(end - start for (_, start), (end, _) in numbers_of(track).items())
            regions = [(s["contig"], s["start"], s["start"] + len(s["bases"])) for s in shown["sequences"]]
            assert of_page == sum(int(np.isfinite(file.values(*region)).sum()) for region in regions)


def test_what_a_page_says_of_its_places(project: Path, tmp_path: Path) -> None:
    """Predictions cover chr2:1-10000, the variants lie from 2001 on; the explanation is of other places."""
    words = ["view", "input.mfd.vcf.gz", "predictions", "explain/target", "--variants", "4"]
    bed = tmp_path / "strong.bed"
    done = harm.in_process([*words, "--write-regions", str(bed), "-o", str(tmp_path / "v.html")], project)
    assert done.code == 0, done.told
    rows = [line.split("\t") for line in bed.read_text().splitlines()]
    shown = shown_in((tmp_path / "v.html").read_text())
    places = [place for table in shown["tables"] for place in table]
    for contig, start, end in places:  # what a click shows, in one of the regions
        assert any(one == contig and int(low) <= start - 150 and end + 150 <= int(high) for one, low, high in rows)
    covered = [numbers_of(track) for track in shown["tracks"] if track["name"].startswith("P0")]
    there = sum(
        any(c == place[0] and s < place[2] and e > place[1] for (c, s), (e, _) in covered[0].items())
        for place in places
    )
    assert f"predictions has numbers at {there} of {len(places)} places" in done.said and f"wrote {bed}" in done.said
    alone = harm.in_process([*words[:2], "explain/target", "-o", str(tmp_path / "w.html")], project)
    assert "--write-regions FILE.bed writes the places" in alone.said
    facts = dict(named(shown, "P0")["facts"])
    assert (
        facts["target"] == "CTCF"
        and facts["unit"] == "probability of a peak"
        and set(facts) == {"target", "tissue", "assay", "lab", "unit"}
    )
    refused = harm.in_process([*words, "--write-regions", "strong.tsv", "-o", str(tmp_path / "x.html")], project)
    assert refused.code == 2 and "must end in .bed" in refused.told and not (project / "strong.tsv").exists()


def test_that_nothing_lies_in_the_regions_is_said(project: Path, tmp_path: Path) -> None:
    words = ["input.mfd.vcf.gz", "predictions", "-r", "chr1:1001-1500", "-o", str(tmp_path / "view.html")]
    done = harm.in_process(["view", *words], project)
    assert done.code == 0 and "input.mfd.vcf.gz lists nothing in the regions that were named" in done.said
    assert "1 place in 1 region (" in done.said and "predictions has numbers at 0 of 1 place" in done.said


def test_bases_are_those_of_the_genome(project: Path, tmp_path: Path) -> None:
    shown = shown_in(page_of(project, tmp_path / "view.html", *ALL))
    genome = open_dataset(project / "dataset").genome
    for one in shown["sequences"]:
        assert one["bases"] == genome.bases(one["contig"], one["start"], one["start"] + len(one["bases"]))
    assert shown["lengths"].items() <= genome.lengths.items() and shown["has_sequence"]


def test_a_run_shows_what_predict_writes_beside_its_data(project: Path, tmp_path: Path) -> None:
    """No path is named: the project's run."""
    shown = shown_in(page_of(project, tmp_path / "view.html", "-r", f"{CONTIG}:2561-3840", "--tracks", "id==P0"))
    for name, file in (("P0 total", "P0.bw"), ("P0 shared", "P0.shared.bw"), ("P0 technical", "P0.technical.bw")):
        with pyBigWig.open(str(project / "predictions" / file)) as bigwig:
            for (contig, start), (end, value) in numbers_of(named(shown, name)).items():
                assert bigwig.values(contig, start, end)[0] == pytest.approx(value, rel=1e-4, abs=1e-5)
    dataset = open_dataset(project / "dataset")
    bins = dataset.split("test")
    labels = dict(zip(bins.start.tolist(), bins.labels(np.array([0]))[:, 0].tolist()))
    data = numbers_of(named(shown, "P0 data"))
    assert len(data) == 26 and all(value == labels[start] for (_, start), (_, value) in data.items())


def test_named_regions_genes_and_elements(project: Path, tmp_path: Path) -> None:
    words = ["-R", "regions.bed", "-r", f"{CONTIG}:2001-2500", "--gtf", "genes.gtf", "--bed", "mine=regions.bed"]
    page = page_of(project, tmp_path / "view.html", "input.mfd.vcf.gz", *words, "--flank", "100")
    shown = shown_in(page)
    assert [one["start"] for one in shown["sequences"]] == [1900, 3900]
    assert named(shown, "genes (genes.gtf)")["features"] == [[CONTIG, 2100, 2900, "GENE1", "-"]]
    assert [one[1:3] for one in named(shown, "mine")["features"]] == [[4000, 4300], [4100, 4600]]
    assert [len(table) for table in shown["tables"]] == [3, 4]  # the regions, and the alleles within them


def test_a_vcf_alone_without_a_genome_or_with_other_names(project: Path, tmp_path: Path) -> None:
    shutil.copy(project / "input.mfd.vcf.gz", tmp_path / "alone.vcf.gz")
    shown = shown_in(page_of(tmp_path, tmp_path / "view.html", "alone.vcf.gz"))
    assert not shown["has_sequence"] and {one["bases"] for one in shown["sequences"]} == {"NN"}
    with pysam.BGZFile(str(project / "input.mfd.vcf.gz")) as file:
        text = file.read().decode().replace("\nchr", "\n").replace("ID=chr", "ID=")
    (tmp_path / "bare.vcf").write_text(text)
    shown = shown_in(page_of(project, tmp_path / "bare.html", str(tmp_path / "bare.vcf")))
    assert set(shown["lengths"]) == {CONTIG} and shown["has_sequence"]


# -- what is refused ---------------------------------------------------------------------------------------------------

REFUSED = {
    "no such contig": (("input.mfd.vcf.gz", "-r", "chr7:1-100"), "is no region of the genome"),
    "a VCF without scores": (("input.vcf",), "was not scored by mfd"),
    "an unknown field": (("input.mfd.vcf.gz", "--by", "MFD_DEBIASD"), "did you mean MFD_DEBIASED"),
    "a field of words": (("input.mfd.vcf.gz", "--by", "MFD_TRACK"), "has no scores called"),
    "a folder of something else": (("dataset/shards",), "holds nothing that is shown"),
    "a path that is not there": (("nowhere.vcf",), "no such file"),
    "too much": (("run", "-r", "chr1", "--flank", "3000000"), "are too many for one page"),
    "no track": (("run", "-r", "chr1:1-500", "--tracks", "id==X"), "picks none"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_line_and_no_page(
    case: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, says = REFUSED[case]
    if case == "too much":
        monkeypatch.setattr("mfd_cli.view.view.MOST_BASES", 50_000)
    before = harm.snapshot(project)
    done = harm.in_process(["view", *words, "-o", str(tmp_path / "view.html")], project)
    assert done.code == 2 and says in done.told and done.told.count("mfd: error") == 1
    assert not list(tmp_path.iterdir()) and harm.snapshot(project) == before


def replaced(pattern: bytes, by: bytes) -> Callable[[bytes], bytes]:
    """The change that replaces a pattern."""
    return lambda data: re.sub(pattern, by, data)


REGIONS, VCF = "explain/target/regions.tsv", "input.mfd.vcf"
DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "a row without a number": (REGIONS, replaced(rb"chr2\t", rb"chr2\tx"), "no number"),
    "a row cut short": (REGIONS, lambda data: data[: data.index(b"\n") + 8], "has no"),
    "a bigWig cut short": ("explain/target/CTCF.bw", lambda data: data[:-400], "CTCF.bw: "),
    "no outputs": ("predictions/outputs.tsv", lambda data: data.splitlines(True)[0], "holds no bigWigs"),
    "a score too few": (VCF, replaced(rb"(MFD_MAX_DLOGIT=[^,;]*),[^;]*", rb"\1"), "for 2 alleles"),
    "a score of words": (VCF, replaced(rb"MFD_MAX_DLOGIT=[^,;]*", b"MFD_MAX_DLOGIT=x"), "no number"),
    "another field too few": (VCF, replaced(rb"(MFD_TRACK=[^,;]*),[^;]*", rb"\1"), "one value for each"),
    "a VCF cut short": (f"{VCF}.gz", lambda data: data[:-40], f"{VCF}.gz: "),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damaged_files_are_named(case: str, project: Path, tmp_path: Path) -> None:
    file, change, says = DAMAGES[case]
    shown = str(Path(file).parent) if "/" in file else file
    if "/" in file:
        shutil.copytree(project / shown, tmp_path / shown)
    elif file.endswith(".gz"):
        shutil.copy(project / file, tmp_path / file)
    else:
        with pysam.BGZFile(str(project / f"{file}.gz")) as packed:
            (tmp_path / file).write_bytes(packed.read())
    (tmp_path / file).write_bytes(change((tmp_path / file).read_bytes()))
    done = harm.in_process(["view", shown], tmp_path)
    assert done.code == 2 and says in done.told and not (tmp_path / "view.html").exists()


def test_nothing_to_show(tmp_path: Path) -> None:
    done = harm.in_process(["view"], tmp_path)
    assert done.code == 2 and "there is nothing to show" in done.told and not list(tmp_path.iterdir())


def test_a_page_replaces_no_input_and_no_folder(project: Path, tmp_path: Path) -> None:
    before = harm.snapshot(project)
    done = harm.in_process(["view", "run", "-o", "input.mfd.vcf.gz", "--force"], project)
    assert done.code == 2 and "must end in .html" in done.told and harm.snapshot(project) == before
    (tmp_path / "view.html").mkdir()
    done = harm.in_process(["view", "run", "-o", str(tmp_path / "view.html"), "--force"], project)
    assert done.code == 2 and "is a folder" in done.told


def test_a_run_on_another_genome(project: Path, tmp_path: Path) -> None:
    """The data of the dataset are of another genome: only predictions are shown."""
    other = "".join(np.random.default_rng(3).choice(list("ACGT"), 5000))
    (tmp_path / "other.fa").write_text(f">chrX\n{harm.wrapped(other)}")
    words = ["run", "--fasta", str(tmp_path / "other.fa"), "-r", "chrX:1001-2000", "--tracks", "id==P0"]
    shown = shown_in(page_of(project, tmp_path / "view.html", *words, "--flank", "10"))
    assert shown["sequences"] == [{"contig": "chrX", "start": 990, "bases": other[990:2010]}]
    assert {track["name"] for track in shown["tracks"]} >= {"P0 total", "P0 shared"}
    assert "P0 data" not in {track["name"] for track in shown["tracks"]}


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(igv, "PACKAGE", "no_such_package")
    done = harm.in_process(["view", "scored.mfd.vcf.gz"], tmp_path)
    assert done.code == 2 and "pip install 'mfd-cli[view]'" in done.told and not list(tmp_path.iterdir())


def test_a_page_is_not_replaced_unasked_and_is_the_same_again(project: Path, tmp_path: Path) -> None:
    first = page_of(project, tmp_path / "view.html", "input.mfd.vcf.gz")
    again = harm.in_process(["view", "input.mfd.vcf.gz", "-o", str(tmp_path / "view.html")], project)
    assert again.code == 2 and "--force" in again.told
    assert page_of(project, tmp_path / "view.html", "input.mfd.vcf.gz", "--force") == first


# -- in a browser ------------------------------------------------------------------------------------------------------

ASK = """
const told = { errors: [] };
for (const kind of ["error", "unhandledrejection", "securitypolicyviolation"])
  window.addEventListener(kind, (event) => told.errors.push(`${kind}: ${event.message || event.reason || event.blockedURI}`));
console.error = (...words) => told.errors.push(words.join(" "));
const until = async (test) => {
  for (let tries = 0; tries < 200 && !test(); tries++) await new Promise((done) => setTimeout(done, 50));
};
const ask = async () => {
  const browser = await window.mfdView;
  const root = document.getElementById("browser").shadowRoot;
  const called = (track) => (track.config && track.config.facts ? track.id : track.name);
  const view = (name) => browser.trackViews.find((one) => called(one.track) === name);
  const inked = (one) => {
    const canvas = one.viewports[0].canvas;
    if (!canvas || !canvas.width) return 0;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let i = 3; i < data.length; i += 4) count += data[i] > 0;
    return count;
  };
  const rowThat = (pattern) =>
    [...document.querySelectorAll(".view tbody tr")].find((row) => pattern.test(row.cells[0].textContent));
  const jump = async (row) => {
    const before = browser.currentLoci();
    row.click();
    await until(() => browser.currentLoci() !== before);
    return browser.currentLoci();
  };
  const click = async (name) => { // in the middle of the track
    const popovers = () => [...root.querySelectorAll("[class*=popover]")].map((one) => one.textContent).join("|");
    const port = view(name).viewports[0], box = (port.viewportElement || port.$viewport[0]).getBoundingClientRect();
    const place = { clientX: box.left + box.width / 2, clientY: box.top + 15, bubbles: true, composed: true };
    for (const kind of ["mousedown", "mouseup", "click"])
      (port.viewportElement || port.$viewport[0]).dispatchEvent(new MouseEvent(kind, place));
    const before = popovers();
    await until(() => popovers() !== before && popovers());
    return popovers();
  };
  told.first = browser.currentLoci();
  const bin = rowThat(/-/);
  told.bin = bin.cells[0].textContent;
  told.at_bin = await jump(bin);
  const drawn = () => Object.fromEntries(browser.trackViews.map((one) => [called(one.track), inked(one)]));
  await until(() => drawn()["CTCF"] > 0 && drawn()["P0 total"] > 0);
  told.drawn = drawn();
  const variant = rowThat(/rs|>/);
  told.variant = [...variant.cells].map((cell) => cell.textContent);
  told.at_variant = await jump(variant);
  await until(() => inked(view("input.mfd.vcf.gz")) > 0);
  told.variants = inked(view("input.mfd.vcf.gz"));
  told.popup = await click("input.mfd.vcf.gz");
  const low = (one) => one.getBoundingClientRect().bottom;
  told.cut_off = Math.max(...[...root.querySelectorAll("[class*=popover]")].map(low)) - low(document.getElementById("browser"));
  told.label = view("P0 total").track.name;
  told.faint = [...root.querySelectorAll(".igv-roi-region")].map((one) => one.style.backgroundColor);
  told.number = await click("P0 total");
  told.stolen = "stolen" in window;
  told.bases = await browser.genome.getSequence("chr2", 1500, 9500);
  const bar = document.querySelector("#browser").shadowRoot || document.querySelector("#browser > *").shadowRoot;
  const toolbar = bar.querySelector(".igv-navbar").getBoundingClientRect();
  const buttons = [...bar.querySelectorAll(".igv-navbar-right-container > *, .igv-navbar-left-container > *")];
  told.beyond = Math.max(...buttons.map((one) => one.getBoundingClientRect().right)) - toolbar.right;
  told.wide = document.documentElement.scrollWidth; told.inner = window.innerWidth;
};
window.addEventListener("load", async () => {
  await ask().catch((error) => told.errors.push(String(error.stack)));
  const answer = document.createElement("pre"); answer.id = "answer"; answer.textContent = JSON.stringify(told);
  document.body.append(answer);
});
"""


def asked(page: str, folder: Path, width: int) -> Any:
    """What the page answers to ASK in Chromium; the policy of the page is told of this one more script."""
    digest = base64.b64encode(hashlib.sha256(ASK.encode()).digest()).decode()
    page = page.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    page = page.replace('<script type="application/json"', f'<script>{ASK}</script><script type="application/json"', 1)
    (folder / "asked.html").write_text(page, "utf-8")
    words = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000"]
    words += [f"--window-size={width},900", f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [*words, (folder / "asked.html").as_uri()], capture_output=True, text=True, timeout=120, check=False
    )
    answer = re.search(r'<pre id="answer">(.*?)</pre>', done.stdout, re.DOTALL)
    assert answer, done.stderr[-500:]
    return json.loads(html.unescape(answer[1]))


@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
@pytest.mark.parametrize("width", [1400, 700, 420])
def test_the_page_works_in_chromium(width: int, project: Path, tmp_path: Path) -> None:
    page = page_of(
        project,
        tmp_path / "view.html",
        *ALL,
        "--gtf",
        "genes.gtf",
        "--tracks",
        "id==P0",
        "--variants",
        "4",
        "--flank",
        "150",
    )
    told = asked(page, tmp_path, width)
    assert told["errors"] == [] and told["stolen"] is False
    assert all(told["drawn"][name] > 0 for name in ("Sequence", "CTCF", "P0 total", "P0 shared", "P0 technical"))
    assert told["variants"] > 0
    assert middle(told["at_bin"]) == pytest.approx(middle(told["bin"]), abs=1)
    place = int(re.findall(r":(\d+)", told["variant"][0])[0])
    assert middle(told["at_variant"]) == pytest.approx(place, abs=1) and told["at_bin"] != told["at_variant"]
    header = Rows(page).rows[0]
    scores = [cell for name, cell in zip(header, told["variant"]) if name.startswith("MFD_") and cell]
    assert len(scores) >= 6 and all(cell in told["popup"] for cell in scores)
    values = {
        np.float32(value)
        for (_, start), (end, value) in numbers_of(named(shown_in(page), "P0 total")).items()
        if start < place <= end
    }
    told_value = re.findall(r"Value\W*([0-9.e-]+)", told["number"])
    assert values and {np.float32(text) for text in told_value} == values
    genome, bases = open_dataset(project / "dataset").genome.bases(CONTIG, 1500, 9500), told["bases"]
    assert len(bases) == 8000 and {base for base, true in zip(bases, genome) if base != true} == {"*"}
    assert all(text in told["number"] for text in ("CTCF", "ChIP-seq", "probability of a peak"))
    assert told["label"].startswith("total · CTCF · ") and told["label"].endswith(" · P0")
    assert told["cut_off"] <= 0, "a popup is cut off where the box ends"
    assert any("0.25" in colour for colour in told["faint"]), told["faint"]
    assert told["beyond"] <= 1, "the toolbar overflows"
    assert told["wide"] <= told["inner"], "the page scrolls sideways"


def middle(locus: str) -> float:
    """The middle of contig:first-last."""
    first, last = re.findall(r"[\d,]+", locus.split(":")[1])
    return (int(first.replace(",", "")) + int(last.replace(",", ""))) / 2
