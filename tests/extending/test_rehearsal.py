"""What regimes and judges of one's own do wrong is said before the first fit, and good ones are never refused."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from selfloop import ConfigError, Experiment, Run, Samples, SelfloopError, run
from selfloop.arms import arms
from selfloop.core.config import Frozen
from selfloop.data.toy import Toy
from selfloop.environment import prepared
from selfloop.mixing import Judge, Pool, Regime

ANSWERS: dict[str, Callable[..., Any]] = {}
SUFFIX = " (asked before the first fit, with real rows in place of samples)"


class Told(Regime):
    """Answers as it is told."""

    what: str

    def __call__(self, t: int, pool: Pool) -> Samples:
        return ANSWERS[self.what](pool)


class Needy(Told):
    """The same, of what it says that it needs."""

    needs: ClassVar[Any] = frozenset({"fresh", "density"})


class Scoring(Judge):
    """Answers as it is told."""

    what: str

    def __call__(self, x: Tensor, pool: Pool) -> Tensor:
        return ANSWERS[self.what](x, pool)


class Moving(Scoring):
    """The same, of where rows should be."""

    says: ClassVar[Any] = "rows"


def both(pool: Pool, **more: Any) -> Samples:
    return Samples.union([pool.real, pool.generated(pool.t - 1)], **more)


def experiment(mixing: Any, **settings: Any) -> Experiment:
    data = {"name": "two_moons", "n": 30, "held_out": 10}
    plain = {"name": "rehearsal", "data": data, "generator": "gaussian", "generations": 2, "metrics": ["mean_error"]}
    return Experiment(**(plain | {"mixing": mixing} | settings))


def refused(tmp_path: Path, mixing: Any, **settings: Any) -> str:
    with pytest.raises(SelfloopError) as caught:
        list(run(experiment(mixing, **settings), tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    assert str(caught.value).isprintable()
    assert str(caught.value).endswith(SUFFIX)
    return str(caught.value).removesuffix(SUFFIX)


def told(answer: Callable[..., Any], cls: Any = Told) -> Any:
    ANSWERS["now"] = answer
    return cls(what="now")


NEITHER = "weights that are negative, all zero or not finite: return finite ones of 0 or more"

REGIMES: list[tuple[Callable[[Pool], Any], str]] = [
    (
        lambda p: p.generated(p.t),
        "mixing 'Told' asks generation 1 for samples of generation 1: there are those of 0 alone",
    ),
    (
        lambda p: p.generated(p.t - 2),
        "mixing 'Told' asks generation 1 for samples of generation -1: there are those of 0",
    ),
    (
        lambda p: p.real if p.t == 1 else p.generated(2),
        "mixing 'Told' asks generation 2 for samples of generation 2: there are those of 0 to 1",
    ),
    (
        lambda p: p.generated(0, 31),
        "mixing 'Told' asks for 31 samples of generation 0, which has 30: let draws(t, n) return enough",
    ),
    (lambda p: p.generated(0, -1), "mixing 'Told' asks for -1 samples of generation 0: ask for 0 or more"),
    (lambda p: p.fresh(5), "mixing 'Told' asks for fresh real rows: let its class say needs = frozenset({\"fresh\"})"),
    (
        lambda p: p.real.weighed(p.score(p.real.arm(0))),
        "mixing 'Told' asks for a density under generation 0's model: let its class say needs = frozenset({",
    ),
    (lambda p: p.modes, "mixing 'Told' asks for modes of the data, which have none: name data with known modes"),
    (lambda p: None, "mixing 'Told' returned NoneType for generation 1: return Samples"),
    (lambda p: p.real.x, "mixing 'Told' returned Tensor for generation 1: return Samples"),
    (lambda p: Samples.full(p.real.x.float(), 0), "mixing 'Told' returned torch.float32 (1, 30, 2) for generation 1"),
    (lambda p: Samples.full(p.real.x[..., :1], 0), "mixing 'Told' returned torch.float64 (1, 30, 1) for generation 1"),
    (lambda p: Samples.full(p.real.arm(0), 0), "rows are (R, N, *event), R = 1 in a regime, and these are (30, 2)"),
    (lambda p: Samples.full(p.real.x * math.nan, 0), "mixing 'Told' gave generation 1 rows that are not finite"),
    *((lambda p, w=w: both(p, weights=w), NEITHER) for w in ([-1, 2], [math.nan, 1], [math.inf, 1], [0, 0])),
    (lambda p: both(p, weights=[1, 2, 3]), "3 weights for 2 sets"),
    (lambda p: both(p, weights=[1]), "1 weights for 2 sets"),
    (lambda p: p.real.weighed([1.0, 2.0]), "weights (2,) for 30 rows"),
    (lambda p: Samples.union([]), "there is no set to join"),
    (lambda p: Samples.union([p.real, Samples.full(p.real.x[..., :1], 0)]), "sets of different rows cannot be joined"),
    (lambda p: p.real.keep(torch.ones(29, dtype=torch.bool)), "a truth value a row, (30,), not torch.bool (29,)"),
    (lambda p: p.real.keep(torch.arange(30)), "take(rows) picks rows by number"),
    (lambda p: p.real.first(31), "31 rows are asked for, and there are 30"),
    (lambda p: {}["x"], "mixing 'Told' failed at generation 1: KeyError: 'x'"),
]


@pytest.mark.parametrize(("answer", "line"), REGIMES)
def test_what_a_regime_does_wrong_is_said_before_the_first_fit(tmp_path: Path, answer: Any, line: str) -> None:
    said = refused(tmp_path, told(answer))
    assert line in said
    assert said.startswith("mixing 'Told' ")


SCORES: list[tuple[Callable[[Tensor, Pool], Any], str]] = [
    (lambda x, p: x[:, 0] / 0, "rows scores that are not finite at generation 1: return a finite number for every row"),
    (lambda x, p: x[:, 0].log(), "scores that are not finite at generation 1"),
    (lambda x, p: x, "for 60 rows: return one number a row, (N,)"),
    (lambda x, p: x[1:, 0], "returned (59,) for 60 rows"),
    (lambda x, p: x[:, 0].tolist(), "returned list at generation 1: return a tensor"),
    (lambda x, p: None, "returned NoneType at generation 1"),
    (lambda x, p: p.score(x), "asks for a density under generation 0's model: let its class say needs = frozenset({\""),
    (lambda x, p: p.fresh(len(x)).arm(0)[:, 0], "asks for fresh real rows: let its class say needs"),
    (lambda x, p: p.generated(p.t).arm(0)[:, 0], "asks generation 1 for samples of generation 1"),
    (lambda x, p: x.add_(1)[:, 0], "changed the rows that it was shown at generation 1"),
]


@pytest.mark.parametrize(("answer", "line"), SCORES)
def test_what_a_judge_does_wrong_is_said_before_the_first_fit(tmp_path: Path, answer: Any, line: str) -> None:
    judge = told(answer, Scoring)
    said = refused(tmp_path, {"name": "curated", "reward": judge})
    assert said.startswith("judge 'Scoring' ")
    assert line in said
    truth = {"name": "oracle", "truth": judge}
    part = {"from": "newest", "rows": 2, "verified": {"verifier": truth}}
    assert line in refused(tmp_path, {"name": "compose", "parts": [{"from": "real"}, part]})


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (lambda x, p: x[1:], "returned (29, 2) for rows (30, 2)"),
        (lambda x, p: x[:, 0], "returned (30,) for rows (30, 2)"),
        (lambda x, p: x * math.nan, "returned rows that are not finite at generation 1: return a finite one for every"),
    ],
)
def test_what_a_corrector_does_wrong_is_said_before_the_first_fit(tmp_path: Path, answer: Any, line: str) -> None:
    assert line in refused(tmp_path, {"name": "corrected", "target": told(answer, Moving)})


GOOD: list[Callable[[Pool], Samples]] = [
    both,
    lambda p: both(p, weights=[1, 2]),
    lambda p: both(p, weights=[0, 2]),
    lambda p: Samples.union([p.real, *(p.generated(g, 7) for g in range(p.t))]),
    lambda p: p.generated(p.t - 1).keep(p.generated(p.t - 1).x[0, :, 0] > 0),
    lambda p: p.generated(max(0, p.t - 2)),
    lambda p: p.fresh(3),
    lambda p: p.real.weighed(p.score(p.real.arm(0)).exp()),
    lambda p: both(p).take(torch.as_tensor(p.streams.numpy("mine")[0].permutation(60)[:10])),
    lambda p: p.real.weighed(torch.cdist(p.generated(0).arm(0), p.real.arm(0)).min(1).values.reciprocal()),
]


@pytest.mark.parametrize("answer", GOOD)
def test_good_regimes_are_not_refused(tmp_path: Path, answer: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(run(experiment(told(answer, Needy)), tmp_path / "run"))) == 3


def test_what_rows_alike_would_make_infinite_is_not_refused(tmp_path: Path) -> None:
    """Samples never lie on real rows, and what stands for them does at first."""
    near = told(lambda x, p: -torch.cdist(x, p.real.arm(0)).min(1).values.log(), Scoring)
    assert len(list(run(experiment({"name": "curated", "reward": near}), tmp_path / "run"))) == 3


def test_judges_that_are_only_called_are_judges(tmp_path: Path) -> None:
    class Bare(Frozen):
        def __call__(self, x: Tensor, pool: Pool) -> Tensor:
            return x[:, 0]

    for verifier in (Bare(), {"name": "oracle", "truth": Bare()}):
        assert len(list(run(experiment({"name": "verified", "verifier": verifier}), tmp_path / "run"))) == 3
        (tmp_path / "run").rename(tmp_path / f"{type(verifier).__name__}")


def test_generation_0_trains_on_the_real_rows_and_asks_no_regime(tmp_path: Path) -> None:
    asked: list[int] = []

    def answer(pool: Pool) -> Samples:
        asked.append(pool.t)
        return pool.generated(pool.t - 1)

    list(run(experiment(told(answer)), tmp_path / "run"))
    list(run(experiment({"name": "replace"}), tmp_path / "replace"))
    assert asked == [1, 2, 1, 2]  # the rehearsal and the loop
    own, built_in = Run.open(tmp_path / "run"), Run.open(tmp_path / "replace")
    assert own.of_generation(0)[0]["born"] == {"0": 30}
    assert torch.equal(own.samples(2, 0), built_in.samples(2, 0))


def test_a_rehearsal_moves_no_random_number(tmp_path: Path) -> None:
    def answer(pool: Pool) -> Samples:
        torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
        return both(pool)

    torch.manual_seed(3), np.random.seed(3), random.seed(3)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    prepared(experiment(told(answer)), tmp_path / "run")
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_regimes_are_asked_of_few_rows_and_of_all_before_they_are_refused(tmp_path: Path) -> None:
    seen: list[int] = []

    def answer(pool: Pool) -> Samples:
        seen.append(pool.n)
        return Samples.union([pool.real, pool.generated(0, 3000)])

    many = {"data": {"name": "two_moons", "n": 4000, "held_out": 10}, "generations": 1}
    prepared(experiment(told(answer), **many), tmp_path / "run")
    assert seen == [1000, 4000]
    few = {"data": {"name": "two_moons", "n": 2000, "held_out": 10}, "generations": 1}
    assert "asks for 3000 samples of generation 0, which has 2000" in refused(tmp_path, told(answer), **few)


def test_a_million_rows_cost_no_more_than_a_thousand(tmp_path: Path) -> None:
    shown: list[int] = []

    def answer(x: Tensor, pool: Pool) -> Tensor:
        shown.append(len(x))
        return x[:, 0]

    mixing = {"name": "curated", "reward": told(answer, Scoring)}
    prepared(experiment(mixing, data={"name": "gaussian", "n": 10**6, "held_out": 10, "dim": 1}), tmp_path / "run")
    assert shown == [2000, 2000]


def test_temperatures_that_a_generator_lacks_are_refused_before_the_first_fit(tmp_path: Path) -> None:
    class Cold(Regime):
        def sampling_temperature(self, t: int) -> float:
            return 0.5

        def __call__(self, t: int, pool: Pool) -> Samples:
            return pool.real

    class Counts(Toy):
        def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
            return rng.poisson(3, (n, 1)).astype(float)

    line = r"mixing 'Cold' asks for samples of generation 0 at temperature 0\.5, which generator poisson does not have"
    with pytest.raises(ConfigError, match=line):
        list(run(experiment(Cold(), data=Counts(n=40), generator="poisson"), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_one_of_the_seeds_is_rehearsed() -> None:
    members = arms(experiment(told(both), seeds=5))
    assert len({id(arm.experiment) for arm in members}) == 1


def test_a_label_that_is_no_text_is_refused_before_the_first_fit(tmp_path: Path) -> None:
    class Nameless(Regime):
        @property
        def label(self) -> str:
            raise LookupError("no name")

        def __call__(self, t: int, pool: Pool) -> Samples:
            return pool.real

    with pytest.raises(ConfigError, match="mixing 'Nameless': its label is no text: LookupError"):
        list(run(experiment(Nameless()), tmp_path / "run"))
    assert not (tmp_path / "run").exists()
