"""How stable a run's loop is, λ by λ, and how much synthetic data it bears: what ``selfloop stability`` prints.

For each setting there is the local rate ρ that theory predicts, where it can, and the one that the arms show; what the
model's error comes to; the report's verdict; and a metric at the end against that of the λ = 0 control, seed by
seed.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from selfloop.analysis import bearable, verdict
from selfloop.analysis.bearable import Bearable
from selfloop.analysis.curves import Curves, Setting, read
from selfloop.analysis.paired import LAST, ends, excess, paired
from selfloop.arms import Arm
from selfloop.core.capabilities import Capability
from selfloop.core.controls import of_mixing
from selfloop.core.errors import ConfigError, counted, nearest, refuse_unlike
from selfloop.core.frames import Table, frame, html_table
from selfloop.core.records import Record
from selfloop.core.registry import Absent
from selfloop.core.samples import Samples
from selfloop.core.settings import told_apart
from selfloop.core.streams import Streams
from selfloop.generators.base import OfParameters
from selfloop.metrics.base import Metric
from selfloop.store import Run
from selfloop.theory.bounds import times, total_error
from selfloop.theory.contraction import Contraction
from selfloop.theory.measured import FEWEST_ARMS, FEWEST_RETRAININGS, Interval, memory
from selfloop.theory.plug_in import plug_in

if TYPE_CHECKING:
    import pandas as pd

Doubles = NDArray[np.float64]

FEWEST_SEEDS = 2
"""In which a setting is compared with λ = 0."""

_MOST_PARAMETERS = 200  # of a mixture whose Hessians are formed
_LATEST = 100  # retrainings in which the arms' rates are looked for: more make a long run slow to read, for little


@dataclass(frozen=True, kw_only=True)
class Row:
    """One setting.

    Attributes:
        setting: what distinguishes it, for people.
        ratio: synthetic rows per real one, λ of the paper's regime; NaN where the regime has no such number.
        arms: how many seeds.
        seen: of how many arms the rates are: those that neither diverged nor stand still.
        predicted: ρ from theory; None where it says nothing of the generator.
        estimated: whether that is an estimate from rows, not a closed form.
        centre: ρ seen in the means of the samples that the next generation trains on; None where it cannot be.
        spread: ρ seen in the logarithm of their total variance.
        total_error: root mean square of the model's error over that of real data alone, where the model can be right,
            in every norm; None where theory says nothing of it.
        value: the metric over the last three retrainings, a mean over seeds; NaN where an arm diverged.
        excess: by what share it is worse than that of λ = 0 in the same seeds, inf where an arm diverged, with
            one-sided bounds at 95 % each; None without a control, and of a metric that has no better and worse.
        verdict: the report's word.
        reason: and its reason.
    """

    setting: str
    ratio: float
    arms: int
    seen: int
    predicted: float | None
    estimated: bool
    centre: Interval | None
    spread: Interval | None
    total_error: float | None
    value: float
    excess: Interval | None
    verdict: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Stability:
    """All of it.

    Attributes:
        name: of the experiment.
        retrainings: committed so far.
        planned: in all.
        metric: that was compared; None where none was recorded.
        title: of the metric, for people; "" where there is none.
        tolerance: a share.
        rows: one per setting.
        bearable: one per combination of the other settings.
        failures: what models raised that ended their arms.
    """

    name: str
    retrainings: int
    planned: int
    metric: str | None
    title: str
    tolerance: float
    rows: tuple[Row, ...]
    bearable: tuple[Bearable, ...]
    failures: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([str(Table(headings(self), cells(self))), *sentences(self)])

    def _repr_html_(self) -> str:
        said = "".join(f"<p>{html.escape(line)}</p>" for line in sentences(self))
        return html_table(headings(self), cells(self)) + said

    def to_frame(self) -> pd.DataFrame:
        """Return a row per setting as a pandas frame, the ends of intervals in columns of their own.

        λ is a number, inf without real rows; what is not known is NaN.

        Raises:
            ConfigError: pandas is not installed.
        """
        return frame(_flat(row) for row in self.rows)


def stability(run: Run | str | Path, *, metric: str | None = None, tolerance: float = 0.1) -> Stability:
    """Assess a run, finished or not.

    Args:
        run: opened for reading, or its directory.
        metric: to compare with λ = 0; None takes the one that the verdict looks at.
        tolerance: by what share a λ may be worse than λ = 0.

    Raises:
        ConfigError: the run did not record the metric, or the tolerance is no positive number.
        RunError: the run is damaged.

    Examples:
        >>> from selfloop import Experiment, run, stability
        >>> grid = {"mixing.lam": [0, 1]}
        >>> experiment = Experiment(name="two", data="gaussian", generator="gaussian", generations=3, grid=grid)
        >>> for generation in run(experiment, "runs/two"): pass
        >>> [row.predicted for row in stability("runs/two").rows]
        [0.0, 0.5]
    """
    refuse_unlike("the run", run, (Run, str, PathLike), "a run directory or its path")
    if metric is not None:
        refuse_unlike("the metric", metric, str, "the name of one")
    run = run if isinstance(run, Run) else Run.open(run)
    curves = read(run)
    by = verdict.judged(curves, run.metrics, tolerance=tolerance)
    name = metric or by.distance or next(iter(curves.values), None)
    if name is not None and name not in run.experiment.metrics:
        raise ConfigError(f"the run did not record {name!r}{nearest(name, run.experiment.metrics)}")
    measure = None if name is None else run.metric(name)
    second = {record["arm"]: record for record in run.of_generation(1)} if run.last >= 1 else {}
    paths = _paths(run, second)
    rows: dict[int, Row] = {}
    answers = []
    for among, members in _families(run, curves).items():
        settings = [curves.settings[i] for i in members]
        found = linearised(run, settings[0].arms[0])
        for i, setting, over in zip(members, settings, _excesses(curves, settings, measure), strict=True):
            arms = [run.arms[arm].index for arm in setting.arms]
            predicted = predicted_rate(run, arms[0], second.get(arms[0]), found)
            seen = _seen([paths[arm] for arm in arms if arm in paths])
            value = _value(curves, setting, name)
            rows[i] = _row(
                setting, predicted, found is not None, seen, value, over, verdict.of_setting(setting, curves, by)
            )
        answers.append(_answer(among, [rows[i] for i in members], run.last, tolerance))
    return Stability(
        name=run.experiment.name,
        retrainings=max(run.last, 0),
        planned=run.experiment.generations,
        metric=name,
        title="" if measure is None else measure.title,
        tolerance=tolerance,
        rows=tuple(rows[i] for i in sorted(rows)),
        bearable=tuple(answers),
        failures=tuple(run.failures()),
    )


def predicted_rate(run: Run, arm: int, record: Record | None, found: Contraction | None = None) -> float | None:
    """Return ρ of one arm's loop from theory, None where there is none.

    The Hessian of an exponential family does not depend on x, so that A = B for whatever data: ρ = m/(n + m) for m
    synthetic rows beside n real ones. Of others ``found`` says it, with m/n for λ. Both hold where a generation is
    trained on real rows and on those of the last model, unselected, as regimes with a ratio are, and left as fitted.

    Args:
        run: it is of.
        arm: its index.
        record: of its generation 1, the first that may be trained on samples; None where there is none.
        found: A and B, estimated, of a family that is not exponential.
    """
    if run.arms[arm].experiment.update is not None or (found is None and "exponential" not in _offers(run, arm)):
        return None
    if record is None or record["ratio"] is None or not record["born"] or not set(record["born"]) <= {"0", "1"}:
        return None
    n, m = record["n_real"], record["n_synthetic"]
    if not n:
        return 1.0
    return m / (n + m) if found is None else found.rate(m / n)


def _offers(run: Run, arm: int) -> frozenset[Capability]:
    """Return what an arm's generator offers, nothing where its code is not here."""
    generator = run.arms[arm].experiment.generator
    return frozenset() if isinstance(generator, Absent) else generator.offers


