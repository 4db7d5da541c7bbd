"""Metrics of text against closed forms, a plain count of everything, and other programs' numbers."""

from __future__ import annotations

import itertools
import math
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy
from torch import Tensor

from selfloop.core.events import Text
from selfloop.core.samples import Samples
from selfloop.core.streams import Streams
from selfloop.core.tokens import Characters
from selfloop.generators.gaussian import Gaussian
from selfloop.generators.ngram import NGram
from selfloop.learning.training import Budget
from selfloop.metrics.base import METRICS, Evidence
from selfloop.metrics.text_copies import copied_texts, duplicate_texts, longest_copies
from selfloop.metrics.text_diversity import distinct, repetition, self_bleu
from selfloop.metrics.text_judge import judge, judged_perplexities, judged_ratio
from selfloop.metrics.text_laws import bigram_kl, unigram_kl
from selfloop.metrics.text_length import mean_length
from selfloop.metrics.text_perplexity import token_loss
from selfloop.metrics.text_rows import Windows, ids, lengths, ngrams, told, windows
from selfloop.metrics.text_vocabulary import BANDS, Band, band, mass_ratio, token_entropy, tokens_kept
from selfloop.metrics.text_zipf import zipf_exponent

pytestmark = pytest.mark.usefixtures("as_in_a_worker")

NAMES: tuple[Band, ...] = tuple(BANDS)


def rows(*texts: str, width: int = 0) -> np.ndarray:
    """Return texts as rows of ids, "a" being 1."""
    width = width or max(max(map(len, texts)), 1)
    return np.array([[ord(c) - 96 for c in text] + [0] * (width - len(text)) for text in texts])


def written(x: np.ndarray) -> list[list[int]]:
    """Return the tokens of every row before its edge, by plain loops."""
    return [list(itertools.takewhile(bool, row)) for row in x.tolist()]


def grams(x: np.ndarray, n: int) -> list[tuple[int, ...]]:
    return [tuple(row[i : i + n]) for row in written(x) for i in range(len(row) - n + 1)]


def random(n: int, width: int, tokens: int, seed: int = 0) -> np.ndarray:
    """Return rows of random ids, of which each ends at its first 0."""
    x = np.random.default_rng(seed).integers(0, tokens, (n, width))
    return np.where(np.minimum.accumulate(x > 0, axis=1), x, 0)


@st.composite
def sets(draw: Any, least: int = 1, width: int | None = None) -> np.ndarray:
    wide = width or draw(st.integers(1, 9))
    texts = draw(st.lists(st.text("abc", max_size=wide), min_size=least, max_size=8))
    return rows(*texts, width=wide)


@st.composite
def several(draw: Any, count: int) -> list[np.ndarray]:
    width = draw(st.integers(1, 9))
    return [draw(sets(2, width)) for _ in range(count)]


# Rows


@settings(max_examples=50, deadline=None)
@given(sets(), st.integers(1, 9))
def test_ngrams_are_those_that_a_plain_count_finds(x: np.ndarray, n: int) -> None:
    assert lengths(x).tolist() == [len(row) for row in written(x)]
    found = Counter(ngrams(x, n).tolist())
    assert sorted(found.values()) == sorted(Counter(grams(x, n)).values())


@pytest.mark.parametrize("n", range(1, 14))
def test_windows_are_equal_where_their_ids_are(n: int) -> None:
    x = random(60, 13, 3)
    found = windows(x, n)
    assert found.shape == (60, 14 - n)
    texts = [tuple(row[i : i + n]) for row in x.tolist() for i in range(14 - n)]
    assert len({*zip(texts, found.ravel().tolist(), strict=True)}) == len({*texts}) == len({*found.ravel().tolist()})


def test_windows_are_the_same_in_whatever_order_widths_are_asked_for() -> None:
    x, kept = random(5, 12, 4), Windows(random(5, 12, 4))
    assert all((kept(n) == windows(x, n)).all() for n in (12, 3, 8, 1, 7))


