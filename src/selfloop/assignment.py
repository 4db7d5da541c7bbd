"""Exact linear assignment for batches of dense square costs: an auction finds prices, shortest paths finish.

Bertsekas' auction ("The auction algorithm: a distributed relaxation method for the assignment problem", Annals
of Operations Research 14, 1988) settles most of a problem in a few cheap scans a row, but ends in price wars.
The shortest augmenting paths of Jonker and Volgenant ("A shortest augmenting path algorithm for dense and sparse
linear assignment problems", Computing 38, 1987) are exact from any prices, and few and short from good ones. So the
auction runs on costs rounded to integers, is cut off early, and hands over nothing but its prices and those pairs
that are optimal under them to the last bit; the paths run on the given numbers in float64.

Both are scans for the least entry of a row, and LLVM vectorises a least integer but not a least float. Hence the
two encodings below: the auction carries a column's number in the low bits of its cost, and the paths compare
floats by their bits. Neither needs fastmath.

Legend: n rows and columns; c costs; p auction prices; v column duals, the reduced cost of (i, j) being
c[i, j] − v[j] up to a constant of the row; ``row[j]`` and ``col[i]`` the partner of a column and of a row, −1 if none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

import numpy as np
from numba import njit
from numpy.typing import NDArray
from torch import Tensor, from_numpy

F = TypeVar("F", bound=Callable[..., Any])
_kernel: Callable[[F], F] = njit(cache=True, nogil=True)
_sum_kernel: Callable[[F], F] = njit(cache=True, nogil=True, fastmath={"reassoc", "nsz"})

# The bid increments ε in units of the mean cost above the row minimum, the share of rows that a phase may leave
# unassigned, and the bids a row after which a phase is at war: tuned on 2-D clouds of 256 and 1000 points.
_EPSILONS = (1.0, 0.2, 0.04, 0.008, 0.0016, 0.0003)
_LEAVE = 0.02
_WAR = 20
_CLIP = 32.0  # costs and prices beyond so many means are beyond the auction's integers
_NONE = np.int32(2**31 - 1)
_SIGN = np.int64(2**63 - 1)
_INFINITE = np.int64(0x7FF0000000000000)  # the bits of +inf


@overload
def assignment(cost: Tensor) -> Tensor: ...
@overload
def assignment(cost: NDArray[Any]) -> NDArray[np.int64]: ...
def assignment(cost: Tensor | NDArray[Any]) -> Tensor | NDArray[np.int64]:
    """Return the permutations of least total cost.

    The result is exact: no permutation has a smaller total than by the rounding of float64. Which of several optimal
    permutations is returned depends on the problem alone, not on its neighbours in the batch.

    Args:
        cost: (n, n) or (batch, n, n) float32 or float64 on the CPU, any sign and strides.

    Returns:
        (n,) or (batch, n) int64, the column matched to each row; a tensor for a tensor, an array for an array.

    Raises:
        ValueError: another shape or dtype, or an entry that is infinite or not a number.
    """
    if isinstance(cost, Tensor):
        return from_numpy(assignment(cost.detach().numpy()))
    if cost.ndim not in (2, 3) or cost.shape[-1] != cost.shape[-2] or cost.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"cost must be float32 or float64 of shape (n, n) or (batch, n, n), got {cost.dtype} {cost.shape}"
        )
    n = cost.shape[-1]
    c = np.ascontiguousarray(cost, dtype=np.float64).reshape(-1, n, n)
    col = np.empty(c.shape[:2], dtype=np.int64)
    if col.size:
        _solve(_within_range(c), np.array(_EPSILONS), col)
    return col.reshape(cost.shape[:-1])


def _within_range(c: NDArray[np.float64]) -> NDArray[np.float64]:
    """Check that (batch, n, n) costs are finite; rescale, by powers of two, problems too large or small to add up."""
    peak = np.maximum(c.max(axis=(1, 2)), -c.min(axis=(1, 2)))
    if not np.isfinite(peak).all():
        batch, i, j = np.argwhere(~np.isfinite(c))[0]
        raise ValueError(f"cost must be finite, got {c[batch, i, j]} at (batch, row, column) = ({batch}, {i}, {j})")
    extreme = (peak > 1e290) | (peak < 1e-290)
    if not extreme.any():
        return c
    exponent = np.where(extreme, np.frexp(peak)[1], 0)
    return np.ldexp(c, -exponent[:, None, None])


@_kernel
def _solve(c, epsilons, col):  # type: ignore[no-untyped-def]
    """Solve every problem of c (batch, n, n) into col (batch, n)."""
    n = c.shape[1]
    quantised = np.empty((n, n), np.int32)
    row = np.empty(n, np.int64)
    v = np.empty(n)
    for b in range(c.shape[0]):
        _auction(c[b], quantised, epsilons, row, v)
        _augment(c[b], row, v, col[b])


@_kernel
def _order(x):  # type: ignore[no-untyped-def]
    """Return the bits of a float as an integer that compares as the float does."""
    bits = np.float64(x).view(np.int64)
    return bits ^ ((bits >> 63) & _SIGN)


@_kernel
def _float(order):  # type: ignore[no-untyped-def]
    """Invert ``_order``."""
    return np.int64(order ^ ((order >> 63) & _SIGN)).view(np.float64)


@_kernel
def _least(c_i, v):  # type: ignore[no-untyped-def]
    """Return the least reduced cost of a row as ``_order`` writes it."""
    least = _INFINITE
    for j in range(v.size):
        least = min(least, _order(c_i[j] - v[j]))
    return least


@_sum_kernel
def _sum(c_i):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(c_i.size):
        total += c_i[j]
    return total


@_kernel
def _auction(c, q, epsilons, row, v):  # type: ignore[no-untyped-def]
    """Write the auction's partners to row and its prices to v; q (n, n) int32 is scratch.

    q[i, j] is the rounded cost above the row minimum with j in its low bits; prices are multiples of 2**bits. So
    the least of q[i] + p names its column, ties are broken by number, and no sum passes 2**30.
    """
    n = v.size
    row[:] = -1
    v[:] = 0.0
    bits = 1
    while 1 << bits < n:
        bits += 1
    top = float(1 << (29 - bits))
    low = np.empty(n)
    mean = 0.0
    for i in range(n):
        low[i] = _float(_least(c[i], v))
        mean += (_sum(c[i]) / n - low[i]) / n
    if not mean > 0.0:  # constant rows: any permutation is optimal
        return
    unit = top / _CLIP / mean
    for i in range(n):
        for j in range(n):
            x = (c[i, j] - low[i]) * unit
            q[i, j] = (np.int32(x if x < top else top) << bits) | j

    p = np.zeros(n, np.int32)
    stack = np.empty(n, np.int64)
    war = False
    for epsilon in epsilons:
        step = max(int(epsilon * mean * unit), 1)
        row[:] = -1
        stack[:] = np.arange(n)
        waiting = n
        bids = 0
        while waiting > _LEAVE * n and not war:
            waiting -= 1
            i = stack[waiting]
            best, second = _bid(q[i], p)
            j = best & ((1 << bits) - 1)
            p[j] += ((second >> bits) - (best >> bits) + step) << bits
            if row[j] >= 0:
                stack[waiting] = row[j]
                waiting += 1
            row[j] = i
            bids += 1
            war = bids > _WAR * n or p[j] >> bits >= top
    v[:] = p / -(unit * (1 << bits))


@_kernel
def _bid(q_i, p):  # type: ignore[no-untyped-def]
    """Return the two least entries of q_i + p; they differ, as the low bits do."""
    best = _NONE
    for j in range(p.size):
        best = min(best, np.int32(q_i[j] + p[j]))
    second = _NONE
    for j in range(p.size):
        entry = np.int32(q_i[j] + p[j])
        second = min(second, entry if entry > best else _NONE)
    return best, second


@_kernel
def _augment(c, row, v, col):  # type: ignore[no-untyped-def]
    """Complete the optimal matching: write col from the partners in row and any duals v, which it updates."""
    n = v.size
    col[:] = -1
    key = np.arange(n)  # j if column j is free, n + j if not: the least key of a tie is a free column
    for j in range(n):
        i = row[j]
        if i >= 0 and _order(c[i, j] - v[j]) == _least(c[i], v):
            col[i] = j
            key[j] += n
    distance = np.empty(n, np.int64)  # as _order writes it
    via = np.empty(n, np.int64)
    tree, level, saved = np.empty(n, np.int64), np.empty(n), np.empty(n)
    for source in range(n):
        if col[source] >= 0:
            continue
        distance[:] = _INFINITE
        i, shift, size = source, 0.0, 0
        while True:
            least = _relax(c[i], v, shift, i, distance, via)
            j = 2 * n
            for k in range(n):
                j = min(j, key[k] if distance[k] == least else 2 * n)
            if j < n:
                break
            j -= n
            i = row[j]
            tree[size], level[size], saved[size] = j, _float(least), v[j]
            shift = _float(least) - (c[i, j] - v[j])
            v[j] = -np.inf  # no path enters this column again
            distance[j] = _INFINITE
            size += 1
        for k in range(size):
            v[tree[k]] = saved[k] + (level[k] - _float(least))
        key[j] += n
        i = -1
        while i != source:
            i = via[j]
            row[j] = i
            col[i], j = j, col[i]


@_kernel
def _relax(c_i, v, shift, i, distance, via):  # type: ignore[no-untyped-def]
    """Offer every column the path through row i; return the least distance."""
    least = _INFINITE
    for j in range(v.size):
        offer = _order((c_i[j] - v[j]) + shift)
        old, old_via = distance[j], via[j]
        via[j] = i if offer < old else old_via
        new = min(offer, old)
        distance[j] = new
        least = min(least, new)
    return least