def linearised(run: Run, arm: int) -> Contraction | None:
    """Estimate A and B at generation 0's fit, which arms that differ in λ share.

    None for generators that offer no function of their parameters, where that fit is no strict maximum, and for more
    than 200 parameters.
    """
    generator = run.arms[arm].experiment.generator
    if "parametric" not in _offers(run, arm) or not isinstance(generator, OfParameters) or run.last < 0:
        return None
    stack, row = run.row(arm)
    state = {name: leaf[row : row + 1] for name, leaf in run.state(0, stack).items()}
    family = generator.parametric(state)
    if family.parameters > _MOST_PARAMETERS:
        return None
    try:
        return plug_in(generator, family, state, run.real(arm).rows.double(), Streams((run.arms[arm].seed,)))
    except ValueError:
        return None


def _families(run: Run, curves: Curves) -> dict[str, list[int]]:
    """Group settings that differ in λ alone, each in the order of λ, by what else they share."""
    settings = [run.arms[setting.arms[0]].settings for setting in curves.settings]
    others = [key for key in (settings[0] if settings else ()) if key != "seed" and not of_mixing(key)]
    words = [[f"{key} = {text}" for text in told_apart([each[key] for each in settings])] for key in others]
    families: dict[str, list[int]] = {}
    for i in range(len(settings)):
        families.setdefault(", ".join(column[i] for column in words), []).append(i)
    return {among: sorted(found, key=lambda i: curves.settings[i].ratio) for among, found in families.items()}


