"""The folder truth/ of a planted project: every cause, its logit, and what each variant breaks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mfd_cli.formats.motif_files import write_meme
from mfd_cli.formats.tables import write_parquet, write_tsv
from mfd_cli.genome.grid import BIN
from mfd_cli.simulate import planted
from mfd_cli.simulate.built_in_motifs import built_in
from mfd_cli.simulate.world import World


def write_truth(
    folder: Path, world: World, table: Sequence[Mapping[str, Any]], variants: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Write truth/: causes, bins, tracks, motifs and variants. Return the ceiling of each track."""
    folder.mkdir()
    names = [str(row["File accession"]) for row in table[: len(world.rows)]]
    ceilings = dict(zip(names, world.ceiling()))
    defined = {name: None if np.isnan(value) else value for name, value in ceilings.items()}
    causes = {
        "effects": planted.EFFECTS,
        "targets": planted.TARGETS,
        "tissues": planted.TISSUES,
        "assays": planted.ASSAYS,
        "labs": planted.LABS,
        "years": planted.YEARS,
        "shared": planted.SHARED,
        "options": asdict(world.options),
        "held_out_combinations": list(world.held_out),
        "ceiling_auroc": defined,
    }
    (folder / "causes.json").write_text(json.dumps(causes, indent=1, allow_nan=False) + "\n", "utf-8")
    write_true_bins(folder / "bins.parquet", world, names)
    write_parquet(folder / "tracks.parquet", true_tracks(world, table))
    # Not write_tsv: it would quote a lone - as a spreadsheet's formula.
    lines = ["\t".join(world.instances[0]), *("\t".join(map(str, row.values())) for row in world.instances)]
    (folder / "motifs.tsv").write_text("\n".join(lines) + "\n", "ascii")
    write_meme(folder / "motifs.meme", {name: motif.probabilities.T for name, motif in built_in().items()})
    write_tsv(folder / "variants.tsv", variants)
    return ceilings


def write_true_bins(path: Path, world: World, names: Sequence[str]) -> None:
    """Write a table of bins: contig, start (0-based), shared, and per track peak.ID, logit.ID, biological.ID and technical.ID.

    The parts are centred over the training tracks as in the model's decomposition, so for every track (bias: tracks.parquet)
    logit = bias + shared + biological + technical.
    """
    counts = [len(codes) // BIN for codes in world.genome.values()]
    centred = world.parts.centred(world.trained)
    columns: dict[str, Any] = {
        "contig": np.repeat(list(world.genome), counts),
        "start": np.concatenate([np.arange(count) * BIN for count in counts]),
        "shared": centred.shared[:, 0].astype(np.float32),
    }
    for what, values in (
        ("peak", world.peaks),
        ("logit", world.logits.astype(np.float32)),
        ("biological", centred.biological.astype(np.float32)),
        ("technical", centred.technical.astype(np.float32)),
    ):
        columns |= {f"{what}.{name}": np.ascontiguousarray(values[:, i]) for i, name in enumerate(names)}
    pq.write_table(pa.table(columns), path)


def true_tracks(world: World, table: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return per track its true levels, the target that the metadata table names, its signal file, its hidden batch."""
    tracks = len(world.rows)
    signals = {row["Experiment accession"]: row["File accession"] for row in table[tracks:]}
    return [
        {
            "track": table_row["File accession"],
            "trained": bool(world.trained[i]),
            **row,
            "told_target": table_row["Experiment target"],
            "signal": signals.get(table_row["Experiment accession"], ""),
            "bias": float(world.bias[i]),
            "hidden_batch": bool(world.hidden is not None and world.hidden[i]),
            "prevalence": float(world.peaks[:, i].mean()),
        }
        for i, (row, table_row) in enumerate(zip(world.rows, table[:tracks]))
    ]
