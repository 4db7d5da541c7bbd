"""Does the interval of ``selfloop advise`` hold the true threshold?

``python -m studies.advice`` asks 200 times of every loop whose truth is known, and prints a table as a page of Markdown
(``docs/results/advice/index.md``); some minutes on one core.

The loops are those of the generators ``gaussian``, ``categorical`` and ``linear_regression`` with their own data, rows
and all, but of 64 arms at once: real rows, fits, samples and metrics follow the definitions line by line, which
``tests/test_advice.py`` holds against runs of the program. Each repetition has 64 seeds of its own, and the same
numbers drawn for every share, as arms of one seed have. It tries shares as the program does, by the same code
(:mod:`selfloop.analysis.threshold`), until that asks for no more.

The true threshold is the share at which the expected loss passes the tolerance. Expectations are means over seeds that
no repetition has: over 1,280 of them at seventeen shares, and over 12,800 at the two between which the tolerance is
passed, where the loss is taken to be straight; the table has the standard error of what that gives. "At the margin" the
tolerance is just below what a share of 1/2 costs, so that the threshold is just below the first rung that is tried,
which the claim "fine" must not reach, and seeds hardly tell.

Counted are the repetitions whose interval holds the threshold when the procedure ends, and those in which it held at
every look on the way: whoever stops early, whatever the reason, is promised the same.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.stats import binomtest

from selfloop.analysis.paired import LAST
from selfloop.analysis.threshold import BEGIN, LOOKS, Bracket, brackets
from selfloop.core.streams import generator
from selfloop.metrics import METRICS
from selfloop.mixing.augment import synthetic_rows

ROWS = 64
HORIZON = 20
REPETITIONS = 200
ROUGH, FINE = 20, 200  # blocks of seeds that the truth is taken from, at all rungs and beside the threshold
RUNGS = tuple(Fraction(i, 16) for i in range(17))

Fit = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Loop:
    """A loop of S arms at once.

    Attributes:
        name: of the generator.
        metric: by which it is judged.
        real: draws (S, k, …) real rows.
        fit: maps rows (S, m, …) to a model.
        draw: maps a model, the real rows (S, n, …) and random numbers (S, m) to rows (S, m, …).
        noise: draws these random numbers.
        loss: maps a model, its first n samples and the real rows to the metric, (S,).
    """

    name: str
    metric: str
    real: Callable[[np.random.Generator, int, int], np.ndarray]
    fit: Callable[[np.ndarray], Fit]
    draw: Callable[[Fit, np.ndarray, np.ndarray], np.ndarray]
    noise: Callable[[np.random.Generator, int, int], np.ndarray]
    loss: Callable[[Fit, np.ndarray, np.ndarray], np.ndarray]


def _normal(rng: np.random.Generator, arms: int, rows: int) -> np.ndarray:
    return rng.standard_normal((arms, rows))


# A Gaussian in one dimension, by how far the mean of its samples is from that of the real rows.


def _gaussian_fit(x: np.ndarray) -> Fit:
    return x.mean(1), x.std(1, ddof=1)


def _gaussian_draw(model: Fit, real: np.ndarray, z: np.ndarray) -> np.ndarray:
    return model[0][:, None] + model[1][:, None] * z


def _mean_error(model: Fit, x: np.ndarray, real: np.ndarray) -> np.ndarray:
    return np.abs(x.mean(1) - real.mean(1))


# Ten equally likely categories, by their heterozygosity.

CATEGORIES = 10


def _shares(x: np.ndarray) -> np.ndarray:
    return np.stack([(x == k).mean(1) for k in range(CATEGORIES)], 1)


def _categories(rng: np.random.Generator, arms: int, rows: int) -> np.ndarray:
    return rng.integers(CATEGORIES, size=(arms, rows))


def _categorical_draw(model: Fit, real: np.ndarray, u: np.ndarray) -> np.ndarray:
    edges = np.cumsum(model[0], 1)[:, :-1]
    return (u[:, :, None] >= edges[:, None, :]).sum(2)


def _heterozygosity_ratio(model: Fit, x: np.ndarray, real: np.ndarray) -> np.ndarray:
    h, whole = (1 - (_shares(each) ** 2).sum(1) for each in (x, real))
    return np.asarray(h / whole)


# Least squares with an intercept, relabelling the real x, by the error of its coefficients.

BETA = np.array([1.0, -1.0])


def _pairs(rng: np.random.Generator, arms: int, rows: int) -> np.ndarray:
    x = rng.standard_normal((arms, rows, len(BETA)))
    return np.concatenate([x, (x @ BETA + rng.standard_normal((arms, rows)))[..., None]], 2)


def _regression_fit(rows: np.ndarray) -> Fit:
    x = np.concatenate([rows[..., :-1], np.ones_like(rows[..., :1])], 2)
    y = rows[..., -1:]
    beta = np.linalg.solve(x.transpose(0, 2, 1) @ x, x.transpose(0, 2, 1) @ y)
    return beta[..., 0], np.sqrt(((y - x @ beta) ** 2).mean((1, 2)))


def _regression_draw(model: Fit, real: np.ndarray, z: np.ndarray) -> np.ndarray:
    beta, noise = model
    x = real[:, np.arange(z.shape[1]) % real.shape[1], :-1]
    y = (x @ beta[:, :-1, None])[..., 0] + beta[:, -1:] + noise[:, None] * z
    return np.concatenate([x, y[..., None]], 2)


def _coefficient_error(model: Fit, x: np.ndarray, real: np.ndarray) -> np.ndarray:
    return ((model[0][:, :-1] - BETA) ** 2).sum(1)


GAUSSIAN = Loop("gaussian", "mean_error", _normal, _gaussian_fit, _gaussian_draw, _normal, _mean_error)
CATEGORICAL = Loop(
    "categorical",
    "heterozygosity_ratio",
    _categories,
    lambda x: (_shares(x),),
    _categorical_draw,
    lambda rng, arms, rows: rng.random((arms, rows)),
    _heterozygosity_ratio,
)
REGRESSION = Loop(
    "linear_regression", "coefficient_error", _pairs, _regression_fit, _regression_draw, _normal, _coefficient_error
)
LOOPS = (GAUSSIAN, CATEGORICAL, REGRESSION)


@functools.cache
def ends(loop: Loop, axis: str, share: Fraction, block: int, n: int = ROWS, horizon: int = HORIZON) -> np.ndarray:
    """Run 64 arms with a share of synthetic rows along an axis, and return the metric's mean over the last three.

    Args:
        loop: which.
        axis: "loop", "fresh" or "rescue", as :mod:`selfloop.advisor` has them.
        share: of synthetic rows.
        block: which 64 arms; equal ones share their random numbers, whatever the share.
        n: real rows.
        horizon: retrainings.
    """
    arms = LOOKS[-1]
    real = drawn = loop.real(generator(block, loop.name, "real"), arms, n)
    most = n if share == 1 or axis == "fresh" else max(n, _synthetic(share, n))
    found = []
    for t in range(horizon + 1):
        damaged = axis == "rescue" and t <= horizon // 2
        fresh = loop.real(generator(block, loop.name, "fresh", t), arms, n) if axis == "fresh" else None
        model = loop.fit(real if t == 0 else _training(Fraction(1) if damaged else share, real, fresh, drawn))
        drawn = loop.draw(model, real, loop.noise(generator(block, loop.name, "latents", t), arms, most))
        if t > horizon - LAST:
            found.append(loop.loss(model, drawn[:, :n], real))
    return np.asarray(np.mean(found, 0))


def _training(share: Fraction, real: np.ndarray, fresh: np.ndarray | None, drawn: np.ndarray) -> np.ndarray:
    """Return the rows of a generation with a share of synthetic ones, beside real or beside fresh rows."""
    n = real.shape[1]
    if share == 1:
        return drawn[:, :n]
    if fresh is None:
        return np.concatenate([real, drawn[:, : _synthetic(share, n)]], 1)
    return np.concatenate([fresh[:, : math.floor((1 - share) * n)], drawn[:, : math.floor(share * n)]], 1)


def _synthetic(share: Fraction, n: int) -> int:
    return synthetic_rows(float(share / (1 - share)), n)


@dataclass(frozen=True)
class Case:
    """What is asked: a loop, an axis and a tolerance, None where it is at the margin."""

    loop: Loop
    axis: str = "loop"
    tolerance: float | None = None


CASES = (
    *(Case(GAUSSIAN, tolerance=tolerance) for tolerance in (0.1, 0.25, None)),
    *(Case(CATEGORICAL, tolerance=tolerance) for tolerance in (0.01, 0.1, None)),
    *(Case(REGRESSION, tolerance=tolerance) for tolerance in (0.1, 0.25, None)),
    Case(GAUSSIAN, "rescue", 0.25),
    Case(REGRESSION, "fresh", 0.25),
)


@dataclass(frozen=True)
class Expected:
    """An expected loss as an excess over the control's, and its standard error."""

    excess: float
    error: float


