"""What is wrong with a setting is said in words of ours, whatever it is a setting of."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from pydantic import BaseModel

from selfloop import Experiment
from selfloop.cli.main import main
from selfloop.cli.terminal import share
from selfloop.core.errors import SelfloopError
from selfloop.core.registry import FAMILIES
from selfloop.experiment import member
from selfloop.learning.training import Budget

NONSENSE: list[Any] = [None, "no such \\ thing", "", -1, 1.5, True, [], ["a", 1], {}, {"no": 1}, float("nan"), 10**30]
ALIEN = ("pattern", "Input should", "valid string", "valid integer", "valid number", "[A-Z", "[0-9a-f]{", "pydantic")

MEMBERS = [
    (word, name)
    for word, family in FAMILIES.items()
    for name in family
    if isinstance(family[name], type) and issubclass(family[name], BaseModel) and name in family.usable
]


def refused(call: Any) -> str:
    try:
        call()
    except SelfloopError as error:
        return str(error)
    return ""


def in_our_words(line: str) -> bool:
    return "\n" not in line and not any(word in line for word in ALIEN)


@pytest.mark.parametrize(("word", "name"), MEMBERS, ids=[f"{word}-{name}" for word, name in MEMBERS])
def test_settings_of_every_member(word: str, name: str) -> None:
    family = FAMILIES[word]
    said = [
        refused(lambda v=value, f=field: member(family, {"name": name, f: v}))
        for field in family[name].model_fields
        for value in NONSENSE
    ]
    assert all(map(in_our_words, said)), [line for line in said if not in_our_words(line)]


def test_settings_of_an_experiment() -> None:
    plain = {"name": "mine", "data": "gaussian", "generator": "gaussian", "generations": 2}
    said = [
        refused(lambda v=v, f=f: Experiment.build(plain | {f: v})) for f in Experiment.model_fields for v in NONSENSE
    ]
    said += [
        refused(lambda v=v, f=f: Experiment.build(plain | {"budget": {f: v}}))
        for f in Budget.model_fields
        for v in NONSENSE
    ]
    assert sum(map(bool, said)) > len(said) / 2
    assert all(map(in_our_words, said)), [line for line in said if not in_our_words(line)]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"name": "two moons"}, "name: must be at most 64 letters, digits, dots, dashes and underscores, a letter or "),
        ({"generations": 0}, "generations: must be greater than 0, not 0"),
        ({"generations": 2.5}, "generations: must be a whole number, as 10, not 2.5"),
        ({"retrain": "hot"}, "retrain: must be 'warm' or 'scratch', not 'hot'"),
        ({"seeds": {"a": 1}}, "seeds: must be a whole number, as 10, or a list, as [1, 2]"),
        ({"seeds": [1, "a"]}, "seeds.1: must be a whole number, as 10, not 'a'"),
    ],
)
def test_some_of_them(settings: dict[str, Any], line: str) -> None:
    plain = {"name": "mine", "data": "gaussian", "generator": "gaussian", "generations": 2}
    assert refused(lambda: Experiment.build(plain | settings)).startswith(line)


@pytest.mark.parametrize("command", ["advise", "compare", "judge", "report", "stability", "watch"])
def test_every_tolerance_is_a_share(command: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["selfloop", command, "--tolerance", "ten"])
    with pytest.raises(SystemExit) as stop:
        main()
    said = capsys.readouterr().err
    assert (stop.value.code, said) == (2, "selfloop: the tolerance is a share such as 10% or 0.1, not 'ten'\n")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("advise --horizon ten", "--horizon: must be a whole number, as 10, not 'ten'"),
        ("export --arm 1.5", "--arm: must be a whole number, as 10, not '1.5'"),
        ("forecast --to 1e3", "--to: must be a whole number, as 10, not '1e3'"),
        ("judge --every 0", "--every: must be greater than or equal to 1, not '0'"),
        ("judge --rows two", "--rows: must be a whole number, as 10, not 'two'"),
        ("run --devices two", "--devices: must be a whole number, as 10, not 'two'"),
        ("run --save-every soon", "--save-every: must be a number, as 0.5, not 'soon'"),
        ("run --workers 99999999999999999999", "--workers: must be less than or equal to 100000, not '9999"),
        ("watch --interval x", "--interval: must be a number, as 0.5, not 'x'"),
    ],
)
def test_numbers_of_the_command_line(words: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["selfloop", *words.split()])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"selfloop: {line}")


def test_shares() -> None:
    assert [share(text) for text in ("10%", "0.1", " 12.5 % ", 0.1)] == [0.1, 0.1, 0.125, 0.1]
