"""How well a model of one column given the others predicts it in rows that no model has seen."""

from __future__ import annotations

from torch import Tensor

from selfloop.generators.base import Classifying, Predicting
from selfloop.metrics.base import METRICS, Evidence, Metric


def _prediction_error(evidence: Evidence) -> Tensor:
    return _predicting(evidence).residual(evidence.state, evidence.held_out).square().mean(1)


def _predicting(evidence: Evidence) -> Predicting:
    if not isinstance(evidence.generator, Predicting):
        raise TypeError("the generator predicts no column")
    return evidence.generator


def _accuracy(evidence: Evidence) -> Tensor:
    if not isinstance(evidence.generator, Classifying):
        raise TypeError("the generator tells no classes apart")
    return evidence.generator.correct(evidence.state, evidence.held_out).double().mean(1)


def _coefficient_error(evidence: Evidence) -> Tensor:
    true, target = evidence.coefficients, _predicting(evidence).target
    if true is None or target not in (-1, len(true)):
        raise TypeError("the coefficients of this column are not known")
    return (evidence.state["coefficients"] - true).square().sum(1)


METRICS.register(
    Metric(
        name="prediction_error_held_out",
        title="Held-out squared error",
        definition="Mean square of the held-out real rows' target less the mean that the model predicts from the rest.",
        goal="lower",
        version=1,
        unit="data units²",
        compute=_prediction_error,
        needs=frozenset(("prediction",)),
        weights=True,
    ),
    Metric(
        name="accuracy_held_out",
        title="Held-out accuracy",
        definition="Share of the held-out real rows whose class is the one that the model finds most likely.",
        goal="higher",
        version=1,
        unit="share",
        compute=_accuracy,
        needs=frozenset(("classes",)),
        weights=True,
    ),
    Metric(
        name="coefficient_error",
        title="‖β_t − β‖²",
        definition="Square of the Euclidean distance of the coefficients to those with which the last column was made.",
        goal="lower",
        version=1,
        unit="(units of coefficients)²",
        compute=_coefficient_error,
        needs=frozenset(("linear", "coefficients")),
        weights=True,
    ),
)
