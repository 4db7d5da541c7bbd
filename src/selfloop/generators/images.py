"""What the generators of images have in common: uint8 levels, mirrored images, and most often a U-Net of our own.

Events are uint8 (C, H, W), levels 0 … 255; networks see them on [−1, 1].
"""

from __future__ import annotations

import functools
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from selfloop.core.config import EXECUTION, Count, FilePath, Frozen
from selfloop.core.errors import ConfigError
from selfloop.core.events import Kind
from selfloop.core.samples import State
from selfloop.core.streams import Streams
from selfloop.generators.base import GENERATORS
from selfloop.generators.network import Draws, Net, NetworkModel, Noise, event_noise
from selfloop.learning.nets import unet as unets
from selfloop.learning.nets.architecture import UNet
from selfloop.learning.pixels import to_interval
from selfloop.learning.training import EVENT, fresh, fresh_size


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

    channels: int = Field(ge=4, le=10**6)
    multipliers: tuple[Count, ...] = Field(min_length=1, max_length=16, strict=False)
    blocks: int = Field(gt=0, le=1000)
    attention: tuple[PositiveInt, ...] = Field(strict=False)
    dropout: float = Field(ge=0, lt=1)
    group_channels: PositiveInt | None = None


class ImageModel(NetworkModel):
    """A generator of images.

    Attributes:
        flip: whether images are mirrored with probability ½ in training.
        channels_last: whether images lie in memory pixel by pixel, which suits GPUs.
    """

    flip: bool = False
    channels_last: Annotated[bool, EXECUTION] = False

    makes: ClassVar[frozenset[Kind]] = frozenset(("images",))
    dtype: ClassVar[torch.dtype] = torch.uint8

    def network(self, params: State, event: Sequence[int], dropout: torch.Generator | None = None) -> Net:
        """Return one arm's network for images (C, H, W)."""
        net = super().network(params, event, dropout)
        return replace(net, evaluate=_by_pixel(net.evaluate)) if self.channels_last else net

    def prepare(self, events: Tensor, draws: Draws) -> tuple[Tensor, ...]:
        """Return images on [−1, 1], some of them mirrored, and what they are coupled with."""
        x = to_interval(events)
        if self.flip:
            x = torch.where(draws.integers("flip", 2).bool()[..., None, None, None], x.flip(-1), x)
        return self.couple(x, draws)

    def couple(self, x: Tensor, draws: Draws) -> tuple[Tensor, ...]:
        """Return what the loss needs of a whole batch x (1, B, C, H, W) on [−1, 1]: tensors (1, B, …) on the CPU."""
        return (x,)

    @abstractmethod
    def generate(self, net: Net, noise: Noise) -> Tensor:
        """Return (1, B, C, H, W) on [−1, 1] made of ``noise()``, that shape and on the CPU.

        All normal numbers come from there, those of its steps too: at a temperature τ their variance is τ.
        """

    def draw(self, net: Net, streams: Streams, rows: range, state: State, temperature: float) -> Tensor:
        """Return what :meth:`generate` makes of each image's own noise."""
        event = tuple(state[EVENT][0].tolist())
        return self.generate(net, event_noise(streams, rows, event, math.sqrt(temperature)))

    @abstractmethod
    def finish(self, x: Tensor) -> Tensor:
        """Return images on [−1, 1] as uint8 levels, rounded as the original does."""


def _by_pixel(evaluate: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the same function, given images (1, B, C, H, W) that lie in memory pixel by pixel."""

    def laid_out(params: State, architecture: object, x: Tensor, *others: Tensor, **told: object) -> Tensor:
        x = x.squeeze(0).contiguous(memory_format=torch.channels_last).unsqueeze(0)
        return evaluate(params, architecture, x, *others, **told)

    return laid_out


class UNetModel(ImageModel):
    """A generator of images with our own U-Net.

    Attributes:
        net: the size of the network.
        pad: whether images whose sides cannot be halved at every level are made up with zeros below and to the right,
            which are cut away again; else they are refused.
        checkpoint: a file of the original project, whose weights generation 0 begins with.
    """

    net: Size
    pad: bool = True
    checkpoint: FilePath | None = None

    @property
    def starts_from(self) -> str | None:  # type: ignore[override]
        """The checkpoint."""
        return self.checkpoint

    def refuse(self, x: Tensor) -> None:
        """Refuse a checkpoint of another network than that of images x (n, C, H, W); one that is missing is said later.

        Raises:
            DataError: as :meth:`pretrained`.
        """
        event = tuple(x.shape[1:])
        if self.checkpoint is not None and event not in self._read and Path(self.checkpoint).is_file():
            self.pretrained(Path(self.checkpoint), self.architecture(event), self._inside(event))
            self._read.add(event)

    @functools.cached_property
    def _read(self) -> set[tuple[int, ...]]:
        """The shapes of images of whose network the checkpoint was found to be."""
        return set()

    @abstractmethod
    def unet(self, event: Sequence[int]) -> UNet:
        """Return the settings of the network for events (C, H, W), whose sides can be halved at every level."""

    def architecture(self, event: Sequence[int]) -> UNet:
        """Return the settings of the network, which sees images made up to sides that can be halved at every level."""
        return self.unet(self._inside(event))

    def _inside(self, event: Sequence[int]) -> tuple[int, ...]:
        """Return the shape (C, H, W) of images as they are within the network.

        Raises:
            ConfigError: they would have to be made up, and are not to be.
        """
        channels, *sides = event
        halvings = len(self.net.multipliers) - 1
        whole = [unets.whole(side, halvings) for side in sides]
        if not self.pad and whole != sides:
            (height, width), (taller, wider) = sides, whole
            name = GENERATORS.name_of(self)
            advice = f"generator.pad true makes them up to {taller} × {wider}"
            raise ConfigError(
                f"generator {name}: images of {height} × {width} cannot be halved {halvings} times; {advice}"
            )
        return channels, *whole

    @abstractmethod
    def pretrained(self, path: Path, unet: UNet, event: Sequence[int]) -> State:
        """Return the state, R = 1, that a checkpoint of the original project holds.

        Raises:
            DataError: the file is not one, or holds another network.
        """

    @property
    def evaluate(self) -> Callable[..., Tensor]:
        """The U-Net."""
        return unets.evaluate

    @property
    def drops(self) -> bool:
        """Whether units are dropped in training."""
        return self.net.dropout > 0

    def state_size(self, event: Sequence[int]) -> int:
        """Return the bytes of the network and of what Adam keeps of it."""
        count = sum(map(math.prod, self.architecture(event).shapes.values()))
        return fresh_size(count, self.ema is not None)

    def untrained(self, event: Sequence[int], streams: Streams) -> State:
        """Draw the networks, or read them from the checkpoint."""
        unet, copies = self.architecture(event), len(streams.seeds)
        if self.checkpoint is None:
            return fresh(unets.init(streams, unet), ema=self.ema is not None)
        one = self.pretrained(Path(self.checkpoint), unet, self._inside(event))
        return {name: leaf.expand(copies, *leaf.shape[1:]).clone() for name, leaf in one.items()}
