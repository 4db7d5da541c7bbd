"""A run directory elsewhere, as ``s3://bucket/run``: what is asked of it, by the path that stands for it here.

Who runs takes the lock in the store (:mod:`selfloop.store.lease`), brings what is committed here
(:mod:`selfloop.store.mirror`), works on the folder as on any other, and after every commit sends it: a generation
without a manifest in the store is not there. Who reads brings what is small here, and tensors when they are asked for.
Nothing is done where a run directory is one of this machine.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import filelock

from selfloop.core.errors import RunError, SelfloopError
from selfloop.core.files import disk_errors
from selfloop.core.paths import here, url_of
from selfloop.core.urls import Place, alone
from selfloop.store.lease import Lease, Lock, Unwritable
from selfloop.store.mirror import PAGE, Mirror

_LOOKS = 3  # at a run that somebody else is at work on


@contextlib.contextmanager
def working(path: Path) -> Iterator[None]:
    """Hold the lock of a run elsewhere, and bring here what is committed; at the end send what is left, and let go.

    Nothing is done where the run directory is one of this machine, or this process is at work on it already. Where the
    store can be read and not written there is no lock: a run of which nothing is to be written needs none, and any
    other is refused by :func:`refuse_unwritable`.

    Raises:
        RunError: another process holds it, the store does not answer, or there is something else.
    """
    mirror = _mirror(path)
    if mirror is None or mirror.at_work:
        yield
        return
    guard = mirror.guard()
    try:
        guard.acquire(timeout=1.0)
    except filelock.Timeout as error:
        raise RunError(f"{mirror.url!r} is in use by another process of this machine") from error
    with contextlib.ExitStack() as closing:
        closing.callback(guard.release)
        lease, refusal = _lease(mirror, closing)
        with alone(path), disk_errors(path):
            mirror.pull(working=True)
            mirror.lease, mirror.refusal = lease, refusal  # before readers of this process see it
        closing.callback(mirror.leave)
        if lease is None:
            yield
            mirror.push()  # where that is not nothing it is refused
            return
        try:
            with mirror.sending():
                yield
                mirror.push(whole=True)
        except BaseException:
            with contextlib.suppress(SelfloopError, OSError):  # of the first fault alone is told
                mirror.push(whole=True)
            raise


def _lease(mirror: Mirror, closing: contextlib.ExitStack) -> tuple[Lease | None, RunError | None]:
    """Return the lock, or what the store said that refuses to keep one."""
    try:
        return closing.enter_context(Lease.taken(mirror.place, mirror.key())), None
    except Unwritable as error:
        return None, error


def refuse_unwritable(path: Path) -> None:
    """Refuse to go on with a run whose store cannot be written, before anything is computed.

    Raises:
        RunError: this process is at work on such a one.
    """
    mirror = _mirror(path)
    if mirror is not None and mirror.refusal is not None:
        raise RunError(str(mirror.refusal)) from mirror.refusal


def refresh(path: Path) -> None:
    """Bring here what a run elsewhere has committed, without weights, samples and losses.

    Nothing is done where the run directory is one of this machine, or a process of this machine is at work on it, whose
    folder is ahead of the store. Nothing is removed that such a process has committed, and was killed before it sent.

    Raises:
        RunError: the store does not answer.
    """
    mirror = _mirror(path)
    if mirror is None or mirror.at_work:
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


def size_there(run: Path, file: Path) -> int | None:
    """Return the bytes that the store has of a generation's file, -1 where it has none; None where this is not asked.

    That is where the file here counts: of a run of this machine or one at which this process is at work, and of a
    generation that is still to be sent.
    """
    mirror = _mirror(run)
    if mirror is None or mirror.at_work or f"{file.parent.name}/manifest.json" not in mirror.there:
        return None
    return mirror.there.get(file.relative_to(run).as_posix(), (-1, ""))[0]


def push(path: Path, dropped: Sequence[Path] = ()) -> None:
    """Send what is committed of a run elsewhere, and remove there what was dropped here.

    Args:
        path: the run directory; nothing is done with one of this machine.
        dropped: files of generations that are of no use any more.

    Raises:
        RunError: the store does not answer, or another process has taken over the lock.
    """
    mirror = _mirror(path)
    if mirror is not None and mirror.at_work:
        mirror.push(dropped=dropped)


def push_report(path: Path) -> None:
    """Send the report of a run elsewhere, its page last; see :func:`unsent`.

    Raises:
        RunError: this process is at work on the run, and cannot go on sending it.
    """
    mirror = _mirror(path)
    if mirror is None:
        return
    mirror.unsent = ""
    if mirror.lease is not None:
        mirror.push(whole=True)
        return
    try:
        mirror.send_report()
    except RunError as error:
        mirror.unsent = str(error)


def unsent(path: Path) -> str:
    """Return why the report that was just written could not be sent, "" where it was, and of a run of this machine."""
    mirror = _mirror(path)
    return "" if mirror is None else mirror.unsent or ""


def place_of(page: Path) -> str:
    """Return in words where a report is: its path; of a run elsewhere its URL, and its path if it was written here."""
    mirror = _mirror(page.parent.parent)
    if mirror is None:
        return str(page)
    if mirror.unsent:
        return f"{page}; it could not be sent: {mirror.unsent}"
    return f"{mirror.url}/{PAGE}" + ("" if mirror.unsent is None else f", and on this machine {page}")


def holder(path: Path) -> tuple[str, bool] | None:
    """Return who holds the lock of a run elsewhere, "" where nobody does, and whether it still holds.

    None of a run of this machine, and where a process of this machine is at work on it.
    """
    mirror = _mirror(path)
    if mirror is None or mirror.at_work or mirror.at_work_here():
        return None
    lock = Lock.read(mirror.place)
    if lock is None or lock.like(Lock(socket.gethostname(), "", mirror.key(), 0.0)):  # left by a process that is gone
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


_MIRRORS: dict[str, Mirror] = {}


def _mirror(path: Path) -> Mirror | None:
    url = url_of(path)
    if url is None:
        return None
    return _MIRRORS.setdefault(str(path), Mirror(path, url))
