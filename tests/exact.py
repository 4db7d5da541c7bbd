"""W1 and W2 in whole numbers, by a textbook solver: what floating-point solvers are held against."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

from numpy.typing import NDArray

_DIGITS = 2**600  # binary digits kept of roots


def root(x: Fraction) -> Fraction:
    """Return √x to hundreds of digits."""
    return Fraction(math.isqrt(x.numerator * _DIGITS**2 // x.denominator), _DIGITS)


def wasserstein(a: NDArray, b: NDArray, p: int) -> float:
    """Return W_p of points (n, d) and (m, d), each taken as often as makes the sets equal."""
    times = math.lcm(len(a), len(b))
    square = [[sum((Fraction(x) - Fraction(y)) ** 2 for x, y in zip(r, s, strict=True)) for s in b] for r in a.tolist()]
    distinct = square if p == 2 else [[root(x) for x in row] for row in square]
    common = math.lcm(*(x.denominator for row in distinct for x in row))
    whole = [[int(x * common) for x in row] for row in distinct]
    cost = [[whole[i * len(a) // times][j * len(b) // times] for j in range(times)] for i in range(times)]
    mean = Fraction(least_total(cost), common * times)
    return float(root(mean) if p == 2 else mean)


def least_total(cost: list[list[int]]) -> int:
    """Return the least total of an assignment, n rows to n columns, by shortest augmenting paths (Kuhn, Munkres)."""
    n = len(cost)
    u, v, row = [0] * n, [0] * n, [-1] * n
    for source in range(n):
        least, via, seen = [math.inf] * n, [-1] * n, [False] * n
        i, j, tree = source, -1, list[tuple[int, int]]()
        while i >= 0:
            tree.append((i, j))
            for k in itertools.compress(range(n), (not s for s in seen)):
                if (offer := cost[i][k] - u[i] - v[k]) < least[k]:
                    least[k], via[k] = offer, j
            j = min(itertools.compress(range(n), (not s for s in seen)), key=least.__getitem__)
            step = least[j]
            for row_in, column_in in tree:
                u[row_in] += step
                if column_in >= 0:
                    v[column_in] -= step
            least = [x if s else x - step for x, s in zip(least, seen, strict=True)]
            seen[j], i = True, row[j]
        while j >= 0:
            before = via[j]
            row[j] = row[before] if before >= 0 else source
            j = before
    return sum(cost[row[j]][j] for j in range(n))
