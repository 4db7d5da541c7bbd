"""Which samples are kept: verified and curated ones, against loops that draw and choose."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from selfloop.core.streams import generator
from selfloop.theory import curated, verified
from selfloop.theory.checks.check import Check, calculated, expected

Doubles = NDArray[np.float64]


def checks() -> Iterator[Check]:
    """Run the checks, about five seconds on one core."""
    yield from _verified()
    yield from _curated()
    yield from _condensed()


def _verified() -> Iterator[Check]:
    """Bad samples under a verifier with error rates; labels that a verifier thins out."""
    n, replicas = 10**7, 400
    settings: tuple[tuple[float, float, float, float], ...] = (
        (0.05, 0.9, 1.0, 1.0),
        (0.05, 0.9, 0.2, 0.9),
        (0.02, 1.0, 0.5, 0.9),
    )
    for spoiled, share, bad, good in settings:
        rng, e, first = generator(14, "verify/verified", str(bad), str(share)), np.full(replicas, spoiled), np.zeros(0)
        for t in range(120):
            drawn = rng.binomial(n, e)
            kept_bad, kept_good = rng.binomial(drawn, bad), rng.binomial(n - drawn, good)
            learned = share * kept_bad / (kept_bad + kept_good)
            e = learned + (1 - learned) * (rng.binomial(n, spoiled, replicas) / n)
            first = e if t == 0 else first
        rates = {"spoiled": spoiled, "share": share, "keeps_bad": bad, "keeps_good": good}
        when = f"η = {spoiled:g}, w = {share:g}, f = {bad:g}, g = {good:g}"
        step = verified.verified_step(spoiled, **rates)
        yield expected(f"bad samples after one retraining, {when}", "verified: e′", step, first)
        yield expected(f"bad samples, settled, {when}", "verified: e = e′", verified.verified_limit(**rates), e)
    for keeps_correct, keeps_wrong, threshold in ((1.0, 1.0, 0.5), (0.9, 0.3, 0.75), (0.7, 0.05, 14 / 15)):
        rng = generator(14, "verify/breakdown", str(threshold))
        critical = verified.breakdown(keeps_correct, keeps_wrong)
        wrong = rng.random(200_000) < threshold
        kept = wrong[rng.random(len(wrong)) < np.where(wrong, keeps_wrong, keeps_correct)]
        yield expected(
            f"wrong labels among those kept, p = p* = {critical:.3g}, φ = {keeps_correct:g}, ψ = {keeps_wrong:g}",
            "verified: p* = 1/(1 + ψ/φ)",
            0.5,
            kept,
        )
    for offset, accuracy in ((-0.1, 1.0), (0.1, 0.0)):
        p = verified.breakdown(0.9, 0.3) + offset
        # The mean of 400,000 signed rows is within a degree or so of the axis, which is what accuracy lacks of 0 or 1.
        yield calculated(
            f"accuracy of a linear classifier, φ = 0.9, ψ = 0.3, p = p* {'−' if offset < 0 else '+'} 0.1",
            "verified: phase transition",
            accuracy,
            _accuracy(p, 0.9, 0.3),
            0.01,
        )


def _accuracy(wrong: float, keeps_correct: float, keeps_wrong: float) -> float:
    """Return the accuracy of the mean of signed rows as a classifier, trained on labels that a verifier kept."""
    rng, n, d = generator(14, "verify/classifier", str(wrong)), 400_000, 2
    x = rng.standard_normal((2 * n, d))
    truth = np.sign(x[:, 0])
    flipped = rng.random(n) < wrong
    labels = np.where(flipped, -truth[:n], truth[:n])
    kept = rng.random(n) < np.where(flipped, keeps_wrong, keeps_correct)
    direction = (labels[kept, None] * x[:n][kept]).mean(0)
    return float((np.sign(x[n:] @ direction) == truth[n:]).mean())


def _curated() -> Iterator[Check]:
    """One of K by a reward: tables of categories, without real rows and beside them."""
    p0, reward, n, replicas = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.0, 0.5, 1.0, 2.0]), 10**8, 200
    rng, p, t = generator(14, "verify/curated"), np.tile(p0, (replicas, 1)), 4
    for _ in range(t):
        drawn = rng.multinomial(n, p) / n
        weights = drawn * np.exp(reward)  # K = ∞: a choice out of all samples
        p = rng.multinomial(n, weights / weights.sum(1, keepdims=True)) / n
    yield expected(
        f"share of the best of four, K = ∞, t = {t}",
        "curated: p_0e^{tr}/Z",
        float(curated.tilted(p0, reward, t)[3]),
        p[:, 3],
    )
    advantage = 1.0
    for of in (2, 5):
        rng = generator(14, "verify/curated/choice", of)
        better = rng.random((200_000, of)) < 0.3
        weights = np.where(better, math.exp(advantage), 1.0).cumsum(1)
        chosen = (rng.random((len(weights), 1)) * weights[:, -1:] > weights).sum(1)
        won = np.take_along_axis(better, chosen[:, None], axis=1)[:, 0]
        yield expected(
            f"share of the better class after one choice, K = {of}",
            "curated: finite K",
            curated.chosen_share(0.3, advantage, of),
            won,
        )
    for lam in (0.5, 3.0):
        w, rng, p = lam / (1 + lam), generator(14, "verify/curated/real", str(lam)), np.tile(p0, (replicas, 1))
        for _ in range(60):
            weights = p * np.exp(reward)
            p = (1 - w) * p0 + w * rng.multinomial(n, weights / weights.sum(1, keepdims=True)) / n
        known = curated.anchored(p0, reward, lam)
        yield expected(
            f"share of the best of four beside real rows, λ = {lam:g}",
            "curated: (1 − w)p_0/(1 − we^r/Z)",
            float(known[3]),
            p[:, 3],
        )
    rng, x = generator(14, "verify/curated/normal"), np.zeros(0)
    means = []
    for _ in range(200):
        x = rng.standard_normal(2000)
        for _ in range(3):
            weights = np.exp(0.4 * x).cumsum()
            kept = x[np.searchsorted(weights, rng.random(len(x)) * weights[-1])]
            x = kept.mean() + kept.std() * rng.standard_normal(len(x))
        means.append(x.mean())
    yield expected("mean of N(0, 1) curated by r = 0.4x, K = 2000, t = 3", "curated: N(at, 1)", 1.2, np.array(means))


def _condensed() -> Iterator[Check]:
    """r = −‖x‖²/2 on N(0, I_3): below λ_c a fixed point with Bose's integral, above it a condensate."""
    d, replicas, n = 3, 30, 20_000
    for lam in (0.5, 1.0):
        w, rng = lam / (1 + lam), generator(14, "verify/condensed", str(lam))
        energy = rng.gamma(d / 2, size=(replicas, n))  # ‖x‖²/2
        synthetic = round(w * n)
        for _ in range(60):
            weights = np.exp(-energy).cumsum(1)
            picked = [np.searchsorted(row, rng.random(synthetic) * row[-1]) for row in weights]
            kept = np.take_along_axis(energy, np.array(picked), axis=1)
            energy = np.concatenate([rng.gamma(d / 2, size=(replicas, n - synthetic)), kept], axis=1)
        yield expected(
            f"Z = E e^r beside real rows, N(0, I_3), λ = {lam:g}",
            "curated: (1 − w)Li(z)/z = 1",
            curated.normaliser(lam, d),
            np.exp(-energy).mean(1),
        )
    # Above λ_c on a grid of ln ‖x‖²/2, whose mass at the best point sharpens like 1/t.
    for lam in (1.4, 2.0, 5.0):
        w, logs, t = lam / (1 + lam), np.linspace(-30, 4.5, 1500), 12_000
        p0 = np.exp(logs * d / 2 - np.exp(logs))
        p0 /= p0.sum()
        gain, p = np.exp(-np.exp(logs)), p0
        for _ in range(t):
            p = p * gain
            z = float(p.sum())
            p = (1 - w) * p0 + w / z * p
        below = lam < curated.critical_ratio(d)
        # What is above ‖x‖²/2 = 1 is not the condensate's: the fixed point's tail, at Z as predicted.
        far, level = logs > 0, w / curated.normaliser(lam, d)
        outside = (1 - w) * float((p0[far] / (1 - level * gain[far])).sum())
        name = f"λ = {lam:g} {'<' if below else '>'} λ_c = ζ(3/2) − 1"
        yield calculated(f"mass beyond ‖x‖² = 2, {name}", "curated: condensation", outside, float(p[far].sum()), 1e-4)
        near = logs < math.log(0.01)
        share = curated.condensed_share(lam, d) + (1 - w) * float((p0[near] / (1 - level * gain[near])).sum())
        yield calculated(
            f"mass within ‖x‖² < 0.02, {name}",
            "curated: 1 − ζ(3/2)/(1 + λ), and the fixed point's",
            share,
            float(p[near].sum()),
            2e-3,
        )
