"""EDM's sampler of exact Gaussian denoisers, whose flow and variance are known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from selfloop.core.streams import Streams
from selfloop.learning.samplers import Churn, heun, noise_levels

pytestmark = pytest.mark.usefixtures("as_in_a_worker")

STD = 0.5


def exact(mean: float = 0.0, std: float = STD) -> Callable[[Tensor, Tensor], Tensor]:
    """Return D(x; σ) = E[y | y + n = x] of data y ~ N(mean, std²)."""

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        share = std**2 / (std**2 + sigma.square())
        return mean + share.view(*sigma.shape, *[1] * (x.ndim - 2)) * (x - mean)

    return denoiser


def shrunk(low: float, high: float, std: float = STD) -> float:
    """Return the factor by which the flow from ``high`` to ``low``, and the last step to D, multiply x − mean."""
    return math.sqrt((std**2 + low**2) / (std**2 + high**2)) * std**2 / (std**2 + low**2)


@pytest.mark.parametrize(("steps", "low", "high", "rho"), [(18, 0.002, 80.0, 7.0), (5, 0.1, 10.0, 1.0), (2, 1, 2, 3)])
def test_noise_levels(steps, low, high, rho):
    levels = noise_levels(steps, low, high, rho)
    assert levels.shape == (steps + 1,)
    assert levels[-1] == 0
    np.testing.assert_allclose(levels[[0, -2]], [high, low], rtol=1e-13)
    apart = np.diff(levels[:-1] ** (1 / rho))
    np.testing.assert_allclose(apart, apart[0], rtol=1e-9)


def test_one_step_denoises_at_once():
    assert noise_levels(1, 0.002, 80.0).tolist() == pytest.approx([80.0, 0.0])
    x = Streams(seeds=(0,)).normal("x", (4, 2), dtype=torch.float64)
    torch.testing.assert_close(heun(exact(0.3), x, noise_levels(1)), exact(0.3)(80 * x, torch.tensor([[80.0]])))


@pytest.mark.parametrize("mean", [0.0, 0.3])
def test_heun_has_order_two(mean):
    """Against the closed form of the probability-flow ODE: (x − mean)/√(std² + σ²) is constant."""
    x = Streams(seeds=(0, 1)).normal("x", (4, 1, 3, 3), dtype=torch.float64)
    expected = mean + shrunk(0.01, 20.0) * (20 * x - mean)
    errors = []
    for steps in (50, 100, 200):
        ends = heun(exact(mean), x, noise_levels(steps, 0.01, 20.0))
        errors.append(float((ends - expected).abs().max()))
    assert errors[-1] < 1e-3
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(2, abs=0.1)


def test_evaluations():
    seen = []

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        assert (x.dtype, sigma.dtype, sigma.shape) == (torch.float64, torch.float64, (2, 1))
        seen.append(float(sigma[0, 0]))
        return torch.zeros_like(x, dtype=torch.float32)

    levels = noise_levels(18)
    out = heun(denoiser, torch.ones(2, 3, 1, 2, 2), levels)
    assert (out.dtype, out.shape) == (torch.float64, (2, 3, 1, 2, 2))
    assert seen == [levels[0], *np.repeat(levels[1:-1], 2)]


def variance(steps: int, churn: Churn) -> float:
    """Return the variance of the samples, which are a linear function of independent normals, from unit responses."""
    unit = torch.eye(steps + 1, dtype=torch.float64).unsqueeze(-1)  # (normal, row, 1)
    used: set[int] = set()

    def noise(i: int) -> Tensor:
        used.add(i)
        return unit[i + 1].unsqueeze(0)

    x = heun(exact(), unit[0].unsqueeze(0), noise_levels(steps, 0.002, 80.0), churn=churn, noise=noise)
    assert used == {i for i, t in enumerate(noise_levels(steps)[:-1]) if churn.S_min <= t <= churn.S_max}
    return float(x.square().sum())


@pytest.mark.parametrize("S_churn", [1.0, 10.0, 40.0])
def test_stochastic_sampler_keeps_the_variance(S_churn):
    """Fresh noise is exact, so that the only error is Heun's, of order two, beside the last step's to the mean."""
    errors = [variance(steps, Churn(S_churn, S_min=0.05, S_max=50.0)) / STD**2 - 1 for steps in (100, 200, 400)]
    floor = STD**2 / (STD**2 + 0.002**2) - 1
    assert abs(errors[-1]) < 2e-3
    for coarse, fine in pairwise(errors):
        assert math.log2((coarse - floor) / (fine - floor)) == pytest.approx(2, abs=0.35)


def test_stochastic_sampler_of_real_noise():
    """Monte Carlo over streams agrees with the exact variance: 10⁵ values, 5 standard errors."""
    churn, streams, n = Churn(20.0, 0.05, 50.0, 1.007), Streams(seeds=(0, 1)), 50_000
    x = heun(
        exact(),
        streams.normal("x", (n, 1)),
        noise_levels(20),
        churn=churn,
        noise=lambda i: streams.normal("noise", (n, 1), i),
    )
    assert abs(float(x.var()) / variance(20, churn) - 1) < 5 * math.sqrt(2 / x.numel())


def test_more_noise_than_exact_makes_more_variance():
    assert variance(50, Churn(40.0, S_noise=1.01)) > variance(50, Churn(40.0))


def test_a_level_rises_by_at_most_the_square_root_of_two():
    assert Churn(1e6).gamma(1.0, 10) == math.sqrt(2) - 1
    assert Churn(2.0).gamma(1.0, 10) == 0.2
    assert Churn(2.0, S_min=1.0, S_max=2.0).gamma(2.0, 10) == 0.2
    assert Churn(2.0, S_min=1.0, S_max=2.0).gamma(2.001, 10) == 0
    assert Churn(2.0, S_min=1.0, S_max=2.0).gamma(0.999, 10) == 0


def test_no_churn_is_the_deterministic_sampler():
    x = Streams(seeds=(0,)).normal("x", (4, 2))
    still = heun(exact(), x, noise_levels(10), churn=Churn(0.0), noise=lambda i: torch.full_like(x, torch.nan))
    assert torch.equal(still, heun(exact(), x, noise_levels(10)))


def test_churn_needs_noise():
    with pytest.raises(ValueError, match="noise"):
        heun(exact(), torch.zeros(1, 1, 1), noise_levels(3), churn=Churn(1.0))


@pytest.mark.parametrize("neighbour", [1e4, math.nan, math.inf])
def test_copies_are_kept_apart(neighbour):
    scale = torch.tensor([0.7, neighbour, 0.9], dtype=torch.float64)

    def run(copies: list[int]) -> Tensor:
        streams, factor = Streams(seeds=tuple(copies)), scale[copies].view(-1, 1, 1, 1, 1)
        return heun(
            lambda x, sigma: factor * exact()(x, sigma),
            streams.normal("x", (3, 1, 4, 4)),
            noise_levels(6),
            churn=Churn(2.0),
            noise=lambda i: streams.normal("noise", (3, 1, 4, 4), i),
        )

    together = run([0, 1, 2])
    for r in (0, 2):
        assert torch.isfinite(together[r]).all()
        assert torch.equal(together[r], run([r])[0])
