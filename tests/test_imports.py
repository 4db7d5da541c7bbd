"""The package's imports run one way, and importing it costs little and changes nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import selfloop

SOURCE = Path(selfloop.__file__).parent

LAYERS = (
    "core",
    "engines",
    "interop",
    "learning",
    "data",
    "generators",
    "mixing",
    "features",
    "metrics",
    "experiment",
    "loop",
    "store",
    "runner",
    "theory",
    "analysis",
    "report",
    "cli",
    "__main__",
)
"""From the bottom up: a module imports its own layer and those before it."""

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
        elif LAYERS.index(layer(name)) > LAYERS.index(here):
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


def test_import_loads_nothing_heavy_that_a_run_may_not_need() -> None:
    heavy = ["sklearn", "pyarrow", "bokeh", "matplotlib", "ot", "torchdiffeq", "selenium", "zuko"]
    assert outcome(f"import sys, selfloop; print([m for m in {heavy} if m in sys.modules])") == "[]"


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
