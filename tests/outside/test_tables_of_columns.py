"""Tables of columns made elsewhere, compared and judged: by their columns, and by what they are worth to a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import selfloop
from selfloop import SelfloopError
from selfloop.analysis.alignment import align
from selfloop.analysis.scores import DEFAULT, default, scores
from selfloop.analysis.sources import read_events
from selfloop.cli.commands.metrics import command
from selfloop.cli.commands.watch import command as watch

N = 120


def columns(seed: int = 0, faithful: bool = True) -> dict[str, list[Any]]:
    """Return rows of which age tells who stays, unless they are not faithful."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 80, N)
    stays = age > 50 if faithful else rng.random(N) > 0.5
    return {
        "age": age.tolist(),
        "city": rng.choice(["Lille", "Lyon", "Nice"], N).tolist(),
        "paid": (2.0 * age + rng.normal(0, 4, N)).round(2).tolist(),
        "stays": np.where(stays, "yes", "no").tolist(),
    }


def write(path: Path, table: dict[str, list[Any]]) -> Path:
    """Write columns as CSV, nothing where a value is missing."""
    lines = [",".join(table)]
    lines += [",".join("" if x is None else str(x) for x in row) for row in zip(*table.values(), strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


def compared(real: Path, generated: Path, *names: str, target: str | None = None) -> dict[str, float]:
    reference = read_events(str(real))
    sets = align(reference, read_events(str(generated), like=reference.events))
    asked = names or default(sets.events, target)
    found = scores(sets.real, sets.generated, names=asked, events=sets.events, target=target)
    return {score.name: score.value for score in found}


def test_tables_are_compared_by_columns_in_any_order(tmp_path: Path) -> None:
    real, made = columns(), columns(1, faithful=False)
    a, b = write(tmp_path / "real.csv", real), write(tmp_path / "made.csv", made)
    turned = write(tmp_path / "turned.csv", {name: made[name] for name in reversed(made)})
    found = compared(a, b, target="stays")
    assert [*found] == [*DEFAULT, "shape_error", "association_error", "levels_kept", "tstr_score"]
    assert found == compared(a, turned, target="stays")
    assert found["levels_kept"] == 1
    assert 0.3 < found["tstr_score"] < 0.7
    assert (
        compared(a, write(tmp_path / "good.csv", columns(2)), "tstr_score", "tstr_auc", target="stays")["tstr_auc"]
        > 0.95
    )
    assert compared(a, b, "tstr_score", target="paid")["tstr_score"] > 0.9  # R² of a number
    assert compared(a, write(tmp_path / "same.csv", real | {}), "copied_rows", "shape_error") == {
        "copied_rows": 1.0,
        "shape_error": 0.0,
    }


def test_tables_of_numbers_alone_have_scores_of_columns_too(tmp_path: Path) -> None:
    some = {name: values for name, values in columns().items() if name in ("age", "paid")}
    a = write(tmp_path / "a.csv", some)
    b = write(tmp_path / "b.csv", {"paid": some["paid"][::2], "age": some["age"][::2]})
    assert compared(a, b, "copied_rows", "tstr_score", target="paid")["copied_rows"] == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"city": ["Brest", *columns()["city"][1:]]},
            "row 1 (line 2), column 'city': 'Brest' is no level of it in the real",
        ),
        ({"age": ["old", *columns()["age"][1:]]}, "row 1 (line 2), column 'age': 'old' is not a number"),
        (
            {"age": [None, *columns()["age"][1:]]},
            "row 1 (line 2), column 'age': the value is missing, and none is in the real rows",
        ),
        ({"city": [1] * N}, "row 1 (line 2), column 'city'"),
        ({"more": [1] * N}, "has the column 'more' beside those of the real rows"),
    ],
)
def test_what_real_rows_cannot_have_is_told_of_in_one_line(change: dict[str, Any], why: str, tmp_path: Path) -> None:
    real = write(tmp_path / "real.csv", columns())
    made = write(tmp_path / "gen_0.csv", columns() | change)
    with pytest.raises(SelfloopError, match=re.escape(why)) as refused:
        compared(real, made)
    assert "\n" not in str(refused.value)
    with pytest.raises(SelfloopError, match=re.escape(why)):
        selfloop.judge(str(real), [str(made)], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("names", "target", "why"),
    [
        (["tstr_score"], None, "score tstr_score is of what a model predicts: name the column by --target"),
        (["tstr_auc"], "paid", "score tstr_auc needs a target of classes, and 'paid' is a number: use tstr_score"),
        ([], "nobody", "there is no column 'nobody' to predict; there are 'age', 'city', 'paid', 'stays'"),
        ([], "country", "the target 'country' never changes"),
        ([], "score", "the target 'score' is missing in some rows"),
    ],
)
def test_targets_that_cannot_be(names: list[str], target: str | None, why: str, tmp_path: Path) -> None:
    more = {"country": ["FR"] * N, "score": [None if i == 3 else i % 9 for i in range(N)]}
    asked = columns() | (more if target in more else {})
    real, made = (
        write(tmp_path / "real.csv", asked),
        write(tmp_path / "made.csv", columns(1) | {k: asked[k] for k in more if k in asked}),
    )
    with pytest.raises(SelfloopError, match=re.escape(why)):
        compared(real, made, *names, target=target)
    if target in more or target == "nobody":
        with pytest.raises(SelfloopError, match=f"{target}"):
            selfloop.judge(str(real), [str(made)], target=target, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_rows_without_columns_have_no_scores_of_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", np.zeros((8, 4, 4), dtype=np.uint8))
    with pytest.raises(SelfloopError, match="score shape_error is of the columns of a table"):
        command(str(tmp_path / "a.npz"), str(tmp_path / "a.npz"), only="shape_error")


@pytest.mark.slow
def test_a_loop_is_judged_by_its_columns_and_what_it_is_worth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = write(tmp_path / "real.csv", columns())
    made = [write(tmp_path / f"gen_{t}.csv", columns(t + 1, faithful=t < 2)) for t in range(3)]
    asked: dict[str, Any] = {"target": "stays", "out": tmp_path / "run"}
    found = selfloop.judge(str(real), [str(each) for each in made], **asked)
    for name in ("shape_error_held_out", "association_error_held_out", "levels_kept", "tstr_score"):
        assert name in found.curves.metrics
    scores_of = found.curves.values["tstr_score"][0]
    assert scores_of[0] > 0.9
    assert scores_of[2] < 0.8
    again = selfloop.judge(str(real), [str(each) for each in made], out=tmp_path / "run")  # the target is the run's
    assert again.sentence == found.sentence
    assert "Downstream score" in str(found)
    assert watch(
        str(tmp_path / "gen_{t}.csv"), real=str(real), target="stays", out=tmp_path / "watched", once=True, settle=0
    )
    assert "Generation 2" in capsys.readouterr().out
