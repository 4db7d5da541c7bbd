"""Functions of a seed as data: what they draw, what of them is recorded, and what a program without them can do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import snapshot

from selfloop import ConfigError, DataError, Experiment, Run, RunError, Samples, mixing, run
from selfloop.core.code import TABLES
from selfloop.core.streams import generator
from selfloop.data import Function, function


def draw(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 3))


def fixed(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((30, 2))


def drawing(seed: int, many: int) -> torch.Tensor:
    return torch.from_numpy(draw(seed, many))


class Half(mixing.Regime):
    """Trains on as many new rows as samples."""

    needs = frozenset({"fresh"})

    def __call__(self, t: int, pool: mixing.Pool) -> Samples:
        return Samples.union([pool.fresh(10), pool.generated(t - 1, 10)]) if t else pool.real


def experiment(data: Any, **more: Any) -> Experiment:
    of = {"name": "drawn", "generator": {"name": "gaussian"}, "generations": 2, "seeds": 2}
    return Experiment(data=data, **of | more)


def derived(seed: int, generation: int, purpose: str) -> int:
    return int(generator(seed, generation, purpose, 0).integers(2**32))


def test_every_set_is_drawn_from_a_seed_of_its_own() -> None:
    data = function(draw, n=20, held_out=7)
    split = data.load([4, 5])
    for r, seed in enumerate((4, 5)):
        assert np.array_equal(split.train[r], draw(derived(seed, 0, "data"), 20))
        assert np.array_equal(split.held_out[r], draw(derived(seed, 0, "held_out"), 7))
        for t in (0, 1, 9):
            assert np.array_equal(data.fresh(seed, t, 6), draw(derived(seed, t, "fresh"), 6))
    assert split.events.columns == ("x0", "x1", "x2")
    assert torch.equal(split.restore(split.train), split.train), "model units are the function's"


def test_as_many_rows_as_of_a_toy_unless_told_otherwise() -> None:
    split = function(drawing).load([0])
    assert (split.train.shape, split.held_out.shape) == ((1, 1000, 3), (1, 1000, 3))


def test_fixed_rows_are_divided_as_a_table_s() -> None:
    data = function(fixed, n=20, held_out=5)
    split = data.load([4, 5])
    for r, seed in enumerate((4, 5)):
        order = generator(seed, 0, "data", 0).permutation(30)
        assert np.array_equal(split.train[r], fixed(seed)[order[:20]])
        assert np.array_equal(split.held_out[r], fixed(seed)[order[20:25]])
    assert function(fixed).load([0]).held_out.shape == (1, 6, 2)
    assert "fresh" not in data.offers
    with pytest.raises(DataError, match="offers no fresh rows"):
        data.fresh(0, 1, 1)


def with_default(seed: int, n: int = 5) -> np.ndarray:
    return draw(seed, n)


def with_noise(seed: int, noise: float = 1.0) -> np.ndarray:
    return noise * fixed(seed)


@pytest.mark.parametrize(("f", "draws"), [(draw, True), (drawing, True), (with_default, True), (with_noise, False)])
def test_what_a_function_takes_says_what_it_is(f: Callable[..., Any], draws: bool) -> None:
    assert function(f).draws == draws
    assert ("fresh" in function(f).offers) == draws


@pytest.mark.parametrize(
    "f", [lambda: 0, lambda a, b, c: 0, lambda *a: 0, lambda seed, *, n: 0, print, int, Half(), np.random.default_rng]
)
def test_other_functions_are_refused(f: Any) -> None:
    with pytest.raises(ConfigError, match=r"give def f\(seed, n\)$"):
        function(f)


CALLS = iter(range(10**6))


@pytest.mark.parametrize(
    ("f", "words"),
    [
        (lambda seed, n: np.full((n, 1), next(CALLS)), "returns other rows when it is called again with the same seed"),
        (lambda seed, n: [0.0] * n, "returns list: return an array (n, d)"),
        (lambda seed, n: np.zeros((n + 1, 2)), "returns (3, 2) at "),
        (lambda seed, n: np.zeros((n, 2, 2), np.uint8), "returns (2, 2, 2) at "),
        (lambda seed, n: np.full((n, 1), np.nan), "row 1, column 'x0': the value is missing (NaN)"),
        (lambda seed, n: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda seed: np.zeros((2, 2)), "has 2 rows, fewer than n + held_out = 2 + 1 = 3"),
        (lambda seed: np.zeros((9, 1 + seed)), "returns (7, 1) and (7, 2) rows of different seeds"),
    ],
)
def test_functions_that_return_no_data_are_refused_in_one_line(f: Any, words: str) -> None:
    with pytest.raises(DataError) as caught:
        experiment(f).data.load([0, 1])
    assert words in str(caught.value)
    assert "test_function:<lambda>'" in str(caught.value)
    assert str(caught.value).isprintable()


def test_global_randomness_is_found_out() -> None:
    def unseeded(seed: int, n: int) -> torch.Tensor:
        return torch.randn(n, 2)

    with pytest.raises(DataError, match="let all that it draws follow from its seed"):
        function(unseeded).load([0])


def test_settings_name_it_and_know_its_text() -> None:
    wanted = experiment(draw)
    assert isinstance(wanted.data, Function)
    assert wanted.data.function.endswith("test_function:draw")
    assert Experiment.parse(wanted.yaml()) == wanted
    assert function(draw) == function(draw) != function(drawing)


def made(scale: float) -> Callable[[int, int], np.ndarray]:
    return lambda seed, n: scale * draw(seed, n)


def test_two_of_one_text_that_see_other_values_are_refused() -> None:
    function(made(1.0))
    function(made(1.0))
    with pytest.raises(ConfigError, match="differ only in values from outside them"):
        function(made(2.0))
    one, other = (lambda seed, n: draw(seed, n)), (lambda seed, n: 2 * draw(seed, n))
    assert function(one) != function(other)


def test_arms_may_differ_in_their_functions(tmp_path: Path) -> None:
    list(run(experiment(draw, grid={"data": [draw, drawing, fixed]}, seeds=1), tmp_path / "run"))
    opened = Run.open(tmp_path / "run")
    assert [opened.real(arm).n for arm in range(3)] == [1000, 1000, 24]


@pytest.mark.slow
@pytest.mark.usefixtures("shared_workers")
@pytest.mark.parametrize("local", [False, True])
def test_workers_get_it_and_change_no_bit(tmp_path: Path, local: bool) -> None:
    data = function((lambda seed, n: np.random.default_rng(seed).random((n, 2))) if local else draw, n=40)
    learns = {"generator": {"name": "otcfm", "width": 4, "batch_size": 16}, "budget": {"steps": 2}}
    wanted = experiment(data, grid={"mixing.lam": [0.5, "inf"]}, **learns)
    for workers in (0, 2):
        list(run(wanted, tmp_path / str(workers), workers=workers))
    assert snapshot(tmp_path / "0") == snapshot(tmp_path / "2")


def test_a_loop_gets_new_rows_without_end(tmp_path: Path) -> None:
    list(run(experiment(function(draw, n=20), mixing=Half(), generations=3), tmp_path / "run"))
    assert [record["n_real"] for record in Run.open(tmp_path / "run").of_generation(3)] == [10, 10]


@pytest.mark.slow
def test_a_run_is_read_without_it_and_needs_it_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    list(run(experiment(draw), tmp_path / "run"))
    code = (
        "import sys, selfloop; r = selfloop.Run.open(sys.argv[1]); r.verify();"
        "print(len(r.records()), r.real(0).n, len(list(selfloop.run(r.experiment, sys.argv[1]))))\n"
        "try: list(selfloop.run(r.experiment.override('generations=3'), sys.argv[1]))\n"
        "except selfloop.ConfigError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")], capture_output=True, text=True, check=True
    )
    numbers, error, *rest = done.stdout.splitlines()
    assert numbers == "6 1000 0"
    assert not rest
    assert error.startswith(f"data function '{draw.__module__}:draw' is known only to the program that defines it")
    assert len(list(run(experiment(draw, generations=3), tmp_path / "run"))) == 1


def test_another_text_is_another_experiment(tmp_path: Path) -> None:
    list(run(experiment(function(draw, n=20)), tmp_path / "run"))
    other = function(draw, n=20).model_copy(update={"sha256": "0" * 64})
    TABLES["function"][f"{other.function} {other.sha256}"] = lambda seed, n: 2 * draw(seed, n)
    with pytest.raises(RunError, match=r"there data\.sha256 is "):
        list(run(experiment(other, generations=3), tmp_path / "run"))
