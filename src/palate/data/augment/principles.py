"""Principles that answers are criticised against: a short built-in list, or the user's own file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.config.reader import read_yaml_file
from palate.errors import ConfigError

BUILTIN_NAME = "builtin"


@dataclass(frozen=True, slots=True)
class Principle:
    """One principle; `kind` is the gap that it fills (`accuracy`, `helpfulness`, `safety` …), "" if it has none."""

    text: str
    kind: str = ""


BUILTIN = (
    Principle("It answers what was asked, fully and to the point.", "helpfulness"),
    Principle("Every statement in it is true, and what is uncertain is called so.", "accuracy"),
    Principle("It is polite, and helps nobody to harm themselves or others.", "safety"),
    Principle("It keeps to every limit that the request sets: length, format, language, what to leave out.", "format"),
    Principle("Its numbers, names and quotations agree with the request and with each other.", "accuracy"),
    Principle("It says the main point first, and nothing twice.", "style"),
)


def read_principles(path: str | Path) -> tuple[Principle, ...]:
    """Principles by name or from a file.

    Args:
        path: `builtin`; a text file with one principle a line, empty lines and lines with `#` left out; or a YAML file
            with a list of texts, or with lists by kind: `accuracy: ["Every number is right."]`.

    Raises:
        ConfigError: the file cannot be read, or has something else than texts.
    """
    if str(path) == BUILTIN_NAME:
        return BUILTIN
    file = Path(path)
    if file.suffix.lower() in (".yaml", ".yml"):
        found = _of_yaml(file, read_yaml_file(file))
    else:
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--principles {path}: cannot be read ({error}); give a file or builtin") from error
        found = [Principle(line.strip()) for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not found:
        raise ConfigError(f"--principles {path}: has no principle; write one a line")
    return tuple(found)


def _of_yaml(file: Path, content: Any) -> list[Principle]:
    lists = content if isinstance(content, dict) else {"": content}
    found = []
    for kind, texts in lists.items():
        if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
            where = f" {kind}:" if kind else ""
            raise ConfigError(f"--principles {file}:{where} must be a list of texts, or lists of texts by kind")
        found += [Principle(text.strip(), str(kind)) for text in texts]
    return found


def for_kinds(principles: Sequence[Principle], kinds: Sequence[str]) -> tuple[Principle, ...]:
    """The principles of these kinds; all of them if no kind is given.

    Raises:
        ConfigError: none is of these kinds.
    """
    if not kinds:
        return tuple(principles)
    found = tuple(principle for principle in principles if principle.kind in kinds)
    if not found:
        raise ConfigError(f"no principle is of the kind {' or '.join(kinds)}, which the gaps need; use --principles")
    return found
