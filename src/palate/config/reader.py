"""YAML as its users write it: line numbers kept, duplicate keys refused, `5e-7` a number, `no` a word.

PyYAML follows YAML 1.1, where `5e-7` is text for want of a dot, `1:30` is ninety, `010` is eight, a bare date is a date
and `no` is false. Here, as in YAML 1.2, a number is what a person takes for one, only `true` and `false` are truth
values, and everything else is text. Config keys that are switches also take `yes`, `no`, `on` and `off`
(`config.values.truth`). Configs, curation rules and augmentation plans are all read here.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from palate.errors import ConfigError

INT = re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$")
FLOAT = re.compile(
    r"""^(?:[-+]?(?:[0-9][0-9_]*)?\.[0-9]+(?:[eE][-+]?[0-9]+)?
         |[-+]?[0-9][0-9_]*\.(?:[eE][-+]?[0-9]+)?
         |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
         |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)


BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")

# What PyYAML adds to a bare scalar.
_END_OF_DOCUMENT = "...\n"

# Far more than any config has.
MOST_VALUES = 100_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One key's value and where it was written.

    Attributes:
        value: plain Python value as YAML gives it.
        where: `config.yaml:12` (1-based line) or `--set`, for messages.
    """

    value: Any
    where: str


class _Loader(yaml.SafeLoader):
    """SafeLoader with the number rules above and no duplicate keys at any depth."""

    # A copy without YAML 1.1's numbers, dates and truth values; `add_implicit_resolver` below fills it.
    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own class attribute
        first: [
            (tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":float", ":timestamp", ":bool"))
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None and expanded_size(node, {}) > MOST_VALUES:
            raise yaml.constructor.ConstructorError(
                problem=f"its anchors and aliases stand for more than {MOST_VALUES:,} values; write out what is meant",
                problem_mark=node.start_mark,
            )
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        refuse_duplicates(node)
        return super().construct_mapping(node, deep=deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", INT, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", BOOL, list("tTfF"))


class _Dumper(yaml.SafeDumper):
    """Quotes text that `_Loader`, or a reader of YAML 1.1, would take for something else."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))
_Dumper.add_implicit_resolver("tag:yaml.org,2002:int", INT, list("-+0123456789"))


def expanded_size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for with every alias written out: few lines of YAML can stand for billions."""
    if id(node) not in known:
        known[id(node)] = 0  # an alias to itself ends here; the constructor refuses it
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for item in inner for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(expanded_size(part, known) for part in parts)
    return known[id(node)]


def refuse_duplicates(node: yaml.MappingNode) -> None:
    """Raise where a mapping names a key twice: YAML would silently keep the last."""
    first_line: dict[Any, int] = {}
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode) or key_node.value == "<<":
            continue
        key, line = key_node.value, key_node.start_mark.line + 1
        if key in first_line:
            raise yaml.constructor.ConstructorError(
                problem=f"{key} is given twice, first on line {first_line[key]}; keep one of them",
                problem_mark=key_node.start_mark,
            )
        first_line[key] = line


def read_config_file(path: str | Path) -> dict[str, Entry]:
    """The top-level keys of a YAML file, each with its line. Raises ConfigError naming file and line."""
    with _loading(path, "config file") as loader:
        node = loader.get_single_node()
        if node is None:
            raise ConfigError(
                f"{path}: the file is empty; a config names at least stage, model, dataset and output_dir"
            )
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}:{node.start_mark.line + 1}: a config is a list of `key: value` lines")
        refuse_duplicates(node)
        loader.flatten_mapping(node)
        return {
            str(loader.construct_object(key, deep=True)): Entry(
                loader.construct_object(value, deep=True), f"{path}:{key.start_mark.line + 1}"
            )
            for key, value in node.value
        }


def read_yaml_file(path: str | Path) -> Any:
    """A whole YAML file by the same rules, as plain values; None where it is empty. Raises ConfigError likewise."""
    with _loading(path, "file") as loader:
        return loader.get_single_data()


@contextlib.contextmanager
def _loading(path: str | Path, what: str) -> Iterator[_Loader]:
    """A loader of the file's text; what it finds wrong leaves as one ConfigError with file and line."""
    loader = _Loader(_read_text(Path(path), what))
    try:
        yield loader
    except yaml.YAMLError as error:
        raise ConfigError(_one_line(path, error)) from error
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deep for a {what}") from None
    finally:
        loader.dispose()


def read_override(text: str) -> tuple[str, Entry]:
    """`key=value` of one `--set`, the value read by the same rules as in a file."""
    key, separator, value = text.partition("=")
    key = key.strip()
    if not separator or not key:
        raise ConfigError(f"--set {text}: write --set key=value")
    loader = _Loader(value)
    try:
        return key, Entry(loader.get_single_data(), "--set")
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"--set {text}: the value is not valid YAML ({problem}); quote it") from error
    finally:
        loader.dispose()


def dump_yaml(value: Any) -> str:
    """A value on one line, as this reader reads it back: `[a, '5e-7']`."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf, default_flow_style=True
    )
    return text.removesuffix(_END_OF_DOCUMENT).strip()


def as_yaml(value: Any) -> str:
    """A value as it would stand in the file, at most 60 characters of it."""
    plain = value is None or isinstance(value, bool | list | dict)
    text = dump_yaml(value) if plain else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _read_text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        folder = path.parent
        names = [p.name for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []
        close = get_close_matches(path.name, names, n=1, cutoff=0.6)
        hint = f"; did you mean {folder / close[0]}?" if close else ""
        raise ConfigError(f"{path}: there is no such {what}{hint}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder, not a {what}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def _one_line(path: str | Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    if "\\t" in problem:
        problem = "a tab stands where spaces must; indent with spaces"
    return f"{where}: {problem}"
