"""Show what the columns of a table are taken for, or what a text holds."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfloop.cli.terminal import MISUSED, complain, names, say, say_plain, show

if TYPE_CHECKING:
    from selfloop.data.reading.summary import Summary


def command(
    path: Annotated[str, typer.Argument(metavar="FILE", help="CSV, Parquet, Feather, SQLite, or text")],
    types: Annotated[
        str, typer.Option(metavar="YAML", help="what columns are: {zip: category, day: '%d/%m/%Y', age: normal}")
    ] = "{}",
    leave_out: Annotated[str, typer.Option(metavar="NAME,…", help="columns that are not taken")] = "",
    table: Annotated[str | None, typer.Option(metavar="NAME", help="of a database")] = None,
    query: Annotated[str | None, typer.Option(metavar="SELECT", help="of a database")] = None,
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="to predict: whether it can be, and what it is")
    ] = None,
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help='of a table or of JSON Lines: the text, as data "text" takes it')
    ] = None,
    unit: Annotated[str, typer.Option(metavar="document|line", help="of text")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> int:
    """Show a table's columns as data "table" takes them: types, ranges or levels, how modelled; or what text holds."""
    from selfloop.core.config import quoted_value, unquoted
    from selfloop.core.errors import DataError
    from selfloop.core.paths import expanded, is_url
    from selfloop.core.settings import from_yaml
    from selfloop.core.urls import fetched
    from selfloop.data.reading.summary import summary
    from selfloop.data.reading.tables import Choice
    from selfloop.data.reading.texts import is_corpus

    file = fetched(path) if is_url(path) else str(expanded(path))
    if column is not None or is_corpus(Path(file)):
        return _of_text(file, column, unit, as_json)
    if unit:
        raise DataError(f"--unit is of text, and {path!r} is a table: let --column name the one with the text")
    declared = from_yaml(types, "--types")
    joined = declared if isinstance(declared, str) else _first_without_value(declared)
    if match := re.fullmatch("([^:]+):([^:]+)", joined):
        raise DataError(f"--types {types}: in YAML a blank follows a colon, as in {{{match[1]}: {match[2]}}}")
    if not isinstance(declared, dict):
        raise DataError(f"--types is YAML such as {{zip: category}}, not {quoted_value(declared)}")
    if odd := [word for pair in declared.items() for word in pair if not isinstance(word, str)]:
        raise DataError(f"--types names columns and what they are, not {quoted_value(odd[0])}{unquoted(odd[0])}")
    left = names(leave_out)
    found = summary(file, Choice(leave_out=left, types=declared, table=table, query=query), target)
    if as_json:
        say_plain(json.dumps(found.as_json(), indent=1, ensure_ascii=False))
    else:
        _tell(found)
    for line in found.refused:
        complain(line)
    return MISUSED if found.refused else 0


def _first_without_value(declared: object) -> str:
    """Return the first word of settings that nothing is said of, as "zip:category" without a blank is; "" of others."""
    pairs = declared.items() if isinstance(declared, dict) else ()
    return next((name for name, kind in pairs if kind is None and isinstance(name, str)), "")


def _tell(found: Summary) -> None:
    show(
        ("column", "type", "range or levels", "missing", "modelled as", "coordinates"),
        [(x.name, x.type, x.values, f"{x.missing}" if x.missing else "", x.model, str(x.coordinates)) for x in found],
    )
    say(found.conclusion)
    for line in found.notes:
        say(f"note: {line}")


def _of_text(path: str, column: str | None, unit: str, as_json: bool) -> int:
    from selfloop.core.errors import DataError
    from selfloop.data.reading.text_summary import text_summary

    if unit not in ("", "document", "line"):
        raise DataError(f"--unit is {unit!r}: it is document or line")
    lines = unit == "line" or (not unit and path.lower().endswith(".txt"))
    found = text_summary(path, column, "line" if lines else "document")
    if as_json:
        say_plain(json.dumps(found.as_json(), indent=1, ensure_ascii=False))
        return 0
    show(("", "what there is"), found.lines)
    say(f"data: {{name: text, path: …, unit: {found.unit}}}")
    return 0
