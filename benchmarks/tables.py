"""A generation of generators of tables: a fit and as many samples as rows, beside other packages' synthesisers.

The rows are like those of Adult, 14 columns and a class: six numbers, of which two are mostly 0, and nine categories of
2 to 42 levels. OT-CFM is trained for 20 epochs, CTGAN and TVAE for 300, as is their default: what one epoch adds is
measured, and 300 times that, with what a fit takes once, is their time. Peers that are not installed are left out.
"""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from benchmarks.timing import Load, Row
from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.engines.threads import as_in_a_worker
from selfloop.generators.base import Generator
from selfloop.generators.copula import Copula
from selfloop.generators.estimator import Estimator
from selfloop.generators.otcfm import OTCFM
from selfloop.learning.training import Budget

SIZES = (5000, 20_000)
LEVELS = (9, 16, 7, 15, 6, 5, 2, 42, 2)
EPOCHS = 300  # of CTGAN and TVAE
TIMED = (2, 12)  # of which fits are timed
STREAMS = Streams((0,))


def adult_like(n: int) -> Samples:
    """Return (1, n, 110) rows."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(n, 3))
    numbers = factors @ rng.normal(size=(3, 6)) + rng.normal(size=(n, 6))
    for column, share in ((4, 0.08), (5, 0.05)):
        numbers[:, column] = np.where(rng.random(n) < share, np.exp(numbers[:, column]), 0)
    parts, spans = [(numbers - numbers.mean(0)) / numbers.std(0)], []
    at = numbers.shape[1]
    for levels in LEVELS:
        logits = factors @ rng.normal(size=(3, levels)) - 0.1 * np.arange(levels)
        parts.append(np.eye(levels)[(logits + rng.gumbel(size=(n, levels))).argmax(1)])
        spans.append(range(at, at + levels))
        at += levels
    return replace(Samples.full(torch.from_numpy(np.column_stack(parts))[None], 0), categories=tuple(spans))


def generation(generator: Generator, rows: Samples) -> float:
    """Return the seconds of a fit and of as many samples."""
    typed = replace(rows, x=rows.x.to(generator.dtype))
    state, n = generator.init(rows.x.shape[2:], STREAMS), rows.x.shape[1]
    begun = time.perf_counter()
    if isinstance(generator, Estimator):  # whose fit of generation 0 is a trial beside the one that samples
        state = generator.fit(state, typed, Budget(epochs=1), STREAMS.at(1))
        generator.sample(state, n, STREAMS.at(1))
    else:
        generator.sample(generator.fit(state, typed, Budget(epochs=20).resolve(n), STREAMS), n, STREAMS)
    return time.perf_counter() - begun


def peer(name: str, rows: Samples) -> float:
    """Return the seconds of another package's generation."""
    if name == "ARF":
        return generation(Estimator(estimator=name), rows)
    # The first fit imports and warms up.
    _, few, more = (generation(Estimator(estimator=name, arguments={"epochs": k}), rows) for k in (1, *TIMED))
    return few + (EPOCHS - TIMED[0]) * (more - few) / (TIMED[1] - TIMED[0])


def rows() -> Iterator[Row]:
    """Yield a comparison of OT-CFM, and one of the copula, with each peer, at each size."""
    there = {"CTGAN": "ctgan", "TVAE": "ctgan", "ARF": "arfpy"}
    for n in SIZES:
        data = adult_like(n)
        for generator in (OTCFM(), Copula()):
            generation(generator, data.first(100))  # compiles
        with as_in_a_worker(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the packages call
            with Load() as load:
                ours = {"OT-CFM, 20 epochs": generation(OTCFM(), data), "copula": generation(Copula(), data)}
            for name in (name for name, module in there.items() if importlib.util.find_spec(module)):
                with Load() as meanwhile:
                    seconds = peer(name, data)
                for what, own in ours.items():
                    yield Row(
                        work=f"a generation of {n:,} rows, {what}",
                        ours_s=own,
                        peer=name,
                        peer_s=seconds,
                        ratio=seconds / own,
                        load=max(load.others, meanwhile.others),
                        rounds=1,
                        dropped=0,
                        note="" if name == "ARF" else f"theirs from {TIMED[1]} of {EPOCHS} epochs",
                    )
