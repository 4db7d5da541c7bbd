"""Charts: where alarms are marked, and what page scripts are told of each renderer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from fakes import MOONS, FakeRun, experiment
from matplotlib.figure import Figure

from selfloop.analysis.alarms import Alarmed
from selfloop.analysis.curves import bounds, mean, read
from selfloop.metrics.base import METRICS
from selfloop.report.charts import chart
from selfloop.report.figures import draw_metric
from selfloop.report.style import styles

LABEL = "Fully Synthetic (λ = ∞)"


def alarmed(arm: int, generation: int | None, statistic: str = "w2_held_out") -> Alarmed:
    return Alarmed(setting=LABEL, arm=arm, seed=arm - 6, generation=generation, statistic=statistic, calibration="")


def models(item: Any) -> list[dict[str, Any]]:
    """Return the models of a chart that have attributes."""
    if isinstance(item, dict):
        own = [item] if "attributes" in item else []
        return own + [model for value in item.values() for model in models(value)]
    return [model for each in item for model in models(each)] if isinstance(item, list) else []


def test_rings_are_on_the_mean_at_the_generation_of_an_alarm(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, experiment(MOONS, seeds=2, generations=5), last=5, diverge={6: 4, 7: 4})
    curves = read(run)  # type: ignore[arg-type]
    arms = [alarmed(7, 2), alarmed(6, 2), alarmed(6, 4, "diverged"), alarmed(7, None)]
    item = chart(curves, styles(curves.settings), "w2_held_out", "data units", "here", None, arms)
    json.dumps(item)
    rings = [m["attributes"] for m in models(item) if m["attributes"].get("tags", [None, None])[1] == "alarm"]
    assert len(rings) == 1
    assert rings[0]["tags"][0] == 3
    told = dict(rings[0]["data_source"]["attributes"]["data"]["entries"])
    middle = mean(curves.of(curves.settings[3], "w2_held_out"))
    assert told["t"] == [2, 4]
    # Both have ended at 4: the ring is at the height of the last mean.
    np.testing.assert_allclose(told["y"], [middle[2], middle[3]])
    assert told["text"] == ["2 of 2, of seeds 0, 1, by w2_held_out", "1 of 2, of seeds 0, by diverged"]


def test_nothing_is_marked_where_nothing_rang(tmp_path: Path) -> None:
    run = FakeRun(tmp_path, experiment(MOONS, seeds=2, generations=3), last=3)
    curves = read(run)  # type: ignore[arg-type]
    item = chart(curves, styles(curves.settings), "w2_held_out", "data units", "here", None, [alarmed(6, None)])
    roles = {m["attributes"]["tags"][1] for m in models(item) if m["attributes"].get("tags")}
    assert roles == {"mean", "band", "seeds"}


def test_shares_stay_between_their_bounds(tmp_path: Path) -> None:
    curves = read(FakeRun(tmp_path, experiment(MOONS, seeds=2, generations=3), last=3))  # type: ignore[arg-type]
    values = np.linspace(0.9, 1.0, curves.values["w2_held_out"].size).reshape(curves.values["w2_held_out"].shape)
    values[::2] -= 0.8  # one standard deviation reaches beyond 1
    curves = replace(curves, values={"w2_held_out": values})
    assert bounds(curves, "w2_held_out", "share") == (0, 1)
    assert bounds(curves, "w2_held_out", "data units") == (-np.inf, np.inf)
    json.dumps(chart(curves, styles(curves.settings), "w2_held_out", "share", "here", None, []))
    axes = Figure().subplots()
    draw_metric(axes, curves, "w2_held_out", {"w2_held_out": replace(METRICS["w2_held_out"], unit="share")})
    edges = [path.vertices for drawn in axes.collections for path in drawn.get_paths()]
    assert edges
    assert all(each[:, 1].min() >= 0 and each[:, 1].max() <= 1 for each in edges)
