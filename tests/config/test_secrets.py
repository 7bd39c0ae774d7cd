"""A config with a literal secret is refused, and the message does not repeat it."""

from __future__ import annotations

import re

import pytest

from palate.config.reader import ConfigEntry
from palate.config.secrets import find_secrets

CANARY = "CANARY-123"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hf_hub_token", CANARY),
        ("wandb_api_key", CANARY),
        ("api_key", CANARY),
        ("swanlab_lark_secret", CANARY),
        ("password", CANARY),
        ("token", CANARY),
        ("deepspeed", {"tracker": {"api_key": CANARY}}),
        ("dataset", ["a", f"https://user:{CANARY}@host/data.json"]),
        ("model_name_or_path", "hf_" + "CANARY123" * 4),
        ("run_name", "sk-" + CANARY * 3),
    ],
)
def test_a_secret_is_refused_without_being_shown(key: str, value: object) -> None:
    (line,) = find_secrets({key: ConfigEntry(value, "run.yaml:3")})
    assert re.match(r"run\.yaml:3: .* holds a secret.*environment variable", line)
    assert "CANARY" not in line


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_tokens_per_batch", 4096),
        ("sample_max_new_tokens", 128),
        ("hub_token", None),
        ("api_key", ""),
        ("dataset", "https://host/data.json"),
        ("model_name_or_path", "sk-learn/model"),
        ("run_name", "token-study"),
    ],
)
def test_what_is_no_secret_passes(key: str, value: object) -> None:
    assert find_secrets({key: ConfigEntry(value, "run.yaml:3")}) == []


def test_the_right_variable_is_named() -> None:
    first, second = find_secrets(
        {"wandb_api_key": ConfigEntry(CANARY, "run.yaml:1"), "hf_hub_token": ConfigEntry(CANARY, "run.yaml:2")}
    )
    assert "WANDB_API_KEY" in first
    assert "HF_TOKEN" in second
