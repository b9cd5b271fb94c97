"""`mfd report`: one page of a run, whose numbers are those of the tables, and which says what is not on it."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from kit import tiny
from kit.harm import in_process, trained_project
from mfd_cli.base.errors import InputError, OutputError, RunError
from mfd_cli.base.stored_json import read_stored, write_stored
from mfd_cli.evaluation import evaluate
from mfd_cli.evaluation.evaluation_folder import strongest
from mfd_cli.evaluation.run_report import PAGE, report
from mfd_cli.report.page import cell
from mfd_cli.runs.description import Description

CPU = ["-q", "--gpus", "0", "--threads", "1"]
OF_EVALUATION = ["accuracy", "calibration", "independence of the groups", "how far to trust the parts"]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained project, evaluated on the test bins, with an explanation of all factors in `explain/all`."""
    folder = tmp_path_factory.mktemp("report") / "p"
    trained_project(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "FEWEST_BINS", 50)  # the project has a small test contig
        for words in (["evaluate", *CPU], ["explain", "--factor", "all", *CPU]):
            done = in_process(words, folder)
            assert done.code == 0, done.told
    return folder


@pytest.fixture
def project(evaluated: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return Path(shutil.copytree(evaluated, tmp_path / "p"))


class Tables(HTMLParser):
    """The tables of a page, as rows of texts, by the heading that they stand under."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.heading, self.tag = "", ""
        self.tables: dict[str, list[list[list[str]]]] = {}
        self.text = page.read_text("utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tag = tag
        if tag in ("h1", "h2", "h3"):
            self.heading = ""
        elif tag == "table":
            self.tables.setdefault(self.heading, []).append([])
        elif tag == "tr":
            self.tables[self.heading][-1].append([])
        elif tag in ("td", "th"):
            self.tables[self.heading][-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.tag = ""

    def handle_data(self, data: str) -> None:
        if self.tag in ("td", "th"):
            self.tables[self.heading][-1][-1][-1] += data
        elif self.tag in ("h1", "h2", "h3"):
            self.heading += data

    def under(self, heading: str, number: int = 0) -> list[dict[str, str]]:
        """The rows of a table by its headings; of two columns with one heading the last."""
        head, *rows = self.tables[heading][number]
        return [dict(zip(head, row)) for row in rows]


def tsv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def number(text: str) -> str:
    """A number of a table of text as a page shows it."""
    return cell(float(text)) if text else ""


def rewritten(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change model.json, with the digest that belongs to it."""
    stored = read_stored(run / "model.json", Description, RunError, "")
    change(stored)
    write_stored(run / "model.json", stored)


def test_the_page_has_every_section_and_its_links_lead_there(project: Path) -> None:
    done = in_process(["report", "--explanations", "explain"], project)
    assert done.code == 0 and done.told == ""
    made = report(project / "run", explanations=[project / "explain"])
    assert [each.removesuffix(" on the test bins") for each in made.sections] == [
        "the run",
        "what the design can tell",
        "training curves",
        *OF_EVALUATION,
        "explanations",
        "limits",
    ]
    assert made.missing == [] and made.page == project / "run" / PAGE
    assert done.said.splitlines()[-1] == "page: run/report.html"
    text = made.page.read_text()
    for anchor in re.findall('href="#([^"]+)"', text):
        assert text.count(f'id="{anchor}"') == 1, anchor
    assert len(re.findall('href="#', text)) == len(made.sections)
    (address,) = re.findall('<a href="([^#"]+)">', text)
    assert address == "../explain/all/report.html" and "of another model" not in text
    assert text.count("data:image/png;base64,") == 4 and "<script src" not in text and "http" not in text


def test_the_numbers_are_those_of_the_tables(evaluated: Path, tmp_path: Path) -> None:
    folder = evaluated / "run/evaluation-test"
    page = Tables(report(evaluated / "run", tmp_path / PAGE).page)
    summary = json.loads((folder / "summary.json").read_text())
    averages = {row["measure"]: row["training tracks"] for row in page.under("Accuracy on the test bins")}
    assert averages["AUROC"] == cell(summary["training_tracks"]["auroc"])
    assert averages["Pearson correlation of signals"] == cell(summary["training_tracks"]["pearson"])
    for row in page.under("Baselines, training tracks"):
        of = summary["baselines"]["training_tracks"][row["baseline"]]
        assert (row["AUROC"], row["AUPRC"], row["correlation"]) == tuple(
            cell(of[name]) for name in ("auroc", "auprc", "pearson")
        )
        assert row["tracks"] == str(of["tracks"])
    tracks = {row["track"]: row for row in tsv(folder / "tracks.tsv")}
    shown = page.under("By track")
    assert [row["track"] for row in shown] == list(tracks)
    for row in shown:
        of = tracks[row["track"]]
        assert [row["AUROC"], row["correlation"]] == [number(of["auroc"]), number(of["pearson"])]
        assert row["positives"] == of["positives"] and row["target"] == of["target"]
    levels = tsv(folder / "levels.tsv")
    for row in levels:
        (of,) = [each for each in page.under(f"By {row['factor']}") if each["level"] == row["level"]]
        assert [of["tracks"], of["AUROC"], of["AUPRC"]] == [row["tracks"], *map(number, (row["auroc"], row["auprc"]))]
    parts = {(row["track"], row["part"]): row for row in tsv(folder / "parts.tsv")}
    heading = "How far to trust the parts on the test bins"
    for row in page.under(heading, 1):
        assert row["reliability"] == number(parts[row["track"], row["part"]]["reliability"])
    reliabilities = [float(row["reliability"]) for row in page.under(heading, 1) if row["reliability"]]
    assert reliabilities == sorted(reliabilities) and len(page.under(heading, 1)) == len(parts)
    assert {row["part"]: row["reliability"] for row in page.under(heading)} == {
        part: cell(row["reliability"]) for part, row in summary["parts"].items()
    }
    assert len(page.under("Independence of the groups on the test bins")) == len(summary["independence"])


def test_the_strongest_baseline_of_a_level_is_the_best_mean_over_its_tracks(evaluated: Path, tmp_path: Path) -> None:
    folder = evaluated / "run/evaluation-test"
    page = Tables(report(evaluated / "run", tmp_path / PAGE).page)
    own = {row["track"]: row for row in tsv(folder / "tracks.tsv") if row["kind"] == "peaks"}
    baselines = tsv(folder / "baselines.tsv")
    for of in page.under("By target"):
        inside = [track for track, row in own.items() if row["target"] == of["level"]]
        means = {}
        for name in {row["baseline"] for row in baselines}:
            scores = [float(row["auroc"]) for row in baselines if row["baseline"] == name and row["track"] in inside]
            if scores:
                means[name] = sum(scores) / len(scores)
        assert of["its score"] == cell(max(means.values()))
        assert means[of["strongest baseline"]] == max(means.values())


def test_the_strongest_of_signals_and_of_nothing() -> None:
    signals = {"average": {"pearson": 0.2, "model_pearson": 0.4}, "nearest": {"pearson": 0.3, "model_pearson": 0.4}}
    assert strongest(signals) == {"strongest": "nearest", "its_score": 0.3, "model_score": 0.4}
    assert strongest({})["strongest"] is None


def test_the_design_is_what_check_design_says(evaluated: Path, tmp_path: Path) -> None:
    """From the run alone: the table of metadata and the dataset may be gone."""
    said = json.loads(in_process(["check-design", "--json"], evaluated).said)
    run = Path(shutil.copytree(evaluated / "run", tmp_path / "run"))
    page = Tables(report(run).page)
    assert f"on the {said['tracks']}\ntraining tracks" in page.text
    assert [row["association"] for row in page.under("Pairs of factors")] == [
        cell(pair["association"]) for pair in said["pairs"]
    ]
    assert [row["factor"] for row in page.under("Factors")] == [row["factor"] for row in said["factors"]]


def test_json_says_the_same(project: Path) -> None:
    shutil.rmtree(project / "run/evaluation-test")
    (project / "run/metrics.jsonl").unlink()
    found = json.loads(in_process(["report", "run", "-o", "page.html", "--json"], project).said)
    assert found["page"] == "page.html" and found["run"] == "run" and (project / "page.html").is_file()
    assert found["sections"] == ["the run", "what the design can tell", "limits"]
    assert [each["section"] for each in found["missing"]] == ["training curves", *OF_EVALUATION, "explanations"]


def test_a_run_without_an_evaluation_has_a_page_that_says_what_makes_one(project: Path) -> None:
    shutil.rmtree(project / "run/evaluation-test")
    made = report(project / "run")
    text = made.page.read_text()
    assert made.sections == ["the run", "what the design can tell", "training curves", "limits"]
    assert "<li>accuracy: there is no evaluation of these weights. What makes it: mfd evaluate, which" in text
    assert "<h2>What is not on this page</h2>" in text and "Accuracy on the" not in text


def test_an_evaluation_of_other_weights_is_named_and_not_shown(project: Path) -> None:
    file = project / "run/evaluation-test/summary.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model": "0" * 64}))
    made = report(project / "run")
    assert "of other weights than the run has now: evaluation-test." in made.page.read_text()
    assert [each.section for each in made.missing][:4] == OF_EVALUATION


