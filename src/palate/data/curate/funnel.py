"""Rows left after each rule, as a table and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from palate.charts import Row, bar_chart, svg_file


@dataclass(frozen=True, slots=True)
class Step:
    """The effect of one rule.

    Attributes:
        rule: name of the rule; `read` for rows that cannot be read.
        settings: its thresholds as text.
        before, left_out: rows before the rule and rows that it left out.
        not_judged: rows kept because the rule does not support their language.
        languages: ISO 639-1 codes of the supported languages; empty if the rule does not depend on language.
    """

    rule: str
    settings: str
    before: int
    left_out: int
    not_judged: int = 0
    languages: tuple[str, ...] = ()

    @property
    def after(self) -> int:
        """Number of rows that remain after the rule."""
        return self.before - self.left_out


def funnel_table(steps: Sequence[Step]) -> str:
    """The funnel for the terminal."""
    width = max((len(step.rule) for step in steps), default=4) + 2
    lines = [f"{'rule':<{width}}{'left out':>10}{'left':>10}{'':4}settings"]
    for step in steps:
        share = f"{step.left_out / step.before:.1%}" if step.before else ""
        lines.append(f"{step.rule:<{width}}{step.left_out:>10,}{step.after:>10,}  {share:>6}  {step.settings}".rstrip())
    for step in steps:
        if step.not_judged:
            known = ", ".join(step.languages)
            lines.append(f"{step.rule}: not judged, because the answers are not in {known}: {step.not_judged:,}")
    return "\n".join(lines) + "\n"


def funnel_figure(steps: Sequence[Step], title: str) -> str:
    """The funnel as an SVG file: a bar for the rows left after each rule."""
    start = max((step.before for step in steps), default=0)
    rows = [Row("read from the files", start, text=f"{start:,}")]
    for step in steps:
        lost = f"  (−{step.left_out:,})" if step.left_out else ""
        rows.append(Row(step.rule, step.after, text=f"{step.after:,}{lost}"))
    return svg_file(bar_chart("funnel", title, rows))
