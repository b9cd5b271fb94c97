"""`mfd predict --sd`: how sure parts are, against weights drawn from the head's own model, and through the command."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from kit import tiny
from kit.harm import Outcome, in_process, trained_project
from mfd_cli.base.errors import ConfigError
from mfd_cli.base.long_array import LongArray
from mfd_cli.core.mixed_head import MixedHead
from mfd_cli.core.predictor import Predictor
from mfd_cli.core.terms import term_kernel
from mfd_cli.core.unseen import head_of_rows
from mfd_cli.dataset.folder import Dataset
from mfd_cli.evaluation.experiment_errors import experiment_errors
from mfd_cli.genome.intervals import Interval
from mfd_cli.predictions.part_deviations import part_deviations
from mfd_cli.runs.folder import Run, load_run
from mfd_cli.runs.new_experiment import experiment_panel
from mfd_cli.runs.panel import Panel, panel_of
from mfd_cli.view.prediction_folder import open_predictions
from mfd_cli.view.shown import NumbersTrack

TRACKS, LATENT, NOISE = 12, 8, 0.25
PARTS = ("total", "shared", "biological", "technical", "residual", "debiased")
HELD = 5
LEVELS = {"target": "CTCF", "tissue": "brain", "assay": "CUT&RUN", "lab": "A"}
PREDICT = ["predict", "-r", "chr1:1025-4096", "--gpus", "0", "--threads", "1", "-q"]
ALL_PARTS = [word for part in PARTS for word in ("--part", part)]


@pytest.fixture(scope="module")
def mixed(trained: tuple[Run, Dataset]) -> Run:
    """A run of a mixed head with known variances, the same along each latent, and one track held out."""
    used = [number != HELD for number in range(TRACKS)]
    settings = {"head": "mixed", "subspaces": "joint", "latent": LATENT}
    model = tiny.model(TRACKS, used, model=settings)
    tracks = tuple(
        dataclasses.replace(trained[0].tracks[0], id=f"P{number}", metadata=row)
        for number, row in enumerate(tiny.rows(TRACKS))
    )
    head = model.head
    assert isinstance(head, MixedHead)
    space = head.spaces[0]
    variances = torch.tensor([*np.resize([0.5, 0.3, 0.4, 0.2, 0.3, 0.2], len(space.terms)), 0.15])
    with torch.no_grad():
        head.covariance.copy_(torch.eye(LATENT))
        head.curvature.fill_(1 / NOISE)
        head.variances(space).copy_(variances)
        head.axes(space).copy_(torch.eye(LATENT))
        head.get_buffer("duals_latent").copy_(torch.eye(LATENT))
        head.axis_variances(space).copy_(variances[:, None].expand(-1, LATENT))
    head.derive()
    return dataclasses.replace(trained[0], model=model, tracks=tracks)


def panels_of(run: Run) -> dict[str, Panel]:
    """Tracks, tracks under another technical condition, and experiments that nobody did, whole and averaged."""
    head = Predictor(run.model).head
    return {
        "tracks": panel_of(run, head),
        "some": panel_of(run, head, "target == CTCF"),
        "fixed": panel_of(run, head, None, ["assay=CUT&RUN"]),
        "average": panel_of(run, head, "assay == ChIP-seq", ["technical=average"]),
        "experiment": experiment_panel(run, LEVELS),
        "of a target": experiment_panel(run, {"target": "GATA1"}),
    }


def drawn_world(run: Run, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray], list[dict[str, str]]]:
    """The mean row, and each term's effect on everybody's weights: (people, latent) of the run's tracks and of all rows that
    panels are means of. The head's weights become what is expected of the tracks' own, given noisy data."""
    head = run.model.head
    assert isinstance(head, MixedHead)
    space, rows = head.spaces[0], head.get_buffer("rows")
    mixtures = [panel.mixture for panel in panels_of(run).values() if panel.mixture is not None]
    people = [*map(dict, run.model.rows), *(dict(row) for mixture in mixtures for row in mixture.rows)]
    mean, effects = 2 * rng.normal(size=(1, LATENT)), dict[str, np.ndarray]()
    for term, variance in zip(space.terms, head.variances(space).tolist()):
        values, vectors = np.linalg.eigh(variance * term_kernel(run.model.metadata, term, people, people))
        effects[term.name] = vectors * np.sqrt(values.clip(0)) @ rng.normal(size=(len(people), LATENT))
    effects["residual"] = np.sqrt(float(head.variances(space)[-1])) * rng.normal(size=(len(people), LATENT))
    seen = mean + sum(effects.values())[:TRACKS] + np.sqrt(NOISE) * rng.normal(size=(TRACKS, LATENT))
    with torch.no_grad():
        noise, precision = head.noise(), head.components(space).projection()
        right = torch.from_numpy(seen)[rows] / noise[:, None]
        head.weight[rows] = torch.linalg.solve(torch.diag(1 / noise) + precision, right).float()
    head.derive()
    head.fill_held_out()
    return mean, effects, people


def true_parts(
    run: Run, panel: Panel, mean: np.ndarray, effects: Mapping[str, np.ndarray], first: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """The true weights (outputs, latent) of every part of a panel, whose mixture's rows are the people from `first` on."""
    head = run.model.head
    assert isinstance(head, MixedHead)
    training, groups = head.get_buffer("rows").numpy(), dict[str, np.ndarray]()
    shared = mean
    assert any(term.group == "residual" for term in head.terms)  # products between groups, which keep their mean
    for group in ("biological", "technical", "residual"):
        of_people = sum(effects[term.name] for term in head.terms if term.group == group)
        middle = head.centre[group].numpy()[training] @ of_people[training]
        if panel.mixture is not None and group in panel.mixture.groups:
            of_people = panel.mixture.shares @ of_people[first : first + len(panel.mixture.rows)]
        else:
            of_people = of_people[panel.track]
        groups[group], shared = of_people - middle, shared + middle
    nobody = np.std(effects["residual"]) * rng.normal(size=(len(panel.ids), LATENT))
    groups["residual"] = groups["residual"] + np.where(
        panel.track[:, None] >= 0, effects["residual"][panel.track], nobody
    )
    parts = {"shared": np.broadcast_to(shared, groups["residual"].shape), **groups}
    parts["debiased"] = parts["shared"] + groups["biological"] + groups["residual"]
    return parts | {"total": parts["debiased"] + groups["technical"]}


