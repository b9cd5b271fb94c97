"""Where models and a genome lie, for workers that open them by themselves: small, and the same wherever it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy
import torch

from mfd_cli import __version__
from mfd_cli.base.errors import GenomeError, RunError
from mfd_cli.dataset.folder import Dataset, read_genome
from mfd_cli.formats.fasta import read_fasta
from mfd_cli.genome.sequence import Genome
from mfd_cli.runs.folder import Run, load_run


@dataclass(frozen=True)
class Sources:
    """Run folders and the file of a genome, with the digests of what is in them.

    `threads` are torch's in each worker: sums of floats depend on how they are shared out.
    """

    runs: tuple[Path, ...]
    run_digests: tuple[str, ...]
    genome: Path
    genome_digest: str
    threads: int

    @classmethod
    def of(cls, runs: Run | Sequence[Run], genome: Genome) -> Sources:
        """Return where these models and this genome were read from."""
        runs = [runs] if isinstance(runs, Run) else runs
        return cls(
            tuple(run.path.absolute() for run in runs),
            tuple(run.digest for run in runs),
            Path(genome.source).absolute(),
            genome.digest(),
            torch.get_num_threads(),
        )

    @classmethod
    def of_dataset(cls, runs: Run | Sequence[Run], dataset: Dataset) -> Sources:
        """Return where these models and the genome of an open dataset were read from; its bases are not hashed again."""
        return cls.of(runs, replace(dataset.genome, known_digest=str(dataset.manifest["genome_digest"])))

    def plan(self, device: torch.device | str, **settings: Any) -> dict[str, Any]:
        """Return what parts depend on that are made with these models on a kind of device: plain values, by name."""
        return {
            "version of mfd": __version__,
            "version of torch": torch.__version__,
            "version of numpy": numpy.__version__,
            "model": list(self.run_digests),
            "genome": self.genome_digest,
            "kind of device": torch.device(device).type,
            "number of threads": self.threads,
            **settings,
        }

    def open(self) -> tuple[list[Run], Genome]:
        """Open the models and the genome, as a worker. RunError or GenomeError where they are no longer what they were."""
        torch.set_num_threads(self.threads)
        runs = [load_run(path) for path in self.runs]
        for run, digest in zip(runs, self.run_digests):
            if run.digest != digest:
                raise RunError("holds another model than when the work began", path=run.path)
        genome = read_genome(self.genome) if self.genome.suffix == ".arrow" else read_fasta(self.genome)
        if genome.digest() != self.genome_digest:
            raise GenomeError("holds another genome than when the work began", path=self.genome)
        return runs, replace(genome, known_digest=self.genome_digest)