def _paths(run: Run, second: Mapping[int, Record]) -> dict[int, Doubles]:
    """Return by arm what is seen of it, (T, d + 1): means of the rows that train the next, and their log variance.

    Both are against the arm's own real rows, in their standard deviations, over the latest generations; NaN from a
    divergence on. ``second`` holds the records of generation 1 by arm. Of text there is none: tokens are no numbers.
    """
    if run.last < 0 or run.real(run.arms[0].index).events.kind == "text":
        return {}
    generations = range(max(0, run.last - _LATEST), run.last + 1)
    views = [_View.of(run, members, second) for members in run.stacks]
    # Generation by generation: what each consists of is then read once for all of its stacks.
    seen = [[view.features(run.stack_samples(t, s)) for s, view in enumerate(views)] for t in generations]
    paths = [np.stack(stack, 1) for stack in zip(*seen, strict=True)]
    return {
        arm.index: path[r] for members, path in zip(run.stacks, paths, strict=True) for r, arm in enumerate(members)
    }


@dataclass(frozen=True)
class _View:
    """How R arms of a stack are looked at: centre and scale (R, 1, d) of their real rows, and how many samples (R,)."""

    centre: Doubles
    scale: Doubles
    used: NDArray[np.int64]

    @classmethod
    def of(cls, run: Run, members: Sequence[Arm], second: Mapping[int, Record]) -> _View:
        kept = [run.real(arm.index) for arm in members]
        scale = np.stack([real.std.numpy() for real in kept])[:, None]
        return cls(
            np.stack([real.mean.numpy() for real in kept])[:, None],
            np.where(scale > 0, scale, 1.0),
            np.array([_used(second.get(arm.index), real.n) for arm, real in zip(members, kept, strict=True)]),
        )

    def features(self, samples: Samples) -> Doubles:
        """Return means and log total variance of one generation's samples, (R, d + 1)."""
        found = np.full((len(self.used), self.centre.shape[2] + 1), np.nan)
        for m in np.unique(self.used):
            rows = np.flatnonzero((self.used == m) & (samples.count.numpy() >= m))
            if len(rows) and m > 1:
                with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # of rows as large as there are
                    x = (samples.x[rows, :m].flatten(2).double().numpy() - self.centre[rows]) / self.scale[rows]
                    found[rows, :-1] = x.mean(1)
                    found[rows, -1] = np.log(x.var(1).sum(1))
        return found


def _used(record: Record | None, n: int) -> int:
    """Return how many of a generation's samples train the next, as many as there are real rows where none do."""
    return n if record is None else record["born"].get("1", 0) or n


@dataclass(frozen=True, kw_only=True)
class _Rates:
    """ρ as the arms of a setting show it, and how many of them."""

    arms: int
    centre: Interval | None
    spread: Interval | None


def _seen(paths: Sequence[Doubles]) -> _Rates:
    finite = [path for path in paths if np.isfinite(path).all()]
    stack = np.stack(finite) if finite else np.empty((0, 0, 2))
    return _Rates(arms=len(finite), centre=memory(stack[..., :-1]), spread=memory(stack[..., -1:]))


def _row(
    setting: Setting,
    predicted: float | None,
    estimated: bool,
    seen: _Rates,
    value: float,
    over: Interval | None,
    judged: verdict.Verdict,
) -> Row:
    return Row(
        setting=setting.label,
        ratio=setting.ratio,
        arms=len(setting.arms),
        seen=seen.arms,
        predicted=predicted,
        estimated=estimated,
        centre=seen.centre,
        spread=seen.spread,
        total_error=None if predicted is None else total_error(setting.ratio),
        value=value,
        excess=over,
        verdict=judged.text,
        reason=judged.reason,
    )


def _value(curves: Curves, setting: Setting, metric: str | None) -> float:
    """Return the mean over seeds of a metric over the last three retrainings, NaN where an arm diverged."""
    return math.nan if metric not in curves.values else float(ends(curves.of(setting, metric)).mean())


def _excesses(curves: Curves, settings: Sequence[Setting], metric: Metric | None) -> list[Interval | None]:
    """Return by what share each setting is worse than the one with λ = 0 in the same seeds; None where nobody knows."""
    control = next((setting for setting in settings if setting.ratio == 0), None)
    if control is None or metric is None or metric.name not in curves.values:
        return [None] * len(settings)
    found = []
    for setting in settings:
        pairs = paired(curves, setting, control, metric.name)
        over = excess(ends(pairs.here), ends(pairs.there), metric)
        found.append(Interval(0.0, 0.0, 0.0) if over is not None and setting is control else over)
    return found


