"""What the README says can be typed can be typed."""

from __future__ import annotations

import re
import textwrap

import numpy as np
import pytest

from kit import harm
from kit.places import ROOT
from mfd_cli.dataset.folder import Dataset
from mfd_cli.runs.folder import Run

README = (ROOT / "README.md").read_text()
COMMANDS = harm.command().commands
TYPED = sorted(
    {
        *(
            " ".join(words.split())
            for words in re.findall(r"^    (?:[^#\n]*\| )?(mfd [a-z][^#|\n]*)", README, re.MULTILINE)
        ),
        *(" ".join(words.split()) for words in re.findall(r"`(mfd [a-z][^`]*)`", README)),
    }
)


@pytest.mark.parametrize("line", TYPED)
def test_every_command_and_option_exists(line: str) -> None:
    words = line.split()
    assert words[1] in COMMANDS
    known = {option for p in COMMANDS[words[1]].params for option in (*p.opts, *p.secondary_opts)} | {"--help"}
    quoted = re.sub(r"'[^']*'", "", line)
    assert set(re.findall(r"(?<=\s)--?[A-Za-z][A-Za-z-]*", quoted)) <= known


@pytest.mark.parametrize("option", sorted(set(re.findall(r"`(--[a-z][a-z-]*)", README))))
def test_every_option_named_alone_is_one_of_some_command(option: str) -> None:
    assert any(option in (*p.opts, *p.secondary_opts) for command in COMMANDS.values() for p in command.params)


def test_the_python_of_the_readme_runs(trained: tuple[Run, Dataset], monkeypatch: pytest.MonkeyPatch) -> None:
    run, dataset = trained
    monkeypatch.chdir(run.path.parent)
    found = re.search(r"### From Python\n\n((?:    .*\n|\n)+)", README)
    assert found is not None
    names: dict[str, object] = {}
    exec(textwrap.dedent(found[1]), names)
    bins, logits, technical = names["bins"], names["logits"], names["technical"]
    assert logits.shape == technical.shape == (len(bins), len(run.tracks)) == (len(dataset.split("test")), 9)
    assert np.isfinite(logits).all() and technical.std() > 0
