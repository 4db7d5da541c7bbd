"""EDM on images: DDPM++ behind EDM's or VP's preconditioning, and Heun's sampler (Karras et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from selfloop.core.config import Count, Frozen, Real
from selfloop.core.samples import State
from selfloop.generators.base import GENERATORS
from selfloop.generators.images import Size, UNetModel
from selfloop.generators.network import Draws, Net, Noise
from selfloop.generators.pretrained import pretrained
from selfloop.learning import augmentation, diffusion
from selfloop.learning.augmentation import LABELS, NORMALS, UNIFORMS
from selfloop.learning.diffusion import denoise, denoising_loss
from selfloop.learning.nets import names, presets
from selfloop.learning.nets.architecture import UNet
from selfloop.learning.optimizer import Adam, Ramp
from selfloop.learning.pixels import truncated_levels
from selfloop.learning.samplers import Churn, heun, noise_levels
from selfloop.learning.training import EMA


class Stochastic(Frozen):
    """Fresh noise in EDM's sampler (Karras et al. 2022, Algorithm 2).

    Attributes:
        churn: S_churn, how much over all steps.
        least: S_min, the least noise level at which it is added.
        greatest: S_max, the greatest.
        deviation: S_noise, its standard deviation.
    """

    churn: NonNegativeFloat
    least: NonNegativeFloat = 0.0
    greatest: Real = float("inf")
    deviation: PositiveFloat = 1.0


@GENERATORS.register
class EDM(UNetModel):
    """The denoiser of Karras et al. 2022; the defaults are those with which the paper's driver runs EDM on CIFAR-10.

    That driver calls EDM's ``train.py --transfer`` for every retraining: weights and average both go on from the last
    average (``resume: average``), Adam begins anew (the experiment's ``optimizer: reset``), and the learning rate rises
    from 0 over ten million images in each (``ramp.restart``), so that after a million it is a tenth of the one named.
    The paper says that the optimiser is saved: ``optimizer: carry`` and a ramp that does not restart do that.

    Attributes:
        preconditioning: "edm", or "vp", that of Song et al. 2021 behind the same network.
        augment: probability of each of the geometric changes that EDM augments with and tells the network of; 0 turns
            them off, and mirroring with them.
        steps: of the sampler, each but the last of two evaluations.
        sigma_min: the least noise level of the sampler above 0.
        sigma_max: the greatest.
        rho: how much denser the small noise levels are.
        stochastic: fresh noise in the sampler; None is the deterministic one.
    """

    name: Literal["edm"] = "edm"
    net: Size = Size(channels=128, multipliers=(2, 2, 2), blocks=4, attention=(16,), dropout=0.13)
    batch_size: PositiveInt = 256
    optimizer: Adam = Adam(learning_rate=1e-3, ramp=Ramp(samples=10_000_000, first="nothing", restart=True))
    ema: EMA | None = EMA(half_life=500_000)
    resume: Literal["last", "average"] = "average"
    preconditioning: Literal["edm", "vp"] = "edm"
    augment: float = Field(default=0.12, ge=0, le=1)
    steps: Count = 18
    sigma_min: PositiveFloat = 0.002
    sigma_max: PositiveFloat = 80.0
    rho: PositiveFloat = 7.0
    stochastic: Stochastic | None = None

    @property
    def _column(self) -> diffusion.Preconditioning:
        return diffusion.EDM() if self.preconditioning == "edm" else diffusion.VP()

    def unet(self, event: Sequence[int]) -> UNet:
        """Return DDPM++, told of augmentations where there are any."""
        channels, height, _ = event
        return presets.ddpmpp(
            img_resolution=height,
            img_channels=channels,
            augment_dim=LABELS if self.augment else 0,
            model_channels=self.net.channels,
            channel_mult=self.net.multipliers,
            num_blocks=self.net.blocks,
            attn_resolutions=self.net.attention,
            dropout=self.net.dropout,
            group_channels=self.net.group_channels,
        )

    def pretrained(self, path: Path, unet: UNet, event: Sequence[int]) -> State:
        """Read a network snapshot or training state of EDM."""
        return pretrained(path, "edm", names.edm(event[1]), unet, self.ema is not None)

    def loss(self, net: Net, batch: Sequence[Tensor], draws: Draws) -> Tensor:
        """Return EDM's loss, a sum over the image's levels (Karras et al. 2022, Eq. 2)."""
        (images,) = batch
        column, event = self._column, tuple(images.shape[2:])
        draw = draws.normal("levels", ()) if self.preconditioning == "edm" else draws.uniform("levels")
        y, told = images.to(net.device, non_blocking=True), None
        if self.augment:
            y, told = self._augmented(y, draws)
        sigma = column.levels(draw.to(net.device, non_blocking=True))
        noise = draws.normal("noise", event).to(net.device, non_blocking=True)
        return denoising_loss(column, partial(net, augment=told), y, sigma, noise).flatten(2).sum(2)

    def _augmented(self, y: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return images and what was done to them, (1, B, 9)."""
        uniform, normal = draws.uniform("augment", (UNIFORMS,)), draws.normal("warp", (NORMALS,))
        done = augmentation.draw(uniform[0], normal[0], self.augment)
        return augmentation.apply(y[0], done).unsqueeze(0), done.labels.to(y.device, non_blocking=True).unsqueeze(0)

    def generate(self, net: Net, noise: Noise) -> Tensor:
        """Run Heun's method from σ_max down to 0."""
        column = self._column
        least, greatest = max(self.sigma_min, column.sigma_min), min(self.sigma_max, column.sigma_max)
        extra = self.stochastic
        churn = None if extra is None else Churn(extra.churn, extra.least, extra.greatest, extra.deviation)
        return heun(
            lambda x, sigma: denoise(column, net, x, sigma),
            noise().to(net.device),
            noise_levels(self.steps, least, greatest, self.rho),
            churn=churn,
            noise=lambda step: noise(),
        )

    def finish(self, x: Tensor) -> Tensor:
        """Return levels as EDM's ``generate.py`` does."""
        return truncated_levels(x)
