"""A variational autoencoder for vectors (Kingma & Welling 2014), Gaussian on both sides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.config import Count
from selfloop.core.replicas import add
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.generators.base import GENERATORS, Sampler, latents
from selfloop.learning.nets.mlp import mlp, mlp_count, mlp_init
from selfloop.learning.optimizer import Adam
from selfloop.learning.training import EMA, Batches, Blocks, Budget, averaged, fresh, fresh_size, train

_ENCODER = ("encoder.0", "encoder.2", "encoder.4")
_DECODER = ("decoder.0", "decoder.2", "decoder.4")


@GENERATORS.register
class VAE(Sampler):
    """p(x|z) = N(f(z), diag s²) with z ∼ N(0, I), and q(z|x) = N(m(x), diag t(x)²); f, m and ln t by MLPs, s learned.

    Its likelihood is not computed but bounded, from below (:meth:`elbo`), so that it is no ``Density``.

    Attributes:
        latent: dimensions of z.
        width: of the two hidden SELU layers of encoder and decoder.
        batch_size: rows per step and arm.
        optimizer: Adam's hyperparameters.
        ema: the averaged weights that sample; None samples with the last ones.
    """

    name: Literal["vae"] = "vae"
    latent: int = Field(default=2, gt=0, le=100_000)
    width: Count = 64
    batch_size: PositiveInt = 256
    optimizer: Adam = Adam()
    ema: EMA | None = None

    trained: ClassVar[bool] = True
    offers: ClassVar[frozenset[Capability]] = frozenset(("parameters", "temperature"))

    def state_size(self, event: Sequence[int]) -> int:
        """Return the bytes of the networks and of what Adam keeps of them."""
        (d,), w, z = event, self.width, self.latent
        return fresh_size(mlp_count((d, w, w, 2 * z)) + mlp_count((z, w, w, d)) + d, self.ema is not None)

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Draw the networks; s = 1, and events are vectors (d,)."""
        (d,) = event
        params = mlp_init(streams, "encoder", (d, self.width, self.width, 2 * self.latent))
        params |= mlp_init(streams, "decoder", (self.latent, self.width, self.width, d))
        params["log_scale"] = torch.zeros(len(streams.seeds), d)
        return fresh(params, ema=self.ema is not None)

    def _encoded(self, params: State, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return z ∼ q(z|x), (R, B, latent), and KL(q(z|x) ‖ N(0, I)), (R, B)."""
        mean, log_std = mlp(params, _ENCODER, x).chunk(2, -1)
        kl = 0.5 * (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std).sum(-1)
        return mean + log_std.exp() * noise, kl

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Maximise the evidence lower bound, with one z a row (Kingma & Welling 2014, Eq. 10)."""
        b = self.batch_size
        batches = Batches(data, b, streams)
        noise = Blocks(lambda shape, i: streams.normal("noise", shape, i), (b, self.latent))

        def loss(params: State, step: int) -> Tensor:
            z, kl = self._encoded(params, batches[step], noise[step])
            square = (batches[step] - mlp(params, _DECODER, z)).square()
            # Averaged over the batch along the last axis: the order of a sum must not depend on the number of copies.
            square = square.transpose(1, 2).contiguous().mean(-1)
            return kl.mean(1) - _log_normal(square, params["log_scale"])

        steps = budget.count(b)
        return train(
            state,
            loss,
            steps=steps,
            adam=self.optimizer,
            batch_size=b,
            ema=self.ema,
            checkpoint=device.checkpoint(0),
        )

    @torch.no_grad()
    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE, temperature: float = 1.0) -> Tensor:
        """Draw z, and x = f(z) + s ε; at a temperature τ both z and ε have the variance τ."""
        params = averaged(state)
        mean = mlp(params, _DECODER, latents(streams, (n, self.latent), temperature))
        noise = latents(streams, tuple(mean.shape[1:]), temperature, 1)
        return mean + params["log_scale"].exp().unsqueeze(1) * noise

    @torch.no_grad()
    def elbo(self, state: State, x: Tensor, streams: Streams, draws: int = 64) -> Tensor:
        """Estimate E_q[log p(x|z)] − KL(q(z|x) ‖ p(z)) ≤ log p(x) of (R, N, d) points, (R, N) nats.

        Args:
            state: of R models.
            x: points.
            streams: of R seeds, from which z is drawn.
            draws: of z per row; the estimate is unbiased for any number.
        """
        params, x = averaged(state), x.to(self.dtype)
        bounds = []
        for i in range(draws):
            z, kl = self._encoded(params, x, streams.normal("elbo", (x.shape[1], self.latent), i))
            square = (x - mlp(params, _DECODER, z)).square()
            bounds.append(_log_normal(square, params["log_scale"].unsqueeze(1)) - kl)
        return add(bounds) / draws


def _log_normal(square: Tensor, log_scale: Tensor) -> Tensor:
    """Return log N(x; f, diag s²) of (x − f)² (…, d), or its mean over rows of their mean, in which it is affine."""
    return -(0.5 * square * (-2 * log_scale).exp() + log_scale + 0.5 * math.log(2 * math.pi)).sum(-1)
