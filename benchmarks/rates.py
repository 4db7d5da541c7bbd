"""The rate that theory predicts beside the one that retraining shows: four families, five λ.

- gaussian: the generator itself on 1000 rows, its loop with fresh samples, measured with Student's interval over 20
  replicas. Well specified; λ/(1 + λ).
- mixture: two normals on three modes, with exact expectations by quadrature. Misspecified.
- energy: p_θ(x) ∝ exp(f_θ(x) − x²/16) on the same modes, again by quadrature; f_θ is a network with one hidden layer of
  six tanh units. A weight decay of 0.001 makes its maximum strict.
- velocity: flow matching, which is no likelihood, of a network with three tanh units on 400 rows of the same modes,
  sampled by Euler's method in ten steps, all random numbers fixed. A weight decay of 0.1 makes its minimum strict up to
  λ = 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.generators import Gaussian
from selfloop.generators.mixture import Mixtures
from selfloop.learning.samplers import euler
from selfloop.learning.training import Budget
from selfloop.theory import implicit
from selfloop.theory.contraction import LogProb, Measure, ascend, contraction
from selfloop.theory.matrix_free import leading
from selfloop.theory.measured import Interval, perturbed, retraining

LAMBDAS = (0.25, 0.5, 1.0, 2.0, 10.0)
GRID = torch.linspace(-9, 9, 901, dtype=torch.float64).unsqueeze(1)
_DECAY = 1e-3
_HIDDEN = 6
_ROWS, _UNITS = 400, 3  # of the velocity


@dataclass(frozen=True, kw_only=True)
class Row:
    """One family at one λ.

    Attributes:
        family: of models.
        lam: λ.
        predicted_rate: ρ from the Hessians.
        measured_rate: ρ from what retraining leaves of a small difference.
        low_rate: of the measurement's 95 % interval.
        high_rate: of the same.
        off: by what share of the prediction the measurement differs, in percent.
    """

    family: str
    lam: float
    predicted_rate: float
    measured_rate: float
    low_rate: float
    high_rate: float
    off: float


def compared(family: str, lam: float, predicted: float, measured: Interval) -> Row:
    """Return a row."""
    return Row(
        family=family,
        lam=lam,
        predicted_rate=predicted,
        measured_rate=measured.value,
        low_rate=measured.low,
        high_rate=measured.high,
        off=100 * (measured.value / predicted - 1),
    )


def three_modes() -> Tensor:
    """Return weights (N,) of 0.35 N(−2, 0.6²) + 0.25 N(0.3, 0.5²) + 0.40 N(2.5, 0.8²) on the grid."""
    parts = [(0.35, -2.0, 0.6), (0.25, 0.3, 0.5), (0.40, 2.5, 0.8)]
    return (
        torch.stack([math.log(w / s) - 0.5 * ((GRID[:, 0] - m) / s) ** 2 for w, m, s in parts]).logsumexp(0).softmax(0)
    )


def energy(theta: Tensor, x: Tensor) -> Tensor:
    """Return log p_θ of points on the grid, (N,), of θ (3 · hidden,)."""
    into, bias, out = theta.split(_HIDDEN)

    def unnormalised(x: Tensor) -> Tensor:
        return torch.tanh(x * into + bias) @ out - x[:, 0].square() / 16

    return unnormalised(x) - (unnormalised(GRID).logsumexp(0) + math.log(float(GRID[1] - GRID[0])))


def by_quadrature(log_prob: LogProb, theta: Tensor, lam: float, decay: float = 0.0) -> Interval:
    """Measure ρ near θ* (p,) of retraining on infinitely many rows, over four directions."""
    data = three_modes()

    def retrained(before: Tensor) -> Tensor:
        mixed = data + lam * log_prob(before, GRID).softmax(0)
        return ascend(lambda after: mixed @ log_prob(after, GRID) - decay / 2 * after.square().sum(), before)

    def retrain(stack: Tensor, k: int) -> Tensor:
        return torch.stack([retrained(before) for before in stack])

    # J is not symmetric in the Euclidean norm, so that a difference may outgrow ρ for some retrainings.
    return perturbed(retrain, theta.repeat(4, 1), size=1e-4, rounds=30, skip=20)


def gaussian_rows() -> Iterator[Row]:
    """Yield the rows of the well-specified family."""
    streams, family = Streams(tuple(range(20))), Gaussian()
    real, budget = streams.normal("real", (1000, 2), dtype=torch.float64), Budget(steps=0)
    state = family.fit({}, Samples.full(real, 0), budget, streams)
    for lam in LAMBDAS:
        loop = retraining(family, state, real, lam, budget, streams)
        yield compared("gaussian", lam, lam / (1 + lam), perturbed(loop.retrain, loop.start))


def mixture_rows() -> Iterator[Row]:
    """Yield the rows of the misspecified family."""
    family, data = Mixtures(2, 1), three_modes()
    start = torch.tensor([-0.5, -2.0, 2.0, 0.0, 0.0], dtype=torch.float64)
    theta = ascend(lambda theta: data @ family.log_prob(theta, GRID), start)
    found = contraction(family.log_prob, theta, (GRID, data), model(family.log_prob, theta))
    for lam in LAMBDAS:
        yield compared("mixture", lam, found.rate(lam), by_quadrature(family.log_prob, theta, lam))


def energy_rows() -> Iterator[Row]:
    """Yield the rows of the network."""
    data = three_modes()
    start = torch.from_numpy(np.random.default_rng(0).standard_normal(3 * _HIDDEN))
    theta = ascend(lambda theta: data @ energy(theta, GRID) - _DECAY / 2 * theta.square().sum(), start, 1000)
    found = leading(energy, theta, (GRID, data), model(energy, theta), weight_decay=_DECAY)
    for lam in LAMBDAS:
        predicted = lam * float(found.mu[0]) / (1 + lam * float(found.mu[0]))
        yield compared("energy", lam, predicted, by_quadrature(energy, theta, lam, _DECAY))


def model(log_prob: LogProb, theta: Tensor) -> Measure:
    """Return the model's own distribution on the grid."""
    return GRID, log_prob(theta, GRID).softmax(0)


