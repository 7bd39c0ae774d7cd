"""From a template to one self-contained HTML file: autoescaped, no script, nothing loaded from anywhere."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from palate.charts import stylesheet
from palate.charts.text import number, percent, visible

_SECRET = re.compile(r"(?:^|[_.-])(?:api_?key|token|secret|password|passwd|authorization)$", re.IGNORECASE)


def render(template: str, **values: Any) -> str:
    """The page of a template in `report/templates`; its content security policy allows the inlined style sheet only."""
    style = stylesheet() + own_style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    page = _environment().get_template(template)
    # The style sheet is our own file, with no input in it.
    return page.render(framed=True, style=Markup(style), policy=policy, **values)  # noqa: S704


def fragment(template: str, **values: Any) -> Markup:
    """The content of the same page without its frame, for another page that has the style sheet."""
    return Markup(_environment().get_template(template).render(framed=False, **values))  # noqa: S704 - autoescaped


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("palate.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda item: item if isinstance(item, Markup) else visible(item),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "percent": percent, "value": value}
    return environment


@cache
def own_style() -> str:
    """The style sheet of reports, without that of the charts."""
    return resources.files("palate.report").joinpath("templates/style.css").read_text(encoding="utf-8")


def value(item: object) -> str:
    """A JSON value as text: numbers rounded, lists joined, an en dash for nothing."""
    if item is None or item == "":
        return "–"
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, int | float):
        return number(float(item), 5)
    if isinstance(item, list | tuple):
        return ", ".join(map(value, item)) or "–"
    if isinstance(item, dict):
        return ", ".join(f"{visible(key).replace('_', ' ')} {value(entry)}" for key, entry in item.items()) or "–"
    return visible(item)


def redacted(item: Any) -> Any:
    """The same JSON value with the texts of keys that name a secret hidden, at any depth; numbers stay."""
    if isinstance(item, Mapping):
        secret = {key for key, entry in item.items() if _SECRET.search(str(key)) and not isinstance(entry, int | float)}
        return {key: "(hidden)" if entry and key in secret else redacted(entry) for key, entry in item.items()}
    return [redacted(entry) for entry in item] if isinstance(item, list | tuple) else item
