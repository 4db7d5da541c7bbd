"""Do the intervals and claims of ``selfloop stability`` hold what they say?

``python -m studies.stability`` simulates loops whose answers are known and prints two tables as a page of Markdown
(``docs/results/stability.md``); about two minutes on two cores.

Rates: panels of S arms with T retrainings of y ← ρ y + noise, each arm about a fixed point of its own, all arms moved
alike from generation to generation, as :func:`selfloop.theory.measured.memory` takes them; and loops of the Gaussian,
whose mean keeps λ/(1 + λ) of its error. Shown is how often the 95 % interval holds ρ, for arms that start at their
fixed points and for arms that have settled.

λ: loops of the Gaussian (:func:`selfloop.theory.gaussian_loop.gaussian_loop`) with λ of a grid on common real rows and
random numbers. The largest λ that is truly within tolerance of λ = 0 is known from all of them together; shown is how
often :func:`selfloop.analysis.bearable.bearable` claims a larger one from S seeds, beside how often the share itself,
without its bound, would have. At the margin the tolerance is the true share of λ = 1 itself, the hardest case for a
claim.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from selfloop.analysis.bearable import bearable
from selfloop.analysis.paired import LAST, excess
from selfloop.core.streams import generator
from selfloop.metrics import METRICS
from selfloop.theory.gaussian_loop import gaussian_loop
from selfloop.theory.measured import Interval, memory

ARMS = (5, 10, 30)
RETRAININGS = (10, 20, 50)
RATES = (0.0, 0.5, 0.9)
LOOPS = (0.5, 1.0, 9.0)
ROWS = (30, 100, 1000)
SEEDS = (2, 3, 5, 10, 20)
LAMS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, math.inf)
MARGIN = 1.0
TOLERANCE = 0.1
RETRAINED = 20  # of the loops whose λs are compared
MEASURES = ("w2_held_out", "mean_error", "variance_ratio")


@dataclass(frozen=True)
class Covered:
    """How often intervals of ρ hold it.

    Attributes:
        loop: what was simulated.
        arms: S.
        retrainings: T.
        rate: ρ.
        started: share of intervals that hold it, where arms start at their fixed points.
        settled: the same of arms that have settled; NaN where it was not simulated.
        width: of the intervals, a median.
    """

    loop: str
    arms: int
    retrainings: int
    rate: float
    started: float
    settled: float
    width: float


@dataclass(frozen=True)
class Claimed:
    """How often a λ is claimed that is worse than the tolerance.

    Attributes:
        rows: n real rows.
        metric: that was compared.
        seeds: S.
        true: the largest λ within tolerance.
        overstated: share of claims above it.
        point: the same of the shares without their bounds.
        margin: share of claims that reach λ = 1 where the tolerance is just what it costs.
        exact: share of claims that are the true λ.
    """

    rows: int
    metric: str
    seeds: int
    true: float
    overstated: float
    point: float
    margin: float
    exact: float


def panel(rate: float, arms: int, generations: int, settled: bool, rng: np.random.Generator) -> np.ndarray:
    """Return what is seen of the arms, (S, T, 2): about a fixed point of each, with moves that all of them share."""
    y = np.empty((arms, generations, 2))
    y[:, 0] = rng.standard_normal((arms, 2)) / (math.sqrt(1 - rate**2) if settled else 1)
    for t in range(1, generations):
        y[:, t] = rate * y[:, t - 1] + rng.standard_normal((arms, 2))
    return y + 5 * rng.standard_normal((arms, 1, 2)) + rng.standard_normal((generations, 2))


def held(panels: Iterator[np.ndarray], rate: float) -> tuple[float, float]:
    """Return the share of intervals that hold the rate, and their median width."""
    found = [memory(paths) for paths in panels]
    spans = np.array([(rate_.low, rate_.high) for rate_ in found if rate_ is not None])
    return float(((spans[:, 0] <= rate) & (rate <= spans[:, 1])).mean()), float(np.median(np.ptp(spans, axis=1)))


def of_panels(cell: tuple[int, int, float], panels: int) -> Covered:
    """Simulate one cell of S, T and ρ."""
    arms, retrainings, rate = cell
    found = []
    for settled in (False, True):
        rng = generator(0, "panels", arms, retrainings, repr(rate), int(settled))
        found.append(held((panel(rate, arms, retrainings + 1, settled, rng) for _ in range(panels)), rate))
    (started, width), (later, _) = found
    return Covered("AR(1)", arms, retrainings, rate, started, later, width)


def of_loops(cell: tuple[int, float], panels: int) -> Covered:
    """Simulate loops of the Gaussian, n = 100, with 20 retrainings, and look at their means."""
    arms, lam = cell
    rate, zero, one = lam / (1 + lam), np.zeros(2), np.eye(2)
    fits = list(gaussian_loop(zero, one, n=100, generations=RETRAINED, replicas=arms * panels, lam=lam, seed=1))
    paths = np.stack([fit.mean - fits[0].mean for fit in fits], 1)
    share, width = held(iter(paths.reshape(panels, arms, *paths.shape[1:])), rate)
    return Covered(f"Gaussian, λ = {lam:g}", arms, RETRAINED, rate, share, math.nan, width)


def measured(n: int, lam: float, replicas: int) -> dict[str, np.ndarray]:
    """Return metrics of the Gaussian's loops at the end, (R,) each, by their closed forms against the true density."""
    loop = gaussian_loop(np.zeros(2), np.eye(2), n=n, generations=RETRAINED, replicas=replicas, lam=lam, seed=n)
    last = []
    for fit in itertools.islice(loop, RETRAINED + 1 - LAST, None):
        scales = np.sqrt(np.maximum(np.linalg.eigvalsh(fit.covariance), 0))
        off = (fit.mean**2).sum(1)
        w2, variance = np.sqrt(off + ((scales - 1) ** 2).sum(1)), (scales**2).mean(1)
        last.append((w2, np.sqrt(off), variance))
    return dict(zip(MEASURES, np.mean(last, 0), strict=True))


