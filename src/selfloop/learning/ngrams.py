"""n-grams of rows of tokens: exact counts, and the interpolated laws that follow from them.

Legend: N order; V tokens; h the k − 1 tokens before a token w, edges before a row's first; h′ is h without its first
token; c counts; d discount. At each order k, from 1 to N, the laws are

    p_k(w|h) = mass(hw) / norm(h) + γ(h) p_{k−1}(w|h′),    p_0 = 1/V,

and γ(h) = 1 where nothing was seen after h. Strings are the nodes of a tree, numbered by their length and then in the
order of their tokens: 0 is the empty one, and the strings that go on from a node by one token are a run of numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from selfloop.core.tokens import EDGE

Doubles = NDArray[np.float64]
Numbers = NDArray[np.int64]

_DENSE = 1 << 16  # strings of which a table of all that there could be is small
_WORD = 1 << 62
_ROWS = 1 << 14  # rows that are drawn at once
_kernel = njit(cache=True, nogil=True, error_model="numpy")


@dataclass(frozen=True)
class Grams:
    """Strings of N tokens, each as often as it was seen.

    Attributes:
        tokens: (K, N) int32, distinct and in the order of their tokens.
        count: (K,) float64.
    """

    tokens: NDArray[np.int32]
    count: Doubles


def counted(x: NDArray[np.int32], used: NDArray[np.bool_], weight: Doubles | None, order: int, v: int) -> Grams:
    """Count the strings of ``order`` tokens that end in the tokens of rows (n, L) which are used, (n, L).

    Args:
        x: tokens 0 … v − 1.
        used: which are counted.
        weight: what each row counts, (n,); None counts each once.
        order: N.
        v: V.

    Raises:
        ValueError: a token is none of the v.
    """
    if x.size and not 0 <= int(x.min()) <= int(x.max()) < v:
        raise ValueError(f"tokens must be from 0 to {v - 1}, and there are {int(x.min())} to {int(x.max())}")
    n, length = x.shape
    padded = np.concatenate([np.full((n, order - 1), EDGE, np.int64), x], axis=1)
    at = np.flatnonzero(used)
    key, bound, ranks = np.zeros(len(at), np.int64), 1, list[tuple[int, Numbers]]()
    for k in range(order):
        if bound * v > _WORD:  # then the beginnings of strings are known by their rank
            table, key = np.unique(key, return_inverse=True)
            ranks.append((k, table))
            bound = len(table)
        key = key * v + np.ascontiguousarray(padded[:, k : k + length]).ravel()[at]
        bound *= v
    times = None if weight is None else np.repeat(weight, used.sum(1))
    found, count = _tally(key, times, bound)
    tokens = np.empty((len(found), order), np.int32)
    for k in reversed(range(order)):
        found, tokens[:, k] = np.divmod(found, v)
        if ranks and ranks[-1][0] == k:
            found = ranks.pop()[1][found]
    return Grams(tokens, count)


def _tally(key: Numbers, weight: Doubles | None, bound: int) -> tuple[Numbers, Doubles]:
    """Return the distinct keys below ``bound``, ascending, and the sum of the weights of each."""
    if bound <= max(_DENSE, 4 * len(key)):
        count: Doubles = np.bincount(key, weight, bound).astype(np.float64)
        found = np.flatnonzero(count).astype(np.int64)
        return found, count[found]
    if weight is None:
        each, times = np.unique(key, return_counts=True)
        return each.astype(np.int64), times.astype(np.float64)
    distinct, which = np.unique(key, return_inverse=True)
    return distinct.astype(np.int64), np.bincount(which, weight, len(distinct)).astype(np.float64)


class Tree(NamedTuple):
    """All strings of up to N tokens that a law knows of, and what it is made of.

    Attributes:
        starts: (N + 1,) the first node of each length: the string of edges alone.
        token: (nodes,) in which each string ends.
        first: (nodes + 1,) the first of the strings that go on from each.
        edges: (nodes + 1,) sums of the masses of all nodes before.
        mass: (nodes,) of each string, over what its beginning has in all.
        rest: (nodes,) γ after each.
    """

    starts: Numbers
    token: NDArray[np.int32]
    first: Numbers
    edges: Doubles
    mass: Doubles
    rest: Doubles


class Law:
    """The law of the next token given all before, of strings that were counted.

    Args:
        grams: the strings.
        v: V.
        pseudocount: of additive smoothing (Lidstone): (c(hw) + a)/(c(h) + aV), and 1/V where h was not seen.
        discount: d of Kneser and Ney's (1995), interpolated, with one discount (Chen & Goodman 1999, Eq. 20): counts
            at order N, below it the number of tokens that a string was seen after, or where it begins with an edge,
            before which is nothing, its count. It is used where ``pseudocount`` is None.
    """

    def __init__(self, grams: Grams, v: int, pseudocount: float | None, discount: float) -> None:
        self.v, order = v, grams.tokens.shape[1]
        starts, token, first, ends = _strings(grams.tokens, v)
        nodes = len(token)
        count, left = np.zeros(nodes), np.zeros(nodes)
        initial = starts[1] + 1  # where the strings of a length end that begin with an edge
        for k in range(1, order + 1):
            own = np.bincount(ends[k - 1], grams.count, nodes)
            if pseudocount is not None:
                own *= k == order
            elif k < order:
                one = np.zeros(nodes, np.int64)  # of each longer string, one that ends in it
                one[ends[k]] = ends[k - 1]
                after = np.bincount(one[one > 0], minlength=nodes)
                if k > 1:  # of one token, the edge is the end of a row
                    initial = first[initial]
                    after[starts[k] : initial] = own[starts[k] : initial]
                own = after.astype(np.float64)
            count += own
        parent = np.repeat(np.arange(nodes), np.diff(first))  # of all but the empty string
        if pseudocount is None:
            left += np.bincount(parent, np.minimum(count, discount)[1:], nodes)
            count = np.maximum(count - discount, 0)
        else:
            left[starts[order - 1] : starts[order]] = pseudocount * v
        norm = np.bincount(parent, count[1:], nodes) + left
        unseen = norm == 0
        norm[unseen], left[unseen] = 1.0, 1.0
        mass = np.append(0.0, count[1:] / norm[parent])
        self.tree = Tree(starts, token, first, np.append(0.0, mass.cumsum()), mass, left / norm)

    @property
    def nbytes(self) -> int:
        """Of the tree."""
        return sum(each.nbytes for each in self.tree)

    def log_prob(self, x: NDArray[np.int32], used: NDArray[np.bool_]) -> Doubles:
        """Return the log probabilities of rows (n, L) in nats, (n,): the sum over the tokens that are used."""
        total = np.empty(len(x))
        _log_prob(self.tree, self.v, np.ascontiguousarray(x), used, total)
        return total

    def sample(self, n: int, length: int, rng: np.random.Generator, temperature: float = 1.0) -> NDArray[np.int32]:
        """Draw rows (n, L) of tokens, edges after the first; the first k of n are those of k.

        Args:
            n: rows.
            length: L.
            rng: gives every token of every row a number of its own.
            temperature: τ: the next token has the probability p^(1/τ) / Σ p^(1/τ).
        """
        x = np.full((n, length), EDGE, np.int32)
        for start in range(0, n, _ROWS):
            rows = x[start : start + _ROWS]
            _sample(self.tree, self.v, rng.random(rows.shape), 1 / temperature, rows)
        return x


def _strings(tokens: NDArray[np.int32], v: int) -> tuple[Numbers, NDArray[np.int32], Numbers, list[Numbers]]:
    """Return :class:`Tree`'s starts, token and first of strings (K, N), and the nodes of their ends of 1 … N tokens."""
    order = tokens.shape[1]
    starts, token, first = np.zeros(order + 1, np.int64), np.full(1, -1, np.int32), np.ones(1, np.int64)
    ends = []
    for k in range(1, order + 1):
        starts[k] = size = len(token)
        key = _nodes(token, first, np.ascontiguousarray(tokens[:, order - k : order - 1])) * v + tokens[:, -1]
        keys = np.sort(np.append(key, starts[k - 1] * v + EDGE))
        keys = keys[np.diff(keys, prepend=-1) > 0]
        ends.append(size + np.searchsorted(keys, key))
        token = np.append(token, (keys % v).astype(np.int32))
        follow = size + np.searchsorted(keys, np.arange(starts[k - 1], size + 1) * v)
        first = np.append(first[:-1], follow)
    return starts, token, np.append(first, np.full(len(token) - starts[order], len(token))), ends


