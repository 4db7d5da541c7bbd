"""One unit for what is compared: tables and runs by the names of their columns, in units that are said and true."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfloop import Experiment, Run, run
from selfloop.analysis.alignment import align
from selfloop.analysis.scores import scores
from selfloop.analysis.sources import EventSet, read_events
from selfloop.cli.main import main
from selfloop.core.errors import DataError
from selfloop.core.events import Images, Numbers, Vectors
from selfloop.core.events import read_events as events_of
from selfloop.data import Table, array
from selfloop.metrics import (
    authenticity,
    bootstrap_error,
    density_coverage,
    frechet,
    frechet_infinity,
    mmd,
    precision_recall,
    sliced_wasserstein,
    wasserstein,
)

METRICS = ["w2_held_out", "mean_error", "covariance_error", "sliced_w2_train", "frechet_train", "variance_ratio"]


def people(n: int, seed: int) -> np.ndarray:
    """Return ages in whole years, 0 … 99, incomes in euros, and heights in metres, (n, 3)."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, 100, n), rng.lognormal(10, 0.5, n), rng.normal(1.7, 0.1, n)], 1)


def write(path: Path, rows: np.ndarray, names: str) -> Path:
    lines = [[int(x) if x == int(x) else x for x in row] for row in rows.tolist()]
    path.write_text("\n".join([names, *(",".join(map(str, line)) for line in lines)]) + "\n")
    return path


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of one table's halves with different moments, and tables beside them."""
    here = tmp_path_factory.mktemp("units")
    for name, seed in {"a": 0, "b": 1}.items():
        rows = people(200, seed) * [1, 1 + seed, 1]
        write(here / f"{name}.csv", rows, "age,income,height")
        experiment = Experiment.build(
            {
                "name": name,
                "data": {"name": "table", "path": str(here / f"{name}.csv")},
                "generator": {"name": "gaussian"},
                "generations": 2,
                "metrics": METRICS,
            }
        )
        list(run(experiment, here / name, workers=0))
    write(here / "swapped.csv", people(90, 2)[:, [2, 0, 1]], "height,age,income")
    write(here / "same.csv", people(90, 2), "age,income,height")
    write(here / "other.csv", people(90, 2), "age,wage,height")
    write(here / "more.csv", np.concatenate([people(90, 2), people(90, 3)[:, 1:2]], 1), "age,income,height,wage")
    np.save(here / "array.npy", people(90, 2))
    rng = np.random.default_rng(5)
    for side in ((8, 8), (4, 16)):
        np.save(here / f"grey{side[0]}.npy", rng.integers(0, 256, (30, *side)).astype(np.uint8))
    write(here / "pixels.csv", rng.normal(size=(30, 64)), ",".join(f"p{i}" for i in range(64)))
    return here


