"""DDPM's tables against the probabilities that they stand for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from selfloop.core.streams import Streams
from selfloop.learning.schedule import Schedule, quadratic_steps

betas = arrays.arrays(np.float64, st.integers(2, 60), elements=st.floats(1e-4, 0.9))


@settings(deadline=None, max_examples=50)
@given(betas)
def test_schedule_identities(betas):
    s = Schedule.from_betas(betas)
    before = np.append(1.0, s.alphas_bar[:-1])
    np.testing.assert_allclose(s.alphas_bar, [np.prod(1 - betas[: t + 1]) for t in range(len(betas))], rtol=1e-12)
    assert (np.diff(s.alphas_bar) < 0).all()
    # Averaged over x_t given x_0, the posterior of x_{t−1} is its own marginal: N(√ᾱ_{t−1} x_0, 1 − ᾱ_{t−1}).
    mean = s.posterior_mean_x0 + s.posterior_mean_xt * np.sqrt(s.alphas_bar)
    np.testing.assert_allclose(mean, np.sqrt(before), rtol=1e-10)
    variance = s.posterior_mean_xt**2 * (1 - s.alphas_bar) + s.posterior_variance
    np.testing.assert_allclose(variance, 1 - before, rtol=1e-9, atol=1e-12)
    assert s.posterior_variance[0] == 0
    assert (s.posterior_variance <= betas).all()
    np.testing.assert_allclose(np.exp(s.posterior_log_variance[1:]), s.posterior_variance[1:], rtol=1e-12)
    assert s.posterior_log_variance[0] == s.posterior_log_variance[1]
    assert np.array_equal(s.log_variance("fixed-small"), s.posterior_log_variance)
    np.testing.assert_allclose(np.exp(s.log_variance("fixed-large"))[1:], betas[1:], rtol=1e-12)
    assert s.log_variance("fixed-large")[0] == s.posterior_log_variance[0]


@settings(deadline=None, max_examples=30)
@given(st.floats(1e-5, 1e-2), st.floats(2e-2, 0.5), st.integers(2, 300))
def test_linear_schedule(first, last, timesteps):
    betas = Schedule.linear(first, last, timesteps).betas
    assert (betas[0], betas[-1], len(betas)) == (first, last, timesteps)
    np.testing.assert_allclose(np.diff(betas), (last - first) / (timesteps - 1), rtol=1e-9)


@settings(deadline=None, max_examples=30)
@given(betas, st.integers(0, 1000))
def test_diffusion_and_posterior_are_of_their_time(betas, seed):
    """Each image by its own table entry, whatever stands beside it; float64 images lose nothing."""
    schedule, streams = Schedule.from_betas(betas), Streams(seeds=(seed, seed + 1))
    x0, noise, xt = (streams.normal(name, (3, 2, 2, 2), dtype=torch.float64) for name in ("x0", "noise", "xt"))
    t = streams.integers("t", len(betas), (3,))
    noisy, mean = schedule.diffuse(x0, t, noise), schedule.posterior_mean(x0, xt, t)
    for r in range(2):
        for i in range(3):
            k = int(t[r, i])
            signal = schedule.alphas_bar[k]
            torch.testing.assert_close(
                noisy[r, i], math.sqrt(signal) * x0[r, i] + math.sqrt(1 - signal) * noise[r, i], rtol=1e-14, atol=1e-15
            )
            torch.testing.assert_close(
                mean[r, i],
                float(schedule.posterior_mean_x0[k]) * x0[r, i] + float(schedule.posterior_mean_xt[k]) * xt[r, i],
                rtol=1e-14,
                atol=1e-15,
            )


@settings(deadline=None, max_examples=50)
@given(st.integers(3, 2000), st.integers(2, 200))
def test_quadratic_times(timesteps, size):
    times = quadratic_steps(timesteps, size)
    assert len(times) == size
    assert times[0] == 0
    assert times[-1] == round(0.8 * timesteps) < timesteps
    assert (np.diff(times) >= 0).all()
    for i, time in enumerate(
        times.tolist()
    ):  # 2 · 5 · (s − 1)² times the distance from the exact square, a half at most
        off = abs(2 * (5 * (size - 1) ** 2 * time - 4 * timesteps * i**2))
        assert off < 5 * (size - 1) ** 2 or (off == 5 * (size - 1) ** 2 and time % 2 == 0)


def test_quadratic_times_round_a_half_to_even():
    assert quadratic_steps(1000, 9).tolist() == [0, 12, 50, 112, 200, 312, 450, 612, 800]


@pytest.mark.parametrize(("timesteps", "size"), [(2, 2), (1000, 1), (1000, 0)])
def test_quadratic_times_of_too_few(timesteps, size):
    with pytest.raises(ValueError, match="2 from 3 is the least"):
        quadratic_steps(timesteps, size)
