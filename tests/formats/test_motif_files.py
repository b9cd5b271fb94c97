"""Motifs: the built-in dozen is what JASPAR says and fit for planting; scanning; JASPAR files, good and broken."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.places import SHARED
from mfd_cli.base.errors import InputError
from mfd_cli.formats.motif_files import read_jaspar
from mfd_cli.genome.motifs import Motif
from mfd_cli.genome.sequence import encode, reverse_complement
from mfd_cli.simulate.built_in_motifs import built_in

JASPAR = SHARED / "motifs" / "jaspar2024_core_fungi.jaspar"


def test_the_built_in_dozen_is_strong() -> None:
    motifs = built_in()
    assert len(motifs) == 12
    for name, motif in motifs.items():
        bits = (motif.probabilities * motif.log_odds).sum(1)
        assert motif.information > 11.5 and (bits > 0.5).sum() >= 7, name
        assert motif.name == name and len(motif.counts) < 21, "a slot of a planted bin holds 21 bases"


def likeness(one: Motif, other: Motif, overlap: int = 7) -> float:
    """Largest correlation of two matrices over all registers with at least `overlap` columns, on either strand."""
    best = -1.0
    for second in (other.probabilities, other.probabilities[::-1, ::-1]):
        for shift in range(overlap - len(second), len(one.counts) - overlap + 1):
            low, high = max(shift, 0), min(shift + len(second), len(one.counts))
            pair = one.probabilities[low:high].ravel(), second[low - shift : high - shift].ravel()
            best = max(best, float(np.corrcoef(*pair)[0, 1]))
    return best


def test_the_built_in_dozen_is_dissimilar() -> None:
    motifs = built_in()
    assert likeness(motifs["CBF1"], motifs["CBF1"]) == pytest.approx(1)
    for one, other in combinations(motifs.values(), 2):
        assert likeness(one, other) < 0.75, (one.name, other.name)


@pytest.mark.skipif(not JASPAR.is_file(), reason="the shared data are not here")
def test_the_built_in_dozen_is_jaspars() -> None:
    released = {motif.name: motif for motif in read_jaspar(JASPAR)}
    assert len(released) > 170
    for name, motif in built_in().items():
        assert np.array_equal(motif.counts, released[name].counts), name


def test_scores_by_hand() -> None:
    motif = Motif("AC", np.array([[3.5, 0.5, 0.5, 1.5], [0.5, 4.5, 0.5, 0.5]]))
    assert motif.probabilities[0].tolist() == [0.5, 0.125, 0.125, 0.25]
    assert motif.log_odds[0].tolist() == [1.0, -1.0, -1.0, 0.0]
    assert motif.consensus == "AC"
    forward, reverse = motif.scan(encode("ACGT"))
    second = float(motif.log_odds[1, 1])
    assert forward == pytest.approx([1 + second, -1 + motif.log_odds[1, 2], -1 + motif.log_odds[1, 3]], abs=1e-5)
    assert reverse[2] == pytest.approx(1 + second, abs=1e-5)  # GT is AC on the other strand
    assert [len(scores) for scores in motif.scan(encode("A"))] == [0, 0]


@given(st.text("ACGTN", min_size=1, max_size=60))
def test_the_other_strand_scores_the_same_backwards(text: str) -> None:
    codes = encode(text)
    for motif in list(built_in().values())[:3]:
        forward, reverse = motif.scan(codes)
        assert np.allclose(motif.scan(reverse_complement(codes))[1][::-1], forward, atol=1e-4)
        assert np.allclose(motif.scan(reverse_complement(codes))[0][::-1], reverse, atol=1e-4)


def test_an_unknown_base_scores_as_the_worst() -> None:
    motif = built_in()["CBF1"]
    best = encode(motif.consensus)
    for place in range(len(best)):
        scores = [motif.scan(np.where(np.arange(len(best)) == place, code, best))[0][0] for code in range(5)]
        assert scores[4] == pytest.approx(min(scores[:4]), abs=1e-5)


def test_jaspar_files(tmp_path: Path) -> None:
    path = tmp_path / "x.jaspar"
    path.write_text(">MA1 X\nA [ 1 2 ]\nC [ 0 0 ]\nG [ 3 0 ]\nT [ 0 9 ]\n\n>MA2\tY\r\nA 1\nC 2.5\nG 3\nT 4")
    first, second = read_jaspar(path)
    assert first.name == "X" and first.counts.tolist() == [[1, 0, 3, 0], [2, 0, 0, 9]]
    assert second.name == "Y" and second.counts.tolist() == [[1, 2.5, 3, 4]]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A [ 1 ]\n", 1),
        ("hello\n>M X\nA 1\nC 1\nG 1\nT 1\n", 1),
        (">\n", 1),
        (">M X\n", 1),
        (">M X\nA [ 1 2 ]\nC [ 0 ]\n", 1),
        (">M X\nA 1\nC 1\nG 1\nT 1 2\n", 1),
        (">M X\nA 1\nC 1\nG 1\nG 1\nT 1\n", 1),
        (">M X\nA 1\nC 1\nT 1\nG 1\n", 1),
        (">M X\nA -1\nC 1\nG 1\nT 1\n", 1),
        (">M X\nA nan\nC 1\nG 1\nT 1\n", 1),
        (">M X\nA 1.2.3\nC 1\nG 1\nT 1\n", 1),
        (">M X\nA\nC\nG\nT\n", 1),
        (">M X\nA 0\nC 0\nG 0\nT 0\n", 1),
        (">M X\nA 1\nC 1\nG 1\nT 1\n>N Y\nA 1\nC 1\nG 1\n", 6),
    ],
)
def test_broken_jaspar_files_are_refused(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "x.jaspar"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_jaspar(path)
    assert str(caught.value).startswith(f"{path}:{line}: ") and "\n" not in str(caught.value)
