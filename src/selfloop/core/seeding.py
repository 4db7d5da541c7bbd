"""The global generators of torch, NumPy and Python, lent to code that knows no others and given back as they were."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed all global generators for as long as the context lasts, and restore their states after it.

    So are NumPy's handling of floating-point errors and torch's choice of deterministic algorithms.

    Args:
        seed: 0 … 2³² − 1, which NumPy's takes at most.
    """
    restore, chosen = _states(), _deterministic()
    try:
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        with np.errstate():  # which code of somebody else's may set for good
            yield
    finally:
        restore()
        if _deterministic() != chosen:  # the call imports torch's compiler, which takes seconds
            torch.use_deterministic_algorithms(chosen[0], warn_only=chosen[1])


def _deterministic() -> tuple[bool, bool]:
    """Return whether torch keeps to deterministic algorithms, and whether it only warns where it has none."""
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _states() -> Callable[[], None]:
    """Return what puts the generators back to where they are now."""
    own, numpys, pythons = torch.get_rng_state(), np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    first = torch.initial_seed()

    def restore() -> None:
        torch.set_rng_state(own)
        np.random.set_state(numpys)  # noqa: NPY002
        random.setstate(pythons)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        elif torch.cuda.is_available():
            torch.cuda.manual_seed_all(first)  # what a GPU that nobody has used yet begins with

    return restore
