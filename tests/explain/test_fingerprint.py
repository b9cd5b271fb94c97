"""Fingerprints: words counted as by hand, and the preference that was planted."""

from __future__ import annotations

import numpy as np
import pytest

from mfd_cli.explain.fingerprint import composition, correlation_over_bins, fingerprint, words
from mfd_cli.explain.on_dna import gc_words
from mfd_cli.genome.grid import BIN
from mfd_cli.genome.sequence import Genome


def test_words_are_those_of_both_strands() -> None:
    names, index = words()
    assert len(names) == 136 and len(set(names)) == 136 and index.max() == 135
    place = {name: i for i, name in enumerate(names)}
    assert index[0b00000001] == place["AAAC"] and index[0b10111111] == place["AAAC"]  # GTTT on the other strand
    assert "ACGT" in place and "TTTT" not in place


def test_composition_by_hand() -> None:
    text = b"ACGT" * 16 + b"N" * 4 + b"A" * 60
    genome = Genome({"c": np.frombuffer(text, np.uint8)})
    names, values = composition(genome, [("c", 0), ("c", 64)])
    assert values.shape == (2, 138)
    row = dict(zip(names, values[0]))
    assert row["G+C"] == np.float32(32 / 124) and row["CpG"] == np.float32(16 / (63 + 59))
    assert row["ACGT"] == np.float32(16 / (61 + 57)) and row["AAAA"] == np.float32(57 / (61 + 57))
    assert row["CGTA"] + row["GTAC"] == np.float32(30 / 118) or abs(row["CGTA"] + row["GTAC"] - 45 / 118) < 0.2


def test_a_planted_preference_is_found() -> None:
    rng = np.random.default_rng(0)
    genome = Genome({"c": np.frombuffer(b"ACGT", np.uint8)[rng.integers(0, 4, 600 * BIN)]})
    names, values = composition(genome, [("c", BIN * i) for i in range(600)])
    word = names.index("ACGA")
    scores = {
        "likes": values[:, word] * 100 + rng.normal(size=600) * 0.1,
        "none": rng.normal(size=600),
        "flat": np.zeros(600),
    }
    rows = fingerprint(scores, names, values)
    best = {
        level: max((r for r in rows if r["level"] == level), key=lambda r: abs(r["correlation"])) for level in scores
    }
    assert best["likes"]["feature"] == "ACGA" and best["likes"]["correlation"] > 0.95
    assert abs(best["none"]["correlation"]) < 0.25 and np.isnan(best["flat"]["correlation"])
    assert [r["feature"] for r in rows[:2]] == ["G+C", "CpG"] and len(rows) == 3 * 14


def test_there_is_no_correlation_over_too_few_bins_or_with_what_is_all_alike() -> None:
    score = np.array([0.0, 1.0, 2.0, 3.0])
    assert correlation_over_bins(score, np.array([1.0, 3.0, 5.0, np.nan])) == pytest.approx(1)
    for profile in ([1, 3, np.nan, np.nan], [2, 2, 2, 2], [2, 2, 2, np.nan], [np.nan] * 4):
        assert np.isnan(correlation_over_bins(score, np.array(profile, float)))
    assert np.isnan(correlation_over_bins(np.zeros(4), score))
    assert gc_words(np.nan) == ", no G+C correlation (too few bins, or all alike)" and gc_words(0.5).endswith("+0.50")
    rows = fingerprint({"a": score[:2]}, ["G+C", "CpG", "AAAA"], np.eye(2, 3))
    assert len(rows) == 3 and all(np.isnan(row["correlation"]) for row in rows)
