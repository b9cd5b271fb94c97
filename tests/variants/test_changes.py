"""Changes of the latent: the incremental pass, shared windows and stretches, and both placements against plain full passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from core.test_incremental import move_norms
from kit import tiny
from mfd_cli.core.incremental import Reference
from mfd_cli.core.onehot import other_strand
from mfd_cli.core.predictor import Precision, Predictor
from mfd_cli.core.stretches import STRETCH
from mfd_cli.dataset.folder import Dataset
from mfd_cli.genome.alleles import Variant
from mfd_cli.genome.sequence import Genome, encode
from mfd_cli.runs.folder import Run
from mfd_cli.variants.changes import EDGE, LatentChanges, Placement
from mfd_cli.variants.effects import Member, ScoreSettings


def member(
    run: Run,
    device: str = "cpu",
    placement: Placement = "centred",
    precision: Precision = "float32",
    batch_size: int = 256,
) -> Member:
    return Member(run, device, batch_size, ScoreSettings(placement, precision))


def plain(run: Run, dataset: Dataset, variant: Variant, start: int) -> np.ndarray:
    """Change of the latent for a substitution in the window that begins at `start`, by full passes of the model."""
    codes = dataset.genome.codes(variant.contig, start, start + run.model.window).copy()
    pair = [codes, codes.copy()]
    index = variant.start - start
    pair[1][index : index + len(variant.alt)] = encode(variant.alt)
    with torch.inference_mode():
        windows = torch.from_numpy(np.stack(pair))
        latents = (run.model.latent(windows) + run.model.latent(other_strand(windows))) / 2
    change: np.ndarray = (latents[1] - latents[0]).numpy()
    return change


def substitution(dataset: Dataset, position: int, length: int = 1) -> Variant:
    ref = dataset.genome.bases("chr2", position - 1, position - 1 + length)
    return Variant("chr2", position, ref, "".join("ACGT"["ACGT".index(base) - 2] for base in ref))


def test_centred_changes_equal_full_passes(trained: tuple[Run, Dataset]) -> None:
    run, dataset = trained
    variants = [substitution(dataset, p) for p in (1, 7, 500, 501, 12_000, 29_990, 30_000)]
    variants.insert(3, substitution(dataset, 500, 3))  # more than one base: whole windows
    scorer = member(run, batch_size=2)
    reference, change = scorer.changes.of(variants, dataset.genome)
    for variant, latent, found in zip(variants, reference, change):
        start = variant.start + len(variant.ref) // 2 - scorer.changes.centre
        assert np.allclose(found, plain(run, dataset, variant, start), atol=2e-6)
        window = dataset.genome.codes("chr2", start, start + run.model.window)[None]
        assert np.allclose(latent, scorer.predictor.latents(window)[0], atol=2e-6)


def test_grid_changes_are_means_over_the_bins_near_by(trained: tuple[Run, Dataset]) -> None:
    run, dataset = trained
    scorer, left = member(run, placement="grid"), run.model.left
    edge = 128 * 40
    middle, after, before = (substitution(dataset, p + 1) for p in (edge + 64, edge + EDGE - 1, edge - EDGE))
    far, first, last = (substitution(dataset, p + 1) for p in (edge + EDGE, 0, 29_999))
    _, change = scorer.changes.of([middle, after, before, far, first, last], dataset.genome)
    assert np.allclose(change[0], plain(run, dataset, middle, edge - left), atol=2e-6)
    for found, variant in ((change[1], after), (change[2], before)):
        both = [plain(run, dataset, variant, edge + shift - left) for shift in (0, -128)]
        assert np.allclose(found, np.mean(both, axis=0), atol=2e-6)
    assert np.allclose(change[3], plain(run, dataset, far, edge - left), atol=2e-6)
    assert np.allclose(change[4], plain(run, dataset, first, -left), atol=2e-6)  # no bin before the first
    assert np.allclose(change[5], plain(run, dataset, last, 29_999 // 128 * 128 - left), atol=2e-6)


def test_the_batch_and_the_company_do_not_matter(trained: tuple[Run, Dataset]) -> None:
    run, dataset = trained
    variants = [substitution(dataset, p) for p in range(5000, 5400, 7)]
    variants.append(Variant("chr2", 5001, "", "GAT"))
    placements: tuple[Placement, ...] = ("centred", "grid")
    for placement in placements:
        _, together = member(run, placement=placement, batch_size=64).changes.of(variants, dataset.genome)
        scorer = member(run, placement=placement, batch_size=1)
        alone = np.concatenate([scorer.changes.of([variant], dataset.genome)[1] for variant in variants])
        assert np.allclose(together, alone, atol=2e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("placement", ["centred", "grid"])
def test_a_gpu_gives_the_same_changes(trained: tuple[Run, Dataset], placement: Placement) -> None:
    run, dataset = trained
    variants = [*(substitution(dataset, p) for p in range(5000, 5400, 7)), Variant("chr2", 5001, "", "GAT")]
    _, here = member(run, placement=placement).changes.of(variants, dataset.genome)
    _, there = member(run, "cuda", placement=placement).changes.of(variants, dataset.genome)
    _, rounded = member(run, "cuda", placement=placement, precision="tf32").changes.of(variants, dataset.genome)
    run.model.to("cpu")
    assert np.allclose(here, there, atol=1e-4)
    assert np.corrcoef(here.ravel(), rounded.ravel())[0, 1] > 0.99


# -- stretches of bins -------------------------------------------------------------------------------------------------


def world() -> Genome:
    """Two contigs, neither a whole number of bins; 700 unknown bases in the first, the second shorter than a window."""
    rng = np.random.default_rng(1)
    text = "".join(rng.choice(list("ACGT"), 9_000))
    long, short = text[:4_000] + "N" * 700 + text[4_000:], text[-1_000:]
    return Genome({name: np.frombuffer(bases.encode(), np.uint8) for name, bases in (("chr1", long), ("chr2", short))})


def dense(genome: Genome) -> list[Variant]:
    """A substitution every 40 bp from end to end of every contig, some of two bases, and some insertions; in random order."""
    rng, variants = np.random.default_rng(2), list[Variant]()
    for contig, length in genome.lengths.items():
        for place in [0, *range(20, length - 1, 40), length - 1]:
            refs = genome.bases(contig, place, min(place + 1 + (place % 7 == 0), length))
            if "N" not in refs:
                alt = "".join("ACGT"["ACGT".index(base) - int(rng.integers(1, 4))] for base in refs)
                variants.append(Variant(contig, place + 1, refs, alt))
        variants += [Variant(contig, place + 1, "", "GATTACA") for place in (200, 777)]
    return [variants[i] for i in rng.permutation(len(variants))]


def random_model(window: int, order: int = 2, stranded: bool = False, device: str = "cpu") -> Predictor:
    """A model with random weights and norms that do something, in small batches."""
    model = tiny.model(model={"window": window, "kmer": order}).eval()
    model.stranded = stranded
    move_norms([*model.backbone.modules(), model.norm])
    return Predictor(model, device, batch_size=5)


@pytest.mark.parametrize("placement", ["grid", "centred"])
@pytest.mark.parametrize(("order", "stranded"), [(1, False), (3, False), (2, True)])
def test_stretches_give_the_changes_of_a_window_a_bin(placement: Placement, order: int, stranded: bool) -> None:
    """At both ends of a contig, beside unknown bases, across the ends of stretches, on both strands or one."""
    genome, predictor = world(), random_model(2176, order, stranded)
    variants, changes = dense(genome), LatentChanges(predictor, placement)
    assert predictor.most_bins == STRETCH < 9_700 // 128  # more than one stretch
    reference, change = changes.of(variants, genome)
    predictor.most_bins = 1
    alone_reference, alone = changes.of(variants, genome)
    largest = np.abs(alone_reference).max(0)  # of every latent by itself: their sizes differ
    assert (np.abs(reference - alone_reference).max(0) < 1e-5 * largest).all()
    assert (np.abs(change - alone).max(0) < 1e-5 * largest).all()
    assert ((np.abs(alone) > 1e-3 * largest).any(1)).mean() > 0.9  # the substitutions are no dead letter


def test_stretches_give_the_changes_of_full_passes() -> None:
    """Not only those of windows that went through the same code: the reference's bin, and the mean of two near an edge."""
    genome, predictor = world(), random_model(2176)
    changes = LatentChanges(predictor, "grid")
    variants = [variant for variant in dense(genome) if len(variant.ref) == 1]
    reference, change = changes.of(variants, genome)
    scored_twice = 0
    for variant, latent, found in list(zip(variants, reference, change))[:40]:
        before, after = [], []
        for contig, start in changes.windows_of(variant, genome):
            codes = genome.codes(contig, start, start + predictor.window)
            other = codes.copy()
            other[variant.start - start] = encode(variant.alt)[0]
            before.append(predictor.latents(codes[None])[0])
            after.append(predictor.latents(other[None])[0])
        largest = np.abs(before).max()
        assert np.abs(latent - before[0]).max() < 1e-5 * largest
        assert np.abs(found - (np.mean(after, 0) - np.mean(before, 0))).max() < 1e-5 * largest
        scored_twice += len(before) == 2
    assert 5 < scored_twice < 35


