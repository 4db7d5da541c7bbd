"""JSON lines in a file of the user's choice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from selfloop.core.config import Frozen
from selfloop.core.paths import expanded
from selfloop.core.records import Record
from selfloop.experiment import Experiment
from selfloop.trackers.base import TRACKERS


@TRACKERS.register
class Lines(Frozen):
    """Appends the records of every generation to a file, one line of JSON each, with the run's name in it.

    Several runs may write to one file, one after the other.

    Attributes:
        path: of the file.
    """

    name: Literal["lines"] = "lines"
    path: str
    _run: str = ""

    def begin(self, run: Path, experiment: Experiment) -> None:
        """Remember the run's directory."""
        object.__setattr__(self, "_run", str(run))

    def generation(self, t: int, records: Sequence[Record]) -> None:
        """Append a line per arm."""
        with open(expanded(self.path), "a", encoding="utf-8") as file:
            file.writelines(json.dumps({"run": self._run} | record, ensure_ascii=False) + "\n" for record in records)

    def end(self) -> None:
        """There is nothing to let go of."""
