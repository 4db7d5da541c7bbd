"""Reports of text: rows that are safe to look at, a slider that turns them, frequencies by rank."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import FakeRun, experiment
from hypothesis import given, settings
from hypothesis import strategies as st
from test_page import NASTY, Page, page_of

from selfloop.core.events import Text
from selfloop.core.tokens import Characters
from selfloop.report import read, write_report
from selfloop.report.frequencies import frequencies, ranked
from selfloop.report.page import LIMIT
from selfloop.report.texts import CHARACTERS, ROWS, shown, some

ACTING = "\u202e\u2066\u200f\u061c\u2028\u2029\ufeff\u200d\x00\x1b\x7f\x85\ud800\ue000"


class TextRun(FakeRun):
    """A run on lines of a file, whose samples are its real rows in another order."""

    def samples(self, t: int, arm: int) -> torch.Tensor:
        """Return the real rows, turned by t + 1."""
        return self.real(arm).rows.roll(t + 1, 0)


def run_of(folder: Path, lines: list[str], **changes: Any) -> TextRun:
    file = folder / "lines.txt"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = {"name": "text", "path": str(file), "unit": "line", "held_out": 10}
    given: dict[str, Any] = {"seeds": 1, "generations": 3, "generator": "ngram", "metrics": ["perplexity_held_out"]}
    return TextRun(folder, experiment(data, **(given | changes)), last=3)


LINES = [f"{word} {i}" for i in range(10) for word in ("fire", "walk", "with", "me")]


# Rows


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(), max_size=400))
def test_what_is_shown_is_one_line_without_a_character_that_acts(text: str) -> None:
    line = shown(text)
    assert len(line) <= CHARACTERS + 1
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for c in line)
    line.encode()  # there is no half of a pair in it


@settings(deadline=None)
@given(st.text("abc é漢ש🙂", max_size=CHARACTERS))
def test_ordinary_text_is_shown_as_it_is(text: str) -> None:
    assert shown(text) == text


def test_known_characters() -> None:
    assert shown("a\n\tb") == "a↵⇥b"
    assert shown("\u202egnp.exe") == "⟨U+202E⟩gnp.exe"
    assert shown("".join(ACTING)) == "".join(f"⟨U+{ord(c):04X}⟩" for c in ACTING)
    assert shown("e" + 5 * "\u0301") == "e" + 3 * "\u0301" + 2 * "⟨U+0301⟩"


def test_what_is_long_is_cut_between_characters() -> None:
    assert shown("x" * 500) == "x" * CHARACTERS + "…"
    assert shown("x" * CHARACTERS) == "x" * CHARACTERS
    assert shown("abc\u202ed", most=10) == "abc…"  # eight would stand for the fourth


def test_some_rows_of_a_set() -> None:
    events = Text(6, Characters("abc"))
    x = torch.tensor([[1, 2, 3, 0, 0, 0], [3, 3, 3, 3, 3, 3]] * 9, dtype=torch.int32)
    assert some(events, x) == ["abc", "cccccc"] * (ROWS // 2)


# The page


@pytest.mark.slow
def test_a_page_shows_rows_by_generation_beside_real_ones(tmp_path: Path) -> None:
    run = run_of(tmp_path, LINES)
    path = write_report(run)
    text = path.read_text(encoding="utf-8")
    frames = json.loads(re.search(r'id="pictures-data">(.*?)</script>', text)[1])["frames"]
    assert [frame["t"] for frame in frames] == [0, 1, 2, 3]
    rows = run.real(0).events.texts(run.real(0).rows)
    assert frames[1]["pictures"][0] == [rows[-2], rows[-1], *rows[: ROWS - 2]]
    page = Page(text)
    assert all(row in page.text for row in rows[:ROWS])
    assert page.all("img") == []
    names = {file.name for file in path.parent.iterdir()}
    assert {"frequencies.png", "frequencies.pdf", "metrics.png"} <= names
    assert "samples.png" not in names
    assert len([div for div in page.all("div") if str(div.get("id")).startswith("frequencies-")]) == 4


@pytest.mark.slow
def test_nothing_in_a_text_becomes_markup_or_acts(tmp_path: Path) -> None:
    nasty = NASTY.replace("\u2028", "") + "\u202e\u2066"
    run = run_of(tmp_path, [f"{nasty}{i}" for i in range(40)])
    text = write_report(run).read_text(encoding="utf-8")
    page = Page(text)
    plain = Page(page_of(run_of(tmp_path, LINES), ["metrics"]))
    assert len(page.all("script")) == len(plain.all("script"))
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert not set("\u202e\u2066") & set(text)
    assert "⟨U+202E⟩⟨U+2066⟩" in "".join(page.text)


@pytest.mark.slow
def test_a_page_of_long_rows_stays_below_the_limit(tmp_path: Path) -> None:
    line = "漢字かな" * 200
    changes: dict[str, Any] = {"grid": {"mixing.lam": [k / 8 for k in range(16)]}, "generations": 40}
    run = run_of(tmp_path, [f"{i} {line}" for i in range(30)], **changes)
    run.last = 40
    assert len(page_of(run, []).encode()) < LIMIT


# Frequencies


def test_shares_by_rank() -> None:
    curve = ranked(np.array([[1, 1, 1, 2, 0], [2, 3, 0, 0, 0]]), 4)
    assert curve.generation == 4
    assert curve.rank.tolist() == [1, 2, 3]
    assert curve.share == pytest.approx([3 / 6, 2 / 6, 1 / 6])
    assert len(ranked(np.zeros((2, 3), int)).rank) == 0


def test_many_ranks_are_thinned_with_both_ends() -> None:
    curve = ranked(np.arange(1, 5001)[:, None])
    assert len(curve.rank) < 100
    assert (curve.rank[0], curve.rank[-1]) == (1, 5000)
    assert (np.diff(curve.rank) > 0).all()


def test_curves_are_of_real_rows_and_of_generations_before_the_end(tmp_path: Path) -> None:
    run = run_of(tmp_path, LINES)
    run.diverge = {0: 2}
    curves = read(run)
    assert [c.generation for c in frequencies(run, curves, curves.settings[0])] == [None, 0, 1]
    assert [c.generation for c in frequencies(run, curves, curves.settings[1])] == [None, 0, 1, 2, 3]
