"""The inner loops of neighbour search and ball counting, compiled.

Legend: g a block of products q·r; norms of its rows; x, y the rows themselves; times how often each distinct row
occurs; near, number (n, m) a row's least squared distances so far and to which rows; radii squared, (B, n) for B kinds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]


@njit(cache=True, nogil=True)
def offer(
    g: Array, q_norms: Array, r_norms: Array, ids: Array, j0: int, near: Array, number: Array, i0: int, both: bool
) -> None:
    """Offer the distances of a block to the rows i0 …, and if ``both`` to the rows j0 … as well."""
    last = near.shape[1] - 1
    for i in range(g.shape[0]):
        square, worst = q_norms[i] * q_norms[i], near[i0 + i, last]
        for j in range(g.shape[1]):
            distance = square + r_norms[j] * r_norms[j] - 2.0 * g[i, j]
            if distance < worst and j0 + j != ids[i]:
                _insert(near[i0 + i], number[i0 + i], distance, j0 + j)
                worst = near[i0 + i, last]
            if both and distance < near[j0 + j, last]:
                _insert(near[j0 + j], number[j0 + j], distance, ids[i])


@njit
def _insert(near: Array, number: Array, distance: float, j: int) -> None:
    place = near.size - 1
    while place > 0 and near[place - 1] > distance:
        near[place], number[place] = near[place - 1], number[place - 1]
        place -= 1
    near[place], number[place] = distance, j


@njit
def _square_distance(a: Array, b: Array) -> float:
    """Return ‖a − b‖² in float64 by differences, added in one order whichever comes first."""
    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
    even = a.size - a.size % 4
    for k in range(0, even, 4):
        d0, d1 = np.float64(a[k]) - b[k], np.float64(a[k + 1]) - b[k + 1]
        d2, d3 = np.float64(a[k + 2]) - b[k + 2], np.float64(a[k + 3]) - b[k + 3]
        s0 += d0 * d0
        s1 += d1 * d1
        s2 += d2 * d2
        s3 += d3 * d3
    for k in range(even, a.size):
        d0 = np.float64(a[k]) - b[k]
        s0 += d0 * d0
    return (s0 + s1) + (s2 + s3)


@njit
def _ranks(distance: Array, times: Array, own: int, ks: Array, out: Array) -> None:
    """Write the ks-th least of distances that occur ``times`` times, the row's own copies (at 0) among them."""
    order = np.argsort(distance)
    for b in range(ks.size):
        seen = own - 1  # the other copies of the row
        out[b] = 0.0
        for place in order:
            if seen >= ks[b]:
                break
            seen += times[place]
            out[b] = distance[place]


@njit(cache=True, nogil=True)
def settle(
    x: Array,
    times: Array,
    todo: Array,
    near: Array,
    number: Array,
    norms: Array,
    slack: float,
    ks: Array,
    complete: bool,
    out: Array,
) -> Array:
    """Write the exact radii of the rows whose kept neighbours are certain to hold the nearest; return which."""
    done = np.zeros(todo.size, np.bool_)
    largest = norms.max()
    kept = near.shape[1]
    exact, copies = np.empty(kept), np.empty(kept, np.int64)
    for i in range(todo.size):
        row = todo[i]
        for place in range(kept):
            exact[place] = _square_distance(x[row], x[number[i, place]])
            copies[place] = times[number[i, place]]
        _ranks(exact, copies, times[row], ks, out[:, row])
        # No row that was not kept is nearer than the last one kept, less what rounding may have done.
        reach = near[i, kept - 1] - slack * (norms[row] + largest) ** 2
        done[i] = complete or out[:, row].max() < reach or times[row] - 1 >= ks.max()
    return done


@njit(cache=True, nogil=True)
def settle_by_all(x: Array, times: Array, todo: Array, ks: Array, out: Array) -> None:
    """Write the exact radii of a few rows from their distances to all others."""
    distance, copies = np.empty(len(x)), times.copy()
    for row in todo:
        for j in range(len(x)):
            distance[j] = _square_distance(x[row], x[j])
        copies[row] = 0
        _ranks(distance, copies, times[row], ks, out[:, row])
        copies[row] = times[row]


@njit(cache=True, nogil=True)
def enter(
    g: Array,
    p_norms: Array,
    q_norms: Array,
    x: Array,
    y: Array,
    times: Array,
    radii_x: Array,
    radii_y: Array,
    closed: Array,
    slack: float,
    floor: float,
    counts: Array,
    covered: Array,
    recalled: Array,
) -> None:
    """Enter a block's memberships: x, y its rows; radii squared; slack and floor bound the relative and the
    absolute error of a distance, the latter where products underflow; the rest as ``membership`` returns."""
    largest = np.zeros(g.shape[1])  # of a point's balls, so that far pairs cost one comparison
    reach = np.zeros(g.shape[0])
    for b in range(closed.size):
        largest = np.maximum(largest, radii_y[b])
        reach = np.maximum(reach, radii_x[b])
    for i in range(g.shape[0]):
        square = p_norms[i] * p_norms[i]
        for j in range(g.shape[1]):
            distance = square + q_norms[j] * q_norms[j] - 2.0 * g[i, j]
            error = slack * (p_norms[i] + q_norms[j]) * (p_norms[i] + q_norms[j]) + floor
            if distance - error > max(reach[i], largest[j]):
                continue
            known = False
            for b in range(closed.size):
                for side in range(2):
                    radius = radii_x[b, i] if side == 0 else radii_y[b, j]
                    if side == 1 and recalled[b, i]:
                        continue
                    if not known and abs(radius - distance) <= error:
                        distance, error, known = _square_distance(x[i], y[j]), 0.0, True
                    if distance < radius or (closed[b] and distance == radius):
                        if side == 0:
                            counts[b, j] += times[i]
                            covered[b, i] = True
                        else:
                            recalled[b, i] = True
