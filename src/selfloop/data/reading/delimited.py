"""Separated text as people and spreadsheets write it: what separates its fields, and what its numbers are."""

from __future__ import annotations

import csv
import re
from typing import IO

from selfloop.core.errors import DataError, quoted
from selfloop.data.reading.exact import EXACT

WHOLE = re.compile(r"\s*[+-]?[0-9]+\s*")
_MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})
_THOUSANDS = re.compile(r"\s*[+-]?[1-9][0-9]{0,2},[0-9]{3}\s*")  # what may be 1234 as well as 1.234


def delimiter(text: IO[str], source: str) -> str:
    """Return what separates the names, and as many fields of the first row.

    Raises:
        DataError: more than one character may.
    """
    found = {}
    for each in ",;\t":
        text.seek(0)
        rows = filter(None, csv.reader(text, strict=True, delimiter=each))
        try:
            found[each] = len(next(rows, [])), len(next(rows, []))
        except csv.Error:  # quotes that end before another character
            continue
    separating = [each for each, (names, _) in found.items() if names > 1]
    fitting = [each for each in separating if len(set(found[each])) == 1] or separating
    if len(fitting) > 1:
        what = " or ".join(map(repr, fitting))
        raise DataError(f"{source}: its columns may be separated by {what}; write it with commas, and quote other ones")
    return fitting[0] if fitting else ","


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
        if text.strip().lower() in _MISSING:
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


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def is_beyond(text: str) -> bool:
    """Whether a field is a whole number beyond 2⁵³."""
    if not WHOLE.fullmatch(text):
        return False
    digits = text.strip().lstrip("+-0")
    return len(digits) > len(str(EXACT)) or int(digits or "0") > EXACT
