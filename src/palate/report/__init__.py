"""Reports: one HTML file per run or comparison, inline SVG, no script, nothing fetched.

Everything is read from artifacts, so a report can be made long after a run, on another machine, by anyone who has the
directory.
"""

from __future__ import annotations

from palate.report.compare import compare_runs, write_compare_report
from palate.report.contents import RunContents, read_contents
from palate.report.run import write_run_report

__all__ = ["RunContents", "compare_runs", "read_contents", "write_compare_report", "write_run_report"]
