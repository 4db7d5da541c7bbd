"""How much synthetic data a loop bears: the procedure, its answer, and the run that it grows."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import ks_2samp

import selfloop
from selfloop import ConfigError, Experiment, Run, SelfloopError, advisor, run
from selfloop.advisor import Step, advise
from selfloop.analysis import advice, threshold
from selfloop.analysis.advice import Advice
from selfloop.analysis.curves import read
from selfloop.analysis.decline import collapse, half_life, median
from selfloop.analysis.paired import ends
from selfloop.analysis.threshold import BEGIN, DEPTH, FINEST, WIDE, Bracket, Tried, brackets
from selfloop.analysis.warning import expected_false_alarms, rank
from selfloop.cli.commands.advise import _seconds, command
from selfloop.cli.terminal import share as share_of
from selfloop.data.base import DATA
from selfloop.experiment import making
from selfloop.metrics import METRICS, boosting
from selfloop.theory.measured import Interval
from studies import advice as study

# The procedure


def shown(share: Fraction, word: Any) -> Tried:
    return Tried(share=share, seeds=8, excess=Interval(0.0, 0.0, 0.0), word=word)


def walk(true: float, blurred: float, zero: bool, last: bool) -> Bracket:
    """Let the procedure try shares, of which those within ``blurred`` of the truth are shown neither way."""
    found = {Fraction(0): shown(Fraction(0), "fine")} if zero else {}
    new = [*BEGIN] if zero else [Fraction(0), *BEGIN]
    while new:
        for share in new:
            word = "open" if abs(share - true) < blurred else "fine" if share < true else "worse"
            found[share] = shown(share, word)
        bracket = Bracket.of(found.values())
        new = bracket.asks(last)
    return bracket


@given(st.floats(-0.2, 1.2), st.sampled_from([0.0, 0.01, 0.1, 0.3, 2.0]), st.booleans(), st.booleans())
def test_shares_are_tried_between_neighbours_and_hold_the_truth(
    true: float, blurred: float, zero: bool, last: bool
) -> None:
    if zero:
        true = abs(true)
    bracket = walk(true, blurred, zero, last)
    tried = {each.share for each in bracket.tried}
    for share in tried - {0, 1}:  # what the proof of the level rests on
        step = Fraction(1, share.denominator)
        assert share.denominator <= 2**DEPTH
        assert {share - step, share + step} <= tried
    low, high = bracket.fine, bracket.worse
    assert low is None or low <= true
    assert high is None or true <= high
    if not blurred:
        assert bracket.narrow
        if low is not None and high is not None:
            assert high - low <= (WIDE if low else FINEST)


def test_a_chain_of_claims_ends_at_the_first_gap() -> None:
    words = ["fine", "open", "fine", "worse", "open", "worse", "worse"]
    bracket = Bracket.of(shown(Fraction(i, 8), word) for i, word in enumerate(words))
    assert (bracket.fine, bracket.worse) == (0, Fraction(5, 8))
    assert [each.share for each in bracket.between] == [Fraction(i, 8) for i in (1, 2, 3, 4)]


def test_what_was_shown_at_a_look_stays() -> None:
    metric, rng = METRICS["w2_held_out"], np.random.default_rng(0)
    there = 1 + 0.01 * rng.standard_normal(16)
    here = there * np.r_[np.full(8, 1.05), np.full(8, 2.0)]
    found = threshold.tried(Fraction(1, 2), here, there, metric, 0.1, threshold.each_level(1))
    assert found is not None
    assert found.word == "fine"
    assert found.excess.value > 0.4
    gone = threshold.tried(Fraction(1, 2), np.r_[here[:15], np.nan], there, metric, 0.1, 0.95)
    assert gone is not None
    assert gone.word == "fine"
    lost = threshold.tried(Fraction(1, 2), np.r_[np.nan, here[1:]], there, metric, 0.1, 0.95)
    assert lost is not None
    assert lost.word == "worse"
    assert threshold.tried(Fraction(1, 2), here, np.r_[np.nan, there[1:]], metric, 0.1, 0.95) is None


def test_the_smaller_of_two_criteria_counts_and_both_share_the_level() -> None:
    rng = np.random.default_rng(1)
    control = {name: 1 + 0.01 * rng.standard_normal(8) for name in ("w2_held_out", "w1_held_out")}
    factors = {Fraction(0): (1.0, 1.0), Fraction(1, 2): (1.0, 1.3), Fraction(1, 4): (1.0, 1.0), Fraction(1): (1.5, 1.5)}
    at = {
        share: {name: control[name] * factor for name, factor in zip(control, pair, strict=True)}
        for share, pair in factors.items()
    }
    found = brackets(at, control, {name: METRICS[name] for name in control}, 0.1, known=control)
    assert found is not None
    by, both = found
    assert by["w2_held_out"].fine == Fraction(1, 2)
    assert by["w1_held_out"].fine == Fraction(1, 4)
    assert (both.fine, both.worse) == (Fraction(1, 4), Fraction(1, 2))
    assert 1 - threshold.each_level(2) == pytest.approx((1 - threshold.each_level(1)) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("case", [study.CASES[1], study.CASES[2], study.CASES[9]], ids=["gaussian", "margin", "rescue"])
def test_intervals_hold_the_threshold(case: study.Case) -> None:
    """Of 30 at 95 % fewer than 24 by chance 2e-4."""
    found = study.of_case(case, study.truth(case, 10, 40), 30)
    assert found.held >= 24
    assert found.always >= 24


# The study's loops are those of the program

LOOPS = {
    "gaussian": {"data": {"name": "gaussian", "dim": 1}, "generator": "gaussian"},
    "categorical": {"data": "categorical", "generator": "categorical"},
    "linear_regression": {"data": "linear_regression", "generator": "linear_regression"},
}


@pytest.mark.slow
@pytest.mark.parametrize("loop", study.LOOPS, ids=lambda loop: loop.name)
def test_the_study_simulates_what_is_run(loop: study.Loop, tmp_path: Path) -> None:
    regimes = [
        {"name": "augment", "lam": 0.0},
        {"name": "augment", "lam": 1.0},
        {"name": "then", "first": {"name": "augment", "lam": math.inf}, "until": 2, "then": {"name": "augment"}},
        {"name": "compose", "parts": [{"from": "fresh", "rows": 0.25}, {"from": "newest", "rows": 0.75}]},
    ]
    settings = {"name": "x", **LOOPS[loop.name], "generations": 4, "seeds": 32, "metrics": [loop.metric]}
    settings["data"] = {"n": 32, "held_out": 4} | (
        settings["data"] if isinstance(settings["data"], dict) else {"name": settings["data"]}
    )
    list(run(Experiment.build(settings | {"grid": {"mixing": regimes}}), tmp_path / "run"))
    curves = read(Run.open(tmp_path / "run"))
    cases = [("loop", Fraction(0)), ("loop", Fraction(1, 2)), ("rescue", Fraction(1, 2)), ("fresh", Fraction(3, 4))]
    for setting, (axis, share) in zip(curves.settings, cases, strict=True):
        seen = ends(curves.of(setting, loop.metric))
        simulated = np.concatenate([study.ends(loop, axis, share, block, 32, 4) for block in range(8)])
        error = math.hypot(seen.std() / math.sqrt(len(seen)), simulated.std() / math.sqrt(len(simulated)))
        assert abs(seen.mean() - simulated.mean()) < 4 * error
        assert ks_2samp(seen, simulated).pvalue > 1e-4


# How fast, and what to watch


def test_half_lives_and_their_intervals() -> None:
    t = np.arange(11)
    halved = half_life(np.array([2.0 ** (-t / life) for life in (4.9, 5.0, 5.1)]))
    assert halved is not None
    assert 4.5 < halved.low < halved.value < halved.high < 5.5
    assert halved.value == pytest.approx(5, rel=0.01)
    grows = half_life(np.array([2.0 ** (t / life) for life in (4.9, 5.0, 5.1)]))
    assert grows is not None
    assert grows.value == pytest.approx(-5, rel=0.01)
    assert abs(grows.low) < abs(grows.high) < 5.5
    stays = half_life(np.array([2.0 ** (t / 5), 2.0 ** (-t / 5.1), 1.0 + 0 * t]))
    assert stays is not None
    assert math.isinf(stays.high)
    assert 0 < stays.low < 5
    assert half_life(np.array([2.0**-t, 0.0 * t])) is None


def test_medians_have_the_intervals_of_order_statistics() -> None:
    assert median(np.arange(1.0, 7)) == Interval(3, 1, 6)
    assert median(np.arange(1.0, 6)) == Interval(3, -math.inf, math.inf)
    found = median(np.r_[np.arange(1.0, 11), np.full(10, np.inf)])
    assert (found.value, found.low, found.high) == (10, 6, math.inf)
    rng = np.random.default_rng(0)
    held = [(found := median(rng.exponential(size=25))).low <= math.log(2) <= found.high for _ in range(400)]
    assert 0.93 < np.mean(held) < 1


def test_a_loop_has_collapsed_where_its_loss_is_twice_the_controls() -> None:
    there = np.ones((6, 5))
    here = there * np.array([1, 1.9, 2.1, 1.5, 3])
    assert collapse(here, there, METRICS["w2_held_out"]).value == 2
    here[:, 1] = np.nan  # diverged
    assert collapse(here, there, METRICS["w2_held_out"]).value == 1
    assert math.isinf(collapse(there, there, METRICS["w2_held_out"]).value)
    shares = np.full((6, 5), 0.8)
    assert collapse(shares * np.array([1, 1, 0.6, 0.4, 0.4]), shares, METRICS["coverage_train"]).value == 3


def test_statistics_are_ranked_by_their_alarms() -> None:
    rng, t = np.random.default_rng(0), np.arange(8)
    noise = 0.01 * rng.standard_normal((4, 40, 8))
    control = {"w2_held_out": 1 + noise[0], "coverage_train": 0.9 + noise[1]}
    loop = {"w2_held_out": 1 + noise[2] + 0.1 * (t > 4), "coverage_train": 0.9 + noise[3] - 0.1 * (t > 1)}
    found = rank(control, loop, range(40), METRICS, "w2_held_out")
    assert [row.statistic for row in found] == ["coverage_train", "w2_held_out"]
    assert [row.alarm_at.value for row in found] == [2, 5]
    assert found[0].lead.value == 3
    assert found[1].lead.value == 0
    assert all(row.arms == 20 and row.found == 1 for row in found)
    assert expected_false_alarms(range(8)) == 0.2
    assert expected_false_alarms(range(64)) == 0.05
    with pytest.raises(ValueError, match="odd"):
        rank(control, loop, [0] * 40, METRICS, "w2_held_out")


# A regime that gives way


def test_then_refuses_two_numbers_of_fresh_rows() -> None:
    some = {"name": "compose", "parts": [{"from": "fresh", "rows": 0.5}, {"from": "newest", "rows": 0.5}]}
    with pytest.raises(ConfigError, match="different numbers of fresh rows"):
        Experiment.build(SMALL | {"mixing": {"name": "then", "first": "fresh", "until": 3, "then": some}})
    with pytest.raises(ConfigError, match=r"mixing\.until"):
        Experiment.build(SMALL | {"mixing": {"name": "then", "first": "replace", "until": 0, "then": "augment"}})


SMALL: dict[str, Any] = {
    "name": "x",
    "data": {"name": "gaussian", "n": 32},
    "generator": "gaussian",
    "generations": 4,
}


def test_then_trains_on_the_first_until_it_ends(tmp_path: Path) -> None:
    lam = {"name": "augment", "lam": 3.0}
    mixing = {"name": "then", "first": "replace", "until": 2, "then": lam}
    list(run(Experiment.build(SMALL | {"mixing": mixing, "metrics": ["mean_error"]}), tmp_path / "run"))
    records = Run.open(tmp_path / "run").records()
    counts = [(record["n_real"], record["n_synthetic"]) for record in records]
    assert counts == [(32, 0), (0, 32), (0, 32), (32, 96), (32, 96)]
    assert records[0]["regime"] == "replace until 2, then λ = 3"
    assert records[0]["ratio"] is None


# The whole

QUICK: dict[str, Any] = {"generator": "gaussian", "tolerance": 0.3, "horizon": 6, "metrics": ["mean_error"]}
GAUSSIAN = {"name": "gaussian", "n": 32, "held_out": 32, "dim": 8}


@pytest.fixture(scope="module")
def few() -> Iterator[None]:
    """Look after 6 and 8 seeds, and record what judges and the variance alone."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (threshold, advice, advisor):
            patch.setattr(module, "LOOKS", (6, 8))
        patch.setattr(advisor, "WATCHED", ("variance_ratio",))
        yield


