"""What a run says when it begins: settings that change nothing, which are no reason to refuse it, and too few rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from selfloop import Experiment, Run, RunError, run
from selfloop.experiment import OF_STEPS
from selfloop.generators import Gaussian

BASE = {"name": "idle", "data": {"name": "gaussian", "n": 20}, "generations": 1, "metrics": ["mean_error"]}
STEPS = {"generator": {"name": "vae", "width": 4}, "budget": {"steps": 1}}
MIXED = {"generator": ["gaussian", STEPS["generator"]]}


class Stepwise(Gaussian):
    """A program's own, which may do with a budget what it likes."""

    name: Literal["stepwise"] = "stepwise"  # type: ignore[assignment]


def experiment(**settings: Any) -> Experiment:
    return Experiment.build(BASE | {"generator": "gaussian"} | settings)


@pytest.mark.parametrize(
    ("settings", "idle"),
    [
        ({}, []),
        ({"budget": {"epochs": 3}}, ["budget"]),
        ({"budget": {"epochs": 3}, "pretrain": {"steps": 1}, "optimizer": "reset"}, [*OF_STEPS]),
        ({"grid": {"budget": [{"steps": 1}, {"steps": 2}]}}, ["budget"]),
        ({"budget": {"steps": 1}, "generator": {"name": "ensemble", "models": 2, "of": "gaussian"}}, ["budget"]),
        ({"budget": {"steps": 1}, "generator": {"name": "ensemble", "models": 2, "of": STEPS["generator"]}}, []),
        ({"budget": {"steps": 1}, "grid": MIXED}, []),
        ({"budget": {"steps": 1}, "generator": Stepwise()}, []),
        ({"budget": {"steps": 1}, "generator": {"name": "ensemble", "models": 2, "of": Stepwise()}}, []),
        (STEPS | {"optimizer": "reset"}, []),
    ],
)
def test_settings_of_steps_are_idle_where_none_are_taken(settings: dict[str, Any], idle: list[str]) -> None:
    assert experiment(**settings).idle() == idle


def test_what_is_idle_is_told_and_keeps_no_run_from_going_on(tmp_path: Path) -> None:
    told: list[str] = []
    list(run(experiment(budget={"epochs": 3}), tmp_path, notice=told.append))
    assert told == ["budget has no effect: generator gaussian takes no gradient steps"]
    more = list(run(experiment(generations=2), tmp_path, notice=told.append))
    assert [each.t for each in more] == [2]
    assert len(told) == 1
    assert Run.open(tmp_path).experiment.budget is None
    with pytest.raises(RunError, match=r"there data\.n is 20, here 30"):
        list(run(experiment(data={"name": "gaussian", "n": 30}), tmp_path))


def test_so_few_rows_that_no_verdict_may_come_of_them_are_told(tmp_path: Path) -> None:
    told: list[str] = []
    for n in (2, 8):
        data = {"name": "gaussian", "n": n, "held_out": 8}
        list(run(experiment(data=data), tmp_path / f"{n}", notice=told.append))
    rows = "2 rows to train on and 8 held out: what is measured on fewer than 8 is mostly chance"
    assert told == [f"{rows}, and no verdict may come of it; give more"]


def test_a_column_that_numbers_the_rows_is_told_of(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 2))
    table = np.column_stack([np.arange(60), rows, np.arange(60) % 7])
    path = tmp_path / "t.csv"
    np.savetxt(path, table, delimiter=",", header="id,x,y,week", comments="", fmt=["%d", "%.6f", "%.6f", "%d"])
    plain = {"name": "t", "generator": "gaussian", "generations": 1, "metrics": ["variance_ratio"]}
    for left, lines in (([], 1), (["id"], 0)):
        said: list[str] = []
        data = {"name": "table", "path": str(path), "leave_out": left}
        list(run(Experiment.build(plain | {"data": data}), tmp_path / f"run{lines}", notice=said.append))
        assert len(said) == lines
        assert all(line.startswith("column 'id' numbers the rows") for line in said)
