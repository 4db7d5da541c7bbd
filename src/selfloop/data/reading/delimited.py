"""Separated text as people and spreadsheets write it: what separates its fields, and what its numbers are."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import IO

from selfloop.core.columns import is_number
from selfloop.core.errors import DataError, quoted
from selfloop.data.reading.exact import EXACT

WHOLE = re.compile(r"\s*[+-]?[0-9]+\s*")
MISSING = frozenset(
    [
        *[
            "",
            "?",
            "na",
            "n/a",
            "nan",
            "-nan",
            "nat",
            "null",
            "none",
            "<na>",
            "#n/a",
            "#na",
            "1.#ind",
            "-1.#ind",
            "1.#qnan",
            "-1.#qnan",
        ],
        "#n/a n/a",
    ]
)
"""What stands for a missing value in text, in small letters: pandas' list, and a question mark."""
_THOUSANDS = re.compile(r"\s*[+-]?[1-9][0-9]{0,2},[0-9]{3}\s*")  # what may be 1234 as well as 1.234


USUAL = ",;\t|"
_OF_NAMES = " _-.\"'()[]{}/%\\"  # what stands in names, and separates none


LONGEST = 2**24
"""Characters of the longest line read; a thousand columns of text take some ten thousand."""


def lines(text: IO[str], source: str) -> Iterator[str]:
    """Yield lines of text that is not trusted to end any.

    Raises:
        DataError: one is longer than :data:`LONGEST`.
    """
    number = 0
    while line := text.readline(LONGEST):
        number += 1
        if len(line) == LONGEST:
            raise DataError(f"{source}: line {number} is longer than {LONGEST:,} characters, as none of a table is")
        yield line


def delimiter(text: IO[str], source: str) -> str:
    """Return what separates the names, and as many fields of the first row.

    That is a comma, a semicolon, a tab or a bar; where none of these, spaces or any other mark in the first line.

    Raises:
        DataError: more than one character may.
    """
    text.seek(0)
    first = next(lines(text, source), "").strip()
    others = "".join(sorted({each for each in first if not (each.isalnum() or each in _OF_NAMES)}))
    fitting = _fitting(text, USUAL, source) or _fitting(text, " ", source) or _fitting(text, others, source)
    if len(fitting) > 1:
        what = " or ".join(map(repr, fitting))
        raise DataError(f"{source}: its columns may be separated by {what}; write it with commas, and quote other ones")
    return fitting[0] if fitting else ","


def _fitting(text: IO[str], characters: str, source: str) -> list[str]:
    """Return which characters separate several names, and as many fields of the first row if any do that."""
    found = {}
    for each in characters:
        text.seek(0)
        found_lines = lines(text, source)
        given = (line.strip(" \r\n") + "\n" for line in found_lines) if each == " " else found_lines
        rows = filter(None, csv.reader(given, strict=True, delimiter=each, skipinitialspace=True))
        try:
            found[each] = len(next(rows, [])), len(next(rows, []))
        except csv.Error:  # quotes that end before another character
            continue
    separating = [each for each, (names, _) in found.items() if names > 1]
    even = [each for each in separating if len(set(found[each])) == 1]
    return even or (separating if characters == USUAL else [])


class Marks:
    """What commas in a file's numbers are: nothing where commas separate, else decimal marks, if that is sure.

    Args:
        separator: of the fields.
    """

    def __init__(self, separator: str) -> None:
        self.separator = separator
        self.point = self.sure = False  # whether a decimal point was seen, and a comma that marks no thousands
        self.comma = ""  # where the first one was seen

    def number(self, text: str, where: str) -> float:
        """Return the number a field holds, or say what is wrong with it."""
        if is_number(text):
            self.point = self.point or "." in text
            return float(text)
        if is_number(text.replace(",", ".")):
            if self.separator == ",":
                raise DataError(
                    f"{where}: the comma in {quoted(text, 40)} may be a decimal mark or one of thousands; "
                    "write a point, or nothing"
                )
            self.comma = self.comma or where
            self.sure = self.sure or _THOUSANDS.fullmatch(text) is None
            return float(text.replace(",", "."))
        if text.strip().lower() in MISSING:
            raise DataError(f"{where}: the value is missing; remove the row or fill it in")
        raise DataError(f"{where}: {quoted(text, 40)} is not a number; correct it or leave the column out")

    def settle(self) -> None:
        """Refuse commas that may mark thousands.

        Raises:
            DataError: there are some.
        """
        if self.comma and (self.point or not self.sure):
            why = "others have a decimal point" if self.point else "all of them may mark thousands"
            raise DataError(
                f"{self.comma}: a number has a comma, and {why}; write decimals with a point, and no marks of thousands"
            )


def is_beyond(text: str) -> bool:
    """Whether a field is a whole number beyond 2⁵³."""
    if not WHOLE.fullmatch(text):
        return False
    digits = text.strip().lstrip("+-0")
    return len(digits) > len(str(EXACT)) or int(digits or "0") > EXACT
