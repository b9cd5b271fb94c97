"""Planted projects: the same bytes from the same seed, truth that is a function of the sequence, options that bite."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mfd_cli import planted
from mfd_cli.config import load_project
from mfd_cli.data.fasta import read_fasta
from mfd_cli.data.motifs import built_in, read_jaspar
from mfd_cli.data.sequence import encode, reverse_complement
from mfd_cli.data.variants import open_variants
from mfd_cli.design import inseparable_sets, levels_of
from mfd_cli.errors import ConfigError, InputError
from mfd_cli.preprocess import read_sources
from mfd_cli.simulate import SimulateOptions, simulate, true_change


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
    first, second = digests(project), digests(tmp_path / "again")
    first.pop("truth/parts.npz"), second.pop("truth/parts.npz")  # a zip file holds the time
    assert first == second
    assert digests(tmp_path / "other")["genome.fa"] != first["genome.fa"]


def test_the_true_logits_follow_from_the_sequence_and_predict_the_peaks(project: Path) -> None:
    truth = np.load(project / "truth" / "parts.npz")
    genome = read_fasta(project / "genome.fa")
    codes = np.concatenate([genome.codes(n, 0, size).reshape(-1, 128) for n, size in genome.lengths.items()])
    rows = pd.read_parquet(project / "truth" / "tracks.parquet").to_dict("records")
    parts = planted.true_parts(planted.find_causes(codes), rows).centred()
    for name in ("biological", "technical"):
        assert np.allclose(getattr(parts, name), truth[name], atol=1e-5)
        assert np.abs(truth[name].mean(1)).max() < 1e-5
    ceiling = json.loads((project / "truth" / "causes.json").read_text())["ceiling_auroc"]
    assert np.nanmean(list(ceiling.values())) > 0.75


def test_variants_match_the_genome_and_break_what_they_say(project: Path) -> None:
    genome = read_fasta(project / "genome.fa")
    table = pd.read_csv(project / "truth" / "variants.tsv", sep="\t", keep_default_na=False)
    assert set(table["kind"]) == {"biological", "technical", "shared", "none"}
    with open_variants(project / "input.vcf") as file:
        for record in file.records:
            assert genome.bases(record.contig, record.position - 1, record.position - 1 + len(record.ref)) == record.ref
    rows = pd.read_parquet(project / "truth" / "tracks.parquet").to_dict("records")
    for _, v in table.iterrows():
        codes = genome.codes(v["chrom"], 0, genome.lengths[v["chrom"]])
        change = true_change(codes, v["pos"] - 1, v["ref"], v["alt"], rows, None)
        assert change[v["kind"]] if v["kind"] != "none" else True
        sizes = {name: change[name] for name in ("biological", "technical", "shared")}
        assert max(sizes, key=sizes.get) == v["kind"] if v["kind"] != "none" else max(sizes.values()) <= 0.15  # type: ignore[arg-type]


def test_options_do_what_they_say(tmp_path: Path) -> None:
    def rows(folder: Path) -> pd.DataFrame:
        return pd.read_csv(folder / "metadata.tsv", sep="\t")

    simulate(tmp_path / "plain", size="tiny")
    simulate(tmp_path / "wrong", size="tiny", options=SimulateOptions(mislabelled=0.5))
    truth = pd.read_parquet(tmp_path / "wrong" / "truth" / "tracks.parquet")
    told = rows(tmp_path / "wrong")["Experiment target"].iloc[: len(truth)]
    assert 0.1 < (told.to_numpy() != truth["target"].to_numpy()).mean() < 0.9
    simulate(tmp_path / "same", size="tiny", options=SimulateOptions(complete_confounding=True))
    project = load_project(tmp_path / "same" / "mfd.toml")
    sources = read_sources(project)
    factors = project.config.factors
    sets = dict(inseparable_sets(levels_of([s.row for s in sources], factors), factors))
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


def test_motifs_scan_both_strands() -> None:
    motif = built_in()["CBF1"]
    assert motif.information > 11
    text = encode("TTTTTTTT" + motif.consensus + "TTTTTTTT")
    forward, _ = motif.scan(text)
    assert forward.argmax() == 8 and forward.max() == pytest.approx(motif.log_odds.max(1).sum(), rel=1e-5)
    assert np.allclose(motif.scan(reverse_complement(text))[1][::-1], forward, atol=1e-4)
    unknown = text.copy()
    unknown[10] = 4
    assert motif.scan(unknown)[0][8] < forward[8]


def test_jaspar_files(tmp_path: Path) -> None:
    path = tmp_path / "x.jaspar"
    path.write_text(">MA1 X\nA [ 1 2 ]\nC [ 0 0 ]\nG [ 3 0 ]\nT [ 0 9 ]\n")
    (motif,) = read_jaspar(path)
    assert motif.name == "X" and motif.counts.tolist() == [[1, 0, 3, 0], [2, 0, 0, 9]]
    path.write_text(">MA1 X\nA [ 1 2 ]\nC [ 0 ]\n")
    with pytest.raises(InputError):
        read_jaspar(path)


def test_more_options_do_what_they_say(tmp_path: Path) -> None:
    reports = {
        name: simulate(tmp_path / name, size="tiny", options=options)
        for name, options in {
            "plain": SimulateOptions(), "depth": SimulateOptions(depth=1.0), "overlap": SimulateOptions(overlap=1.0),
            "saturating": SimulateOptions(saturating=True), "hidden": SimulateOptions(hidden_batch=True),
        }.items()
    }  # fmt: skip
    assert reports["depth"].prevalence < 0.8 * reports["plain"].prevalence
    parts = {name: np.load(tmp_path / name / "truth" / "parts.npz") for name in reports}
    spread = {name: float(np.ptp(value["biological"])) for name, value in parts.items()}
    assert spread["saturating"] < 0.8 * spread["plain"]
    motifs = pd.read_csv(tmp_path / "overlap" / "truth" / "motifs.tsv", sep="\t").sort_values(["contig", "start"])
    touching = (motifs["start"].shift(-1) == motifs["end"] - 3) & (motifs["contig"].shift(-1) == motifs["contig"])
    assert touching.sum() > 20
    rows = pd.read_parquet(tmp_path / "hidden" / "truth" / "tracks.parquet").to_dict("records")
    genome = read_fasta(tmp_path / "hidden" / "genome.fa")
    codes = np.concatenate([genome.codes(n, 0, size).reshape(-1, 128) for n, size in genome.lengths.items()])
    named = planted.true_parts(planted.find_causes(codes), rows).centred()
    assert np.abs(named.technical - parts["hidden"]["technical"]).max() > 0.3
