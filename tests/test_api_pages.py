"""The pages of the API have every public name and every member of a family."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import selfloop
from selfloop import metrics
from selfloop.data import DATA
from selfloop.features import FEATURES
from selfloop.generators import GENERATORS
from selfloop.mixing import JUDGES, MIXINGS
from selfloop.updates import UPDATES

FOLDER = Path(__file__).parents[1] / "docs" / "api"


def test_all_that_is_public_is_on_a_page() -> None:
    shown = {name for page in FOLDER.glob("*.md") for name in re.findall(r"^::: (\S+)", page.read_text("utf-8"), re.M)}
    public = [getattr(module, name) for module in (selfloop, metrics) for name in module.__all__]
    public += [
        member for family in (DATA, FEATURES, GENERATORS, JUDGES, MIXINGS, UPDATES) for member in family.values()
    ]
    objects = [each for each in public if inspect.isroutine(each) or inspect.isclass(each)]
    named = {f"{each.__module__}.{each.__qualname__}" for each in objects}
    named -= {name for name in named if name.endswith(".outside.Outside")}  # `judge` writes them, nobody names them
    assert sorted(named - shown) == []
