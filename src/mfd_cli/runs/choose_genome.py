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
    """The genome to score on, and a remark for the header: --fasta, else the dataset's, else the project's FASTA.

    Only --fasta may be another genome than the model's: GenomeError otherwise.
    """
    expected = run.about["genome_digest"]
    if fasta is not None:
        genome = read_fasta(fasta)
        found = genome.digest()
        genome = replace(genome, known_digest=found)
        return genome, "" if found == expected else f"another genome than the model's: {fasta.name}, sha256 {found}"
    try:
        manifest = read_manifest(project.dataset)
    except MfdError:
        manifest = {"genome_digest": None}  # no dataset here: the FASTA will do
    if manifest["genome_digest"] == expected:
        file = project.dataset / "genome.arrow"
        if not file.is_file() or sha256_of(file) != manifest["files"][file.name]["sha256"]:
            raise DatasetError(
                "is missing or damaged: its sha256 is not the one in manifest.json",
                path=file,
                hint="mfd preprocess --force makes the dataset again, --fasta FILE does without it",
            )
        return replace(read_genome(file), known_digest=expected), ""
    if project.config.data.fasta is None:
        raise GenomeError("there is no dataset here to take the genome from", hint="--fasta FILE")
    path = project.path(project.config.data.fasta)
    genome = read_fasta(path)
    if genome.digest() != expected:
        raise GenomeError(
            "is not the genome that the model was trained on", path=path, hint="--fasta FILE uses it anyway"
        )
    return genome, ""
