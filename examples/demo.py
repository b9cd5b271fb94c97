"""The whole story on planted data: `python examples/demo.py FOLDER` (what `make demo` runs).

It calls the commands as a user would, then compares what the model found with the planted truth.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq


def mfd(*words: str, folder: Path | None = None) -> None:
    """Run one mfd command, showing it first; stop where it fails."""
    print(f"\n$ mfd {' '.join(words)}", flush=True)
    started = time.monotonic()
    subprocess.run(["mfd", *words], cwd=folder, check=True)
    print(f"  ({time.monotonic() - started:.0f} s)", flush=True)


def main() -> None:
    """Simulate, preprocess, train, evaluate, score, explain; then the truth beside it."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    if folder.exists():
        if not (folder / "truth").is_dir():
            sys.exit(f"{folder} exists and is not a simulated project: name another folder")
        shutil.rmtree(folder)
    started = time.monotonic()
    mfd("simulate", str(folder), "--size", "small")
    mfd("check-design", folder=folder)
    mfd("preprocess", folder=folder)
    mfd("train", folder=folder)
    mfd("evaluate", folder=folder)
    mfd("score-variants", "input.vcf", folder=folder)
    mfd("explain", "--factor", "assay", folder=folder)
    mfd("explain", "--factor", "target", folder=folder)
    print("\nThe planted truth, and what the model found")
    for line in [*compare_tracks(folder), *compare_variants(folder)]:
        print(f"  {line}")
    print("\nLook at")
    for what, where in (
        ("the scored VCF", "input.mfd.vcf.gz"), ("its table", "input.mfd.parquet"),
        ("tracks and levels", "run/evaluation-test/tracks.tsv"), ("the report on assays", "explain/assay/report.html"),
        ("the report on targets", "explain/target/report.html"), ("the truth", "truth/"),
    ):  # fmt: skip
        print(f"  {what + ':':<24}{folder / where}")
    print(f"\nThe demo took {(time.monotonic() - started) / 60:.1f} minutes.")


def compare_tracks(folder: Path) -> list[str]:
    """AUROC of the model beside that of the true logits, which no model can beat but by luck."""
    found = pq.read_table(folder / "run/evaluation-test/tracks.parquet").to_pylist()
    truth = json.loads((folder / "truth/causes.json").read_text())["ceiling_auroc"]
    rated = [(row["auroc"], truth[row["track"]]) for row in found if row["track"] in truth]
    model, ceiling = np.mean(rated, 0)
    return [f"AUROC on the test contigs, mean of {len(rated)} tracks: model {model:.3f}, true logits {ceiling:.3f}"]


def compare_variants(folder: Path) -> list[str]:
    """Whether the scores tell variants of biological motifs from those of technical ones, and from those of nothing."""
    from sklearn.metrics import roc_auc_score

    scores = pq.read_table(folder / "input.mfd.parquet").to_pylist()
    with (folder / "truth/variants.tsv").open() as file:
        names = file.readline().rstrip("\n").split("\t")
        rows = [dict(zip(names, line.rstrip("\n").split("\t"))) for line in file]
    kind = {(row["chrom"], row["pos"], row["ref"], row["alt"]): row["kind"] for row in rows}
    kinds = np.array([kind.get((s["contig"], str(s["position"]), s["ref"], s["alt"]), "") for s in scores])
    bio, tech = (np.array([s[name] for s in scores], float) for name in ("MFD_BIO", "MFD_TECH"))
    size = np.abs([s["MFD_MAX_DLOGIT"] for s in scores])
    shared = np.abs([s["MFD_SHARED"] for s in scores])
    both = np.isin(kinds, ["biological", "technical"])
    lines = [f"{len(scores)} alleles scored"]
    lines.append(
        "telling biological from technical motif variants by MFD_BIO / MFD_TECH: AUROC "
        f"{roc_auc_score(kinds[both] == 'biological', (np.log(bio + 1e-9) - np.log(tech + 1e-9))[both]):.3f}"
    )
    some = kinds != ""
    hit = np.isin(kinds, ["biological", "technical", "shared"])
    lines.append(f"telling variants that break a motif from those that do not, by |MFD_MAX_DLOGIT|: AUROC "
                 f"{roc_auc_score(hit[some], size[some]):.3f}")  # fmt: skip
    if (kinds == "shared").any():
        others = some & (kinds != "shared")
        lines.append(
            f"MFD_SHARED, median size: {np.median(shared[kinds == 'shared']):.3f} where a shared motif breaks, "
            f"{np.median(shared[others]):.3f} elsewhere"
        )
    return lines


if __name__ == "__main__":
    main()
