"""What is fitted: counts, scales, regressions and kernel densities, against loops that draw every row."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from selfloop.core.samples import Samples
from selfloop.core.streams import Streams, generator
from selfloop.generators.ngram import NGram
from selfloop.learning.training import Budget
from selfloop.theory import categorical, kernel_density, pooled, regression, replace
from selfloop.theory.checks.check import Check, calculated, expected

Doubles = NDArray[np.float64]

_R = 20_000
_P = np.array([0.5, 0.3, 0.15, 0.05])  # a table of four categories


def checks() -> Iterator[Check]:
    """Run the checks, about ten seconds on one core."""
    yield from _categorical()
    yield from _losses()
    yield from _ngrams()
    yield from _walks()
    yield from _regression()
    yield from _kernel_density()


def _heterozygosity(p: Doubles) -> Doubles:
    return np.asarray(1 - np.square(p).sum(-1))


def _categorical() -> Iterator[Check]:
    """1 − Σp² of a table: replaced, beside real rows, accumulated."""
    start = float(_heterozygosity(_P))
    for n, t in ((10, 5), (40, 20)):
        rng, p = generator(14, "verify/categorical", n), np.tile(_P, (_R, 1))
        for _ in range(t):
            p = rng.multinomial(n, p) / n
        predicted = start * categorical.replaced_heterozygosity(n, t)
        yield expected(f"E H_t, replace, n = {n}, t = {t}", "categorical", predicted, _heterozygosity(p))
    n = 10
    for lam in (1, 4):
        rng = generator(14, "verify/categorical augment", lam)
        real = rng.multinomial(n, _P, _R) / n
        p, t = real, 1
        for t in range(1, 41):
            p = (real + lam * rng.multinomial(lam * n, p) / (lam * n)) / (1 + lam)
            if t == 2:
                early = p
        for when, kept, at in (("2", early, 2), ("∞ (40)", p, None)):
            ratio = categorical.mixed_heterozygosity(n, lam, at)
            gap = _heterozygosity(kept) - ratio * _heterozygosity(real)
            yield expected(
                f"E H_t − H_0(1 − w²)/(1 − w²(1 − 1/m)), λ = {lam}, n = {n}, t = {when}"
                if at is None
                else f"E H_t − h_t H_0, λ = {lam}, n = {n}, t = {when}",
                "categorical beside real rows",
                0.0,
                gap,
            )
    n, t = 6, 15
    rng, counts = generator(14, "verify/categorical accumulate"), np.zeros((_R, len(_P)))
    p = np.tile(_P, (_R, 1))
    for k in range(1, t + 2):
        counts += rng.multinomial(n, p)
        p = counts / (n * k)
    predicted = start * float(pooled.accumulate(n, t).variance[t])
    yield expected(
        f"E H_t, accumulate, n = {n}, t = {t}", "categorical: H_0Π(1 − 1/(nk²))", predicted, _heterozygosity(p)
    )


def _losses() -> Iterator[Check]:
    """What is lost for ever: a category, a Poisson rate, one side of a Bernoulli variable."""
    n, replicas = 20_000, 40_000
    for copies in (1, 3):
        rng, count = generator(14, "verify/loss", copies), np.full(replicas, copies)
        for t in range(1, 21):
            count = rng.binomial(n, count / n)
            if t in (5, 20):
                known = categorical.loss_probability(copies, t)
                yield expected(
                    f"loss of a category of {copies} of {n} rows, t = {t}", "categorical: q_t^c", known, count == 0
                )
    n = 10
    rng, rate = generator(14, "verify/poisson"), np.ones(replicas)
    for t in range(1, 51):
        # All n rows, not their sum: that it is Poisson too is part of what is checked.
        rate = rng.poisson(np.broadcast_to(rate[:, None], (len(rate), n))).mean(1)
        if t in (10, 50):
            known = categorical.poisson_alive(n, 1, t)
            yield expected(f"Poisson not yet at 0, n = {n}, λ_0 = 1, t = {t}", "Poisson: 1 − q_t^nλ", known, rate > 0)
    n = 12
    rng, p = generator(14, "verify/bernoulli"), np.full(replicas, 0.25)
    for t in range(1, 301):
        p = rng.binomial(n, p) / n
        if t == 6:
            known = 2 * 0.25 * 0.75 * categorical.replaced_heterozygosity(n, t)
            yield expected(f"E 2p(1 − p), Bernoulli 0.25, n = {n}, t = {t}", "categorical", known, 2 * p * (1 - p))
    yield expected(f"Bernoulli 0.25 ends at 1, n = {n}", "Bernoulli: fixation p", 0.25, p)


def _ngrams() -> Iterator[Check]:
    """Loops of n-grams without smoothing: of all tokens at order 1, of first ones and rare pairs at order 2."""
    replicas, length, n, t = 400, 4, 10, 5
    seeds = Streams(tuple(range(replicas)))
    letters = np.repeat(np.arange(1, 5), [20, 12, 6, 2])  # 40 tokens in 10 rows, with the frequencies of the table
    rows = generator(14, "verify/ngram").permutation(letters).reshape(n, length)

    def looped(order: int, rows: Doubles, generations: int) -> Doubles:
        """Return the rows (R, n, L) that are sampled after so many retrainings on samples alone."""
        model = NGram(order=order, smoothing="additive", pseudocount=0.0)
        x = torch.from_numpy(rows).to(torch.int32).expand(replicas, *rows.shape)
        for g in range(generations):
            streams = seeds.at(g)
            state = model.fit(model.init((length, 5), streams), Samples.full(x, born=g), Budget(steps=0), streams)
            x = model.sample(state, rows.shape[0], streams)
        return x.numpy()

    for order, copies, words in ((1, n * length, "all tokens"), (2, n, "first tokens")):
        x = looped(order, rows, t).reshape(replicas, -1) if order == 1 else looped(order, rows, t)[:, :, 0]
        start = rows.reshape(1, -1) if order == 1 else rows[:, :1].T
        p, first = (np.stack([(each == w).mean(1) for w in range(1, 5)], 1) for each in (x, start))
        predicted = float(_heterozygosity(first)[0]) * categorical.replaced_heterozygosity(copies, t)
        yield expected(
            f"E H_t of {words}, {order}-gram, {copies} of them, t = {t}", "n-gram", predicted, _heterozygosity(p)
        )
    rows, t = np.tile([1, 3, 1, 3], (500, 1)), 3
    rows[0, 3] = 2  # the only one of its kind, after a token that is seen 1000 times
    lost = ~(looped(2, rows, t) == 2).any((1, 2))
    yield expected(
        f"loss of a pair that is seen once, 2-gram, {len(rows)} rows, t = {t}",
        "n-gram: q_t^c",
        categorical.loss_probability(1, t),
        lost,
    )


def _walks() -> Iterator[Check]:
    """The exponential density's mean, fitted to its own samples."""
    for n, t in ((5, 6), (30, 10)):
        rng, mean = generator(14, "verify/exponential", n), np.ones(_R)
        for _ in range(t):
            mean = (mean[:, None] * rng.exponential(size=(_R, n))).mean(1)
        logs, walk = np.log(mean), replace.exponential_walk(n, t)
        when = f"exponential, n = {n}, t = {t}"
        yield expected(f"E ln θ_t/θ_0, {when}", "ψ(n) − ln n", walk.mean, logs)
        yield expected(f"Var ln θ_t/θ_0, {when}", "ψ₁(n)", walk.variance, (logs - walk.mean) ** 2)


