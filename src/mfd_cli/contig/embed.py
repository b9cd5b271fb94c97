"""`mfd contig embed`: the features of images or persons as a table, for other work.

features.parquet    person, image, eye, split, biological.0 ..., technical.0 ... (float32); with projections z.NAME.0 ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from mfd_cli.base.arrays import Ints
from mfd_cli.base.files import check_output, whole_file
from mfd_cli.base.notebook import Told
from mfd_cli.base.progress import Progress
from mfd_cli.contig.data.cohort import Cohort
from mfd_cli.contig.data.persons import SPLITS
from mfd_cli.contig.genetic_side import check_genetic
from mfd_cli.contig.run import ContigRun
from mfd_cli.contig.seen import SeenSplit, part_of, see
from mfd_cli.settings.names import ALL, BIOLOGICAL


@dataclass(frozen=True, repr=False)
class EmbedReport(Told):
    """What was written."""

    output: Path
    rows: int
    features: int
    by: str

    def lines(self) -> list[str]:
        """Return a line for a person."""
        return [f"wrote {self.output}: {self.rows:,} {self.by}s, {self.features} features each"]


def embed(
    run: ContigRun,
    cohort: Cohort,
    output: Path,
    *,
    splits: Sequence[str] = SPLITS,
    by: str = "image",
    projections: bool = False,
    part: str = BIOLOGICAL,
    device: torch.device | str = "cpu",
    force: bool = False,
    progress: Progress | None = None,
) -> EmbedReport:
    """Write the features of a cohort's images, or their means per person, to a Parquet file.

    `part` is the slice of the features, or all of them. Raises OutputError where a file is in the way, ConfigError where the
    cohort is not the run's, the run has no such slice, or projections are asked of a run without a genetic side.
    """
    if projections:
        check_genetic(run, "project")
    check_output(output, force)
    chosen = {part: part_of(run, part)} if part != ALL else run.model.slices
    device = torch.device(device)
    tables = [
        _table(run, see(run, cohort, split, device, progress), by, projections, chosen, device) for split in splits
    ]
    table = pa.concat_tables(tables)
    about = {
        b"run": run.digest.encode(),
        b"cohort": cohort.digest.encode(),
        b"learned": str(run.learned).lower().encode(),
    }
    with whole_file(output) as temporary:
        pq.write_table(table.replace_schema_metadata(about), temporary)
        temporary.chmod(0o600)
    return EmbedReport(output, len(table), sum(place.stop - place.start for place in chosen.values()), by)


@torch.no_grad()
def _table(
    run: ContigRun, seen: SeenSplit, by: str, projections: bool, chosen: Mapping[str, slice], device: torch.device
) -> pa.Table:
    """The rows of a split, with the chosen slices of the features."""
    share, names = seen.share, seen.persons()
    whole = by == "person"
    features = seen.of_persons().astype(np.float32) if whole else seen.features
    owner: Ints = np.arange(len(names)) if whole else share.images.owner
    columns: dict[str, pa.Array] = {"person": pa.array([names[place] for place in owner.tolist()], pa.string())}
    if not whole:
        columns["image"] = pa.array(share.images.name, pa.string())
        columns["eye"] = pa.array(share.images.eye, pa.string())
    columns["split"] = pa.array([seen.split] * len(owner), pa.string())
    for name, place in chosen.items():
        own = features[:, place]
        columns |= {f"{name}.{number}": pa.array(own[:, number]) for number in range(own.shape[1])}
    if projections:
        for name in run.inputs:
            z = run.model.image_projection(name, torch.from_numpy(features).to(device)).cpu().numpy()
            columns |= {f"z.{name}.{number}": pa.array(z[:, number]) for number in range(z.shape[1])}
    return pa.table(columns)
