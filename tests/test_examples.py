"""Every public object has an example in its docstring, and it runs as it stands."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path
from typing import Any

import pytest

import selfloop
from selfloop import metrics
from selfloop.core.errors import SelfloopError


def shown(module: Any) -> list[Any]:
    """The classes and functions that a module offers; one error speaks for its kinds."""
    objects = [getattr(module, name) for name in module.__all__]
    kinds = SelfloopError.__subclasses__()
    return [each for each in objects if each not in kinds and (inspect.isclass(each) or inspect.isfunction(each))]


SHOWN_ELSEWHERE = (metrics.Demand, metrics.Evidence, metrics.Metric, metrics.Modes, metrics.Sizes)
"""What extensions are handed, with an example on the page of extending, or what another example returns."""
PUBLIC = [each for module in (selfloop, metrics) for each in shown(module) if each not in SHOWN_ELSEWHERE]


@pytest.mark.slow
@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__name__)
def test_its_example_runs(thing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder(recurse=False).find(thing, thing.__name__, globs={})
    assert example.examples, f"{thing.__name__} has no example"
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example, out=said.append)
    assert "".join(said) == ""
