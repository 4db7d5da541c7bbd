"""Loops that were run elsewhere: what becomes of real data and generations, and what is said of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import selfloop
from selfloop.analysis.judgement import CODES, Judgement, judgement
from selfloop.analysis.sources import read_events
from selfloop.cli.main import main
from selfloop.core.errors import ConfigError, DataError, RunError
from selfloop.outside import DEFAULT, loop_of, record
from selfloop.report import write_report
from selfloop.runner import run as run_here
from selfloop.store import Run

COLUMNS = ["age", "income", "score"]
FAST = ["sliced_w2_held_out", "variance_ratio"]


def rows(n: int = 120, seed: int = 0, shrink: float = 1.0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, 3)) * shrink
    return x * [10.0, 9000.0, 0.2] + [40.0, 5e4, 1.0]


def table(path: str | Path, x: np.ndarray, columns: list[str] = COLUMNS) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(x, columns=columns).to_csv(path, index=False)
    return str(path)


def loop(folder: str, shrink: float = 0.8, generations: int = 6, n: int = 120, seed: int = 1) -> None:
    for t in range(generations):
        table(f"{folder}/gen_{t}.csv", rows(n, seed=100 * seed + t, shrink=shrink**t))


def pictures(folder: str, levels: int, n: int = 30, side: int = 6) -> str:
    Path(folder).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(levels)
    for i in range(n):
        Image.fromarray(rng.integers(128 - levels, 128 + levels, (side, side), dtype=np.uint8)).save(
            f"{folder}/{i}.png"
        )
    return folder


def files() -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(Path().rglob("*")) if p.is_file()}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SELFLOOP_CACHE", str(tmp_path / "cache"))
    table("real.csv", rows(400))
    return tmp_path


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process: its code, what it prints, and what it says on standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["selfloop", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The generations that were measured, in order."""
    import selfloop.outside.recording as module

    found: list[int] = []
    measure = module.measure

    def counted(arms: Any, split: Any, t: int, *more: Any) -> Any:
        found.append(t)
        return measure(arms, split, t, *more)

    monkeypatch.setattr(module, "measure", counted)
    return found


# What is said


def test_a_loop_that_loses_its_variance_has_collapsed() -> None:
    loop("loop")
    found = selfloop.judge("real.csv", "loop/gen_{t}.csv", out="run")
    assert (found.verdict.word, found.code) == ("collapsed", 4)
    assert found.curves.metrics == DEFAULT
    assert found.curves.values["variance_ratio"][0] == pytest.approx(0.8 ** (2 * np.arange(6)), rel=0.25)
    assert found.run.elsewhere
    assert found.run.finished
    assert len(found.run.arms) == 1


@pytest.mark.slow
def test_a_loop_that_stays_is_stable_beside_its_control() -> None:
    lists = [[rows(400, seed=10 * s + t) for t in range(6)] for s in range(6)]
    control = [[rows(400, seed=1000 + 10 * s + t) for t in range(7)] for s in range(6)]
    found = selfloop.judge(rows(2000), lists, control=control, metrics=FAST, tolerance=0.5)
    assert (found.verdict.word, found.code) == ("stable so far", 0)
    assert "against No Synth. Data (the control)" in found.verdict.reason
    assert found.run.last == 5  # the control is longer


def test_one_generation_tells_nothing_yet() -> None:
    found = selfloop.judge(rows(400), [rows()], metrics=FAST)
    assert (found.verdict.word, found.code, found.run.last) == ("cannot tell yet", 5, 0)
    assert "no retraining yet" in str(found)


def test_repetitions_and_their_control_are_paired_by_their_number() -> None:
    for s in (4, 11):
        loop(f"run{s}", seed=s)
        loop(f"fresh{s}", 1.0, seed=50 + s)
    found = selfloop.judge("real.csv", "run{s}/gen_{t}.csv", control="fresh{s}/gen_{t}.csv", metrics=FAST, out="run")
    assert found.curves.seeds == (4, 11, 4, 11)
    assert [arm.settings for arm in found.run.arms] == [
        {"mixing.sequence": kind} for kind in ("loop", "loop", "control", "control")
    ]
    for arm, (kind, s) in enumerate([("run", 4), ("run", 11), ("fresh", 4), ("fresh", 11)]):
        source = found.run.source(3, arm)
        assert source is not None
        assert source["name"] == f"{kind}{s}/gen_3.csv"
        assert source["rows"] == 120
        own = read_events(f"{kind}{s}/gen_3.csv").x
        assert torch.allclose(found.run.real(arm).events.restore(found.run.samples(3, arm)), own)


def test_a_named_metric_is_measured_and_judged_by() -> None:
    loop("loop")
    found = selfloop.judge("real.csv", "loop", metrics=FAST, metric="kid_held_out", out="run")
    assert found.by.distance == "kid_held_out"
    assert found.curves.metrics == (*FAST, "kid_held_out")


def test_it_prints_renders_and_becomes_a_frame() -> None:
    loop("loop", generations=3)
    found = selfloop.judge("real.csv", "loop", metrics=FAST, out="run")
    text, page = str(found), found._repr_html_()
    assert all(name in text for name in ("gen_0.csv", "gen_2.csv", "floor", "Variance ratio", found.verdict.reason))
    assert page.partition("</table>")[0].count("<tr>") == len(found.table.rows) + 1
    assert "<script" not in page
    frame = found.to_frame()
    assert len(frame) == 3 * 2
    assert set(frame.metric) == set(FAST)
    assert json.loads(json.dumps(found.plain(), allow_nan=False))["generations"][2]["name"].endswith("gen_2.csv")


