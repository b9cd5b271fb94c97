"""Explanations: contributions that add up, attributions that agree with mutagenesis, files that open, an inert page."""

from __future__ import annotations

import hashlib
import html.parser
import itertools
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyBigWig
import pytest
import torch
from sklearn.metrics import roc_auc_score

from kit import tiny
from mfd_cli.base.errors import ConfigError
from mfd_cli.base.stored_json import DIGEST, write_stored
from mfd_cli.core.attribute import actual, attribute, scores_of
from mfd_cli.core.decompose import background_rows, decompose
from mfd_cli.core.head import ConditionedHead
from mfd_cli.core.model import MfdModel
from mfd_cli.core.onehot import one_hot, other_strand
from mfd_cli.core.predictor import Predictor
from mfd_cli.core.seqlets import aggregate_motif
from mfd_cli.dataset.bins import Bins
from mfd_cli.dataset.folder import Dataset, write_tracks
from mfd_cli.explain.direction import explain_latents, explain_track
from mfd_cli.explain.factor import explain
from mfd_cli.explain.ground import bins_to_look_at
from mfd_cli.explain.level_tables import add_agreement
from mfd_cli.explain.overview import explain_all
from mfd_cli.explain.pictures import draw_logos, faint_together
from mfd_cli.explain.results import Look
from mfd_cli.explain.shares import interval, resampling_units, share_draws
from mfd_cli.formats.motif_files import write_meme
from mfd_cli.genome.sequence import encode, gc_share
from mfd_cli.runs.at_work import bin_latents, labels_of
from mfd_cli.runs.folder import Run
from mfd_cli.simulate.built_in_motifs import built_in
from mfd_cli.training.train import train

# -- the decomposition -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["direct", "interact", "both"])
@pytest.mark.parametrize("gain", [False, True])
def test_contributions_add_up_to_the_weights_and_the_logit(role: str, gain: bool) -> None:
    factors = {**tiny.FACTORS, "assay": {**tiny.FACTORS["assay"], "role": role}}
    model = tiny.model(tracks=12, trained=[True] * 10 + [False] * 2, factors=factors, model={"gain": gain})
    if gain:
        torch.nn.init.normal_(model.head.gain)  # type: ignore[arg-type]
    parts = decompose(model)
    head = Predictor(model).head
    for group in model.groups:
        total = sum(parts.factors[name] for name in parts.factors if parts.group_of[name] == group)
        assert np.allclose(total, head.groups[group], atol=1e-6)
    latents = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    logits = head.bias + head.shared_part(latents)[:, None]
    for name, phi in parts.factors.items():
        logits = logits + latents[:, head.slices[parts.group_of[name]]] @ phi.T
    assert np.allclose(logits, head.logits(latents), atol=1e-5)


def test_shapley_values_are_those_over_all_orders() -> None:
    """Against the definition: the mean over all orders of what a factor adds when it joins."""
    factors = {name: {**tiny.FACTORS[name], "group": "biological"} for name in ("target", "tissue", "lab")}
    model = tiny.model(tracks=12, factors=factors)
    head = model.head
    assert isinstance(head, ConditionedHead)
    names, rows = list(factors), background_rows(model, list(factors), 48, 0)
    codes = head.track_codes("biological")

    def value(track: int, replaced: set[str]) -> torch.Tensor:
        mixed = {n: codes[n][[track] * len(rows)] if n in replaced else codes[n][rows] for n in names}
        return head.network("biological")(mixed).mean(0)

    phi = torch.zeros(12, 16 - model.settings.groups["technical"])
    for track, order in itertools.product(range(12), itertools.permutations(names)):
        place = order.index("tissue")
        gained = value(track, set(order[: place + 1])) - value(track, set(order[:place]))
        phi[track] += gained / math.factorial(3)
    expected = (phi - phi.mean(0)).detach().numpy()
    assert np.allclose(decompose(model).factors["tissue"], expected, atol=1e-5)


