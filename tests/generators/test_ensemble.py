"""Ensembles: who makes which row, who learns from it, and that nobody else notices."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import small, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from selfloop import ConfigError, Experiment, Run, Samples, run
from selfloop.core.samples import State, stack
from selfloop.core.streams import Streams
from selfloop.engines.device import HERE, Device
from selfloop.generators import Gaussian
from selfloop.generators.base import GENERATORS, Generator
from selfloop.generators.ensemble import Ensemble
from selfloop.learning import training
from selfloop.learning.training import FAILED, Budget
from selfloop.mixing import MIXINGS, Pool
from selfloop.mixing.base import training_set
from selfloop.theory.ensemble import ensemble

pytestmark = pytest.mark.usefixtures("as_in_a_worker")

BUDGET = Budget(steps=5)
OTCFM = {"name": "otcfm", "width": 8, "batch_size": 16, "solver": "euler", "solver_steps": 2}
OTHERS: dict[str, Any] = {"models": 3, "shares": [0.5, 0.25, 0.25], "learn_from": "others"}


def made(**settings: Any) -> Ensemble:
    found = GENERATORS.parse({"name": "ensemble", "of": "gaussian"} | settings)
    assert isinstance(found, Ensemble)
    return found


def mixed(generator: Ensemble, seeds: tuple[int, ...] = (3, 1), n: int = 40) -> Samples:
    """Training sets (R, n + 24 + 4 r): n real rows, and samples that the ensemble's models have made."""
    parts = []
    for r, seed in enumerate(seeds):
        draw = Streams((seed,)).normal
        real = Samples.full(draw("real", (n, 2), dtype=generator.dtype), born=0)
        newest = Samples.full(1 + draw("newest", (24 + 4 * r, 2), dtype=generator.dtype), born=1)
        newest = replace(newest, maker=generator.makers(24 + 4 * r).expand(newest.born.shape))
        parts.append(Samples.union([real, newest]))
    return stack(parts)


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=6).map(lambda parts: [part / sum(parts) for part in parts]),
    st.integers(1, 500),
)
@settings(max_examples=60, deadline=None)
def test_any_first_rows_keep_the_shares(shares: list[float], n: int) -> None:
    generator = made(models=len(shares), shares=shares)
    makers = generator.makers(n)
    assert len(makers) == n
    assert torch.equal(makers, generator.makers(2 * n)[:n])
    for m, share in enumerate(shares):
        count = (makers == m).cumsum(0).double()
        bound = 0.5 + len(shares) * share / 2
        assert ((count - share * torch.arange(1, n + 1)).abs() <= bound + 1e-9).all()


def test_equal_shares_take_turns() -> None:
    assert made(models=3).makers(7).tolist() == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("of", [Gaussian(), GENERATORS.parse(OTCFM)], ids=["gaussian", "otcfm"])
def test_an_ensemble_of_one_is_its_model(of: Generator) -> None:
    one, streams, data = Ensemble(of=of, models=1), Streams((3, 1)), mixed(made())
    data = replace(data, x=data.x.to(of.dtype))
    alone = of.fit(of.init((2,), streams), replace(data, maker=None), BUDGET, streams)
    together = one.fit(one.init((2,), streams), data, BUDGET, streams)
    assert alone.keys() == together.keys()
    assert all(torch.equal(alone[k], v if k == FAILED else v[:, 0]) for k, v in together.items())
    assert torch.equal(of.sample(alone, 9, streams), one.sample(together, 9, streams))
    if isinstance(of, Gaussian):
        assert torch.equal(of.log_prob(alone, data.x), one.log_prob(together, data.x))


def test_every_model_learns_from_the_others_rows_and_makes_its_own() -> None:
    generator, streams, of = made(**OTHERS), Streams((3, 1)), Gaussian()
    data = mixed(generator)
    state = generator.fit(generator.init((2,), streams), data, BUDGET, streams)
    x = generator.sample(state, 10, streams)
    makers = generator.makers(10)
    for m in range(3):
        for r in range(2):
            arm = data.select([r])
            assert arm.maker is not None
            own = arm.keep(arm.maker[0] != m)
            assert int((own.born > 0).sum()) < int((arm.born > 0).sum())
            alone = of.fit({}, replace(own, maker=None), BUDGET, streams)
            assert all(torch.equal(alone[k][0], state[k][r, m]) for k in alone)
            seed = streams.seeds[r] if m == 0 else f"{streams.seeds[r]}.{m}"
            assert torch.equal(x[r, makers == m], of.sample(alone, 10, Streams((seed,)))[0, makers == m])


