"""A power cut, played: what a folder may hold after it, when only what ``fsync`` was called for is sure to be there.

A process calls :func:`watch` before it works in a folder. From then on each ``fsync`` is noted, not made: a file's
content, or a folder's entries, are safe as they are at that moment. The cut comes just before the n-th change (a file
opened for writing, a rename, a removal, a new folder, an fsync) and leaves an image of the folder elsewhere:

- an entry of a folder that is safe and was not changed since is there; one that was changed, made or removed since may
  be as it was or as it is, each for itself, so that renames are reordered and half of them lost;
- a file that was not changed since it was safe is whole; of any other each block of 512 bytes is the old or the new one
  or zeros, at the old or the new length; or all of it is new, or none.

No file system loses as much. That is on purpose: what stands this stands all of them.

Only the standard library is imported: the process is forked from the nursery of ``tests/helpers.py``.
"""

from __future__ import annotations

import os
import random
import sys
import threading
from pathlib import Path
from typing import Any

from campaign.changes import changed

BLOCK = 512


class Disk:
    """A folder, and what of it is safe.

    Args:
        root: the folder that is watched; it and its first entries are safe.
        image: where the cut leaves what there still is; it must not exist. Without a cut it is a file with the
            number of changes.
        at: before which change the cut comes, counted from 0; None for never.
        seed: of what is lost.
    """

    def __init__(self, root: Path, image: Path, at: int | None, seed: int) -> None:
        self.root, self.image, self.at, self.rng = root, image, at, random.Random(seed)
        self.seen = 0
        self._contents: dict[int, bytes] = {}  # what is safe, by the number of the file
        self._entries: dict[int, dict[str, int]] = {}  # and of the folder
        self._open: dict[int, int] = {}  # numbers that are kept open are not given to other files
        self._lock = threading.RLock()
        self._busy = threading.local()
        for folder, _, files in os.walk(root):
            self._safe_folder(Path(folder))
            for name in files:
                self._safe_file(Path(folder, name))

    def change(self) -> None:
        """Count a change that is about to be made, and cut the power if it is the one."""
        with self._lock:
            self.seen += 1
            if self.seen - 1 == self.at:
                self.cut()
                os._exit(9)

    def synced(self, descriptor: int) -> None:
        """Note that a file or a folder is safe as it is now."""
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if not path.is_relative_to(self.root):
            return
        self.change()
        with self._lock:
            self._busy.at_it = True
            try:
                self._safe_folder(path) if path.is_dir() else self._safe_file(path)
            finally:
                self._busy.at_it = False

    def heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Hear of everything the process does, as an audit hook."""
        if getattr(self._busy, "at_it", False):
            return
        if changed(event, arguments, f"{self.root}{os.sep}") is not None:
            self.change()

    def cut(self) -> None:
        """Leave what there still is as the image."""
        self._busy.at_it = True
        # How much of what is not safe got through: the cut may come long after, or before anything was written.
        self.odds = self.rng.choice([0.0, 0.5, 0.5, 1.0])
        root = os.stat(self.root).st_ino
        self.image.mkdir()
        self._leave(root, self.image)

    def end(self) -> None:
        """Say how many changes there were."""
        self.image.write_text(str(self.seen))

    def _keep(self, path: Path) -> int:
        number = os.stat(path, follow_symlinks=False).st_ino
        if number not in self._open:
            self._open[number] = os.open(path, os.O_RDONLY)
        return number

    def _safe_file(self, path: Path) -> None:
        number = self._keep(path)
        self._contents[number] = _content(self._open[number])

    def _safe_folder(self, path: Path) -> None:
        number = self._keep(path)
        self._entries[number] = {name: self._keep(path / name) for name in os.listdir(path)}

    def _leave(self, folder: int, image: Path) -> None:
        before = self._entries.get(folder, {})
        place = self._open[folder]
        now = {name: self._kept_at(place, name) for name in os.listdir(place)}
        for name in sorted({*before, *now}):
            if before.get(name) == now.get(name) or self.rng.random() < self.odds:
                number = now.get(name)
            else:
                number = before.get(name)
            if number is None:
                continue
            if os.path.isdir(f"/proc/self/fd/{self._open[number]}"):
                (image / name).mkdir()
                self._leave(number, image / name)
            else:
                (image / name).write_bytes(self._left_of(number))

    def _kept_at(self, folder: int, name: str) -> int:
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK, dir_fd=folder)
        number = os.fstat(descriptor).st_ino
        self._open.setdefault(number, descriptor)
        return number

    def _left_of(self, number: int) -> bytes:
        new, old = _content(self._open[number]), self._contents.get(number, b"")
        if new == old or self.odds == 1.0:
            return new
        if self.odds == 0.0:
            return old
        size = self.rng.choice([len(old), len(new)])
        left = bytearray()
        for start in range(0, size, BLOCK):
            source = self.rng.choice([old, new, b""])
            left += source[start : start + BLOCK].ljust(min(BLOCK, size - start), b"\0")
        return bytes(left)


def _content(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def watch(root: str, image: str, at: int | None, seed: int) -> Disk:
    """Play a power cut in this process, which ends with it: see :class:`Disk`."""
    disk = Disk(Path(root).resolve(), Path(image), at, seed)
    os.fsync = disk.synced  # type: ignore[assignment]
    sys.addaudithook(disk.heard)
    return disk
