"""How the file of a user's table writes its rows, so that samples can be written in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Form:
    """The form of a table's file.

    Attributes:
        ending: of its name, such as ".csv"; "" of a data frame.
        separator: of the fields of a text file.
        decimal: the mark in its numbers, a point or a comma.
        newline: what ends its lines.
        mark: whether it begins with a byte order mark.
        times: of its columns of dates and times, how they are written, in the words of ``strftime``.
        schema: the types of the columns of any other file, as Arrow's schema in base64; "" where there are none.
        table: of a database, what it is called there.
    """

    ending: str = ".csv"
    separator: str = ","
    decimal: str = "."
    newline: str = "\n"
    mark: bool = False
    times: Mapping[str, str] = field(default_factory=dict)
    schema: str = ""
    table: str = ""

    @property
    def is_text(self) -> bool:
        """Whether values are text, so that their types are to be found out."""
        return not self.schema

    def plain(self) -> dict[str, Any]:
        """Return what differs from plain comma-separated text, as JSON takes it."""
        return {name: value for name, value in vars(self).items() if value != getattr(COMMAS, name)}


COMMAS = Form()
"""Plain comma-separated text."""

LINES = Form(".txt")
"""Text without columns."""
