"""The manual has every key of serve.yaml, with its default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from palate.serving.settings import RouteFields, ServedModelFields, ServeFields

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serve.md"


@pytest.mark.parametrize("fields", [ServeFields, ServedModelFields, RouteFields])
def test_every_key_is_in_the_manual_with_its_default(fields: type[ServeFields]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, field in fields.model_fields.items():
        row = re.search(rf"^\| `{name}` \| ([^|]*) \|", text, re.MULTILINE)
        if row is None:
            assert f"`{name}`" in text, name
        elif isinstance(field.default, bool | int | float | str):
            shown = (
                str(field.default).lower() if isinstance(field.default, bool) else f"{field.default}".removesuffix(".0")
            )
            assert row[1] == shown, name
