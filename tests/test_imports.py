"""The package's imports run one way, and importing it costs little and changes nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import selfloop
from selfloop.cli.main import app

SOURCE = Path(selfloop.__file__).parent

LAYERS = (
    "core",
    "engines",
    "interop",
    "learning",
    "data",
    "generators",
    "mixing",
    "updates",
    "features",
    "metrics",
    "alarm",
    "experiment",
    "arms",
    "cost",
    "measures",
    "rehearsal",
    "environment",
    "pictures",
    "loop",
    "store",
    "status",
    "trackers",
    "monitor",
    "shards",
    "chains",
    "runner",
    "starter",
    "theory",
    "ledger",
    "analysis",
    "advisor",
    "report",
    "outside",
    "cli",
    "__main__",
)
"""From the bottom up: a module imports its own layer and those before it."""

ASKED = {"store/run.py": {"report.plots"}}
"""What a module may import from above it, inside a method: how a run looks when a person asks the run itself."""

MODULES = sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def layer(module: str) -> str:
    """Return the layer of a path or dotted name below the package: its first part."""
    return module.removesuffix(".py").replace("/", ".").split(".")[0]


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name below selfloop) of every import of our own, also those inside functions.

    ``package`` is the dotted name below selfloop of the package that the file lies in. The name is "" where an import
    takes something from selfloop itself that is not one of its modules.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = f"selfloop.{package}".rstrip(".").split(".")
            base = ".".join(parents[: len(parents) + 1 - node.level]) + "." if node.level else ""
            names = [f"{base}{node.module or ''}".rstrip(".")]
            if names == ["selfloop"]:
                names = [f"selfloop.{alias.name}" if alias.name in LAYERS else "selfloop" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "selfloop":
                yield node.lineno, name.removeprefix("selfloop").removeprefix(".")


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_down_only(module: str) -> None:
    here = layer(module)
    assert here in LAYERS, f"{module} belongs to no layer: give it a place in LAYERS of tests/test_imports.py"
    package = ".".join(Path(module).parent.parts)
    wrong = []
    for line, name in imported(ast.parse((SOURCE / module).read_text(encoding="utf-8")), package):
        if not name:
            wrong.append(f"line {line} imports from selfloop itself, the top: name the module")
        elif layer(name) not in LAYERS:
            wrong.append(f"line {line} imports selfloop.{name}, which belongs to no layer")
        elif LAYERS.index(layer(name)) > LAYERS.index(here) and name not in ASKED.get(module, ()):
            wrong.append(f"line {line} imports selfloop.{name}, a layer above {here}")
    assert not wrong, f"{module}: " + "; ".join(wrong)


@pytest.mark.parametrize(
    ("code", "package", "names"),
    [
        ("import selfloop.loop", "", ["loop"]),
        ("import selfloop", "", [""]),
        ("from selfloop import run, store", "", ["", "store"]),
        ("from selfloop.data.toy import Rings", "", ["data.toy"]),
        ("from . import base", "data", ["data"]),
        ("from ..loop import advance", "data", ["loop"]),
        ("def f():\n    from selfloop.cli import main", "", ["cli"]),
        ("import torch\nfrom selfloopy import x", "", []),
    ],
)
def test_imports_of_our_own_are_found(code: str, package: str, names: list[str]) -> None:
    assert [name for _, name in imported(ast.parse(code), package)] == names


def outcome(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


HEAVY = ("torch", "numpy", "scipy", "numba", "sklearn", "pydantic", "bokeh", "matplotlib", "jinja2", "pyarrow", "PIL")
SLOW = ("scipy.stats", "scipy.optimize", "sklearn", "pandas", "pyarrow", "sympy", "torch._dynamo")
REPORTS = ("bokeh", "matplotlib", "jinja2", "selfloop.report.page")


def loaded_by(code: str, names: Sequence[str]) -> str:
    """Return which of the modules a fresh interpreter has loaded after running code; "[]" for none."""
    after = f"import sys\nprint([m for m in {tuple(names)} if m in sys.modules])"
    return outcome(f"{textwrap.dedent(code)}\n{after}").splitlines()[-1]


def command(*arguments: str | Path) -> str:
    """Return code that runs the command line and goes on after it."""
    words = ["selfloop", *map(str, arguments)]
    return f"""
        import contextlib, sys
        sys.argv = {words}
        from selfloop.cli.main import main
        with contextlib.suppress(SystemExit):
            main()
    """


@pytest.mark.parametrize(
    "code", ["import selfloop", "import selfloop; selfloop.__version__", "from selfloop import SelfloopError, recipes"]
)
def test_importing_the_package_loads_nothing_of_others(code: str) -> None:
    assert loaded_by(code, [*HEAVY, "yaml", "rich", "typer"]) == "[]"


@pytest.mark.slow
def test_an_experiment_loads_nothing_heavy_that_a_run_may_not_need() -> None:
    heavy = ["sklearn", "pyarrow", "bokeh", "matplotlib", "ot", "torchdiffeq", "selenium", "zuko"]
    assert loaded_by("from selfloop import Experiment, Run, run", heavy) == "[]"


def test_help_loads_nothing_that_takes_long() -> None:
    assert loaded_by(command("--help"), HEAVY) == "[]"


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [["run", "--help"], ["recipes"], ["ruin"], ["run", "demo", "--workers", "x"], ["ls", "nowhere"]]
)
def test_what_needs_no_experiment_does_not_wait_for_torch(arguments: list[str]) -> None:
    # Pydantic may be there: typer checks options by it.
    assert loaded_by(command(*arguments), [name for name in HEAVY if name != "pydantic"]) == "[]"


@pytest.mark.slow
def test_commands_that_read_a_run_load_no_more_than_they_need(tmp_path: Path) -> None:
    settings = {
        "name": "tiny",
        "data": {"name": "two_moons", "n": 40},
        "generator": {"name": "gaussian"},
        "generations": 1,
    }
    list(selfloop.run(selfloop.Experiment.build(settings), tmp_path / "tiny", workers=0))
    for arguments in (["ls", tmp_path], ["stability", tmp_path / "tiny"]):
        assert loaded_by(command(*arguments), [*REPORTS, *SLOW]) == "[]"
    not_needed = ("matplotlib.pyplot", "sympy", "torch._dynamo", "torch._inductor")
    assert loaded_by(command("report", tmp_path / "tiny"), not_needed) == "[]"


def test_every_public_name_is_found_where_it_is_said_to_be() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    typed = {
        alias.name: f"{node.module}".removeprefix("selfloop.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and f"{node.module}".startswith("selfloop.")
        for alias in node.names
    }
    assert typed == selfloop._HOMES
    assert sorted(typed) == sorted(selfloop.__all__)
    assert set(selfloop.__all__) <= set(dir(selfloop))
    for name, home in typed.items():
        assert getattr(selfloop, name).__module__ == f"selfloop.{home}"


@pytest.mark.slow
def test_the_package_finds_its_modules_and_no_other_name() -> None:
    assert outcome("import selfloop; print(selfloop.metrics.__name__, selfloop.theory.__name__)") == (
        "selfloop.metrics selfloop.theory"
    )
    with pytest.raises(AttributeError, match="no attribute 'Experimnt'"):
        _ = selfloop.Experimnt
    assert not hasattr(selfloop, "__wrapped__")


def test_a_command_is_one_module() -> None:
    files = {path.stem.removesuffix("_") for path in (SOURCE / "cli" / "commands").glob("[!_]*.py")}
    assert {info.name for info in app.registered_commands} == files


@pytest.mark.slow
def test_import_changes_no_setting_and_no_random_state() -> None:
    before_and_after = """
        import importlib, pickle, pkgutil, random
        import numpy as np, torch

        def state():
            return (
                torch.get_num_threads(), torch.get_num_interop_threads(), torch.get_default_dtype(),
                torch.get_default_device(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(),
                torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark,
                torch.get_rng_state().tolist(), torch.initial_seed(),
                pickle.dumps(np.random.get_state()), random.getstate(), sorted(np.geterr().items()),
            )

        before = state()
        import selfloop
        for module in pkgutil.walk_packages(selfloop.__path__, "selfloop."):
            # The command line is a program of its own: rich's terminal draws a random number when it is imported.
            if module.name != "selfloop.__main__" and not module.name.startswith("selfloop.cli."):
                importlib.import_module(module.name)
        print([i for i, (a, b) in enumerate(zip(before, state(), strict=True)) if a != b])
    """
    assert outcome(before_and_after) == "[]"
