"""How far a run is, seen from beside it: nothing is locked, and nothing is written.

What is looked at are the run's generations, its log, and the small files in which fits under way say how far they are.
"""

from __future__ import annotations

import math
import os
import socket
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, TypeAdapter

from selfloop.arms import first_alike, twins
from selfloop.core.errors import RunError
from selfloop.core.files import read_bytes, stamp
from selfloop.generators.base import Sampler
from selfloop.store import Run
from selfloop.store.log import entries, moment, sound
from selfloop.store.remote import holder as remote_holder
from selfloop.store.remote import refresh

_RECENT = 10  # generations from whose length that of the next ones is told
_UNSURE = 0.3  # of a length that was told from one that was seen in part, or once
_SEEN = 0.05  # of a fit, from which on all of it is told
_FEWEST = 4  # generations by which a trend is told
_SURELY = 3.0  # standard errors that it has to be beyond


Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Told(BaseModel):
    """What a stack at work says in its file, which anybody may have written."""

    model_config = ConfigDict(extra="ignore")

    generation: int
    host: str
    pid: int
    time: Finite
    begun: Finite
    stage: str = ""
    fit: NonNegativeInt = 0
    step: NonNegativeInt = 0
    steps: NonNegativeInt = 0
    fitted: list[int] = []
    loss: dict[int, float] = {}
    rate: Finite | None = None
    worked: Finite = 0.0
    resumed: NonNegativeInt | None = Field(default=None, alias="from")


_TOLD = TypeAdapter(_Told)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a stack of arms is doing.

    Attributes:
        stack: its number.
        arms: their indices.
        generation: at which it is.
        stage: "fit", "samples" or "metrics"; "done" until the others are, and "" where nothing is known.
        fit: number of the fit under way, of an ensemble.
        step: of that fit, and ``steps`` of how many; 0 where nothing is known.
        fitted: the arms that it is of.
        loss: last seen, by arm.
        rate: steps a second.
        where: host and process.
        seconds: since the stack's generation began, as of when it last told of itself; ``worked`` of them without what
            was compiled, which is compiled once.
        resumed: the step at which the process that is at it began, where another had begun the fit.
        age: seconds since then.
    """

    stack: int
    arms: Sequence[int]
    generation: int
    stage: str = ""
    fit: int = 0
    step: int = 0
    steps: int = 0
    fitted: Sequence[int] = ()
    loss: Mapping[int, float]
    rate: float | None = None
    where: str = ""
    seconds: float = 0.0
    worked: float = 0.0
    resumed: int = 0
    age: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Left:
    """Seconds until a run is finished: as expected, and between which they are 19 times of 20 if rates stay."""

    expected: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a run is.

    Attributes:
        run: as it was opened.
        last: the last generation that is committed, −1 before any.
        finished: whether all are.
        at_work: whether a process holds the run; None where that cannot be seen from here.
        error: what ended it since it was last begun or resumed, "" where nothing did.
        who: host and process that last began or resumed it, "" where the log does not say.
        age: seconds since it last gave a sign of life.
        work: by stack.
        left: None of a finished run, of one at which nobody is at work, and where nothing is known yet.
    """

    run: Run
    last: int
    finished: bool
    at_work: bool | None
    error: str
    who: str
    age: float
    work: Sequence[Work]
    left: Left | None


