"""Rows that no model of a family makes are refused before anything is fitted or written; those that it makes run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selfloop import Experiment, Run, run
from selfloop.core.errors import ConfigError
from selfloop.data import function

MOONS = {"name": "two_moons", "n": 20}


def experiment(data: Any, generator: Any, **settings: Any) -> Experiment:
    plain = {"name": "refused", "data": data, "generator": generator, "generations": 2}
    return Experiment.build(plain | settings)


def late(seed: int, n: int) -> np.ndarray:
    """Counts, but for the last number."""
    x = np.random.default_rng(seed).poisson(3, (n, 1)).astype(float)
    x[-1] -= 0.25
    return x


@pytest.mark.parametrize(
    ("data", "generator", "words"),
    [
        (MOONS, "bernoulli", "generator bernoulli does not fit data two_moons: it makes columns of 0 and 1, and row 0"),
        (MOONS, "poisson", "generator poisson does not fit data two_moons: it makes whole numbers from 0 to 2"),
        ({"name": "gaussian", "n": 20}, "exponential", "exponential does not fit data gaussian: it makes numbers from"),
        ({"name": "bernoulli", "probability": 0.0, "n": 9}, "exponential", "makes positive numbers, and a column has"),
        (MOONS, "logistic_regression", "it tells two classes apart, and column -1 has 20 values"),
        ({"name": "bernoulli", "probability": 1.0, "n": 9, "dim": 2}, "logistic_regression", "column -1 has 1 value"),
        ({"name": "poisson", "n": 20}, "linear_regression", "predicts a column from others, and the data have one"),
        (MOONS, {"name": "linear_regression", "target": 2}, "generator.target is 2, and the data have columns 0 to 1"),
        (MOONS, {"name": "logistic_regression", "target": -3}, "generator.target is -3"),
        (function(late, n=2000), "poisson", "and row 1999 has"),
    ],
    ids=str,
)
def test_foreign_rows_are_refused_before_anything_is_written(tmp_path: Path, data: Any, generator: Any, words: str):
    chosen = experiment(data, {"name": generator} if isinstance(generator, str) else generator, seeds=2)
    with pytest.raises(ConfigError) as error:
        list(run(chosen, tmp_path / "run"))
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_grid_over_generators_refuses_the_one_that_does_not_fit(tmp_path: Path):
    chosen = experiment(MOONS, {"name": "gaussian"}, grid={"generator": ["gaussian", "poisson"]})
    with pytest.raises(ConfigError, match="generator poisson does not fit"):
        list(run(chosen, tmp_path / "run"))


@pytest.mark.parametrize(
    ("metric", "generator", "words"),
    [
        (
            "accuracy_held_out",
            "linear_regression",
            "needs classes that it tells apart, which generator linear_regression",
        ),
        ("prediction_error_held_out", "gaussian", "needs a prediction of one column, which generator gaussian"),
        ("coefficient_error", "linear_regression", "needs known coefficients, which data two_moons"),
    ],
)
def test_metrics_of_labels_need_a_model_of_them(metric: str, generator: str, words: str):
    with pytest.raises(ConfigError, match=words):
        experiment(MOONS, {"name": generator}, metrics=[metric])


def test_the_coefficients_of_another_column_are_not_known(tmp_path: Path):
    data = {"name": "linear_regression", "n": 20}
    chosen = experiment(data, {"name": "linear_regression", "target": 0}, metrics=["coefficient_error"])
    with pytest.raises(ConfigError, match="the coefficients of this column are not known"):
        list(run(chosen, tmp_path / "run"))


LABELS = ["nll", "prediction_error_held_out", "parameter_distance"]


@pytest.mark.parametrize(
    ("data", "generator", "metrics"),
    [
        ({"name": "bernoulli", "dim": 2}, {"name": "bernoulli"}, ["nll", "heterozygosity_ratio"]),
        ({"name": "poisson"}, {"name": "poisson"}, ["nll", "variance_ratio"]),
        ({"name": "exponential"}, {"name": "exponential"}, ["nll", "w2_held_out"]),
        ({"name": "categorical"}, {"name": "categorical"}, ["nll", "heterozygosity_ratio", "categories_kept"]),
        ({"name": "two_moons"}, {"name": "kernel_density"}, ["nll", "w2_held_out"]),
        ({"name": "linear_regression"}, {"name": "linear_regression"}, [*LABELS, "coefficient_error"]),
        (
            {"name": "logistic_regression"},
            {"name": "logistic_regression"},
            [*LABELS, "accuracy_held_out", "coefficient_error"],
        ),
        ({"name": "breast_cancer"}, {"name": "linear_regression", "inputs": "redrawn"}, LABELS),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_those_that_fit_run_with_weights_or_without(tmp_path: Path, data: Any, generator: Any, metrics: list[str]):
    chosen = experiment(
        data | {"n": 40},
        generator,
        metrics=metrics,
        seeds=2,
        grid={"mixing.lam": [0, 0.5, "inf"]},
    )
    list(run(chosen, tmp_path / "run"))
    found = Run.open(tmp_path / "run")
    records = list(found.records())
    assert len(records) == 18
    assert all(record["status"] == "ok" for record in records)
    usual = [m for m in metrics if m != "nll"]  # which is infinite where a held-out category was never seen
    assert all(record["metrics"][m] is not None for record in records for m in usual)
