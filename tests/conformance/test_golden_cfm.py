"""OT-CFM against torchcfm: the MLP, its flow, the optimal couplings and the conditional paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from selfloop.generators.otcfm import conditional_path
from selfloop.learning.nets.mlp import time_mlp
from selfloop.learning.samplers import Velocity, dopri5, euler
from selfloop.learning.transport.coupling import assignment, optimal_pairs, squared_distances

NETWORK = 1e-5  # of the largest output
DOPRI5 = 1e-3  # torchdiffeq steps past t = 1 and interpolates; SELU's kink costs both solvers accuracy


@pytest.fixture(scope="module")
def mlp(golden):
    return golden.record("torchcfm", "cfm_mlp")


@pytest.fixture(scope="module")
def ot(golden):
    return golden.record("torchcfm", "cfm_otcfm")


def network(mlp, dtype: torch.dtype = torch.float32) -> Velocity:
    assert mlp.config["activation"] == "SELU"
    assert mlp.config["time_varying"]
    params = {name: value.to(dtype) for name, value in mlp.parameters().items()}
    assert params["net.0.weight"].shape == (1, mlp.config["w"], mlp.config["dim"] + 1)
    return lambda x, t: time_mlp(params, x, t)


def until(velocity: Velocity, end: float) -> Velocity:
    """Return the field whose flow to t = 1 is the given field's flow to t = ``end``."""
    return lambda x, t: end * velocity(x, end * t)


def worst(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours.double() - theirs.double()).abs().max())


def test_network(mlp):
    velocity, x = network(mlp), mlp["in"].unsqueeze(0)
    assert worst(velocity(x[..., :-1], x[..., -1])[0], mlp["out"]) <= NETWORK * mlp["out"].abs().max()
    wrapped = velocity(mlp["x0"].unsqueeze(0), mlp["wrapped_t"])[0]
    assert worst(wrapped, mlp["wrapped_out"]) <= NETWORK * mlp["wrapped_out"].abs().max()


def matching(mlp, pattern: str) -> Iterator[tuple[str, str]]:
    """Yield the names of tensors that match, each with what the group caught; at least one."""
    found = [(key, m.group(1)) for key in mlp.tensors if (m := re.fullmatch(pattern, key))]
    assert found, f"no tensor is called {pattern}"
    return iter(found)


def test_dopri5(mlp):
    """Ours meets the exact flow at the recorded tolerance, and theirs at a tenth of it.

    At equal tolerance the two may differ by the sum of their errors, which on some 3 % of such networks passes 1e-3.
    """
    x0 = mlp["x0"].unsqueeze(0)
    for key, written in matching(mlp, r"dopri5_(\d+e-\d+)"):
        tolerance = float(written)
        assert worst(dopri5(network(mlp), x0, tolerance, tolerance)[0], mlp["exact_f64"]) <= DOPRI5
        assert worst(dopri5(network(mlp), x0, tolerance / 10, tolerance / 10)[0], mlp[key]) <= DOPRI5


def test_dopri5_converges_to_the_exact_flow(mlp):
    velocity, x0 = network(mlp, torch.float64), mlp["x0"].double().unsqueeze(0)
    errors = [worst(dopri5(velocity, x0, tol, tol)[0], mlp["exact_f64"]) for tol in (1e-5, 1e-7)]
    assert errors[1] <= min(1e-4, errors[0])


def test_dopri5_trajectory(mlp):
    x0 = mlp["x0"].unsqueeze(0)
    for key, points in matching(mlp, r"dopri5_traj(\d+)"):
        assert worst(mlp[key][0], mlp["x0"]) == 0
        for end, state in list(zip(np.linspace(0, 1, int(points)), mlp[key], strict=True))[1:]:
            assert worst(dopri5(until(network(mlp), float(end)), x0, 1e-6, 1e-6)[0], state) <= DOPRI5


def check_euler(mlp, key: str, steps: int) -> None:
    """The reference took ``steps`` steps: one more or one less is further off."""
    errors = [worst(euler(network(mlp), mlp["x0"].unsqueeze(0), n)[0], mlp[key]) for n in (steps - 1, steps, steps + 1)]
    assert errors[1] <= NETWORK * mlp[key].abs().max()
    assert errors[1] < min(errors[0], errors[2])


def test_euler(mlp):
    for key, steps in matching(mlp, r"euler_(\d+)"):
        check_euler(mlp, key, int(steps))


def test_euler_between_grid_points(mlp):
    for key, points in matching(mlp, r"euler_linspace_0_1_(\d+)"):
        check_euler(mlp, key, int(points) - 1)


