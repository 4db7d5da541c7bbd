"""What becomes of weights after a fit: which move, by how much, and what a warm fit goes on from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Nursery, ended, small, snapshot
from torch import Tensor

from selfloop import ConfigError, Experiment, Run, RunError, run
from selfloop.arms import arms, first_alike, stacks
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.generators import GENERATORS
from selfloop.learning.training import OPTIMIZER, SHADOW, Budget, parameters
from selfloop.loop import Outcome, advance, load
from selfloop.theory import biased, extrapolate
from selfloop.updates import UPDATES, Update

pytestmark = pytest.mark.usefixtures("as_in_a_worker")


def experiment(**settings: Any) -> Experiment:
    plain = {
        "name": "updated",
        "data": {"name": "gaussian", "n": 50, "dim": 1},
        "generator": "gaussian",
        "generations": 2,
        "metrics": ["variance_ratio"],
    }
    return Experiment.build(plain | settings)


def chain(plan: Experiment) -> list[Outcome]:
    """Run a loop in memory."""
    members, outcomes = arms(plan), []
    split = load(members)
    for t in range(plan.generations + 1):
        state, first = (outcomes[-1].state, outcomes[0].state) if outcomes else (None, None)
        outcomes.append(advance(members, split, t, state, lambda g: outcomes[g].samples, first))
    return outcomes


def variances(outcomes: list[Outcome]) -> Tensor:
    """Return σ²_t of every arm against generation 0's, (T + 1, R)."""
    found = torch.stack([outcome.state["covariance"].flatten() for outcome in outcomes])
    return found / found[0]


@pytest.mark.parametrize("tau", [0.8, 1.25])
def test_the_best_weight_is_one_over_tau(tau: float) -> None:
    """Neon's step in σ², on 16 sets of 5,000 rows whose models are sampled at a temperature."""
    common = {"data": {"name": "gaussian", "n": 5000, "dim": 1}, "seeds": 16, "generations": 1}
    cold = {"name": "biased", "temperature": tau, "lam": "inf"}
    for w in (0.5, extrapolate.best_weight(tau, "variance"), 2.0):
        update = {"name": "extrapolate", "w": w}
        drawn = tau * variances(chain(experiment(**common, mixing=cold, update=update)))[1]
        error = drawn.std() / 4
        assert (drawn.mean() - extrapolate.reached_variance(tau, w)).abs() < 4 * error
        if w == 1 / tau:
            assert (drawn.mean() - 1).abs() < 4 * error
        else:
            assert (drawn.mean() - 1).abs() > 4 * error


@pytest.mark.parametrize(("w", "lam"), [(0.5, math.inf), (1.25, math.inf), (1.25, 1.0), (3.0, 1.0)])
def test_extrapolated_generation_after_generation_the_variance_turns(w: float, lam: float) -> None:
    tau = 0.8
    plan = experiment(
        data={"name": "gaussian", "n": 20_000, "dim": 1},
        mixing={"name": "biased", "temperature": tau, "lam": lam},
        update={"name": "extrapolate", "w": w},
        seeds=4,
        generations=5,
    )
    found = variances(chain(plan)).mean(1)
    for t in range(6):
        assert float(found[t]) == pytest.approx(extrapolate.looped_variance(tau, w, lam, t), abs=0.12)
    limit = extrapolate.looped_variance(tau, w, lam)
    assert math.isinf(limit) == (w * biased.tempered_rate(lam, tau) >= 1)


def test_an_average_is_the_mean_of_all_fits() -> None:
    plan = experiment(mixing={"lam": "inf"}, update="average", generations=4, seeds=2)
    outcomes, generator = chain(plan), plan.generator
    fits = [outcomes[0].state]
    for t in range(1, 5):
        data = Samples.full(outcomes[t - 1].samples.x, born=t)
        fits.append(generator.fit(outcomes[t - 1].state, data, Budget(epochs=1), Streams((0, 1), t)))
        for name, leaf in outcomes[t].state.items():
            torch.testing.assert_close(leaf, torch.stack([fit[name] for fit in fits]).mean(0))


