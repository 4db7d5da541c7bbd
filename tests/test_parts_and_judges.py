"""Regimes of the field: how many rows of which generation, exact laws by simulation, bad settings, arms that starve."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import snapshot
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from selfloop import ConfigError, Experiment, Run, Samples, Streams, run
from selfloop.analysis.curves import read
from selfloop.arms import arms
from selfloop.loop import advance, load
from selfloop.mixing import JUDGES, MIXINGS, Judge, Pool
from selfloop.mixing.base import training_set
from selfloop.mixing.contaminated import Contaminated, Detector
from selfloop.mixing.fresh import golden
from selfloop.mixing.parts import Part, Power

pytestmark = pytest.mark.usefixtures("as_in_a_worker")

ALL = {"name": "mode", "within": 1e6}
NONE = {"name": "mode", "within": 1e-9}


@JUDGES.register
class First(Judge):
    """The first number of each row."""

    times: float = 1.0

    def __call__(self, x: Tensor, pool: Pool) -> Tensor:
        return self.times * x.flatten(1)[:, 0]


def pool(mixing: Any, t: int, n: int = 30, seed: int = 0) -> Pool:
    streams = Streams((seed,))

    def history(g: int) -> Samples:
        return Samples.full(streams.normal("past", (mixing.draws(g, n), 2), g, torch.float64), born=g + 1)

    real = Samples.full(streams.normal("real", (n, 2), dtype=torch.float64), 0)
    modes = torch.zeros(1, 2, dtype=torch.float64), 1.0

    def fresh(k: int) -> Tensor:
        return streams.at(t).normal("fresh", (k, 2), dtype=torch.float64)[0]

    return Pool(t, real, streams.at(t), history, fresh, lambda x: -x.square().sum(1) / 2, modes)


def trained(mixing: Any, t: int, n: int = 30, seed: int = 0) -> Samples:
    return training_set(mixing, pool(mixing, t, n, seed))


def born(data: Samples) -> dict[int, int]:
    generations, counts = data.born[0, : int(data.count[0])].unique(return_counts=True)
    return dict(zip(generations.tolist(), counts.tolist(), strict=True))


def shares(data: Samples) -> dict[int, float]:
    assert data.weight is not None
    weight = data.weight[0] / data.weight.sum()
    return {g: float(weight[data.born[0] == g].sum()) for g in data.born[0].unique().tolist()}


# How many rows of which generation

COUNTS: list[tuple[Any, Callable[[int, int], dict[int, int]]]] = [
    ("replace", lambda t, n: {t: n}),
    ({"name": "replace", "n": {"power": 1.5}}, lambda t, n: {t: math.floor(n * t**1.5 + 1e-9)}),
    ({"name": "replace", "n": {"power": 2}}, lambda t, n: {t: n * t**2}),
    ("accumulate", lambda t, n: dict.fromkeys(range(t + 1), n)),
    ({"name": "window", "generations": 2}, lambda t, n: {0: n} | {g: n for g in (t - 1, t) if g > 0}),
    ({"name": "window", "generations": 2, "real": False}, lambda t, n: {g: n for g in (t - 1, t) if g > 0}),
    ({"name": "fresh", "k": 0.5}, lambda t, n: {0: n, t: n // 2} if n > 1 else {0: n}),
    ({"name": "verified", "verifier": ALL, "lam": 0.5}, lambda t, n: {0: n, t: n // 2} if n > 1 else {0: n}),
    ({"name": "curated", "reward": "First", "k": 5}, lambda t, n: {0: n, t: n}),
    ({"name": "corrected", "target": {"name": "centre", "k": 1}, "lam": math.inf}, lambda t, n: {t: n}),
    (
        {"name": "compose", "parts": [{"from": "real", "rows": 0.5}, {"from": "newest", "rows": 2}]},
        lambda t, n: {0: n // 2, t: 2 * n} if n > 1 else {t: 2 * n},
    ),
]


@pytest.mark.parametrize(("plain", "wanted"), COUNTS, ids=lambda x: str(x)[:40] if isinstance(x, str | dict) else "")
@settings(max_examples=15, deadline=None)
@given(t=st.integers(1, 6), n=st.integers(1, 40))
def test_so_many_rows_of_each_generation(plain: Any, wanted: Any, t: int, n: int) -> None:
    mixing = MIXINGS.parse(plain)
    assert born(trained(mixing, t, n)) == wanted(t, n)
    assert born(trained(mixing, 0, n)) == {0: n}


@settings(max_examples=40, deadline=None)
@given(t=st.integers(1, 8), n=st.integers(1, 60), rate=st.floats(0, 1), real=st.floats(0, 1), seed=st.integers(0, 5))
def test_contaminated_sets_have_their_share_and_no_row_twice(
    t: int, n: int, rate: float, real: float, seed: int
) -> None:
    mixing = Contaminated(rate=rate, real=real)
    found = trained(mixing, t, n, seed)
    assert int(found.count[0]) == n
    synthetic = n - born(found).get(0, 0)
    assert abs(synthetic - (1 - real) * (1 - (1 - rate) ** t) * n) < 1 + 1e-9
    assert len(found.arm(0).unique(dim=0)) == n


@pytest.mark.slow
def test_a_subsample_takes_every_row_of_the_union_equally_often() -> None:
    mixing, t, n, seeds = MIXINGS.parse("accumulate_subsample"), 3, 20, 400
    counts = np.zeros(t + 1)
    for seed in range(seeds):
        found = trained(mixing, t, n, seed)
        assert len(found.arm(0).unique(dim=0)) == n
        counts += [born(found).get(g, 0) for g in range(t + 1)]
    # Hypergeometric: n of (t + 1) n rows, so each generation has n/(t + 1) with variance below the binomial's.
    assert np.abs(counts / seeds - n / (t + 1)).max() < 5 * math.sqrt(n / (t + 1) / seeds)


@given(p=st.floats(0, 3), t=st.integers(1, 50), n=st.integers(1, 1000))
def test_powers_are_floors(p: float, t: int, n: int) -> None:
    count, value = Power(power=p).count(t, n), n * t**p
    assert count <= value * (1 + 1e-8)
    assert count > value - 1 - 1e-8 * value


# Weights


@pytest.mark.parametrize("k", [0.5, 1.0, 2.0, 4.0])
def test_the_golden_share_is_where_the_error_is_least(k: float) -> None:
    def error(a: float) -> float:  # e = a²/n + (1 − a)² (e + 1/(kn)), times n
        return (a**2 + (1 - a) ** 2 / k) / (1 - (1 - a) ** 2)

    best = golden(k)
    assert error(best) == pytest.approx(best, rel=1e-12)
    assert 1 - best == pytest.approx((2 * k + 1 - math.sqrt(4 * k + 1)) / (2 * k), rel=1e-12)
    assert all(error(best) < error(best + step) for step in (-0.01, 0.01))


def test_weights_are_shares_of_parts_however_many_rows_they_have() -> None:
    found = trained(MIXINGS.parse({"name": "fresh", "k": 2.0, "weight": "golden"}), 2)
    assert shares(found) == pytest.approx({0: 0.5, 2: 0.5})
    found = trained(MIXINGS.parse({"name": "fresh", "weight": 0.2}), 2)
    assert shares(found) == pytest.approx({0: 0.2, 2: 0.8})
    parts = [{"from": "real", "weight": 0.3}, {"from": "earlier", "weight": 0.7}]
    assert shares(trained(MIXINGS.parse({"name": "compose", "parts": parts}), 2)) == pytest.approx(
        {0: 0.3, 1: 0.35, 2: 0.35}
    )
    nothing = {"from": "newest", "weight": 0.7, "verified": {"verifier": NONE}}
    assert born(trained(MIXINGS.parse({"name": "compose", "parts": [parts[0], nothing]}), 2)) == {0: 30}


# Judges


def test_rewards_choose_with_the_probability_of_their_exponential() -> None:
    """Of K = 2 samples of N(0, 1) with r = b x: p(x) = 2 φ(x) E[e^{bx} / (e^{bx} + e^{by})], y ∼ N(0, 1)."""
    b, n, rng = 2.0, 20_000, np.random.default_rng(0)
    found = trained(MIXINGS.parse({"name": "curated", "reward": {"name": "First", "times": b}, "lam": math.inf}), 1, n)
    x = found.arm(0)[:, 0].numpy()
    y = rng.standard_normal((1_000_000, 2))
    mean = 2 * np.mean(y[:, 0] / (1 + np.exp(b * (y[:, 1] - y[:, 0]))))
    assert abs(x.mean() - mean) < 5 * math.sqrt(1 / n)
    assert len(x) == n


def test_one_of_one_is_everything() -> None:
    mixing = MIXINGS.parse({"name": "curated", "reward": "First", "k": 1})
    given = pool(mixing, 2)
    assert torch.equal(training_set(mixing, given).arm(0)[30:], given.generated(1).arm(0))


@pytest.mark.parametrize(("right", "rate"), [(ALL, 0.8), (NONE, 0.1)])
def test_an_oracle_errs_at_its_rates(right: dict[str, Any], rate: float) -> None:
    oracle = {"name": "oracle", "truth": right, "true_positive": 0.8, "false_positive": 0.1}
    n = 20_000
    found = trained(MIXINGS.parse({"name": "verified", "verifier": oracle, "lam": math.inf}), 1, n)
    assert abs(int(found.count[0]) / n - rate) < 5 * math.sqrt(rate * (1 - rate) / n)


def test_a_likelihood_keeps_what_real_rows_reach() -> None:
    mixing = MIXINGS.parse({"name": "verified", "verifier": "likelihood", "least": {"quantile": 0.25}, "lam": math.inf})
    given = pool(mixing, 1, 4000)
    bar = np.quantile(-given.real.arm(0).square().sum(1).numpy() / 2, 0.25)
    found = training_set(mixing, given).arm(0)
    assert torch.equal(found, given.generated(0).arm(0)[-given.generated(0).arm(0).square().sum(1) / 2 >= bar])
    assert abs(len(found) / 4000 - 0.75) < 5 * math.sqrt(0.75 * 0.25 * 2 / 4000)


def test_a_classifier_knows_what_is_too_far_out() -> None:
    given = pool(MIXINGS.parse("augment"), 1, 500)
    judge = JUDGES.parse("classifier")
    assert float(judge(given.real.arm(0) + 5, given).mean()) < 0.1
    assert abs(float(judge(given.generated(0).arm(0), given).mean()) - 0.5) < 0.05


@pytest.mark.parametrize(("strength", "share"), [(0, 0), (1, 0.5), (3, 0.75), (math.inf, 1)])
def test_corrections_go_a_share_of_the_way(strength: float, share: float) -> None:
    target = {"name": "centre", "k": 1}
    mixing = MIXINGS.parse({"name": "corrected", "target": target, "strength": strength, "lam": math.inf})
    given = pool(mixing, 2)
    x, middle = given.generated(1).arm(0), given.real.arm(0).mean(0)
    torch.testing.assert_close(training_set(mixing, given).arm(0), x + share * (middle - x))


def test_a_detector_changes_the_odds() -> None:
    assert Detector(true_positive=0.5).left(0.5) == pytest.approx(1 / 3)
    assert Detector(true_positive=0.5, false_positive=0.5).left(0.3) == pytest.approx(0.3)
    assert Detector(true_positive=1.0).left(0.9) == 0
    assert Detector(true_positive=1.0).left(1.0) == 0  # what (1 − rate)^t comes to in floats, if late enough
    assert Detector(true_positive=0).left(0.3) == pytest.approx(0.3)
    assert Detector(true_positive=0, false_positive=1).left(0.3) == 1


def test_a_perfect_detector_keeps_the_pool_real_for_ever() -> None:
    mixing = Contaminated(rate=0.9, detector=Detector(true_positive=1))
    assert {mixing.share(t) for t in (1, 10, 100, 1000)} == {0.0}


UNSURE = {"name": "oracle", "truth": ALL, "true_positive": 0.5}


def passed(verifiers: list[Any], seed: int = 0) -> list[list[int]]:
    """Return which of the newest samples each part of a regime has, all of them the same 400 of two numbers."""
    parts = [{"from": "newest", "verified": {"verifier": each}} for each in verifiers]
    mixing = MIXINGS.parse({"name": "compose", "parts": parts})
    given = pool(mixing, 1, 400, seed)
    whole, asked = given.generated(0).arm(0).tolist(), Counter[str]()
    found = [part.take(given, f"mixing/{i}", asked) for i, part in enumerate(mixing.made_of())]
    return [[whole.index(row) for row in rows.arm(0).tolist()] for rows in found]


def test_oracles_of_one_regime_err_independently_and_the_first_as_a_single_one() -> None:
    alone = passed([UNSURE])[0]
    first, between, second, third = passed([UNSURE, "First", UNSURE, UNSURE])
    assert first == alone
    assert 0 < len(between) < 400
    for one, other in ((first, second), (second, third), (first, third)):
        assert abs(len(set(one) & set(other)) - 100) < 5 * math.sqrt(400 * 0.25 * 0.75)
    (nested,) = passed([{"name": "oracle", "truth": UNSURE, "true_positive": 0.5}])
    assert abs(len(nested) - 100) < 5 * math.sqrt(400 * 0.25 * 0.75)
    assert passed([{"name": "oracle", "truth": UNSURE, "true_positive": 0.5}, UNSURE])[1] == third


def test_an_oracle_draws_what_it_always_drew() -> None:
    given = pool(MIXINGS.parse("augment"), 1, 400)
    (rng,) = given.streams.numpy("oracle")
    assert passed([UNSURE])[0] == np.flatnonzero(rng.random(400) < 0.5).tolist()


def test_fresh_rows_have_the_whole_where_there_are_no_samples() -> None:
    for weight in (None, 0.3, "golden"):
        found = trained(MIXINGS.parse({"name": "fresh", "k": 0, "weight": weight}), 2)
        assert born(found) == {0: 30}
        assert found.alike(0)
    assert golden(1e-9) == pytest.approx(1)


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (lambda x: x[:, 0] / 0, "judge 'Wrong' gave 30 of 30 rows scores that are not finite at generation 1"),
        (lambda x: x, "judge 'Wrong' returned (30, 2) for 30 rows: return one number a row, (N,)"),
        (lambda x: 3, "judge 'Wrong' returned int at generation 1: return a tensor"),
        (lambda x: x.add_(1)[:, 0], "judge 'Wrong' changed the rows that it was shown at generation 1: let it return"),
        (lambda x: {}["x"], "judge 'Wrong' failed at generation 1: KeyError: 'x'"),
    ],
)
@pytest.mark.parametrize("use", ["curated", "verified"])
def test_a_wrong_judge_is_told_in_one_line(answer: Callable[[Tensor], Any], line: str, use: str) -> None:
    class Wrong(Judge):
        def __call__(self, x: Tensor, pool: Pool) -> Tensor:
            return answer(x)  # type: ignore[no-any-return]

    step = {"curated": {"reward": Wrong(), "k": 1}, "verified": {"verifier": Wrong()}}[use]
    mixing = MIXINGS.parse({"name": use} | step)
    with pytest.raises(ConfigError) as caught:
        trained(mixing, 1)
    assert str(caught.value).startswith(line)


# A user's function


SCRIPT = """
import sys
import torch
from selfloop import Experiment, run
from selfloop.mixing import JUDGES, Judge