def _regression() -> Iterator[Check]:
    """Least squares on labels of the model before, x drawn anew or kept, sets replaced or accumulated."""
    rows, d, fits = 12, 3, 5
    for kept in (False, True):
        for accumulated in (False, True):
            errors = _relabelled(rows, d, fits, kept=kept, accumulated=accumulated)
            known = (
                regression.accumulated_error(rows, d, fits, kept=kept)
                if accumulated
                else regression.replaced_error(rows, d, fits)
            )
            name = f"{'accumulate' if accumulated else 'replace'}, x {'kept' if kept else 'drawn anew'}"
            source = "regression: replace" if not accumulated else "regression: accumulate"
            yield expected(f"E‖β_t − β‖², {name}, T = {rows}, d = {d}, {fits} fits", source, known, errors)
    many = _relabelled(400, 2, 30, kept=True, accumulated=True, replicas=4000)
    first = regression.replaced_error(400, 2, 1)
    yield expected(
        "error after 30 accumulating fits over the first's, 1/efficiency, kept x",
        "→ π²/6",
        1 / regression.accumulated_efficiency(30),
        many / first,
    )
    efficiency = regression.accumulated_efficiency(10**6)
    yield calculated("efficiency of accumulating", "→ 6/π²", 6 / math.pi**2, efficiency, 1e-6)


def _relabelled(rows: int, d: int, fits: int, *, kept: bool, accumulated: bool, replicas: int = _R) -> Doubles:
    """Return ‖β_t − β‖² (R,) for β = 0 and noise of size 1, through the normal equations of every row."""
    rng = generator(14, "verify/regression", rows, fits, str(kept), str(accumulated))
    beta, gram, moment = np.zeros((replicas, d)), np.zeros((replicas, d, d)), np.zeros((replicas, d))
    x = None
    for _ in range(fits):
        if x is None or not kept:
            x = rng.standard_normal((replicas, rows, d))
        y = (x @ beta[:, :, None])[:, :, 0] + rng.standard_normal((replicas, rows))
        new_gram, new_moment = x.transpose(0, 2, 1) @ x, (x.transpose(0, 2, 1) @ y[:, :, None])[:, :, 0]
        gram, moment = (gram + new_gram, moment + new_moment) if accumulated else (new_gram, new_moment)
        beta = np.asarray(np.linalg.solve(gram, moment[:, :, None])[:, :, 0])
    return np.asarray(np.square(beta).sum(1))


def _kernel_density() -> Iterator[Check]:
    """Rows are picked and noise added: the variance forgets the data, and a share of real rows bounds what is added."""
    n, h = 8, 0.5
    for t in (4, 60):
        rng, x = generator(14, "verify/kernel density", t), np.tile(np.array([-1.0, 1.0] * (n // 2)), (_R // 2, 1))
        for _ in range(t):
            x = np.take_along_axis(x, rng.integers(n, size=x.shape), axis=1) + h * rng.standard_normal(x.shape)
        known = kernel_density.replaced_variance(n, h, t, 1 + h**2)
        yield expected(f"E V_t, kernel density, n = {n}, h = {h}, t = {t}", "→ nh²", known, x.var(1) + h**2)
    n, t = 20, 20
    for share in (0.1, 0.5):
        rng, real = generator(14, "verify/kernel density/real", str(share)), round(share * n)
        x = rng.standard_normal((_R // 2, n))
        for _ in range(t):
            picked = rng.integers(n, size=(len(x), n - real))
            synthetic = np.take_along_axis(x, picked, axis=1) + h * rng.standard_normal(picked.shape)
            x = np.concatenate([rng.standard_normal((len(x), real)), synthetic], axis=1)
        density = np.square(x).mean(1) + h**2  # E x² of the estimated density
        known = 1 + h**2 + (1 - share) * kernel_density.second_moment_drift(h, share, t)
        yield expected(
            f"E x²_t, kernel density, real share {share}, h = {h}, t = {t}", "h²(1 − (1−α)^t)/α", known, density
        )
