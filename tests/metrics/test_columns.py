"""Metrics of columns: tables worked out by hand, properties, and another package's numbers."""

from __future__ import annotations

import warnings
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, f_oneway, ks_2samp

from selfloop.core.columns import Category, Number
from selfloop.metrics.association import association_error, associations, correlation_ratio, cramers_v
from selfloop.metrics.bounds import broken_bounds
from selfloop.metrics.levels import levels_kept
from selfloop.metrics.marginals import shape_errors
from selfloop.metrics.missing import missing_pattern_error, missing_rate_error
from selfloop.metrics.repeats import copied_rows, duplicate_rows
from selfloop.metrics.tables import Table
from tests.metrics.tables import COLUMNS, table, values

NAN = float("nan")
X, Y, WORD = Number("x", "float64", 0, 9, missing=True), Number("y", "float64", 0, 9), Category("w", ("a", "b", "c"))
DISTANCES = (
    lambda real, generated: max(shape_errors(real, generated).values()),
    association_error,
    missing_rate_error,
    missing_pattern_error,
    broken_bounds,
)


def small(x: list[float], w: list[str | None], y: list[float] | None = None) -> Table:
    given = {"x": np.array(x), "w": np.array(w, dtype=object), "y": np.array(y if y is not None else x)}
    return Table.of(given, [X, WORD] if y is None else [X, WORD, Y])


# by hand


def test_shape_of_a_table_worked_out_by_hand() -> None:
    """F − G of x is at most at 1: ¼ against 0; of w the shares are ½ ¼ 0 ¼ and ¼ ¼ ½ 0."""
    real = small([1, 2, 3, 4], ["a", "a", "b", None])
    generated = small([2, 3, 4, NAN], ["a", "b", "c", "c"])
    assert shape_errors(real, generated) == {"x": pytest.approx(0.25), "w": pytest.approx(0.5)}
    gone = replace(generated, numbers={"x": np.full(4, NAN)})
    assert shape_errors(real, gone)["x"] == 1
    assert shape_errors(gone, gone)["x"] == 0


def test_missing_values_worked_out_by_hand() -> None:
    """A quarter and a half of x, none and a quarter of w; together ½ ¼ ¼ of the rows have x, w, both missing."""
    real = small([1, 2, 3, NAN], ["a", "a", "b", "a"])
    generated = small([1, NAN, NAN, 2], ["a", "a", None, "b"])
    assert missing_rate_error(real, generated) == pytest.approx((1 / 4 + 1 / 4) / 2)
    assert missing_pattern_error(real, generated) == pytest.approx((1 / 4 + 1 / 4) / 2)
    full = small([1, 2], ["a", "b"])
    assert missing_rate_error(full, full) == missing_pattern_error(full, full) == 0
    apart = small([NAN, 2, NAN, 4], [None, "a", "a", None]), small([NAN, 2, NAN, 4], [None, "a", None, "a"])
    assert missing_rate_error(*apart) == 0
    assert missing_pattern_error(*apart) == pytest.approx(1 / 2)  # the same rates, otherwise together


def test_bounds_worked_out_by_hand() -> None:
    real = small([1, 2, 3, 4], ["a", "a", "b", "b"])
    assert broken_bounds(real, small([1, 4, 0.99, NAN], ["a", "c", "c", None])) == pytest.approx((2 / 4 + 3 / 4) / 2)
    assert broken_bounds(small([1, NAN], ["a", None]), small([NAN, 1], [None, "a"])) == 0
    assert broken_bounds(small([NAN, NAN], ["a", "a"]), small([NAN, 1], ["a", "a"])) == pytest.approx(1 / 4)


def test_a_value_that_is_no_level_of_the_column_is_told_from_others() -> None:
    odd = small([1, 1, 1], ["d", "e", "d"])
    assert odd.codes["w"].tolist() == [3, 4, 3]
    assert broken_bounds(small([1], ["a"]), odd) == pytest.approx(1 / 2)
    assert duplicate_rows(odd) == pytest.approx(1 / 3)


