"""An installed package joins every family by its entry points, and its runs are read without it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parent / "plugin"

EXPERIMENT = """
name: plugged
data: {name: ellipse, n: 40, width: 3.0}
generator: uniform
mixing: newest_only
features: radius
generations: 3
seeds: 2
grid: {data.width: [1.0, 3.0]}
metrics: [median_error, w2_held_out, frechet_train]
"""


def install(site: Path, name: str = "selfloop-example", module: str = "selfloop_example") -> Path:
    """Lay the package out as pip does, under a name of its own."""
    settings = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    shutil.copytree(PLUGIN / "selfloop_example", site / module, dirs_exist_ok=True)
    about = site / f"{name.replace('-', '_')}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {settings['version']}\n")
    groups = settings["entry-points"].items()
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()) for group, entries in groups]
    (about / "entry_points.txt").write_text("\n".join(lines).replace("selfloop_example", module))
    return site


# Commands one after the other in one process: importing torch takes longer than all of them.
_DRIVER = """
import contextlib, io, json, sys
from selfloop.cli import terminal
from selfloop.cli.main import main
found = []
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    terminal.console.file = out
    sys.argv = ["selfloop", *words]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            found.append([end.code, out.getvalue(), err.getvalue()])
print(json.dumps(found))
"""


@dataclass
class Done:
    """What a command printed and exited with."""

    code: int
    out: str
    err: str


def selfloop(*commands: Sequence[str], site: Path | None = None, cwd: Path) -> list[Done]:
    """Run commands in a fresh process, with what is installed in ``site``."""
    paths = [str(path) for path in (site, os.environ.get("PYTHONPATH")) if path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    call = [sys.executable, "-c", _DRIVER, json.dumps(commands)]
    done = subprocess.run(call, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return [Done(*each) for each in json.loads(done.stdout.splitlines()[-1])]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with a run that the plugin made, by a worker, its own engine and tracker beside it; and the site."""
    here, site = tmp_path_factory.mktemp("run"), install(tmp_path_factory.mktemp("site"))
    (here / "e.yaml").write_text(EXPERIMENT)
    diary = ("--engine", "backwards", "--track", f"{{name: diary, path: {here / 'diary.txt'}}}")
    workers, backwards, listed = selfloop(
        ("run", "e.yaml", "--out", "run", "--workers", "1"),
        ("run", "e.yaml", "--out", "backwards", *diary),
        ("list",),
        site=site,
        cwd=here,
    )
    assert (workers.code, backwards.code, listed.code) == (0, 0, 0), workers.err + backwards.err + listed.err
    (here / "listed.txt").write_text(listed.out)
    return here, site


def test_it_is_listed_with_its_package(made: tuple[Path, Path]) -> None:
    shown = (made[0] / "listed.txt").read_text()
    for name in ("uniform", "ellipse", "newest_only", "median_error", "radius", "backwards", "diary"):
        row = re.search(rf"(?m)^ {name} .*\n(?: {{5}}.*\n)*", shown)
        assert row is not None, name
        assert "selfloop-example" in row[0], row[0]


def test_its_engine_and_tracker_give_the_same_bits(made: tuple[Path, Path]) -> None:
    here, _ = made
    assert (here / "run/metrics.jsonl").read_bytes() == (here / "backwards/metrics.jsonl").read_bytes()
    assert (here / "diary.txt").read_text().splitlines()[-1] == "generation 3: 4 of 4 arms are well"


def test_its_run_is_read_without_it_and_goes_on_with_it(made: tuple[Path, Path]) -> None:
    here, site = made
    grow = ("run", "e.yaml", "--out", "run", "--set")
    *reading, refused = selfloop(
        ("ls", "."),
        ("report", "run"),
        ("stability", "run"),
        ("metrics", "run@0", "run@3", "--only", "frechet"),
        (*grow, "generations=5"),
        cwd=here,
    )
    assert [done.code for done in reading] == [0, 0, 0, 0], [done.err for done in reading]
    assert "damaged" not in reading[0].out
    assert "Median error" in reading[1].out
    assert "Euclidean distance between the coordinatewise medians" in (here / "run/report/index.html").read_text()
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert "'ellipse'" in refused.err
    assert "--import" in refused.err
    (done,) = selfloop((*grow, "generations=4"), site=site, cwd=here)
    assert done.code == 0, done.err


def test_a_name_that_two_packages_claim_is_refused(tmp_path: Path) -> None:
    site = install(install(tmp_path / "site"), "selfloop-other", "selfloop_other")
    (tmp_path / "e.yaml").write_text(EXPERIMENT)
    (done,) = selfloop(("run", "e.yaml"), site=site, cwd=tmp_path)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "claimed by selfloop-example 1.0 and by selfloop-other 1.0" in done.err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise RuntimeError('no luck')", "cannot be imported (RuntimeError: no luck"),
        ("from selfloop import Frozen\nclass NewestOnly(Frozen): name: str = 'newest_only'", "has no method draws"),
        ("NewestOnly = 3", "has no method draws"),
    ],
    ids=["import", "methods", "no class"],
)
def test_a_broken_package_is_named_and_spoils_nothing_else(tmp_path: Path, code: str, message: str) -> None:
    site = install(tmp_path / "site")
    (site / "selfloop_example/mixing.py").write_text(code)
    (tmp_path / "e.yaml").write_text(EXPERIMENT)
    (tmp_path / "f.yaml").write_text(EXPERIMENT.replace("mixing: newest_only\n", ""))
    broken, sound, listed = selfloop(
        ("run", "e.yaml"), ("run", "f.yaml", "--workers", "0"), ("list", "mixing"), site=site, cwd=tmp_path
    )
    assert (broken.code, sound.code, listed.code) == (2, 0, 0), sound.err + listed.err
    assert message in broken.err
    assert broken.err.count("\n") == 1
    assert "augment" in listed.out


def test_the_run_records_where_the_code_came_from(made: tuple[Path, Path]) -> None:
    here, _ = made
    code = json.loads((here / "run/environment.json").read_text())["code"]
    assert code["mixing newest_only"]["what"] == "selfloop-example 1.0"
    assert code["mixing newest_only"]["code"] == "selfloop_example.mixing:NewestOnly"
