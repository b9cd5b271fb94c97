"""The files that hold what drives a direction. What is written for each:

regions.tsv                 the regions shown, and whether contributions add up (integrated gradients)
attributions.arrow          region x direction: hypothetical contributions (4, window), channel-major
NAME.bw, modisco/NAME.*     actual contributions as bigWig; a pair that modisco-lite reads
motifs.tsv, motifs.meme     the motifs of each direction, and the known ones that they match
fingerprint.tsv             which 4-mers, G+C, CpG (and given profiles) each direction's score goes with
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mfd_cli.base.files import names_of_files
from mfd_cli.core.motif_match import Match
from mfd_cli.core.seqlets import FoundMotif
from mfd_cli.dataset.folder import Dataset
from mfd_cli.explain.results import OnDna
from mfd_cli.formats.bigwig_writer import write_bigwig
from mfd_cli.formats.motif_files import write_meme
from mfd_cli.formats.tables import write_attributions, write_tsv
from mfd_cli.genome.grid import BIN
from mfd_cli.runs.folder import Run

REGION_COLUMNS = ("level", "contig", "start", "end", "score", "sum_of_contributions", "convergence_error")
MOTIF_COLUMNS = (
    "level", "motif", "found_by", "sequence", "stretches", "of", "enrichment", "known_motif", "known_strand", "known_start",
    "bits", "e_value",
)  # fmt: skip


def write_on_dna(
    folder: Path,
    shown: Sequence[OnDna],
    fingerprint: Sequence[Mapping[str, Any]],
    subject: str,
    run: Run,
    dataset: Dataset,
) -> None:
    """Write all of these files into a folder."""
    stems = dict(zip((one.name for one in shown), names_of_files([one.name for one in shown])))
    write_tsv(folder / "fingerprint.tsv", fingerprint)
    write_attributions(folder / "attributions.arrow", shown, subject)
    (folder / "modisco").mkdir()
    for one in shown:
        codes = np.stack([region.codes for region in one.regions])
        onehot = (codes[:, None] == np.arange(4)[None, :, None]).astype(np.int8)
        np.savez(folder / "modisco" / f"{stems[one.name]}.sequences.npz", onehot)
        np.savez(folder / "modisco" / f"{stems[one.name]}.attributions.npz", one.hypothetical)
        write_contributions(folder / f"{stems[one.name]}.bw", one, run, dataset)
    write_tsv(folder / "regions.tsv", region_rows(shown), REGION_COLUMNS)
    rows, matrices = list[dict[str, Any]](), {}
    for one in shown:
        for number, (motif, match) in enumerate(zip(one.motifs, one.matches)):
            name = stems[one.name] if number == 0 else f"{stems[one.name]}.{number}"
            matrices[name] = motif.frequency
            rows.append({"level": one.name, "motif": name, **motif_row(motif, match)})
    write_tsv(folder / "motifs.tsv", rows, MOTIF_COLUMNS)
    write_meme(folder / "motifs.meme", matrices)


def write_contributions(path: Path, one: OnDna, run: Run, dataset: Dataset) -> None:
    """Write the contributions as a bigWig. A base that several windows hold has its value of its own bin, else of the first
    (see `own_positions`)."""
    left = run.model.left
    of_bins = [(r.contig, r.start, one.contributions[i, left : left + BIN]) for i, r in enumerate(one.regions)]
    of_windows = [(r.contig, r.start - left, one.contributions[i]) for i, r in enumerate(one.regions)]
    write_bigwig(path, dataset.genome.lengths, of_bins + of_windows)


def region_rows(shown: Sequence[OnDna]) -> list[dict[str, Any]]:
    """Return the regions of every direction as rows of regions.tsv; start and end are those of the bin, 0-based."""
    return [
        {
            "level": one.name,
            "contig": region.contig,
            "start": region.start,
            "end": region.end,
            "score": region.score,
            "sum_of_contributions": float(one.contributions[i].sum()),
            "convergence_error": float(one.error[i]),
        }
        for one in shown
        for i, region in enumerate(one.regions)
    ]


def motif_row(motif: FoundMotif, match: Match | None) -> dict[str, Any]:
    """Return the columns of motifs.tsv but the names."""
    return {
        "found_by": motif.found_by,
        "sequence": motif.sequence,
        "stretches": motif.count,
        "of": motif.total,
        "enrichment": float(motif.enrichment),
        "known_motif": match and match.name,
        "known_strand": match and ("forward" if match.strand == "+" else "reverse"),
        "known_start": match and match.start,
        "bits": match and match.bits,
        "e_value": match and match.e_value,
    }


def motif_rows(shown: Sequence[OnDna]) -> list[dict[str, Any]]:
    """Return the motifs of every direction, with the known ones that they match, as rows of a table."""
    return [
        {"level": one.name, **motif_row(motif, match)} for one in shown for motif, match in zip(one.motifs, one.matches)
    ]
