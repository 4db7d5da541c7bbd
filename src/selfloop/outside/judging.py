"""A loop that was run elsewhere, judged in one call."""

from __future__ import annotations

import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from selfloop.analysis import verdict
from selfloop.analysis.judgement import Judgement, judgement
from selfloop.core.errors import refuse_no_names, refuse_unlike
from selfloop.features.base import Extractor
from selfloop.metrics.base import METRICS
from selfloop.outside.given import Loop, loop_of
from selfloop.outside.recording import ROWS, Progress, record


def judge(
    real: Any,
    generations: Any,
    *,
    held_out: Any = None,
    control: Any = None,
    every: int = 1,
    leave_out: Sequence[str] = (),
    features: str | Extractor | None = None,
    metrics: Sequence[str] | None = None,
    metric: str | None = None,
    tolerance: float = verdict.TOLERANCE,
    rows: int = ROWS,
    raw: bool = False,
    target: str | None = None,
    out: str | Path | None = None,
) -> Judgement:
    """Judge a loop that was run elsewhere by its generations 0, 1, 2, ….

    Sets of rows are arrays, tensors, data frames, or names of what ``selfloop metrics`` takes: tables, arrays, folders
    and zips of pictures, ``RUN@3``. Of both kinds generations may be.

    Args:
        real: real rows.
        generations: a list of sets; of several repetitions a list of such lists; or a pattern of names such as
            ``"run{s}/gen_{t}.csv"``, a glob or a folder.
        held_out: real rows that no model was trained on; None holds out a part of ``real``, always the same.
        control: as ``generations``, of a loop that saw real rows alone; its repetitions are those of the loop.
        every: judge the first generation and every so-manyth after it.
        leave_out: columns of tables that are not taken, as one that numbers the rows; generations may lack them.
        features: what the metrics look at, a name, settings as YAML, or an object; None is those of a directory that
            has some, else what suits: colour pictures by a network, if its package is there, all else as it is.
        metrics: names; None is :data:`DEFAULT` or, of a directory that has some, these.
        metric: the one to judge by, in place of the first distance; measured also where it is not among ``metrics``.
        tolerance: by what share the loop may be worse.
        rows: the most rows that are measured of a set; of more, some are drawn.
        raw: whether numbers are compared in the units in which they come.
        target: a column of a table: what a model learns of a generation that predicts it is measured too, in held-out
            rows; None is that of a directory that has one.
        out: the run directory, made or added to; None is a temporary one, gone when nothing refers to the run any more.

    What was chosen because nobody had named it, as features of pictures, and columns that number the rows of a table of
    numbers, are told of by warnings.

    Raises:
        DataError: something cannot be read, compared or judged; nothing is written.
        ConfigError: a setting is none.
        RunError: the directory is another loop's, or a generation is not what it was.

    Examples:
        >>> import numpy as np
        >>> from selfloop import judge
        >>> real = np.random.default_rng(0).normal(size=(400, 2))
        >>> shrinking = [real[:200] * 0.7**t for t in range(6)]
        >>> found = judge(real[200:], shrinking, metrics=["sliced_w2_held_out"])
        >>> found.verdict.word
        'collapsed'
    """
    if out is not None:
        refuse_unlike("out", out, (str, PathLike), "the path of a run directory")
    loop = loop_of(real, generations, held_out=held_out, control=control, every=every, leave_out=leave_out)
    made = None if out is not None else tempfile.mkdtemp(prefix="selfloop-judged-")
    chosen: list[str] = []
    try:
        found = judge_loop(
            loop,
            made or out or "",
            features=features,
            metrics=metrics,
            metric=metric,
            tolerance=tolerance,
            rows=rows,
            raw=raw,
            target=target,
            notice=chosen.append,
        )
    except BaseException:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
        raise
    for line in chosen:
        warnings.warn(line, stacklevel=2)
    if made is not None:
        weakref.finalize(found.run, shutil.rmtree, made, ignore_errors=True)
    return found


def judge_loop(
    loop: Loop,
    out: str | Path,
    *,
    features: str | Extractor | None = None,
    metrics: Sequence[str] | None = None,
    metric: str | None = None,
    tolerance: float = verdict.TOLERANCE,
    rows: int = ROWS,
    raw: bool = False,
    target: str | None = None,
    notice: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Judgement:
    """Judge a loop as :func:`judge` does, in a directory.

    ``notice`` and ``progress`` are called as :func:`selfloop.outside.recording.record` says.
    """
    verdict.refuse_tolerance(tolerance)
    refuse_no_names(metrics or (), "metrics")
    for name, given, words in (
        ("the metric", metric, "the name of one"),
        ("the target", target, "the name of a column"),
    ):
        if given is not None:
            refuse_unlike(name, given, str, words)
    if metric is not None and metric in METRICS and METRICS[metric].goal is None:
        raise verdict.no_direction(metric)
    also = () if metric is None else (metric,)
    run = record(
        loop,
        out,
        features=features,
        metrics=metrics,
        also=also,
        rows=rows,
        raw=raw,
        target=target,
        notice=notice,
        progress=progress,
    )
    return judgement(run, metric=metric, tolerance=tolerance)
