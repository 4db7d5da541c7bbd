"""Timing two things side by side, and knowing when another job was in the way."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_ROUNDS = 9
_SECONDS = 0.15  # a round runs each side for about so long
_DISTURBED = 0.1  # cores that others used: a round with more is dropped


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison.

    Attributes:
        work: what was done.
        ours_s: seconds of selfloop, a median.
        peer: what a user would run instead.
        peer_s: its seconds, a median over the same rounds.
        ratio: peer_s / ours_s.
        load: cores that other processes used meanwhile, a mean over the rounds that count.
        rounds: rounds that count.
        dropped: rounds that do not, because others used more than a tenth of a core.
        note: what else is worth knowing.
    """

    work: str
    ours_s: float
    peer: str
    peer_s: float
    ratio: float
    load: float
    rounds: int
    dropped: int
    note: str = ""


class Load:
    """The cores that other processes use while a block runs; NaN where there is no /proc/stat."""

    def __enter__(self) -> Load:
        self._start = self._read()
        return self

    def __exit__(self, *_: object) -> None:
        wall, busy, own = (b - a for a, b in zip(self._start, self._read(), strict=True))
        self.others = max(0.0, (busy - own) / wall)

    @staticmethod
    def _read() -> tuple[float, float, float]:
        own = sum(os.times()[:4]) + _children()
        try:
            # user nice system idle iowait irq softirq steal: what the hypervisor took is another's too
            fields = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        except OSError:
            return time.monotonic(), float("nan"), own
        busy = sum(fields) - fields[3] - fields[4]
        return time.monotonic(), busy / os.sysconf("SC_CLK_TCK"), own


def descendants(root: int) -> list[int]:
    """Return a process and all that it has started, directly or not."""
    parents = {pid: int(fields[1]) for pid, fields in _processes().items()}
    ours, found = {root}, True
    while found:
        found = {pid for pid, parent in parents.items() if parent in ours} - ours
        ours |= found
    return sorted(ours)


def _processes() -> dict[int, list[str]]:
    """Return what /proc says of every process after its name: state, parent, …"""
    processes = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            processes[int(stat.parent.name)] = stat.read_text().rsplit(")", 1)[1].split()
    return processes


def _children() -> float:
    """Return the CPU seconds of this process's living descendants; ``os.times`` counts the dead."""
    processes = _processes()
    others = [processes[pid] for pid in descendants(os.getpid()) if pid != os.getpid() and pid in processes]
    return sum(int(fields[11]) + int(fields[12]) for fields in others) / os.sysconf("SC_CLK_TCK")


def repeats(call: Callable[[], object]) -> int:
    """Return how many calls a round is worth; the first compiles and fills caches."""
    call()
    start = time.perf_counter()
    call()
    return max(1, round(_SECONDS / (time.perf_counter() - start)))


def seconds_per_call(call: Callable[[], object], repeats: int) -> float:
    """Return the mean time of a call over ``repeats`` of them."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def compare(
    work: str,
    ours: Callable[[], object],
    peer: str,
    theirs: Callable[[], object],
    *,
    per: float = 1,
    peer_per: float = 1,
    rounds: int = _ROUNDS,
    note: str = "",
) -> Row:
    """Run both in turn, round after round, and return the medians.

    Args:
        work: what is done.
        ours: selfloop's call.
        peer: the name of the alternative.
        theirs: its call.
        per: pieces of work in a call of ours; times are per piece.
        peer_per: pieces of work in a call of theirs.
        rounds: how often each side is timed.
        note: printed with the row.
    """
    counts = repeats(ours), repeats(theirs)
    timed: list[tuple[float, float, float]] = []
    for _ in range(rounds):
        with Load() as load:
            pair = seconds_per_call(ours, counts[0]) / per, seconds_per_call(theirs, counts[1]) / peer_per
        timed.append((*pair, load.others))
    kept = [t for t in timed if not t[2] > _DISTURBED]
    if not kept:
        note = f"every round was disturbed. {note}".strip()
    a, b, loads = zip(*(kept or timed), strict=True)
    ours_s, peer_s = statistics.median(a), statistics.median(b)
    return Row(
        work=work,
        ours_s=ours_s,
        peer=peer,
        peer_s=peer_s,
        ratio=peer_s / ours_s,
        load=statistics.fmean(loads),
        rounds=len(kept) or len(timed),
        dropped=len(timed) - len(kept),
        note=note,
    )
