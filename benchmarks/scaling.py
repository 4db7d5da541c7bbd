"""How a run of a thousand arms is spread: over the nodes of a Ray cluster, and what the driver alone would allow.

The arms are stacks of their own, of a model whose fit sleeps for a second. On a cluster in this machine, where Ray is
installed, tasks take a fraction of a processor, so that several sleep at once; ``local`` has as many processes.
Simulated, the driver does all that it does for a cluster, reading, scheduling and writing, on a clock that jumps to the
end of a task where it would have to wait for one: the time is that of a run on so many nodes of 8 processors whose
tasks take a second, with no time for the network.
"""

from __future__ import annotations

import contextlib
import heapq
import importlib.util
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.timing import Load
from selfloop import Experiment, run
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.device import Device
from selfloop.engines.local import Local
from selfloop.engines.team import Team
from selfloop.engines.threads import as_in_a_worker
from selfloop.generators import Gaussian
from selfloop.generators.base import GENERATORS
from selfloop.learning.training import Budget

ARMS = 1000
SECONDS = 1.0  # of a task
GENERATIONS = 2  # after generation 0
SLOTS = (8, 16)  # tasks at once on this machine
NODES = (1, 2, 4, 8, 16, 32, 64)
PROCESSORS = 8  # of a simulated node


@GENERATORS.register
class Sleeping(Gaussian):
    """A Gaussian whose fit takes its time."""

    name: Literal["sleeping"] = "sleeping"  # type: ignore[assignment]
    which: int = 0
    seconds: float = 0.0

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device | None = None) -> State:
        """Sleep, and fit."""
        time.sleep(self.seconds)
        return super().fit(state, data, budget, streams)


def experiment(seconds: float) -> Experiment:
    """Return one of so many arms, each a stack."""
    return Experiment(
        name="sleeping",
        data={"name": "gaussian", "n": 100, "held_out": 50},
        generator={"name": "sleeping", "seconds": seconds},
        generations=GENERATIONS,
        seeds=1,
        grid={"generator.which": list(range(ARMS))},
        metrics=["mean_error"],
    )


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run.

    Attributes:
        engine: what ran it.
        slots: tasks at once.
        tasks: after generation 0.
        total_s: seconds from the commit of generation 0 to the last, so that what starts once does not count.
        ideal_s: seconds that the tasks take with so many at once.
        overhead: total over ideal, less 1.
        load: cores that other processes used meanwhile.
    """

    engine: str
    slots: int
    tasks: int
    total_s: float
    ideal_s: float
    overhead_rate: float
    load: float


def measured(name: str, slots: int, engine: Any, seconds: float, clock: Callable[[], float] = time.monotonic) -> Row:
    """Run, and return what it took."""
    folder, committed = tempfile.mkdtemp(prefix="selfloop-scaling-"), list[float]()
    try:
        with Load() as load:
            for _ in run(experiment(seconds), Path(folder) / "run", engine=engine):
                committed.append(clock())
    finally:
        shutil.rmtree(folder)
    total, ideal = committed[-1] - committed[0], ARMS * GENERATIONS * SECONDS / slots
    return Row(
        engine=name,
        slots=slots,
        tasks=ARMS * GENERATIONS,
        total_s=total,
        ideal_s=ideal,
        overhead_rate=total / ideal - 1,
        load=load.others,
    )


class Simulated:
    """A cluster whose tasks take a second of a clock that runs while the driver works, and jumps where it waits."""

    here = False

    def __init__(self, slots: int) -> None:
        self._free = [0.0] * slots  # when each slot is
        self._waiting: list[tuple[float, int, tuple[int, int], Callable[..., Any], tuple[Any, ...]]] = []
        self._shift, self._number = -time.monotonic(), 0

    def clock(self) -> float:
        """Return the seconds since the beginning."""
        return time.monotonic() + self._shift

    @contextlib.contextmanager
    def start(self, stacks: int) -> Iterator[Simulated]:
        """Be an engine."""
        yield self

    def put(self, value: Any) -> Any:
        """Return the value."""
        return value

    def begin(self, key: tuple[int, int], function: Callable[..., Any], *arguments: Any) -> None:
        """Give a task to the slot that is free first."""
        end = max(self.clock(), heapq.heappop(self._free)) + SECONDS
        heapq.heappush(self._free, end)
        self._number += 1
        heapq.heappush(self._waiting, (end, self._number, key, function, arguments))

    def next(self, hear: Callable[[dict[str, Any]], None]) -> tuple[tuple[int, int], Any, Any]:
        """Return what ends next."""
        end, _, key, function, arguments = heapq.heappop(self._waiting)
        self._shift += max(0.0, end - self.clock())
        begun = time.monotonic()
        with as_in_a_worker():
            made = function(Team(), None, *arguments)
        self._shift -= time.monotonic() - begun  # which a node would have done within its second
        return key, made, made


def rows() -> Iterator[Row]:
    """Yield the runs: here by processes and by Ray, then simulated."""
    for slots in SLOTS:
        yield measured("local", slots, Local(workers=slots), SECONDS)
        if importlib.util.find_spec("ray"):
            from selfloop.engines.ray import Ray

            yield measured("ray", slots, Ray(cpus=2 / slots), SECONDS)
    for nodes in NODES:
        cluster = Simulated(nodes * PROCESSORS)
        yield measured(f"simulated, {nodes} nodes", nodes * PROCESSORS, cluster, 0.0, cluster.clock)
