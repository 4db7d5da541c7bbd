"""Reports: verdicts, the paper's figures, and one page that shows a run to people."""

from selfloop.analysis.curves import Curves, Setting, read
from selfloop.analysis.verdict import RULE, Verdict
from selfloop.report.page import write_report

__all__ = ["RULE", "Curves", "Setting", "Verdict", "read", "write_report"]
