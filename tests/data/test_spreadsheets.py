"""Tables as pandas and spreadsheets write them: indices, separators and decimal marks are recognised or asked for."""

from __future__ import annotations

import csv
import io
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

from selfloop import DataError
from selfloop.data import array
from selfloop.data.reading.tables import Coded, read_rows

ROWS = np.random.default_rng(0).normal([170, 70], [10, 12], size=(40, 2))
FRAME = pd.DataFrame(ROWS, columns=["height", "weight"])


def read(path: Path, content: str, columns: list[str] | None = None) -> Any:
    file = path / "t.csv"
    file.write_text(content, encoding="utf-8", newline="")
    return read_rows(str(file), columns)


def refused(path: Path, content: str, *words: str) -> str:
    with pytest.raises(DataError) as caught:
        read(path, content)
    message = str(caught.value)
    assert message.isprintable()
    for word in words:
        assert word in message
    return message


# an index


def test_an_index_that_pandas_wrote_is_no_column(tmp_path: Path) -> None:
    shuffled = FRAME.sample(frac=0.5, random_state=1)
    for frame in (FRAME, shuffled, FRAME.set_index(FRAME.index + 1)):
        rows = read(tmp_path, frame.to_csv())
        assert rows.columns == ["height", "weight"]
        np.testing.assert_array_equal(rows.values, frame.to_numpy())
        again = pd.read_csv(io.StringIO(frame.to_csv()))  # with a column "Unnamed: 0"
        for content in (again.to_csv(index=False), again.to_csv()):
            assert read(tmp_path, content).columns == ["height", "weight"]
        again.to_parquet(tmp_path / "again.parquet")
        assert read_rows(str(tmp_path / "again.parquet")).columns == ["height", "weight"]
        assert array(again).columns == ["height", "weight"]


@pytest.mark.parametrize(
    "index",
    [
        None,
        pd.RangeIndex(40),
        pd.Index(np.arange(40)[::-1]),
        pd.Index([f"p{i}" for i in range(40)]),
        pd.Index(np.linspace(0, 1, 40), name="time"),
        pd.MultiIndex.from_product([range(4), range(10)]),
    ],
)
def test_an_index_in_parquet_is_no_column(tmp_path: Path, index: pd.Index | None) -> None:
    path = tmp_path / "t.parquet"
    FRAME.set_index(FRAME.index if index is None else index).to_parquet(path, index=True)
    rows = read_rows(str(path))
    assert rows.columns == ["height", "weight"]
    np.testing.assert_array_equal(rows.values, ROWS)
    table = pq.read_table(path).replace_schema_metadata(None)  # as other programs pass it on
    if "__index_level_0__" in table.column_names:
        pq.write_table(table, path)
        assert read_rows(str(path)).columns == ["height", "weight"]


def test_an_index_that_is_named_is_a_column(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    FRAME.set_index(pd.Index(np.linspace(0, 1, 40), name="time")).to_parquet(path)
    assert read_rows(str(path), ["time", "weight"]).columns == ["time", "weight"]
    content = FRAME.rename(columns={"height": "Unnamed: 0"}).to_csv(index=False)
    assert read(tmp_path, content, ["Unnamed: 0"]).columns == ["Unnamed: 0"]


def test_a_column_that_may_be_an_index_is_refused(tmp_path: Path) -> None:
    """That of two frames put together numbers no rows, and is no data either."""
    together = pd.read_csv(io.StringIO(pd.concat([FRAME, FRAME]).to_csv()))
    for content in (together.to_csv(index=False), together.to_csv()):
        refused(tmp_path, content, "'Unnamed: 0'", "does not number the rows", "rename it")
        assert read(tmp_path, content, ["height", "weight"]).columns == ["height", "weight"]
    refused(tmp_path, FRAME.rename(columns={"height": "Unnamed: 0"}).to_csv(index=False), "rename it")


def test_columns_that_only_look_like_an_index_stay(tmp_path: Path) -> None:
    last = FRAME.assign(**{"Unnamed: 0": range(40)})
    assert read(tmp_path, last.to_csv(index=False)).columns == ["height", "weight", "Unnamed: 0"]
    assert read(tmp_path, FRAME.assign(number=range(40))[["number", "weight"]].to_csv(index=False)).columns == [
        "number",
        "weight",
    ]


@pytest.mark.parametrize(
    "metadata", [b"", b"{", b"[]", b'{"index_columns": 3}', b'{"index_columns": [{"kind": "range"}]}']
)
def test_what_others_write_where_pandas_notes_the_index_is_ignored(tmp_path: Path, metadata: bytes) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [1, 2, 3]}).replace_schema_metadata({b"pandas": metadata}), path)
    assert read_rows(str(path)).columns == ["a"]


