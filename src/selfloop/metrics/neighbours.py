"""Exact nearest neighbours and ball memberships of large sets, block by block.

Distances come from float32 matrix products, with a bound on their rounding; whatever the bound leaves open is computed
again in float64 from differences, so that every answer is the one of a float64 brute force, and nothing of the size
N × N is held. Equal rows are merged first and counted, so that a set that has collapsed onto a few points costs less,
not more.

Legend: q, r rows and centres; g their product; k neighbours; B kinds of balls.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfloop.metrics import kernels
from selfloop.metrics.arrays import ArrayLike, level, rows

Array = NDArray[Any]

BLOCK = 2048
"""Rows of a block; spans of rows begin and end with one."""
_FEW = 32  # dimensions up to which products in float64 cost nothing more
_RANGE = (1e-12, 1e15)  # norms whose squares are far from float32's ends
_SPARE = 8  # neighbours kept beyond the k that are asked for


def radii(x: ArrayLike, k: int) -> NDArray[np.float64]:
    """Return every point's distance to its k-th nearest other point, (N,), exact in float64.

    Raises:
        ValueError: the set has no k-th neighbour, k is below 1, or an entry is not finite.
    """
    if k < 1:
        raise ValueError(f"k = {k} is no neighbour's number")
    (points,), scale = level(rows(x, "x"))
    found = Distinct.of(points)
    square = square_radii(found, [k], found.centre(), "x")[0]
    reach: NDArray[np.float64] = scale * np.sqrt(square)[found.member]
    return reach


@dataclass(frozen=True)
class Distinct:
    """The different rows of a set, (n, d), how often each occurs, (n,), and which one each row is, (N,)."""

    points: Tensor
    times: NDArray[np.int64]
    member: NDArray[np.int64]

    @classmethod
    def of(cls, x: Tensor) -> Distinct:
        """Merge equal rows, in the order of their first appearance; x (N, d) itself is kept where all differ."""
        numbers: dict[bytes, int] = {}
        # Adding 0 makes −0 and 0 the same bytes. A collision of 256-bit hashes is not to be expected.
        keys = (blake2b((row + 0.0).data, digest_size=32).digest() for row in x.numpy())
        member = np.fromiter((numbers.setdefault(key, len(numbers)) for key in keys), np.int64, len(x))
        if len(numbers) == len(x):
            return cls(x, np.ones(len(x), np.int64), member)
        _, first, times = np.unique(member, return_index=True, return_counts=True)
        return cls(x[torch.from_numpy(first)], times, member)

    def centre(self) -> Tensor:
        """Return the mean row in the rows' own number type: products are taken of differences from it."""
        return torch.from_numpy(self.points.numpy().mean(0, dtype=np.float64)).to(self.points.dtype)

    def norms(self, centre: Tensor) -> Array:
        """Return the distances from the centre, (n,) float64."""
        parts = [part.double() - centre.double() for part in torch.split(self.points, BLOCK)]
        return np.concatenate([part.square().sum(1).sqrt().numpy() for part in parts])

    def block(self, start: int, centre: Tensor, dtype: torch.dtype) -> Tensor:
        """Return a block of rows less the centre, exact but for one rounding to ``dtype``."""
        wide = torch.promote_types(dtype, self.points.dtype)
        return (self.points[start : start + BLOCK].to(wide) - centre.to(wide)).to(dtype)


def _products(d: int, norms: Array) -> tuple[torch.dtype, ...]:
    """Return the number types in which products are tried, the cheapest that can serve first."""
    low, high = _RANGE
    if d <= _FEW or not low < norms.max(initial=0.0) < high:
        return (torch.float64,)
    return (torch.float32, torch.float64)


def _slack(d: int, dtype: torch.dtype) -> float:
    """Bound a squared distance's error in units of (|q| + |r|)²: d roundings in the product, and those of the rows."""
    return (d + 16) * torch.finfo(dtype).eps / 2


