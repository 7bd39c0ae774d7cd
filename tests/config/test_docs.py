"""docs/config.md says what the classes say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from palate.artifacts.markdown import with_generated
from palate.config.docs import config_tables, topics, type_words
from palate.config.run import STAGES


def test_the_page_is_current(repository: Path) -> None:
    page = (repository / "docs" / "config.md").read_text(encoding="utf-8")
    assert with_generated(page, config_tables()) == page, "docs/config.md is out of date: run `make docs`"


def test_every_key_of_every_stage_is_on_the_page() -> None:
    page = config_tables()
    keys = {key for config_class in STAGES.values() for key in config_class.model_fields}
    for key in keys - {"stage", "learning_rate"}:
        assert f"\n| `{key}` | " in page


def test_every_topic_has_a_heading_and_a_sentence() -> None:
    for topic in topics():
        title, colon, text = (topic.__doc__ or "").partition(": ")
        assert colon
        assert text.endswith(".")
        assert len(title) < 50


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
