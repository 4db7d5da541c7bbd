"""Stacks as chains of jobs that are sent what they need, whatever the order in which jobs end."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from helpers import snapshot

from selfloop import Experiment, Run, run
from selfloop.chains import _LEAD
from selfloop.core.errors import RunError
from selfloop.engines.team import Team
from selfloop.engines.threads import as_in_a_worker

EXPERIMENT = Experiment.parse(
    """
name: chains
data: {name: gaussian, n: 60, held_out: 30}
generator: gaussian
generations: 6
seeds: 1
grid:
  data.n: [60, 64, 68]
  mixing: [{name: augment, lam: 0.5}, {name: accumulate}, {name: window, generations: 3}, {name: replace}]
metrics: [mean_error, parameter_distance]
""",
    "chains",
)


class Scrambled:
    """Jobs that end in any order; what they are given and return goes through pickles, as between machines."""

    def __init__(self, seed: int) -> None:
        self._random, self._waiting = random.Random(seed), list[tuple[Hashable, Callable[..., Any], tuple[Any, ...]]]()
        self.begun = list[Any]()

    def put(self, value: Any) -> Any:
        return Sent(cloudpickle.dumps(value))

    def begin(self, key: Hashable, function: Callable[..., Any], *arguments: Any) -> None:
        self._waiting.append((key, function, arguments))
        self.begun.append(key)

    def next(self, hear: Callable[[dict[str, Any]], None]) -> tuple[Hashable, Any, Any]:
        key, function, arguments = self._waiting.pop(self._random.randrange(len(self._waiting)))
        given = [cloudpickle.loads(a.bytes) if isinstance(a, Sent) else a for a in arguments]
        with as_in_a_worker():
            made = cloudpickle.dumps(function(Team(), hear, *given))
        return key, cloudpickle.loads(made), Sent(made)


class Sent:
    def __init__(self, written: bytes) -> None:
        self.bytes = written


class Elsewhere:
    """An engine of such jobs."""

    here = False

    def __init__(self, seed: int = 0) -> None:
        self.cluster = Scrambled(seed)

    @contextlib.contextmanager
    def start(self, stacks: int) -> Iterator[Scrambled]:
        yield self.cluster


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The code that jobs are to learn: what this program defines would, learnt again here, come from elsewhere."""
    found = list[bytes]()
    monkeypatch.setattr("selfloop.chains.learn", found.append)
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("here") / "run"
    list(run(EXPERIMENT, out))
    return snapshot(out)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_every_file_is_that_of_a_run_in_this_process(seed: int, expected: dict[str, bytes], tmp_path: Path) -> None:
    engine = Elsewhere(seed)
    generations = [generation.t for generation in run(EXPERIMENT, tmp_path / "run", engine=engine)]
    assert generations == list(range(7))
    assert snapshot(tmp_path / "run") == expected


