"""What verbs share of the command line: a config file and overrides, old names of options, paths with `~`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias

import typer
from typer.core import TyperGroup

from palate.cli.console import note
from palate.errors import UsageError

Words: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(metavar="CONFIG.yaml [KEY=VALUE]...", help="The config file, and overrides of its keys."),
]
ConfigFile: TypeAlias = Annotated[
    str | None,
    typer.Option("--config_file", "--config-file", metavar="CONFIG.yaml", help="The config file, by option."),
]
Overrides: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the config; may be given again."),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def config_and_overrides(
    words: list[str] | None, config_file: str | None, overrides: list[str] | None
) -> tuple[str, list[str]]:
    """The one config file that was named, and all overrides in the order `--set`, then bare `key=value` words."""
    files = [word for word in words or [] if "=" not in word]
    bare = [word for word in words or [] if "=" in word]
    if config_file is not None:
        files.append(config_file)
    if not files:
        raise UsageError("no config file is named; write e.g. palate train configs/recommended.yaml")
    if len(files) > 1:
        raise UsageError(f"one config file at a time, not {', '.join(files)}; overrides are --set key=value")
    return files[0], [*(overrides or []), *bare]


# Verb → its options' names of version 0.1 and what they are called now; the old ones go with version 0.3.
FORMER_OPTIONS: Mapping[tuple[str, ...], Mapping[str, str]] = MappingProxyType(
    {
        ("data",): {"--out": "--output"},
        ("data", "inspect"): {"--html": "--output"},
        ("generate",): {"--out": "--output"},
        ("judge",): {"--votes": "--output"},
        ("demo",): {"--output-dir": "--output"},
        ("eval", "frontier"): {"--max-prompts": "--max-samples", "--samples": "--k"},
    }
)


def verb_group(*path: str) -> type[TyperGroup]:
    """The command group at `path` (`data`; none is the whole program), which takes `read_words` as its command line."""

    class Group(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            words, notices = read_words([*path, *args])
            for line in notices:
                note(line)
            return super().parse_args(ctx, words[len(path) :])

    return Group


def read_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command line with today's names of options and with paths expanded, and a line about each old name.

    A shell expands `~` in a word of its own, but not in `--output=~/x`, and not what a program passes on.

    Raises:
        UsageError: a path begins with a user who is not there.
    """
    verb = tuple(word for word in words[:2] if not word.startswith("-"))
    former = {**FORMER_OPTIONS.get(verb[:1], {}), **FORMER_OPTIONS.get(verb, {})}
    read: list[str] = []
    notices: list[str] = []
    for number, word in enumerate(words):
        if word == "--":
            return [*read, *words[number:]], notices
        option, equals, value = word.partition("=")
        if option in former:
            notices.append(f"{option} is called {former[option]} now; the old name will go")
            option = former[option]
        if option.startswith("--"):
            read.append(f"{option}{equals}{_home(value)}")
        else:
            read.append(_home(word))
    return read, notices


def _home(word: str) -> str:
    if not re.match(r"~[\w.-]*(?:/|$)", word):
        return word
    expanded = os.path.expanduser(word)  # noqa: PTH111 - Path.expanduser drops a trailing slash
    if expanded.startswith("~"):
        raise UsageError(f"{word}: there is no home folder {word.partition('/')[0]}; write the path out")
    return expanded