@_kernel
def _child(token: NDArray[np.int32], first: Numbers, node: int, w: int) -> int:
    """Return the string that goes on from another by one token, −1 where it was not seen or the other was not."""
    if node < 0:
        return -1
    low, high = first[node], first[node + 1]
    end = high
    while low < high:
        middle = (low + high) // 2
        if token[middle] < w:
            low = middle + 1
        else:
            high = middle
    return low if low < end and token[low] == w else -1


@_kernel
def _nodes(token: NDArray[np.int32], first: Numbers, strings: NDArray[np.int32]) -> Numbers:
    """Return the nodes of strings (K, k), (K,)."""
    found = np.zeros(len(strings), np.int64)
    for i in range(len(strings)):
        for w in strings[i]:
            found[i] = _child(token, first, found[i], w)
    return found


@_kernel
def _go_on(tree: Tree, contexts: Numbers, w: int) -> None:
    """Turn the nodes of the last 0 … N − 1 tokens, −1 of what was not seen, into those after one more."""
    for k in range(len(contexts) - 1, 0, -1):
        contexts[k] = _child(tree.token, tree.first, contexts[k - 1], w)


@_kernel
def _log_prob(tree: Tree, v: int, x: NDArray[np.int32], used: NDArray[np.bool_], total: Doubles) -> None:
    for row in range(len(x)):
        contexts, total[row], last = tree.starts[:-1].copy(), 0.0, x.shape[1]
        while last > 0 and not used[row, last - 1]:
            last -= 1
        for i in range(last):
            p, following = 1 / v, contexts[0]
            for k in range(len(contexts)):
                c, contexts[k], following = contexts[k], following, -1
                if c >= 0:
                    following = _child(tree.token, tree.first, c, x[row, i])
                    p = tree.rest[c] * p + (tree.mass[following] if following >= 0 else 0.0)
            if used[row, i]:
                total[row] += np.log(p)


