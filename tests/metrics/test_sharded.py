"""Metrics of parts that are joined: the bits of one pass, or its digits."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from selfloop.core.columns import Category, Column, Number
from selfloop.core.errors import DataError
from selfloop.metrics import (
    Counts,
    Marginals,
    Moments,
    Table,
    bigram_counts,
    bigram_kl,
    density_coverage,
    frechet,
    mmd,
    precision_recall,
    shape_errors,
    sharded,
    token_counts,
    unigram_kl,
)

Doubles = NDArray[np.float64]

COLUMNS: list[Column] = [Number("x", "float64", -np.inf, np.inf), Category("word", levels=("a", "b", "c"))]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Path], Doubles, Doubles]:
    """Features in files: 2,400 in three, some of them twice, and 2,100 in one; a block has 2,048."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("features")
    real = rng.normal(size=(2400, 12)) @ rng.normal(size=(12, 12)) + 3
    real[2000:2200] = real[:200]
    made = 0.8 * rng.normal(size=(2100, 12)) @ rng.normal(size=(12, 12)) + 3
    files = [folder / f"real-{i}.npy" for i in range(3)]
    for file, part in zip(files, np.split(real, [1000, 1500]), strict=True):
        np.save(file, part)
    np.save(folder / "made.npy", made)
    return files, [folder / "made.npy"], real, made


def expected(real: Doubles, made: Doubles) -> dict[str, float]:
    shares, density = precision_recall(real, made, 4, "reference"), density_coverage(real, made, 5)
    return {
        "frechet": frechet(real, made),
        "kid": mmd(real, made),
        "precision": shares.precision,
        "recall": shares.recall,
        "density": density.density,
        "coverage": density.coverage,
    }


@pytest.mark.slow
def test_spans_of_files_make_what_arrays_make(sets: tuple[list[Path], list[Path], Doubles, Doubles]) -> None:
    files, made_files, real, made = sets
    one, found = expected(real, made), sharded(files, made_files, blocks=1)
    for name in ("precision", "recall", "density", "coverage"):
        assert found[name] == one[name]
    assert found["frechet"] == pytest.approx(one["frechet"], rel=1e-12)
    assert found["kid"] == pytest.approx(one["kid"], rel=1e-10)
    assert sharded(files, made_files, ["coverage"]) == {"coverage": one["coverage"]}


@pytest.mark.slow
def test_another_process_makes_the_same_bits(sets: tuple[list[Path], list[Path], Doubles, Doubles]) -> None:
    files, made_files, *_ = sets
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert sharded(files, made_files, map=pool.imap, blocks=1) == sharded(files, made_files, blocks=1)


def test_files_that_are_no_features_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "words.npy", np.array([["a", "b"]]))
    (tmp_path / "torn.npy").write_bytes(b"\x93NUMPY\x01\x00")
    np.save(tmp_path / "objects.npy", np.array([[{}]]), allow_pickle=True)
    np.savez(tmp_path / "archive.npz", np.zeros((3, 2)))
    np.save(tmp_path / "rows.npy", np.zeros((3, 2)))
    rows = tmp_path / "rows.npy"
    for name, words in {
        "words.npy": "holds text (1, 2)",
        "torn.npy": "cannot be read as .npy",
        "objects.npy": "cannot be read as .npy",
        "archive.npz": "holds an archive",
        "none.npy": "cannot be read as .npy",
    }.items():
        with pytest.raises(DataError, match=name) as raised:
            sharded([tmp_path / name], [rows])
        assert words in str(raised.value)
    with pytest.raises(ValueError, match="'fid' is not one of frechet, kid"):
        sharded([rows], [rows], ["fid"])
    with pytest.raises(ValueError, match=r"real must be a list of one file or more, not 'rows\.npy'"):
        sharded("rows.npy", [rows])
    with pytest.raises(ValueError, match=r"generated must be a list of one file or more, not \[\]"):
        sharded([rows], [])
    with pytest.raises(ValueError, match=r"names must be a list, as \['kid'\]"):
        sharded([rows], [rows], "kid")
    with pytest.raises(ValueError, match="none has a neighbour number 5"):
        sharded([rows], [rows], ["recall"])


values = arrays(np.float64, st.integers(1, 30), elements=st.sampled_from([-1.5, 0.0, 0.25, 2.0, np.nan]))


@given(values, values, values)
def test_tables_that_come_in_parts(a: Doubles, b: Doubles, c: Doubles) -> None:
    def table(x: Doubles) -> Table:
        words = np.array(["abcd"[int(v * 4) % 4] if v == v else None for v in x], dtype=object)
        return Table.of({"x": x, "word": words}, COLUMNS)

    real, first, second = (table(x) for x in (a, b, c))
    joined = Marginals.of(first) + Marginals.of(second)
    assert shape_errors(real, joined) == shape_errors(real, first.joined(second))
    assert shape_errors(Marginals.of(real), joined) == shape_errors(real, first.joined(second))


rows = arrays(np.int64, st.tuples(st.integers(1, 10), st.just(4)), elements=st.integers(0, 5))


@given(rows, rows, rows)
def test_texts_that_come_in_parts(a: NDArray[np.int64], b: NDArray[np.int64], c: NDArray[np.int64]) -> None:
    whole = np.concatenate([b, c])
    assert unigram_kl(a, token_counts(b) + token_counts(c)) == unigram_kl(a, whole)
    assert bigram_kl(bigram_counts(b) + bigram_counts(c), a) == bigram_kl(whole, a)


def test_counts_of_other_things_are_refused() -> None:
    x = np.array([[1, 2, 1, 2]])
    with pytest.raises(ValueError, match="counts of tokens stand where those of pairs of tokens are wanted"):
        bigram_kl(token_counts(x), bigram_counts(x))
    with pytest.raises(ValueError, match="counts of tokens stand where those of pairs of tokens are wanted"):
        token_counts(x) + bigram_counts(x)


def test_counts_of_nothing() -> None:
    none = Counts.of(np.array([], np.int64))
    assert (none + none).total == 0
    assert none.at(np.array([1, 2])).tolist() == [0, 0]
    assert (none + Counts.of(np.array([2, 2]))).at(np.array([1, 2])).tolist() == [0, 2]


def test_moments_of_parts_far_from_the_origin() -> None:
    x = 1e6 + np.random.default_rng(0).normal(size=(3000, 5))
    parts = Moments.of(x[:10]) + Moments.of(x[10:2000]) + Moments.of(x[2000:])
    np.testing.assert_allclose(parts.covariance, np.cov(x.T), rtol=1e-9, atol=1e-12)