NETWORK = {
    "data": {"name": "two_moons", "n": 40},
    "generator": {"name": "otcfm", "width": 8, "batch_size": 16, "ema": {"decay": 0.9}},
    "budget": {"steps": 4},
    "metrics": ["w2_held_out"],
}


@pytest.mark.parametrize("name", ["extrapolate", "average"])
@pytest.mark.parametrize("optimizer", ["carry", "reset"])
def test_of_a_network_parameters_and_their_average_move_and_nothing_else(name: str, optimizer: str) -> None:
    update = {"name": "extrapolate", "w": 1.5} if name == "extrapolate" else "average"
    plan = experiment(**NETWORK, mixing={"lam": 0.5}, update=update, optimizer=optimizer)
    outcomes, split = chain(plan), load(arms(plan))
    usual = chain(experiment(**NETWORK, mixing={"lam": 0.5}, optimizer=optimizer))
    assert all(torch.equal(leaf, outcomes[0].state[key]) for key, leaf in usual[0].state.items())
    first = outcomes[0].state
    for t in (1, 2):
        last, now = outcomes[t - 1].state, outcomes[t].state
        begin = first if name == "extrapolate" else last
        if optimizer == "reset":
            begin = {k: torch.zeros_like(v) if k.startswith(OPTIMIZER) else v for k, v in begin.items()}
        x = torch.cat([split.train, outcomes[t - 1].samples.x[:, :20]], 1)
        fitted = plan.generator.fit(begin, Samples.full(x, 0), Budget(steps=4), Streams((0,), t))
        moving = {key for key in now if key in parameters(now) or key.startswith(SHADOW)}
        assert moving & {f"{SHADOW}net.6.bias", "net.6.bias"}
        for key, leaf in now.items():
            wanted = fitted[key]
            if key in moving and name == "extrapolate":
                wanted = first[key] - 1.5 * (fitted[key] - first[key])
            elif key in moving:
                wanted = last[key] + (fitted[key] - last[key]) / (t + 1)
            assert torch.equal(leaf, wanted), key
    assert not torch.equal(outcomes[2].samples.x, usual[2].samples.x)


def test_minus_1_is_the_fit_itself_and_0_stays() -> None:
    common = {"mixing": {"lam": "inf"}, "generations": 3}
    usual = variances(chain(experiment(**common)))
    torch.testing.assert_close(variances(chain(experiment(**common, update={"name": "extrapolate", "w": -1.0}))), usual)
    still = variances(chain(experiment(**common, update={"name": "extrapolate", "w": 0.0})))
    assert torch.equal(still, torch.ones(4, 1, dtype=still.dtype))


MOONS = {"name": "two_moons", "n": 40}


@pytest.mark.parametrize(
    ("generator", "data", "leaf", "value"),
    [
        ("gaussian", MOONS, "covariance", [[1.0, 2.0], [2.0, 1.0]]),
        ("gaussian", {"name": "gaussian", "n": 40, "dim": 1}, "covariance", [[-1e-3]]),
        ("gaussian", MOONS, "mean", [math.nan, 0.0]),
        ("mixture", MOONS, "covariances", [[[1.0, 2.0], [2.0, 1.0]]] * 2),
        ("mixture", MOONS, "weights", [1.5, -0.5]),
        ("bernoulli", {"name": "bernoulli", "n": 40}, "probability", [1.1]),
        ("poisson", {"name": "poisson", "n": 40}, "rate", [-0.1]),
        ("exponential", {"name": "exponential", "n": 40}, "scale", [-0.1]),
        ("linear_regression", MOONS, "noise", -0.1),
        ("logistic_regression", {"name": "logistic_regression", "n": 40}, "intercept", math.inf),
    ],
)
def test_parameters_that_are_none_are_a_divergence(generator: str, data: Any, leaf: str, value: Any) -> None:
    """Arm 1 of 2 is moved off the family, and its neighbour goes on as if it were alone."""

    class Astray(Update):
        def __call__(self, t: int, fitted: State, last: State, first: State) -> State:
            moved = fitted[leaf].clone()
            if t == 1:
                moved[1] = torch.tensor(value, dtype=moved.dtype)
            return fitted | {leaf: moved}

    common = {"data": data, "generator": generator, "generations": 2, "metrics": ["w1_held_out"]}
    usual, moved = (chain(experiment(**common, seeds=2, **more)) for more in ({}, {"update": Astray()}))
    assert [record["status"] for record in moved[1].records] == ["ok", "diverged"]
    assert [record["status"] for record in moved[2].records] == ["ok", "diverged"]
    assert moved[2].records[0]["metrics"] == usual[2].records[0]["metrics"]


