"""What arms of one setting will show, from what they have shown: a Bayesian forecast of a panel, in closed form.

Of arm s at generation t the loop's state is x and what is measured of it y:

    y_st = x_st + η_st,     x_s,t+1 − x_s0 = ρ (x_st − x_s0) + a_t + u_s + e_st,     a_t+1 = a_t + w_t,    x_s0 free

an arm that keeps ρ of where it has come to and is drawn on by a drift a that all arms share and u_s of its own. That a
may change by w is what allows for loops that are not linear: without it bands of many seeds are far too narrow. Where
``kept`` is false an arm forgets where it started: x_s0 is 0 in the second equation.

Starts x_s0 have flat priors, everything else is normal: e, η, u, w and the first drift a_0. Their variances are σ²
times those of a grid, whose points have prior weights, and σ² has the prior 1/σ². Given a point of the grid what is
seen and what will be is then normal, a forecast Student's with S(T − 1) degrees of freedom, and the evidence for the
point is closed too; the forecast is the mixture by that evidence (West & Harrison 1997, sections 4.5 and 12.2).

The mean of the arms and their departures from it are independent given the point of the grid, and only the mean sees
what all arms share. The points that the departures leave the most weight, 200 of up to 560, are held against the mean
with every prior of a and w, and 256 of these stand for all.

Legend: S arms; T generations seen; H to come; C points of the grid; N series; P levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, stdtr, stdtrit

Doubles = NDArray[np.float64]

RATES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.87, 0.92, 0.96, 0.98, 1.0, 1.02)
"""ρ, equally likely where theory says nothing; where it does its value has half of the weight."""

MOVING = (0.0, 0.02, 0.1, 0.4, 1.0)
"""Var e; Var η is the rest to 1."""

PULLS = (0.0, 0.03, 0.1, 0.4)
"""Standard deviations of u."""

DRIFTS = (0.0, 0.05, 0.3, 2.0)
"""Standard deviations of a_0."""

TURNS = (0.0, 0.01, 0.05, 0.25)
"""Standard deviations of w."""

LATEST = 40
"""Generations that are looked at: what a loop did long ago tells little of what it will do."""

FEWEST = 3
"""Generations from which there is a forecast."""

_LEAST = 1e-9  # of σ², Var η: a variance of 0 has no likelihood where the state does not move
_KEPT = 200  # points of the grid that the departures of the arms leave
_MIXED = 256  # points that are mixed at most: quantiles are then right to a fiftieth of the 90 % interval
_ALIKE = 1e-12  # of the largest change: departures of arms that are none
_EXACTLY = 1e-24  # of the largest sum of squares: what a point that fits without any error is taken to leave
_EXACT = 1e-4  # of how far the quantiles of single points are apart
_STEPS = 40


@dataclass(frozen=True, kw_only=True)
class Predictive:
    """A mixture of Student's distributions for each of H generations to come.

    Attributes:
        weights: (C,), of sum 1.
        freedom: degrees of freedom, of all.
        centre: (H, C).
        scale: (H, C), 0 where nothing ever changed.
    """

    weights: Doubles
    freedom: float
    centre: Doubles
    scale: Doubles

    def at(self, ahead: int | NDArray[np.int64]) -> Predictive:
        """Return some generations alone, by how far ahead they are: 1 is the next one."""
        chosen = np.atleast_1d(ahead) - 1
        return replace(self, centre=self.centre[chosen], scale=self.scale[chosen])

    def below(self, values: Doubles) -> Doubles:
        """Return the probabilities (H, …) of lying below values (H, …)."""
        return np.asarray(stdtr(self.freedom, self._off(values)[0]) @ self.weights)

    def density(self, values: Doubles) -> Doubles:
        """Return the densities (H, …) at values (H, …), infinite where all is known."""
        n, (z, scale) = self.freedom, self._off(values)
        constant = math.exp(gammaln((n + 1) / 2) - gammaln(n / 2)) / math.sqrt(n * math.pi)
        with np.errstate(divide="ignore"):
            return np.asarray(constant * ((1 + z * z / n) ** (-(n + 1) / 2) / scale) @ self.weights)

    def _off(self, values: Doubles) -> tuple[Doubles, Doubles]:
        """Return how far values (H, …) are from every centre, in its scale, and the scales, (H, …, C)."""
        more = (slice(None), *(None,) * (np.ndim(values) - 1))
        off, scale = np.asarray(values)[..., None] - self.centre[more], self.scale[more]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(off == 0, 0.0, off / scale), scale

    def quantiles(self, levels: Doubles | tuple[float, ...]) -> Doubles:
        """Return the quantiles (H, P) at levels (P,) within (0, 1), by Newton's steps that stay within brackets."""
        p = np.asarray(levels, np.float64)
        ends = [self.centre[:, None] + stdtrit(self.freedom, p)[:, None] * self.scale[:, None]]
        low, high = np.min(ends[0], 2), np.max(ends[0], 2)
        tolerance = _EXACT * (high - low)
        found = ends[0] @ self.weights
        for _ in range(_STEPS):
            over = self.below(found) - p
            low, high = np.where(over < 0, found, low), np.where(over < 0, high, found)
            with np.errstate(divide="ignore", invalid="ignore"):
                stepped = found - over / self.density(found)
            inside = (low < stepped) & (stepped < high)
            moved = np.where(inside, stepped, (low + high) / 2)
            if (np.abs(moved - found) <= tolerance).all():
                return np.asarray(moved)
            found = moved
        return np.asarray(found)


