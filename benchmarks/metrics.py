"""Metrics on features of the size of Inception's, beside NumPy, SciPy, prdc and POT."""

from __future__ import annotations

import contextlib
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import ot
import scipy.linalg
import torch
from prdc import compute_prdc

from benchmarks.timing import Row, compare
from benchmarks.training import peak
from selfloop.metrics import Moments, density_coverage, frechet, precision_recall, sliced_wasserstein, wasserstein
from selfloop.metrics.manifold import Balls, Manifolds

D = 2048


def features(n: int, seed: int) -> torch.Tensor:
    """Return correlated, positive features, (n, 2048) float32, with a spectrum that falls as Inception's does."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).standard_normal((D, D)).astype(np.float32)
    scale = np.arange(1, D + 1, dtype=np.float32) ** -0.7
    x = rng.standard_normal((n, D)).astype(np.float32) * scale
    return torch.from_numpy(np.maximum(x @ mix / 8 + 0.4 + 0.02 * seed, 0))


def as_edm(x: torch.Tensor) -> None:
    """Sum batches of 64 in float64, as EDM's fid.py does."""
    mean, square = torch.zeros(D, dtype=torch.float64), torch.zeros(D, D, dtype=torch.float64)
    for batch in torch.split(x, 64):
        wide = batch.double()
        mean += wide.sum(0)
        square += wide.T @ wide


def by_sqrtm(a: Moments, b: Moments) -> float:
    """Return the distance by SciPy's square root of the product."""
    root = scipy.linalg.sqrtm(a.covariance @ b.covariance).real
    return float(np.square(a.mean - b.mean).sum() + np.trace(a.covariance + b.covariance - 2 * root))


def by_eigvals(a: Moments, b: Moments) -> float:
    """Return the distance by the eigenvalues of the product, as newer packages do."""
    roots = np.sqrt(np.linalg.eigvals(a.covariance @ b.covariance).astype(complex)).real.sum()
    return float(np.square(a.mean - b.mean).sum() + np.trace(a.covariance) + np.trace(b.covariance) - 2 * roots)


def once(call: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of one call and the memory in MB that it held at most above what there was."""
    held, stop = [resident()], threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            held.append(resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    call()
    seconds = time.perf_counter() - start
    stop.set()
    watcher.join()
    return seconds, (max(held) - held[0]) / 1e6


def resident() -> int:
    """Return this process's resident set in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def rows() -> Iterator[Row]:
    """Yield the comparisons; the large ones run once, as they take from seconds to minutes."""
    top = peak(0)  # with all threads
    x, y = features(50_000, 0), features(50_000, 1)
    what = f"mean and covariance, 50,000 × {D}, float64"
    yield compare(what, lambda: Moments.of(x), "batches of 64 as in EDM's fid.py", lambda: as_edm(x), rounds=1)
    yield compare(what, lambda: Moments.of(x), "np.cov", lambda: np.cov(x.numpy().T, dtype=np.float64), rounds=1)
    a, b = Moments.of(x), Moments.of(y)
    what, ours = f"Fréchet distance of two covariances, d = {D}", frechet(a, b)
    for peer, call in (("scipy.linalg.sqrtm", by_sqrtm), ("eigvals of the product", by_eigvals)):
        apart = abs(call(a, b) - ours) / ours
        note = f"relative difference {apart:.1g}"
        yield compare(what, lambda: frechet(a, b), peer, lambda call=call: call(a, b), rounds=1, note=note)

    yield _neighbours(x, y, 10_000, top)
    balls = [Balls.of(3, "standard"), Balls(5, closed=False)]
    seconds, memory = once(lambda: Manifolds(x, y, balls))
    speed = 3 * 2 * 50_000**2 * D / seconds
    yield Row(
        work="precision, recall, density, coverage, 50,000 × 2048, k = 3 and 5",
        ours_s=seconds,
        peer="none: prdc would hold three 20 GB matrices",
        peer_s=float("nan"),
        ratio=float("nan"),
        load=float("nan"),
        rounds=1,
        dropped=0,
        note=f"{memory:.0f} MB above the features; {speed / top:.0%} of the measured peak, mirror blocks counted",
    )
    rng = np.random.default_rng(0)
    p, q = (torch.from_numpy(rng.standard_normal((10_000, 2)) + shift) for shift in (0.0, 0.3))
    what, weights = "exact W2, 10,000 against 10,000 in the plane", ot.unif(10_000)
    yield compare(
        what,
        lambda: wasserstein(p, q),
        "POT emd2",
        lambda: ot.emd2(weights, weights, ot.dist(p.numpy(), q.numpy()), numItermax=10_000_000),
        rounds=1,
    )
    exact, sliced = wasserstein(p, q), sliced_wasserstein(p, q)
    yield compare(
        "sliced W2 of the same, 256 directions",
        lambda: sliced_wasserstein(p, q),
        "POT sliced_wasserstein_distance, 256 directions",
        lambda: ot.sliced_wasserstein_distance(p.numpy(), q.numpy(), n_projections=256, seed=0),
        rounds=3,
        note=f"{sliced.value:.4f} ± {sliced.error:.4f}; exact W2 {exact:.4f}",
    )


def _neighbours(x: torch.Tensor, y: torch.Tensor, n: int, top: float) -> Row:
    """Compare all four shares with prdc's at one k."""
    a, b = x[:n].contiguous(), y[:n].contiguous()
    found = {}

    def ours() -> None:
        found["ours"] = Manifolds(a, b, [Balls(5, closed=False)])

    def theirs() -> None:
        with contextlib.redirect_stdout(sys.stderr):  # it prints
            found["theirs"] = compute_prdc(a.numpy(), b.numpy(), nearest_k=5)

    small = x[:256], y[:256]
    precision_recall(*small)  # compiles
    density_coverage(*small)
    (ours_s, ours_mb), (peer_s, peer_mb) = once(ours), once(theirs)
    mine = found["ours"]
    values = (mine.inside[0].mean(), mine.recalled[0].mean(), mine.counts[0].mean() / 5, mine.covered[0].mean())
    apart = max(abs(v - t) for v, t in zip(values, found["theirs"].values(), strict=True))
    row = Row(
        work=f"precision, recall, density, coverage, {n:,} × {D}, k = 5",
        ours_s=ours_s,
        peer="prdc",
        peer_s=peer_s,
        ratio=peer_s / ours_s,
        load=float("nan"),
        rounds=1,
        dropped=0,
    )
    note = f"{ours_mb:.0f} MB above the features, prdc {peer_mb:.0f}; shares differ by at most {apart:.1g}"
    return replace(row, note=f"{note}; {3 * 2 * n**2 * D / ours_s / top:.0%} of the measured peak")
