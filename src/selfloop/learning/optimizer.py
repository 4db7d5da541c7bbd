"""Adam (Kingma & Ba 2015) over stacks: its hyperparameters, its step, and clipping, all copy by copy."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.optim.adam import adam as fused_adam

from selfloop.core.config import Frozen
from selfloop.core.replicas import add

Vector = NDArray[Any]

_PIECE = 1 << 20  # elements that are stepped at a time, in some milliseconds: beside them, starting a thread is nothing


class Ramp(Frozen):
    """A linear rise of the learning rate from the first step on.

    Attributes:
        samples: seen until the rate is reached.
        first: what the first step counts as seen, "nothing", so that its rate is 0 (EDM), or "its batch" (ddpm-torch).
        restart: whether every retraining starts the rise anew, as the paper's EDM runs do, or only a new optimiser.
    """

    samples: PositiveFloat
    first: Literal["nothing", "its batch"] = "its batch"
    restart: bool = False

    def factor(self, step: int, batch_size: int) -> float:
        """Return what the rate is multiplied by after ``step`` steps."""
        return min((step + (self.first == "its batch")) * batch_size / self.samples, 1.0)


class Adam(Frozen):
    """Adam's hyperparameters, with optional clipping of each copy's gradient norm and a rise of the rate."""

    learning_rate: PositiveFloat = 1e-3
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    epsilon: PositiveFloat = 1e-8
    clip: PositiveFloat | None = None
    ramp: Ramp | None = None

    def rate(self, taken: int, step: int, batch_size: int) -> float:
        """Return the learning rate of a fit's step number ``step``, ``taken`` steps after the optimiser was new."""
        if self.ramp is None:
            return self.learning_rate
        return self.learning_rate * self.ramp.factor(step if self.ramp.restart else taken, batch_size)


class Optimizer:
    """Adam on a model's contiguous leaves, which it changes in place: on the CPU by a kernel of ours, else by torch's.

    Args:
        adam: hyperparameters.
        params: the leaves.
        moments: of each leaf, the running means of its gradient and of the square.
    """

    def __init__(self, adam: Adam, params: Sequence[Tensor], moments: Sequence[tuple[Tensor, Tensor]]) -> None:
        self._adam, self._params, self._moments = adam, list(params), list(zip(*moments, strict=True))
        self._steps: list[Tensor] = []
        self._large = sum(p.numel() for p in params) // _PIECE  # how many threads would have enough to do
        self._pieces = _pieces(params, moments) if params[0].device.type == "cpu" else []

    def step(self, gradients: Sequence[Tensor], taken: int, rate: float) -> None:
        """Take the step after the first ``taken`` ones at a learning rate; clipping changes the gradients."""
        adam = self._adam
        if adam.clip is not None:
            _clip(gradients, adam.clip)
        if not self._pieces:
            return self._step_on_device(gradients, taken, rate)
        rate, root = rate / (1 - adam.beta1 ** (taken + 1)), (1 - adam.beta2 ** (taken + 1)) ** 0.5
        vectors = [_vector(gradient.contiguous()) for gradient in gradients]

        def step(leaf: int, of: slice, theta: Vector, m: Vector, v: Vector) -> None:
            number = theta.dtype.type
            _step(
                theta,
                vectors[leaf][of],
                m,
                v,
                number(rate),
                number(1 - adam.beta1),
                number(adam.beta2),
                number(1 - adam.beta2),
                number(adam.epsilon),
                number(root),
            )

        if (threads := min(torch.get_num_threads(), self._large)) > 1:
            with ThreadPoolExecutor(threads) as pool:
                for _ in pool.map(lambda piece: step(*piece), self._pieces):
                    pass
        else:
            for piece in self._pieces:
                step(*piece)
        return None

    def _step_on_device(self, gradients: Sequence[Tensor], taken: int, rate: float) -> None:
        # torch counts the steps of every leaf itself, from where this fit begins.
        self._steps = self._steps or [torch.full((), float(taken), device=p.device) for p in self._params]
        first, second = map(list, self._moments)
        with torch.no_grad():
            fused_adam(
                self._params,
                [g.contiguous() for g in gradients],
                first,
                second,
                [],
                self._steps,
                fused=True,
                amsgrad=False,
                beta1=self._adam.beta1,
                beta2=self._adam.beta2,
                lr=rate,
                weight_decay=0.0,
                eps=self._adam.epsilon,
                maximize=False,
            )


def _pieces(
    params: Sequence[Tensor], moments: Sequence[tuple[Tensor, Tensor]]
) -> list[tuple[int, slice, Vector, Vector, Vector]]:
    """Return the leaves as pieces that threads step: of which leaf, which part, and it and its moments."""
    found = []
    for leaf, tensors in enumerate((p, *pair) for p, pair in zip(params, moments, strict=True)):
        vectors = [_vector(x) for x in tensors]
        for start in range(0, vectors[0].size, _PIECE):
            of = slice(start, start + _PIECE)
            theta, m, v = (x[of] for x in vectors)
            found.append((leaf, of, theta, m, v))
    return found


def _vector(x: Tensor) -> Vector:
    return x.detach().view(-1).numpy()


def _clip(gradients: Sequence[Tensor], limit: float) -> None:
    norm = add([g.flatten(1).square().sum(1) for g in gradients]).sqrt()
    factor = (limit / (norm + 1e-6)).clamp_max(1.0)
    for g in gradients:
        g.mul_(factor.view(-1, *[1] * (g.ndim - 1)))


# One pass over memory where torch makes ten. torch's own fused kernel rounds the last few elements of a leaf
# differently, so that a copy's bits would depend on its place in the stack.
@njit(cache=True, nogil=True, error_model="numpy")
def _step(
    theta: Vector,
    g: Vector,
    m: Vector,
    v: Vector,
    rate: float,
    rest1: float,
    beta2: float,
    rest2: float,
    epsilon: float,
    root: float,
) -> None:
    """Update θ and the moments m and v; ``rest`` is 1 − β, ``rate`` is over 1 − β₁ᵗ, ``root`` is √(1 − β₂ᵗ)."""
    for i in range(theta.size):
        m[i] += (g[i] - m[i]) * rest1
        v[i] = v[i] * beta2 + g[i] * g[i] * rest2
        theta[i] -= rate * m[i] / (np.sqrt(v[i]) / root + epsilon)
