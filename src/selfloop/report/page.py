"""The report: one HTML file that needs nothing else; beside it the paper's figures and the charts' data."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bokeh.resources import Resources
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from torch import Tensor

from selfloop.analysis import profile, verdict
from selfloop.analysis.alarms import HEADINGS, Alarmed, Alarms, alarms
from selfloop.analysis.comparison import Comparison
from selfloop.analysis.curves import Array, Curves, final, read, spread
from selfloop.analysis.forecast import Outlook, outlooks, unforeseen
from selfloop.analysis.judgement import notes, sources
from selfloop.analysis.profile import Rows
from selfloop.core.errors import DataError, counted
from selfloop.core.events import Text
from selfloop.core.files import disk_errors, read_sealed, refuse_link, write_bytes, write_sealed
from selfloop.core.settings import dotted
from selfloop.data.base import DATA
from selfloop.data.real import Real
from selfloop.generators.base import GENERATORS
from selfloop.metrics.base import Metric
from selfloop.metrics.classes import class_shares
from selfloop.pictures import Canvas, data_uri, pictured, png
from selfloop.report.charts import chart, frequency_chart, loss_chart, seeds_shown
from selfloop.report.columns import columns
from selfloop.report.figures import FIGURES, encode
from selfloop.report.frequencies import frequencies
from selfloop.report.shown import judged, mark
from selfloop.report.style import DASHES, Marker, Style, legible, spaced, styles
from selfloop.report.tables import arms_csv, summary_csv
from selfloop.report.texts import some as some_texts
from selfloop.store import Run
from selfloop.store.losses import of_generation
from selfloop.store.remote import push_report, unsent

LIMIT = 5_000_000
"""The page stays below this many bytes."""

_FRAMES = (26, 13, 7, 3, 1, 0)
_INLINE_CSV = 600_000
_FITS = 60  # generations whose losses are drawn
_LOSSES = 600  # points of a setting's losses
_SHARES = 9  # generations in the table of classes
_COLUMNS = 20  # classes in it
_MISSING = "–"
_SIGNS: dict[Marker, str] = dict(zip(("", "o", "^", "s", "D", "v", "P", "*", "h"), " ●▲■◆▼✚★⬢", strict=True))
_SAID = "advice.json"  # the sentences that come first


def write_report(
    run: Run,
    *,
    metric: str | None = None,
    control: Mapping[str, Any] | None = None,
    tolerance: float = verdict.TOLERANCE,
    said: Sequence[str] | None = None,
) -> Path:
    """Write RUN/report and return its index.html, which comes last: where it is new, everything beside it is.

    That of a run elsewhere is sent there; where the store can only be read, a warning says so.

    Args:
        run: opened for reading.
        metric: to judge by, in place of the first distance.
        control: keys of the grid and the values of the control, in place of λ = 0.
        tolerance: by what share a setting may be worse than its control.
        said: sentences that come first, as of advice; None are those of the page before, if of the same run.

    Raises:
        ConfigError: the metric, the control or the tolerance is none.
        RunError: the run is damaged, or the report cannot be written.
        StorageFull: there is no space.
    """
    curves = read(run)
    by = verdict.judged(curves, run.metrics, metric=metric, control=control, tolerance=tolerance)
    page = write(run, curves, by, alarms_of(run, curves, control), said)
    if why := unsent(run.path):
        warnings.warn(f"the report is in {str(page)!r} alone, as it could not be sent: {why}", stacklevel=2)
    return page


def alarms_of(run: Run, curves: Curves, control: Mapping[str, Any] | None = None) -> Alarms:
    """Return the alarms of a run whose records were read."""
    experiment = run.experiment
    return alarms(curves, run.metrics, alarm=experiment.alarm, control=control, horizon=experiment.generations)


def write(
    run: Run,
    curves: Curves,
    by: verdict.Judged,
    raised: Alarms | None = None,
    said: Sequence[str] | None = None,
) -> Path:
    """Write the report of a run whose records were read and judged, as :func:`write_report`."""
    folder = run.path / "report"
    refuse_link(folder)
    with disk_errors(run.path), np.errstate(all="ignore"):  # of values near the greatest that there are
        folder.mkdir(exist_ok=True)  # not what it lies in: a run may have been moved meanwhile
        said = _kept(run) if said is None else said
        if said:
            write_sealed(folder / _SAID, {"shows": mark(run), "said": list(said)})
        _write_tables(curves, folder)
        drawn = []
        for name, draw in FIGURES.items():
            figure = draw(run, curves)
            if figure is not None:
                drawn.append(name)
                for kind in ("png", "pdf"):
                    write_bytes(folder / f"{name}.{kind}", encode(figure, kind))
        write_bytes(folder / "index.html", html(run, curves, by, drawn, raised, said).encode())
    push_report(run.path)
    return folder / "index.html"


def _kept(run: Run) -> Sequence[str]:
    """Return the sentences that the page before began with, if they are of the run as it is.

    Raises:
        RunError: they are damaged.
    """
    path = run.path / "report" / _SAID
    kept = read_sealed(path) if path.exists() else {}
    return kept["said"] if kept.get("shows") == mark(run) else ()


def write_comparison(found: Comparison, folder: Path) -> Path:
    """Write the page of several runs and its tables into a new folder, and return its index.html, which comes last.

    Raises:
        DataError: there is something in the folder.
        RunError: it cannot be written, or a run is damaged.
        StorageFull: there is no space.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(f"{str(folder)!r} is there already: give the name of a new directory")
    with disk_errors(folder), np.errstate(all="ignore"):  # of values near the greatest that there are
        folder.mkdir(parents=True, exist_ok=True)
        _write_tables(found.curves, folder)
        write_bytes(folder / "index.html", compared(found).encode())
    return folder / "index.html"


