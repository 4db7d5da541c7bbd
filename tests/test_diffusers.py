"""Networks and schedulers of diffusers as generators, beside diffusers' own use of them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from selfloop import ConfigError, Experiment, Run, run
from selfloop.core.errors import SelfloopError
from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.generators import Diffusers
from selfloop.generators.network import Draws, event_noise
from selfloop.learning.pixels import to_interval
from selfloop.learning.training import SHARES, Budget, averaged, parameters

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


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("scheduler", ["DDPMScheduler", "DDIMScheduler"])
def test_images_are_those_of_a_loop_over_the_scheduler_and_have_random_numbers_of_their_own(
    scheduler: str, kind: str
) -> None:
    settings = {"scheduler": {"name": scheduler, "arguments": {"prediction_type": kind}}}
    ours = generator(**settings)
    state = ours.init(EVENT, STREAMS)
    x = ours.sample(state, 6, STREAMS)  # in chunks of 4 and 2
    whole = generator(**settings, sample_batch=6).sample(state, 6, STREAMS)
    assert (x.int() - whole.int()).abs().max() <= 1  # sums within a layer depend on the size of the batch
    sampler, noise, net = (
        getattr(diffusers, scheduler)(prediction_type=kind),
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
        ({"unet": UNET | {"num_class_embeds": 3}}, "unet.num_class_embeds follows from conditional.classes"),
        ({"unet": UNET | {"class_embed_type": "timestep"}}, "unet.class_embed_type is for classes: give conditional"),
        (
            {"unet": UNET | {"class_embed_type": "identity"}, "conditional": {"classes": 10}},
            "unet.class_embed_type may be timestep alone",
        ),
        ({"conditional": {"classes": 10, "dropout": 0.1}}, "conditional.dropout: UNet2DModel has no input"),
        ({"unet": {}}, "generator.unet: give the arguments of UNet2DModel, or a checkpoint that is a folder"),
        ({"unet": UNET | {"dropout": 0.1}}, "unet.dropout draws from torch's global generator"),
        ({"unet": UNET | {"time_embedding_type": "fourier"}}, "layers of type GaussianFourierProjection"),
        ({"unet": UNET | {"norm_num_groups": 5}}, "num_channels"),
        ({"unet": UNET | {"block_out_channels": [16]}}, "same number of"),
        (
            {"scheduler": {"name": "DDPMScheduler", "arguments": {"beta_schedul": "linear"}}},
            "did you mean 'beta_schedule'?",
        ),
        ({"scheduler": {"name": "PickleScheduler"}}, "generator.scheduler.name: must be 'DDPMScheduler' or"),
        ({"steps": 1001}, "steps 1001 are more than the 1000 of training"),
        ({"checkpoints": "a"}, "no setting is called 'generator.checkpoints', did you mean 'checkpoint'?"),
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
    with pytest.raises(ConfigError, match=r"needs package diffusers: pip install 'selfloop\[hf\]'"):
        next(run(built, tmp_path / "other"))
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_a_loop_of_v_prediction_learns_and_samples_what_it_is_trained_on(tmp_path: Path) -> None:
    """Of grey images at one level, trained and sampled as v-prediction asks, retrained on its own samples."""
    ours = generator(
        batch_size=16,
        optimizer={"learning_rate": 2e-3},
        ema=None,
        steps=10,
        scheduler={"name": "DDIMScheduler", "arguments": {"prediction_type": "v_prediction"}},
    )
    levels = torch.full((1, 32, *EVENT), 40, dtype=torch.uint8)
    state = ours.init(EVENT, STREAMS)
    for t in range(2):
        state = ours.fit(state, Samples.full(levels, born=t), Budget(steps=60), STREAMS.at(t))
        levels = ours.sample(state, 32, STREAMS.at(t))
    assert abs(float(levels.double().mean()) - 40) < 25
    settings = {"scheduler": {"name": "DDPMScheduler", "arguments": {"prediction_type": "v_prediction"}}}
    built = Experiment.build(experiment(**settings))
    assert [g.records[0]["status"] for g in run(built, tmp_path / "run")] == ["ok", "ok"]


# Classes


@pytest.mark.parametrize("kind", [None, "timestep"])
def test_a_network_of_classes_is_diffusers_own_given_the_labels(kind: str | None) -> None:
    more = {} if kind is None else {"class_embed_type": kind}
    ours = generator(unet=UNET | more, conditional={"classes": 10})
    params = averaged(ours.init(EVENT, STREAMS))
    classes = {"num_class_embeds": 10} if kind is None else {}
    net = diffusers.UNet2DModel(sample_size=(8, 8), in_channels=1, out_channels=1, **UNET, **more, **classes)
    net.load_state_dict({name: leaf[0] for name, leaf in params.items()})
    x, t, y = STREAMS.normal("x", (3, *EVENT)), torch.full((1, 3), 7.0), torch.tensor([[9, 0, 4]])
    with torch.no_grad():
        expected = net(x[0], t[0], class_labels=y[0]).sample
        found = ours.tell(ours.network(params, EVENT), y)(x, t)
        other = ours.tell(ours.network(params, EVENT), y.roll(1))(x, t)
    assert torch.allclose(found[0], expected, atol=1e-5)
    assert not torch.allclose(found, other, atol=1e-3)


def test_a_run_of_classes_carries_labels(tmp_path: Path) -> None:
    plain = experiment(conditional={"classes": 10})
    plain["data"]["labels"] = True
    plain["mixing"] = {"name": "augment", "lam": "inf"}
    plain["metrics"] = ["class_tv_held_out", "class_heterozygosity_ratio"]
    for generation in run(Experiment.build(plain), tmp_path / "run"):
        assert generation.records[0]["status"] == "ok"
    made = Run.open(tmp_path / "run")
    drawn = made.labels(0, 0)
    assert drawn is not None
    shares = torch.bincount(drawn, minlength=10).double() / len(drawn)
    assert torch.allclose(made.state(1, 0)[SHARES][0], shares)


# Pretrained weights


def saved(folder: Path, safe: bool = True, event: tuple[int, ...] = EVENT, **more: Any) -> Any:
    torch.manual_seed(3)
    channels, height, width = event
    net = diffusers.UNet2DModel(
        sample_size=(height, width), in_channels=channels, out_channels=channels, **(UNET | more)
    )
    net.save_pretrained(folder, safe_serialization=safe)
    return net


def from_checkpoint(path: Path, **settings: Any) -> Diffusers:
    return Diffusers(checkpoint=str(path), **({"batch_size": 16, "sample_batch": 4, "steps": 5} | settings))


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("classes", [None, 10])
def test_generation_0_begins_with_pretrained_weights(tmp_path: Path, safe: bool, classes: int | None) -> None:
    more = {} if classes is None else {"num_class_embeds": classes}
    net = saved(tmp_path / "net", safe, **more)
    conditional = {} if classes is None else {"conditional": {"classes": classes}}
    (file,) = (tmp_path / "net").glob("diffusion_pytorch_model.*")
    for path, unet in ((tmp_path / "net", {}), (file, {"unet": UNET})):
        ours = from_checkpoint(path, **unet, **conditional)
        assert ours.starts_from == str(file)
        state = ours.init(EVENT, Streams((0, 1)))
        for params in (parameters(state), averaged(state)):
            assert params.keys() == dict(net.named_parameters()).keys()
            assert all(torch.equal(params[k][r], leaf) for k, leaf in net.named_parameters() for r in range(2))
    x = ours.sample(state, 4, Streams((0, 1)))
    assert x.shape == (2, 4, *EVENT)


def test_a_run_from_a_folder_has_all_arguments_and_stands_alone(tmp_path: Path) -> None:
    saved(tmp_path / "net")
    plain = experiment()
    plain["generator"] = {"name": "diffusers", "checkpoint": str(tmp_path / "net"), "batch_size": 16, "steps": 3}
    built = Experiment.build(plain)
    assert built.generator.unet["block_out_channels"] == [16, 32]
    for generation in run(built, tmp_path / "run"):
        assert generation.records[0]["status"] == "ok"
    shutil.rmtree(tmp_path / "net")
    again = Run.open(tmp_path / "run")
    assert again.experiment.generator.unet == built.generator.unet
    assert len(again.environment["checkpoint"]) == 64


def test_old_names_of_attention_are_read(tmp_path: Path) -> None:
    net = saved(tmp_path / "net")
    old = {"to_q": "query", "to_k": "key", "to_v": "value"}

    def renamed(name: str) -> str:
        parts = name.replace("to_out.0", "proj_attn").split(".")
        return ".".join([*parts[:-2], *(old.get(part, part) for part in parts[-2:])])

    theirs = {renamed(name): leaf.detach().clone() for name, leaf in net.named_parameters()}
    assert theirs.keys() != dict(net.named_parameters()).keys()
    save_file(theirs, tmp_path / "net" / "diffusion_pytorch_model.safetensors")
    params = parameters(from_checkpoint(tmp_path / "net").init(EVENT, STREAMS))
    assert all(torch.equal(params[name][0], leaf) for name, leaf in net.named_parameters())


class Evil:
    """A pickle that would run something."""

    def __reduce__(self) -> Any:
        return print, ("ran",)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("size", "is of images of 16 × 16 in 1 channels, and the data's are 8 × 8 in 1 channels"),
        ("channels", "is of images of 8 × 8 in 3 channels, and the data's are 8 × 8 in 1 channels"),
        ("width", "holds another network: conv_in.weight has shape (16, 1, 3, 3) where (32, 1, 3, 3) is expected"),
        ("classes", "knows of 4 classes, and the generator of none: set generator.conditional.classes"),
        ("unclassed", "the parameter class_embedding.weight is missing"),
        ("damaged", "diffusion_pytorch_model.safetensors' is damaged"),
        ("evil", "diffusion_pytorch_model.bin' "),
        ("kind", "is of 'UNet2DConditionModel', not of UNet2DModel"),
        ("json", "config.json' is damaged: it is no JSON"),
        ("sides", "config.json' is damaged: sizes, channels and classes"),
        ("weightless", "cannot be read (No such file or directory): fetch it"),
        ("nowhere", "give the arguments of UNet2DModel, or a checkpoint that is a folder with config.json"),
        ("contradicted", "layers_per_block is 1 in the checkpoint's config.json: leave unet out"),
    ],
)
def test_a_checkpoint_that_cannot_be_meant_is_refused_in_one_line_before_the_first_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str, message: str
) -> None:
    folder, settings = tmp_path / "net", dict[str, Any]()
    plain = experiment()
    if case != "nowhere":
        events = {"size": (1, 16, 16), "channels": (3, 8, 8)}
        saved(folder, case != "evil", events.get(case, EVENT), **({"num_class_embeds": 4} if case == "classes" else {}))
    config, weights = folder / "config.json", folder / "diffusion_pytorch_model.safetensors"
    if case == "width":
        folder = weights
        settings["unet"] = UNET | {"block_out_channels": [32, 32]}
    elif case == "unclassed":
        plain["data"]["labels"], settings["conditional"] = True, {"classes": 10}
    elif case == "damaged":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif case == "evil":
        torch.save({"conv_in.weight": Evil()}, folder / "diffusion_pytorch_model.bin")
    elif case in ("kind", "json", "sides"):
        text = config.read_text()
        change = {"kind": text.replace("UNet2DModel", "UNet2DConditionModel"), "json": text[:-5]}
        config.write_text(change.get(case, json.dumps(json.loads(text) | {"sample_size": -8})))
    elif case == "weightless":
        weights.unlink()
    elif case == "contradicted":
        settings["unet"] = {"layers_per_block": 2}
    plain["generator"] = {"name": "diffusers", "checkpoint": str(folder), "batch_size": 16, "steps": 3} | settings
    with pytest.raises(SelfloopError, match=r"^[^\n]*$") as caught:
        next(run(Experiment.build(plain), tmp_path / "run"))
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()
    assert "ran" not in capsys.readouterr().out
