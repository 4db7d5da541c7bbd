"""Preconditionings and losses against Gaussian data, for which the best denoiser is known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from selfloop.core.streams import Streams
from selfloop.learning.diffusion import EDM, VP, Preconditioning, denoise, denoising_loss, prediction_loss, wide
from selfloop.learning.schedule import Schedule

COLUMNS: dict[str, Preconditioning] = {"edm": EDM(), "vp": VP()}
LEVELS = torch.tensor([[0.01, 0.3, 1.0], [0.002, 7.0, 80.0]])


def images(name: str = "x", dtype: torch.dtype = torch.float32) -> Tensor:
    return Streams(seeds=(0, 1)).normal(name, (3, 2, 4, 4), dtype=dtype)


def best(column: Preconditioning, std: float, sigma: Tensor):
    """Return the network F that makes D exact for N(0, std²) data: D = x std²/(std² + σ²)."""
    c = column.coefficients(sigma)
    gain = (std**2 / (std**2 + sigma.square()) - c.c_skip) / (c.c_out * c.c_in)
    return lambda x, c_noise: wide(gain, x) * x


@pytest.mark.parametrize("key", COLUMNS)
@pytest.mark.parametrize("std", [0.5, 1.0, 0.1])
def test_denoisers_can_be_exact(key, std):
    column, x = COLUMNS[key], images() * wide(LEVELS.square() + std**2, images()).sqrt()
    ours = denoise(column, best(column, std, LEVELS), x, LEVELS)
    share = wide(std**2 / (std**2 + LEVELS.square()), x)
    # VP's D is a difference from x: its rounding is x's.
    torch.testing.assert_close(ours, share * x, rtol=2e-6, atol=1e-6 * float(x.abs().max()))


def test_edm_needs_no_network_for_data_of_its_deviation():
    """c_skip alone is the best denoiser of N(0, σ_data²)."""
    x = images()
    ours = denoise(EDM(), lambda x, t: torch.zeros_like(x), x, LEVELS)
    torch.testing.assert_close(ours, wide(0.25 / (0.25 + LEVELS.square()), x) * x)


@settings(deadline=None, max_examples=50)
@given(st.floats(1e-3, 1e3), st.floats(0.05, 5))
def test_edm_has_unit_variances(level, std):
    """For data of deviation σ_data the network's input and target have variance 1, and the weight undoes c_out."""
    column, sigma = EDM(sigma_data=std), torch.tensor(level, dtype=torch.float64)
    c = column.coefficients(sigma)
    assert float(c.c_in**2 * (std**2 + level**2)) == pytest.approx(1)
    # target = (y − c_skip (y + n)) / c_out
    target = ((1 - c.c_skip) ** 2 * std**2 + c.c_skip**2 * level**2) / c.c_out**2
    assert float(target) == pytest.approx(1)
    assert float(column.weight(sigma) * c.c_out**2) == pytest.approx(1)
    assert float(c.c_noise) == pytest.approx(math.log(level) / 4)


def test_levels_of_edm():
    draws = Streams(seeds=(0,)).normal("levels", (100_000,))
    logs = EDM(P_mean=-0.7, P_std=0.9).levels(draws).log()
    assert float(logs.mean()) == pytest.approx(-0.7, abs=0.02)
    assert float(logs.std()) == pytest.approx(0.9, abs=0.02)


@settings(deadline=None, max_examples=50)
@given(st.floats(1e-3, 1), st.floats(1, 30), st.floats(0.01, 1))
def test_times_of_vp(time, slope, start):
    """t(σ(t)) = t, and 1/(1 + σ²) = exp(−∫β) is the signal's share of the variance."""
    column, t = VP(beta_d=slope, beta_min=start), torch.tensor(time, dtype=torch.float64)
    sigma = column.sigma(t)
    assert float(column.time(sigma)) == pytest.approx(time, rel=1e-7)
    integral = slope * time**2 / 2 + start * time
    assert float(1 / (1 + sigma.square())) == pytest.approx(math.exp(-integral), rel=1e-9)


def test_training_levels_of_vp_are_within_its_limits():
    column = VP()
    draws = torch.tensor([0.0, 0.5, 1.0])
    levels = column.levels(draws)
    assert float(levels[0]) == column.sigma_max
    assert float(levels[2]) == pytest.approx(column.sigma_min, rel=0.1)  # float32 near 0, see VP
    assert column.sigma_min < float(levels[1]) < column.sigma_max


def test_the_loss_of_the_best_denoiser_is_the_posterior_variance():
    """E (D − y)² = std² σ²/(std² + σ²): 3·10⁵ values, 5 standard errors, and no denoiser does better."""
    std, n = 0.7, 300_000
    streams = Streams(seeds=(0,))
    y, noise = streams.normal("y", (1, n)) * std, streams.normal("n", (1, n))
    for column in COLUMNS.values():
        for level in (0.05, 0.5, 5.0):
            sigma = torch.full((1, 1), level)
            net = best(column, std, sigma)
            loss = denoising_loss(column, net, y, sigma, noise)
            assert loss.shape == y.shape
            expected = float(column.weight(sigma)) * std**2 * level**2 / (std**2 + level**2)
            assert abs(float(loss.mean()) / expected - 1) < 5 * math.sqrt(2 / n)
            worse = denoising_loss(
                column, lambda x, t, s=sigma, c=column: best(c, std, s)(x, t) + x / 5, y, sigma, noise
            )
            assert float(worse.mean()) > float(loss.mean())


def test_one_level_for_all_images():
    x = images()
    for column in COLUMNS.values():
        shared = denoise(column, lambda x, t: x.sin() * wide(t, x), x, LEVELS[:, :1])
        assert torch.equal(shared, denoise(column, lambda x, t: x.sin() * wide(t, x), x, LEVELS[:, :1].expand(-1, 3)))


def test_networks_are_called_in_float32():
    def net(x: Tensor, c_noise: Tensor) -> Tensor:
        assert (x.dtype, c_noise.dtype, c_noise.shape) == (torch.float32, torch.float32, (2, 3))
        return x

    for column in COLUMNS.values():
        assert denoise(column, net, images(dtype=torch.float64), LEVELS.double()).dtype == torch.float32


@pytest.mark.parametrize("key", COLUMNS)
def test_an_image_depends_on_itself_alone(key):
    column, y, noise = COLUMNS[key], images("y"), images("n")

    def loss(y: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
        return denoising_loss(column, lambda x, t: x.tanh() * wide(t, x).cos(), y, sigma, noise)

    spoiled = y.clone()
    spoiled[1] = torch.nan
    spoiled[0, 1] = torch.inf
    whole = loss(spoiled, LEVELS, noise)
    for i in (0, 2):
        alone = loss(y[:1, i : i + 1], LEVELS[:1, i : i + 1], noise[:1, i : i + 1])
        assert torch.equal(whole[0, i], alone[0, 0])


@pytest.mark.parametrize(("target", "wanted"), [("eps", "noise"), ("x_0", "y")])
def test_prediction_loss_is_the_distance_to_its_target(target, wanted):
    schedule, y, noise = Schedule.linear(1e-4, 0.02, 1000), images("y"), images("noise")
    t = torch.tensor([[0, 10, 999], [5, 500, 800]])
    known = {"noise": noise, "y": y}[wanted]

    def net(x: Tensor, times: Tensor) -> Tensor:
        assert torch.equal(times, t)
        torch.testing.assert_close(x, schedule.diffuse(y, t, noise))
        return known + 2

    torch.testing.assert_close(prediction_loss(schedule, net, y, t, noise, target), torch.full_like(y, 4.0))