def test_what_an_evaluation_could_not_measure_is_named(project: Path) -> None:
    file = project / "run/evaluation-test/summary.json"
    summary = json.loads(file.read_text())
    file.write_text(json.dumps({**summary, "independence": [], "parts": {}, "notes": ["no probes <b>here</b>"]}))
    made = report(project / "run")
    assert [each.section for each in made.missing] == [
        "independence of the groups on the test bins",
        "how far to trust the parts on the test bins",
        "explanations",
    ]
    assert made.missing[0].line() == (
        "independence of the groups on the test bins: no probes <b>here</b>"  # and no command would make it
    )
    assert "no probes &lt;b&gt;here&lt;/b&gt;" in made.page.read_text()
    file.write_text(json.dumps({**summary, "independence": [], "notes": []}))
    assert report(project / "run").missing[0].command == "mfd evaluate --split test"


@pytest.mark.parametrize(("head", "tracks"), [("mixed", 0), ("free", 4), ("conditioned", 4)])
def test_any_kind_of_run_has_a_page(head: str, tracks: int, tmp_path: Path) -> None:
    """Signals alone have no calibration and no parts; the parts of other heads than a mixed one cannot be judged."""
    folder = tiny.written_project(tmp_path / "p", tracks=tracks, signals=2)
    for words in (["train", "--head", head, "--epochs", "1", *CPU], ["evaluate", "--no-probes", *CPU]):
        done = in_process(words, folder)
        assert done.code == 0, done.told
    made = report(folder / "run")
    lacking = {each.section.removesuffix(" on the test bins"): each for each in made.missing}
    assert "accuracy on the test bins" in made.sections and "training curves" in made.sections
    assert ("calibration" in lacking) == (not tracks)
    assert head == "mixed" or head in lacking["how far to trust the parts"].why
    page = Tables(made.page)
    measure = "AUROC" if tracks else "correlation"
    scores = [row[measure] for row in page.under("By track")]
    assert len(scores) == tracks + 2 and re.fullmatch(r"-?\d\.\d{3}", scores[0 if tracks else 1])
    assert all(row["model on the same tracks"] for row in page.under("By target"))


