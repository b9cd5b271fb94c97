"""Metadata encoders: every type, missing and unseen values, round trips."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfd_cli.base.errors import MetadataError
from mfd_cli.core.metadata import ENCODERS, MISSING, MetadataEncoder, fit_metadata
from mfd_cli.settings.config import FactorConfig

COLUMNS = {
    "category": ["b", "a", "", "b, c"],
    "multilabel": ["brain,heart", "heart", "", "liver"],
    "year": ["2021-05-01", "2012", "", "May 2012"],
    "number": ["1", "3", "", "5"],
}


def fit(kind: str, values: list[str], **settings: object) -> MetadataEncoder:
    factor = FactorConfig.model_validate({"column": "x", "group": "biological", "type": kind, **settings})
    return fit_metadata([{"x": value} for value in values], {"f": factor})


def encode(encoder: MetadataEncoder, values: list[str], unseen: str = "error") -> np.ndarray:
    return encoder.encode([{"x": value} for value in values], unseen)["f"]  # type: ignore[arg-type]


def test_category() -> None:
    encoder = fit("category", COLUMNS["category"])
    assert encoder.levels("f") == [MISSING, "a", "b", "b, c"]
    assert encode(encoder, ["a", ""]).tolist() == [[0, 1, 0, 0], [1, 0, 0, 0]]


def test_multilabel_splits_at_commas() -> None:
    encoder = fit("multilabel", COLUMNS["multilabel"])
    assert encoder.levels("f") == [MISSING, "brain", "heart", "liver"]
    assert encode(encoder, ["heart, liver"]).tolist() == [[0, 0, 1, 1]]


def test_year_is_read_out_of_a_date_and_keeps_its_vocabulary() -> None:
    encoder = fit("year", COLUMNS["year"])
    assert encoder.levels("f") == [MISSING, "2012", "2021"]
    again = MetadataEncoder.from_json(json.loads(json.dumps(encoder.to_json())))
    assert again.levels("f") == encoder.levels("f")
    with pytest.raises(MetadataError, match="no level '2015'"):
        encode(again, ["2015"])


def test_a_missing_number_is_the_mean_with_an_indicator_and_poisons_nothing() -> None:
    encoder = fit("number", COLUMNS["number"])
    matrix = encode(encoder, COLUMNS["number"])
    sd = np.std([1, 3, 5])  # ddof 0
    assert np.allclose(matrix[:, 0], [-2 / sd, 0, 0, 2 / sd])
    assert matrix[:, 1].tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("value", ["2", "0", "-1e300", "0.1"])
def test_a_constant_number_is_zero_whatever_comes_later(value: str) -> None:
    """The spread of seven times 0.1 is 1e-17 in floating point: nothing may be divided by that."""
    encoder = fit("number", [value] * 7)
    assert encode(encoder, [value, "0.2", "1e9", ""]).tolist() == [[0, 0], [0, 0], [0, 0], [0, 1]]
    assert encode(MetadataEncoder.from_json(json.loads(json.dumps(encoder.to_json()))), ["3"]).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("kind", "values", "sole"),
    [
        ("category", ["a", "a"], "a"),
        ("category", ["", ""], MISSING),
        ("category", ["a", ""], ""),
        ("multilabel", ["b,a", "a, b"], "a,b"),
        ("multilabel", ["a", "a,b"], ""),
        ("year", ["2021-05-01", "2021"], "2021"),
        ("number", ["0.1"] * 7, "0.1"),
        ("number", ["0.1", "0.10000000000000001"], "0.1"),
        ("number", ["0.1", ""], ""),
        ("number", ["0.3", "0.30000000000000004"], "0.3"),
        ("number", ["1000000000", "1000000001"], ""),
    ],
)
def test_a_factor_varies_or_has_one_level(kind: str, values: list[str], sole: str) -> None:
    encoder = fit(kind, values)
    assert encoder.sole_levels() == ({"f": sole} if sole else {})
    codes = encode(encoder, values)
    assert (codes == codes[:1]).all() == bool(sole)


def test_an_unseen_level_is_an_error_naming_the_nearest_or_the_mean_level() -> None:
    encoder = fit("category", ["liver", "brain", "brain"])
    with pytest.raises(MetadataError, match="did you mean liver"):
        encode(encoder, ["livr"])
    assert np.allclose(encode(encoder, ["livr"], "mean"), [[2 / 3, 1 / 3]])


def test_missing_may_be_an_error() -> None:
    with pytest.raises(MetadataError, match="1 tracks have no value"):
        fit("category", ["a", ""], missing="error")


@pytest.mark.parametrize(("kind", "values"), [("number", ["1", "high"]), ("number", ["inf", "1"]), ("year", ["soon"])])
def test_wrong_values_are_errors_that_show_them(kind: str, values: list[str]) -> None:
    with pytest.raises(MetadataError, match=r"factors\.f: .*(high|inf|soon)"):
        fit(kind, values)


def test_an_absent_column_names_the_nearest() -> None:
    with pytest.raises(MetadataError, match="did you mean Assay"):
        fit_metadata([{"Assay": "a"}], {"f": FactorConfig(column="Asay", group="technical")})


@pytest.mark.parametrize("kind", list(ENCODERS))
def test_round_trip_through_json(kind: str) -> None:
    encoder = fit(kind, COLUMNS[kind])
    again = MetadataEncoder.from_json(json.loads(json.dumps(encoder.to_json())))
    assert np.array_equal(encode(again, COLUMNS[kind]), encode(encoder, COLUMNS[kind]))
    assert again.to_json() == encoder.to_json()


@pytest.mark.parametrize("kind", list(ENCODERS))
def test_every_training_row_has_a_level(kind: str) -> None:
    encoder = fit(kind, COLUMNS[kind])
    member = encoder.membership("f", [{"x": value} for value in COLUMNS[kind]])
    assert member.shape == (4, len(encoder.levels("f")))
    assert member.any(1).all()


@given(st.lists(st.text(max_size=8).filter(lambda text: "\0" not in text), min_size=1, max_size=12))
def test_codes_do_not_depend_on_the_order_of_rows(values: list[str]) -> None:
    forward, backward = fit("category", values), fit("category", values[::-1])
    assert np.array_equal(encode(forward, values), encode(backward, values))
    assert encode(forward, values).sum(1).tolist() == [1] * len(values)
