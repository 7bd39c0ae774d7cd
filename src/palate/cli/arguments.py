"""Command-line arguments that several verbs share, former names of options, and paths with `~`."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from inspect import Parameter, Signature, signature
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from typer import Argument, CallbackParam, Option, Typer
from typer.core import TyperCommand, TyperGroup

from palate.cli.console import AS_JSON, print_note
from palate.config.mapping.former import Former
from palate.errors import UsageError

if TYPE_CHECKING:
    from palate.store import Store

Words: TypeAlias = Annotated[
    list[str] | None, Argument(metavar="CONFIG.yaml [KEY=VALUE]...", help="The config file, and overrides of its keys.")
]
ConfigFile: TypeAlias = Annotated[
    str | None, Option("--config-file", metavar="CONFIG.yaml", help="The config file, by option.")
]
Overrides: TypeAlias = Annotated[
    list[str] | None, Option("--set", metavar="KEY=VALUE", help="Override a key of the config; may be given again.")
]
AsJson: TypeAlias = Annotated[bool, Option("--json", help="Print the result as JSON.")]
Quiet: TypeAlias = Annotated[bool, Option("--quiet", "-q", help="No progress on stderr; notes and errors stay.")]
Average: TypeAlias = Annotated[
    Literal["mean", "sum"], Option("--average", help="Log-probabilities per token (mean) or per answer (sum).")
]
BaseUrl: TypeAlias = Annotated[
    str | None,
    Option(
        "--base-url",
        metavar="URL",
        help="OpenAI-compatible engine, up to /v1; several of one model as URL,URL=2, with a weight. Default: the "
        "model runs in this process.",
    ),
]
CampaignName: TypeAlias = Annotated[
    str | None, Option("--campaign", metavar="NAME", help="Campaign. Default: the store's only one.")
]
CutoffLen: TypeAlias = Annotated[int, Option("--cutoff-len", min=2, help="Longest prompt + answer, in tokens.")]
MaxNewTokens: TypeAlias = Annotated[int, Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")]
PrecisionName: TypeAlias = Annotated[str, Option("--precision", help="auto, bf16, fp16 or fp32.")]
SamplingSeed: TypeAlias = Annotated[
    int, Option("--seed", min=0, help="Random seed; an answer depends only on it and on its own prompt.")
]
ShardName: TypeAlias = Annotated[
    str | None, Option("--shard", metavar="I/N", help="Only part I of N: every N-th row, from the I-th.")
]
StoreUrl: TypeAlias = Annotated[
    str | None,
    Option("--store", metavar="URL", help="SQLite file or URL. Default: PALATE_STORE, else sqlite:///palate.db."),
]
TemplateName: TypeAlias = Annotated[
    str | None, Option("--template", help="Chat template by name, for models that are not palate runs.")
]


def two_names(option: CallbackParam, names: tuple[str, str] | None) -> tuple[str, str] | None:
    """The two names of an option, unless the next option stands where the second must be."""
    if names is not None and names[1].startswith("-"):
        raise UsageError(f"{option.opts[0]} takes two names, and only {names[0]} is there before {names[1]}")
    return names


def config_and_overrides(
    words: list[str] | None, config_file: str | None, overrides: list[str] | None
) -> tuple[str, list[str]]:
    """The config file, and all overrides in the order `--set`, then bare `key=value` words."""
    files = [word for word in words or [] if "=" not in word]
    bare = [word for word in words or [] if "=" in word]
    if config_file is not None:
        files.append(config_file)
    if not files:
        raise UsageError("no config file is named; write e.g. palate train configs/recommended.yaml")
    if len(files) > 1:
        raise UsageError(f"one config file at a time, not {', '.join(files)}; overrides are --set key=value")
    return files[0], [*(overrides or []), *bare]


def named_values(option: str, entries: Sequence[str] | None, form: str, *, at_first: bool = False) -> dict[str, str]:
    """The values of an option that is given several times as NAME=VALUE.

    Args:
        option: its name, for the error message.
        form: how to write it, for the error message: `VALUE=MEANING, as 0=response_1`.
        at_first: whether the first of several `=` separates name and value, and not the last.
    """
    found: dict[str, str] = {}
    for entry in entries or []:
        name, _, value = entry.partition("=") if at_first else entry.rpartition("=")
        if not name or not value:
            raise UsageError(f"{option} {entry}: write {form}")
        found[name.strip()] = value.strip()
    return found


def named_numbers(option: str, entries: Sequence[str] | None, form: str) -> dict[str, float]:
    """The same for numbers: NAME=NUMBER."""
    found: dict[str, float] = {}
    for name, value in named_values(option, entries, form).items():
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = math.nan
        if math.isnan(found[name]):
            raise UsageError(f"{option} {name}={value}: write {form}")
    return found


# Verb → its options' former names and what they are called since version 0.1. A command of a verb has its own entry, or
# that of the verb.
_SINCE = "0.1"
FORMER_OPTIONS: Mapping[tuple[str, ...], Mapping[str, str]] = MappingProxyType(
    {
        ("data",): {"--out": "--output"},
        ("data", "inspect"): {"--html": "--output", "--out": "--output"},
        ("generate",): {"--out": "--output"},
        ("judge",): {"--votes": "--output"},
        ("judge", "calibrate"): {},
        ("judge", "rescore"): {},
        ("demo",): {"--output-dir": "--output"},
        ("eval", "frontier"): {"--max-prompts": "--max-samples", "--samples": "--k"},
    }
)


WITHOUT_JSON = frozenset({("chat",), ("label", "serve"), ("serve",), ("web",)})
"""Commands that talk or serve until they are stopped."""


def verb_group(*path: str, order: Sequence[str] = (), default: str | None = None) -> type[TyperGroup]:
    """The command group at `path` (`data`; none for the whole program).

    Args:
        order: names of its commands in the order of its help page; by default that of registration, groups last.
        default: name of the command that is meant where none is named (`DefaultCommand`).
    """

    class Group(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if default is not None and (not args or args[0] not in self.commands):
                args = [default, *args]
            words, notices = read_words([*path, *args])
            for line in notices:
                print_note(line)
            return super().parse_args(ctx, words[len(path) :])

        def list_commands(self, ctx: Any) -> list[str]:
            return list(order) or super().list_commands(ctx)

    return Group


class DefaultCommand(TyperCommand):
    """The command of a group that needs not be named; its help page and messages are those of the group."""

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        del info_name  # its own name, which nobody types
        group = parent
        return super().make_context(group.info_name, args, parent=group.parent, **extra)


def read_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command line with today's names of options and with paths expanded, and a line about each old name.

    A shell expands `~` at the start of a word, but not in `--output=~/x`; a program that starts palate expands none.

    Raises:
        UsageError: a path begins with a user who does not exist.
    """
    verb = tuple(word for word in words[:2] if not word.startswith("-"))
    former = FORMER_OPTIONS.get(verb, FORMER_OPTIONS.get(verb[:1], {}))
    read: list[str] = []
    notices: list[str] = []
    for number, word in enumerate(words):
        if word == "--":
            return [*read, *words[number:]], notices
        option, equals, value = word.partition("=")
        if option.startswith("--"):
            option = option.replace("_", "-")  # as other trainers write options
        if option in former:
            now = Former(former[option], _SINCE)
            if now.is_gone:
                raise UsageError(now.line(option))
            notices.append(now.line(option))
            option = now.name
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


