"""What the report needs of a run directory, and nothing more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from selfloop.data.base import Split
from selfloop.experiment import Arm, Experiment


class Run(Protocol):
    """A run directory opened for reading, finished or not."""

    @property
    def path(self) -> Path: ...
    @property
    def experiment(self) -> Experiment: ...
    @property
    def environment(self) -> Mapping[str, object]: ...
    @property
    def last(self) -> int: ...
    @property
    def arms(self) -> Sequence[Arm]: ...
    def records(self) -> Sequence[Mapping[str, Any]]: ...
    def samples(self, generation: int, arm: int, /) -> Tensor: ...
    def split(self, arm: int, /) -> Split: ...
