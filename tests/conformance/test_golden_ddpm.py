"""DDPM against ddpm-torch: the toy decoder, its loss and gradients, the ancestral chain, the schedules' tables."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from selfloop.core.streams import Streams
from selfloop.data.toy import EightGaussians
from selfloop.generators import DDPM
from selfloop.learning.nets.mlp import decoder, decoder_shift
from selfloop.learning.samplers import Schedule, ancestral

NETWORK = 1e-5  # of the largest output
CHAIN = 1e-4
TABLE = 1e-12
NUMBER = r"(\d*\.?\d+(?:e-?\d+)?)"


@pytest.fixture(scope="module")
def toy(golden):
    return golden.record("ddpm", "ddpm_toy")


@pytest.fixture(scope="module")
def schedules(golden):
    return golden.record("ddpm", "ddpm_schedules")


def parameters(toy):
    """Return the parameters with the shared temporal layer once; the file repeats it."""
    params = toy.parameters()
    for name in params:
        assert torch.equal(params[name], params[re.sub(r"^temp_fc\.\d+", "temp_fc.0", name)])
    shared = {name: value for name, value in params.items() if not re.match(r"temp_fc\.[1-9]", name)}
    assert sorted(shared) == sorted(toy.scalars["param_names_unique"])
    assert sum(value.numel() for value in shared.values()) == toy.scalars["param_count_unique"]
    return shared


def generator(toy) -> DDPM:
    kind, start, end, timesteps = re.fullmatch(rf"(\w+) {NUMBER}\.\.{NUMBER} T=(\d+)", toy.config["betas"]).groups()
    assert kind == "linear"
    sizes = toy.config["Decoder"]
    return DDPM(
        width=sizes["mid_features"],
        layers=sizes["num_temporal_layers"],
        timesteps=int(timesteps),
        beta_start=float(start),
        beta_end=float(end),
        variance=toy.config["var"],
    )


def test_decoder(toy):
    params = parameters(toy)
    out = decoder(params, toy["x"].unsqueeze(0), decoder_shift(params, toy["t"].unsqueeze(0)), generator(toy).layers)[0]
    torch.testing.assert_close(out, toy["out"], rtol=0, atol=NETWORK * float(toy["out"].abs().max()))


def test_untrained_decoder_has_the_same_leaves(toy):
    ours = generator(toy).init((toy.config["Decoder"]["in_features"],), Streams(seeds=(0,)))
    for name, value in parameters(toy).items():
        assert ours[name].shape == value.shape


def test_loss_and_gradients(toy):
    params = {name: value.requires_grad_() for name, value in parameters(toy).items()}
    x0, t, noise = (toy[key].unsqueeze(0) for key in ("x0", "t", "noise"))
    loss = generator(toy).loss(params, x0, t, noise)[0]
    torch.testing.assert_close(loss.detach(), toy["loss"], rtol=NETWORK, atol=NETWORK * float(toy["loss"].max()))
    leaves = [params[name] for name in toy.scalars["param_names_unique"]]
    norms = torch.stack([gradient.norm() for gradient in torch.autograd.grad(loss.mean(), leaves)])
    torch.testing.assert_close(norms, toy["grad_norms"], rtol=NETWORK, atol=NETWORK * float(toy["grad_norms"].max()))


@torch.no_grad()
def test_ancestral_chain(toy):
    ddpm, params, noise = generator(toy), parameters(toy), toy["chain.noise"]
    assert len(noise) == ddpm.timesteps
    final = ancestral(
        lambda x, t: decoder(params, x, decoder_shift(params, torch.tensor([[t]])), ddpm.layers),
        toy["chain.x_T"].unsqueeze(0),
        ddpm.schedule,
        lambda i: noise[i].unsqueeze(0),
        ddpm.variance,
    )[0]
    # An untrained chain may leave the unit scale by far.
    scale = max(1.0, float(toy["chain.final"].abs().max()))
    torch.testing.assert_close(final, toy["chain.final"], rtol=0, atol=CHAIN * scale)


def test_defaults_are_the_toys(golden):
    written = golden.facts()["ddpm_torch"]["toy"]
    timesteps, start, end = re.search(rf"T=(\d+), beta {NUMBER}\.\.{NUMBER}", written).groups()
    ours = DDPM()
    assert (ours.timesteps, ours.beta_start, ours.beta_end) == (int(timesteps), float(start), float(end))


def test_eight_gaussians(golden, toy):
    scale, std = map(float, re.search(rf"scale {NUMBER} std {NUMBER}", golden.facts()["ddpm_torch"]["toy"]).groups())
    ours = EightGaussians()
    assert (ours.scale, ours.std) == (scale, std)
    radius = ours.modes()[0].norm(dim=1)
    torch.testing.assert_close(radius, torch.full_like(radius, scale / toy.scalars["data_stdev"]), rtol=1e-6, atol=0)
    rows = int(re.match(r"gaussian8\((\d+),", toy.config["data"])[1])
    assert len(toy["data"]) == rows
    off = torch.cdist(toy["data"].double(), ours.modes()[0]).min(1).values * toy.scalars["data_stdev"] / std
    assert off.max() < 6  # standard deviations from the nearest mode
    # off² is χ² with 2 degrees of freedom: mean 2, variance 4
    assert abs(float(off.square().mean()) - 2) < 6 * math.sqrt(4 / rows)


def test_linear_schedules(schedules):
    linear = [schedule for schedule in schedules.config["schedules"] if schedule[0] == "linear"]
    assert linear
    for _, start, end, timesteps in linear:
        prefix = f"linear_{start}_{end}_{timesteps}"
        ours = Schedule.linear(start, end, timesteps)
        large, small = ours.log_variance("fixed-large"), ours.log_variance("fixed-small")
        tables = {
            "betas": ours.betas,
            "alphas_bar": ours.alphas_bar,
            "sqrt_alphas_bar": np.sqrt(ours.alphas_bar),
            "sqrt_one_minus_alphas_bar": np.sqrt(1 - ours.alphas_bar),
            "sqrt_recip_alphas_bar": np.sqrt(1 / ours.alphas_bar),
            "sqrt_recip_m1_alphas_bar": np.sqrt(1 / ours.alphas_bar - 1),
            "posterior_var": ours.posterior_variance,
            "posterior_logvar_clipped": ours.posterior_log_variance,
            "posterior_mean_coef1": ours.posterior_mean_x0,
            "posterior_mean_coef2": ours.posterior_mean_xt,
            "fixed-large.fixed_model_var": ours.betas,
            "fixed-large.fixed_model_logvar": large,
            "fixed-small.fixed_model_var": ours.posterior_variance,
            "fixed-small.fixed_model_logvar": small,
        }
        assert {key for key in schedules.tensors if key.startswith(f"{prefix}.")} == {f"{prefix}.{k}" for k in tables}
        for name, table in tables.items():
            theirs = schedules[f"{prefix}.{name}"].numpy()
            np.testing.assert_allclose(table, theirs, rtol=TABLE, atol=TABLE, err_msg=f"{prefix}.{name}")
