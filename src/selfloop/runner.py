"""Running an experiment: generation after generation, each a transaction in the run directory."""

from __future__ import annotations

import functools
import hashlib
import math
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from selfloop.core.errors import ConfigError, DataError, quoted
from selfloop.core.files import copy, disk_errors, save_tensors
from selfloop.data import Split
from selfloop.engines.device import Device
from selfloop.engines.team import Team
from selfloop.engines.threads import as_in_a_worker
from selfloop.engines.workers import engine
from selfloop.experiment import Arm, Experiment, first_alike, stacks
from selfloop.generators import Diffusers, Flow, diffusers, flow
from selfloop.generators.images import UNetModel
from selfloop.loop import Outcome, Record, advance, data_key, load, named
from selfloop.metrics import METRICS
from selfloop.store import Run, Writer, fingerprint

Progress = Callable[[int, int, int], None]  # generation, stacks done, stacks in all


@dataclass(frozen=True)
class Generation:
    """A committed generation.

    Attributes:
        t: its number.
        records: one per arm, as in metrics.jsonl.
        seconds: wall time it took.
    """

    t: int
    records: list[Record]
    seconds: float


def run(
    experiment: Experiment,
    out: str | Path,
    *,
    workers: int = 0,
    team: Team | None = None,
    save_every: float = 600.0,
    progress: Progress | None = None,
) -> Iterator[Generation]:
    """Run an experiment, or what is left of it, and yield each generation once it is committed.

    Args:
        experiment: what to run.
        out: the run directory; made if it is not there, resumed if it holds this experiment.
        workers: processes to spread the arms over; 0 runs them here. The result is the same to the bit.
        team: on whose devices networks of images run, this process being its first; the others :func:`assist`.
        save_every: seconds after which a fit under way is saved, so that a killed one goes on from there.
        progress: called after each stack of arms.

    Raises:
        ConfigError, DataError: the experiment cannot be run, or not by several devices; nothing is written.
        RunError: the directory is another experiment's, in use, or damaged.
        StorageFull: the disk is full; run again to resume.
    """
    out, team = Path(out), team or Team()
    members = stacks(experiment)
    try:
        if team.size > 1 and (workers > 0 or experiment.generator.events != "images"):
            what = "fits of images, one after the other (workers 0)"
            raise ConfigError(f"several devices share {what}, not those of generator {experiment.generator.name}")
        with Writer.lock(out, experiment, _complete_environment(experiment)) as writer:
            identity = writer.environment["experiment"] + writer.environment["data"]
            with engine(workers, len(members)) as pool, disk_errors(out):
                for t in range(writer.last + 1, experiment.generations + 1):
                    team.broadcast((t, identity))
                    started = time.monotonic()
                    folder = writer.begin(t)
                    work = functools.partial(advance_stack, str(out), str(folder), identity, t, team, save_every)
                    alike = first_alike(members) if t == 0 else list(range(len(members)))
                    files: dict[str, Any] = {}
                    records: list[Record] = []
                    todo = sorted(set(alike))
                    for done, (stack, notes, rows) in enumerate(pool.map(work, todo), 1):
                        for twin in (i for i, one in enumerate(alike) if one == stack):
                            files |= _copied(folder, notes, stack, twin)
                            records += [named(record, arm) for record, arm in zip(rows, members[twin], strict=True)]
                        if progress is not None:
                            progress(t, done, len(todo))
                    records.sort(key=lambda record: int(record["arm"]))
                    writer.commit(t, files, records)
                    seconds = time.monotonic() - started
                    writer.log(f"{time.strftime('%Y-%m-%d %H:%M:%S')} generation {t} {seconds:.2f} s")
                    yield Generation(t, records, seconds)
    finally:
        team.broadcast(None)


def assist(experiment: Experiment, out: str | Path, team: Team) -> None:
    """Take part in the fits of a run that the team's first process runs, until it says that it is over."""
    while (said := team.broadcast(None)) is not None:
        t, identity = said
        members = stacks(experiment)
        for stack in sorted(set(first_alike(members))) if t == 0 else range(len(members)):
            with as_in_a_worker():
                _outcome(str(out), identity, t, team, math.inf, stack)


