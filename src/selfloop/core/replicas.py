"""Arithmetic over the replica axis that gives a copy the bits it has alone.

Floating-point sums depend on their order, and torch chooses it by shape, alignment and thread. What is here keeps the
choice independent of R; elementwise operations and sums over a contiguous last axis are so by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def add(terms: Sequence[Tensor]) -> Tensor:
    """Add tensors in their order; ``torch.stack(terms).sum(0)`` adds in one that depends on the number of copies."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def copies(leaf: Tensor) -> tuple[Tensor, ...]:
    """Return each copy of a leaf (R, …), a view (…); the gradient of a single one is a view too, and not joined."""
    return (leaf.squeeze(0),) if len(leaf) == 1 else leaf.unbind()
