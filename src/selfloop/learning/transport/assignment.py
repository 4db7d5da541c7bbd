"""Exact linear assignment for batches of dense square costs: an auction finds prices, shortest paths finish.

Bertsekas' auction ("The auction algorithm: a distributed relaxation method for the assignment problem", Annals of
Operations Research 14, 1988) settles most of a problem in a few cheap scans a row, but ends in price wars. The
shortest augmenting paths of Jonker and Volgenant ("A shortest augmenting path algorithm for dense and sparse linear
assignment problems", Computing 38, 1987) are exact from any prices, and few and short from good ones. So the auction
runs on costs rounded to integers, is cut off early, and hands over nothing but its prices and those pairs that are
optimal under them to the last bit; the paths run in float64 on the given numbers.

Prices as large as a far entry round away what small entries differ by. So where they are that large beside the total
found, the problem is solved again without what no better permutation can use: of costs above their row's least, those
greater than all of the found permutation's together.

Both are scans for the least entry of a row, and LLVM vectorises the least of integers but not of floats. Hence two
encodings: the auction carries a column's number in the low bits of its cost, and the paths compare floats by their
bits. Neither needs fastmath. Loops stand where array expressions could: those take numba seconds to compile.

Legend: n rows and columns; c costs; q rounded costs; p auction prices; v column duals, so that a pair (i, j) is
optimal if c[i, j] − v[j] is least in row i; ``row[j]`` and ``col[i]`` the partners of a column and a row, −1 if none.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, overload

import numpy as np
import scipy.linalg.cython_blas  # noqa: F401  numba's products come from here
from numba import njit
from numpy.typing import NDArray
from torch import Tensor, from_numpy, get_num_threads

Doubles = NDArray[np.float64]
Indices = NDArray[np.int64]

# Bid increments ε in units of the mean cost above the row minimum, the share of rows that one ε may leave waiting,
# and the bids a row that mean war: tuned on clouds of 128 to 1000 points, and the optimum is flat.
_EPSILONS = (0.5, 0.1, 0.02, 0.004, 0.0008)
_LEAVE = 0.01
_WAR = 20
_CLIP = 32.0  # more than so many means are beyond the auction's integers
_NONE = np.int32(2**31 - 1)
_MAGNITUDE = np.int64(2**63 - 1)  # all bits of a float but the sign
_NOT_FINITE = -2
_ROUNDING = 2.0**-53
_GAP = 1e-12  # of the total
FEW = 16
"""Dimensions up to which differences are quicker than a matrix product."""
CANCELLED = 1e-6
"""Of ‖a‖² + ‖b‖²: a distance by a product that is less than that has lost six digits."""
_INFINITE = np.int64(0x7FF0000000000000)  # the bits of +inf


@overload
def assignment(cost: Tensor) -> Tensor: ...
@overload
def assignment(cost: NDArray[Any]) -> Indices: ...
def assignment(cost: Tensor | NDArray[Any]) -> Tensor | Indices:
    """Return the permutations of least total cost.

    They are exact: no other total is smaller by more than the rounding of a sum of its own entries, however large those
    are that it leaves out. Which of several optimal permutations is returned depends on the problem alone, not on its
    neighbours in the batch nor on the threads that share it (``torch.get_num_threads()``).

    Args:
        cost: (n, n) or (batch, n, n) float32 or float64 on the CPU, of any sign and strides.

    Returns:
        (n,) or (batch, n) int64, the column matched to each row: a tensor for a tensor, an array for an array.

    Raises:
        ValueError: another shape or dtype, or an entry that is infinite or not a number.
    """
    if isinstance(cost, Tensor):
        return from_numpy(assignment(cost.detach().numpy()))
    if cost.ndim not in (2, 3) or cost.shape[-1] != cost.shape[-2] or cost.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"cost must be float32 or float64 of shape (n, n) or (batch, n, n), not {cost.dtype} {cost.shape}"
        )
    n = cost.shape[-1]
    c = np.require(cost, np.float64, ["C", "A", "W", "E"])  # numba compiles for each kind of array: keep to one
    c = c.reshape(cost.size // max(n * n, 1), n, n)
    col = np.empty(c.shape[:2], dtype=np.int64)
    if col.size:
        _solve_in_threads(c, col)
        for batch in np.flatnonzero(col[:, 0] == _NOT_FINITE):
            i, j = np.argwhere(~np.isfinite(c[batch]))[0]
            raise ValueError(f"cost must be finite, but is {c[batch, i, j]} at batch {batch}, row {i}, column {j}")
    return col.reshape(cost.shape[:-1])


def assign_points(a: Doubles, b: Doubles) -> Indices:
    """Return the permutations of least total squared distance between point sets, on one thread.

    Args:
        a: (batch, n, d) float64.
        b: (batch, n, d) float64.

    Returns:
        (batch, n) int64, the row of b matched to each row of a.

    Raises:
        ValueError: a squared distance is not finite.
    """
    col = np.empty(a.shape[:2], np.int64)
    _solve_points(np.ascontiguousarray(a), np.ascontiguousarray(b), np.array(_EPSILONS), col)
    if (bad := np.flatnonzero(col[:, :1] == _NOT_FINITE)).size:
        raise ValueError(f"the point sets of batch {bad[0]} have a squared distance that is not finite")
    return col


@njit(cache=True, nogil=True)
def _solve_points(a: Doubles, b: Doubles, epsilons: Doubles, col: Indices) -> None:
    """Solve for a and b (batch, n, d), each problem while its costs are still in the cache."""
    cost = np.empty((1, a.shape[1], a.shape[1]))
    for batch in range(a.shape[0]):
        if a.shape[2] <= FEW:
            squared_differences(a[batch], b[batch].T.copy(), cost[0])
        else:
            _products(a[batch], b[batch], cost[0])
        _solve(cost, epsilons, col[batch : batch + 1])


@njit(cache=True, nogil=True)
def squared_differences(a: Doubles, b: Doubles, out: Doubles) -> None:
    """Write the squared distances (n, m) of a (n, d) and b (d, m)."""
    for i in range(a.shape[0]):
        out[i] = 0
        for k in range(b.shape[0]):
            for j in range(b.shape[1]):
                difference = a[i, k] - b[k, j]
                out[i, j] += difference * difference


@njit(cache=True, nogil=True)
def _products(a: Doubles, b: Doubles, out: Doubles) -> None:
    """Write the squared distances (n, m) of a (n, d) and b (m, d) by a matrix product of the centred points."""
    centre = np.zeros(b.shape[1])
    for j in range(b.shape[0]):
        centre += b[j]
    centre /= b.shape[0]
    x, y = a - centre, b - centre
    np.dot(x, y.T, out)
    x_square, y_square = np.empty(x.shape[0]), np.empty(y.shape[0])
    for points, square in ((x, x_square), (y, y_square)):
        for i in range(points.shape[0]):
            square[i] = np.dot(points[i], points[i])
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = x_square[i] + y_square[j] - 2 * out[i, j]
    # From the points as they are: the centred ones are rounded where the centre is far from them.
    cancelled_differences(a, b, x_square, y_square, CANCELLED, out)


@njit(cache=True, nogil=True)
def roots(x: Doubles) -> None:
    """Take the square roots of (n, m) numbers in place: a third of the time that torch takes for the same bits."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[i, j] = np.sqrt(x[i, j])


