"""Know what you train on before you train: `inspect_dataset(…)` → `Inspection`, as text, JSON and one HTML page."""

from palate.data.inspect.inspection import Inspection, Problem, Sample, Spread, TokenLengths
from palate.data.inspect.look import inspect_dataset
from palate.data.inspect.page import as_page
from palate.data.inspect.summary import as_text

__all__ = [
    "Inspection",
    "Problem",
    "Sample",
    "Spread",
    "TokenLengths",
    "as_page",
    "as_text",
    "inspect_dataset",
]
