"""The spline flow: its likelihood, its inverse, what it learns, and what it says without zuko."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from selfloop import Experiment, run
from selfloop.core.errors import ConfigError
from selfloop.core.samples import Samples, State
from selfloop.core.streams import Streams
from selfloop.generators import Flow
from selfloop.learning.training import Budget, parameters

SMALL = Flow(transforms=2, bins=4, width=16, batch_size=64)
STREAMS = Streams((0,))


def bent(streams: Streams, n: int) -> torch.Tensor:
    """A parabola with noise, (R, n, 2)."""
    z = streams.normal("bent", (n, 2))
    return torch.stack([z[..., 0], 0.5 * z[..., 0].square() - 0.5 + 0.3 * z[..., 1]], -1)


@pytest.fixture(scope="module")
def fitted() -> State:
    data = Samples.full(bent(STREAMS, 400), 0)
    return SMALL.fit(SMALL.init((2,), STREAMS), data, Budget(steps=250), STREAMS)


def test_the_density_integrates_to_one(fitted: State) -> None:
    axis = torch.arange(-8, 8, 0.1)
    points = torch.cartesian_prod(axis, axis)
    total = SMALL.log_prob(fitted, points.unsqueeze(0)).double().exp().sum() * 0.1**2
    assert float(total) == pytest.approx(1, abs=2e-3)


def test_samples_come_from_their_latents(fitted: State) -> None:
    x = SMALL.sample(fitted, 50, STREAMS)
    params = {name: leaf[0] for name, leaf in parameters(fitted).items()}
    z, _ = torch.func.functional_call(SMALL.module(2), params, (x[0],))
    torch.testing.assert_close(z.detach(), STREAMS.normal("latents", (50, 2))[0], atol=1e-4, rtol=0)


def test_learns_the_data_better_than_any_gaussian(fitted: State) -> None:
    """On 2000 rows held out; the best Gaussian has the entropy of the rows' covariance."""
    x = bent(STREAMS.at(1), 2000)
    gaussian = torch.distributions.MultivariateNormal(x[0].mean(0), x[0].T.cov())
    assert float(SMALL.log_prob(fitted, x).mean()) > float(gaussian.log_prob(x[0]).mean()) + 0.2


def test_one_dimension() -> None:
    state = SMALL.fit(
        SMALL.init((1,), STREAMS), Samples.full(STREAMS.normal("x", (50, 1)), 0), Budget(steps=3), STREAMS
    )
    x = SMALL.sample(state, 20, STREAMS)
    assert x.shape == (1, 20, 1)
    assert torch.isfinite(SMALL.log_prob(state, x)).all()


def test_without_zuko_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(ConfigError, match=r"selfloop\[flows\]"):
        SMALL.init((2,), STREAMS)


@pytest.mark.slow
def test_a_run_records_zuko_and_begins_nothing_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {"name": "flow", "width": 8, "transforms": 1}
    built = Experiment.load("fig4-small").override("generations=1", "seeds=1", f"generator={plain}", "budget.steps=2")
    next(run(built, tmp_path / "run"))
    recorded = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert recorded["libraries"]["zuko"] == version("zuko")
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(ConfigError, match=r"selfloop\[flows\]"):
        next(run(built, tmp_path / "other"))
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_the_callers_torch_is_left_as_it_was() -> None:
    """In a process of its own: zuko changes torch's settings when it is first imported."""
    program = (
        "import torch; from selfloop.generators import Flow; from selfloop.core.streams import Streams;"
        "before = torch.get_rng_state(); Flow().init((2,), Streams((0,)));"
        "assert torch.equal(before, torch.get_rng_state());"
        "torch.distributions.Normal(0.0, -1.0)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "Expected parameter scale" in found.stderr
