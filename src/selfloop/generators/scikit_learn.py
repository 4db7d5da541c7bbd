"""Which estimators of scikit-learn can sample, and which settings of theirs cannot be meant."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from selfloop.core.errors import nearest
from selfloop.generators.factories import refuse_seeds, signature
from selfloop.generators.tabular import TABULAR

SKLEARN = {
    "GaussianMixture": "sklearn.mixture",
    "BayesianGaussianMixture": "sklearn.mixture",
    "KernelDensity": "sklearn.neighbors",
}
"""The estimators of scikit-learn that can sample, and where they are."""


def found(estimator: str) -> Callable[..., Any]:
    """Return one of them by its name."""
    factory: Callable[..., Any] = getattr(importlib.import_module(SKLEARN[estimator]), estimator)
    return factory


def check(estimator: str, arguments: dict[str, Any], has: tuple[str, ...]) -> None:
    """Refuse what cannot be meant before anything is fitted.

    Raises:
        ValueError: there is no such estimator, or it cannot be made with these arguments or cannot sample then.
    """
    if estimator not in SKLEARN:
        near = nearest(estimator, [*SKLEARN, *TABULAR])
        own = "; one of your own is module:name, of a file that --import names" if near.startswith(":") else ""
        raise ValueError(f"no estimator is called {estimator!r}{near}{own}")
    refuse_seeds(arguments)
    factory = found(estimator)
    known = list(signature(factory))
    if unknown := [name for name in arguments if name not in known]:
        raise ValueError(f"{estimator} has no argument {unknown[0]!r}{nearest(unknown[0], known)}")
    factory(**arguments)._validate_params()
    if estimator == "KernelDensity" and arguments.get("kernel", "gaussian") not in ("gaussian", "tophat"):
        raise ValueError(f"KernelDensity cannot sample from kernel {arguments['kernel']!r}: use gaussian or tophat")
    if has != ("density",):
        raise ValueError(f"{estimator} offers a density, and nothing else: leave has out")