@dataclass(frozen=True, kw_only=True)
class _Points:
    """C points of the grid, (C,) each.

    Attributes:
        log_prior: of their prior weight, but for a constant.
        rate: ρ.
        moving: Var e.
        noise: Var η.
        pull: Var u.
        drift: Var a_0.
        turn: Var w.
        kept: 1 where arms remember where they started, 0 where not.
    """

    log_prior: Doubles
    rate: Doubles
    moving: Doubles
    noise: Doubles
    pull: Doubles
    drift: Doubles
    turn: Doubles
    kept: Doubles

    def taken(self, chosen: NDArray[Any]) -> _Points:
        return _Points(**{name: getattr(self, name)[chosen] for name in self.__dataclass_fields__})


def _grid(rate: float | None, arms: int) -> _Points:
    """Return the points that departures of arms tell apart; of one arm there are none, and the mean tells the rest."""
    rates, log_prior = np.array(RATES), np.full(len(RATES), -math.log(len(RATES)))
    if rate is not None:
        rates, log_prior = np.append(rates, rate), np.append(log_prior, 0.0)
    pulls, kept = (PULLS, (1.0, 0.0)) if arms > 1 else ((0.0,), (1.0,))
    place, moving, pull, keeps = (
        axis.ravel() for axis in np.meshgrid(np.arange(len(rates)), MOVING, pulls, kept, indexing="ij")
    )
    none = np.zeros(len(place))
    return _Points(
        log_prior=log_prior[place],
        rate=rates[place],
        moving=moving,
        noise=np.maximum(1 - moving, _LEAST),
        pull=pull**2,
        drift=none,
        turn=none,
        kept=keeps,
    )


def _shared(points: _Points) -> tuple[_Points, NDArray[np.int64]]:
    """Return the points with every prior of what all arms share, and which of the given ones each is of."""
    of, drift, turn = (axis.ravel() for axis in np.meshgrid(np.arange(len(points.rate)), DRIFTS, TURNS, indexing="ij"))
    return replace(points.taken(of), drift=drift**2, turn=turn**2, kept=np.ones(len(of))), of