@functools.cache
def expected(loop: Loop, axis: str, share: Fraction, blocks: int) -> Expected:
    """Simulate an expected loss at a share."""
    metric = METRICS[loop.metric]
    badness = np.vectorize(metric.badness, otypes=[float])
    first = 10**6  # far from the seeds of the repetitions
    control, here = (
        np.concatenate([badness(ends(loop, of, at, first + block)) for block in range(blocks)])
        for of, at in (("loop", Fraction(0)), (axis, share))
    )
    if metric.goal == "lower":  # a ratio of means, as :func:`selfloop.analysis.paired.excess` has it
        ratio = here.mean() / control.mean()
        error = (here - ratio * control).std() / control.mean()
    else:  # of logarithms
        ratio = math.exp((here - control).mean())
        error = ratio * (here - control).std()
    return Expected(float(ratio) - 1, float(error) / math.sqrt(len(here)))


@dataclass(frozen=True)
class Truth:
    """The share at which an expected loss passes a tolerance, and its standard error."""

    tolerance: float
    share: float
    error: float


def truth(case: Case, rough: int = ROUGH, fine: int = FINE) -> Truth:
    """Simulate what the answer is: a share of 1 where even that is within the tolerance, 0 where none is."""
    tolerance = case.tolerance
    if tolerance is None:
        tolerance = 0.99 * expected(case.loop, case.axis, Fraction(1, 2), fine).excess
    above = (i for i, share in enumerate(RUNGS) if expected(case.loop, case.axis, share, rough).excess > tolerance)
    i = next(above, len(RUNGS))
    while 0 < i < len(RUNGS):
        a, b = (expected(case.loop, case.axis, RUNGS[j], fine) for j in (i - 1, i))
        if a.excess > tolerance or b.excess <= tolerance:  # seventeen rough ones were wrong
            i += -1 if a.excess > tolerance else 1
            continue
        part, slope = (tolerance - a.excess) / (b.excess - a.excess), (b.excess - a.excess) * (len(RUNGS) - 1)
        error = math.hypot((1 - part) * a.error, part * b.error)
        return Truth(tolerance, (i - 1 + part) / (len(RUNGS) - 1), error / slope)
    return Truth(tolerance, min(i, 1), 0.0)


