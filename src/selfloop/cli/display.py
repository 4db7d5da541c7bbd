"""How far a run is, while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from selfloop.arms import arms, stacks
from selfloop.cli.terminal import console, say_plain
from selfloop.core.errors import printable
from selfloop.experiment import Experiment
from selfloop.runner import Generation


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
        text = f"generation {generation.t}/{last} · {count} arms · {_current(generation)} · ETA {_clock(left)}"
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


def _current(generation: Generation) -> str:
    """Return the first metric in short, its mean over the seeds of every setting."""
    name = next(iter(generation.records[0]["metrics"]))
    groups: dict[str, list[float]] = {}
    for record in generation.records:
        value = record["metrics"][name]
        named = {"mixing": record["regime"]}  # of a whole regime its name, not its settings
        label = ",".join(str(named.get(key, value)) for key, value in record["settings"].items())
        groups.setdefault(label, []).append(float("nan") if value is None else value)
    shown = [f"{label}: {sum(v) / len(v):.3g}".removeprefix(": ") for label, v in list(groups.items())[:6]]
    return f"{name} {'  '.join(shown)}{' …' if len(groups) > 6 else ''}"


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{int(seconds):02d}" if hours else f"{minutes}:{int(seconds):02d}"
