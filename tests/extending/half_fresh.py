"""A regime with a steady supply: half of the rows are new real ones, half samples of the last model."""

from selfloop import Samples
from selfloop.mixing import MIXINGS, Pool, Regime


@MIXINGS.register
class HalfFresh(Regime):
    """As many rows as there are real ones: half of them fresh, half the last generation's."""

    needs = frozenset({"fresh"})

    def __call__(self, t: int, pool: Pool) -> Samples:
        """Return n rows."""
        half = pool.n // 2
        return Samples.union([pool.fresh(pool.n - half), pool.generated(t - 1, half)])
