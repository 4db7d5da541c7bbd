"""What the generators of images have in common: one U-Net each, trained image batch by image batch, sampled in chunks.

Events are uint8 (C, H, W), levels 0 … 255; networks see them on [−1, 1]. Arms are fitted one after the other: a network
of the size that images need keeps a device busy alone.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from selfloop.core.config import Frozen
from selfloop.core.errors import ConfigError
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams, generator
from selfloop.engines.device import HERE, Checkpoint, Device
from selfloop.engines.team import Team
from selfloop.learning.nets import unet as network
from selfloop.learning.nets.architecture import UNet
from selfloop.learning.optimizer import Adam
from selfloop.learning.pixels import to_interval
from selfloop.learning.training import EMA, EVENT, Batches, Blocks, Budget, averaged, fresh, train

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class Size(Frozen):
    """The size of a U-Net; what else it is made of is its family's.

    Attributes:
        channels: that the multipliers multiply.
        multipliers: of the levels, from the finest to the coarsest.
        blocks: residual blocks of a level on the way down.
        attention: heights of the levels that attend.
        dropout: probability of dropping a unit in training.
        group_channels: the fewest channels of a normalisation's group; None is the original's, and where that is 1 a
            network of 32 channels normalises each alone and so loses what a block is told of the time.
    """

    channels: int = Field(ge=4)
    multipliers: tuple[PositiveInt, ...] = Field(min_length=1, strict=False)
    blocks: PositiveInt
    attention: tuple[PositiveInt, ...] = Field(strict=False)
    dropout: float = Field(ge=0, lt=1)
    group_channels: PositiveInt | None = None


@dataclass(frozen=True)
class Draws:
    """Random numbers for single images, by how many images came before: a batch's do not depend on how it is split.

    Attributes:
        streams: of one arm.
        rows: the images.
    """

    streams: Streams
    rows: range = range(0)
    _blocks: dict[str, Blocks] = field(default_factory=dict)

    def at(self, rows: range) -> Draws:
        """Return the draws for other images."""
        return replace(self, rows=rows)

    def _span(self, purpose: str, shape: tuple[int, ...], draw: Callable[[tuple[int, ...], int], Tensor]) -> Tensor:
        blocks = self._blocks.setdefault(purpose, Blocks(draw, shape))
        return blocks.span(self.rows.start, self.rows.stop)

    def normal(self, purpose: str, shape: tuple[int, ...]) -> Tensor:
        """Draw standard normals, (1, B, *shape)."""
        return self._span(purpose, shape, lambda sizes, i: self.streams.normal(purpose, sizes, i))

    def uniform(self, purpose: str, shape: tuple[int, ...] = ()) -> Tensor:
        """Draw uniforms on [0, 1), (1, B, *shape)."""
        return self._span(purpose, shape, lambda sizes, i: self.streams.uniform(purpose, sizes, i))

    def integers(self, purpose: str, high: int, shape: tuple[int, ...] = ()) -> Tensor:
        """Draw integers from 0 … high − 1, (1, B, *shape)."""
        return self._span(purpose, shape, lambda sizes, i: self.streams.integers(purpose, high, sizes, i))


Noise = Callable[[], Tensor]


def image_noise(streams: Streams, rows: range, event: Sequence[int]) -> Noise:
    """Return what draws, call after call, standard normals (1, B, *event), for each image from a stream of its own.

    So an image does not depend on those drawn beside it: neither on how many, nor on the process.
    """
    (seed,) = streams.seeds
    own = [generator(seed, streams.generation, "latents", row) for row in rows]
    shape = tuple(event)

    def draw() -> Tensor:
        return torch.from_numpy(np.stack([rng.standard_normal(shape, dtype=np.float32) for rng in own])).unsqueeze(0)

    return draw


@dataclass(frozen=True)
class Net:
    """One arm's network with its parameters filled in.

    Attributes:
        params: leaves (1, …).
        made_of: what else there is to the network: the settings of a U-Net, or a module.
        evaluate: maps parameters, that, images, times and what a network is told by name to images.
        device: of the parameters.
        dtype: of matrix products and convolutions; None computes in float32.
        channels_last: whether images lie in memory pixel by pixel.
        dropout: draws what is dropped; None drops nothing.
    """

    params: State
    made_of: UNet | nn.Module
    evaluate: Callable[..., Tensor]
    device: torch.device
    dtype: torch.dtype | None = None
    channels_last: bool = False
    dropout: torch.Generator | None = None

    def __call__(self, x: Tensor, t: Tensor, **told: Tensor | None) -> Tensor:
        """Map images (1, B, C, H, W) at times (1, B) or (1, 1) to float32 (1, B, C, H, W)."""
        if self.channels_last:
            x = x.squeeze(0).contiguous(memory_format=torch.channels_last).unsqueeze(0)
        dropout = None if self.dropout is None else [self.dropout]
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            return self.evaluate(self.params, self.made_of, x, t, dropout=dropout, **told).float()


class ImageModel(Frozen, ABC):
    """A generator of images.

    Attributes:
        batch_size: images of a step.
        optimizer: Adam's hyperparameters.
        ema: the averaged weights that sample; None samples with the last ones.
        resume: what a retraining goes on from, the "last" weights or the "average", which then also is the average's
            beginning, as in EDM's ``--transfer``.
        flip: whether images are mirrored with probability ½ in training.
        precision: of matrix products and convolutions; sums, norms and the optimiser stay in float32.
        compile: whether the network goes through ``torch.compile``.
        channels_last: whether images lie in memory pixel by pixel, which suits GPUs.
        accumulate: parts in which a batch is worked off, for less memory.
        sample_batch: images that are drawn at once.
    """

    batch_size: PositiveInt
    optimizer: Adam
    ema: EMA | None
    resume: Literal["last", "average"] = "last"
    flip: bool = False
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool = False
    channels_last: bool = False
    accumulate: PositiveInt = 1
    sample_batch: PositiveInt = 128

    trained: ClassVar[bool] = True
    events: ClassVar[Literal["vectors", "images"]] = "images"
    dtype: ClassVar[torch.dtype] = torch.uint8
    stack: ClassVar[int] = 1

    @property
    def autocast(self) -> torch.dtype | None:
        """Of matrix products and convolutions, where it is not float32."""
        return _DTYPES.get(self.precision)

    @model_validator(mode="after")
    def _whole_parts(self) -> ImageModel:
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} cannot be split into {self.accumulate} equal parts")
        return self

    @abstractmethod
    def untrained(self, event: Sequence[int], streams: Streams) -> State:
        """Return the states with which fits of images (C, H, W) begin, as ``training.fresh`` has them."""

    @abstractmethod
    def network(self, params: State, event: Sequence[int], dropout: torch.Generator | None = None) -> Net:
        """Return one arm's network for images (C, H, W)."""

    @property
    def drops(self) -> bool:
        """Whether units are dropped in training."""
        return False

    def prepare(self, x: Tensor, draws: Draws) -> tuple[Tensor, ...]:
        """Return what the loss needs of a whole batch x (1, B, C, H, W) on [−1, 1]: tensors (1, B, …) on the CPU."""
        return (x,)

    @abstractmethod
    def loss(self, net: Net, batch: Sequence[Tensor], draws: Draws) -> Tensor:
        """Return the loss of each image of a share of what :meth:`prepare` returned; (1, B) on the net's device."""

    @abstractmethod
    def generate(self, net: Net, noise: Noise) -> Tensor:
        """Return (1, B, C, H, W) images on [−1, 1] made of ``noise()``, that shape and on the CPU."""

    @abstractmethod
    def levels(self, x: Tensor) -> Tensor:
        """Return images on [−1, 1] as uint8, rounded as the original does."""

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Draw the networks, or read them from a checkpoint; events are images (C, H, W)."""
        return self.untrained(event, streams) | {EVENT: torch.tensor([tuple(event)] * len(streams.seeds))}

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Minimise the loss over each arm's images."""
        fits = []
        for r, seed in enumerate(streams.seeds):
            one = {name: leaf[r : r + 1].to(device.team.device) for name, leaf in state.items()}
            fitted = self._fit(
                one, data.select([r]), budget, Streams((seed,), streams.generation), device.team, device.checkpoint(r)
            )
            fits.append({name: leaf.cpu() for name, leaf in fitted.items()})
        return {name: torch.cat([fitted[name] for fitted in fits]) for name in fits[0]}

    def _fit(
        self, state: State, data: Samples, budget: Budget, streams: Streams, team: Team, checkpoint: Checkpoint | None
    ) -> State:
        event, device = tuple(data.x.shape[2:]), state[EVENT].device
        size = self._share(team)
        batches, draws = Batches(data, self.batch_size, streams), Draws(streams)
        dropout = torch.Generator(device) if self.drops else None
        if self.resume == "average":
            state = state | averaged(state)

        @functools.lru_cache(maxsize=1)  # the shares of a step follow each other
        def prepared(step: int) -> tuple[Tensor, ...]:
            x = to_interval(batches[step])
            whole = draws.at(range(step * self.batch_size, (step + 1) * self.batch_size))
            if self.flip:
                x = torch.where(whole.integers("flip", 2).bool()[..., None, None, None], x.flip(-1), x)
            return self.prepare(x, whole)

        def loss(params: State, part: int) -> Tensor:
            first = part * size
            step, offset = divmod(first, self.batch_size)
            share = [tensor[:, offset : offset + size] for tensor in prepared(step)]
            if dropout is not None:
                dropout.manual_seed(int(streams.integers("dropout", 2**32, (), part)))
            net = self.network(params, event, dropout)
            return self.loss(net, share, draws.at(range(first, first + size))).mean(1)

        return train(
            state,
            loss,
            steps=budget.count(self.batch_size),
            adam=self.optimizer,
            batch_size=self.batch_size,
            ema=self.ema,
            parts=self.accumulate,
            scaled=self.precision == "float16",
            checkpoint=checkpoint,
            team=team,
        )

    def _share(self, team: Team) -> int:
        """Return how many images of a batch are worked off at once by one process.

        Raises:
            ConfigError: a batch cannot be split evenly.
        """
        if self.batch_size % (self.accumulate * team.size):
            parts = f"{self.accumulate} parts of {team.size} devices"
            raise ConfigError(f"generator.batch_size {self.batch_size} cannot be split evenly into {parts}")
        return self.batch_size // (self.accumulate * team.size)

    @torch.no_grad()
    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE) -> Tensor:
        """Draw (R, n, C, H, W) uint8 images; NaN, and floats therefore, where an arm's are not finite."""
        drawn = []
        for r, seed in enumerate(streams.seeds):
            one = {name: leaf[r : r + 1].to(device.team.device) for name, leaf in state.items()}
            drawn.append(self._sample(one, n, Streams((seed,), streams.generation), device.team))
        return torch.cat(drawn) if len(drawn) > 1 else drawn[0]

    def _sample(self, state: State, n: int, streams: Streams, team: Team) -> Tensor:
        event = tuple(state[EVENT][0].tolist())
        net = self.network(averaged(state), event)
        images = torch.zeros(1, n, *event, dtype=torch.uint8, device=team.device)
        lost = torch.zeros(1, device=team.device)
        for start in range(0, n, self.sample_batch)[team.rank :: team.size]:
            rows = range(start, min(start + self.sample_batch, n))
            x = self.generate(net, image_noise(streams, rows, event))
            lost += ~torch.isfinite(x).all()
            images[:, rows.start : rows.stop] = self.levels(x)
        team.all_reduce([lost])
        if lost.any():
            return torch.full((), torch.nan).expand(1, n, *event)
        team.all_reduce([images])  # where one process has an image, the others have zeros
        return images.cpu()