@pytest.fixture
def selfloop(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in this process and return its exit code and what it printed, also to stderr."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.chdir(here)
        monkeypatch.setattr(sys, "argv", ["selfloop", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return (int(stop.value.code or 0), *capsys.readouterr())

    return call


Call = Callable[..., tuple[int, str, str]]


def restored(here: Path, name: str, t: int) -> np.ndarray:
    opened = Run.open(here / name)
    return opened.real(0).events.restore(opened.samples(t, 0)).numpy()


def values(selfloop: Call, *arguments: str) -> dict[str, Any]:
    code, out, err = selfloop("metrics", *arguments, "--only", "frechet,w2", "--json")
    assert (code, err) == (0, "")
    return {score["name"]: score for score in json.loads(out)}


# units


def test_a_table_and_a_run_are_compared_in_the_standard_deviations_of_the_table(here: Path, selfloop: Call) -> None:
    found = values(selfloop, "a.csv", "a@2")
    real, generated = people(200, 0), restored(here, "a", 2)
    mean, std = real.mean(0), real.std(0)
    assert found["w2"]["value"] == pytest.approx(wasserstein((real - mean) / std, (generated - mean) / std), rel=1e-9)
    assert found["w2"]["unit"] == "standard deviations"
    assert found["frechet"]["unit"] == "standard deviations²"
    assert found["w2"]["scaling"] == "columns standardised by the means and deviations of 'a.csv'"


def test_raw_compares_in_the_units_of_the_file(here: Path, selfloop: Call) -> None:
    found = values(selfloop, "a.csv", "a@2", "--raw")
    real, generated = people(200, 0), restored(here, "a", 2)
    assert found["w2"]["value"] == pytest.approx(wasserstein(real, generated), rel=1e-9)
    assert found["frechet"]["value"] == pytest.approx(frechet(real, generated), rel=1e-9)
    assert found["w2"]["unit"] == "data units"
    assert found["w2"]["scaling"] == "columns in the units in which they come"


def test_runs_of_other_moments_are_compared_in_the_units_of_the_real_one(here: Path, selfloop: Call) -> None:
    opened = Run.open(here / "a")
    events = opened.real(0).events
    assert isinstance(events, Vectors)
    generated = (restored(here, "b", 1) - events.shift.numpy()) / events.scale.numpy()
    found = values(selfloop, "a@train", "b@1")["w2"]
    assert found["value"] == pytest.approx(wasserstein(opened.split(0).train[0], generated), rel=1e-9)
    assert found["scaling"] == "columns scaled to standard deviations as in the run of 'a@train'"
    raw = values(selfloop, "a@train", "b@1", "--raw")["w2"]["value"]
    assert raw == pytest.approx(wasserstein(restored(here, "b", 1), events.restore(opened.split(0).train[0])), rel=1e-9)


def test_a_run_and_a_table_may_change_places(here: Path, selfloop: Call) -> None:
    events = Run.open(here / "a").real(0).events
    assert isinstance(events, Vectors)
    rows = (people(90, 2) - events.shift.numpy()) / events.scale.numpy()
    found = values(selfloop, "a@held_out", "same.csv")["w2"]["value"]
    assert found == pytest.approx(wasserstein(Run.open(here / "a").split(0).held_out[0], rows), rel=1e-9)


def test_within_a_run_scores_are_what_it_recorded(here: Path, selfloop: Call) -> None:
    record = Run.open(here / "a").records()[2]["metrics"]
    code, out, _ = selfloop("metrics", "a@train", "a@2", "--only", "sliced_w2,frechet", "--json")
    assert code == 0
    for score in json.loads(out):
        assert score["value"] == record[f"{score['name']}_train"]
        assert score["unit"] == Run.open(here / "a").metric(f"{score['name']}_train").unit


def test_arrays_have_no_columns_and_are_compared_as_they_are(here: Path, selfloop: Call) -> None:
    found = values(selfloop, "array.npy", "array.npy")["w2"]
    assert (found["value"], found["unit"]) == (0, "data units")


def test_the_table_says_units_and_what_was_done(selfloop: Call) -> None:
    code, out, err = selfloop("metrics", "a.csv", "a@2", "--only", "w2,precision")
    assert (code, err) == (0, "")
    assert "standard deviations" in out
    assert "\ncolumns standardised by the means and deviations of 'a.csv'\n" in out


def test_a_column_without_a_deviation_is_compared_raw_alone(tmp_path: Path, selfloop: Call) -> None:
    flat = write(tmp_path / "flat.csv", np.stack([np.arange(9), np.full(9, 3)], 1), "a,b")
    assert selfloop("metrics", flat, flat, "--only", "w2")[0] == 0  # as a table it is carried through
    found = read_events(str(flat))
    assert found.events.columns == ("a",)
    numbers = replace(found, x=torch.ones(4, 2), events=Vectors.unscaled(("b", "a")))  # as those of a run
    with pytest.raises(DataError, match=r"'b' never changes.*--raw"):
        align(found, numbers)
    assert align(found, numbers, raw=True).real[:, 1].tolist() == [3.0] * 9


def test_a_collapsed_table_is_compared_with_a_sound_one(tmp_path: Path, selfloop: Call) -> None:
    sound = write(tmp_path / "sound.csv", np.stack([np.arange(9), np.arange(9)], 1), "a,b")
    flat = write(tmp_path / "flat.csv", np.stack([np.arange(9), np.full(9, 4)], 1), "a,b")
    assert values(selfloop, str(sound), str(flat))["w2"]["value"] == pytest.approx(1, rel=1e-12)


@settings(max_examples=25)
@given(
    scale=st.lists(st.sampled_from([1e-9, 1e-3, 1.0, 1e4, 1e9]), min_size=3, max_size=3),
    shift=st.lists(st.floats(-10, 10), min_size=3, max_size=3),
)
def test_the_units_of_columns_do_not_matter(scale: list[float], shift: list[float]) -> None:
    def named(x: np.ndarray) -> EventSet:
        moved = torch.from_numpy((x + shift) * scale)
        return EventSet(source="t.csv", x=moved, events=Vectors.unscaled(("a", "b", "c")), kind="table")

    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(40, 3)), rng.normal(0.3, 2, size=(30, 3))
    found = align(named(real), named(generated))
    mean, std = real.mean(0), real.std(0)
    np.testing.assert_allclose(found.real, (real - mean) / std, atol=1e-9)
    np.testing.assert_allclose(found.generated, (generated - mean) / std, atol=1e-9)


def test_metrics_of_a_run_are_in_units_that_are_true(here: Path) -> None:
    units = {name: about.unit for name, about in Run.open(here / "a").metrics.items()}
    assert units == {
        "w2_held_out": "standard deviations",
        "mean_error": "standard deviations",
        "covariance_error": "standard deviations²",
        "sliced_w2_train": "standard deviations",
        "frechet_train": "standard deviations²",
        "variance_ratio": "ratio",
    }


@pytest.mark.parametrize(
    ("data", "unit", "squared"),
    [
        ({"name": "two_moons", "n": 20}, "data units", "data units²"),
        ({"name": "digits", "n": 20, "held_out": 20}, "8 grey levels", "(8 grey levels)²"),
        ({"name": "digit_images", "n": 20, "held_out": 20}, "pixel levels", "pixel levels²"),
    ],
)
def test_other_data_have_other_units(tmp_path: Path, data: dict[str, Any], unit: str, squared: str) -> None:
    images = data["name"] == "digit_images"
    net = {"channels": 8, "multipliers": [1], "blocks": 1, "attention": [], "dropout": 0.0, "group_channels": 4}
    generator = {"name": "edm", "net": net, "batch_size": 10, "steps": 2} if images else {"name": "gaussian"}
    plain = {"name": "u", "data": data, "generator": generator, "generations": 1, "metrics": METRICS[:3]}
    experiment = Experiment.build(plain | ({"budget": {"steps": 1}} if images else {}))
    list(run(experiment, tmp_path / "run", workers=0))
    found = Run.open(tmp_path / "run").metrics
    assert [found[name].unit for name in METRICS[:3]] == [unit, unit, squared]


def test_scaled_vectors_say_by_how_much_where_nothing_names_their_unit() -> None:
    zero = torch.zeros(2, dtype=torch.float64)
    assert Vectors(("a", "b"), zero, torch.full_like(zero, 9.5)).unit == "9.5 data units"
    assert Vectors(("a", "b"), zero, torch.tensor([1.0, 2.0]).double()).unit == "scaled data units"
    assert Vectors.unscaled(("a", "b")).unit == "data units"


@pytest.mark.slow
def test_a_report_names_the_units(here: Path, selfloop: Call) -> None:
    assert selfloop("report", "a")[0] == 0
    page = (here / "a" / "report" / "index.html").read_text(encoding="utf-8")
    assert "<td>standard deviations</td>" in page
    assert "<td>standard deviations²</td>" in page
    assert "data units" not in page.split("<script")[0]
    assert "<td>data units" not in page


# names


@pytest.mark.parametrize("pair", [("a.csv", "swapped.csv"), ("swapped.csv", "a@2"), ("a@train", "swapped.csv")])
def test_columns_are_matched_by_name(selfloop: Call, pair: tuple[str, str]) -> None:
    in_order = [name.replace("swapped", "same") for name in pair]
    found, wanted = values(selfloop, *pair), values(selfloop, *in_order)
    for name in found:
        assert found[name]["value"] == pytest.approx(wanted[name]["value"], rel=1e-9)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (("a.csv", "other.csv"), ["'other.csv' has the column 'wage' in place of 'income' of 'a.csv': columns are"]),
        (("other.csv", "a@1"), ["cannot be compared", "'a@1'", "'age', 'income', 'height'", "matched by name"]),
        (
            ("a@train", "other.csv"),
            ["'other.csv' has the column 'wage' in place of 'income' of 'a@train': columns are"],
        ),
        (("a.csv", "more.csv"), ["'more.csv' has the column 'wage' beside those of 'a.csv': write the file without"]),
        (("more.csv", "a.csv"), ["'a.csv' lacks the column 'wage' of 'more.csv': add", "by --leave-out wage"]),
        (("a.csv", "array.npy"), ["'x0', 'x1', 'x2'", "matched by name"]),
        (("grey8.npy", "grey4.npy"), ["8 × 8 pixels", "4 × 16 pixels"]),
        (("grey8.npy", "pixels.csv"), ["8 × 8 pixels, 1 channel", "64 values an event"]),
        (("pixels.csv", "grey4.npy"), ["4 × 16 pixels", "64 values an event"]),
        (("grey8.npy", "a@1"), ["8 × 8 pixels", "3 values an event"]),
    ],
)
def test_what_has_another_form_is_refused_by_name(selfloop: Call, pair: tuple[str, str], words: list[str]) -> None:
    code, out, err = selfloop("metrics", *pair, "--only", "w2")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    for word in words:
        assert word in err


