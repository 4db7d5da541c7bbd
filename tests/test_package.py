"""What a user installs: the sdist, the wheel that is made of it, and the wheel in a folder of its own."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

import selfloop

ROOT = Path(__file__).parents[1]
CONSUMER = Path(__file__).with_name("consumer.py")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BESIDE = {"CHANGELOG.md", "CITATION.cff", "LICENSE", "NOTICE", "PKG-INFO", "README.md", "pyproject.toml"}
"""What an sdist has beside its sources."""

CALLED_OTHERWISE = {
    "PIL": "pillow",
    "mlflow": "mlflow-skinny",
    "ot": "pot",
    "pydantic_core": "pydantic",  # which says in which version
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Modules that are not called as what is installed."""


def ran(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a program that must exit with 0, and return what it says."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def built(source: Path, target: str, folder: Path) -> Path:
    """Build an sdist or a wheel by the project's backend as it is installed here: nothing is fetched."""
    ran(sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder, cwd=source)
    (archive,) = folder.iterdir()
    return archive


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By way of the sdist, so that what it lacks is missed."""
    sources = tmp_path_factory.mktemp("sources")
    with tarfile.open(sdist) as archive:
        archive.extractall(sources, filter="data")
    (source,) = sources.iterdir()
    return built(source, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as pip installs it, alone in a folder."""
    folder = tmp_path_factory.mktemp("site")
    install(sys.executable, wheel, folder)
    return folder


def install(python: str, wheel: Path, folder: Path) -> None:
    """Install a wheel into a folder, without what it depends on and without a network."""
    quietly = ("--quiet", "--disable-pip-version-check", "--no-cache-dir", "--no-deps", "--no-index")
    ran(python, "-m", "pip", "install", *quietly, "--target", folder, wheel, cwd=folder)


def sources() -> set[str]:
    """Return the files of the package, by their paths below src."""
    files = (path for path in (ROOT / "src" / "selfloop").rglob("*") if path.is_file())
    return {path.relative_to(ROOT / "src").as_posix() for path in files if "__pycache__" not in path.parts}


def asked_for(requirements: list[str]) -> set[str]:
    """Return the names of what is required, normalised."""
    return {re.split(r"[^\w.-]", each)[0].lower().replace("_", "-") for each in requirements}


def libraries(body: list[ast.stmt], deep: bool) -> set[str]:
    """Return which libraries statements import: what is imported when the module is, or anywhere in it.

    What only a type checker sees is none.
    """
    found: set[str] = set()
    for node in body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
        elif deep or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for field in ("body", "orelse", "finalbody"):
                found |= libraries(getattr(node, field, []), deep)
            for handler in getattr(node, "handlers", []):
                found |= libraries(handler.body, deep)
    named = found - sys.stdlib_module_names - {"selfloop"}
    return {CALLED_OTHERWISE.get(name, name).lower().replace("_", "-") for name in named}


@pytest.mark.slow
def test_every_library_is_a_dependency_or_an_extra_and_every_dependency_is_used() -> None:
    plain, extras = asked_for(PROJECT["dependencies"]), PROJECT["optional-dependencies"]
    more = set().union(*(asked_for(extras[name]) for name in extras if name not in ("test", "bench", "check")))
    used = set[str]()
    for path in (ROOT / "src" / "selfloop").rglob("*.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert libraries(body, deep=False) <= plain, f"{path.name} imports more than is always installed"
        used |= libraries(body, deep=True)
    assert used - plain - more == set()
    assert plain - used == set()


@pytest.mark.slow
def test_the_sdist_has_the_sources_and_what_tells_of_them(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names - {".gitignore"} == BESIDE | {f"src/{name}" for name in sources()}  # hatchling adds that one


@pytest.mark.slow
def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    about = f"selfloop-{selfloop.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    told = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "licenses/NOTICE"}
    assert names == sources() | {f"{about}/{name}" for name in told}
    assert {"selfloop/py.typed", *(f"selfloop/recipes/{name}.yaml" for name in selfloop.recipes())} <= names
    assert wheel.name.endswith("-py3-none-any.whl")
    assert wheel.stat().st_size < 2e6  # code and settings: data come from elsewhere


@pytest.mark.slow
def test_what_the_wheel_says_of_itself(site: Path) -> None:
    (about,) = site.glob("selfloop-*.dist-info")
    said = HeaderParser().parsestr((about / "METADATA").read_text(encoding="utf-8"))
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert said["Version"] == selfloop.__version__
    assert f"\nversion: {selfloop.__version__}\n" in citation
    assert said["License-Expression"] == "Apache-2.0"
    assert said["Requires-Python"] == PROJECT["requires-python"]
    assert set(said.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])


def pythons() -> list[str]:
    """Return this interpreter and what else there is of the versions that are supported."""
    others = [f"python3.{minor}" for minor in (11, 12, 13, 14) if minor != sys.version_info.minor]
    there = [path for path in map(shutil.which, others) if path and works(path)]
    return [sys.executable, *there]


def works(python: str) -> bool:
    """Whether a program of that name is one: a version manager has names for those that are not chosen."""
    return subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("python", pythons(), ids=lambda path: Path(path).name)
def test_it_runs_from_a_folder_of_its_own(python: str, wheel: Path, tmp_path: Path) -> None:
    """What it depends on comes from here: what is compiled only by the version that runs the tests."""
    install(python, wheel, tmp_path)
    paths = os.pathsep.join([str(tmp_path), sysconfig.get_paths()["purelib"]])
    names = "import selfloop; print(selfloop.__file__, *selfloop.recipes())"
    where, *found = ran(python, "-c", names, cwd=tmp_path.parent, PYTHONPATH=paths).split()
    assert Path(where) == tmp_path / "selfloop" / "__init__.py"
    assert found == selfloop.recipes()
    ran(python, "-W", "error", "-m", "compileall", "-q", tmp_path / "selfloop", cwd=tmp_path)
    program = tmp_path / "bin" / "selfloop"
    assert ran(program, "--version", cwd=tmp_path.parent, PYTHONPATH=paths) == f"selfloop {selfloop.__version__}\n"
    if python == sys.executable:
        listed = ran(program, "recipes", cwd=tmp_path.parent, PYTHONPATH=paths, COLUMNS="300")
        assert all(re.search(rf"^ {name} ", listed, re.MULTILINE) for name in found)


SETTINGS = """
[mypy]
strict = true
[mypy-torch.*,numpy.*,scipy.*,pandas.*]
follow_imports = skip
"""
"""Of mypy: what others' libraries say takes it a minute, and is not what is checked."""


def checked(report: str) -> set[tuple[int, str]]:
    """Return the lines of the consumer that a report complains of, each with the code of the complaint."""
    found = re.findall(r"consumer\.py:(\d+): error: .*\[([\w-]+)\]$", report, re.MULTILINE)
    return {(int(line), code) for line, code in found}


@pytest.mark.slow
def test_its_types_are_seen_by_those_who_use_it(site: Path, tmp_path: Path) -> None:
    """Right uses pass the strict checker, wrong ones do not: so its types are there, and none of them is Any."""
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    program = shutil.copy(CONSUMER, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", program, "--cache-dir", str(tmp_path / "cache")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    lines = enumerate(CONSUMER.read_text(encoding="utf-8").splitlines(), start=1)
    expected = {(i, line.rpartition("# refused: ")[2]) for i, line in lines if "  # refused: " in line}
    assert len(expected) == 4
    assert checked(done.stdout) == expected, done.stdout + done.stderr
