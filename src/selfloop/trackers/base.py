"""What a tracker is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from selfloop.core.errors import ConfigError, to_install
from selfloop.core.records import Record
from selfloop.core.registry import Family
from selfloop.experiment import Experiment


class Tracker(Protocol):
    """Told of a run by the process that writes it; whatever it raises, the run goes on."""

    def begin(self, run: Path, experiment: Experiment) -> None:
        """Make ready; ``run`` is the directory."""

    def generation(self, t: int, records: Sequence[Record]) -> None:
        """Take note of a generation that is safe on disk."""

    def end(self) -> None:
        """Let go of what :meth:`begin` took; the run may be finished or not."""


TRACKERS: Family[type[Tracker]] = Family("tracker", "selfloop.trackers", {"begin": 2, "generation": 2, "end": 0})


def refuse_missing(trackers: Sequence[Tracker]) -> None:
    """Refuse a tracker whose package, which it names by ``package``, is not installed: it was asked for by name.

    Raises:
        ConfigError: with what to install.
    """
    for tracker in trackers:
        package, name = getattr(tracker, "package", None), TRACKERS.name_of(tracker)
        if package is not None and find_spec(package) is None:
            raise ConfigError(to_install(f"tracker {name}", package, name))


class Tracking:
    """All trackers of a run; one that fails is left out from then on.

    Attributes:
        failures: a line for each that failed.
    """

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = list(trackers)
        self.failures: list[str] = []

    def begin(self, run: Path, experiment: Experiment) -> None:
        """Tell all that a run begins."""
        for tracker in list(self._trackers):
            with self._guarded(tracker):
                tracker.begin(run, experiment)

    def generation(self, t: int, records: Sequence[Record]) -> None:
        """Tell all of a generation."""
        for tracker in list(self._trackers):
            with self._guarded(tracker):
                tracker.generation(t, records)

    def end(self) -> None:
        """Tell all that the run is over."""
        for tracker in list(self._trackers):
            with self._guarded(tracker):
                tracker.end()

    @contextmanager
    def _guarded(self, tracker: Tracker) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a tracker is somebody else's program, and no reason to stop
            self._trackers.remove(tracker)
            why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            self.failures.append(f"tracker {TRACKERS.name_of(tracker)} failed and is left out: {why}")
