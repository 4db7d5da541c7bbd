"""A tracker: a diary that people read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from selfloop import Experiment, Frozen
from selfloop.core.records import Record


class Diary(Frozen):
    """Writes a line of prose for every generation into a file."""

    name: Literal["diary"] = "diary"
    path: str

    def begin(self, run: Path, experiment: Experiment) -> None:
        """Write the heading."""
        Path(self.path).write_text(f"{experiment.name}\n", encoding="utf-8")

    def generation(self, t: int, records: Sequence[Record]) -> None:
        """Write how many arms are alive."""
        alive = sum(record["status"] == "ok" for record in records)
        with open(self.path, "a", encoding="utf-8") as diary:
            diary.write(f"generation {t}: {alive} of {len(records)} arms are well\n")

    def end(self) -> None:
        """There is nothing to close."""
