"""Write a file whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from selfloop.errors import RunError, StorageFull


def write(path: Path, content: bytes) -> None:
    """Put content at path: readers see the old file or the new one, never a part.

    Raises:
        StorageFull: there is no space left.
        RunError: the file cannot be written for another reason.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(f"no space left for {str(path)!r}: free some and ask for the report again") from error
        raise RunError(f"cannot write {str(path)!r}: {error.strerror}") from error