@_kernel
def _sample(tree: Tree, v: int, u: Doubles, power: float, x: NDArray[np.int32]) -> None:
    """Fill rows (n, L) of edges by uniform numbers (n, L)."""
    p = np.empty(v)
    for row in range(len(x)):
        contexts = tree.starts[:-1].copy()
        for i in range(x.shape[1]):
            w = _drawn(tree, v, contexts, u[row, i]) if power == 1 else _tempered(tree, contexts, u[row, i], power, p)
            x[row, i] = w
            if w == EDGE:
                break
            _go_on(tree, contexts, w)


@_kernel
def _drawn(tree: Tree, v: int, contexts: Numbers, u: float) -> int:
    """Return the token for a uniform number, which a lower order has for its own where it is asked."""
    for k in range(len(contexts) - 1, -1, -1):
        c = contexts[k]
        if c < 0:
            continue
        rest = tree.rest[c]
        if u < rest:
            u /= rest
            continue
        low, last = tree.first[c], tree.first[c + 1] - 1
        share = (u - rest) / (1 - rest)
        point = tree.edges[low] + share * (tree.edges[last + 1] - tree.edges[low])
        while low < last:
            middle = (low + last) // 2
            if tree.edges[middle + 1] <= point:
                low = middle + 1
            else:
                last = middle
        return int(tree.token[low])
    return min(int(u * v), v - 1)


@_kernel
def _tempered(tree: Tree, contexts: Numbers, u: float, power: float, p: Doubles) -> int:
    """Return the token for a uniform number by the law's p^power, normalised, for which there is room p (V,)."""
    p[:] = 1 / len(p)
    for c in contexts:
        if c >= 0:
            p *= tree.rest[c]
            for at in range(tree.first[c], tree.first[c + 1]):
                p[tree.token[at]] += tree.mass[at]
    greatest, total = p.max(), 0.0
    for w in range(len(p)):
        total += (p[w] / greatest) ** power
        p[w] = total
    return min(int(np.searchsorted(p, u * total, side="right")), len(p) - 1)
