"""selfloop: self-consuming training of generative models, run and judged."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "Arm",
    "ConfigError",
    "DataError",
    "Experiment",
    "Frozen",
    "Generation",
    "Judgement",
    "Run",
    "RunError",
    "Samples",
    "SelfloopError",
    "StorageFull",
    "Streams",
    "advise",
    "compare",
    "forecast",
    "judge",
    "recipes",
    "run",
    "stability",
]

if TYPE_CHECKING:
    from selfloop.advisor import advise
    from selfloop.analysis.comparison import compare
    from selfloop.analysis.forecast import forecast
    from selfloop.analysis.judgement import Judgement
    from selfloop.analysis.stability import stability
    from selfloop.arms import Arm
    from selfloop.core.config import Frozen
    from selfloop.core.errors import ConfigError, DataError, RunError, SelfloopError, StorageFull
    from selfloop.core.recipes import recipes
    from selfloop.core.samples import Samples
    from selfloop.core.streams import Streams
    from selfloop.experiment import Experiment
    from selfloop.outside.judging import judge
    from selfloop.runner import Generation, run
    from selfloop.store.run import Run
else:  # unseen by type checkers: to them a module with __getattr__ has every name, also a mistyped one
    # torch takes seconds to import: what needs it is imported when it is first asked for.
    _HOMES = {
        "Arm": "arms",
        "ConfigError": "core.errors",
        "DataError": "core.errors",
        "Experiment": "experiment",
        "Frozen": "core.config",
        "Generation": "runner",
        "Judgement": "analysis.judgement",
        "Run": "store.run",
        "RunError": "core.errors",
        "Samples": "core.samples",
        "SelfloopError": "core.errors",
        "StorageFull": "core.errors",
        "Streams": "core.streams",
        "judge": "outside.judging",
        "compare": "analysis.comparison",
        "forecast": "analysis.forecast",
        "advise": "advisor",
        "recipes": "core.recipes",
        "run": "runner",
        "stability": "analysis.stability",
    }

    def __getattr__(name: str) -> Any:
        """Import one of the names above, or a module of the package, when it is first asked for (PEP 562).

        Raises:
            AttributeError: there is none of that name.
        """
        from importlib import import_module
        from pkgutil import iter_modules

        if name in _HOMES:
            found = globals()[name] = getattr(import_module(f"selfloop.{_HOMES[name]}"), name)
            return found
        if not name.startswith("_") and name in {module.name for module in iter_modules(__path__)}:
            return import_module(f"selfloop.{name}")
        raise AttributeError(f"module 'selfloop' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
