"""mfd: predict epigenomic tracks from DNA while telling biology from technique.

The names that a notebook needs are here, and are imported when they are first used; every verb is a plain function in the
module of its name (`from mfd_cli.train import train`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mfd_cli.core.predict import Predictor
    from mfd_cli.data.dataset import Dataset, open_dataset
    from mfd_cli.data.regions import read_intervals
    from mfd_cli.data.sequence import Genome
    from mfd_cli.data.variants import open_variants
    from mfd_cli.effects import Scorer
    from mfd_cli.errors import MfdError
    from mfd_cli.evaluate import bin_latents
    from mfd_cli.project import Project, load_project
    from mfd_cli.run_folder import Run, load_run
    from mfd_cli.score import score_variants

__version__ = "0.1.0"
__all__ = [
    "Dataset", "Genome", "MfdError", "Predictor", "Project", "Run", "Scorer", "bin_latents", "load_project", "load_run",
    "open_dataset", "open_variants", "read_intervals", "score_variants",
]  # fmt: skip

_HOME = {
    "Predictor": "core.predict", "Dataset": "data.dataset", "open_dataset": "data.dataset",
    "read_intervals": "data.regions", "Genome": "data.sequence", "open_variants": "data.variants", "Scorer": "effects",
    "bin_latents": "evaluate",
    "MfdError": "errors", "Project": "project", "load_project": "project", "Run": "run_folder", "load_run": "run_folder",
    "score_variants": "score",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
