"""The file with which an experiment is begun: it fits the data, and runs as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import Nursery
from PIL import Image

from selfloop import Experiment, run
from selfloop.core.errors import DataError
from selfloop.starter import starter


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = np.random.default_rng(0)
    numbers, kinds = rng.random((40, 2)), rng.integers(0, 3, 40)
    rows = [f"{a:.3f},{'xyz'[kind]},{b:.2f}" for (a, b), kind in zip(numbers, kinds, strict=True)]
    (tmp_path / "rows, mine.csv").write_text("\n".join(["a,kind,b", *rows]) + "\n")
    (tmp_path / "words.txt").write_text("\n".join(f"line {i} of words" for i in range(60)) + "\n")
    (tmp_path / "pictures").mkdir()
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "pictures" / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "target", "holds"),
    [
        (None, None, "vectors"),
        ("rows, mine.csv", None, "vectors"),
        ("rows, mine.csv", "kind", "vectors"),
        ("words.txt", None, "text"),
        ("pictures", None, "images"),
    ],
)
def test_it_is_of_the_data_and_runs(data: str | None, target: str | None, holds: str, folder: Path) -> None:
    text = starter("begun", None if data is None else Path(data), target)
    experiment = Experiment.parse(text)
    assert experiment.data.holds == holds
    assert experiment.data.predicted() == target
    less = ["generations=1", "seeds=1", "grid={mixing.lam: [1]}"]
    less += ["pretrain={steps: 1}", "budget={steps: 1}", "generator.steps=2"] if holds == "images" else []
    assert [generation.t for generation in run(experiment.override(*less), folder / "run")] == [0, 1]


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(DataError, match=r"'none\.csv' does not exist"):
        starter("begun", Path("none.csv"))


def test_a_target_that_is_no_column_is_said(folder: Path) -> None:
    with pytest.raises(DataError, match="has no column 'size', the target; it has 'a', 'kind', 'b'"):
        starter("begun", Path("rows, mine.csv"), "size")


def test_the_command_writes_it_once(nest: Nursery, folder: Path) -> None:
    done = nest.command("init", "--data", "rows, mine.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert Experiment.load(folder / "rows, mine.yaml").name == "rows-mine"
    again = nest.command("init", "--data", "rows, mine.csv", cwd=folder)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    below = nest.command("init", "sub/other.yaml", "--data", "words.txt", cwd=folder)
    assert below.returncode == 0, below.stderr
    assert Experiment.load(folder / "sub" / "other.yaml").data.path == str(folder / "words.txt")


def test_a_column_that_numbers_the_rows_is_left_out(folder: Path, nest: Nursery) -> None:
    lines = (folder / "rows, mine.csv").read_text().splitlines()
    (folder / "people.csv").write_text("\n".join([f"id,{lines[0]}", *(f"{i},{x}" for i, x in enumerate(lines[1:], 1))]))
    assert '\n# Left out: "id", as every row' in starter("begun", Path("people.csv"))
    assert Experiment.parse(starter("begun", Path("people.csv"))).data.leave_out == ["id"]
    with pytest.raises(DataError, match=r"it numbers the rows; leave the column out \(--leave-out id\)"):
        Experiment.parse(starter("begun", Path("people.csv"), leave_out=["a"])).data.load([0])
    found = nest.command("init", "--data", "people.csv", "--leave-out", "id", cwd=folder)
    assert found.returncode == 0, found.stderr
    experiment = Experiment.load(str(folder / "people.yaml"))
    assert [name.partition("=")[0] for name in experiment.data.load([0]).events.columns][:2] == ["a", "kind"]
    (folder / "said.csv").write_text("\n".join(["age,said", *(f"{i % 7},they said {i} times" for i in range(40))]))
    refused = nest.command("init", "--data", "said.csv", cwd=folder)
    assert refused.stderr.strip().endswith("it names the rows; leave the column out (--leave-out said)")
    refused = nest.command("init", "--leave-out", "id", cwd=folder)
    assert refused.stderr.strip().endswith("--leave-out is a column of a table: name that by --data")


def test_a_file_of_any_name_gives_an_experiment_a_name_that_it_may_have(folder: Path, nest: Nursery) -> None:
    lines = (folder / "rows, mine.csv").read_text()
    for name, called in (("meine Läufe ü", "meine-Laufe-u"), ("表", "experiment")):
        (folder / f"{name}.csv").write_text(lines)
        found = nest.command("init", "--data", f"{name}.csv", cwd=folder)
        assert found.returncode == 0, found.stderr
        assert Experiment.load(str(folder / f"{name}.yaml")).name == called
