"""Random streams keyed by (seed, generation, purpose): the only source of randomness in selfloop.

A draw depends on its key and on nothing else. So a resumed run needs no saved generator state, arms do not
see their neighbours in a stack, and results do not depend on how work is spread over processes. Arms that
share a seed share their streams whatever their λ: comparisons over λ use common random numbers, and
generation 0, trained on real data alone, is the same for all of them.

The bits come from NumPy's Philox counter generator under a 128-bit BLAKE2b hash of the key, on the CPU whatever
the device, so that they are the same on every machine, as are integers, uniforms and permutations. Normals are but for
what the C library's logarithm rounds in the tails; docs/numbers.md says what was tried.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from selfloop.core.errors import refuse_unlike


def generator(*key: int | str) -> np.random.Generator:
    """Return the NumPy generator of one stream; equal keys give equal streams."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


@dataclass(frozen=True)
class Streams:
    """The streams of R arms at one generation.

    Every method draws for each arm from its own stream and stacks: the result leads with R. ``purpose`` names
    what the numbers are for, ``index`` counts repeated draws for one purpose (a block of training steps, an epoch).

    Examples:
        >>> from selfloop import Streams
        >>> streams = Streams(seeds=(0, 1), generation=3)
        >>> streams.normal("noise", (4, 2)).shape
        torch.Size([2, 4, 2])
        >>> streams.normal("noise", (2,)).equal(streams.normal("noise", (2,)))
        True
    """

    seeds: tuple[int | str, ...]
    generation: int = 0

    def __post_init__(self) -> None:
        refuse_unlike("seeds", self.seeds, (tuple, list), "a tuple with one for each arm, as (0, 1)")
        refuse_unlike("generation", self.generation, Integral, "a whole number")

    def of_model(self, m: int) -> Streams:
        """Return the streams of the m-th of several models that each arm has; those of the first are the arm's own."""
        return self if m == 0 else replace(self, seeds=tuple(f"{seed}.{m}" for seed in self.seeds))

    def at(self, generation: int) -> Streams:
        """Return the same arms' streams at another generation."""
        return replace(self, generation=generation)

    def numpy(self, purpose: str, index: int = 0) -> list[np.random.Generator]:
        """Return one NumPy generator per arm."""
        return [generator(seed, self.generation, purpose, index) for seed in self.seeds]

    def _stack(self, purpose: str, index: int, draw: Callable[[np.random.Generator], np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack([draw(rng) for rng in self.numpy(purpose, index)]))

    def normal(self, purpose: str, shape: Sequence[int], index: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw standard normals, (R, *shape)."""
        kind = np.float64 if dtype == torch.float64 else np.float32
        return self._stack(purpose, index, lambda rng: rng.standard_normal(tuple(shape), dtype=kind)).to(dtype)

    def uniform(self, purpose: str, shape: Sequence[int], index: int = 0) -> Tensor:
        """Draw float32 uniforms on [0, 1), (R, *shape)."""
        return self._stack(purpose, index, lambda rng: rng.random(tuple(shape), dtype=np.float32))

    def integers(self, purpose: str, high: int, shape: Sequence[int], index: int = 0) -> Tensor:
        """Draw integers uniformly from 0 … high − 1, (R, *shape) int64."""
        return self._stack(purpose, index, lambda rng: rng.integers(high, size=tuple(shape)))

    def permutations(self, purpose: str, counts: Sequence[int], index: int = 0) -> list[np.ndarray]:
        """Draw for arm r a permutation of 0 … counts[r] − 1."""
        return [rng.permutation(n) for rng, n in zip(self.numpy(purpose, index), counts, strict=True)]
