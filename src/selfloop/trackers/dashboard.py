"""What trackers that write for a dashboard have in common: whom they tell of what, and what they have told already.

What they tell is read from the run directory once a generation is there. So a run that goes on, or one that is tracked
from some generation on, is told of from where its last telling ended, and no generation twice.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PrivateAttr

from selfloop.arms import Arm
from selfloop.core.config import Frozen
from selfloop.core.files import write_bytes
from selfloop.core.records import Record
from selfloop.core.settings import dotted, in_words
from selfloop.experiment import Experiment
from selfloop.store import Run
from selfloop.store.losses import Losses
from selfloop.trackers.base import TRACKERS

NOTES = "trackers.json"
"""The file of a run directory that says which generations of which arms were told to whom."""

_POINTS = 200  # of the losses of a fit that are told; the run has all
_APART = ("name", "description", "grid", "seeds", "figures", "metrics")  # settings that are the same for all arms

Points = list[tuple[int, float]]


class Dashboard(Frozen, ABC):
    """Tells a dashboard of every arm: its settings, metrics, losses and pictures, and at the end of the report.

    A generation is noted as told before it is: one at which the process is killed is told in part, and never twice.
    """

    package: ClassVar[str]
    _path: Path = PrivateAttr()
    _run: Run | None = PrivateAttr(default=None)
    _note: dict[str, Any] = PrivateAttr(default_factory=dict)
    _steps: dict[tuple[str, int], int] = PrivateAttr(default_factory=dict)
    _canvas: dict[int, Any] = PrivateAttr(default_factory=dict)

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it writes, as settings have it."""

    @abstractmethod
    def start(self, run: Run, note: dict[str, Any]) -> None:
        """Begin, or go on after what the note says; what has to be known then is left in it."""

    @abstractmethod
    def metrics(self, arm: Arm, t: int, values: Mapping[str, float]) -> None:
        """Tell of the metrics of generation t."""

    @abstractmethod
    def losses(self, arm: Arm, name: str, points: Points) -> None:
        """Tell of the losses of a fit, by the number of steps since generation 0 began."""

    @abstractmethod
    def picture(self, arm: Arm, t: int, pixels: NDArray[np.uint8]) -> None:
        """Show samples of generation t, pixels (height, width, 3)."""

    @abstractmethod
    def stop(self, run: Run, report: Path | None) -> None:
        """Let go; ``report`` is the page of a finished run, if it has one."""

    def begin(self, run: Path, experiment: Experiment) -> None:
        """Remember the run; nothing is written before a generation is there."""
        self._path, self._run = run, None
        self._steps, self._canvas = {}, {}

    def generation(self, t: int, records: Sequence[Record]) -> None:
        """Tell of a generation, and of those before it that were not told."""
        run = Run.open(self._path)
        told: dict[str, int] = self._noted(run).setdefault("told", {})
        arms = [run.arms[record["arm"]] for record in records]
        first = {arm.key: told.get(arm.key, -1) + 1 for arm in arms}
        told |= {arm.key: max(t, told.get(arm.key, -1)) for arm in arms}
        if self._run is None:
            self.start(run, self._note)
        self._save()
        self._run = run
        for s in range(min(first.values(), default=t), t + 1):
            found = {record["arm"]: record for record in run.everything_of(s)}
            losses = run.losses(s)
            for arm in arms:
                if first[arm.key] <= s and arm.index in found:
                    self._tell(run, arm, s, found[arm.index], [each for each in losses if each.arm == arm.index])

    def end(self) -> None:
        """Add the report of a finished run, where it has one, and let go."""
        if self._run is None:
            return
        run, page = Run.open(self._path), self._path / "report" / "index.html"
        # One that was written before the last generation shows another state of the run.
        manifest = run.folder(run.last) / "manifest.json"
        new = run.finished and page.exists() and page.stat().st_mtime_ns >= manifest.stat().st_mtime_ns
        self.stop(run, page if new else None)
        self._save()
        self._run = None

    def _noted(self, run: Run) -> dict[str, Any]:
        """Return the note on this dashboard, of as much as is still there."""
        if self._run is None:
            self._note = self._all().get(self._key, {})
        return self._note

    @property
    def _key(self) -> str:
        return f"{TRACKERS.name_of(self)} {self.place}"

    def _all(self) -> dict[str, Any]:
        file = self._path / NOTES
        found: dict[str, Any] = json.loads(file.read_bytes()) if file.exists() else {}
        return found

    def _save(self) -> None:
        write_bytes(self._path / NOTES, json.dumps(self._all() | {self._key: self._note}, indent=1).encode())

    def _tell(self, run: Run, arm: Arm, t: int, record: Record, losses: Sequence[Losses]) -> None:
        for each in losses:
            before = self._before(run, arm, t, each.fit)
            name = "loss" if each.fit == 0 else f"loss of model {each.fit + 1}"
            points = [(before + step, value) for step, value in _thinned(each)]
            if points:
                self.losses(arm, name, points)
            self._steps[arm.key, each.fit] = before + int(each.step[-1])
        values = {name: value for name, value in record["metrics"].items() if value is not None}
        if values:
            self.metrics(arm, t, values)
        if record["status"] == "ok" and self._is_shown(run, arm):
            canvas = self._canvas[arm.index]
            self.picture(arm, t, canvas.draw(run.samples(t, arm.index), run.labels(t, arm.index)).pixels)

    def _before(self, run: Run, arm: Arm, t: int, fit: int) -> int:
        """Return how many steps an arm's fits took before generation t."""
        if (arm.key, fit) not in self._steps:
            earlier = (each for s in range(t) for each in run.losses(s) if (each.arm, each.fit) == (arm.index, fit))
            self._steps[arm.key, fit] = sum(int(each.step[-1]) for each in earlier)
        return self._steps[arm.key, fit]

    def _is_shown(self, run: Run, arm: Arm) -> bool:
        """Whether an arm's samples are shown: images or points of a plane, of the first seed of its setting."""
        if arm.index in self._canvas:
            return self._canvas[arm.index] is not None
        from selfloop.pictures import Canvas, pictured  # not before: matplotlib comes with it

        real, first = run.real(arm.index), next(each for each in run.arms if each.plain == arm.plain)
        plane = len(real.events.shape) > 1 or real.events.shape == (2,)
        self._canvas[arm.index] = Canvas.of(real) if first is arm and plane and pictured(real.events) else None
        return self._canvas[arm.index] is not None


