"""The verdict says what its rule says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from selfloop.analysis.curves import Curves, Setting
from selfloop.analysis.verdict import RULE, Judged, judged, of_arm, of_setting, rise
from selfloop.metrics import METRICS

T = np.arange(11.0)


def curves(distance: object = None, spread: object = None, diverged: int = -1) -> Curves:
    """Return the curves of one arm, or of several where an array has two axes."""
    given = {"w2_held_out": distance, "variance_ratio": spread}
    values = {k: np.atleast_2d(np.asarray(v, dtype=float)) for k, v in given.items() if v is not None}
    n = len(next(iter(values.values())))
    return Curves(
        settings=(Setting(label="λ = 1", arms=tuple(range(n)), ratio=1.0, settings={}),),
        seeds=tuple(range(n)),
        values=values,
        floors={k: np.full(n, np.nan) for k in values},
        diverged=np.array([diverged] + [-1] * (n - 1)),
    )


def word(c: Curves) -> str:
    """Judge the first arm."""
    return of_arm(0, c, judged(c, METRICS)).word


@pytest.mark.parametrize(
    ("distance", "spread", "expected"),
    [
        (np.ones(11), np.ones(11), "stable"),
        (1 + T / 4, np.ones(11), "collapsed"),
        (np.ones(11), np.exp(-T / 8), "collapsed"),
        (np.ones(11), np.exp(T / 8), "collapsed"),
        (1 + T / 25, np.ones(11), "drifting"),
        (np.ones(11), np.exp(-T / 30), "drifting"),
        (np.ones(11), np.exp(T / 30), "drifting"),
        (1 + T / 100, np.ones(11), "stable"),
        (2 - T / 10, np.ones(11), "stable"),
        (np.minimum(1 + T / 6, 1.6), np.ones(11), "drifting"),
        (np.minimum(1 + T / 6, 1.2), np.ones(11), "stable"),
        (np.ones(11), np.maximum(1 - T / 6, 0.7), "drifting"),
        (1 + T / 4, None, "collapsed"),
        (None, np.exp(-T / 8), "collapsed"),
        (None, np.exp(-T / 30), "drifting"),
        (None, np.ones(11), "not judged"),
        (np.ones(4), np.ones(4), "too short"),
        (np.ones(5), np.ones(5), "stable"),
        ([1, 3], None, "collapsed"),
        ([1], [1], "not judged"),
        ([np.nan] * 5, [np.nan] * 5, "not judged"),
        (np.zeros(6), None, "not judged"),
        (np.ones(6), np.zeros(6), "stable"),
    ],
)
def test_words(distance: object, spread: object, expected: str) -> None:
    assert word(curves(distance, spread)) == expected


def test_a_vanished_variance_is_a_collapse() -> None:
    assert word(curves(np.ones(8), [1, 0, 0, 0, 0, 0, 0, 0])) == "collapsed"


def test_noise_around_a_level_is_stable_and_rarely_called_drift() -> None:
    rng = np.random.default_rng(0)
    words = [word(curves(1 + 0.05 * rng.standard_normal(21), np.ones(21))) for _ in range(200)]
    assert words.count("stable") >= 195


def test_a_divergence_is_a_collapse_however_good_it_looked() -> None:
    c = curves(np.ones(11), np.ones(11), diverged=7)
    verdict = of_arm(0, c, judged(c, METRICS))
    assert verdict.word == "collapsed"
    assert "generation 7" in verdict.reason


def test_a_setting_is_judged_by_its_median_and_by_half_of_its_arms() -> None:
    flat, bad = np.ones(11), np.where(T > 0, 99.0, 1.0)
    assert of_setting(_only(c := curves([flat, flat, bad])), c, judged(c, METRICS)).word == "stable"
    assert of_setting(_only(c := curves([flat, bad])), c, judged(c, METRICS)).word == "collapsed"
    assert of_setting(_only(c := curves([flat, flat, bad])), c, judged(c, METRICS)).reason.endswith(
        "1 of 3 arms collapsed"
    )


def _only(c: Curves) -> Setting:
    return c.settings[0]


def test_the_judged_metric_is_a_distance() -> None:
    row = np.ones((1, 3))
    names = ["nll", "mean_error", "w1_held_out", "sqrt_covariance_ratio", "unknown"]
    c = Curves(
        settings=(),
        seeds=(0,),
        values=dict.fromkeys(names, row),
        floors={},
        diverged=np.array([-1]),
    )
    assert judged(c, METRICS) == Judged(distance="w1_held_out", spread="sqrt_covariance_ratio")


def test_rise_is_the_least_squares_rise_over_the_second_half() -> None:
    assert rise(3 * T) == pytest.approx(15)
    assert rise(-T) == 0
    assert rise(np.where(T < 5, 0.0, math.nan)) == 0


def test_the_rule_names_every_word() -> None:
    assert all(f"{name}:" in RULE for name in ("Collapsed", "Drifting", "Stable", "Too short"))