def test_results_in_memory_are_those_of_files() -> None:
    loop("loop", generations=4)
    frames = [pd.read_csv(f"loop/gen_{t}.csv") for t in range(4)]
    one = selfloop.judge(pd.read_csv("real.csv"), frames, metrics=FAST)
    other = selfloop.judge("real.csv", "loop", metrics=FAST)
    for name in FAST:
        assert np.array_equal(one.curves.values[name], other.curves.values[name])
    kept = one.run.path
    assert kept.is_dir()
    del one
    assert not kept.exists()


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy, lambda x: torch.from_numpy(x).float()])
def test_arrays_are_compared_as_they_are(convert: Callable[[np.ndarray], Any]) -> None:
    found = selfloop.judge(convert(rows(400)), [convert(rows(seed=t)) for t in (1, 2)], metrics=FAST)
    assert found.run.metric("sliced_w2_held_out").unit == "data units"
    stacked = np.stack([rows(seed=t) for t in (1, 2)])
    other = selfloop.judge(rows(400), stacked, metrics=FAST)
    assert found.curves.values["variance_ratio"] == pytest.approx(other.curves.values["variance_ratio"], rel=1e-4)


def test_columns_are_matched_by_name_in_any_order() -> None:
    loop("loop", generations=2)
    back = COLUMNS[::-1]
    for t in range(2):
        pd.read_csv(f"loop/gen_{t}.csv")[back].to_csv(f"back_{t}.csv", index=False)
    pd.read_csv("real.csv").tail(100)[back].to_csv("apart.csv", index=False)
    pd.read_csv("real.csv").tail(100).to_csv("apart2.csv", index=False)
    one = selfloop.judge("real.csv", "back_{t}.csv", held_out="apart.csv", metrics=FAST)
    other = selfloop.judge("real.csv", "loop", held_out="apart2.csv", metrics=FAST)
    for name in FAST:
        assert np.array_equal(one.curves.values[name], other.curves.values[name])


def test_raw_numbers_are_in_their_own_units() -> None:
    loop("loop", generations=2)
    found = selfloop.judge("real.csv", "loop", metrics=["mean_error"], raw=True)
    real = read_events("real.csv").x
    split = found.run.split(0)
    assert found.run.metric("mean_error").unit == "data units"
    assert sorted(map(tuple, torch.cat([split.train[0], split.held_out[0]]).tolist())) == sorted(
        map(tuple, real.tolist())
    )


def test_held_out_rows_are_those_that_are_given() -> None:
    loop("loop", generations=2)
    table("apart.csv", rows(50, seed=9))
    found = selfloop.judge("real.csv", "loop", held_out="apart.csv", metrics=FAST)
    split = found.run.split(0)
    assert split.train.shape[1:] == (400, 3)
    assert torch.allclose(split.restore(split.held_out[0]).sort(0)[0], read_events("apart.csv").x.sort(0)[0])


def test_more_rows_than_real_ones_are_drawn_and_fewer_are_all_taken() -> None:
    sizes = (700, 40, 320)
    found = selfloop.judge(rows(400), [rows(n, seed=n) for n in sizes], metrics=FAST)
    assert [len(found.run.samples(t, 0)) for t in range(3)] == [320, 40, 320]
    assert [found.run.source(t, 0)["rows"] for t in range(3)] == list(sizes)  # type: ignore[index]
    first = set(map(tuple, rows(700, seed=700).tolist()))
    drawn = [tuple(row) for row in found.run.samples(0, 0).tolist()]
    assert set(drawn) <= first
    assert len(set(drawn)) == 320
    assert drawn != [*map(tuple, rows(700, seed=700)[:320].tolist())]
    assert any("700" not in note and "40 to 320 rows" in note for note in found.notes)


def test_at_most_so_many_rows_are_measured() -> None:
    found = selfloop.judge(rows(400), [rows(seed=1), rows(seed=2)], metrics=FAST, rows=50)
    split = found.run.split(0)
    assert (split.train.shape[1], split.held_out.shape[1], len(found.run.samples(0, 0))) == (50, 50, 50)


def test_every_second_generation() -> None:
    loop("loop")
    found = selfloop.judge("real.csv", "loop", every=2, metrics=FAST, out="run")
    assert [os.path.basename(found.run.source(t, 0)["name"]) for t in range(3)] == [  # type: ignore[index]
        "gen_0.csv",
        "gen_2.csv",
        "gen_4.csv",
    ]
    assert found.run.last == 2


# Pictures and runs


def test_pictures_in_folders_and_zips(command: Command) -> None:
    pictures("real", 100, n=80)
    for t in range(5):
        pictures(f"gen/{t}", 100 - 20 * t)
    shutil.make_archive("gen/4", "zip", "gen/4")
    one = selfloop.judge("real", "gen/{t}", metrics=FAST, out="run")
    assert np.all(np.diff(one.curves.values["variance_ratio"][0]) < 0)
    assert one.run.experiment.data.holds == "images"
    Path("zips").mkdir()
    for t in range(5):
        shutil.make_archive(f"zips/{t}", "zip", f"gen/{t}")
    other = selfloop.judge("real", "zips", metrics=FAST)
    assert np.array_equal(one.curves.values["variance_ratio"], other.curves.values["variance_ratio"])
    page = write_report(one.run).read_text()
    assert "Run elsewhere: 5 generations" in page
    assert "Unfinished" not in page


