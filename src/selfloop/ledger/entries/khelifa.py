"""Khelifa et al. 2026: what kernel densities add up to where every generation sees some fresh rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from selfloop.ledger.loops import trajectories
from selfloop.ledger.row import Entry, Measured, Published, Row, Seen
from selfloop.theory.kernel_density import second_moment_drift

_H, _D, _N, _FITS, _SEEDS = 0.6, 10, 1000, 20, 30
_SHARES = (0.1, 0.5, 0.9)
_WHERE = "v2, Figure 1 and Appendix G.1"


def _rows() -> Iterator[Row]:
    mixed = [
        {
            "name": "compose",
            "parts": [{"from": "fresh", "rows": share}, {"from": "newest", "rows": round(1 - share, 1)}],
        }
        for share in _SHARES
    ]
    moments = trajectories(
        lambda turn: turn.samples.x.double().square().sum(2).mean(1),
        data={"name": "gaussian", "dim": _D, "n": _N, "held_out": 2},
        generator={"name": "kernel_density", "bandwidth": _H},
        generations=_FITS - 1,
        grid={"mixing": mixed},
        seeds=_SEEDS,
    )[:, :, -1]
    drift = dict(zip(_SHARES, moments - _D, strict=True))
    for share in _SHARES:
        known = _D * second_moment_drift(_H, share, _FITS)
        yield Row(
            statement=f"growth of E‖x‖² in {_FITS} generations, α = {share}: h²d (1 − (1 − α)^{_FITS})/α",
            where=f"{_WHERE}: the setting; the formula is an auditor's, and ours",
            seen=Seen.notes,
            theirs=Published.formula(known),
            ours=Measured.mean(drift[share]),
            exact=known,
        )
    for low, high in itertools.pairwise(_SHARES):
        yield Row(
            statement=f"less fresh data, more drift: growth at α = {low} less that at α = {high}",
            where=_WHERE,
            seen=Seen.notes,
            theirs=Published.formula(0.0),
            ours=Measured.mean(drift[low] - drift[high]),
            kind="above",
            exact=_D * (second_moment_drift(_H, low, _FITS) - second_moment_drift(_H, high, _FITS)),
        )


ENTRY = Entry(
    title="Khelifa, Turner & Venkataramanan 2026, Error Propagation and Model Collapse in Diffusion Models",
    source="arXiv:2602.16601",
    recipe=(
        f"`kernel_density` with h = {_H} in d = {_D}, a share α of each generation's {_N} rows fresh and the "
        f"others of the model before, {_FITS} fits, {_SEEDS} seeds. Theirs: a mixture of five Gaussians with σ = 0.6, "
        "100,000 rows, samples by 500 steps of a diffusion's sampler, 10 runs. The growth does not depend on data and "
        "n, so that ours are normal and fewer; we draw from the kernel density itself."
    ),
    rows=_rows,
    found=(
        "The recursion holds, and with it the order of the three shares, which is what the paper says in words. That "
        "the growth is h²d (1 − (1 − α)^20)/α follows for an exact sampler; their curves' own values were not seen."
    ),
)
