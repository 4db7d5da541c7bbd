"""Files that lie elsewhere, by URL: whatever fsspec opens (s3, gs, sftp, memory, …), and errors about it in one line.

What a store must be told (keys, an end point) comes from where fsspec itself looks for it: the environment, and
``~/.config/fsspec``.
"""

from __future__ import annotations

import contextlib
import errno
import inspect
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import filelock

from selfloop.core.errors import ConfigError, DataError, RunError, SelfloopError, StorageFull, to_install
from selfloop.core.files import stamp, write_bytes
from selfloop.core.paths import here, is_url, url_of

Found = TypeVar("Found")

PATIENCE = 10.0
"""Seconds within which a store must answer when it is first asked."""

_MARKS = (
    *("ETag", "etag", "md5Hash", "content_md5", "sha", "blob_id", "oid", "CRC", "mtime", "LastModified"),
    *("last_modified", "Last-Modified", "updated", "created", "date_time"),
)
"""What stores say of a file that is another where its content is; the first that there is counts."""


class Place:
    """A folder or a file elsewhere.

    Args:
        url: of it.

    Raises:
        ConfigError: fsspec, or what it needs for such a URL, is not installed.
        RunError: the store does not answer, or refuses.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        _fsspec()
        self.kind = self._in_time(self._opened)

    def _opened(self) -> str | None:
        """Return "file" or "directory", None where there is nothing."""
        try:
            self._fs, root = _opened(self.url)
        except FileNotFoundError as error:  # of a chain, what the first is in
            raise RunError(f"{self.url!r} cannot be reached: there is no {' '.join(str(error).split())}") from error
        self._root = self._fs._strip_protocol(root).rstrip("/")
        self._fs.invalidate_cache()
        try:
            self._info = self._fs.info(self._root)
        except FileNotFoundError as error:
            if error.__cause__ is not None and _fails(error.__cause__):
                raise error.__cause__ from None
            return None
        return str(self._info["type"])

    def _in_time(self, ask: Callable[[], Found]) -> Found:
        """Return an answer, which libraries of stores may wait for over minutes."""
        found: list[Found] = []
        failed: list[BaseException] = []

        def call() -> None:
            try:
                found.append(ask())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        with self._answers():
            if failed:
                raise failed[0]
        if not found:
            raise RunError(f"{self.url!r} cannot be reached: no answer within {PATIENCE:g} seconds")
        return found[0]

    @contextlib.contextmanager
    def _answers(self, name: str = "", what: str = "reached") -> Iterator[None]:
        """Turn what a store or its library raises into one line; what is merely not there stays as it is."""
        try:
            yield
        except (SelfloopError, FileNotFoundError, FileExistsError):
            raise
        except ImportError as error:
            raise _lacking(self.url, error) from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull(f"no space left for {self._named(name)!r}, here or there: free some") from error
            words = " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(": ")
            if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
                words = "the connection was refused, nothing listens at this address"
            raise RunError(f"{self._named(name)!r} cannot be {what}: {words}") from error

    def _named(self, name: str) -> str:
        return f"{self.url}/{name}" if name else self.url

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @property
    def mark(self) -> str:
        """What is another where a file was replaced since it was last looked at."""
        return _mark(self._info)

    def files(self) -> dict[str, tuple[int, str]]:
        """Return the files below a folder by name, each with its size and what is another where its content is."""
        with self._answers():
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(self._root, detail=True)
            except FileNotFoundError:
                return {}
            below = {name[len(self._root) :].lstrip("/"): about for name, about in found.items()}
            return {
                name: (int(about.get("size") or 0), _mark(about))
                for name, about in below.items()
                if name and not name.endswith("/")  # some stores have an empty file for a folder
            }

    def folders(self) -> list[str]:
        """Return the names of the folders right below a folder."""
        with self._answers():
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(self._root, detail=True)
            except FileNotFoundError:
                return []
            return sorted(str(each["name"]).rstrip("/").rpartition("/")[2] for each in found if each["type"] != "file")

    def has(self, name: str) -> bool:
        """Return whether there is a file of this name in a folder."""
        with self._answers(name):
            self._fs.invalidate_cache()
            try:
                return bool(self._fs.info(self._path(name))["type"] == "file")
            except FileNotFoundError:
                return False

    def read(self, name: str) -> bytes | None:
        """Return what is in a file, None where there is none."""
        with self._answers(name):
            self._fs.invalidate_cache()
            try:
                return bytes(self._fs.cat_file(self._path(name)))
            except FileNotFoundError:
                return None

    def fetch(self, name: str, to: Path) -> None:
        """Bring a file here, whole or not at all.

        Raises:
            FileNotFoundError: there is none.
        """
        to.parent.mkdir(parents=True, exist_ok=True)
        temporary = to.with_name(f".{to.name}.{os.getpid()}.{threading.get_ident()}.part")
        try:
            with self._answers(name):
                self._fs.get_file(self._path(name), str(temporary))
            os.replace(temporary, to)
        finally:
            temporary.unlink(missing_ok=True)

    def send(self, file: Path, name: str) -> None:
        """Put a file there, whole or not at all, in place of what may be there.

        Raises:
            RunError: the store refuses.
        """
        self._whole(name, lambda path: self._fs.put_file(str(file), path))

    def write(self, name: str, content: bytes) -> None:
        """Put content there as :meth:`send` does a file's."""
        self._whole(name, lambda path: self._fs.pipe_file(path, content))

    def create(self, name: str, content: bytes) -> bool:
        """Put content there if nothing is.

        Returns:
            whether the store itself sees to that; else somebody else may have done so at the same moment.

        Raises:
            FileExistsError: something is.
        """
        with self._refusals(name):
            path = self._path(name)
            if self._creates:
                self._fs.pipe_file(path, content, mode="create")
                return True
            if self._renames:
                self._fs.makedirs(self._fs._parent(path), exist_ok=True)
                with self._fs.open(path, "x+b") as file:  # paramiko opens "xb" for reading alone
                    file.write(content)
                return True
            self._fs.pipe_file(path, content)
            return False

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, one after the other; those that are not there are no fault."""
        for name in names:
            with self._answers(name, "removed"), contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._path(name))

    @cached_property
    def _creates(self) -> bool:
        """Whether it is a store of whole objects that sees to it itself that one of two creates one."""
        of, fsspec = type(self._fs), _fsspec()
        put = getattr(of, "_pipe_file", of.pipe_file)
        if put in (fsspec.spec.AbstractFileSystem.pipe_file, fsspec.asyn.AsyncFileSystem._pipe_file):
            return False  # what all have looks first, and then writes
        return "mode" in inspect.signature(put).parameters

    @cached_property
    def _renames(self) -> bool:
        """Whether it is a file system, which shows halves of files, and renames; not a store of whole objects."""
        return not self._creates and type(self._fs).mv is not _fsspec().spec.AbstractFileSystem.mv

    def _whole(self, name: str, put: Callable[[str], object]) -> None:
        with self._refusals(name):
            path = self._path(name)
            if not self._renames:
                put(path)
                return
            folder, _, last = path.rpartition("/")
            self._fs.makedirs(folder, exist_ok=True)
            put(f"{folder}/.{last}.part")
            self._fs.mv(f"{folder}/.{last}.part", path)

    @contextlib.contextmanager
    def _refusals(self, name: str) -> Iterator[None]:
        """Say in one line that there is no bucket to write to, too."""
        try:
            with self._answers(name, "written"):
                yield
        except FileNotFoundError as error:
            raise RunError(f"{self.url!r} cannot be written: {' '.join(str(error).split())}") from error


def _fails(cause: BaseException) -> bool:
    """Whether a store fails, by what it made "not found" of: that of the web does so of all that goes wrong."""
    if isinstance(cause, OSError):
        return not isinstance(cause, FileNotFoundError)
    status = getattr(cause, "status", None)
    return isinstance(status, int) and status not in (404, 410)


def _mark(about: Mapping[str, Any]) -> str:
    """Return what is another where a file's content is, "" where the store does not say."""
    mark = next((about[key] for key in _MARKS if about.get(key) is not None), None)
    return "" if mark is None else f"{about.get('size')} {mark}"