def test_features_of_pictures_are_by_a_file_that_is_given() -> None:
    class Means(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.float().mean([1]).flatten(1)[:, :5]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, in which the format is written
        torch.jit.trace(Means(), torch.zeros(2, 3, 6, 6, dtype=torch.uint8)).save("means.pt")  # type: ignore[no-untyped-call]
    pictures("real", 100, n=80)
    for t in range(2):
        pictures(f"gen/{t}", 100 + t)
    settings = "{name: torchscript, path: means.pt, arguments: {}}"
    found = selfloop.judge("real", "gen", features=settings, metrics=["frechet_held_out"])
    assert found.run.metric("frechet_held_out").unit.startswith("feature units")
    assert found.curves.values["frechet_held_out"].shape == (1, 2)


def test_generations_of_a_run_are_generations() -> None:
    settings = {"name": "two_moons", "n": 60}
    tiny = selfloop.Experiment.build(
        {"name": "tiny", "data": settings, "generator": {"name": "gaussian"}, "generations": 2, "seeds": 2}
    )
    list(run_here(tiny, "here"))
    found = selfloop.judge("here@train", "here@{t}", metrics=FAST, held_out="here@held_out", out="run")
    theirs = Run.open("here")
    assert found.run.last == 2
    assert torch.equal(found.run.samples(2, 0), theirs.samples(2, 0).double())
    assert torch.equal(found.run.split(0).train[0].sort(0)[0], theirs.split(0).train[0].sort(0)[0])
    one = selfloop.judge("here@train", ["here@0/1", "here@1/1"], metrics=FAST, held_out="here@held_out")
    assert torch.equal(one.run.samples(1, 0), theirs.samples(1, 1).double())
    with pytest.raises(DataError, match=r"'here' is a run: name its generations as 'here@\{t\}'"):
        selfloop.judge("here@train", "here")


# What is there already


def test_the_same_again_measures_and_writes_nothing(measured: list[int]) -> None:
    loop("loop", generations=4)
    one = selfloop.judge("real.csv", "loop", metrics=FAST, out="run")
    before = files()
    assert measured == [0, 1, 2, 3]
    other = selfloop.judge("real.csv", "loop", out="run")
    assert measured == [0, 1, 2, 3]
    assert files() == before
    assert other.curves.metrics == tuple(FAST)
    assert np.array_equal(one.curves.values[FAST[0]], other.curves.values[FAST[0]])


def test_a_new_generation_costs_only_itself_and_ends_with_the_same_bits(measured: list[int]) -> None:
    loop("loop", generations=5)
    selfloop.judge("real.csv", [f"loop/gen_{t}.csv" for t in range(3)], metrics=FAST, out="grown")
    selfloop.judge("real.csv", "loop", metrics=FAST, out="grown")
    assert measured == [0, 1, 2, 3, 4]
    selfloop.judge("real.csv", "loop", metrics=FAST, out="once")
    for t in range(5):
        own, other = (
            Path(out, f"generation-{t:04d}", "samples-000.safetensors").read_bytes() for out in ("grown", "once")
        )
        assert own == other
    grown, once = (Run.open(out) for out in ("grown", "once"))
    assert grown.records() == once.records()
    assert not grown.damage()


def test_repetitions_a_control_and_metrics_can_join() -> None:
    for s in (0, 1):
        loop(f"run{s}", seed=s + 1, generations=3)
        loop(f"fresh{s}", 1.0, seed=s + 7, generations=3)
    selfloop.judge("real.csv", "run0/gen_{t}.csv", metrics=FAST, out="run")
    found = selfloop.judge("real.csv", "run{s}/gen_{t}.csv", metrics=FAST, out="run")
    assert len(found.run.arms) == 2
    more = [*FAST, "mean_error"]
    found = selfloop.judge("real.csv", "run{s}/gen_{t}.csv", control="fresh{s}/gen_{t}.csv", metrics=more, out="run")
    other = selfloop.judge("real.csv", "run{s}/gen_{t}.csv", control="fresh{s}/gen_{t}.csv", metrics=more, out="other")
    assert found.run.records() == other.run.records()
    assert not found.run.damage()
    for name in more:
        assert np.array_equal(found.curves.values[name], other.curves.values[name], equal_nan=True)


def test_a_generation_that_has_changed_is_refused() -> None:
    loop("loop", generations=3)
    selfloop.judge("real.csv", "loop", metrics=FAST, out="run")
    table("loop/gen_1.csv", rows(seed=77))
    before = files()
    with pytest.raises(RunError, match=r"'loop/gen_1.csv' is not what generation 1 of the loop was .* another --out"):
        selfloop.judge("real.csv", "loop", metrics=FAST, out="run")
    assert files() == before


def test_other_real_rows_and_fewer_generations_are_refused() -> None:
    loop("loop", generations=3)
    selfloop.judge("real.csv", "loop", metrics=FAST, out="run")
    with pytest.raises(RunError, match="with 3 generations, now with 2: give the same ones, or another --out"):
        selfloop.judge("real.csv", ["loop/gen_0.csv", "loop/gen_1.csv"], metrics=FAST, out="run")
    table("real.csv", rows(400, seed=3))
    with pytest.raises(RunError, match="was judged against other real rows: give the same real rows, or another"):
        selfloop.judge("real.csv", "loop", metrics=FAST, out="run")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--leave-out", "age"], "by other columns (with 'age', now without): give the same --leave-out"),
        (["--held-out", "held.csv"], "against a part of the real rows, now against held-out rows that are given: give"),
        (["--raw"], "in other units: give the same --raw"),
        (["--rows", "100"], "by 320 real rows, now by 100: give the same --rows"),
        (["--target", "age"], "for another target (none, now age): give the same --target"),
        (["--features", "ngrams"], "by other features (identity, now ngrams): give the same --features"),
    ],
)
def test_what_is_judged_otherwise_again_is_refused_by_the_option(
    options: list[str], line: str, command: Command
) -> None:
    loop("loop", generations=2)
    table("held.csv", rows(40, seed=9))
    words = ["judge", "real.csv", "loop/gen_{t}.csv", "--metrics", "variance_ratio", "--out", "run"]
    assert command(*words)[0] in (0, 5)
    before = files()
    code, _, error = command(*words, *options)
    assert (code, error.count("\n")) == (2, 1)
    assert f"'run' was judged {line}" in error
    assert error.endswith(", or another --out\n")
    assert files() == before


