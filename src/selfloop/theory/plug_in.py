"""The local rate of a loop whose model is a function of free parameters: A and B estimated at a fitted state."""

from __future__ import annotations

from torch import Tensor

from selfloop.core.samples import State
from selfloop.core.streams import Streams
from selfloop.generators.base import Generator, Parametric
from selfloop.theory.contraction import Contraction, contraction, equal, maximise

_DRAWN = 100_000  # rows of the model that stand for its expectation


def plug_in(generator: Generator, family: Parametric, state: State, data: Tensor, streams: Streams) -> Contraction:
    """Estimate the linearised loop of these rows: A on them, at their maximum near a fit, and B by that model's scores.

    A loop's data distribution is that of the very rows it keeps, so that A on them is exact, and the rate is that of
    this loop, not of others with other rows. Only B is estimated, from 100,000 draws.

    Args:
        generator: that was fitted.
        family: its model as a function of θ.
        state: one arm's fitted leaves, (1, …).
        data: (N, d) real rows.
        streams: of one seed, from which the model's 100,000 rows are drawn.

    Raises:
        ValueError: there is no strict maximum near the state, such as when a covariance is at its floor, or the draws
            are too few for the model's scores.
    """
    theta = maximise(family.log_prob, family.theta(state), equal(data))
    drawn = generator.sample(family.state(theta), _DRAWN, streams)[0]
    return contraction(family.log_prob, theta, equal(data), equal(drawn))
