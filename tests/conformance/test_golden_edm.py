"""EDM: denoisers, losses and their gradients, augmentation, and Heun's sampler."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from recorded import NETWORK, OF, Network, check, networks, number
from torch import Tensor

from selfloop.learning import augmentation
from selfloop.learning.augmentation import LABELS, NORMALS, UNIFORMS, Augmentation, Multiples
from selfloop.learning.diffusion import EDM, VP, Preconditioning, denoise, denoising_loss
from selfloop.learning.nets.names import table
from selfloop.learning.nets.unet import Params, evaluate
from selfloop.learning.pixels import truncated_levels
from selfloop.learning.samplers import Churn, heun, noise_levels

SAMPLER = 1e-5  # of the largest value
COLUMNS = {"edm": EDM, "vp": VP}


def written(words: str, names: tuple[str, ...]) -> dict[str, float]:
    """Return the numbers that a configuration's words give as name=number."""
    found = {name: re.search(rf"\b{name}=(-?\d*\.?\d+(?:e-?\d+)?)", words) for name in names}
    assert all(found.values()), words
    return {name: float(match[1]) for name, match in found.items()}


def denoised(network: Network, column: Preconditioning, x: Tensor, sigma: Tensor, **labels: Tensor) -> Tensor:
    """Return D of the one copy for x (B, C, H, W) and levels (B,), or one for all of them."""
    told = {name: value.unsqueeze(0) for name, value in labels.items()}
    params = network.params
    return denoise(
        column, lambda x, t: evaluate(params, network.unet, x, t, **told), x.unsqueeze(0), sigma.reshape(1, -1)
    )[0]


@pytest.mark.parametrize("key", COLUMNS)
def test_denoisers(golden, key):
    column = COLUMNS[key]()
    for network in networks(golden, "edm"):
        record = network.record
        x, sigma = record["x"], record["sigma"]
        check(denoised(network, column, x, sigma), record[f"D_{key}"])
        one = torch.tensor(number(record, f"D_{key}_scalar_sigma", r"tensor (\d+(?:\.\d+)?)"), dtype=torch.float64)
        check(denoised(network, column, x, one), record[f"D_{key}_scalar_sigma"])
        assert (f"D_{key}_aug" in record.tensors) == (network.unet.augment > 0)
        if network.unet.augment:
            check(denoised(network, column, x, sigma, augment=record["augment_labels"]), record[f"D_{key}_aug"])


def test_limits_of_the_noise_levels(golden):
    """Float32 as it rounds there: no tolerance."""
    for network in networks(golden, "edm"):
        for key, column in COLUMNS.items():
            for limit in ("sigma_min", "sigma_max"):
                assert getattr(column(), limit) == float(network.record.scalars[f"{key}_{limit}"])


def test_times_of_vp(golden):
    for network in networks(golden, "edm"):
        sigma = network.record["vp_sigma_grid"]
        check(VP().time(sigma), network.record["vp_sigma_inv"], 1e-6)
        check(VP().coefficients(sigma).c_noise, network.record["vp_c_noise"], 1e-6)


@pytest.fixture(scope="module")
def losses(golden):
    return golden.record("edm", "edm_losses")


def columns(losses) -> dict[str, Preconditioning]:
    words = losses.config["loss"]
    vp = VP(**written(words, ("beta_d", "beta_min", "epsilon_t")))
    return {"edm": EDM(**written(words, ("P_mean", "P_std", "sigma_data"))), "vp": vp}


def network_of(golden, losses) -> tuple[Network, Params]:
    record = golden.record("edm", losses.config["net"].removesuffix(".safetensors"))
    network = Network(record, *OF["edm"](losses.config["edm"]))
    return network, {name: leaf.clone().requires_grad_() for name, leaf in network.params.items()}


