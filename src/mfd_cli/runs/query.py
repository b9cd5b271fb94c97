"""The language of `--tracks`: `target == "CTCF" and biosample ~ liver`, from text to a choice among rows.

    or, and, not, ( )          the usual way: not binds closest, then and, then or
    ==  =  !=                  the whole cell, letter for letter
    ~  !~                      the cell contains the text, upper and lower case alike
    <  <=  >  >=               both are numbers; a cell that is none never matches
    in ("A", "B")  not in      the whole cell is one of these
    has                        one of the parts of a cell like `a,b,c` is the text

Texts are in single or double quotes, or bare words; names with spaces take backticks. A quote within quotes is doubled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import numpy as np

from mfd_cli.base.arrays import Bools
from mfd_cli.base.errors import ConfigError, nearest

Columns = Callable[[str], Sequence[str]]
Chosen = Bools
_HINT = 'for example: target == "CTCF" and biosample ~ "liver"; names with spaces take backticks: `Library lab` != "A"'
_KEYWORDS = ("and", "or", "not", "in", "has")
_DEEPEST = 100
_TOKEN = re.compile(
    r"""\s*(?:(?P<name>`(?:[^`]|``)*`)|(?P<text>"(?:[^"]|"")*"|'(?:[^']|'')*')|(?P<sign>==|!=|!~|<=|>=|[=<>~(),])"""
    r"""|(?P<word>[^\s`"'=!<>~(),]+)|(?P<end>$))"""
)
_WORD = re.compile(r"""[^\s`"'=!<>~(),]+""")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")


def _number(cell: str) -> float:
    """The value of a cell; not a number, which no comparison holds for, where it is none."""
    return float(cell) if _NUMBER.fullmatch(cell.strip()) else float("nan")


COMPARISONS: dict[str, Callable[[str, Sequence[str]], bool]] = {
    "==": lambda cell, values: cell == values[0],
    "!=": lambda cell, values: cell != values[0],
    "~": lambda cell, values: values[0].casefold() in cell.casefold(),
    "!~": lambda cell, values: values[0].casefold() not in cell.casefold(),
    "<": lambda cell, values: _number(cell) < _number(values[0]),
    "<=": lambda cell, values: _number(cell) <= _number(values[0]),
    ">": lambda cell, values: _number(cell) > _number(values[0]),
    ">=": lambda cell, values: _number(cell) >= _number(values[0]),
    "in": lambda cell, values: cell in values,
    "has": lambda cell, values: values[0] in cells_for("has", cell),
}


WHOLE_CELLS = ("==", "in", "has")
"""Signs behind which a text is compared as a whole."""


@dataclass(frozen=True)
class Comparison:
    """A column against one text, or several for `in`."""

    name: str
    sign: str
    values: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are asked for, in order."""
        return (self.name,)

    def matches(self, columns: Columns) -> Chosen:
        """Return which rows match, (rows,); `columns` gives the cells of a column by its name."""
        holds = COMPARISONS[self.sign]
        return np.array([holds(cell, self.values) for cell in columns(self.name)], np.bool_)

    def __str__(self) -> str:
        texts = ['"' + value.replace('"', '""') + '"' for value in self.values]
        return f"{_name(self.name)} {self.sign} {'(' + ', '.join(texts) + ')' if self.sign == 'in' else texts[0]}"


@dataclass(frozen=True)
class Not:
    """What the other expression does not match."""

    inner: Expression

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are asked for, in order."""
        return self.inner.names

    def matches(self, columns: Columns) -> Chosen:
        """Return which rows match, (rows,); `columns` gives the cells of a column by its name."""
        return ~self.inner.matches(columns)

    def __str__(self) -> str:
        return f"not {_within(self.inner, (And, Or))}"