@pytest.fixture(scope="module")
def whole(few: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Advice, list[Step]]:
    """Return an answer, and the steps that led to it."""
    steps: list[Step] = []
    found = advise(GAUSSIAN, out=tmp_path_factory.mktemp("advice") / "whole", progress=steps.append, **QUICK)
    return found, steps


def bits(path: Path) -> list[str]:
    """Return the records and the hashes of all files of a run."""
    run_ = Run.open(path)
    notes = [(run_.manifest(t)["stacks"], run_.of_generation(t)) for t in range(run_.present)]
    arms_of = {
        key: sorted(record["metrics"].items())
        for _, records in notes
        for record in records
        for key in [f"{record['generation']} {record['settings']} {record['seed']}"]
    }
    return [f"{key} {value}" for key, value in sorted(arms_of.items())]


@pytest.mark.slow
def test_an_answer(whole: tuple[Advice, list[Step]]) -> None:
    found, steps = whole
    assert len({step.why for step in steps}) > 1
    assert steps[-1].done == steps[-1].total == 7
    assert len(found.sentences) == 5
    assert found.seeds in (6, 8)
    assert found.share is not None
    assert found.interval[0] <= found.interval[1]
    assert all(limit is not None for limit in (found.loop, found.fresh, found.rescue))
    assert found.above
    assert found.above[-1].share == 1
    assert found.above[-1].excess.low > 0


