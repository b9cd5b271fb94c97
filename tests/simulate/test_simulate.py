"""Planted projects: the same bytes from the same seed, truth that is a function of the sequence, options that bite."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from kit import harm
from kit.places import ROOT
from mfd_cli.base.errors import ConfigError
from mfd_cli.core.inseparable import inseparable_sets
from mfd_cli.dataset.folder import open_dataset
from mfd_cli.experiments.confounds import levels_by_factor
from mfd_cli.experiments.held_out import held_out_tracks
from mfd_cli.experiments.sources import read_sources
from mfd_cli.formats.fasta import read_fasta
from mfd_cli.formats.vcf_reader import open_variants
from mfd_cli.settings.project import load_project
from mfd_cli.simulate import planted
from mfd_cli.simulate.built_in_motifs import built_in
from mfd_cli.simulate.causes import Causes, genome_causes
from mfd_cli.simulate.options import SIZES, WORLDS, SimulateOptions
from mfd_cli.simulate.planted_variants import true_change
from mfd_cli.simulate.simulate import simulate
from mfd_cli.simulate.true_parts import Tracks, true_parts
from mfd_cli.simulate.world import make_world
from mfd_cli.simulate.write_project import model_and_training

BEFORE = "569ad5480fc8da72b66d3e857782fe311625fc64933bb95a8f38999cdbe92b42"
"""Digest of the tiny world of seed 1 as it was when nothing but sums of causes in their bins could be planted."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulate") / "tiny"
    simulate(folder, size="tiny", seed=3)
    return folder


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_gives_the_same_bytes(project: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "again", size="tiny", seed=3)
    simulate(tmp_path / "other", size="tiny", seed=4)
    assert digests(project) == digests(tmp_path / "again")
    assert digests(tmp_path / "other")["genome.fa"] != digests(project)["genome.fa"]


def test_a_world_without_options_is_what_it_was_before_there_were_more_of_them(tmp_path: Path) -> None:
    """Of all that does not depend on how libraries compress; the digest was taken before the options came."""
    simulate(tmp_path / "tiny", size="tiny", seed=1)
    seen = hashlib.sha256()
    for path in sorted((tmp_path / "tiny").rglob("*")):
        if path.name.endswith(".narrowPeak.gz"):
            seen.update(gzip.decompress(path.read_bytes()))
        elif path.suffix in (".fa", ".tsv", ".vcf", ".toml", ".json", ".meme"):
            seen.update(path.read_bytes())
    assert seen.hexdigest() == BEFORE
    columns = pd.read_parquet(tmp_path / "tiny" / "truth" / "bins.parquet").columns
    assert {name.split(".")[0] for name in columns} == {
        *("contig", "start", "shared", "peak", "logit", "biological", "technical")
    }


def true_bins(folder: Path, what: str) -> NDArray[np.float32]:
    """(bins, tracks): `biological`, `technical`, `logit` or `peak`, as in truth/bins.parquet."""
    table = pd.read_parquet(folder / "truth" / "bins.parquet")
    return table[[name for name in table if name.startswith(f"{what}.")]].to_numpy()


def causes_of(folder: Path, shared_letters: float = 0.0, distance: int = 0) -> Causes:
    """The causes in all bins of the project's genome."""
    genome = read_fasta(folder / "genome.fa")
    contigs = {name: genome.codes(name, 0, size) for name, size in genome.lengths.items()}
    return genome_causes(contigs, planted.planted_motifs(shared_letters), distance)


def tracks_of(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "truth" / "tracks.parquet")


