"""A bounded part of the campaign: some attacks of every kind, all that fuzzing has found, and a few random changes."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import pytest

from tests.campaign import corpus, fuzz, hostile
from tests.campaign.attacks import Attack, every
from tests.campaign.attacks.pages import MARKUP, pages

FEW = 2
"""Attacks of every kind that are made here; the campaign makes all of them."""


def some() -> list[Attack]:
    """Return a few attacks of every kind, the same ones every day, and none that takes seconds."""
    kinds = defaultdict(list)
    for attack in every():
        if not attack.heavy:
            kinds[attack.kind].append(attack)
    rng = random.Random(0)
    return [attack for kind in kinds.values() for attack in rng.sample(kind, min(FEW, len(kind)))]


@pytest.mark.slow
def test_there_is_an_attack_on_everything_that_is_read() -> None:
    attacks = every()
    assert len(attacks) > 2000
    assert len({(each.kind, each.name, each.command) for each in attacks}) == len(attacks)
    assert all(each.harm for each in attacks)


@pytest.mark.slow
def test_hostile_input_is_refused_in_one_line(tmp_path: Path) -> None:
    made = list(hostile.tried(some(), tmp_path))
    assert len(made) > 50
    assert [(each.kind, each.what, each.found) for each in made if each.found] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", fuzz.TARGETS)
def test_what_was_found_stays_mended(kind: str, tmp_path: Path) -> None:
    for name, content in fuzz.findings(kind):
        assert fuzz.wrong(fuzz.TARGETS[kind], content, tmp_path) == "", name


@pytest.mark.slow
@pytest.mark.parametrize("kind", fuzz.TARGETS)
def test_sound_files_and_changed_ones_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    target, rng = fuzz.TARGETS[kind], random.Random(0)
    seeds = target.seeds()
    for content in [*seeds, *(changed(rng.choice(seeds), rng) for _ in range(20))]:
        assert fuzz.wrong(target, content, tmp_path) == "", content[:2000]


def changed(content: bytes, rng: random.Random) -> bytes:
    """Return an input with some bytes replaced, doubled or left out, as a fuzzer begins."""
    found = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at, size = rng.randrange(len(found) + 1), rng.choice((1, 1, 2, 8, 32))
        part = rng.choice((rng.randbytes(size), b"\xff" * size, bytes(size), bytes(found[at : at + size]) * 2))
        found[at : at + rng.choice((0, size))] = part
    return bytes(found)


def test_what_an_attacker_would_put_into_a_page_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(f"<p>{MARKUP}</p>")
    assert "a.html has" in pages(tmp_path)
    (tmp_path / "a.html").write_text("<p>&lt;img src=x onerror=canary()&gt;</p>")
    assert pages(tmp_path) == ""
    (tmp_path / "a.csv").write_text("a,b\n1,=1+1\n")
    assert "formula" in pages(tmp_path)


def test_attacks_begin_with_sound_files() -> None:
    assert corpus.png().startswith(b"\x89PNG")
    assert corpus.database().startswith(b"SQLite format 3\0")
