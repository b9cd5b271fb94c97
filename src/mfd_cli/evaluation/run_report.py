"""`mfd report`: one page about a run, from what lies in its folder, for a reader who decides what to trust.

Nothing is computed anew from data: the page shows what training and `mfd evaluate` wrote, and what the metadata that are kept
in the run say of the design. What is not there is named, with the command that makes it.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from html import unescape
from pathlib import Path
from typing import Any

from mfd_cli.base.errors import InputError
from mfd_cli.base.files import check_input, check_output
from mfd_cli.engine.checkpoint import METRICS
from mfd_cli.engine.curve import read_curve
from mfd_cli.evaluation.comparison import COMPARED
from mfd_cli.evaluation.curves_picture import write_curves
from mfd_cli.evaluation.evaluation_folder import (
    EvaluationFolder,
    check_picture,
    read_evaluation,
    without_empty,
)
from mfd_cli.evaluation.in_words import finding_lines
from mfd_cli.experiments.check_design import design_of
from mfd_cli.experiments.confounds import values_by_factor, worst_confounds
from mfd_cli.experiments.confounds_picture import draw_design
from mfd_cli.report.page import Picture, pictures_in, publish
from mfd_cli.runs.card import (
    MEASURES,
    data_words,
    evaluations_of,
    factor_rows,
    limits,
    listed,
    measured,
    model_words,
    title_of,
    training_words,
)
from mfd_cli.runs.folder import Run, load_run, read_description
from mfd_cli.runs.info import describe, facts_of
from mfd_cli.runs.near_chance import SPLITS, near_chance

PAGE = "report.html"
"""The name of the page in a run folder, and of the pages of `mfd explain` in theirs."""
MADE_BY = re.compile(r"<footer>mfd \S+, model ([0-9a-f]{12})</footer>")
"""The foot of a page of `mfd explain`: which model it is of."""
NAMED = re.compile("<title>mfd: (.*?)</title>")
CAPTIONS = {
    "calibration": "How often there is a peak, beside the probability that was predicted",
    "independence": "What fresh probes find of one group in another, beside what chance gives",
}


SCORE_HEADINGS = {
    "auroc": "AUROC",
    "auroc_occupied": "occupied bins",
    "auprc": "AUPRC",
    "pearson": "correlation",
    "calibration": "predicted over observed",
}
"""Columns of scores whose heading is not their name; no factor can be called like one of these."""
HEADINGS = {
    **SCORE_HEADINGS,
    **dict.fromkeys(
        ("model_auroc", "model_auroc_occupied", "model_auprc", "model_pearson", "model_score"),
        "model on the same tracks",
    ),
    "strongest": "strongest baseline",
    "its_score": "its score",
    "single": "levels with one track",
    "missing": "tracks without a value",
    "chance": "p",
    "together": "tracks moving together",
    "nested": "nested within the other",
}
"""Columns of all tables without columns of factors."""


@dataclass(frozen=True)
class Missing:
    """A section that the page does not have: why, and the command that makes what it needs, None where no command would."""

    section: str
    why: str
    command: str | None

    def line(self) -> str:
        """Return it in words."""
        return f"{self.section}: {self.why}{f'. What makes it: {self.command}' if self.command else ''}"


@dataclass(frozen=True)
class RunReport:
    """The page that was written, which run and model it is of, the sections that it has, and those that it lacks.

    `warning` says that the model is near chance, where it is.
    """

    page: Path
    run: Path
    model: str
    sections: Sequence[str]
    missing: Sequence[Missing]
    warning: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the same as plain values."""
        return {**asdict(self), "page": str(self.page), "run": str(self.run)}

    def lines(self) -> list[str]:
        """Return it in words."""
        lacking = [f"not on it: {each.line()}" for each in self.missing]
        warnings = [f"warning: {self.warning}"] if self.warning else []
        return [*warnings, f"on the page: {', '.join(self.sections)}", *lacking, f"page: {self.page}"]


