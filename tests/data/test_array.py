"""Arrays, tensors and frames as data: the bits of a table, kept with the run, and refused where they are no data."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import Nursery, ended, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from selfloop import ConfigError, DataError, Experiment, Run, RunError, Samples, SelfloopError, judge, mixing, run
from selfloop.data import DATA, Array, ImageArray, Table, array, kept

RNG = np.random.default_rng(5)
ROWS = RNG.normal([3, -40, 1e6], [1, 20, 0.5], size=(40, 3))
IMAGES = RNG.integers(0, 256, (20, 6, 5, 3)).astype(np.uint8)
NET = {"channels": 16, "multipliers": [1], "blocks": 1, "attention": [2], "dropout": 0.0}


def experiment(data: Any, **more: Any) -> Experiment:
    of = {"name": "arrays", "generator": {"name": "gaussian"}, "generations": 3, "seeds": 2}
    return Experiment(data=data, **of | {"grid": {"mixing.lam": [0.5, "inf"]}} | more)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what this process was given, as another one would not know it."""
    monkeypatch.setattr(kept, "_HELD", {})
    monkeypatch.setattr(kept, "_FOLDERS", {})


# what is taken


@pytest.mark.slow
@settings(deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.uint8]),
        st.tuples(st.integers(3, 12), st.integers(1, 3)),
        elements=st.integers(0, 100),
    ).filter(lambda x: bool((x.min(0) < x.max(0)).all())),
    st.integers(0, 5),
)
def test_an_array_gives_the_bits_of_the_table_that_holds_it(
    tmp_path_factory: pytest.TempPathFactory, rows: np.ndarray, seed: int
) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.npy"
    np.save(path, rows)
    counts = {"n": 2, "held_out": 1} if len(rows) > 5 else {}
    table, given_ = Table(path=str(path), **counts).load([seed, seed + 1]), array(rows, **counts).load([seed, seed + 1])
    assert table.train.numpy().tobytes() == given_.train.numpy().tobytes()
    assert table.held_out.numpy().tobytes() == given_.held_out.numpy().tobytes()
    assert table.events.plain() == given_.events.plain()


@pytest.mark.parametrize(
    "same",
    [
        np.asfortranarray(ROWS),
        torch.from_numpy(ROWS),
        torch.from_numpy(ROWS).requires_grad_(),
        ROWS.astype(np.longdouble),
        np.ma.MaskedArray(ROWS),
        pd.DataFrame(ROWS, columns=["x0", "x1", "x2"]),
        pd.DataFrame(ROWS, columns=["x0", "x1", "x2"], index=[datetime.date(2024, 1, 1)] * len(ROWS)),
    ],
)
def test_the_same_rows_are_the_same_data(same: Any) -> None:
    assert experiment(same).data == array(ROWS)


def test_numbers_of_other_types_are_taken() -> None:
    half = torch.from_numpy(ROWS[:, :2]).bfloat16()
    assert torch.equal(array(half).rows(), half.double())
    frame = pd.DataFrame({"a": pd.array([1, 2, 3], "Int64"), "b": np.float32([1, 2, 4]), 3: [2**53, 0, 1]})
    assert array(frame).columns == ["a", "b", "3"]
    assert array(frame).rows().tolist() == [[1, 1, 2**53], [2, 2, 0], [3, 4, 1]]


def test_columns_have_names() -> None:
    assert array(ROWS).columns == ["x0", "x1", "x2"]
    assert array(ROWS, columns=["a", "b", "c"]).load([0]).events.columns == ("a", "b", "c")


def test_images_are_taken_with_their_channels_first_or_last() -> None:
    first, grey = IMAGES.transpose(0, 3, 1, 2), IMAGES[..., 0]
    for same in (IMAGES, first, torch.from_numpy(IMAGES)):
        assert np.array_equal(array(same).rows(), first)
    for same in (grey, grey[:, None], grey[..., None]):
        assert np.array_equal(array(same).rows(), grey[:, None])
    data = array(IMAGES)
    split = data.load([0])
    assert isinstance(data, ImageArray)
    assert (split.train.shape, split.train.dtype) == ((1, 18, 3, 6, 5), torch.uint8)
    assert (data.extent(), data.holds, data.offers) == (((3, 6, 5), 18), "images", {"pixels"})


def test_what_becomes_of_the_array_afterwards_does_not_matter() -> None:
    rows, images = ROWS.copy(), IMAGES.copy()
    data = [array(rows), array(images)]
    before = [each.load([0]).train.clone() for each in data]
    rows[:], images[:] = 0, 0
    assert all(torch.equal(each.load([0]).train, train) for each, train in zip(data, before, strict=True))


