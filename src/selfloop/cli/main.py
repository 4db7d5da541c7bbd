"""The command line: run, ls, report, stability, metrics, import, verify, recipes.

Exit codes: 0 done, 1 the disk is full or a check failed, 2 a user error, 130 interrupted. After a full disk or an
interruption the same command resumes.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from selfloop.core.errors import DataError, SelfloopError, StorageFull
from selfloop.core.files import disk_errors, save_tensors
from selfloop.engines.team import Team
from selfloop.engines.threads import as_in_a_worker
from selfloop.engines.workers import cores
from selfloop.experiment import Experiment, recipes, stacks
from selfloop.metrics import METRICS
from selfloop.runner import Generation, assist, run
from selfloop.store import Run

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
_out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
_INTERRUPTED = 130
_FAILED = 1


def main() -> None:
    """Run the command line and exit with its code."""
    code = 0
    try:
        code = app(standalone_mode=False) or 0
    except (SelfloopError, typer.TyperException) as error:
        message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        print(f"selfloop: {' '.join(message.split())}", file=sys.stderr)
        code = 1 if isinstance(error, StorageFull) else 2
    except (KeyboardInterrupt, typer.Abort):
        print("selfloop: interrupted; run the same command again to resume", file=sys.stderr)
        code = _INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
    sys.exit(code)


@app.callback()
def _selfloop() -> None:
    """Train a generative model on its own samples, again and again, and learn whether that loop is stable."""


@app.command("run")
def run_command(
    source: Annotated[str, typer.Argument(metavar="NAME|FILE", help="a recipe's name or a YAML file")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="key.path=value", help="replace a setting; may be repeated")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="the run directory; default: runs/<name>")] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="processes; default: one per core; 0: this one")] = None,
    device: Annotated[str, typer.Option(help="of networks of images: cpu, cuda, cuda:1, mps")] = "cpu",
    devices: Annotated[int, typer.Option(min=1, help="how many of them share every fit; torchrun says so itself")] = 1,
    save_every: Annotated[float, typer.Option(min=0, metavar="MINUTES", help="how often to save a fit under way")] = 10,
    plan: Annotated[bool, typer.Option("--plan", help="only say what it would take; for images")] = False,
) -> int:
    """Run an experiment, or what is left of it, and write its report."""
    experiment = Experiment.load(source).override(*(settings or []))
    if plan:
        return _plan(experiment, device, devices)
    team = Team.start(device, devices)
    folder = Path("runs") / experiment.name if out is None else out
    if team.rank > 0:
        return _assist(experiment, folder, team)
    if workers is None:
        workers = cores() if device == "cpu" and team.size == 1 else 0
    with _interruptible() as stopped:
        ran = False
        with _display(experiment) as (tick, show):
            for generation in run(
                experiment, folder, workers=workers, team=team, save_every=60 * save_every, progress=tick
            ):
                ran = True
                show(generation)
                if stopped():
                    break
        finished = Run.open(folder)
        if not finished.finished:
            print(
                f"selfloop: stopped after generation {finished.last} of {experiment.generations}; "
                "run the same command again to resume",
                file=sys.stderr,
            )
            return _INTERRUPTED
        page = folder / "report" / "index.html"
        if not ran and page.exists():
            _out.print(f"{folder} is finished: all {experiment.generations} retrainings are done, nothing to do.")
        else:
            page = _report(finished)
        _out.print(f"Report: {page}", soft_wrap=True)
        return 0


def _plan(experiment: Experiment, device: str, devices: int) -> int:
    from selfloop.cli.plan import plan

    team = Team.start(device, 1)
    team.size = devices
    table = Table("what", "how much", box=None, show_header=False)
    for row in plan(experiment, team):
        table.add_row(*map(escape, row))
    _out.print(table)
    return 0


def _assist(experiment: Experiment, folder: Path, team: Team) -> int:
    """Take part in the fits of another process, which alone says when to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assist(experiment, folder, team)
    return 0


@app.command("report")
def report_command(path: Annotated[Path, typer.Argument(metavar="RUN", help="a run directory")]) -> int:
    """Write the report of a run, finished or not, and print its result table."""
    _out.print(f"Report: {_report(Run.open(path))}", soft_wrap=True)
    return 0


