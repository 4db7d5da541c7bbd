"""Wasserstein distances of one-dimensional projections: their mean over directions, and over the worst one found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from selfloop.core.streams import generator
from selfloop.metrics.arrays import ArrayLike, level, pair
from selfloop.metrics.base import METRICS, compared

_CHUNK = 1 << 22  # projected numbers held at a time
_STARTS, _STEPS, _RATE = 8, 60, 0.1  # of the ascent to the worst direction
_EPSILON = 1e-100  # little beside any gradient, whatever the rows' unit


@dataclass(frozen=True)
class Sliced:
    """A Monte Carlo estimate.

    Attributes:
        value: the sliced distance.
        error: its standard error over directions.
    """

    value: float
    error: float


def sliced_wasserstein(a: ArrayLike, b: ArrayLike, p: int = 2, *, directions: int = 256, seed: int = 0) -> Sliced:
    """Return the sliced Wasserstein-p distance, (mean over θ of W_p(a·θ, b·θ)^p)^(1/p) (Bonneel et al. 2015).

    Args:
        a: (N, *event) rows.
        b: (M, *event) rows; N and M may differ.
        p: the order, 1 or more.
        directions: unit vectors θ, uniform on the sphere; at least 2.
        seed: of their random stream.

    Raises:
        ValueError: an entry is not finite, events of different sizes, p below 1, fewer than 2 directions.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import sliced_wasserstein
        >>> real = np.array([[0.0, 0.0], [1.0, 0.0]])
        >>> found = sliced_wasserstein(real, real + [3.0, 4.0])
        >>> abs(found.value - 5 / 2**0.5) < 4 * found.error
        True
    """
    (x, y), scale = level(*(side.double() for side in pair(a, b, ("a", "b"))))
    if p < 1 or directions < 2:
        raise ValueError(f"p must be 1 or more and directions 2 or more, not {p} and {directions}")
    theta = _directions(directions, x.shape[1], seed)
    powers = _costs(x, y, theta, p)
    mean = float(powers.mean())
    value = mean ** (1 / p)
    spread = float(powers.std()) / directions**0.5
    return Sliced(scale * value, scale * spread * value / (p * mean) if mean else 0.0)


def max_sliced_wasserstein(a: ArrayLike, b: ArrayLike, p: int = 2, *, directions: int = 256, seed: int = 0) -> float:
    """Return the largest W_p(a·θ, b·θ) found over unit vectors θ (Deshpande et al. 2019), a lower bound of the maximum.

    The best few of random directions are improved by gradient ascent.

    Args:
        a: (N, *event) rows.
        b: (M, *event) rows; N and M may differ.
        p: the order, 1 or more.
        directions: where the search starts.
        seed: of their random stream.

    Raises:
        ValueError: as :func:`sliced_wasserstein`.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import max_sliced_wasserstein
        >>> real = np.array([[0.0, 0.0], [1.0, 0.0]])
        >>> round(max_sliced_wasserstein(real, real + [3.0, 4.0]), 4)
        5.0
    """
    (x, y), scale = level(*(side.double() for side in pair(a, b, ("a", "b"))))
    if p < 1 or directions < 2:
        raise ValueError(f"p must be 1 or more and directions 2 or more, not {p} and {directions}")
    theta = _directions(directions, x.shape[1], seed)
    powers = _costs(x, y, theta, p)
    best = powers.max()
    # The ascent amplifies rounding, and sums over rows round by their order: give them one of their own.
    x, y = (side[(side @ theta[0]).argsort()] for side in (x, y))
    theta = theta[powers.topk(min(_STARTS, directions)).indices].requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=_RATE, eps=_EPSILON)
    for _ in range(_STEPS):
        with torch.enable_grad():
            unit = theta / theta.norm(dim=1, keepdim=True)
            costs = line_costs(x @ unit.T, y @ unit.T, p)
            (theta.grad,) = torch.autograd.grad(-costs.sum(), theta)
        best = torch.maximum(best, costs.detach().max())
        optimizer.step()
    return scale * float(best ** (1 / p))


def line_costs(u: Tensor, v: Tensor, p: int) -> Tensor:
    """Return W_p^p on the line of the columns of u (N, L) and v (M, L), (L,): sorted values matched by quantile."""
    u, v = u.sort(0).values, v.sort(0).values
    n, m = len(u), len(v)
    if n == m:
        return (u - v).abs().pow(p).mean(0)
    # Between neighbouring levels of both staircases the two quantile functions are constant.
    levels = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)  # in units of 1 / nm, so exact
    width = np.diff(levels, prepend=0) / (n * m)
    i, j = (torch.from_numpy((levels - 1) // step) for step in (m, n))
    costs = (u[i] - v[j]).abs().pow(p) * torch.from_numpy(width).unsqueeze(1)
    total: Tensor = costs.sum(0)
    return total


def _directions(count: int, d: int, seed: int) -> Tensor:
    theta = generator(seed, "directions").standard_normal((count, d))
    return torch.from_numpy(theta / np.linalg.norm(theta, axis=1, keepdims=True))


def _costs(x: Tensor, y: Tensor, theta: Tensor, p: int) -> Tensor:
    parts = torch.split(theta, max(1, _CHUNK // (len(x) + len(y))))
    return torch.cat([line_costs(x @ part.T, y @ part.T, p) for part in parts])


METRICS.register(
    *compared(
        "sliced_w2",
        "Sliced W2",
        "Sliced Wasserstein-2 distance of the generated features to those of {real}, over 256 fixed directions.",
        "feature units",
        lambda real, generated: sliced_wasserstein(generated, real).value,
    ),
    *compared(
        "max_sliced_w2",
        "Max-sliced W2",
        "Largest Wasserstein-2 distance found of one-dimensional projections of the features to those of {real}.",
        "feature units",
        lambda real, generated: max_sliced_wasserstein(generated, real),
        version=2,
    ),
)
