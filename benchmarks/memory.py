"""Peak memory of every recipe, over all its processes, and of one recipe over its generations."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.timing import descendants
from selfloop.experiment import Experiment, recipes

# Neither the length of a fit nor, as the last rows show, the number of generations changes what a run holds.
_SHORT = ("generations=2", "budget.epochs=1")


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Memory of one run.

    Attributes:
        recipe: its name.
        settings: what was changed, to be quick.
        workers: processes beside the first.
        peak_mb: largest proportional set size (memory shared by k processes counts 1/k in each) in MB.
        half_mb: the same by the time half of the run had passed.
    """

    recipe: str
    settings: str
    workers: int
    peak_mb: float
    half_mb: float


def proportional(pid: int) -> float:
    """Return a process's proportional set size in MB, 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("Pss:")), 0.0)


def measure(recipe: str, settings: tuple[str, ...], workers: int) -> Peak:
    """Run a recipe in a process of its own and watch its memory, 20 times a second."""
    options = [word for setting in settings for word in ("--set", setting)]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "selfloop", "run", recipe, *options]
        command += ["--out", f"{folder}/run", "--workers", str(workers)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        seen = []
        while process.poll() is None:
            seen.append(sum(map(proportional, descendants(process.pid))))
            time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    half = max(seen[: len(seen) // 2])
    return Peak(recipe=recipe, settings=" ".join(settings), workers=workers, peak_mb=max(seen), half_mb=half)


def rows() -> Iterator[Peak]:
    """Yield one row per recipe, then the same recipe for longer and longer."""
    for name in recipes():
        experiment = Experiment.load(name)
        if hasattr(experiment.data, "path"):  # a file of the user's
            continue
        short = [s for s in _SHORT if experiment.generator.trained or not s.startswith("budget")]
        short += ["pretrain.epochs=1"] if experiment.pretrain else []
        yield measure(name, tuple(short), workers=2)
    for generations in (10, 40, 160):
        yield measure("fig4", (f"generations={generations}", "budget.epochs=1"), workers=2)
