"""Figure 3, explained: which setting decides whether a fully synthetic DDPM gathers at the modes' means or melts.

``python -m studies.fig3 [--out DIR] [--markdown FILE] [--figures DIR]`` runs the loops, goes on where it was stopped,
and makes the page and its figures. Every loop is run three times over: by the rule v ← F(v + κ²) of
:mod:`selfloop.theory.sampler_bias`, whose κ is what the first pass of one sampler shows of the network; with the exact
score of a mixture of Gaussians, fitted to the samples of the generation before and widened by κ², in the network's
place; and with the trained network. Arms of a family start from one generation 0 and train as one stack: they differ in
how they sample, and in nothing else.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor

from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.data.toy import EightGaussians
from selfloop.generators.ddpm import DDPM
from selfloop.learning.nets.mlp import decoder, decoder_shift
from selfloop.learning.samplers import Schedule, ancestral, ddim
from selfloop.learning.samplers.chain import PredictNoise
from selfloop.learning.training import EMA, Budget, averaged
from selfloop.theory.sampler_bias import (
    Rule,
    ancestral_variance,
    ddim_variance,
    looped,
    mixture_noise,
    smoothing,
)

WIDE = {"scale": 4.0, "std": 0.5}
"""Eight Gaussians as in Grathwohl et al. 2018, whose toys the paper names."""
NARROW = {"scale": 2.0, "std": 0.02}
"""As in ddpm-torch, whose code the paper runs."""


@dataclass(frozen=True)
class Arm:
    """How the arms of a family differ.

    Attributes:
        label: for people.
        sampler: "fixed-large" or "fixed-small", or "ddim".
        steps: of DDIM, equidistant from the first time to the last.
        unseen: whether the last time is left out of training, as in ddpm-torch.
        dropped: share of the samples that are left out, those farthest from the modes' means.
    """

    label: str
    sampler: str
    steps: int = 0
    unseen: bool = False
    dropped: float = 0.0

    def times(self, schedule: Schedule) -> np.ndarray:
        """Return DDIM's times, (steps,)."""
        return np.linspace(0, len(schedule.betas) - 1, self.steps).round().astype(np.int64)

    def rule(self, schedule: Schedule) -> Rule:
        """Return F, of two dimensions.

        Of a normal density the share q of rows that are farthest from its mean takes all but 1 + q ln q/(1 − q) of the
        variance along.
        """
        q = self.dropped
        left = 1 + q * math.log(q) / (1 - q) if q else 1.0
        if self.sampler == "ddim":
            return lambda v: left * ddim_variance(schedule, v, self.times(schedule))
        return lambda v: left * ancestral_variance(schedule, v, self.sampler)


LARGE, SMALL = Arm("fixed-large", "fixed-large"), Arm("fixed-small", "fixed-small")


@dataclass(frozen=True)
class Family:
    """Loops that start from one generation 0.

    Attributes:
        label: for people.
        data: of :class:`selfloop.data.toy.EightGaussians`.
        arms: at least one; the first shows κ.
        timesteps: T; first and last β are such that all T have the same noise.
        pretrain: steps of generation 0.
        steps: of a retraining.
        generations: retrainings.
    """

    label: str
    data: dict[str, float]
    arms: Sequence[Arm] = (LARGE, SMALL)
    timesteps: int = 100
    pretrain: int = 6000
    steps: int = 600
    generations: int = 20
    rows: int = 1000
    batch: int = 100
    ema: EMA = field(default_factory=lambda: EMA(decay=0.995, growing=True))

    @cached_property
    def toy(self) -> EightGaussians:
        """The data."""
        return EightGaussians(n=self.rows, **self.data)

    @cached_property
    def generator(self) -> DDPM:
        """The generator, but for how each arm samples."""
        scale = 100 / self.timesteps
        return _Masked(
            timesteps=self.timesteps,
            beta_start=1e-3 * scale,
            beta_end=0.2 * scale,
            batch_size=self.batch,
            ema=self.ema,
            unseen=[arm.unseen for arm in self.arms],
        )


