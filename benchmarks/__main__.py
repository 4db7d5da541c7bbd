"""The command line: ``python -m benchmarks coupling training … [--json]``."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from selfloop.engines.local import cores

COMPARISONS = ("coupling", "training", "sampling", "gaussian", "metrics", "images", "tables")
OTHERS = ("growth", "memory", "curvature", "rates", "text", "scaling")


def machine() -> str:
    """Describe where the numbers come from."""
    info = Path("/proc/cpuinfo")
    models = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    cpu = models[0] if models else platform.processor()
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "scipy", "numba", "POT"))
    return f"{cores()} cores {cpu}, Python {platform.python_version()}, {libraries}"


def seconds(value: float) -> str:
    """Write a duration in the unit that suits it."""
    scale, unit = (1, "s") if value >= 1 else (1e3, "ms") if value >= 1e-3 else (1e6, "µs")
    return f"{value * scale:.3g} {unit}"


def main() -> None:
    """Run the named benchmarks, or all comparisons."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="*", choices=[*COMPARISONS, *OTHERS, []], help="default: all comparisons")
    parser.add_argument("--json", action="store_true", help="print one JSON list of rows")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="where growth draws its curves")
    parser.add_argument("--full", action="store_true", help="images: also CIFAR-10's network and torch.compile")
    options = parser.parse_args()
    console = Console(file=sys.stderr if options.json else sys.stdout, width=160)
    console.print(machine())
    rows = []
    for name in options.name or COMPARISONS:
        module = importlib.import_module(f"benchmarks.{name}")
        found = []
        for row in module.rows(full=True) if options.full and name == "images" else module.rows():
            print(row, file=sys.stderr)  # some take minutes each
            found.append(row)
        rows += [dataclasses.asdict(row) for row in found]
        if name == "growth" and options.plot is not None:
            module.plot(found, options.plot)
        if not options.json:
            console.print(_table(name, found))
    if options.json:
        print(json.dumps(rows, indent=1))


def _table(name: str, rows: list) -> Table:
    fields = [field.name for field in dataclasses.fields(rows[0])] if rows else []
    table = Table(title=name, title_justify="left")
    for field in fields:
        table.add_column(field.removesuffix("_s").removesuffix("_rate"), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(field, getattr(row, field)) for field in fields))
    return table


def _cell(field: str, value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}: {seconds(v)}" for k, v in value.items())
    if field.endswith("_rate"):
        return f"{value:.4f}"
    if isinstance(value, float):
        return seconds(value) if field.endswith("_s") else f"{value:.2f}"
    return str(value)


if __name__ == "__main__":
    main()