def test_the_edge_is_told_where_there_is_one() -> None:
    assert told(rows("", "ab", "abc")).sum(1).tolist() == [1, 3, 3]


@pytest.mark.parametrize(
    "x", [np.zeros((2, 3)), np.zeros(3, int), np.full((1, 2), -1), np.zeros((0, 2), int), torch.zeros(2, 3)]
)
def test_what_is_no_rows_of_ids_is_refused(x: Any) -> None:
    with pytest.raises(ValueError, match="rows"):
        ids(x)


# Diversity


@settings(max_examples=50, deadline=None)
@given(sets(), st.integers(1, 4))
def test_distinct_and_repetition_are_those_of_a_plain_count(x: np.ndarray, n: int) -> None:
    all_of = grams(x, n)
    assert distinct(x, n) == pytest.approx(len({*all_of}) / len(all_of) if all_of else math.nan, nan_ok=True)
    each = [grams(row[None], n) for row in x]
    shares = [1 - len({*of}) / len(of) for of in each if of]
    assert repetition(x, n) == pytest.approx(np.mean(shares) if shares else math.nan, nan_ok=True)


def test_distinct_and_repetition_of_known_rows() -> None:
    assert distinct(rows("abab", "ab"), 1) == 2 / 6
    assert distinct(rows("abab", "ab"), 2) == 2 / 4  # ab ba ab, ab
    assert repetition(rows("aaaaaa", "abcdef", "ab")) == (2 / 3 + 0) / 2  # 3 of aaaa, and none of ab
    assert repetition(rows("aaaaaa"), 1) == 5 / 6


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((6, 9, 4), 0.20986753211794973),
        ((30, 12, 6), 0.31140107473851714),
        ((40, 20, 3), 0.41689289438603144),
        ((25, 3, 3), 0.3049795901231503),
    ],
)
def test_self_bleu_is_that_of_nltk(shape: tuple[int, int, int], expected: float) -> None:
    """By sentence_bleu of nltk 3.10.4 with SmoothingFunction().method1, all other rows being the references."""
    assert self_bleu(random(*shape)) == pytest.approx(expected, rel=1e-9)


def test_self_bleu_of_copies_is_1_and_of_rows_that_share_nothing_0() -> None:
    assert self_bleu(rows("abcde", "abcde")) == pytest.approx(1)
    assert self_bleu(rows("abcde", "fghij")) == 0
    assert math.isnan(self_bleu(rows("abcde")))


# Vocabulary


def test_bands_are_halves_and_tenths_of_the_tokens() -> None:
    x = rows("aaaaa", "bbbcd")  # 0.5, 0.3, 0.1, 0.1
    assert [np.flatnonzero(band(x, name)).tolist() for name in NAMES] == [[1], [2, 3], [4]]
    assert tokens_kept(x, rows("aab")) == 0.5
    assert tokens_kept(x, rows("aab"), "rare") == 0
    assert mass_ratio(x, rows("aabz"), "common") == 1
    assert mass_ratio(x, rows("aabd"), "rare") == pytest.approx(0.25 / 0.1)
    assert mass_ratio(x, rows("bbcc"), "middle") == pytest.approx(1 / 0.4)


@settings(max_examples=50, deadline=None)
@given(sets())
def test_bands_share_the_tokens_out(x: np.ndarray) -> None:
    there = np.bincount(x.ravel(), minlength=2)[1:] > 0
    assert (sum(band(x, name)[1:].astype(int) for name in NAMES) == there[: len(band(x, "rare")) - 1]).all()


def test_rare_tokens_go_as_theory_has_it() -> None:
    """A token of count c is missing in as many drawn again with probability (1 − c/n)^n, about e^(−c)."""
    rng = np.random.default_rng(0)
    x = np.repeat(np.arange(1, 201), 1 + (np.arange(200) < 100))[:, None]  # 100 of count 2, and 100 of 1
    kept = np.mean([tokens_kept(x, rng.choice(x[:, 0], (len(x), 1))) for _ in range(300)])
    n = len(x)
    assert kept == pytest.approx(1 - ((1 - 2 / n) ** n + (1 - 1 / n) ** n) / 2, abs=0.005)


