"""What the site's build adds to MkDocs: MathJax from its package, and links for the roles of docstrings."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files as resources
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ENTRY = re.compile(r"^::: (\S+)", re.M)
ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):<code>~?([\w.]+)</code>")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the one file that draws TeX as SVG, fonts included, to the site's: no page fetches anything."""
    script = resources("mathjax") / "static" / "mathjax" / "es5" / "tex-svg.js"
    files.append(File.generated(config, "assets/mathjax.js", abs_src_path=str(script)))
    return files


@cache
def entries(folder: Path) -> dict[str, str]:
    """Return by its last word what the pages of the API have."""
    names = [name for page in folder.glob("*.md") for name in ENTRY.findall(page.read_text(encoding="utf-8"))]
    return {name.rsplit(".", 1)[-1]: name for name in names}


def on_page_content(html: str, config: MkDocsConfig, **_: object) -> str:
    """Turn ``:func:`name``` of a docstring into a link where the API has it, and into code where it has not."""
    known = entries(Path(config.docs_dir) / "api")

    def linked(role: re.Match[str]) -> str:
        name = role[1]
        return f'<autoref optional identifier="{known.get(name, name)}"><code>{name}</code></autoref>'

    return ROLE.sub(linked, html)
