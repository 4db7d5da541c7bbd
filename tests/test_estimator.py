"""Estimators as generators: scikit-learn's and a user's own, from settings to runs that are resumed."""

from __future__ import annotations

import math
import types
from typing import Any

import numpy as np
import pytest
import torch
from helpers import snapshot
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity
from torch import nn

from selfloop import ConfigError, Experiment, Run, generators, run, stability
from selfloop.core import code
from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.generators import Estimator
from selfloop.learning.training import Budget
from selfloop.report import page

BUDGET = Budget(steps=1)
STREAMS = Streams((5, 6))


class Bootstrap:
    """The least there can be: rows drawn again, told what to draw by an argument of ``sample``."""

    def __init__(self, jitter: float = 0.0) -> None:
        self.jitter = jitter

    def fit(self, x: np.ndarray) -> None:
        self.x = x

    def sample(self, n: int, random_state: int) -> np.ndarray:
        rng = np.random.default_rng(random_state)
        rows = self.x[rng.integers(len(self.x), size=n)]
        return rows + self.jitter * rng.standard_normal(rows.shape)


class Unseeded:
    """What draws from NumPy's global generator, and is told nothing."""

    def fit(self, x: np.ndarray) -> None:
        self.x = x

    def sample(self, n: int) -> np.ndarray:
        return self.x[np.random.randint(len(self.x), size=n)]  # noqa: NPY002


class Fragile(Bootstrap):
    """A model that cannot be fitted to rows of which many are the same, as happens when a loop collapses."""

    def fit(self, x: np.ndarray) -> None:
        if len(np.unique(x)) < 0.9 * x.size:
            raise ValueError("too few different rows")
        super().fit(x)


def data(n: int = 300) -> Samples:
    return Samples.full(STREAMS.normal("rows", (n, 2), dtype=torch.float64), born=0)


def settings(**generator: Any) -> dict[str, Any]:
    return {
        "name": "estimator",
        "data": {"name": "two_moons", "n": 60, "held_out": 40},
        "generator": {"name": "estimator"} | generator,
        "generations": 3,
        "seeds": 2,
        "grid": {"mixing.lam": [0.5, "inf"]},
        "metrics": ["w2_held_out", "nll"],
    }


def test_log_prob_is_that_of_the_estimator_fitted_by_hand() -> None:
    given = data()
    model = Estimator(estimator="KernelDensity", arguments={"bandwidth": 0.3})
    state = model.fit(model.init((2,), STREAMS), given, BUDGET, STREAMS)
    points = STREAMS.normal("points", (50, 2), dtype=torch.float64)
    for r in range(2):
        expected = KernelDensity(bandwidth=0.3).fit(given.x[r].numpy()).score_samples(points[r].numpy())
        assert np.array_equal(model.log_prob(state, points)[r].numpy(), expected)


def test_samples_are_those_of_the_estimator_in_another_order() -> None:
    model = Estimator(estimator="GaussianMixture", arguments={"n_components": 2, "max_iter": 1000})
    given = data()
    given.x[:, ::2] += 8.0
    state = model.fit(model.init((2,), STREAMS), given, BUDGET, STREAMS)
    x = model.sample(state, 100, STREAMS)
    for r in range(2):
        by_hand = GaussianMixture(2, max_iter=1000, random_state=int(state["rows.seed"][r])).fit(given.x[r].numpy())
        by_hand.random_state = int(STREAMS.integers("estimator/sample", 2**32, ())[r])
        expected, component = by_hand.sample(100)
        assert {tuple(row) for row in x[r].tolist()} == {tuple(row) for row in expected.tolist()}
        assert (np.diff(component) >= 0).all()  # scikit-learn's order
    # Mixing takes the first rows. A half has fewer than 10 of 50 from a component with p < 1e-6.
    above = x.mean(2) > 4
    assert (above[:, :50].sum(1) >= 10).all()
    assert (above[:, 50:].sum(1) >= 10).all()


