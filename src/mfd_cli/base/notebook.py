"""How values show themselves in a notebook: one line, or a small table in HTML, escaped, that needs nothing from elsewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from html import escape


def one_line(value: object, text: str) -> str:
    """Return what `repr` says of a value that cannot be typed: its class and a few words.

    >>> one_line(3, "and a half")
    '<int and a half>'
    """
    return f"<{type(value).__name__} {text}>"


def facts_table(title: str, facts: Mapping[str, str]) -> str:
    """Return facts, what each is about -> what it says, as a table in HTML below a title."""
    left = 'style="text-align:left"'
    rows = "".join(
        f"<tr><th {left}>{escape(name)}</th><td {left}>{escape(text)}</td></tr>" for name, text in facts.items()
    )
    return f"<table><caption {left}><b>{escape(title)}</b></caption><tbody>{rows}</tbody></table>"


class Told(ABC):
    """A result that is told in `lines`: `repr` says the first of them, and a notebook shows them all."""

    @abstractmethod
    def lines(self) -> list[str]:
        """Return the result as lines for the terminal."""

    def __repr__(self) -> str:
        return one_line(self, (self.lines() or [""])[0])

    def _repr_html_(self) -> str:
        rows = "".join(f"<div>{escape(line)}</div>" for line in self.lines())
        return f"<div><b>{escape(type(self).__name__)}</b>{rows}</div>"
