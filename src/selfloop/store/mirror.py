"""A run elsewhere and the folder of the cache directory that is kept the same as its store.

What is small is brought here at once. Of what is committed here the files of a generation are sent first and its
manifest last, so that what the store has is a run at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import threading
import time
import uuid
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

import filelock

from selfloop.core.errors import RunError, SelfloopError
from selfloop.core.files import Stamp, read_sealed, stamp, write_bytes
from selfloop.core.urls import Notes, Place
from selfloop.store.lease import LOCK, Lease, every

PAGE = "report/index.html"
"""What a report is read by, and sent last."""

_SEND = 15.0  # seconds after which what fits have saved and said is sent
_FIRST = ("environment.json", "real.safetensors", "data-*.safetensors", "experiment.yaml")  # the last makes it a run
_BORN = (*_FIRST, "metrics.jsonl")  # what may be left of one that was killed while it was made
_TOLD = "metrics.jsonl"
_APPENDED = (_TOLD, "log.txt")  # which are sent whole: not after every generation where these are short
_READ = ("report/advice.json", PAGE)  # what is read of a report
_MANIFEST = re.compile(r"generation-([0-9]{4,})/manifest\.json")


class Mirror:
    """A run elsewhere and the folder that stands for it here.

    Attributes:
        path, url: of the two.
        there: the files of the store by name, with size and mark, as it was last looked at; empty where a process of
            this machine is ahead of it.
        lease: while this process is at work on the run.
        refusal: what a store said that refused a lock, while this process is at work on the run without one.
        unsent: why the report that was last written here could not be sent, "" where it was; None: none was written.
    """

    def __init__(self, path: Path, url: str) -> None:
        self.path, self.url = path, url
        self.there: dict[str, tuple[int, str]] = {}
        self.lease: Lease | None = None
        self.refusal: RunError | None = None
        self.unsent: str | None = None
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

    @property
    def at_work(self) -> bool:
        """Whether this process is at work on the run, so that the folder counts and not the store."""
        return self.lease is not None or self.refusal is not None

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
        """Bring here what is small, and with ``working`` what fits have saved; drop what the store has no more.

        Returns:
            whether somebody else committed meanwhile.

        Raises:
            RunError: there is something that is no run.
        """
        self.there = self.place.files() if working or self.place.has("experiment.yaml") else {}
        notes, self._sent, self._digests = Notes(self.path), {}, {}
        if "experiment.yaml" not in self.there:
            if working and any(name != LOCK and not _is(name, (*_BORN, ".*.part")) for name in self.there):
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
        self._drop(notes, ahead=not differs, working=working)
        for name in (name for name in wanted if name in self.there):
            self._sent[name] = stamp(self.path / name)
            if _MANIFEST.fullmatch(name):
                self._digests |= _digests(self.path / name)
        if self.path.exists():
            notes.write()
        # It may tell already of a generation that was committed since the store was looked at.
        return told and self.place.files().get(_TOLD) != self.there[_TOLD]

    def _drop(self, notes: Notes, ahead: bool, working: bool) -> None:
        """Remove what is here and not there, but for fits that were saved here and generations that are to be sent.

        Args:
            notes: of what the store had.
            ahead: whether generations may be here that the store never had: their process was killed before it sent.
            working: whether they are about to be sent, and must be as they were written.
        """
        if not self.path.is_dir():
            return
        for file in self.path.iterdir():
            kept = file.name in (*self.there, LOCK) or file.name.startswith(".fit-")
            if file.is_file() and not kept:
                file.unlink()
        folders = sorted(folder for folder in self.path.glob("generation-*") if folder.is_dir())
        for t, folder in enumerate(folders):
            if f"{folder.name}/manifest.json" in self.there:
                continue
            ahead = ahead and folder.name == f"generation-{t:04d}" and self._unsent(folder, notes)
            if not ahead or (working and not _sound(folder)):
                ahead = False
                shutil.rmtree(folder)

    def _unsent(self, folder: Path, notes: Notes) -> bool:
        """Whether a generation of this run was committed here, and never was in the store."""
        manifest = folder / "manifest.json"
        if notes.known(f"{folder.name}/manifest.json"):
            return False
        with contextlib.suppress(SelfloopError, KeyError):
            return bool(read_sealed(manifest)["run"] == read_sealed(self.path / "environment.json")["run"])
        return False

    # To the store

    def push(self, dropped: Iterable[Path] = (), whole: bool = False) -> None:
        """Send what has changed here, in an order in which the store's run is one at any time.

        Args:
            dropped: files of generations that are of no use any more.
            whole: also what is beside the generations: the report, and what trackers wrote.

        Raises:
            RunError: another process has taken over the lock; or something has changed, and the store refused one.
        """
        with self._one:
            if self.lease is not None:
                self.lease.confirm()
            born = (self.path / "experiment.yaml").is_file()
            if born and _TOLD not in self.there:  # a run has one from the beginning
                self._held()
                self.place.write(_TOLD, b"")
                self.there[_TOLD] = 0, ""
                if not (self.path / _TOLD).stat().st_size:
                    self._sent[_TOLD] = stamp(self.path / _TOLD)
            if born and self._shorter(_TOLD):  # a run that grows tells nothing before its settings
                self._send(_TOLD)
            for name in self._matching(_FIRST) if born else ():
                self._send(name)
            for folder in sorted(self.path.glob("generation-*")):
                self._send_generation(folder)
            if self.lease is not None:
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
                for name in sorted(names, key=lambda name: (name in _READ, name)):
                    if not name.startswith((".", "generation-")):
                        self._send(name)

    def sending(self) -> AbstractContextManager[None]:
        """Send in a thread, every quarter of a minute, what fits under way have saved and said."""
        return every(_SEND, self.send_saved)

    def send_saved(self) -> None:
        """Send what fits under way have saved and said since it was last sent."""
        with self._one:
            if "experiment.yaml" in self._sent and self.lease is not None and self.lease.holds():
                self._send_saved()

    def _send_saved(self) -> None:
        here_now = self._matching((".fit-*", ".status-*"))
        for name in here_now:
            with contextlib.suppress(FileNotFoundError):  # the fit is over
                self._send(name)
        gone = [name for name in self._sent if "/" not in name and not (self.path / name).exists()]
        if not self.path.is_dir() or any(_MANIFEST.fullmatch(name) for name in self.there):
            # Where more is gone somebody cleared the cache, and the store stays as it is.
            gone = [name for name in gone if name.startswith(".")]
        # What makes it a run goes first, so that what is left is none.
        self._remove(sorted(gone, key=lambda name: (name != "log.txt", name != "experiment.yaml")))

    def _send_generation(self, folder: Path) -> None:
        name = f"{folder.name}/manifest.json"
        if not _MANIFEST.fullmatch(name) or self._sent.get(name) == (now := stamp(folder / "manifest.json")):
            return
        self._held()
        for file, digest in _digests(folder / "manifest.json").items():
            if self._digests.get(file) != digest and (self.path / file).exists():
                self._put(file)
                self._digests[file] = digest
        self._held().confirm()
        self._put(name)
        self._sent[name] = now

    def send_report(self) -> None:
        """Send the report, its page last, whoever else is at work on the run."""
        names = [file.relative_to(self.path).as_posix() for file in (self.path / "report").rglob("*") if file.is_file()]
        for name in sorted(names, key=lambda name: (name in _READ, name)):
            self._put(name)

    def _send(self, name: str) -> None:
        now = stamp(self.path / name)
        if now != self._sent.get(name):
            self._held().confirm()  # else it could be put in the place of what the next process has sent
            self._put(name)
            self._sent[name] = now

    def _shorter(self, name: str) -> bool:
        return (self.path / name).stat().st_size < self.there.get(name, (0, ""))[0]

    def _held(self) -> Lease:
        """Return the lock.

        Raises:
            RunError: the store refused one.
        """
        if self.lease is None:
            raise self.refusal or RunError(f"{self.url!r} is sent by whoever holds its lock alone")
        return self.lease

    def _put(self, name: str) -> None:
        size = (self.path / name).stat().st_size
        self.place.send(self.path / name, name)
        self.there[name] = size, ""

    def _remove(self, names: Iterable[str]) -> None:
        for name in list(names):
            self._held().confirm()
            self.place.remove([name])
            self.there.pop(name, None)
            self._sent.pop(name, None)

    def _matching(self, patterns: Iterable[str]) -> list[str]:
        """Return the files right in the folder that match, in the order of the patterns."""
        found = (file for pattern in patterns for file in sorted(self.path.glob(pattern)) if file.is_file())
        return [name for name in dict.fromkeys(file.name for file in found) if name != LOCK]

    def leave(self) -> None:
        """Note what the store says of what was sent, so that it need not be fetched again, and be at work no more."""
        with contextlib.suppress(SelfloopError, OSError):  # else it is
            if self.lease is not None and self.lease.holds():  # else it may be what another process sent
                self._note()
        self.lease = self.refusal = None

    def _note(self) -> None:
        there, notes = self.place.files(), Notes(self.path)
        for name, sent in self._sent.items():
            if name in there and sent is not None and sent == stamp(self.path / name):
                notes.note(name, there[name][1])
        notes.write()


def _is(name: str, patterns: Iterable[str]) -> bool:
    return "/" not in name and any(Path(name).match(pattern) for pattern in patterns)


def _wanted(name: str, working: bool) -> bool:
    if "/" in name:
        return name in _READ or _MANIFEST.fullmatch(name) is not None
    if name.startswith("."):
        return name.startswith(".status-") or (working and name.startswith(".fit-"))
    # Who goes on with a run brings what trackers have put beside it, too, and whatever else would be sent again.
    return name != LOCK and (working or _is(name, (*_FIRST, *_APPENDED)))


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
