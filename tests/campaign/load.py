"""Runs that are large in one way: arms, generations, rows, bytes of images, files; what each command takes of them.

Each load comes in two sizes, one four times the other, so that what grows faster than its input is seen: a command that
takes more than eight times as long is a failure, as is one that takes more memory than it may.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.campaign import Try

MEMORY = 4.0
"""GB that a command may take; interpreter, torch and what they load are 0.4 of it."""
NOISE = 3.0
"""Seconds that are not held against a command: imports, and other work on the machine."""
STEEP = 8.0

CLOSED = "generator: {name: gaussian}\nmetrics: [mean_error, variance_ratio]\n"


def _arms(folder: Path, n: int) -> str:
    return (
        f"name: load\ndata: {{name: gaussian, n: 100, held_out: 100}}\n{CLOSED}generations: 5\nseeds: {n // 10}\n"
        "grid: {mixing.lam: [0, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 4, .inf]}\n"
    )


def _generations(folder: Path, n: int) -> str:
    return (
        f"name: load\ndata: {{name: gaussian, n: 100, held_out: 100}}\n{CLOSED}generations: {n}\nseeds: 10\n"
        "grid: {mixing.lam: [0.5, .inf]}\n"
    )


def _rows(folder: Path, n: int) -> str:
    rng = np.random.default_rng(0)
    words = np.array(["low", "middle", "high", ""])
    with open(folder / "rows.csv", "w", encoding="utf-8") as file:
        file.write("a,b,c,d\n")
        for start in range(0, n, 100_000):
            size = min(100_000, n - start)
            x, kinds = rng.normal(size=(size, 2)), words[rng.integers(4, size=size)]
            lines = zip(x[:, 0], x[:, 1], kinds, rng.integers(1000, size=size), strict=True)
            file.writelines(f"{a:.5f},{b:.5f},{c},{d}\n" for a, b, c, d in lines)
    return (
        "name: load\ndata: {name: table, path: rows.csv}\ngenerator: {name: copula}\ngenerations: 1\nseeds: 1\n"
        "metrics: [mean_error]\ngrid: {mixing.lam: [1]}\n"
    )


def _images(folder: Path, n: int) -> str:
    size = n * 10**9 // (3 * 64 * 64)
    file = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (size, 64, 64, 3))  # a file with holes
    file[:2000] = np.random.default_rng(0).integers(256, size=(2000, 64, 64, 3))
    del file
    return (
        "name: load\ndata: {name: image_files, path: images.npy, n: 64, held_out: 32}\n"
        "generator: {name: otcfm_images, batch_size: 8,\n"
        "  net: {channels: 8, multipliers: [1, 2, 2], blocks: 1, attention: [], dropout: 0.0, group_channels: 4}}\n"
        "budget: {steps: 1}\ngenerations: 1\nseeds: 1\nmetrics: [mean_error]\n"
    )


def _files(folder: Path, n: int) -> str:
    sizes = ", ".join(str(20 + i) for i in range(50))  # arms of several sizes are stored apart
    return (
        f"name: load\ndata: {{name: gaussian, n: 100, held_out: 100}}\n{CLOSED}generations: {n // 100 - 1}\n"
        f"seeds: 1\nkeep_states: all\ngrid: {{data.n: [{sizes}]}}\nmixing: replace\n"
    )


LOADS: dict[str, tuple[Callable[[Path, int], str], int, tuple[str, ...]]] = {
    "arms": (_arms, 10_000, ("report", "stability", "ls", "verify")),
    "generations": (_generations, 1000, ("report", "stability", "ls", "verify")),
    "rows of a table": (_rows, 1_000_000, ("report", "verify")),
    "GB of images": (_images, 10, ("report",)),
    "files of a run": (_files, 100_000, ("report", "stability", "ls", "verify")),
}


def measured(arguments: list[str], folder: Path) -> tuple[int, float, float, str]:
    """Run a command; return its code, seconds, GB at its peak and its last line."""
    begin = time.monotonic()
    with open(folder / "said", "wb+") as said:
        child = subprocess.Popen([sys.executable, "-m", "selfloop", *arguments], cwd=folder, stdout=said, stderr=said)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        lines = said.read().decode().splitlines()
    return child.returncode, time.monotonic() - begin, usage.ru_maxrss * 1024 / 1e9, lines[-1] if lines else ""


def _load(name: str, folder: Path) -> Iterator[Try]:
    write, n, commands = LOADS[name]
    took: dict[str, float] = {}
    for size in (n // 4, n):
        place = folder / f"{name}-{size}".replace(" ", "-")
        place.mkdir()
        (place / "run.yaml").write_text(write(place, size), encoding="utf-8")
        calls = [("run", ["run", "run.yaml", "--out", "run", "--workers", "0"])]
        calls += [(command, [command, "." if command == "ls" else "run"]) for command in commands]
        for command, arguments in calls:
            code, seconds, memory, said = measured(arguments, place)
            wrong = "" if code in (0, 3, 4, 5) else f"code {code}: {said}"  # verdicts have codes of their own
            if memory > MEMORY:
                wrong = wrong or f"{memory:.1f} GB"
            if command in took and seconds > NOISE + STEEP * took[command]:
                wrong = wrong or f"{seconds:.1f} s, and {took[command]:.1f} s of a quarter as many"
            took[command] = seconds
            yield Try("load", f"{size:,} {name}: {command}", f"{seconds:.1f} s, {memory:.2f} GB", wrong)


def tries(minutes: float, seed: int, folder: Path) -> Iterator[Try]:
    """Take on each load in turn, as long as there is time."""
    end = time.monotonic() + 60 * minutes
    for name in LOADS:
        for each in _load(name, folder):
            yield each
            if time.monotonic() > end:
                return
