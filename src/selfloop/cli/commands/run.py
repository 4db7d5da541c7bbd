"""Run an experiment."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from selfloop.cli.terminal import INTERRUPTED, complain, console, directory, loading, not_silent, say, say_report, show
from selfloop.core.errors import SelfloopError
from selfloop.core.paths import expanded

if TYPE_CHECKING:
    from selfloop.engines.base import Engine
    from selfloop.engines.team import Team
    from selfloop.experiment import Experiment
    from selfloop.shards import Shard
    from selfloop.trackers.base import Tracker

_MOST = 100_000  # processes and devices: what is beyond is a slip of the hand


def command(
    source: Annotated[str, typer.Argument(metavar="NAME|FILE", help="a recipe's name or a YAML file")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="key.path=value", help="replace a setting; may be repeated")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="the run directory, or its URL; default: runs/<name>", parser=directory)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, max=_MOST, help="processes; default: one per core; 0: this one")
    ] = None,
    device: Annotated[str, typer.Option(help="of networks of images: cpu, cuda, cuda:1, mps")] = "cpu",
    devices: Annotated[
        int, typer.Option(min=1, max=_MOST, help="how many of them share every fit; torchrun says so itself")
    ] = 1,
    save_every: Annotated[float, typer.Option(min=0, metavar="MINUTES", help="how often to save a fit under way")] = 10,
    engine: Annotated[str | None, typer.Option(metavar="NAME|YAML", help="where arms run; default: local")] = None,
    address: Annotated[str | None, typer.Option(metavar="HOST:PORT|auto", help="of the engine's cluster")] = None,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="only its share of the arms; see merge")] = None,
    track: Annotated[
        list[str] | None, typer.Option(metavar="NAME|YAML", help="who is told of every generation; may be repeated")
    ] = None,
    metrics_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="that keeps saying how far it is, for Prometheus", parser=expanded),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="only say what it would take")] = False,
) -> int:
    """Run an experiment, or what is left of it, and write its report."""
    begins = "times a step and samples" if plan else "looks at the data, the settings and the run directory"
    with not_silent(f"{source}: {begins}"):
        with loading():
            from selfloop.engines.base import ENGINES
            from selfloop.engines.local import Local, cores
            from selfloop.engines.team import Team
            from selfloop.experiment import Experiment, member
            from selfloop.shards import Shard
            from selfloop.trackers.base import TRACKERS

        experiment = Experiment.load(source).override(*(settings or []))
        if plan:
            return _plan(experiment, device, devices)
        if metrics_file is not None and not metrics_file.absolute().parent.is_dir():
            raise SelfloopError(f"--metrics-file {str(metrics_file)!r}: its folder is not there")
        if metrics_file is not None and metrics_file.exists() and not metrics_file.is_file():
            raise SelfloopError(f"--metrics-file {str(metrics_file)!r} is no file, and it would be replaced by one")
        team = Team.start(device, devices)
        share = None if shard is None else Shard.parse(shard)
        name = experiment.name if share is None else f"{experiment.name}.shard-{share.number}-of-{share.of}"
        folder = Path("runs") / name if out is None else out
        if team.rank > 0:
            return _assist(experiment, folder, team)
        if workers is None:
            workers = cores() if device == "cpu" and team.size == 1 else 0
        chosen = Local(workers=workers) if engine is None else member(ENGINES, engine)
        if address is not None:
            chosen = _at(chosen, address)
        trackers = [member(TRACKERS, word) for word in track or ()]
        try:
            return _run(experiment, folder, chosen, trackers, team, 60 * save_every, share, metrics_file)
        finally:
            team.end()


def _at(engine: Engine, address: str) -> Engine:
    """Return an engine of the cluster at an address.

    Raises:
        ConfigError: it has none.
    """
    from selfloop.core.errors import ConfigError
    from selfloop.engines.base import ENGINES

    if "address" not in getattr(type(engine), "model_fields", {}):
        raise ConfigError(
            f"--address is of a cluster, as --engine ray has one; engine {ENGINES.name_of(engine)} has none"
        )
    found: Engine = engine.model_copy(update={"address": address})  # type: ignore[attr-defined]
    return found


def _plan(experiment: Experiment, device: str, devices: int) -> int:
    from selfloop.cli.plan import plan
    from selfloop.engines.team import Team

    team = Team.start(device, 1)
    team.size = devices
    with console.status("timing a step and samples, of a large network for minutes"):
        rows = plan(experiment, team)
    show(("what", "how much"), rows, show_header=False)
    return 0


def _assist(experiment: Experiment, folder: Path, team: Team) -> int:
    """Take part in the fits of another process, which alone says when to stop."""
    from selfloop.runner import assist

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assist(experiment, folder, team)
    team.end()
    return 0


def _run(
    experiment: Experiment,
    folder: Path,
    engine: Engine,
    trackers: list[Tracker],
    team: Team,
    save_every: float,
    shard: Shard | None,
    metrics_file: Path | None,
) -> int:
    with loading():
        from selfloop.cli.commands.report import write
        from selfloop.cli.display import all_done, display
        from selfloop.report.shown import shown
        from selfloop.runner import run
        from selfloop.store import Run
        from selfloop.store.remote import working

    with working(folder), _interruptible() as stopped, contextlib.ExitStack() as closing:
        before = Run.open(folder).recorded if (folder / "experiment.yaml").is_file() else None
        ran = False
        with display(experiment, folder, metrics_file) as (tick, told):
            going = run(
                experiment,
                folder,
                engine=engine,
                trackers=trackers,
                team=team,
                save_every=save_every,
                progress=tick,
                notice=say,
                shard=shard,
            )
            closing.callback(going.close)  # trackers take the report along
            for generation in going:
                ran = True
                told(generation)
                if stopped() or generation.t == experiment.generations:
                    break
        finished = Run.open(folder)
        if shard is not None and not stopped():
            say(f"Shard {shard} is done: {folder}; join all of them by selfloop merge")
            return 0
        if not finished.finished:
            complain(f"stopped after generation {finished.last} of {experiment.generations}")
            return INTERRUPTED
        page = folder / "report" / "index.html"
        there = shown(finished)
        if not ran and before is not None and (new := [name for name in finished.recorded if name not in before]):
            say(f"Added {', '.join(new)} to all generations.")
            ran = True
        if not ran and there == "current":
            say(f"{folder} is finished: {all_done(experiment.generations)}, nothing to do.")
        else:
            if not ran and there:
                say(f"The report was {there}: it is written again.")
            with not_silent("All generations are done; writes the report"):
                page = write(finished)
        say_report(page)
        return 0


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C ask for a stop after the generation at work, and the second stop at once."""
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # what ends now is not to be interrupted once more
            raise KeyboardInterrupt
        asked = True
        print("selfloop: finishing this generation; Ctrl-C again to drop it and stop now", file=sys.stderr)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
