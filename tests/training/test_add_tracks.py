"""`mfd add-tracks`: new tracks have rows of their own, and of the old ones not a bit moves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from kit import tiny
from kit.harm import Outcome, in_process, in_subprocess, snapshot
from mfd_cli.base.long_array import LongArray
from mfd_cli.core.decompose import decompose
from mfd_cli.core.fit_rows import penalty_of, priors_of_added
from mfd_cli.core.losses import SignalScale
from mfd_cli.core.mixed_head import MixedHead
from mfd_cli.core.part_variances import part_variances
from mfd_cli.core.predictor import head_of
from mfd_cli.core.unseen import head_of_rows
from mfd_cli.dataset.folder import Dataset, open_dataset
from mfd_cli.experiments.track import Track
from mfd_cli.runs.at_work import bin_latents
from mfd_cli.runs.folder import Run, load_run
from mfd_cli.settings.names import RESIDUAL
from mfd_cli.training.add_tracks import labelled

CPU = ["--gpus", "0", "--threads", "1", "-q"]
HEADS = ("mixed", "free")
NEW = {"Target": "MAX", "Tissue": "liver", "Assay": "ChIP-seq", "Lab": "C"}
"""The row of a track with a target and a lab that no other track has."""


def dataset_of(
    folder: Path, chosen: Callable[[Track], bool] = lambda track: True, row: dict[str, str] = NEW
) -> Dataset:
    """The tiny world with three peak tracks (one a new target's) and a signal more, or those of its tracks that are chosen."""
    world = tiny.genome()
    meta = [*tiny.rows(10), row]
    splits: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    grid = {"chr1": 0, "chr2": len(world.sequences["chr1"]) // 128}
    every = [Track(f"P{i}", "peaks", meta[i]) for i in range(11)]
    every += [Track(f"S{i}", "signal", meta[i]) for i in range(2)]
    kept = [track for track in every if chosen(track)]
    peaks = [int(track.id[1:]) for track in kept if track.kind == "peaks"]
    signals = [int(track.id[1:]) for track in kept if track.kind == "signal"]
    counted = np.zeros(len(peaks), int)
    for split in ("train", "validation", "test"):
        contig = "chr2" if split == "test" else "chr1"
        called = tiny.labels(world, contig, 10)
        called = np.concatenate([called, called[:, :1] & (np.arange(len(called)) % 3 > 0)[:, None]], 1)
        cut = len(called) * 4 // 5
        part = {"train": slice(0, cut), "validation": slice(cut, None), "test": slice(0, None)}[split]
        signal = np.stack([called[:, 0] * 5.0 + 1, called[:, 1] * 3.0 + 2], 1)[part][:, signals]
        splits[split] = grid[contig] + np.arange(len(called))[part], called[part][:, peaks], signal
        if split == "train":
            counted = called[part][:, peaks].sum(0)
    measured = len(splits["train"][0])
    tracks = [
        Track(track.id, track.kind, track.metadata, int(counted[place]) if place < len(peaks) else 0, measured)
        for place, track in enumerate(kept)
    ]
    return tiny.written(folder, world, tracks, splits)


OLD = ("P0", "P1", "P2", "P3", "P4", "P5", "P6", "P7", "S0")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with runs `mixed`, `free` and `conditioned` of eight peak tracks, of which P3 is held out, and a signal; its
    dataset has two, a third of a new target, and a signal more."""
    folder = tmp_path_factory.mktemp("add")
    dataset_of(folder / "old", lambda track: track.id in OLD)
    dataset_of(folder / "dataset")
    dataset_of(folder / "alone", lambda track: track.id not in OLD)
    (folder / "mfd.toml").write_text(tiny.TOML)
    for head in (*HEADS, "conditioned"):
        words = ["--dataset", "old", "--run", head, "--head", head, "--set", 'train.held_out=["P3"]', "--epochs", "4"]
        done = in_process(["train", *CPU, *words], folder)
        assert done.code == 0, done.told
    for head in HEADS:
        done = in_process(["add-tracks", f"{head}-more", "--run", head, *CPU, "--json"], folder)
        assert done.code == 0 and "Traceback" not in done.told, done.told
        (folder / f"{head}.json").write_text(done.said)
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path / "p")
    return tmp_path / "p"


def runs(folder: Path, head: str) -> tuple[Run, Run, list[int], list[int]]:
    """The old run, the new one, and where the old and the added tracks are in the new one."""
    old, new = load_run(folder / head), load_run(folder / f"{head}-more")
    place = {track.id: number for number, track in enumerate(new.tracks)}
    mine = [place[track.id] for track in old.tracks]
    return old, new, mine, sorted(set(place.values()) - set(mine))


@pytest.mark.parametrize("head", HEADS)
def test_of_the_old_tracks_no_bit_moves(template: Path, head: str) -> None:
    old, new, mine, added = runs(template, head)
    assert [track.id for track in new.tracks] == [*OLD[:8], "P8", "P9", "P10", "S0", "S1"] and len(added) == 4
    assert new.model.trained[mine].tolist() == old.model.trained.tolist() and not old.model.trained.all()
    ours, theirs = head_of(old.model), head_of(new.model)
    assert np.array_equal(ours.shared, theirs.shared) and np.array_equal(ours.bias, theirs.bias[mine])
    assert np.array_equal(ours.matrix(), theirs.matrix()[mine])
    assert all(np.array_equal(part, theirs.groups[group][mine]) for group, part in ours.groups.items())
    latents = bin_latents(new, open_dataset(template / "dataset"), open_dataset(template / "dataset").split("test"))
    assert np.array_equal(ours.logits(latents), theirs.logits(latents)[:, mine])
    if head == "mixed":
        parts, others = decompose(old.model).factors, decompose(new.model).factors
        assert parts.keys() == others.keys()
        assert all(np.array_equal(part, others[name][mine]) for name, part in parts.items())
        assert isinstance(old.model.head, MixedHead) and isinstance(new.model.head, MixedHead)
        for group in old.model.head.groups:
            known = [part_variances(run.model.head, {group: [group]}) for run in (old, new)]
            errors = [one.deviations(group, latents[:50]) for one in known]
            assert np.array_equal(errors[0], errors[1][:, mine])
        asked = [dict(old.tracks[0].metadata)], [track.kind for track in old.tracks], ["peaks"]
        unseen = head_of_rows(old.model, *asked)
        again = head_of_rows(new.model, asked[0], [track.kind for track in new.tracks], asked[2])
        assert all(np.array_equal(part, again.groups[group]) for group, part in unseen.groups.items())
    assert old.signal_scale.to_json()["mean"] == new.signal_scale.to_json()["mean"][:1]


@pytest.mark.parametrize("head", HEADS)
def test_predictions_and_scores_of_the_old_tracks_are_the_same_files(project: Path, head: str) -> None:
    (project / "input.vcf").write_text(
        "##fileformat=VCFv4.2\n##contig=<ID=chr2,length=30000>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        + "".join(
            f"chr2\t{1000 * n + 500}\t.\t{ref}\t{'A' if ref != 'A' else 'C'}\t.\t.\t.\n" for n, ref in bases(project)
        )
    )
    for run in (head, f"{head}-more"):
        words = ["predict", "-r", "chr2:1-20000", "--run", run, "-o", f"predicted-{run}", *CPU]
        scores = ["score-variants", "input.vcf", "--run", run, "-o", f"{run}.vcf", "--per-track", *CPU]
        for line in (words, scores):
            done = in_process(line, project)
            assert done.code == 0, done.told
    tables = [pq.read_table(next((project / f"predicted-{run}").glob("*.parquet"))) for run in (head, f"{head}-more")]
    columns = [name for name in tables[0].column_names if name.split(".")[0] in OLD]
    assert len(columns) >= len(OLD) and all(tables[0][name].equals(tables[1][name]) for name in columns)
    scored = [pq.read_table(next(project.glob(f"{run}*.parquet"))) for run in (head, f"{head}-more")]
    columns = [name for name in scored[0].column_names if any(part in OLD for part in name.split("."))]
    assert columns and all(scored[0][name].equals(scored[1][name]) for name in columns)


def bases(project: Path) -> list[tuple[int, str]]:
    """Where variants lie, and the reference there."""
    sequence = open_dataset(project / "dataset").genome.sequences["chr2"].tobytes().decode()
    return [(n, sequence[1000 * n + 499]) for n in range(1, 20)]


@pytest.mark.parametrize("head", HEADS)
def test_the_new_rows_are_an_optimum(template: Path, head: str) -> None:
    """Loss and penalty are no lower where a row is another one; parts add up to the rows that were fitted."""
    old, new, _, added = runs(template, head)
    assert (new.model.head.weights().matrix()[added] - new.model.head.matrix()[added]).abs().max() < 1e-5
    assert new.signal_scale.ratio.shape == (2,) and (new.signal_scale.ratio > 0).all()
    dataset = open_dataset(template / "dataset")
    bins, tracks = dataset.split("train"), [new.tracks[place] for place in added]
    signals = SignalScale.from_json({name: values[1:] for name, values in new.signal_scale.to_json().items()})
    data = labelled(LongArray.of(bin_latents(old, dataset, bins)), bins, dataset, old, tracks, signals)
    weight, bias = (values.detach()[added].double() for values in (new.model.head.matrix(), new.model.head.bias))
    if isinstance(new.model.head, MixedHead):
        expected = new.model.head.expected_weights()
        penalty = penalty_of(priors_of_added(new.model.head, torch.device("cpu")), expected)
        others = [expected, 0.9 * weight, 1.1 * weight]
    else:
        ridges = torch.tensor(list(json.loads((template / "free.json").read_text())["ridges"].values()))
        penalty = lambda rows: (ridges[:, None] * rows.pow(2)).sum() / 2  # noqa: E731
        others = [0.9 * weight, 1.1 * weight, torch.zeros_like(weight)]
    swapped = weight.clone()
    swapped[0] = old.model.head.matrix()[0].detach()  # a row of a track with the same labels, as the training left it

    def total(rows: torch.Tensor, levels: torch.Tensor) -> float:
        return float(data.losses(rows, levels).sum() + penalty(rows))

    least = total(weight, bias)
    assert all(total(rows, bias) >= least - 1e-6 * abs(least) for rows in (swapped, *others))
    assert all(total(weight, bias + step) >= least - 1e-6 * abs(least) for step in (-0.05, 0.05))


def test_a_free_row_is_the_optimum_of_scikit_learn(project: Path) -> None:
    done = in_process(["add-tracks", "one", "--run", "free", "--ridge", "3", "--dataset", "alone", *CPU], project)
    assert done.code == 0, done.told
    run, dataset = load_run(project / "one"), open_dataset(project / "alone")
    bins = dataset.split("train")
    latents, labels = bin_latents(load_run(project / "free"), dataset, bins), bins.labels(np.arange(3))
    for column, track in enumerate(("P8", "P9", "P10")):
        place = [each.id for each in run.tracks].index(track)
        other = LogisticRegression(C=1 / 3, tol=1e-9, max_iter=10_000).fit(latents.astype(float), labels[:, column])
        assert np.allclose(run.model.head.matrix()[place].detach(), other.coef_[0], atol=2e-3)
        assert float(run.model.head.bias[place].detach()) == pytest.approx(other.intercept_[0], abs=2e-3)


def test_what_nobody_expects_of_a_new_target_is_not_all_residual(template: Path) -> None:
    """A level that the run never saw has the variance of any level, and so its share of what is unexpected."""
    _, new, _, _ = runs(template, "mixed")
    place = [track.id for track in new.tracks].index("P10")
    parts = decompose(new.model)
    assert "MAX" in parts.levels["target"] and np.abs(parts.factors["target"][place]).max() > 0
    assert np.abs(head_of(new.model).groups[RESIDUAL][place]).max() > 0


def test_the_result_says_what_was_added(template: Path) -> None:
    said = json.loads((template / "mixed.json").read_text())
    assert (
        said["added"] == ["P8", "P9", "P10", "S1"] and said["new_levels"]["target"] == ["MAX"] and said["ridges"] == {}
    )
    assert set(json.loads((template / "free.json").read_text())["ridges"]) == set(said["added"])
    told = in_process(["info", "mixed-more"], template).said
    assert f"added tracks: run mixed, weights_sha256 {load_run(template / 'mixed').digest}, count 4" in told
    assert "added tracks" not in in_process(["info", "mixed"], template).said
    assert "names P8, P9, P10, S1" in told and "latent: all groups share 16" in told
    assert "latent: biological 12, technical 4" in in_process(["info", "conditioned"], template).said
    assert "16 latents, which all groups share" in in_process(["info", "mixed-more", "--card"], template).said
    assert "16 latents (12 biological, 4 technical)" in in_process(["info", "conditioned", "--card"], template).said
    assert "4 of the tracks were added" in in_process(["info", "mixed-more", "--card"], template).said


@pytest.mark.parametrize("words", [["evaluate"], ["explain", "--factor", "all"], ["verify", "mixed-more"], ["qc"]])
def test_commands_read_the_new_run(project: Path, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mfd_cli.evaluation.qc.FEWEST_IN_BLOCK", 1)
    monkeypatch.setattr("mfd_cli.evaluation.qc.STEPS", 40)  # which level fits best is test_qc's
    more = [] if words[0] == "verify" else ["--run", "mixed-more", *CPU]
    done = in_process([*words, *more], project)
    assert done.code == 0 and "Traceback" not in done.told, done.told
    if words == ["evaluate"]:
        summary = json.loads((project / "mixed-more/evaluation-test/summary.json").read_text())
        rows = pq.read_table(project / "mixed-more/evaluation-test/tracks.parquet").to_pylist()
        own = [row["auroc"] for row in rows if row["track"] in ("P8", "P9", "P10")]
        assert summary["added_tracks"]["auroc"] == pytest.approx(np.mean(own))
        assert f"added: P8, P9, P10, S1: auroc {np.mean(own):.4f}" in done.said
        free = in_process(["evaluate", "--run", "mixed", "--dataset", "old", *CPU], project).said
        assert "added:" not in free


def test_training_goes_on_from_a_run_with_added_tracks(project: Path) -> None:
    done = in_process(["train", "--run", "all", "--from", "mixed-more", "--epochs", "1", *CPU], project)
    assert done.code == 0, done.told
    assert not load_run(project / "all").model.added.any()


def test_it_works_through_the_real_command(project: Path) -> None:
    before = snapshot(project / "mixed")
    words = ["add-tracks", "again", "--run", "mixed", "--gpus", "0", "--threads", "1"]
    done = in_subprocess(words, project)
    assert done.code == 0 and "Traceback" not in done.told, done.told
    assert "4 tracks added to the 9 of mixed: P8, P9, P10, S1 (3 peaks, 1 signal)" in done.said
    assert "levels of target: 2 levels as in that run, 1 new: MAX" in done.said
    assert "fitting 4 rows: 0 of 1" in done.told and "fitting 4 rows: 1 of 1" in done.told
    assert snapshot(project / "mixed") == before
    assert load_run(project / "again").digest == load_run(project / "mixed-more").digest
    refused = in_process(words, project)
    assert refused.code == 2 and "again: holds a run already" in refused.told
    assert in_process([*words, "--force", "--bins", "200"], project).code == 0
    assert load_run(project / "again").digest != load_run(project / "mixed-more").digest


def refused(project: Path, *words: str) -> Outcome:
    """What is said by a command that writes nothing."""
    before = snapshot(project)
    done = in_process(["add-tracks", *words, *CPU], project)
    assert done.code == 2 and "Traceback" not in done.told, done.told
    after = {name: digest for name, digest in snapshot(project).items() if ".lock" not in name}
    assert {name: digest for name, digest in before.items() if ".lock" not in name} == after
    return done


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["new", "--run", "conditioned"], "conditioned has a conditioned head: its weights are made from the metadata"),
        (["new", "--run", "mixed-more"], "mixed-more has added tracks already, whose parts would change"),
        (["mixed", "--run", "mixed"], "is the run that tracks are added to, which stays as it is"),
        (["new", "--run", "mixed", "--ridge", "1"], "--ridge is for a free head"),
        (["new", "--run", "mixed", "--dataset", "old"], "has no track that mixed does not have"),
        (["new", "--run", "nowhere"], "there is no trained model here"),
        (["new", "--run", "mixed", "--set", 'train.held_out=["P9"]'], "train.held_out keeps P9 out of training"),
        (
            ["new", "--run", "mixed", "--set", "train.held_out=[{target='MAX'}]"],
            "train.held_out keeps P10 out of training",
        ),
    ],
)
def test_what_cannot_work_is_refused(project: Path, words: list[str], message: str) -> None:
    assert message in refused(project, *words).told


def test_datasets_that_do_not_fit_are_refused(project: Path) -> None:
    tiny.dataset(project / "elsewhere", tracks=10, world=tiny.genome(seed=5))
    assert "has another genome" in refused(project, "new", "--run", "mixed", "--dataset", "elsewhere").told
    bare = {name: value for name, value in NEW.items() if name != "Assay"}
    dataset_of(project / "bare", lambda track: track.id == "P10", bare)
    assert (
        "factor assay needs the column 'Assay'" in refused(project, "new", "--run", "mixed", "--dataset", "bare").told
    )
    swapped = {"P8": "P0", "P0": "P8"}
    made = open_dataset(project / "dataset")
    order = [swapped.get(track.id, track.id) for track in made.tracks]
    other = tiny.written(
        project / "mixed-up",
        made.genome,
        [
            Track(name, track.kind, track.metadata, track.positives, track.measured)
            for name, track in zip(order, made.tracks)
        ],
        {
            split: (
                made.grid.offsets["chr2" if split == "test" else "chr1"] + made.split(split).start // 128,
                made.split(split).labels(np.arange(11)),
                made.split(split).signal,
            )
            for split in ("train", "validation", "test")
        },
    )
    assert len(other.tracks) == 13
    assert (
        "below all others in the metadata table"
        in refused(project, "new", "--run", "mixed", "--dataset", "mixed-up").told
    )


@pytest.mark.parametrize(
    ("run", "dataset", "told"),
    [
        ("mixed-more", "alone", "mixed-more: has 9 tracks that the dataset lacks: P0, P1, P2, P3, P4, ... (alone)"),
        ("mixed-more", "old", "mixed-more: has 4 tracks that the dataset lacks: P8, P9, P10, S1 (old)"),
        ("mixed", "dataset", "mixed: does not have 4 tracks of the dataset: P8, P9, P10, S1 (dataset)"),
        ("mixed", "turned", "mixed: has the dataset's tracks in another order, from P0 on (turned)"),
    ],
)
def test_evaluate_says_how_the_dataset_differs(project: Path, run: str, dataset: str, told: str) -> None:
    if dataset == "turned":
        made = open_dataset(project / "old")
        write_tracks_turned(project / "turned", made)
    done = in_process(["evaluate", "--run", run, "--dataset", dataset, *CPU], project)
    assert done.code == 2 and told in done.told and "mfd preprocess --metadata ALL.tsv" in done.told, done.told
    assert ("the added ones last" in done.told) == (run == "mixed-more")


def write_tracks_turned(folder: Path, made: Dataset) -> None:
    """A dataset with the peak tracks of another in the opposite order."""
    turned = made.peak_tracks[::-1]
    splits = {}
    for split, contig in (("train", "chr1"), ("validation", "chr1"), ("test", "chr2")):
        bins = made.split(split)
        labels = bins.labels(np.arange(len(turned)))[:, ::-1]
        splits[split] = made.grid.offsets[contig] + bins.start // 128, labels, np.asarray(bins.signals(np.array([0])))
    tiny.written(folder, made.genome, [*turned, *made.signal_tracks], splits)


def test_a_file_of_a_held_out_experiment_is_refused(project: Path) -> None:
    row = dict(load_run(project / "mixed").tracks[3].metadata) | {"Lab": "Z"}
    text = (project / "mfd.toml").read_text()
    (project / "mfd.toml").write_text(text + '\n[tracks]\nexperiment = ["Tissue"]\n')
    words = ["--dataset", "old", "--run", "held", "--head", "mixed", "--set", 'train.held_out=["P3"]', "--epochs", "1"]
    assert in_process(["train", *CPU, *words], project).code == 0
    dataset_of(project / "leak", lambda track: track.id == "P10", row)
    told = refused(project, "new", "--run", "held", "--dataset", "leak").told
    assert "P10 is of the same experiment as a track that the run holds out" in told
    free = [*words[:2], "--run", "whole", "--head", "free", "--epochs", "1"]
    assert in_process(["train", *CPU, *free], project).code == 0  # which holds nothing out
    done = in_process(["add-tracks", "near", "--run", "whole", "--dataset", "leak", *CPU], project)
    assert done.code == 0 and "new tracks are of the same experiment as P" in done.said, done.told
