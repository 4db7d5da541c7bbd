"""The Gaussian loop by sufficient statistics, beside sampling and fitting in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.timing import Row, compare
from selfloop.theory import gaussian_loop

REPLICAS, GENERATIONS, ROWS = 1000, 1000, 100


def ours(d: int, generations: int) -> Callable[[], None]:
    """Return a call that runs the fully synthetic loop."""

    def run() -> None:
        for _ in gaussian_loop(np.zeros(d), np.eye(d), n=ROWS, generations=generations, replicas=REPLICAS):
            pass

    return run


def one_by_one(d: int, replicas: int, generations: int) -> Callable[[], None]:
    """Return a call that runs replica after replica as the textbook writes it."""
    rng = np.random.default_rng(0)

    def run() -> None:
        for _ in range(replicas):
            mean, covariance = np.zeros(d), np.eye(d)
            for _ in range(generations):
                if d == 1:
                    x = rng.normal(mean[0], covariance[0, 0] ** 0.5, ROWS)
                    mean[0], covariance[0, 0] = x.mean(), x.var(ddof=1)
                else:
                    rows = rng.multivariate_normal(mean, covariance, ROWS, method="eigh")
                    mean, covariance = rows.mean(0), np.cov(rows.T)

    return run


def together(d: int, generations: int) -> Callable[[], None]:
    """Return a call that runs all replicas in batched array operations."""
    rng = np.random.default_rng(0)

    def run() -> None:
        mean, covariance = np.zeros((REPLICAS, 1, d)), np.tile(np.eye(d), (REPLICAS, 1, 1))
        for _ in range(generations):
            z = rng.standard_normal((REPLICAS, ROWS, d))
            if d == 1:
                x = mean + np.sqrt(covariance) * z
                mean, covariance = x.mean(1, keepdims=True), x.var(1, ddof=1, keepdims=True)
            else:
                values, vectors = np.linalg.eigh(covariance)
                x = mean + z @ (vectors * np.sqrt(values.clip(0))[:, None]).transpose(0, 2, 1)
                mean = x.mean(1, keepdims=True)
                covariance = (x - mean).transpose(0, 2, 1) @ (x - mean) / (ROWS - 1)

    return run


def rows() -> Iterator[Row]:
    """Yield the comparisons; long loops are timed in part and scaled, which the rows say."""
    for d, full, part, single in (
        (1, 1000, 50, (10, 100)),
        (2, 1000, 20, (5, 50)),
        (10, 1000, 5, (5, 20)),
        (100, 10, 1, (1, 5)),
    ):
        work = f"R = {REPLICAS}, T = {GENERATIONS}, n = {ROWS}, d = {d}"
        share = full / GENERATIONS
        note = "" if full == GENERATIONS else f"ours from {full} generations"
        yield compare(
            work,
            ours(d, full),
            "NumPy, replica by replica",
            one_by_one(d, *single),
            per=share,
            peer_per=single[0] * single[1] / (REPLICAS * GENERATIONS),
            rounds=5,
            note=f"theirs from {single[0]} replicas and {single[1]} generations. {note}".strip(),
        )
        yield compare(
            work,
            ours(d, full),
            "NumPy, all replicas at once",
            together(d, part),
            per=share,
            peer_per=part / GENERATIONS,
            rounds=5,
            note=f"theirs from {part} generations. {note}".strip(),
        )