def test_sequences_that_are_gone_or_taken_otherwise_are_refused_by_name() -> None:
    for s in range(2):
        loop(f"loop{s}", generations=3, seed=s + 1)
        loop(f"fresh{s}", generations=3, seed=s + 11)
    pattern, control = "loop{s}/gen_{t}.csv", "fresh{s}/gen_{t}.csv"
    selfloop.judge("real.csv", pattern, control=control, metrics=FAST, out="run")
    for given, line in (
        ((pattern, None), "beside a control, now without: give the same --control"),
        (("loop0/gen_{t}.csv", "fresh0/gen_{t}.csv"), "with repetitions 1, now without: give the same ones"),
    ):
        with pytest.raises(RunError, match=line):
            selfloop.judge("real.csv", given[0], control=given[1], metrics=FAST, out="run")
    selfloop.judge("real.csv", "loop0", metrics=FAST, out="one", every=2)
    with pytest.raises(RunError, match=r"is 'loop0/gen_1.csv', and was 'loop0/gen_2.csv' when 'one' .* \(--every\)"):
        selfloop.judge("real.csv", "loop0", metrics=FAST, out="one")


def test_a_run_of_ones_own_is_no_place_for_it_nor_to_be_judged_so() -> None:
    settings = {"name": "tiny", "data": {"name": "two_moons", "n": 40}, "generator": {"name": "gaussian"}}
    list(run_here(selfloop.Experiment.build(settings | {"generations": 1}), "here"))
    loop("loop", generations=2)
    with pytest.raises(RunError, match="'here' is a run of selfloop's own: use another --out"):
        selfloop.judge("real.csv", "loop", metrics=FAST, out="here")
    with pytest.raises(RunError, match="'here' was run here"):
        judgement(Run.open("here"))


def test_memory_does_not_grow_with_the_number_of_generations(monkeypatch: pytest.MonkeyPatch) -> None:
    import selfloop.outside.recording as module

    monkeypatch.setattr(module, "_HELD", 2 * 120 * 3 * 8)
    read: list[str] = []
    loop("loop", generations=5)
    made = loop_of("real.csv", "loop")
    for some in made.generations.values():
        for each in some:
            object.__setattr__(
                each, "read", lambda like, each=each, read_=each.read: (read.append(each.name), read_(like))[1]
            )
    record(made, "run", metrics=FAST)
    again = [name for name in read if read.count(name) == 2]
    assert len(set(again)) == 3  # all but the two that there was room for


# What can be done with the run


@pytest.mark.slow
def test_every_command_takes_or_refuses_the_run_in_one_line(command: Command) -> None:
    loop("loop", generations=3)
    selfloop.judge("real.csv", "loop", metrics=FAST, out="run")
    for words in (
        ["ls", "."],
        ["stability", "run"],
        ["report", "run"],
        ["verify", "run"],
        ["metrics", "real.csv", "run@2", "--only", "frechet"],
        ["metrics", "run@train", "run@held_out", "--only", "frechet"],
        ["export", "run", "--csv", "out.csv"],
    ):
        code, out, err = command(*words)
        assert (code, err) == (0, ""), words
        assert out
    for words in (["run", "run/experiment.yaml", "--out", "run"], ["run", "run/experiment.yaml", "--out", "other"]):
        code, out, err = command(*words)
        assert (code, out) == (2, "")
        assert err.startswith("selfloop: generator outside stands for models that were trained elsewhere")
        assert len(err.splitlines()) == 1
        assert not Path("other").exists()
    with pytest.raises(RunError, match="its models were trained elsewhere"):
        Run.open("run").state(0, 0)


def test_a_run_directory_needs_nothing_beside_it(here: Path) -> None:
    loop("loop", generations=3)
    before = str(selfloop.judge("real.csv", "loop", metrics=FAST, out="run"))
    shutil.move("run", "moved")
    shutil.rmtree("loop")
    Path("real.csv").unlink()
    other = judgement(Run.open("moved"))
    assert str(other) == before
    assert write_report(other.run).is_file()
    assert not other.run.damage()


# The command line


WORDS = [("collapsed", 0.7, 4), ("cannot tell yet", 1.0, 5)]


@pytest.mark.slow
@pytest.mark.parametrize(("word", "shrink", "code"), WORDS)
def test_judge_exits_with_the_verdict(word: str, shrink: float, code: int, command: Command) -> None:
    loop("loop", shrink, generations=6 if code == 4 else 3)
    found, out, err = command("judge", "real.csv", "loop/gen_{t}.csv", "--metrics", ",".join(FAST))
    assert (found, err) == (code, "")
    assert word in out
    assert CODES[word] == code  # type: ignore[index]
    assert Path("runs/judged-loop-gen/report/index.html").is_file()
    again, text, err = command("judge", "real.csv", "loop/gen_{t}.csv", "--json")
    content = json.loads(text)
    assert (again, content["exit"], content["verdict"]["word"], err) == (code, code, word, "")


@pytest.mark.slow
def test_the_page_is_written_again_where_it_would_say_something_else(command: Command) -> None:
    loop("loop", generations=3)
    words, page = (
        ["judge", "real.csv", "loop", "--metrics", ",".join(FAST), "--out", "run"],
        Path("run/report/index.html"),
    )
    command(*words)
    first = page.stat().st_mtime_ns
    command(*words)
    assert page.stat().st_mtime_ns == first
    command(*words, "--tolerance", "0.5")
    assert page.stat().st_mtime_ns > first
    assert "with a tolerance of 50 %" in page.read_text()


