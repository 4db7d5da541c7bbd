"""A path that begins with ~ begins at home, wherever a user may write one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selfloop import DataError, Experiment, Run, run
from selfloop.cli.main import main
from selfloop.core.paths import cache, expanded
from selfloop.data import Table
from selfloop.features.classifier import Classifier
from selfloop.interop import read_checkpoint
from selfloop.trackers.lines import Lines

ROWS = np.random.default_rng(0).normal(size=(40, 2))
CONFIG = """
name: t
data: {name: table, path: ~/t.csv}
generator: {name: gaussian}
generations: 1
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with a table and an experiment, which is not the working directory."""
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path / "elsewhere")
    np.savetxt(home / "t.csv", ROWS, delimiter=",", header="a,b", comments="")
    (home / "t.yaml").write_text(CONFIG)
    return home


Call = Callable[..., str]


@pytest.fixture
def selfloop(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command in this process, which must exit with 0, and return what it prints."""

    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["selfloop", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        assert (int(stop.value.code or 0), err) == (0, "")
        return out

    return call


def test_a_leading_tilde_is_home_and_no_other_one(home: Path) -> None:
    assert expanded("~/a") == home / "a"
    assert expanded("a/~/b") == Path("a/~/b")
    assert expanded("~no-user-of-this-name/a") == Path("~no-user-of-this-name/a")
    assert expanded(Path("~")) == home


@pytest.mark.slow
def test_commands(home: Path, selfloop: Call) -> None:
    selfloop("run", "~/t.yaml", "--out=~/runs/t", "--workers=0", "--track={name: lines, path: ~/lines.jsonl}")
    assert (home / "runs" / "t" / "report" / "index.html").is_file()
    assert (home / "lines.jsonl").is_file()
    assert "finished" in selfloop("run", "~/t.yaml", "--out", "~/runs/t", "--workers=0", "--set", "data.path=~/t.csv")
    assert "index.html" in selfloop("report", "~/runs/t")
    assert "1/1" in selfloop("ls", "~/runs")
    selfloop("stability", "~/runs/t")
    assert "against 40" in selfloop("metrics", "~/t.csv", "~/runs/t@1", "--only", "w2")
    selfloop("export", "~/runs/t", "--csv=~/s.csv", "--parquet", "~/s.parquet")
    assert {"s.csv", "s.parquet"} <= {path.name for path in home.iterdir()}
    assert not [*Path.cwd().iterdir()]


def test_checkpoints_of_others(home: Path) -> None:
    (home / "no.pt").write_text("none")
    with pytest.raises(DataError, match=r"^((?!does not exist).)*$"):
        read_checkpoint("~/no.pt")


def test_settings(home: Path) -> None:
    assert Table(path="~/t.csv").path == str(home / "t.csv")
    (home / "child.yaml").write_text("extends: ~/t.yaml\nname: child\n")
    assert Experiment.load("~/child.yaml").name == "child"
    Lines(path="~/lines.jsonl").generation(0, [])
    assert (home / "lines.jsonl").is_file()


def test_in_a_program(home: Path) -> None:
    list(run(Experiment.load("~/t.yaml"), "~/run", workers=0))
    assert Run.open("~/run").last == 1
    assert not [*Path.cwd().iterdir()]


def test_features_and_their_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFLOOP_CACHE", "~/cache")
    assert cache() == home / "cache"
    x = np.random.default_rng(0).integers(0, 256, (12, 8, 8)).astype(np.uint8)
    np.savez(home / "labelled.npz", x=x, y=np.arange(12) % 2)
    assert Classifier(labelled="~/labelled.npz").key()


def test_pictures(home: Path, selfloop: Call) -> None:
    (home / "grey").mkdir()
    for i, level in enumerate(np.linspace(0, 255, 4).astype(np.uint8)):
        Image.fromarray(np.full((4, 4), level)).save(home / "grey" / f"{i}.png")
    assert "against 4" in selfloop("metrics", "~/grey", "~/grey", "--only", "w2")
