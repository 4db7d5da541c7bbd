"""What is done to samples or to the fit: biased, diffused and corrected samples, extrapolated and warm fits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfloop.core.streams import generator
from selfloop.learning.samplers import Schedule, ancestral, ddim
from selfloop.theory import biased, corrected, extrapolate, sampler_bias
from selfloop.theory.checks.check import Check, calculated, expected

Doubles = NDArray[np.float64]


def checks() -> Iterator[Check]:
    """Run the checks, a second on one core."""
    yield from _biased()
    yield from _sharpened()
    yield from _diffused()
    yield from _corrected()
    yield from _extrapolated()
    yield from _warm()


def _biased() -> Iterator[Check]:
    """Samples of τ times the variance, beside real rows; so many rows that 1/n is nothing."""
    n, replicas = 10**7, 400
    for lam, tau, t in ((1.0, 0.5, 2), (3.0, 1.2, 10), (3.0, 1.2, 200), (3.0, 1.5, 20)):
        rng, m, v = generator(14, "verify/biased", str(lam), str(tau)), round(lam * n), np.ones(replicas)
        real, path = rng.chisquare(n - 1, replicas), []
        for _ in range(t):
            v = (real + tau * v * rng.chisquare(m - 1, replicas)) / (n + m)
            path.append(v)
        when = f"λ = {lam:g}, τ = {tau:g}, t = {t}"
        if lam < biased.critical_ratio(tau):
            limit = biased.tempered_variance(lam, tau, None if t == 200 else t)
            yield expected(f"σ²_t beside real rows, {when}", "biased: 1/(1 + λ(1 − τ))", limit, v)
        else:
            growth = (path[-1] - path[-2]) / (path[-2] - path[-3])
            yield expected(
                f"growth of σ² above λ = 1/(τ − 1), {when}", "biased: wτ", biased.tempered_rate(lam, tau), growth
            )


def _sharpened() -> Iterator[Check]:
    """p^β: the uniform distribution over five categories loses its stability at λ = 1/(β − 1)."""
    beta, uniform = 1.5, np.full(5, 0.2)
    critical = biased.critical_ratio(beta)
    for lam in (0.5 * critical, critical, 2 * critical):
        p, gaps = uniform + 1e-6 * np.array([2.0, -1, -1, 1, -1]), []
        for _ in range(4):
            powers = p**beta
            p = (uniform + lam * powers / powers.sum()) / (1 + lam)
            gaps.append(float(np.abs(p - uniform).sum()))
        yield calculated(
            f"growth of a small departure from uniform, p^{beta:g}, λ = {lam:g}",
            "biased: wβ, 1 at λ = 1/(β − 1)",
            biased.tempered_rate(lam, beta),
            gaps[-1] / gaps[-2],
            1e-4,
        )


def _diffused() -> Iterator[Check]:
    """Samples of DDPM's chain and of DDIM about a mode, by rows that go through them with the exact denoiser."""
    schedule, n, mean = Schedule.linear(1e-3, 0.2, 100), 100_000, 1.3
    times = np.arange(0, 100, 9)
    for v in (2e-4, 1e-2):

        def predict(x: Tensor, t: int, v: float = v) -> Tensor:
            a = float(schedule.alphas_bar[t])
            best = (math.sqrt(a) * v * x + (1 - a) * mean) / (a * v + 1 - a)  # by the precisions of data and noise
            return (x - math.sqrt(a) * best) / math.sqrt(1 - a)

        def noise(i: int, v: float = v) -> Tensor:
            return torch.from_numpy(generator(14, "verify/diffused", str(v), i).standard_normal((1, n, 1)))

        for kind in ("fixed-large", "fixed-small"):
            x = ancestral(predict, noise(100), schedule, noise, kind).numpy().ravel() - mean
            yield expected(
                f"variance of {kind} samples over the data's, which is {v:g}",
                "sampler bias: F(v)/v",
                float(sampler_bias.ancestral_variance(schedule, v, kind)) / v,
                x**2 / v,
            )
        x = ddim(predict, noise(100), schedule, times).numpy().ravel() - mean
        yield expected(
            f"variance of samples of DDIM in {len(times)} steps over the data's, which is {v:g}",
            "sampler bias: F(v)/v",
            float(sampler_bias.ddim_variance(schedule, v, times)) / v,
            x**2 / v,
        )


