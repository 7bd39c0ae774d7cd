"""A plan file says what the options say, and a mistake in it is one line that names the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.data.augment import Plan, read_plan
from palate.errors import ConfigError


def test_a_plan_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(
        "kinds: {dropped_end: 0.1, sampled: 5}\nmax_share: 0.2\nmax_of_kind: 0.5\nprinciples: [Be brief.]\n"
    )
    expected = Plan({"dropped_end": 0.1, "sampled": 5}, max_share=0.2, max_of_kind=0.5, principles=("Be brief.",))
    assert read_plan(path) == expected


def test_a_plan_file_is_read_by_the_rules_of_configs(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text("kinds: {dropped_end: 1e-1}\nprinciples: [no, On, 2026-11-30]\n")
    plan = read_plan(path)
    assert plan.kinds == {"dropped_end": 0.1}
    assert plan.principles == ("no", "On", "2026-11-30")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must have kinds:"),
        ("kinds: {a: 1}\nshare: 2\n", "unknown key 'share'; known are kinds, max_share, max_of_kind, seed"),
        ("kinds: {dropped_end: lots}\n", r"kinds.dropped_end: Input should be a valid number"),
        ("kinds: {dropped_end: 1}\nby: luck\n", "by: Input should be 'best_worst' or 'margin'"),
        ("kinds: [\n", r":2: expected the node content"),
        ("kinds: {dropped_end: 1}\nseed: 1\nseed: 2\n", r":3: seed is given twice, first on line 2"),
        ("kinds: {dropped_end: 1, dropped_end: 2}\n", r":1: dropped_end is given twice"),
        ("kinds: {dropped_end: 010}\nseed: 1:30\n", "seed: Input should be a valid integer"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as caught:
        read_plan(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="there is no such file"):
        read_plan(tmp_path / "none.yaml")
