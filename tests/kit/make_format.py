"""Make tests/fixtures/format-2: the folders of today's format version, which later versions of mfd are to open or to refuse.

    python tests/kit/make_format.py

Made once for each version of the dataset or run folder; the folders of earlier versions stay as they are.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from kit.harm import good_project, in_process
from kit.places import FIXTURES
from mfd_cli.core.predictor import Predictor
from mfd_cli.dataset.folder import open_dataset
from mfd_cli.runs.at_work import bin_latents
from mfd_cli.runs.folder import load_run

TARGET = FIXTURES / "format-2"


def main() -> None:
    """Preprocess and train the good project; keep both folders, and what the model says of some bins."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "p"
        good_project(folder)
        for words in (("preprocess", "-q", "--threads", "1"), ("train", "-q", "--gpus", "0", "--threads", "1")):
            done = in_process(words, folder)
            assert done.code == 0, done.told
        shutil.rmtree(TARGET, ignore_errors=True)
        for part in ("dataset", "run"):
            shutil.copytree(folder / part, TARGET / part)
    dataset, run = open_dataset(TARGET / "dataset"), load_run(TARGET / "run")
    latents = bin_latents(run, dataset, dataset.split("test"))[::40]
    logits = Predictor(run.model).head.logits(latents)
    numbers = {"latents": latents.tolist(), "logits": logits.tolist()}
    (TARGET / "numbers.json").write_text(json.dumps(numbers) + "\n", "utf-8")


if __name__ == "__main__":
    main()
