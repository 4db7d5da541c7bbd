"""What is said of errors that no code of ours raised on purpose: the machine's limits, and our own mistakes."""

from __future__ import annotations

import errno
import os
import tempfile
import traceback

from selfloop.cli.terminal import BROKEN, FAILED, MISUSED
from selfloop.core.errors import said

_MEMORY = ("allocate memory", "failed to map segment", "cannot map", "can't start new thread", "not enough memory")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FILES = (errno.EMFILE, errno.ENFILE)


def unforeseen(error: Exception) -> tuple[str, int]:
    """Return the line that tells a user of an error, and the exit code."""
    causes = list(_causes(error))
    if any(_of_memory(cause) for cause in causes):
        return "there is not enough memory, or a limit is set on it (ulimit -v)", MISUSED
    for cause in causes:
        if isinstance(cause, OSError) and cause.errno in _FILES:
            return "too many files are open: raise the limit (ulimit -n)", MISUSED
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{str(error.filename)!r}: " if error.filename is not None else ""
        return f"{where}{error.strerror}", FAILED if error.errno in _FULL else MISUSED
    return f"an error of selfloop's own, not of yours: {said(error, ours=True)}; {_kept(error)}", BROKEN


def interrupted(error: Exception) -> bool:
    """Whether an error is what somebody else's code made of Ctrl-C, as pydantic does where it calls back."""
    return any(isinstance(cause, KeyboardInterrupt) for cause in _causes(error))


def _causes(error: BaseException | None) -> list[BaseException]:
    """Return an error and what led to it."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, ImportError | OSError | RuntimeError) and any(word in str(error) for word in _MEMORY)


def _kept(error: Exception) -> str:
    """Write the traceback to a file, and return where it is."""
    try:
        descriptor, path = tempfile.mkstemp(prefix="selfloop-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(traceback.format_exception(error))
    except OSError:
        return "its traceback could not be written"
    return f"please report it with its traceback, which is in {path}"