def test_survival_of_levels_worked_out_by_hand() -> None:
    """Of 200 rows a has 150, b 49, c one and is rare."""
    real = small([0.0] * 200, ["a"] * 150 + ["b"] * 49 + ["c"])
    kept = levels_kept(real, small([0.0] * 3, ["a", "a", "c"]))
    assert (kept.levels, kept.weighted, kept.rare) == (pytest.approx(2 / 3), pytest.approx(151 / 200), 1)
    kept = levels_kept(real, small([0.0] * 2, ["b", None]))
    assert (kept.levels, kept.weighted, kept.rare) == (pytest.approx(1 / 3), pytest.approx(49 / 200), 0)
    numbers = Table(("x",), {"x": np.zeros(3)}, {})
    assert np.isnan([levels_kept(numbers, numbers).levels, levels_kept(numbers, numbers).rare]).all()
    assert np.isnan(levels_kept(small([1], ["a"]), small([1], ["a"])).rare)


def test_repeats_worked_out_by_hand() -> None:
    train = small([1, NAN, 3, 0.0], ["a", "b", None, "c"])
    generated = small([NAN, NAN, 3, -0.0, 1], ["b", "b", None, "c", "b"])
    assert copied_rows(train, generated) == pytest.approx(4 / 5)
    assert duplicate_rows(generated) == pytest.approx(1 / 5)
    assert duplicate_rows(train) == 0
    assert copied_rows(train, train) == 1


def test_associations_are_the_textbook_formulas() -> None:
    """Pearson's r by NumPy; V² and η² by SciPy's χ² and F, corrected as Bergsma 2013 and Kelley 1935 have it."""
    x = table(400, 0)
    found, at = associations(x), {name: i for i, name in enumerate(x.names)}
    assert found == pytest.approx(found.T)
    there = ~x.missing("age")
    for one, other in (("age", "income"), ("age", "since")):
        r = np.corrcoef(x.numbers[one][there], x.numbers[other][there])[0, 1]
        assert found[at[one], at[other]] == pytest.approx(r, rel=1e-9)
    n, counts = 400, np.histogram2d(x.codes["city"], x.codes["owner"], [[-1, 0, 1, 2, 3, 4], [0, 1, 2]])[0]
    phi = max(0, chi2_contingency(counts, correction=False)[0] / n - 4 * 1 / (n - 1))
    least = min(5 - 16 / (n - 1), 2 - 1 / (n - 1)) - 1
    assert found[at["city"], at["owner"]] == pytest.approx(np.sqrt(phi / least), rel=1e-9)
    m, groups = int(there.sum()), [x.numbers["age"][there & (x.codes["owner"] == i)] for i in (0, 1)]
    f = f_oneway(*groups)[0]
    epsilon = 1 - (m - 1) / (f + m - 2)  # as η² = F (k − 1) / (F (k − 1) + n − k) and k = 2
    assert found[at["age"], at["owner"]] == pytest.approx(np.sqrt(epsilon), rel=1e-9)


def test_what_goes_wholly_together_has_association_1_and_what_does_not_vary_0() -> None:
    codes = np.array([0, 1, 2, 1, 0, 2, 2, 0])
    assert cramers_v(codes, 7 - codes) == pytest.approx(1)
    assert correlation_ratio(codes, 1e3 + codes**2.0) == pytest.approx(1)
    for constant in (np.zeros(8, np.int64), np.full(8, -1)):
        assert cramers_v(codes, constant) == cramers_v(constant, codes) == correlation_ratio(constant, codes * 1.0) == 0
    assert correlation_ratio(codes, np.full(8, 0.1)) == 0
    assert correlation_ratio(codes, np.full(8, NAN)) == 0
    assert correlation_ratio(np.arange(8), codes * 1.0) == 0  # nothing is left to tell a group's mean from a row
    flat = Table(("x", "y"), {"x": np.full(8, 0.1), "y": codes * 1.0}, {})
    assert associations(flat).tolist() == [[1, 0], [0, 1]]
    never = Table(("x", "y"), {"x": np.where(codes > 1, 1.0, NAN), "y": np.where(codes > 1, NAN, 1.0)}, {})
    assert associations(never).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("levels", [2, 8, 40])
