"""`mfd info` and `mfd verify`: what a dataset or run folder holds, and whether it is what was written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mfd_cli.base.errors import DatasetError, MfdError, few
from mfd_cli.base.words import counted
from mfd_cli.runs.description import is_trunk

SHOWN_NAMES = 20
"""Names in a line, at most."""


def describe(folder: Path) -> dict[str, Any]:
    """Return what is in a dataset or run folder, as plain values. MfdError where it is neither."""
    if (folder / "manifest.json").is_file():
        return _describe_dataset(folder)
    if (folder / "model.json").is_file():
        return _describe_run(folder)
    begun = (folder / "last").is_dir()
    hint = "a training was begun here and has no model yet: mfd train --resume goes on with it" if begun else None
    raise MfdError("is neither a dataset (manifest.json) nor a run (model.json)", path=folder, hint=hint)


def verify(folder: Path) -> str:
    """Compare every file with its checksum and return a sentence if all is well.

    DatasetError or RunError, which names the file, where one is damaged.
    """
    kind = describe(folder)["what"]
    verify_dataset(folder) if kind == "dataset" else verify_run(folder)
    return f"{folder}: every file of the {kind} is as it was written"


def verify_dataset(folder: Path) -> None:
    """Read every file of a dataset; DatasetError where one is not what its manifest says."""
    from mfd_cli.dataset.folder import open_dataset
    from mfd_cli.dataset.manifest import SPLITS

    dataset = open_dataset(folder, verify=True)
    for split in SPLITS:
        dataset.split(split)
    if dataset.genome.digest() != dataset.manifest["genome_digest"]:
        raise DatasetError("is not the genome that manifest.json names", path=folder / "genome.arrow")


def verify_run(folder: Path) -> None:
    """Read the model of a run and the state that it would be resumed from; RunError where one is damaged."""
    from mfd_cli.runs.folder import load_last, load_run

    load_run(folder)
    load_last(folder)


def lines_of(description: Mapping[str, Any]) -> list[str]:
    """Return a description in words, one fact a line."""
    facts = facts_of(description)
    return [f"{description['what']}: {description['folder']}", *(f"  {what}: {text}" for what, text in facts.items())]


def facts_of(description: Mapping[str, Any]) -> dict[str, str]:
    """Return the facts of a description in words, what each is about -> what it says."""
    facts = {}
    for key, value in description.items():
        if key in ("what", "folder") or value == {}:  # such as the positives of peak tracks where there are none
            continue
        words = factor_words if key == "factors" else _short
        inner = (
            [f"{name} {words(each)}" for name, each in value.items()] if isinstance(value, dict) else [_short(value)]
        )
        facts[key.replace("_", " ")] = ", ".join(inner)
    return facts


def _short(value: Any) -> str:
    """A number with few digits, or with commas; the first of names; anything else as it is."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return few(value, SHOWN_NAMES)
    return str(value)


def _describe_dataset(folder: Path) -> dict[str, Any]:
    from mfd_cli.dataset.folder import open_dataset

    dataset = open_dataset(folder, verify=False)
    positives = sorted(track.positives for track in dataset.peak_tracks)
    spread = (
        {"minimum": positives[0], "median": positives[len(positives) // 2], "maximum": positives[-1]}
        if positives
        else {}
    )
    return {
        "what": "dataset",
        "folder": str(folder),
        "format_version": dataset.manifest["version"],
        "peak_tracks": len(dataset.peak_tracks),
        "signal_tracks": len(dataset.signal_tracks),
        "contigs": len(dataset.contigs),
        "genome_bp": sum(dataset.genome.lengths.values()),
        "bins": {name: split["bins"] for name, split in dataset.manifest["splits"].items()},
        "positive_training_bins_per_track": spread,
        "genome_digest": dataset.manifest["genome_digest"],
        "digest": dataset.digest,
    }


def _describe_run(folder: Path) -> dict[str, Any]:
    from mfd_cli.core.metadata import MetadataEncoder
    from mfd_cli.runs.folder import read_description
    from mfd_cli.settings.parse import parse_config

    stored = read_description(folder)
    sole_levels = MetadataEncoder.from_json(stored["metadata"]).sole_levels()
    about, model, config = stored["about"], stored["model"], parse_config(stored["configuration"])
    return {
        "what": "run",
        "folder": str(folder),
        "format_version": stored["version"],
        "head": model["head"],
        "backbone": f"{model['backbone']}, width {model['width']}, window {model['window']} bp, "
        f"{model['kmer']}-mer input, {model.get('filters') or 'no'} motif filters",
        "latent": {"all groups share": model["latent"]} if config.groups_share_latents else model["groups"],
        "factors": {
            name: {
                "type": factor["type"],
                "levels": len(factor["vocabulary"]) if "vocabulary" in factor else None,
                "only_level": sole_levels.get(name),
            }
            for name, factor in stored["metadata"].items()
        },
        "tracks": len(stored["tracks"]),
        "held_out_tracks": stored["trained"].count(False),
        "added_tracks": origin(about, "added_to") | added_names(stored),
        "trained_on": ", ".join(about["trained_on"]),
        "seed": stored["configuration"]["train"]["seed"],
        "windows": about["windows"],
        **({"finished": False} if about.get("unfinished") else {}),
        "started_from": origin(about, "source"),
        "validation": about["validation"],
        "genome_digest": about["genome_digest"],
        "dataset_digest": about["dataset_digest"],
        "weights_sha256": about["weights_sha256"],
    }


def added_names(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return how many tracks were added to a run after its training, and which; nothing where none was."""
    names = [track["id"] for track, added in zip(stored["tracks"], stored.get("added", ())) if added]
    return {"count": len(names), "names": names} if names else {}


def origin(about: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the path and the digest of the run or the trunk that a run was started from (`source`), or of the run beside whose
    tracks it has added others (`added_to`); nothing where there is none."""
    other = about.get(name)
    if other is None:
        return {}
    return {"trunk" if is_trunk(other) else "run": other["path"], "weights_sha256": other["weights_sha256"]}


def factor_words(factor: Mapping[str, Any]) -> str:
    """Return what a description says of a factor, in words."""
    if factor["only_level"] is not None:
        return f"has one level ({factor['only_level']}) and contributes nothing"
    return "a number" if factor["levels"] is None else counted(factor["levels"], "level")