class Watch:
    """A run, looked at again and again.

    Args:
        path: its directory.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._run, self._seen = path, Run.open(path), stamp(path / "experiment.yaml")
        self._log: list[dict[str, str]] = []
        self._offset = 0

    def look(self) -> Status:
        """Look at it.

        Raises:
            RunError: it is damaged, or gone.
        """
        refresh(self._path)
        if (now := stamp(self._path / "experiment.yaml")) != self._seen or self._run.present == 0:
            self._run, self._seen = Run.open(self._path), now
        run, session = self._run, self._session()
        begun = session[0] if session else {}
        here = begun.get("host") == socket.gethostname()
        lease = remote_holder(run.path)
        if lease is None:
            held = holder(run.path / "lock", int(begun.get("pid", 0)) if here else 0)
            # A lock that is held on another machine is not seen from this one.
            at_work = held if held or here or not begun else None
        else:
            at_work = lease[1]
        told = {int(each["generation"]): float(each["seconds"]) for each in session if each["event"] == "generation"}
        if at_work and begun:
            last = max(told, default=int(begun["generation"]) - 1)
        else:
            self._run = run = Run.open(self._path)
            last = run.last
        finished = run.last >= run.experiment.generations if not at_work else last >= run.experiment.generations
        work = [] if finished else [self._work(s, last + 1, at_work) for s in range(len(run.stacks))]
        since = moment(session[-1]) if session else math.inf
        if finished or at_work is False or not begun:
            left = None
        else:
            took = {
                int(each["generation"]): (float(each["fit"]), float(each["rest"])) for each in session if "fit" in each
            }
            past = max(0.0, time.time() - since)
            left = remaining(run, last, told, work, past, int(begun.get("workers", 1)), took)
        age = min([time.time() - since, *(each.age for each in work)])
        errors = [] if at_work else [each.get("text", "")[:500] for each in session if each["event"] == "error"]
        return Status(
            run=run,
            last=last,
            finished=finished,
            at_work=at_work,
            error="".join(errors[:1]),
            who=f"{begun['host']}, process {begun['pid']}" if begun else "",
            age=age,
            work=work,
            left=left,
        )

    def _session(self) -> list[dict[str, str]]:
        """Return what the log says since the run was last begun or resumed."""
        file = self._path / "log.txt"
        if file.exists():
            added = read_bytes(file)[self._offset :]
            whole = added[: added.rfind(b"\n") + 1]
            self._offset += len(whole)
            for each in filter(sound, entries(whole.decode(errors="replace"))):
                if each["event"] == "begin":
                    self._log = []
                if each["event"] in ("begin", "generation", "error"):
                    self._log.append(each)
        return self._log if self._log and self._log[0]["event"] == "begin" else []

    def _work(self, stack: int, t: int, at_work: bool | None) -> Work:
        arms = [arm.index for arm in self._run.stacks[stack]]
        if at_work is not False and any(self._path.glob(f".generation-{t:04d}-*.tmp/samples-{stack:03d}.safetensors")):
            return Work(stack=stack, arms=arms, generation=t, stage="done", loss={}, age=math.inf)
        try:
            told = _TOLD.validate_json(read_bytes(self._run.status(stack)))
        except (RunError, ValueError):
            return Work(stack=stack, arms=arms, generation=t, loss={})
        if told.generation != t or not set(told.fitted) <= set(arms) or (told.steps and not told.fitted):
            return Work(stack=stack, arms=arms, generation=t, loss={})
        return Work(
            stack=stack,
            arms=arms,
            generation=t,
            stage=told.stage,
            fit=told.fit,
            step=told.step,
            steps=told.steps,
            fitted=told.fitted,
            loss=told.loss,
            rate=told.rate,
            where=f"{told.host}, process {told.pid}",
            seconds=told.time - told.begun,
            worked=told.worked,
            resumed=told.resumed or 0,
            age=max(0.0, time.time() - told.time),
        )


def holder(lock: Path, pid: int) -> bool:
    """Return whether a process of this machine holds a lock, without touching it.

    Linux lists all locks; elsewhere a process that is alive and has said that it runs the run is taken to.

    Args:
        lock: the file.
        pid: the process that last said so, 0 where none of this machine has.
    """
    listed = Path("/proc/locks")
    if listed.exists():
        try:
            inode = lock.stat().st_ino
        except FileNotFoundError:
            return False
        lines = (line.split() for line in listed.read_text().splitlines())
        # Its device is written as the kernel knows it, which on some file systems is not the one that stat knows.
        return any(len(words) > 5 and words[5].rpartition(":")[2] == str(inode) for words in lines)
    if pid == 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def remaining(
    run: Run,
    last: int,
    told: Mapping[int, float],
    work: Sequence[Work],
    since: float,
    workers: int,
    took: Mapping[int, tuple[float, float]] | None = None,
) -> Left | None:
    """Return how long a run takes until it is finished; None where nothing is known to tell it from.

    Generations take as long as the last ones did, and if these took longer and longer, so do the next. The first of a
    session starts processes and compiles, which no other does: of it counts how long its stacks were at work, and while
    it is under way, how long that part of their fits took that is over. Later ones take as much longer than generation
    0 as they have more steps and stacks.

    Args:
        run: what is run.
        last: its last generation, −1 before any.
        told: seconds of the generations of this session that are over.
        work: of the next one.
        since: seconds since it began.
        workers: processes at work.
        took: seconds that a stack's fits took and those of what came after them, on average, of the same generations.
    """
    t, done = last + 1, _done(run, work, last + 1)
    more = run.experiment.generations - t
    recent = [seconds for g, seconds in sorted(told.items()) if g > min(told)][-_RECENT:]
    if recent:
        each, growth, apart = _trend(recent)
        whole = each + growth
        rest = since * (1 - done) / done if done > _SEEN else max(0.0, whole - since)
        # All that are to come, of which the first is one step of the trend further on than the one under way.
        total = sum(max(0.0, each + growth * (k + 2)) for k in range(more))
    else:
        stack = _stack_takes(run, last, told, work, since, workers, took or {})
        if stack is None:
            return None
        fit, others, source = stack
        steps, arms = (_step_ratio(run), _arm_ratio(run)) if source == 0 else (1.0, 1.0)
        later = arms * (fit * steps + others)
        whole = _rounds(run, t, workers) * (later if t > 0 else fit + others)
        total = more * _rounds(run, 1, workers) * later
        rest, apart = whole * (1 - done), _UNSURE * (total / more if more else whole)
    # Lengths differ from one to the next, and their mean is known from so many alone.
    spread = 2 * apart * math.sqrt(more + 1 + (more + 1) ** 2 / max(1, len(recent)))
    expected = rest + total
    return Left(expected=expected, low=max(0.0, expected - spread), high=expected + spread)


def _trend(lengths: Sequence[float]) -> tuple[float, float, float]:
    """Return the length of the last of some generations, how much longer each is than the one before, and their spread.

    The growth is 0, and the length their mean, where they do not grow beyond what they differ by anyway.
    """
    mean, k = statistics.fmean(lengths), len(lengths)
    apart = statistics.stdev(lengths) if k > 1 else _UNSURE * mean
    if k < _FEWEST:
        return mean, 0.0, apart
    slope, first = statistics.linear_regression(range(k), lengths)
    residual = math.sqrt(sum((y - first - slope * i) ** 2 for i, y in enumerate(lengths)) / (k - 2))
    error = residual / math.sqrt(k * (k * k - 1) / 12)
    if abs(slope) <= _SURELY * error:
        return mean, 0.0, apart
    return first + slope * (k - 1), slope, residual + error * k / 2


def _stack_takes(
    run: Run,
    last: int,
    told: Mapping[int, float],
    work: Sequence[Work],
    since: float,
    workers: int,
    took: Mapping[int, tuple[float, float]],
) -> tuple[float, float, int] | None:
    """Return the seconds of a stack's fits and of what comes after them, and the generation they were seen in.

    What the fits under way tell counts more than the generation before, of which only what comes after is then used.
    """
    t, done = last + 1, _done(run, work, last + 1)
    seen = []
    for each in work:
        whole = _of_stack(run, each) if each.stage == "fit" else 0.0
        gained = whole - (_of_stack(run, replace(each, step=each.resumed)) if each.resumed else 0.0)
        if each.worked > 0 and gained > _SEEN:
            seen.append(each.worked / gained)
    before = took.get(last)
    if seen and (before is not None or last not in told):
        return statistics.fmean(seen), before[1] if before is not None else 0.0, t
    if before is not None:
        return *before, last
    if last in told:
        return told[last] / _rounds(run, last, workers), 0.0, last
    return (since / done / _rounds(run, t, workers), 0.0, t) if done > 0 else None


def _done(run: Run, work: Sequence[Work], t: int) -> float:
    """Return the share of a generation that is over, as far as its fits tell."""
    stacks = run.stacks
    firsts = first_alike(stacks) if t == 0 else range(len(stacks))
    counted = [each for each in work if firsts[each.stack] == each.stack]
    return sum(_of_stack(run, each) for each in counted) / max(1, len(counted))


def _of_stack(run: Run, each: Work) -> float:
    if each.stage == "done":
        return 1.0
    if each.steps == 0:
        return 0.0
    members = run.stacks[each.stack]
    chosen = sorted(set(twins(members))) if each.generation == 0 else range(len(members))
    fitted = [members[i].index for i in chosen]
    generator, arms = members[0].experiment.generator, len(fitted)
    fits = generator.fits if isinstance(generator, Sampler) else 1
    alone = len(each.fitted) < arms  # arms are fitted one after the other
    before = each.fit * arms + (fitted.index(each.fitted[0]) if alone else 0)
    share = each.step / each.steps * (1 if alone else arms)
    return (before + share) / (fits * arms) if each.stage == "fit" else 1.0


def _rounds(run: Run, t: int, workers: int) -> int:
    """Return how many stacks of a generation follow one another where so many are at work at once."""
    return math.ceil(len(set(first_alike(run.stacks)) if t == 0 else run.stacks) / max(1, workers))


def _arm_ratio(run: Run) -> float:
    """Return how many arms a later generation fits for every one that generation 0 does, in the stacks that it fits."""
    firsts = [run.stacks[i] for i in set(first_alike(run.stacks))]
    return sum(map(len, firsts)) / sum(len(set(twins(members))) for members in firsts)


def _step_ratio(run: Run) -> float:
    """Return how many steps a later fit takes for every one of generation 0's."""
    experiment = run.arms[0].experiment
    if experiment.budget is None or experiment.pretrain is None:
        return 1.0
    size, n = getattr(experiment.generator, "batch_size", None) or 1, run.real(0).n
    steps = [budget.resolve(n).count(size) for budget in (experiment.budget, experiment.pretrain)]
    return max(1, steps[0]) / max(1, steps[1])