def test_independent_columns_have_no_association_however_few_the_rows(levels: int) -> None:
    """Uncorrected, V² of 40 × 40 levels in 200 rows were 0.2, and η² were too."""
    rng, found = np.random.default_rng(0), []
    for _ in range(200):
        a, b = rng.integers(levels, size=(2, 200))
        found.append((cramers_v(a, b), correlation_ratio(a, rng.standard_normal(200))))
    assert (np.mean(np.square(found), 0) < 0.01 + 0.04 * (levels > 30)).all()


def test_few_rows_of_many_levels_have_the_same_formula() -> None:
    """12 × 12 levels in 100 rows, and what SciPy has of them."""
    a, b = np.random.default_rng(0).integers(12, size=(2, 100))
    b[:70] = a[:70]
    counts = np.histogram2d(a, b, [np.arange(13), np.arange(13)])[0]
    phi = chi2_contingency(counts, correction=False)[0] / 100 - 11 * 11 / 99
    assert cramers_v(a, b) == pytest.approx(np.sqrt(phi / (11 - 11**2 / 99)))
    assert cramers_v(np.tile(a, 2), np.tile(b, 2)) == pytest.approx(
        np.sqrt((phi + 121 / 99 - 121 / 199) / (11 - 121 / 199))
    )


def test_of_many_columns_some_are_paired() -> None:
    rng = np.random.default_rng(0)
    a, b = (Table(tuple(map(str, range(230))), {str(i): rng.standard_normal(50) for i in range(230)}, {}) for _ in "ab")
    some = [str(i) for i in np.linspace(0, 229, 100).round().astype(int)]
    assert association_error(a, b) == association_error(a.only(some), b.only(some))
    assert association_error(a.only(["3"]), b.only(["3"])) == 0


# another package


def test_agreement_with_sdmetrics() -> None:
    """What sdmetrics 0.32.0 (pandas 3.1.1) says of the same rows, or 1 less what it says.

    KSComplement, BoundaryAdherence, TVComplement and CategoryAdherence and -Coverage with a word for what is missing,
    MissingValueSimilarity, CorrelationSimilarity's two correlations, NewRowSynthesis without tolerance.
    """
    a, b = values(300, 0), values(200, 1, 0.5)
    b["income"][:7], b["income"][7:10] = -5.0, 1e6
    b["city"][b["city"] == "Jena"] = "Wien"
    real, generated = Table.of(a, COLUMNS), Table.of(b, COLUMNS)
    shape = shape_errors(real, generated)
    theirs = {"age": 0.116483994013, "income": 0.066666666667, "since": 0.056666666667, "owner": 0.005}
    assert {name: shape[name] for name in theirs} == pytest.approx(theirs, abs=1e-11)
    assert shape["city"] == pytest.approx(0.153333330789, abs=1e-8)  # it adds 1e-8 to all counts
    bounds = {"age": 0, "income": 0.05, "since": 0, "city": 0.07, "owner": 0}
    assert {name: broken_bounds(real.only([name]), generated.only([name])) for name in bounds} == pytest.approx(bounds)
    rates = {"age": 0.181666666667, "city": 0.06, "owner": 0}
    found = {name: missing_rate_error(real.only([name]), generated.only([name])) for name in rates}
    assert found == pytest.approx(rates, abs=1e-11)
    assert [levels_kept(real.only([name]), generated.only([name])).levels for name in ("city", "owner")] == [0.8, 1]
    r, s = associations(real.only(["age", "income", "since"])), associations(generated.only(["age", "income", "since"]))
    assert r[[0, 1, 0], [1, 2, 2]] == pytest.approx([0.697355309805, 0.142036176324, 0.119858288571], abs=1e-11)
    assert s[[0, 1, 0], [1, 2, 2]] == pytest.approx([0.094454877094, -0.082952732669, 0.245045407309], abs=1e-11)
    copies = {name: np.concatenate([a[name][:20], new]) for name, new in values(180, 2).items()}
    assert copied_rows(real, Table.of(copies, COLUMNS)) == pytest.approx(0.1)


