"""docs/config.md says what the classes say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from palate.config.docs import TOPICS, config_page, type_words
from palate.config.run import STAGES


def test_the_page_is_current(repository: Path) -> None:
    assert (repository / "docs" / "config.md").read_text(encoding="utf-8") == config_page(), (
        "docs/config.md is out of date: run `make docs`"
    )


def test_every_key_of_every_stage_is_on_the_page() -> None:
    told = {key for _, topic in TOPICS for key in topic.model_fields} | {"stage", "learning_rate"}
    for config_class in STAGES.values():
        assert set(config_class.model_fields) <= told


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "whole number"),
        (float | None, "number"),
        (Annotated[int, Field(ge=1, lt=9)], "whole number ≥ 1, < 9"),
        (Literal["a", "b"] | None, "`a`, `b`"),
        (str | list[str] | dict[str, float], "text or list or mapping"),
        (int | Literal["auto"], "whole number or `auto`"),
    ],
)
def test_types_are_put_in_words(annotation: Any, words: str) -> None:
    assert type_words(annotation) == words
