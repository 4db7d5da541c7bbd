"""Biased samplers: without bias nothing changes, beyond the critical ratio nothing holds, and so it is in the loop."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfloop import Experiment
from selfloop.arms import arms
from selfloop.loop import Outcome, advance, load
from selfloop.theory import biased

pytestmark = pytest.mark.usefixtures("as_in_a_worker")

LAMS = st.floats(0, 50)


@given(LAMS, st.floats(0, 3), st.integers(0, 30))
def test_the_closed_form_is_the_recursion(lam: float, tau: float, t: int) -> None:
    v, w = 1.0, lam / (1 + lam)
    for _ in range(t):
        v = (1 - w) + w * tau * v
    if abs(1 + lam * (1 - tau)) > 1e-3:
        assert biased.tempered_variance(lam, tau, t) == pytest.approx(v, rel=1e-6)


@given(LAMS)
def test_no_bias_changes_nothing(lam: float) -> None:
    assert biased.tempered_variance(lam, 1) == 1
    assert biased.tempered_rate(lam, 1) == pytest.approx(lam / (1 + lam))
    assert biased.critical_ratio(1) == math.inf


def test_the_critical_ratio() -> None:
    assert biased.critical_ratio(1.5) == 2
    assert biased.tempered_rate(2, 1.5) == 1
    assert biased.tempered_variance(2, 1.5) == math.inf
    assert biased.tempered_variance(2, 1.5, 9) == pytest.approx(1 + 9 / 3)  # grows by 1 − w a generation
    assert math.isfinite(biased.tempered_variance(1.99, 1.5))
    assert biased.tempered_rate(math.inf, 0.5) == 0.5


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda p: sum(p) > 0.1), st.floats(1, 8))
def test_sharpening_sums_to_one_and_keeps_the_order(p: list[float], beta: float) -> None:
    given_ = np.array(p) / sum(p)
    found = biased.sharpened(given_, beta)
    assert found.sum() == pytest.approx(1)
    assert found.max() >= given_.max() - 1e-12
    np.testing.assert_allclose(biased.sharpened(given_, 1), given_, atol=1e-12)


def chain(settings: dict[str, Any], generations: int) -> list[Outcome]:
    """Run a loop in memory."""
    members, outcomes = arms(Experiment.build({"name": "biased", "generations": generations} | settings)), []
    split = load(members)
    for t in range(generations + 1):
        state, first = (outcomes[-1].state, outcomes[0].state) if outcomes else (None, None)
        outcomes.append(advance(members, split, t, state, lambda g: outcomes[g].samples, first))
    return outcomes


@pytest.mark.parametrize(("lam", "tau"), [(1.0, 0.5), (1.0, 1.5), (2.0, 1.5), (4.0, 1.5), (math.inf, 0.8)])
def test_the_loop_has_these_variances(lam: float, tau: float) -> None:
    """Below, at and above λ = 1/(τ − 1), on 16 sets of 5,000 normal rows; each set's own variance is its 1."""
    outcomes = chain(
        {
            "data": {"name": "gaussian", "n": 5000, "dim": 1},
            "generator": "gaussian",
            "mixing": {"name": "biased", "temperature": tau, "lam": lam},
            "seeds": 16,
            "metrics": ["variance_ratio"],
        },
        10,
    )
    real = outcomes[0].state["covariance"].flatten()
    for t in (1, 3, 10):
        found = (outcomes[t].state["covariance"].flatten() / real).numpy()
        wanted = tau**t if math.isinf(lam) else biased.tempered_variance(lam, tau, t)
        assert abs(found.mean() - wanted) < 4 * found.std(ddof=1) / 4
        assert found.std() < 0.15 * wanted  # so that the line before says something
        drawn = outcomes[t].samples.x.var(1).flatten() / real
        assert drawn.numpy() == pytest.approx(tau * found, rel=0.1)  # what is measured are the samples


@pytest.mark.slow
@pytest.mark.parametrize(("lam", "leaves"), [(0.4, False), (2.5, True)])
def test_the_uniform_table_loses_its_stability_in_the_loop(lam: float, leaves: bool) -> None:
    """β = 2 on four categories: stable below λ = 1."""
    assert (lam > biased.critical_ratio(2)) is leaves
    outcomes = chain(
        {
            "data": {"name": "categorical", "probabilities": [0.25] * 4, "n": 3000},
            "generator": "categorical",
            "mixing": {"name": "biased", "temperature": 0.5, "lam": lam},
            "seeds": 2,
            "metrics": ["heterozygosity_ratio"],
        },
        20,
    )
    gaps = [(outcome.state["rows.probability"] - 0.25).abs().amax(1) for outcome in outcomes]
    assert (gaps[0] < 0.04).all()
    assert (gaps[-1] > 0.3).all() if leaves else (gaps[-1] < 0.1).all()


@pytest.mark.slow
def test_a_table_of_samples_alone_is_sharpened_generation_after_generation() -> None:
    outcomes = chain(
        {
            "data": {"name": "categorical", "probabilities": [0.4, 0.3, 0.2, 0.1], "n": 50_000},
            "generator": "categorical",
            "mixing": {"name": "biased", "temperature": 0.8, "lam": "inf"},
            "metrics": ["heterozygosity_ratio"],
        },
        4,
    )
    p = outcomes[0].state["rows.probability"][0].numpy()
    for t in range(5):
        np.testing.assert_allclose(
            outcomes[t].state["rows.probability"][0].numpy(), biased.sharpened(p, 1.25**t), atol=0.015
        )
