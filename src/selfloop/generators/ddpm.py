"""DDPM on vectors (Ho et al. 2020) with ddpm-torch's toy decoder, schedule, loss and ancestral sampler."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.generators.base import GENERATORS, Sampler, latents
from selfloop.learning.head import Head, Way, told
from selfloop.learning.nets.mlp import decoder, decoder_init, decoder_shift
from selfloop.learning.optimizer import Adam
from selfloop.learning.samplers import Schedule, ancestral
from selfloop.learning.schedule import refuse_falling
from selfloop.learning.training import EMA, Batches, Blocks, Budget, averaged, fresh, fresh_size, train


@GENERATORS.register
class DDPM(Sampler):
    """Denoising diffusion that predicts the noise; the defaults are those of ddpm-torch's toy experiments.

    ddpm-torch draws training times from 0 … T − 2, so that its network never sees the time at which sampling starts;
    here they are drawn from all T.

    Attributes:
        width: hidden width of the decoder.
        layers: how often its one temporal layer is applied.
        timesteps: T.
        beta_start: β_1 of the linear schedule.
        beta_end: β_T.
        variance: of a reverse step, "fixed-large" (β_t) or "fixed-small" (β̃_t).
        categories: "softmax" gives the network a head: its outputs for a category are logits, which cross-entropy
            trains, of the levels of x_0, and their probabilities say what the noise is; or categories are learned
            "one-hot", as numbers.
        batch_size: rows per step and arm.
        optimizer: Adam's hyperparameters.
        ema: the averaged weights that sample; None samples with the last ones.
    """

    name: Literal["ddpm"] = "ddpm"
    width: int = Field(default=128, ge=4, le=10**6)
    layers: int = Field(default=3, gt=0, le=1000)
    timesteps: int = Field(default=100, ge=2, le=10**6)
    beta_start: PositiveFloat = 1e-3
    beta_end: float = Field(default=0.2, gt=0, lt=1)
    variance: Literal["fixed-large", "fixed-small"] = "fixed-large"
    categories: Way = "softmax"
    batch_size: PositiveInt = 1000
    optimizer: Adam = Adam(beta1=0.5)
    ema: EMA | None = None

    trained: ClassVar[bool] = True
    offers: ClassVar[frozenset[Capability]] = frozenset(("parameters", "temperature"))
    stack: ClassVar[int] = 8

    @model_validator(mode="after")
    def _noise_rises(self) -> DDPM:
        refuse_falling(self.beta_start, self.beta_end)
        return self

    @cached_property
    def schedule(self) -> Schedule:
        """The β schedule and its derived tables."""
        return Schedule.linear(self.beta_start, self.beta_end, self.timesteps)

    def state_size(self, event: Sequence[int]) -> int:
        """Return the bytes of the network and of what Adam keeps of it."""
        (d,), w = event, self.width
        return fresh_size(4 * w**2 + 2 * d * w + d + 8 * w, self.ema is not None)

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Draw the networks; events are vectors (d,)."""
        (d,) = event
        return fresh(decoder_init(streams, d, self.width), ema=self.ema is not None)

    def _noisy(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return √ᾱ_t and √(1 − ᾱ_t) at times of any shape, (…, 1) both."""
        alphas_bar = self.schedule.alphas_bar
        tables = np.sqrt(alphas_bar), np.sqrt(1 - alphas_bar)
        signal, sigma = (torch.from_numpy(table).float()[t].unsqueeze(-1) for table in tables)
        return signal, sigma

    def loss(self, params: State, x0: Tensor, t: Tensor, noise: Tensor, head: Head | None = None) -> Tensor:
        """Return ‖ε − ε_θ(x_t, t)‖²/d per row, (R, B), of (R, B, d) data at times t (R, B) (Ho et al., Eq. 14).

        A category of a head has the cross-entropy of its level in place of its squares.
        """
        signal, sigma = self._noisy(t)
        outputs = decoder(params, signal * x0 + sigma * noise, self._shift(params, t), self.layers)
        return (head or Head((), x0.shape[2])).loss(outputs, noise, x0).mean(-1)

    def _shift(self, params: State, t: Tensor) -> Tensor:
        """Return the decoder's shifts at t (R, B), from a table of all times where that is the shorter way."""
        if t.shape[1] < self.timesteps:
            return decoder_shift(params, t)
        table = decoder_shift(params, torch.arange(self.timesteps).expand(len(t), -1))
        return table.gather(1, t.unsqueeze(-1).expand(-1, -1, table.shape[2]))

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Minimise the simplified DDPM loss."""
        b, d = self.batch_size, data.x.shape[2]
        state = told(state, data, self.categories)
        head = Head.of(state, d)
        batches = Batches(data, b, streams)
        noise = Blocks(lambda shape, i: streams.normal("noise", shape, i), (b, d))
        times = Blocks(lambda shape, i: streams.integers("times", self.timesteps, shape, i), (b,))

        def loss(params: State, step: int) -> Tensor:
            return self.loss(params, batches[step], times[step], noise[step], head).mean(1)

        return train(
            state,
            loss,
            steps=budget.count(b),
            adam=self.optimizer,
            batch_size=b,
            ema=self.ema,
            checkpoint=device.checkpoint(0),
        )

    @torch.no_grad()
    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE, temperature: float = 1.0) -> Tensor:
        """Run the ancestral chain from N(0, τI), τ being the temperature; each step's noise has the variance τ, too."""
        params, times = averaged(state), torch.arange(self.timesteps)
        shape = (n, params["out_fc.bias"].shape[1])
        shifts = decoder_shift(params, times.expand(len(streams.seeds), -1))
        head, (signal, sigma) = Head.of(state, shape[1]), self._noisy(times)

        def noise(x: Tensor, t: int) -> Tensor:
            outputs = decoder(params, x, shifts[:, t : t + 1], self.layers)
            if not head.categories:
                return outputs
            return torch.where(head.numbers, outputs, (x - signal[t] * head.mean(outputs)) / sigma[t])

        return ancestral(
            noise,
            latents(streams, shape, temperature),
            self.schedule,
            # The chain's noise belongs to the latents: "common latents" makes both the same in every generation.
            lambda i: latents(streams, shape, temperature, i + 1),
            self.variance,
        )
