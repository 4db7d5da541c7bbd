"""Tutorials: scripts in the percent format, run once, whose outputs are kept beside them until their code changes.

``docs/tutorials/NAME.py`` has cells that begin with ``# %%`` (code; the rest of the line says what its figure shows) or
``# %% [markdown]`` (comments in Markdown): VS Code, PyCharm, Spyder and jupytext open it as a notebook. ``python -m
docs.executed`` runs those whose code is not that of their outputs, each in a process and a folder of its own, and keeps
what they printed, showed and drew in ``docs/tutorials/outputs``. A build of the site puts text, code and outputs
together, and runs nothing: where outputs are not those of the code it ends with one line that says so.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import html
import io
import json
import linecache
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

FOLDER = Path(__file__).parent / "tutorials"
_MARK = "# %%"
_COLOURS = 64  # of a kept picture that is not photographic
_DPI = 110


class Cell(NamedTuple):
    """Markdown, or code with the title that says what its figure shows."""

    kind: str
    title: str
    text: str


def cells(script: str) -> list[Cell]:
    """Return the cells of a script; what stands before the first one belongs to none, as a licence would."""
    found = []
    for part in f"\n{script}".split(f"\n{_MARK}")[1:]:
        head, _, body = part.partition("\n")
        if head.strip() == "[markdown]":
            lines = [line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines()]
            found.append(Cell("markdown", "", "\n".join(lines)))
        else:
            found.append(Cell("code", head.strip(), body.strip()))
    return found


def digest(script: str) -> str:
    """Return the SHA-256 of a script's code; words around it may change without it."""
    code = [cell.text for cell in cells(script) if cell.kind == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def kept(script: Path) -> dict[str, Any]:
    """Return what is kept of a script: the ``code`` it is of, ``seconds`` of a processor, outputs by code ``cells``."""
    path = script.parent / "outputs" / f"{script.stem}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"code": ""}
    return found


def stale(script: Path) -> str:
    """Return in one line that the outputs of a script are not those of its code; "" where they are."""
    if kept(script)["code"] == digest(script.read_text(encoding="utf-8")):
        return ""
    return f"docs/tutorials/{script.name} has changed since it was last run: make tutorials"


def execute(script: Path, outputs: Path) -> None:
    """Run the cells of a script in this process, and write what came of them into a folder.

    An output is ``text`` that was printed or shown, ``html`` of what shows itself so, or a ``figure``: a file's name.
    """
    import matplotlib

    matplotlib.use("Agg")
    source = script.read_text(encoding="utf-8")
    done, figures = list[list[dict[str, str]]](), 0
    module: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells(source):
        if cell.kind != "code":
            continue
        found = _run(cell.text, module, f"{script.name}: {cell.title or cell.text[:40]}")
        for picture in _figures():
            figures += 1
            name = f"{script.stem}-{figures}.webp"
            (outputs / name).write_bytes(picture)
            found.append({"figure": name})
        done.append(found)
    used = os.times()
    seconds = used.user + used.system + used.children_user + used.children_system
    about = {"code": digest(source), "seconds": round(seconds), "cells": done}
    text = json.dumps(about, ensure_ascii=False, indent=1)
    (outputs / f"{script.stem}.json").write_text(text + "\n", encoding="utf-8")


def _run(code: str, module: dict[str, Any], name: str) -> list[dict[str, str]]:
    """Run one cell, and return what it printed and what its last line is, as a notebook does."""
    tree, last, printed = ast.parse(code, name), None, io.StringIO()
    linecache.cache[name] = len(code), None, code.splitlines(True), name  # for whoever asks for the source
    if tree.body and isinstance(tree.body[-1], ast.Expr) and not code.endswith(";"):
        last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, name, "exec"), module)
        value = None if last is None else eval(compile(last, name, "eval"), module)  # noqa: S307 our own scripts
    found = [{"text": printed.getvalue().rstrip()}] if printed.getvalue().strip() else []
    if hasattr(value, "_repr_html_"):
        found.append({"html": value._repr_html_()})
    elif value is not None and not _is_drawn(value):
        found.append({"text": value if isinstance(value, str) else repr(value)})
    return found


