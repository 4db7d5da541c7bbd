"""The ledger: the rule of its verdicts, its entries' form, and the page in the documentation."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from selfloop import ledger
from selfloop.cli.main import app
from selfloop.core.errors import ConfigError
from selfloop.ledger.loops import metric, trajectories
from selfloop.ledger.page import HEADINGS, cells, counted, page, read_in, section
from selfloop.ledger.row import COARSE, LIMIT, Entry, Kind, Measured, Published, Row, Seen, Verdict
from selfloop.theory.pooled import accumulate
from studies import ledger as study

PAGE = Path(__file__).parents[1] / "docs" / "ledger.md"
KINDS: tuple[Kind, ...] = ("number", "at least", "at most", "above", "below")

numbers = st.floats(-100, 100)
errors = st.floats(1e-3, 10)


def row(theirs: Published | None, ours: Measured | None, kind: Kind = "number", why: str = "") -> Row:
    return Row(statement="s", where="w", seen=Seen.paper, theirs=theirs, ours=ours, kind=kind, why=why)


def published(value: float, error: float) -> Published:
    return Published(value, error, f"{value:g}")


# The rule


@given(numbers, errors, errors, st.floats(-10, 10))
def test_a_number_is_reproduced_within_three_errors_of_both(value: float, a: float, b: float, off: float) -> None:
    ours = Measured(value + off * math.hypot(a, b), b)
    found = row(published(value, a), ours)
    assert found.z == pytest.approx(off, abs=1e-6)
    if b > max(2 * a, COARSE * abs(value)):
        assert found.verdict is Verdict.not_comparable
    elif abs(abs(off) - LIMIT) > 1e-6:
        assert found.verdict is (Verdict.reproduced if abs(off) < LIMIT else Verdict.not_reproduced)


@given(numbers, errors, st.floats(-10, 10))
def test_a_bound_counts_on_its_wrong_side_alone_and_a_statement_must_be_shown(
    value: float, error: float, off: float
) -> None:
    ours = Measured(value + off * error, error)
    if abs(abs(off) - LIMIT) < 1e-6:
        return
    verdicts = {kind: row(published(value, 0.0), ours, kind).verdict for kind in KINDS}
    for kind, right in (("at least", off > -LIMIT), ("at most", off < LIMIT)):
        told = Verdict.reproduced if right else Verdict.not_reproduced
        assert verdicts[kind] is (Verdict.not_comparable if error > COARSE * abs(value) else told)  # type: ignore[index]
    for kind, towards in (("above", off), ("below", -off)):
        expected = Verdict.not_comparable if abs(off) < LIMIT else Verdict.reproduced
        assert verdicts[kind] is (Verdict.not_reproduced if towards <= -LIMIT else expected)  # type: ignore[index]


@given(st.sampled_from(KINDS), numbers, errors, errors, st.floats(-10, 10))
def test_mirrored_numbers_have_mirrored_verdicts(kind: Kind, value: float, a: float, b: float, off: float) -> None:
    mirror: dict[Kind, Kind] = {"at least": "at most", "at most": "at least", "above": "below", "below": "above"}
    plain = row(published(value, a), Measured(value + off, b), kind)
    turned = row(published(-value, a), Measured(-value - off, b), mirror.get(kind, kind))
    assert plain.z is not None
    assert turned.z is not None
    assert turned.z == pytest.approx(-plain.z, abs=1e-9)
    if abs(abs(plain.z) - LIMIT) > 1e-6:
        assert turned.verdict is plain.verdict


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_say_not_reproduced(kind: Kind) -> None:
    ours = {"number": 2.0, "at least": 0.0, "at most": 2.0, "above": 0.0, "below": 2.0}[kind]
    assert row(published(1.0, 0.01), Measured(ours, 0.01), kind).verdict is Verdict.not_reproduced


def test_what_was_not_seen_or_not_run_is_not_comparable() -> None:
    sound = published(1.0, 0.1)
    assert row(sound, Measured(1.0, 0.1), why="not seen").reason == "not seen"
    for found in (row(sound, None), row(None, Measured(1.0)), row(sound, Measured(math.nan, 0.1)), row(None, None)):
        assert found.verdict is Verdict.not_comparable
        assert found.reason


def test_without_any_error_only_the_same_number_is_reproduced() -> None:
    assert row(Published.formula(0.5), Measured(0.5)).verdict is Verdict.reproduced
    assert row(Published.formula(0.5), Measured(0.5 + 1e-9)).verdict is Verdict.not_reproduced


@pytest.mark.parametrize(
    ("text", "half"), [("0.155", 0.0005), ("1.0", 0.05), ("7", 0.5), ("0.0390", 0.00005), ("-2.50", 0.005)]
)
def test_a_number_without_an_error_is_known_to_half_its_last_digit(text: str, half: float) -> None:
    found = Published.printed(text)
    assert (found.value, found.text) == (float(text), text)
    assert found.error == pytest.approx(half)
    assert Published.printed(text, 0.2).error == 0.2


def test_a_single_run_is_as_uncertain_as_runs_differ() -> None:
    values = np.array([1.0, 2.0, 3.0])
    assert Published.one_run("1.5", values).error == pytest.approx(1.0)
    assert Published.one_run("1.5", np.ones(3)).error == pytest.approx(0.05)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    x = np.random.default_rng(0).standard_normal((40, 3))
    jackknifed = Measured.jackknifed(lambda part: float(part.mean()), x)
    plain = Measured.mean(x.mean(1))
    assert jackknifed.value == pytest.approx(plain.value)
    assert jackknifed.error == pytest.approx(plain.error)


def errors_within(what: str, seeds: int, wrong: int, draws: int) -> bool:
    """Whether the rule errs as often as Student's t says, within 4 standard errors."""
    rate = study.expected(what, seeds)
    return abs(wrong - draws * rate) < 4 * math.sqrt(draws * rate * (1 - rate))