def of_lams(n: int, claims: int) -> list[Claimed]:
    """Simulate loops of n real rows, and compare their λs."""
    replicas = max(SEEDS) * claims
    control, ends = measured(n, 0.0, replicas), {lam: measured(n, lam, replicas) for lam in LAMS}
    found = []
    for name in MEASURES:
        metric = METRICS[name]

        def shares(rows: slice, metric=metric, name=name) -> dict[float, Interval]:
            at = {lam: excess(ends[lam][name][rows], control[name][rows], metric) for lam in LAMS}
            return {lam: over for lam, over in at.items() if over is not None}

        truth = {lam: over.value for lam, over in shares(slice(None)).items()}
        true, margin = largest(truth, TOLERANCE), truth[MARGIN]
        for seeds in SEEDS:
            said = [shares(slice(k * seeds, (k + 1) * seeds)) for k in range(claims)]
            claimed = np.array([claim(over, TOLERANCE) for over in said])
            points = np.array([largest({lam: o.value for lam, o in over.items()}, TOLERANCE) for over in said])
            reach = np.array([claim(over, margin) for over in said])
            found.append(
                Claimed(
                    n,
                    metric.title,
                    seeds,
                    true,
                    float((claimed > true).mean()),
                    float((points > true).mean()),
                    float((reach >= MARGIN).mean()),
                    float((claimed == true).mean()),
                )
            )
    return found


def claim(shares: dict[float, Interval], tolerance: float) -> float:
    """Return the λ that is claimed."""
    return bearable("", {lam: [over] for lam, over in shares.items()}, tolerance).ratio or 0.0


def largest(shares: dict[float, float], tolerance: float) -> float:
    """Return the largest λ that is within tolerance, as all smaller ones are."""
    return max(itertools.takewhile(lambda lam: shares[lam] <= tolerance, sorted(shares)), default=0.0)


