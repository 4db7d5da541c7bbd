"""Whatever a public function is given by mistake, it says so in one line of its own that names the argument."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny

import selfloop
from selfloop import Experiment, Run, Samples, SelfloopError, Streams, advise, compare, forecast, judge, run, stability
from selfloop.core.columns import Category, Number
from selfloop.metrics import Table

WRONG: dict[str, Any] = {"None": None, "3": 3, "1.5": 1.5, "text": "nonsense", "list": [], "object": object()}
REAL = np.random.default_rng(0).normal(size=(40, 2))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("public") / "run"
    list(run(tiny(), out))
    return Run.open(out)


def first(calls: Any) -> Any:
    return next(iter(calls))


# What is called, the word by which its message names what is wrong, and wrong values that are right here.
CALLS: list[tuple[str, Callable[[Any, Run, Path], Any], str, tuple[str, ...]]] = [
    ("Run.open", lambda x, r, p: Run.open(x), "path|run directory", ()),
    ("Run.plot", lambda x, r, p: r.plot(x), "metric|record", ()),
    ("Run.plot axes", lambda x, r, p: r.plot("w2_held_out", axes=x), "axes", ("None",)),
    ("Run.samples_plot", lambda x, r, p: r.samples_plot(x), "generation", ()),
    ("Run.samples t", lambda x, r, p: r.samples(x, 0), "generation", ()),
    ("Run.samples arm", lambda x, r, p: r.samples(0, x), "arm", ("3",)),
    ("Run.labels", lambda x, r, p: r.labels(0, x), "arm", ("3",)),
    ("Run.real", lambda x, r, p: r.real(x), "arm", ("3",)),
    ("Run.split", lambda x, r, p: r.split(x), "arm", ("3",)),
    ("Run.row", lambda x, r, p: r.row(x), "arm", ("3",)),
    ("Experiment.load", lambda x, r, p: Experiment.load(x), "source|recipe", ()),
    ("Experiment.parse", lambda x, r, p: Experiment.parse(x), "text|experiment", ()),
    ("Experiment.build", lambda x, r, p: Experiment.build(x), "settings|experiment", ()),
    ("Experiment.override", lambda x, r, p: tiny().override(x), "key.path=value", ()),
    ("Experiment", lambda x, r, p: Experiment(name=x), "name|missing", ()),
    ("run experiment", lambda x, r, p: first(run(x, p / "new")), "experiment", ()),
    ("run out", lambda x, r, p: first(run(tiny(), x)), "out", ("text",)),
    ("run workers", lambda x, r, p: first(run(tiny(), p / "new", workers=x)), "workers", ("3",)),
    ("run trackers", lambda x, r, p: first(run(tiny(), p / "new", trackers=x)), "tracker", ("list",)),
    ("stability", lambda x, r, p: stability(x), "run", ()),
    ("stability metric", lambda x, r, p: stability(r, metric=x), "metric|record", ("None",)),
    ("stability tolerance", lambda x, r, p: stability(r, tolerance=x), "tolerance", ("3", "1.5")),
    ("compare", lambda x, r, p: compare(x), "run|comparison", ()),
    ("compare item", lambda x, r, p: compare([r, x]), "run|path", ()),
    ("compare metric", lambda x, r, p: compare([r, r], metric=x), "metric|comparison|run", ("None",)),
    ("compare control", lambda x, r, p: compare({"a": r, "b": r}, control=x), "control", ("None", "list")),
    ("compare tolerance", lambda x, r, p: compare({"a": r, "b": r}, tolerance=x), "tolerance", ("3", "1.5")),
    ("forecast", lambda x, r, p: forecast(x, to=9), "run", ()),
    ("forecast to", lambda x, r, p: forecast(r, to=x), "to|generation", ("3",)),
    ("forecast metric", lambda x, r, p: forecast(r, to=9, metric=x), "metric|record", ("None",)),
    ("forecast seen", lambda x, r, p: forecast(r, to=9, seen=x), "seen|generation", ("None",)),
    ("advise data", lambda x, r, p: advise(x, out=p / "new", budget=0.1), "data", ()),
    ("advise generator", lambda x, r, p: advise(REAL, generator=x, out=p / "new", budget=0.1), "generator", ("None",)),
    ("advise target", lambda x, r, p: advise(REAL, target=x, out=p / "new", budget=0.1), "target", ("None",)),
    ("advise tolerance", lambda x, r, p: advise(REAL, tolerance=x, out=p / "new"), "tolerance", ()),
    ("advise horizon", lambda x, r, p: advise(REAL, horizon=x, out=p / "new"), "horizon", ("3",)),
    ("advise metrics", lambda x, r, p: advise(REAL, metrics=x, out=p / "new"), "metrics", ("list",)),
    ("advise settings", lambda x, r, p: advise(REAL, settings=x, out=p / "new"), "settings", ("list",)),
    ("advise leave_out", lambda x, r, p: advise(REAL, leave_out=x, out=p / "new"), "leave_out", ("list",)),
    ("advise seed", lambda x, r, p: advise(REAL, seed=x, out=p / "new"), "seed", ("3",)),
    ("advise out", lambda x, r, p: advise(REAL, out=x, budget=0.1), "out", ("None", "text")),
    ("judge real", lambda x, r, p: judge(x, [REAL] * 2, out=p / "new"), "real|rows|exist", ()),
    ("judge generations", lambda x, r, p: judge(REAL, x, out=p / "new"), "generation|sets|rows|exist", ()),
    ("judge control", lambda x, r, p: judge(REAL, [REAL] * 2, control=x, out=p / "new"), "control|exist", ("None",)),
    (
        "judge held_out",
        lambda x, r, p: judge(REAL, [REAL] * 2, held_out=x, out=p / "new"),
        "held_out|rows|exist",
        ("None",),
    ),
    ("judge every", lambda x, r, p: judge(REAL, [REAL] * 2, every=x, out=p / "new"), "every", ("3",)),
    ("judge features", lambda x, r, p: judge(REAL, [REAL] * 2, features=x, out=p / "new"), "features", ("None",)),
    ("judge metrics", lambda x, r, p: judge(REAL, [REAL] * 2, metrics=x, out=p / "new"), "metric", ("None", "list")),
    ("judge metric", lambda x, r, p: judge(REAL, [REAL] * 2, metric=x, out=p / "new"), "metric", ("None",)),
    ("judge rows", lambda x, r, p: judge(REAL, [REAL] * 2, rows=x, out=p / "new"), "rows", ("3",)),
    ("judge target", lambda x, r, p: judge(REAL, [REAL] * 2, target=x, out=p / "new"), "target|column", ("None",)),
    ("Samples.full", lambda x, r, p: Samples.full(x, born=0), "x is", ()),
    ("Samples.full born", lambda x, r, p: Samples.full(torch.zeros(1, 2, 2), born=x), "born", ("3",)),
    ("Samples.union", lambda x, r, p: Samples.union(x), "parts", ("list",)),
    ("Streams", lambda x, r, p: Streams(seeds=x), "seeds", ("list",)),
    ("Streams generation", lambda x, r, p: Streams((0,), generation=x), "generation", ("3",)),
    ("Table.of columns", lambda x, r, p: Table.of({"a": np.zeros(2)}, x), "columns", ()),
    ("Table.of", lambda x, r, p: Table.of(x, [Category("a", ("A",))]), "values|column", ()),
]
RETURNED = {"Arm", "Generation", "Judgement"}
"""What is made by selfloop itself, and given to its user."""
NOT_CALLED = {"Frozen", "recipes", *(name for name in selfloop.__all__ if name.endswith("Error")), "StorageFull"}


def test_every_public_name_is_asked() -> None:
    asked = {name.split()[0].split(".")[0] for name, *_ in CALLS}
    assert set(selfloop.__all__) <= asked | RETURNED | NOT_CALLED


@pytest.mark.parametrize(("call", "word", "right"), [each[1:] for each in CALLS], ids=[each[0] for each in CALLS])
def test_a_wrong_type_is_refused(
    call: Callable[[Any, Run, Path], Any],
    word: str,
    right: tuple[str, ...],
    finished: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in WRONG.items():
        if name in right:
            continue
        with pytest.raises(SelfloopError) as error:
            call(value, finished, tmp_path)
        line = str(error.value)
        assert "\n" not in line
        assert any(each in line for each in word.split("|")), (name, line)
    assert not (tmp_path / "new").exists()


def test_a_table_of_columns_that_do_not_go_together() -> None:
    columns = [Number("age", "int64", 0, 9), Category("city", ("A", "B"))]
    with pytest.raises(SelfloopError, match=r"column 'city' has 1 row, and 'age' has 2"):
        Table.of({"age": np.zeros(2), "city": np.array(["A"])}, columns)
    with pytest.raises(SelfloopError, match=r"there is no column 'city'"):
        Table.of({"age": np.zeros(2)}, columns)
