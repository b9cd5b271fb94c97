"""A stretch of many bins is read in one pass, with the numbers of one window a bin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.test_incremental import assert_equal, move_norms, network, plain
from kit import tiny
from mfd_cli.core.backbones import DilatedBackbone
from mfd_cli.core.incremental import CentrePass, Seen
from mfd_cli.core.predictor import Predictor
from mfd_cli.core.stretches import SIZES, STRETCH, stretches_of
from mfd_cli.genome.sequence import Genome

WIDE = 2176


def windows_of(codes: torch.Tensor, order: int, bins: int, window: int = WIDE) -> torch.Tensor:
    """The windows of one stretch's bins, (bins, window + k - 1)."""
    return codes[0].unfold(0, window + order - 1, 128)[:bins]


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("bins", [1, 2, 5])
@torch.inference_mode()
def test_a_stretch_has_the_latents_of_its_windows(order: int, bins: int) -> None:
    """The network itself and the pass for inference, in float64, with unknown bases."""
    backbone, norm = network(6, WIDE, order, torch.float64)
    codes = torch.randint(0, 5, (1, WIDE + (bins - 1) * 128 + order - 1), dtype=torch.uint8)
    expected = plain(backbone, norm, windows_of(codes, order, bins), order, torch.float64)
    assert_equal(plain(backbone, norm, codes, order, torch.float64), expected, backbone)
    assert_equal(CentrePass(backbone, norm, WIDE, order, torch.float64).latents(codes), expected, backbone)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("bins", [1, 2, 5])
@torch.inference_mode()
def test_substitutions_in_a_stretch_have_the_latents_of_whole_windows(order: int, bins: int) -> None:
    """Anywhere in two stretches, up to their edges; each is seen in some bins, near by or far away, or in none."""
    backbone, norm = network(6, WIDE, order, torch.float64)
    length, count = WIDE + (bins - 1) * 128 + order - 1, 30
    codes = torch.randint(0, 5, (2, length), dtype=torch.uint8)
    row, base = torch.randint(0, 2, (count,)), torch.randint(0, 4, (count,))
    position = torch.cat([torch.tensor([0, length - 1]), torch.linspace(900, length - 900, count - 2).long()])
    seen = Seen(torch.randint(0, count, (3 * count,)), torch.randint(0, bins, (3 * count,)))
    changed = codes[row].scatter(1, position[:, None], base[:, None].to(torch.uint8))
    windows = torch.stack(
        [windows_of(changed[v, None], order, bins)[place] for v, place in zip(*map(torch.Tensor.tolist, seen))]
    )
    expected = plain(backbone, norm, windows, order, torch.float64)
    centre = CentrePass(backbone, norm, WIDE, order, torch.float64)
    reference = centre.reference(codes, 0, length - 1)
    assert_equal(centre.alternates(reference, row, position, base, seen), expected, backbone)
    before = reference.latents.view(2, bins, -1)[row[seen.variant], seen.place]
    moved = (expected - before).abs().amax(1) > 1e-4
    assert moved.any() and (bins == 1 or not moved.all())


@torch.inference_mode()
def test_a_bin_depends_on_the_bases_in_its_reach_and_on_no_other() -> None:
    backbone, norm = network(6, WIDE, 1, torch.float64)
    bins = 3
    codes = torch.randint(0, 4, (1, WIDE + (bins - 1) * 128), dtype=torch.uint8)
    before = plain(backbone, norm, codes, 1, torch.float64)

    def changed(position: int) -> list[bool]:
        """Which bins another base there changes, whichever it is."""
        moved = torch.zeros(bins, dtype=torch.bool)
        for other in range(4):
            new = codes.clone()
            new[0, position] = other
            moved |= (plain(backbone, norm, new, 1, torch.float64) != before).any(1)
        return moved.tolist()

    assert backbone.reach == 899 and not backbone.sees_padding
    edges = [
        (backbone.margin + bin_) * 128 - backbone.reach for bin_ in range(bins)
    ]  # the first base of each bin's reach
    ends = [(backbone.margin + bin_ + 1) * 128 + backbone.reach for bin_ in range(bins)]
    seen = {position: changed(position) for position in range(edges[0] - 2, ends[-1] + 2, 31)}
    for position, bins_moved in seen.items():
        for moved, edge, end in zip(bins_moved, edges, ends):
            assert not moved or edge <= position < end
    # Which of the bases near the edge matter depends on the maxima; that some do does not.
    assert any(seen[position][0] for position in seen if position < edges[0] + 600)
    assert any(seen[position][-1] for position in seen if position >= ends[-1] - 600)
    for position in (edges[0] - 1, ends[-1]):
        assert changed(position) == [False] * bins
    middle = (backbone.margin + 1) * 128 + 64
    assert changed(middle) == [True] * bins


