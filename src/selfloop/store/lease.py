"""The lock of a run elsewhere: a file that says who holds it and until when, created where there is none.

It is renewed long before it runs out; one that has run out, or was left by a process of this machine that is gone, is
taken over. Most stores see to it themselves that one of two creates it; where they do not, and where it is taken over,
it is read back. Who has lost it notices before it commits, and stops.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from selfloop.core.errors import RunError, SelfloopError, StorageFull
from selfloop.core.urls import Place

LEASE = 60.0
"""Seconds for which a lock holds that is not renewed; clocks of machines must agree within less."""

LOCK = "lock"
"""The name of its file."""

_RENEW = 15.0  # seconds after which a lock is renewed
_SETTLE = 0.5  # seconds after which a lock is read back that the store did not see to


class Unwritable(RunError):
    """A store that answers, and refuses to be written to."""


@dataclass
class Lock:
    """What is in the file of a lock.

    Attributes:
        holder: host and process.
        key: of this one lock; "" where nothing is in the file yet.
        folder: the key of the folder of the cache directory by which the holder works.
        until: when it ends, in seconds since 1970.
    """

    holder: str
    key: str
    folder: str
    until: float

    @classmethod
    def parse(cls, content: bytes, url: str) -> Lock:
        """Return what a file says, which on a file system may just have been created, with nothing in it yet.

        Raises:
            RunError: it is no lock's.
        """
        if not content or (content[:1] == b"{" and content[-1:] != b"}"):
            return cls("another process, which has just begun", "", "", time.time() + LEASE)
        try:
            found = json.loads(content)
            return cls(str(found["holder"]), str(found["key"]), str(found["folder"]), float(found["until"]))
        except (ValueError, TypeError, KeyError) as error:
            raise RunError(f"'{url}/{LOCK}' is no lock of a run: remove it if nobody is at work there") from error

    @classmethod
    def read(cls, place: Place) -> Lock | None:
        """Return the lock of the run at a place, None where there is none.

        Raises:
            RunError: something else is in its file, or the store does not answer.
        """
        content = place.read(LOCK)
        return None if content is None else cls.parse(content, place.url)

    def like(self, other: Lock) -> bool:
        """Whether both are of one folder and one machine; a folder that was copied has the same key."""
        return self.folder == other.folder and self.holder.partition(",")[0] == other.holder.partition(",")[0]

    def content(self) -> bytes:
        """Return what is to be in the file, from now on for as long as a lock holds."""
        self.until = time.time() + LEASE
        return json.dumps(asdict(self)).encode()

    def refusal(self, url: str) -> RunError:
        """Return the error of whoever else wants the lock."""
        left = max(0.0, self.until - time.time())
        return RunError(
            f"{url!r} is in use by another process: {self.holder}; if that is gone, its lock ends in {left:.0f} seconds"
        )


class Lease:
    """The lock of a run elsewhere, held by this process.

    Attributes:
        lost: who has it now, None as long as it is ours.
    """

    def __init__(self, place: Place, lock: Lock) -> None:
        self.place, self.lock = place, lock
        self.lost: str | None = None

    @classmethod
    @contextlib.contextmanager
    def taken(cls, place: Place, folder: str) -> Iterator[Lease]:
        """Take the lock, renew it from a thread, and let it go.

        Args:
            place: of the run.
            folder: the key of the folder by which this process works.

        Raises:
            RunError: another process holds it.
            Unwritable: the store refuses to keep one.
        """
        lease = cls(place, Lock(f"{socket.gethostname()}, process {os.getpid()}", uuid.uuid4().hex, folder, 0.0))
        lease._take()
        try:
            with every(_RENEW, lease._renew):
                yield lease
        finally:
            with contextlib.suppress(SelfloopError):  # it runs out by itself
                if lease._other() is None:
                    place.remove([LOCK])

    def _take(self) -> None:
        there = self._awaited()
        # This process alone works by the folder on this machine: another that did so is gone.
        if there is not None and not there.like(self.lock) and there.until > time.time():
            raise there.refusal(self.place.url)
        try:
            if there is not None:
                self.place.remove([LOCK])
            sure = self.place.create(LOCK, self.lock.content())
        except FileExistsError as error:  # since a moment ago
            raise RunError(f"{self.place.url!r} is in use by another process, which has just begun") from error
        except StorageFull:
            raise
        except RunError as error:
            there_is_one = Place(self.place.url).kind is not None  # now: it may have come since ours was opened
            raise Unwritable(f"{error}; it can be read" if there_is_one else str(error)) from error
        if there is not None or not sure:
            time.sleep(_SETTLE)
        if (other := self._other()) is not None:
            raise other.refusal(self.place.url)

    def _awaited(self) -> Lock | None:
        """Return the lock that is there, None where there is none; one with nothing in it is waited for.

        What stays empty for as long as a lock holds was left by a process that was killed while it created it.
        """
        deadline = time.monotonic() + LEASE
        while (there := Lock.read(self.place)) is not None and there.key == "":
            if time.monotonic() >= deadline:
                there.until = 0.0
                break
            time.sleep(min(_SETTLE, LEASE))
        return there

    def _other(self) -> Lock | None:
        """Return the lock that is there in place of ours, None where it is ours."""
        there = Lock.read(self.place) or Lock("somebody who removed its lock", "", "", 0.0)
        return None if there.key == self.lock.key else there

    def _renew(self) -> None:
        if (other := self._other()) is None:
            self.place.write(LOCK, self.lock.content())
        else:
            self.lost = other.holder

    def holds(self) -> bool:
        """Whether the lock is ours."""
        if self.lost is None and (other := self._other()) is not None:
            self.lost = other.holder
        return self.lost is None

    def confirm(self) -> None:
        """Check that the lock is ours.

        Raises:
            RunError: it is another process's.
        """
        if not self.holds():
            raise RunError(
                f"{self.place.url!r} was taken over by {self.lost}: this process stops; what it committed is there"
            )


@contextlib.contextmanager
def every(seconds: float, do: Callable[[], object]) -> Iterator[None]:
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
