"""The run directory: what a run has committed, written atomically and checked whenever it is read.

::

    RUN/experiment.yaml  environment.json  real.safetensors  data-*.safetensors  metrics.jsonl  log.txt  lock
    RUN/generation-0003/{state-000.safetensors, samples-000.safetensors, …, manifest.json}
    RUN/report/

A generation is written under a hidden name and renamed when it is complete: that rename is the commit. Its manifest
holds the records of all arms and the SHA-256 of every file. A run that grows by arms gets their files into the
generations that are there, whose manifests are then replaced: that is their commit. ``metrics.jsonl`` repeats the
records for other programs to read, and is brought up to date from the manifests when the run is next opened for
writing. Nothing here is a pickle, and reading needs neither the data nor the code that a run was made with.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
from torch import Tensor

from selfloop.arms import Arm, arms, key, stacks
from selfloop.core.errors import ConfigError, RunError
from selfloop.core.files import (
    disk_errors,
    load_sealed,
    load_tensors,
    read_bytes,
    read_sealed,
    sync,
    write_bytes,
    write_sealed,
)
from selfloop.core.records import Record
from selfloop.core.samples import Samples, State
from selfloop.data.base import Split
from selfloop.data.kept import look_in
from selfloop.data.real import Real, RealRows, fingerprint
from selfloop.experiment import Experiment
from selfloop.metrics.base import METRICS, Metric

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 2
_SEAL = "# selfloop run, format {format}, SHA-256 of what follows {digest}\n"


def _line(record: Record) -> bytes:
    return (json.dumps(record, ensure_ascii=False, allow_nan=False, sort_keys=True) + "\n").encode()


def _infinite(value: Any) -> Any:
    """Return a number for "inf" and for None, so that columns of numbers are ones."""
    return math.nan if value is None else math.inf if value == "inf" else value


class Run:
    """A run directory, read; :class:`Writer` adds to one.

    What it shows is how far the run was when it was first asked: a run that goes on meanwhile is opened again.
    """

    def __init__(self, path: Path, experiment: Experiment, environment: dict[str, Any]) -> None:
        self.path, self.experiment, self.environment = path, experiment, environment

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run directory for reading.

        Raises:
            RunError: it is not one, is of an earlier version, or one of its two head files is damaged.
        """
        path = Path(path)
        file = path / "experiment.yaml"
        if not file.is_file():
            raise RunError(f"{str(path)!r} is not a run directory: it has no experiment.yaml")
        text = _unsealed(file)
        look_in(path)
        experiment = Experiment.parse(text, str(file), absent=True)
        return cls(path, experiment, read_sealed(path / "environment.json"))

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def __str__(self) -> str:
        done = f"{max(self.last, 0)} of {self.experiment.generations} retrainings"
        names = ", ".join(self.experiment.metrics)
        return f"{self.path}: {self.experiment.name}, {done}, {len(self.arms)} arms; {names}"

    @property
    def identity(self) -> str:
        """What all of its generations have in common, however it grows."""
        return str(self.environment["run"])

    @cached_property
    def arms(self) -> list[Arm]:
        """The experiment's arms."""
        return arms(self.experiment)

    @cached_property
    def stacks(self) -> list[list[Arm]]:
        """The arms as they train and are stored together: those that came first keep their stacks."""
        by_key = {arm.key: arm for arm in self.arms}
        there = self.manifest(0)["stacks"] if self.folder(0).is_dir() else {}
        found = [[by_key.pop(of) for of in there[name]["arms"]] for name in sorted(there)]
        return found + stacks(list(by_key.values()))

    def folder(self, t: int) -> Path:
        """Return the directory of generation t."""
        return self.path / f"generation-{t:04d}"

    def checkpoints(self, t: int, stack: int) -> Path:
        """Return how the names of files begin that keep one stack's fits of generation t while they are under way."""
        return self.path / f".fit-{t:04d}-{stack:03d}"

    @cached_property
    def present(self) -> int:
        """How many generations are there, of some arms or of all.

        Raises:
            RunError: one before the last is missing.
        """
        numbers = sorted(int(p.name[11:]) for p in self.path.glob("generation-*") if p.name[11:].isdigit())
        missing = sorted(set(range(len(numbers))) - set(numbers))
        if missing:
            raise RunError(f"{str(self.folder(missing[0]))!r} is missing")
        return len(numbers)

    @property
    def last(self) -> int:
        """The last generation that is there of all arms, −1 where there is none."""
        return self._last

    @cached_property
    def _last(self) -> int:
        # A run that has grown by arms makes good for them from generation 0 on: what lacks one is followed by such.
        low, high, count = -1, self.present - 1, len(self.stacks)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if len(self.manifest(middle)["stacks"]) >= count else (low, middle - 1)
        return low

    @property
    def finished(self) -> bool:
        """Whether all generations of all arms are committed."""
        return self.last >= self.experiment.generations

    def manifest(self, t: int) -> dict[str, Any]:
        """Return what generation t consists of.

        Raises:
            RunError: the manifest is missing, damaged, or another generation's.
        """
        path = self.folder(t) / "manifest.json"
        manifest = read_sealed(path)
        if manifest["generation"] != t or manifest["run"] != self.identity:
            raise RunError(f"{str(path)!r} belongs to another generation or experiment")
        return manifest

    def records(self) -> list[Record]:
        """Return one record per generation and arm, from the manifests.

        Raises:
            RunError: a manifest is damaged.
        """
        return [record for t in range(self.last + 1) for record in self.of_generation(t)]

    def of_generation(self, t: int) -> list[Record]:
        """Return the records of generation t, in the order of the arms as they are now numbered."""
        index = {arm.key: arm.index for arm in self.arms}
        found: list[Record] = [
            record | {"arm": index[key(record["settings"], record["seed"])]} for record in self.manifest(t)["records"]
        ]
        return sorted(found, key=lambda record: record["arm"])

    def metric(self, name: str) -> Metric:
        """Return what is known of a metric that was recorded, also where its code is not here."""
        about = self.environment["metrics"].get(name)
        if name in METRICS and (about is None or METRICS[name].version == about["version"]):
            return METRICS[name]
        if about is None:
            raise ConfigError(f"{str(self.path)!r} did not record metric {name!r}")
        return Metric.recorded(name, about)

    @property
    def metrics(self) -> dict[str, Metric]:
        """What is known of the recorded metrics, by name."""
        return {name: self.metric(name) for name in self.experiment.metrics}

    def to_frame(self) -> pd.DataFrame:
        """Return the records as a tidy pandas frame: a row per arm, generation and metric, a column per grid key.

        Infinite settings are inf, values that were not finite NaN.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ConfigError("to_frame needs pandas: pip install 'selfloop[frames]'") from error
        rows = [
            {"arm": record["arm"], "seed": record["seed"]}
            | {name: _infinite(value) for name, value in record["settings"].items()}
            | {"regime": record["regime"], "ratio": _infinite(record["ratio"]), "generation": record["generation"]}
            | {"status": record["status"], "metric": name, "value": math.nan if value is None else value}
            | {"floor": _infinite(record.get("reference", {}).get(name))}
            for record in self.records()
            for name, value in record["metrics"].items()
        ]
        return pd.DataFrame(rows)

    def tensors(self, t: int, kind: str, stack: int) -> dict[str, Tensor]:
        """Return the tensors of one stack, ``kind`` being "state" or "samples".

        Raises:
            RunError: the file is missing or damaged, or the state was not kept.
        """
        name = f"{kind}-{stack:03d}.safetensors"
        path, held = self.folder(t) / name, self.manifest(t)["stacks"].get(f"{stack:03d}")
        if held is None:
            raise RunError(f"{str(self.folder(t))!r} does not have stack {stack} yet")
        if kind == "state" and not path.exists() and not self.keeps_state(t):
            raise RunError(f"the weights of generation {t} were not kept: set keep_states to 'all' to keep them")
        return load_tensors(path, held["files"][name])

    def keeps_state(self, t: int) -> bool:
        """Return whether the weights of generation t are to be there still."""
        return self.experiment.keep_states == "all" or t == 0 or t >= self.present - 2

    def state(self, t: int, stack: int) -> State:
        """Return one stack's state after generation t."""
        return self.tensors(t, "state", stack)

    def stack_samples(self, t: int, stack: int) -> Samples:
        """Return one stack's samples of generation t."""
        return Samples(**self.tensors(t, "samples", stack))

    def row(self, arm: int) -> tuple[int, int]:
        """Return the stack in which an arm is, and its row there."""
        for s, members in enumerate(self.stacks):
            for row, member in enumerate(members):
                if member.index == arm:
                    return s, row
        raise IndexError(f"there is no arm {arm}")

    def samples(self, t: int, arm: int) -> Tensor:
        """Return the samples of one arm's generation t, (count, *event), in model units."""
        stack, row = self.row(arm)
        return self.stack_samples(t, stack).arm(row)

    @cached_property
    def _real(self) -> RealRows:
        return RealRows.read(self.path / "real.safetensors")

    def real(self, arm: int) -> Real:
        """Return what the run keeps of one arm's real data: units, moments and some rows; the data are not needed."""
        return self._real.of(self.arms[arm].data_key)

    def split(self, arm: int) -> Split:
        """Return one arm's real data, R = 1, all of them, read from where the run found them.

        Raises:
            RunError: they have changed since.
            DataError: they are not there any more.
            ConfigError: their code is not here.
        """
        chosen = self.arms[arm]
        cached = self.__dict__.setdefault("_split", {})
        if chosen.data_key not in cached:
            split = chosen.experiment.data.load([chosen.seed])
            if fingerprint(split, 0) != self._real.hash(chosen.data_key):
                raise changed(self.path)
            cached.clear()  # images may be large, and arms share them
            cached[chosen.data_key] = split
        found: Split = cached[chosen.data_key]
        return found

    def verify(self) -> None:
        """Check every file of the run.

        Raises:
            RunError: names the first file that is missing or damaged.
        """
        self._real.verify(self.path)
        expected = b"".join(map(_line, self.records()))
        # A run killed between commit and append leaves a shorter file, which is no damage.
        if not expected.startswith(self._metrics()):
            raise RunError(
                f"{str(self.path / 'metrics.jsonl')!r} is damaged: it contradicts the manifests; "
                "the same run command writes it again"
            )
        for t in range(self.present):
            for held in self.manifest(t)["stacks"].values():
                for name, note in held["files"].items():
                    path = self.folder(t) / name
                    if name.startswith("samples") or path.exists() or self.keeps_state(t):
                        load_tensors(path, note)

    def _metrics(self) -> bytes:
        return read_bytes(self.path / "metrics.jsonl", ": the same run command writes it again")