@app.command("ls")
def ls_command(path: Annotated[Path, typer.Argument(metavar="DIR", help="a directory of runs, or one run")]) -> int:
    """List the runs in a directory: how far each is and what is said of each setting."""
    from selfloop.analysis import curves, verdict

    if not path.is_dir():
        raise SelfloopError(f"{str(path)!r} is not a directory")
    found = [p for p in [path, *sorted(path.iterdir())] if (p / "experiment.yaml").is_file()]
    table = Table("run", "experiment", "retrainings", "arms", "verdicts", box=None)
    for folder in found:
        try:
            opened = Run.open(folder)
            read = curves.read(opened)
            by = verdict.judged(read, METRICS)
            words = (
                [f"{s.label}: {verdict.of_setting(s, read, by).word}" for s in read.settings] if opened.last > 0 else []
            )
            done = f"{max(opened.last, 0)}/{opened.experiment.generations}"
            row = (opened.experiment.name, done, str(len(opened.arms)), "; ".join(words))
        except SelfloopError as error:
            row = ("damaged", "", "", str(error))
        table.add_row(escape(str(folder)), *map(escape, row))
    _out.print(table if found else f"no runs in {escape(str(path))}")
    return 0


@app.command("stability")
def stability_command(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="a run directory, finished or not")],
    metric: Annotated[str | None, typer.Option(help="to compare with λ = 0; default: what the verdict is of")] = None,
    tolerance: Annotated[float, typer.Option(help="by what share of λ = 0's a metric may be worse")] = 0.1,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> int:
    """Say how stable a run's loop is, λ by λ, and how much synthetic data it bears."""
    from selfloop.analysis import stability

    found = stability.stability(Run.open(path), metric=metric, tolerance=tolerance)
    if as_json:
        print(json.dumps(stability.plain(dataclasses.asdict(found)), indent=1, ensure_ascii=False))
        return 0
    title = "metric" if found.metric is None else METRICS[found.metric].title
    table = Table("setting", "ρ predicted", "ρ of the mean", "ρ of the spread", "error ×", box=None)
    for name in (title, "worse than λ = 0", "verdict"):
        table.add_column(name, overflow="fold")
    for cells in stability.cells(found):
        table.add_row(*map(escape, cells))
    _out.print(table)
    for line in stability.sentences(found):
        _out.print(escape(line), soft_wrap=True)
    return 0


@app.command("metrics")
def metrics_command(
    real: Annotated[str, typer.Argument(metavar="REAL", help="pictures, an array, a table, or RUN@train")],
    generated: Annotated[str, typer.Argument(metavar="GENERATED", help="the same, or RUN@3 for generation 3")],
    features: Annotated[
        str, typer.Option(metavar="NAME|YAML", help="identity, classifier, torchscript, torch_fidelity, or settings")
    ] = "identity",
    only: Annotated[str | None, typer.Option(metavar="NAME,…", help="which scores; default: those of any set")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON with every number's definition")] = False,
) -> int:
    """Compare a set of events with a real one."""
    from selfloop.analysis import scores, sources

    extractor = scores.extractor(features)
    names = scores.DEFAULT if only is None else [name.strip() for name in only.split(",")]
    sets = [sources.read_events(source) for source in (real, generated)]
    try:
        console = Console(stderr=True)
        quiet = not (extractor.images and console.is_terminal)
        with Progress(console=console, transient=True, disable=quiet) as bar:
            task = bar.add_task("features", total=None)
            found = scores.scores(
                *sets,
                reference=real,
                features=extractor,
                names=names,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    except ValueError as error:
        raise DataError(f"{real!r} and {generated!r} cannot be compared: {error}") from error
    if as_json:
        print(json.dumps([scores.plain(score) for score in found], indent=1, ensure_ascii=False))
        return 0
    table = Table("score", "value", "better", "what it is", box=None)
    for score in found:
        value = f"{score.value:.6g}" + (f" ± {score.error:.2g}" if score.error is not None else "")
        table.add_row(*map(escape, (score.name, value, score.direction, f"{score.definition} (v{score.version})")))
    _out.print(table)
    first = found[0]
    _out.print(
        f"{first.generated} events against {first.real} of {escape(repr(real))}; features: {escape(first.features)}",
        soft_wrap=True,
    )
    return 0


@app.command("import")
def import_command(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="a checkpoint of EDM, torchcfm or ddpm-torch")],
    out: Annotated[Path | None, typer.Option(help="a directory for the networks, as safetensors")] = None,
) -> int:
    """Show what another project's checkpoint holds, executing nothing in it, and write its networks as safetensors."""
    from selfloop import interop

    found = interop.read_checkpoint(path)
    table = Table("what", "value", box=None)
    for row in interop.describe(found):
        table.add_row(*map(escape, row))
    _out.print(table)
    if out is not None:
        with disk_errors(out):
            out.mkdir(parents=True, exist_ok=True)
            for name in found.networks:
                save_tensors(out / f"{name}.safetensors", interop.export(found, name))
                _out.print(f"Wrote {escape(str(out / name))}.safetensors", soft_wrap=True)
    return 0


