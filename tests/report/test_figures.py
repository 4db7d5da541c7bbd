"""The paper's figures: drawn for every kind of run, the same bytes each time, no global state."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from fakes import DIGITS, LINE, MOONS, FakeRun, experiment
from matplotlib.figure import Figure

from selfloop.analysis.curves import Curves, Setting, read
from selfloop.core.events import Vectors
from selfloop.data.real import Real
from selfloop.pictures import Canvas, png
from selfloop.report.figures import FIGURES, collapse, encode, metrics, parameters, plain, samples
from selfloop.report.style import MOST, legible, spaced, styles
from selfloop.theory.gaussian import alpha


def figure_of(draw: Callable[[Any, Curves], Figure | None], run: FakeRun) -> Figure | None:
    return draw(run, read(run))  # type: ignore[arg-type]


def real(rows: np.ndarray) -> Real:
    """Return rows as what a run keeps of its real data."""
    x, events = torch.from_numpy(rows), Vectors.unscaled(tuple(f"c{i}" for i in range(rows.shape[1])))
    return Real(events=events, rows=x, n=len(x), mean=x.mean(0), std=x.std(0, correction=0), sha256="")


@pytest.mark.slow
@pytest.mark.parametrize("data", [MOONS, DIGITS, LINE], ids=lambda data: data["name"])
def test_samples_have_a_row_per_setting_and_common_columns(data: dict[str, object], tmp_path: Path) -> None:
    figure = figure_of(samples, FakeRun(tmp_path, experiment(data, seeds=1), diverge={3: 2}))
    assert figure is not None
    assert len(figure.axes) == 4 * 6
    titles = [axes.get_title() for axes in figure.axes[:6]]
    expected = ["Ground truth", "No retraining", "1 retraining", "4 retrainings", "7 retrainings", "10 retrainings"]
    assert titles == expected
    assert [axes.texts[0].get_text() for axes in figure.axes[-3:]] == ["diverged"] * 3


@pytest.mark.slow
def test_equal_runs_give_equal_files_and_rcparams_stay(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    run = FakeRun(tmp_path, experiment(MOONS, seeds=2, generations=3), last=3)
    for draw in FIGURES.values():
        for kind in ("png", "pdf"):
            if (first := figure_of(draw, run)) is not None and (second := figure_of(draw, run)) is not None:
                assert encode(first, kind) == encode(second, kind)
    assert dict(matplotlib.rcParams) == before


def test_figures_exist_only_where_their_metric_does(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, experiment(MOONS, metrics=["w1_held_out"]))
    assert figure_of(parameters, run) is None
    assert figure_of(collapse, run) is None
    assert all(figure_of(draw, FakeRun(tmp_path, experiment(MOONS), last=-1)) is None for draw in FIGURES.values())


def test_metrics_draws_lines_with_bands_and_the_floor(tmp_path: Path) -> None:
    figure = figure_of(metrics, FakeRun(tmp_path, experiment(MOONS)))
    assert figure is not None
    axes = figure.axes[1]
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert lines["Fully Synthetic (λ = ∞)"].get_marker() == "^"
    assert lines["No Synth. Data (λ = 0)"].get_linestyle() == "--"
    assert list(lines["Real training vs. held-out data"].get_ydata()) == [0.3, 0.3]
    assert len(axes.collections) == 4


def test_figure_9_has_the_distance_to_a_random_start(tmp_path: Path) -> None:
    names = ["parameter_distance", "parameter_distance_random"]
    figure = figure_of(parameters, FakeRun(tmp_path, experiment(MOONS, metrics=names)))
    assert figure is not None
    assert "Distance to random init." in [line.get_label() for line in figure.axes[0].get_lines()]


def test_proposition_1_is_drawn_once_per_n(tmp_path: Path) -> None:
    grid = {"data.n": [10, 30], "data.dim": [1, 2]}
    lam = {"lam": math.inf}
    figure = figure_of(
        collapse, FakeRun(tmp_path, experiment(LINE, grid=grid, mixing=lam, metrics=["sqrt_covariance_ratio"]), last=5)
    )
    assert figure is not None
    axes = figure.axes[0]
    predictions = [line for line in axes.get_lines() if str(line.get_label()).startswith("α")]
    np.testing.assert_allclose(predictions[1].get_ydata(), alpha(30).value ** np.arange(6))
    assert len(predictions) == 2
    assert axes.get_yscale() == "log"


def test_words_are_drawn_as_they_stand() -> None:
    assert plain("$x$ λ ∞ \x00中") == r"\$x\$ λ ∞ ??"


def test_styles_follow_the_paper_only_where_lambda_tells_settings_apart() -> None:
    def of(*lams: float) -> list[str]:
        settings = [Setting(label="", arms=(i,), ratio=lam, settings={}) for i, lam in enumerate(lams)]
        return [f"{s.dash} {s.marker}" for s in styles(settings)]

    assert of(0, 1, math.inf) == ["dashed o", "solid ", "dashed ^"]
    assert of(math.inf, math.inf) == ["solid ", "solid s"]
    assert of(math.nan) == ["solid "]


def test_a_canvas_counts_what_falls_outside() -> None:
    rows = np.random.default_rng(0).standard_normal((100, 3))
    canvas = Canvas.of(real(rows))
    assert canvas.kind == "density"
    assert canvas.draw(torch.from_numpy(rows)).outside == 0
    far = torch.from_numpy(np.concatenate([rows[:50], rows[:25] + 100, np.full((25, 3), np.nan)]))
    assert canvas.draw(far).outside == pytest.approx(0.5)
    assert canvas.frame().startswith("c0 from -")


@pytest.mark.parametrize("d", [1, 2])
def test_a_canvas_takes_constant_data_and_no_rows(d: int) -> None:
    canvas = Canvas.of(real(np.ones((5, d))))
    assert canvas.draw(torch.ones(5, d)).outside == 0
    assert png(canvas.draw(torch.ones(0, d)).pixels).startswith(b"\x89PNG")


def test_spaced_keeps_both_ends() -> None:
    assert spaced(range(101), 5) == [0, 25, 50, 75, 100]
    assert spaced([3, 4], 5) == [3, 4]
    assert spaced(range(9), 1) == [0]


@pytest.mark.filterwarnings("error")
def test_of_many_settings_some_are_drawn_and_the_axes_keep_their_room(tmp_path: Path) -> None:
    plan = experiment(MOONS, 2, 1, grid={"data.n": list(range(20, 120))}, metrics=["w2_held_out"])
    run = FakeRun(tmp_path, plan, last=2)
    some = legible(read(run))  # type: ignore[arg-type]
    assert [setting.label for setting in some.settings][:: MOST - 1] == ["n = 20", "n = 119"]
    figure = figure_of(metrics, run)
    assert figure is not None
    assert len(figure.axes[0].lines) <= 2 * MOST
    assert encode(figure, "png").startswith(b"\x89PNG")  # lays it out, and warns where an axis has no room
    assert figure.axes[0].get_position().height > 0.3
