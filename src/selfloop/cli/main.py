"""The command line: the commands, put together, and what they exit with.

Exit codes: 0 done, 1 the disk is full or a check failed, 2 what the user can put right, 70 an error of selfloop's own,
130 interrupted; judge and watch say by 3, 4 and 5 that a loop is worse, collapsed or undecided. After a full disk or an
interruption the same command resumes.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import pkgutil
import re
import signal
import sys
from typing import Annotated

import typer

from selfloop.cli import commands
from selfloop.cli.failures import interrupted, unforeseen
from selfloop.cli.terminal import FAILED, INTERRUPTED, MISUSED, at_work, complain, lenient
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

_NEXT = {
    "init": "Then: selfloop run FILE.yaml",
    "run": "Begin with: selfloop run demo. The same command again resumes a run. Then: selfloop stability RUN, "
    "selfloop forecast RUN --to T, selfloop export RUN --generation T",
    "status": "The same selfloop run command goes on with a run at which nobody is at work.",
    "judge": "Without generations yet: selfloop watch. Docs: judging loops that were run elsewhere.",
    "report": "Then: open RUN/report/index.html in a browser.",
    "ls": "Then: selfloop report RUN, or selfloop compare RUN RUN",
    "data": "Then: selfloop init --data FILE",
    "metrics": "selfloop list metrics says what each is; of a loop's generations: selfloop judge",
    "import": "Then: generator: {name: …, checkpoint: FILE} in an experiment",
    "merge": "Then: selfloop report RUN",
    "list": "Then: name them in an experiment, as selfloop init writes one, or by --set: generator=otcfm",
    "recipes": "Then: selfloop run NAME --plan says what one takes, selfloop run NAME runs it",
}
"""What to type after, or instead of, some commands: below their help."""

_AT_WORK = {
    "judge": "measures the generations and writes the report",
    "watch": "measures what has arrived and writes the report",
    "report": "reads the run and draws its curves",
    "ls": "reads the runs",
    "compare": "reads the runs and draws their curves",
    "stability": "reads the run and works out its rates",
    "forecast": "reads the run and carries its curves on",
    "advise": "reads the data",
    "metrics": "reads the sets and measures them",
    "import": "reads the checkpoint",
    "data": "reads the data",
    "init": "looks at the data",
    "export": "reads the run",
    "verify": "checks every file of a run, or every prediction of the theory",
    "merge": "checks the shards and joins them",
    "reproduce": "runs what was published; a line follows each entry",
    "status": "looks at the run",
}
"""What commands are at that say nothing before they have found something."""

_BEGIN = "Begin with: selfloop run demo; of your own: selfloop init --data FILE, then selfloop run FILE.yaml"

_EPILOG = "--import MODULE|FILE.py  code of your own that joins; may stand anywhere, and be repeated"

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_BEGIN,
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


_MEANT = {
    "resume continue restart": "the same selfloop run command again resumes a run where it was cut off",
    "train start fit launch go": "selfloop run NAME|FILE begins a run; the same command again resumes it",
    "new create template": "selfloop init [FILE.yaml] [--data FILE] writes an experiment that selfloop run takes",
    "show view open display": "selfloop report RUN writes a run's page and prints its table; selfloop status RUN says "
    "how far it is",
    "plot draw chart figure": "selfloop report RUN draws every metric; Run.open(RUN).plot(METRIC) does in Python",
    "delete remove rm clean": "a run is all in its directory: delete that",
    "stop kill pause cancel": "Ctrl-C where it runs stops after the generation at work; the same command resumes it",
    "evaluate eval score measure": "selfloop metrics REAL GENERATED measures a set, selfloop judge REAL GEN… a loop",
    "sample generate draw-samples": "selfloop export RUN --generation T writes what a generation sampled",
    "validate dry-run estimate": "selfloop run NAME|FILE --plan checks it, and says what it would take",
    "diff": "selfloop compare RUN RUN … puts runs side by side",
    "predict": "selfloop forecast RUN --to T says what its metrics will be",
    "help": "selfloop --help lists the commands, selfloop COMMAND --help says what one takes",
    "version": "selfloop --version prints it",
    "serve ui dashboard": "selfloop report RUN writes one HTML file, which any browser opens",
    "progress log logs": "selfloop status RUN says how far it is; RUN/log.txt is its log",
    "generators metric datasets mixings models": "selfloop list [generators|data|mixing|metrics|…] lists them",
}
"""Commands that there are not, and what does what they would."""


def _of_typer(error: typer.TyperException) -> str:
    """Return what is wrong with the command line: of a value what it must be, in words of ours, and what it is."""
    from pydantic import BaseModel, ValidationError

    from selfloop.core.config import one_line

    option = getattr(error, "param", None)
    if option is None or not isinstance(error.__cause__, ValidationError):
        return error.format_message()
    return one_line(error.__cause__, BaseModel, option.opts[:1])


def _instead(message: str) -> str:
    """Return a complaint of typer's with what to type: what does as much as the command that is not there, or -h."""
    if message.startswith(("Missing ", "No such option", "Got unexpected")):
        return f"{message.rstrip('.')}; -h after the command says what it takes"
    found = re.match(r"No such command '([^']*)'", message)
    meant = next((words for names, words in _MEANT.items() if found and found[1].lower() in names.split()), None)
    return f"there is no command {found[1]!r}: {meant}" if found and meant else message


def _modules() -> dict[str, str]:
    """Return the commands and the modules that they are in, in the order of the help."""
    found = {module.name.removesuffix("_"): module.name for module in pkgutil.iter_modules(commands.__path__)}
    return {name: found[name] for name in (*_FIRST, *sorted(found)) if name in found}


for _name, _module in _modules().items():
    _command = importlib.import_module(f"{commands.__name__}.{_module}").command
    _summary = " ".join(_command.__doc__.partition("\n\n")[0].split())  # given by itself it is not cut
    _below = "\n\n".join(filter(None, (_NEXT.get(_name), _EPILOG)))
    app.command(_name, epilog=_below, short_help=_summary)(_command)


def main() -> None:
    """Run the command line and exit with its code."""
    code = 0
    lenient()
    words = _imports_first(sys.argv[1:] or ["--help"])
    name = next((word for word in words if word in _modules()), "")
    try:
        with at_work(f"{name}: {_AT_WORK[name]}") if name in _AT_WORK else contextlib.nullcontext():
            code = app(words, standalone_mode=False) or 0
    except (SelfloopError, typer.TyperException) as error:
        message = _of_typer(error) if isinstance(error, typer.TyperException) else str(error)
        message = message.replace("Value error, ", "")  # pydantic's, by which typer checks words
        complain(_instead(message))
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
