"""`mfd --help` in sections, and examples that work at the end of each command's help."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from house.test_architecture import HEAVY
from kit.harm import command, in_process, new_dataset, trained_project
from mfd_cli.cli.app import COMMANDS, EVERY_COMMAND
from mfd_cli.cli.help import EXAMPLES, SECTIONS, UNSORTED
from mfd_cli.evaluation import qc

ENRICHED = "input.mfd.parquet"
"""What an example reads that another command writes."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained project with what the examples read: regions, wanted experiments, scored variants and their labels."""
    folder = tmp_path_factory.mktemp("examples") / "p"
    trained_project(folder)
    assert in_process(["score-variants", "input.vcf", "-q", "--gpus", "0"], folder).code == 0
    new_dataset(folder)
    (folder / "regions.bed").write_text("chr1\t1000\t1100\nchr2\t5000\t5300\n")
    (folder / "wanted.tsv").write_text("Target\tAssay\nCTCF\tChIP-seq\n")
    rows = [line.split("\t") for line in (folder / "input.vcf").read_text().splitlines() if line[0] != "#"]
    cells = [(row[0], row[1], row[3], row[4], str(number % 2)) for number, row in enumerate(rows)]
    lines = ["\t".join(row) for row in [("chrom", "pos", "ref", "alt", "label"), *cells]]
    (folder / "labels.tsv").write_text("\n".join(lines) + "\n")
    return folder


def test_every_command_stands_in_one_section_in_the_order_of_use() -> None:
    said = in_process(["--help"], Path.cwd()).said
    places = [said.index(f"\n{title}:\n") for title in SECTIONS]
    assert places == sorted(places) and f"{UNSORTED}:" not in said
    for title, members in SECTIONS.items():
        inside = said.split(f"\n{title}:\n", 1)[1].split("\n\n", 1)[0]
        assert re.findall(r"(?m)^  (\S+)", inside) == list(members)
    assert sorted(name for members in SECTIONS.values() for name in members) == sorted([*COMMANDS, "contig"])
    starts = {len(line) - len(line.split(maxsplit=1)[1]) for line in said.splitlines() if line.split()[:1] == ["init"]}
    assert not re.search(r"\S\.\.\.", said[places[0] :]), "what a command does is cut off"
    assert starts == {18}  # all sections are aligned by the longest name, score-variants


def test_a_command_of_no_section_is_shown_in_one_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(command().commands, "dance", command().commands["info"])
    said = in_process(["--help"], Path.cwd()).said
    assert f"\n{UNSORTED}:\n  dance " in said


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from mfd_cli.cli.app import app; app(['--help'], standalone_mode=False); "
        f"print('loaded', *({set(HEAVY) | {'numpy', 'pydantic'}!r} & {{m.split('.')[0] for m in sys.modules}}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].strip() == "loaded"


@pytest.mark.parametrize("name", list(EVERY_COMMAND))
def test_the_help_of_a_command_ends_with_its_examples(name: str) -> None:
    said = in_process([*name.split(), "--help"], Path.cwd()).said
    examples = EXAMPLES[name]
    assert 1 <= len(examples) <= 2 and all(
        line.startswith(f"mfd {name} ") or line == f"mfd {name}" for line in examples
    )
    assert said.endswith("\nExamples:\n" + "".join(f"  {line}\n" for line in examples))


@pytest.mark.parametrize("line", [line for name in COMMANDS for line in EXAMPLES[name]])
def test_every_example_works_inside_a_project(
    line: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qc, "FEWEST_IN_BLOCK", 1)  # the project has a small test contig
    monkeypatch.setattr(qc, "STEPS", 40)  # which level fits best is test_qc's
    folder = tmp_path / "p"
    shutil.copytree(project, folder)
    _, name, *words = shlex.split(line)
    made = {"init": "mfd.toml", "preprocess": "dataset", "score-variants": ENRICHED, "train": "run"}.get(name, "")
    if made and (folder / made).is_dir():
        shutil.rmtree(folder / made)
    elif made:
        (folder / made).unlink()
    for rest in folder.glob("input.mfd.*") if name == "score-variants" else ():
        rest.unlink()
    if name == "gather":
        assert in_process(["predict", "-r", "chr1:1001-3000", "--shard", "1/1"], folder).code == 0
    quick = ["-n", "100"] if name == "background" else []
    done = in_process([name, *words, *quick], folder)
    assert done.code == 0, done.told