def test_a_covariance_that_extrapolation_makes_negative_ends_the_arm(tmp_path: Path) -> None:
    plan = experiment(
        mixing={"name": "biased", "temperature": 2.0, "lam": "inf"},
        grid={"update.w": [0.2, 5.0]},
        update={"name": "extrapolate", "w": 1.0},
    )
    for generation in run(plan, tmp_path / "run"):
        last = generation.records
    assert [(record["settings"], record["status"]) for record in last] == [
        ({"update.w": 0.2}, "ok"),
        ({"update.w": 5.0}, "diverged"),
    ]


@pytest.mark.parametrize(
    ("generator", "data"),
    [
        ("categorical", {"name": "categorical", "n": 40}),
        ("kernel_density", MOONS),
        ({"name": "estimator", "estimator": "GaussianMixture"}, MOONS),
    ],
)
@pytest.mark.parametrize("update", ["average", {"name": "extrapolate", "w": 1.0}])
def test_models_without_parameters_are_refused(generator: Any, data: Any, update: Any) -> None:
    with pytest.raises(ConfigError, match=r"needs parameters, which generator .* does not have") as error:
        experiment(generator=generator, data=data, update=update)
    assert str(error.value).startswith("update ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda given: None, "must return a dict of tensors"),
        (lambda given: {**given, "mean": 3.0}, "must return a dict of tensors"),
        (lambda given: {"mean": given["mean"]}, "must return parameters of the same names and shapes"),
        (lambda given: {**given, "mean": given["mean"][:, :0]}, "must return parameters of the same names and shapes"),
        (lambda given: given["nothing"], "failed at generation 1: KeyError"),
    ],
)
def test_what_ones_own_returns_is_checked(returned: Any, words: str) -> None:
    class Wrong(Update):
        def __call__(self, t: int, fitted: State, last: State, first: State) -> State:
            return returned(fitted)  # type: ignore[no-any-return]

    with pytest.raises(ConfigError, match=f"update 'Wrong'.*{words}") as error:
        chain(experiment(update=Wrong()))
    assert "\n" not in str(error.value)


def test_one_of_ones_own_joins_as_others_do(tmp_path: Path) -> None:
    class Halfway(Update):
        """Half of the way from the last weights to the fit."""

        share: float = 0.5

        def __call__(self, t: int, fitted: State, last: State, first: State) -> State:
            return {name: leaf + self.share * (fitted[name] - leaf) for name, leaf in last.items()}

    plan = experiment(update=Halfway(share=0.25), grid={"update.share": [0.25, 1.0]}, mixing={"lam": "inf"})
    list(run(plan, tmp_path / "run"))
    there = Run.open(tmp_path / "run")
    assert there.environment["code"]["update Halfway"]["what"] == "program"
    assert there.experiment.update == Halfway(share=0.25)
    assert there.experiment == plan


@pytest.mark.slow
@pytest.mark.parametrize("update", ["average", {"name": "extrapolate", "w": 0.5}])
def test_a_killed_run_with_an_update_ends_as_if_nothing_had_happened(
    update: Any, nest: Nursery, tmp_path: Path
) -> None:
    generator = {"name": "otcfm", "width": 8, "batch_size": 32, "ema": {"decay": 0.9}}
    plan = small(generator=generator, update=update, generations=3, budget={"steps": 5})
    whole = nest.run(plan, tmp_path / "whole", crash_at=None)
    assert ended(whole)
    expected, points = snapshot(tmp_path / "whole"), len(whole["message"].split())
    for share in (0.5, 0.75):
        out = tmp_path / f"killed-{share}"
        assert nest.run(plan, out, crash_at=int(share * points))["code"] == 9
        assert ended(nest.run(plan, out))
        assert snapshot(out) == expected
    grown = tmp_path / "grown"
    for generations in (1, 3):
        assert ended(nest.run(small(**plan.model_dump() | {"generations": generations}), grown))
    assert snapshot(grown) == expected


