"""What examples/scale_model.py says a run will take, against the run."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from kit.harm import in_process
from kit.places import ROOT

EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def model() -> Iterator[ModuleType]:
    """examples/scale_model.py."""
    sys.path.insert(0, str(EXAMPLES))
    import scale_model

    yield scale_model
    sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scale")
    short = ("--set", "train.max_windows=512", "--set", "train.epochs=1000")
    for words in (
        ["simulate", "p", "--size", "tiny", "-q"],
        ["preprocess", "-c", "p/mfd.toml", "--threads", "1", "-q"],
        ["train", "-c", "p/mfd.toml", "--gpus", "0", "--threads", "1", "-q", *short],
    ):
        done = in_process(words, folder)
        assert done.code == 0, done.told
    return folder / "p"


@pytest.mark.skipif("MFD_SOAK" not in os.environ, reason="it measures time, which make soak does")
@pytest.mark.parametrize(("name", "size"), [("score", 3200), ("train", 8192)])
def test_a_run_takes_what_was_calculated(
    name: str, size: int, model: ModuleType, project: Path, tmp_path: Path
) -> None:
    """Costs are measured before and after the run, in processor seconds: other programs slow down both alike."""
    place = model.Place(project, tmp_path)
    before = model.measured(place, name, 0.5)
    real = model.COMMANDS[name][0](place, size)
    after = model.measured(place, name, 0.5)
    assert all(cost.largest < size / 2 for cost in (before, after)), "the run is larger than what was measured"
    assert real.units == size and real.took.cpu > 1.4 * statistics.mean([before.start, after.start]), "it is no start"
    calculated = statistics.mean(cost.seconds(size) for cost in (before, after))
    assert 1 / 1.5 < real.took.cpu / calculated < 1.5
    disk = statistics.mean(cost.bytes_on_disk(size) for cost in (before, after))
    assert name == "train" or 1 / 1.5 < real.disk / disk < 1.5
    assert real.took.memory < 2 * before.memory


def test_costs_that_explain_the_runs_are_found(model: ModuleType) -> None:
    def run(units: int, outputs: int) -> object:
        seconds, size = 2 + units * (0.01 + 0.001 * outputs), units * 4 * outputs
        return model.Sample(units, outputs, model.Spent(2 * seconds, seconds, 1000 + units), size)

    cost = model.fitted([run(10, 20), run(1000, 20), run(1000, 1)], lambda took: took.cpu)
    found = (cost.start, cost.unit, cost.output, cost.disk, cost.output_disk, cost.memory, cost.largest)
    assert found == pytest.approx((2, 0.01, 0.001, 0, 4, 2000, 1000), abs=1e-6)
    assert cost.seconds(1000, 20) == pytest.approx(2 + 30)
    assert cost.seconds(1000, 20, devices=10, worker=1.5) == pytest.approx(2 + 1.5 + 3)
    assert cost.bytes_on_disk(1000, 20) == pytest.approx(80_000)


def test_a_data_set_is_calculated_from_stored_costs(tmp_path: Path) -> None:
    cost = {"start": 3.6, "unit": 1e-3, "output": 0.0, "disk": 100.0, "output_disk": 0.0, "memory": 1e9, "largest": 1e4}
    costs = {
        "commands": dict.fromkeys(("preprocess", "train", "predict", "score", "saturate"), cost),
        "worker": 0.0,
        "gpus": 0,
        "genome_bins": 1000,
        "tracks": 10,
        "megabytes": 5.0,
        "shares": [0.5, 0.25],
    }
    (tmp_path / "costs.json").write_text(json.dumps(costs))
    words = ["--bins", "36e6", "--tracks", "100", "--variants", "7.2e6", "--saturate", "0", "--devices", "2"]
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "scale_model.py"), str(tmp_path / "costs.json"), *words],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[2:7]}
    # 7.2 million variants at 1 ms each on two cores: an hour, and 3.6 s to start
    assert rows["score"] == ["7,200,000", "variants", "1", "0.72", "5.6"]
    assert rows["predict"] == ["36,000,000", "bins", "5", "3.6", "5.6"]
    assert rows["saturate"][:3] == ["0", "substitutions", "0.001"]
    # 18 million training bins, once; validations of 20,000 bins, each a third of a window, every 250,000 windows
    assert rows["train"][0] == "18,480,000"
    # ten times the tracks on 36,000 times the bins
    assert rows["preprocess"][0] == "1,800,000"
    assert "measured with 10 tracks: train, score and saturate take longer with more" in done.stdout
