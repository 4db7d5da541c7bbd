"""Separated text that never ends a line or a quote, Parquet and Feather that unpack without end, databases that work."""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Iterator
from typing import Any

from tests.campaign import corpus
from tests.campaign.attacks import Attack, Content, file

_HARM = "a small table takes memory or time without end, or its reader ends in a traceback"


def attacks() -> Iterator[Attack]:
    """Yield them: each as a table, and as two sets to compare."""
    for kind, ending, contents in (
        ("CSV", "csv", _texts()),
        ("Parquet", "parquet", _parquets()),
        ("Feather", "feather", _feathers()),
        ("SQLite", "db", _databases()),
    ):
        for name, content in contents.items():
            path = f"x.{ending}"
            codes = (0, 2) if name in _SOUND else (2,)
            call = ("selfloop.analysis.sources:read_events", path)
            heavy = callable(content)
            yield Attack(kind, name, file(path, content), ("data", path), _HARM, codes, call, heavy)
            if name not in _SOUND:
                compared = ("metrics", path, path)
                yield Attack(kind, f"{name}, compared", file(path, content), compared, _HARM, codes, heavy=heavy)


_SOUND = {"NUL in a name", "UTF-8 with marks inside", "quotes within quotes", "bidi names", "names of a terminal", "numbers of hex",
          "plain zeros in Parquet", "formulas", "column of nothing", "schema of Arrow overwritten", "overwritten",
          "pandas' note of a list", "pandas' note 10⁵ deep", "pandas' note of nonsense",
          "column of times beyond the calendar"}  # fmt: skip


def _texts() -> dict[str, Content]:
    rows = b"".join(b"%d,%d\n" % (i, i * i % 7) for i in range(40))
    return {
        "one line of 500 MB": lambda: b"x" * (5 * 10**8),
        "one line of 500 MB of commas": lambda: b"," * (5 * 10**8),
        "one line of 500 MB below a header": lambda: b"a,b\n" + rows + b"7" * (5 * 10**8),
        "one row of 500 MB of fields": lambda: b"a,b\n" + rows + b"1," * (25 * 10**7),
        "one quoted field of 500 MB": lambda: b'a,b\n1,2\n1,"' + b"x\n" * (25 * 10**7) + b'"\n',
        "500 MB of NUL": lambda: bytes(5 * 10**8),
        "500 MB of newlines": lambda: b"a,b\n1,2\n" + b"\n" * (5 * 10**8),
        "500 MB of blanks": lambda: b"a b\n1 2\n" + b" " * (5 * 10**8),
        "20 MB of carriage returns": lambda: b"a,b\n1,2\n" + b"\r" * (2 * 10**7),
        "a million columns": lambda: b",".join(b"c%d" % i for i in range(10**6)) + b"\n" + (b"1," * 10**6)[:-1] + b"\n",
        "a million columns and 3 rows": lambda: b"\n".join(
            [b",".join(b"c%d" % i for i in range(10**6)), *[(b"%d," % k * 10**6)[:-1] for k in (1, 2, 4)]]
        ),
        "NUL in a name": b"a\0b,c\n" + rows,
        "NUL in a field": b"a,b\n" + rows + b"1\0,2\n",
        "quote never closed": b'a,b\n"1,2\n' + rows * 100,
        "quote never closed in 30 MB": lambda: b'a,b\n1,2\n"' + rows * 10**5,
        "quotes doubled without end": b"a,b\n" + b'"' * 10**6 + b",1\n",
        "quotes within quotes": b'a,b\n"x ""y"" ""z""",1\nx,2\nx,3\nx,1\n',
        "Latin-1": "a,b\nné,1\nn,2\n".encode("latin-1"),
        "UTF-16": "a,b\n1,2\n2,3\n".encode("utf-16"),
        "UTF-32": "a,b\n1,2\n2,3\n".encode("utf-32"),
        "UTF-7": b"+AGE-,b\n1,2\n1,3\n2,x\n",
        "overlong UTF-8": b"a,b\n\xc0\xaf,1\n",
        "surrogates in UTF-8": b"a,b\n\xed\xa0\x80,1\n",
        "UTF-8 with marks inside": "a,b\n\ufeff1,2\n3,4\n5,7\n".encode(),
        "binary": bytes(range(256)) * 100,
        "a pickle": b"\x80\x04cos\nsystem\nX\x02\0\0\0ls\x85R.",
        "a zip": corpus.zipped({"x.csv": b"a,b\n1,2\n"}),
        "numbers of 10⁵ digits": b"a,b\n" + b"9" * 10**5 + b",1\n2,2\n3,4\n",
        "numbers of 1e999999": b"a,b\n1e999999,1\n2,2\n3,4\n",
        "numbers of hex": b"a,b\n0x10,1\n1_0,2\n3,4\n3,1\n",
        "NaN and infinity": b"a,b\nnan,1\ninf,2\n-inf,3\n1,4\n",
        "names that are the same": b"a,a\n1,2\n3,4\n5,6\n",
        "names that are empty": b",,\n1,2,3\n3,4,5\n5,6,7\n",
        "a name of 10 MB": lambda: b"a" * 10**7 + b",b\n1,2\n3,4\n5,7\n",
        "name of a path": b"../../x,/etc/passwd\n" + b"1\n" * 4,
        "rows of all widths": b"a,b\n" + b"\n".join(b"," * k for k in range(300)),
        "10⁵ categories": lambda: b"a,b\n" + b"".join(b"w%d,%d\n" % (i, i % 9) for i in range(10**5)),
        "times of all forms": b"t\n"
        + b"\n".join([b"2024-01-01", b"01/02/2024", b"99:99", b"0000-00-00", b"9999-12-31"]),
        "times beyond reason": b"t,b\n"
        + b"\n".join(b"%d-01-01,%d" % (9999 - i, i % 3) for i in range(9))
        + b"\n99999-13-45,1\n",
        "bidi names": "a\u202eb,\u2066c\n".encode() + rows,
        "names of a terminal": b"\x1b[2J\x1b]0;x\x07,b\n" + rows,
        "formulas": b'"=HYPERLINK(""http://x"")",b\n=1+1,2\n@x,1\n+x,2\n=1+1,1\n',
        "only a header": b"a,b\n",
        "only a mark": "\ufeff".encode(),
        "empty": b"",
        "separators without end": b"a;b,c|d\te\n1;2,3|4\t5\n",
        "regular expression in names": b"(a+)+$,b\n" + b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!,1\n" * 40,
    }