# what is refused


def frame(column: Any) -> pd.DataFrame:
    return pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": column})


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (np.where(ROWS[4, 1] == ROWS, np.nan, ROWS), "array (40, 3), row 5, column 'x1': the value is missing (NaN)"),
        (np.where(ROWS[4, 1] == ROWS, -np.inf, ROWS), "array (40, 3), row 5, column 'x1': the value is infinite"),
        (ROWS.astype(object), "array (40, 3) holds objects: give whole"),
        (ROWS > 0, "array (40, 3) holds truth values: give whole"),
        (ROWS * 1j, "array (40, 3) holds complex numbers: give whole"),
        (torch.from_numpy(ROWS) * 1j, "array (40, 3) holds complex numbers: give whole"),
        (ROWS[:, 0], "array (40,) of float64 has no shape that data have: rows of numbers are (N, d)"),
        (ROWS[:, :0], "array (40, 0) of float64 has no shape that data have"),
        (IMAGES.astype(float), "array (20, 6, 5, 3) of float64 has no shape that data have"),
        (ROWS[:2], "array (2, 3) has 2 rows; it needs 3, 2 to train on and 1 to hold out"),
        (ROWS * [1, 0, 1], "array (40, 3): column 'x1' never changes and has no scale"),
        (np.array([[1], [2], [2**53 + 2]]), "array (3, 1), column 'x0' holds whole numbers beyond 2^53"),
        (np.array([[1], [2], [-(2**63)]]), "array (3, 1), column 'x0' holds whole numbers beyond 2^53"),
        (np.ma.MaskedArray(ROWS, ROWS > 0), "array (40, 3) is masked"),
        (IMAGES[:2], "array (2, 6, 5, 3) has 2 images; it needs 3"),
        (IMAGES[..., :2], "array (20, 6, 5, 2) of uint8 has no shape that images have"),
        (IMAGES[:, :3], "array (20, 3, 5, 3) of uint8 may have its channels first or last"),
        (IMAGES[:, :0], "array (20, 0, 5, 3) of uint8 has no shape that images have"),
        (frame(["x", "y", "z"]), "array (3, 2), column 'b': each of its 3 rows has a value of its own, such as 'x'"),
        (frame([1, "x", 3]), "array (3, 2), row 2, column 'b': 'x' is str, and values above are int"),
        (frame([[1], [2], [3]]), "array (3, 2), column 'b': values of 'list<item: int64>' are neither numbers"),
        (frame([1, 2, 2**60]), "array (3, 2), column 'b' holds whole numbers beyond 2^53"),
        (frame([1, 2, 3]).set_axis(["a", "a"], axis=1), "array (3, 2): column 'a' is named twice"),
        (frame([1, 2, 3]).set_axis(["a", ""], axis=1), "array (3, 2): a column has no name"),
        (frame([1, 2, 3])[[]], "array (3, 0) has no columns"),
    ],
)
def test_what_is_no_data_is_refused_in_one_line(x: Any, words: str) -> None:
    with pytest.raises(DataError) as caught:
        experiment(x)
    assert str(caught.value).startswith(words), caught.value
    assert str(caught.value).isprintable()


def test_settings_out_of_range_are_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^n: must be greater than or equal to 2, not 1$"):
        array(ROWS, n=1)
    with pytest.raises(DataError, match=r"\(40, 3\) has 3 columns, and columns names 2"):
        array(ROWS, columns=["a", "b"])
    with pytest.raises(DataError, match="holds images, which have no columns"):
        array(IMAGES, columns=["a", "b"])
    with pytest.raises(DataError, match="array is a list: give a NumPy array"):
        array([[1, 2]])
    with pytest.raises(ConfigError, match=r"^data: Series is no data: give a name, settings with one, an arr"):
        experiment(pd.Series([1, 2, 3]))
    with pytest.raises(DataError, match=r"^array \(40, 3\) has 40 rows, fewer than n \+ held_out = 39 \+ 2 = 41"):
        array(ROWS, n=39, held_out=2).load([0])


