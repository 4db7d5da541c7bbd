"""What breaks first when tables are trained on their own samples: fidelity, tails or the downstream score?

``python -m studies.tables RUN …`` reads finished runs of the recipes ``adult``, ``diamonds``, ``wine`` and
``breast-cancer``, and writes ``docs/results/tables``: a page, and of every run a figure and a CSV file.

All metrics of these recipes are shares of at most 1, of which 0.01 is a point. The *loss* of a setting at a generation
is by how many points it is worse than retraining on the real rows alone (λ = 0) with the same generator and seed, a
mean over seeds ± its standard error. A metric *breaks* at the first generation from which on all losses, at least
``LAST``, are above ``POINTS`` and above twice their standard errors; what breaks first is the group of the metric that
breaks at the earliest generation, all of these groups where several do.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from selfloop.analysis.curves import Curves, Setting, final, read
from selfloop.core.files import write_bytes
from selfloop.report.figures import RETRAININGS, encode
from selfloop.store import Run

POINTS = 5.0
LAST = 3  # generations that must be broken
HEAD = """# What breaks first: fidelity, tails or the downstream score?

`python -m studies.tables {names}` wrote this page from runs of these [recipes](../../recipes.md#tables).

All metrics are shares, of which 0.01 is a point. The **loss** of a setting is by how many points it is worse than
retraining on the real rows alone (λ = 0) with the same generator and seed, a mean over seeds. A metric **breaks** at
the first generation from which on all losses, at least {least}, are above {points:g} points and above twice their
standard errors; the tables have that generation in italics, beside mean ± standard deviation at the end. Fidelity is
the error of shapes and of associations, tails are recall and the levels that are kept, and the downstream score is that
of gradient-boosted trees trained on the samples, in held-out real rows ([metrics](../../metrics.md)).

**Of {total} settings with synthetic rows, what breaks first is: {counts}.**
"""
OUT = Path("docs/results/tables")
GROUPS = {
    "fidelity": ("shape_error_held_out", "association_error_held_out"),
    "tails": ("recall_held_out", "levels_kept", "rare_levels_kept"),
    "downstream score": ("tstr_score", "tstr_auc"),
}
COLOURS = {"fidelity": "#0b63c5", "tails": "#b45309", "downstream score": "#15803d"}
DASHES = ("-", "--", ":")


@dataclass(frozen=True)
class Loss:
    """How much worse a setting is than its control, in points.

    Attributes:
        group: of the metric.
        metric: its name.
        mean: (T,) over seeds, above 0 where it is worse.
        error: (T,) of the mean.
    """

    group: str
    metric: str
    mean: NDArray[np.float64]
    error: NDArray[np.float64]

    @property
    def breaks(self) -> int | None:
        """The first generation from which on every loss is clear and large; None where there is none."""
        broken = (self.mean > POINTS) & (self.mean > 2 * self.error)
        last = np.flatnonzero(~broken)
        first = int(last[-1]) + 1 if len(last) else 0
        return first if first + LAST <= len(broken) else None


@dataclass(frozen=True)
class Case:
    """One setting of a run beside its control.

    Attributes:
        generator: its name.
        regime: in words.
        setting: of the curves.
        losses: of every metric; () of a control.
    """

    generator: str
    regime: str
    setting: Setting
    losses: tuple[Loss, ...]

    @property
    def first(self) -> str:
        """What breaks first."""
        broken = [(t, loss.group) for loss in self.losses if (t := loss.breaks) is not None]
        groups = dict.fromkeys(group for t, group in broken if t == min(broken)[0])
        return " and ".join(groups) or "nothing"


def cases(run: Run, curves: Curves) -> list[Case]:
    """Return every setting, in order."""
    fallback = str(run.experiment.generator.name)  # type: ignore[attr-defined]
    name = {s.label: s.settings.get("generator", {}).get("name", fallback) for s in curves.settings}
    controls = {name[s.label]: s for s in curves.settings if s.ratio == 0}
    return [
        Case(
            name[s.label],
            s.label.split(", generator")[0],
            s,
            () if s.ratio == 0 else _losses(run, curves, s, controls[name[s.label]]),
        )
        for s in curves.settings
    ]


def _losses(run: Run, curves: Curves, setting: Setting, control: Setting) -> tuple[Loss, ...]:
    found = []
    for group, names in GROUPS.items():
        for metric in (name for name in names if name in curves.values):
            sign = -1.0 if run.metric(metric).goal == "higher" else 1.0
            worse = 100 * sign * (curves.of(setting, metric) - curves.of(control, metric))
            if np.isfinite(worse).all():
                error = (
                    worse.std(0, ddof=1) / np.sqrt(len(worse)) if len(worse) > 1 else np.full(worse.shape[1], np.nan)
                )
                found.append(Loss(group, metric, worse.mean(0), error))
    return tuple(found)


def figure(run: Run, found: list[Case]) -> Figure:
    """Return the losses over generations: a row for every generator, a column for every regime but λ = 0."""
    generators = list(dict.fromkeys(case.generator for case in found))
    shown = {g: [case for case in found if case.generator == g and case.losses] for g in generators}
    columns = max(map(len, shown.values()))
    drawn = Figure(figsize=(2.5 * columns + 0.5, 2.5 * len(generators) + 0.9), layout="constrained")
    FigureCanvasAgg(drawn)
    grid = drawn.subplots(len(generators), columns, squeeze=False, sharex=True, sharey="row")
    for row, generator in zip(grid, generators, strict=True):
        for axes, case in zip(row, shown[generator], strict=False):
            for loss in case.losses:
                dash = DASHES[GROUPS[loss.group].index(loss.metric)]
                title, t = run.metric(loss.metric).title, np.arange(len(loss.mean))
                colour = COLOURS[loss.group]
                axes.plot(t, loss.mean, dash, color=colour, label=f"{title} ({loss.group})", linewidth=1.6)
                axes.fill_between(t, loss.mean - loss.error, loss.mean + loss.error, color=colour, alpha=0.15, lw=0)
            axes.axhline(POINTS, color="gray", linewidth=0.8, linestyle=":")
            axes.axhline(0, color="gray", linewidth=0.8)
            axes.set_title(f"{generator}, {case.regime}", fontsize=9)
            axes.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel("loss in points", fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel(RETRAININGS, fontsize=9)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return drawn


def numbers(found: list[Case]) -> str:
    """Return every loss as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["generator", "regime", "group", "metric", "generation", "loss in points", "standard error"])
    for case in found:
        for loss in case.losses:
            for t, (mean, error) in enumerate(zip(loss.mean, loss.error, strict=True)):
                row = [case.generator, case.regime, loss.group, loss.metric, t, f"{mean:.4f}", f"{error:.4f}"]
                writer.writerow(row)
    return text.getvalue()


