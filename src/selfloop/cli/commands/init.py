"""Begin an experiment."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from typing import Annotated

import typer

from selfloop.cli.terminal import names, say
from selfloop.core.errors import ConfigError
from selfloop.core.paths import expanded


def command(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE.yaml]", help="a new file; default: called as the data", parser=expanded),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="PATH", help="a table, text, pictures; default: a Gaussian", parser=expanded)
    ] = None,
    target: Annotated[str | None, typer.Option(metavar="COLUMN", help="of a table, to predict")] = None,
    leave_out: Annotated[str, typer.Option(metavar="NAME,…", help="columns that are not taken, as an id")] = "",
) -> int:
    """Write an experiment that fits your data, as a YAML file with comments."""
    from selfloop.core.files import disk_errors, write_bytes
    from selfloop.starter import starter

    left = names(leave_out)
    if data is None and (target is not None or left):
        word = "--leave-out" if target is None else "--target"
        raise ConfigError(f"{word} is a column of a table: name that by --data")
    file = Path(f"{'experiment' if data is None else data.stem}.yaml") if file is None else file
    if file.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{str(file)!r}: an experiment's file is called *.yaml")
    if file.exists():
        raise ConfigError(f"{str(file)!r} is there already: give the name of a new file")
    # Paths in a file are those of where it is run; it may be run elsewhere unless it lies here.
    given = data if data is None or file.parent == Path() else Path(os.path.abspath(data))
    text = starter(_legal(file.stem), given, target, left)
    with disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, text.encode())
    say(f"Wrote {file}: look through it, then selfloop run {file}")
    return 0


def _legal(stem: str) -> str:
    """Return the name of an experiment that is called as its file: letters lose their accents, and others a dash."""
    letters = "".join(c for c in unicodedata.normalize("NFKD", stem) if not unicodedata.combining(c))
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", letters).strip("-._")[:64] or "experiment"
