"""Plain settings: what YAML means here, what it is refused for, and that writing it loses nothing."""

from __future__ import annotations

import contextlib
import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfloop.core.errors import ConfigError
from selfloop.core.settings import from_yaml, read_assignments, to_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100_000),
        (".5e2", 50),
        ("1.5e3", 1500),
        ("5.", 5.0),
        ("-.5", -0.5),
        ("1_000", 1000),
        ("1_000.5", 1000.5),
        ("010", 10),
        ("0x1f", 31),
        ("0o17", 15),
        ("1e16", 1e16),
        ("-0.0", -0.0),
        (".inf", math.inf),
        ("inf", "inf"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1,000", "1,000"),
        ("1e", "1e"),
        ("-", [None]),
    ],
)
def test_numbers_are_what_people_write(text: str, value: Any) -> None:
    found = from_yaml(text, "it")
    assert found == value
    assert type(found) is type(value)
    if text not in ("-", "1,000"):
        assert from_yaml(f"[{text}]", "it") == [value]


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2",
        "x: {a: 1, b: {c: 1, c: 1}}",
        "x: [{a: 1, a: 2}]",
        "a: 1\n'a': 2",
        "&k a: 1\n*k : 2",
        "!!set {a, a}",
    ],
)
def test_a_key_given_twice_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^it at line [12]: key '[ac]' is given twice$"):
        from_yaml(text, "it")


def test_what_is_merged_into_a_mapping_may_be_replaced() -> None:
    found = from_yaml("base: &b {x: 1, y: 1}\nd: {<<: *b, x: 2}", "it")
    assert found["d"] == {"x": 2, "y": 1}


def _bomb() -> str:
    levels = (f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12))
    return "\n".join(["a0: &a0 [x, x, x]", *levels])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (_bomb(), "more than 300000 values"),
        ("&a [*a]", "an alias repeats what it is part of"),
        ("\n".join(f"k{i}: 1" for i in range(160_000)), "more than 300000 values|longer than 1048576 characters"),
        ("[" * 100_000, "deep|nesting"),
        ("- " * 1000, "nested more than 32 deep"),
        ("9" * 4000, "a number has 4000 digits"),
        ("x" * 2_000_000, "longer than 1048576 characters"),
        ("1e400", "'1e400' is beyond the greatest number"),
        ("-1e400", "beyond the greatest number"),
        ("9" * 350 + ".5", "beyond the greatest number"),
        (r'"\ud800"', "invalid Unicode|surrogate"),
        ("\udc80", "is not plain YAML"),
        ("? [1]\n: 2", "a key is no word"),
        ("!!int x", "'x' is no whole number"),
        ("!!float x", "'x' is no number"),
    ],
)
def test_text_beyond_reason_is_refused_before_it_is_built(text: str, words: str) -> None:
    begun = time.process_time()
    with pytest.raises(ConfigError, match=words) as error:
        from_yaml(text, "it")
    assert time.process_time() - begun < 3
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


@pytest.mark.slow
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text(st.characters(codec="utf-8"))
        # What YAML, of either version, might take for something else than text.
        | st.from_regex(r"[-+0-9_.:eExo]{1,8}", fullmatch=True)
        | st.sampled_from(["yes", "no", "~", "null", "=", "<<", "inf", ".nan", "2024-01-01"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcxyz", min_size=1), inner, max_size=3),
        max_leaves=8,
    )
)
@settings(max_examples=300, deadline=None)
def test_what_is_written_is_read_back(value: Any) -> None:
    text = to_yaml({"value": value})
    found = from_yaml(text, "it")["value"]
    assert found == value
    assert repr(found) == repr(value)


@given(st.text("ab: []{}&*!<>'\"\n-#|?%@`,0.e", max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_refused_or_written_as_it_was_read(text: str) -> None:
    with contextlib.suppress(ConfigError):
        found = from_yaml(text, "it")
        assert repr(from_yaml(to_yaml({"value": found}), "it")["value"]) == repr(found)


class TestAssignments:
    def test_wholes_come_first_then_names(self) -> None:
        pairs = read_assignments(["data.path=t.csv", "data.n=1e2", "data.name=table", "seeds=3", "a.b=x=y"])
        assert [key for key, _ in pairs] == ["seeds", "data.name", "data.path", "data.n", "a.b"]
        assert dict(pairs)["data.n"] == 100
        assert dict(pairs)["a.b"] == "x=y"

    @pytest.mark.parametrize(
        ("texts", "words"),
        [
            (["n=1", "n=2"], "'n' is set twice"),
            (["budget.steps=1", "budget.epochs=2"], "budget.steps and budget.epochs are both set"),
            (["novalue"], "expected key.path=value, not 'novalue'"),
            (["=1"], "expected key.path=value"),
            (["x=[1, "], "the value of 'x' is not plain YAML"),
            (["x={a: 1, a: 1}"], "the value of 'x' at line 1: key 'a' is given twice"),
        ],
    )
    def test_what_is_refused(self, texts: list[str], words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            read_assignments(texts)
