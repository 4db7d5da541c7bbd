"""List recipes."""

from __future__ import annotations

from selfloop.cli.terminal import show
from selfloop.core.recipes import read_recipe, recipes


def command() -> int:
    """List the experiments that come with the package."""
    import yaml

    # Not as experiments: a list need not wait for torch, and the tests see to it that every recipe is one.
    show(
        ("recipe", "what it is"),
        [(name, yaml.safe_load(read_recipe(name)).get("description", "")) for name in recipes()],
    )
    return 0