def advance_stack(
    out: str, folder: str, identity: str, t: int, team: Team, save_every: float, stack: int
) -> tuple[int, dict[str, Any], list[Record]]:
    """Run generation t of one stack from the run directory ``out`` and write its files into ``folder``."""
    outcome = _outcome(out, identity, t, team, save_every, stack)
    samples = {"x": outcome.samples.x, "born": outcome.samples.born, "count": outcome.samples.count}
    notes = {
        kind: save_tensors(Path(folder) / _file(kind, stack), tensors)
        for kind, tensors in (("state", outcome.state), ("samples", samples))
    }
    return stack, notes, outcome.records


def _file(kind: str, stack: int) -> str:
    return f"{kind}-{stack:03d}.safetensors"


def _copied(folder: Path, notes: dict[str, Any], stack: int, twin: int) -> dict[str, Any]:
    """Give a stack the files of another one, and return the notes on them by name."""
    for kind in notes if twin != stack else ():
        copy(folder / _file(kind, stack), folder / _file(kind, twin))
    return {_file(kind, twin): note for kind, note in notes.items()}


def _outcome(out: str, identity: str, t: int, team: Team, save_every: float, stack: int) -> Outcome:
    opened, members, split = _opened(out, identity, stack)
    return advance(
        members,
        split,
        t,
        opened.state(t - 1, stack) if t else None,
        functools.cache(lambda g: opened.stack_samples(g, stack)),
        opened.state(0, stack) if t else None,
        Device(team, opened.checkpoint(t, stack), save_every),
    )


@functools.lru_cache(maxsize=64)
def _opened(out: str, identity: str, stack: int) -> tuple[Run, list[Arm], Split]:
    """Open the run and load one stack's data once per process; both are the same in every generation.

    ``identity`` tells apart runs that follow each other in the same directory.
    """
    opened = Run.open(out)
    members, loaded = opened.stacks[stack], _loaded(out, identity)
    if data_key(members) not in loaded:
        loaded[data_key(members)] = load(members)
    return opened, members, loaded[data_key(members)]


@functools.lru_cache(maxsize=1)
def _loaded(out: str, identity: str) -> dict[str, Split]:
    """Return the real data that this process has loaded for a run, by its source; images may be large."""
    return {}


def environment(experiment: Experiment) -> dict[str, Any]:
    """Return what results depend on besides the experiment: libraries, machine, real rows, metrics, feature extractor.

    Raises:
        DataError: the data, or what the feature extractor needs, cannot be loaded.
        ConfigError: a library that the generator needs is not installed.
    """
    data = _data(experiment)
    libraries = ["selfloop", "torch", "numpy", "scipy", "scikit-learn", "numba", "POT", "safetensors"]
    for family, library in ((Diffusers, diffusers.library), (Flow, flow.library)):
        if isinstance(experiment.generator, family):
            libraries.append(library().__name__)
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "libraries": {name: version(name) for name in libraries},
        "data": data,
        "metrics": {name: METRICS[name].version for name in experiment.metrics},
        "features": experiment.features.key(),
        "checkpoint": _checkpoint(experiment),
    }


def _complete_environment(experiment: Experiment) -> dict[str, Any]:
    """Return the environment, or name in one error all that it lacks: files are fetched together."""
    try:
        return environment(experiment)
    except DataError as error:
        raise DataError("; ".join(missing(experiment)) or str(error)) from error


def missing(experiment: Experiment) -> list[str]:
    """Return, a line each, what a run of an experiment would refuse to begin without."""
    needs: tuple[Callable[[Experiment], object], ...] = (_data, lambda e: e.features.key(), _checkpoint)
    found = []
    for need in needs:
        try:
            need(experiment)
        except DataError as error:
            found.append(str(error))
    return found


def _data(experiment: Experiment) -> str:
    """Return the SHA-256 of the real rows of all stacks.

    Raises:
        DataError: some cannot be loaded.
    """
    seen: dict[str, str] = {}  # arms share their data, which may be large
    prints = []
    for members in stacks(experiment):
        if data_key(members) not in seen:
            seen[data_key(members)] = fingerprint(load(members))
        prints.append(seen[data_key(members)])
    return hashlib.sha256("".join(prints).encode()).hexdigest()


def _checkpoint(experiment: Experiment) -> str | None:
    """Return the SHA-256 of the file that generation 0 begins with.

    Raises:
        DataError: it is not there.
    """
    path = experiment.generator.checkpoint if isinstance(experiment.generator, UNetModel) else None
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(
            f"generator.checkpoint {quoted(path)} cannot be read ({error.strerror}): fetch it, or set it to null"
        ) from error
