"""What the pages of the experiments on a real model share: answers side by side, and numbers as figures take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from _markdown import markdown

from palate.evaluation.answers.table import INDEX, PROMPT, REFERENCE


def runs_of(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Name → cell of every preference run of a result."""
    return {cell["name"]: cell for cell in result["cells"] if "trained" in cell["record"]}


def record_of(result: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The record of one cell."""
    found: Mapping[str, Any] = next(cell["record"] for cell in result["cells"] if cell["name"] == name)
    return found


def side_by_side(
    prompts: Sequence[str],
    columns: Mapping[str, Sequence[Mapping[str, Any]]],
    reference: Sequence[Mapping[str, Any]],
) -> str:
    """A row for each prompt, as `palate compare` has them: a column for each run, and the reference's last."""
    header = [INDEX, PROMPT, *(f"{name} Model Output" for name in columns), REFERENCE]
    rows = [
        [index, prompt, *(answers[index]["text"] for answers in columns.values()), reference[index]["text"]]
        for index, prompt in enumerate(prompts)
    ]
    return markdown(header, rows, text_columns=len(header))


def ends(interval: Mapping[str, float]) -> tuple[float, float, float]:
    """Estimate, lower and upper end."""
    return interval["estimate"], interval["low"], interval["high"]


def points(difference: Mapping[str, float]) -> str:
    """A difference of two shares in percentage points."""
    estimate, low, high = (100 * value for value in ends(difference))
    return f"{estimate:+.1f} ({low:+.1f} to {high:+.1f})"
