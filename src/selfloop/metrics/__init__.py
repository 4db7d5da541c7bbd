"""Metrics: functions of arrays, and the numbers per arm and generation made of them, each with its definition.

The functions take arrays or tensors of N events, (N, *event), rows or features alike.
"""

from selfloop.metrics.base import METRICS, Evidence, Metric
from selfloop.metrics.categories import categories_kept, heterozygosity
from selfloop.metrics.classes import class_frechet, class_shares, class_tv, effective_classes
from selfloop.metrics.demand import Demand, Sizes
from selfloop.metrics.diversity import Modes, modes, neighbour_entropy, vendi
from selfloop.metrics.frechet import Moments, bootstrap_error, frechet, frechet_infinity
from selfloop.metrics.manifold import density_coverage, precision_recall
from selfloop.metrics.memorization import authenticity, likelihood_gap
from selfloop.metrics.mmd import mmd
from selfloop.metrics.moments import covariance, leading_variance_ratio
from selfloop.metrics.parameters import parameter_distance
from selfloop.metrics.sliced import max_sliced_wasserstein, sliced_wasserstein
from selfloop.metrics.transport import wasserstein

__all__ = [
    "METRICS",
    "Demand",
    "Evidence",
    "Metric",
    "Modes",
    "Moments",
    "Sizes",
    "authenticity",
    "bootstrap_error",
    "categories_kept",
    "class_frechet",
    "class_shares",
    "class_tv",
    "covariance",
    "density_coverage",
    "effective_classes",
    "frechet",
    "frechet_infinity",
    "heterozygosity",
    "leading_variance_ratio",
    "likelihood_gap",
    "max_sliced_wasserstein",
    "mmd",
    "modes",
    "neighbour_entropy",
    "parameter_distance",
    "precision_recall",
    "sliced_wasserstein",
    "vendi",
    "wasserstein",
]