def test_a_table_of_pixels_is_compared_with_a_run_that_has_its_columns(tmp_path: Path) -> None:
    plain = {"name": "d", "data": {"name": "digits", "n": 30, "held_out": 20}, "generator": {"name": "gaussian"}}
    list(run(Experiment.build(plain | {"generations": 1}), tmp_path / "run", workers=0))
    real = read_events(f"{tmp_path / 'run'}@train")
    rows = real.events.restore(real.x).numpy()
    table = read_events(str(write(tmp_path / "d.csv", rows, ",".join(real.events.columns))))
    found = align(real, table)
    assert torch.equal(found.real, real.x)
    torch.testing.assert_close(found.generated, real.x)


def test_pictures_of_other_sizes_are_for_networks_that_make_them_alike(here: Path) -> None:
    small, large = (read_events(str(here / name)) for name in ("grey8.npy", "grey4.npy"))
    assert align(small, large, resized=True).generated.shape == (30, 1, 4, 16)
    with pytest.raises(DataError, match="their sizes differ"):
        align(small, large)


DISTANCES: dict[str, Callable[[Any, Any], Any]] = {
    "frechet": frechet,
    "frechet_infinity": frechet_infinity,
    "bootstrap_error": bootstrap_error,
    "wasserstein": wasserstein,
    "sliced": sliced_wasserstein,
    "mmd": mmd,
    "precision_recall": precision_recall,
    "density_coverage": density_coverage,
    "authenticity": authenticity,
    "scores": lambda a, b: scores(torch.from_numpy(a), torch.from_numpy(b), names=["w2"]),
}