def labels_of(folder: Path) -> NDArray[np.bool_]:
    """(bins, tracks): bins that one peak of the track's file overlaps by 64 bp or more."""
    lengths = read_fasta(folder / "genome.fa").lengths
    labels = []
    for track in tracks_of(folder)["track"]:
        hit = {name: np.zeros(length // 128, bool) for name, length in lengths.items()}
        with gzip.open(folder / "tracks" / f"{track}.narrowPeak.gz", "rt") as file:
            for line in file:
                name, start, end = line.split("\t")[0], *map(int, line.split("\t")[1:3])
                assert end - start >= 64 and end <= lengths[name]
                edges = np.arange(0, lengths[name], 128)
                hit[name] |= np.minimum(end, edges + 128) - np.maximum(start, edges) >= 64
        labels.append(np.concatenate(list(hit.values())))
    return np.stack(labels, 1)


def test_the_true_logits_follow_from_the_sequence_and_predict_the_peaks(project: Path) -> None:
    rows = tracks_of(project)
    trained = rows["trained"].to_numpy()
    parts = true_parts(causes_of(project), Tracks(rows.to_dict("records"))).centred(trained)
    table = pd.read_parquet(project / "truth" / "bins.parquet")
    assert np.allclose(parts.shared[:, 0], table["shared"], atol=1e-5)
    for name in ("biological", "technical"):
        assert np.allclose(getattr(parts, name), true_bins(project, name), atol=1e-5)
        assert np.abs(true_bins(project, name)[:, trained].mean(1)).max() < 1e-5
    whole = rows["bias"].to_numpy() + parts.total()
    assert np.allclose(whole, true_bins(project, "logit"), atol=1e-5)
    ceiling = json.loads((project / "truth" / "causes.json").read_text())["ceiling_auroc"]
    assert np.nanmean(list(ceiling.values())) > 0.75
    test = (table["contig"] == "chr4").to_numpy()
    for index, name in enumerate(rows["track"]):
        labels = true_bins(project, "peak")[test, index]
        assert roc_auc_score(labels, whole[test, index]) == pytest.approx(ceiling[name], abs=1e-4)


def test_peak_files_label_exactly_the_bins_that_were_drawn(project: Path) -> None:
    drawn = true_bins(project, "peak")
    assert np.array_equal(labels_of(project), drawn)
    assert np.allclose(drawn.mean(0), tracks_of(project)["prevalence"])
    assert drawn.mean(0).min() > 0.01 and drawn.mean(0).max() < 0.12


def test_planted_instances_stand_where_the_truth_says(project: Path) -> None:
    genome, motifs = read_fasta(project / "genome.fa"), built_in()
    table = pd.read_csv(project / "truth" / "motifs.tsv", sep="\t")
    assert set(table["kind"]) == {"biological", "technical", "shared"}
    assert {"target=ABF1", "biosample=liver", "assay=ChIP-seq", "all tracks"} <= set(table["cause"])
    told, other = [], []
    for row in table.itertuples():
        codes, motif = genome.codes(row.contig, row.start, row.end), motifs[row.motif]
        scores = [float(strand[0]) for strand in motif.scan(codes)]
        told.append(scores["+-".index(row.strand)])
        other.append(scores["-+".index(row.strand)])
    assert np.mean(told) > 10 and np.mean(np.array(told) >= np.array(other)) > 0.9


def test_a_linear_model_of_the_causes_nearly_reaches_the_ceiling(tmp_path: Path) -> None:
    """Nothing but the causes drives the peaks, and the causes can be learnt: needs more bins than tiny has."""
    world = make_world(replace(SIZES["tiny"], bins_per_contig=2000), SimulateOptions(), np.random.default_rng(1))
    inputs = world.causes.matrix()
    reached = []
    for index in range(len(world.tracks.rows)):
        model = LogisticRegression(max_iter=300).fit(inputs[:6000], world.peaks[:6000, index])
        reached.append(roc_auc_score(world.peaks[6000:, index], model.decision_function(inputs[6000:])))
    ceiling = np.mean(world.ceiling())
    assert ceiling > 0.82 and np.mean(reached) > ceiling - 0.02


def test_variants_match_the_genome_and_break_what_they_say(project: Path) -> None:
    genome = read_fasta(project / "genome.fa")
    table = pd.read_csv(project / "truth" / "variants.tsv", sep="\t", keep_default_na=False)
    assert set(table["kind"]) == {"biological", "technical", "shared", "none"}
    with open_variants(project / "input.vcf") as file:
        for record in file.records:
            assert genome.bases(record.contig, record.position - 1, record.position - 1 + len(record.ref)) == record.ref
    tracks = Tracks(tracks_of(project).to_dict("records"))
    for _, v in table.iterrows():
        codes = genome.codes(v["chrom"], 0, genome.lengths[v["chrom"]])
        change = true_change(codes, v["pos"] - 1, v["ref"], v["alt"], tracks)
        assert change[v["kind"]] if v["kind"] != "none" else True
        sizes = {name: change[name] for name in ("biological", "technical", "shared")}
        assert max(sizes, key=sizes.get) == v["kind"] if v["kind"] != "none" else max(sizes.values()) <= 0.15  # type: ignore[arg-type]


def test_options_do_what_they_say(tmp_path: Path) -> None:
    def rows(folder: Path) -> pd.DataFrame:
        return pd.read_csv(folder / "metadata.tsv", sep="\t")

    simulate(tmp_path / "plain", size="tiny")
    simulate(tmp_path / "wrong", size="tiny", options=SimulateOptions(mislabelled=0.5))
    truth = tracks_of(tmp_path / "wrong")
    told = rows(tmp_path / "wrong")["Experiment target"].iloc[: len(truth)]
    assert 0.1 < (told.to_numpy() != truth["target"].to_numpy()).mean() < 0.9
    assert (told.to_numpy() == truth["told_target"].to_numpy()).all()
    # What is held out is described rightly, and no wrong label joins it: the project can be preprocessed.
    assert (told.to_numpy() == truth["target"].to_numpy())[~truth["trained"]].all()
    for held in load_project(tmp_path / "wrong" / "mfd.toml").config.train.held_out:
        same = (told == held["target"]) & (truth["biosample"] == held["biosample"]) & (truth["assay"] == held["assay"])
        assert same.any() and not truth["trained"][same].any()
    simulate(tmp_path / "same", size="tiny", options=SimulateOptions(complete_confounding=True))
    project = load_project(tmp_path / "same" / "mfd.toml")
    sources = read_sources(project).tracks
    factors = project.config.factors
    sets = dict(inseparable_sets(levels_by_factor([s.row for s in sources], factors), factors))
    assert sets["assay", "lab", "year"] == len(sources)
    simulate(tmp_path / "both", size="tiny", options=SimulateOptions(correlation=1.0))
    planted_together = []
    for name in ("plain", "both"):
        motifs = pd.read_csv(tmp_path / name / "truth" / "motifs.tsv", sep="\t")
        bins = motifs.assign(bin=motifs["start"] // 128).groupby(["contig", "bin"])["motif"].agg(set)
        hit = bins[bins.apply(lambda s: bool(s & set(planted.TARGETS.values())))]
        planted_together.append(hit.apply(lambda s: "MCM1" in s).mean())
    assert planted_together[0] < 0.2 and planted_together[1] == 1.0
    with pytest.raises(ConfigError):
        SimulateOptions(correlation=2.0)


def test_more_options_do_what_they_say(tmp_path: Path) -> None:
    reports = {
        name: simulate(tmp_path / name, size="tiny", options=options)
        for name, options in {
            "plain": SimulateOptions(),
            "depth": SimulateOptions(depth=1.0),
            "overlap": SimulateOptions(overlap=1.0),
            "saturating": SimulateOptions(saturating=True),
            "hidden": SimulateOptions(hidden_batch=True),
        }.items()
    }
    assert reports["depth"].prevalence < 0.8 * reports["plain"].prevalence
    spread = {name: float(np.ptp(true_bins(tmp_path / name, "biological"))) for name in reports}
    assert spread["saturating"] < 0.8 * spread["plain"]
    motifs = pd.read_csv(tmp_path / "overlap" / "truth" / "motifs.tsv", sep="\t").sort_values(["contig", "start"])
    touching = (motifs["start"].shift(-1) == motifs["end"] - 3) & (motifs["contig"].shift(-1) == motifs["contig"])
    assert touching.sum() > 20
    tracks = tracks_of(tmp_path / "hidden")
    rows, hidden, trained = tracks.to_dict("records"), tracks["hidden_batch"].to_numpy(), tracks["trained"].to_numpy()
    assert 0 < hidden.sum() < len(hidden)
    causes = causes_of(tmp_path / "hidden")
    found = true_bins(tmp_path / "hidden", "technical")
    assert np.abs(true_parts(causes, Tracks(rows)).centred(trained).technical - found).max() > 0.3
    assert np.allclose(true_parts(causes, Tracks(rows, hidden)).centred(trained).technical, found, atol=1e-5)


def test_held_out_combinations_are_measured_in_pairs_and_named_in_the_project(project: Path) -> None:
    config, rows = load_project(project / "mfd.toml").config, tracks_of(project)
    table = {row["File accession"]: row for row in csv.DictReader((project / "metadata.tsv").open(), delimiter="\t")}
    held = held_out_tracks(config, table)
    assert set(rows.loc[~rows["trained"], "track"]) == {name for name in held if name.endswith("PKS")} != set()
    for _, row in rows[~rows["trained"]].iterrows():
        for a, b in (("target", "biosample"), ("target", "assay"), ("biosample", "assay")):
            seen = rows[rows["trained"]]
            assert ((seen[a] == row[a]) & (seen[b] == row[b])).any()


def test_the_benchmark_has_many_tracks_coinciding_causes_and_a_target_mostly_measured_by_one_assay() -> None:
    world = make_world(
        replace(SIZES["medium"], bins_per_contig=40),
        SimulateOptions().resolved(SIZES["medium"]),
        np.random.default_rng(1),
    )
    assert world.trained.sum() >= 60 > 0 < (~world.trained).sum()
    assert world.options.correlation > 0 and world.options.overlap > 0
    last = [row["assay"] for row in world.tracks.rows if row["target"] == "BAS1"]
    assert last.count("ChIP-seq") == 3 * last.count("CUT&RUN")


EVERYTHING = (
    "--interaction 0.7 --technique-interaction 0.5 --residual 0.5 --batch nested --batch-dose 0.7 --distance 500 "
    "--spread 0.7 --overdispersion 0.3 --shared-letters 0.5 --gc-correlated 0.7 --correlation 0.2 --overlap 0.2 "
    "--saturating --hidden-batch --mislabelled 0.1 --depth 0.3"
)


def test_a_world_with_everything_on_states_its_truth_and_can_be_preprocessed(tmp_path: Path) -> None:
    outcome = harm.in_process(["simulate", "--size", "tiny", "p", "-q", *EVERYTHING.split()], tmp_path)
    assert outcome.code == 0, outcome.told
    folder = tmp_path / "p"
    tracks, table = tracks_of(folder), pd.read_parquet(folder / "truth" / "bins.parquet")
    names = ("biological", "technical", "joint", "residual")
    parts = {name: true_bins(folder, name) for name in names}
    shared = table["shared"].to_numpy()[:, None]
    whole = tracks["bias"].to_numpy() + shared + sum(parts.values())
    assert np.allclose(whole, true_bins(folder, "logit"), atol=1e-4)
    assert all(np.abs(part[:, tracks["trained"]].mean(1)).max() < 1e-5 for part in parts.values())
    # Every part follows from the files: the genome, and what the truth says of options and tracks.
    causes = json.loads((folder / "truth" / "causes.json").read_text())
    options, own = SimulateOptions(**causes["options"]), tracks[[name for name in tracks if name.startswith("own.")]]
    truth = Tracks(tracks.to_dict("records"), tracks["hidden_batch"].to_numpy(), own.to_numpy())
    again = true_parts(causes_of(folder, 0.5, 500), truth, options).centred(tracks["trained"].to_numpy()).differing()
    assert all(np.allclose(again[name], part, atol=1e-4) for name, part in parts.items())
    assert np.array_equal(labels_of(folder), true_bins(folder, "peak"))
    told = pd.read_csv(folder / "metadata.tsv", sep="\t")["Batch"].iloc[: len(tracks)]
    assert (told.to_numpy() == tracks["batch"].to_numpy()).all() and set(tracks["batch_slope"]) == {0.7, -0.7}
    assert {f"own.{name}" for name in (*built_in(), "G+C", "A/T runs")} <= set(tracks)
    assert causes["options"]["distance"] == 500 and causes["options"]["batch"] == "nested"
    assert causes["partners"]["ABF1"] == {"liver": "ABF1", "brain": "REB1"}
    assert causes["assay_signs"]["REB1"] == {"ChIP-seq": -1.0, "CUT&RUN": 1.0}
    assert causes["letters"] == {"MCM1": "ABF1", "PDR3": "REB1"}
    config = load_project(folder / "mfd.toml").config
    assert config.factors["batch"].group == "technical"
    assert config.model.preset == "small" and config.model.window is None
    outcome = harm.in_process(["preprocess", "-q", "--threads", "1"], folder)
    assert outcome.code == 0, outcome.told
    assert open_dataset(folder / "dataset").tracks[0].metadata["Batch"] == tracks["batch"][0]


def test_a_named_world_has_its_options_and_those_given_go_before(tmp_path: Path) -> None:
    words = ["simulate", "--size", "tiny", "-q", "--world", "apart", "--shared-letters", "0.25"]
    assert harm.in_process([*words, "p"], tmp_path).code == 0
    options = json.loads((tmp_path / "p" / "truth" / "causes.json").read_text())["options"]
    assert (options["interaction"], options["gc_correlated"], options["shared_letters"]) == (1.0, 0.7, 0.25)
    assert "residual" not in options and options["saturating"] is False


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--world apert", "world is 'apert'; did you mean apart?"),
        ("--batch nestd", "batch is 'nestd'; did you mean nested?"),
        ("--batch-dose 0.5", "batch_dose is 0.5, but there is no batch"),
        ("--distance 501", "distance is 501; it must be between 0 and 500"),
        ("--spread 1.1", "spread is 1.1; it must be between 0 and 1"),
        ("--residual nan", "residual is nan; it must be between 0 and 10"),
    ],
)
def test_options_out_of_range_are_answered_with_one_line(tmp_path: Path, words: str, message: str) -> None:
    outcome = harm.in_process(["simulate", "p", "--size", "tiny", *words.split()], tmp_path)
    assert outcome.code == 2 and message in outcome.told and not (tmp_path / "p").exists()


@pytest.mark.parametrize(("size", "preset"), [("tiny", "small"), ("small", "default"), ("medium", "default")])
def test_only_tiny_worlds_have_a_network_of_their_own(size: str, preset: str) -> None:
    model, training = model_and_training(size)
    assert model == f'preset = "{preset}"\n' and ("epochs" in training) == (size == "tiny")


def test_the_page_on_planted_worlds_has_every_option_and_every_named_world() -> None:
    page = (ROOT / "docs" / "planted-worlds.md").read_text("utf-8")
    table = page.split("\n## What each option breaks\n")[1].split("\n## ")[0]
    for option in fields(SimulateOptions):
        assert f"`--{option.name.replace('_', '-')}" in table
    for name, options in WORLDS.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `--world {name}`"))
        words = dict(re.findall(r"--([a-z-]+) ([0-9.]+)", row))
        values = {key: value for key, value in options.stated().items() if value not in (None, 0, False)}
        assert {key.replace("_", "-"): value for key, value in values.items()} == {
            k: float(v) for k, v in words.items()
        }
