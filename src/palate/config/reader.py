"""The YAML reader of configs, curation rules and augmentation plans.

It keeps line numbers, refuses duplicate keys, and reads scalars as in YAML 1.2: `5e-7` is a number, only `true` and
`false` are truth values, and `no`, `1:30`, `010` and dates are text. (PyYAML follows YAML 1.1, where `no` is false,
`1:30` is 90, `010` is 8 and `5e-7` is text.) Config keys that are switches also take `yes`, `no`, `on` and `off`
(`config.base.truth`).
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

_INT = re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$")
_FLOAT = re.compile(
    r"""^(?:[-+]?(?:[0-9][0-9_]*)?\.[0-9]+(?:[eE][-+]?[0-9]+)?
         |[-+]?[0-9][0-9_]*\.(?:[eE][-+]?[0-9]+)?
         |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
         |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")

_DATA_FILES = frozenset({".jsonl", ".csv", ".tsv", ".parquet", ".arrow", ".gz"})

# Version of the configs' keys and their meanings. It rises where a file would mean something else than before; renamed
# keys (`config.mapping.former`) do not change it. A file without `config_version` is read as one of this version.
CONFIG_VERSION = 1
VERSION_KEY = "config_version"

# Far more values than any config has: an anchor and its aliases can stand for billions.
MAX_VALUES = 100_000


@dataclass(frozen=True, slots=True)
class ConfigEntry:
    """A value and where it was written.

    Attributes:
        value: plain Python value.
        where: `config.yaml:12` (line, from 1) or `--set`, for messages.
    """

    value: Any
    where: str


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2 scalars, without duplicate keys."""

    # PyYAML's table without YAML 1.1's numbers, dates and truth values.
    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own class attribute
        first: [
            (tag, pattern) for tag, pattern in resolvers if not tag.endswith((":int", ":float", ":timestamp", ":bool"))
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None and _expanded_size(node, {}) > MAX_VALUES:
            raise yaml.constructor.ConstructorError(
                problem=f"its anchors and aliases expand to more than {MAX_VALUES:,} values; write the values out",
                problem_mark=node.start_mark,
            )
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        _refuse_duplicates(node)
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes text which would be read as a number, in YAML 1.1 or here."""


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
    _class.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", _BOOL, list("tTfF"))


def _expanded_size(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for with every alias written out."""
    if id(node) not in known:
        known[id(node)] = 0  # an alias to itself ends here; the constructor refuses it
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for item in inner for part in (item if isinstance(item, tuple) else (item,))]
        known[id(node)] = 1 + sum(_expanded_size(part, known) for part in parts)
    return known[id(node)]


def _refuse_duplicates(node: yaml.MappingNode) -> None:
    """Raise if a mapping has a key twice: PyYAML would keep the last one."""
    first_line: dict[Any, int] = {}
    for key_node, _ in node.value:
        key, line = key_node.value, key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode) or key == "<<":
            continue
        if key in first_line:
            raise yaml.constructor.ConstructorError(
                problem=f"{key} is given twice, first on line {first_line[key]}; keep one of them",
                problem_mark=key_node.start_mark,
            )
        first_line[key] = line


def read_config_file(path: str | Path) -> dict[str, ConfigEntry]:
    """The top-level keys of a YAML file with their lines, without `config_version`.

    Raises:
        ConfigError: with file and line; also for a file of a newer version.
    """
    with _loading(path, "config file") as loader:
        node = loader.get_single_node()
        if node is None:
            raise ConfigError(f"{path}: the file is empty; write `key: value` lines")
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}:{node.start_mark.line + 1}: a config is a list of `key: value` lines")
        _refuse_duplicates(node)
        loader.flatten_mapping(node)
        entries = {
            str(loader.construct_object(key, deep=True)): ConfigEntry(
                loader.construct_object(value, deep=True), f"{path}:{key.start_mark.line + 1}"
            )
            for key, value in node.value
        }
    _check_version(entries.pop(VERSION_KEY, None))
    return entries


def read_yaml_file(path: str | Path) -> Any:
    """A YAML file as plain values, without `config_version`; None if it is empty. Raises ConfigError."""
    with _loading(path, "file") as loader:
        values = loader.get_single_data()
    if isinstance(values, dict) and VERSION_KEY in values:
        _check_version(ConfigEntry(values.pop(VERSION_KEY), str(path)))
    return values


def _check_version(given: ConfigEntry | None) -> None:
    if given is None or given.value is None:
        return
    if isinstance(given.value, bool) or not isinstance(given.value, int) or given.value < 1:
        raise ConfigError(f"{given.where}: {VERSION_KEY} must be a whole number from 1, not {given.value!r}")
    if given.value > CONFIG_VERSION:
        raise ConfigError(
            f"{given.where}: {VERSION_KEY} {given.value} is newer than this palate reads ({CONFIG_VERSION}); upgrade "
            "palate"
        )


def read_override(text: str) -> tuple[str, ConfigEntry]:
    """Key and value of `--set key=value`, the value read as in a file."""
    key, separator, value = text.partition("=")
    key = key.strip()
    if not separator or not key:
        raise ConfigError(f"--set {text}: write --set key=value")
    try:
        return key, ConfigEntry(yaml.load(value, _Loader), "--set")  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"--set {text}: the value is not valid YAML ({problem}); quote it") from error


def dump_yaml(value: Any) -> str:
    """A value on one line that this reader reads back: `[a, '5e-7']`."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf, default_flow_style=True
    )
    return text.removesuffix("...\n").strip()  # PyYAML ends a bare scalar with a document end


def as_yaml(value: Any) -> str:
    """A value as in a file, cut after 60 characters."""
    plain = value is None or isinstance(value, bool | list | dict)
    text = dump_yaml(value) if plain else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


@contextlib.contextmanager
def _loading(path: str | Path, kind: str) -> Iterator[_Loader]:
    """A loader of a file's text; YAML errors become a ConfigError with file and line."""
    loader = _Loader(_read_text(Path(path), kind))
    try:
        yield loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        if "\\t" in problem:
            problem = "a tab instead of spaces; indent with spaces"
        raise ConfigError(f"{where}: {problem}") from error
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deep for a {kind}") from None
    finally:
        loader.dispose()


def _read_text(path: Path, kind: str) -> str:
    if path.suffix in _DATA_FILES and path.is_file():
        raise ConfigError(f"{path}: is a data file, not a {kind}; palate init {path} --model MODEL writes a config")
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        folder = path.parent
        names = [p.name for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []
        near = get_close_matches(path.name, names, n=1)
        hint = f"; did you mean {folder / near[0]}?" if near else ""
        raise ConfigError(f"{path}: there is no such {kind}{hint}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder, not a {kind}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
