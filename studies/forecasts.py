"""How often do the intervals of ``selfloop forecast`` hold what came, in loops that it was not made on?

``python -m studies.forecasts FOLDER [NAME…] [--markdown FILE]`` takes the loops that :mod:`studies.loops` ran into
FOLDER. From generations 0 to k, k = 2, 4, 8 and 15, each metric of each setting is forecast at generation 2k and at the
loop's last: the mean of four seeds, six such groups a setting, and the first arm of each. What came is known. Beside it
are two trend lines with the intervals that go with them, of the same means on the same scale: the last value with the
noise of its steps, and a straight line by least squares with Student's prediction interval.

Intervals on a coverage are Student's at 95 % over the six groups of seeds, which share nothing.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from selfloop import Run
from selfloop.analysis import panel
from selfloop.analysis.curves import FULLY_SYNTHETIC, Array, Curves, Setting, read
from selfloop.analysis.forecast import LEVELS, coming, rates
from selfloop.core.files import write_bytes
from selfloop.metrics.base import Metric
from studies.loops import LOOPS
from studies.stability import table

LOOKED_AT = ("gaussian-50", "gaussian-biased", "otcfm-moons", "digits-gaussian")
"""By which the grid of :mod:`selfloop.analysis.panel` was chosen."""

SEEN = (2, 4, 8, 15)
GROUP = 4
FORECAST = (
    *("w2_held_out", "variance_ratio", "frechet_held_out", "coverage_train", "neighbour_entropy"),
    *("heterozygosity_ratio", "prediction_error_held_out"),
)
METHODS = ("forecast", "one arm", "last value", "straight line")


@dataclass(frozen=True)
class Case:
    """One forecast.

    Attributes:
        loop: its name.
        setting: its label.
        metric: its name.
        seen: k.
        ahead: generations from k on.
        group: of seeds.
        method: one of :data:`METHODS`.
        inner: whether the 50 % interval held what came.
        outer: whether the 90 % interval did.
        width: of the 90 % interval, on the scale of the forecast: 0.2 of a logarithm is ± 10 %.
        seconds: of processor time that the forecast took, NaN for trend lines.
    """

    loop: str
    setting: str
    metric: str
    seen: int
    ahead: int
    group: int
    method: str
    inner: bool
    outer: bool
    width: float
    seconds: float


def last_value(path: Array, ahead: int) -> tuple[float, float]:
    """Return the last value of a path (T,), and the standard error that its steps give it."""
    return float(path[-1]), float(np.diff(path).std())


def straight_line(path: Array, ahead: int) -> tuple[float, float]:
    """Return a line by least squares at so many generations ahead, and the standard error of what comes there."""
    t = np.arange(len(path)) - (len(path) - 1) / 2
    slope, middle = t @ path / (t @ t), path.mean()
    noise = math.sqrt(((path - middle - slope * t) ** 2).sum() / (len(path) - 2))
    at = t[-1] + ahead
    return float(middle + slope * at), noise * math.sqrt(1 + 1 / len(path) + at * at / (t @ t))


def of_group(
    curves: Curves, setting: Setting, about: Metric, rate: float | None, seen: int
) -> Iterator[tuple[int, str, bool, bool, float, float]]:
    """Yield for a group of arms, seen up to generation ``seen``, how far ahead, the method, and how it did."""
    last = curves.generations - 1
    horizons = sorted({min(2 * seen, last) - seen, last - seen})
    begun = _until(curves, about.name, seen)
    start = time.process_time()
    found = coming(begun, setting, about, horizons[-1], rate)
    if found is None:
        return
    spans = found.predictive.at(np.array(horizons)).quantiles(LEVELS)
    took = time.process_time() - start
    single = panel.predict(found.paths, horizons[-1], rate=rate, arm=0)
    singles = single.at(np.array(horizons)).quantiles(LEVELS)
    path = found.paths.mean(0)
    for ahead, span, one in zip(horizons, spans, singles, strict=True):
        there = found.scale.there(curves.values[about.name][list(found.arms), seen + ahead])
        if not np.isfinite(there).all():
            continue
        for method, ends, value, seconds in (
            ("forecast", span, there.mean(), took),
            ("one arm", one, there[0], math.nan),
            ("last value", _spread(*last_value(path, ahead), math.inf), there.mean(), math.nan),
            ("straight line", _spread(*straight_line(path, ahead), len(path) - 2), there.mean(), math.nan),
        ):
            low, inner_low, _, inner_high, high = ends
            yield (
                *(ahead, method, bool(inner_low <= value <= inner_high), bool(low <= value <= high)),
                *(float(high - low), seconds),
            )


def _until(curves: Curves, name: str, seen: int) -> Curves:
    return replace(curves, values={name: curves.values[name][:, : seen + 1]})


def _spread(middle: float, error: float, freedom: float) -> Array:
    return np.asarray(middle + error * student.ppf(LEVELS, freedom))


def of_loop(run: Run) -> Iterator[Case]:
    """Forecast a loop's metrics again and again, and hold the intervals against what came."""
    curves = read(run)
    expected = rates(run, curves)
    for setting in curves.settings:
        groups = [setting.arms[i : i + GROUP] for i in range(0, len(setting.arms) - GROUP + 1, GROUP)]
        for g, arms in enumerate(groups):
            for name in (name for name in FORECAST if name in curves.values):
                for seen in SEEN:
                    part = replace(setting, arms=arms)
                    for how in of_group(curves, part, run.metric(name), expected.get(setting.label), seen):
                        ahead, method, inner, outer, width, seconds = how
                        yield Case(
                            *(run.experiment.name, setting.label, name, seen, ahead, g, method),
                            *(inner, outer, width, seconds),
                        )