def test_sampled_orders_add_up_and_agree_with_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group with too many factors: the sum is exact, each value within its standard error of the exact one."""
    factors = {name: {**factor, "group": "biological"} for name, factor in tiny.FACTORS.items()}
    model = tiny.model(tracks=12, factors=factors)
    assert isinstance(model.head, ConditionedHead)
    model.head.network("biological").network_push *= 50  # so that factors interact
    exact = decompose(model)
    monkeypatch.setattr("mfd_cli.core.decompose.MOST_FACTORS", 3)
    sampled = decompose(model, orders=64)
    assert exact.errors == dict.fromkeys(factors, 0.0) and all(error > 0 for error in sampled.errors.values())
    total = sum(sampled.factors.values())
    assert np.allclose(total, Predictor(model).head.groups["biological"], atol=1e-5)
    for name, error in sampled.errors.items():
        away = np.sqrt(np.mean((sampled.factors[name] - exact.factors[name]) ** 2))
        assert away < 4 * error and error < 0.05 * np.sqrt(np.mean(exact.factors[name] ** 2))
    assert decompose(model, orders=64).factors["lab"].tolist() == sampled.factors["lab"].tolist()


def test_a_factor_without_effect_gets_no_credit() -> None:
    """Two factors with a constant column beside: tracks that differ only elsewhere have the same contribution."""
    model = tiny.model(tracks=8)
    phi = decompose(model).factors["target"]
    same = [i for i, row in enumerate(model.rows) if row["Target"] == "CTCF" and row["Tissue"] == "liver"]
    assert np.allclose(phi[same], phi[same[0]], atol=1e-6)


def test_directions_and_backgrounds() -> None:
    model = tiny.model(tracks=12, trained=[True] * 11 + [False])
    parts = decompose(model)
    rows = [i for i in range(11) if model.rows[i]["Lab"] == "A"]
    assert np.allclose(parts.direction("lab", "A"), parts.factors["lab"][rows].mean(0), atol=1e-7)
    few = background_rows(model, ["target", "lab"], 4, 0)
    assert len(few) == 4 == len(set(few)) and 11 not in few
    assert few == background_rows(model, ["target", "lab"], 4, 0)


def test_a_free_head_knows_no_factors() -> None:
    with pytest.raises(ConfigError, match="free head"):
        decompose(tiny.model(model={"head": "free"}))


def test_at_complete_confounding_there_is_no_share_of_one_factor(tmp_path: Path) -> None:
    """A lab that did one assay, all of it and nothing else: only the joint share is told."""
    world = tiny.dataset(tmp_path / "dataset")
    told = [replace(t, metadata={**t.metadata, "Lab": t.metadata["Assay"] + " lab"}) for t in world.tracks]
    write_tracks(world.path / "tracks.arrow", told)
    dataset = replace(world, tracks=tuple(told))
    about = json.loads((world.path / "manifest.json").read_text())
    raw = (world.path / "tracks.arrow").read_bytes()
    about["files"]["tracks.arrow"] = {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    about.pop(DIGEST)
    write_stored(world.path / "manifest.json", about)
    run = train(tiny.project(tmp_path), gpus=0)
    summary = explain(run, dataset, "assay", tmp_path / "out", look=Look(top=3))
    rows = pd.read_csv(tmp_path / "out" / "levels.tsv", sep="\t")
    assert rows["share_of_variance"].isna().all() and rows["joint_share"].notna().all()
    assert set(rows["cannot_be_told_from"]) == {"lab = ChIP-seq lab", "lab = CUT&RUN lab"}
    assert any("cannot be told apart from lab = " in sentence for sentence in summary.sentences)
    other = explain(run, dataset, "target", tmp_path / "target", look=Look(top=3))
    assert not any("cannot be told apart from" in sentence for sentence in other.sentences)


# -- on DNA ------------------------------------------------------------------------------------------------------------


def direction_and_codes(run: Run, dataset: Dataset) -> tuple[np.ndarray, slice, np.ndarray]:
    place = run.model.slices["biological"]
    start = 1280 - run.model.left
    codes = np.stack([dataset.genome.codes("chr2", s, s + run.model.window) for s in (start, start + 128)])
    return decompose(run.model).direction("target", "CTCF"), place, codes


def test_gradients_are_those_of_autograd_in_double_precision(trained: tuple[Run, Dataset]) -> None:
    run, dataset = trained
    direction, place, codes = direction_and_codes(run, dataset)
    found = attribute(run.model, codes[:1], direction, place)
    double = run.model.double()
    try:
        bases = (codes[:1, None] == np.arange(4)[None, :, None]).astype(float)
        x = torch.from_numpy(bases).requires_grad_(True)
        both = x, x.flip(1, 2)
        hidden = [
            double.norm(double.backbone(b)[..., 0])[:, place] @ torch.from_numpy(direction).double() for b in both
        ]
        (slope,) = torch.autograd.grad((hidden[0] + hidden[1]).sum() / 2, x)
    finally:
        run.model.float()
    expected = (slope - slope.mean(1, keepdim=True)).numpy()
    assert np.allclose(found, expected, atol=1e-4 * np.abs(expected).max() + 1e-6)
    assert np.abs(found.sum(1)).max() < 1e-5


def test_integrated_gradients_are_complete(trained: tuple[Run, Dataset]) -> None:
    """Contributions sum to the score of the sequence minus that of the baseline, a quarter of each base."""
    run, dataset = trained
    direction, place, codes = direction_and_codes(run, dataset)
    hypothetical = attribute(run.model, codes, direction, place, method="integrated-gradients", steps=256)
    total = actual(hypothetical, codes).sum(1)
    with torch.no_grad():
        flat = torch.full((1, 4, run.model.window), 0.25)
        baseline = float(run.model.latent_of_bases(flat)[0, place] @ torch.from_numpy(direction))
    score = Predictor(run.model).latents(codes)[:, place] @ direction
    # The mean over bases that is subtracted changes nothing: the path's baseline has the same sum at each position.
    assert total == pytest.approx(score - baseline, rel=0.02, abs=0.02 * float(np.abs(score).max()))


@pytest.mark.parametrize("strands", ["both", "forward"])
def test_mutagenesis_is_that_of_full_passes(trained: tuple[Run, Dataset], strands: str) -> None:
    run, dataset = trained
    direction, place, codes = direction_and_codes(run, dataset)
    codes = codes[:1].copy()
    codes[0, 155] = 4
    run.model.stranded = strands == "forward"
    try:
        found = attribute(run.model, codes, direction, place, method="mutagenesis")
        predictor = Predictor(run.model)
        for position in (0, 7, 150, 151, 383):
            mutated = np.repeat(codes, 4, 0)
            mutated[:, position] = range(4)
            scores = predictor.latents(mutated)[:, place] @ direction
            assert np.allclose(found[0, :, position], scores - scores.mean(), atol=1e-4)
    finally:
        run.model.stranded = False
    assert found.shape == (1, 4, run.model.window) and (found[0, :, 155] == 0).all()


def test_gradients_follow_mutagenesis(trained: tuple[Run, Dataset]) -> None:
    run, dataset = trained
    direction, place, codes = direction_and_codes(run, dataset)
    middle = slice(140, 240)
    steps = attribute(run.model, codes[:1], direction, place, method="mutagenesis")[0][:, middle]
    slopes = attribute(run.model, codes[:1], direction, place)[0][:, middle]
    assert np.corrcoef(slopes.ravel(), steps.ravel())[0, 1] > 0.2  # a slope is not a step


def test_integrated_gradients_are_those_of_captum(trained: tuple[Run, Dataset]) -> None:
    captum = pytest.importorskip("captum.attr")
    run, dataset = trained
    direction, place, codes = direction_and_codes(run, dataset)
    bases = torch.from_numpy((codes[:, None] == np.arange(4)[None, :, None]).astype(np.float32))
    weights = torch.from_numpy(direction)

    def score(x: torch.Tensor) -> torch.Tensor:
        both = run.model.latent_of_bases(x) + run.model.latent_of_bases(x.flip(1, 2))
        return both[:, place] @ weights / 2

    theirs = captum.IntegratedGradients(score).attribute(
        bases, torch.full_like(bases, 0.25), n_steps=64, method="riemann_middle"
    )
    ours = attribute(run.model, codes, direction, place, method="integrated-gradients", steps=64)
    # Theirs are gradient x (input - baseline): summed over bases, what the base that is there contributes.
    found, expected = actual(ours, codes), theirs.detach().numpy().sum(1)
    assert np.allclose(found, expected, atol=1e-4 * np.abs(expected).max() + 1e-6)


def test_contributions_are_told_how_far_they_add_up(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    explain(run, dataset, "target", tmp_path / "ig", look=Look(top=2, method="integrated-gradients"))
    table = pd.read_csv(tmp_path / "ig/regions.tsv", sep="\t")
    assert (
        len(table) == 4 and (table["convergence_error"] < 0.05).all() and (table["end"] - table["start"] == 128).all()
    )
    explain(run, dataset, "target", tmp_path / "ism", look=Look(top=2, method="mutagenesis"))
    assert pd.read_csv(tmp_path / "ism/regions.tsv", sep="\t")["convergence_error"].isna().all()


def test_actual_contributions_are_zero_at_unknown_bases() -> None:
    hypothetical = np.arange(12, dtype=np.float32).reshape(1, 4, 3)
    assert actual(hypothetical, encode("CNT")[None]).tolist() == [[3.0, 0.0, 11.0]]


def test_the_aggregate_motif_is_the_planted_one_on_either_strand() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (30, 200)).astype(np.uint8)
    values = rng.normal(0, 0.01, (30, 200)).astype(np.float32)
    for row in range(30):
        motif = encode("GATTACCA" if row % 2 else "TGGTAATC")
        at = int(rng.integers(20, 170))
        codes[row, at : at + 8], values[row, at : at + 8] = motif, 1.0
    found = aggregate_motif(values, codes)
    assert found is not None and found.count >= 28 and found.enrichment > 3
    text = "".join("ACGT"[i] for i in found.frequency.argmax(0))
    assert "GATTACCA" in text or "TGGTAATC" in text
    assert aggregate_motif(np.zeros((5, 100), np.float32), codes[:5, :100]) is None


# -- the folder --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(trained: tuple[Run, Dataset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run, dataset = trained
    output = tmp_path_factory.mktemp("explain") / "target"
    explain(run, dataset, "target", output, look=Look(top=5))
    return output


def test_tables_and_arrays_open_and_agree(trained: tuple[Run, Dataset], folder: Path) -> None:
    run, _ = trained
    levels = pd.read_csv(folder / "levels.tsv", sep="\t")
    assert set(levels["level"]) == {"CTCF", "GATA1"} and levels["tracks"].sum() == 9
    tracks = pd.read_csv(folder / "tracks.tsv", sep="\t")
    shares = tracks[[name for name in tracks if name.startswith("share_")]]
    assert np.allclose(shares.sum(axis=1), 1, atol=1e-3)
    with pa.memory_map(str(folder / "attributions.arrow")) as source:
        table = pa.ipc.open_file(source).read_all()
    assert len(table) == 10 and table.schema.metadata[b"factor"] == b"target"
    first = np.array(table["contributions"][0].as_py(), np.float32).reshape(4, run.model.window)
    level = table["level"][0].as_py()
    stored = np.load(folder / "modisco" / f"{level}.attributions.npz")["arr_0"]
    assert np.array_equal(stored[0], first)
    onehot = np.load(folder / "modisco" / f"{level}.sequences.npz")["arr_0"]
    assert onehot.shape == stored.shape
    contig, start = table["contig"][0].as_py(), table["start"][0].as_py()
    with pyBigWig.open(str(folder / f"{level}.bw")) as file:
        position = start + 64
        there = file.values(contig, position, position + 1)[0]
    assert there == pytest.approx(float((first * onehot[0]).sum(0)[run.model.left + 64]), abs=1e-6)
    latents = pd.read_csv(folder / "latents.tsv", sep="\t")
    assert len(latents) == run.model.settings.groups["biological"]


def test_pictures_and_page_are_whole_and_need_no_network(folder: Path) -> None:
    for stem in ("shares", "directions", "tracks", "level-01", "level-02"):
        assert (folder / f"{stem}.png").read_bytes()[:4] == b"\x89PNG"
        assert (folder / f"{stem}.svg").read_text().lstrip().startswith("<?xml")
    page = (folder / "report.html").read_text()

    class Links(html.parser.HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found = list[str]()

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found += [value or "" for name, value in attrs if name in ("src", "href")]

    links = Links()
    links.feed(page)
    assert links.found and all(link.startswith("data:") for link in links.found)
    assert "What this does not say" in page


def test_values_from_metadata_are_inert_in_the_page(tmp_path: Path) -> None:
    from mfd_cli.report.page import Picture, publish

    harm = "<script>alert(1)</script>"
    rows, picture = [{harm: harm, "share": 0.5}], Picture(harm, f'"{harm}', "")
    about = dict.fromkeys(("tracks", "window", "latents", "auroc", "bins", "split"), harm)
    common: dict[str, Any] = {"warning": harm, "remarks": [harm], "summaries": rows}
    common |= {"title": harm, "footer": harm, "sentences": [harm, harm], "headings": {harm: harm}, "tracks": rows}
    common |= {"motifs": rows, "on_dna": [picture], "overview": [picture], "pictures": [picture], "about": about}
    for name in ("factor", "directions", "overview"):
        page = tmp_path / f"{name}.html"
        publish(page, "mfd_cli.explain", f"{name}.html.j2", **common, levels=rows, parts=rows, rows=rows)
        text = page.read_text("utf-8")
        assert harm not in text and text.count("<script>") == 1 and text.count("&lt;script&gt;") > 8
        assert 'alt="&#34;&lt;script' in text and "__" not in text.partition("<body>")[2].partition("<script>")[0]


def test_regions_of_a_bed_file(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    (tmp_path / "r.bed").write_text("chr2\t1000\t1100\nchr2\t5000\t5001\n")
    explain(run, dataset, "lab", tmp_path / "out", look=Look(regions=tmp_path / "r.bed"))
    with pa.memory_map(str(tmp_path / "out" / "attributions.arrow")) as source:
        table = pa.ipc.open_file(source).read_all()
    assert set(table["start"].to_pylist()) == {1050 - 64, 5000 - 64}


def test_an_unknown_factor_names_the_nearest(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean assay"):
        explain(*trained, "asay", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_levels_that_share_a_file_name_keep_their_files() -> None:
    from mfd_cli.base.files import names_of_files

    assert len(set(names_of_files(["liver/adult", "liver adult", "Liver_adult"]))) == 3


def test_known_motifs_genes_and_profiles_stand_beside(
    trained: tuple[Run, Dataset], tmp_path: Path, every_sketch: None
) -> None:
    """A motif file, a GTF and a bigWig: matches in motifs.tsv and the page, genes in the picture, r in the fingerprint."""
    run, dataset = trained
    write_meme(tmp_path / "known.meme", {name: one.probabilities.T for name, one in built_in().items()})
    contig, length = next(iter(dataset.genome.lengths.items()))
    gtf = tmp_path / "genes.gtf"
    gtf.write_text(
        "".join(
            f'{name}\tx\tgene\t1\t{size}\t.\t+\t.\tgene_id "G{name}"; gene_name "GENE_{name}";\n'
            for name, size in dataset.genome.lengths.items()
        )
    )
    means = np.array([gc_share(dataset.genome.codes(contig, s, s + 128)) for s in range(0, length - 127, 128)])
    with pyBigWig.open(str(tmp_path / "gc.bw"), "w") as file:
        file.addHeader(list(dataset.genome.lengths.items()))
        for name, size in dataset.genome.lengths.items():
            starts = list(range(0, size - 127, 128))
            values = [float(gc_share(dataset.genome.codes(name, s, s + 128))) for s in starts]
            file.addEntries([name] * len(starts), starts, ends=[s + 128 for s in starts], values=values)
    assert 0.2 < means.mean() < 0.8
    look = Look(top=5, motifs=tmp_path / "known.meme", gtf=gtf, profiles={"measured G+C": tmp_path / "gc.bw"})
    explain(run, dataset, "assay", tmp_path / "out", look=look)
    motifs = pd.read_csv(tmp_path / "out" / "motifs.tsv", sep="\t")
    assert set(motifs["known_motif"]) <= set(built_in()) and (motifs["e_value"] > 0).all()
    prints = pd.read_csv(tmp_path / "out" / "fingerprint.tsv", sep="\t").set_index(["level", "feature"])["correlation"]
    for level in ("ChIP-seq", "CUT&RUN"):  # the same quantity by two ways
        assert prints[level, "measured G+C"] == pytest.approx(prints[level, "G+C"], abs=1e-4)
    assert any("GENE" in path.read_text() for path in (tmp_path / "out").glob("*-region.svg"))


def test_agreement_is_the_auroc_of_the_levels_score(trained: tuple[Run, Dataset], folder: Path) -> None:
    run, dataset = trained
    rows = pd.read_csv(folder / "agreement.tsv", sep="\t")
    decomposition = decompose(run.model)
    _, bins = bins_to_look_at(dataset)
    latents = bin_latents(run, dataset, bins)
    labels = labels_of(run, bins).numpy()
    kept = (labels == 1).any(1)
    score = latents[:, run.model.slices["biological"]] @ decomposition.direction("target", "CTCF")
    index = next(i for i, track in enumerate(run.tracks) if track.kind == "peaks" and run.model.trained[i])
    mine = rows[(rows["level"] == "CTCF") & (rows["track"] == run.tracks[index].id)].iloc[0]
    assert mine["agreement"] == pytest.approx(roc_auc_score(labels[kept, index], score[kept]), abs=1e-5)
    assert mine["has_level"] == (run.tracks[index].metadata["Target"] == "CTCF")
    levels = pd.read_csv(folder / "levels.tsv", sep="\t").set_index("level")
    own = rows[(rows["level"] == "CTCF") & rows["has_level"]]["agreement"]
    assert levels.loc["CTCF", "agreement_own"] == pytest.approx(own.median(), abs=1e-5)
    assert (levels["share_low"] <= levels["share_of_variance"]).all()
    assert (levels["share_of_variance"] <= levels["share_high"]).all()


def test_tracks_that_defy_their_level_are_named() -> None:
    level: dict[str, object] = {"level": "x"}
    told = [("a", True, 0.8), ("b", True, 0.79), ("c", True, 0.4), ("d", False, 0.5), ("e", False, 0.45)]
    rows = [{"level": "x", "track": t, "has_level": has, "agreement": value} for t, has, value in told]
    add_agreement([level], rows)
    assert (level["agreement_own"], level["agreement_others"], level["defied_by"]) == (0.79, pytest.approx(0.475), "c")


def test_chosen_levels_are_shown(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    summary = explain(*trained, "target", tmp_path / "out", levels=["GATA1"], look=Look(top=3))
    assert len(summary.sentences) == 2 and summary.sentences[1].startswith("GATA1:")
    assert (tmp_path / "out/GATA1.bw").exists() and not (tmp_path / "out/CTCF.bw").exists()
    assert len(pd.read_csv(tmp_path / "out/levels.tsv", sep="\t")) == 2
    told = list[str]()
    with pytest.raises(ConfigError, match="did you mean GATA1"):
        explain(*trained, "target", tmp_path / "no", levels=["GATA"], progress=lambda what, *_: told.append(what))
    assert not told, "bins were predicted before the level was looked up"


# -- one latent, one track ---------------------------------------------------------------------------------------------


def test_parts_of_a_track_are_explained_and_add_up(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    """Shared and group parts add up to the total, in their weights and base by base in what is written."""
    run, dataset = trained
    track = run.tracks[0].id
    (tmp_path / "r.bed").write_text("chr2\t1000\t1100\nchr2\t5000\t5001\n")
    explain_track(run, dataset, track, [], tmp_path / "out", look=Look(regions=tmp_path / "r.bed"))
    rows = pd.read_csv(tmp_path / "out" / "directions.tsv", sep="\t").set_index("name")
    assert list(rows.index) == ["total", "shared", "biological", "technical", "debiased"]
    assert rows.loc[["shared", "biological", "technical"], "share_of_variance"].sum() == pytest.approx(1, abs=1e-4)
    with pa.memory_map(str(tmp_path / "out" / "attributions.arrow")) as source:
        table = pa.ipc.open_file(source).read_all().to_pandas()
    of = {name: np.stack(part["contributions"].to_list()) for name, part in table.groupby("level")}
    assert np.allclose(of["shared"] + of["biological"] + of["technical"], of["total"], atol=1e-5)
    assert np.allclose(of["total"] - of["technical"], of["debiased"], atol=1e-5)
    assert "What drives <em>track" in (tmp_path / "out" / "report.html").read_text()


def mean_slope(model: MfdModel, codes: np.ndarray, latent: int, steps: int = 32) -> float:
    """The mean slope of one latent at the midpoints of the path from equal bases to the sequence, both strands averaged.

    By the chain rule that is what integrated gradients of the bases sum to, whatever they are divided into.
    """
    slopes = []
    for strand in (torch.from_numpy(codes), other_strand(torch.from_numpy(codes))):
        bases = one_hot(strand, torch.float32)
        start = torch.full_like(bases, 0.25) * bases.sum(1, keepdim=True)
        for at in (np.arange(steps) + 0.5) / steps:
            share = torch.tensor(at, dtype=torch.float32, requires_grad=True)
            value = model.latent_of_bases(start + share * (bases - start))[0, latent]
            slopes.append(torch.autograd.grad(value, share)[0].item())
    return float(np.mean(slopes))


def test_a_latent_is_explained_and_an_unknown_one_refused(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    (tmp_path / "r.bed").write_text("chr2\t5000\t5001\n")
    look = Look(regions=tmp_path / "r.bed", method="integrated-gradients")
    explain_latents(run, dataset, ["technical.1", "biological.0"], tmp_path / "out", look=look)
    regions = pd.read_csv(tmp_path / "out" / "regions.tsv", sep="\t")
    codes = dataset.genome.codes("chr2", 5000 - 64 - run.model.left, 5000 - 64 - run.model.left + run.model.window)[
        None
    ]
    latent = Predictor(run.model).latents(codes)[0]
    start = run.model.slices["technical"].start
    row = regions[regions["level"] == "technical.1"].iloc[0]
    reached, begun = (
        scores[0] for scores in scores_of(run.model, codes, np.array([1.0], np.float32), slice(start + 1, start + 2))
    )
    assert reached == pytest.approx(latent[start + 1], abs=1e-4)
    total = row["sum_of_contributions"]
    assert total == pytest.approx(mean_slope(run.model, codes, start + 1), abs=1e-3)
    # How far 32 midpoints are from the integral is a property of the stored weights: 0.055 here, whatever the kernels.
    assert total == pytest.approx(reached - begun, abs=0.1)
    for wrong in ("technical", "technical.x", "technical.99", "nothing.0"):
        with pytest.raises(ConfigError, match=r"no latent|latents, counted"):
            explain_latents(run, dataset, [wrong], tmp_path / "no")
    with pytest.raises(ConfigError, match="no track"):
        explain_track(run, dataset, "nobody", [], tmp_path / "no")
    with pytest.raises(ConfigError, match="the track has total, shared"):
        explain_track(run, dataset, run.tracks[0].id, ["nothing"], tmp_path / "no")
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_modisco_finds_a_planted_motif(tmp_path: Path) -> None:
    pytest.importorskip("modiscolite", reason="the extra 'motifs' is not installed")
    from mfd_cli.explain.modisco import modisco_motifs

    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (150, 200)).astype(np.uint8)
    values = rng.normal(0, 0.01, (150, 4, 200)).astype(np.float32)
    for row in range(150):
        at = int(rng.integers(40, 150))
        codes[row, at : at + 10] = encode("GATTACCAGT")
        values[row, codes[row, at : at + 10], np.arange(at, at + 10)] += 1.0
    found = modisco_motifs(codes, values - values.mean(1, keepdims=True))
    assert found and found[0].found_by == "modisco" and found[0].count > 100
    assert "GATTACCAGT" in found[0].sequence or "ACTGGTAATC" in found[0].sequence
    assert modisco_motifs(codes[:3], values[:3]) == []


def test_without_the_extra_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from mfd_cli.explain.modisco import modisco_motifs

    monkeypatch.setitem(sys.modules, "modiscolite.tfmodisco", None)
    with pytest.raises(ConfigError, match="not installed") as caught:
        modisco_motifs(np.zeros((1, 10), np.uint8), np.zeros((1, 4, 10), np.float32))
    assert "mfd-cli[motifs]" in str(caught.value.hint)


# -- all factors -------------------------------------------------------------------------------------------------------


def test_products_that_nobody_can_see_in_a_bar_are_drawn_together() -> None:
    names, shares = ["shared", "lab", "a x b", "a x c", "b x c"], np.array([[0.6, 0.001, 0.3, 0.004, -0.002]] * 2)
    shown, drawn = faint_together(names, shares, ["shared", "lab"])
    assert shown == ["shared", "lab", "a x b", "other products"]
    assert drawn[0] == pytest.approx([0.6, 0.001, 0.3, 0.002]) and drawn.sum() == pytest.approx(shares.sum())
    assert faint_together(names[:4], shares[:, :4], ["shared", "lab"])[0] == names[:4]  # one alone keeps its name


def test_the_overview_tells_shares_that_sum_to_one_with_intervals(trained: tuple[Run, Dataset], tmp_path: Path) -> None:
    run, dataset = trained
    summary = explain_all(run, dataset, tmp_path / "all")
    rows = pd.read_csv(tmp_path / "all/factors.tsv", sep="\t").set_index("part")
    tracks = pd.read_csv(tmp_path / "all/tracks.tsv", sep="\t")
    assert set(rows["kind"]) == {"shared", "factor", "group"}
    for kind in ("factor", "group"):
        assert rows["share"]["shared"] + rows["share"][rows["kind"] == kind].sum() == pytest.approx(1, abs=1e-4)
    for name in ("shared", *run.model.factors):
        assert rows["share"][name] == pytest.approx(tracks[f"share_{name}"].mean(), abs=1e-4)
        assert rows["low"][name] <= rows["share"][name] <= rows["high"][name]
    of_parts = [sentence for sentence in summary.sentences if not sentence.startswith("A share below")]
    assert len(of_parts) == 1 + 2 + 4 and "target (biological, 2 levels)" in "\n".join(of_parts)
    page = (tmp_path / "all/report.html").read_text()
    assert page.count("data:image/png") == 3 and "http" not in page.replace("http://www.w3.org", "")


def test_intervals_are_those_of_resampled_stretches() -> None:
    """Two stretches in which different latents vary: a draw of one of them alone gives that one's share."""
    rng = np.random.default_rng(0)
    latents = np.concatenate([rng.normal(size=(500, 2)) * [1, 0], rng.normal(size=(500, 2)) * [0, 1]])
    unit = np.repeat([0, 1], 500)
    parts = {"a": np.array([[1.0, 0.0]]), "b": np.array([[0.0, 1.0]])}
    found = share_draws(latents, unit, np.array([[1.0, 1.0]]), parts)
    for name in ("a", "b"):
        mean, low, high = interval(found[name])
        assert 0.45 < mean < 0.55 and low < 0.01 and high > 0.99
    contigs, nothing = np.repeat(np.arange(9), 10).astype(np.int32), np.zeros((90, 0), np.float32)
    bins = Bins(contigs, np.arange(90), np.arange(90, dtype=np.int32), np.zeros((90, 1), np.uint8), nothing)
    assert resampling_units(bins).tolist() == np.repeat(np.arange(9), 10).tolist()
    one = replace(bins, contig=bins.contig * 0)
    assert len(set(resampling_units(one).tolist())) == 20


def test_no_label_of_a_logo_is_laid_over_its_numbers() -> None:
    """Numbers with two decimals and a sign are the widest that stand beside a lane."""
    values = np.zeros(400)
    values[190:200] = np.linspace(-0.03, 0.05, 10)
    region = SimpleNamespace(codes=np.zeros(400, np.uint8), start=1000, contig="chr1", contig_length=9000)
    level: Any = SimpleNamespace(
        name="CTCF", regions=[region], contributions=[values], motifs=[], matches=[], strongest_first=[0]
    )
    figure = draw_logos(level)
    figure.canvas.draw()
    lane = figure.axes[1]
    label = lane.yaxis.label.get_window_extent()
    numbers = [text.get_window_extent() for text in lane.get_yticklabels()]
    assert label.x0 >= 0 and all(label.x1 <= number.x0 for number in numbers)
    supposed = [text for text in figure.texts if text.get_text()]
    assert not supposed, "a label of the whole figure is laid over the lanes"
