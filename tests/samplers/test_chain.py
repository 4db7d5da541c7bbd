"""DDPM's and DDIM's chains of exact noise predictors, whose ends are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from selfloop.core.streams import Streams
from selfloop.learning.samplers import Schedule, ancestral, ddim, quadratic_steps

pytestmark = pytest.mark.usefixtures("as_in_a_worker")


def exact(schedule: Schedule, mean: float, std: float) -> Callable[[Tensor, int], Tensor]:
    """Return the noise that is to be expected of data N(mean, std²)."""

    def predict_noise(x: Tensor, t: int) -> Tensor:
        alpha_bar = float(schedule.alphas_bar[t])
        total = alpha_bar * std**2 + 1 - alpha_bar
        return math.sqrt(1 - alpha_bar) * (x - math.sqrt(alpha_bar) * mean) / total

    return predict_noise


def reached(schedule: Schedule, mean: float, std: float, variance: str) -> tuple[float, float]:
    """Return mean and variance of x_0 for N(mean, std²) data and the exact noise predictor, to rounding.

    All of the chain is affine in its T independent normals, x_T and the T − 1 noises that are used. So row 0
    sets them all to zero, and row k only the k-th to one: the variance is the sum of the squared responses.
    """
    timesteps = len(schedule.betas)
    unit = torch.eye(timesteps + 1, dtype=torch.float64)[1:].unsqueeze(-1)  # (T, T + 1, 1)
    noise = [unit[i + 1].unsqueeze(0) for i in range(timesteps - 1)]
    x = ancestral(exact(schedule, mean, std), unit[0].unsqueeze(0), schedule, lambda i: noise[i], variance).flatten()
    return float(x[0]), float((x[1:] - x[0]).square().sum())


@pytest.mark.parametrize("variance", ["fixed-large", "fixed-small"])
def test_ancestral_returns_to_a_point(variance):
    mean, spread = reached(Schedule.linear(1e-3, 0.2, 100), 3.0, 0.0, variance)
    assert mean == pytest.approx(3, rel=1e-12)
    assert spread <= 1e-24


def test_ancestral_keeps_the_unit_gaussian():
    """β_t is the exact reverse variance for N(0, 1) data; only the last step's noise is left out."""
    schedule = Schedule.linear(1e-3, 0.2, 100)
    mean, spread = reached(schedule, 0.0, 1.0, "fixed-large")
    assert mean == 0
    assert spread == pytest.approx(1 - schedule.betas[0], rel=1e-12)
    _, less = reached(schedule, 0.0, 1.0, "fixed-small")
    assert less < spread


@pytest.mark.parametrize("variance", ["fixed-large", "fixed-small"])
@pytest.mark.parametrize(("mean", "std"), [(2.0, 0.5), (-1.0, 1.5)])
def test_ancestral_converges_to_a_gaussian(mean, std, variance):
    """Both variances are right as β → 0: T = 1000 leaves 2 % of the standard deviation, less than T = 100 does."""
    errors = []
    for timesteps in (100, 1000):
        m, v = reached(Schedule.linear(0.1 / timesteps, 20 / timesteps, timesteps), mean, std, variance)
        assert m == pytest.approx(mean, abs=0.02)
        errors.append(abs(math.sqrt(v) / std - 1))
    assert errors[1] < 0.02
    assert errors[1] < errors[0]


def test_ancestral_of_real_noise():
    """Monte Carlo over recorded streams agrees with the exact moments: 10⁵ rows, 5 standard errors."""
    schedule, streams, n = Schedule.linear(1e-3, 0.2, 30), Streams(seeds=(0, 1)), 50_000
    x = ancestral(
        exact(schedule, 0.7, 0.5), streams.normal("x", (n, 1)), schedule, lambda i: streams.normal("noise", (n, 1), i)
    ).flatten()
    mean, spread = reached(schedule, 0.7, 0.5, "fixed-large")
    assert abs(float(x.mean()) - mean) < 5 * math.sqrt(spread / len(x))
    assert abs(float(x.var()) / spread - 1) < 5 * math.sqrt(2 / len(x))