@pytest.mark.slow
def test_one_who_was_interrupted_comes_to_the_same(whole: tuple[Advice, list[Step]], tmp_path: Path) -> None:
    expected = whole[0]

    seen = 0

    def stop(step: Step) -> None:
        nonlocal seen
        seen += 1
        if seen in (3, 9, 15, 22):
            raise KeyboardInterrupt

    for _ in range(9):
        try:
            again = advise(GAUSSIAN, out=tmp_path / "cut", progress=stop, **QUICK)
            break
        except KeyboardInterrupt:
            continue
    assert again == expected
    assert str(again) == str(expected)
    assert bits(tmp_path / "cut") == bits(expected.run)


@pytest.mark.slow
def test_what_was_answered_is_answered_again_and_nothing_else_there(whole: tuple[Advice, list[Step]]) -> None:
    found, _ = whole
    before = bits(found.run)
    assert advise(GAUSSIAN, out=found.run, **QUICK) == found
    assert bits(found.run) == before
    for other in ({"tolerance": 0.2}, {"horizon": 7}, {"metrics": ["covariance_error"]}, {"seed": 1}):
        with pytest.raises(selfloop.RunError, match=r"holds other advice.*choose another --out"):
            advise(GAUSSIAN, out=found.run, **QUICK | other)
    with pytest.raises(selfloop.RunError, match="another experiment"):
        advise(GAUSSIAN | {"n": 40}, out=found.run, **QUICK)


