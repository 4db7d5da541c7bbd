"""Section 3's predictions, local to a fixed point, against the loops they speak of: rows of ``selfloop verify``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor

from selfloop.core.streams import generator
from selfloop.learning.samplers import euler
from selfloop.theory.bounds import Deviations, envelope
from selfloop.theory.checks import propositions
from selfloop.theory.checks.check import Check
from selfloop.theory.contraction import Contraction, Measure, contraction, maximise
from selfloop.theory.gaussian_loop import gaussian_loop
from selfloop.theory.implicit import Retraining
from selfloop.theory.matrix_free import leading
from selfloop.theory.measured import memory


def checks() -> Iterator[Check]:
    """Run the checks, about half a minute on one core."""
    yield from _misspecified()
    yield from _propositions()
    yield from _flow_matching()
    yield from _seen()
    yield from _envelope()


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
    lanczos = leading(_two_normals, star, data, _on(x, star))
    yield Check(
        statement="largest μ of three normals fitted by two, without a Hessian",
        source="local rate",
        predicted=float(found.mu[-1]),
        measured=float(lanczos.mu[0]),
        error=float(lanczos.residual[0]) ** 2 + 1e-6,
    )
    for lam in (1.0, 10.0):
        settings = (_two_normals, star, data, lambda theta: _on(x, theta), lam)
        yield from propositions.proposition_3(*settings, name="two normals")
        yield from propositions.proposition_4(*settings, name="two normals")
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


def _propositions() -> Iterator[Check]:
    """Proposition 2 for Gaussians; Lemma E.1 for a density whose Hessian is Lipschitz, as two normals' is not."""
    for d in (1, 3):
        root = generator(d, "verify/covariance").standard_normal((d, d))
        yield from propositions.proposition_2(np.arange(d, dtype=np.float64), root @ root.T + 0.3 * np.eye(d))
    x = torch.linspace(-16, 16, 1201, dtype=torch.float64)
    density = torch.exp(-0.5 * x**2) + 0.8 * torch.exp(-2 * (x - 3) ** 2)
    data = (x, density / density.sum())
    star = maximise(_logistic, torch.tensor([1.0, 0.0], dtype=torch.float64), data)
    weights = _logistic(star, x).exp()
    model = (x, weights / weights.sum())
    epsilon = float(wasserstein_distance(x.numpy(), x.numpy(), data[1].numpy(), model[1].numpy()))
    yield from propositions.lemma_misfit(_logistic, star, data, model, epsilon, name="a logistic density")


def _logistic(theta: Tensor, x: Tensor) -> Tensor:
    """Log density of a logistic variable: its location and log scale."""
    z = (x - theta[0]) / theta[1].exp()
    return -z - theta[1] - 2 * torch.nn.functional.softplus(-z)


def _flow_matching() -> Iterator[Check]:
    """A Gaussian's mean learnt by flow matching: the loss is least at its rows' mean, which Euler's method keeps."""
    rows, s = 200, 0.6
    rng = generator(0, "verify/flow")
    real, noise, latents = (torch.from_numpy(rng.standard_normal(rows)) for _ in range(3))
    times = torch.from_numpy(rng.random(rows))

    def velocity(theta: Tensor, x: Tensor, t: Tensor) -> Tensor:
        c = (t * s**2 - (1 - t)) / ((1 - t) ** 2 + t**2 * s**2)
        return theta + c * (x - t * theta)

    def loss(theta: Tensor, x: Tensor) -> Tensor:
        return (velocity(theta, (1 - times) * noise + times * x, times) - (x - noise)).square().mean()

    def sample(theta: Tensor) -> Tensor:
        return euler(lambda x, t: velocity(theta, x, t), latents[None], 8)[0]

    loop = Retraining(real=lambda theta: loss(theta, 2 + s * real), synthetic=loss, sample=sample)
    for lam in (0.5, 9.0):
        star = loop.fixed_point(torch.zeros(1, dtype=torch.float64), lam)
        yield Check(
            statement=f"J of a Gaussian's mean under flow matching, λ = {lam:g}",
            source="Lemma E.1 i, no likelihood",
            predicted=lam / (1 + lam),
            measured=float(loop.jacobian(star, lam)[0, 0]),
            error=1e-9,
        )


def _seen() -> Iterator[Check]:
    """The rate that a run's own arms show."""
    for lam in (0.5, 3.0):
        fits = list(gaussian_loop(np.zeros(2), np.eye(2), n=100, generations=60, replicas=100, lam=lam, seed=1))
        found = memory(np.stack([f.mean - fits[0].mean for f in fits], 1))
        if found is not None:
            yield Check(
                statement=f"ρ seen in the means of 100 arms, λ = {lam:g}",
                source="local rate",
                predicted=lam / (1 + lam),
                measured=found.value,
                error=math.hypot((found.high - found.low) / (2 * 1.96), 0.005),  # what the jackknife leaves of the bias
            )


def _envelope() -> Iterator[Check]:
    """Theorem 2's envelope with constants from other runs: no more arms are outside than it allows."""
    lam, n, generations, replicas, delta = 1.0, 50, 12, 4000, 0.05
    rate = lam / (1 + lam)

    def errors(rows: int) -> np.ndarray:
        settings = {"n": rows, "generations": generations, "replicas": replicas, "lam": lam, "seed": rows}
        return np.stack([f.mean[:, 0] for f in gaussian_loop(np.zeros(1), np.eye(1), **settings)], 1)  # type: ignore[arg-type]

    seen = {rows: errors(rows) for rows in (25, 100)}
    found = Deviations.estimate(
        {rows: np.abs(e[:, 1:] - rate * e[:, :-1]).ravel().tolist() for rows, e in seen.items()}
    )
    paths = np.abs(errors(n))
    zero = envelope(found, rate, start=0.0, rows=n, generations=generations, delta=delta)
    outside = (paths > zero + rate ** np.arange(generations + 1) * paths[:, :1] + 1e-12).mean(0)
    yield Check(
        statement=f"share of loops outside the envelope, n = {n}, λ = {lam:g}",
        source="Theorem 2, Eq. 14",
        predicted=delta,
        measured=float(outside.max()),
        error=math.sqrt(delta * (1 - delta) / replicas),
        bound=True,
    )
