"""Which packages are not here, all at once, before anything that needs them is imported."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LAZY = frozenset(("pot",))  # imported by one metric alone, when it is asked for
_WHOLE = frozenset(
    ("torch", "numba")
)  # whose own needs differ from machine to machine, and show when they are imported


def missing(pyproject: Path) -> list[str]:
    """Return the distributions that selfloop needs, directly or not, and that are not installed; itself first."""
    declared = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    return sorted(set(_absent([declared["name"], *_named(declared["dependencies"])], set())), key=_order)


def _order(name: str) -> tuple[bool, str]:
    return name != "selfloop", name


def _absent(names: Iterable[str], seen: set[str]) -> Iterator[str]:
    for name in names:
        if name in seen or name in _LAZY:
            continue
        seen.add(name)
        try:
            further = requires(name) or []
        except PackageNotFoundError:
            yield name
        else:
            yield from _absent(() if name in _WHOLE else _named(further), seen)


def _named(requirements: Iterable[str]) -> list[str]:
    """Return the names in requirements that hold everywhere: those of extras and of some machines are passed over."""
    found = (_NAME.match(each) for each in requirements if ";" not in each)
    return [re.sub(r"[-_.]+", "-", match[0]).lower() for match in found if match]