@pytest.mark.gpu
def test_a_gpu_gives_the_changes_of_stretches() -> None:
    genome = world()
    variants = dense(genome)
    here, there = (
        LatentChanges(random_model(2176, device=device), "grid").of(variants, genome) for device in ("cpu", "cuda")
    )
    for one, other in zip(here, there):
        assert np.abs(one - other).max() < 1e-4 * np.abs(here[0]).max()


class Counted:
    """A predictor's two passes, which say how many bins of the reference and how many substitutions they were given."""

    def __init__(self, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bins, self.longest, self.substitutions = 0, 0, 0
        reference, substituted = predictor.reference, predictor.substituted

        def counted(codes: Tensor, first: int, last: int) -> tuple[Reference, Tensor]:
            passed, latents = reference(codes, first, last)
            self.bins += len(latents)
            self.longest = max(self.longest, len(latents) // len(codes))
            return passed, latents

        def counted_too(passed: Reference, row: Tensor, *others: Tensor) -> Tensor:
            self.substitutions += len(row)
            return substituted(passed, row, *others)

        monkeypatch.setattr(predictor, "reference", counted)
        monkeypatch.setattr(predictor, "substituted", counted_too)


def test_neighbouring_bins_are_read_once_and_a_substitution_climbs_once_a_stretch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    genome, predictor = world(), random_model(2176)
    bases = genome.bases("chr1", 0, 4_000)
    variants = [Variant("chr1", p, base, "TGCA"["ACGT".index(base)]) for p, base in enumerate(bases, start=1)]
    counted = Counted(predictor, monkeypatch)
    LatentChanges(predictor, "grid").of(variants, genome)
    assert (counted.bins, counted.longest) == (32, 32)  # 4,000 bp lie in 32 bins
    assert counted.substitutions == 4_000  # though half of them are seen in two bins


def test_a_model_that_sees_its_padding_has_a_window_for_every_bin(monkeypatch: pytest.MonkeyPatch) -> None:
    genome, predictor = world(), random_model(1152)
    counted = Counted(predictor, monkeypatch)
    variants = [variant for variant in dense(genome) if len(variant.ref) == 1]
    changes = LatentChanges(predictor, "grid")
    reference, change = changes.of(variants, genome)
    bins = {window for variant in variants for window in changes.windows_of(variant, genome)}
    assert (counted.bins, counted.longest) == (len(bins), 1)
    alone = [changes.of([variant], genome) for variant in variants[:20]]  # nothing of a neighbour comes in
    assert np.abs(reference[:20] - [before[0] for before, _ in alone]).max() < 1e-5 * np.abs(reference).max()
    assert np.abs(change[:20] - [one[0] for _, one in alone]).max() < 1e-5 * np.abs(reference).max()
