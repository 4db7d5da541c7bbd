"""How far a run is: seen from beside it, in its log, and in a file for Prometheus."""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import pytest
from helpers import Nursery, tiny, tree
from hypothesis import given
from hypothesis import strategies as st

from selfloop import Run, RunError, run, status
from selfloop.arms import Arm
from selfloop.cli.display import all_done, display, prometheus
from selfloop.cli.main import main
from selfloop.core.errors import counted
from selfloop.data.base import Split
from selfloop.engines.journal import Took
from selfloop.loop import Outcome, advance
from selfloop.runner import _means
from selfloop.shards import Shard
from selfloop.status import Status, Watch, Work, remaining
from selfloop.store.log import entries, entry, moment


def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["selfloop", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), capsys.readouterr().out


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("status") / "run"
    list(run(tiny(), out))
    return out


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    going = run(tiny(), tmp_path / "run")
    next(going)
    going.close()
    return tmp_path / "run"


def under_way(out: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Iterator[Status]:
    """Run, and yield what is seen after every stack, before its generation is committed."""
    monkeypatch.setattr("selfloop.engines.journal._EVERY", 0.0)
    seen: list[Status] = []
    for _ in run(tiny(**settings), out, progress=lambda t, done, total: seen.append(Watch(out).look())):
        yield from seen
        seen.clear()


def test_a_finished_run_says_so(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(finished)
    for more in ([], ["--watch"]):
        code, text = said(monkeypatch, capsys, "status", finished, *more)
        assert code == 0
        assert "is finished: all 2 retrainings are done" in text.replace("\n", "")
    assert tree(finished) == before
    assert Watch(finished).look().left is None


def test_counts_are_said_as_people_do() -> None:
    assert [counted(n, "arm") for n in (0, 1, 2000)] == ["0 arms", "1 arm", "2,000 arms"]
    assert [all_done(n) for n in (1, 3)] == ["its only retraining is done", "all 3 retrainings are done"]


def test_a_run_at_which_nobody_is_at_work_says_that_its_lock_is_free(
    unfinished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, text = said(monkeypatch, capsys, "status", unfinished, "--watch")  # there is nothing to wait for
    assert "Nobody is at work on it: its lock is free" in text
    assert Watch(unfinished).look().at_work is False
    with filelock.FileLock(unfinished / "lock"):
        seen = Watch(unfinished).look()
        assert seen.at_work is True
        _, text = said(monkeypatch, capsys, "status", unfinished)
        assert "At work:" in text
    assert Watch(unfinished).look().at_work is False
    assert [each.t for each in run(tiny(), unfinished)] == [1, 2]


def test_what_is_under_way_is_seen_stack_by_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list(under_way(tmp_path / "run", monkeypatch))
    assert [each.last for each in seen] == [-1, -1, 0, 0, 1, 1]
    assert all(each.at_work for each in seen)
    assert [work.stage for work in seen[2].work] == ["done", ""]
    assert [list(work.arms) for work in seen[0].work] == [[0, 2], [1, 3]]
    assert all(each.left is not None and each.left.low <= each.left.expected <= each.left.high for each in seen)
    assert not list((tmp_path / "run").glob(".status*"))


@pytest.mark.slow
def test_a_fit_under_way_is_seen_by_another_process_and_after_a_kill(
    nest: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    long = tiny(budget={"steps": 10**6})
    outcome = nest.run(long, out, kill_after=0.3, once=str(out / ".status-000.json"))
    assert outcome["status"] == "killed"
    seen = Watch(out).look()
    assert seen.at_work is False
    work = seen.work[0]
    assert (work.stage, work.generation, work.steps, list(work.arms)) == ("fit", 0, 10**6, [0, 2])
    assert 0 < work.step < 10**6
    assert work.loss.keys() == {0}  # of which generation 0 of the other is
    assert work.rate is not None
    assert "process" in work.where
    _, text = said(monkeypatch, capsys, "status", out)
    assert "none of 2 retrainings is done yet" in text
    assert f"{work.step}/1000000" in text
    assert "Nobody is at work" in text


def test_what_ended_a_run_is_said_and_is_to_be_put_right_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(t: int, done: int, total: int) -> None:
        if t == 1:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        list(run(tiny(), tmp_path / "run", progress=stop))
    _, text = said(monkeypatch, capsys, "status", tmp_path / "run")
    assert "It ended in an error: OSError: the disk is gone" in text
    assert "Once that is put right, the same run command goes on with it." in " ".join(text.split())


def test_what_is_left_is_told_by_steps_then_by_generations(finished: Path) -> None:
    of = Run.open(
        finished
    )  # 2 retrainings of 2 steps after as many, in two stacks, of each of which generation 0 fits one arm

    def work(step: int, t: int) -> list[Work]:
        return [
            Work(
                stack=s,
                arms=[s, s + 2],
                generation=t,
                stage="fit",
                step=step,
                steps=100,
                fitted=[s],
                loss={},
            )
            for s in range(2)
        ]

    half = remaining(of, -1, {}, work(50, 0), 10.0, 1)
    assert half is not None
    assert half.expected == pytest.approx(10 + 2 * 20 * 2)  # the other half, then two generations of twice the arms
    together = remaining(of, -1, {}, work(50, 0), 10.0, 2)
    assert together is not None
    assert together.expected == pytest.approx(10 + 2 * 20 * 2)
    assert remaining(of, -1, {}, [], 10.0, 1) is None
    steady = remaining(of, 1, {0: 50.0, 1: 8.0}, [], 2.0, 1)
    assert steady is not None
    assert steady.expected == pytest.approx(6)
    assert steady.low < 6 < steady.high


def test_what_is_compiled_once_is_not_expected_again(finished: Path) -> None:
    of = Run.open(finished)
    found = remaining(of, 0, {0: 50.0}, [], 0.0, 1, {0: (4.0, 1.0)})
    assert found is not None
    assert found.expected == pytest.approx(2 * 2 * 2 * (4 + 1))  # two retrainings of two stacks of twice the arms
    part = [
        Work(stack=0, arms=[0, 2], generation=0, stage="fit", step=50, steps=100, fitted=[0], loss={}, worked=2.0),
        Work(stack=1, arms=[1, 3], generation=0, loss={}),
    ]
    begun = remaining(of, -1, {}, part, 40.0, 1)
    assert begun is not None
    assert begun.expected == pytest.approx(2 + 4 + 2 * 2 * 8)
    resumed = replace(part[0], resumed=25)
    again = remaining(of, -1, {}, [resumed, part[1]], 40.0, 1)
    assert again is not None
    assert again.expected == pytest.approx(4 + 8 + 2 * 2 * 16)


def test_what_takes_longer_and_longer_is_expected_to(finished: Path) -> None:
    of = Run.open(finished)
    of.experiment = of.experiment.with_metrics(of.experiment.metrics).model_copy(update={"generations": 20})
    told = {g: 1.0 + g for g in range(6)}
    found = remaining(of, 5, told, [], 0.0, 1)
    assert found is not None
    assert found.expected == pytest.approx(sum(1 + g for g in range(6, 21)))
    noisy = remaining(of, 5, {0: 9.0, 1: 5.0, 2: 6.0, 3: 5.2, 4: 6.1, 5: 5.7}, [], 0.0, 1)
    assert noisy is not None
    assert noisy.expected == pytest.approx(15 * 5.6)
    assert noisy.low < 15 * 5.6 < noisy.high


def test_what_came_first_in_its_process_counts_where_there_is_nothing_else() -> None:
    cold, warm = Took(5.0, 3.0, True), Took(1.0, 0.5)
    assert _means([cold, warm, warm]) == {"fit": "1.000", "rest": "0.500"}
    assert _means([cold]) == {"fit": "5.000", "rest": "3.000"}
    assert _means([]) == {}


def test_the_log_says_how_long_stacks_were_at_work(finished: Path) -> None:
    told = [each for each in entries((finished / "log.txt").read_text()) if each["event"] == "generation"]
    assert all(float(each["fit"]) + float(each["rest"]) <= 2 * float(each["seconds"]) + 0.01 for each in told)


def test_a_line_names_the_arms_of_a_shard_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = tiny(grid={"mixing.lam": [0, 0.5, 1, 2]}, seeds=1)
    going = run(experiment, tmp_path / "run", shard=Shard.parse("1/2"))
    with display(experiment, tmp_path / "run") as (_, line):
        line(next(going))
    going.close()
    said = capsys.readouterr().out
    assert "λ = 0.5: " in said
    assert "lam" not in said


def test_a_run_says_that_it_begins_once_nothing_is_refused_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("selfloop.cli.display._LOOKS", 0.02)
    with display(tiny(), tmp_path / "run") as (_, line):
        for generation in run(tiny(), tmp_path / "run"):
            time.sleep(0.1)
            line(generation)
    begins = f"{tiny().name}: begins; a line follows every generation"
    assert capsys.readouterr().out.splitlines()[0] == begins
    with pytest.raises(RunError), display(tiny(), tmp_path / "run"):
        next(run(tiny(generator="kernel_density"), tmp_path / "run"))
    assert begins not in capsys.readouterr().out
    with display(grown := tiny(generations=5), tmp_path / "run") as (_, line):
        for generation in run(grown, tmp_path / "run"):
            time.sleep(0.1)
            line(generation)
    words = f"{grown.name}: goes on after generation {tiny().generations} of 5; a line follows every generation"
    assert words in capsys.readouterr().out.splitlines()


KEYS = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=9).filter(lambda k: k not in ("time", "event"))
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


@given(st.dictionaries(KEYS, TEXTS))
def test_what_is_logged_is_one_line_and_read_back(values: dict[str, str]) -> None:
    line = entry("note", values)
    assert len(line.splitlines()) == 1
    (found,) = entries(line)
    assert {key: word for key, word in found.items() if key not in ("time", "event")} == values
    assert found["event"] == "note"
    assert moment(found) > 0


def test_the_log_says_who_began_and_how_long_generations_took(unfinished: Path) -> None:
    list(run(tiny(), unfinished))
    found = list(entries((unfinished / "log.txt").read_text()))
    events = [each["event"] for each in found]
    assert events == ["begin", "generation", "end", "begin", "generation", "generation", "end"]
    assert [each.get("generation") for each in found] == ["0", "0", "0", "1", "1", "2", "2"]
    assert all(float(each["seconds"]) > 0 for each in found if each["event"] == "generation")


def test_logs_of_before_are_passed_over(finished: Path) -> None:
    assert list(entries("2026-11-27 15:06:49 generation 0 2.75 s\nnoted in prose\n")) == []


def test_prometheus_reads_what_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    *_, last = under_way(tmp_path / "run", monkeypatch)
    for text in (prometheus(last), prometheus(Watch(tmp_path / "run").look())):
        for line in text.splitlines():
            assert re.fullmatch(r'# (HELP|TYPE) selfloop_\w+ .+|selfloop_\w+\{\w+="[^"]*"(,\w+="[^"]*")*\} \S+', line)
        assert len(re.findall(r'^selfloop_loss\{.*arm="\d"\}', text, re.M)) == 4
    run_ = f'run="{tmp_path / "run"}"'
    assert f"selfloop_generation{{{run_}}} 2\n" in text
    assert f"selfloop_finished{{{run_}}} 1\n" in text
    assert f'selfloop_arms_done{{{run_},generation="2"}} 4\n' in prometheus(last)


def test_what_ended_a_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def burning(members: list[Arm], split: Split, t: int, *more: Any) -> Outcome:
        if t == 1:
            raise RuntimeError("the roof is on fire")
        return advance(members, split, t, *more)

    monkeypatch.setattr("selfloop.runner.advance", burning)
    with pytest.raises(RuntimeError, match="roof"):
        list(run(tiny(), tmp_path / "run"))
    assert Watch(tmp_path / "run").look().error.startswith("RuntimeError: the roof is on fire (test_status.py")
    monkeypatch.undo()
    list(run(tiny(), tmp_path / "run"))
    assert Watch(tmp_path / "run").look().error == ""


@pytest.mark.slow
def test_the_command_line_keeps_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(tiny().yaml())
    words = ["run", file, f"--out={tmp_path / 'run'}", "--workers=0"]
    assert said(monkeypatch, capsys, *words, f"--metrics-file={tmp_path / 'none' / 'x.prom'}")[0] == 2
    assert said(monkeypatch, capsys, *words, f"--metrics-file={tmp_path}")[0] == 2
    os.mkfifo(tmp_path / "pipe")  # as /dev/null, it would be replaced by a file
    assert said(monkeypatch, capsys, *words, f"--metrics-file={tmp_path / 'pipe'}")[0] == 2
    assert (tmp_path / "pipe").is_fifo()
    assert not (tmp_path / "run").exists()
    code, text = said(monkeypatch, capsys, *words, f"--metrics-file={tmp_path / 'x.prom'}")
    assert code == 0
    assert "generation 2/2" in text
    assert " 1\n" in (tmp_path / "x.prom").read_text().split("selfloop_finished", 3)[3]


def test_generation_0_fits_arms_once_that_it_does_not_tell_apart(tmp_path: Path) -> None:
    of = {"generator": {"name": "otcfm", "width": 8}, "budget": {"steps": 2}, "generations": 1, "seeds": 3}
    *_, _ = run(tiny(**of, grid={"mixing.lam": [0, 1, "inf"]}), tmp_path / "run")
    there = Run.open(tmp_path / "run")
    assert [[(arm.settings["mixing.lam"], arm.seed) for arm in members] for members in there.stacks] == [
        [(0, 0), (1, 0), (math.inf, 0), (0, 1)],
        [(1, 1), (math.inf, 1), (0, 2), (1, 2), (math.inf, 2)],
    ]
    assert status._arm_ratio(there) == 9 / 4
    half = Work(stack=0, arms=[0, 3, 6, 1], generation=0, stage="fit", fit=0, step=5, steps=10, fitted=[0, 1], loss={})
    assert status._of_stack(there, half) == 0.5  # both of the two arms that are fitted, together
    assert status._of_stack(there, replace(half, generation=1, fitted=[3])) == (1 + 0.5) / 4  # one after the other