def test_the_rule_errs_as_often_as_students_t_says_and_the_page_says_so() -> None:
    draws = 1500
    found = list(study.rates(draws))
    assert all(errors_within(*each, draws) for each in found)
    text = PAGE.read_text(encoding="utf-8")
    table = re.findall(
        r"^\| ([^|]*) \| (–|\d+) \| ([\d.]+)% \(([\d.]+)% to ([\d.]+)%\) \| ([\d.]+)% \|$", text, re.MULTILINE
    )
    assert len(table) == len(found)
    for (what, seeds, _), (name, number, rate, low, high, theory) in zip(found, table, strict=True):
        assert name == what
        assert number == ("–" if seeds == 1 else str(seeds))
        assert theory == f"{study.expected(what, seeds):.2%}"[:-1]
        assert float(low) < float(rate) < float(high)
        assert errors_within(what, seeds, round(float(rate) / 100 * study.DRAWS), study.DRAWS)


# Loops in memory


def test_trajectories_are_those_of_a_run(tmp_path: Path) -> None:
    from selfloop import Experiment, run

    settings = {
        "data": {"name": "gaussian", "dim": 2, "n": 30},
        "generator": "gaussian",
        "generations": 3,
        "seeds": 3,
        "grid": {"mixing": ["replace", "accumulate", {"name": "window", "generations": 2}]},
        "metrics": ["mean_error"],
    }
    found = trajectories(metric("mean_error"), **settings)
    experiment = Experiment.build({"name": "same", **settings})
    records = [each.records for each in run(experiment, tmp_path / "run")]
    ours = np.array([[record["metrics"]["mean_error"] for record in generation] for generation in records])
    assert found.shape == (3, 3, 4)
    np.testing.assert_array_equal(found.reshape(9, 4), ours.T)


def test_a_loop_in_memory_agrees_with_the_theory() -> None:
    variance = trajectories(
        lambda turn: turn.state["covariance"][:, 0, 0],
        data={"name": "gaussian", "dim": 1, "n": 8, "held_out": 2},
        generator={"name": "gaussian", "covariance": "mle"},
        mixing="accumulate",
        generations=4,
        seeds=300,
    )[0]
    ours = Measured.mean(variance[:, -1])
    assert abs(ours.value - accumulate(8, 4).variance[4]) < 4 * ours.error


# Entries


@pytest.mark.parametrize("name", ledger.names())
def test_an_entry_says_what_and_where(name: str) -> None:
    found = ledger.entry(name)
    assert isinstance(found, Entry)
    assert re.search(r"arXiv:\d{4}\.\d{5}", found.source)
    assert re.search(r"20\d\d", found.title)
    assert found.recipe.endswith(".")
    assert found.found.endswith(".")
    assert callable(found.rows)


def test_the_papers_are_there() -> None:
    papers = " ".join(ledger.entry(name).source for name in ledger.names())
    wanted = ("2310.00429", "2410.16713", "2404.01413", "2410.22812", "2502.18049", "2412.17646", "2404.05090")
    for paper in (*wanted, "2305.17493", "2410.04840", "2406.07515", "2602.16601", "2407.09499"):
        assert paper in papers


