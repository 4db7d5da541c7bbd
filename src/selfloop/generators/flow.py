"""A neural spline flow (Durkan et al. 2019), autoregressive, by zuko: an exact likelihood with a network inside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.distributions import Distribution
from torch.func import functional_call

from selfloop.core.capabilities import Capability
from selfloop.core.errors import ConfigError, to_install
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.generators.base import GENERATORS, Sampler, latents
from selfloop.learning.optimizer import Adam
from selfloop.learning.training import EMA, EVENT, Batches, Budget, averaged, fresh, fresh_size, train


@GENERATORS.register
class Flow(Sampler):
    """x = T⁻¹(z) with z ∼ N(0, I) and T a chain of monotone rational-quadratic splines, fitted by maximum likelihood.

    A spline bends what lies within ±5 and leaves the rest as it is: data should be of about unit scale. Arms are
    evaluated one after another, so that a stack is no faster than its arms, and has their bits.

    Attributes:
        transforms: autoregressive splines in the chain, in alternating order of the coordinates.
        bins: of a spline.
        width: of the two hidden layers that give a spline its knots.
        batch_size: rows per step and arm.
        optimizer: Adam's hyperparameters.
        ema: the averaged weights that sample; None samples with the last ones.
    """

    name: Literal["flow"] = "flow"
    transforms: int = Field(default=3, gt=0, le=1000)
    bins: int = Field(default=8, ge=2, le=10_000)
    width: int = Field(default=64, gt=0, le=10_000)
    batch_size: PositiveInt = 256
    optimizer: Adam = Adam()
    ema: EMA | None = None

    trained: ClassVar[bool] = True
    offers: ClassVar[frozenset[Capability]] = frozenset(("density", "parameters", "temperature"))
    stack: ClassVar[int] = 4
    libraries: ClassVar[tuple[str, ...]] = ("zuko",)

    def module(self, d: int) -> torch.nn.Module:
        """Build zuko's flow, whose own random weights nothing uses.

        Raises:
            ConfigError: zuko is not installed.
        """
        zuko = library()
        with torch.random.fork_rng(devices=[]):  # zuko draws from torch's global generator
            flow = zuko.flows.NSF(d, transforms=self.transforms, bins=self.bins, hidden_features=(self.width,) * 2)
        return _Map(flow.transform)

    def state_size(self, event: Sequence[int]) -> int:
        """Return the bytes of the weights of the layers and of what Adam keeps of them."""
        hidden = self.width**2 + (3 * self.bins * event[0] + event[0]) * self.width
        return fresh_size(self.transforms * hidden, self.ema is not None)

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Draw weights and biases uniform on ±1/√fan_in, PyTorch's Linear default; events are vectors (d,)."""
        (d,) = event
        shapes = {name: tuple(leaf.shape) for name, leaf in self.module(d).named_parameters()}
        params: State = {}
        for name, shape in shapes.items():
            # In one dimension knots are parameters themselves, without a layer.
            weight = shapes.get(f"{name.rpartition('.')[0]}.weight", (1,))
            bound = 1 / math.sqrt(weight[-1])
            params[name] = (2 * streams.uniform(f"init/{name}", shape) - 1) * bound
        return fresh(params, ema=self.ema is not None) | {EVENT: torch.full((len(streams.seeds), 1), d)}

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Minimise E −log p_θ(x)."""
        module, batches = self.module(data.x.shape[2]), Batches(data, self.batch_size, streams)
        return train(
            state,
            lambda params, step: -_log_prob(module, params, batches[step]).mean(1),
            steps=budget.count(self.batch_size),
            adam=self.optimizer,
            batch_size=self.batch_size,
            ema=self.ema,
            checkpoint=device.checkpoint(0),
        )

    @torch.no_grad()
    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE, temperature: float = 1.0) -> Tensor:
        """Draw z ∼ N(0, τI), τ being the temperature, and x = T⁻¹(z)."""
        d = int(state[EVENT][0])
        module, z = self.module(d), latents(streams, (n, d), temperature)
        arms = _arms(averaged(state), z)
        return torch.stack([functional_call(module, params, (own,), {"inverse": True}) for params, own in arms])

    @torch.no_grad()
    def log_prob(self, state: State, x: Tensor) -> Tensor:
        """Return log N(T(x); 0, I) + log |det ∂T/∂x|, exactly."""
        return _log_prob(self.module(x.shape[2]), averaged(state), x.to(self.dtype))


class _Map(torch.nn.Module):
    """T with log |det ∂T/∂x|, or T⁻¹; zuko's transforms are made anew at every call, of the parameters it has then."""

    def __init__(self, transform: torch.nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, inverse: bool = False) -> Any:
        transform = self.transform()
        return transform.inv(x) if inverse else transform.call_and_ladj(x)


def _log_prob(module: torch.nn.Module, params: State, x: Tensor) -> Tensor:
    values = []
    for own, rows in _arms(params, x):
        z, log_det = functional_call(module, own, (rows,))
        values.append(log_det - 0.5 * (z.square().sum(-1) + z.shape[-1] * math.log(2 * math.pi)))
    return torch.stack(values)


def _arms(params: State, x: Tensor) -> list[tuple[State, Tensor]]:
    # Copies, because what a matrix product rounds depends on how its operands are aligned in memory.
    leaves = {name: leaf.unbind() for name, leaf in params.items()}
    return [({name: arms[r].clone() for name, arms in leaves.items()}, own.clone()) for r, own in enumerate(x.unbind())]


def library() -> Any:
    """Return zuko.

    Raises:
        ConfigError: it is not installed.
    """
    checks = Distribution._validate_args
    try:
        import zuko
    except ImportError as error:
        raise ConfigError(to_install("generator flow", "zuko", "flows")) from error
    finally:
        Distribution.set_default_validate_args(checks)  # importing zuko turns them off for the whole program
    return zuko
