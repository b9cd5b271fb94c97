"""mfd: predict epigenomic tracks from DNA while telling biology from technique.

The names that a notebook needs are here, and are imported when they are first used; every verb is a plain function in the
room of its kind (`from mfd_cli.training.train import train`); docs/extending.md has the map of the rooms.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mfd_cli.base.errors import MfdError
    from mfd_cli.core.predictor import Predictor
    from mfd_cli.dataset.folder import Dataset, open_dataset
    from mfd_cli.formats.bed import read_intervals
    from mfd_cli.formats.vcf_reader import open_variants
    from mfd_cli.genome.alleles import Variant
    from mfd_cli.genome.sequence import Genome
    from mfd_cli.runs.at_work import bin_latents
    from mfd_cli.runs.folder import Run, load_run
    from mfd_cli.settings.project import Project, load_project
    from mfd_cli.variants.effects import ScoreSettings
    from mfd_cli.variants.options import ScoreOptions
    from mfd_cli.variants.score import score_variants
    from mfd_cli.variants.scorer import Scorer

__version__ = "0.1.0"
__all__ = [
    "Dataset", "Genome", "MfdError", "Predictor", "Project", "Run", "ScoreOptions", "ScoreSettings", "Scorer", "Variant",
    "bin_latents", "load_project", "load_run", "open_dataset", "open_variants", "read_intervals", "score_variants",
]  # fmt: skip

_HOME = {
    "MfdError": "base.errors",
    "Predictor": "core.predictor",
    "Dataset": "dataset.folder",
    "open_dataset": "dataset.folder",
    "read_intervals": "formats.bed",
    "open_variants": "formats.vcf_reader",
    "Genome": "genome.sequence",
    "Variant": "genome.alleles",
    "bin_latents": "runs.at_work",
    "Run": "runs.folder",
    "load_run": "runs.folder",
    "Project": "settings.project",
    "load_project": "settings.project",
    "ScoreOptions": "variants.options",
    "ScoreSettings": "variants.effects",
    "Scorer": "variants.scorer",
    "score_variants": "variants.score",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
