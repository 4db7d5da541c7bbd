"""Relabelling loops of linear regression by least squares: y of the model before, with noise of known size.

Rows x ~ N(0, I_d); a generation has T rows, T > d + 1, labelled by the model before: y = xᵀβ_{t−1} + σz, the first by
the truth. Errors are E‖β_t − β‖², a new x's excess of the squared error. They rest on E tr(XᵀX)⁻¹ = d/(T − d − 1)
(inverse Wishart). Another covariance of x changes β's errors, and in its own norm nothing.

Gerstgrasser et al. 2024 (arXiv:2404.01413) bound the accumulating loop by π²/6; Dey & Donoho 2024 (arXiv:2410.22812)
show that factor for exponential families, to first order in 1/T.
"""

from __future__ import annotations

import numpy as np


def replaced_error(rows: int, d: int, fits: int, *, noise: float = 1.0) -> float:
    """Return E‖β_t − β‖² after t fits, each to T rows of the one before, the first to real ones: tσ²d/(T − d − 1).

    Fits add independent errors. Whether each generation has new x or the same does not matter to the expectation.

    Raises:
        ValueError: T ≤ d + 1, where it is infinite.
    """
    return fits * noise**2 * _inverse(rows, d)


def accumulated_error(rows: int, d: int, fits: int, *, noise: float = 1.0, kept: bool = False) -> float:
    """Return E‖β_t − β‖² after t fits to all T k rows so far, exactly: σ²d Σ 1/(k(Tk − d − 1)), k = 1 … t.

    β_k − β_{k−1} = G_k⁻¹X_kᵀσz with G_k = Σ X_jᵀX_j over j ≤ k, whose k terms are exchangeable: its mean square is
    (σ²/k) E tr G_k⁻¹. It is below π²/6 of the first fit's error.

    Args:
        rows: T of a generation.
        d: dimensions.
        fits: t, the first to real rows.
        noise: σ.
        kept: the x of the first generation are those of all: G_k = k X ᵀX, and the k-th term is 1/(k²(T − d − 1)).

    Raises:
        ValueError: T ≤ d + 1, where it is infinite.
    """
    k = np.arange(1, fits + 1, dtype=np.float64)
    first = _inverse(rows, d)
    terms = first / k**2 if kept else d / (k * (rows * k - d - 1))
    return float(noise**2 * terms.sum())


def accumulated_efficiency(fits: int) -> float:
    """Return 1/Σ 1/k², k = 1 … t: the first fit's error over that after t fits to all samples so far; above 6/π².

    To first order in 1/T for every regular likelihood: the k-th fit moves by 1/k of an independent error of the first
    one's size.
    """
    return float(1 / (1 / np.arange(1, fits + 1, dtype=np.float64) ** 2).sum())


def _inverse(rows: int, d: int) -> float:
    if rows <= d + 1:
        raise ValueError(f"T must be above d + 1, not {rows} with d = {d}: the expected error is infinite")
    return d / (rows - d - 1)