def _corrected() -> Iterator[Check]:
    """A logistic density's location on skewed data, with exact expectations: A ≠ B, so that μ ≠ 1."""
    x = np.linspace(-40, 40, 8001)
    density = np.exp(-0.5 * (x / 3) ** 2) + np.exp(-0.5 * (x - 6) ** 2)
    data = density / density.sum()

    def model(theta: float) -> Doubles:
        weights = 1 / np.cosh((x - theta) / 2) ** 2
        return np.asarray(weights / weights.sum())

    def fit(weights: Doubles, theta: float) -> float:
        for _ in range(30):
            slope = np.tanh((x - theta) / 2)
            theta += float(weights @ slope) / (0.5 * float(weights @ (1 - slope**2)))
        return theta

    star = fit(data, 1.0)
    mu = float(model(star) @ (1 - np.tanh((x - star) / 2) ** 2) / (data @ (1 - np.tanh((x - star) / 2) ** 2)))
    for lam, strength, towards_model in ((1.0, 0.5, False), (5.0, 1.0, False), (5.0, 1.0, True)):
        truth = model(star) if towards_model else data
        theta, errors = star + 1e-3, [1e-3]
        for _ in range(3):
            rows = (model(theta) + strength * truth) / (1 + strength)
            theta = fit((data + lam * rows) / (1 + lam), theta)
            errors.append(theta - star)
        ratios = [b / a for a, b in itertools.pairwise(errors)]
        goal = "the best model" if towards_model else "the data"
        yield calculated(
            f"ρ of samples corrected towards {goal}, μ = {mu:.3g}, λ = {lam:g}, γ = {strength:g}",
            "corrected: λμ/((1 + γ)(1 + λμ))" if towards_model else "corrected: λμ/(1 + γ + λγ + λμ)",
            corrected.corrected_rate(lam, strength, mu, towards_model=towards_model),
            ratios[-1],
            max(abs(ratios[-1] - ratios[-2]), 1e-5),
        )
    n, replicas, lam, strength = 40, 20_000, 2, 0.5
    rng = generator(14, "verify/corrected")
    real = rng.standard_normal((replicas, n))
    mean = start = real.mean(1) + 1.0
    synthetic = mean[:, None] + rng.standard_normal((replicas, lam * n))
    true = np.take_along_axis(real, rng.integers(n, size=synthetic.shape), axis=1)
    chosen = np.where(rng.random(synthetic.shape) < strength / (1 + strength), true, synthetic)
    mean = np.concatenate([real, chosen], axis=1).mean(1)
    yield expected(
        f"what is left of a mean's error of 1, rows corrected by draws, λ = {lam}, γ = {strength}",
        "corrected: λ/((1 + γ)(1 + λ))",
        corrected.corrected_rate(lam, strength),
        mean - (start - 1.0),
    )


def _extrapolated() -> Iterator[Check]:
    """Away from a fit to biased samples: each parametrisation at its own best weight, and one that is not."""
    n, replicas, tau = 10**7, 20_000, 0.8
    rng = generator(14, "verify/extrapolate")
    real, own, drawn = (rng.chisquare(n - 1, replicas) / (n - 1) for _ in range(3))
    ways: tuple[tuple[str, str, Callable[[Doubles], Doubles], Callable[[Doubles], Doubles]], ...] = (
        ("variance", "σ²", lambda v: v, lambda theta: theta),
        ("log_variance", "ln σ²", np.log, np.exp),
        ("precision", "1/σ²", np.reciprocal, np.reciprocal),
    )
    for parameter, words, there, back in ways:
        w = extrapolate.best_weight(tau, parameter)  # type: ignore[arg-type]
        theta = there(real) - w * (there(tau * real * own) - there(real))
        yield expected(
            f"σ² of samples extrapolated in {words}, τ = {tau}, w = {w:g}",
            "extrapolate: 1/τ, 1, τ",
            1.0,
            tau * back(theta) * drawn,
        )
    theta = real - 0.5 * (tau * real * own - real)
    known = extrapolate.reached_variance(tau, 0.5)
    yield expected(
        f"σ² of samples extrapolated in σ², τ = {tau}, w = 0.5",
        "extrapolate: τ(1 + w − wτ)",
        known,
        tau * theta * drawn,
    )


def _warm() -> Iterator[Check]:
    """k gradient steps from the model before, on a mean of known variance."""
    n, replicas, lam, eta = 50, 20_000, 1, 0.2
    for steps in (1, 4):
        rng = generator(14, "verify/warm", steps)
        real = rng.standard_normal((replicas, n))
        mean, path = real.mean(1) + 1.0, []
        for _ in range(3):
            x = np.concatenate([real, mean[:, None] + rng.standard_normal((replicas, lam * n))], axis=1)
            for _ in range(steps):
                mean = mean + eta * (x - mean[:, None]).mean(1)
            path.append(mean - real.mean(1))
        rate = extrapolate.warm_start_rate(lam / (1 + lam), (1 - eta) ** steps)
        yield expected(
            f"error of 1 after three warm retrainings of {steps} steps, λ = {lam}, η = {eta}",
            "warm start: m + (1 − m)ρ",
            rate**3,
            path[-1],
        )
