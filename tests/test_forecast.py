"""Forecasts: the closed form against brute force, what they must not depend on, coverage, and what is refused."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import selfloop
from selfloop import Experiment, run
from selfloop.analysis import forecast, panel
from selfloop.analysis.curves import Curves, Setting, read
from selfloop.cli.main import main
from selfloop.core.errors import ConfigError
from selfloop.core.streams import generator
from selfloop.metrics import METRICS
from selfloop.report import write_report
from selfloop.store import Run

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


def simulated(
    seed: int, arms: int, generations: int, *, rate: float, drift: float = 0.0, pull: float = 0.0, moving: float = 0.3
) -> np.ndarray:
    """Return paths (S, T) of the model, with measurement noise 0.3."""
    rng = generator(seed, "panel", arms, generations)
    start = rng.standard_normal(arms)
    slope, off = drift + pull * rng.standard_normal(arms), np.zeros(arms)
    seen = []
    for _ in range(generations):
        seen.append(start + off + 0.3 * rng.standard_normal(arms))
        off = rate * off + slope + moving * rng.standard_normal(arms)
    return np.stack(seen, 1)


def dense(arms: int, times: int, rate: float, moving: float, pull: float, turn: float, kept: bool) -> np.ndarray:
    """Return the covariance (S·T, S·T) of what is seen but for the starts and σ², every source of noise by itself."""
    noise, drift = 1 - moving, panel.DRIFTS[0]

    def path(start: np.ndarray, first: np.ndarray, own: np.ndarray, turns: np.ndarray, moves: np.ndarray) -> np.ndarray:
        level, off, slope = np.zeros((arms, times)), np.zeros(arms), first
        for t in range(times):
            held = start.mean() + (start - start.mean()) * (1.0 if kept else rate**t)
            level[:, t] = held + off
            off, slope = rate * off + slope + own + moves[t], slope + turns[t]
        return level.ravel()

    sources = []
    none = {"start": np.zeros(arms), "first": np.zeros(arms), "own": np.zeros(arms)}
    none |= {"turns": np.zeros((times, arms)), "moves": np.zeros((times, arms))}
    for arm in range(arms):
        one = np.eye(arms)[arm]
        sources += [path(**none | {"start": 1e4 * one}), path(**none | {"own": pull * one})]
    sources.append(path(**none | {"first": np.full(arms, drift)}))
    for t in range(times):
        at = np.eye(times)[t][:, None]
        sources.append(path(**none | {"turns": at * np.full(arms, turn)}))
        sources += [path(**none | {"moves": at * math.sqrt(moving) * np.eye(arms)[arm]}) for arm in range(arms)]
    columns = np.stack(sources)
    return columns.T @ columns + noise * np.eye(arms * times)


@pytest.mark.parametrize(("arms", "arm"), [(1, None), (3, None), (3, 1)])
def test_the_closed_form_is_the_integral(arms: int, arm: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over ln σ by quadrature and over the grid by a sum, of normal densities of the whole panel and what comes."""
    axes = {"RATES": (0.5, 0.9), "MOVING": (0.4,), "PULLS": (0.3,), "DRIFTS": (0.5,), "TURNS": (0.05, 0.2)}
    for name, values in axes.items():
        monkeypatch.setattr(panel, name, values)
    monkeypatch.setattr(panel, "_MIXED", 1_000_000)
    seen, ahead = 5, 3
    paths = simulated(3, arms, seen, rate=0.8, drift=0.2)
    found = panel.predict(paths, ahead, rate=0.7, arm=arm).at(ahead)
    prior = {0.5: 0.25, 0.9: 0.25, 0.7: 0.5}
    whole = seen + ahead
    past = np.array([s * whole + t for s in range(arms) for t in range(seen)])
    target = np.zeros(arms * whole)
    target[[s * whole + whole - 1 for s in range(arms) if arm in (None, s)]] = 1 / (arms if arm is None else 1)
    logs = np.linspace(-4, 4, 401)
    values = found.quantiles(LEVELS)[0]
    weight, below = 0.0, np.zeros(len(LEVELS))
    for rate, turn, kept in itertools.product(prior, panel.TURNS, (True, False) if arms > 1 else (True,)):
        pull = 0.3 if arms > 1 else 0.0
        cov = dense(arms, whole, rate, 0.4, pull, turn, kept)
        # A flat prior of the starts: 1e8 of variance each, whose determinant is the same at every point.
        here = cov[np.ix_(past, past)]
        across = cov[past] @ target
        gain = np.linalg.solve(here, across)
        centre, spread = gain @ paths.ravel(), math.sqrt(target @ cov @ target - gain @ across)
        # Starts are not in units of σ: their flat prior takes S of its powers from the density of the S·T values.
        square, scale = paths.ravel() @ np.linalg.solve(here, paths.ravel()), np.linalg.slogdet(here)[1]
        density = -(square * np.exp(-2 * logs) + scale) / 2 - (len(past) - arms) * logs
        likelihood = prior[rate] * np.exp(density + 10 * arms)
        weight += likelihood.sum()
        below += norm.cdf(values[:, None], centre, np.exp(logs) * spread) @ likelihood
    np.testing.assert_allclose(below / weight, LEVELS, atol=2e-3)


