"""Which outputs scores are taken over: queries, fixed factors, averages over the conditions that were used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kit import tiny
from mfd_cli.base.errors import ConfigError
from mfd_cli.core.predictor import Predictor
from mfd_cli.core.unseen import head_of_rows
from mfd_cli.dataset.folder import Dataset
from mfd_cli.experiments.track import Track
from mfd_cli.genome.alleles import Variant
from mfd_cli.runs.folder import Run
from mfd_cli.runs.new_experiment import experiment_panel
from mfd_cli.runs.panel import panel_of
from mfd_cli.runs.support import Backing
from mfd_cli.variants.effects import ScoreSettings
from mfd_cli.variants.scorer import Scorer


def some_variants(dataset: Dataset, count: int = 12) -> list[Variant]:
    found = []
    for position in range(5000, 5000 + 37 * count, 37):
        ref = dataset.genome.bases("chr2", position - 1, position)
        found.append(Variant("chr2", position, ref, "ACGT"["ACGT".index(ref) - 1]))
    return found


def test_a_query_restricts_the_tracks_and_changes_no_number(trained: tuple[Run, Dataset]) -> None:
    run, dataset = trained
    variants = some_variants(dataset)
    whole = Scorer(run).columns(variants, dataset.genome, per_track=True)
    some = Scorer(run, settings=ScoreSettings(tracks='target == CTCF and Lab ~ "a"'))
    columns = some.columns(variants, dataset.genome, per_track=True)
    expected = [t.id for t in run.tracks if t.metadata["Target"] == "CTCF" and "a" in t.metadata["Lab"].lower()]
    assert some.panel.ids.tolist() == expected and 0 < len(expected) < len(run.tracks)
    for name in expected:
        assert np.allclose(columns[f"track.{name}"], whole[f"track.{name}"], atol=1e-6)
    peaks = [name for name in expected if name.startswith("P")]
    best = np.max([np.abs(whole[f"track.{name}"]) for name in peaks], axis=0)
    assert np.allclose(np.abs(columns["MFD_MAX_DLOGIT"]), best, atol=1e-6)
    assert set(columns["MFD_TRACK"]) <= set(peaks)
    # Each level weighs the same among the chosen tracks only.
    rows = [track.metadata for track in run.tracks if track.id in expected]
    member = run.model.metadata.membership("tissue", rows)
    shares = (member / member.sum(0).clip(1))[:, member.any(0)].mean(1)
    target = run.model.metadata.membership("target", rows)
    both = (shares + (target / target.sum(0).clip(1))[:, target.any(0)].mean(1)) / 2
    parts = some.members[0].effects(variants, dataset.genome).groups["biological"]
    assert np.allclose(columns["MFD_BIO"], np.sqrt((parts**2) @ both), atol=1e-5)


def test_a_year_is_asked_for_as_a_year(trained: tuple[Run, Dataset]) -> None:
    from mfd_cli.core.metadata import YearEncoder, level_cell
    from mfd_cli.runs.query import parse_query

    encoder = YearEncoder.fit("year", ["2014-05-19", "", "2018"])
    rows = [{"year": level_cell(encoder, cell)} for cell in ("2014-05-19", "", "2018")]
    assert parse_query("year > 2015").select(rows).tolist() == [False, False, True]
    assert parse_query("year == 2014").select(rows).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("target == NOPE", "picks none of 9 tracks"),
        ("target == CTFC", "no target is 'CTFC'; did you mean CTCF"),
        ("not Lab ~ x and (target in (CTCF) and Lab has Q)", "no Lab is 'Q'"),
        ("targt == CTCF", "did you mean target"),
        ("target ==", "expected"),
    ],
)
def test_queries_that_pick_nothing(trained: tuple[Run, Dataset], query: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Scorer(trained[0], settings=ScoreSettings(tracks=query))


def test_id_and_kind_can_be_asked_for(trained: tuple[Run, Dataset]) -> None:
    run = trained[0]
    head = Predictor(run.model).head
    assert panel_of(run, head, "id == P3").ids.tolist() == ["P3"]
    assert panel_of(run, head, "kind == signal").ids.tolist() == ["S0"]


def test_a_fixed_level_gives_every_track_the_weights_of_that_level(trained: tuple[Run, Dataset]) -> None:
    run, _ = trained
    head = Predictor(run.model).head
    panel = panel_of(run, head, None, ["assay=CUT&RUN"])
    rows = [{**track.metadata, "Assay": "CUT&RUN"} for track in run.tracks]
    kinds = [track.kind for track in run.tracks]
    expected = head_of_rows(run.model, rows, kinds, kinds)
    assert np.allclose(panel.head.groups["technical"], expected.groups["technical"], atol=1e-6)
    assert np.array_equal(panel.head.groups["biological"], head.groups["biological"])
    already = np.array([track.metadata["Assay"] == "CUT&RUN" for track in run.tracks])
    assert np.allclose(panel.head.groups["technical"][already], head.groups["technical"][already], atol=1e-6)
    assert np.allclose(panel.head.bias[already], head.bias[already], atol=1e-5)
    assert panel.left_out == 0 and set(panel.support) <= {"measured", "pairwise", "extrapolated"}


def test_the_average_is_the_mean_over_the_conditions_that_were_used(trained: tuple[Run, Dataset]) -> None:
    run, _ = trained
    head = Predictor(run.model).head
    panel = panel_of(run, head, None, ["technical=average"])
    used = {(r["Assay"], r["Lab"]) for r, keep in zip(run.model.rows, run.model.trained) if keep}
    kinds = [track.kind for track in run.tracks]
    each = [
        head_of_rows(run.model, [{**t.metadata, "Assay": a, "Lab": b} for t in run.tracks], kinds, kinds).groups[
            "technical"
        ]
        for a, b in sorted(used)
    ]
    assert np.allclose(panel.head.groups["technical"], np.mean(each, axis=0), atol=1e-5)
    # All tracks are then under one technical condition: no difference between them is technical.
    assert np.ptp(panel.head.groups["technical"], axis=0).max() < 1e-5


def test_scores_with_fixed_factors_differ_by_the_technical_part_alone(trained: tuple[Run, Dataset]) -> None:
    run, dataset = trained
    variants = some_variants(dataset)
    own = Scorer(run).columns(variants, dataset.genome)
    fixed = Scorer(run, settings=ScoreSettings(fixes=("technical=average",))).columns(variants, dataset.genome)
    for name in ("MFD_SHARED", "MFD_BIO", "MFD_DEBIASED"):
        assert np.allclose(own[name], fixed[name], atol=1e-6)
    assert not np.allclose(own["MFD_TECH"], fixed["MFD_TECH"], atol=1e-4)


@pytest.mark.parametrize(
    ("fixes", "message"),
    [
        (["assay"], "expected FACTOR=LEVEL"),
        (["asay=X"], "did you mean assay"),
        (["technical=X"], "fixed at its average"),
        (["assay=Chip-seq"], "did you mean ChIP-seq"),
        (["assay=ChIP-seq", "technical=average"], "assay is fixed twice"),
    ],
)
def test_what_cannot_be_fixed(trained: tuple[Run, Dataset], fixes: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        panel_of(trained[0], Predictor(trained[0].model).head, None, fixes)


def test_impossible_combinations_are_left_out_and_extrapolated_ones_flagged(tmp_path: Path) -> None:
    """ATAC-seq never has a target: fixed at it, tracks with one are no experiment."""
    dataset = tiny.dataset(tmp_path / "dataset")
    rows = tiny.rows(9)
    for i in (0, 2):
        rows[i] = {**rows[i], "Target": "", "Assay": "ATAC-seq", "Tissue": "liver"}
    torch.manual_seed(0)
    from mfd_cli.core.metadata import fit_metadata
    from mfd_cli.core.model import MfdModel

    settings, used = tiny.config(), np.ones(9, bool)
    metadata = fit_metadata(rows, settings.factors)
    model = MfdModel(settings.resolved_model(), metadata, settings.factors, rows, used, np.zeros(9, np.float32))
    tracks = tuple(type(track)(**{**track.__dict__, "metadata": row}) for track, row in zip([*dataset.tracks], rows))
    about = {"genome_digest": dataset.genome.digest(), "trained_on": ["chr1"], "weights_sha256": "0"}
    run = Run(tmp_path, settings, model, tracks, None, about)  # type: ignore[arg-type]
    panel = panel_of(run, Predictor(model).head, None, ["assay=ATAC-seq"])
    assert panel.ids.tolist() == ["P0", "P2"] and panel.left_out == 7
    with pytest.raises(ConfigError, match="no track can be such an experiment"):
        panel_of(run, Predictor(model).head, "target == CTCF", ["assay=ATAC-seq"])
    scorer = Scorer(run, settings=ScoreSettings(tracks="id == P0", fixes=("tissue=brain", "lab=average")))
    columns = scorer.columns(some_variants(dataset, 3), dataset.genome)
    assert scorer.panel.support == ["extrapolated"] and all("extrapolated" in flag for flag in columns["MFD_FLAGS"])


def backing(rows: list[dict[str, str]], path: Path, *fixes: str) -> dict[str, str]:
    """The support of every track with fixed factors, in a model of which only the rows matter."""
    from mfd_cli.core.metadata import fit_metadata
    from mfd_cli.core.model import MfdModel

    settings, used = tiny.config(), np.ones(len(rows), bool)
    metadata = fit_metadata(rows, settings.factors)
    model = MfdModel(settings.resolved_model(), metadata, settings.factors, rows, used, np.zeros(len(rows), np.float32))
    tracks = tuple(Track(f"P{i}", "peaks", row) for i, row in enumerate(rows))
    run = Run(path, settings, model, tracks, None, {})  # type: ignore[arg-type]
    panel = panel_of(run, Predictor(model).head, None, fixes)
    return dict(zip(panel.ids.tolist(), panel.support))


def test_an_average_is_extrapolated_where_nothing_tells_it_apart_from_the_track(tmp_path: Path) -> None:
    """CTCF and GATA1 under ChIP-seq of lab A and CUT&RUN of lab B; brain only ever in lab B."""
    rows = [
        {"Target": target, "Tissue": tissue, "Assay": assay, "Lab": lab}
        for target in ("CTCF", "GATA1")
        for tissue, assay, lab in (
            ("liver", "ChIP-seq", "A"),
            ("liver", "CUT&RUN", "B"),
            ("brain", "CUT&RUN", "B"),
        )
    ]
    expected = {"liver": "measured", "brain": "extrapolated"}
    assert backing(rows, tmp_path, "technical=average") == {f"P{i}": expected[r["Tissue"]] for i, r in enumerate(rows)}
    assert set(backing(rows, tmp_path, "lab=average").values()) == {"extrapolated"}  # no assay was in both labs
    # Of the others of a rich design none is flagged, though most single combinations were never seen.
    labs = [{**row, "Lab": lab, "Tissue": "liver"} for row, lab in zip(rows, ("A", "B", "C", "C", "A", "B"))]
    assert "extrapolated" not in backing(labs, tmp_path, "technical=average").values()
    # The own condition alone: what was measured stays measured.
    one = [{**row, "Assay": "ChIP-seq", "Lab": "A"} for row in rows]
    assert set(backing(one, tmp_path, "technical=average").values()) == {"measured"}


def test_an_experiment_is_judged_by_the_factors_that_are_named(trained: tuple[Run, Dataset]) -> None:
    run, _ = trained
    assert experiment_panel(run, {"target": "CTCF"}).support == ["measured"]
    assert experiment_panel(run, {"assay": "CUT&RUN", "lab": "A"}).support == ["measured"]


def test_the_support_of_many_rows_is_that_of_each() -> None:
    from mfd_cli.core.metadata import fit_metadata

    rng = np.random.default_rng(0)
    rows = [{**row, "Target": "" if row["Assay"] == "CUT&RUN" else row["Target"]} for row in tiny.rows(12)]
    metadata = fit_metadata(rows, tiny.config().factors)
    trained = rng.random(12) < 0.8
    known = Backing(metadata, rows, trained)
    asked = [
        {
            "Target": str(rng.choice(["CTCF", "GATA1", "", "NEW"])),
            "Tissue": str(rng.choice(["liver", "brain"])),
            "Assay": str(rng.choice(["ChIP-seq", "CUT&RUN"])),
            "Lab": str(rng.choice(["A", "B", ""])),
        }
        for _ in range(200)
    ]
    one_by_one = [known.of(row)[0] for row in asked]
    assert known.of_all(asked) == one_by_one and len(set(one_by_one)) == 4


def test_tracks_of_one_condition_share_the_rows_that_an_average_is_made_of(trained: tuple[Run, Dataset]) -> None:
    """Rows that differ in what says nothing of the fixed group are one: else there were as many as tracks times conditions."""
    run = trained[0]
    panel = panel_of(run, Predictor(run.model).head, fixes=("technical=average",))
    columns = [
        run.model.metadata.columns[name] for name, factor in run.model.factors.items() if factor.group == "technical"
    ]
    used = {tuple(row[column] for column in columns) for row, keep in zip(run.model.rows, run.model.trained) if keep}
    assert panel.mixture is not None and len(panel.ids) > len(used) > 1
    kinds = len(set(panel.peaks.tolist()))
    assert len(panel.mixture.rows) <= len(used) * kinds
    assert np.allclose(panel.mixture.shares.sum(1), 1)
    assert {tuple(row[column] for column in columns) for row in panel.mixture.rows} == used
