"""Data that a program has in memory: numbers and images, from NumPy, torch or pandas.

Settings know rows by their SHA-256. The run directory keeps the rows themselves, so that a run goes on, and is read,
where the program is gone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
from pydantic import Field, ValidationError, ValidationInfo, model_validator
from torch import Tensor

from selfloop.core.capabilities import Capability
from selfloop.core.config import BASE, SHA256, one_line
from selfloop.core.errors import ConfigError, DataError
from selfloop.core.events import Events, Kind, Mixed, Text, Vectors, read_events
from selfloop.core.samples import State
from selfloop.data import kept
from selfloop.data.base import DATA, Parts, Split, divide
from selfloop.data.finite import Finite
from selfloop.data.image_files import divide_images
from selfloop.data.image_set import ImageSet
from selfloop.data.reading.memory import is_array, is_frame, is_texts, of_frame, read_array
from selfloop.data.reading.tables import Coded, Rows, like_sheet, refuse_target
from selfloop.data.table import Tabular, Units, divide_rows, in_order, moments
from selfloop.data.units import divide_units


class Held(Finite):
    """Rows in memory; made by :func:`array`.

    Attributes:
        sha256: of the rows.
        shape: of all of them, (N, *event).
        held_out_sha256: of the rows to hold out, where these are given beside them.
        n: how many train; None is all that are not held out or set aside.
        held_out: how many are held out, of the rows given for that where there are some.
    """

    sha256: SHA256
    shape: list[int] = Field(min_length=2)
    held_out_sha256: SHA256 | None = None
    n: int | None = Field(default=None, ge=2)
    held_out: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _beside_the_settings(self, info: ValidationInfo) -> Held:
        if (folder := (info.context or {}).get(BASE)) is not None:
            kept.look_in(folder)  # settings out of a run directory: its rows lie beside them
        if self.held_out_sha256 == self.sha256:
            raise ValueError("held_out holds the rows to train on: give others, or a number to hold out some of them")
        return self

    @property
    def source(self) -> str:
        """What messages call it."""
        return f"array {tuple(self.shape)}"

    def rows(self) -> Tensor:
        """Return all rows, (N, *event).

        Raises:
            DataError: neither this process nor a run directory that it has opened holds them.
        """
        return kept.find(self.sha256, self.source)

    def apart(self) -> Tensor | None:
        """Return the rows given to be held out, (M, *event).

        Raises:
            DataError: as :meth:`rows`.
        """
        return None if self.held_out_sha256 is None else kept.find(self.held_out_sha256, f"held_out of {self.source}")

    def files(self) -> dict[str, State]:
        """Return all rows: no file of the user's has them."""
        found, apart = {kept.file_name(self.sha256): {"rows": self.rows()}}, self.apart()
        if self.held_out_sha256 is not None and apart is not None:
            found[kept.file_name(self.held_out_sha256)] = {"rows": apart}
        return found


@DATA.register
class Array(Held, Tabular):
    """Rows of numbers (N, d) in memory, standardised and divided as :class:`selfloop.data.table.Table` does.

    Attributes:
        dtype: of the rows as they are kept.
        columns: their names.
    """

    name: Literal["array"] = "array"
    dtype: Literal["float64"] = "float64"
    columns: list[str] = Field(min_length=1)

    def load(self, seeds: Sequence[int]) -> Split:
        """Standardise and divide the rows, events (d,)."""
        rows, apart = Rows(self.columns, self.rows().numpy()), self.apart()
        others = None if apart is None else apart.numpy()
        return divide_rows(rows, self.n, self.held_out, seeds, self.source, self.fresh_rows, others)


@DATA.register
class ScaledArray(Held, Tabular):
    """Rows of numbers (N, d) in memory, in units that are given: ``(x - shift) / scale``.

    Attributes:
        dtype: of the rows as they are kept.
        columns: their names.
        shift: of each column.
        scale: of each column, above 0.
        word: what a unit is, "" where the scale alone says it.
    """

    name: Literal["scaled_array"] = "scaled_array"
    dtype: Literal["float64"] = "float64"
    columns: list[str] = Field(min_length=1)
    shift: list[float]
    scale: list[Annotated[float, Field(gt=0)]]
    word: str = ""

    @model_validator(mode="after")
    def _of_every_column(self) -> ScaledArray:
        if not len(self.columns) == len(self.shift) == len(self.scale) == self.shape[-1]:
            raise ValueError(f"columns, shift and scale are of each of the {self.shape[-1]} columns")
        return self

    def load(self, seeds: Sequence[int]) -> Split:
        """Scale and divide the rows, events (d,)."""
        rows, apart = Rows(self.columns, self.rows().numpy()), self.apart()
        shift, scale = np.array(self.shift), np.array(self.scale)
        others = None if apart is None else apart.numpy()
        units = Units(shift, scale, self.word)
        return divide_rows(rows, self.n, self.held_out, seeds, self.source, self.fresh_rows, others, units)


