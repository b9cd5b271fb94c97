"""What README and docs/ say can be typed can be typed, what they name exists, and their Python runs."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import mfd_cli
from house.test_architecture import ROOMS
from kit import harm
from kit.places import ROOT, SOURCE
from mfd_cli.contig.config import ContigConfig
from mfd_cli.dataset.folder import Dataset
from mfd_cli.dataset.manifest import read_manifest
from mfd_cli.runs.folder import Run
from mfd_cli.settings.config import Config
from mfd_cli.settings.parse import parse_settings

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
TEXT = {page: page.read_text("utf-8") for page in PAGES}
TYPED_COMMANDS = harm.command().commands
COMMANDS = {name: command for name, command in TYPED_COMMANDS.items() if name != "contig"} | {
    f"contig {name}": command for name, command in TYPED_COMMANDS["contig"].commands.items()
}
"""By their words: those of the group contig by both."""
GENERATED = ("command-reference.md", "settings.md", "python-reference.md")
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Yield the language and the text of every fenced block, and of every indented one as if it were a shell's."""
    text = TEXT[page]
    for _, language, inside in FENCE.findall(text):
        yield language, inside
    for inside in re.findall(r"(?:^ {4}\S.*\n)+", FENCE.sub("", text), re.MULTILINE):
        yield "bash", inside


def ticked(page: Path) -> list[str]:
    """What stands between backticks outside of blocks, with line breaks as spaces."""
    return [" ".join(words.split()) for words in re.findall(r"`([^`]+)`", FENCE.sub("", TEXT[page]))]


def shown(page: Path) -> Iterator[str]:
    """Every command line of a page, without its comment."""
    for language, inside in blocks(page):
        if language == "bash":
            yield from (re.split(r"\s#", line)[0].strip() for line in inside.splitlines())
    yield from ticked(page)


def cases(found: dict[Path, Any]) -> list[Any]:
    """One case of a test for each thing that pages hold; its name begins with the page's."""
    return [
        pytest.param(thing, id=f"{page.stem}: {thing}"[:90]) for page in found for thing in dict.fromkeys(found[page])
    ]


TYPED = {
    page: [f"mfd {words.strip()}" for line in shown(page) for words in re.findall(r"(?:^|\| )mfd ([a-z][^|<]*)", line)]
    for page in PAGES
}
MODULE_CALLS = {page: [w for line in shown(page) for w in re.findall(r"-m mfd_cli ([a-z].*)", line)] for page in PAGES}
ALONE = {page: [words.split()[0].split("=")[0] for words in ticked(page) if words.startswith("-")] for page in PAGES}
FILES = ("tsv", "json", "parquet", "arrow", "png", "toml", "safetensors")
"""Endings by which a dotted name is a file and no setting."""
PATH = r"(?:src|tests|examples|docs)/[\w*./-]*"
PATHS = {page: [path.rstrip(".,") for path in re.findall(rf"(?<![\w/]){PATH}", TEXT[page])] for page in PAGES}
TESTS_NAMED = {page: re.findall(r"`(test_\w+)`", TEXT[page]) for page in PAGES}
ROOTS: dict[Path, Any] = {DOCS / "contig.md": ContigConfig}
"""What a page's settings are of, where it is not mfd.toml."""
SETTINGS = {
    page: [
        (match[0], root)
        for root in [ROOTS.get(page, Config)]
        for words in [*ticked(page), *shown(page)]
        for match in re.finditer(rf"(?<![\w./-])(?:{'|'.join(root.model_fields)})\.[a-z_.-]*[a-z]\b(?![(/])", words)
        if not match[0].endswith(FILES)
    ]
    for page in PAGES
}
SCRIPTS = {page: [w for line in shown(page) for w in re.findall(r"^python (examples/.*)", line)] for page in PAGES}
TARGETS = {
    page: [words for line in shown(page) for words in re.findall(r"^make ([a-z][a-z-]*)", line)] for page in PAGES
}
LINKS = {page: re.findall(r"\]\(([^)\s]+)\)", TEXT[page]) for page in PAGES}


# -- commands and options ----------------------------------------------------------------------------------------------


def options_of(name: str) -> set[str]:
    """The options of a command, as they are typed."""
    every = {option for p in COMMANDS[name].params for option in (*p.opts, *p.secondary_opts)} | {"-h", "--help"}
    return {option for option in every if option.startswith("-")}


