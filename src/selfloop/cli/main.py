"""The command line: the commands, put together, and what they exit with.

Exit codes: 0 done, 1 the disk is full or a check failed, 2 a user error, 130 interrupted. After a full disk or an
interruption the same command resumes.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

import typer

from selfloop.cli import commands
from selfloop.cli.terminal import FAILED, INTERRUPTED, MISUSED
from selfloop.core.errors import SelfloopError, StorageFull

_FIRST = ("run", "report", "ls", "stability", "metrics", "import", "export", "verify")  # in help; the others by name

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def _selfloop() -> None:
    """Train a generative model on its own samples, again and again, and learn whether that loop is stable."""


def _modules() -> dict[str, str]:
    """Return the commands and the modules that they are in, in the order of the help."""
    found = {module.name.removesuffix("_"): module.name for module in pkgutil.iter_modules(commands.__path__)}
    return {name: found[name] for name in (*_FIRST, *sorted(found)) if name in found}


for _name, _module in _modules().items():
    app.command(_name)(importlib.import_module(f"{commands.__name__}.{_module}").command)


def main() -> None:
    """Run the command line and exit with its code."""
    code = 0
    try:
        code = app(standalone_mode=False) or 0
    except (SelfloopError, typer.TyperException) as error:
        message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        print(f"selfloop: {' '.join(message.split())}", file=sys.stderr)
        code = FAILED if isinstance(error, StorageFull) else MISUSED
    except (KeyboardInterrupt, typer.Abort):
        print("selfloop: interrupted; run the same command again to resume", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
    sys.exit(code)
