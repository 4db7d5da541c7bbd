"""How far a run is, while it runs: on the terminal, in lines, and in a file for Prometheus."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn

from selfloop.analysis.curves import group
from selfloop.arms import Arm, arms, stacks
from selfloop.cli.terminal import console, say_plain
from selfloop.core.errors import SelfloopError, as_known, counted, printable
from selfloop.core.files import write_bytes
from selfloop.experiment import Experiment
from selfloop.runner import Generation
from selfloop.status import Left, Status, Watch
from selfloop.store import Run

_FEW = 6  # settings of which a line of progress tells
_LOOKS = 1.0  # seconds between two looks at what the fits say of themselves
_SILENT = 30.0  # seconds after which a line is printed while a generation is under way


@contextmanager
def display(
    experiment: Experiment, folder: Path, metrics_file: Path | None = None
) -> Iterator[tuple[Callable[[int, int, int], None], Callable[[Generation], None]]]:
    """Show progress: a bar on a terminal, elsewhere a plain line per generation, and now and then between them.

    Args:
        experiment: what is run.
        folder: the run directory.
        metrics_file: that is written for Prometheus; None: none.
    """
    chosen = arms(experiment)
    count, last = len(chosen), experiment.generations
    looked, spoke = _Looks(folder), time.monotonic()
    start = _start(experiment, folder)

    def line(generation: Generation) -> str:
        nonlocal spoke
        spoke = time.monotonic()
        found = looked.now()
        some = len(generation.records)
        who = counted(count, "arm") if some == count else f"{some:,} of {counted(count, 'arm')}"
        words = f"{who} · {_current(generation, chosen)} · ETA {_left(found)}"
        text = f"generation {generation.t}/{last} · {words}"
        return printable(text)

    def between(found: Status) -> str | None:
        """Return a line on a generation under way, if it is time for one."""
        nonlocal spoke
        if time.monotonic() - spoke < _SILENT:
            return None
        spoke = time.monotonic()
        return printable(f"generation {found.last + 1}/{last} under way{_fits(found)} · ETA {_left(found)}")

    def write(found: Status) -> None:
        if metrics_file is not None:
            with suppress(OSError):  # a disk's fault is none of the run's
                write_bytes(metrics_file, prometheus(found).encode())

    if not console.is_terminal:
        begun, speaking = False, threading.Lock()

        def speak(text: str) -> None:
            """Print a line, after the one that says what is begun."""
            nonlocal begun
            with speaking:
                if not begun:
                    begun = True
                    say_plain(printable(f"{experiment.name}: {start}; a line follows every generation"))
                if text:
                    say_plain(text)

        def told(found: Status) -> None:
            write(found)
            own = found.at_work and found.who.endswith(f"process {os.getpid()}")
            if own and not found.finished:  # nothing is refused any more
                speak(between(found) or "")

        with looked.meanwhile(told):
            yield lambda t, done, total: None, lambda generation: speak(line(generation))
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn())
    with Progress(*columns, TextColumn("{task.fields[left]}"), console=console) as bar:
        per_generation = len(stacks(chosen))
        task = bar.add_task(f"{experiment.name}, {counted(count, 'arm')}", total=(last + 1) * per_generation, left="")

        def tick(t: int, done: int, total: int) -> None:
            bar.update(task, completed=t * total + done)

        def drawn(found: Status) -> None:
            write(found)
            bar.update(task, left=printable(f"ETA {_left(found)}{_fits(found)}"))

        with looked.meanwhile(drawn):
            yield tick, lambda generation: bar.console.print(line(generation), markup=False)


def _start(experiment: Experiment, folder: Path) -> str:
    """Return what a run is about to do: begin, go on, or grow."""
    with suppress(SelfloopError):  # which the run itself will say
        there = Run.open(folder)
        if there.last >= 0:
            return f"goes on after generation {there.last} of {experiment.generations}"
    return "begins"


class _Looks:
    """Looks at a run from a thread beside it, once there is one."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._over, self._one = folder, threading.Event(), threading.Lock()
        self._watch: Watch | None = None

    def now(self) -> Status | None:
        """Return how far it is, None where that cannot be seen."""
        with self._one, suppress(SelfloopError, OSError):
            self._watch = self._watch or Watch(self._folder)
            return self._watch.look()
        return None

    @contextmanager
    def meanwhile(self, told: Callable[[Status], None]) -> Iterator[None]:
        """Hand over what is seen every second, and once more at the end."""

        def look() -> None:
            while not self._over.wait(_LOOKS):
                if (found := self.now()) is not None:
                    told(found)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            if (found := self.now()) is not None:
                told(found)