@dataclass(frozen=True)
class Asked:
    """One repetition.

    Attributes:
        end: the bracket when no more is asked for.
        always: whether it held the threshold at every look.
        seeds: that it took.
    """

    end: Bracket
    always: bool
    seeds: int


def holds(bracket: Bracket, threshold: float) -> bool:
    """Whether a bracket holds a threshold."""
    low, high = bracket.fine, bracket.worse
    return (low is None or low <= threshold) and (high is None or threshold <= high)


def ask(case: Case, tolerance: float, threshold: float, repetition: int) -> Asked:
    """Ask once, with seeds of one's own, as :func:`selfloop.advisor.advise` does along one axis."""
    loop, zero, always = case.loop, case.axis == "loop", True
    control = {loop.metric: ends(loop, "loop", Fraction(0), repetition)}
    found: dict[Fraction, np.ndarray] = {}
    new = [*BEGIN] if zero else [Fraction(0), *BEGIN]
    for seeds in LOOKS:
        while True:
            found |= {share: ends(loop, case.axis, share, repetition) for share in new}
            at = {share: {loop.metric: values[:seeds]} for share, values in found.items()}
            there = {name: values[:seeds] for name, values in control.items()}
            shown = brackets(
                at, there, {loop.metric: METRICS[loop.metric]}, tolerance, known=(loop.metric,) if zero else ()
            )
            assert shown is not None
            bracket = shown[1]
            always = always and holds(bracket, threshold)
            if not (new := bracket.asks(seeds == LOOKS[-1])):
                break
        if bracket.narrow:
            break
    return Asked(bracket, always, seeds)


