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

from palate.report.scales import number

# What a reader cannot see or what reorders the text around it: shown, so that a model's output cannot disguise itself.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
)
_HARMLESS = {"\u200d", "\u200c"}  # joiners that emoji and Indic scripts need
_SECRET = re.compile(r"(?:^|[_.-])(?:api_?key|token|secret|password|passwd|authorization)$", re.IGNORECASE)


def render(template: str, **values: Any) -> str:
    """The page of a template in `report/templates`, with the style sheet inlined and allowed by its hash alone."""
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    page = _environment().get_template(template)
    return page.render(style=Markup(style), policy=policy, **values)  # noqa: S704 (our own file, no input in it)


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
    environment.filters |= {"number": number, "duration": duration, "size": size, "value": value}
    return environment


@cache
def _style() -> str:
    return resources.files("palate.report").joinpath("templates/style.css").read_text(encoding="utf-8")


def visible(text: object) -> str:
    """Text with control, zero-width and direction-changing characters shown as `⟦U+202E⟧`."""

    def show(match: re.Match[str]) -> str:
        return match[0] if match[0] in _HARMLESS else f"⟦U+{ord(match[0]):04X}⟧"

    return _INVISIBLE.sub(show, str(text).encode("utf-8", "replace").decode("utf-8"))


def value(item: object) -> str:
    """A plain value as people write it: numbers rounded, lists joined, nothing as an en dash."""
    if item is None or item == "":
        return "–"
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, int | float):
        return number(float(item), 5)
    if isinstance(item, list | tuple):
        return ", ".join(value(one) for one in item) or "–"
    if isinstance(item, dict):
        return ", ".join(f"{visible(key).replace('_', ' ')} {value(one)}" for key, one in item.items()) or "–"
    return visible(item)


def redacted(item: Any) -> Any:
    """The same JSON value with whatever stands under a key that names a secret hidden, at any depth."""
    if isinstance(item, Mapping):
        return {key: "(hidden)" if one and _SECRET.search(str(key)) else redacted(one) for key, one in item.items()}
    return [redacted(one) for one in item] if isinstance(item, list | tuple) else item


def duration(seconds: float | None) -> str:
    """`4.2 s`, `3 min 20 s`, `5 h 02 min`."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float | None) -> str:
    """Bytes as `812 MiB` or `7.5 GiB`."""
    if count is None:
        return "–"
    return f"{count / 2**20:,.0f} MiB" if count < 2**30 else f"{count / 2**30:.1f} GiB"
