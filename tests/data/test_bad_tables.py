"""Tables with which nothing can be done, through every door: one line, and nothing written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import selfloop
from selfloop import Experiment, SelfloopError, run
from selfloop.advisor import advise
from selfloop.data.reading.summary import summary
from selfloop.data.reading.tables import EVERYTHING

N = 60
RNG = np.random.default_rng(0)
AGE = RNG.integers(18, 90, N).tolist()
GOOD: dict[str, list[Any]] = {
    "age": AGE,
    "city": RNG.choice(["Lille", "Lyon", "Nice"], N).tolist(),
    "paid": (2.0 * np.array(AGE) + RNG.normal(0, 5, N)).round(2).tolist(),
}


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    """Write columns as CSV, nothing where a value is missing."""
    lines = [",".join(columns)]
    lines += [",".join("" if x is None else str(x) for x in row) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


def ran(path: Path, out: Path) -> None:
    settings = {"name": "x", "data": {"name": "table", "path": str(path)}, "generator": "copula", "generations": 1}
    list(run(Experiment.build(settings), out))


def advised(path: Path, out: Path) -> None:
    advise(path, out=out, workers=0)


def judged(path: Path, out: Path) -> None:
    copies = [path.with_name(f"gen_{t}.csv") for t in range(2)]
    for copy in copies:
        copy.write_bytes(path.read_bytes())
    selfloop.judge(str(path), [str(copy) for copy in copies], out=out)


DOORS: dict[str, Callable[[Path, Path], None]] = {"run": ran, "advise": advised, "judge": judged}

BAD: dict[str, tuple[dict[str, list[Any]], str]] = {
    "as many levels as rows": (
        {"name": [f"u{i:03d}x" for i in range(N)]},
        "column 'name': each of its 60 rows has a value of its own, such as 'u000x': it names the rows",
    ),
    "nearly as many": (
        {"name": [f"u{min(i, N - 3):03d}x" for i in range(N)]},
        "column 'name': its 60 rows have 58 values, such as 'u000x': it names the rows",
    ),
    "words among numbers": (
        {"m": ["abc" if i in (5, 17) else i % 7 for i in range(N)]},
        "row 6 (line 7), column 'm': 'abc' is not a number, as in row 18 (line 19), and others are",
    ),
    "no such day": (
        {"d": ["2020-02-30" if i == 9 else f"2020-01-{i % 28 + 1:02d}" for i in range(N)]},
        "row 10 (line 11), column 'd': '2020-02-30': there is no such time",
    ),
    "dates written in two ways": (
        {"d": [f"{i % 28 + 1:02d}/01/2020" if i % 2 else f"2020-01-{i % 28 + 1:02d}" for i in range(N)]},
        "row 2 (line 3), column 'd': '02/01/2020' is not written as '2020-01-01', and both are dates or times",
    ),
    "times finer than numbers": (
        {"d": [f"{1 if i == 9 else 9999:04d}-01-01 00:00:{i:02d}.000001" for i in range(N)]},
        "column 'd': its times are finer than float64 tells apart over their range",
    ),
    "infinite": (
        {"v": ["inf" if i == 4 else 0.5 * i for i in range(N)]},
        "row 5 (line 6), column 'v': the value is inf",
    ),
    "beyond 2^53": ({"v": [2**53 + 1 + i for i in range(N)]}, "row 1 (line 2), column 'v' holds whole numbers beyond"),
    "too wide": (
        {f"c{i}": [0.5 * ((i + j) % 9) for j in range(N)] for i in range(4997)},
        "a row of its 5000 columns is 5000 numbers, and more than 2000 take minutes a fit",
    ),
    "too many levels": (
        {f"w{i}": [f"{i}v{(7 * j + i) % 50}" for j in range(N)] for i in range(40)},
        "a row of its 43 columns is 2005 numbers, 50 of them of 'w0', and more than 2000",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_taken_is_refused_in_one_line_and_nothing_is_written(
    what: str, door: str, tmp_path: Path
) -> None:
    more, why = BAD[what]
    table = write(tmp_path / "rows.csv", GOOD | more)
    with pytest.raises(SelfloopError, match=re.escape(why)) as refused:
        DOORS[door](table, tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_taken_is_told_of_by_the_summary(what: str, tmp_path: Path) -> None:
    more, why = BAD[what]
    table = write(tmp_path / "rows.csv", GOOD | more)
    try:
        found = summary(str(table), EVERYTHING).refused
    except SelfloopError as error:
        found = (str(error),)
    assert any(why in line for line in found)


def test_a_table_that_never_changes_has_nothing_to_model(tmp_path: Path) -> None:
    table = write(tmp_path / "rows.csv", {"a": ["x"] * N, "b": [1] * N})
    assert "no column ever changes" in summary(str(table), EVERYTHING).refused[0]


def test_what_is_declared_a_category_may_name_the_rows(tmp_path: Path) -> None:
    table = write(tmp_path / "rows.csv", GOOD | BAD["nearly as many"][0])
    data = {"name": "table", "path": str(table), "types": {"name": "category"}}
    split = Experiment.build({"name": "x", "data": data, "generator": "copula", "generations": 1}).data.load([0])
    assert split.train.shape[2] > 58
