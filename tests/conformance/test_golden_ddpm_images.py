"""DDPM's diffusion of images against ddpm-torch: losses, posterior, single steps, the chain, and DDIM."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from recorded import NETWORK, OF, Network, check, number
from torch import Tensor

from selfloop.learning.diffusion import prediction_loss
from selfloop.learning.nets.names import table
from selfloop.learning.nets.unet import Params, evaluate
from selfloop.learning.pixels import rounded_levels
from selfloop.learning.samplers import ancestral, ddim
from selfloop.learning.samplers.chain import ancestral_step, predicted_data
from selfloop.learning.schedule import Schedule, at, quadratic_steps

CHAIN = 1e-4


@pytest.fixture(scope="module")
def record(golden):
    return golden.record("ddpm", "ddpm_diffusion")


@pytest.fixture(scope="module")
def network(golden, record) -> Network:
    own = golden.record("ddpm", record.config["net"].removesuffix(".safetensors"))
    return Network(own, *OF["ddpm"](own.config))


@pytest.fixture(scope="module")
def schedule(record) -> Schedule:
    kind, start, end, timesteps = re.match(r"(\w+) (\S+?)\.\.(\S+) T=(\d+)", record.config["betas"]).groups()
    assert kind == "linear"
    return Schedule.linear(float(start), float(end), int(timesteps))


def predictor(network: Network) -> Callable[[Tensor, int], Tensor]:
    params = network.params
    return lambda x, t: evaluate(params, network.unet, x, torch.tensor([[t]]))


def loss(record, network: Network, params: Params, schedule: Schedule, target: str) -> Tensor:
    x0, t, noise = (record[key].unsqueeze(0) for key in ("x0", "t", "noise"))
    elements = prediction_loss(schedule, lambda x, t: evaluate(params, network.unet, x, t), x0, t, noise, target)
    return elements[0].flatten(1).mean(1)


@torch.no_grad()
@pytest.mark.parametrize("target", ["eps", "x_0"])
def test_losses(record, network, schedule, target):
    check(loss(record, network, network.params, schedule, target), record[f"loss_{target}"])


def test_gradients(record, network, schedule):
    params = {name: leaf.clone().requires_grad_() for name, leaf in network.params.items()}
    objective = loss(record, network, params, schedule, "eps").mean()
    slopes = dict(zip(params, torch.autograd.grad(objective, list(params.values())), strict=True))
    norms = record["grad_norms"]
    for (theirs, leaf), norm in zip(table(network.original, network.unet).items(), norms, strict=True):
        # What a normalisation cancels has a gradient of rounding errors.
        difference = abs(float(slopes[leaf.name].norm()) - float(norm))
        assert difference <= NETWORK * float(norm) + 1e-7 * float(norms.max()), theirs


def test_diffusion_and_posterior(record, schedule):
    x0, t, noise, xt = (record[key].unsqueeze(0) for key in ("x0", "t", "noise", "x_t"))
    check(schedule.diffuse(x0, t, noise), xt, 1e-6)
    check(schedule.posterior_mean(x0, xt, t)[0], record["post_mean"], 1e-6)
    check(at(schedule.posterior_variance, t, x0)[0], record["post_var"], 1e-6)
    check(at(schedule.posterior_log_variance, t, x0)[0], record["post_logvar"], 1e-6)


@torch.no_grad()
@pytest.mark.parametrize("variance", ["fixed-large", "fixed-small"])
def test_single_steps(record, network, schedule, variance):
    prefix = f"step_{variance}"
    assert "clip_denoised=True" in record.meaning(f"{prefix}.sample")
    for i, t in enumerate(record[f"{prefix}.t"].tolist()):
        x, noise, x0, sample = (record[f"{prefix}.{key}"][i : i + 1] for key in ("x_t", "noise", "pred_x0", "sample"))
        eps = network(x, torch.tensor(t))
        # An error of the network's output is that much larger in x_0: 157 times at the last time of T = 1000.
        magnified = max(1.0, float(np.sqrt(1 / schedule.alphas_bar[t] - 1)))
        check(predicted_data(x, eps, float(schedule.alphas_bar[t]), clamp=True), x0, NETWORK * magnified)
        ours = ancestral_step(x, eps, schedule, t, noise if t > 0 else None, variance, clamp=True)
        check(ours, sample)


@torch.no_grad()
def test_chain(record, network):
    schedule, noise = Schedule.from_betas(record["chain.betas"].numpy()), record["chain.noise"]
    variance = re.search(r"fixed-(?:large|small)", record.meaning("chain.final"))[0]
    final = ancestral(
        predictor(network),
        record["chain.x_T"].unsqueeze(0),
        schedule,
        lambda i: noise[i].unsqueeze(0),
        variance,
        clamp=True,
    )[0]
    check(final, record["chain.final"], CHAIN)
    assert torch.equal(rounded_levels(record["chain.final"]), record["chain.uint8"])
    off = (rounded_levels(final).int() - record["chain.uint8"].int()).abs()
    fraction = (record["chain.final"].double() * 127.5 + 128) % 1
    assert (off <= (torch.minimum(fraction, 1 - fraction) <= 127.5 * CHAIN).int()).all()


@torch.no_grad()
def test_ddim(record, network, schedule):
    for prefix in record.prefixes(".subsequence"):
        times, noise = record[f"{prefix}.subsequence"].numpy(), record[f"{prefix}.noise"]
        size, timesteps = re.search(r"size (\d+) of (\d+)", record.meaning(f"{prefix}.final")).groups()
        assert int(timesteps) == len(schedule.betas)
        assert np.array_equal(quadratic_steps(int(timesteps), int(size)), times)
        eta = number(record, f"{prefix}.final", r"eta=(\d*\.?\d+)")
        states: list[Tensor] = []

        def predict(x: Tensor, t: int, states: list[Tensor] = states) -> Tensor:
            states.append(x[0])
            return predictor(network)(x, t)

        final = ddim(
            predict,
            record[f"{prefix}.x_T"].unsqueeze(0),
            schedule,
            times,
            eta=eta,
            noise=lambda i, noise=noise: noise[i].unsqueeze(0),
            clamp=True,
        )[0]
        # A time that follows itself is passed over: theirs stands still there.
        moving = np.append(True, np.diff(times) > 0)[::-1].copy()
        trajectory = record[f"{prefix}.trajectory"]
        check(torch.stack([*states, final]), trajectory[np.append(moving, True)], CHAIN)
        check(final, record[f"{prefix}.final"], CHAIN)


def test_quadratic_times(golden):
    schedules = golden.record("ddpm", "ddpm_schedules")
    assert schedules.config["subsequences"]
    for kind, size, timesteps in schedules.config["subsequences"]:
        assert kind == "quadratic"
        assert np.array_equal(quadratic_steps(timesteps, size), schedules[f"sub_{kind}_{size}_{timesteps}"].numpy())
