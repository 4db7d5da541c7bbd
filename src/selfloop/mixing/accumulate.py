"""Nothing is ever thrown away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from selfloop.mixing.base import MIXINGS
from selfloop.mixing.parts import Composed, Part


@MIXINGS.register
class Accumulate(Composed):
    """All real rows and all samples of all earlier models (Gerstgrasser et al. 2024)."""

    name: Literal["accumulate"] = "accumulate"

    def made_of(self) -> Sequence[Part]:
        """Return the union as one part."""
        return [Part(source="all")]


@MIXINGS.register
class AccumulateSubsample(Composed):
    """n rows, drawn anew each generation out of all real rows and all samples so far (Kazdan et al. 2024)."""

    name: Literal["accumulate_subsample"] = "accumulate_subsample"

    def made_of(self) -> Sequence[Part]:
        """Return n rows out of the union."""
        return [Part(source="all", rows=1)]