def _parquets() -> dict[str, Content]:
    sound = corpus.column_files()[0]
    return {
        "runs of 500 million equal numbers": functools.partial(_equal, 5 * 10**8, 1.0),
        "runs of 100 million equal numbers": functools.partial(_equal, 10**8, 1.0),
        "one word of 8 MB, 4,000 times": functools.partial(_equal, 4000, "x" * 2**23),
        "one word of 1 MB, 2,000 times": functools.partial(_equal, 2000, "x" * 2**20),
        "lists within lists": functools.partial(_nested, 60),
        "a list of 10⁷ nothings": functools.partial(_lists, 10**7),
        "1,000 columns of 10⁵ nothings": functools.partial(_nothings, 1000, 10**5),
        "footer of 2 GiB": sound[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1",
        "footer of 0": sound[:-8] + struct.pack("<I", 0) + b"PAR1",
        "footer of zeros": b"PAR1" + bytes(100) + struct.pack("<I", 100) + b"PAR1",
        "footer of ones": b"PAR1" + b"\xff" * 100 + struct.pack("<I", 100) + b"PAR1",
        "magic alone": b"PAR1",
        "magic twice": b"PAR1PAR1",
        "encrypted footer": sound[:-4] + b"PARE",
        "cut short": sound[: len(sound) // 2],
        "pages overwritten": sound[:4] + b"\xff" * 200 + sound[204:],
        "pages of zeros": sound[:4] + bytes(200) + sound[204:],
        "schema of Arrow overwritten": sound.replace(b"ARROW:schema", b"ARROW:schemb"),
        "pandas' note of nonsense": functools.partial(
            _noted, b'{"columns": [{"field_name": {"a": 1}}], "index_columns": [[]]}'
        ),
        "pandas' note 10⁵ deep": functools.partial(_noted, b"[" * 10**5),
        "pandas' note of a list": functools.partial(_noted, b'{"columns": 7}'),
        "column of a name twice": functools.partial(_typed, "twice"),
        "column of an empty name": functools.partial(_typed, "unnamed"),
        "column of maps": functools.partial(_typed, "maps"),
        "column of bytes": functools.partial(_typed, "bytes"),
        "column of decimals of 76 digits": functools.partial(_typed, "decimals"),
        "column of times beyond the calendar": functools.partial(_typed, "times"),
        "column of durations": functools.partial(_typed, "durations"),
        "column of nothing": functools.partial(_typed, "nothing"),
        "column of words that are no UTF-8": functools.partial(_typed, "broken"),
        "column of a name that is no UTF-8": functools.partial(_renamed, b"wage", b"w\xff\xfee"),
        "plain zeros in Parquet": functools.partial(_equal, 1000, 0.0),
    }


def _parquet(table: Any, **options: Any) -> bytes:
    import pyarrow.parquet as pq

    content = io.BytesIO()
    pq.write_table(table, content, **options)
    return content.getvalue()


def _equal(count: int, value: object) -> bytes:
    """Return a file of one value so many times, which takes a few bytes a thousand rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.large_string() if isinstance(value, str) else pa.float64()
    content, left, block = io.BytesIO(), count, 10**6 if kind == pa.float64() else 100
    with pq.ParquetWriter(content, pa.schema({"a": kind, "b": pa.int8()}), compression="zstd") as writer:
        part = pa.DictionaryArray.from_arrays(pa.array([0] * block, pa.int32()), pa.array([value], kind)).cast(kind)
        table = pa.table({"a": part, "b": pa.array([1] * block, pa.int8())})
        while left > 0:
            writer.write_table(table.slice(0, min(left, block)), row_group_size=10**9)
            left -= block
    return content.getvalue()


def _nested(depth: int) -> bytes:
    import pyarrow as pa

    value: object = 1
    for _ in range(depth):
        value = [value]
    return _parquet(pa.table({"a": [value] * 4}))


def _lists(count: int) -> bytes:
    import numpy as np
    import pyarrow as pa

    offsets = pa.array(np.zeros(count + 1, np.int32))
    return _parquet(pa.table({"a": pa.ListArray.from_arrays(offsets, pa.array([], pa.int8()))}), compression="zstd")


def _nothings(width: int, count: int) -> bytes:
    import pyarrow as pa

    column = pa.nulls(count, pa.float64())
    return _parquet(pa.table({f"c{i}": column for i in range(width)}), compression="zstd")


def _noted(note: bytes) -> bytes:
    import pyarrow as pa

    return _parquet(pa.table(corpus.columns()).replace_schema_metadata({b"pandas": note}))


def _typed(which: str) -> bytes:
    return _parquet(_tables(which))


def _tables(which: str) -> Any:
    import decimal

    import pyarrow as pa

    numbers = pa.array([1.0, 2.0, 4.0, 7.0])
    columns = {
        "twice": lambda: numbers,
        "unnamed": lambda: numbers,
        "maps": lambda: pa.array([[("a", 1)]] * 4, pa.map_(pa.string(), pa.int64())),
        "bytes": lambda: pa.array([b"\0\xff"] * 4),
        "decimals": lambda: pa.array([decimal.Decimal(10**75), decimal.Decimal(1)] * 2, pa.decimal256(76)),
        "times": lambda: pa.array([2**62, -(2**62), 0, 1], pa.timestamp("us")),
        "durations": lambda: pa.array([1, 2, 3, 4], pa.duration("s")),
        "nothing": lambda: pa.nulls(4),
        "broken": lambda: pa.array([b"\xff\xfe", b"a"] * 2).view(pa.string()),
    }
    column = columns[which]()
    names = {"twice": ["a", "a"], "unnamed": ["", "b"]}.get(which, ["a", "b"])
    return pa.table([column, pa.array([3.0, 1.0, 2.0, 5.0])], names=names)


def _renamed(old: bytes, new: bytes) -> bytes:
    import pyarrow as pa

    return _parquet(pa.table(corpus.columns())).replace(old, new)


def _feathers() -> dict[str, Content]:
    sound = corpus.column_files()[1]
    return {
        "zeros packed to nothing": functools.partial(_packed, 2 * 10**8),
        "zeros packed to nothing, in many batches": functools.partial(_packed, 5 * 10**7, 10),
        "a word packed to nothing": _long_word,
        "magic alone": b"ARROW1",
        "footer of 2 GiB": sound[:-10] + struct.pack("<i", 2**31 - 1) + b"ARROW1",
        "footer of −1": sound[:-10] + struct.pack("<i", -1) + b"ARROW1",
        "footer of zeros": b"ARROW1\0\0" + bytes(64) + struct.pack("<i", 64) + b"ARROW1",
        "cut short": sound[: len(sound) // 2],
        "overwritten": sound[:40] + b"\xff" * 100 + sound[140:],
        "feather of version 1": b"FEA1" + bytes(40) + b"FEA1",
        "empty": b"",
        "column of maps": functools.partial(_feather_of, "maps"),
        "column of a name twice": functools.partial(_feather_of, "twice"),
        "column of nothing": functools.partial(_feather_of, "nothing"),
        "column of words that are no UTF-8": functools.partial(_feather_of, "broken"),
        "words beyond their dictionary": _beyond,
    }


def _packed(count: int, batches: int = 1) -> bytes:
    import numpy as np
    import pyarrow as pa

    content, table = io.BytesIO(), pa.table({"a": np.zeros(count), "b": np.zeros(count, np.int8)})
    with pa.ipc.new_file(content, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for _ in range(batches):
            writer.write_table(table)
    return content.getvalue()


def _long_word() -> bytes:
    import pyarrow as pa

    content, table = io.BytesIO(), pa.table({"a": ["x" * (2**31 - 9)], "b": [1.0]})
    with pa.ipc.new_file(content, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return content.getvalue()


def _feather_of(which: str) -> bytes:
    import pyarrow as pa

    content, table = io.BytesIO(), _tables(which)
    with pa.ipc.new_file(content, table.schema) as writer:
        writer.write_table(table)
    return content.getvalue()


def _beyond() -> bytes:
    """Return categories whose numbers point beyond their words."""
    import pyarrow as pa

    words = pa.DictionaryArray.from_arrays(pa.array([0, 9, 10**6, -5], pa.int32()), pa.array(["a", "b"]), safe=False)
    content, table = io.BytesIO(), pa.table({"a": words, "b": [1.0, 2.0, 3.0, 5.0]})
    with pa.ipc.new_file(content, table.schema) as writer:
        writer.write_table(table)
    return content.getvalue()


def _databases() -> dict[str, Content]:
    view = "CREATE VIEW v AS "
    endless = "WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n) "
    sound = corpus.database()
    return {
        "view without end": corpus.database(f"{view}{endless}SELECT a, 2 * a AS b FROM n"),
        "view that counts without end": corpus.database(f"{view}{endless}SELECT count(*) AS a, 1 AS b FROM n"),
        "view that multiplies": corpus.database(
            "CREATE TABLE t (a)", "INSERT INTO t VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)",
            "CREATE VIEW v AS SELECT a.a AS a, b.a AS b FROM t a, t b, t c, t d, t e, t f, t g, t h, t i, t j",
            "CREATE VIEW w AS SELECT 1", "DROP TABLE IF EXISTS x",
        ),
        "view of a blob of 1 GB": corpus.database(f"{view}SELECT zeroblob(999999999) AS a, 1 AS b"),
        "view of random 900 MB": corpus.database(f"{view}SELECT randomblob(900000000) AS a, 1 AS b"),
        "view of text of 1 GB": corpus.database(f"{view}SELECT printf('%999999999d', 1) AS a, 1 AS b"),
        "view of 1,000 texts of 10 MB": corpus.database(
            f"{view}WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n WHERE a < 1000) "
            "SELECT printf('%10000000d', a) AS a, 1 AS b FROM n"
        ),
        "view that loads code": corpus.database(f"{view}SELECT load_extension('../canary.so') AS a"),
        "view that writes a file": corpus.database(f"{view}SELECT writefile('../canary', 'x') AS a"),
        "view that reads a file": corpus.database(f"{view}SELECT readfile('/etc/passwd') AS a"),
        "view that attaches": corpus.database(f"{view}SELECT * FROM pragma_database_list"),
        "view of itself": corpus.database(f"{view}SELECT 1 AS a").replace(b"SELECT 1 AS a", b"SELECT*FROM v "),
        "table whose name closes a quote": corpus.database('CREATE TABLE "x""; DROP TABLE y; --" (a, b)'),
        "trigger": corpus.database(
            "CREATE TABLE t (a, b)", "INSERT INTO t VALUES (1, 2)",
            "CREATE TRIGGER x AFTER INSERT ON t BEGIN DELETE FROM t; END",
        ),
        "virtual table": corpus.database("CREATE VIRTUAL TABLE t USING fts5(a, b)"),
        "schema overwritten": sound.replace(b"CREATE TABLE", b"CREATE FABLE"),
        "schema of a command": sound.replace(b"CREATE TABLE t (age", b"ATTACH 'x' AS y(age"),
        "pages of zeros": sound[:100] + bytes(len(sound) - 100),
        "page size of 1": sound[:16] + b"\0\x01" + sound[18:],
        "header alone": sound[:100],
        "cut short": sound[: len(sound) // 2],
        "no database": b"SQLite format 3\0" + b"\xff" * 200,
        "empty": b"",
        "2,000 columns": corpus.database(f"CREATE TABLE t ({', '.join(f'c{i}' for i in range(2000))})"),
        "blobs": corpus.database("CREATE TABLE t (a, b)", "INSERT INTO t VALUES (x'00ff', 1), (x'01', 2), ('x', 3)"),
        "numbers beyond 2⁵³": corpus.database("CREATE TABLE t (a, b)", "INSERT INTO t VALUES (9e999, 1), (9007199254740993, 2), (1, 4)"),
        "text that is no UTF-8": corpus.database(
            "CREATE TABLE t (a TEXT, b)", "INSERT INTO t VALUES (CAST(x'fffe' AS TEXT), 1), ('a', 2), ('b', 3)"
        ),
    }  # fmt: skip
