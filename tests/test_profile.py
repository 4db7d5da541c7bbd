"""The profile of a collapse: each notion says yes where it happens, no where it does not, and seldom errs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from selfloop import Experiment, run
from selfloop.analysis.curves import Curves, Setting
from selfloop.analysis.landmarks import Landmarks
from selfloop.analysis.profile import NOTIONS, Finding, of_run, profile
from selfloop.analysis.verdict import judged
from selfloop.data.base import DATA
from selfloop.metrics import METRICS
from selfloop.store import Run
from studies import profile as study

T = np.arange(21.0)
SEEDS = 5


@dataclass
class Kept:
    """What a run keeps of real rows."""

    rows: Tensor


@dataclass
class Samples:
    """Real rows for every arm, changed by a function of the generation in arms from the S-th on."""

    data: dict[str, Any]
    change: Any

    def real(self, arm: int) -> Any:
        return Kept(self._rows(0))

    def samples(self, t: int, arm: int) -> Tensor:
        x = self._rows(1 + 100 * arm + t)
        return self.change(x, t) if arm >= SEEDS else x

    def _rows(self, seed: int) -> Tensor:
        return DATA.parse(self.data).load([seed]).train[0]


def curves(there: Any, here: Any, **more: Any) -> Curves:
    """Return S arms of λ = 0 and as many of λ = 1 whose W2 and variance are these, with some noise of their own."""
    noise = np.exp(0.02 * np.random.default_rng(0).normal(size=(2, 2 * SEEDS, len(T))))
    stacked = np.concatenate([np.broadcast_to(x, (SEEDS, len(T))) for x in (there, here)])
    variance = np.concatenate(
        [np.broadcast_to(x, (SEEDS, len(T))) for x in (np.ones(len(T)), more.pop("variance", np.ones(len(T))))]
    )
    return Curves(
        settings=tuple(
            Setting(
                label=f"λ = {lam}",
                arms=tuple(range(lam * SEEDS, (lam + 1) * SEEDS)),
                ratio=lam,
                settings={"mixing.lam": lam},
            )
            for lam in (0, 1)
        ),
        seeds=(*range(SEEDS), *range(SEEDS)),
        values={"w2_held_out": stacked * noise[0], "variance_ratio": variance * noise[1]},
        floors={"w2_held_out": np.full(2 * SEEDS, 0.5)},
        ended=more.pop("ended", np.full(2 * SEEDS, -1)),
        endings=more.pop("endings", ("",) * 2 * SEEDS),
    )


def found(c: Curves, data: dict[str, Any] | None = None, change: Any = lambda x, t: x) -> dict[str, Finding]:
    """Return the findings of λ = 1 by their numbers."""
    rows: Any = Samples(data or {"name": "gaussian", "n": 200}, change)
    both = profile(c, judged(c, METRICS), rows, METRICS)
    assert [setting.label for setting in both.settings] == ["λ = 0", "λ = 1"]
    assert both.settings[1].against == "λ = 0"
    assert not [f for f in both.settings[0].findings if f.word == "yes"]
    return {finding.notion.number: finding for finding in both.settings[1].findings}


FLAT = np.ones(len(T))


def test_nothing_happens_in_an_unchanged_loop() -> None:
    said = found(curves(FLAT, FLAT), {"name": "eight_gaussians", "n": 400})
    assert list(said) == [notion.number for notion in NOTIONS]
    assert {number for number, f in said.items() if f.word == "no"} >= {"1", "2", "3", "4", "6a", "6b", "8"}
    assert said["5"].word == "not measured"
    assert "data.n" in said["5"].note


@pytest.mark.parametrize(
    ("course", "words"),
    [
        (1 + 0.2 * T, {"1": "yes", "2": "yes", "3": "yes"}),
        (1 + 0.03 * T, {"1": "no", "2": "yes", "3": "yes"}),
        (1 + 0.01 * T**2, {"1": "yes", "2": "yes", "3": "yes"}),
        (3 - 2 * 0.6**T, {"1": "yes", "2": "yes", "3": "no"}),
        (1.3 - 0.3 * 0.6**T, {"1": "no", "2": "yes", "3": "no"}),
        (1 - 0.3 * (1 - 0.6**T), {"1": "no", "2": "no", "3": "no"}),
        (1 + 0.5 * (T > 12), {"1": "no", "2": "yes", "3": "yes"}),
    ],
)
def test_risk(course: Any, words: dict[str, str]) -> None:
    said = found(curves(FLAT, course))
    assert {number: said[number].word for number in words} == words
    assert said["1"].low - 0.05 < course[-3:].mean() < said["1"].high + 0.05


def test_arms_that_diverged_are_catastrophic() -> None:
    ended = np.array([-1] * SEEDS + [5] * 3 + [-1] * 2)
    said = found(curves(FLAT, FLAT, ended=ended, endings=("",) * SEEDS + ("diverged",) * 3 + ("",) * 2))
    assert [said[number].word for number in "123"] == ["yes"] * 3
    assert said["1"].note == "3 of 5 arms diverged"
    assert math.isinf(said["1"].value)


def test_variance() -> None:
    assert found(curves(FLAT, FLAT, variance=0.9**T))["4"].word == "yes"
    assert found(curves(FLAT, FLAT, variance=1.1**T))["4"].word == "no"  # it does not collapse by growing


def test_lost_modes() -> None:
    """Five of eight modes are left, and nothing else happens."""

    def some(x: Tensor, t: int) -> Tensor:
        return x[x[:, 0] > -0.5] if t else x

    said = found(curves(FLAT, FLAT), {"name": "eight_gaussians", "n": 400}, some)
    assert (said["6a"].word, said["6b"].word, said["8"].word) == ("yes", "no", "no")
    assert said["6a"].value == pytest.approx(5 / 8, abs=0.07)


def test_entangled_modes() -> None:
    """A third of the rows lie half way between their own and another mode: between modes, and off the manifold."""

    def mixed(x: Tensor, t: int) -> Tensor:
        third = len(x) // 3 if t else 0
        turned = torch.stack([-x[:third, 1], x[:third, 0]], 1)
        return torch.cat([(x[:third] + turned) / 2 * 1.2, x[third:]])

    said = found(curves(FLAT, FLAT), {"name": "eight_gaussians", "n": 400}, mixed)
    assert (said["6b"].word, said["8"].word) == ("yes", "yes")
    assert said["6b"].value == pytest.approx(2 / 3, abs=0.06)


@pytest.mark.parametrize("dim", [2, 10])
def test_lost_tails(dim: int) -> None:
    """What shrinks a little loses its tails, in few and many dimensions, and stays on the manifold."""
    said = found(curves(FLAT, FLAT), {"name": "gaussian", "n": 400, "dim": dim}, lambda x, t: x * 0.8 if t else x)
    assert (said["7"].word, said["8"].word) == ("yes", "no")
    assert said["6a"].word == said["6b"].word == "cannot tell"
    assert said["6a"].note == "the real rows are one cluster"


def test_hallucinated_data() -> None:
    said = found(curves(FLAT, FLAT), {"name": "two_moons", "n": 400}, lambda x, t: torch.cat([x, x[:150] + 3])[:550])
    assert said["8"].word == "yes"
    assert said["8"].value == pytest.approx(400 / 550, abs=0.04)
    assert said["7"].word == "no" or said["7"].value > 0.8


def test_few_real_rows_are_not_looked_at() -> None:
    said = found(curves(FLAT, FLAT), {"name": "gaussian", "n": 40})
    assert said["7"].word == "not measured"
    assert said["7"].note == "40 real rows are kept of the 50 that it takes"
    assert said["4"].word == "no"  # was recorded


def test_scaling_law() -> None:
    """Risk is n^−1/2 at first; at the end n^−1/4."""
    sizes, seeds = (50, 100, 400), 5
    noise = np.exp(0.01 * np.random.default_rng(1).normal(size=(len(sizes) * seeds, len(T))))
    for end, word in ((-0.25, "yes"), (-0.5, "no"), (-0.7, "no")):
        exponent = np.where(T > 0, end, -0.5)
        risk = np.concatenate([np.broadcast_to(float(n) ** exponent, (seeds, len(T))) for n in sizes]) * noise
        c = Curves(
            settings=tuple(
                Setting(
                    label=f"n = {n}", arms=tuple(range(i * seeds, (i + 1) * seeds)), ratio=1, settings={"data.n": n}
                )
                for i, n in enumerate(sizes)
            ),
            seeds=tuple(range(seeds)) * len(sizes),
            values={"w2_held_out": risk},
            floors={"w2_held_out": np.zeros(len(risk))},
            ended=np.full(len(risk), -1),
            endings=("",) * len(risk),
        )
        rows: Any = Samples({"name": "gaussian", "n": 60}, lambda x, t: x)
        for setting in profile(c, judged(c, METRICS), rows, METRICS).settings:
            assert setting.findings[4].word == word
            assert setting.findings[4].value == pytest.approx(end + 0.5, abs=0.02)


@pytest.mark.parametrize("name", ["gaussian", "eight_gaussians", "pinwheel", "digits"])
def test_other_real_rows_keep_all_landmarks(name: str) -> None:
    split = DATA.parse({"name": name}).load([0])
    marks = Landmarks.of(split.train[0])
    kept = marks.kept(split.held_out[0])
    assert kept.manifold > 0.9
    assert marks.count == {"gaussian": 0, "eight_gaussians": 8, "pinwheel": 5}.get(name, marks.count)
    for share in (kept.modes, kept.apart):
        assert math.isnan(share) if marks.count == 0 else share > 0.85
    assert math.isnan(marks.kept(split.train[0][:0]).tails)


def test_discrete_rows() -> None:
    """Rows that repeat lie in balls of radius 0."""
    rows = torch.arange(4.0).repeat(50)[:, None]
    kept = Landmarks.of(rows).kept(rows)
    assert kept.manifold == kept.variance == 1
    assert Landmarks.of(rows).kept(rows + 0.25).manifold == 0


def test_of_a_run(tmp_path: Any) -> None:
    settings = {
        "name": "profiled",
        "data": {"name": "gaussian", "n": 60},
        "generator": "gaussian",
        "generations": 8,
        "seeds": 3,
        "grid": {"mixing.lam": [0, math.inf]},
        "metrics": ["mean_error"],
    }
    list(run(Experiment.build(settings), tmp_path / "run"))
    of = of_run(Run.open(tmp_path / "run"))
    frame = of.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == 2 * len(NOTIONS)
    assert set(frame["word"]) <= {"yes", "no", "cannot tell", "not measured"}
    assert set(frame[frame["notion"] == "1"]["note"]) == {"record a distance to held-out data, such as w2_held_out"}
    assert "Lost tails" in str(of)
    assert of._repr_html_().count("<tr>") == 3


def test_the_study_at_a_small_size(tmp_path: Any) -> None:
    """Of an unchanged loop: what counts later is the samples of twenty retrainings later."""
    looked = study.unchanged(tmp_path, "gaussian-100", 5)
    kept = Run.open(tmp_path / "gaussian-100-unchanged")
    rows = study.Twice(kept, 5)
    assert rows.samples(20, 7).equal(kept.samples(40, 2))
    assert rows.samples(0, 7).equal(rows.samples(0, 2))
    (setting, later) = looked.curves.settings
    assert np.isfinite(looked.curves.of(later, "tails")[:, 12:]).all()
    assert study.of_seeds(looked, np.arange(5))[later.label][4] == "not measured"
    alarms = list(study.false_alarms(looked, "gaussian-100", 5))
    assert [row[:3] for row in alarms] == [
        ["gaussian-100", size, against] for size in "15" for against in ("generation 0", "control")
    ]
    said = list(study.said_of(looked, "gaussian-100", 5))
    assert [row[:2] for row in said] == [["gaussian-100", setting.label], ["gaussian-100", later.label]]
    assert "| gaussian-100 | 1 | control |" in study.page(alarms, said, 5)
