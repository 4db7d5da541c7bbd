"""``selfloop stability`` on runs whose rates are known, and on runs too small to say anything."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from selfloop import Experiment, run
from selfloop.analysis.stability import _answer, _View, cells, sentences, stability
from selfloop.cli.main import main
from selfloop.core.errors import ConfigError
from selfloop.core.samples import Samples
from selfloop.store import Run
from selfloop.theory.measured import Interval

SETTINGS = {
    "name": "known",
    "data": {"name": "gaussian", "n": 40, "dim": 2},
    "generator": {"name": "gaussian"},
    "generations": 16,
    "seeds": 24,
    "grid": {"mixing.lam": [0, 0.5, 2, math.inf]},
    "metrics": ["w2_held_out", "variance_ratio", "mean_error"],
}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stability") / "known"
    list(run(Experiment.build(SETTINGS), folder))
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stability") / "small"
    grid = {"mixing.lam": [0, 1], "data.n": [20, 30]}
    list(run(Experiment.build(SETTINGS | {"grid": grid, "seeds": 2, "generations": 3}), folder))
    return folder


@pytest.mark.slow
def test_seen_rates_are_the_predicted_ones(known: Path) -> None:
    """Each at four standard errors of its interval, and the bias of a short panel."""
    found = stability(Run.open(known))
    assert [row.ratio for row in found.rows] == [0, 0.5, 2, math.inf]
    assert [row.predicted for row in found.rows] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    for row in found.rows:
        for seen in (row.centre, row.spread):
            assert seen is not None
            assert seen.low < seen.value < seen.high
            assert abs(seen.value - row.predicted) < seen.high - seen.low + 0.03
    assert "at most 1.22 for finite λ" in " ".join(sentences(found))
    assert [row.total_error for row in found.rows][1:] == pytest.approx([1.1180, 1.1832, math.inf], abs=1e-3)


@pytest.mark.slow
def test_the_largest_lam_within_tolerance(known: Path) -> None:
    found = stability(Run.open(known))
    assert found.metric == "w2_held_out"
    (answer,) = found.bearable
    assert answer.ratio == 2
    assert (answer.between, answer.worse, answer.top, answer.notes) == ((), math.inf, False, ())
    control, *_, synthetic = found.rows
    assert control.excess == Interval(0, 0, 0)
    assert synthetic.excess is not None
    assert synthetic.excess.low > 0.1
    assert synthetic.verdict == "collapsed"
    all_ = _answer("", found.rows, found.retrainings, 1000)  # however bad
    assert all_.top
    assert all_.ratio == math.inf
    # What seeds do not tell is named, with how bad it may be.
    two, least = found.rows[2].excess, stability(Run.open(known), tolerance=1e-9)
    assert two is not None
    assert least.bearable[0].ratio == 0
    assert least.bearable[0].between[-1].ratio == 2
    assert least.bearable[0].between[-1].at_most == two.high
    assert "No λ that was tried is shown with 95 % confidence to be no worse than 1e-07 %." in " ".join(
        sentences(least)
    )
    assert f"λ = 2 (at most {100 * two.high:.3g} % worse); more seeds would tell." in " ".join(sentences(least))


def test_a_ratio_is_worse_both_above_and_below(known: Path) -> None:
    found = stability(Run.open(known), metric="variance_ratio")
    assert all(row.excess is not None and row.excess.value >= 0 for row in found.rows)


def test_too_little_says_so(small: Path) -> None:
    found = stability(Run.open(small))
    assert [answer.among for answer in found.bearable] == ["data.n = 20", "data.n = 30"]
    for answer in found.bearable:
        assert answer.ratio is None
        assert any("not enough generations" in note for note in answer.notes)
    for row in found.rows:
        assert row.centre is None
        assert row.excess is not None
    assert "data.n = 20: Not enough generations: 3 retrainings of the 4 that it takes." in sentences(found)


def test_no_control_no_answer(tmp_path: Path) -> None:
    grid = {"mixing.lam": [0.5, 1]}
    list(run(Experiment.build(SETTINGS | {"grid": grid, "seeds": 2, "generations": 5}), tmp_path / "run"))
    (answer,) = (found := stability(Run.open(tmp_path / "run"))).bearable
    assert "there is no λ = 0 to compare with" in answer.notes
    assert all(row.excess is None for row in found.rows)


def test_an_unfinished_run_and_a_diverged_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = run(Experiment.build(SETTINGS | {"seeds": 2}), tmp_path / "run")
    for _ in range(3):
        next(loop)
    loop.close()
    found = stability(Run.open(tmp_path / "run"))
    assert (found.retrainings, found.planned) == (2, 16)
    original = Run.of_generation

    def diverged(self: Run, t: int) -> list:
        records = original(self, t)
        for record in records:
            if record["arm"] == 2 and t == 2:
                record |= {"status": "diverged", "metrics": dict.fromkeys(record["metrics"])}
        return records

    monkeypatch.setattr(Run, "of_generation", diverged)
    row = stability(Run.open(tmp_path / "run")).rows[1]
    assert row.excess is not None
    assert math.isinf(row.excess.value)
    assert math.isnan(row.value)
    assert "∞" in cells(stability(Run.open(tmp_path / "run")))[1]


def test_one_seed_claims_nothing_and_two_little(tmp_path: Path) -> None:
    for seeds in (1, 2):
        folder = tmp_path / str(seeds)
        list(run(Experiment.build(SETTINGS | {"seeds": seeds, "generations": 12}), folder))
        found = stability(Run.open(folder))
        (answer,) = found.bearable
        if seeds == 1:
            assert answer.ratio is None
            assert answer.notes == ("not enough seeds for an interval: 1 of the 2 that it takes",)
            assert all(row.centre is None for row in found.rows)
            assert cells(found)[1][6].count("at most") == 0
        else:
            assert answer.ratio is not None
            assert cells(found)[1][2].endswith(", 2 arms")
            assert "ρ of fewer than 5 arms has no interval" in " ".join(sentences(found))
            # Nor is an error's growth told from such a rate, where theory has none.
            assert all(row.centre is not None and math.isnan(row.centre.low) for row in found.rows)


def test_a_mistyped_metric_and_a_senseless_tolerance(small: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'w2_held_out'"):
        stability(Run.open(small), metric="w2_heldout")
    with pytest.raises(ConfigError, match="share above 0"):
        stability(Run.open(small), tolerance=math.nan)


def test_rows_as_large_as_there_are_warn_of_nothing() -> None:
    view = _View(centre=np.zeros((1, 1, 2)), scale=np.full((1, 1, 2), 0.01), used=np.array([4]))
    for value in (math.inf, 1e308):
        x = torch.full((1, 4, 2), value, dtype=torch.float64)
        assert not np.isfinite(view.features(Samples.full(x, born=1))).all()


def test_a_verdict_that_asks_for_more_is_told_beside_what_is_borne(tmp_path: Path) -> None:
    more = {"data": {"name": "gaussian", "n": 400, "dim": 2}, "grid": {"mixing.lam": [0, math.inf]}}
    list(run(Experiment.build(SETTINGS | more | {"seeds": 8, "generations": 4}), tmp_path / "run"))
    found = stability(Run.open(tmp_path / "run"), tolerance=1)
    assert [row.verdict for row in found.rows][1] == "cannot tell yet"
    said = sentences(found)[-3:]
    assert "No worse than 100 % after 4 retrainings, with 95 % confidence, up to λ = ∞, the largest" in said[0]
    assert said[1].startswith(
        "The verdict on Fully Synthetic (λ = ∞) asks for more, and is 'cannot tell yet': at the end"
    )
    assert said[1].endswith("; without real rows theory expects a collapse: more retrainings would tell.")


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command(
    known: Path, as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["selfloop", "stability", str(known), *(["--json"] if as_json else [])])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    out = capsys.readouterr().out
    if as_json:
        found = json.loads(out)
        assert found["rows"][3]["ratio"] == "inf"
        assert found["rows"][1]["predicted"] == pytest.approx(1 / 3)
        assert found["bearable"][0]["ratio"] == 2
        assert np.isfinite(found["rows"][2]["centre"]["low"])
    else:
        assert "% confidence, up to λ = 2. Worse by more than 10 % with 95 %" in out


def test_a_mixture_has_an_estimate(tmp_path: Path) -> None:
    """One component is the Gaussian: λ/(1 + λ), to what 20,000 rows say of a Fisher information."""
    more = {"generator": {"name": "mixture", "components": 1}, "seeds": 1, "generations": 1}
    list(run(Experiment.build(SETTINGS | more), tmp_path / "run"))
    found = stability(Run.open(tmp_path / "run"))
    assert [row.predicted for row in found.rows] == pytest.approx([0, 1 / 3, 2 / 3, 1], rel=0.03)
    assert all(row.estimated for row in found.rows)
    assert cells(found)[1][1].startswith("≈ 0.3")
