"""Networks and schedulers of diffusers as generators, beside diffusers' own use of them."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from selfloop import ConfigError, Experiment, run
from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.generators import Diffusers
from selfloop.generators.network import Draws, event_noise
from selfloop.learning.pixels import to_interval
from selfloop.learning.training import Budget, averaged, parameters

diffusers = pytest.importorskip("diffusers")

UNET = {
    "block_out_channels": [16, 32],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
EVENT = (1, 8, 8)
STREAMS = Streams((7,))


def generator(**settings: Any) -> Diffusers:
    return Diffusers(**({"unet": UNET, "batch_size": 16, "sample_batch": 4, "steps": 5} | settings))


def theirs(params: dict[str, torch.Tensor]) -> Any:
    net = diffusers.UNet2DModel(sample_size=(8, 8), in_channels=1, out_channels=1, **UNET)
    net.load_state_dict({name: leaf[0] for name, leaf in params.items()})  # every parameter, and none more
    return net


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_the_loss_is_that_of_diffusers_training_loop(kind: str) -> None:
    ours = generator(scheduler={"name": "DDPMScheduler", "arguments": {"prediction_type": kind}})
    params = parameters(ours.init(EVENT, STREAMS))
    x0, draws = 2 * STREAMS.uniform("images", (6, *EVENT)) - 1, Draws(STREAMS, range(6))
    found = ours.loss(ours.network(params, EVENT), (x0,), draws)
    t, noise = draws.integers("times", 1000)[0], draws.normal("noise", EVENT)[0]
    scheduler = diffusers.DDPMScheduler(prediction_type=kind)
    with torch.no_grad():
        predicted = theirs(params)(scheduler.add_noise(x0[0], noise, t), t).sample
    target = {"epsilon": noise, "sample": x0[0]}.get(kind)
    target = scheduler.get_velocity(x0[0], noise, t) if target is None else target
    assert torch.allclose(found[0], (predicted - target).square().mean((1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("scheduler", ["DDPMScheduler", "DDIMScheduler"])
def test_images_are_those_of_a_loop_over_the_scheduler_and_have_random_numbers_of_their_own(scheduler: str) -> None:
    ours = generator(scheduler={"name": scheduler})
    state = ours.init(EVENT, STREAMS)
    x = ours.sample(state, 6, STREAMS)  # in chunks of 4 and 2
    whole = generator(scheduler={"name": scheduler}, sample_batch=6).sample(state, 6, STREAMS)
    assert (x.int() - whole.int()).abs().max() <= 1  # sums within a layer depend on the size of the batch
    sampler, noise, net = (
        getattr(diffusers, scheduler)(),
        event_noise(STREAMS, range(6), EVENT),
        theirs(averaged(state)),
    )
    sampler.set_timesteps(5)
    latents, seeds = noise()[0], noise().flatten(2)[0, :, :2].contiguous().view(torch.int64)[:, 0].tolist()
    own = [torch.Generator().manual_seed(seed) for seed in seeds]
    with torch.no_grad():
        for t in sampler.timesteps:
            latents = sampler.step(net(latents, t).sample, t, latents, generator=own).prev_sample
    expected = ((latents / 2 + 0.5).clamp(0, 1) * 255).round()
    assert (x[0].float() - expected).abs().max() <= 1


def test_training_lowers_the_loss() -> None:
    ours = generator(batch_size=8, optimizer={"learning_rate": 2e-3})
    levels = (255 * STREAMS.uniform("images", (1, *EVENT)).expand(1, 64, *EVENT)).to(torch.uint8)
    start, given = ours.init(EVENT, STREAMS), Samples.full(levels, born=0)
    losses = [float(ours.fit(start, given, Budget(steps=steps), STREAMS)["loss"]) for steps in (1, 25)]
    # The first is near 1 or above (the network knows nothing of the noise), the last well below for every seed tried.
    assert losses[1] < 0.8 * losses[0]
    assert to_interval(levels).abs().max() <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"unet": UNET | {"layer_per_block": 1}},
            "has no argument 'layer_per_block', did you mean 'layers_per_block'?",
        ),
        ({"unet": UNET | {"in_channels": 3}}, "unet.in_channels follows from the data"),
        ({"unet": UNET | {"num_class_embeds": 3}}, "unet.num_class_embeds is for classes"),
        ({"unet": UNET | {"dropout": 0.1}}, "unet.dropout draws from torch's global generator"),
        ({"unet": UNET | {"time_embedding_type": "fourier"}}, "layers of type GaussianFourierProjection"),
        ({"unet": UNET | {"norm_num_groups": 5}}, "num_channels"),
        ({"unet": UNET | {"block_out_channels": [16]}}, "same number of"),
        (
            {"scheduler": {"name": "DDPMScheduler", "arguments": {"beta_schedul": "linear"}}},
            "did you mean 'beta_schedule'?",
        ),
        ({"scheduler": {"name": "PickleScheduler"}}, "generator.scheduler.name: Input should be 'DDPMScheduler' or"),
        ({"steps": 1001}, "steps 1001 are more than the 1000 of training"),
        ({"checkpoint": "a"}, "no setting is called 'generator.checkpoint'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as caught:
        Experiment.build(experiment(**settings))
    assert message in str(caught.value)


def experiment(**settings: Any) -> dict[str, Any]:
    return {
        "name": "diffusers",
        "data": {"name": "digit_images", "n": 40, "held_out": 40},
        "generator": {"name": "diffusers", "unet": UNET, "batch_size": 16, "steps": 3} | settings,
        "generations": 1,
        "budget": {"steps": 2},
        "metrics": ["variance_ratio"],
    }


def test_a_run_and_what_is_said_without_the_library(tmp_path, monkeypatch) -> None:
    built = Experiment.build(experiment())
    first, last = run(built, tmp_path / "run")
    assert (first.records[0]["status"], last.records[0]["status"]) == ("ok", "ok")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ConfigError, match=r"needs diffusers: pip install 'selfloop\[hf\]'"):
        next(run(built, tmp_path / "other"))
    assert not (tmp_path / "other").exists()
