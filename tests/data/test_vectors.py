"""Digits and tables: what is read is what was written, and files of no use are refused in one line."""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.datasets import load_digits

from selfloop.core.config import Inside
from selfloop.core.errors import DataError
from selfloop.core.events import Raster
from selfloop.data import DATA, Digits, Table, split_rows
from selfloop.data.reading import sheets

Write = Callable[[Path, np.ndarray], Path]


def refused(table: Table | Digits, *words: str) -> str:
    """Load, expecting a refusal in one printable line that holds all the words."""
    with pytest.raises(DataError) as caught:
        table.load((0,))
    message = str(caught.value)
    assert message.isprintable(), message
    for word in words:
        assert word in message
    return message


def text(path: Path, content: str | bytes) -> Table:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Table(path=str(path))


def write_csv(path: Path, rows: np.ndarray) -> Path:
    path = path / "t.csv"
    header = [f"x{i}" for i in range(rows.shape[1])]
    path.write_text("".join(",".join(map(str, line)) + "\n" for line in [header, *rows.tolist()]))
    return path


def write_npy(path: Path, rows: np.ndarray) -> Path:
    np.save(path / "t.npy", rows)
    return path / "t.npy"


def write_npz(path: Path, rows: np.ndarray) -> Path:
    np.savez_compressed(path / "t.npz", rows=rows)
    return path / "t.npz"


def write_parquet(path: Path, rows: np.ndarray) -> Path:
    pq.write_table(pa.table({f"x{i}": column for i, column in enumerate(rows.T)}), path / "t.parquet")
    return path / "t.parquet"


each_format = pytest.mark.parametrize("write", [write_csv, write_npy, write_npz, write_parquet])


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal([3, -40, 1e6], [1, 20, 0.5], size=(50, 3))


# digits


def test_digits_are_pixels_between_minus_one_and_one() -> None:
    split = Digits().load((0, 1))
    assert split.train.shape == (2, 1437, 64)
    assert split.held_out.shape == (2, 360, 64)
    assert split.events.raster == Raster(height=8, width=8, black=0.0, white=16.0)
    assert split.events.columns[:9] == (*(f"pixel_0_{j}" for j in range(8)), "pixel_1_0")
    assert (float(split.train.min()), float(split.train.max())) == (-1.0, 1.0)
    for r in range(2):
        pixels = split.restore(torch.cat([split.train[r], split.held_out[r]])).numpy()
        assert sorted(map(tuple, pixels)) == sorted(map(tuple, load_digits().data))


def test_digits_refuse_more_rows_than_there_are() -> None:
    refused(Digits(n=1500), "1797 rows", "n + held_out = 1500 + 360 = 1860", "lower n or held_out")
    refused(Digits(held_out=1796), "1797 rows", "2 + 1796")


# splits


def test_a_configuration_selects_them_by_name() -> None:
    select = DATA.parse
    assert select({"name": "digits", "held_out": 10}) == Digits(held_out=10)
    assert select({"name": "table", "path": "t.csv", "columns": ["a"]}) == Table(path="t.csv", columns=["a"])
    for wrong in (
        {"name": "table"},
        {"name": "table", "path": "t", "columns": []},
        {"name": "digits", "n": 1},
    ):
        with pytest.raises(Inside):
            select(wrong)


def test_a_seed_fixes_the_split_and_an_arm_does_not_see_its_neighbours() -> None:
    stack, alone = Digits(n=20, held_out=5).load((3, 4, 3)), Digits(n=20, held_out=5).load((4,))
    assert torch.equal(stack.train[0], stack.train[2])
    assert torch.equal(stack.train[1], alone.train[0])
    assert torch.equal(stack.held_out[1], alone.held_out[0])
    assert not torch.equal(stack.train[0], stack.train[1])


@given(total=st.integers(3, 40), data=st.data())
def test_split_rows_are_disjoint(total: int, data: st.DataObject) -> None:
    n = data.draw(st.integers(2, total - 1))
    m = data.draw(st.integers(1, total - n))
    train, held_out = split_rows(np.arange(total), n, m, (0, 1), "numbers")
    assert train.shape == (2, n)
    assert held_out.shape == (2, m)
    for r in range(2):
        assert len({*train[r].tolist(), *held_out[r].tolist()}) == n + m


@pytest.mark.parametrize(
    ("n", "held_out", "words"),
    [(1, 3, "n is 1"), (5, 0, "held_out is 0"), (8, 3, "8 + 3 = 11"), (None, 9, "2 + 9 = 11")],
)
def test_split_rows_refuses_what_ten_rows_cannot_give(n: int | None, held_out: int, words: str) -> None:
    with pytest.raises(DataError, match="ten") as caught:
        split_rows(np.arange(10), n, held_out, (0,), "ten")
    assert words in str(caught.value)


