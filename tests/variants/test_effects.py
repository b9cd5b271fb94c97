"""What variants change in a trained model: precision, indels, saturation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from kit import tiny
from mfd_cli.base.errors import ConfigError, GenomeError
from mfd_cli.base.threads import ahead, in_background
from mfd_cli.core.predictor import Predictor
from mfd_cli.dataset.folder import Dataset
from mfd_cli.genome.alleles import Variant, slide
from mfd_cli.genome.sequence import Genome, encode
from mfd_cli.runs.folder import Run
from mfd_cli.variants.effects import ScoreSettings
from mfd_cli.variants.options import ScoreOptions
from mfd_cli.variants.saturate import Stretch, cut, saturate, stretches_of
from mfd_cli.variants.score import score_variants
from mfd_cli.variants.scorer import Scorer
from mfd_cli.variants.sites import SiteOptions
from variants.test_changes import member, substitution


def test_half_precision_says_how_far_it_agrees(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    some = [substitution(dataset, p) for p in range(900, 940)]
    lines = [f"chr2\t{v.position}\t.\t{v.ref}\t{v.alt}\t.\t.\t.\n" for v in some]
    header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (tmp_path / "a.vcf").write_text(header + "".join(lines))
    half = ScoreSettings(precision="bf16")
    summary = score_variants(run, dataset.genome, tmp_path / "a.vcf", ScoreOptions(tmp_path / "o.vcf"), settings=half)
    (remark,) = summary.warnings
    rough = pq.read_table(tmp_path / "o.parquet")["MFD_MAX_DLOGIT"].to_numpy()
    exact = Scorer(run).columns(some, dataset.genome)["MFD_MAX_DLOGIT"]
    assert not np.array_equal(rough, exact)
    most, correlation = np.abs(rough - exact).max(), np.corrcoef(rough, exact)[0, 1]
    assert "scored in bf16" in remark and f"at most {most:.2g}, r = {correlation:.4f}" in remark
    # bfloat16 keeps 8 bits: a latent is off by about 1/256 of its size, and so a score by little of what logits are.
    logits = Predictor(run.model).head.logits(member(run).changes.of(some, dataset.genome)[0])
    assert most < 0.05 * np.abs(logits).max()
    assert "precision=bf16" in (tmp_path / "o.vcf").read_text()
    with pytest.raises(ConfigError, match="tf32 is a format of CUDA"):
        member(run, precision="tf32")


# -- indels ------------------------------------------------------------------------------------------------------------


def quiet_places(dataset: Dataset, count: int) -> list[int]:
    """Places (0-based) on chr2 with no planted motif within 110 bp."""
    bases, found = dataset.genome.bases("chr2", 0, 30_000), list[int]()
    for at in range(1000, 29_000, 97):
        if len(found) < count and not any(m[:12] in bases[at - 110 : at + 110] for m in tiny.MOTIFS.values()):
            found.append(at)
    assert len(found) == count
    return found


def largest(run: Run, variants: list[Variant], genome: Genome) -> np.ndarray:
    """Change of the most affected track's logit."""
    return np.asarray(Scorer(run).columns(variants, genome)["MFD_MAX_DLOGIT"])


