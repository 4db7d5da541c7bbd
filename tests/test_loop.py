"""What the choices of the loop mean, and what happens to an arm that diverges."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from selfloop import Run, run
from selfloop.arms import Arm, arms, first_alike, stacks
from selfloop.core.errors import ConfigError
from selfloop.core.samples import Samples, State, stack
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.experiment import Experiment
from selfloop.generators import OTCFM, Gaussian
from selfloop.learning.training import Budget, parameters
from selfloop.loop import Outcome, advance, load
from selfloop.metrics import covariance
from selfloop.mixing import Pool, Regime

pytestmark = pytest.mark.usefixtures("as_in_a_worker")


def experiment(**settings: Any) -> Experiment:
    plain = {
        "name": "loop",
        "data": {"name": "two_moons", "n": 40},
        "generator": {"name": "otcfm", "width": 8, "batch_size": 16},
        "generations": 2,
        "budget": {"steps": 4},
        "metrics": ["w2_held_out", "parameter_distance", "parameter_distance_random"],
    }
    return Experiment.build(plain | settings)


def chain(members: list[Arm], generations: int = 2) -> list[Outcome]:
    """Run Algorithm 1 in memory, as a user would by hand."""
    split, outcomes = load(members), []
    for t in range(generations + 1):
        state = outcomes[-1].state if outcomes else None
        first = outcomes[0].state if outcomes else None
        outcomes.append(advance(members, split, t, state, lambda g: outcomes[g].samples, first))
    return outcomes


def test_algorithm_1_line_by_line() -> None:
    """Generation t is A(D_real ∪ {x̃_i}, i ≤ ⌊λn⌋), x̃_i ~ p_θ(t−1), going on from θ(t−1)."""
    plan = experiment(mixing={"lam": 0.5})
    outcomes, split = chain(arms(plan)), load(arms(plan))
    generator, budget = plan.generator, Budget(steps=4)
    real = Samples.full(split.train, 0)
    state = generator.fit(generator.init((2,), Streams((0,), 0)), real, budget, Streams((0,), 0))
    for t in (1, 2):
        x = generator.sample(state, 40, Streams((0,), t - 1))
        union = torch.cat([split.train, x[:, :20]], 1)
        assert torch.equal(outcomes[t - 1].samples.x, x)
        data = Samples(x=union, born=torch.zeros(union.shape[:2], dtype=torch.int16), count=torch.tensor([60]))
        state = generator.fit(state, data, budget, Streams((0,), t))
        assert all(torch.equal(state[k], outcomes[t].state[k]) for k in state)


def test_generation_0_is_the_same_for_every_lambda_and_fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = arms(experiment(grid={"mixing.lam": [0, 1, math.inf]}, seeds=2))
    alone = [chain([arm], 0)[0] for arm in chosen]
    fits, fit = [], OTCFM.fit

    def counted(self: OTCFM, state: Any, *more: Any) -> Any:
        fits.append(len(next(iter(state.values()))))
        return fit(self, state, *more)

    monkeypatch.setattr(OTCFM, "fit", counted)
    together = chain(chosen, 1)
    assert fits == [2, 6]
    for r, one in enumerate(alone):
        assert all(torch.equal(leaf[r], one.state[name][0]) for name, leaf in together[0].state.items())
        assert torch.equal(together[0].samples.x[r], one.samples.x[0])
        assert together[0].records[r] == one.records[0]
    outcome = chain(arms(experiment(grid={"mixing.lam": [0, 1, math.inf]})), 0)[0]
    assert [r["n_synthetic"] for r in outcome.records] == [0, 0, 0]
    assert {r["n_real"] for r in outcome.records} == {40}


def test_arms_of_one_stack_are_sampled_at_their_own_temperatures() -> None:
    chosen = arms(
        experiment(
            data={"name": "gaussian", "n": 40},
            generator="gaussian",
            grid={
                "mixing": [
                    {"name": "augment", "lam": 1},
                    {"name": "biased", "temperature": 1.0},
                    {"name": "biased", "temperature": 0.25},
                    {"name": "compose", "parts": [{"from": "real"}, {"from": "newest"}], "temperature": 0.25},
                    {"name": "biased", "temperature": 0.25, "lam": 2},
                ]
            },
        )
    )
    for outcome in chain(chosen):
        one, usual, cold, composed, more = (outcome.samples.arm(r) for r in range(5))
        assert torch.equal(one, usual)
        assert torch.equal(cold, composed)
        assert not torch.equal(cold, one)
        assert (len(cold), len(more)) == (40, 80)
    first = chain(chosen, 0)[0]
    centre = first.state["mean"][0]
    torch.testing.assert_close(first.samples.arm(2) - centre, 0.5 * (first.samples.arm(0) - centre))


def test_generation_0_is_shared_by_stacks_of_one_temperature_alone(tmp_path: Path) -> None:
    """Arms of a table train one by one, and those whose fits are the same need not draw the same samples."""
    plan = experiment(
        data={"name": "categorical", "n": 40},
        generator="categorical",
        grid={"mixing": [{"name": "biased", "temperature": tau} for tau in (1.0, 0.5)] + [{"name": "augment"}]},
        metrics=["heterozygosity_ratio"],
    )
    groups = stacks(arms(plan))
    assert list(map(len, groups)) == [1, 1, 1]
    assert first_alike(groups) == [0, 1, 0]
    list(run(plan, tmp_path / "run"))
    there = Run.open(tmp_path / "run")
    one, cold, usual = (there.stack_samples(0, s).x for s in range(3))
    assert torch.equal(one, usual)
    for s, x in enumerate((one, cold)):
        assert torch.equal(x, chain(groups[s], 0)[0].samples.x)
    assert not torch.equal(one, cold)


class Cooling(Regime):
    """All real rows and the newest samples, which are colder from generation to generation."""

    start: float = 1.0

    def sampling_temperature(self, t: int) -> float:
        return self.start * 0.25**t

    def __call__(self, t: int, pool: Pool) -> Samples:
        return Samples.union([pool.real, pool.generated(t - 1)]) if t else pool.real


def test_a_regime_of_ones_own_says_how_warm_each_generation_is() -> None:
    outcomes = chain(arms(experiment(generator="gaussian", mixing=Cooling())))
    spread = [o.samples.x[0].double().var(0).mean() / o.state["covariance"][0].diagonal().mean() for o in outcomes]
    assert [float(s) for s in spread] == pytest.approx([1, 0.25, 0.0625], rel=0.5)
    for start in (0.0, -1.0):
        with pytest.raises(ConfigError, match=r"sampling_temperature\(0\) is .*: it must be a number above 0"):
            chain(arms(experiment(generator="gaussian", mixing=Cooling.model_construct(start=start))), 0)
    estimator = {"name": "estimator", "estimator": "GaussianMixture"}
    with pytest.raises(ConfigError, match=r"mixing asks for samples at temperature 0\.25, which generator estimator"):
        chain(arms(experiment(generator=estimator, mixing=Cooling(), metrics=["w2_held_out"])))


def test_records_count_real_and_synthetic_rows() -> None:
    records = chain(arms(experiment(grid={"mixing.lam": [0, 0.3, math.inf]})))[2].records
    assert [(r["n_real"], r["n_synthetic"]) for r in records] == [(40, 0), (40, 12), (0, 40)]
    assert [r["settings"]["mixing.lam"] for r in records] == [0.0, 0.3, "inf"]
    assert all(r["status"] == "ok" for r in records)


def test_lambda_above_one_draws_enough_and_measures_the_same_number() -> None:
    outcome = chain(arms(experiment(mixing={"lam": 2.5})))[1]
    assert outcome.samples.x.shape[1] == 100
    assert outcome.records[0]["n_synthetic"] == 100


def test_scratch_starts_afresh_with_new_weights() -> None:
    warm, scratch = (chain(arms(experiment(retrain=r, budget={"steps": 1})))[1].state for r in ("warm", "scratch"))
    step = 1e-3 * 1.01  # Adam's first step moves no weight further than the learning rate
    start = OTCFM(width=8).init((2,), Streams((0,), 1))
    moved = {k: float((scratch[k] - start[k]).abs().max()) for k in parameters(scratch)}
    assert max(moved.values()) <= step
    assert float((warm["net.2.weight"] - start["net.2.weight"]).abs().max()) > step
    assert scratch["optimizer.step"].tolist() == [1]
    assert warm["optimizer.step"].tolist() == [2]


def test_the_optimizer_is_carried_or_reset() -> None:
    carried, reset = (chain(arms(experiment(optimizer=o))) for o in ("carry", "reset"))
    assert carried[2].state["optimizer.step"].tolist() == [12]
    assert reset[2].state["optimizer.step"].tolist() == [4]
    assert torch.equal(carried[0].state["net.0.weight"], reset[0].state["net.0.weight"])
    assert not torch.equal(carried[1].state["net.0.weight"], reset[1].state["net.0.weight"])


def test_latents_are_fresh_or_common() -> None:
    """With budget spent and λ = 0 the model hardly moves: common latents then give nearly the same samples."""
    each = {
        kind: arms(experiment(latents=kind, mixing={"lam": 0}, budget={"steps": 1})) for kind in ("fresh", "common")
    }
    distance = {}
    for kind, members in each.items():
        outcomes = chain(members, 1)
        distance[kind] = float((outcomes[0].samples.x - outcomes[1].samples.x).abs().mean())
    assert distance["common"] < 0.05 < 0.5 < distance["fresh"]


def test_generation_0_may_have_a_budget_of_its_own() -> None:
    outcomes = chain(arms(experiment(pretrain={"steps": 9})), 1)
    assert [o.state["optimizer.step"].item() for o in outcomes] == [9, 13]


def test_an_average_of_the_weights_is_what_samples() -> None:
    plan = experiment(generator={"name": "otcfm", "width": 8, "batch_size": 16, "ema": {"decay": 0.9}})
    state = chain(arms(plan), 1)[1].state
    assert not torch.equal(state["ema.net.0.weight"], state["net.0.weight"])
    alone = {k.removeprefix("ema."): v for k, v in state.items() if k.startswith("ema.")}
    streams = Streams((0,), 1)
    assert torch.equal(plan.generator.sample(state, 7, streams), OTCFM(width=8).sample(alone, 7, streams))


def test_figure_9_distances() -> None:
    plan = experiment()
    outcomes = chain(arms(plan))
    start = plan.generator.init((2,), Streams((0,)))
    p = sum(v.numel() for v in parameters(start).values())
    for outcome in outcomes:
        for name, origin in (("parameter_distance", outcomes[0].state), ("parameter_distance_random", start)):
            here = parameters(outcome.state)
            square = sum(float((here[k].double() - origin[k].double()).square().sum()) for k in here)
            assert outcome.records[0]["metrics"][name] == pytest.approx(math.sqrt(square) / p, rel=1e-12)
    assert outcomes[0].records[0]["metrics"]["parameter_distance"] == 0


def test_a_diverged_arm_is_recorded_and_frozen_and_its_neighbours_go_on() -> None:
    members = arms(experiment(seeds=3))
    split = load(members)
    healthy = chain(members)
    sick = {k: v.clone() for k, v in healthy[0].state.items()}
    sick["net.2.weight"][1] = math.nan
    second = advance(members, split, 1, sick, lambda t: healthy[0].samples, healthy[0].state)
    assert [r["status"] for r in second.records] == ["ok", "diverged", "ok"]
    assert set(second.records[1]["metrics"].values()) == {None}
    assert second.samples.count.tolist() == [40, 0, 40]
    past = [healthy[0].samples, second.samples]
    third = advance(members, split, 2, second.state, past.__getitem__, healthy[0].state)
    assert [r["status"] for r in third.records] == ["ok", "diverged", "ok"]
    assert [r["arm"] for r in third.records] == [0, 1, 2]
    for r in (0, 2):
        assert third.records[r] == healthy[2].records[r]
        assert all(torch.equal(third.state[k][r], healthy[2].state[k][r]) for k in third.state)
    for k in third.state:
        assert torch.equal(third.state[k][1], second.state[k][1]) or torch.isnan(third.state[k][1]).any()


def test_a_loop_in_which_all_arms_have_diverged_still_ends() -> None:
    members = arms(experiment())
    outcomes = chain(members, 0)
    dead = Samples(x=outcomes[0].samples.x, born=outcomes[0].samples.born, count=torch.tensor([0]))
    outcome = advance(members, load(members), 1, outcomes[0].state, lambda t: dead, outcomes[0].state)
    assert outcome.records[0]["status"] == "diverged"


def test_training_sets_of_different_size_share_a_stack() -> None:
    parts = [Samples.full(torch.ones(1, n, 2), 0) for n in (3, 5)]
    stacked = stack(parts)
    assert stacked.count.tolist() == [3, 5]
    assert stacked.x[0, 3:].abs().sum() == 0


class Longer(Regime):
    """All real rows and all of the last model's samples, of which it wants as many more, counting ``weight``."""

    more: int = 0
    weight: float = 1.0

    def draws(self, t: int, n: int) -> int:
        return n + self.more

    def __call__(self, t: int, pool: Pool) -> Samples:
        return Samples.union([pool.real, pool.generated(t - 1)], [1.0, self.weight])


