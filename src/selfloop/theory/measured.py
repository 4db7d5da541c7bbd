"""The local rate of a loop as it is measured: from two loops that start close together, or from one that has run.

The first works for every generator, and is the rate of the loop as it is trained, budget and all: a retraining of the
perturbed and of the unperturbed model with the same random numbers shows what is left of the perturbation.

The second needs no run of its own: near its fixed point a loop is y_{t+1} = ρ y_t + noise, whatever y is seen of it,
and regression finds ρ.

Neither bounds how errors add up: that takes a norm in which the loop's Jacobian is symmetric, and for a measured rate
none is known (:mod:`selfloop.theory.bounds`).

Legend: θ parameters, p of them; R replicas; ρ the local rate; S arms that differ in seed; T generations; k features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit
from torch import Tensor

from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams, generator
from selfloop.generators.base import Generator
from selfloop.learning.training import SHADOW, Budget, averaged, reset_optimizer
from selfloop.mixing.augment import Augment
from selfloop.mixing.base import Pool

Doubles = NDArray[np.float64]
Map = Callable[[Tensor, int], Tensor]  # θ (R, p) and the retraining's number → θ′ (R, p)

FEWEST_ARMS = 5
"""Seeds from which a rate that arms show has an interval."""

FEWEST_RETRAININGS = 8
"""From which the memory of a loop can be told from an arm's own fixed point."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval."""

    value: float
    low: float
    high: float


def student_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Return the mean of independent values and Student's interval about it.

    Raises:
        ValueError: there are fewer than two.
    """
    if len(values) < 2:
        raise ValueError("an interval needs at least two independent values")
    middle, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(stdtrit(len(values) - 1, 0.5 + level / 2)) * error
    return Interval(middle, middle - half, middle + half)


def perturbed(
    retrain: Map,
    theta: Tensor,
    *,
    size: float = 1e-3,
    rounds: int = 10,
    skip: int = 4,
    seen: Callable[[Tensor], Tensor] = lambda theta: theta,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Measure the dominant rate of a retraining map by what it does to a small difference of its argument.

    Each replica starts from a random direction. After every retraining the difference is brought back to its size, so
    that it turns into the slowest direction, and its growth is ρ; the geometric mean over the rounds after ``skip`` is
    one replica's estimate. Directions of nearly the same rate are told apart slowly, and the estimate is between them
    meanwhile. With finitely many samples the map differs from round to round, and what is measured is the mean rate of
    the products of their Jacobians.

    Args:
        retrain: gives equal random numbers to equal retrainings, whatever θ.
        theta: (R, p) R ≥ 2 models near the fixed point, floating point.
        size: of the difference, against ‖θ‖: small for a linear map, but well above the rounding of a fit.
        rounds: retrainings.
        skip: rounds in which the difference turns.
        seen: maps models (R, p) to what of them counts, (R, k), such as samples from fixed latents. In the long run ρ
            is the same in everything; over few rounds what is seen of a network forgets faster than its parameters,
            many of which hardly matter.
        level: of Student's interval over the replicas, which is taken of ln ρ.
        seed: of the directions.

    Raises:
        ValueError: there is one replica only, no round is left, or a retraining diverged.
    """
    if len(theta) < 2 or rounds <= skip:
        raise ValueError("perturbed() needs at least two replicas and more rounds than it skips")
    drawn = [generator(seed, "perturbation", r).standard_normal(theta.shape[1]) for r in range(len(theta))]
    direction = torch.from_numpy(np.stack(drawn)).to(theta)
    logs = []
    for k in range(rounds):
        direction = direction / direction.norm(dim=1, keepdim=True)
        step = size * theta.norm(dim=1, keepdim=True).clamp_min(1.0)
        before = theta + step * direction
        base, moved = retrain(theta, k), retrain(before, k)
        direction = (moved - base) / step
        growth = _apart(seen(moved), seen(base)) / _apart(seen(before), seen(theta))
        if not torch.isfinite(growth).all():
            raise ValueError(f"retraining {k} diverged")
        if not growth.all():  # nothing is left: λ = 0, or a closed form that forgets
            return Interval(0.0, 0.0, 0.0)
        logs.append(growth.log())
        theta = base
    found = student_interval(torch.stack(logs[skip:]).mean(0).tolist(), level)
    return Interval(math.exp(found.value), math.exp(found.low), math.exp(found.high))


def _apart(a: Tensor, b: Tensor) -> Tensor:
    apart: Tensor = (a - b).double().flatten(1).norm(dim=1)
    return apart


@dataclass(frozen=True)
class Retraining:
    """Algorithm 1 with fixed random numbers, as functions of parameters.

    Attributes:
        start: (R, p) parameters of the models it was made of.
        retrain: θ (R, p) and the retraining's number ↦ θ′ (R, p).
        sample: θ (R, p) ↦ as many rows as are real, from the same latents every time, (R, n · d).
    """

    start: Tensor
    retrain: Map
    sample: Callable[[Tensor], Tensor]


