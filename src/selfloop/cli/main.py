"""The command line: the commands, put together, and what they exit with.

Exit codes: 0 done, 1 the disk is full or a check failed, 2 what the user can put right, 70 an error of selfloop's own,
130 interrupted; judge and watch say by 3, 4 and 5 that a loop is worse, collapsed or undecided. After a full disk or an
interruption the same command resumes.
"""

from __future__ import annotations

import importlib
import itertools
import pkgutil
import signal
import sys
from typing import Annotated

import typer

from selfloop.cli import commands
from selfloop.cli.failures import interrupted, unforeseen
from selfloop.cli.terminal import FAILED, INTERRUPTED, MISUSED, complain, lenient
from selfloop.core.errors import SelfloopError, StorageFull

_FIRST = (
    "init",
    "run",
    "status",
    "judge",
    "watch",
    "report",
    "ls",
    "compare",
    "stability",
    "forecast",
    "advise",
    "metrics",
    "import",
    "data",
    "export",
    "verify",
    "merge",
    "reproduce",
    "list",
)  # in help; the others by name

_EPILOG = "--import MODULE|FILE.py  code of your own that joins; may stand anywhere, and be repeated"

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"selfloop {version('selfloop')}")
        raise typer.Exit


@app.callback()
def _selfloop(
    imports: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE|FILE.py",
            help="code of your own that joins; may stand anywhere",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="print the version, and exit")
    ] = False,
) -> None:
    """Train a generative model on its own samples, again and again, and learn whether that loop is stable."""
    for word in imports or ():
        from selfloop.core.code import import_code

        import_code(word)


def _imports_first(words: list[str]) -> list[str]:
    """Return the command line with every ``--import X`` before the command, to which all of them matter."""
    first: list[str] = []
    rest: list[str] = []
    for word in (left := iter(words)):
        if word == "--import":
            first += [word, *itertools.islice(left, 1)]
        else:
            (first if word.startswith("--import=") else rest).append(word)
    return first + rest


def _modules() -> dict[str, str]:
    """Return the commands and the modules that they are in, in the order of the help."""
    found = {module.name.removesuffix("_"): module.name for module in pkgutil.iter_modules(commands.__path__)}
    return {name: found[name] for name in (*_FIRST, *sorted(found)) if name in found}


for _name, _module in _modules().items():
    _command = importlib.import_module(f"{commands.__name__}.{_module}").command
    _summary = " ".join(_command.__doc__.partition("\n\n")[0].split())  # given by itself it is not cut
    app.command(_name, epilog=_EPILOG, short_help=_summary)(_command)


def main() -> None:
    """Run the command line and exit with its code."""
    code = 0
    lenient()
    try:
        code = app(_imports_first(sys.argv[1:] or ["--help"]), standalone_mode=False) or 0
    except (SelfloopError, typer.TyperException) as error:
        message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        message = message.replace("Value error, ", "")  # pydantic's, by which typer checks words
        complain(message)
        code = FAILED if isinstance(error, StorageFull) else MISUSED
    except (KeyboardInterrupt, typer.Abort):  # typer makes an exit with its code of it, unless it comes outside
        code = INTERRUPTED
    except MemoryError as error:
        complain(f"there is too little memory ({' '.join(str(error).split()) or 'of Python'}): ask for less at once")
        code = MISUSED
    except BrokenPipeError:
        sys.stderr.close()
    except Exception as error:
        if interrupted(error):
            code = INTERRUPTED
        else:
            line, code = unforeseen(error)
            complain(line)
    if code == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what ends now is not to be interrupted once more
        complain("interrupted; run the same command again to resume")
    sys.exit(code)
