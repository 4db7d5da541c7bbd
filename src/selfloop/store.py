"""The run directory: what a run has committed, written atomically and checked whenever it is read.

::

    RUN/experiment.yaml  environment.json  metrics.jsonl  log.txt  lock
    RUN/generation-0003/{state-000.safetensors, samples-000.safetensors, …, manifest.json}
    RUN/report/

A generation is written under a hidden name and renamed when it is complete: that rename is the commit. Its manifest
holds the records of all arms and the SHA-256 of every file; ``metrics.jsonl`` repeats the records for other programs to
read, and is brought up to date from the manifests when the run is next opened for writing. Nothing here is a pickle.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import filelock
import torch
from torch import Tensor

from selfloop.core.errors import RunError
from selfloop.core.files import disk_errors, load_tensors, read_bytes, read_sealed, sync, write_bytes, write_sealed
from selfloop.core.samples import Samples
from selfloop.data import Split
from selfloop.experiment import Arm, Experiment, stacks
from selfloop.learning.training import State
from selfloop.loop import Record


def _line(record: Record) -> bytes:
    return (json.dumps(record, ensure_ascii=False, allow_nan=False, sort_keys=True) + "\n").encode()


class Run:
    """A run directory, read; :class:`Writer` adds to one."""

    def __init__(self, path: Path, experiment: Experiment, environment: dict[str, Any]) -> None:
        self.path, self.experiment, self.environment = path, experiment, environment
        self._splits: dict[str, Split] = {}

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run directory for reading.

        Raises:
            RunError: it is not one, or one of its two head files is damaged.
        """
        path = Path(path)
        file = path / "experiment.yaml"
        if not file.is_file():
            raise RunError(f"{str(path)!r} is not a run directory: it has no experiment.yaml")
        environment = read_sealed(path / "environment.json")
        content = read_bytes(file)
        if hashlib.sha256(content).hexdigest() != environment["experiment"]:
            raise RunError(f"{str(file)!r} is damaged: its SHA-256 is not the one in environment.json")
        return cls(path, Experiment.parse(content.decode(), str(file)), environment)

    @cached_property
    def arms(self) -> list[Arm]:
        """The experiment's arms."""
        return self.experiment.arms()

    @cached_property
    def stacks(self) -> list[list[Arm]]:
        """The arms as they train and are stored together."""
        return stacks(self.experiment)

    def folder(self, t: int) -> Path:
        """Return the directory of generation t."""
        return self.path / f"generation-{t:04d}"

    def checkpoint(self, t: int, stack: int) -> Path:
        """Return how the names of files begin that keep one stack's fits of generation t while they are under way."""
        return self.path / f".fit-{t:04d}-{stack:03d}"

    @property
    def last(self) -> int:
        """The last committed generation, −1 where there is none.

        Raises:
            RunError: a generation before it is missing.
        """
        present = sorted(int(p.name[11:]) for p in self.path.glob("generation-*") if p.name[11:].isdigit())
        missing = sorted(set(range(len(present))) - set(present))
        if missing:
            raise RunError(f"{str(self.folder(missing[0]))!r} is missing")
        return len(present) - 1

    @property
    def finished(self) -> bool:
        """Whether all generations are committed."""
        return self.last >= self.experiment.generations

    def manifest(self, t: int) -> dict[str, Any]:
        """Return what generation t consists of.

        Raises:
            RunError: the manifest is missing, damaged, or another generation's.
        """
        path = self.folder(t) / "manifest.json"
        manifest = read_sealed(path)
        if manifest["generation"] != t or manifest["experiment"] != self.environment["experiment"]:
            raise RunError(f"{str(path)!r} belongs to another generation or experiment")
        return manifest

    def records(self) -> list[Record]:
        """Return one record per generation and arm, from the manifests.

        Raises:
            RunError: a manifest is damaged, or ``metrics.jsonl`` says something else.
        """
        records: list[Record] = [r for t in range(self.last + 1) for r in self.manifest(t)["records"]]
        expected = b"".join(map(_line, records))
        # A run killed between commit and append leaves a shorter file, which is no damage.
        if not expected.startswith(self._metrics()):
            raise RunError(
                f"{str(self.path / 'metrics.jsonl')!r} is damaged: it contradicts the manifests; "
                "empty the file to have it rebuilt"
            )
        return records

    def _metrics(self) -> bytes:
        return read_bytes(self.path / "metrics.jsonl", ": an empty file of that name is filled again")

    def tensors(self, t: int, kind: str, stack: int) -> dict[str, Tensor]:
        """Return the tensors of one stack, ``kind`` being "state" or "samples".

        Raises:
            RunError: the file is missing or damaged, or the state was not kept.
        """
        name = f"{kind}-{stack:03d}.safetensors"
        path, files = self.folder(t) / name, self.manifest(t)["files"]
        if kind == "state" and not path.exists() and not self.keeps_state(t):
            raise RunError(f"the weights of generation {t} were not kept: set keep_states to 'all' to keep them")
        return load_tensors(path, files[name])

    def keeps_state(self, t: int) -> bool:
        """Return whether the weights of generation t are to be there still."""
        return self.experiment.keep_states == "all" or t == 0 or t >= self.last - 1

    def state(self, t: int, stack: int) -> State:
        """Return one stack's state after generation t."""
        return self.tensors(t, "state", stack)

    def stack_samples(self, t: int, stack: int) -> Samples:
        """Return one stack's samples of generation t."""
        return Samples(**self.tensors(t, "samples", stack))

    def place(self, arm: int) -> tuple[int, int]:
        """Return the stack in which an arm is, and its row there."""
        for s, members in enumerate(self.stacks):
            for row, member in enumerate(members):
                if member.index == arm:
                    return s, row
        raise IndexError(f"there is no arm {arm}")

    def samples(self, t: int, arm: int) -> Tensor:
        """Return the samples of one arm's generation t, (count, *event), in model units."""
        stack, row = self.place(arm)
        return self.stack_samples(t, stack).arm(row)

    def split(self, arm: int) -> Split:
        """Return one arm's real data, R = 1; the last is kept, as arms share it and images take long to read."""
        chosen = self.arms[arm]
        key = f"{chosen.experiment.data.model_dump_json()} {chosen.seed}"
        if key not in self._splits:
            self._splits = {key: chosen.experiment.data.load([chosen.seed])}
        return self._splits[key]

    def verify(self) -> None:
        """Check every file of the run.

        Raises:
            RunError: names the first file that is missing or damaged.
        """
        self.records()
        for t in range(self.last + 1):
            for name, note in self.manifest(t)["files"].items():
                path = self.folder(t) / name
                if name.startswith("samples") or path.exists() or self.keeps_state(t):
                    load_tensors(path, note)


