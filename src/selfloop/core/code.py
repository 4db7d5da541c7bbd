"""The code that a program defines or is told to import, and how its worker processes come to know it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import operator
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from selfloop.core.errors import FOREIGN, ConfigError, said, where
from selfloop.core.paths import expanded
from selfloop.core.registry import FAMILIES, file_hash

IMPORTED: dict[str, str | None] = {}
"""What the command line was told to import, and the SHA-256 of its file."""

_MODULES: list[ModuleType] = []  # that were imported at the user's word

TABLES: dict[str, dict[str, Any]] = {}
"""What else a program gives names to, by kind: factories of models, arrays, functions that draw data."""


def import_code(word: str) -> None:
    """Import a module, or a file of Python, at the user's own word; what it defines joins.

    Raises:
        ConfigError: there is none, or it fails; the message has its error in one line.
    """
    path = expanded(word)
    if word.endswith(".py"):
        if not path.is_file():
            raise ConfigError(f"--import {word}: there is no such file")
        word = str(path.resolve())
    try:
        name = _import_file(word) if word.endswith(".py") else importlib.import_module(word).__name__
    except ConfigError as error:  # what it defines is none that joins
        raise ConfigError(f"--import {word}: {error}{where(error)}") from error
    except FOREIGN as error:  # whatever the user's code ends in
        if isinstance(error, ModuleNotFoundError) and f"{word}.".startswith(f"{error.name}."):
            raise ConfigError(f"--import {word}: there is no such module; the name of a file ends in .py") from error
        raise ConfigError(f"--import {word}: it cannot be imported: {said(error)}") from error
    IMPORTED[word] = file_hash(name)
    _MODULES.append(sys.modules[name])


def _import_file(path: str) -> str:
    """Import a file of Python, unless that was done; return the name of its module."""
    name = _module_name(path)
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None  # as of every name that ends so
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return name


def imported_object(name: str) -> Any:
    """Return what "module:name" is in a module that ``--import`` imported, None where it is nothing there.

    What a script called ``__main__`` is looked for in all of them.
    """
    module, _, path = name.partition(":")
    for there in _MODULES:
        if module in (there.__name__, "__main__"):
            with contextlib.suppress(AttributeError):
                return operator.attrgetter(path)(there)
    return None


def imported_names(module: str) -> list[str] | None:
    """Return the names of what can be called in a module that ``--import`` imported, None where it imported none."""
    for there in _MODULES:
        if there.__name__ == module:
            return sorted(name for name, value in vars(there).items() if callable(value) and not name.startswith("_"))
    return None


def imported_like(word: str) -> list[str]:
    """Return the "module:name" of what modules that ``--import`` imported define, and a word or its last part names."""
    name = re.split("[.:/]", word)[-1]
    found = [there for there in _MODULES if getattr(vars(there).get(name), "__module__", None) == there.__name__]
    return [f"{there.__name__}:{name}" for there in found]


def _module_name(path: str) -> str:
    """Return the name of the module that a file becomes: its own, unless it is another module's."""
    name = Path(path).stem.replace(".", "_")
    there = sys.modules.get(name)
    if there is not None:
        taken = getattr(there, "__file__", None) != path
    else:
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
        taken = spec is not None and spec.origin != path
    return f"{name}_{hashlib.sha256(path.encode()).hexdigest()[:8]}" if taken else name


def own_code() -> bytes:
    """Return what this program has defined or was told to import, for :func:`learn` in another process.

    Raises:
        ConfigError: something cannot be sent.
    """
    own = {word: family.own() for word, family in FAMILIES.items() if family.own()}
    if not (own or IMPORTED or any(TABLES.values())):
        return b""
    import cloudpickle  # what is defined in a script is sent as it is

    try:
        sent: bytes = cloudpickle.dumps((dict(IMPORTED), cloudpickle.dumps((own, TABLES))))
    except Exception as error:  # whatever an object's own pickling raises
        why = said(error, 200)
        raise ConfigError(f"what this program defines cannot be sent to workers ({why}): use workers=0") from error
    return sent


_LEARNT: set[bytes] = set()


def learn(code: bytes) -> None:
    """Make known here what :func:`own_code` of the parent process, and nobody else, returned.

    Raises:
        ConfigError: it needs a module that this process cannot import.
    """
    if not code or code in _LEARNT:
        return
    import cloudpickle

    try:
        imported, rest = cloudpickle.loads(code)
        for word in imported:
            import_code(word)
        own, tables = cloudpickle.loads(rest)
    except ConfigError:
        raise
    except Exception as error:  # whatever importing the program's modules raises
        why = said(error, 200)
        raise ConfigError(f"a worker process cannot load what the program defines ({why}): use workers=0") from error
    for word, members in own.items():
        for member in members.values():
            FAMILIES[word]._learn(member)
    for kind, table in tables.items():
        TABLES.setdefault(kind, {}).update(table)
    _LEARNT.add(code)
