"""Text of models and people as safe HTML: no HTML of theirs, no images, links only to other sites by http(s) and mail.

Two layers that do not rely on each other: markdown-it with `html` off, and nh3's allow-list over its output. The
content security policy is the third.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from functools import cache, lru_cache
from html import escape
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import Markup
from pygments import highlight
from pygments.formatters.html import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.token import STANDARD_TYPES
from pygments.util import ClassNotFound

from palate.charts.text import visible

LONGEST_MARKDOWN = 60_000
"""Characters; a longer text is shown as it is, since some texts take quadratic time to parse."""
_MOST_BRACKETS = 10_000
"""Opening brackets take quadratic time: 4 s for 30,000."""
_LONGEST_CODE = 20_000
_DEEPEST = 20

_SCHEMES = frozenset({"http", "https", "mailto"})
_BLOCKS = frozenset({"paragraph_open", "heading_open", "list_item_open", "td_open", "th_open", "blockquote_open"})
_TAGS = {
    "a", "blockquote", "br", "code", "del", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p",
    "pre", "s", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_ALIGNED = {"text-align:left": "left", "text-align:center": "center", "text-align:right": "right"}


@lru_cache(maxsize=512)
def to_html(text: str) -> Markup:
    """Markdown as safe HTML, in one element; invisible and direction-changing characters are shown by their code.

    Each block has the direction of its own text. A text that is too long to parse is shown as it is.
    """
    shown = visible(text)
    if len(shown) > LONGEST_MARKDOWN or shown.count("[") > _MOST_BRACKETS:
        return Markup(f'<div class="text plain" dir="auto">{escape(shown)}</div>')  # noqa: S704 - escaped
    cleaned = _cleaner().clean(_parser().render(shown))
    return Markup(f'<div class="text markdown" dir="auto">{cleaned}</div>')  # noqa: S704 - nh3 has cleaned it


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt(
        "commonmark", {"html": False, "breaks": True, "highlight": _highlighted, "maxNesting": _DEEPEST}
    ).enable(["table", "strikethrough"])
    parser.validateLink = _is_link_elsewhere  # type: ignore[method-assign]
    parser.add_render_rule("image", _image_as_text)
    # A wide table is scrolled by itself; by keyboard only if it can have the focus.
    parser.add_render_rule("table_open", lambda *_: '<div class="scroll" tabindex="0"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    parser.core.ruler.push("palate_blocks", _mark_blocks)
    return parser


@cache
def _cleaner() -> nh3.Cleaner:
    classes = {name for name in STANDARD_TYPES.values() if name}
    return nh3.Cleaner(
        tags=_TAGS,
        clean_content_tags={"script", "style"},
        attributes={"*": {"dir"}, "a": {"href", "title"}, "ol": {"start"}},
        allowed_classes={
            "div": {"scroll"},
            "span": {*classes, "image"},
            "td": {*_ALIGNED.values()},
            "th": {*_ALIGNED.values()},
        },
        url_schemes=set(_SCHEMES),
        url_relative="deny",
        link_rel="nofollow noopener noreferrer",
        set_tag_attribute_values={"a": {"target": "_blank"}, "pre": {"dir": "ltr"}, "div": {"tabindex": "0"}},
    )


def _is_link_elsewhere(url: str) -> bool:
    scheme, separator, _ = url.strip().partition(":")
    return bool(separator) and scheme.lower() in _SCHEMES


def _image_as_text(
    _renderer: Any, tokens: Sequence[Token], index: int, _options: OptionsDict, _env: MutableMapping[str, Any]
) -> str:
    token = tokens[index]
    parts = (token.content, str(token.attrGet("src") or ""))
    return f'<span class="image">[image: {escape(", ".join(filter(None, parts)))}]</span>'


def _mark_blocks(state: Any) -> None:
    """Give each block the direction of its text, and cells a class in place of a style."""
    for token in state.tokens:
        if token.type in _BLOCKS:
            token.attrSet("dir", "auto")
        style = token.attrs.pop("style", None)
        if style in _ALIGNED:
            token.attrSet("class", _ALIGNED[style])


def _highlighted(code: str, language: str, _attributes: str) -> str:
    """The inside of a code block, with a class for each token; empty for a language that pygments does not know."""
    if not language or len(code) > _LONGEST_CODE:
        return ""
    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return ""
    found: str = highlight(code, lexer, HtmlFormatter(nowrap=True))
    return found
