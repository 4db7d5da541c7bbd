"""What an update is, and what of a state it changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor

from selfloop.core.config import Frozen
from selfloop.core.errors import FOREIGN, ConfigError, SelfloopError, said
from selfloop.core.registry import Family
from selfloop.core.samples import State
from selfloop.learning.training import SHADOW, parameters


class Update(Frozen, ABC):
    """What becomes of the weights after the fit of a generation t ≥ 1; concrete classes add ``name``.

    Attributes:
        starts: which generation's state a warm fit goes on from, the "last" one's or the "first"'s, generation 0's.
    """

    starts: ClassVar[Literal["last", "first"]] = "last"

    @abstractmethod
    def __call__(self, t: int, fitted: State, last: State, first: State) -> State:
        """Return the parameters of generation t, by the same names and of the same shapes.

        All hold the parameters of R arms, leaves (R, …) of floating-point numbers, and no arm may see its neighbours.

        Args:
            t: the generation, 1 or more.
            fitted: as the fit left them.
            last: of generation t − 1, as they were after its own update.
            first: of generation 0, which no update changes.
        """


UPDATES: Family[type[Update]] = Family("update", "selfloop.updates", {"__call__": 4})


def updated(update: Update, t: int, fitted: State, last: State, first: State) -> State:
    """Return a fitted state with an update made to its parameters, and to their moving average where there is one.

    What else there is stays as the fit left it: optimiser moments, counters, buffers, rows, and whole numbers.

    Raises:
        ConfigError: the parameters are not those of generation 0 any more, or the update returns others.
    """
    return fitted | _changed(update, t, fitted, last, first, _own) | _changed(update, t, fitted, last, first, _average)


def _own(state: State) -> State:
    return {name: leaf for name, leaf in parameters(state).items() if leaf.is_floating_point()}


def _average(state: State) -> State:
    return {name: leaf for name, leaf in sorted(state.items()) if name.startswith(SHADOW) and leaf.is_floating_point()}


def _changed(update: Update, t: int, fitted: State, last: State, first: State, of: Callable[[State], State]) -> State:
    """Return some leaves of a fitted state as the update has them."""
    given = [of(state) for state in (fitted, last, first)]
    if not given[0]:
        return {}
    what = f"update {UPDATES.name_of(update)!r}"
    if not _shapes(given[0]) == _shapes(given[1]) == _shapes(given[2]):
        raise ConfigError(f"{what}: the model of generation {t} has other parameters than that of generation 0")
    try:
        found = update(t, *given)
    except SelfloopError:
        raise
    except FOREIGN as error:  # whatever the update's own code raises
        raise ConfigError(f"{what} failed at generation {t}: {said(error)}") from error
    if not isinstance(found, dict) or not all(isinstance(leaf, Tensor) for leaf in found.values()):
        raise ConfigError(f"{what} must return a dict of tensors at generation {t}")
    if _shapes(found) != _shapes(given[0]):
        raise ConfigError(f"{what} must return parameters of the same names and shapes at generation {t}")
    return {name: found[name].to(leaf.dtype) for name, leaf in given[0].items()}


def _shapes(state: State) -> dict[str, torch.Size]:
    return {name: leaf.shape for name, leaf in state.items()}
