"""Adam (Kingma & Ba 2015) over stacks: its hyperparameters, its step, and clipping, all copy by copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat
from torch import Tensor

from selfloop.config import Frozen
from selfloop.replicas import add

Vector = NDArray[Any]


class Adam(Frozen):
    """Adam's hyperparameters, with optional clipping of each copy's gradient norm."""

    learning_rate: PositiveFloat = 1e-3
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    epsilon: PositiveFloat = 1e-8
    clip: PositiveFloat | None = None


class Optimizer:
    """Adam on a model's leaves: contiguous tensors on the CPU, which it changes in place.

    Args:
        adam: hyperparameters.
        params: the leaves.
        moments: of each leaf, the running means of its gradient and of the square.
    """

    def __init__(self, adam: Adam, params: Sequence[Tensor], moments: Sequence[tuple[Tensor, Tensor]]) -> None:
        self._adam = adam
        self._vectors = [[_vector(x) for x in (p, *pair)] for p, pair in zip(params, moments, strict=True)]

    def step(self, gradients: Sequence[Tensor], taken: int) -> None:
        """Take the step after the first ``taken`` ones; clipping changes the gradients."""
        adam = self._adam
        if adam.clip is not None:
            _clip(gradients, adam.clip)
        rate, root = adam.learning_rate / (1 - adam.beta1 ** (taken + 1)), (1 - adam.beta2 ** (taken + 1)) ** 0.5
        for (theta, m, v), gradient in zip(self._vectors, gradients, strict=True):
            number = theta.dtype.type
            _step(
                theta,
                _vector(gradient.contiguous()),
                m,
                v,
                number(rate),
                number(1 - adam.beta1),
                number(adam.beta2),
                number(1 - adam.beta2),
                number(adam.epsilon),
                number(root),
            )


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