def test_networks_draw_no_row_that_is_not_theirs() -> None:
    generator, streams, of = made(of=OTCFM, **OTHERS), Streams((3, 1)), GENERATORS.parse(OTCFM)
    state = generator.init((2,), streams)
    x, makers = generator.sample(state, 10, streams), generator.makers(10)
    first = {k: v if k == FAILED else v[:, 0] for k, v in state.items()}
    assert torch.equal(x[:, makers == 0], of.sample(first, 5, streams))


def test_kept_inputs_are_labelled_each_by_one_model() -> None:
    generator, streams = made(of="linear_regression", **OTHERS), Streams((3, 1))
    data = mixed(generator)
    state = generator.fit(generator.init((2,), streams), data, BUDGET, streams)
    state["coefficients"] += 1000 * torch.arange(3).view(1, 3, 1)  # whose row is whose cannot be missed
    x = generator.sample(state, 40, streams)
    assert torch.equal(x[:, :, 0], data.x[:, :40, 0])
    residual = x[:, :, 1] - x[:, :, 0] * state["coefficients"][:, generator.makers(40).long(), 0]
    assert residual.abs().max() < 9


def test_models_that_learn_from_all_by_closed_forms_are_one() -> None:
    generator, streams = made(models=3), Streams((3, 1))
    state = generator.fit(generator.init((2,), streams), mixed(generator), BUDGET, streams)
    assert all(torch.equal(leaf[:, 0], leaf[:, m]) for leaf in state.values() for m in (1, 2))
    x = generator.sample(state, 6, streams)
    assert len({tuple(row) for row in x[0].tolist()}) == 6  # and draw numbers of their own


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("of", ["gaussian", OTCFM], ids=["gaussian", "otcfm"])
def test_arms_do_not_see_their_neighbours(of: Any, weighed: bool) -> None:
    generator = made(of=of, **OTHERS)

    def data(seeds: tuple[int, ...]) -> Samples:
        found = mixed(generator, seeds)
        return found.weighed(1.0 + found.born) if weighed else found

    streams, both = Streams((3, 1)), data((3, 1))
    state = generator.fit(generator.init((2,), streams), both, BUDGET, streams)
    x = generator.sample(state, 11, streams)
    for r, seed in enumerate((3, 1)):
        alone, own = Streams((seed,)), both.select([r]).first(int(both.count[r]))
        fitted = generator.fit(generator.init((2,), alone), own, BUDGET, alone)
        assert all(torch.equal(fitted[k], state[k][[r]]) for k in state)
        assert torch.equal(generator.sample(fitted, 11, alone), x[[r]])


def test_the_density_is_the_mixture_of_the_models() -> None:
    generator, streams = made(**OTHERS), Streams((3,))
    state = generator.fit(generator.init((2,), streams), mixed(generator, (3,)), BUDGET, streams)
    grid = torch.cartesian_prod(*[torch.linspace(-9, 9, 181, dtype=torch.float64)] * 2)[None]
    density = generator.log_prob(state, grid).exp()
    assert float(density.sum()) * 0.1**2 == pytest.approx(1, abs=1e-9)
    parts = [Gaussian().log_prob({k: v[:, m] for k, v in state.items()}, grid).exp() for m in range(3)]
    assert torch.allclose(density, 0.5 * parts[0] + 0.25 * parts[1] + 0.25 * parts[2], rtol=1e-12)


def test_what_only_a_single_model_has_is_not_offered() -> None:
    assert made().offers == {"density", "parameters", "temperature"}
    assert made(of="vae").offers == {"parameters", "temperature"}
    assert made(of="kernel_density").offers == {"density", "temperature"}
    with pytest.raises(ConfigError, match="vae has no log_prob"):
        made(of="vae").log_prob({}, torch.zeros(1, 1, 2))
    with pytest.raises(ConfigError, match="metric accuracy_held_out needs classes that it tells apart"):
        small(
            generator={"name": "ensemble", "of": "linear_regression"},
            budget=None,
            grid={},
            metrics=["accuracy_held_out"],
        )


REGIMES: list[Any] = [
    {"name": "augment", "lam": 0.7},
    {"name": "replace", "n": {"power": 0.5}},
    "accumulate",
    "accumulate_subsample",
    {"name": "window", "generations": 2},
    {"name": "fresh", "k": 2, "weight": "golden"},
    {"name": "contaminated", "rate": 0.5},
    {"name": "verified", "verifier": {"name": "mode", "within": 4.0}},
    {"name": "curated", "reward": {"name": "distance", "to": [0.0, 0.0]}, "k": 3},
    {"name": "corrected", "target": {"name": "centre", "k": 2}, "strength": 0.5},
    {"name": "compose", "parts": [{"from": "earlier", "rows": 2, "weight": 0.4}, {"from": "real", "weight": 0.6}]},
]