def test_seed_pattern_names_repetitions(command: Command) -> None:
    for s in (1, 2):
        loop(f"run{s}", seed=s, generations=2)
    pattern = ["--seed-pattern", "run{s}/gen_{t}.csv", "--metrics", FAST[0]]
    assert command("judge", "real.csv", *pattern, "--out", "run")[0] == 5
    assert Run.open("run").experiment.seeds == [1, 2]
    for words in (["judge", "real.csv", "run1", *pattern], ["judge", "real.csv", "--seed-pattern", "run1/gen_{t}.csv"]):
        code, _, err = command(*words)
        assert code == 2
        assert "--seed-pattern stands in place of GEN" in err


def bad_pictures() -> None:
    pictures("photos", 100, n=200)
    for t in range(3):
        pictures(f"gens/{t}", 100, n=20)


BAD: list[tuple[str, Callable[[], object], list[str], str]] = [
    (
        "columns",
        lambda: table("loop/gen_2.csv", rows(), ["age", "income", "other"]),
        [],
        "'loop/gen_2.csv' has the column 'other' in place of 'score'",
    ),
    ("more columns", lambda: table("loop/gen_2.csv", rows(60)[:, [0, 1, 2, 2]], [*COLUMNS, "d"]), [], "gen_2.csv'"),
    ("one row", lambda: table("loop/gen_2.csv", rows(1)), [], "'loop/gen_2.csv': metric .* at least .* there are 1"),
    ("no row", lambda: table("loop/gen_2.csv", rows(0)), [], "'loop/gen_2.csv' has 0 rows"),
    (
        "NaN",
        lambda: table("loop/gen_2.csv", np.where(rows() > 6e4, np.nan, rows())),
        [],
        "gen_2.csv', row .* missing",
    ),
    ("empty", lambda: Path("loop/gen_2.csv").write_text(""), [], "'loop/gen_2.csv' is empty"),
    ("words", lambda: Path("loop/gen_2.csv").write_text("age,income,score\n1,x,2\n"), [], "gen_2.csv', row 1 .*'x'"),
    ("gap", lambda: Path("loop/gen_2.csv").unlink(), [], "generation 2 is missing"),
    ("a part of a zip", lambda: Path("loop/gen_2.csv").rename("loop/gen_2.zip"), [], "not named alike"),
    ("real too small", lambda: table("real.csv", rows(10)), [], "'real.csv': metric .* held-out rows, and there are 2"),
    ("real of two rows", lambda: table("real.csv", rows(2)), [], "'real.csv' has 2 rows"),
    ("real is beyond settings", lambda: table("real.csv", rows() * 1e30), [], "'real.csv': column 'age' .* by --raw"),
    ("no control", lambda: None, ["--control", "nix"], "'nix' does not exist"),
    ("control of a variable that is not set", lambda: None, ["--control", ""], "name of a file or folder is empty"),
    ("no name for the run", lambda: None, ["--out", ""], "name of a file or folder is empty"),
    (
        "real is constant",
        lambda: table("real.csv", rows() * [0, 1, 1]),
        [],
        "column 'age': .* is not the one value that the column has in the real rows",
    ),
    ("no real", lambda: Path("real.csv").unlink(), [], "'real.csv' does not exist"),
    ("nothing held out", lambda: table("h.csv", rows(0)), ["--held-out", "h.csv"], "'h.csv' has 0 rows; it needs 1"),
    ("held out twice", lambda: None, ["--held-out", "real.csv"], "'real.csv' is there twice"),
    ("held out alike", lambda: shutil.copy("real.csv", "h.csv"), ["--held-out", "h.csv"], "held-out rows are the real"),
    ("short control", lambda: loop("c", generations=2), ["--control", "c"], "control has 2 generations and the loop 4"),
    ("same control", lambda: None, ["--control", "loop"], "'loop/gen_0.csv' is there twice"),
    ("lonely control", lambda: loop("c1"), ["--control", "c{s}/gen_{t}.csv"], "repetitions 0 and the control 1"),
    ("metric", lambda: None, ["--metrics", "frechet"], "no metric is called 'frechet'"),
    ("weights", lambda: None, ["--metrics", "parameter_distance"], "needs parameters, which generator outside"),
    ("judged by", lambda: None, ["--metric", "nix"], "no metric is called 'nix'"),
    ("tolerance", lambda: None, ["--tolerance", "0"], "tolerance is a share above 0"),
    ("rows", lambda: None, ["--rows", "1"], "--rows"),
    ("every", lambda: None, ["--every", "0"], "--every"),
    ("features", lambda: None, ["--features", "nix"], "no features is called 'nix'"),
    ("features of tables", lambda: None, ["--features", "classifier"], "features classifier needs a form as images"),
    ("a file is in the way", lambda: None, ["--out", "real.csv"], "'real.csv' is a file"),
    ("files are in the way", lambda: None, ["--out", "loop"], "'loop' is not empty"),
]


