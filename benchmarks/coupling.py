"""Exact assignment and the distances made of it, beside POT, SciPy and lapx."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import lap
import numpy as np
import ot
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.datasets import make_moons

from benchmarks.timing import Row, compare
from selfloop.engines.threads import as_in_a_worker
from selfloop.learning.transport.coupling import assignment, squared_distances
from selfloop.metrics.transport import wasserstein

_LAPX = ("lapjv", "lapjvx", "lapjvc", "lapjvs")


def emd(cost: np.ndarray) -> np.ndarray:
    """Return POT's exact plan, as torchcfm asks for it."""
    weights = ot.unif(len(cost))
    plan: np.ndarray = ot.emd(weights, weights, cost)
    return plan


def problem(n: int, d: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noise and data as a minibatch holds them: two moons in two dimensions, else normals."""
    rng = np.random.default_rng(seed)
    data = make_moons(n, noise=0.05, random_state=seed)[0] if d == 2 else rng.standard_normal((n, d)) * 0.5
    return torch.from_numpy(rng.standard_normal((n, d))).float(), torch.from_numpy(data).float()


def in_turn(call: Callable[[np.ndarray], object], costs: list[np.ndarray]) -> Callable[[], None]:
    """Return a call that solves all the problems, so that none is always the easy one."""

    def run() -> None:
        for cost in costs:
            call(cost)

    return run


def rows() -> Iterator[Row]:
    """Yield the comparisons."""
    with as_in_a_worker():
        for n, d, count in ((256, 2, 16), (128, 3072, 16)):
            costs = [squared_distances(*problem(n, d, seed)).numpy() for seed in range(count)]
            for cost in costs:
                _check(cost)
            peers = {"POT emd": emd, "SciPy linear_sum_assignment": linear_sum_assignment}
            peers |= {f"lapx {name}": getattr(lap, name) for name in _LAPX}
            for name, peer in peers.items():
                yield compare(
                    f"assignment {n} × {n}, d = {d}, one thread",
                    in_turn(assignment, costs),
                    name,
                    in_turn(peer, costs),
                    per=count,
                    peer_per=count,
                )
        pairs = [problem(128, 3072, seed) for seed in range(4)]
        yield compare(
            "costs 128 × 128, d = 3072, float64",
            lambda: [squared_distances(a, b) for a, b in pairs],
            "SciPy cdist",
            lambda: [cdist(a.double().numpy(), b.double().numpy(), "sqeuclidean") for a, b in pairs],
            per=4,
            peer_per=4,
        )
        sets = [problem(1000, 2, seed) for seed in range(4)]
        weights = ot.unif(1000)
        for p in (1, 2):
            metric = "euclidean" if p == 1 else "sqeuclidean"
            yield compare(
                f"W{p} of two sets of 1000, d = 2, with its costs",
                lambda p=p: [wasserstein(a, b, p) for a, b in sets],
                "POT emd2",
                lambda metric=metric: [
                    ot.emd2(weights, weights, ot.dist(a.double().numpy(), b.double().numpy(), metric)) for a, b in sets
                ],
                per=4,
                peer_per=4,
            )
        batch = torch.stack([squared_distances(*problem(256, 2, seed)) for seed in range(64)])
        yield compare(
            "64 problems 256 × 256, two threads",
            lambda: _threaded(batch, 2),
            "the same on one thread",
            lambda: _threaded(batch, 1),
        )


def _threaded(batch: torch.Tensor, threads: int) -> None:
    torch.set_num_threads(threads)
    assignment(batch)
    torch.set_num_threads(1)


def _check(cost: np.ndarray) -> None:
    rows, columns = linear_sum_assignment(cost)
    ours, best = cost[rows, assignment(cost)].sum(), cost[rows, columns].sum()
    if abs(ours - best) > 1e-9 * abs(best):
        raise RuntimeError(f"assignment found {ours}, SciPy {best}")
