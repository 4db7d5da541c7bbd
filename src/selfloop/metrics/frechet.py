"""The Fréchet distance of Gaussians fitted to two sets of features, on Inception's the FID (Heusel et al. 2017, Eq. 6).

All sums are float64 and streamed. With factors C = F Fᵀ of the two covariances, tr √(C₁ C₂) is the sum of the singular
values of F₁ᵀ F₂, which holds for singular covariances too and needs no square root of a matrix that is not symmetric.

Legend: N rows, d features; μ mean, C unbiased covariance, F a factor (d, r) of it; M = F₁ᵀ F₂.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import blas, eigvalsh, lapack
from torch import Tensor

from selfloop.core.streams import generator
from selfloop.metrics.arrays import ArrayLike, level, pair, rows
from selfloop.metrics.base import METRICS, compared
from selfloop.metrics.demand import Sizes

Doubles = NDArray[np.float64]

_BATCH = 4096  # rows whose float64 copy is held at a time
_EXACT = 1e-9  # relative error that the quick way may have
_LARGE = 512  # singular values up to which there is no need for it


class Moments:
    """Mean and covariance of rows that come batch by batch; merged with ``+``.

    Sums are taken about the first batch's mean, so that data far from the origin lose no digits.

    Args:
        d: features of a row.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import Moments, frechet
        >>> rng = np.random.default_rng(0)
        >>> real, generated = rng.normal(size=(500, 2)), 0.5 * rng.normal(size=(500, 2))
        >>> whole = Moments.of(real[:200]) + Moments.of(real[200:])
        >>> whole.n, round(frechet(whole, generated), 2)
        (500, 0.44)
    """

    def __init__(self, d: int) -> None:
        self.n = 0
        self._origin: Doubles = np.zeros(d)
        self._sum: Doubles = np.zeros(d)
        # The lower triangle of Σ (x − origin)(x − origin)ᵀ, in Fortran's order; BLAS adds to it in place.
        self._square: Doubles = np.zeros((d, d), order="F")

    @classmethod
    def of(cls, x: ArrayLike | Iterable[ArrayLike]) -> Moments:
        """Return the moments of (N, *event) rows, or of batches of them.

        Raises:
            ValueError: an entry is not finite, or there is no row.
        """
        batches = [x] if isinstance(x, (Tensor, np.ndarray)) else x
        moments = None
        for batch in batches:
            flat = rows(batch, "features", finite=False)  # sums that are not finite say so, too
            moments = cls(flat.shape[1]) if moments is None else moments
            moments.update(flat)
        if moments is None:
            raise ValueError("there are no features")
        return moments

    def update(self, x: Tensor) -> None:
        """Add (N, d) rows.

        Raises:
            ValueError: they are not d wide, or an entry is not finite.
        """
        if x.ndim != 2 or x.shape[1] != len(self._sum):
            raise ValueError(f"rows of {len(self._sum)} features are needed, not {tuple(x.shape)}")
        buffer = torch.empty(
            min(len(x), _BATCH), x.shape[1], dtype=torch.float64
        )  # one: fresh memory costs page faults
        for part in torch.split(x, _BATCH):
            if self.n == 0:
                self._origin = part.mean(0, dtype=torch.float64).numpy()
            block = buffer[: len(part)].copy_(part).sub_(torch.from_numpy(self._origin))
            total = block.sum(0)
            if not torch.isfinite(total).all():
                raise ValueError("features has entries that are not finite")
            self._sum += total.numpy()
            self._square = blas.dsyrk(1.0, block.numpy().T, beta=1.0, c=self._square, lower=1, overwrite_c=1)
            self.n += len(block)

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both sets of rows.

        Raises:
            ValueError: they differ in the number of features.
        """
        if len(self._sum) != len(other._sum):
            raise ValueError(f"moments of {len(self._sum)} and of {len(other._sum)} features cannot be added")
        if self.n == 0:
            self, other = other, self  # the origin of no rows is none
        merged = Moments(len(self._sum))
        delta = other._origin - self._origin
        cross = np.outer(other._sum, delta)
        merged.n = self.n + other.n
        merged._origin = self._origin
        merged._sum = self._sum + other._sum + other.n * delta
        moved = other._square + cross + cross.T + other.n * np.outer(delta, delta)
        merged._square = np.asfortranarray(self._square + moved)
        return merged

    @property
    def mean(self) -> Doubles:
        """The mean, (d,)."""
        return self._origin + self._sum / self.n

    @property
    def covariance(self) -> Doubles:
        """The unbiased covariance, (d, d).

        Raises:
            ValueError: fewer than 2 rows.
        """
        lower = np.tril(self._lower())
        covariance: Doubles = lower + np.tril(lower, -1).T
        return covariance

    def _lower(self) -> Doubles:
        """Return a fresh matrix in Fortran's order whose lower triangle is that of the covariance."""
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 rows, not {self.n}")
        square = blas.dsyr(-1 / self.n, self._sum, lower=1, a=self._square)  # copies
        square /= self.n - 1
        return np.asarray(square)


