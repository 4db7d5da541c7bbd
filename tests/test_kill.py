"""A run that was killed, at whatever moment and however often, ends as if nothing had happened.

What is killed, with SIGKILL or ``os._exit``, and what is compared: every file of the run directory but ``lock`` and
``log.txt``, byte for byte, with those of a run that was left alone; nothing else may be left behind.

- The process of a run, at 8 moments spread at random over its life; also again and again until it gets through.
- The same process just before each change to the file system, and half way through each write, while the run is made,
  goes on, is recovered, and is finished. That includes the moments between a rename and the next step.
- A worker process at work or at rest, and the parent of workers.
- The process of a run of every regime, each with a grid, at a random moment after a random generation was committed.

The kernel outlives the process here, so what was written is there; ``test_power`` plays power cuts. Kills of the parent
of workers are few, as each start of workers takes seconds.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers import Nursery, ended, small, snapshot, tiny

from selfloop import Experiment, Run, RunError, run
from selfloop.engines.local import Workers

pytestmark = pytest.mark.slow


def _whole(nest: Nursery, experiment: Experiment, out: Path) -> tuple[dict[str, bytes], float]:
    """Run without disturbance and return the files and the seconds it took, the less of two times."""
    outcomes = [nest.run(experiment, path) for path in (out, out.with_name(f"{out.name}-again"))]
    assert all(map(ended, outcomes)), outcomes
    return snapshot(out), min(outcome["seconds"] for outcome in outcomes)


def _finish(nest: Nursery, experiment: Experiment, out: Path) -> dict[str, bytes]:
    outcome = nest.run(experiment, out)
    assert ended(outcome), outcome
    Run.open(out).verify()
    return snapshot(out)


def test_killed_at_random_moments(nest: Nursery, tmp_path: Path) -> None:
    experiment, rng = small(), random.Random(20240)
    expected, life = _whole(nest, experiment, tmp_path / "whole")
    kills, found = 0, Counter[int]()
    for i in rng.sample(range(8), 8):
        out = tmp_path / f"run-{i}"
        # One moment in each eighth of the life, so that none of it is left out.
        outcome = nest.run(experiment, out, kill_after=life * (i + rng.random()) / 8)
        if ended(outcome):  # the machine was busier when the life was taken
            life = min(life, outcome["seconds"])
        if outcome["status"] == "killed":
            kills += 1
            found[len(list(out.glob("generation-*"))) if out.exists() else -1] += 1
        assert _finish(nest, experiment, out) == expected, f"killed after {outcome['seconds']} s"
        shutil.rmtree(out)
    # Some come too late where the machine was busier while the life was taken than it is now.
    assert kills >= 4, f"only {kills} of 8 came in time"
    assert len(found) >= 3, f"the kills hit too few stages: {found}"


def test_killed_again_and_again(nest: Nursery, tmp_path: Path) -> None:
    experiment, rng = small(), random.Random(20241)
    expected, life = _whole(nest, experiment, tmp_path / "whole")
    kills = 0
    for i in range(2):
        out = tmp_path / f"run-{i}"
        for attempt in range(200):
            # Long enough for a generation now and then, too short for the run.
            outcome = nest.run(experiment, out, kill_after=life * rng.uniform(0.05, 0.6))
            kills += outcome["status"] == "killed"
            if ended(outcome):
                life = life if attempt else min(life, outcome["seconds"])
                break
        assert snapshot(out) == expected
    assert kills >= 4, f"only {kills}"


CLOSED: dict[str, Any] = {"generator": {"name": "gaussian"}, "budget": None}
"""Settings of a fit in closed form, for what does not depend on how one is made."""

NEAR = {"name": "distance", "to": [0.0, 0.0]}
GRIDS: dict[str, dict[str, list[Any]]] = {
    "accumulate": {"mixing": ["accumulate", "accumulate_subsample"]},
    "window": {"mixing": [{"name": "window", "generations": 2, "real": real} for real in (True, False)]},
    "fresh": {"mixing": [{"name": "fresh", "k": 2, "weight": weight} for weight in (0.5, "golden")]},
    "verified": {
        "mixing": [
            {"name": "verified", "verifier": "likelihood", "least": {"quantile": 0.1}},
            {"name": "verified", "verifier": {"name": "oracle", "truth": "classifier", "true_positive": 0.9}},
        ]
    },
    "curated": {"mixing": [{"name": "curated", "reward": reward, "k": 3} for reward in (NEAR, "likelihood")]},
    "corrected": {"mixing": [{"name": "corrected", "target": {"name": "centre", "k": k}} for k in (2, 4)]},
    "contaminated": {
        "mixing": [
            {"name": "contaminated", "rate": 0.4, "real": 0.25, "detector": {"true_positive": tpr}}
            for tpr in (0.2, 0.8)
        ]
    },
    "replace": {"mixing": [{"name": "replace", "n": {"power": 1.5}}, "replace"]},
    "then": {
        "mixing": [
            {"name": "then", "first": "replace", "until": until, "then": {"name": "augment", "lam": 2}}
            for until in (1, 3)
        ]
    },
    "ensemble": {
        "generator": [
            {"name": "ensemble", "of": "gaussian", "learn_from": learn, "shares": [0.75, 0.25]}
            for learn in ("all", "others")
        ],
        "mixing": ["accumulate", {"name": "augment", "lam": 1.5}],
    },
}


@pytest.mark.parametrize("regime", GRIDS)
def test_killed_in_every_regime(nest: Nursery, tmp_path: Path, regime: str) -> None:
    rng = random.Random(f"20245 {regime}")
    metrics = ["w2_held_out", "mean_error", "parameter_distance"]
    experiment = tiny(generations=6, metrics=metrics, **CLOSED | {"grid": GRIDS[regime]})
    expected, life = _whole(nest, experiment, tmp_path / "whole")
    kills = 0
    for i in range(12):
        out, t = tmp_path / f"run-{i}", rng.randrange(5)
        once = str(out / f"generation-{t:04d}")
        # Within about a generation's length of the commit.
        outcome = nest.run(experiment, out, once=once, kill_after=life / 7 * rng.random())
        assert Path(once).is_dir()
        if ended(outcome):  # too late: the machine was busier while the life was taken
            life /= 2
            continue
        assert _finish(nest, experiment, out) == expected, f"killed after the commit of generation {t}"
        kills += 1
        if kills == 2:
            return
    pytest.fail(f"only {kills} of 12 came in time")


@pytest.mark.parametrize("torn", [False, True], ids=["before each change", "half way through each write"])
def test_every_crash_point(nest: Nursery, tmp_path: Path, torn: bool) -> None:
    # The third retraining is the first to drop weights. What is written, and when, is the same whatever was fitted.
    experiment = tiny(generations=3, metrics=["mean_error"], **CLOSED)
    expected, _ = _whole(nest, experiment, tmp_path / "whole")
    counted = nest.run(experiment, tmp_path / "counted", crash_at=None, torn=torn)
    points = counted["message"].split()
    assert len(points) >= (20 if torn else 60), points
    for n, what in enumerate(points):
        out = tmp_path / f"run-{n}"
        outcome = nest.run(experiment, out, crash_at=n, torn=torn)
        assert outcome["code"] == 9, outcome
        assert _finish(nest, experiment, out) == expected, f"point {n}, {what}"
        shutil.rmtree(out)


def test_every_crash_point_of_recovery(nest: Nursery, tmp_path: Path) -> None:
    experiment = tiny(generations=3, **CLOSED)
    expected, _ = _whole(nest, experiment, tmp_path / "whole")
    points = nest.run(experiment, tmp_path / "counted", crash_at=None)["message"].split()
    commits = [i for i, what in enumerate(points) if what == "os.rename"]
    # Right after the last commit (metrics behind, weights to drop), and with a generation half written.
    for first in (commits[-1] + 1, len(points) - 1, commits[-3]):
        start = tmp_path / f"start-{first}"
        nest.run(experiment, start, crash_at=first)
        shutil.copytree(start, tmp_path / "counted" / str(first))
        steps = nest.run(experiment, tmp_path / "counted" / str(first), crash_at=None)["message"].split()
        for n, what in enumerate(steps):
            out = tmp_path / f"run-{first}-{n}"
            shutil.copytree(start, out)
            assert nest.run(experiment, out, crash_at=n)["code"] == 9
            assert _finish(nest, experiment, out) == expected, f"{points[first]}, then {n}, {what}"
            shutil.rmtree(out)


def _is_worker(pid: int, parent: int | None = None) -> bool:
    folder = Path("/proc") / str(pid)
    try:
        command = (folder / "cmdline").read_bytes()
        above = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return False
    return b"popen_loky_posix" in command and parent in (None, above)


def _workers(parent: int) -> list[int]:
    """Return the worker processes of a process."""
    found = (int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit())
    return sorted(pid for pid in found if _is_worker(pid, parent))


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds worker processes in /proc")


@needs_proc
def test_killed_workers(nest: Nursery, tmp_path: Path) -> None:
    experiment, rng, others = small(budget={"steps": 40}), random.Random(20242), _workers(os.getpid())
    expected, _ = _whole(nest, experiment, tmp_path / "whole")
    kills: list[str] = []

    def kill(when: str) -> None:
        os.kill(rng.choice(sorted({*_workers(os.getpid())} - {*others})), signal.SIGKILL)
        kills.append(when)

    def progress(t: int, done: int, of: int) -> None:
        if (t, done) == (3, 1):
            kill("one stack done, the other maybe at work")

    for generation in run(experiment, tmp_path / "run", workers=2, progress=progress):
        if generation.t == 0:
            kill("at rest")
            time.sleep(0.2)  # until the pool has noticed
    assert len(kills) == 2, kills
    assert snapshot(tmp_path / "run") == expected
    assert _workers(os.getpid()) == others


class _Task:
    """Leaves a file for each execution and, once, kills its worker while it works on stack 3."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, stack: int) -> int:
        (self.folder / f"{stack}-{os.getpid()}").touch()
        if stack == 3 and len(list(self.folder.glob("3-*"))) == 1:
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGKILL)
        return stack


