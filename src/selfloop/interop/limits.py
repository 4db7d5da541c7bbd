"""What a foreign file may cost, and the refusals of one that costs more or is not what it should be."""

from __future__ import annotations

from dataclasses import dataclass, field

OPERATIONS = 2**20
"""Instructions and steps in all; a training state of EDM's largest network needs about a sixth."""

STORED = 2**33
"""Bytes of the largest file read (8 GiB)."""

SHARING = 16
"""Times that tensors which share their numbers may show each byte of a file."""


class Refusal(Exception):
    """Why a file is not read: what follows its name in the message."""


def damaged(why: str) -> Refusal:
    """Return the refusal of bytes that are not what some checkpoint holds."""
    return Refusal(f"is damaged or no checkpoint ({why}); save or download it again")


def unsafe(why: str) -> Refusal:
    """Return the refusal of a file that asks for more than tensors and plain values."""
    return Refusal(f"{why}, which no known checkpoint needs; nothing of it was executed: do not load it elsewhere")


@dataclass
class Budget:
    """What a file of ``size`` bytes may still cost.

    Attributes:
        operations: instructions of its pickles, and steps of the walks over what they built.
        embedded: bytes of pickles inside the pickle.
        viewed: bytes that tensors show, each tensor counted, also where several share a storage.
    """

    size: int
    operations: int = OPERATIONS
    embedded: int = field(init=False)
    viewed: int = field(init=False)

    def __post_init__(self) -> None:
        self.embedded = self.size
        self.viewed = min(SHARING * self.size, STORED)

    def work(self, amount: int = 1) -> None:
        """Spend operations."""
        self.operations -= amount
        if self.operations < 0:
            raise unsafe(f"takes more than {OPERATIONS:,} steps to read")

    def embed(self, size: int) -> None:
        """Spend the bytes of an embedded pickle, so that reading one twice gains nothing."""
        self.embedded -= size
        if self.embedded < 0:
            raise unsafe("reads the same embedded bytes again and again")

    def view(self, size: int) -> None:
        """Spend the bytes of a tensor."""
        self.viewed -= size
        if self.viewed < 0:
            raise unsafe(f"claims tensors of more than {SHARING} times its own size")
