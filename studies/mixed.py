"""How should a network of numbers learn categories?

``python -m studies.mixed`` trains OT-CFM and DDPM on two tables with categories, and prints a table as Markdown; some
minutes on one core. Ways to show a category to a network that knows numbers alone, all of which end in the argmax:

- ``plain``: its one-hot rows as they are.
- ``uniform``: one-hot rows plus numbers uniform on [0, 1), as integers are dequantised (Theis et al. 2016).
- ``normal``: one-hot rows plus normal numbers with a deviation of 0.1.
- ``scaled``: one-hot rows of which every coordinate is in standard deviations, as numbers are.
- ``head``: the network gives the probabilities of the levels, by cross-entropy, and from them the mean of x₁ given x_t
  (OT-CFM: variational flow matching, Eijkelboom et al. 2024) or of x₀ given x_t (DDPM); numbers have the usual loss.

``wine`` is scikit-learn's, its class and the terciles of two of its columns as categories; ``made`` has 2,000 rows of
four numbers and four categories of 2, 3, 5 and 8 levels, whose shares and means depend on each other. Half of the rows
train and half are held out. Measured are as many samples as rows that train: the accuracy on held-out rows of
scikit-learn's histogram gradient boosting that was trained on samples to predict the last category (TSTR), the mean
over categories of the total variation to the held-out rows, the mean difference of the pairwise correlations of all
coordinates, and the mean over numbers of the Kolmogorov–Smirnov distance. Means over seeds ± their standard errors.
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

from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.engines.threads import as_in_a_worker
from selfloop.generators.copula import Copula
from selfloop.generators.ddpm import DDPM
from selfloop.generators.otcfm import OTCFM
from selfloop.learning.nets.mlp import decoder, decoder_shift, time_mlp
from selfloop.learning.samplers import ancestral, euler
from selfloop.learning.training import Batches, Blocks, Budget, averaged, train
from selfloop.learning.transport.coupling import optimal_pairs

Rows = tuple[Tensor, tuple[range, ...]]
"""Rows (n, d), numbers first and in standard deviations, and the coordinates of each category."""

EULER = 100
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


def head(out: Tensor, x: Tensor, spans: tuple[range, ...]) -> tuple[Tensor, Tensor]:
    """Return E[one-hot | x] at the coordinates of categories and the outputs elsewhere, and the log probabilities."""
    mean, logs = out.clone(), torch.zeros_like(out)
    for span in spans:
        at = slice(span.start, span.stop)
        logs[..., at] = out[..., at].log_softmax(-1)
        mean[..., at] = logs[..., at].exp()
    return mean, logs


def flow_with_head(rows: Samples, spans: tuple[range, ...], steps: int, streams: Streams, n: int) -> Tensor:
    """Return samples of OT-CFM whose network gives probabilities, (R, n, d)."""
    model = OTCFM()
    b, d = model.batch_size, rows.x.shape[2]
    batches = Batches(rows, b, streams)
    noise = Blocks(lambda shape, i: streams.normal("noise", shape, i), (b, d))
    times = Blocks(lambda shape, i: streams.uniform("times", shape, i), (b, 1))
    draws = Blocks(lambda shape, i: streams.integers("pairs", b, shape, i), (b,))
    number = torch.ones(d)
    for span in spans:
        number[list(span)] = 0

    def loss(params: State, step: int) -> Tensor:
        x0, x1 = optimal_pairs(noise[step], batches[step], draws[step])
        xt = (1 - times[step]) * x0 + times[step] * x1
        out = time_mlp(params, xt, times[step].squeeze(-1))
        _, logs = head(out, xt, spans)
        return ((out - (x1 - x0)).square() * number - x1 * logs * (1 - number)).mean((1, 2))

    state = train(model.init((d,), streams), loss, steps=steps, adam=model.optimizer, batch_size=b, ema=None)
    params = averaged(state)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        out = time_mlp(params, x, t)
        mean, _ = head(out, x, spans)
        return out * number + (mean - x) / (1 - t.reshape(len(t), -1, 1)) * (1 - number)

    return euler(velocity, streams.normal("latents", (n, d)), EULER)


def diffusion_with_head(rows: Samples, spans: tuple[range, ...], steps: int, streams: Streams, n: int) -> Tensor:
    """Return samples of DDPM whose network gives probabilities, (R, n, d)."""
    model = DDPM(batch_size=BATCH)
    b, d = model.batch_size, rows.x.shape[2]
    batches = Batches(rows, b, streams)
    noise = Blocks(lambda shape, i: streams.normal("noise", shape, i), (b, d))
    times = Blocks(lambda shape, i: streams.integers("times", model.timesteps, shape, i), (b,))
    signals = torch.from_numpy(np.sqrt(model.schedule.alphas_bar)).float()
    sigmas = torch.from_numpy(np.sqrt(1 - model.schedule.alphas_bar)).float()
    number = torch.ones(d)
    for span in spans:
        number[list(span)] = 0

    def loss(params: State, step: int) -> Tensor:
        x, e, t = batches[step], noise[step], times[step]
        xt = signals[t].unsqueeze(-1) * x + sigmas[t].unsqueeze(-1) * e
        out = decoder(params, xt, decoder_shift(params, t), model.layers)
        _, logs = head(out, xt, spans)
        return ((out - e).square() * number - x * logs * (1 - number)).mean((1, 2))

    state = train(model.init((d,), streams), loss, steps=steps, adam=model.optimizer, batch_size=b, ema=None)
    params = averaged(state)
    shifts = decoder_shift(params, torch.arange(model.timesteps).expand(len(streams.seeds), -1))

    def noise_in(x: Tensor, t: int) -> Tensor:
        out = decoder(params, x, shifts[:, t : t + 1], model.layers)
        mean, _ = head(out, x, spans)
        return out * number + (x - signals[t] * mean) / sigmas[t] * (1 - number)

    latents = streams.normal("latents", (n, d))
    return ancestral(
        noise_in, latents, model.schedule, lambda i: streams.normal("latents", (n, d), i + 1), "fixed-large"
    )


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
    n = x.shape[1]
    rows = Samples.full(shown(x.float(), spans, way, streams), 0)
    if way == "head":
        return {"otcfm": flow_with_head, "ddpm": diffusion_with_head}[name](rows, spans, steps, streams, n)
    model = {"otcfm": OTCFM(solver="euler", solver_steps=EULER), "ddpm": DDPM(batch_size=BATCH)}[name]
    state = model.fit(model.init(x.shape[2:], streams), rows, Budget(steps=steps), streams)
    found = model.sample(state, n, streams)
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


def measured(found: np.ndarray, held_out: np.ndarray, spans: tuple[range, ...]) -> list[float]:
    """Return TSTR accuracy, total variation, error of correlations and KS distance of rows (n, d)."""
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
    return [score, float(np.mean(shares)), float(np.abs(pairs[0] - pairs[1])[upper].mean()), float(np.mean(numbers))]


def results(seeds: int, steps: int) -> Iterator[tuple[str, str, str, np.ndarray, float]]:
    """Yield the table, generator, way, measures (R, 4) and seconds an arm of every comparison."""
    streams = Streams(tuple(range(seeds)))
    for table, (rows, spans) in {"wine": wine(), "made": made()}.items():
        order = streams.permutations("divided", [len(rows)] * seeds)
        half = len(rows) // 2
        x = torch.stack([rows[torch.from_numpy(o[:half].copy())] for o in order])
        held_out = [rows[torch.from_numpy(o[half:].copy())].numpy() for o in order]
        every = [measured(a.numpy(), b, spans) for a, b in zip(x, held_out, strict=True)]
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
            every = [measured(snapped(a, spans), b, spans) for a, b in zip(drawn, held_out, strict=True)]
            yield table, name, way, np.array(every), spent


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m studies.mixed", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=600)
    options = parser.parse_args()
    print("| table | generator | categories | TSTR accuracy | total variation | correlations | KS | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    with as_in_a_worker():
        for table, name, way, values, spent in results(options.seeds, options.steps):
            error = values.std(0, ddof=1) / np.sqrt(len(values))
            cells = " | ".join(f"{m:.3f} ± {e:.3f}" for m, e in zip(values.mean(0), error, strict=True))
            print(f"| {table} | {name} | {way} | {cells} | {spent:.1f} |", flush=True)


if __name__ == "__main__":
    main()
