"""What a program holds in memory, NumPy arrays, tensors and data frames, as rows of numbers or as images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfloop.core.errors import DataError, kind_in_words, quoted, said
from selfloop.core.forms import COMMAS
from selfloop.data.reading.exact import EXACT, refuse_rounded, rounded
from selfloop.data.reading.kinds import numbers_of, strictly_numbers
from selfloop.data.reading.sheets import Sheet, of_arrow, of_python, refuse_repeated
from selfloop.data.reading.tables import Coded, Rows, index, of_sheet, refuse_bad_values, without_index

FILES = "text is read from files: write one a line to a .txt, or as a JSON string a line to a .jsonl, and name that"
_WANTED = "rows of numbers are (N, d), images uint8 (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W)"


def is_array(x: object) -> bool:
    """Whether this module reads such an object."""
    return isinstance(x, np.ndarray | Tensor) or is_frame(x)


def is_texts(x: object) -> bool:
    """Whether it is a list, an array or a column of strings, which is not read, but named in refusals."""
    words = getattr(getattr(x, "dtype", None), "kind", "") in tuple("OUT")  # NumPy's and pandas' kinds of strings
    values: Any = getattr(x, "tolist", list)() if words and getattr(x, "ndim", 0) == 1 else x
    return isinstance(values, list | tuple) and len(values) > 0 and all(isinstance(each, str) for each in values)


def _is_rows(x: object) -> bool:
    """Whether it is a list of rows of numbers."""
    rows = x if isinstance(x, list | tuple) else ()
    return len(rows) > 0 and all(isinstance(row, list | tuple) for row in rows)


def is_frame(x: object) -> bool:
    """Whether it is a data frame of pandas, which is not imported to find out, of polars, or another Arrow table."""
    return is_pandas(x) or (hasattr(type(x), "__arrow_c_stream__") and hasattr(x, "columns"))


def is_pandas(x: object) -> bool:
    """Whether it is a data frame of pandas."""
    return any(cls.__module__.split(".")[0] == "pandas" and cls.__name__ == "DataFrame" for cls in type(x).__mro__)


def plain_frame(x: Any) -> bool:
    """Whether a frame is one of pandas with numbers alone."""
    return is_pandas(x) and all(getattr(dtype, "kind", "O") in "iuf" for dtype in x.dtypes)


def of_frame(x: Any, source: str) -> Sheet:
    """Return a data frame as a sheet, without an index that pandas wrote.

    Raises:
        DataError: it has no columns, or one that cannot be read.
    """
    import pyarrow as pa

    try:
        table = None if is_pandas(x) else pa.table(x)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"{source} cannot be read ({said(error, 120)})") from error
    if table is not None:
        names = list(table.column_names)
        sheet = of_arrow(table, source, "")
    else:
        names = [str(name) for name in x.columns]
        refuse_repeated(names, f"{source}: column {{}} is named twice; names must differ")
        sheet = of_python({name: _intervals_named(x.iloc[:, i]) for i, name in enumerate(names)}, source, "")
    if not names:
        raise DataError(f"{source} has no columns")
    if not all(names):
        raise DataError(f"{source}: a column has no name; name it")
    refuse_repeated(names, f"{source}: column {{}} is named twice; names must differ")
    first = index(names, lambda i: numbers_of(sheet, i), source)
    return sheet.only(names[first:])


def _intervals_named(column: Any) -> Any:
    """Return a column of pandas with the names of the intervals that it is cut into, which Arrow does not know."""
    own = getattr(column.dtype, "categories", None)
    if own is None or not str(own.dtype).startswith("interval"):
        return column
    return column.cat.rename_categories([str(each) for each in own])


def frame_numbers(x: Any, source: str) -> Rows:
    """Return a data frame as rows of numbers.

    Raises:
        DataError: a column holds anything else, or lacks values.
    """
    sheet = of_frame(x, source)
    return Rows(sheet.columns, np.column_stack([numbers.values for numbers in strictly_numbers(sheet)]))


def read_array(
    x: Any,
    source: str,
    columns: Sequence[str] | None = None,
    least: int = 3,
    types: Mapping[str, str] | None = None,
) -> Rows | Coded | Tensor:
    """Return a copy of what an array, tensor or data frame holds.

    Args:
        x: it.
        source: names it in messages, before its shape.
        columns: names for those of an array or tensor, x0, x1, … where there are none; a frame has its own.
        least: how many rows there must be.
        types: what columns of a frame are declared as; None where that cannot be said.

    Returns:
        Rows of numbers, rows of columns of several kinds, or uint8 images (N, C, H, W).

    Raises:
        DataError: it holds anything else, too few rows, or a value that is missing, infinite or beyond 2⁵³.
    """
    if is_frame(x):
        if columns is not None:
            raise DataError(f"{source} has names for its columns: choose some by frame[[…]], and leave columns out")
        sheet = replace(of_frame(x, f"{source} {tuple(x.shape)}"), settings=types is not None)
        held = of_sheet(sheet, types or {}, least)
        return replace(held, dtypes=(), form=COMMAS) if isinstance(held, Rows) else held
    if is_texts(x):
        raise DataError(f"{source} holds strings: {FILES}")
    if types:
        raise DataError(f"{source} holds numbers alone: leave types out, or give a data frame")
    if not isinstance(x, np.ndarray | Tensor):
        raise DataError(
            f"{source} is a {type(x).__name__}: give a NumPy array, a tensor or a data frame of pandas, polars or Arrow"
            + (", as x.to_frame() is" if hasattr(x, "to_frame") else ", as numpy.array(x) is" if _is_rows(x) else "")
        )
    try:
        found = _of_tensor(x) if isinstance(x, Tensor) else _unmasked(x, source)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise DataError(f"{source} cannot be read as a dense array ({said(error, 120)}): {_WANTED}") from error
    source = f"{source} {found.shape}"
    if found.dtype == np.uint8 and found.ndim in (3, 4):
        if columns is not None:
            raise DataError(f"{source} holds images, which have no columns: leave columns out")
        return _images(found, source, least)
    if found.ndim != 2 or found.shape[1] < 1:
        raise DataError(f"{source} of {kind_in_words(found.dtype)} has no shape that data have: {_WANTED}")
    return _checked(_of_numbers(found, source, columns), source, least)


def _of_tensor(x: Tensor) -> np.ndarray:
    x = x.detach().cpu()
    return x.double().numpy() if x.dtype.is_floating_point else x.resolve_conj().numpy()  # NumPy has no bfloat16


def _unmasked(x: np.ndarray, source: str) -> np.ndarray:
    if np.ma.is_masked(x):
        raise DataError(f"{source} {x.shape} is masked, and so values are missing; remove these rows or fill them in")
    return np.asarray(x)


def _images(x: np.ndarray, source: str, least: int) -> Tensor:
    first, last = x.ndim == 3 or x.shape[1] in (1, 3), x.ndim == 4 and x.shape[3] in (1, 3)
    if first == last or 0 in x.shape[1:]:
        why = "may have its channels first or last" if first else "has no shape that images have"
        raise DataError(f"{source} of uint8 {why}: {_WANTED}")
    if len(x) < least:
        raise DataError(f"{source} has {len(x)} images; it needs {least}")
    x = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2) if last else x
    return torch.from_numpy(np.array(x, order="C"))


def _of_numbers(x: np.ndarray, source: str, columns: Sequence[str] | None) -> Rows:
    names = [f"x{i}" for i in range(x.shape[1])] if columns is None else [*columns]
    if x.dtype.kind not in "iuf":
        if x.dtype.kind == "O" and _beyond(x.flat):
            raise rounded(source)
        raise DataError(f"{source} holds {kind_in_words(x.dtype)}: give whole numbers or floats")
    if len(names) != x.shape[1]:
        raise DataError(f"{source} has {x.shape[1]} columns, and columns names {len(names)}")
    for name, column in zip(names, x.T, strict=True):
        refuse_rounded(column, f"{source}, column {quoted(name)}")
    with np.errstate(over="ignore"):  # of long doubles, which are then infinite, and refused
        return Rows(names, np.array(x, dtype=np.float64, order="C"))


def _beyond(objects: Iterable[Any]) -> bool:
    """Whether these are Python's whole numbers, and such that NumPy and pandas hold them as objects."""
    there = [*objects]
    return all(isinstance(each, int) for each in there) and any(abs(each) > EXACT for each in there)


def _checked(rows: Rows, source: str, least: int) -> Rows:
    if not all(isinstance(name, str) and name for name in rows.columns):
        raise DataError(f"{source}: a column has no name; name it")
    refuse_repeated(rows.columns, f"{source}: column {{}} is named twice; names must differ")
    rows = without_index(rows, source)
    refuse_bad_values(rows, source, least)
    return rows
