"""Options and output that the verbs of `palate model` share."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

if TYPE_CHECKING:
    from palate.registry import Move, Version
    from palate.store import Store

ModelsDir: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--models-dir",
        metavar="FOLDER",
        envvar="PALATE_MODELS",
        help="Folder of the versions. Default: palate-models beside palate.db.",
    ),
]
Who: TypeAlias = Annotated[str | None, typer.Option("--who", help="Who does it. Default: the user of this machine.")]
Reason: TypeAlias = Annotated[str, typer.Option("--reason", help="Why the alias moves; recorded with the move.")]
VersionName: TypeAlias = Annotated[str, typer.Argument(metavar="VERSION", help="Name of a version, or an alias.")]


def models_dir(given: Path | None, store: Store) -> Path:
    """The folder of `--models-dir`, else the store's own."""
    from palate.registry.add import default_models_dir

    return given if given is not None else default_models_dir(store)


def user(given: str | None) -> str:
    """Who is named, else the user of this machine."""
    if given:
        return given
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def version_json(version: Version) -> dict[str, Any]:
    """A version for a program."""
    return {
        "name": version.name,
        "aliases": list(version.aliases),
        "kind": version.kind,
        "content_hash": version.content_hash,
        "folder": str(version.folder),
        "bytes": version.size,
        "base": version.base,
        "created": version.created.isoformat(),
        "who": version.who,
        "note": version.note,
    }


def move_json(move: Move) -> dict[str, Any]:
    """A move for a program."""
    return {
        "alias": move.alias,
        "version": move.version,
        "before": move.before,
        "action": move.action,
        "who": move.who,
        "reason": move.reason,
        "at": move.at.isoformat(),
    }


def move_line(move: Move) -> str:
    """A move for a person."""
    return f"{move.alias}: {move.before or 'none'} → {move.version}"
