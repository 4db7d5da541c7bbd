"""Files that are there whole or not at all, and that say so when they are not what was written."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import json
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from pydantic_core import from_json
from safetensors import SafetensorError
from torch import Tensor

from selfloop.core.errors import RunError, StorageFull, is_text, quoted

Found = TypeVar("Found")
Write = Callable[[Path, bytes], str]

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (
    *(errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO),
)
_GONE = (errno.ENOENT, errno.ESTALE)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a refused write, or that ``path`` is no longer there, into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(
                f"no space left to write {str(path)!r}: free some and run the same command again to resume"
            ) from error
        if error.errno in _REFUSED:
            named = error.filename2 or error.filename
            raise RunError(f"cannot write {str(named or path)!r}: {error.strerror}") from error
        if error.errno in _GONE and not path.exists():
            raise RunError(f"{str(path)!r} is gone: it has been moved or deleted") from error
        raise


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[io.BufferedWriter]:
    """Write a file so that it is there whole or not at all, also after a power cut."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb", opener=in_its_place) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync(path.parent)  # or it may be what was there before, beside files that were written after it
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> str:
    """Write a file, whole or not at all; return its SHA-256."""
    with _whole(path) as file:
        file.write(content)
    return hashlib.sha256(content).hexdigest()


def refuse_unnameable(path: Path) -> None:
    """Refuse a run directory of a name that is no text: safetensors opens no file in it.

    Raises:
        RunError: it is.
    """
    if "\0" in str(path) or not is_text(str(path)):
        raise RunError(f"{quoted(path)} cannot be the name of a run directory: it must be UTF-8 text without NUL")


def gone(path: Path) -> RunError | None:
    """Return the error of a run that is no longer where ``path`` is one of its files; None where it is there."""
    run = path.parent.parent if _of_generation(path) else path.parent
    return None if run.exists() else RunError(f"{str(run)!r} is gone: it has been moved or deleted")


def missing(path: Path) -> RunError:
    """Return the error of a run's file that is not there, or of the run if that is gone."""
    return gone(path) or RunError(f"{str(path)!r} is missing{advice(path)}")


def _of_generation(path: Path) -> bool:
    return path.parent.name.startswith("generation-")


def put_bytes(path: Path, content: bytes) -> str:
    """Write a file that nobody looks at before it is safe by :func:`sync`; return its SHA-256."""
    with open(path, "wb") as file:
        file.write(content)
    return hashlib.sha256(content).hexdigest()


def read_bytes(path: Path, hint: str = "") -> bytes:
    """Read a file of a run.

    Raises:
        RunError: it is missing or cannot be read; the message ends in ``hint``.
    """
    return _read(path, lambda file: file.read(), hint)


