"""One interactive chart per metric. The page's script hides and recolours renderers by their tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Literal

import numpy as np
from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.models import BasicTicker, ColumnDataSource, CustomJSTickFormatter, DataRange1d, HoverTool
from bokeh.plotting import figure
from numpy.typing import NDArray

from selfloop.analysis.alarms import Alarmed
from selfloop.analysis.curves import Array, Curves, band, bounds, mean, spread, std
from selfloop.analysis.forecast import Outlook
from selfloop.report.figures import RETRAININGS, floors, wants_log
from selfloop.report.frequencies import Ranked
from selfloop.report.style import DASHES, Marker, Style, ladder, spaced, styles

Role = Literal["mean", "band", "seeds", "forecast", "alarm"]
"""What of a setting a renderer draws. Its tags are the setting's index, the role, and colours on light and on dark."""

_VALUES = 150_000
"""Values of single arms that all charts together hold at most."""

_MARKERS: dict[Marker, Any] = {
    "": "circle",
    "o": "circle",
    "^": "triangle",
    "s": "square",
    "D": "diamond",
    "v": "inverted_triangle",
    "P": "plus",
    "*": "star",
    "h": "hex",
}
_POINT, _MARKED = 4, 8  # pixels of a point, and of the points that show the marker of a setting
_NAMED = 8  # seeds of arms with an alarm that are named


