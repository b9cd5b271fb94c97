"""Words that peaks are rich in: found where they were put, none where there is none, and filters that match them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from kit import tiny
from mfd_cli.core.motif_filters import best_matches
from mfd_cli.core.onehot import kmers, one_hot
from mfd_cli.dataset.folder import Dataset
from mfd_cli.genome.sequence import encode
from mfd_cli.training import train as training
from mfd_cli.training.enriched_words import (
    bases_of,
    different,
    enriched_words,
    largest_surplus,
    like,
    occurrences,
    sets_of_tracks,
    start_as_words,
    word_of,
)

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


def reverse(word: str) -> str:
    return word.translate(COMPLEMENT)[::-1]


@pytest.mark.parametrize("gap", [0, 3, 11])
def test_occurrences_are_those_of_a_search_for_text(gap: int) -> None:
    rng = np.random.default_rng(gap)
    texts = ["".join(rng.choice(list("ACGTN"), 40, p=[0.24, 0.24, 0.24, 0.24, 0.04])) for _ in range(6)]
    found = occurrences(np.stack([encode(text) for text in texts]), gap)
    for row, text in enumerate(texts):
        numbers = found[[row]].indices.tolist()
        assert len(set(numbers)) == len(numbers)
        words = {word_of(number, gap) for number in numbers}
        for word in words:
            assert any(re.search(one.replace("N", "."), text) for one in (word, reverse(word))), word
        known = {text[i : i + 8 + gap] for i in range(40 - 8 - gap + 1)}
        known = {word[:4] + "N" * gap + word[4 + gap :] for word in known}
        known = {word for word in known if word.count("N") == gap}
        assert known <= words | {reverse(word) for word in words}


def test_the_surplus_is_that_of_a_table_by_hand() -> None:
    """Two words in four bins; a track has peaks in the bins of the first, another everywhere."""
    there = csr_array(np.array([[1, 0], [1, 0], [1, 1], [0, 1]], np.float32))
    peaks = np.array([[30, 10], [30, 10], [0, 10], [0, 10]], np.float32)  # as if of so many bins each
    every = peaks.sum(1)
    largest = largest_surplus(there, csr_array(peaks), every)
    expected = 90 * 60 / 100  # the first word's bins hold 90 of 100 peaks, of which the first track has 60
    assert largest[0] == pytest.approx((60 - expected) / np.sqrt(expected + 1), rel=1e-5)
    together = (20 - 2 * every.mean()) / np.sqrt(2 * every.var() + 1)
    second = (20 - 20 * 40 / 100) / np.sqrt(20 * 40 / 100 + 1)
    assert largest[1] == pytest.approx(max(second, together), rel=1e-5)


def test_words_that_overlap_are_one_motif() -> None:
    words = ["TCACGTGA", "CACGTGAC", reverse("TCACGTGC"), "TCACGNNGAC", "GGCGGCTA", "TAGCCGCC", "ATTTNNNNGCCG"]
    assert different(words, 9) == ["TCACGTGA", "GGCGGCTA", "ATTTNNNNGCCG"]
    assert different(words, 1) == ["TCACGTGA"] and different([], 3) == []
    coded = np.stack([bases_of(word) for word in ("TCACGTGA", "TCTCGTGT")])
    assert like(coded, coded[0]).tolist() == [True, False]  # two bases differ


@pytest.mark.parametrize("order", [1, 2])
def test_a_filter_that_starts_as_a_word_matches_it_best(order: int) -> None:
    model = tiny.model(model={"filters": 4, "kmer": order})
    untouched = model.backbone.motifs.weight[2:].clone()
    start_as_words(model, ["CACGTGAC", "ATCANNNNNNACGA"])
    assert torch.equal(model.backbone.motifs.weight[2:], untouched)
    rng = np.random.default_rng(1)
    texts = ["".join(rng.choice(list("ACGT"), 128 + 18 + order - 1)) for _ in range(30)]
    texts[7] = texts[7][:50] + "GTCACGTG" + texts[7][58:]
    texts[9] = texts[9][:60] + "ATCAGGGGGGACGA" + texts[9][74:]
    codes = torch.from_numpy(np.stack([encode(text) for text in texts]))
    matches = best_matches(kmers(one_hot(codes), order), model.backbone.motifs.weight.detach(), order)
    assert int(matches[:, 0, 0].argmax()) == 7 and int(matches[:, 1, 0].argmax()) == 9


def test_planted_motifs_are_found_of_their_tracks_alone(tiny_dataset: Dataset) -> None:
    bins, tracks = tiny_dataset.split("train"), len(tiny_dataset.peak_tracks)
    every = np.eye(tracks, dtype=bool)
    words = enriched_words(tiny_dataset, bins, every, 8)
    planted = [motif * 2 for motif in tiny.MOTIFS.values()]
    planted += [reverse(motif) for motif in planted]
    assert words and all(any(re.search(word.replace("N", "."), motif) for motif in planted) for word in words)
    nobody = np.zeros((tracks, 1), bool)
    assert enriched_words(tiny_dataset, bins, nobody, 8) == []
    assert enriched_words(tiny_dataset, bins, every, 8) == words


def test_sets_are_training_tracks_and_levels_that_several_have(tiny_dataset: Dataset) -> None:
    model = tiny.model(8)
    trained = np.array([True] * 7 + [False])
    sets = sets_of_tracks(tiny_dataset, model.metadata, trained)
    assert not sets[7].any() and np.array_equal(sets[:, :8], np.diag(trained))
    target = np.array([row["Target"] == "CTCF" for row in tiny.rows(8)]) & trained
    assert any(np.array_equal(column, target) for column in sets.T) and (sets[:, 8:].sum(0) > 1).all()


def test_a_training_starts_with_them_unless_it_is_told_not_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[int]()
    monkeypatch.setattr("mfd_cli.training.setup.enriched_words", lambda *_: asked.append(_[3]) or ["CACGTGAC"])
    project = tiny.project(tmp_path, train={"epochs": 1, "words": 0.5, "max_windows": 32}, model={"filters": 6})
    tiny.dataset(project.dataset)
    training.train(project, gpus=0)
    training.train(tiny.project(tmp_path, train={"epochs": 1, "words": 0, "max_windows": 32}), gpus=0, force=True)
    assert asked == [3]