@pytest.mark.parametrize("regime", REGIMES, ids=lambda each: each if isinstance(each, str) else each["name"])
def test_rows_keep_their_makers_whatever_a_regime_does_with_them(regime: Any) -> None:
    mixing, generator, n = MIXINGS.parse(regime), made(**OTHERS), 30

    def history(g: int) -> Samples:
        found = Samples.full(torch.randn(1, mixing.draws(g, n), 2, generator=torch.Generator().manual_seed(g)), g + 1)
        found.x[0, :, 1] = generator.makers(found.x.shape[1]) / 1024 + found.x[0, :, 1].round()
        return replace(found, maker=generator.makers(found.x.shape[1]).expand(found.born.shape))

    real = Samples.full(torch.zeros(1, n, 2), born=0)
    modes = torch.zeros(1, 2, dtype=torch.float64), 1.0
    found = training_set(mixing, Pool(3, real, Streams((0,), 3), history, lambda k: torch.zeros(k, 2), None, modes))
    assert found.maker is not None
    makers, synthetic = found.maker[0], found.born[0] > 0
    assert torch.equal(makers >= 0, synthetic)
    assert set(makers[synthetic].tolist()) == {0, 1, 2}
    if mixing.name != "corrected":  # type: ignore[attr-defined]
        written = (found.x[0, :, 1] - found.x[0, :, 1].round()) * 1024
        assert torch.equal(makers[synthetic].float(), written[synthetic])


def test_the_loop_knows_who_made_what_is_read_from_files(tmp_path: Path) -> None:
    settings = {"generator": {"name": "ensemble", "of": "gaussian"} | OTHERS, "budget": None, "grid": {}}
    experiment = small(mixing="accumulate", generations=3, keep_states="all", **settings)
    list(run(experiment, tmp_path / "run"))
    there = Run.open(tmp_path / "run")
    generator, x = made(**OTHERS), [there.samples(t, 0) for t in range(3)]
    assert x[0].shape == (64, 2)
    makers = generator.makers(64)
    real = there.split(0).train[0].to(torch.float64)
    for m in range(3):
        own = torch.cat([real, *(each[makers != m] for each in x)])
        assert torch.equal(there.state(3, 0)["mean"][0, m], own.sum(0) / len(own))


@pytest.mark.slow
@pytest.mark.usefixtures("shared_workers")
def test_it_ends_alike_however_it_is_run(tmp_path: Path) -> None:
    generator = {"name": "ensemble", "of": OTCFM} | OTHERS
    experiment = small(generator=generator, grid={"mixing": ["accumulate", {"name": "window", "generations": 2}]})
    list(run(experiment, tmp_path / "whole"))
    for _, generation in zip(range(2), run(experiment, tmp_path / "parts"), strict=False):
        assert generation.t < 2
    list(run(experiment, tmp_path / "parts", workers=2))
    assert snapshot(tmp_path / "parts") == snapshot(tmp_path / "whole")


def test_a_fit_under_way_goes_on_in_each_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = {"channels": 32, "multipliers": [1], "blocks": 1, "attention": [], "dropout": 0.0}
    of = {"name": "ddpm_images", "net": net, "batch_size": 4, "sample_batch": 8, "steps": 2}
    experiment = Experiment.build(
        {
            "name": "images",
            "data": {"name": "digit_images", "n": 12, "held_out": 8},
            "generator": {"name": "ensemble", "of": of, "models": 2},
            "generations": 1,
            "budget": {"steps": 4},
            "metrics": ["mean_error"],
        }
    )
    list(run(experiment, tmp_path / "whole"))
    step, taken = training._Fit.step, [0]

    def counted(self: Any, *arguments: Any) -> Tensor:
        taken[0] += 1
        if taken[0] == 7:  # in the second model's fit, of which two steps are kept
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(training._Fit, "step", counted)
    with pytest.raises(KeyboardInterrupt):
        list(run(experiment, tmp_path / "parts", save_every=0.0))
    assert sorted(path.name[-8:-4] for path in (tmp_path / "parts").glob(".fit-*"))
    list(run(experiment, tmp_path / "parts"))
    # The last step of a fit is not kept: of the first model it is taken again, of the second its third and fourth.
    assert taken[0] == 7 + (1 + 2) + 8
    assert not list((tmp_path / "parts").glob(".fit-*"))
    assert snapshot(tmp_path / "parts") == snapshot(tmp_path / "whole")