def frechet(real: ArrayLike | Moments, generated: ArrayLike | Moments) -> float:
    """Return the squared Fréchet distance ‖μ₁ − μ₂‖² + tr(C₁ + C₂ − 2 √(C₁ C₂)), the FID of Inception features.

    Args:
        real: (N, *event) features, or their moments.
        generated: the same of the other set, which may have another N.

    Raises:
        ValueError: fewer than 2 rows, an entry that is not finite, or events of different sizes.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import frechet
        >>> rng = np.random.default_rng(0)
        >>> real, generated = rng.normal(size=(500, 2)), 0.5 * rng.normal(size=(500, 2))
        >>> round(frechet(real, real), 6)
        0.0
        >>> round(frechet(real, generated), 2)
        0.44
    """
    scale = 1.0
    if not isinstance(real, Moments) and not isinstance(generated, Moments):
        (real, generated), scale = level(*pair(real, generated, least=2))
    a, b = _Fit.of(real, "real"), _Fit.of(generated, "generated")
    if len(a.mean) != len(b.mean):
        raise ValueError(f"real has {len(a.mean)} values an event and generated {len(b.mean)}")
    return _within_range(scale * _distance(a, b) * scale)


@dataclass(frozen=True)
class _Fit:
    """A fitted Gaussian: its mean (d,), the trace of its covariance, and a factor (d, r) of it, triangular or not."""

    mean: Doubles
    trace: float
    factor: Doubles
    triangular: bool = False

    @classmethod
    def of(cls, x: ArrayLike | Moments, name: str) -> _Fit:
        if not isinstance(x, Moments):
            flat = rows(x, name, least=2)
            if len(flat) <= flat.shape[1]:
                return cls.of_rows(flat.double().numpy())
            x = Moments(flat.shape[1])
            x.update(flat)
        lower = x._lower()
        return cls(x.mean, float(np.trace(lower)), *_factor(lower))

    @classmethod
    def of_rows(cls, x: Doubles) -> _Fit:
        """Take the centred rows themselves for the factor: of no more rows than features they are the smaller one."""
        mean = x.mean(0)
        factor = (x - mean).T / math.sqrt(len(x) - 1)
        return cls(mean, float(np.square(factor).sum()), factor)


def _factor(lower: Doubles) -> tuple[Doubles, bool]:
    """Return F (d, r) with F Fᵀ = C, whose lower triangle is given, and whether F is a triangle.

    It is Cholesky's, or where C is singular the pivoted one's up to its rank.
    """
    low, info = lapack.dpotrf(lower, lower=1, clean=1)
    if info == 0 and np.diag(low).min() ** 2 > 1e-12 * np.diag(lower).max():
        return np.asarray(low), True
    low, pivots, rank, _ = lapack.dpstrf(lower, lower=1, tol=-1.0)
    factor = np.zeros((len(lower), rank))
    factor[pivots - 1] = np.tril(low)[:, :rank]
    return factor, False


def _distance(a: _Fit, b: _Fit) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        apart = float(np.square(a.mean - b.mean).sum()) + a.trace + b.trace
        # A product with a triangle takes half the time.
        m = blas.dtrmm(1.0, a.factor, b.factor, lower=1, trans_a=1) if a.triangular else a.factor.T @ b.factor
        nuclear, error = _nuclear(m) if min(m.shape) > _LARGE else (0.0, math.inf)
        value = apart - 2 * nuclear
        if not 2 * error <= _EXACT * value:
            value = apart - 2 * float(np.linalg.svd(m, compute_uv=False).sum())
    return max(0.0, _within_range(value))


