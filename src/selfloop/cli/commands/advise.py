"""Say how much synthetic data a loop bears."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfloop.cli.terminal import bar, complain, directory, names, say, say_plain, say_report, share
from selfloop.core.errors import ConfigError, counted, printable, quoted

if TYPE_CHECKING:
    from selfloop.advisor import Step

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def command(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="a table, array, text or folder of pictures, or a name or YAML")
    ],
    generator: Annotated[
        str | None,
        typer.Option(metavar="NAME|YAML", help="what is retrained on its own samples; default of tables: copula"),
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="to predict: what samples are worth to that must hold too")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(metavar="SHARE", help="of the loss, above real data alone: 10% or 0.1", parser=share)
    ] = 0.1,
    horizon: Annotated[int, typer.Option(metavar="T", help="retrainings after which it is compared")] = 20,
    budget: Annotated[str | None, typer.Option(metavar="TIME", help="45s, 30m or 2h; default: what it takes")] = None,
    metric: Annotated[
        str | None, typer.Option(metavar="NAME", help="that judges; default: W2 to held-out data, sliced of tables")
    ] = None,
    score: Annotated[str | None, typer.Option(metavar="NAME", help="a second metric that must hold too")] = None,
    out: Annotated[
        Path | None, typer.Option(help="the run directory; default: runs/advice-…", parser=directory)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    leave_out: Annotated[str, typer.Option(metavar="NAME,…", help="columns of a table that are not taken")] = "",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="key.path=value", help="replace a setting; may be repeated")
    ] = None,
) -> int:
    """Say how much synthetic data a loop bears, what happens above that, what rescues it, and what to watch."""
    seconds = None if budget is None else _seconds(budget)
    from selfloop.advisor import advise
    from selfloop.report.page import write_report
    from selfloop.store import Run

    metrics = list(dict.fromkeys(name for name in (metric, score) if name is not None))
    with _shown() as progress:
        found = advise(
            data,
            generator=generator,
            target=target,
            tolerance=tolerance,
            horizon=horizon,
            budget=seconds,
            metrics=metrics,
            out=out,
            settings=settings or (),
            leave_out=names(leave_out),
            progress=progress,
            notice=complain,
        )
    ran = Run.open(found.run)
    judged = next(iter(found.criteria))
    page = write_report(ran, metric=judged, tolerance=tolerance, said=found.sentences) if ran.finished else None
    if as_json:
        say_plain(found.json())
        return 0
    say(f"{found}")
    if page is None:
        say("The budget was spent: the same command goes on from there.")
    else:
        say_report(page)
    return 0


def _seconds(text: str) -> float:
    """Return a time, written as 45s, 30m, 2h or 1h30m.

    Raises:
        ConfigError: it is none.
    """
    parts = re.findall(r"(\d+\.?\d*|\.\d+)([smh])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ConfigError(f"the budget is a time such as 45s, 30m or 2h, not {quoted(text)}")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


@contextmanager
def _shown() -> Iterator[Callable[[Step], None]]:
    """Show on standard error what is run and why: a bar on a terminal, a line a plan elsewhere."""
    said: tuple[int, str, bool] | None = None
    with bar("advise") as tick:

        def show(step: Step) -> None:
            nonlocal said
            tick(step.done, step.total, _words(step))
            now = step.seeds, step.why, math.isnan(step.left)  # once more when it is known how long it takes
            if not sys.stderr.isatty() and now != said:
                said = now
                print(printable(_words(step)), file=sys.stderr, flush=True)

        yield show


def _words(step: Step) -> str:
    from selfloop.analysis.advice import duration

    words = f"{counted(step.seeds, 'seed')} of {counted(step.regimes, 'regime')} · {step.why}"
    if math.isnan(step.left):
        return words
    return f"{words} · {duration(step.left)} left of this step, {duration(step.most)} in all if it took the most seeds"
