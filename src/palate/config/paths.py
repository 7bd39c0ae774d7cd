"""Paths as users write them in configs: `~` and variables are expanded once, when the config is read.

A relative path stays relative to the folder in which the command runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TypeAlias

_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{(\w+)\})")
# What a reward or judge may begin with, where a path follows.
_BEFORE_A_PATH = ("lexicon",)

Names: TypeAlias = str | list[str] | dict[str, float]


def expand(text: str) -> str:
    """`~/runs`, `~user/runs`, `$RUNS/x` and `${RUNS}/x` as the paths that they stand for; any other text as it is.

    Raises:
        ValueError: names a variable that is not set, or a user that is not there.
    """

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in os.environ:
            raise ValueError(f"{text}: the environment variable {name} is not set; set it, or write the path out")
        return os.environ[name]

    path = _VARIABLE.sub(value, text)
    if not path.startswith("~"):
        return path
    expanded = os.path.expanduser(path)  # noqa: PTH111 - Path.expanduser drops a trailing slash
    if expanded.startswith("~"):
        raise ValueError(f"{text}: there is no home folder {path.partition('/')[0]}; write the path out")
    return expanded


def expand_names(dataset: Names) -> Names:
    """The same for a dataset's name, names with commas, a list of names, or names with weights."""
    if isinstance(dataset, str):
        return _expand_parts(dataset)
    if isinstance(dataset, Mapping):
        return {expand(name): weight for name, weight in dataset.items()}
    return [expand(name) for name in dataset]


def expand_keys(numbers: dict[str, int] | None) -> dict[str, int] | None:
    """The same for numbers by dataset."""
    return numbers and {expand(name): number for name, number in numbers.items()}


def expand_named(name: str) -> str:
    """The same for what names a function, a reward, a judge or a folder: `~/r.py:score`, `lexicon:~/words.txt`."""
    word, colon, path = name.partition(":")
    return f"{word}:{expand(path)}" if colon and word in _BEFORE_A_PATH else expand(name)


def _expand_parts(text: str) -> str:
    return ",".join(f"{part[: len(part) - len(part.lstrip())]}{expand(part.lstrip())}" for part in text.split(","))
