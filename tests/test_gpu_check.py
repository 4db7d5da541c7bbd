"""``make gpu-check`` on the CPU, with a network of the smallest size."""

from __future__ import annotations

import pytest
import torch

from benchmarks import gpu
from benchmarks.images import STREAMS, Case
from selfloop.engines.team import Team
from selfloop.generators.images import Size

TINY = Case(8, Size(channels=16, multipliers=(1,), blocks=1, attention=(8,), dropout=0.0), batch=2, steps=1, rounds=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line(capsys) -> None:
    assert gpu.main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("gpu-check needs a GPU: device 'cuda' cannot be used here: ")
    assert said.err.count("\n") == 1


def test_networks_are_compared_and_timed() -> None:
    device = torch.device("cpu")
    state = TINY.generator().init((3, 8, 8), STREAMS)
    checks = [gpu.same_as_cpu(TINY, device, state)]
    checks += gpu.throughput(TINY, Team(device), state, "float32", steps=1)
    assert [check.good for check in checks] == [True, None, None, None]
    lines = gpu.table(checks).splitlines()
    assert lines[0] == "| check | | found |"
    assert all(line.count("|") == 4 for line in lines[1:])
    assert "images/s" in lines[3]


def test_a_step_is_three_passes_through_the_products_and_convolutions() -> None:
    state = TINY.generator().init((3, 8, 8), STREAMS)
    # The middle's and the up-going blocks' convolutions of 16 × 16 × 3 × 3 alone, 2 each, and both passes backwards.
    least = 3 * 2 * (2 * 2 + 2 * 2) * 16 * 16 * 9 * 64 * TINY.batch
    assert least < gpu.step_flops(TINY, state) < 5 * least
