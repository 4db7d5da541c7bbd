"""Training-set regimes, one file each."""

from selfloop.mixing.augment import ALL, Augment, History, Mixing, stack

__all__ = ["ALL", "Augment", "History", "Mixing", "stack"]