def section(run: Run, curves: Curves, found: list[Case]) -> str:
    """Return what is said of a run, as Markdown."""
    name, metrics = run.experiment.name, [m for names in GROUPS.values() for m in names if m in curves.values]
    titles = [run.metric(metric).title for metric in metrics]
    seeds, real = len(set(curves.seeds)), run.real(0)
    description = run.experiment.description.partition(" - ")[2].partition(";")[0].rstrip(".")
    lines = [
        f"## {name}",
        "",
        f"{description[:1].upper()}{description[1:]}: "
        f"{real.n:,} rows to train on, {curves.generations - 1} retrainings, {seeds} seeds.",
        "",
        f"![Losses of every metric over generations]({name}.png)",
        "",
        f"| generator | regime | {' | '.join(titles)} | breaks first |",
        f"|{'---|' * (len(titles) + 3)}",
    ]
    for case in found:
        breaks = {loss.metric: loss.breaks for loss in case.losses}
        cells = [
            final(curves, curves.settings.index(case.setting), metric)
            + (f" *(from {breaks[metric]})*" if breaks.get(metric) is not None else "")
            for metric in metrics
        ]
        what = f"**{case.first}**" if case.losses else ""
        lines.append(f"| {case.generator} | {case.regime} | {' | '.join(cells)} | {what} |")
    floors = (curves.floors[metric][np.isfinite(curves.floors[metric])] for metric in metrics)
    cells = [f"{floor.mean():.4g}" if len(floor) else "" for floor in floors]
    lines.append(f"| real training rows | | {' | '.join(cells)} | |")
    return "\n".join([*lines, "", f"Every loss by generation: [{name}.csv]({name}.csv).", ""])


def page(runs: list[Run]) -> tuple[str, dict[str, bytes]]:
    """Return the page and the files beside it."""
    files, parts, firsts = dict[str, bytes](), list[str](), Counter[str]()
    for run in runs:
        curves = read(run)
        found = cases(run, curves)
        parts.append(section(run, curves, found))
        files[f"{run.experiment.name}.png"] = encode(figure(run, found), "png")
        files[f"{run.experiment.name}.csv"] = numbers(found).encode()
        firsts.update(case.first for case in found if case.losses)
    total = firsts.total()
    counts = "; ".join(f"{what} in {count}" for what, count in firsts.most_common())
    head = HEAD.format(
        names=" ".join(run.path.name for run in runs), points=POINTS, least=LAST, total=total, counts=counts
    )
    return "\n".join([head, *parts]), files


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="python -m studies.tables", description=__doc__.split("\n\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, default=OUT, help="a folder, default: %(default)s")
    given = parser.parse_args()
    text, files = page([Run.open(path) for path in given.runs])
    given.out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_bytes(given.out / name, content)
    write_bytes(given.out / "index.md", text.encode())


if __name__ == "__main__":
    main()
