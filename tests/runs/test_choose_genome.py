"""The genome that a model is applied to: which one, and hashed once however many ask for its digest."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kit import harm
from mfd_cli.genome.sequence import Genome

CPU = ("--gpus", "0", "--threads", "1", "-q")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("genome") / "project"
    harm.trained_project(folder)
    return folder


def hashed(words: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a command hashes a genome: the file that holds it, by name, or its bases ("bases")."""
    counts: Counter[str] = Counter()
    file_digest, digest = hashlib.file_digest, Genome.digest

    def of_file(file: Any, *rest: Any) -> Any:
        counts[Path(file.name).name] += 1
        return file_digest(file, *rest)

    def of_genome(genome: Genome) -> str:
        counts["bases"] += not genome.known_digest
        return digest(genome)

    monkeypatch.setattr(hashlib, "file_digest", of_file)
    monkeypatch.setattr(Genome, "digest", of_genome)
    done = harm.in_process([*words, *CPU, "--force"], folder)
    assert done.code == 0, done.told
    return counts


COMMANDS = [
    ("score-variants", "input.vcf", "-o", "scored.vcf.gz"),
    ("background", "-n", "100"),
    ("predict", "-r", "chr2", "--no-bigwig", "-o", "predicted"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_the_genome_of_the_dataset_is_hashed_once(
    words: tuple[str, ...], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = hashed(words, project, monkeypatch)
    assert counts["genome.arrow"] == 1 and counts["bases"] == 0


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_the_projects_fasta_is_hashed_once(
    words: tuple[str, ...], project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(project, tmp_path / "project", ignore=shutil.ignore_patterns("dataset"))
    counts = hashed(words, folder, monkeypatch)
    assert counts["bases"] == 1 and counts["genome.arrow"] == counts["genome.fa"] == 0


@pytest.mark.parametrize(
    "words", [("evaluate", "-o", "figures"), ("train", "--epochs", "1")], ids=lambda words: words[0]
)
def test_a_dataset_is_hashed_once(words: tuple[str, ...], project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = hashed(words, project, monkeypatch)
    assert counts["genome.arrow"] == 1 and counts["bases"] == 0
