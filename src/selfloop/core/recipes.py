"""The recipes that come with the package, as text."""

from __future__ import annotations

from importlib import resources


def recipes() -> list[str]:
    """Return the names of the recipes that come with the package.

    Examples:
        >>> from selfloop import recipes
        >>> "fig4-small" in recipes()
        True
    """
    folder = resources.files("selfloop") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_recipe(name: str) -> str:
    """Return the YAML text of one of them."""
    return (resources.files("selfloop") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
