"""Rows left after each rule, as a table and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Step:
    """One rule of a run.

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
        """Rows that are kept."""
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
            lines.append(f"{step.rule}: {step.not_judged:,} rows are not judged: their answers are not in {known}")
    return "\n".join(lines) + "\n"


def funnel_figure(steps: Sequence[Step], title: str) -> str:
    """The funnel as SVG: a bar for the rows left after each rule."""
    start = max((step.before for step in steps), default=1) or 1
    rows = [("read from the files", start, 0), *((step.rule, step.after, step.left_out) for step in steps)]
    height = 46 + 30 * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 {height}" width="860" height="{height}" '
        'font-family="system-ui,sans-serif" font-size="14">',
        f'<rect width="860" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="26" font-size="17" font-weight="600" fill="#1c2330">{escape(title)}</text>',
    ]
    for number, (name, left, lost) in enumerate(rows):
        y = 44 + 30 * number
        bar = 470 * left / start
        middle = 200 + (470 - bar) / 2
        label = f"{left:,}" + (f"  (−{lost:,})" if lost else "")
        parts.append(
            f'<text x="16" y="{y + 16}" fill="#1c2330">{escape(name)}</text>'
            f'<rect x="{middle:.1f}" y="{y}" width="{max(bar, 1):.1f}" height="22" rx="2" fill="#3b6fd4"/>'
            f'<text x="684" y="{y + 16}" fill="#1c2330">{label}</text>'
        )
    return "".join([*parts, "</svg>\n"])
