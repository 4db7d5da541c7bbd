"""Runs of Weights & Biases, offline."""

from __future__ import annotations

import contextlib
import math
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PrivateAttr

from selfloop.arms import Arm
from selfloop.core.paths import expanded
from selfloop.store import Run
from selfloop.trackers.base import TRACKERS
from selfloop.trackers.dashboard import Dashboard, Points, hyperparameters, name_of

_STEP = "training step"  # against which losses are drawn


@TRACKERS.register
class WandB(Dashboard):
    """Offline runs for Weights & Biases, one per arm, grouped by loop; ``wandb sync`` uploads them, and nothing else.

    Attributes:
        path: the folder that gets a folder ``wandb``.
        project: they are runs of; None: the experiment's name.
    """

    name: Literal["wandb"] = "wandb"
    path: str = "."
    project: str | None = None

    package: ClassVar[str] = "wandb"
    _group: str = PrivateAttr()
    _runs: dict[str, Any] = PrivateAttr(default_factory=dict)
    _here: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def place(self) -> str:
        """The folder."""
        return str(expanded(self.path).absolute())

    def start(self, run: Run, note: dict[str, Any]) -> None:
        """Remember how the loop is called, and what was told."""
        self._group, self._runs, self._here = run.path.absolute().name, {}, note
        note.setdefault("runs", {})

    def _of(self, arm: Arm) -> Any:
        """Return an arm's run; each time the loop goes on it is begun anew by the same id, as offline runs are."""
        if arm.key not in self._runs:
            import wandb

            known = self._here["runs"].setdefault(arm.key, {"id": uuid.uuid4().hex[:8], "rows": 0})
            self._runs[arm.key] = run = wandb.init(
                mode="offline",
                dir=self.place,
                project=self.project or arm.experiment.name,
                group=self._group,
                name=name_of(arm),
                id=known["id"],
                config={k: str(v) if v in (math.inf, -math.inf) else v for k, v in hyperparameters(arm).items()},
                reinit="create_new",
                settings=wandb.Settings(
                    console="off",
                    silent=True,
                    disable_git=True,
                    save_code=False,
                    x_disable_meta=True,
                    x_disable_stats=True,
                ),
            )
            run.define_metric("generation", hidden=True)
            run.define_metric("*", step_metric="generation")
            run.define_metric("loss*", step_metric=_STEP)
            self._save()
        return self._runs[arm.key]

    def _log(self, arm: Arm, values: Mapping[str, Any]) -> None:
        run, known = self._of(arm), self._here["runs"][arm.key]
        run.log(dict(values), step=known["rows"], commit=True)
        known["rows"] += 1

    def metrics(self, arm: Arm, t: int, values: Mapping[str, float]) -> None:
        """Log all, beside the generation."""
        self._log(arm, {"generation": t, **values})

    def losses(self, arm: Arm, name: str, points: Points) -> None:
        """Log each point, beside its step."""
        for step, loss in points:
            self._log(arm, {_STEP: step, name: loss})

    def picture(self, arm: Arm, t: int, pixels: NDArray[np.uint8]) -> None:
        """Log the picture, beside its generation."""
        import wandb

        self._log(arm, {"generation": t, "samples": wandb.Image(pixels)})

    def stop(self, run: Run, report: Path | None) -> None:
        """Log the report as an artifact of the first arm's run, and finish the runs."""
        import wandb

        with contextlib.ExitStack() as closing:
            for each in self._runs.values():
                closing.callback(each.finish)
            if report is not None:
                artifact = wandb.Artifact(f"report-{self._here['runs'][next(iter(self._runs))]['id']}", type="report")
                artifact.add_file(str(report))
                next(iter(self._runs.values())).log_artifact(artifact)
