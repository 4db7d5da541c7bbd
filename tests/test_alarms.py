"""Alarms: their level is what happens, what they end is recorded, and whoever resumes comes to the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfloop import ConfigError, Experiment, Run, RunError, run
from selfloop.alarm import Alarm
from selfloop.analysis.alarms import WHOLE, alarms
from selfloop.analysis.curves import Array, read
from selfloop.analysis.verdict import judged, of_arm, of_setting
from selfloop.core.controls import controls
from selfloop.core.sequential import Monitor, Race, Ranks, maximum, robust, tickets, watched
from selfloop.metrics import METRICS
from selfloop.report.page import alarms_of, write_report
from tests.helpers import snapshot

SEEDS = 4
LEVEL = 0.25


def looped(**changes: Any) -> Experiment:
    """Return Gaussians that draw ever closer to their mode in 6 generations, and their control."""
    return Experiment.build(
        {
            "name": "alarmed",
            "data": {"name": "gaussian", "n": 24, "held_out": 24},
            "generator": "gaussian",
            "generations": 6,
            "seeds": SEEDS,
            "grid": {
                "mixing": [{"name": "augment", "lam": 0.0}, {"name": "biased", "temperature": 0.4, "lam": float("inf")}]
            },
            "metrics": ["variance_ratio", "mean_error"],
            "alarm": {"statistics": ["variance_ratio", "mean_error"], "level": LEVEL, "action": "stop"},
        }
        | changes
    )


def alarm_at(test: Race | Ranks, x: Array) -> int | None:
    """Return when a test raises the alarm of arm 0 of (S, m + 1, T + 1)."""
    return next((t for t in range(x.shape[2]) if test.see(x[:, 0, t], x[:, 1:, t]) is not None), None)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 9), st.sampled_from([0.2, 0.34, 0.5]), st.integers(0, 10**6), st.sampled_from([0.05, 3.0]))
def test_no_more_arms_of_a_race_have_an_alarm_than_the_level_allows(
    m: int, level: float, seed: int, tail: float
) -> None:
    """Whatever the curves are, held each against all others at most ⌊α (m + 1)⌋ of them win: exact at level α."""
    x = np.random.default_rng(seed).standard_t(tail, (2, m + 1, 6)).cumsum(2)
    found = [alarm_at(Race(m, level), np.roll(x, -arm, axis=1)) for arm in range(m + 1)]
    assert sum(at is not None for at in found) <= tickets(m, level) <= level * (m + 1) + 1e-9


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 9), st.sampled_from([0.2, 0.34, 0.5]), st.integers(0, 10**6))
def test_no_more_maxima_have_an_alarm_than_the_level_allows(m: int, level: float, seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((2, m + 1, 6)).cumsum(2)
    if not tickets(m, level):
        with pytest.raises(ValueError, match="too few"):
            maximum(x[:, 0], x[:, 1:], level)
        return
    found = [maximum(x[:, a], np.delete(x, a, axis=1), level) for a in range(m + 1)]
    assert sum(at is not None for at in found) <= tickets(m, level)


def test_ranks_keep_their_level_over_fifty_generations() -> None:
    """Of 400 arms at 20 % more than 106 false alarms would come once in a thousand times."""
    rng = np.random.default_rng(0)
    x = rng.standard_t(2, (400, 3, 1, 51))
    false = sum(alarm_at(Ranks(0.2), arm) is not None for arm in x)
    assert false <= 106


def test_a_bet_has_expectation_one() -> None:
    """Every order of five values is as likely: the mean wealth over all of them is 1 exactly."""
    from itertools import permutations

    total = []
    for order in permutations(range(5)):
        test = Ranks(0.05)
        for value in order:
            test.see(np.array([float(value)]), np.empty((1, 0)))
        total.append(np.exp(test._log).mean())
    assert np.mean(total) == pytest.approx(1.0)


def test_what_grows_without_end_is_seen_after_six_generations() -> None:
    x = np.arange(12.0)[None, None]
    assert alarm_at(Ranks(0.05), x) == 5
    assert alarm_at(Ranks(0.05), -x) is None


def test_what_is_no_number_is_infinitely_bad() -> None:
    worse = np.array([[np.nan, 0.0, 0.1, -0.1, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    z = robust(worse)
    assert np.isposinf(z[0, 0])
    assert np.isfinite(z[0, 1:]).all()
    assert (z[1] == 0).all()
    assert (robust(np.full((1, 4), np.nan)) == 0).all()


def test_controls_are_not_watched_and_an_arm_is_not_held_against_its_own_seed() -> None:
    grid = [{"mixing.lam": 0.0, "n": 1}, {"mixing.lam": 1.0, "n": 1}, {"mixing.lam": 1.0, "n": 2}]
    control = controls(grid, [True, False, False])
    assert control == [0, 0, None]
    assert watched(control, [(0, 1), (2, 3), (4,)], [7, 8, 7, 8, 7]) == {2: [1], 3: [0], 4: []}
    assert Monitor({2: [1], 4: []}, 0.5).calibrations == {2: Race.calibration, 4: Ranks.calibration}


@pytest.mark.slow
def test_an_alarm_stops_its_arm_and_the_record_says_so(tmp_path: Path) -> None:
    list(run(looped(), tmp_path / "run"))
    opened = Run.open(tmp_path / "run")
    curves = read(opened)
    raised = alarms_of(opened, curves)
    at = {arm.arm: arm.generation for arm in raised.arms if arm.generation is not None}
    assert at, "the experiment is chosen so that some arms raise an alarm"
    assert set(at) <= set(curves.settings[1].arms)
    for arm in range(2 * SEEDS):
        expected = at[arm] + 1 if arm in at and at[arm] < 6 else -1
        assert curves.ended[arm] == expected
        assert curves.endings[arm] == ("stopped" if expected >= 0 else "")
    stopped = next(arm for arm in at if curves.ended[arm] >= 0)
    by = judged(curves, METRICS)
    assert of_arm(stopped, curves, by).reason == f"stopped by its alarm at generation {at[stopped]}"
    assert of_arm(stopped, curves, by).word == "stopped"
    if 2 * len(at) >= SEEDS:
        assert of_setting(curves.settings[1], curves, by).word == "stopped"
    assert not opened.damage()
    assert f"alarm of arm {stopped}" in (tmp_path / "run" / "log.txt").read_text()
    assert "Alarms" in write_report(opened).read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("shared_workers")
def test_a_run_with_stops_is_the_same_however_it_is_run(tmp_path: Path) -> None:
    """Resumed after every generation, or by two processes."""
    list(run(looped(), tmp_path / "whole"))
    for _ in range(7):
        next(run(looped(), tmp_path / "parts"))
    list(run(looped(), tmp_path / "spread", workers=2))
    list(run(looped(generations=4), tmp_path / "grown"))
    list(run(looped(), tmp_path / "grown"))
    whole = snapshot(tmp_path / "whole")
    for other in ("parts", "spread", "grown"):
        assert snapshot(tmp_path / other) == whole, other


def test_a_note_changes_no_number_and_no_alarm_no_digest(tmp_path: Path) -> None:
    plain, noted = looped(alarm=None), looped(alarm={"statistics": ["variance_ratio"], "level": LEVEL})
    assert "alarm:" not in plain.yaml()
    assert "alarm" not in plain.lasting()
    list(run(plain, tmp_path / "plain"))
    list(run(noted, tmp_path / "noted"))
    assert (tmp_path / "plain/metrics.jsonl").read_bytes() == (tmp_path / "noted/metrics.jsonl").read_bytes()


def test_arms_do_not_join_a_run_whose_alarm_stops_them(tmp_path: Path) -> None:
    list(run(looped(generations=1), tmp_path / "run"))
    with pytest.raises(RunError, match="other arms would change which"):
        list(run(looped(generations=1, seeds=SEEDS + 1), tmp_path / "run"))
    noted = {"statistics": ["variance_ratio"], "level": LEVEL}
    list(run(looped(generations=1, alarm=noted), tmp_path / "noted"))
    list(run(looped(generations=1, alarm=noted, seeds=SEEDS + 1), tmp_path / "noted"))


def test_the_report_looks_back_where_nothing_was_watched(tmp_path: Path) -> None:
    list(run(looped(alarm=None, seeds=2, generations=2), tmp_path / "run"))
    opened = Run.open(tmp_path / "run")
    found = alarms_of(opened, read(opened))
    assert found.statistics == ("variance_ratio",)
    assert {arm.calibration for arm in found.arms} == {Ranks.calibration}
    assert len(found.to_frame()) == 2
    assert '<table class="selfloop">' in found._repr_html_()
    assert "probability 5 %" in str(found)
    many = alarms(read(opened), METRICS, alarm=Alarm(statistics=["variance_ratio"], level=0.5))
    assert {arm.calibration for arm in many.arms} == {Race.calibration}


def test_controls_known_whole_are_taken_whole(tmp_path: Path) -> None:
    list(run(looped(alarm=None, seeds=20, generations=1), tmp_path / "run"))
    opened = Run.open(tmp_path / "run")
    curves = read(opened)
    assert {arm.calibration for arm in alarms_of(opened, curves).arms} == {WHOLE}
    under_way = alarms(curves, METRICS, horizon=5)
    assert {arm.calibration for arm in under_way.arms} == {Race.calibration}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"statistics": ["coverage_train"]}, "'coverage_train' is not recorded"),
        ({"statistics": ["variance_ration"]}, "did you mean 'variance_ratio'"),
        ({"statistics": []}, "at least one metric"),
        ({"statistics": ["mean_error", "mean_error"]}, "only once"),
        ({"level": 0.0}, "alarm.level"),
        ({"level": 1.0}, "alarm.level"),
        ({"action": "halt"}, "alarm.action"),
        ({"level": 0.2}, "needs 5 seeds, here are 4"),
        ({"levels": 0.2}, "level"),
    ],
)
def test_a_wrong_alarm_is_refused_in_one_line(changes: dict[str, Any], words: str) -> None:
    right = {"statistics": ["variance_ratio"], "level": LEVEL, "action": "stop"}
    with pytest.raises(ConfigError) as caught:
        looped(alarm=right | changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_stop_needs_a_control_and_a_statistic_a_direction() -> None:
    with pytest.raises(ConfigError, match="needs a control"):
        looped(grid={"mixing.lam": [1.0, float("inf")]})
    with pytest.raises(ConfigError, match="has no direction"):
        looped(metrics=["parameter_distance_random"], alarm={"statistics": ["parameter_distance_random"]})
    with pytest.raises(ConfigError, match="cannot differ between arms"):
        looped(grid={"alarm.level": [0.1, 0.2]})
    assert looped(alarm=None).override("alarm.statistics=[mean_error]").alarm == Alarm(statistics=["mean_error"])