def test_entropy_is_that_of_the_shares() -> None:
    assert token_entropy(rows("abcd", "abcd")) == pytest.approx(math.log(4))
    assert token_entropy(rows("aaab")) == pytest.approx(entropy([3, 1]))
    assert token_entropy(rows("aaa")) == 0
    assert math.isnan(token_entropy(rows("")))


# Zipf


@pytest.mark.parametrize("s", [0.0, 0.5, 1.0, 2.0])
def test_zipf_exponent_of_shares_that_follow_the_law(s: float) -> None:
    count = np.rint(1e6 * np.arange(1, 41) ** -s / (np.arange(1, 41.0) ** -s).sum()).astype(int)
    x = np.repeat(np.random.default_rng(0).permutation(40) + 1, count)[:, None]
    assert zipf_exponent(x) == pytest.approx(s, abs=2e-4)


def test_zipf_exponent_has_the_greatest_likelihood() -> None:
    x = random(40, 9, 12, seed=3)
    count = np.sort(np.bincount(x[x > 0]))[::-1]
    count = count[count > 0]

    def likelihood(s: float) -> float:
        share = np.arange(1, len(count) + 1) ** -s
        return float(count @ np.log(share / share.sum()))

    best = zipf_exponent(x)
    assert likelihood(best) > max(likelihood(best - 0.01), likelihood(best + 0.01))


def test_zipf_exponent_of_one_token_is_not_defined() -> None:
    assert math.isnan(zipf_exponent(rows("aaa")))
    assert zipf_exponent(rows("a" * 10**5 + "b")) == pytest.approx(math.log2(1e5), rel=1e-6)


# Copies


@settings(max_examples=50, deadline=None)
@given(several(2))
def test_longest_copies_are_those_of_a_plain_search(two: list[np.ndarray]) -> None:
    train, generated = two
    there = {gram for n in range(10) for gram in grams(train, n)}
    expected = [max(n for n in range(10) if {*grams(row[None], n)} & there or n == 0) for row in generated]
    assert longest_copies(train, generated).tolist() == expected


@settings(max_examples=50, deadline=None)
@given(several(2))
def test_copies_and_duplicates_are_those_of_a_plain_search(two: list[np.ndarray]) -> None:
    train, generated = two
    known = {*map(tuple, train.tolist())}
    assert copied_texts(train, generated) == np.mean([tuple(row) in known for row in generated.tolist()])
    assert duplicate_texts(train) == pytest.approx(1 - len(known) / len(train))


def test_copies_of_known_rows() -> None:
    train = rows("abcdef", "xyz", width=6)
    assert longest_copies(train, rows("zabcy", "qq", "", "abcdef", "yzabc", width=6)).tolist() == [3, 0, 0, 6, 3]
    assert copied_texts(train, rows("xyz", "xy", width=6)) == 0.5


# Laws


@settings(max_examples=50, deadline=None)
@given(sets(2))
def test_kl_to_the_same_rows_is_the_price_of_smoothing_alone(x: np.ndarray) -> None:
    count = np.array([*Counter(x[told(x)].tolist()).values()])
    smooth = (count + 0.5) / (count + 0.5).sum()
    assert unigram_kl(x, x) == pytest.approx(entropy(count / count.sum(), smooth), abs=1e-12)


def test_kl_of_known_rows() -> None:
    real, made = rows("ab", width=3), rows("aa", width=3)  # a b edge; a a edge
    assert unigram_kl(real, made) == pytest.approx(entropy([1 / 3] * 3, [2.5 / 4.5, 0.5 / 4.5, 1.5 / 4.5]))
    pairs = [1 / 3] * 3, [1.5 / 5.5, 0.5 / 5.5, 0.5 / 5.5]  # of edge-a, a-b, b-edge among five kinds
    assert bigram_kl(real, made) == pytest.approx(sum(p * math.log(p / q) for p, q in zip(*pairs, strict=True)))


