"""What fits say of themselves: the loss of their steps, which is kept, and how far they are, for whoever looks."""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selfloop.core.samples import State
from selfloop.engines.compiling import compiling

POINTS = 1000
"""Points that are kept of the losses of one fit at most: beyond so many steps, means of equally many steps each."""

_EVERY = 1.0  # seconds between two tellings, and before the first: what is over sooner needs none

SUMS, OPEN = "fit.losses", "fit.losses.open"
"""Leaves of a fit under way: the sums of the points so far, (R, p), and losses that are in none of them yet, (R, k)."""

_BLOCK = 256  # steps whose losses are added up at once, or a few more: one by one it costs as much as a small step


def put(path: Path, told: dict[str, Any]) -> None:
    """Replace what a file says, which is for people and not checked: no fault of a disk may stop a fit."""
    half = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        half.write_text(json.dumps(told), encoding="utf-8")
        os.replace(half, path)
    except OSError:
        half.unlink(missing_ok=True)


def width(steps: int) -> int:
    """Return how many steps a point of a fit of so many stands for; the last may stand for fewer."""
    return max(1, math.ceil(steps / POINTS))


@dataclass(frozen=True)
class Took:
    """How long a stack's generation was at work, in seconds without what numba compiled, which it does once.

    Attributes:
        fit: from its begin to the end of its fits.
        rest: of samples and metrics.
        first: whether nothing ran in its process before, so that what is imported when it is used is among it.
    """

    fit: float
    rest: float
    first: bool = False


