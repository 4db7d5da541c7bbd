"""Samples that a verifier with stated error rates thins out: how many bad ones a loop comes to live with.

Legend: e share of bad rows among a model's samples; η probability with which the model spoils a good one; f, g
probabilities with which the verifier keeps a bad and a good row; w synthetic share of the training rows *after*
thinning.
"""

from __future__ import annotations

import numpy as np


def verified_step(error: float, *, spoiled: float, share: float, keeps_bad: float, keeps_good: float) -> float:
    """Return e′ = η + (1 − η) w fe/(fe + g(1 − e)): the model learns the kept rows' share of bad ones, and spoils some.

    Infinitely many rows; real rows are good.

    Raises:
        ValueError: the verifier keeps nothing.
    """
    kept_bad, kept_good = keeps_bad * error, keeps_good * (1 - error)
    if kept_bad + kept_good <= 0:
        raise ValueError("the verifier keeps nothing")
    return spoiled + (1 - spoiled) * share * kept_bad / (kept_bad + kept_good)


def verified_limit(*, spoiled: float, share: float, keeps_bad: float, keeps_good: float) -> float:
    """Return where e goes from a model of good samples, e = η.

    The step grows with e, so that e climbs to the smallest fixed point in [η, 1]: the root of
    (f − g)e² + (g − η(f − g) − (1 − η)wf)e − ηg = 0.

    Raises:
        ValueError: a probability outside [0, 1], or a verifier that keeps no good rows.
    """
    rates = (spoiled, share, keeps_bad, keeps_good)
    if not all(0 <= rate <= 1 for rate in rates) or keeps_good == 0:
        raise ValueError("rates are probabilities, and good rows must sometimes be kept")
    if spoiled == 0:
        return 0.0
    gap = keeps_bad - keeps_good
    coefficients = [gap, keeps_good - spoiled * gap - (1 - spoiled) * share * keeps_bad, -spoiled * keeps_good]
    roots = np.roots(np.trim_zeros(coefficients, "f"))
    real = roots.real[abs(roots.imag) < 1e-12]
    return float(min(root for root in real if spoiled - 1e-9 <= root <= 1 + 1e-9))


def breakdown(keeps_correct: float, keeps_wrong: float) -> float:
    """Return p* = 1/(1 + ψ/φ), the share of wrong labels above which a verifier's kept rows are mostly wrong.

    Of kept rows (1 − p)φ are correct and pψ wrong. A linear classifier of two classes learns the sign that most of them
    have: with infinitely many rows it is right for p < p* and wrong for p > p*. Feng et al. 2024 (arXiv:2406.07515).

    Args:
        keeps_correct: φ.
        keeps_wrong: ψ.
    """
    return keeps_correct / (keeps_correct + keeps_wrong)
