"""From noise to samples, as free functions: flows, DDPM's chains, and EDM's solver.

All states are (R, N, *event). Whatever is evaluated is given the whole stack; what is added to a copy depends on that
copy alone.
"""

from selfloop.learning.samplers.chain import ancestral, ddim
from selfloop.learning.samplers.density import PulledBack, exact, pull_back, rademacher
from selfloop.learning.samplers.heun import Churn, heun, noise_levels
from selfloop.learning.samplers.ode import Velocity, dopri5, euler
from selfloop.learning.schedule import Schedule, quadratic_steps

__all__ = [
    "Churn",
    "PulledBack",
    "Schedule",
    "Velocity",
    "ancestral",
    "ddim",
    "dopri5",
    "euler",
    "exact",
    "heun",
    "noise_levels",
    "pull_back",
    "quadratic_steps",
    "rademacher",
]