@pytest.mark.slow
@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 6),
    st.integers(3, 8),
    st.integers(0, 10**6),
    st.floats(-1e3, 1e3),
    st.floats(1e-3, 1e3),
)
def test_units_and_the_order_of_seeds_do_not_matter(
    arms: int, seen: int, seed: int, shift: float, factor: float
) -> None:
    paths = simulated(seed, arms, seen, rate=0.8, drift=0.3)
    expected = panel.predict(paths, 6).quantiles(LEVELS)
    assert (np.diff(expected, axis=1) > 0).all()  # intervals lie in each other
    width = expected[:, -1:] - expected[:, :1]
    moved = panel.predict(shift + factor * paths, 6).quantiles(LEVELS)
    np.testing.assert_allclose((moved - shift) / factor / width, expected / width, atol=1e-2)
    turned = panel.predict(-paths, 6).quantiles(LEVELS)
    np.testing.assert_allclose(-turned[:, ::-1] / width, expected / width, atol=3e-2)
    order = np.random.default_rng(seed).permutation(arms)
    np.testing.assert_allclose(panel.predict(paths[order], 6).quantiles(LEVELS) / width, expected / width, atol=1e-2)
    single = panel.predict(paths, 6, arm=int(order[0])).quantiles(LEVELS)
    np.testing.assert_allclose(
        panel.predict(paths[order], 6, arm=0).quantiles(LEVELS) / width, single / width, atol=1e-2
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "drift", "theory"), [(0.0, 0.0, 0.0), (0.5, 0.2, None), (0.9, 0.1, 0.9), (1.0, 0.2, 1.0), (1.0, 0.0, None)]
)
def test_simulated_panels_are_covered(rate: float, drift: float, theory: float | None) -> None:
    """Of 60 at 90 % fewer than 46 are by chance 0.1 %."""
    held = {"mean": 0, "arm": 0}
    for seed in range(60):
        paths = simulated(seed, 6, 25, rate=rate, drift=drift, pull=0.02)
        for what, arm, came in (("mean", None, paths[:, -1].mean()), ("arm", 2, paths[2, -1])):
            low, high = panel.predict(paths[:, :10], 15, rate=theory, arm=arm).at(15).quantiles((0.05, 0.95))[0]
            held[what] += bool(low < came < high)
    assert min(held.values()) >= 46, held


def test_more_is_known_of_more_arms_and_of_nearer_generations() -> None:
    paths = simulated(1, 24, 12, rate=0.8, drift=0.2)
    width = {n: np.ptp(panel.predict(paths[:n], 20).quantiles((0.05, 0.95)), 1) for n in (1, 4, 24)}
    assert (width[24] < width[4]).all()
    assert (width[4] < width[1]).all()
    assert (np.diff(width[24]) > 0).all()


@pytest.mark.parametrize("arms", [1, 3])
def test_what_never_changes_goes_on(arms: int) -> None:
    assert (panel.predict(np.full((arms, 4), 7.0), 5).quantiles(LEVELS) == 7.0).all()
    apart = np.arange(float(arms))[:, None] + np.zeros(4)
    np.testing.assert_allclose(panel.predict(apart, 5).quantiles(LEVELS), apart.mean(), atol=1e-6)
    np.testing.assert_allclose(panel.predict(apart, 5, arm=0).quantiles(LEVELS), 0, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-300, 1e-8, 1e150])
