"""The verdict says what its rule says, and is seldom wrong of a loop that never changes."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfloop.analysis.curves import Array, Curves, Setting
from selfloop.analysis.verdict import (
    ENOUGH,
    FEW_SEEDS,
    RULE,
    Judged,
    badness,
    change,
    interval,
    judged,
    of_arm,
    of_setting,
)
from selfloop.core.errors import ConfigError
from selfloop.metrics import METRICS
from selfloop.metrics.base import Metric

T = np.arange(21.0)
FLAT = np.ones(21)


def curves(
    *settings: tuple[float, dict[str, Any]], diverged: dict[int, int] | None = None, floor: float = math.nan
) -> Curves:
    """Return the curves of settings, each a λ and its metrics, an arm or (S, T + 1) of them."""
    stacks = [
        (lam, {k: np.atleast_2d(np.asarray(v, dtype=float)) for k, v in given.items()}) for lam, given in settings
    ]
    sizes = [len(next(iter(values.values()))) for _, values in stacks]
    starts = np.cumsum([0, *sizes])
    names = list(stacks[0][1])
    total = int(starts[-1])
    return Curves(
        settings=tuple(
            Setting(
                label=f"λ = {lam:g}",
                arms=tuple(range(starts[k], starts[k + 1])),
                ratio=lam,
                settings={"mixing.lam": lam},
            )
            for k, (lam, _) in enumerate(stacks)
        ),
        seeds=tuple(seed for size in sizes for seed in range(size)),
        values={name: np.concatenate([values[name] for _, values in stacks]) for name in names},
        floors={name: np.full(total, floor) for name in names if METRICS[name].floor},
        ended=np.array([(diverged or {}).get(arm, -1) for arm in range(total)]),
        endings=tuple("diverged" if arm in (diverged or {}) else "" for arm in range(total)),
    )


def word(c: Curves, setting: int = -1, **how: Any) -> str:
    """Judge one setting, the last one if not said otherwise."""
    return of_setting(c.settings[setting], c, judged(c, METRICS, **how)).word


def noisy(level: Array, seeds: int, size: float = 0.03, seed: int = 0) -> Array:
    """Return a curve with independent noise for every seed."""
    return level * np.exp(size * np.random.default_rng(seed).standard_normal((seeds, len(level))))


@pytest.mark.parametrize(
    ("distance", "spread", "expected"),
    [
        (FLAT, FLAT, "stable so far"),
        (1 + T / 4, FLAT, "collapsed"),
        (FLAT, np.exp(-T / 8), "collapsed"),
        (FLAT, np.exp(T / 8), "collapsed"),
        (1 + T / 50, FLAT, "worse"),
        (FLAT, np.exp(-T / 60), "worse"),
        (FLAT, np.exp(T / 60), "worse"),
        (1 + T / 1000, FLAT, "stable so far"),
        (2 - T / 20, FLAT, "stable so far"),
        (FLAT, np.where(T > 0, 0.0, 1.0), "collapsed"),
        (np.where(T > 0, 0.0, 1.0), FLAT, "stable so far"),
    ],
)
@pytest.mark.parametrize("seeds", [1, 2, 5])
@pytest.mark.parametrize("control", [True, False])
def test_words(distance: Array, spread: Array, expected: str, seeds: int, control: bool) -> None:
    def of(d: Array, v: Array, seed: int) -> dict[str, Array]:
        return {"w2_held_out": noisy(d, seeds, 0.01, seed), "variance_ratio": noisy(v, seeds, 0.01, seed + 1)}

    held = [(0.0, of(FLAT, FLAT, 0))] if control else []
    assert word(curves(*held, (1.0, of(distance, spread, 7)))) == expected


def test_nothing_is_said_before_enough_retrainings_and_of_variance_alone() -> None:
    short = noisy(FLAT[:ENOUGH], 5)
    assert word(curves((1.0, {"w2_held_out": short}))) == "cannot tell yet"
    c = curves((1.0, {"variance_ratio": noisy(FLAT, 5)}))
    verdict = of_setting(c.settings[0], c, judged(c, METRICS))
    assert verdict.word == "cannot tell yet"
    assert "no distance to held-out data was recorded" in verdict.reason
    both = curves((1.0, {"w2_held_out": noisy(FLAT, 5), "variance_ratio": noisy(FLAT, 5)}))
    asked = of_setting(both.settings[0], both, judged(both, METRICS, metric="variance_ratio"))
    assert asked.word == "cannot tell yet"
    assert "no distance to held-out data was judged" in asked.reason
    assert word(both) == "stable so far"
    c = curves((1.0, {"w2_held_out": [1.0]}))
    assert of_setting(c.settings[0], c, judged(c, METRICS)).reason == "there is no retraining yet"


def test_without_real_rows_nothing_is_called_stable() -> None:
    flat = {"w2_held_out": noisy(FLAT, 5, 0.001)}
    c = curves((0.0, flat), (math.inf, flat))
    verdict = of_setting(c.settings[1], c, judged(c, METRICS))
    assert verdict.word == "cannot tell yet"
    assert "theory expects a collapse" in verdict.reason
    assert word(curves((0.0, flat), (9.0, flat))) == "stable so far"


def test_noise_asks_for_seeds() -> None:
    c = curves((0.0, {"w2_held_out": noisy(FLAT, 5, 0.3)}), (1.0, {"w2_held_out": noisy(FLAT, 5, 0.3, 1)}))
    verdict = of_setting(c.settings[1], c, judged(c, METRICS))
    assert verdict.word == "cannot tell yet"
    assert "seeds would tell" in verdict.reason


def test_a_loop_of_elsewhere_asks_for_repetitions() -> None:
    c = curves((0.0, {"w2_held_out": noisy(FLAT, 5, 0.3)}), (1.0, {"w2_held_out": noisy(FLAT, 5, 0.3, 1)}))
    loop = replace(c.settings[1], settings={"mixing.sequence": "loop"})
    reason = of_setting(loop, c, judged(c, METRICS)).reason
    assert "repetitions of the loop would tell" in reason
    assert "seeds" not in reason


def test_the_seeds_asked_for_are_about_enough() -> None:
    asked = []
    for seed in range(60):
        c = curves((1.0, {"w2_held_out": noisy(FLAT, 5, 0.15, seed)}))
        verdict = of_setting(c.settings[0], c, judged(c, METRICS))
        asked += [int(found[1]) for found in [re.search(r"about (\d+) seeds", verdict.reason)] if found]
    assert len(asked) >= 20
    enough = int(np.median(asked))
    told = [word(curves((1.0, {"w2_held_out": noisy(FLAT, enough, 0.15, 100 + seed)}))) for seed in range(60)]
    assert 0.6 <= told.count("stable so far") / 60 < 1


@pytest.mark.slow
def test_an_unchanged_loop_is_seldom_called_worse() -> None:
    """A false alarm has a probability of at most 5 %; 25 of 300 are exceeded by chance in 0.5 %."""
    for seeds in (1, 2, 3, 5, 10):
        rng = np.random.default_rng(seeds)
        alarms = 0
        for _ in range(300):
            x = np.exp(0.3 * rng.standard_normal((2, seeds, 11)))
            x[1, :, 0] = x[0, :, 0]
            c = curves((0.0, {"w2_held_out": x[0]}), (1.0, {"w2_held_out": x[1]}))
            alarms += word(c) in ("worse", "collapsed")
        assert alarms <= 25, seeds


@pytest.mark.slow
def test_interval_covers_the_end_of_noisy_arms() -> None:
    """Coverage of a nominal 95 %: within 0.93 to 0.985 for 2,000 draws of each kind."""
    rng = np.random.default_rng(0)
    for seeds in (1, 2, 4, 5, 20):
        hits = 0
        for _ in range(2000):
            found = interval(0.1 * rng.standard_normal((seeds, 21)), paired=True)
            assert found is not None
            hits += found.low <= 0 <= found.high
        assert 0.93 <= hits / 2000 <= 0.999, seeds
        if seeds >= FEW_SEEDS:
            assert hits / 2000 <= 0.965


def test_a_divergence_is_a_collapse_however_good_it_looked() -> None:
    flat = {"w2_held_out": noisy(FLAT, 1)}
    c = curves((1.0, flat), diverged={0: 7})
    verdict = of_arm(0, c, judged(c, METRICS))
    assert (verdict.word, verdict.reason) == ("collapsed", "diverged at generation 7")
    three = {"w2_held_out": noisy(FLAT, 3, 0.001)}
    assert word(curves((1.0, three), diverged={0: 7})) == "cannot tell yet"
    assert word(curves((1.0, three), diverged={0: 7, 1: 2})) == "collapsed"
    c = curves((1.0, three), diverged={0: 7, 1: 2, 2: 3})
    assert of_setting(c.settings[0], c, judged(c, METRICS)).reason == "3 of 3 arms diverged"


def test_an_arm_without_rows_has_starved_and_not_collapsed() -> None:
    three = {"w2_held_out": noisy(FLAT, 3, 0.001)}
    c = replace(curves((1.0, three), diverged={0: 7, 1: 2}), endings=("starved", "starved", ""))
    by = judged(c, METRICS)
    first, whole = of_arm(0, c, by), of_setting(c.settings[0], c, by)
    assert (first.word, first.reason) == ("starved", "starved at generation 7, left without rows to train on")
    assert (whole.word, whole.reason.split(";")[0]) == ("starved", "2 of 3 arms starved")
    mixed = replace(c, endings=("starved", "diverged", ""))
    assert of_setting(mixed.settings[0], mixed, by).word == "collapsed"
    one = replace(c, ended=np.array([7, -1, -1]), endings=("starved", "", ""))
    assert of_setting(one.settings[0], one, by).word == "cannot tell yet"
    control = curves((0.0, three), (1.0, three), diverged={0: 7, 1: 7})
    assert judged(replace(control, endings=("starved", "starved", *[""] * 4)), METRICS).failed == {"λ = 0"}


def test_what_decided_is_said_first() -> None:
    far, near = noisy(1 + 0.4 * T / 20, 40, 0.005), noisy(1 + 0.02 * T / 20, 40, 0.005)
    c = curves((1.0, {"w2_held_out": far}), floor=0.8)
    verdict = of_setting(c.settings[0], c, judged(c, METRICS))
    assert verdict.word == "collapsed"
    found = re.match(
        r"at the end W₂ to held-out data 1\.3\d × \(.*?\), and (.*) × its excess over the floor", verdict.reason
    )
    assert found is not None
    assert float(found[1]) == pytest.approx(2.85, rel=0.05)
    scattered = np.concatenate([near[:19], noisy(1 + 3 * T / 20, 21, 0.005)])
    scattered[:19] /= (1 + 3 * T / 20) ** 2
    c = curves((1.0, {"w2_held_out": scattered}))
    verdict = of_setting(c.settings[0], c, judged(c, METRICS))
    assert (verdict.word, verdict.reason.split(";")[0]) == ("collapsed", "21 of 40 arms collapsed by themselves")


@pytest.mark.parametrize(
    "asked", ["mixture", {"name": "mixture"}, {"components": 2}, {"name": "mixture", "components": 2.0}]
)
def test_a_member_is_the_control_by_its_name_or_some_of_its_settings(asked: object) -> None:
    c = curves((1.0, {"w2_held_out": noisy(FLAT, 5)}), (1.0, {"w2_held_out": noisy(FLAT, 5)}))
    members = [{"name": "gaussian", "covariance": "unbiased"}, {"name": "mixture", "components": 2}]
    settings = [
        replace(s, label=f"{i}", settings={"generator": m})
        for i, (s, m) in enumerate(zip(c.settings, members, strict=True))
    ]
    c = replace(c, settings=tuple(settings))
    assert {s.label for s in judged(c, METRICS, control={"generator": asked}).controls.values()} == {"1"}
    with pytest.raises(ConfigError, match=r"there are generator=gaussian \(covariance = unbiased\); generator=mixture"):
        judged(c, METRICS, control={"generator": "flow"})


def test_most_arms_by_themselves_decide_where_they_scatter() -> None:
    """Arms that left at very different speeds: their mean has a wide interval, and none of them is in doubt."""
    ends = np.array([0.15, 0.2, 0.3, 1.0, 4.0])
    c = curves(
        (0.0, {"w2_held_out": noisy(FLAT, 5, 0.005)}),
        (1.0, {"w2_held_out": noisy(FLAT, 5, 0.005, 1) + ends[:, None] * T / 20}),
    )
    assert word(c) in ("worse", "collapsed")


def test_the_control_is_lambda_0_or_declared_and_serves_within_what_else_varies() -> None:
    low, high = noisy(FLAT, 5, 0.01), noisy(2 * FLAT, 5, 0.01)
    high[:, 0] = low[:, 0]
    c = curves((0.5, {"w2_held_out": high}), (1.0, {"w2_held_out": high}))
    assert word(c) == "worse" or word(c) == "collapsed"
    assert word(c, control={"mixing.lam": 0.5}) in ("worse", "collapsed")  # the control itself got worse
    steady = noisy(2 * FLAT, 5, 0.01)
    c = curves((0.5, {"w2_held_out": steady}), (1.0, {"w2_held_out": steady}))
    by = judged(c, METRICS, control={"mixing.lam": 0.5})
    assert set(by.controls) == {"λ = 1"}
    assert "against λ = 0.5" in of_setting(c.settings[1], c, by).reason
    with pytest.raises(
        ConfigError, match=r"no setting of this run is mixing.lam=3: there are mixing.lam=0.5; mixing.lam=1"
    ):
        judged(c, METRICS, control={"mixing.lam": 3})


def test_a_control_that_got_worse_holds_nothing() -> None:
    worse = {"w2_held_out": noisy(1 + T / 10, 5, 0.01)}
    c = curves((0.0, worse), (1.0, worse))
    assert word(c) == "collapsed"
    assert "as the control got worse itself" in of_setting(c.settings[1], c, judged(c, METRICS)).reason


def test_seeds_are_paired() -> None:
    """What seeds owe to their real rows leaves the difference."""
    rows = np.exp(np.random.default_rng(0).standard_normal((5, 1)))
    c = curves(
        (0.0, {"w2_held_out": rows * noisy(FLAT, 5, 0.01)}), (1.0, {"w2_held_out": rows * noisy(FLAT, 5, 0.01, 1)})
    )
    assert word(c) == "stable so far"


def test_in_many_dimensions_the_excess_over_the_floor_decides() -> None:
    c = curves((1.0, {"w2_held_out": noisy(1 + 0.4 * T / 20, 5, 0.005)}), floor=0.8)
    assert word(c) == "collapsed"
    c = curves((1.0, {"w2_held_out": noisy(1 + 0.4 * T / 20, 5, 0.005)}), floor=0.3)
    assert word(c) == "worse"


def test_kid_about_zero_is_compared_by_its_own_size() -> None:
    rng = np.random.default_rng(0)
    nothing = 1e-4 * rng.standard_normal((2, 5, 21))
    assert word(curves((0.0, {"kid_held_out": nothing[0]}), (1.0, {"kid_held_out": nothing[1]}))) in (
        "cannot tell yet",
        "stable so far",
    )
    c = curves((0.0, {"kid_held_out": nothing[0]}), (1.0, {"kid_held_out": nothing[1] + 1e-3 * T / 20}))
    assert word(c) == "collapsed"


@given(
    st.sampled_from(sorted(name for name, m in METRICS.items() if m.goal is not None)),
    st.floats(0.01, 100),
    st.floats(1.01, 9),
)
def test_badness_grows_as_samples_get_worse(name: str, value: float, factor: float) -> None:
    about = METRICS[name]
    if isinstance(about.goal, float):
        near, far = about.goal + value, about.goal + value * factor
    else:
        near, far = (value, value * factor) if about.goal == "lower" else (value * factor, value)
    assert badness(about, np.array([far]))[0] > badness(about, np.array([near]))[0]


def test_the_judged_metric_is_a_distance_unless_another_is_asked_for() -> None:
    names = ["precision_held_out", "mean_error", "w1_held_out", "sqrt_covariance_ratio", "parameter_distance_random"]
    row = {name: np.ones((1, 3)) for name in names}
    c = curves((1.0, row))
    assert judged(c, METRICS) == Judged(distance="w1_held_out", spread="sqrt_covariance_ratio")
    assert judged(c, METRICS, metric="mean_error").distance == "mean_error"
    only = curves((1.0, {"precision_held_out": np.ones((1, 3))}))
    assert judged(only, METRICS).distance == "precision_held_out"
    refused = {
        "nll": "did not record 'nll'",
        "precision_heldout": "did not record 'precision_heldout', did you mean 'precision_held_out'?",
        "parameter_distance_random": "has no direction",
    }
    for metric, message in refused.items():
        with pytest.raises(ConfigError, match=message):
            judged(c, METRICS, metric=metric)
    with pytest.raises(ConfigError, match="the tolerance is a share above 0"):
        judged(c, METRICS, tolerance=-1)


def test_a_reference_of_zero_is_no_scale() -> None:
    c = curves((0.0, {"mean_error": np.zeros((5, 21))}), (1.0, {"mean_error": np.tile(T, (5, 1))}))
    by = judged(c, METRICS, metric="mean_error")
    assert change("mean_error", c.settings[1].arms, c.settings[1], c, by) is None
    verdict = of_setting(c.settings[1], c, by)
    assert (verdict.word, "has no values to compare" in verdict.reason) == ("cannot tell yet", True)


def test_values_that_are_not_there_are_left_out() -> None:
    gone = noisy(FLAT, 5)
    gone[:4, 1:] = math.nan
    assert word(curves((1.0, {"w2_held_out": gone}))) in ("cannot tell yet", "stable so far")
    assert word(curves((1.0, {"w2_held_out": np.full((5, 21), math.nan)}))) == "cannot tell yet"


def test_a_metric_of_a_program_elsewhere_is_compared_as_a_ratio() -> None:
    plain = {
        "title": "x",
        "definition": "x",
        "version": 1,
        "unit": "x",
        "goal": "lower",
        "note": "",
        "floor": True,
        "weights": False,
    }
    assert Metric.recorded("x", plain).scale == "ratio"


def test_the_rule_names_every_word() -> None:
    for name in ("Collapsed:", "Worse:", "Starved:", "Stable so far", "Cannot tell yet"):
        assert name in RULE
