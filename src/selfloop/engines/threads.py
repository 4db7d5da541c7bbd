"""The settings of threads and number types under which results are computed, whatever the caller's are."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator

import torch
from threadpoolctl import ThreadpoolController


@contextlib.contextmanager
def as_in_a_worker() -> Iterator[None]:
    """Use one thread, as how a sum is split over threads changes its last digits, and torch's own default dtype."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    try:
        with _libraries(len(sys.modules)).limit(limits=1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)


@functools.lru_cache(maxsize=1)
def _libraries(modules: int) -> ThreadpoolController:
    """Return the libraries that have threads; looking for them takes longer than many a generation.

    Args:
        modules: how many are imported: where none has joined, no library has.
    """
    return ThreadpoolController()