@pytest.mark.parametrize(("spoil", "more", "line"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_one_line_and_nothing_is_written(
    spoil: Callable[[], object], more: list[str], line: str, command: Command
) -> None:
    loop("loop", generations=4)
    spoil()
    before = files()
    code, out, err = command("judge", "real.csv", "loop", *more)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert re.search(line, err), err
    assert files() == before
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda: pictures("gens/2", 50, side=7), "'gens/2' cannot be compared: their sizes differ|all must be alike"),
        (lambda: [p.unlink() for p in Path("gens/2").iterdir()], "'gens/2' holds no .png"),
        (lambda: Path("gens/2/3.png").write_bytes(b"\x89PNG\r\n\x1a\n"), "picture '3.png' in 'gens/2' is damaged"),
        (lambda: Path("gens/2/3.webp").touch(), "picture '3.webp' in 'gens/2' is neither PNG nor JPEG"),
        (lambda: [shutil.rmtree("gens/2"), table("gens/2/0.csv", rows())], "'gens/2' holds no .png"),
    ],
)
def test_bad_pictures_are_one_line_and_nothing_is_written(
    spoil: Callable[[], object], line: str, command: Command
) -> None:
    bad_pictures()
    spoil()
    code, out, err = command("judge", "photos", "gens")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert re.search(line, err), err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("generations", "more", "line"),
    [
        (
            [],
            {},
            "generations: give a list of arrays, .* or a pattern of names such as 'gen_{t}.csv', not an empty list",
        ),
        (7, {}, "generations: give a list of arrays, .*, not int"),
        (pd.DataFrame(rows(), columns=COLUMNS), {}, "generations: give a list of arrays, .*, not DataFrame"),
        ([[], []], {}, "the lists of 2 repetitions are empty"),
        ([pd.Series([1.0, 2.0])], {}, r"generation 0 is a Series: give .* data frame .*, as x.to_frame\(\) is"),
        ([rows().tolist(), rows().tolist()], {}, "generation 0 of repetition 0 is a list"),
        ([rows()], {"held_out": rows().tolist()}, r"held_out is a list: give .*, as numpy.array\(x\) is"),
        ([rows()], {"control": []}, "controls: give a list .*, not an empty list"),
        ([rows()], {"target": 5}, "target is the name of a column, not '5'"),
        ([rows(), "nix.csv"], {}, "'nix.csv' (does not exist|cannot be read)"),
        ([rows(), rows()[:, :2]], {}, "'generation 1' .*has 2 values"),
        ([rows(), rows().astype(str)], {}, "generation 1"),
        ([[rows(), rows()], [rows()]], {}, "repetitions have 2, 1"),
        ([rows(), rows()], {"control": [rows()]}, "control has 1 generation and the loop 2"),
        ([rows(), np.full((9, 3), np.inf)], {}, "generation 1 .*infinite"),
        ([rows()], {"held_out": rows(400)}, "held-out rows are the real ones"),
        ([rows()], {"every": 0}, "every is 0"),
        ([rows()], {"rows": 1}, "rows is 1"),
        ([rows()], {"rows": 10.5}, "rows is a whole number, not '10.5'"),
        ([rows()], {"every": "2"}, "every is a whole number"),
        ([rows()], {"tolerance": "10%"}, "tolerance is a share above 0 and at most 1, such as 0.1, not '10%'"),
        ([rows()], {"metric": 5}, "the metric is the name of one, not '5'"),
        ([rows()], {"features": 5}, "features: give a name"),
    ],
)
def test_bad_input_in_memory_is_refused(generations: Any, more: dict[str, Any], line: str, here: Path) -> None:
    with pytest.raises((DataError, ConfigError), match=line):
        selfloop.judge(rows(400), generations, metrics=FAST, out="run", **more)
    assert not Path("run").exists()


@pytest.mark.parametrize("metrics", ["variance_ratio", 5, [5]])
def test_metrics_that_are_no_list_of_names_are_refused(metrics: Any, here: Path) -> None:
    with pytest.raises(ConfigError, match="metrics: give a list of names, such as"):
        selfloop.judge(rows(400), [rows()], metrics=metrics, out="run")
    with pytest.raises(ConfigError, match="out is the path"):
        selfloop.judge(rows(400), [rows()], out=5)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-300, 1e-150, 1e150, 1e300])
def test_numbers_of_any_size_are_judged_as_others(size: float) -> None:
    x = np.random.default_rng(0).normal(size=(100, 3))
    generations = [0.8**t * np.random.default_rng(t + 1).normal(size=(80, 3)) for t in range(4)]
    usual, other = (selfloop.judge(x * s, [y * s for y in generations], metrics=FAST) for s in (1.0, size))
    assert str(other.verdict.reason) == str(usual.verdict.reason)
    assert [f.text for f in other.profile.settings[0].findings[-1:]] == [
        f.text for f in usual.profile.settings[0].findings[-1:]
    ]
    write_report(other.run)  # warnings are errors


@pytest.mark.slow
def test_generations_beyond_the_real_rows_by_far_and_constant_ones() -> None:
    x = np.random.default_rng(0).normal(size=(100, 3))
    far = selfloop.judge(x, [x[:80] * s for s in (1.0, 1e100, 1e200)], metrics=[*FAST, "mean_error"])
    assert far.verdict.word == "cannot tell yet"  # two retrainings
    write_report(far.run)
    same = np.ones((100, 3))
    with pytest.warns(UserWarning, match="'generation 1' holds what 'generation 0' does, byte for byte, and 1 more"):
        found = selfloop.judge(same, [same[:80]] * 3, metrics=FAST)
    assert found.verdict.word == "cannot tell yet"


@pytest.mark.parametrize("option", ["--interval", "--settle"])
def test_watch_does_not_wait_for_ever(option: str, command: Command) -> None:
    loop("loop", generations=2)
    for value in ("1e300", "inf", "nan", "-1"):
        code, out, err = command("watch", "loop", "--real", "real.csv", "--once", option, value)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert option in err
    assert not Path("runs").exists()


# Watching


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], object]]]:
    """What happens each time when watch waits between two looks; Ctrl-C where nothing is left."""
    steps: list[Callable[[], object]] = []

    def sleep(seconds: float) -> None:
        if seconds == 7:  # the interval
            if not steps:
                raise KeyboardInterrupt
            steps.pop(0)()

    monkeypatch.setattr(time, "sleep", sleep)
    return steps


WATCH = ["--real", "real.csv", "--interval", "7", "--settle", "0", "--metrics", ",".join(FAST)]


