"""Every prediction of :mod:`selfloop.theory` against a simulation of the loop, as a table of z scores.

Seeds are fixed. A row is wrong by chance with |z| ≥ 4 once in 16,000 times, so that a failure is a mistake.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfloop.theory.contraction import Contraction, Measure, contraction, maximise
from selfloop.theory.gaussian import alpha, log_variance_walk, mean_drift, mixed_errors
from selfloop.theory.gaussian_loop import Fits, gaussian_loop

Doubles = NDArray[np.float64]

LIMIT = 4.0
"""|z| at which a row fails."""

_REPLICAS = 20_000


@dataclass(frozen=True, kw_only=True)
class Check:
    """One prediction.

    Attributes:
        statement: what is predicted, with its parameters.
        source: where it is stated.
        predicted: the value; an upper bound where ``bound`` says so.
        measured: the simulation's.
        error: its standard error, and the prediction's if that is estimated too.
        bound: whether only more than predicted counts against it.
    """

    statement: str
    source: str
    predicted: float
    measured: float
    error: float
    bound: bool = False

    @property
    def z(self) -> float:
        """How many standard errors the measurement is off; below a bound, 0."""
        off = self.measured - self.predicted
        return max(off, 0.0) / self.error if self.bound else off / self.error

    @property
    def holds(self) -> bool:
        """Whether |z| is below the limit."""
        return abs(self.z) < LIMIT


def checks() -> Iterator[Check]:
    """Run every check, about a minute on one core."""
    yield from _walks()
    yield from _roots()
    yield from _mixtures()
    yield from _memory()
    yield from _misspecified()


def _mean(x: Doubles) -> tuple[float, float]:
    return float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x)))


def _simulated(n: int, generations: int, *, d: int = 1, lam: float = math.inf, replicas: int = _REPLICAS) -> list[Fits]:
    seed = 1000 * n + generations
    settings = {"n": n, "generations": generations, "replicas": replicas, "lam": lam, "seed": seed}
    return list(gaussian_loop(np.zeros(d), np.eye(d), **settings))  # type: ignore[arg-type]


def _walks() -> Iterator[Check]:
    """ln σ² as a random walk, and the drift of the mean."""
    for n, t in ((3, 5), (10, 10), (30, 20), (100, 20)):
        fits = _simulated(n, t)
        steps = np.log(fits[t].covariance[:, 0, 0] / fits[0].covariance[:, 0, 0])
        walk = log_variance_walk(n, t)
        measured, error = _mean(steps)
        statement = f"E ln σ²_t/σ²_0, n = {n}, t = {t}"
        yield Check(statement=statement, source="Appendix A", predicted=walk.mean, measured=measured, error=error)
        square, error = _mean((steps - walk.mean) ** 2)
        statement = f"Var ln σ²_t/σ²_0, n = {n}, t = {t}"
        yield Check(statement=statement, source="Appendix A", predicted=walk.variance, measured=square, error=error)
    for n in (5, 20, 100):
        t = 10
        fits = _simulated(n, t)
        # Generation 0 is itself a fit to n rows of unit variance, so that the truth is one more step away.
        measured, error = _mean(fits[t].mean[:, 0] ** 2)
        statement = f"E(μ_t − μ)²/σ², n = {n}, {t + 1} fits"
        predicted = mean_drift(n, t + 1)
        yield Check(statement=statement, source="Section 2.2", predicted=predicted, measured=measured, error=error)


def _roots() -> Iterator[Check]:
    """Proposition 1: E√Σ shrinks at least by the α(n) of one dimension, and by α(n, d) from an isotropic Σ."""
    for n in (5, 20, 100):
        t = 5
        fits = _simulated(n, t)
        measured, error = _mean(np.sqrt(fits[t].covariance[:, 0, 0] / fits[0].covariance[:, 0, 0]))
        statement = f"E σ_t/σ_0 = α(n)^t, n = {n}, t = {t}"
        yield Check(
            statement=statement, source="Prop. 1", predicted=alpha(n).value ** t, measured=measured, error=error
        )
    for n, d in ((10, 2), (10, 5), (4, 6)):
        shrink = alpha(n, d)
        fits = _simulated(n, 4, d=d, replicas=5000)
        roots = [np.sqrt(np.linalg.eigvalsh(f.covariance).clip(0)) for f in fits]
        measured, error = _mean(roots[0].mean(1))
        statement = f"E√Σ_1 = α(n, d) I from Σ_0 = I, n = {n}, d = {d}"
        both = math.hypot(error, shrink.error)
        yield Check(statement=statement, source="Prop. 1", predicted=shrink.value, measured=measured, error=both)
        measured, error = _mean(roots[4].mean(1))
        statement = f"E tr√Σ_5 / d ≤ α(n)⁵, n = {n}, d = {d}"
        bound = alpha(n).value ** 5
        yield Check(statement=statement, source="Eq. 6", predicted=bound, measured=measured, error=error, bound=True)


def _mixtures() -> Iterator[Check]:
    """The exact recursion on real ∪ λn synthetic rows, and where it settles."""
    n = 10
    for lam in (0.5, 1.0, 3.0):
        fits, known = _simulated(n, 60, lam=lam), mixed_errors(n, lam, 60)
        real = fits[0].covariance[:, 0, 0]
        for t, square, variance in (
            (5, known.mean_square[5], known.variance[5]),
            (60, known.stationary_mean_square, known.stationary_variance),
        ):
            when = f"λ = {lam:g}, n = {n}, t = {t if t < 60 else '∞ (60)'}"
            measured, error = _mean((fits[t].mean[:, 0] - fits[0].mean[:, 0]) ** 2)
            predicted = float(square * real.mean())
            yield Check(
                statement=f"E(μ_t − m̄)², {when}",
                source="mixed recursion",
                predicted=predicted,
                measured=measured,
                error=math.hypot(error, float(square) * _mean(real)[1]),
            )
            gap, error = _mean(fits[t].covariance[:, 0, 0] - variance * real)
            yield Check(
                statement=f"E σ²_t − v_t s², {when}", source="mixed recursion", predicted=0.0, measured=gap, error=error
            )


def _memory() -> Iterator[Check]:
    """What is left of an error after one retraining is λ/(1 + λ) of it; so errors of size s settle at s/√(1 − ρ²)."""
    n = 20
    for lam in (0.5, 1.0, 9.0):
        settled = 12 if lam < 2 else 60
        fits = _simulated(n, settled + 1, lam=lam)
        before, after = (fits[t].mean[:, 0] - fits[0].mean[:, 0] for t in (settled, settled + 1))
        slope = float(before @ after / (before @ before))
        error = float((after - slope * before).std() / (before.std() * math.sqrt(len(before))))
        rate = lam / (1 + lam)
        yield Check(
            statement=f"contraction of the mean's error, λ = {lam:g}",
            source="Theorem 1, local rate",
            predicted=rate,
            measured=slope,
            error=error,
        )
        noise = after - rate * before
        measured = float(np.square(after).mean() / np.square(noise).mean())
        spread = measured * math.sqrt(4 / len(after) / (1 - rate**2))
        yield Check(
            statement=f"amplification squared 1/(1 − ρ²), λ = {lam:g}",
            source="Theorem 2, linear noise",
            predicted=1 / (1 - rate**2),
            measured=measured,
            error=spread,
        )


def _misspecified() -> Iterator[Check]:
    """Three normals fitted by two: the loop with exact expectations shrinks a small error at the predicted rate."""
    x = torch.linspace(-14, 14, 2001, dtype=torch.float64)
    parts = ((0.35, -2.0, 0.6), (0.25, 0.3, 0.5), (0.40, 2.5, 0.8))
    density = torch.stack([w * torch.exp(-0.5 * ((x - m) / s) ** 2) / s for w, m, s in parts]).sum(0)
    data = (x, density / density.sum())
    star = maximise(_two_normals, torch.tensor([-0.5, -2.0, 2.0, 0.0, 0.0], dtype=torch.float64), data)
    found = contraction(_two_normals, star, data, _on(x, star))
    for lam in (0.5, 1.0, 10.0):
        rates = _rates(found, star, data, lam)
        # The ratio still moves a little from step to step: that is its error, with a floor for rounding.
        yield Check(
            statement=f"ρ of three normals fitted by two, λ = {lam:g}",
            source="local rate",
            predicted=found.rate(lam),
            measured=rates[-1],
            error=max(abs(rates[-1] - rates[-2]), 2e-4),
        )
    lam = 0.9 * found.critical_lam
    yield Check(
        statement=f"‖J‖ ≤ λ(α+εL)/(α−λ(α+εL)), λ = {lam:.3f}",
        source="Theorem 1, Eq. 11",
        predicted=found.bound(lam),
        measured=found.operator_norm(lam),
        error=1e-9,
        bound=True,
    )


def _two_normals(theta: Tensor, x: Tensor) -> Tensor:
    """Log density of two normals: a logit, two means, two log standard deviations."""
    logs = -0.5 * ((x[:, None] - theta[1:3]) / theta[3:].exp()).square() - theta[3:] - 0.5 * math.log(2 * math.pi)
    weights = torch.log_softmax(torch.stack([theta[0], torch.zeros_like(theta[0])]), 0)
    return (logs + weights).logsumexp(1)


def _on(x: Tensor, theta: Tensor) -> Measure:
    weights = _two_normals(theta, x).exp()
    return x, weights / weights.sum()


def _rates(found: Contraction, star: Tensor, data: Measure, lam: float) -> list[float]:
    """Return the ratios of successive errors of the exact loop, started along the slowest direction."""
    values, vectors = np.linalg.eig(found.jacobian(lam))
    slowest = torch.from_numpy(vectors[:, int(np.argmax(values.real))].real)
    theta, errors = star + 1e-3 * slowest, [1e-3]
    for _ in range(4):
        x, weights = _on(data[0], theta)
        theta = maximise(_two_normals, theta, (x, (data[1] + lam * weights) / (1 + lam)))
        errors.append(float((theta - star).norm()))
    return [b / a for a, b in itertools.pairwise(errors)]
