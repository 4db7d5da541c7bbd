"""Where real rows lie: their manifold, their tails, their modes; and what a set of samples keeps of each.

Rows are compared as the model sees them; of more than 16 numbers the 16 leading principal components of the real rows
are taken. A real row's ball reaches to its 5th nearest other real row (Naeem et al. 2020), closed, so that discrete
rows lie in it.

Legend: N real rows; M samples; K modes; d numbers of a row.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import Tensor

from selfloop.metrics.arrays import ordinary

Array = NDArray[np.float64]

MOST = 1000
"""Rows of a set that are looked at, its first."""

FEWEST = 50
"""Real rows that it takes."""

TAIL = 0.1
"""Share of the real rows that are their tails: those in the emptiest places."""

_COMPONENTS = 16
_NEIGHBOUR = 5
_MODE = 0.02  # share of the real rows that a mode has at least
_SMALLEST = 10  # rows of a mode, and neighbours by whose distance density is told
_REACH = 0.99  # quantile of real rows' distances to the nearest other one of their mode


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a set of samples keeps, each 1 at best.

    Attributes:
        manifold: share of the samples in a ball of a real row.
        tails: the smaller of two shares, at most 1 each: how full the balls of the tail rows are, of the samples that
            real rows would put there; and how many samples lie in a ball and where it is as empty as around tail rows,
            of the tenth that real rows would.
        modes: mean over modes of min(1, share of the samples in it over its share of real rows); NaN of fewer than 2.
        apart: share of the samples that do not lie between two modes; NaN where there are fewer than 2.
        variance: total variance over that of the real rows.
    """

    manifold: float
    tails: float
    modes: float
    apart: float
    variance: float


@dataclass(frozen=True)
class Landmarks:
    """Of N real rows.

    Attributes:
        points: (N, d) float64, in the components that are looked at and a unit in which their squares can be written.
        radii: (N,) of their balls.
        tails: numbers of the tail rows.
        modes: (N,) which mode a row is in, −1 for none.
    """

    points: Array
    radii: Array
    tails: NDArray[np.int64]
    modes: NDArray[np.int64]
    _unit: float = field(repr=False)
    _centre: Array = field(repr=False)
    _axes: Array = field(repr=False)

    @classmethod
    def of(cls, rows: Tensor) -> Landmarks:
        """Find them in real rows (N, *event), of which the first 1000 are looked at.

        Raises:
            ValueError: there are fewer than 50 rows.
        """
        x = _flat(rows)
        if len(x) < FEWEST:
            raise ValueError(f"{len(x)} real rows of the {FEWEST} that it takes")
        unit = ordinary(float(np.abs(x).max(initial=0.0)))
        x = x / unit
        centre = x.mean(0)
        axes = np.eye(x.shape[1]) if x.shape[1] <= _COMPONENTS else _components(x)
        points = (x - centre) @ axes
        apart = cdist(points, points)
        np.fill_diagonal(apart, np.inf)
        radii = np.partition(apart, _NEIGHBOUR - 1, axis=1)[:, _NEIGHBOUR - 1]
        tails = np.argsort(radii, kind="stable")[-max(1, round(TAIL * len(x))) :]
        return cls(points, radii, tails, _modes(points), unit, centre, axes)

    @property
    def count(self) -> int:
        """How many modes there are."""
        return int(self.modes.max(initial=-1)) + 1

    def kept(self, samples: Tensor) -> Kept:
        """Say what samples (M, *event) keep, of which the first 1000 are looked at; NaN of none."""
        x = _flat(samples)
        if not len(x) or not np.isfinite(x).all():
            return Kept(manifold=np.nan, tails=np.nan, modes=np.nan, apart=np.nan, variance=np.nan)
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # what is beyond float64 in units of the real rows is far away
            y = (x / self._unit - self._centre) @ self._axes
            near, spread = np.nan_to_num(cdist(y, self.points), nan=np.inf), float(y.var(0).sum())
        total = float(self.points.var(0).sum())
        inside = near <= self.radii
        modes, apart = self._modal(near) if self.count > 1 else (np.nan, np.nan)
        return Kept(
            manifold=float(inside.any(1).mean()),
            tails=self._tails(near, inside),
            modes=modes,
            apart=apart,
            variance=spread / total if total > 0 else np.nan,
        )

    def _tails(self, near: Array, inside: NDArray[np.bool_]) -> float:
        """Return how much of the tails is kept, from distances (M, N) and who lies in which ball.

        In few dimensions tails are lost where no sample goes any more. In many the balls of tail rows reach far inside,
        where samples lie in any case, and it is emptiness that tells.
        """
        expected = _NEIGHBOUR * len(near) / len(self.points)
        full = np.minimum(inside[:, self.tails].sum(0) / expected, 1.0).mean()
        neighbours = (near < self.radii[self.tails].min()).sum(1)
        out = (neighbours < _NEIGHBOUR) & inside.any(1)
        return float(min(full, out.mean() / (len(self.tails) / len(self.points)), 1.0))

    def _modal(self, near: Array) -> tuple[float, float]:
        """Return how much of the modes is kept, and the share of samples that are not between two, from (M, N)."""
        members = [np.flatnonzero(self.modes == k) for k in range(self.count)]
        # Of every mode the row that is nearest to a sample, and how far it is.
        which = np.stack([rows[near[:, rows].argmin(1)] for rows in members], 1)
        far = np.take_along_axis(near, which, 1)
        first, second = np.argsort(far, 1, kind="stable")[:, :2].T
        every = np.arange(len(near))
        here = far[every, first] <= self._reach(members)
        shares = np.array(
            [(here & (first == k)).mean() / (len(rows) / len(self.points)) for k, rows in enumerate(members)]
        )
        # Between two rows is what sees them at an obtuse angle (the sphere of Gabriel & Sokal 1969).
        a, b = which[every, first], which[every, second]
        span = np.square(self.points[a] - self.points[b]).sum(1)
        between = ~here & (far[every, first] ** 2 + far[every, second] ** 2 < span)
        return float(np.minimum(shares, 1.0).mean()), float(1 - between.mean())

    def _reach(self, members: list[NDArray[np.int64]]) -> float:
        """Return how near a mode's row what belongs to the mode lies: as near as its own rows to each other."""
        found = []
        for rows in members:
            apart = cdist(self.points[rows], self.points[rows])
            np.fill_diagonal(apart, np.inf)
            found.append(apart.min(1))
        return float(np.quantile(np.concatenate(found), _REACH))


def _flat(x: Tensor) -> Array:
    return x[:MOST].flatten(1).double().numpy()


def _components(x: Array) -> Array:
    """Return the leading principal components (d, 16) of rows."""
    from sklearn.decomposition import PCA  # not before: it takes a second

    found: Array = PCA(min(_COMPONENTS, len(x) - 1), random_state=0).fit(x).components_.T
    return found


def _modes(points: Array) -> NDArray[np.int64]:
    """Return which mode every row is in, (N,), −1 for none: clusters by density (Campello et al. 2013).

    Clusters that most rows are outside of are dense by chance, as those of normal rows, and are none.
    """
    from sklearn.cluster import HDBSCAN

    smallest = max(_SMALLEST, round(_MODE * len(points)))
    found = HDBSCAN(min_cluster_size=smallest, min_samples=_SMALLEST, copy=True).fit(points).labels_
    return np.asarray(np.where((found < 0).mean() < 0.5, found, -1), dtype=np.int64)
