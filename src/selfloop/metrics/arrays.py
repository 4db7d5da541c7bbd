"""What metrics take: arrays or tensors of N events each, seen as rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ArrayLike = Tensor | NDArray[Any]

_SHORT = (torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.int8, torch.int16)


def rows(x: ArrayLike, name: str, least: int = 1, finite: bool = True) -> Tensor:
    """Return (N, *event) events as (N, d) rows on the CPU, in float32 where that holds every value, else float64.

    Raises:
        ValueError: fewer than ``least`` rows, no event axis or, unless ``finite`` is false, an entry that is
            not finite; the message has ``name``.
    """
    x = torch.from_numpy(np.ascontiguousarray(x)) if isinstance(x, np.ndarray) else x.detach().cpu()
    if x.ndim < 2 or len(x) < least:
        raise ValueError(f"{name} has shape {tuple(x.shape)}, but must be (N, …) with N at least {least}")
    flat = x.flatten(1).to(torch.float32 if x.dtype in _SHORT else torch.float64)
    if finite and not torch.isfinite(flat).all():
        raise ValueError(f"{name} has entries that are not finite")
    return flat.contiguous()


def pair(a: ArrayLike, b: ArrayLike, names: tuple[str, str] = ("real", "generated"), least: int = 1) -> list[Tensor]:
    """Return two sets of events as rows of one width and number type.

    Raises:
        ValueError: as :func:`rows`, or the events differ in size.
    """
    x, y = rows(a, names[0], least), rows(b, names[1], least)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"{names[0]} has {x.shape[1]} values an event and {names[1]} {y.shape[1]}")
    wide = torch.promote_types(x.dtype, y.dtype)
    return [x.to(wide), y.to(wide)]
