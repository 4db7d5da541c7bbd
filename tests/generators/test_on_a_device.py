"""Generators of images on a device that is not the CPU, for which torch's ``meta`` stands.

Its tensors have no values: an operation of one with a tensor of the CPU fails as on a GPU, and so does whatever needs a
value on the host, which on a GPU would wait.
"""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import Tensor

from selfloop.core.streams import Streams
from selfloop.generators import EDM, DDPMImages, OTCFMImages
from selfloop.generators.edm import Stochastic
from selfloop.generators.images import Size, UNetModel
from selfloop.generators.network import Draws, event_noise
from selfloop.learning.optimizer import Adam, Optimizer
from selfloop.learning.training import parameters

NET = Size(channels=16, multipliers=(1, 2), blocks=1, attention=(4,), dropout=0.0, group_channels=4)
EVENT = (3, 6, 6)
STREAMS = Streams((0,))
GENERATORS = {
    "edm": EDM(net=NET, batch_size=4, augment=0.9),
    "edm by pixel": EDM(net=NET, batch_size=4, augment=0.0, channels_last=True),
    "vp": EDM(net=NET, batch_size=4, augment=0.0, preconditioning="vp"),
    "edm churned": EDM(net=NET, batch_size=4, steps=3, stochastic=Stochastic(churn=1.0)),
    "ddpm": DDPMImages(net=NET, batch_size=4, steps=4),
    "ddpm with noise": DDPMImages(net=NET, batch_size=4, steps=4, eta=1.0),
    "ddpm ancestral": DDPMImages(net=NET, batch_size=4, sampler="ancestral", timesteps=5, steps=2),
    "otcfm": OTCFMImages(net=NET, batch_size=4, sigma=0.1),
}


@pytest.fixture(autouse=True)
def _no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is none for a device without values."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())


def elsewhere(generator: UNetModel) -> dict[str, Tensor]:
    params = parameters(generator.init(EVENT, STREAMS))
    return {name: leaf.to("meta").requires_grad_() for name, leaf in params.items()}


@pytest.mark.parametrize("generator", GENERATORS.values(), ids=GENERATORS)
def test_a_loss_and_its_gradient_stay_on_the_device(generator: UNetModel) -> None:
    params, draws = elsewhere(generator), Draws(STREAMS, range(4))
    levels = STREAMS.integers("levels", 256, (4, *EVENT)).to(torch.uint8)
    loss = generator.loss(generator.network(params, EVENT), generator.prepare(levels, draws), draws)
    gradients = torch.autograd.grad(loss.mean(1).sum(), list(params.values()), allow_unused=True)
    assert loss.device.type == "meta"
    assert loss.shape == (1, 4)
    assert {g.device.type for g in gradients if g is not None} == {"meta"}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in GENERATORS if name != "otcfm"])
def test_samplers_of_fixed_steps_stay_on_the_device(name: str) -> None:
    generator = GENERATORS[name]
    net = generator.network(elsewhere(generator), EVENT)
    drawn = generator.generate(net, event_noise(STREAMS, range(2), EVENT))
    assert drawn.device.type == "meta"
    assert drawn.shape == (1, 2, *EVENT)
    assert generator.finish(drawn).dtype == torch.uint8


def test_an_adaptive_solver_draws_in_float32_whatever_training_is_in() -> None:
    plain = GENERATORS["otcfm"]
    state = plain.init(EVENT, STREAMS)
    drawn = [plain.model_copy(update={"precision": p}).sample(state, 2, STREAMS) for p in ("float32", "bfloat16")]
    assert torch.equal(*drawn)


def test_the_device_s_adam_takes_the_steps_that_the_cpu_s_does() -> None:
    results = []
    for on_device in (False, True):
        leaves = [STREAMS.normal("leaf", (40,)).requires_grad_()]
        moments = [(torch.zeros(1, 40), torch.zeros(1, 40))]
        optimizer = Optimizer(Adam(learning_rate=0.1, clip=1.0), leaves, moments)
        if on_device:
            optimizer._vectors = None  # what it has where leaves are on another device
        for taken in range(5):
            optimizer.step([STREAMS.normal("gradient", (40,), taken)], taken + 3, 0.1)
        results.append(torch.cat([leaves[0].detach(), *moments[0]]))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)
