"""Variant scoring: the numbers of a plain full pass, the parts that add up, every record out that came in."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pysam
import pytest
import torch

from kit import tiny
from mfd_cli.base.errors import DatasetError, GenomeError, OutputError, VariantError
from mfd_cli.core.decompose import decompose
from mfd_cli.core.onehot import other_strand
from mfd_cli.dataset.folder import Dataset
from mfd_cli.genome.sequence import Genome, encode
from mfd_cli.runs.choose_genome import choose_genome
from mfd_cli.runs.folder import Run
from mfd_cli.variants import records as module
from mfd_cli.variants.effects import Effects
from mfd_cli.variants.options import ScoreOptions
from mfd_cli.variants.score import score_variants
from mfd_cli.variants.scorer import Scorer

HEADER = "##fileformat=VCFv4.2\n##contig=<ID=chr2,length=30000>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def base(genome: Genome, position: int, length: int = 1) -> str:
    return genome.bases("chr2", position - 1, position - 1 + length)


def other(letter: str) -> str:
    return "ACGT"["ACGT".index(letter) - 1]


def write_vcf(path: Path, rows: list[tuple[int, str, str]], info: str = ".", contig: str = "chr2") -> Path:
    lines = [f"{contig}\t{p}\tv{i}\t{ref}\t{alt}\t50\tPASS\t{info}\n" for i, (p, ref, alt) in enumerate(rows)]
    path.write_text(HEADER.replace("chr2", contig) + "".join(lines))
    return path


def score(trained: tuple[Run, Dataset], folder: Path, source: Path, **options: object) -> dict[str, list[object]]:
    run, dataset = trained
    score_variants(run, dataset.genome, source, ScoreOptions(folder / "out.vcf.gz", force=True, **options))  # type: ignore[arg-type]
    return pq.read_table(folder / "out.parquet").to_pydict()


def plain_change(
    run: Run, genome: Genome, position: int, ref: str, alt: str
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Change of every logit and of its parts by two full passes per strand over whole windows."""
    width, centre = run.model.window, run.model.left + 64
    start = position - 1 - centre
    reference = genome.codes("chr2", start, start + width)
    changed = reference.copy()
    changed[centre : centre + len(ref)] = encode(alt)
    with torch.inference_mode():
        latents = []
        for codes in (reference, changed):
            one = torch.from_numpy(codes.copy())[None]
            latents.append((run.model.latent(one) + run.model.latent(other_strand(one))) / 2)
        before, after = (run.model.parts(latent) for latent in latents)
        parts = {name: (after.groups[name] - before.groups[name])[0].numpy() for name in after.groups}
        parts["shared"] = (after.shared - before.shared)[0].numpy()
        return (after.total() - before.total())[0].numpy(), parts


