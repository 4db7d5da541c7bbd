"""Regimes of one's own: what they train on, that they run as the built-in ones do, and what is said of wrong ones."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accumulate import Accumulate
from filtered import Filtered
from half_fresh import HalfFresh
from regimes import show

from selfloop import ConfigError, Experiment, Run, Samples, Streams, run
from selfloop.analysis.stability import stability
from selfloop.arms import arms
from selfloop.core.samples import stack
from selfloop.data.base import Split
from selfloop.loop import advance, load, mix
from selfloop.mixing import MIXINGS, Pool, Regime
from selfloop.mixing.base import training_set

pytestmark = pytest.mark.usefixtures("as_in_a_worker")

N, T = 24, 3
NETWORK = {"name": "otcfm", "width": 8, "batch_size": 8}


def experiment(mixing: Any, **settings: Any) -> Experiment:
    data = {"name": "gaussian", "n": N, "held_out": 16, "dim": 2}
    common = {"name": "regimes", "data": data, "generator": "gaussian", "generations": T, "seeds": 2}
    return Experiment(**(common | {"mixing": mixing} | settings))


class Chain:
    """A loop in this process: its training sets, samples and records."""

    def __init__(self, settings: Experiment) -> None:
        self.members = arms(settings)
        self.split: Split = load(self.members)
        self.past: list[Samples] = []
        self.trained: list[Samples] = []
        self.means: list[torch.Tensor] = []
        self.covariances: list[torch.Tensor] = []
        self.records = []
        state = first = None
        for t in range(settings.generations + 1):
            self.trained.append(mix(self.members, self.split, t, self.past.__getitem__))
            outcome = advance(self.members, self.split, t, state, self.past.__getitem__, first)
            state, first = outcome.state, first or outcome.state
            self.past.append(outcome.samples)
            self.means.append(state["mean"])
            self.covariances.append(state["covariance"])
            self.records.append(outcome.records)


def born(data: Samples, r: int) -> dict[str, int]:
    generations, counts = data.born[r, : int(data.count[r])].unique(return_counts=True)
    return {str(g): count for g, count in zip(generations.tolist(), counts.tolist(), strict=True)}


# What they train on


def test_accumulate_keeps_everything() -> None:
    chain = Chain(experiment(Accumulate()))
    for t, (trained, records) in enumerate(zip(chain.trained, chain.records, strict=True)):
        for r, record in enumerate(records):
            assert born(trained, r) == record["born"] == {str(g): N for g in range(t + 1)}
            assert (record["n_real"], record["n_synthetic"]) == (N, t * N)
            parts = trained.arm(r).split(N)
            assert torch.equal(parts[0], chain.split.train[r])
            assert all(torch.equal(part, chain.past[g].arm(r)) for g, part in enumerate(parts[1:]))


def test_half_fresh_sees_no_real_row_twice() -> None:
    chain, half = Chain(experiment(HalfFresh())), N // 2
    seen = [tuple(row.tolist()) for row in chain.split.train[0]]
    for t, trained in enumerate(chain.trained[1:], 1):
        for r, record in enumerate(chain.records[t]):
            assert born(trained, r) == record["born"] == {"0": half, str(t): half}
            assert torch.equal(trained.arm(r)[half:], chain.past[t - 1].arm(r)[:half])
        seen += [tuple(row.tolist()) for row in trained.arm(0)[:half]]
    assert len(set(seen)) == len(seen) == N + T * half


def test_filtered_takes_what_is_near_and_counts_it() -> None:
    chain = Chain(experiment(Filtered(radius=1.0)))
    for t, trained in enumerate(chain.trained[1:], 1):
        for r, record in enumerate(chain.records[t]):
            real, last = chain.split.train[r], chain.past[t - 1].arm(r)
            near = last[torch.linalg.vector_norm(last - real.mean(0), dim=1) <= 1.0]
            assert 0 < len(near) < N
            assert torch.equal(trained.arm(r), torch.cat([real, near]))
            assert born(trained, r) == record["born"] == {"0": N, str(t): len(near)}


@pytest.mark.slow
def test_accumulated_gaussians_follow_the_closed_form() -> None:
    """The mean m of a Gaussian that is fitted to all samples of its predecessors, and its covariance Σ, in dimension d.

    With n rows a generation m_t = m_{t−1} + e / (t + 1), where e is the error of a mean of n samples, so
    Var m_T = 1/n + Σ_{t=1}^T E Σ_{t−1} / (n (t + 1)²), which stays bounded for all T; and sums of squares give
    E Σ_t = E Σ_{t−1} (1 − 1 / ((t + 1) ((t + 1) n − 1))). Both are estimated from R d independent numbers, with a
    relative standard error of √(2 / (R d)) of the variance at T, and are to be within 5 standard errors.
    """
    n, generations, dim, replicas = 6, 8, 4, 250
    data = {"name": "gaussian", "n": n, "held_out": 2, "dim": dim}
    chain = Chain(
        experiment(Accumulate(), data=data, generations=generations, seeds=replicas, metrics=["variance_ratio"])
    )
    variance, covariance = 1 / n, 1.0
    for t in range(1, generations + 1):
        variance += covariance / (n * (t + 1) ** 2)
        covariance *= 1 - 1 / ((t + 1) * ((t + 1) * n - 1))
    means = chain.means[-1].flatten()
    assert len(means) == replicas * dim
    assert abs(float(means.square().mean()) / variance - 1) < 5 * (2 / len(means)) ** 0.5
    own = chain.covariances[-1].diagonal(dim1=1, dim2=2).flatten()
    assert abs(float(own.mean()) - covariance) < 5 * float(own.std()) / len(own) ** 0.5


# They run as the built-in ones do


def files(out: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    return {name: content for name, content in found.items() if name not in ("lock", "log.txt")}


@pytest.mark.slow
@pytest.mark.parametrize("mixing", [Accumulate(), HalfFresh(), Filtered(radius=1.5)], ids=lambda m: type(m).__name__)
def test_a_run_resumes_to_the_same_bits(mixing: Regime, tmp_path: Path) -> None:
    settings = experiment(mixing, generator=NETWORK, budget={"steps": 6}, generations=2)
    whole = list(run(settings, tmp_path / "whole"))
    for _ in range(3):
        for _generation in run(settings, tmp_path / "pieces"):
            break
    assert files(tmp_path / "pieces") == files(tmp_path / "whole")
    opened = Run.open(tmp_path / "whole")
    assert opened.experiment.digest() == settings.digest()
    assert [record["born"] for record in opened.of_generation(2)] == [r["born"] for r in whole[2].records]
    origin = opened.environment["code"][f"mixing {type(mixing).__name__}"]
    assert origin["what"] == "program"
    assert len(origin["sha256"]) == 64


@pytest.mark.slow
@pytest.mark.usefixtures("shared_workers")
def test_workers_know_the_regimes_of_a_module(tmp_path: Path) -> None:
    settings = experiment(HalfFresh(), generator=NETWORK, budget={"steps": 6}, generations=2)
    assert len(list(run(settings, tmp_path / "spread", workers=2))) == 3
    list(run(settings, tmp_path / "whole"))
    assert files(tmp_path / "spread") == files(tmp_path / "whole")


SCRIPT = """
import sys
from selfloop import Experiment, Samples, run
from selfloop.mixing import Regime

