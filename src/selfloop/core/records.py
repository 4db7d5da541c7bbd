"""What is known of one arm after one generation, as a line of metrics.jsonl has it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

from selfloop.core.errors import counted

Status = Literal["ok", "diverged", "starved", "stopped"]


@with_config(ConfigDict(strict=True, allow_inf_nan=False))
class Record(TypedDict):
    """One arm at one generation; numbers that are not finite are None, λ = inf and other infinite settings "inf".

    Attributes:
        generation: its number.
        arm: the arm's index in its experiment.
        seed: of the arm.
        settings: the grid's keys and the arm's values.
        regime: what its mixing is called in charts, "λ = 0.5".
        ratio: synthetic rows per real row of its regime, "inf" without real ones, None where that says nothing.
        status: "diverged" from the generation on in which weights or samples were not finite, "starved" from the one on
            for which its regime left no row to train on, "stopped" from the one after its alarm on.
        n_real: real rows that it trained on.
        n_synthetic: generated rows that it trained on.
        born: how many of these rows were born in which generation, "0" for real ones.
        metrics: values by name.
        reference: at generation 0, the values between real training and held-out rows of metrics that have a floor.
        failed_step: the step of the fit at which the loss was first not finite.
        failure: what its model raised in this generation that could not be fitted or sampled any more.
        device: that its networks were fitted and sampled on, by its maker's name; none is the CPU.
    """

    generation: int
    arm: int
    seed: int
    settings: dict[str, Any]
    regime: str
    ratio: float | Literal["inf"] | None
    status: Status
    n_real: int
    n_synthetic: int
    born: dict[str, int]
    metrics: dict[str, float | None]
    reference: NotRequired[dict[str, float | None]]
    failed_step: NotRequired[int]
    failure: NotRequired[Annotated[str, Field(max_length=1000)]]
    device: NotRequired[str]


def failures(records: Iterable[Record]) -> list[str]:
    """Return what models raised that ended their arms, a line for each error of a generation.

    An arm that trains on real rows alone does not suffer from the loop: where it ends so, the line says whose fault
    that is.
    """
    found: dict[tuple[int, str], list[Record]] = {}
    for record in records:
        if "failure" in record:
            found.setdefault((record["generation"], record["failure"]), []).append(record)
    return [
        f"{counted(len(ended), 'arm')} ended at generation {t} as the model raised {why}" + _blame(ended)
        for (t, why), ended in sorted(found.items(), key=lambda each: each[0])
    ]


def _blame(ended: Iterable[Record]) -> str:
    if all(record["ratio"] != 0 for record in ended):
        return ""
    return "; it was so with real rows alone too, so that this tells of the model and not of the loop"
