"""A run directory elsewhere, as ``s3://bucket/run``: a folder of the cache directory is kept the same as its store.

Who runs takes the lock in the store, brings what is committed here, works on the folder as on any other, and after
every commit sends the files of the generation first and its manifest last: a generation without a manifest in the store
is not there. Who reads brings what is small here, and tensors when they are asked for.

The lock is a file that is created where there is none, which most stores see to themselves, and read back. It says
until when it holds, and is renewed long before; one that has run out, or was left by a process of this machine that is
gone, is taken over. Who has lost it notices before it commits, and stops.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock

from selfloop.core.errors import RunError, SelfloopError
from selfloop.core.files import Stamp, check_size, disk_errors, read_sealed, stamp, write_bytes
from selfloop.core.paths import here, url_of
from selfloop.core.urls import Notes, Place, alone

LEASE = 60.0
"""Seconds for which a lock holds that is not renewed; clocks of machines must agree within less."""

_RENEW = 15.0  # seconds after which a lock is renewed
_SEND = 15.0  # seconds after which what fits have saved and said is sent
_SETTLE = 0.5  # seconds after which a lock is read back that the store did not see to
_LOCK = "lock"
_FIRST = ("environment.json", "real.safetensors", "data-*.safetensors", "experiment.yaml")  # the last makes it a run
_BORN = (*_FIRST, "metrics.jsonl")  # what may be left of one that was killed while it was made
_LOOKS = 3  # at a run that somebody else is at work on
_TOLD = "metrics.jsonl"
_APPENDED = (_TOLD, "log.txt")  # which are sent whole: not after every generation where these are short
_PAGE = ("report/advice.json", "report/index.html")  # what is read of a report
_MANIFEST = re.compile(r"generation-([0-9]{4,})/manifest\.json")


@contextlib.contextmanager
def working(path: Path) -> Iterator[None]:
    """Hold the lock of a run elsewhere, and bring here what is committed; at the end send what is left, and let go.

    Nothing is done where the run directory is one of this machine, or this process holds the lock already.

    Raises:
        RunError: another process holds it, the store does not answer, or there is something else.
    """
    mirror = _mirror(path)
    if mirror is None or mirror.lease is not None:
        yield
        return
    guard = mirror.guard()
    try:
        guard.acquire(timeout=1.0)
    except filelock.Timeout as error:
        raise RunError(f"{mirror.url!r} is in use by another process of this machine") from error
    try:
        with _Lease.taken(mirror) as lease:
            with alone(path), disk_errors(path):
                mirror.pull(working=True)
            mirror.lease = lease
            try:
                with _every(_SEND, mirror.send_saved):
                    yield
                    mirror.push(whole=True)
            except BaseException:
                with contextlib.suppress(SelfloopError, OSError):  # of the first fault alone is told
                    mirror.push(whole=True)
                raise
            finally:
                mirror.lease = None
                mirror.note()
    finally:
        guard.release()


def refresh(path: Path) -> None:
    """Bring here what a run elsewhere has committed, without weights, samples and losses.

    Nothing is done where the run directory is one of this machine, or a process of this machine is at work on it, whose
    folder is ahead of the store.

    Raises:
        RunError: the store does not answer.
    """
    mirror = _mirror(path)
    if mirror is None or mirror.lease is not None:
        return
    with alone(path), disk_errors(path):
        if mirror.at_work_here():
            mirror.there = {}
        else:
            any(not mirror.pull(working=False) for _ in range(_LOOKS))


def bring(run: Path, file: Path, again: bool = False) -> bool:
    """Bring one file of a run elsewhere here, if the store has it and it is not here; return whether it did.

    Args:
        run: the run directory.
        file: in it.
        again: also where it is here already.
    """
    mirror = _mirror(run)
    if mirror is None:
        return False
    name = file.relative_to(run).as_posix()
    size, _ = mirror.there.get(name, (-1, ""))
    if size < 0 or (not again and file.is_file() and file.stat().st_size == size):
        return False
    with disk_errors(run):
        try:
            mirror.place.fetch(name, file)
        except FileNotFoundError:  # since it was looked at, as of weights that a commit has dropped
            return False
    return True


def look_again(run: Path, file: Path) -> None:
    """Let a file here be the store's own, for whoever checks a run that nobody of this machine is at work on."""
    mirror = _mirror(run)
    if mirror is not None and mirror.lease is None and mirror.there and not bring(run, file, again=True):
        file.unlink(missing_ok=True)