def test_an_answer_is_of_its_rows_wherever_they_lie(tmp_path: Path) -> None:
    rows = np.random.default_rng(5).normal(size=(60, 2))
    first, moved, other = tmp_path / "first.csv", tmp_path / "moved.csv", tmp_path / "other.csv"
    for path, some in ((first, rows), (other, rows[1:])):
        np.savetxt(path, some, delimiter=",", header="a,b", comments="")
    little = QUICK | {"budget": 1e-6, "out": tmp_path / "run"}
    found = advise(first, **little)
    before = bits(found.run)
    with pytest.raises(selfloop.RunError, match="was run on other data"):
        advise(other, **little)
    assert bits(found.run) == before
    first.rename(moved)
    assert advise(moved, **little).more == found.more
    with pytest.raises(selfloop.RunError, match="was run on other data"):
        advise(other, **little)


def test_the_run_directory_is_called_by_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", np.random.default_rng(5).normal(size=(60, 2)))
    for data, name in ((Path("rows.npy"), "rows"), ("gaussian", "gaussian")):
        found = advise(data, **QUICK | {"budget": 1e-6})
        assert Path(found.run).resolve() == tmp_path / "runs" / f"advice-{name}-gaussian"


@pytest.mark.slow
def test_a_spent_budget_says_what_is_missing_and_more_goes_on(whole: tuple[Advice, list[Step]], tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = advise(GAUSSIAN, out=out, budget=1e-6, **QUICK)
    assert first.seeds == 0
    assert first.loop is None
    assert first.share is None
    assert re.search(
        r"cannot be said: \d+ more arms \(6 seeds of each regime\), about \d+ (s|min), would tell", str(first)
    )
    assert Run.open(out).present == 1
    for _ in range(7):
        last = advise(GAUSSIAN, out=out, budget=1e-6, **QUICK)
    assert last.seeds == 6
    assert last.more is not None
    assert "would tell more" in str(last)
    assert advise(GAUSSIAN, out=out, **QUICK) == whole[0]


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_an_answer_in_every_form(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 2))
    two = QUICK | {"metrics": ["w1_held_out", "covariance_error"], "horizon": 4, "tolerance": 0.9}
    found = advise(rows, out=tmp_path / "run", **two)
    how_much, _, fresh, rescue, _ = found.sentences
    assert "of which the smaller counts" in how_much
    assert fresh.endswith(
        "array offers no fresh rows; --set data.fresh_rows=N sets N/4 of them aside for each generation."
    )
    assert rescue.endswith("a horizon of at least 6 retrainings would tell.")
    frame = found.to_frame()
    assert set(frame["criterion"]) == {"w1_held_out", "covariance_error"}
    assert set(frame["axis"]) == {"loop"}
    assert set(frame["word"]) <= {"fine", "worse", "open"}
    assert frame["share"].between(0, 1).all()
    plain = json.loads(found.json())
    assert plain["sentences"] == list(found.sentences)
    assert plain["seeds"] == found.seeds
    assert found._repr_html_().count("<li>") == 5
    assert "&lt;" not in str(found)
    assert str(found).startswith("1. ")
    assert str(found).count("\n") == 4


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_the_command_prints_sentences_or_json_and_where_the_report_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 3))
    np.save(tmp_path / "rows.npy", rows)
    asked = {"horizon": 2, "metric": "covariance_error", "tolerance": 1.0, "out": tmp_path / "run"}
    for budget, last in (("0.000001s", "The budget was spent"), (None, "Report: ")):
        assert command(str(tmp_path / "rows.npy"), "gaussian", budget=budget, **asked) == 0
        captured = capsys.readouterr()
        lines = captured.out.strip().splitlines()
        assert lines[0].startswith("1. ")
        assert lines[-1].startswith(last)
        assert "6 seeds of 3 regimes" in captured.err
    assert Path(lines[-1].removeprefix("Report: ")).is_file()
    assert command(str(tmp_path / "rows.npy"), "gaussian", as_json=True, **asked) == 0
    assert len(json.loads(capsys.readouterr().out)["sentences"]) == 5


