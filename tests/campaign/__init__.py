"""Tries to break selfloop, as many as there is time for; see ``python -m tests.campaign --help``.

Each part is a module with a function ``tries(minutes, seed, folder)``, which yields a :class:`Try` for whatever it did,
good or bad, until its time is over or nothing is left to try. The same seed makes the same tries in the same order; how
many there are is up to the time and the machine. A bounded version of each part is in ``make test``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Try:
    """One attempt to break selfloop.

    Attributes:
        part: the module that made it.
        kind: the row of the table that it is counted in.
        what: what was done, so that it can be done again.
        found: what is wrong, in a line; empty where nothing is.
        inputs: how many it stands for, where there are too many to tell of each.
    """

    part: str
    kind: str
    what: str
    found: str = ""
    inputs: int = 1