def square_radii(
    x: Distinct, ks: list[int], centre: Tensor, name: str, some: slice = slice(None)
) -> NDArray[np.float64]:
    """Return the squared distances (B, n) of distinct rows to their k-th nearest other row, copies counted.

    Of ``some`` rows alone they are (B, their number), to the same bits.

    Raises:
        ValueError: there are no more rows than k; ``name`` is in the message.
    """
    total = int(x.times.sum())
    if max(ks) >= total:
        raise ValueError(f"{name} has {total} rows, so none has a neighbour number {max(ks)}")
    n = len(x.points)
    kept = min(max(ks) + _SPARE, n - 1)  # the nearest distinct rows are certain to hold k neighbours
    points, norms, out = x.points.numpy(), x.norms(centre), np.zeros((len(ks), n))
    todo = np.arange(n)[some]
    if kept == 0:
        return out[:, some]
    for dtype in _products(points.shape[1], norms):
        if len(todo):
            near, number = _nearest(x, todo, kept, centre, norms, dtype)
            slack = _slack(points.shape[1], dtype)
            done = kernels.settle(points, x.times, todo, near, number, norms, slack, np.array(ks), kept == n - 1, out)
            todo = todo[~done]
    if len(todo):  # within the rounding of float64 of too many others
        kernels.settle_by_all(points, x.times, todo, np.array(ks), out)
    return out[:, some]


def _nearest(
    x: Distinct, todo: Array, kept: int, centre: Tensor, norms: Array, dtype: torch.dtype
) -> tuple[Array, Array]:
    """Return the least ``kept`` approximate squared distances of the rows ``todo`` to other rows, and to which."""
    whole = len(todo) == len(x.points)
    near = np.full((len(todo), kept), np.inf)
    number = np.full((len(todo), kept), -1)
    some = x if whole else Distinct(x.points[torch.from_numpy(todo)], x.times, x.member)
    for i in range(0, len(todo), BLOCK):
        q, ids = some.block(i, centre, dtype), todo[i : i + BLOCK]
        for j in range(i if whole else 0, len(x.points), BLOCK):
            r = q if whole and i == j else x.block(j, centre, dtype)
            both = whole and j > i  # a block above the diagonal serves its mirror image too
            kernels.offer((q @ r.T).numpy(), norms[ids], norms[j : j + BLOCK], ids, j, near, number, i, both)
    return near, number


def membership(
    a: Distinct, b: Distinct, radii_a: Array, radii_b: Array, closed: Array, centre: Tensor, some: slice = slice(None)
) -> tuple[Array, Array, Array]:
    """Return in how many of a's balls each row of b lies, which of a's balls have one, which rows of a lie in b's.

    Of ``some`` rows of a alone, by blocks, the first is a share of the sum and the others are those rows'.
    """
    start, stop, _ = some.indices(len(a.points))
    counts = np.zeros((len(closed), len(b.points)), np.int64)
    covered = np.zeros((len(closed), len(a.points)), np.bool_)
    recalled = np.zeros_like(covered)
    a_norms, b_norms, d = a.norms(centre), b.norms(centre), a.points.shape[1]
    dtype = _products(d, np.concatenate([a_norms, b_norms]))[0]
    for i in range(start, stop, BLOCK):
        p, at = a.block(i, centre, dtype), slice(i, i + BLOCK)
        for j in range(0, len(b.points), BLOCK):
            q, to = b.block(j, centre, dtype), slice(j, j + BLOCK)
            kernels.enter(
                (p @ q.T).numpy(),
                a_norms[at],
                b_norms[to],
                a.points[at].numpy(),
                b.points[to].numpy(),
                a.times[at],
                radii_a[:, at],
                radii_b[:, to],
                closed,
                _slack(d, dtype),
                2 * d * torch.finfo(dtype).tiny,
                counts[:, to],
                covered[:, at],
                recalled[:, at],
            )
    return counts, covered[:, some], recalled[:, some]
