"""OT-CFM: flow matching along straight lines between optimally coupled noise and data (Tong et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.config import Count
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.generators.base import GENERATORS, Sampler, latents
from selfloop.learning.nets.mlp import mlp_count, time_mlp, time_mlp_init
from selfloop.learning.optimizer import Adam
from selfloop.learning.samplers import dopri5, euler, exact, pull_back, rademacher
from selfloop.learning.training import EMA, Batches, Blocks, Budget, averaged, fresh, fresh_size, train
from selfloop.learning.transport.coupling import optimal_pairs

_EXACT = 32  # dimensions up to which the divergence is the exact trace
_PROBES = 16  # of Hutchinson's estimate beyond


def conditional_path(x0: Tensor, x1: Tensor, t: Tensor, sigma: float, noise: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the point x_t = (1 − t) x0 + t x1 + σ ε and its velocity u_t = x1 − x0; t broadcasts over an event."""
    xt = (1 - t) * x0 + t * x1
    return (xt if noise is None else xt + sigma * noise), x1 - x0


@GENERATORS.register
class OTCFM(Sampler):
    """Conditional flow matching with exact minibatch optimal transport and a time-conditioned MLP.

    The defaults are torchcfm's for 2-D data: three SELU layers of width 64, Adam 1e-3, batch 256, σ = 0, exact plans on
    the squared Euclidean cost, pairs drawn with replacement, dopri5 with rtol = atol = 1e-5. The source is N(0, I).

    Attributes:
        width: of the hidden layers.
        batch_size: pairs per step and arm.
        sigma: standard deviation of the conditional path.
        optimizer: Adam's hyperparameters.
        ema: the averaged weights that sample; None samples with the last ones.
        solver: "dopri5" (adaptive) or "euler" (``solver_steps`` equal steps).
        tolerance: rtol = atol of dopri5.
        solver_steps: steps of Euler.
    """

    name: Literal["otcfm"] = "otcfm"
    width: Count = 64
    batch_size: PositiveInt = 256
    sigma: NonNegativeFloat = 0.0
    optimizer: Adam = Adam()
    ema: EMA | None = None
    solver: Literal["dopri5", "euler"] = "dopri5"
    tolerance: PositiveFloat = 1e-5
    solver_steps: Count = 100

    trained: ClassVar[bool] = True
    offers: ClassVar[frozenset[Capability]] = frozenset(("density", "parameters", "temperature"))

    def state_size(self, event: Sequence[int]) -> int:
        """Return the bytes of the network and of what Adam keeps of it."""
        (d,), w = event, self.width
        return fresh_size(mlp_count((d + 1, w, w, w, d)), self.ema is not None)

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Draw the networks; events are vectors (d,)."""
        (d,) = event
        return fresh(time_mlp_init(streams, d, self.width), ema=self.ema is not None)

    def step_size(self, event: Sequence[int], n: int) -> int:
        """Return the bytes of the costs between a batch and as much noise, in float64 and quantised to int32."""
        return 12 * self.batch_size**2

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Minimise E‖v_θ(x_t, t) − (x1 − x0)‖²/d over optimally coupled pairs."""
        b, d = self.batch_size, data.x.shape[2]
        batches = Batches(data, b, streams)
        noise = Blocks(lambda shape, i: streams.normal("noise", shape, i), (b, d))
        times = Blocks(lambda shape, i: streams.uniform("times", shape, i), (b, 1))
        draws = Blocks(lambda shape, i: streams.integers("pairs", b, shape, i), (b,))
        jitter = Blocks(lambda shape, i: streams.normal("jitter", shape, i), (b, d))

        def loss(params: State, step: int) -> Tensor:
            x0, x1 = optimal_pairs(noise[step], batches[step], draws[step])
            t = times[step]
            xt, ut = conditional_path(x0, x1, t, self.sigma, jitter[step] if self.sigma else None)
            return (time_mlp(params, xt, t.squeeze(-1)) - ut).square().mean((1, 2))

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
        """Integrate the flow from N(0, τI) at t = 0 to t = 1, τ being the temperature."""
        params = averaged(state)
        x = latents(streams, (n, params["net.6.bias"].shape[1]), temperature)
        if self.solver == "euler":
            return euler(lambda x, t: time_mlp(params, x, t), x, self.solver_steps)
        return dopri5(lambda x, t: time_mlp(params, x, t), x, self.tolerance, self.tolerance)

    @torch.no_grad()
    def log_prob(self, state: State, x: Tensor) -> Tensor:
        """Return the log density of the flow by the instantaneous change of variables.

        The flow is integrated by dopri5 at ``tolerance``, whatever the solver that samples: the density is that of the
        differential equation, not of Euler's steps. Its divergence is the exact trace in up to 32 dimensions, and
        beyond them Hutchinson's estimate from 16 fixed probes a row, whose errors are independent from row to row.
        """
        params, (n, d) = averaged(state), x.shape[1:]
        probes = exact(d) if d <= _EXACT else rademacher(_PROBES, n, d)
        return pull_back(lambda x, t: time_mlp(params, x, t), x.to(self.dtype), probes, self.tolerance).log_prob
