"""Exact nearest neighbours and ball memberships of large sets, block by block.

Distances come from float32 matrix products, with a bound on their rounding; whatever the bound leaves open is computed
again in float64 from differences, so that every answer is the one of a float64 brute force, and nothing of the size
N × N is held. Equal rows are merged first and counted, so that a set that has collapsed onto a few points costs less,
not more.

Legend: q, r rows and centres; g their product; k neighbours; B kinds of balls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfloop.metrics import kernels
from selfloop.metrics.arrays import ArrayLike, rows

Array = NDArray[Any]

_BLOCK = 2048
_FEW = 32  # dimensions up to which products in float64 cost nothing more
_SPARE = 8  # neighbours kept beyond the k that are asked for


def radii(x: ArrayLike, k: int) -> NDArray[np.float64]:
    """Return every point's distance to its k-th nearest other point, (N,), exact in float64.

    Raises:
        ValueError: the set has no k-th neighbour, or an entry is not finite.
    """
    found = Distinct.of(rows(x, "x"))
    square = square_radii(found, [k], found.points.double().mean(0), "x")[0]
    reach: NDArray[np.float64] = np.sqrt(square)[found.member]
    return reach


@dataclass(frozen=True)
class Distinct:
    """The different rows of a set, (n, d), how often each occurs, (n,), and which one each row is, (N,)."""

    points: Tensor
    times: NDArray[np.int64]
    member: NDArray[np.int64]

    @classmethod
    def of(cls, x: Tensor) -> Distinct:
        # Adding 0 makes −0 and 0 the same bytes; a void view compares whole rows at once.
        flat = np.ascontiguousarray((x + 0.0).numpy())
        keys = flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1])))[:, 0]
        _, first, member, times = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        order = np.argsort(first)  # back to the order of first appearance
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return cls(x[torch.from_numpy(first[order])], times[order], place[member])

    def block(self, start: int, centre: Tensor, dtype: torch.dtype) -> tuple[Tensor, Array]:
        """Return a block of rows about the centre and their norms, float64."""
        part = self.points[start : start + _BLOCK].double() - centre
        return part.to(dtype), part.square().sum(1).sqrt().numpy()


def _products(d: int) -> tuple[torch.dtype, ...]:
    """Return the number types in which products are tried: in few dimensions float64 costs nothing more."""
    return (torch.float64,) if d <= _FEW else (torch.float32, torch.float64)


def _slack(d: int, dtype: torch.dtype) -> float:
    """Bound a squared distance's error in units of (|q| + |r|)²: d roundings in the product, and those of the rows."""
    return (d + 16) * torch.finfo(dtype).eps / 2


def square_radii(x: Distinct, ks: list[int], centre: Tensor, name: str) -> NDArray[np.float64]:
    """Return the squared distances (B, n) of distinct rows to their k-th nearest other row, copies counted."""
    total = int(x.times.sum())
    if max(ks) >= total:
        raise ValueError(f"{name} has {total} rows, so none has a neighbour number {max(ks)}")
    n = len(x.points)
    # As many nearest distinct rows as are certain to hold k neighbours; 0 says that all may be needed.
    kept = min(max(ks) + _SPARE, n - 1)
    exact, todo = x.points.double().numpy(), np.arange(n)
    out = np.zeros((len(ks), n))
    for dtype in _products(exact.shape[1]):
        if kept == 0 or not len(todo):
            break
        near, number = _nearest(x, todo, kept, centre, dtype)
        norms = (x.points.double() - centre).square().sum(1).sqrt().numpy()
        slack = _slack(exact.shape[1], dtype)
        done = kernels.settle(exact, x.times, todo, near, number, norms, slack, np.array(ks), kept == n - 1, out)
        todo = todo[~done]
    if kept and len(todo):  # within the rounding of float64 of too many others
        kernels.settle_by_all(exact, x.times, todo, np.array(ks), out)
    return out


def _nearest(x: Distinct, todo: Array, kept: int, centre: Tensor, dtype: torch.dtype) -> tuple[Array, Array]:
    """Return the least ``kept`` approximate squared distances of the rows ``todo`` to other rows, and to which."""
    whole = len(todo) == len(x.points)
    near = np.full((len(todo), kept), np.inf)
    number = np.full((len(todo), kept), -1)
    rest = x if whole else Distinct(x.points[torch.from_numpy(todo)], x.times, x.member)
    for i in range(0, len(todo), _BLOCK):
        q, q_norms = rest.block(i, centre, dtype)
        for j in range(i if whole else 0, len(x.points), _BLOCK):
            r, r_norms = (q, q_norms) if whole and i == j else x.block(j, centre, dtype)
            g = (q @ r.T).numpy()
            both = whole and j > i  # a block above the diagonal serves its mirror image too
            kernels.offer(g, q_norms, r_norms, todo[i : i + _BLOCK], j, near, number, i, both)
    return near, number


def membership(
    a: Distinct, b: Distinct, radii_a: Array, radii_b: Array, closed: Array, centre: Tensor
) -> tuple[Array, Array, Array]:
    """Return in how many of a's balls each row of b lies, which of a's balls have one, which rows of a lie in b's."""
    counts = np.zeros((len(closed), len(b.points)), np.int64)
    covered = np.zeros((len(closed), len(a.points)), np.bool_)
    recalled = np.zeros_like(covered)
    dtype = _products(a.points.shape[1])[0]
    slack = _slack(a.points.shape[1], dtype)
    x, y = a.points.numpy(), b.points.numpy()
    for i in range(0, len(a.points), _BLOCK):
        p, p_norms = a.block(i, centre, dtype)
        for j in range(0, len(b.points), _BLOCK):
            q, q_norms = b.block(j, centre, dtype)
            kernels.enter(
                (p @ q.T).numpy(),
                p_norms,
                q_norms,
                x[i : i + _BLOCK],
                y[j : j + _BLOCK],
                a.times[i : i + _BLOCK],
                radii_a[:, i : i + _BLOCK],
                radii_b[:, j : j + _BLOCK],
                closed,
                slack,
                counts[:, j : j + _BLOCK],
                covered[:, i : i + _BLOCK],
                recalled[:, i : i + _BLOCK],
            )
    return counts, covered, recalled
