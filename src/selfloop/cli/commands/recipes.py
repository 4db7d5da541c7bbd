"""List recipes."""

from __future__ import annotations

from selfloop.cli.terminal import show


def command() -> int:
    """List the experiments that come with the package."""
    from selfloop.experiment import Experiment, recipes

    show(("recipe", "what it is"), [(name, Experiment.load(name).description) for name in recipes()])
    return 0
