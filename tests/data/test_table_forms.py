"""What a table's file writes is what samples are written as: blanks, digits, offsets, times of a day, types."""

import csv
import datetime
import io
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfloop.analysis.exports import write_table
from selfloop.analysis.sources import EventSet, held, read_events
from selfloop.cli.main import app
from selfloop.core.columns import Category, Constant, Number
from selfloop.core.errors import DataError
from selfloop.core.events import Mixed
from selfloop.data import array
from selfloop.data.base import Split
from selfloop.data.reading.summary import summary
from selfloop.data.reading.tables import EVERYTHING, Choice, read_like
from selfloop.data.reading.times import as_written, read_times, write_times
from selfloop.data.table import Table

N = 60


def written(split: Split, path: Path) -> Path:
    """Write all rows of a table that was split, in the form of its file or of another."""
    every = torch.cat([split.train[0], split.held_out[0]])
    write_table(EventSet(source="x", x=every, events=split.events, kind="run"), path)
    return path


def lines(path: Path) -> list[str]:
    return sorted(path.read_text(encoding="utf-8").splitlines())


def parts(split: Split) -> dict[str, Any]:
    assert isinstance(split.events, Mixed)
    return {part.name: part for part in split.events.parts}


def text(path: Path, header: str, rows: list[str], **how: Any) -> Split:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return Table(path=str(path), **how).load([0])


# blanks


@pytest.mark.parametrize("ending", ["csv", "tsv", "db", "parquet"])
def test_words_that_differ_by_blanks_are_two_levels_wherever_they_stand(tmp_path: Path, ending: str) -> None:
    frame = pd.DataFrame({"job": [(" lead", "lead ", "lead")[i % 3] for i in range(N)], "pay": np.arange(N) % 7 + 0.5})
    path = tmp_path / f"t.{ending}"
    if ending == "db":
        with sqlite3.connect(path) as database:
            frame.to_sql("t", database, index=False)
        database.close()
    elif ending == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if ending == "tsv" else ",")
    split = Table(path=str(path)).load([0])
    assert set(parts(split)["job"].levels) == {" lead", "lead ", "lead"}
    if ending in ("csv", "tsv"):
        assert lines(written(split, tmp_path / f"out.{ending}")) == lines(path)
    frame.assign(job="lead  ").to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(DataError, match="'lead  ' is no level of it"):
        read_like(str(tmp_path / "other.csv"), split.events)


def test_blanks_around_numbers_times_and_what_is_missing_do_not_matter(tmp_path: Path) -> None:
    rows = [f" {i % 7} ,{i % 5}.5 , 2021-03-{i % 28 + 1:02d} ,{' NA ' if i % 4 else 'a'}" for i in range(N)]
    kinds = parts(text(tmp_path / "t.csv", "a, b,c,d", rows, types={"a": "category"}))
    assert kinds["a"].levels == (0, 1, 2, 3, 4, 5, 6)
    assert isinstance(kinds["b"], Number)
    assert kinds["c"].epoch[1] == "D"
    assert kinds["d"].levels == ("a",)
    assert kinds["d"].missing
    (tmp_path / "o.csv").write_text("a,b,c,d\n" + "3 , 0.5,2021-03-02, a\n" * 3)
    with pytest.raises(DataError, match="' a' is no level of it"):
        read_like(str(tmp_path / "o.csv"), Mixed(tuple(kinds.values())))


def test_a_blank_behind_every_separator_of_the_header_is_part_of_them(tmp_path: Path) -> None:
    split = text(tmp_path / "t.csv", "x, job", [f'{i % 7}.5, "{"ab"[i % 2]}, c "' for i in range(N)])
    assert set(parts(split)["job"].levels) == {"a, c ", "b, c "}


