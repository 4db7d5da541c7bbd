"""What results show of themselves in a notebook: small tables without a user's markup, and matplotlib's axes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import selfloop
from selfloop import Experiment, Run, run, stability
from selfloop.core.errors import ConfigError, RunError

EVIL = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def no_window() -> Iterator[None]:
    with matplotlib.rc_context({"backend": "Agg"}):
        yield
    plt.close("all")


def made(folder: Path, **settings: object) -> Run:
    given = {
        "name": "small",
        "description": EVIL,
        "data": {"name": "two_moons", "n": 60, "held_out": 60},
        "generator": "gaussian",
        "generations": 3,
        "seeds": 2,
        "grid": {"mixing.lam": [0, 1, math.inf]},
        "metrics": ["w2_held_out", "variance_ratio"],
    }
    list(run(Experiment.build(given | settings), folder))
    return Run.open(folder)


@pytest.fixture(scope="module")
def moons(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made(tmp_path_factory.mktemp("notebook") / f"{EVIL.replace('/', '')}")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Run:
    rng = np.random.default_rng(0)
    names = [f"<b>{word}</b>" for word in ("red", "green", "blue")]
    frame = pd.DataFrame({"age": rng.normal(40, 9, 80).round(1), f"col {EVIL}": rng.choice(names, 80)})
    data = selfloop.data.array(frame, held_out=20)
    return made(tmp_path_factory.mktemp("people") / "run", data=data, generator="copula", metrics=["levels_kept"])


def test_a_run_is_a_row_for_each_setting(moons: Run) -> None:
    page = moons._repr_html_()
    assert page.count("<tr>") == 1 + 3
    assert page.count("<td>2</td>") == 3
    assert "W₂ to held-out data" in page
    assert "Fully Synthetic (λ = ∞)" in page
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_run_of_many_settings_shows_some(tmp_path: Path) -> None:
    of = made(tmp_path / "run", seeds=1, generations=1, grid={"mixing.lam": list(range(20))})
    assert of._repr_html_().count("<tr>") == 1 + 12
    assert "and 8 settings more" in of._repr_html_()


def test_an_experiment_is_its_settings(moons: Run) -> None:
    page = moons.experiment._repr_html_()
    assert "<td>grid.mixing.lam</td><td>[0, 1, ∞]</td>" in page
    assert "two_moons (n = 60" in page
    assert "<script>" not in page


def test_stability_is_its_table_and_its_sentences(moons: Run) -> None:
    found = stability(moons)
    page, text = found._repr_html_(), str(found)
    assert page.count("<tr>") == 1 + 3
    assert "W₂ to held-out data, mean of the last 3" in page
    assert text.splitlines()[0].startswith("setting")
    assert "After 3 of 3 retrainings." in page
    assert "After 3 of 3 retrainings." in text
    frame = found.to_frame()
    assert frame["ratio"].tolist() == [0, 1, math.inf]
    assert frame["predicted"].tolist() == [0, 0.5, 1]
    assert frame["excess_low"].dtype == float


def test_a_judgement_escapes_what_its_rows_are_called() -> None:
    rng = np.random.default_rng(0)
    column = f"a {EVIL}"
    real, *sets = (pd.DataFrame({column: rng.normal(size=80), "b": rng.normal(size=80)}) for _ in range(4))
    found = selfloop.judge(real, sets, metrics=["sliced_w2_held_out"])
    assert "<script>" not in found._repr_html_()
    assert found._repr_html_().count('<table class="selfloop">') == 3
    assert found.run._repr_html_().count("<tr>") == 2


def test_a_metric_is_drawn_with_the_lines_of_the_report(moons: Run) -> None:
    axes = moons.plot("w2_held_out")
    labels = [line.get_label() for line in axes.get_lines()]
    assert labels[:3] == ["No Synth. Data (λ = 0)", "λ = 1", "Fully Synthetic (λ = ∞)"]
    frame = moons.to_frame()
    of = frame[(frame.metric == "w2_held_out") & (frame.ratio == math.inf)]
    assert axes.get_lines()[2].get_ydata() == pytest.approx(of.groupby("generation").value.mean())
    assert plt.fignum_exists(axes.figure.number)
    assert axes.figure.legends


def test_a_metric_is_drawn_into_axes_that_are_given(moons: Run) -> None:
    _, given = plt.subplots()
    assert moons.plot("variance_ratio", given) is given
    assert given.get_legend() is not None


def test_a_metric_that_was_not_recorded_is_told(moons: Run) -> None:
    with pytest.raises(ConfigError, match="the run did not record 'w2_heldout', did you mean 'w2_held_out'"):
        moons.plot("w2_heldout")


def test_samples_are_panels_with_the_real_rows_first(moons: Run) -> None:
    panels = moons.samples_plot(3)
    titles = [axes.get_title() for axes in panels]
    assert titles == ["Ground truth", "No Synth. Data (λ = 0)", "λ = 1", "Fully Synthetic (λ = ∞)"]
    assert all(len(axes.get_images()) == 1 for axes in panels)
    with pytest.raises(RunError, match="has the generations 0 to 3, no 4"):
        moons.samples_plot(4)
    with pytest.raises(RunError, match=r"has the generations 0 to 3, no 1\.5"):
        moons.samples_plot(1.5)  # type: ignore[arg-type]


def test_of_a_table_every_column_is_a_panel(people: Run) -> None:
    panels = people.samples_plot(2)
    assert [axes.get_title() for axes in panels] == ["age", f"col {EVIL}"]
    for axes in panels:
        bars = [bar.get_height() for bar in axes.patches]
        assert sum(bars) == pytest.approx(100, abs=0.1)
        assert len(axes.get_lines()) == 3
        assert all(line.get_ydata().sum() == pytest.approx(100, abs=0.1) for line in axes.get_lines())


def test_texts_are_lines(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\n".join(f"{a}{b}${c}" for a in "abc" for b in "def" for c in "ghi"))
    data = {"name": "text", "path": str(tmp_path / "names.txt"), "unit": "line", "held_out": 9}
    of = made(tmp_path / "run", data=data, generator="ngram", metrics=["token_entropy"], generations=1)
    panels = of.samples_plot(1)
    assert len(panels) == 4
    assert panels[0].texts[0].get_text().count("\n") == 7
    panels[0].figure.canvas.draw()  # what has dollars is no mathematics


def test_images_are_tiles(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 4, 4), dtype=np.uint8)
    real = selfloop.judge(pixels, [pixels[:30], pixels[10:]], metrics=["sliced_w2_held_out"])
    assert [len(axes.get_images()) for axes in real.run.samples_plot(1)] == [1, 1]
