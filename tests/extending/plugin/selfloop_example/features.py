"""Features: how far each row is from the origin."""

from typing import Literal

from torch import Tensor

from selfloop.features import Features, Progress


class Radius(Features):
    """The Euclidean norm of a row."""

    name: Literal["radius"] = "radius"

    def key(self) -> str:
        """Return what the features depend on besides the rows."""
        return "radius 1"

    def __call__(self, x: Tensor, progress: Progress | None = None) -> Tensor:
        """Return (N, 1) norms of (N, *event) rows."""
        return x.flatten(1).double().square().sum(1, keepdim=True).sqrt()
