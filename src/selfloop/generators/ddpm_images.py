"""DDPM on images: ddpm-torch's CIFAR-10 network and training, sampled by DDIM as the paper's driver does."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from selfloop.core.samples import State
from selfloop.generators.base import GENERATORS
from selfloop.generators.images import Size, UNetModel
from selfloop.generators.network import Draws, Net, Noise
from selfloop.generators.pretrained import pretrained
from selfloop.learning.diffusion import prediction_loss
from selfloop.learning.nets import names, presets
from selfloop.learning.nets.architecture import UNet
from selfloop.learning.optimizer import Adam, Ramp
from selfloop.learning.pixels import rounded_levels
from selfloop.learning.samplers import ancestral, ddim
from selfloop.learning.schedule import Schedule, quadratic_steps, refuse_falling
from selfloop.learning.training import EMA


@GENERATORS.register
class DDPMImages(UNetModel):
    """Denoising diffusion that predicts the noise (Ho et al. 2020).

    The defaults are those of ddpm-torch on CIFAR-10, and DDIM over 100 quadratic steps, as in the paper's driver. The
    rise of the learning rate over 5,000 batches belongs to the optimiser: one that is carried over is past it.

    Attributes:
        timesteps: T.
        beta_start: β_1 of the linear schedule.
        beta_end: β_T.
        sampler: "ddim", or "ancestral", the chain over all T steps.
        steps: of DDIM, quadratic; its last is 0.8 T, as in ddpm-torch.
        eta: of DDIM, 0 without fresh noise and 1 with as much as the chain adds.
        variance: of the chain, "fixed-large" (β_t) or "fixed-small" (β̃_t).
    """

    name: Literal["ddpm_images"] = "ddpm_images"
    net: Size = Size(channels=128, multipliers=(1, 2, 2, 2), blocks=2, attention=(16,), dropout=0.1)
    batch_size: PositiveInt = 128
    optimizer: Adam = Adam(learning_rate=2e-4, clip=1.0, ramp=Ramp(samples=5_000 * 128))
    ema: EMA | None = EMA(decay=0.9999, growing=True)
    flip: bool = True
    timesteps: int = Field(default=1000, ge=3, le=10**6)
    beta_start: PositiveFloat = 1e-4
    beta_end: float = Field(default=0.02, gt=0, lt=1)
    sampler: Literal["ddim", "ancestral"] = "ddim"
    steps: int = Field(default=100, ge=2, le=10**6)
    eta: NonNegativeFloat = 0.0
    variance: Literal["fixed-large", "fixed-small"] = "fixed-large"

    @model_validator(mode="after")
    def _steps_of_the_schedule(self) -> DDPMImages:
        quadratic_steps(self.timesteps, self.steps)
        refuse_falling(self.beta_start, self.beta_end)
        return self

    @cached_property
    def schedule(self) -> Schedule:
        """The β schedule and its derived tables."""
        return Schedule.linear(self.beta_start, self.beta_end, self.timesteps)

    def unet(self, event: Sequence[int]) -> UNet:
        """Return ddpm-torch's network."""
        size = self.net
        return presets.ddpm(
            in_channels=event[0],
            hid_channels=size.channels,
            out_channels=event[0],
            ch_multipliers=size.multipliers,
            num_res_blocks=size.blocks,
            apply_attn=[event[1] >> level in size.attention for level in range(len(size.multipliers))],
            drop_rate=size.dropout,
            group_channels=size.group_channels,
        )

    def pretrained(self, path: Path, unet: UNet, event: Sequence[int]) -> State:
        """Read a checkpoint of ddpm-torch."""
        return pretrained(path, "ddpm", names.DDPM_TORCH, unet, self.ema is not None)

    def loss(self, net: Net, batch: Sequence[Tensor], draws: Draws) -> Tensor:
        """Return the mean square of ε − ε_θ(x_t, t) per image (Ho et al. 2020, Eq. 14)."""
        x0 = batch[0].to(net.device, non_blocking=True)
        t = draws.integers("times", self.timesteps)
        noise = draws.normal("noise", tuple(x0.shape[2:])).to(net.device, non_blocking=True)
        return prediction_loss(self.schedule, net, x0, t, noise).flatten(2).mean(2)

    def generate(self, net: Net, noise: Noise) -> Tensor:
        """Run DDIM, or the whole chain, with every predicted image kept within [−1, 1]."""
        latents = noise().to(net.device)

        def predict(x: Tensor, t: int) -> Tensor:
            return net(x, x.new_full((1, 1), t))

        def fresh(step: int) -> Tensor:
            return noise().to(net.device)

        if self.sampler == "ancestral":
            return ancestral(predict, latents, self.schedule, fresh, self.variance, clamp=True)
        times: np.ndarray = quadratic_steps(self.timesteps, self.steps)
        return ddim(predict, latents, self.schedule, times, eta=self.eta, noise=fresh, clamp=True)

    def finish(self, x: Tensor) -> Tensor:
        """Return levels as ddpm-torch does."""
        return rounded_levels(x)
