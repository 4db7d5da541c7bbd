"""How often the bound of one retraining, with estimated constants, is exceeded at δ/t, and how loose it is.

``python -m studies.deviations`` estimates Assumption 3's constants (:class:`selfloop.theory.bounds.Deviations`) from K
deviations at n = 25 and K at n = 100, 200 times, and holds the bound for n = 50 and n = 1600 against the distribution
that the deviations were drawn of, at the levels that Theorem 2 asks for at t = 1, 12 and 100 for δ = 5 %:

- exceeded: how often a new deviation is above the bound, over the level, the larger of both n: at most 1 is as
  promised;
- looseness: the bound at t = 12 over the true quantile, the median over the fits and the larger of both n;
- a, b: medians; "b up to" is the largest.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from selfloop.theory.bounds import Deviations

Draw = Callable[[np.random.Generator, int, int], NDArray[np.float64]]  # rng, n, how many → deviations
LEVELS = (0.05, 0.05 / 12, 0.05 / 100)
SEEN, JUDGED, FITS, TRUE = (25, 100), (50, 1600), 200, 10**6


def normal(variances: list[float], floor: float = 0.0) -> Draw:
    """Return the lengths of normal errors of these variances over n, on top of a floor that no rows take away."""

    def draw(rng: np.random.Generator, n: int, count: int) -> NDArray[np.float64]:
        squares = sum(v * rng.chisquare(1, count) for v in variances)
        return np.asarray(floor + np.sqrt(squares / n))

    return draw


def log_variance(rng: np.random.Generator, n: int, count: int) -> NDArray[np.float64]:
    """Return the errors of the logarithm of a variance, normal only as n grows."""
    return np.asarray(np.abs(np.log(rng.chisquare(n - 1, count) / (n - 1))))


def exponential(rng: np.random.Generator, n: int, count: int) -> NDArray[np.float64]:
    """Return deviations with tails heavier than Assumption 3 allows."""
    return rng.exponential(size=count) / np.sqrt(n)


ERRORS: dict[str, Draw] = {
    "one parameter": normal([1.0]),
    "five alike": normal([1.0] * 5),
    "twenty alike": normal([1.0] * 20),
    "one large, nine small": normal([1.0] + [0.1] * 9),
    "one, and ε = 0.05": normal([1.0], 0.05),
    "five, and ε = 0.2": normal([1.0] * 5, 0.2),
    "log variance": log_variance,
    "exponential (not allowed)": exponential,
}


def row(draw: Draw, count: int, fits: int = FITS, true: int = TRUE) -> list[float]:
    """Return exceeded at each level, looseness, median a, median b and the largest b, for K = ``count``."""
    rng = np.random.default_rng(count)
    exact = {n: np.sort(draw(rng, n, true)) for n in JUDGED}
    found = [Deviations.estimate({n: draw(rng, n, count).tolist() for n in SEEN}) for _ in range(fits)]

    def above(n: int, level: float) -> float:
        bounds = [one.bound(n, level) for one in found]
        return float((1 - np.searchsorted(exact[n], bounds) / true).mean()) / level

    def loose(n: int) -> float:
        return float(np.median([one.bound(n, LEVELS[1]) for one in found]) / np.quantile(exact[n], 1 - LEVELS[1]))

    tails = [one.tail for one in found]
    return [
        *(max(above(n, level) for n in JUDGED) for level in LEVELS),
        max(map(loose, JUDGED)),
        float(np.median([one.sampling for one in found])),
        float(np.median(tails)),
        max(tails),
    ]


def main() -> None:
    """Print the table."""
    table = Table("errors", "K", "exceeded, t = 1", "t = 12", "t = 100", "looseness", "a", "b", "b up to")
    for name, draw in ERRORS.items():
        for count in (20, 100, 1000):
            table.add_row(name, str(count), *(f"{value:.3g}" for value in row(draw, count)))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
