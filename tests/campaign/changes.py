"""What counts as a change that a process makes to a folder, as Python's audit events tell of it before it is made.

Only the standard library is imported: the process is forked from the nursery of ``tests/helpers.py``.
"""

from __future__ import annotations

import os
from typing import Any

CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink")


def changed(event: str, arguments: tuple[Any, ...], root: str) -> str | None:
    """Return the path that an audit event is about to change below a folder; None of any other event.

    A file that is opened is changed if it is opened to be written. Inside ``shutil.rmtree`` what is removed is relative
    to a descriptor, and taken to lie in the folder.
    """
    if event not in CHANGES or not isinstance(arguments[0], str | bytes | os.PathLike):
        return None
    if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
        return None
    path = os.fsdecode(arguments[0])
    within = event in ("os.remove", "os.rmdir") and not os.path.isabs(path)
    return path if within or path.startswith(root) else None
