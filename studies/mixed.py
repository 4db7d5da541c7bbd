"""How should a network of numbers learn categories?

``python -m studies.mixed`` trains OT-CFM and DDPM on two tables with categories, and prints a table as Markdown; some
minutes on one core. Ways to show a category to a network that knows numbers alone, all of which end in the argmax:

- ``plain``: its one-hot rows as they are.
- ``uniform``: one-hot rows plus numbers uniform on [0, 1), as integers are dequantised (Theis et al. 2016).
- ``normal``: one-hot rows plus normal numbers with a deviation of 0.1.
- ``scaled``: one-hot rows of which every coordinate is in standard deviations, as numbers are.
- ``head``: as it is by default, the network gives the probabilities of the levels, by cross-entropy, and from them the
  mean of x₁ given x_t (OT-CFM: variational flow matching, Eijkelboom et al. 2024) or of x₀ given x_t (DDPM); numbers
  have the usual loss.

``wine`` is scikit-learn's, its class and the terciles of two of its columns as categories; ``made`` has 2,000 rows of
four numbers and four categories of 2, 3, 5 and 8 levels, whose shares and means depend on each other; ``rare`` has
4,000 rows of three numbers and four categories, one of 12 levels each half as frequent as the one before, and one that
says whether a number is missing. Half of the rows train and half are held out. Measured are as many samples as rows
that train: the accuracy on held-out rows of scikit-learn's histogram gradient boosting that was trained on samples to
predict the last category (TSTR), the mean over categories of the total variation to the held-out rows, the mean
difference of the pairwise correlations of all coordinates, the mean over numbers of the Kolmogorov–Smirnov distance,
and the share of the training rows' levels that there are. Means over seeds ± their standard errors.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from scipy.stats import ks_2samp
from sklearn.datasets import load_wine
from sklearn.ensemble import HistGradientBoostingClassifier
from torch import Tensor

from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.engines.threads import as_in_a_worker
from selfloop.generators.copula import Copula
from selfloop.generators.ddpm import DDPM
from selfloop.generators.otcfm import OTCFM
from selfloop.learning.head import Way
from selfloop.learning.training import Budget

Rows = tuple[Tensor, tuple[range, ...]]
"""Rows (n, d), numbers first and in standard deviations, and the coordinates of each category."""

BATCH = 256  # of both, for an equal budget


def encoded(numbers: np.ndarray, categories: list[np.ndarray]) -> Rows:
    """Return numbers (n, k) and levels (n,) from 0 as rows."""
    parts, spans = [(numbers - numbers.mean(0)) / numbers.std(0)], []
    at = numbers.shape[1]
    for levels in categories:
        width = int(levels.max()) + 1
        parts.append(np.eye(width)[levels])
        spans.append(range(at, at + width))
        at += width
    return torch.from_numpy(np.column_stack(parts)), tuple(spans)


def wine() -> Rows:
    """Return the 178 rows of wine."""
    found = load_wine()
    x = found.data
    cut = [np.digitize(x[:, j], np.quantile(x[:, j], [1 / 3, 2 / 3])) for j in (0, 9)]
    return encoded(np.delete(x, (0, 9), 1), [*cut, found.target])


def made(n: int = 2000, seed: int = 0) -> Rows:
    """Return n rows of four numbers and four categories."""
    rng = np.random.default_rng(seed)
    town = rng.choice(8, n, p=np.array([30, 25, 15, 12, 8, 5, 3, 2]) / 100)
    centre = rng.normal(size=(8, 4))
    numbers = centre[town] + rng.normal(size=(n, 4)) @ rng.normal(size=(4, 4)) / 2
    numbers[:, 3] = np.exp(numbers[:, 3] / 2)
    job = (rng.gumbel(size=(n, 5)) + numbers @ rng.normal(size=(4, 5))).argmax(1)
    size = np.digitize(numbers[:, 0] + rng.normal(size=n), [-1, 1])
    bought = (numbers[:, 1] + (job == 2) - (town > 2) + rng.normal(size=n) / 2 > 0).astype(int)
    return encoded(numbers, [town, job, size, bought])


def rare(n: int = 4000, seed: int = 0) -> Rows:
    """Return n rows of three numbers and categories with rare levels."""
    rng = np.random.default_rng(seed)
    share = 2.0 ** -np.arange(12)
    town = rng.choice(12, n, p=share / share.sum())
    numbers = rng.normal(size=(n, 3)) + 1.5 * rng.normal(size=(12, 3))[town]
    job = (rng.gumbel(size=(n, 4)) + numbers @ rng.normal(size=(3, 4))).argmax(1)
    missing = (rng.random(n) < np.where(job == 2, 0.3, 0.02)).astype(int)
    bought = (numbers[:, 0] + (job == 1) - missing + rng.normal(size=n) / 2 > 0.5).astype(int)
    return encoded(numbers, [town, job, missing, bought])


def shown(x: Tensor, spans: tuple[range, ...], way: str, streams: Streams) -> Tensor:
    """Return rows (R, n, d) as a network sees them."""
    at = [j for span in spans for j in span]
    found, shape = x.clone(), (x.shape[1], len(at))
    if way == "uniform":
        found[..., at] += streams.uniform("dequantised", shape)
    elif way == "normal":
        found[..., at] += 0.1 * streams.normal("dequantised", shape)
    elif way == "scaled":
        mean, deviation = x[..., at].mean(1, keepdim=True), x[..., at].std(1, keepdim=True).clamp_min(1e-3)
        found[..., at] = (x[..., at] - mean) / deviation
    return found


def samples(name: str, way: str, x: Tensor, spans: tuple[range, ...], steps: int, streams: Streams) -> Tensor:
    """Return as many samples as rows (R, n, d), in the same units."""
    rows = replace(Samples.full(shown(x.float(), spans, way, streams), 0), categories=spans)
    learned: Way = "softmax" if way == "head" else "one-hot"
    model = {"otcfm": OTCFM(categories=learned), "ddpm": DDPM(categories=learned, batch_size=BATCH)}[name]
    state = model.fit(model.init(x.shape[2:], streams), rows, Budget(steps=steps), streams)
    found = model.sample(state, x.shape[1], streams)
    if way == "scaled":
        at = [j for span in spans for j in span]
        found[..., at] = found[..., at] * x[..., at].float().std(1, keepdim=True) + x[..., at].float().mean(
            1, keepdim=True
        )
    return found


def snapped(x: Tensor, spans: tuple[range, ...]) -> np.ndarray:
    """Return rows (n, d) whose categories are one-hot."""
    found = x.double().clone()
    for span in spans:
        levels = x[:, list(span)].argmax(1)
        found[:, list(span)] = torch.nn.functional.one_hot(levels, len(span)).double()
    return found.numpy()


def measured(found: np.ndarray, held_out: np.ndarray, train: np.ndarray, spans: tuple[range, ...]) -> list[float]:
    """Return TSTR accuracy, total variation, error of correlations, KS distance and levels kept of rows (n, d)."""
    target, last = list(spans[-1]), spans[-1].start
    y = found[:, target].argmax(1)
    score = float((held_out[:, target].argmax(1) == y[0]).mean())
    if len(set(y)) > 1:
        trees = HistGradientBoostingClassifier(max_iter=50, random_state=0).fit(found[:, :last], y)
        score = float(trees.score(held_out[:, :last], held_out[:, target].argmax(1)))
    shares = [np.abs(found[:, list(s)].mean(0) - held_out[:, list(s)].mean(0)).sum() / 2 for s in spans]
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = [np.nan_to_num(np.corrcoef(x.T)) for x in (found, held_out)]
    upper = np.triu_indices(len(pairs[0]), 1)
    numbers = [ks_2samp(found[:, j], held_out[:, j]).statistic for j in range(spans[0].start)]
    levels = [j for span in spans for j in span if train[:, j].any()]
    kept = float(found[:, levels].any(0).mean())
    error = float(np.abs(pairs[0] - pairs[1])[upper].mean())
    return [score, float(np.mean(shares)), error, float(np.mean(numbers)), kept]


def results(seeds: int, steps: int) -> Iterator[tuple[str, str, str, np.ndarray, float]]:
    """Yield the table, generator, way, measures (R, 5) and seconds an arm of every comparison."""
    streams = Streams(tuple(range(seeds)))
    for table, (rows, spans) in {"wine": wine(), "made": made(), "rare": rare()}.items():
        order = streams.permutations("divided", [len(rows)] * seeds)
        half = len(rows) // 2
        x = torch.stack([rows[torch.from_numpy(o[:half].copy())] for o in order])
        held_out = [rows[torch.from_numpy(o[half:].copy())].numpy() for o in order]
        train = x.numpy()
        every = [measured(a, b, a, spans) for a, b in zip(train, held_out, strict=True)]
        yield table, "real rows", "", np.array(every), 0.0
        ways = ("plain", "uniform", "normal", "scaled", "head")
        for name, way in [("copula", ""), *((name, way) for name in ("otcfm", "ddpm") for way in ways)]:
            begun = time.perf_counter()
            if name == "copula":
                known = replace(Samples.full(x, 0), categories=spans)
                drawn = Copula().sample(Copula().fit({}, known, Budget(epochs=1), streams), half, streams)
            else:
                drawn = samples(name, way, x, spans, steps, streams)
            spent = (time.perf_counter() - begun) / seeds
            every = [measured(snapped(a, spans), b, c, spans) for a, b, c in zip(drawn, held_out, train, strict=True)]
            yield table, name, way, np.array(every), spent


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m studies.mixed", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=600)
    options = parser.parse_args()
    print("| table | generator | categories | TSTR accuracy | total variation | correlations | KS | levels | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    with as_in_a_worker():
        for table, name, way, values, spent in results(options.seeds, options.steps):
            error = values.std(0, ddof=1) / np.sqrt(len(values))
            cells = " | ".join(f"{m:.3f} ± {e:.3f}" for m, e in zip(values.mean(0), error, strict=True))
            print(f"| {table} | {name} | {way} | {cells} | {spent:.1f} |", flush=True)


if __name__ == "__main__":
    main()
