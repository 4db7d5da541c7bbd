"""A UNet2DModel of Hugging Face's diffusers and one of its schedulers as a generator (extra ``hf``)."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, JsonValue, PositiveInt, ValidationInfo, field_validator, model_validator
from torch import Tensor, nn

from selfloop.core.capabilities import Capability
from selfloop.core.config import Count, FilePath, Frozen, newer
from selfloop.core.errors import ConfigError, nearest, said, to_install
from selfloop.core.samples import State
from selfloop.core.streams import Streams
from selfloop.generators.base import GENERATORS
from selfloop.generators.classes import OfClasses
from selfloop.generators.images import ImageModel
from selfloop.generators.network import Draws, Net, Noise
from selfloop.generators.pretrained_diffusers import pretrained
from selfloop.interop.diffusers import read_config, weights_file
from selfloop.learning.nets.unet import padded
from selfloop.learning.optimizer import Adam
from selfloop.learning.pixels import rounded_levels
from selfloop.learning.training import EMA, fresh, fresh_size

_FROM_DATA = ("sample_size", "in_channels", "out_channels")
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
class Diffusers(OfClasses, ImageModel):
    """Denoising diffusion with the network and the scheduler of diffusers; nothing is fetched.

    Attributes:
        checkpoint: pretrained weights that generation 0 begins with: a folder as ``save_pretrained`` makes it, with
            ``config.json`` and ``diffusion_pytorch_model.safetensors`` (or ``.bin``, of which nothing is run), or one
            file of weights.
        unet: arguments of UNet2DModel, but for those that follow from the images and their classes; where they are left
            out, those in the folder's ``config.json``.
        scheduler: what adds noise, and takes it away again.
        steps: of the sampler (``num_inference_steps``).
    """

    name: Literal["diffusers"] = "diffusers"
    checkpoint: FilePath | None = newer(None)
    unet: dict[str, JsonValue] = Field(default_factory=dict, validate_default=True)
    batch_size: PositiveInt = 128
    optimizer: Adam = Adam(learning_rate=2e-4, clip=1.0)
    ema: EMA | None = EMA(decay=0.9999, growing=True)
    flip: bool = False
    scheduler: Scheduler = Scheduler()
    steps: Count = 100

    @model_validator(mode="after")
    def _can_be_made(self) -> Diffusers:
        for name in (*_FROM_DATA, "num_class_embeds"):
            if name in self.unet:
                why = "the data" if name in _FROM_DATA else "conditional.classes"
                raise ValueError(f"unet.{name} follows from {why}: leave it out")
        kind = self.unet.get("class_embed_type")
        if kind is not None and (kind != "timestep" or self.conditional is None):
            only = "may be timestep alone" if self.conditional is not None else "is for classes: give conditional"
            raise ValueError(f"unet.class_embed_type {only}, or leave it out")
        if self.conditional is not None and self.conditional.dropout:
            raise ValueError("conditional.dropout: UNet2DModel has no input for an unknown class: leave it out")
        if self.unet.get("dropout"):
            raise ValueError("unet.dropout draws from torch's global generator: leave it out")
        if find_spec("diffusers") is not None:  # a run can be read without it
            _checked("unet", self.unet, library().UNet2DModel, lambda: self._skeleton((1, 8, 8)))
            _checked("scheduler.arguments", self.scheduler.arguments, self._kind, self._scheduler)
        return self

    @field_validator("unet")
    @classmethod
    def _of_folder(cls, unet: dict[str, JsonValue], info: ValidationInfo) -> dict[str, JsonValue]:
        """Return the arguments in the checkpoint's folder too, so that a run has them where the folder is gone."""
        folder = info.data.get("checkpoint")
        config = None if folder is None else read_config(Path(folder))
        if config is None and not unet:
            raise ValueError("give the arguments of UNet2DModel, or a checkpoint that is a folder with config.json")
        if config is None:
            return unet
        for name, value in unet.items():
            if config.arguments.get(name, value) != value:
                raise ValueError(
                    f"{name} is {config.arguments[name]!r} in the checkpoint's config.json: leave unet out"
                )
        return config.arguments | unet

    @property
    def starts_from(self) -> str | None:  # type: ignore[override]
        """The file of the checkpoint's weights."""
        return None if self.checkpoint is None else str(weights_file(Path(self.checkpoint)))

    @property
    def offers(self) -> frozenset[Capability]:  # type: ignore[override]
        """What all networks have, but that the steps of DDPMScheduler draw for themselves, at no temperature."""
        return super().offers - ({"temperature"} if self.scheduler.name == "DDPMScheduler" else set())

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
        numbered = self.conditional is not None and self.unet.get("class_embed_type") is None
        classes = {"num_class_embeds": self.classes} if numbered else {}
        with torch.device("meta"):
            made: nn.Module = library().UNet2DModel(
                sample_size=(height, width), in_channels=channels, out_channels=channels, **classes, **self.unet
            )
        list(_layers(made))
        return made

    def state_size(self, event: Sequence[int]) -> int:
        """Return the bytes of the network and of what Adam keeps of it."""
        skeleton = self._skeleton(event)
        self._refuse_unfit(skeleton, event)
        return fresh_size(sum(leaf.numel() for leaf in skeleton.parameters()), self.ema is not None)

    def untrained(self, event: Sequence[int], streams: Streams) -> State:
        """Draw the networks as PyTorch does, weights and biases uniform on ±1/√fan_in, or read them."""
        params: State = {}
        skeleton = self._skeleton(event)
        if self.checkpoint is not None:
            one = pretrained(Path(self.checkpoint), skeleton, event, self.classes)
            copies = {name: leaf.expand(len(streams.seeds), *leaf.shape).clone() for name, leaf in one.items()}
            return fresh(copies, ema=self.ema is not None)
        for name, layer in _layers(skeleton):
            for leaf, like in layer.named_parameters(recurse=False):
                key, shape = f"{name}.{leaf}", tuple(like.shape)
                if isinstance(layer, nn.GroupNorm):
                    params[key] = torch.full((len(streams.seeds), *shape), float(leaf == "weight"))
                elif isinstance(layer, nn.Embedding):
                    params[key] = streams.normal(f"init/{key}", shape)
                else:
                    bound = 1 / math.sqrt(math.prod(layer.weight.shape[1:]))
                    params[key] = (2 * streams.uniform(f"init/{key}", shape) - 1) * bound
        return fresh(params, ema=self.ema is not None)

    def refuse(self, x: Tensor) -> None:
        """Refuse a checkpoint of another network than that of images x (n, C, H, W); one that is missing is said later.

        Raises:
            DataError: as :func:`pretrained`.
        """
        event, file = tuple(x.shape[1:]), self.starts_from
        if self.checkpoint is not None and event not in self._read and Path(file or "").is_file():
            pretrained(Path(self.checkpoint), self._skeleton(event), event, self.classes)
            self._read.add(event)

    @functools.cached_property
    def _read(self) -> set[tuple[int, ...]]:
        """The shapes of images of whose network the checkpoint was found to be."""
        return set()

    def tell(self, net: Net, labels: Tensor) -> Net:
        """Return the network, told of classes by their numbers."""
        return replace(net, evaluate=functools.partial(net.evaluate, labels=labels.to(net.device)))

    def _refuse_unfit(self, skeleton: nn.Module, event: Sequence[int]) -> None:
        """Refuse a network that cannot take images (C, H, W), by the shapes alone."""
        x, t = torch.empty(1, 1, *event, device="meta"), torch.zeros(1, 1, device="meta")
        labels = None if self.conditional is None else torch.zeros(1, 1, dtype=torch.int64, device="meta")
        params = {name: leaf.unsqueeze(0) for name, leaf in skeleton.named_parameters()}
        try:
            found = _evaluate(params, skeleton, x, t, labels=labels)
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
        raise ConfigError(to_install("generator diffusers", "diffusers", "hf")) from error
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
        ValueError: there is one of which it is not known how PyTorch draws it, or that holds fixed random numbers.
    """
    for name, module in network.named_modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if own and not isinstance(module, nn.Linear | nn.Conv2d | nn.GroupNorm | nn.Embedding):
            raise ValueError(f"layers of type {type(module).__name__} are not supported")
        if own:
            yield name, module


def _evaluate(
    params: State, skeleton: nn.Module, x: Tensor, t: Tensor, dropout: object = None, labels: Tensor | None = None
) -> Tensor:
    """Map images (1, B, C, H, W) at times (1, B) or (1, 1), of classes (1, B), to (1, B, C, H, W)."""
    one, (height, width) = {name: leaf.squeeze(0) for name, leaf in params.items()}, x.shape[-2:]
    inside = padded(x[0], len(skeleton.down_blocks) - 1)  # type: ignore[arg-type]
    told = {} if labels is None else {"class_labels": labels[0]}
    found: Tensor = torch.func.functional_call(skeleton, one, (inside, t[0]), told).sample
    return found.unsqueeze(0)[..., :height, :width]


def _generators(noise: Noise) -> list[torch.Generator]:
    """Return a generator on the CPU for each image, seeded from the image's own stream."""
    bits = noise().flatten(2)[0, :, :2].contiguous().view(torch.int64)[:, 0]
    return [torch.Generator().manual_seed(seed) for seed in bits.tolist()]
