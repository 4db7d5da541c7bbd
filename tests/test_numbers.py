"""Which bits are the same where (docs/numbers.md): random numbers always, all of a run on one kind of processor."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import threadpoolctl
import torch
from helpers import small, snapshot, tiny

import selfloop.environment
from selfloop import Experiment, Run, RunError, run
from selfloop.core.files import read_sealed, write_sealed
from selfloop.core.streams import Streams
from selfloop.data.toy import TwoMoons
from selfloop.engines.device import Checkpoint
from selfloop.store.admission import moved
from selfloop.theory.gaussian_loop import gaussian_loop
from studies import machines


def digest(x: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()[:16]


def test_streams_draw_these_numbers() -> None:
    """On any machine. If another NumPy draws others (it promises none), runs are no longer those of before."""
    streams = Streams((0, 1), 3)
    assert hashlib.blake2b(b"0/3/noise/0", digest_size=16).hexdigest() == "1a51d25b71e81ac53d299080d89466c3"
    assert streams.uniform("noise", (2,)).tolist() == [
        [0.9793014526367188, 0.6918988823890686],
        [0.31422317028045654, 0.6532803177833557],
    ]
    assert streams.normal("noise", (1,), dtype=torch.float64).tolist() == [[1.0410092743722403], [0.19104965701953458]]
    assert streams.integers("noise", 1000, (5,)).tolist() == [[979, 691, 421, 105, 608], [314, 653, 737, 114, 103]]
    assert [p.tolist() for p in streams.permutations("noise", [6, 5])] == [[4, 3, 1, 0, 2, 5], [4, 1, 3, 0, 2]]
    assert streams.of_model(2).uniform("noise", (1,), index=7).tolist() == [[0.2406940460205078], [0.6664245128631592]]
    many = (200_000,)
    assert digest(streams.normal("many", many)) == "03679efd896de9f3"
    assert digest(streams.normal("many", many, dtype=torch.float64)) == "5edf9e7850c34cc6"
    assert digest(streams.uniform("many", many)) == "5bb09c3fa5a4e14c"
    assert digest(streams.integers("many", 1000, many)) == "dc1926a9f657a150"
    assert digest(np.concatenate(streams.permutations("many", [100_000, 99_999]))) == "c708bc32a5e7bc15"


class TestThreads:
    @pytest.mark.parametrize("threads", [2, 4])
    def test_of_the_caller_change_no_bit(self, tmp_path: Path, threads: int) -> None:
        found = []
        before = torch.get_num_threads()
        for count in (1, threads):
            torch.set_num_threads(count)
            try:
                with threadpoolctl.threadpool_limits(count):
                    for plan in (small(generations=2), mixture()):
                        list(run(plan, tmp_path / f"{plan.name}-{count}"))
                    *_, last = gaussian_loop(np.zeros(3), np.eye(3), n=20, generations=5, replicas=100)
            finally:
                torch.set_num_threads(before)
            found.append(
                [snapshot(tmp_path / f"{name}-{count}") for name in ("small", "mixture")] + [digest(last.mean)]
            )
        assert found[0] == found[1]

    @pytest.mark.slow
    def test_of_one_process_or_several_change_no_bit(self, tmp_path: Path) -> None:
        for workers in (0, 1, 2):
            list(run(small(generations=2), tmp_path / str(workers), workers=workers))
        assert snapshot(tmp_path / "0") == snapshot(tmp_path / "1") == snapshot(tmp_path / "2")


def mixture() -> Experiment:
    """Return a mixture of scikit-learn's, whose k-means has threads of its own."""
    generator = {"name": "estimator", "estimator": "GaussianMixture", "arguments": {"n_components": 4}}
    data = {"name": "two_moons", "n": 600, "held_out": 100}
    return Experiment.build({"name": "mixture", "data": data, "generator": generator, "generations": 2})


LOOPS = ("gaussian", "text: ngram", "otcfm")


def apart(out: Path, machine: str, loop: str) -> machines.Apart:
    one, other = (Run.open(out / machines.slug(name) / machines.slug(loop)) for name in (machines.PLAIN, machine))
    return machines.apart(one, other)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variables that imitate processors are of x86")
