"""The conda recipe says what pyproject.toml says, in conda's names, and rattler-build reads it where it is installed."""

from __future__ import annotations

import tomllib
from importlib import import_module
from typing import Any

import pytest

from kit.places import ROOT

yaml = pytest.importorskip("yaml")

FILE = ROOT / "recipe" / "recipe.yaml"
RECIPE: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
OF_CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base", "pyBigWig": "pybigwig"}
"""Packages that have another name there; matplotlib-base is matplotlib without windows."""
SECTIONS = {
    "schema_version": set(),
    "context": {"version", "python_min"},
    "package": {"name", "version"},
    "source": {"path"},
    "build": {"number", "noarch", "script", "python"},
    "requirements": {"host", "run"},
    "tests": set(),
    "about": {"summary", "license", "license_file"},
    "extra": {"recipe-maintainers"},
}
"""What the first version of the recipe format has, as far as the recipe uses it: a misspelt key is not one of these."""


def in_conda(requirement: str) -> str:
    """`torch>=2.6` as conda writes it: `pytorch >=2.6`."""
    name, _, floor = requirement.partition(">=")
    return f"{OF_CONDA.get(name, name)} >={floor}"


def test_it_has_the_sections_of_the_format() -> None:
    assert set(RECIPE) == set(SECTIONS) and RECIPE["schema_version"] == 1
    for section, keys in SECTIONS.items():
        assert not keys or set(RECIPE[section]) == keys, section


def test_it_is_the_project() -> None:
    assert RECIPE["package"] == {"name": PROJECT["name"], "version": "${{ version }}"}
    assert RECIPE["context"]["version"] == PROJECT["version"]
    assert f">={RECIPE['context']['python_min']}" == PROJECT["requires-python"]
    points = [f"{name} = {target}" for name, target in PROJECT["scripts"].items()]
    assert RECIPE["build"]["noarch"] == "python" and RECIPE["build"]["python"]["entry_points"] == points
    about = RECIPE["about"]
    assert (about["summary"], about["license"]) == (PROJECT["description"], PROJECT["license"])
    assert [about["license_file"]] == PROJECT["license-files"] and (FILE.parent / RECIPE["source"]["path"]).is_dir()
    for module in RECIPE["tests"][0]["python"]["imports"]:
        import_module(module)


def test_its_dependencies_are_those_of_the_project() -> None:
    run, host = RECIPE["requirements"]["run"], RECIPE["requirements"]["host"]
    assert run == ["__linux", "python >=${{ python_min }}", *map(in_conda, PROJECT["dependencies"])]
    assert "Operating System :: POSIX :: Linux" in PROJECT["classifiers"]
    assert host == ["python ${{ python_min }}.*", "pip", *map(in_conda, PYPROJECT["build-system"]["requires"])]


def test_rattler_build_reads_it() -> None:
    rattler_build = pytest.importorskip("rattler_build")
    recipe = rattler_build.Stage0Recipe.from_yaml(FILE.read_text("utf-8"))
    (made,) = recipe.render(rattler_build.VariantConfig(), rattler_build.RenderConfig())
    needed = made.recipe.requirements.to_dict()
    assert needed["host"][0] == "python 3.11.*" and needed["run"][2:] == [*map(in_conda, PROJECT["dependencies"])]