def predict(paths: Doubles, ahead: int, *, rate: float | None = None, arm: int | None = None) -> Predictive:
    """Forecast the mean of arms, or one of them.

    Args:
        paths: (S, T) what was measured, all finite, on a scale on which the loop is about linear; S ≥ 1, T ≥ 3. Of more
            than the last 40 generations these are used.
        ahead: H, at least 1.
        rate: ρ as theory has it, None where it says nothing.
        arm: the one to forecast, None for the mean of all.

    Raises:
        ValueError: there are fewer than three generations, or a value is not finite.
    """
    if paths.shape[1] < FEWEST or not np.isfinite(paths).all():
        raise ValueError(f"a forecast needs {FEWEST} generations of finite values")
    paths = paths[:, -LATEST:]
    # In units of its own, so that no square of what is seen is too small or too large.
    origin = float(paths[:, -1].mean())
    unit = float(np.abs(paths - origin).max()) or 1.0
    paths = (paths - origin) / unit
    middle = paths.mean(0)
    apart = paths - middle
    alike = bool(np.abs(apart).max() <= _ALIKE)  # one arm, or the same one several times over
    arms, seen = (1 if alike else len(paths)), paths.shape[1]
    points = _grid(rate, arms)
    square, log_scale = np.zeros((2, len(points.rate)))
    if not alike:
        departures = _filtered(apart, points, points.pull)
        square, log_scale = departures.square, (arms - 1) * departures.log_scale
        log_weight = points.log_prior + _log_evidence(square, (arms - 1) * (seen - 1), log_scale)
        best = np.sort(np.argsort(-log_weight, kind="stable")[:_KEPT])
        points, square, log_scale = points.taken(best), square[best], log_scale[best]
        departures = departures.taken(best)
    whole, of = _shared(points)
    mean = replace(whole, moving=whole.moving / arms, noise=whole.noise / arms)
    level = _filtered(middle[None], mean, mean.drift + mean.pull / arms)
    square, freedom = square[of] + level.square, float(arms * (seen - 1))
    log_weight = whole.log_prior + _log_evidence(square, freedom, log_scale[of] + level.log_scale)
    weights = np.exp(log_weight - log_weight.max())
    best, weights = _thinned(weights / weights.sum())
    centre, variance = level.taken(best).ahead(ahead)
    centre = centre[:, :, 0]
    if arm is not None and not alike:
        further, wider = departures.taken(of[best]).ahead(ahead)
        centre, variance = centre + further[:, :, arm], variance + (1 - 1 / arms) * wider
    sigma = np.sqrt(square[best] / freedom)
    return Predictive(
        weights=weights,
        freedom=freedom,
        centre=origin + unit * centre,
        scale=unit * sigma * np.sqrt(variance),
    )


def _log_evidence(square: Doubles, freedom: float, log_scale: Doubles) -> Doubles:
    """Return the logarithm of the evidence for points, σ² integrated, but for a constant."""
    floor = _EXACTLY * float(square.max()) or 1.0
    return np.asarray(-(freedom * np.log(np.maximum(square, floor)) + log_scale) / 2)


def _thinned(weights: Doubles) -> tuple[NDArray[np.int64], Doubles]:
    """Return which points of weights (C,) stand for all, neighbours on the grid for each other, and with what weights.

    These are drawn at even steps of the cumulative weight, with no randomness: systematic sampling (Kitagawa 1996).
    """
    steps = (np.arange(_MIXED) + 0.5) / _MIXED
    chosen, count = np.unique(np.searchsorted(np.cumsum(weights), steps).clip(max=len(weights) - 1), return_counts=True)
    return chosen, count / _MIXED