@pytest.mark.parametrize("name", DISTANCES)
def test_arrays_whose_events_have_other_shapes_are_refused(name: str) -> None:
    x = np.random.default_rng(0).normal(size=(24, 64))
    shapes = [(64,), (1, 64), (8, 8), (8, 8, 1), (1, 8, 8), (4, 16)]
    DISTANCES[name](x.reshape(24, 8, 8), x[::-1].reshape(24, 8, 8).copy())
    for shape in shapes[1:]:
        with pytest.raises(ValueError, match=r"real|generated|train|a has") as caught:
            DISTANCES[name](x, x.reshape(24, *shape))
        assert f"{shape}" in str(caught.value)


@pytest.mark.parametrize("name", [name for name in DISTANCES if name != "scores"])
def test_data_frames_are_matched_by_their_columns(name: str) -> None:
    rng = np.random.default_rng(0)
    a, b = (pd.DataFrame(rng.normal(size=(24, 3)) * [1, 5, 9], columns=[*"uvw"]) for _ in range(2))
    assert DISTANCES[name](a, b[[*"wuv"]]) == DISTANCES[name](a.to_numpy(), b.to_numpy())
    for other in (b.rename(columns={"w": "x"}), b.to_numpy()):
        with pytest.raises(ValueError, match=r"matched by name.*'u', 'v', 'w'"):
            DISTANCES[name](a, other)