def retraining(
    family: Generator, state: State, real: Tensor, lam: float, budget: Budget, streams: Streams
) -> Retraining:
    """Return the parameters of fitted models, and one retraining of Algorithm 1 as a map of them.

    The parameters are those that sample: averages, where a generator keeps some. Every retraining starts a fresh
    optimiser, as with ``optimizer: reset``; a closed-form generator has none.

    Args:
        family: of the models.
        state: R of them, fitted.
        real: (R, n, *event) real rows.
        lam: λ.
        budget: of one retraining.
        streams: of R seeds; retraining k draws from generation k + 1, sampling from generation k.
    """
    mix, rows = Augment(lam=lam), Samples.full(real, born=0)
    shapes = {name: leaf.shape for name, leaf in averaged(state).items()}

    def vector(params: State) -> Tensor:
        return torch.cat([params[name].flatten(1) for name in shapes], 1)

    def filled(theta: Tensor) -> State:
        pieces = torch.split(theta, [shape[1:].numel() for shape in shapes.values()], 1)
        params = {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
        shadow = {f"{SHADOW}{name}": piece.clone() for name, piece in params.items() if f"{SHADOW}{name}" in state}
        return reset_optimizer(state) | params | shadow

    def retrain(theta: Tensor, k: int) -> Tensor:
        before = filled(theta)
        drawn = family.sample(before, max(1, mix.synthetic(real.shape[1])), streams.at(k))
        pool = Pool(k + 1, rows, streams.at(k + 1), lambda t: Samples.full(drawn, born=t + 1))
        data = mix(k + 1, pool)
        return vector(averaged(family.fit(before, data, budget.resolve(real.shape[1]), streams.at(k + 1))))

    def sample(theta: Tensor) -> Tensor:
        return family.sample(filled(theta), real.shape[1], streams.at(0)).flatten(1)

    return Retraining(vector(averaged(state)), retrain, sample)


def memory(paths: Doubles, *, level: float = 0.95) -> Interval | None:
    """Estimate ρ from what is seen of S arms of one setting at T generations, by regression of each on the one before.

    What all arms share at a generation is taken away, and so is what an arm keeps for ever: its own fixed point. The
    second makes a regression over few generations too low (Nickell 1981), which the half-panel jackknife mends: twice
    the estimate less the mean of those of both halves (Dhaene & Jochmans 2015).

    The interval is Student's with the standard error of the jackknife that leaves out one arm at a time. Its upper end
    also allows for the bias that is left, as large as it is where arms start at their fixed point: ρ = 0.9 comes out
    about 0.07 too low from 10 retrainings, 0.016 from 20.

    Args:
        paths: (S, T, k) features of one scale, such as means of samples less those of the arm's own real rows.
        level: of the confidence interval.

    Returns:
        The estimate; its interval is NaN for fewer than 5 arms, or where without one of them nothing moves. None for
        fewer than 2 arms or 8 retrainings, and where nothing moves.
    """
    arms, generations, _ = paths.shape
    if arms < 2 or generations <= FEWEST_RETRAININGS or not np.isfinite(paths).all():
        return None
    paths = paths - paths.mean(0)
    half = generations // 2
    halves = _slopes(paths[:, : half + 1]) + _slopes(paths[:, -half - 1 :])
    value, *without = (2 * _slopes(paths) - halves / 2).tolist()
    if not math.isfinite(value):
        return None
    if arms < FEWEST_ARMS or not np.isfinite(without).all():
        return Interval(value, math.nan, math.nan)
    error = math.sqrt((arms - 1) * np.var(without))
    wide = float(stdtrit(arms - 1, 0.5 + level / 2)) * error
    return Interval(value, value - wide, _allowing(value + wide, generations))


def _slopes(paths: Doubles) -> Doubles:
    """Return the regression of each generation on the one before, with effects of arms and of generations.

    Args:
        paths: (S, T, k), their mean over the arms 0.

    Returns:
        (1 + S,) of all arms, then without each of them; NaN where nothing moves.
    """
    arms = len(paths)
    before, after = (paths[:, :-1] - paths[:, :-1].mean(1, keepdims=True)), paths[:, 1:]
    square, product = (np.einsum("stk,stk->s", before, other) for other in (before, after))
    # Without arm i the mean over the others is −1/(S − 1) of it: their sums about it are less by S/(S − 1) of its own.
    share = np.concatenate([[0.0], np.full(arms, arms / (arms - 1))])
    of = np.concatenate([[0], np.arange(arms)])
    squares = square.sum() - share * square[of]
    moves = squares > 1e-12 * (paths[:, :-1] ** 2).sum()
    slopes = np.divide(product.sum() - share * product[of], squares, out=np.full(arms + 1, np.nan), where=moves)
    return np.asarray(slopes)


def _allowing(rate: float, generations: int) -> float:
    """Return the rate of which the half-panel jackknife makes ``rate`` in many arms that start at their fixed points.

    That is at least ``rate``: arms that start elsewhere, as far from it as they will be, leave less of a bias.
    """
    rates, seen = _left(generations)
    return max(rate, float(np.interp(rate, seen, rates, left=rate, right=rate + rates[-1] - seen[-1])))


@lru_cache(maxsize=8)
def _left(generations: int) -> tuple[Doubles, Doubles]:
    """Return rates ρ, and what the half-panel jackknife makes of each in infinitely many arms."""
    rates, half = np.linspace(-1, 1.2, 111), generations // 2
    lag = np.subtract.outer(np.arange(generations), np.arange(generations))
    seen = []
    for rate in rates:
        response = np.tril(rate ** np.maximum(lag, 0))  # of every generation to the noise of those before
        covariance = response @ response.T
        halves = covariance[: half + 1, : half + 1], covariance[-half - 1 :, -half - 1 :]
        seen.append(2 * _expected_slope(covariance) - sum(map(_expected_slope, halves)) / 2)
    return rates, np.array(seen)


def _expected_slope(covariance: Doubles) -> float:
    before, across = covariance[:-1, :-1], covariance[:-1, 1:]
    return float((np.trace(across) - across.sum() / len(across)) / (np.trace(before) - before.sum() / len(before)))
