"""The Gaussian's loop (Section 2.2 of Bertrand et al. 2024) without its samples, by their exact sufficient statistics.

A fit sees its training rows through their mean and scatter alone, and for m rows of N(μ, Σ), Σ = F Fᵀ, those are
independent: the mean is μ + F z / √m with z ~ N(0, I), the scatter F L Lᵀ Fᵀ with L Lᵀ ~ Wishart(m − 1, I). Bartlett's
L (Anderson, An Introduction to Multivariate Statistical Analysis, Section 7.2) is lower triangular with chi
variables on its diagonal and normals below it; for m − 1 < k it has m − 1 columns, and the scatter is singular. So a
generation costs d² numbers instead of n d, and has the distribution of one that draws every row.

Legend: n real rows, m synthetic ones; d dimensions; k columns of a factor; μ mean; F factor of Σ; z, L as above; R
replicas.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from selfloop.core.streams import generator
from selfloop.mixing.augment import synthetic_rows

Doubles = NDArray[np.float64]

_CHUNK = 64  # replicas that share a stream: fixed, so that a replica's numbers do not depend on how many there are
_NUMBERS = 2048  # drawn at a time and replica


@dataclass(frozen=True)
class Fits:
    """One generation of fitted Gaussians.

    Attributes:
        mean: (R, d) means μ.
        factor: (R, d, k) lower triangular factors F of the covariances F Fᵀ, which are singular where k < d.
    """

    mean: Doubles
    factor: Doubles

    @property
    def covariance(self) -> Doubles:
        """The unbiased covariances Σ, (R, d, d)."""
        covariance: Doubles = self.factor @ self.factor.transpose(0, 2, 1)
        return covariance


def gaussian_loop(
    mean: Doubles,
    covariance: Doubles,
    *,
    n: int,
    generations: int,
    replicas: int,
    lam: float = math.inf,
    seed: int = 0,
) -> Iterator[Fits]:
    """Simulate the loop of the Gaussian from real data N(mean, covariance) and yield generations 0 … ``generations``.

    Generation 0 is fitted to n real rows, new ones for every replica. Later ones are fitted to ⌊λ n⌋ rows of the
    model before and the replica's n real ones, or to n rows of the model before alone if λ is infinite.

    Args:
        mean: (d,) of the real data.
        covariance: (d, d) of the real data, positive semi-definite.
        n: real rows, at least 2.
        generations: retrainings.
        replicas: R independent loops; a loop's numbers depend on the seed and its place among them alone.
        lam: λ.
        seed: of the random streams.

    Raises:
        ValueError: shapes that do not fit, fewer than 2 rows, a negative λ.
    """
    mean, covariance = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
    d = mean.size
    if mean.shape != (d,) or covariance.shape != (d, d):
        raise ValueError(f"mean and covariance must be (d,) and (d, d), not {mean.shape} and {covariance.shape}")
    if n < 2 or not lam >= 0:
        raise ValueError(f"n must be at least 2 and lam at least 0, not {n} and {lam}")
    root = np.empty((1, d, d))
    _factor(covariance[None].copy(), root)
    start = Fits(np.tile(mean, (replicas, 1)), np.tile(root, (replicas, 1, 1)))
    real = fits = _retrain(start, n, _Draws(seed, "real", replicas, d, n)[0])
    yield fits
    m = n if math.isinf(lam) else synthetic_rows(lam, n)
    draws = _Draws(seed, "synthetic", replicas, fits.factor.shape[2], m)
    for t in range(generations):
        if m:
            synthetic = _retrain(fits, m, draws[t])
            fits = synthetic if math.isinf(lam) else _pooled(real, n, synthetic, m)
        yield fits


class _Draws:
    """The random numbers of a generation, for R replicas of k factor columns and m rows."""

    def __init__(self, seed: int, purpose: str, replicas: int, k: int, m: int) -> None:
        self._key, self._replicas, self._k, self._m = (seed, f"gaussian loop/{purpose}"), replicas, k, m
        self._below = np.tril_indices(k, -1, min(k, m - 1))[0].size
        self._steps = max(1, min(256, _NUMBERS // (k + self._below)))
        self._block = -1

    def __getitem__(self, t: int) -> tuple[Doubles, Doubles, Doubles]:
        """Return z (R, k), the diagonals of L (R, min(k, m − 1)) and what is below them (R, ·), row by row."""
        block, step = divmod(t, self._steps)
        if block != self._block:
            self._block, self._drawn = block, self._draw(block)
        return tuple(x[step, : self._replicas] for x in self._drawn)  # type: ignore[return-value]

    def _draw(self, block: int) -> list[Doubles]:
        parts = []
        for chunk in range(-(-self._replicas // _CHUNK)):
            rng, shape = generator(*self._key, chunk, block), (self._steps, _CHUNK)
            z = rng.standard_normal((*shape, self._k))
            below = rng.standard_normal((*shape, self._below))
            # χ²_ν is twice a Gamma(ν / 2), and L's i-th diagonal has ν = m − 1 − i.
            gammas = [rng.standard_gamma((self._m - 1 - i) / 2, shape) for i in range(min(self._k, self._m - 1))]
            parts.append((z, np.sqrt(2 * np.stack(gammas, -1)) if gammas else np.empty((*shape, 0)), below))
        return [np.concatenate(part, axis=1) for part in zip(*parts, strict=True)]


def _retrain(fits: Fits, m: int, draws: tuple[Doubles, Doubles, Doubles]) -> Fits:
    """Return the fits to m rows of ``fits``; of one row the covariance is that of none, zero."""
    z, diagonal, below = draws
    mean = np.empty_like(fits.mean)
    factor = np.empty((*fits.mean.shape, max(1, diagonal.shape[1])))
    _advance(fits.mean, fits.factor, z, diagonal, below, m, mean, factor)
    return Fits(mean, factor)


def _pooled(a: Fits, n: int, b: Fits, m: int) -> Fits:
    """Return the fits to the union of n rows with fit ``a`` and m rows with fit ``b``."""
    apart = a.mean - b.mean
    scatter = (n - 1) * a.covariance + (m - 1) * b.covariance
    scatter += n * m / (n + m) * apart[:, :, None] * apart[:, None, :]
    factor = np.empty_like(scatter)
    _factor(scatter / (n + m - 1), factor)
    return Fits((n * a.mean + m * b.mean) / (n + m), factor)


@njit(cache=True, nogil=True)
def _advance(
    mean: Doubles,
    factor: Doubles,
    z: Doubles,
    diagonal: Doubles,
    below: Doubles,
    m: int,
    new_mean: Doubles,
    new_factor: Doubles,
) -> None:
    """Write μ + F z / √m and F L / √(m − 1) for lower triangular F."""
    columns = diagonal.shape[1]
    for r in range(len(mean)):
        for i in range(factor.shape[1]):
            row, total = new_factor[r, i], 0.0
            row[:] = 0
            position = 0
            for j in range(min(i + 1, factor.shape[2])):  # row j of L is the next of ``below``, then a diagonal
                total += factor[r, i, j] * z[r, j]
                scale = factor[r, i, j] / np.sqrt(max(m - 1, 1))
                width = min(j, columns)
                _axpy(scale, below[r, position : position + width], row)
                if j < columns:
                    row[j] += scale * diagonal[r, j]
                position += width
            new_mean[r, i] = mean[r, i] + total / np.sqrt(m)


@njit(fastmath={"contract"})
def _axpy(a: float, x: Doubles, y: Doubles) -> None:
    for c in range(x.size):
        y[c] += a * x[c]


@njit(cache=True, nogil=True)
def _factor(covariance: Doubles, factor: Doubles) -> None:
    """Write the Cholesky factors of positive semi-definite (R, d, d) matrices, which are lost: L Lᵀ = Σ.

    A pivot that rounding alone keeps from zero leaves its column zero: the matrix has no variance left there.
    """
    d = covariance.shape[1]
    for r in range(len(covariance)):
        a, low = covariance[r], factor[r]
        low[:] = 0
        for j in range(d):
            pivot = a[j, j]
            tiny = 4 * d * 2.2e-16 * pivot
            for c in range(j):
                pivot -= low[j, c] * low[j, c]
            if pivot > tiny:
                low[j, j] = np.sqrt(pivot)
                for i in range(j + 1, d):
                    total = a[i, j]
                    for c in range(j):
                        total -= low[i, c] * low[j, c]
                    low[i, j] = total / low[j, j]