@pytest.mark.slow
@pytest.mark.usefixtures("as_in_a_worker")
@pytest.mark.parametrize("name", ["ferbach", "dohmatob"])
def test_quick_entries_give_what_the_page_says(name: str) -> None:
    entry = ledger.entry(name)
    rows = list(entry.rows())
    assert section(name, entry, rows) in PAGE.read_text(encoding="utf-8")
    assert Verdict.not_reproduced not in {each.verdict for each in rows}


# The page


def test_the_page_of_the_documentation_is_the_commands() -> None:
    """The form, not the numbers, which take minutes."""
    text = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ledger.names()
    for name in ledger.names():
        found = ledger.entry(name)
        part = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert f"{found.title} ({found.source}): " in part
        assert f"*Run here.* {found.recipe}\n" in part
        assert f"*Found.* {found.found}\n" in part
        table = [line for line in part.splitlines() if line.startswith("| ")]
        assert table[0] == "| " + " | ".join(HEADINGS) + " |"
        seen = {re.split(r"(?<!\\)\|", line)[3].strip() for line in table[1:]}
        assert seen <= set(Seen)
        verdicts = [re.split(r"(?<!\\)\|", line)[-2].strip(" *") for line in table[1:]]
        assert len(verdicts) >= 2
        assert all(verdict.startswith(tuple(Verdict)) for verdict in verdicts)
        said = re.search(r"\): ([^.]*)\.\n", part)
        assert said is not None
        counts = {str(v): sum(each.split(" (")[0] == v for each in verdicts) for v in Verdict}
        assert said[1] == ", ".join(f"{n} {v}" for v, n in counts.items() if n)
    assert text.endswith("This page is the output of `selfloop reproduce --all --markdown`.\n")


def test_the_page_counts_and_lists_what_is_not_reproduced() -> None:
    good = row(Published.printed("1.0"), Measured(1.0, 0.01))
    bad = dataclasses.replace(good, statement="a|b*", ours=Measured(2.0, 0.01))
    entry = Entry(title="T 2024", source="arXiv:1", recipe="R.", rows=lambda: iter([good, bad]), found="F.")
    text = page({"one": (entry, [good, bad])})
    assert "1 papers" in text
    assert "2 rows, 1 reproduced, 1 not reproduced." in text
    assert "- [one](#one): a|b*, 1.0 there and 2 here" in text
    assert "| a\\|b\\* | w | the paper | 1.0 ± 0.05 | 2 ± 0.01 | – | +19.61 | **not reproduced** |" in text
    assert "- nothing." in page({"one": (entry, [good])})
    assert counted([]) == "nothing"
    assert read_in([good, bad, dataclasses.replace(good, seen=Seen.nowhere)]) == "the paper 2, not seen 1"
    assert "Rows by that:\nthe paper 2." in text
    assert cells(row(None, None, why="not seen"))[-1] == "not comparable (not seen)"


# The command


def test_the_command_lists_entries_and_refuses_what_is_none() -> None:
    shown = CliRunner().invoke(app, ["reproduce"])
    assert shown.exit_code == 0
    assert all(name in shown.output for name in ledger.names())
    for words, message in (
        (["reproduce", "kazdna"], "did you mean 'kazdan'"),
        (["reproduce", "--markdown"], "name an entry"),
        (["reproduce", "kazdan", "--all"], "leave the name out"),
    ):
        refused = CliRunner().invoke(app, words)
        assert isinstance(refused.exception, ConfigError)
        assert message in str(refused.exception)
        assert "\n" not in str(refused.exception)


def test_the_command_prints_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Entry(
        title="T 2024",
        source="arXiv:1",
        recipe="R.",
        rows=lambda: iter([row(Published.printed("1.0"), Measured(1.0, 0.01))]),
        found="F.",
    )
    monkeypatch.setattr(ledger, "entry", lambda name: quick)
    table = CliRunner().invoke(app, ["reproduce", "kazdan"])
    assert table.exit_code == 0
    assert "reproduced" in table.output
    assert "kazdan: 1 reproduced (0 s)" in table.stderr
    text = CliRunner().invoke(app, ["reproduce", "kazdan", "--markdown"])
    assert text.stdout == section("kazdan", quick, list(quick.rows()))
    whole = CliRunner().invoke(app, ["reproduce", "--all", "--markdown"])
    assert whole.stdout == page({name: (quick, list(quick.rows())) for name in ledger.names()})
