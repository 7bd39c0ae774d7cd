"""What clients are told."""

from __future__ import annotations

from palate.serving.problems import invalid


def test_a_message_is_one_line_whatever_it_quotes() -> None:
    assert invalid("a\nb\x1b[0m ü: not supported", "a\nb").message == r"a\nb\x1b[0m ü: not supported"