def _is_drawn(value: Any) -> bool:
    """Whether a value stands for a figure, which is shown by itself."""
    import numpy as np
    from matplotlib.artist import Artist

    return isinstance(value, Artist) or (
        isinstance(value, np.ndarray) and value.size > 0 and isinstance(value.flat[0], Artist)
    )


def _figures() -> list[bytes]:
    """Return the figures that pyplot holds as WebP, lines without loss and clouds with some, and close them."""
    import matplotlib.pyplot as plt
    from PIL import Image

    found = []
    for number in plt.get_fignums():
        drawn, exact, lossy = io.BytesIO(), io.BytesIO(), io.BytesIO()
        plt.figure(number).savefig(drawn, format="png", dpi=_DPI, bbox_inches="tight", metadata={"Software": None})
        picture = Image.open(drawn).convert("RGB")
        picture.save(lossy, "WEBP", quality=80, method=6)
        few = picture.quantize(_COLOURS, dither=Image.Dither.NONE).convert("RGB")
        few.save(exact, "WEBP", lossless=True, quality=100, method=6)
        found.append(min(exact.getvalue(), lossy.getvalue(), key=len))
    plt.close("all")
    return found


def page(script: Path) -> str:
    """Return a tutorial as a page in Markdown: its text, its code, and what came of that.

    Raises:
        PluginError: its outputs are those of other code.
    """
    if complaint := stale(script):
        raise PluginError(complaint)
    about, source = kept(script), cells(script.read_text(encoding="utf-8"))
    of_code, parts = iter(about["cells"]), list[str]()
    for cell in source:
        if cell.kind == "markdown":
            parts.append(cell.text)
            continue
        parts.append(f"```python\n{cell.text}\n```")
        for each in next(of_code):
            if "text" in each:
                parts.append(f"```` {{ .text .no-copy .output }}\n{each['text']}\n````")
            elif "html" in each:
                parts.append(f'<div class="output">\n{each["html"]}\n</div>')
            else:
                parts.append(f"![{html.escape(cell.title)}](outputs/{each['figure']}){{ loading=lazy }}")
    took = f"{about['seconds']} s of processor time"
    parts.append(f"---\n\nRan in {took}. [This page as a script]({script.name}), which editors open as a notebook.")
    return "\n\n".join(parts) + "\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for every tutorial to the site's.

    Raises:
        PluginError: outputs of one are those of other code.
    """
    for script in sorted(FOLDER.glob("*.py")):
        files.append(File.generated(config, f"tutorials/{script.stem}.md", content=page(script)))
    return files


def apart(script: Path, folder: Path) -> bool:
    """Run a script in a process and a folder of its own, which then has ``outputs``, and return whether it ran."""
    (folder / "outputs").mkdir()
    code = "import sys; from pathlib import Path; from docs.executed import execute; execute(*map(Path, sys.argv[1:]))"
    path = os.pathsep.join(filter(None, [str(FOLDER.parents[1]), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-c", code, str(script), str(folder / "outputs")]
    return subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": path}, check=False).returncode == 0


def keep(script: Path, made: Path) -> None:
    """Put outputs in the place of those that are kept."""
    place = script.parent / "outputs"
    place.mkdir(exist_ok=True)
    for old in place.glob(f"{script.stem}-[0-9]*.webp"):
        old.unlink()
    for new in made.iterdir():
        shutil.move(new, place / new.name)


def main(names: list[str]) -> int:
    """Run the tutorials of these names, or those whose code has changed, and return what to exit with."""
    scripts = sorted(FOLDER.glob("*.py"))
    known = [script.stem for script in scripts]
    if others := [name for name in names if name not in known]:
        print(f"docs.executed: no tutorial is called {others[0]!r}: there are {', '.join(known)}", file=sys.stderr)
        return 2
    chosen = [script for script in scripts if (script.stem in names if names else stale(script))]
    failed = 0
    for script in chosen:
        print(f"{script.name} …", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            if apart(script, Path(folder)):
                keep(script, Path(folder) / "outputs")
            else:
                failed += 1
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