def found_parts(panel: Panel) -> dict[str, np.ndarray]:
    """The weights (outputs, latent) of every part that the model predicts."""
    head = panel.head
    parts = {"shared": np.broadcast_to(head.shared, head.groups["residual"].shape), **head.groups}
    parts["debiased"] = head.shared + head.groups["biological"] + head.groups["residual"]
    return parts | {"total": head.matrix()}


@pytest.mark.slow
def test_parts_lie_from_drawn_ones_as_far_as_is_said(mixed: Run) -> None:
    """Of tracks, trained and held out, of fixed ones, of averages and of experiments that nobody did; of every part."""
    rng, latents = np.random.default_rng(4), np.eye(LATENT, dtype=np.float32)
    said = {name: part_deviations(mixed, panel, PARTS) for name, panel in panels_of(mixed).items()}
    missed: dict[tuple[str, str], list[np.ndarray]] = {(name, part): [] for name in said for part in PARTS}
    for _ in range(150):
        mean, effects, _ = drawn_world(mixed, rng)
        first = TRACKS
        for name, panel in panels_of(mixed).items():
            truth, found = true_parts(mixed, panel, mean, effects, first, rng), found_parts(panel)
            first += 0 if panel.mixture is None else len(panel.mixture.rows)
            for part in PARTS:
                missed[name, part].append(np.square(found[part] - truth[part]).mean(1))
    for (name, part), squares in missed.items():
        deviations = said[name].deviations(part, latents)
        assert np.allclose(deviations, deviations[0])  # each latent is alike
        if (name, part) == ("experiment", "total"):
            assert deviations[0, 0] > said["tracks"].deviations(part, latents)[0, 0]
        assert np.sqrt(np.mean(squares, 0)) == pytest.approx(deviations[0], rel=0.12), (name, part)


