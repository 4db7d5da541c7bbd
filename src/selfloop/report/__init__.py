"""Reports: verdicts, the paper's figures, and one page that shows a run to people."""

from selfloop.report.curves import Curves, Setting, read
from selfloop.report.page import write_report
from selfloop.report.verdict import RULE, Verdict

__all__ = ["RULE", "Curves", "Setting", "Verdict", "read", "write_report"]
