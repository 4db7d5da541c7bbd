"""Regression on rows whose labels the last model made: fits, x that stay real, and how errors grow."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from replaced_loops import agrees, fit, repeated, replaced, weighed
from scipy import stats
from sklearn.linear_model import LogisticRegression as Logistic
from sklearn.linear_model import Ridge
from sklearn.metrics import log_loss

from selfloop import ConfigError, Experiment
from selfloop.arms import arms
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.data import Diabetes
from selfloop.data import LinearRegression as LinearToy
from selfloop.data import LogisticRegression as LogisticToy
from selfloop.generators import LinearRegression, LogisticRegression, RandomFeatures
from selfloop.learning.training import Budget, parameters
from selfloop.loop import advance, load

pytestmark = pytest.mark.usefixtures("as_in_a_worker")

BOTH = pytest.mark.parametrize("generator", [LinearRegression(), LogisticRegression()], ids=lambda g: g.name)


def toy(n: int = 60, r: int = 1) -> torch.Tensor:
    return LinearToy(n=n, coefficients=[1.0, -2.0, 0.5], intercept=3.0).load(tuple(range(r))).train


def labelled(n: int = 200, r: int = 1) -> torch.Tensor:
    return LogisticToy(n=n, coefficients=[1.0, -0.5], intercept=0.3).load(tuple(range(r))).train


def weights(n: int) -> torch.Tensor:
    return Streams((2,)).uniform("w", (n,))[0].double()


# Linear


@pytest.mark.parametrize("intercept", [True, False])
def test_least_squares_are_numpys(intercept):
    x, weight = toy()[0], weights(60)
    found = fit(LinearRegression(intercept=intercept), weighed(x, weight))
    design = np.column_stack([x[:, :3], np.full(60, float(intercept))])
    root = np.sqrt(weight.numpy())
    solution = np.linalg.lstsq(root[:, None] * design, root * x[:, 3].numpy(), rcond=None)[0]
    np.testing.assert_allclose(found["coefficients"][0], solution[:3], rtol=1e-11)
    assert float(found["intercept"]) == pytest.approx(solution[3], rel=1e-11)
    residual = x[:, 3].numpy() - design @ solution
    assert float(found["noise"]) == pytest.approx(math.sqrt(np.average(residual**2, weights=weight)), rel=1e-11)


@pytest.mark.parametrize("intercept", [True, False])
def test_ridge_is_scikit_learns(intercept):
    """Whose penalty is that of the sum over rows, not of their mean."""
    x, weight = toy()[0], weights(60)
    found = fit(LinearRegression(intercept=intercept, penalty=0.3), weighed(x, weight))
    alpha = 0.3 * float(weight.sum())
    reference = Ridge(alpha=alpha, fit_intercept=intercept).fit(x[:, :3], x[:, 3], sample_weight=weight.numpy())
    np.testing.assert_allclose(found["coefficients"][0], reference.coef_, rtol=1e-9)
    assert float(found["intercept"]) == pytest.approx(float(reference.intercept_), rel=1e-9, abs=1e-12)


def test_too_few_rows_have_the_solution_of_least_norm():
    x = Streams((3,)).normal("x", (5, 13), dtype=torch.float64)
    found = fit(LinearRegression(intercept=False), Samples.full(x, 0))
    np.testing.assert_allclose(
        found["coefficients"][0], np.linalg.pinv(x[0, :, :12].numpy()) @ x[0, :, 12].numpy(), rtol=1e-10
    )
    assert float(found["noise"]) < 1e-12


@BOTH
def test_whole_weights_are_repeated_rows(generator):
    x = labelled()[0]
    times = Streams((7,)).integers("weights", 4, (len(x),))[0].double()
    found, again = (fit(generator, data) for data in (weighed(x, times), repeated(x, times)))
    for name in ("coefficients", "intercept"):
        torch.testing.assert_close(found[name], again[name], rtol=1e-4, atol=1e-6)


def test_the_likelihood_is_that_of_y_given_x():
    x = toy()
    state = fit(LinearRegression(), Samples.full(x, 0))
    mean = x[0, :, :3].numpy() @ state["coefficients"][0].numpy() + float(state["intercept"])
    expected = stats.norm(mean, float(state["noise"])).logpdf(x[0, :, 3])
    np.testing.assert_allclose(LinearRegression().log_prob(state, x)[0], expected, rtol=1e-12)


@pytest.mark.parametrize("target", [0, 1, 3, -1, -4])
def test_the_target_may_be_any_column(target):
    x = toy()
    order = [0, 1, 2]
    order.insert(target % 4, 3)
    moved = x[..., order]
    usual, other = LinearRegression(), LinearRegression(target=target)
    a, b = fit(usual, Samples.full(x, 0)), fit(other, Samples.full(moved, 0))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert torch.equal(usual.sample(a, 9, Streams((1,)))[..., order], other.sample(b, 9, Streams((1,))))
    assert torch.equal(usual.log_prob(a, x), other.log_prob(b, moved))


def test_samples_have_the_noise_that_is_set_or_fitted():
    x = toy(500)
    for generator, noise in ((LinearRegression(noise=0.25), 0.25), (LinearRegression(), None)):
        state = fit(generator, Samples.full(x, 0))
        residual = generator.residual(state, generator.sample(state, 20_000, Streams((1,))))
        agrees(residual.flatten().square(), (float(state["noise"]) if noise is None else noise) ** 2)


@pytest.mark.slow
def test_the_error_of_replaced_labels_grows_by_the_same_each_time():
    """With the x that there are it is t σ² tr (XᵀX)⁻¹ after t fits (Gerstgrasser et al. 2024)."""
    d, n, t, r = 3, 20, 4, 1000
    toy = LinearToy(n=n, coefficients=[1.0] * d)
    x = toy.load((0,)).train[0, :, :d].expand(r, n, d)
    y = x.sum(2, keepdim=True) + Streams(tuple(range(r))).normal("noise", (n, 1), dtype=torch.float64)
    *_, last = replaced(LinearRegression(noise=1.0, intercept=False), torch.cat([x, y], 2), t - 1)
    error = (last["coefficients"] - 1).square().sum(1)
    agrees(error, t * float(torch.linalg.inv(x[0].T @ x[0]).trace()))


@pytest.mark.slow
def test_with_new_normal_x_it_is_that_of_a_wishart_matrix():
    """t σ² d / (T − d − 1)."""
    d, n, t, r = 3, 20, 4, 1000
    x = LinearToy(n=n, coefficients=[1.0] * d).load(tuple(range(r))).train
    *_, last = replaced(LinearRegression(noise=1.0, intercept=False, inputs="normal"), x, t - 1)
    agrees((last["coefficients"] - 1).square().sum(1), t * d / (n - d - 1))


# Logistic


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("penalty", [0.0, 0.05])
def test_the_fit_is_where_the_gradient_vanishes(intercept, penalty):
    x, weight = labelled()[0], weights(200)
    generator = LogisticRegression(intercept=intercept, penalty=penalty, tolerance=1e-9)
    state = fit(generator, weighed(x, weight))
    residual = generator.residual(state, x[None])[0] * weight / weight.sum()
    gradient = residual @ x[:, :2] - 2 * penalty * state["coefficients"][0]
    assert gradient.abs().max() < 1e-6
    assert (abs(float(residual.sum())) < 1e-6) == intercept
    assert (float(state["intercept"]) != 0) == intercept


def test_test_loss_and_accuracy_are_those_of_scikit_learn():
    """Of Dey & Donoho 2024 (arXiv:2410.22812) on diabetes: 0.42846 and 0.8045 after the first fit."""
    split = Diabetes(threshold=100, random_state=123456).load((0,))
    generator = LogisticRegression()
    state = fit(generator, Samples.full(split.train, 0))
    train, test = split.train[0].numpy(), split.held_out[0].numpy()
    reference = Logistic(C=math.inf, max_iter=10_000).fit(train[:, :-1], train[:, -1])
    loss, accuracy = -generator.log_prob(state, split.held_out).mean(), generator.correct(state, split.held_out)
    assert float(loss) == pytest.approx(log_loss(test[:, -1], reference.predict_proba(test[:, :-1])), rel=1e-6)
    assert float(loss) == pytest.approx(0.42846, abs=5e-6)
    assert float(accuracy.double().mean()) == pytest.approx(0.8045, abs=5e-5)


def test_classes_may_be_any_two_numbers():
    x = labelled()
    other = x.clone()
    other[..., 2] = 10 * x[..., 2] - 3
    a, b = (fit(LogisticRegression(), Samples.full(rows, 0)) for rows in (x, other))
    assert torch.equal(a["coefficients"], b["coefficients"])
    drawn = LogisticRegression().sample(b, 300, Streams((1,)))
    assert set(drawn[..., 2].flatten().tolist()) == {-3, 7}
    assert torch.equal(LogisticRegression().log_prob(a, x), LogisticRegression().log_prob(b, other))
    torch.testing.assert_close(LogisticRegression().residual(b, other), 10 * LogisticRegression().residual(a, x))


def test_classes_are_drawn_as_probably_as_they_are():
    x = labelled(400)
    generator = LogisticRegression(inputs="redrawn")
    state = fit(generator, Samples.full(x, 0))
    drawn = generator.sample(state, 50_000, Streams((1,)))
    residual = generator.residual(state, drawn).flatten()
    agrees(residual, 0)
    agrees(residual * drawn[0, :, 0], 0)


def test_a_single_class_is_made_from_then_on():
    x = labelled()
    x[..., 2] = 1.0
    generator = LogisticRegression()
    state = fit(generator, Samples.full(x, 0))
    assert torch.equal(generator.sample(state, 20, Streams((1,)))[..., 2], torch.ones(1, 20, dtype=torch.float64))
    assert torch.equal(generator.log_prob(state, x), torch.zeros(1, 200, dtype=torch.float64))
    x[:, 0, 2] = 0.0
    assert float(generator.log_prob(state, x)[0, 0]) == -math.inf
    assert generator.correct(state, x).double().mean() == pytest.approx(199 / 200)


def test_classes_that_can_be_separated_have_a_finite_fit():
    x = labelled()
    x[..., 2] = (x[..., 0] > 0).double()
    state = fit(LogisticRegression(), Samples.full(x, 0))
    assert torch.isfinite(state["coefficients"]).all()
    assert LogisticRegression().correct(state, x).all()


def test_more_than_two_classes_are_a_divergence():
    x = labelled()
    x[0, 0, 2] = 2.0
    assert fit(LogisticRegression(), Samples.full(x, 1))["coefficients"].isnan().all()
    with pytest.raises(ValueError, match="tells two classes apart, and column -1 has 3 values"):
        LogisticRegression().refuse(x[0])


# x


@BOTH
def test_x_are_the_real_ones_in_their_order(generator):
    x = labelled(10, 3)
    state = fit(generator, Samples.full(x, 0))
    drawn = generator.sample(state, 25, Streams((0, 1, 2)))
    assert torch.equal(drawn[..., :2], torch.cat([x, x, x[:, :5]], 1)[..., :2])
    short = generator.sample(state, 4, Streams((0, 1, 2)))
    assert torch.equal(short[..., :2], x[:, :4, :2])


@BOTH
def test_x_stay_real_whatever_is_trained_on(generator):
    x = labelled(40)
    first = fit(generator, Samples.full(x, 0))
    made = generator.sample(first, 40, Streams((1,)))
    moved = Samples.full(torch.cat([made[..., :2] + 1, made[..., 2:]], 2), 1)
    for data in (moved, Samples.union([Samples.full(x, 0), moved]), Samples.union([moved, Samples.full(x, 0)])):
        assert torch.equal(fit(generator, data, first, 1)["rows.x"], x[..., :2])
    scratch = fit(generator, moved)
    assert torch.equal(scratch["rows.x"], moved.x[..., :2])
    newer = labelled(30) + 0.5
    newer[..., 2] -= 0.5
    assert torch.equal(fit(generator, Samples.full(newer, 0), first, 1)["rows.x"], newer[..., :2])


def test_x_may_be_redrawn_or_normal():
    x = labelled(40)
    for inputs in ("redrawn", "normal"):
        generator = LinearRegression(inputs=inputs)
        state = fit(generator, Samples.full(x, 0))
        drawn = generator.sample(state, 4000, Streams((1,)))[0, :, :2]
        if inputs == "redrawn":
            found, times = torch.unique(drawn, dim=0, return_counts=True)
            assert torch.equal(found, torch.unique(x[0, :, :2], dim=0))
            assert stats.chisquare(times.numpy()).pvalue > 1e-6
        else:
            assert stats.kstest(drawn.flatten().numpy(), "norm").pvalue > 1e-6


def test_an_unpenalised_likelihood_over_real_x_is_an_exponential_family():
    assert "exponential" in LinearRegression().offers
    assert "exponential" in LogisticRegression().offers
    assert "exponential" not in LinearRegression(penalty=0.1).offers
    assert "exponential" not in LinearRegression(inputs="normal").offers
    assert "classes" not in LinearRegression().offers


@pytest.mark.parametrize("settings", [{"penalty": -1.0}, {"noise": -1.0}, {"inputs": "new"}, {"target": "y"}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValidationError):
        LinearRegression(**settings)


# Random features


def features_of(state: State, x: torch.Tensor) -> np.ndarray:
    u, c = state["buffers.weights"][0].numpy(), state["buffers.biases"][0].numpy()
    return np.maximum(x.numpy() @ u + c, 0) / math.sqrt(len(c))


@pytest.mark.parametrize("p", [10, 200])
def test_random_features_are_fitted_with_least_norm(p):
    """Fewer than the 60 rows, and more: those are met exactly, by NumPy's pseudoinverse."""
    x = toy()[0]
    generator = RandomFeatures(features=p, intercept=False)
    found = fit(generator, Samples.full(x[None], 0))
    phi, y = features_of(found, x[:, :3]), x[:, 3].numpy()
    wanted = np.linalg.pinv(phi, rcond=1e-12) @ y
    np.testing.assert_allclose(found["coefficients"][0], wanted, rtol=1e-6, atol=1e-6)
    residual = generator.residual(found, x[None])[0].numpy()
    np.testing.assert_allclose(residual, y - phi @ wanted, atol=1e-7)
    assert float(found["noise"]) == pytest.approx(math.sqrt(np.mean(residual**2)), abs=1e-7)
    assert (np.abs(residual).max() < 1e-7) == (p == 200)
    if p == 200:
        drawn = generator.sample(found, 60, Streams((0,)))
        torch.testing.assert_close(drawn[0], x, rtol=1e-6, atol=1e-6)


