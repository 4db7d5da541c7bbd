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
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import filelock
from torch import Tensor

from selfloop.arms import Arm, arms, key, stacks
from selfloop.core.errors import ConfigError, DataError, RunError
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
from selfloop.data.real import BESIDE, Real, RealRows
from selfloop.engines.device import fits
from selfloop.experiment import Experiment
from selfloop.metrics.base import METRICS, Metric

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 2
_GENERATION = re.compile("generation-([0-9]{4,})")
_FIT = re.compile(r"\.fit-([0-9]{4,})-([0-9]{3,})-.*")
_FORMAT = re.compile(b"# selfloop run, format ([0-9]{1,9}),")
_LOOKS = 3  # at a run that somebody else may be writing to
_SEAL = "# selfloop run, format {format}, SHA-256 of what follows {digest}\n"


def _line(record: Record) -> bytes:
    return (json.dumps(record, ensure_ascii=False, allow_nan=False, sort_keys=True) + "\n").encode()


def _only(names: Sequence[str], record: Record) -> Record:
    """Return a record with some of its metrics, in their order."""
    found = record | {"metrics": {name: record["metrics"][name] for name in names if name in record["metrics"]}}
    if "reference" in record:
        found["reference"] = {name: record["reference"][name] for name in names if name in record["reference"]}
    return found


def _infinite(value: Any) -> Any:
    """Return a number for "inf" and for None, so that columns of numbers are ones."""
    return math.nan if value is None else math.inf if value == "inf" else value


class Run:
    """A run directory, read; :class:`Writer` adds to one.

    What it shows is how far the run was when it was first asked, whatever joins meanwhile: to see that, open it again.
    A run that has just grown by arms or metrics begins anew here, and shows a generation once it has all of them.
    """

    def __init__(self, path: Path, experiment: Experiment, environment: dict[str, Any]) -> None:
        self.path, self.experiment, self.environment = path, experiment, environment

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a run directory for reading.

        Raises:
            RunError: it is not one, is of an earlier version, or one of its two head files is damaged.
        """
        path = Path(path)
        file = path / "experiment.yaml"
        if not os.path.isfile(file):  # Path.is_file() raises on a name too long
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
    def _by_key(self) -> dict[str, Arm]:
        return {arm.key: arm for arm in self.arms}

    @cached_property
    def _stored(self) -> list[list[Arm]]:
        """The arms of each stack that generation 0 has, but for arms that have come since this was opened."""
        there = self.manifest(0)["stacks"] if self.present else {}
        keys = [there[name]["arms"] for name in sorted(there, key=int)]
        return [[self._by_key[of] for of in members] for members in keys if set(members) <= self._by_key.keys()]

    @cached_property
    def stacks(self) -> list[list[Arm]]:
        """The arms as they train and are stored together: those that came first keep their stacks.

        Raises:
            ConfigError: some are not stored yet, and the code that says how they train is not here.
        """
        there = {arm.key for members in self._stored for arm in members}
        return self._stored + stacks([arm for arm in self.arms if arm.key not in there])

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
            RunError: one before the last is missing, or no directory.
        """
        found = (match for name in os.listdir(self.path) if (match := _GENERATION.fullmatch(name)))
        numbers = sorted(t for match in found if self.folder(t := int(match[1])).name == match[0])
        if files := [t for t in numbers if not self.folder(t).is_dir()]:
            raise RunError(f"{str(self.folder(files[0]))!r} is a file, where a generation belongs: move it elsewhere")
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
        low, high = -1, self.present - 1
        while low < high:
            middle = (low + high + 1) // 2
            there = {of for held in self.manifest(middle)["stacks"].values() for of in held["arms"]}
            low, high = (middle, high) if self._by_key.keys() <= there else (low, middle - 1)
        return low

    @cached_property
    def recorded(self) -> tuple[str, ...]:
        """Names of the metrics that every generation has: one that joins comes to the last of them last."""
        if self.last < 0:
            return tuple(self.experiment.metrics)
        there = {name for record in self.manifest(self.last)["records"] for name in record["metrics"]}
        return tuple(name for name in self.experiment.metrics if name in there)

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
        return [_only(self.recorded, record) for record in self.everything_of(t)]

    def everything_of(self, t: int) -> list[Record]:
        """Return the records of generation t with all metrics that they have, also those that others lack."""
        records = ((self._by_key.get(key(record["settings"], record["seed"])), record) for record in self._noted(t))
        found: list[Record] = [record | {"arm": arm.index} for arm, record in records if arm is not None]
        return sorted(found, key=lambda record: record["arm"])

    def _noted(self, t: int) -> list[Record]:
        records: list[Record] = self.manifest(t)["records"]
        return records

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
        """Return whether the weights of generation t are to be there still, as the run is now."""
        return self.experiment.keep_states == "all" or t == 0 or not self.folder(t + 2).is_dir()

    def state(self, t: int, stack: int) -> State:
        """Return one stack's state after generation t."""
        return self.tensors(t, "state", stack)

    def stack_samples(self, t: int, stack: int) -> Samples:
        """Return one stack's samples of generation t."""
        return Samples(**self.tensors(t, "samples", stack))

    def row(self, arm: int) -> tuple[int, int]:
        """Return the stack in which an arm is stored, and its row there.

        Raises:
            RunError: there is no such arm, or nothing of it yet.
        """
        if not 0 <= arm < len(self.arms):
            raise RunError(f"{str(self.path)!r} has the arms 0 to {len(self.arms) - 1}, no {arm}")
        for s, members in enumerate(self._stored):
            for row, member in enumerate(members):
                if member.index == arm:
                    return s, row
        raise RunError(f"{str(self.path)!r} has nothing of arm {arm} yet")

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
            if not self._real.holds(chosen.data_key, split):
                raise changed(self.path)
            cached.clear()  # images may be large, and arms share them
            cached[chosen.data_key] = split
        found: Split = cached[chosen.data_key]
        return found

    def verify(self) -> None:
        """Check every file of the run as it is now.

        Raises:
            RunError: names the first file that is missing or damaged.
        """
        now = self._told()
        now._real.verify(self.path)
        for t in range(now.present):
            for held in now.manifest(t)["stacks"].values():
                for name, note in held["files"].items():
                    now._check(t, name, note)

    def _told(self) -> Run:
        """Open the run as it is now, and check that metrics.jsonl says what the manifests do."""
        for _ in range(_LOOKS):
            told, now = self._metrics(), Run.open(self.path)
            # A run killed between commit and append leaves a shorter file, which is no damage.
            if now._lines().startswith(told):
                return now
        raise RunError(
            f"{str(self.path / 'metrics.jsonl')!r} is damaged: it contradicts the manifests; "
            "the same run command writes it again"
        )

    def _check(self, t: int, name: str, note: dict[str, Any]) -> None:
        path = self.folder(t) / name
        if name.startswith("samples") or path.exists() or self.keeps_state(t):
            try:
                load_tensors(path, note)
            except RunError:
                # The run that is at work meanwhile may just have dropped weights that are not kept.
                if name.startswith("samples") or path.exists() or self.keeps_state(t):
                    raise

    def _lines(self) -> bytes:
        """Return what metrics.jsonl says, or will say in a moment."""
        return b"".join(map(_line, self.records()))

    def _metrics(self) -> bytes:
        return read_bytes(self.path / "metrics.jsonl", ": the same run command writes it again")