def prometheus(found: Status) -> str:
    """Return how far a run is, in Prometheus' text format."""
    name = as_known(str(found.run.path.absolute())).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    run, t = f'run="{name}"', found.last + 1
    done = [len(each.arms) for each in found.work if each.stage == "done"]
    values: list[tuple[str, str, list[tuple[str, float]]]] = [
        ("generation", "The last generation that is committed, -1 before any.", [(run, found.last)]),
        ("generations", "Retrainings in all.", [(run, found.run.experiment.generations)]),
        ("finished", "Whether all are done.", [(run, found.finished)]),
        ("arms", "Arms in all.", [(run, len(found.run.arms))]),
        (
            "arms_done",
            "Arms that are done with the generation under way.",
            [(f'{run},generation="{t}"', sum(done))] * (not found.finished),
        ),
        (
            "steps_per_second",
            "Gradient steps a second of the fit under way.",
            [(f'{run},stack="{each.stack}"', each.rate) for each in found.work if each.rate is not None],
        ),
        ("loss", "The loss of an arm, last seen.", [(f'{run},arm="{a}"', x) for a, x in sorted(losses(found).items())]),
        ("seconds_left", "Until the run is finished, as expected.", [(run, found.left.expected)] if found.left else []),
    ]
    lines = []
    for what, help_text, series in values:
        lines += [f"# HELP selfloop_{what} {help_text}", f"# TYPE selfloop_{what} gauge"]
        lines += [f"selfloop_{what}{{{labels}}} {float(value):.17g}" for labels, value in series]
    return "\n".join(lines) + "\n"


def losses(found: Status) -> dict[int, float]:
    """Return the loss by arm: that of the fit under way, else of the last generation's."""
    ended = {}
    if found.last >= 0:
        for each in found.run.losses(min(found.last, found.run.last)):
            ended[each.arm] = float(each.loss[-1])
    now = {arm: loss for each in found.work for arm, loss in each.loss.items()}
    return {arm: loss for arm, loss in (ended | now).items() if math.isfinite(loss)}


def _fits(found: Status) -> str:
    """Return how far fits are, in a few words; "" where none has said."""
    fits = [each for each in found.work if each.steps and each.stage == "fit"]
    if not fits:
        return ""
    step, steps = sum(each.step for each in fits), sum(each.steps for each in fits)
    rate = sum(each.rate or 0.0 for each in fits)
    seen = [loss for each in fits for loss in each.loss.values()]
    loss = f" · loss {sum(seen) / len(seen):.3g}" if seen else ""
    return f" · step {step}/{steps} · {rate:.3g} steps/s{loss}"


def _left(found: Status | None) -> str:
    if found is not None and found.finished:
        return clock(0)
    return "not known yet" if found is None or found.left is None else shown_left(found.left)


def all_done(retrainings: int) -> str:
    """Return in words that as many retrainings are done as were to be."""
    return "its only retraining is done" if retrainings == 1 else f"all {retrainings} retrainings are done"


def shown_left(left: Left) -> str:
    """Return what is left in hours, minutes and seconds, and between what it is likely to be."""
    return f"{clock(left.expected)} ({clock(left.low)} to {clock(left.high)})"


def _current(generation: Generation, chosen: Sequence[Arm]) -> str:
    """Return the first metric in short, its mean over the seeds of every setting."""
    name, records = next(iter(generation.records[0]["metrics"])), {r["arm"]: r for r in generation.records}
    there = [arm for arm in chosen if arm.index in records]  # of a shard, its own: the others would have no names
    values = [records[arm.index]["metrics"][name] for arm in there]
    settings = group(there, records)
    shown = []
    for setting in settings[:_FEW]:
        seen = [math.nan if (value := values[i]) is None else value for i in setting.arms]
        shown.append(f"{setting.label}: " * (len(settings) > 1) + f"{sum(seen) / len(seen):.3g}")
    return f"{name} {'  '.join(shown)}{' …' if len(settings) > _FEW else ''}"


def clock(seconds: float) -> str:
    """Return seconds as h:mm:ss or m:ss."""
    if not math.isfinite(seconds):
        return "long"
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{int(seconds):02d}" if hours else f"{minutes}:{int(seconds):02d}"
