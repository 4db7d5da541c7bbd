"""What a U-Net is made of: its settings, the steps that they amount to, and the layers of each.

DDPM++ (Song et al. 2021, as Karras et al. 2022 have it), the network of guided diffusion (Dhariwal & Nichol 2021, as
torchcfm has it) and that of DDPM (Ho et al. 2020, as ddpm-torch has it) are built of the same steps; what they do
differently is a setting.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from selfloop.core.config import Frozen

Frequencies = Literal["exponential", "power", "cosines"]


class Style(Frozen):
    """What U-Nets do differently within a block; the defaults are ddpm-torch's.

    Attributes:
        group_channels: the fewest channels of a normalisation's group; there are 32 groups where that allows it.
        eps: added to a group's variance.
        adaptive_scale: whether the embedding scales and shifts after the second norm; else it shifts before it.
        heads: of attention.
        head_channels: channels of a head; if given, it decides how many heads there are.
        qkv: the order of the channels from which queries, keys and values are cut: "interleaved" (head, channel, which
            of the three), "by head" (head, which, channel) or "blocks" (which, head, channel).
        skip_scale: factor on the sum of a residual branch and what it is added to.
        resample: how the resolution changes: by a residual "block" that averages 2×2 pixels or repeats each; by a
            "conv" of stride 2, zeros around the image, or a convolution after the pixels were repeated; or by a "padded
            conv", which differs from it in that its zeros are below and to the right of the image only.
        project_resampled: whether a resampling block has a 1×1 convolution beside its branch.
        dropout: probability that a unit before a block's last convolution is dropped in training.
        init: "xavier" draws weights uniform on ±√(6/(fan_in + fan_out)) and zero biases; "kaiming", PyTorch's default,
            weights and biases uniform on ±1/√fan_in.
        output_gain: factor on the initial values of the last layer of each branch and of the network.
        qkv_gain: factor on those of attention's first layer.
    """

    group_channels: PositiveInt = 1
    eps: PositiveFloat = 1e-6
    adaptive_scale: bool = False
    heads: PositiveInt = 1
    head_channels: PositiveInt | None = None
    qkv: Literal["interleaved", "by head", "blocks"] = "blocks"
    skip_scale: PositiveFloat = 1.0
    resample: Literal["block", "conv", "padded conv"] = "padded conv"
    project_resampled: bool = True
    dropout: float = Field(default=0.0, ge=0, lt=1)
    init: Literal["xavier", "kaiming"] = "xavier"
    output_gain: float = Field(default=1e-5, ge=0)
    qkv_gain: float = Field(default=1.0, ge=0)

    def groups(self, channels: int) -> int:
        """Return how many groups ``channels`` are normalised in."""
        return min(32, channels // self.group_channels)

    def heads_of(self, channels: int) -> int:
        """Return how many heads attend over ``channels``."""
        return channels // self.head_channels if self.head_channels else self.heads


@dataclass(frozen=True)
class Step:
    """One step on a U-Net's way: a residual block or a change of resolution.

    Attributes:
        stage: "down" to the coarsest level, in the "middle", or "up" again.
        level: at which it lies, counted from 0, the finest; a change of resolution belongs to the level that it leaves.
        index: its place in that level.
        inputs: channels that it reads, those of a joined skip connection included.
        outputs: channels that it returns.
        attention: whether its output attends to itself.
        resample: the way in which it changes the resolution.
    """

    stage: Literal["down", "middle", "up"]
    level: int
    index: int
    inputs: int
    outputs: int
    attention: bool = False
    resample: Literal["down", "up"] | None = None

    @property
    def name(self) -> str:
        """What the names of its parameters begin with."""
        return f"{self.stage}.{self.level}.{self.index}"

    @property
    def joins(self) -> bool:
        """Whether the newest of the skip connections is joined to its input."""
        return self.stage == "up" and self.resample is None


@dataclass(frozen=True)
class Layer:
    """The shape of a layer's weight, (out, in), (out, in, k, k) or a norm's (channels,), and its initial gain."""

    shape: tuple[int, ...]
    gain: float = 1.0
    bias: bool = True


def layers_of(style: Style, step: Step, embedding: int) -> dict[str, Layer]:
    """Return a step's layers by their names within it; ``embedding`` is the width of the embedding."""
    old, new = step.inputs, step.outputs
    if step.resample and style.resample != "block":
        return {"conv": Layer((new, old, 3, 3))}
    found = {
        "norm1": Layer((old,)),
        "conv1": Layer((new, old, 3, 3)),
        "embed": Layer(((1 + style.adaptive_scale) * new, embedding)),
        "norm2": Layer((new,)),
        "conv2": Layer((new, new, 3, 3), style.output_gain),
    }
    if old != new or (step.resample and style.project_resampled):
        found["skip"] = Layer((new, old, 1, 1))
    if step.attention:
        found["attention.norm"] = Layer((new,))
        found["attention.qkv"] = Layer((3 * new, new, 1, 1), style.qkv_gain)
        found["attention.out"] = Layer((new, new, 1, 1), style.output_gain)
    return found


