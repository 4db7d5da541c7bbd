"""The first line of a run's experiment.yaml: its format, and a checksum of what follows."""

from __future__ import annotations

import contextlib
import hashlib
import re
from pathlib import Path
from typing import Any

from selfloop.core.errors import RunError
from selfloop.core.files import (
    advice,
    read_bytes,
    read_sealed,
)
from selfloop.experiment import Experiment

FORMAT = 2
_FORMAT = re.compile(b"# selfloop run, format ([0-9]{1,9}),")
_SEAL = "# selfloop run, format {format}, SHA-256 of what follows {digest}\n"


def digest(text: str) -> str:
    """Return what environment.json knows the settings in an experiment.yaml by."""
    return hashlib.sha256(text.encode()).hexdigest()


def belongs(text: str, environment: dict[str, Any]) -> bool:
    """Whether an environment.json was written with the settings in this text; while a run grows, with two."""
    return digest(text) in environment.get("experiment", [digest(text)])


def sealed(experiment: Experiment) -> bytes:
    text = experiment.yaml()
    return (_SEAL.format(format=FORMAT, digest=digest(text)) + text).encode()


def unsealed(file: Path) -> str:
    """Return the settings in an experiment.yaml.

    Raises:
        RunError: it is damaged, or of another version.
    """
    head, _, body = read_bytes(file).partition(b"\n")
    expected = _SEAL.format(format=FORMAT, digest=hashlib.sha256(body).hexdigest()).encode()
    if head + b"\n" == expected:
        try:
            return body.decode()
        except UnicodeDecodeError as error:
            raise RunError(f"{str(file)!r} is damaged: it is not UTF-8 text") from error
    folder, found = repr(str(file.parent)), _FORMAT.match(head)
    if found is None and _format_1(file.parent):
        raise RunError(
            f"{folder} is a run of format 1, made by an earlier version, and this one reads format {FORMAT}: "
            "read it with that version, or run the experiment again with another --out"
        )
    if found is None:
        raise RunError(f"{str(file)!r} is not that of a run, or damaged: its first line does not give a run's format")
    if int(found[1]) != FORMAT:
        raise RunError(
            f"{folder} is a run of format {int(found[1])}, and this version reads format {FORMAT}: "
            "use the version of selfloop that made it"
        )
    raise RunError(f"{str(file)!r} is damaged: its SHA-256 is not the one in its first line{advice(file)}")


def _format_1(path: Path) -> bool:
    with contextlib.suppress(RunError):
        return "format" not in read_sealed(path / "environment.json")
    return False