class Newest(Regime):
    share: float = 0.5

    def __call__(self, t, pool):
        return Samples.union([pool.real, pool.generated(t - 1, int(self.share * pool.n))], weights=[1, 2])

if __name__ == "__main__":
    experiment = Experiment(
        name="script",
        data={"name": "two_moons", "n": 20, "held_out": 10},
        generator={"name": "otcfm", "width": 8, "batch_size": 8},
        budget={"steps": 4},
        mixing=Newest(),
        generations=2,
        grid={"mixing.share": [0.5, 1.0]},
    )
    for workers in (1, 0):
        list(run(experiment, f"{sys.argv[1]}/{workers}", workers=workers))
"""


@pytest.mark.slow
def test_workers_know_the_regimes_of_a_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, timeout=300)
    assert files(tmp_path / "1") == files(tmp_path / "0")
    assert [r["born"] for r in Run.open(tmp_path / "1").of_generation(2)] == [{"0": 20, "2": 10}, {"0": 20, "2": 20}]


@pytest.mark.slow
def test_a_script_shows_all_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(tmp_path)
    out = capsys.readouterr().out
    assert "  4  born 0: 200, 1: 200, 2: 200, 3: 200, 4: 200; w2_held_out" in out
    assert "moons, Filtered, radius = 1.5\n" in out
    assert out.count("born 0: 100, 4: 100") == 2
    assert len(re.findall(r"^  \d  born .*; w2_held_out \d+\.\d+, variance_ratio \d+\.\d+$", out, re.M)) == 30


@pytest.mark.parametrize("name", ["accumulate", "half_fresh", "filtered"])
def test_one_is_short(name: str) -> None:
    text = Path(sys.modules[name].__file__ or "").read_text()
    assert len(text.splitlines()) <= 25


# The pool


def pool(t: int = 2, source: Callable[[int], torch.Tensor] | None = None) -> Pool:
    def rows(born: int) -> Samples:
        return Samples.full(Streams((born,)).normal("rows", (5, 2), dtype=torch.float64), born)

    return Pool(t, rows(0), Streams((0,), t), lambda g: rows(g + 1), source)


def test_samples_come_without_the_padding_of_their_neighbours() -> None:
    """Regimes that draw differently may share a stack, which pads the shorter sets."""
    short, long = (Samples.full(torch.ones(1, k, 2, dtype=torch.float64), born=1) for k in (3, 5))
    padded = Pool(1, long, Streams((0,), 1), lambda g: stack([short, long]).select([0]))
    assert padded.generated(0).x.shape == (1, 3, 2)
    assert Samples.union([padded.real, padded.generated(0)]).count.tolist() == [8]


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (
            lambda p: p.generated(2),
            "mixing 'Wrong' asks generation 2 for samples of generation 2: there are those of 0 to 1",
        ),
        (
            lambda p: p.generated(-1),
            "mixing 'Wrong' asks generation 2 for samples of generation -1: there are those of 0 to 1",
        ),
        (
            lambda p: p.generated(1, 6),
            "mixing 'Wrong' asks for 6 samples of generation 1, which has 5: let draws(t, n) return enough",
        ),
        (
            lambda p: p.fresh(1),
            "mixing 'Wrong' asks for fresh real rows: let its class say needs = frozenset({\"fresh\"})",
        ),
        (lambda p: p.real.x, "mixing 'Wrong' returned Tensor for generation 2: return Samples"),
        (
            lambda p: Samples.full(p.real.x.float(), 0),
            "mixing 'Wrong' returned torch.float32 (1, 5, 2) for generation 2: rows are torch.float64 (1, N, 2)",
        ),
        (
            lambda p: Samples.full(p.real.x[:, :, :1], 0),
            "mixing 'Wrong' returned torch.float64 (1, 5, 1) for generation 2: rows are torch.float64 (1, N, 2)",
        ),
        (
            lambda p: p.real.select([0, 0]),
            "mixing 'Wrong' returned torch.float64 (2, 5, 2) for generation 2: rows are torch.float64 (1, N, 2)",
        ),
        (
            lambda p: Samples.full(p.real.x / 0, 0),
            "mixing 'Wrong' gave generation 2 rows that are not finite: leave them out",
        ),
        (
            lambda p: Samples.full(p.real.x, 3),
            "mixing 'Wrong' gave generation 2 rows that are not born yet: born is 0 … 2",
        ),
        *(
            (
                lambda p, w=w: p.real.weighed(w),
                "mixing 'Wrong' gave generation 2 weights that are negative, all zero or not finite: "
                "return finite ones of 0 or more",
            )
            for w in (-1.0, 0.0, float("nan"), float("inf"))
        ),
    ],
)
def test_a_wrong_regime_is_told_in_one_line(wrong: Callable[[Pool], Any], line: str) -> None:
    class Wrong(Regime):
        def __call__(self, t: int, pool: Pool) -> Samples:
            return wrong(pool)  # type: ignore[no-any-return]

    with pytest.raises(ConfigError) as caught:
        training_set(Wrong(), pool())
    assert str(caught.value) == line


def test_no_rows_at_all_starve_an_arm() -> None:
    class Nothing(Regime):
        def __call__(self, t: int, pool: Pool) -> Samples:
            return pool.real.keep(pool.real.x[0, :, 0] > 100)

    assert training_set(Nothing(), pool()).count.tolist() == [0]
    assert training_set(Nothing(), pool(0)).count.tolist() == [5]  # generation 0 has the real rows


def test_weights_may_be_zero_in_part() -> None:
    weight = torch.tensor([[1.0, 0, 0, 2, 0]])

    class Part(Regime):
        def __call__(self, t: int, pool: Pool) -> Samples:
            return pool.real.weighed(weight)

    assert training_set(Part(), pool()).weight.tolist() == weight.tolist()


def test_needs_are_refused_before_anything_is_fitted() -> None:
    assert Accumulate().needs == frozenset()
    line = "^mixing HalfFresh needs fresh rows, which data digits does not have"
    with pytest.raises(ConfigError, match=line):
        experiment(HalfFresh(), data={"name": "digits"})
    by_name = {"name": "regimes", "data": "digits", "generator": "gaussian", "generations": 1, "mixing": "HalfFresh"}
    with pytest.raises(ConfigError, match=line):
        Experiment.build(by_name)


def test_settings_of_ones_own_are_checked_and_can_be_a_grid() -> None:
    with pytest.raises(ConfigError, match=r"mixing\.radios"):
        Experiment.build(experiment("augment").model_dump() | {"mixing": {"name": "Filtered", "radios": 1.0}})
    settings = experiment("Filtered", grid={"mixing.radius": [0.5, 2.0]})
    assert [arm.experiment.mixing.label for arm in arms(settings)][::2] == [
        "Filtered, radius = 0.5",
        "Filtered, radius = 2",
    ]
    assert MIXINGS["Filtered"] is Filtered


def test_stability_compares_regimes_without_a_ratio_and_claims_no_lam_of_them(tmp_path: Path) -> None:
    regimes = [{"name": "augment", "lam": 0.0}, {"name": "Accumulate"}, {"name": "augment", "lam": 1.0}]
    common = {"generations": 10, "seeds": 6, "metrics": ["w2_held_out"]}
    list(run(experiment("augment", grid={"mixing": regimes}, **common), tmp_path / "both"))
    found = stability(Run.open(tmp_path / "both"))
    assert [row.excess is not None for row in found.rows] == [True, True, True]
    (answer,) = found.bearable
    assert answer.ratio in {0.0, 1.0}
    assert {each.ratio for each in answer.between} <= {1.0}
    list(run(experiment("Accumulate", **common), tmp_path / "alone"))
    found = stability(Run.open(tmp_path / "alone"))
    assert found.rows[0].excess is None
    assert found.rows[0].centre is not None
    assert found.bearable[0].ratio is None
    assert "there is no λ = 0 to compare with" in found.bearable[0].notes
