"""MathJax, from its package into the site: nothing is fetched when a page is read."""

from __future__ import annotations

from importlib.resources import files as resources

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the one file that draws TeX as SVG, fonts included, to the site's."""
    script = resources("mathjax") / "static" / "mathjax" / "es5" / "tex-svg.js"
    files.append(File.generated(config, "assets/mathjax.js", abs_src_path=str(script)))
    return files
