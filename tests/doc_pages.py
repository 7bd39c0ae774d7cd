"""The pages of the manual as their code blocks, links and headings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
RUN_PAGES = [DOCS / "quickstart.md", DOCS / "python.md", *sorted((DOCS / "tutorials").glob("*.md"))]
"""Pages that run top to bottom: their files, `sh` and `python` blocks."""
_FENCE = re.compile(r"^( *)(`{3,})(\S*)(.*)$")
_TITLE = re.compile(r'title="([^"]+)"')
_LINK = re.compile(r"!?\[[^\]\n]*(?:\n[^\]\n]*)?\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        page, line: where it begins.
        language: of a fence, "" of an indented block.
        title: name of the file that it shows, "" for none.
        text: without indentation.
    """

    page: Path
    line: int
    language: str
    title: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page, fenced and indented, in order."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence is not None:
            indent, marks, language, rest = fence.groups()
            end = next(at for at in range(number + 1, len(lines)) if lines[at].strip() == marks)
            text = "\n".join(line.removeprefix(indent) for line in lines[number + 1 : end])
            title = _TITLE.search(rest)
            found.append(Block(page, number + 1, language, title[1] if title else "", text))
            number = end + 1
        elif lines[number].startswith("    ") and (number == 0 or not lines[number - 1].strip()):
            end = number
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            found.append(Block(page, number + 1, "", "", "\n".join(line[4:] for line in lines[number:end]).rstrip()))
            number = end
        else:
            number += 1
    return found


def prose(page: Path) -> str:
    """A page without its code: fences, indented blocks and code spans."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^( *)(`{3,}).*?^\1\2\s*?$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"(?:(?<=\n\n)|\A)(?: {4}.*\n|\n(?= {4}))+", "\n", text)
    return re.sub(r"`[^`\n]*(?:\n[^`\n]*)?`", "`code`", text)


def links(page: Path) -> list[str]:
    """Targets of the links and images of a page."""
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings as GitHub and the site (pymdownx.slugs) make them."""
    found: dict[str, int] = {}
    text = re.sub(r"^( *)(`{3,}).*?^\1\2\s*?$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#{1,6} +(.+?)\s*$", text, flags=re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).strip().replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        if count:
            found[f"{slug}_{count}"] = 1
    return set(found)


def commands(text: str) -> Iterator[list[str]]:
    """The `palate …` command lines of a code block as words, with continuation lines joined and comments left out."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        for part in re.split(r"\s(?:&&|\|)\s(?=palate )", line.strip().removeprefix("$ ")):
            # Three spaces begin an explanation beside a command, as `#` does.
            command = re.split(r"\s{3,}(?![A-Z\[\s])|\s+#\s", part)[0]
            if re.match(r"palate (?:--|[a-z]+\b(?![,.:;]))", command):
                yield shlex.split(command, comments=False)[1:]


def command_lines(text: str) -> list[str]:
    """The command lines of a shell block, with continuation lines joined and comments left out."""
    lines = re.sub(r" *\\\n\s*", " ", text).splitlines()
    return [line for line in (re.split(r"(?:^|\s)#\s", line)[0].strip() for line in lines) if line]


def is_synopsis(words: list[str]) -> bool:
    """Whether a command line shows a grammar, which names options but cannot be parsed as it stands."""
    return any(mark in word for word in words for mark in ("[", "…", "...", "|"))
