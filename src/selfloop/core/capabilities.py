"""What data and generators offer, and what metrics and features need: a run that cannot be is refused at once."""

from __future__ import annotations

from typing import Literal

Capability = Literal["density", "parameters", "parametric", "exponential", "devices", "modes", "pixels", "fresh"]
"""A generator offers a density (``log_prob``), parameters whose distance means something, its model as a function of
free parameters (``parametric``), the likelihood of a regular exponential family, fits that several devices share; data
offer known modes, a form as pictures, and fresh rows."""

WORDS: dict[Capability, str] = {
    "density": "log_prob",
    "parameters": "parameters",
    "parametric": "a form as a function of free parameters",
    "exponential": "a likelihood of an exponential family",
    "devices": "fits that devices share",
    "modes": "known modes",
    "pixels": "a form as images",
    "fresh": "fresh rows",
}
"""What a message calls each."""

OF_DATA: frozenset[Capability] = frozenset(("modes", "pixels", "fresh"))
"""Those that data offer; generators offer the rest."""
