"""What a notebook shows of values: short lines, and tables in which every name is text and nothing is fetched."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from mfd_cli import Predictor, Scorer, load_project, read_intervals
from mfd_cli.base.notebook import Told, facts_table
from mfd_cli.dataset.folder import Dataset
from mfd_cli.experiments.track import Track
from mfd_cli.explain.results import ExplainSummary
from mfd_cli.predictions.embed import EmbedSummary
from mfd_cli.runs.folder import Run
from mfd_cli.variants.summary import ScoreSummary

HOSTILE = "<script>alert('1')</script>&amp;\"x"


class Read(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements, self.text = list[str](), ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append(tag)
        assert not {name for name, _ in attrs} - {"style"}, "an element that could fetch or run something"

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(value: Any) -> Read:
    """What a notebook shows, after a look at whether it is harmless."""
    read = Read(value._repr_html_())
    assert set(read.elements) <= {"table", "caption", "tbody", "tr", "th", "td", "div", "b"}
    return read


def test_a_run_and_a_dataset(trained: tuple[Run, Dataset]) -> None:
    run, dataset = trained
    assert repr(run) == (
        f"<Run {str(run.path)!r}: tracks 8 peaks, 1 signal, head conditioned, latents 12 biological, 4 technical, "
        f"model {run.digest[:12]}>"
    )
    read = shown(run)
    assert "target (biological), tissue (biological), assay (technical), lab (technical)" in read.text
    assert read.elements.count("tr") == 6 and "trained onchr1" in read.text
    bins = {name: split["bins"] for name, split in dataset.manifest["splits"].items()}
    assert f"bins {bins['train']} train, {bins['validation']} validation, {bins['test']} test>" in repr(dataset)
    assert "2 contigs, 90,000 bp" in shown(dataset).text and "Target, Tissue, Assay, Lab" in shown(dataset).text


def test_names_are_text(trained: tuple[Run, Dataset]) -> None:
    run, dataset = trained
    named = dataclasses.replace(run, path=Path(HOSTILE), about={**run.about, "trained_on": [HOSTILE]})
    assert shown(named).text.count(HOSTILE) == 2
    tracks = (Track("a", "peaks", {HOSTILE: "x"}),)
    assert shown(dataclasses.replace(dataset, path=Path(HOSTILE), tracks=tracks)).text.count(HOSTILE) == 2
    assert shown(ScoreSummary([Path(HOSTILE)], background=HOSTILE)).text.count(HOSTILE) == 2
    assert shown(ExplainSummary(Path(HOSTILE), HOSTILE, [HOSTILE])).text.count(HOSTILE) == 2
    assert facts_table(HOSTILE, {HOSTILE: HOSTILE}).count("&lt;script&gt;") == 3


def test_results_are_told(tmp_path: Path) -> None:
    summary = ScoreSummary([tmp_path / "o.vcf"], records=3, alleles=4, scored=3, skipped={"broken": 1}, seconds=1.0)
    assert repr(summary) == "<ScoreSummary 3 records, 4 alternate alleles: 3 scored (3/s), 1 not scored (1 broken)>"
    assert shown(summary).text == "ScoreSummary" + "".join(summary.lines())
    assert dataclasses.asdict(summary)["records"] == 3  # it is the dataclass that it was
    embedded = EmbedSummary(Path("l.parquet"), 2, 0, 16)
    assert repr(embedded) == "<EmbedSummary 2 regions, 16 latents each>"
    assert isinstance(summary, Told) and isinstance(embedded, Told)


def test_what_holds_arrays_is_one_line(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    (tmp_path / "r.bed").write_text("chr1\t5\t9\nchr2\t5\t9\n")
    (tmp_path / "mfd.toml").write_text('[factors.lab]\ncolumn = "Lab"\ngroup = "technical"\n')
    bins, predictor = dataset.split("test"), Predictor(run.model)
    lines = {
        f"<Genome '.*genome.arrow': 2 contigs, {sum(dataset.genome.lengths.values()):,} bp>": dataset.genome,
        f"<Bins {len(bins)} bins, {len(bins)} with data>": bins,  # a signal in each
        "<Intervals '.*r.bed': 2 intervals on 2 contigs>": read_intervals(tmp_path / "r.bed"),
        "<Project '.*mfd.toml': factors lab>": load_project(tmp_path / "mfd.toml"),
        rf"<Predictor {len(run.tracks)} tracks from 16 latents, windows of {run.model.window} bp, .* on cpu>": predictor,
        f"<Head {len(run.tracks)} tracks, weights of 16 latents: 12 biological, 4 technical>": predictor.head,
        f"<Scorer 1 model on cpu, {len(run.tracks)} outputs, ScoreSettings.*>": Scorer(run),
    }
    for pattern, value in lines.items():
        assert re.fullmatch(pattern, repr(value)), repr(value)
