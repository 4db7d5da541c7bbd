"""Runs side by side: what differs is named, what is not comparable too, and nothing is compared that is not."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import selfloop
from selfloop import Experiment, Judgement, judge, run
from selfloop.analysis import verdict
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


def test_members_of_one_name_are_told_apart_by_what_some_have_alone(tmp_path: Path, runs: dict[str, Path]) -> None:
    grid = {"mixing": [{"name": "replace"}, {"name": "replace", "n": {"power": 1.5}}]}
    growing = Run.open(made(tmp_path / "growing", grid=grid))
    found = compare({"growing": growing, "a": Run.open(runs["a"])})
    assert [(len(each.arms), each.label) for each in found.curves.settings[:2]] == [
        (2, "Fully Synthetic (replace)"),
        (2, "replace, n = (power = 1.5)"),
    ]


def test_a_control_may_be_in_another_run(runs: dict[str, Path]) -> None:
    found = compare(opened(runs, "a", "regime"))
    assert len(found.curves.settings) == 4
    assert {control.ratio for control in found.by.controls.values()} == {0}
    assert len(found.by.controls) == 3


def test_what_runs_share_is_compared_seed_by_seed(runs: dict[str, Path]) -> None:
    found = compare(opened(runs, "a", "kde"))
    assert [(row.label, list(row.settings)) for row in found.shared] == [
        ("No Synth. Data (λ = 0)", ["a", "kde"]),
        ("λ = 1", ["a", "kde"]),
    ]
    assert [(row.label, row.run) for row in found.against] == [("No Synth. Data (λ = 0)", "kde"), ("λ = 1", "kde")]
    w2 = np.log(found.curves.values["w2_held_out"])
    of_kde, of_a = (found.shared[1].settings[name].arms for name in ("kde", "a"))
    expected = (w2[list(of_kde)] - w2[list(of_a)])[:, 1:][:, -3:].mean()  # the last three retrainings
    change = found.against[1].changes["w2_held_out"]
    assert change is not None
    assert change.value == pytest.approx(expected)
    assert change.low < change.value < change.high
    assert found.against_first.headings == ["setting", "run", "W₂ to held-out data", "Variance ratio"]
    assert found.against_first.rows[1][2] == verdict.span(change, found.metrics["w2_held_out"])
    plain = found.plain()["against_first"][1]
    assert (plain["setting"], plain["run"]) == ("λ = 1", "kde")
    assert plain["metrics"]["w2_held_out"]["as"] == "factor"
    assert plain["metrics"]["w2_held_out"]["value"] == pytest.approx(math.exp(expected))


def test_what_only_one_run_has_is_held_against_nothing(runs: dict[str, Path]) -> None:
    found = compare(opened(runs, "a", "large"))
    assert [(row.label, list(row.settings)) for row in found.shared] == [
        ("No Synth. Data (λ = 0)", ["a", "large"]),
        ("λ = 1", ["a"]),
        ("Fully Synthetic (λ = ∞)", ["large"]),
    ]
    assert [row.label for row in found.against] == ["No Synth. Data (λ = 0)"]
    seeds = compare(opened(runs, "a", "seeds"))  # one loop, of more seeds
    assert seeds.against == []
    assert "How many times as bad" not in str(seeds)


def test_more_seeds_of_a_setting_and_arms_that_are_in_both(runs: dict[str, Path]) -> None:
    found = compare(opened(runs, "a", "seeds"))
    assert [[found.curves.seeds[arm] for arm in setting.arms] for setting in found.curves.settings] == [[0, 1, 2]] * 2
    assert found.notes == ("2 arms of seeds have the settings and seeds of arms of a, which are taken",)
    assert found.differences == ()


def test_what_differs_where_no_setting_does(tmp_path: Path, runs: dict[str, Path]) -> None:
    assert compare(opened(runs, "a", "seeds")).alike == "No setting differs: the runs have other seeds."
    again = made(tmp_path / "again")
    assert compare([runs["a"], again]).alike.startswith("No setting differs, and no seed: the runs have the same arms")
    same = compare({"one": runs["a"], "other": runs["a"]})
    assert same.told[0] == "No setting differs: a run is compared with itself, or with a copy of it."


def test_the_order_of_a_grid_is_no_difference(tmp_path: Path, runs: dict[str, Path]) -> None:
    lams = list(reversed(Run.open(runs["a"]).experiment.grid["mixing.lam"]))
    turned = made(tmp_path / "turned", grid={"mixing.lam": lams})
    assert compare([runs["a"], turned]).differences == ()


def test_data_that_differ_in_a_setting(runs: dict[str, Path]) -> None:
    found = compare(opened(runs, "a", "large"))
    assert found.notes == (
        "runs differ in their data (data.n): each is held against its own real rows; distances of fewer rows are "
        "larger by themselves",
    )
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
    with pytest.raises(ConfigError, match="did not record 'w2_heldout', did you mean 'w2_held_out'"):
        compare(opened(runs, "a", "kde"), metric="w2_heldout")
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
        "Side by side",
        "How many times as bad as in a, seed by seed",
        "λ = 1, generator = kernel_density",
    ):
        assert part in page
    assert (out / "w2_held_out.csv").exists()
    assert cli(monkeypatch, *words, "--json") == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["differences"]["generator"] == ["gaussian", "kernel_density"]
    assert plain["settings"][0]["seeds"] == [0, 1]
    assert "How many times as bad as in a, seed by seed" in " ".join(said.split())
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


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, Judgement]:
    """Three loops that were run elsewhere on the same real rows; "longer" is "one" gone on, beside a control."""
    rng = np.random.default_rng(3)
    real, some = rng.normal(size=(60, 2)), rng.normal(size=(7, 40, 2))
    ask = {"metrics": ["sliced_w2_held_out", "variance_ratio"]}
    return {
        "one": judge(real, list(some[:5]), out=tmp_path / "one", **ask),
        "two": judge(real, list(some[:5] * 0.5), out=tmp_path / "two", **ask),
        "longer": judge(real, list(some), control=list(-some[::-1]), out=tmp_path / "longer", **ask),
        "others": judge(real + 1.0, list(some[:5]), out=tmp_path / "others", **ask),
    }


def test_loops_of_elsewhere_are_told_apart_by_their_generations(elsewhere: dict[str, Judgement]) -> None:
    found = compare({name: elsewhere[name].run for name in ("one", "two")})
    assert [setting.label for setting in found.curves.settings] == ["run = one", "run = two"]
    assert not found.notes
    assert not found.differences
    for setting, name in zip(found.curves.settings, ("one", "two"), strict=True):
        np.testing.assert_array_equal(
            found.curves.of(setting, "variance_ratio"), elsewhere[name].curves.values["variance_ratio"]
        )
        assert verdict.of_setting(setting, found.curves, found.by) == elsewhere[name].verdict


def test_a_loop_of_elsewhere_that_is_in_two_runs_is_taken_once(elsewhere: dict[str, Judgement]) -> None:
    found = compare([elsewhere[name].run.path for name in ("two", "one", "longer")])
    assert [s.label for s in found.curves.settings] == [
        "the loop, run = two",
        "the loop, run = one",
        "the control, run = one",
    ]
    assert any("1 arm of longer" in note for note in found.notes)


def test_loops_of_elsewhere_on_other_rows(elsewhere: dict[str, Judgement]) -> None:
    found = compare({name: elsewhere[name].run for name in ("one", "others")})
    assert [setting.label for setting in found.curves.settings] == ["run = one", "run = others"]
    assert any(note.startswith("runs differ in their data") for note in found.notes)
    assert max(len(cell) for row in found.differing.rows for cell in row) <= 32


def test_from_python(runs: dict[str, Path]) -> None:
    found = selfloop.compare([runs["a"], str(runs["kde"])])
    assert found.plain() == compare(opened(runs, "a", "kde")).plain()
    text, page = str(found), found._repr_html_()
    for words in ("differs", "kernel_density", "After 4 retrainings", "λ = 0, generator = gaussian", "Variance ratio"):
        assert words in text
        assert words in page
    frame = found.to_frame()
    assert list(frame) == ["setting", "runs", "seeds", "verdict", "metric", "mean", "std"]
    assert len(frame) == 4 * len(found.metrics)
    with pytest.raises(ConfigError, match="two runs at least: give a list"):
        selfloop.compare(str(runs["a"]))
