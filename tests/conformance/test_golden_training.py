"""Training steps of EDM, torchcfm and ddpm-torch from their checkpoints: losses, then weights and averages."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from recorded import edm_of, files, settings
from torch import Tensor

from selfloop.core.samples import State
from selfloop.generators.pretrained import pretrained
from selfloop.learning.diffusion import EDM, denoising_loss, prediction_loss
from selfloop.learning.nets import names, presets
from selfloop.learning.nets.architecture import UNet
from selfloop.learning.nets.names import Original, table
from selfloop.learning.nets.unet import evaluate
from selfloop.learning.optimizer import Adam, Ramp
from selfloop.learning.pixels import to_interval
from selfloop.learning.schedule import Schedule
from selfloop.learning.training import EMA, SHADOW, train

LOSS = 1e-5  # relative
EACH = 2e-3  # of the sum of the rates
ROUNDING = 1e-5  # of the largest gradient

pytestmark = pytest.mark.usefixtures("as_in_a_worker")


def network(unet: UNet, params: State, x: Tensor, t: Tensor) -> Tensor:
    return evaluate(params, unet, x, t)


def near(
    ours: State, prefix: str, record, key: str, original: Original, unet: UNet, start: State, rates: float
) -> None:
    """Compare how far the numbers of all leaves have moved with the recorded distance, on the scale of the rates' sum.

    Left out are numbers whose gradients are all rounding, as are those of the biases of keys, to which softmax
    is blind, and of biases before norms of single channels: Adam makes steps of any size of them.
    """
    leaves = table(original, unet)
    squares = {name: ours[f"optimizer.exp_avg_sq.{leaf.name}"][0].reshape(leaf.shape) for name, leaf in leaves.items()}
    least = ROUNDING**2 * max(float(square.max()) for square in squares.values())
    recorded = {name.removeprefix(key): value for name, value in record.tensors.items() if name.startswith(key)}
    chosen = [name for name in recorded if name in leaves]
    assert chosen, f"no tensor is called {key}…"
    counted = 0
    for name in chosen:
        leaf, shape = f"{prefix}{leaves[name].name}", leaves[name].shape
        before, now = (state[leaf][0].reshape(shape).double() for state in (start, ours))
        moved = recorded[name].double() - (0 if key.startswith("ema_minus") else before)
        told = squares[name] > least
        counted += int(told.sum())
        assert not told.any() or float((now - before - moved)[told].abs().max()) <= EACH * rates, name
    assert counted >= 0.7 * sum(recorded[name].numel() for name in chosen)


def test_edm(golden):
    record = golden.record("edm", "edm_train_steps")
    unet, original = edm_of(record.config["net"])
    snapshots = files(golden, "edm", r"network-snapshot-.*\.pkl")
    data, column, losses = to_interval(record["data_uint8"]), EDM(), []

    def loss(params: State, step: int) -> Tensor:
        sigma = column.levels(record["rnd_normal"][step].reshape(1, -1))
        squares = denoising_loss(
            column, partial(network, unet, params), data[step][None], sigma, record["unit_noise"][step][None]
        )
        losses.append(float(squares.detach().mean()))
        return squares.flatten(2).sum(2).mean(1)

    for snapshot in snapshots:
        start = pretrained(golden.directory / snapshot, "edm", original, unet, ema=True)
        for name, variant in record.config["variants"].items():
            losses.clear()
            adam = Adam(
                learning_rate=variant["lr"], ramp=Ramp(samples=1000 * variant["lr_rampup_kimg"], first="nothing")
            )
            ema = EMA(half_life=1000 * variant["ema_halflife_kimg"], growing=variant["ema_rampup_ratio"] is not None)
            steps, batch = record.config["steps"], record.config["batch"]
            trained = train(start, loss, steps=steps, adam=adam, batch_size=batch, ema=ema)
            scalars = record.scalars[name]
            assert [adam.rate(k, k, batch) for k in range(steps)] == pytest.approx(scalars["lr_per_step"], rel=1e-12)
            assert [ema.keeps(k, batch) for k in range(steps)] == pytest.approx(scalars["ema_beta_per_step"], rel=1e-12)
            assert losses == pytest.approx(scalars["loss_mean_per_step"], rel=LOSS)
            near(trained, SHADOW, record, f"{name}.ema.", original, unet, start, sum(scalars["lr_per_step"]))
            if any(key.startswith(f"{name}.net.") for key in record.tensors):
                near(trained, "", record, f"{name}.net.", original, unet, start, sum(scalars["lr_per_step"]))


def only(golden, family: str, pattern: str) -> Path:
    (name,) = files(golden, family, pattern)
    return golden.directory / name


def test_torchcfm(golden):
    record = golden.record("torchcfm", "cfm_train_steps")
    config = dict(record.config)
    rate, clip, decay, steps = (config.pop(name) for name in ("lr", "clip", "ema", "steps"))
    unet = presets.guided(**settings(config))
    start = pretrained(only(golden, "torchcfm", r".*\.pt"), "torchcfm", names.TORCHCFM, unet, ema=True)
    losses = []

    def loss(params: State, step: int) -> Tensor:
        found = (
            evaluate(params, unet, record["xt"][step][None], record["t"][step][None]) - record["ut"][step]
        ).square()
        losses.append(float(found.detach().mean()))
        return found.flatten(1).mean(1)

    trained = train(start, loss, steps=steps, adam=Adam(learning_rate=rate, clip=clip), ema=EMA(decay=decay))
    assert losses == pytest.approx(record.scalars["loss_per_step"], rel=LOSS)
    near(trained, "", record, "net.", names.TORCHCFM, unet, start, steps * rate)
    near(trained, SHADOW, record, "ema_minus_ckpt.", names.TORCHCFM, unet, start, steps * rate)


def test_ddpm(golden):
    record = golden.record("ddpm", "ddpm_train_steps")
    config = dict(record.config)
    rate, warmup, clip, decay, steps = (config.pop(name) for name in ("lr", "warmup_steps", "clip", "ema", "steps"))
    unet = presets.ddpm(**settings(config))
    start = pretrained(only(golden, "ddpm", r".*\.pt"), "ddpm", names.DDPM_TORCH, unet, ema=True)
    schedule, batch, losses = Schedule.linear(1e-4, 0.02, 1000), record["t"].shape[1], []

    def loss(params: State, step: int) -> Tensor:
        x0, t, noise = (record[name][step][None] for name in ("data", "t", "noise"))
        found = prediction_loss(schedule, partial(network, unet, params), x0, t, noise)
        losses.append(float(found.detach().mean()))
        return found.flatten(1).mean(1)

    adam = Adam(learning_rate=rate, clip=clip, ramp=Ramp(samples=warmup * batch))
    taken = int(start["optimizer.step"])
    assert [adam.rate(taken + k, k, batch) for k in range(steps)] == pytest.approx(record.scalars["lr_used_per_step"])
    trained = train(start, loss, steps=steps, adam=adam, batch_size=batch, ema=EMA(decay=decay, growing=True))
    assert losses == pytest.approx(record.scalars["loss_per_step"], rel=LOSS)
    near(trained, "", record, "model.", names.DDPM_TORCH, unet, start, steps * rate)
    near(trained, SHADOW, record, "ema_minus_ckpt.", names.DDPM_TORCH, unet, start, steps * rate)


def test_a_checkpoint_becomes_a_state_of_its_generator(golden):
    """Weights, averages and Adam's moments arrive under our names, and no other network is taken."""
    path = only(golden, "torchcfm", r".*\.pt")
    config = golden.record("torchcfm", "cfm_checkpoint_probe").config
    unet = presets.guided(**settings(config))
    state = pretrained(path, "torchcfm", names.TORCHCFM, unet, ema=True)
    assert float(state["optimizer.step"]) > 0
    assert all(leaf.shape[0] == 1 for leaf in state.values())
    assert any(key.startswith("optimizer.exp_avg.") and bool(leaf.any()) for key, leaf in state.items())
    with pytest.raises(Exception, match="is a torchcfm checkpoint, not one of edm"):
        pretrained(path, "edm", names.TORCHCFM, unet, ema=True)
    with pytest.raises(Exception, match=r"holds another network: the parameter .* is missing"):
        pretrained(
            path, "torchcfm", names.TORCHCFM, presets.guided(**settings(config) | {"num_res_blocks": 2}), ema=True
        )
