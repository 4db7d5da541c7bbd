"""Metrics of columns in the records of runs: on plain and on mixed tables, by default, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from selfloop import Experiment
from selfloop.analysis.scores import DEFAULT, SCORES
from selfloop.core.columns import Category, Number
from selfloop.core.errors import ConfigError
from selfloop.core.events import Mixed, Vectors
from selfloop.generators.gaussian import Gaussian
from selfloop.metrics.base import METRICS, Evidence
from selfloop.metrics.downstream import classification
from selfloop.metrics.tables import Table, coordinates, tables
from selfloop.runner import run
from tests.metrics.tables import COLUMNS, values

pytestmark = pytest.mark.usefixtures("as_in_a_worker")

OF_COLUMNS = [name for name, metric in METRICS.items() if "columns" in metric.needs]
EVENTS = Mixed(COLUMNS)


def evidence(generated: torch.Tensor | None = None, events: Any = EVENTS, target: str = "owner") -> Evidence:
    train, held_out, other = (EVENTS.encode(values(n, seed)).float()[None] for n, seed in ((120, 0), (60, 1), (120, 2)))
    made = other if generated is None else generated
    sets = {"train": train, "held_out": held_out, "generated": made}
    return Evidence(generator=Gaussian(), state={}, first={}, untrained={}, **sets, events=events, target=target)


def written(folder: Path, mixed: bool, **settings: Any) -> Experiment:
    path, rng = folder / f"table{mixed}.csv", np.random.default_rng(0)
    x, y = rng.standard_normal((2, 100))
    words = ["big" if v > 0 else "small" for v in x + y] if mixed else (x + y).tolist()
    path.write_text("x,y,z\n" + "".join(f"{a},{b},{c}\n" for a, b, c in zip(x, y, words, strict=True)))
    data = {"name": "table", "path": str(path), **settings.pop("data", {})}
    return Experiment.build({"name": "t", "data": data, "generator": "gaussian", "generations": 1, **settings})


@pytest.mark.parametrize("name", OF_COLUMNS)
def test_every_arm_has_its_own_value(name: str) -> None:
    once = evidence()
    twice = Evidence(
        **{key: getattr(once, key) for key in ("generator", "state", "first", "untrained", "events", "target")},
        **{key: torch.cat([getattr(once, key), getattr(once, key).flip(1)]) for key in ("train", "held_out")},
        generated=torch.cat([once.generated, once.train]),
    )
    found = METRICS[name].compute(twice)
    assert found.shape == (2,)
    assert found.dtype == torch.float64
    assert found[0] == pytest.approx(float(METRICS[name].compute(once)), nan_ok=True)


@pytest.mark.parametrize("name", OF_COLUMNS)
def test_copies_of_the_training_rows_have_the_best_value(name: str) -> None:
    """Of the metrics of training rows and of their levels; the others are at their floor."""
    copies = evidence(evidence().train)
    value = float(METRICS[name].compute(copies))
    if name.endswith("_train") or name in ("broken_bounds", "duplicate_rows"):
        assert value == pytest.approx(0, abs=1e-12)
    elif name in ("copied_rows", "levels_kept", "levels_kept_weighted"):
        assert value == 1


def test_samples_of_mixed_rows_never_break_bounds_once_they_are_rows() -> None:
    wild = 4 * evidence().generated + 0.3
    assert float(METRICS["broken_bounds"].compute(evidence(wild))) > 0.05
    found = evidence(torch.stack([EVENTS.snap(wild[0])]))
    assert all(set(x.names) == {"age", "income", "city", "owner", "since"} for x in tables(found, "generated"))
    assert tables(found, "generated")[0].keys == tables(evidence(wild), "generated")[0].keys
    real = evidence()
    low, high = (getattr(torch.cat([real.train, real.held_out], 1)[0], end)(0).values for end in ("min", "max"))
    kept = evidence(torch.minimum(torch.maximum(wild, low), high))
    assert float(METRICS["broken_bounds"].compute(kept)) == 0


def test_numbers_in_model_units_are_at_their_own_coordinates() -> None:
    found = coordinates(evidence(), "train")[0]
    rows = EVENTS.encode(values(120, 0)).float()
    assert found.numbers["since"] == pytest.approx(rows[:, -1].numpy())
    age = np.where(rows[:, 1] > 0.5, np.nan, rows[:, 0])
    assert found.numbers["age"] == pytest.approx(age, nan_ok=True)


def test_numbers_alone_have_columns_too() -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 80, 2))).float()[:, None]
    found = Evidence(
        generator=Gaussian(),
        state={},
        first={},
        untrained={},
        train=x[0],
        held_out=x[1],
        generated=x[2],
        events=Vectors.unscaled(("a", "b")),
        target="b",
    )
    for name in OF_COLUMNS:
        value = float(METRICS[name].compute(found)) if not METRICS[name].classes else 0.5
        assert np.isnan(value) == ("levels" in name)
        assert not value > 1
    with pytest.raises(TypeError, match="no columns"):
        tables(evidence(events=None), "train")


def test_a_run_records_them_and_the_control_line_is_the_floor(tmp_path: Path) -> None:
    experiment = written(tmp_path, True, data={"target": "z"}, metrics=OF_COLUMNS)
    done = list(run(experiment, tmp_path / "run"))
    record = done[0].records[0]
    assert set(record["metrics"]) == set(OF_COLUMNS)
    assert record["metrics"]["broken_bounds"] == 0
    split = experiment.data.load([record["seed"]])
    assert isinstance(split.events, Mixed)
    train, held_out = (Table.of(split.events.table(x[0]), split.events.parts) for x in (split.train, split.held_out))
    control = classification(train, held_out, "z")
    assert (record["reference"]["tstr_score"], record["reference"]["tstr_auc"]) == (control.accuracy, control.auc)
    assert record["reference"]["shape_error_held_out"] > 0


def test_metrics_of_columns_are_there_by_default_where_they_say_something(tmp_path: Path) -> None:
    cases = (
        (False, {}, set()),
        (False, {"target": "z"}, {"tstr_score"}),
        (True, {}, {"shape_error_held_out", "association_error_held_out", "levels_kept"}),
    )
    for i, (mixed, data, more) in enumerate(cases):
        experiment = written(tmp_path, mixed, data=data)
        done = list(run(experiment, tmp_path / f"run{i}"))
        assert set(done[0].records[0]["metrics"]) == {*experiment.metrics, *more}


def test_classes_are_wanted_of_a_target_before_the_first_fit(tmp_path: Path) -> None:
    experiment = written(tmp_path, False, data={"target": "z"}, metrics=["tstr_auc"])
    with pytest.raises(ConfigError, match=r"^metric tstr_auc needs a target of classes, and 'z' is a number: use tstr"):
        list(run(experiment, tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="metric tstr_score needs a column to predict"):
        written(tmp_path, False, metrics=["tstr_score"])


def test_columns_of_one_kind_alone() -> None:
    for columns in ((Number("x", "float64", 0, 1),), (Category("w", ("a", "b")),)):
        events, n = Mixed(columns), 12
        made = {"x": np.linspace(0, 1, n), "w": np.array(["a", "b"] * (n // 2), dtype=object)}
        x = events.encode({columns[0].name: made[columns[0].name]})[None]
        sets = {"train": x, "held_out": x, "generated": x}
        found = Evidence(
            generator=Gaussian(), state={}, first={}, untrained={}, **sets, events=events, target=columns[0].name
        )
        for name in OF_COLUMNS:
            if not (METRICS[name].classes and columns[0].name == "x"):
                METRICS[name].compute(found)


def test_scores_of_two_sets_of_rows_do_not_ask_for_columns() -> None:
    assert not [name for name in DEFAULT if SCORES[name].needs]