@pytest.mark.parametrize("estimator", generators.estimator.SKLEARN)
def test_numpys_global_randomness_is_left_alone(estimator: str) -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    arguments = {"max_iter": 1000} if "Mixture" in estimator else {}
    model = Estimator(estimator=estimator, arguments=arguments)
    state = model.fit(model.init((2,), STREAMS), data(), BUDGET, STREAMS)
    model.log_prob(state, model.sample(state, 10, STREAMS))
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        ({"estimator": "GausianMixture"}, "no estimator is called 'GausianMixture', did you mean 'GaussianMixture'?"),
        ({"estimator": "os.system"}, "no estimator is called 'os.system': there are GaussianMixture"),
        (
            {"estimator": "GaussianMixture", "arguments": {"n_component": 3}},
            "GaussianMixture has no argument 'n_component', did you mean 'n_components'?",
        ),
        (
            {"estimator": "GaussianMixture", "arguments": {"n_components": 0}},
            "The 'n_components' parameter of GaussianMixture must be an int",
        ),
        ({"estimator": "GaussianMixture", "arguments": {"random_state": 1}}, "random_state follows from"),
        ({"estimator": "KernelDensity", "arguments": {"kernel": "cosine"}}, "cannot sample from kernel 'cosine'"),
        ({}, "generator.estimator is missing"),
        ({"estimator": "KernelDensity", "bandwidth": 1.0}, "no setting is called 'generator.bandwidth'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_in_one_line(generator: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as caught:
        Experiment.build(settings(**generator))
    assert message in str(caught.value)


def test_a_metric_of_parameters_is_refused() -> None:
    plain = settings(estimator="KernelDensity") | {"metrics": ["parameter_distance"]}
    with pytest.raises(ConfigError, match="parameter_distance needs parameters, which generator estimator"):
        Experiment.build(plain)


def test_a_fit_that_fails_on_real_data_is_an_error_of_the_settings(tmp_path) -> None:
    experiment = Experiment.build(settings(estimator="GaussianMixture", arguments={"n_components": 61}))
    with pytest.raises(ConfigError, match="GaussianMixture: Expected n_samples >= n_components"):
        next(run(experiment, tmp_path / "run"))


def test_a_run_of_a_mixture_is_resumed_to_the_same_bits(tmp_path) -> None:
    experiment = Experiment.build(
        settings(
            estimator="GaussianMixture", arguments={"n_components": 3, "max_iter": 1000, "covariance_type": "diag"}
        )
    )
    assert len(list(run(experiment, tmp_path / "whole"))) == 4
    next(run(experiment, tmp_path / "parts"))
    assert len(list(run(experiment, tmp_path / "parts"))) == 3
    assert snapshot(tmp_path / "whole") == snapshot(tmp_path / "parts")
    records = Run.open(tmp_path / "whole").records()
    assert all(math.isfinite(record["metrics"]["nll"]) for record in records)


def test_an_object_of_the_users_runs_from_python_and_is_read_without_it(tmp_path, monkeypatch) -> None:
    model = Estimator.of(Bootstrap, jitter=0.1)
    plain = settings() | {"generator": model.model_dump(), "metrics": ["w2_held_out"]}
    experiment = Experiment.build(plain)
    assert len(list(run(experiment, tmp_path / "run"))) == 4
    for metric, what in (("nll", "log_prob"), ("parameter_distance", "parameters")):
        with pytest.raises(ConfigError, match=f"metric {metric} needs {what}, which generator estimator"):
            Experiment.build(plain | {"metrics": [metric]})
    monkeypatch.setattr(generators.estimator, "_MADE", {})
    opened = Run.open(tmp_path / "run")
    assert opened.experiment.generator == model
    assert len(opened.records()) == 16
    with pytest.raises(ConfigError, match="known only to a program that gives it to"):
        next(run(experiment, tmp_path / "unknown"))


def test_a_model_that_cannot_be_fitted_any_more_has_diverged(tmp_path) -> None:
    plain = settings() | {
        "generator": Estimator.of(Fragile).model_dump(),
        "grid": {"mixing.lam": [0, "inf"]},
        "seeds": 1,
    }
    experiment = Experiment.build(plain | {"metrics": ["w2_held_out"]})
    statuses = [[record["status"] for record in generation.records] for generation in run(experiment, tmp_path / "run")]
    assert statuses == [["ok", "ok"], ["ok", "diverged"], ["ok", "diverged"], ["ok", "diverged"]]


class Weary(nn.Module):
    """A model with a state that cannot be sampled, or fitted, a second time, whatever the rows."""

    def __init__(self, fails: str = "sample") -> None:
        super().__init__()
        self.fails, self.mean = fails, nn.Parameter(torch.zeros(2))
        self.register_buffer("fits", torch.zeros(1))

    def fit(self, x: torch.Tensor) -> None:
        if self.fits > 0 and self.fails == "fit":
            raise ValueError("tired\nof <rows>")
        self.mean.data = x.mean(0)
        self.fits += 1

    def sample(self, n: int) -> torch.Tensor:
        if self.fits > 1:
            raise RuntimeError("tired of samples")
        return self.mean + torch.randn(n, 2)


def test_what_a_model_raised_that_ended_its_arm_is_said(tmp_path) -> None:
    plain = settings() | {"generator": Estimator.of(Fragile).model_dump(), "metrics": ["w2_held_out"]}
    said: list[str] = []
    experiment = Experiment.build(plain | {"grid": {"mixing.lam": [0, "inf"]}, "seeds": 2})
    list(run(experiment, tmp_path / "run", notice=said.append))
    line = "2 arms ended at generation 1 as the model raised ValueError: too few different rows (test_estimator.py"
    opened = Run.open(tmp_path / "run")
    assert [each[: len(line)] for each in opened.failures()] == [line]
    assert "real rows alone" not in opened.failures()[0]
    assert opened.failures()[0] in said
    assert opened.failures()[0] in (tmp_path / "run" / "log.txt").read_text()
    assert f"{opened.failures()[0]}." in str(stability(opened))
    assert line in page.write_report(opened).read_text()


@pytest.mark.parametrize("fails", ["fit", "sample"])
def test_a_model_that_fails_on_real_rows_too_is_at_fault_itself(tmp_path, fails) -> None:
    plain = settings() | {"generator": Estimator.of(Weary, fails=fails).model_dump(), "metrics": ["w2_held_out"]}
    list(run(Experiment.build(plain | {"grid": {"mixing.lam": [0, 1]}, "seeds": 1}), tmp_path / "run"))
    (line,) = Run.open(tmp_path / "run").failures()
    what = {"fit": "ValueError: tired of <rows>", "sample": "RuntimeError: tired of samples"}[fails]
    assert line.startswith(f"2 arms ended at generation 1 as the model raised {what} (test_estimator.py, line ")
    assert line.endswith("it was so with real rows alone too, so that this tells of the model and not of the loop")


class OnceOnADevice(Bootstrap):
    """A model whose second fit asks a device for what it does not have, which a process does not survive."""

    fits = 0

    def fit(self, x: np.ndarray) -> None:
        type(self).fits += 1
        if self.fits > 1:
            raise RuntimeError("CUDA error: device-side assert triggered")
        super().fit(x)


def test_what_no_process_survives_is_the_models_error() -> None:
    model = Estimator.of(OnceOnADevice)
    first = model.fit(model.init((2,), Streams((5,))), data().select([0]), BUDGET, Streams((5,)))
    with pytest.raises(ConfigError, match=r"OnceOnADevice: RuntimeError: CUDA error: .* \(test_estimator.py, line"):
        model.sample(first, 5, Streams((5,), 1))


def test_an_object_that_is_told_nothing_follows_the_seeds_all_the_same() -> None:
    model = Estimator.of(Unseeded)
    state = model.fit(model.init((2,), STREAMS), data(), BUDGET, STREAMS)
    x, again, other = (model.sample(state, 50, streams) for streams in (STREAMS, STREAMS, STREAMS.at(1)))
    assert torch.equal(x, again)
    assert not torch.equal(x, other)


def test_an_estimator_of_vectors_refuses_images(tmp_path) -> None:
    plain = settings(estimator="KernelDensity") | {"data": {"name": "digit_images", "n": 60}, "metrics": ["mean_error"]}
    with pytest.raises(ConfigError, match="estimator makes vectors, and data digit_images holds images"):
        next(run(Experiment.build(plain), tmp_path / "run"))


def test_what_scikit_learn_offers_cannot_be_set() -> None:
    with pytest.raises(ConfigError, match="KernelDensity offers a density, and nothing else"):
        Experiment.build(settings(estimator="KernelDensity", has=["density", "parameters"]))


@pytest.fixture
def imported(monkeypatch):
    """What ``--import models.py`` would have imported."""
    module = types.ModuleType("models")
    exec(
        "import torch\n"
        "class Whole:\n"
        "    def __init__(self, scale=1.0): self.scale = scale\n"
        "    def fit(self, X): self.mean = torch.as_tensor(X).mean(0); return self\n"
        "    def sample(self, n): return self.mean + self.scale * torch.randn(n, len(self.mean))\n"
        "    def state_dict(self): return {'mean': self.mean} if hasattr(self, 'mean') else {}\n"
        "    def load_state_dict(self, state): self.mean = state['mean']\n"
        "class Half:\n"
        "    def fit(self, X): return self\n"
        "class Wide(Half):\n"
        "    def __init__(self, width): pass\n",
        module.__dict__,
    )
    monkeypatch.setattr(code, "_MODULES", [module])


@pytest.mark.usefixtures("imported")
def test_what_imported_models_have_is_found_out() -> None:
    assert Estimator(estimator="models:Whole").has == ("parameters",)
    assert Estimator(estimator="models:Whole", arguments={"scale": 2}).offers == {"parameters"}
    assert Estimator(estimator="models:Whole", has=("density",)).has == ("density",)


@pytest.mark.usefixtures("imported")
def test_imported_models_that_cannot_be_used_are_refused_before_anything_is_fitted(tmp_path) -> None:
    with pytest.raises(ConfigError, match="Half has no method sample: a model needs fit"):
        Experiment(**settings(estimator="models:Half"))
    with pytest.raises(ConfigError, match=r"no model can be made \(TypeError: .*'scales'"):
        Experiment(**settings(estimator="models:Whole", arguments={"scales": 2}))
    for name in ("Whole", "models.Whole"):
        with pytest.raises(ConfigError, match=f"no estimator is called '{name}', did you mean 'models:Whole'"):
            Experiment(**settings(estimator=name))
    with pytest.raises(ConfigError, match=r"^generator\.estimator models:Wide: it is made with width: give it in gene"):
        Experiment(**settings(estimator="models:Wide"))
    for name, words in (("models:Wohle", "models has no 'Wohle', did you mean 'Whole'"), ("model:Whole", "known only")):
        with pytest.raises(ConfigError, match=words):
            list(run(Experiment(**settings(estimator=name)), tmp_path / "run"))
    assert not (tmp_path / "run").exists()