# tables that can be read


@each_format
def test_a_table_is_standardised_and_restored(tmp_path: Path, rows: np.ndarray, write: Write) -> None:
    split = Table(path=str(write(tmp_path, rows))).load((0, 1))
    assert split.train.shape == (2, 40, 3)
    assert split.held_out.shape == (2, 10, 3)
    assert split.events.columns == ("x0", "x1", "x2")
    np.testing.assert_array_equal(split.events.shift.numpy(), rows.mean(axis=0))
    np.testing.assert_array_equal(split.events.scale.numpy(), rows.std(axis=0))
    for r in range(2):
        whole = torch.cat([split.train[r], split.held_out[r]])
        torch.testing.assert_close(whole.mean(dim=0), torch.zeros(3).double(), atol=1e-9, rtol=0)
        torch.testing.assert_close(whole.std(dim=0, correction=0), torch.ones(3).double())
        restored = split.restore(whole).numpy()
        by_first = restored[:, 0].argsort(), rows[:, 0].argsort()
        np.testing.assert_allclose(restored[by_first[0]], rows[by_first[1]], rtol=1e-14)


@each_format
def test_columns_are_picked_in_order(tmp_path: Path, rows: np.ndarray, write: Write) -> None:
    path = str(write(tmp_path, rows))
    split = Table(path=path, columns=["x2", "x0"], n=7, held_out=4).load((0,))
    whole = Table(path=path, n=7, held_out=4).load((0,))
    assert split.events.columns == ("x2", "x0")
    assert torch.equal(split.train, whole.train[..., [2, 0]])
    refused(Table(path=path, columns=["x0", "x9"]), path, "no column 'x9'", "'x0', 'x1', 'x2'")
    refused(Table(path=path, columns=["x0", "x0"]), path, "'x0' is named twice in the setting columns")


@settings(max_examples=40)
@given(rows=hnp.arrays(np.float64, (6, 2), elements=st.floats(-1e100, 1e100), unique=True))
def test_restore_inverts_within_rounding(tmp_path_factory: pytest.TempPathFactory, rows: np.ndarray) -> None:
    assume(bool((rows.std(axis=0) > 0).all()))
    split = Table(path=str(write_npy(tmp_path_factory.mktemp("table"), rows))).load((0,))
    restored = split.restore(torch.cat([split.train[0], split.held_out[0]])).numpy()
    error = np.abs(np.sort(restored, axis=0) - np.sort(rows, axis=0)).max(axis=0)
    assert np.all(error <= 1e-14 * np.abs(rows).max(axis=0))


def test_restore_is_float64_whatever_the_model_computes_in(tmp_path: Path, rows: np.ndarray) -> None:
    split = Table(path=str(write_npy(tmp_path, rows))).load((0,))
    restored = split.restore(split.train.float().requires_grad_())
    assert restored.dtype == torch.float64
    assert not restored.requires_grad
    torch.testing.assert_close(restored, split.restore(split.train), rtol=0, atol=1e-4)


def test_csv_dialects(tmp_path: Path) -> None:
    """Byte order mark, CRLF, quotes, blanks, blank lines, an unselected text column with a newline in it."""
    content = '\ufeff"a, b",city, c\r\n"1", "x",2\r\n\r\n-3e0,"two\nlines", 4.5 \r\n+5,,"6"'
    table = text(tmp_path / "t.CSV", content).model_copy(update={"columns": ["a, b", "c"]})
    split = table.load((0,))
    assert split.events.columns == ("a, b", "c")
    np.testing.assert_array_equal(split.events.shift.numpy(), [1, 12.5 / 3])


@pytest.mark.parametrize("dtype", ["float16", "float32", ">f8", "int8", "uint64", "longdouble"])
def test_numpy_number_types_and_orders(tmp_path: Path, dtype: str) -> None:
    rows = np.asfortranarray(np.arange(20).reshape(10, 2) % 7, dtype=dtype)
    split = Table(path=str(write_npy(tmp_path, rows))).load((0,))
    np.testing.assert_array_equal(split.events.shift.numpy(), rows.astype(np.float64).mean(axis=0))


def test_parquet_number_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "half": pa.array(np.arange(5, dtype=np.float16)),
            "a.b": pa.array([1, 2, 3, 4, 2**53]),
            "a": pa.array([1, 2, 3, 4, 5], pa.uint8()),
            "money": pa.array([1, 2, 3, 4, 5], pa.int32()).cast(pa.decimal128(12, 2)),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    split = Table(path=str(tmp_path / "t.parquet")).load((0,))
    np.testing.assert_array_equal(split.events.shift.numpy()[[0, 2, 3]], [2, 3, 3])
    assert Table(path=str(tmp_path / "t.parquet"), columns=["a"]).load((0,)).events.columns == ("a",)