def covered(cases: Sequence[Case], inner: bool = False) -> tuple[float, float, float]:
    """Return the share of cases within their intervals, and Student's interval about it over groups of seeds."""
    groups: dict[int, list[bool]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case.inner if inner else case.outer)
    shares = np.array([np.mean(held) for held in groups.values()])
    if len(shares) < 2:
        return float(shares.mean()) if len(shares) else math.nan, math.nan, math.nan
    half = float(student.ppf(0.975, len(shares) - 1)) * shares.std(ddof=1) / math.sqrt(len(shares))
    middle = float(shares.mean())
    return middle, max(middle - half, 0.0), min(middle + half, 1.0)


def collapsing(case: Case) -> bool:
    """Whether there are no real rows in the setting of a case."""
    return FULLY_SYNTHETIC in case.setting or "lam = ∞" in case.setting


def _share(cases: Sequence[Case], inner: bool = False) -> str:
    middle, low, high = covered(cases, inner)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})" if math.isfinite(low) else f"{middle:.2f}"


def _width(cases: Sequence[Case]) -> str:
    return f"{np.median([case.width for case in cases]):.2f}" if cases else "–"


def page(cases: Sequence[Case]) -> str:
    """Return the tables as a page of Markdown."""
    by = {method: [case for case in cases if case.method == method] for method in METHODS}
    took = [case.seconds for case in by["forecast"]]
    kinds = {loop.name: loop.kind for loop in LOOPS}
    names = [name for name in kinds if any(case.loop == name for case in cases)]
    lines = [
        "# Forecasts, checked",
        "",
        "How often the intervals of [`selfloop forecast`](../../forecast.md) held what came. This page is what",
        "`python -m studies.loops FOLDER` and then `python -m studies.forecasts FOLDER --markdown",
        "docs/results/forecasts/index.md` make.",
        "",
        f"{len(names)} loops of `studies/loops.py`, 24 seeds a setting: from generations 0 to k, k = 2, 4, 8 and 15,",
        "every metric at generation 2k and at the last, 30, 40 or 50. *Mean*: of four seeds. *One arm*: the first of",
        "these. In brackets 95 % intervals over the six groups of seeds. *Width*: of 90 % intervals, a median, on the",
        "scale of the forecast, where 0.2 of a logarithm is ± 10 %.",
        "",
        f"A forecast of the mean took {1e3 * np.median(took):.0f} ms of processor time, a median, and"
        f" {1e3 * np.quantile(took, 0.9):.0f} ms at the 90th percentile.",
        "",
    ]
    for title, chosen in (
        ("Loops held out", [name for name in names if name not in LOOKED_AT]),
        ("Loops by which the grid was chosen", [name for name in names if name in LOOKED_AT]),
    ):
        if chosen:
            lines += [f"## {title}", "", *_by(by, "loop", chosen, kinds), ""]
    lines += [
        "## Fully synthetic settings alone",
        "",
        *_by({m: [*filter(collapsing, c)] for m, c in by.items()}, "loop", names, kinds),
        "",
    ]
    lines += ["## By what was seen: the mean, 90 %", "", *_by_seen(by["forecast"], names, kinds), ""]
    held_out = {method: [case for case in found if case.loop not in LOOKED_AT] for method, found in by.items()}
    for title, key in (("Setting", "setting"), ("Metric", "metric"), ("Generations seen", "seen")):
        if of := list(dict.fromkeys(getattr(case, key) for case in held_out["forecast"])):
            lines += [f"## {title}, loops held out", "", *_by(held_out, key, of, {}), ""]
    return "\n".join(lines)


def _by_seen(cases: Sequence[Case], names: Sequence[str], kinds: dict[str, str]) -> Iterator[str]:
    rows = [
        [
            f"{name} ({kinds[name]})",
            *(_share([case for case in cases if (case.loop, case.seen) == (name, seen)]) for seen in SEEN),
        ]
        for name in names
    ]
    return table(["", *(f"k = {seen}" for seen in SEEN)], rows)


def _by(cases: dict[str, list[Case]], key: str, values: Sequence[object], kinds: dict[str, str]) -> Iterator[str]:
    headings = ["", "mean, 90 %", "mean, 50 %", "one arm, 90 %", "last value, 90 %", "straight line, 90 %"]
    widths = ["width", "of one arm", "last value's", "straight line's", "forecasts"]
    rows = []
    for value in (*values, None):
        of = {
            method: [
                case
                for case in found
                if (getattr(case, key) in values if value is None else getattr(case, key) == value)
            ]
            for method, found in cases.items()
        }
        name = "all" if value is None else f"{value} ({kinds[str(value)]})" if kinds else str(value)
        rows.append(
            [
                name,
                _share(of["forecast"]),
                _share(of["forecast"], inner=True),
                *(f"{covered(of[method])[0]:.2f}" for method in METHODS[1:]),
                *(_width(of[method]) for method in METHODS),
                len(of["forecast"]),
            ]
        )
    return table([*headings, *widths], rows)


def main() -> None:
    """Forecast every loop that is there, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m studies.forecasts", description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="into which studies.loops ran")
    parser.add_argument("names", nargs="*", metavar="NAME", help="loops; default: all that are finished")
    parser.add_argument("--markdown", type=Path, help="where to write the page; default: print it")
    given = parser.parse_args()
    cases: list[Case] = []
    for loop in LOOPS:
        if (given.names and loop.name not in given.names) or not (given.folder / loop.name).is_dir():
            continue
        run = Run.open(given.folder / loop.name)
        if run.finished:
            cases += of_loop(run)
    found = page(cases)
    if given.markdown is None:
        print(found, end="")
    else:
        given.markdown.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(given.markdown, found.encode())


if __name__ == "__main__":
    main()