def test_pairs_do_not_reach_over_rows_and_pieces_have_no_edge() -> None:
    assert bigram_kl(rows("ab", "cd"), rows("cd", "ab")) == bigram_kl(rows("ab", "cd"), rows("ab", "cd"))
    full, ended = rows("ab"), rows("ab", width=3)
    assert unigram_kl(full, full) < 1e-12 < unigram_kl(np.pad(full, ((0, 0), (0, 1)), constant_values=1), ended)


def test_kl_falls_as_samples_grow() -> None:
    real = random(4000, 6, 9)
    found = [bigram_kl(real, random(n, 6, 9, seed=1)) for n in (30, 300, 3000)]
    assert found[0] > found[1] > found[2] > 0


# Perplexity


class Uniform(Gaussian):
    """Says every one of V tokens with the same probability, of which rows of ids know nothing else."""

    def log_prob(self, state: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.stack([-torch.from_numpy(told(ids(arm)).sum(1)) * state["log"][r] for r, arm in enumerate(x)])


def evidence(train: np.ndarray, held_out: np.ndarray, *generated: np.ndarray, tokens: int = 27) -> Evidence:
    r = len(generated)
    x, y, z = (torch.from_numpy(np.stack(each)).to(torch.int32) for each in ([train] * r, [held_out] * r, [*generated]))
    state = {"log": torch.full((r,), math.log(tokens), dtype=torch.float64)}
    first = {"log": torch.full((r,), math.log(5), dtype=torch.float64)}
    return Evidence(
        generator=Uniform(),
        state=state,
        first=first,
        untrained={},
        train=x,
        held_out=y,
        generated=z,
        events=Text(train.shape[1], Characters(string.ascii_lowercase[: tokens - 1])),
    )


def fitted(train: np.ndarray, held_out: np.ndarray, generated: np.ndarray) -> Evidence:
    """Return evidence of bigram models, of which this generation's is fitted to the samples."""
    found, model, streams = evidence(train, held_out, generated), NGram(order=2), Streams((0,))
    blank = model.init((train.shape[1], 27), streams)
    state, first = (
        model.fit(blank, Samples.full(x, 0), Budget(epochs=1), streams) for x in (found.generated, found.train)
    )
    return replace(found, generator=model, state=state, first=first)


def test_perplexity_of_equal_chances_is_the_vocabulary() -> None:
    found = evidence(random(20, 5, 9), random(8, 5, 9, 1), random(20, 5, 9, 2), random(20, 5, 9, 3))
    assert METRICS["perplexity_held_out"].compute(found).tolist() == pytest.approx([27, 27])
    assert METRICS["perplexity_train"].compute(found).tolist() == pytest.approx([27, 27])
    assert METRICS["token_loss_held_out"].compute(found).tolist() == pytest.approx([math.log(27)] * 2)
    assert METRICS["perplexity_first_ratio"].compute(found).tolist() == pytest.approx([1, 1])
    assert token_loss(found, "generated", "first").tolist() == pytest.approx([math.log(5)] * 2)


def test_a_judge_sums_to_1_over_the_next_token() -> None:
    by = judge(random(30, 6, 5), 5)
    for before in ([], [1], [4, 2], [3, 3, 3], [1, 2, 3, 4]):
        rows_ = np.array([[*before, w] + [0] * (5 - len(before)) for w in range(5)])
        use = np.arange(6) <= len(before)
        found = np.exp(by.log_prob(rows_.astype(np.int32), np.tile(use, (5, 1))))
        prefix = use & (np.arange(6) < len(before))
        whole = np.exp(by.log_prob(rows_[:1].astype(np.int32), prefix[None]))
        assert found.sum() == pytest.approx(whole[0], rel=1e-12)


def test_perplexities_of_rows_are_those_of_their_tokens() -> None:
    by, x = judge(random(30, 6, 5), 5), random(9, 6, 5, 1)
    each, use = judged_perplexities(by, x), told(x)
    total = by.log_prob(x.astype(np.int32), use)
    assert -np.log(each) * use.sum(1) == pytest.approx(total)
    assert judged_perplexities(judge(rows("ab"), 4), rows("cc")).max() < math.inf


def test_a_judge_tells_text_that_is_too_likely_from_noise() -> None:
    rng = np.random.default_rng(0)
    chain = rng.dirichlet(np.full(9, 0.3), size=10)

    def drawn(n: int, power: float) -> np.ndarray:
        law = chain**power / (chain**power).sum(1, keepdims=True)
        x = np.zeros((n, 12), int)
        for i in range(12):
            before = x[:, i - 1] if i else np.full(n, 9)
            x[:, i] = [1 + rng.choice(9, p=law[k if i else 9]) for k in before % 10]
        return x

    train, held_out = drawn(300, 1), drawn(300, 1)
    likely, same, noise = (judged_ratio(train, held_out, drawn(300, power), 10) for power in (3, 1, 0.2))
    assert likely < 0.8 < 0.95 < same < 1.05 < 1.3 < noise


# All of them

OF_TEXT = [name for name, metric in METRICS.items() if "text" in metric.needs]


def test_there_are_so_many() -> None:
    assert len(OF_TEXT) == 25


@pytest.mark.parametrize("name", OF_TEXT)
class TestEveryMetric:
    def test_every_arm_has_its_own_value(self, name: str) -> None:
        train, held_out, *generated = (random(30, 8, 24, seed) for seed in range(4))
        both = METRICS[name].compute(evidence(train, held_out, *generated))
        alone = [METRICS[name].compute(evidence(train, held_out, x)).item() for x in generated]
        assert both.dtype == torch.float64
        assert both.tolist() == alone

    def test_the_order_of_rows_means_nothing(self, name: str) -> None:
        order = np.random.default_rng(0).permutation(30)
        sets = [random(30, 8, 24, seed) for seed in range(3)]
        there, again = (METRICS[name].compute(evidence(*some)) for some in (sets, [x[order] for x in sets]))
        assert again.item() == pytest.approx(there.item(), rel=1e-12)

    def test_the_training_rows_have_the_best_of_what_compares_with_them(self, name: str) -> None:
        train, metric = random(30, 8, 24), METRICS[name]
        value = metric.compute(evidence(train, random(30, 8, 24, 1), train)).item()
        if metric.goal in (0.0, 1.0) and not name.startswith("perplexity"):
            assert value == metric.goal
        if name.endswith("_kept") or name == "copied_texts":
            assert value == 1

    def test_a_collapsed_model_is_worse_than_a_good_one(self, name: str) -> None:
        """New rows of the real law beside one pair of tokens said again and again, or copies of the training rows."""
        metric = METRICS[name]
        train, held_out, new = (random(200, 8, 24, seed) for seed in range(3))
        collapsed = train if "cop" in name else np.tile([1, 2], (200, 4))
        good, bad = (metric.compute(fitted(train, held_out, x)).item() for x in (new, collapsed))
        assert metric.goal is None or metric.badness(good) < metric.badness(bad)

    def test_rows_without_a_token_are_none_or_a_number(self, name: str) -> None:
        some, none = random(30, 8, 24), np.zeros((30, 8), int)
        value = METRICS[name].compute(evidence(some, some, none)).item()
        assert math.isnan(value) or math.isfinite(value)

    @settings(max_examples=15, deadline=None)
    @given(x=several(3))
    def test_any_rows_have_a_value_or_none(self, name: str, x: Sequence[np.ndarray]) -> None:
        value = METRICS[name].compute(evidence(*x)).item()
        assert math.isnan(value) or (math.isfinite(value) and (value >= 0 or name == "token_entropy"))


@pytest.mark.parametrize(
    ("call", "expected"),
    [(lambda x: mean_length(x), 2.0), (lambda x: distinct(x, 5), math.nan), (lambda x: repetition(x, 5), math.nan)],
)
def test_rows_too_short_have_no_ngrams(call: Callable[[np.ndarray], float], expected: float) -> None:
    assert call(rows("ab", "abc", "a")) == pytest.approx(expected, nan_ok=True)
