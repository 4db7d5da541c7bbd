"""A regime that looks at what it takes: samples far from the real data are left out."""

from selfloop import Samples
from selfloop.mixing import MIXINGS, Pool, Regime


@MIXINGS.register
class Filtered(Regime):
    """All real rows, and the samples of the last generation that lie within ``radius`` of the real mean."""

    radius: float = 2.0

    def __call__(self, t: int, pool: Pool) -> Samples:
        """Return n rows and more, as many as are near enough."""
        last, centre = pool.generated(t - 1), pool.real.arm(0).mean(0)
        near = (last.arm(0) - centre).norm(dim=1) <= self.radius
        return Samples.union([pool.real, last.keep(near)])
