"""The folder truth/ of a planted project: every cause, its logit, and what each variant breaks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mfd_cli.formats.motif_files import write_meme
from mfd_cli.formats.tables import write_parquet, write_tsv
from mfd_cli.genome.grid import BIN
from mfd_cli.simulate import planted
from mfd_cli.simulate.world import World


def write_truth(
    folder: Path, world: World, table: Sequence[Mapping[str, Any]], variants: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Write truth/: causes, bins, tracks, motifs and variants. Return the ceiling of each track."""
    folder.mkdir()
    names = [str(row["File accession"]) for row in table[: len(world.tracks.rows)]]
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
        "options": world.options.stated(),
        "held_out_combinations": list(world.held_out),
        "ceiling_auroc": defined,
        **later_causes(world),
    }
    (folder / "causes.json").write_text(json.dumps(causes, indent=1, allow_nan=False) + "\n", "utf-8")
    write_true_bins(folder / "bins.parquet", world, names)
    write_parquet(folder / "tracks.parquet", true_tracks(world, table))
    # Not write_tsv: it would quote a lone - as a spreadsheet's formula.
    lines = ["\t".join(world.instances[0]), *("\t".join(map(str, row.values())) for row in world.instances)]
    (folder / "motifs.tsv").write_text("\n".join(lines) + "\n", "ascii")
    motifs = planted.planted_motifs(world.options.shared_letters)
    write_meme(folder / "motifs.meme", {name: motif.probabilities.T for name, motif in motifs.items()})
    write_tsv(folder / "variants.tsv", variants)
    return ceilings


def write_true_bins(path: Path, world: World, names: Sequence[str]) -> None:
    """Write a table of bins: contig, start (0-based), shared, and per track peak.ID, logit.ID, biological.ID and technical.ID.

    The parts are centred over the training tracks as in the model's decomposition, so for every track (bias: tracks.parquet)
    logit = bias + shared + biological + technical, plus joint.ID and residual.ID in a world that has them.
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
        *((name, part.astype(np.float32)) for name, part in centred.differing().items()),
    ):
        columns |= {f"{what}.{name}": np.ascontiguousarray(values[:, i]) for i, name in enumerate(names)}
    pq.write_table(pa.table(columns), path)


def true_tracks(world: World, table: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return per track its true levels, the target that the metadata table names, its signal file, its hidden batch.

    Where a world has them: what its batch adds to the logit per standard deviation of G+C, and its own weights.
    """
    tracks, hidden = len(world.tracks.rows), world.tracks.hidden
    signals = {row["Experiment accession"]: row["File accession"] for row in table[tracks:]}
    return [
        {
            "track": table_row["File accession"],
            "trained": bool(world.trained[i]),
            **row,
            "told_target": table_row["Experiment target"],
            "signal": signals.get(table_row["Experiment accession"], ""),
            "bias": float(world.bias[i]),
            "hidden_batch": bool(hidden is not None and hidden[i]),
            "prevalence": float(world.peaks[:, i].mean()),
            **later_columns(world, i),
        }
        for i, (row, table_row) in enumerate(zip(world.tracks.rows, table[:tracks]))
    ]


def later_columns(world: World, track: int) -> dict[str, float]:
    """Return the columns of a track that are there only where an option asks for them."""
    columns, tracks = dict[str, float](), world.tracks
    if world.options.batch != "none":
        columns["batch_slope"] = planted.batch_slope(tracks.rows[track]["batch"], world.options.batch_dose)
    if tracks.own is not None:
        columns |= {f"own.{name}": float(weight) for name, weight in zip(world.causes.names, tracks.own[track])}
    return columns


def later_causes(world: World) -> dict[str, Any]:
    """Return the causes that are there only where an option asks for them.

    partners: whose sites each target is bound at, by tissue. assay_signs: how a target's motif counts under each assay.
    letters: from which target's motif each assay's motif takes letters.
    """
    options, causes = world.options, dict[str, Any]()
    targets = planted.levels_in(world.tracks.rows, "target", planted.TARGETS)
    tissues = planted.levels_in(world.tracks.rows, "biosample", planted.TISSUES)
    if options.interaction:
        causes["partners"] = {t: {s: planted.partner(t, s, targets) for s in tissues} for t in targets}
    if options.technique_interaction:
        signs = planted.assay_signs(targets)
        causes["assay_signs"] = {t: {a: signs[t, a] for a in planted.ASSAYS} for t in targets}
    if options.shared_letters:
        causes["letters"] = planted.LETTERS
    return causes