def test_substitutions_score_as_in_plain_full_passes(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    positions = [5, 3000, 3001, 12345, 29_999]  # both ends of the contig too
    rows = [(p, base(dataset.genome, p), other(base(dataset.genome, p))) for p in positions]
    table = score(trained, tmp_path, write_vcf(tmp_path / "a.vcf", rows), per_track=True)
    for i, (position, ref, alt) in enumerate(rows):
        total, parts = plain_change(run, dataset.genome, position, ref, alt)
        assert [table[f"track.{track.id}"][i] for track in run.tracks] == pytest.approx(total.tolist(), abs=1e-4)
        top = int(np.abs(total[:8]).argmax())
        assert table["MFD_MAX_DLOGIT"][i] == pytest.approx(total[top], abs=1e-4)
        assert table["MFD_TRACK"][i] == run.tracks[top].id
        assert table["MFD_SHARED"][i] == pytest.approx(parts["shared"][0], abs=1e-4)
        weights = run.model.track_weights(["biological"])
        bio = np.sqrt((parts["biological"] ** 2 * weights).sum())
        assert table["MFD_BIO"][i] == pytest.approx(bio, abs=1e-4)
        rest = np.sqrt(((parts["shared"] + parts["biological"]) ** 2 * weights).sum())
        assert table["MFD_DEBIASED"][i] == pytest.approx(rest, abs=1e-4)


def test_probabilities_and_level_changes(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    ref = base(dataset.genome, 3000)
    table = score(trained, tmp_path, write_vcf(tmp_path / "a.vcf", [(3000, ref, other(ref))]))
    p, q = table["ref_probability"][0], table["alt_probability"][0]
    assert np.log(q / (1 - q)) - np.log(p / (1 - p)) == pytest.approx(table["MFD_MAX_DLOGIT"][0], abs=1e-4)
    scorer = Scorer(run).members[0]
    names = [name for name in table if name.startswith("level.")]
    assert names == scorer.level_names
    assert {"level.target=CTCF", "level.assay=CUT&RUN", "level.lab=(missing)"} <= set(names)
    direction = decompose(run.model).direction("target", "CTCF")
    position = scorer.level_names.index("level.target=CTCF")
    assert np.allclose(scorer.level_matrix[position, run.model.slices["biological"]], direction)


def test_every_record_comes_out_and_nothing_else_changes(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    genome, a = dataset.genome, base(dataset.genome, 500)
    wrong = other(a)
    lines = [
        f"chr2\t500\trs1\t{a}\t{wrong},<DEL>,*\t.\tq10\tDP=3;MFD_BIO=9;X\tGT:AD\t0/1:1,2\n",
        f"chr2\t600\t.\t{base(genome, 600, 4)}\t{base(genome, 600)}\t.\t.\t.\tGT\t./.\n",
        f"chr2\t700\t.\t{base(genome, 700)}\t{base(genome, 700)}TTT\t.\t.\tEND=700\tGT\t0|1\n",
        f"chr2\t800\t.\t{other(base(genome, 800))}\t{base(genome, 800)}\t.\t.\t.\tGT\t0\n",
        "chr2\t900\t.\tN\tN]chr1:5]\t.\t.\tSVTYPE=BND\tGT\t0\n",
        "chr9\t5\t.\tA\tC\t.\t.\t.\tGT\t0\n",
        f"chr2\t950\t.\t{base(genome, 950)}\t.\t.\t.\t.\tGT\t0\n",
    ]
    source = tmp_path / "a.vcf"
    source.write_text(HEADER.rstrip("\n") + "\tFORMAT\tS1\n" + "".join(lines))
    summary = score_variants(run, genome, source, ScoreOptions(tmp_path / "out.vcf"))
    assert (summary.records, summary.alleles, summary.scored) == (7, 9, 3)
    written = [line for line in (tmp_path / "out.vcf").read_text().splitlines() if not line.startswith("#")]
    assert len(written) == 7
    for old, new in zip(lines, written):
        before, after = old.rstrip("\n").split("\t"), new.split("\t")
        assert after[:7] + after[8:] == before[:7] + before[8:]
        kept = [entry for entry in after[7].split(";") if not entry.startswith("MFD_")]
        assert kept == [e for e in before[7].split(";") if e != "." and not e.startswith("MFD_")] or kept == ["."]
    first = dict(entry.partition("=")[::2] for entry in written[0].split("\t")[7].split(";"))
    assert first["MFD_BIO"].endswith(",.,.") and first["MFD_TRACK"].count(",") == 2
    assert "MFD" not in written[3] and "MFD" not in written[4]
    skipped = (tmp_path / "out.skipped.tsv").read_text()
    reasons = [line.split("\t")[-1] for line in skipped.splitlines()[1:]]
    assert len(reasons) == 6
    for words in ("symbolic", "overlapping deletion", "REF is", "breakend", "no such contig", "no alternate"):
        assert any(words in reason for reason in reasons), words
    table = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert table["alt"] == [wrong, base(genome, 600), base(genome, 700) + "TTT"]


def test_spelling_does_not_matter(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    """A padded substitution is the same variant; so is an alias of the contig; so is lower case."""
    genome = trained[1].genome
    a = base(genome, 3000)
    plain = score(trained, tmp_path, write_vcf(tmp_path / "a.vcf", [(3000, a, other(a))]))
    padded = [(2998, base(genome, 2998, 4).lower(), base(genome, 2998, 2) + other(a) + base(genome, 3001))]
    again = score(trained, tmp_path, write_vcf(tmp_path / "b.vcf", padded, contig="2"))
    for name in ("MFD_MAX_DLOGIT", "MFD_BIO", "MFD_SHARED", "key"):
        assert again[name] == plain[name]


def test_every_spelling_of_an_indel_has_one_score_and_one_key(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    """In a repeat: at its left end, at its right end, padded, and as an allele of a record with others."""
    genome = trained[1].genome
    text = genome.bases("chr2", 0, 30_000)
    at = text.index("GATA" * 6)  # a planted motif: a tandem repeat
    end = at
    while text[end : end + 4] == "GATA":
        end += 4
    left = (at, text[at - 1 : at + 4], text[at - 1])
    right = (end - 4, text[end - 5 : end], text[end - 5])
    padded = (at - 2, text[at - 3 : end + 3], text[at - 3 : at] + text[at + 4 : end + 3])
    with_others = (at, text[at - 1 : at + 4], f"{text[at - 1]},{text[at - 1 : at + 4]}GGG")
    table = score(trained, tmp_path, write_vcf(tmp_path / "a.vcf", sorted([left, right, padded, with_others])))
    same = [i for i, alt in enumerate(table["alt"]) if not str(alt).endswith("GGG")]
    assert len(same) == 4
    for name in ("MFD_MAX_DLOGIT", "MFD_BIO", "MFD_SHARED", "key"):
        assert len({table[name][i] for i in same}) == 1, name
    assert abs(float(table["MFD_MAX_DLOGIT"][same[0]])) > 0.01  # type: ignore[arg-type]


def test_the_output_is_indexed_and_bcftools_reads_it_in_silence(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    genome = trained[1].genome
    rows = [(p, base(genome, p), other(base(genome, p))) for p in range(1000, 2000, 50)]
    score(trained, tmp_path, write_vcf(tmp_path / "a.vcf", rows))
    with pysam.VariantFile(str(tmp_path / "out.vcf.gz")) as file:
        assert sum(1 for _ in file.fetch("chr2", 1000, 1500)) == 10
    if shutil.which("bcftools"):
        words = ["bcftools", "view", "-H", "-r", "chr2:1050-1100", str(tmp_path / "out.vcf.gz")]
        told = subprocess.run(words, capture_output=True, text=True, check=True)
        assert told.stderr == "" and len(told.stdout.splitlines()) == 2
        words = ["bcftools", "query", "-f", "%MFD_BIO\n", str(tmp_path / "out.vcf.gz")]
        assert len(subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()) == 20


def test_a_header_without_contigs_gets_them(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    genome = trained[1].genome
    source = write_vcf(tmp_path / "a.vcf", [(500, base(genome, 500), other(base(genome, 500)))])
    source.write_text(source.read_text().replace("##contig=<ID=chr2,length=30000>\n", ""))
    score(trained, tmp_path, source)
    with pysam.VariantFile(str(tmp_path / "out.vcf.gz")) as file:
        assert list(file.header.contigs) == ["chr1", "chr2"]


def test_the_same_input_gives_the_same_bytes(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    genome = trained[1].genome
    rows = [(p, base(genome, p), other(base(genome, p))) for p in range(1000, 2000, 100)]
    source, seen = write_vcf(tmp_path / "a.vcf", rows), []
    for _ in range(2):
        score(trained, tmp_path, source)
        seen.append([(tmp_path / name).read_bytes() for name in ("out.vcf.gz", "out.parquet", "out.skipped.tsv")])
    assert seen[0] == seen[1]


def test_unsorted_input_stays_unsorted_and_has_no_index(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    rows = [(p, base(dataset.genome, p), other(base(dataset.genome, p))) for p in (900, 800)]
    summary = score_variants(
        run, dataset.genome, write_vcf(tmp_path / "a.vcf", rows), ScoreOptions(tmp_path / "o.vcf.gz")
    )
    assert any("not sorted" in text for text in summary.warnings)
    assert not (tmp_path / "o.vcf.gz.tbi").exists()


@pytest.mark.parametrize("kind", ["mismatches", "contigs", "broken"])
def test_what_stops_scoring_leaves_nothing(trained: tuple[Run, Dataset], tmp_path: Path, kind: str) -> None:
    run, dataset = trained
    source = tmp_path / "in" / "a.vcf"
    source.parent.mkdir()
    rows = [(p, base(dataset.genome, p), other(base(dataset.genome, p))) for p in range(1000, 1400, 10)]
    if kind == "mismatches":
        write_vcf(source, [(p, alt, ref) for p, ref, alt in rows])
        error, message = VariantError, r"40 of 40 reference alleles are not in the genome \(line 4: REF is"
    elif kind == "contigs":
        write_vcf(source, rows, contig="scaffold7")
        error, message = GenomeError, "scaffold7.* against chr1, chr2"
    else:
        source = write_vcf(source, rows)
        source.write_text(source.read_text() + "chr2\tx\t.\tA\tC\t.\t.\t.\n")
        error, message = VariantError, ":44: POS is not a whole number"
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(error, match=message):
        score_variants(run, dataset.genome, source, ScoreOptions(out / "o.vcf.gz"))
    assert list(out.iterdir()) == []


def test_an_existing_output_is_kept(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    (tmp_path / "o.vcf").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        score_variants(run, dataset.genome, write_vcf(tmp_path / "a.vcf", []), ScoreOptions(tmp_path / "o.vcf"))
    assert (tmp_path / "o.vcf").read_text() == "mine"


def substitution(genome: Genome, position: int) -> tuple[int, str, str]:
    return position, base(genome, position), other(base(genome, position))


def test_an_older_index_never_stays_beside_a_new_output(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    one, two = (substitution(dataset.genome, p) for p in (800, 900))
    score_variants(run, dataset.genome, write_vcf(tmp_path / "a.vcf", [one, two]), ScoreOptions(tmp_path / "o.vcf.gz"))
    assert (tmp_path / "o.vcf.gz.tbi").exists()
    source = write_vcf(tmp_path / "a.vcf", [two, one])
    summary = score_variants(run, dataset.genome, source, ScoreOptions(tmp_path / "o.vcf.gz", force=True))
    assert sorted(path.name for path in summary.outputs) == ["o.parquet", "o.skipped.tsv", "o.vcf.gz"]
    assert not (tmp_path / "o.vcf.gz.tbi").exists()


@pytest.mark.parametrize(("position", "index"), [(600_000_000, "csi"), (9_999_999_999, None)])
def test_a_position_too_large_for_the_index_costs_no_score(
    trained: tuple[Run, Dataset], tmp_path: Path, position: int, index: str | None
) -> None:
    run, dataset = trained
    source = write_vcf(tmp_path / "a.vcf", [substitution(dataset.genome, 500), (position, "A", "C")])
    summary = score_variants(run, dataset.genome, source, ScoreOptions(tmp_path / "o.vcf.gz"))
    assert (summary.records, summary.scored, summary.skipped) == (2, 1, {"not within the contig": 1})
    assert [path.suffix for path in tmp_path.glob("o.vcf.gz.*")] == ([f".{index}"] if index else [])
    assert bool(summary.warnings) == (index is None)


def test_mismatches_are_judged_over_the_whole_file(
    trained: tuple[Run, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad stretch at the start does not make the assembly wrong; a file that is plainly wrong stops at once."""
    run, dataset = trained
    monkeypatch.setattr(module, "CHUNK", 20)
    good = [substitution(dataset.genome, p) for p in range(1000, 3000, 10)]
    bad = [(p, alt, ref) for p, ref, alt in (substitution(dataset.genome, p) for p in range(500, 580, 10))]
    source = write_vcf(tmp_path / "a.vcf", [*bad, *good])
    summary = score_variants(run, dataset.genome, source, ScoreOptions(tmp_path / "o.vcf"))
    assert (summary.scored, summary.skipped) == (200, {"reference mismatch": 8})
    with pytest.raises(VariantError, match="20 of 208 reference"):
        source = write_vcf(tmp_path / "b.vcf", [*good[:188], *[(p, alt, ref) for p, ref, alt in good[:20]]])
        score_variants(run, dataset.genome, source, ScoreOptions(tmp_path / "p.vcf"))
    with pytest.raises(VariantError, match="20 of 20 reference"):
        source = write_vcf(tmp_path / "c.vcf", [*[(p, alt, ref) for p, ref, alt in good[:20]], *good])
        score_variants(run, dataset.genome, source, ScoreOptions(tmp_path / "p.vcf"))


def test_the_input_is_never_replaced(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    source = write_vcf(tmp_path / "a.vcf", [substitution(dataset.genome, 500)])
    before = source.read_bytes()
    with pytest.raises(OutputError, match="is the input itself"):
        score_variants(run, dataset.genome, source, ScoreOptions(source, force=True))
    assert source.read_bytes() == before


@pytest.mark.parametrize("fault", ["missing", "flipped"])
def test_a_damaged_genome_is_not_scored_on(tmp_path: Path, fault: str) -> None:
    dataset = tiny.dataset(tmp_path / "dataset")
    project, about = tiny.project(tmp_path), {"genome_digest": dataset.manifest["genome_digest"]}
    run = Run(tmp_path / "run", project.config, tiny.model(), (), None, about)  # type: ignore[arg-type]
    assert choose_genome(project, run, None)[0].digest() == about["genome_digest"]
    file = tmp_path / "dataset" / "genome.arrow"
    whole = bytearray(file.read_bytes())
    file.unlink()
    if fault == "flipped":
        whole[len(whole) // 2] ^= 6
        file.write_bytes(whole)
    with pytest.raises(DatasetError, match="is missing or damaged"):
        choose_genome(project, run, None)


def test_a_file_without_records_gives_a_table_with_its_columns(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    empty = score(trained, tmp_path, write_vcf(tmp_path / "a.vcf", []))
    full = score(trained, tmp_path, write_vcf(tmp_path / "b.vcf", [substitution(trained[1].genome, 500)]))
    assert list(empty) == list(full) and len(empty["MFD_BIO"]) == 0


def test_scoring_again_replaces_the_fields(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    rows = [substitution(dataset.genome, 500), (600, base(dataset.genome, 600), "*")]
    score_variants(run, dataset.genome, write_vcf(tmp_path / "a.vcf", rows, "DP=3"), ScoreOptions(tmp_path / "o.vcf"))
    score_variants(run, dataset.genome, tmp_path / "o.vcf", ScoreOptions(tmp_path / "p.vcf"))
    assert (tmp_path / "p.vcf").read_bytes() == (tmp_path / "o.vcf").read_bytes()


def test_a_free_head_has_no_groups_and_a_signal_no_probability(tmp_path: Path) -> None:
    world = tiny.genome()
    about = {"genome_digest": world.digest(), "trained_on": ["chr1"], "weights_sha256": "0"}
    tracks = tuple(dataclasses.replace(t, kind="signal") for t in tiny.dataset(tmp_path / "d", tracks=8).tracks[:8])
    free = tiny.model(model={"head": "free"})
    run = Run(tmp_path, tiny.config(model={"head": "free"}), free, tracks, None, about)  # type: ignore[arg-type]
    score_variants(
        run, world, write_vcf(tmp_path / "a.vcf", [substitution(world, 500)]), ScoreOptions(tmp_path / "o.vcf")
    )
    header = (tmp_path / "o.vcf").read_text()
    assert "head=free" in header and "MFD_MAX_DLOGIT=" in header and "MFD_BIO" not in header
    table = pq.read_table(tmp_path / "o.parquet").to_pydict()
    assert np.isnan(table["ref_probability"][0]) and table["MFD_TRACK"][0].startswith("P")


def test_the_technical_part_and_the_rest_are_compared_with_the_same_weights(trained: tuple[Run, Dataset]) -> None:
    """In every track the technical part is 3 % smaller than the rest, or larger, so that no choice of tracks may matter."""
    scorer = Scorer(trained[0])
    tracks = len(scorer.panel.ids)
    uneven = scorer.group_weights["technical"]
    assert uneven.max() > 1.1 * scorer.debiased_weights[uneven.argmax()]  # on these tracks alone it would look larger
    change = np.random.default_rng(0).normal(size=(12, tracks)).astype(np.float32)
    change[:6] *= uneven == uneven.max()
    for size, flag in ((0.97, "."), (1.03, "mostly_technical")):
        groups = {"biological": change, "technical": -np.float32(size) * change}
        effects = Effects(np.zeros_like(change), np.zeros(12, np.float32), groups, np.zeros((12, 0), np.float32), {})
        flags = scorer.flags(effects, np.zeros(12, np.intp))
        assert [text.replace("&extrapolated", "") for text in flags] == [flag] * 12
