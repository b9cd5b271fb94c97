"""The whole story on planted data: `python examples/demo.py FOLDER` (what `make demo` runs).

It calls the commands as a user would, then compares what the model found with the planted truth.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import truth
from mfd_cli.dataset.folder import open_dataset
from mfd_cli.runs.folder import load_run


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
    mfd("train", "--epochs", "10", folder=folder)
    mfd("evaluate", folder=folder)
    mfd("impute", folder=folder)
    mfd("background", "--number", "2000", folder=folder)
    mfd("score-variants", "input.vcf", folder=folder)
    mfd(
        "explain",
        "--factor",
        "all",
        "--factor",
        "assay",
        "--factor",
        "target",
        "--motifs",
        "truth/motifs.meme",
        folder=folder,
    )
    print("\nThe planted truth, and what the model found")
    for line in told(folder):
        print(f"  {line}")
    print("\nLook at")
    for what, where in (
        ("the scored VCF", "input.mfd.vcf.gz"),
        ("its table", "input.mfd.parquet"),
        ("tracks and levels", "run/evaluation-test/tracks.tsv"),
        ("independence", "run/evaluation-test/independence.png"),
        ("what predictions are made of", "explain/all/report.html"),
        ("the report on assays", "explain/assay/report.html"),
        ("the report on targets", "explain/target/report.html"),
        ("the truth", "truth/"),
    ):
        print(f"  {what + ':':<32}{folder / where}")
    print(f"\nThe demo took {(time.monotonic() - started) / 60:.1f} minutes.")


def told(folder: Path) -> list[str]:
    """The model beside the truth, in sentences; see truth.py for how each number is made."""
    run, dataset = load_run(folder / "run"), open_dataset(folder / "dataset")
    found = truth.compare(folder, run, dataset) | truth.compare_variants(folder, folder / "input.mfd.parquet")
    targets, assays = (truth.compare_motifs(folder, factor) for factor in ("target", "assay"))
    return [
        "AUROC on the test contig, mean over the training tracks with peaks (which mfd evaluate tells too): "
        f"model {found['auroc']:.3f}, true logits {found['auroc_truth']:.3f}",
        f"correlation with the true biological part {found['biological_r']:.3f}, with the technical part "
        f"{found['technical_r']:.3f}; leakage of one into the other, noise set aside, mean "
        f"{found['leakage_mean']:.3f}, max {found['leakage_max']:.3f}",
        "AUROC on the test contig, mean over the tracks that were held out of training: model "
        f"{found['zero_shot']:.3f}, true logits {found['zero_shot_truth']:.3f}, mean of tracks of the same target "
        f"{found['zero_shot_same_target']:.3f}",
        "telling variants of biological motifs from those of technical ones by MFD_BIO / MFD_TECH: AUROC "
        f"{found['variants']:.3f}",
        "telling variants that break a motif from those that do not, by |MFD_MAX_DLOGIT|: AUROC "
        f"{found['variants_any']:.3f}",
        "telling variants of the shared motif from those of other motifs by |MFD_SHARED| / (MFD_BIO + MFD_TECH): AUROC "
        f"{found['variants_shared']:.3f}",
        f"MFD_MAX_DLOGIT against the true change of the most affected track: r = {found['variants_total_r']:.3f}",
        f"MFD_SHARED, median size: {found['shared_size_on_shared']:.3f} where a shared motif breaks, "
        f"{found['shared_size_elsewhere']:.3f} elsewhere",
        f"motifs that the model uses are the planted ones (best of twelve, E < 0.05): {targets['right']} of "
        f"{targets['levels']} targets, {assays['right']} of {assays['levels']} assays; with shuffled motifs "
        f"{targets['shuffled']} and {assays['shuffled']}",
    ]


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
