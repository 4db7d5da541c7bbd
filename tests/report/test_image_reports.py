"""Runs of images, grey and in colour: on disk as bytes, in the report as pictures, and out again as files."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from selfloop import Experiment, Run, RunError, run
from selfloop.analysis.sources import of_run, read_events
from selfloop.cli.main import main
from selfloop.report import read, write_report
from selfloop.report.page import _pictures

GREY, COLOUR = "grey", "colour"


def plan(data: dict[str, Any], **changes: Any) -> Experiment:
    """Return two λ of a network as small as they come, in 2 generations of 2 steps."""
    net = {"channels": 8, "multipliers": [1], "blocks": 1, "attention": [], "dropout": 0.0, "group_channels": 4}
    settings = {
        "name": "images",
        "data": data,
        "generator": {"name": "edm", "net": net, "batch_size": 10, "steps": 2},
        "generations": 2,
        "budget": {"steps": 2},
        "grid": {"mixing.lam": [0.5, "inf"]},
        "metrics": ["variance_ratio", "mean_error"],
    }
    return Experiment.build(settings | changes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs of grey and of colour images, and one that has diverged."""
    folder = tmp_path_factory.mktemp("images")
    pictures = np.random.default_rng(0).integers(256, size=(24, 8, 8, 3), dtype=np.uint8)
    pictures[..., 2] = 0
    np.save(folder / "pictures.npy", pictures)
    files = {"name": "image_files", "path": str(folder / "pictures.npy"), "side": 8, "held_out": 4}
    digits = {"name": "digit_images", "n": 20, "held_out": 10}
    list(run(plan(digits), folder / GREY))
    list(run(plan(files), folder / COLOUR))
    mad = plan(digits).generator.model_dump() | {"optimizer": {"learning_rate": 1e18, "ramp": None}}
    list(run(plan(digits, generator=mad, budget={"steps": 4}), folder / "diverged"))
    return folder


def unpacked(uri: str) -> np.ndarray:
    """Return the pixels (height, width, 3) of a picture in the page."""
    content = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


@pytest.mark.parametrize(("name", "event"), [(GREY, (1, 8, 8)), (COLOUR, (3, 8, 8))])
def test_samples_are_kept_as_bytes(runs: Path, name: str, event: tuple[int, ...]) -> None:
    for t in range(3):
        tensors = load_file(runs / name / f"generation-{t:04d}" / "samples-000.safetensors")
        assert tensors["x"].dtype == torch.uint8
        assert tensors["x"].shape == (1, 20, *event)
    opened = Run.open(runs / name)
    opened.verify()
    assert all(0 < record["metrics"]["variance_ratio"] < 10 for record in opened.records())


@pytest.mark.slow
@pytest.mark.parametrize("name", [GREY, COLOUR])
def test_the_report_shows_images_of_several_generations_side_by_side(runs: Path, name: str) -> None:
    opened = Run.open(runs / name)
    shown = _pictures(opened, read(opened), 3)
    assert shown["kinds"] == ["images"]
    assert shown["axes"] == ["", ""]
    assert [frame["t"] for frame in shown["frames"]] == [0, 1, 2]
    sets = {(0, 0): (shown["real"][0], opened.split(0).train[0])}
    sets |= {
        (frame["t"] + 1, arm): (uri, opened.samples(frame["t"], arm))
        for frame in shown["frames"]
        for arm, uri in enumerate(frame["pictures"])
    }
    for uri, images in sets.values():
        picture = unpacked(uri)
        for k in (0, 1, 9):
            row, column = 9 * (k // 8), 9 * (k % 8)
            tile = picture[row : row + 8, column : column + 8]
            assert np.abs(tile - images[k].permute(1, 2, 0).numpy().astype(int)).mean() < 8  # palettes of 64 colours
    page = write_report(opened).read_text(encoding="utf-8")
    assert all(uri in page for uri, _ in sets.values())
    assert (runs / name / "report" / "samples.png").stat().st_size > 0


def test_colours_stay_colours(runs: Path) -> None:
    opened = Run.open(runs / COLOUR)
    picture = unpacked(_pictures(opened, read(opened), 1)["real"][0])
    tile = picture[:8, :8].astype(int)
    assert tile[..., 2].max() < 16
    assert np.abs(tile[..., 0] - tile[..., 1]).mean() > 30


def test_sources_are_the_bytes_of_the_run(runs: Path) -> None:
    for name in (GREY, COLOUR):
        opened = Run.open(runs / name)
        assert torch.equal(read_events(f"{runs / name}@2/1").x, opened.samples(2, 1))
        assert torch.equal(read_events(f"{runs / name}@held_out").x, opened.split(0).held_out[0])


@pytest.fixture
def command(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Call the command line in this process, in the folder of the runs; return its code and what it printed."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(runs)
        monkeypatch.setattr(sys, "argv", ["selfloop", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        return (int(stop.value.code or 0), *capsys.readouterr())

    return call


@pytest.mark.slow
def test_metrics_of_a_run_of_images(command: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = command("metrics", f"{COLOUR}@train", f"{COLOUR}@2", "--only", "frechet,kid,sliced_w2,w1")
    assert code == 0
    assert err.startswith("selfloop: features: ")  # which were chosen, as none were named
    assert err.count("\n") == 1
    assert "20 events against 20" in " ".join(out.split())


def test_an_empty_directory_may_be_filled(runs: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    (runs / "empty").mkdir()
    code, _, err = command("export", COLOUR, "--generation", "held_out", "--png", "empty", "--arm", "1")
    assert (code, err) == (0, "")
    assert torch.equal(read_events(str(runs / "empty")).x, of_run(runs / COLOUR, "held_out", 1).x)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([GREY, "--arm", "2"], "has the arms 0 to 1, no 2"),
        ([GREY, "--generation", "3"], "has the generations 0 to 2, no 3"),
        ([GREY, "--generation", "-1"], "'-1' is no generation of 'grey': give a number, train or held_out"),
        ([GREY, "--generation", "test"], "'test' is no generation"),
        (["diverged", "--generation", "0"], "arm 0 of 'diverged' has diverged by generation 0"),
        (["nowhere"], "not a run directory"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(
    runs: Path, command: Callable[..., tuple[int, str, str]], arguments: list[str], words: str
) -> None:
    code, out, err = command("export", *arguments, "--png", "refused")
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.splitlines()) == 1
    assert not (runs / "refused").exists()
    assert not list(runs.glob(".refused*"))


def test_a_diverged_run_of_images_is_reported(runs: Path) -> None:
    opened = Run.open(runs / "diverged")
    assert {record["status"] for record in opened.records()} == {"diverged"}
    tensors = load_file(runs / "diverged" / "generation-0000" / "samples-000.safetensors")
    assert tensors["x"].dtype == torch.uint8
    assert tensors["count"].tolist() == [0]
    assert "diverged" in write_report(opened).read_text(encoding="utf-8")
    with pytest.raises(RunError, match="has diverged"):
        of_run(runs / "diverged", "2", 1)