@DATA.register
class EncodedTable(Held, Tabular):
    """Rows of columns of several kinds in memory, encoded, (N, d).

    Attributes:
        dtype: of the rows as they are kept.
        columns_sha256: of what the columns are, which is kept beside the rows.
    """

    name: Literal["encoded_table"] = "encoded_table"
    dtype: Literal["float64"] = "float64"
    columns_sha256: SHA256

    def files(self) -> dict[str, State]:
        """Return all rows, and what they are."""
        about = kept.find(self.columns_sha256, f"what the columns of {self.source} are")
        return super().files() | {kept.file_name(self.columns_sha256): {"rows": about}}

    def events(self) -> Mixed:
        """Return what the rows are.

        Raises:
            DataError: that is nowhere, as of :meth:`rows`.
        """
        about = kept.find(self.columns_sha256, f"what the columns of {self.source} are")
        found = _read(about)
        assert isinstance(found, Mixed)
        return found

    def load(self, seeds: Sequence[int]) -> Split:
        """Divide the rows, events (d,)."""
        rows, apart = Coded(self.events(), self.rows().numpy()), self.apart()
        refuse_target(rows.columns, rows.events.parts, self.target, self.source)
        others = None if apart is None else apart.numpy()
        return divide_rows(rows, self.n, self.held_out, seeds, self.source, self.fresh_rows, others)


def described(events: Mixed) -> dict[str, Any]:
    """Return the settings of :class:`EncodedTable` that say what its rows are, which the process keeps."""
    return {"columns_sha256": _kept(events)}


def told(events: Text) -> dict[str, Any]:
    """Return the setting of :class:`TokenArray` that says what its tokens are, which the process keeps."""
    return {"tokens_sha256": _kept(events)}


@DATA.register
class ImageArray(Held, ImageSet):
    """Images (N, C, H, W) in memory, divided as :class:`selfloop.data.image_files.ImageFiles` does.

    Attributes:
        dtype: of the images.
    """

    name: Literal["image_array"] = "image_array"
    dtype: Literal["uint8"] = "uint8"
    shape: list[int] = Field(min_length=4, max_length=4)

    def extent(self) -> tuple[tuple[int, ...], int]:
        """Return the shape of an image and how many there are to train on."""
        _, channels, height, width = self.shape
        return (channels, height, width), self.n or self._sets([0]).train.shape[1]

    def _sets(self, seeds: Sequence[int]) -> Parts:
        rows, apart = self.rows(), self.apart()
        return divide_images(rows, self.n, self.held_out, seeds, self.source, self.fresh_rows, apart)


@DATA.register
class TokenArray(Held):
    """Rows of tokens (N, L) in memory.

    Attributes:
        dtype: of the tokens.
        tokens_sha256: of what the tokens are, which is kept beside the rows.
        units_sha256: of how many rows each document fills, one after the other, kept there too, of which none is both
            trained on and held out; None where that is not known, or each is a row.
    """

    name: Literal["token_array"] = "token_array"
    holds: ClassVar[Kind] = "text"
    always: ClassVar[frozenset[Capability]] = frozenset(("text",))
    dtype: Literal["int32"] = "int32"
    shape: list[int] = Field(min_length=2, max_length=2)
    tokens_sha256: SHA256
    units_sha256: SHA256 | None = None

    def files(self) -> dict[str, State]:
        """Return all rows, and what they are."""
        found = super().files() | {kept.file_name(self.tokens_sha256): {"rows": self._about()}}
        units = self._units()
        return found if units is None else found | {kept.file_name(self.units_sha256 or ""): {"rows": units}}

    def load(self, seeds: Sequence[int]) -> Split:
        """Divide the rows, events (L,)."""
        rows, apart, units = self.rows().numpy(), self.apart(), self._units()
        others, fresh = None if apart is None else apart.numpy(), self.fresh_rows
        if units is None:
            parts = divide(rows, self.n, self.held_out, seeds, self.source, apart=others, fresh_rows=fresh)
        else:
            counts = units.numpy()
            parts = divide_units(
                rows, counts, self.n, self.held_out, seeds, self.source, apart=others, fresh_rows=fresh
            )
        return Split(train=parts.train, held_out=parts.held_out, events=_read(self._about()), aside=parts.aside)

    def _units(self) -> Tensor | None:
        of = f"how many rows the documents of {self.source} fill"
        return None if self.units_sha256 is None else kept.find(self.units_sha256, of)

    def _about(self) -> Tensor:
        return kept.find(self.tokens_sha256, f"what the tokens of {self.source} are")


def _read(about: Tensor) -> Events:
    """Return what rows are, as :func:`_kept` wrote it."""
    return read_events(*json.loads(about.numpy().tobytes()))


def _kept(events: Events) -> str:
    """Keep what rows are as long as the process lives, and return its SHA-256."""
    text = json.dumps([events.plain(), events.description()], sort_keys=True).encode()
    return kept.hold(torch.frombuffer(bytearray(text), dtype=torch.uint8))