@njit(cache=True, nogil=True)
def cancelled_differences(
    a: Doubles, b: Doubles, a_square: Doubles, b_square: Doubles, share: float, out: Doubles
) -> None:
    """Write from differences those squared distances that cancelled in a formula.

    Args:
        a: points (n, d).
        b: points (m, d).
        a_square: their squared lengths (n,) in the formula.
        b_square: likewise (m,).
        share: of the sum of the two, below which a distance is computed again.
        out: the distances (n, m), as ``‖a‖² + ‖b‖² − 2 a·b``.
    """
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            if not out[i, j] >= share * (a_square[i] + b_square[j]):
                square = 0.0
                for k in range(a.shape[1]):
                    difference = a[i, k] - b[j, k]
                    square += difference * difference
                out[i, j] = square


def _solve_in_threads(c: Doubles, col: Indices) -> None:
    """Share the batch among as many threads as torch may use; a problem's answer does not depend on which solves it."""
    epsilons, threads = np.array(_EPSILONS), min(get_num_threads(), len(c))
    if threads == 1:
        _solve(c, epsilons, col)
        return
    with ThreadPoolExecutor(threads) as pool:
        parts = zip(np.array_split(c, threads), np.array_split(col, threads), strict=True)
        for part in [pool.submit(_solve, costs, epsilons, columns) for costs, columns in parts]:
            part.result()


