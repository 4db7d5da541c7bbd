"""Variance in and out of diffusion samplers: limits, watersheds, and the exact score of a mixture."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfloop.data.toy import EightGaussians
from selfloop.learning.samplers import ancestral, ddim
from selfloop.learning.schedule import Schedule
from selfloop.theory import sampler_bias
from selfloop.theory.sampler_bias import Rule, ancestral_variance, ddim_variance, fixed_points, looped

TOY = Schedule.linear(1e-3, 0.2, 100)
DATA = EightGaussians().modes()[1] ** 2


large = functools.partial(ancestral_variance, TOY)
small = functools.partial(ancestral_variance, TOY, kind="fixed-small")


@given(st.floats(1e-6, 1.0), st.floats(1e-4, 1e-2), st.floats(0.05, 0.5), st.integers(50, 300))
def test_fixed_small_and_ddim_remove_variance_and_fixed_large_makes_more(
    v: float, first: float, last: float, steps: int
) -> None:
    schedule = Schedule.linear(first, last, steps)
    start = float(schedule.alphas_bar[-1])  # of the data's signal, for which x_T is taken for noise
    assert ancestral_variance(schedule, v, "fixed-small") < v * (1 + start)
    assert ddim_variance(schedule, v, np.arange(steps)) < v * (1 + start)
    assert ancestral_variance(schedule, v) > ancestral_variance(schedule, v, "fixed-small")


def test_variances_go_through_in_any_shape() -> None:
    v = np.array([[1e-4, 1e-3], [0.1, 1.0]])
    assert ancestral_variance(TOY, v) == pytest.approx(np.vectorize(large)(v))
    assert ddim_variance(TOY, v, [0, 50, 99])[1, 0] == pytest.approx(float(ddim_variance(TOY, 0.1, [0, 50, 99])))


def test_a_point_stays_a_point_and_small_modes_are_squared() -> None:
    assert ancestral_variance(TOY, 0.0) == ddim_variance(TOY, 0.0, np.arange(100)) == 0
    assert small(1e-8) / 1e-16 == pytest.approx(sampler_bias.vanishing(TOY), rel=1e-4)


def test_unit_variance_is_kept_by_fixed_large_but_for_the_last_step() -> None:
    """β_t is the true variance of a step for N(0, I), and the last step returns the posterior mean: 1 − β_1 is left."""
    assert large(1.0) == pytest.approx(1 - 1e-3, rel=1e-9)


def test_more_steps_of_the_same_noise_add_less() -> None:
    def added(steps: int) -> float:
        return float(ancestral_variance(Schedule.linear(0.1 / steps, 20 / steps, steps), 0.01)) / 0.01 - 1

    gaps = [added(steps) for steps in (100, 400, 1600)]
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[1] / gaps[2] == pytest.approx(4, rel=0.4)


def test_the_toy_has_a_watershed_with_fixed_large_alone() -> None:
    lower, upper = fixed_points(large)
    assert not lower.stable
    assert upper.stable
    assert np.sqrt(lower.variance / DATA) == pytest.approx(1.882, abs=1e-3)
    assert np.sqrt(upper.variance) == pytest.approx(0.9745, abs=1e-3)
    assert fixed_points(small) == []
    assert looped(large, 0.99 * lower.variance, 60)[-1] < 1e-12
    assert looped(large, 1.01 * lower.variance, 300)[-1] == pytest.approx(upper.variance, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("rule", [large, small])
@given(st.floats(1e-5, 1e-2), st.floats(1e-6, 1e-2))
def test_smoothing_is_what_one_pass_shows_of_it(rule: Rule, v: float, extra: float) -> None:
    assert sampler_bias.smoothing(rule, v, float(rule(v + extra))) == pytest.approx(extra, rel=1e-5)
    assert sampler_bias.smoothing(rule, v, 0.5 * float(rule(v))) == 0


def test_no_smoothing_makes_too_much() -> None:
    with pytest.raises(ValueError, match=r"no denoiser of a variance up to 1\.1 makes 3"):
        sampler_bias.smoothing(large, 0.1, 3.0)


def test_a_network_that_blurs_by_a_data_std_decides_for_fixed_large_and_not_for_fixed_small() -> None:
    (only,) = fixed_points(large, DATA)
    assert only.variance > 0.9
    (settled,) = fixed_points(small, DATA)
    assert settled.stable
    assert looped(small, DATA, 50, DATA)[-1] == pytest.approx(settled.variance)
    assert settled.variance < 0.25 * DATA


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["fixed-large", "fixed-small", "ddim"])
def test_the_exact_score_of_a_mixture_does_to_each_mode_what_the_rule_says(sampler: str) -> None:
    """Modes 1 apart and 0.03 wide, 6,000 rows: the variance has a standard error of 1.3 %."""
    centres = EightGaussians().modes()[0]
    v = 0.03**2
    predict = sampler_bias.mixture_noise(TOY, torch.full((8,), 0.125).double(), centres, torch.full((8,), v).double())
    random = torch.Generator().manual_seed(0)

    def noise(_: int) -> torch.Tensor:
        return torch.randn(1, 6000, 2, generator=random, dtype=torch.float64)

    if sampler == "ddim":
        x, rule = ddim(predict, noise(0), TOY, np.arange(100)), float(ddim_variance(TOY, v, np.arange(100)))
    else:
        x, rule = ancestral(predict, noise(0), TOY, noise, sampler), float(ancestral_variance(TOY, v, sampler))
    square = torch.cdist(x[0], centres).min(1).values.square()
    # A deterministic flow stretches what is on its way between two modes, which Gaussians by themselves do not have.
    limit = 1.25 if sampler == "ddim" else 1.05
    assert 0.95 < float(square.mean()) / 2 / rule < limit


@pytest.mark.slow
def test_the_exact_noise_of_a_mixture_is_that_of_its_density() -> None:
    """ε = −√(1 − ᾱ) ∇ log p_t, by automatic differentiation."""
    weights, centres = torch.tensor([0.2, 0.8]).double(), torch.tensor([[0.0, 1.0], [0.5, -0.3]]).double()
    variances = torch.tensor([0.04, 0.3]).double()
    x = torch.randn(1, 20, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    a = float(TOY.alphas_bar[20])
    parts = [
        torch.distributions.MultivariateNormal(np.sqrt(a) * m, (a * v + 1 - a) * torch.eye(2).double()).log_prob(x)
        for m, v in zip(centres, variances, strict=True)
    ]
    density = torch.logsumexp(torch.stack(parts, -1) + weights.log(), -1)
    (score,) = torch.autograd.grad(density.sum(), x)
    found = sampler_bias.mixture_noise(TOY, weights, centres, variances)(x.detach(), 20)
    torch.testing.assert_close(found, -np.sqrt(1 - a) * score)
