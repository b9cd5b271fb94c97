"""Which genome a model is applied to: the one it was trained on, or another that is named.

The commands that score, predict and embed ask here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mfd_cli.base.errors import DatasetError, GenomeError, MfdError
from mfd_cli.base.files import sha256_of
from mfd_cli.dataset.folder import read_genome
from mfd_cli.dataset.manifest import read_manifest
from mfd_cli.formats.fasta import read_fasta
from mfd_cli.genome.sequence import Genome
from mfd_cli.runs.folder import Run
from mfd_cli.settings.project import Project


def choose_genome(project: Project, run: Run, fasta: Path | None) -> tuple[Genome, str]:
    """Return the genome to apply the model to, and a remark for the output's header, which may be empty.

    It is that of `fasta`, else the dataset's, else that of the project's FASTA. Only the first may be another genome than the
    one the model was trained on; the remark then says so. Its bases are hashed at most once: what is returned knows its digest.

    Raises GenomeError where there is no genome or a wrong one, DatasetError where the dataset's is damaged.
    """
    expected = run.about["genome_digest"]
    if fasta is not None:
        genome = hashed(read_fasta(fasta))
        if genome.digest() == expected:
            return genome, ""
        return genome, f"another genome than the model's: {fasta.name}, sha256 {genome.digest()}"
    if digest_of_dataset(project.dataset) == expected:
        return genome_of_dataset(project.dataset), ""
    if project.config.data.fasta is None:
        raise GenomeError("there is no dataset here to take the genome from", hint="--fasta FILE")
    path = project.path(project.config.data.fasta)
    genome = hashed(read_fasta(path))
    if genome.digest() != expected:
        raise GenomeError(
            "is not the genome that the model was trained on", path=path, hint="--fasta FILE uses it anyway"
        )
    return genome, ""


def hashed(genome: Genome) -> Genome:
    """Return the genome with its digest, which takes seconds for a mammal and is asked for in several places."""
    return replace(genome, known_digest=genome.digest())


def digest_of_dataset(folder: Path) -> str | None:
    """Return the digest of a dataset's genome as its manifest has it; None where there is no readable dataset."""
    try:
        return str(read_manifest(folder)["genome_digest"])
    except MfdError:
        return None


def genome_of_dataset(folder: Path) -> Genome:
    """Read the genome of a dataset whose file is as it was written; DatasetError otherwise."""
    manifest, file = read_manifest(folder), folder / "genome.arrow"
    if not file.is_file() or sha256_of(file) != manifest["files"][file.name]["sha256"]:
        raise DatasetError(
            "is missing or damaged: its sha256 is not the one in manifest.json",
            path=file,
            hint="mfd preprocess --force makes the dataset again, --fasta FILE does without it",
        )
    return replace(read_genome(file), known_digest=str(manifest["genome_digest"]))
