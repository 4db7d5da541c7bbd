"""What one row of a data set is: its shape and type, its units, how it is restored and drawn, what it is alike to.

There are vectors, rows of mixed columns, images, and sequences of tokens. A set is a tensor (N, *shape) in model units;
an object of these classes says what its rows mean, and no code elsewhere asks which kind they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from selfloop.core.columns import Column, Number, plain, read_column
from selfloop.core.errors import DataError
from selfloop.core.forms import COMMAS, LINES, Form, read_form
from selfloop.core.sequences import ended, lengths
from selfloop.core.tokens import EDGE, Tokenizer, read_tokenizer

Kind = Literal["vectors", "images", "text"]
"""The words by which data and generators say what events they hold and make."""

DATA_UNITS = "data units"
"""The units in which data come, where nothing scales them."""


class Events(Protocol):
    """What the rows of a set are."""

    @property
    def kind(self) -> str:
        """The word for it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one event in model units."""

    @property
    def space(self) -> tuple[int, ...]:
        """What a generator's ``init`` is told of an event: its shape and, of text, how many tokens there are."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the coordinates of a vector, () where there are none."""

    @property
    def classes(self) -> int:
        """How many classes rows are of, which labels beside them tell; 0 where there are no labels."""

    @property
    def categories(self) -> tuple[range, ...]:
        """The coordinates of each category, as :class:`~selfloop.core.samples.Samples` has them; () where none is."""

    @property
    def unit(self) -> str:
        """What 1 is in model units, in words: distances, means and deviations between rows are given in it."""

    def typed(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return rows in the number type in which a model of that type takes them."""

    def restore(self, x: Tensor) -> Tensor:
        """Return (..., *shape) rows in the user's units, float64 on the CPU."""

    def snap(self, x: Tensor) -> Tensor:
        """Return (N, *shape) finite samples as the nearest rows that there can be, of the same type."""

    def pixels(self, x: Tensor) -> Tensor | None:
        """Return (N, *shape) rows as uint8 pictures (N, 1 or 3, height, width); None where they are no pictures."""

    def alike(self, other: Events) -> bool:
        """Whether rows of both mean the same, so that sets of them may be compared."""

    def plain(self) -> dict[str, Any]:
        """Return by what it is known as JSON takes it, for :func:`read_events`."""

    def description(self) -> dict[str, Any]:
        """Return what else is told of it, such that rows mean the same without it, as JSON takes it."""


@dataclass(frozen=True)
class Raster:
    """How a vector of numbers is a grey picture, row by row.

    Attributes:
        height, width: in pixels.
        black, white: the user units of both.
    """

    height: int
    width: int
    black: float
    white: float


@dataclass(frozen=True)
class Numbers:
    """What numbers the user's own column holds.

    Attributes:
        dtype: NumPy's name of their type, a whole or a floating one.
        low, high: the least and the greatest of them.
    """

    dtype: str
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Vectors:
    """Numbers (d,); user units are ``x * scale + shift``.

    Attributes:
        columns: names of the coordinates, in order.
        shift: (d,) float64.
        scale: (d,) float64, positive.
        raster: the picture that a vector is, if it is one.
        word: what a model unit is, such as "standard deviations"; "" where the scale alone says it.
        numbers: what the user's columns hold, () where that is not known.
        form: how the user's file writes them.
    """

    columns: tuple[str, ...]
    shift: Tensor
    scale: Tensor
    raster: Raster | None = None
    word: str = ""
    numbers: tuple[Numbers, ...] = ()
    form: Form = COMMAS
    kind: ClassVar[Kind] = "vectors"
    categories: ClassVar[tuple[range, ...]] = ()
    classes: ClassVar[int] = 0

    @classmethod
    def unscaled(cls, columns: tuple[str, ...], raster: Raster | None = None) -> Vectors:
        """Return vectors whose model units are the user's."""
        d = len(columns)
        return cls(columns, torch.zeros(d, dtype=torch.float64), torch.ones(d, dtype=torch.float64), raster)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one event, (d,)."""
        return (len(self.columns),)

    @property
    def space(self) -> tuple[int, ...]:
        """The shape."""
        return self.shape

    @property
    def unit(self) -> str:
        """What 1 is in model units."""
        if self.word:
            return self.word
        first = float(self.scale[0])
        if (self.scale != first).any():
            return "scaled data units"  # each column by a number of its own
        return DATA_UNITS if first == 1 else f"{first:g} {DATA_UNITS}"

    def typed(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return rows in the model's number type."""
        return x.to(dtype)

    def restore(self, x: Tensor) -> Tensor:
        """Return (..., d) rows in user units, float64 on the CPU whatever the model computes in."""
        return x.detach().to("cpu", torch.float64) * self.scale + self.shift

    def table(self, x: Tensor) -> dict[str, np.ndarray]:
        """Return (N, d) rows as the user's columns, (N,) each: in their units, of their type, within their bounds."""
        values = dict(zip(self.columns, self.restore(x).numpy().T, strict=True))
        for name, own in zip(self.columns, self.numbers, strict=False):
            dtype = np.dtype(own.dtype)
            value = np.rint(values[name]) if dtype.kind in "iu" else values[name]
            values[name] = value.clip(own.low, own.high).astype(dtype)
        return values

    def snap(self, x: Tensor) -> Tensor:
        """Return the samples as they are."""
        return x

    def pixels(self, x: Tensor) -> Tensor | None:
        """Return (N, d) rows as uint8 (N, 1, height, width), rounded and clipped; None where they are no pictures."""
        if self.raster is None:
            return None
        black, white = self.raster.black, self.raster.white
        levels = (self.restore(x) - black) * (255 / (white - black))
        return levels.round().clamp(0, 255).to(torch.uint8).view(len(x), 1, self.raster.height, self.raster.width)

    def alike(self, other: Events) -> bool:
        """Whether both have the same columns."""
        return isinstance(other, Vectors) and self.columns == other.columns and self.raster == other.raster

    def plain(self) -> dict[str, Any]:
        """Return it as JSON takes it; floats keep all their digits."""
        return {
            "kind": self.kind,
            "columns": list(self.columns),
            "shift": self.shift.tolist(),
            "scale": self.scale.tolist(),
            "raster": None if self.raster is None else vars(self.raster),
        }

    def description(self) -> dict[str, Any]:
        """Return what follows from the data and is told of them."""
        told: dict[str, Any] = {"word": self.word, "numbers": [vars(each) for each in self.numbers]}
        return told | ({"form": self.form.plain()} if self.form.plain() else {})


@dataclass(frozen=True, eq=False)
class Mixed:
    """Rows of a table with columns of several kinds, encoded into numbers (d,), each column in coordinates of its own.

    Attributes:
        parts: the columns, in order.
        form: how the user's file writes them.
    """

    parts: tuple[Column, ...]
    form: Form = COMMAS
    kind: ClassVar[Kind] = "vectors"
    classes: ClassVar[int] = 0

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the coordinates."""
        return tuple(name for part in self.parts for name in part.coordinates)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one event, (d,)."""
        return (len(self.columns),)

    @property
    def space(self) -> tuple[int, ...]:
        """The shape."""
        return self.shape

    @property
    def categories(self) -> tuple[range, ...]:
        """The coordinates of the levels of each category, and that of each number which says where it is missing."""
        found, at = [], 0
        for part in self.parts:
            number = isinstance(part, Number)
            first, at = at + number, at + len(part.coordinates)
            if at - first > (not number):
                found.append(range(first, at))
        return tuple(found)

    @property
    def unit(self) -> str:
        """What 1 is in model units: a deviation of a number, and √2 what any two categories are apart."""
        return "encoded units"

    def typed(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return rows in the model's number type."""
        return x.to(dtype)

    def _apart(self, x: Tensor) -> list[np.ndarray]:
        """Return the coordinates of each column of (N, d) rows, (N, width) float64."""
        widths = [len(part.coordinates) for part in self.parts]
        return np.split(x.detach().to("cpu", torch.float64).numpy(), np.cumsum(widths)[:-1], axis=1)

    def encode(self, table: Mapping[str, np.ndarray]) -> Tensor:
        """Return values by column, (N,) each, as rows (N, d) float64.

        Raises:
            ValueError: as :meth:`Column.encode`, the name of the column being the third argument.
        """
        rows = len(table[self.parts[0].name])
        x, at = np.empty((rows, *self.shape)), 0
        for part in self.parts:
            width = len(part.coordinates)
            try:
                x[:, at : at + width] = part.encode(table[part.name])
            except ValueError as error:
                raise ValueError(*error.args, part.name) from error
            at += width
        return torch.from_numpy(x)

    def table(self, x: Tensor) -> dict[str, np.ndarray]:
        """Return (N, d) rows as the user's columns, (N,) each: values that they may have."""
        return {part.name: part.decode(own) for part, own in zip(self.parts, self._apart(x), strict=True)}

    def snap(self, x: Tensor) -> Tensor:
        """Return (N, d) samples as the rows that their values are."""
        return self.encode(self.table(x)).to(x)

    def restore(self, x: Tensor) -> Tensor:
        """Return (..., d) rows with numbers in the user's units, float64 on the CPU."""
        rows = self._apart(x.reshape(-1, x.shape[-1]))
        restored = np.column_stack([part.restore(own) for part, own in zip(self.parts, rows, strict=True)])
        return torch.from_numpy(restored).view(x.shape)

    def pixels(self, x: Tensor) -> Tensor | None:
        """They are no pictures."""
        return None

    def alike(self, other: Events) -> bool:
        """Whether both have the same coordinates."""
        return isinstance(other, Mixed) and self.columns == other.columns

    def plain(self) -> dict[str, Any]:
        """Return it as JSON takes it; floats keep all their digits."""
        return {"kind": "mixed", "parts": [plain(part) for part in self.parts]}

    def description(self) -> dict[str, Any]:
        """Return the form of the file."""
        return {"form": self.form.plain()}


@dataclass(frozen=True)
class Images:
    """uint8 pictures (C, H, W), their levels 0 … 255 model and user units both.

    Attributes:
        shape: (channels, height, width) of one.
        classes: how many classes pictures are of, 0 where they have no labels; a label is 0 … classes − 1.
    """

    shape: tuple[int, ...]
    classes: int = 0
    kind: ClassVar[Kind] = "images"
    categories: ClassVar[tuple[range, ...]] = ()

    @property
    def space(self) -> tuple[int, ...]:
        """The shape."""
        return self.shape

    @property
    def columns(self) -> tuple[str, ...]:
        """There are none."""
        return ()

    @property
    def unit(self) -> str:
        """What 1 is in model units."""
        return "pixel levels"

    def typed(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the levels as they are, whatever the model computes in."""
        return x

    def restore(self, x: Tensor) -> Tensor:
        """Return the levels as float64 on the CPU."""
        return x.detach().to("cpu", torch.float64)

    def snap(self, x: Tensor) -> Tensor:
        """Return the samples as they are."""
        return x

    def pixels(self, x: Tensor) -> Tensor | None:
        """Return the pictures as they are."""
        return x

    def alike(self, other: Events) -> bool:
        """Whether both are pictures of one size."""
        return isinstance(other, Images) and self.shape == other.shape

    def plain(self) -> dict[str, Any]:
        """Return it as JSON takes it; classes are told of where there are some."""
        classes = {"classes": self.classes} if self.classes else {}
        return {"kind": self.kind, "shape": list(self.shape)} | classes

    def description(self) -> dict[str, Any]:
        """There is nothing else."""
        return {}


@dataclass(frozen=True, eq=False)
class Text:
    """Sequences (L,) of tokens, int32. A row holds a unit of text, a document or a line, or a piece of one.

    The first edge, token 0, ends a row, and all tokens after it are edges. A unit longer than L fills several rows, all
    but the last without an edge; no row spans units. So the law of a row is that of its tokens up to and including the
    first edge, or of all L where there is none.

    Attributes:
        block: L.
        tokenizer: what the tokens are.
        column: what text is called where it stands in a table.
        form: how the user's file writes it.
    """

    block: int
    tokenizer: Tokenizer
    column: str = "text"
    form: Form = LINES
    kind: ClassVar[Kind] = "text"
    columns: ClassVar[tuple[str, ...]] = ()
    categories: ClassVar[tuple[range, ...]] = ()
    classes: ClassVar[int] = 0
    unit: ClassVar[str] = "tokens"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one event, (L,)."""
        return (self.block,)

    @property
    def space(self) -> tuple[int, ...]:
        """(L, V)."""
        return (self.block, self.tokenizer.size)

    def typed(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the tokens as they are, whatever the model computes in."""
        return x

    def restore(self, x: Tensor) -> Tensor:
        """Return the tokens as float64 on the CPU."""
        return x.detach().to("cpu", torch.float64)

    def rows(self, tokens: np.ndarray) -> np.ndarray:
        """Return the tokens (k,) of a unit of text as rows (⌈k / L⌉, L) int32; an empty one is a row of edges."""
        rows = np.full((max(1, -(-len(tokens) // self.block)), self.block), EDGE, dtype=np.int32)
        rows.reshape(-1)[: len(tokens)] = tokens
        return rows

    def texts(self, x: Tensor) -> list[str]:
        """Return the text of each of (N, L) rows."""
        rows = x.detach().cpu().numpy()
        return [self.tokenizer.decode(row[:k]) for row, k in zip(rows, lengths(x).tolist(), strict=True)]

    def table(self, x: Tensor) -> dict[str, np.ndarray]:
        """Return (N, L) rows as one column, (N,) of objects."""
        values = np.empty(len(x), dtype=object)
        values[:] = self.texts(x)
        return {self.column: values}

    def snap(self, x: Tensor) -> Tensor:
        """Return (N, L) samples with nothing but edges after the first one.

        Raises:
            DataError: there is no such token as one of theirs.
        """
        if x.numel() and not 0 <= int(x.min()) <= int(x.max()) < self.tokenizer.size:
            wrong = int(x.max()) if int(x.min()) >= 0 else int(x.min())
            raise DataError(f"samples hold token {wrong}, and tokens are 0 to {self.tokenizer.size - 1}")
        return ended(x)

    def pixels(self, x: Tensor) -> Tensor | None:
        """They are no pictures."""
        return None

    def alike(self, other: Events) -> bool:
        """Whether both are of the same tokens, and rows as long."""
        return isinstance(other, Text) and self.block == other.block and self.tokenizer == other.tokenizer

    def plain(self) -> dict[str, Any]:
        """Return it as JSON takes it."""
        return {"kind": self.kind, "block": self.block, "tokenizer": self.tokenizer.plain()}

    def description(self) -> dict[str, Any]:
        """Return the form of the file."""
        return {"column": self.column, "form": self.form.plain()}


def row_size(kind: Kind, space: Sequence[int], dtype: torch.dtype) -> int:
    """Return the bytes of a row of events of a space for a model that computes in ``dtype``: text stays int32."""
    return 4 * space[0] if kind == Text.kind else math.prod(space) * dtype.itemsize


def row_in_words(kind: Kind, space: Sequence[int]) -> str:
    """Return what a row of events of a space is, in words."""
    return f"{space[0]} tokens out of {space[1]}" if kind == Text.kind else f"shape {tuple(space)}"


def read_events(written: Mapping[str, Any], description: Mapping[str, Any] | None = None) -> Events:
    """Return what :meth:`Events.plain` and :meth:`Events.description` wrote; the latter may be missing.

    Raises:
        KeyError, TypeError, ValueError: it is something else.
    """
    told = description or {}
    form = read_form(told.get("form", {}))
    if written["kind"] == Images.kind:
        shape = tuple(map(int, written["shape"]))
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"images of shape {shape}")
        return Images(shape, int(written.get("classes", 0)))
    if written["kind"] == Text.kind:
        tokenizer = read_tokenizer(written["tokenizer"])
        return Text(int(written["block"]), tokenizer, str(told.get("column", "text")), form)
    if written["kind"] == "mixed":
        return Mixed(tuple(map(read_column, written["parts"])), form)
    if written["kind"] != Vectors.kind:
        raise ValueError(f"events of kind {written['kind']!r} are not known to this version")
    raster = None if written["raster"] is None else Raster(**written["raster"])
    shift, scale = (torch.tensor(written[key], dtype=torch.float64) for key in ("shift", "scale"))
    numbers = tuple(Numbers(**each) for each in told.get("numbers", ()))
    columns = tuple(written["columns"])
    if not all(isinstance(text, str) for text in (*columns, told.get("word", ""))):
        raise TypeError("names that are no text")
    sides = () if raster is None else (raster.height * raster.width,)
    if not columns or {*shift.shape, *scale.shape, *sides} != {len(columns)} or not (scale > 0).all():
        raise ValueError("units of other columns")
    if raster is not None and not raster.white != raster.black:
        raise ValueError("a picture of one level")
    if any(np.dtype(own.dtype).kind not in "iufb" or not own.low <= own.high for own in numbers):
        raise ValueError("numbers of no type, or without order")
    return Vectors(columns, shift, scale, raster, told.get("word", ""), numbers, form)
