"""Metrics: numbers per arm and generation, each with its definition, direction and version."""

from selfloop.metrics import moments, parameters, transport
from selfloop.metrics.base import Evidence, Metric
from selfloop.metrics.moments import covariance
from selfloop.metrics.parameters import parameter_distance
from selfloop.metrics.transport import wasserstein

METRICS: dict[str, Metric] = {
    metric.name: metric for module in (transport, moments, parameters) for metric in module.METRICS
}

__all__ = ["METRICS", "Evidence", "Metric", "covariance", "parameter_distance", "wasserstein"]
