"""The report: one HTML file that needs nothing else; beside it the paper's figures and the charts' data."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from bokeh.resources import Resources
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from selfloop.analysis import verdict
from selfloop.analysis.alarms import HEADINGS, Alarms, alarms
from selfloop.analysis.curves import Curves, read
from selfloop.core.files import disk_errors, write_bytes
from selfloop.data.base import DATA
from selfloop.generators.base import GENERATORS
from selfloop.metrics.base import Metric
from selfloop.report.charts import chart, seeds_shown
from selfloop.report.figures import FIGURES, encode
from selfloop.report.pictures import Canvas, data_uri, png
from selfloop.report.shown import mark
from selfloop.report.style import legible, spaced, styles
from selfloop.report.tables import arms_csv, final, spread, summary_csv
from selfloop.store import Run

LIMIT = 5_000_000
"""The page stays below this many bytes."""

_FRAMES = (26, 13, 7, 3, 1, 0)
_INLINE_CSV = 600_000
_MISSING = "–"


def write_report(
    run: Run,
    *,
    metric: str | None = None,
    control: Mapping[str, Any] | None = None,
    tolerance: float = verdict.TOLERANCE,
) -> Path:
    """Write RUN/report and return its index.html, which comes last: where it is new, everything beside it is.

    Args:
        run: opened for reading.
        metric: to judge by, in place of the first distance.
        control: keys of the grid and the values of the control, in place of λ = 0.
        tolerance: by what share a setting may be worse than its control.

    Raises:
        ConfigError: the metric, the control or the tolerance is none.
        RunError: the run is damaged, or the report cannot be written.
        StorageFull: there is no space.
    """
    curves = read(run)
    by = verdict.judged(curves, run.metrics, metric=metric, control=control, tolerance=tolerance)
    return write(run, curves, by, alarms_of(run, curves, control))


def alarms_of(run: Run, curves: Curves, control: Mapping[str, Any] | None = None) -> Alarms:
    """Return the alarms of a run whose records were read."""
    experiment = run.experiment
    return alarms(curves, run.metrics, alarm=experiment.alarm, control=control, horizon=experiment.generations)


def write(run: Run, curves: Curves, by: verdict.Judged, raised: Alarms | None = None) -> Path:
    """Write the report of a run whose records were read and judged, as :func:`write_report`."""
    folder = run.path / "report"
    with disk_errors(run.path):
        folder.mkdir(exist_ok=True)  # not what it lies in: a run may have been moved meanwhile
        for metric in curves.metrics:
            write_bytes(folder / f"{metric}.csv", summary_csv(curves, metric).encode())
            write_bytes(folder / f"{metric}-arms.csv", arms_csv(curves, metric).encode())
        drawn = []
        for name, draw in FIGURES.items():
            figure = draw(run, curves)
            if figure is not None:
                drawn.append(name)
                for kind in ("png", "pdf"):
                    write_bytes(folder / f"{name}.{kind}", encode(figure, kind))
        write_bytes(folder / "index.html", html(run, curves, by, drawn, raised).encode())
    return folder / "index.html"


def html(run: Run, curves: Curves, by: verdict.Judged, figures: list[str], raised: Alarms | None = None) -> str:
    """Return the page, with as many frames of samples as its size allows."""
    frame = _template(run, curves, by, alarms_of(run, curves) if raised is None else raised, figures)
    pages = (frame(most) for most in _FRAMES)
    return next((page for page in pages if len(page.encode()) < LIMIT), None) or frame(0)


def _template(run: Run, curves: Curves, by: verdict.Judged, raised: Alarms, figures: list[str]) -> Callable[[int], str]:
    """Render all but the samples, and return what renders the page with up to so many frames of them."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template, known = environment.from_string(_asset("page.html.jinja")), run.metrics
    some = legible(curves)
    fixed = {
        "style": Markup(_asset("page.css")),
        "script": Markup(_asset("page.js")),
        "bokeh": Markup("\n".join(Resources(mode="inline", components=["bokeh"], log_level="warn").js_raw)),
        **_head(run, curves),
        **_verdicts(curves, by),
        "alarms": {"says": raised.says, "headings": HEADINGS, "rows": raised.rows},
        **_charts(curves, some, known),
        "drawn": _drawn(some),
        "results": [
            (setting.label, [final(curves, i, metric) for metric in curves.metrics])
            for i, setting in enumerate(curves.settings)
        ],
        "figures": figures,
        "config": run.experiment.yaml(),
        # What is said of metrics there is in general units; the table of charts says it in those of the run.
        "environment": sorted(_flat({k: v for k, v in run.environment.items() if k != "metrics"}).items()),
    }

    def render(most: int) -> str:
        pictures = _pictures(run, some, most)
        return template.render(**fixed, pictures=pictures, pictures_json=embed(pictures["script"]))

    return render


