"""``make gpu-check`` on the CPU: its stages' parts, their time limits, and what they need."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.gpu import __main__ as check
from benchmarks.gpu import agreement, cases, needs, throughput, toys
from benchmarks.gpu.place import Place, rounding
from benchmarks.gpu.rows import Row, add, read, table
from benchmarks.images import Case
from selfloop.generators.images import Size

TINY = Case(8, Size(channels=16, multipliers=(1,), blocks=1, attention=(8,), dropout=0.0), batch=2, steps=1, rounds=1)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.at("cpu", "x", tmp_path, 600, tmp_path / "none")


def found(place: Place) -> list[Row]:
    return read(place.out / "results.jsonl")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert check.main(["--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("gpu-check needs a GPU: device 'cuda' cannot be used here: ")
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_all_that_is_not_installed_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "pyproject.toml"
    named = ["numpy>=2", "no_such.thing>=1", "another-missing[extra]", "POT>=0.9", "other; sys_platform == 'x'"]
    project.write_text(f'[project]\nname = "selfloop"\ndependencies = {json.dumps(named)}\n')
    assert needs.missing(project) == ["another-missing", "no-such-thing"]
    assert needs.missing(check.ROOT / "pyproject.toml") == []
    monkeypatch.setattr(check, "missing", lambda _: ["selfloop", "pydantic"])
    assert check.main(["--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("gpu-check: not installed: selfloop, pydantic; bring their wheels: ")
    assert said.count("\n") == 1


def test_rows_are_kept_as_they_come_and_shown_as_a_table(tmp_path: Path) -> None:
    rows = [
        Row(stage="b", what="a | b", value=1234.5, unit="images/s", ratio=1.5, share=0.51, note="two\nlines"),
        Row(stage="a", what="c", good=False),
    ]
    for row in rows:
        add(tmp_path / "lines", row)
    with (tmp_path / "lines").open("a") as file:
        file.write('{"stage": "c", "wh')  # the process was ended here
    assert read(tmp_path / "lines") == rows
    assert table(rows).splitlines()[2:] == [
        "| b | a / b | 1234 images/s | 1.50 | 51% |  | two lines |",
        "| a | c |  |  |  | **fail** |  |",
    ]


@pytest.mark.slow
def test_a_stage_that_hangs_is_cut_off_and_one_that_fails_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = SimpleNamespace(device="cpu", out=tmp_path, data=tmp_path)
    lines = tmp_path / "results.jsonl"
    script = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(script))
    for words, expected in (("sleep 60 & sleep 60", "cut off after"), ("echo oh; exit 3", "ended with 3: oh")):
        script.write_text(f"#!/bin/sh\n{words}\n")
        script.chmod(0o755)
        begun = time.monotonic()
        check._run(check.STAGES[0], options, 1.0, lines)
        assert time.monotonic() - begun < 20
        assert expected in read(lines)[-1].note
    assert [row.good for row in read(lines)] == [None, False]


def test_the_stages_share_the_time_and_the_last_takes_what_is_left() -> None:
    assert sum(stage.share for stage in check.STAGES) == pytest.approx(1)
    assert [stage.name for stage in check.STAGES] == list("abcdef")


def fails() -> None:
    raise RuntimeError("no kernel\n  for this")


@pytest.mark.parametrize(
    ("part", "note"),
    [
        (fails, "RuntimeError: no kernel for this"),
        (lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("x")), "not enough memory of the device"),
    ],
)
def test_a_part_that_fails_is_a_row_and_not_the_end(place: Place, part: Callable[[], object], note: str) -> None:
    place.attempt("part", part)
    assert [(row.what, row.note) for row in found(place)] == [("part", note)]


def test_what_there_is_no_time_for_is_left_out(tmp_path: Path) -> None:
    place = Place.at("cpu", "x", tmp_path, -1, tmp_path)
    place.attempt("part", fails)
    assert found(place)[0].note.startswith("left out")


def test_flags_of_torch_are_put_back() -> None:
    def flags() -> tuple[bool, ...]:
        backends = torch.backends
        return backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32, backends.cudnn.benchmark

    before = flags()
    with rounding(tf32=not before[0], search=True):
        assert flags() == (not before[0], not before[0], True)
    assert flags() == before


def test_networks_fits_and_samples_agree_with_themselves(place: Place) -> None:
    generator = cases.families(place)["EDM"]
    agreement._network(place, "network", generator)
    agreement._fit(place, "fit", generator)
    agreement._samples(place, "samples", generator)
    agreement._reduced(place, "reduced", "bfloat16")
    assert [row.good for row in found(place)] == [True] * 4


def test_a_network_that_computes_something_else_fails(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = cases.families(place)["EDM"]
    network, calls = type(generator).network, iter(range(9))
    monkeypatch.setattr(
        type(generator),
        "network",
        lambda self, params, *others: network(
            self, {k: v * (1 + 0.01 * next(calls)) if k == "stem.weight" else v for k, v in params.items()}, *others
        ),
    )
    agreement._network(place, "network", generator)
    assert found(place)[-1].good is False


def test_steps_are_timed_beside_plain_modules(place: Place) -> None:
    compared = throughput._Compared(place, cases.Named("tiny", TINY))
    compared.plain("float32, eager", {}, tf32=False, reference=True)
    compared.ours("float32", {}, tf32=False, search=False)
    compared.ours("no such precision", {"precision": "float8"}, tf32=False, search=False)
    compared.alone()
    rows = found(place)
    assert rows[0].ratio == 1.0
    assert all(row.value and row.ratio and row.share for row in rows[:2])
    assert "ValidationError" in rows[2].note
    assert "there is no GPU" in rows[-1].note


def test_the_batch_is_halved_until_there_is_memory_for_it(place: Place) -> None:
    def step(case: Case) -> float:
        if case.batch > 32:
            raise torch.OutOfMemoryError("x")
        return 1.0

    compared = throughput._Compared(place, cases.Named("large", Case(8, TINY.net, 128, steps=1, rounds=1)))
    assert compared._of_a_batch_that_fits(step)[0].batch == 32


def test_a_step_is_three_passes_through_the_products_and_convolutions() -> None:
    # The middle's and the up-going blocks' convolutions of 16 × 16 × 3 × 3 alone, 2 each, and both passes backwards.
    least = 3 * 2 * (2 * 2 + 2 * 2) * 16 * 16 * 9 * 64 * TINY.batch
    assert least < cases.step_flops(TINY) < 5 * least


def test_toy_arms_are_timed_whole_and_in_parts(place: Place) -> None:
    toys._compared(place, 2)
    assert found(place)[0].ratio == 1.0
    assert all(row.value and row.value > 0 for row in found(place))
    assert len(found(place)) == 4
