"""Running an experiment: generation after generation, each a transaction in the run directory."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import shutil
import socket
import time
import uuid
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any

from torch import Tensor

from selfloop.arms import Arm, first_alike
from selfloop.chains import Chains, Made
from selfloop.core.code import learn, own_code
from selfloop.core.errors import ConfigError, RunError, quoted, refuse_unlike, said
from selfloop.core.files import disk_errors, load_sealed, put_bytes, refuse_unnameable, save_sealed, save_tensors
from selfloop.core.paths import here, url_of
from selfloop.core.records import Record, failures
from selfloop.core.samples import Samples
from selfloop.data.base import Split
from selfloop.engines.base import Cluster, Engine, Pool
from selfloop.engines.device import Device
from selfloop.engines.journal import Journal, Took, put
from selfloop.engines.local import Local
from selfloop.engines.team import Team
from selfloop.engines.threads import as_in_a_worker
from selfloop.environment import prepared_or_lacking
from selfloop.experiment import FREE, GROWING, Experiment, files_of, member
from selfloop.generators.base import GENERATORS
from selfloop.generators.outside import refuse_to_run
from selfloop.loop import Outcome, advance, data_key, load, looks_back, measure, named
from selfloop.metrics.base import METRICS
from selfloop.monitor import Alarms
from selfloop.shards import Shard
from selfloop.store import Run, Writer, belongs, check
from selfloop.store.remote import refuse_unwritable, working
from selfloop.store.schema import stack_file
from selfloop.trackers.base import TRACKERS, Tracker, Tracking, refuse_missing

Progress = Callable[[int, int, int], None]  # generation, stacks done, stacks in all

_Tensors = dict[str, dict[str, Tensor]]  # state, samples and losses, by kind


@dataclass(frozen=True)
class Generation:
    """A committed generation.

    Attributes:
        t: its number.
        records: one per arm, as in metrics.jsonl; of a run that grew by arms, of those that are new.
        seconds: wall time it took.

    Examples:
        >>> from selfloop import Experiment, run
        >>> experiment = Experiment(
        ...     name="first", data="gaussian", generator="gaussian", generations=2, metrics=["variance_ratio"]
        ... )
        >>> *_, last = run(experiment, "runs/first")
        >>> last.t, sorted(last.records[0]["metrics"])
        (2, ['variance_ratio'])
    """

    t: int
    records: list[Record]
    seconds: float


@dataclass(frozen=True)
class _Task:
    """What is the same for all stacks of a generation, on its way to where they run."""

    out: str
    session: str
    folder: str
    t: int
    team: Team
    save_every: float
    code: bytes
    stopped: frozenset[int]


@dataclass(frozen=True)
class _Done:
    """What became of one stack's generation.

    Attributes:
        stack: its number.
        notes: on each of its files, by kind.
        records: of its arms.
        took: how long it was at work; None where it was not, or elsewhere.
    """

    stack: int
    notes: dict[str, Any]
    records: list[Record]
    took: Took | None = None


def run(
    experiment: Experiment,
    out: str | Path,
    *,
    workers: int = 0,
    engine: Engine | None = None,
    trackers: Sequence[Tracker] = (),
    team: Team | None = None,
    save_every: float = 600.0,
    progress: Progress | None = None,
    notice: Callable[[str], None] | None = None,
    shard: Shard | None = None,
) -> Generator[Generation, None, None]:
    """Run an experiment, or what is left of it, and yield each generation once it is committed.

    A directory that holds this experiment is resumed; one that holds it with fewer generations, seeds, values of the
    grid or metrics grows, and what was there keeps its bits.

    Args:
        experiment: what to run.
        out: the run directory, made if it is not there; or the URL of one elsewhere, as ``s3://bucket/run``.
        workers: processes to spread the arms over; 0 runs them here. The result is the same to the bit.
        engine: what runs the arms; None is that of ``workers``.
        trackers: who is told of every generation, beside those of the experiment; one that fails stops nothing.
        team: on whose devices networks of images run, this process being its first; the others :func:`assist`.
        save_every: seconds after which a fit under way is saved, so that a killed one goes on from there.
        progress: called after each stack of arms.
        notice: called with a line on what was chosen because nobody had named it, and on a machine or libraries that
            are not those with which the run began, and on models that raised and so ended their arms.
        shard: of the run, whose stacks alone are run; :func:`~selfloop.shards.merge` joins all.

    Raises:
        ConfigError, DataError: the experiment cannot be run, or not by several devices; nothing is written.
        RunError: the directory is another experiment's, in use, or damaged.
        StorageFull: the disk is full; run again to resume.

    Examples:
        >>> from selfloop import Experiment, run
        >>> experiment = Experiment(
        ...     name="first", data="gaussian", generator="gaussian", generations=2, metrics=["variance_ratio"]
        ... )
        >>> [generation.t for generation in run(experiment, "runs/first")]
        [0, 1, 2]
    """
    refuse_unlike("experiment", experiment, Experiment, "an Experiment, as Experiment.load returns")
    refuse_unlike("out", out, (str, os.PathLike), "the path of a run directory, or its URL")
    refuse_unlike("workers", workers, Integral, "a number of processes, 0 for this one alone")
    refuse_unlike("trackers", trackers, (list, tuple), "a list of them")
    if engine is not None and not callable(getattr(engine, "start", None)):
        raise ConfigError(f"engine is one such as selfloop.engines.Local(workers=2), not {quoted(engine)}")
    if workers < 0:
        raise ConfigError(f"workers is {workers}: a number of processes, 0 for this one alone")
    out = here(out)
    refuse_unnameable(out)
    if getattr(experiment.generator, "elsewhere", False):
        refuse_to_run()
    team, chosen = team or Team(), engine or Local(workers=workers)
    trackers = [*trackers, *(each for each in map(_tracker, experiment.trackers) if each not in trackers)]
    refuse_missing(trackers)
    try:
        if team.size > 1 and (not chosen.here or "devices" not in experiment.generator.offers):
            what = "fits of large networks, one after the other (workers 0)"
            name = GENERATORS.name_of(experiment.generator)
            raise ConfigError(f"several devices share {what}, not those of generator {name}")
        if team.size > 1 and (url := url_of(out)) is not None:
            raise ConfigError(f"several devices read the run from a folder that all of them see, not from {url!r}")
        with working(out):
            with disk_errors(out):
                experiment = _as_there(experiment, out)
                if _nothing_to_do(experiment, out):
                    return
            refuse_unwritable(out)
            begun = prepared_or_lacking(experiment, out)
            experiment, environment, real = begun.experiment, begun.environment, begun.real
            if notice is not None:
                for line in begun.words:
                    notice(line)
            with disk_errors(out):
                check(out, experiment, environment, real)
                _can_be_measured(experiment, out)
            code, session = b"" if chosen.here else own_code(), uuid.uuid4().hex
            with Writer.lock(out, experiment, environment, real) as writer, disk_errors(out):
                for line in begun.words:
                    writer.log(line)
                if writer.notice and notice is not None:
                    notice(writer.notice)
                count = getattr(chosen, "workers", None) or 1
                at = {"pid": os.getpid(), "host": socket.gethostname(), "workers": count}
                writer.happened("begin", **at, generation=writer.last + 1, of=experiment.generations)
                measure_anew(writer, session)
                if shard is not None:
                    shard.refuse(experiment, len(writer.stacks))
                generations = _generations(writer, chosen, team, save_every, code, session, progress, notice, shard)
                yield from _tracked(writer, trackers, generations)
    finally:
        _opened.cache_clear()
        team.broadcast(None)


_tracker = functools.partial(member, TRACKERS)


def _tracked(writer: Writer, trackers: Sequence[Tracker], generations: Iterator[Generation]) -> Iterator[Generation]:
    """Tell trackers of every generation, and the log of what becomes of them."""
    tracking = Tracking(trackers)
    tracking.begin(writer.path, writer.experiment)
    try:
        for generation in generations:
            tracking.generation(generation.t, generation.records)
            yield generation
    except Exception as error:
        with contextlib.suppress(OSError):
            writer.happened("error", text=said(error, ours=True))
        raise
    finally:
        tracking.end()
        with contextlib.suppress(OSError):  # it may be gone
            writer.happened("end", generation=writer.last)
        for failure in tracking.failures:
            writer.log(failure)
            warnings.warn(failure, stacklevel=2)


def _as_there(experiment: Experiment, out: Path) -> Experiment:
    """Return an experiment that names no metrics or features with those of the run that is there, if there is one."""
    if (experiment.names_metrics and experiment.names_features) or not (out / "experiment.yaml").exists():
        return experiment
    there = Run.open(out).experiment
    if not experiment.names_features:
        experiment = experiment.with_features(there.features)
    return experiment if experiment.names_metrics else experiment.with_metrics(there.metrics)


def _nothing_to_do(experiment: Experiment, out: Path) -> bool:
    """Whether the directory holds this very experiment, finished: its data need not be there, but may not be others."""
    if not (out / "experiment.yaml").exists():
        return False
    there = Run.open(out)
    if there.present == 0:
        return False
    belongs(there, experiment)
    measured = set(there.experiment.metrics) <= set(there.recorded)
    over = there.finished and measured and _asks_no_more(experiment, there.experiment)
    if over:
        Writer.settle(there)
        there.verify()
        if (files := files_of(there.arms[0].experiment.data)) and all(map(os.path.exists, files)):
            there.split(0)  # refuses data that have changed
    return over


def _asks_no_more(experiment: Experiment, there: Experiment) -> bool:
    """Whether an experiment is a run's own, to which it may grow; where its files lie is taken over if they do."""
    asked, had = experiment.model_dump(), there.model_dump()
    if any(asked[key] != had[key] for key in (*GROWING, *FREE)):
        return False
    return asked == had or not all(map(os.path.exists, experiment.files()))


