"""A UNet2DModel of Hugging Face's diffusers and one of its schedulers as a generator (extra ``hf``)."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal

import torch
from pydantic import Field, JsonValue, PositiveInt, model_validator
from torch import Tensor, nn

from selfloop.core.capabilities import Capability
from selfloop.core.config import Count, Frozen
from selfloop.core.errors import ConfigError, nearest, said
from selfloop.core.samples import State
from selfloop.core.streams import Streams
from selfloop.generators.base import GENERATORS
from selfloop.generators.images import ImageModel
from selfloop.generators.network import Draws, Net, Noise
from selfloop.learning.nets.unet import padded
from selfloop.learning.optimizer import Adam
from selfloop.learning.pixels import rounded_levels
from selfloop.learning.training import EMA, fresh, fresh_size

_FROM_DATA = ("sample_size", "in_channels", "out_channels")
_NO_CLASSES = ("class_embed_type", "num_class_embeds")
_PREDICTIONS = ("epsilon", "sample", "v_prediction")


class Scheduler(Frozen):
    """Noise in training and sampling.

    Attributes:
        name: "DDPMScheduler", the chain of Ho et al. 2020, or "DDIMScheduler", without fresh noise (Song et al. 2021).
        arguments: with which it is made, such as ``num_train_timesteps`` and ``prediction_type``.
    """

    name: Literal["DDPMScheduler", "DDIMScheduler"] = "DDPMScheduler"
    arguments: dict[str, JsonValue] = Field(default_factory=dict)


@GENERATORS.register
class Diffusers(ImageModel):
    """Denoising diffusion with the network and the scheduler of diffusers; nothing is fetched.

    Attributes:
        unet: arguments of UNet2DModel, but for those that follow from the images.
        scheduler: what adds noise, and takes it away again.
        steps: of the sampler (``num_inference_steps``).
    """

    name: Literal["diffusers"] = "diffusers"
    unet: dict[str, JsonValue]
    batch_size: PositiveInt = 128
    optimizer: Adam = Adam(learning_rate=2e-4, clip=1.0)
    ema: EMA | None = EMA(decay=0.9999, growing=True)
    flip: bool = False
    scheduler: Scheduler = Scheduler()
    steps: Count = 100

    @model_validator(mode="after")
    def _can_be_made(self) -> Diffusers:
        for name in (*_FROM_DATA, *_NO_CLASSES):
            if name in self.unet:
                why = "follows from the data" if name in _FROM_DATA else "is for classes, which samples do not have"
                raise ValueError(f"unet.{name} {why}: leave it out")
        if self.unet.get("dropout"):
            raise ValueError("unet.dropout draws from torch's global generator: leave it out")
        if find_spec("diffusers") is not None:  # a run can be read without it
            _checked("unet", self.unet, library().UNet2DModel, lambda: self._skeleton((1, 8, 8)))
            _checked("scheduler.arguments", self.scheduler.arguments, self._kind, self._scheduler)
        return self

    @property
    def offers(self) -> frozenset[Capability]:  # type: ignore[override]
        """What all networks have, but that the steps of DDPMScheduler draw for themselves, at no temperature."""
        return ImageModel.offers - ({"temperature"} if self.scheduler.name == "DDPMScheduler" else set())

    @property
    def _kind(self) -> Any:
        return getattr(library(), self.scheduler.name)

    def _scheduler(self) -> Any:
        """Return a new scheduler; it is changed by sampling."""
        made = self._kind(**self.scheduler.arguments)
        if self.steps > made.config.num_train_timesteps:
            raise ValueError(f"steps {self.steps} are more than the {made.config.num_train_timesteps} of training")
        if made.config.prediction_type not in _PREDICTIONS or "learned" in getattr(made.config, "variance_type", ""):
            raise ValueError(f"prediction_type must be one of {', '.join(_PREDICTIONS)}, and variance_type not learned")
        return made

    @functools.cached_property
    def _noising(self) -> Any:
        return self._scheduler()

    def _skeleton(self, event: Sequence[int]) -> nn.Module:
        """Return the network for images (C, H, W) without its numbers."""
        channels, height, width = event
        with torch.device("meta"):
            made: nn.Module = library().UNet2DModel(
                sample_size=(height, width), in_channels=channels, out_channels=channels, **self.unet
            )
        list(_layers(made))
        return made

    def state_size(self, event: Sequence[int]) -> int:
        """Return the bytes of the network and of what Adam keeps of it."""
        skeleton = self._skeleton(event)
        self._refuse_unfit(skeleton, event)
        return fresh_size(sum(leaf.numel() for leaf in skeleton.parameters()), self.ema is not None)

    def untrained(self, event: Sequence[int], streams: Streams) -> State:
        """Draw the networks as PyTorch does, weights and biases uniform on ±1/√fan_in."""
        params: State = {}
        skeleton = self._skeleton(event)
        for name, layer in _layers(skeleton):
            for leaf, like in layer.named_parameters(recurse=False):
                key, shape = f"{name}.{leaf}", tuple(like.shape)
                if isinstance(layer, nn.GroupNorm):
                    params[key] = torch.full((len(streams.seeds), *shape), float(leaf == "weight"))
                else:
                    bound = 1 / math.sqrt(math.prod(layer.weight.shape[1:]))
                    params[key] = (2 * streams.uniform(f"init/{key}", shape) - 1) * bound
        return fresh(params, ema=self.ema is not None)

    def _refuse_unfit(self, skeleton: nn.Module, event: Sequence[int]) -> None:
        """Refuse a network that cannot take images (C, H, W), by the shapes alone."""
        x, t = torch.empty(1, 1, *event, device="meta"), torch.zeros(1, 1, device="meta")
        try:
            found = _evaluate({name: leaf.unsqueeze(0) for name, leaf in skeleton.named_parameters()}, skeleton, x, t)
        except Exception as error:  # whatever diffusers stumbles over
            why = said(error, 200)
            raise ConfigError(f"generator diffusers: this unet does not take images {tuple(event)}: {why}") from error
        if found.shape != x.shape:
            shapes = f"{tuple(event)} as {tuple(found.shape[2:])}"
            raise ConfigError(f"generator diffusers: this unet returns images {shapes}: both must be alike")

    @property
    def evaluate(self) -> Callable[..., Tensor]:
        """The module, called with the parameters in the place of its own."""
        return _evaluate

    @functools.cached_property
    def _skeletons(self) -> dict[tuple[int, ...], nn.Module]:
        return {}

    def architecture(self, event: Sequence[int]) -> nn.Module:
        """Return the network for images (C, H, W) without its numbers, always the same object."""
        event = tuple(event)
        if event not in self._skeletons:
            self._skeletons[event] = self._skeleton(event)
        return self._skeletons[event]

    def loss(self, net: Net, batch: Sequence[Tensor], draws: Draws) -> Tensor:
        """Return the mean square between what the network says and what the scheduler's prediction type asks for."""
        scheduler, x0 = self._noising, batch[0].to(net.device, non_blocking=True)
        t = draws.integers("times", scheduler.config.num_train_timesteps).to(net.device, non_blocking=True)
        noise = draws.normal("noise", tuple(x0.shape[2:])).to(net.device, non_blocking=True)
        predicted = net(scheduler.add_noise(x0[0], noise[0], t[0]).unsqueeze(0), t)
        kind = scheduler.config.prediction_type
        if kind == "v_prediction":
            target = scheduler.get_velocity(x0[0], noise[0], t[0]).unsqueeze(0)
        else:
            target = noise if kind == "epsilon" else x0
        error: Tensor = predicted - target
        return error.square().flatten(2).mean(2)

    def generate(self, net: Net, noise: Noise) -> Tensor:
        """Take the scheduler's steps from noise to images."""
        scheduler = self._scheduler()
        scheduler.set_timesteps(self.steps)
        x: Tensor = noise()[0].to(net.device) * scheduler.init_noise_sigma
        # The chain draws by itself, here for each image from a generator of its own.
        told = {"generator": _generators(noise)} if self.scheduler.name == "DDPMScheduler" else {}
        for t in scheduler.timesteps:
            predicted = net(x.unsqueeze(0), t.to(net.device).view(1, 1))[0]
            x = scheduler.step(predicted, t, x, **told).prev_sample
        return x.unsqueeze(0)

    def finish(self, x: Tensor) -> Tensor:
        """Return levels as diffusers' pipelines do."""
        return rounded_levels(x)


