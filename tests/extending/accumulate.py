"""A regime that forgets nothing: the real rows, and the samples of all earlier generations."""

from selfloop import Samples
from selfloop.mixing import MIXINGS, Pool, Regime


@MIXINGS.register
class Accumulate(Regime):
    """All real rows and all samples of all earlier generations (Gerstgrasser et al. 2024)."""

    def __call__(self, t: int, pool: Pool) -> Samples:
        """Return (t + 1) n rows, n of which are real."""
        return Samples.union([pool.real, *(pool.generated(g) for g in range(t))])