def _generations(
    writer: Writer,
    engine: Engine,
    team: Team,
    save_every: float,
    code: bytes,
    session: str,
    progress: Progress | None,
    notice: Callable[[str], None] | None,
    shard: Shard | None,
) -> Iterator[Generation]:
    members, alarms = writer.stacks, Alarms(writer)
    with engine.start(len(members)) as pool:
        work = (
            functools.partial(_sent, _chains(pool, writer, code, alarms))
            if isinstance(pool, Cluster)
            else functools.partial(_rounds, pool, members)
        )
        for t in range(writer.last + 1, writer.experiment.generations + 1):
            todo = writer.lacking(t) if shard is None else shard.among(writer.lacking(t))
            if not todo:
                continue
            stopped = alarms.stopped(t)
            team.broadcast((t, todo, stopped))
            started = time.monotonic()
            task = _Task(str(writer.path), session, str(writer.begin(t)), t, team, save_every, code, stopped)
            done: list[_Done] = []
            for each in work(task, todo):
                done.append(each)
                if progress is not None:
                    progress(t, len(done), len(todo))
            done.sort(key=lambda each: each.stack)
            records = sorted((r for each in done for r in each.records), key=lambda record: record["arm"])
            notes = {each.stack: {stack_file(k, each.stack): n for k, n in each.notes.items()} for each in done}
            writer.commit(t, notes, records)
            seconds = time.monotonic() - started
            about = {"seconds": f"{seconds:.3f}"} | _means([each.took for each in done if each.took is not None])
            if where := ", ".join(sorted({r["device"] for r in records if "device" in r})):
                about["device"] = where
            writer.happened("generation", generation=t, **about)
            for line in alarms.of(t):
                writer.log(line)
            for line in failures(records):
                writer.log(line)
                if notice is not None:
                    notice(line)
            yield Generation(t, records, seconds)