def velocity(theta: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """Return v_θ of points at times, of θ (4 · units + 1,)."""
    into, late, bias, out = theta[:-1].split(_UNITS)
    return torch.tanh(x.unsqueeze(-1) * into + t.unsqueeze(-1) * late + bias) @ out + theta[-1]


def flow_matching() -> implicit.Retraining:
    """Return the retraining map of the velocity."""
    rng = np.random.default_rng(0)
    mode = rng.choice(3, size=_ROWS, p=[0.35, 0.25, 0.4])
    spread = np.array([0.6, 0.5, 0.8])[mode] * rng.standard_normal(_ROWS)
    real = torch.from_numpy(np.array([-2.0, 0.3, 2.5])[mode] + spread)
    noise, latents = (torch.from_numpy(rng.standard_normal(_ROWS)) for _ in range(2))
    times = torch.from_numpy(rng.random(_ROWS))

    def loss(theta: Tensor, x: Tensor) -> Tensor:
        error = velocity(theta, (1 - times) * noise + times * x, times) - (x - noise)
        return error.square().mean() + 0.05 * theta.square().sum()

    return implicit.Retraining(
        real=lambda theta: loss(theta, real),
        synthetic=loss,
        sample=lambda theta: euler(lambda x, t: velocity(theta, x, t.expand_as(x)), latents[None], 10)[0],
    )


def velocity_rows() -> Iterator[Row]:
    """Yield the rows of the loss that is no likelihood, whose fixed point moves with λ."""
    loop = flow_matching()
    star = torch.from_numpy(np.random.default_rng(1).standard_normal(4 * _UNITS + 1))
    star = ascend(lambda theta: -loop.real(theta), star, 1000)
    for lam in (0.25, 0.5, 1.0, 2.0, 4.0):
        for _ in range(10):  # from the fixed point of the λ before, as a loop would
            star = loop(star, lam)
        star = loop.fixed_point(star, lam)
        predicted = float(np.abs(np.linalg.eigvals(loop.jacobian(star, lam))).max())

        def retrain(stack: Tensor, k: int, lam: float = lam) -> Tensor:
            return torch.stack([loop(before, lam) for before in stack])

        measured = perturbed(retrain, star.repeat(4, 1), size=1e-4, rounds=60, skip=50)
        yield compared("velocity", lam, predicted, measured)


FAMILIES: tuple[Callable[[], Iterator[Row]], ...] = (gaussian_rows, mixture_rows, energy_rows, velocity_rows)


def rows() -> Iterator[Row]:
    """Yield a row for every family and λ."""
    for family in FAMILIES:
        yield from family()
