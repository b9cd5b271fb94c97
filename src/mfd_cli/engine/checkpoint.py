"""What every run folder has: a description and weights that agree, and a state to go on from. No pickle is written or read.

run/model.safetensors   best weights
    model.json          what they are, with the digest of the weights
    metrics.jsonl       one line per validation (engine/curve.py)
    last/               everything needed to resume exactly: state.safetensors and state.json
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mfd_cli.base.errors import OutputError, RunError, few
from mfd_cli.base.files import sha256_of, whole_files
from mfd_cli.base.locks import claim, orphans, tidy_inside
from mfd_cli.base.stored_json import Stored, read_stored, write_stored
from mfd_cli.engine.store import load_tensors, save_tensors

WEIGHTS, DESCRIPTION, METRICS, LAST = "model.safetensors", "model.json", "metrics.jsonl", "last"
STATE = "state.json"
"""In the folder LAST: the description of the state to resume from."""
TURNS = 20
"""How often a reader looks again for weights that are being replaced, a tenth of a second apart."""

Read = Callable[[Path], dict[str, Any]]
"""What reads the description of a run folder, checked; RunError where there is none."""


def publish_model(path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write model.json, whose entry `about` gets the digest of the weights, and model.safetensors.

    Both are complete before either gets its name; where a kill comes between the two renames, `finish_publishing` goes on.
    """
    path.mkdir(parents=True, exist_ok=True)
    with whole_files(path / DESCRIPTION, path / WEIGHTS) as (described, weights):
        save_tensors(weights, tensors)
        about = {**description["about"], "weights_sha256": sha256_of(weights)}
        write_stored(described, {**description, "about": about})


def agreeing(path: Path, read: Read, hint: str) -> tuple[dict[str, Any], Path]:
    """Return model.json and the path of the weights that it names; RunError with `hint` where they do not agree.

    A training that goes on replaces the two one after the other: a reader that comes between waits for the second.
    """
    weights = path / WEIGHTS
    for turn in range(TURNS):
        stored = read(path)
        if weights.is_file() and sha256_of(weights) == stored["about"]["weights_sha256"]:
            return stored, weights
        if not list(path.glob(f".{WEIGHTS}.tmp-*")) or turn == TURNS - 1:
            break
        time.sleep(0.1)
    problem = "is damaged: its sha256 is not the one in model.json" if weights.is_file() else "is missing"
    raise RunError(problem, path=weights, hint=hint)


def finish_publishing(path: Path, read: Read) -> None:
    """Give new weights their name where their description has its already: a kill came between the two."""
    if not (path / DESCRIPTION).is_file():
        return
    waiting = [
        folder / WEIGHTS for folder, name, _ in orphans(path) if name == WEIGHTS and (folder / WEIGHTS).is_file()
    ]
    wanted = read(path)["about"]["weights_sha256"] if waiting else ""
    for file in waiting:
        if sha256_of(file) == wanted:
            file.replace(path / WEIGHTS)


def runs_of_seeds(path: Path) -> list[Path]:
    """Return the run folders of several seeds (`seed-N`) inside a folder, in the order of the seeds."""
    seeds = [folder for folder in path.glob("seed-*") if (folder / DESCRIPTION).is_file()]
    return sorted(seeds, key=lambda folder: (len(folder.name), folder.name))


def save_last(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write the state to resume from. The description is written last and names the digest of its tensors.

    Tensors carry the step in their file name, so that a kill between the two writes leaves the older pair intact; also at
    step 0, where the older pair may be the first one of a run that is replaced (`state-00`).
    """
    folder = path / LAST
    file = folder / f"state-{state['step']}.safetensors"
    if state["step"] == 0 and file.name in _text_of(folder / STATE):
        file = folder / "state-00.safetensors"
    save_tensors(file, tensors)
    write_stored(folder / STATE, {**state, "file": file.name, "sha256": sha256_of(file)})
    for old in folder.glob("state-*.safetensors"):
        if old != file:
            old.unlink()


def _text_of(file: Path) -> str:
    """The text of a file that may be missing or damaged."""
    try:
        return file.read_text("utf-8", errors="replace")
    except OSError:
        return ""


def load_last(path: Path, schema: type[Stored], hint: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read what `save_last` wrote: tensors and state.json, which must be as `schema` says; None where nothing can be resumed.
    RunError with `hint` where it is damaged."""
    description = path / LAST / STATE
    if not description.exists():
        return None
    state = read_stored(description, schema, RunError, hint)
    file = path / LAST / state["file"]
    if not file.is_file():
        raise RunError("is missing", path=file, hint=hint)
    if sha256_of(file) != state["sha256"]:
        raise RunError("is damaged: its sha256 is not the one in state.json", path=file, hint=hint)
    return load_tensors(file, hint), state


# -- before a training writes into a folder ------------------------------------------------------------------------------


def hold_run(folder: Path, read: Read) -> None:
    """Hold the run folder's name, and finish or remove what a killed training left half done in it."""
    claim(folder)
    finish_publishing(folder, read)
    tidy_inside(folder)
    tidy_inside(folder / LAST)


def check_run(folder: Path, force: bool, resume: bool = False) -> None:
    """Raise OutputError where there is a run already and `force` is not set, or where runs of several seeds are.

    What a training left that was killed before its first state was whole is no run: `resume` begins again.
    """
    model = (folder / DESCRIPTION).exists() or (folder / WEIGHTS).exists()
    if seeds := runs_of_seeds(folder):
        raise OutputError(
            f"holds runs of several seeds ({few([run.name for run in seeds])}), which a run beside them would hide",
            path=folder,
            hint="--run FOLDER trains into another folder",
        )
    ours = (DESCRIPTION, LAST, METRICS, WEIGHTS)
    if not force and any((folder / name).exists() for name in ours) and (model or not resume):
        if resume:
            message = "holds a run already, and no state (last/state.json) to resume it from"
            raise OutputError(message, path=folder, hint="--force starts anew")
        raise OutputError("holds a run already", path=folder, hint="--resume goes on with it, --force replaces it")


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