@pytest.mark.parametrize(("window", "sees"), [(384, True), (1152, True), (1920, True), (2176, False), (2432, False)])
def test_windows_that_are_too_short_see_their_padding(window: int, sees: bool) -> None:
    assert DilatedBackbone(4, window, 1, 4).sees_padding == sees


# -- which stretches ---------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 3000), max_size=60, unique=True),
    st.sampled_from([1, 2, 7, STRETCH]),
    st.integers(0, 20),
    st.booleans(),
)
def test_every_bin_is_in_one_stretch_once(numbers: list[int], most: int, gap: int, on_grid: bool) -> None:
    starts = np.array(numbers, np.int64) * (128 if on_grid else 32)
    seen = []
    for stretches in stretches_of(starts, most, gap):
        assert 1 <= stretches.bins <= most
        assert (np.diff(stretches.owner) >= 0).all() and (stretches.place < stretches.bins).all()
        found = stretches.firsts[stretches.owner] + 128 * stretches.place
        assert np.array_equal(found, starts[stretches.index])
        assert set(stretches.owner.tolist()) == set(range(len(stretches.firsts))), "a stretch that nobody asked for"
        seen += stretches.index.tolist()
        batches = list(stretches.batches(3))
        assert [len(batch.firsts) for batch in batches[:-1]] == [3] * (len(batches) - 1)
        assert np.array_equal(np.concatenate([batch.index for batch in batches]), stretches.index)
        for batch in batches:
            assert np.array_equal(batch.firsts[batch.row] + 128 * batch.place, starts[batch.index])
            assert np.array_equal(starts[batch.index[batch.place == 0]], batch.firsts), (
                "a stretch begins with a wanted bin"
            )
    assert sorted(seen) == list(range(len(starts)))


def test_a_whole_contig_is_read_in_the_longest_stretches_and_a_single_bin_alone() -> None:
    (whole,) = stretches_of(np.arange(3 * STRETCH) * 128, STRETCH, 16)
    assert whole.bins == STRETCH and whole.firsts.tolist() == [0, STRETCH * 128, 2 * STRETCH * 128]
    lone, pair = stretches_of(np.array([0, 128, 128 * 40]), STRETCH, 16)
    assert (lone.bins, pair.bins) == (1, 2) and lone.firsts.tolist() == [128 * 40]
    (near,) = stretches_of(np.array([0, 128 * 7]), STRETCH, 16)  # six bins between them cost less than two margins
    assert near.bins == 8 and near.place.tolist() == [0, 7]
    assert list(stretches_of(np.zeros(0, np.int64), STRETCH, 16)) == []
    assert list(SIZES) == sorted(set(SIZES))


@pytest.mark.parametrize("window", [384, WIDE])
@pytest.mark.parametrize("stranded", [False, True])
def test_bins_anywhere_have_the_latents_of_their_windows(window: int, stranded: bool) -> None:
    """At both ends of a contig, in a run of unknown bases, on the grid and off it, in any order, on both strands or one."""
    rng = np.random.default_rng(1)
    text = "".join(rng.choice(list("ACGT"), 9_000))
    genome = Genome({"chr1": np.frombuffer((text[:4_000] + "N" * 700 + text[4_000:]).encode(), np.uint8)})
    model = tiny.model(model={"window": window, "kmer": 2}).eval()
    model.stranded = stranded
    move_norms([*model.backbone.modules(), model.norm])
    predictor = Predictor(model, batch_size=5)
    assert predictor.most_bins == (1 if window == 384 else STRETCH)
    starts = np.concatenate([np.arange(0, 9_600, 128), rng.integers(0, 9_500, 20), [77, 77 + 128, 77 + 5 * 128]])
    starts = rng.permutation(np.unique(starts))
    left, width = predictor.left, predictor.window
    windows = np.stack([genome.codes("chr1", start - left, start - left + width) for start in starts.tolist()])
    expected = predictor.latents(windows)
    found = predictor.latents_at(starts, predictor.cutter(genome, "chr1"))
    assert found.std(0).min() > 0.1 and np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    predictor.prefetch = True  # as on a GPU
    assert np.array_equal(predictor.latents_at(starts, predictor.cutter(genome, "chr1")), found)
