"""What code of a user's own does wrong is said in one line, and what was made with code that is gone is still read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from selfloop import ConfigError, Experiment, Run, RunError, Samples, SelfloopError, run
from selfloop.data.toy import Toy
from selfloop.metrics import METRICS, Metric
from selfloop.mixing import MIXINGS, Pool, Regime


class Share(Regime):
    """All real rows, and a share of the last samples."""

    p: float = 0.5
    q: int = 3

    def __call__(self, t: int, pool: Pool) -> Samples:
        return Samples.union([pool.real, pool.generated(t - 1, int(self.p * pool.n))])


class Odd(Regime):
    """Does as it is told."""

    what: str

    needs: ClassVar[Any] = frozenset()

    def draws(self, t: int, n: int) -> Any:
        if self.what == "list":
            return [n][t]
        return {"half": n / 2, "true": True}.get(self.what, np.int64(n))

    @property
    def ratio(self) -> Any:
        return {"nan": float("nan"), "word": "many"}.get(self.what)

    def __call__(self, t: int, pool: Pool) -> Samples:
        if self.what == "key":
            raise KeyError("x")
        if self.what == "exit":
            raise SystemExit(3)
        if self.what == "writes":
            pool.real.x.add_(1.0)
        return pool.real


class Flat(Toy):
    """Draws what is no table."""

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return rng.standard_normal(n)


def experiment(**settings: Any) -> Experiment:
    plain = {"name": "mistakes", "data": {"name": "two_moons", "n": 20}, "generator": "gaussian", "generations": 1}
    return Experiment(**(plain | {"metrics": ["mean_error"]} | settings))


def refused(out: Path, **settings: Any) -> str:
    with pytest.raises(SelfloopError) as caught:
        list(run(experiment(**settings), out))
    line = str(caught.value)
    assert line.isprintable(), line
    return line


def test_a_run_is_read_without_its_code_whatever_its_grid_was_written_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = {"mixing": [Share(), Share(p=1)], "data.n": [20, 30]}
    list(run(experiment(grid=grid, generations=2), tmp_path / "run"))
    with_code = Run.open(tmp_path / "run")
    # As a file of settings has them: whole numbers, and nothing that has a default.
    plain = {"mixing": [{"name": "Share"}, {"name": "Share", "p": 1}], "data.n": [20, 30]}
    list(run(experiment(grid=plain, generations=2), tmp_path / "other"))
    monkeypatch.delitem(MIXINGS._members, "Share")
    for name in ("run", "other"):
        opened = Run.open(tmp_path / name)
        assert opened.last == 2
        assert opened.records() == with_code.records()
        assert torch.equal(opened.samples(2, 3), with_code.samples(2, 3))
    with pytest.raises(ConfigError, match="no mixing is called 'Share'"):
        experiment(mixing="Share")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("key", "mixing 'Odd' failed at generation 1: KeyError: 'x' (test_mistakes.py, line "),
        ("exit", "mixing 'Odd' failed at generation 1: SystemExit: 3"),
        ("writes", "mixing 'Odd' changed the real rows themselves at generation 1"),
        ("half", "draws(1, 20) fails or gives no whole number"),
        ("true", "draws(1, 20) is True"),
        ("list", "draws(1, 20) fails or gives no whole number: IndexError"),
        ("nan", "its ratio is nan"),
        ("word", "its ratio is no number"),
    ],
)
def test_what_a_regime_does_wrong_is_one_line(tmp_path: Path, what: str, message: str) -> None:
    assert message in refused(tmp_path / "run", mixing=Odd(what=what))
    assert not (tmp_path / "run").exists()


def test_whole_numbers_of_numpy_are_whole_numbers(tmp_path: Path) -> None:
    assert len(list(run(experiment(mixing=Odd(what="")), tmp_path / "run"))) == 2


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (lambda e: 1.0, "metric 'odd' returned float: a tensor (1,) is wanted, a value an arm"),
        (lambda e: e.train.mean(1), "metric 'odd' returned (1, 2)"),
        (lambda e: 1 / 0, "metric 'odd' failed: ZeroDivisionError: division by zero"),
    ],
)
def test_what_a_metric_does_wrong_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compute: Any, message: str
) -> None:
    METRICS.register(Metric(name="odd", title="Odd", definition="None.", version=1, unit="1", compute=compute))
    monkeypatch.setattr(METRICS, "_members", METRICS._members | {})
    try:
        assert message in refused(tmp_path / "run", metrics=["odd"])
    finally:
        monkeypatch.undo()
        METRICS._members.pop("odd"), METRICS._origins.pop("odd")


def test_what_data_do_wrong_is_one_line(tmp_path: Path) -> None:
    assert "drew (20,), and must draw an array (20, d)" in refused(tmp_path / "run", data=Flat(n=20))


def test_rows_that_are_others_whenever_they_are_asked_for_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def unseeded(seed: int) -> np.ndarray:
        return rng.standard_normal((30, 2))

    with pytest.raises((RunError, SelfloopError), match=r"others whenever they are asked for|other rows"):
        list(run(experiment(data=unseeded), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("needs", ["fresh", ["fresh"], None, frozenset({"luck"})])
def test_needs_that_are_none_are_refused(needs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Odd, "needs", needs)
    with pytest.raises(ConfigError, match=r"mixing Odd: its needs are .* a set out of density"):
        experiment(mixing=Odd(what=""))


def test_settings_that_cannot_be_recorded_are_refused() -> None:
    class Typed(Regime):
        where: Path = Path("x")

        def __call__(self, t: int, pool: Pool) -> Samples:
            return pool.real

    with pytest.raises(ConfigError, match="setting where is 'x', which cannot be recorded"):
        experiment(mixing=Typed()).variants()