def _means(took: Sequence[Took]) -> dict[str, str]:
    """Return how long a stack was at work on average, as the log has it; {} where none was.

    Those that came first in their process count only where there are no others.
    """
    if not took:
        return {}
    took = [each for each in took if not each.first] or took
    fit, rest = (sum(each) / len(took) for each in zip(*((each.fit, each.rest) for each in took), strict=True))
    return {"fit": f"{fit:.3f}", "rest": f"{rest:.3f}"}


def _chains(cluster: Cluster, writer: Writer, code: bytes, alarms: Alarms) -> Chains:
    """Return the stacks as chains of jobs, of which what took long is kept until its commit."""

    def keep(t: int, stack: int, made: Made) -> None:
        if made.seconds >= _WORTH_KEEPING:
            _keep(writer, t, alarms.stopped(t), stack, made.tensors, made.records)

    def kept(t: int, stack: int) -> Made | None:
        found = _kept(writer, t, alarms.stopped(t), stack)
        return None if found is None else Made(*found)

    def hear(told: dict[str, Any]) -> None:
        put(writer.status(told["stack"]), told)

    return Chains(cluster, writer, code, alarms.stop, keep, kept, hear)


def _sent(chains: Chains, task: _Task, todo: list[int]) -> Iterator[_Done]:
    """Yield what becomes of each stack elsewhere, once its files are written here."""
    for stack, made in chains.generation(task.t, todo, task.stopped):
        yield _written(task, stack, made.tensors, made.records)


