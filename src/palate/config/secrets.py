"""Refuses secrets in a config, which is copied into every run directory and model card."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from palate.config.reader import ConfigEntry

# Names of secret settings; `max_tokens_per_batch` is not one.
SECRET_NAME = re.compile(
    r"(?:^|_)(?:api_?key|secret|password|passwd|token|hub_token|access_token|auth_token|credentials?)$", re.IGNORECASE
)
SECRET_VALUE = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|xox[abprs]-[A-Za-z0-9-]{10,}|AKIA[A-Z0-9]{16})\b"
    r"|://[^/\s:@]+:[^/\s:@]+@"
)
VARIABLE = {"wandb": "WANDB_API_KEY", "hf": "HF_TOKEN", "hub": "HF_TOKEN", "openai": "OPENAI_API_KEY"}


def find_secrets(entries: Mapping[str, ConfigEntry]) -> list[str]:
    """A line for each key whose name or value looks like a secret; no line shows the value."""
    found: list[str] = []
    for key, entry in entries.items():
        for path, value in _strings(key, entry.value):
            if SECRET_NAME.search(path.rsplit(".", 1)[-1]) or SECRET_VALUE.search(value):
                variable = next((name for word, name in VARIABLE.items() if word in path.lower()), None)
                remedy = f"set the environment variable {variable}" if variable else "use an environment variable"
                found.append(
                    f"{entry.where}: {path} holds a secret, and a config is copied into every run directory; "
                    f"remove it here and {remedy} instead"
                )
    return found


def _strings(path: str, value: Any) -> list[tuple[str, str]]:
    """Every non-empty text in a value, with its dotted path."""
    if isinstance(value, str):
        return [(path, value)] if value.strip() else []
    if isinstance(value, Mapping):
        return [found for key, inner in value.items() for found in _strings(f"{path}.{key}", inner)]
    if isinstance(value, list):
        return [found for inner in value for found in _strings(path, inner)]
    return []
