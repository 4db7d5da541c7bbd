"""Running an experiment: generation after generation, each a transaction in the run directory."""

from __future__ import annotations

import functools
import hashlib
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from selfloop.engines.workers import engine
from selfloop.experiment import Experiment, stacks
from selfloop.files import disk_errors, save_tensors
from selfloop.loop import Record, advance, load
from selfloop.metrics import METRICS
from selfloop.place import Place, available
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
    device: str = "cpu",
    save_every: float = 600.0,
    progress: Progress | None = None,
) -> Iterator[Generation]:
    """Run an experiment, or what is left of it, and yield each generation once it is committed.

    Args:
        experiment: what to run.
        out: the run directory; made if it is not there, resumed if it holds this experiment.
        workers: processes to spread the arms over; 0 runs them here. The result is the same to the bit.
        device: of networks of images, as torch names it; all else runs on the CPU.
        save_every: seconds after which a fit under way is saved, so that a killed one goes on from there.
        progress: called after each stack of arms.

    Raises:
        ConfigError, DataError: the experiment cannot be run, or there is no such device; nothing is written.
        RunError: the directory is another experiment's, in use, or damaged.
        StorageFull: the disk is full; run again to resume.
    """
    out, place = Path(out), available(device)
    members = stacks(experiment)
    with Writer.lock(out, experiment, environment(experiment)) as writer:
        begin = writer.last + 1
        if begin > experiment.generations:
            return
        identity = writer.environment["experiment"] + writer.environment["data"]
        with engine(workers, len(members)) as pool, disk_errors(out):
            for t in range(begin, experiment.generations + 1):
                started = time.monotonic()
                work = functools.partial(advance_stack, str(out), str(writer.begin(t)), identity, t, place, save_every)
                files: dict[str, Any] = {}
                records: list[Record] = []
                for done, (notes, rows) in enumerate(pool.map(work, range(len(members))), 1):
                    files |= notes
                    records += rows
                    if progress is not None:
                        progress(t, done, len(members))
                records.sort(key=lambda record: int(record["arm"]))
                writer.commit(t, files, records)
                seconds = time.monotonic() - started
                writer.log(f"{time.strftime('%Y-%m-%d %H:%M:%S')} generation {t} {seconds:.2f} s")
                yield Generation(t, records, seconds)


def advance_stack(
    out: str, folder: str, identity: str, t: int, device: torch.device, save_every: float, stack: int
) -> tuple[dict[str, Any], list[Record]]:
    """Run generation t of one stack from the run directory ``out`` and write its files into ``folder``."""
    source, members, split = _opened(out, identity, stack)
    outcome = advance(
        members,
        split,
        t,
        source.state(t - 1, stack) if t else None,
        functools.cache(lambda g: source.stack_samples(g, stack)),
        source.state(0, stack) if t else None,
        Place(device, source.midway(t, stack), save_every),
    )
    samples = {"x": outcome.samples.x, "born": outcome.samples.born, "count": outcome.samples.count}
    notes = {
        f"{kind}-{stack:03d}.safetensors": save_tensors(Path(folder) / f"{kind}-{stack:03d}.safetensors", tensors)
        for kind, tensors in (("state", outcome.state), ("samples", samples))
    }
    return notes, outcome.records


@functools.lru_cache(maxsize=64)
def _opened(out: str, identity: str, stack: int) -> tuple[Run, list[Any], Any]:
    """Open the run and load one stack's data once per process; both are the same in every generation.

    ``identity`` tells apart runs that follow each other in the same directory.
    """
    source = Run.open(out)
    members = source.stacks[stack]
    return source, members, load(members)


def environment(experiment: Experiment) -> dict[str, Any]:
    """Return what results depend on besides the experiment: libraries, machine, real rows, metrics, feature extractor.

    Raises:
        DataError: the data, or what the feature extractor needs, cannot be loaded.
    """
    digest = hashlib.sha256("".join(fingerprint(load(members)) for members in stacks(experiment)).encode())
    libraries = ("selfloop", "torch", "numpy", "scipy", "scikit-learn", "numba", "POT", "safetensors")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "libraries": {name: version(name) for name in libraries},
        "data": digest.hexdigest(),
        "metrics": {name: METRICS[name].version for name in experiment.metrics},
        "features": experiment.features.key(),
    }
