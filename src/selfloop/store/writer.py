"""A run directory that one process adds to."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock

from selfloop.arms import arms
from selfloop.core.errors import ConfigError, DataError, RunError, StorageFull
from selfloop.core.files import (
    disk_errors,
    in_its_place,
    make_folder,
    put_bytes,
    refuse_link,
    sync,
    write_bytes,
    write_sealed,
)
from selfloop.core.records import Record
from selfloop.data.real import BESIDE, RealRows
from selfloop.engines.device import fits
from selfloop.experiment import Experiment
from selfloop.generators.base import Sampler
from selfloop.store import remote
from selfloop.store.admission import HALF, check, moved
from selfloop.store.head import FORMAT, digest, sealed, unsealed
from selfloop.store.log import entry
from selfloop.store.run import Run, line
from selfloop.store.schema import stack_file

_STATUS = ".status-*"
_FIT = re.compile(r"\.fit-([0-9]{4,})-([0-9]{3,})-.*")


class Writer(Run):
    """A run directory that this process alone may add to; a context manager that holds its lock.

    Attributes:
        notice: in what libraries and machine differ from those that the run began with, in a line; "" in nothing.
    """

    notice = ""

    def __init__(self, path: Path, experiment: Experiment, environment: dict[str, Any]) -> None:
        super().__init__(path, experiment, environment)
        self._place = os.stat(path)

    @classmethod
    @contextlib.contextmanager
    def lock(cls, path: Path, experiment: Experiment, environment: dict[str, Any], real: RealRows) -> Iterator[Writer]:
        """Create the run directory, go on with it or let it grow, and keep other processes out meanwhile.

        One elsewhere is kept the same as the folder that stands for it; see :mod:`selfloop.store.remote`.

        What this call has made is gone again where the experiment turns out to be one that cannot be run.

        Raises:
            RunError: it is another experiment's, in use, damaged, or not a run directory.
            StorageFull: there is no space.
        """
        with remote.working(path):
            remote.refuse_unwritable(path)
            with cls._locked(path, experiment, environment, real) as writer:
                yield writer

    @classmethod
    @contextlib.contextmanager
    def _locked(
        cls, path: Path, experiment: Experiment, environment: dict[str, Any], real: RealRows
    ) -> Iterator[Writer]:
        check(path, experiment, environment, real)
        made = not path.exists()
        with disk_errors(path):
            try:
                make_folder(path)
            except FileNotFoundError as error:  # of a file system such as /proc, which takes none
                raise RunError(f"{str(path)!r} cannot be created ({error.strerror}): choose another --out") from error
        with _held(path):
            check(path, experiment, environment, real)  # another process may have made it since
            new = not (path / "experiment.yaml").exists()
            with disk_errors(path):
                writer = cls._opened(path, experiment, environment, real)
                writer._recover()
                writer._push(writer._needless())
            try:
                yield writer
            except StorageFull:
                raise
            except Exception as error:
                # A fit that was saved is not lost to what is no fault of the experiment.
                kept = not isinstance(error, ConfigError | DataError) and any(path.glob(".fit-*"))
                if new and writer.present == 0 and not kept:
                    writer._undo(made)
                raise
            finally:
                for told in path.glob(_STATUS):
                    told.unlink(missing_ok=True)

    @classmethod
    def settle(cls, run: Run) -> None:
        """Make good what a kill right after a run's last commit has left undone; neither data nor code are needed.

        Raises:
            RunError: another process holds the run, or it cannot be written.
        """
        writer = cls(run.path, run.experiment, run.environment)
        if writer._behind() or writer._leftovers() or any(path.exists() for path in writer._needless()):
            with remote.working(run.path), _held(run.path), disk_errors(run.path):
                writer._recover()
                writer._push(writer._needless())

    @classmethod
    def _opened(cls, path: Path, experiment: Experiment, environment: dict[str, Any], real: RealRows) -> Writer:
        before = cls.open(path) if (path / "experiment.yaml").exists() else None
        if before is None or before.present == 0:
            if before is not None and not _goes_on(before, experiment, environment, real):
                _drop(path, lambda t, s: True)
            _create(path, experiment, environment, real)
            writer = cls(path, experiment, Run.open(path).environment)
            if before is not None and any(path.glob(".fit-*")):  # of which a part was made there
                writer._note(moved(before.environment, environment))
            return writer
        before._recover()
        before.verify(goes_on=True)  # now, as what is damaged would be noticed after all that is still to be computed
        kept = before.environment | {
            "metrics": environment["metrics"] | before.environment["metrics"],
            "code": before.environment["code"] | environment["code"],
            "arms": environment["arms"],
            "experiment": [digest(experiment.yaml())],
        }
        if before.environment != kept or before.experiment.model_dump() != experiment.model_dump():
            _grow(before, experiment, kept, real)
        writer = cls(path, experiment, kept)
        writer._note(moved(before.environment, environment))
        return writer

    def _note(self, notice: str) -> None:
        self.notice = notice
        if notice:
            self.log(notice)

    def _undo(self, made: bool) -> None:
        """Remove what was made for a run of which nothing is committed."""
        if not self.path.exists() or not os.path.samestat(os.stat(self.path), self._place):
            return
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
        for leftover in (*self._leftovers(), *self._needless()):
            _remove(leftover)
        if self._behind():
            self.renew_metrics()

    def _behind(self) -> bool:
        """Whether metrics.jsonl is not what the manifests say."""
        return not (self.path / "metrics.jsonl").is_file() or self._metrics() != self._lines()

    def _leftovers(self) -> list[Path]:
        """Return what a killed run has left that nobody needs: half of a file, a fit that is over."""
        found = [p for p in self.path.glob(".*.tmp") if p.name.startswith((".generation-", "..fit-", ".data-", *HALF))]
        found += self.path.glob(_STATUS)
        fits_left = ((match, p) for p in self.path.glob(".fit-*") if (match := _FIT.fullmatch(p.name)))
        return found + [path for match, path in fits_left if int(match[1]) <= self.last]

    def _needless(self) -> list[Path]:
        """Return the weights that no stack needs any more: what its last commit drops, whether that is there or not.

        And what is there of earlier ones: a power cut may bring back what was removed.
        """
        last: dict[int, int] = {}
        for t in range(self.present - 1, max(self.last, 0) - 1, -1):
            for name in self.manifest(t)["stacks"]:
                last.setdefault(int(name), t)
        found = [path for s, t in last.items() for path in self._dropped(t, [s])]
        before = (path for s, t in last.items() for earlier in range(3, t) for path in self._dropped(earlier, [s]))
        return found + [path for path in before if path.exists()]

    def _dropped(self, t: int, of: Sequence[int]) -> list[Path]:
        """Return the files of the weights that some stacks' generation t leaves without use."""
        if t - 2 <= 0 or self.experiment.keep_states == "all":
            return []
        return [self.folder(t - 2) / stack_file("state", s) for s in of]

    def log(self, text: str) -> None:
        """Append a note to log.txt."""
        self.happened("note", text=text)

    def happened(self, event: str, **values: Any) -> None:
        """Append a line on what happened to log.txt, which is not checked; see :mod:`selfloop.store.log`."""
        line = entry(event, values)
        with open(self.path / "log.txt", "a", encoding="utf-8", opener=in_its_place) as file:
            file.write(line + "\n")

    def _hidden(self, t: int) -> Path:
        # Workers outlive a killed parent for a moment: they must not write among the files of its successor.
        return self.path / f".generation-{t:04d}-{os.getpid()}.tmp"

    def begin(self, t: int) -> Path:
        """Return an empty hidden directory to write what generation t lacks into.

        Raises:
            RunError: the run is not where it was.
        """
        self._in_place()
        folder = self._hidden(t)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def _in_place(self) -> None:
        """Check that the run was not moved, and something else put there.

        Raises:
            RunError: it was.
        """
        if not os.path.samestat(os.stat(self.path), self._place):
            raise RunError(f"{str(self.path)!r} is gone: it has been moved or deleted, and another directory is there")

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
        self._in_place()
        before = self.manifest(t) if t < self.present else None
        content = self._content(t, files, records, before)
        # A merge finds no weights that are of no use any more.
        names = [name for notes in files.values() for name in notes if (self._hidden(t) / name).exists()]
        if before is None:
            self._add(t, content, names)
        else:
            self._join(t, content, names)
        if len(content["records"]) == len(self.arms):  # else it is a shard's
            self.__dict__["_last"] = t
            with open(self.path / "metrics.jsonl", "ab", opener=in_its_place) as file:
                file.write(b"".join(map(line, content["records"])))
        kept = [self.checkpoints(t, s) for s in files]
        for path in self._dropped(t, list(files)):
            path.unlink(missing_ok=True)
        for s, start in zip(files, kept, strict=True):
            generator = self.stacks[s][0].experiment.generator
            each = generator.fits if isinstance(generator, Sampler) else 1
            for path in (*fits(start, each * len(self.stacks[s])), self.outcome(t, s)):
                path.unlink(missing_ok=True)
        self._push(self._dropped(t, list(files)))

    def _push(self, dropped: Sequence[Path] = ()) -> None:
        """Send what is committed, where the run directory is elsewhere, and remove there what was dropped here."""
        remote.push(self.path, dropped)

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

    def _add(self, t: int, content: dict[str, Any], names: Sequence[str]) -> None:
        """Commit a generation that was not there: what is in it is safe before it is seen."""
        folder = self._hidden(t)
        write_sealed(folder / "manifest.json", content, put_bytes)
        sync(*(folder / name for name in (*names, "manifest.json")), folder)
        os.rename(folder, self.folder(t))
        sync(self.path)
        self.__dict__["present"] = t + 1

    def _join(self, t: int, content: dict[str, Any], names: Sequence[str]) -> None:
        """Commit files that join a generation: without the manifest they do not belong to it."""
        sync(*(self._hidden(t) / name for name in names))
        for name in names:
            os.replace(self._hidden(t) / name, self.folder(t) / name)
        sync(self.folder(t))
        write_sealed(self.folder(t) / "manifest.json", content)
        self._hidden(t).rmdir()

    def amend(self, t: int, records: Sequence[Record]) -> None:
        """Replace the records of generation t, all at once."""
        write_sealed(self.folder(t) / "manifest.json", self.manifest(t) | {"records": list(records)})
        self._push()

    def forget_metrics(self) -> None:
        """Empty metrics.jsonl before what it says of committed generations changes, so that it is never wrong."""
        write_bytes(self.path / "metrics.jsonl", b"")
        self._push()

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
    for name in ("lock", *(folder.name for folder in path.glob("generation-*"))):
        refuse_link(path / name)
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