def _write_tables(curves: Curves, folder: Path) -> None:
    for metric in curves.metrics:
        write_bytes(folder / f"{metric}.csv", summary_csv(curves, metric).encode())
        write_bytes(folder / f"{metric}-arms.csv", arms_csv(curves, metric).encode())


def html(
    run: Run,
    curves: Curves,
    by: verdict.Judged,
    figures: list[str],
    raised: Alarms | None = None,
    said: Sequence[str] = (),
) -> str:
    """Return the page, with as many frames of samples as its size allows."""
    raised = alarms_of(run, curves) if raised is None else raised
    made = {
        "said": said,
        "alarms": {"says": raised.says, "headings": HEADINGS, "rows": raised.rows},
        "figures": figures,
        "config": run.experiment.yaml(),
        # What is said of metrics there is in general units; the table of charts says it in those of the run.
        "environment": sorted(_environment(run)),
    }
    coming = outlooks(run, curves, by.distance)
    made["unforeseen"] = unforeseen(curves, by.distance)
    marks = _marks(raised, curves, by)
    return _fitted(_template(curves, by, run, run.metrics, _head(run, curves) | made, coming, marks))


def compared(found: Comparison) -> str:
    """Return the page of several runs side by side."""
    runs = found.runs.items()
    head = {
        "name": " · ".join(found.runs),
        "shows": "; ".join(f"{name}: {mark(run)}" for name, run in runs),
        "description": "",
        "what": f"{counted(len(found.runs), 'run')} compared, {counted(found.curves.generations - 1, 'retraining')}",
        "unfinished": "",
        "notes": [f"{name}: {line}." for name, run in runs for line in run.failures()],
        "said": [],
        "sources": [],
        "alarms": {},
        "unforeseen": "",
        "figures": [],
        "config": "---\n".join(f"# {name}\n{run.experiment.yaml()}" for name, run in runs),
        "environment": sorted((f"{name}: {key}", value) for name, run in runs for key, value in _environment(run)),
    }
    return _fitted(_template(found.curves, found.by, found, found.metrics, head, {}, {}, found))


def _marks(raised: Alarms, curves: Curves, by: verdict.Judged) -> dict[str, list[Alarmed]]:
    """Return the alarms that each metric's chart marks: those it raised; on the judged one those of arms that ended."""
    found: dict[str, list[Alarmed]] = {}
    for arm in raised.arms:
        where = arm.statistic if arm.statistic in curves.values else by.distance
        if arm.generation is not None and where is not None:
            found.setdefault(where, []).append(arm)
    return found


def _fitted(render: Callable[[int], str]) -> str:
    """Return what has as many frames of samples as fit."""
    pages = map(render, _FRAMES)
    return next((page for page in pages if len(page.encode()) < LIMIT), None) or render(0)


