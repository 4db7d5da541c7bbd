"""What others published about self-consuming loops, run again here.

An entry is a module of :mod:`selfloop.ledger.entries` that defines ``ENTRY``, an :class:`~selfloop.ledger.row.Entry`.
It is called as its module, with hyphens. A new one touches no other file.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from selfloop.core.errors import ConfigError, nearest, quoted

if TYPE_CHECKING:
    from selfloop.ledger.row import Entry


def names() -> list[str]:
    """Return what the entries are called, in alphabetical order."""
    from selfloop.ledger import entries

    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(entries.__path__))


def entry(name: str) -> Entry:
    """Return an entry.

    Raises:
        ConfigError: none is called so.
    """
    if name not in names():
        raise ConfigError(f"no entry of the ledger is called {quoted(name)}{nearest(name, names())}")
    found: Entry = importlib.import_module(f"selfloop.ledger.entries.{name.replace('-', '_')}").ENTRY
    return found
