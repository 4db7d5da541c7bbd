"""Held-out rows of the user's own: as they are, in the columns and units of those to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from selfloop import ConfigError, DataError, Experiment, Run, RunError, run
from selfloop.core.config import file_settings
from selfloop.core.streams import Streams
from selfloop.data import DATA, Table, array
from selfloop.data.reading.tables import read_rows

RNG = np.random.default_rng(11)
TRAIN = RNG.normal([3, -40], [1, 20], size=(50, 2))
OTHERS = RNG.normal(size=(9, 2))
IMAGES = RNG.integers(0, 256, (30, 4, 5)).astype(np.uint8)
OTHER_IMAGES = RNG.integers(0, 256, (7, 4, 5)).astype(np.uint8)


def csv(path: Path, rows: np.ndarray, names: str) -> str:
    lines = [names, *(",".join(map(repr, row)) for row in rows.tolist())]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(
        path=csv(tmp_path / "train.csv", TRAIN, "a,b"),
        held_out_path=csv(tmp_path / "test.csv", OTHERS[:, ::-1], "b,a"),
    )


def test_they_are_matched_by_name_and_standardised_as_those_to_train_on(table: Table) -> None:
    split = table.load([0, 1])
    scaled = (OTHERS - TRAIN.mean(0)) / TRAIN.std(0)
    assert np.array_equal(split.held_out.numpy(), np.stack([scaled, scaled]))
    np.testing.assert_allclose(split.restore(split.held_out[1]), OTHERS, rtol=1e-12)
    for r, order in enumerate(Streams((0, 1)).permutations("data", [50, 50])):
        assert np.array_equal(split.train[r], ((TRAIN - TRAIN.mean(0)) / TRAIN.std(0))[order])


def test_n_and_rows_set_aside_are_of_the_file_to_train_on(table: Table) -> None:
    split = table.model_copy(update={"n": 45, "fresh_rows": 5}).load([0])
    assert split.train.shape == (1, 45, 2)
    assert split.aside is not None
    assert split.aside.shape == (1, 5, 2)
    assert split.held_out.shape == (1, 9, 2)
    with pytest.raises(
        DataError, match=r"has 50 rows, fewer than n \+ fresh_rows = 46 \+ 5 = 51: lower n or fresh_rows"
    ):
        table.model_copy(update={"n": 46, "fresh_rows": 5}).load([0])
    with pytest.raises(DataError, match=r"has 50 rows, fewer than n = 51: lower n$"):
        table.model_copy(update={"n": 51}).load([0])


def test_held_out_takes_as_many_of_them_by_the_seed(table: Table) -> None:
    split, every = table.model_copy(update={"held_out": 4}).load([0, 1]), table.load([0])
    for r, order in enumerate(Streams((0, 1)).permutations("data/held_out", [9, 9])):
        assert torch.equal(split.held_out[r], every.held_out[0][torch.from_numpy(order[:4])])
    with pytest.raises(DataError, match="held_out is 10, and there are 9 rows to hold out"):
        table.model_copy(update={"held_out": 10}).load([0])


def test_columns_are_chosen_from_both_files(tmp_path: Path, table: Table) -> None:
    table = table.model_copy(update={"columns": ["b"]})
    assert table.load([0]).held_out.shape == (1, 9, 1)
    assert np.array_equal(read_rows(str(table.held_out_path), ["b"]).values[:, 0], OTHERS[:, 1])


def test_one_row_is_enough_to_hold_out(tmp_path: Path, table: Table) -> None:
    one = csv(tmp_path / "one.csv", OTHERS[:1], "a,b")
    assert table.model_copy(update={"held_out_path": one}).load([0]).held_out.shape == (1, 1, 2)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("a,c", "has no column 'b'; it has 'a', 'c'"),
        ("a,b,c", "has a column 'c', which the rows to train on do not have"),
    ],
)
def test_other_columns_are_refused(tmp_path: Path, table: Table, names: str, words: str) -> None:
    rows = np.concatenate([OTHERS, OTHERS[:, :1]], 1)[:, : len(names.split(","))]
    path = csv(tmp_path / "other.csv", rows, names)
    with pytest.raises(DataError) as caught:
        table.model_copy(update={"held_out_path": path}).load([0])
    assert words in str(caught.value)
    assert "other.csv" in str(caught.value)


def test_the_file_to_train_on_is_none_to_hold_out(table: Table) -> None:
    for name in ("table", "image_files"):
        with pytest.raises(ConfigError, match=r"^data: held_out_path is the file to train on: name another") as caught:
            experiment({"name": name, "path": table.path, "held_out_path": table.path})
        assert "\n" not in str(caught.value)


def experiment(data: Any, generations: int = 1) -> Experiment:
    return Experiment(name="held", data=data, generator={"name": "gaussian"}, generations=generations)


def test_where_the_files_lie_is_nothing_that_lasts(table: Table) -> None:
    assert file_settings(table) == ["path", "held_out_path"]
    assert {"path", "held_out_path"}.isdisjoint(experiment(table).lasting()["data"])


def test_a_run_measures_against_them(tmp_path: Path, table: Table) -> None:
    list(run(experiment(table), tmp_path / "run"))
    split = Run.open(tmp_path / "run").split(0)
    np.testing.assert_allclose(split.restore(split.held_out[0]), OTHERS, rtol=1e-12)


@pytest.mark.parametrize("setting", ["path", "held_out_path"])
def test_a_run_does_not_go_on_with_other_rows(tmp_path: Path, table: Table, setting: str) -> None:
    list(run(experiment(table), tmp_path / "run"))
    moved = Path(getattr(table, setting)).rename(tmp_path / "moved.csv")
    table = table.model_copy(update={setting: str(moved)})
    assert len(list(run(experiment(table, generations=2), tmp_path / "run"))) == 1
    table = table.model_copy(update={setting: csv(tmp_path / "other.csv", TRAIN + 1, "a,b")})
    with pytest.raises(RunError, match="was run on other data"):
        list(run(experiment(table, generations=3), tmp_path / "run"))


def test_images_are_held_out_of_another_file(tmp_path: Path) -> None:
    np.save(tmp_path / "train.npy", IMAGES)
    np.save(tmp_path / "test.npy", OTHER_IMAGES)
    paths = {"path": str(tmp_path / "train.npy"), "held_out_path": str(tmp_path / "test.npy")}
    data = DATA.parse({"name": "image_files"} | paths)
    split = data.load([0, 1])
    assert np.array_equal(split.held_out[1, :, 0], OTHER_IMAGES)
    assert split.train.shape == (2, 30, 1, 4, 5)
    assert data.extent() == ((1, 4, 5), 30)
    assert data.model_copy(update={"held_out": 3, "n": 10}).load([0]).held_out.shape == (1, 3, 1, 4, 5)
    np.save(tmp_path / "test.npy", OTHER_IMAGES[:, :3])
    with pytest.raises(DataError, match=r"test.npy' holds images \(1, 3, 5\), those to train on \(1, 4, 5\)"):
        data.load([0])
    (tmp_path / "test.npy").unlink()
    with pytest.raises(DataError, match=r"does not exist: set data\.held_out_path"):
        data.load([0])


def test_arrays_are_held_out_of_others() -> None:
    split = array(TRAIN, held_out=OTHERS).load([0])
    assert np.array_equal(split.held_out[0], (OTHERS - TRAIN.mean(0)) / TRAIN.std(0))
    assert np.array_equal(array(IMAGES, held_out=OTHER_IMAGES).load([0]).held_out[0, :, 0], OTHER_IMAGES)
    fewer = array(TRAIN, held_out=OTHERS).model_copy(update={"held_out": 2}).load([0])
    assert fewer.held_out.shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("x", "held_out", "words"),
    [
        (TRAIN, OTHERS[:, :1], "held_out has no column 'x1'; it has 'x0'"),
        (TRAIN, IMAGES, "held_out holds images, and those to train on are rows of numbers"),
        (IMAGES, OTHERS, "held_out holds rows of 2 numbers, and those to train on are images (1, 4, 5)"),
        (IMAGES, IMAGES[:, :2], "held_out holds images (1, 2, 5), and those to train on are images (1, 4, 5)"),
        (TRAIN, TRAIN[:0], "held_out (0, 2) has 0 rows; it needs 1"),
        (TRAIN, "rows", "held_out is a str: give a NumPy array"),
    ],
)
def test_arrays_unlike_those_to_train_on_are_refused(x: Any, held_out: Any, words: str) -> None:
    with pytest.raises(DataError) as caught:
        array(x, held_out=held_out)
    assert str(caught.value).startswith(words)


def test_an_array_is_not_held_out_of_itself() -> None:
    with pytest.raises(ConfigError, match="held_out holds the rows to train on"):
        array(TRAIN, held_out=TRAIN.copy())
