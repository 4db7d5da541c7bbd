"""How the file of a user's table writes its rows, so that samples can be written in the same way."""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter


@dataclass(frozen=True)
class Form:
    """The form of a table's file.

    Attributes:
        ending: of its name, such as ".csv"; "" of a data frame.
        separator: of the fields of a text file.
        decimal: the mark in its numbers, a point or a comma.
        newline: what ends its lines.
        mark: whether it begins with a byte order mark.
        times: of its columns of dates and times, how they are written, in the words of ``strftime``; "%-d" is a day
            without a zero before it, "%3f" a fraction of 3 digits, "%-f" one without zeros behind it.
        schema: the types of the columns of any other file, as Arrow's schema in base64; "" where there are none.
        table: of a database, what it is called there.
        places: of its columns of numbers that all have as many decimals, how many.
    """

    ending: str = ".csv"
    separator: str = ","
    decimal: str = "."
    newline: str = "\n"
    mark: bool = False
    times: Mapping[str, str] = field(default_factory=dict)
    schema: str = ""
    table: str = ""
    places: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_text(self) -> bool:
        """Whether values are text, so that their types are to be found out."""
        return not self.schema

    def types(self) -> dict[str, Any]:
        """Return the types of the columns as Arrow has them, of a file that has such."""
        return _types(self.schema) if self.schema else {}

    def is_clock(self, name: str) -> bool:
        """Whether a column of times has those of a day, without a date."""
        if name in self.times:
            return "%Y" not in self.times[name]
        return str(self.types().get(name)).startswith("time")

    def plain(self) -> dict[str, Any]:
        """Return what differs from plain comma-separated text, as JSON takes it."""
        return {name: value for name, value in vars(self).items() if value != getattr(COMMAS, name)}


@functools.lru_cache(maxsize=8)
def _types(schema: str) -> dict[str, Any]:
    import pyarrow as pa

    return {column.name: column.type for column in pa.ipc.read_schema(pa.py_buffer(base64.b64decode(schema)))}


_ENDING = re.compile(r"(\.[A-Za-z0-9]{1,8})?")
_PLACES, _LONGEST = 30, 400  # decimals of numbers, and letters of how times are written


def read_form(written: Mapping[str, Any]) -> Form:
    """Return what :meth:`Form.plain` wrote.

    Raises:
        TypeError, ValueError: it is something else, or what no table is written in.
    """
    form = Form(**written)
    TypeAdapter(Form).validate_python(vars(form))
    if form.newline not in ("\n", "\r\n") or form.decimal not in (".", ",") or len(form.separator) != 1:
        raise ValueError("lines, fields or numbers that are written in no such way")
    if form.separator in ('"', "\n", "\r") or not _ENDING.fullmatch(form.ending):
        raise ValueError("a file that is of no such kind")
    if any(not 0 <= int(places) <= _PLACES for places in form.places.values()):
        raise ValueError("numbers of so many decimals")
    if any(len(words) > _LONGEST for words in form.times.values()):
        raise ValueError("times in so many words")
    try:
        form.types()
    except Exception as error:  # whatever Arrow stumbles over
        raise ValueError("types that are none of Arrow's") from error
    return form


COMMAS = Form()
"""Plain comma-separated text."""

LINES = Form(".txt")
"""Text without columns."""
