"""What `mfd info` and `mfd verify` say of a cohort, or of a run of mfd contig."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mfd_cli.contig.data import cohort_files
from mfd_cli.contig.data.cohort import open_cohort
from mfd_cli.contig.data.cohort_files import MANIFEST
from mfd_cli.contig.data.persons import SPLITS
from mfd_cli.contig.resume import START_ANEW
from mfd_cli.contig.run import FORMAT, State, load_run
from mfd_cli.engine.checkpoint import DESCRIPTION, load_last

SHOWN = 4096
"""Bytes at the beginning of a file that are looked at for the name of its format."""


def is_contig(folder: Path) -> bool:
    """Return whether a folder says that it is a cohort, or a run of mfd contig; what else it is, others find out."""
    return _is(folder / MANIFEST, cohort_files.FORMAT) or _is(folder / DESCRIPTION, FORMAT)


def _is(file: Path, name: str) -> bool:
    """Whether a JSON file names this format, which stands at its beginning."""
    try:
        with file.open("rb") as stream:
            return f'"format": "{name}"'.encode() in stream.read(SHOWN)
    except OSError:
        return False


def describe(folder: Path) -> dict[str, Any]:
    """Return what is in a cohort or a run, as plain values. CohortError or RunError where it is damaged."""
    if (folder / MANIFEST).is_file():
        cohort = open_cohort(folder, verify=False)
        summary = cohort.manifest["summary"]
        return {
            "what": "cohort",
            "path": str(folder),
            "persons": summary["persons"],
            "images": summary["images"],
            "picture side (px)": cohort.size,
            "variants": {name: len(one) for name, one in cohort.columns.items() if one.kind == "snps"},
            "other inputs": {name: len(one) for name, one in cohort.columns.items() if one.kind != "snps"},
            "digest": cohort.digest,
        }
    run = load_run(folder)
    slices = run.model.slices
    return {
        "what": "run of mfd contig",
        "path": str(folder),
        "objective": run.config.objective.kind,
        "control": run.control or "no",
        "features": run.model.features,
        **({"slices": {name: place.stop - place.start for name, place in slices.items()}} if len(slices) > 1 else {}),
        "variants": {name: count for name, count in run.inputs.items() if run.config.modalities[name].kind == "snps"},
        "other inputs": {name: n for name, n in run.inputs.items() if run.config.modalities[name].kind != "snps"},
        **({"labels": ", ".join(column.name for column in run.labels)} if run.labels else {}),
        "skill (nats)": run.about["skill"],
        "learned": run.learned,
        "finished": not run.about.get("unfinished"),
        "digest": run.digest,
    }


def lines_of(description: Mapping[str, Any]) -> list[str]:
    """Return a description in words, one fact a line."""
    lines = [f"{description['path']}: a {description['what']}"]
    for name, value in description.items():
        if name in ("what", "path") or value == {}:
            continue
        text = ", ".join(f"{count:,} {key}" for key, count in value.items()) if isinstance(value, dict) else str(value)
        if name == "skill (nats)":
            text = f"{value[0]:.3f} +- {value[1]:.3f}"
        if isinstance(value, bool):
            text = "yes" if value else "no"
        lines.append(f"  {name}: {text}")
    return lines


def verify(folder: Path) -> str:
    """Compare every file with its checksum and return a sentence if all is well. CohortError or RunError otherwise."""
    if (folder / MANIFEST).is_file():
        cohort = open_cohort(folder)
        for split in SPLITS:
            cohort.share(split)
        return f"{folder}: every file of the cohort is as it was written"
    load_run(folder)
    load_last(folder, State, START_ANEW)
    return f"{folder}: every file of the run is as it was written"
