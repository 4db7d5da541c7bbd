"""Solvers against closed forms, by their order of convergence, and copy by copy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchdiffeq import odeint

from selfloop.nets.mlp import time_mlp, time_mlp_init
from selfloop.samplers import Schedule, ancestral, dopri5, euler
from selfloop.streams import Streams


def start(n: int = 20, copies: int = 1) -> torch.Tensor:
    return Streams(tuple(range(copies))).normal("x", (n, 2), dtype=torch.float64)


def decay(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """dx/dt = −2 t x, so that x(1) = x(0)/e."""
    return -2 * t.unsqueeze(-1) * x


def test_euler_is_of_order_one() -> None:
    x = start()
    errors = [float((euler(decay, x, n) - x / math.e).abs().max()) for n in (100, 200, 400)]
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-8, 1e-11])
def test_dopri5_keeps_its_tolerance(tolerance: float) -> None:
    x = start()
    assert float((dopri5(decay, x, tolerance, tolerance) - x / math.e).abs().max()) < 20 * tolerance


def test_dopri5_agrees_with_torchdiffeq_on_a_network() -> None:
    params = time_mlp_init(Streams((0,)), 2, 32)
    x = start(100).float()
    theirs = odeint(
        lambda t, y: time_mlp(params, y, t.reshape(1, 1)), x, torch.tensor([0.0, 1.0]), rtol=1e-5, atol=1e-5
    )
    assert float((dopri5(lambda y, t: time_mlp(params, y, t), x) - theirs[-1]).abs().max()) < 1e-3


def test_a_copy_does_not_see_its_neighbours() -> None:
    """Stiff, exploding and undefined neighbours leave a copy's bits as they are."""
    x, rates = start(16, 4), torch.tensor([-1.0, -300.0, math.nan, 2.0], dtype=torch.float64)

    def field(which: torch.Tensor):
        return lambda y, t: which.view(-1, 1, 1) * y

    together = dopri5(field(rates), x)
    for r in range(4):
        alone = dopri5(field(rates[r : r + 1]), x[r : r + 1])
        assert torch.equal(alone[0], together[r]) or (r == 2 and torch.isnan(together[r]).all())
    assert torch.isnan(together[2]).all()
    assert torch.isfinite(together[[0, 1, 3]]).all()


def test_a_copy_that_does_not_arrive_is_nan() -> None:
    blow_up = dopri5(lambda x, t: 100 * x**2, torch.ones(1, 1, 1, dtype=torch.float64), max_steps=200)
    assert torch.isnan(blow_up).all()


@given(st.floats(1e-5, 1e-2), st.floats(1e-2, 0.5), st.integers(2, 300))
def test_schedule_identities(first: float, last: float, timesteps: int) -> None:
    schedule = Schedule.linear(first, last, timesteps)
    before = np.append(1.0, schedule.alphas_bar[:-1])
    # The posterior mean of x_{t−1} for a noiseless x_t = √ᾱ_t x_0 is √ᾱ_{t−1} x_0.
    mean = schedule.posterior_mean_x0 + schedule.posterior_mean_xt * np.sqrt(schedule.alphas_bar)
    assert np.allclose(mean, np.sqrt(before), rtol=1e-9)
    assert np.allclose(schedule.posterior_variance, schedule.betas * (1 - before) / (1 - schedule.alphas_bar))
    assert (np.exp(schedule.log_variance("fixed-large"))[1:] >= schedule.posterior_variance[1:] * (1 - 1e-12)).all()


def test_the_ancestral_chain_with_the_exact_predictor_recovers_a_point() -> None:
    schedule, point = Schedule.linear(1e-3, 0.2, 100), torch.tensor([1.5, -0.5], dtype=torch.float64)
    streams = Streams((0, 1))

    def exact(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        a = torch.from_numpy(schedule.alphas_bar)[t].unsqueeze(-1)
        return (x - a.sqrt() * point) / (1 - a).sqrt()

    noise = lambda i: streams.normal("z", (50, 2), i, torch.float64)  # noqa: E731
    x = ancestral(exact, streams.normal("x_T", (50, 2), dtype=torch.float64), schedule, noise)
    assert torch.allclose(x, point.expand_as(x), atol=1e-9)


def test_the_ancestral_chain_recovers_a_gaussian() -> None:
    """With ε predicted exactly for N(0.5, 0.3²) data, mean and variance return within the T = 1000 chain's own bias.

    20,000 samples; 5 standard errors plus 2 % for the discretisation.
    """
    schedule, mean, std = Schedule.linear(1e-4, 0.02, 1000), 0.5, 0.3
    streams, n = Streams((0,)), 20_000

    def exact(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        a = torch.from_numpy(schedule.alphas_bar)[t].unsqueeze(-1)
        return (1 - a).sqrt() * (x - a.sqrt() * mean) / (a * std**2 + 1 - a)

    noise = lambda i: streams.normal("z", (n, 1), i, torch.float64)  # noqa: E731
    x = ancestral(exact, streams.normal("x_T", (n, 1), dtype=torch.float64), schedule, noise, "fixed-small")
    assert float(x.mean()) == pytest.approx(mean, abs=5 * std / math.sqrt(n) + 0.01)
    assert float(x.std()) == pytest.approx(std, rel=5 / math.sqrt(2 * n) + 0.02)