def test_data_are_named_or_lie_in_files(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.eye(3))
    np.save(tmp_path / "images.npy", np.zeros((4, 8, 8), np.uint8))
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    (tmp_path / "pictures").mkdir()
    for name, kind in (("rows.npy", "table"), ("rows.csv", "table"), ("images.npy", "image_files")):
        assert DATA.name_of(advisor._dataset(str(tmp_path / name))) == kind
        assert DATA.name_of(advisor._dataset(tmp_path / name)) == kind
    assert DATA.name_of(advisor._dataset(str(tmp_path / "pictures"))) == "image_files"
    for named in ("digits", "{name: digits}", {"name": "digits"}):
        assert DATA.name_of(advisor._dataset(named)) == "digits"


def test_columns_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["id,age,said", *(f"{i},{i * 7 % 31},they said {i} times" for i in range(90))]))
    given = advisor._without(advisor._dataset(path), ["id", "said"])
    assert given.load([0]).events.columns == ("age",)
    more = advisor._without(advisor._dataset(f"{{name: table, path: {path}, leave_out: [id]}}"), ["said"])
    assert more == given
    with pytest.raises(ConfigError, match="columns and leave_out both say which are taken"):
        advisor._without(advisor._dataset(f"{{name: table, path: {path}, columns: [age]}}"), ["said"])


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_fresh_rows_that_are_set_aside_are_counted(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(200, 2))
    some = QUICK | {"settings": ["data.fresh_rows=96", "data.n=64"], "horizon": 6}
    found = advise(rows, out=tmp_path / "run", **some)
    assert found.fresh is not None
    assert found.fresh.most == pytest.approx(0.25)
    asked = {arm.experiment.mixing.fresh_rows(64) for arm in Run.open(tmp_path / "run").arms}
    assert max(asked) == 16


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tolerance": 0.0}, "the tolerance is a share above 0"),
    ({"tolerance": -0.1}, "the tolerance is a share above 0"),
    ({"tolerance": 1.5}, "the tolerance is a share above 0 and at most 1"),
    ({"tolerance": math.nan}, "the tolerance is a share above 0"),
    ({"horizon": 0}, "the horizon is at least 1 retraining, not 0"),
    ({"budget": 0.0}, "the budget is a time above 0"),
    ({"budget": -1.0}, "the budget is a time above 0"),
    ({"metrics": ["w2"]}, "no metric is called 'w2'"),
    ({"metrics": ["parameter_distance_random"]}, "has no direction to judge by"),
    ({"metrics": ["mean_error", "mean_error"]}, "named twice"),
    ({"generator": "gausian"}, "did you mean 'gaussian'?"),
    ({"generator": 3}, "generator: give a name, or settings with one, not 3: there are"),
    ({"generator": "otcfm"}, "say how long a retraining lasts, as --set budget.epochs=20"),
    ({"generator": "otcfm_images"}, "makes images, and data gaussian holds vectors"),
    ({"generator": "bernoulli"}, "generator bernoulli does not fit data gaussian"),
    ({"data": "gausian"}, "no data set or file is called 'gausian'"),
    ({"data": "{name: gausian}"}, "did you mean 'gaussian'?"),
    ({"data": "nowhere/rows.csv"}, "'nowhere/rows.csv' does not exist"),
    ({"data": GAUSSIAN | {"n": 31}}, "has 31 rows to train on: advice takes 32 or more"),
    ({"data": {"name": "table"}}, "data.path is missing"),
    ({"settings": ["mixing.lam=3"]}, "mixing.lam is what advise sets itself"),
    ({"settings": ["metrics=[mean_error]"]}, "metrics is what advise sets itself"),
    ({"settings": ["foo=3"]}, "no setting is called 'foo'"),
    ({"leave_out": ["a"]}, "leave_out is of the columns of a file, and data gaussian is none"),
    ({"metrics": ["mode_coverage"]}, "needs known modes, which data gaussian does not have"),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG, ids=[f"{words[:30]}" for _, words in WRONG])