def _fsspec() -> Any:
    try:
        import fsspec
        import fsspec.asyn
    except ImportError as error:
        raise ConfigError(to_install("what lies at a URL", "fsspec", "remote")) from error
    return fsspec


_FILESYSTEMS: dict[tuple[int, str], Any] = {}  # by process and beginning of the URL: each has its own connections


def _opened(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it."""
    core, key = _fsspec().core, (os.getpid(), "/".join(url.split("/")[:3]))
    if "::" in url:
        fs, path = core.url_to_fs(url)
        return fs, path
    if key not in _FILESYSTEMS:
        _FILESYSTEMS[key] = core.url_to_fs(url)[0]
    return _FILESYSTEMS[key], url


def _lacking(url: str, error: ImportError) -> ConfigError:
    if url.startswith("s3"):
        return ConfigError(to_install(repr(url), "s3fs", "remote"))
    return ConfigError(f"{url!r} needs a package that fsspec names: {' '.join(str(error).split())}")


@contextlib.contextmanager
def alone(local: Path) -> Iterator[None]:
    """Keep other processes of this machine from what stands for a URL, after waiting for them."""
    local.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(local.parent / "fetching.lock"):
        yield


class Notes:
    """What was found in a store when files of a folder were last fetched or sent: beside it, for the next process."""

    def __init__(self, local: Path) -> None:
        self._local, self._file = local, local.parent / "notes.json"
        self._said: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            self._said = json.loads(self._file.read_bytes())

    def same(self, name: str, mark: str) -> bool:
        """Whether a file here is that of the store, as neither has changed."""
        now = stamp(self._local / name if name else self._local)
        return mark != "" and now is not None and self._said.get(name) == [mark, *now]

    def known(self, name: str) -> bool:
        """Whether the store had a file as it is here, when it was last looked at."""
        now = stamp(self._local / name)
        return now is not None and self._said.get(name, [""])[1:] == [*now]

    def note(self, name: str, mark: str) -> None:
        """Note that a file here is what the store has."""
        self._said[name] = [mark, *(stamp(self._local / name if name else self._local) or ())]

    def write(self) -> None:
        """Keep all this."""
        write_bytes(self._file, json.dumps(self._said).encode())


def fetched(path: str) -> str:
    """Return the path here of data that may lie elsewhere: those of a URL are fetched if they are not, or are others.

    Raises:
        DataError: there is nothing at the URL, or a run.
        RunError: its store does not answer, or refuses.
        StorageFull: there is no space.

    Examples:
        >>> from selfloop.core.urls import fetched
        >>> fetched("rows.csv")
        'rows.csv'
    """
    if not is_url(path):
        return path
    local = here(path)
    url = url_of(local) or path
    place = Place(url)
    if place.kind is None:
        raise DataError(f"{url!r} does not exist")
    with alone(local):
        notes = Notes(local)
        if place.kind == "file":
            if not notes.same("", place.mark):
                _clear(local)
                place.fetch("", local)
                notes.note("", place.mark)
                notes.write()
            return str(local)
        there = place.files()
        if "experiment.yaml" in there:
            raise DataError(f"{url!r} is a run: say which generation, as {url}@3, or {url}@train")
        _fetch_folder(place, local, there, notes)
    return str(local)


def _fetch_folder(place: Place, local: Path, there: Mapping[str, tuple[int, str]], notes: Notes) -> None:
    if local.is_file():
        local.unlink()
    local.mkdir(parents=True, exist_ok=True)
    for file in [file for file in local.rglob("*") if file.is_file()]:
        if file.relative_to(local).as_posix() not in there:
            file.unlink()
    for name, (_, mark) in there.items():
        if ".." in Path(name).parts:
            raise DataError(f"{place.url!r} has a file called {name!r}, which no folder can have")
        if not notes.same(name, mark):
            place.fetch(name, local / name)
            notes.note(name, mark)
    notes.write()


def _clear(local: Path) -> None:
    if local.is_dir():
        shutil.rmtree(local)
