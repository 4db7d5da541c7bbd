"""The pages of the API have every public name."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import selfloop
from selfloop import metrics

FOLDER = Path(__file__).parents[1] / "docs" / "api"


def test_all_that_is_public_is_on_a_page() -> None:
    shown = {name for page in FOLDER.glob("*.md") for name in re.findall(r"^::: (\S+)", page.read_text("utf-8"), re.M)}
    public = [getattr(module, name) for module in (selfloop, metrics) for name in module.__all__]
    objects = [each for each in public if inspect.isroutine(each) or inspect.isclass(each)]
    assert sorted({f"{each.__module__}.{each.__qualname__}" for each in objects} - shown) == []
