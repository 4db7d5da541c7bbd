"""Names of files become generations 0, 1, 2, …, in order, or are refused by name."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfloop.analysis.sequences import Arrivals, common_name, sequences
from selfloop.core.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> list[str]:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    return list(names)


TWELVE = [f"g/gen_{t}.csv" for t in range(12)]


@pytest.mark.parametrize(
    "words", [["g/gen_{t}.csv"], ["g/gen_*.csv"], ["g/*"], ["g"], ["*/gen_{t}.csv"], sorted(TWELVE)]
)
def test_twelve_is_after_two(words: list[str]) -> None:
    touch(*TWELVE)
    assert sequences(words) == {0: TWELVE}


def test_zeros_before_numbers_and_a_first_number_that_is_not_zero() -> None:
    names = touch(*(f"{t:03d}.npy" for t in range(8, 12)))
    assert sequences(["{t}.npy"]) == sequences(["*.npy"]) == {0: names}


def test_folders_and_zips_are_generations() -> None:
    touch(*(f"pictures/{t}/a.png" for t in range(3)))
    assert sequences(["pictures"]) == sequences(["pictures/{t}"]) == {0: [f"pictures/{t}" for t in range(3)]}
    assert sequences(["pictures/1"]) == {0: ["pictures/1"]}  # which holds pictures, and so is one


def test_names_that_differ_in_several_numbers_are_in_the_order_of_all() -> None:
    names = touch("d/2024-01-09.csv", "d/2024-01-10.csv", "d/2025-01-01.csv")
    assert sequences(["d"]) == sequences(["d/*.csv"]) == {0: names}


def test_names_that_do_not_tell_are_in_the_order_given() -> None:
    names = touch("start.csv", "second.csv", "a.csv")
    assert sequences(names) == {0: names}


def test_repetitions_are_known_by_their_number_wherever_it_stands() -> None:
    touch(*(f"run{s}/gen_{t}-{s}.csv" for s in (3, 10) for t in range(2)), "run4/gen_0-3.csv")
    found = sequences(["run{s}/gen_{t}-{s}.csv"])
    assert found == {s: [f"run{s}/gen_{t}-{s}.csv" for t in range(2)] for s in (3, 10)}


def test_names_with_characters_of_globs_are_names() -> None:
    names = touch("a[0].csv", "a[1].csv")
    assert sequences(names) == sequences(["a[{t}].csv"]) == {0: names}


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20, unique=True), st.randoms(use_true_random=False))
def test_generations_come_by_number_in_whatever_order_they_are_named(numbers: list[int], rng: random.Random) -> None:
    first, step = min(numbers), 3
    ordered = [f"x{first + step * i}.csv" for i in range(len(numbers))]
    words = touch(*ordered)
    rng.shuffle(words)
    assert sequences(words, every=step) == {0: ordered}


@pytest.mark.parametrize(("every", "left"), [(1, [0, 1, 2, 3, 4, 5]), (2, [0, 2, 4]), (3, [0, 3]), (7, [0])])
def test_every(every: int, left: list[int]) -> None:
    touch(*(f"gen_{t}.csv" for t in range(6)))
    assert sequences(["gen_{t}.csv"], every=every) == {0: [f"gen_{t}.csv" for t in left]}


@pytest.mark.parametrize(
    ("names", "words", "line"),
    [
        (["g_0.csv", "g_1.csv", "g_3.csv"], ["g_{t}.csv"], r"2 is missing between 'g_1.csv' and 'g_3.csv': make it"),
        (["g_0.csv", "g_5.csv", "g_10.csv"], ["*.csv"], "1 is missing .* say --every 5"),
        (["g_1.csv", "g_01.csv", "g_0.csv"], ["*.csv"], "1 is there twice, as 'g_01.csv' and as 'g_1.csv'"),
        (["g_0.csv", "final.csv"], ["*.csv"], "not named alike"),
        (["d/g_0.csv", "d/real.csv"], ["d"], "not named alike"),
        ([], ["g_{t}.csv"], "'g_{t}.csv' matches no file"),
        ([], ["g_*.csv"], r"'g_\*.csv' matches no file"),
        (["g_0.csv"], ["g_{s}.csv"], "has no {t}"),
        (["g_0.csv"], ["g_{t}.csv", "g_0.csv"], "is a pattern, and stands for all"),
        (["d/readme.rst"], ["d"], "'d' holds no generation but 'readme.rst'"),
        ([], [], "no generation is named"),
        (["r1/0.csv", "r1/1.csv", "r2/0.csv"], ["r{s}/{t}.csv"], "repetition 1 has 2 .* 2 1: .*'r1/1.csv'"),
    ],
)
def test_what_is_no_sequence_is_refused_by_name(names: list[str], words: list[str], line: str) -> None:
    touch(*names)
    with pytest.raises(DataError, match=line):
        sequences(words)


@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("gen_%d.csv", "gen_{t}.csv"),
        ("gen_%03d.csv", "gen_{t}.csv"),
        ("gen_{x}.csv", "gen_{t}.csv"),
        ("gen_{T}.csv", "gen_{t}.csv"),
        ("gen_{t:03d}.csv", "gen_{t}.csv"),
        ("gen_{}.csv", "gen_{t}.csv"),
        ("gen_<t>.csv", "gen_{t}.csv"),
        ("gen_$t.csv", "gen_{t}.csv"),
        ("run{seed}/gen_{t}.csv", "run{s}/gen_{t}.csv"),
    ],
)
def test_a_number_as_others_write_it_is_told_how_it_is_written_here(word: str, meant: str, growing: bool) -> None:
    touch("gen_0.csv")
    with pytest.raises(DataError, match=re.escape(f"{word!r} does not exist: {{t}} stands for")) as refused:
        sequences([word], growing=growing)
    assert str(refused.value).endswith(f", as in {meant!r}")
    touch(word)
    assert sequences([word]) == {0: [word]} or "{t}" in word


def test_a_folder_that_is_watched_must_be_there() -> None:
    with pytest.raises(DataError, match=r"'none' does not exist: make the folder, or .* such as 'none/gen_\{t\}.csv'"):
        sequences(["none"], growing=True)


def test_an_empty_folder_is_no_sequence() -> None:
    Path("d").mkdir()
    with pytest.raises(DataError, match="'d' is an empty folder"):
        sequences(["d"])


@pytest.mark.parametrize("every", [0, -1])
def test_every_is_from_one_on(every: int) -> None:
    touch("0.csv")
    with pytest.raises(ConfigError, match="every is"):
        sequences(["{t}.csv"], every=every)


def test_what_is_growing_ends_before_a_gap_and_with_the_shortest() -> None:
    touch("r1/0.csv", "r1/1.csv", "r1/2.csv", "r2/0.csv", "r2/1.csv", "r2/3.csv")
    assert sequences(["r{s}/{t}.csv"], growing=True) == {s: [f"r{s}/{t}.csv" for t in range(2)] for s in (1, 2)}
    assert sequences(["none/{t}.csv"], growing=True) == {}
    Path("empty").mkdir()
    assert sequences(["empty"], growing=True) == {0: []}


def test_a_source_has_arrived_when_it_has_kept_its_size_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other, _folder = touch("one.csv", "other.csv", "folder/a.png")[:3]
    Path("filling").mkdir()
    writes = iter([1, 0, 0, 1])

    def sleep(seconds: float) -> None:
        if next(writes):
            with open(other, "a") as file:
                file.write("1\n")
            Path("folder/b.png").touch()

    monkeypatch.setattr("selfloop.analysis.sequences.time.sleep", sleep)
    arrivals, names = Arrivals(2), [one, other, "folder", "filling", "missing.csv"]
    assert arrivals.whole(names) == {one}
    assert arrivals.whole(names) == {one, other, "folder"}
    assert arrivals.whole(names) == {one, other, "folder"}  # and nobody sleeps
    os.utime(other, ns=(1, 1))
    assert arrivals.whole(names) == {one, other, "folder"}
    os.utime(other, ns=(2, 2))
    assert arrivals.whole(names) == {one, "folder"}


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("loop/gen_{t}.csv", "loop-gen"),
        ("/a/b/run{s}/gen_{t}.csv", "run-gen"),
        ("/x/samples", "x-samples"),
        ("/x/@{t}", "x"),
    ],
)
def test_a_run_directory_is_named_after_its_generations(word: str, name: str) -> None:
    assert common_name(word) == name