def test_blanks_in_large_text_are_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for header in ("job,x", "job, x, c"):
        rows = [f"{(' a', 'a ', 'a')[i % 3]}, {i % 7}.5{', b' if 'c' in header else ''}" for i in range(N)]
        one = text(tmp_path / "t.csv", header, rows)
        monkeypatch.setattr("selfloop.data.reading.sheets._LARGE", 0)
        assert text(tmp_path / "t.csv", header, rows).events.plain() == one.events.plain()
        monkeypatch.undo()


# digits


@pytest.mark.parametrize(
    "values",
    [
        ["10:12:43.512", "09:00:00.000", "23:59:59.020"],
        ["2021-03-01 10:12:43.5", "2021-03-02 10:12:44.0"],
        ["2021-03-01T10:12:43.512345+02:00", "2021-03-02T10:12:44.000000+02:00"],
        ["10:12:43", "10:12:44.5", "10:12:45.25"],
        ["5 March 2021", "15 March 2021", "6 April 2021"],
        ["05 March 2021", "15 March 2021"],
        ["Mar 5, 2021", "Mar 15, 2021"],
        ["3/25/2021", "12/5/2021", "1/1/2021"],
        ["5.3.2021", "25.12.2021"],
        ["2021-3-1 9:05", "2021-12-24 19:05"],
        ["0:05", "9:30", "23:59"],
        ["2021-3", "2021-12"],
    ],
)
def test_times_are_written_with_the_digits_they_have(tmp_path: Path, values: list[str]) -> None:
    rows = [f'"{values[i % len(values)]}",{i % 5}.5' for i in range(N)]
    split = text(tmp_path / "t.csv", "when,x", rows)
    out = written(split, tmp_path / "out.csv")
    assert sorted(pd.read_csv(out).when) == sorted(values[i % len(values)] for i in range(N))
    assert torch.equal(
        torch.as_tensor(read_like(str(out), split.events)), torch.cat([split.train[0], split.held_out[0]])
    )


@settings(max_examples=100, deadline=None)
@given(
    times=st.lists(st.datetimes(datetime.datetime(1000, 1, 1)), min_size=1, max_size=9),
    form=st.sampled_from(
        ["%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S.%3f", "%H:%M:%S.%-f", "%-d.%-m.%Y", "%-d %B %Y %-H:%M", "%m/%d/%Y"]
    ),
)
def test_what_is_written_by_a_form_is_found_to_have_it(times: list[datetime.datetime], form: str) -> None:
    values = np.array(times, "datetime64[us]")
    texts = write_times(values, form)
    found = as_written(form, pa.chunked_array([texts]))
    assert write_times(values, found) == texts
    read = read_times(pa.chunked_array([texts]), found)
    assert not (read.other | read.impossible).any()
    assert write_times(read.values, found) == texts


@pytest.mark.parametrize(("separator", "decimal"), [(",", "."), (";", ",")])
@pytest.mark.parametrize("words", [True, False])
def test_fixed_decimals_stay(tmp_path: Path, separator: str, decimal: str, words: bool) -> None:
    rows = [[f"{i % 7}.50", f"{i % 3 - 1}.0", f"{i / 8 + i % 2 / 16}", "ab"[i % 2]] for i in range(N)]
    rows = [[cell.replace(".", decimal) for cell in row[: 3 + words]] for row in rows]
    split = text(tmp_path / "t.csv", separator.join("abcd"[: 3 + words]), [separator.join(row) for row in rows])
    found = list(csv.reader(io.StringIO(written(split, tmp_path / "o.csv").read_text()), delimiter=separator))[1:]
    assert sorted(row[0] for row in found) == sorted(row[0] for row in rows)
    assert sorted(row[1] for row in found) == sorted(row[1] for row in rows)
    assert "-0.0".replace(".", decimal) not in {row[1] for row in found}
    uneven = [sorted(float(row[2].replace(decimal, ".")) for row in each) for each in (found, rows)]
    assert uneven[0] == pytest.approx(uneven[1])


