"""MMD² against its double sums pair by pair, and on average against closed forms."""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from selfloop.core.streams import Streams
from selfloop.metrics import mmd
from selfloop.metrics.mmd import median_distance

module = importlib.import_module("selfloop.metrics.mmd")  # the name in the package is the function

pytestmark = pytest.mark.usefixtures("as_in_a_worker")  # threads only slow down sets this small

Pair = Callable[[np.ndarray, np.ndarray], float]
SIGMA = 1.5


def cloud(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return Streams((seed,)).normal("cloud", (n, d), dtype=torch.float64)[0]


def polynomial(a: np.ndarray, b: np.ndarray) -> float:
    return float((a @ b / len(a) + 1) ** 3)


def rbf(a: np.ndarray, b: np.ndarray) -> float:
    return math.exp(-((a - b) ** 2).sum() / (2 * SIGMA**2))


def direct(x: torch.Tensor, y: torch.Tensor, k: Pair) -> float:
    """Return Eq. 3 of Gretton et al. (2012): means over ordered pairs of different rows, and over all mixed pairs."""
    a, b = x.numpy(), y.numpy()
    within = [np.mean([k(p, q) for p, q in itertools.permutations(side, 2)]) for side in (a, b)]
    return float(sum(within) - 2 * np.mean([k(p, q) for p in a for q in b]))


KERNELS = pytest.mark.parametrize(("kernel", "k"), [("polynomial", polynomial), ("rbf", rbf)])


def of(kernel: str, x: torch.Tensor, y: torch.Tensor) -> float:
    return mmd(x, y, kernel, SIGMA if kernel == "rbf" else None)


@KERNELS
class TestKernels:
    @pytest.mark.parametrize(("n", "m", "d"), [(40, 40, 3), (70, 25, 1), (2, 3, 2), (30, 45, 20)])
    def test_equals_the_double_sums(self, kernel: str, k: Pair, n: int, m: int, d: int) -> None:
        x, y = cloud(n, d), 1.5 * cloud(m, d, seed=1) + 0.5
        assert of(kernel, x, y) == pytest.approx(direct(x, y, k), rel=1e-10, abs=1e-12)

    @pytest.mark.parametrize("d", [3, 20])
    def test_blocks_add_up(self, monkeypatch: pytest.MonkeyPatch, kernel: str, k: Pair, d: int) -> None:
        x, y = cloud(40, d), cloud(23, d, seed=1) + 1
        whole = of(kernel, x, y)
        monkeypatch.setattr(module, "_BLOCK", 7)
        assert of(kernel, x, y) == pytest.approx(whole, rel=1e-11)
        assert whole == pytest.approx(direct(x, y, k), rel=1e-10)

    def test_the_order_of_rows_and_of_sets_does_not_matter(self, kernel: str, k: Pair) -> None:
        x, y = cloud(50, 4), cloud(30, 4, seed=1) + 1
        value = of(kernel, x, y)
        mixed = torch.from_numpy(np.random.default_rng(0).permutation(50))
        assert of(kernel, x[mixed], y.flip(0)) == pytest.approx(value, rel=1e-11)
        assert of(kernel, y, x) == pytest.approx(value, rel=1e-11)

    @pytest.mark.parametrize("shift", [0.0, 1.0])
    def test_is_unbiased(self, kernel: str, k: Pair, shift: float) -> None:
        """The mean over 400 pairs of sets of N(0, 1) and N(shift, 1) is MMD² within 4 standard errors.

        An unbiased estimate fails at 1 seed in 16,000. Sums with their diagonals would be off by the ``bias`` below.
        """
        sets = Streams(tuple(range(400)))
        x = sets.normal("x", (12, 1), dtype=torch.float64)
        y = sets.normal("y", (8, 1), dtype=torch.float64) + shift
        values = np.array([of(kernel, a, b) for a, b in zip(x, y, strict=True)])
        wide = SIGMA**2 + 2
        if kernel == "rbf":
            expected = 2 * SIGMA / math.sqrt(wide) * (1 - math.exp(-(shift**2) / (2 * wide)))
            bias = (1 / 12 + 1 / 8) * (1 - SIGMA / math.sqrt(wide))
        else:  # the sum over powers j of C(3, j) (E x^j − E y^j)²
            expected = 3 * shift**2 + 3 * shift**4 + (shift**3 + 3 * shift) ** 2
            bias = (1 / 12 + 1 / 8) * (28 - 4)
        error = values.std(ddof=1) / math.sqrt(len(values))
        assert abs(values.mean() - expected) < 4 * error
        assert shift or bias > 8 * error


def test_events_of_any_shape_and_number_type_are_rows() -> None:
    x, y = cloud(20, 12).float(), cloud(15, 12, seed=1).float()
    value = mmd(x, y)
    assert mmd(x.view(20, 3, 2, 2).numpy(), y.view(15, 3, 2, 2)) == value
    assert mmd(x.double(), y) == value


@pytest.mark.parametrize("d", [2, 20])
def test_the_bandwidth_is_the_median_distance_of_the_first_real_rows(monkeypatch: pytest.MonkeyPatch, d: int) -> None:
    x, y = cloud(60, d), cloud(40, d, seed=1) + 1  # of 42 rows 861 pairs, of which one is the median
    monkeypatch.setattr(module, "_SOME", 42)
    median = float(np.median(pdist(x[:42].numpy())))
    assert median_distance(x) == pytest.approx(median, rel=1e-9)
    assert mmd(x, y, "rbf") == pytest.approx(mmd(x, y, "rbf", median), rel=1e-9)
    assert mmd(x, y, "rbf") != pytest.approx(mmd(y, x, "rbf"), rel=1e-6)


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, math.nan])
def test_refuses_a_bandwidth_that_is_none(bandwidth: float) -> None:
    with pytest.raises(ValueError, match="bandwidth must be above 0"):
        mmd(cloud(5, 2), cloud(5, 2, seed=1), "rbf", bandwidth)


@KERNELS
def test_refusals(kernel: str, k: Pair) -> None:
    x, bad = cloud(9, 2), cloud(9, 2)
    bad[4, 1] = math.nan
    for real, generated, words in (
        (x[:1], x, r"real has shape \(1, 2\)"),
        (x, x[:1], r"generated has shape \(1, 2\)"),
        (x, x[:, 0], r"generated has shape \(9,\)"),
        (bad, x, "real has entries that are not finite"),
        (x, bad, "generated has entries that are not finite"),
        (x, cloud(9, 3), "real has 2 values an event.* and generated has 3"),
    ):
        with pytest.raises(ValueError, match=words):
            of(kernel, real, generated)


def test_refuses_an_unknown_kernel() -> None:
    with pytest.raises(ValueError, match="'polynomial' or 'rbf', not 'linear'"):
        mmd(cloud(5, 2), cloud(5, 2), "linear")  # type: ignore[arg-type]
