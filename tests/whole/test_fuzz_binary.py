"""Damage that nobody thought of: bigWigs, manifests and model descriptions are read, or refused by an error of ours."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit import harm
from kit.harm_bigwig import built, good_sections
from mfd_cli.base.errors import MfdError
from mfd_cli.base.stored_json import DIGEST, write_stored
from mfd_cli.dataset.folder import open_dataset
from mfd_cli.dataset.manifest import SPLITS
from mfd_cli.formats.bigwig_writer import BigWigs
from mfd_cli.formats.bin_means import bin_means
from mfd_cli.runs.folder import load_last, load_run

FAST = settings(
    max_examples=150 * harm.FUZZED, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 5),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.sampled_from([1 << 31, 1 << 63, 10**30, "../x", "0" * 64]),
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "project"
    harm.trained_project(folder)
    return folder


@pytest.fixture(scope="module")
def bigwigs(tmp_path_factory: pytest.TempPathFactory, project: Path) -> list[bytes]:
    """As pyBigWig writes it, as we do, and built by hand, compressed and not."""
    ours = tmp_path_factory.mktemp("fuzz") / "ours.bw"
    with BigWigs([ours], harm.CONTIGS) as file:
        for contig in harm.CONTIGS:
            file.write(contig, np.arange(0, 9000, 50), np.arange(180.0)[:, None], 50)
    some = good_sections()[:4]
    own = (project / "tracks/five.bw").read_bytes()
    return [own, ours.read_bytes(), built(some), built(some, packed=False)]


@FAST
@given(data=st.data())
def test_damaged_bigwigs(data: st.DataObject, bigwigs: list[bytes], tmp_path: Path) -> None:
    raw = bytearray(data.draw(st.sampled_from(bigwigs)))
    for _ in range(data.draw(st.integers(1, 4))):
        # The first and last bytes hold headers and trees; in between are values.
        near = st.integers(0, min(500, len(raw) - 1))
        place = data.draw(st.one_of(near, near.map(lambda at: -1 - at), st.integers(0, len(raw) - 1))) % len(raw)
        how = data.draw(st.sampled_from(["byte", "bytes", "number", "cut", "splice", "insert"]))
        if how == "byte":
            raw[place] = data.draw(st.integers(0, 255))
        elif how == "bytes":
            new = data.draw(st.binary(max_size=20))
            raw[place : place + len(new)] = new
        elif how == "number":
            new = data.draw(st.sampled_from([0, 1, len(raw), place, (1 << 64) - 1])).to_bytes(8, "little")
            raw[place : place + 8] = new
        elif how == "cut":
            del raw[place : place + data.draw(st.integers(1, 2000))]
        elif how == "splice":
            other = data.draw(st.integers(0, len(raw) - 1))
            raw[place : place + 100] = raw[other : other + 100]
        else:
            raw[place:place] = data.draw(st.binary(min_size=1, max_size=20))
        if not raw:
            raw = bytearray(b"\0")
    file = tmp_path / "damaged.bw"
    file.write_bytes(raw)
    read_or_refused(lambda: bin_means(file, harm.CONTIGS))


@FAST
@given(data=st.data())
def test_damaged_manifests(data: st.DataObject, project: Path) -> None:
    def work(folder: Path) -> None:
        dataset = open_dataset(folder)
        for split in SPLITS:
            dataset.split(split)

    damaged(data, project / "dataset" / "manifest.json", lambda: work(project / "dataset"))


@FAST
@given(data=st.data())
def test_damaged_models(data: st.DataObject, project: Path) -> None:
    damaged(data, project / "run" / "model.json", lambda: load_run(project / "run"))


@FAST
@given(data=st.data())
def test_damaged_states(data: st.DataObject, project: Path) -> None:
    damaged(data, project / "run" / "last" / "state.json", lambda: load_last(project / "run"))


def damaged(data: st.DataObject, file: Path, work: Any) -> None:
    """Change a few entries of a JSON file, all digests being right; work; put the good file back."""
    kept = file.with_suffix(".good")
    shutil.copy(file, kept)
    try:
        tree = copy.deepcopy(json.loads(file.read_text()))
        tree.pop(DIGEST)
        for _ in range(data.draw(st.integers(1, 3))):
            change(data, tree)
        write_stored(file, tree)
        read_or_refused(work)
    finally:
        kept.replace(file)


def change(data: st.DataObject, tree: Any) -> None:
    """Walk down a tree at random; remove, replace, double or swap what is there."""
    node, depth = tree, data.draw(st.integers(0, 6))
    while True:
        keys: list[Any] = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if depth == 0 or not isinstance(node[key], (dict, list)):
            break
        node, depth = node[key], depth - 1
    how = data.draw(st.sampled_from(["remove", "replace", "replace", "replace", "double", "swap"]))
    if how == "remove":
        del node[key]
    elif how == "replace":
        node[key] = data.draw(ODD)
    elif how == "swap":
        other = data.draw(st.sampled_from(keys))
        node[key], node[other] = node[other], node[key]
    elif isinstance(node, list):
        node.append(copy.deepcopy(node[key]))
    else:
        node[data.draw(st.text(max_size=3))] = copy.deepcopy(node[key])


def read_or_refused(work: Any) -> None:
    """Nothing but an answer or one of our errors, which says something."""
    try:
        work()
    except MfdError as error:
        assert str(error) and error.path is not None