class UNet(Frozen):
    """A U-Net's settings; the defaults are ddpm-torch's on CIFAR-10, without dropout.

    Attributes:
        image_channels: of the images that it reads.
        out_channels: of those that it returns.
        channels: that the multipliers multiply; also the width of the sines and cosines of times.
        multipliers: of the levels, from the finest to the coarsest.
        blocks: residual blocks of a level on the way down; on the way up there is one more.
        attention: levels whose blocks attend, 0 the finest; the first block in the middle always does.
        last_attends: on the way up only a level's last block attends.
        embedding: width of the embedding of times and labels.
        frequencies: of the sines and cosines; see :func:`selfloop.learning.nets.blocks.embed`.
        labels: numbers that describe an image's class, one for each class; 0 for a network that knows no classes.
        augment: numbers that describe how an image was augmented.
        wide_stem: whether the first convolution returns ``channels`` times the first multiplier.
        style: of the blocks.
    """

    image_channels: PositiveInt = 3
    out_channels: PositiveInt = 3
    channels: int = Field(default=128, ge=4)
    multipliers: tuple[PositiveInt, ...] = Field(default=(1, 2, 2, 2), min_length=1)
    blocks: PositiveInt = 2
    attention: tuple[NonNegativeInt, ...] = (1,)
    last_attends: bool = False
    embedding: PositiveInt = 512
    frequencies: Frequencies = "exponential"
    labels: NonNegativeInt = 0
    augment: NonNegativeInt = 0
    wide_stem: bool = False
    style: Style = Style()

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.channels * multiplier for multiplier in self.multipliers)

    @property
    def stem(self) -> int:
        """Channels that the first convolution returns."""
        return self.widths[0] if self.wide_stem else self.channels

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in the order in which they are taken."""
        down, last, deepest = tuple(self._down()), len(self.widths) - 1, self.widths[-1]
        middle = (Step("middle", last, index, deepest, deepest, attention=index == 0) for index in range(2))
        return (*down, *middle, *self._up([self.stem, *(step.outputs for step in down)]))

    def _down(self) -> Iterator[Step]:
        width = self.stem
        for level, new in enumerate(self.widths):
            for index in range(self.blocks):
                yield Step("down", level, index, width, new, level in self.attention)
                width = new
            if level + 1 < len(self.widths):
                yield Step("down", level, self.blocks, width, width, resample="down")

    def _up(self, skips: list[int]) -> Iterator[Step]:
        width = self.widths[-1]
        for level, new in reversed(list(enumerate(self.widths))):
            for index in range(self.blocks + 1):
                attends = level in self.attention and (index == self.blocks or not self.last_attends)
                yield Step("up", level, index, width + skips.pop(), new, attends)
                width = new
            if level > 0:
                yield Step("up", level, self.blocks + 1, width, width, resample="up")

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """All layers by name."""
        found: dict[str, Layer] = {}
        if self.labels:
            found["embed.label"] = Layer((self.channels, self.labels))
        if self.augment:
            found["embed.augment"] = Layer((self.channels, self.augment), bias=False)
        found["embed.0"] = Layer((self.embedding, self.channels))
        found["embed.1"] = Layer((self.embedding, self.embedding))
        found["stem"] = Layer((self.stem, self.image_channels, 3, 3))
        for step in self.steps:
            for name, layer in layers_of(self.style, step, self.embedding).items():
                found[f"{step.name}.{name}"] = layer
        width = self.steps[-1].outputs
        found["out.norm"] = Layer((width,))
        found["out.conv"] = Layer((self.out_channels, width, 3, 3), self.style.output_gain)
        return found

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter of one copy, by name."""
        found: dict[str, tuple[int, ...]] = {}
        for name, layer in self.layers.items():
            found[f"{name}.weight"] = layer.shape
            if layer.bias:
                found[f"{name}.bias"] = layer.shape[:1]
        return found

    @model_validator(mode="after")
    def _fits_together(self) -> UNet:
        if self.channels % 2:
            raise ValueError(f"channels is {self.channels}: half of the embedding are sines and half cosines")
        if extra := [level for level in self.attention if level >= len(self.multipliers)]:
            raise ValueError(f"attention names level {extra[0]}, and the coarsest is {len(self.multipliers) - 1}")
        for name, layer in self.layers.items():
            channels, groups = layer.shape[0], self.style.groups(layer.shape[0])
            if len(layer.shape) == 1 and (groups == 0 or channels % groups):
                raise ValueError(f"{name} cannot normalise {channels} channels in {groups} groups of one size")
        for step in self.steps:
            heads = self.style.heads_of(step.outputs)
            whole = step.outputs if self.style.head_channels is None else heads * self.style.head_channels
            if step.attention and (heads == 0 or step.outputs % heads or whole != step.outputs):
                raise ValueError(f"{step.name} cannot split {step.outputs} channels into heads of one size")
        return self