def seeds_shown(curves: Curves) -> int:
    """Return how many seeds of a setting are drawn one by one: all, unless the page would grow too large."""
    return max(1, _VALUES // max(1, len(curves.settings) * curves.generations * len(curves.metrics)))


def chart(
    curves: Curves,
    looks: Sequence[Style],
    metric: str,
    unit: str,
    target: str,
    outlooks: Mapping[str, Outlook] | None = None,
    alarmed: Sequence[Alarmed] = (),
) -> dict[str, Any]:
    """Return the JSON by which BokehJS draws a metric into the element with id ``target``.

    Args:
        curves: whose settings are drawn.
        looks: of the settings.
        metric: its name.
        unit: of it.
        target: id of the element.
        outlooks: what is forecast of it, by label of the setting.
        alarmed: arms whose alarms are marked.
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
    within = bounds(curves, metric, unit)
    points = [_setting(plot, i, style, curves, metric, log, within) for i, style in enumerate(looks)]
    room = tuple(np.clip(_room(curves, metric, log), *within).tolist())
    for i, (setting, style) in enumerate(zip(curves.settings, looks, strict=True)):
        if outlooks is not None and setting.label in outlooks:
            _outlook(plot, i, style, outlooks[setting.label], room)
        if those := [arm for arm in alarmed if arm.setting == setting.label and arm.generation is not None]:
            _alarms(plot, i, style, curves, metric, those)
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
        tools="pan,box_zoom,wheel_zoom,reset",
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
        _tag(plot.line(x.astype(np.float32), _short(y), **look), i, "mean", style)
    item: dict[str, Any] = dict(json_item(plot, ID(target)))
    return item


def frequency_chart(drawn: Sequence[Ranked], target: str) -> dict[str, Any]:
    """Return the JSON by which BokehJS draws token frequencies by rank into the element with id ``target``.

    Real rows are the broad grey line, generations go from dark to light.
    """
    plot = _plot(x_axis_type="log", y_axis_type="log", x_axis_label="Rank of a token", y_axis_label="Share of tokens")
    made = [curve for curve in drawn if curve.generation is not None]
    for curve in drawn:
        at = (curve.rank.tolist(), curve.share.tolist())
        if curve.generation is None:
            plot.line(*at, line_color="#888888", line_width=5, line_alpha=0.55, legend_label="real")
            continue
        i = made.index(curve)
        style = replace(ladder(i, len(made)), dash=DASHES[i % len(DASHES)])
        look = {"line_color": style.light, "line_dash": style.dash, "line_width": 1.8}
        _tag(plot.line(*at, legend_label=f"generation {curve.generation}", **look), None, "mean", style)
    plot.legend.update(location="bottom_left", background_fill_alpha=0, border_line_alpha=0)
    item: dict[str, Any] = dict(json_item(plot, ID(target)))
    return item


def _setting(
    plot: Any, i: int, style: Style, curves: Curves, metric: str, log: bool, within: tuple[float, float]
) -> Any:
    """Draw one setting: band, seeds (hidden at first), line, and points that answer the pointer."""
    setting = curves.settings[i]
    seeds = curves.of(setting, metric)
    t, middle, width = np.arange(curves.generations), mean(seeds), std(seeds)
    low, high = (np.clip(edge, *within) for edge in band(curves, setting, metric, log))
    use = np.isfinite(low) & np.isfinite(high)
    edges = ColumnDataSource({"t": t[use], "low": low[use], "high": high[use]})
    some = [_short(y) for y in seeds[spaced(range(len(seeds)), seeds_shown(curves))]]
    finite = [np.isfinite(y) for y in some]
    lines = ColumnDataSource({"t": [t[f] for f in finite], "y": [y[f] for y, f in zip(some, finite, strict=True)]})
    text = [spread(*pair) for pair in zip(middle.tolist(), width.tolist(), strict=True)]
    marked = np.isin(t, t[:: max(1, len(t) // 10)]) & bool(style.marker)
    size = np.where(marked, _MARKED, _POINT).tolist()
    told = {"t": t, "mean": middle, "size": size, "text": text, "label": [setting.label] * len(t)}
    curve = ColumnDataSource(told)
    colour, marker = style.light, _MARKERS[style.marker]
    paint = {"line_color": colour, "fill_color": colour}
    points = plot.scatter("t", "mean", source=curve, marker=marker, size="size", **paint)
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
            _tag(renderer, i, role, style)
    return points


def _tag(renderer: Any, i: int | None, role: Role, style: Style) -> None:
    """Say whose a renderer is, for the page's script, which hides it with its setting and colours it."""
    renderer.tags = [i, role, style.light, style.dark]


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
    with np.errstate(over="ignore"):  # no room is left above what is near the end of float64
        ends = np.array([low, high]) + np.array([-1, 1]) * max(high - low, 0.05 * abs(high))
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
        _tag(renderer, i, "forecast", style)


def _alarms(plot: Any, i: int, style: Style, curves: Curves, metric: str, alarmed: Sequence[Alarmed]) -> None:
    """Draw a ring around a setting's mean at every generation at which arms of it raised an alarm."""
    setting = curves.settings[i]
    middle = mean(curves.of(setting, metric))
    there = np.flatnonzero(np.isfinite(middle))
    if not len(there):
        return
    by_time = sorted(alarmed, key=lambda arm: (arm.generation, arm.seed))
    groups = [(t, list(arms)) for t, arms in groupby(by_time, key=lambda arm: arm.generation)]
    # Where all have ended there is no mean any more, and the ring is at the height of the last one.
    heights = [float(middle[there[there <= t][-1] if (there <= t).any() else there[0]]) for t, _ in groups]
    told = {
        "t": [t for t, _ in groups],
        "y": heights,
        "label": [setting.label] * len(groups),
        "text": [_raised(arms, len(setting.arms)) for _, arms in groups],
    }
    look = {"line_color": style.light, "line_width": 2.5, "fill_alpha": 0}
    rings = plot.scatter("t", "y", source=ColumnDataSource(told), marker="circle", size=16, **look)
    _tag(rings, i, "alarm", style)
    tips = [("", "@label"), ("alarm at generation", "@t"), ("arms", "@text")]
    plot.add_tools(HoverTool(renderers=[rings], tooltips=tips))


def _raised(arms: Sequence[Alarmed], of: int) -> str:
    """Return in words which arms raised an alarm at a generation, and by what."""
    seeds = ", ".join(str(arm.seed) for arm in arms[:_NAMED]) + (", …" if len(arms) > _NAMED else "")
    by = ", ".join(dict.fromkeys(arm.statistic for arm in arms))
    return f"{len(arms)} of {of}, of seeds {seeds}, by {by}"
