"""What is trained on: replaced, pooled, accumulated and windowed rows, against loops that draw every row.

The simulations here are of rows, many loops at a time, and share nothing with the formulas but what a regime is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from selfloop.core.streams import generator
from selfloop.theory import pooled, replace
from selfloop.theory.checks.check import Check, calculated, expected, mean_and_error
from selfloop.theory.ensemble import ensemble

Doubles = NDArray[np.float64]
Rows = tuple[Doubles, Doubles | None]  # rows (R, n), and their weights (n,) if they are not equal
Regime = Callable[[int, list[Doubles]], Rows]  # by generation and the sets so far: (R, n) each, the real rows first

_R = 20_000


def checks() -> Iterator[Check]:
    """Run the checks, about two seconds on one core."""
    yield from _replace()
    yield from _growing()
    yield from _pools()
    yield from _accumulate()
    yield from _window()
    yield from _ensembles()


def _loop(
    name: str,
    regime: Regime,
    n: int,
    generations: int,
    *,
    unbiased: bool = False,
    real: float = 0.0,
    replicas: int = _R,
) -> tuple[list[Doubles], list[Doubles]]:
    """Return means and variances (R,) of every generation; each but the last is sampled n times.

    ``real`` is the mean of the first set's rows, for a biased one.
    """
    rng = generator(14, "verify", name)
    sets = [real + rng.standard_normal((replicas, n))]
    means, variances = [], []
    for t in range(generations + 1):
        x, weights = regime(t, sets)
        mean = x.mean(1) if weights is None else x @ weights
        square = (x - mean[:, None]) ** 2
        variance = square.mean(1) if weights is None else square @ weights
        if unbiased:
            variance *= x.shape[1] / (x.shape[1] - 1)
        means.append(mean)
        variances.append(variance)
        sets.append(mean[:, None] + np.sqrt(variance)[:, None] * rng.standard_normal((replicas, n)))
    return means, variances


def _newest(t: int, sets: list[Doubles]) -> Rows:
    return sets[-1], None


def _all(t: int, sets: list[Doubles]) -> Rows:
    return np.concatenate(sets, axis=1), None


def _replace() -> Iterator[Check]:
    """Determinants of fitted covariances walk, and half-lives are the walk's."""
    rng, t = generator(14, "verify/determinant"), 4
    for n, d, unbiased in ((6, 2, True), (12, 5, True), (12, 5, False)):
        root: Doubles = np.broadcast_to(np.eye(d), (10_000, d, d))
        walk = replace.log_det_walk(n, d, t, unbiased=unbiased)
        for _ in range(t):
            x = rng.standard_normal((10_000, n, d)) @ root.transpose(0, 2, 1)
            x -= x.mean(1, keepdims=True)
            root = np.asarray(np.linalg.cholesky(x.transpose(0, 2, 1) @ x / (n - 1 if unbiased else n)))
        logs = 2 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum(1)
        when = f"{'unbiased' if unbiased else 'MLE'}, n = {n}, d = {d}, t = {t}"
        yield expected(f"E ln det Σ_t/Σ_0, {when}", "replace: log walk", walk.mean, logs)
        yield expected(f"Var ln det Σ_t/Σ_0, {when}", "replace: log walk", walk.variance, (logs - walk.mean) ** 2)
    for unbiased, n in ((True, 12), (False, 20)):
        life = replace.half_life(n, unbiased=unbiased)
        _, v = _loop(f"half-life/{unbiased}", _newest, n, 10, unbiased=unbiased)
        drift, error = mean_and_error(np.log2(v[10] / v[0]) / 10)
        yield Check(
            statement=f"half-life of σ²'s geometric mean, {'unbiased' if unbiased else 'MLE'}, n = {n}",
            source="replace: ≈ (n − 4/3) ln 2" if unbiased else "replace: ≈ (n/2) ln 2",
            predicted=life,
            measured=-1 / drift,
            error=error / drift**2,
        )


