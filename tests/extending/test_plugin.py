"""An installed package joins every family by its entry points, and its runs are read without it."""

from __future__ import annotations

import json
import os
import re
import shutil
import tomllib
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from helpers import Nursery

pytestmark = pytest.mark.slow
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


def selfloop(nest: Nursery, *words: str, site: Path | None = None, cwd: Path) -> CompletedProcess[str]:
    """Run a command in a process of its own, with what is installed in ``site``."""
    if site is None:
        return nest.command(*words, cwd=cwd)
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]  # which workers inherit
    return nest.command(*words, cwd=cwd, PYTHONPATH=os.pathsep.join(paths))


@pytest.fixture(scope="module")
def made(nest: Nursery, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with a run that the plugin made, by a worker, its own engine and tracker beside it; and the site."""
    here, site = tmp_path_factory.mktemp("run"), install(tmp_path_factory.mktemp("site"))
    (here / "e.yaml").write_text(EXPERIMENT)
    diary = ("--engine", "backwards", "--track", f"{{name: diary, path: {here / 'diary.txt'}}}")
    commands = (
        ("run", "e.yaml", "--out", "run", "--workers", "1"),
        ("run", "e.yaml", "--out", "backwards", *diary),
        ("list",),
    )
    done = [selfloop(nest, *words, site=site, cwd=here) for words in commands]
    assert [each.returncode for each in done] == [0, 0, 0], [each.stderr for each in done]
    (here / "listed.txt").write_text(done[-1].stdout)
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


def test_its_run_is_read_without_it_and_goes_on_with_it(nest: Nursery, made: tuple[Path, Path]) -> None:
    here, site = made
    grow = ("run", "e.yaml", "--out", "run", "--set")
    commands = (
        ("ls", "."),
        ("report", "run"),
        ("stability", "run"),
        ("metrics", "run@0", "run@3", "--only", "frechet"),
        (*grow, "generations=5"),
    )
    *reading, refused = (selfloop(nest, *words, cwd=here) for words in commands)
    assert [done.returncode for done in reading] == [0, 0, 0, 0], [done.stderr for done in reading]
    assert "damaged" not in reading[0].stdout
    assert "Median error" in reading[1].stdout
    assert "Euclidean distance between the coordinatewise medians" in (here / "run/report/index.html").read_text()
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "'ellipse'" in refused.stderr
    assert "--import" in refused.stderr
    done = selfloop(nest, *grow, "generations=4", site=site, cwd=here)
    assert done.returncode == 0, done.stderr


def test_a_name_that_two_packages_claim_is_refused(nest: Nursery, tmp_path: Path) -> None:
    site = install(install(tmp_path / "site"), "selfloop-other", "selfloop_other")
    (tmp_path / "e.yaml").write_text(EXPERIMENT)
    done = selfloop(nest, "run", "e.yaml", site=site, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "claimed by selfloop-example 1.0 and by selfloop-other 1.0" in done.stderr
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
def test_a_broken_package_is_named_and_spoils_nothing_else(
    nest: Nursery, tmp_path: Path, code: str, message: str
) -> None:
    site = install(tmp_path / "site")
    (site / "selfloop_example/mixing.py").write_text(code)
    (tmp_path / "e.yaml").write_text(EXPERIMENT)
    (tmp_path / "f.yaml").write_text(EXPERIMENT.replace("mixing: newest_only\n", ""))
    commands = (("run", "e.yaml"), ("run", "f.yaml", "--workers", "0"), ("list", "mixing"))
    broken, sound, listed = (selfloop(nest, *words, site=site, cwd=tmp_path) for words in commands)
    assert (broken.returncode, sound.returncode, listed.returncode) == (2, 0, 0), sound.stderr + listed.stderr
    assert message in broken.stderr
    assert broken.stderr.count("\n") == 1
    assert "augment" in listed.stdout


def test_the_run_records_where_the_code_came_from(made: tuple[Path, Path]) -> None:
    here, _ = made
    code = json.loads((here / "run/environment.json").read_text())["code"]
    assert code["mixing newest_only"]["what"] == "selfloop-example 1.0"
    assert code["mixing newest_only"]["code"] == "selfloop_example.mixing:NewestOnly"