def name_of(arm: Arm) -> str:
    """Return what an arm is called, "lam=0.5 seed=0": the grid's settings by their last words, and the seed."""
    last = [key.rpartition(".")[2] for key in arm.settings]
    short = [word if last.count(word) == 1 else key for key, word in zip(arm.settings, last, strict=True)]
    values = (in_words(value) for value in arm.settings.values())
    words = [f"{key}={value}" for key, value in zip(short, values, strict=True)]
    return " ".join([*words, f"seed={arm.seed}"])


def file_name(arm: Arm) -> str:
    """Return the same as the name of a folder, with the arm's number where it does not fit into one."""
    whole = name_of(arm).replace("∞", "inf").replace("−", "-").replace(" ", ",")
    plain = re.sub(r"[^\w.,=+-]+", "_", whole, flags=re.ASCII)
    return plain if plain == whole and len(plain) <= 100 else f"{plain[:100]},arm={arm.index}"


def hyperparameters(arm: Arm) -> dict[str, str | bool | int | float]:
    """Return an arm's settings by dotted names; what is no number or word is written as words."""
    plain = {key: value for key, value in arm.experiment.model_dump().items() if key not in _APART}
    told = ((key, value) for key, value in dotted(plain) if value is not None)
    return {"seed": arm.seed} | {k: v if isinstance(v, str | bool | int | float) else in_words(v) for k, v in told}


def _thinned(each: Losses) -> Points:
    """Return some points of the losses of a fit: means over equally many of those that are kept, without NaN."""
    size = -(-len(each.step) // _POINTS)
    ends = [min(start + size, len(each.step)) for start in range(0, len(each.step), size)]
    points = (
        (int(each.step[end - 1]), float(each.loss[(end - 1) // size * size : end].double().mean())) for end in ends
    )
    return [(step, loss) for step, loss in points if loss == loss]