# export


@pytest.fixture(params=["csv", "parquet"])
def typed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, pd.DataFrame]:
    """A run of a table whose columns have types and bounds, and the table."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "count": rng.integers(0, 4, 80).astype(np.int16),
            "share, %": rng.uniform(0, 100, 80).astype(np.float32),
            "year": rng.integers(1990, 2020, 80),
            "log": rng.normal(-3, 1, 80),
        }
    )
    path = tmp_path / f"t.{request.param}"
    (frame.to_csv if request.param == "csv" else frame.to_parquet)(path, index=False)
    plain = {"name": "t", "data": {"name": "table", "path": str(path)}, "generator": {"name": "gaussian"}}
    list(run(Experiment.build(plain | {"generations": 1}), tmp_path / "run", workers=0))
    path.unlink()  # a run stands alone
    return tmp_path / "run", frame


def test_samples_are_exported_as_the_table_is(typed: tuple[Path, pd.DataFrame], tmp_path: Path, selfloop: Call) -> None:
    path, frame = typed
    code, out, err = selfloop("export", path, "--csv", tmp_path / "s.csv", "--parquet", tmp_path / "s.parquet")
    assert (code, err) == (0, "")
    assert "beyond its columns' bounds" in out
    table, schema = pd.read_csv(tmp_path / "s.csv"), pq.read_schema(tmp_path / "s.parquet")
    assert [*table.columns] == [*frame.columns] == schema.names
    assert [table[name].dtype.kind for name in table] == ["i", "f", "i", "f"]
    for name in frame:
        slack = 1e-6 if name == "share, %" else 0  # float32 as decimals
        assert frame[name].min() * (1 - slack) <= table[name].min()
        assert table[name].max() <= frame[name].max() * (1 + slack)
    opened = Run.open(path)
    own = opened.real(0).events.restore(opened.samples(1, 0)).numpy()
    low, high = frame.min().to_numpy(dtype=float), frame.max().to_numpy(dtype=float)
    np.testing.assert_allclose(table["log"], own[:, 3].clip(low[3], high[3]), rtol=1e-12)
    np.testing.assert_array_equal(table["count"], np.rint(own[:, 0]).clip(low[0], high[0]))
    pd.testing.assert_frame_equal(table, pd.read_parquet(tmp_path / "s.parquet"), check_dtype=False, rtol=1e-6)


def test_parquet_keeps_the_widths_of_numbers(typed: tuple[Path, pd.DataFrame], tmp_path: Path, selfloop: Call) -> None:
    path, _ = typed
    assert selfloop("export", path, "--parquet", tmp_path / "s.parquet")[0] == 0
    types = [str(kind) for kind in pq.read_schema(tmp_path / "s.parquet").types]
    assert types in (
        ["int16", "float", "int64", "double"],
        ["int64", "double", "int64", "double"],
    )  # of Parquet, of CSV


@pytest.mark.parametrize("which", ["train", "held_out"])
def test_real_rows_come_back_as_they_were(typed: tuple[Path, pd.DataFrame], tmp_path: Path, which: str) -> None:
    path, frame = typed
    real = Run.open(path).real(0).events
    assert isinstance(real, Vectors)
    whole = (frame.to_numpy(dtype=float) - real.shift.numpy()) / real.scale.numpy()
    table = real.table(torch.from_numpy(whole))
    np.testing.assert_array_equal(table["count"], frame["count"])
    np.testing.assert_array_equal(table["year"], frame["year"])
    np.testing.assert_allclose(table["log"], frame["log"], rtol=1e-12)


def test_what_was_exported_is_compared_with_the_run(here: Path, tmp_path: Path, selfloop: Call) -> None:
    assert selfloop("export", "a", "--csv", tmp_path / "s.csv", "--generation", "train")[0] == 0
    assert values(selfloop, "a@train", str(tmp_path / "s.csv"))["w2"]["value"] == pytest.approx(0, abs=1e-12)


def test_rows_without_a_table_are_exported_as_they_are(tmp_path: Path, selfloop: Call) -> None:
    plain = {"name": "m", "data": {"name": "two_moons", "n": 20}, "generator": {"name": "gaussian"}, "generations": 1}
    list(run(Experiment.build(plain), tmp_path / "run", workers=0))
    code, out, _ = selfloop("export", tmp_path / "run", "--csv", tmp_path / "s.csv")
    assert (code, "beyond" in out) == (0, False)
    with open(tmp_path / "s.csv", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["x", "y"]
    np.testing.assert_array_equal(np.array(rows, dtype=float), Run.open(tmp_path / "run").samples(1, 0).double())


def test_an_array_of_whole_numbers_is_exported_as_one(tmp_path: Path) -> None:
    x = pd.DataFrame({"n": np.arange(9) ** 2, "m": np.linspace(0, 1, 9)})
    events = array(x).load([0]).events
    assert events.numbers == (Numbers("int64", 0.0, 64.0), Numbers("float64", 0.0, 1.0))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--png, --csv or --parquet"]),
        (["--csv", "a.csv"], ["'a.csv' is there already"]),
        (["--csv", "a.csv/s.csv"], ["cannot write"]),
        (["--png", "new"], ["there are no pictures to write", "rows.csv"]),
        (["--csv", "new.csv", "--generation", "9"], ["no 9"]),
        (["--parquet", "new.xlsx"], ["new.xlsx", "the ending must be one of .parquet"]),
        (["--csv", "new.parquet"], ["new.parquet", "the ending must be one of .csv, .tsv"]),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    selfloop: Call, here: Path, arguments: list[str], words: list[str]
) -> None:
    before = {path.name for path in here.iterdir()}
    code, out, err = selfloop("export", "a", *arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    for word in words:
        assert word in err
    assert {path.name for path in here.iterdir()} == before


def test_numbers_within_large_bounds_are_not_counted_as_beyond(tmp_path: Path) -> None:
    """float32 would round bounds such as these by dozens."""
    from selfloop.analysis.exports import write_table

    x = 1e9 + 20 + people(40, 0)[:, :1] / 100
    split = Table(path=str(write(tmp_path / "t.csv", x, "a"))).load([0])
    rows = EventSet(source="t", x=split.train[0], events=split.events, kind="table")
    assert write_table(rows, tmp_path / "s.csv", "csv") == 0
    far = EventSet(source="t", x=torch.tensor([[0.0], [9.0], [-9.0]]).double(), events=split.events, kind="table")
    assert write_table(far, tmp_path / "far.csv", "csv") == 2


def test_images_are_no_table(tmp_path: Path) -> None:
    from selfloop.analysis.exports import write_table

    images = EventSet(source="i", x=torch.zeros(2, 1, 4, 4).byte(), events=Images((1, 4, 4)), kind="pictures")
    with pytest.raises(DataError, match="use --png"):
        write_table(images, tmp_path / "s.csv", "csv")


# what a run keeps


def test_descriptions_are_no_part_of_what_data_are_known_by(tmp_path: Path) -> None:
    """A run made before there were any goes on, and its units are said by the scale alone."""
    events = Table(path=str(write(tmp_path / "t.csv", people(9, 0), "a,b,c"))).load([0]).events
    assert {"word", "numbers"}.isdisjoint(events.plain())
    again = events_of(json.loads(json.dumps(events.plain())), json.loads(json.dumps(events.description())))
    assert isinstance(again, Vectors)
    assert (again.unit, again.numbers) == ("standard deviations", events.numbers)
    before = events_of(events.plain())
    assert isinstance(before, Vectors)
    assert (before.unit, before.numbers) == ("scaled data units", ())
    assert before.plain() == events.plain()