def _template(
    curves: Curves,
    by: verdict.Judged,
    rows: Rows,
    known: Mapping[str, Metric],
    head: Mapping[str, Any],
    coming: Mapping[str, Outlook],
    marks: Mapping[str, Sequence[Alarmed]],
    comparison: Comparison | None = None,
) -> Callable[[int], str]:
    """Render all but the samples, and return what renders the page with up to so many frames of them."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_asset("page.html.jinja"))
    some = legible(curves)
    looks = _looks(some, comparison)
    ranks = _frequencies(rows, some)
    lost = [loss_chart(some, _losses(rows, some), "chart-loss")] if _has_losses(rows) else []
    fixed = {
        "style": Markup(_asset("page.css")),
        "script": Markup(_asset("page.js")),
        "columns_script": Markup(_asset("columns.js")),
        "pictures_script": Markup(_asset("picture.js")),
        "bokeh": Markup("\n".join(Resources(mode="inline", components=["bokeh"], log_level="warn").js_raw)),
        **head,
        "comparison": comparison,
        "badges": _badges(comparison) if comparison is not None else [],
        "judged_by": judged(by),
        **_verdicts(curves, by),
        **_charts(curves, some, looks, known, {by.distance: coming}, marks, [*ranks.get("items", []), *lost]),
        "has_losses": bool(lost),
        "frequencies": ranks.get("targets", []),
        "coming": [outlook.sentence for outlook in coming.values()],
        "roles": _roles(some, coming, marks),
        "has_alarms": bool(marks),
        "drawn": _drawn(some, looks),
        "shares": _class_shares(rows, some),
        "profile": _profile(profile.profile(curves, by, rows, known, some.settings)),
        "results": [
            (setting.label, [final(curves, i, metric) for metric in curves.metrics])
            for i, setting in enumerate(curves.settings)
        ],
    }

    def render(most: int) -> str:
        pictures, tables = _pictures(rows, some, most), columns(rows, some, most)
        drawn = {"pictures": pictures, "columns": tables}
        return template.render(**fixed, **drawn, pictures_json=embed(pictures["script"]), columns_json=embed(tables))

    return render


def embed(content: object) -> Markup:
    """Return JSON for a script element, without "<", so that nothing ends the element or opens a comment."""
    return Markup(json.dumps(content, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c"))


def _asset(name: str) -> str:
    return resources.files("selfloop.report").joinpath(name).read_text(encoding="utf-8")


def _head(run: Run, curves: Curves) -> dict[str, Any]:
    """Return what was run, in a line, and how far it came."""
    experiment, last = run.experiment, max(run.last, 0)
    settings, seeds = len(curves.settings), len(set(curves.seeds))
    ran = f"{GENERATORS.name_of(experiment.generator)} on {DATA.name_of(experiment.data)}"
    unfinished = f"Unfinished: {last} of {counted(experiment.generations, 'retraining')} so far."
    counts = f"{counted(settings, 'setting')} × {counted(seeds, 'seed')}, {counted(last, 'retraining')}"
    if run.elsewhere:
        ran, counts = "Run elsewhere", f"{counted(last + 1, 'generation')}{_repeated(settings, seeds)}"
    return {
        "name": experiment.name,
        "shows": mark(run),
        "description": experiment.description,
        "what": f"{ran}: {counts}",
        "unfinished": unfinished if run.last < experiment.generations and not run.elsewhere else "",
        "notes": notes(run) if run.elsewhere else [f"{line}." for line in run.failures()],
        "sources": [
            (setting.label, curves.seeds[arm], t, source["name"], source["rows"])
            for setting in curves.settings
            for arm in setting.arms
            for t, source in enumerate(sources(run, arm) if run.elsewhere else ())
        ],
    }


def _repeated(settings: int, seeds: int) -> str:
    """Return how many sequences there are of a loop that was run elsewhere."""
    repeated = f" of {counted(seeds, 'repetition')}" if seeds > 1 else ""
    return repeated + (" of the loop and its control" if settings > 1 else "")


def _looks(some: Curves, found: Comparison | None) -> list[Style]:
    """Return the looks of settings: side by side, what runs share has one colour and marker, and a run one line."""
    if found is not None and len(found.shared) > 1:
        shared = styles([next(iter(row.settings.values())) for row in found.shared])
        lines = dict(zip(found.runs, DASHES, strict=False))
        crossed = {
            setting.label: replace(look, dash=lines[name])
            for look, row in zip(shared, found.shared, strict=True)
            for name, setting in row.settings.items()
            if name in lines
        }
        looks = [crossed[setting.label] for setting in some.settings if setting.label in crossed]
        if len({(look.dash, look.marker) for look in looks}) == len(some.settings):
            return looks
    return styles(some.settings)


def _drawn(some: Curves, looks: Sequence[Style]) -> list[dict[str, str]]:
    """Return the names and looks of the settings that are drawn."""
    return [
        {"label": of.label, "light": look.light, "dark": look.dark, "dash": look.dash, "marker": _SIGNS[look.marker]}
        for of, look in zip(some.settings, looks, strict=True)
    ]


def _roles(
    some: Curves, coming: Mapping[str, Outlook], marks: Mapping[str, Sequence[Alarmed]]
) -> list[tuple[str, str, bool]]:
    """Return what of all settings can be hidden: its role, what it is called, and whether it is shown at first."""
    most = max((len(setting.arms) for setting in some.settings), default=0)
    few = f" ({seeds_shown(some)} of {most})" if seeds_shown(some) < most else ""
    roles = [("seeds", f"individual seeds{few}", False)]
    if any(len(outlook.t) for outlook in coming.values()):
        roles.append(("forecast", "forecast", True))
    if marks:
        roles.append(("alarm", "alarms", True))
    return roles


def _badges(found: Comparison) -> list[tuple[str, list[verdict.Verdict | None]]]:
    """Return the verdicts side by side: a row per setting that runs share, a column per run."""
    return [
        (
            row.label,
            [
                None if (of := row.settings.get(name)) is None else verdict.of_setting(of, found.curves, found.by)
                for name in found.runs
            ],
        )
        for row in found.shared
    ]


def _paragraphs(text: str) -> list[str]:
    return [part.replace("\n", " ") for part in text.strip().split("\n\n")]


def _verdicts(curves: Curves, by: verdict.Judged) -> dict[str, Any]:
    return {
        "rule": _paragraphs(verdict.RULE),
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


def _profile(found: profile.Profile) -> dict[str, Any]:
    return {
        "rule": _paragraphs(profile.RULE),
        "notions": profile.NOTIONS,
        "settings": found.settings,
        "notes": sorted({f"{f.notion.title}: {f.note}" for s in found.settings for f in s.findings if f.note}),
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


def _charts(
    curves: Curves,
    some: Curves,
    looks: Sequence[Style],
    known: Mapping[str, Metric],
    coming: Mapping[str | None, Mapping[str, Outlook]],
    marks: Mapping[str, Sequence[Alarmed]],
    more: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    charts, items = [], list(more)
    tables = {name: arms_csv(curves, name).encode() for name in curves.metrics}
    inline = sum(map(len, tables.values())) < _INLINE_CSV
    for i, name in enumerate(curves.metrics):
        about = known.get(name)
        drawn = bool(np.isfinite(curves.values[name]).any())
        if drawn:
            unit = about.unit if about else ""
            items.append(chart(some, looks, name, unit, f"chart-{i}", coming.get(name), marks.get(name, ())))
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
    return {"charts": charts, "charts_json": embed(items)}


def _pictures(rows: Rows, curves: Curves, most: int) -> dict[str, Any]:
    """Return what the real data and up to ``most`` generations look like, of each setting's first arm that is shown.

    What rows look like is a picture, as a data: address, or of text a list of some of them.
    """
    events = [rows.real(setting.arms[0]).events for setting in curves.settings]
    places = [i for i, of in enumerate(events) if isinstance(of, Text) or pictured(of)]
    settings = [curves.settings[i] for i in places]
    shown = spaced(range(curves.generations), most) if most and settings else []
    frames: list[dict[str, Any]] = [{"t": t, "pictures": [], "notes": []} for t in shown]
    labels = [setting.label for setting in settings]
    real, axes, kinds = [], [], set()
    for setting in settings if shown else ():
        arm = setting.arms[0]
        kept = rows.real(arm)
        look = _look(kept)
        kinds.add(look.kind)
        real.append(look.draw(kept.rows, kept.label)[0])
        axes.append(look.frame)
        for frame in frames:
            ended = 0 <= curves.ended[arm] <= frame["t"]
            drawn = (
                (None, curves.endings[arm])
                if ended
                else look.draw(rows.samples(frame["t"], arm), rows.labels(frame["t"], arm))
            )
            frame["pictures"].append(drawn[0])
            frame["notes"].append(drawn[1])
    return {
        "frames": frames,
        "real": real[:1] if all(each == real[0] for each in real) else real,
        "axes": axes,
        "labels": labels,
        "places": places,
        "script": {"frames": frames, "labels": labels},
        "kinds": sorted(kinds),
    }


@dataclass(frozen=True)
class _Look:
    """How rows of one kind are shown: maps rows and their classes to a picture or some texts, and to a note."""

    kind: str
    frame: str
    draw: Callable[[Tensor, Tensor | None], tuple[str | list[str], str]]


def _look(kept: Real) -> _Look:
    """Return how rows like the real ones that are kept are shown."""
    events = kept.events
    if isinstance(events, Text):
        return _Look("text", "", lambda x, labels: (some_texts(events, x), "generated"))
    canvas = Canvas.of(kept)

    def draw(x: Tensor, labels: Tensor | None) -> tuple[str, str]:
        picture = canvas.draw(x, labels)
        return data_uri(png(picture.pixels), "image/png"), _note(picture.outside)

    return _Look(canvas.kind, canvas.frame(), draw)


def _has_losses(rows: Rows) -> bool:
    """Whether a run, not runs side by side, has kept finite losses."""
    if not isinstance(rows, Run) or rows.last < 0:
        return False
    return any(bool(each.loss.isfinite().any()) for each in rows.losses(0))


def _losses(rows: Rows, curves: Curves) -> list[tuple[Array, Array]]:
    """Return the losses of each setting's first arm: the fit of generation t lies between t − 1 and t."""
    assert isinstance(rows, Run)
    shown = spaced(range(curves.generations), _FITS)
    points = max(2, _LOSSES // len(shown))
    places: dict[int, list[tuple[Array, Array]]] = {setting.arms[0]: [] for setting in curves.settings}
    for t in shown:
        for each in of_generation(rows, t, places):
            if each.fit == 0:
                ends = spaced(range(len(each.step)), points)
                x = t - 1 + each.step[ends].double().numpy() / float(each.step[-1])
                places[each.arm].append((x, each.loss[ends].double().numpy()))
    gap = np.array([math.nan])
    lines = []
    for setting in curves.settings:
        found = places[setting.arms[0]] or [(gap, gap)]
        lines.append((_apart([x for x, _ in found]), _apart([y for _, y in found])))
    return lines


def _apart(parts: Sequence[Array]) -> Array:
    """Return parts of a line one after the other, with a gap after each."""
    return np.concatenate([each for part in parts for each in (part, np.array([math.nan]))])


def _frequencies(rows: Rows, curves: Curves) -> dict[str, Any]:
    """Return the charts of token frequencies and the settings they are of; {} where rows are no text."""
    found = [(setting.label, frequencies(rows, curves, setting)) for setting in curves.settings]
    items = [frequency_chart(drawn, f"frequencies-{i}") for i, (_, drawn) in enumerate(found) if drawn]
    if not items:
        return {}
    targets = [(label, f"frequencies-{i}" if drawn else "") for i, (label, drawn) in enumerate(found)]
    return {"targets": targets, "items": items}


def _class_shares(rows: Rows, curves: Curves) -> dict[str, Any]:
    """Return the shares of the classes of every setting's samples, means over seeds; {} where there are no labels."""
    found: list[tuple[str, list[tuple[str, list[str]]]]] = []
    classes = 0
    for setting in curves.settings:
        real, lines = rows.real(setting.arms[0]), list[tuple[str, list[str]]]()
        if real.label is None:
            continue
        for t in spaced(range(curves.generations), _SHARES):
            living = [arm for arm in setting.arms if not 0 <= curves.ended[arm] <= t]
            labels = [y for arm in living if (y := rows.labels(t, arm)) is not None and len(y)]
            if labels:
                shares = torch.stack([class_shares(y, real.events.classes) for y in labels]).mean(0)
                lines.append((str(t), _percent(shares)))
        if lines:
            classes = max(classes, real.events.classes)
            found.append((setting.label, [("real", _percent(class_shares(real.label, real.events.classes))), *lines]))
    if not found:
        return {}
    return {"classes": min(classes, _COLUMNS), "of": classes, "settings": found}


def _percent(shares: Tensor) -> list[str]:
    return [f"{100 * share:.1f}" for share in shares[:_COLUMNS].tolist()]


def _note(outside: float) -> str:
    return f"generated, {100 * outside:.1f} % outside" if outside > 0.005 else "generated"


def _environment(run: Run) -> Iterator[tuple[str, str]]:
    """Yield what a run's environment.json says, but of metrics, by its dotted keys."""
    for key, value in dotted({k: v for k, v in run.environment.items() if k != "metrics"}):
        yield key, value if isinstance(value, str) else json.dumps(value, default=str)
