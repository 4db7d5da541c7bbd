"""Judge a loop that was run elsewhere."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from selfloop.cli import judging
from selfloop.cli.terminal import loading, names, say, say_plain
from selfloop.core.errors import ConfigError


def command(
    real: Annotated[str, typer.Argument(metavar="REAL", help="real data: pictures, an array, a table, or RUN@train")],
    generations: Annotated[
        list[str] | None,
        typer.Argument(metavar="GEN…", help="generations 0, 1, …: each, or a folder, a glob, a pattern 'gen_{t}.csv'"),
    ] = None,
    held_out: judging.HeldOut = None,
    control: judging.Control = None,
    seed_pattern: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="in place of GEN, of repetitions: 'run{s}/gen_{t}.csv'")
    ] = None,
    every: judging.Every = 1,
    leave_out: judging.LeaveOut = "",
    features: judging.FeaturesOption = None,
    metrics: judging.Metrics = None,
    metric: judging.MetricOption = None,
    tolerance: judging.Tolerance = 0.1,
    rows: judging.RowsOption = 10_000,
    raw: judging.Raw = False,
    target: judging.Target = None,
    unknown: Annotated[
        str | None, typer.Option(metavar="SET", help="how many of these rows look like those of the generations")
    ] = None,
    out: judging.Out = None,
    as_json: judging.Json = False,
) -> int:
    """Judge generations made elsewhere: exit with 0 if the loop is stable so far, 3 worse, 4 collapsed, 5 undecided."""
    words = [*(generations or ()), *([] if seed_pattern is None else [seed_pattern])]
    if seed_pattern is not None and (generations or "{s}" not in seed_pattern):
        raise ConfigError("--seed-pattern stands in place of GEN, and has {s} and {t} in it: 'run{s}/gen_{t}.csv'")
    if not words:
        raise ConfigError("name the generations: each, or a folder, a glob, or a pattern such as 'gen_{t}.csv'")
    with loading():
        from selfloop.outside import loop_of

    left = names(leave_out)
    settings = judging.Settings(
        features=features,
        metrics=metrics,
        metric=metric,
        tolerance=tolerance,
        rows=rows,
        raw=raw,
        target=target,
        out=out,
    )
    loop = loop_of(real, words, held_out=held_out, control=control, every=every, leave_out=left)
    share = None if unknown is None else judging.share_of(unknown, loop, features, left)
    found = settings.judged(loop)
    index = judging.report(found)
    if as_json:
        from selfloop.analysis.judgement import finite

        told = {} if share is None else {"unknown": finite(share.plain())}
        say_plain(json.dumps(found.plain() | told | {"report": str(index)}, indent=1, ensure_ascii=False))
    else:
        judging.tell(found, index)
        for line in str(share or "").splitlines():
            say(line)
    return found.code