def test_decimals_of_one_value_and_beside_missing_ones_stay(tmp_path: Path) -> None:
    rows = [f"3.50,{'' if i % 3 else f'{i % 4}.10'},{'2.00' if i % 2 else ''},{'ab'[i % 2]}" for i in range(N)]
    split = text(tmp_path / "t.csv", "a,b,c,d", rows)
    assert lines(written(split, tmp_path / "out.csv")) == lines(tmp_path / "t.csv")


# offsets, and times of a day


@pytest.mark.parametrize("zone", ["Europe/Berlin", "UTC", "+05:30"])
@pytest.mark.parametrize("unit", ["s", "us", "ns"])
@pytest.mark.parametrize("to", ["csv", "db"])
def test_times_of_a_zone_keep_their_offset(tmp_path: Path, zone: str, unit: str, to: str) -> None:
    when = pd.date_range("2021-03-27 23:30", periods=N, freq="37min", tz="UTC").tz_convert(zone).as_unit(unit)
    frame = pd.DataFrame({"when": when, "x": np.arange(N) % 7})
    frame.loc[::9, "when"] = pd.NaT
    frame["once"] = frame.when.iloc[1]
    frame.to_parquet(tmp_path / "t.parquet")
    split = Table(path=str(tmp_path / "t.parquet")).load([0])
    out = written(split, tmp_path / f"out.{to}")
    if to == "csv":
        found = pd.read_csv(out)
    else:
        with sqlite3.connect(out) as database:
            found = pd.read_sql("SELECT * FROM samples", database)
        database.close()
    assert sorted(pd.to_datetime(found.when, utc=True).dropna()) == sorted(frame.when.dropna())
    assert set(found.when.dropna().str[-6:]) <= {"+01:00", "+02:00", "+00:00", "+05:30"}
    assert set(pd.to_datetime(found.once, utc=True)) == {frame.when[1]}
    again = written(split, tmp_path / "out.parquet")
    assert pd.read_parquet(again).dtypes.to_dict() == pd.read_parquet(tmp_path / "t.parquet").dtypes.to_dict()


@pytest.mark.parametrize("fraction", ["", ".250"])
@pytest.mark.parametrize("source", ["csv", "parquet", "db"])
def test_times_of_a_day_have_no_date(tmp_path: Path, fraction: str, source: str) -> None:
    clock = [f"{i % 24:02d}:{i % 60:02d}:07{fraction}" for i in range(N)]
    path = tmp_path / f"t.{source}"
    frame = pd.DataFrame({"at": clock, "x": np.arange(N) % 7, "word": ["ab"[i % 2] for i in range(N)]})
    if source == "csv":
        frame.to_csv(path, index=False)
    elif source == "parquet":
        frame.assign(at=[datetime.time.fromisoformat(each) for each in clock]).to_parquet(path)
    else:
        with sqlite3.connect(path) as database:
            frame.to_sql("t", database, index=False)
        database.close()
    split = Table(path=str(path)).load([0])
    shown = {line.name: line for line in summary(str(path), EVERYTHING)}["at"]
    assert shown.type == "times of day"
    assert shown.values == f"{min(clock)} … {max(clock)}"
    assert sorted(each[: len(clock[0])] for each in pd.read_csv(written(split, tmp_path / "o.csv"))["at"]) == sorted(
        clock
    )
    kind = pq.read_schema(written(split, tmp_path / "o.parquet")).field("at").type
    assert pa.types.is_string(kind) if source == "db" else pa.types.is_time(kind)
    assert sorted(map(str, pd.read_parquet(tmp_path / "o.parquet")["at"]))[0][: len(clock[0])] == min(clock)
    out = written(split, tmp_path / "o.db")
    with sqlite3.connect(out) as database:
        name, declared = database.execute("SELECT name, sql FROM sqlite_master").fetchone()
        (low,) = database.execute(f'SELECT min("at") FROM {name}').fetchone()
    database.close()
    assert low[: len(clock[0])] == min(clock)
    assert '"at" TEXT, "x" INTEGER, "word" TEXT' in declared


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_one_time_in_all_rows_is_written_and_read_as_it_stands(tmp_path: Path, ending: str) -> None:
    frame = pd.DataFrame(
        {"day": "01.03.2021", "at": "10:30", "x": np.arange(N) % 7, "word": [("a", "b")[i % 2] for i in range(N)]}
    )
    frame.loc[::5, "at"] = None
    if ending == "parquet":
        frame = frame.assign(
            day=pd.to_datetime("2021-03-01"), at=[None if i % 5 == 0 else datetime.time(10, 30) for i in range(N)]
        )
    path = tmp_path / f"t.{ending}"
    frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
    split = Table(path=str(path), held_out_path=str(written(Table(path=str(path)).load([0]), tmp_path / f"o.{ending}")))
    kinds = parts(split.load([0]))
    assert isinstance(kinds["day"], Constant)
    assert isinstance(kinds["at"], Category)
    if ending == "csv":
        assert lines(tmp_path / "o.csv") == lines(path)
    else:
        assert pq.read_schema(tmp_path / "o.parquet").types == pq.read_schema(path).types
        assert "10:30:00" in written(split.load([0]), tmp_path / "p.csv").read_text()
        assert "1970" not in (tmp_path / "p.csv").read_text()


