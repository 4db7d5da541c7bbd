"""The loops that the studies of forecasts and alarms look at: real runs of this program, and where they are.

``python -m studies.loops OUT [NAME…]`` runs those named, else all, in this order, each into OUT/NAME; what is there
already is gone on with, and a finished one is left alone. All together take about forty minutes of one core.

Every loop has, with the same seeds, a control (λ = 0), one fully synthetic regime or several, real rows beside the
newest samples (λ below and above 1), and, where nothing forbids it, accumulated samples and fresh real rows. Toys,
digits and tables; models that forget modes, that add noise and that do neither; closed forms and networks.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfloop import Experiment, run

CONTROL = {"name": "augment", "lam": 0.0}
REPLACE = {"name": "replace"}
ACCUMULATE = {"name": "accumulate"}
FRESH = {"name": "fresh"}
SAMPLED = (
    *("w2_held_out", "w1_held_out", "frechet_held_out", "variance_ratio", "covariance_error", "mean_error"),
    *("sliced_w2_train", "frechet_train", "mmd_rbf_train", "neighbour_entropy", "vendi_ratio"),
    *("precision_train", "recall_train", "density_train", "coverage_train"),
)
"""Recorded of every loop: what is judged by, and whatever may speak early."""


def augment(lam: float) -> dict[str, Any]:
    """Return real rows and λ synthetic ones to each."""
    return {"name": "augment", "lam": lam}


def biased(temperature: float) -> dict[str, Any]:
    """Return the newest samples alone, drawn at a temperature: below 1 onto the modes, above it into noise."""
    return {"name": "biased", "temperature": temperature, "lam": float("inf")}


USUAL = (CONTROL, REPLACE, augment(0.5), augment(2.0), ACCUMULATE, FRESH)
NO_FRESH = (CONTROL, REPLACE, augment(0.5), augment(2.0), ACCUMULATE)  # of tables with too few rows to set aside
OF_NETWORKS = (CONTROL, REPLACE, augment(0.5), ACCUMULATE, FRESH)


@dataclass(frozen=True, kw_only=True)
class Loop:
    """One experiment.

    Attributes:
        name: of its folder.
        kind: what its data are.
        data: and
        generator: as an experiment names them.
        settings: what else it needs.
        mixing: its regimes.
        generations: retrainings.
        seeds: repetitions of every regime.
        more: metrics besides those of all loops.
    """

    name: str
    kind: str
    data: Mapping[str, Any]
    generator: Mapping[str, Any]
    settings: Mapping[str, Any]
    mixing: Sequence[Mapping[str, Any]] = USUAL
    generations: int = 40
    seeds: int = 24
    more: Sequence[str] = ()

    @property
    def experiment(self) -> Experiment:
        """Return it, checked."""
        return Experiment.build(
            {
                "name": self.name,
                "data": dict(self.data),
                "generator": dict(self.generator),
                "generations": self.generations,
                "seeds": self.seeds,
                "grid": {"mixing": [dict(regime) for regime in self.mixing]},
                "metrics": [*SAMPLED, *self.more],
                **self.settings,
            }
        )


def closed(name: str, kind: str, data: Mapping[str, Any], generator: Mapping[str, Any], **other: Any) -> Loop:
    """Return a loop of a model that is fitted without gradient steps."""
    return Loop(name=name, kind=kind, data=data, generator=generator, settings={}, **other)


def trained(
    name: str,
    kind: str,
    data: Mapping[str, Any],
    generator: Mapping[str, Any],
    first: int,
    then: int,
    mixing: Sequence[Mapping[str, Any]] = OF_NETWORKS,
) -> Loop:
    """Return a loop of a network: epochs of generation 0, and of those after it."""
    budget = {"pretrain": {"epochs": first}, "budget": {"epochs": then}}
    return Loop(name=name, kind=kind, data=data, generator=generator, settings=budget, mixing=mixing, generations=30)


def toy(name: str, n: int = 100, **other: Any) -> dict[str, Any]:
    """Return a toy with as many rows held out as it trains on."""
    return {"name": name, "n": n, "held_out": n, **other}


def table(name: str, n: int = 120) -> dict[str, Any]:
    """Return real rows, and as many held out."""
    return {"name": name, "n": n, "held_out": n}


LOOPS = (
    closed("gaussian-50", "toy", toy("gaussian", 50), {"name": "gaussian"}, generations=50),
    closed("exponential", "toy", toy("exponential"), {"name": "exponential"}),
    closed(
        "gaussian-biased",
        "toy",
        toy("gaussian"),
        {"name": "gaussian"},
        mixing=(CONTROL, biased(0.9), biased(1.1), ACCUMULATE, FRESH),
    ),
    closed(
        "categories",
        "toy",
        toy("categorical", probabilities=[0.05] * 20),
        {"name": "categorical"},
        more=("heterozygosity_ratio", "categories_kept"),
    ),
    closed(
        "regression",
        "table",
        toy("linear_regression", coefficients=[1.0, -1.0, 0.5, 0.0]),
        {"name": "linear_regression"},
        more=("prediction_error_held_out", "coefficient_error"),
    ),
    closed("gaussian-100", "toy", toy("gaussian", dim=5), {"name": "gaussian"}),
    closed("kde-moons", "toy", toy("two_moons"), {"name": "kernel_density", "bandwidth": 0.15}),
    closed("kde-rings", "toy", toy("rings"), {"name": "kernel_density", "bandwidth": 0.05}),
    closed(
        "mixture-eight",
        "toy",
        toy("eight_gaussians", std=0.1),
        {"name": "mixture", "components": 8},
        more=("mode_coverage", "mode_quality"),
    ),
    closed("mixture-pinwheel", "toy", toy("pinwheel", 80), {"name": "mixture", "components": 5}),
    closed("cancer-gaussian", "table", table("breast_cancer"), {"name": "gaussian"}, mixing=NO_FRESH),
    closed("diabetes-gaussian", "table", table("diabetes"), {"name": "gaussian"}, mixing=NO_FRESH),
    closed(
        "diabetes-regression",
        "table",
        table("diabetes"),
        {"name": "linear_regression"},
        mixing=NO_FRESH,
        more=("prediction_error_held_out",),
    ),
    closed("digits-gaussian", "digits", table("digits"), {"name": "gaussian"}, mixing=NO_FRESH, generations=30),
    closed(
        "digits-kde",
        "digits",
        table("digits"),
        {"name": "kernel_density", "bandwidth": 0.1},
        mixing=NO_FRESH,
        generations=30,
    ),
    closed(
        "digits-mixture",
        "digits",
        table("digits"),
        {"name": "mixture", "components": 10, "floor": 1e-2},
        mixing=NO_FRESH,
        generations=30,
    ),
    trained("vae-pinwheel", "toy", toy("pinwheel"), {"name": "vae", "width": 32, "batch_size": 50}, 200, 20),
    trained("otcfm-moons", "toy", toy("two_moons"), {"name": "otcfm", "batch_size": 50}, 200, 20),
    trained(
        "otcfm-digits",
        "digits",
        table("digits"),
        {"name": "otcfm", "width": 96, "batch_size": 60},
        200,
        10,
        mixing=OF_NETWORKS[:4],
    ),
    trained(
        "ddpm-eight",
        "toy",
        toy("eight_gaussians"),
        {"name": "ddpm", "width": 64, "batch_size": 50},
        300,
        20,
        mixing=OF_NETWORKS[:4],
    ),
)
"""Closed forms first, networks last."""


def main() -> None:
    """Run the loops, and say which are done."""
    parser = argparse.ArgumentParser(prog="python -m studies.loops", description=__doc__.split("\n\n")[0])
    parser.add_argument("out", type=Path, help="a folder, made if it is not there")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(loop.name for loop in LOOPS)}")
    given = parser.parse_args()
    by_name = {loop.name: loop for loop in LOOPS}
    if unknown := [name for name in given.names if name not in by_name]:
        parser.error(f"no loop is called {unknown[0]}: there are {', '.join(by_name)}")
    for loop in [by_name[name] for name in given.names] or LOOPS:
        start = time.perf_counter()
        for _ in run(loop.experiment, given.out / loop.name):
            pass
        print(f"{loop.name}: {loop.generations} generations in {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
