"""Compare two sets of events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from selfloop.cli.judging import FeaturesOption, LeaveOut
from selfloop.cli.terminal import bar, complain, names, say, say_plain, show
from selfloop.core.errors import DataError

if TYPE_CHECKING:
    from selfloop.analysis.scores import Score


def command(
    real: Annotated[str, typer.Argument(metavar="REAL", help="pictures, an array, a table, or RUN@train")],
    generated: Annotated[str, typer.Argument(metavar="GENERATED", help="the same, or RUN@3 for generation 3")],
    features: FeaturesOption = None,
    only: Annotated[str | None, typer.Option(metavar="NAME,…", help="which scores; default: those of any set")] = None,
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="to predict: what the generated rows are worth to that")
    ] = None,
    leave_out: LeaveOut = "",
    raw: Annotated[bool, typer.Option("--raw", help="tables in their own units, not standardised")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON with every number's definition")] = False,
) -> int:
    """Compare a set of events with a real one."""
    from selfloop.analysis import scores, sources
    from selfloop.analysis.alignment import align
    from selfloop.experiment import member
    from selfloop.features.base import FEATURES
    from selfloop.features.unnamed import unnamed

    named = None if features is None else member(FEATURES, features)
    left = names(leave_out)
    reference = sources.read_events(real, like=sources.tokens_of([generated]), real=True, leave_out=left)
    given = [reference, sources.read_events(generated, like=reference.events, leave_out=left)]
    suited, words = unnamed((each.events, each.pictures) for each in given)
    extractor = named or suited
    for line in filter(None, ("" if named is not None else words, *reference.notes)):
        complain(line)
    resized = "pixels" in extractor.needs
    sets = align(*given, raw=raw, resized=resized)
    wanted = scores.default(sets.events, target) if only is None else [name.strip() for name in only.split(",")]
    try:
        with bar("features", shown=resized) as tick:
            found = scores.scores(
                sets.real,
                sets.generated,
                reference=real,
                unit=sets.unit,
                scaling=sets.scaling,
                features=extractor,
                names=wanted,
                progress=tick,
                events=sets.events,
                target=target,
            )
    except ValueError as error:
        raise DataError(f"{real!r} and {generated!r} cannot be compared: {error}") from error
    if as_json:
        say_plain(json.dumps([scores.plain(score) for score in found], indent=1, ensure_ascii=False))
        return 0
    show(("score", "value", "unit", "better", "what it is"), map(_row, found))
    first = found[0]
    say(first.scaling)
    say(f"{first.generated} events against {first.real} of {real!r}; features: {first.features}")
    return 0


def _row(score: Score) -> tuple[str, str, str, str, str]:
    value = f"{score.value:.6g}" + (f" ± {score.error:.2g}" if score.error is not None else "")
    return score.name, value, score.unit, score.direction, f"{score.definition} (v{score.version})"