@dataclass(frozen=True)
class And:
    """What two or more expressions all match."""

    parts: tuple[Expression, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are asked for, in order."""
        return tuple(name for part in self.parts for name in part.names)

    def matches(self, columns: Columns) -> Chosen:
        """Return which rows match, (rows,); `columns` gives the cells of a column by its name."""
        matching: Chosen = np.all([part.matches(columns) for part in self.parts], axis=0)
        return matching

    def __str__(self) -> str:
        return " and ".join(_within(part, (And, Or)) for part in self.parts)


@dataclass(frozen=True)
class Or:
    """What any of two or more expressions matches."""

    parts: tuple[Expression, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are asked for, in order."""
        return tuple(name for part in self.parts for name in part.names)

    def matches(self, columns: Columns) -> Chosen:
        """Return which rows match, (rows,); `columns` gives the cells of a column by its name."""
        matching: Chosen = np.any([part.matches(columns) for part in self.parts], axis=0)
        return matching

    def __str__(self) -> str:
        return " or ".join(_within(part, (Or,)) for part in self.parts)


Expression = Comparison | Not | And | Or


def _within(inner: Expression, kinds: tuple[type, ...]) -> str:
    """The inner expression as a part of another one, in parentheses if it is of these kinds."""
    return f"({inner})" if isinstance(inner, kinds) else str(inner)


def _name(name: str) -> str:
    plain = _WORD.fullmatch(name) and name.lower() not in _KEYWORDS
    return name if plain else "`" + name.replace("`", "``") + "`"


@dataclass(frozen=True)
class Query:
    """A parsed query; its text, written anew, is `str(query)` and means the same.

    >>> query = parse_query("target = CTCF and not year < 2015")
    >>> str(query), query.names
    ('target == "CTCF" and not year < "2015"', ('target', 'year'))
    >>> query.select([{"target": "CTCF", "year": "2016"}, {"target": "CTCF", "year": "2009"}]).tolist()
    [True, False]
    """

    tree: Expression

    @property
    def names(self) -> tuple[str, ...]:
        """The columns it asks for, in order, each once."""
        return tuple(dict.fromkeys(self.tree.names))

    def select(self, rows: Sequence[Mapping[str, str]]) -> Chosen:
        """Return which rows match, (rows,) bool. A row without a column that others have counts as empty there.

        Raises ConfigError where no row has a column, naming the nearest right one.
        """
        known = {name for row in rows for name in row}
        for name in self.names:
            if rows and name not in known:
                raise ConfigError(f"there is no column {name!r}{nearest(name, known)}", hint=_HINT)
        return self.tree.matches(lambda name: [row.get(name, "") for row in rows])

    def unknown_texts(self, rows: Sequence[Mapping[str, str]]) -> list[str]:
        """Return a sentence on each text that a whole cell should be and none is, with the nearest that one is."""
        sentences = []
        for one in comparisons_of(self.tree):
            cells = {part for row in rows for part in cells_for(one.sign, row.get(one.name, ""))}
            missing = [text for text in one.values if text not in cells] if one.sign in WHOLE_CELLS else []
            sentences += [f"no {one.name} is {text!r}{nearest(text, cells)}" for text in missing]
        return sentences

    def __str__(self) -> str:
        return str(self.tree)


def comparisons_of(tree: Expression) -> list[Comparison]:
    """Return the comparisons of an expression, in order."""
    if isinstance(tree, Comparison):
        return [tree]
    return [one for part in ((tree.inner,) if isinstance(tree, Not) else tree.parts) for one in comparisons_of(part)]


def cells_for(sign: str, cell: str) -> list[str]:
    """Return what a text may be to match a cell by a sign of WHOLE_CELLS: the cell, or one of its parts."""
    return [part.strip() for part in cell.split(",")] if sign == "has" else [cell]


def parse_query(text: str) -> Query:
    """Return the query in a text. ConfigError where it is not one, with a caret where it goes wrong."""
    return Query(_Parser(text).query())


class _Token(NamedTuple):
    """`kind` is name (in backticks), text (in quotes), sign, word or end; `value` is without quotes; `at` its place."""

    kind: str
    value: str
    at: int


def _fail(text: str, at: int, what: str) -> NoReturn:
    shown = re.sub(r"\s", " ", text)  # one line, and the caret stays where it belongs
    raise ConfigError(f"{what}, at the caret: {shown[:at]}^{shown[at:]}", hint=_HINT)


def _tokens(text: str) -> list[_Token]:
    tokens, at = list[_Token](), 0
    while not tokens or tokens[-1].kind != "end":
        match = _TOKEN.match(text, at)
        if match is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            _fail(text, at, "'!' is not followed by = or ~" if text[at] == "!" else f"the {text[at]} is not closed")
        kind = str(match.lastgroup)
        value, at = match[kind], match.end()
        if kind in ("name", "text"):
            value = value[1:-1].replace(value[0] * 2, value[0])
        tokens.append(_Token(kind, value, match.start(kind)))
    return tokens


class _Parser:
    """Recursive descent: one method per rule, each leaves `here` after what it has read."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.here, self.depth = text, _tokens(text), 0, 0

    @property
    def token(self) -> _Token:
        """The next token, which has not been read yet."""
        return self.tokens[self.here]

    def fail(self, what: str) -> NoReturn:
        """Raise ConfigError with a caret at the next token."""
        _fail(self.text, self.token.at, what)

    def next(self) -> _Token:
        """Return the next token and step over it."""
        token = self.token
        self.here += 1
        return token

    def is_word(self, word: str, ahead: int = 0) -> bool:
        """Return whether the next token, or one further `ahead`, is this keyword."""
        token = self.tokens[min(self.here + ahead, len(self.tokens) - 1)]
        return token.kind == "word" and token.value.lower() == word

    def skip(self, sign: str) -> bool:
        """Return whether this sign comes next, and step over it if it does."""
        is_next = self.token.kind == "sign" and self.token.value == sign
        self.here += is_next
        return is_next

    def query(self) -> Expression:
        """Read the whole text: either, end."""
        if self.token.kind == "end":
            self.fail("the query is empty")
        tree = self.either()
        if self.token.kind != "end":
            quotes = " (a text of several words takes quotes)" if self.token.kind == "word" else ""
            self.fail(f"expected and, or, or the end{quotes}")
        return tree

    def either(self) -> Expression:
        """Read `both or both or ...`."""
        parts = [self.both()]
        while self.is_word("or"):
            self.next()
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def both(self) -> Expression:
        """Read `single and single and ...`."""
        parts = [self.single()]
        while self.is_word("and"):
            self.next()
            parts.append(self.single())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def single(self) -> Expression:
        """Read `not single`, `( either )` or a comparison."""
        self.depth += 1
        if self.depth > _DEEPEST:
            self.fail(f"more than {_DEEPEST} levels of not and parentheses")
        if self.is_word("not"):
            self.next()
            tree: Expression = Not(self.single())
        elif self.skip("("):
            tree = self.either()
            if not self.skip(")"):
                self.fail("expected and, or, or )")
        else:
            tree = self.comparison()
        self.depth -= 1
        return tree

    def comparison(self) -> Expression:
        """Read a column's name, a sign and what it is compared with; `not in` is the one sign of two words."""
        name = self.name()
        if self.is_word("not") and self.is_word("in", ahead=1):
            self.next()
            return Not(self.comparison_of(name))
        return self.comparison_of(name)

    def name(self) -> str:
        """Read the name of a column: a bare word or in backticks."""
        token = self.token
        if token.kind == "text":
            self.fail("expected the name of a column (names take backticks, not quotes)")
        if token.kind not in ("word", "name") or (token.kind == "word" and token.value.lower() in _KEYWORDS):
            self.fail("expected the name of a column")
        if not token.value:
            self.fail("the name of a column is empty")
        return self.next().value

    def comparison_of(self, name: str) -> Comparison:
        """Read a sign and what the column is compared with."""
        sign = "==" if self.token.value == "=" else self.token.value.lower()
        if self.token.kind not in ("sign", "word") or sign not in COMPARISONS:
            self.fail(f"expected one of {' '.join(COMPARISONS)}")
        self.next()
        return Comparison(name, sign, self.values() if sign == "in" else (self.value(number=sign[0] in "<>"),))

    def values(self) -> tuple[str, ...]:
        """Read `( value, value, ... )`."""
        if not self.skip("("):
            self.fail("expected ( after in")
        values = [self.value()]
        while self.skip(","):
            values.append(self.value())
        if not self.skip(")"):
            self.fail("expected , or )")
        return tuple(values)

    def value(self, number: bool = False) -> str:
        """Read a text, which must be a `number` where it is compared as one."""
        token = self.token
        if token.kind not in ("text", "word"):
            self.fail("expected a text")
        if token.kind == "word" and token.value.lower() in _KEYWORDS:
            self.fail(f'expected a text ("{token.value}" in quotes, if that is the text)')
        if number and not _NUMBER.fullmatch(token.value.strip()):
            self.fail("expected a number")
        return self.next().value
