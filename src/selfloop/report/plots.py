"""What a run shows of itself in a notebook: a table, and curves and samples on matplotlib's axes."""

from __future__ import annotations

import math
import textwrap
from html import escape

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from selfloop.analysis import verdict
from selfloop.analysis.curves import Curves, final, read
from selfloop.core.errors import ConfigError, RunError, counted, nearest
from selfloop.core.events import Text
from selfloop.core.frames import html_table
from selfloop.data.real import Real
from selfloop.pictures import Canvas
from selfloop.report.columns import Distribution, distributions, has_columns
from selfloop.report.figures import bare, draw_metric, draw_samples, legend, plain
from selfloop.report.style import legible, spaced, styles
from selfloop.report.texts import some
from selfloop.store import Run

_SETTINGS = 12
"""Settings that a table shows at most, both ends among them."""

_ACROSS = 5  # panels beside each other
_COLUMNS = 12  # of a table that are drawn
_TITLE = 24  # characters of a line of a panel's title
_WIDTH = 24  # characters of a text that are shown
_WORD = 14  # characters of a bar's label
_BARS = 4  # of a category that are named


def html(run: Run) -> str:
    """Return a run as HTML: how far it is, and every setting's metrics, mean ± std over seeds, and verdict."""
    head = f"<p>{escape(str(run))}</p>"
    if run.last < 0:
        return head
    curves = read(run)
    by = verdict.judged(curves, run.metrics)
    shown = spaced(range(len(curves.settings)), _SETTINGS)
    rows = [
        [
            (setting := curves.settings[i]).label,
            str(len(setting.arms)),
            *(final(curves, i, name) for name in curves.metrics),
            verdict.of_setting(setting, curves, by).text,
        ]
        for i in shown
    ]
    left = len(curves.settings) - len(shown)
    more = f"<p>and {counted(left, 'setting')} more</p>" if left else ""
    titles = [run.metric(name).title for name in curves.metrics]
    return head + html_table(["setting", "seeds", *titles, "verdict"], rows) + more


def metric(run: Run, name: str, axes: Axes | None = None) -> Axes:
    """Draw a metric, see :meth:`selfloop.store.run.Run.plot`.

    Raises:
        ConfigError: the run did not record it.
    """
    curves = read(run)
    if name not in curves.values:
        raise ConfigError(f"the run did not record {name!r}{nearest(name, curves.metrics)}")
    if axes is not None:
        draw_metric(axes, curves, name, run.metrics)
        axes.legend(frameon=False, fontsize=9)
        return axes
    figure, axes = plt.subplots(figsize=(6.0, 4.0), layout="constrained")
    draw_metric(axes, curves, name, run.metrics)
    legend(figure, axes)
    return axes


def samples(run: Run, t: int) -> NDArray[np.object_]:
    """Draw real rows and those of generation t, see :meth:`selfloop.store.run.Run.samples_plot`.

    Raises:
        RunError: there is no such generation.
    """
    if type(t) is not int or not 0 <= t <= run.last:
        raise RunError(f"{str(run.path)!r} has the generations 0 to {run.last}, no {t!r}")
    curves = legible(read(run))
    first = run.real(curves.settings[0].arms[0])
    if has_columns(first.events) and len(first.events.columns) > 2:
        return _columns(curves, distributions(run, curves, t, _COLUMNS), t)
    figure, panels = _panels(1 + len(curves.settings), 1.9, 1.7 if isinstance(first.events, Text) else 1.9)
    figure.suptitle(_after(t), fontsize=11)
    panels[0].set_title("Ground truth", fontsize=9)
    _draw(panels[0], first, first.rows, first.label)
    for axes, setting in zip(panels[1:], curves.settings, strict=True):
        arm = setting.arms[0]
        axes.set_title(plain(textwrap.fill(setting.label, _TITLE)), fontsize=9)
        if 0 <= curves.ended[arm] <= t:
            axes.text(0.5, 0.5, curves.endings[arm], ha="center", va="center", transform=axes.transAxes)
            bare(axes)
        else:
            _draw(axes, run.real(arm), run.samples(t, arm), run.labels(t, arm))
    return panels


def _after(t: int) -> str:
    return "No retraining" if t == 0 else counted(t, "retraining")


def _panels(count: int, width: float, height: float) -> tuple[Figure, NDArray[np.object_]]:
    """Return a figure with so many axes, each of about this size in inches, in lines of as many as fit."""
    across = min(_ACROSS, count)
    lines = math.ceil(count / across)
    size = width * across, (height + 0.35) * lines + 0.3
    figure, grid = plt.subplots(lines, across, figsize=size, layout="constrained", squeeze=False)
    panels = grid.ravel()
    for axes in panels[count:]:
        axes.remove()
    return figure, panels[:count]


def _draw(axes: Axes, real: Real, x: Tensor, labels: Tensor | None) -> None:
    """Draw rows (N, *event) in model units: text as some lines, all else as a picture."""
    if not isinstance(real.events, Text):
        draw_samples(axes, Canvas.of(real), x, labels)
        return
    lines = [line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…" for line in some(real.events, x)]
    text = plain("\n".join(lines))
    axes.text(0.04, 0.95, text, family="monospace", fontsize=8, va="top", linespacing=1.6, transform=axes.transAxes)
    axes.set(xticks=[], yticks=[])


def _columns(curves: Curves, drawn: list[Distribution], t: int) -> NDArray[np.object_]:
    """Draw a panel for each column of a table: real rows in grey, each setting as a line."""
    figure, panels = _panels(len(drawn), 2.2, 2.0)
    figure.suptitle(_after(t), fontsize=11)
    for axes, column in zip(panels, drawn, strict=True):
        at = np.arange(len(column.labels))
        axes.bar(at, np.divide(column.real, 100), width=0.95, color="#bbbbbb", label="Ground truth")
        for setting, style in zip(curves.settings, styles(curves.settings), strict=True):
            if setting.label in column.generated:
                share = np.divide(column.generated[setting.label], 100)
                label = plain(setting.label)
                line = "-" if column.ordered else "none"
                look = {"color": style.light, "linestyle": line, "linewidth": 1.2}
                axes.plot(at, share, marker=".", markersize=4 if column.ordered else 8, label=label, **look)
        shown = spaced(range(len(at)), 2 if column.ordered else _BARS)
        words = [column.labels[i] for i in shown]
        axes.set_xticks(shown, [plain(word if len(word) <= _WORD else f"{word[: _WORD - 1]}…") for word in words])
        axes.tick_params(labelsize=7)
        axes.set_title(plain(column.name), fontsize=10)
        axes.set_ylabel("% of rows", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    legend(figure, panels[0])
    return panels
