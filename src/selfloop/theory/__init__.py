"""What the loop is known to do, to compare an experiment with."""

from selfloop.theory.gaussian import alpha, log_variance_walk, mean_drift, mixed_errors
from selfloop.theory.gaussian_loop import Fits, gaussian_loop

__all__ = ["Fits", "alpha", "gaussian_loop", "log_variance_walk", "mean_drift", "mixed_errors"]
