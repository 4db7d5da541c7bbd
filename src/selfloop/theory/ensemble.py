"""Exact errors of models that learn from each other's samples: each a mean and a variance, by maximum likelihood.

The truth has mean 0 and variance 1. Model m trains on rows of sources j, the real rows and the models, with shares W_mj
of its training set. As in :mod:`selfloop.theory.pooled` rows of every source keep E x² = 1: E σ²_m = 1 − E μ_m². And
means are linear in the sources' means y_j = μ_j + ε_j, where ε_j has the variance E σ_j²/k_j of k_j rows, and is 0 for
the real ones, which stay the same:

    E μμᵀ ← W (E μμᵀ + diag(E σ_j²/k_j)) Wᵀ
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from selfloop.theory.pooled import Moments


def ensemble(n: int, made: Sequence[int], generations: int, *, others: bool, real: bool) -> Moments:
    """Return the exact errors of M models, (T + 1, M) each; in generation 0 all are fitted to the real rows.

    Their average keeps moving by σ²/n a generation where all make n/M rows and no real ones stay, as a single model
    does whose n rows are replaced, whether they learn from all or from the others. Two that learn from each other are
    two loops of n/2 rows, whose variances fall by 1 − 2/n a generation.

    Args:
        n: real rows.
        made: k, how many rows each model makes.
        generations: T.
        others: whether models learn from the others alone; else from all, and they are one and the same.
        real: whether the real rows stay in every training set.

    Raises:
        ValueError: a model makes no rows, or one has nobody to learn from.
    """
    k = np.asarray(made, np.float64)
    if (k < 1).any() or n < 1 or (others and len(k) < 2):
        raise ValueError(f"every model must make a row, and have others to learn from: {list(made)}")
    taken = np.where(np.eye(len(k), dtype=bool) & others, 0, k)
    rows = np.column_stack([np.full(len(k), n if real else 0), taken])
    weights = np.vstack([np.eye(1, 1 + len(k)), rows / rows.sum(1, keepdims=True)])
    between = np.full((1 + len(k), 1 + len(k)), 1 / n)  # of the real rows' mean and the models'
    error = np.empty((generations + 1, len(k)))
    for t in range(generations + 1):
        error[t] = between.diagonal()[1:]
        between = weights @ (between + np.diag(np.append(0, (1 - error[t]) / k))) @ weights.T
    return Moments(error, 1 - error)