def test_on_another_processor(tmp_path: Path) -> None:
    """What docs/numbers.md promises, on a processor that has neither AVX nor fused multiplication and addition."""
    for machine in (machines.PLAIN, "old"):
        (tmp_path / "words.txt").write_text(machines.words(), encoding="utf-8")
        machines.on(machine, tmp_path, LOOPS)
    numbers = [torch.load(tmp_path / machines.slug(m) / "drawn.pt", weights_only=True) for m in (machines.PLAIN, "old")]
    assert all(numbers[0][key].equal(numbers[1][key]) for key in numbers[0])
    probes = [json.loads((tmp_path / machines.slug(m) / "probe.json").read_text()) for m in (machines.PLAIN, "old")]
    assert probes[0] != probes[1]
    found = {loop: apart(tmp_path, "old", loop) for loop in LOOPS}
    assert all(each.real for each in found.values())
    for each in found.values():
        assert each.first <= machines.BOUND
    assert apart(tmp_path, "old", "text: ngram").samples == 0


def test_differences() -> None:
    assert machines.of_numbers(1.0, 1.0) == 0
    assert machines.of_numbers(2.0, 1.0) == 0.5
    assert machines.of_numbers(math.nan, 1.0) == math.inf
    assert machines.of_numbers(None, 1.0) == math.inf
    assert machines.of_tensors(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])) == pytest.approx(0.1)
    assert machines.of_tensors(torch.zeros(2), torch.zeros(3)) == math.inf


class TestARunThatGoesOnElsewhere:
    def test_says_so_and_keeps_what_is_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        said: list[str] = []
        for generations in (1, 2):
            list(run(tiny(generations=generations), tmp_path / "run", notice=said.append))
        assert not said
        before = snapshot(tmp_path / "run")
        here = selfloop.environment.processor()
        monkeypatch.setattr(selfloop.environment, "processor", lambda: here | {"cpu": "haswell", "torch": "AVX2"})
        list(run(tiny(generations=3), tmp_path / "run", notice=said.append))
        assert said == [
            f"was begun elsewhere (processor.cpu {here['cpu']}, here haswell; processor.torch "
            f"{here['torch']}, here AVX2): bits may differ from here on"
        ]
        assert said[0] in (tmp_path / "run" / "log.txt").read_text()
        after = snapshot(tmp_path / "run")
        assert all(
            after[name] == content for name, content in before.items() if name.endswith("samples-000.safetensors")
        )
        assert Run.open(tmp_path / "run").environment["processor"] == here

    def test_says_so_of_a_fit_before_the_first_commit(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        plan, said = small(generations=1), list[str]()
        with monkeypatch.context() as patch:
            write = Checkpoint.write

            def dies(self: Checkpoint, tensors: dict[str, torch.Tensor]) -> None:
                write(self, tensors)
                raise KeyboardInterrupt

            patch.setattr(Checkpoint, "write", dies)
            with pytest.raises(KeyboardInterrupt):
                list(run(plan, tmp_path / "run", save_every=0.0))
        here = selfloop.environment.processor()
        monkeypatch.setattr(selfloop.environment, "processor", lambda: here | {"cpu": "haswell"})
        list(run(plan, tmp_path / "run", notice=said.append))
        assert [line.split(";")[0] for line in said] == [
            f"was begun elsewhere (processor.cpu {here['cpu']}, here haswell): bits may differ from here on"
        ]

    def test_does_not_where_an_earlier_version_recorded_no_processor(self, tmp_path: Path) -> None:
        list(run(tiny(generations=1), tmp_path / "run"))
        environment = read_sealed(tmp_path / "run" / "environment.json")
        del environment["processor"]
        write_sealed(tmp_path / "run" / "environment.json", environment)
        said: list[str] = []
        list(run(tiny(generations=2), tmp_path / "run", notice=said.append))
        assert not said

    def test_whose_rows_are_rounded_otherwise_there_is_told_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        list(run(tiny(generations=1), tmp_path / "run"))
        here, draw = selfloop.environment.processor(), TwoMoons.draw
        monkeypatch.setattr(TwoMoons, "draw", lambda *given: np.nextafter(draw(*given), 9))
        with pytest.raises(RunError, match="asked for; put them back"):
            list(run(tiny(generations=2), tmp_path / "run"))
        monkeypatch.setattr(selfloop.environment, "processor", lambda: here | {"cpu": "haswell"})
        words = rf"rounded otherwise here than where they were drawn \(processor.cpu {here['cpu']}, here haswell\)"
        with pytest.raises(RunError, match=words):
            list(run(tiny(generations=2), tmp_path / "run"))

    def test_names_libraries(self) -> None:
        before = {"python": "3.11.7", "libraries": {"torch": "2.6.0", "numpy": "2.0.0"}, "code": {}}
        now = {"python": "3.11.7", "libraries": {"torch": "2.7.0", "numpy": "2.0.0"}, "code": {"metric mine": {}}}
        assert moved(before, now) == (
            "was begun elsewhere (libraries.torch 2.6.0, here 2.7.0): bits may differ from here on"
        )
        assert not moved(before, before)
