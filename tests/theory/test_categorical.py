"""Loops of counts: exact small populations by their transition matrix, and published survivals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from selfloop.theory import categorical


@pytest.mark.parametrize("n", [1, 2, 7])
def test_heterozygosity_and_fixation_by_the_transition_matrix(n: int) -> None:
    counts = np.arange(n + 1)
    step = binom.pmf(counts[None, :], n, counts[:, None] / n)
    het = 2 * counts / n * (1 - counts / n)
    for t in (0, 1, 5):
        np.testing.assert_allclose(
            np.linalg.matrix_power(step, t) @ het, het * categorical.replaced_heterozygosity(n, t), atol=1e-12
        )
    np.testing.assert_allclose(np.linalg.matrix_power(step, 3000)[:, n], counts / n, atol=1e-9)


@given(st.integers(2, 50), st.integers(1, 5))
def test_beside_real_rows(n: int, lam: int) -> None:
    path = [categorical.mixed_heterozygosity(n, lam, t) for t in range(40)]
    limit = categorical.mixed_heterozygosity(n, lam)
    assert path[0] == pytest.approx(1)
    assert all(a > b for a, b in itertools.pairwise(path) if a - limit > 1e-12)
    assert 0 < limit < path[-1] + 1e-12 <= 1 + 1e-12
    assert categorical.mixed_heterozygosity(10**7, lam) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("lam", [0, 0.01, math.inf])
def test_no_synthetic_row_or_no_real_one_is_refused(lam: float) -> None:
    with pytest.raises(ValueError, match="at least one synthetic row"):
        categorical.mixed_heterozygosity(10, lam)


@given(st.integers(1, 20), st.integers(0, 30))
def test_losses_are_certain_in_the_long_run_and_rarer_with_more_copies(copies: int, t: int) -> None:
    now = categorical.loss_probability(copies, t)
    assert 0 <= now <= categorical.loss_probability(copies, t + 1) < 1
    assert categorical.loss_probability(copies + 1, t) <= now
    assert categorical.loss_probability(copies, 0) == 0
    assert categorical.loss_probability(copies, 1) == pytest.approx(math.exp(-copies))


def test_losses_after_many_generations() -> None:
    assert categorical.loss_probability(100, 10**4) == pytest.approx(math.exp(-200 / 10**4), rel=1e-4)


def test_published_survivals_of_a_poisson_model() -> None:
    """Suresh et al. 2024, n = 10 and λ_0 = 1."""
    for fits, alive in ((10, 0.8214), (50, 0.3187), (100, 0.1775), (500, 0.0390)):
        assert categorical.poisson_alive(10, 1, fits) == pytest.approx(alive, abs=5e-5)
