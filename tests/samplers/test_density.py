"""The instantaneous change of variables against closed forms, and Hutchinson's estimate against the trace."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.generators import OTCFM
from selfloop.learning.nets.mlp import time_mlp
from selfloop.learning.samplers import Velocity, dopri5, exact, pull_back, rademacher
from selfloop.learning.training import Budget

STREAMS = Streams((0, 1))


def network(d: int) -> Velocity:
    """A smooth one: of SELU's slopes the integral would not converge to the last digits."""
    into, out = (STREAMS.normal(name, (d, d), dtype=torch.float64) for name in ("into", "out"))
    return lambda x, t: torch.tanh(x @ into + t.unsqueeze(-1)) @ out / d**0.5


@pytest.mark.parametrize("tolerance", [1e-5, 1e-9])
def test_a_linear_field_makes_a_gaussian(tolerance: float) -> None:
    """dx/dt = A x carries N(0, I) to N(0, e^A e^Aᵀ)."""
    a = torch.tensor([[0.3, -1.0], [0.8, -0.5]], dtype=torch.float64)
    x = STREAMS.normal("x", (50, 2), dtype=torch.float64)
    root = torch.linalg.matrix_exp(a)
    gaussian = torch.distributions.MultivariateNormal(torch.zeros(2).double(), root @ root.T)
    found = pull_back(lambda x, t: x @ a.T, x, exact(2).double(), tolerance, tolerance)
    torch.testing.assert_close(
        found.log_det, torch.full((2, 50), -float(a.trace())).double(), atol=10 * tolerance, rtol=0
    )
    torch.testing.assert_close(found.log_prob, gaussian.log_prob(x), atol=100 * tolerance, rtol=0)


def test_a_constant_field_carries_without_bending() -> None:
    x = STREAMS.normal("x", (9, 2))
    found = pull_back(lambda x, t: torch.ones_like(x) + 0 * x, x, exact(2))
    torch.testing.assert_close(found.latents, x - 1)
    assert torch.equal(found.log_det, torch.zeros(2, 9))


def test_there_and_back() -> None:
    velocity, z = network(2), STREAMS.normal("z", (40, 2), dtype=torch.float64)
    x = dopri5(velocity, z, 1e-10, 1e-10)
    found = pull_back(velocity, x, exact(2).double(), 1e-10, 1e-8)
    torch.testing.assert_close(found.latents, z, atol=1e-7, rtol=0)
    # The volume by finite differences of the solver itself.
    step = 1e-5
    moved = torch.stack([dopri5(velocity, z + step * e, 1e-10, 1e-10) - x for e in exact(2).double()], -1) / step
    torch.testing.assert_close(found.log_det, -torch.linalg.slogdet(moved).logabsdet, atol=1e-4, rtol=0)


def test_hutchinson_agrees_with_the_trace() -> None:
    """Errors are independent from row to row: their mean over 800 rows at four standard errors, 6 seeds in 10⁵ fail."""
    velocity, x = network(5), STREAMS.normal("x", (400, 5), dtype=torch.float64)
    trace = pull_back(velocity, x, exact(5).double(), 1e-6, 1e-6).log_det
    errors = []
    for count in (4, 16):
        error = pull_back(velocity, x, rademacher(count, 400, 5).double(), 1e-6, 1e-6).log_det - trace
        errors.append(float(error.std()))
        assert abs(float(error.mean())) < 4 * errors[-1] / math.sqrt(error.numel())
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.15)  # 1/√count, 4 standard errors of a ratio of deviations


def test_a_copy_that_does_not_arrive_is_nan_alone() -> None:
    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return torch.stack([x[0] * math.nan, x[1]])

    found = pull_back(velocity, torch.ones(2, 3, 2), exact(2))
    assert torch.isnan(found.log_prob[0]).all()
    assert torch.isfinite(found.log_prob[1]).all()


class TestOTCFM:
    def test_the_density_integrates_to_one(self) -> None:
        family, streams = OTCFM(width=16, batch_size=64), Streams((0,))
        data = Samples.full(0.7 * streams.normal("data", (200, 2)) + 0.5, 0)
        state = family.fit(family.init((2,), streams), data, Budget(steps=60), streams)
        axis = torch.arange(-6, 6, 0.15)
        points = torch.cartesian_prod(axis, axis)
        total = family.log_prob(state, points.unsqueeze(0)).double().exp().sum() * 0.15**2
        assert float(total) == pytest.approx(1, abs=1e-3)

    def test_many_dimensions_are_estimated(self) -> None:
        """Above 32 dimensions, an error of 0.34 nats a row for untrained networks; the mean at four standard errors."""
        family = OTCFM(width=8)
        state, x = family.init((40,), STREAMS), STREAMS.normal("x", (30, 40))
        found = family.log_prob(state, x)
        params = {name: leaf for name, leaf in state.items() if name.startswith("net.")}
        trace = pull_back(lambda x, t: time_mlp(params, x, t), x, exact(40)).log_prob
        assert torch.equal(found, family.log_prob(state, x))
        assert 0 < float((found - trace).std()) < 0.5
        assert abs(float((found - trace).mean())) < 4 * float((found - trace).std()) / math.sqrt(trace.numel())
