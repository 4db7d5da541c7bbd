"""A small GPT, trained from scratch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from selfloop.core.config import Count
from selfloop.core.samples import State
from selfloop.core.streams import Streams
from selfloop.generators.base import GENERATORS
from selfloop.generators.network import Net
from selfloop.generators.text import TextModel, Writer
from selfloop.learning.nets import gpt
from selfloop.learning.optimizer import Adam
from selfloop.learning.training import EMA, fresh, fresh_size


@GENERATORS.register
class GPT(TextModel):
    """A decoder-only transformer (Radford et al. 2019) of 4 layers and 128 numbers a token by default.

    Attributes:
        layers: blocks.
        width: of what tokens are within the network.
        heads: of attention, which share the width.
        dropout: probability that a number which a block adds is dropped in training.
    """

    name: Literal["gpt"] = "gpt"
    layers: Count = 4
    width: int = Field(default=128, gt=0, le=10**5)
    heads: Count = 4
    dropout: float = Field(default=0.0, ge=0, lt=1)
    batch_size: PositiveInt = 64
    optimizer: Adam = Adam(learning_rate=1e-3, beta2=0.99, clip=1.0)
    ema: EMA | None = None

    @model_validator(mode="after")
    def _whole_heads(self) -> GPT:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be split into {self.heads} heads of one size")
        return self

    def architecture(self, event: Sequence[int]) -> gpt.GPT:
        """Return the size of the network for rows of L of V tokens, (L, V)."""
        length, vocabulary = event
        return gpt.GPT(length, vocabulary, self.layers, self.width, self.heads, self.dropout)

    @property
    def evaluate(self) -> Callable[..., Tensor]:
        """The network, as what maps rows to their log probabilities."""
        return gpt.log_prob

    @property
    def drops(self) -> bool:
        """Whether numbers are dropped in training."""
        return self.dropout > 0

    def state_size(self, event: Sequence[int]) -> int:
        """Return the bytes of the network and of what Adam keeps of it."""
        return fresh_size(sum(map(math.prod, self.architecture(event).shapes.values())), self.ema is not None)

    def untrained(self, event: Sequence[int], streams: Streams) -> State:
        """Draw the networks."""
        return fresh(gpt.init(streams, self.architecture(event)), ema=self.ema is not None)

    def write(self, net: Net, rows: int) -> tuple[Writer, Callable[[Tensor], None]]:
        """Return the network beside the keys and values of what it has read."""
        one = replace(net, evaluate=gpt.following)
        cache = gpt.Cache(net.architecture, rows, next(iter(net.params.values())), net.dtype)
        return lambda tokens: one(tokens.unsqueeze(0), cache=cache)[0], cache.keep
