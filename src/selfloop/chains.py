"""Stacks that run where the run directory is not: a generation of one is a job that is sent all it needs.

Each stack is a chain of such jobs, and goes on to its next generation while others are still at theirs, up to
``_LEAD`` generations ahead of what is committed; generations are committed one after the other, each whole.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cloudpickle

from selfloop.arms import Arm, first_alike
from selfloop.core.code import learn
from selfloop.core.records import Record
from selfloop.core.samples import Samples, State
from selfloop.data.base import Split
from selfloop.engines.base import Cluster
from selfloop.engines.device import Device
from selfloop.engines.journal import Journal
from selfloop.engines.team import Team
from selfloop.loop import advance, data_key, load, looks_back, named
from selfloop.store import Writer

_LEAD = 8  # generations of samples and weights that wait for a commit at most


@dataclass(frozen=True)
class Made:
    """What a job has made.

    Attributes:
        tensors: state, samples and losses by kind, as they are stored.
        records: of the stack's arms.
        seconds: that it took.
        back: how many generations its regime looked back.
    """

    tensors: dict[str, dict[str, Any]]
    records: list[Record]
    seconds: float = 0.0
    back: int = 0


@dataclass(frozen=True)
class Lacks:
    """What a job ends in that has not got all that its regime looks back at.

    Attributes:
        back: how many generations before its own the first lies that it asked for in vain.
    """

    back: int


def job(
    team: Team,
    tell: Callable[[dict[str, Any]], None] | None,
    about: dict[str, Any],
    code: bytes,
    arms: bytes,
    split: Split,
    t: int,
    stopped: frozenset[int],
    before: Sequence[Record],
    first: Made | None,
    sent: Sequence[int],
    *past: Made,
) -> Made | Lacks:
    """Run one stack's generation.

    Args:
        team: the device.
        tell: takes notes of how far it is.
        about: what they begin with.
        code: what the program defines; see ``core.code``.
        arms: of the stack, pickled.
        split: their real data.
        t: the generation.
        stopped: see :func:`~selfloop.loop.advance`.
        before: records of generation t − 1 of these arms.
        first: generation 0, where something looks at its weights.
        sent: the generations whose samples are there, the last one first; its weights are there too.
        past: what was made in these.
    """
    learn(code)
    device = Device(team, journal=Journal(tell, about))
    begun, there, asked = time.monotonic(), dict(zip(sent, past, strict=True)), {0}

    def history(g: int) -> Samples:
        asked.add(t - g)
        return Samples(**there[g].tensors["samples"])

    state: State | None = past[0].tensors["state"] if t else None
    looked_at: State | None = None if not t else {} if first is None else first.tensors["state"]
    try:
        outcome = advance(cloudpickle.loads(arms), split, t, state, history, looked_at, device, lambda: before, stopped)
    except Exception:  # the regime's own words for what it did not get
        if max(asked) > len(sent):
            return Lacks(max(asked))
        raise
    return Made(outcome.tensors, outcome.records, time.monotonic() - begun, max(asked))


class Chains:
    """The jobs of a run under way.

    Args:
        cluster: that works on them.
        run: what is committed so far, also while it grows.
        code: what the program defines.
        wait: whether a generation must be committed before the next one begins, as where an alarm may stop an arm.
        keep: is given what a job of a generation and stack has made, to keep until the commit what took long.
        kept: returns that to who goes on after this process has died; None where there is nothing.
        hear: is told how far jobs are.
    """

    def __init__(
        self,
        cluster: Cluster,
        run: Writer,
        code: bytes,
        wait: bool,
        keep: Callable[[int, int, Made], None],
        kept: Callable[[int, int], Made | None],
        hear: Callable[[dict[str, Any]], None],
    ) -> None:
        self._keep, self._kept, self._hear = keep, kept, hear
        self._cluster, self._run, self._members = cluster, run, run.stacks
        self._code, self._lead = cluster.put(code), 0 if wait else _LEAD
        self._arms = [cloudpickle.dumps(members) for members in self._members]
        self._splits: dict[str, Any] = {}
        self._firsts: dict[int, Any] = {}
        self._made: dict[tuple[int, int], Made] = {}  # by generation and stack, until it is committed
        self._standing: dict[tuple[int, int], Any] = {}  # for what was made, or read, among the arguments of jobs
        self._busy: set[tuple[int, int]] = set()
        self._reach: dict[int, float] = {}  # how many generations each stack is sent
        self._twins: dict[int, list[int]] = {}
        self._now, self._stopped = 0, frozenset[int]()

    def generation(self, t: int, todo: Sequence[int], stopped: frozenset[int]) -> Iterator[tuple[int, Made]]:
        """Yield what some stacks make of a generation, as it comes; all before it is committed."""
        self._now, self._stopped, left = t, stopped, set(todo)
        self._made = {(u, s): made for (u, s), made in self._made.items() if u >= t - 1}
        self._standing = {(g, s): it for (g, s), it in self._standing.items() if t - g <= self._back(s)}
        if t == 0:
            groups = first_alike([self._members[s] for s in todo])
            self._twins = {s: [todo[i] for i, f in enumerate(groups) if todo[f] == s] for s in todo}
        for s in todo:
            if t > 0 or self._twins[s]:
                self._begin(t, s)
        while left:
            for s in sorted(s for s in left if (t, s) in self._made):
                left.discard(s)
                yield s, self._made[t, s]
            if left:
                self._take()

    def _take(self) -> None:
        """Wait for a job, and let its stack go on."""
        (t, s), made, reference = self._cluster.next(self._hear)
        self._busy.discard((t, s))
        if isinstance(made, Lacks):
            self._reach[s] = made.back
            self._begin(t, s)
            return
        self._keep(t, s, made)
        # What has looked back at all there was will do so again, and if not, is sent less the time after that.
        self._reach[s] = math.inf if made.back == t else made.back
        self._go_on(t, s, made, reference)

    def _go_on(self, t: int, s: int, made: Made, reference: Any) -> None:
        """Take note of what a stack has made, its twins too, and begin what comes after it."""
        for twin in self._twins.get(s, [s]) if t == 0 else [s]:
            records = made.records if twin == s else self._renamed(made.records, twin)
            self._made[t, twin] = replace(made, records=records)
            self._standing[t, twin] = reference
            if t < min(self._now + self._lead, self._run.experiment.generations) and twin in self._run.lacking(t + 1):
                self._begin(t + 1, twin)

    def _renamed(self, records: Sequence[Record], stack: int) -> list[Record]:
        return [named(record, arm) for record, arm in zip(records, self._members[stack], strict=True)]

    def _begin(self, t: int, s: int) -> None:
        """Begin a stack's generation, if it is neither begun nor done; the one before is done."""
        if (t, s) in self._busy or (t, s) in self._made:
            return
        if (made := self._kept(t, s)) is not None:
            self._go_on(t, s, made, self._cluster.put(made))
            return
        self._busy.add((t, s))
        members, reach = self._members[s], self._back(s)
        sent = [g for g in range(t - 1, -1, -1) if t - g <= reach]
        first = self._first(s) if t and looks_back(members) else None
        past = [self._of(g, s, *(("state", "samples") if g == t - 1 else ("samples",))) for g in sent]
        needed = (self._arms[s], self._split(members), t, self._stopped, self._before(t, s), first, sent)
        self._cluster.begin((t, s), job, {"generation": t, "stack": s}, self._code, *needed, *past)

    def _before(self, t: int, s: int) -> list[Record]:
        """Return the records of a stack's arms in the generation before t."""
        if t == 0:
            return []
        if (t - 1, s) in self._made:
            return self._made[t - 1, s].records
        of = {arm.index for arm in self._members[s]}
        return [record for record in self._run.everything_of(t - 1) if record["arm"] in of]

    def _back(self, s: int) -> float:
        """Return how many generations a stack is sent, at least the last one."""
        return max(self._reach.get(s, 1), 1)

    def _first(self, s: int) -> Any:
        """Return what stands for a stack's weights after generation 0."""
        if s not in self._firsts:
            self._firsts[s] = self._standing.get((0, s)) or self._put(0, s, "state")
        return self._firsts[s]

    def _of(self, g: int, s: int, *kinds: str) -> Any:
        """Return what stands for a stack's generation g: what a job of it returned, or as much as is asked for."""
        if (g, s) not in self._standing:
            self._standing[g, s] = self._put(g, s, *kinds)
        return self._standing[g, s]

    def _put(self, g: int, s: int, *kinds: str) -> Any:
        return self._cluster.put(Made({kind: self._run.tensors(g, kind, s) for kind in kinds}, []))

    def _split(self, members: Sequence[Arm]) -> Any:
        """Return what stands for a stack's real data, which are loaded and sent once."""
        of = data_key(members)
        if of not in self._splits:
            self._splits[of] = self._cluster.put(load(members, self._run.holds))
        return self._splits[of]
