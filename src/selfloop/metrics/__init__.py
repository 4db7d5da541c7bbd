"""Metrics: functions of arrays, and the numbers per arm and generation made of them, each with its definition.

The functions take arrays or tensors of N events, (N, *event), rows or features alike.
"""

from selfloop.metrics.association import association_error, associations
from selfloop.metrics.base import METRICS, Evidence, Metric
from selfloop.metrics.bounds import broken_bounds
from selfloop.metrics.categories import categories_kept, heterozygosity
from selfloop.metrics.classes import class_frechet, class_shares, class_tv, effective_classes
from selfloop.metrics.counts import Counts
from selfloop.metrics.demand import Demand, Sizes
from selfloop.metrics.diversity import Modes, modes, neighbour_entropy, vendi
from selfloop.metrics.downstream import classification, regression
from selfloop.metrics.frechet import Moments, bootstrap_error, frechet, frechet_infinity
from selfloop.metrics.levels import levels_kept
from selfloop.metrics.manifold import density_coverage, precision_recall
from selfloop.metrics.marginals import Marginals, shape_errors
from selfloop.metrics.memorization import authenticity, likelihood_gap, nearest_record_ratio
from selfloop.metrics.missing import missing_pattern_error, missing_rate_error
from selfloop.metrics.mmd import mmd
from selfloop.metrics.moments import covariance, leading_variance_ratio
from selfloop.metrics.parameters import parameter_distance
from selfloop.metrics.repeats import copied_rows, duplicate_rows
from selfloop.metrics.sharded import sharded
from selfloop.metrics.sliced import max_sliced_wasserstein, sliced_wasserstein
from selfloop.metrics.tables import Table
from selfloop.metrics.text_copies import copied_texts, duplicate_texts, longest_copies
from selfloop.metrics.text_diversity import distinct, repetition, self_bleu
from selfloop.metrics.text_judge import judge, judged_perplexities
from selfloop.metrics.text_laws import bigram_counts, bigram_kl, token_counts, unigram_kl
from selfloop.metrics.text_vocabulary import mass_ratio, token_entropy, tokens_kept
from selfloop.metrics.text_zipf import zipf_exponent
from selfloop.metrics.transport import wasserstein
from selfloop.metrics.two_sample import two_sample_auc

__all__ = [
    "METRICS",
    "Counts",
    "Demand",
    "Evidence",
    "Marginals",
    "Metric",
    "Modes",
    "Moments",
    "Sizes",
    "Table",
    "association_error",
    "associations",
    "authenticity",
    "bigram_counts",
    "bigram_kl",
    "bootstrap_error",
    "broken_bounds",
    "categories_kept",
    "class_frechet",
    "class_shares",
    "class_tv",
    "classification",
    "copied_rows",
    "copied_texts",
    "covariance",
    "density_coverage",
    "distinct",
    "duplicate_rows",
    "duplicate_texts",
    "effective_classes",
    "frechet",
    "frechet_infinity",
    "heterozygosity",
    "judge",
    "judged_perplexities",
    "leading_variance_ratio",
    "levels_kept",
    "likelihood_gap",
    "longest_copies",
    "mass_ratio",
    "max_sliced_wasserstein",
    "missing_pattern_error",
    "missing_rate_error",
    "mmd",
    "modes",
    "nearest_record_ratio",
    "neighbour_entropy",
    "parameter_distance",
    "precision_recall",
    "regression",
    "repetition",
    "self_bleu",
    "shape_errors",
    "sharded",
    "sliced_wasserstein",
    "token_counts",
    "token_entropy",
    "tokens_kept",
    "two_sample_auc",
    "unigram_kl",
    "vendi",
    "wasserstein",
    "zipf_exponent",
]
