"""A power cut at any moment of a run: what was committed stays, and the run goes on to the same bits.

:mod:`tests.campaign.power` plays the cuts: only what ``fsync`` was called for is sure to be there then, and of the
rest any part, in any order. ``python -m tests.campaign --part kills`` plays many more, of every kind of run.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import Nursery, ended, snapshot, tiny

from selfloop import Experiment

CLOSED: dict[str, Any] = {"generator": {"name": "gaussian"}, "budget": None, "metrics": ["mean_error"]}
GROWN: dict[str, Any] = {"generations": 5, "seeds": 3, "grid": {"mixing.lam": [0.5, 1, float("inf")]}}


def cut(nest: Nursery, experiment: Experiment, own: Path, at: int | None, seed: int = 0) -> tuple[dict[str, Any], Path]:
    """Run an experiment in a folder of its own until the power is cut; return what became of it, and the image."""
    image = own.with_name(f"{own.name}-image")
    watched = {"root": str(own), "image": str(image), "at": at, "seed": seed}
    return nest.run(experiment, own / "deep/run", power=watched), image


def finish(nest: Nursery, experiment: Experiment, out: Path) -> dict[str, bytes]:
    outcome = nest.run(experiment, out)
    assert ended(outcome), outcome
    return snapshot(out)


@pytest.mark.slow
@pytest.mark.parametrize("grown", [False, True], ids=["new", "grown"])
def test_the_power_may_go_at_any_change(nest: Nursery, tmp_path: Path, grown: bool) -> None:
    before = tiny(generations=3, **CLOSED)
    experiment = tiny(**CLOSED | GROWN) if grown else tiny(generations=4, **CLOSED)
    start = tmp_path / "start"
    start.mkdir()
    if grown:
        finish(nest, before, start / "deep/run")
    expected = finish(nest, experiment, Path(shutil.copytree(start, tmp_path / "whole") / "deep/run"))
    outcome, counted = cut(nest, experiment, Path(shutil.copytree(start, tmp_path / "counted")), None)
    changes = int(counted.read_text())
    assert ended(outcome), outcome
    assert changes > 60
    lost = 0
    for at in range(0, changes, 8 if grown else 5):
        own = Path(shutil.copytree(start, tmp_path / f"cut-{at}"))
        outcome, image = cut(nest, experiment, own, at, seed=at)
        if not image.is_dir():  # threads that wait for the disk are not counted alike each time
            assert ended(outcome), outcome
            continue
        told = len(outcome["message"].split())
        there = snapshot(image)
        lost += there != snapshot(own)
        for t in range(told):
            assert f"deep/run/generation-{t:04d}/manifest.json" in there, f"cut {at}: generation {t} was committed"
        assert finish(nest, experiment, image / "deep/run") == expected, f"cut {at}"
        shutil.rmtree(image)
        shutil.rmtree(own)
    assert lost > changes / 20, "hardly any cut has lost anything"


def test_what_a_cut_may_leave(nest: Nursery, tmp_path: Path) -> None:
    # The play must be able to lose what was not made safe, or the test above says nothing.
    found = set()
    for seed in range(12):
        (own := tmp_path / str(seed)).mkdir()
        outcome, image = cut(nest, tiny(**CLOSED), own, 8, seed)
        assert outcome["code"] == 9, outcome
        found.add(tuple(sorted(snapshot(image))))
    assert len(found) > 1