class UNetModel(ImageModel):
    """A generator of images with our own U-Net.

    Attributes:
        net: the size of the network.
        checkpoint: a file of the original project, whose weights generation 0 begins with.
    """

    net: Size
    checkpoint: str | None = None

    @abstractmethod
    def unet(self, event: Sequence[int]) -> UNet:
        """Return the settings of the network for events (C, H, W)."""

    @abstractmethod
    def pretrained(self, path: Path, unet: UNet, event: Sequence[int]) -> State:
        """Return the state, R = 1, that a checkpoint of the original project holds.

        Raises:
            DataError: the file is not one, or holds another network.
        """

    def untrained(self, event: Sequence[int], streams: Streams) -> State:
        """Draw the networks, or read them from the checkpoint."""
        unet, copies = self.unet(event), len(streams.seeds)
        if self.checkpoint is None:
            return fresh(network.init(streams, unet), ema=self.ema is not None)
        one = self.pretrained(Path(self.checkpoint), unet, event)
        return {name: leaf.expand(copies, *leaf.shape[1:]).clone() for name, leaf in one.items()}

    @property
    def drops(self) -> bool:
        """Whether units are dropped in training."""
        return self.net.dropout > 0

    @functools.cached_property
    def _evaluate(self) -> Callable[..., Tensor]:
        return torch.compile(network.evaluate) if self.compile else network.evaluate

    def network(self, params: State, event: Sequence[int], dropout: torch.Generator | None = None) -> Net:
        """Return one arm's U-Net."""
        device = next(iter(params.values())).device
        return Net(params, self.unet(event), self._evaluate, device, self.autocast, self.channels_last, dropout)
