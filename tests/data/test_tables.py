"""Tables as people have them: what their columns are taken for, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from selfloop import Experiment
from selfloop.core.errors import ConfigError
from selfloop.core.events import Vectors
from selfloop.metrics.base import METRICS, Evidence, Metric
from selfloop.runner import run


def _metric(name: str, needs: frozenset[str], seen: list[Evidence]) -> Metric:
    def compute(evidence: Evidence) -> torch.Tensor:
        seen.append(evidence)
        return torch.zeros(len(evidence.train), dtype=torch.float64)

    return Metric(
        name=name,
        title=name,
        definition="One.",
        version=1,
        unit="",
        compute=compute,
        needs=needs,  # type: ignore[arg-type]
    )


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.csv"
    path.write_text("x,y\n" + "".join(f"{i % 7},{i * i}\n" for i in range(40)))
    return path


def test_metrics_see_what_rows_are_and_which_column_is_to_be_predicted(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Evidence] = []
    for part in ("_members", "_origins"):
        monkeypatch.setattr(METRICS, part, dict(getattr(METRICS, part)))
    METRICS.register(_metric("of_columns", frozenset(("columns", "target")), seen))
    settings = {"name": "e", "generator": "gaussian", "generations": 1, "metrics": ["of_columns"]}
    experiment = Experiment(**settings, data={"name": "table", "path": str(plain), "target": "y"})
    list(run(experiment, tmp_path / "run"))
    assert seen[0].target == "y"
    assert isinstance(seen[0].events, Vectors)
    assert list(seen[0].events.table(seen[0].generated[0])) == ["x", "y"]
    with pytest.raises(ConfigError, match=r"metric of_columns needs a column to predict, .*: set data.target"):
        Experiment(**settings, data={"name": "table", "path": str(plain)})
    with pytest.raises(ConfigError, match="metric of_columns needs columns of a table, which data gaussian"):
        Experiment(**settings, data="gaussian")