def test_the_hidden_layer_is_the_arms_own_and_is_never_trained():
    generator, streams, x = RandomFeatures(features=20), Streams((0, 1)), toy(r=2)
    state = generator.init((4,), streams)
    once = generator.fit(state, Samples.full(x, 0), Budget(steps=1), streams)
    twice = generator.fit(once, Samples.full(x + 1, 1), Budget(steps=1), streams.at(1))
    for name in ("buffers.weights", "buffers.biases"):
        assert torch.equal(state[name], twice[name])
        assert not torch.equal(state[name][0], state[name][1])
    assert not torch.equal(once["coefficients"], twice["coefficients"])
    assert sorted(parameters(twice)) == ["coefficients", "intercept", "noise"]


def test_replaced_labels_of_interpolating_features_stay_as_they_are():
    """Without noise a model that meets its rows makes the same labels again, and a loop of it stands still."""
    plan = Experiment.build(
        {
            "name": "features",
            "data": {"name": "linear_regression", "n": 20, "coefficients": [1.0, -1.0]},
            "generator": {"name": "random_features", "features": 300},
            "mixing": {"lam": "inf"},
            "generations": 3,
            "metrics": ["prediction_error_held_out"],
        }
    )
    with pytest.raises(ConfigError, match="metric coefficient_error needs a linear predictor of one column"):
        plan.override("metrics=[coefficient_error]")
    members, outcomes = arms(plan), []
    split = load(members)
    for t in range(4):
        state, first = (outcomes[-1].state, outcomes[0].state) if outcomes else (None, None)
        outcomes.append(advance(members, split, t, state, lambda g: outcomes[g].samples, first))
    errors = [outcome.records[0]["metrics"]["prediction_error_held_out"] for outcome in outcomes]
    assert errors == pytest.approx([errors[0]] * 4, rel=1e-6)
