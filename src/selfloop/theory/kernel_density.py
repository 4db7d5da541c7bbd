"""Loops of a kernel density estimate with a fixed bandwidth: drawing is picking a row and adding noise of variance h².

Legend: n rows; h bandwidth, the kernel's standard deviation; V variance of the estimated density, that of its rows
(divided by n) and h²; d = 1, each coordinate by itself in more.
"""

from __future__ import annotations


def replaced_variance(n: int, bandwidth: float, generations: int, start: float = 1.0) -> float:
    """Return E V_t from V_0 = ``start`` after t fully synthetic retrainings: V′ = (1 − 1/n)V + h², which goes to nh².

    n rows of a density of variance V have (1 − 1/n)V on average, and the kernel adds h². Their own variance, without
    the kernel, goes to (n − 1)h². It forgets the data altogether: no variance is kept, only that of the noise.
    """
    limit = n * bandwidth**2
    return limit + (1 - 1 / n) ** generations * (start - limit)


def second_moment_drift(bandwidth: float, real: float, generations: int) -> float:
    """Return E x²_t − E x²_data when a share α of each generation's rows is new real ones: h²(1 − (1−α)^t)/α.

    x_t are the samples that generation t trains on, of t kernels, those of generations 0 to t − 1; of the density of
    generation t it is the value at t + 1. Each generation adds h² to the rows that it draws, of which 1 − α train the
    next: Σ(1−α)^k h², k < t, for any n, exactly. With α = 0 it is th².
    """
    return float(bandwidth**2 * sum((1 - real) ** k for k in range(generations)))
