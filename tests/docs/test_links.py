"""Every link of the manual leads to a page and a heading, in the checkout and on the site."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest

from doc_pages import DOCS, PAGES, REPOSITORY, anchors, blocks, commands, links

ROOT_PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]


def dead_links(page: Path, within: Path) -> list[str]:
    """Links of a page to files outside `within`, to files that are not there, or to headings that are not there."""
    dead = []
    for link in links(page):
        target, _, anchor = unquote(link).partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        path = (page.parent / target).resolve() if target else page
        leads = path.is_relative_to(within) and path.exists()
        if not leads or (anchor and anchor not in anchors(path)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_links_of_the_manual_stay_in_it(page: Path) -> None:
    assert dead_links(page, DOCS) == []


@pytest.mark.parametrize("page", ROOT_PAGES, ids=lambda page: page.name)
def test_links_of_the_pages_beside_it(page: Path) -> None:
    assert dead_links(page, REPOSITORY) == []


def test_dead_links_are_seen(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# What it is\n\n## β, and more\n\n## Twice\n\n## Twice\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md#what-it-is) [b](other.md#β-and-more) [c](other.md#gone) [d](none.md) [e](#page) [f](../x.md)\n"
        "[two\nlines](none2.md) `[code](none3.md)`\n\n    [code](none4.md)\n\n"
        "```text\n[code](none5.md)\n```\n\n# Page\n",
        encoding="utf-8",
    )
    assert dead_links(page, tmp_path) == ["other.md#gone", "none.md", "../x.md", "none2.md"]
    assert anchors(tmp_path / "other.md") == {"what-it-is", "β-and-more", "twice", "twice_1"}


def test_code_blocks_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Text.\n\n    $ palate plan a.yaml \\\n        --set a=1   # checked\n    output\n\n"
        '```json title="x.jsonl"\n{}\n```\n'
        "\n```sh\necho hi | palate chat m && palate keys list\n```\n",
        encoding="utf-8",
    )
    found = blocks(page)
    assert [(one.line, one.language, one.title) for one in found] == [
        (3, "", ""),
        (7, "json", "x.jsonl"),
        (11, "sh", ""),
    ]
    assert list(commands(found[0].text)) == [["plan", "a.yaml", "--set", "a=1"]]
    assert list(commands(found[2].text)) == [["chat", "m"], ["keys", "list"]]