def test_a_table_of_nothing_but_an_index(tmp_path: Path) -> None:
    pd.DataFrame(index=range(5)).to_parquet(tmp_path / "t.parquet", index=True)
    with pytest.raises(DataError, match="no columns"):
        read_rows(str(tmp_path / "t.parquet"))


# separators and marks


@settings(max_examples=60)
@given(
    separator=st.sampled_from([",", ";", "\t"]),
    comma=st.booleans(),
    names=st.lists(st.text('ab ,;\t"é', min_size=1, max_size=5), min_size=2, max_size=3, unique_by=str.strip),
    rows=st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=3, max_size=6),
)
def test_what_is_written_is_read_or_asked_for(
    tmp_path_factory: pytest.TempPathFactory, separator: str, comma: bool, names: list[str], rows: list[list[float]]
) -> None:
    values = np.array(rows)[:, : len(names)]
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator)
    writer.writerow(names)
    writer.writerows([[str(x).replace(".", ",") if comma else str(x) for x in row] for row in values.tolist()])
    try:
        found = read(tmp_path_factory.mktemp("t"), text.getvalue(), [name.strip() for name in names])
    except DataError:  # another test says when
        return
    assert found.columns == [name.strip() for name in names]
    if isinstance(found, Coded):  # a column never changes
        read_ = found.events.table(torch.from_numpy(found.values))
        found_values = np.column_stack([np.asarray(read_[name], dtype=np.float64) for name in found.columns])
        np.testing.assert_array_max_ulp(found_values, values, 1)  # rounded to its decimals, which takes two steps
    else:
        np.testing.assert_array_equal(found.values, values)


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("decimal", [",", "."])
def test_spreadsheets_of_other_countries(tmp_path: Path, separator: str, decimal: str) -> None:
    rows = read(tmp_path, FRAME.to_csv(index=False, sep=separator, decimal=decimal))
    assert rows.columns == ["height", "weight"]
    np.testing.assert_array_equal(rows.values, ROWS)
    with_index = read(tmp_path, FRAME.to_csv(sep=separator, decimal=decimal))
    np.testing.assert_array_equal(with_index.values, ROWS)


def test_whole_numbers_and_texts_beside_decimal_commas(tmp_path: Path) -> None:
    content = '\ufeffname;a;"b; c"\r\n"Doe, J.";1;2,5\r\nRoe;-3;1.e0\r\nPoe;+4;,5\r\n'
    refused(tmp_path, content.replace("1.e0", "1,0"), "column 'name': each of its 3 rows has a value of its own")
    with pytest.raises(DataError, match="others have a decimal point"):
        read(tmp_path, content, ["a", "b; c"])
    rows = read(tmp_path, content.replace("1.e0", "1,0"), ["a", "b; c"])
    np.testing.assert_array_equal(rows.values, [[1, 2.5], [-3, 1], [4, 0.5]])
    assert rows.dtypes == ["int64", "float64"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a;b\n1,234;2\n5,678;3\n9,012;4\n", ["line 2", "column 'a'", "may mark thousands"]),
        ("a;b\n1,5;2.5\n1,6;3\n1,7;4\n", ["line 2", "others have a decimal point"]),
        ("a;b\n1.5;2\n1.6;3\n1,7;4\n", ["line 4", "others have a decimal point"]),
        ("a;b\n1.234,5;2\n5;3\n9;4\n", ["'1.234,5' is not a number"]),
        ("a;b\n1,234,567;2\n5;3\n9;4\n", ["'1,234,567' is not a number"]),
        ('a,b\n"1,5",2\n"2,5",3\n"3,5",4\n', ["line 2", "column 'a'", "the comma in '1,5'"]),
        ("a\n1,5\n2,5\n3,5\n", ["2 fields under 1 column names", "decimals need a point"]),
        ("a,b\n1,5,2,5\n2,5,3,5\n", ["4 fields under 2 column names", "decimals need a point"]),
        ("a, b;c, d\n1,2;3,4\n1,3;3,5\n", ["may be separated by ',' or ';'"]),
    ],
)
def test_what_may_mean_two_things_is_asked_for(tmp_path: Path, content: str, words: list[str]) -> None:
    refused(tmp_path, content, "t.csv", *words)