def check_size_there(run: Path, file: Path, expected: dict[str, Any]) -> None:
    """Check that a file is as long as the manifest's note says, in the store if the run is elsewhere.

    Raises:
        RunError: it is not, or it is missing.
    """
    mirror, name = _mirror(run), file.relative_to(run).as_posix()
    there = {} if mirror is None or mirror.lease is not None else mirror.there
    if there and name not in there:
        file.unlink(missing_ok=True)
    check_size(file, expected, there[name][0] if name in there else None)


def push(path: Path, dropped: Sequence[Path] = ()) -> None:
    """Send what is committed of a run elsewhere, and remove there what was dropped here.

    Args:
        path: the run directory; nothing is done with one of this machine.
        dropped: files of generations that are of no use any more.

    Raises:
        RunError: the store does not answer, or another process has taken over the lock.
    """
    mirror = _mirror(path)
    if mirror is not None and mirror.lease is not None:
        mirror.push(dropped=dropped)


def push_report(path: Path) -> None:
    """Send the report of a run elsewhere, its page last; who holds the lock sends it when all is done.

    Raises:
        RunError: the store does not answer.
    """
    mirror = _mirror(path)
    if mirror is not None and mirror.lease is None:
        files = [file.relative_to(path).as_posix() for file in (path / "report").rglob("*") if file.is_file()]
        for name in sorted(files, key=lambda name: (name in _PAGE, name)):
            mirror.place.send(path / name, name)


def holder(path: Path) -> tuple[str, bool] | None:
    """Return who holds the lock of a run elsewhere, "" where nobody does, and whether it still holds.

    None of a run of this machine, and where a process of this machine is at work on it.
    """
    mirror = _mirror(path)
    if mirror is None or mirror.lease is not None or mirror.at_work_here():
        return None
    found = mirror.place.read(_LOCK)
    lock = None if found is None else _Lock.parse(found, mirror.url)
    if lock is None or lock.like(_Lock(socket.gethostname(), "", mirror.key(), 0.0)):  # left by a process that is gone
        return "", False
    return lock.holder, lock.until > time.time()


def runs_below(path: Path) -> list[Path]:
    """Return what stands here for the runs right below a folder elsewhere, and for itself if it is one.

    Raises:
        RunError: the store does not answer, or there is no such folder.
    """
    url = str(url_of(path))
    place = Place(url)
    if place.kind != "directory":
        raise RunError(f"{url!r} is not a directory")
    names = ["", *(f"{name}/" for name in place.folders())]
    return [here(f"{url}/{name}") for name in names if place.has(f"{name}experiment.yaml")]


class _Lock:
    """What is in the file of a lock: who holds it, by which folder of the cache directory, and until when."""

    def __init__(self, holder: str, key: str, folder: str, until: float) -> None:
        self.holder, self.key, self.folder, self.until = holder, key, folder, until

    @classmethod
    def parse(cls, content: bytes, url: str) -> _Lock:
        try:
            found = json.loads(content)
            return cls(str(found["holder"]), str(found["key"]), str(found["folder"]), float(found["until"]))
        except (ValueError, TypeError, KeyError) as error:
            raise RunError(f"'{url}/{_LOCK}' is no lock of a run: remove it if nobody is at work there") from error

    def like(self, other: _Lock) -> bool:
        """Whether both are of one folder and one machine; a folder that was copied has the same key."""
        return self.folder == other.folder and self.holder.partition(",")[0] == other.holder.partition(",")[0]

    def content(self) -> bytes:
        self.until = time.time() + LEASE
        return json.dumps(vars(self)).encode()

    def refusal(self, url: str) -> RunError:
        left = max(0.0, self.until - time.time())
        return RunError(
            f"{url!r} is in use by another process: {self.holder}; if that is gone, its lock ends in {left:.0f} seconds"
        )


