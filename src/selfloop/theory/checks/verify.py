"""Every prediction of :mod:`selfloop.theory` against a simulation of the loop, as a table of z scores.

Seeds are fixed. A row is wrong by chance with |z| ≥ 4 once in 16,000 times, so that a failure is a mistake.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from selfloop.theory.bounds import total_error
from selfloop.theory.checks import (
    verify_anchored,
    verify_changed,
    verify_chosen,
    verify_families,
    verify_local,
    verify_pooled,
)
from selfloop.theory.checks.check import LIMIT, Check, mean_and_error
from selfloop.theory.gaussian import alpha, log_variance_walk, mean_drift, mixed_errors
from selfloop.theory.gaussian_loop import Fits, gaussian_loop

__all__ = ["LIMIT", "Check", "checks"]

_REPLICAS = 20_000


def checks() -> Iterator[Check]:
    """Run every check, about half a minute on one core."""
    yield from _walks()
    yield from _roots()
    yield from _mixtures()
    yield from _memory()
    yield from verify_local.checks()
    yield from verify_pooled.checks()
    yield from verify_anchored.checks()
    yield from verify_chosen.checks()
    yield from verify_changed.checks()
    yield from verify_families.checks()


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
        measured, error = mean_and_error(steps)
        statement = f"E ln σ²_t/σ²_0, n = {n}, t = {t}"
        yield Check(statement=statement, source="Appendix A", predicted=walk.mean, measured=measured, error=error)
        square, error = mean_and_error((steps - walk.mean) ** 2)
        statement = f"Var ln σ²_t/σ²_0, n = {n}, t = {t}"
        yield Check(statement=statement, source="Appendix A", predicted=walk.variance, measured=square, error=error)
    for n in (5, 20, 100):
        t = 10
        fits = _simulated(n, t)
        # Generation 0 is itself a fit to n rows of unit variance, so that the truth is one more step away.
        measured, error = mean_and_error(fits[t].mean[:, 0] ** 2)
        statement = f"E(μ_t − μ)²/σ², n = {n}, {t + 1} fits"
        predicted = mean_drift(n, t + 1)
        yield Check(statement=statement, source="Section 2.2", predicted=predicted, measured=measured, error=error)


def _roots() -> Iterator[Check]:
    """Proposition 1: E√Σ shrinks at least by the α(n) of one dimension, and by α(n, d) from an isotropic Σ."""
    for n in (5, 20, 100):
        t = 5
        fits = _simulated(n, t)
        measured, error = mean_and_error(np.sqrt(fits[t].covariance[:, 0, 0] / fits[0].covariance[:, 0, 0]))
        statement = f"E σ_t/σ_0 = α(n)^t, n = {n}, t = {t}"
        yield Check(
            statement=statement, source="Prop. 1", predicted=alpha(n).value ** t, measured=measured, error=error
        )
    for n, d in ((10, 2), (10, 5), (4, 6)):
        shrink = alpha(n, d)
        fits = _simulated(n, 4, d=d, replicas=5000)
        roots = [np.sqrt(np.linalg.eigvalsh(f.covariance).clip(0)) for f in fits]
        measured, error = mean_and_error(roots[0].mean(1))
        statement = f"E√Σ_1 = α(n, d) I from Σ_0 = I, n = {n}, d = {d}"
        both = math.hypot(error, shrink.error)
        yield Check(statement=statement, source="Prop. 1", predicted=shrink.value, measured=measured, error=both)
        measured, error = mean_and_error(roots[4].mean(1))
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
            measured, error = mean_and_error((fits[t].mean[:, 0] - fits[0].mean[:, 0]) ** 2)
            predicted = float(square * real.mean())
            yield Check(
                statement=f"E(μ_t − m̄)², {when}",
                source="mixed recursion",
                predicted=predicted,
                measured=measured,
                error=math.hypot(error, float(square) * mean_and_error(real)[1]),
            )
            gap, error = mean_and_error(fits[t].covariance[:, 0, 0] - variance * real)
            yield Check(
                statement=f"E σ²_t − v_t s², {when}", source="mixed recursion", predicted=0.0, measured=gap, error=error
            )


def _memory() -> Iterator[Check]:
    """What is left of an error after one retraining is λ/(1 + λ) of it; what errors add up to, in one and in all."""
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
            statement=f"settled variance over a retraining's own, 1/(1 − ρ²), λ = {lam:g}",
            source="Theorem 2, linear noise",
            predicted=1 / (1 - rate**2),
            measured=measured,
            error=spread,
        )
        rows = 1000  # the statement is of first order in 1/n
        *_, last = _simulated(rows, settled, lam=lam)
        measured, error = mean_and_error(rows * last.mean[:, 0] ** 2)
        yield Check(
            statement=f"total variance of the mean over that of real data alone, λ = {lam:g}",
            source="(1 + 3λ)/(1 + 2λ)",
            predicted=total_error(lam) ** 2,
            measured=measured,
            error=error,
        )
