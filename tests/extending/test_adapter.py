"""What may stand behind Estimator.of, what a model is told and handed, and what is refused in one line."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from selfloop import ConfigError, Streams
from selfloop.core.samples import Samples
from selfloop.core.seeding import seeded
from selfloop.generators import Estimator
from selfloop.generators.estimator import _MADE
from selfloop.learning.training import Budget, State, parameters
from selfloop.metrics import parameter_distance

STREAMS = Streams((5,))
BUDGET = Budget(steps=1)


def fitted(generator: Estimator, t: int = 0, state: State | None = None, event: tuple[int, ...] = (2,)) -> State:
    """Return the state after a fit to 30 rows in generation t."""
    x = STREAMS.normal("rows", (30, *event), dtype=torch.float64)
    x = (127 + 50 * x).clamp(0, 255).to(torch.uint8) if len(event) == 3 else x
    state = generator.init(event, STREAMS) if state is None else state
    return generator.fit(state, Samples.full(x, born=0), BUDGET, STREAMS.at(t))


def drawn(generator: Estimator, n: int = 5, **settings: Any) -> Tensor:
    return generator.sample(fitted(generator, **settings), n, STREAMS)


class Rows:
    """No state: rows with noise."""

    def __init__(self, width: float = 0.1) -> None:
        self.width = width

    def fit(self, x: Any) -> None:
        self.x = x

    def sample(self, n: int) -> Any:
        return self.x[:n] + self.width * np.random.standard_normal((n, *self.x.shape[1:]))  # noqa: NPY002


class Mean(nn.Module):
    """A state: a mean that moves half of the way to that of the rows."""

    def __init__(self, shape: tuple[int, ...] | int = 2) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.randn(shape))
        self.register_buffer("fits", torch.tensor(0))

    def fit(self, x: Tensor) -> None:
        assert torch.is_grad_enabled()
        with torch.no_grad():
            self.mean += (x.float().mean(0) - self.mean) / 2
        self.fits += 1

    def sample(self, n: int) -> Any:
        assert not torch.is_grad_enabled()
        return self.mean + torch.randn(n, *self.mean.shape)


class Lists:
    """A state without a module, of a tensor that must be told to need its gradient."""

    def __init__(self) -> None:
        self.w = torch.zeros(2, requires_grad=True)

    def state_dict(self) -> dict[str, Tensor]:
        return {"w": self.w}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.w = state["w"]

    def fit(self, x: Tensor) -> None:
        (x - self.w).square().mean().backward()
        with torch.no_grad():
            self.w -= 0.5 * self.w.grad

    def sample(self, n: int) -> np.ndarray:
        return np.tile(self.w.detach().numpy(), (n, 1))


class Outer:
    """A class with another inside."""

    class Inner(Rows):
        """Which is the model."""


def make_mean(shape: int = 2) -> Mean:
    return Mean(shape)


def test_the_state_of_a_module_goes_on_and_nothing_else_is_kept() -> None:
    generator = Estimator.of(Mean)
    assert generator.has == ("parameters",)
    start = generator.init((2,), STREAMS)
    once = fitted(generator, 0, start)
    twice = fitted(generator, 1, once)
    target = STREAMS.normal("rows", (30, 2), dtype=torch.float64)[0].float().mean(0)
    assert torch.allclose(once["model.mean"][0] - target, (start["model.mean"][0] - target) / 2, atol=1e-6)
    assert torch.allclose(twice["model.mean"][0] - target, (start["model.mean"][0] - target) / 4, atol=1e-6)
    assert twice["buffers.model.fits"].tolist() == [2]
    assert list(parameters(twice)) == ["model.mean"]


def test_an_object_with_a_state_of_its_own_is_trained_by_gradients() -> None:
    generator = Estimator.of(Lists)
    start = generator.init((2,), STREAMS)
    before = start["model.w"].clone()
    once = fitted(generator, 0, start)
    twice = fitted(generator, 1, once)
    assert torch.equal(start["model.w"], before)
    assert not torch.equal(once["model.w"], twice["model.w"])
    assert torch.equal(generator.sample(once, 1, STREAMS)[0, 0], once["model.w"][0].double())


def test_what_a_model_is_handed() -> None:
    seen = []

    class Vectors(Rows):
        def fit(self, x: Any) -> None:
            seen.append(x)
            self.x = np.asarray(x)

    class Tensors(Mean):
        def fit(self, x: Tensor) -> None:
            seen.append(x)

    drawn(Estimator.of(Vectors))
    drawn(Estimator.of(Tensors))
    assert seen[0].dtype == np.float64
    assert (seen[-1].dtype, seen[-1].device.type, seen[-1].shape) == (torch.float32, "cpu", (30, 2))


def test_a_model_is_told_what_to_draw_by_the_names_it_takes() -> None:
    told = []

    class Told(Mean):
        def fit(self, x: Tensor, seed: int = 0) -> None:
            told.append(seed)

        def sample(self, n: int, *, generator: torch.Generator | None = None, random_state: int = 0) -> Tensor:
            told.append(random_state)
            return torch.randn(n, 2, generator=generator)

    generator = Estimator.of(Told)
    assert torch.equal(drawn(generator), drawn(generator))
    seeds = [int(STREAMS.integers(f"estimator/{purpose}", 2**32, ())) for purpose in ("fit", "sample")]
    assert told == seeds * 2


def test_layers_may_be_made_by_the_fit() -> None:
    class Lazy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.LazyLinear(2)

        def fit(self, x: Tensor) -> None:
            self.net(x)

        def sample(self, n: int) -> Tensor:
            return self.net(torch.randn(n, 2))

    class Late(Lists):
        def __init__(self) -> None:
            self.w = None

        def state_dict(self) -> dict[str, Tensor]:
            return {} if self.w is None else {"w": self.w}

        def fit(self, x: Tensor) -> None:
            self.w = x.mean(0)

    for cls in (Lazy, Late):
        generator = Estimator.of(cls)
        assert generator.has == ("parameters",)
        start = generator.init((2,), STREAMS)
        assert parameters(start) == {}
        once = fitted(generator, 0, start)
        assert generator.sample(once, 4, STREAMS).shape == (1, 4, 2)
        assert parameter_distance(once, start).isnan().all()
        assert parameter_distance(fitted(generator, 1, once), once).isfinite().all()


@pytest.mark.parametrize(
    ("given", "arguments", "name", "recorded"),
    [
        (Rows, {"width": 0.2}, "Rows", {"width": 0.2}),
        (Outer.Inner, {}, "Outer.Inner", {}),
        (make_mean, {"shape": 2}, "make_mean", {"shape": 2}),
        (functools.partial(make_mean, shape=2), {}, "make_mean", {"shape": 2}),
        (functools.partial(functools.partial(Rows, width=0.5), width=0.4), {}, "Rows", {"width": 0.4}),
        (Rows(0.3), {}, "Rows()", {}),
        (lambda: Rows(), {}, "<lambda>", {}),
    ],
)
def test_what_makes_models_and_how_it_is_recorded(
    given: Any, arguments: dict[str, Any], name: str, recorded: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfloop.generators.estimator._MADE", {})
    generator = Estimator.of(given, **arguments)
    assert generator.estimator == f"{__name__}:{name}"
    assert generator.arguments == recorded
    assert Estimator.model_validate(generator.model_dump()) == generator
    assert drawn(generator).shape == (1, 5, 2)
    assert Estimator.of(given, **arguments) == generator


def test_a_prototype_is_copied_as_it_was_given() -> None:
    prototype = Mean()
    generator = Estimator.of(prototype)
    mean = prototype.mean.detach().clone()
    with torch.no_grad():
        prototype.mean += 1
    assert torch.equal(generator.init((2,), STREAMS)["model.mean"][0], mean)
    with pytest.raises(ConfigError, match="stands for another object in this process already: give its class"):
        Estimator.of(Mean())


def test_one_name_means_one_thing_unless_its_definition_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def local() -> Any:
        class Local(Rows):
            pass

        return Local

    Estimator.of(local())
    with pytest.raises(ConfigError, match="Local stands for another object in this process already"):
        Estimator.of(local())
    old = Outer.Inner
    Estimator.of(old)
    new = type("Inner", (Rows,), {"__qualname__": "Outer.Inner", "__module__": __name__})
    monkeypatch.setattr(Outer, "Inner", new)
    generator = Estimator.of(new)
    assert _MADE[generator.estimator] is new
    with pytest.raises(ConfigError, match="stands for another object"):
        Estimator.of(old)
    monkeypatch.delitem(_MADE, generator.estimator)


class NoFit:
    sample = Rows.sample


class NoSample:
    fit = Rows.fit


class Epochs(Rows):
    def fit(self, x: Any, epochs: int) -> None:
        pass


class Wide(Rows):
    def __init__(self, width: int) -> None:
        self.width = width


class Noted(Mean):
    def state_dict(self, *args: Any, **more: Any) -> dict[str, Any]:
        return super().state_dict(*args, **more) | {"history": [1.0]}


@pytest.mark.parametrize(
    ("given", "arguments", "message"),
    [
        (NoFit, {}, "NoFit has no method fit: a model needs fit(X) and sample(n)"),
        (NoSample(), {}, "NoSample has no method sample"),
        (nn.Linear(2, 2), {}, "Linear has no method fit"),
        (Epochs, {}, "fit must be callable as fit(X): missing a required argument: 'epochs'"),
        (Noted, {}, "state_dict() has 'list' under 'history'"),
        (Rows, {"widht": 1.0}, "has no argument 'widht', did you mean 'width'?"),
        (Rows, {"width": np.float64(1.0)}, "argument width is"),
        (Rows, {"width": (1, 2)}, "no plain value as in YAML"),
        (functools.partial(Rows, 0.1), {}, "a partial's values must be given by keyword"),
        (functools.partial(Rows, width=torch.nn.ReLU()), {}, "argument width is"),
        (Rows(), {"width": 1.0}, "an object that was made already"),
        (Mean, {"shape": -1}, "no model can be made"),
        (Wide, {}, "Wide: it is made with width: give it in generator.arguments"),
        (type("Locked", (Rows,), {"__deepcopy__": lambda *_: 1 / 0})(), {}, "cannot be copied"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(given: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as caught:
        Estimator.of(given, **arguments)
    assert message in str(caught.value)


class Gives(Mean):
    """A model that samples what the test says."""

    what: Callable[[int], Any]

    def sample(self, n: int) -> Any:
        return type(self).what(n)


@pytest.mark.parametrize(
    ("what", "event", "message"),
    [
        (lambda n: torch.zeros(n + 1, 2), (2,), "sample(5) returned shape (6, 2), and not (5, 2)"),
        (lambda n: np.zeros((n, 2), complex), (2,), "sample returned complex numbers"),
        (lambda n: torch.zeros(n, 2, dtype=torch.complex64), (2,), "sample returned a tensor of torch.complex64"),
        (lambda n: np.full((n, 2), None), (2,), "sample returned objects: it must be"),
        (lambda n: [["a", "b"]] * n, (2,), "list of text: it must be an array or a tensor of real numbers"),
        (lambda n: [[1.0], [1.0, 2.0]], (2,), "a list that is no array"),
        (lambda n: None, (2,), "sample returned nothing (None)"),
        (lambda n: torch.zeros(n, 2).fill_(torch.nan), (2,), "not finite after the first fit"),
        (lambda n: torch.zeros(n, 1, 2, 2), (1, 2, 2), "images of float32: they must be uint8"),
        (lambda n: torch.zeros(n, 2)[n + 1], (2,), "index 6 is out of bounds"),
    ],
)
def test_samples_that_cannot_be_meant_are_refused_in_one_line(what: Any, event: tuple[int, ...], message: str) -> None:
    Gives.what = staticmethod(what)
    generator = Estimator.of(Gives, shape=list(event))
    with pytest.raises(ConfigError, match=r"^[^\n]*$") as caught:
        drawn(generator, event=event)
    assert message in str(caught.value)
    assert "test_adapter:Gives" in str(caught.value)
    if "index" in message:  # a mistake in the code, of which the user wants the place
        assert "IndexError" in str(caught.value)
        assert "(test_adapter.py, line " in str(caught.value)
        assert isinstance(caught.value.__cause__, IndexError)


@pytest.mark.parametrize("event", [(2,), (1, 2, 2)])
@pytest.mark.parametrize("base", [Rows, Mean])
def test_a_fit_that_fails_is_an_error_at_first_and_divergence_later(base: type, event: tuple[int, ...]) -> None:
    fails = False

    class Fails(base):  # type: ignore[misc]
        def fit(self, x: Any) -> None:
            super().fit(x)
            if fails:
                raise RuntimeError("it\nfails")

        def sample(self, n: int) -> Any:
            return torch.zeros(n, *event, dtype=torch.uint8 if len(event) == 3 else torch.float32)

    key = next((k for k in _MADE if k.endswith("Fails")), "")
    _MADE.pop(key, None)
    generator = Estimator.of(Fails, **({"shape": list(event)} if base is Mean else {}))
    once = fitted(generator, 0, event=event)
    assert generator.sample(once, 4, STREAMS).dtype == (torch.uint8 if len(event) == 3 else torch.float64)
    fails = True
    with pytest.raises(
        ConfigError, match=r"^generator\.estimator .*Fails: RuntimeError: it fails \(test_adapter\.py, line \d+\)$"
    ):
        fitted(generator, 0, event=event)
    lost = fitted(generator, 1, once, event)
    x = generator.sample(lost, 4, STREAMS)
    assert x.shape == (1, 4, *event)
    assert x.isnan().all()


def test_samples_that_are_not_finite_later_are_divergence_even_with_the_first_latents() -> None:
    Gives.what = staticmethod(lambda n: torch.full((n, 2), torch.nan))
    generator = Estimator.of(Gives)
    later = fitted(generator, 1, fitted(generator))
    assert generator.sample(later, 4, STREAMS.at(0)).isnan().all()


def test_weights_that_are_not_finite_after_the_first_fit_are_refused() -> None:
    class Explodes(Mean):
        def fit(self, x: Tensor) -> None:
            with torch.no_grad():
                self.mean *= torch.inf

    with pytest.raises(ConfigError, match="mean is not finite after the first fit"):
        fitted(Estimator.of(Explodes))


def test_memory_that_runs_out_is_not_divergence() -> None:
    class Hungry(Mean):
        def sample(self, n: int) -> Tensor:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    generator = Estimator.of(Hungry)
    with pytest.raises(ConfigError, match="allocate memory"):
        generator.sample(fitted(generator, 1), 3, STREAMS.at(1))


def test_a_state_of_other_shapes_is_refused_in_one_line() -> None:
    state = fitted(Estimator.of(Mean, shape=3), event=(3,))
    with pytest.raises(ConfigError, match=r"^[^\n]*load_state_dict does not take what state_dict gave[^\n]*$"):
        Estimator.of(Mean).sample(state, 4, STREAMS)


def test_a_density_of_another_shape_is_refused() -> None:
    class Dense(Mean):
        def log_prob(self, x: Tensor) -> Tensor:
            return x

    generator = Estimator.of(Dense)
    assert generator.has == ("density", "parameters")
    with pytest.raises(ConfigError, match=r"its log density has shape \(7, 2\), and not \(7,\)"):
        generator.log_prob(fitted(generator), torch.zeros(1, 7, 2, dtype=torch.float64))


def test_global_randomness_is_lent_and_given_back_also_after_an_error() -> None:
    def states() -> list[str]:
        numpys = np.random.get_state(legacy=False)  # noqa: NPY002
        return [str(s) for s in (torch.get_rng_state().tolist(), torch.initial_seed(), numpys, random.getstate())]

    torch.manual_seed(3)
    np.random.standard_normal()  # noqa: NPY002
    random.gauss(0, 1)
    before = states()

    def draws() -> tuple[float, float, float]:
        with seeded(7):
            return float(torch.randn(())), float(np.random.rand()), random.random()  # noqa: NPY002

    assert draws() == draws()
    with pytest.raises(ZeroDivisionError), seeded(1):
        torch.rand(1) / (1 // 0)
    assert states() == before
