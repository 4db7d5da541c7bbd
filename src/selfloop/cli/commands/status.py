"""Say how far a run is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfloop.cli.terminal import console, loading, say, show
from selfloop.core.errors import counted
from selfloop.core.paths import here

if TYPE_CHECKING:
    from selfloop.status import Status

_EVERY = 2.0  # seconds between two looks


def command(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="a run directory", parser=here)],
    watch: Annotated[
        bool, typer.Option("--watch", help="look again every two seconds while somebody is at work")
    ] = False,
) -> int:
    """Say what a run is doing, stack by stack: the fit under way, its loss, and when all will be finished."""
    with loading():
        from selfloop.status import Watch

    seen = Watch(path)
    while True:
        found = seen.look()
        if watch and console.is_terminal:
            console.clear()
        _show(found)
        if not watch or found.finished or found.at_work is False:
            return 0
        time.sleep(_EVERY)


def _show(found: Status) -> None:
    from selfloop.cli.display import all_done, clock, shown_left

    last, of = max(found.last, 0), found.run.experiment.generations
    if found.finished:
        say(f"{found.run.path} is finished: {all_done(of)}.")
        _failures(found)
        return
    planned = counted(of, "retraining")
    done = f"{last} of {planned} are done" if found.last >= 0 else f"none of {planned} is done yet"
    some = found.run.present > of  # its last generation is there, and not of all arms
    if some:
        done = f"{len(found.run.manifest(of)['stacks'])} of {len(found.run.stacks)} stacks are done with {planned}"
    say(f"{found.run.path}: {found.run.experiment.name}, {counted(len(found.run.arms), 'arm')}; {done}")
    _failures(found)
    if found.at_work is False:
        if found.error:
            say(f"It ended in an error: {found.error}")
        goes_on = ("Once that is put right, the" if found.error else "The") + " same run command goes on with it"
        shard = ", or, if it is a shard, selfloop merge joins it with the others" if some else ""
        say(f"Nobody is at work on it: its lock is free. {goes_on}{shard}.")
    elif found.at_work is None:
        say(f"{found.who} began it, and last gave a sign of life {clock(found.age)} ago: it cannot be seen from here.")
    else:
        say(f"At work: {found.who or 'a process that its log does not name'}")
        say(f"ETA {shown_left(found.left)}" if found.left is not None else "ETA: nothing to tell it from yet")
    rows = [
        (
            str(each.stack),
            _arms(each.arms),
            str(each.generation),
            {"": "–", "done": "done, waits for the others"}.get(each.stage, each.stage),
            f"{each.step}/{each.steps}" if each.steps else "–",
            "–" if each.rate is None else f"{each.rate:.3g}",
            _losses(list(each.loss.values())),
            f"{each.where}, {clock(each.age)} ago" if each.where else "–",
        )
        for each in found.work
    ]
    if rows:
        show(("stack", "arms", "generation", "doing", "step", "steps/s", "loss", "told by"), rows)


def _failures(found: Status) -> None:
    for line in found.run.failures():
        say(f"{line}.")


def _arms(arms: Sequence[int]) -> str:
    numbers = list(arms)
    whole = numbers == list(range(numbers[0], numbers[-1] + 1)) and len(numbers) > 1
    return f"{numbers[0]}–{numbers[-1]}" if whole else ", ".join(map(str, numbers))


def _losses(values: list[float]) -> str:
    """Return the mean, and between which values the arms' are."""
    if not values:
        return "–"
    mean = f"{sum(values) / len(values):.4g}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.4g} to {max(values):.4g})"