def _rounds(pool: Pool, members: list[list[Arm]], task: _Task, todo: list[int]) -> Iterator[_Done]:
    """Yield what becomes of each stack; in generation 0 those that differ in regime alone come after their first."""
    if task.t > 0:
        yield from pool.map(functools.partial(_advance, task, {}), todo)
        return
    alike = dict(zip(todo, first_alike([members[s] for s in todo]), strict=True))
    first = [s for i, s in enumerate(todo) if alike[s] == i]
    found: dict[int, _Done] = {}
    for done in pool.map(functools.partial(_advance, task, {}), first):
        found[done.stack] = done
        yield done
    twins = {s: found[todo[i]] for s, i in alike.items() if s not in found}
    yield from pool.map(functools.partial(_advance, task, twins), list(twins))


def assist(experiment: Experiment, out: str | Path, team: Team) -> None:
    """Take part in the fits of a run that the team's first process runs, until it says that it is over."""
    session = uuid.uuid4().hex
    while (said := team.broadcast(None)) is not None:
        t, todo, stopped = said
        task = _Task(str(out), session, "", t, team, math.inf, b"", stopped)
        members = _opened(task.out, session).run.stacks
        first = first_alike([members[s] for s in todo]) if t == 0 else list(range(len(todo)))
        with as_in_a_worker():
            for stack in (s for i, s in enumerate(todo) if first[i] == i):
                _outcome(task, stack)


def _advance(task: _Task, twins: dict[int, _Done], stack: int) -> _Done:
    """Run one stack's generation from the run directory, and write its files into the task's folder."""
    learn(task.code)
    if (twin := twins.get(stack)) is not None:
        members = _opened(task.out, task.session).run.stacks[stack]
        for kind in twin.notes:
            names = (stack_file(kind, number) for number in (twin.stack, stack))
            shutil.copyfile(*(Path(task.folder) / name for name in names))
        records = [named(record, arm) for record, arm in zip(twin.records, members, strict=True)]
        return _Done(stack, twin.notes, records)
    return _written(task, stack, *_kept_or_computed(task, stack))


def _written(task: _Task, stack: int, tensors: _Tensors, records: list[Record], took: Took | None = None) -> _Done:
    """Write a stack's files into the task's folder."""
    notes = {
        kind: save_tensors(Path(task.folder) / stack_file(kind, stack), found, put_bytes)
        for kind, found in tensors.items()
    }
    return _Done(stack, notes, records, took)


_WORTH_KEEPING = 10.0  # seconds of a stack's generation from which on what came of it is kept until the commit


def _kept_or_computed(task: _Task, stack: int) -> tuple[_Tensors, list[Record], Took | None]:
    """Return a stack's state and samples by kind, its records, and how long they took unless they were kept.

    What took long, and was finished when the process was killed before all stacks were, is not computed again: a
    machine that is lent for minutes adds arm after arm.
    """
    there = _opened(task.out, task.session).run
    if task.team.size == 1 and (kept := _kept(there, task.t, task.stopped, stack)) is not None:
        return *kept, None
    begun = time.monotonic()
    outcome = _outcome(task, stack)
    tensors = outcome.tensors
    if task.team.size == 1 and time.monotonic() - begun >= _WORTH_KEEPING:
        _keep(there, task.t, task.stopped, stack, tensors, outcome.records)
    return tensors, outcome.records, outcome.took


def _kept_for(run: Run, stopped: frozenset[int], stack: int) -> dict[str, Any]:
    """Return what kept tensors and records are of."""
    members = run.stacks[stack]
    keys, names = [arm.key for arm in members], list(members[0].experiment.metrics)
    return {"run": run.identity, "arms": keys, "metrics": names, "stopped": sorted(stopped)}


def _kept(run: Run, t: int, stopped: frozenset[int], stack: int) -> tuple[_Tensors, list[Record]] | None:
    """Return what is kept of a stack's generation, None where there is nothing."""
    path = run.outcome(t, stack)
    if not path.exists():
        return None
    found, about = load_sealed(path, ": move it elsewhere, and what it holds is computed again")
    if about["of"] != _kept_for(run, stopped, stack):
        return None
    kinds: _Tensors = {}
    for name, tensor in found.items():
        kind, _, leaf = name.partition("/")
        kinds.setdefault(kind, {})[leaf] = tensor
    return kinds, about["records"]


