"""Synthetic rows that are corrected towards the truth (Gillman et al. 2024, arXiv:2402.07087): local rates.

In its ideal form the correction of strength γ makes a model's samples those of (p_θ + γp*)/(1 + γ). Legend: λ synthetic
rows per real row; μ generalised eigenvalue of (−B, −A) as in :mod:`selfloop.theory.contraction`.
"""

from __future__ import annotations


def corrected_rate(lam: float, strength: float, mu: float = 1.0, *, towards_model: bool = False) -> float:
    """Return J's eigenvalue λμ/(1 + γ + λγ + λμ) for the data as p*; λ/((1 + γ)(1 + λ)) where μ = 1.

    The loss is that of 1 + λγ/(1+γ) parts of data and λ/(1+γ) of the model: the rate is that of λ′ = λ/(1 + γ + λγ),
    and the fixed point stays. If p* is the *best model* instead, ``towards_model``, the corrected rows have B for their
    Hessian and the eigenvalue is λμ/((1 + γ)(1 + λμ)). The two agree where μ = 1.

    Rows that are *moved*, to (x + γc(x))/(1 + γ), are no such mixture: their mean follows the same law where c(x) has
    the data's mean, but their spread is that of an average.
    """
    if towards_model:
        return lam * mu / ((1 + strength) * (1 + lam * mu))
    return lam * mu / (1 + strength + lam * strength + lam * mu)