# types


def test_categories_of_pandas_are_categories_in_every_file(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "stars": pd.Categorical([i % 4 + 1 for i in range(N)]),
            "grade": pd.Categorical([i % 3 / 2 for i in range(N)]),
            "x": np.arange(N) % 7,
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_feather(tmp_path / "t.feather")
    found = []
    for ending, read in (("parquet", pd.read_parquet), ("feather", pd.read_feather)):
        split = Table(path=str(tmp_path / f"t.{ending}")).load([0])
        found.append(split.events.plain())
        assert isinstance(parts(split)["stars"], Category)
        assert isinstance(parts(split)["grade"], Category)
        again = read(written(split, tmp_path / f"out.{ending}"))
        assert [*map(str, again.dtypes)] == [*map(str, read(tmp_path / f"t.{ending}").dtypes)]
        assert sorted(again.stars) == sorted(frame.stars)
    assert found[0] == found[1]


def test_a_database_declares_the_types_of_its_columns(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "n": [None if i % 4 == 0 else i % 7 for i in range(N)],
            "x": np.arange(N) % 7 / 8,
            "word": [("a", "1", None)[i % 3] for i in range(N)],
            "sure": [i % 2 == 0 for i in range(N)],
            "k": pd.array([None if i % 4 == 0 else i % 7 for i in range(N)], "Int64"),
            "day": pd.date_range("2021-01-01", periods=N),
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    out = written(Table(path=str(tmp_path / "t.parquet")).load([0]), tmp_path / "o.db")
    with sqlite3.connect(out) as database:
        types = {row[1]: row[2] for row in database.execute("PRAGMA table_info(samples)")}
        words = {row[0] for row in database.execute("SELECT typeof(word) FROM samples")}
    database.close()
    assert types == {"n": "REAL", "x": "REAL", "word": "TEXT", "sure": "INTEGER", "k": "INTEGER", "day": "TEXT"}
    assert words == {"text", "null"}


@pytest.mark.parametrize(
    "query", ["SELECT * FROM t; SELECT 1", "SELECT 1; DROP TABLE t", "WITH a AS (SELECT 1) SELECT 2; SELECT 3"]
)
def test_two_statements_are_told_from_a_damaged_file(tmp_path: Path, query: str) -> None:
    with sqlite3.connect(tmp_path / "t.db") as database:
        database.execute("CREATE TABLE t (x)")
    database.close()
    with pytest.raises(DataError, match=r"holds several statements; give one SELECT$"):
        summary(str(tmp_path / "t.db"), Choice(query=query))


# what is told of a table


def test_what_is_refused_goes_to_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    days = ("0001-01-01", "9999-12-31", "2021-03-04", "2021-03-05")
    rows = [f"p{i},{days[i % 4]},{' a' if i % 2 else 'b'},7" for i in range(N)]
    text(tmp_path / "t.csv", "id,day,word,one", rows, leave_out=["id"])

    def shown(*words: str) -> tuple[int, str, str]:
        code = app(["data", str(tmp_path / "t.csv"), *words], standalone_mode=False)
        return code, *capsys.readouterr()

    for json in ((), ("--json",)):
        code, out, errors = shown(*json)
        assert (code, errors.count("\n")) == (2, 1)
        assert "it names the rows; set leave_out: [id]" in errors
        assert json or "names the rows" not in out
    code, out, errors = shown("--leave-out", "id", "--target", "word")
    assert (code, errors) == (0, "")
    assert "; to predict: word, 2 categories" in out
    assert "' a' 30" in out
    assert "the year 0001 in 15 of 60 rows" in out
    assert "the year 9999 in 15 of 60 rows" in out
    for target, why in {"none": "has no column 'none', the target", "one": "the target 'one' never changes"}.items():
        code, out, errors = shown("--leave-out", "id", "--target", target)
        assert code == 2
        assert why in errors


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([f"p{i}" for i in range(N)], "it names the rows; leave the column out"),
        ([str(i + 1) for i in range(N)], "it numbers the rows; leave the column out"),
        (["x", *"12345" * 11], "correct it, or leave the column out"),
        (["1/2/2021", "3/4/2021"] * 10, "no row tells; write them as 2021-12-31"),
        (["2021-01-02", "3.4.2021"] * 10, "write them alike"),
        (["2021-02-30", *["2021-03-01", "2021-03-02"] * 10], "there is no such time; correct it"),
    ],
)
def test_what_judge_refuses_is_to_be_put_right_in_the_file(tmp_path: Path, values: list[str], words: str) -> None:
    path = tmp_path / "t.csv"
    frame = pd.DataFrame({"x": values, "y": ["abc"[i % 3] for i in range(len(values))]})
    frame.to_csv(path, index=False)
    doors = [(lambda: read_events(str(path)), lambda: Table(path=str(path)).load([0]))]
    if values[0] != "x":  # which is a word among words to pandas
        doors.append((lambda: held(pd.read_csv(path), "frame"), lambda: array(pd.read_csv(path))))
    for judged, declared in doors:
        with pytest.raises(DataError) as caught:
            judged()
        assert str(caught.value).removesuffix(" (--leave-out x)").endswith(words)
        assert "types" not in str(caught.value)
        with pytest.raises(DataError, match=r"types: \{x:"):
            declared()


def test_of_databases_judge_takes_those_of_one_table(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "t.db") as database:
        database.executescript("CREATE TABLE a (x); CREATE TABLE b (x)")
    database.close()
    with pytest.raises(DataError, match=r"holds 2 tables: give one that holds one$"):
        read_events(str(tmp_path / "t.db"))


def test_folders_on_the_way_are_made_as_by_out(tmp_path: Path) -> None:
    split = text(tmp_path / "t.csv", "x,y", [f"{i % 7}.5,{i % 5}.25" for i in range(N)])
    assert len(lines(written(split, tmp_path / "a" / "b" / "x.csv"))) == N + 1


def test_a_number_of_rows_among_numbers_alone_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["id,y,n", *(f"{i},{i % 5}.25,{i % 7}" for i in range(30))]))
    (note,) = summary(str(path), EVERYTHING).notes
    assert note == (
        "column 'id' numbers the rows, and is taken as a number like the others: leave it out (--leave-out id) if it "
        "is an id"
    )
    assert summary(str(path), Choice(types={"id": "number"})).notes == ()
    assert summary(str(path), Choice(leave_out=["id"])).notes == ()
