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
    "labels",
    "temperature",
    "modes",
    "pixels",
    "fresh",
    "coefficients",
    "labelled",
    "naming",
    "columns",
    "target",
    "text",
    "numbers",
]
"""A generator offers a density (``log_prob``), parameters whose distance means something, its model as a function of
free parameters (``parametric``), the likelihood of a regular exponential family, fits that several devices share, a
``prediction`` of one column given the others, by a ``linear`` predictor or not, ``classes`` given the others, samples
with ``labels``, samples at a ``temperature``; data offer known modes, a form as pictures, fresh rows, the coefficients
that made them, rows that are ``labelled`` by their classes, ``columns`` of the user's own, and which of these is a
``target`` to predict, rows of tokens that are ``text``,
rows of ``numbers`` whatever else these are; features offer the ``naming`` of classes."""

WORDS: dict[Capability, str] = {
    "density": "log_prob",
    "parameters": "parameters",
    "parametric": "a form as a function of free parameters",
    "exponential": "a likelihood of an exponential family",
    "devices": "fits that devices share",
    "prediction": "a prediction of one column",
    "linear": "a linear predictor of one column",
    "classes": "classes that it tells apart",
    "labels": "samples with labels",
    "temperature": "samples at a temperature",
    "modes": "known modes",
    "pixels": "a form as images",
    "fresh": "fresh rows",
    "coefficients": "known coefficients",
    "labelled": "labels",
    "naming": "names of classes",
    "columns": "columns of a table",
    "target": "a column to predict",
    "text": "text",
    "numbers": "rows of numbers",
}
"""What a message calls each."""

OF_DATA: frozenset[Capability] = frozenset(
    ("modes", "pixels", "fresh", "coefficients", "labelled", "columns", "target", "text", "numbers")
)
"""Those that data offer; generators offer the rest, but for what features do."""

OF_FEATURES: frozenset[Capability] = frozenset(("naming",))
"""Those that features offer."""