def flow(mean: float, std: float, schedule: Schedule, times: np.ndarray) -> float:
    """Return the largest error of DDIM against the flow that it discretises, from unit normals at the last time.

    N(mean, std²) data keep their quantiles: x = √ᾱ mean + q √(ᾱ std² + 1 − ᾱ) with q constant, and at time 0 the chain
    ends with the data to be expected.
    """
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).view(1, -1, 1)
    last, first = (float(schedule.alphas_bar[t]) for t in (times[-1], times[0]))
    q = (x - math.sqrt(last) * mean) / math.sqrt(last * std**2 + 1 - last)
    noisy = math.sqrt(first) * mean + q * math.sqrt(first * std**2 + 1 - first)
    expected = (noisy - math.sqrt(1 - first) * exact(schedule, mean, std)(noisy, int(times[0]))) / math.sqrt(first)
    return float((ddim(exact(schedule, mean, std), x, schedule, times) - expected).abs().max())


@pytest.mark.parametrize(("mean", "std"), [(2.0, 0.5), (-1.0, 1.5), (0.0, 1.0), (0.3, 0.0)])
def test_ddim_converges_to_the_flow_with_order_one(mean, std):
    schedule = Schedule.linear(1e-5, 2e-3, 10_000)
    errors = [flow(mean, std, schedule, np.arange(0, 8001, 8000 // steps)) for steps in (50, 100, 200)]
    if std == 0:  # all of the data is one point, at which every prediction is right
        assert max(errors) < 1e-9
        return
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(1, abs=0.15)


def test_ddim_of_all_times_with_eta_one_is_the_ancestral_chain():
    schedule, streams = Schedule.linear(1e-3, 0.2, 40), Streams(seeds=(0, 1))
    x = streams.normal("x", (6, 3, 4, 4), dtype=torch.float64)
    noise = [streams.normal("noise", (6, 3, 4, 4), i, torch.float64) for i in range(40)]
    for clamp in (False, True):
        predict = exact(schedule, 0.4, 0.7)
        chain = ancestral(predict, x, schedule, lambda i: noise[i], "fixed-small", clamp)
        ours = ddim(predict, x, schedule, np.arange(40), eta=1.0, noise=lambda i: noise[i], clamp=clamp)
        torch.testing.assert_close(ours, chain, rtol=1e-9, atol=1e-9)


def test_ddim_passes_over_repeated_times():
    schedule = Schedule.linear(1e-4, 0.02, 1000)
    times, x = quadratic_steps(1000, 100), Streams(seeds=(0,)).normal("x", (5, 2), dtype=torch.float64)
    assert len(np.unique(times)) < len(times)
    seen: list[int] = []

    def predict(x: Tensor, t: int) -> Tensor:
        seen.append(t)
        return exact(schedule, 0.2, 0.5)(x, t)

    assert torch.equal(ddim(predict, x, schedule, times), ddim(predict, x, schedule, np.unique(times)))
    assert seen[: len(seen) // 2] == sorted(set(times.tolist()), reverse=True)


def test_ddim_refuses_eta_without_noise():
    schedule = Schedule.linear(1e-3, 0.2, 10)
    with pytest.raises(ValueError, match="noise"):
        ddim(exact(schedule, 0, 1), torch.zeros(1, 1, 1), schedule, np.arange(10), eta=0.5)


@pytest.mark.parametrize("way", ["ancestral", "ddim"])
def test_clamped_chains_end_within_the_interval(way):
    schedule, x = Schedule.linear(1e-3, 0.2, 20), Streams(seeds=(0,)).normal("x", (4, 3, 8, 8))

    def wild(x: Tensor, t: int) -> Tensor:
        return -5 * x

    if way == "ddim":
        end = ddim(wild, x, schedule, np.arange(20), clamp=True)
    else:
        end = ancestral(wild, x, schedule, lambda i: torch.zeros_like(x), clamp=True)
    assert float(end.abs().max()) == 1


@pytest.mark.parametrize("neighbour", [1e4, math.nan, math.inf])
@pytest.mark.parametrize("way", ["ancestral", "ddim"])
def test_chains_keep_copies_apart(way, neighbour):
    schedule, scale = Schedule.linear(1e-3, 0.2, 10), torch.tensor([0.7, neighbour, 0.9])

    def run(copies: list[int]) -> Tensor:
        streams, factor = Streams(seeds=tuple(copies)), scale[copies].view(-1, 1, 1, 1, 1)
        x, noise = streams.normal("x", (3, 1, 4, 4)), [streams.normal("noise", (3, 1, 4, 4), i) for i in range(10)]
        if way == "ddim":
            return ddim(lambda x, t: x * factor, x, schedule, np.arange(10), eta=0.5, noise=lambda i: noise[i])
        return ancestral(lambda x, t: x * factor, x, schedule, lambda i: noise[i])

    together = run([0, 1, 2])
    for r in (0, 2):
        assert torch.isfinite(together[r]).all()
        assert torch.equal(together[r], run([r])[0])