def test_euler_trajectory(mlp):
    for key, steps in matching(mlp, r"euler_(\d+)_traj"):
        stride, rest = divmod(int(steps), len(mlp[key]) - 1)
        assert rest == 0
        for k, state in list(enumerate(mlp[key]))[1:]:
            velocity = until(network(mlp), k * stride / int(steps))
            ours = euler(velocity, mlp["x0"].unsqueeze(0), k * stride)[0]
            assert worst(ours, state) <= NETWORK * state.abs().max()


def total(cost: Tensor, columns: Tensor) -> float:
    return float(cost.double().gather(1, columns.unsqueeze(1)).sum())


def runner_up(cost: Tensor, columns: Tensor) -> float:
    """Return the least total of a permutation other than ``columns``: it does without one of its pairs."""
    forbidden = cost.double().repeat(len(cost), 1, 1)
    rows = torch.arange(len(cost))
    forbidden[rows, rows, columns] = cost.double().sum().abs() + 1
    return min(total(cost, other) for other in assignment(forbidden))


@pytest.mark.parametrize("costs", ["recorded", "computed"])
def test_optimal_plan(ot, costs):
    for key in ot.prefixes(".plan"):
        x0, x1, perm, plan = (ot[f"{key}.{name}"] for name in ("x0", "x1", "perm", "plan"))
        cost, rounding = ot[f"{key}.cost"].double(), 1e-9
        if costs == "computed":
            ours = squared_distances(x0.flatten(1), x1.flatten(1))
            assert worst(ours, cost) <= 1e-5 * cost.max()  # theirs is float32
            cost, rounding = ours, 1e-6
        columns, n = assignment(cost), len(cost)
        assert total(cost, columns) == pytest.approx(n * float((plan * cost).sum()), rel=1e-9)
        assert total(cost, columns) == pytest.approx(total(cost, perm), rel=1e-9)
        if costs == "recorded":
            assert total(cost, columns) / n == pytest.approx(ot.scalars[key]["ot_cost_mean"], rel=1e-6)
        if runner_up(cost, columns) > total(cost, columns) * (1 + rounding):
            assert torch.equal(columns, perm)


def test_pairs_are_drawn_from_the_plan_with_replacement(ot):
    for key in ot.prefixes(".plan"):
        i, j, perm, scalars = ot[f"{key}.i"], ot[f"{key}.j"], ot[f"{key}.perm"], ot.scalars[key]
        assert len(i) == scalars["n"]
        assert torch.equal(j, perm[i])
        assert len(i.unique()) == scalars["n_distinct_rows_drawn"]
        plan = ot[f"{key}.plan"].numpy().flatten()
        drawn = np.random.RandomState(scalars["np_seed"]).choice(len(plan), p=plan / plan.sum(), size=len(i))
        assert np.array_equal(np.stack(np.divmod(drawn, len(perm))), torch.stack([i, j]).numpy())


def check_paths(ot, key: str, points: str, sigma: float, pairs: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]):
    """``key``'s xt and ut are ours for the point sets named ``points``, paired by ``pairs``."""
    x0, x1 = (source.squeeze(0) for source in pairs(ot[f"{points}.x0"], ot[f"{points}.x1"]))
    t = ot[f"{key}.t"].view(-1, *[1] * (x0.ndim - 1))
    xt, ut = conditional_path(x0, x1, t, sigma, ot.tensors.get(f"{key}.eps"))
    assert worst(xt, ot[f"{key}.xt"]) <= NETWORK * xt.abs().max()
    assert worst(ut, ot[f"{key}.ut"]) <= NETWORK * ut.abs().max()


def test_conditional_paths(ot):
    for key in ot.prefixes(".i"):
        *kind, points = key.split("_")
        written = re.search(r"sigma=(\d+(?:\.\d+)?)", ot.meaning(f"{key}.xt"))
        assert not kind or written
        sigma = float(written[1]) if kind else ot.config["sigma"]
        i, j = ot[f"{key}.i"], ot[f"{key}.j"]

        def pairs(x0: Tensor, x1: Tensor, i: Tensor = i, j: Tensor = j) -> tuple[Tensor, Tensor]:
            source, target = optimal_pairs(x0.unsqueeze(0), x1.unsqueeze(0), i.unsqueeze(0))
            assert torch.equal(source[0], x0[i])
            assert torch.equal(target[0], x1[j])
            return source, target

        check_paths(ot, key, points, sigma, pairs)


def test_independent_paths(ot):
    independent = [key for key in ot.prefixes(".xt") if key not in ot.prefixes(".i")]
    assert independent
    for key in independent:
        check_paths(ot, key, key.split("_")[-1], ot.config["sigma"], lambda x0, x1: (x0, x1))
