"""Stands for models that were trained elsewhere, of which there are samples alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, NoReturn

import torch

from selfloop.core.capabilities import Capability
from selfloop.core.errors import ConfigError
from selfloop.core.events import Kind
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.generators.base import GENERATORS, Sampler
from selfloop.learning.training import Budget


@GENERATORS.register
class Outside(Sampler):
    """Models that were trained elsewhere: ``selfloop judge`` has their samples, and nothing can be run."""

    name: Literal["outside"] = "outside"
    makes: ClassVar[frozenset[Kind]] = frozenset(("vectors", "images", "text"))
    offers: ClassVar[frozenset[Capability]] = frozenset()
    dtype: ClassVar[torch.dtype] = torch.float64
    elsewhere: ClassVar[bool] = True

    def init(self, event: Sequence[int], streams: Streams) -> State:
        """Refuse.

        Raises:
            ConfigError: always.
        """
        refuse_to_run()

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        """Refuse, as :meth:`init`."""
        refuse_to_run()

    def sample(self, state: State, n: int, streams: Streams, device: Device = HERE) -> NoReturn:
        """Refuse, as :meth:`init`."""
        refuse_to_run()


def refuse_to_run() -> NoReturn:
    """Refuse to run what was made elsewhere.

    Raises:
        ConfigError: with what to do instead.
    """
    raise ConfigError(
        "generator outside stands for models that were trained elsewhere: there is nothing to run; make the next "
        "generation there, and add it by selfloop judge"
    )
