"""How far a run is, while it runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from selfloop.analysis.curves import group
from selfloop.arms import Arm, arms, stacks
from selfloop.cli.terminal import console, say_plain
from selfloop.core.errors import printable
from selfloop.experiment import Experiment
from selfloop.runner import Generation

_FEW = 6  # settings of which a line of progress tells


@contextmanager
def display(
    experiment: Experiment,
) -> Iterator[tuple[Callable[[int, int, int], None], Callable[[Generation], None]]]:
    """Show progress: a bar on a terminal, a plain line per generation elsewhere."""
    chosen = arms(experiment)
    count, last, started, first = len(chosen), experiment.generations, time.monotonic(), -1
    per_generation = len(stacks(chosen))

    def line(generation: Generation) -> str:
        nonlocal first
        first = generation.t if first < 0 else first
        spent = time.monotonic() - started
        left = spent / (generation.t - first + 1) * (last - generation.t)
        text = f"generation {generation.t}/{last} · {count} arms · {_current(generation, chosen)} · ETA {_clock(left)}"
        return printable(text)

    if not console.is_terminal:
        yield lambda t, done, total: None, lambda generation: say_plain(line(generation))
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task(f"{experiment.name}, {count} arms", total=(last + 1) * per_generation)

        def tick(t: int, done: int, total: int) -> None:
            bar.update(task, completed=t * total + done)

        yield tick, lambda generation: bar.console.print(line(generation), markup=False)


def _current(generation: Generation, chosen: Sequence[Arm]) -> str:
    """Return the first metric in short, its mean over the seeds of every setting."""
    name, records = next(iter(generation.records[0]["metrics"])), {r["arm"]: r for r in generation.records}
    values = {i: records[arm.index]["metrics"][name] for i, arm in enumerate(chosen) if arm.index in records}
    settings = [setting for setting in group(chosen, records) if values.keys() & setting.arms]
    shown = []
    for setting in settings[:_FEW]:
        seen = [math.nan if (value := values[i]) is None else value for i in setting.arms if i in values]
        shown.append(f"{setting.label}: " * (len(settings) > 1) + f"{sum(seen) / len(seen):.3g}")
    return f"{name} {'  '.join(shown)}{' …' if len(settings) > _FEW else ''}"


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{int(seconds):02d}" if hours else f"{minutes}:{int(seconds):02d}"
