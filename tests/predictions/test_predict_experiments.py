"""`mfd predict --experiment` through the command: of which kind an experiment is, and what its numbers are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from kit.harm import Outcome, good_project, in_process, trained_project
from kit.odd import signals_alone
from mfd_cli import Predictor, load_run
from mfd_cli.genome.sequence import Genome
from mfd_cli.predictions.predicted_columns import experiment_scale, predicted_columns
from mfd_cli.runs.new_experiment import experiment_panel
from mfd_cli.runs.panel import panel_of

HERE = ["predict", "-r", "chr1:1025-2048", "--no-bigwig", "--gpus", "0", "--threads", "1", "-q"]


@pytest.fixture(scope="module")
def signals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signals") / "p"
    signals_alone(folder)
    return folder


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of four peak tracks and one signal."""
    folder = tmp_path_factory.mktemp("both") / "p"
    trained_project(folder)
    return folder


def predict(project: Path, output: Path, *words: str) -> Outcome:
    return in_process([*HERE, "-o", str(output), *words], project)


def outputs_of(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of outputs.tsv, by the name of the output."""
    header, *rows = [line.split("\t") for line in (folder / "outputs.tsv").read_text().splitlines()]
    return {row[0]: dict(zip(header, row)) for row in rows}


def scale_of(output: Path) -> str:
    """The scale that outputs.tsv says the first output has."""
    return next(iter(outputs_of(output).values()))["scale"]


def test_the_experiment_of_a_project_of_signals_is_a_signal(signals: Path, tmp_path: Path) -> None:
    done = predict(signals, tmp_path / "p", "--experiment", "target=CTCF")
    assert done.code == 0, done.told
    assert scale_of(tmp_path / "p") == "standardised log signal"
    # The numbers are the head's, on the scale of the loss: the experiment has no units of its own.
    run = load_run(signals / "run")
    panel = experiment_panel(run, {"target": "CTCF"}, "signal")
    genome: Genome = _genome(signals)
    predictor = Predictor(run.model)
    starts = range(1024, 2048, 128)
    windows = [genome.codes("chr1", s - predictor.left, s - predictor.left + predictor.window) for s in starts]
    expected = panel.head.logits(predictor.latents(np.stack(windows)))[:, 0]
    assert np.allclose(pq.read_table(tmp_path / "p/predictions.parquet")["target=CTCF"].to_numpy(), expected, atol=1e-5)


def _genome(project: Path) -> Genome:
    from mfd_cli import open_dataset

    return open_dataset(project / "dataset").genome


def test_a_kind_that_nobody_trained_on_is_refused(signals: Path, tmp_path: Path) -> None:
    done = predict(signals, tmp_path / "p", "--experiment", "target=CTCF", "--kind", "peaks")
    assert done.code == 2 and "--kind peaks: no track of this kind took part in training" in done.told
    assert "hint: --kind signal" in done.told and not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("kind", "scale"),
    [(None, "probability of a peak"), ("peaks", "probability of a peak"), ("signal", "standardised log signal")],
)
def test_where_both_exist_the_kind_can_be_chosen(both: Path, tmp_path: Path, kind: str | None, scale: str) -> None:
    words = ["--kind", kind] if kind else []
    done = predict(both, tmp_path / "p", "--experiment", "target=GATA1", *words)
    assert done.code == 0, done.told
    assert scale_of(tmp_path / "p") == scale
    values = pq.read_table(tmp_path / "p/predictions.parquet")["target=GATA1"].to_numpy()
    assert np.isfinite(values).all() and (kind == "signal" or ((values > 0) & (values < 1)).all())


def test_the_kind_goes_with_an_experiment(both: Path, tmp_path: Path) -> None:
    done = predict(both, tmp_path / "p", "--kind", "signal")
    assert done.code == 2 and "--kind goes with --experiment" in done.told
    done = predict(both, tmp_path / "p", "--experiment", "target=CTCF", "--kind", "bigwig")
    assert done.code == 2 and "--kind is 'bigwig', not one of peaks, signal" in done.told
    assert not (tmp_path / "p").exists()


def test_an_experiment_of_counts_is_relative_to_the_mean(signals: Path) -> None:
    run = load_run(signals / "run")
    assert experiment_scale(run, "signal") == "standardised log signal"
    run.signal_scale.counts[:] = True
    assert experiment_scale(run, "signal") == "count relative to the mean"


def test_outputs_without_a_bigwig_name_no_file(both: Path, tmp_path: Path) -> None:
    assert predict(both, tmp_path / "p").code == 0
    header, *rows = [line.split("\t") for line in (tmp_path / "p/outputs.tsv").read_text().splitlines()]
    assert len(rows) == 5 and {row[header.index("file")] for row in rows} == {""}
    assert not list((tmp_path / "p").glob("*.bw"))


PARTS = [
    word for part in ("total", "shared", "biological", "technical", "residual", "debiased") for word in ("--part", part)
]


def test_the_files_say_how_parts_add_up(both: Path, tmp_path: Path) -> None:
    """From predictions.parquet and outputs.tsv alone: a probability is made of its bias and parts, and so is a signal."""
    assert predict(both, tmp_path / "p", *PARTS).code == 0
    table = pq.read_table(tmp_path / "p/predictions.parquet").to_pandas()
    outputs = outputs_of(tmp_path / "p")
    stored = json.loads((both / "run/model.json").read_text())["signal_scale"]
    for track in ("T1", "T2", "T3", "T4", "T5"):
        shared, bio, tech, own, debiased = (table[f"{track}.{part}"] for part in PARTS[3::2])
        bias = float(outputs[f"{track}.shared"]["bias"])
        assert np.allclose(bias + shared + bio + own, debiased, atol=1e-5) and bias != 0
        assert {outputs[f"{track}.{part}"]["bias"] for part in PARTS[3::2]} == {outputs[track]["bias"]}
        total = debiased + tech
        if track == "T5":  # a signal: the log-normal's mean
            logs = total * stored["sd"][0] + stored["mean"][0]
            expected = np.sign(logs) * np.expm1(np.abs(logs)) * stored["floor"][0] * stored["ratio"][0]
        else:
            expected = 1 / (1 + np.exp(-total))
        assert np.allclose(table[track], expected, rtol=1e-4, atol=1e-6)
    assert [outputs[name]["scale"] for name in ("T1", "T1.technical", "T5", "T5.technical")] == [
        "probability of a peak", "logit", "mean signal", "standardised log signal",
    ]  # fmt: skip


def test_parts_of_counts_are_logs(both: Path) -> None:
    run = load_run(both / "run")
    run.signal_scale.counts[:] = True
    panel = panel_of(run, Predictor(run.model).head)
    columns = predicted_columns(run, panel, ["total", "shared"], of_experiment=False)
    assert [column.scale for column in columns[-2:]] == ["mean count", "log of the count relative to the mean"]


def test_two_outputs_of_one_name_are_refused(both: Path, tmp_path: Path) -> None:
    project = tmp_path / "p"
    good_project(project)
    for old, new in (("T1\t", "start\t"), ("T2\t", "T3.shared\t")):
        text = (project / "metadata.tsv").read_text()
        (project / "metadata.tsv").write_text(text.replace(old, new, 1))
    for words in (["preprocess"], ["train", "--gpus", "0"]):
        assert in_process([*words, "-q", "--threads", "1"], project).code == 0
    for name, words in (("start", []), ("T3.shared", ["--tracks", "id != start", *PARTS])):
        done = predict(project, tmp_path / "out", *words)
        assert done.code == 2 and f"two columns of predictions.parquet would be called {name!r}" in done.told
        assert not (tmp_path / "out").exists()
    assert predict(project, tmp_path / "out", "--tracks", "id != start").code == 0


def imputed(project: Path, folder: Path, table: str, *words: str) -> tuple[Outcome, list[dict[str, str]]]:
    """`mfd impute --metadata`, and the rows of experiments.tsv."""
    (folder / "rows.tsv").write_text(table)
    words = ("impute", "--metadata", str(folder / "rows.tsv"), "-o", str(folder / "i"), *words)
    done = in_process([*words, "--force", "--gpus", "0", "--threads", "1", "-q"], project)
    if done.code:
        return done, []
    header, *rows = [line.split("\t") for line in (folder / "i/experiments.tsv").read_text().splitlines()]
    return done, [dict(zip(header, row)) for row in rows]


def test_rows_of_a_table_are_of_the_kind_that_training_had(signals: Path, both: Path, tmp_path: Path) -> None:
    columns = json.loads((signals / "run/model.json").read_text())["metadata"].values()
    cells = {column["column"]: column["vocabulary"][0] for column in columns}
    of_signals = "\t".join(cells) + "\n" + "\t".join(cells.values()) + "\n"
    done, rows = imputed(signals, tmp_path, of_signals, "--split", "train")
    assert done.code == 0 and [row["kind"] for row in rows] == ["signal"], done.told
    assert np.isfinite(pq.read_table(tmp_path / "i/predictions.parquet")["row 1"].to_numpy()).all()
    done, _ = imputed(signals, tmp_path, of_signals, "--kind", "peaks", "--split", "train")
    assert done.code == 2 and "--kind peaks: no track of this kind took part in training" in done.told

    table = "File accession\tTarget\tAssay\nnew\tCTCF\tChIP-seq\nT5\tCTCF\tCUT&RUN\nT1\tCTCF\tChIP-seq\n"
    for words, kind in (((), "peaks"), (("--kind", "peaks"), "peaks"), (("--kind", "signal"), "signal")):
        done, rows = imputed(both, tmp_path, table, *words)
        # A track of the model is what it is.
        assert done.code == 0 and [row["kind"] for row in rows] == [kind, "signal", "peaks"], done.told
    done = in_process(["impute", "--kind", "signal", "--gpus", "0", "-q"], both)
    assert done.code == 2 and "--kind goes with --metadata" in done.told
