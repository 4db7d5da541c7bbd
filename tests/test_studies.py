"""The studies at small sizes: what their full tables say must hold here within their errors."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from selfloop import Experiment, Run, run
from selfloop.analysis.curves import read
from selfloop.data.toy import EightGaussians
from selfloop.learning.schedule import Schedule
from studies import fig3, forecasts, loops, regimes, stability, tables, texts


@pytest.mark.slow
@pytest.mark.parametrize("rate", stability.RATES)
def test_intervals_of_rates_hold_them(rate: float) -> None:
    """Of 150 at 95 % (less a bias's 4 %) below 84 % by chance 1e-4."""
    for arms, retrainings in itertools.product((5, 30), (10, 50)):
        found = stability.of_panels((arms, retrainings, rate), 150)
        assert found.started > 0.84
        assert found.settled > 0.84
        assert found.width < 1.5


def test_intervals_of_the_gaussian_loop_hold_its_rate() -> None:
    assert all(stability.of_loops((arms, 9.0), 100).started > 0.82 for arms in (5, 30))


@pytest.mark.slow
def test_claims_are_seldom_too_large() -> None:
    """Of 100 claims at 5 % more than 15 are by chance 1e-5; without bounds more than 20 are."""
    found = stability.of_lams(100, 100)
    assert {row.seeds for row in found} == set(stability.SEEDS)
    assert all(row.overstated <= 0.15 and row.margin <= 0.15 for row in found)
    assert max(row.point for row in found) > 0.2
    borne = [row for row in found if row.metric == "Variance ratio" and row.seeds == 20]
    assert borne[0].exact > 0.8


def test_the_page_has_both_tables() -> None:
    covered = [stability.Covered("AR(1)", 5, 10, 0.5, 0.95, math.nan, 0.4)]
    claimed = [stability.Claimed(30, "W₂", 5, 0.25, 0.03, 0.4, 0.05, 0.1)]
    page = stability.page(covered, claimed, 2000, 1000)
    assert "| AR(1) | 5 | 10 | 0.5 | 95.0% | – | 0.40 |" in page
    assert "| 30 | W₂ | 5 | 0.25 | 3.0% | 40.0% | 5.0% | 10.0% |" in page


def test_regimes_are_drawn_side_by_side(tmp_path: Path) -> None:
    mixing = [{"name": "augment", "lam": 0}, {"name": "accumulate"}, {"name": "replace"}]
    settings = {
        "name": "x",
        "data": {"name": "gaussian", "n": 20},
        "generator": "gaussian",
        "generations": 3,
        "seeds": 4,
    }
    list(
        run(Experiment.build(settings | {"metrics": ["variance_ratio"], "grid": {"mixing": mixing}}), tmp_path / "run")
    )
    curves = read(Run.open(tmp_path / "run"))
    middle, error = regimes.bands(curves, curves.settings[1], "variance_ratio")
    seeds = curves.of(curves.settings[1], "variance_ratio")
    np.testing.assert_allclose(middle, seeds.mean(0))
    np.testing.assert_allclose(error, 2 * seeds.std(0, ddof=1) / 2)
    drawn = regimes.figure(curves, curves.settings[0], "variance_ratio", "Variance ratio")
    assert [axes.get_title() for axes in drawn.axes[:3]] == [s.label for s in curves.settings]
    assert regimes.table(curves).splitlines()[3].startswith(f"| accumulate | {middle[-1]:.3f} ± {error[-1] / 2:.3f}")


def test_every_loop_can_be_run() -> None:
    """Each is an experiment, with a control of the same seeds and something to hold against it."""
    names = [loop.name for loop in loops.LOOPS]
    assert len(set(names)) == len(names) >= 14
    assert set(forecasts.LOOKED_AT) < set(names)
    assert {loop.kind for loop in loops.LOOPS} == {"toy", "digits", "table"}
    for loop in loops.LOOPS:
        experiment = loop.experiment
        assert experiment.grid["mixing"][0] == loops.CONTROL
        assert experiment.seeds == 24
        assert 30 <= experiment.generations <= 50


@pytest.mark.slow
def test_forecasts_are_held_against_what_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecasts, "SEEN", (3, 5))
    known = next(loop for loop in loops.LOOPS if loop.name == "gaussian-100")
    small = dataclasses.replace(known, generations=9, seeds=8, mixing=(loops.CONTROL, loops.REPLACE))
    list(run(small.experiment, tmp_path / small.name))
    cases = list(forecasts.of_loop(Run.open(tmp_path / small.name)))
    # Two settings of two groups, five metrics, from 3 at 6 and 9 and from 5 at 9, by four methods.
    assert len(cases) == 2 * 2 * 5 * 3 * 4
    by = {method: [case for case in cases if case.method == method] for method in forecasts.METHODS}
    assert forecasts.covered(by["forecast"])[0] > 0.8
    assert all(case.outer or not case.inner for case in cases)
    assert all(case.width > 0 for case in by["forecast"])
    page = forecasts.page(cases)
    assert "| gaussian-100 (toy) | " in page
    assert "## Loops by which the grid was chosen" not in page


def test_trend_lines() -> None:
    path = np.array([1.0, 3.0, 5.0, 7.0, 9.5])
    assert forecasts.last_value(path, 3) == (9.5, float(np.std([2, 2, 2, 2.5])))
    middle, error = forecasts.straight_line(path, 3)
    assert middle == pytest.approx(np.polyval(np.polyfit(np.arange(5), path, 1), 7))
    assert error > 0
    assert forecasts.straight_line(path[:4], 2) == pytest.approx((11.0, 0.0))


