"""What metrics take: arrays, tensors or data frames of N events each, seen as rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from selfloop.core.errors import listed
from selfloop.data.reading.memory import is_pandas

ArrayLike = Tensor | NDArray[Any]

_SHORT = (torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.int8, torch.int16)
_FAR = 2.0**16  # half ranges: what is nearer loses no more than five of its digits
_MIDDLE = 60  # binary digits before or behind the point, of which fourth powers are within float64 by far


def rows(x: Any, name: str, least: int = 1, finite: bool = True) -> Tensor:
    """Return (N, *event) events as (N, d) rows on the CPU, in float32 where that holds every value, else float64.

    Raises:
        ValueError: fewer than ``least`` rows, no event axis or, unless ``finite`` is false, an entry that is
            not finite; the message has ``name``.
    """
    x = x.to_numpy(dtype=np.float64) if is_pandas(x) else x
    x = torch.from_numpy(np.ascontiguousarray(x)) if isinstance(x, np.ndarray) else x.detach().cpu()
    if x.ndim < 2 or len(x) < least:
        raise ValueError(f"{name} has shape {tuple(x.shape)}, but must be (N, …) with N at least {least}")
    flat: Tensor = x.flatten(1).to(torch.float32 if x.dtype in _SHORT else torch.float64)
    if finite and not torch.isfinite(flat).all():
        raise ValueError(f"{name} has entries that are not finite")
    return flat.contiguous()


def alike(a: Any, b: Any, names: tuple[str, str] = ("real", "generated")) -> tuple[ArrayLike, ArrayLike]:
    """Return two sets whose events are of one shape; the columns of data frames are in the order of the first.

    Raises:
        ValueError: one has no event axis; they differ in shape, even if they have equally many values, or in their
            columns.
    """
    for x, name in zip((a, b), names, strict=True):
        if x.ndim < 2:
            raise ValueError(f"{name} has shape {tuple(x.shape)}, but must be (N, …)")
    shapes = [tuple(x.shape[1:]) for x in (a, b)]
    if shapes[0] != shapes[1]:
        told = [
            f"{name} has {math.prod(shape)} values an event, {shape}" for name, shape in zip(names, shapes, strict=True)
        ]
        raise ValueError(", and ".join(told))
    columns = [[*map(str, x.columns)] if is_pandas(x) else [] for x in (a, b)]
    if not any(columns):
        return a, b
    if sorted(columns[0]) != sorted(columns[1]) or len({*columns[0]}) < len(columns[0]):
        told = [f"{name} has {listed(of) or 'none'}" for name, of in zip(names, columns, strict=True)]
        raise ValueError(f"columns are matched by name, each there once: {', and '.join(told)}")
    return a, b[a.columns]


def pair(a: Any, b: Any, names: tuple[str, str] = ("real", "generated"), least: int = 1) -> list[Tensor]:
    """Return two sets of events as rows of one width and number type.

    Raises:
        ValueError: as :func:`rows` and :func:`alike`.
    """
    a, b = alike(a, b, names)
    x, y = rows(a, names[0], least), rows(b, names[1], least)
    wide = torch.promote_types(x.dtype, y.dtype)
    return [x.to(wide), y.to(wide)]


def level(*sets: Tensor) -> tuple[list[Tensor], float]:
    """Return sets of rows (N, d) near the origin and of ordinary size, and the factor of size.

    Columns that are very far from 0 beside their range are moved by a multiple of a power of two, and rows whose fourth
    powers could over- or underflow are divided by one: no difference loses a digit, and no sum or product need lose
    more than its own. Other sets, and so all that are standardised, are returned as they are.
    """
    # NumPy's calls cost a tenth of torch's, and a metric of few rows is little else.
    low = np.minimum.reduce([x.numpy().min(0).astype(np.float64) for x in sets])
    high = np.maximum.reduce([x.numpy().max(0).astype(np.float64) for x in sets])
    middle, span = high / 2 + low / 2, high / 2 - low / 2
    span = np.where(span > 0, span, span.max(initial=0.0))
    step = np.ldexp(1.0, (np.frexp(span)[1] + 3).clip(-1000, 1000))
    with np.errstate(over="ignore"):
        shift = np.where(np.abs(middle) > _FAR * span, np.rint(middle / step) * step, 0.0)
    if shift.any():
        moved = torch.from_numpy(shift)
        sets = tuple((x.double() - moved).to(x.dtype) for x in sets)
    size = float(np.maximum(np.abs(high - shift), np.abs(low - shift)).max(initial=0.0))
    scale = ordinary(size)
    return (list(sets) if scale == 1 else [x.double() / scale for x in sets]), scale


def ordinary(size: float) -> float:
    """Return by what numbers of a size are divided lest their fourth powers over- or underflow, a power of two."""
    if size == 0 or 2.0**-_MIDDLE <= size <= 2.0**_MIDDLE:
        return 1.0
    return float(2.0 ** min(math.frexp(size)[1], 1023))
