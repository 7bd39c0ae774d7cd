"""Inspection of a dataset before training: `inspect_dataset(…)` → `Inspection`, as text and JSON.

`palate.report.pages.inspection` makes the HTML page.
"""

from palate.data.inspect.inspection import Inspection, Problem, ProblemRow, Spread, TokenLengths
from palate.data.inspect.run import inspect_dataset
from palate.data.inspect.text import as_text

__all__ = ["Inspection", "Problem", "ProblemRow", "Spread", "TokenLengths", "as_text", "inspect_dataset"]