def embed(content: object) -> Markup:
    """Return JSON for a script element, without "<", so that nothing ends the element or opens a comment."""
    return Markup(json.dumps(content, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c"))


def _asset(name: str) -> str:
    return resources.files("selfloop.report").joinpath(name).read_text(encoding="utf-8")


def _head(run: Run, curves: Curves) -> dict[str, Any]:
    """Return what was run, in a line, and how far it came."""
    experiment = run.experiment
    settings, seeds = len(curves.settings), len(set(curves.seeds))
    return {
        "name": experiment.name,
        "shows": mark(run),
        "description": experiment.description,
        "what": (
            f"{GENERATORS.name_of(experiment.generator)} on {DATA.name_of(experiment.data)}: "
            f"{_count(settings, 'setting')} × {_count(seeds, 'seed')}, {_count(max(run.last, 0), 'retraining')}"
        ),
        "unfinished": (
            f"Unfinished: {max(run.last, 0)} of {experiment.generations} retrainings so far."
            if run.last < experiment.generations
            else ""
        ),
    }


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'s' * (n != 1)}"


def _drawn(some: Curves) -> list[dict[str, str]]:
    """Return the names and looks of the settings that are drawn."""
    pairs = zip(some.settings, styles(some.settings), strict=True)
    return [{"label": of.label, "light": style.light, "dark": style.dark, "dash": style.dash} for of, style in pairs]


def _verdicts(curves: Curves, by: verdict.Judged) -> dict[str, Any]:
    return {
        "rule": [part.replace("\n", " ") for part in verdict.RULE.strip().split("\n\n")],
        "judged": [about.title for about in by.about.values()],
        "tolerance": f"{100 * by.tolerance:.3g} %",
        "settings": [
            {
                "label": setting.label,
                "verdict": verdict.of_setting(setting, curves, by),
                "arms": [
                    {"index": arm, "seed": curves.seeds[arm], "verdict": verdict.of_arm(arm, curves, by)}
                    for arm in setting.arms
                ],
            }
            for setting in curves.settings
        ],
    }


@dataclass(frozen=True, kw_only=True)
class _Chart:
    """A metric in words, the id of its chart ("" where no value is finite), and its data."""

    name: str
    title: str
    definition: str
    direction: str
    version: str
    unit: str
    target: str
    floor: str
    summary: str
    arms: str


def _charts(curves: Curves, some: Curves, known: Mapping[str, Metric]) -> dict[str, Any]:
    charts, items = [], []
    tables = {name: arms_csv(curves, name).encode() for name in curves.metrics}
    inline = sum(map(len, tables.values())) < _INLINE_CSV
    for i, name in enumerate(curves.metrics):
        about = known.get(name)
        drawn = bool(np.isfinite(curves.values[name]).any())
        if drawn:
            items.append(chart(some, name, about.unit if about else "", f"chart-{i}"))
        floors = curves.floors[name][np.isfinite(curves.floors[name])]
        charts.append(
            _Chart(
                name=name,
                title=about.title if about else name,
                definition=about.definition if about else "Not known to this version of selfloop.",
                direction=about.direction if about else "no direction",
                version=str(about.version) if about else _MISSING,
                unit=about.unit if about else _MISSING,
                target=f"chart-{i}" if drawn else "",
                floor=spread(float(floors.mean()), math.nan) if floors.size else _MISSING,
                summary=data_uri(summary_csv(curves, name).encode(), "text/csv"),
                arms=data_uri(tables[name], "text/csv") if inline else f"{name}-arms.csv",
            )
        )
    most = max((len(setting.arms) for setting in curves.settings), default=0)
    few = f" ({seeds_shown(some)} of {most})" if seeds_shown(some) < most else ""
    return {"charts": charts, "charts_json": embed(items), "few": few}


def _pictures(run: Run, curves: Curves, most: int) -> dict[str, Any]:
    """Return pictures of the real data and of up to ``most`` generations, of every setting's first arm."""
    shown = spaced(range(curves.generations), most) if most else []
    frames: list[dict[str, Any]] = [{"t": t, "pictures": [], "notes": []} for t in shown]
    labels = [setting.label for setting in curves.settings]
    real, axes, kinds = [], [], set()
    for setting in curves.settings if shown else ():
        arm = setting.arms[0]
        kept = run.real(arm)
        canvas = Canvas.of(kept)
        kinds.add(canvas.kind)
        real.append(data_uri(png(canvas.draw(kept.rows).pixels), "image/png"))
        axes.append(canvas.frame())
        for frame in frames:
            ended = 0 <= curves.ended[arm] <= frame["t"]
            picture = None if ended else canvas.draw(run.samples(frame["t"], arm))
            frame["pictures"].append(None if picture is None else data_uri(png(picture.pixels), "image/png"))
            frame["notes"].append(curves.endings[arm] if picture is None else _note(picture.outside))
    return {
        "frames": frames,
        "real": real[:1] if len(set(real)) == 1 else real,
        "axes": axes,
        "labels": labels,
        "script": {"frames": frames, "labels": labels},
        "kinds": sorted(kinds),
    }


def _note(outside: float) -> str:
    return f"generated, {100 * outside:.1f} % outside" if outside > 0.005 else "generated"


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    out: dict[str, str] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            out |= _flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, default=str)
    return out