@pytest.mark.slow
def test_pandas_is_not_needed_for_arrays() -> None:
    code = (
        "import sys, numpy, selfloop.data; sys.modules['pandas'] = None;"
        "print(selfloop.data.array(numpy.eye(4)).load([0]).train.shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "torch.Size([1, 3, 4])\n"


# runs


def test_settings_are_plain_and_say_what_the_rows_are(tmp_path: Path) -> None:
    wanted = experiment(array(ROWS, held_out=ROWS[:7] + 1, n=12, fresh_rows=3))
    assert Experiment.parse(wanted.yaml()) == wanted
    about = wanted.model_dump()["data"]
    assert (about["name"], about["shape"], about["dtype"], about["n"]) == ("array", [40, 3], "float64", 12)
    assert about["sha256"] == kept.digest(torch.from_numpy(ROWS)) != about["held_out_sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("data", [array(ROWS), array(ROWS, held_out=ROWS[:9] + 1, fresh_rows=2)])
def test_a_run_is_that_of_the_table(tmp_path: Path, data: Array) -> None:
    np.save(tmp_path / "rows.npy", ROWS)
    np.save(tmp_path / "others.npy", ROWS[:9] + 1)
    others = str(tmp_path / "others.npy") if data.held_out_sha256 else None
    table = Table(path=str(tmp_path / "rows.npy"), held_out_path=others, fresh_rows=data.fresh_rows)
    for name, each in (("array", data), ("table", table)):
        list(run(experiment(each), tmp_path / name))
    ours, theirs = Run.open(tmp_path / "array"), Run.open(tmp_path / "table")
    assert ours.records() == theirs.records()
    assert all(torch.equal(ours.samples(3, arm), theirs.samples(3, arm)) for arm in range(4))


def test_a_run_has_the_rows_in_the_user_s_units(tmp_path: Path) -> None:
    data = array(ROWS, held_out=ROWS[:9] + 1)
    list(run(experiment(data), tmp_path / "run"))
    for key, rows in ((data.sha256, ROWS), (data.held_out_sha256, ROWS[:9] + 1)):
        assert np.array_equal(kept._read(tmp_path / "run" / f"data-{key[:16]}.safetensors", key), rows)


@pytest.mark.slow
@pytest.mark.usefixtures("shared_workers")
def test_workers_find_the_rows_and_change_no_bit(tmp_path: Path) -> None:
    wanted = experiment(ROWS, generator={"name": "otcfm", "width": 4, "batch_size": 16}, budget={"steps": 2})
    for workers in (0, 2):
        list(run(wanted, tmp_path / str(workers), workers=workers))
    assert snapshot(tmp_path / "0") == snapshot(tmp_path / "2")


@pytest.mark.slow
@pytest.mark.parametrize("x", [ROWS, IMAGES])
def test_a_killed_run_goes_on_where_the_array_is_not(tmp_path: Path, nest: Nursery, x: np.ndarray) -> None:
    out, whole = tmp_path / "run", tmp_path / "whole"
    images = {
        "generator": {"name": "otcfm_images", "net": NET, "batch_size": 8},
        "budget": {"steps": 1},
        "metrics": ["mean_error"],
        "features": {"name": "identity"},
    }
    wanted = experiment(x, **(images | {"generations": 2, "seeds": 1, "grid": {}} if x is IMAGES else {}))
    list(run(wanted, whole))
    for generation in (going := run(wanted, out)):
        if generation.t == 1:
            going.close()
    assert Run.open(out).last == 1
    assert ended(nest.run(wanted, out)), "a process that was never given the array"
    assert snapshot(out) == snapshot(whole)
    os.rename(out, moved := tmp_path / "elsewhere")
    code = f"from selfloop import Run; r = Run.open({str(moved)!r}); r.verify(); print(r.split(0).train.shape[1])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == Run.open(whole).split(0).train.shape[1]


class Refusing(mixing.Regime):
    """A regime that cannot be run."""

    def __call__(self, t: int, pool: mixing.Pool) -> Samples:
        raise ConfigError("no")


def test_nothing_is_left_of_a_run_that_cannot_be_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^no \(asked before the first fit, with real rows in place of samples\)$"):
        list(run(experiment(ROWS, mixing=Refusing(), grid={}), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("torn", [False, True])
def test_a_directory_that_was_killed_while_it_was_made_is_begun_anew(tmp_path: Path, torn: bool) -> None:
    wanted = experiment(ROWS, generations=1, seeds=1, grid={})
    list(run(wanted, whole := tmp_path / "whole"))
    (data,) = whole.glob("data-*")
    made = ["metrics.jsonl", data.name, "real.safetensors", "environment.json", "experiment.yaml"]
    for count, following in enumerate(made):
        (out := tmp_path / f"run-{count}").mkdir()
        for name in made[:count]:
            (out / name).write_bytes(b"" if name == "metrics.jsonl" else (whole / name).read_bytes())
        if torn:
            content = (whole / following).read_bytes()
            (out / f".{following}.tmp").write_bytes(content[: len(content) // 2])
        list(run(wanted, out))
        assert snapshot(out) == snapshot(whole)


def test_rows_of_a_run_begin_another_one(tmp_path: Path, elsewhere: None) -> None:
    list(run(experiment(ROWS), tmp_path / "first"))
    kept._HELD.clear()
    kept._FOLDERS.clear()
    list(run(Experiment.load(str(tmp_path / "first" / "experiment.yaml")), tmp_path / "second"))
    assert snapshot(tmp_path / "first") == snapshot(tmp_path / "second")


def test_rows_that_are_nowhere_are_named(tmp_path: Path, elsewhere: None) -> None:
    data = array(ROWS)
    list(run(experiment(data), tmp_path / "run"))
    (tmp_path / "run" / f"data-{data.sha256[:16]}.safetensors").unlink()
    kept._HELD.clear()
    opened = Run.open(tmp_path / "run")
    assert opened.real(0).n == 32
    with pytest.raises(DataError) as caught:
        opened.split(0)
    file = f"data-{data.sha256[:16]}.safetensors"
    assert str(caught.value) == (
        f"array (40, 3) is not here: give the same one again, or put {file} back into the run directory"
    )
    with pytest.raises(RunError, match=f"{file}' is missing"):
        opened.verify()
    with pytest.raises(DataError, match="is not here"):
        list(run(opened.experiment.model_copy(update={"generations": 4}), tmp_path / "run"))
    list(run(experiment(ROWS, generations=4), tmp_path / "run"))
    opened.verify()


@pytest.mark.parametrize("how", ["damaged", "another's"])
def test_a_file_of_other_rows_is_never_used(tmp_path: Path, elsewhere: None, how: str) -> None:
    data, other = array(ROWS), array(ROWS + 1)
    for name, each in (("run", data), ("other", other)):
        list(run(experiment(each), tmp_path / name))
    path = tmp_path / "run" / kept.file_name(data.sha256)
    there = tmp_path / "other" / kept.file_name(other.sha256)
    path.write_bytes(there.read_bytes() if how == "another's" else path.read_bytes()[:-1] + b"\xff")
    kept._HELD.clear()
    kept._read.cache_clear()
    words = "holds other rows" if how == "another's" else "is damaged"
    with pytest.raises(DataError, match=words):
        Run.open(tmp_path / "run").split(0)


def test_another_array_is_another_experiment(tmp_path: Path) -> None:
    list(run(experiment(ROWS), tmp_path / "run"))
    with pytest.raises(RunError, match=r"holds another experiment: there data\.sha256 is "):
        list(run(experiment(ROWS + 1, generations=4), tmp_path / "run"))


def test_arms_may_differ_in_their_arrays(tmp_path: Path) -> None:
    both = experiment(ROWS, grid={"data": [ROWS, ROWS[:20], {"name": "gaussian", "dim": 3}]}, seeds=1, generations=1)
    list(run(both, tmp_path / "run"))
    opened = Run.open(tmp_path / "run")
    assert [opened.real(arm).n for arm in range(3)] == [32, 16, 1000]
    assert len(list((tmp_path / "run").glob("data-*.safetensors"))) == 2


def test_what_another_experiment_left_is_gone(tmp_path: Path) -> None:
    list(run(experiment(ROWS), tmp_path / "other"))
    (out := tmp_path / "run").mkdir()
    leftover = next((tmp_path / "other").glob("data-*"))
    (out / leftover.name).write_bytes(leftover.read_bytes())
    (out / ".data-0123.safetensors.tmp").write_bytes(b"half")
    list(run(experiment({"name": "gaussian", "n": 9}, generations=1), out))
    assert not [*out.glob("data-*"), *out.glob(".data-*")]
    assert DATA.name_of(Run.open(out).experiment.data) == "gaussian"


@pytest.mark.parametrize(
    "texts", [["ab", "c"], ("ab", "c"), np.array(["ab", "c"]), np.array(["ab", "c"], object), pd.Series(["ab", "c"])]
)
def test_strings_are_refused_with_how_text_is_read(texts: Any) -> None:
    words = r"strings.*: text is read from files: write one a line to a \.txt"
    real, names = np.zeros((9, 2)) + np.arange(9)[:, None], ["ab", "c"]
    calls: list[Callable[[], object]] = [
        lambda: array(texts),
        lambda: array(real, held_out=texts),
        lambda: Experiment(name="x", data=texts, generator="ngram", generations=1),
        lambda: judge(texts, [real, real]),
        lambda: judge(real, [names, names]),
    ]
    for call in calls:
        with pytest.raises(SelfloopError, match=words):
            call()