@dataclass(frozen=True, kw_only=True)
class _Filtered:
    """N series after T generations, by Kalman's filter at each of C points, their starts taken as 0.

    The last of N + 1 columns is what is seen of a start of 1, by which the starts themselves are fitted afterwards.

    Attributes:
        points: of the grid.
        level: (C, N + 1) of x − x_0, expected.
        slope: (C, N + 1) of a + u, expected.
        cc: (C,) variance of the level,
        cs: their covariance,
        ss: and variance of the slope, in σ².
        response: (C,) of what is seen to the start, at the last generation.
        precision: (C,) of the start, by what was seen.
        start: (C, N) the starts themselves.
        square: (C,) sum of squares of what was not expected, over the series, the starts fitted.
        log_scale: (C,) logarithm of the determinant of one series' covariance, the start integrated.
    """

    points: _Points
    level: Doubles
    slope: Doubles
    cc: Doubles
    cs: Doubles
    ss: Doubles
    response: Doubles
    precision: Doubles
    start: Doubles
    square: Doubles
    log_scale: Doubles

    def taken(self, chosen: NDArray[Any]) -> _Filtered:
        """Return some of the points."""
        kept = {name: getattr(self, name)[chosen] for name in self.__dataclass_fields__ if name != "points"}
        return _Filtered(points=self.points.taken(chosen), **kept)

    def ahead(self, count: int) -> tuple[Doubles, Doubles]:
        """Return what to expect of y in the next generations, (H, C, N), and its variance in σ², (H, C)."""
        points, level, slope = self.points, self.level, self.slope
        cc, cs, ss, response = self.cc, self.cs, self.ss, self.response
        centres, variances = [], []
        for _ in range(count):
            level, slope, cc, cs, ss = _step(points, level, slope, cc, cs, ss)
            response = np.where(points.kept, response, points.rate * response)
            unknown = response - level[:, -1]
            centres.append(level[:, :-1] + unknown[:, None] * self.start)
            variances.append(cc + points.noise + unknown**2 / self.precision)
        return np.array(centres), np.array(variances)


def _step(
    points: _Points, level: Doubles, slope: Doubles, cc: Doubles, cs: Doubles, ss: Doubles
) -> tuple[Doubles, Doubles, Doubles, Doubles, Doubles]:
    rate = points.rate
    return (
        rate[:, None] * level + slope,
        slope,
        rate * (rate * cc + 2 * cs) + ss + points.moving,
        rate * cs + ss,
        ss + points.turn,
    )


def _filtered(series: Doubles, points: _Points, pull: Doubles) -> _Filtered:
    """Filter series (N, T) at every point; ``pull`` is the variance of their slope at first, in σ²."""
    count, (n, seen) = len(points.rate), series.shape
    level, slope = np.zeros((count, n + 1)), np.zeros((count, n + 1))
    cc, cs, ss = np.zeros(count), np.zeros(count), pull
    response, log_scale, precision = np.ones(count), np.zeros(count), np.zeros(count)
    cross, square = np.zeros((count, n)), np.zeros((count, n))
    data = np.empty((count, n + 1))
    for t in range(seen):
        if t:
            level, slope, cc, cs, ss = _step(points, level, slope, cc, cs, ss)
            response = np.where(points.kept, response, points.rate * response)
        data[:, :-1], data[:, -1] = series[:, t], response
        variance = cc + points.noise
        off = data - level
        gain, pulled = cc / variance, cs / variance
        level, slope = level + gain[:, None] * off, slope + pulled[:, None] * off
        cc, cs, ss = cc - gain * cc, cs - gain * cs, ss - pulled * cs
        log_scale += np.log(variance)
        weighed = off[:, -1:] / variance[:, None]
        precision += weighed[:, 0] * off[:, -1]
        cross += weighed * off[:, :-1]
        square += off[:, :-1] ** 2 / variance[:, None]
    start = cross / precision[:, None]
    left = np.maximum(square - start * cross, 0.0).sum(1)
    return _Filtered(
        points=points,
        level=level,
        slope=slope,
        cc=cc,
        cs=cs,
        ss=ss,
        response=response,
        precision=precision,
        start=start,
        square=left,
        log_scale=log_scale + np.log(precision),
    )
