"""Measured rates against known ones; every seed is fixed, and the rates of false alarms are stated."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.generators import DDPM, OTCFM, Gaussian
from selfloop.learning.training import EMA, Budget
from selfloop.theory.contraction import contraction, maximise
from selfloop.theory.gaussian_loop import gaussian_loop
from selfloop.theory.measured import memory, perturbed, retraining, student_interval


def test_perturbed_finds_the_spectral_radius_of_a_linear_map() -> None:
    rng = np.random.default_rng(0)
    matrix = torch.from_numpy(rng.standard_normal((6, 6)) / 4)
    matrix[0, 0] = 1.5
    radius = float(torch.linalg.eigvals(matrix).abs().max())
    found = perturbed(lambda theta, k: theta @ matrix.T + k, torch.ones(3, 6, dtype=torch.float64), rounds=60, skip=40)
    assert found.value == pytest.approx(radius, rel=1e-6)
    assert perturbed(lambda theta, k: torch.ones_like(theta), torch.ones(2, 3)).value == 0


@pytest.mark.slow
def test_perturbed_finds_the_exact_rate_of_a_misspecified_model() -> None:
    """A logistic density fitted to a skewed mixture with infinitely many rows."""

    def log_prob(theta: Tensor, x: Tensor) -> Tensor:
        z = (x - theta[0]) / theta[1].exp()
        return -z - theta[1] - 2 * torch.nn.functional.softplus(-z)

    def model(theta: Tensor) -> Tensor:
        weights = log_prob(theta, grid).exp()
        return weights / weights.sum()

    grid = torch.linspace(-20, 20, 801, dtype=torch.float64)
    density = torch.exp(-0.5 * grid**2) + 0.8 * torch.exp(-2 * (grid - 3) ** 2)
    data = density / density.sum()
    star = maximise(log_prob, torch.tensor([1.0, 0.0], dtype=torch.float64), (grid, data))
    exact = contraction(log_prob, star, (grid, data), (grid, model(star)))

    def retrain(theta: Tensor, k: int) -> Tensor:
        return torch.stack([maximise(log_prob, row, (grid, (data + model(row)) / 2)) for row in theta])

    low, high = exact.spectrum(1.0)
    assert high - low > 0.02
    found = perturbed(retrain, star.repeat(2, 1), size=1e-4, rounds=50, skip=49)
    assert found.value == pytest.approx(high, rel=2e-3)
    assert low < perturbed(retrain, star.repeat(2, 1), size=1e-4).value < high * 1.001


@pytest.mark.slow
@pytest.mark.parametrize("lam", [0.5, 2.0])
def test_perturbed_on_the_gaussian_generator(lam: float) -> None:
    """20 replicas of n = 4000 rows: |z| < 4 plus the bias of a random matrix's slowest direction, of order 1/√n."""
    streams, family = Streams(tuple(range(20))), Gaussian()
    real = streams.normal("real", (4000, 2), dtype=torch.float64)
    state = family.fit(family.init((2,), streams), Samples.full(real, born=0), Budget(epochs=1), streams)
    loop = retraining(family, state, real, lam, Budget(epochs=1), streams)
    assert loop.start.shape == (20, 6)
    found = perturbed(loop.retrain, loop.start, rounds=12)
    assert found.value == pytest.approx(lam / (1 + lam), abs=2 * (found.high - found.low) + 0.02)
    assert found.high - found.low < 0.02
    seen = perturbed(loop.retrain, loop.start, rounds=12, seen=loop.sample)
    assert seen.value == pytest.approx(found.value, abs=0.02)
    forgets = retraining(family, state, real, 0.0, Budget(epochs=1), streams)
    assert perturbed(forgets.retrain, forgets.start).value == 0


@pytest.mark.slow
@pytest.mark.parametrize("family", [OTCFM(width=8, batch_size=64, ema=EMA(decay=0.9)), DDPM(width=8, batch_size=64)])
def test_perturbed_on_networks_starts_where_the_state_is(family: OTCFM | DDPM) -> None:
    streams = Streams((0, 1))
    real = streams.normal("real", (100, 2))
    loop = retraining(family, family.init((2,), streams), real, 1.0, Budget(steps=3), streams)
    found = perturbed(loop.retrain, loop.start, rounds=3, skip=1, size=1e-2)
    assert 0.5 < found.value < 2  # three steps from a random start hardly contract
    assert torch.equal(loop.retrain(loop.start, 0), loop.retrain(loop.start, 0))
    assert loop.sample(loop.start).shape == (2, 200)


def autoregressive(rho: float, arms: int, generations: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y = np.zeros((arms, generations, 2))
    for t in range(1, generations):
        y[:, t] = rho * y[:, t - 1] + rng.standard_normal((arms, 2))
    return y + 5 * rng.standard_normal((arms, 1, 2)) + np.sin(np.arange(generations))[:, None]


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_memory_finds_the_rate_and_covers_it(rho: float) -> None:
    """Of 20 intervals at 95 % at least 14 cover, fewer by chance 3e-5; the mean is within 4 errors and the bias."""
    found = [memory(autoregressive(rho, 12, 31, seed)) for seed in range(20)]
    values = np.array([f.value for f in found if f is not None])
    assert len(values) == 20
    assert abs(values.mean() - rho) < 4 * values.std() / math.sqrt(20) + 0.01
    assert sum(f is not None and f.low < rho < f.high for f in found) >= 14


@pytest.mark.parametrize("lam", [0.5, 3.0])
def test_memory_of_the_gaussian_loop(lam: float) -> None:
    """What a model's mean keeps of its error is λ/(1 + λ): |z| < 4 by the width of the interval."""
    fits = list(gaussian_loop(np.zeros(2), np.eye(2), n=100, generations=30, replicas=40, lam=lam))
    paths = np.stack([f.mean for f in fits], 1) - fits[0].mean[:, None]
    found = memory(paths)
    assert found is not None
    assert abs(found.value - lam / (1 + lam)) < found.high - found.low + 0.01


def test_too_little_is_said_to_be_too_little() -> None:
    assert memory(autoregressive(0.5, 1, 30, 0)) is None
    few = memory(autoregressive(0.5, 4, 30, 0))
    assert few is not None
    assert math.isnan(few.low)
    assert memory(autoregressive(0.5, 9, 8, 0)) is None
    assert memory(np.zeros((5, 20, 1))) is None
    with pytest.raises(ValueError, match="at least two"):
        student_interval([1.0])
    with pytest.raises(ValueError, match="two replicas"):
        perturbed(lambda theta, k: theta, torch.ones(1, 2))