@dataclass
class Journal:
    """What the fits of one stack's generation say of themselves.

    Attributes:
        tell: is told how far they are, once a second at most; None: nobody is.
        about: what else it is told.
        arms: indices of the stack's arms.
        curves: of the losses, by row of the stack and number of the fit: how many steps it was to take, and the points.
        failures: by row of the stack, what a model raised that could not be fitted or sampled any more.
    """

    tell: Callable[[dict[str, Any]], None] | None = None
    about: dict[str, Any] = field(default_factory=dict)
    arms: Sequence[int] = ()
    curves: dict[tuple[int, int], tuple[int, Tensor]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    _begun: float = field(default_factory=lambda: time.time())
    _last: float = field(default_factory=lambda: time.monotonic())
    _told: dict[str, Any] = field(default_factory=dict)
    _start: float = field(default_factory=lambda: time.monotonic() - compiling.seconds())
    _fitted: float | None = None
    _first: bool = False

    def __post_init__(self) -> None:
        self._first, compiling.nothing_ran = compiling.nothing_ran, False

    @property
    def worked(self) -> float:
        """Seconds since it was begun, without what was compiled meanwhile."""
        return time.monotonic() - compiling.seconds() - self._start

    @property
    def took(self) -> Took | None:
        """How long all of it was at work by now; None where nothing was fitted."""
        return None if self._fitted is None else Took(self._fitted, self.worked - self._fitted, self._first)

    def due(self) -> bool:
        """Whether it is time to tell."""
        return self.tell is not None and time.monotonic() - self._last >= _EVERY

    def stage(self, name: str) -> None:
        """Say what comes now, if what came before took long enough to be told of."""
        if self._fitted is None:
            self._fitted = self.worked
        if self.tell is not None and time.time() - self._begun >= _EVERY:
            self.say({"stage": name})

    def say(self, more: dict[str, Any]) -> None:
        """Tell what was told before, and more."""
        self._last = time.monotonic()
        self._told |= more
        if self.tell is not None:
            now = {"begun": self._begun, "time": time.time(), "worked": self.worked}
            where = {"pid": os.getpid(), "host": socket.gethostname(), **now}
            self.tell(self.about | where | self._told)

    def tensors(self) -> State:
        """Return the losses as they are stored: ``loss`` (R, F, p) float32 and ``steps`` (R, F) int64; {} without any.

        NaN and 0 stand where an arm has had no such fit, and NaN also where it ended early.
        """
        if not self.curves:
            return {}
        fits = 1 + max(fit for _, fit in self.curves)
        most = max(len(points) for _, points in self.curves.values())
        loss = torch.full((len(self.arms), fits, most), torch.nan)
        steps = torch.zeros(len(self.arms), fits, dtype=torch.int64)
        for (row, fit), (count, points) in self.curves.items():
            loss[row, fit, : len(points)], steps[row, fit] = points, count
        return {"loss": loss, "steps": steps}


class Course:
    """The course of one fit of some of a stack's arms.

    No step waits for a device: losses are added where they are, and looked at once a second, and at the end.

    Args:
        journal: of the stack's generation.
        rows: of the stack, in the order of those that a fit of all of them has.
        row: of these the one that the fit is of, where it is of one.
        fit: its number among the fits that an arm takes.
    """

    def __init__(self, journal: Journal, rows: Sequence[int], row: int, fit: int) -> None:
        self._journal, self._rows, self._row, self._fit = journal, rows, row, fit
        self._points: list[Tensor] = []  # sums, (R, …)
        self._open: list[Tensor] = []  # losses that are in none of them yet

    def begin(self, steps: int, saved: State | None = None) -> None:
        """Begin a fit of so many steps, or go on with one of which this was kept."""
        self._steps, self._width = steps, width(steps)
        self._block = self._width * -(-_BLOCK // self._width)
        self._mark = time.monotonic(), 0
        self._from: int | None = None  # the step at which this process began
        if saved is not None and SUMS in saved:
            self._points = [saved[SUMS]]
        if saved is not None and OPEN in saved:
            self._open = list(saved[OPEN].unbind(1))

    def step(self, step: int, losses: Tensor) -> None:
        """Take note of the losses (R,) before a step."""
        if self._from is None:
            self._from, self._mark = step, (self._mark[0], step)
        self._open.append(losses)
        if (step + 1) % self._block == 0:
            self._close()
        if self._journal.due():
            self._tell(step + 1, losses)

    def _close(self) -> None:
        """Add up the losses that no point has yet, each row by itself and in the order of the steps."""
        rest = torch.stack(self._open, 1)
        whole = rest.shape[1] // self._width * self._width
        for part, size in ((rest[:, :whole], self._width), (rest[:, whole:], rest.shape[1] - whole)):
            if part.shape[1]:
                self._points.append(part.reshape(len(part), -1, size).cumsum(2)[:, :, -1])
        self._open = []

    def _of(self, copies: int) -> Sequence[int]:
        return self._rows if copies == len(self._rows) else self._rows[self._row : self._row + copies]

    def _tell(self, done: int, losses: Tensor) -> None:
        (since, before), now = self._mark, time.monotonic()
        # The first step compiles, and allocates.
        rate = (done - before) / (now - since) if before > (self._from or 0) or done - before > 1 else None
        self._mark = now, done
        arms = [self._journal.arms[row] for row in self._of(len(losses))]
        loss = {str(arm): value for arm, value in zip(arms, losses.tolist(), strict=True) if math.isfinite(value)}
        told = {"stage": "fit", "fit": self._fit, "step": done, "steps": self._steps, "rate": rate, "fitted": arms}
        self._journal.say(told | {"from": self._from, "loss": loss})

    @property
    def state(self) -> State:
        """The leaves from which it goes on."""
        found = {SUMS: torch.cat(self._points, 1)} if self._points else {}
        return found | ({OPEN: torch.stack(self._open, 1)} if self._open else {})

    def end(self) -> None:
        """Leave the losses with the journal; of a fit that ended early, those that there are."""
        taken = sum(part.shape[1] for part in self._points) * self._width + len(self._open)
        if self._open:
            self._close()
        if not self._points:
            return
        sums = torch.cat(self._points, 1).detach().float().cpu()
        counts = torch.full((sums.shape[1],), self._width)
        counts[-1] -= sums.shape[1] * self._width - taken
        for row, points in zip(self._of(len(sums)), sums / counts, strict=True):
            self._journal.curves[row, self._fit] = self._steps, points
