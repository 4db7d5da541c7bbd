"""Records become arrays and CSV without losing a digit."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np
import pytest
from fakes import LINE, MOONS, FakeRun, experiment

from selfloop.analysis.curves import band, mean, median, read, spread, std
from selfloop.report.tables import arms_csv, summary_csv


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path, experiment(MOONS, generations=6), last=6, diverge={9: 3})


def test_settings_group_seeds_and_use_the_papers_words(run: FakeRun) -> None:
    settings = read(run).settings
    labels = ["No Synth. Data (λ = 0)", "λ = 0.5", "λ = 1", "Fully Synthetic (λ = ∞)"]
    assert [s.label for s in settings] == labels
    assert [s.arms for s in settings] == [(0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11)]


def test_settings_name_what_varies_and_nothing_else(tmp_path: Path) -> None:
    grid = {"mixing.lam": [math.inf], "data.n": [10, 20], "data.dim": [1]}
    settings = read(FakeRun(tmp_path, experiment(LINE, grid=grid), last=1)).settings
    assert [s.label for s in settings] == ["n = 10", "n = 20"]


def test_members_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    generators = ["gaussian", {"name": "mixture", "components": 2}, {"name": "mixture", "components": 4}]
    grid = {"generator": generators, "mixing": ["augment", {"name": "augment", "lam": 0.5}]}
    found = read(FakeRun(tmp_path, experiment(LINE, grid=grid), last=1))
    members = [f"generator = {name}" for name in ("gaussian", "mixture (components = 2)", "mixture (components = 4)")]
    assert [s.label for s in found.settings] == [f"{of}, {m}" for m in members for of in ("λ = 1", "λ = 0.5")]
    assert not set("{}") & set(summary_csv(found, "w2_held_out") + arms_csv(found, "w2_held_out"))


def test_regimes_of_one_label_are_told_apart_by_their_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun(tmp_path, experiment(LINE), last=1)
    of_generation = run.of_generation
    monkeypatch.setattr(run, "of_generation", lambda t: [record | {"regime": "mine"} for record in of_generation(t)])
    labels = [s.label for s in read(run).settings]
    assert len(set(labels)) == len(labels)
    assert labels[1] == "mine, lam = 0.5"


def test_a_run_without_a_grid_is_named_by_its_lambda(tmp_path: Path) -> None:
    settings = read(FakeRun(tmp_path, experiment(LINE, grid={}, seeds=1), last=0)).settings
    assert [s.label for s in settings] == ["λ = 1"]


def test_csv_is_the_records(run: FakeRun) -> None:
    rows = list(csv.DictReader(io.StringIO(arms_csv(read(run), "w2_held_out"))))
    found = {(int(r["generation"]), int(r["arm"])): r["w2_held_out"] for r in rows}
    expected = {
        (r["generation"], r["arm"]): "" if (v := r["metrics"]["w2_held_out"]) is None else repr(v)
        for r in run.records()
    }
    assert found == expected
    assert {int(r["arm"]): int(r["seed"]) for r in rows} == {a.index: a.seed for a in run.arms}
    assert "" in found.values()


def test_summary_is_mean_and_std_of_the_records(run: FakeRun) -> None:
    rows = list(csv.DictReader(io.StringIO(summary_csv(read(run), "w2_held_out"))))
    row = next(r for r in rows if r["setting"] == "λ = 0.5" and r["generation"] == "4")
    values = [r["metrics"]["w2_held_out"] for r in run.records() if r["generation"] == 4 and r["arm"] in (3, 4, 5)]
    assert float(row["mean"]) == pytest.approx(np.mean(values))
    assert float(row["std"]) == pytest.approx(np.std(values, ddof=1))
    assert (row["seeds"], row["floor"]) == ("3", "0.3")
    assert {r["setting"]: float(r["ratio"]) for r in rows} == {
        "No Synth. Data (λ = 0)": 0.0,
        "λ = 0.5": 0.5,
        "λ = 1": 1.0,
        "Fully Synthetic (λ = ∞)": math.inf,
    }
    thinned = next(r for r in rows if r["setting"].startswith("Fully") and r["generation"] == "4")
    assert thinned["seeds"] == "2"


def test_statistics_skip_what_is_not_finite() -> None:
    x = np.array([[1.0, math.nan, math.inf], [3.0, 5.0, math.nan]])
    np.testing.assert_array_equal(mean(x), [2, 5, math.nan])
    np.testing.assert_array_equal(median(x), [2, 5, math.nan])
    np.testing.assert_array_equal(std(x), [math.sqrt(2), math.nan, math.nan])
    assert std(np.full((2, 1), 1e308) * [[1], [-1]])[0] == math.inf


def test_spread_in_words() -> None:
    assert spread(1.23456, 0.0789) == "1.235 ± 0.079"
    assert spread(1.0, math.nan) == "1"
    assert spread(math.nan, math.nan) == "–"


def test_a_band_on_a_log_scale_ends_at_half_of_the_lowest_mean(run: FakeRun) -> None:
    curves = read(run)
    curves.values["w2_held_out"][:3] = [[1.0] * 7, [1.0] * 7, [9.0] * 7]
    low, high = band(curves, curves.settings[0], "w2_held_out", log=False)
    assert low[0] < 0
    lowest = min(mean(curves.of(setting, "w2_held_out")).min() for setting in curves.settings)
    cut, same = band(curves, curves.settings[0], "w2_held_out", log=True)
    np.testing.assert_array_equal(cut, np.full(7, lowest / 2))
    np.testing.assert_array_equal(high, same)


def test_metrics_keep_the_order_of_the_experiment(run: FakeRun) -> None:
    records = [{**r, "metrics": dict(sorted(r["metrics"].items()))} for r in run.records()]
    run.records = lambda: records  # type: ignore[method-assign]
    assert list(read(run).metrics) == run.experiment.metrics
