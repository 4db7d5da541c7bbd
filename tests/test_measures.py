"""Which metrics the sizes of sets allow: what is refused before a fit, and what is chosen where none was named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from selfloop import Experiment, measures
from selfloop.analysis.scores import scores
from selfloop.cli.main import app
from selfloop.core.errors import ConfigError, DataError
from selfloop.metrics.base import METRICS, Metric
from selfloop.metrics.demand import Demand, Sizes
from selfloop.runner import run
from selfloop.store import Run

HALF = Sizes(train=50, held_out=50, generated=50, event=3, features=3)


def table(folder: Path, n: int, d: int = 2, **settings: Any) -> Experiment:
    path = folder / f"t{n}.npy"
    np.save(path, np.random.default_rng(0).standard_normal((n, d)))
    plain = {"name": "t", "data": {"name": "table", "path": str(path)}, "generator": {"name": "gaussian"}}
    return Experiment.build({**plain, "generations": 1, **settings})


@pytest.mark.parametrize(
    ("name", "rows", "held_out", "words"),
    [
        ("coverage_held_out", 20, None, "metric coverage_held_out needs at least 6 held-out rows, and there are 4"),
        ("precision_held_out", 20, None, "metric precision_held_out needs at least 6 held-out rows, and there are 4"),
        ("recall_train", 6, None, "metric recall_train needs at least 6 rows to train on, and there are 5"),
        ("neighbour_entropy", 4, 1, "metric neighbour_entropy needs at least 4 rows to train on, and there are 3"),
        ("frechet_held_out", 20, 1, "metric frechet_held_out needs at least 2 held-out rows, and there are 1"),
        ("kid_held_out", 20, 1, "metric kid_held_out needs at least 2 held-out rows, and there are 1"),
        ("likelihood_gap", 20, 1, "metric likelihood_gap needs at least 2 held-out rows, and there are 1"),
    ],
)
def test_too_few_rows_are_refused_before_a_fit(
    tmp_path: Path, name: str, rows: int, held_out: int | None, words: str
) -> None:
    experiment = table(tmp_path, rows, metrics=[name])
    if held_out is not None:
        experiment = experiment.override(f"data.held_out={held_out}")
    with pytest.raises(ConfigError, match=words):
        next(run(experiment, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if not metric.needs])
def test_as_few_rows_as_a_metric_asks_for_are_enough(tmp_path: Path, name: str) -> None:
    rows = METRICS[name].demand(HALF).rows
    n, held_out = max(2, rows.get("train", 1), rows.get("generated", 1)), rows.get("held_out", 1)
    experiment = table(tmp_path, n + held_out, metrics=[name]).override(f"data.held_out={held_out}")
    done = list(run(experiment, tmp_path / "out"))
    assert done[-1].records[0]["status"] == "ok"


@pytest.mark.parametrize(
    ("name", "instead"),
    [("w2_held_out", "sliced_w2_held_out"), ("w1_train", "sliced_w2_train"), ("likelihood_gap", "authenticity")],
)
def test_what_does_not_fit_in_memory_is_refused_with_what_to_use(
    tmp_path: Path, name: str, instead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures, "memory", lambda: 10_000)
    with pytest.raises(ConfigError, match=rf"^metric {name} would take [0-9.]+ kB of memory .*: use {instead}$"):
        next(run(table(tmp_path, 100, metrics=[name]), tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert len(list(run(table(tmp_path, 100, metrics=[instead]), tmp_path / "other"))) == 2


def test_wide_rows_are_refused_where_their_covariance_does_not_fit() -> None:
    wide = Sizes(train=100, held_out=100, generated=100, event=10**6, features=10**6)
    for name in ("covariance_error", "sqrt_covariance_ratio", "leading_variance_ratio"):
        assert "TB of memory" in str(measures.obstacle(METRICS[name], wide))
    assert measures.obstacle(METRICS["frechet_train"], wide) is None  # of 100 rows the factors are the rows


def test_rows_of_one_number_take_no_matrix() -> None:
    many = Sizes(train=10**8, held_out=10**7, generated=10**8, event=1, features=1)
    assert measures.obstacle(METRICS["w2_held_out"], many) is None


def test_defaults_give_way_where_they_are_too_large_and_stay_when_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = ["w1_held_out", "w2_held_out", "mean_error", "covariance_error", "variance_ratio"]
    experiment, told = table(tmp_path, 100), list[str]()
    list(run(experiment, tmp_path / "small", notice=told.append))
    assert Run.open(tmp_path / "small").recorded == tuple(usual)
    assert not told
    with monkeypatch.context() as patch:
        patch.setattr(measures, "_UNASKED", 10_000)
        list(run(experiment, tmp_path / "large", notice=told.append))
    chosen = ("sliced_w2_held_out", "mean_error", "covariance_error", "variance_ratio")
    assert Run.open(tmp_path / "large").recorded == chosen
    assert len(told) == 1
    assert told[0] == (
        f"metrics: {', '.join(chosen)}; w1_held_out, w2_held_out would take 76.8 kB for so many rows: "
        "name them to have them"
    )
    assert told[0] in (tmp_path / "large" / "log.txt").read_text()
    # The same words again find it finished, and let it grow, whatever would be chosen now.
    assert list(run(experiment, tmp_path / "large", notice=told.append)) == []
    assert len(list(run(experiment.override("generations=2"), tmp_path / "large"))) == 1
    assert Run.open(tmp_path / "large").recorded == chosen
    assert len(told) == 1


def test_a_named_metric_is_never_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "_UNASKED", 0)
    told = list[str]()
    list(run(table(tmp_path, 100, metrics=["w2_held_out"]), tmp_path / "out", notice=told.append))
    assert Run.open(tmp_path / "out").recorded == ("w2_held_out",)
    assert not told


def test_names_outlast_other_settings() -> None:
    plain = {"name": "t", "data": {"name": "two_moons", "n": 20}, "generator": {"name": "gaussian"}, "generations": 1}
    unnamed, named = Experiment.build(plain), Experiment.build({**plain, "metrics": ["nll"]})
    assert not unnamed.override("generations=2").names_metrics
    assert named.override("generations=2").names_metrics
    assert unnamed.override("metrics=[nll]").names_metrics
    assert Experiment.parse(unnamed.yaml()) == unnamed


@pytest.mark.slow
def test_the_terminal_says_what_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "_UNASKED", 0)
    np.savetxt(tmp_path / "t.csv", np.random.default_rng(0).standard_normal((40, 2)), delimiter=",", header="a,b")
    settings = f"name: t\ndata: {{name: table, path: {tmp_path / 't.csv'}}}\ngenerator: {{name: gaussian}}\n"
    (tmp_path / "t.yaml").write_text(settings + "generations: 1\n")
    words = ["run", str(tmp_path / "t.yaml"), "--out", str(tmp_path / "out"), "--workers", "0"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0
    assert result.stdout.startswith("metrics: sliced_w2_held_out, mean_error, variance_ratio; w1_held_out, w2_held_out")


def test_a_metric_that_cannot_say_what_it_needs_is_one_line() -> None:
    def broken(sizes: Sizes) -> Demand:
        raise KeyError("rows")

    metric = Metric(name="own", title="", definition="", version=1, unit="", compute=lambda e: e.train, demand=broken)
    with pytest.raises(ConfigError, match="metric 'own' cannot say what it needs: "):
        measures.obstacle(metric, HALF)


@pytest.mark.parametrize(
    ("name", "least"), [("precision", 6), ("coverage", 6), ("frechet", 2), ("neighbour_entropy", 4)]
)
def test_scores_of_too_few_events_are_refused(name: str, least: int) -> None:
    rows = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ConfigError, match=f"score {name} needs at least {least} generated events, and there are 1"):
        scores(rows, rows[:1], names=[name])
    with pytest.raises(ConfigError, match=f"score {name} needs at least {least} real events, and there are 1"):
        scores(rows[:1], rows, names=[name])
    assert scores(rows[:least], rows[-least:], names=[name])


def test_scores_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "memory", lambda: 10_000)
    rows = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ConfigError, match=r"score w2 would take .* of memory .*: use sliced_w2$"):
        scores(rows, rows, names=["w2"])


def test_features_of_other_pictures_are_refused_before_a_fit(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8))
    experiment = Experiment.build(
        {
            "name": "colour",
            "data": {"name": "image_files", "path": str(tmp_path / "x.npy")},
            "generator": {"name": "otcfm_images", "batch_size": 8},
            "features": {"name": "classifier"},
            "metrics": ["frechet_train"],
            "budget": {"steps": 1},
            "generations": 1,
        }
    )
    with pytest.raises(DataError, match=r"from grey pictures, and these are colour ones .*: let features\.labelled"):
        next(run(experiment, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