@pytest.mark.parametrize(("key", "draws"), [("edm", "rnd_normal"), ("vp", "rnd_uniform")])
def test_losses_and_gradients(golden, losses, key, draws):
    network, params = network_of(golden, losses)
    column = columns(losses)[key]
    sigma = column.levels(losses[f"{key}.{draws}"].reshape(1, -1))
    check(sigma.view(-1, 1, 1, 1), losses[f"{key}.sigma"], 1e-6)
    check(column.weight(sigma).view(-1, 1, 1, 1), losses[f"{key}.weight"], 1e-6)

    images, noise = losses["images"].unsqueeze(0), losses[f"{key}.unit_noise"].unsqueeze(0)
    loss = denoising_loss(column, lambda x, t: evaluate(params, network.unet, x, t), images, sigma, noise)[0]
    check(loss.detach(), losses[f"{key}.loss"])
    check(loss.detach().flatten(1).mean(1), losses[f"{key}.loss_mean_per_sample"])
    objective = loss.sum() / len(loss)
    recorded = losses.scalars[f"{key}.train_objective_sum_over_batch_div_N"]
    assert float(objective.detach()) == pytest.approx(recorded, rel=NETWORK)
    assert float(loss.detach().mean()) == pytest.approx(losses.scalars[f"{key}.loss_mean"], rel=NETWORK)

    gradients = torch.autograd.grad(objective, list(params.values()), allow_unused=True, materialize_grads=True)
    ours = dict(zip(params, gradients, strict=True))
    leaves = table(network.original, network.unet)
    norms = losses[f"{key}.grad_norms"]
    for (theirs, leaf), norm in zip(leaves.items(), norms, strict=True):
        difference = abs(float(ours[leaf.name].norm()) - float(norm))
        assert difference <= NETWORK * float(norm) + 1e-7 * float(norms.max()), theirs
    whole = [name for name in leaves if f"{key}.grad.{name}" in losses.tensors]
    assert whole
    for name in whole:
        check(ours[leaves[name].name][0], losses[f"{key}.grad.{name}"])


def test_loss_of_augmented_images(golden, losses):
    network, params = network_of(golden, losses)
    column = columns(losses)["edm"]
    labels = losses["edm_aug.labels"].unsqueeze(0)
    loss = denoising_loss(
        column,
        lambda x, t: evaluate(params, network.unet, x, t, augment=labels),
        losses["edm_aug.y"].unsqueeze(0),
        column.levels(losses["edm_aug.rnd_normal"].reshape(1, -1)),
        losses["edm_aug.unit_noise"].unsqueeze(0),
    )
    check(loss[0].detach(), losses["edm_aug.loss"])


def resampled(ours: Tensor, theirs: Tensor) -> None:
    """Positions among the samples, some six a pixel of an image's side, are float32: the more of them, the coarser."""
    check(ours, theirs, 3e-5 * max(1.0, theirs.shape[-1] / 16))


def test_augmented_images_of_the_loss(losses):
    """Labels tell what was done, but for a stretch by w along an axis and one by −w along the opposite."""
    labels = losses["edm_aug.labels"]
    xflip, yflip, scale, cos, sin, along, across, *shift = labels.unbind(1)
    axis = torch.atan2(across, along)
    done = Augmentation(
        xflip=xflip,
        yflip=yflip,
        scale=scale,
        angle=torch.atan2(sin, cos + 1),
        stretch=torch.hypot(along, across),
        axis=axis,
        shift=torch.stack(shift, dim=1),
    )
    torch.testing.assert_close(done.labels, labels, rtol=0, atol=1e-6)
    other = replace(done, stretch=-done.stretch, axis=axis + torch.pi)
    theirs = losses["edm_aug.y"]
    both = torch.stack([augmentation.apply(losses["images"], way) for way in (done, other)])
    nearest = (both - theirs).abs().flatten(2).amax(2).argmin(0)
    resampled(both[nearest, torch.arange(len(theirs))], theirs)


def recorded_draws(record, prefix: str) -> tuple[Tensor, Tensor]:
    """Return the recorded numbers as ours, in the order in which they were drawn: uniform and normal."""
    uniform, normal = [], []
    for key in sorted(key for key in record.tensors if key.startswith(f"{prefix}.draw")):
        *_, kind = key.split("_")
        numbers = record[key].float().reshape(-1, len(record["images"]))
        # A coin that shows 1 is a uniform number of a half.
        (normal if kind == "randn" else uniform).extend(numbers / 2 if kind == "randint" else numbers)
    return torch.stack(uniform, dim=1), torch.stack(normal, dim=1)


