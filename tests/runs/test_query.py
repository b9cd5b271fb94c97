"""The language of --tracks: what it means, that it can be written back, and what it says when it is not understood."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mfd_cli.base.errors import ConfigError
from mfd_cli.runs.query import COMPARISONS, And, Comparison, Expression, Not, Or, Query, parse_query

ROWS = [
    {
        "id": "ENCFF001ABC",
        "target": "CTCF",
        "biosample": "Liver tissue",
        "assay": "ChIP-seq",
        "year": "2015",
        "kind": "peaks",
        "Library lab": "A",
        "labels": "a, b,c",
    },
    {
        "id": "ENCFF002ABC",
        "target": "",
        "biosample": "HepG2",
        "assay": "ATAC-seq",
        "year": "2009.5",
        "kind": "signal",
        "Library lab": "B",
        "labels": "abc",
    },
    {
        "id": "ENCFF003ABC",
        "target": "CTCFL",
        "biosample": "liver",
        "assay": "DNase-seq",
        "year": "unknown",
        "kind": "peaks",
        "Library lab": "A",
        "labels": "",
    },
]


def chosen(text: str) -> list[int]:
    return np.flatnonzero(parse_query(text).select(ROWS)).tolist()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('target == "CTCF"', [0]),
        ("target = CTCF", [0]),
        ("target==CTCF", [0]),
        ("target != 'CTCF'", [1, 2]),
        ('target == ""', [1]),
        ('target == "CTCF" and biosample ~ "liver"', [0]),
        ("biosample ~ LIVER", [0, 2]),
        ("biosample !~ liver", [1]),
        ('assay in ("ATAC-seq", "DNase-seq")', [1, 2]),
        ("assay not in (ATAC-seq, 'DNase-seq')", [0]),
        ('assay in ("ATAC-seq") or not kind != peaks', [0, 1, 2]),
        ("year >= 2015", [0]),
        ("year > 2015", []),
        ("year < 2.015e3", [1]),
        ("not year >= 2015", [1, 2]),
        ("year <= 2015", [0, 1]),
        ('`Library lab` == "A"', [0, 2]),
        ('id == "ENCFF001ABC"', [0]),
        ("kind == peaks", [0, 2]),
        ("labels has b", [0]),
        ("labels has abc", [1]),
        ('labels == "a, b,c"', [0]),
        # and binds closer than or; not closer than both
        ("kind == signal or kind == peaks and target == CTCF", [0, 1]),
        ("(kind == signal or kind == peaks) and target == CTCF", [0]),
        ("not kind == signal and target == CTCF", [0]),
        ("NOT (kind == signal OR target == CTCF)", [2]),
    ],
)
def test_what_a_query_chooses(text: str, rows: list[int]) -> None:
    assert chosen(text) == rows


@pytest.mark.parametrize("cell", ["", "nan", "inf", "1_000", "0x10", "1,5", "three", "٣"])
def test_what_is_no_number_never_matches(cell: str) -> None:
    for sign in ("<", "<=", ">", ">="):
        assert not parse_query(f"x {sign} 5").select([{"x": cell}]).any()


def test_names_are_told_once_and_in_order() -> None:
    assert parse_query("b == 1 and (a == 2 or not b == 3) and `c d` in (x)").names == ("b", "a", "c d")


def test_no_rows_choose_nothing() -> None:
    found = parse_query("a == 1 and b == 2").select([])
    assert found.shape == (0,) and found.dtype == np.bool_


def test_a_row_may_lack_a_column() -> None:
    assert parse_query('a == ""').select([{"a": "1", "b": ""}, {"b": "2"}]).tolist() == [False, True]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"there is no column 'targt'; did you mean target\?") as caught:
        chosen("kind == peaks or targt == CTCF")
    assert "backticks" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the query is empty, at the caret: ^"),
        ("  ", "the query is empty, at the caret:   ^"),
        ("target", "expected one of == != ~ !~ < <= > >= in has, at the caret: target^"),
        ("target CTCF", "expected one of == != ~ !~ < <= > >= in has, at the caret: target ^CTCF"),
        ("target ==", "expected a text, at the caret: target ==^"),
        ("target == `CTCF`", "expected a text, at the caret: target == ^`CTCF`"),
        ("target == and", 'expected a text ("and" in quotes, if that is the text), at the caret: target == ^and'),
        ("a == b c", "expected and, or, or the end (a text of several words takes quotes), at the caret: a == b ^c"),
        ("a == b)", "expected and, or, or the end, at the caret: a == b^)"),
        ("(a == b", "expected and, or, or ), at the caret: (a == b^"),
        ("(a == b\n\tc", "expected and, or, or ), at the caret: (a == b  ^c"),
        ("a == b and", "expected the name of a column, at the caret: a == b and^"),
        ("or == b", "expected the name of a column, at the caret: ^or == b"),
        ("'a' == b", "expected the name of a column (names take backticks, not quotes), at the caret: ^'a' == b"),
        ("`` == b", "the name of a column is empty, at the caret: ^`` == b"),
        ("a in b", "expected ( after in, at the caret: a in ^b"),
        ("a in (b c)", "expected , or ), at the caret: a in (b ^c)"),
        ("a in ()", "expected a text, at the caret: a in (^)"),
        ("a == 'b", "the ' is not closed, at the caret: a == ^'b"),
        ("`a == b", "the ` is not closed, at the caret: ^`a == b"),
        ("a ! b", "'!' is not followed by = or ~, at the caret: a ^! b"),
        ("year > new", "expected a number, at the caret: year > ^new"),
        (
            "not " * 101 + "a == b",
            "more than 100 levels of not and parentheses, at the caret: " + "not " * 100 + "^not a == b",
        ),
    ],
)
def test_a_fault_is_shown_with_a_caret_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_query(text)
    assert str(caught.value) == message
    assert "for example" in str(caught.value.hint)


def test_many_parentheses_are_a_fault_and_no_crash() -> None:
    with pytest.raises(ConfigError, match="levels"):
        parse_query("(" * 100_000)


# Random expressions: over three columns with awkward names, and texts of any letters.
NAMES = ("target", "Library lab", "a`b", "not")
SIGNS = sorted(set(COMPARISONS) - {"in"})
texts = st.one_of(st.sampled_from(["CTCF", "ctcf", "a", "a,b", "5", "", 'say "x"']), st.text(max_size=5))


def comparison(name: str, sign: str, value: str, number: int, several: list[str]) -> Comparison:
    if sign == "in":
        return Comparison(name, sign, tuple(several))
    return Comparison(name, sign, (str(number) if sign[0] in "<>" else value,))


comparisons = st.builds(
    comparison,
    st.sampled_from(NAMES),
    st.sampled_from([*SIGNS, "in"]),
    texts,
    st.integers(-3, 9),
    st.lists(texts, min_size=1, max_size=3),
)
expressions: st.SearchStrategy[Expression] = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=12,
)
rows = st.lists(st.fixed_dictionaries(dict.fromkeys(NAMES, texts)), max_size=6)


@given(expressions)
def test_a_query_can_be_written_and_read_back(tree: Expression) -> None:
    assert parse_query(str(Query(tree))).tree == tree


@given(expressions, expressions, rows)
def test_de_morgan(one: Expression, other: Expression, some: list[dict[str, str]]) -> None:
    def select(tree: Expression) -> list[bool]:
        found: list[bool] = Query(tree).select(some).tolist()
        return found

    assert select(Not(And((one, other)))) == select(Or((Not(one), Not(other))))
    assert select(Not(Or((one, other)))) == select(And((Not(one), Not(other))))
    assert select(Not(Not(one))) == select(one)


@given(expressions, rows)
def test_rows_are_judged_one_by_one(tree: Expression, some: list[dict[str, str]]) -> None:
    found = Query(tree).select(some)
    assert found.dtype == np.bool_ and found.shape == (len(some),)
    assert found.tolist() == [bool(Query(tree).select([row])[0]) for row in some]


@given(st.text(alphabet=" \n\"'`()=!<>~,abnotri5", max_size=25))
@example("a == '")
@example("\n!")
def test_any_text_is_a_query_or_a_config_error(text: str) -> None:
    try:
        query = parse_query(text)
    except ConfigError as error:
        assert "\n" not in str(error)
        shown = re.sub(r"\s", " ", text)
        told = str(error).partition("at the caret: ")[2]
        assert len(told) == len(shown) + 1 and told.replace("^", "") == shown
    else:
        assert parse_query(str(query)) == query
