"""Known motifs in found ones: the right one, its strand and place, and an E-value that chance earns as often as it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mfd_cli.base.errors import InputError
from mfd_cli.core.motif_match import expected_odds, gumbel_tail, match_motifs
from mfd_cli.formats.motif_files import read_meme, read_motifs, write_meme
from mfd_cli.genome.motifs import Motif
from mfd_cli.simulate.built_in_motifs import built_in


def shown(motif: Motif, width: int = 21, start: int = 4, strand: str = "+") -> np.ndarray:
    """Base frequencies (4, width) as of stretches that hold the motif."""
    table = motif.probabilities if strand == "+" else motif.probabilities[::-1, ::-1]
    found = np.full((width, 4), 0.25)
    found[start : start + len(table)] = table
    return found.T


@pytest.mark.parametrize("strand", ["+", "-"])
def test_every_motif_is_found_among_all_on_either_strand(strand: str) -> None:
    motifs = built_in()
    known = {name: motif.probabilities for name, motif in motifs.items()}
    for name, motif in motifs.items():
        best = match_motifs(shown(motif, strand=strand), known)[0]
        assert best.name == name and best.e_value < 0.05
        turned = motif.probabilities[::-1, ::-1]
        if np.abs(turned - motif.probabilities).max() > 0.3:  # a palindrome has no strand
            assert (best.strand, best.start) == (strand, 4)


def test_the_score_is_the_expected_log_odds_by_hand() -> None:
    odds = np.array([[2.0, -4, -4, -4], [-4, 2, -4, -4]])  # "AC"
    frequency = np.array([[1.0, 0, 0, 0], [0, 0.5, 0.5, 0]])  # A, then C or G
    scores, beside = expected_odds(frequency, odds[None])
    assert beside == 1 and scores.shape == (1, 2, 3)
    nothing = (2 - 4 * 3) / 4  # a column where all bases are equally likely
    before, there, behind = nothing - 4, 2 + (2 - 4) / 2, -4 + nothing
    assert scores[0, 0].tolist() == [before, there, behind]


def test_motifs_cut_off_at_the_edge_are_found() -> None:
    motifs = built_in()
    motif = motifs["RAP1"]
    known = {name: one.probabilities for name, one in motifs.items()}
    best = match_motifs(shown(motif, width=24)[:, 8:], known)[0]
    assert (best.name, best.start) == ("RAP1", -4)


def test_columns_in_another_order_do_not_match() -> None:
    """Of shuffled motifs few get an E-value below 0.05: it is about as often as it says, over all known motifs."""
    rng = np.random.default_rng(0)
    known = {name: motif.probabilities for name, motif in built_in().items()}
    values = []
    for name in known:
        for _ in range(10):
            order = rng.permutation(len(known[name]))
            values.append(match_motifs(shown(Motif(name, known[name][order] * 100)), known)[0].e_value)
    assert np.mean(np.array(values) < 0.05) < 0.08 and np.median(values) > 0.2


def test_the_tail_is_that_of_the_distribution() -> None:
    rng = np.random.default_rng(1)
    chance = rng.gumbel(3, 2, 20_000)
    for value in (3.0, 8.0, 12.0):
        assert gumbel_tail(value, chance) == pytest.approx(-np.expm1(-np.exp(-(value - 3) / 2)), rel=0.15)
    assert gumbel_tail(5, [1.0, 1.0]) == 1.0


def test_meme_files_are_read_back(tmp_path: Path) -> None:
    motifs = built_in()
    write_meme(tmp_path / "m.meme", {name: motif.probabilities.T for name, motif in motifs.items()})
    for name, motif in read_motifs(tmp_path / "m.meme").items():
        assert np.allclose(motif.counts / motif.counts.sum(1, keepdims=True), motifs[name].probabilities, atol=1e-5)
    (tmp_path / "two.meme").write_text(
        "MEME version 4\n\nMOTIF MA1 first\nletter-probability matrix: alength= 4 w= 2 nsites= 10 E= 0\n"
        " 1.0 0 0 0\n 0.25  0.25 0.25 0.25\n\nURL http://x\nMOTIF MA2 first\nletter-probability matrix:\n0 0 0 1\n"
    )
    found = read_motifs(tmp_path / "two.meme")
    assert list(found) == ["first", "first.2"] and found["first"].counts.tolist() == [[10, 0, 0, 0], [2.5] * 4]
    (tmp_path / "j.jaspar").write_text(">MA1 x\nA [1 2]\nC [0 0]\nG [0 0]\nT [3 1]\n")
    assert read_motifs(tmp_path / "j.jaspar")["x"].counts.tolist() == [[1, 0, 0, 3], [2, 0, 0, 1]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("hello\n", "no letter-probability matrix"),
        ("MOTIF a\nletter-probability matrix: w= 1\n1 0 0\n", "four columns"),
        ("MOTIF a\nletter-probability matrix: w= 1\n1 1 0 0\n", "no probabilities"),
        ("MOTIF a\nletter-probability matrix: w= 1\n", "four columns"),
        ("MOTIF a\nletter-probability matrix: w= 1\n1 0 0 1e\n", "four columns"),
        ("letter-probability matrix: w= 1\n1 0 0 0\n", "a name"),
    ],
)
def test_damaged_meme_files_are_refused(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "m.meme").write_text(text)
    with pytest.raises(InputError, match=told):
        read_meme(tmp_path / "m.meme")