def library() -> Any:
    """Return diffusers.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import diffusers
    except ImportError as error:
        raise ConfigError("generator diffusers needs diffusers: pip install 'selfloop[hf]'") from error
    return diffusers


def _checked(key: str, given: Mapping[str, JsonValue], kind: Any, make: Callable[[], object]) -> None:
    """Refuse arguments that a class of diffusers does not know, or cannot be made with."""
    known = [name for name in inspect.signature(kind.__init__).parameters if name != "self"]
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"{key}: {kind.__name__} has no argument {unknown[0]!r}{nearest(unknown[0], known)}")
    try:
        make()
    except Exception as error:  # whatever diffusers stumbles over
        raise ValueError(f"{key}: {' '.join(str(error).split())[:300] or type(error).__name__}") from error


def _layers(network: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the layers that have parameters, by name.

    Raises:
        ValueError: there is one that PyTorch does not draw uniformly, or that holds fixed random numbers.
    """
    for name, module in network.named_modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if own and not isinstance(module, nn.Linear | nn.Conv2d | nn.GroupNorm):
            raise ValueError(f"layers of type {type(module).__name__} are not supported")
        if own:
            yield name, module


def _evaluate(params: State, skeleton: nn.Module, x: Tensor, t: Tensor, dropout: object = None) -> Tensor:
    """Map images (1, B, C, H, W) at times (1, B) or (1, 1) to (1, B, C, H, W)."""
    one, (height, width) = {name: leaf.squeeze(0) for name, leaf in params.items()}, x.shape[-2:]
    inside = padded(x[0], len(skeleton.down_blocks) - 1)  # type: ignore[arg-type]
    found: Tensor = torch.func.functional_call(skeleton, one, (inside, t[0])).sample
    return found.unsqueeze(0)[..., :height, :width]


def _generators(noise: Noise) -> list[torch.Generator]:
    """Return a generator on the CPU for each image, seeded from the image's own stream."""
    bits = noise().flatten(2)[0, :, :2].contiguous().view(torch.int64)[:, 0]
    return [torch.Generator().manual_seed(seed) for seed in bits.tolist()]
