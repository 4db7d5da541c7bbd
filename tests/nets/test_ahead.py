"""What a fit needs of a step is made one step ahead beside a device, to the same bits."""

from __future__ import annotations

import threading

import pytest
import torch

from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.generators import EDM, DDPMImages, OTCFMImages
from selfloop.generators import network as networks
from selfloop.generators.images import Size
from selfloop.generators.network import Ahead, Draws, NetworkModel
from selfloop.learning.training import Budget

SIZE = Size(channels=8, multipliers=(1, 2), blocks=1, attention=(4,), dropout=0.1, group_channels=4)
GENERATORS = [
    EDM(net=SIZE, batch_size=8, augment=0.3),
    DDPMImages(net=SIZE, batch_size=8, accumulate=2),
    OTCFMImages(net=SIZE, batch_size=8, flip=True, accumulate=2, sigma=0.1),
]


def fitted(generator: NetworkModel) -> dict[str, torch.Tensor]:
    x = torch.arange(20 * 3 * 8 * 8).remainder(251).to(torch.uint8).view(1, 20, 3, 8, 8)
    streams = Streams((3,))
    return generator.fit(generator.init((3, 8, 8), streams), Samples.full(x, born=0), Budget(steps=5), streams)


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda generator: generator.name)
def test_the_bits_are_those_made_in_place(generator: NetworkModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, made_in = fitted(generator), set()

    class Threaded(Ahead):
        def __init__(self, make, numbers, *, threads):  # type: ignore[no-untyped-def]
            def make_here(number):  # type: ignore[no-untyped-def]
                made_in.add(threading.current_thread())
                events, draws = make(number)
                assert number == 0 or draws.ready  # all but the first find their numbers drawn
                return events, draws

            super().__init__(make_here, numbers, threads=True)

    monkeypatch.setattr(networks, "Ahead", Threaded)
    found = fitted(generator)
    assert made_in - {threading.main_thread()}
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.equal(expected[name], found[name]), name


def test_what_is_ahead_ends_with_the_numbers_and_passes_faults_on() -> None:
    def make(number: int) -> int:
        if number == 2:
            raise ValueError("no such thing")
        return number * number

    with Ahead(make, range(3), threads=True) as squares:
        squares.begin(1)
        assert squares.take(1) == 1
        squares.begin(3)  # beyond the last one nothing is made
        assert squares.take(0) == 0
        squares.begin(2)
        with pytest.raises(ValueError, match="no such thing"):
            squares.take(2)


def test_draws_ahead_are_those_of_the_same_events() -> None:
    draws = Draws(Streams((5,)))
    now = draws.at(range(4))
    now.normal("noise", (3,))
    now.uniform("times")
    later = draws.ahead(range(4, 9), lambda x: x)
    assert set(later.ready) == {"noise", "times"}
    fresh = Draws(Streams((5,))).at(range(4, 9))
    assert torch.equal(later.normal("noise", (3,)), fresh.normal("noise", (3,)))
    assert torch.equal(later.uniform("times"), fresh.uniform("times"))
    assert torch.equal(later.integers("labels", 7), fresh.integers("labels", 7))  # not asked for before