def page(covered: Sequence[Covered], claimed: Sequence[Claimed], panels: int, claims: int) -> str:
    """Return both tables as a page of Markdown."""
    shares = [share for each in covered for share in (each.started, each.settled) if not math.isnan(share)]
    point, over = max(each.point for each in claimed), max(each.overstated for each in claimed)
    error, other = (math.sqrt(0.05 * 0.95 / count) for count in (panels, claims))
    lams = ", ".join(f"{lam:g}" for lam in (0.0, *LAMS))
    first = [
        (c.loop, c.arms, c.retrainings, f"{c.rate:.3g}", *map(percent, (c.started, c.settled)), f"{c.width:.2f}")
        for c in covered
    ]
    second = [
        (c.rows, c.metric, c.seeds, f"{c.true:g}", *map(percent, (c.overstated, c.point, c.margin, c.exact)))
        for c in claimed
    ]
    lines = [
        "# Stability, checked",
        "",
        "What [`selfloop stability`](../theory.md#selfloop-stability-run) says of loops whose answers are known. This",
        "page is the output of `python -m studies.stability`.",
        "",
        "## How often the 95 % interval of a rate holds it",
        "",
        "S arms of y ← ρ y + noise with two features, a fixed point of its own for each arm and moves that all arms",
        f"share, {panels} panels a cell; and the means of loops of the Gaussian, n = 100, half as many. The shares are",
        f"{percent(min(shares))} to {percent(max(shares))}, each with a standard error of about {percent(error)}.",
        "",
        *table(("loop", "arms", "retrainings", "ρ", "start at their fixed points", "settled", "width, median"), first),
        "",
        "## How often a λ is claimed that is not borne",
        "",
        "Loops of the two-dimensional Gaussian, whose metrics are taken in closed form against its true density,",
        f"{RETRAINED} retrainings, λ ∈ {{{lams}}} on common real rows,",
        f"tolerance {TOLERANCE:.0%}, {claims} claims a row, each from S seeds; the true λ is that of "
        "all seeds together.",
        f"*Overstated* are claims above it, up to {percent(over)} (standard error {percent(other)}); without "
        "their bounds",
        f"the shares themselves would overstate in up to {point:.0%}. *At the margin* the tolerance is what "
        f"λ = {MARGIN:g}",
        "truly costs, and the claim reaches it.",
        "",
        *table(
            ("n", "metric", "seeds", "true λ", "overstated", "without bounds", "at the margin", "the true λ found"),
            second,
        ),
        "",
    ]
    return "\n".join(lines)


def percent(share: float) -> str:
    """Return a share in words."""
    return "–" if math.isnan(share) else f"{share:.1%}"


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Yield the lines of a table."""
    yield "| " + " | ".join(headings) + " |"
    yield "|" + "---|" * len(headings)
    for row in rows:
        yield "| " + " | ".join(map(str, row)) + " |"


def main() -> None:
    """Simulate, and print the page."""
    parser = argparse.ArgumentParser(prog="python -m studies.stability", description=__doc__.split("\n\n")[0])
    parser.add_argument("--panels", type=int, default=2000, help="of every cell of rates")
    parser.add_argument("--claims", type=int, default=1000, help="of every row of λs")
    options = parser.parse_args()
    with ProcessPoolExecutor(2) as pool:
        claimed = pool.map(functools.partial(of_lams, claims=options.claims), ROWS)
        cells = itertools.product(ARMS, RETRAININGS, RATES)
        covered = list(pool.map(functools.partial(of_panels, panels=options.panels), cells))
        covered += pool.map(functools.partial(of_loops, panels=options.panels // 2), itertools.product(ARMS, LOOPS))
        rows = [row for found in claimed for row in found]
    print(page(covered, rows, options.panels, options.claims), end="")


if __name__ == "__main__":
    main()
