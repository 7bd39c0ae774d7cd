"""Markdown style of answers."""

from __future__ import annotations

import pytest

from palate.evaluation.winrate.style import style_counts, style_differences

STYLED = "# One\n\n- a\n- **b**\n1. c\n\n## Two\n```\n# no header\n- no item\n```\n"


def test_counts_are_those_outside_of_code() -> None:
    assert style_counts(STYLED) == (2, 3, 1)
    assert style_counts("a # b - c * d ** e") == (0, 0, 0)


def test_differences_are_normalised() -> None:
    assert style_differences(STYLED, "- one\n") == (1.0, pytest.approx(2 / 4), 1.0)
    assert style_differences("plain", "plain too") == (0.0, 0.0, 0.0)