def test_of_several_seeds_the_first_is_shown(project: Path) -> None:
    (project / "run").rename(project / "seed-1")
    (project / "run").mkdir()
    (project / "seed-1").rename(project / "run/seed-1")
    (project / "run/seed-1/evaluation-test").rename(project / "run/evaluation-test")
    shutil.copytree(project / "run/seed-1", project / "run/seed-2")
    done = in_process(["report"], project)
    assert done.code == 0 and done.told == "run holds 2 runs: the page is of the first, seed-1\n"
    assert "page: run/seed-1/report.html" in done.said and "accuracy on the test bins" in done.said
    assert in_process(["report", "-q"], project).told == ""


def test_names_from_the_table_stay_text(project: Path) -> None:
    harmful = "<img src=x onerror=alert(1)>"

    def change(stored: dict[str, Any]) -> None:
        for track in stored["tracks"]:
            if track["metadata"]["Target"] == "CTCF":
                track["metadata"]["Target"] = harmful
        target = stored["metadata"]["target"]
        target["vocabulary"] = [harmful if level == "CTCF" else level for level in target["vocabulary"]]

    rewritten(project / "run", change)
    for name in ("tracks", "levels"):
        file = project / f"run/evaluation-test/{name}.tsv"
        file.write_text(file.read_text().replace("CTCF", harmful))
    page = Tables(report(project / "run").page)
    assert harmful not in page.text and page.text.count("&lt;img src=x onerror=alert(1)&gt;") > 4
    assert harmful in [row["level"] for row in page.under("By target")]


