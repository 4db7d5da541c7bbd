"""Event files that TensorBoard shows."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import PrivateAttr

from selfloop.arms import Arm
from selfloop.core.paths import expanded
from selfloop.store import Run
from selfloop.trackers.base import TRACKERS
from selfloop.trackers.dashboard import Dashboard, Points, file_name, hyperparameters


@TRACKERS.register
class TensorBoard(Dashboard):
    """Event files for TensorBoard, a run per arm; steps are generations, those of losses gradient steps.

    Attributes:
        path: the folder that gets one named as the run; None: ``tensorboard`` in the run directory.
    """

    name: Literal["tensorboard"] = "tensorboard"
    path: str | None = None

    package: ClassVar[str] = "tensorboard"
    _folder: Path = PrivateAttr()
    _writers: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def place(self) -> str:
        """The folder."""
        return "" if self.path is None else str(expanded(self.path).absolute())

    def start(self, run: Run, note: dict[str, Any]) -> None:
        """Go on in the folder of this run, or take one that nothing is in."""
        self._writers = {}
        if self.path is None:
            self._folder = run.path / "tensorboard"
            return
        parent, count, name = Path(self.place), 1, run.path.absolute().name
        while "folder" not in note and (parent / name).exists():
            count += 1
            name = f"{run.path.absolute().name}-{count}"
        self._folder = parent / note.setdefault("folder", name)

    def _writer(self, arm: Arm) -> Any:
        if arm.key not in self._writers:
            from torch.utils.tensorboard import SummaryWriter
            from torch.utils.tensorboard.summary import hparams

            folder, summaries = self._folder / file_name(arm), cast(Callable[..., Any], hparams)
            new = not folder.exists()
            writer: Any = SummaryWriter(str(folder))
            self._writers[arm.key] = writer
            if new:
                settings = {k: str(v) if v in (math.inf, -math.inf) else v for k, v in hyperparameters(arm).items()}
                metrics = dict.fromkeys(arm.experiment.metrics, 0.0)
                for summary in summaries(settings, metrics)[:2]:
                    writer.file_writer.add_summary(summary)
        return self._writers[arm.key]

    def metrics(self, arm: Arm, t: int, values: Mapping[str, float]) -> None:
        """Write a scalar for each."""
        writer = self._writer(arm)
        for name, value in values.items():
            writer.add_scalar(name, value, t)
        writer.flush()

    def losses(self, arm: Arm, name: str, points: Points) -> None:
        """Write a scalar for each point."""
        for step, loss in points:
            self._writer(arm).add_scalar(name, loss, step)

    def picture(self, arm: Arm, t: int, pixels: NDArray[np.uint8]) -> None:
        """Write the picture."""
        self._writer(arm).add_image("samples", pixels, t, dataformats="HWC")

    def stop(self, run: Run, report: Path | None) -> None:
        """Lay the report beside the events, say where it is, and close the files."""
        with contextlib.ExitStack() as closing:
            for writer in self._writers.values():
                closing.callback(writer.close)
            if report is not None:
                copy = self._folder / "report.html"
                shutil.copyfile(report, copy)
                writer = next(iter(self._writers.values()))
                writer.add_text("report", f"[{copy}]({copy.absolute().as_uri()})", run.last)