def test_the_total_of_an_experiment_is_as_sure_as_impute_says(mixed: Run) -> None:
    """Held-out tracks and experiments by their levels, beside the `error` of `mfd impute`."""
    rng = np.random.default_rng(6)
    drawn_world(mixed, rng)
    latents = rng.normal(size=(300, LATENT)).astype(np.float32)
    latents -= latents.mean(0)
    columns = mixed.model.metadata.columns
    rows = [{columns[name]: level for name, level in LEVELS.items()}, mixed.model.rows[HELD]]
    head = head_of_rows(mixed.model, rows, ["peaks"] * TRACKS, ["peaks"] * 2)
    errors = experiment_errors(mixed, rows, head, LongArray.of(latents))
    panels = panels_of(mixed)
    for row, name, number in zip(errors, ("experiment", "tracks"), (0, HELD)):
        said = part_deviations(mixed, panels[name], ["total"]).deviations("total", latents)[:, number]
        assert np.sqrt(np.square(said).mean()) == pytest.approx(row["error"], rel=1e-5)


def test_a_held_out_track_of_a_level_that_nobody_measured_is_less_sure(trained: tuple[Run, Dataset]) -> None:
    rows = tiny.rows(TRACKS)
    rows[HELD]["Target"] = "NOBODY"
    assert rows[HELD] != tiny.rows(TRACKS)[HELD]
    said = []
    for given in (tiny.rows(TRACKS), rows):
        model = tiny.model(TRACKS, [number != HELD for number in range(TRACKS)], model={"head": "mixed"})
        model.rows[HELD] = given[HELD]
        run = dataclasses.replace(trained[0], model=model, tracks=(trained[0].tracks[0],) * TRACKS)
        head = model.head
        assert isinstance(head, MixedHead)
        with torch.no_grad():
            head.curvature.fill_(100.0)
        head.learn_axes(torch.randn(200, 16, generator=torch.Generator().manual_seed(1)))
        for space in head.spaces:
            head.axis_variances(space).fill_(1.0)
        known = part_deviations(run, panel_of(run, Predictor(model).head), ["biological"])
        said.append(known.deviations("biological", np.ones((1, 16), np.float32))[0, HELD])
    assert said[0] < said[1]


@pytest.mark.parametrize("head", ["conditioned", "free"])
def test_other_heads_are_refused(trained: tuple[Run, Dataset], head: str) -> None:
    run = dataclasses.replace(trained[0], model=tiny.model(9, model={"head": head}))
    with pytest.raises(ConfigError, match=f"--sd: this model has a {head} head") as caught:
        part_deviations(run, panel_of(run, Predictor(run.model).head), ["total"])
    assert caught.value.hint == "train with --head mixed"


# -- through the command -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of four peak tracks and one signal, trained for a moment."""
    folder = tmp_path_factory.mktemp("sd") / "p"
    trained_project(folder)
    return folder


def predict(project: Path, output: Path, *words: str) -> tuple[Outcome, pd.DataFrame, pd.DataFrame]:
    """`mfd predict`, with predictions.parquet and outputs.tsv."""
    done = in_process([*PREDICT, "-o", str(output), *words], project)
    assert done.code == 0, done.told
    outputs = pd.read_csv(output / "outputs.tsv", sep="\t", keep_default_na=False).set_index("output")
    return done, pd.read_parquet(output / "predictions.parquet"), outputs


def test_the_files_have_a_column_beside_each_output(project: Path, tmp_path: Path) -> None:
    _, plain, _ = predict(project, tmp_path / "plain", *ALL_PARTS, "--no-bigwig")
    _, table, outputs = predict(project, tmp_path / "p", *ALL_PARTS, "--sd")
    names = list(plain.columns[3:])
    assert list(table.columns[3:]) == [each for name in names for each in (name, f"{name}.sd")] == list(outputs.index)
    assert plain.equals(table[plain.columns])  # the predictions are the same to the last bit
    assert (outputs.loc["T1.sd", "part"], outputs.loc["T1.technical.sd", "part"]) == ("total.sd", "technical.sd")
    assert outputs.loc["T1.sd", "scale"] == outputs.loc["T1.shared.sd", "scale"] == "standard deviation of the logit"
    assert outputs.loc["T5.sd", "scale"] == "standard deviation of the standardised log signal"
    import pyBigWig

    with pyBigWig.open(str(tmp_path / "p/T1.technical.sd.bw")) as file:
        values = [value for _, _, value in file.intervals("chr1")]
        assert np.allclose(values, table["T1.technical.sd"], atol=1e-6)
    run = load_run(project / "run")
    from mfd_cli import open_dataset

    genome, predictor = open_dataset(project / "dataset").genome, Predictor(run.model)
    latents = predictor.latents_at(table["start"].to_numpy(), predictor.cutter(genome, "chr1"))
    known = part_deviations(run, panel_of(run, predictor.head), PARTS)
    for part in PARTS:
        expected, end = known.deviations(part, latents), "" if part == "total" else f".{part}"
        for number in range(5):
            assert np.allclose(table[f"T{number + 1}{end}.sd"], expected[:, number], rtol=1e-4, atol=1e-6)
    assert (table["T1.technical.sd"] > 0).any()


