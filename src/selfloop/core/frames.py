"""Results as tables for people: pandas frames, and HTML in notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from selfloop.core.errors import ConfigError, to_install

if TYPE_CHECKING:
    import pandas as pd


_LOOK = (
    "<style>table.selfloop{border-collapse:collapse;font-size:.9em;font-variant-numeric:tabular-nums}"
    "table.selfloop th,table.selfloop td{padding:.3em .8em;text-align:left;vertical-align:top;max-width:40em}"
    "table.selfloop th{font-weight:600}table.selfloop tbody>tr>*{border-top:1px solid rgba(128,128,128,.35)}</style>"
)
"""How tables of the report look, on a light page and on a dark one: no colour but that of the page."""


class Table(NamedTuple):
    """Headings, and rows of cells below them."""

    headings: list[str]
    rows: list[list[str]]

    def __str__(self) -> str:
        lines = [self.headings, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = ("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
        return "\n".join(padded)


def frame(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return rows, by the names of their columns, as a pandas frame.

    Raises:
        ConfigError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ConfigError(to_install("to_frame", "pandas", "frames")) from error
    return pd.DataFrame(list(rows), columns=None if columns is None else list(columns))


def html_table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table of plain texts, none of which is taken for markup, as HTML; it scrolls where it is wide."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in headings)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    table = f'<table class="selfloop"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'{_LOOK}<div style="overflow-x:auto">{table}</div>'