def changed(path: Path) -> RunError:
    """Return the error of real rows that are not those which a run was made with."""
    return RunError(f"{str(path)!r} was run on other data: the real rows have changed since; use another --out")


class Writer(Run):
    """A run directory that this process alone may add to; a context manager that holds its lock."""

    @classmethod
    @contextlib.contextmanager
    def lock(cls, path: Path, experiment: Experiment, environment: dict[str, Any], real: RealRows) -> Iterator[Writer]:
        """Create the run directory, go on with it or let it grow, and keep other processes out meanwhile.

        What this call has made is gone again where the experiment turns out to be one that cannot be run.

        Raises:
            RunError: it is another experiment's, in use, damaged, or not a run directory.
            StorageFull: there is no space.
        """
        check(path, experiment, environment, real)
        made = not path.exists()
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
            guard = filelock.FileLock(path / "lock")
            try:
                guard.acquire(timeout=0)
            except filelock.Timeout as error:
                raise RunError(f"{str(path)!r} is in use by another process") from error
        try:
            check(path, experiment, environment, real)  # another process may have made it since
            new = not (path / "experiment.yaml").exists()
            with disk_errors(path):
                writer = cls._opened(path, experiment, environment, real)
                writer._recover()
            try:
                yield writer
            except ConfigError:
                if new and writer.present == 0:
                    writer._undo(made)
                raise
        finally:
            guard.release()

    @classmethod
    def _opened(cls, path: Path, experiment: Experiment, environment: dict[str, Any], real: RealRows) -> Writer:
        if not (path / "experiment.yaml").exists() or Run.open(path).present == 0:
            _create(path, experiment, environment, real)
            return cls(path, experiment, Run.open(path).environment)
        before = Run.open(path)
        kept = before.environment | {
            "metrics": environment["metrics"] | before.environment["metrics"],
            "code": before.environment["code"] | environment["code"],
        }
        if before.environment != kept or before.experiment.model_dump() != experiment.model_dump():
            # The experiment comes last: until it is there the run has not grown.
            real.write(path / "real.safetensors")
            write_sealed(path / "environment.json", kept)
            write_bytes(path / "experiment.yaml", _sealed(experiment))
        writer = cls(path, experiment, kept)
        if any(kept.get(name) != environment[name] for name in environment if name not in ("metrics", "code")):
            writer.log("resumed with other libraries or on another machine: bits may differ from here on")
        return writer

    def _undo(self, made: bool) -> None:
        """Remove what was made for a run of which nothing is committed."""
        for file in self.path.iterdir():
            if file.name.startswith((".generation-", ".fit-")):
                shutil.rmtree(file, ignore_errors=True) if file.is_dir() else file.unlink()
            elif file.name in _HEAD or file.name.startswith("data-"):
                file.unlink()
        if made:
            (self.path / "lock").unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # somebody else has put something there
                self.path.rmdir()

    def _recover(self) -> None:
        for leftover in self.path.glob(".generation-*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        for leftover in self.path.glob("..fit-*.tmp"):
            leftover.unlink()
        expected = b"".join(map(_line, self.records()))
        if not (self.path / "metrics.jsonl").exists() or self._metrics() != expected:
            write_bytes(self.path / "metrics.jsonl", expected)
        for path in self.path.glob(".fit-*"):
            if int(path.name.split("-")[1]) <= self.last:
                path.unlink()
        for t in range(1, self.present - 2):
            if not self.keeps_state(t) and t + 2 <= self.last:
                for path in self.folder(t).glob("state-*.safetensors"):
                    path.unlink()

    def log(self, line: str) -> None:
        """Append a line to log.txt, which is for people and not checked."""
        with open(self.path / "log.txt", "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _hidden(self, t: int) -> Path:
        # Workers outlive a killed parent for a moment: they must not write among the files of its successor.
        return self.path / f".generation-{t:04d}-{os.getpid()}.tmp"

    def begin(self, t: int) -> Path:
        """Return an empty hidden directory to write what generation t lacks into."""
        folder = self._hidden(t)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def lacking(self, t: int) -> list[int]:
        """Return the stacks that generation t does not have yet."""
        there = self.manifest(t)["stacks"] if t < self.present else {}
        return [s for s in range(len(self.stacks)) if f"{s:03d}" not in there]

    def commit(self, t: int, files: dict[int, dict[str, Any]], records: Sequence[Record]) -> None:
        """Make stacks of generation t visible, all at once; then extend metrics.jsonl and drop weights not to be kept.

        Args:
            t: the generation.
            files: by stack, what there is to note of each of its files.
            records: of the arms of these stacks.
        """
        folder = self._hidden(t)
        entries = {
            f"{s:03d}": {"arms": [arm.key for arm in self.stacks[s]], "files": notes} for s, notes in files.items()
        }
        before = self.manifest(t) if t < self.present else None
        content = {
            "format": FORMAT,
            "generation": t,
            "run": self.identity,
            "stacks": ({} if before is None else before["stacks"]) | entries,
            "records": sorted([*(before["records"] if before else ()), *records], key=lambda record: record["arm"]),
        }
        if before is None:
            write_sealed(folder / "manifest.json", content)
            sync(folder)
            os.rename(folder, self.folder(t))
            sync(self.path)
            self.__dict__["present"] = t + 1
        else:
            for name in (name for notes in files.values() for name in notes):
                os.replace(folder / name, self.folder(t) / name)
            sync(self.folder(t))
            write_sealed(self.folder(t) / "manifest.json", content)
            sync(self.folder(t))
            folder.rmdir()
        self.__dict__["_last"] = t
        with open(self.path / "metrics.jsonl", "ab") as file:
            file.write(b"".join(map(_line, self.of_generation(t))))
        self._prune(t, files)

    def _prune(self, t: int, files: dict[int, dict[str, Any]]) -> None:
        """Drop the fits under way of some stacks' generation t, and the weights that it leaves without use."""
        for s in files:
            for path in self.path.glob(f"{self.checkpoints(t, s).name}*"):
                path.unlink()
            if t - 2 > 0 and self.experiment.keep_states == "last":
                (self.folder(t - 2) / f"state-{s:03d}.safetensors").unlink(missing_ok=True)

    def amend(self, t: int, records: Sequence[Record]) -> None:
        """Replace the records of generation t, all at once."""
        write_sealed(self.folder(t) / "manifest.json", self.manifest(t) | {"records": list(records)})
        sync(self.folder(t))

    def renew_metrics(self) -> None:
        """Write metrics.jsonl again from the manifests."""
        write_bytes(self.path / "metrics.jsonl", b"".join(map(_line, self.records())))


def check(path: Path, experiment: Experiment, environment: dict[str, Any], real: RealRows) -> None:
    """Refuse a directory in which this experiment cannot be run.

    Raises:
        RunError: it holds another one, or something else.
    """
    if path.exists() and not path.is_dir():
        raise RunError(f"{str(path)!r} is a file, not a directory")
    if (path / "experiment.yaml").exists():
        existing = Run.open(path)
        if existing.present == 0:
            return
        belongs(existing, experiment)
        if not real.agrees(existing._real):
            raise changed(path)
        for name, words in (("checkpoint", "generator.checkpoint"), ("features", "features")):
            if existing.environment[name] != environment[name]:
                raise RunError(f"{str(path)!r} was run with other {words}: the file has changed; use another --out")
    elif path.is_dir() and not all(map(_unborn, path.iterdir())):
        raise RunError(f"{str(path)!r} is not empty but has no experiment.yaml: choose another --out")


def belongs(run: Run, experiment: Experiment) -> None:
    """Refuse an experiment that is neither that of a run nor one that it may grow to.

    Raises:
        RunError: with the setting that differs.
    """
    where, before = repr(str(run.path)), run.experiment
    if before.lasting() != experiment.lasting():
        raise RunError(f"{where} holds another experiment: {_difference(before, experiment)}")
    if experiment.generations < run.present - 1:
        raise RunError(
            f"{where} has {run.present - 1} retrainings already, more than generations {experiment.generations}: "
            "a run only grows; use another --out"
        )
    if gone := [arm for arm in run.arms if arm.key not in {other.key for other in arms(experiment)}]:
        words = ", ".join(f"{name} = {value}" for name, value in (*gone[0].plain.items(), ("seed", gone[0].seed)))
        raise RunError(f"{where} holds another experiment: there is an arm {words}, here is none; use another --out")
    if lost := [name for name in before.metrics if name not in experiment.metrics]:
        raise RunError(f"{where} records metric {lost[0]}, here it is left out: a run only grows; use another --out")


_HEAD = ("experiment.yaml", "environment.json", "real.safetensors", "metrics.jsonl", "log.txt")


def _unborn(path: Path) -> bool:
    """Whether a file may be left of a run that was killed while its directory was made."""
    if path.name == "environment.json":
        with contextlib.suppress(RunError):
            return "run" in read_sealed(path)
        return False
    if path.name == "real.safetensors":
        with contextlib.suppress(RunError):
            RealRows.read(path)
            return True
        return False
    if path.match("data-*.safetensors"):
        with contextlib.suppress(RunError):
            load_sealed(path)
            return True
        return False
    if path.name in ("lock", "metrics.jsonl"):
        return path.is_file() and path.stat().st_size == 0
    return path.name in (f".{name}.tmp" for name in _HEAD) or path.match(".data-*.safetensors.tmp")


def _create(path: Path, experiment: Experiment, environment: dict[str, Any], real: RealRows) -> None:
    write_bytes(path / "metrics.jsonl", b"")
    real.write(path / "real.safetensors")
    lasting = json.dumps(experiment.lasting(), sort_keys=True)
    identity = hashlib.sha256(lasting.encode()).hexdigest()
    write_sealed(path / "environment.json", environment | {"format": FORMAT, "run": identity})
    write_bytes(path / "experiment.yaml", _sealed(experiment))  # last: it is what makes this a run directory
    sync(path)


def _sealed(experiment: Experiment) -> bytes:
    text = experiment.yaml()
    return (_SEAL.format(format=FORMAT, digest=hashlib.sha256(text.encode()).hexdigest()) + text).encode()


def _unsealed(file: Path) -> str:
    """Return the settings in an experiment.yaml.

    Raises:
        RunError: it is damaged, or of another version.
    """
    head, _, body = read_bytes(file).partition(b"\n")
    expected = _SEAL.format(format=FORMAT, digest=hashlib.sha256(body).hexdigest()).encode()
    if head + b"\n" == expected:
        return body.decode()
    folder = repr(str(file.parent))
    if not head.startswith(b"# selfloop run, format "):
        if (file.parent / "metrics.jsonl").exists() and not head.startswith(b"#"):
            raise RunError(f"{folder} was made by an earlier version, whose runs this one does not read: run it again")
        raise RunError(f"{str(file)!r} is damaged: its first line is not that of a run")
    if not head.startswith(_SEAL.split(",")[0].encode() + f", format {FORMAT},".encode()):
        raise RunError(f"{folder} was made by another version, whose runs this one does not read")
    raise RunError(f"{str(file)!r} is damaged: its SHA-256 is not the one in its first line")


def _difference(a: Experiment, b: Experiment) -> str:
    def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, value in settings.items():
            out |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        return out

    left, right = flat(a.lasting()), flat(b.lasting())
    name = next(k for k in left | right if left.get(k) != right.get(k))
    return f"there {name} is {left.get(name)!r}, here {right.get(name)!r}; use another --out"