@njit(cache=True, nogil=True)  # compiles and caches all that it calls
def _solve(c: Doubles, epsilons: Doubles, col: Indices) -> None:
    """Solve the problems c (batch, n, n) into col (batch, n), whose first entry says if c is not finite."""
    n = c.shape[1]
    row, v = np.empty(n, np.int64), np.empty(n)
    q = np.empty((n, n), np.int32)
    for b in range(c.shape[0]):
        peak = _peak(c[b])
        if not peak < np.inf:
            col[b, 0] = _NOT_FINITE
            continue
        # Sums of such costs would over- or underflow, and powers of two change no digit.
        problem = _scaled(c[b], peak) if peak > 1e290 or 0.0 < peak < 1e-290 else c[b]
        _auction(problem, epsilons, q, row, v)
        _augment(problem, row, v, col[b])
        while _doubtful(problem, v, col[b]):
            excess = _excess(problem, col[b])
            if not excess > 0.0:  # no row has less to offer
                break
            problem, kept = _near(problem, excess), col[b].copy()
            before = _excess(problem, kept)
            _auction(problem, epsilons, q, row, v)
            _augment(problem, row, v, col[b])
            if not _excess(problem, col[b]) < before:
                col[b] = kept
                break


@njit
def _peak(c: Doubles) -> np.float64:
    """Return the largest magnitude, which is no number if an entry is none."""
    peak = np.int64(0)
    for i in range(c.shape[0]):
        for j in range(c.shape[1]):
            peak = max(peak, np.float64(c[i, j]).view(np.int64) & _MAGNITUDE)
    return np.int64(peak).view(np.float64)


@njit
def _scaled(c: Doubles, peak: float) -> Doubles:
    """Return c over the power of two next to its peak."""
    exponent = math.frexp(peak)[1]
    scaled = np.empty_like(c)
    for i in range(c.shape[0]):
        for j in range(c.shape[1]):
            scaled[i, j] = math.ldexp(c[i, j], -exponent)
    return scaled


@njit
def _doubtful(c: Doubles, v: Doubles, col: Indices) -> bool:
    """Whether duals are so large beside the total that their rounding may have cost some of it.

    The sum of the reduced costs of n pairs is wrong by n · max(|u|, |v|) roundings, u the duals of rows, for each of
    the paths by which a dual has moved: dozens.
    """
    n, total, largest = v.size, 0.0, 0.0
    for i in range(n):
        entry = c[i, col[i]]
        total += abs(entry)
        largest = max(largest, abs(v[i]), abs(entry - v[col[i]]))
    return n * largest * _ROUNDING > _GAP * total


@njit
def _excess(c: Doubles, col: Indices) -> float:
    """Return the sum of what the matched entries are above the least of their rows, none of which cancels."""
    total = 0.0
    for i in range(col.size):
        total += c[i, col[i]] - c[i].min()
    return total


@njit
def _near(c: Doubles, excess: float) -> Doubles:
    """Return costs above the least of their rows, those of twice ``excess`` and more made that, over a power of two.

    A permutation whose excess is less has no such entry, and keeps its excess but for the scale.
    """
    exponent, near = math.frexp(excess)[1], np.empty_like(c)
    for i in range(c.shape[0]):
        least = c[i].min()
        for j in range(c.shape[1]):
            near[i, j] = math.ldexp(min(c[i, j] - least, 2.0 * excess), -exponent)
    return near


@njit
def _order(x: float) -> np.int64:
    """Return the bits of a float as an integer that compares as the float does."""
    bits = np.float64(x).view(np.int64)
    return bits ^ ((bits >> 63) & _MAGNITUDE)


@njit
def _float(order: np.int64) -> np.float64:
    """Invert ``_order``."""
    return np.int64(order ^ ((order >> 63) & _MAGNITUDE)).view(np.float64)


@njit
def _least(c_i: Doubles, v: Doubles) -> np.int64:
    """Return the least of c_i − v, in ``_order``."""
    least = _INFINITE
    for j in range(v.size):
        least = min(least, _order(c_i[j] - v[j]))
    return least


