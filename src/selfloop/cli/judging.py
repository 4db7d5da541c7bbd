"""What the commands ``judge`` and ``watch`` share: their options, and what they print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfloop.cli.terminal import bar, complain, directory, say, say_report, share, show
from selfloop.core.errors import counted

if TYPE_CHECKING:
    from selfloop.analysis.judgement import Judgement
    from selfloop.analysis.provenance import Provenance
    from selfloop.outside import Loop

HeldOut = Annotated[
    str | None, typer.Option(metavar="REAL", help="real rows that no model saw; default: a part of REAL")
]
Control = Annotated[
    list[str] | None,
    typer.Option(metavar="GEN", help="generations of a loop that saw real rows alone; may be repeated"),
]
Every = Annotated[int, typer.Option(min=1, metavar="N", help="the first generation and every N-th after it")]
LeaveOut = Annotated[
    str, typer.Option(metavar="NAME,…", help="columns of tables that are not taken; generations may lack them")
]
FeaturesOption = Annotated[
    str | None,
    typer.Option(metavar="NAME|YAML", help="identity, efficientnet, classifier, torchscript, torch_fidelity, settings"),
]
Metrics = Annotated[str | None, typer.Option(metavar="NAME,…", help="what to measure; default: see the documentation")]
MetricOption = Annotated[str | None, typer.Option(help="to judge by, in place of the first distance")]
Tolerance = Annotated[
    float, typer.Option(metavar="SHARE", help="by how much the loop may be worse: 10% or 0.1", parser=share)
]
RowsOption = Annotated[int, typer.Option(min=2, help="the most rows of a set that are measured")]
Raw = Annotated[bool, typer.Option("--raw", help="tables in their own units, not standardised")]
Target = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="to predict: what generations are worth to that is measured too")
]
Out = Annotated[
    Path | None, typer.Option(help="the run directory; default: runs/judged-<what GEN is called>", parser=directory)
]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured of a loop, by what it is judged, and where to."""

    features: str | None
    metrics: str | None
    metric: str | None
    tolerance: float
    rows: int
    raw: bool
    target: str | None
    out: Path | None

    def folder(self, loop: Loop) -> Path:
        """Return the run directory."""
        return Path("runs") / loop.name if self.out is None else self.out

    def judged(self, loop: Loop) -> Judgement:
        """Measure what is new of a loop, and judge it."""
        from selfloop.outside import judge_loop

        names = None if self.metrics is None else [name.strip() for name in self.metrics.split(",")]
        with bar("generations") as tick:
            return judge_loop(
                loop,
                self.folder(loop),
                features=self.features,
                metrics=names,
                metric=self.metric,
                tolerance=self.tolerance,
                rows=self.rows,
                raw=self.raw,
                target=self.target,
                notice=complain,
                progress=tick,
            )

    def of_run(self, path: Path) -> Judgement:
        """Judge what a run directory has."""
        from selfloop.analysis.judgement import judgement
        from selfloop.store import Run

        return judgement(Run.open(path), metric=self.metric, tolerance=self.tolerance)


def share_of(unknown: str, loop: Loop, features: str | None, leave_out: Sequence[str]) -> Provenance:
    """Return how many rows of a set look like those of a loop's generations."""
    from selfloop.analysis.provenance import of_sets
    from selfloop.analysis.sources import read_events
    from selfloop.experiment import member
    from selfloop.features.base import FEATURES
    from selfloop.features.unnamed import unnamed

    extractor = None if features is None else member(FEATURES, features)
    clean = loop.reference(unknown)
    of_loop = [each for (kind, _), some in loop.generations.items() if kind == "loop" for each in some]
    made, asked = (
        [each.read(clean.events) for each in of_loop],
        read_events(unknown, like=clean.events, leave_out=leave_out),
    )
    suited, _ = unnamed((each.events, each.pictures) for each in (clean, *made, asked))
    return of_sets(clean, made, asked, features=extractor or suited)


def report(found: Judgement) -> Path:
    """Write the report where it does not show this already, and return its page."""
    from selfloop.report.shown import is_current

    if is_current(found.run, found.by):
        return found.run.path / "report" / "index.html"
    from selfloop.report import page

    return page.write(found.run, found.curves, found.by)


def tell(found: Judgement, index: Path) -> None:
    """Print a judgement: its table, what there is to say of it, the profile, alarms, the forecast, the verdict."""
    from selfloop.analysis.alarms import HEADINGS

    headings, rows = found.table
    show(headings, rows, pad_edge=False)
    for line in found.notes:
        say(line)
    setting = found.profile.settings[0]
    after = f"after {counted(found.profile.retrainings, 'retraining')}, against {setting.against}"
    cells = [(each.notion.number, each.notion.title, each.text, each.about) for each in setting.findings]
    show(("", "called collapse", after, "the number, or why there is none"), cells, pad_edge=False)
    if found.alarms.rows:
        show(HEADINGS, found.alarms.rows, pad_edge=False)
        say(found.alarms.says)
    for line in found.told:
        say(line)
    say_report(index)
