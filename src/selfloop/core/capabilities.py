"""What data and generators offer, and what metrics and features need: a run that cannot be is refused at once."""

from __future__ import annotations

from typing import Literal

Capability = Literal[
    "density",
    "parameters",
    "parametric",
    "exponential",
    "devices",
    "prediction",
    "linear",
    "classes",
    "temperature",
    "modes",
    "pixels",
    "fresh",
    "coefficients",
    "columns",
    "target",
]
"""A generator offers a density (``log_prob``), parameters whose distance means something, its model as a function of
free parameters (``parametric``), the likelihood of a regular exponential family, fits that several devices share, a
``prediction`` of one column given the others, by a ``linear`` predictor or not, ``classes`` given the others, samples
at a ``temperature``; data offer known modes, a form as pictures, fresh rows, the coefficients that made them,
``columns`` of the user's own, and which of these is a ``target`` to predict."""

WORDS: dict[Capability, str] = {
    "density": "log_prob",
    "parameters": "parameters",
    "parametric": "a form as a function of free parameters",
    "exponential": "a likelihood of an exponential family",
    "devices": "fits that devices share",
    "prediction": "a prediction of one column",
    "linear": "a linear predictor of one column",
    "classes": "classes that it tells apart",
    "temperature": "samples at a temperature",
    "modes": "known modes",
    "pixels": "a form as images",
    "fresh": "fresh rows",
    "coefficients": "known coefficients",
    "columns": "columns of a table",
    "target": "a column to predict",
}
"""What a message calls each."""

OF_DATA: frozenset[Capability] = frozenset(("modes", "pixels", "fresh", "coefficients", "columns", "target"))
"""Those that data offer; generators offer the rest."""
