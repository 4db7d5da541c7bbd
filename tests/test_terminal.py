"""What reaches the terminal: no control characters of foreign runs, and no error where its encoding lacks a letter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfloop.cli.terminal import complain, console, folded, say, say_plain, show
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


def test_escapes_keep_json_what_it_was() -> None:
    text = json.dumps(["a\x7fb\u202e\U000e0001\n"], ensure_ascii=False, indent=1)
    assert printable(text) != text
    assert json.loads(printable(text)) == json.loads(text)


def test_foreign_text_reaches_no_stream_raw(capsys: pytest.CaptureFixture[str]) -> None:
    with console.capture() as shown:
        say(HOSTILE)
        show(folded("a", HOSTILE), [("x", HOSTILE)])
        show(("a", HOSTILE), [("x", HOSTILE)])
    say_plain(HOSTILE)
    complain(HOSTILE)
    out, err = capsys.readouterr()
    for text in (shown.get(), out, err):
        assert not set(text) & set(RAW)
        assert "\\u001b[31m" in text
        assert "[red]x[/red]" in text


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