def test_a_model_without_rows_starves_its_arm(tmp_path: Path) -> None:
    class Selfish(MIXINGS["replace"]):  # type: ignore[misc]
        def __call__(self, t: int, pool: Pool) -> Samples:
            if t < 2:
                return super().__call__(t, pool)  # type: ignore[no-any-return]
            newest = pool.generated(t - 1)
            return newest.keep(newest.maker[0] == 0)  # type: ignore[index]

    generator = {"name": "ensemble", "of": "gaussian", "learn_from": "others"}
    experiment = small(generator=generator, budget=None, grid={}, mixing=Selfish(), generations=3)
    list(run(experiment, tmp_path / "run"))
    statuses = [record["status"] for record in Run.open(tmp_path / "run").records()]
    assert statuses == ["ok"] * 4 + ["starved"] * 4


def test_samples_of_unknown_origin_are_refused() -> None:
    generator, streams = made(**OTHERS), Streams((3, 1))
    state, data = generator.init((2,), streams), mixed(generator)
    with pytest.raises(ConfigError, match="does not say who made them") as refusal:
        generator.fit(state, replace(data, maker=None), BUDGET, streams)
    assert "\n" not in str(refusal.value)
    made(models=3).fit(state, replace(data, maker=None), BUDGET, streams)  # who learns from all need not know


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shares": [0.5, 0.4]}, "shares: they add up to 0.9, and must add up to 1"),
        ({"models": 3, "shares": [0.5, 0.5]}, "shares: there are 2 of them and 3 models"),
        ({"shares": [1.0, 0.0]}, "shares.1: must be greater than 0"),
        ({"shares": [1.5, -0.5]}, "shares.0: must be less than or equal to 1"),
        ({"models": 1, "learn_from": "others"}, "a single model has no others to learn from"),
        ({"of": {"name": "ensemble", "of": "gaussian"}}, "an ensemble is of models, not of ensembles"),
        ({"of": {"name": "gaussian", "width": 3}}, "width"),
        ({"learn_from": "itself"}, "learn_from"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        small(generator={"name": "ensemble", "of": "gaussian"} | settings, budget=None, grid={})
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.slow
@pytest.mark.parametrize("others", [True, False])
def test_its_errors_are_the_theorys(others: bool) -> None:
    """A fully synthetic loop of 1500 ensembles, by maximum likelihood: |z| < 4 of means and variances."""
    shares, n, arms = [0.5, 0.25, 0.25], 12, 1500
    of = {"name": "gaussian", "covariance": "mle"}
    generator = made(of=of, models=3, shares=shares, learn_from="others" if others else "all")
    start = Streams(tuple(range(arms)))
    data = Samples.full(start.normal("data", (n, 1), dtype=torch.float64), born=0)
    state: State = generator.init((1,), start)
    for t in range(4):
        state = generator.fit(state, data, BUDGET, start.at(t))
        data = Samples.full(generator.sample(state, n, start.at(t)), born=t + 1)
        data = replace(data, maker=generator.makers(n).expand(data.born.shape))
    known = ensemble(n, [6, 3, 3], 3, others=others, real=False)
    for m in range(3):
        for values, predicted in (
            (state["mean"][:, m, 0] ** 2, known.mean_square[3, m]),
            (state["covariance"][:, m, 0, 0], known.variance[3, m]),
        ):
            z = (float(values.mean()) - predicted) / (float(values.std()) / math.sqrt(arms))
            assert abs(z) < 4


def test_two_that_learn_from_each_other_are_two_loops_of_half_the_rows() -> None:
    known = ensemble(12, [6, 6], 9, others=True, real=False)
    assert np.allclose(known.variance[:, 0], known.variance[0, 0] * (1 - 1 / 6) ** np.arange(10), rtol=1e-12)
    alike = ensemble(12, [6, 6], 9, others=False, real=False)
    assert np.allclose(alike.variance[:, 0], (1 - 1 / 12) ** np.arange(1, 11), rtol=1e-12)


def test_fits_of_models_are_kept_in_files_of_their_own() -> None:
    device = Device(checkpoints=Path("/nowhere/.fit-0001-000"))
    paths = {device.after(2 * m).checkpoint(r)._path for m in range(3) for r in range(2)}  # type: ignore[union-attr]
    assert len(paths) == 6
    assert HERE.after(3).checkpoint(0) is None


def test_a_temperature_is_that_of_every_model() -> None:
    """Of Gaussians τ scales what is drawn about each model's own mean by √τ."""
    ensemble = made()
    state = {"mean": torch.zeros(1, 3, 2), "covariance": torch.eye(2).expand(1, 3, 2, 2)}
    state = {name: leaf.double() for name, leaf in state.items()}
    plain, warm = (ensemble.sample(state, 12, Streams((5,)), temperature=each) for each in (1.0, 4.0))
    torch.testing.assert_close(warm, 2 * plain)