def test_fixed_factors_and_experiments_have_them_too(project: Path, tmp_path: Path) -> None:
    words = ("--part", "technical", "--sd", "--no-bigwig", "--tracks", "kind == peaks")
    _, fixed, _ = predict(project, tmp_path / "f", *words, "--fix", "assay=CUT&RUN")
    # One assay for all: what it contributes is one effect, and no one knows more of it than another.
    assert np.ptp([fixed[f"T{number}.technical.sd"] for number in (1, 2, 3, 4)], axis=0).max() < 1e-6
    words = ("--sd", "--no-bigwig", "--experiment", "target=CTCF", "--experiment", "assay=CUT&RUN")
    _, asked, _ = predict(project, tmp_path / "e", *words)
    _, own, _ = predict(project, tmp_path / "o", "--sd", "--no-bigwig", "--tracks", "id == T3")
    # T3 is such an experiment, and was made: of another one the data say no more, and what is peculiar to it they do not say.
    assert (asked["target=CTCF,assay=CUT&RUN.sd"] > 0.9999 * own["T3.sd"]).all()


def test_a_page_shows_them_beside_the_parts_and_lists_the_parts(project: Path, tmp_path: Path) -> None:
    predict(project, tmp_path / "p", "--part", "technical", "--sd", "--tracks", "id == T1")
    folder = open_predictions(tmp_path / "p", 3)
    assert [row["output"] for row in folder.tables()[0].rows] == ["T1.technical"] * 3
    part, deviation = folder.tracks([Interval("chr1", 1024, 4096)])
    assert isinstance(part, NumbersTrack) and isinstance(deviation, NumbersTrack)
    assert deviation.name == "T1.technical.sd" and (deviation.colour, deviation.axis) == (part.colour, part.axis)


def test_the_interval_of_a_signal_is_that_of_its_log(project: Path, tmp_path: Path) -> None:
    """The formula of docs/predict.md, from the files alone: a total of log + z sd, in the signal's own units."""
    _, table, _ = predict(
        project, tmp_path / "p", "--sd", "--part", "total", "--part", "debiased", "--part", "technical"
    )
    scale = {
        name: values[0] for name, values in json.loads((project / "run/model.json").read_text())["signal_scale"].items()
    }
    log = (table["T5.debiased"] + table["T5.technical"] + 1.645 * table["T5.sd"]) * scale["sd"] + scale["mean"]
    expected = np.expm1(log) * scale["floor"] * scale["ratio"]
    least = scale["floor"] * scale["ratio"]
    upper = (table["T5"] + least) * np.exp(1.645 * scale["sd"] * table["T5.sd"]) - least
    assert np.allclose(upper, expected, rtol=1e-3) and (upper > table["T5"]).all()


def test_a_head_without_them_leaves_nothing_behind(project: Path, tmp_path: Path) -> None:
    words = ["train", "--head", "conditioned", "--run", str(tmp_path / "run"), "-q", "--gpus", "0", "--threads", "1"]
    assert in_process(words, project).code == 0
    done = in_process([*PREDICT, "--run", str(tmp_path / "run"), "-o", str(tmp_path / "p"), "--sd"], project)
    assert done.code == 2 and "--sd: this model has a conditioned head" in done.told
    assert "hint: train with --head mixed" in done.told and not (tmp_path / "p").exists()