def test_arms_of_one_stack_may_draw_different_numbers_of_samples() -> None:
    grid = {"mixing.more": [0, 7, 30]}
    members = arms(experiment(mixing=Longer(), grid=grid, generator={"name": "otcfm", "width": 8, "batch_size": 16}))
    together = chain(members)
    assert [outcome.samples.count.tolist() for outcome in together] == [[40, 47, 70]] * 3
    for r, arm in enumerate(members):
        for t, alone in enumerate(chain([arm])):
            assert torch.equal(alone.samples.x[0], together[t].samples.arm(r))
            assert alone.records[0] == together[t].records[r]
    assert [record["born"] for record in together[2].records] == [{"0": 40, "2": n} for n in (40, 47, 70)]


class Recording(Gaussian):
    """Keeps in mind which arms were fitted together, and whether their rows were weighed."""

    seen: ClassVar[list[tuple[tuple[int, ...], bool]]] = []

    def fit(self, state: State, data: Samples, budget: Budget, streams: Streams, device: Device = HERE) -> State:
        self.seen.append((streams.seeds, data.weight is not None))
        return super().fit(state, data, budget, streams, device)


def test_arms_whose_rows_are_weighed_are_fitted_apart() -> None:
    Recording.seen.clear()
    plan = experiment(generator=Recording(), budget=None, mixing=Longer(), metrics=["mean_error"], seeds=[5])
    weights = [0.5, 1.0, 0.25]
    members = arms(plan.model_copy(update={"grid": {"mixing.weight": weights}}))
    together = chain(members, 1)
    assert Recording.seen == [((5,), False), ((5, 5), True), ((5,), False)]
    for r, arm in enumerate(members):
        alone = chain([arm], 1)[1]
        assert all(torch.equal(leaf[r], alone.state[name][0]) for name, leaf in together[1].state.items())
        assert alone.records[0] == together[1].records[r]