def _growing() -> Iterator[Check]:
    """n_t that grows: the mean's drift and the log variance's walk."""
    rng = generator(14, "verify/growing")
    for power, unbiased in ((1.0, True), (2.0, True), (2.0, False)):
        rows = [math.floor(5 * k**power) for k in range(1, 9)]
        mean, scale = np.zeros(_R // 2), np.ones(_R // 2)
        for n in rows:
            x = mean[:, None] + scale[:, None] * rng.standard_normal((_R // 2, n))
            mean, scale = x.mean(1), x.std(1, ddof=int(unbiased))
        when = f"{'unbiased' if unbiased else 'MLE'}, n_k = ⌊5k^{power:g}⌋, t = 8"
        drift, walk = replace.growing_drift(rows, unbiased=unbiased), replace.growing_walk(rows, unbiased=unbiased)
        yield expected(f"E(μ_t − μ_0)²/σ², {when}", "replace, growing n", drift, mean**2)
        yield expected(f"E ln σ²_t/σ²_0, {when}", "replace, growing n", walk.mean, 2 * np.log(scale))


def _pools() -> Iterator[Check]:
    """Any shares of any sets, weighted or as the rows count."""
    n, t = 8, 6
    rng = np.random.default_rng(14)
    weighted = np.tril(rng.uniform(0, 1, (t + 1, t + 1)))
    weighted /= weighted.sum(1, keepdims=True)
    augment = np.zeros((t + 1, t + 1))
    augment[0, 0] = 1
    for k in range(1, t + 1):
        augment[k, [0, k]] = 0.5

    def of_weights(k: int, sets: list[Doubles]) -> Rows:
        return np.concatenate(sets, axis=1), np.repeat(weighted[k, : k + 1] / n, n)

    def of_newest(k: int, sets: list[Doubles]) -> Rows:
        return (np.concatenate([sets[0], sets[-1]], axis=1) if k else sets[0]), None

    cases: tuple[tuple[str, Doubles, Regime], ...] = (
        ("random weights of all sets", weighted, of_weights),
        ("real ∪ newest, λ = 1", augment, of_newest),
    )
    for name, shares, regime in cases:
        means, variances = _loop(name, regime, n, t)
        known = pooled.pooled(shares, n)
        yield expected(f"E μ_t², {name}, n = {n}, t = {t}", "pool: D recursion", known.mean_square[t], means[t] ** 2)
        yield expected(f"E σ²_t, {name}, n = {n}, t = {t}", "pool: 1 − E μ²", known.variance[t], variances[t])


def _accumulate() -> Iterator[Check]:
    """The union of all sets, whole or subsampled, and a share of real rows in every set."""
    for n, t, unbiased in ((4, 12, False), (10, 20, False), (4, 12, True)):
        means, variances = _loop(f"accumulate/{n}/{unbiased}", _all, n, t, unbiased=unbiased, replicas=_R // 2)
        known, when = (
            pooled.accumulate(n, t, unbiased=unbiased),
            f"{'unbiased' if unbiased else 'MLE'}, n = {n}, t = {t}",
        )
        yield expected(f"E σ²_t, accumulate, {when}", "accumulate", known.variance[t], variances[t])
        yield expected(f"E μ_t², accumulate, {when}", "accumulate", known.mean_square[t], means[t] ** 2)
    far = pooled.accumulate(4, 20_000).variance[-1]
    yield calculated(
        "Π(1 − 1/(nk²)) → sin(π/√n)/(π/√n), n = 4", "accumulate", pooled.accumulate_limit(4), float(far), 2e-5
    )
    rng = generator(14, "verify/subsample")

    def subsample(replacement: bool) -> Regime:
        def draw(t: int, sets: list[Doubles]) -> Rows:
            union, n = np.concatenate(sets, axis=1), sets[0].shape[1]
            if replacement:
                picked = rng.integers(union.shape[1], size=(len(union), n))
            else:
                picked = np.argpartition(rng.random(union.shape), n - 1, axis=1)[:, :n]
            return np.take_along_axis(union, picked, axis=1), None

        return draw

    n, t = 5, 8
    for replacement in (False, True):
        name = f"n of all rows with{'' if replacement else 'out'} replacement, n = {n}, t = {t}"
        means, variances = _loop(name, subsample(replacement), n, t)
        known = pooled.accumulate_subsample(n, t, replacement=replacement)
        yield expected(f"E σ²_t, {name}", "accumulate, subsample", known.variance[t], variances[t])
        yield expected(f"E μ_t², {name}", "accumulate, subsample", known.mean_square[t], means[t] ** 2)
    for share, t in ((0.25, 10), (0.5, 10)):
        # A biased first model, one of 8 rows of mean 3: sets of 8 rows after it, 2 or 4 of them real.
        left = 3 * pooled.accumulated_bias(share, t)
        yield expected(
            f"bias 3Π(1 − α/k), α = {share:g}, t = {t}", "accumulate with real rows", left, _shared(share, t, n=8)
        )


def _shared(share: float, generations: int, *, n: int) -> Doubles:
    """Return means (R,) after training on accumulated sets, some rows of mean 0, from a model of mean 3."""
    rng, real = generator(14, "verify/shared", generations, str(share)), round(share * n)
    mean, scale, sets = np.full(_R // 2, 3.0), np.ones(_R // 2), []
    for _ in range(generations):
        x = rng.standard_normal((_R // 2, n))
        x[:, real:] = mean[:, None] + scale[:, None] * x[:, real:]
        sets.append(x)
        union = np.concatenate(sets, axis=1)
        mean, scale = union.mean(1), union.std(1)
    return mean


def _window() -> Iterator[Check]:
    """The last W sets: exactly for a fit of mean and variance, in the long run for a mean of known variance."""
    n, t = 6, 12
    for window, real in ((3, False), (2, True)):

        def last(k: int, sets: list[Doubles], window: int = window, real: bool = real) -> Rows:
            kept = sets[-window:] if not real or k < window else [sets[0], *sets[-window:]]
            return np.concatenate(kept, axis=1), None

        means, variances = _loop(f"window/{window}", last, n, t)
        known = pooled.pooled(pooled.window_shares(t, window, real=real), n)
        when = f"W = {window}, {'with' if real else 'without'} real rows, n = {n}, t = {t}"
        yield expected(f"E σ²_t, {when}", "window: pool", known.variance[t], variances[t])
        yield expected(f"E μ_t², {when}", "window: pool", known.mean_square[t], means[t] ** 2)
    for window in (1, 2, 5):
        rng, span = generator(14, "verify/window", window), 40
        sets = [rng.standard_normal(_R) for _ in range(window)]
        path = []
        for _ in range(2 * span + 1):
            mean = np.mean(sets[-window:], axis=0)
            path.append(mean)
            sets.append(mean + rng.standard_normal(_R) / math.sqrt(n))
        slope = (path[2 * span] ** 2 - path[span] ** 2) / span
        drift = pooled.window_drift(n, window)
        yield expected(f"drift 4σ²/(n(W + 1)²) a generation, W = {window}, n = {n}", "window", drift, slope)


def _ensembles() -> Iterator[Check]:
    """Models that learn from the samples of all, or of the others than themselves."""
    for made, others, real, t in (
        ((6, 6), True, False, 8),
        ((4, 4, 4), True, False, 10),
        ((8, 4, 2), True, False, 6),
        ((6, 3, 3), True, True, 8),
        ((4, 4, 4), False, False, 6),
    ):
        n = sum(made)
        rng = generator(14, "verify", f"ensemble/{made}/{others}/{real}")
        rows = rng.standard_normal((_R, n))
        models = [(rows.mean(1), rows.var(1))] * len(made)
        for _ in range(t):
            drawn = [
                mean[:, None] + np.sqrt(variance)[:, None] * rng.standard_normal((_R, k))
                for (mean, variance), k in zip(models, made, strict=True)
            ]
            sets = [[x for j, x in enumerate(drawn) if j != m or not others] for m in range(len(made))]
            unions = [np.concatenate([rows, *each] if real else each, axis=1) for each in sets]
            models = [(x.mean(1), x.var(1)) for x in unions]
        known = ensemble(n, made, t, others=others, real=real)
        when = f"models that make {', '.join(map(str, made))}{' beside the real rows' if real else ''}, t = {t}"
        source = f"ensemble: learns from {'others' if others else 'all'}"
        yield expected(f"E σ²_t of the last of {when}", source, known.variance[t, -1], models[-1][1])
        yield expected(f"E μ_t² of the last of {when}", source, known.mean_square[t, -1], models[-1][0] ** 2)
