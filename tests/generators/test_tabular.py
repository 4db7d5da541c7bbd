"""Synthesisers of tables by other packages: what they are handed, what they give back, and whose random numbers."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from selfloop.core.errors import ConfigError
from selfloop.core.samples import Samples, category_numbers, numbered_categories
from selfloop.core.streams import Streams
from selfloop.generators.estimator import Estimator
from selfloop.learning.training import Budget

CATEGORIES = (range(2, 3), range(3, 6))
STREAMS = Streams((3, 4))


def rows(n: int = 120) -> Samples:
    """Return (2, n, 6) rows: two numbers, whether the second is missing, and a category of three levels."""
    z = STREAMS.normal("rows", (n, 4), dtype=torch.float64)
    level = (z[..., 3] > -0.5).long() + (z[..., 3] > 0.7)
    one_hot = torch.nn.functional.one_hot(level, 3).double()
    x = torch.cat([z[..., :1] + level.unsqueeze(2), z[..., 1:2], (z[..., 2:3] > 1).double(), one_hot], 2)
    return replace(Samples.full(x, 0), categories=CATEGORIES)


class Bootstrap:
    """A synthesiser that gives rows back, drawn by torch's global generator."""

    seen: list[tuple[Any, list[str]]] = []  # noqa: RUF012

    def __init__(self, epochs: int = 300, enable_gpu: bool = True) -> None:
        self.epochs, self.enable_gpu = epochs, enable_gpu

    def fit(self, frame: Any, discrete_columns: list[str]) -> None:
        self.seen.append((frame, discrete_columns))
        self.frame = frame

    def sample(self, n: int) -> Any:
        return self.frame.iloc[torch.randint(len(self.frame), (n,)).numpy()].reset_index(drop=True)


@pytest.fixture
def ctgan(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("ctgan")
    module.CTGAN = Bootstrap  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ctgan", module)
    Bootstrap.seen.clear()


def drawn(generator: Estimator, n: int = 80, data: Samples | None = None) -> torch.Tensor:
    data = rows() if data is None else data
    state = generator.fit(generator.init((6,), STREAMS), data, Budget(epochs=1), STREAMS)
    return generator.sample(state, n, STREAMS)


@pytest.mark.usefixtures("ctgan")
class TestHandedOver:
    def test_categories_are_columns_of_their_own(self) -> None:
        data = rows()
        drawn(Estimator(estimator="CTGAN"), data=data)
        frame, discrete = Bootstrap.seen[0]
        assert list(frame) == ["x0", "x1", "x2", "x3"]
        assert discrete == ["x2", "x3"]
        assert [frame[name].dtype.kind for name in frame] == ["f", "f", "i", "i"]
        assert np.array_equal(frame["x3"], data.x[0, :, 3:].argmax(1))
        assert np.array_equal(frame["x1"], data.x[0, :, 1])

    def test_rows_come_back_as_they_were(self) -> None:
        data = rows()
        for real, x in zip(data.x, drawn(Estimator(estimator="CTGAN"), data=data), strict=True):
            assert {tuple(row) for row in x.tolist()} <= {tuple(row) for row in real.tolist()}

    def test_bits_repeat_and_the_programs_generators_are_left_alone(self) -> None:
        before = torch.get_rng_state()
        first, second = (drawn(Estimator(estimator="CTGAN")) for _ in range(2))
        assert torch.equal(first, second)
        assert torch.equal(torch.get_rng_state(), before)
        assert not torch.equal(first[0], first[1])

    def test_rows_of_numbers_alone(self) -> None:
        drawn(Estimator(estimator="CTGAN"), data=replace(rows(), categories=()))
        assert Bootstrap.seen[0][1] == []

    def test_an_argument_that_the_package_does_not_know(self) -> None:
        with pytest.raises(ConfigError, match=r"estimator CTGAN: no model can be made .*epoch"):
            Estimator(estimator="CTGAN", arguments={"epoch": 3}).init((6,), STREAMS)


def test_offers_neither_density_nor_parameters() -> None:
    generator = Estimator(estimator="TVAE")
    assert generator.offers == frozenset()
    assert generator.makes == frozenset(("vectors",))
    assert generator.libraries == ("ctgan",)
    assert Estimator(estimator="ARF").libraries == ("arfpy",)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"estimator": "CTGANS"}, "did you mean 'CTGAN'"),
        ({"estimator": "ARF", "arguments": {"random_state": 3}}, "follows from the experiment's seeds"),
        ({"estimator": "TVAE", "has": ("parameters",)}, "leave has out"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Estimator(**settings)


def test_a_model_of_ones_own_is_told_of_categories() -> None:
    class Own:
        told: tuple[range, ...] = ()

        def fit(self, X: np.ndarray, categories: tuple[range, ...] = ()) -> None:
            type(self).told, self.x = categories, X

        def sample(self, n: int) -> np.ndarray:
            return self.x[:n]

    drawn(Estimator.of(Own))
    assert Own.told == CATEGORIES


def test_numbers_of_categories_and_back() -> None:
    assert category_numbers(CATEGORIES, 7).tolist() == [0, 0, 1, 2, 2, 2, 0]
    assert numbered_categories(category_numbers(CATEGORIES, 7)) == CATEGORIES
    assert numbered_categories(category_numbers((), 3)) == ()


@pytest.mark.parametrize(
    ("package", "estimator", "arguments"),
    [
        ("ctgan", "CTGAN", {"epochs": 2}),
        ("ctgan", "TVAE", {"epochs": 2}),
        ("arfpy", "ARF", {"num_trees": 5, "max_iters": 2}),
    ],
)
def test_the_package_itself(package: str, estimator: str, arguments: dict[str, Any]) -> None:
    generator = Estimator(estimator=estimator, arguments=arguments)
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the packages call
        pytest.importorskip(package)
        first, second = drawn(generator), drawn(generator)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second)
    assert first.shape == (2, 80, 6)
    assert torch.isfinite(first).all()
    assert ((first[..., 2:] == 0) | (first[..., 2:] == 1)).all()
    assert (first[..., 3:].sum(2) == 1).all()
    assert not torch.equal(first[0], first[1])
