"""Markdown of models: what it becomes, and that no payload becomes more than text."""

from __future__ import annotations

import time
from html import unescape

import pytest

from palate.web.markdown import LONGEST_MARKDOWN, to_html
from payloads import PAYLOADS
from sites import Structure

TAGS = {
    "a", "blockquote", "br", "code", "del", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p",
    "pre", "s", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
ATTRIBUTES = {"class", "dir", "href", "rel", "start", "tabindex", "target", "title"}
LINK = 'target="_blank" rel="nofollow noopener noreferrer"'


def inside(text: str) -> str:
    """The HTML of a text without the element around it."""
    found = str(to_html(text))
    start, end = '<div class="text markdown" dir="auto">', "</div>"
    assert found.startswith(start)
    assert found.endswith(end)
    return found[len(start) : -len(end)].strip()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**a** _b_ ~~c~~ `d`", '<p dir="auto"><strong>a</strong> <em>b</em> <s>c</s> <code>d</code></p>'),
        ("one\ntwo", '<p dir="auto">one<br>\ntwo</p>'),
        ("# t", '<h1 dir="auto">t</h1>'),
        ("[x](https://e.org/a?b=1&c=2)", f'<p dir="auto"><a href="https://e.org/a?b=1&amp;c=2" {LINK}>x</a></p>'),
        ("<https://e.org>", f'<p dir="auto"><a href="https://e.org" {LINK}>https://e.org</a></p>'),
        ("[x](mailto:a@e.org)", f'<p dir="auto"><a href="mailto:a@e.org" {LINK}>x</a></p>'),
        ("[x](/account)", '<p dir="auto">[x](/account)</p>'),
        ("![cat](https://e.org/c.png)", '<p dir="auto"><span class="image">[image: cat, https://e.org/c.png]</span></p>'),
        ("<b>x</b>", '<p dir="auto">&lt;b&gt;x&lt;/b&gt;</p>'),
        ("5. a\n6. b", '<ol start="5">\n<li dir="auto">a</li>\n<li dir="auto">b</li>\n</ol>'),
        ("    code <x>", '<pre dir="ltr"><code>code &lt;x&gt;\n</code></pre>'),
        ("", ""),
    ],
)  # fmt: skip
def test_markdown(text: str, expected: str) -> None:
    assert inside(text) == expected


def test_cells_are_aligned_by_classes() -> None:
    found = inside("| a | b |\n|--:|:-:|\n| 1 | 2 |")
    assert '<td class="right" dir="auto">1</td>' in found or '<td dir="auto" class="right">1</td>' in found
    assert "style" not in found
    assert found.startswith('<div class="scroll" tabindex="0"><table>')  # a wide one can be scrolled by keyboard
    assert found.endswith("</table></div>")


def test_code_has_classes_and_keeps_every_character() -> None:
    code = "def f(x):\n\n    return '<b>' + x  # no\n"
    found = inside(f"```python\n{code}```")
    assert '<span class="k">def</span>' in found
    assert '<span class="nf">f</span>' in found
    assert unescape(Structure(found).text) == code
    assert Structure(inside("```\n\nx\n```")).text == "\nx\n"


def test_a_language_that_nobody_knows_is_plain_code() -> None:
    assert inside("```klingon\nx < y\n```") == '<pre dir="ltr"><code>x &lt; y\n</code></pre>'


def test_characters_that_cannot_be_seen_are_shown() -> None:
    found = str(to_html("a\u202eb\x00c\u200bd\x1b[31m"))
    assert "a⟦U+202E⟧b⟦U+0000⟧c⟦U+200B⟧d⟦U+001B⟧[31m" in found


def test_blocks_have_the_direction_of_their_text() -> None:
    found = inside("שלום\n\nhello\n\n> עולם")
    assert found.count('dir="auto"') == 4  # three paragraphs and the quotation


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_payloads_stay_text(payload: str) -> None:
    page = Structure(str(to_html(payload)))
    assert {tag for tag, _ in page.tags} <= TAGS
    for tag, name, value in page.attributes:
        assert name in ATTRIBUTES, (tag, name)
        if name == "href":
            assert value.startswith(("https://", "http://", "mailto:")), value
        if tag == "a" and name == "target":
            assert value == "_blank"
    assert all("rel" in names for tag, names in page.tags if tag == "a")


def test_there_are_at_least_fifty_kinds() -> None:
    assert len(set(PAYLOADS)) == len(PAYLOADS) >= 50


def test_a_very_long_text_is_complete_and_not_parsed() -> None:
    text = "<script>*a*\n" * (LONGEST_MARKDOWN // 10)
    found = str(to_html(text))
    assert found.startswith('<div class="text plain" dir="auto">&lt;script&gt;*a*')
    assert Structure(found).text == text


def test_a_text_of_brackets_is_not_parsed() -> None:
    assert "plain" in str(to_html("[" * 10_001 + "*a*"))[:40]
    assert inside("*a* " + "[" * 10_000).startswith('<p dir="auto"><em>a</em>')


# Texts that make some parsers of Markdown take quadratic time or nest without end.
@pytest.mark.parametrize(
    "part", ["[", "![", "*a ", "**a", "> ", "`", "<", "- ", "[a](", "~~a", "|a", "&#", "\\", "[a][", "_a_ ", "1. "]
)
def test_hostile_texts_take_seconds_at_most(part: str) -> None:
    text = (part * LONGEST_MARKDOWN)[:LONGEST_MARKDOWN]
    start = time.process_time()
    to_html.__wrapped__(text)
    assert time.process_time() - start < 5