def _answer(among: str, rows: Sequence[Row], last: int, tolerance: float) -> Bearable:
    """Say what a family of settings bears, or why that cannot be said."""
    control = next((row for row in rows if row.ratio == 0), None)
    others = [row for row in rows if row is not control and not math.isnan(row.ratio)]
    notes = []
    if control is None:
        notes.append("there is no λ = 0 to compare with")
    if len(others) + (control is not None) < 2:
        notes.append("there is one λ only")
    if last < verdict.ENOUGH:
        notes.append(
            f"not enough generations: {counted(max(last, 0), 'retraining')} of the {verdict.ENOUGH} that it takes"
        )
    if control is not None and control.excess is None:
        notes.append("the metric of λ = 0 is not there, not finite, or has no better and worse")
    seeds = max((row.arms for row in rows), default=0)
    if seeds < FEWEST_SEEDS:
        notes.append(f"not enough seeds for an interval: {seeds} of the {FEWEST_SEEDS} that it takes")
    excesses: dict[float, list[Interval]] = {}
    for row in others:
        excesses.setdefault(row.ratio, []).append(row.excess or Interval(math.nan, -math.inf, math.inf))
    if notes:
        return bearable.unknown(among, notes)
    found = bearable.bearable(among, excesses, tolerance)
    others = [row for row in others if row.ratio <= (found.ratio or 0) and not row.verdict.startswith("stable so far")]
    notes = [f"the verdict on {row.setting} asks for more, and is {row.verdict!r}: {row.reason}" for row in others]
    if last < FEWEST_RETRAININGS:
        words = f"{counted(last, 'retraining')} of the {FEWEST_RETRAININGS} that it takes"
        notes.append(f"not enough generations to measure ρ: {words}")
    return replace(found, notes=tuple(notes))


def plain(value: Any) -> Any:
    """Return what JSON takes of a result: λ = inf is "inf", what is not known null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def headings(found: Stability) -> list[str]:
    """Return the headings of :func:`cells`."""
    # The report's tables have the last generation alone under the metric's own name.
    value = f"{found.title or 'metric'}, mean of the last {LAST}"
    rates = ["setting", "ρ predicted", "ρ of the mean", "ρ of the spread", "total error ×"]
    return [*rates, value, "worse than λ = 0", "verdict"]


def cells(found: Stability) -> list[list[str]]:
    """Return the table of :class:`Row`, in words."""
    return [
        [
            row.setting,
            "–" if row.predicted is None else f"{'≈ ' if row.estimated else ''}{row.predicted:.3f}",
            _rate(row.centre, row),
            _rate(row.spread, row),
            "–" if row.total_error is None else times(row.total_error),
            f"{row.value:.4g}" if math.isfinite(row.value) else "–",
            _worse(row.excess),
            row.verdict,
        ]
        for row in found.rows
    ]


def sentences(found: Stability) -> list[str]:
    """Return what there is to say below the table: how much synthetic data is borne, and what is missing."""
    lines = [
        f"After {found.retrainings} of {counted(found.planned, 'retraining')}. ρ with 95 % intervals over arms; shares "
        "worse than λ = 0 seed by seed, at most with 95 % confidence."
    ]
    if any(row.total_error is not None for row in found.rows):
        lines.append(
            "Total error: root mean square of the model's error over that of real data alone, if it can be right, "
            "in every norm; at most 1.22 for finite λ. Errors of single retrainings add up to 1/√(1 − ρ²) of one, but "
            "each is the smaller the larger λ is."
        )
    elif found.rows:
        lines.append(
            "No theory of this generator's loss: ρ says how fast errors are forgotten, not how large they get."
        )
    if any(row.seen < FEWEST_ARMS and (row.centre or row.spread) for row in found.rows):
        lines.append(f"ρ of fewer than {FEWEST_ARMS} arms has no interval, and may be anything.")
    lines += [f"{line}." for line in found.failures]
    return lines + [
        line for each in found.bearable for line in bearable.sentences(each, found.tolerance, found.retrainings)
    ]


def _flat(row: Row) -> dict[str, Any]:
    found = dict(vars(row))
    for name in ("centre", "spread", "excess"):
        rate = found[name] or Interval(math.nan, math.nan, math.nan)
        found |= {name: rate.value, f"{name}_low": rate.low, f"{name}_high": rate.high}
    return found


def _rate(rate: Interval | None, row: Row) -> str:
    """Return a rate with its interval, and of how many arms it is where these are few or not all."""
    if rate is None:
        return "–"
    span = "" if math.isnan(rate.low) else f" ({rate.low:.2f} to {rate.high:.2f})"
    of = f" of {row.arms}" if row.seen < row.arms else ""
    return f"{rate.value:.2f}{span}" + (f", {row.seen}{of} arms" if of or not span else "")


def _worse(excess: Interval | None) -> str:
    if excess is None or math.isnan(excess.value):
        return "–"
    value = "∞" if math.isinf(excess.value) else f"{excess.value:+.0%}"
    return value if excess.high in (excess.value, math.inf) else f"{value} (at most {excess.high:+.0%})"