def _always_killed(stack: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return stack


def test_only_lost_stacks_run_again(tmp_path: Path) -> None:
    pool = Workers(1)
    try:
        assert sorted(pool.map(_Task(tmp_path), range(5))) == [0, 1, 2, 3, 4]
        executions = Counter(path.name[0] for path in tmp_path.iterdir())
        assert executions == {"0": 1, "1": 1, "2": 1, "3": 2, "4": 1}
        with pytest.raises(RunError, match="killed 3 times in one generation") as caught:
            list(pool.map(_always_killed, range(1)))
        assert "\n" not in str(caught.value)
    finally:
        pool.close()


@needs_proc
def test_killed_parent_of_workers(nest: Nursery, tmp_path: Path) -> None:
    # The workers outlive it for a moment, while the run is already resumed.
    experiment, out = small(), tmp_path / "run"
    expected, _ = _whole(nest, experiment, tmp_path / "whole")
    paused = nest.run(experiment, out, workers=2, stop_at=1)
    assert paused["status"] == "stopped", paused
    orphans = _workers(paused["pid"])
    assert len(orphans) == 2
    with pytest.raises(RunError, match="in use by another process"):
        list(run(experiment, out))
    nest.ask({"end_paused": True})
    assert _finish(nest, experiment, out) == expected
    deadline = time.monotonic() + 20
    while any(_is_worker(pid) for pid in orphans):
        assert time.monotonic() < deadline, "workers stay when their parent is gone"
        time.sleep(0.05)


def test_a_run_with_workers_that_is_terminated_says_nothing_of_semaphores() -> None:
    code = (
        "import os, signal; from selfloop.engines.local import Workers; "
        "pool = Workers(1); os.kill(os.getpid(), signal.SIGTERM)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)  # and what frees them has ended
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "", "")
