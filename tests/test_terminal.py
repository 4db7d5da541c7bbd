"""What reaches the terminal: no control characters of foreign runs, and no error where its encoding lacks a letter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from selfloop.cli import terminal
from selfloop.cli.terminal import at_work, complain, console, say, say_plain, show, show_results
from selfloop.core.errors import printable

HOSTILE = "\x1b[31m \x07 \x9b1m \u202e \u2066 \ud800 \x7f [red]x[/red]"
RAW = "\x1b\x07\x9b\u202e\u2066\ud800\x7f"


@given(st.text(st.characters(codec=None)))
def test_what_steers_a_terminal_is_escaped_and_nothing_else_changed(text: str) -> None:
    found = printable(text)
    assert all(c.isprintable() or c in "\n" or c.isspace() or ord(c) > 255 for c in found)
    assert not set(found) & set(RAW)
    assert json.loads(f"[{json.dumps(text)}]") == [text]
    if text.isprintable():
        assert found == text


def test_a_command_that_says_nothing_for_long_says_what_it_is_at(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "SILENT", 0.05)
    with at_work("report: reads the run"):
        time.sleep(0.5)
    assert capsys.readouterr() == ("", "report: reads the run\n")
    with at_work("report: reads the run"):
        say("After 1 retraining:")
        time.sleep(0.5)
    with at_work("report: reads the run"):
        pass
    time.sleep(0.2)
    assert capsys.readouterr() == ("After 1 retraining:\n", "")


def test_escapes_keep_json_what_it_was() -> None:
    text = json.dumps(["a\x7fb\u202e\U000e0001\n"], ensure_ascii=False, indent=1)
    assert printable(text) != text
    assert json.loads(printable(text)) == json.loads(text)


def test_foreign_text_reaches_no_stream_raw(capsys: pytest.CaptureFixture[str]) -> None:
    with console.capture() as shown:
        say(HOSTILE)
        show(("a", HOSTILE), [("x", HOSTILE)])
    say_plain(HOSTILE)
    complain(HOSTILE)
    out, err = capsys.readouterr()
    for text in (shown.get(), out, err):
        assert not set(text) & set(RAW)
        assert "\\u001b[31m" in text
        assert "[red]x[/red]" in text


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_letters_that_the_encoding_lacks_are_escaped(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "t\u00e9.yaml").write_text("name: x\ndescription: \u03bb\n", encoding="utf-8")
    for arguments in (["recipes"], ["run", "t\u00e9.yaml"], ["run", "--help"]):
        done = subprocess.run(
            [sys.executable, "-m", "selfloop", *arguments],
            cwd=tmp_path, env=os.environ | environment, capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == (2 if arguments[-1].endswith("yaml") else 0), done.stderr
        assert b"Traceback" not in done.stderr
        assert (done.stdout + done.stderr).isascii() or "LC_ALL" in environment


def test_ctrl_c_that_a_library_wraps_is_ctrl_c() -> None:
    from pydantic import BaseModel, field_serializer
    from pydantic_core import PydanticSerializationError

    from selfloop.cli.failures import interrupted

    class Pressed(BaseModel):
        x: int = 1

        @field_serializer("x")
        def plain(self, x: int) -> int:
            raise KeyboardInterrupt

    with pytest.raises(PydanticSerializationError) as caught:
        Pressed().model_dump()
    caused = RuntimeError("x")
    caused.__cause__ = KeyboardInterrupt()
    assert interrupted(caught.value)
    assert interrupted(caused)
    assert not interrupted(ValueError("x"))
    assert not interrupted(ValueError("column KeyboardInterrupt"))


@settings(max_examples=50, deadline=None)
@given(
    table=st.integers(1, 7).flatmap(
        lambda width: st.lists(
            st.lists(st.text("ab é7", min_size=1, max_size=20), min_size=width, max_size=width), min_size=2, max_size=4
        )
    ),
    width=st.integers(50, 120),
)
def test_tables_lose_nothing_and_break_no_word(table: list[list[str]], width: int) -> None:
    headings, *rows = table
    console = Console(width=width, highlight=False)
    with pytest.MonkeyPatch.context() as patch, console.capture() as shown:
        patch.setattr("selfloop.cli.terminal.console", console)
        show(headings, rows, pad_edge=False)
    lines = shown.get().splitlines()
    assert all(len(line) <= width for line in lines)
    found = Counter(word for line in lines for word in line.split())
    wanted = Counter(word for row in table for cell in row for word in cell.split())
    assert found.keys() == wanted.keys()
    assert found >= wanted


def test_parts_of_a_wide_table_begin_with_its_first_column() -> None:
    console = Console(width=30, highlight=False)
    with pytest.MonkeyPatch.context() as patch, console.capture() as shown:
        patch.setattr("selfloop.cli.terminal.console", console)
        show(["generation", "Fréchet distance", "Precision, held-out"], [("0", "0.25", "0.5")], pad_edge=False)
    lines = [line.split() for line in shown.get().splitlines()]
    assert lines == [
        ["generation", "Fréchet", "distance"],
        ["0", "0.25"],
        [],
        ["Precision,"],
        ["generation", "held-out"],
        ["0", "0.5"],
    ]


def test_results_of_many_metrics_have_a_row_each_where_they_do_not_fit() -> None:
    headings, rows = ["setting", *"abcdefgh"], [["λ = 1", *["0.25 ± 0.01"] * 8], ["λ = 0", *["0.5 ± 0.1"] * 8]]
    found = {}
    for width in (80, 120):
        console = Console(width=width, highlight=False)
        with pytest.MonkeyPatch.context() as patch, console.capture() as shown:
            patch.setattr("selfloop.cli.terminal.console", console)
            show_results(headings, rows)
        found[width] = [" ".join(line.split()) for line in shown.get().splitlines()]
    assert found[80] == ["setting λ = 1 λ = 0", *[f"{name} 0.25 ± 0.01 0.5 ± 0.1" for name in "abcdefgh"]]
    assert found[120] == [" ".join(row) for row in (headings, *rows)]
