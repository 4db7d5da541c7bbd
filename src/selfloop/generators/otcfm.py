"""OT-CFM: flow matching along straight lines between optimally coupled noise and data (Tong et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.config import Count
from selfloop.core.errors import ConfigError
from selfloop.core.events import Events
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.generators.base import GENERATORS, Sampler, latents
from selfloop.learning.head import Head, Way, told
from selfloop.learning.nets.mlp import mlp_count, time_mlp, time_mlp_init
from selfloop.learning.optimizer import Adam
from selfloop.learning.samplers import Velocity, dopri5, euler, exact, pull_back, rademacher
from selfloop.learning.training import CATEGORY, EMA, Batches, Blocks, Budget, averaged, fresh, fresh_size, train
from selfloop.learning.transport.coupling import optimal_pairs

_EXACT = 32  # dimensions up to which the divergence is the exact trace
_PROBES = 16  # of Hutchinson's estimate beyond
_LAST = 0.1  # of the time, which an adaptive solver leaves to one Euler step where there are categories
_NO_DENSITY = "let its categories be one-hot"


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
        categories: "softmax" gives the network a head: its outputs for a category are logits, which cross-entropy
            trains, and the flow is that to their probabilities (Eijkelboom et al. 2024); or they are learned "one-hot",
            as numbers.
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
    categories: Way = "softmax"
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

    def lacks(self, events: Events) -> Mapping[Capability, str]:
        """Return the density of rows with categories: what flows to their levels has none."""
        return {"density": _NO_DENSITY} if events.categories and self.categories == "softmax" else {}

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Draw the networks; events are vectors (d,)."""
        (d,) = event
        return fresh(time_mlp_init(streams, d, self.width), ema=self.ema is not None)

    def step_size(self, event: Sequence[int], n: int) -> int:
        """Return the bytes of the costs between a batch and as much noise, in float64 and quantised to int32."""
        return 12 * self.batch_size**2

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Minimise E‖v_θ(x_t, t) − (x1 − x0)‖²/d over optimally coupled pairs.

        With a head a category has the cross-entropy of its level in place of its squares.
        """
        b, d = self.batch_size, data.x.shape[2]
        state = told(state, data, self.categories)
        head = Head.of(state, d)
        batches = Batches(data, b, streams)
        noise = Blocks(lambda shape, i: streams.normal("noise", shape, i), (b, d))
        times = Blocks(lambda shape, i: streams.uniform("times", shape, i), (b, 1))
        draws = Blocks(lambda shape, i: streams.integers("pairs", b, shape, i), (b,))
        jitter = Blocks(lambda shape, i: streams.normal("jitter", shape, i), (b, d))

        def loss(params: State, step: int) -> Tensor:
            x0, x1 = optimal_pairs(noise[step], batches[step], draws[step])
            t = times[step]
            xt, ut = conditional_path(x0, x1, t, self.sigma, jitter[step] if self.sigma else None)
            return head.loss(time_mlp(params, xt, t.squeeze(-1)), ut, x1).mean((1, 2))

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
        """Integrate the flow from N(0, τI) at t = 0 to t = 1, τ being the temperature.

        At categories of a head it is (E[x₁|x_t] − x_t)/(1 − t), which has no value at t = 1 and multiplies the
        network's errors as it comes near. An Euler step of 1 − t leads from any t to E[x₁|x_t] itself, the
        probabilities of the levels, by which one is drawn: the most probable one alone would lose rare levels. So end
        Euler's equal steps, which never look at t = 1, and so ends dopri5 from t = 0.9 on. There a coordinate is
        0.9 x₁ + 0.1 x₀, and of two levels the wrong one is nearer once in 10¹⁰.
        """
        velocity, head = _flow(state)
        x = latents(streams, (n, head.d), temperature)
        end = 1 - _LAST if head.categories else 1.0
        if self.solver == "euler":
            x = euler(velocity, x, self.solver_steps)
        else:
            x = dopri5(velocity, x, self.tolerance, self.tolerance, end=end)
            if end < 1:
                x = x + (1 - end) * velocity(x, x.new_full((len(x), 1), end))
        return head.drawn(x, streams.uniform("levels", (n, len(head.categories)))) if head.categories else x

    @torch.no_grad()
    def log_prob(self, state: State, x: Tensor) -> Tensor:
        """Return the log density of the flow by the instantaneous change of variables.

        The flow is integrated by dopri5 at ``tolerance``, whatever the solver that samples: the density is that of the
        differential equation, not of Euler's steps. Its divergence is the exact trace in up to 32 dimensions, and
        beyond them Hutchinson's estimate from 16 fixed probes a row, whose errors are independent from row to row.
        """
        if CATEGORY in state:
            raise ConfigError(f"generator otcfm has no log_prob on rows with categories: {_NO_DENSITY}")
        n, d = x.shape[1:]
        probes = exact(d) if d <= _EXACT else rademacher(_PROBES, n, d)
        return pull_back(_flow(state)[0], x.to(self.dtype), probes, self.tolerance).log_prob


def _flow(state: State) -> tuple[Velocity, Head]:
    """Return the velocities of a state's networks, and by what their outputs are read."""
    params = averaged(state)
    head = Head.of(state, params["net.6.bias"].shape[1])

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        outputs = time_mlp(params, x, t)
        if not head.categories:
            return outputs
        return torch.where(head.numbers, outputs, (head.mean(outputs) - x) / (1 - t.unsqueeze(-1)))

    return velocity, head
