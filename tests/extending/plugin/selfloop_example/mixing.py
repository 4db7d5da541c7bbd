"""A regime: nothing but the samples of the last generation, as much of model collapse is studied with."""

from typing import Literal

from selfloop import Samples
from selfloop.mixing import Pool, Regime


class NewestOnly(Regime):
    """The samples of the last generation alone; generation 0 is real data."""

    name: Literal["newest_only"] = "newest_only"

    def __call__(self, t: int, pool: Pool) -> Samples:
        """Return real rows first, and samples ever after."""
        return pool.generated(t - 1, pool.n) if t else pool.real