def test_no_size_is_too_small_or_too_large(factor: float) -> None:
    paths = factor * simulated(2, 3, 3, rate=1.0)
    found = panel.predict(paths, 2).quantiles(LEVELS) / factor
    np.testing.assert_allclose(found, panel.predict(paths / factor, 2).quantiles(LEVELS), rtol=1e-2)


def test_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="3 generations"):
        panel.predict(np.zeros((4, 2)), 1)
    with pytest.raises(ValueError, match="finite"):
        panel.predict(np.array([[0.0, 1.0, math.nan]]), 1)


def curves(values: np.ndarray, ended: tuple[int, ...] = ()) -> tuple[Curves, Setting]:
    """Return the curves (S, T) of one setting, of the metric of the variance."""
    arms = len(values)
    setting = Setting(label="λ = 1", arms=tuple(range(arms)), ratio=1.0, settings={})
    given = np.array(ended or [-1] * arms)
    return (
        Curves(
            settings=(setting,),
            seeds=setting.arms,
            values={"variance_ratio": values, "coverage_train": values, "mmd_rbf_train": values},
            floors={},
            ended=given,
            endings=tuple("diverged" if t >= 0 else "" for t in given),
        ),
        setting,
    )


def test_a_metric_is_forecast_on_the_scale_on_which_it_is_linear() -> None:
    values = np.exp(simulated(4, 3, 6, rate=1.0, drift=-0.3) * 0.1)
    assert forecast.Scale.of(METRICS["variance_ratio"], values).kind == "log"
    assert forecast.Scale.of(METRICS["variance_ratio"], values * 0).kind == "plain"
    assert forecast.Scale.of(METRICS["mmd_rbf_train"], values).kind == "plain"
    assert forecast.Scale.of(METRICS["neighbour_entropy"], values).kind == "plain"
    shares = np.array([0.0, 0.01, 0.5, 1.0])
    scale = forecast.Scale.of(METRICS["coverage_train"], shares)
    assert scale.kind == "logit"
    np.testing.assert_allclose(scale.back(scale.there(shares)), shares, atol=1e-12)
    assert scale.back(np.array([-900.0, 900.0])).tolist() == [0.0, 1.0]


def test_arms_that_ended_are_left_out_and_gaps_passed_over() -> None:
    values = np.exp(simulated(5, 4, 9, rate=1.0, drift=-0.2))
    values[0, 5:] = np.nan
    values[2, 1] = np.nan
    values[3, -1] = np.nan
    table, setting = curves(values, (5, -1, -1, -1))
    found = forecast.coming(table, setting, METRICS["variance_ratio"], 3)
    assert found is not None
    assert found.arms == (1, 2)
    assert found.paths.shape == (2, 7)
    alone = forecast.coming(*curves(values[:1], (5,)), METRICS["variance_ratio"], 3)
    assert alone is None


def test_a_halving_is_foreseen() -> None:
    values = np.exp(-math.log(2) / 5 * np.arange(12.0) + 0.01 * generator(0, "half").standard_normal((5, 12)))
    table, setting = curves(values)
    about = METRICS["variance_ratio"]
    found = forecast.coming(table, setting, about, 30)
    assert found is not None
    when = forecast.reached(found, about, float(found.quantiles(np.array([30]))[0, 2]))
    assert when is not None
    assert when.what == "halved"
    assert when.early <= when.median <= when.late
    assert 4 <= when.median <= 6
    rising = forecast.coming(*curves(1 / values), about, 30)
    assert rising is not None
    assert forecast.reached(rising, about, math.inf) == dataclasses.replace(when, what="doubled")
    assert forecast.reached(rising, METRICS["neighbour_entropy"], 1.0) is None


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forecast") / "known"
    known = {
        "name": "known",
        "data": {"name": "gaussian", "n": 30},
        "generator": {"name": "gaussian"},
        "generations": 8,
        "seeds": 4,
        "grid": {"mixing.lam": [0, 1, math.inf]},
        "metrics": ["w2_held_out", "variance_ratio", "coverage_train"],
    }
    list(run(Experiment.build(known), folder))
    return folder