class _Lease:
    """The lock of a run elsewhere, held by this process.

    Attributes:
        lost: who has it now, None as long as it is ours.
    """

    def __init__(self, place: Place, lock: _Lock) -> None:
        self.place, self.lock = place, lock
        self.lost: str | None = None

    @classmethod
    @contextlib.contextmanager
    def taken(cls, mirror: _Mirror) -> Iterator[_Lease]:
        """Take the lock, renew it from a thread, and let it go.

        Raises:
            RunError: another process holds it.
        """
        place, who = mirror.place, f"{socket.gethostname()}, process {os.getpid()}"
        lease = cls(place, _Lock(who, uuid.uuid4().hex, mirror.key(), 0.0))
        lease._take()
        try:
            with _every(_RENEW, lease._renew):
                yield lease
        finally:
            with contextlib.suppress(SelfloopError):  # it runs out by itself
                if lease._other() is None:
                    place.remove([_LOCK])

    def _take(self) -> None:
        found, sure = self.place.read(_LOCK), False
        if found is None:
            try:
                sure = self.place.create(_LOCK, self.lock.content())
            except FileExistsError as error:  # since a moment ago
                raise RunError(f"{self.place.url!r} is in use by another process, which has just begun") from error
        else:
            there = _Lock.parse(found, self.place.url)
            # This process alone works by the folder on this machine: another that did so is gone.
            if not there.like(self.lock) and there.until > time.time():
                raise there.refusal(self.place.url)
            self.place.write(_LOCK, self.lock.content())
        if not sure:
            time.sleep(_SETTLE)
        if (other := self._other()) is not None:
            raise other.refusal(self.place.url)

    def _other(self) -> _Lock | None:
        """Return the lock that is there in place of ours, None where it is ours."""
        found = self.place.read(_LOCK)
        gone = _Lock("somebody who removed its lock", "", "", 0.0)
        lock = gone if found is None else _Lock.parse(found, self.place.url)
        return None if lock.key == self.lock.key else lock

    def _renew(self) -> None:
        if (other := self._other()) is None:
            self.place.write(_LOCK, self.lock.content())
        else:
            self.lost = other.holder

    def confirm(self) -> None:
        """Check that the lock is ours.

        Raises:
            RunError: it is another process's.
        """
        if self.lost is None and (other := self._other()) is not None:
            self.lost = other.holder
        if self.lost is not None:
            raise RunError(
                f"{self.place.url!r} was taken over by {self.lost}: this process stops; what it committed is there"
            )