def test_what_cannot_be_asked_is_refused_at_once(wrong: dict[str, Any], words: str, tmp_path: Path) -> None:
    told: list[Step] = []
    with pytest.raises(SelfloopError, match=re.escape(words)) as raised:
        advise(**{"data": GAUSSIAN, "out": tmp_path / "run", "progress": told.append} | QUICK | wrong)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()
    assert not told


def test_a_run_that_is_no_advice_is_refused(tmp_path: Path) -> None:
    list(run(Experiment.build(SMALL | {"metrics": ["mean_error"]}), tmp_path / "run"))
    with pytest.raises(selfloop.RunError, match=r"holds a run that is no advice: choose another --out"):
        advise(GAUSSIAN, out=tmp_path / "run", **QUICK)
    with pytest.raises(selfloop.DataError, match="is a run: give the data that it was made of"):
        advise(tmp_path / "run", out=tmp_path / "other", **QUICK)


@pytest.mark.parametrize(("text", "share"), [("10%", 0.1), ("10 %", 0.1), ("0.1", 0.1), (".5%", 0.005), ("1", 1.0)])
def test_shares_as_they_are_written(text: str, share: float) -> None:
    assert share_of(text) == pytest.approx(share)


@pytest.mark.parametrize(("text", "seconds"), [("45s", 45), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("0.5m", 30)])
def test_times_as_they_are_written(text: str, seconds: float) -> None:
    assert _seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "ten", "10%%", "0.1.2"])