def test_a_run_is_forecast(known: Path) -> None:
    found = selfloop.forecast(known, to=20)
    assert [row.metric for row in found.rows] == ["w2_held_out"] * 3 + ["variance_ratio"] * 3
    assert [row.rate for row in found.rows[:3]] == [0.0, 0.5, 1.0]
    for row in found.rows:
        assert row.scale == "log"
        (low, high), (lowest, highest) = row.half, row.most
        assert 0 < lowest < low < row.median < high < highest
    control, _, collapsing = found.rows[3:]
    assert np.ptp(collapsing.most) > 2 * np.ptp(control.most)
    assert "λ = 1: W₂ to held-out data" in str(found)
    assert str(found).count("\n") == 5
    assert found._repr_html_().count("<tr>") == 7
    frame = found.to_frame()
    assert frame["low_90"].tolist() == [row.most[0] for row in found.rows]
    assert selfloop.forecast(Run.open(known), 20) == found


def test_arms_and_an_earlier_generation(known: Path) -> None:
    found = selfloop.forecast(known, 8, metric="coverage_train", seen=4, arms=True)
    assert (found.last, found.to) == (4, 8)
    assert [row.arm for row in found.rows[:5]] == [None, 0, 1, 2, 3]
    values = read(Run.open(known)).values["coverage_train"]
    assert [row.now for row in found.rows[1:5]] == pytest.approx(values[:4, 4].tolist())


def test_the_command(known: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def said(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["selfloop", "forecast", str(known), *words])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    code, out, _ = said("--to", "20")
    assert code == 0
    assert "at 20" in out
    assert out.count("W₂ to held-out data") == 3
    plain = json.loads(said("--to", "20", "--metric", "coverage_train", "--json")[1])
    assert [row["scale"] for row in plain["rows"]] == ["logit"] * 3
    for words, message in (
        (("--to", "8"), "generation 8 is not to come"),
        (("--to", "2000"), "too far"),
        (("--to", "20", "--from", "1"), "from generation 2 to 8"),
        (("--to", "20", "--from", "9"), "from generation 2 to 8"),
        (("--to", "20", "--metric", "w2_held_oat"), "did you mean 'w2_held_out'"),
    ):
        code, _, err = said(*words)
        assert code == 2
        assert message in err
        assert err.count("\n") == 1


@pytest.mark.slow
def test_a_short_run_is_refused(tmp_path: Path) -> None:
    short = {"name": "short", "data": {"name": "gaussian", "n": 20}, "generator": {"name": "gaussian"}}
    list(run(Experiment.build(short | {"generations": 1}), tmp_path / "run"))
    with pytest.raises(ConfigError, match="needs 3 generations, 0 to 2, and the run has 2"):
        selfloop.forecast(tmp_path / "run", 10)
    page = write_report(Run.open(tmp_path / "run")).read_text()
    assert "No forecast: it needs 3 generations, and the run has 2." in page
    assert "forecast-toggle" not in page


@pytest.mark.slow
def test_the_report_has_a_band(known: Path) -> None:
    page = write_report(Run.open(known)).read_text()
    assert page.count("expected at 16") == 3
    assert page.count('"forecast",') == 6  # an interval and a median for each of three settings
    opened = Run.open(known)
    first, again = (forecast.outlooks(opened, read(opened), "w2_held_out") for _ in range(2))
    assert first.keys() == again.keys()
    for label, outlook in first.items():
        assert outlook.t.tolist() == list(range(8, 17))
        assert outlook.low.tolist() == again[label].low.tolist()
        assert (outlook.low[1:] < outlook.median[1:]).all()
        assert (outlook.median[1:] < outlook.high[1:]).all()


@pytest.mark.parametrize(
    ("median", "late", "words"),
    [
        (5.0, 9.0, "doubled: 5 (90 %: 3 to 9)"),
        (5.0, math.inf, "doubled: 5 (90 %: 3 or more)"),
        (math.inf, math.inf, "doubled: more than 12 (90 %: 3 or more)"),
    ],
)
def test_when_it_has_doubled_in_words(median: float, late: float, words: str) -> None:
    assert forecast._when(forecast.Reached(what="doubled", median=median, early=3.0, late=late), 12) == words
    never = forecast.Reached(what="doubled", median=math.inf, early=math.inf, late=math.inf)
    assert forecast._when(never, 12) == "not within 12"


@pytest.mark.parametrize(
    ("run", "to", "more"),
    [(5, 9, {}), (None, 9, {}), ("nix", "9", {}), ("nix", 9.5, {}), ("nix", True, {}), ("nix", 9, {"seen": "2"})],
)
def test_arguments_of_another_kind(run: Any, to: Any, more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^(the run|to|seen) is .*, not '"):
        selfloop.forecast(run, to=to, **more)