@dataclass
class Contents:
    """What goes on the page: values by the name that the template has for them, and the sections that are there or missing."""

    values: dict[str, Any] = field(default_factory=dict)
    sections: list[str] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)

    def show(self, section: str, **values: Any) -> None:
        """Add a section with its values."""
        self.sections.append(section)
        self.values |= values

    def lack(self, section: str, why: str, command: str | None) -> None:
        """Say that a section is missing."""
        self.missing.append(Missing(section, why, command))


def report(
    folder: Path, output: Path | None = None, *, explanations: Sequence[Path] = (), force: bool = False
) -> RunReport:
    """Write the page of the run in a folder to `output`, or report.html in that folder, where it replaces an older one.

    `explanations` are pages of `mfd explain`, or folders with such pages, to link to beside those that lie in the run folder.

    Raises RunError where the folder is no run, or a file of it is damaged; InputError where an explanation is none; OutputError
    where something is in the way of `output` and `force` is not set.
    """
    page = output or folder / PAGE
    run, stored = load_run(folder), read_description(folder)
    check_output(page, force or output is None)
    warning = near_chance(run)
    contents = Contents()
    with tempfile.TemporaryDirectory() as name:
        add_glance(contents, run)
        add_run(contents, run, stored)
        add_design(contents, run, stored, Path(name))
        add_curves(contents, run, Path(name))
        add_evaluations(contents, run)
        add_explanations(contents, run, page, explanations)
        contents.show("limits", limits=limits(stored, run.config))
        publish(
            page,
            "mfd_cli.evaluation",
            "run_report.html.j2",
            title=title_of(stored).removeprefix("mfd "),
            headings=HEADINGS,
            score_headings=SCORE_HEADINGS,
            footer=f"report of model {run.digest[:12]}",
            missing=contents.missing,
            sections=contents.sections,
            warning=warning,
            **contents.values,
        )
    return RunReport(page, folder, run.digest, contents.sections, contents.missing, warning)


# -- section by section ------------------------------------------------------------------------------------------------


def add_glance(contents: Contents, run: Run) -> None:
    """Add what a reader wants first: the scores beside the strongest baselines, and in sentences what limits the trust."""
    own, _ = evaluations_of(run.path, run.digest)
    summary = next((one for split in SPLITS for one in own.values() if one["split"] == split), None)
    sentences = finding_lines(summary) if summary else ["nobody has measured how good it is: mfd evaluate does"]
    rows = [track.metadata for track, used in zip(run.tracks, run.model.trained) if used]
    apart = worst_confounds(rows, run.config.factors) if run.config.factors else []
    sentences += apart or ["no factor goes with another on most training tracks"]
    glance = {"sentences": sentences, "scores": glance_rows(summary) if summary else []}
    contents.values["glance"] = glance | ({"split": summary["split"], "bins": summary["bins"]} if summary else {})


