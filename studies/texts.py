"""Loops of language models: figures, tables and samples of finished runs on text.

``selfloop run names-ngram`` (or ``names-gpt``, ``sotu-gpt``) and then ``python -m studies.texts runs/names-ngram
--figure docs/results/text/names-ngram`` draws, as PNG,

* ``perplexity``: held-out perplexity against the number of retrainings by regime, as Gerstgrasser et al. (2024) show
  the loss; a line is the mean over seeds, a bar two standard errors;
* ``rows``: how perplexities of single rows are distributed under a trigram model of the real rows that are kept, by
  generation, as Shumailov et al. (2024, Fig. 1) show it under the model of generation 0; a panel per regime, real
  rows grey;

and prints tables of Markdown: every metric at the first, the middle and the last generation, and rows of some
generations.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from selfloop.analysis.curves import Curves, Setting, read
from selfloop.core.events import Text
from selfloop.core.files import write_bytes
from selfloop.metrics.text_judge import judge, judged_perplexities
from selfloop.metrics.text_rows import Ids, ids
from selfloop.report.figures import encode, plain
from selfloop.report.style import ladder, spaced, styles
from selfloop.report.texts import shown
from selfloop.store import Run
from studies.regimes import bands

ROWS = 5
CHARACTERS = 160
BINS = 40


def _figure(width: float, height: float) -> Figure:
    drawn = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    return drawn


def perplexity(run: Run, curves: Curves, metric: str = "perplexity_held_out") -> Figure:
    """Return a metric against the number of retrainings, a line per regime."""
    drawn = _figure(7.2, 4.2)
    axes = drawn.add_subplot(yscale="log")
    t = np.arange(curves.generations)
    for setting, style in zip(curves.settings, styles(curves.settings), strict=True):
        middle, error = bands(curves, setting, metric)
        axes.errorbar(
            t,
            middle,
            error,
            color=style.light,
            linestyle=style.dash,
            marker=style.marker or ".",
            markersize=4,
            linewidth=1.5,
            elinewidth=1,
            capsize=2,
            label=plain(setting.label),
        )
    axes.set(xlabel="Number of retrainings", ylabel=plain(run.metric(metric).title))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_minor_formatter("{x:.3g}")
    axes.grid(alpha=0.25, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    drawn.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return drawn


def _living(curves: Curves, setting: Setting) -> list[int]:
    ended = curves.ended[setting.arms[0]]
    return [t for t in range(curves.generations) if not 0 <= ended <= t]


def perplexities(run: Run, setting: Setting, generations: Sequence[int]) -> dict[int | None, np.ndarray]:
    """Return the perplexity of each row of a setting's first arm under a trigram model of its kept real rows.

    That of the real rows themselves, by None, is under a model of the other half of them.
    """
    arm = setting.arms[0]
    real = run.real(arm)
    assert isinstance(real.events, Text)
    size = real.events.tokenizer.size
    kept: Ids = ids(real.rows)
    half, other = kept[::2], kept[1::2]
    found: dict[int | None, np.ndarray] = {None: judged_perplexities(judge(half, size), other)}
    for t in generations:
        found[t] = judged_perplexities(judge(half, size), ids(run.samples(t, arm)))
    return found


def rows(run: Run, curves: Curves) -> Figure:
    """Return the distributions of the perplexities of rows, a panel per regime."""
    columns = min(3, len(curves.settings))
    lines = math.ceil(len(curves.settings) / columns)
    drawn = _figure(3.6 * columns, 2.6 * lines)
    grid = drawn.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    every = [perplexities(run, setting, spaced(_living(curves, setting), 4)) for setting in curves.settings]
    values = np.concatenate([x for found in every for x in found.values()])
    low, high = np.quantile(values, [0.001, 0.999])
    edges = np.geomspace(low, high, BINS + 1)
    for axes, setting, found in zip(grid, curves.settings, every, strict=False):
        made = [t for t in found if t is not None]
        for t, x in found.items():
            share = np.histogram(x, edges)[0] / len(x)
            look = (
                {"color": "#bbbbbb", "fill": True} if t is None else {"color": ladder(made.index(t), len(made)).light}
            )
            axes.stairs(share, edges, label="real" if t is None else f"generation {t}", **look)
        axes.set_xscale("log")
        axes.set_title(plain(setting.label), fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(curves.settings) :]:
        axes.set_axis_off()
    drawn.supxlabel("Perplexity of a row under a trigram model of real rows", fontsize=9)
    drawn.supylabel("Share of rows", fontsize=9)
    grid[0].legend(frameon=False, fontsize=7)
    return drawn


def table(run: Run, curves: Curves) -> str:
    """Return every metric at the first, the middle and the last generation, mean ± standard error, as Markdown."""
    lines = [["regime", "generation", *curves.metrics], ["---"] * (2 + len(curves.metrics))]
    for setting in curves.settings:
        found = [bands(curves, setting, name) for name in curves.metrics]
        lines += [
            [setting.label, str(t), *(_cell(middle[t], error[t] / 2) for middle, error in found)]
            for t in spaced(range(curves.generations), 3)
        ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(middle: float, error: float) -> str:
    if not math.isfinite(middle):
        return "–"
    return f"{middle:.3g} ± {error:.1g}" if math.isfinite(error) else f"{middle:.3g}"


def samples(run: Run, curves: Curves) -> str:
    """Return real rows, and some of every regime's first arm at the same generations, as Markdown."""
    real = run.real(curves.settings[0].arms[0])
    assert isinstance(real.events, Text)
    lines = ["| regime | generation | rows |", "| --- | --- | --- |", f"| real | | {_rows(real.events, real.rows)} |"]
    lines += [
        f"| {setting.label} | {t} | {_rows(real.events, run.samples(t, setting.arms[0]))} |"
        for setting in curves.settings
        for t in spaced(range(curves.generations), 3)
        if t in _living(curves, setting)
    ]
    return "\n".join(lines) + "\n"


def _rows(events: Text, x: Tensor) -> str:
    texts = events.texts(x[:ROWS])
    return " · ".join(f"`{shown(text, CHARACTERS).replace('`', 'ˋ').replace('|', '∣')}`" for text in texts)


def main() -> None:
    """Draw a run, and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--figure", type=Path, required=True, help="a directory, made if it is not there")
    given = parser.parse_args()
    run = Run.open(given.run)
    curves = read(run)
    if not isinstance(run.real(0).events, Text):
        parser.error(f"{given.run} is not of text")
    if "perplexity_held_out" not in curves.metrics:
        parser.error(f"{given.run} did not record perplexity_held_out")
    given.figure.mkdir(parents=True, exist_ok=True)
    write_bytes(given.figure / "perplexity.png", encode(perplexity(run, curves), "png"))
    write_bytes(given.figure / "rows.png", encode(rows(run, curves), "png"))
    print(table(run, curves))
    print(samples(run, curves))


if __name__ == "__main__":
    main()