def with_options(
    name: str, build: Callable[..., Any], *, without: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options that the parameters of `build` declare; it gets the result as its parameter `name`.

    Args:
        without: options of `build` that the command does not have, like those that it declares itself.
    """

    build.__annotations__.pop("return", None)  # like `name`'s, of a type that is imported for type checking only
    shared = signature(build, eval_str=True).parameters

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        command.__annotations__.pop(name)
        own = dict(signature(command, eval_str=True).parameters)
        del own[name]
        added = {key: option for key, option in shared.items() if key not in own and key not in without}

        def verb(**given: Any) -> None:
            choices = {key: given.pop(key) for key in added}
            command(**{name: build(**choices)}, **given)

        options = [option.replace(kind=Parameter.KEYWORD_ONLY) for option in (*own.values(), *added.values())]
        verb.__signature__ = Signature(options)  # type: ignore[attr-defined]  # what Typer makes options of
        verb.__doc__ = command.__doc__
        return verb

    return decorate


def add_output_options(app: Typer, path: tuple[str, ...] = ()) -> None:
    """Gives every command of an app, and of the apps in it, `--quiet` and, except for `WITHOUT_JSON`, `--json`."""
    for info in app.registered_commands:
        if info.callback is not None:
            options = {"quiet": Quiet} if (*path, info.name) in WITHOUT_JSON else {"as_json": AsJson, "quiet": Quiet}
            info.callback = _with_output(info.callback, options)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            add_output_options(group.typer_instance, (*path, str(group.name)))


def _with_output(command: Callable[..., Any], options: Mapping[str, Any]) -> Callable[..., None]:
    own = signature(command, eval_str=True).parameters.values()

    def verb(*, quiet: bool, as_json: bool = False, **given: Any) -> None:
        from palate.progress import console

        console.quiet = quiet
        before = AS_JSON.set(as_json)
        try:
            command(**given)
        finally:
            AS_JSON.reset(before)  # of a command that runs this one

    added = [Parameter(name, Parameter.KEYWORD_ONLY, default=False, annotation=of) for name, of in options.items()]
    verb.__signature__ = Signature([*own, *added])  # type: ignore[attr-defined]
    verb.__name__, verb.__doc__ = command.__name__, command.__doc__
    return verb


@contextmanager
def opened_store(url: str | None, *, create: bool = False) -> Iterator[Store]:
    """A context with the open store of `--store`."""
    from palate.store import open_store

    store = open_store(url, create=create)
    try:
        yield store
    finally:
        store.close()


def store_if_any(url: str | None) -> AbstractContextManager[Store | None]:
    """The open store of `--store`; None where none is named and the default one does not exist."""
    from palate.store import store_url
    from palate.store.urls import parse_url

    place = parse_url(store_url(url))
    if url is None and place.get_backend_name() == "sqlite" and not Path(place.database or "").is_file():
        return nullcontext()
    return opened_store(url)


def check_installed(extra: str) -> None:
    """Raises UsageError if a package of one of palate's extras is not installed."""
    from palate.installation import lacking_packages

    if lacking := lacking_packages(extra):
        raise UsageError(f"this needs {', '.join(lacking)}: pip install 'palate[{extra}]'")