def test_every_job_learns_what_the_program_defines(
    sent: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfloop.runner.own_code", lambda: b"the program's")
    list(run(EXPERIMENT.override("generations=1"), tmp_path / "run", engine=Elsewhere()))
    assert {*sent} == {b"the program's"}
    assert len(sent) == 2 * 3  # generations, and stacks


@pytest.mark.slow
def test_a_stack_goes_on_while_others_are_behind_but_not_beyond_the_lead(tmp_path: Path) -> None:
    engine = Elsewhere(1)
    long = EXPERIMENT.override(f"generations={_LEAD + 4}")
    ahead = 0
    for generation in run(long, tmp_path / "run", engine=engine):
        ahead = max(ahead, max(t for t, _ in engine.cluster.begun) - generation.t)
    assert 1 < ahead <= _LEAD


def test_how_far_jobs_are_is_heard_and_written_beside_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = list[tuple[str, int, str]]()
    monkeypatch.setattr("selfloop.engines.journal._EVERY", 0.0)
    monkeypatch.setattr(
        "selfloop.runner.put", lambda path, told: heard.append((path.name, told["generation"], told["stage"]))
    )
    trained = EXPERIMENT.override(
        "generator={name: otcfm, width: 8}", "budget={steps: 3}", "generations=1", "grid={data.n: [60, 64]}"
    )
    list(run(trained, tmp_path / "run", engine=Elsewhere()))
    places = {(f".status-{stack:03d}.json", t) for stack in range(2) for t in range(2)}
    assert {(name, t) for name, t, _ in heard} == places
    assert {stage for *_, stage in heard} == {"fit", "samples", "metrics"}
    assert not list((tmp_path / "run").glob(".status*"))


def test_what_stops_arms_lets_no_generation_begin_before_the_last_is_known(tmp_path: Path) -> None:
    watched = EXPERIMENT.override(
        "grid={data.n: [60, 64], mixing.lam: [0, 1]}",
        "seeds=3",
        "alarm={action: stop, statistics: [mean_error], level: 0.4}",
    )
    engine = Elsewhere(2)
    for generation in run(watched, tmp_path / "run", engine=engine):
        assert max(t for t, _ in engine.cluster.begun) == generation.t


@pytest.mark.slow
def test_a_run_that_ended_early_goes_on_here_and_there(expected: dict[str, bytes], tmp_path: Path) -> None:
    engine = Elsewhere(3)
    for generation in run(EXPERIMENT, tmp_path / "run", engine=engine):
        if generation.t == 2:
            break
    for generation in run(EXPERIMENT, tmp_path / "run"):
        if generation.t == 3:
            break
    list(run(EXPERIMENT, tmp_path / "run", engine=Elsewhere(4)))
    assert snapshot(tmp_path / "run") == expected


@pytest.mark.slow
def test_a_run_that_grows_elsewhere_is_one_that_was_so_from_the_beginning(tmp_path: Path) -> None:
    def grid(sizes: str) -> str:
        return f"grid={{data.n: [{sizes}], mixing: [{{name: augment, lam: 0.5}}]}}"

    more = EXPERIMENT.override(grid("60, 64"), "seeds=2")
    list(run(EXPERIMENT.override(grid("60"), "generations=3"), tmp_path / "grown", engine=Elsewhere(5)))
    list(run(more, tmp_path / "grown", engine=Elsewhere(6)))
    list(run(more, tmp_path / "whole"))
    grown, whole = Run.open(tmp_path / "grown"), Run.open(tmp_path / "whole")
    assert grown.everything_of(6) == whole.everything_of(6)


def test_what_was_kept_of_a_long_job_is_not_computed_again(
    expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfloop.runner._WORTH_KEEPING", 0.0)
    broken = Elsewhere(7)
    take, taken = broken.cluster.next, []

    def fails_later(hear: Callable[[dict[str, Any]], None]) -> tuple[Hashable, Any, Any]:
        if len(taken) == 9:
            raise RunError("the cluster is gone")
        taken.append(take(hear))
        return taken[-1]

    monkeypatch.setattr(broken.cluster, "next", fails_later)
    with pytest.raises(RunError, match="is gone"):
        list(run(EXPERIMENT, tmp_path / "run", engine=broken))
    kept = {tuple(map(int, p.name.split("-")[1:3])) for p in (tmp_path / "run").glob(".fit-*-done.safetensors")}
    again = Elsewhere(8)
    list(run(EXPERIMENT, tmp_path / "run", engine=again))
    assert kept
    assert not kept & set(again.cluster.begun)
    assert snapshot(tmp_path / "run") == expected


@pytest.mark.parametrize(
    ("mixing", "reach"), [("replace", 1), ("{name: window, generations: 3}", 3), ("accumulate", 8)]
)
def test_no_more_is_sent_than_a_regime_looks_back_at(mixing: str, reach: int, tmp_path: Path) -> None:
    engine, back = Elsewhere(9), [0]
    begin = engine.cluster.begin

    def noting(key: Hashable, function: Callable[..., Any], *arguments: Any) -> None:
        t, _ = key  # type: ignore[misc]
        back.append(len(arguments[8]) if t > 4 else 0)
        begin(key, function, *arguments)

    engine.cluster.begin = noting  # type: ignore[method-assign]
    list(run(EXPERIMENT.override(f"grid={{mixing: [{mixing}]}}", "generations=8"), tmp_path / "run", engine=engine))
    assert max(back) == reach