# tables that cannot


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["is empty", "header"]),
        ("\n\n", ["is empty", "header"]),
        ("a,b\n", ["has 0 rows"]),
        ("a,b\n1,2\n3,4\n", ["has 2 rows", "it needs 3"]),
        ("1,2\n3,4\n5,6\n", ["line 1 is all numbers", "column names"]),
        ("a,a\n1,2\n3,4\n5,6\n", ["'a' is named twice in the file"]),
        (",a\n0,2\n1,4\n1,6\n", ["column 1 has no name"]),
        (",a\n0.5,2\n1,4\n2,6\n", ["column 1 has no name"]),
        ("a,,b\n0,2,1\n1,4,2\n3,6,3\n", ["column 2 has no name"]),
        (",Unnamed: 0\n0,2\n1,4\n2,6\n", ["no columns but an index"]),
        ("a,b\n1,2\n-inf,4\n5,6\n", ["row 2 (line 3), column 'a'", "infinite"]),
        ("a,b\n1,2\n3,1e999\n5,6\n", ["row 2 (line 3), column 'b'", "infinite"]),
        (
            "a,city\n1,Paris\n3,Oslo\n5,Bern\n",
            ["column 'city'", "each of its 3 rows has a value of its own, such as 'Paris'", "leave_out: [city]"],
        ),
        ("a,b\n1,2\n3,1_000\n5,6\n", ["row 2 (line 3), column 'b'", "'1_000' is not a number"]),
        ('a,"b\nc"\n1,2\n3,"x\ny"\n5,6\n', ["row 2 (line 5), column 'b\\nc'", "'x\\ny' is not a number"]),
        ("a,b\n1,2\n3\n5,6\n", ["row 2 (line 3) has 1 fields under 2 column names"]),
        ("a,b\n1,2\n3,4\n5,6,7\n", ["row 3 (line 4) has 3 fields under 2 column names"]),
        ('a,b\n1,2\n3,"4', ["damaged"]),
        ("a,b\n1,2\n3,4\x00\n5,6\n", ["column 'b'"]),
        ("a,b\n1,2\n3," + "4" * 200_000 + "\n5,6\n", ["damaged", "field limit"]),
        ("a,b\n7,2\n7,2\n7,2\n", ["no column ever changes"]),
        ("a,b\n1e308,2\n-1e308,4\n1e308,6\n", ["column 'a'", "beyond float64"]),
        ("a,b\n1e-300,2\n2e-300,4\n3e-300,6\n", ["column 'a'", "beyond float64"]),
        (b"a,b\n1,2\n3,\xff\n", ["not UTF-8"]),
        ("a,b\n1,2\n3,4\n".encode("utf-16"), ["not UTF-8"]),
    ],
)
def test_csv_refusals(tmp_path: Path, content: str | bytes, words: list[str]) -> None:
    table = text(tmp_path / "t.csv", content)
    refused(table, table.path, *words)


@each_format
def test_files_that_are_not_there_or_empty_or_cut(tmp_path: Path, rows: np.ndarray, write: Write) -> None:
    path = write(tmp_path, rows)
    whole = path.read_bytes()
    path.write_bytes(b"")
    refused(Table(path=str(path)), str(path))
    path.write_bytes(whole[: len(whole) // 2 - 7])
    message = refused(Table(path=str(path), held_out=30, n=20), str(path))
    assert write is write_csv or "damaged" in message or "cannot be read" in message
    path.unlink()
    refused(Table(path=str(path)), str(path), "does not exist")
    path.mkdir()
    refused(Table(path=str(path)), str(path), "is not a file")


@pytest.mark.parametrize("path", ["t.txt", "", "a\nb.csv", "a\0b.csv", "\u2028.csv", "x" * 5000 + ".csv"])
def test_paths_that_cannot_be(path: str) -> None:
    refused(Table(path=path))


@each_format
def test_too_few_rows_for_the_split(tmp_path: Path, rows: np.ndarray, write: Write) -> None:
    path = str(write(tmp_path, rows))
    refused(Table(path=path, n=41), path, "50 rows", "41 + 10 = 51", "lower n or held_out")
    refused(Table(path=path, n=10, held_out=41), path, "10 + 41 = 51")


@pytest.mark.parametrize("write", [write_npy, write_npz])
def test_binary_values_that_are_not_finite(tmp_path: Path, rows: np.ndarray, write: Write) -> None:
    rows[7, 1] = np.nan
    refused(Table(path=str(write(tmp_path, rows))), "row 8, column 'x1'", "missing")
    rows[7, 1] = -np.inf
    refused(Table(path=str(write(tmp_path, rows))), "row 8, column 'x1'", "infinite")
    assert Table(path=str(write(tmp_path, rows)), columns=["x0", "x2"]).load((0,)).events.columns == ("x0", "x2")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(5), ["shape (5,)", "2-D"]),
        (np.zeros((5, 2, 2)), ["shape (5, 2, 2)", "2-D"]),
        (np.zeros((5, 0)), ["shape (5, 0)"]),
        (np.zeros((0, 5)), ["has 0 rows"]),
        (np.array([["a", "b"]] * 4), ["holds text; save"]),
        (np.zeros((4, 2), dtype=complex), ["holds complex numbers; save"]),
        (np.array([[1, None]] * 4, dtype=object), ["holds objects; save"]),
        (np.zeros(4, dtype=[("a", "f8"), ("b", "f8")]), ["holds records; save"]),
        (np.ones((4, 2)), ["column 'x0', 'x1' never changes"]),
    ],
)
@pytest.mark.parametrize("write", [write_npy, write_npz])
def test_numpy_refusals(tmp_path: Path, array: np.ndarray, words: list[str], write: Write) -> None:
    path = str(write(tmp_path, array))
    refused(Table(path=path), path, *words)


