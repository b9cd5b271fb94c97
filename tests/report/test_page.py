"""The report in a real browser: it fits a desktop and a phone, its tables sort and search, its values stay inert."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mfd_cli.dataset.folder import Dataset
from mfd_cli.explain.factor import explain
from mfd_cli.explain.results import Look
from mfd_cli.runs.folder import Run

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here")

ASK = r"""<script>
window.addEventListener("load", () => {
  const box = document.querySelectorAll(".table")[0], rows = () => [...box.querySelectorAll("tbody tr")];
  const first = () => rows().map((row) => row.cells[0].textContent), head = box.querySelectorAll("th")[1];
  head.click(); const up = rows().map((row) => Number(row.cells[1].textContent));
  head.click(); const down = rows().map((row) => Number(row.cells[1].textContent));
  const input = box.querySelector("input"); input.value = "gata";
  input.dispatchEvent(new Event("input"));
  const found = rows().filter((row) => !row.hidden).map((row) => row.cells[0].textContent);
  const image = document.querySelector("figure img"); image.click(); const large = image.className;
  document.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape"}));
  const luminance = (one) => getComputedStyle(one).backgroundColor.match(/[\d.]+/g).slice(0, 3)
    .reduce((sum, value) => sum + Number(value) / 765, 0);
  const sentences = [...document.querySelectorAll("li")].find((one) => one.textContent.startsWith("GATA1: "));
  const cells = [...rows()[0].cells], heads = [...box.querySelectorAll("th")], style = (one) => getComputedStyle(one);
  const aligned = heads.every((one, i) => style(one).textAlign === style(cells[i]).textAlign
    || !cells[i].textContent || style(one).textAlign === "left" && style(cells[i]).textAlign === "start");
  const right = heads.filter((one) => style(one).textAlign === "right").length;
  const lines = [...rows()[1].cells].map((one) => style(one).borderTopWidth);
  const room = box.querySelector(".scroll");
  const told = {aligned, right, lines, cut: room.scrollWidth - room.clientWidth,
    ground: luminance(document.body), pictures: luminance(image),
    folded: !sentences.closest("details").open, up, down, found, large, closed: image.className,
    scripted: window.stolen === true, wide: document.documentElement.scrollWidth, inner: window.innerWidth,
    broken: [...document.images].filter((one) => !one.naturalWidth).length};
  const answer = document.createElement("pre"); answer.id = "answer"; answer.textContent = JSON.stringify(told);
  document.body.append(answer);
});</script>"""


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (500, True)])
def test_the_page_works_in_a_browser(width: int, dark: bool, trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    harmful = '<img src=x onerror="window.stolen=true">'
    evil = [replace(track, metadata={**track.metadata, "Lab": harmful}) for track in run.tracks[:1]] + list(
        run.tracks[1:]
    )
    explain(replace(run, tracks=tuple(evil)), dataset, "target", tmp_path / "out", look=Look(top=3))
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert "&lt;img src=x" in page
    (tmp_path / "asked.html").write_text(page.replace("</body>", ASK + "</body>"), "utf-8")
    words = [
        str(BROWSER),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=5000",
        f"--window-size={width},900",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
    ]
    dumped = subprocess.run(
        [*words, (tmp_path / "asked.html").as_uri()], capture_output=True, text=True, timeout=120
    ).stdout
    answer = re.search(r'<pre id="answer">(.*?)</pre>', dumped)
    assert answer, dumped[-500:]
    told = json.loads(answer[1])
    assert told["up"] == sorted(told["up"]) and told["down"] == sorted(told["down"], reverse=True)
    assert told["found"] == ["GATA1"] and told["large"] == "large" and told["closed"] == ""
    assert told["scripted"] is False and told["broken"] == 0
    assert told["folded"] is True
    assert told["aligned"] and told["right"] > 3 and set(told["lines"]) == {"1px"}
    assert width < 1000 or told["cut"] <= 0, "a table is cut though there is room"
    assert told["ground"] < 0.2 if dark else told["ground"] == 1
    assert told["pictures"] == 1, "a picture is drawn for a light ground"
    assert told["wide"] <= told["inner"], "the page scrolls sideways"
