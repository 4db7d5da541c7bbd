"""What the loop is known to do, to compare an experiment with."""

from selfloop.theory.gaussian_loop import Fits, gaussian_loop

__all__ = ["Fits", "gaussian_loop"]
