"""Telling regions of two classes apart by their latents, as the paper does for enhancers (VISTA, FANTOM5).

    mfd embed regions.bed -o latents.parquet
    python examples/enhancers.py regions.bed latents.parquet

Column 4 of the BED file says `positive` or `negative`. Logistic regression on standardised features, penalty chosen by inner
cross-validation, repeated stratified cross-validation outside; G+C content alone is the reference, and each group's latents
are tried as they are and with G+C regressed out. Nothing that is fitted (scaling, G+C regression, penalty) sees the test fold.
Intervals are 95 %, with the variance correction of Nadeau and Bengio (2003) for folds that share training data.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, RepeatedStratifiedKFold
from sklearn.preprocessing import StandardScaler

Floats = NDArray[np.float64]
CLASSES = {"positive": True, "negative": False}
FEWEST = 20
"""Regions of each class: five folds outside and three inside need some in every fold."""


def read(regions: Path, latents: Path) -> tuple[dict[str, Floats], Floats, NDArray[np.bool_]]:
    """Return features per set (regions, features), G+C (regions, 1) and labels (regions,).

    Leaves with one line of advice where the files are others than they should be, or have too few regions of a class.
    """
    label_of_line = {}
    for number, line in enumerate(regions.read_text().splitlines(), start=1):
        cells = line.split("\t")
        if len(cells) > 3 and cells[3] in CLASSES:
            label_of_line[number] = CLASSES[cells[3]]
    table = pq.read_table(latents).to_pydict()
    columns = [name for name in table if "." in name]
    if not {"line", "gc"} <= set(table) or not columns:
        raise SystemExit(f"{latents}: is no table of latents; mfd embed {regions} -o {latents} writes one")
    chosen = [i for i, number in enumerate(table["line"]) if number in label_of_line]
    labels = np.array([label_of_line[table["line"][i]] for i in chosen], bool)
    if min(labels.sum(), (~labels).sum()) < FEWEST:
        raise SystemExit(
            f"{regions}: column 4 says positive in {labels.sum()} lines and negative in {(~labels).sum()}; "
            f"{FEWEST} of each are needed (columns are separated by tabs)"
        )
    groups = list(dict.fromkeys(name.rpartition(".")[0] for name in columns))
    values = {
        group: np.array([table[n] for n in columns if n.rpartition(".")[0] == group]).T[chosen] for group in groups
    }
    if len(groups) > 1:
        values["all"] = np.concatenate(list(values.values()), 1)
    return values, np.array(table["gc"])[chosen][:, None], labels


def scores(
    features: Floats, gc: Floats, labels: NDArray[np.bool_], without_gc: bool, folds: int, repeats: int
) -> tuple[Floats, Floats]:
    """AUROC and AUPRC of every test fold."""
    auroc, auprc = list[float](), list[float]()
    for train, test in RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=0).split(
        features, labels
    ):
        x, y = features[train], features[test]
        if without_gc:
            line = LinearRegression().fit(gc[train], x)
            x, y = x - line.predict(gc[train]), y - line.predict(gc[test])
        scale = StandardScaler().fit(x)
        plain = LogisticRegression(max_iter=2000, class_weight="balanced")
        model = GridSearchCV(plain, {"C": np.logspace(-4, 1, 6)}, cv=3, scoring="roc_auc")
        decision = model.fit(scale.transform(x), labels[train]).decision_function(scale.transform(y))
        auroc.append(float(roc_auc_score(labels[test], decision)))
        auprc.append(float(average_precision_score(labels[test], decision)))
    return np.array(auroc), np.array(auprc)


def interval(values: Floats, folds: int) -> tuple[float, float, float]:
    """Mean and 95 % interval over the folds of repeated cross-validation."""
    spread = values.std(ddof=1) * np.sqrt(1 / len(values) + 1 / (folds - 1))
    half = float(student.ppf(0.975, len(values) - 1) * spread)
    return float(values.mean()), float(values.mean()) - half, float(values.mean()) + half


def compare(
    values: Mapping[str, Floats], gc: Floats, labels: NDArray[np.bool_], folds: int = 5, repeats: int = 5
) -> list[dict[str, object]]:
    """One row per feature set: AUROC with its interval, and AUPRC."""
    rows = []
    for name, features in {"G+C alone": gc, **values}.items():
        for without in (False, True) if name != "G+C alone" else (False,):
            auroc, auprc = scores(features, gc, labels, without, folds, repeats)
            mean, low, high = interval(auroc, folds)
            features_in_words = f"{name}, G+C regressed out" if without else name
            rows.append(
                {"features": features_in_words, "auroc": mean, "low": low, "high": high, "auprc": float(auprc.mean())}
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("regions", type=Path)
    parser.add_argument("latents", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    values, gc, labels = read(arguments.regions, arguments.latents)
    print(f"{labels.sum():,} positive and {(~labels).sum():,} negative regions")
    for row in compare(values, gc, labels, repeats=arguments.repeats):
        figures = f"AUROC {row['auroc']:.3f} ({row['low']:.3f} to {row['high']:.3f}), AUPRC {row['auprc']:.3f}"
        print(f"  {row['features']!s:<36}{figures}")


if __name__ == "__main__":
    main()
