"""Regimes side by side on one data set: what is retrained on decides whether a loop holds.

``selfloop run regimes`` and then ``python -m studies.regimes runs/regimes --figure docs/results/regimes`` draws, for
every setting of the run, the mean over seeds of one metric with bars of two standard errors, beside the control's, as
PNG, and prints the last generation as a table of Markdown. Any run with a λ = 0 arm will do.
"""

from __future__ import annotations

import argparse
import math
import textwrap
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from selfloop.analysis.curves import Curves, Setting, mean, read, std
from selfloop.core.files import write_bytes
from selfloop.report.figures import encode, plain
from selfloop.store import Run

COLUMNS = 4
BARS = 10  # of a curve


def bands(curves: Curves, setting: Setting, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean over seeds and two standard errors of it, (T,) each."""
    seeds = curves.of(setting, metric)
    return mean(seeds), 2 * std(seeds) / np.sqrt(np.maximum(np.isfinite(seeds).sum(0), 1))


def _panel(axes: Axes, curves: Curves, setting: Setting, control: Setting, metric: str) -> None:
    t = np.arange(curves.generations)
    axes.plot(t, mean(curves.of(control, metric)), color="#999999", linewidth=1.2)
    middle, error = bands(curves, setting, metric)
    every = max(1, len(t) // BARS)
    axes.errorbar(t, middle, error, errorevery=every, color="#d62728", linewidth=1.5, elinewidth=1.0, capsize=2)
    axes.set_title(plain(textwrap.fill(setting.label, 46)), fontsize=8)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def figure(curves: Curves, control: Setting, metric: str, title: str) -> Figure:
    """Return one panel per setting, on common axes, the control grey in each."""
    rows = math.ceil(len(curves.settings) / COLUMNS)
    drawn = Figure(figsize=(3.2 * COLUMNS, 2.2 * rows), layout="constrained")
    FigureCanvasAgg(drawn)
    grid = drawn.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True)
    for axes, setting in zip(grid.flat, curves.settings, strict=False):
        _panel(axes, curves, setting, control, metric)
    for axes in grid.flat[len(curves.settings) :]:
        axes.set_axis_off()
    drawn.supxlabel("Number of retrainings", fontsize=10)
    drawn.supylabel(plain(title), fontsize=10)
    return drawn


def table(curves: Curves) -> str:
    """Return the last generation of every setting and metric, mean ± standard error, as Markdown."""
    lines = [["regime", *curves.metrics], ["---"] * (1 + len(curves.metrics))]
    for setting in curves.settings:
        last = [tuple(values[-1] for values in bands(curves, setting, metric)) for metric in curves.metrics]
        lines.append([setting.label, *(f"{middle:.3f} ± {error / 2:.3f}" for middle, error in last)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> None:
    """Draw a run, and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--metric", default="variance_ratio")
    parser.add_argument("--figure", type=Path, required=True, help="a directory, made if it is not there")
    given = parser.parse_args()
    run = Run.open(given.run)
    curves = read(run)
    control = next((setting for setting in curves.settings if setting.ratio == 0), None)
    if control is None:
        parser.error(f"{given.run} has no arm with lambda = 0")
    if given.metric not in curves.metrics:
        parser.error(f"{given.run} recorded {', '.join(curves.metrics)}, not {given.metric}")
    drawn = figure(curves, control, given.metric, run.metric(given.metric).title)
    given.figure.mkdir(parents=True, exist_ok=True)
    write_bytes(given.figure / f"{given.metric}.png", encode(drawn, "png"))
    print(table(curves))


if __name__ == "__main__":
    main()
