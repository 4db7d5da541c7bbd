"""What is trained on beside real rows, new ones or the same: against loops that draw what they are fitted to."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from selfloop.core.streams import generator
from selfloop.theory import bounds, fresh
from selfloop.theory.checks.check import Check, calculated, expected
from selfloop.theory.contraction import Contraction

Doubles = NDArray[np.float64]

_R = 20_000


def checks() -> Iterator[Check]:
    """Run the checks, about five seconds on one core."""
    yield from _fresh()
    yield from _augment()
    yield from _misspecified()


def _fresh() -> Iterator[Check]:
    """New real rows each generation: exactly, and its optimum."""
    n, t = 6, 8
    for k, weight in ((1, None), (2, None), (2, 0.7)):
        rng, real = generator(14, "verify/fresh", k, str(weight)), 1 / (1 + k) if weight is None else weight
        a = np.repeat([real / n, (1 - real) / (k * n)], [n, k * n])
        x = rng.standard_normal((_R, n))
        mean, scale = x.mean(1), x.std(1)
        for _ in range(t):
            synthetic = mean[:, None] + scale[:, None] * rng.standard_normal((_R, k * n))
            x = np.concatenate([rng.standard_normal((_R, n)), synthetic], axis=1)
            mean = x @ a
            scale = np.sqrt((x - mean[:, None]) ** 2 @ a)
        known = fresh.fresh(n, k, t, weight=weight)
        when = f"k = {k}, {'unweighted' if weight is None else f'weight {weight:g}'}, n_r = {n}, t = {t}"
        yield expected(f"E(μ_t − μ)², fresh, {when}", "fresh: e′", known.mean_square[t], mean**2)
        yield expected(f"E σ²_t, fresh, {when}", "fresh: 1 − e", known.variance[t], scale**2)
    for ratio in (0.5, 1.0, 2.0):
        best = fresh.golden_weight(ratio)
        errors = {weight: _fresh_mean(ratio, weight) for weight in (None, best, best - 0.15, best + 0.15)}
        counted = fresh.fresh_limit(ratio)
        yield expected(f"n_r e → (1 + k)/(1 + 2k), k = {ratio:g}", "fresh", counted, errors[None])
        yield expected(
            f"n_r e → a*, the optimal weight on real rows, k = {ratio:g}", "fresh: golden", best, errors[best]
        )
        # The same random numbers serve all weights, so that differences say which is best.
        for weight in (best - 0.15, best + 0.15):
            loss = fresh.fresh_limit(ratio, weight=weight) - best
            difference = errors[weight] - errors[best]
            name = f"n_r e at a* {'+' if weight > best else '−'} 0.15, over that at a*, k = {ratio:g}"
            yield expected(name, "fresh: golden", loss, difference)


def _fresh_mean(k: float, weight: float | None) -> Doubles:
    """Return n_r times the squared errors (R,) of a mean of known variance, settled."""
    rng, n = generator(14, "verify/fresh mean", str(k)), 10
    a, mean = 1 / (1 + k) if weight is None else weight, np.zeros(2 * _R)
    for _ in range(25):
        real, synthetic = (rng.standard_normal(2 * _R) / math.sqrt(rows) for rows in (n, k * n))
        mean = a * real + (1 - a) * (mean + synthetic)
    return np.asarray(n * mean**2)


def _augment() -> Iterator[Check]:
    """How a mean settles beside fixed real rows, and the largest λ for an excess; n = 1000, of first order in 1/n."""
    n = 1000
    for lam in (1, 3):
        rng = generator(14, "verify/settling", lam)
        m, mean, scale = lam * n, np.zeros(_R), np.ones(_R)
        for t in range(1, 4):
            synthetic = mean + scale * rng.standard_normal(_R) / math.sqrt(m)
            scatter = scale**2 * rng.chisquare(m - 1, _R) + n + n * m / (n + m) * synthetic**2
            mean, scale = synthetic * m / (n + m), np.sqrt(scatter / (n + m))
            if t != 2:
                known = bounds.excess_error(lam, t)
                yield expected(f"n e_t = e_∞(1 − w^2t), λ = {lam}, t = {t}", "augment: settling", known, n * mean**2)
    largest = bounds.largest_ratio(0.3)
    yield calculated("excess at λ = τ/(1 − 2τ), τ = 0.3", "augment", 0.3, bounds.total_error(largest) ** 2 - 1)


def _misspecified() -> Iterator[Check]:
    """What synthetic rows add where A ≠ B: a logistic location, fitted to normal rows of standard deviation 4."""
    n, replicas = 300, 3000
    z = np.linspace(-40, 40, 4001)
    density = np.exp(-0.5 * (z / 4) ** 2)
    curvature = float(density @ (0.5 / np.cosh(z / 2) ** 2) / density.sum())
    found = Contraction.of_hessians(np.array([[-curvature]]), np.array([[-1 / 3]]))
    for lam in (1, 3):
        rng = generator(14, "verify/misspecified", lam)
        real = 4 * rng.standard_normal((replicas, n))
        start = theta = _location(real, np.zeros(replicas), 8)
        for _ in range(4 + 8 * lam):
            x = theta[:, None] + rng.logistic(size=(replicas, lam * n))
            theta = _location(np.concatenate([real, x], axis=1), theta, 2)
        added = found.added_covariance(lam)[0, 0]
        yield expected(
            f"n Cov of what synthetic rows add, a logistic density on normal rows, λ = {lam}",
            "augment: C⁻ᵀ diag(λμ/(1+2λμ)) C⁻¹",
            added,
            n * (theta - start) ** 2,
        )
    a, b = (generator(14, "verify/hessians", k).standard_normal((4, 4)) for k in range(2))
    found = Contraction.of_hessians(-a @ a.T - np.eye(4), -b @ b.T)
    kept = np.linalg.inv(-found.data_hessian - 2 * found.model_hessian)
    noise = 2 * kept @ -found.model_hessian @ kept
    settled = bounds.settled(found.jacobian(2.0), noise)
    yield calculated(
        "S = JSJᵀ + Q of what synthetic rows add, four parameters, λ = 2",
        "augment: C⁻ᵀ diag(λμ/(1+2λμ)) C⁻¹",
        float(np.abs(settled).sum()),
        float(np.abs(found.added_covariance(2.0)).sum()),
    )


def _location(x: Doubles, theta: Doubles, steps: int) -> Doubles:
    """Return logistic densities' locations (R,) fitted to rows (R, n) by Newton's method."""
    for _ in range(steps):
        slope = np.tanh((x - theta[:, None]) / 2)
        theta = theta + slope.mean(1) / (0.5 * (1 - (slope**2).mean(1)))
    return theta
