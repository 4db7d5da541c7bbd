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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

from selfloop.core.streams import generator
from selfloop.mixing.augment import synthetic_rows

Doubles = NDArray[np.float64]

_CHUNK = 64  # replicas that share a stream: fixed, so that a replica's numbers do not depend on how many there are
_NUMBERS = 2048  # drawn at a time and replica
_LANES = 32  # replicas that are computed side by side


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
    real = fits = next(_simulated(start, n, 1, _Draws(seed, "real", d, n)))
    yield fits
    m = n if math.isinf(lam) else synthetic_rows(lam, n)
    if m:
        # The union with real rows has as many columns as there are dimensions.
        draws = _Draws(seed, "synthetic", fits.factor.shape[2] if math.isinf(lam) else d, m)
        yield from _simulated(fits, m, generations, draws, None if math.isinf(lam) else (real, n))
    else:
        yield from [fits] * generations


class _Draws:
    """The random numbers of chunks of replicas, for k factor columns and m rows."""

    def __init__(self, seed: int, purpose: str, k: int, m: int) -> None:
        self._key, self._m = (seed, f"gaussian loop/{purpose}"), m
        columns = min(k, m - 1)
        below = np.tril_indices(k, -1, columns)[0].size
        self.steps = max(1, min(256, _NUMBERS // (k + below)))  # generations in a block
        self._shapes = (self.steps, _CHUNK, k), (columns, self.steps, _CHUNK), (self.steps, _CHUNK, below)

    def empty(self) -> tuple[Doubles, Doubles, Doubles]:
        """Return room for a block of a chunk: z, the diagonals of L, and what is below them, row by row."""
        z, diagonal, below = map(np.empty, self._shapes)
        return z, diagonal, below

    def draw(self, chunk: int, block: int, z: Doubles, diagonal: Doubles, below: Doubles) -> None:
        """Draw a block of a chunk."""
        rng = generator(*self._key, chunk, block)
        rng.standard_normal(out=z)
        rng.standard_normal(out=below)
        for i, column in enumerate(diagonal):  # χ²_ν is twice a Gamma(ν / 2), and L's i-th diagonal has ν = m − 1 − i
            rng.standard_gamma((self._m - 1 - i) / 2, out=column)
        np.sqrt(np.multiply(diagonal, 2, out=diagonal), out=diagonal)


def _simulated(
    start: Fits, m: int, generations: int, draws: _Draws, real: tuple[Fits, int] | None = None
) -> Iterator[Fits]:
    """Yield the fits to m rows of the model before, or to these and the n real ones that are given by their fit.

    As many threads as torch may use take turns at the chunks of replicas, a block of generations at a time.
    """
    replicas, d = start.mean.shape
    k = d if real else max(1, min(start.factor.shape[2], m - 1))
    threads = min(torch.get_num_threads(), -(-replicas // _CHUNK))

    def simulate(share: int) -> None:
        room = draws.empty()
        for low in range(share * _CHUNK, replicas, threads * _CHUNK):
            draws.draw(low // _CHUNK, block, *room)
            chunk = slice(low, low + _CHUNK)
            if real is None:
                _advance(fits.mean[chunk], fits.factor[chunk], *room, 0, m, low, means, factors)
            else:
                at_first, n = Fits(real[0].mean[chunk], real[0].factor[chunk]), real[1]
                pooled = Fits(fits.mean[chunk], fits.factor[chunk])
                for step in range(len(means)):
                    made = _retrained(pooled, m, room, step)
                    pooled = _pooled(at_first, n, made, m)
                    means[step, chunk], factors[step, chunk] = pooled.mean, pooled.factor

    fits = start
    with ThreadPoolExecutor(threads) as pool:
        for block in range(-(-generations // draws.steps)):
            steps = min(draws.steps, generations - block * draws.steps)
            means, factors = np.empty((steps, replicas, d)), np.empty((steps, replicas, d, k))
            list(pool.map(simulate, range(threads)))
            for mean, factor in zip(means, factors, strict=True):
                yield (fits := Fits(mean, factor))


def _retrained(fits: Fits, m: int, draws: tuple[Doubles, Doubles, Doubles], step: int) -> Fits:
    """Return the fits to m rows of ``fits``; of one row the covariance is that of none, zero."""
    mean = np.empty((1, *fits.mean.shape))
    factor = np.empty((*mean.shape, max(1, len(draws[1]))))
    _advance(fits.mean, fits.factor, *draws, step, m, 0, mean, factor)
    return Fits(mean[0], factor[0])


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
    first: int,
    m: int,
    low: int,
    means: Doubles,
    factors: Doubles,
) -> None:
    """Write μ + F z / √m and F L / √(m − 1) for lower triangular F, from the draws of step ``first`` on, one by one.

    Replicas lie beside each other, so that one instruction serves several; what each is computed by is the same.
    """
    count, d = mean.shape
    k, columns = factor.shape[2], len(diagonal)
    spread, root = np.sqrt(max(m - 1, 1)), np.sqrt(m)
    old, new = np.zeros((2, d, max(k, factors.shape[3]), _LANES))
    center, total, scale = np.zeros((d, _LANES)), np.zeros(_LANES), np.zeros(_LANES)
    latent, lower, chi = np.zeros((z.shape[2], _LANES)), np.zeros((below.shape[2], _LANES)), np.zeros((columns, _LANES))
    for begin in range(0, count, _LANES):
        lanes, k = min(_LANES, count - begin), factor.shape[2]
        for r in range(lanes):
            center[:, r] = mean[begin + r]
            old[:, :k, r] = factor[begin + r]
        for t in range(len(means)):
            for r in range(lanes):
                latent[:, r] = z[first + t, begin + r]
                lower[:, r] = below[first + t, begin + r]
            chi[:, :lanes] = diagonal[:, first + t, begin : begin + lanes]
            for i in range(d):
                new[i] = 0
                total[:] = 0
                position = 0
                for j in range(min(i + 1, k)):  # row j of L is the next of ``below``, then a diagonal
                    for r in range(_LANES):
                        total[r] += old[i, j, r] * latent[j, r]
                        scale[r] = old[i, j, r] / spread
                    width = min(j, columns)
                    for c in range(width):
                        _add_product(scale, lower[position + c], new[i, c])
                    if j < columns:
                        for r in range(_LANES):
                            new[i, j, r] += scale[r] * chi[j, r]
                    position += width
                for r in range(_LANES):
                    center[i, r] += total[r] / root
            for r in range(lanes):
                means[t, low + begin + r] = center[:, r]
                factors[t, low + begin + r] = new[:, : factors.shape[3], r]
            old, new, k = new, old, factors.shape[3]


@njit(fastmath={"contract"})
def _add_product(a: Doubles, x: Doubles, y: Doubles) -> None:
    for r in range(_LANES):
        y[r] += a[r] * x[r]


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
