"""One interactive chart per metric. The page's script hides and recolours renderers by their tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.models import BasicTicker, ColumnDataSource, CustomJSTickFormatter, DataRange1d, HoverTool
from bokeh.plotting import figure
from numpy.typing import NDArray

from selfloop.analysis.curves import Array, Curves, band, mean, spread, std
from selfloop.analysis.forecast import Outlook
from selfloop.report.figures import RETRAININGS, floors, wants_log
from selfloop.report.frequencies import Ranked
from selfloop.report.style import Style, ladder, spaced, styles

Role = Literal["mean", "band", "seeds", "forecast"]
"""The second tag of a renderer; the first is the index of its setting."""

_VALUES = 150_000
"""Values of single arms that all charts together hold at most."""

_MARKERS: dict[str, Any] = {"o": "circle", "^": "triangle", "": "circle"}


def seeds_shown(curves: Curves) -> int:
    """Return how many seeds of a setting are drawn one by one: all, unless the page would grow too large."""
    return max(1, _VALUES // max(1, len(curves.settings) * curves.generations * len(curves.metrics)))


def chart(
    curves: Curves, metric: str, unit: str, target: str, outlooks: Mapping[str, Outlook] | None = None
) -> dict[str, Any]:
    """Return the JSON by which BokehJS draws a metric into the element with id ``target``.

    ``outlooks`` are what is forecast of it, by label of the setting.
    """
    log = wants_log(curves.values[metric])
    plot = _plot(
        y_axis_type="log" if log else "linear",
        x_axis_label=RETRAININGS,
        y_axis_label=unit + (", log scale" if log else ""),
    )
    plot.xaxis.ticker = BasicTicker(min_interval=1, desired_num_ticks=6)
    if not log:
        plot.yaxis.formatter = CustomJSTickFormatter(code="return String(Number(tick.toPrecision(6)))")
    points = [_setting(plot, i, style, curves, metric, log) for i, style in enumerate(styles(curves.settings))]
    room = _room(curves, metric, log)
    for i, (setting, style) in enumerate(zip(curves.settings, styles(curves.settings), strict=True)):
        if outlooks is not None and setting.label in outlooks:
            _outlook(plot, i, style, outlooks[setting.label], room)
    for level in floors(curves, metric):
        ends = [0, max(curves.generations - 1, 1)]
        plot.line(ends, [level, level], line_dash="dotted", line_width=1.5, line_color="#888888")
    tips = [("", "@label"), ("retrainings", "@t"), ("mean ± std", "@text")]
    plot.add_tools(HoverTool(renderers=points, tooltips=tips))
    item: dict[str, Any] = dict(json_item(plot, ID(target)))
    return item


def _plot(**axes: Any) -> Any:
    """Return an empty plot with the look of all."""
    plot = figure(
        height=300,
        sizing_mode="stretch_width",
        x_range=DataRange1d(),
        y_range=DataRange1d(only_visible=True),
        tools="pan,box_zoom,wheel_zoom,reset,save",
        active_scroll=None,
        background_fill_alpha=0,
        border_fill_alpha=0,
        outline_line_alpha=0,
        min_border_right=12,
        **axes,
    )
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    return plot


def loss_chart(curves: Curves, lines: Sequence[tuple[Array, Array]], target: str) -> dict[str, Any]:
    """Return the JSON by which BokehJS draws the losses of fits into the element with id ``target``.

    Args:
        curves: whose settings are drawn.
        lines: of each setting where its fits were, in generations, and their losses; NaN between generations.
        target: id of the element.
    """
    log = wants_log(np.concatenate([y for _, y in lines]))
    label = "Training loss" + (", log scale" if log else "")
    plot = _plot(y_axis_type="log" if log else "linear", x_axis_label=RETRAININGS, y_axis_label=label)
    for i, ((x, y), style) in enumerate(zip(lines, styles(curves.settings), strict=True)):
        look = {"line_color": style.light, "line_width": 1.2, "line_dash": style.dash}
        plot.line(x.astype(np.float32), _short(y), **look).tags = [i, "mean"]
    item: dict[str, Any] = dict(json_item(plot, ID(target)))
    return item


def frequency_chart(drawn: Sequence[Ranked], target: str) -> dict[str, Any]:
    """Return the JSON by which BokehJS draws token frequencies by rank into the element with id ``target``.

    Real rows are the broad grey line, generations go from dark to light.
    """
    plot = _plot(x_axis_type="log", y_axis_type="log", x_axis_label="Rank of a token", y_axis_label="Share of tokens")
    made = [curve for curve in drawn if curve.generation is not None]
    for curve in drawn:
        if curve.generation is None:
            look: dict[str, Any] = {
                "line_color": "#888888",
                "line_width": 5,
                "line_alpha": 0.55,
                "legend_label": "real",
            }
        else:
            colour = ladder(made.index(curve), len(made)).light
            look = {"line_color": colour, "line_width": 1.5, "legend_label": f"generation {curve.generation}"}
        plot.line(curve.rank.tolist(), curve.share.tolist(), **look)
    plot.legend.update(location="bottom_left", background_fill_alpha=0, border_line_alpha=0, label_text_color="#888888")
    item: dict[str, Any] = dict(json_item(plot, ID(target)))
    return item


def _setting(plot: Any, i: int, style: Style, curves: Curves, metric: str, log: bool) -> Any:
    """Draw one setting: band, seeds (hidden at first), line, and points that answer the pointer."""
    setting = curves.settings[i]
    seeds = curves.of(setting, metric)
    t, middle, width = np.arange(curves.generations), mean(seeds), std(seeds)
    low, high = band(curves, setting, metric, log)
    use = np.isfinite(low) & np.isfinite(high)
    edges = ColumnDataSource({"t": t[use], "low": low[use], "high": high[use]})
    some = [_short(y) for y in seeds[spaced(range(len(seeds)), seeds_shown(curves))]]
    finite = [np.isfinite(y) for y in some]
    lines = ColumnDataSource({"t": [t[f] for f in finite], "y": [y[f] for y, f in zip(some, finite, strict=True)]})
    text = [spread(*pair) for pair in zip(middle.tolist(), width.tolist(), strict=True)]
    curve = ColumnDataSource({"t": t, "mean": middle, "text": text, "label": [setting.label] * len(t)})
    colour, marker = style.light, _MARKERS[style.marker]
    paint = {"line_color": colour, "fill_color": colour}
    points = plot.scatter("t", "mean", source=curve, marker=marker, size=7 if style.marker else 4, **paint)
    drawn: dict[Role, list[Any]] = {
        "band": [plot.varea("t", "low", "high", source=edges, fill_color=colour, fill_alpha=0.18)],
        "seeds": [plot.multi_line("t", "y", source=lines, line_color=colour, line_alpha=0.45, visible=False)],
        "mean": [
            plot.line("t", "mean", source=curve, line_color=colour, line_width=2, line_dash=style.dash),
            points,
        ],
    }
    for role, renderers in drawn.items():
        for renderer in renderers:
            renderer.tags = [i, role]
    return points


def _short(y: NDArray[np.float64]) -> NDArray[Any]:
    """Return a curve in float32, half as long on the page, where that can hold it."""
    held = np.abs(y[np.isfinite(y)]).max(initial=0.0) <= np.finfo(np.float32).max
    return y.astype(np.float32) if held else y


def _room(curves: Curves, metric: str, log: bool) -> tuple[float, float]:
    """Return between which values a forecast is drawn: what was seen, and as much again above and below it."""
    means = np.stack([mean(curves.of(setting, metric)) for setting in curves.settings])
    seen = means[np.isfinite(means) & ((means > 0) | (not log))]
    if not seen.size:
        return -np.inf, np.inf
    low, high = (np.log(seen.min()), np.log(seen.max())) if log else (seen.min(), seen.max())
    ends = np.array([low, high]) + np.array([-1, 1]) * max(high - low, 0.05 * abs(high))
    with np.errstate(over="ignore"):  # no room is left above what is near the end of float64
        low, high = np.exp(ends) if log else ends
    return float(low), float(high)


def _outlook(plot: Any, i: int, style: Style, outlook: Outlook, room: tuple[float, float]) -> None:
    """Draw a setting's forecast: its median dashed, in its 90 % interval, both cut off at the room there is."""
    edges = {"t": outlook.t, "low": np.clip(outlook.low, *room), "high": np.clip(outlook.high, *room)}
    source = ColumnDataSource(edges | {"median": np.clip(outlook.median, *room)})
    colour = style.light
    dashed = {"line_color": colour, "line_alpha": 0.8, "line_width": 1.5, "line_dash": [3, 3]}
    for renderer in (
        plot.varea("t", "low", "high", source=source, fill_color=colour, fill_alpha=0.08),
        plot.line("t", "median", source=source, **dashed),
    ):
        renderer.tags = [i, "forecast"]