# whole numbers


BEYOND = "holds whole numbers beyond 2^53"


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 2**60, 10**19, 12345678901234567890123])
def test_whole_numbers_that_float64_rounds_are_refused_for_what_they_are(tmp_path: Path, number: int) -> None:
    refused(tmp_path, f"a,id\n1,2\n3,{number}\n5,6\n", "row 2 (line 3), column 'id'", BEYOND)
    assert read(tmp_path, f"a,id\n1,2\n3,{number}\n5,6\n", ["a"]).columns == ["a"]
    if abs(number) < 2**63:
        for name, save in {"t.npy": np.save, "t.npz": np.savez}.items():
            save(tmp_path / name, np.array([[1, 2], [3, number], [5, 6]]))
            with pytest.raises(DataError, match=r"column 'x1' holds whole numbers beyond 2\^53"):
                read_rows(str(tmp_path / name))
            assert read_rows(str(tmp_path / name), ["x0"]).columns == ["x0"]
    kind = pa.int64() if abs(number) < 2**63 else pa.uint64() if number < 2**64 else pa.decimal128(38, 0)
    table = pa.table({"a": [1, 2, 3], "id": pa.array([1, number, None], pa.decimal128(38, 0)).cast(kind)})
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"column 'id' holds whole numbers beyond 2\^53"):
        read_rows(str(tmp_path / "t.parquet"))
    assert read_rows(str(tmp_path / "t.parquet"), ["a"]).columns == ["a"]
    for held in (pd.DataFrame({"id": [1, 2, number]}), np.array([[1], [2], [number]], dtype=object)):
        with pytest.raises(DataError, match=r"holds whole numbers beyond 2\^53"):
            array(held)


@pytest.mark.parametrize("text", [str(2**53), f"-{2**53}", "0" * 30 + "7", "1e300", "9007199254740993.5", "-1.5e20"])
def test_other_numbers_are_read(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, f"a\n1\n2\n{text}\n").values[2, 0] == float(text)


def test_types_are_those_of_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, "a,b,c,d\n1,2,+3,1\n-4,5.0, 6,2\n7,8,9,3e0\n").dtypes == [
        "int64",
        "float64",
        "int64",
        "float64",
    ]
    np.save(tmp_path / "t.npy", np.arange(6, dtype=">i2").reshape(3, 2))
    assert read_rows(str(tmp_path / "t.npy")).dtypes == ["int16", "int16"]
    table = pa.table({"a": pa.array([1, 2, 3], pa.uint8()), "b": pa.array([1, 2, 3], pa.float32())})
    pq.write_table(table, tmp_path / "t.parquet")
    assert read_rows(str(tmp_path / "t.parquet")).dtypes == ["uint8", "float32"]


# names


def test_a_name_twice_matters_only_among_the_columns_used(tmp_path: Path) -> None:
    content = "a,b,b,c\n1,2,3,4\n5,6,7,9\n9,8,6,5\n"
    refused(tmp_path, content, "'b' is named twice in the file")
    np.testing.assert_array_equal(read(tmp_path, content, ["c", "a"]).values, [[4, 1], [9, 5], [5, 9]])
    with pytest.raises(DataError, match="'b' is named twice in the file"):
        read(tmp_path, content, ["b"])
    names, path = ["a", "b", "b", "c"], tmp_path / "t.parquet"
    pq.write_table(pa.table([pa.array([1, 2, 4])] * 4, names=names), path)
    assert read_rows(str(path), ["c", "a"]).columns == ["c", "a"]
    with pytest.raises(DataError, match="'b' is named twice in the file"):
        read_rows(str(path))
