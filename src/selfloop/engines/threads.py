"""The settings of threads and number types under which results are computed, whatever the caller's are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from threadpoolctl import threadpool_limits


@contextlib.contextmanager
def as_in_a_worker() -> Iterator[None]:
    """Use one thread, as how a sum is split over threads changes its last digits, and torch's own default dtype."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float32)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
