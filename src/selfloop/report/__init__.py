"""Reports: verdicts, the paper's figures, and one page that shows a run to people."""

from typing import TYPE_CHECKING, Any

from selfloop.analysis.curves import Curves, Setting, read
from selfloop.analysis.verdict import RULE, Verdict

if TYPE_CHECKING:
    from selfloop.report.page import write_report

__all__ = ["RULE", "Curves", "Setting", "Verdict", "read", "write_report"]


def __getattr__(name: str) -> Any:
    """Import what draws when it is first asked for: it takes a second."""
    if name == "write_report":
        from selfloop.report.page import write_report

        return write_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