@JUDGES.register
class Right(Judge):
    def __call__(self, x, pool):
        return x[:, 0]

if __name__ == "__main__":
    experiment = Experiment.build({
        "name": "script", "data": {"name": "two_moons", "n": 20, "held_out": 10},
        "generator": {"name": "otcfm", "width": 8, "batch_size": 8}, "budget": {"steps": 4}, "generations": 2,
        "grid": {"mixing": [{"name": "curated", "reward": "Right"}, {"name": "verified", "verifier": "Right"}]},
    })
    for workers in (1, 0):
        list(run(experiment, f"{sys.argv[1]}/{workers}", workers=workers))
"""


@pytest.mark.slow
def test_a_function_of_ones_own_runs_in_workers_is_recorded_and_can_be_absent(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    subprocess.run([sys.executable, str(tmp_path / "script.py"), str(tmp_path)], check=True, timeout=300)
    assert snapshot(tmp_path / "1") == snapshot(tmp_path / "0")
    opened = Run.open(tmp_path / "1")
    assert opened.environment["code"]["judge Right"]["what"] == "program"
    assert [setting.label for setting in read(opened).settings] == [
        "curated, reward = Right, k = 2, lam = 1",
        "verified, verifier = Right, lam = 1",
    ]
    with pytest.raises(ConfigError, match="no judge is called 'Right'"):
        list(run(opened.experiment.override("generations=3"), tmp_path / "1"))


# Bad settings


def experiment(mixing: Any, **more: Any) -> Experiment:
    data = {"name": "eight_gaussians", "n": 24, "held_out": 16}
    plain = {"name": "regimes", "data": data, "generator": "gaussian", "generations": 3, "seeds": 2}
    return Experiment.build(plain | {"mixing": mixing} | more)


BAD: list[tuple[Any, str]] = [
    ({"name": "compose", "parts": []}, "mixing.parts: a regime has 1 to 100 parts, and these are 0"),
    ({"name": "compose", "parts": [{"from": "real"}] * 101}, "mixing.parts: a regime has 1 to 100 parts, and these"),
    ({"name": "compose", "parts": [{"from": "newest", "rows": {"power": -1}}]}, "mixing.parts.0.rows.power: "),
    ({"name": "compose", "parts": [{"from": "newest", "rows": {"pwer": 1}}]}, "mixing.parts.0.rows.p"),
    (
        {"name": "compose", "parts": [{"from": "newest", "rows": "many"}]},
        "mixing.parts.0.rows: must be ",
    ),
    *(
        ({"name": "verified", "verifier": "likelihood", "least": least}, f"mixing.least{line}")
        for least, line in (
            ({"quantile": 2}, ".quantile: must be less than or equal to 1, not 2"),
            ({"quantile": -0.1}, ".quantile: "),
            ({"quantile": "low"}, ".quantile: must be a number, as 0.5, not 'low'"),
            ({}, ".quantile is missing"),
            ("high", ": a score is a finite number, or {quantile: 0 to 1}, not 'high'"),
            (math.nan, ": a score is a finite number, or {quantile: 0 to 1}, not nan"),
            (math.inf, ": a score is a finite number, or {quantile: 0 to 1}, not inf"),
            (True, ": a score is a finite number, or {quantile: 0 to 1}, not True"),
        )
    ),
    (
        {"name": "verified", "verifier": {"name": "oracle", "truth": "likelihood", "threshold": {"quantile": 2}}},
        "mixing.verifier.threshold.quantile: ",
    ),
    (
        {"name": "verified", "verifier": {"name": "oracle", "truth": "likelihood"}},
        "mixing verified: threshold is missing: judge 'likelihood' has no threshold",
    ),
    (
        {"name": "augment", "lam": math.nan},
        "mixing.lam: λ must be 0 or more, or inf for the fully synthetic loop, not nan",
    ),
    ({"name": "biased", "temperature": 1, "lam": -1}, "mixing.lam: λ must be 0 or more, or inf"),
    ({"name": "corrected", "strength": math.nan}, "mixing.strength: the strength of a correction must be 0 or more"),
    ({"name": "curated", "reward": {"name": "distance", "to": ["a"]}}, "mixing.reward.to: a point is a list of finite"),
    (
        {"name": "contaminated", "detector": {"true_positive": 1, "false_positive": 1}},
        "mixing.detector: a detector with both rates 1 leaves nothing in the pool",
    ),
    ({"name": "contaminated", "rate": 1, "detector": {"true_positive": 1}}, "rate 1 makes a pool of synthetic rows"),
    (
        {"name": "contaminated", "rate": 0, "detector": {"true_positive": 0, "false_positive": 1}},
        "rate 0 makes a pool of real rows alone, and detector.false_positive 1 takes all of them out",
    ),
    ({"name": "contaminated", "detector": {}}, "mixing.detector.true_positive is missing"),
    ({"name": "compose", "parts": [{"from": "reel"}]}, "mixing.parts.0.from: must be 'real'"),
    ({"name": "compose", "parts": [{"from": "real", "rwos": 1}]}, "'mixing.parts.0.rwos', did you mean 'rows'?"),
    ({"name": "compose", "parts": [{"from": "real", "rows": 1.5}]}, "has at most all real rows"),
    ({"name": "compose", "parts": [{"from": "newest", "rows": -1}]}, "mixing.parts.0.rows"),
    ({"name": "compose", "parts": [{"from": "newest", "generations": 2}]}, "generations is for a part from earlier"),
    ({"name": "compose", "parts": [{"from": "fresh"}, {"from": "fresh"}]}, "have one part from fresh"),
    ({"name": "compose", "parts": [{"from": "all", "corrected": {}}]}, "real rows stay as they are"),
    ({"name": "compose", "parts": [{"from": "real", "weight": 0.5}, {"from": "newest"}]}, "give every part its share"),
    (
        {"name": "compose", "parts": [{"from": "real", "weight": 0.5}, {"from": "newest", "weight": 0.6}]},
        "the weights of the parts add up to 1.1: they are shares, and must add up to 1",
    ),
    ({"name": "compose", "parts": [{"from": "real", "weight": 0}, {"from": "newest", "weight": 0}]}, "add up to 0:"),
    ({"name": "compose", "parts": [{"from": "real", "weight": -1}, {"from": "newest", "weight": 2}]}, "parts.0.weight"),
    ({"name": "fresh", "weight": "goldne"}, "from 0 to 1, or golden, or null, not 'goldne'"),
    ({"name": "fresh", "weight": -0.1}, "from 0 to 1, or golden"),
    ({"name": "fresh", "weight": math.nan}, "mixing.weight"),
    ({"name": "fresh", "k": -1}, "mixing.k"),
    ({"name": "window", "generations": 0}, "mixing.generations"),
    ({"name": "contaminated", "rate": 1.5}, "mixing.rate"),
    ({"name": "contaminated", "detector": {"true_positive": 2}}, "mixing.detector.true_positive"),
    ({"name": "replace", "n": {"power": -1}}, "mixing.n.power"),
    ("verified", "mixing.verifier is missing"),
    ("curated", "mixing.reward is missing"),
    ({"name": "verified", "verifier": "likelihood"}, "least is missing: judge 'likelihood' has no threshold"),
    ({"name": "verified", "verifier": "centre"}, "verified needs a judge that says scores, and 'centre' says rows"),
    ({"name": "corrected", "target": "First"}, "corrected needs a judge that says rows, and 'First' says scores"),
    ({"name": "corrected", "strength": -1}, "mixing.strength"),
    ({"name": "curated", "reward": "orcale"}, "no judge is called 'orcale', did you mean 'oracle'?"),
    ({"name": "curated", "reward": "First", "k": 0}, "mixing.k"),
]


@pytest.mark.parametrize(("mixing", "line"), BAD, ids=lambda x: x if isinstance(x, str) else "")
def test_bad_settings_are_told_in_one_line(mixing: Any, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        experiment(mixing)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


ROWS = np.random.default_rng(0).normal(size=(60, 2))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"mixing": "fresh", "data": "digits"}, "mixing fresh needs fresh rows, which data digits does not have"),
        (
            {"mixing": {"name": "curated", "reward": "likelihood"}, "generator": "vae", "budget": {"steps": 1}},
            "mixing curated needs log_prob, which generator vae does not have",
        ),
        (
            {"mixing": {"name": "verified", "verifier": "likelihood"}, "generator": "vae", "budget": {"steps": 1}},
            "mixing verified needs log_prob, which generator vae does not have",
        ),
        (
            {"mixing": {"name": "verified", "verifier": ALL}, "data": "two_moons"},
            "mixing verified needs known modes, which data two_moons does not have",
        ),
        (
            {"mixing": {"name": "corrected", "target": {"name": "centre", "k": 25}}},
            "judge centre: k is 25, and there are 24 real rows: lower it",
        ),
        (
            {"mixing": {"name": "curated", "reward": {"name": "distance", "to": [0.0]}}},
            "judge distance: to has 1 numbers, and a row 2",
        ),
        (
            {"mixing": {"name": "curated", "reward": {"name": "mode", "index": 8}}},
            "judge mode: index is 8, and the data have the modes 0 to 7",
        ),
        (
            {"mixing": {"name": "compose", "parts": [{"from": "newest", "rows": 0.04}]}},
            "mixing compose takes no row where there are 24 real ones: raise rows",
        ),
        (
            {"mixing": "fresh", "data": "table"},
            "mixing fresh takes 20 fresh rows in each of 3 generations, and 30 are set aside: set data.n to 12 and ",
        ),
    ],
)
def test_what_it_needs_is_asked_for_before_anything_is_written(
    settings: dict[str, Any], line: str, tmp_path: Path
) -> None:
    if settings.get("data") == "table":
        np.save(tmp_path / "rows.npy", ROWS)
        table = {"name": "table", "path": str(tmp_path / "rows.npy"), "n": 20, "held_out": 10, "fresh_rows": 30}
        settings = settings | {"data": table}
    with pytest.raises(ConfigError) as caught:
        list(run(experiment(**settings), tmp_path / "run"))
    assert str(caught.value).startswith(line)
    assert not (tmp_path / "run").exists()


# Arms that starve


def test_a_verifier_that_keeps_nothing_starves_its_arm_alone(tmp_path: Path) -> None:
    starving = {"name": "verified", "verifier": NONE, "lam": math.inf}
    fed = {"name": "verified", "verifier": NONE, "lam": 1.0}
    both = experiment("augment", grid={"mixing": [{"name": "augment", "lam": 1.0}, starving, fed]})
    list(run(both, tmp_path / "both"))
    opened = Run.open(tmp_path / "both")
    assert [[r["status"] for r in opened.of_generation(t)] for t in range(4)] == [
        ["ok"] * 6,
        *[["ok", "ok", "starved", "starved", "ok", "ok"]] * 3,
    ]
    record = opened.of_generation(2)[2]
    assert (record["n_real"], record["n_synthetic"], record["born"]) == (0, 0, {})
    assert set(record["metrics"].values()) == {None}
    assert [r["born"] for r in opened.of_generation(2)[4:]] == [{"0": 24}] * 2
    curves = read(opened)
    assert curves.ended.tolist() == [-1, -1, 1, 1, -1, -1]
    assert curves.endings[1:3] == ("", "starved")
    assert opened.samples(2, 2).shape == (0, 2)
    opened.verify()
    list(run(experiment("augment", grid={"mixing": [{"name": "augment", "lam": 1.0}]}), tmp_path / "alone"))
    alone = Run.open(tmp_path / "alone")
    for t in range(4):
        assert [r["metrics"] for r in alone.of_generation(t)] == [r["metrics"] for r in opened.of_generation(t)[:2]]


def test_a_loop_in_which_all_arms_starve_ends_and_resumes(tmp_path: Path) -> None:
    starving = experiment({"name": "verified", "verifier": NONE, "lam": math.inf})
    list(run(starving, tmp_path / "whole"))
    for _ in range(4):
        for _generation in run(starving, tmp_path / "pieces"):
            break
    assert snapshot(tmp_path / "whole") == snapshot(tmp_path / "pieces")
    assert {r["status"] for r in Run.open(tmp_path / "whole").of_generation(3)} == {"starved"}


# Kill and resume


@pytest.mark.parametrize(
    "mixing",
    [
        "accumulate_subsample",
        {"name": "fresh", "weight": "golden"},
        {"name": "curated", "reward": "likelihood", "k": 3},
        {"name": "verified", "verifier": "classifier"},
        {"name": "corrected", "target": {"name": "centre", "k": 3}},
        {"name": "contaminated", "rate": 0.5, "real": 0.2},
    ],
    ids=lambda m: m if isinstance(m, str) else m["name"],
)
def test_a_run_resumes_to_the_same_bits_and_so_do_workers(mixing: Any, tmp_path: Path) -> None:
    planned = experiment(mixing, generations=2)
    list(run(planned, tmp_path / "whole"))
    for _ in range(3):
        for _generation in run(planned, tmp_path / "pieces"):
            break
    assert snapshot(tmp_path / "pieces") == snapshot(tmp_path / "whole")


# Exact laws, by simulation


def finals(mixing: Any, n: int, generations: int, replicas: int, dim: int = 4) -> tuple[Tensor, Tensor]:
    """Return means and variances of Gaussians fitted in the last generation, independent numbers each."""
    data = {"name": "gaussian", "n": n, "held_out": 2, "dim": dim}
    members = arms(experiment(mixing, data=data, generations=generations, seeds=replicas, metrics=["variance_ratio"]))
    split, past, state, first = load(members), list[Samples](), None, None
    for t in range(generations + 1):
        outcome = advance(members, split, t, state, past.__getitem__, first)
        state, first = outcome.state, first or outcome.state
        past.append(outcome.samples)
    assert state is not None
    return state["mean"].flatten(), state["covariance"].diagonal(dim1=1, dim2=2).flatten()


def is_variance(x: Tensor, value: float) -> None:
    assert abs(float(x.square().mean()) / value - 1) < 5 * math.sqrt(2 / len(x))


def test_a_growing_number_of_samples_bounds_the_error() -> None:
    """Var of the mean of replace, covariances being unbiased: 1/n + Σ_{t=1}^T 1/n_t."""
    n, last = 8, 5
    means, _ = finals({"name": "replace", "n": {"power": 2}}, n, last, 200)
    is_variance(means, 1 / n + sum(1 / (n * t**2) for t in range(1, last + 1)))


def test_fresh_rows_at_the_golden_weight_settle_where_theory_has_it() -> None:
    """e_t = a²/n + (1 − a)² (e_{t−1} + v/n), v the unbiased variance: about 0.618/n at k = 1."""
    n, last, a = 50, 6, golden(1)
    means, _ = finals({"name": "fresh", "weight": "golden"}, n, last, 150)
    error = 1 / n
    for _ in range(last):
        error = a**2 / n + (1 - a) ** 2 * (error + 1 / n)
    is_variance(means, error)
    assert error == pytest.approx(0.618 / n, rel=0.01)


def test_a_window_of_w_sums_its_own_errors() -> None:
    """The mean m_t is that of the last W sets', and a set's is m_g + e_g, Var e_g = 1/n: sums of independent errors."""
    n, last, w = 30, 6, 2
    means, _ = finals({"name": "window", "generations": w, "real": False}, n, last, 200)
    errors = np.zeros((last + 1, last + 1))  # of each mean, by whose they are: the real rows', and those of each set
    errors[0, 0] = 1
    for t in range(1, last + 1):
        window = range(max(0, t - w), t)
        errors[t] = sum(errors[g] + np.eye(last + 1)[g + 1] for g in window) / len(window)
    is_variance(means, float(np.square(errors[last]).sum()) / n)


def test_a_subsample_of_the_union_is_as_wrong_as_a_mean_of_means() -> None:
    """Second moments of set means, to the order 1/n²: n rows of k sets have the variance (1 − 1/k)/n about them."""
    n, last = 100, 4
    means, _ = finals("accumulate_subsample", n, last, 150)
    second = np.zeros((last + 2, last + 2))
    second[0, 0] = 1 / n
    for k in range(1, last + 2):  # sets there are; the next one is about the mean of the model fitted to n rows of them
        second[k, :k] = second[:k, k] = second[:k, :k].mean(1)
        model = second[:k, :k].mean() + (1 - 1 / k) / n
        second[k, k] = model + 1 / n
    assert abs(float(means.square().mean()) / model - 1) < 5 * math.sqrt(2 / len(means)) + 2 / n


def test_accumulated_gaussians_have_the_variance_of_theory() -> None:
    """E Σ_t = E Σ_{t−1} (1 − 1/((t + 1)((t + 1) n − 1))), Var m_T = 1/n + Σ_t E Σ_{t−1}/(n (t + 1)²)."""
    n, last = 6, 6
    means, variances = finals("accumulate", n, last, 250)
    error, variance = 1 / n, 1.0
    for t in range(1, last + 1):
        error += variance / (n * (t + 1) ** 2)
        variance *= 1 - 1 / ((t + 1) * ((t + 1) * n - 1))
    is_variance(means, error)
    assert abs(float(variances.mean()) - variance) < 5 * float(variances.std()) / math.sqrt(len(variances))


def test_corrected_samples_pull_the_covariance_in() -> None:
    """One centre and γ = 1 halve every sample's deviation: a share λ/(1 + λ) of rows with a quarter of the variance."""
    n, lam = 400, 1.0
    mixing = {"name": "corrected", "target": {"name": "centre", "k": 1}, "strength": 1.0, "lam": lam}
    _, variances = finals(mixing, n, 1, 40)
    assert (
        abs(float(variances.mean()) - (1 + 0.25) / 2) < 5 * float(variances.std()) / math.sqrt(len(variances)) + 2 / n
    )


def test_parts_can_be_given_as_objects() -> None:
    part = Part(source="newest", rows=0.5)
    assert part == Part.model_validate({"from": "newest", "rows": 0.5})
    assert part.model_dump()["from"] == "newest"