def check_call(words: str) -> None:
    name = words.split()[0]
    if name == "contig":
        if len(words.split()) == 1:  # the group itself is meant
            return
        name = " ".join(words.split()[:2])
    assert name in COMMANDS
    quoted = re.sub(r"'[^']*'", "", words)
    assert set(re.findall(r"(?<=\s)--?[A-Za-z][A-Za-z0-9-]*", quoted)) <= options_of(name)


@pytest.mark.parametrize("line", cases(TYPED))
def test_every_command_and_option_exists(line: str) -> None:
    check_call(line.removeprefix("mfd "))


@pytest.mark.parametrize("words", cases(MODULE_CALLS))
def test_commands_that_python_starts_exist(words: str) -> None:
    check_call(words)


@pytest.mark.parametrize("option", cases(ALONE))
def test_every_option_named_alone_is_one_of_some_command(option: str) -> None:
    own = {"--version", "--debug"}  # those of mfd itself
    assert option in own or any(option in options_of(name) for name in COMMANDS) or option.startswith("-0.")


def test_the_tour_of_the_tutorial_runs(tmp_path: Path) -> None:
    tour = TEXT[DOCS / "tutorial.md"].split("\n## A tour of a planted project\n", 1)[1]
    _, _, inside = FENCE.findall(tour)[0]
    folder, last = tmp_path, ""
    for line in inside.splitlines():
        program, *words = line.split()
        if program == "cd":
            folder /= words[0]
            continue
        outcome = harm.in_process(words, folder)
        assert program == "mfd" and outcome.code == 0, outcome.told
        last = outcome.said
    assert last.startswith("dataset: every file")


@pytest.mark.parametrize("setting", cases(SETTINGS))
def test_every_setting_that_is_named_exists(setting: tuple[str, Any]) -> None:
    name, node = setting
    for key in name.split("."):
        if isinstance(node, type):
            fields: Any = node.model_fields  # type: ignore[attr-defined]
            assert key in fields, f"{key} is no setting of {node.__name__}"
            node = next((kind for kind in inner(fields[key].annotation)), None)


def inner(annotation: Any) -> Iterator[Any]:
    """Yield the nodes of the configuration that an annotation is about."""
    if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
        yield annotation
    elif not str(annotation).startswith("dict"):  # below a dictionary come names, which are the user's
        for argument in getattr(annotation, "__args__", ()):
            yield from inner(argument)


@pytest.mark.parametrize("words", cases(SCRIPTS))
def test_options_and_subjects_of_examples_exist(words: str) -> None:
    """An example is called with options, and with words in small letters, that stand in its file."""
    script, *others = words.split()
    text = (ROOT / script).read_text()
    for word in others:
        if re.fullmatch("--[a-z-]+|[a-z-]+", word):
            assert re.search(rf'["\'{{ ]{word}["\' ]', text), f"{script} knows no {word}"


@pytest.mark.parametrize("target", cases(TARGETS))
def test_every_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_four_lines_stand_in_the_readme() -> None:
    four = (
        "    mfd preprocess\n    mfd train --gpus 1\n    mfd score-variants input.vcf\n    mfd explain --factor assay\n"
    )
    assert four in TEXT[ROOT / "README.md"]


# -- Python and settings -----------------------------------------------------------------------------------------------

PYTHON = [page for page in PAGES if any(language == "python" for language, _ in blocks(page))]
TOML = [
    pytest.param(inside, id=f"{page.stem} {number}")
    for page in PAGES
    for number, (language, inside) in enumerate(blocks(page))
    if language == "toml"
]