@pytest.mark.slow
def test_gaussian_collapse_follows_proposition_1() -> None:
    """E σ_t = α(n)^t σ_0 in one dimension (Lemma A.1): 2,000 chains, n = 10, within 4 standard errors.

    A false alarm has probability below 1e-3 over the five generations checked, were the seeds not fixed.
    """
    n, t_end, seeds = 10, 5, 2000
    plan = experiment(
        data={"name": "gaussian", "n": n, "dim": 1},
        generator={"name": "gaussian"},
        budget=None,
        mixing={"lam": math.inf},
        seeds=seeds,
        metrics=["sqrt_covariance_ratio"],
    )
    alpha = math.sqrt(2 / (n - 1)) * math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2))
    for t, outcome in enumerate(chain(arms(plan), t_end)):
        ratio = np.array([r["metrics"]["sqrt_covariance_ratio"] for r in outcome.records])
        error = ratio.std(ddof=1) / math.sqrt(seeds)
        assert abs(ratio.mean() - alpha**t) <= max(4 * error, 1e-12)


def test_gaussian_fit_is_equation_5() -> None:
    plan = experiment(generator={"name": "gaussian"}, budget=None, metrics=["mean_error"])
    outcome, split = chain(arms(plan), 0)[0], load(arms(plan))
    assert torch.allclose(outcome.state["mean"], split.train.mean(1), rtol=1e-14)
    assert torch.allclose(outcome.state["covariance"], covariance(split.train), rtol=1e-13)
