"""Tutorials: every one is code that runs, what is kept of it is of that code, and two are run here."""

from __future__ import annotations

import ast
import importlib
import json
import os
from pathlib import Path

import pytest
import yaml

pytest.importorskip("mkdocs", reason="the documentation is built by the extra `check`")
from docs import executed

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(executed.FOLDER.glob("*.py"))
LARGEST = 150_000  # bytes of a tutorial's outputs
NAMES = [script.stem for script in SCRIPTS]


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_what_is_kept_is_of_the_code(script: Path) -> None:
    assert executed.stale(script) == ""
    kept, code = executed.kept(script), [c for c in executed.cells(script.read_text("utf-8")) if c.kind == "code"]
    assert len(kept["cells"]) == len(code)
    drawn = {each["figure"] for found in kept["cells"] for each in found if "figure" in each}
    files = {path.name: path.stat().st_size for path in (executed.FOLDER / "outputs").glob(f"{script.stem}*")}
    assert files.keys() == {f"{script.stem}.json", *drawn}
    assert drawn
    assert sum(files.values()) < LARGEST
    titles = [cell.title for cell, found in zip(code, kept["cells"], strict=True) if any("figure" in e for e in found)]
    assert all(len(title) > 20 for title in titles), "the cell of a figure says in its first line what is to be seen"


def test_all_of_them_take_ten_minutes() -> None:
    assert sum(executed.kept(script)["seconds"] for script in SCRIPTS) <= 600


@pytest.mark.parametrize("script", SCRIPTS, ids=NAMES)
def test_the_names_that_it_uses_are_there(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and f"{node.module}".split(".")[0] == "selfloop":
            module = importlib.import_module(f"{node.module}")
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_every_one_is_in_the_navigation_and_on_the_page_of_tutorials() -> None:
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    nav = yaml.safe_load(text[text.index("nav:") : text.index("markdown_extensions:")])["nav"]
    (pages,) = (part["Tutorials"] for part in nav if "Tutorials" in part)
    listed = [next(iter(page.values())) if isinstance(page, dict) else page for page in pages]
    assert sorted(listed) == sorted(["tutorials/index.md", *(f"tutorials/{name}.md" for name in NAMES)])
    index = (executed.FOLDER / "index.md").read_text("utf-8")
    assert [name for name in NAMES if f"({name}.md)" not in index] == []


def test_a_name_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert executed.main([NAMES[0], "typo"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"docs.executed: no tutorial is called 'typo': there are {', '.join(NAMES)}\n")


QUICKEST = sorted(SCRIPTS, key=lambda script: executed.kept(script)["seconds"])[:2]


@pytest.mark.slow
@pytest.mark.parametrize("script", QUICKEST, ids=lambda script: script.stem)
def test_the_quickest_run_and_come_to_outputs_of_the_same_kinds(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]))
    assert executed.apart(script, tmp_path)
    made = json.loads((tmp_path / "outputs" / f"{script.stem}.json").read_text("utf-8"))
    kinds = [[[next(iter(each)) for each in found] for found in of["cells"]] for of in (made, executed.kept(script))]
    assert kinds[0] == kinds[1]


SCRIPT = """# a line before

# %% [markdown]
# # Sums
#
#     kept as it is

# %%
print("one & two")
total = 1 + 2

# %% A line that rises
import matplotlib.pyplot as plt

plt.subplots()[1].plot([1, 2])[0]

# %%
class Shown:
    def _repr_html_(self):
        return "<b>shown</b>"


Shown()

# %%
"as it is"
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "sums.py"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


def test_a_script_is_run_once_and_becomes_a_page(script: Path) -> None:
    outputs = script.parent / "outputs"
    outputs.mkdir()
    executed.execute(script, outputs)
    page = executed.page(script)
    assert page.startswith("# Sums\n\n    kept as it is\n\n```python\nprint")
    for part in ("````\n", "one & two", "![A line that rises](outputs/sums-1.webp)", "<b>shown</b>", "as it is"):
        assert part in page
    assert (outputs / "sums-1.webp").read_bytes().startswith(b"RIFF")
    assert executed.stale(script) == ""
    script.write_text(SCRIPT.replace("# # Sums", "# # Other words"), encoding="utf-8")
    assert executed.page(script).startswith("# Other words")


def test_code_that_has_changed_is_told(script: Path) -> None:
    outputs = script.parent / "outputs"
    outputs.mkdir()
    executed.execute(script, outputs)
    script.write_text(SCRIPT.replace("1 + 2", "1 + 3"), encoding="utf-8")
    with pytest.raises(executed.PluginError, match=r"sums\.py has changed since it was last run: make tutorials"):
        executed.page(script)