def test_without_an_update_nothing_is_recorded_of_one(tmp_path: Path) -> None:
    plan, none = experiment(), experiment(update=None)
    assert plan == none
    assert plan.yaml() == none.yaml()
    assert "update:" not in plan.yaml()
    assert "update" not in plan.lasting()
    # As it was recorded before there were updates.
    assert plan.digest() == "af5709d1af511e5347562754793ebf860b12555e52c5baa34449f4d3b74f575d"
    for chosen in (experiment(update="average"), experiment(update={"name": "extrapolate", "w": 2.0})):
        assert Experiment.parse(chosen.yaml()) == chosen
        assert chosen.lasting()["update"]["name"] == UPDATES.name_of(chosen.update)
    list(run(plan, tmp_path / "run"))
    with pytest.raises(RunError, match=r"another experiment: there update\.name is None, here 'average'"):
        list(run(experiment(update="average"), tmp_path / "run"))


def test_it_goes_on_the_grid_and_can_be_set() -> None:
    plan = experiment(grid={"update": [None, "average", {"name": "extrapolate", "w": 1.0}], "mixing.lam": [0, 1]})
    assert [arm.experiment.update and UPDATES.name_of(arm.experiment.update) for arm in arms(plan)] == [
        *[None] * 2,
        *["average"] * 2,
        *["extrapolate"] * 2,
    ]
    assert Experiment.parse(plan.yaml()) == plan
    groups = stacks(arms(plan))
    assert list(map(len, groups)) == [2, 2, 2]
    assert first_alike(groups) == [0, 0, 0]  # updates come after generation 0
    weighed = experiment(update={"name": "extrapolate", "w": 1.0}, grid={"update.w": [0.5, 1.5]})
    assert [arm.settings for arm in arms(weighed)] == [{"update.w": 0.5}, {"update.w": 1.5}]
    assert experiment().override("update.w=2", "update.name=extrapolate").update == UPDATES.parse(
        {"name": "extrapolate", "w": 2.0}
    )
    assert experiment().override("update=average").update == UPDATES.parse("average")
    assert experiment(update="average").override("update=null").update is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"update": "extrapolate"}, "update.w is missing"),
        ({"update": {"name": "extrapolate", "w": "inf"}}, "update.w: "),
        ({"update": "averages"}, "no update is called 'averages', did you mean 'average'"),
        ({"update": {"w": 1.0}}, "update: name is missing: there are average, extrapolate"),
        ({"grid": {"update.w": [1.0, 2.0]}}, "grid: update: name is missing"),
        ({"update": "average", "grid": {"update.w": [1.0]}}, "no setting is called 'update.w'"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said_in_one_line(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        experiment(**settings)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_generation_0_is_fitted_once_for_all_updates(tmp_path: Path) -> None:
    plan = experiment(grid={"update": [None, "average"]}, mixing={"lam": "inf"})
    list(run(plan, tmp_path / "run"))
    there = Run.open(tmp_path / "run")
    assert [[len(members) for members in there.stacks], there.experiment.generations] == [[1, 1], 2]
    for s in (0, 1):
        alone = chain(arms(plan)[s].experiment)
        for t in range(3):
            assert all(torch.equal(leaf, alone[t].state[key]) for key, leaf in there.state(t, s).items() if t != 1)
            assert torch.equal(there.stack_samples(t, s).x, alone[t].samples.x)


def test_every_update_is_offered_by_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    from selfloop.cli.main import app

    with pytest.raises(SystemExit) as code:
        app(["list", "updates"])
    assert code.value.code == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("average", "extrapolate"))


def test_generators_that_offer_parameters_can_be_moved() -> None:
    """Each built-in one of vectors has floating-point parameters, of the same shapes after a fit."""
    for name in GENERATORS:
        if GENERATORS.origin(name).what == "built-in" and name != "estimator":
            generator: Any = GENERATORS[name].model_construct()  # type: ignore[attr-defined]
            if "vectors" in generator.makes and "parameters" in generator.offers:
                state = parameters(generator.init((2,), Streams((0,))))
                assert any(leaf.is_floating_point() for leaf in state.values()), name
