"""Tables as people have them: what their columns are taken for, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfloop import DataError, Experiment
from selfloop.analysis.exports import write_table
from selfloop.analysis.sources import EventSet, of_run, read_events
from selfloop.cli.main import app
from selfloop.core.columns import Category, Constant, Number
from selfloop.core.errors import ConfigError
from selfloop.core.events import Mixed, Vectors
from selfloop.data import Table, array
from selfloop.data.base import Split
from selfloop.data.reading import sheets
from selfloop.metrics.base import METRICS, Evidence, Metric
from selfloop.runner import run


def _metric(name: str, needs: frozenset[str], seen: list[Evidence]) -> Metric:
    def compute(evidence: Evidence) -> torch.Tensor:
        seen.append(evidence)
        return torch.zeros(len(evidence.train), dtype=torch.float64)

    return Metric(
        name=name,
        title=name,
        definition="One.",
        version=1,
        unit="",
        compute=compute,
        needs=needs,  # type: ignore[arg-type]
    )


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.csv"
    path.write_text("x,y\n" + "".join(f"{i % 7},{i * i}\n" for i in range(40)))
    return path


def test_metrics_see_what_rows_are_and_which_column_is_to_be_predicted(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Evidence] = []
    assert METRICS.values()  # all are imported now, and not into what is put in their place
    for part in ("_members", "_origins"):
        monkeypatch.setattr(METRICS, part, dict(getattr(METRICS, part)))
    METRICS.register(_metric("of_columns", frozenset(("columns", "target")), seen))
    settings = {"name": "e", "generator": "gaussian", "generations": 1, "metrics": ["of_columns"]}
    experiment = Experiment(**settings, data={"name": "table", "path": str(plain), "target": "y"})
    list(run(experiment, tmp_path / "run"))
    assert seen[0].target == "y"
    assert isinstance(seen[0].events, Vectors)
    assert list(seen[0].events.table(seen[0].generated[0])) == ["x", "y"]
    with pytest.raises(ConfigError, match=r"metric of_columns needs a column to predict, .*: set data.target"):
        Experiment(**settings, data={"name": "table", "path": str(plain)})
    with pytest.raises(ConfigError, match="metric of_columns needs columns of a table, which data gaussian"):
        Experiment(**settings, data="gaussian")


N = 60


def people(rows: int = N) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, rows).astype(float),
            "income": rng.exponential(3000, rows).round(2),
            "job": rng.choice(["clerk", "nurse, night", "boss"], rows),
            "smoker": rng.choice([True, False], rows),
            "joined": pd.to_datetime("2010-01-01") + pd.to_timedelta(rng.integers(0, 4000, rows), "D"),
            "planet": "Earth",
            "score": rng.integers(1, 5, rows),
        }
    )
    frame.loc[::7, "age"] = np.nan
    frame.loc[1::9, "job"] = None
    return frame


def write(frame: pd.DataFrame, path: Path, **how: Any) -> Path:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False, **how)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".feather":
        pyarrow.feather.write_feather(frame, path)
    else:
        with sqlite3.connect(path) as database:
            frame.assign(joined=frame.joined.dt.strftime("%Y-%m-%d")).to_sql("people", database, index=False)
        database.close()
    return path


def parts(split: Split) -> dict[str, Any]:
    assert isinstance(split.events, Mixed)
    return {part.name: part for part in split.events.parts}


def text(path: Path, content: str) -> Table:
    (path / "t.csv").write_text(content, encoding="utf-8", newline="")
    return Table(path=str(path / "t.csv"))


def column(path: Path, values: list[str], **how: Any) -> Any:
    """Return what a column of text beside one of numbers is taken for."""
    file = path / "t.csv"
    with file.open("w", newline="") as opened:
        csv.writer(opened).writerows([["x", "other"], *([value, "pqr"[i % 3]] for i, value in enumerate(values))])
    split = Table(path=str(file), **how).load([0])
    return parts(split)["x"] if isinstance(split.events, Mixed) else split.events


# every form of file


@pytest.mark.parametrize("ending", ["csv", "parquet", "feather", "db"])
def test_a_table_is_read_modelled_and_written_in_its_own_form(tmp_path: Path, ending: str) -> None:
    frame, path = people(), write(people(), tmp_path / f"people.{ending}")
    split = Table(path=str(path), n=40, held_out=20).load([0])
    kinds = parts(split)
    smoker = Number if ending == "db" else Category  # SQLite has no truth values
    assert [*map(type, kinds.values())] == [Number, Number, Category, smoker, Number, Constant, Number]
    assert (kinds["age"].low, kinds["age"].decimals, kinds["age"].missing) == (frame.age.min(), 0, True)
    assert kinds["income"].decimals == 2
    assert kinds["job"].levels == ("boss", "clerk", "nurse, night")
    assert kinds["joined"].epoch == (str(frame.joined.min().date()), "D")
    every = torch.cat([split.train[0], split.held_out[0]])
    assert torch.equal(split.events.snap(every), every)
    out = tmp_path / f"out.{ending}"
    write_table(EventSet(source="x", x=every, events=split.events, kind="run"), out)
    again = read_events(str(out), like=split.events)
    assert torch.equal(again.x, every)
    if ending == "parquet":
        assert pq.read_schema(out).remove_metadata() == pq.read_schema(path).remove_metadata()
    if ending == "csv":
        assert sorted(out.read_text().splitlines()) == sorted(path.read_text().splitlines())


def test_text_is_written_with_the_marks_that_it_has(tmp_path: Path) -> None:
    rows = ["\ufeffa;day;w", *(f"{i},5;{i + 1:02d}.03.2021;{'=x' if i % 2 else ''}" for i in range(20))]
    content = "\r\n".join(rows) + "\r\n"
    split = text(tmp_path, content).load([0])
    out = tmp_path / "out.csv"
    write_table(EventSet(source="x", x=split.train[0], events=split.events, kind="run"), out)
    found = out.read_bytes().decode()
    assert found.startswith("\ufeffa;day;w\r\n")
    assert set(found.replace("'=x", "=x").split("\r\n")) <= set(content.split("\r\n"))
    assert "'=x" in found  # which no spreadsheet computes
    assert torch.equal(read_events(str(out), like=split.events).x, split.train[0])


def test_types_of_pandas_come_back(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "count": pd.array([None if i % 9 == 0 else i % 7 for i in range(60)], dtype="Int32"),
            "sure": pd.array([None if i % 11 == 0 else i % 2 == 0 for i in range(60)], dtype="boolean"),
            "x": np.linspace(0, 1, 60),
        },
        index=pd.Index(range(100, 160), name="row"),
    )
    for ending, read in (("parquet", pd.read_parquet), ("feather", pd.read_feather)):
        path, out = tmp_path / f"t.{ending}", tmp_path / f"out.{ending}"
        getattr(frame if ending == "parquet" else frame.reset_index(drop=True), f"to_{ending}")(path)
        split = Table(path=str(path)).load([0])
        write_table(EventSet(source="x", x=split.train[0], events=split.events, kind="run"), out)
        assert read(out).dtypes.to_dict() == frame.dtypes.to_dict()
        assert len(read(out)) == split.train.shape[1]


@pytest.mark.parametrize("ending", ["parquet", "feather"])
def test_months_are_written_as_days_where_there_are_no_months(tmp_path: Path, ending: str) -> None:
    rows = "".join(f"20{20 + i % 4}-{1 + i % 12:02d},{i}.5\n" for i in range(60))
    split = text(tmp_path, "month,x\n" + rows).load([0])
    out = tmp_path / f"out.{ending}"
    write_table(EventSet(source="x", x=split.train[0], events=split.events, kind="run"), out)
    found = {"parquet": pd.read_parquet, "feather": pd.read_feather}[ending](out)
    assert {str(day)[-2:] for day in found.month} == {"01"}


@pytest.mark.parametrize("separator", ["|", "\t", ";", " ", "^", ":"])
def test_fields_may_be_separated_by_any_mark(tmp_path: Path, separator: str) -> None:
    names = np.random.default_rng(0).choice(["a", "b c"], N).tolist()
    rows = "".join(f'{i % 7}.25{separator}"{name}"\n' for i, name in enumerate(names))
    assert parts(text(tmp_path, f"x{separator}w\n{rows}").load([0]))["w"].levels == ("a", "b c")


def test_plain_numbers_stay_vectors(tmp_path: Path) -> None:
    split = text(tmp_path, "a,b\n" + "".join(f"{i},{i * i}\n" for i in range(9))).load([0])
    assert isinstance(split.events, Vectors)
    assert split.events.unit == "standard deviations"


def test_a_database_is_read_and_nothing_else(tmp_path: Path) -> None:
    path = write(people(), tmp_path / "a.sqlite")
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE more (x)")
    database.close()
    before = path.read_bytes()
    found = Table(path=str(path), query="WITH a AS (SELECT age, job FROM people) SELECT * FROM a").load([0])
    assert list(parts(found)) == ["age", "job"]
    for how, words in {
        "": "holds 2 tables: set table to one of 'more', 'people'",
        "DROP TABLE people": "must be a SELECT",
        "WITH a AS (SELECT 1) DELETE FROM people": "does more than read",
        "SELECT load_extension('x')": "cannot be read",
        "SELECT * FROM people; DROP TABLE people": "holds several statements; give one SELECT",
        "SELECT writefile('x', 'y')": "no such function",
    }.items():
        with pytest.raises(DataError, match=words):
            Table(path=str(path), query=how or None).load([0])
    assert path.read_bytes() == before


def test_a_query_may_not_take_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "_PATIENCE", 0.05)
    endless = "WITH RECURSIVE a(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM a) SELECT max(i) FROM a"
    with pytest.raises(DataError, match="took longer than"):
        Table(path=str(write(people(), tmp_path / "a.db")), query=endless).load([0])


def test_large_text_is_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(people(), tmp_path / "a.csv", quoting=csv.QUOTE_NONNUMERIC)
    own = Table(path=str(path)).load([0])
    monkeypatch.setattr(sheets, "_LARGE", 0)
    again = Table(path=str(path)).load([0])
    assert own.events.plain() == again.events.plain()
    assert torch.equal(own.train, again.train)


# what columns are taken for


def repeated(*values: str, times: int = 10) -> list[str]:
    return [*values] * times


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (repeated("1", "2", "NA"), Number),
        (repeated("1", "2", "?"), Number),
        (repeated("01000", "01001"), Category),
        (repeated("yes", "no"), Category),
        (repeated("True", "False", ""), Category),
        (repeated("7"), Constant),
        (repeated("Earth"), Constant),
        (repeated(""), Constant),
        (repeated("Earth", ""), Category),
        (repeated("2020-01-31", "2020-02-01"), Number),
        (repeated("31/01/2020", "01/02/2020"), Number),
        (repeated("2020-01-31T10:00:01Z", "2020-02-01T00:00:00Z"), Number),
        (repeated("10:30", "23:59"), Number),
        (repeated("5 March 2020", "6 March 2020"), Number),
    ],
)
def test_types_are_found_out(tmp_path: Path, values: list[str], kind: type) -> None:
    found = column(tmp_path, values)
    assert isinstance(found, kind)
    assert found.missing == any(value in ("", "NA", "?") for value in values)


def test_types_may_be_set(tmp_path: Path) -> None:
    numbers = [str(i % 9) for i in range(40)]
    assert column(tmp_path, numbers, types={"x": "category"}).levels == tuple(range(9))
    assert column(tmp_path, numbers, types={"x": "normal"}).values
    assert not column(tmp_path, repeated("1", "2"), types={"x": "number"}).values
    ambiguous = [f"{i % 12 + 1:02d}/{i % 11 + 1:02d}/2020" for i in range(40)]
    assert column(tmp_path, ambiguous, types={"x": "%d/%m/%Y"}).epoch[1] == "D"
    with pytest.raises(
        DataError, match=r"may be %d/%m/%Y or %m/%d/%Y, and no row tells; write them as 2021-12-31, or set types"
    ):
        column(tmp_path, ambiguous)
    for kind, words in {
        "zip": "there are number, normal",
        "time": "holds no dates",
        "constant": "has several values",
    }.items():
        with pytest.raises(DataError, match=words):
            column(tmp_path, numbers, types={"x": kind})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([f"p{i}" for i in range(30)], "column 'x': each of its 30 rows has a value of its own, such as 'p0'"),
        ([str(i + 1) for i in range(30)], "column 'x': it numbers the rows; set leave_out"),
        (
            [*repeated("1", "2"), "old", "older"],
            r"row 21 \(line 22\), column 'x': 'old' is not a number, as in row 22 \(line 23\)",
        ),
        ([*repeated("2020-01-01", "2020-01-02"), "2020-02-30"], "row 21 .*'2020-02-30': there is no such time"),
        ([*repeated("2020-01-01", "2020-01-02"), "soon"], "row 21 .*'soon': it is not of the form %Y-%m-%d"),
        ([*repeated("1", "a"), "inf"], "'a' is not a number"),
        ([*repeated("1", ""), "inf"], "row 21 .*the value is infinite"),
        (["a", "b"], "has 2 rows; it needs 3"),
    ],
)
def test_what_is_refused_is_named(tmp_path: Path, values: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        column(tmp_path, values)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("wage", "has no column 'wage', the target"),
        ("planet", "the target 'planet' never changes"),
        ("job", "the target 'job' is missing in some rows"),
    ],
)
def test_targets_that_nothing_can_predict(tmp_path: Path, target: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Table(path=str(write(people(), tmp_path / "a.csv")), target=target).load([0])


def test_rows_held_out_are_read_by_the_columns_of_those_that_train(tmp_path: Path) -> None:
    train, other = write(people(), tmp_path / "a.csv"), tmp_path / "b.csv"
    write(people().head(5), other)
    split = Table(path=str(train), held_out_path=str(other)).load([0])
    assert torch.equal(
        split.held_out[0],
        Table(path=str(train), n=N - 1, held_out=1).load([0]).events.encode(split.events.table(split.held_out[0])),
    )
    odd = people().head(5)
    odd.loc[3, "job"] = "pirate"
    write(odd, other)
    with pytest.raises(DataError, match=r"b.csv', row 4 \(line 5\), column 'job': 'pirate' is no level of it"):
        Table(path=str(train), held_out_path=str(other)).load([0])


@settings(max_examples=40, deadline=None)
@given(
    words=st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=4), min_size=12),
    separator=st.sampled_from([",", ";", "\t", "|"]),
)
def test_words_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], separator: str
) -> None:
    path, file = tmp_path_factory.mktemp("t"), io.StringIO()
    csv.writer(file, delimiter=separator).writerows([["w", "x"], *([word, i % 3] for i, word in enumerate(words * 2))])
    try:
        split = Table(
            path=text(path, file.getvalue()).path, types={"w": "category"}, n=2 * len(words) - 1, held_out=1
        ).load([0])
    except DataError:
        return
    assert isinstance(split.events, Mixed)
    table = split.events.table(torch.cat([split.train[0], split.held_out[0]]))
    found = {None if word is None else str(word) for word in table["w"].tolist()}
    assert {word for word in found if word is not None} <= {*words}


# in memory, and from there on


def test_a_frame_is_the_table_that_holds_it(tmp_path: Path) -> None:
    frame = people()
    held, table = array(frame, target="smoker"), Table(path=str(write(frame, tmp_path / "a.parquet")))
    assert torch.equal(held.load([3]).train, table.load([3]).train)
    assert held.load([3]).events.plain() == table.load([3]).events.plain()
    assert held.predicted() == "smoker"
    arrow = pa.Table.from_pandas(frame, preserve_index=False)  # as other libraries hand it over
    assert torch.equal(array(arrow).load([3]).train, held.load([3]).train)
    assert isinstance(parts(array(frame.assign(score=frame.score.astype("category"))).load([0]))["score"], Category)


def test_intervals_of_pandas_are_categories_by_their_names() -> None:
    frame = pd.DataFrame({"x": np.linspace(0, 1, 60), "part": pd.cut(np.linspace(0, 1, 60), [-1, 0.3, 0.7, 2])})
    kinds = parts(array(frame).load([0]))
    assert set(kinds["part"].levels) == {"(-1.0, 0.3]", "(0.3, 0.7]", "(0.7, 2.0]"}


def test_a_run_is_read_without_the_table_and_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(people(), tmp_path / "a.csv")
    experiment = Experiment(
        name="e", data={"name": "table", "path": str(path)}, generator="gaussian", generations=1, metrics=["mean_error"]
    )
    list(run(experiment, tmp_path / "run"))
    path.rename(tmp_path / "b.csv")
    rows = of_run(tmp_path / "run", "1", 0)
    assert isinstance(rows.events, Mixed)
    jobs = {"clerk", "nurse, night", "boss", None}
    assert set(rows.events.table(rows.x)["job"].tolist()) <= jobs
    assert app(["export", str(tmp_path / "run"), str(tmp_path / "rows.csv")], standalone_mode=False) == 0
    found = pd.read_csv(tmp_path / "rows.csv")
    assert list(found) == list(people())
    again = read_events(str(tmp_path / "rows.csv"), like=rows.events)
    assert torch.equal(again.x, rows.x.double())


def test_a_table_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(people().assign(id=[f"p{i}" for i in range(N)]), tmp_path / "a.csv")
    assert app(["data", str(path), "--json"], standalone_mode=False) == 2
    shown = json.loads(capsys.readouterr().out)
    assert [x["name"] for x in shown["columns"]] == list(people())
    assert "leave_out: [id]" in shown["refused"][0]
    assert app(["data", str(path), "--leave-out", "id", "--types", "{score: category}"], standalone_mode=False) == 0
    assert "4 categories" in capsys.readouterr().out
