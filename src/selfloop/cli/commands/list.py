"""List what an experiment may name."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

import typer

from selfloop.cli.terminal import say, show
from selfloop.core.errors import SelfloopError


class What(StrEnum):
    """What there are lists of."""

    data = "data"
    generators = "generators"
    mixing = "mixing"
    judges = "judges"
    updates = "updates"
    metrics = "metrics"
    features = "features"
    engines = "engines"
    trackers = "trackers"
    recipes = "recipes"


def command(
    what: Annotated[What | None, typer.Argument(help="of what; default: of everything", metavar="WHAT")] = None,
) -> int:
    """List what an experiment may name, data, generators, mixing, updates, metrics and so on, with the settings."""
    for one in What if what is None else (what,):
        say(one.value.upper())
        show(("name", "what it is", "settings", "from"), _recipes() if one is What.recipes else _members(one))
    return 0


def _recipes() -> Iterator[tuple[str, str, str, str]]:
    import yaml

    from selfloop.core.recipes import read_recipe, recipes

    for name in recipes():
        yield name, yaml.safe_load(read_recipe(name)).get("description", ""), "", ""


def _members(what: What) -> Iterator[tuple[str, str, str, str]]:
    import selfloop.runner  # imports every family  # noqa: F401
    from selfloop.core.registry import FAMILIES

    family = next(family for family in FAMILIES.values() if family.folder.rpartition(".")[2] == what.value)
    for name in family:
        where = family.origin(name).what
        try:
            about, settings = family.describe(name)
            if "sha256" in settings.split(", "):  # rows in memory, that settings only refer to
                settings = "given in Python, by selfloop.data.array or function"
        except SelfloopError as error:  # of a package that is broken, which spoils its own row alone
            about, settings = str(error), ""
        yield name, about, settings, "" if where == "built-in" else where