def _within_range(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("the Fréchet distance is not finite: squares of the features are beyond float64")
    return value


def _nuclear(m: Doubles) -> tuple[float, float]:
    """Return the sum of M's singular values by the eigenvalues of M Mᵀ, in a third of the time, and its error.

    The eigenvalues are those of M Mᵀ + E, ‖E‖ about ε λ_max, ε the unit of rounding. As rounding knows nothing of an
    eigenvector v, vᵀ E v has a standard deviation of about ‖E‖ / 2√r, r the order of E (the entries of a random
    symmetric matrix of norm ‖E‖), and a root √λ an error of that over 2 √λ. The error returned is three standard
    deviations of their sum; roots so small that they are all error count in full.
    """
    wide = m.shape[0] > m.shape[1]
    values = eigvalsh(blas.dsyrk(1.0, m, trans=wide, lower=1), lower=True, driver="evd", check_finite=False)
    unit = np.finfo(float).eps * values.max(initial=0.0)
    lost = values < 100 * unit
    error = 3 * unit / (4 * math.sqrt(len(values))) * math.sqrt((1 / values[~lost]).sum())
    return float(np.sqrt(values.clip(0)).sum()), error + 10 * math.sqrt(unit) * lost.sum()


@dataclass(frozen=True)
class Extrapolation:
    """FID∞ and what it was read from.

    Attributes:
        value: the intercept, the distance for infinitely many rows.
        slope: of the distance against 1/N.
        sizes: N of the subsets.
        distances: their distances, means over repetitions.
    """

    value: float
    slope: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def frechet_infinity(
    real: ArrayLike | Moments, generated: ArrayLike, *, points: int = 8, repeats: int = 3, seed: int = 0
) -> Extrapolation:
    """Extrapolate the Fréchet distance to infinitely many generated rows (Chong & Forsyth 2020, Section 4).

    The distance is biased upwards by a term that falls as 1/N: it is computed on random subsets of N/2 … N rows, evenly
    spaced in 1/N, and a line through it is read off at 1/N = 0.

    Args:
        real: the reference, all of it.
        generated: (N, *event) features, at least 20.
        points: different subset sizes.
        repeats: subsets of each size.
        seed: of the subsets' random stream.

    Raises:
        ValueError: as :func:`frechet`, fewer than 20 rows, 2 points or 1 repeat.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import frechet_infinity
        >>> rng = np.random.default_rng(0)
        >>> real, generated = rng.normal(size=(500, 2)), 0.5 * rng.normal(size=(500, 2))
        >>> round(frechet_infinity(real, generated).value, 1)
        0.5
    """
    if points < 2 or repeats < 1:
        raise ValueError(f"at least 2 points and 1 repeat are needed, not {points} and {repeats}")
    scale = 1.0
    if not isinstance(real, Moments):
        (real, generated), scale = level(*pair(real, generated, least=2))
    x, reference, rng = rows(generated, "generated", least=20), _Fit.of(real, "real"), generator(seed, "frechet")
    n = len(x)
    sizes = [round(1 / inverse) for inverse in np.linspace(2 / n, 1 / n, points)]

    def distance(size: int) -> float:
        subsets = (x[rng.permutation(n)[:size]] for _ in range(1 if size == n else repeats))
        mean = float(np.mean([_distance(reference, _Fit.of(subset, "generated")) for subset in subsets]))
        return _within_range(scale * mean * scale)

    distances = [distance(size) for size in sizes]
    slope, intercept = np.polyfit(1 / np.array(sizes), distances, 1)
    return Extrapolation(float(intercept), float(slope), tuple(sizes), tuple(distances))


def bootstrap_error(
    real: ArrayLike, generated: ArrayLike, *, resamples: int = 50, seed: int = 0, sets: Sequence[str] = ("generated",)
) -> float:
    """Return a bootstrap standard error of :func:`frechet`: its standard deviation over resampled rows.

    Args:
        real: (N, *event) features.
        generated: the other set.
        resamples: how often rows are drawn with replacement, at least 2.
        seed: of the random stream.
        sets: which sets are resampled, out of "real" and "generated"; the rest counts as the population.

    Raises:
        ValueError: as :func:`frechet`, fewer than 2 resamples, or another set.

    Examples:
        >>> import numpy as np
        >>> from selfloop.metrics import bootstrap_error
        >>> rng = np.random.default_rng(0)
        >>> real, generated = rng.normal(size=(500, 2)), 0.5 * rng.normal(size=(500, 2))
        >>> bootstrap_error(real, generated) < 0.1
        True
    """
    if resamples < 2 or not sets or not set(sets) <= {"real", "generated"}:
        raise ValueError(f"resample 'real' or 'generated' or both at least twice, not {list(sets)} {resamples} times")
    levelled, scale = level(*pair(real, generated, least=2))
    both = dict(zip(("real", "generated"), levelled, strict=True))
    rng = generator(seed, "bootstrap")
    fixed = {name: _Fit.of(x, name) for name, x in both.items() if name not in sets}

    def drawn(name: str) -> _Fit:
        x = both[name]
        return fixed[name] if name in fixed else _Fit.of(x[torch.from_numpy(rng.integers(len(x), size=len(x)))], name)

    return (
        scale * float(np.std([_distance(drawn("real"), drawn("generated")) for _ in range(resamples)], ddof=1)) * scale
    )


def _memory(sizes: Sizes) -> int:
    """Return the bytes of eight matrices: sums of squares, factors, their product, what its singular values take.

    Of fewer rows than features there are none but factors, (d, rows).
    """
    most = max(sizes.train, sizes.held_out, sizes.generated)
    return 8 * 8 * sizes.features * min(sizes.features, most)


def _limit(real: Tensor, generated: Tensor) -> float:
    return frechet_infinity(real, generated).value


METRICS.register(
    *compared(
        "frechet_infinity",
        "FD∞",
        "Squared Fréchet distance to the features of {real}, extrapolated to infinitely many generated rows by a line "
        "in 1/N through subsets of N/2 to N (Chong & Forsyth 2020).",
        "feature units²",
        _limit,
        scale="difference",
        note="free of the bias in the number of generated rows, not of that of real ones",
        least=20,
        memory=_memory,
    ),
    *compared(
        "frechet",
        "Fréchet distance",
        "Squared Fréchet distance between Gaussians fitted to the generated features and to those of {real}.",
        "feature units²",
        frechet,
        note="biased up by about 1/N",
        least=2,
        memory=_memory,
    ),
)