def _keep(run: Run, t: int, stopped: frozenset[int], stack: int, tensors: _Tensors, records: list[Record]) -> None:
    """Keep what a stack's generation has made until it is committed."""
    flat = {f"{kind}/{name}": leaf for kind, leaves in tensors.items() for name, leaf in leaves.items()}
    save_sealed(run.outcome(t, stack), flat, {"of": _kept_for(run, stopped, stack), "records": records})


def _no_history(g: int) -> Samples:
    raise ValueError(f"generation 0 has no samples of generation {g} to look at")


def _outcome(task: _Task, stack: int) -> Outcome:
    opened, t = _opened(task.out, task.session), task.t
    there, members = opened.run, opened.run.stacks[stack]
    about = {"generation": t, "stack": stack}
    journal = Journal(functools.partial(put, there.status(stack)), about) if task.team.rank == 0 else None
    return advance(
        members,
        opened.split(members),
        t,
        there.state(t - 1, stack) if t else None,
        functools.cache(lambda g: there.stack_samples(g, stack)) if t else _no_history,
        (there.state(0, stack) if looks_back(members) else {}) if t else None,
        Device(task.team, there.checkpoints(t, stack), task.save_every, journal=journal),
        functools.partial(there.everything_of, t - 1) if t else None,
        task.stopped,
    )


@dataclass(frozen=True)
class _Opened:
    """What a process has opened and loaded for one call of :func:`run`.

    Attributes:
        run: as it was when the call began.
        splits: the real data by their key; images may be large.
    """

    run: Run
    splits: dict[str, Split] = field(default_factory=dict)

    def split(self, members: list[Arm]) -> Split:
        """Return a stack's real data, loaded once."""
        of = data_key(members)
        if of not in self.splits:
            self.splits[of] = load(members, self.run.holds)
        return self.splits[of]


@functools.lru_cache(maxsize=1)
def _opened(out: str, session: str) -> _Opened:
    """Open a run once per process and call: the data of the same directory may be others at the next one."""
    return _Opened(Run.open(out))


# Metrics that a finished part of a run has not got yet


def _can_be_measured(experiment: Experiment, out: Path) -> None:
    """Refuse metrics that look at weights which a run did not keep.

    Raises:
        RunError: with the first of them.
    """
    if not (out / "experiment.yaml").exists():
        return
    there = Run.open(out)
    new = [name for name in experiment.metrics if name not in there.experiment.metrics and METRICS[name].weights]
    if new and not all(there.keeps_state(t) for t in range(there.present)):
        raise RunError(
            f"{str(out)!r} cannot add metric {new[0]}: it looks at weights, of which generations 1 to "
            f"{there.present - 3} were not kept; name it, or set keep_states to 'all', before a run begins"
        )


def measure_anew(writer: Writer, session: str) -> None:
    """Add to every committed generation the metrics that it lacks, from its samples and what weights there are.

    Args:
        writer: of the run.
        session: what tells this call from others of the process, for which the real data may have been others.
    """
    names, changed = writer.experiment.metrics, False
    for t in range(writer.present):
        by_arm = {record["arm"]: record for record in writer.everything_of(t)}
        if all(set(names) <= record["metrics"].keys() for record in by_arm.values()):
            continue
        if not changed:
            writer.forget_metrics()
            changed = True
        for s, members in enumerate(writer.stacks):
            records = [by_arm[arm.index] for arm in members if arm.index in by_arm]
            if new := [name for name in names if any(name not in record["metrics"] for record in records)]:
                _add_metrics(records, _measured(writer, session, t, s, new), new)
        writer.amend(t, list(by_arm.values()))
    if changed:
        writer.renew_metrics()


def _add_metrics(records: Sequence[Record], measured: Sequence[Record], names: Sequence[str]) -> None:
    """Add to a stack's records what was measured of its samples."""
    for record, found in zip(records, measured, strict=True):
        more = found["metrics"] if record["status"] == "ok" else dict.fromkeys(names)
        record["metrics"] = record["metrics"] | more
        if "reference" in found:
            record["reference"] = record.get("reference", {}) | found["reference"]


def _measured(writer: Writer, session: str, t: int, s: int, names: Sequence[str]) -> list[Record]:
    """Return records that have some metrics alone of one stack's generation."""
    looks = any(METRICS[name].weights for name in names)
    state, first = (writer.state(t, s), writer.state(0, s)) if looks else ({}, {})
    members, samples = writer.stacks[s], writer.stack_samples(t, s)
    with as_in_a_worker():
        split = _opened(str(writer.path), session).split(members)
        return measure(members, split, t, state, first, samples, Team(), None, names)