def test_explanations_are_found_in_the_run_folder_and_told_from_those_of_another_model(project: Path) -> None:
    shutil.move(project / "explain", project / "run/explain")
    other = project / "other page/report.html"
    other.parent.mkdir()
    page = (project / "run/explain/all/report.html").read_text()
    title = re.search("<title>mfd: (.*?)</title>", page)
    assert title is not None
    other.write_text(page.replace(title[1], "a &lt;b&gt;").replace(", model ", ", model 000000000000</footer><!-- "))
    text = report(project / "run", explanations=[other]).page.read_text()
    assert '<a href="../other%20page/report.html">a &lt;b&gt;</a> (of another model)</li>' in text
    assert f'<a href="explain/all/report.html">{title[1]}</a></li>' in text
    again = report(project / "run", explanations=[other]).page.read_text()
    assert again == text  # the page itself is no explanation


@pytest.mark.parametrize("what", ["nothing.html", "run/metrics.jsonl", "dataset"])
def test_what_is_no_explanation_is_refused(what: str, project: Path) -> None:
    done = in_process(["report", "--explanations", what], project)
    assert done.code == 2 and what in done.told and not (project / "run" / PAGE).exists()
    with pytest.raises(InputError):
        report(project / "run", explanations=[project / what])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_a_column(path: Path) -> None:
    head, rest = path.read_text().split("\n", 1)
    path.write_text(head.rsplit("\t", 1)[0] + "\n" + rest)


@pytest.mark.parametrize(
    ("file", "harm", "message"),
    [
        ("metrics.jsonl", lambda path: path.write_text('{"step": 1}\n'), "metrics.jsonl:1: windows is not a number"),
        ("metrics.jsonl", lambda path: path.write_bytes(b"\xff" * 9), "metrics.jsonl: is not text"),
        ("evaluation-test/summary.json", lambda path: path.write_text("{"), "is not JSON text"),
        ("evaluation-test/tracks.tsv", Path.unlink, "tracks.tsv: no such file"),
        ("evaluation-test/tracks.tsv", lambda path: path.write_bytes(b"\xff\xfe\n" * 9), "is not a table of text"),
        ("evaluation-test/tracks.tsv", cut, "tracks.tsv"),
        ("evaluation-test/levels.tsv", Path.unlink, "levels.tsv: no such file"),
        ("evaluation-test/levels.tsv", lambda path: path.write_text("factor\n"), "has not the levels of target"),
        ("evaluation-test/baselines.tsv", without_a_column, "baselines.tsv:2: has no pearson"),
        ("evaluation-test/parts.tsv", Path.unlink, "parts.tsv: no such file"),
        (
            "evaluation-test/parts.tsv",
            lambda path: path.write_text("track\tpart\treliability\terror\tdeviation\nX\tbiological\t1\t1\t1\n"),
            "parts.tsv: names 'X', no track of the run",
        ),
        ("evaluation-test/calibration.png", Path.unlink, "calibration.png: is missing"),
        ("evaluation-test/independence.png", lambda path: path.write_text("<svg/>"), "is no PNG picture"),
        ("model.safetensors", cut, "model.safetensors"),
    ],
)
def test_a_broken_file_is_one_line(file: str, harm: Callable[[Path], Any], message: str, project: Path) -> None:
    harm(project / "run" / file)
    done = in_process(["report"], project)
    assert done.code == 2 and done.said == "" and message in done.told and f"run/{file}" in done.told
    assert "hint: " in done.told and done.told.startswith("mfd: error: ")
    assert not (project / "run" / PAGE).exists()