class Writer(Run):
    """A run directory that this process alone may add to; a context manager that holds its lock."""

    @classmethod
    @contextlib.contextmanager
    def lock(cls, path: Path, experiment: Experiment, environment: dict[str, Any]) -> Iterator[Writer]:
        """Create the run directory or go on with it, and keep other processes out meanwhile.

        Raises:
            RunError: it is another experiment's, in use, damaged, or not a run directory.
            StorageFull: there is no space.
        """
        _check(path, experiment, environment)
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            guard = filelock.FileLock(path / "lock")
            try:
                guard.acquire(timeout=0)
            except filelock.Timeout as error:
                raise RunError(f"{str(path)!r} is in use by another process") from error
        try:
            _check(path, experiment, environment)  # another process may have made it since
            with disk_errors(path):
                if not (path / "experiment.yaml").exists():
                    _create(path, experiment, environment)
                writer = cls(path, experiment, Run.open(path).environment)
                if writer.environment != environment | {"experiment": writer.environment["experiment"]}:
                    writer.log("resumed with other libraries or on another machine: bits may differ from here on")
                writer._recover()
            yield writer
        finally:
            guard.release()

    def _recover(self) -> None:
        for leftover in self.path.glob(".generation-*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        for leftover in self.path.glob("..fit-*.tmp"):
            leftover.unlink()
        expected = b"".join(map(_line, self.records()))
        if self._metrics() != expected:
            write_bytes(self.path / "metrics.jsonl", expected)
        self._prune()

    def log(self, line: str) -> None:
        """Append a line to log.txt, which is for people and not checked."""
        with open(self.path / "log.txt", "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _hidden(self, t: int) -> Path:
        # Workers outlive a killed parent for a moment: they must not write among the files of its successor.
        return self.path / f".generation-{t:04d}-{os.getpid()}.tmp"

    def begin(self, t: int) -> Path:
        """Return an empty hidden directory to write generation t into."""
        folder = self._hidden(t)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def commit(self, t: int, files: dict[str, Any], records: list[Record]) -> None:
        """Make generation t visible, all of it at once; then extend metrics.jsonl and drop weights not to be kept."""
        folder = self._hidden(t)
        content = {
            "format": 1,
            "generation": t,
            "experiment": self.environment["experiment"],
            "files": files,
            "records": records,
        }
        write_sealed(folder / "manifest.json", content)
        sync(folder)
        os.rename(folder, self.folder(t))
        sync(self.path)
        with open(self.path / "metrics.jsonl", "ab") as file:
            file.write(b"".join(map(_line, records)))
        self._prune()

    def _prune(self) -> None:
        last = self.last
        for path in self.path.glob(".fit-*"):
            if int(path.name.split("-")[1]) <= last:
                path.unlink()
        for t in range(1, last - 1):
            if not self.keeps_state(t):
                for path in self.folder(t).glob("state-*.safetensors"):
                    path.unlink()


def _check(path: Path, experiment: Experiment, environment: dict[str, Any]) -> None:
    """Refuse a directory in which this experiment cannot be run."""
    if path.exists() and not path.is_dir():
        raise RunError(f"{str(path)!r} is a file, not a directory")
    if (path / "experiment.yaml").exists():
        existing = Run.open(path)
        if existing.experiment.digest() != experiment.digest():
            raise RunError(f"{str(path)!r} holds another experiment: {_difference(existing.experiment, experiment)}")
        if existing.environment["data"] != environment["data"]:
            raise RunError(f"{str(path)!r} was run on other data: the real rows have changed since; use another --out")
    elif path.is_dir() and not all(map(_unborn, path.iterdir())):
        raise RunError(f"{str(path)!r} is not empty but has no experiment.yaml: choose another --out")


def _unborn(path: Path) -> bool:
    """Whether a file may be left of a run that was killed while its directory was made."""
    if path.name == "environment.json":
        with contextlib.suppress(RunError):
            return "experiment" in read_sealed(path)
        return False
    if path.name in ("lock", "metrics.jsonl"):
        return path.is_file() and path.stat().st_size == 0
    return path.name in (".metrics.jsonl.tmp", ".environment.json.tmp", ".experiment.yaml.tmp")


def _create(path: Path, experiment: Experiment, environment: dict[str, Any]) -> None:
    text = experiment.yaml().encode()
    write_bytes(path / "metrics.jsonl", b"")
    write_sealed(path / "environment.json", environment | {"experiment": hashlib.sha256(text).hexdigest()})
    write_bytes(path / "experiment.yaml", text)  # last: it is what makes this a run directory
    sync(path)


def _difference(a: Experiment, b: Experiment) -> str:
    def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in settings.items():
            out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        return out

    left, right = flat(a.model_dump()), flat(b.model_dump())
    key = next(k for k in left | right if left.get(k) != right.get(k))
    return f"there {key} is {left.get(key)!r}, here {right.get(key)!r}; use another --out"


def fingerprint(split: Split) -> str:
    """Return the SHA-256 of a split's training and held-out rows."""
    digest = hashlib.sha256()
    for x in (split.train, split.held_out):
        digest.update(str(tuple(x.shape)).encode())
        for arm in x:
            digest.update(arm.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
