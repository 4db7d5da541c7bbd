"""Text as tokens and back, and rows of tokens as events."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfloop.core.errors import DataError
from selfloop.core.events import Text, read_events, row_size
from selfloop.core.sequences import lengths
from selfloop.core.tokens import EDGE, Bytes, Characters, Subwords, read_tokenizer

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)


@given(TEXTS)
def test_characters_and_bytes_restore_any_text(text: str) -> None:
    for tokenizer in (Characters.of([text]), Bytes()):
        tokens = tokenizer.encode(text)
        assert tokens.min() > EDGE
        assert tokens.max() < tokenizer.size
        assert tokenizer.decode(tokens) == text
        assert read_tokenizer(json.loads(json.dumps(tokenizer.plain()))) == tokenizer


def test_what_is_not_in_the_alphabet_is_named() -> None:
    with pytest.raises(ValueError, match="character 'z', number 3, for which there is no token"):
        Characters.of(["cab"]).encode("abz")
    assert Characters.of(["cab"]).encode("abc").tolist() == [1, 2, 3]


@given(TEXTS, st.integers(2, 9))
def test_rows_hold_a_unit_in_pieces_of_a_block(text: str, block: int) -> None:
    events = Text(block, Characters.of([text]))
    rows = torch.from_numpy(events.rows(events.tokenizer.encode(text)))
    assert "".join(events.texts(rows)) == text
    assert (lengths(rows)[:-1] == block).all()  # all but the last are full
    assert torch.equal(events.snap(rows), rows)


def test_all_after_the_first_edge_are_edges() -> None:
    events = Text(4, Characters("ab"))
    x = torch.tensor([[1, 0, 2, 1], [0, 1, 1, 1], [1, 2, 1, 2]], dtype=torch.int32)
    assert events.snap(x).tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [1, 2, 1, 2]]
    assert events.texts(events.snap(x)) == ["a", "", "abab"]
    with pytest.raises(DataError, match="samples hold token 3, and tokens are 0 to 2"):
        events.snap(x + 1)


def test_what_is_written_of_events_is_read_back() -> None:
    events = Text(4, Characters("ab"), "words")
    read = read_events(*json.loads(json.dumps([events.plain(), events.description()])))
    assert isinstance(read, Text)
    assert events.alike(read)
    assert (read.column, read.form, read.space) == ("words", events.form, (4, 3))
    assert row_size("text", events.space, torch.float32) == 16


def test_subwords_restore_text_and_give_a_models_end_the_edge() -> None:
    pytest.importorskip("tokenizers")
    text = "the cat, the  hat\n\nand é 😀"
    own = Subwords.trained([text] * 5, 300)
    assert own.decode(own.encode(text)) == text
    assert own == Subwords.trained([text] * 5, 300)
    number = own.number("t")
    assert number is not None
    of_model = Subwords(own.json, number)
    assert of_model.size == own.size - 1
    assert of_model.decode(of_model.encode("a cat")) == "a cat"
    assert of_model.encode("!").tolist() == [number]  # its token 0 has the number of the end
    with pytest.raises(ValueError, match="own token for the end"):
        of_model.encode("xt")
