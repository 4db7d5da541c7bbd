"""What a Feather file unpacks to, known before it is."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from selfloop.core.errors import DataError
from selfloop.data.reading.feather import unpacked_size
from selfloop.data.reading.sheets import read_sheet


def feather(table: pa.Table, compression: str | None, batch: int = 10**6) -> bytes:
    content = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(content, table.schema, options=options) as writer:
        writer.write_table(table, batch)
    return content.getvalue()


WORDS = pa.array(["north", "south"] * 500)
TABLE = pa.table({"a": np.arange(1000.0), "w": WORDS, "n": pa.array([None, 1] * 500), "c": WORDS.dictionary_encode()})


@pytest.mark.parametrize("batch", [1000, 300])
@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_it_is_what_the_columns_take(compression: str, batch: int) -> None:
    assert unpacked_size(feather(TABLE, compression, batch)) == pytest.approx(TABLE.nbytes, rel=0.01)
    assert unpacked_size(feather(TABLE, None, batch)) == 0


@pytest.mark.parametrize("table", [{"a": np.zeros(2 * 10**8)}, {"a": ["x" * 10**9], "b": [1.0]}], ids=["rows", "word"])
def test_what_is_packed_to_nothing_is_refused_before_it_is_unpacked(tmp_path: Path, table: dict[str, object]) -> None:
    (tmp_path / "x.feather").write_bytes(feather(pa.table(table), "zstd", 10**9))
    before = pa.total_allocated_bytes()
    with pytest.raises(DataError, match="made to fill memory"):
        read_sheet(str(tmp_path / "x.feather"))
    assert pa.total_allocated_bytes() - before < 2**20


def test_damage_is_an_error_and_nothing_else() -> None:
    sound = feather(TABLE.slice(0, 40), "zstd")
    for place in range(len(sound)):
        for content in (sound[:place], sound[:place] + bytes([sound[place] ^ 0xFF]) + sound[place + 1 :]):
            try:
                assert unpacked_size(content) >= 0
            except ValueError:
                continue