def glance_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row per score of an evaluation: the model's mean, the best baseline, and the model's on its tracks."""
    rows = []
    baselines = summary.get("baselines", {}).get("training_tracks", {})
    for name in ("auroc", "auprc", "pearson"):
        if (value := summary["training_tracks"].get(name)) is None:
            continue
        known = {which: row for which, row in baselines.items() if row.get(name) is not None}
        best = max(known, key=lambda which: known[which][name]) if known else None
        its, beside = (known[best][name], known[best][f"model_{name}"]) if best else (None, None)
        rows.append(
            {"measure": MEASURES[name], "model": value, "strongest": best, "its_score": its, "model_score": beside}
        )
    return rows


def add_run(contents: Contents, run: Run, stored: Mapping[str, Any]) -> None:
    """Add what the run is: its model, data, training and factors."""
    words = (model_words(stored, run.config), data_words(stored, run.config), training_words(stored, run.config))
    facts = facts_of(describe(run.path) | {"factors": {}})
    rows = [{"fact": what, "value": text} for what, text in facts.items()]
    contents.show("the run", words=words, facts=rows)


def add_design(contents: Contents, run: Run, stored: Mapping[str, Any], drawn: Path) -> None:
    """Add what the metadata of the training tracks can tell, with a picture that is drawn into a folder."""
    factors = run.config.factors
    contents.values["design"] = None
    if not factors:
        contents.lack("what the design can tell", "the run has no factors", "mfd init proposes [factors]")
        return
    rows = [track.metadata for track, used in zip(run.tracks, run.model.trained) if used]
    design = design_of(rows, factors, run.config.resolved_model().technical)
    draw_design(drawn / "design", list(factors), design.pairs, values_by_factor(rows, factors))
    caption = "How far every two factors go together, and the tracks of the worst pair"
    spread = [{name: row[name] for name in ("single", "missing")} for row in design.factors]
    pairs = ("first", "second", "measure", "association", "chance", "together", "nested")
    contents.show(
        "what the design can tell",
        design=design,
        design_factors=[{**row, **more} for row, more in zip(factor_rows(stored, run.config), spread)],
        design_pairs=[{name: getattr(pair, name) for name in pairs} for pair in design.pairs],
        design_picture=embedded(drawn, "design", caption),
    )


def add_curves(contents: Contents, run: Run, drawn: Path) -> None:
    """Add the curves of the training, with a picture that is drawn into a folder."""
    file = run.path / METRICS
    lines = read_curve(file) if file.exists() else []
    contents.values["curves"] = None
    if not lines:
        contents.lack("training curves", f"there is no {METRICS}", "mfd train writes it while it goes on")
        return
    write_curves(drawn / "curves.png", lines)
    caption = "Loss and accuracy over the training; the dashed line is where the kept weights are from"
    contents.show("training curves", curves=embedded(drawn, "curves", caption), validations=len(lines))


def add_evaluations(contents: Contents, run: Run) -> None:
    """Add every evaluation of these very weights; those of other weights are named."""
    found, others = evaluations_of(run.path, run.digest)
    contents.values |= {"evaluations": [], "other_weights": listed(others)}
    command = "mfd evaluate, which measures it on the test bins"
    if not found:
        names = ("accuracy", "calibration", "independence of the groups", "how far to trust the parts")
        for section in names:
            contents.lack(section, "there is no evaluation of these weights", command)
    for path, summary in found.items():
        contents.values["evaluations"].append(evaluation_values(contents, run, read_evaluation(path, summary, run)))


def evaluation_values(contents: Contents, run: Run, read: EvaluationFolder) -> dict[str, Any]:
    """Return what the template shows of one evaluation, and add its sections, or what they lack, to the contents."""
    summary, bins = read.summary, f"on the {read.summary['split']} bins"
    values: dict[str, Any] = {
        "split": summary["split"],
        "bins": summary["bins"],
        "findings": [*finding_lines(summary), *summary.get("notes", [])],
        "averages": average_rows(summary),
        "baselines": {
            name.replace("_", " "): baseline_rows(rows) for name, rows in summary.get("baselines", {}).items()
        },
        "levels": read.level_rows(run),
        "tracks": read.track_rows(run),
        "file": f"{read.path.name}/tracks.tsv",
        "probes": summary.get("independence", []),
        "weights": summary.get("weights", []),
        "parts": [{"part": name, **row} for name, row in summary.get("parts", {}).items()],
        "track_parts": read.part_rows(run),
        "pictures": dict.fromkeys(CAPTIONS),
    }
    contents.show(f"accuracy {bins}")
    for name, section, there in (
        ("calibration", "calibration", "calibration" in summary),
        ("independence", "independence of the groups", bool(values["probes"])),
    ):
        if there:
            check_picture(read.path / f"{name}.png")
            drawn = [(f"{read.path.name}/{name}", CAPTIONS[name])]
            values["pictures"][name] = pictures_in(read.path.parent, drawn)[0]
            contents.show(f"{section} {bins}")
        else:
            contents.lack(f"{section} {bins}", *why_not(name, summary))
    section = f"how far to trust the parts {bins}"
    if values["parts"]:
        contents.show(section)
    elif run.model.settings.head == "mixed":
        contents.lack(section, "it takes two peak tracks that train, and parts that vary", None)
    else:
        why = f"it is told of the parts of a mixed head, and this head is {run.model.settings.head}"
        contents.lack(section, why, "mfd train --head mixed, then mfd evaluate")
    return values


def why_not(name: str, summary: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return why an evaluation has no calibration or independence, and the command that would measure it, if one would."""
    again = f"mfd evaluate --split {summary['split']}"
    if name == "calibration":
        if summary.get("training_tracks", {}).get("rated_tracks"):
            return "this evaluation has not measured it", again
        return "no peak track has enough peaks on these bins", None
    notes = [note for note in summary.get("notes", []) if note.startswith("no probes")]
    return (notes[0], None) if notes else ("this evaluation was made without probes", again)


