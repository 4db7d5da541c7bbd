"""What rows count: closed forms use it exactly, minibatches draw by it, and it stays in its own arm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import snapshot, suited
from scipy.stats import chi2
from torch import Tensor

from selfloop import Experiment, Samples, Streams, run
from selfloop.arms import arms, stacks
from selfloop.core.samples import State, resampled, stack
from selfloop.core.sequences import ended
from selfloop.engines.device import HERE, Checkpoint, Device
from selfloop.generators import Gaussian, GaussianMixture
from selfloop.generators.base import GENERATORS, Generator
from selfloop.learning.training import Batches, Budget
from selfloop.loop import Outcome, advance, load
from selfloop.mixing import MIXINGS, Pool, Regime

pytestmark = pytest.mark.usefixtures("as_in_a_worker")

RISK = 1e-6
"""How probably a test of frequencies fails by chance; seeds are fixed, so it fails always or never."""

BUDGET, STREAMS = Budget(steps=5), Streams((3,))


def rows(n: int, d: int = 2, seed: int = 0) -> Tensor:
    x = Streams((seed,)).normal("rows", (n, d), dtype=torch.float64)
    return x * torch.arange(1.0, d + 1, dtype=torch.float64) + 1


def weighed(x: Tensor, weight: Any) -> Samples:
    return Samples.full(x, born=0).weighed(torch.as_tensor(weight, dtype=torch.float64).expand(x.shape[:2]))


def integers(n: int, seed: int = 0) -> Tensor:
    return Streams((seed,)).integers("weights", 4, (n,)).double()


def repeated(x: Tensor, times: Tensor) -> Samples:
    return Samples.full(x[0].repeat_interleave(times[0].long(), 0)[None], born=0)


def fit(generator: Generator, data: Samples, streams: Streams = STREAMS, state: State | None = None) -> State:
    if state is None:
        state = generator.init(data.x.shape[2:], streams)
    return generator.fit(state, data, BUDGET, streams)


def equal(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def near(a: State, b: State, rtol: float = 1e-12) -> None:
    for name in b:
        torch.testing.assert_close(a[name], b[name], rtol=rtol, atol=1e-13)


# Samples


def test_weights_of_a_union_keep_all_their_digits():
    both = Samples.union([Samples.full(rows(2), 0), Samples.full(rows(3), 1)], weights=[0.1, 2])
    assert both.weight.tolist() == [[0.1, 0.1, 2, 2, 2]]
    assert both.born.tolist() == [[0, 0, 1, 1, 1]]


def test_a_union_with_padding_is_refused():
    padded = stack([Samples.full(rows(2), 0), Samples.full(rows(3), 0)]).select([0])
    with pytest.raises(ValueError, match="padding"):
        Samples.union([padded, padded])


def test_resampled_rows_are_there_as_often_as_they_count():
    weight = Streams((1,)).uniform("w", (50,)).double() * (integers(50) > 0)
    data = weighed(torch.arange(50.0)[None, :, None], weight)
    taken = resampled(data, STREAMS)
    times = torch.bincount(taken.x.flatten().long(), minlength=50)
    expected = weight[0] / weight[0].mean()
    assert taken.weight is None
    assert int(times.sum()) == 50
    assert ((times - expected).abs() < 1).all()
    assert not times[weight[0] == 0].any()
    assert torch.equal(resampled(data, STREAMS).x, taken.x)
    assert not torch.equal(resampled(data, STREAMS.at(1)).x, taken.x)


def test_rows_that_count_alike_are_resampled_to_themselves():
    plain = Samples.full(rows(37), 0)
    assert resampled(plain, STREAMS) is plain
    assert torch.equal(resampled(plain.weighed(0.3), STREAMS).x, plain.x)


def test_an_arm_is_resampled_by_its_own_stream_and_padding_stays():
    parts = [weighed(rows(9, seed=r), integers(9, r)) for r in range(2)] + [weighed(rows(14), integers(14, 5))]
    together = resampled(stack(parts), Streams((4, 5, 6)))
    for r, part in enumerate(parts):
        assert torch.equal(together.arm(r), resampled(part, Streams((4 + r,))).arm(0))
    assert not together.x[0, 9:].any()


# Closed forms


def test_the_gaussian_is_numpys_to_rounding():
    x, weight = rows(40, 3), Streams((2,)).uniform("w", (40,)).double()
    found = fit(Gaussian(), weighed(x, weight))
    cov = np.cov(x[0].T, aweights=weight[0])
    np.testing.assert_allclose(found["mean"][0], np.average(x[0], axis=0, weights=weight[0]), rtol=1e-13)
    np.testing.assert_allclose(found["covariance"][0], cov, rtol=1e-12, atol=1e-14)
    assert torch.equal(found["covariance"], found["covariance"].mT)


def test_whole_weights_are_repeated_rows_to_the_gaussian_but_for_the_divisor():
    x, times = rows(40), integers(40)
    found, again = fit(Gaussian(), weighed(x, times)), fit(Gaussian(), repeated(x, times))
    total, squares = times.sum(), times.square().sum()
    near({"mean": found["mean"]}, {"mean": again["mean"]})
    scatter = again["covariance"] * (total - 1)
    near({"covariance": found["covariance"] * (total - squares / total)}, {"covariance": scatter})


@pytest.mark.parametrize("c", [1e-300, 0.1, 3.0, 1e300])
@pytest.mark.parametrize(
    "generator", [Gaussian(), GaussianMixture(components=3, iterations=30)], ids=["one", "mixture"]
)
def test_equal_weights_are_none(generator, c):
    x = rows(50)
    near(fit(generator, weighed(x, c)), fit(generator, Samples.full(x, 0)))


def test_the_divisor_is_unbiased():
    """The mean of R estimates of the variance 1 is within 5 of its standard errors, √(2/(ν R)) to first order."""
    r, weight = 4000, torch.tensor([4.0, 2.0, 1.0, 1.0, 0.5, 0.0])
    x = Streams((8,)).normal("x", (r, 6, 1), dtype=torch.float64)[0]
    data = Samples.full(x, 0).weighed(weight.expand(r, 6))
    variance = Gaussian().fit({}, data, BUDGET, Streams(tuple(range(r))))["covariance"].flatten()
    assert abs(float(variance.mean()) - 1) < 5 * float(variance.std()) / r**0.5


def test_one_row_that_counts_has_no_covariance():
    found = fit(Gaussian(), weighed(rows(3), [0.0, 2.0, 0.0]))
    assert torch.equal(found["mean"], rows(3)[:, 1])
    assert found["covariance"].isnan().all()


def two_heaps() -> Tensor:
    x = rows(60)
    x[:, ::3] += 8
    return x


def near_the_heaps() -> State:
    return {
        "weights": torch.tensor([[0.5, 0.5]], dtype=torch.float64),
        "means": torch.tensor([[[1.0, 1.0], [8.0, 8.0]]], dtype=torch.float64),
        "covariances": torch.eye(2, dtype=torch.float64).repeat(1, 2, 1, 1),
    }


@pytest.mark.parametrize("iterations", [1, 2, 1000])
def test_whole_weights_are_repeated_rows_to_the_mixture(iterations):
    """After a step of expectation–maximisation, two, and at the maximum."""
    x, times, generator = two_heaps(), integers(60), GaussianMixture(iterations=iterations)
    found = fit(generator, weighed(x, times), state=near_the_heaps())
    again = fit(generator, repeated(x, times), state=near_the_heaps())
    near(found, again, rtol=1e-9)


def test_a_mixture_starts_at_rows_that_count():
    x, weight = two_heaps(), torch.zeros(60, dtype=torch.float64)
    weight[::3] = 1
    found = fit(GaussianMixture(), weighed(x, weight))
    assert (found["means"] > 4).all()


# Minibatches


def numbered(*weights: list[float]) -> Samples:
    n = max(map(len, weights))
    x = torch.stack([1000.0 * r + torch.arange(n) for r in range(len(weights))]).unsqueeze(2)
    padded = torch.tensor([[*weight, *[1.0] * (n - len(weight))] for weight in weights], dtype=torch.float64)
    born = torch.zeros(padded.shape, dtype=torch.int16)
    return Samples(x=x, born=born, count=torch.tensor([len(weight) for weight in weights]), weight=padded)


def test_rows_are_drawn_as_often_as_they_count():
    weights = [0.5, 3.0, 0.0, 1.0, 0.01, 2.0, 0.0, 7.0, 0.0]
    batches = Batches(numbered(weights), 256, STREAMS)
    seen = torch.bincount(torch.cat([batches[step] for step in range(256)], 1).flatten().long(), minlength=9).numpy()
    counts = np.array(weights) > 0
    expected = np.array(weights)[counts] / sum(weights) * 256 * 256
    assert ((seen[counts] - expected) ** 2 / expected).sum() < chi2.isf(RISK, counts.sum() - 1)
    assert not seen[~counts].any()


def test_draws_do_not_depend_on_each_other():
    """Pairs that follow each other are those of independent draws."""
    batches = Batches(numbered([1.0, 2.0, 3.0]), 300, STREAMS)
    seen = torch.cat([batches[step] for step in range(100)], 1).flatten().long()
    pairs = torch.bincount(3 * seen[:-1:2] + seen[1::2], minlength=9).numpy()
    share = np.array([1, 2, 3]) / 6
    expected = np.outer(share, share).flatten() * pairs.sum()
    assert ((pairs - expected) ** 2 / expected).sum() < chi2.isf(RISK, 8)


@pytest.mark.parametrize("weight", [[1e-300, 1e-300], [1.0, 1e-300], [5e-324, 5e-324], [1e308, 1e308, 1e308]])
def test_extreme_weights_are_weights(weight):
    drawn = Batches(numbered(weight), 64, STREAMS)[0].flatten().unique().tolist()
    assert drawn == ([0] if weight[0] == 1 else list(range(len(weight))))


def test_a_batch_depends_on_the_step_alone():
    data = numbered([1.0, 2.0, 3.0, 0.0, 1.0], [4.0, 1.0])
    forward = [Batches(data, 300, Streams((1, 2)))[step] for step in range(60)]
    walker = Batches(data, 300, Streams((1, 2)))
    for step in (59, 0, 27, 28, 58, 27, 3):
        assert torch.equal(walker[step], forward[step])
    small = Batches(data, 100, Streams((1, 2)))
    assert torch.equal(forward[7], torch.cat([small[21 + part] for part in range(3)], 1))
    assert not torch.equal(forward[0], Batches(data, 300, Streams((1, 2), generation=1))[0])


def test_batches_of_an_arm_do_not_depend_on_its_neighbours():
    data = numbered([1.0, 2.0, 3.0, 0.0, 1.0], [4.0, 1.0])
    together = Batches(data, 7, Streams((1, 2)))
    for r in range(2):
        alone = Batches(data.select([r]), 7, Streams((r + 1,)))
        assert all(torch.equal(alone[step][0], together[step][r]) for step in range(20))


# Every generator

NET = {"channels": 32, "multipliers": [1], "blocks": 1, "attention": [8], "dropout": 0.1}
BLOCKS = {"down_block_types": ["AttnDownBlock2D"], "up_block_types": ["UpBlock2D"], "block_out_channels": [16]}
SMALL: dict[str, dict[str, Any]] = {
    "diffusers": {"unet": BLOCKS | {"layers_per_block": 1, "norm_num_groups": 4}, "batch_size": 8},
    **{name: {"net": NET, "batch_size": 8} for name in ("edm", "ddpm_images", "otcfm_images")},
    **{name: {"batch_size": 8} for name in ("otcfm", "ddpm", "vae", "flow")},
    "estimator": {"estimator": "GaussianMixture"},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    sorted(
        name
        for name in GENERATORS
        if GENERATORS.origin(name).what == "built-in" and name not in ("outside", "transformers")
    ),
)
def test_a_row_that_counts_nothing_plays_no_part(name):
    generator = GENERATORS.parse({"name": name} | SMALL.get(name, {}))
    space = (6, 4) if generator.makes == {"text"} else (1, 8, 8) if "images" in generator.makes else (2,)
    if generator.makes == {"text"}:
        x = ended(Streams((1,)).integers("x", 4, (20, 6)).int())
    else:
        x = 127 + 60 * Streams((1,)).normal("x", (20, *space), dtype=torch.float64)
        pictures = "images" in generator.makes
        x = x.clamp(0, 255).to(torch.uint8) if pictures else suited(name, (x / 60).to(generator.dtype))
    other, weight, start = x.clone(), torch.ones(20), generator.init(space, STREAMS)
    other[:, 3::4], weight[3::4], weight[::4] = 0, 0, 2
    found = fit(generator, weighed(x, weight), state=start)
    assert equal(fit(generator, weighed(other, weight), state=start), found)
    assert not equal(fit(generator, weighed(x, weight.flip(0)), state=start), found)


# The loop


@MIXINGS.register
class CountedReal(Regime):
    """All real rows, each of which counts so much, and the last samples."""

    real: float = 1.0

    def __call__(self, t: int, pool: Pool) -> Samples:
        return Samples.union([pool.real, pool.generated(t - 1)], weights=[self.real, 1])


def experiment(generator: Any, **settings: Any) -> Experiment:
    common = {"name": "weights", "data": {"name": "two_moons", "n": 24, "held_out": 16}, "generations": 3}
    return Experiment(
        **(common | {"generator": generator, "mixing": CountedReal(), "budget": {"steps": 6}, "seeds": 2} | settings)
    )


NETWORK = {"name": "otcfm", "width": 8, "batch_size": 8}


def chain(members: Any, device: Device = HERE) -> list[Outcome]:
    split, state, first, past, outcomes = load(members), None, None, [], []
    for t in range(3):
        outcome = advance(members, split, t, state, past.__getitem__, first, device)
        state, first = outcome.state, first or outcome.state
        past.append(outcome.samples)
        outcomes.append(outcome)
    return outcomes


@pytest.mark.parametrize("generator", ["gaussian", "mixture", NETWORK], ids=["gaussian", "mixture", "otcfm"])
def test_arms_with_and_without_weights_get_what_they_get_alone(generator):
    every = arms(experiment(generator, grid={"mixing.real": [1.0, 3.0, 0.0]}))
    (members,) = stacks(every) if generator != NETWORK else [every]
    together = chain(members)
    for r, arm in enumerate(members):
        for stacked, alone in zip(together, chain([arm]), strict=True):
            assert equal({name: leaf[r : r + 1] for name, leaf in stacked.state.items()}, alone.state)
            assert torch.equal(stacked.samples.arm(r), alone.samples.arm(0))
            assert stacked.records[r] == alone.records[0]
    finals = [together[-1].samples.arm(r) for r, arm in enumerate(members) if arm.seed == 0]
    assert len({final.numpy().tobytes() for final in finals}) == 3


def test_a_stack_killed_between_and_within_its_fits_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    """Weighed arms are fitted after the others, into files of their own."""
    members = arms(experiment(NETWORK, grid={"mixing.real": [1.0, 3.0]}))
    split, whole = load(members), chain(members)
    past = [outcome.samples for outcome in whole]
    device, write, written = Device(checkpoints=tmp_path / "fit", every=0.0), Checkpoint.write, []

    def killed(self: Checkpoint, tensors: State) -> None:
        write(self, tensors)
        written.append(1)
        if len(written) % 3 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "write", killed)
    for _ in range(10):
        try:
            outcome = advance(members, split, 1, whole[0].state, past.__getitem__, whole[0].state, device)
            break
        except KeyboardInterrupt:
            continue
    assert len(list(tmp_path.iterdir())) == 2
    assert len(written) == 10  # after each of 6 steps but the last, twice
    assert equal(outcome.state, whole[1].state)
    assert torch.equal(outcome.samples.x, whole[1].samples.x)


def test_a_run_with_weights_resumes_to_the_same_bits(tmp_path):
    settings = experiment(NETWORK, grid={"mixing.real": [1.0, 3.0]})
    list(run(settings, tmp_path / "whole"))
    for _ in range(4):
        for _generation in run(settings, tmp_path / "parts"):
            break
    assert snapshot(tmp_path / "parts") == snapshot(tmp_path / "whole")