# properties


@st.composite
def drawn(draw: st.DrawFn) -> Table:
    n = draw(st.integers(1, 12))
    number = st.one_of(st.just(NAN), st.integers(-3, 3).map(float), st.floats(-1e6, 1e6))
    names = draw(st.permutations(["x", "y", "v", "w"]))
    numbers = {name: np.array(draw(st.lists(number, min_size=n, max_size=n))) for name in names if name in "xy"}
    codes = {
        name: np.array(draw(st.lists(st.integers(-1, 3), min_size=n, max_size=n))) for name in names if name in "vw"
    }
    return Table(tuple(names), numbers, codes)


def turned(x: Table, levels: tuple[int, ...]) -> Table:
    """Return the table with its rows from the last, its columns in another order, and its levels called otherwise."""
    name = np.array([*levels, -1])
    other = replace(x, codes={column: name[codes] for column, codes in x.codes.items()})
    return other.take(slice(None, None, -1)).only(sorted(x.names))


@pytest.mark.slow
@settings(deadline=None)
@given(drawn(), drawn(), st.sampled_from([*permutations(range(4))]))
def test_order_and_names_do_not_count_and_values_stay_in_range(a: Table, b: Table, levels: tuple[int, ...]) -> None:
    b = b.only(a.names)
    for distance in DISTANCES:
        value = distance(a, b)
        assert 0 <= value <= 2
        assert distance(turned(a, levels), turned(b, levels)) == pytest.approx(value, abs=1e-6)
        assert distance(a, a) == pytest.approx(0, abs=1e-12)
        assert distance is broken_bounds or distance(b, a) == pytest.approx(value, abs=1e-9)
    assert 0 <= duplicate_rows(b) < 1
    assert duplicate_rows(turned(b, levels)) == duplicate_rows(b)
    assert copied_rows(turned(a, levels), turned(b, levels)) == copied_rows(a, b)
    assert copied_rows(b, b) == 1
    kept = levels_kept(a, b)
    assert levels_kept(turned(a, levels), turned(b, levels)).weighted == pytest.approx(kept.weighted)
    assert 0 <= kept.levels <= 1
    assert levels_kept(a, a).levels == levels_kept(a, a.joined(b)).levels == 1
    assert broken_bounds(a.joined(b), b) == 0


@pytest.mark.slow
@settings(deadline=None)
@given(drawn(), drawn())
def test_shape_of_numbers_is_scipys(a: Table, b: Table) -> None:
    here, there = (x.numbers["x"][~x.missing("x")] for x in (a, b))
    if len(here) and len(there):
        with warnings.catch_warnings(action="ignore"):  # of its p-value
            theirs = ks_2samp(here, there).statistic
        assert shape_errors(a, b.only(a.names))["x"] == pytest.approx(theirs)


@pytest.mark.parametrize("scale", [1e-100, 1e-12, 1e12, 1e100])
def test_another_unit_changes_nothing(scale: float) -> None:
    a, b = table(100, 0), table(80, 1, 0.5)
    c, d = (replace(x, numbers={name: scale * values for name, values in x.numbers.items()}) for x in (a, b))
    for distance in DISTANCES:
        assert distance(c, d) == pytest.approx(distance(a, b), rel=1e-9)
    assert duplicate_rows(d) == duplicate_rows(b)


@pytest.mark.parametrize("distance", DISTANCES[:4])
def test_it_grows_with_the_tilt(distance: object) -> None:
    found = [distance(table(2000, 0), table(2000, 1, tilt)) for tilt in (0, 0.3, 0.9)]  # type: ignore[operator]
    assert found == sorted(found)
    assert found[2] > 2 * found[0] + 0.01


def test_times_count_from_their_epoch_in_its_unit() -> None:
    x = table(20, 0)
    days = values(20, 0)["since"].astype("int64")
    assert (x.numbers["since"] == days).all()
    assert np.isnan(
        Table.of(values(20, 0) | {"since": np.full(20, "NaT", "datetime64[D]")}, COLUMNS).numbers["since"]
    ).all()
