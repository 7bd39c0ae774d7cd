"""The arguments that `train` and `plan` share: a config file and overrides of its keys."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

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