def test_augmentation(golden):
    record = golden.record("edm", "edm_augment")
    multiples = Multiples(**record.config)
    for prefix in record.prefixes(".labels"):
        uniform, normal = recorded_draws(record, prefix)
        assert (uniform.shape[1], normal.shape[1], record[f"{prefix}.labels"].shape[1]) == (UNIFORMS, NORMALS, LABELS)
        p = number(record, f"{prefix}.out", r"p=(\d*\.?\d+)")
        done = augmentation.draw(uniform, normal, p, multiples)
        torch.testing.assert_close(done.labels, record[f"{prefix}.labels"], rtol=0, atol=1e-6)
        resampled(augmentation.apply(record["images"], done), record[f"{prefix}.out"])


@pytest.fixture(scope="module")
def sampler(golden):
    return golden.record("edm", "edm_sampler")


def sampled(golden, sampler) -> Iterator[tuple[str, Network, Preconditioning]]:
    """Yield the recorded samplers' names, networks and preconditionings; at least one."""
    for prefix in [prefix for prefix in sampler.prefixes(".latents") if prefix.count(".") == 1]:
        letter, key = prefix.split(".")
        record = golden.record("edm", f"edm_net_{letter}")
        yield prefix, Network(record, *OF["edm"](sampler.config[letter])), COLUMNS[key]()


def levels_of(sampler, column: Preconditioning, steps: int) -> np.ndarray:
    asked = written(sampler.config["sampler"], ("sigma_min", "sigma_max", "rho"))
    least, greatest = max(asked["sigma_min"], column.sigma_min), min(asked["sigma_max"], column.sigma_max)
    return noise_levels(steps, least, greatest, asked["rho"])


def images(network: Network, column: Preconditioning, latents: Tensor, levels: np.ndarray, **more: Any) -> Tensor:
    params = network.params

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        return denoise(column, lambda x, t: evaluate(params, network.unet, x, t), x, sigma)

    return heun(denoiser, latents.unsqueeze(0), levels, **more)[0]


@torch.no_grad()
def test_deterministic_sampler(golden, sampler):
    prefixes = []
    for prefix, network, column in sampled(golden, sampler):
        prefixes.append(prefix)
        runs = [key for key in sampler.tensors if key.startswith(f"{prefix}.final_")]
        assert runs
        for key in runs:
            steps = int(key.split("_")[-1])
            levels = levels_of(sampler, column, steps)
            np.testing.assert_allclose(levels, sampler[f"{prefix}.t_steps_{steps}"].numpy(), rtol=1e-12)
            assert levels[-1] == 0
            x = images(network, column, sampler[f"{prefix}.latents"], levels)
            assert x.dtype == torch.float64
            check(x, sampler[key], SAMPLER)
            assert torch.equal(truncated_levels(sampler[key]), sampler[f"{prefix}.uint8_{steps}"])
            # What is near the border of two levels may come out as the other one.
            off = (truncated_levels(x).int() - sampler[f"{prefix}.uint8_{steps}"].int()).abs()
            fraction = (sampler[key] * 127.5) % 1
            near = torch.minimum(fraction, 1 - fraction) <= 127.5 * SAMPLER * sampler[key].abs().max()
            assert (off <= near.int()).all()
    assert prefixes


@torch.no_grad()
def test_stochastic_sampler(golden, sampler):
    letter, kind = re.search(r"network (\w+) \((\w+?)Precond\)", sampler.meaning("stoch.final")).groups()
    network = Network(golden.record("edm", f"edm_net_{letter}"), *OF["edm"](sampler.config[letter]))
    column = COLUMNS[kind.lower()]()
    stoch = dict(sampler.config["stoch"])
    levels, noise = levels_of(sampler, column, stoch.pop("num_steps")), sampler["stoch.noise"]
    x = images(
        network, column, sampler["stoch.latents"], levels, churn=Churn(**stoch), noise=lambda i: noise[i].unsqueeze(0)
    )
    check(x, sampler["stoch.final"], SAMPLER)
