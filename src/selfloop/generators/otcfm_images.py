"""OT-CFM on images: torchcfm's CIFAR-10 network and the training of the paper's driver (Tong et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from selfloop.core.samples import State
from selfloop.generators.base import GENERATORS
from selfloop.generators.images import Size, UNetModel
from selfloop.generators.network import Draws, Net, Noise
from selfloop.generators.otcfm import conditional_path
from selfloop.generators.pretrained import pretrained
from selfloop.learning.nets import names, presets
from selfloop.learning.nets.architecture import UNet
from selfloop.learning.optimizer import Adam
from selfloop.learning.pixels import saved_levels
from selfloop.learning.samplers import dopri5
from selfloop.learning.training import EMA
from selfloop.learning.transport.coupling import optimal_pairs


@GENERATORS.register
class OTCFMImages(UNetModel):
    """Conditional flow matching with exact minibatch optimal transport on pixels.

    The defaults are the paper's driver's: batch 128, Adam 2e-4 at a constant rate, gradients clipped to norm 1, an
    average of decay 0.9999, no mirrored images, σ = 0, dopri5 with rtol = atol = 1e-5. The plan is that of the whole
    batch, however it is split. The solver chooses its steps for each image alone; torchdiffeq's error norm spans the
    batch.

    Attributes:
        sigma: standard deviation of the conditional path.
        tolerance: rtol = atol of the solver.
    """

    name: Literal["otcfm_images"] = "otcfm_images"
    net: Size = Size(channels=128, multipliers=(1, 2, 2, 2), blocks=2, attention=(16,), dropout=0.1)
    optimizer: Adam = Adam(learning_rate=2e-4, clip=1.0)
    ema: EMA | None = EMA(decay=0.9999)
    batch_size: int = 128
    sigma: NonNegativeFloat = 0.0
    tolerance: PositiveFloat = 1e-5

    def unet(self, event: Sequence[int]) -> UNet:
        """Return guided diffusion's network, with heads of 64 channels or, where those do not go, one."""
        size = self.net
        attending = {event[2] // height for height in size.attention} | {2 ** (len(size.multipliers) - 1)}
        widths = [size.channels * m for i, m in enumerate(size.multipliers) if 2**i in attending]
        return presets.guided(
            dim=tuple(event),
            num_channels=size.channels,
            num_res_blocks=size.blocks,
            channel_mult=size.multipliers,
            attention_resolutions=",".join(map(str, size.attention)),
            num_head_channels=64 if all(width % 64 == 0 for width in widths) else -1,
            dropout=size.dropout,
            group_channels=size.group_channels,
        )

    def pretrained(self, path: Path, unet: UNet, event: Sequence[int]) -> State:
        """Read a checkpoint of torchcfm."""
        return pretrained(path, "torchcfm", names.TORCHCFM, unet, self.ema is not None)

    def step_size(self, event: Sequence[int], n: int) -> int:
        """Return the bytes of the costs between a batch and as much noise, in float64 and quantised to int32."""
        return 12 * self.batch_size**2

    def couple(self, x: Tensor, draws: Draws) -> tuple[Tensor, ...]:
        """Draw pairs from the exact plan between a batch and noise."""
        pairs = draws.integers("pairs", self.batch_size)
        return optimal_pairs(draws.normal("noise", tuple(x.shape[2:])), x, pairs)

    def loss(self, net: Net, batch: Sequence[Tensor], draws: Draws) -> Tensor:
        """Return the mean square of v_θ(x_t, t) − (x1 − x0) per image."""
        x0, x1 = (tensor.to(net.device, non_blocking=True) for tensor in batch)
        t = draws.uniform("times").to(net.device, non_blocking=True)
        jitter = draws.normal("jitter", tuple(x0.shape[2:])).to(net.device, non_blocking=True) if self.sigma else None
        xt, ut = conditional_path(x0, x1, t[..., None, None, None], self.sigma, jitter)
        return (net(xt, t) - ut).square().flatten(2).mean(2)

    def generate(self, net: Net, noise: Noise) -> Tensor:
        """Integrate the flow from noise at t = 0 to t = 1, in float32 whatever training's precision.

        The rounding of 16 bits is above a solver's tolerance, which it would meet by ever shorter steps.
        """
        net = replace(net, dtype=None)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            # To the solver every image is a copy, with steps of its own: states (B, 1, C, H, W), times (B, 1).
            return net(x.transpose(0, 1), t.transpose(0, 1)).transpose(0, 1)

        latents = noise().to(net.device).transpose(0, 1)
        return dopri5(velocity, latents, self.tolerance, self.tolerance).transpose(0, 1)

    def finish(self, x: Tensor) -> Tensor:
        """Return levels as torchcfm's training saves them."""
        return saved_levels(x)