def changed(path: Path) -> RunError:
    """Return the error of real rows that are not those which a run was made with."""
    return RunError(
        f"{str(path)!r} was run on other data: the real rows have changed since; put them back, or use another --out"
    )


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
        with _held(path):
            check(path, experiment, environment, real)  # another process may have made it since
            new = not (path / "experiment.yaml").exists()
            with disk_errors(path):
                writer = cls._opened(path, experiment, environment, real)
                writer._recover()
            try:
                yield writer
            except (ConfigError, DataError, RunError) as error:
                # A fit that was saved is not lost to what is no fault of the experiment.
                if new and writer.present == 0 and not (isinstance(error, RunError) and any(path.glob(".fit-*"))):
                    writer._undo(made)
                raise

    @classmethod
    def settle(cls, run: Run) -> None:
        """Make good what a kill right after a run's last commit has left undone; neither data nor code are needed.

        Raises:
            RunError: another process holds the run, or it cannot be written.
        """
        writer = cls(run.path, run.experiment, run.environment)
        if writer._behind() or writer._leftovers():
            with _held(run.path), disk_errors(run.path):
                writer._recover()

    @classmethod
    def _opened(cls, path: Path, experiment: Experiment, environment: dict[str, Any], real: RealRows) -> Writer:
        before = cls.open(path) if (path / "experiment.yaml").exists() else None
        if before is None or before.present == 0:
            if before is not None and not _goes_on(before, experiment, environment, real):
                _drop(path, lambda t, s: True)
            _create(path, experiment, environment, real)
            return cls(path, experiment, Run.open(path).environment)
        before._recover()
        kept = before.environment | {
            "metrics": environment["metrics"] | before.environment["metrics"],
            "code": before.environment["code"] | environment["code"],
        }
        if before.environment != kept or before.experiment.model_dump() != experiment.model_dump():
            _grow(before, experiment, kept, real)
        writer = cls(path, experiment, kept)
        if any(kept.get(name) != environment[name] for name in environment if name not in ("metrics", "code")):
            writer.log("resumed with other libraries or on another machine: bits may differ from here on")
        return writer

    def _undo(self, made: bool) -> None:
        """Remove what was made for a run of which nothing is committed."""
        for file in [*self._leftovers(), *self.path.glob(".fit-*"), self.path / "log.txt"]:
            _remove(file)
        # Without the first of these it is no run directory any more, and the others do not keep one from being made.
        heads = [
            self.path / name for name in ("experiment.yaml", "environment.json", "real.safetensors", "metrics.jsonl")
        ]
        for file in [*heads, *self.path.glob(BESIDE)]:
            _remove(file)
        if made:
            _remove(self.path / "lock")
            with contextlib.suppress(OSError):  # somebody else has put something there
                self.path.rmdir()

    def _recover(self) -> None:
        for leftover in self._leftovers():
            _remove(leftover)
        if self._behind():
            self.renew_metrics()

    def _behind(self) -> bool:
        """Whether metrics.jsonl is not what the manifests say."""
        return not (self.path / "metrics.jsonl").is_file() or self._metrics() != self._lines()

    def _leftovers(self) -> list[Path]:
        """Return what a killed run has left that nobody needs: half of a file, a fit that is over, weights to drop."""
        found = [p for p in self.path.glob(".*.tmp") if p.name.startswith((".generation-", "..fit-", ".data-", *_HALF))]
        fits_left = ((match, p) for p in self.path.glob(".fit-*") if (match := _FIT.fullmatch(p.name)))
        found += [path for match, path in fits_left if int(match[1]) <= self.last]
        return found + [path for path in self._dropped(self.last, range(len(self._stored))) if path.exists()]

    def _dropped(self, t: int, of: Sequence[int]) -> list[Path]:
        """Return the files of the weights that some stacks' generation t leaves without use."""
        if t - 2 <= 0 or self.experiment.keep_states == "all":
            return []
        return [self.folder(t - 2) / f"state-{s:03d}.safetensors" for s in of]

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
        """Make stacks of generation t visible, all at once; then extend metrics.jsonl and drop what is of no use now.

        Args:
            t: the generation.
            files: by stack, what there is to note of each of its files.
            records: of the arms of these stacks.
        """
        before = self.manifest(t) if t < self.present else None
        content = self._content(t, files, records, before)
        if before is None:
            self._add(t, content)
        else:
            self._join(t, content, [name for notes in files.values() for name in notes])
        self.__dict__["_last"] = t
        with open(self.path / "metrics.jsonl", "ab") as file:
            file.write(b"".join(map(_line, content["records"])))
        kept = [self.checkpoints(t, s) for s in files]
        for path in self._dropped(t, list(files)):
            path.unlink(missing_ok=True)
        for s, start in zip(files, kept, strict=True):
            for path in fits(start, len(self.stacks[s])):
                path.unlink(missing_ok=True)

    def _content(
        self, t: int, files: dict[int, dict[str, Any]], records: Sequence[Record], before: dict[str, Any] | None
    ) -> dict[str, Any]:
        entries = {
            f"{s:03d}": {"arms": [arm.key for arm in self.stacks[s]], "files": notes} for s, notes in files.items()
        }
        there = [] if before is None else self.everything_of(t)
        return {
            "format": FORMAT,
            "generation": t,
            "run": self.identity,
            "stacks": ({} if before is None else before["stacks"]) | entries,
            "records": sorted([*there, *records], key=lambda record: record["arm"]),
        }

    def _add(self, t: int, content: dict[str, Any]) -> None:
        """Commit a generation that was not there."""
        folder = self._hidden(t)
        write_sealed(folder / "manifest.json", content)
        sync(folder)
        os.rename(folder, self.folder(t))
        sync(self.path)
        self.__dict__["present"] = t + 1

    def _join(self, t: int, content: dict[str, Any], names: Sequence[str]) -> None:
        """Commit files that join a generation: without the manifest they do not belong to it."""
        for name in names:
            os.replace(self._hidden(t) / name, self.folder(t) / name)
        sync(self.folder(t))
        write_sealed(self.folder(t) / "manifest.json", content)
        sync(self.folder(t))
        self._hidden(t).rmdir()

    def amend(self, t: int, records: Sequence[Record]) -> None:
        """Replace the records of generation t, all at once."""
        write_sealed(self.folder(t) / "manifest.json", self.manifest(t) | {"records": list(records)})
        sync(self.folder(t))

    def forget_metrics(self) -> None:
        """Empty metrics.jsonl before what it says of committed generations changes, so that it is never wrong."""
        write_bytes(self.path / "metrics.jsonl", b"")

    def renew_metrics(self) -> None:
        """Write metrics.jsonl again from the manifests."""
        self.__dict__.pop("recorded", None)
        write_bytes(self.path / "metrics.jsonl", self._lines())


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Keep other processes out of a run directory.

    Raises:
        RunError: one is in it.
    """
    guard = filelock.FileLock(path / "lock")
    with disk_errors(path):
        try:
            guard.acquire(timeout=0)
        except filelock.Timeout as error:
            raise RunError(f"{str(path)!r} is in use by another process") from error
    try:
        yield
    finally:
        guard.release()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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
        _same_metrics(existing, environment["metrics"])
        if not real.agrees(existing._real):
            raise changed(path)
        for name, words in (("checkpoint", "generator.checkpoint"), ("features", "features")):
            if existing.environment[name] != environment[name]:
                raise RunError(f"{str(path)!r} was run with other {words}: the file has changed; use another --out")
    elif path.is_dir() and not all(map(_unborn, path.iterdir())):
        raise RunError(f"{str(path)!r} is not empty but has no experiment.yaml: choose another --out")


def _same_metrics(run: Run, metrics: dict[str, Any]) -> None:
    for name, about in run.environment["metrics"].items():
        if name in metrics and metrics[name]["version"] != about["version"]:
            raise RunError(
                f"{str(run.path)!r} records metric {name} in version {about['version']}, here it is version "
                f"{metrics[name]['version']}, whose numbers differ; use another --out"
            )


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
_HALF = (*(f".{name}." for name in _HEAD), ".data-")  # how a file's name begins that is half written


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


def _goes_on(before: Run, experiment: Experiment, environment: dict[str, Any], real: RealRows) -> bool:
    """Whether fits that a run has saved before its first commit are those of this experiment too."""
    try:
        same_rows = real.agrees(before._real)
    except RunError:  # it was killed while another experiment took its place
        return False
    return (
        same_rows
        and before.experiment.lasting() == experiment.lasting()
        and [arm.key for arm in before.arms] == [arm.key for arm in arms(experiment)]
        and before.environment["checkpoint"] == environment["checkpoint"]
    )


def _grow(before: Run, experiment: Experiment, environment: dict[str, Any], real: RealRows) -> None:
    """Let a run be of an experiment that it may grow to; what this adds comes later."""
    if [arm.key for arm in before.arms] != [arm.key for arm in arms(experiment)]:
        # Arms that have committed nothing may come to be in other stacks, and all get new numbers.
        _drop(before.path, lambda t, s: s >= len(before._stored))
        write_bytes(before.path / "metrics.jsonl", b"")
    real.write(before.path / "real.safetensors")
    write_sealed(before.path / "environment.json", environment)
    write_bytes(before.path / "experiment.yaml", _sealed(experiment))  # last: until then the run has not grown


def _drop(path: Path, which: Callable[[int, int], bool]) -> None:
    """Remove the saved fits of some generations and stacks."""
    for file in path.glob(".fit-*"):
        if (match := _FIT.fullmatch(file.name)) and which(int(match[1]), int(match[2])):
            file.unlink()


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
    folder, found = repr(str(file.parent)), _FORMAT.match(head)
    if found is None and _format_1(file.parent):
        raise RunError(
            f"{folder} is a run of format 1, made by an earlier version, and this one reads format {FORMAT}: "
            "read it with that version, or run the experiment again with another --out"
        )
    if found is None:
        raise RunError(f"{str(file)!r} is not that of a run, or damaged: its first line does not give a run's format")
    if int(found[1]) != FORMAT:
        raise RunError(
            f"{folder} is a run of format {int(found[1])}, and this version reads format {FORMAT}: "
            "use the version of selfloop that made it"
        )
    raise RunError(f"{str(file)!r} is damaged: its SHA-256 is not the one in its first line")


def _format_1(path: Path) -> bool:
    with contextlib.suppress(RunError):
        return "format" not in read_sealed(path / "environment.json")
    return False


def _difference(a: Experiment, b: Experiment) -> str:
    def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, value in settings.items():
            out |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        return out

    left, right = flat(a.lasting()), flat(b.lasting())
    name = next((k for k in left | right if left.get(k) != right.get(k)), "a setting")
    return f"there {name} is {left.get(name)!r}, here {right.get(name)!r}; use another --out"
