"""Samples at a temperature: of the density to the power 1/τ where that is exact, else of normal numbers times √τ."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from selfloop import ConfigError, Experiment
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE
from selfloop.generators import GENERATORS
from selfloop.learning.training import Budget, parameters
from selfloop.theory.biased import sharpened

STREAMS = Streams((3, 1))
N = 20_000
TAUS = (0.25, 0.8, 2.0)


def fitted(settings: Any, x: Tensor) -> tuple[Any, State]:
    generator = GENERATORS.parse(settings)
    start = generator.init(tuple(x.shape[2:]), STREAMS)
    return generator, generator.fit(start, Samples.full(x.to(generator.dtype), 0), Budget(steps=1), STREAMS)


def normal(*shape: int) -> Tensor:
    return STREAMS.normal("rows", shape, dtype=torch.float64)


@pytest.mark.parametrize("tau", TAUS)
def test_a_gaussian_has_tau_times_its_covariance(tau: float) -> None:
    generator, state = fitted("gaussian", normal(50, 3))
    warm, usual = (generator.sample(state, N, STREAMS, HERE, at) - state["mean"].unsqueeze(1) for at in (tau, 1.0))
    torch.testing.assert_close(warm, math.sqrt(tau) * usual)


@pytest.mark.parametrize("tau", TAUS)
def test_a_mixture_has_tau_times_its_components_covariances_and_their_weights(tau: float) -> None:
    x = normal(300, 2)
    x[:, :100] += 50
    generator, state = fitted("mixture", x)
    warm, usual = (generator.sample(state, N, STREAMS, HERE, at) for at in (tau, 1.0))
    for r in range(2):
        far, near = (at[r][at[r].mean(1) > 25] for at in (warm, usual))
        assert len(far) == len(near)
        torch.testing.assert_close(far - far.mean(0), math.sqrt(tau) * (near - near.mean(0)))


@pytest.mark.parametrize("tau", [*TAUS, 1e-9, 1e9])
def test_categories_have_their_probabilities_to_the_power_one_over_tau(tau: float) -> None:
    x = torch.tensor([0.0, 0, 0, 0, 0, 1, 1, 1, 2, 2]).double().view(1, -1, 1).repeat(2, 1, 1)
    generator, state = fitted("categorical", x)
    drawn = generator.sample(state, N, STREAMS, HERE, tau)
    shares = torch.stack([(drawn == k).double().mean((1, 2)) for k in range(3)], 1)
    wanted = sharpened(np.array([0.5, 0.3, 0.2]), 1 / tau)
    np.testing.assert_allclose(shares.numpy(), np.stack([wanted, wanted]), atol=4 * 0.5 / math.sqrt(N))


@pytest.mark.parametrize("tau", [*TAUS, 1e-9])
def test_bits_too_and_certain_ones_stay_certain(tau: float) -> None:
    x = torch.zeros(2, 10, 3).double()
    x[:, :3, 0], x[..., 1] = 1, 1
    generator, state = fitted("bernoulli", x)
    shares = generator.sample(state, N, STREAMS, HERE, tau).mean(1)
    p, q = 0.3 ** (1 / tau), 0.7 ** (1 / tau)
    wanted = 0.0 if q == 0 else p / (p + q)
    assert (shares[:, 0] - wanted).abs().max() < 4 * 0.5 / math.sqrt(N)
    assert (shares[:, 1] == 1).all()
    assert (shares[:, 2] == 0).all()


@pytest.mark.parametrize("tau", TAUS)
def test_waiting_times_have_tau_times_their_scale(tau: float) -> None:
    generator, state = fitted("exponential", normal(40, 2).abs())
    torch.testing.assert_close(
        generator.sample(state, 9, STREAMS, HERE, tau), tau * generator.sample(state, 9, STREAMS)
    )


@pytest.mark.parametrize("tau", TAUS)
def test_kernels_and_residuals_have_tau_times_their_variance(tau: float) -> None:
    generator, state = fitted({"name": "kernel_density", "bandwidth": 0.5}, torch.zeros(2, 5, 1))
    torch.testing.assert_close(
        generator.sample(state, 99, STREAMS, HERE, tau), math.sqrt(tau) * generator.sample(state, 99, STREAMS)
    )
    generator, state = fitted("linear_regression", normal(30, 3))
    warm, usual = (generator.sample(state, 99, STREAMS, HERE, at) for at in (tau, 1.0))
    assert torch.equal(warm[..., :2], usual[..., :2])
    torch.testing.assert_close(generator.residual(state, warm), math.sqrt(tau) * generator.residual(state, usual))


@pytest.mark.parametrize("tau", TAUS)
def test_labels_have_their_probabilities_to_the_power_one_over_tau(tau: float) -> None:
    x = normal(200, 2)
    x[..., 1] = (x.sum(2) > 0.3).double()
    generator, state = fitted({"name": "logistic_regression", "penalty": 0.1, "inputs": "redrawn"}, x)
    drawn = generator.sample(state, N, STREAMS, HERE, tau)
    eta = drawn[..., 0] * state["coefficients"] + state["intercept"].unsqueeze(1)
    p = eta.sigmoid()
    wanted = p ** (1 / tau) / (p ** (1 / tau) + (1 - p) ** (1 / tau))
    assert ((drawn[..., 1] - wanted).mean(1).abs() < 4 * 0.5 / math.sqrt(N)).all()


@pytest.mark.parametrize("name", ["otcfm", "ddpm", "vae"])
@pytest.mark.parametrize("tau", TAUS)
def test_every_normal_number_of_a_network_is_scaled(name: str, tau: float) -> None:
    """Networks of zeros make samples that are linear in all the normal numbers drawn."""
    generator, state = fitted(name, normal(20, 2))
    state |= {key: torch.zeros_like(leaf) for key, leaf in parameters(state).items()}
    usual = generator.sample(state, 50, STREAMS)
    assert usual.std() > 0.1
    torch.testing.assert_close(
        generator.sample(state, 50, STREAMS, HERE, tau), math.sqrt(tau) * usual, rtol=1e-4, atol=1e-5
    )


NET = {"channels": 32, "multipliers": [1], "blocks": 1, "attention": [8], "dropout": 0.0}
UNET = {
    "down_block_types": ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"],
    "block_out_channels": [16],
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
SMALL = {"net": NET, "batch_size": 8}
DDIM = {"name": "diffusers", "unet": UNET, "batch_size": 8, "steps": 3, "scheduler": {"name": "DDIMScheduler"}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "tau"),  # so small that levels are not clamped, and not so small that they are all the same
    [
        (SMALL | {"name": "edm", "steps": 3}, 0.01),
        (SMALL | {"name": "edm", "steps": 3, "stochastic": {"churn": 1.0}}, 0.0025),
        (SMALL | {"name": "otcfm_images"}, 0.01),
        (SMALL | {"name": "ddpm_images", "steps": 3}, 2.5e-5),
        (SMALL | {"name": "ddpm_images", "sampler": "ancestral", "timesteps": 10}, 1e-2),
    ],
    ids=str,
)
def test_so_it_is_with_images(settings: Any, tau: float) -> None:
    generator = GENERATORS.parse(settings)
    state = generator.init((1, 8, 8), STREAMS)
    state = {key: leaf if key == "event" else torch.zeros_like(leaf) for key, leaf in state.items()}
    cold, warm = (generator.sample(state, 32, STREAMS, HERE, at).double().std() for at in (tau, 4 * tau))
    assert 2 < cold < 60
    assert warm / cold == pytest.approx(2, rel=0.03)


def test_what_has_no_temperature_is_refused_with_what_has_one() -> None:
    def experiment(data: str, generator: Any, mixing: Any) -> Experiment:
        plain = {"name": "cold", "data": data, "generator": generator, "mixing": mixing, "generations": 1}
        return Experiment.build(plain | {"budget": {"steps": 1}})

    cold = {"name": "biased", "temperature": 0.5}
    with pytest.raises(ConfigError, match="mixing biased needs samples at a temperature, which generator poisson does"):
        experiment("poisson", "poisson", cold)
    with pytest.raises(ConfigError, match=r"use bernoulli, categorical, ddpm, .*gaussian.*, vae$"):
        experiment("two_moons", {"name": "estimator", "estimator": "GaussianMixture"}, cold)
    with pytest.raises(ConfigError, match="generator poisson does not have"):
        experiment("poisson", "poisson", {"name": "compose", "parts": [{"from": "newest"}], "temperature": 2.0})
    pytest.importorskip("diffusers")
    chain = {**DDIM, "scheduler": {"name": "DDPMScheduler"}}
    with pytest.raises(ConfigError, match="use ddpm_images, edm, otcfm_images"):
        experiment("digit_images", chain, cold)
    assert experiment("digit_images", DDIM, cold)
    assert experiment("poisson", "poisson", {"name": "biased", "temperature": 1.0})
    generator = GENERATORS.parse(chain)
    with pytest.raises(ConfigError, match="does not sample at a temperature"):
        generator.sample(generator.init((1, 8, 8), STREAMS), 2, STREAMS, HERE, 0.5)