def test_a_number_that_is_none_is_named_with_its_line(project: Path) -> None:
    file = project / "run/evaluation-test/levels.tsv"
    lines = [line.split("\t") for line in file.read_text().splitlines()]
    lines[2][lines[0].index("auprc")] = "high"
    file.write_text("".join("\t".join(line) + "\n" for line in lines))
    with pytest.raises(RunError, match=r"levels.tsv:3: auprc is 'high', no number"):
        report(project / "run")


def test_only_its_own_page_is_replaced_without_force(project: Path) -> None:
    page = report(project / "run").page
    assert report(project / "run").page == page
    with pytest.raises(OutputError, match="exists already"):
        report(project / "run", page)
    assert report(project / "run", page, force=True).page == page
    done = in_process(["report", "dataset"], project)
    assert done.code == 2 and "there is no trained model here" in done.told


def test_the_page_leaves_nothing_else_behind(project: Path) -> None:
    before = set(project.rglob("*"))
    report(project / "run")
    assert set(project.rglob("*")) - before == {project / "run" / PAGE}


def told_of_chance(project: Path) -> list[int]:
    """How often explain, score-variants and report warn of a model near chance, in words and on their pages."""
    counts = []
    for words in (["explain", "--factor", "all", *CPU], ["score-variants", "input.vcf", *CPU], ["report"]):
        done = in_process([*words, *([] if words == ["report"] else ["--force"])], project)
        assert done.code == 0, done.told
        counts.append((done.said + done.told).count("near chance"))
    pages = (project / "explain/all/report.html", project / "run" / PAGE)
    return [*counts, *(page.read_text("utf-8").count("near chance") for page in pages)]


def test_a_model_near_chance_is_told_wherever_it_is_used(project: Path) -> None:
    """By the evaluation on the test bins; without one, by the validation of the training."""
    file = project / "run/evaluation-test/summary.json"
    summary = json.loads(file.read_text())

    def measured(**figures: float | None) -> list[int]:
        file.write_text(json.dumps({**summary, "training_tracks": {**summary["training_tracks"], **figures}}))
        return told_of_chance(project)

    assert measured(auroc=0.549) == [1, 1, 1, 1, 1]
    assert "AUROC 0.549 on the test bins, chance has 0.5" in (project / "run" / PAGE).read_text("utf-8")
    assert measured(auroc=0.551) == [0, 0, 0, 0, 0]
    shutil.rmtree(file.parent)
    stored = read_stored(project / "run/model.json", Description, RunError, "")
    del stored["about"]["validation"]["auroc_mean"]
    stored["about"]["validation"]["pearson_mean"] = 0.02
    write_stored(project / "run/model.json", stored)
    assert told_of_chance(project)[0] == 1


def test_a_reader_sees_first_how_good_it_is_and_what_limits_the_trust(evaluated: Path) -> None:
    summary = json.loads((evaluated / "run/evaluation-test/summary.json").read_text())
    text = report(evaluated / "run").page.read_text("utf-8")
    glance = text.partition("<h1")[2].partition("<h2")[0]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr><td.*?</tr>", glance)]
    auroc = next(row for row in rows if row[0] == "AUROC")
    baselines = summary["baselines"]["training_tracks"]
    best = max(
        (name for name in baselines if baselines[name]["auroc"] is not None), key=lambda n: baselines[n]["auroc"]
    )
    figures = (summary["training_tracks"]["auroc"], baselines[best]["auroc"], baselines[best]["model_auroc"])
    assert auroc == ["AUROC", cell(figures[0]), best, *map(cell, figures[1:])]
    assert "no factor goes with another" in glance and "calibration" in glance