def test_npz_with_other_than_one_array(tmp_path: Path, rows: np.ndarray) -> None:
    path = str(tmp_path / "t.npz")
    np.savez(path, train=rows, test=rows)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("mo\nre.npy", b"")
    refused(Table(path=path), path, "holds 3 arrays", "'train', 'test', 'mo\\nre'")
    np.savez(path)
    refused(Table(path=path), path, "holds 0 arrays")


class _Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("ending", ["npy", "npz", "parquet", "csv"])
def test_nothing_is_unpickled(tmp_path: Path, ending: str) -> None:
    mark, path = tmp_path / "mark", tmp_path / f"t.{ending}"
    path.write_bytes(pickle.dumps(_Trap(mark)))
    refused(Table(path=str(path)), str(path))
    np.save(tmp_path / "o.npy", np.array([[_Trap(mark)] * 2] * 4), allow_pickle=True)
    path.write_bytes((tmp_path / "o.npy").read_bytes())
    refused(Table(path=str(path)), str(path))
    assert not mark.exists()


def _header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize("shape", [(2**40, 2), (2**62, 2**62), (2**28, 3)])
def test_headers_that_promise_too_much(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "t.npy"
    path.write_bytes(_header(shape) + bytes(64))
    refused(Table(path=str(path)), str(path), "the limit is 536870912")
    with zipfile.ZipFile(tmp_path / "t.npz", "w") as archive:
        archive.writestr("rows.npy", _header(shape) + bytes(64))
    refused(Table(path=str(tmp_path / "t.npz")), "t.npz", "the limit is 536870912")


def test_headers_that_disagree_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "t.npy").write_bytes(_header((10, 2)) + bytes(64))
    refused(Table(path=str(tmp_path / "t.npy")), "promises 160 bytes, it holds 64")


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the limit lowered, so that the test need not write 4 GiB; the archive is 1000 times smaller."""
    monkeypatch.setattr(sheets, "LIMIT", 2**20)
    path = write_npz(tmp_path, np.zeros((2**17, 2)))
    assert path.stat().st_size < 2**12
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("unpacked"))
    refused(Table(path=str(path)), str(path), "the limit is 131072")


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_tables_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    monkeypatch.setattr(sheets, "LIMIT", 8 * 100)
    path = str(write(tmp_path, np.arange(102.0).reshape(51, 2)))
    refused(Table(path=path), path, "the limit is 100")
    assert Table(path=path, columns=["x1"]).load((0,)).train.shape == (1, 41, 1)


def test_parquet_refusals(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [1.0, 2.0, 3.0], "ci\nty": ["x", "y", "z"]}), path)
    refused(Table(path=str(path)), str(path), "column 'ci\\nty': each of its 3 rows has a value of its own")
    assert Table(path=str(path), columns=["a"]).load((0,)).events.columns == ("a",)
    pq.write_table(pa.table({"a": [[1], [2], [3]], "b": [1, 2, 3]}), path)
    refused(Table(path=str(path)), "column 'a': values of 'list<element: int64>' are neither numbers, words nor times")
    pq.write_table(pa.table({"a": [1.0, 2.0, 3.0], "b": [1, math.inf, 3]}), path)
    refused(Table(path=str(path)), "row 2, column 'b'", "infinite")
    pq.write_table(pa.table([pa.array([1, 2, 3])] * 2, names=["a", "a"]), path)
    refused(Table(path=str(path)), "'a' is named twice in the file")
    pq.write_table(pa.table({"a": [7, 7, 7], "b": [1, 1, 1]}), path)
    refused(Table(path=str(path)), "no column ever changes")
