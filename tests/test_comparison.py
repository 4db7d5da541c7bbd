"""Runs side by side: what differs is named, what is not comparable too, and nothing is compared that is not."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import selfloop
from selfloop import Experiment, run
from selfloop.analysis.comparison import compare, named
from selfloop.analysis.curves import read
from selfloop.cli.main import main
from selfloop.core.errors import ConfigError
from selfloop.store import Run

SETTINGS: dict[str, Any] = {
    "name": "a",
    "data": {"name": "gaussian", "n": 60},
    "generator": {"name": "gaussian"},
    "generations": 4,
    "seeds": 2,
    "grid": {"mixing.lam": [0, 1]},
    "metrics": ["w2_held_out", "variance_ratio"],
}


def made(folder: Path, **changes: Any) -> Path:
    list(run(Experiment.build(SETTINGS | {"name": folder.name} | changes), folder))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("compared")
    return {
        "a": made(out / "a"),
        "kde": made(out / "kde", generator={"name": "kernel_density"}, generations=5),
        "seeds": made(out / "seeds", seeds=[1, 2]),
        "other": made(out / "other", metrics=["mean_error"]),
        "large": made(out / "large", data={"name": "gaussian", "n": 90}, grid={"mixing.lam": [0, math.inf]}),
        "regime": made(out / "regime", grid={"mixing": [{"name": "accumulate"}, {"name": "replace"}]}),
    }


def opened(runs: dict[str, Path], *names: str) -> dict[str, Run]:
    return {name: Run.open(runs[name]) for name in names}


def test_runs_that_differ_in_a_setting(runs: dict[str, Path]) -> None:
    found = compare(opened(runs, "a", "kde"))
    assert [each.key for each in found.differences if "." not in each.key] == ["generator"]
    assert found.differences[0].values == ("gaussian", "kernel_density")
    assert [setting.label for setting in found.curves.settings] == [
        "λ = 0, generator = gaussian",
        "λ = 1, generator = gaussian",
        "λ = 0, generator = kernel_density",
        "λ = 1, generator = kernel_density",
    ]
    assert found.notes == ("retrainings differ (a 4, kde 5): compared after the 4 that all have",)
    # Each λ = 1 is held against the λ = 0 of its own generator.
    for label, control in found.by.controls.items():
        assert control.label == label.replace("λ = 1", "λ = 0")
    kde = read(Run.open(runs["kde"]))
    np.testing.assert_array_equal(
        found.curves.of(found.curves.settings[3], "w2_held_out"), kde.values["w2_held_out"][2:, :5]
    )
    assert found.samples(4, 6).equal(Run.open(runs["kde"]).samples(4, 2))
    assert found.real(6).sha256 == Run.open(runs["kde"]).real(2).sha256


def test_a_control_may_be_in_another_run(runs: dict[str, Path]) -> None:
    found = compare(opened(runs, "a", "regime"))
    assert len(found.curves.settings) == 4
    assert {control.ratio for control in found.by.controls.values()} == {0}
    assert len(found.by.controls) == 3


def test_more_seeds_of_a_setting_and_arms_that_are_in_both(runs: dict[str, Path]) -> None:
    found = compare(opened(runs, "a", "seeds"))
    assert [[found.curves.seeds[arm] for arm in setting.arms] for setting in found.curves.settings] == [[0, 1, 2]] * 2
    assert found.notes == ("2 arms of seeds have the settings and seeds of arms of a, which are taken",)
    assert found.differences == ()


def test_data_that_differ_in_a_setting(runs: dict[str, Path]) -> None:
    found = compare(opened(runs, "a", "large"))
    assert found.notes == ("runs differ in their data (data.n): each is held against its own real rows",)
    assert "No" not in found.curves.settings[0].label
    assert {setting.settings["data.n"] for setting in found.curves.settings} == {60, 90}
    assert [each.key for each in found.differences] == ["data.n", "mixing.lam"]


def test_what_was_not_recorded_by_all(runs: dict[str, Path]) -> None:
    with pytest.raises(
        ConfigError, match=r"^there is nothing to compare: no metric is the same in 'a', 'other'"
    ) as error:
        compare(opened(runs, "a", "other"))
    assert "w2_held_out was not recorded by other" in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="did not record 'mean_error'"):
        compare(opened(runs, "a", "kde"), metric="mean_error")
    with pytest.raises(ConfigError, match="two runs"):
        compare(opened(runs, "a"))


def test_versions_and_features_that_differ(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    both = opened(runs, "a", "kde")
    both["kde"].environment["metrics"]["w2_held_out"]["version"] += 1
    found = compare(both)
    assert found.curves.metrics == ("variance_ratio",)
    assert "w2_held_out has other versions: " in found.notes[0]
    both["kde"].environment["features"] = "classifier 1"
    with pytest.raises(ConfigError, match=r"kde looks at the features 'classifier 1', a at 'identity 1'"):
        compare(both)


def test_rows_of_files(tmp_path: Path) -> None:
    """Where a file lies is no difference; other rows at the same settings cannot be compared, at other paths too."""
    rows = np.random.default_rng(0).normal(size=(120, 2))
    for name, x in (("one", rows), ("moved", rows), ("changed", rows + 1e-3)):
        np.savetxt(tmp_path / f"{name}.csv", x, delimiter=",", header="a,b", comments="")
        made(
            tmp_path / name,
            data={"name": "table", "path": str(tmp_path / f"{name}.csv")},
            seeds=[len(name)] if name == "moved" else 1,
        )
    of = {name: Run.open(tmp_path / name) for name in ("one", "moved", "changed")}
    found = compare({name: of[name] for name in ("one", "moved")})
    assert found.differences == ()
    with pytest.raises(ConfigError, match="changed has other real rows than one"):
        compare({name: of[name] for name in ("one", "changed")})
    assert compare(of).notes == ("changed has other real rows than one",)


def test_names(tmp_path: Path) -> None:
    paths = [tmp_path / "x" / "run", tmp_path / "y" / "run", tmp_path / "z"]
    assert list(named(paths)) == [str(paths[0]), str(paths[1]), "z"]
    with pytest.raises(ConfigError, match="twice"):
        named([tmp_path / "z", tmp_path / "x" / ".." / "z"])


def cli(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["selfloop", *words])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_the_command(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page"
    words = ("compare", str(runs["a"]), str(runs["kde"]))
    assert cli(monkeypatch, *words, "--out", str(out)) == 0
    said = capsys.readouterr().out
    for part in ("kernel_density", "compared after the 4 that all have", "verdict", str(out / "index.html")):
        assert part in said
    page = (out / "index.html").read_text()
    for part in (
        "What differs",
        "<code>generator</code>",
        "Profile: eight things",
        "λ = 1, generator = kernel_density",
    ):
        assert part in page
    assert (out / "w2_held_out.csv").exists()
    assert cli(monkeypatch, *words, "--json") == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["differences"]["generator"] == ["gaussian", "kernel_density"]
    assert plain["settings"][0]["seeds"] == [0, 1]
    assert set(plain["settings"][0]["metrics"]) == {"w2_held_out", "variance_ratio"}
    for bad in (
        (*words, "--out", str(out)),
        (*words, "--metric", "nothing"),
        ("compare", str(runs["a"])),
        ("compare", str(runs["a"]), str(runs["a"])),
        ("compare", str(runs["a"]), str(tmp_path)),
        ("compare", str(runs["a"]), str(runs["other"])),
    ):
        assert cli(monkeypatch, *bad) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_run_without_a_retraining(runs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(runs["a"], tmp_path / "cut")
    for t in range(1, 5):
        shutil.rmtree(tmp_path / "cut" / f"generation-{t:04d}")
    with pytest.raises(ConfigError, match="cut has no retraining yet"):
        compare({"kde": Run.open(runs["kde"]), "cut": Run.open(tmp_path / "cut")})


def test_loops_that_were_run_elsewhere(tmp_path: Path) -> None:
    """Of these nothing is known but what they made: other samples are another loop, the same ones the same."""
    rng = np.random.default_rng(0)
    real = rng.normal(size=(120, 2))
    a, b, control = ([scale**t * rng.normal(size=(90, 2)) for t in range(4)] for scale in (0.8, 1.1, 1.0))
    names = ["sliced_w2_held_out", "variance_ratio"]
    one, two, longer = (
        selfloop.judge(real, x, control=beside, metrics=names, out=tmp_path / name).run
        for name, x, beside in (("one", a[:3], None), ("two", b, None), ("longer", a, control))
    )
    found = compare({"one": one, "two": two})
    assert [setting.label for setting in found.curves.settings] == ["run = one", "run = two"]
    assert found.curves.values["variance_ratio"][:, -1].tolist() == [
        read(run).values["variance_ratio"][0, 2] for run in (one, two)
    ]
    assert [each.key for each in found.differences] == ["generator.run"]
    same = compare({"one": one, "longer": longer})
    assert [len(setting.arms) for setting in same.curves.settings] == [1, 1]
    assert any("1 arms of longer" in note for note in same.notes)
    apart = compare({"two": two, "longer": longer})
    assert len(apart.curves.settings) == 3
    frames = [pd.DataFrame(x, columns=["u", "v"]) for x in (real, real[:100])]
    others = [
        selfloop.judge(x, [pd.DataFrame(y, columns=["u", "v"]) for y in a], metrics=names, out=tmp_path / f"frame{i}")
        for i, x in enumerate(frames)
    ]
    labels = [s.label for s in compare({str(i): each.run for i, each in enumerate(others)}).curves.settings]
    assert not any("shift" in label or "scale" in label for label in labels)
