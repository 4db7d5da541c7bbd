"""What a judge is: it looks at rows and says a number of each, or where each should be."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from torch import Tensor

from selfloop.core.capabilities import WORDS, Capability
from selfloop.core.config import Frozen, Inside, quoted_value
from selfloop.core.errors import FOREIGN, ConfigError, SelfloopError, said
from selfloop.core.registry import Absent, Family
from selfloop.data.base import Dataset
from selfloop.mixing.base import Pool

Probability = Annotated[float, Field(ge=0, le=1)]


class Quantile(Frozen):
    """A threshold that real rows set: the given quantile of their own scores.

    Attributes:
        quantile: the share of real rows that lie below it.
    """

    quantile: Probability


def settings_of(model: type[BaseModel], value: Any) -> Any:
    """Return settings by name as a model has them, and anything else as it is.

    A union of a number and a model would blame the number for what is wrong inside the settings.

    Raises:
        Inside: a setting is wrong.
    """
    if not isinstance(value, Mapping):
        return value
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Inside(error, model) from error


def _threshold(value: Any) -> Any:
    found = settings_of(Quantile, value)
    number = isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)
    if found is None or number or isinstance(found, Quantile):
        return found
    raise ValueError(f"a score is a finite number, or {{quantile: 0 to 1}}, not {quoted_value(value)}")


Threshold = Annotated[float | Quantile | None, BeforeValidator(_threshold)]
"""The score from which on a row passes, or the quantile of the real rows' scores that it must reach."""


class Judge(Frozen, ABC):
    """An opinion on rows; concrete classes add ``name``, or are called as the class is.

    Attributes:
        says: "scores", one number or truth value a row, the more the better; or "rows", where each should be.
        least: the score from which on a verifier keeps a row, unless it is told another; None where it must be told.
        needs: what data or generator must offer.
    """

    says: ClassVar[Literal["scores", "rows"]] = "scores"
    least: ClassVar[float | None] = 0.5
    needs: ClassVar[frozenset[Capability]] = frozenset()

    @abstractmethod
    def __call__(self, x: Tensor, pool: Pool) -> Tensor:
        """Return what it says of rows x (N, *event) in model units: (N,), or (N, *event).

        Their classes are ``pool.labels``, of a judge that needs "labels".
        """

    def refuse_incomplete(self) -> None:
        """Refuse settings that lack something; data and generator offer what it needs.

        Raises:
            ValueError: what.
        """

    def check(self, data: Dataset, event: Sequence[int], n: int) -> None:
        """Refuse data that it cannot judge: events of a shape, n real rows.

        Raises:
            ConfigError: why.
        """


JUDGES: Family[type[Judge]] = Family("judge", "selfloop.mixing.judges", {"__call__": 2})


def needs(judge: Judge) -> frozenset[Capability]:
    """Return what a judge says that data or generator must offer; nothing where it does not say.

    Raises:
        ConfigError: that is no set of capabilities.
    """
    found: Any = getattr(judge, "needs", frozenset())
    if not isinstance(found, set | frozenset) or not found <= WORDS.keys():
        name = JUDGES.name_of(judge)
        raise ConfigError(f"judge {name!r}: its needs are {found!r}, and must be a set out of {', '.join(WORDS)}")
    return frozenset(found)


def refuse_incomplete(judge: Judge) -> None:
    """Refuse a judge whose settings lack something.

    Raises:
        ValueError: what.
    """
    getattr(judge, "refuse_incomplete", lambda: None)()


def check(judge: Judge, data: Dataset, event: Sequence[int], n: int) -> None:
    """Refuse data that a judge cannot judge.

    Raises:
        ConfigError: why, or its check fails.
    """
    try:
        getattr(judge, "check", lambda *_: None)(data, event, n)
    except SelfloopError:
        raise
    except FOREIGN as error:  # whatever the judge's own code raises
        raise ConfigError(f"judge {JUDGES.name_of(judge)!r}: its check failed: {said(error)}") from error


def refuse(judge: Any, says: Literal["scores", "rows"], use: str) -> None:
    """Refuse a judge that says something else than its use needs.

    Raises:
        ValueError: it does.
    """
    if not isinstance(judge, Absent) and (said := getattr(judge, "says", "scores")) != says:
        raise ValueError(f"{use} needs a judge that says {says}, and {JUDGES.name_of(judge)!r} says {said}")


def scores(judge: Judge, x: Tensor, pool: Pool) -> Tensor:
    """Return a judge's scores of rows (N, *event), (N,) float64.

    Raises:
        ConfigError: it fails, or they are no finite numbers, one a row.
    """
    what, found = _asked(judge, x, pool)
    if tuple(found.shape) != (len(x),) or found.is_complex():
        raise ConfigError(f"{what} returned {tuple(found.shape)} for {len(x)} rows: return one number a row, (N,)")
    found = found.detach().to("cpu", torch.float64)
    if not torch.isfinite(found).all():
        wrong = int((~torch.isfinite(found)).sum())
        raise ConfigError(
            f"{what} gave {wrong} of {len(x)} rows scores that are not finite at generation {pool.t}: "
            "return a finite number for every row"
        )
    return found


def moved(judge: Judge, x: Tensor, pool: Pool) -> Tensor:
    """Return where a judge says that rows (N, *event) should be, float64 of the same shape.

    Raises:
        ConfigError: it fails, or says something else.
    """
    what, found = _asked(judge, x, pool)
    if found.shape != x.shape or found.is_complex():
        raise ConfigError(f"{what} returned {tuple(found.shape)} for rows {tuple(x.shape)}: return as many such rows")
    found = found.detach().to("cpu", torch.float64)
    if not torch.isfinite(found).all():
        raise ConfigError(
            f"{what} returned rows that are not finite at generation {pool.t}: return a finite one for every row"
        )
    return found


def _asked(judge: Judge, x: Tensor, pool: Pool) -> tuple[str, Tensor]:
    what, version = f"judge {JUDGES.name_of(judge)!r}", x._version
    try:
        found: Any = judge(x, replace(pool, asker=what))
        found = torch.from_numpy(np.ascontiguousarray(found)) if isinstance(found, np.ndarray) else found
    except SelfloopError:
        raise
    except FOREIGN as error:  # whatever the judge's own code raises
        raise ConfigError(f"{what} failed at generation {pool.t}: {said(error)}") from error
    if x._version != version:
        raise ConfigError(f"{what} changed the rows that it was shown at generation {pool.t}: let it return others")
    if not isinstance(found, Tensor):
        raise ConfigError(f"{what} returned {type(found).__name__} at generation {pool.t}: return a tensor")
    return what, found


def kept(judge: Judge, least: float | Quantile | None, x: Tensor, pool: Pool) -> Tensor:
    """Return which rows (N, *event) a judge lets pass, (N,) bool: those that score ``least`` or more."""
    if isinstance(least, Quantile):
        real = replace(pool, judged=pool.real.classes(0))
        bar = float(np.quantile(scores(judge, pool.real.arm(0), real).numpy(), least.quantile))
    else:
        bar = least if least is not None else getattr(judge, "least", 0.5) or 0.0
    return scores(judge, x, pool) >= bar


def refuse_no_threshold(judge: Any, least: float | Quantile | None, setting: str) -> None:
    """Refuse a verifier of which nobody says how much is enough.

    Raises:
        ValueError: neither the setting of that name nor the judge does.
    """
    if least is None and not isinstance(judge, Absent) and getattr(judge, "least", 0.5) is None:
        name = JUDGES.name_of(judge)
        raise ValueError(
            f"{setting} is missing: judge {name!r} has no threshold of its own; give a score or a quantile"
        )
