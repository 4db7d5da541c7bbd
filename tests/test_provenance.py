"""The share of generated rows in a set: right where it can be told, and not told where it cannot."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from selfloop.analysis import provenance as module
from selfloop.analysis.bearable import Bearable, Open
from selfloop.analysis.provenance import FEWEST, LIMITS, Classifier, of_sets, provenance, sentences
from selfloop.analysis.sources import read_events
from selfloop.core.errors import DataError
from studies import provenance as study

N = 400


def real(seed: int, n: int = N, d: int = 3) -> np.ndarray:
    return np.random.default_rng([0, seed]).normal(size=(n, d))


def made(seed: int, n: int = N, d: int = 3) -> np.ndarray:
    return 0.9 + np.random.default_rng([1, seed]).normal(size=(n, d))


@pytest.fixture(scope="module")
def told() -> Classifier:
    return Classifier.of(real(0), made(0))


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_the_interval_holds_the_share(share: float) -> None:
    """One draw of those of which the interval holds the share in 95 %: how often is counted by the study."""
    k = round(N * share)
    found = Classifier.of(real(100), made(100)).share(np.concatenate([real(4, N - k), made(4, k)]))
    assert found.low <= share <= found.high
    assert found.high - found.low < 0.25
    assert found.word == ("generated rows found" if share else "none found")
    assert found.detectable < 0.15
    assert found.separation > 0.8
    assert found.copies == (0, 0)
    assert LIMITS.split(":")[0] in str(found)


def test_copies_of_known_rows_are_told_by_what_they_are(told: Classifier) -> None:
    """A model that has seen a row would know it: none that has is asked."""
    assert told.share(real(0)).low == 0
    found = told.share(np.concatenate([made(0, N)[:100], real(0)[:300]]))
    assert found.low < 0.25 < found.high
    assert found.copies == (100, 300)
    assert "100 rows equal a known generated row, 300 a known real one" in str(found)
    # Copies of rows that nothing tells apart say nothing.
    alike = Classifier.of(real(0), real(2))
    assert alike.share(real(2)).word in ("cannot tell", "none found")
    assert alike.share(real(2)).high - alike.share(real(2)).low > 0.5


def test_sets_that_are_alike_cannot_be_told() -> None:
    found = provenance(real(0), real(1), made(1))
    assert found.word == "cannot tell"
    assert math.isnan(found.share)
    assert math.isnan(found.ratio[0])
    assert (found.low, found.high, found.detectable) == (0, 1, math.inf)
    assert "no better than chance" in str(found)


@pytest.mark.parametrize("shift", [-2.0, 4.0])
def test_what_is_neither_is_no_mixture(told: Classifier, shift: float) -> None:
    found = told.share(real(3) + shift)
    assert found.word == "no mixture of the two"
    assert "something else" in str(found)
    assert "next generation" not in str(found)


def test_discrete_rows() -> None:
    rng = np.random.default_rng(0)
    p0, p1 = (rng.choice(4, size=(N, 1), p=p).astype(float) for p in ([0.4, 0.3, 0.2, 0.1], [0.7, 0.2, 0.1, 0.0]))
    u = np.concatenate([p1[:200], rng.choice(4, size=(200, 1), p=[0.4, 0.3, 0.2, 0.1])])
    found = provenance(p0, p1, u)
    assert found.low <= 0.5 <= found.high
    assert found.word == "generated rows found"


def test_rounding_gives_rows_away() -> None:
    """Real rows of one decimal, generated ones of all."""
    found = provenance(real(0).round(1), real(1), np.concatenate([real(2, 300).round(1), real(3, 100)]))
    assert found.low <= 0.25 <= found.high
    assert found.low > 0


@pytest.mark.slow
def test_long_rows() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(N, 100)) * np.where(np.arange(100) < 5, 3.0, 0.3) for _ in range(3)]
    shifted = rows[1] + np.where(np.arange(100) < 5, 2.0, 0.0)
    found = provenance(rows[0], shifted, np.concatenate([rows[2][:300], shifted[:100]]))
    assert found.low <= 0.25 <= found.high


def test_large_sets_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 300)
    found = provenance(real(0), made(0), np.concatenate([real(1), made(1)]))
    assert (found.clean, found.generated, found.unknown) == (300, 300, 300)
    assert found.low <= 0.5 <= found.high


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ((real(0, FEWEST - 1), made(0), real(1)), "the real set has 49 rows of the 50"),
        ((real(0), made(0, 1), real(1)), "the generated set has 1 rows of the 50"),
        ((real(0), made(0), real(1, 0)), "the unknown set has"),
        ((real(0), made(0), real(1, d=2)), "the unknown set has 2 values an event"),
        ((real(0), made(0, d=4), real(1)), "the generated set has 4 values an event"),
        ((real(0), made(0), np.full((N, 3), np.nan)), "the unknown set has entries that are not finite"),
        ((real(0), made(0), real(1)[:, 0]), "the unknown set has shape"),
        (
            (pd.DataFrame(real(0), columns=list("abc")), pd.DataFrame(made(0), columns=list("abd")), real(1)),
            "columns are matched by name",
        ),
    ],
)
def test_sets_that_do_not_go_together(sets: tuple[Any, Any, Any], words: str) -> None:
    with pytest.raises(DataError) as error:
        provenance(*sets)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_frames_and_results(told: Classifier) -> None:
    frames = [pd.DataFrame(x, columns=list("abc")) for x in (real(0), made(0), made(1))]
    found = provenance(frames[0], frames[1][list("bca")], frames[2][list("cab")])
    assert found.high == 1
    frame = found.to_frame()
    assert frame.loc[0, "word"] == "generated rows found"
    assert found._repr_html_().startswith("<p>Generated rows found")


@pytest.mark.parametrize(
    ("ratio", "worse", "words"),
    [(2.0, None, "within what was measured"), (0.05, 0.1, "too much"), (0.3, 1.0, "is not told")],
)
def test_what_a_loop_bears(told: Classifier, ratio: float, worse: float | None, words: str) -> None:
    borne = Bearable(among="", ratio=ratio, top=False, between=(Open(ratio=0.5, at_most=1.0),), worse=worse, notes=())
    found = told.share(np.concatenate([real(1, 300), made(1, 100)]))
    assert words in str(replace(found, borne=borne))
    assert not any("loop is shown" in line for line in sentences(found))
    value, low, high = found.ratio
    assert low < 1 / 3 < high
    assert value == found.share / (1 - found.share)


def test_sets_from_files(tmp_path: Path) -> None:
    for name, x in {"real": real(0), "t1": made(0, 200), "t2": made(1, 200), "unknown": made(2)}.items():
        pd.DataFrame(x * 100 + 7, columns=list("abc")).to_csv(tmp_path / f"{name}.csv", index=False)
    clean, *generations, unknown = (read_events(str(tmp_path / f"{n}.csv")) for n in ("real", "t1", "t2", "unknown"))
    found = of_sets(clean, generations, unknown)
    assert (found.generated, found.high) == (400, 1)
    pd.DataFrame(real(0), columns=list("abx")).to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(DataError, match="columns are matched by name"):
        of_sets(clean, generations, read_events(str(tmp_path / "other.csv")))


def test_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sets = []
    for name, high in (("real", 250), ("made", 200), ("unknown", 200)):
        (tmp_path / name).mkdir()
        for i in range(60):
            Image.fromarray(rng.integers(0, high, size=(4, 4), dtype=np.uint8)).save(tmp_path / name / f"{i}.png")
        sets.append(read_events(str(tmp_path / name)))
    found = of_sets(sets[0], [sets[1]], sets[2])
    assert found.word in ("generated rows found", "cannot tell")
    assert torch.is_tensor(sets[0].x)


@pytest.mark.slow
def test_the_study_at_a_small_size(tmp_path: Path) -> None:
    kind, *_ = study.KINDS
    assert len(study.counts([kind], 2, tmp_path)) == len(study.SHARES)
    counted = study.counts([kind], 4, tmp_path)
    assert [each.share for each in counted] == list(study.SHARES)
    assert np.mean([each.covered for each in counted]) >= 0.7
    assert counted[-1].found == 1
    assert "| 0.05 |" in study.page(counted, 4)
