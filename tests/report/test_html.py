"""Values in reports."""

from __future__ import annotations

from palate.report.html import redacted


def test_secrets_are_hidden_and_counts_of_tokens_are_not() -> None:
    shown = {"kl_per_token": 0.04, "hub_token": "abc", "api_key": ["a"], "token": None, "deep": [{"password": "x"}]}
    assert redacted(shown) == {
        "kl_per_token": 0.04, "hub_token": "(hidden)", "api_key": "(hidden)", "token": None,
        "deep": [{"password": "(hidden)"}],
    }  # fmt: skip