def test_an_insertion_that_makes_a_motif_scores_like_the_substitution(trained: tuple[Run, Dataset]) -> None:
    run, dataset = trained
    places = quiet_places(dataset, 12)
    inserted, substituted = list[Variant](), list[Variant]()
    for i, at in enumerate(places):
        motif = list(tiny.MOTIFS.values())[i % 2]
        inserted.append(Variant("chr2", at + 1, "", motif))
        ref = dataset.genome.bases("chr2", at - len(motif) // 2, at + len(motif) - len(motif) // 2)
        substituted.append(Variant("chr2", at - len(motif) // 2 + 1, ref, motif).trimmed())
    one, other = (largest(run, some, dataset.genome) for some in (inserted, substituted))
    assert np.abs(other).min() > 0.5 and np.array_equal(np.sign(one), np.sign(other))
    ratio = one / other
    assert 0.7 < np.median(ratio) < 1.3 and ratio.min() > 0.4


def test_a_neutral_indel_scores_near_nothing(trained: tuple[Run, Dataset]) -> None:
    """More or less of what stands there already, beside what a motif does, and beside the change without compensation."""
    run, dataset = trained
    genome, rng, variants = dataset.genome, np.random.default_rng(0), list[Variant]()
    for at in quiet_places(dataset, 60):
        size = int(rng.integers(1, 7))
        here = genome.bases("chr2", at, at + size)
        variants.append(Variant("chr2", at + 1, *(("", here) if at % 2 else (here, ""))))
    size = np.abs(largest(run, variants, genome))
    motif = np.abs(
        largest(run, [Variant("chr2", at + 1, "", tiny.MOTIFS["CTCF"]) for at in quiet_places(dataset, 5)], genome)
    )
    assert np.median(size) < 0.15 * np.median(motif)
    worker = member(run)
    plain = []
    for variant in variants:  # one window of each haplotype, the left edges together
        codes = genome.codes("chr2", variant.start - worker.changes.centre, variant.start + 2 * worker.predictor.window)
        at = worker.changes.centre
        other = np.concatenate([codes[:at], encode(variant.alt), codes[at + len(variant.ref) :]])
        pair = np.stack([codes[: worker.predictor.window], other[: worker.predictor.window]])
        change = np.diff(worker.predictor.latents(pair), axis=0)
        plain.append(np.abs(change @ worker.panel.head.matrix()[:8].T).max())
    assert np.median(size) < 0.75 * np.median(plain)


def test_the_way_back_has_the_other_sign(trained: tuple[Run, Dataset]) -> None:
    run, dataset = trained
    genome = dataset.genome
    bases = genome.bases("chr2", 0, 30_000)
    for at, inserted in ((5000, "GATAGATAGA"), (7321, "C"), (9000, "ACGTTGCA" * 5)):
        there = Genome({"chr2": np.frombuffer((bases[:at] + inserted + bases[at:]).encode(), np.uint8)})
        (forth,) = largest(run, [Variant("chr2", at + 1, "", inserted)], genome)
        (back,) = largest(run, [Variant("chr2", at + 1, inserted, "")], there)
        assert back == pytest.approx(-forth, abs=1e-5) and abs(forth) > 1e-5


def test_both_strands_give_an_indel_one_score(trained: tuple[Run, Dataset]) -> None:
    """On the reverse complement of the genome, wherever the indel can be written at an odd number of places."""
    run, dataset = trained
    bases = dataset.genome.bases("chr2", 0, 30_000)
    other = Genome({"chr2": np.frombuffer(bases[::-1].translate(str.maketrans("ACGT", "TGCA")).encode(), np.uint8)})
    seen = 0
    for at in range(3000, 3040):
        variant = Variant("chr2", at + 1, "", "GATAC")
        if sum(slide(variant, dataset.genome)) % 2:
            continue
        seen += 1
        flipped = Variant("chr2", 30_000 - at + 1, "", "GTATC")
        one, two = largest(run, [variant], dataset.genome), largest(run, [flipped], other)
        assert one == pytest.approx(two, abs=1e-5)
    assert seen > 10


# -- saturation --------------------------------------------------------------------------------------------------------


def test_saturation_is_every_substitution_in_grid_placement(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    summary = saturate(run, dataset.genome, "chr2:1001-1200", SiteOptions(tmp_path / "a.parquet", per_track=True))
    table = pq.read_table(tmp_path / "a.parquet").to_pydict()
    assert (summary.positions, summary.scored, summary.unknown) == (200, 600, 0)
    assert table["position"] == [p for p in range(1001, 1201) for _ in range(3)]
    assert "".join(table["ref"][::3]) == dataset.genome.bases("chr2", 1000, 1200)
    assert all(len({r, *alts}) == 4 for r, *alts in zip(table["ref"][::3], *(table["alt"][i::3] for i in range(3))))
    variants = [Variant("chr2", p, r, a) for p, r, a in zip(table["position"], table["ref"], table["alt"])]
    columns = Scorer(run, settings=ScoreSettings("grid")).columns(variants[::50], dataset.genome, per_track=True)
    for name in columns:
        told = [table[name][i] for i in range(0, 600, 50)]
        words = name in ("MFD_TRACK", "MFD_FLAGS")
        assert told == list(columns[name]) if words else np.allclose(told, columns[name], atol=1e-5)


def test_regions() -> None:
    genome = tiny.genome()
    assert list(cut(Stretch("chr1", 100, 300))) == [
        Stretch("chr1", 100, 128),
        Stretch("chr1", 128, 256),
        Stretch("chr1", 256, 300),
    ]
    assert list(cut(Stretch("chr1", 128, 256))) == [Stretch("chr1", 128, 256)]
    assert stretches_of("all", genome) == [Stretch(name, 0, length) for name, length in genome.lengths.items()]
    assert stretches_of("1:1-5", genome) == [Stretch("chr1", 0, 5)]
    assert stretches_of("chr2", genome) == [Stretch("chr2", 0, genome.lengths["chr2"])]
    assert stretches_of("chr1:7", genome) == [Stretch("chr1", 6, 7)]
    for wrong in ("chr9", "chr1:0-5", "chr1:9-5", "chr1:", ":1-2"):
        with pytest.raises(GenomeError, match="region"):
            stretches_of(wrong, genome)


# -- two things at once ------------------------------------------------------------------------------------------------


def test_reading_ahead_keeps_order_and_errors() -> None:
    assert list(ahead(range(100))) == list(range(100))

    def broken() -> object:
        yield 1
        raise ValueError("here")

    items = ahead(broken())  # type: ignore[arg-type]
    assert next(items) == 1
    with pytest.raises(ValueError, match="here"):
        next(items)
    endless = ahead(iter(int, 1))
    next(endless)
    endless.close()  # type: ignore[attr-defined]


def test_writing_behind_keeps_order_and_errors() -> None:
    seen: list[int] = []
    with in_background() as later:
        for i in range(50):
            later(seen.append, i)
    assert seen == list(range(50))
    with pytest.raises(ZeroDivisionError), in_background() as later:
        later(lambda: 1 // 0)