def average_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row per measure: its averages over the training and over the held-out tracks."""
    rows: dict[str, dict[str, Any]] = {}
    for tracks in ("training_tracks", "held_out_tracks"):
        for _, words, value in measured(summary, tracks):
            rows.setdefault(words, {"measure": words, "training_tracks": None, "held_out_tracks": None})[tracks] = value
    return without_empty(list(rows.values()))


def baseline_rows(baselines: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row per baseline, each score of it beside the model's on the same tracks; none of what nobody measured."""
    scores = [name for each in (*COMPARED, "pearson") for name in (each, f"model_{each}")]
    names = ("tracks", "signal_tracks", *scores)
    return without_empty(
        [{"baseline": name, **{key: row.get(key) for key in names}} for name, row in baselines.items()]
    )


def embedded(folder: Path, stem: str, caption: str) -> Picture:
    """Return a picture that is drawn for the page alone: no file of it stays."""
    return replace(pictures_in(folder, [(stem, caption)])[0], stem="")


# -- pages of mfd explain ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ExplanationPage:
    """A page of `mfd explain`: its file, what it explains, and the first twelve letters of its model's digest."""

    path: Path
    title: str
    model: str


def add_explanations(contents: Contents, run: Run, page: Path, named: Sequence[Path]) -> None:
    """Add links to the pages of explanations that are named, or lie in the run folder."""
    found = [each for path in named for each in pages_named(path)] + pages_in(run.path)
    links = [
        {
            "title": each.title,
            "address": Path(os.path.relpath(each.path, page.parent)).as_posix(),
            "other_model": each.model != run.digest[:12],
        }
        for each in {each.path.resolve(): each for each in found}.values()
    ]
    contents.values["explanations"] = links
    if links:
        contents.show("explanations")
    else:
        command = "mfd explain --factor all, then mfd report --explanations explain"
        contents.lack("explanations", "no page of mfd explain is named, or lies in the run folder", command)


def pages_named(path: Path) -> list[ExplanationPage]:
    """Return the page at a path, or those in the folder there; InputError where there is none."""
    found = pages_in(path) if path.is_dir() else [page for page in [read_page(check_input(path))] if page]
    if not found:
        what = f"has no page of mfd explain ({PAGE})" if path.is_dir() else "is no page of mfd explain"
        raise InputError(what, path=path, hint="mfd explain --factor all -o explain makes explain/all")
    return found


def pages_in(folder: Path) -> list[ExplanationPage]:
    """Return the pages in a folder of `mfd explain`, in a folder of such folders, and in one that holds that."""
    files = [file for pattern in (PAGE, f"*/{PAGE}", f"*/*/{PAGE}") for file in sorted(folder.glob(pattern))]
    return [page for page in map(read_page, files) if page]


def read_page(path: Path) -> ExplanationPage | None:
    """Return what a file says of itself, if it is a page of `mfd explain`."""
    text = path.read_text("utf-8", errors="replace")
    made_by, title = MADE_BY.search(text), NAMED.search(text)
    return ExplanationPage(path, unescape(title[1]), made_by[1]) if made_by and title else None
