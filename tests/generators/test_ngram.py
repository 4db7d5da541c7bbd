"""n-grams against a reference that is written as the definition reads, and against the laws that they sample."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfloop.core.samples import Samples, State, stack
from selfloop.core.sequences import before, ended, scored
from selfloop.core.streams import Streams
from selfloop.generators.base import GENERATORS
from selfloop.generators.ngram import NGram
from selfloop.learning.training import Budget

STREAMS = Streams((0,))
BUDGET = Budget(steps=0)


def fitted(x: list[list[int]], v: int, weight: list[float] | None = None, **chosen: object) -> tuple[NGram, State]:
    model = GENERATORS.parse({"name": "ngram"} | chosen)
    data = Samples.full(torch.tensor([x], dtype=torch.int32), born=0)
    data = data if weight is None else data.weighed(weight)
    return model, model.fit(model.init((len(x[0]), v), STREAMS), data, BUDGET, STREAMS)


def reference(x: list[list[int]], v: int, order: int, pseudocount: float | None, discount: float = 0.75):
    """Return p(w | all tokens before) as its definition reads."""
    seen: Counter[tuple[int, ...]] = Counter()
    for row in x:
        padded = [0] * (order - 1) + row
        for i, w in enumerate(row):
            seen[tuple(padded[i : i + order])] += 1
            if w == 0:
                break

    def count(s: tuple[int, ...]) -> float:
        if len(s) == order:
            return seen[s]
        longer = {g[-len(s) - 1 :] for g in seen if g[-len(s) :] == s}
        if len(s) > 1 and s[0] == 0:
            return sum(seen[g] for g in seen if g[-len(s) :] == s)
        return len(longer)

    def p(w: int, history: tuple[int, ...]) -> float:
        each = [count((*history, a)) for a in range(v)]
        total = sum(each)
        if pseudocount is not None:
            full = total + pseudocount * v
            return (each[w] + pseudocount) / full if full else 1 / v
        lower = p(w, history[1:]) if history else 1 / v
        if not total:
            return lower
        return max(each[w] - discount, 0) / total + sum(min(c, discount) for c in each) / total * lower

    def given(past: list[int], w: int) -> float:
        return p(w, tuple(([0] * (order - 1) + past)[len(past) :]))

    return given


def all_rows(length: int, v: int) -> torch.Tensor:
    """Return every row that there can be."""
    return torch.unique(ended(torch.tensor(list(itertools.product(range(v), repeat=length)), dtype=torch.int32)), dim=0)


corpora = st.integers(2, 4).flatmap(
    lambda v: st.tuples(
        st.just(v),
        st.integers(1, 4).flatmap(
            lambda length: st.lists(
                st.lists(st.integers(0, v - 1), min_size=length, max_size=length), min_size=1, max_size=8
            )
        ),
    )
)
smoothings = st.sampled_from(
    [
        {"smoothing": "kneser-ney"},
        {"smoothing": "kneser-ney", "discount": 0.2},
        {"smoothing": "additive"},
        {"smoothing": "additive", "pseudocount": 1.5},
        {"smoothing": "additive", "pseudocount": 0.0},
    ]
)


class TestNGram:
    @given(corpora, st.integers(1, 5), smoothings)
    @settings(max_examples=80, deadline=None)
    def test_it_is_its_definition(self, corpus, order, chosen) -> None:
        v, x = corpus
        x = ended(torch.tensor(x)).tolist()
        model, state = fitted(x, v, order=order, **chosen)
        rows = all_rows(len(x[0]), v)
        found = model.log_prob(state, rows[None])[0]
        pseudocount = model.pseudocount if model.smoothing == "additive" else None
        p = reference(x, v, order, pseudocount, model.discount)
        for row, value in zip(rows.tolist(), found.tolist(), strict=True):
            last = row.index(0) + 1 if 0 in row else len(row)
            want = math.prod(p(row[:i], row[i]) for i in range(last))
            assert math.exp(value) == pytest.approx(want, rel=1e-12, abs=1e-300)
        assert float(found.exp().sum()) == pytest.approx(1, abs=1e-12)

    @pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
    @pytest.mark.parametrize("chosen", [{"smoothing": "kneser-ney"}, {"smoothing": "additive", "pseudocount": 0.3}])
    def test_samples_are_of_the_law(self, chosen: dict[str, object], temperature: float) -> None:
        x = [[1, 2, 0], [1, 1, 2], [2, 0, 0], [1, 2, 1], [0, 0, 0]]
        model, state = fitted(x, 4, order=2, **chosen)
        rows = all_rows(3, 4)
        law = {tuple(r): p for r, p in zip(rows.tolist(), model.log_prob(state, rows[None])[0].exp().tolist())}  # noqa: B905
        if temperature != 1:
            given_ = {}

            def token(past: tuple[int, ...], w: int) -> float:
                """Return p(w | past) by summing rows."""
                begin = sum(p for r, p in law.items() if r[: len(past)] == past)
                return sum(p for r, p in law.items() if r[: len(past) + 1] == (*past, w)) / begin

            for r in law:
                last = r.index(0) + 1 if 0 in r else 3
                value = 1.0
                for i in range(last):
                    every = [token(r[:i], w) ** (1 / temperature) for w in range(4)]
                    value *= every[r[i]] / sum(every)
                given_[r] = value
            law = given_
        n = 40_000
        drawn = Counter(map(tuple, model.sample(state, n, STREAMS, temperature=temperature)[0].tolist()))
        assert set(drawn) <= set(law)
        chi = sum((drawn[r] - n * p) ** 2 / (n * p) for r, p in law.items() if n * p > 5)
        cells = sum(n * p > 5 for p in law.values())
        assert chi < cells + 5 * math.sqrt(2 * cells)

    def test_a_row_does_not_depend_on_how_many_are_drawn(self) -> None:
        rng = np.random.default_rng(0)
        x = ended(torch.from_numpy(rng.integers(0, 9, (50, 6)))).tolist()
        model, state = fitted(x, 9)
        many = model.sample(state, 20_000, STREAMS)
        assert torch.equal(model.sample(state, 17, STREAMS), many[:, :17])
        assert torch.equal(ended(many), many)
        cold = model.sample(state, 30, STREAMS, temperature=0.5)
        assert torch.equal(model.sample(state, 7, STREAMS, temperature=0.5), cold[:, :7])

    def test_weights_count_rows_and_their_scale_means_nothing(self) -> None:
        x = [[1, 2, 0], [1, 1, 2], [2, 0, 0]]
        twice = fitted([*x, x[1]], 3, smoothing="additive", pseudocount=0.0)
        weighed = fitted(x, 3, weight=[10.0, 20.0, 10.0], smoothing="additive", pseudocount=0.0)
        rows = all_rows(3, 3)[None]
        torch.testing.assert_close(weighed[0].log_prob(weighed[1], rows), twice[0].log_prob(twice[1], rows))
        without = fitted(x[:2], 3)
        zero = fitted(x, 3, weight=[1.0, 1.0, 0.0])
        torch.testing.assert_close(zero[0].log_prob(zero[1], rows), without[0].log_prob(without[1], rows))

    @pytest.mark.parametrize(("v", "order"), [(4, 16), (70_000, 5), (2**20, 16)])
    def test_large_vocabularies_and_orders(self, v: int, order: int) -> None:
        rng = np.random.default_rng(0)
        x = rng.integers(v - 3, v, (20, 7)).tolist()
        model, state = fitted(x, v, order=order, smoothing="additive", pseudocount=0.0)
        _, other = fitted(x, v, weight=[1.0] * 19 + [2.0], order=order)
        assert int(state["rows.weight"].sum()) == 140
        assert float(other["rows.weight"].sum()) == pytest.approx(140)
        assert torch.equal(state["rows.x"], other["rows.x"])
        p = reference(x, v, order, 0.0) if v == 4 else None
        got = model.log_prob(state, torch.tensor([x], dtype=torch.int32))[0]
        assert torch.isfinite(got).all()
        if p is not None:
            want = [math.log(math.prod(p(row[:i], w) for i, w in enumerate(row))) for row in x]
            assert got.tolist() == pytest.approx(want)

    def test_what_was_never_fitted_knows_of_any_token(self) -> None:
        model = GENERATORS.parse("ngram")
        state = model.init((4, 5), STREAMS)
        assert float(model.log_prob(state, torch.tensor([[[1, 2, 3, 4], [1, 0, 0, 0]]]))[0, 1]) == pytest.approx(
            2 * math.log(1 / 5)
        )
        assert model.sample(state, 3, STREAMS).shape == (1, 3, 4)

    def test_arms_do_not_see_each_other(self) -> None:
        model, streams = GENERATORS.parse("ngram"), Streams((3, 1))
        sets = [
            Samples.full(torch.randint(0, 6, (1, n, 5), generator=torch.Generator().manual_seed(n)).int(), born=0)
            for n in (40, 70)
        ]
        state = model.fit(model.init((5, 6), streams), stack(sets), BUDGET, streams)
        for r, seed in enumerate(streams.seeds):
            alone = model.fit(model.init((5, 6), Streams((seed,))), sets[r], BUDGET, Streams((seed,)))
            assert torch.equal(model.sample(alone, 50, Streams((seed,)))[0], model.sample(state, 50, streams)[r])

    def test_tokens_that_there_are_none_of_are_refused(self) -> None:
        with pytest.raises(ValueError, match="tokens must be from 0 to 4, and there are 1 to 5"):
            fitted([[1, 5]], 5)


def test_a_rows_law_is_over_its_tokens_up_to_the_first_edge() -> None:
    x = torch.tensor([[3, 1, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4]])
    assert scored(x).tolist() == [[True, True, True, False], [True, False, False, False], [True] * 4]
    assert before(x).tolist() == [[0, 3, 1, 0], [0, 0, 0, 0], [0, 1, 2, 3]]
    assert ended(torch.tensor([1, 0, 2])).tolist() == [1, 0, 0]