def _create(path: Path, experiment: Experiment, environment: dict[str, Any], real: RealRows) -> None:
    write_bytes(path / "metrics.jsonl", b"")
    real.write(path / "real.safetensors")
    lasting = json.dumps(experiment.lasting(), sort_keys=True)
    identity = hashlib.sha256(lasting.encode()).hexdigest()
    _write_head(path, experiment, environment | {"format": FORMAT, "run": identity})


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
        _drop(before.path, lambda t, s: s not in before._stored)
        write_bytes(before.path / "metrics.jsonl", b"")
    real.write(before.path / "real.safetensors")
    _write_head(before.path, experiment, environment)


def _write_head(path: Path, experiment: Experiment, environment: dict[str, Any]) -> None:
    """Write experiment.yaml, which makes this a run directory, or one that has grown, after what it belongs with."""
    file, other = path / "experiment.yaml", path / "environment.json"
    known = [digest(experiment.yaml())]
    there = [digest(unsealed(file))] if file.exists() else known
    if there == known:
        write_sealed(other, environment | {"experiment": known})
        write_bytes(file, sealed(experiment))
        return
    write_sealed(other, environment | {"experiment": there + known})
    remote.push(path)  # a store, too, has each of them before the next
    write_bytes(file, sealed(experiment))
    remote.push(path)
    write_sealed(other, environment | {"experiment": known})


def _drop(path: Path, which: Callable[[int, int], bool]) -> None:
    """Remove the saved fits of some generations and stacks."""
    for file in path.glob(".fit-*"):
        if (match := _FIT.fullmatch(file.name)) and which(int(match[1]), int(match[2])):
            file.unlink()
