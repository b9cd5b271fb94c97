"""From planted pictures to a Manhattan plot: `python examples/demo_contig.py FOLDER`, which `make demo-contig` runs.

It calls the commands as a user would, then shows the model, its controls and the planted truth side by side.
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path


def contig(*words: str, folder: Path | None = None, told: bool = True) -> str:
    """Run one command of mfd contig, showing it first, and return what it printed; stop where it fails."""
    print(f"\n$ mfd contig {' '.join(words)}", flush=True)
    started = time.monotonic()
    done = subprocess.run(["mfd", "contig", *words], cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    if told:
        print(done.stdout, end="")
    print(f"  ({time.monotonic() - started:.0f} s)", flush=True)
    return done.stdout


def main() -> None:
    """Simulate, prepare, train with controls, retrieve, explain, test; then the truth beside it."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-contig")
    if folder.exists():
        if not (folder / "truth").is_dir():
            sys.exit(f"{folder} exists and is not a simulated project: name another folder")
        shutil.rmtree(folder)
    started = time.monotonic()
    contig("simulate", str(folder), "--size", "small")
    contig("prepare", folder=folder)
    contig("train", "--controls", "random,shuffled", folder=folder)
    contig("retrieve", folder=folder)
    contig("explain", folder=folder)
    write_causal_blocks(folder)
    tested = json.loads(contig("gwas", "--bed", "causal.bed", "--json", folder=folder, told=False))
    print("\nThe planted truth, and what was found")
    print(f"  {'run':10} {'loci':>6} {'mean chi-square at the six planted blocks':>44}")
    for row in tested["beside"]:
        print(f"  {row['run']:10} {row['loci']:>6} {row['chi_square']:>44.0f}")
    found = {row["variant"] for row in tested["loci"]}
    planted = causal(folder)
    print(f"  planted causal SNPs: {', '.join(planted)}")
    print(f"  of these the strongest of a locus: {', '.join(name for name in planted if name in found) or 'none'}")
    print("\nLook at")
    for what, where in (
        ("the page of the associations", "gwas/report.html"),
        ("the Manhattan plot", "gwas/manhattan.png"),
        ("which variants fit a person's picture", "explain/contig/attribution.png"),
        ("how well persons are found", "retrieve/ranks.png"),
    ):
        print(f"  {what}: {folder / where}")
    print(f"\n{time.monotonic() - started:.0f} s in all")


def causal(folder: Path) -> list[str]:
    """Return the names of the planted causal SNPs."""
    with (folder / "truth" / "causal.tsv").open() as file:
        return [row["variant"] for row in csv.DictReader(file, delimiter="\t")]


def write_causal_blocks(folder: Path) -> None:
    """Write the blocks of the causal SNPs as BED: where the model and its controls are compared."""
    with (folder / "truth" / "causal.tsv").open() as file:
        rows = [(row["chromosome"], int(row["position"])) for row in csv.DictReader(file, delimiter="\t")]
    lines = [f"{chromosome}\t{position - 10_001}\t{position + 10_000}\n" for chromosome, position in rows]
    (folder / "causal.bed").write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    main()