@pytest.mark.slow
def test_watch_judges_whenever_a_generation_arrives(
    command: Command, patience: list[Callable[[], object]], measured: list[int]
) -> None:
    Path("loop").mkdir()

    def arrive(t: int) -> Callable[[], object]:
        return lambda: table(f"loop/gen_{t}.csv", rows(seed=t, shrink=0.7**t))

    patience += [arrive(0), lambda: None, arrive(1), arrive(3), arrive(2), arrive(4), arrive(5)]
    code, out, _ = command("watch", "loop/gen_{t}.csv", *WATCH)
    assert code == 4
    assert measured == [0, 1, 2, 3, 4, 5]  # generation 3 waited for 2
    told = [line.split(" ")[1] for line in out.splitlines() if line.startswith("Generation")]
    assert told == ["0", "1", "3", "4", "5"]


@pytest.mark.slow
def test_watch_once_exits_as_judge(command: Command) -> None:
    loop("loop", 0.7)
    code, out, _ = command("watch", "loop", *WATCH, "--once", "--json", "--out", "run")
    assert code == 4
    assert json.loads(out)["verdict"]["word"] == "collapsed"
    assert len(out.splitlines()) == 1
    assert command("judge", "real.csv", "loop", "--out", "run")[0] == 4
    assert command("watch", "loop", *WATCH, "--once", "--out", "run")[0] == 4


@pytest.mark.parametrize(
    ("word", "where"),
    [
        ("empty", ""),
        ("gen_{t}.csv", ""),
        ("none/gen_{t}.csv", ": there is no folder 'none'"),
        ("none/deep{s}/{t}.csv", ": there is no folder 'none'"),
    ],
)
def test_watch_once_before_anything_has_arrived(word: str, where: str, command: Command) -> None:
    Path("empty").mkdir()
    code, out, err = command("watch", word, *WATCH, "--once")
    assert (code, out, err) == (5, f"No generation of {word!r} has arrived yet{where}.\n", "")
    assert not Path("runs").exists()


@pytest.mark.parametrize("once", [["--once"], []])
def test_watch_needs_the_folder_that_it_is_given(once: list[str], command: Command) -> None:
    code, out, err = command("watch", "none", *WATCH, *once)
    assert (code, out) == (2, "")
    assert err.startswith("selfloop: 'none' does not exist: make the folder, or name what arrives by a pattern such as")


def test_watch_interrupted_before_a_verdict(command: Command, patience: list[Callable[[], object]]) -> None:
    assert command("watch", "gen_{t}.csv", *WATCH)[0] == 130