def _read(path: Path, read: Callable[[io.BufferedReader], Found], hint: str) -> Found:
    try:
        with open(path, "rb", opener=at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise RunError(f"{str(path)!r} is no file: a pipe or a device is in its place")
            return read(file)
    except FileNotFoundError as error:
        raise gone(path) or RunError(f"{str(path)!r} is missing{hint}") from error
    except OSError as error:
        raise RunError(f"{str(path)!r} cannot be read: {error.strerror}") from error


def at_once(path: str, flags: int) -> int:
    """Open a file, and wait for nobody where a pipe is in its place."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)  # Windows has none


def in_its_place(path: str, flags: int) -> int:
    """Open a file to be written: follow no link, which may lead out of a run of others, and wait for nobody."""
    return at_once(path, flags | getattr(os, "O_NOFOLLOW", 0))


def refuse_link(path: Path) -> None:
    """Refuse a link where a run is written to: what is written would lie elsewhere.

    Raises:
        RunError: it is one.
    """
    if path.is_symlink():
        raise RunError(f"{str(path)!r} is a link, and what is written to a run must lie in it: remove the link")


_TOGETHER = 16  # files that are made safe at once


def sync(*paths: Path) -> None:
    """Make files, and what was created, renamed or removed in folders, survive a power cut.

    All at once: a file system that keeps a journal writes it once for those that wait for it together, and one after
    the other each of them waits for a write of its own.
    """
    if len(paths) == 1:
        _sync(paths[0])
        return
    list(_threads(os.getpid()).map(_sync, paths))


@functools.lru_cache(maxsize=1)
def _threads(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_TOGETHER)  # of this process: those of its parent are not here after a fork


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a directory and those above it that are missing; all are there after a power cut, too."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in made:
        _sync(folder.parent)


_SEAL = b'{\n"seal": "%s",\n'


def write_sealed(path: Path, content: dict[str, Any], write: Write = write_bytes) -> None:
    """Write JSON that carries, first, the SHA-256 of what comes after it, under ``seal``; a line for every key."""
    lines = [f"{json.dumps(key)}: {_compact(content[key])}" for key in sorted(content)]
    body = (",\n".join(lines) + "\n}\n").encode()
    write(path, _SEAL % hashlib.sha256(body).hexdigest().encode() + body)


def _compact(value: Any) -> str:
    # On one line: with indentation json's encoder is no longer the compiled one, and a manifest can be megabytes.
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True)


def read_sealed(path: Path) -> dict[str, Any]:
    """Read JSON written by :func:`write_sealed`.

    Raises:
        RunError: the file is missing, or not what was written.
    """
    raw = read_bytes(path, advice(path))
    body = raw[len(_SEAL % bytes(64)) :]
    if raw != _SEAL % hashlib.sha256(body).hexdigest().encode() + body:
        raise RunError(f"{str(path)!r} is damaged: its checksum does not match its content{advice(path)}")
    try:
        content: dict[str, Any] = from_json(raw, allow_inf_nan=False)  # in half the time of the json module
    except ValueError as error:
        raise RunError(f"{str(path)!r} is damaged: it is no JSON") from error
    del content["seal"]
    return content


_LASTING = ("experiment.yaml", "environment.json", "real.safetensors")  # of a run, and what all of it rests on


def advice(path: Path) -> str:
    """Return how a message about a damaged file ends: with what makes it good and loses nothing."""
    if _of_generation(path):
        return f": put a copy of it back; or, of a last generation, move {str(path.parent)!r} elsewhere and run again"
    if path.name in _LASTING or path.name.startswith("generation-"):
        return ": put a copy of it back, or run again with another --out"
    return ""


def save_tensors(path: Path, tensors: dict[str, Tensor], write: Write = write_bytes) -> dict[str, Any]:
    """Write safetensors and return what the manifest notes of the file."""
    content = safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()})
    return {"sha256": write(path, content), "bytes": len(content)}


def load_tensors(path: Path, expected: dict[str, Any]) -> dict[str, Tensor]:
    """Read safetensors after checking them against the manifest's note.

    Raises:
        RunError: the file is missing, truncated or changed.
    """
    size, digest = _read(path, _size_and_digest, advice(path))
    _same_size(path, size, expected)
    if digest != expected["sha256"]:
        raise RunError(f"{str(path)!r} is damaged: its SHA-256 is not the manifest's{advice(path)}")
    return map_tensors(path)


def map_tensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors that are known to be what was written.

    The tensors are mapped from the file, not copied: what is not looked at takes no memory, and writing into one
    changes a copy of the page, never the file.

    Raises:
        RunError: they are no safetensors.
    """
    try:
        return dict(safetensors.torch.load_file(path))
    except SafetensorError as error:
        raise RunError(f"{str(path)!r} is not a safetensors file") from error
    except OSError as error:  # it was there a moment ago
        raise missing(path) from error


Stamp = tuple[int, int, int, int]


def stamp(path: Path) -> Stamp | None:
    """Return what changes when a file does, without reading it; None where there is none to be read."""
    with contextlib.suppress(OSError):
        now = os.stat(path)
        if stat.S_ISREG(now.st_mode):
            return now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns  # the last is nobody's to set
    return None


def check_size(path: Path, expected: dict[str, Any], size: int | None = None) -> None:
    """Check that a file is as long as the manifest's note says, without reading it.

    Args:
        path: the file.
        expected: the note.
        size: how long it is, if that is known.

    Raises:
        RunError: it is not, or it is missing.
    """
    if size is None:
        size = _read(path, lambda file: os.fstat(file.fileno()).st_size, advice(path))
    _same_size(path, size, expected)


def _same_size(path: Path, size: int, expected: dict[str, Any]) -> None:
    if size != expected["bytes"]:
        raise RunError(f"{str(path)!r} has {size} bytes instead of {expected['bytes']}{advice(path)}")


def _size_and_digest(file: io.BufferedReader) -> tuple[int, str]:
    return os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()


def save_sealed(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write safetensors, and what is to be said about them, with a checksum of both in the file itself."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    text = _compact(about)
    # A single key: safetensors writes several in an order that differs from process to process.
    metadata = {"sealed": _compact({"about": text, "sha256": _digest(tensors, text)})}
    write_bytes(path, safetensors.torch.save(tensors, metadata=metadata))


def load_sealed(path: Path, advice: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_sealed` wrote: the tensors, and what is said about them.

    Raises:
        RunError: the file is missing, or not what was written; the message ends in ``advice``.
    """
    content = read_bytes(path)
    try:
        tensors = safetensors.torch.load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        sealed = json.loads(header["__metadata__"]["sealed"])
        text, expected = sealed["about"], sealed["sha256"]
        if _digest(tensors, text) == expected:
            about: dict[str, Any] = json.loads(text)
            return dict(tensors), about
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{str(path)!r} is damaged{advice}") from error
    raise RunError(f"{str(path)!r} is damaged{advice}")


def _digest(tensors: dict[str, Tensor], about: str) -> str:
    digest = hashlib.sha256(about.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
