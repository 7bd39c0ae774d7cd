"""Reports: one HTML file for each run or comparison, with inline SVG, no script, and nothing loaded.

Reports are made from the files of a run directory alone, so they can be made later and on another machine.

    pages/        one module for each page
    judgements/   whether a run went well
    contents.py   reads a run directory
    curves.py     the charts of a run's metrics
    key_figures.py, health_metrics.py, intervals.py, tables.py   what the pages show besides charts
    html.py       from a template to a file
"""

from __future__ import annotations

from palate.report.contents import RunContents, read_contents
from palate.report.pages.compare import compare_runs, write_compare_report
from palate.report.pages.run import write_run_report

__all__ = ["RunContents", "compare_runs", "read_contents", "write_compare_report", "write_run_report"]