Made = TypeVar("Made", Array, EncodedTable, ImageArray)


@DATA.takes
def _taken(x: Any) -> Held | None:
    return array(x) if is_array(x) or is_texts(x) else None  # texts are refused with what to do


def array(
    x: Any,
    *,
    held_out: Any = None,
    n: int | None = None,
    fresh_rows: int = 0,
    columns: Sequence[str] | None = None,
    types: Mapping[str, str] | None = None,
    target: str | None = None,
) -> Array | EncodedTable | ImageArray:
    """Return what a program holds in memory as data; ``Experiment(data=x)`` is short for it.

    Rows are copied, as float64 or uint8: what becomes of ``x`` afterwards does not matter.

    Args:
        x: numbers (N, d), as a NumPy array or a tensor; a data frame of pandas or polars; or uint8 images (N, H, W),
            (N, H, W, 1 or 3) or (N, 1 or 3, H, W).
        held_out: how many rows to hold out (None: 20 % of rows of numbers, 10 % of images), or other rows like those of
            ``x`` to be held out as they are.
        n: how many rows train; None is all others.
        fresh_rows: how many are set aside as new ones for later generations.
        columns: names for the columns of an array or tensor; x0, x1, … when left out.
        types: what columns of a frame are declared as, as of a :class:`selfloop.data.table.Table`.
        target: the column that is to be predicted from the others.

    Raises:
        DataError: ``x`` or ``held_out`` holds anything else, fewer than 3 rows, a value that is missing, infinite or
            beyond float64, or a column that never changes.
        ConfigError: a number is out of range.
    """
    rows, counted = read_array(x, "array", columns, types=types or {}), isinstance(held_out, Integral)
    numbers: dict[str, Any] = {"n": n, "held_out": int(held_out) if counted else None, "fresh_rows": fresh_rows}
    if isinstance(rows, Coded):
        refuse_target(rows.columns, rows.events.parts, target, "array")
        beside = None if held_out is None or counted else torch.from_numpy(_like_frame(held_out, rows.events))
        about = described(rows.events) | {"target": target}
        return _made(EncodedTable, torch.from_numpy(rows.values), beside, numbers | about)
    apart = None if held_out is None or counted else _apart(held_out, rows, columns)
    if isinstance(rows, Tensor):
        return _made(ImageArray, rows, _like_images(apart, rows), numbers)
    moments(rows, f"array {rows.values.shape}")
    refuse_target(rows.columns, (), target, "array")
    values = torch.from_numpy(rows.values)
    return _made(Array, values, _like_rows(apart, rows), numbers | {"columns": rows.columns, "target": target})


def _made(cls: type[Made], rows: Tensor, apart: Tensor | None, settings: dict[str, Any]) -> Made:
    known = {"sha256": kept.digest(rows), "held_out_sha256": None if apart is None else kept.digest(apart)}
    try:
        made = cls.model_validate(known | {"shape": list(rows.shape)} | settings)
    except ValidationError as error:
        raise ConfigError(one_line(error, cls)) from error
    for each in (rows, apart):
        if each is not None:
            kept.hold(each)
    return made


def _like_frame(x: Any, events: Mixed) -> np.ndarray:
    if not is_frame(x):
        raise DataError(f"held_out is {type(x).__name__}, and the rows to train on are a data frame: give one, too")
    return like_sheet(of_frame(x, "held_out"), events)


def _apart(x: Any, rows: Rows | Tensor, columns: Sequence[str] | None) -> Rows | Tensor:
    """Return other rows to hold out, of numbers or images as those to train on are."""
    if is_frame(x) and isinstance(rows, Rows):
        return Rows(rows.columns, like_sheet(of_frame(x, "held_out"), Vectors.unscaled(tuple(rows.columns))))
    found = read_array(x, "held_out", columns, least=1)
    if isinstance(found, Coded):
        raise DataError("held_out is a data frame, and the rows to train on are none")
    return found


def _like_images(apart: Rows | Tensor | None, images: Tensor) -> Tensor | None:
    """Return images to hold out (M, C, H, W), of the same size as those to train on."""
    if isinstance(apart, Rows) or (apart is not None and apart.shape[1:] != images.shape[1:]):
        what = (
            f"rows of {len(apart.columns)} numbers" if isinstance(apart, Rows) else f"images {tuple(apart.shape[1:])}"
        )
        raise DataError(f"held_out holds {what}, and those to train on are images {tuple(images.shape[1:])}")
    return apart


def _like_rows(apart: Rows | Tensor | None, rows: Rows) -> Tensor | None:
    """Return rows to hold out (M, d), with the columns of those to train on."""
    if isinstance(apart, Tensor):
        raise DataError("held_out holds images, and those to train on are rows of numbers")
    if apart is None:
        return None
    return torch.from_numpy(np.ascontiguousarray(in_order(apart, rows.columns, "held_out")))