@app.command("export")
def export_command(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="a run directory")],
    png: Annotated[Path, typer.Option(metavar="DIR", help="a new or empty directory for the pictures")],
    generation: Annotated[str, typer.Option(metavar="N|train|held_out", help="which; default: the last")] = "",
    arm: Annotated[int, typer.Option(min=0, help="of which arm")] = 0,
) -> int:
    """Write one arm's images of a generation, or its real ones, as PNG files."""
    from selfloop.analysis import sources

    images = sources.of_run(path, generation or str(max(Run.open(path).last, 0)), arm)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar, disk_errors(png):
        task = bar.add_task("pictures", total=len(images))
        sources.write_pictures(images, png, lambda done: bar.update(task, completed=done))
    _out.print(f"Wrote {len(images)} pictures to {escape(str(png))}", soft_wrap=True)
    return 0


@app.command("verify")
def verify_command(
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="print a page, as in the documentation")] = False,
) -> int:
    """Check every prediction of the theory against a simulation; exit with 1 where one fails."""
    from selfloop.theory.checks.check import HEADINGS, cells, page
    from selfloop.theory.checks.verify import checks

    found = []
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("checks", total=None)
        with as_in_a_worker():
            for check in checks():
                found.append(check)
                bar.update(task, completed=len(found))
    if as_json:
        rows = [dataclasses.asdict(check) | {"z": check.z, "holds": check.holds} for check in found]
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    elif markdown:
        print(page(found), end="")
    else:
        table = Table(*HEADINGS, box=None)
        for check in found:
            table.add_row(*map(escape, cells(check)))
        _out.print(table)
    return 0 if all(check.holds for check in found) else _FAILED


@app.command("recipes")
def recipes_command() -> int:
    """List the experiments that come with the package."""
    table = Table("recipe", "what it is", box=None)
    for name in recipes():
        table.add_row(name, escape(Experiment.load(name).description))
    _out.print(table)
    return 0


def _report(opened: Run) -> Path:
    """Write the report and print the table of results."""
    from selfloop.analysis import curves, verdict
    from selfloop.report import tables, write_report

    page = write_report(opened)
    read = curves.read(opened)
    by = verdict.judged(read, METRICS)
    table = Table(box=None, pad_edge=False)
    for title in ("setting", *[METRICS[m].title for m in read.metrics], "verdict"):
        table.add_column(title, overflow="fold")
    for i, setting in enumerate(read.settings):
        values = [tables.final(read, i, metric) for metric in read.metrics]
        table.add_row(*map(escape, [setting.label, *values, verdict.of_setting(setting, read, by).word]))
    seeds = len(read.settings[0].arms)
    _out.print(
        f"After {opened.last} retrainings, {'mean ± std over ' if seeds > 1 else ''}{seeds} seed{'s'[: seeds - 1]}:"
    )
    _out.print(table)
    return page


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C ask for a stop after the generation at work, and the second stop at once."""
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print("selfloop: finishing this generation; Ctrl-C again to drop it and stop now", file=sys.stderr)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _display(
    experiment: Experiment,
) -> Iterator[tuple[Callable[[int, int, int], None], Callable[[Generation], None]]]:
    """Show progress: a bar on a terminal, a plain line per generation elsewhere."""
    arms, last, started, first = len(experiment.arms()), experiment.generations, time.monotonic(), -1
    per_generation = len(stacks(experiment))

    def line(generation: Generation) -> str:
        nonlocal first
        first = generation.t if first < 0 else first
        spent = time.monotonic() - started
        left = spent / (generation.t - first + 1) * (last - generation.t)
        return f"generation {generation.t}/{last} · {arms} arms · {_current(generation)} · ETA {_clock(left)}"

    if not _out.is_terminal:
        yield lambda t, done, total: None, lambda generation: print(line(generation), flush=True)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn())
    with Progress(*columns, TimeRemainingColumn(), console=_out) as bar:
        task = bar.add_task(f"{experiment.name}, {arms} arms", total=(last + 1) * per_generation)

        def tick(t: int, done: int, total: int) -> None:
            bar.update(task, completed=t * total + done)

        yield tick, lambda generation: bar.console.print(line(generation))


def _current(generation: Generation) -> str:
    """Return the first metric in short, its mean over the seeds of every setting."""
    name = next(iter(generation.records[0]["metrics"]))
    groups: dict[str, list[float]] = {}
    for record in generation.records:
        value = record["metrics"][name]
        label = ",".join(str(v) for v in record["settings"].values())
        groups.setdefault(label, []).append(float("nan") if value is None else value)
    shown = [f"{label}: {sum(v) / len(v):.3g}".removeprefix(": ") for label, v in list(groups.items())[:6]]
    return f"{name} {'  '.join(shown)}{' …' if len(groups) > 6 else ''}"


def _clock(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{int(seconds):02d}" if hours else f"{minutes}:{int(seconds):02d}"