@contextlib.contextmanager
def _every(seconds: float, do: Any) -> Iterator[None]:
    """Do something again and again in a thread; a store that does not answer is asked again the next time."""
    over = threading.Event()

    def loop() -> None:
        while not over.wait(seconds):
            with contextlib.suppress(SelfloopError, OSError):
                do()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _Mirror:
    """A run elsewhere and the folder that stands for it here.

    Attributes:
        path, url: of the two.
        there: the files of the store by name, with size and mark, as it was last looked at; empty where a process of
            this machine is ahead of it.
        lease: while this process is at work on the run.
    """

    def __init__(self, path: Path, url: str) -> None:
        self.path, self.url = path, url
        self.there: dict[str, tuple[int, str]] = {}
        self.lease: _Lease | None = None
        self._place: tuple[int, Place] | None = None
        self._sent: dict[str, Stamp | None] = {}  # files that the store has as they are here, manifests among them
        self._digests: dict[str, str] = {}  # of the files that the store's manifests name
        self._told = 0.0  # when what is appended to was sent last
        self._one = threading.RLock()

    @property
    def place(self) -> Place:
        if self._place is None or self._place[0] != os.getpid():
            self._place = os.getpid(), Place(self.url)
        return self._place[1]

    def guard(self) -> filelock.FileLock:
        """Return the lock of this machine's processes that work on the folder."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(self.path.parent / "working.lock")

    def at_work_here(self) -> bool:
        """Whether another process of this machine works on the folder."""
        guard = self.guard()
        try:
            guard.acquire(timeout=0)
        except filelock.Timeout:
            return True
        guard.release()
        return False

    def key(self) -> str:
        """Return what tells the folder from those of other machines."""
        file = self.path.parent / "key"
        if not file.exists():
            write_bytes(file, uuid.uuid4().hex.encode())
        return file.read_text()

    # From the store

    def pull(self, working: bool) -> bool:
        """Bring here what is small, and with ``working`` what fits have saved; drop what the store does not have.

        Returns:
            whether somebody else committed meanwhile.

        Raises:
            RunError: there is something that is no run.
        """
        self.there = self.place.files() if working or self.place.has("experiment.yaml") else {}
        notes, self._sent, self._digests = Notes(self.path), {}, {}
        if "experiment.yaml" not in self.there:
            if working and any(name != _LOCK and not _is(name, (*_BORN, ".*.part")) for name in self.there):
                raise RunError(f"{self.url!r} is not empty but has no experiment.yaml: choose another --out")
            shutil.rmtree(self.path, ignore_errors=True)
        wanted = sorted(name for name in self.there if _wanted(name, working))
        differs, told, settings = False, False, _content(self.path / "experiment.yaml")
        for name in wanted:
            mark = self.there[name][1]
            if not notes.same(name, mark):
                before = _content(self.path / name)
                try:
                    self.place.fetch(name, self.path / name)
                except FileNotFoundError:  # since it was looked at, as of what fits say
                    self.there.pop(name)
                    continue
                differs |= _MANIFEST.fullmatch(name) is not None and before not in (None, _content(self.path / name))
                notes.note(name, mark)
                told |= name == _TOLD
        if settings not in (None, _content(self.path / "experiment.yaml")):  # what was saved may be another run's
            for file in self.path.glob(".fit-*"):
                if file.name not in self.there:
                    file.unlink()
        self._drop(ahead=working and not differs)
        for name in (name for name in wanted if name in self.there):
            self._sent[name] = stamp(self.path / name)
            if _MANIFEST.fullmatch(name):
                self._digests |= _digests(self.path / name)
        if self.path.exists():
            notes.write()
        # It may tell already of a generation that was committed since the store was looked at.
        return told and self.place.files().get(_TOLD) != self.there[_TOLD]

    def _drop(self, ahead: bool) -> None:
        """Remove what is here and not there, but for fits that were saved here, and what was committed last.

        Args:
            ahead: whether generations stay that a process of this machine committed, but was killed before it sent.
        """
        if not self.path.is_dir():
            return
        for file in self.path.iterdir():
            kept = file.name in (*self.there, _LOCK) or file.name.startswith(".fit-")
            if file.is_file() and not kept:
                file.unlink()
        folders = sorted(folder for folder in self.path.glob("generation-*") if folder.is_dir())
        for t, folder in enumerate(folders):
            if f"{folder.name}/manifest.json" in self.there:
                continue
            ahead = ahead and folder.name == f"generation-{t:04d}" and _sound(folder)
            if not ahead:
                shutil.rmtree(folder)

    # To the store

    def push(self, dropped: Iterable[Path] = (), whole: bool = False) -> None:
        """Send what has changed here, in an order in which the store's run is one at any time.

        Args:
            dropped: files of generations that are of no use any more.
            whole: also what is beside the generations: the report, and what trackers wrote.
        """
        assert self.lease is not None
        with self._one:
            self.lease.confirm()
            born = (self.path / "experiment.yaml").is_file()
            if born and _TOLD not in self.there:  # a run has one from the beginning
                self.place.write(_TOLD, b"")
                self.there[_TOLD] = 0, ""
                if not (self.path / _TOLD).stat().st_size:
                    self._sent[_TOLD] = stamp(self.path / _TOLD)
            if (
                born and _TOLD in self.there and self._shorter(_TOLD)
            ):  # a run that grows tells nothing before its settings
                self._send(_TOLD)
            for name in self._matching(_FIRST) if born else ():
                self._send(name)
            for folder in sorted(self.path.glob("generation-*")):
                self._send_generation(folder)
            self.lease.confirm()
            late = whole or time.monotonic() - self._told >= _SEND
            for name in self._matching(("[!.]*",)) if born else ():
                if late or name not in _APPENDED or self._shorter(name):
                    self._send(name)
            self._told = time.monotonic() if late else self._told
            self._remove(name for file in dropped if (name := file.relative_to(self.path).as_posix()) in self.there)
            self._send_saved()
            if whole and born:
                beside = (file for file in self.path.rglob("*") if file.is_file() and file.parent != self.path)
                names = [file.relative_to(self.path).as_posix() for file in beside]
                for name in sorted(names, key=lambda name: (name in _PAGE, name)):
                    if not name.startswith((".", "generation-")):
                        self._send(name)

    def send_saved(self) -> None:
        """Send what fits under way have saved and said since it was last sent."""
        with self._one:
            if "experiment.yaml" in self._sent and self.lease is not None and self.lease.lost is None:
                self._send_saved()

    def _send_saved(self) -> None:
        here_now = self._matching((".fit-*", ".status-*"))
        for name in here_now:
            with contextlib.suppress(FileNotFoundError):  # the fit is over
                self._send(name)
        gone = [name for name in self._sent if "/" not in name and not (self.path / name).exists()]
        if not self.path.is_dir() or any(_MANIFEST.fullmatch(name) for name in self.there):
            gone = [
                name for name in gone if name.startswith(".")
            ]  # somebody cleared the cache: the store stays as it is
        # What makes it a run goes first, so that what is left is none.
        self._remove(sorted(gone, key=lambda name: (name != "log.txt", name != "experiment.yaml")))

    def _send_generation(self, folder: Path) -> None:
        name = f"{folder.name}/manifest.json"
        if not _MANIFEST.fullmatch(name) or self._sent.get(name) == (now := stamp(folder / "manifest.json")):
            return
        assert self.lease is not None
        for file, digest in _digests(folder / "manifest.json").items():
            if self._digests.get(file) != digest and (self.path / file).exists():
                self._put(file)
                self._digests[file] = digest
        self.lease.confirm()
        self._put(name)
        self._sent[name] = now

    def _send(self, name: str) -> None:
        now = stamp(self.path / name)
        if now != self._sent.get(name):
            self._put(name)
            self._sent[name] = now

    def _shorter(self, name: str) -> bool:
        return (self.path / name).stat().st_size < self.there.get(name, (0, ""))[0]

    def _put(self, name: str) -> None:
        size = (self.path / name).stat().st_size
        self.place.send(self.path / name, name)
        self.there[name] = size, ""

    def _remove(self, names: Iterable[str]) -> None:
        for name in list(names):
            self.place.remove([name])
            self.there.pop(name, None)
            self._sent.pop(name, None)

    def _matching(self, patterns: Iterable[str]) -> list[str]:
        """Return the files right in the folder that match, in the order of the patterns."""
        found = (file for pattern in patterns for file in sorted(self.path.glob(pattern)) if file.is_file())
        return [name for name in dict.fromkeys(file.name for file in found) if name != _LOCK]

    def note(self) -> None:
        """Note what the store says of what was sent, so that it need not be fetched again."""
        with contextlib.suppress(SelfloopError, OSError):  # else it is
            there, notes = self.place.files(), Notes(self.path)
            for name, sent in self._sent.items():
                if name in there and sent is not None and sent == stamp(self.path / name):
                    notes.note(name, there[name][1])
            notes.write()


_MIRRORS: dict[str, _Mirror] = {}


def _mirror(path: Path) -> _Mirror | None:
    url = url_of(path)
    if url is None:
        return None
    return _MIRRORS.setdefault(str(path), _Mirror(path, url))


def _is(name: str, patterns: Iterable[str]) -> bool:
    return "/" not in name and any(Path(name).match(pattern) for pattern in patterns)


def _wanted(name: str, working: bool) -> bool:
    if "/" in name:
        return name in _PAGE or _MANIFEST.fullmatch(name) is not None
    return name != _LOCK and (
        not name.startswith(".") or name.startswith(".status-") or (working and name.startswith(".fit-"))
    )


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _digests(manifest: Path) -> dict[str, str]:
    """Return the SHA-256 of the files that a manifest names; of a damaged one none, as it is not sent or read by."""
    try:
        stacks = read_sealed(manifest)["stacks"]
        return {
            f"{manifest.parent.name}/{name}": str(note["sha256"])
            for held in stacks.values()
            for name, note in held["files"].items()
        }
    except (SelfloopError, KeyError, TypeError, AttributeError):
        return {}


def _sound(folder: Path) -> bool:
    """Whether a generation is here as it was committed; weights may have been dropped."""
    digests = _digests(folder / "manifest.json")
    for name, digest in digests.items():
        file = folder.parent / name
        if not file.is_file():
            if not file.name.startswith("state"):
                return False
        elif hashlib.sha256(file.read_bytes()).hexdigest() != digest:
            return False
    return bool(digests)