@dataclass(frozen=True)
class Row:
    """One line of the table; see the module for what the columns mean."""

    case: Case
    truth: Truth
    held: int
    always: int
    repetitions: int
    width: float
    seeds: float


def of_case(case: Case, known: Truth, repetitions: int) -> Row:
    """Ask as often as is wanted."""
    asked = [ask(case, known.tolerance, known.share, repetition) for repetition in range(repetitions)]
    widths = [float((1 if each.end.worse is None else each.end.worse) - (each.end.fine or 0)) for each in asked]
    return Row(
        case,
        known,
        sum(holds(each.end, known.share) for each in asked),
        sum(each.always for each in asked),
        repetitions,
        float(np.median(widths)),
        float(np.median([each.seeds for each in asked])),
    )


def page(rows: Sequence[Row], minutes: float) -> str:
    """Return the table as a page of Markdown."""
    least = min(binomtest(row.held, row.repetitions).proportion_ci().low for row in rows)
    lines = [
        "# Advice, checked",
        "",
        f"`python -m studies.advice` asks every loop {rows[0].repetitions} times (n = {ROWS}, {HORIZON} retrainings) "
        f"for the share of synthetic rows at which its loss passes the tolerance; {minutes:.0f} min of processor time.",
        "The intervals are meant to hold it in 95 % of the repetitions at least, at the end and at all looks together.",
        "",
        "| loop | axis | judged by | tolerance | true share | held, of "
        f"{rows[0].repetitions} | at every look | width | seeds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        margin = ", at the margin" if row.case.tolerance is None else ""
        title = METRICS[row.case.loop.metric].title
        lines.append(
            f"| {row.case.loop.name} | {row.case.axis} | {title} | {row.truth.tolerance:.1%}{margin} | "
            f"{row.truth.share:.1%} ± {row.truth.error:.1%} | {_of(row.held, row.repetitions)} | "
            f"{_of(row.always, row.repetitions)} | {row.width:.1%} | {row.seeds:g} |"
        )
    lines += [
        "",
        "*Axis*: shares beside all real rows (loop), beside fresh rows (fresh), or after half of the horizon without "
        f"any real row (rescue). *True share*: from {LOOKS[-1] * FINE:,} other seeds at the two shares beside it, with "
        "its standard error. *Held*: repetitions whose interval has it when no more is asked for, with Clopper and "
        "Pearson's 95 % interval; *at every look*: those whose intervals had it all the way. *Width* and *seeds*: "
        "medians.",
        "",
        f"The least that a lower end comes to is {least:.1%}.",
    ]
    return "\n".join(lines) + "\n"


def _of(count: int, total: int) -> str:
    ends_of = binomtest(count, total).proportion_ci()
    return f"{count / total:.1%} ({ends_of.low:.1%} to {ends_of.high:.1%})"


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(prog="python -m studies.advice", description=__doc__.split("\n\n")[0])
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    options = parser.parse_args()
    began = time.process_time()
    rows = []
    for case in CASES:
        rows.append(of_case(case, truth(case), options.repetitions))
        print(rows[-1], file=sys.stderr, flush=True)
    print(page(rows, (time.process_time() - began) / 60), end="")


if __name__ == "__main__":
    main()
