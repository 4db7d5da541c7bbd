"""W1 and W2 against POT."""

from __future__ import annotations

import pytest
import torch

from selfloop.learning.transport.coupling import assignment, squared_distances
from selfloop.metrics.transport import wasserstein


@pytest.fixture(scope="module")
def sets(golden):
    return golden.record("metrics", "metrics_wasserstein")


def test_distances(sets):
    for key in sets.prefixes(".a"):
        a, b, theirs = sets[f"{key}.a"], sets[f"{key}.b"], sets.scalars[key]
        assert wasserstein(a, b, 1) == pytest.approx(theirs["W1_float64"], rel=1e-9)
        assert wasserstein(a, b, 2) == pytest.approx(theirs["W2_float64"], rel=1e-9)
        assert wasserstein(a, b, 2) ** 2 == pytest.approx(theirs["W2sq_float64"], rel=1e-9)
        # torchcfm's distances are float32.
        assert wasserstein(a, b, 1) == pytest.approx(theirs["torchcfm_W1"], rel=1e-5)
        assert wasserstein(a, b, 2) == pytest.approx(theirs["torchcfm_W2"], rel=1e-5)


def test_distances_of_unequal_sets(sets):
    """Repeating every row changes no distance, but leaves the assignment for the network simplex."""
    for key in sets.prefixes(".a"):
        a, b = sets[f"{key}.a"][:100], sets[f"{key}.b"][:100]
        for p in (1, 2):
            assert wasserstein(a, b.repeat(2, 1), p) == pytest.approx(wasserstein(a, b, p), rel=1e-9)


def test_matching(sets):
    for key in sets.prefixes(".perm_sq"):
        cost = squared_distances(sets[f"{key}.a"], sets[f"{key}.b"])
        ours, theirs = (cost.gather(1, m.unsqueeze(1)).sum() for m in (assignment(cost), sets[f"{key}.perm_sq"]))
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=0)