@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(page: Path, trained: tuple[Run, Dataset], tmp_path: Path, monkeypatch: Any) -> None:
    run, dataset = trained
    shutil.copytree(run.path.parent, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    names: dict[str, Any] = {}
    for language, inside in blocks(page):
        if language == "python":
            exec(compile(inside, page.name, "exec"), names)
    if page.name == "predict.md":
        bins, logits, technical = names["bins"], names["logits"], names["technical"]
        assert logits.shape == technical.shape == (len(bins), len(run.tracks)) == (len(dataset.split("test")), 9)
        assert np.isfinite(logits).all() and technical.std() > 0


def test_there_is_python_to_run() -> None:
    assert [page.name for page in PYTHON] == ["predict.md"]


@pytest.mark.parametrize("text", TOML)
def test_settings_that_are_shown_are_read(text: str) -> None:
    tree = tomllib.loads(text)
    parse_settings(ContigConfig if "modalities" in tree else Config, tree)


# -- files, tests, links -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", cases(PATHS))
def test_every_path_exists(path: str) -> None:
    assert list(ROOT.glob(path.rstrip("/")))


@pytest.mark.parametrize("name", cases(TESTS_NAMED))
def test_every_test_that_is_named_exists(name: str) -> None:
    assert any(re.search(rf"^def {name}\(", file.read_text(), re.MULTILINE) for file in (ROOT / "tests").rglob("*.py"))


def anchors(page: Path) -> set[str]:
    """The headings of a page as mkdocs names them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", TEXT[page]), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINKS[page]:
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert not re.match("[a-z]+:", link), f"{link}: pages link to nothing outside of the project"
        assert target.name not in GENERATED, (
            f"{link}: this page is in the built site only, and dead where pages are read as they are"
        )
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_can_be_reached() -> None:
    listed = set(re.findall(r": ([a-z-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    assert listed == {page.name for page in DOCS.glob("*.md")} | set(GENERATED)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_path_is_of_a_machine(page: Path) -> None:
    assert not re.search(r"(?<![\w.])/(?:home|work|root|tmp|usr|mnt)/", TEXT[page])


# -- what the tables say -----------------------------------------------------------------------------------------------


def rows_below(page: str, heading: str) -> list[list[str]]:
    """The cells of the table below a heading of a page in docs/."""
    after = TEXT[DOCS / page].split(f"\n{heading}\n", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", after, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in table[0].splitlines()[2:]]


def test_the_map_has_every_room_in_the_order_of_imports() -> None:
    """No room stands above one that it imports from."""
    order = [row[0].strip("`| ") for row in rows_below("extending.md", "## The rooms, from the ground up")]
    assert sorted(order) == sorted(ROOMS)
    for room, below in ROOMS.items():
        late = {other for other in below if order.index(other) > order.index(room)}
        assert not late, f"{room} stands before {late}"


ADDING = rows_below("extending.md", "## You want to add ...")


@pytest.mark.parametrize("row", ADDING, ids=[row[0].strip("| ") for row in ADDING])
def test_every_file_and_list_to_add_to_exists(row: list[str]) -> None:
    """Lists are looked for in the file that their cell names, or in the one of the cell before."""
    places = [path for cell in row for path in re.findall(rf"`({PATH}|mkdocs\.yml)`", cell)]
    assert places and all((ROOT / place).exists() or list(ROOT.glob(place)) for place in places)
    home = re.findall(rf"`({PATH})`", row[1])
    for name, named in re.findall(r"`(\w+)`(?: in `([^`]+)`)?", row[2]):
        if name == "nav":
            continue
        candidates = [named] if named else [path for path in home if path.endswith(".py")]
        assert any(defines(ROOT / path, name) for path in candidates), f"{name} is not in {candidates}"


def defines(file: Path, name: str) -> bool:
    """Whether a file has a top-level name; in the program it is also imported, so that the name is really there."""
    names: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
        names |= {getattr(target, "id", getattr(target, "name", "")) for target in targets}
    if name in names and SOURCE in file.parents and file.parent != SOURCE:
        module = ".".join(file.relative_to(SOURCE).with_suffix("").parts)
        return hasattr(import_module(f"mfd_cli.{module}"), name)
    return name in names


def test_the_entries_of_stored_files_are_those_of_the_specification(trained: tuple[Run, Dataset]) -> None:
    run, dataset = trained
    for file, place in (("manifest.json", dataset.path), ("model.json", run.path)):
        text = TEXT[DOCS / "files-and-formats.md"].split(f"| entry of {file} |", 1)[1].split("\n\n", 1)[0]
        named = {name for line in text.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split(" | ")[0])}
        assert named == set(json.loads((place / file).read_text()))
    assert read_manifest(dataset.path)["version"] == 2


@pytest.mark.parametrize("file", ["genome.arrow", "tracks.arrow", "bins.arrow", "shards/SPLIT-NNNNN.arrow"])
def test_the_columns_of_the_dataset_are_those_of_the_specification(file: str, trained: tuple[Run, Dataset]) -> None:
    import pyarrow as pa

    row = next(row for row in rows_below("files-and-formats.md", "## The dataset folder") if f"`{file}`" in row[0])
    said = set(re.findall(r"`([a-z_]+)`", row[2]))
    with pa.memory_map(str(trained[1].path / file.replace("SPLIT-NNNNN", "test-00000"))) as source:
        columns = {name for name in pa.ipc.open_file(source).schema.names if not name.startswith("metadata.")}
    assert said - {"measured"} == columns - {"measured"}


def test_the_fields_of_the_vcf_are_in_the_table() -> None:
    from mfd_cli.variants.vcf_fields import DESCRIPTIONS, OTHER_FIELDS

    table = " ".join(row[0] for row in rows_below("variants.md", "## The fields"))
    assert {*DESCRIPTIONS, *OTHER_FIELDS, "MFD_BIO", "MFD_TECH"} <= set(re.findall(r"`(\w+)`", table))


# -- the generated pages -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """docs/make_reference.py."""
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def commands_page(reference: ModuleType) -> str:
    """The page of all commands, made once."""
    return str(reference.command_reference())


def test_the_pages_that_are_generated(reference: ModuleType) -> None:
    assert set(reference.PAGES) == set(GENERATED)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_command_reference_is_complete(name: str, commands_page: str) -> None:
    section = re.search(rf"^## mfd {name}\n(.*?)(?=^## |\Z)", commands_page, re.MULTILINE | re.DOTALL)
    assert section is not None
    cells = " ".join(re.findall(r"^\| `([^`]*)`", section[1], re.MULTILINE))
    listed = set(re.findall(r"--?[A-Za-z][A-Za-z0-9-]*", cells))
    assert options_of(name) - {"-h", "--help"} <= listed
    arguments = [p for p in COMMANDS[name].params if not p.opts[0].startswith("-")]
    assert section[1].count("| argument |") == bool(arguments)
    assert " ".join(COMMANDS[name].help.split())[:40] in " ".join(section[1].split())


def test_the_settings_reference_is_complete(reference: ModuleType) -> None:
    page = reference.settings_reference()
    for name, field in Config.model_fields.items():
        for node in inner(field.annotation):
            section = page.split(f"\n## [{name}]\n", 1)[1].split("\n## ", 1)[0]
            assert all(f"| `{key}` |" in section for key in node.model_fields)


def test_the_python_reference_is_complete(reference: ModuleType) -> None:
    page = reference.python_reference()
    assert set(reference.VERBS) == set(COMMANDS)
    assert all(f"\n### {name}\n" in page for name in mfd_cli.__all__)
    assert all(f"\n### mfd {command}\n" in page for command in COMMANDS)


class _Loaded(HTMLParser):
    """What a page fetches when it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        wanted = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}.get(tag)
        self.addresses += [value for name, value in attrs if name == wanted and value]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_needs_no_network(tmp_path: Path) -> None:
    pytest.importorskip("material")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert {page.with_suffix(".md").name for page in pages} >= {*GENERATED, *(page.name for page in DOCS.glob("*.md"))}
    for page in pages:
        loaded = _Loaded()
        loaded.feed(page.read_text("utf-8"))
        assert not [address for address in loaded.addresses if re.match("(?:[a-z]+:)?//", address)], page.name


@pytest.mark.slow
def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    pytest.importorskip("material")
    (tmp_path / "docs").mkdir()
    shutil.copy(DOCS / "style.css", tmp_path / "docs")
    settings = re.sub(r"(?m)^hooks: .*\n", "", (ROOT / "mkdocs.yml").read_text().split("nav:\n")[0])
    (tmp_path / "mkdocs.yml").write_text(settings)
    for link, code in (("index.md", 0), ("nowhere.md", 1)):
        (tmp_path / "docs/index.md").write_text(f"# mfd\n\n[a link]({link})\n")
        done = subprocess.run(
            [sys.executable, "-m", "mkdocs", "build", "--strict"], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == code and ("nowhere.md" in done.stderr) == bool(code), done.stderr