def test_shares_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match=r"a share such as 10% or 0\.1"):
        share_of(text)


@pytest.mark.parametrize("text", ["", "ten", "10%%", "-3", "1e-1", "nan"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="a time such as 45s, 30m or 2h"):
        _seconds(text)


def test_every_sentence_can_be_that_nothing_is_known(tmp_path: Path) -> None:
    why = {"loop": "why", "fresh": "why", "rescue": "why"}
    nothing = Advice(
        data="x",
        generator="y",
        criteria={"w2_held_out": "W₂"},
        tolerance=0.1,
        horizon=5,
        rows=50,
        seeds=0,
        loop=None,
        fresh=None,
        rescue=None,
        above=(),
        watch=(),
        alarms=math.nan,
        titles={},
        missing=why,  # type: ignore[arg-type]
        more=None,
        run=tmp_path,
    )
    assert nothing.sentences == (
        "How much synthetic data the loop bears, and what follows from that, cannot be said: why.",
    )
    assert nothing.to_frame().empty
    assert nothing.interval == (0, math.inf)
    assert json.loads(nothing.json())["alarms"] is None


@pytest.mark.parametrize(
    "more",
    [
        {"tolerance": "10%"},
        {"horizon": 2.5},
        {"budget": "30m"},
        {"metrics": "w2_held_out"},
        {"metrics": [5]},
        {"seed": "a"},
        {"workers": "a"},
        {"workers": -1},
        {"out": 5},
    ],
)
def test_arguments_of_another_kind(more: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=next(iter(more))):
        selfloop.advise(np.random.default_rng(0).normal(size=(100, 2)), generator="gaussian", **more)
    assert not list(tmp_path.iterdir())


# Tables with a target


def customers(rows: int = 160, seed: int = 0) -> dict[str, Any]:
    """Return a table as people have them: words, dates, whole and missing numbers, truth values."""
    rng = np.random.default_rng(seed)
    plan, visits = rng.choice(["basic", "plus", "pro"], rows), rng.poisson(4, rows)
    spent = np.round(20 * visits + 50 * (plan == "pro") + rng.normal(0, 8, rows), 2)
    return {
        "plan": plan.tolist(),
        "visits": visits.tolist(),
        "since": (np.datetime64("2020-01-01") + rng.integers(0, 900, rows)).astype(str).tolist(),
        "active": rng.choice(["true", "false"], rows).tolist(),
        "rating": [None if rng.random() < 0.1 else round(float(x), 1) for x in rng.normal(3, 1, rows)],
        "spent": spent.tolist(),
        "stays": np.where(visits + rng.normal(0, 0.7, rows) > 3.5, "yes", "no").tolist(),
    }


def write(path: Path, columns: dict[str, Any]) -> Path:
    """Write columns as CSV, nothing where a value is missing."""
    lines = [",".join(columns)]
    lines += [",".join("" if x is None else str(x) for x in row) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosting, "_TREES", 10)


@pytest.mark.slow
@pytest.mark.usefixtures("few", "few_trees")
def test_a_target_has_an_answer_of_its_own_that_a_killed_one_comes_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write(tmp_path / "customers.csv", customers(90))
    asked: dict[str, Any] = {"target": "stays", "horizon": 2, "tolerance": 0.9}

    def stop(step: Step) -> None:
        if step.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        advise(table, out=tmp_path / "cut", progress=stop, workers=0, **asked)
    found = advise(table, out=tmp_path / "cut", workers=0, **asked)
    assert list(found.criteria) == ["sliced_w2_held_out", "tstr_auc"]
    assert (found.generator, found.target, len(found.sentences)) == ("copula", "stays", 6)
    assert found.loop is not None
    assert [each.share for each in found.loop.by["tstr_auc"].tried][:1] == [0]
    assert found.loop.by["tstr_auc"].tried[0].seeds > 0  # the control too is held against the real rows
    assert found.loop.by["sliced_w2_held_out"].tried[0].seeds == 0
    (worth,) = found.downstream
    assert 0.8 < worth.real <= 1
    assert {0, 1} <= set(worth.scores)
    assert "by Sliced W2 to held-out data and" in found.sentences[0]
    assert "Downstream AUC is" in found.sentences[-1]
    assert json.loads(found.json())["downstream"][0]["criterion"] == "tstr_auc"
    assert advise(table, out=tmp_path / "whole", workers=0, **asked) == found
    assert bits(tmp_path / "whole") == bits(tmp_path / "cut")
    capsys.readouterr()
    assert command(str(table), target="stays", horizon=2, tolerance=0.9, out=tmp_path / "whole") == 0
    assert "6. What rows are worth to a model that predicts 'stays'" in capsys.readouterr().out.replace("\n", " ")
    page = (tmp_path / "whole" / "report" / "index.html").read_text()
    assert "What rows are worth to a model that predicts" in page


@pytest.mark.slow
@pytest.mark.usefixtures("few", "few_trees")
def test_a_generator_that_alone_costs_too_much_is_told_of(tmp_path: Path) -> None:
    table = write(tmp_path / "customers.csv", customers(90))
    blurred = {"name": "kernel_density", "bandwidth": 3.0}
    found = advise(table, generator=blurred, target="spent", horizon=2, out=tmp_path / "run", workers=0)
    assert list(found.criteria) == ["sliced_w2_held_out", "tstr_score"]
    assert found.loop is not None
    assert found.loop.by["tstr_score"].worse == 0
    assert found.share is None
    assert "it is shown that it is not, even of samples of a model that saw real data alone" in found.sentences[0]
    assert "no share by Downstream score" in found.sentences[0]
    assert found.sentences[-1].endswith("another generator would help, not a smaller share.")


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"target": "nothing"}, "has no column 'nothing', the target"),
        ({"target": "rating"}, "the target 'rating' is missing in some rows"),
        ({"target": "country"}, "the target 'country' never changes"),
        ({"target": "noise"}, "the target 'noise' is not predicted by the other columns"),
        ({"target": "spent", "metrics": ["tstr_auc"]}, "tstr_auc needs a target of classes"),
        ({"target": "spent", "settings": ["data.target=stays"]}, "the target is 'spent' and, in the settings, 'stays'"),
        ({"metrics": ["tstr_score"]}, "tstr_score needs"),
    ],
)
def test_targets_that_cannot_be(asked: dict[str, Any], why: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(7).normal(size=160).tolist()
    table = write(tmp_path / "rows.csv", customers() | {"country": ["FR"] * 160, "noise": noise})
    with pytest.raises(SelfloopError, match=re.escape(why)):
        advise(table, out=tmp_path / "run", workers=0, **asked)
    assert not (tmp_path / "run").exists()


def test_what_has_no_columns_has_no_target_and_needs_a_generator() -> None:
    with pytest.raises(ConfigError, match="no columns to predict"):
        advise("gaussian", generator="gaussian", target="x")
    with pytest.raises(ConfigError, match=r"name a generator .* by --generator: .*gaussian"):
        advise("gaussian")


def test_the_generators_that_are_offered_make_such_data(tmp_path: Path) -> None:
    (tmp_path / "n.txt").write_text("one\ntwo\nthree\n")
    (tmp_path / "pictures").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "pictures" / "a.png")
    for name, offered in (("n.txt", ["categorical", "gpt", "ngram"]), ("pictures", list(making("images")))):
        with pytest.raises(ConfigError, match=f"by --generator: {', '.join(offered)}$"):
            advise(str(tmp_path / name))
