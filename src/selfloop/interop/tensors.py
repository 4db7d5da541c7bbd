"""Our stand-ins for what checkpoints name of torch, NumPy and the standard library: tensors and numbers, checked.

A tensor is a view of a storage (a run of numbers) by offset, size and stride. All three come from the file, so they
are held against the storage's length before torch sees them; views of one storage share their memory, as they did
where they were saved.

Source of the arguments: ``torch/_utils.py`` (torch 1.12 to 2.13) and NumPy's ``multiarray.scalar``.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from selfloop.interop.limits import STORED, Budget, damaged, unsafe
from selfloop.interop.pickles import Class, Function, Number, Vocabulary, key

DIMENSIONS = 16
"""The most axes of a tensor."""


@dataclass(frozen=True)
class StorageType:
    """Stand-in for a torch storage class."""

    dtype: torch.dtype


@dataclass(frozen=True, eq=False)
class Storage:
    """A run of numbers, (n,), that tensors show."""

    data: Tensor


def filled(content: bytes, dtype: torch.dtype) -> Tensor:
    """Return the numbers that little-endian bytes hold, (n,), in memory of their own."""
    # a bytearray, because torch will not have memory that it must not write to
    return torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)


def _natural(values: tuple[Any, ...]) -> bool:
    return all(type(value) is int and 0 <= value <= STORED for value in values)


def _tensor(budget: Budget, arguments: tuple[Any, ...]) -> Tensor:
    """Return what ``_rebuild_tensor`` and ``_rebuild_tensor_v2`` make of (storage, offset, size, stride, …).

    The rest is requires_grad, hooks and metadata: nothing to keep, and nothing but empty in a checkpoint.
    """
    match arguments:
        case (Storage(data=data), int() as offset, tuple() as size, tuple() as stride, *rest):
            _check_view(len(data), offset, size, stride)
        case _:
            raise unsafe("rebuilds a tensor from something else than a storage, offset, size and stride")
    if len(rest) > 3 or not all(isinstance(value, dict) and not value for value in rest[1:]):
        raise unsafe("has a tensor with hooks or metadata")
    count = math.prod(size)
    budget.view(count * data.element_size())
    return torch.as_strided(data, size, stride, offset) if count else torch.empty(size, dtype=data.dtype)


def _check_view(held: int, offset: int, size: tuple[Any, ...], stride: tuple[Any, ...]) -> None:
    if not (_natural((offset, *size, *stride)) and len(size) == len(stride) <= DIMENSIONS):
        raise unsafe("has a tensor whose offset, size or stride is negative, huge or no integer")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if count else 0
    if count > held or last >= max(held, 1):
        raise unsafe(f"has a tensor that reaches beyond its storage of {held} numbers")
    if math.prod(n for n in size if n) > STORED:
        raise unsafe("has an empty tensor of a huge shape")


def _parameter(budget: Budget, arguments: tuple[Any, ...]) -> Tensor:
    """Return the tensor of ``_rebuild_parameter`` (data, requires_grad, hooks)."""
    match arguments:
        case (Tensor() as data, bool(), dict() as hooks) if not hooks:
            return data
    raise unsafe("rebuilds a parameter from something else than a tensor")


def _ordered_dict(budget: Budget, arguments: tuple[Any, ...]) -> dict[Any, Any]:
    if arguments:
        raise unsafe("makes an OrderedDict from arguments")
    return {}


def _set(budget: Budget, arguments: tuple[Any, ...]) -> set[Any]:
    match arguments:
        case (list() as values,):
            budget.work(len(values))
            return {key(value) for value in values}
    raise unsafe("makes a set from something else than a list")


def _encode(budget: Budget, arguments: tuple[Any, ...]) -> bytes:
    """Return bytes that protocol 2 spells as text, ``_codecs.encode(text, "latin1")``: those of one number."""
    match arguments:
        case (str() as text, "latin1") if len(text) <= 16 and all(letter <= "ÿ" for letter in text):
            return text.encode("latin-1")
    raise unsafe("encodes text that is not the bytes of one number")


def number_type(budget: Budget, arguments: tuple[Any, ...]) -> Number:
    """Return the stand-in for ``numpy.dtype(name, align, copy)``."""
    codes = {"b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "f2": "e", "f4": "f", "f8": "d"}
    match arguments:
        case (str() as name, int(), int()) if name in codes:
            return Number(codes[name])
    raise unsafe("has a NumPy type that is not a plain number")


def _number(budget: Budget, arguments: tuple[Any, ...]) -> Any:
    """Return the number of ``numpy.…multiarray.scalar(dtype, bytes)``."""
    match arguments:
        case (Number(code=code), bytes() as content):
            try:
                return struct.unpack(f"<{code}", content)[0]
            except struct.error as error:
                raise damaged(f"a number of {len(content)} bytes in its pickle") from error
    raise unsafe("has a NumPy number of unusual make")


STORAGES: Vocabulary = {
    ("torch", f"{name}Storage"): StorageType(dtype)
    for name, dtype in {
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Float": torch.float32,
        "Double": torch.float64,
        "Byte": torch.uint8,
        "Int": torch.int32,
        "Long": torch.int64,
    }.items()
}

TENSORS: Vocabulary = {
    **STORAGES,
    ("torch._utils", "_rebuild_tensor"): Function(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Function(_tensor),
    ("torch._utils", "_rebuild_parameter"): Function(_parameter),
    ("collections", "OrderedDict"): Function(_ordered_dict),
    ("__builtin__", "set"): Function(_set),
    ("builtins", "set"): Function(_set),
    ("_codecs", "encode"): Function(_encode),
    ("numpy", "dtype"): Function(number_type),
    ("numpy.core.multiarray", "scalar"): Function(_number),
    ("numpy._core.multiarray", "scalar"): Function(_number),
    ("torch.nn.modules.container", "ModuleDict"): Class("ModuleDict"),
    ("torch.nn.modules.container", "ModuleList"): Class("ModuleList"),
    ("torch.nn.modules.container", "Sequential"): Class("Sequential"),
}
"""What a pickle of tensors may name."""