@pytest.mark.slow
def test_the_study_of_figure_3_at_a_small_size(tmp_path: Path) -> None:
    """Its page has a row for every arm, and what was run is not run again."""
    family = dataclasses.replace(
        fig3.FAMILIES["wide"], pretrain=300, steps=3, generations=1, rows=64, timesteps=30, arms=fig3.ARMS[1:]
    )
    found = fig3.found("tiny", family, tmp_path)
    files = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert len(files) == 3
    again = fig3.found("tiny", family, tmp_path)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == files
    assert again.network == found.network
    assert found.samples.shape == (5, 2, 64, 2)
    text = fig3.page({"tiny": found})
    assert all(text.count(f"| {arm.label} |") == 2 for arm in family.arms)
    fig3.curves(found)
    fig3.collapses(found)
    fig3.rules([found])


def test_spread_and_rows_between_modes_are_those_of_the_data() -> None:
    toy = EightGaussians(n=20_000, **fig3.WIDE)
    seen = fig3.look(toy.load([0]).train[0].numpy(), toy)
    assert seen.spread == pytest.approx(1, abs=0.02)
    assert fig3.look(np.zeros((10, 2)), toy).between == 1


@pytest.mark.parametrize("dropped", [0.1, 0.5])
def test_without_its_farthest_rows_a_mode_has_the_share_of_variance_that_the_rule_says(dropped: float) -> None:
    square = np.sort(np.random.default_rng(0).chisquare(2, 200_000))[: round(200_000 * (1 - dropped))].mean() / 2
    schedule = Schedule.linear(1e-3, 0.2, 100)
    kept, every = (fig3.Arm("", "fixed-small", dropped=q).rule(schedule)(0.01) for q in (dropped, 0.0))
    assert float(kept / every) == pytest.approx(square, rel=0.01)


@pytest.mark.parametrize(
    ("mean", "error", "breaks"),
    [
        ([0, 6, 7, 8], 1.0, 1),
        ([6, 4, 7, 8], 1.0, None),  # two generations are too few
        ([0, 6, 4, 6, 7, 8], 1.0, 3),
        ([6, 6, 6], 1.0, 0),
        ([0, 6, 7, 8], 3.6, None),
        ([-9, -9, -9, -9], 1.0, None),
        ([0, 6, 7, 8], math.nan, None),  # of one seed nothing is said
    ],
)
def test_a_metric_breaks_where_losses_stay(mean: list[float], error: float, breaks: int | None) -> None:
    loss = tables.Loss("tails", "levels_kept", np.array(mean, float), np.full(len(mean), error))
    assert loss.breaks == breaks


@pytest.mark.slow
def test_the_page_of_tables_is_what_the_records_say(tmp_path: Path) -> None:
    experiment = Experiment.load("wine").override(
        "data={name: scikit_learn, table: iris, target: species, n: 20}",
        "generations=4",
        "seeds=3",
        "grid={mixing: [{name: augment, lam: 0}, {name: augment, lam: inf}]}",
        "metrics=[shape_error_held_out, levels_kept]",
    )
    list(run(experiment, tmp_path / "iris"))
    done = Run.open(tmp_path / "iris")
    text, files = tables.page([done])
    assert set(files) == {"wine.png", "wine.csv"}
    curves = read(done)
    control, replaced = curves.settings
    worse = 100 * (curves.of(replaced, "shape_error_held_out") - curves.of(control, "shape_error_held_out"))
    loss = tables.cases(done, curves)[1].losses[0]
    np.testing.assert_allclose(loss.mean, worse.mean(0))
    np.testing.assert_allclose(loss.error, worse.std(0, ddof=1) / math.sqrt(3))
    kept = curves.of(control, "levels_kept") - curves.of(replaced, "levels_kept")
    np.testing.assert_allclose(tables.cases(done, curves)[1].losses[1].mean, 100 * kept.mean(0))
    assert "Of 1 settings with synthetic rows" in text
    assert "20 rows to train on, 4 retrainings, 3 seeds" in text
    assert f"{loss.mean[4]:.4f}" in files["wine.csv"].decode()


def test_loops_of_text_have_figures_and_tables(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("".join(f"{a}{b}|`{a}\n" for a in "abcd" for b in "efghijklmnop"))
    settings = {
        "name": "x",
        "data": {"name": "text", "path": str(tmp_path / "words.txt"), "unit": "line", "held_out": 10},
        "generator": "ngram",
        "generations": 2,
        "seeds": 2,
        "grid": {"mixing": [{"name": "augment", "lam": 0}, {"name": "replace"}]},
        "metrics": ["perplexity_held_out", "distinct_2"],
    }
    for _ in run(Experiment.build(settings), tmp_path / "run"):
        pass
    done = Run.open(tmp_path / "run")
    curves = read(done)
    assert texts.perplexity(done, curves).axes[0].get_ylabel() == "Held-out perplexity"
    assert len(texts.rows(done, curves).axes) == 2
    lines = texts.table(done, curves).splitlines()
    assert [line.split(" | ")[1] for line in lines[2:]] == ["0", "1", "2"] * 2
    assert lines[0] == "| regime | generation | perplexity_held_out | distinct_2 |"
    lines = texts.samples(done, curves).splitlines()
    assert [line.split(" | ")[1] for line in lines[3:]] == ["0", "1", "2"] * 2
    assert all(line.replace("∣", "").count("|") == 4 for line in lines)  # what is in a row ends no cell