@njit(fastmath={"reassoc", "nsz"})  # only a scale: any order of the sum will do
def _mean(c_i: Doubles, v: Doubles) -> float:
    total = 0.0
    for j in range(v.size):
        total += c_i[j] - v[j]
    return total / v.size


@njit
def _bid(q_i: NDArray[np.int32], p: NDArray[np.int32]) -> tuple[np.int32, np.int32]:
    """Return the two least of q_i + p, which differ because their low bits do."""
    best = _NONE
    for j in range(p.size):
        best = min(best, np.int32(q_i[j] + p[j]))
    second = _NONE
    for j in range(p.size):
        entry = np.int32(q_i[j] + p[j])
        second = min(second, entry if entry > best else _NONE)
    return best, second


@njit
def _auction(c: Doubles, epsilons: Doubles, q: NDArray[np.int32], row: Indices, v: Doubles) -> None:
    """Write the partners that the auction ends with to row (n,) and its prices to v (n,); q (n, n) is scratch.

    q[i, j] has j in its low bits, and prices are multiples of 2**bits: the least of q[i] + p names its column.
    Costs and prices stay below 2**29, or there is war, and so no sum overflows.
    """
    n = v.size
    v[:] = np.inf
    for i in range(n):
        for j in range(n):
            v[j] = c[i, j] if c[i, j] < v[j] else v[j]
    low, mean = np.empty(n), 0.0  # above the column minima: what is left shows structure also when all rows are near
    for i in range(n):
        low[i] = _float(_least(c[i], v))
        mean += (_mean(c[i], v) - low[i]) / n
    row[:] = -1
    if not mean > 0.0:  # every pair is optimal
        return
    bits = 1
    while 1 << bits < n:
        bits += 1
    top = float(1 << (29 - bits))
    unit = top / _CLIP / mean
    for i in range(n):
        for j in range(n):
            x = (c[i, j] - v[j] - low[i]) * unit
            q[i, j] = (np.int32(x if x < top else top) << bits) | j

    p, stack = np.zeros(n, np.int32), np.empty(n, np.int64)
    war = False
    for epsilon in epsilons:
        step = max(int(epsilon * mean * unit), 1)
        for k in range(n):
            row[k], stack[k] = -1, k
        waiting, bids = n, 0
        while waiting > _LEAVE * n and not war:
            waiting -= 1
            i = stack[waiting]
            best, second = _bid(q[i], p)
            j = int(best) & ((1 << bits) - 1)
            p[j] += ((second >> bits) - (best >> bits) + step) << bits
            if row[j] >= 0:
                stack[waiting] = row[j]
                waiting += 1
            row[j] = i
            bids += 1
            war = bids > _WAR * n or p[j] >> bits >= top
    for k in range(n):
        v[k] -= p[k] / (unit * (1 << bits))


@njit
def _relax(c_i: Doubles, v: Doubles, shift: float, i: int, distance: Indices, via: Indices) -> np.int64:
    """Offer every column the path through row i; return the least distance."""
    least = _INFINITE
    for j in range(v.size):
        offer = _order(c_i[j] - v[j] + shift)
        old, old_via = distance[j], via[j]
        via[j] = i if offer < old else old_via
        new = min(offer, old)
        distance[j] = new
        least = min(least, new)
    return least


@njit
def _augment(c: Doubles, row: Indices, v: Doubles, col: Indices) -> None:
    """Keep the pairs in row that are optimal under v, whatever they are, and match the other rows: write col (n,)."""
    n = v.size
    key = np.arange(n)  # plus n if the column is taken: the least key of a tie is a free column, the end of a path
    col[:] = -1
    for j in range(n):
        if row[j] >= 0 and _order(c[row[j], j] - v[j]) == _least(c[row[j]], v):
            col[row[j]] = j
            key[j] += n
    distance, via = np.empty(n, np.int64), np.empty(n, np.int64)  # distances in _order, as they are compared most
    tree, level, saved = np.empty(n, np.int64), np.empty(n), np.empty(n)
    for source in range(n):
        if col[source] >= 0:
            continue
        distance[:] = _INFINITE
        i, shift, size = source, 0.0, 0
        while True:  # Dijkstra: each round adds the nearest column and its row to the tree
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
            v[j] = -np.inf  # no later offer is below infinity
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