class _Masked(DDPM):
    """DDPM whose arms differ in whether they learn the last time."""

    unseen: list[bool]

    def loss(self, params: State, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return DDPM's loss, 0 at a time that is left out, so that its mean over times is but scaled."""
        seen = (t < self.timesteps - 1) | ~torch.tensor(self.unseen[: len(t)]).unsqueeze(1)
        return super().loss(params, x0, t, noise) * seen


FAMILIES = {
    "wide": Family(
        "modes as in Grathwohl et al., T = 100",
        WIDE,
        (
            LARGE,
            SMALL,
            Arm("DDIM, 100 steps", "ddim", 100),
            Arm("DDIM, 20 steps", "ddim", 20),
            Arm("fixed-large, last time unseen", "fixed-large", unseen=True),
            Arm("fixed-large, farthest 10 % dropped", "fixed-large", dropped=0.1),
        ),
    ),
    "wide-400": Family("modes as in Grathwohl et al., T = 400", WIDE, timesteps=400, generations=10),
    "narrow": Family("modes as in ddpm-torch, T = 100", NARROW, pretrain=10_000, steps=1000, generations=10),
    "narrow-short": Family(
        "modes as in ddpm-torch, T = 100, a fifth of the training", NARROW, pretrain=2000, steps=200, generations=10
    ),
}
SHORTENED = "1,000 rows, batches of 100, averaged weights (decay 0.995), one seed"


@dataclass(frozen=True)
class Look:
    """What is seen of samples (N, 2).

    Attributes:
        spread: of the median row about its mode's mean, as a standard deviation over the data's.
        between: share of rows farther from every mean than 0.4 of the distance between two.
    """

    spread: float
    between: float


def look(x: np.ndarray, toy: EightGaussians) -> Look:
    """Return what is seen of samples (N, 2); a normal density's median distance is √(2 ln 2) standard deviations.

    The mean of a mode is the median of the rows that are nearest to the true one, so that drift is no spread.
    """
    centres, std = (np.asarray(each, np.float64) for each in toy.modes())
    apart = np.linalg.norm(centres[0] - centres[1])
    distances = np.linalg.norm(x[:, None] - centres, axis=2)
    nearest = distances.argmin(1)
    off = np.concatenate([_off(x[nearest == k]) for k in range(len(centres))])
    between = float((distances.min(1) > 0.4 * apart).mean())
    return Look(float(np.median(off) / math.sqrt(2 * math.log(2)) / std), between)


def _off(x: np.ndarray) -> np.ndarray:
    """Return how far rows are from their median, (N,)."""
    return np.linalg.norm(x - np.median(x, 0), axis=1) if len(x) else np.empty(0)


def draw(arm: Arm, predict: PredictNoise, schedule: Schedule, toy: EightGaussians, streams: Streams) -> Tensor:
    """Return as many samples as there are real rows, (1, N, 2), by an arm's way of sampling."""
    wanted = toy.n
    n = round(wanted / (1 - arm.dropped))

    def noise(i: int) -> Tensor:
        return streams.normal("latents", (n, 2), i)

    if arm.sampler == "ddim":
        x = ddim(predict, noise(0), schedule, arm.times(schedule))
    else:
        x = ancestral(predict, noise(0), schedule, lambda i: noise(i + 1), arm.sampler)
    if n == wanted:
        return x
    distance = torch.cdist(x[0], toy.modes()[0].to(x.dtype)).amin(1)
    return x[:, distance.argsort()[:wanted].sort().values]


@torch.no_grad()
def trained(family: Family) -> np.ndarray:
    """Return the samples of the loops of a network, (arms, T + 1, N, 2)."""
    generator, r = family.generator, len(family.arms)
    real = Samples.full(family.toy.load([0]).train.float(), born=0)
    kinds = sorted({arm.unseen for arm in family.arms})
    begun = generator.model_copy(update={"unseen": kinds})
    first, alike = begun.init((2,), Streams((0,) * len(kinds))), real.select([0] * len(kinds))
    first = begun.fit(first, alike, Budget(steps=family.pretrain), Streams((0,) * len(kinds)))
    state = {k: v[[kinds.index(arm.unseen) for arm in family.arms]] for k, v in first.items()}
    out = []
    for t in range(family.generations + 1):
        if t:
            state = generator.fit(state, Samples.full(x, born=t), Budget(steps=family.steps), Streams((0,) * r, t))
        drawn = []
        for k, arm in enumerate(family.arms):
            predict = _network(generator, {name: leaf[[k]] for name, leaf in averaged(state).items()})
            drawn.append(draw(arm, predict, generator.schedule, family.toy, Streams((0,), t)))
        x = torch.cat(drawn)
        out.append(x.numpy())
        print(
            f"{family.label}: generation {t}", *(f"{look(row, family.toy).spread:.2f}" for row in out[-1]), flush=True
        )
    return np.stack(out, 1)


def _network(generator: DDPM, params: State) -> PredictNoise:
    shifts = decoder_shift(params, torch.arange(generator.timesteps).unsqueeze(0))
    return lambda x, t: decoder(params, x, shifts[:, t : t + 1], generator.layers)


def exact(family: Family, blur: float) -> np.ndarray:
    """Return the samples of the loops with the exact score of a fitted mixture, κ² wider, (arms, T + 1, N, 2)."""
    centres, std = family.toy.modes()
    schedule, out = family.generator.schedule, []
    for arm in family.arms:
        weights, means, variances = torch.full((8,), 1 / 8), centres, torch.full((8,), std**2)
        path = []
        for t in range(family.generations + 1):
            predict = mixture_noise(schedule, weights.double(), means.double(), variances.double() + blur)
            x = draw(arm, predict, schedule, family.toy, Streams((0,), t))
            path.append(x[0].numpy())
            fit = GaussianMixture(
                8, covariance_type="spherical", means_init=means.numpy(), reg_covar=1e-12, random_state=0
            )
            fit.fit(path[-1].astype(np.float64))
            weights, means, variances = (torch.from_numpy(a) for a in (fit.weights_, fit.means_, fit.covariances_))
        out.append(path)
    return np.asarray(out)


@dataclass(frozen=True)
class Loops:
    """A family's loops: looks by arm and generation, and κ² over the data's variance."""

    family: Family
    samples: np.ndarray
    blur: float
    network: list[list[Look]]
    exact: list[list[Look]]
    perfect: list[list[Look]]
    rule: list[np.ndarray]


def found(name: str, family: Family, out: Path) -> Loops:
    """Run a family's loops, or read what was kept of them."""
    _, std = family.toy.modes()
    schedule = family.generator.schedule
    samples = _kept(out / f"{name}.npz", lambda: trained(family))
    seen = look(samples[0, 0], family.toy).spread * std
    blur = smoothing(family.arms[0].rule(schedule), std**2, seen**2)
    scores = {
        k: _kept(out / f"{name}-{k}.npz", functools.partial(exact, family, k2))
        for k, k2 in (("blurred", blur), ("perfect", 0.0))
    }

    def looks(loops: np.ndarray) -> list[list[Look]]:
        return [[look(x, family.toy) for x in path] for path in loops]

    return Loops(
        family=family,
        samples=samples,
        blur=blur / std**2,
        network=looks(samples),
        exact=looks(scores["blurred"]),
        perfect=looks(scores["perfect"]),
        rule=[
            np.sqrt(looped(arm.rule(schedule), std**2, family.generations + 1, blur)[1:]) / std for arm in family.arms
        ],
    )


def _kept(file: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the array in a file, which is made where it is not there."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(file, x=make().astype(np.float32))
    return np.asarray(np.load(file)["x"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m studies.fig3", description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/fig3-study"), help="where samples go")
    parser.add_argument("--only", nargs="*", default=list(FAMILIES), choices=list(FAMILIES), help="names of families")
    options = parser.parse_args()
    loops = {name: found(name, FAMILIES[name], options.out) for name in options.only}


if __name__ == "__main__":
    main()
