"""Rows set aside as fresh ones: disjoint from all others, in the permutation's order, and never more than there are."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfloop import ConfigError, DataError, Experiment, Run, Samples, mixing, run
from selfloop.arms import arms
from selfloop.core.streams import Streams
from selfloop.data import DATA, array, split_rows
from selfloop.data.base import Dataset, divide
from selfloop.data.reading.images import Pictures
from selfloop.loop import load, mix

BEFORE = {
    "digits": ("e185e019d888", "501cb499054c", "6c2304c53b68"),
    "digit_images": ("46d90eafcadf", "55cc01825c8a", "4619a75a932b"),
}
"""How the SHA-256 of both sets of the seeds 0, 1 and 7 began before rows could be set aside."""


class NewestBesideFresh(mixing.Regime):
    """Trains on new real rows alone."""

    needs = frozenset({"fresh"})
    k: int = 5

    def __call__(self, t: int, pool: mixing.Pool) -> Samples:
        return pool.fresh(self.k)


def sets(folder: Path) -> list[Any]:
    rng = np.random.default_rng(3)
    rows, images = rng.normal(size=(60, 3)), rng.integers(0, 256, (60, 4, 5, 3)).astype(np.uint8)
    np.save(folder / "rows.npy", rows)
    np.save(folder / "images.npy", images)
    counts = {"n": 20, "held_out": 10, "fresh_rows": 15}
    files = (("table", "rows.npy"), ("image_files", "images.npy"))
    return [
        *(DATA.parse({"name": name, "path": str(folder / file)} | counts) for name, file in files),
        *(DATA.parse({"name": name} | counts) for name in ("digits", "digit_images")),
        array(rows, **counts),
        array(images, **counts),
    ]


def digest(*sets: torch.Tensor) -> str:
    found = hashlib.sha256()
    for x in sets:
        found.update(f"{x.dtype} {tuple(x.shape)}".encode())
        found.update(x.contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


@pytest.mark.parametrize("name", BEFORE)
def test_sets_of_which_nothing_is_set_aside_keep_their_bits(name: str) -> None:
    split = DATA.parse({"name": name}).load([0, 1, 7])
    assert tuple(digest(split.train[r], split.held_out[r]) for r in range(3)) == BEFORE[name]
    assert split.aside is None


@given(st.data())
def test_rows_are_divided_as_by_hand(data: st.DataObject) -> None:
    total = data.draw(st.integers(4, 40))
    n, held_out = data.draw(st.integers(2, total - 1)), data.draw(st.integers(1, total - 2))
    fresh = data.draw(st.integers(0, total))
    rows = np.arange(total, dtype=np.float64)[:, None]
    if n + held_out + fresh > total:
        with pytest.raises(DataError, match=f"ten has {total} rows, fewer than n"):
            divide(rows, n, held_out, [0, 5], "ten", fresh_rows=fresh)
        return
    parts = divide(rows, n, held_out, [0, 5], "ten", fresh_rows=fresh)
    for r, order in enumerate(Streams((0, 5)).permutations("data", [total, total])):
        assert parts.train[r, :, 0].tolist() == order[:n].tolist()
        assert parts.held_out[r, :, 0].tolist() == order[n : n + held_out].tolist()
        if fresh:
            assert parts.aside is not None
            assert parts.aside[r, :, 0].tolist() == order[n + held_out : n + held_out + fresh].tolist()
    assert all(map(torch.equal, split_rows(rows, n, held_out, [0, 5], "ten"), parts[:2]))


@pytest.mark.parametrize("number", range(6))
def test_generations_share_no_row_and_setting_rows_aside_moves_no_other(tmp_path: Path, number: int) -> None:
    data: Dataset = sets(tmp_path)[number]
    split, without = data.load([0, 1]), data.model_copy(update={"fresh_rows": 0}).load([0, 1])
    assert torch.equal(split.train, without.train)
    assert torch.equal(split.held_out, without.held_out)
    assert split.aside is not None
    for r, seed in enumerate((0, 1)):
        drawn = torch.cat([data.fresh(seed, t, 5) for t in (1, 2, 3)])
        assert torch.equal(drawn, split.aside[r])
    if not isinstance(data, DATA["digits"] | DATA["digit_images"]):  # of which some are the same
        every = torch.cat([split.train[0], split.held_out[0], split.aside[0]]).flatten(1)
        assert len(torch.unique(every, dim=0)) == len(every) == 45


@pytest.mark.parametrize("number", range(6))
def test_fresh_rows_are_offered_where_there_are_some(tmp_path: Path, number: int) -> None:
    data = sets(tmp_path)[number]
    assert "fresh" in data.offers
    assert data.offers - {"fresh"} == data.model_copy(update={"fresh_rows": 0}).offers
    assert ("pixels" in data.offers) == (number in (1, 2, 3, 5))


def test_cifar10_sets_training_images_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    every = torch.arange(20, dtype=torch.uint8).view(-1, 1, 1, 1).expand(20, 3, 32, 32)
    both = (Pictures(every), Pictures(every[:4]))
    monkeypatch.setattr("selfloop.data.cifar10.read_cifar10", lambda path, labels: both)
    data = DATA.parse({"name": "cifar10", "path": "nowhere", "fresh_rows": 6})
    split, fewer = data.load([0, 1]), data.model_copy(update={"n": 9}).load([0, 1])
    for r, order in enumerate(Streams((0, 1)).permutations("data/train", [20, 20])):
        assert split.train[r, :, 0, 0, 0].tolist() == order[:14].tolist()
        assert data.fresh(r, 2, 3)[:, 0, 0, 0].tolist() == order[17:].tolist()
        assert fewer.train[r, :, 0, 0, 0].tolist() == order[:9].tolist()
        assert fewer.fresh(r, 1, 6)[:, 0, 0, 0].tolist() == order[9:15].tolist()
    assert split.held_out.shape == (2, 4, 3, 32, 32)
    assert data.extent() == ((3, 32, 32), 49_994)


def test_what_is_not_there_is_refused_in_one_line(tmp_path: Path) -> None:
    data = sets(tmp_path)[0]
    wanted = (
        "generation 3 asks for 7 fresh rows, and of the 15 set aside 1 are left: raise data.fresh_rows to 21 or more"
    )
    with pytest.raises(DataError) as caught:
        data.fresh(0, 3, 7)
    assert str(caught.value) == wanted
    with pytest.raises(DataError, match="generation 0 trains on the fixed rows"):
        data.fresh(0, 0, 7)
    with pytest.raises(DataError, match="of the 0 set aside 0 are left"):
        data.model_copy(update={"fresh_rows": 0}).fresh(0, 1, 1)
    with pytest.raises(DataError, match=r"n \+ held_out \+ fresh_rows = 20 \+ 10 \+ 31 = 61: lower n or held_out or"):
        data.model_copy(update={"fresh_rows": 31}).load([0])


def experiment(data: Any, **more: Any) -> Experiment:
    return Experiment(
        name="fresh",
        data=data,
        generator={"name": "gaussian"},
        mixing=NewestBesideFresh(),
        generations=3,
        seeds=2,
        **more,
    )


def test_a_loop_trains_on_them(tmp_path: Path) -> None:
    wanted = experiment(sets(tmp_path)[0])
    members = arms(wanted)
    split = load(members)
    for t in (1, 2, 3):
        trained = mix(members, split, t, lambda g: pytest.fail("no samples are asked for"))
        assert torch.equal(trained.x[1], wanted.data.fresh(1, t, 5).to(trained.x.dtype))
    list(run(wanted, tmp_path / "run"))
    assert all(record["n_real"] == 5 for record in Run.open(tmp_path / "run").of_generation(3))


def test_a_loop_that_runs_out_of_them_says_so(tmp_path: Path) -> None:
    wanted = experiment(sets(tmp_path)[0].model_copy(update={"fresh_rows": 12}))
    with pytest.raises(DataError, match=r"of the 12 set aside 2 are left: raise data\.fresh_rows to 15"):
        list(run(wanted, tmp_path / "run"))
    assert Run.open(tmp_path / "run").last == 2


def test_a_loop_of_data_without_them_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs fresh rows, which data \w+ does not have: set data.fresh_rows"):
        experiment(sets(tmp_path)[0].model_copy(update={"fresh_rows": 0}))


def test_a_loop_that_takes_more_than_are_set_aside_at_once_is_refused_before_the_first_fit(tmp_path: Path) -> None:
    wanted = experiment(sets(tmp_path)[0].model_copy(update={"fresh_rows": 7}))
    with pytest.raises(DataError, match=r"generation 2 asks for 5 fresh rows, and of the 7 set aside 2 are left"):
        list(run(wanted, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_an_arm_that_has_diverged_leaves_the_others_their_rows(tmp_path: Path) -> None:
    split = sets(tmp_path)[0].load([0, 1, 2]).select([0, 2])
    assert torch.equal(split.fresh(1, 1, 5), sets(tmp_path)[0].fresh(2, 1, 5))


@pytest.mark.parametrize(("n", "generations"), [(None, 3), (None, 12), (20, 3), (40, 12), (10, 3)])
@pytest.mark.parametrize("regime", ["fresh", {"name": "fresh", "k": 3.0}])
def test_what_is_advised_where_fresh_rows_run_out_can_be_done(
    tmp_path: Path, n: int | None, generations: int, regime: Any
) -> None:
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(61, 2)))
    table = {"name": "table", "path": str(tmp_path / "rows.npy"), "n": n, "held_out": 10, "fresh_rows": 5}
    asked = {
        "name": "a",
        "generator": "gaussian",
        "generations": generations,
        "mixing": regime,
        "metrics": ["mean_error"],
    }
    with pytest.raises(ConfigError) as caught:
        list(run(Experiment(**asked, data=table), tmp_path / "run"))
    found = dict(re.findall(r"data\.(n|fresh_rows) to (\d+)", str(caught.value)))
    assert found, str(caught.value)
    table |= {name: int(number) for name, number in found.items()}
    list(run(Experiment(**asked, data=table), tmp_path / "run"))
    if n == 10:
        assert found == {"fresh_rows": str(10 * generations)}
        return
    with pytest.raises((ConfigError, DataError)):  # there is no room for a row more to train on
        list(run(Experiment(**asked, data=table | {"n": table["n"] + 1}), tmp_path / "more"))


def test_too_few_rows_for_any_fresh_ones_are_said_to_be(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(30, 2)))
    table = {"name": "table", "path": str(tmp_path / "rows.npy"), "held_out": 10, "fresh_rows": 5}
    with pytest.raises(ConfigError, match="there are 20 rows for both training and them, too few; lower generations"):
        list(
            run(Experiment(name="a", data=table, generator="gaussian", generations=30, mixing="fresh"), tmp_path / "r")
        )
