"""Columns on the page: bars, associations and levels of a table, generation by generation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import DIGITS, MOONS, FakeRun, experiment
from test_page import NASTY, Page, page_of

from selfloop.core.columns import Category, Number
from selfloop.core.forms import COMMAS
from selfloop.metrics.association import associations
from selfloop.metrics.marginals import shape_errors
from selfloop.metrics.tables import Table
from selfloop.report import read, write_report
from selfloop.report.columns import MOST, _bars, _Levels, columns
from selfloop.report.page import LIMIT

WORD = NASTY.strip()  # as names of columns are read


def written(path: Path, table: dict[str, list[Any]]) -> dict[str, Any]:
    """Write a table and return its data settings."""
    import csv

    file = path / "rows.csv"
    with file.open("w", newline="", encoding="utf-8") as text:
        writer = csv.writer(text)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    return {"name": "table", "path": str(file), "held_out": 20}


def mixed(path: Path, n: int = 200) -> dict[str, Any]:
    """Return a table of a number with gaps, a day, and two categories, one of nasty words."""
    rng = np.random.default_rng(0)
    words = rng.choice(["a", "=cmd()", NASTY, "</script>"], n, p=[0.6, 0.3, 0.09, 0.01])
    return written(
        path,
        {
            "amount": [x if i % 5 else "" for i, x in enumerate(rng.normal(size=n).round(2))],
            NASTY: list(words),
            "day": [f"2024-03-{1 + int(k):02d}" for k in rng.integers(0, 28, n)],
            "count": list(rng.poisson(3, n)),
            "big": list(rng.choice([True, False], n)),
        },
    )


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path, experiment(mixed(tmp_path), seeds=2, generations=4), last=4, diverge={6: 3})


def test_of_every_setting_what_is_drawn_is_what_the_metrics_see(run: FakeRun) -> None:
    found = columns(run, read(run), 26)
    assert found["generations"] == [0, 1, 2, 3, 4]
    assert [setting["label"] for setting in found["settings"]] == [of.label for of in read(run).settings]
    assert (found["of"], found["worst"], found["paired"], found["categories"]) == (5, [], [], True)
    ended = found["settings"][3]
    assert [frame is None for frame in ended["frames"]] == [False, False, False, True, True]
    assert ended["ended"] == "diverged"
    first = found["settings"][0]
    assert [column["name"] for column in first["columns"]] == ["amount", WORD, "day", "count", "big"]
    for frame in first["frames"]:
        for column, shares in zip(first["columns"], frame["shares"], strict=True):
            assert len(shares) == len(column["labels"]) == len(column["real"])
            assert sum(shares) == pytest.approx(10_000, abs=len(shares))
    kept = run.real(0)
    real, end = (Table.of(kept.events.table(x), kept.events.parts) for x in (kept.rows, run.samples(4, 0)))
    error = shape_errors(real, end)["count"]
    assert first["frames"][4]["errors"][3] == pytest.approx(error, abs=5e-4)
    upper = np.triu_indices(5, 1)
    assert first["frames"][4]["pairs"] == np.rint(100 * associations(end)[upper]).tolist()
    assert first["pairs"]["real"] == np.rint(100 * associations(real)[upper]).tolist()


def test_times_and_missing_values_are_bars_too(run: FakeRun) -> None:
    first = columns(run, read(run), 1)["settings"][0]
    amount, words, day, count, big = (column["labels"] for column in first["columns"])
    assert amount[-1] == "missing"
    assert amount[0].startswith("below -")
    assert day[0] == "below 2024-03-03"  # two days a bar
    assert count[:2] == ["below 1", "1"]
    assert words[:2] == ["a", "=cmd()"]
    assert {*big} == {"True", "False"}
    assert first["columns"][0]["real"][-1] == pytest.approx(2000, abs=300)


@pytest.mark.parametrize("column", [Number("x", "int64", 0, 99), Number("x", "float64", 0, 99, decimals=0)])
def test_bars_of_whole_numbers_hold_the_same_count_of_them(column: Number) -> None:
    table = Table(("x",), {"x": np.arange(1000) % 100.0}, {})
    bars = _bars(column, table, COMMAS)
    assert len(bars.labels) <= 24
    shares = bars.shares(table)
    assert set(shares[1:-1]) == {500}
    assert sum(shares) == 10_000


def test_each_of_few_whole_numbers_has_its_bar() -> None:
    table = Table(("x",), {"x": np.array([0.0, 1.0, 1.0, 1.0])}, {})
    bars = _bars(Number("x", "int64", 0, 1), table, COMMAS)
    assert (bars.labels, list(bars.shares(table))) == (["below 1", "1 or more"], [2500, 7500])
    table = Table(("x",), {"x": np.array([2.0, 3.0, 4.0, 4.0])}, {})
    bars = _bars(Number("x", "int64", 2, 4), table, COMMAS)
    assert (bars.labels, list(bars.shares(table))) == (["below 3", "3", "4 or more"], [2500, 2500, 5000])


@pytest.mark.parametrize("values", [[3.0, 3.0], [np.nan, np.nan], [0.0, 1e300], [-0.0, 0.0, np.nan]])
@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_bars_of_odd_numbers(values: list[float], dtype: str) -> None:
    table = Table(("x",), {"x": np.array(values)}, {})
    bars = _bars(Number("x", dtype, 0, 1, missing=True), table, COMMAS)
    shares = bars.shares(table)
    assert len(shares) == len(bars.labels)
    assert sum(shares) == pytest.approx(10_000, abs=2)
    assert shares[-1] == pytest.approx(10_000 * np.isnan(values).mean(), abs=1)


def test_many_levels_share_a_bar_and_none_is_missed() -> None:
    codes = np.repeat(np.arange(30), np.arange(30)[::-1] + 1)
    column = Category("c", tuple(f"{'long ' * 20}{i}" for i in range(30)), missing=True)
    table = Table(("c",), {}, {"c": np.append(codes, [-1] * 35)})
    bars = _bars(column, table, COMMAS)
    assert bars.labels[-2:] == ["21 other levels", "missing"]
    assert len(bars.labels) == 11
    assert all(len(label) <= 40 for label in bars.labels)
    shares = bars.shares(table)
    assert sum(shares) == pytest.approx(10_000, abs=11)
    assert shares[0] == round(10_000 * 30 / 500)
    assert shares[-1] == 700


def test_levels_are_counted_by_how_rare_they_are() -> None:
    codes = np.array([0] * 900 + [1] * 60 + [2] * 30 + [3] * 9 + [-1])
    real = Table(("c",), {}, {"c": codes})
    levels = _Levels.of(real, {"c": Category("c", ("w", "x", "y", "z"), missing=True)})
    assert [(band["label"], band["levels"]) for band in levels.bands] == [
        ("in 10 % of the rows or more", 1),
        ("in 1 to 10 %", 2),
        ("in 0.1 to 1 %", 2),
    ]
    found = levels.left(replace(real, codes={"c": np.array([0, 2, 3])}))
    assert found == {"left": [1, 1, 1], "lost": ["c: missing", "c: x"], "gone": 2}


@pytest.mark.slow
def test_of_a_wide_table_the_worst_columns_are_drawn_and_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table: dict[str, list[Any]] = {f"x{i}": list(rng.normal(size=60).round(3)) for i in range(99)}
    run = FakeRun(tmp_path, experiment(written(tmp_path, table | {"w": ["u", "v", "v"] * 20}), seeds=1), last=1)
    found = columns(run, read(run), 26)
    assert found["of"] == 100
    assert len(found["worst"]) == len(found["paired"]) == MOST
    assert [column["name"] for column in found["settings"][0]["columns"]] == found["worst"]
    page = page_of(run, [])
    assert len(page.encode()) < LIMIT
    text = " ".join(" ".join(Page(page).text).split())
    assert f"{MOST} of 100 columns are drawn" in text
    assert ", ".join(found["worst"]) in text


@pytest.mark.slow
def test_words_of_a_table_never_become_markup(run: FakeRun) -> None:
    text = write_report(run).read_text(encoding="utf-8")
    page = Page(text)
    assert "columns-title" in [section.get("aria-labelledby") for section in page.all("section")]
    assert "Samples by generation" not in " ".join(page.text)  # two coordinates of one-hot rows show nothing
    assert not (run.path / "report" / "samples.png").exists()
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert "=cmd()" in text
    assert "<script>alert" not in text


@pytest.mark.slow
@pytest.mark.parametrize("data", [MOONS, DIGITS])
def test_other_rows_have_no_columns(tmp_path: Path, data: dict[str, Any]) -> None:
    run = FakeRun(tmp_path, experiment(data, seeds=1, generations=1), last=1)
    assert columns(run, read(run), 26) == {}
    assert 'id="columns"' not in page_of(run, [])


def test_a_table_of_numbers_has_both(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = written(tmp_path, {"a": list(rng.normal(size=60)), "b": list(rng.normal(size=60))})
    run = FakeRun(tmp_path, experiment(data, seeds=1, generations=1), last=1)
    assert [column["name"] for column in columns(run, read(run), 3)["settings"][0]["columns"]] == ["a", "b"]
    text = " ".join(Page(page_of(run, [])).text)
    assert "Samples by generation" in text
    assert "Columns by generation" in text
    assert "Levels that are left" not in text


def test_bars_of_times_of_a_day_have_no_date() -> None:
    column = Number("at", "datetime64", 0, 80_000, epoch=("1970-01-01T00:00:00", "s"))
    table = Table(("at",), {"at": np.arange(1000) * 80.0}, {})
    bars = _bars(column, table, replace(COMMAS, times={"at": "%-H:%M"}))
    assert bars.labels[0] == "below 1:01"
    assert "1970" in _bars(column, table, COMMAS).labels[0]
