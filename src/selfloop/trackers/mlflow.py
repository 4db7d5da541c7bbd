"""Runs of MLflow."""

from __future__ import annotations

import os
import re
import time
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

_LONGEST = 500  # characters of a setting that every store takes
_AT_ONCE = 1000  # metrics, as MLflow takes them


@TRACKERS.register
class MLflow(Dashboard):
    """Runs of an MLflow experiment: one of the loop, which has the report, and below it one of each arm.

    Attributes:
        path: a folder on this machine, or the address of a store, as ``sqlite:///mlflow.db``.
    """

    name: Literal["mlflow"] = "mlflow"
    path: str = "mlruns"

    package: ClassVar[str] = "mlflow"
    _client: Any = PrivateAttr()
    _experiment: str = PrivateAttr()
    _here: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def place(self) -> str:
        """The address of the store."""
        return self.path if "://" in self.path else expanded(self.path).absolute().as_uri()

    def start(self, run: Run, note: dict[str, Any]) -> None:
        """Go on with the runs of this loop, or begin them."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        if self.place.startswith("file:"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # else newer versions want a data base
        from mlflow.tracking import MlflowClient

        self._client, self._here = MlflowClient(tracking_uri=self.place), note
        name = run.experiment.name
        found = self._client.get_experiment_by_name(name)
        self._experiment = found.experiment_id if found is not None else self._client.create_experiment(name)
        if "loop" not in note:
            note["loop"], note["runs"] = self._begin(run.path.absolute().name, {"selfloop.run": run.identity}), {}
        for of in (note["loop"], *note["runs"].values()):
            self._client.update_run(of, status="RUNNING")

    def _begin(self, name: str, tags: Mapping[str, str]) -> str:
        made = self._client.create_run(self._experiment, run_name=name, tags=dict(tags))
        return str(made.info.run_id)

    def _of(self, arm: Arm) -> str:
        """Return the id of an arm's run, begun if it is not there."""
        runs: dict[str, str] = self._here["runs"]
        if arm.key not in runs:
            runs[arm.key] = self._begin(name_of(arm), {"mlflow.parentRunId": self._here["loop"]})
            from mlflow.entities import Param

            settings = hyperparameters(arm).items()
            params = [Param(_plain(key), str(value)[:_LONGEST]) for key, value in settings]
            for start in range(0, len(params), 100):
                self._client.log_batch(runs[arm.key], params=params[start : start + 100])
            self._save()
        return runs[arm.key]

    def metrics(self, arm: Arm, t: int, values: Mapping[str, float]) -> None:
        """Log each at the step that is the generation."""
        self._log(arm, [(name, value, t) for name, value in values.items()])

    def losses(self, arm: Arm, name: str, points: Points) -> None:
        """Log each point at its step."""
        self._log(arm, [(name, loss, step) for step, loss in points])

    def _log(self, arm: Arm, values: list[tuple[str, float, int]]) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        logged = [Metric(_plain(name), value, now, step) for name, value, step in values]
        for start in range(0, len(logged), _AT_ONCE):
            self._client.log_batch(self._of(arm), metrics=logged[start : start + _AT_ONCE])

    def picture(self, arm: Arm, t: int, pixels: NDArray[np.uint8]) -> None:
        """Log the picture at its generation."""
        self._client.log_image(self._of(arm), pixels, key="samples", step=t, synchronous=True)

    def stop(self, run: Run, report: Path | None) -> None:
        """Log the report, and end the runs."""
        if report is not None:
            self._client.log_artifact(self._here["loop"], str(report), "report")
        for of in (*self._here["runs"].values(), self._here["loop"]):
            self._client.set_terminated(of, status="FINISHED" if run.finished else "KILLED")


def _plain(name: str) -> str:
    """Return a name of which MLflow takes every character."""
    return re.sub(r"[^\w\-. /]", "_", name)
