"""The paper's figures, from the records and samples of a run. Equal runs give equal bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from selfloop.analysis.curves import Curves, Setting, band, bounds, mean
from selfloop.core.errors import counted
from selfloop.metrics.base import Metric
from selfloop.pictures import Canvas, pictured
from selfloop.report.frequencies import frequencies as by_rank
from selfloop.report.style import Style, ladder, legible, spaced, styles
from selfloop.store import Run
from selfloop.theory.gaussian import alpha

RETRAININGS = "Number of retrainings"
_DPI = 160
_ROWS = 8
_COLUMNS = 4
_LEGEND = 6  # rows of a legend for which a figure has room; for more of them it grows


def metrics(run: Run, curves: Curves) -> Figure | None:
    """Figures 2 and 8: every metric against the number of retrainings, mean ± std over seeds per setting."""
    names = [name for name in curves.metrics if np.isfinite(curves.values[name]).any()]
    if not names:
        return None
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = _figure(4.2 * columns, 3.1 * rows + 0.5)
    for i, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, i + 1)
        draw_metric(axes, curves, name, run.metrics)
    legend(figure, figure.axes[0])
    return figure


def parameters(run: Run, curves: Curves) -> Figure | None:
    """Figure 9: distance of the parameters to those of generation 0; dashed, of these to a random start."""
    if "parameter_distance" not in curves.values:
        return None
    figure = _figure(6.0, 4.0)
    axes = figure.add_subplot()
    draw_metric(axes, curves, "parameter_distance", run.metrics)
    start = curves.values.get("parameter_distance_random", np.full((1, 1), np.nan))[:, 0]
    if np.isfinite(start).any():
        level = float(mean(start))
        axes.axhline(level, color="black", linestyle="--", linewidth=1.2, label="Distance to random init.")
    legend(figure, axes)
    return figure


def collapse(run: Run, curves: Curves) -> Figure | None:
    """Proposition 1: tr √Σ_t / tr √Σ_0 on a log scale, and α(n)^t for every n of a fully synthetic loop.

    The expectation is α(n)^t in one dimension, and at most that in more.
    """
    if "sqrt_covariance_ratio" not in curves.values:
        return None
    figure = _figure(6.5, 4.2)
    axes = figure.add_subplot()
    draw_metric(axes, curves, "sqrt_covariance_ratio", run.metrics, log=True)
    t = np.arange(curves.generations)
    dimensions: dict[int, list[int]] = {}
    colours: dict[int, str] = {}
    some = legible(curves).settings
    for setting, style in zip(some, styles(some), strict=True):
        if not math.isinf(setting.ratio):
            continue
        real = run.real(setting.arms[0])
        n, d = real.n, len(real.mean)
        dimensions.setdefault(n, []).append(d)
        colours.setdefault(n, style.light)
    for n, ds in dimensions.items():
        exact = "" if max(ds) == 1 else " (d = 1), upper bound (d > 1)" if min(ds) == 1 else ", upper bound"
        words = f"α({n})$^t${exact}"
        axes.plot(t, alpha(n).value ** t, ":", color=colours[n], linewidth=2.5, alpha=0.7, label=words)
    legend(figure, axes)
    return figure


def samples(run: Run, curves: Curves) -> Figure | None:
    """Figures 1, 3 and 4: a row per setting; ground truth, no retraining and later ones, on common axes."""
    drawn = [i for i, of in enumerate(curves.settings) if pictured(run.real(of.arms[0]).events)]
    if curves.generations == 0 or not drawn:
        return None
    settings = spaced(drawn, _ROWS)
    shown = spaced(range(1, curves.generations), _COLUMNS)
    columns = 2 + len(shown)
    figure = _figure(1.9 * columns + 0.5, 1.9 * len(settings) + 0.5)
    grid = figure.subplots(len(settings), columns, squeeze=False)
    for row, index in enumerate(settings):
        setting = curves.settings[index]
        arm = setting.arms[0]
        real = run.real(arm)
        canvas = Canvas.of(real)
        draw_samples(grid[row, 0], canvas, real.rows, real.label)
        grid[row, 0].set_ylabel(plain(setting.label.replace(" (", "\n(")), fontsize=9)
        for axes, t in zip(grid[row, 1:], [0, *shown], strict=True):
            if 0 <= curves.ended[arm] <= t:
                axes.text(0.5, 0.5, curves.endings[arm], ha="center", va="center", transform=axes.transAxes)
                bare(axes)
            else:
                draw_samples(axes, canvas, run.samples(t, arm), run.labels(t, arm))
    titles = ["Ground truth", "No retraining", *(counted(t, "retraining") for t in shown)]
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=10)
    return figure


def frequencies(run: Run, curves: Curves) -> Figure | None:
    """Of text: share of a token against its rank, a panel per setting; real rows in grey, generations dark to light."""
    some = legible(curves).settings
    drawn = [(setting, found) for setting in some if (found := by_rank(run, curves, setting))]
    if not drawn:
        return None
    columns = min(3, len(drawn))
    lines = math.ceil(len(drawn) / columns)
    figure = _figure(4.2 * columns, 3.1 * lines + 0.5)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, (setting, found) in zip(grid, drawn, strict=False):
        made = [curve for curve in found if curve.generation is not None]
        for curve in found:
            if curve.generation is None:
                axes.plot(curve.rank, curve.share, color="#888888", alpha=0.55, linewidth=5, label="Real")
                continue
            colour = ladder(made.index(curve), len(made)).light
            axes.plot(curve.rank, curve.share, color=colour, linewidth=1.4, label=f"Generation {curve.generation}")
        axes.set(xscale="log", yscale="log", xlabel="Rank of a token", ylabel="Share of tokens")
        axes.set_title(plain(setting.label), fontsize=10)
    for axes in grid[len(drawn) :]:
        axes.set_visible(False)
    legend(figure, grid[0])
    return figure


FIGURES: dict[str, Callable[[Run, Curves], Figure | None]] = {
    "metrics": metrics,
    "samples": samples,
    "frequencies": frequencies,
    "parameters": parameters,
    "collapse": collapse,
}
"""By file name; a figure that has nothing to show is None."""


def encode(figure: Figure, kind: str) -> bytes:
    """Return a figure as "png" or "pdf", free of dates and versions."""
    buffer = io.BytesIO()
    figure.dpi = _DPI
    # Figure.savefig draws what has a layout once more before, to lay it out, as every drawing does in any case.
    canvas: Any = FigureCanvasAgg(figure) if kind == "png" else FigureCanvasPdf(figure)
    if kind == "png":
        canvas.print_png(buffer, metadata={"Software": None}, pil_kwargs={"compress_level": 4})
    else:
        canvas.print_pdf(buffer, metadata={"Creator": None, "Producer": None, "CreationDate": None})
    figure.set_layout_engine("none")  # what a figure of many panels takes longest for is the same in every format
    return buffer.getvalue()


def plain(text: str) -> str:
    """Return text that matplotlib draws as it stands: no mathematics, no character that its font lacks."""
    glyphs = get_font(findfont("DejaVu Sans")).get_charmap()
    return "".join(c if ord(c) in glyphs or c == "\n" else "?" for c in text).replace("$", r"\$")


def wants_log(values: np.ndarray) -> bool:
    """Whether finite values are all positive and span more than a factor of 50."""
    finite = values[np.isfinite(values)]
    return bool(finite.size and finite.min() > 0 and finite.max() > 50 * finite.min())


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def draw_metric(axes: Axes, curves: Curves, name: str, known: Mapping[str, Metric], log: bool = False) -> None:
    """Draw a metric against the number of retrainings: a line per setting, mean ± std over seeds, and the floor."""
    curves = legible(curves)
    log = log or wants_log(curves.values[name])
    if log:
        axes.set_yscale("log", nonpositive="mask")
    within = bounds(curves, name, known[name].unit if name in known else "")
    for setting, style in zip(curves.settings, styles(curves.settings), strict=True):
        _line(axes, curves, setting, style, name, within)
    for level in floors(curves, name):
        axes.axhline(level, color="gray", linestyle=":", linewidth=1.2, label="Real training vs. held-out data")
    title = known[name].title if name in known else name
    unit = known[name].unit if name in known else ""
    axes.set_title(plain(title), fontsize=11)
    axes.set_xlabel(RETRAININGS)
    axes.set_ylabel(plain(unit) if unit != "ratio" else "")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _line(axes: Axes, curves: Curves, setting: Setting, style: Style, name: str, within: tuple[float, float]) -> None:
    t, seeds = np.arange(curves.generations), curves.of(setting, name)
    middle = mean(seeds)
    axes.plot(
        t,
        middle,
        color=style.light,
        linestyle=style.dash,
        marker=style.marker or ("." if len(t) == 1 else None),
        markevery=max(1, len(t) // 10),
        markersize=5,
        linewidth=1.6,
        label=plain(setting.label),
    )
    low, high = (np.clip(edge, *within) for edge in band(curves, setting, name, axes.get_yscale() == "log"))
    axes.fill_between(t, low, high, color=style.light, alpha=0.18, linewidth=0)


def floors(curves: Curves, name: str) -> list[float]:
    """Return the distinct floors of a metric, per setting; one where all settings share their data."""
    values = [curves.floor(setting, name) for setting in curves.settings]
    return list(dict.fromkeys(float(f"{value:.6g}") for value in values if math.isfinite(value)))


def legend(figure: Figure, axes: Axes) -> None:
    """Put one legend, without repetitions, below all panels."""
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    columns = max(1, min(len(unique), int(figure.get_figwidth() // 2.3)))
    if (more := math.ceil(len(unique) / columns) - _LEGEND) > 0:
        figure.set_figheight(figure.get_figheight() + 0.2 * more)
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def draw_samples(axes: Axes, canvas: Canvas, x: Tensor, labels: Tensor | None = None) -> None:
    """Draw rows in model units as one picture: a density, bars, or tiles of images."""
    picture = canvas.draw(x, labels)
    axes.imshow(picture.pixels, interpolation="nearest" if canvas.kind != "density" else "bilinear")
    bare(axes)


def bare(axes: Axes) -> None:
    """Make axes a square without ticks."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_box_aspect(1)