@pytest.mark.slow
def test_a_file_that_is_being_written_is_not_read(command: Command) -> None:
    loop("loop", generations=3)
    whole = Path("loop/gen_2.csv").read_bytes()
    Path("loop/gen_2.csv").write_bytes(whole[: len(whole) // 2])
    stop = threading.Event()

    def write() -> None:
        with open("loop/gen_2.csv", "ab", buffering=0) as file:
            for i in range(len(whole) // 2, len(whole)):
                file.write(whole[i : i + 1])
                if stop.wait(0.002):
                    return

    writer = threading.Thread(target=write)
    writer.start()
    words = [*WATCH[:2], "--settle", "0.3", "--metrics", ",".join(FAST), "--once", "--out", "run"]
    code, _, _ = command("watch", "loop", *words)
    still = writer.is_alive()
    stop.set()
    writer.join()
    assert code == 5
    assert Run.open("run").last == 1 or not still
    Path("loop/gen_2.csv").write_bytes(whole)
    command("watch", "loop", *words)
    assert Run.open("run").last == 2
    assert len(Run.open("run").samples(2, 0)) == 120


def test_watch_stops_at_what_is_wrong(command: Command, patience: list[Callable[[], object]]) -> None:
    loop("loop", generations=2)
    patience += [lambda: table("loop/gen_2.csv", rows(), ["age", "income", "other"])]
    code, _, err = command("watch", "loop", *WATCH, "--out", "run")
    assert code == 2
    assert "'loop/gen_2.csv' has the column 'other' in place" in err
    assert len(err.splitlines()) == 1
    assert Run.open("run").last == 1


@pytest.mark.slow
def test_it_tells_the_profile_the_alarms_and_the_forecast(command: Command) -> None:
    loop("loop")
    code, out, _ = command("judge", "real.csv", "loop/gen_{t}.csv", "--metrics", ",".join(FAST))
    assert code == 4
    assert "Collapsing variance" in out
    assert "ranks over generations" in out
    assert "expected at" in out
    plain = json.loads(command("judge", "real.csv", "loop/gen_{t}.csv", "--json")[1])
    words = {finding["title"]: finding["word"] for finding in plain["profile"]}
    assert words["Collapsing variance"] == "yes"
    assert [each["repetition"] for each in plain["alarms"]] == [0]
    assert plain["forecast"].startswith("the loop: ")


@pytest.mark.slow
def test_the_share_of_an_unknown_set_is_told(command: Command) -> None:
    loop("loop", shrink=1.0)
    for t in range(6):  # rounded, which tells them from real rows
        table(f"loop/gen_{t}.csv", rows(120, seed=100 + t).round(1))
    table("unknown.csv", np.concatenate([rows(300, seed=7), rows(100, seed=8).round(1)]))
    line = ["judge", "real.csv", "loop/gen_{t}.csv", "--metrics", ",".join(FAST), "--unknown"]
    _, out, _ = command(*line, "unknown.csv")
    assert "Generated rows found" in out
    told = json.loads(command(*line, "unknown.csv", "--json")[1])["unknown"]
    assert told["low"] <= 0.25 <= told["high"]
    table("few.csv", rows(9))
    before = files()
    for path, what in (("few.csv", "the unknown set has 9 rows of the 50 that it takes"), ("none.csv", "none.csv")):
        code, out, error = command(*line, path)
        assert (code, out, error.count("\n")) == (2, "", 1)
        assert what in error
    assert files() == before


def test_the_judgement_is_typed() -> None:
    loop("loop", generations=2)
    found = selfloop.judge("real.csv", "loop", metrics=FAST)
    assert isinstance(found, Judgement)
    assert isinstance(found, selfloop.Judgement)
    with pytest.raises(AttributeError):
        found.verdict = None  # type: ignore[assignment, misc]


# Columns that are not taken


def with_ids(path: str, x: np.ndarray, first: int = 1) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(x, columns=COLUMNS).assign(id=range(first, first + len(x))).to_csv(path, index=False)
    return path


def test_columns_are_left_out_of_all_tables_that_have_them(command: Command) -> None:
    with_ids("ids.csv", rows(400))
    for t in range(4):
        (with_ids if t % 2 else table)(f"loop/gen_{t}.csv", rows(120, seed=100 + t))
    code, _, error = command("judge", "ids.csv", "loop/gen_{t}.csv")
    assert (code, "'loop/gen_0.csv' lacks the column 'id' of 'ids.csv': add what is lacking, or leave" in error) == (
        2,
        True,
    )
    words = ["--metrics", "frechet_held_out", "--json"]
    code, _, error = command("judge", "ids.csv", "loop/gen_{t}.csv", *words, "--leave-out", "id", "--out", "a")
    assert code in (0, 5), error
    loop("plain")  # the same rows without ids
    for t in range(4):
        table(f"same/gen_{t}.csv", rows(120, seed=100 + t))
    command("judge", "real.csv", "same/gen_{t}.csv", *words, "--out", "b")
    both = [Run.open(path).records() for path in ("a", "b")]
    assert [each["metrics"] for each in both[0]] == [each["metrics"] for each in both[1]]
    assert Run.open("a").real(0).events.columns == tuple(COLUMNS)


def test_a_column_that_numbers_the_rows_is_told_of_once(command: Command) -> None:
    with_ids("ids.csv", rows(60))
    for t in range(2):
        with_ids(f"loop/gen_{t}.csv", rows(60, seed=100 + t))
    line = r"ids\.csv: column 'id' numbers the rows, .* leave it out \(--leave-out id\) if it is an id\n"
    judged = ["judge", "ids.csv", "loop/gen_{t}.csv", "--metrics", "frechet_held_out", "--out", "run"]
    metrics = ["metrics", "ids.csv", "loop/gen_0.csv", "--only", "frechet"]
    for words in (judged, metrics):
        assert re.fullmatch(f"selfloop: {line}", command(*words)[2])
        assert command(*words, "--leave-out", "id", *(["--out", "other"] if words is judged else []))[2] == ""
    assert command(*judged)[2] == ""  # what is there has been told of
    frames = [pd.read_csv("ids.csv"), pd.read_csv("loop/gen_0.csv")]
    with pytest.warns(UserWarning, match="real: column 'id' numbers the rows") as told:
        selfloop.judge(frames[0], frames[1:], metrics=FAST)
    assert told[0].filename == __file__


def test_columns_of_frames_are_left_out_too() -> None:
    frames = [pd.DataFrame(rows(120, seed=t), columns=COLUMNS).assign(id=range(120)) for t in range(5)]
    found = selfloop.judge(frames[0], frames[1:], metrics=FAST, leave_out=["id"])
    assert found.run.real(0).events.columns == tuple(COLUMNS)
    with pytest.raises(DataError, match=r"leave_out names a column 'ids'; it has .*: did you mean 'id'\?"):
        selfloop.judge(frames[0], frames[1:], leave_out=["ids"])
    with pytest.raises(ConfigError, match=r"leave_out: give a list of names, such as .'id'., not 'id'"):
        selfloop.judge(frames[0], frames[1:], leave_out="id")
    with pytest.raises(DataError, match=r"no column 'Ages', the target; it has .*: did you mean 'age'\?"):
        selfloop.judge(frames[0], frames[1:], leave_out=["id"], target="Ages")


def test_what_is_no_table_has_no_columns_to_leave_out(command: Command) -> None:
    np.save("x.npy", rows())
    pictures("pictures", 40)
    Path("t.txt").write_text("one\ntwo\nthree\nfour\n")
    for name in ("x.npy", "pictures", "t.txt"):
        code, _, error = command("metrics", name, name, "--leave-out", "id")
        assert (code, f"{name!r} is no table, and has no columns to leave out" in error) == (2, True)
    with pytest.raises(DataError, match="'real' is no table"):
        selfloop.judge(rows(), [rows()], leave_out=["id"])


def test_two_tables_are_compared_without_a_column(command: Command) -> None:
    with_ids("ids.csv", rows(60))
    table("made.csv", rows(60, seed=1))
    code, out, _ = command("metrics", "ids.csv", "made.csv", "--leave-out", "id")
    code_of_plain, _, _ = command("metrics", "ids.csv", "made.csv", "--leave-out", "score")
    assert (code, code_of_plain) == (0, 2)
    assert "60 events against 60 of 'ids.csv'" in out


def test_a_watch_leaves_columns_out(command: Command) -> None:
    with_ids("ids.csv", rows(400))
    for t in range(3):
        with_ids(f"loop/gen_{t}.csv", rows(120, seed=t))
    words = ["--real", "ids.csv", "--leave-out", "id", "--once", "--settle", "0", "--metrics", "frechet_held_out"]
    code, out, error = command("watch", "loop/gen_{t}.csv", *words)
    assert code in (0, 5), error
    assert "Generation 2" in out
