"""Values of settings in words."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfloop import ConfigError, Experiment
from selfloop.core.errors import counted, kind_in_words, quoted, said
from selfloop.core.settings import in_words, told_apart

MIXTURE = {"name": "mixture", "components": 2, "floor": 1e-6, "start": None}

scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "b"]) | st.floats(0, 1)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from("klm"), inner, min_size=1, max_size=3)
        | st.builds(
            lambda name, more: {"name": name} | more, st.sampled_from("xy"), st.dictionaries(st.just("k"), inner)
        )
    ),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("gaussian", "gaussian"),
        (MIXTURE, "mixture (components = 2, floor = 1e-06)"),
        (
            {"name": "ensemble", "model": {"name": "mixture", "components": 3}},
            "ensemble (model = mixture (components = 3))",
        ),
        ({"epochs": 5, "steps": None}, "(epochs = 5)"),
        ([{"name": "real"}, 0.5], "[real, 0.5]"),
        (math.inf, "∞"),
        (0.1, "0.1"),
        (0.12345678, "0.12345678"),
        (True, "true"),
        (None, "none"),
    ],
)
def test_a_value_in_words(value: object, words: str) -> None:
    assert in_words(value) == words


def test_members_of_one_name_are_told_apart_by_what_differs() -> None:
    more = MIXTURE | {"components": 4}
    assert told_apart([{"name": "gaussian"}, MIXTURE]) == ["gaussian", "mixture"]
    assert told_apart([MIXTURE, more, None, MIXTURE]) == [
        "mixture (components = 2)",
        "mixture (components = 4)",
        "none",
        "mixture (components = 2)",
    ]
    nested = [{"name": "ensemble", "models": 3, "model": model} for model in (MIXTURE, more)]
    assert told_apart(nested) == [f"ensemble (model = mixture (components = {k}))" for k in (2, 4)]


@given(st.lists(values, min_size=1, max_size=4))
def test_what_differs_is_worded_without_python(found: list[object]) -> None:
    for words in (*map(in_words, found), *told_apart(found)):
        assert not set("{}'\"") & set(words)


def test_a_path_is_cut_before_its_last_name() -> None:
    long = "/" + "a-folder/" * 20 + "table.csv"
    assert quoted(long) == repr(long)
    words = quoted("/" + "a-folder/" * 40 + "table.csv")
    assert len(words) == 300
    assert words.startswith("'/a-folder/")
    assert words.endswith("…/table.csv'")
    assert quoted("x" * 200).endswith("x…")
    assert quoted("folder/table.csv") == "'folder/table.csv'"


def test_counts() -> None:
    assert [counted(n, "seed") for n in (0, 1, 2)] == ["0 seeds", "1 seed", "2 seeds"]


def test_errors_cite_the_users_lines_before_a_librarys_and_none_of_ours() -> None:
    def users() -> None:
        json.loads("{")

    line = users.__code__.co_firstlineno + 1
    with pytest.raises(json.JSONDecodeError) as caught:
        users()
    assert said(caught.value).endswith(f"(test_words.py, line {line})")
    error: Exception = in_words_fails()
    assert "line" not in said(error.with_traceback(error.__traceback__.tb_next))  # type: ignore[union-attr]
    assert said(error, ours=True).endswith(")")
    with pytest.raises(SyntaxError) as broken:
        compile("x = 1\ndef f(:\n", "/somewhere/mine.py", "exec")
    assert said(broken.value) == "SyntaxError: invalid syntax (mine.py, line 2): 'def f(:'"


def in_words_fails() -> Exception:
    try:
        counted("three", "seed")  # type: ignore[arg-type]
    except ValueError as error:
        return error
    raise AssertionError("it took text for a number")


def test_kinds_of_numpy_are_said_in_words() -> None:
    arrays = (np.array(["a"]), np.array([None]), np.array([1j]), np.array([0.5]), np.zeros(1, "M8[s]"))
    assert [kind_in_words(x.dtype) for x in arrays] == ["text", "objects", "complex numbers", "float64", "times"]


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("optimizer.lr=0.1", "no setting is called 'optimizer.lr': optimizer has none of its own, and is carry"),
        ("generator.width=3", "no setting is called 'generator.width': gaussian has name, covariance"),
        ("mixing.lamb=1", "no setting is called 'mixing.lamb', did you mean 'mixing.lam'?"),
        ("budgt.epochs=3", "no setting is called 'budgt' (in 'budgt.epochs'), did you mean 'budget'?"),
    ],
)
def test_a_setting_within_another_that_there_is_not(assignment: str, words: str) -> None:
    plain = {"name": "x", "data": "gaussian", "generator": "gaussian", "generations": 1, "metrics": ["mean_error"]}
    with pytest.raises(ConfigError) as refusal:
        Experiment.build(plain).override(assignment)
    assert str(refusal.value) == words
