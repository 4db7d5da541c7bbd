"""Kernel densities: starts, limits, and the share of real rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfloop.theory import kernel_density


@given(st.integers(2, 100), st.floats(0.01, 2), st.floats(0.1, 5), st.integers(0, 40))
def test_the_closed_form_is_the_recursion(n: int, h: float, start: float, t: int) -> None:
    v = start
    for _ in range(t):
        v = (1 - 1 / n) * v + h**2
    assert kernel_density.replaced_variance(n, h, t, start) == pytest.approx(v)


def test_it_forgets_the_data() -> None:
    ends = [kernel_density.replaced_variance(10, 0.3, 1000, start) for start in (0.1, 10)]
    assert ends == pytest.approx([0.9, 0.9])


@given(st.floats(0.01, 1), st.integers(0, 60))
def test_real_rows_bound_the_drift(real: float, t: int) -> None:
    found = kernel_density.second_moment_drift(0.5, real, t)
    assert found == pytest.approx(0.25 * (1 - (1 - real) ** t) / real)
    assert found <= kernel_density.second_moment_drift(0.5, 0, t) + 1e-12
    assert kernel_density.second_moment_drift(0.5, 0, t) == pytest.approx(0.25 * t)
