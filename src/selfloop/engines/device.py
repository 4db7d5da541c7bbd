"""Where a fit runs, and the file that a killed one goes on from."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from selfloop.core.files import load_sealed, save_sealed
from selfloop.core.samples import State
from selfloop.engines.journal import Course, Journal
from selfloop.engines.team import Team

_PARTS = 2  # of a stack that are fitted apart: arms whose rows are weighed, and the others


class Checkpoint:
    """A fit under way, as a file: written every so often, read when the same fit is begun again.

    Args:
        path: of the file; there is none before the first time it is due, and never where this is None.
        every: seconds between two writes.
        course: what is told of the fit; None where nobody listens.
    """

    def __init__(self, path: Path | None, every: float, course: Course | None = None) -> None:
        self._path, self._every, self._last, self.course = path, every, time.monotonic(), course

    def due(self) -> bool:
        """Whether it is time to write."""
        return self._path is not None and time.monotonic() - self._last >= self._every

    def write(self, tensors: State) -> None:
        """Replace what the file holds, in one piece."""
        assert self._path is not None
        save_sealed(self._path, tensors, {})
        self._last = time.monotonic()

    def read(self) -> State | None:
        """Return what was last written; None where nothing was.

        Raises:
            RunError: the file is damaged.
        """
        if self._path is None or not self._path.exists():
            return None
        return load_sealed(self._path, ": move it elsewhere, and the fit that it belongs to begins again")[0]


@dataclass(frozen=True)
class Device:
    """Where a fit runs.

    Attributes:
        team: this process and those that share its fits; its device is that of networks of images, and all else is
            computed on the CPU.
        checkpoints: how the names of files begin in which fits under way are kept, one an arm; None keeps none.
        every: seconds between two writes of such a file.
        first: how many fits of the stack come before those that run now.
        journal: to which fits tell how they go; None where nobody listens.
        rows: of the stack, those whose arms are fitted.
    """

    team: Team = field(default_factory=Team)
    checkpoints: Path | None = None
    every: float = 600.0
    first: int = 0
    journal: Journal | None = None
    rows: tuple[int, ...] = ()

    def checkpoint(self, arm: int) -> Checkpoint | None:
        """Return the file of one arm's fit, by its row in the stack; None where it is neither kept nor listened to."""
        if self.checkpoints is None:
            return None if self.journal is None else Checkpoint(None, math.inf, self._course(arm))
        # Only one process of a team writes; all read, and none writes before all have taken a step.
        every = self.every if self.team.rank == 0 else math.inf
        path = self.checkpoints.with_name(f"{self.checkpoints.name}-{self.first + arm:03d}.safetensors")
        return Checkpoint(path, every, self._course(arm))

    def _course(self, arm: int) -> Course | None:
        if self.journal is None or not self.rows:
            return None
        fit, row = divmod(self.first + arm, len(self.rows))
        return Course(self.journal, self.rows, row, fit)

    def of(self, rows: Sequence[int]) -> Device:
        """Return the same device for some of the rows that are fitted, by their numbers among these."""
        return replace(self, rows=tuple(self.rows[row] for row in rows)) if self.rows else self

    def failed(self, why: str) -> None:
        """Note what the models of these rows raised, which end their arms."""
        if self.journal is not None:
            self.journal.failures |= dict.fromkeys(self.rows, why)

    def apart(self, part: int) -> Device:
        """Return the same device, whose fits are kept apart from those of other parts of a stack."""
        if part == 0 or self.checkpoints is None:
            return self
        return replace(self, checkpoints=self.checkpoints.with_name(f"{self.checkpoints.name}-{part}"))

    def after(self, fits: int) -> Device:
        """Return the same device for further fits of a stack, after so many."""
        return replace(self, first=self.first + fits)


def fits(checkpoints: Path, many: int) -> Iterator[Path]:
    """Yield the files that a stack's fits may have been kept in, by how their names begin and how many there are."""
    for part in range(_PARTS):
        apart = Device(checkpoints=checkpoints).apart(part).checkpoints
        assert apart is not None
        yield from (apart.with_name(f"{apart.name}-{fit:03d}.safetensors") for fit in range(many))


HERE = Device()
"""This process alone, on the CPU; a killed fit begins again."""
